//! A loss as data, and in one sentence.

use serde::Serialize;

use crate::render::text::number;

/// Something that a migration removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What kind of loss.
    pub kind: LossKind,
    /// The table, by its name before.
    pub table: String,
    /// The column, by its name before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// How many rows or values it concerns.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// Why, where it can be told, and what else there is to know: the foreign key that took the rows along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The keys of some of the rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Whether it was announced (`--allow`).
    pub allowed: bool,
    /// The table's and the column's names after, where they are others: what `--allow` takes too.
    #[serde(skip)]
    pub(super) renamed: (Option<String>, Option<String>),
}

/// What kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// A table went with its rows.
    TableDropped,
    /// Rows went.
    RowsRemoved,
    /// A column went with its values.
    ColumnDropped,
    /// The values of a column became NULL, an empty text, or the default of a table that was made anew: all of them, or those that a foreign key
    /// reached.
    ColumnEmptied,
    /// Three or more different values of a column became one and the same.
    Overwritten,
    /// Values of a column were cut to one length.
    Truncated,
    /// Values did not survive a change of the column's type.
    ValuesDestroyed,
    /// Rows refer to rows that do not exist.
    Orphans,
}

impl Loss {
    /// Makes a loss that nobody announced.
    pub(super) fn new(kind: LossKind, table: &str, column: Option<&str>, count: u64, of: u64) -> Self {
        let (table, column) = (table.to_owned(), column.map(str::to_owned));
        Self { kind, table, column, count, of, cause: None, examples: Vec::new(), allowed: false, renamed: (None, None) }
    }

    /// Adds to what there is to know.
    pub(super) fn explain(&mut self, text: String) {
        match &mut self.cause {
            Some(cause) => {
                cause.push_str("; ");
                cause.push_str(&text);
            }
            None => self.cause = Some(text),
        }
    }

    /// Says it in one sentence.
    pub fn sentence(&self) -> String {
        let Self { table, count, of, .. } = self;
        let column = self.column.as_deref().unwrap_or_default();
        let rows = if *count == 1 { "row" } else { "rows" };
        let values = if *count == 1 { "value" } else { "values" };
        let is_all = count == of;
        let (count, of) = (number(*count), number(*of));
        let mut text = match self.kind {
            LossKind::TableDropped if is_all => format!("table `{table}` was dropped with {count} {rows}"),
            LossKind::TableDropped => format!("table `{table}` was dropped, and {count} of its {of} rows stand nowhere now"),
            LossKind::RowsRemoved => format!("{count} of {of} rows of `{table}` are gone"),
            LossKind::ColumnDropped => format!("column `{table}.{column}` was dropped with {count} {values}"),
            LossKind::ColumnEmptied if !is_all => format!("column `{table}.{column}` lost {count} of its {of} values"),
            LossKind::ColumnEmptied => format!("column `{table}.{column}` lost all of its {count} {values}: nothing is left of them"),
            LossKind::Overwritten if is_all => format!("all {count} values of `{table}.{column}` were overwritten"),
            LossKind::Overwritten => format!("{count} of {of} values of `{table}.{column}` were overwritten"),
            LossKind::Truncated => format!("{count} of {of} values of `{table}.{column}` were cut short"),
            LossKind::ValuesDestroyed => format!("{count} of {of} values of `{table}.{column}` did not survive the change of its type"),
            LossKind::Orphans => format!("{count} {rows} of `{table}` now refer to rows that do not exist"),
        };
        if let Some(cause) = &self.cause {
            text.push_str("; ");
            text.push_str(cause);
        }
        text
    }

    /// Returns what `--allow` takes to announce it.
    pub fn allowance(&self) -> String {
        match &self.column {
            Some(column) => format!("{}.{column}", self.table),
            None => self.table.clone(),
        }
    }

    /// Tells whether a name that `--allow` was given announces it: the table or the column, by the name before or after.
    pub(super) fn is_named_by(&self, name: &str) -> bool {
        let tables = [Some(&self.table), self.renamed.0.as_ref()];
        let columns = [self.column.as_ref(), self.renamed.1.as_ref()];
        tables.into_iter().flatten().any(|table| {
            let column = |column: &&String| name.eq_ignore_ascii_case(&format!("{table}.{column}"));
            name.eq_ignore_ascii_case(table) || columns.iter().flatten().any(column)
        })
    }
}
