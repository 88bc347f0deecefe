//! Groups in which values changed, and no key: their columns, from what those had and the leaves that changed alone.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use super::super::Odd;
use super::super::prints::Prints;
use super::super::rows::Rows;
use super::super::source::Source;
use super::super::table::Table;
use super::{ENDLESS, Edited, Stale};
use crate::rows::{ColumnChunk, EditedColumn, TableShape, Then, stretch_hash};
use crate::value::cells_at;

/// A leaf in which values changed.
struct Edit<'s> {
    leaf: usize,
    /// Those of its cells that are rows of the group.
    cells: Range<usize>,
    /// Of so many.
    of: usize,
    /// These rows, by their places in the group.
    rows: Range<usize>,
    /// All of its rows, in order: groups, and places in them; none is empty.
    pieces: Vec<(usize, Range<usize>)>,
    /// Its print then.
    sum: u128,
    bytes: &'s [u8],
}

impl Edit<'_> {
    /// Returns the cells that the leaf had in a column, joined by commas: `json` is what the group had, `then` returns what others had.
    fn cells_then<'j>(&self, group: usize, json: &'j [u8], then: &mut dyn FnMut(usize) -> Option<Vec<u8>>) -> Option<Cow<'j, [u8]>> {
        let span = |json: &[u8], rows: &Range<usize>| spans(json, std::iter::once(rows.clone()))?.pop();
        if let [(_, rows)] = self.pieces.as_slice() {
            return json.get(span(json, rows)?).map(Cow::Borrowed);
        }
        let mut cells = Vec::new();
        for (of, rows) in &self.pieces {
            if !cells.is_empty() {
                cells.push(b',');
            }
            if *of == group {
                cells.extend_from_slice(json.get(span(json, rows)?)?);
            } else {
                let other = then(*of)?;
                cells.extend_from_slice(other.get(span(&other, rows)?)?);
            }
        }
        Some(Cow::Owned(cells))
    }
}

fn has_references(json: &[u8]) -> bool {
    memchr::memmem::find(json, b"{\"ref\"").is_some()
}

/// Returns where cells stand in a column's chunk, by ranges of rows in rising order, none of them empty.
fn spans(json: &[u8], rows: impl Iterator<Item = Range<usize>>) -> Option<Vec<Range<usize>>> {
    let ends: Vec<usize> = rows.flat_map(|rows| [rows.start, rows.end - 1]).collect();
    let cells = cells_at(json, &ends).ok()?;
    let offset = |cell: &[u8]| cell.as_ptr().addr().checked_sub(json.as_ptr().addr());
    let span = |ends: &[&[u8]; 2]| Some(offset(ends[0])?..offset(ends[1])? + ends[1].len());
    cells.as_chunks::<2>().0.iter().map(span).collect()
}

