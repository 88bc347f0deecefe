//! Changing a state: one transaction, with triggers and foreign key actions off.
//!
//! What has no pages (views, triggers, virtual tables) is dropped and made by editing `sqlite_schema`, under
//! `PRAGMA writable_schema`: their text stays verbatim, no module and no function need be there, and the order of the lines can be
//! restored. What has pages is dropped and made by DDL. After each edit the schema is read anew (`writable_schema=RESET`), and
//! `schema_version` moves on, so that other connections read it anew too.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, ToSql, params};

use super::read::State;
use super::schema::{lines, virtual_module};
use super::{quote, schema, script};
use crate::engine::{EngineError, Finding, PatchTarget, ReadTransaction, RowSource, WriteTransaction};
use crate::rows::{CutRule, RowGroup, TableShape};
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, Settings};
use crate::value::Value;

/// An open write transaction.
pub(super) struct Patch<'a> {
    state: State<'a>,
}

/// A value as SQLite takes it: text by its bytes, whatever they are.
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Boolean(value) => ValueRef::Integer(i64::from(*value)),
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(bytes) => ValueRef::Text(bytes),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
            Value::Large { id, .. } => {
                let message = format!("the large value {id} was not resolved");
                return Err(rusqlite::Error::ToSqlConversionFailure(message.into()));
            }
        }))
    }
}

impl<'a> Patch<'a> {
    pub(super) fn new(state: State<'a>) -> Self {
        Self { state }
    }

    fn execute(&self, sql: &str, doing: &str) -> Result<(), EngineError> {
        self.state.connection.execute_batch(sql).map_err(|error| self.state.explain(error, doing))
    }

    /// Edits `sqlite_schema` directly and has it read anew.
    fn edit_schema(&self, doing: &str, edit: impl FnOnce(&rusqlite::Connection) -> Result<(), rusqlite::Error>) -> Result<(), EngineError> {
        self.execute("PRAGMA writable_schema=ON", doing)?;
        let edited = edit(self.state.connection).and_then(|()| {
            let version: i64 = self.state.connection.pragma_query_value(Some("main"), "schema_version", |row| row.get(0))?;
            self.state.connection.execute_batch(&format!("PRAGMA main.schema_version={}", (version + 1) & 0x7fff_ffff))
        });
        let reset = self.execute("PRAGMA writable_schema=RESET", doing);
        edited.map_err(|error| self.state.explain(error, doing))?;
        reset
    }

    /// Runs a statement once a row of the source; each run must change exactly one row.
    fn run_rows(&self, sql: &str, doing: &str, rows: RowSource<'_>) -> Result<u64, EngineError> {
        let fail = |error| self.state.explain(error, doing);
        let mut statement: CachedStatement<'_> = self.state.connection.prepare_cached(sql).map_err(fail)?;
        let mut done = 0;
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            for (at, value) in row.iter().enumerate() {
                statement.raw_bind_parameter(at + 1, Bound(value)).map_err(fail)?;
            }
            let changed = statement.raw_execute().map_err(fail)?;
            if changed != 1 {
                return Err(EngineError::Statement {
                    doing: doing.to_owned(),
                    source: format!("row {} changed {changed} rows where it should change 1", done + 1).into(),
                });
            }
            done += 1;
        }
        Ok(done)
    }
}

