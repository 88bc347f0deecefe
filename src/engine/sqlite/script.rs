//! The changes of [`super::write`] as SQL text that the `sqlite3` shell, or any client, can run. Pure.
//!
//! A script cannot switch triggers off, so it takes every trigger out of the schema first and puts the target's in at the end.
//! Reals are written so that every SQLite reads the same 64 bits: versions before 3.47 round some literals wrongly, so what is
//! not an integer of at most 15 digits times a small power of ten is written as a whole number divided by powers of two.

use std::io::Write;

use super::text::{self, Encoding};
use super::write::{has_no_pages, is_internal};
use super::{quote, schema};
use crate::engine::{EngineError, PatchTarget, RowSource};
use crate::rows::{ColumnShape, TableShape};
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, Settings};
use crate::value::Value;

/// The name under which one of SQLite's own tables stands while it is made or dropped.
pub(super) const SPARE_TABLE: &str = "dbelay_spare_table";

/// Returns DDL that makes a table like one of SQLite's own under the spare name.
pub(super) fn spare_sql(sql: &str) -> String {
    let columns = sql.find('(').map_or("(x)", |at| &sql[at..]);
    format!("CREATE TABLE {SPARE_TABLE}{columns}")
}

/// Writes a patch as SQL statements.
pub struct Script<'a> {
    out: &'a mut dyn Write,
    /// What the schema is at this point of the script: kind and name, in order.
    present: Vec<SchemaObject>,
    encoding: Encoding,
}

impl<'a> Script<'a> {
    /// Begins a script that starts from this schema, for a database of this encoding.
    ///
    /// # Errors
    /// [`EngineError::Input`] where the script cannot be written out, here and in all other methods.
    pub fn begin(out: &'a mut dyn Write, before: &Schema, encoding: Encoding) -> Result<Self, EngineError> {
        let mut script = Self { out, present: before.objects.clone(), encoding };
        script.line("PRAGMA foreign_keys=OFF;")?;
        script.line("PRAGMA ignore_check_constraints=ON;")?;
        script.line("BEGIN IMMEDIATE;")?;
        if script.present.iter().any(|object| object.kind == ObjectKind::Trigger) {
            script.edit("DELETE FROM sqlite_schema WHERE type='trigger';")?;
            script.present.retain(|object| object.kind != ObjectKind::Trigger);
        }
        Ok(script)
    }

    /// Ends the script.
    ///
    /// # Errors
    /// As [`Script::begin`].
    pub fn finish(mut self) -> Result<(), EngineError> {
        self.line("COMMIT;")?;
        self.line("PRAGMA ignore_check_constraints=OFF;")
    }

    fn line(&mut self, text: &str) -> Result<(), EngineError> {
        writeln!(self.out, "{text}").map_err(|error| EngineError::Input(Box::new(error)))
    }

    fn edit(&mut self, statements: &str) -> Result<(), EngineError> {
        self.line("PRAGMA writable_schema=ON;")?;
        self.line(statements)?;
        self.line("PRAGMA writable_schema=RESET;")
    }

    /// Makes a table or an index, and gives it its text where SQLite would keep another: it writes the first words anew.
    fn create(&mut self, object: &SchemaObject) -> Result<(), EngineError> {
        let sql = object.sql.as_deref().unwrap_or_default();
        // A comment at the end would swallow the semicolon.
        let end = if sql.rsplit('\n').next().is_some_and(|line| line.contains("--")) { "\n;" } else { ";" };
        self.line(&format!("{sql}{end}"))?;
        let heads = ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX "];
        let is_plain = text::ddl_bytes(sql) == sql.as_bytes() && !sql.contains('\r');
        let is_kept =
            is_plain && heads.iter().any(|head| sql.strip_prefix(head).is_some_and(|rest| !rest.starts_with(char::is_whitespace)));
        if is_kept && end == ";" {
            return Ok(());
        }
        let (text, kind, name) = (ddl_literal(sql), object.kind.word(), text_literal(&object.name));
        self.edit(&format!("UPDATE sqlite_schema SET sql={text} WHERE type='{kind}' AND name={name};"))?;
        // It was made from a text that stands for its own.
        if object.kind == ObjectKind::Index && !is_plain { self.line(&format!("REINDEX {};", quote(&object.name))) } else { Ok(()) }
    }

    fn forget(&mut self, object: &SchemaObject) {
        self.present.retain(|other| {
            let is_it = other.kind == object.kind && other.name == object.name;
            !(is_it || object.kind == ObjectKind::Table && other.kind == ObjectKind::Index && other.table == object.name)
        });
    }

