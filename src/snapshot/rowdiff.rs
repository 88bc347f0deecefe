//! Comparing the rows of two tables, at a cost that follows their difference.
//!
//! Equal subtrees and equal row groups are dropped by id, unread (`src/snapshot/rowdiff/tree.rs`). Of what remains, groups with the same keys are
//! compared side by side (`aligned.rs` beside it); all other rows are joined by a 128-bit fingerprint (XXH3) of their keys, or of their whole content
//! where there is no key, as multisets. Rows are handed over as they stand in their tables: first those only before, then those only
//! after and the changed ones.

mod aligned;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use xxhash_rust::xxh3::Xxh3Default;

use super::changes::{Cells, ColumnPair, Row, RowChange, RowCounts, RowKey, TablePair};
use super::chunks::{Cache, Chunk, column_chunk, row_groups, rows_of};
use super::compare::{CompareError, Objects};
use super::manifest::{Group, TableManifest};
use crate::id::ObjectId;

/// Compares the rows of a pair by its key. Hidden row numbers never make a row a changed one.
///
/// # Errors
/// [`CompareError`].
pub fn diff_rows(
    pair: &TablePair,
    before: Option<&TableManifest>,
    after: Option<&TableManifest>,
    objects: &dyn Objects,
    cells: Cells,
    sink: &mut dyn FnMut(RowChange) -> ControlFlow<()>,
) -> Result<RowCounts, CompareError> {
    let mut counts = RowCounts { cells: vec![0; pair.columns.len()], ..RowCounts::default() };
    match (before, after) {
        (Some(before), Some(after)) => {
            let is_hidden = |pair: &ColumnPair| {
                pair.before.is_some_and(|at| before.columns[at].shape.hidden) || pair.after.is_some_and(|at| after.columns[at].shape.hidden)
            };
            let compared: Vec<usize> = (0..pair.columns.len())
                .filter(|&at| {
                    let columns = &pair.columns[at];
                    columns.before.is_some() && columns.after.is_some() && !is_hidden(columns)
                })
                .collect();
            let (key, number) = match &pair.key {
                RowKey::Columns(key) => {
                    let number =
                        pair.columns.iter().position(|columns| is_hidden(columns) && columns.before.is_some() && columns.after.is_some());
                    (Key::Columns(key.clone()), number)
                }
                RowKey::Content(number) => (Key::Content, *number),
            };
            let cache = Cache::new(objects);
            let is_added = |columns: &ColumnPair| columns.before.is_none() && !is_hidden(columns);
            let added = (0..pair.columns.len()).filter(|&at| is_added(&pair.columns[at])).collect();
            let diff = Diff { cache: &cache, before, after, columns: &pair.columns, compared, added, key, number, cells };
            let _ = diff.run(&mut counts, sink)?;
        }
        (Some(before), None) => {
            rows_of_table(before, objects, cells, &mut |row| {
                counts.removed += 1;
                sink(RowChange::Removed(row))
            })?;
        }
        (None, Some(after)) => {
            rows_of_table(after, objects, cells, &mut |row| {
                counts.added += 1;
                sink(RowChange::Added(row))
            })?;
        }
        (None, None) => {}
    }
    Ok(counts)
}

/// Compares two states of a table with the same columns by its locator. Every column counts, hidden row numbers too; the columns
/// of a change are indexes into the shape.
///
/// # Errors
/// [`CompareError`].
pub fn diff_exact(
    from: &TableManifest,
    to: &TableManifest,
    objects: &dyn Objects,
    cells: Cells,
    sink: &mut dyn FnMut(RowChange) -> ControlFlow<()>,
) -> Result<RowCounts, CompareError> {
    let width = from.columns.len().min(to.columns.len());
    let columns: Vec<ColumnPair> = (0..width).map(|at| ColumnPair { before: Some(at), after: Some(at) }).collect();
    let mut counts = RowCounts { cells: vec![0; width], ..RowCounts::default() };
    let cache = Cache::new(objects);
    let key = Key::Columns(to.locator.clone());
    let compared = (0..width).collect();
    let diff = Diff { cache: &cache, before: from, after: to, columns: &columns, compared, added: Vec::new(), key, number: None, cells };
    let _ = diff.run(&mut counts, sink)?;
    Ok(counts)
}

/// Hands over every row of a table, in its order.
///
/// # Errors
/// [`CompareError`].
pub fn table_rows(
    manifest: &TableManifest,
    objects: &dyn Objects,
    sink: &mut dyn FnMut(Row) -> ControlFlow<()>,
) -> Result<(), CompareError> {
    rows_of_table(manifest, objects, Cells::All, sink)
}

