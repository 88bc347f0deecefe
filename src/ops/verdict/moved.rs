//! Data that went from its place and stands in another afterwards: told apart from loss by content, and reported.
//!
//! - *Rows* (`rows.rs`): a table was merged into another, split into several, or some of its rows were archived. Columns are matched by name, else by
//!   their values; a row has moved if the cells that were matched stand in one row that came. Each row that came stands for one that went; where
//!   rows were merged that are equal, at most half of them may have none of their own, since the few kinds of a long list are no copy of the list. A row's
//!   integer key may be another afterwards. Rows that were equal to others, and none are now, were duplicates.
//! - *Values* (`values.rs`): a column was split off. Each value stands in a column that came, beside the key of its row.
//! - *Links* (`links.rs`): each row that held a value still leads to it: a column of the row refers to the row that the value stands in now (a lookup
//!   table), or a column that came says another value for each (a recoding). That the values stand somewhere is not enough.
//! - *Parts* (`parts.rs`): in its own row each text is part of a column that came, or each of its words is (two names became one, or one two).
//!
//! Chance is no move: what was matched must tell something, by its name or because no flag, count or key is alike.

use serde::Serialize;

use crate::render::text::number;

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
    /// Values, in rows that something in their own rows refers to.
    Lookup,
    /// Values that stand for them one to one, in their own rows.
    Recoded,
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

#[cfg(test)]
mod tests {
    use super::*;

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
