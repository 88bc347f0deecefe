//! Data that went from its place and stands in another afterwards: told apart from loss by content, and reported.
//!
//! - *Rows* ([`rows`]): a table was merged into another, split into several, or some of its rows were archived. Columns are matched by name, else by
//!   their values; a row has moved if the cells that were matched stand in one row that came. Each row that came stands for one that went; where
//!   rows were merged that are equal, at most half of them may have none of their own, since the few kinds of a long list are no copy of the list. A row's
//!   integer key may be another afterwards. Rows that were equal to others, and none are now, were duplicates.
//! - *Values* ([`values`]): a column was split off. Each value stands in a column that came, beside the key of its row; or at least three different
//!   ones, which are no integers, do so in a column of whatever rows (a lookup table); or in its own row each text is part of a column that came, or each of
//!   its words is (two names became one, or one two).
//!
//! Chance is no move: what was matched must tell something, by its name or because no flag, count or key is alike.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::ControlFlow;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::marks::{self, NOTHING};
use super::search::{Rows, Search, Touched};
use super::watch::multiset;
use crate::ops::OpError;
use crate::render::text::number;
use crate::rows::TableShape;
use crate::schema::Schema;
use crate::snapshot::changes::{Cell, Cells, RowChange};
use crate::snapshot::rowdiff;

/// How many rows are looked at to see whether a column's values stand in another.
const SAMPLE_ROWS: usize = 4096;

/// The share of a sample's values from which on a column of another name may be where they went, in percent.
const SAMPLE_PERCENT: usize = 50;

/// The share of the rows matched so far that a further column must leave, in percent.
const KEPT_PERCENT: usize = 95;

/// From how many columns a match is tried.
const ANCHORS_MAX: usize = 4;

/// To how many tables the rows of one are followed.
const TARGETS_MAX: usize = 8;

/// How many characters of a text make a coincidence unlikely.
const TELLING_CHARS: usize = 3;

/// Data that stands elsewhere now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// The table that it stood in, by its name before.
    pub table: String,
    /// The column; none where rows moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The table that it stands in.
    pub to_table: String,
    /// The columns there; none where rows moved.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to_columns: Vec<String>,
    /// How many rows or values.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// How many different ones stand there, where some have become one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub different: Option<u64>,
    /// How it was recognised.
    pub by: MovedBy,
}

/// How moved data was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MovedBy {
    /// Whole rows.
    Rows,
    /// Values, beside the keys of their rows.
    Values,
    /// Rows that were equal to one that is still there.
    Duplicate,
    /// Different values, each once or more.
    Lookup,
    /// Texts that are part of others, or were taken apart.
    Part,
}

impl Moved {
    /// Says it in a few words: ``120 rows of `users` to `people` ``.
    pub fn sentence(&self) -> String {
        let Self { table, to_table, count, of, .. } = self;
        let share = if count == of { number(*count) } else { format!("{} of {}", number(*count), number(*of)) };
        let different = self.different.map(|different| format!(", {} different", number(different))).unwrap_or_default();
        match &self.column {
            None => {
                let rows = if *of == 1 { "row" } else { "rows" };
                let place = if self.by == MovedBy::Duplicate {
                    let one = if *count == 1 { "an equal one" } else { "equal ones" };
                    format!("{one} still there")
                } else if table == to_table {
                    "other keys".to_owned()
                } else {
                    format!("`{to_table}`")
                };
                format!("{share} {rows} of `{table}` to {place}{different}")
            }
            Some(column) => {
                let places: Vec<String> = self.to_columns.iter().map(|column| format!("`{to_table}.{column}`")).collect();
                let word = if self.by == MovedBy::Part { "into" } else { "to" };
                let values = if *of == 1 { "value" } else { "values" };
                format!("`{table}.{column}` {word} {} ({share} {values}{different})", places.join(", "))
            }
        }
    }
}

