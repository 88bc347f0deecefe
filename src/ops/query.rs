//! A state, or the part of it that a question needs, in a scratch database.
//!
//! The scratch database has the whole schema, so that a question finds views and columns as they were, but rows only in the tables that it
//! reads. For SQLite that is a database of nobody ([`Scratch`]); which tables are read SQLite itself tells. For a server it is a database beside
//! the real one; which tables may be read is told by the words of the question, of views and of functions, and may be some too many.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use super::OpError;
use super::capture::{self, References, Rules, State};
use super::plan::plan;
use super::rollback;
use crate::engine::sqlite::Options;
use crate::engine::sqlite::scratch::Scratch;
use crate::engine::{Answer, Engine};
use crate::progress::Progress;
use crate::schema::{ObjectKind, Schema, SchemaObject, TableKind};
use crate::store::{BatchMode, Store};
use crate::value::Value;

/// Asks a state of SQLite. `begin` hears the columns' names, then the sink row after row. Returns the tables that were filled, with their rows.
///
/// # Errors
/// The engine's and the store's. What the question lacks is an error of the engine ([`crate::engine::EngineError::Unsupported`] where it would do
/// more than read).
pub fn ask_sqlite(
    state: &State,
    store: &Store,
    options: &Options,
    sql: &str,
    progress: &dyn Progress,
    begin: &mut dyn FnMut(Vec<String>),
    sink: &mut dyn FnMut(Vec<Value>) -> ControlFlow<()>,
) -> Result<Vec<(String, u64)>, OpError> {
    let mut scratch = Scratch::new(&state.settings, options)?;
    write_schema(scratch.engine(), &without_indexes(state), store, progress)?;
    // A module looks into the tables that hold its rows before it tells anything.
    let is_virtual = |name: &String| state.schema.table(name).is_some_and(|table| matches!(table.kind, TableKind::Virtual { .. }));
    let mentioned = mentioned(&state.schema, sql);
    let asked: HashSet<String> = mentioned.iter().filter(|name| is_virtual(name)).cloned().collect();
    let first = with_virtual(&state.schema, asked);
    let mut filled = fill_tables(scratch.engine(), state, store, &|name| has(&first, name))?;
    // SQLite does not tell of a table of which only the columns of a USING are read; the words of the question do.
    let names: HashSet<String> = scratch.names(sql)?.into_iter().chain(mentioned).collect();
    let wanted = with_virtual(&state.schema, names);
    filled.extend(fill_tables(scratch.engine(), state, store, &|name| has(&wanted, name) && !has(&first, name))?);
    scratch.ask(sql, begin, sink)?;
    Ok(filled)
}

/// Asks a state in an empty database of its engine, which is filled for it. Returns the answer, and the tables that were filled, with their rows.
///
/// # Errors
/// As [`ask_sqlite`].
pub fn ask_server(
    engine: &mut dyn Engine,
    state: &State,
    store: &Store,
    sql: &str,
    rows_max: usize,
    progress: &dyn Progress,
) -> Result<(Answer, Vec<(String, u64)>), OpError> {
    let wanted = mentioned(&state.schema, sql);
    let mut part = state.clone();
    part.tables.retain(|(_, manifest)| wanted.contains(&manifest.name));
    // The rows that they refer to need not be there.
    part.schema.objects.retain(|object| object.kind != ObjectKind::ForeignKey);
    write_schema(engine, &part, store, progress)?;
    let filled = part.tables.iter().map(|(_, manifest)| (manifest.name.clone(), manifest.rows)).collect();
    Ok((engine.begin_read()?.query(sql, rows_max)?, filled))
}

/// Writes a state, with the rows of the tables that it has, into an empty database, without proof.
fn write_schema(engine: &mut dyn Engine, state: &State, store: &Store, progress: &dyn Progress) -> Result<(), OpError> {
    let (empty, _) = {
        let mut read = engine.begin_read()?;
        let references = References { rules: Some(state), known: None };
        capture::read_state(&mut *read, store, BatchMode::IdsOnly, references, Rules::Keep, progress)?
    };
    let plan = plan(&empty, state);
    let mut transaction = engine.begin_write()?;
    rollback::apply_blind(&mut *transaction, &plan, &empty, state, store)?;
    Ok(transaction.commit()?)
}

