//! Finding the rows that went from one table among those that came to another: which column is which, and which row.

use std::cell::OnceCell;
use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_128;

use super::marks::NOTHING;
use super::search::Rows;
use super::watch::multiset;
use crate::rows::TableShape;

/// How many rows are looked at to see whether a column's values stand in another.
const SAMPLE_ROWS: usize = 4096;

/// The share of a sample's values from which on a column of another name may be where they went, in percent.
const SAMPLE_PERCENT: usize = 50;

/// The share of the rows matched so far that a further column must leave, in percent.
const KEPT_PERCENT: usize = 95;

/// From how many columns a match is tried.
const ANCHORS_MAX: usize = 4;

/// How the rows that went are found among those that came.
pub(super) struct Match {
    /// Columns before and after.
    pub(super) columns: Vec<(usize, usize)>,
    pub(super) rows: Vec<usize>,
}

/// Returns 128 bits that stand for some cells of a row.
pub(super) fn projection(marks: impl Iterator<Item = u64>) -> u128 {
    let bytes: Vec<u8> = marks.flat_map(u64::to_le_bytes).collect();
    xxh3_128(&bytes)
}

/// The search for rows that went from one table among those that came to another.
pub(super) struct Matching<'a> {
    pub(super) before: &'a TableShape,
    pub(super) after: &'a TableShape,
    pub(super) is_same: bool,
    pub(super) gone: &'a Rows,
    pub(super) open: &'a [usize],
    pub(super) came: &'a Rows,
}

/// A column before that may be one after.
struct Likely {
    from: usize,
    to: usize,
    is_namesake: bool,
    different: usize,
}

