//! What is counted while the changed rows of one table go by, once: enough to suspect a loss. What is suspected is looked into later.

use std::collections::{HashMap, HashSet};

use super::conversion::{self, Survival};
use super::ledger::Entries;
use super::marks;
use crate::rows::TableShape;
use crate::snapshot::changes::{Cell, RowChange, TablePair};
use crate::store::Store;
use crate::value::Value;

/// How many rows of a loss are named.
pub(super) const EXAMPLES_MAX: usize = 5;

/// How many different values of a column are told apart; more are not counted.
const DIFFERENT_MAX: usize = 1 << 21;

/// How many values the changed ones of a column may have become, so that one of them may have overwritten the others.
const VALUES_MAX: usize = 4;

/// The largest value that is fetched to see how it was cut, in bytes.
const LARGE_BYTES_MAX: u64 = 64 << 20;

/// How many values something happened to, and the keys of some of their rows.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) examples: Vec<String>,
}

impl Tally {
    pub(super) fn add(&mut self, key: &dyn Fn() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(key());
        }
    }
}

/// What is counted of a pair.
pub(super) struct Watch<'a> {
    store: &'a Store,
    /// The keys of some rows that went.
    pub(super) removed: Vec<String>,
    /// The new entries, of a ledger.
    pub(super) entries: Entries,
    is_ledger: bool,
    /// One for each of [`TablePair::columns`].
    pub(super) columns: Vec<ColumnWatch>,
    /// Which columns of the same row the values came from, in every row where both changed: by the column that they came to, and how often.
    exchanged: HashMap<usize, Vec<(usize, u64)>>,
}

/// What is counted of a column.
#[derive(Default)]
pub(super) struct ColumnWatch {
    /// Whether its declared type is another.
    pub(super) is_retyped: bool,
    /// The value that means nothing besides NULL and the empty text: the default of a table that was made anew.
    pub(super) default: Option<String>,
    /// Whether the table was made anew, so that a copy may have left the column out.
    pub(super) is_copied: bool,
    /// Values that became nothing.
    pub(super) emptied: Tally,
    /// How many values became others.
    pub(super) replaced: u64,
    /// What the changed values became.
    pub(super) overwrite: Overwrite,
    /// Values that were cut to the length of the first of them.
    pub(super) cuts: Cuts,
    /// Numbers that became the same with fewer digits.
    pub(super) rounded: u64,
    /// Values that a change of type took, see [`ColumnWatch::destroyed`].
    lost: Tally,
    zeros: Tally,
    recoded: Tally,
    /// Whether all that changed is 0 or 1 now.
    is_flag: bool,
    /// The first few different values before.
    few: HashSet<u64>,
}

/// What the changed values of a column became.
#[derive(Default)]
pub(super) enum Overwrite {
    /// No value changed.
    #[default]
    None,
    /// One of a few.
    Few(Vec<Became>),
    /// Different ones.
    Many,
}

/// What changed values became.
pub(super) struct Became {
    pub(super) value: Cell,
    /// The different ones before, NULL and nothing not among them.
    pub(super) different: HashSet<u64>,
    /// How many values.
    pub(super) tally: Tally,
    /// Whether all of them, the new one too, are times.
    pub(super) is_time: bool,
}

/// Values that became their own beginning.
#[derive(Default)]
pub(super) struct Cuts {
    pub(super) tally: Tally,
    /// Their length now; none before the first, and none once there were two lengths.
    pub(super) length: Option<usize>,
    /// What was cut off the first.
    rest: Option<Vec<u8>>,
    /// Whether something else was cut off another.
    pub(super) is_various: bool,
    is_uneven: bool,
}

impl Cuts {
    fn see(&mut self, before: &[u8], after: &[u8], key: &dyn Fn() -> String) {
        let Survival::Cut(length) = conversion::cut(before, after) else { return };
        self.is_uneven |= length == 0 || self.tally.count > 0 && self.length != Some(length);
        self.length = Some(length).filter(|_| !self.is_uneven);
        let rest = &before[after.len()..];
        match &self.rest {
            Some(first) => self.is_various |= first != rest,
            None => self.rest = Some(rest.to_vec()),
        }
        self.tally.add(key);
    }
}

impl ColumnWatch {
    /// Tells whether a cell holds nothing.
    pub(super) fn is_nothing(&self, cell: &str) -> bool {
        matches!(cell, "null" | "\"\"") || self.default.as_deref() == Some(cell)
    }

