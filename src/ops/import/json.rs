//! Reading the exports of [`crate::ops::export`]: JSON documents and JSON lines, row by row.
//!
//! A reader of JSON that keeps numbers as they are written: cells are decoded by the store's own rules, so that all 64 bits of a number come through.
//! The fields may stand in any order, but `data` after all others, as it is written.

use std::io::BufRead;

use crate::engine::{Engine, EngineError, WriteTransaction};
use crate::ops::OpError;
use crate::ops::capture::{self, References, Rules, State};
use crate::ops::export::{FORMAT, read_cell};
use crate::ops::plan::plan;
use crate::progress::Progress;
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema, Settings, TableKind};
use crate::snapshot::manifest::{FORMAT_VERSION, SourceName};
use crate::store::{BatchMode, Store};
use crate::value::Value;

/// The longest single value, and the longest row of JSON lines.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// How deep values may stand in values.
const DEPTH_MAX: usize = 128;

/// How many rows go to the database at once.
const ROWS_AT_ONCE: usize = 500;

/// What an export says before its rows.
#[derive(Debug, Clone)]
pub struct Head {
    /// When the state was read.
    pub timestamp: String,
    /// Of which database.
    pub source: SourceName,
    /// Its settings.
    pub settings: Settings,
    /// Its schema.
    pub schema: Schema,
    /// The shapes of its tables.
    pub tables: Vec<TableShape>,
    /// Whether the rows are in the same document, and not in lines after it.
    is_document: bool,
}

/// A row as it is written: the names of its columns, each with its cell.
type WrittenRow = Vec<(String, Vec<u8>)>;

/// Takes a row of a table.
type RowSink<'a> = dyn FnMut(&str, WrittenRow) -> Result<(), OpError> + 'a;

/// Reads JSON piece by piece.
pub struct Reader<R> {
    input: R,
    line: u64,
}

fn malformed(what: impl std::fmt::Display, line: u64) -> OpError {
    EngineError::Unsupported(format!("this is no export of dbelay: {what} (line {line})")).into()
}

impl<R: BufRead> Reader<R> {
    /// Begins at the beginning.
    pub fn new(input: R) -> Self {
        Self { input, line: 1 }
    }

    fn malformed(&self, what: impl std::fmt::Display) -> OpError {
        malformed(what, self.line)
    }

    fn peek(&mut self) -> Result<Option<u8>, OpError> {
        let buffer = self.input.fill_buf().map_err(|error| EngineError::Input(Box::new(error)))?;
        Ok(buffer.first().copied())
    }

    fn byte(&mut self) -> Result<u8, OpError> {
        let byte = self.peek()?.ok_or_else(|| self.malformed("it is cut off"))?;
        self.input.consume(1);
        self.line += u64::from(byte == b'\n');
        Ok(byte)
    }

    /// Returns the next byte that is no blank, and leaves it.
    fn next(&mut self) -> Result<Option<u8>, OpError> {
        while self.peek()?.is_some_and(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
            self.byte()?;
        }
        self.peek()
    }

    fn expect(&mut self, wanted: u8) -> Result<(), OpError> {
        match self.next()? {
            Some(byte) if byte == wanted => self.byte().map(drop),
            _ => Err(self.malformed(format_args!("`{}` is missing", char::from(wanted)))),
        }
    }

    /// Goes to the next member of an object or array that ends so; false at its end.
    fn member(&mut self, end: u8, is_first: bool) -> Result<bool, OpError> {
        match self.next()? {
            Some(byte) if byte == end => {
                self.byte()?;
                Ok(false)
            }
            Some(b',') if !is_first => self.byte().map(|_| true),
            Some(_) if is_first => Ok(true),
            _ => Err(self.malformed("a comma is missing")),
        }
    }

