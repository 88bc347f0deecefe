//! References that a foreign key set to NULL or to their default, where others of the same column still stand: a few rows of the parent were replaced
//! or deleted.
//!
//! Nobody sees how a reference became NULL; that a foreign key did it is told by what it cannot but do. It takes *every* reference to a row, and it
//! does so for every row that was replaced: where rows of the parent changed and most of them kept their references, an UPDATE chose.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::FEW_IN;
use super::cause;
use super::marks::{self, NOTHING};
use super::search::{Search, Touched};
use super::values::Held;
use super::watch::{Tally, key_of};
use crate::ops::OpError;
use crate::schema::ForeignKey;
use crate::snapshot::changes::{Cells, RowChange, TablePair};

/// References that went through a foreign key.
pub(super) struct Unset {
    pub(super) tally: Tally,
    pub(super) held: Held,
    pub(super) cause: String,
}

/// Finds the references in a paired column that a foreign key took.
pub(super) fn references(search: &Search<'_>, at: usize, place: usize) -> Result<Option<Unset>, OpError> {
    let pair = search.touched[at].pair;
    let Some(before) = &pair.before else { return Ok(None) };
    let Some(column) = pair.columns.get(place).and_then(|column| before.columns.get(column.before?)) else { return Ok(None) };
    let schema = &search.comparison.before.schema;
    let keys = schema.table(&before.name).map_or(&[][..], |table| &table.foreign_keys);
    let mut best: Option<Unset> = None;
    for key in keys.iter().filter(|key| matches!(key.on_delete.as_str(), "SET NULL" | "SET DEFAULT")) {
        if !key.columns.iter().any(|name| name.eq_ignore_ascii_case(&column.name)) {
            continue;
        }
        let found = through(search, at, key, place)?;
        if let Some(found) = found
            && best.as_ref().is_none_or(|best| best.tally.count < found.tally.count)
        {
            best = Some(found);
        }
    }
    Ok(best)
}

/// Finds those that one foreign key took.
fn through(search: &Search<'_>, at: usize, key: &ForeignKey, place: usize) -> Result<Option<Unset>, OpError> {
    let pair = search.touched[at].pair;
    let (Some(before), Some(after)) = (&pair.before, &pair.after) else { return Ok(None) };
    let Some(columns) = places(pair, &key.columns) else { return Ok(None) };
    let Some(parent) = changed_parents(search, key)? else { return Ok(None) };
    // How many refer to each row, and how many of those do not any more.
    let Some((_, manifest)) = search.comparison.before.table(&before.name) else { return Ok(None) };
    let indexes: Vec<usize> = columns.iter().filter_map(|&column| pair.columns[column].before).collect();
    let mut staying: HashMap<Vec<u64>, i64> = HashMap::new();
    search.columns(manifest, &indexes, &mut |cells| {
        let reference: Vec<u64> = cells.iter().map(|cell| marks::mark(cell)).collect();
        if !reference.contains(&NOTHING) {
            *staying.entry(reference).or_default() += 1;
        }
    })?;
    let referred: HashSet<Vec<u64>> = staying.keys().cloned().collect();
    let mut unset: HashMap<Vec<u64>, u64> = HashMap::new();
    let is_unset = |cell: &str, index: usize| match key.on_delete.as_str() {
        "SET NULL" => cell == "null",
        _ => after.columns.get(index).is_some_and(|column| column.default == cell),
    };
    let reference = |change: &RowChange| -> Option<(Vec<u64>, bool)> {
        let (row, is, changed) = match change {
            RowChange::Removed(row) => (row, None, &[][..]),
            RowChange::Changed { before, after, columns } => (before, Some(after), &columns[..]),
            RowChange::Added(_) => return None,
        };
        if is.is_some() && !columns.iter().any(|column| changed.contains(column)) {
            return None;
        }
        let marks: Vec<u64> = indexes.iter().filter_map(|&index| row.get(index)).map(|cell| marks::mark(cell)).collect();
        let was_unset = is.is_some_and(|is| {
            let mut indexes = columns.iter().filter_map(|&column| pair.columns[column].after);
            indexes.all(|index| is.get(index).is_some_and(|cell| is_unset(cell, index)))
        });
        (!marks.contains(&NOTHING)).then_some((marks, was_unset))
    };
    search.comparison.rows(pair, Cells::All, &mut |change| {
        if let Some((reference, was_unset)) = reference(&change) {
            if was_unset {
                *unset.entry(reference.clone()).or_default() += 1;
            }
            *staying.entry(reference).or_default() -= 1;
        }
        ControlFlow::Continue(())
    })?;
    // One or another may have been put right again.
    unset.retain(|reference, count| staying.get(reference).is_none_or(|staying| staying.saturating_mul(FEW_IN as i64) <= *count as i64));
    let replaced = parent.replaced.iter().filter(|row| referred.contains(*row));
    let (bereft, kept): (Vec<&Vec<u64>>, Vec<&Vec<u64>>) = replaced.partition(|row| unset.contains_key(*row));
    let mut taken: HashSet<Vec<u64>> = parent.deleted.iter().filter(|row| unset.contains_key(*row)).cloned().collect();
    let name = &key.parent;
    let event = if bereft.len() >= kept.len() && !bereft.is_empty() {
        taken.extend(bereft.into_iter().cloned());
        format!("when rows of `{name}` were replaced")
    } else {
        format!("when rows of `{name}` were deleted")
    };
    if taken.is_empty() {
        return Ok(None);
    }
    let (mut tally, mut held) = (Tally::default(), Held::default());
    let index = pair.columns[place].before;
    search.comparison.rows(pair, Cells::All, &mut |change| {
        if let Some((reference, true)) = reference(&change)
            && taken.contains(&reference)
            && let RowChange::Changed { before: row, .. } = &change
            && let Some(cell) = index.and_then(|index| row.get(index))
        {
            tally.add(&|| key_of(before, row));
            held.push(before, row, cell);
        }
        ControlFlow::Continue(())
    })?;
    let through = cause::name(&search.comparison.before.schema, &before.name, key);
    let cause = format!("they went through the foreign key {through} ON DELETE {}, {event}", key.on_delete);
    Ok((tally.count > 0).then_some(Unset { tally, held, cause }))
}

