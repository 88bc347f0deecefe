//! The rows that went and the rows that came, as marks, read when something is looked for and then kept.
//!
//! Memory is bounded by [`CELLS_MAX`] cells a table. A table with more is not searched, and [`Search::unsearched`] names it.

use std::cell::{Cell as Slot, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use super::marks::{self, NOTHING};
use crate::ops::OpError;
use crate::ops::compare::Comparison;
use crate::rows::TableShape;
use crate::snapshot::changes::{Cell, Cells, RowChange, RowCounts, TablePair};
use crate::snapshot::chunks;
use crate::snapshot::manifest::TableManifest;
use crate::store::Store;

/// The most cells of one table that are kept: two million rows of eight columns.
const CELLS_MAX: u64 = 1 << 24;

/// A pair whose rows differ.
pub(super) struct Touched<'a> {
    pub(super) pair: &'a TablePair,
    pub(super) counts: RowCounts,
    /// Whether its rows are somebody's data: neither a ledger's nor the engine's own.
    pub(super) is_data: bool,
}

/// Marks, a row after the other.
pub(super) struct Rows {
    width: usize,
    marks: Vec<u64>,
    /// Which cells came; empty where all did.
    fresh: Vec<bool>,
    /// For each column, whether any cell is telling.
    pub(super) is_telling: Vec<bool>,
    /// For each column, whether every value is an integer.
    pub(super) is_integer: Vec<bool>,
    /// How many rows came or went whole: they stand first.
    pub(super) whole: usize,
}

impl Rows {
    fn new(shape: &TableShape) -> Self {
        let width = shape.columns.len();
        let (is_telling, is_integer) = (vec![false; width], vec![true; width]);
        Self { width, marks: Vec::new(), fresh: Vec::new(), is_telling, is_integer, whole: 0 }
    }

    fn push(&mut self, row: &[Cell]) {
        for (at, cell) in row.iter().enumerate().take(self.width) {
            self.marks.push(marks::mark(cell));
            self.is_telling[at] |= marks::is_telling(cell);
            self.is_integer[at] &= !cell.starts_with(['"', '{']) && !cell.contains(['.', 'e']) || matches!(&**cell, "null" | "\"\"");
        }
        self.marks.resize(self.marks.len().next_multiple_of(self.width.max(1)), NOTHING);
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len() / self.width.max(1)
    }

    pub(super) fn mark(&self, row: usize, column: usize) -> u64 {
        self.marks.get(row * self.width + column).copied().unwrap_or(NOTHING)
    }

    /// Tells whether a cell came; the others of a changed row stood there before.
    pub(super) fn is_fresh(&self, row: usize, column: usize) -> bool {
        row < self.whole || self.fresh.get((row - self.whole) * self.width + column).copied().unwrap_or(false)
    }

    /// Collects the different values of a column that came or went, NOTHING not among them.
    pub(super) fn different(&self, column: usize) -> HashSet<u64> {
        let rows = (0..self.len()).filter(|&row| self.is_fresh(row, column));
        rows.map(|row| self.mark(row, column)).filter(|mark| *mark != NOTHING).collect()
    }
}