/// What became of the rows that went from a table.
pub(super) struct RowsFound {
    pub(super) moved: Vec<Moved>,
    /// The rows that stand nowhere now: indexes into the departures, ascending.
    pub(super) left: Vec<usize>,
    /// Columns that moved rows held values in, and that did not go with them.
    pub(super) left_behind: Vec<LeftBehind>,
}

/// A column that did not go with the rows of a table.
pub(super) struct LeftBehind {
    /// Its index in the shape before.
    pub(super) column: usize,
    /// Where the rows went.
    pub(super) to: String,
    pub(super) values: Held,
}

/// Values that went from a column.
#[derive(Default)]
pub(super) struct Held {
    /// The marks of their rows' keys; empty where rows have no key of one column.
    keys: Vec<u64>,
    marks: Vec<u64>,
    is_telling: bool,
    is_text: bool,
}

impl Held {
    pub(super) fn count(&self) -> u64 {
        self.marks.len() as u64
    }

    pub(super) fn different(&self) -> HashSet<u64> {
        self.marks.iter().copied().collect()
    }

    fn push(&mut self, key: Option<&Cell>, cell: &str) {
        self.keys.extend(key.map(|key| marks::mark(key)));
        self.marks.push(marks::mark(cell));
        self.is_telling |= marks::is_telling(cell);
        self.is_text |= cell.starts_with(['"', '{']) || cell.contains('.');
    }
}

/// Follows the rows that went from a pair. None where there are too many to look.
pub(super) fn rows(search: &Search<'_>, at: usize) -> Result<Option<RowsFound>, OpError> {
    let Touched { pair, counts, .. } = &search.touched[at];
    let (Some(before), Some(gone)) = (&pair.before, search.departures(at)?) else { return Ok(None) };
    let mut found = RowsFound { moved: Vec::new(), left: (0..gone.len()).collect(), left_behind: Vec::new() };
    let mut used = Vec::new();
    while used.len() < TARGETS_MAX {
        let mut best: Option<(usize, Match)> = None;
        for (target, touched) in search.targets().filter(|(target, _)| !used.contains(target)) {
            let Some(after) = &touched.pair.after else { continue };
            let Some(came) = search.arrivals(target)? else { continue };
            let matching = Matching { before, after, is_same: target == at, gone: &gone, open: &found.left, came: &came };
            if let Some(matched) = matching.run()
                && best.as_ref().is_none_or(|(_, best)| matched.rows.len() > best.rows.len())
            {
                best = Some((target, matched));
            }
        }
        let Some((target, matched)) = best else { break };
        used.push(target);
        follow(search, at, target, &gone, matched, &mut found)?;
        if found.left.is_empty() {
            break;
        }
    }
    debug_assert_eq!(gone.len() as u64, counts.removed);
    duplicates(search, at, &gone, &mut found)?;
    Ok(Some(found))
}

