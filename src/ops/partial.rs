//! Restoring some rows: which ones are chosen, what they need, and what they meet where they go.
//!
//! [`Choice`] is plain data, and what `--dry-run` prints: the rows that were asked for, and the rows that those refer to by foreign keys, and so on
//! until nothing is missing, each with the key because of which it comes along. [`write`] carries it out in one transaction.
//!
//! Values of a key are compared as they are stored; numbers are taken for the same text where the parent's column would take them so, which is what
//! SQLite does. Collations are not looked at.

pub mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use serde::Serialize;

use super::OpError;
use super::capture::State;
use crate::schema::{ForeignKey, TableKind};
use crate::snapshot::changes::{Cell, Row};
use crate::snapshot::manifest::TableManifest;
use crate::snapshot::rowdiff;
use crate::store::Store;

/// Rows of a table, by their place in the table's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Each of them.
    All,
    /// These.
    Some(BTreeSet<u64>),
}

impl Rows {
    /// Tells whether a row is among them.
    pub fn contains(&self, place: u64) -> bool {
        match self {
            Self::All => true,
            Self::Some(places) => places.contains(&place),
        }
    }

    fn count(&self, manifest: &TableManifest) -> u64 {
        match self {
            Self::All => manifest.rows,
            Self::Some(places) => places.len() as u64,
        }
    }
}

/// A foreign key, and what it brings or lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The referring table.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The table referred to.
    pub parent: String,
    /// How many of its rows.
    pub rows: u64,
}

/// Which rows are restored.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The rows of each table, asked for or brought along.
    pub tables: BTreeMap<String, Rows>,
    /// How many of each table were asked for.
    pub asked: Vec<(String, u64)>,
    /// What brought rows along, in the order in which it was found.
    pub brought: Vec<Link>,
    /// Keys of chosen rows that have no parent in the snapshot itself.
    pub orphans: Vec<Link>,
    /// Keys of chosen rows whose parents are left out.
    pub left_out: Vec<Link>,
}

/// Whether what chosen rows refer to is brought along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closure {
    /// It is.
    Whole,
    /// It is left out, and named.
    None,
}

/// A foreign key by places of columns.
struct Key<'s> {
    key: &'s ForeignKey,
    columns: Vec<usize>,
    parent: &'s TableManifest,
    parent_columns: Vec<usize>,
}

/// Completes a choice by what its rows refer to.
///
/// # Errors
/// [`OpError::NoTable`] for a table that the state does not have, and the store's.
pub fn close(state: &State, store: &Store, asked: Vec<(String, Rows)>, closure: Closure) -> Result<Choice, OpError> {
    let mut choice = Choice::default();
    let mut waiting: Vec<(String, Rows)> = Vec::new();
    for (name, rows) in asked {
        let manifest = manifest(state, &name)?;
        choice.asked.push((name.clone(), rows.count(manifest)));
        choice.tables.insert(name.clone(), rows.clone());
        waiting.push((name, rows));
    }
    // Each round brings rows that were not there, so it ends.
    while let Some((name, rows)) = waiting.pop() {
        let child = manifest(state, &name)?;
        for key in keys(state, child) {
            let wanted = referred(child, &rows, &key, store)?;
            if wanted.is_empty() {
                continue;
            }
            let parent = &key.parent.name;
            if closure == Closure::None {
                let known = choice.tables.get(parent).cloned().unwrap_or_else(|| Rows::Some(BTreeSet::new()));
                let (_, found) = look(&key, &wanted, &known, store)?;
                add(&mut choice.left_out, &name, &key, (wanted.len() - found) as u64);
                continue;
            }
            if choice.tables.get(parent) == Some(&Rows::All) {
                continue;
            }
            let (places, found) = look(&key, &wanted, &Rows::All, store)?;
            add(&mut choice.orphans, &name, &key, (wanted.len() - found) as u64);
            let known = choice.tables.entry(parent.clone()).or_insert_with(|| Rows::Some(BTreeSet::new()));
            let Rows::Some(known) = known else { continue };
            let new: BTreeSet<u64> = places.difference(known).copied().collect();
            if new.is_empty() {
                continue;
            }
            known.extend(&new);
            add(&mut choice.brought, &name, &key, new.len() as u64);
            waiting.push((parent.clone(), Rows::Some(new)));
        }
    }
    choice.tables.retain(|_, rows| *rows != Rows::Some(BTreeSet::new()));
    Ok(choice)
}

fn add(links: &mut Vec<Link>, table: &str, key: &Key<'_>, rows: u64) {
    if rows == 0 {
        return;
    }
    match links.iter_mut().find(|link| link.table == table && link.columns == key.key.columns && link.parent == key.parent.name) {
        Some(link) => link.rows += rows,
        None => links.push(Link { table: table.to_owned(), columns: key.key.columns.clone(), parent: key.parent.name.clone(), rows }),
    }
}

fn manifest<'s>(state: &'s State, name: &str) -> Result<&'s TableManifest, OpError> {
    let found = state.table(name).map(|(_, manifest)| manifest);
    found.ok_or_else(|| OpError::NoTable(name.to_owned(), "the snapshot".to_owned()))
}

