//! Why rows went, or references became NULL: the foreign key through which something that happened to another table reached them.
//!
//! A cause is told only on evidence. Rows can have gone through a key only where they referred to something; where that no longer stands in the
//! parent, the parent's rows were deleted; where it does, the parent was dropped and made again, and then no referring row can be left.

use std::collections::HashSet;

use super::marks::{self, NOTHING};
use super::search::Search;
use crate::ops::OpError;
use crate::ops::capture::State;
use crate::ops::compare::Comparison;
use crate::render::text::number;
use crate::schema::{ForeignKey, ObjectKind, Schema};
use crate::snapshot::changes::TablePair;
use crate::snapshot::manifest::TableManifest;

/// How many keys a chain of causes may have.
const CHAIN_MAX: usize = 5;

/// How many rows a parent may have to be read.
const PARENT_ROWS_MAX: u64 = 1 << 22;

/// Writes a foreign key: `` `posts.author_id` -> `users.id` ``.
pub(super) fn name(schema: &Schema, table: &str, key: &ForeignKey) -> String {
    let side = |table: &str, columns: &[String]| match columns {
        [] => format!("`{table}`"),
        [column] => format!("`{table}.{column}`"),
        columns => format!("`{table}({})`", columns.join(", ")),
    };
    format!("{} -> {}", side(table, &key.columns), side(&key.parent, &parent_columns(schema, key)))
}

/// Returns the columns that a key refers to.
pub(super) fn parent_columns(schema: &Schema, key: &ForeignKey) -> Vec<String> {
    if !key.parent_columns.is_empty() {
        return key.parent_columns.clone();
    }
    let parent = schema.tables.iter().find(|table| table.name.eq_ignore_ascii_case(&key.parent));
    parent.map(|table| table.primary_key.clone()).unwrap_or_default()
}

/// Explains why rows of a pair went.
pub(super) fn of_rows(search: &Search<'_>, at: usize) -> Result<Option<String>, OpError> {
    chain(search, at, CHAIN_MAX)
}

/// Explains why values of a column became NULL or their default; `values` are the marks of those before.
pub(super) fn of_values(search: &Search<'_>, at: usize, column: &str, values: &HashSet<u64>) -> Result<Option<String>, OpError> {
    let pair = search.touched[at].pair;
    let Some(before) = &pair.before else { return Ok(None) };
    let schema = &search.comparison.before.schema;
    let keys = schema.table(&before.name).map_or(&[][..], |table| &table.foreign_keys);
    for key in keys.iter().filter(|key| matches!(key.on_delete.as_str(), "SET NULL" | "SET DEFAULT")) {
        let Some(place) = key.columns.iter().position(|name| name.eq_ignore_ascii_case(column)) else { continue };
        let Some(parent) = Parent::of(search, key)? else { continue };
        let stays = parent.standing.as_ref().map(|standing| {
            let place: HashSet<u64> = standing.iter().filter_map(|row| row.get(place).copied()).collect();
            values.iter().any(|value| place.contains(value))
        });
        if let Some(event) = parent.event(stays, true) {
            return Ok(Some(format!(
                "they went through the foreign key {} ON DELETE {}, {event}",
                name(schema, &before.name, key),
                key.on_delete
            )));
        }
    }
    Ok(None)
}