    fn rename_line(&mut self, from: &str, to: &str, sql: &str) -> Result<(), EngineError> {
        let (from, to_text, sql) = (text_literal(from), text_literal(to), ddl_literal(sql));
        self.edit(&format!("UPDATE sqlite_schema SET name={to_text}, tbl_name={to_text}, sql={sql} WHERE type='table' AND name={from};"))
    }

    fn rows(&mut self, rows: RowSource<'_>, statement: impl Fn(&[Value]) -> String) -> Result<u64, EngineError> {
        let mut done = 0;
        for row in rows {
            let text = statement(&row.map_err(EngineError::Input)?);
            self.line(&text)?;
            done += 1;
        }
        Ok(done)
    }
}

impl PatchTarget for Script<'_> {
    fn drop_objects(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        let (without_pages, with_pages): (Vec<_>, Vec<_>) = objects.iter().partition(|object| has_no_pages(object));
        let mut deletes = Vec::new();
        for object in without_pages {
            if object.kind != ObjectKind::Trigger {
                deletes.push(format!(
                    "DELETE FROM sqlite_schema WHERE type='{}' AND name={};",
                    object.kind.word(),
                    text_literal(&object.name)
                ));
            }
            self.forget(object);
        }
        if !deletes.is_empty() {
            self.edit(&deletes.join("\n"))?;
        }
        let is_dropped_table = |name: &str| with_pages.iter().any(|object| object.kind == ObjectKind::Table && object.name == name);
        for object in schema::drop_order(&with_pages) {
            match object.kind {
                ObjectKind::Index if object.sql.is_none() || is_dropped_table(&object.table) => {}
                ObjectKind::Index => self.line(&format!("DROP INDEX {};", quote(&object.name)))?,
                _ if object.name.eq_ignore_ascii_case("sqlite_sequence") => {
                    self.rename_line(&object.name, SPARE_TABLE, &format!("CREATE TABLE {SPARE_TABLE}(name,seq)"))?;
                    self.line(&format!("DROP TABLE {SPARE_TABLE};"))?;
                }
                _ => self.line(&format!("DROP TABLE {};", quote(&object.name)))?,
            }
            self.forget(object);
        }
        Ok(())
    }

    fn create_tables(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        let (internal, own): (Vec<_>, Vec<_>) = objects
            .iter()
            .filter(|object| object.kind == ObjectKind::Table && !has_no_pages(object))
            .partition(|object| is_internal(&object.name));
        // Made before the tables that would make it by themselves, so that the script knows that it is there.
        for object in internal {
            if self.present.iter().any(|other| other.name.eq_ignore_ascii_case(&object.name)) {
                continue;
            }
            let sql = object.sql.as_deref().unwrap_or_default();
            self.line(&format!("{};", spare_sql(sql)))?;
            self.rename_line(SPARE_TABLE, &object.name, sql)?;
            self.present.push(object.clone());
        }
        for object in own {
            self.create(object)?;
            self.present.push(object.clone());
        }
        Ok(())
    }

    fn delete_rows(&mut self, shape: &TableShape, locators: RowSource<'_>) -> Result<u64, EngineError> {
        let (table, encoding) = (quote(&shape.name), self.encoding);
        self.rows(locators, |row| format!("DELETE FROM {table} WHERE {};", condition(shape, row, encoding)))
    }

    fn update_rows(&mut self, shape: &TableShape, columns: &[usize], rows: RowSource<'_>) -> Result<u64, EngineError> {
        let (table, encoding) = (quote(&shape.name), self.encoding);
        let keys = shape.locator.len();
        self.rows(rows, |row| {
            let (locator, values) = row.split_at(keys.min(row.len()));
            let sets: Vec<String> = columns
                .iter()
                .zip(values)
                .filter(|(column, _)| !shape.columns[**column].generated)
                .map(|(&column, value)| format!("{}={}", quote(&shape.columns[column].name), literal_in(value, encoding)))
                .collect();
            if sets.is_empty() {
                // Only what the database computes differs.
                return String::new();
            }
            format!("UPDATE OR ABORT {table} SET {} WHERE {};", sets.join(", "), condition(shape, locator, encoding))
        })
    }

    fn insert_rows(&mut self, shape: &TableShape, rows: RowSource<'_>) -> Result<u64, EngineError> {
        let names: Vec<String> = shape.columns.iter().filter(|column| !column.generated).map(|column| quote(&column.name)).collect();
        let head = format!("INSERT OR ABORT INTO {}({}) VALUES(", quote(&shape.name), names.join(","));
        let encoding = self.encoding;
        self.rows(rows, |row| {
            let written = row.iter().zip(&shape.columns).filter(|(_, column)| !column.generated);
            let values: Vec<String> = written.map(|(value, _)| literal_in(value, encoding)).collect();
            format!("{head}{});", values.join(","))
        })
    }

    fn clear_table(&mut self, shape: &TableShape) -> Result<(), EngineError> {
        self.line(&format!("DELETE FROM {};", quote(&shape.name)))
    }

    fn finish_schema(&mut self, target: &Schema) -> Result<(), EngineError> {
        let missing: Vec<&SchemaObject> = target
            .objects
            .iter()
            .filter(|object| !self.present.iter().any(|other| other.kind == object.kind && other.name == object.name))
            .collect();
        let mut inserts = Vec::new();
        // These are made last, all together.
        let mut late = Vec::new();
        for object in missing {
            match (&object.sql, has_no_pages(object)) {
                (Some(sql), true) => {
                    inserts.push(format!(
                        "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('{}',{},{},0,{});",
                        object.kind.word(),
                        text_literal(&object.name),
                        text_literal(&object.table),
                        ddl_literal(sql)
                    ));
                    late.push(object.clone());
                }
                (Some(_), false) => {
                    self.create(object)?;
                    self.present.push(object.clone());
                }
                // It came with its table.
                (None, _) => {}
            }
        }
        self.present.extend(late);
        let spoken: Vec<&SchemaObject> = target.objects.iter().filter(|object| object.sql.is_some()).collect();
        let present: Vec<&SchemaObject> = self.present.iter().filter(|object| object.sql.is_some()).collect();
        let is_ordered = present.len() == spoken.len() && present.iter().zip(&spoken).all(|(a, b)| a.kind == b.kind && a.name == b.name);
        if !is_ordered {
            for start in [1_000_000_000_u64, 1] {
                for (at, object) in (start..).zip(&target.objects) {
                    inserts.push(format!(
                        "UPDATE sqlite_schema SET rowid={at} WHERE type='{}' AND name={};",
                        object.kind.word(),
                        text_literal(&object.name)
                    ));
                }
            }
        }
        if !inserts.is_empty() {
            self.edit(&inserts.join("\n"))?;
        }
        Ok(())
    }

    fn write_settings(&mut self, settings: &Settings) -> Result<(), EngineError> {
        for (name, setting) in settings.iter().filter(|(_, setting)| setting.scope == SettingScope::Exact) {
            if setting.value.parse::<i64>().is_ok() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                self.line(&format!("PRAGMA {name}={};", setting.value))?;
            }
        }
        Ok(())
    }
}

