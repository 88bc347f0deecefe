//! A table's pages, and its rows from them: of some leaves as if they were the whole table, or of what changed since a memory.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::read::State;
use super::memory::{self, Leaves, Mark, TableMemory};
use super::prints::Prints;
use super::record::Layout;
use super::rows::{Rows, read_pages};
use super::source::Source;
use super::stale::{Found, Stale};
use super::structure::{Known, LeafCheck};
use super::tree::{self, Kind, Page, Tree};
use super::{Odd, layout};
use crate::rows::{CutRule, EditedColumn, RowGroup, TableShape, Then};

/// How a table is read.
#[derive(Debug)]
pub(super) struct Table {
    pub root: u32,
    pub layout: Layout,
    /// The leaves, in order; of a table without row numbers, which keeps rows in all its pages, the root alone.
    pub leaves: Vec<u32>,
    pub has_row_numbers: bool,
    /// The largest row number that each leaf may hold.
    most: Vec<i64>,
    /// The pages above the leaves, each with the hash of its bytes.
    above: Vec<(u32, u128)>,
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
    /// Whether the structure of a leaf was found odd, or not looked at.
    is_unchecked: bool,
    /// The leaves' prints.
    prints: Prints,
    /// The pages above leaves that say of all of them what they said when those were checked, where something is known from a memory.
    above: Vec<(u32, u128)>,
    /// How many rows each leaf has, where its records go on nowhere else; known when the marks are taken out.
    rows: Vec<Option<u32>>,
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
        let tree = if has_row_numbers { tree::walk(source, root)? } else { Tree { leaves: vec![root], ..Tree::default() } };
        let Tree { leaves, most, above } = tree;
        Ok(Self { root, layout, leaves, has_row_numbers, most, above, noted: Mutex::default() })
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // A thread that panicked left no more than gaps, which the count tells.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the structure of a leaf, by its place.
    pub fn check_leaf(&self, check: &mut LeafCheck, place: usize, number: u32, bytes: &[u8]) -> Result<(), Odd> {
        let above = place.checked_sub(1).and_then(|before| self.most.get(before)).copied();
        let most = *self.most.get(place).ok_or_else(|| Odd::new("a leaf is not there"))?;
        check.check(number, bytes, above, most)
    }

    /// Adds the leaves whose structure was checked.
    pub fn add_known(&self, known: &mut Known) {
        let noted = self.noted();
        if !self.has_row_numbers || noted.is_unchecked || noted.rows.len() != self.leaves.len() {
            return;
        }
        for (place, (page, rows)) in self.leaves.iter().zip(&noted.rows).enumerate() {
            if let Some(rows) = rows {
                known.add(*page, *rows, noted.stale.as_ref().is_none_or(|stale| !stale.is_same(place)));
            }
        }
        known.add_above(noted.above.iter().copied());
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
        let (is_kept, has_prints) = (memory::are_kept(self.leaves.len()), memory::are_prints_kept(self.leaves.len(), shape.columns.len()));
        let mut rows = match has_prints {
            true => Rows::new(self, source, shape, rule),
            false => Rows::with_layout(self, &self.layout, source, shape, rule),
        };
        let (mut marks, mut count) = (Vec::new(), 0);
        let (mut check, mut is_unchecked) = (LeafCheck::new(source), false);
        let flow = if self.has_row_numbers {
            rows.follow(leaves.start.checked_sub(1).and_then(|before| self.leaves.get(before)).copied())?;
            let pages = self.leaves.get(leaves.clone()).ok_or_else(|| Odd::new("no part of it"))?;
            read_pages(source, pages, &mut |number, bytes| {
                is_unchecked = is_unchecked || self.check_leaf(&mut check, leaves.start + count, number, bytes).is_err();
                let mark = rows.read_leaf(number, bytes, sink)?;
                count += 1;
                marks.extend(mark.filter(|_| is_kept));
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
        if is_kept {
            noted.marks.resize(self.leaves.len(), Mark::default());
        }
        noted.has_surplus |= rows.has_surplus;
        noted.is_unchecked |= is_unchecked;
        noted.read += marks.len();
        if let Some(place) = noted.marks.get_mut(leaves.start..leaves.start + marks.len()) {
            place.copy_from_slice(&marks);
        }
        if self.has_row_numbers && has_prints {
            if noted.prints.sums.is_empty() {
                noted.prints = Prints::of(shape.columns.len(), self.leaves.len());
            }
            let _ = noted.prints.put(leaves.start, &rows.prints);
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
                *self.noted() = Noted { marks: memory.leaves.marks, read: 1, has_surplus: memory.has_surplus, ..Noted::default() };
            }
            return Ok(is_same.then(Vec::new));
        }
        let TableMemory { has_surplus, is_checked, above, leaves, prints, .. } = memory;
        let Some(found) = Stale::find(self, source, shape, (leaves, prints), groups, changed)? else { return Ok(None) };
        let then: HashMap<u32, u128> = above.into_iter().collect();
        let Found { stale, marks, prints, looked } = found;
        let again = stale.again.clone();
        *self.noted() = Noted {
            read: marks.len(),
            marks,
            has_surplus: has_surplus | looked.has_surplus,
            stale: Some(Arc::new(stale)),
            is_unchecked: !is_checked | looked.is_unchecked,
            prints,
            above: self.above.iter().filter(|(page, hash)| then.get(page) == Some(hash)).copied().collect(),
            rows: Vec::new(),
        };
        Ok(Some(again))
    }

    /// Finds the columns of a stale group that have other values; see [`Stale::read_edited`].
    pub fn read_edited(&self, source: &Source, shape: &TableShape, group: usize, then: Then<'_>) -> Result<Option<Vec<EditedColumn>>, Odd> {
        self.known_stale()?.read_edited(self, source, shape, group, then)
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
        self.known_stale()?.read(self, source, shape, rule, group, sink)
    }

    fn known_stale(&self) -> Result<Arc<Stale>, Odd> {
        self.noted().stale.clone().ok_or_else(|| Odd::new("nothing is known of it"))
    }

    /// Takes out what is to be remembered, where all of the table was read or known.
    pub fn memory(&self) -> Option<TableMemory> {
        let mut noted = self.noted();
        let is_whole = noted.read == self.leaves.len() && noted.marks.len() == noted.read;
        noted.read = 0;
        let marks = std::mem::take(&mut noted.marks);
        if !is_whole {
            return None;
        }
        noted.rows = marks.iter().map(|mark| (!mark.overflows).then_some(mark.rows)).collect();
        Some(TableMemory {
            signature: self.layout.signature(),
            has_surplus: noted.has_surplus,
            has_row_numbers: self.has_row_numbers,
            is_checked: self.has_row_numbers && !noted.is_unchecked,
            leaves: Leaves { pages: self.leaves.clone(), marks },
            prints: std::mem::take(&mut noted.prints),
            above: if noted.stale.is_some() { noted.above.clone() } else { self.above.clone() },
        })
    }
}
