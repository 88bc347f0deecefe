//! What changed of a table since a memory of its pages, and the row groups that are to be read again for it.
//!
//! A group is *clean* if every leaf that has a row of it, and what follows its last leaf, is what it was; all others are read again, each from its first row
//! on, until a group ends where one began before. Where that is: rows keep their places in a leaf whose cut hashes are what they were, whatever else of it changed.

mod edited;
mod look;

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::Odd;
use super::memory::{Leaves, Mark};
use super::prints::{Defaults, Prints};
use super::rows::{Rows, Sink, read_pages};
use super::source::Source;
use super::table::Table;
use crate::rows::{CutRule, TableShape};
use look::{Changed, Remarks, look};

/// A row's place: the number of its leaf, and of its cell in it.
type Place = (usize, usize);

/// A rule that ends no group.
const ENDLESS: CutRule = CutRule { rows_target: u64::MAX / 8 };

/// What changed since a memory.
#[derive(Debug)]
pub(super) struct Stale {
    /// The groups that are to be read again, and are known to begin where they began.
    pub again: Vec<usize>,
    /// Where groups begin now that are known to begin where they began, in order.
    begins: Vec<(Place, usize)>,
    /// How many rows each leaf has.
    rows: Vec<u32>,
    /// How many rows each group had.
    groups: Vec<u64>,
    /// Stale groups that have the rows that they had, with other values in some, in order.
    edited: Vec<Edited>,
    /// The leaves that are not what they were, in order.
    changed_leaves: Vec<usize>,
    /// The prints that they had, where those are known: their sums, and a byte a column.
    prints_then: Vec<(u128, Box<[u8]>)>,
}

/// What a comparison with a memory found.
#[derive(Debug)]
pub(super) struct Found {
    pub stale: Stale,
    /// The leaves' marks now.
    pub marks: Vec<Mark>,
    /// The leaves' prints now, where they are known.
    pub prints: Prints,
    pub looked: Remarks,
}

/// A group in which values changed, and no key.
#[derive(Debug, Clone, Copy)]
struct Edited {
    group: usize,
    /// Where it begins.
    begin: Place,
    rows: u64,
}

impl Stale {
    /// Compares a table with a memory of its leaves, when it had groups of so many rows. None where nothing can be told, or most changed. Where it is known
    /// which pages can have `changed` since, others are not looked at.
    pub fn find(
        table: &Table,
        source: &Source,
        shape: &TableShape,
        (memory, prints): (Leaves, Prints),
        groups: &[u64],
        changed: Option<&HashSet<u32>>,
    ) -> Result<Option<Found>, Odd> {
        let Leaves { pages: then, marks: marks_then } = memory;
        let total: u64 = marks_then.iter().map(|mark| u64::from(mark.rows)).sum();
        if then.len() != marks_then.len() || total != groups.iter().sum::<u64>() {
            return Ok(None);
        }
        let places = Alignment::of(&then, &table.leaves);
        let rows_then: Vec<u32> = marks_then.iter().map(|mark| mark.rows).collect();
        // As they were where they stood, where they stand now.
        let mut marks = match &places.now {
            None => marks_then,
            Some(now) => {
                let mut marks = vec![Mark::default(); table.leaves.len()];
                for (mark, now) in marks_then.iter().zip(now) {
                    if let Some(place) = now.and_then(|now| marks.get_mut(now)) {
                        *place = *mark;
                    }
                }
                marks
            }
        };
        let is_of_these = (1..=shape.columns.len()).contains(&prints.columns) && prints.sums.len() == then.len();
        let mut prints = match &places.now {
            _ if !is_of_these => Prints::default(),
            None => prints,
            Some(now) => prints.moved(now, table.leaves.len()),
        };
        // What a row goes on in is in no list of leaves.
        let is_wanted = |(place, (page, mark)): (usize, (&u32, &Mark))| {
            let is_known = changed.is_some_and(|changed| places.is_old(place) && !mark.overflows && !changed.contains(page));
            if is_known { None } else { u32::try_from(place).ok() }
        };
        let wanted: Vec<u32> = table.leaves.iter().zip(&marks).enumerate().filter_map(is_wanted).collect();
        let Some(looked) = look(table, source, shape, &marks, &places, &wanted)? else { return Ok(None) };
        let remarks = looked.iter().fold(Remarks::default(), |all, look| Remarks {
            has_surplus: all.has_surplus | look.remarks.has_surplus,
            is_unchecked: all.is_unchecked | look.remarks.is_unchecked,
        });
        // In order, as the leaves were looked at.
        let changed: Vec<Changed> = looked.into_iter().flat_map(|look| look.changed).collect();
        let mut states = vec![LeafState::Same; table.leaves.len()];
        let mut defaults = Defaults::of(shape, prints.columns);
        let (mut prints_then, mut is_wider) = (Vec::with_capacity(changed.len()), false);
        for Changed { place, state, mark, hashes } in &changed {
            if let (Some(state_then), Some(mark_then)) = (states.get_mut(*place), marks.get_mut(*place)) {
                prints_then.push(prints.get(*place).map(|print| defaults.widen(print, mark_then.rows)).unwrap_or_default());
                is_wider |= hashes.get(prints.columns..).is_some_and(|added| added != defaults.hashes(mark.rows));
                (*state_then, *mark_then) = (*state, *mark);
            }
        }
        if is_wider && prints.columns > 0 {
            prints = defaults.widen_all(&prints, &marks);
        }
        for Changed { place, hashes, .. } in &changed {
            prints.set(*place, hashes);
        }
        let stale = Self::sort_out(groups, &rows_then, &marks, &places, &states);
        Ok(stale.map(|stale| Found { stale: Self { prints_then, ..stale }, marks, prints, looked: remarks }))
    }