fn condition(shape: &TableShape, locator: &[Value], encoding: Encoding) -> String {
    let part = |(&column, value): (&usize, &Value)| is_cell(&shape.columns[column], &literal_in(value, encoding));
    let parts: Vec<String> = shape.locator.iter().zip(locator).map(part).collect();
    if parts.is_empty() { "0".to_owned() } else { parts.join(" AND ") }
}

/// Writes the condition that a column has exactly this value. A key's collation need not be its column's, by which SQLite compares here, and may
/// take several keys for one: so the bytes are asked for too, where they can differ.
pub(super) fn is_cell(column: &ColumnShape, value: &str) -> String {
    let name = quote(&column.name);
    let is_number = column.hidden || column.declared_type.eq_ignore_ascii_case("integer");
    if is_number { format!("{name} IS {value}") } else { format!("({name} IS {value} AND {name} COLLATE BINARY IS {value})") }
}

fn text_literal(text: &str) -> String {
    literal(&Value::Text(text.as_bytes().to_vec()))
}

fn ddl_literal(sql: &str) -> String {
    literal(&Value::Text(text::ddl_bytes(sql)))
}

/// What does not stand as itself in a script: SQL ends at a NUL, and the shell takes the carriage return off the end of a line.
const APART: [char; 2] = ['\0', '\r'];

/// The most of those in a text that is written in parts.
const PARTS_MAX: usize = 400;