/// Fills tables that are empty; the engine's own last, since filling others moves them.
fn fill_tables(
    engine: &mut dyn Engine,
    state: &State,
    store: &Store,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<(String, u64)>, OpError> {
    let is_internal = |name: &str| state.schema.table(name).is_some_and(|table| table.kind == TableKind::Internal);
    let mut filled = Vec::new();
    let mut transaction = engine.begin_write()?;
    for own in [false, true] {
        let tables = state.tables.iter().map(|(_, manifest)| manifest);
        for manifest in tables.filter(|manifest| is_internal(&manifest.name) == own && is_wanted(&manifest.name)) {
            if own {
                transaction.clear_table(&manifest.shape())?;
            }
            filled.push((manifest.name.clone(), rollback::fill(&mut *transaction, manifest, store)?));
        }
    }
    transaction.commit()?;
    Ok(filled)
}

/// The state without rows, and without what only makes its own database quick or busy: indexes that were declared for themselves, and triggers. SQLite
/// makes the indexes that a question needs, for the rows that there are.
fn without_indexes(state: &State) -> State {
    let mut part = state.clone();
    let goes = |object: &SchemaObject| match object.kind {
        ObjectKind::Index => object.sql.is_some(),
        kind => kind == ObjectKind::Trigger,
    };
    part.schema.objects.retain(|object| !goes(object));
    let kept: HashSet<String> =
        part.schema.objects.iter().filter(|object| object.kind == ObjectKind::Index).map(|object| object.name.clone()).collect();
    part.schema.indexes.retain(|index| kept.contains(&index.name));
    part.tables.clear();
    part
}

/// Adds to the tables that a question reads those behind its virtual tables: the ones that hold their rows, and those that their declaration names.
fn with_virtual(schema: &Schema, mut names: HashSet<String>) -> HashSet<String> {
    let modules: Vec<&str> = schema
        .tables
        .iter()
        .filter(|table| matches!(table.kind, TableKind::Virtual { .. }) && has(&names, &table.name))
        .map(|table| table.name.as_str())
        .collect();
    for name in modules {
        let words = words(schema.object(ObjectKind::Table, name).and_then(|object| object.sql.as_deref()).unwrap_or_default());
        for table in &schema.tables {
            let is_behind = matches!(&table.kind, TableKind::Shadow { of } if of == name);
            if is_behind || words.contains(&table.name.to_lowercase()) {
                names.insert(table.name.clone());
            }
        }
    }
    // The terms of an index of words stand in the tables of another one.
    let more: Vec<&str> = schema
        .tables
        .iter()
        .filter(|table| matches!(&table.kind, TableKind::Shadow { of } if has(&names, of)))
        .map(|table| table.name.as_str())
        .collect();
    names.extend(more.into_iter().map(str::to_owned));
    names
}

/// Tells whether a name is among others, as SQLite compares names.
fn has(names: &HashSet<String>, name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Finds the tables whose rows a question may need, by its words: a table, view or function that is named, and again all that its statement names.
fn mentioned(schema: &Schema, sql: &str) -> HashSet<String> {
    let mut words = words(sql);
    let mut found: BTreeSet<(ObjectKind, &str)> = BTreeSet::new();
    loop {
        let is_named = |object: &&SchemaObject| {
            let bare = object.name.split('(').next().unwrap_or(&object.name);
            let last = bare.rsplit('.').next().unwrap_or(bare).trim_matches('"').to_lowercase();
            let is_part = object.needs.iter().any(|(kind, name)| *kind == ObjectKind::Table && found.contains(&(*kind, name.as_str())));
            let is_read = matches!(
                object.kind,
                ObjectKind::Table | ObjectKind::View | ObjectKind::MaterializedView | ObjectKind::Function | ObjectKind::Sequence
            );
            // The query of a view may stand for itself, so that views can be made before what they read.
            let is_body = matches!(object.kind, ObjectKind::Rule | ObjectKind::Other)
                && object.needs.iter().any(|(kind, name)| *kind == ObjectKind::View && found.contains(&(*kind, name.as_str())));
            is_body || is_read && (words.contains(&last) || (is_part && object.kind == ObjectKind::Table))
        };
        let new: Vec<&SchemaObject> =
            schema.objects.iter().filter(is_named).filter(|object| !found.contains(&(object.kind, object.name.as_str()))).collect();
        if new.is_empty() {
            break;
        }
        for object in new {
            found.insert((object.kind, &object.name));
            if object.kind != ObjectKind::Table {
                words.extend(self::words(object.sql.as_deref().unwrap_or_default()));
            }
        }
    }
    found.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Returns the words of a statement in lower case: whatever could be a name, whether quoted or not.
fn words(sql: &str) -> HashSet<String> {
    let mut words: HashSet<String> =
        sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '$').map(str::to_lowercase).collect();
    for quote in ['"', '\'', '`'] {
        words.extend(sql.split(quote).skip(1).step_by(2).map(str::to_lowercase));
    }
    words.extend(sql.split('[').skip(1).filter_map(|rest| rest.split_once(']')).map(|(name, _)| name.to_lowercase()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Table;

    fn schema() -> Schema {
        let object = |kind, name: &str, sql: &str| SchemaObject::new(kind, name, name, Some(sql.to_owned()));
        let mut part = object(ObjectKind::Table, "posts_2024", "");
        part.needs = vec![(ObjectKind::Table, "posts".to_owned())];
        Schema {
            objects: vec![
                object(ObjectKind::Table, "users", "CREATE TABLE users()"),
                object(ObjectKind::Table, "posts", "CREATE TABLE posts()"),
                part,
                object(ObjectKind::Table, "audit.log entries", ""),
                object(ObjectKind::Function, "newest(integer)", "CREATE FUNCTION newest(integer) AS 'SELECT * FROM posts'"),
                object(ObjectKind::View, "authors", "CREATE VIEW authors AS SELECT newest(1) FROM users"),
            ],
            ..Schema::default()
        }
    }

    #[track_caller]
    fn check_mentioned(sql: &str, expected: &[&str]) {
        let schema = schema();
        let is_table = |name: &String| schema.object(ObjectKind::Table, name).is_some();
        let mut found: Vec<String> = mentioned(&schema, sql).into_iter().filter(is_table).collect();
        found.sort();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn tables_are_found_by_words_through_views_functions_and_partitions() {
        check_mentioned("SELECT 1", &[]);
        check_mentioned("select * from Users", &["users"]);
        check_mentioned("SELECT * FROM posts", &["posts", "posts_2024"]);
        check_mentioned("SELECT * FROM authors", &["posts", "posts_2024", "users"]);
        check_mentioned("SELECT * FROM audit.\"log entries\"", &["audit.log entries"]);
    }

    #[test]
    fn a_virtual_table_brings_the_tables_behind_it() {
        let table = |name: &str, kind| Table {
            name: name.to_owned(),
            kind,
            columns: Vec::new(),
            primary_key: Vec::new(),
            foreign_keys: Vec::new(),
            without_rowid: false,
            strict: false,
        };
        let sql = "CREATE VIRTUAL TABLE fts USING fts5(body, content='docs')";
        let shadow = |of: &str| TableKind::Shadow { of: of.to_owned() };
        let schema = Schema {
            objects: vec![SchemaObject::new(ObjectKind::Table, "fts", "fts", Some(sql.to_owned()))],
            tables: vec![
                table("docs", TableKind::Ordinary),
                table("other", TableKind::Ordinary),
                table("fts", TableKind::Virtual { module: "fts5".to_owned() }),
                table("fts_data", shadow("fts")),
                table("other_data", shadow("elsewhere")),
            ],
            indexes: Vec::new(),
        };
        let mut names: Vec<String> = with_virtual(&schema, HashSet::from(["FTS".to_owned()])).into_iter().collect();
        names.sort();
        assert_eq!(names, ["FTS", "docs", "fts", "fts_data"]);
    }
}
