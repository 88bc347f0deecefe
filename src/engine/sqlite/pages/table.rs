//! A table's pages, and its rows from them: of some leaves as if they were the whole table, or of what changed since a memory.

use std::collections::HashSet;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::read::State;
use super::memory::{Leaves, Mark, TableMemory};
use super::record::Layout;
use super::rows::{Rows, read_pages};
use super::source::Source;
use super::stale::Stale;
use super::tree::{self, Kind, Page};
use super::{Odd, layout};
use crate::rows::{CutRule, RowGroup, TableShape};

/// How a table is read.
#[derive(Debug)]
pub(super) struct Table {
    pub root: u32,
    pub layout: Layout,
    /// The leaves, in order; of a table without row numbers, which keeps rows in all its pages, the root alone.
    pub leaves: Vec<u32>,
    pub has_row_numbers: bool,
    noted: Mutex<Noted>,
}

/// What was found out about a table while it was read.
#[derive(Debug, Default)]
struct Noted {
    /// The leaves' marks, where all were read or known.
    marks: Vec<Mark>,
    /// How many leaves were read.
    read: usize,
    has_surplus: bool,
    /// What changed since a memory.
    stale: Option<Arc<Stale>>,
}

impl Table {
    /// Finds a table's pages.
    pub fn of(state: &State<'_>, source: &Source, shape: &TableShape) -> Result<Self, Odd> {
        let sql = "SELECT rootpage FROM main.sqlite_schema WHERE type='table' AND name=?1";
        let root: i64 = state.connection.prepare_cached(sql)?.query_row([&shape.name], |row| row.get(0))?;
        let root = u32::try_from(root).ok().filter(|root| *root > 1).ok_or_else(|| Odd::new("it has no pages"))?;
        let mut bytes = vec![0; source.page_bytes()];
        source.read(root, &mut bytes)?;
        let has_row_numbers = matches!(Page::new(&bytes, root, source.usable())?.kind, Kind::InteriorTable | Kind::LeafTable);
        let layout = if has_row_numbers { layout::of_table(state, shape)? } else { layout::of_index(state, shape)? };
        let leaves = if has_row_numbers { tree::leaves(source, root)? } else { vec![root] };
        Ok(Self { root, layout, leaves, has_row_numbers, noted: Mutex::default() })
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // A thread that panicked left no more than gaps, which the count tells.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the rows of some leaves as if they were the whole table.
    pub fn read(
        &self,
        source: &Source,
        shape: &TableShape,
        rule: CutRule,
        leaves: Range<usize>,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), Odd> {
        let mut rows = Rows::new(self, source, shape, rule);
        let mut marks = Vec::new();
        let flow = if self.has_row_numbers {
            rows.follow(leaves.start.checked_sub(1).and_then(|before| self.leaves.get(before)).copied())?;
            let pages = self.leaves.get(leaves.clone()).ok_or_else(|| Odd::new("no part of it"))?;
            read_pages(source, pages, &mut |number, bytes| {
                let mark = rows.read_leaf(number, bytes, sink)?;
                marks.extend(mark);
                Ok(if mark.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?
        } else {
            let (flow, mark) = rows.walk(self.root, Some(sink))?;
            marks.push(mark);
            flow
        };
        if flow.is_break() {
            return Ok(());
        }
        let mut noted = self.noted();
        noted.marks.resize(self.leaves.len(), Mark::default());
        noted.has_surplus |= rows.has_surplus;
        noted.read += marks.len();
        if let Some(place) = noted.marks.get_mut(leaves.start..leaves.start + marks.len()) {
            place.copy_from_slice(&marks);
        }
        drop(noted);
        if let Some(group) = rows.finish() {
            let _ = sink(group);
        }
        Ok(())
    }

    /// Finds which row groups of an earlier reading, with so many rows each, are not what they were. None where it cannot be told. Where it is known which pages
    /// can have `changed`, others are not looked at.
    pub fn stale(
        &self,
        source: &Source,
        shape: &TableShape,
        memory: TableMemory,
        groups: &[u64],
        changed: Option<&HashSet<u32>>,
    ) -> Result<Option<Vec<usize>>, Odd> {
        if !self.layout.extends(&memory) || memory.has_row_numbers != self.has_row_numbers {
            return Ok(None);
        }
        if !self.has_row_numbers {
            let mark = Rows::new(self, source, shape, CutRule { rows_target: 1 }).walk(self.root, None)?.1;
            let is_same = memory.leaves.marks.first().is_some_and(|then| then.hash == mark.hash);
            if is_same {
                *self.noted() = Noted { marks: memory.leaves.marks, read: 1, has_surplus: memory.has_surplus, stale: None };
            }
            return Ok(is_same.then(Vec::new));
        }
        let has_surplus = memory.has_surplus;
        let Some((stale, marks, surplus)) = Stale::find(self, source, shape, memory.leaves, groups, changed)? else { return Ok(None) };
        let again = stale.again.clone();
        let read = marks.len();
        *self.noted() = Noted { marks, read, has_surplus: has_surplus | surplus, stale: Some(Arc::new(stale)) };
        Ok(Some(again))
    }

    /// Reads a group that is stale, and those after it up to one that begins as it did; returns which, or how many there were.
    pub fn read_stale(
        &self,
        source: &Source,
        shape: &TableShape,
        rule: CutRule,
        group: usize,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<usize, Odd> {
        let stale = self.noted().stale.clone().ok_or_else(|| Odd::new("nothing is known of it"))?;
        stale.read(self, source, shape, rule, group, sink)
    }

    /// Takes out what is to be remembered, where all of the table was read or known.
    pub fn memory(&self) -> Option<TableMemory> {
        let mut noted = self.noted();
        let is_whole = noted.read == self.leaves.len() && noted.marks.len() == noted.read;
        noted.read = 0;
        let marks = std::mem::take(&mut noted.marks);
        is_whole.then(|| TableMemory {
            signature: self.layout.signature(),
            has_surplus: noted.has_surplus,
            has_row_numbers: self.has_row_numbers,
            leaves: Leaves { pages: self.leaves.clone(), marks },
        })
    }
}