/// Puts cells of leaves, which follow one another whole in `now`, into a column's chunk as it was `then`. None where something is not as it should be.
fn splice(then: &[u8], now: &[u8], leaves: &[Edit<'_>], default: &str) -> Option<ColumnChunk> {
    let spans_then = spans(then, leaves.iter().map(|edit| edit.rows.clone()))?;
    let mut passed = 0;
    let spans_now = spans(
        now,
        leaves.iter().map(|edit| {
            passed += edit.of;
            let first = passed - edit.of;
            first + edit.cells.start..first + edit.cells.end
        }),
    )?;
    let mut json = Vec::with_capacity(then.len() + 64);
    let mut copied = 0;
    for (was, is) in spans_then.into_iter().zip(spans_now) {
        json.extend_from_slice(then.get(copied..was.start)?);
        json.extend_from_slice(now.get(is)?);
        copied = was.end;
    }
    json.extend_from_slice(then.get(copied..)?);
    let is_default = is_all(&json, default.as_bytes());
    Some(ColumnChunk { json, is_default, large: Vec::new() })
}

/// Tells whether all cells of a column's chunk are this one.
fn is_all(json: &[u8], cell: &[u8]) -> bool {
    let cells = json.get(1..).unwrap_or_default();
    // Behind each is a comma or the bracket.
    !cells.is_empty() && cells.chunks(cell.len() + 1).all(|part| part.strip_prefix(cell).is_some_and(|rest| matches!(rest, b"," | b"]")))
}

impl Stale {
    /// Finds the columns of a group in which values changed, and no key. None for any other group, and where it is not sure. `then` returns what was.
    ///
    /// Leaves that are what they were are not read. In the others a column whose byte differs is taken for changed, and that all others are not is proven by the
    /// sum: it is what it was, if the changed columns' hashes are put back to what their cells in `then` give.
    pub fn read_edited(
        &self,
        table: &Table,
        source: &Source,
        shape: &TableShape,
        group: usize,
        then: Then<'_>,
    ) -> Result<Option<Vec<EditedColumn>>, Odd> {
        let found = self.edited.binary_search_by_key(&group, |edited| edited.group).ok().and_then(|at| self.edited.get(at));
        let Some(leaves) = found.and_then(|edited| self.edits(edited)) else { return Ok(None) };
        let mut reader = Rows::new(table, source, shape, ENDLESS);
        let mut bytes = vec![0; source.page_bytes()];
        let (mut is_changed, mut hashes) = (vec![false; shape.columns.len()], Vec::with_capacity(leaves.len()));
        for edit in &leaves {
            let number = *table.leaves.get(edit.leaf).ok_or_else(|| Odd::new("a leaf is not there"))?;
            source.read(number, &mut bytes)?;
            // So many bytes that a group ends with them are for whoever reads it whole.
            if reader.read_leaf(number, &bytes, &mut |_| ControlFlow::Break(()))?.is_none() || reader.hashes.len() != edit.bytes.len() {
                return Ok(None);
            }
            for ((is_changed, hash), byte) in is_changed.iter_mut().zip(&reader.hashes).zip(edit.bytes) {
                *is_changed |= *hash as u8 != *byte;
            }
            hashes.push(reader.hashes.clone());
        }
        let Some(now) = reader.finish() else { return Ok(None) };
        if shape.identity.is_empty() || shape.identity.iter().any(|key| is_changed.get(*key) != Some(&false)) {
            return Ok(None);
        }
        let mut sums: Vec<u128> = hashes.iter().map(|hashes| Prints::sum(hashes)).collect();
        let mut edited = Vec::new();
        for (column, chunk) in now.columns.iter().enumerate().filter(|(column, _)| is_changed.get(*column) == Some(&true)) {
            let mut then = |group: usize| then(group, column).filter(|json| !has_references(json));
            let Some(json) = then(group).filter(|_| chunk.large.is_empty()) else { return Ok(None) };
            for ((edit, sum), hashes) in leaves.iter().zip(&mut sums).zip(&hashes) {
                let Some(cells) = edit.cells_then(group, &json, &mut then) else { return Ok(None) };
                *sum = sum.wrapping_sub(hashes.get(column).copied().unwrap_or_default()).wrapping_add(stretch_hash(column, &cells));
            }
            let default = shape.columns.get(column).map_or("null", |column| column.default.as_str());
            let Some(chunk) = splice(&json, &chunk.json, &leaves, default) else { return Ok(None) };
            edited.push(EditedColumn { column, chunk, then: json });
        }
        Ok(leaves.iter().map(|edit| edit.sum).eq(sums).then_some(edited))
    }

    /// Returns the leaves of a group that are not what they were; none where the print of one is not known.
    fn edits(&self, group: &Edited) -> Option<Vec<Edit<'_>>> {
        let Edited { group, begin: (mut leaf, mut cell), rows } = *group;
        let rows = usize::try_from(rows).ok()?;
        let (mut edits, mut row) = (Vec::new(), 0);
        while row < rows {
            let cells = *self.rows.get(leaf)? as usize;
            let count = cells.checked_sub(cell)?.min(rows - row);
            if count > 0 && !self.is_same(leaf) {
                let at = self.changed_leaves.binary_search(&leaf).ok()?;
                let (sum, bytes) = self.prints_then.get(at)?;
                let mut pieces = self.pieces_before(group, cell)?;
                pieces.push((group, row..row + count));
                pieces.extend(self.pieces_after(group, cells - cell - count)?);
                edits.push(Edit { leaf, cells: cell..cell + count, of: cells, pieces, rows: row..row + count, sum: *sum, bytes });
            }
            row += count;
            (leaf, cell) = (leaf + 1, 0);
        }
        (!edits.is_empty()).then_some(edits)
    }

    /// Returns the groups in which so many rows before a group stand, and which of their rows these are, in order.
    fn pieces_before(&self, group: usize, mut rows: usize) -> Option<Vec<(usize, Range<usize>)>> {
        let (mut pieces, mut at) = (Vec::new(), group);
        while rows > 0 {
            at = at.checked_sub(1)?;
            let all = usize::try_from(*self.groups.get(at)?).ok()?;
            let count = all.min(rows);
            pieces.push((at, all - count..all));
            rows -= count;
        }
        pieces.reverse();
        Some(pieces)
    }

    /// Returns the groups in which so many rows after a group stand, and which of their rows these are, in order.
    fn pieces_after(&self, group: usize, mut rows: usize) -> Option<Vec<(usize, Range<usize>)>> {
        let (mut pieces, mut at) = (Vec::new(), group);
        while rows > 0 {
            at += 1;
            let count = usize::try_from(*self.groups.get(at)?).ok()?.min(rows);
            pieces.push((at, 0..count));
            rows -= count;
        }
        Some(pieces)
    }
}
