//! Making, copying and dropping whole databases: by a session in another database of the same server, since none can be in the one concerned.

use super::Options;
use super::link::Link;
use super::name::{literal, quoted};
use crate::engine::EngineError;
use crate::schema::Settings;
use crate::source::libpq::Connection;

/// The databases that are tried, in order, to say something about another one.
const ROOMS: [&str; 2] = ["postgres", "template1"];

/// Opens a session in another database than the one that is meant.
fn beside(options: &Options) -> Result<Link, EngineError> {
    let mut last = None;
    let rooms = ROOMS.iter().map(|room| (*room).to_owned()).chain([options.connection.user.clone()]);
    for room in rooms.filter(|room| *room != options.connection.database) {
        let connection = Connection { database: room, ..options.connection.clone() };
        match Link::open(&Options { connection, ..options.clone() }) {
            Ok(link) => return Ok(link),
            Err(error) => {
                last.get_or_insert(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| EngineError::Missing(options.place.clone())))
}

/// Tells whether the database is there.
///
/// # Errors
/// Where the server cannot be reached.
pub fn exists(options: &Options) -> Result<bool, EngineError> {
    match Link::open(options) {
        Ok(_) => Ok(true),
        Err(EngineError::Missing(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the database, empty, with the encoding and the locale of these settings.
///
/// # Errors
/// The server's.
pub(super) fn create(options: &Options, settings: &Settings) -> Result<(), EngineError> {
    let link = beside(options)?;
    let name = &options.connection.database;
    let value = |name: &str| settings.get(name).map(|setting| literal(&setting.value));
    let mut words = vec![format!("CREATE DATABASE {} TEMPLATE template0", quoted(name))];
    for (setting, word) in [("encoding", "ENCODING"), ("collate", "LC_COLLATE"), ("ctype", "LC_CTYPE")] {
        words.extend(value(setting).map(|value| format!("{word} {value}")));
    }
    match settings.get("locale provider").map(|setting| setting.value.as_str()) {
        Some("i") => words.extend(value("locale").map(|locale| format!("LOCALE_PROVIDER icu ICU_LOCALE {locale}"))),
        Some("b") => words.extend(value("locale").map(|locale| format!("LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}"))),
        _ => {}
    }
    link.run(&words.join(" "), &format!("making database `{name}`"))
}

/// Copies the database under another name, which only works where no session is in it. Tells whether it did.
///
/// # Errors
/// Where the server cannot be reached.
pub fn copy(options: &Options, scratch: &str) -> Result<bool, EngineError> {
    let link = beside(options)?;
    let sql = format!("CREATE DATABASE {} TEMPLATE {}", quoted(scratch), quoted(&options.connection.database));
    match link.run(&sql, "copying the database") {
        Ok(()) => Ok(true),
        Err(EngineError::Statement { .. } | EngineError::Locked { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Drops a database and ends the sessions in it. One that is not there is no error.
///
/// # Errors
/// The server's.
pub fn drop(options: &Options, name: &str) -> Result<(), EngineError> {
    let connection = Connection { database: name.to_owned(), ..options.connection.clone() };
    let link = beside(&Options { connection, ..options.clone() })?;
    link.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name)), &format!("dropping database `{name}`"))
}

/// Returns the databases of the server whose names begin so, in order.
///
/// # Errors
/// The server's.
pub fn scratches(options: &Options, prefix: &str) -> Result<Vec<String>, EngineError> {
    let link = beside(options)?;
    let sql = format!(
        "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.left(datname, {}) = {} ORDER BY 1",
        prefix.chars().count(),
        literal(prefix)
    );
    let rows = link.rows(&sql, "looking for databases")?;
    Ok(rows.iter().filter_map(|row| row.get(0)).map(ToOwned::to_owned).collect())
}

/// Who uses a scratch database, as long as this lives.
pub struct Hold {
    _link: Link,
}

/// Writes the key of the lock that says who uses a scratch database.
fn key(name: &str) -> i64 {
    i64::from_le_bytes(xxhash_rust::xxh3::xxh3_64(format!("dbelay {name}").as_bytes()).to_le_bytes())
}

/// Says that a scratch database is in use.
///
/// # Errors
/// [`EngineError::Locked`] where another has it.
pub fn hold(options: &Options, name: &str) -> Result<Hold, EngineError> {
    let link = beside(options)?;
    let had = link.cell(&format!("SELECT pg_catalog.pg_try_advisory_lock({})", key(name)), "holding a scratch database")?;
    if had.as_deref() == Some("t") { Ok(Hold { _link: link }) } else { Err(EngineError::Locked { who: String::new(), waited_ms: 0 }) }
}

/// Tells whether somebody says that a scratch database is in use, in whichever database of the server they took the lock.
///
/// # Errors
/// The server's.
pub fn is_in_use(options: &Options, name: &str) -> Result<bool, EngineError> {
    let link = beside(options)?;
    // The server shows a key of 64 bits as two halves.
    let key = key(name).to_be_bytes();
    let [high, low] = [&key[..4], &key[4..]].map(|half| half.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)));
    let sql = format!(
        "SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = {high} AND objid = {low} LIMIT 1"
    );
    Ok(link.cell(&sql, "looking at a scratch database")?.is_some())
}
