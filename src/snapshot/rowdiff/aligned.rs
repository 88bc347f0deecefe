//! Comparing row groups that have the same keys, row by row.
//!
//! Of a group only the columns that differ are read, both sides at once; where their cells differ is found without telling all cells apart
//! ([`crate::value::differences`]). Of the other columns only those are read that name the rows, or that the caller wants, and of these only the
//! cells of the rows that differ.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::{ControlFlow, Range};

use super::{Cells, CompareError, Diff, Key, Which};
use crate::id::ObjectId;
use crate::snapshot::changes::{Cell, Row, RowChange, RowCounts};
use crate::snapshot::chunks::{Cache, Chunk, rows_of};
use crate::snapshot::cores::on_all_cores;
use crate::snapshot::manifest::Group;
use crate::value::{cells_at, differences, split_array};

/// How many pairs of groups are compared at least before their changes are handed over, and how many at most.
const AT_ONCE: Range<usize> = 16..1024;

/// As long as so many pairs have at most this many changed rows, more of them are compared at once.
const CHANGES_MAX: usize = 8_192;

/// What was found in a pair of groups.
type Found = (RowCounts, Vec<RowChange>);

/// A cell that differs: its row, its pair of columns, and both sides.
struct Differing<'a> {
    row: usize,
    pair: usize,
    before: &'a [u8],
    after: &'a [u8],
}

impl<'a> Differing<'a> {
    fn on(&self, which: Which) -> &'a [u8] {
        if which == Which::Before { self.before } else { self.after }
    }
}

/// A pair of columns in a pair of groups, as far as it was read.
enum Sides {
    /// Both store a chunk.
    Stored([Vec<u8>; 2]),
    /// One is all defaults, or there is none before.
    Mixed(Chunk, Chunk),
}