impl PatchTarget for Patch<'_> {
    fn drop_objects(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        let (without_pages, with_pages): (Vec<_>, Vec<_>) = objects.iter().partition(|object| has_no_pages(object));
        if !without_pages.is_empty() {
            self.edit_schema("dropping views, triggers and virtual tables", |connection| {
                let mut statement = connection.prepare("DELETE FROM main.sqlite_schema WHERE type=? AND name=?")?;
                for object in without_pages {
                    statement.execute([object.kind.word(), &object.name])?;
                }
                Ok(())
            })?;
        }
        let is_dropped_table = |name: &str| with_pages.iter().any(|object| object.kind == ObjectKind::Table && object.name == name);
        for object in schema::drop_order(&with_pages) {
            let doing = format!("dropping {} `{}`", object.kind.word(), object.name);
            match object.kind {
                ObjectKind::Index if object.sql.is_none() || is_dropped_table(&object.table) => {}
                ObjectKind::Index => self.execute(&format!("DROP INDEX main.{}", quote(&object.name)), &doing)?,
                _ if object.name.eq_ignore_ascii_case("sqlite_sequence") => {
                    // SQLite refuses to drop this table by its name.
                    let spare = script::SPARE_TABLE;
                    self.edit_schema(&doing, |connection| {
                        let sql = "UPDATE main.sqlite_schema SET name=?1, tbl_name=?1, sql=?2 WHERE type='table' AND name=?3";
                        connection.execute(sql, params![spare, format!("CREATE TABLE {spare}(name,seq)"), object.name]).map(drop)
                    })?;
                    self.execute(&format!("DROP TABLE main.{spare}"), &doing)?;
                }
                _ => self.execute(&format!("DROP TABLE main.{}", quote(&object.name)), &doing)?,
            }
        }
        Ok(())
    }

    fn create_tables(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        let (internal, own): (Vec<_>, Vec<_>) = objects
            .iter()
            .filter(|object| object.kind == ObjectKind::Table && !has_no_pages(object))
            .partition(|object| is_internal(&object.name));
        for object in own {
            self.execute(object.sql.as_deref().unwrap_or_default(), &format!("creating table `{}`", object.name))?;
        }
        for object in internal {
            let sql = object.sql.as_deref().unwrap_or_default();
            let doing = format!("creating table `{}`", object.name);
            let lines = lines(&self.state)?;
            if lines.iter().any(|line| line.object.name.eq_ignore_ascii_case(&object.name)) {
                continue;
            }
            let spare = script::SPARE_TABLE;
            self.execute(&script::spare_sql(sql), &doing)?;
            self.edit_schema(&doing, |connection| {
                let edit = "UPDATE main.sqlite_schema SET name=?1, tbl_name=?1, sql=?2 WHERE type='table' AND name=?3";
                connection.execute(edit, params![object.name, sql, spare]).map(drop)
            })?;
        }
        Ok(())
    }

    fn delete_rows(&mut self, shape: &TableShape, locators: RowSource<'_>) -> Result<u64, EngineError> {
        let sql = format!("DELETE FROM main.{} WHERE {}", quote(&shape.name), script::locator_clause(shape));
        self.run_rows(&sql, &format!("deleting rows of `{}`", shape.name), locators)
    }

    fn update_rows(&mut self, shape: &TableShape, columns: &[usize], rows: RowSource<'_>) -> Result<u64, EngineError> {
        let first = shape.locator.len() + 1;
        let sets: Vec<String> =
            columns.iter().enumerate().map(|(at, &column)| format!("{}=?{}", quote(&shape.columns[column].name), first + at)).collect();
        let sql = format!("UPDATE OR ABORT main.{} SET {} WHERE {}", quote(&shape.name), sets.join(","), script::locator_clause(shape));
        self.run_rows(&sql, &format!("updating rows of `{}`", shape.name), rows)
    }

    fn insert_rows(&mut self, shape: &TableShape, rows: RowSource<'_>) -> Result<u64, EngineError> {
        let names: Vec<String> = shape.columns.iter().map(|column| quote(&column.name)).collect();
        let marks = vec!["?"; names.len()].join(",");
        let sql = format!("INSERT OR ABORT INTO main.{}({}) VALUES({marks})", quote(&shape.name), names.join(","));
        self.run_rows(&sql, &format!("inserting rows into `{}`", shape.name), rows)
    }

    fn clear_table(&mut self, shape: &TableShape) -> Result<(), EngineError> {
        self.execute(&format!("DELETE FROM main.{}", quote(&shape.name)), &format!("clearing table `{}`", shape.name))
    }

    fn finish_schema(&mut self, target: &Schema) -> Result<(), EngineError> {
        let present = lines(&self.state)?;
        let is_present =
            |object: &SchemaObject| present.iter().any(|line| line.object.kind == object.kind && line.object.name == object.name);
        let (without_pages, with_pages): (Vec<_>, Vec<_>) =
            target.objects.iter().filter(|object| !is_present(object)).partition(|object| has_no_pages(object));
        for object in with_pages {
            match (&object.sql, object.kind) {
                (Some(sql), ObjectKind::Index) => self.execute(sql, &format!("creating index `{}`", object.name))?,
                // An index without DDL came with its table, unless the table's DDL does not make it.
                _ => {
                    let what = format!("{} `{}` cannot be made again: its DDL does not make it", object.kind.word(), object.name);
                    return Err(EngineError::Unsupported(what));
                }
            }
        }
        if !without_pages.is_empty() {
            self.edit_schema("creating views, triggers and virtual tables", |connection| {
                let sql = "INSERT INTO main.sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES(?,?,?,0,?)";
                let mut statement = connection.prepare(sql)?;
                for object in without_pages {
                    statement.execute(params![object.kind.word(), object.name, object.table, object.sql])?;
                }
                Ok(())
            })?;
        }
        self.order_schema(target)
    }

    fn write_settings(&mut self, settings: &Settings) -> Result<(), EngineError> {
        for (name, setting) in settings.iter().filter(|(_, setting)| setting.scope == SettingScope::Exact) {
            let value: i64 = setting.value.parse().map_err(|_| {
                EngineError::Unsupported(format!("the snapshot's setting `{name}` is `{}`, which is no number", setting.value))
            })?;
            if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                self.execute(&format!("PRAGMA main.{name}={value}"), &format!("writing `{name}`"))?;
            }
        }
        Ok(())
    }
}