/// Notes where rows went, and what did not go with them.
fn follow(search: &Search<'_>, at: usize, target: usize, gone: &Rows, mut matched: Match, found: &mut RowsFound) -> Result<(), OpError> {
    let (pair, to) = (search.touched[at].pair, search.touched[target].pair);
    let (Some(before), Some(after), Some(came)) = (&pair.before, &to.after, search.arrivals(target)?) else { return Ok(()) };
    let taken: HashSet<usize> = matched.rows.iter().copied().collect();
    found.left.retain(|row| !taken.contains(row));
    let merged = merged(search, gone, &found.left, &came, &matched, target, before)?;
    let is_merged = !merged.is_empty() && merged.len() <= matched.rows.len();
    let different = is_merged.then_some(matched.rows.len() as u64);
    if is_merged {
        let taken: HashSet<usize> = merged.iter().copied().collect();
        found.left.retain(|row| !taken.contains(row));
        matched.rows.extend(merged);
    }
    found.moved.push(Moved {
        table: before.name.clone(),
        column: None,
        to_table: after.name.clone(),
        to_columns: Vec::new(),
        count: matched.rows.len() as u64,
        of: gone.len() as u64,
        different,
        by: MovedBy::Rows,
    });
    let key = single_key(before);
    for (column, shape) in before.columns.iter().enumerate() {
        let is_key = before.identity.contains(&column);
        let is_renumbered = is_key && (target == at || before.identity.len() == 1 && gone.is_integer[column]);
        if shape.hidden || shape.generated || is_renumbered || matched.columns.iter().any(|(from, _)| *from == column) {
            continue;
        }
        let mut values = Held { is_telling: gone.is_telling[column], is_text: !gone.is_integer[column], ..Held::default() };
        for &row in matched.rows.iter().filter(|&&row| gone.mark(row, column) != NOTHING) {
            values.marks.push(gone.mark(row, column));
            values.keys.extend(key.map(|key| gone.mark(row, key)));
        }
        // A column that went along, with other values: a change.
        let namesake = after.columns.iter().position(|other| !other.hidden && other.name.eq_ignore_ascii_case(&shape.name));
        let went_along = namesake.is_some_and(|namesake| came.different(namesake).len() >= values.different().len().min(3));
        if values.count() > 0 && !went_along {
            found.left_behind.push(LeftBehind { column, to: after.name.clone(), values });
        }
    }
    Ok(())
}

/// Finds rows that are equal to rows that moved, or to some that stood at the target before: `INSERT OR IGNORE`.
fn merged(
    search: &Search<'_>,
    gone: &Rows,
    left: &[usize],
    came: &Rows,
    matched: &Match,
    target: usize,
    before: &TableShape,
) -> Result<Vec<usize>, OpError> {
    let is_surrogate = |column: usize| before.identity == [column] && gone.is_integer[column];
    let holds = |column: usize| left.iter().any(|&row| gone.mark(row, column) != NOTHING);
    let is_mapped = |column: usize| matched.columns.iter().any(|(from, _)| *from == column);
    let skips = (0..before.columns.len())
        .any(|at| !before.columns[at].hidden && !before.columns[at].generated && !is_surrogate(at) && !is_mapped(at) && holds(at));
    if left.is_empty() || skips {
        return Ok(Vec::new());
    }
    let project = |mark: &dyn Fn(usize) -> u64| projection(matched.columns.iter().map(|&(_, to)| mark(to)));
    let mut standing: HashSet<u128> = (0..came.len()).map(|row| project(&|column| came.mark(row, column))).collect();
    let pair = search.touched[target].pair;
    if let (Some(_), Some(after)) = (&pair.before, &pair.after)
        && search.fits(after, pair.rows_after)
        && let Some((_, manifest)) = search.comparison.after.table(&after.name)
    {
        rowdiff::table_rows(manifest, search.store, &mut |row| {
            standing.insert(project(&|column| row.get(column).map_or(NOTHING, |cell| marks::mark(cell))));
            ControlFlow::Continue(())
        })?;
    }
    let stands = |row: &usize| standing.contains(&projection(matched.columns.iter().map(|&(from, _)| gone.mark(*row, from))));
    Ok(left.iter().copied().filter(stands).collect())
}

