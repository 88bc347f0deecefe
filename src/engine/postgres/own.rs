//! What a transaction wrote itself, so that its rows are proven without reading the rest of their tables.
//!
//! The server counts the rows that a transaction inserts, updates and deletes in each table, whoever made it do so: a trigger, a rule, a foreign key
//! (`pg_stat_get_xact_tuples_inserted` and its siblings). *Must*, for this to be a proof: the table was as marked when the transaction began and nobody
//! else writes to it since, which its locks see to; the counts are those of the rows that were sent; the rows stand in the same file as then, since rows
//! that are all written anew, as for another type, are counted nowhere. Then the changed rows are those whose keys were sent. Where one of
//! these does not hold, or the server does not count (`track_counts`), the table is looked at as any other.

use std::collections::HashMap;

use super::catalog::{PG_CLASS, Relation};
use super::changes::{read_mark, read_where};
use super::name::literal;
use super::read::{LARGE_OBJECTS, State};
use super::statement;
use super::value::{self, Codec};
use crate::engine::{Changes, EngineError};
use crate::rows::TableShape;

/// How many rows of one table a transaction remembers to have written.
const OWN_ROWS_MAX: usize = 100_000;

const DOING: &str = "looking for what was written";

/// What a transaction wrote itself.
#[derive(Default)]
pub(super) struct Own {
    /// The mark of the state in which the transaction began, and where each table's rows stood then.
    since: Option<(String, HashMap<String, String>)>,
    tables: HashMap<String, Written>,
}

/// What was written to a table.
#[derive(Default)]
pub(super) struct Written {
    /// The keys of all rows, one list a column of the key.
    keys: Vec<Vec<Option<String>>>,
    inserted: u64,
    updated: u64,
    deleted: u64,
    is_too_much: bool,
}

impl Written {
    /// Counts rows that were inserted.
    pub fn insert(&mut self, keys: &[Vec<Option<String>>]) {
        self.inserted += self.note(keys);
    }

    /// Counts rows that were updated.
    pub fn update(&mut self, keys: &[Vec<Option<String>>]) {
        self.updated += self.note(keys);
    }

    /// Counts rows that were deleted.
    pub fn delete(&mut self, keys: &[Vec<Option<String>>]) {
        self.deleted += self.note(keys);
    }

    /// Says that it was written to in another way.
    pub fn lose(&mut self) {
        (self.is_too_much, self.keys) = (true, Vec::new());
    }

    fn note(&mut self, keys: &[Vec<Option<String>>]) -> u64 {
        let count = keys.first().map_or(0, Vec::len);
        if self.is_too_much || count == 0 || self.keys.first().map_or(0, Vec::len) + count > OWN_ROWS_MAX {
            self.lose();
        } else if self.keys.is_empty() {
            self.keys = keys.to_vec();
        } else {
            self.keys.iter_mut().zip(keys).for_each(|(kept, new)| kept.extend_from_slice(new));
        }
        count as u64
    }

    /// Returns the keys as cells, joined by commas; none where one is of a type whose cells are not its text.
    fn key_cells(&self, relation: &Relation, shape: &TableShape) -> Vec<Vec<u8>> {
        let base =
            |&at: &usize| relation.columns.iter().find(|column| column.name == shape.columns[at].name).map(|column| column.base.as_str());
        let Some(bases) = shape.identity.iter().map(base).collect::<Option<Vec<_>>>() else { return Vec::new() };
        let cell = |base: &str, text: &Option<String>| value::cell(Codec::of(base), text.as_deref()?);
        let key = |row: usize| {
            let cells = bases.iter().zip(&self.keys).map(|(base, list)| cell(base, list.get(row)?));
            cells.collect::<Option<Vec<_>>>().map(|cells| cells.join(&b','))
        };
        (0..self.keys.first().map_or(0, Vec::len)).map(key).collect::<Option<_>>().unwrap_or_default()
    }
}

impl Own {
    /// Says that the transaction, which has written nothing yet, sees the state of a mark.
    ///
    /// # Errors
    /// The server's.
    pub fn begin(&mut self, state: &State<'_>, mark: &str) -> Result<(), EngineError> {
        self.since = Some((mark.to_owned(), files(state)?));
        Ok(())
    }

    /// Returns what is known of a table.
    pub fn table(&mut self, name: &str) -> &mut Written {
        self.tables.entry(name.to_owned()).or_default()
    }

