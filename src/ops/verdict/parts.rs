//! Texts that were put together with others, or taken apart: whether each stands, whole or word by word, in columns of its own row that came.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use super::marks::{self, NOTHING};
use super::moved::{Moved, MovedBy};
use super::search::Search;
use super::values::Origin;
use crate::ops::OpError;
use crate::snapshot::changes::{Cells, RowChange};

/// How many characters of a text make a coincidence unlikely.
const TELLING_CHARS: usize = 3;

/// How many different texts are told apart.
const DIFFERENT_MAX: usize = 1 << 12;

/// Finds columns of the same rows that the texts of one went into, as a part or word by word; `held` is how many values there were.
pub(super) fn part(search: &Search<'_>, origin: Origin<'_>, column: usize, held: u64) -> Result<Option<Moved>, OpError> {
    let pair = search.touched[origin.at].pair;
    let (Some(before), Some(after)) = (&pair.before, &pair.after) else { return Ok(None) };
    let mut parts = Parts {
        holders: vec![HashSet::new(); after.columns.len()],
        holds_all: vec![true; after.columns.len()],
        has_words: vec![false; after.columns.len()],
        ..Parts::default()
    };
    search.comparison.rows(pair, Cells::All, &mut |change| {
        let RowChange::Changed { before, after: row, columns } = change else { return ControlFlow::Continue(()) };
        let is_it = |at: &usize| pair.columns.get(*at).is_some_and(|columns| columns.before == Some(column));
        if origin.after.is_some() && !columns.iter().any(is_it) {
            return ControlFlow::Continue(());
        }
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
    let to_columns = match parts.holder() {
        _ if parts.seen != held || !parts.is_telling() => return Ok(None),
        Some(at) => vec![after.columns[at].name.clone()],
        None if parts.is_taken_apart && parts.together.len() >= parts.different.len() => names(&parts.has_words),
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
    /// For each column after, how many different texts held those: a text that all have tells none of them apart.
    holders: Vec<HashSet<u64>>,
    /// How many different texts held words, those of one row together.
    together: HashSet<u64>,
    /// For each column after, whether every text was part of it.
    holds_all: Vec<bool>,
    /// For each column after, whether it had a word of any text.
    has_words: Vec<bool>,
    /// Whether every word stood in one of them.
    is_taken_apart: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            seen: 0,
            long: 0,
            different: HashSet::new(),
            holders: Vec::new(),
            together: HashSet::new(),
            holds_all: Vec::new(),
            has_words: Vec::new(),
            is_taken_apart: true,
        }
    }
}

impl Parts {
    fn is_telling(&self) -> bool {
        self.seen > 0 && (self.long * 2 >= self.seen || self.different.len() > 2)
    }

    /// Finds a column that holds each text, and tells them apart.
    fn holder(&self) -> Option<usize> {
        let is_it = |at: &usize| self.holds_all[*at] && self.holders[*at].len() >= self.different.len();
        (0..self.holds_all.len()).find(is_it)
    }

    fn see(&mut self, text: &str, came: &[(usize, String)]) -> ControlFlow<()> {
        self.seen += 1;
        self.long += u64::from(text.chars().count() >= TELLING_CHARS && marks::is_telling(text));
        if self.different.len() < DIFFERENT_MAX {
            self.different.insert(marks::mark(text));
        }
        for (at, holds) in self.holds_all.iter_mut().enumerate().filter(|(_, holds)| **holds) {
            let holder = came.iter().find(|(column, value)| *column == at && is_part(text, value));
            *holds = holder.is_some();
            let holders = self.holders.get_mut(at).filter(|holders| holders.len() < DIFFERENT_MAX);
            if let (Some((_, value)), Some(holders)) = (holder, holders) {
                holders.insert(marks::mark(value));
            }
        }
        let (mut words, mut together) = (0, BTreeMap::new());
        for word in text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let mut is_there = false;
            for (column, value) in came.iter().filter(|(_, value)| is_part(word, value)) {
                is_there = true;
                together.insert(*column, value);
                if let Some(has) = self.has_words.get_mut(*column) {
                    *has = true;
                }
            }
            self.is_taken_apart &= is_there;
            words += 1;
        }
        self.is_taken_apart &= words > 0;
        if self.together.len() < DIFFERENT_MAX {
            self.together.insert(marks::mark(&format!("{together:?}")));
        }
        if self.is_taken_apart || self.holds_all.contains(&true) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Tells whether a text stands in another, not as a part of a word or number.
fn is_part(part: &str, whole: &str) -> bool {
    let ends = |letter: Option<char>| !letter.is_some_and(char::is_alphanumeric);
    whole.match_indices(part).any(|(at, _)| ends(whole[..at].chars().next_back()) && ends(whole[at + part.len()..].chars().next()))
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
}