/// Finds rows that went because they were equal, but for an integer key, to one that stays: what makes a table's rows unique. Where others are equal
/// still, nobody meant that.
fn duplicates(search: &Search<'_>, at: usize, gone: &Rows, found: &mut RowsFound) -> Result<(), OpError> {
    let pair = search.touched[at].pair;
    let (Some(before), Some(after)) = (&pair.before, &pair.after) else { return Ok(()) };
    let is_open = !found.left.is_empty() && found.left.len() as u64 <= pair.rows_after;
    let is_surrogate = |column: usize| before.identity == [column] && gone.is_integer[column];
    let kept = |column: usize| pair.columns.iter().find(|columns| columns.before == Some(column)).map(|columns| columns.after);
    let columns: Option<Vec<(usize, usize)>> = (0..before.columns.len())
        .filter(|&at| !before.columns[at].hidden && !before.columns[at].generated && !is_surrogate(at))
        .map(|at| Some((at, kept(at)??)))
        .collect();
    let Some(columns) = columns.filter(|columns| is_open && columns.iter().any(|(from, _)| gone.is_telling[*from])) else { return Ok(()) };
    let Some((_, manifest)) = search.comparison.after.table(&after.name).filter(|_| search.fits(after, pair.rows_after)) else {
        return Ok(());
    };
    let (mut standing, mut is_unique) = (HashSet::new(), true);
    rowdiff::table_rows(manifest, search.store, &mut |row| {
        let marks = columns.iter().map(|&(_, to)| row.get(to).map_or(NOTHING, |cell| marks::mark(cell)));
        is_unique &= standing.insert(projection(marks));
        if is_unique { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let stands = |row: &usize| standing.contains(&projection(columns.iter().map(|&(from, _)| gone.mark(*row, from))));
    let count = found.left.iter().filter(|row| stands(row)).count() as u64;
    if !is_unique || count == 0 {
        return Ok(());
    }
    found.left.retain(|row| !stands(row));
    found.moved.push(Moved {
        table: before.name.clone(),
        column: None,
        to_table: after.name.clone(),
        to_columns: Vec::new(),
        count,
        of: gone.len() as u64,
        different: None,
        by: MovedBy::Duplicate,
    });
    Ok(())
}

/// How the rows that went are found among those that came.
struct Match {
    /// Columns before and after.
    columns: Vec<(usize, usize)>,
    rows: Vec<usize>,
}

fn projection(marks: impl Iterator<Item = u64>) -> u128 {
    let bytes: Vec<u8> = marks.flat_map(u64::to_le_bytes).collect();
    xxh3_128(&bytes)
}

fn single_key(shape: &TableShape) -> Option<usize> {
    match shape.identity.as_slice() {
        [key] => Some(*key),
        _ => None,
    }
}

/// The search for rows that went from one table among those that came to another.
struct Matching<'a> {
    before: &'a TableShape,
    after: &'a TableShape,
    is_same: bool,
    gone: &'a Rows,
    open: &'a [usize],
    came: &'a Rows,
}

/// A column before that may be one after.
struct Likely {
    from: usize,
    to: usize,
    is_namesake: bool,
    different: usize,
}

impl Matching<'_> {
    fn run(&self) -> Option<Match> {
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
            held.push(key, cell);
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
            held.push(key.and_then(|key| before.get(key)), cell);
        }
        ControlFlow::Continue(())
    })?;
    Ok(Some(held))
}

/// Finds columns of the same rows that the texts of one went into, as a part or word by word; `held` is how many values there were.
pub(super) fn part(search: &Search<'_>, origin: Origin<'_>, column: usize, held: u64) -> Result<Option<Moved>, OpError> {
    let pair = search.touched[origin.at].pair;
    let (Some(before), Some(after)) = (&pair.before, &pair.after) else { return Ok(None) };
    let mut parts = Parts { holds_all: vec![true; after.columns.len()], has_words: vec![false; after.columns.len()], ..Parts::default() };
    search.comparison.rows(pair, Cells::All, &mut |change| {
        let RowChange::Changed { before, after: row, columns } = change else { return ControlFlow::Continue(()) };
        let Some(cell) = before.get(column).filter(|cell| marks::mark(cell) != NOTHING) else { return ControlFlow::Continue(()) };
        let came = columns.iter().filter_map(|&at| pair.columns.get(at)?.after);
        let came = came.filter(|at| Some(*at) != origin.after && !after.columns[*at].hidden && !after.columns[*at].generated);
        let texts: Vec<(usize, String)> = came.filter_map(|at| Some((at, marks::meaning(row.get(at)?).to_lowercase()))).collect();
        parts.see(&marks::meaning(cell).to_lowercase(), &texts)
    })?;
    let names = |which: &[bool]| -> Vec<String> {
        let columns = after.columns.iter().zip(which).filter(|(_, is_it)| **is_it);
        columns.map(|(column, _)| column.name.clone()).collect()
    };
    let to_columns = match parts.holds_all.iter().position(|holds| *holds) {
        _ if parts.seen != held || !parts.is_telling() => return Ok(None),
        Some(at) => vec![after.columns[at].name.clone()],
        None if parts.is_taken_apart => names(&parts.has_words),
        None => return Ok(None),
    };
    let (table, column) = (before.name.clone(), Some(origin.column.to_owned()));
    Ok(Some(Moved { table, column, to_table: after.name.clone(), to_columns, count: held, of: held, different: None, by: MovedBy::Part }))
}