    /// Returns the values that a change of type took.
    ///
    /// Where texts became other numbers than they begin with, they are codes, and a text that became 0 is one too; but where everything
    /// became 0 or 1, three different values and more cannot be told apart now.
    pub(super) fn destroyed(&self) -> Tally {
        let is_coded = self.recoded.count > 0;
        let is_collapsed = is_coded && self.is_flag && self.few.len() > 2;
        let mut all = Tally::default();
        let parts = [(&self.lost, true), (&self.zeros, !is_coded || is_collapsed), (&self.recoded, is_collapsed)];
        let cuts = self.cuts.tally.count < 2 || self.cuts.is_various;
        for (tally, _) in parts.into_iter().chain([(&self.cuts.tally, cuts)]).filter(|(_, counts)| *counts) {
            all.count += tally.count;
            all.examples.extend(tally.examples.iter().take(EXAMPLES_MAX - all.examples.len()).cloned());
        }
        all
    }

    fn see(&mut self, store: &Store, was: &Cell, is: &Cell, key: &dyn Fn() -> String) {
        match (self.is_nothing(was), self.is_nothing(is)) {
            (false, true) => self.emptied.add(key),
            (false, false) => self.replaced += 1,
            (true, _) => {}
        }
        self.see_overwrite(was, is, key);
        self.rounded += u64::from(!self.is_retyped && is_rounded(was, is));
        // Without its last quote, a text is the beginning of what it was cut from.
        let is_shorter = || is.len() < was.len() && is.get(..is.len().saturating_sub(1)).is_some_and(|start| was.starts_with(start));
        let may_be_cut = was.starts_with('{') && is.starts_with(['{', '"']) || was.starts_with('"') && is_shorter();
        if !(self.is_retyped || may_be_cut) {
            return;
        }
        let (Some(before), Some(after)) = (fetch(store, was), fetch(store, is)) else { return };
        if let (Value::Text(before) | Value::Blob(before), Value::Text(after) | Value::Blob(after)) = (&before, &after) {
            return self.cuts.see(before, after, key);
        }
        if !self.is_retyped || marks::mark(was) == marks::NOTHING {
            return;
        }
        self.is_flag = (self.is_flag || self.few.is_empty()) && matches!(&**is, "0" | "1" | "0.0" | "1.0" | "true" | "false");
        if self.few.len() < 3 {
            self.few.insert(marks::mark(was));
        }
        match conversion::survival(&before, &after) {
            Survival::Kept => {}
            Survival::Lost | Survival::Cut(_) => self.lost.add(key),
            Survival::Zero => self.zeros.add(key),
            Survival::Recoded => self.recoded.add(key),
        }
    }

    fn see_overwrite(&mut self, was: &Cell, is: &Cell, key: &dyn Fn() -> String) {
        if let Overwrite::None = self.overwrite {
            self.overwrite = Overwrite::Few(Vec::new());
        }
        let Overwrite::Few(few) = &mut self.overwrite else { return };
        let at = few.iter().position(|became| became.value == *is).unwrap_or_else(|| {
            let (different, tally) = (HashSet::new(), Tally::default());
            few.push(Became { value: is.clone(), different, tally, is_time: marks::is_time(is) });
            few.len() - 1
        });
        if few.len() > VALUES_MAX {
            self.overwrite = Overwrite::Many;
        } else if let Some(became) = few.get_mut(at).filter(|_| !matches!(&**was, "null" | "\"\"")) {
            if became.different.len() < DIFFERENT_MAX {
                became.different.insert(marks::mark(was));
            }
            became.is_time &= marks::is_time(was);
            became.tally.add(key);
        }
    }
}

/// Tells whether a number became the same one with fewer digits behind its point, or without the zeros that it began with.
fn is_rounded(was: &str, is: &str) -> bool {
    let is_number = |cell: &str| cell.starts_with(|letter: char| letter == '-' || letter.is_ascii_digit());
    if is_number(was) && is_number(is) && was.contains('.') {
        let value = |cell: &str| Value::decode(cell.as_bytes());
        let (Ok(before), Ok(after)) = (value(was), value(is)) else { return false };
        return conversion::survival(&before, &after) == Survival::Lost;
    }
    let digits = |cell| Some(marks::meaning(cell)).filter(|said| !said.is_empty() && said.bytes().all(|byte| byte.is_ascii_digit()));
    let (Some(before), Some(after)) = (digits(was), digits(is)) else { return false };
    before.len() > after.len() && before.trim_start_matches('0') == after.trim_start_matches('0')
}