fn rows_of_table(
    manifest: &TableManifest,
    objects: &dyn Objects,
    cells: Cells,
    sink: &mut dyn FnMut(Row) -> ControlFlow<()>,
) -> Result<(), CompareError> {
    for group in row_groups(manifest, objects)? {
        let chunks = (0..manifest.columns.len())
            .map(|column| {
                let is_told = match cells {
                    Cells::All | Cells::Shown => true,
                    Cells::Telling => manifest.identity.contains(&column),
                    Cells::Unread => false,
                };
                if is_told { Chunk::read(manifest, &group, column, objects) } else { Ok(Chunk::Default(String::new())) }
            })
            .collect::<Result<Vec<_>, CompareError>>()?;
        for row in 0..rows_of(&group) {
            if sink(chunks.iter().map(|chunk| chunk.cell(row).into()).collect()).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Returns how many percent two tables have in common, in the first rows of both: of keys, or of the other cells in rows of the same key, whichever is
/// less. Numbers as keys prove nothing, since every table counts from 1: a table that has nothing else has nothing in common.
///
/// # Errors
/// [`CompareError`].
pub fn common_percent(pair: &TablePair, before: &TableManifest, after: &TableManifest, objects: &dyn Objects) -> Result<u64, CompareError> {
    const ROWS_MAX: usize = 500;
    let RowKey::Columns(key) = &pair.key else { return Ok(0) };
    let cache = Cache::new(objects);
    let both = |at: &usize| {
        let columns = &pair.columns[*at];
        let is_hidden = columns.before.is_some_and(|b| before.columns[b].shape.hidden);
        columns.before.is_some() && columns.after.is_some() && !is_hidden && !key.contains(at)
    };
    let others: Vec<usize> = (0..pair.columns.len()).filter(both).collect();
    let (columns, cells) = (pair.columns.as_slice(), Cells::Telling);
    let diff = Diff {
        cache: &cache,
        before,
        after,
        columns,
        compared: Vec::new(),
        added: Vec::new(),
        key: Key::Columns(key.clone()),
        number: None,
        cells,
    };
    let first = |groups: Vec<Group>| groups.into_iter().take(4).collect::<Vec<_>>();
    let (from, to) = (first(row_groups(before, objects)?), first(row_groups(after, objects)?));
    let mut marks = diff.fingerprints(&from, Which::Before)?;
    let mut other_marks = diff.fingerprints(&to, Which::After)?;
    let total = marks.len().min(other_marks.len()) as u64;
    let (pairs, _, _) = join(&mut marks, &mut other_marks);
    let percent = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
    let keys = percent(pairs.len() as u64, total);
    let (mut equal, mut seen) = (0, 0);
    for (b, a) in pairs.into_iter().take(ROWS_MAX) {
        for &column in others.iter().chain(if others.is_empty() { key.as_slice() } else { &[] }) {
            let cell = diff.cell(&from, b, column, Which::Before)?;
            let is_number = others.is_empty() && !cell.text().starts_with('"');
            seen += 1;
            equal += u64::from(!is_number && cell == diff.cell(&to, a, column, Which::After)?);
        }
    }
    Ok(keys.min(percent(equal, seen)))
}

#[derive(Clone)]
enum Key {
    /// These pairs of columns.
    Columns(Vec<usize>),
    /// All compared columns.
    Content,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Before,
    After,
}

/// What a slot of a group means: a chunk, or the default.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Slot<'a> {
    Chunk(ObjectId),
    Default(&'a str),
}

/// A row's place: its group in a list, and its place there.
type Place = (u32, u32);

/// A row's fingerprint and place.
type Mark = (u128, Place);

/// One comparison.
struct Diff<'a> {
    cache: &'a Cache<'a>,
    before: &'a TableManifest,
    after: &'a TableManifest,
    columns: &'a [ColumnPair],
    /// Which pairs of columns make a row a changed one.
    compared: Vec<usize>,
    /// Columns that are only after: a value that is not the default makes the row a changed one.
    added: Vec<usize>,
    key: Key,
    /// The pair of hidden row numbers, where they make a row a renumbered one.
    number: Option<usize>,
    /// Which cells of rows are read.
    cells: Cells,
}

impl Diff<'_> {
    fn manifest(&self, which: Which) -> &TableManifest {
        match which {
            Which::Before => self.before,
            Which::After => self.after,
        }
    }

    fn column(&self, which: Which, pair: usize) -> Option<usize> {
        let pair = self.columns.get(pair)?;
        match which {
            Which::Before => pair.before,
            Which::After => pair.after,
        }
    }

    fn run(&self, counts: &mut RowCounts, sink: &mut dyn FnMut(RowChange) -> ControlFlow<()>) -> Result<ControlFlow<()>, CompareError> {
        let (mut before, mut after) = self.differing_groups()?;
        if let Some(number) = self.number {
            self.drop_renumbered(number, &mut before, &mut after, counts)?;
        }
        let aligned = self.take_aligned(&mut before, &mut after);
        let mut from = self.fingerprints(&before, Which::Before)?;
        let mut to = self.fingerprints(&after, Which::After)?;
        let (mut pairs, mut only_before, mut only_after) = join(&mut from, &mut to);
        drop((from, to));
        if let (Key::Content, Some(number)) = (&self.key, self.number) {
            for (b, a) in &pairs {
                let is_same = self.cell(&before, *b, number, Which::Before)? == self.cell(&after, *a, number, Which::After)?;
                counts.renumbered += u64::from(!is_same);
            }
            let changed = self.join_numbers(number, &before, &mut only_before, &after, &mut only_after)?;
            if self.added.is_empty() {
                pairs.clear();
            }
            pairs.extend(changed);
        }
        if self.added.is_empty() && matches!(self.key, Key::Content) && self.number.is_none() {
            pairs.clear();
        }
        only_before.sort_unstable();
        only_after.sort_unstable();
        pairs.sort_unstable_by_key(|(_, a)| *a);
        for place in only_before {
            counts.removed += 1;
            if sink(RowChange::Removed(self.row(&before, place, Which::Before, &[])?)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.aligned_changes(&aligned, counts, sink)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let mut added = only_after.into_iter().peekable();
        for (b, a) in pairs {
            while let Some(place) = added.next_if(|place| *place < a) {
                counts.added += 1;
                if sink(RowChange::Added(self.row(&after, place, Which::After, &[])?)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if self.pair(counts, sink, &self.compared, (&before, b), (&after, a))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for place in added {
            counts.added += 1;
            if sink(RowChange::Added(self.row(&after, place, Which::After, &[])?)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Compares two rows with the same key in some pairs of columns.
    fn pair(
        &self,
        counts: &mut RowCounts,
        sink: &mut dyn FnMut(RowChange) -> ControlFlow<()>,
        compared: &[usize],
        (before, b): (&[Group], Place),
        (after, a): (&[Group], Place),
    ) -> Result<ControlFlow<()>, CompareError> {
        let mut columns = Vec::new();
        for &pair in compared {
            if self.slot(&before[b.0 as usize], pair, Which::Before) == self.slot(&after[a.0 as usize], pair, Which::After) && b.1 == a.1 {
                continue;
            }
            if self.cell(before, b, pair, Which::Before)? != self.cell(after, a, pair, Which::After)? {
                columns.push(pair);
            }
        }
        for &pair in &self.added {
            if self.is_filled(&after[a.0 as usize], pair) && self.cell(after, a, pair, Which::After)?.text() != self.default(pair) {
                columns.push(pair);
            }
        }
        columns.sort_unstable();
        if columns.is_empty() {
            if let (Some(number), Key::Columns(_)) = (self.number, &self.key) {
                let is_same = self.cell(before, b, number, Which::Before)? == self.cell(after, a, number, Which::After)?;
                counts.renumbered += u64::from(!is_same);
            }
            return Ok(ControlFlow::Continue(()));
        }
        counts.changed += 1;
        for &column in &columns {
            counts.cells[column] += 1;
        }
        let before = self.row(before, b, Which::Before, &columns)?;
        let after = self.row(after, a, Which::After, &columns)?;
        Ok(sink(RowChange::Changed { before, after, columns }))
    }

    /// Returns the default of a column that is only after.
    fn default(&self, pair: usize) -> &str {
        let column = self.column(Which::After, pair).and_then(|column| self.after.columns.get(column));
        column.map_or("null", |column| &column.shape.default)
    }

    /// Tells whether a group stores a chunk of a column that is only after.
    fn is_filled(&self, group: &Group, pair: usize) -> bool {
        self.column(Which::After, pair).is_some_and(|column| group.chunk(column).is_some())
    }

    fn slot<'g>(&'g self, group: &'g Group, pair: usize, which: Which) -> Option<Slot<'g>> {
        let column = self.column(which, pair)?;
        Some(match group.chunk(column) {
            Some(id) => Slot::Chunk(id),
            None => Slot::Default(self.manifest(which).columns.get(column).map_or("null", |column| &column.shape.default)),
        })
    }

    /// Reads a row; `differing` are the pairs of columns that differ.
    fn row(&self, groups: &[Group], place: Place, which: Which, differing: &[usize]) -> Result<Row, CompareError> {
        let manifest = self.manifest(which);
        let group = &groups[place.0 as usize];
        let key: &[usize] = match &self.key {
            Key::Columns(key) => key,
            Key::Content => &[],
        };
        let is_told = |column: usize| {
            let is_it = |pair: &usize| self.column(which, *pair) == Some(column);
            let is_whole = match self.cells {
                Cells::All => true,
                Cells::Shown => differing.is_empty(),
                Cells::Telling => false,
                Cells::Unread => return false,
            };
            is_whole || manifest.identity.contains(&column) || key.iter().any(is_it) || differing.iter().any(is_it)
        };
        let cell = |column| Ok(self.cache.chunk(manifest, group, column)?.cell(place.1 as usize).into());
        (0..manifest.columns.len()).map(|column| if is_told(column) { cell(column) } else { Ok("".into()) }).collect()
    }

    /// Drops groups that are equal but for their row numbers, and counts the rows whose numbers differ.
    fn drop_renumbered(
        &self,
        number: usize,
        before: &mut Vec<Group>,
        after: &mut Vec<Group>,
        counts: &mut RowCounts,
    ) -> Result<(), CompareError> {
        let numbers = |group: &Group, which: Which| match self.column(which, number) {
            Some(column) => column_chunk(self.manifest(which), group, column, self.cache.objects),
            None => Ok(Vec::new()),
        };
        let key = |group: &Group, which: Which| -> Vec<Option<(Option<ObjectId>, String)>> {
            self.compared
                .iter()
                .map(|&pair| {
                    self.slot(group, pair, which).map(|slot| match slot {
                        Slot::Chunk(id) => (Some(id), String::new()),
                        Slot::Default(json) => (None, json.to_owned()),
                    })
                })
                .collect()
        };
        let mut known: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, group) in before.iter().enumerate().rev() {
            known.entry((group.rows, key(group, Which::Before))).or_default().push(at);
        }
        let mut dropped = vec![false; before.len()];
        let mut kept = Vec::new();
        for group in after.drain(..) {
            if self.added.iter().any(|&pair| self.is_filled(&group, pair)) {
                kept.push(group);
                continue;
            }
            match known.get_mut(&(group.rows, key(&group, Which::After))).and_then(Vec::pop) {
                None => kept.push(group),
                Some(at) => {
                    dropped[at] = true;
                    let (from, to) = (numbers(&before[at], Which::Before)?, numbers(&group, Which::After)?);
                    counts.renumbered += from.iter().zip(&to).filter(|(from, to)| from != to).count() as u64;
                }
            }
        }
        *after = kept;
        let mut at = 0;
        before.retain(|_| {
            at += 1;
            !dropped[at - 1]
        });
        Ok(())
    }

    /// Takes out the groups that have the same keys, row by row.
    fn take_aligned(&self, before: &mut Vec<Group>, after: &mut Vec<Group>) -> Vec<(Group, Group)> {
        let Key::Columns(key) = &self.key else { return Vec::new() };
        let slots = |group: &Group, which: Which| -> Option<Vec<ObjectId>> {
            key.iter()
                .map(|&pair| match self.slot(group, pair, which) {
                    Some(Slot::Chunk(id)) => Some(id),
                    _ => None,
                })
                .collect()
        };
        let mut known: HashMap<Vec<ObjectId>, usize> = HashMap::new();
        for (at, group) in before.iter().enumerate() {
            if let Some(slots) = slots(group, Which::Before) {
                known.insert(slots, at);
            }
        }
        let mut partner: Vec<Option<Group>> = vec![None; before.len()];
        after.retain(|group| match slots(group, Which::After).and_then(|slots| known.remove(&slots)) {
            Some(at) if before[at].rows == group.rows => {
                partner[at] = Some(group.clone());
                false
            }
            _ => true,
        });
        let mut aligned = Vec::new();
        let mut rest = Vec::new();
        for (group, partner) in before.drain(..).zip(partner) {
            match partner {
                Some(other) => aligned.push((group, other)),
                None => rest.push(group),
            }
        }
        *before = rest;
        aligned
    }

    /// Computes the fingerprint of every row's key in these groups.
    fn fingerprints(&self, groups: &[Group], which: Which) -> Result<Vec<Mark>, CompareError> {
        let pairs: &[usize] = match &self.key {
            Key::Columns(key) => key,
            Key::Content => &self.compared,
        };
        let is_retyped: Vec<bool> = pairs.iter().map(|&pair| matches!(self.key, Key::Columns(_)) && self.is_retyped(pair)).collect();
        let manifest = self.manifest(which);
        let mut marks = Vec::with_capacity(groups.iter().map(rows_of).sum());
        for (at, group) in groups.iter().enumerate() {
            let columns = pairs.iter().filter_map(|&pair| self.column(which, pair));
            let chunks = columns.map(|column| self.cache.chunk(manifest, group, column)).collect::<Result<Vec<_>, CompareError>>()?;
            for row in 0..rows_of(group) {
                let mut hasher = Xxh3Default::new();
                for (chunk, is_retyped) in chunks.iter().zip(&is_retyped) {
                    let cell = chunk.cell(row);
                    hasher.update(if *is_retyped { normal(cell) } else { cell }.as_bytes());
                    hasher.update(b"\n");
                }
                let place = (u32::try_from(at).unwrap_or(u32::MAX), u32::try_from(row).unwrap_or(u32::MAX));
                marks.push((hasher.digest128(), place));
            }
        }
        Ok(marks)
    }

    fn is_retyped(&self, pair: usize) -> bool {
        let declared = |which: Which| {
            let column = self.column(which, pair)?;
            self.manifest(which).columns.get(column).map(|column| column.shape.declared_type.to_ascii_lowercase())
        };
        declared(Which::Before) != declared(Which::After)
    }

    /// Pairs what content did not, by row number.
    fn join_numbers(
        &self,
        number: usize,
        before: &[Group],
        only_before: &mut Vec<Place>,
        after: &[Group],
        only_after: &mut Vec<Place>,
    ) -> Result<Vec<(Place, Place)>, CompareError> {
        let mut marks: [Vec<Mark>; 2] = [Vec::new(), Vec::new()];
        let sides = [(before, &*only_before, Which::Before), (after, &*only_after, Which::After)];
        for ((groups, places, which), marks) in sides.into_iter().zip(&mut marks) {
            for &place in places {
                let cell = self.cell(groups, place, number, which)?;
                marks.push((xxhash_rust::xxh3::xxh3_128(cell.text().as_bytes()), place));
            }
        }
        let [from, to] = &mut marks;
        let (pairs, before, after) = join(from, to);
        (*only_before, *only_after) = (before, after);
        Ok(pairs)
    }

    fn cell(&self, groups: &[Group], place: Place, pair: usize, which: Which) -> Result<CellRef, CompareError> {
        let column = self.column(which, pair).unwrap_or(usize::MAX);
        let chunk = self.cache.chunk(self.manifest(which), &groups[place.0 as usize], column)?;
        Ok(CellRef { chunk, row: place.1 as usize })
    }
}

/// A cell in its chunk.
struct CellRef {
    chunk: Rc<Chunk>,
    row: usize,
}

impl CellRef {
    fn text(&self) -> &str {
        self.chunk.cell(self.row)
    }
}

impl PartialEq for CellRef {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// Returns what a key cell says, whatever its type: `5`, `5.0` and `"5"` are one.
fn normal(cell: &str) -> &str {
    match cell.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner,
        None => cell.strip_suffix(".0").unwrap_or(cell),
    }
}

/// Pairs rows of equal fingerprints, in the order of their places; returns the pairs, and what is left on each side.
fn join(before: &mut [Mark], after: &mut [Mark]) -> (Vec<(Place, Place)>, Vec<Place>, Vec<Place>) {
    before.sort_unstable();
    after.sort_unstable();
    let (mut pairs, mut only_before, mut only_after) = (Vec::new(), Vec::new(), Vec::new());
    let (mut b, mut a) = (0, 0);
    loop {
        match (before.get(b), after.get(a)) {
            (Some((from, place)), Some((to, other))) => match from.cmp(to) {
                std::cmp::Ordering::Equal => {
                    pairs.push((*place, *other));
                    b += 1;
                    a += 1;
                }
                std::cmp::Ordering::Less => {
                    only_before.push(*place);
                    b += 1;
                }
                std::cmp::Ordering::Greater => {
                    only_after.push(*other);
                    a += 1;
                }
            },
            (Some((_, place)), None) => {
                only_before.push(*place);
                b += 1;
            }
            (None, Some((_, other))) => {
                only_after.push(*other);
                a += 1;
            }
            (None, None) => return (pairs, only_before, only_after),
        }
    }
}