    fn key(&mut self) -> Result<String, OpError> {
        let json = self.value()?;
        let key = serde_json::from_slice(&json).map_err(|error| self.malformed(error))?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Returns a value as it is written, without blanks around it.
    fn value(&mut self) -> Result<Vec<u8>, OpError> {
        self.next()?;
        let mut json = Vec::new();
        let (mut depth, mut is_text) = (0_usize, false);
        loop {
            let Some(byte) = self.peek()? else {
                return if depth == 0 && !is_text && !json.is_empty() { Ok(json) } else { Err(self.malformed("it is cut off")) };
            };
            if depth == 0 && !is_text && matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t') {
                return if json.is_empty() { Err(self.malformed("a value is missing")) } else { Ok(json) };
            }
            json.push(self.byte()?);
            if json.len() > VALUE_BYTES_MAX {
                return Err(self.malformed("a value is too long"));
            }
            match byte {
                b'\\' if is_text => json.push(self.byte()?),
                b'"' => is_text = !is_text,
                b'{' | b'[' if !is_text => depth += 1,
                b'}' | b']' if !is_text => depth -= 1,
                _ => {}
            }
            if depth > DEPTH_MAX {
                return Err(self.malformed("its values stand too deep in one another"));
            }
            if depth == 0 && !is_text && matches!(byte, b'"' | b'}' | b']') {
                return Ok(json);
            }
        }
    }

    /// Reads everything before the rows.
    ///
    /// # Errors
    /// The reader's; [`EngineError::Unsupported`] for what is no export, or one that a later version wrote.
    pub fn head(&mut self) -> Result<Head, OpError> {
        fn field<T: serde::de::DeserializeOwned>(
            fields: &std::collections::HashMap<String, Vec<u8>>,
            name: &str,
            line: u64,
        ) -> Result<T, OpError> {
            let json = fields.get(name).ok_or_else(|| malformed(format_args!("it has no `{name}` before its rows"), line))?;
            serde_json::from_slice(json).map_err(|error| malformed(format_args!("`{name}`: {error}"), line))
        }
        let mut fields = std::collections::HashMap::new();
        let (mut is_first, mut is_document) = (true, false);
        self.expect(b'{')?;
        while self.member(b'}', std::mem::take(&mut is_first))? {
            let key = self.key()?;
            if key == "data" {
                is_document = true;
                break;
            }
            let value = self.value()?;
            fields.insert(key, value);
        }
        let line = self.line;
        let format: String = field(&fields, "format", line)?;
        let version: u64 = field(&fields, "schema_version", line)?;
        if format != FORMAT {
            return Err(self.malformed(format_args!("its format is `{format}`")));
        }
        if version > 1 {
            let words = format!("the export has version {version}; this dbelay reads version 1");
            return Err(EngineError::Unsupported(words).into());
        }
        Ok(Head {
            timestamp: field(&fields, "timestamp", line)?,
            source: field(&fields, "source", line)?,
            settings: field(&fields, "settings", line)?,
            schema: field(&fields, "objects", line)?,
            tables: field(&fields, "tables", line)?,
            is_document,
        })
    }

    /// Hands over every row, with its table's name.
    fn rows(&mut self, head: &Head, sink: &mut RowSink<'_>) -> Result<(), OpError> {
        if head.is_document {
            let (mut first_table, mut first_row) = (true, true);
            self.expect(b'{')?;
            while self.member(b'}', std::mem::take(&mut first_table))? {
                let table = self.key()?;
                self.expect(b'[')?;
                while self.member(b']', std::mem::replace(&mut first_row, false))? {
                    let row = self.row()?;
                    sink(&table, row)?;
                }
                first_row = true;
            }
            // What follows is no part of what is read.
            while self.member(b'}', false)? {
                self.key()?;
                self.value()?;
            }
        }
        while let Some(byte) = self.next()? {
            if head.is_document || byte != b'{' {
                return Err(self.malformed("something follows its end"));
            }
            self.byte()?;
            let (mut table, mut row, mut is_first) = (None, None, true);
            while self.member(b'}', std::mem::take(&mut is_first))? {
                match self.key()?.as_str() {
                    "table" => {
                        let json = self.value()?;
                        table = Some(serde_json::from_slice::<String>(&json).map_err(|error| self.malformed(error))?);
                    }
                    "row" => row = Some(self.row()?),
                    _ => drop(self.value()?),
                }
            }
            match (table, row) {
                (Some(table), Some(row)) => sink(&table, row)?,
                _ => return Err(self.malformed("a line has no `table` or no `row`")),
            }
        }
        Ok(())
    }

