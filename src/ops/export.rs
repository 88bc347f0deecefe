//! A state as text that others can read: one JSON document, JSON lines, CSV. Row after row, whatever their number.
//!
//! ## The JSON document
//! | field | value |
//! |---|---|
//! | `schema_version` | 1 |
//! | `format` | `dbelay-export` |
//! | `timestamp` | RFC 3339: when the state was read |
//! | `snapshot` | its id, or null for the live database |
//! | `source` | `{"engine","place"}`, without password |
//! | `settings` | as a snapshot has them |
//! | `schema` | the DDL, a statement each, in creation order |
//! | `objects` | the schema object of the snapshot, whole: what `import` makes the database from |
//! | `tables` | the shape of each table: columns with their types, and what identifies a row |
//! | `data` | `{table: [row, ...]}`, a row being an object by column name |
//!
//! A cell is written as the rest of the program writes it for programs: an integer beyond 2^53 is a string. So that this can be read back, text that
//! reads as such an integer is written as `{"text":"<base64>"}`, as text that is no UTF-8 is. A row number that no `SELECT *` shows is a field
//! of its row too (`rowid`).
//!
//! JSON lines: the first line is the document without `data`, every other one `{"table","row"}`. CSV has a header, nothing for NULL, hex for bytes.

use std::io::{self, Write};
use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::OpError;
use super::capture::State;
use super::compare::decode_cells;
use crate::engine::EngineError;
use crate::id::ObjectId;
use crate::render::{self, csv};
use crate::rows::TableShape;
use crate::snapshot::manifest::{SourceName, TableManifest};
use crate::snapshot::rowdiff;
use crate::store::Store;
use crate::value::Value;

/// What `format` says.
pub const FORMAT: &str = "dbelay-export";

/// What is said of a state that is exported.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// When it was read.
    pub timestamp: &'a str,
    /// The snapshot; none for the live database.
    pub snapshot: Option<ObjectId>,
    /// The database.
    pub source: &'a SourceName,
}

impl Head<'_> {
    /// Returns the fields before the rows.
    pub fn document(&self, state: &State) -> serde_json::Value {
        let ddl: Vec<&str> = state.schema.objects.iter().filter_map(|object| object.sql.as_deref()).collect();
        let shapes: Vec<TableShape> = state.tables.iter().map(|(_, manifest)| manifest.shape()).collect();
        json!({
            "schema_version": 1,
            "format": FORMAT,
            "timestamp": self.timestamp,
            "snapshot": self.snapshot,
            "source": self.source,
            "settings": state.settings,
            "schema": ddl,
            "objects": state.schema,
            "tables": shapes,
        })
    }
}

/// Writes the JSON document.
///
/// # Errors
/// The writer's and the store's.
pub fn json(out: &mut dyn Write, head: &Head<'_>, state: &State, store: &Store) -> Result<(), OpError> {
    let document = head.document(state).to_string();
    // The fields of the map, and then one more.
    let fields = document.strip_suffix('}').unwrap_or(&document);
    write(out, &format!("{fields},\n\"data\":{{"))?;
    for (at, (_, manifest)) in state.tables.iter().enumerate() {
        write(out, &format!("{}\n{}:[", if at > 0 { "," } else { "" }, render::string(&manifest.name)))?;
        let mut is_first = true;
        each_row(manifest, store, &mut |shape, row| {
            let comma = if std::mem::take(&mut is_first) { "" } else { "," };
            write(out, &format!("{comma}\n{}", row_object(shape, &row)))
        })?;
        write(out, "]")?;
    }
    write(out, "\n}}\n")
}

/// Writes JSON lines.
///
/// # Errors
/// As [`json()`].
pub fn jsonl(out: &mut dyn Write, head: &Head<'_>, state: &State, store: &Store) -> Result<(), OpError> {
    write(out, &format!("{}\n", head.document(state)))?;
    for (_, manifest) in &state.tables {
        let name = render::string(&manifest.name);
        each_row(manifest, store, &mut |shape, row| write(out, &format!("{{\"table\":{name},\"row\":{}}}\n", row_object(shape, &row))))?;
    }
    Ok(())
}