/// Writes a value as an SQL expression that has exactly this value in a database of this encoding.
fn literal_in(value: &Value, encoding: Encoding) -> String {
    match value {
        // What SQLite would not convert as it is.
        Value::Text(bytes)
            if encoding != Encoding::Utf8
                && std::str::from_utf8(bytes)
                    .map_or(true, |text| text.contains(['\u{fffe}', '\u{ffff}']) || text.matches(APART).count() > PARTS_MAX) =>
        {
            text::encode(bytes, encoding).map_or_else(|| literal(value), |stored| format!("+CAST({} AS TEXT)", blob_literal(&stored)))
        }
        value => literal(value),
    }
}

/// Writes a value as an SQL expression that has exactly this value, storage class included, in a database whose encoding is UTF-8.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Null | Value::Large { .. } => "NULL".to_owned(),
        Value::Boolean(value) => i64::from(*value).to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => real_literal(*value),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(APART) => format!("'{}'", text.replace('\'', "''")),
            // Beyond some hundred parts the expression would be too deep for SQLite.
            Ok(text) if text.matches(APART).count() <= PARTS_MAX => {
                let part = |part: &str| match part.strip_suffix(APART) {
                    None => format!("'{}'", part.replace('\'', "''")),
                    Some(rest) => {
                        let code = if part.ends_with('\r') { 13 } else { 0 };
                        format!("'{}'||char({code})", rest.replace('\'', "''"))
                    }
                };
                let parts: Vec<String> = text.split_inclusive(APART).map(part).collect();
                format!("({})", parts.join("||"))
            }
            _ => format!("CAST({} AS TEXT)", blob_literal(bytes)),
        },
        Value::Blob(bytes) => blob_literal(bytes),
    }
}

fn blob_literal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2 + 3);
    text.push_str("X'");
    for byte in bytes {
        write!(text, "{byte:02X}").expect("writing to a string does not fail");
    }
    text.push('\'');
    text
}

fn real_literal(value: f64) -> String {
    if value.is_nan() {
        return "NULL".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "9e999" } else { "-9e999" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0.0" } else { "0.0" }.to_owned();
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value);
    let (digits, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let power = exponent.parse::<i64>().unwrap_or(i64::MAX).saturating_sub(i64::try_from(fraction).unwrap_or(0));
    if count <= 15 && power.abs() <= 22 {
        return if shortest.contains('.') { shortest.to_owned() } else { format!("{digits}.0e{exponent}") };
    }
    // value = mantissa * 2^power, both exact; each division and multiplication by a power of two is exact as well, but for the
    // last one into the subnormal range, where the mantissa has few bits and nothing is lost either.
    let bits = value.abs().to_bits();
    let raw = i64::try_from(bits >> 52).unwrap_or(0);
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, mut power) = if raw == 0 { (fraction, -1074) } else { (fraction | 1 << 52, raw - 1075) };
    let mut text = format!("({}{mantissa}*1.0", if value < 0.0 { "-" } else { "" });
    while power != 0 {
        let step = power.abs().min(60);
        text.push_str(&format!("{}{}.0", if power > 0 { '*' } else { '/' }, 1_u64 << step));
        power -= step * power.signum();
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_the_value_and_class_that_they_stand_for() {
        let connection = rusqlite::Connection::open_in_memory().expect("memory is there");
        let mut values = vec![
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Integer(i64::MAX),
            Value::Text("a'b\0c".into()),
            Value::Text("one\r\ntwo\r\n".into()),
            Value::Text("\r".into()),
            Value::Text("\0\r\n".repeat(500).into()),
            Value::Text(vec![0xff]),
            Value::Text(Vec::new()),
            Value::Blob(Vec::new()),
            Value::Blob(vec![0, 255]),
        ];
        let mut bits = 0x1234_5678_9abc_def0_u64;
        for _ in 0..2_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let real = f64::from_bits(bits);
            if !real.is_nan() {
                values.push(Value::Real(real));
            }
        }
        for real in [0.0, -0.0, 1.0, 0.1, 1e15, 1e22, 1e23, 5e-324, f64::MAX, f64::MIN_POSITIVE, -1.5, f64::INFINITY, 123_456.789] {
            values.push(Value::Real(real));
        }
        for value in values {
            let sql = format!("SELECT {}", literal(&value));
            let found = connection.query_row(&sql, [], |row| {
                Ok(match row.get_ref(0)? {
                    rusqlite::types::ValueRef::Null => Value::Null,
                    rusqlite::types::ValueRef::Integer(value) => Value::Integer(value),
                    rusqlite::types::ValueRef::Real(value) => Value::Real(value),
                    rusqlite::types::ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
                    rusqlite::types::ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
                })
            });
            assert_eq!(found.expect("a literal selects").to_json(), value.to_json(), "{sql}");
        }
    }
}
