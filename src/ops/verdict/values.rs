//! Where the values went that are gone from a column, row by row or as a whole. `moved.rs` says by what rules.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::marks::{self, NOTHING};
use super::moved::{Moved, MovedBy};
use super::search::{Rows, Search, Touched};
use crate::ops::OpError;
use crate::rows::TableShape;
use crate::snapshot::changes::{Cell, Cells, RowChange};

/// Values that went from a column.
#[derive(Default)]
pub(super) struct Held {
    /// The marks of their rows' keys; empty where rows have no key of one column.
    pub(super) keys: Vec<u64>,
    pub(super) marks: Vec<u64>,
    /// Whether any value is telling, see [`marks::is_telling`].
    pub(super) is_telling: bool,
    /// Whether any value is no integer.
    pub(super) is_text: bool,
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
        self.see(single_key(shape).and_then(|key| row.get(key)), cell);
    }

    fn see(&mut self, key: Option<&Cell>, cell: &str) {
        self.keys.extend(key.map(|key| marks::mark(key)));
        self.marks.push(marks::mark(cell));
        self.is_telling |= marks::is_telling(cell);
        self.is_text |= cell.starts_with(['"', '{']) || cell.contains('.');
    }
}

/// Returns the column that is the key, where it is one.
pub(super) fn single_key(shape: &TableShape) -> Option<usize> {
    match shape.identity.as_slice() {
        [key] => Some(*key),
        _ => None,
    }
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
    let mut lookup = None;
    let mut beside_key: Option<(bool, String, String)> = None;
    for (target, touched) in search.targets() {
        let Some(after) = &touched.pair.after else { continue };
        let Some(came) = search.arrivals(target)? else { continue };
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
                && (0..after.columns.len()).any(|key| key != to && stands_beside(&came, key, to, held))
            {
                beside_key = Some((is_namesake, after.name.clone(), shape.name.clone()));
            } else if wanted.len() > 2 && held.is_telling && held.is_text && lookup.is_none() {
                lookup = Some((after.name.clone(), shape.name.clone()));
            }
        }
    }
    let (by, to_table, to_column) = match (beside_key, lookup) {
        (Some((_, table, column)), _) => (MovedBy::Values, table, column),
        (None, Some((table, column))) => (MovedBy::Lookup, table, column),
        (None, None) => return Ok(None),
    };
    let different = (by == MovedBy::Lookup && wanted.len() < held.marks.len()).then_some(wanted.len() as u64);
    let (count, column) = (held.count(), Some(origin.column.to_owned()));
    Ok(Some(Moved { table: before.name.clone(), column, to_table, to_columns: vec![to_column], count, of: count, different, by }))
}

/// Tells whether each value stands in one row with the key that its row had.
fn stands_beside(came: &Rows, key: usize, to: usize, held: &Held) -> bool {
    if held.keys.len() != held.marks.len() || held.keys.is_empty() {
        return false;
    }
    let rows = (0..came.len()).filter(|&row| came.is_fresh(row, to));
    let pairs: HashSet<(u64, u64)> = rows.map(|row| (came.mark(row, key), came.mark(row, to))).collect();
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
    let key = single_key(before);
    let mut removed = HashSet::new();
    if let (1.., Some(key)) = (counts.removed, key) {
        let Some(gone) = search.departures(at)? else { return Ok(None) };
        removed = (0..gone.len()).map(|row| gone.mark(row, key)).collect();
    }
    let columns: Vec<usize> = std::iter::once(column).chain(key).collect();
    let mut held = Held::default();
    search.columns(manifest, &columns, &mut |cells| {
        let key = cells.get(1).copied();
        if let Some(cell) = cells.first().filter(|cell| marks::mark(cell) != NOTHING)
            && !key.is_some_and(|key| removed.contains(&marks::mark(key)))
        {
            held.see(key, cell);
        }
    })?;
    Ok(Some(held))
}

/// Collects the values that changed rows held in a paired column. None where there are too many.
pub(super) fn held_in_changed(search: &Search<'_>, at: usize, column: usize) -> Result<Option<Held>, OpError> {
    let Touched { pair, counts, .. } = &search.touched[at];
    let Some(before) = &pair.before else { return Ok(None) };
    let Some(place) = pair.columns.get(column).and_then(|column| column.before) else { return Ok(None) };
    let narrow = TableShape { columns: before.columns.iter().take(2).cloned().collect(), ..before.clone() };
    if !search.fits(&narrow, counts.changed) {
        return Ok(None);
    }
    let key = single_key(before);
    let mut held = Held::default();
    search.comparison.rows(pair, Cells::Telling, &mut |change| {
        if let RowChange::Changed { before, columns, .. } = change
            && columns.contains(&column)
            && let Some(cell) = before.get(place).filter(|cell| marks::mark(cell) != NOTHING)
        {
            held.see(key.and_then(|key| before.get(key)), cell);
        }
        ControlFlow::Continue(())
    })?;
    Ok(Some(held))
}
