//! Writing one row into every table, to see that a database takes rows, in a transaction that is rolled back.
//!
//! A row is a copy of one that is there, with new values in what must be unique, keys from their sequences, and references to rows that are there; in
//! an empty table it is made of its columns' types. Every constraint holds in it, foreign keys too; the users' triggers do not fire, and sequences
//! that moved on stay where they are, as the server has it. A row that a constraint refuses shows that the guess was wrong and no damage; a key that a
//! sequence hands out and that is there already does.

use std::collections::{BTreeMap, HashSet};

use super::catalog::{Attribute, Catalog, PG_CLASS, Relation};
use super::link;
use super::name::quoted;
use super::read::State;
use crate::engine::{EngineError, Trial, TrialOutcome};

const DOING: &str = "writing a row into every table";

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
/// Where the transaction cannot be begun or ended. What became of each table is in the answer.
pub(super) fn run(state: &State<'_>) -> Result<Vec<Trial>, EngineError> {
    let catalog = state.catalog()?;
    state.link.run("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE", DOING)?;
    let trials = rows(state, &catalog);
    let ended = state.link.run("ROLLBACK", DOING);
    let trials = trials?;
    ended?;
    Ok(trials)
}

fn rows(state: &State<'_>, catalog: &Catalog) -> Result<Vec<Trial>, EngineError> {
    let mut written = BTreeMap::new();
    let mut trials = Vec::new();
    for relation in parents_first(catalog) {
        let outcome = match write(state, catalog, relation, &written)? {
            Ok(place) => {
                written.insert(relation.shown.clone(), place);
                TrialOutcome::Written
            }
            Err(outcome) => outcome,
        };
        trials.push(Trial { table: relation.shown.clone(), outcome });
    }
    Ok(trials)
}

/// Lists the tables with rows of their own, those that others refer to first, as far as they do not refer to each other in a circle.
fn parents_first(catalog: &Catalog) -> Vec<&Relation> {
    let is_meant = |relation: &&Relation| relation.kind == 'r' && !catalog.members.contains(&(PG_CLASS, relation.oid));
    let mut left: Vec<&Relation> = catalog.relations.values().filter(is_meant).collect();
    left.sort_by(|a, b| a.shown.cmp(&b.shown));
    let mut listed = Vec::new();
    while !left.is_empty() {
        let waits = |relation: &Relation| {
            let is_left = |name: &str| name != relation.shown && left.iter().any(|other| other.shown == name);
            let table = catalog.tables.iter().find(|table| table.name == relation.shown);
            table.is_some_and(|table| table.foreign_keys.iter().any(|key| is_left(&key.parent)))
        };
        let ready = left.iter().position(|relation| !waits(relation)).unwrap_or(0);
        listed.push(left.remove(ready));
    }
    listed
}

/// Writes one row; returns where it stands.
fn write(
    state: &State<'_>,
    catalog: &Catalog,
    relation: &Relation,
    written: &BTreeMap<String, String>,
) -> Result<Result<String, TrialOutcome>, EngineError> {
    let mut refused = None;
    // What others would do on a new row is not ours to start. Who may not say so owns no such table.
    attempt(state, &format!("ALTER TABLE ONLY {} DISABLE TRIGGER USER", relation.sql()))?.ok();
    for way in WAYS {
        match attempt(state, &statement(catalog, relation, way, written))? {
            Ok(Some(place)) => return Ok(Ok(place)),
            // A table without rows has none to be like.
            Ok(None) => {}
            Err(error) => match judge(&error, relation) {
                failed @ TrialOutcome::Failed(_) => return Ok(Err(failed)),
                outcome => refused = Some(outcome),
            },
        }
    }
    Ok(Err(refused.unwrap_or_else(|| TrialOutcome::NotWritten("no row could be made".to_owned()))))
}

