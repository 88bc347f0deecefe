//! Where the rows went that are gone from a table: what of it moved, what was merged, and what did not go along. `moved.rs` says by what rules.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::marks::{self, NOTHING};
use super::matching::{Match, Matching, projection};
use super::moved::{Moved, MovedBy};
use super::search::{Rows, Search, Touched};
use super::values::{Held, keys_mark};
use crate::ops::OpError;
use crate::rows::TableShape;
use crate::snapshot::rowdiff;

/// To how many tables the rows of one are followed.
const TARGETS_MAX: usize = 8;

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

/// Follows the rows that went from a pair. None where there are too many to look.
pub(super) fn rows(search: &Search<'_>, at: usize) -> Result<Option<RowsFound>, OpError> {
    let Touched { pair, counts, .. } = &search.touched[at];
    // Rows without any column hold nothing to be looked for.
    if pair.after.is_none() && search.targets().next().is_none() || pair.before.as_ref().is_some_and(|shape| shape.columns.is_empty()) {
        return Ok(None);
    }
    let (Some(before), Some(gone)) = (&pair.before, search.departures(at)?) else { return Ok(None) };
    let mut found = RowsFound { moved: Vec::new(), left: (0..gone.len()).collect(), left_behind: Vec::new() };
    rekeyed(search, at, &gone, &mut found)?;
    let mut used = Vec::new();
    while !found.left.is_empty() && used.len() < TARGETS_MAX {
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

/// Finds rows whose key alone is another: a text that was made lower case, say. They stand where they stood, by the row number that people do not see,
/// and hold what they held, which is more than a coincidence.
fn rekeyed(search: &Search<'_>, at: usize, gone: &Rows, found: &mut RowsFound) -> Result<(), OpError> {
    let pair = search.touched[at].pair;
    let (Some(before), Some(after), Some(came)) = (&pair.before, &pair.after, search.arrivals(at)?) else { return Ok(()) };
    let hidden = |shape: &TableShape| shape.columns.iter().position(|column| column.hidden);
    let (Some(from), Some(to)) = (hidden(before), hidden(after)) else { return Ok(()) };
    if before.identity.contains(&from) || pair.rows_after < pair.rows_before {
        return Ok(());
    }
    let is_kept = |column: usize| !before.columns[column].hidden && !before.identity.contains(&column);
    let columns: Option<Vec<(usize, usize)>> = (0..before.columns.len())
        .filter(|&column| is_kept(column))
        .map(|column| Some((column, pair.columns.iter().find(|columns| columns.before == Some(column))?.after?)))
        .collect();
    let Some(columns) = columns.filter(|columns| columns.iter().any(|(column, _)| gone.is_telling[*column])) else { return Ok(()) };
    let stand: HashMap<u64, usize> = (0..came.len()).map(|row| (came.mark(row, to), row)).collect();
    found.left.retain(|&row| {
        let place = stand.get(&gone.mark(row, from));
        !place.is_some_and(|&place| columns.iter().all(|&(from, to)| gone.mark(row, from) == came.mark(place, to)))
    });
    Ok(())
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
    let mut stand: HashMap<u128, (Vec<usize>, usize)> = HashMap::new();
    for row in 0..came.len() {
        stand.entry(projection(matched.columns.iter().map(|&(_, to)| came.mark(row, to)))).or_default().0.push(row);
    }
    let mut place = |row: usize| {
        let (rows, next) = stand.get_mut(&projection(matched.columns.iter().map(|&(from, _)| gone.mark(row, from))))?;
        *next += 1;
        rows.get(*next - 1).or(rows.last()).copied()
    };
    let places: Vec<Option<usize>> = matched.rows.iter().map(|&row| place(row)).collect();
    for (column, shape) in before.columns.iter().enumerate() {
        let is_key = before.identity.contains(&column);
        let is_renumbered = is_key && (target == at || before.identity.len() == 1 && gone.is_integer[column]);
        if shape.hidden || shape.generated || is_renumbered || matched.columns.iter().any(|(from, _)| *from == column) {
            continue;
        }
        let mut values = Held { is_telling: gone.is_telling[column], is_text: !gone.is_integer[column], ..Held::default() };
        let mut went = Vec::new();
        for (&row, place) in matched.rows.iter().zip(&places).filter(|(row, _)| gone.mark(**row, column) != NOTHING) {
            values.marks.push(gone.mark(row, column));
            values.keys.extend(keys_mark(before.identity.iter().map(|&key| gone.mark(row, key))));
            went.extend(*place);
        }
        values.went = Some((target, went));
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
    let Some(columns) = columns.filter(|columns| is_open && (columns.len() > 1 || columns.iter().any(|(from, _)| gone.is_telling[*from])))
    else {
        return Ok(());
    };
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