fn chain(search: &Search<'_>, at: usize, links: usize) -> Result<Option<String>, OpError> {
    let touched = &search.touched[at];
    let (Some(before), Some(rows)) = (&touched.pair.before, search.departures(at)?) else { return Ok(None) };
    let schema = &search.comparison.before.schema;
    let keys = schema.table(&before.name).map_or(&[][..], |table| &table.foreign_keys);
    let mut best: Option<(usize, String)> = None;
    for key in keys.iter().filter(|key| key.on_delete == "CASCADE" && !key.parent.eq_ignore_ascii_case(&before.name)) {
        let Some(columns) =
            columns_of(&key.columns, |name| before.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)))
        else {
            continue;
        };
        let Some(parent) = Parent::of(search, key)? else { continue };
        let tuple = |row: usize| columns.iter().map(|&column| rows.mark(row, column)).collect::<Vec<_>>();
        let referring: Vec<Vec<u64>> = (0..rows.len()).map(tuple).filter(|tuple| !tuple.contains(&NOTHING)).collect();
        if referring.is_empty() {
            continue;
        }
        let stays = parent.standing.as_ref().map(|standing| referring.iter().any(|tuple| standing.contains(tuple)));
        let nobody_left = || -> Result<bool, OpError> {
            let Some((_, manifest)) = search.comparison.before.table(&before.name) else { return Ok(false) };
            let mut referring_before = 0;
            search.columns(manifest, &columns, &mut |cells| {
                referring_before += usize::from(cells.iter().all(|cell| marks::mark(cell) != NOTHING));
            })?;
            Ok(referring_before == referring.len())
        };
        // A row that was replaced takes all that refer to it along; and what never stood there was not deleted.
        let is_impossible = match stays {
            Some(true) => refers_still(search, touched.pair, &columns, &referring)?,
            Some(false) => parent.stood.as_ref().is_some_and(|stood| !referring.iter().any(|tuple| stood.contains(tuple))),
            None => false,
        };
        if is_impossible {
            continue;
        }
        let is_whole = stays == Some(true) && nobody_left()?;
        let Some(mut event) = parent.event(stays, is_whole) else { continue };
        // What was deleted may itself have gone with something else.
        if links > 0
            && stays != Some(true)
            && let Some(above) = search.touched.iter().position(|other| same_before(other.pair, &key.parent))
            && above != at
            && let Some(cause) = chain(search, above, links - 1)?
        {
            event = format!("with rows of `{}`, which went {cause}", key.parent);
        }
        let share = match links {
            CHAIN_MAX if referring.len() == rows.len() => "they went ".to_owned(),
            CHAIN_MAX => format!("{} of them went ", number(referring.len() as u64)),
            _ => String::new(),
        };
        let text = format!("{share}through the foreign key {} ON DELETE CASCADE, {event}", name(schema, &before.name, key));
        if best.as_ref().is_none_or(|(count, _)| *count < referring.len()) {
            best = Some((referring.len(), text));
        }
    }
    Ok(best.map(|(_, text)| text))
}

/// Tells whether a row of a table refers, after, to what rows that are gone referred to. `columns` are of its shape before.
fn refers_still(search: &Search<'_>, pair: &TablePair, columns: &[usize], referring: &[Vec<u64>]) -> Result<bool, OpError> {
    let after = |column: &usize| pair.columns.iter().find(|columns| columns.before == Some(*column))?.after;
    let (Some(shape), Some(columns)) = (&pair.after, columns.iter().map(after).collect::<Option<Vec<usize>>>()) else { return Ok(false) };
    let Some((_, manifest)) = search.comparison.after.table(&shape.name) else { return Ok(false) };
    let wanted: HashSet<&Vec<u64>> = referring.iter().collect();
    let mut refers = false;
    search.columns(manifest, &columns, &mut |cells| {
        refers |= wanted.contains(&cells.iter().map(|cell| marks::mark(cell)).collect::<Vec<u64>>());
    })?;
    Ok(refers)
}

fn same_before(pair: &TablePair, name: &str) -> bool {
    pair.before.as_ref().is_some_and(|shape| shape.name.eq_ignore_ascii_case(name))
}

fn columns_of(names: &[String], find: impl Fn(&str) -> Option<usize>) -> Option<Vec<usize>> {
    names.iter().map(|name| find(name)).collect()
}

/// The table that a foreign key refers to, and what became of it.
struct Parent<'a> {
    name: &'a str,
    /// Whether it is still there, maybe under another name.
    is_there: bool,
    is_rebuilt: bool,
    has_changed: bool,
    /// What can be referred to after; none where it was not read.
    standing: Option<HashSet<Vec<u64>>>,
    /// What could be referred to before; none where it was not read.
    stood: Option<HashSet<Vec<u64>>>,
}

