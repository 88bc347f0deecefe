//! For programs: one JSON document, or one a line. Integers beyond 2^53 are strings; everything else is as the store has it.

use super::{Renderer, StateName, TableEnd, api_cell, files, key_columns, row_object, string};
use crate::schema::diff::SchemaDiff;
use crate::snapshot::changes::{Row, RowChange, TableFate, TablePair};
use crate::snapshot::files::changes::FileChange;

/// The version of the document.
const SCHEMA_VERSION: u32 = 1;

/// Renders one document.
#[derive(Debug)]
pub struct Json {
    has_rows: bool,
    tables: u64,
    rows: u64,
    /// What differs between the files, as JSON.
    files: Option<String>,
}

impl Json {
    /// Renders with every row, or with counts alone.
    pub fn new(has_rows: bool) -> Self {
        Self { has_rows, tables: 0, rows: 0, files: None }
    }
}

fn fate(pair: &TablePair) -> &'static str {
    match pair.fate() {
        TableFate::Kept => "kept",
        TableFate::Renamed => "renamed",
        TableFate::Added => "added",
        TableFate::Removed => "removed",
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with string keys serialises")
}

/// Writes the settings that differ.
fn settings(diff: &SchemaDiff) -> String {
    let list: Vec<serde_json::Value> =
        diff.settings.iter().map(|(name, was, is)| serde_json::json!({ "name": name, "before": was, "after": is })).collect();
    json(&list)
}

/// Writes the fields of a change, without braces.
fn change_fields(pair: &TablePair, change: &RowChange) -> String {
    let empty = Row::new();
    let (word, before, after, columns) = match change {
        RowChange::Added(row) => ("added", None, Some(row), None),
        RowChange::Removed(row) => ("removed", Some(row), None, None),
        RowChange::Changed { before, after, columns } => ("changed", Some(before), Some(after), Some(columns)),
    };
    let side = if after.is_some() { &pair.after } else { &pair.before };
    let row = after.or(before).unwrap_or(&empty);
    let mut out = format!("\"change\":\"{word}\"");
    if let Some(shape) = side {
        let key: Vec<String> = key_columns(pair, shape, after.is_some())
            .into_iter()
            .filter_map(|c| Some(format!("{}:{}", string(&shape.columns.get(c)?.name), api_cell(row.get(c)?))))
            .collect();
        out.push_str(&format!(",\"key\":{{{}}}", key.join(",")));
    }
    if let Some(columns) = columns {
        let names: Vec<String> = columns
            .iter()
            .filter_map(|&at| pair.columns.get(at)?.after)
            .filter_map(|at| Some(string(&pair.after.as_ref()?.columns.get(at)?.name)))
            .collect();
        out.push_str(&format!(",\"columns\":[{}]", names.join(",")));
    }
    if let (Some(row), Some(shape)) = (before, &pair.before) {
        out.push_str(&format!(",\"before\":{}", row_object(shape, row)));
    }
    if let (Some(row), Some(shape)) = (after, &pair.after) {
        out.push_str(&format!(",\"after\":{}", row_object(shape, row)));
    }
    out
}

/// Writes the counts of a table, without braces.
fn count_fields(pair: &TablePair, end: TableEnd<'_>) -> String {
    let counts = end.counts;
    format!(
        "\"added\":{},\"removed\":{},\"changed\":{},\"renumbered\":{},\"shown\":{},\"columns_changed\":{}",
        counts.added,
        counts.removed,
        counts.changed,
        counts.renumbered,
        end.shown,
        json(&super::text::columns_touched(pair, counts))
    )
}

/// Writes what a table is, without braces.
fn table_fields(pair: &TablePair) -> String {
    let mut out = format!("\"table\":{},\"fate\":\"{}\"", string(pair.name()), fate(pair));
    if let (TableFate::Renamed, Some(before)) = (pair.fate(), &pair.before) {
        out.push_str(&format!(",\"from\":{}", string(&before.name)));
    }
    out.push_str(&format!(",\"rows_before\":{},\"rows_after\":{}", pair.rows_before, pair.rows_after));
    out
}

