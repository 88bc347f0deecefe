//! A comparison of two snapshots as data: what renderers print and verdicts judge. Building it is `src/snapshot/compare.rs`.

use serde::Serialize;

use crate::rows::TableShape;

/// The canonical JSON of one cell.
pub type Cell = Box<str>;

/// One row: a cell a column of its own side's shape, in its order.
pub type Row = Vec<Cell>;

/// One table's pairing across two snapshots, before any row was compared.
#[derive(Debug, Clone)]
pub struct TablePair {
    /// The table's shape before; none where the table was added.
    pub before: Option<TableShape>,
    /// The table's shape after; none where the table was removed.
    pub after: Option<TableShape>,
    /// Rows before; 0 where the table was added.
    pub rows_before: u64,
    /// Rows after; 0 where the table was removed.
    pub rows_after: u64,
    /// Columns of both sides, paired: those of `after` in its order, then those only in `before`.
    pub columns: Vec<ColumnPair>,
    /// What makes two rows the same row.
    pub key: RowKey,
}

impl TablePair {
    /// Returns the name after, or before where the table is gone.
    pub fn name(&self) -> &str {
        let shape = self.after.as_ref().or(self.before.as_ref());
        shape.map_or("", |shape| shape.name.as_str())
    }

    /// Tells what happened to the table as a whole.
    pub fn fate(&self) -> TableFate {
        match (&self.before, &self.after) {
            (None, _) => TableFate::Added,
            (_, None) => TableFate::Removed,
            (Some(before), Some(after)) if before.name != after.name => TableFate::Renamed,
            _ => TableFate::Kept,
        }
    }
}

/// What happened to a table as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableFate {
    /// It is there on both sides under one name.
    Kept,
    /// It is there on both sides, recognised by content, under two names.
    Renamed,
    /// Only after.
    Added,
    /// Only before.
    Removed,
}

/// A column across two snapshots. At least one index is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnPair {
    /// Its index in the shape before.
    pub before: Option<usize>,
    /// Its index in the shape after.
    pub after: Option<usize>,
}

/// What makes two rows the same row in a comparison. Indexes are into [`TablePair::columns`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKey {
    /// These columns, in key order, paired on both sides.
    Columns(Vec<usize>),
    /// No key: rows are compared as a multiset of their cells, and what remains is paired by the hidden row number, if the table
    /// has one (its index).
    Content(Option<usize>),
}

/// Which cells of the rows that differ are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// All of them.
    All,
    /// All of rows that are only on one side, and of changed rows those of the key and those that differ; the others are empty strings.
    Shown,
    /// Those of the key and those that differ; the others are empty strings, which no cell is.
    Telling,
    /// None: what happened to which columns is all that is asked. All cells are empty strings.
    Unread,
}

/// What happened to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// Only after.
    Added(Row),
    /// Only before.
    Removed(Row),
    /// On both sides, with other values.
    Changed {
        /// The row before, by the shape before.
        before: Row,
        /// The row after, by the shape after.
        after: Row,
        /// Which columns differ: indexes into [`TablePair::columns`], ascending. A column that is only after is listed where its value is not
        /// its default; one that is only before never is.
        columns: Vec<usize>,
    },
}

/// How many rows of a table changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Rows only after.
    pub added: u64,
    /// Rows only before.
    pub removed: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Rows that are the same but for their hidden row number.
    pub renumbered: u64,
    /// For each of [`TablePair::columns`], in how many changed rows it differs.
    pub cells: Vec<u64>,
}

impl RowCounts {
    /// Adds what was found elsewhere in the same pair of tables.
    pub fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.removed += other.removed;
        self.changed += other.changed;
        self.renumbered += other.renumbered;
        self.cells.iter_mut().zip(&other.cells).for_each(|(cell, other)| *cell += other);
    }

    /// Tells whether no row differs. Renumbered rows do not count.
    pub fn is_empty(&self) -> bool {
        self.added == 0 && self.removed == 0 && self.changed == 0
    }
}
