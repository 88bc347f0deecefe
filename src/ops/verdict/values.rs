//! Where the values went that are gone from a column, row by row or as a whole. `moved.rs` says by what rules.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::links;
use super::marks::{self, NOTHING};
use super::matching::projection;
use super::moved::{Moved, MovedBy};
use super::search::{Rows, Search, Touched};
use crate::ops::OpError;
use crate::rows::TableShape;
use crate::snapshot::changes::{Cell, Cells, RowChange};

/// Values that went from a column.
#[derive(Default)]
pub(super) struct Held {
    /// The marks of their rows' keys; empty where rows have no key.
    pub(super) keys: Vec<u64>,
    pub(super) marks: Vec<u64>,
    /// Whether any value is telling, see [`marks::is_telling`].
    pub(super) is_telling: bool,
    /// Whether any value is no integer.
    pub(super) is_text: bool,
    /// Where their rows stand now, if not in their own table: the pair's index, and for each value a row among those that came to it.
    pub(super) went: Option<(usize, Vec<usize>)>,
}

impl Held {
    pub(super) fn count(&self) -> u64 {
        self.marks.len() as u64
    }

    pub(super) fn different(&self) -> HashSet<u64> {
        self.marks.iter().copied().collect()
    }

    /// Takes a value of a row, the row as the table had it before.
    pub(super) fn push(&mut self, shape: &TableShape, row: &[Cell], cell: &str) {
        self.see(key_mark(shape.identity.iter().filter_map(|&key| row.get(key))), cell);
    }

    fn see(&mut self, key: Option<u64>, cell: &str) {
        self.keys.extend(key);
        self.marks.push(marks::mark(cell));
        self.is_telling |= marks::is_telling(cell);
        self.is_text |= cell.starts_with(['"', '{']) || cell.contains('.');
    }
}

/// Returns what stands for a key, of one column or several; none where there is no key.
pub(super) fn key_mark<'a>(cells: impl Iterator<Item = &'a Cell>) -> Option<u64> {
    keys_mark(cells.map(|cell| marks::mark(cell)))
}

/// Returns what stands for the marks of a key's cells: of one column, its mark.
pub(super) fn keys_mark(mut marks: impl Iterator<Item = u64>) -> Option<u64> {
    let first = marks.next()?;
    let Some(second) = marks.next() else { return Some(first) };
    Some(projection([first, second].into_iter().chain(marks)) as u64)
}

/// Where values of a column may not be looked for: where they stood.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// The pair's index.
    pub(super) at: usize,
    /// The column's name before.
    pub(super) column: &'a str,
    /// Its index after, if it is still there.
    pub(super) after: Option<usize>,
}

