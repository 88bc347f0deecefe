//! Writing one row into every table, to see that a database takes rows, in a transaction that is rolled back.
//!
//! A row is a copy of one that is there, with new values in what must be unique, new keys from SQLite itself, and references to rows that are there; in
//! an empty table it is made of its columns' types. CHECKs, NOT NULL, UNIQUE and foreign keys hold in it, triggers do not fire. A row that a
//! constraint refuses shows that the guess was wrong and no damage; a key that SQLite hands out and then refuses does.

use std::collections::{BTreeMap, HashSet};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};

use super::{Site, quote};
use crate::engine::{EngineError, Trial, TrialOutcome};
use crate::schema::{Column, Schema, Table, TableKind};

/// How the values of a row are chosen; the first that is taken is enough.
const WAYS: [Way; 4] = [
    Way { from_row: true, new_parents: true, all: true },
    Way { from_row: true, new_parents: false, all: true },
    Way { from_row: false, new_parents: true, all: false },
    Way { from_row: false, new_parents: true, all: true },
];

#[derive(Clone, Copy)]
struct Way {
    /// Like a row that is there.
    from_row: bool,
    /// References lead to the rows that were just written, where there are any.
    new_parents: bool,
    /// Whether columns are filled that could be left out.
    all: bool,
}

/// Writes the rows and takes them back.
///
/// # Errors
/// Where the transaction cannot be begun, and where the disk fails or is full. What became of each table is in the answer.
pub(super) fn run(connection: &Connection, site: &Site, schema: &Schema) -> Result<Vec<Trial>, EngineError> {
    let fail = |error| site.explain(error, "writing a row into every table");
    connection.pragma_update(None, "ignore_check_constraints", false).map_err(fail)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true).map_err(fail)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(fail)?;
    let trials = rows(connection, schema);
    // What went wrong below may have ended it.
    let ended = if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") };
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false).map_err(fail)?;
    connection.pragma_update(None, "ignore_check_constraints", true).map_err(fail)?;
    let trials = trials.map_err(fail)?;
    ended.map_err(fail)?;
    Ok(trials)
}

/// Why no row was written into a table.
enum Refusal {
    /// For a reason that is its own.
    Outcome(TrialOutcome),
    /// Because nothing can be written.
    Broken(rusqlite::Error),
}

fn rows(connection: &Connection, schema: &Schema) -> rusqlite::Result<Vec<Trial>> {
    let mut written = BTreeMap::new();
    let mut trials = Vec::new();
    for table in parents_first(schema) {
        let outcome = match write(connection, schema, table, &written) {
            Ok(row) => {
                written.insert(table.name.clone(), row);
                TrialOutcome::Written
            }
            Err(Refusal::Outcome(outcome)) => outcome,
            Err(Refusal::Broken(error)) => return Err(error),
        };
        trials.push(Trial { table: table.name.clone(), outcome });
    }
    Ok(trials)
}

/// Lists the ordinary tables, those that others refer to first, as far as they do not refer to each other in a circle.
fn parents_first(schema: &Schema) -> Vec<&Table> {
    let mut left: Vec<&Table> = schema.tables.iter().filter(|table| table.kind == TableKind::Ordinary).collect();
    let mut listed = Vec::new();
    while !left.is_empty() {
        let waits = |table: &Table| {
            let is_left = |name: &str| left.iter().any(|other| other.name != table.name && other.name.eq_ignore_ascii_case(name));
            table.foreign_keys.iter().any(|key| is_left(&key.parent))
        };
        let ready = left.iter().position(|table| !waits(table)).unwrap_or(0);
        listed.push(left.remove(ready));
    }
    listed
}

/// Writes one row; returns its row number, where the table has such.
fn write(
    connection: &Connection,
    schema: &Schema,
    table: &Table,
    written: &BTreeMap<String, Option<(String, i64)>>,
) -> Result<Option<(String, i64)>, Refusal> {
    let mut refused = None;
    for way in WAYS {
        let sql = statement(schema, table, way, written);
        if connection.execute_batch("SAVEPOINT dbelay_trial").is_err() {
            break;
        }
        let done = connection.execute(&sql, []);
        let ended = match done {
            Ok(_) => connection.execute_batch("RELEASE dbelay_trial"),
            Err(_) => connection.execute_batch("ROLLBACK TO dbelay_trial; RELEASE dbelay_trial"),
        };
        match done {
            Ok(1) if ended.is_ok() => return Ok(row_number(table).map(|name| (name.to_owned(), connection.last_insert_rowid()))),
            // A table without rows has none to be like.
            Ok(_) => {}
            Err(error) if is_broken(&error) => return Err(Refusal::Broken(error)),
            Err(error) => match judge(&error, table) {
                failed @ TrialOutcome::Failed(_) => return Err(Refusal::Outcome(failed)),
                outcome => refused = Some(outcome),
            },
        }
    }
    Err(Refusal::Outcome(refused.unwrap_or_else(|| TrialOutcome::NotWritten("no row could be made".to_owned()))))
}

/// Tells whether an error is about the place, so that no other row would be taken either.
fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::OutOfMemory | ErrorCode::ReadOnly)
    )
}