/// Runs a statement that may fail without the transaction's end; returns the first cell of its answer.
fn attempt(state: &State<'_>, sql: &str) -> Result<Result<Option<String>, EngineError>, EngineError> {
    state.link.run("SAVEPOINT dbelay_trial", DOING)?;
    // A constraint that waits for the end is asked at once.
    let done = state.link.cell(sql, DOING).and_then(|cell| state.link.run("SET CONSTRAINTS ALL IMMEDIATE", DOING).map(|()| cell));
    match done {
        Ok(cell) => {
            state.link.run("RELEASE SAVEPOINT dbelay_trial", DOING)?;
            Ok(Ok(cell))
        }
        Err(error) => {
            state.link.run("ROLLBACK TO SAVEPOINT dbelay_trial; RELEASE SAVEPOINT dbelay_trial", DOING)?;
            Ok(Err(error))
        }
    }
}

/// Tells what it means that a row was not taken.
fn judge(error: &EngineError, relation: &Relation) -> TrialOutcome {
    let words = match error {
        EngineError::Statement { source, .. } => source.to_string(),
        other => other.to_string(),
    };
    if matches!(error, EngineError::Damaged(_)) {
        return TrialOutcome::Failed(words);
    }
    let is_handed_out = |name: &str| relation.columns.iter().any(|column| column.name == name && is_numbered(column));
    let key = words.split_once("Key (").and_then(|(_, rest)| rest.split_once(")="));
    match key {
        Some((columns, _)) if link::is_duplicate(error) && columns.split(", ").any(|name| is_handed_out(name.trim_matches('"'))) => {
            TrialOutcome::Failed(format!("the key that its sequence hands out is there already: {words}"))
        }
        _ => TrialOutcome::NotWritten(words),
    }
}

/// Tells whether a column gets its value from a sequence.
fn is_numbered(column: &Attribute) -> bool {
    column.identity.is_some() || column.default.as_deref().is_some_and(|default| default.contains("nextval("))
}

fn statement(catalog: &Catalog, relation: &Relation, way: Way, written: &BTreeMap<String, String>) -> String {
    let table = catalog.tables.iter().find(|table| table.name == relation.shown);
    let mut unique: HashSet<&str> = table.into_iter().flat_map(|table| &table.primary_key).map(String::as_str).collect();
    for index in catalog.indexes.iter().filter(|index| index.unique && index.table == relation.shown) {
        unique.extend(index.columns.iter().flatten().map(String::as_str));
    }
    let name = relation.sql();
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for column in relation.columns.iter().filter(|column| column.generated.is_none() && !is_numbered(column)) {
        let is_unique = unique.contains(column.name.as_str());
        if is_unique && column.default.is_some() && !way.from_row && !way.all {
            continue;
        }
        let is_needed = is_unique || (column.not_null && column.default.is_none());
        let parent = parent_value(catalog, relation, column, written).filter(|_| way.new_parents || (is_unique && !way.from_row));
        let value = match parent {
            Some(parent) => parent,
            None if way.from_row && is_unique => another(&name, column),
            None if way.from_row => format!("x.{}", quoted(&column.name)),
            None if is_unique => first(&name, column),
            None if way.all || is_needed => made(column),
            None => continue,
        };
        columns.push(quoted(&column.name));
        values.push(value);
    }
    let from = if way.from_row { format!(" FROM ONLY {name} AS x LIMIT 1") } else { String::new() };
    if columns.is_empty() {
        return format!("INSERT INTO {name} DEFAULT VALUES RETURNING ctid::text");
    }
    format!("INSERT INTO {name}({}) SELECT {}{from} RETURNING ctid::text", columns.join(", "), values.join(", "))
}