    fn row(&mut self) -> Result<WrittenRow, OpError> {
        self.expect(b'{')?;
        let (mut cells, mut is_first) = (Vec::new(), true);
        while self.member(b'}', std::mem::take(&mut is_first))? {
            let key = self.key()?;
            let value = self.value()?;
            cells.push((key, value));
        }
        Ok(cells)
    }
}

/// Fills an empty database from an export.
///
/// # Errors
/// The reader's and the engine's; [`EngineError::Unsupported`] for what is no export. The database stays empty then.
pub fn fill<R: BufRead>(
    engine: &mut dyn Engine,
    head: &Head,
    reader: &mut Reader<R>,
    store: &Store,
    progress: &dyn Progress,
) -> Result<u64, OpError> {
    let wanted = State {
        schema_id: crate::id::ObjectId::of(b""),
        schema: head.schema.clone(),
        settings: head.settings.clone(),
        tables: Vec::new(),
        format: FORMAT_VERSION,
        mark: None,
        memory: None,
    };
    let (empty, _) = {
        let mut read = engine.begin_read()?;
        capture::read_state(&mut *read, store, BatchMode::IdsOnly, References::default(), Rules::Keep, progress)?
    };
    let plan = plan(&empty, &wanted);
    let mut transaction = engine.begin_write()?;
    transaction.alter_objects(&plan.alter)?;
    transaction.drop_objects(&plan.drop)?;
    transaction.create_tables(&plan.create)?;
    let mut filling = Filling { head, transaction: &mut *transaction, at: None, rows: Vec::new(), late: Vec::new(), count: 0 };
    reader.rows(head, &mut |table, row| filling.push(table, row))?;
    filling.flush()?;
    let (late, count) = (std::mem::take(&mut filling.late), filling.count);
    transaction.finish_schema(&wanted.schema)?;
    // One that was never filled has no shape.
    let is_filled = |name: &str| head.tables.iter().any(|shape| shape.name == name);
    let views = head.schema.objects.iter().filter(|object| object.kind == ObjectKind::MaterializedView);
    for object in views.filter(|object| is_filled(&object.name)) {
        transaction.refresh(&object.name)?;
    }
    transaction.finish_rows(&wanted.schema)?;
    let is_internal = |shape: &&TableShape| kind(head, &shape.name) == Some(&TableKind::Internal);
    for shape in head.tables.iter().filter(is_internal) {
        transaction.clear_table(shape)?;
        let rows = late.iter().filter(|(name, _)| *name == shape.name).map(|(_, row)| Ok(row.clone()));
        transaction.insert_rows(shape, &mut rows.collect::<Vec<_>>().into_iter())?;
    }
    transaction.write_settings(&wanted.settings)?;
    transaction.commit()?;
    Ok(count)
}

fn kind<'h>(head: &'h Head, table: &str) -> Option<&'h TableKind> {
    head.schema.table(table).map(|table| &table.kind)
}

/// Sends rows to the database in batches of one table.
struct Filling<'a, 't> {
    head: &'a Head,
    transaction: &'a mut (dyn WriteTransaction + 't),
    at: Option<usize>,
    rows: Vec<Vec<Value>>,
    /// Rows of the engine's own tables, which come last.
    late: Vec<(String, Vec<Value>)>,
    count: u64,
}

impl Filling<'_, '_> {
    fn push(&mut self, table: &str, row: WrittenRow) -> Result<(), OpError> {
        let is_it = |at: &usize| self.head.tables.get(*at).is_some_and(|shape| shape.name == table);
        let at = match self.at.filter(is_it) {
            Some(at) => at,
            None => {
                let found = self.head.tables.iter().position(|shape| shape.name == table);
                found.ok_or_else(|| EngineError::Unsupported(format!("the export has rows of `{table}`, and no such table")))?
            }
        };
        if self.at != Some(at) {
            self.flush()?;
            self.at = Some(at);
        }
        let shape = &self.head.tables[at];
        let cells = cells(shape, &row)?;
        self.count += 1;
        match kind(self.head, table) {
            Some(TableKind::Internal) => self.late.push((table.to_owned(), cells)),
            // Computed again.
            Some(TableKind::Materialized) => {}
            _ => self.rows.push(cells),
        }
        if self.rows.len() >= ROWS_AT_ONCE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), OpError> {
        let rows = std::mem::take(&mut self.rows);
        if let Some(shape) = self.at.and_then(|at| self.head.tables.get(at)).filter(|_| !rows.is_empty()) {
            self.transaction.insert_rows(shape, &mut rows.into_iter().map(Ok))?;
        }
        Ok(())
    }
}