    /// Tells whether a leaf, by its place now, is what it was.
    pub fn is_same(&self, place: usize) -> bool {
        self.changed_leaves.binary_search(&place).is_err()
    }

    /// Finds the groups that are to be read again.
    fn sort_out(groups: &[u64], then: &[u32], now: &[Mark], places: &Alignment, states: &[LeafState]) -> Option<Self> {
        // Whether a leaf of then has the rows that it had, and what followed it follows it.
        let is_kept = |leaf: usize| {
            let Some(at) = places.of_then(leaf) else { return false };
            let follows = if leaf + 1 < then.len() { places.of_then(leaf + 1) == Some(at + 1) } else { at + 1 == now.len() };
            follows && states.get(at).is_some_and(|state| *state != LeafState::Recut)
        };
        // Whether a leaf of then, and what follows it, is what it was.
        let is_same = |leaf: usize| is_kept(leaf) && places.of_then(leaf).and_then(|at| states.get(at)) == Some(&LeafState::Same);
        let (mut again, mut begins, mut edited) = (Vec::new(), Vec::with_capacity(groups.len()), Vec::new());
        let (mut leaf, mut cell) = (0_usize, 0_u64);
        let mut is_first_leaf_same = is_same(0);
        for (group, &rows) in groups.iter().enumerate() {
            // Rows that are left to be passed, over whole leaves as long as that goes.
            let start = (leaf, cell);
            let mut is_clean = is_first_leaf_same;
            let mut left = rows;
            loop {
                let room = u64::from(*then.get(leaf)?) - cell;
                if left < room {
                    cell += left;
                    break;
                }
                left -= room;
                (leaf, cell) = (leaf + 1, 0);
                if leaf < then.len() {
                    is_first_leaf_same = is_same(leaf);
                }
                if left == 0 {
                    break;
                }
                is_clean &= is_first_leaf_same;
            }
            let at = if group == 0 { Some(0) } else { places.of_then(start.0) };
            // In a leaf whose rows are others, only its first row is where it was: at its head.
            let begins_at = at.filter(|at| start.1 == 0 || states.get(*at).is_some_and(|state| *state != LeafState::Recut));
            if let Some(at) = begins_at {
                begins.push(((at, usize::try_from(start.1).ok()?), group));
                if !is_clean {
                    again.push(group);
                    let last = if cell > 0 { leaf } else { leaf.saturating_sub(1) };
                    if (start.0..=last).all(is_kept) {
                        edited.push(Edited { group, begin: (at, usize::try_from(start.1).ok()?), rows });
                    }
                }
            } else if is_clean {
                return None;
            }
        }
        // Leaves keep their order, or nothing is sure.
        if !begins.is_sorted_by(|a, b| a.0 < b.0) || (groups.is_empty() && states.iter().any(|state| *state != LeafState::Same)) {
            return None;
        }
        let changed_leaves = states.iter().enumerate().filter(|(_, state)| **state != LeafState::Same).map(|(at, _)| at).collect();
        Some(Self {
            again,
            begins,
            rows: now.iter().map(|mark| mark.rows).collect(),
            groups: groups.to_vec(),
            edited,
            changed_leaves,
            prints_then: Vec::new(),
        })
    }