/// Reads a cell, and what it refers to.
fn fetch(store: &Store, cell: &str) -> Option<Value> {
    match Value::decode(cell.as_bytes()).ok()? {
        Value::Large { id, bytes } if bytes <= LARGE_BYTES_MAX => Value::decode(&store.get(&id).ok()?).ok(),
        value => Some(value),
    }
}

/// Names a row by its key.
pub(super) fn key_of(shape: &TableShape, row: &[Cell]) -> String {
    let cell = |&column: &usize| Some(format!("{}={}", shape.columns.get(column)?.name, row.get(column)?));
    shape.identity.iter().filter_map(cell).collect::<Vec<_>>().join(", ")
}

impl<'a> Watch<'a> {
    /// `is_rebuilt` tells whether the table's DDL is another, so that a copy may have left columns out; `set_default` are the columns that a
    /// foreign key sets to their default.
    pub(super) fn new(store: &'a Store, pair: &TablePair, is_ledger: bool, is_rebuilt: bool, set_default: &[&str]) -> Self {
        let column = |at: &crate::snapshot::changes::ColumnPair| {
            let before = pair.before.as_ref().zip(at.before).and_then(|(shape, at)| shape.columns.get(at));
            let after = pair.after.as_ref().zip(at.after).and_then(|(shape, at)| shape.columns.get(at));
            let (Some(before), Some(after)) = (before, after) else { return ColumnWatch::default() };
            let counts = is_rebuilt || set_default.iter().any(|name| name.eq_ignore_ascii_case(&before.name));
            ColumnWatch {
                is_retyped: !after.declared_type.eq_ignore_ascii_case(&before.declared_type),
                default: counts.then(|| after.default.clone()),
                is_copied: is_rebuilt,
                ..ColumnWatch::default()
            }
        };
        let columns = pair.columns.iter().map(column).collect();
        Self { store, removed: Vec::new(), entries: Entries::default(), is_ledger, columns, exchanged: HashMap::new() }
    }

    fn see_exchange(&mut self, pair: &TablePair, before: &[Cell], after: &[Cell], columns: &[usize]) {
        let cell = |row: &'_ [Cell], at: Option<usize>| at.and_then(|at| row.get(at)).map(|cell| marks::mark(cell));
        let was = |column: usize| cell(before, pair.columns.get(column)?.before);
        for &to in columns {
            let Some(is) = cell(after, pair.columns.get(to).and_then(|column| column.after)) else { continue };
            let start = || columns.iter().filter(|&&from| from != to && was(from).is_some()).map(|&from| (from, 0)).collect();
            let sources = self.exchanged.entry(to).or_insert_with(start);
            sources.retain_mut(|(from, count)| {
                let has_changed = columns.contains(from);
                let is_it = was(*from) == Some(is);
                *count += u64::from(has_changed && is_it && is != marks::NOTHING);
                !has_changed || is_it
            });
        }
    }

    /// Returns the column of the same rows that all values of a column came from, where that has other ones now, too; and how many.
    pub(super) fn came_from(&self, column: usize) -> Option<(usize, u64)> {
        self.exchanged.get(&column)?.iter().copied().max_by_key(|(_, count)| *count)
    }

    /// Takes a change.
    pub(super) fn see(&mut self, pair: &TablePair, change: &RowChange) {
        match change {
            RowChange::Added(row) => {
                if let Some(shape) = pair.after.as_ref().filter(|_| self.is_ledger) {
                    self.entries.see(shape, row);
                }
            }
            RowChange::Removed(row) => {
                if let Some(shape) = pair.before.as_ref().filter(|_| self.removed.len() < EXAMPLES_MAX) {
                    self.removed.push(key_of(shape, row));
                }
            }
            RowChange::Changed { before, after, columns } => {
                let key = || pair.before.as_ref().map(|shape| key_of(shape, before)).unwrap_or_default();
                self.see_exchange(pair, before, after, columns);
                for &column in columns {
                    let Some(found) = pair.columns.get(column) else { continue };
                    let was = found.before.and_then(|at| before.get(at));
                    let is = found.after.and_then(|at| after.get(at));
                    if let (Some(was), Some(is), Some(watch)) = (was, is, self.columns.get_mut(column)) {
                        watch.see(self.store, was, is, &key);
                    }
                }
            }
        }
    }
}

/// Counts marks, each as often as it stands there.
pub(super) fn multiset<T: std::hash::Hash + Eq>(marks: impl Iterator<Item = T>) -> HashMap<T, u32> {
    let mut counts = HashMap::new();
    for mark in marks {
        *counts.entry(mark).or_default() += 1;
    }
    counts
}