impl<'a> Parent<'a> {
    fn of(search: &Search<'_>, key: &'a ForeignKey) -> Result<Option<Self>, OpError> {
        let comparison = search.comparison;
        let Some(pair) = comparison.pairs.iter().find(|pair| same_before(pair, &key.parent)) else { return Ok(None) };
        let (Some(before), is_there) = (&pair.before, pair.after.is_some()) else { return Ok(None) };
        let name = |shape: &Option<crate::rows::TableShape>| shape.as_ref().map(|shape| shape.name.clone()).unwrap_or_default();
        let manifest = comparison.after.table(&name(&pair.after)).map(|(_, manifest)| manifest);
        let columns = columns_of(&parent_columns(&comparison.before.schema, key), |name| {
            let at = before.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))?;
            pair.columns.iter().find(|columns| columns.before == Some(at))?.after
        });
        let standing = match (manifest, columns) {
            (Some(manifest), Some(columns)) if !columns.is_empty() && manifest.rows <= PARENT_ROWS_MAX => {
                Some(standing(search, manifest, &columns)?)
            }
            _ => None,
        };
        let columns = columns_of(&parent_columns(&comparison.before.schema, key), |name| {
            before.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
        });
        let stood = match (comparison.before.table(&before.name), columns) {
            (Some((_, manifest)), Some(columns)) if !columns.is_empty() && manifest.rows <= PARENT_ROWS_MAX => {
                Some(self::standing(search, manifest, &columns)?)
            }
            _ => None,
        };
        let is_rebuilt = is_rebuilt(comparison, &before.name, &name(&pair.after));
        // A column that came leaves every row as it was.
        let has_changed = search.touched.iter().any(|other| same_before(other.pair, &before.name) && !other.counts.is_empty());
        Ok(Some(Self { name: &key.parent, is_there, is_rebuilt, has_changed, standing, stood }))
    }

    /// Says what happened to it that reached others; `stays` tells whether what they referred to stands there still, `is_whole` whether nobody refers to
    /// it any more.
    fn event(&self, stays: Option<bool>, is_whole: bool) -> Option<String> {
        let name = self.name;
        match stays {
            _ if !self.is_there => Some(format!("when `{name}` was dropped")),
            Some(true) if self.is_rebuilt && is_whole => Some(format!("when `{name}` was rebuilt")),
            Some(true) if self.has_changed => Some(format!("when rows of `{name}` were replaced")),
            Some(true) => None,
            Some(false) => Some(format!("when rows of `{name}` were deleted")),
            None if self.is_rebuilt => Some(format!("when `{name}` was rebuilt")),
            None => None,
        }
    }
}

fn standing(search: &Search<'_>, manifest: &TableManifest, columns: &[usize]) -> Result<HashSet<Vec<u64>>, OpError> {
    let mut standing = HashSet::new();
    search.columns(manifest, columns, &mut |cells| {
        standing.insert(cells.iter().map(|cell| marks::mark(cell)).collect());
    })?;
    Ok(standing)
}

/// Tells whether a table was dropped and made again: its DDL is another, or it stands behind tables now that were made after it.
fn is_rebuilt(comparison: &Comparison<'_>, before: &str, after: &str) -> bool {
    let sql = |state: &State, name: &str| state.schema.object(ObjectKind::Table, name).and_then(|object| object.sql.clone());
    let (was, is) = (sql(comparison.before, before).unwrap_or_default(), sql(comparison.after, after).unwrap_or_default());
    // What ADD COLUMN appends leaves the table where it stood.
    let is_appended = is.starts_with(was.trim_end().trim_end_matches(')').trim_end());
    if was != is && !is_appended {
        return true;
    }
    let place = |state: &State, name: &str| state.tables.iter().position(|(_, manifest)| manifest.name == name);
    let (Some(was), Some(is)) = (place(comparison.before, before), place(comparison.after, after)) else { return false };
    let later = comparison.before.tables.iter().skip(was + 1);
    later.filter_map(|(_, other)| place(comparison.after, &other.name)).any(|other| other < is)
}