    /// Finds a table that the transaction changed although nobody sent it rows. What an extension fills when it is made is its own affair.
    ///
    /// # Errors
    /// The server's.
    pub fn stray(&self, state: &State<'_>) -> Result<Option<String>, EngineError> {
        let sql = "SELECT oid::int8 FROM pg_catalog.pg_class WHERE relkind = 'r' AND oid >= 16384 AND pg_catalog.pg_stat_get_xact_tuples_inserted(oid) + \
                   pg_catalog.pg_stat_get_xact_tuples_updated(oid) + pg_catalog.pg_stat_get_xact_tuples_deleted(oid) > 0";
        let rows = state.link.rows(sql, DOING)?;
        let catalog = state.catalog()?;
        let changed = rows.iter().filter_map(|row| catalog.relations.get(&row.get(0)?.parse().ok()?));
        let changed = changed.filter(|relation| !catalog.members.contains(&(PG_CLASS, relation.oid)));
        Ok(changed.map(|relation| relation.shown.clone()).find(|name| !self.tables.contains_key(name)))
    }

    /// Finds what became of a table since the transaction began; none where that is not known.
    ///
    /// # Errors
    /// The server's.
    pub fn changes(&self, state: &State<'_>, mark: &str, shape: &TableShape, rows_max: u64) -> Result<Option<Changes>, EngineError> {
        let Some((since, files_then)) = &self.since else { return Ok(None) };
        let catalog = state.catalog()?;
        let Some(relation) = catalog.relation(&shape.name).filter(|_| since == mark && shape.name != LARGE_OBJECTS) else {
            return Ok(None);
        };
        if read_mark(state, mark, shape, relation)?.is_none() {
            return Ok(None);
        }
        let oid = relation.oid.to_string();
        if files_then.get(&oid).is_none_or(|file| files(state).ok().as_ref().and_then(|now| now.get(&oid)) != Some(file)) {
            return Ok(None);
        }
        let counts =
            ["inserted", "updated", "deleted"].map(|what| format!("pg_catalog.pg_stat_get_xact_tuples_{what}({oid}::oid)")).join(", ");
        let counts = state.link.rows(&format!("SELECT {counts}"), DOING)?;
        let count = |at: usize| counts.first().and_then(|row| row.get(at)).and_then(|cell| cell.parse::<u64>().ok());
        let nothing = Written::default();
        let own = self.tables.get(&shape.name).unwrap_or(&nothing);
        let is_known = count(0) == Some(own.inserted) && count(1) == Some(own.updated) && count(2) == Some(own.deleted);
        let new = own.inserted + own.updated;
        if !is_known || own.is_too_much || new > rows_max {
            return Ok(None);
        }
        let gone = own.updated + own.deleted;
        let keys = own.key_cells(relation, shape);
        if new == 0 {
            return Ok(Some(Changes::Rows { new: Vec::new(), gone, keys }));
        }
        let Some(key) = relation.locator(shape) else { return Ok(None) };
        let lists: Vec<String> = own.keys.iter().map(|list| literal(&array(list))).collect();
        let (from, on) = statement::joined(&key, &[], &lists);
        let condition = format!("t.ctid = ANY (ARRAY(SELECT t.ctid FROM ONLY {} t, {from} WHERE {on}))", relation.sql());
        state.link.run("SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off", DOING)?;
        let groups = read_where(state, shape, &condition, rows_max)?;
        state.link.run("SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on", DOING)?;
        let is_all = groups.iter().map(|group| group.rows).sum::<u64>() == new;
        Ok(is_all.then_some(Changes::Rows { new: groups, gone, keys }))
    }
}

/// Tells in which file the rows of each table stand.
fn files(state: &State<'_>) -> Result<HashMap<String, String>, EngineError> {
    let sql = "SELECT oid, pg_catalog.pg_relation_filenode(oid) FROM pg_catalog.pg_class WHERE relkind IN ('r','m') AND oid >= 16384";
    let rows = state.link.rows(sql, DOING)?;
    Ok(rows.iter().filter_map(|row| Some((row.get(0)?.to_owned(), row.get(1)?.to_owned()))).collect())
}

/// Writes an array of texts as the server reads it.
fn array(list: &[Option<String>]) -> String {
    let element = |text: &Option<String>| match text {
        Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        None => "NULL".to_owned(),
    };
    format!("{{{}}}", list.iter().map(element).collect::<Vec<_>>().join(","))
}