/// Rows of a parent that something happened to, by what refers to them.
struct Parents {
    /// They stand there with other values.
    replaced: HashSet<Vec<u64>>,
    deleted: HashSet<Vec<u64>>,
}

fn changed_parents(search: &Search<'_>, key: &ForeignKey) -> Result<Option<Parents>, OpError> {
    let is_parent = |touched: &&Touched<'_>| touched.pair.before.as_ref().is_some_and(|shape| shape.name.eq_ignore_ascii_case(&key.parent));
    let Some(Touched { pair, .. }) = search.touched.iter().find(is_parent) else { return Ok(None) };
    let Some(columns) = places(pair, &cause::parent_columns(&search.comparison.before.schema, key)) else { return Ok(None) };
    let mut parents = Parents { replaced: HashSet::new(), deleted: HashSet::new() };
    search.comparison.rows(pair, Cells::All, &mut |change| {
        let marks = |row: &[crate::snapshot::changes::Cell]| -> Vec<u64> {
            let indexes = columns.iter().filter_map(|&column| pair.columns[column].before);
            indexes.filter_map(|index| row.get(index)).map(|cell| marks::mark(cell)).collect()
        };
        match change {
            RowChange::Removed(row) => _ = parents.deleted.insert(marks(&row)),
            RowChange::Changed { before, columns: changed, .. } => {
                let set = if columns.iter().any(|column| changed.contains(column)) { &mut parents.deleted } else { &mut parents.replaced };
                set.insert(marks(&before));
            }
            RowChange::Added(_) => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(Some(parents))
}

/// Finds columns of these names before among a pair's; none where one of them is not there after.
fn places(pair: &TablePair, names: &[String]) -> Option<Vec<usize>> {
    let before = pair.before.as_ref()?;
    let place = |name: &String| {
        let is_it = |column: &usize| before.columns.get(*column).is_some_and(|column| column.name.eq_ignore_ascii_case(name));
        pair.columns.iter().position(|column| column.after.is_some() && column.before.as_ref().is_some_and(is_it))
    };
    names.iter().map(place).collect::<Option<Vec<usize>>>().filter(|places| !places.is_empty())
}
