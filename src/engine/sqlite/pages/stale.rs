//! What changed of a table since a memory of its pages, and the row groups that are to be read again for it.
//!
//! A group is *clean* if every leaf that has a row of it, and what follows its last leaf, is what it was; all others are read again, each from its first row
//! on, until a group ends where one began before. Where that is: rows keep their places in a leaf whose cut hashes are what they were, whatever else of it changed.

use std::collections::HashSet;
use std::num::NonZero;
use std::ops::ControlFlow;

use super::Odd;
use super::memory::{Leaves, Mark};
use super::record::{Layout, SKIPPED};
use super::rows::{Rows, Sink, read_pages};
use super::source::Source;
use super::table::Table;
use crate::rows::{CutRule, TableShape};

/// A rule that ends no group.
const ENDLESS: CutRule = CutRule { rows_target: u64::MAX / 8 };

/// Fewer leaves are not worth another thread.
const THREAD_LEAVES_MIN: usize = 512;

/// The most threads that look at leaves.
const THREADS_MAX: usize = 16;

/// A row's place: the number of its leaf, and of its cell in it.
type Place = (usize, usize);

/// What changed since a memory.
#[derive(Debug)]
pub(super) struct Stale {
    /// The groups that are to be read again, and are known to begin where they began.
    pub again: Vec<usize>,
    /// Where groups begin now that are known to begin where they began, in order.
    begins: Vec<(Place, usize)>,
    /// How many rows each leaf has.
    rows: Vec<u32>,
    /// How many groups there were.
    groups: usize,
}

impl Stale {
    /// Compares a table with a memory of its leaves, when it had groups of so many rows; returns the leaves' marks now too, and whether a record that was
    /// looked at has more fields than there are columns. None where nothing can be told, or most changed. Where it is known which pages can have `changed`
    /// since, others are not looked at.
    pub fn find(
        table: &Table,
        source: &Source,
        shape: &TableShape,
        memory: Leaves,
        groups: &[u64],
        changed: Option<&HashSet<u32>>,
    ) -> Result<Option<(Self, Vec<Mark>, bool)>, Odd> {
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
        // What a row goes on in is in no list of leaves.
        let is_wanted = |(place, (page, mark)): (usize, (&u32, &Mark))| {
            let is_known = changed.is_some_and(|changed| places.is_old(place) && !mark.overflows && !changed.contains(page));
            if is_known { None } else { u32::try_from(place).ok() }
        };
        let wanted: Vec<u32> = table.leaves.iter().zip(&marks).enumerate().filter_map(is_wanted).collect();
        let Some(looked) = look(table, source, shape, &marks, &places, &wanted)? else { return Ok(None) };
        let has_surplus = looked.iter().any(|look| look.has_surplus);
        let mut states = vec![LeafState::Same; table.leaves.len()];
        for (at, state, mark) in looked.into_iter().flat_map(|look| look.changed) {
            if let (Some(state_then), Some(mark_then)) = (states.get_mut(at), marks.get_mut(at)) {
                (*state_then, *mark_then) = (state, mark);
            }
        }
        let stale = Self::sort_out(groups, &rows_then, &marks, &places, &states);
        Ok(stale.map(|stale| (stale, marks, has_surplus)))
    }

    /// Finds the groups that are to be read again.
    fn sort_out(groups: &[u64], then: &[u32], now: &[Mark], places: &Alignment, states: &[LeafState]) -> Option<Self> {
        // Whether a leaf of then, and what follows it, is what it was.
        let is_same = |leaf: usize| {
            let Some(at) = places.of_then(leaf) else { return false };
            let follows = if leaf + 1 < then.len() { places.of_then(leaf + 1) == Some(at + 1) } else { at + 1 == now.len() };
            follows && states.get(at) == Some(&LeafState::Same)
        };
        let (mut again, mut begins) = (Vec::new(), Vec::with_capacity(groups.len()));
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
                }
            } else if is_clean {
                return None;
            }
        }
        // Leaves keep their order, or nothing is sure.
        if !begins.is_sorted_by(|a, b| a.0 < b.0) || (groups.is_empty() && states.iter().any(|state| *state != LeafState::Same)) {
            return None;
        }
        Some(Self { again, begins, rows: now.iter().map(|mark| mark.rows).collect(), groups: groups.len() })
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
            return Ok(self.groups);
        }
        if let Some(until) = until {
            return Ok(until);
        }
        if let Some(group) = rows.finish() {
            let _ = sink(group);
        }
        Ok(self.groups)
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