/// Writes a table as CSV.
///
/// # Errors
/// As [`json()`].
pub fn csv(out: &mut dyn Write, manifest: &TableManifest, store: &Store) -> Result<(), OpError> {
    let shape = manifest.shape();
    let shown: Vec<usize> = (0..shape.columns.len()).filter(|&column| render::is_shown(&shape, column)).collect();
    let mut line = String::new();
    csv::line(&mut line, shown.iter().map(|&column| &shape.columns[column].name));
    write(out, &line)?;
    each_row(manifest, store, &mut |_, row| {
        let mut line = String::new();
        csv::line(&mut line, shown.iter().filter_map(|&column| row.get(column)).map(|value| render::plain_cell(&value.to_json())));
        write(out, &line)
    })
}

/// Takes a row of a table.
pub type RowSink<'a> = dyn FnMut(&TableShape, Vec<Value>) -> Result<(), OpError> + 'a;

/// Hands over the rows of a table, large values resolved.
///
/// # Errors
/// The sink's and the store's.
pub fn each_row(manifest: &TableManifest, store: &Store, sink: &mut RowSink<'_>) -> Result<(), OpError> {
    let shape = manifest.shape();
    let mut failed = None;
    rowdiff::table_rows(manifest, store, &mut |row| match decode_cells(store, row.iter()).and_then(|row| sink(&shape, row)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Writes a row as an object by column name.
fn row_object(shape: &TableShape, row: &[Value]) -> String {
    let fields: Vec<String> =
        shape.columns.iter().zip(row).map(|(column, value)| format!("{}:{}", render::string(&column.name), cell(value))).collect();
    format!("{{{}}}", fields.join(","))
}

/// Writes a cell so that [`read_cell`] reads it back.
fn cell(value: &Value) -> String {
    match value {
        Value::Text(bytes) if is_long_integer(bytes) => format!("{{\"text\":\"{}\"}}", BASE64.encode(bytes)),
        value => render::api_cell(&value.to_json()),
    }
}

/// Tells whether a text is what an integer beyond 2^53 is written as.
fn is_long_integer(text: &[u8]) -> bool {
    let integer = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    integer.is_some_and(|integer| integer.to_string().as_bytes() == text && render::api_cell(&integer.to_string()).starts_with('"'))
}

/// Reads a cell of an export.
///
/// # Errors
/// [`EngineError::Input`] for what is none.
pub fn read_cell(json: &[u8]) -> Result<Value, EngineError> {
    let value = Value::decode(json).map_err(|error| EngineError::Input(Box::new(error)))?;
    Ok(match value {
        Value::Text(bytes) if json.first() == Some(&b'"') && is_long_integer(&bytes) => {
            let integer = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
            integer.map_or(Value::Text(bytes), Value::Integer)
        }
        value => value,
    })
}

fn write(out: &mut dyn Write, text: &str) -> Result<(), OpError> {
    out.write_all(text.as_bytes()).map_err(|error: io::Error| EngineError::Input(Box::new(error)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_read_back_as_it_was() {
        let texts =
            ["9007199254740993", "9007199254740992", "-9223372036854775808", "+9007199254740993", "09007199254740993", "1", "", "a"];
        let texts = texts.into_iter().map(|text| Value::Text(text.into()));
        let integers = [i64::MIN, i64::MAX, 0, 1 << 53, (1 << 53) + 1].into_iter().map(Value::Integer);
        let reals = [0.1, -0.0, f64::INFINITY, 9e18].into_iter().map(Value::Real);
        let others = [Value::Null, Value::Boolean(true), Value::Blob(vec![0, 255]), Value::Text(vec![0xff])];
        for value in texts.chain(integers).chain(reals).chain(others) {
            let written = cell(&value);
            let read = read_cell(written.as_bytes()).expect(&written);
            assert_eq!(read.to_json(), value.to_json(), "{written}");
        }
    }
}