/// Which columns of a row the text of another went into.
struct Parts {
    seen: u64,
    /// How many texts were long enough to tell.
    long: u64,
    different: HashSet<u64>,
    /// For each column after, whether every text was part of it.
    holds_all: Vec<bool>,
    /// For each column after, whether it had a word of any text.
    has_words: Vec<bool>,
    /// Whether every word stood in one of them.
    is_taken_apart: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self { seen: 0, long: 0, different: HashSet::new(), holds_all: Vec::new(), has_words: Vec::new(), is_taken_apart: true }
    }
}

impl Parts {
    fn is_telling(&self) -> bool {
        self.seen > 0 && (self.long * 2 >= self.seen || self.different.len() > 2)
    }

    fn see(&mut self, text: &str, came: &[(usize, String)]) -> ControlFlow<()> {
        self.seen += 1;
        self.long += u64::from(text.chars().count() >= TELLING_CHARS && marks::is_telling(text));
        if self.different.len() < 3 {
            self.different.insert(marks::mark(text));
        }
        for (at, holds) in self.holds_all.iter_mut().enumerate().filter(|(_, holds)| **holds) {
            *holds = came.iter().any(|(column, value)| *column == at && is_part(text, value));
        }
        let mut words = 0;
        for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let mut is_there = false;
            for (column, _) in came.iter().filter(|(_, value)| is_part(word, value)) {
                is_there = true;
                if let Some(has) = self.has_words.get_mut(*column) {
                    *has = true;
                }
            }
            self.is_taken_apart &= is_there;
            words += 1;
        }
        self.is_taken_apart &= words > 0;
        if self.is_taken_apart || self.holds_all.contains(&true) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Tells whether a text stands in another, not as a part of a word or number.
fn is_part(part: &str, whole: &str) -> bool {
    let ends = |letter: Option<char>| !letter.is_some_and(char::is_alphanumeric);
    whole.match_indices(part).any(|(at, _)| ends(whole[..at].chars().next_back()) && ends(whole[at + part.len()..].chars().next()))
}

/// Tells whether a column went on as a generated one, whose values are not stored.
pub(super) fn is_computed(schema: &Schema, table: &str, column: &str) -> bool {
    let columns = schema.table(table).map_or(&[][..], |table| &table.columns);
    columns.iter().any(|other| other.generated && other.name.eq_ignore_ascii_case(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_words_end() {
        assert!(
            is_part("ann", "ann lee") && is_part("lee", "ann lee") && is_part("12", "12 main street") && is_part("o'neil", "kim o'neil")
        );
        assert!(!is_part("an", "ann lee") && !is_part("1", "12 main street") && !is_part("x", ""));
    }

    #[test]
    fn a_move_is_said_in_a_few_words() {
        let rows = Moved {
            table: "users".into(),
            column: None,
            to_table: "people".into(),
            to_columns: Vec::new(),
            count: 120,
            of: 1200,
            different: None,
            by: MovedBy::Rows,
        };
        assert_eq!(rows.sentence(), "120 of 1,200 rows of `users` to `people`");
        let column = Some("name".to_owned());
        let words = Moved { column, to_columns: vec!["first".into(), "last".into()], count: 1200, by: MovedBy::Part, ..rows };
        assert_eq!(words.sentence(), "`users.name` into `people.first`, `people.last` (1,200 values)");
    }
}