impl Matching<'_> {
    pub(super) fn run(&self) -> Option<Match> {
        let mut likely = self.likely();
        likely.sort_by_key(|pair| std::cmp::Reverse((self.gone.is_telling[pair.from], pair.different)));
        let is_key = |pair: &Likely| self.before.identity.contains(&pair.from);
        let is_surrogate = |pair: &Likely| self.before.identity == [pair.from] && self.gone.is_integer[pair.from];
        let is_telling = |pair: &Likely| self.gone.is_telling[pair.from] && !is_surrogate(pair);
        let all: Vec<_> = likely.iter().map(|pair| (pair.from, pair.to)).collect();
        let anchors: Vec<&Likely> =
            likely.iter().filter(|pair| is_telling(pair) && (pair.is_namesake || pair.different > 1)).take(ANCHORS_MAX).collect();
        if !anchors.is_empty() && self.matched(&all).len() == self.open.len() {
            return Some(Match { columns: all, rows: self.open.to_vec() });
        }
        // It starts from one telling column, and takes along the others that leave nearly all rows found by then.
        let grow = |anchor: &&Likely| {
            let mut columns = vec![(anchor.from, anchor.to)];
            let mut rows = self.matched(&columns);
            for pair in likely.iter().filter(|pair| pair.from != anchor.from) {
                let trial: Vec<_> = columns.iter().copied().chain([(pair.from, pair.to)]).collect();
                let found = self.matched(&trial);
                let percent = if is_key(pair) && self.gone.is_integer[pair.from] { 100 } else { KEPT_PERCENT };
                if found.len() * 100 >= rows.len() * percent {
                    (columns, rows) = (trial, found);
                }
            }
            // The same few words stand in many tables: some rows alone prove nothing by them.
            let is_whole = rows.len() == self.open.len() || columns.len() == likely.len();
            let is_proof = is_whole || anchor.different > 2 && anchor.different * 2 >= rows.len().min(SAMPLE_ROWS);
            (is_proof && !rows.is_empty()).then_some(Match { columns, rows })
        };
        let grown = anchors.iter().filter_map(grow).max_by_key(|found| found.rows.len() * found.columns.len());
        if anchors.is_empty() { self.run_without_telling(&likely) } else { grown }
    }

    /// Tables of nothing but keys and counts: only where all columns and all rows are found, and the target has no others.
    fn run_without_telling(&self, likely: &[Likely]) -> Option<Match> {
        let is_surrogate = |shape: &TableShape, rows: &Rows, column: usize| shape.identity == [column] && rows.is_integer[column];
        let holds = |column: usize| self.open.iter().any(|&row| self.gone.mark(row, column) != NOTHING);
        let named: Vec<(usize, usize)> = likely.iter().filter(|pair| pair.is_namesake).map(|pair| (pair.from, pair.to)).collect();
        let without: Vec<_> = named.iter().copied().filter(|(from, _)| !is_surrogate(self.before, self.gone, *from)).collect();
        [named, without].into_iter().find_map(|columns| {
            let is_from = |at: usize| columns.iter().any(|(from, _)| *from == at);
            let is_to = |at: usize| columns.iter().any(|(_, to)| *to == at);
            let all_from = (0..self.before.columns.len())
                .all(|at| self.before.columns[at].hidden || is_from(at) || is_surrogate(self.before, self.gone, at) || !holds(at));
            let all_to = (0..self.after.columns.len()).all(|at| {
                self.after.columns[at].hidden || is_to(at) || is_surrogate(self.after, self.came, at) || self.came.different(at).is_empty()
            });
            if columns.is_empty() || !all_from || !all_to {
                return None;
            }
            let rows = self.matched(&columns);
            (rows.len() == self.open.len()).then_some(Match { columns, rows })
        })
    }

    /// Finds for each column those that its values may have gone to: the one of its name, else the one that most of them stand in.
    fn likely(&self) -> Vec<Likely> {
        let is_open = |shape: &TableShape, at: usize| !shape.columns[at].hidden && !shape.columns[at].generated;
        let named = |name: &str| {
            (0..self.after.columns.len()).find(|&at| is_open(self.after, at) && self.after.columns[at].name.eq_ignore_ascii_case(name))
        };
        let came: Vec<OnceCell<HashSet<u64>>> = self.after.columns.iter().map(|_| OnceCell::new()).collect();
        let step = (self.open.len() / SAMPLE_ROWS).max(1);
        let mut likely: Vec<Likely> = Vec::new();
        for from in (0..self.before.columns.len()).filter(|&at| is_open(self.before, at)) {
            let sample: Vec<u64> =
                self.open.iter().step_by(step).map(|&row| self.gone.mark(row, from)).filter(|mark| *mark != NOTHING).collect();
            let different = sample.iter().collect::<HashSet<_>>().len();
            let contained = |to: usize| {
                let values = came[to].get_or_init(|| (0..self.came.len()).map(|row| self.came.mark(row, to)).collect());
                sample.iter().filter(|mark| values.contains(mark)).count()
            };
            let namesake = named(&self.before.columns[from].name);
            if let Some(to) = namesake
                && (sample.is_empty() || self.is_same || contained(to) > 0)
            {
                likely.push(Likely { from, to, is_namesake: true, different });
                continue;
            }
            // A flag stands in every flag, a count in every count.
            if different < 3 && !self.gone.is_telling[from] || different == 0 {
                continue;
            }
            // What another column of that name will go to; a key may be numbered anew, and its place be taken.
            let is_named = |to: usize| {
                let mut others = (0..self.before.columns.len()).filter(|at| self.before.identity != [*at] || !self.gone.is_integer[*at]);
                others.any(|at| self.before.columns[at].name.eq_ignore_ascii_case(&self.after.columns[to].name))
            };
            let others = (0..self.after.columns.len()).filter(|&to| is_open(self.after, to) && !is_named(to));
            let best = others.map(|to| (contained(to), to)).max_by_key(|(count, to)| (*count, std::cmp::Reverse(*to)));
            if let Some((count, to)) = best
                && count * 100 >= sample.len() * SAMPLE_PERCENT
            {
                likely.push(Likely { from, to, is_namesake: false, different });
            }
        }
        likely
    }

    /// Finds the rows that went among those that came, by these columns; a row that came stands for one that went.
    fn matched(&self, columns: &[(usize, usize)]) -> Vec<usize> {
        let came = |row: usize| {
            let is_fresh = columns.iter().any(|&(_, to)| self.came.is_fresh(row, to));
            is_fresh.then(|| projection(columns.iter().map(|&(_, to)| self.came.mark(row, to))))
        };
        let mut counts = multiset((0..self.came.len()).filter_map(came));
        let mut is_there = |row: &usize| {
            let cells = || columns.iter().map(|&(from, _)| self.gone.mark(*row, from));
            let mut take = || {
                let count = counts.get_mut(&projection(cells())).filter(|count| **count > 0)?;
                *count -= 1;
                Some(())
            };
            cells().any(|mark| mark != NOTHING) && take().is_some()
        };
        self.open.iter().copied().filter(|row| is_there(row)).collect()
    }
}