/// What is looked into, and what was read for it.
pub(super) struct Search<'a> {
    pub(super) store: &'a Store,
    pub(super) comparison: &'a Comparison<'a>,
    pub(super) touched: &'a [Touched<'a>],
    departures: RefCell<BTreeMap<usize, Option<Rc<Rows>>>>,
    arrivals: RefCell<BTreeMap<usize, Option<Rc<Rows>>>>,
    kept_cells: Slot<u64>,
    unsearched: RefCell<BTreeSet<String>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(store: &'a Store, comparison: &'a Comparison<'a>, touched: &'a [Touched<'a>]) -> Self {
        let (departures, arrivals) = (RefCell::default(), RefCell::default());
        Self { store, comparison, touched, departures, arrivals, kept_cells: Slot::new(0), unsearched: RefCell::default() }
    }

    /// Returns the rows of a pair that went, by the shape before; none where there are too many.
    pub(super) fn departures(&self, at: usize) -> Result<Option<Rc<Rows>>, OpError> {
        if let Some(known) = self.departures.borrow().get(&at) {
            return Ok(known.clone());
        }
        let Some(Touched { pair, counts, .. }) = self.touched.get(at) else { return Ok(None) };
        let Some(shape) = pair.before.as_ref().filter(|shape| self.fits(shape, counts.removed)) else { return Ok(None) };
        let mut rows = Rows::new(shape);
        self.comparison.rows(pair, Cells::All, &mut |change| match change {
            // Those that went are handed over first.
            RowChange::Removed(row) => {
                rows.push(&row);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        })?;
        rows.whole = rows.len();
        let rows = Some(Rc::new(rows));
        self.departures.borrow_mut().insert(at, rows.clone());
        Ok(rows)
    }

    /// Returns the rows of a pair that came or were changed, by the shape after; none where there are too many.
    pub(super) fn arrivals(&self, at: usize) -> Result<Option<Rc<Rows>>, OpError> {
        if let Some(known) = self.arrivals.borrow().get(&at) {
            return Ok(known.clone());
        }
        let Some(Touched { pair, counts, .. }) = self.touched.get(at) else { return Ok(None) };
        let Some(shape) = pair.after.as_ref().filter(|shape| self.fits(shape, counts.added.saturating_add(counts.changed))) else {
            return Ok(None);
        };
        let (mut whole, mut changed) = (Rows::new(shape), Rows::new(shape));
        self.comparison.rows(pair, Cells::All, &mut |change| {
            match change {
                RowChange::Removed(_) => {}
                RowChange::Added(row) => whole.push(&row),
                RowChange::Changed { after, columns, .. } => {
                    changed.push(&after);
                    let start = changed.fresh.len();
                    changed.fresh.resize(changed.marks.len(), false);
                    for column in columns.iter().filter_map(|&column| pair.columns.get(column)?.after) {
                        if let Some(fresh) = changed.fresh.get_mut(start + column) {
                            *fresh = true;
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        whole.whole = whole.len();
        whole.marks.append(&mut changed.marks);
        whole.fresh = changed.fresh;
        for (whole, changed) in [(&mut whole.is_telling, changed.is_telling), (&mut whole.is_integer, changed.is_integer)] {
            whole.iter_mut().zip(changed).for_each(|(whole, changed)| *whole |= changed);
        }
        let rows = Some(Rc::new(whole));
        self.arrivals.borrow_mut().insert(at, rows.clone());
        Ok(rows)
    }

    /// Tells whether so many rows of a table can be kept, and forgets others to make room.
    pub(super) fn fits(&self, shape: &TableShape, rows: u64) -> bool {
        let cells = rows.saturating_mul(shape.columns.len() as u64);
        if cells > CELLS_MAX {
            self.unsearched.borrow_mut().insert(shape.name.clone());
            return false;
        }
        if self.kept_cells.get().saturating_add(cells) > CELLS_MAX * 2 {
            self.departures.borrow_mut().clear();
            self.arrivals.borrow_mut().clear();
            self.kept_cells.set(0);
        }
        self.kept_cells.set(self.kept_cells.get() + cells);
        true
    }

    /// Names the tables that were too large to be searched, if any.
    pub(super) fn unsearched(&self) -> Option<String> {
        let names: Vec<String> = self.unsearched.borrow().iter().map(|name| format!("`{name}`")).collect();
        (!names.is_empty())
            .then(|| format!("whether it stands elsewhere now was told by whole columns only: {} is too large", names.join(", ")))
    }

    /// Lists the pairs that data may have gone to.
    pub(super) fn targets(&self) -> impl Iterator<Item = (usize, &'a Touched<'a>)> + use<'a> {
        let touched = self.touched;
        touched.iter().enumerate().filter(|(_, touched)| touched.is_data && touched.counts.added + touched.counts.changed > 0)
    }

    /// Hands over some columns of a manifest, row by row.
    pub(super) fn columns(&self, manifest: &TableManifest, columns: &[usize], sink: &mut dyn FnMut(&[&Cell])) -> Result<(), OpError> {
        self.columns_while(manifest, columns, &mut |cells| {
            sink(cells);
            ControlFlow::Continue(())
        })
    }

    /// As [`Search::columns`], as long as the sink goes on.
    pub(super) fn columns_while(
        &self,
        manifest: &TableManifest,
        columns: &[usize],
        sink: &mut dyn FnMut(&[&Cell]) -> ControlFlow<()>,
    ) -> Result<(), OpError> {
        for group in chunks::row_groups(manifest, self.store)? {
            let cells = |column: &usize| chunks::column_chunk(manifest, &group, *column, self.store);
            let chunks = columns.iter().map(cells).collect::<Result<Vec<_>, _>>()?;
            let rows = chunks.first().map_or(0, Vec::len);
            for row in 0..rows {
                let cells: Vec<&Cell> = chunks.iter().filter_map(|chunk| chunk.get(row)).collect();
                if sink(&cells).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