/// Returns the value that a referring column must have: that of the row that was just written, else of any row; none where it refers to nothing.
fn parent_value(catalog: &Catalog, relation: &Relation, column: &Attribute, written: &BTreeMap<String, String>) -> Option<String> {
    let table = catalog.tables.iter().find(|table| table.name == relation.shown)?;
    let key = table.foreign_keys.iter().find(|key| key.columns.contains(&column.name) && key.parent != table.name)?;
    let at = key.columns.iter().position(|name| *name == column.name)?;
    let parent = catalog.relation(&key.parent)?;
    let named = key.parent_columns.get(at)?;
    let place = match written.get(&key.parent) {
        Some(place) => format!("WHERE ctid = '{place}'::pg_catalog.tid"),
        None => "LIMIT 1".to_owned(),
    };
    Some(format!("(SELECT {} FROM {} {place})", quoted(named), parent.sql()))
}

/// How values of a type are made.
enum Kind {
    Number,
    Text,
    Time,
    Uuid,
    Bytes,
    Other,
}

fn kind(column: &Attribute) -> Kind {
    match column.base.as_str() {
        "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" => Kind::Number,
        "text" | "varchar" | "bpchar" | "name" | "citext" => Kind::Text,
        "date" | "timestamp" | "timestamptz" => Kind::Time,
        "uuid" => Kind::Uuid,
        "bytea" => Kind::Bytes,
        _ => Kind::Other,
    }
}

/// Another value like the one of the row that is copied, which no row has.
fn another(table: &str, column: &Attribute) -> String {
    let (name, cast) = (quoted(&column.name), &column.sql_type);
    match kind(column) {
        Kind::Text => {
            format!("pg_catalog.left(pg_catalog.md5(pg_catalog.random()::text), GREATEST(pg_catalog.length(x.{name}::text), 8))::{cast}")
        }
        Kind::Time => format!("((SELECT pg_catalog.max({name}) FROM {table}) + interval '1 day')::{cast}"),
        Kind::Number => format!("((SELECT pg_catalog.max({name}) FROM {table}) + 1)::{cast}"),
        Kind::Uuid | Kind::Bytes => first(table, column),
        Kind::Other => format!("x.{name}"),
    }
}

/// A value for a column that must be unique, in a table of which no row is looked at.
fn first(table: &str, column: &Attribute) -> String {
    let (name, cast) = (quoted(&column.name), &column.sql_type);
    match kind(column) {
        Kind::Number => format!("(COALESCE((SELECT pg_catalog.max({name}) FROM {table}), 0) + 1)::{cast}"),
        Kind::Text => format!("pg_catalog.md5(pg_catalog.random()::text)::{cast}"),
        Kind::Uuid => format!("pg_catalog.gen_random_uuid()::{cast}"),
        Kind::Bytes => format!("pg_catalog.decode(pg_catalog.md5(pg_catalog.random()::text), 'hex')::{cast}"),
        Kind::Time | Kind::Other => made(column),
    }
}

/// A value of a type.
fn made(column: &Attribute) -> String {
    let cast = &column.sql_type;
    let text = match column.base.as_str() {
        "int2" | "int4" | "int8" | "numeric" | "float4" | "float8" | "money" | "oid" => "1",
        "bool" => "true",
        "text" | "varchar" | "bpchar" | "name" | "citext" => "dbelay",
        "date" => "2026-01-02",
        "timestamp" | "timestamptz" => "2026-01-02 03:04:05",
        "time" | "timetz" => "03:04:05",
        "interval" => "1 day",
        "uuid" => "00000000-0000-4000-8000-000000000001",
        "bytea" => "\\x00",
        "json" | "jsonb" => "{}",
        "inet" | "cidr" => "127.0.0.1",
        "macaddr" => "08:00:2b:01:02:03",
        "macaddr8" => "08:00:2b:01:02:03:04:05",
        "point" => "(0,0)",
        "xml" => "<a/>",
        "tsvector" | "tsquery" => "a",
        "" if cast.ends_with("[]") => "{}",
        base if base.starts_with('_') => "{}",
        base if base.ends_with("range") => "empty",
        // An enum has a first word; of another type nothing is known, and the server says so.
        _ => return format!("pg_catalog.enum_first(NULL::{cast})"),
    };
    format!("'{text}'::{cast}")
}