    /// Reads a group that is to be read again, and those after it up to one that begins as it did; returns which, or how many there were.
    pub fn read(
        &self,
        table: &Table,
        source: &Source,
        shape: &TableShape,
        rule: CutRule,
        group: usize,
        sink: Sink<'_>,
    ) -> Result<usize, Odd> {
        let at = self.begins.binary_search_by_key(&group, |(_, group)| *group).ok();
        let begin = at.and_then(|at| self.begins.get(at)).map(|(place, _)| *place);
        let (first, mut from) = begin.ok_or_else(|| Odd::new("it is not known where a group begins"))?;
        let mut rows = Rows::new(table, source, shape, rule);
        let mut until = None;
        let mut is_broken = false;
        let mut leaf = first;
        let leaves = table.leaves.get(first..).ok_or_else(|| Odd::new("a leaf is not there"))?;
        // Less at once than a group has, since it ends somewhere in between.
        for leaves in leaves.chunks((source.run_pages() / 4).max(1)) {
            let flow = read_pages(source, leaves, &mut |number, bytes| {
                let flow = rows.read_cells(number, bytes, std::mem::take(&mut from), &mut |group, cell| {
                    is_broken = sink(group).is_break();
                    until = self.begins_at((leaf, cell));
                    if is_broken || until.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
                leaf += 1;
                Ok(flow)
            })?;
            if flow.is_break() {
                break;
            }
        }
        if is_broken {
            return Ok(self.groups.len());
        }
        if let Some(until) = until {
            return Ok(until);
        }
        if let Some(group) = rows.finish() {
            let _ = sink(group);
        }
        Ok(self.groups.len())
    }

    /// Returns the group that began at a place.
    fn begins_at(&self, place: Place) -> Option<usize> {
        let (mut leaf, mut cell) = place;
        while self.rows.get(leaf).is_some_and(|rows| cell >= *rows as usize) {
            (leaf, cell) = (leaf + 1, 0);
        }
        let at = self.begins.binary_search_by_key(&(leaf, cell), |(place, _)| *place).ok()?;
        self.begins.get(at).map(|(_, group)| *group)
    }
}

/// What became of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeafState {
    /// It is what it was.
    Same,
    /// Values changed, and no key.
    Edited,
    /// Rows came or went.
    Recut,
}

/// Which leaves are which of those of before.
struct Alignment {
    /// The place now of each leaf of then; none where all stand where they stood.
    now: Option<Vec<Option<usize>>>,
    /// Whether each leaf of now was there; none where all were.
    is_old: Option<Vec<bool>>,
}

impl Alignment {
    fn of(then: &[u32], now: &[u32]) -> Self {
        if then == now {
            return Self { now: None, is_old: None };
        }
        // The place of each page, counted from one; the numbers of pages are those of one file, and so not much more than there are.
        let mut places = vec![0_u32; now.iter().max().map_or(0, |page| *page as usize + 1)];
        for (place, page) in (1..).zip(now) {
            places[*page as usize] = place;
        }
        let place = |page: &u32| places.get(*page as usize).and_then(|place| place.checked_sub(1)).map(|place| place as usize);
        let found: Vec<Option<usize>> = then.iter().map(place).collect();
        let mut is_old = vec![false; now.len()];
        for at in found.iter().flatten() {
            is_old[*at] = true;
        }
        Self { now: Some(found), is_old: Some(is_old) }
    }

    /// Returns the place now of a leaf of then.
    fn of_then(&self, leaf: usize) -> Option<usize> {
        match &self.now {
            None => Some(leaf),
            Some(now) => now.get(leaf).copied().flatten(),
        }
    }

    fn is_old(&self, leaf: usize) -> bool {
        self.is_old.as_ref().is_none_or(|old| old.get(leaf).copied().unwrap_or(false))
    }
}