/// Tells what it means that a row was not taken.
fn judge(error: &rusqlite::Error, table: &Table) -> TrialOutcome {
    let words = match error {
        rusqlite::Error::SqliteFailure(_, Some(words)) => words.clone(),
        other => other.to_string(),
    };
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    let is_key = matches!(extended, ffi::SQLITE_CONSTRAINT_ROWID | ffi::SQLITE_CONSTRAINT_PRIMARYKEY);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => TrialOutcome::Failed(words),
        Some(ErrorCode::ConstraintViolation) if is_key && alias(table).is_some() => {
            TrialOutcome::Failed(format!("the key that SQLite hands out is there already: {words}"))
        }
        _ => TrialOutcome::NotWritten(words),
    }
}

/// Returns the column that is the row number, for which SQLite finds a value.
fn alias(table: &Table) -> Option<&str> {
    match table.primary_key.as_slice() {
        [key] if !table.without_rowid => {
            let column = table.columns.iter().find(|column| column.name == *key)?;
            column.declared_type.eq_ignore_ascii_case("integer").then_some(key.as_str())
        }
        _ => None,
    }
}

/// Returns a name under which the table's row number can be asked for.
fn row_number(table: &Table) -> Option<&'static str> {
    let is_taken = |name: &str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
    if table.without_rowid { None } else { ["rowid", "_rowid_", "oid"].into_iter().find(|name| !is_taken(name)) }
}

fn statement(schema: &Schema, table: &Table, way: Way, written: &BTreeMap<String, Option<(String, i64)>>) -> String {
    let mut unique: HashSet<&str> = table.primary_key.iter().map(String::as_str).collect();
    for index in schema.indexes.iter().filter(|index| index.unique && index.table == table.name) {
        unique.extend(index.columns.iter().flatten().map(String::as_str));
    }
    let name = format!("main.{}", quote(&table.name));
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for column in table.columns.iter().filter(|column| !column.generated && alias(table) != Some(column.name.as_str())) {
        let is_unique = unique.contains(column.name.as_str());
        let is_needed = is_unique || (column.not_null && column.default.is_none());
        let parent = parent_value(schema, table, column, written).filter(|_| way.new_parents || (is_unique && !way.from_row));
        let value = match parent {
            Some(parent) => parent,
            None if way.from_row && is_unique => another(&name, column),
            None if way.from_row => format!("x.{}", quote(&column.name)),
            None if is_unique => first(&name, column),
            None if way.all || is_needed => made(&column.declared_type).to_owned(),
            None => continue,
        };
        columns.push(quote(&column.name));
        values.push(value);
    }
    let from = match (way.from_row, row_number(table)) {
        (false, _) => String::new(),
        (true, Some(number)) => format!(" FROM {name} AS x ORDER BY x.{number} DESC LIMIT 1"),
        (true, None) => format!(" FROM {name} AS x LIMIT 1"),
    };
    if columns.is_empty() {
        return format!("INSERT INTO {name} DEFAULT VALUES");
    }
    format!("INSERT INTO {name}({}) SELECT {}{from}", columns.join(","), values.join(","))
}

/// Returns the value that a referring column must have: that of the row that was just written, else of any row; none where it refers to nothing.
fn parent_value(schema: &Schema, table: &Table, column: &Column, written: &BTreeMap<String, Option<(String, i64)>>) -> Option<String> {
    let find = |name: &str| schema.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name));
    let key = table.foreign_keys.iter().find(|key| key.columns.iter().any(|name| name.eq_ignore_ascii_case(&column.name)))?;
    let at = key.columns.iter().position(|name| name.eq_ignore_ascii_case(&column.name))?;
    let parent = find(&key.parent).filter(|parent| parent.name != table.name)?;
    let named = key.parent_columns.get(at).or_else(|| parent.primary_key.get(at))?;
    let place = match written.get(&parent.name) {
        Some(Some((number, row))) => format!("WHERE {number} = {row}"),
        _ => "LIMIT 1".to_owned(),
    };
    Some(format!("(SELECT {} FROM main.{} {place})", quote(named), quote(&parent.name)))
}

/// Another value like the one of the row that is copied, which no row has.
fn another(table: &str, column: &Column) -> String {
    let name = quote(&column.name);
    let length = format!("max(length(x.{name}),8)");
    let next = format!("(SELECT max({name}) FROM {table})+1");
    format!(
        "CASE typeof(x.{name}) WHEN 'integer' THEN {next} WHEN 'real' THEN {next} WHEN 'blob' THEN randomblob({length}) \
         WHEN 'text' THEN substr(lower(hex(randomblob({length}))),1,{length}) ELSE {} END",
        if column.not_null { first(table, column) } else { "NULL".to_owned() }
    )
}

/// A value for a column that must be unique, in a table of which no row is looked at.
fn first(table: &str, column: &Column) -> String {
    let name = quote(&column.name);
    let is_number = |made: &str| made.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match made(&column.declared_type) {
        value if is_number(value) => format!("coalesce((SELECT max({name}) FROM {table}),0)+1"),
        "x'00'" => "randomblob(16)".to_owned(),
        _ => "lower(hex(randomblob(16)))".to_owned(),
    }
}

/// A value of a declared type.
fn made(declared: &str) -> &'static str {
    let upper = declared.to_ascii_uppercase();
    let has = |word: &str| upper.contains(word);
    if has("INT") || has("BOOL") {
        "1"
    } else if has("JSON") {
        "'{}'"
    } else if has("DATETIME") || has("TIMESTAMP") {
        "'2026-01-02 03:04:05'"
    } else if has("DATE") {
        "'2026-01-02'"
    } else if has("CHAR") || has("CLOB") || has("TEXT") || has("UUID") || has("TIME") {
        "'dbelay'"
    } else if has("BLOB") {
        "x'00'"
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        "1.5"
    } else {
        "1"
    }
}
