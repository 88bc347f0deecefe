//! For spreadsheets (RFC 4180): a line for each cell that differs, whatever its table, so that one header fits all.
//!
//! `table,change,key,column,before,after`; the key as JSON, NULL as nothing, bytes as hex. An added or removed row has a line a column.

use super::{Renderer, StateName, TableEnd, api_cell, is_shown, key_columns, plain_cell, string};
use crate::rows::TableShape;
use crate::schema::diff::SchemaDiff;
use crate::snapshot::changes::{Cell, RowChange, TablePair};

/// Renders cells.
#[derive(Debug, Default)]
pub struct Csv;

/// Writes one line of fields.
pub fn line<T: AsRef<str>>(out: &mut String, fields: impl IntoIterator<Item = T>) {
    for (at, field) in fields.into_iter().enumerate() {
        let field = field.as_ref();
        if at > 0 {
            out.push(',');
        }
        if field.contains(['"', ',', '\n', '\r']) || field.starts_with(' ') || field.ends_with(' ') {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push_str("\r\n");
}

fn key(pair: &TablePair, shape: &TableShape, row: &[Cell], is_after: bool) -> String {
    let columns = key_columns(pair, shape, is_after);
    let fields: Vec<String> =
        columns.iter().filter_map(|&c| Some(format!("{}:{}", string(&shape.columns.get(c)?.name), api_cell(row.get(c)?)))).collect();
    if fields.is_empty() { String::new() } else { format!("{{{}}}", fields.join(",")) }
}

impl Renderer for Csv {
    fn begin(&mut self, out: &mut String, _: &StateName, _: &StateName) {
        line(out, ["table", "change", "key", "column", "before", "after"]);
    }

    fn schema(&mut self, _: &mut String, _: &SchemaDiff, _: &str) {}

    fn table(&mut self, _: &mut String, _: &TablePair) {}

    fn row(&mut self, out: &mut String, pair: &TablePair, change: &RowChange) {
        let whole = |out: &mut String, shape: &Option<TableShape>, row: &[Cell], is_after: bool| {
            let Some(shape) = shape else { return };
            let key = key(pair, shape, row, is_after);
            for (column, cell) in row.iter().enumerate().filter(|(column, _)| is_shown(shape, *column)) {
                let name = shape.columns[column].name.as_str();
                let cell = plain_cell(cell);
                let (before, after, word) = if is_after { ("", cell.as_str(), "added") } else { (cell.as_str(), "", "removed") };
                line(out, [pair.name(), word, &key, name, before, after]);
            }
        };
        match change {
            RowChange::Added(row) => whole(out, &pair.after, row, true),
            RowChange::Removed(row) => whole(out, &pair.before, row, false),
            RowChange::Changed { before, after, columns } => {
                let Some(shape) = &pair.after else { return };
                let key = key(pair, shape, after, true);
                for &column in columns {
                    let Some(found) = pair.columns.get(column) else { continue };
                    if let Some(a) = found.after {
                        let was = found.before.map(|b| plain_cell(&before[b])).unwrap_or_default();
                        line(out, [pair.name(), "changed", &key, &shape.columns[a].name, &was, &plain_cell(&after[a])]);
                    }
                }
            }
        }
    }

    fn table_end(&mut self, _: &mut String, _: &TablePair, _: TableEnd<'_>) {}

    fn end(&mut self, _: &mut String, _: &[String]) {}
}