/// Returns the foreign keys of a table whose parents have rows in the state.
fn keys<'s>(state: &'s State, child: &TableManifest) -> Vec<Key<'s>> {
    let place = |manifest: &TableManifest, name: &String| {
        manifest.columns.iter().position(|column| column.shape.name.eq_ignore_ascii_case(name) && !column.shape.hidden)
    };
    let Some(table) = state.schema.table(&child.name) else { return Vec::new() };
    let key = |key: &'s ForeignKey| {
        let exact = state.table(&key.parent);
        let (_, parent) = exact.or_else(|| state.tables.iter().find(|(_, manifest)| manifest.name.eq_ignore_ascii_case(&key.parent)))?;
        let named = &key.parent_columns;
        let parent_names = if named.is_empty() { &state.schema.table(&parent.name)?.primary_key } else { named };
        let columns = key.columns.iter().map(|name| place(child, name)).collect::<Option<Vec<_>>>()?;
        let parent_columns = parent_names.iter().map(|name| place(parent, name)).collect::<Option<Vec<_>>>()?;
        (columns.len() == parent_columns.len() && !columns.is_empty()).then_some(Key { key, columns, parent, parent_columns })
    };
    table.foreign_keys.iter().filter_map(key).collect()
}

/// Returns the keys to which rows refer, as the parent has them. A key with a NULL refers to nothing.
fn referred(child: &TableManifest, rows: &Rows, key: &Key<'_>, store: &Store) -> Result<HashSet<String>, OpError> {
    let mut wanted = HashSet::new();
    each_row(child, store, &mut |place, row| {
        if rows.contains(place) {
            wanted.extend(text(&row, &key.columns, key));
        }
    })?;
    Ok(wanted)
}

/// Finds which of the rows of a parent have one of these keys; returns their places, and how many of the keys were found.
fn look(key: &Key<'_>, wanted: &HashSet<String>, among: &Rows, store: &Store) -> Result<(BTreeSet<u64>, usize), OpError> {
    let (mut places, mut found) = (BTreeSet::new(), HashSet::new());
    each_row(key.parent, store, &mut |place, row| {
        if among.contains(place)
            && let Some(text) = text(&row, &key.parent_columns, key)
            && wanted.contains(&text)
        {
            places.insert(place);
            found.insert(text);
        }
    })?;
    Ok((places, found.len()))
}

/// Writes the values of a key so that equal ones are equal; none where one is NULL.
fn text(row: &Row, columns: &[usize], key: &Key<'_>) -> Option<String> {
    let mut text = String::new();
    for (&column, &parent) in columns.iter().zip(&key.parent_columns) {
        let cell: &Cell = row.get(column)?;
        if &**cell == "null" {
            return None;
        }
        text.push_str(&as_parent(cell, &key.parent.columns.get(parent)?.shape.declared_type));
        text.push(',');
    }
    Some(text)
}

/// Writes a value as a column of this type would have it.
fn as_parent(cell: &str, declared_type: &str) -> String {
    let declared = declared_type.to_ascii_uppercase();
    let is_text = ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word)) && !declared.contains("INT");
    if is_text && cell.parse::<i64>().is_ok() {
        return format!("\"{cell}\"");
    }
    let inner = cell.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner.filter(|inner| declared.contains("INT") && inner.parse::<i64>().is_ok_and(|integer| integer.to_string() == **inner)) {
        Some(inner) => inner.to_owned(),
        // 1.0 refers to 1.
        None => cell.strip_suffix(".0").filter(|whole| whole.parse::<i64>().is_ok()).unwrap_or(cell).to_owned(),
    }
}

/// Goes through the rows of a table, with their places.
pub(super) fn each_row(manifest: &TableManifest, store: &Store, each: &mut dyn FnMut(u64, Row)) -> Result<(), OpError> {
    let mut place = 0;
    rowdiff::table_rows(manifest, store, &mut |row| {
        each(place, row);
        place += 1;
        ControlFlow::Continue(())
    })?;
    Ok(())
}

/// Finds the places of the rows with these keys: each the canonical JSON of the cells that [`key_columns`] names, joined by commas. Where rows are not
/// told apart by a key, as many of the same content as were named.
///
/// # Errors
/// The store's.
pub fn places(manifest: &TableManifest, keys: Vec<String>, store: &Store) -> Result<Rows, OpError> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    let columns = key_columns(manifest);
    let mut places = BTreeSet::new();
    each_row(manifest, store, &mut |place, row| {
        let cells: Vec<&str> = columns.iter().filter_map(|&at| row.get(at)).map(|cell| &**cell).collect();
        if let Some(count) = counts.get_mut(&cells.join(",")).filter(|count| **count > 0) {
            *count -= 1;
            places.insert(place);
        }
    })?;
    Ok(Rows::Some(places))
}

/// Returns the columns by which a question names the rows of a table: what locates one, else all.
pub fn key_columns(manifest: &TableManifest) -> Vec<usize> {
    if manifest.locator.is_empty() { (0..manifest.columns.len()).collect() } else { manifest.locator.clone() }
}

/// Tells whether the rows of a table can be restored by themselves.
pub fn is_restorable(state: &State, name: &str) -> bool {
    state.schema.table(name).is_some_and(|table| matches!(table.kind, TableKind::Ordinary))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_key_are_compared_as_the_parent_has_them() {
        for (cell, declared, expected) in [
            ("1", "INTEGER", "1"),
            ("\"1\"", "INTEGER", "1"),
            ("\"01\"", "INTEGER", "\"01\""),
            ("1.0", "INTEGER", "1"),
            ("1.5", "", "1.5"),
            ("1", "TEXT", "\"1\""),
            ("\"a\"", "varchar(10)", "\"a\""),
            ("\"1\"", "", "\"1\""),
        ] {
            assert_eq!(as_parent(cell, declared), expected, "{cell} {declared}");
        }
    }
}
