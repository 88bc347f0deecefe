//! Foreign keys: which references point nowhere, and which of them did not at another time.
//!
//! SQLite's own check reads every row of every table that refers to others. [`new_orphans`] looks only at what can have lost its parent since: the
//! references that are there now and were not, and the keys that were there and are not. Only tables in which it finds some are then checked by SQLite,
//! whose count is told. A reference points nowhere here if and only if it does so for SQLite: the value referred to is looked for through the parent's
//! column, with its affinity and its collation. The other way round, from a key to those who refer to it, that holds only where both columns have
//! the same affinity and no collation of their own; else SQLite checks the table.

use std::collections::HashMap;

use super::quote;
use super::read::{FINDINGS_MAX, State};
use super::statement::Bound;
use super::text::Encoding;
use crate::engine::since::{FoundSince, History, Keys};
use crate::engine::{EngineError, Finding};
use crate::schema::{Column, ForeignKey, ObjectKind, Schema, Table, TableKind};
use crate::value::Value;

/// Of more keys than this a table that refers to them is checked as a whole.
const KEYS_MAX: usize = 10_000;

/// For how many keys a table without an index of its references is searched.
const KEYS_UNINDEXED_MAX: usize = 500;

/// How many values are looked for at once.
const VALUES_AT_ONCE: usize = 500;

/// How many keys of several columns are looked for at once: each is a term, and terms are nested.
const TERMS_AT_ONCE: usize = 100;

/// Finds references that point nowhere, in one table or in all.
pub(super) fn orphans(state: &State<'_>, table: Option<&str>) -> Result<Vec<Finding>, EngineError> {
    Ok(check(state, table)?.into_iter().map(|(_, finding)| finding).collect())
}

/// Finds references that point nowhere, with the table that each refers to as its table has it.
fn check(state: &State<'_>, table: Option<&str>) -> Result<Vec<(String, Finding)>, EngineError> {
    let argument = table.map(|table| format!("({})", quote(table))).unwrap_or_default();
    let run = || -> Result<Vec<(String, String)>, rusqlite::Error> {
        let mut statement = state.connection.prepare(&format!("PRAGMA main.foreign_key_check{argument}"))?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(2)?)))?.collect()
    };
    let Ok(orphans) = run() else {
        // The declared keys do not fit their tables ("foreign key mismatch"): nothing can be checked, and nothing is enforced.
        return Ok(Vec::new());
    };
    let mut findings: Vec<(String, Finding)> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    for (table, parent) in orphans {
        let place = *places.entry((table.clone(), parent.clone())).or_insert(findings.len());
        match findings.get_mut(place) {
            Some((_, finding)) => finding.count += 1,
            None => {
                let message = format!("rows of `{table}` refer to rows of `{parent}` that do not exist");
                findings.push((parent, Finding { check: "foreign_key".into(), table: Some(table), message, count: 1 }));
            }
        }
    }
    findings.truncate(FINDINGS_MAX);
    Ok(findings)
}

/// Finds the tables with references that point nowhere now and did not then. All such references of these tables are told.
pub(super) fn new_orphans(state: &State<'_>, history: &dyn History, now: &Schema) -> Result<Vec<FoundSince>, EngineError> {
    let links = Links { state, history, now };
    let mut found = Vec::new();
    for table in now.tables.iter().filter(|table| table.kind == TableKind::Ordinary && !table.foreign_keys.is_empty()) {
        if !links.fits(table) {
            continue;
        }
        let mut news = Vec::new();
        for key in &table.foreign_keys {
            news.push((key, links.news(table, key)?));
        }
        if news.iter().all(|(_, news)| *news == News::Some(0)) {
            continue;
        }
        for (parent, finding) in check(state, Some(&table.name))? {
            let through = news.iter().filter(|(key, _)| key.parent.eq_ignore_ascii_case(&parent)).map(|(_, news)| *news);
            match through.fold(News::Some(0), News::and) {
                News::Some(0) => {}
                News::Some(new) => found.push(FoundSince { new: Some(new.min(finding.count)), finding }),
                News::All => found.push(FoundSince { new: Some(finding.count), finding }),
                News::Unknown => found.push(FoundSince { new: None, finding }),
            }
        }
    }
    Ok(found)
}

/// How many references through a key point nowhere that did not before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// About so many; none if and only if there are none.
    Some(u64),
    /// Nobody can tell without all of them.
    Unknown,
    /// All that do: the key was not there before.
    All,
}

impl News {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Some(a), Self::Some(b)) => Self::Some(a.saturating_add(b)),
            (Self::All, Self::All) => Self::All,
            (Self::Some(0), other) | (other, Self::Some(0)) => other,
            _ => Self::Unknown,
        }
    }
}

struct Links<'a> {
    state: &'a State<'a>,
    history: &'a dyn History,
    now: &'a Schema,
}

