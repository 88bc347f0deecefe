//! What became of a table since a mark, without reading its rows: PostgreSQL says of every row which transaction wrote it (`xmin`).
//!
//! A mark is the lowest number of a transaction that had not ended when a snapshot was taken: of the oldest that ran, or of the next one. A row is
//! *new* if its transaction has that number or a later one; it may have been seen then all the same. (Those that ran are not looked at one by one: the
//! server does not name their subtransactions, which write under numbers of their own, later than that of the transaction.) Rows are never changed in place: an update writes a new one and leaves the old one to nobody. So
//! of the rows that are seen now those that are not new were seen then, as they are, and how many of those of then are gone follows from two counts.
//! If none is new and none is gone, the table is what it was.
//!
//! *Must*, for this to be a proof: the table is the same one, with the same columns (by their numbers: one that was dropped and added again is another);
//! no type was changed (whoever asks compares the schemas), and no value is
//! written with what others may change, such as the name of a table; the server's numbers were not given twice,
//! so it was not restarted, restored or crashed since; and the mark is not so old that numbers of 32 bits have come round. A row whose number looks
//! new and is not, because it is two thousand million transactions old, only makes a row read again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::catalog::Relation;
use super::fingerprint::life;
use super::name::literal;
use super::read::{LARGE_OBJECTS, State, read_rows};
use crate::engine::{Changes, EngineError};
use crate::rows::{CutRule, RowGroup, TableShape};

/// How many transactions a mark may be old: numbers of rows have 32 bits, of which half are later and half are earlier.
const AGE_MAX: u64 = 1 << 30;

/// How many rows may have been written, by the server's own count, for their places to be listed.
const LISTED_MAX: u64 = 1_000_000;

const DOING: &str = "looking for changed rows";

/// What is kept of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The server's life, see `fingerprint.rs`.
    life: String,
    /// The lowest number of a transaction that had not ended.
    first: u64,
    /// What each table is to the server.
    tables: BTreeMap<String, String>,
}

/// Says what a table is to the server: its id, and the numbers of its columns.
fn identity(relation: &Relation) -> String {
    let numbers: Vec<String> = relation.columns.iter().map(|column| column.number.to_string()).collect();
    format!("{}:{}", relation.oid, numbers.join(","))
}

/// Returns the lowest number of a transaction that has not ended, and the next one's.
fn numbers(state: &State<'_>) -> Result<Option<(u64, u64)>, EngineError> {
    let words = state.link.cell("SELECT pg_catalog.pg_current_snapshot()::text", DOING)?.unwrap_or_default();
    let mut parts = words.split(':').map(|number| number.parse().ok());
    Ok(parts.next().flatten().zip(parts.next().flatten()))
}

/// Marks the state that a transaction sees; none where the server's life cannot be told.
pub(super) fn mark(state: &State<'_>) -> Result<Option<String>, EngineError> {
    let (Some(life), Some((first, _))) = (life(state.link)?, numbers(state)?) else { return Ok(None) };
    let catalog = state.catalog()?;
    let relations = catalog.relations.values().filter(|relation| relation.has_rows());
    let tables = relations.map(|relation| (relation.shown.clone(), identity(relation))).collect();
    Ok(serde_json::to_string(&Mark { life, first, tables }).ok())
}

/// Reads a mark; none where it says nothing of this table: the mark is of another life of the server, or what the table's values mean may have changed.
pub(super) fn read_mark(state: &State<'_>, mark: &str, shape: &TableShape, relation: &Relation) -> Result<Option<Mark>, EngineError> {
    let Ok(mark) = serde_json::from_str::<Mark>(mark) else { return Ok(None) };
    let is_ours =
        mark.tables.get(&shape.name) == Some(&identity(relation)) && relation.columns.iter().all(|column| column.is_self_contained);
    Ok((is_ours && !relation.is_foreign_heap && life(state.link)?.as_ref() == Some(&mark.life)).then_some(mark))
}

/// Finds what became of a table since a mark.
pub(super) fn changes(state: &State<'_>, mark: &str, shape: &TableShape, rows_then: u64, rows_max: u64) -> Result<Changes, EngineError> {
    let catalog = state.catalog()?;
    let Some(relation) = catalog.relation(&shape.name).filter(|_| shape.name != LARGE_OBJECTS) else { return Ok(Changes::Unknown) };
    let Some(mark) = read_mark(state, mark, shape, relation)? else { return Ok(Changes::Unknown) };
    if !numbers(state)?.is_some_and(|(_, next)| (mark.first..=mark.first + AGE_MAX).contains(&next)) {
        return Ok(Changes::Unknown);
    }
    // Numbers below 3 are no transactions'; the server compares them as older than any.
    let since = (mark.first & u64::from(u32::MAX)).max(3);
    // A number, since the server would find out the age of `since` again for each row.
    let age = state.link.cell(&format!("SELECT pg_catalog.age('{since}'::xid)"), DOING)?.and_then(|cell| cell.parse::<i32>().ok());
    let Some(age) = age else { return Ok(Changes::Unknown) };
    let is_new = format!("pg_catalog.age(t.xmin) <= {age}");
    let table = relation.sql();
    // Where the new rows stand is asked for at once, so that they need not be looked for again; not where they may be so many that the server would
    // have to keep a long list. Its own counts are only a hint.
    let written =
        state.link.cell(&format!("SELECT n_mod_since_analyze FROM pg_catalog.pg_stat_all_tables WHERE relid = {}", relation.oid), DOING)?;
    let is_little = written.and_then(|cell| cell.parse::<u64>().ok()).is_some_and(|written| written <= LISTED_MAX);
    let found = if is_little {
        format!(
            "s.rows, COALESCE(pg_catalog.cardinality(s.places), 0), s.places FROM (SELECT pg_catalog.count(*) AS rows, \
                 pg_catalog.array_agg(t.ctid) FILTER (WHERE {is_new}) AS places FROM ONLY {table} t) s"
        )
    } else {
        format!("pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {is_new}), NULL FROM ONLY {table} t")
    };
    let counted = state.link.rows(&format!("SELECT {found}"), &format!("counting the changed rows of table `{}`", shape.name))?;
    let Some(row) = counted.first() else { return Ok(Changes::Unknown) };
    let number = |at: usize| row.get(at).and_then(|cell| cell.parse::<u64>().ok()).unwrap_or(0);
    let (rows, new) = (number(0), number(1));
    let Some(gone) = (rows_then + new).checked_sub(rows) else { return Ok(Changes::Unknown) };
    if new == 0 {
        return Ok(Changes::Rows { new: Vec::new(), gone, keys: Vec::new() });
    }
    if new > rows_max {
        return Ok(Changes::Unknown);
    }
    let condition = match row.get(2) {
        Some(places) => format!("t.ctid = ANY({}::tid[])", literal(places)),
        None => is_new,
    };
    Ok(Changes::Rows { new: read_where(state, shape, &condition, rows_max)?, gone, keys: Vec::new() })
}

/// Reads the rows of a table, few enough to be held, of which a condition is true.
pub(super) fn read_where(state: &State<'_>, shape: &TableShape, condition: &str, rows_max: u64) -> Result<Vec<RowGroup>, EngineError> {
    let (question, codecs) = state.question_where(shape, condition)?;
    let mut groups = Vec::new();
    read_rows(state.link, &question, shape, &codecs, CutRule { rows_target: rows_max.max(1) }, &mut |group| {
        groups.push(group);
        ControlFlow::Continue(())
    })?;
    Ok(groups)
}