impl Patch<'_> {
    /// Makes text and order of `sqlite_schema` those of the target, which has the same objects.
    fn order_schema(&self, target: &Schema) -> Result<(), EngineError> {
        let present = lines(&self.state)?;
        if present.len() != target.objects.len() {
            let (found, expected) = (present.len(), target.objects.len());
            return Err(EngineError::Unsupported(format!("the schema has {found} objects where the snapshot has {expected}")));
        }
        let is_ordered = present.iter().zip(&target.objects).all(|(line, object)| line.object == *object);
        if is_ordered {
            return Ok(());
        }
        let is_reordered =
            present.iter().zip(&target.objects).any(|(line, object)| line.object.kind != object.kind || line.object.name != object.name);
        self.edit_schema("ordering the schema", |connection| {
            let mut text = connection.prepare("UPDATE main.sqlite_schema SET sql=? WHERE type=? AND name=?")?;
            for object in &target.objects {
                let line = present.iter().find(|line| line.object.kind == object.kind && line.object.name == object.name);
                if line.is_some_and(|line| line.object.sql != object.sql) {
                    text.execute(params![object.sql, object.kind.word(), object.name])?;
                }
            }
            if is_reordered {
                let highest = present.iter().map(|line| line.rowid).max().unwrap_or(0);
                let sql = "UPDATE main.sqlite_schema SET rowid=? WHERE type=? AND name=?";
                let mut place = connection.prepare(sql)?;
                // Above all lines first, so that no two lines meet; then down to 1, 2, 3...
                for start in [highest + 1, 1] {
                    for (at, object) in (start..).zip(&target.objects) {
                        place.execute(params![at, object.kind.word(), object.name])?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Tells whether an object is a line in `sqlite_schema` and nothing else.
pub(super) fn has_no_pages(object: &SchemaObject) -> bool {
    match object.kind {
        ObjectKind::View | ObjectKind::Trigger => true,
        ObjectKind::Index => false,
        ObjectKind::Table => object.sql.as_deref().and_then(virtual_module).is_some(),
    }
}

/// Tells whether SQLite keeps a table for itself.
pub(super) fn is_internal(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

impl ReadTransaction for Patch<'_> {
    fn schema(&mut self) -> Result<Schema, EngineError> {
        self.state.schema()
    }

    fn settings(&mut self) -> Result<Settings, EngineError> {
        self.state.settings()
    }

    fn shapes(&mut self) -> Result<Vec<TableShape>, EngineError> {
        self.state.shapes()
    }

    fn row_bytes(&mut self, shape: &TableShape) -> Result<u64, EngineError> {
        self.state.row_bytes(shape)
    }

    fn read_table(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> std::ops::ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.state.read_table(shape, rule, sink)
    }

    fn findings(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.state.findings()
    }

    fn stamp(&mut self) -> Result<u64, EngineError> {
        self.state.stamp()
    }
}

impl WriteTransaction for Patch<'_> {
    fn commit(self: Box<Self>) -> Result<(), EngineError> {
        // If this fails (a reader that does not end), dropping the state rolls back.
        self.execute("COMMIT", "committing")
    }
}