/// What was found in some leaves: those that changed, and whether a record has more fields than there are columns.
#[derive(Default)]
struct Looked {
    changed: Vec<(usize, LeafState, Mark)>,
    has_surplus: bool,
}

/// Compares leaves with their marks on all cores, and marks those anew that changed. None where most did.
fn look(
    table: &Table,
    source: &Source,
    shape: &TableShape,
    marks: &[Mark],
    places: &Alignment,
    wanted: &[u32],
) -> Result<Option<Vec<Looked>>, Odd> {
    let (layout, keys) = keys_only(table, shape);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, THREADS_MAX);
    let share = wanted.len().div_ceil(threads).max(THREAD_LEAVES_MIN);
    let changed_max = marks.len() / threads / 2 + THREAD_LEAVES_MIN;
    let work = |wanted: &[u32]| -> Result<Option<Looked>, Odd> {
        let mut found = Looked::default();
        let new = || Rows::with_layout(table, &layout, source, &keys, ENDLESS);
        let mut rows = new();
        let pages: Vec<u32> = wanted.iter().filter_map(|place| table.leaves.get(*place as usize)).copied().collect();
        let mut wanted = wanted.iter();
        let flow = read_pages(source, &pages, &mut |number, bytes| {
            let place = *wanted.next().ok_or_else(|| Odd::new("a leaf is not there"))? as usize;
            let mark = marks.get(place).ok_or_else(|| Odd::new("a leaf is not there"))?;
            let is_old = places.is_old(place);
            if is_old && rows.hash_leaf(number, bytes, mark.overflows)? == mark.hash {
                return Ok(ControlFlow::Continue(()));
            }
            // A builder of its own, since what it collects is of no use.
            let mut reader = new();
            let now =
                reader.read_leaf(number, bytes, &mut |_| ControlFlow::Continue(()))?.ok_or_else(|| Odd::new("a leaf is not there"))?;
            let is_edited = is_old && (now.cuts, now.rows) == (mark.cuts, mark.rows);
            found.has_surplus |= reader.has_surplus;
            found.changed.push((place, if is_edited { LeafState::Edited } else { LeafState::Recut }, now));
            Ok(if found.changed.len() > changed_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(flow.is_continue().then_some(found))
    };
    std::thread::scope(|scope| {
        let work = &work;
        let beside: Vec<_> = wanted.chunks(share).map(|wanted| scope.spawn(move || work(wanted))).collect();
        beside.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(Odd::new("a reader ended before its time")))).collect()
    })
}

/// Returns a layout and a shape that have only what cuts a table.
fn keys_only(table: &Table, shape: &TableShape) -> (Layout, TableShape) {
    if shape.identity.is_empty() {
        return (table.layout.clone(), shape.clone());
    }
    let mut layout = table.layout.clone();
    let place = |column: usize| shape.identity.iter().position(|key| *key == column);
    layout.row_number = layout.row_number.and_then(place);
    for field in &mut layout.fields {
        field.column = place(field.column).unwrap_or(SKIPPED);
    }
    let columns = shape.identity.iter().filter_map(|column| shape.columns.get(*column).cloned()).collect();
    let identity = (0..shape.identity.len()).collect();
    (layout, TableShape { name: shape.name.clone(), columns, identity, locator: Vec::new() })
}