impl Links<'_> {
    /// Tells whether a table's keys fit the tables that they refer to: else SQLite checks and enforces none of them.
    fn fits(&self, table: &Table) -> bool {
        self.state.connection.prepare(&format!("PRAGMA main.foreign_key_check({})", quote(&table.name))).is_ok()
    }

    fn table<'s>(schema: &'s Schema, name: &str) -> Option<&'s Table> {
        schema.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    /// Names the columns that a key refers to.
    fn parent_columns(schema: &Schema, key: &ForeignKey) -> Vec<String> {
        match key.parent_columns.as_slice() {
            [] => Self::table(schema, &key.parent).map(|parent| parent.primary_key.clone()).unwrap_or_default(),
            named => named.to_vec(),
        }
    }

    fn news(&self, child: &Table, key: &ForeignKey) -> Result<News, EngineError> {
        let Some(child_then) = self.history.name_then(&child.name) else { return Ok(News::All) };
        let then = self.history.schema();
        let parent = Self::table(self.now, &key.parent);
        let parent_name = parent.map_or(key.parent.as_str(), |parent| &parent.name);
        let parent_then = self.history.name_then(parent_name).unwrap_or_else(|| parent_name.to_owned());
        let parent_columns = Self::parent_columns(self.now, key);
        let keys_then = Self::table(then, &child_then).map_or(&[][..], |table| &table.foreign_keys);
        let keys_then: Vec<_> = keys_then.iter().filter(|then| then.parent.eq_ignore_ascii_case(&parent_then)).collect();
        if keys_then.is_empty() {
            return Ok(News::All);
        }
        let is_same = |other: &&&ForeignKey| {
            same_names(&other.columns, &key.columns)
                && (parent.is_none() || same_names(&Self::parent_columns(then, other), &parent_columns))
        };
        if !keys_then.iter().any(|other| is_same(&other)) || self.state.encoding != Encoding::Utf8 {
            return Ok(News::Unknown);
        }
        let is_collated = self.is_collated(&child.name) || self.is_collated(parent_name);
        let is_kept = self.is_kept(&child.name, &child_then, &key.columns, is_collated)
            && (parent.is_none() || self.is_kept(parent_name, &parent_then, &parent_columns, is_collated));
        if !is_kept || (parent.is_none() && Self::table(then, &parent_then).is_some()) {
            return Ok(News::Unknown);
        }
        let Some(came) = self.keys(&child.name, &key.columns)?.map(|keys| keys.came) else { return Ok(News::Unknown) };
        let Some(parent) = parent else { return Ok(News::Some(came.iter().filter(|key| is_whole(key)).count() as u64)) };
        let Some(went) = self.keys(parent_name, &parent_columns)?.map(|keys| keys.went) else { return Ok(News::Unknown) };
        let went = self.missing(parent, &parent_columns, went)?;
        let mut came = self.missing(parent, &parent_columns, came)?;
        came.retain(|key, _| !went.contains_key(key));
        let fresh = came.values().map(|(count, _)| *count).sum::<u64>();
        if went.is_empty() {
            return Ok(News::Some(fresh));
        }
        let is_alike = !is_collated && same_affinities(child, &key.columns, parent, &parent_columns);
        if !is_alike || (went.len() > KEYS_UNINDEXED_MAX && !self.is_indexed(child, &key.columns)) {
            return Ok(News::Unknown);
        }
        let gone: Vec<&Vec<Value>> = went.values().map(|(_, key)| key).collect();
        Ok(News::Some(fresh + self.children(child, &key.columns, &gone)?))
    }

    /// Finds what became of columns of a table.
    fn keys(&self, table: &str, columns: &[String]) -> Result<Option<Keys>, EngineError> {
        if self.history.is_same(table) {
            return Ok(Some(Keys::default()));
        }
        // A table that was made anew may still have rows of before, under another name: whoever pairs tables knows.
        self.history.keys(table, columns, KEYS_MAX).map_err(EngineError::Input)
    }

    /// Tells whether these columns of a table are declared as they were, as far as references go.
    fn is_kept(&self, table: &str, then: &str, columns: &[String], is_collated: bool) -> bool {
        let sql = |schema: &Schema, name: &str| schema.object(ObjectKind::Table, name).and_then(|object| object.sql.clone());
        let (old, new) = (Self::table(self.history.schema(), then), Self::table(self.now, table));
        let (Some(old), Some(new)) = (old, new) else {
            // One that was not there then has keys that came, and none that went.
            return old.is_none();
        };
        let (sql_then, sql_now) = (sql(self.history.schema(), &old.name), sql(self.now, &new.name));
        let was_collated = sql_then.as_deref().is_some_and(says_collate);
        if (is_collated || was_collated) && sql_then != sql_now {
            return false;
        }
        let kept = |name: &String| {
            let (old, new) = (column(old, name), column(new, name));
            old.zip(new).is_some_and(|(old, new)| old.declared_type.eq_ignore_ascii_case(&new.declared_type))
        };
        old.strict == new.strict && columns.iter().all(kept)
    }

    fn is_collated(&self, table: &str) -> bool {
        let object = self.now.objects.iter().find(|object| object.kind == ObjectKind::Table && object.name.eq_ignore_ascii_case(table));
        object.and_then(|object| object.sql.as_deref()).is_some_and(says_collate)
    }

    /// Keeps the keys that the parent does not have, each once, with how many there are.
    fn missing(
        &self,
        parent: &Table,
        columns: &[String],
        keys: Vec<Vec<Value>>,
    ) -> Result<HashMap<String, (u64, Vec<Value>)>, EngineError> {
        let terms: Vec<String> = columns.iter().enumerate().map(|(at, name)| format!("{}=?{}", quote(name), at + 1)).collect();
        let sql = format!("SELECT EXISTS(SELECT 1 FROM main.{} WHERE {})", quote(&parent.name), terms.join(" AND "));
        let fail = |error| self.state.explain(error, &format!("looking for rows of table `{}`", parent.name));
        let mut statement = None;
        let mut missing: HashMap<String, (u64, Vec<Value>)> = HashMap::new();
        for key in keys.into_iter().filter(|key| is_whole(key) && key.len() == columns.len()) {
            let name = key.iter().map(Value::to_json).collect::<Vec<_>>().join(",");
            if let Some((count, _)) = missing.get_mut(&name) {
                *count += 1;
                continue;
            }
            let statement = match &mut statement {
                Some(statement) => statement,
                empty => empty.insert(self.state.connection.prepare(&sql).map_err(fail)?),
            };
            let is_there: bool = statement.query_row(rusqlite::params_from_iter(key.iter().map(Bound)), |row| row.get(0)).map_err(fail)?;
            if !is_there {
                missing.insert(name, (1, key));
            }
        }
        Ok(missing)
    }

    /// Counts the rows that refer to one of these keys.
    fn children(&self, child: &Table, columns: &[String], keys: &[&Vec<Value>]) -> Result<u64, EngineError> {
        let fail = |error| self.state.explain(error, &format!("looking for rows of table `{}`", child.name));
        let mut count = 0;
        let at_once = if columns.len() == 1 { VALUES_AT_ONCE } else { TERMS_AT_ONCE };
        for keys in keys.chunks(at_once) {
            let condition = match columns {
                [column] => format!("{} IN ({})", quote(column), vec!["?"; keys.len()].join(",")),
                _ => {
                    let term = columns.iter().map(|column| format!("{}=?", quote(column))).collect::<Vec<_>>().join(" AND ");
                    vec![format!("({term})"); keys.len()].join(" OR ")
                }
            };
            let sql = format!("SELECT count(*) FROM main.{} WHERE {condition}", quote(&child.name));
            let mut statement = self.state.connection.prepare(&sql).map_err(fail)?;
            let values = rusqlite::params_from_iter(keys.iter().flat_map(|key| key.iter().map(Bound)));
            count += statement.query_row(values, |row| row.get::<_, i64>(0)).map_err(fail)?.unsigned_abs();
        }
        Ok(count)
    }

    /// Tells whether an index, or the primary key, begins with these columns, in any order.
    fn is_indexed(&self, table: &Table, columns: &[String]) -> bool {
        let begins = |names: &[&str]| {
            let head = names.get(..columns.len()).unwrap_or_default();
            columns.iter().all(|column| head.iter().any(|name| name.eq_ignore_ascii_case(column)))
        };
        let primary: Vec<&str> = table.primary_key.iter().map(String::as_str).collect();
        let indexes = self.now.indexes.iter().filter(|index| index.table.eq_ignore_ascii_case(&table.name) && !index.partial);
        begins(&primary)
            || indexes.into_iter().any(|index| begins(&index.columns.iter().map(|name| name.as_deref().unwrap_or("")).collect::<Vec<_>>()))
    }
}