impl Diff<'_> {
    /// Compares groups with the same keys, on all cores, and hands over their changes in their order.
    pub(super) fn aligned_changes(
        &self,
        pairs: &[(Group, Group)],
        counts: &mut RowCounts,
        sink: &mut dyn FnMut(RowChange) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, CompareError> {
        // A cache belongs to one thread.
        let Self { cache: Cache { objects, .. }, before, after, columns, compared, added, key, number, cells } = self;
        let worker = || {
            let cache = Cache::new(*objects);
            move |(from, to): &(Group, Group)| {
                let (compared, added, key) = (compared.clone(), added.clone(), key.clone());
                Diff { cache: &cache, before, after, columns, compared, added, key, number: *number, cells: *cells }.aligned(from, to)
            }
        };
        let (mut rest, mut at_once) = (pairs, AT_ONCE.start);
        while !rest.is_empty() {
            let (some, others) = rest.split_at(at_once.min(rest.len()));
            rest = others;
            let found = on_all_cores(some, worker)?;
            let changes = found.iter().map(|(_, changes)| changes.len()).sum::<usize>();
            at_once = if changes <= CHANGES_MAX { at_once * 8 } else { at_once / 8 }.clamp(AT_ONCE.start, AT_ONCE.end);
            for (found, changes) in found {
                counts.add(&found);
                for change in changes {
                    if sink(change).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Compares two groups with the same keys.
    fn aligned(&self, from: &Group, to: &Group) -> Result<Found, CompareError> {
        let differs = |pair: &usize| self.slot(from, *pair, Which::Before) != self.slot(to, *pair, Which::After);
        let differing = self.compared.iter().copied().filter(differs);
        let differing = differing.chain(self.added.iter().copied().filter(|&pair| self.is_filled(to, pair)));
        let sides = differing.map(|pair| Ok((pair, self.sides(pair, from, to)?))).collect::<Result<Vec<_>, CompareError>>()?;
        let mut found = Vec::new();
        for (pair, sides) in &sides {
            self.cells_that_differ(*pair, sides, to, &mut found)?;
        }
        found.sort_unstable_by_key(|cell| (cell.row, cell.pair));
        let mut counts = RowCounts { cells: vec![0; self.columns.len()], ..RowCounts::default() };
        for cell in &found {
            counts.cells[cell.pair] += 1;
        }
        let mut places: Vec<usize> = found.iter().map(|cell| cell.row).collect();
        places.dedup();
        counts.changed = places.len() as u64;
        counts.renumbered = self.renumbered(from, to, &places)?;
        let [before, after] = self.rows(from, to, &sides, &found, &places)?;
        let columns = found.chunk_by(|a, b| a.row == b.row).map(|cells| cells.iter().map(|cell| cell.pair).collect());
        let rows = before.into_iter().zip(after).zip(columns);
        Ok((counts, rows.map(|((before, after), columns)| RowChange::Changed { before, after, columns }).collect()))
    }

    /// Reads a pair of columns.
    fn sides(&self, pair: usize, from: &Group, to: &Group) -> Result<Sides, CompareError> {
        let column = |which| self.column(which, pair);
        let chunk = |group: &Group, which| column(which).and_then(|column| group.chunk(column));
        if let (Some(before), Some(after)) = (chunk(from, Which::Before), chunk(to, Which::After)) {
            return Ok(Sides::Stored(self.cache.objects.read_pair([&before, &after]).map_err(CompareError::Read)?));
        }
        let read = |group: &Group, which| match column(which) {
            Some(column) => Chunk::read(self.manifest(which), group, column, self.cache.objects),
            // What a column holds that was not there yet.
            None => Ok(Chunk::Default(self.default(pair).to_owned())),
        };
        Ok(Sides::Mixed(read(from, Which::Before)?, read(to, Which::After)?))
    }

    /// Appends the cells in which a pair of columns differs.
    fn cells_that_differ<'s>(&self, pair: usize, sides: &'s Sides, to: &Group, found: &mut Vec<Differing<'s>>) -> Result<(), CompareError> {
        match sides {
            Sides::Stored([before, after]) => {
                let cells = differences(before, after, rows_of(to)).map_err(|error| {
                    let id = self.column(Which::After, pair).and_then(|column| to.chunk(column)).unwrap_or(ObjectId([0; 32]));
                    CompareError::Malformed { id, what: format!("{error}, of {} cells as the one before", to.rows) }
                })?;
                found.extend(cells.into_iter().map(|cell| Differing { row: cell.row, pair, before: cell.before, after: cell.after }));
            }
            Sides::Mixed(before, after) => {
                let cells =
                    (0..rows_of(to)).map(|row| (row, before.cell(row), after.cell(row))).filter(|(_, before, after)| before != after);
                found.extend(cells.map(|(row, before, after)| Differing { row, pair, before: before.as_bytes(), after: after.as_bytes() }));
            }
        }
        Ok(())
    }

    /// Counts the rows whose hidden numbers differ, and nothing else.
    fn renumbered(&self, from: &Group, to: &Group, changed: &[usize]) -> Result<u64, CompareError> {
        let Some(number) = self.number else { return Ok(0) };
        if self.slot(from, number, Which::Before) == self.slot(to, number, Which::After) {
            return Ok(0);
        }
        let sides = self.sides(number, from, to)?;
        let mut found = Vec::new();
        self.cells_that_differ(number, &sides, to, &mut found)?;
        Ok(found.iter().filter(|cell| changed.binary_search(&cell.row).is_err()).count() as u64)
    }

    /// Reads the rows at these places, which are those of the differing cells.
    fn rows(
        &self,
        from: &Group,
        to: &Group,
        sides: &[(usize, Sides)],
        found: &[Differing<'_>],
        places: &[usize],
    ) -> Result<[Vec<Row>; 2], CompareError> {
        let blank = |which| vec![vec![Cell::default(); self.manifest(which).columns.len()]; places.len()];
        let mut rows: [Vec<Row>; 2] = [blank(Which::Before), blank(Which::After)];
        if self.cells == Cells::Unread || places.is_empty() {
            return Ok(rows);
        }
        // What both sides have is taken out once.
        let mut known: HashMap<ObjectId, Vec<Cell>> = HashMap::new();
        for ((rows, group), which) in rows.iter_mut().zip([from, to]).zip([Which::Before, Which::After]) {
            for (row, cells) in rows.iter_mut().zip(found.chunk_by(|a, b| a.row == b.row)) {
                for cell in cells {
                    if let Some(column) = self.column(which, cell.pair) {
                        row[column] = cell_text(cell.on(which), group.chunk(column))?;
                    }
                }
            }
            for column in (0..self.manifest(which).columns.len()).filter(|&column| self.is_always_told(which, column)) {
                let Some(id) = group.chunk(column) else {
                    let default = self.manifest(which).columns[column].shape.default.as_str();
                    rows.iter_mut().for_each(|row| row[column] = default.into());
                    continue;
                };
                let cells = match known.entry(id) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => {
                        let pair = sides.iter().find(|(pair, _)| self.column(which, *pair) == Some(column));
                        unknown.insert(self.cells_of(id, pair.map(|(_, sides)| (sides, which)), group, places)?)
                    }
                };
                for (row, cell) in rows.iter_mut().zip(cells) {
                    row[column] = cell.clone();
                }
            }
        }
        Ok(rows)
    }

    /// Tells whether a column is read for each row that differs, wherever it differs.
    fn is_always_told(&self, which: Which, column: usize) -> bool {
        let Key::Columns(key) = &self.key else { return true };
        let is_key = || key.iter().any(|pair| self.column(which, *pair) == Some(column));
        self.cells == Cells::All || self.manifest(which).identity.contains(&column) || is_key()
    }

    /// Takes cells out of a chunk, which may have been read already.
    fn cells_of(&self, id: ObjectId, read: Option<(&Sides, Which)>, group: &Group, places: &[usize]) -> Result<Vec<Cell>, CompareError> {
        let own;
        let json: &[u8] = match read {
            Some((Sides::Stored([before, _]), Which::Before)) => before,
            Some((Sides::Stored([_, after]), Which::After)) => after,
            Some((Sides::Mixed(chunk, _), Which::Before) | (Sides::Mixed(_, chunk), Which::After)) => {
                return Ok(places.iter().map(|place| chunk.cell(*place).into()).collect());
            }
            None => {
                own = self.cache.objects.read(&id).map_err(CompareError::Read)?;
                &own
            }
        };
        let malformed = |what: String| CompareError::Malformed { id, what };
        let cells = if places.len() * 2 > rows_of(group) {
            let all = split_array(json).map_err(|error| malformed(error.to_string()))?;
            if all.len() != rows_of(group) {
                return Err(malformed(format!("{} cells for {} rows", all.len(), group.rows)));
            }
            places.iter().filter_map(|place| all.get(*place).copied()).collect()
        } else {
            cells_at(json, places).map_err(|error| malformed(error.to_string()))?
        };
        cells.into_iter().map(|cell| cell_text(cell, Some(id))).collect()
    }
}

fn cell_text(cell: &[u8], id: Option<ObjectId>) -> Result<Cell, CompareError> {
    let text = std::str::from_utf8(cell)
        .map_err(|error| CompareError::Malformed { id: id.unwrap_or(ObjectId([0; 32])), what: error.to_string() })?;
    Ok(text.into())
}