/// Puts a row's cells into the order of its table.
fn cells(shape: &TableShape, row: &[(String, Vec<u8>)]) -> Result<Vec<Value>, OpError> {
    let lacks = |name: &str| EngineError::Unsupported(format!("a row of `{}` in the export has no `{name}`", shape.name));
    let mut cells = Vec::with_capacity(shape.columns.len());
    for (at, column) in shape.columns.iter().enumerate() {
        let is_it = |(name, _): &&(String, Vec<u8>)| *name == column.name;
        // As they are written they stand in this order.
        let found = row.get(at).filter(is_it).or_else(|| row.iter().find(is_it));
        let (_, json) = found.ok_or_else(|| lacks(&column.name))?;
        let value = read_cell(json)?;
        if matches!(value, Value::Large { .. }) {
            return Err(EngineError::Unsupported(format!("a row of `{}` in the export refers to another store", shape.name)).into());
        }
        cells.push(value);
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"format":"dbelay-export","schema_version":1,"timestamp":"2026-01-01T00:00:00.000Z","source":{"engine":"sqlite","place":"/a.db"},"settings":{},"objects":{"objects":[],"tables":[],"indexes":[]},"tables":[]"#;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &[(&str, &str)])]) {
        let mut reader = Reader::new(text.as_bytes());
        let head = reader.head().expect("a head");
        let mut found = Vec::new();
        let mut sink = |table: &str, row: Vec<(String, Vec<u8>)>| {
            let cells = row.into_iter().map(|(name, json)| (name, String::from_utf8(json).expect("JSON"))).collect::<Vec<_>>();
            found.push((table.to_owned(), cells));
            Ok(())
        };
        reader.rows(&head, &mut sink).expect("rows");
        let cells = |cells: &[(&str, &str)]| cells.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        let expected: Vec<_> = expected.iter().map(|(table, row)| ((*table).to_owned(), cells(row))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_come_as_they_are_written() {
        let expected: [(&str, &[(&str, &str)]); 2] =
            [("a", &[("x", "1.50"), ("y", "\"} ] \\\" ,\"")]), ("b", &[("z", "{\"blob\":\"AA==\"}")])];
        check(
            &format!(
                "{HEAD},\n\"data\" : {{ \"a\":[ {{\"x\" : 1.50 , \"y\":\"}} ] \\\" ,\"}} ],\n\"e\":[],\"b\":[{{\"z\":{{\"blob\":\"AA==\"}}}}]}}}}\n"
            ),
            &expected,
        );
        check(
            &format!(
                "{HEAD}}}\n{{\"table\":\"a\",\"row\":{{\"x\":1.50,\"y\":\"}} ] \\\" ,\"}}}}\n{{\"row\":{{\"z\":{{\"blob\":\"AA==\"}}}},\"table\":\"b\"}}"
            ),
            &expected,
        );
    }

    #[test]
    fn what_is_cut_off_or_no_export_is_refused_and_never_a_panic() {
        let whole = format!("{HEAD},\"data\":{{\"a\":[{{\"x\":\"\\u00e4\"}}]}}}}");
        let read = |text: &str| {
            let mut reader = Reader::new(text.as_bytes());
            let head = reader.head()?;
            reader.rows(&head, &mut |_, _| Ok(()))
        };
        read(&whole).expect("it is whole");
        for end in 0..whole.len() {
            // Where the head alone is whole, it is the first of several lines.
            let is_whole = end == HEAD.len() + 1 && whole.as_bytes()[end - 1] == b'}';
            assert!(read(&whole[..end]).is_err() || is_whole, "{end}");
        }
        for text in
            ["", "[]", "{}", "{\"format\":\"other\",\"schema_version\":1}", "{\"a\"}", "}}", &"[".repeat(1000), &format!("{whole} x")]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
