//! A comparison of two states in the form that its reader wants. Pure: what is rendered is appended to a string.
//!
//! A caller goes through a comparison once and calls the renderer in this order: [`Renderer::begin`], [`Renderer::schema`], then for each table
//! with differences [`Renderer::table`], [`Renderer::row`] for each change, [`Renderer::table_end`]; then [`Renderer::files`], and last [`Renderer::end`]. So nothing but the renderer's own
//! state is ever in memory.

pub mod csv;
pub mod files;
pub mod html;
pub mod json;
pub mod text;

use serde::Serialize;

use crate::rows::TableShape;
use crate::schema::diff::SchemaDiff;
use crate::snapshot::changes::{RowChange, RowCounts, TablePair};
use crate::snapshot::files::changes::FileChange;
use crate::value::Value;

/// One of the two states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateName {
    /// How it was asked for: `pre`, `live`, a tag.
    pub name: String,
    /// The snapshot's id; none for the live database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it was taken; none for the live database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

impl StateName {
    /// Returns the name with the id's first digits.
    pub fn label(&self) -> String {
        match &self.id {
            Some(id) if !id.starts_with(&self.name) => format!("{} {}", self.name, id.get(..8).unwrap_or(id)),
            Some(id) => id.get(..8).unwrap_or(id).to_owned(),
            None => self.name.clone(),
        }
    }
}

/// What is known of a table when its last change was given.
#[derive(Debug, Clone, Copy)]
pub struct TableEnd<'a> {
    /// How many rows changed, those that were filtered out not counted.
    pub counts: &'a RowCounts,
    /// How many of them were rendered.
    pub shown: u64,
}

/// A form of a comparison.
pub trait Renderer {
    /// Names the two states.
    fn begin(&mut self, out: &mut String, before: &StateName, after: &StateName);
    /// Tells what differs in the schema; `ddl` is the unified diff of its text. Called once, also where nothing differs.
    fn schema(&mut self, out: &mut String, diff: &SchemaDiff, ddl: &str);
    /// Begins a table.
    fn table(&mut self, out: &mut String, pair: &TablePair);
    /// Tells one change of the table.
    fn row(&mut self, out: &mut String, pair: &TablePair, change: &RowChange);
    /// Ends the table.
    fn table_end(&mut self, out: &mut String, pair: &TablePair, end: TableEnd<'_>);
    /// Tells what differs between the files beside the database, by path; not called where either state has none. Forms that have no room for it leave it out.
    fn files(&mut self, _out: &mut String, _changes: &[FileChange]) {}
    /// Ends the comparison; `machinery` names tables of the engine's own that differ and were not rendered.
    fn end(&mut self, out: &mut String, machinery: &[String]);
}

/// Tells whether a column of a shape is shown: all but a row number that identifies nothing.
pub fn is_shown(shape: &TableShape, column: usize) -> bool {
    shape.columns.get(column).is_some_and(|found| !found.hidden || shape.identity.contains(&column))
}

/// Returns the columns that say which row a change is about: those of the key, else of the identity; empty where there is none.
pub fn key_columns(pair: &TablePair, shape: &TableShape, is_after: bool) -> Vec<usize> {
    use crate::snapshot::changes::RowKey;
    match &pair.key {
        RowKey::Columns(key) => {
            key.iter().filter_map(|&at| pair.columns.get(at)).filter_map(|c| if is_after { c.after } else { c.before }).collect()
        }
        RowKey::Content(_) => shape.identity.clone(),
    }
}

/// Writes a cell for programs: canonical JSON, but for integers beyond 2^53, which are strings.
pub fn api_cell(cell: &str) -> String {
    const EXACT_MAX: u64 = 1 << 53;
    match cell.parse::<i64>() {
        Ok(integer) if integer.unsigned_abs() > EXACT_MAX => format!("\"{integer}\""),
        _ => cell.to_owned(),
    }
}

/// Writes a cell as plain text: no quotes, nothing for NULL, hex for bytes.
pub fn plain_cell(cell: &str) -> String {
    match Value::decode(cell.as_bytes()) {
        Ok(Value::Null) => String::new(),
        Ok(Value::Text(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(Value::Blob(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Ok(Value::Real(real)) if !real.is_finite() => {
            if real > 0.0 {
                "Infinity".to_owned()
            } else {
                "-Infinity".to_owned()
            }
        }
        _ => cell.to_owned(),
    }
}

/// Writes a row as a JSON object by column name.
pub fn row_object(shape: &TableShape, row: &[crate::snapshot::changes::Cell]) -> String {
    let mut out = String::from("{");
    for (column, cell) in row.iter().enumerate().filter(|(column, _)| is_shown(shape, *column)) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&string(&shape.columns[column].name));
        out.push(':');
        out.push_str(&api_cell(cell));
    }
    out.push('}');
    out
}

/// Writes a JSON string.
pub fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