fn column<'t>(table: &'t Table, name: &str) -> Option<&'t Column> {
    table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

fn same_names(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// Tells whether a key refers to anything at all.
fn is_whole(key: &[Value]) -> bool {
    !key.iter().any(|value| matches!(value, Value::Null))
}

fn says_collate(sql: &str) -> bool {
    sql.to_ascii_lowercase().contains("collate")
}

/// Tells whether a value stands in both columns of each pair in the same way.
fn same_affinities(child: &Table, columns: &[String], parent: &Table, parent_columns: &[String]) -> bool {
    let affinity_of = |table: &Table, name: &String| column(table, name).map(|column| affinity(&column.declared_type, table.strict));
    let is_same = |(child_column, parent_column): (&String, &String)| {
        let found = affinity_of(child, child_column);
        found.is_some() && found == affinity_of(parent, parent_column)
    };
    columns.len() == parent_columns.len() && columns.iter().zip(parent_columns).all(is_same)
}

/// What becomes of a value that is stored (<https://www.sqlite.org/datatype3.html>, section 3.1); INTEGER and NUMERIC do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Text,
    Numeric,
    Real,
    Blob,
}

fn affinity(declared: &str, is_strict: bool) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let says = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    if says(&["INT"]) {
        Affinity::Numeric
    } else if says(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if says(&["BLOB"]) || declared.is_empty() || (is_strict && declared == "ANY") {
        Affinity::Blob
    } else if says(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

#[cfg(test)]
mod tests;