/// Finds where the values of a column went.
pub(super) fn values(search: &Search<'_>, origin: Origin<'_>, held: &Held) -> Result<Option<Moved>, OpError> {
    let Some(before) = &search.touched[origin.at].pair.before else { return Ok(None) };
    let wanted = held.different();
    let mut lookups: Vec<(usize, usize)> = Vec::new();
    let mut beside_key: Option<(bool, String, String)> = None;
    for (target, touched) in search.targets() {
        let Some(after) = &touched.pair.after else { continue };
        let Some(came) = search.arrivals(target)? else { continue };
        let keys = keys_in(before, after);
        for (to, shape) in after.columns.iter().enumerate() {
            let is_origin = target == origin.at && Some(to) == origin.after;
            if shape.hidden || shape.generated || is_origin || !wanted.is_subset(&came.different(to)) {
                continue;
            }
            let is_namesake = shape.name.eq_ignore_ascii_case(origin.column);
            // A flag that all have is like any other such flag.
            let is_meant = is_namesake || wanted.len() > 1;
            if is_meant
                && beside_key.as_ref().is_none_or(|(was_namesake, ..)| is_namesake && !was_namesake)
                && keys.iter().any(|key| !key.contains(&to) && stands_beside(&came, key, to, held))
            {
                beside_key = Some((is_namesake, after.name.clone(), shape.name.clone()));
            } else {
                lookups.push((target, to));
            }
        }
    }
    let (by, to_table, to_column) = match beside_key {
        Some((_, table, column)) => (MovedBy::Values, table, column),
        None => match links::followed(search, origin, held, &lookups)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    let different = (by != MovedBy::Values && wanted.len() < held.marks.len()).then_some(wanted.len() as u64);
    let (count, column) = (held.count(), Some(origin.column.to_owned()));
    Ok(Some(Moved { table: before.name.clone(), column, to_table, to_columns: vec![to_column], count, of: count, different, by }))
}

/// Lists what may be the key of another table's rows in a table: each of its columns, or those of the same names where the key has several.
fn keys_in(before: &TableShape, after: &TableShape) -> Vec<Vec<usize>> {
    if before.identity.len() < 2 {
        return (0..after.columns.len()).map(|column| vec![column]).collect();
    }
    let named = |&column: &usize| {
        let name = &before.columns.get(column)?.name;
        after.columns.iter().position(|other| other.name.eq_ignore_ascii_case(name))
    };
    before.identity.iter().map(named).collect::<Option<Vec<usize>>>().into_iter().collect()
}

/// Tells whether each value stands in one row with the key that its row had.
fn stands_beside(came: &Rows, key: &[usize], to: usize, held: &Held) -> bool {
    if held.keys.len() != held.marks.len() || held.keys.is_empty() {
        return false;
    }
    let rows = (0..came.len()).filter(|&row| came.is_fresh(row, to));
    let pair = |row: usize| Some((keys_mark(key.iter().map(|&key| came.mark(row, key)))?, came.mark(row, to)));
    let pairs: HashSet<(u64, u64)> = rows.filter_map(pair).collect();
    held.keys.iter().zip(&held.marks).all(|(key, mark)| pairs.contains(&(*key, *mark)))
}

/// Finds a column whose whole content is that of another which was not there before: by digests, whatever the size.
pub(super) fn whole_column(search: &Search<'_>, origin: Origin<'_>, column: usize, held: u64) -> Result<Option<Moved>, OpError> {
    let comparison = search.comparison;
    let pair = search.touched[origin.at].pair;
    let Some(before) = &pair.before else { return Ok(None) };
    let Some((_, manifest)) = comparison.before.table(&before.name) else { return Ok(None) };
    let Some(digest) = manifest.columns.get(column).map(|column| column.digest) else { return Ok(None) };
    let stood = |table: &str, name: &str| {
        let found = comparison.before.table(table).map(|(_, manifest)| manifest);
        found.is_some_and(|manifest| manifest.columns.iter().any(|column| column.shape.name == name && column.digest == digest))
    };
    let mut different: Option<usize> = None;
    for touched in search.touched.iter().filter(|touched| touched.is_data) {
        let Some((_, after)) = touched.pair.after.as_ref().and_then(|shape| comparison.after.table(&shape.name)) else { continue };
        for (at, to) in after.columns.iter().enumerate() {
            let is_key = after.identity == [at];
            if to.digest != digest || to.shape.hidden || to.shape.generated || is_key || stood(&after.name, &to.shape.name) {
                continue;
            }
            let different = match different {
                Some(known) => known,
                None => {
                    let mut few = HashSet::new();
                    search.columns(manifest, &[column], &mut |cells| {
                        if let Some(cell) = cells.first().filter(|_| few.len() < 3) {
                            few.insert(marks::mark(cell));
                        }
                    })?;
                    *different.insert(few.len())
                }
            };
            if to.shape.name.eq_ignore_ascii_case(origin.column) || different > 2 {
                return Ok(Some(Moved {
                    table: before.name.clone(),
                    column: Some(origin.column.to_owned()),
                    to_table: after.name.clone(),
                    to_columns: vec![to.shape.name.clone()],
                    count: held,
                    of: held,
                    different: None,
                    by: MovedBy::Values,
                }));
            }
        }
    }
    Ok(None)
}

/// Collects the values of a column that went, but for those of rows that went with them. None where there are too many.
pub(super) fn held_in_column(search: &Search<'_>, at: usize, column: usize) -> Result<Option<Held>, OpError> {
    let Touched { pair, counts, .. } = &search.touched[at];
    let Some(before) = &pair.before else { return Ok(None) };
    let Some((_, manifest)) = search.comparison.before.table(&before.name) else { return Ok(None) };
    let narrow = TableShape { columns: before.columns.iter().take(2).cloned().collect(), ..before.clone() };
    if !search.fits(&narrow, manifest.rows) {
        return Ok(None);
    }
    let mut removed = HashSet::new();
    if counts.removed > 0 {
        let Some(gone) = search.departures(at)? else { return Ok(None) };
        removed = (0..gone.len()).filter_map(|row| keys_mark(before.identity.iter().map(|&key| gone.mark(row, key)))).collect();
    }
    let columns: Vec<usize> = std::iter::once(column).chain(before.identity.iter().copied()).collect();
    let mut held = Held::default();
    search.columns(manifest, &columns, &mut |cells| {
        let key = key_mark(cells.iter().skip(1).copied());
        if let Some(cell) = cells.first().filter(|cell| marks::mark(cell) != NOTHING)
            && !key.is_some_and(|key| removed.contains(&key))
        {
            held.see(key, cell);
        }
    })?;
    Ok(Some(held))
}

/// Collects the values that changed rows held in a paired column. None where there are too many.
pub(super) fn held_in_changed(search: &Search<'_>, at: usize, column: usize) -> Result<Option<Held>, OpError> {
    let Touched { pair, counts, .. } = &search.touched[at];
    let Some(shape) = &pair.before else { return Ok(None) };
    let Some(place) = pair.columns.get(column).and_then(|column| column.before) else { return Ok(None) };
    let narrow = TableShape { columns: shape.columns.iter().take(2).cloned().collect(), ..shape.clone() };
    if !search.fits(&narrow, counts.changed) {
        return Ok(None);
    }
    let mut held = Held::default();
    search.comparison.rows(pair, Cells::Telling, &mut |change| {
        if let RowChange::Changed { before, columns, .. } = change
            && columns.contains(&column)
            && let Some(cell) = before.get(place).filter(|cell| marks::mark(cell) != NOTHING)
        {
            held.push(shape, &before, cell);
        }
        ControlFlow::Continue(())
    })?;
    Ok(Some(held))
}
