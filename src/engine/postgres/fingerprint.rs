//! Telling that nobody wrote a database, without reading it.
//!
//! Whatever changes a row or the catalogue is done by a transaction with a number of its own; the numbers are the whole server's and only grow. So if
//! no transaction ran at either of two times (`pg_current_snapshot` names none) and the next number is the same, nothing was written between them.
//! Two things are outside of that rule and are part of the fingerprint: what sequences say, and the life of the server, since after a crash numbers
//! of transactions that were lost are given again.

use super::Options;
use super::link::Link;
use crate::engine::EngineError;

/// Returns a text that stays the same exactly as long as nobody writes the database; none where PostgreSQL cannot prove it.
pub fn fingerprint(options: &Options) -> Option<String> {
    read(options).ok().flatten()
}

fn read(options: &Options) -> Result<Option<String>, EngineError> {
    const DOING: &str = "looking at the server's transactions";
    let link = Link::open(options)?;
    link.run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", DOING)?;
    let numbers = link.cell("SELECT pg_catalog.pg_current_snapshot()::text", DOING)?.unwrap_or_default();
    let mut parts = numbers.split(':');
    let (Some(first), Some(next), Some("")) = (parts.next(), parts.next(), parts.next()) else { return Ok(None) };
    if first != next {
        return Ok(None);
    }
    let Some(life) = life(&link)? else { return Ok(None) };
    let states = sequences(&link, DOING)?;
    let states = xxhash_rust::xxh3::xxh3_128(states.as_bytes());
    Ok(Some(format!("postgres {life} {next} {states:032x}")))
}

/// Returns where every sequence stands, which changes without a transaction.
///
/// # Errors
/// The server's.
pub(super) fn sequences(link: &Link, doing: &str) -> Result<String, EngineError> {
    let sequences = link.rows(
        "SELECT pg_catalog.format('SELECT %L, last_value, is_called FROM %I.%I', c.oid, n.nspname, c.relname) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY c.oid",
        doing,
    )?;
    let mut states = String::new();
    let questions: Vec<&str> = sequences.iter().filter_map(|row| row.get(0)).collect();
    for some in questions.chunks(200) {
        for row in &link.rows(&some.join(" UNION ALL "), doing)? {
            states.push_str(&format!(" {}={}{}", row.get(0).unwrap_or(""), row.get(1).unwrap_or(""), row.get(2).unwrap_or("")));
        }
    }
    Ok(states)
}

/// Names the life of the server and the database: as long as it stays the same, no number of a transaction is given twice. After a crash numbers of
/// transactions that were lost are given again, and the server's counters begin anew.
///
/// # Errors
/// The server's.
pub(super) fn life(link: &Link) -> Result<Option<String>, EngineError> {
    link.cell(
        "SELECT pg_catalog.concat_ws(' ', (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
           (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), pg_catalog.pg_postmaster_start_time(), \
           (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())) || ' ' || \
           (SELECT stats_reset::text FROM pg_catalog.pg_stat_bgwriter)",
        "looking at the server's life",
    )
}
