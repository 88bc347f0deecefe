//! What a schema needs that this build of SQLite does not have: functions, collations, modules that an application brings.
//!
//! Most of it stands in nobody's way. Tables are scanned without comparing anything, and a table can be made while *stand-ins* are there for
//! what its text names, since an empty table holds nothing that they could have spoilt. What cannot be done is to find a row's place in
//! an index without the collation or the function that decides it. [`obstacles`] finds that out on an empty database in memory, so that it
//! is known before anything is touched.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::Null;

use super::read::State;
use super::write::{Patch, RowError, has_no_pages, is_internal};
use super::{Site, prepare, quote};
use crate::engine::{EngineError, Obstacle, PatchTarget};
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema};

/// Has the connection forget the schema as it read it; writes nothing.
const READ_ANEW: &str = "PRAGMA writable_schema=RESET";

/// The most names of a statement that stand-ins are made for.
const STAND_INS_MAX: usize = 100;

/// Makes the tables of these shapes with their indexes, and prepares the statement that inserts their rows.
pub(super) fn obstacles(site: &Site, target: &Schema, shapes: &[TableShape]) -> Result<Vec<Obstacle>, EngineError> {
    let connection = Connection::open_in_memory().map_err(|error| site.explain(error, "opening a database in memory"))?;
    prepare(&connection, site)?;
    connection.execute_batch("BEGIN").map_err(|error| site.explain(error, "beginning in memory"))?;
    let mut patch = Patch::new(State::begun(&connection, site)?, None);
    let mut obstacles: Vec<Obstacle> = Vec::new();
    let mut meet = |table: &str, object: String, missing: String| {
        if !obstacles.iter().any(|other| other.table == table && other.missing == missing) {
            obstacles.push(Obstacle { table: table.to_owned(), object, missing });
        }
    };
    for shape in shapes.iter().filter(|shape| !is_internal(&shape.name)) {
        let parts = || target.objects.iter().filter(|object| object.table == shape.name && !has_no_pages(object));
        let name = format!("table `{}`", shape.name);
        let tables: Vec<_> = parts().filter(|object| object.kind == ObjectKind::Table).cloned().collect();
        if let Err(EngineError::Statement { source, .. }) = patch.create_tables(&tables) {
            if let Some(missing) = source.downcast_ref().and_then(missing) {
                meet(&shape.name, name, missing);
            }
            continue;
        }
        if let Err(RowError::Other(EngineError::Lacks(obstacle))) = patch.try_insert(shape) {
            meet(&shape.name, name, obstacle.missing);
        }
        patch.tighten()?;
        for object in parts().filter(|object| object.kind == ObjectKind::Index) {
            let Some(sql) = &object.sql else { continue };
            if let Err(error) = connection.execute_batch(sql)
                && let Some(missing) = missing(&error)
            {
                meet(&shape.name, format!("index `{}`", object.name), missing);
            }
        }
    }
    Ok(obstacles)
}

/// Runs a statement that makes a table, with stand-ins for what its text names and is not there.
pub(super) fn create(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    let mut stand_ins = StandIns { connection, collations: Vec::new(), functions: Vec::new() };
    loop {
        let Err(error) = connection.execute_batch(sql) else { return Ok(()) };
        let words = missing(&error).unwrap_or_default();
        let named =
            |start: &str| words.strip_prefix(start).map(|rest| rest.split(" in ").next().unwrap_or(rest).trim_end_matches("()").to_owned());
        let collation = named("no such collation sequence: ").filter(|name| !stand_ins.collations.contains(name));
        let function =
            named("no such function: ").or_else(|| named("unknown function: ")).filter(|name| !stand_ins.functions.contains(name));
        match (collation, function) {
            _ if stand_ins.collations.len() + stand_ins.functions.len() >= STAND_INS_MAX => return Err(error),
            (Some(name), _) => stand_ins.add_collation(name)?,
            (None, Some(name)) => stand_ins.add_function(name)?,
            (None, None) => return Err(error),
        }
    }
}

/// Collations and functions that are there to be named, and go away with this. None may be there while a row is written.
struct StandIns<'c> {
    connection: &'c Connection,
    collations: Vec<String>,
    functions: Vec<String>,
}

impl StandIns<'_> {
    fn add_collation(&mut self, name: String) -> Result<(), rusqlite::Error> {
        self.connection.create_collation(name.as_str(), |a: &str, b: &str| a.cmp(b))?;
        self.collations.push(name);
        Ok(())
    }

    fn add_function(&mut self, name: String) -> Result<(), rusqlite::Error> {
        let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS | FunctionFlags::SQLITE_UTF8;
        self.connection.create_scalar_function(name.as_str(), -1, flags, |_| Ok(Null))?;
        self.functions.push(name);
        Ok(())
    }
}

impl Drop for StandIns<'_> {
    fn drop(&mut self) {
        // Removing fails only while a statement runs, and none does.
        for name in &self.collations {
            let _ = self.connection.remove_collation(name.as_str());
        }
        for name in &self.functions {
            let _ = self.connection.remove_function(name.as_str(), -1);
        }
    }
}

/// Does something with a stand-in for each collation of a table's indexes that is not there. A scan compares nothing, but SQLite does not begin
/// one on a WITHOUT ROWID table whose key it could not compare.
pub(super) fn with_stand_ins<T>(connection: &Connection, table: &str, run: impl FnOnce() -> T) -> Result<T, rusqlite::Error> {
    let sql = "SELECT DISTINCT x.coll FROM pragma_index_list(?1, 'main') AS l, pragma_index_xinfo(l.name, 'main') AS x \
               WHERE x.coll IS NOT NULL";
    let mut missing: Vec<String> = connection.prepare(sql)?.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    // `PRAGMA collation_list` also lists those that the schema only names.
    missing.retain(|name| connection.prepare(&format!("SELECT 'a' < 'b' COLLATE {}", quote(name))).is_err());
    let mut stand_ins = StandIns { connection, collations: Vec::new(), functions: Vec::new() };
    for name in missing {
        stand_ins.add_collation(name)?;
    }
    // A key whose collation was not there when the schema was read stays unusable until it is read anew.
    connection.execute_batch(READ_ANEW)?;
    let result = run();
    drop(stand_ins);
    connection.execute_batch(READ_ANEW)?;
    Ok(result)
}

/// Says what is not there, in SQLite's own words, where an error is about that. Any other would be met where the rows are written, or is none
/// there: the database in memory is empty and has only these tables.
pub(super) fn missing(error: &rusqlite::Error) -> Option<String> {
    let text = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message,
        rusqlite::Error::SqlInputError { msg, .. } => msg,
        _ => return None,
    };
    let lacks = ["no such function", "unknown function", "no such collation", "no such module", "unsafe use of", "unknown tokenizer"];
    lacks.iter().any(|lack| text.contains(lack)).then(|| text.lines().next().unwrap_or_default().to_owned())
}
