//! What an engine is told of the state before, so that it checks only what that concerns: the answers come from the snapshots' objects.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::compare::{Comparison, decode_cells};
use crate::engine::BoxError;
use crate::engine::since::{History, Keys};
use crate::schema::Schema;
use crate::snapshot::changes::{Cell, Cells, RowChange, TablePair};
use crate::store::Store;

/// A comparison as an engine asks for it.
pub(super) struct Past<'a> {
    pub store: &'a Store,
    pub comparison: &'a Comparison<'a>,
}

impl Past<'_> {
    fn pair(&self, table: &str) -> Option<&TablePair> {
        let pairs = &self.comparison.pairs;
        pairs.iter().find(|pair| pair.after.as_ref().is_some_and(|shape| shape.name.eq_ignore_ascii_case(table)))
    }
}

/// The places of columns in the rows before and after.
struct Places {
    /// Among the pair's columns.
    paired: Vec<usize>,
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Places {
    /// Finds columns by their names now; none where one is not there on a side that has rows.
    fn of(pair: &TablePair, columns: &[String]) -> Option<Self> {
        let mut places = Self { paired: Vec::new(), before: Vec::new(), after: Vec::new() };
        let shape = pair.after.as_ref()?;
        for name in columns {
            let after = shape.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name) && !column.hidden)?;
            let paired = pair.columns.iter().position(|column| column.after == Some(after))?;
            places.after.push(after);
            places.paired.push(paired);
            if pair.before.is_some() {
                places.before.push(pair.columns[paired].before?);
            }
        }
        Some(places)
    }
}

/// How many more rows have these values now than then, and less where that is below zero.
type Balance = HashMap<Vec<Cell>, i64>;

impl History for Past<'_> {
    fn schema(&self) -> &Schema {
        &self.comparison.before.schema
    }

    fn name_then(&self, table: &str) -> Option<String> {
        match self.pair(table) {
            Some(pair) => pair.before.as_ref().map(|shape| shape.name.clone()),
            // What has no rows of its own has only its name.
            None => self.schema().tables.iter().find(|other| other.name.eq_ignore_ascii_case(table)).map(|other| other.name.clone()),
        }
    }

    fn is_same(&self, table: &str) -> bool {
        self.pair(table).is_some_and(|pair| self.comparison.is_equal(pair))
    }

    fn keys(&self, table: &str, columns: &[String], keys_max: usize) -> Result<Option<Keys>, BoxError> {
        let Some(pair) = self.pair(table) else { return Ok(None) };
        let Some(places) = Places::of(pair, columns) else { return Ok(None) };
        // Most changes are of other columns: to see that, the cells of others need not be read.
        let mut is_meant = false;
        self.comparison.rows(pair, Cells::Telling, &mut |change| {
            is_meant |= match change {
                RowChange::Changed { columns, .. } => columns.iter().any(|column| places.paired.contains(column)),
                RowChange::Added(_) | RowChange::Removed(_) => true,
            };
            if is_meant { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !is_meant {
            return Ok(Some(Keys::default()));
        }
        let mut balance = Balance::new();
        let mut is_too_much = false;
        self.comparison.rows(pair, Cells::All, &mut |change| {
            let mut count = |row: &[Cell], places: &[usize], by: i64| {
                let key = places.iter().filter_map(|&at| row.get(at).cloned()).collect();
                *balance.entry(key).or_default() += by;
            };
            match &change {
                RowChange::Added(row) => count(row, &places.after, 1),
                RowChange::Removed(row) => count(row, &places.before, -1),
                RowChange::Changed { before, after, columns } if columns.iter().any(|column| places.paired.contains(column)) => {
                    count(before, &places.before, -1);
                    count(after, &places.after, 1);
                }
                RowChange::Changed { .. } => {}
            }
            is_too_much = balance.len() > keys_max;
            if is_too_much { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if is_too_much {
            return Ok(None);
        }
        let mut keys = Keys::default();
        for (cells, count) in balance.into_iter().filter(|(_, count)| *count != 0) {
            let values = decode_cells(self.store, cells.iter())?;
            match count > 0 {
                true => keys.came.extend(std::iter::repeat_n(values, usize::try_from(count)?)),
                false => keys.went.push(values),
            }
        }
        Ok(Some(keys))
    }
}
