//! What became of a database since it was checked last, for engines that check only what that concerns. Plain data, and one trait that is asked for it.

use super::{BoxError, Finding};
use crate::schema::Schema;
use crate::value::Value;

/// How much was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything that the engine checks.
    All,
    /// Whether the database is damaged; the rest would take too long.
    Structure,
}

/// A finding, and how much of it is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSince {
    /// The finding.
    pub finding: Finding,
    /// How many of its rows it did not concern before, where that is known.
    pub new: Option<u64>,
}

/// What became of the values of some columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    /// What stands there now more often than then, as often as it does so.
    pub came: Vec<Vec<Value>>,
    /// What stood there then more often than now, once.
    pub went: Vec<Vec<Value>>,
}

/// What is known of an earlier state of a database. Tables are called by the names that they have now.
pub trait History {
    /// Returns the schema that it had.
    fn schema(&self) -> &Schema;

    /// Returns what a table was called then; none where it was not there.
    fn name_then(&self, table: &str) -> Option<String>;

    /// Tells whether a table has the same rows as then.
    fn is_same(&self, table: &str) -> bool;

    /// Finds what became of the values of these columns, row by row; none where that cannot be told, or is more than so many.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn keys(&self, table: &str, columns: &[String], keys_max: usize) -> Result<Option<Keys>, BoxError>;
}