impl Renderer for Json {
    fn begin(&mut self, out: &mut String, before: &StateName, after: &StateName) {
        out.push_str(&format!("{{\"schema_version\":{SCHEMA_VERSION},\"before\":{},\"after\":{}", json(before), json(after)));
    }

    fn schema(&mut self, out: &mut String, diff: &SchemaDiff, ddl: &str) {
        out.push_str(&format!(
            ",\n\"schema\":{{\"changes\":{},\"ddl\":{},\"settings\":{}}},\n\"tables\":[",
            json(&diff.changes),
            string(ddl),
            settings(diff)
        ));
    }

    fn table(&mut self, out: &mut String, pair: &TablePair) {
        out.push_str(if self.tables > 0 { ",\n{" } else { "\n{" });
        self.tables += 1;
        self.rows = 0;
        out.push_str(&table_fields(pair));
        if self.has_rows {
            out.push_str(",\"rows\":[");
        }
    }

    fn row(&mut self, out: &mut String, pair: &TablePair, change: &RowChange) {
        if self.has_rows {
            out.push_str(if self.rows > 0 { ",\n{" } else { "\n{" });
            self.rows += 1;
            out.push_str(&change_fields(pair, change));
            out.push('}');
        }
    }

    fn table_end(&mut self, out: &mut String, pair: &TablePair, end: TableEnd<'_>) {
        if self.has_rows {
            out.push(']');
        }
        out.push_str(&format!(",{}}}", count_fields(pair, end)));
    }

    fn files(&mut self, _: &mut String, changes: &[FileChange]) {
        let changes: Vec<String> = changes.iter().map(|change| files::change(change).to_string()).collect();
        self.files = Some(format!("[{}]", changes.join(",\n")));
    }

    fn end(&mut self, out: &mut String, machinery: &[String]) {
        let files = self.files.as_deref().unwrap_or("null");
        out.push_str(&format!("],\n\"files\":{files},\n\"machinery\":{}}}\n", json(&machinery)));
    }
}

/// Renders a document a line: the states, each change of the schema, each row, each table's counts.
#[derive(Debug, Default)]
pub struct JsonLines;

impl Renderer for JsonLines {
    fn begin(&mut self, out: &mut String, before: &StateName, after: &StateName) {
        out.push_str(&format!(
            "{{\"type\":\"states\",\"schema_version\":{SCHEMA_VERSION},\"before\":{},\"after\":{}}}\n",
            json(before),
            json(after)
        ));
    }

    fn schema(&mut self, out: &mut String, diff: &SchemaDiff, _: &str) {
        for change in &diff.changes {
            out.push_str(&format!("{{\"type\":\"schema\",{}\n", &json(change)[1..]));
        }
        if !diff.settings.is_empty() {
            out.push_str(&format!("{{\"type\":\"settings\",\"settings\":{}}}\n", settings(diff)));
        }
    }

    fn table(&mut self, _: &mut String, _: &TablePair) {}

    fn row(&mut self, out: &mut String, pair: &TablePair, change: &RowChange) {
        out.push_str(&format!("{{\"type\":\"row\",\"table\":{},{}}}\n", string(pair.name()), change_fields(pair, change)));
    }

    fn table_end(&mut self, out: &mut String, pair: &TablePair, end: TableEnd<'_>) {
        out.push_str(&format!("{{\"type\":\"table\",{},{}}}\n", table_fields(pair), count_fields(pair, end)));
    }

    fn files(&mut self, out: &mut String, changes: &[FileChange]) {
        for change in changes {
            out.push_str(&format!("{{\"type\":\"file\",{}\n", &files::change(change).to_string()[1..]));
        }
    }

    fn end(&mut self, out: &mut String, machinery: &[String]) {
        if !machinery.is_empty() {
            out.push_str(&format!("{{\"type\":\"machinery\",\"tables\":{}}}\n", json(&machinery)));
        }
    }
}
