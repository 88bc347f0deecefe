//! Changing a state: one transaction, with triggers and foreign key actions off.
//!
//! What has no pages (views, triggers, virtual tables) is dropped and made by editing `sqlite_schema`, under
//! `PRAGMA writable_schema`: their text stays verbatim, no module and no function need be there, and the order of the lines can be
//! restored. What has pages is dropped and made by DDL. After each edit the schema is read anew (`writable_schema=RESET`), and
//! `schema_version` moves on, so that other connections read it anew too.

use rusqlite::{CachedStatement, params};
use xxhash_rust::xxh3::xxh3_128;

use super::pages::held::Held;
use super::read::State;
use super::relaxed::{self, Fits, Relaxation};
use super::schema::{Line, lines, virtual_module};
use super::statement::{Bound, Ddl, Form, RowStatement, is_too_wide};
use super::text::{self, Encoding};
use super::{needs, quote, schema, script};
use crate::engine::{Answer, EngineError, Finding, Obstacle, PatchTarget, ReadTransaction, RowSource, WriteTransaction};
use crate::rows::{CutRule, EditedColumn, RowGroup, TableShape, Then};
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, Settings};
use crate::value::Value;

/// An open write transaction.
pub(super) struct Patch<'a> {
    state: State<'a>,
    /// The file, where what was written can be read from its pages.
    held: Option<&'a Held>,
    /// The hash of the memory that is of the state in which the transaction began.
    beginning: Option<u128>,
    /// The tables whose text is relaxed for now.
    relaxed: Vec<Relaxed>,
}

/// A table that was asked to take more rows.
struct Relaxed {
    table: String,
    /// How far it was asked to go; it is not asked again.
    by: Relaxation,
    /// Its own text, if it has a relaxed one now.
    own: Option<SchemaObject>,
}

/// Why a row could not be written.
pub(super) enum RowError {
    /// The table, or something in its text, refused it.
    Refused(rusqlite::Error),
    /// Anything else.
    Other(EngineError),
}

impl<'a> Patch<'a> {
    pub(super) fn new(state: State<'a>, held: Option<&'a Held>) -> Self {
        Self { state, held, beginning: None, relaxed: Vec::new() }
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
    fn run_rows(&mut self, statement: &RowStatement<'_>, rows: RowSource<'_>) -> Result<u64, EngineError> {
        let (doing, shape, site) = (statement.doing(), statement.shape(), self.state.site);
        let fits = Fits::of(&self.state, shape).map_err(|error| site.explain(error, &doing))?;
        let mut prepared: Option<(Form, CachedStatement<'_>)> = None;
        let mut done = 0;
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            if let Some(needs) = statement.needs(&fits, &row) {
                prepared = prepared.filter(|_| self.covers(shape, &needs));
                self.relax(shape, needs)?;
            }
            let changed = match self.run_row(statement, &row, &mut prepared) {
                // The table's own text may be what refuses the row: a virtual column that fails on it, say.
                Err(RowError::Refused(_)) if !self.covers(shape, &Relaxation::default()) => {
                    prepared = None;
                    self.relax(shape, Relaxation::default())?;
                    self.run_row(statement, &row, &mut prepared)
                }
                changed => changed,
            };
            let changed = changed.map_err(|error| match error {
                RowError::Refused(error) => site.explain(error, &doing),
                RowError::Other(error) => error,
            })?;
            if changed != 1 {
                let source = format!("row {} changed {changed} rows where it should change 1", done + 1).into();
                return Err(EngineError::Statement { doing, source });
            }
            done += 1;
        }
        Ok(done)
    }

    /// Runs a statement for one row; returns how many it changed.
    fn run_row(
        &mut self,
        statement: &RowStatement<'_>,
        row: &[Value],
        prepared: &mut Option<(Form, CachedStatement<'a>)>,
    ) -> Result<usize, RowError> {
        self.state.drop_pages();
        let (connection, encoding, shape) = (self.state.connection, self.state.encoding, statement.shape());
        let fail = |error| RowError::Other(self.state.explain(error, &statement.doing()));
        let is_raw = |value: &Value| encoding != Encoding::Utf8 && matches!(value, Value::Text(_));
        let raw = row.iter().enumerate().filter(|(_, value)| is_raw(value)).map(|(at, _)| at).collect();
        let form = Form { raw, is_relaxed: self.is_relaxed(shape) };
        let ready = match prepared {
            Some((for_form, ready)) if *for_form == form => ready,
            other => {
                // Two statements on a table would keep each other from relaxing it.
                *other = None;
                let ready = connection.prepare_cached(&statement.sql(&form)).map_err(|error| self.lack(statement, error))?;
                &mut other.insert((form.clone(), ready)).1
            }
        };
        for (at, value) in row.iter().enumerate().filter(|(at, _)| statement.has_parameter(*at, &form)) {
            let bound = match value {
                Value::Text(text) if encoding != Encoding::Utf8 => {
                    let stored = text::encode(text, encoding).ok_or_else(|| {
                        let words = "a text is no UTF-16, which is the database's encoding";
                        RowError::Other(EngineError::Unsupported(format!("{} failed: {words}", statement.doing())))
                    })?;
                    ready.raw_bind_parameter(at + 1, stored)
                }
                value => ready.raw_bind_parameter(at + 1, Bound(value)),
            };
            bound.map_err(fail)?;
        }
        let changed = ready.raw_execute().map_err(|error| if is_about_the_row(&error) { RowError::Refused(error) } else { fail(error) })?;
        if !(matches!(statement, RowStatement::Insert(_)) && is_too_wide(shape)) {
            return Ok(changed);
        }
        let (table, number) = (quote(&shape.name), quote(&shape.columns[0].name));
        let mut renumber = connection.prepare_cached(&format!("UPDATE main.{table} SET {number}=?1 WHERE {number}=?2")).map_err(fail)?;
        renumber.execute(params![Bound(&row[0]), connection.last_insert_rowid()]).map_err(fail)
    }

    /// Tries whether rows of a shape can be inserted.
    pub(super) fn try_insert(&mut self, shape: &TableShape) -> Result<(), RowError> {
        let statement = RowStatement::Insert(shape);
        let prepare = |patch: &Self| {
            let form = Form { raw: Vec::new(), is_relaxed: patch.is_relaxed(shape) };
            patch.state.connection.prepare_cached(&statement.sql(&form)).map(drop).map_err(|error| patch.lack(&statement, error))
        };
        match prepare(self) {
            Err(RowError::Refused(_)) => {
                self.relax(shape, Relaxation::default()).map_err(RowError::Other)?;
                prepare(self)
            }
            prepared => prepared,
        }
    }

    /// Says what a statement on a table lacks, and which object needs it; where it failed for something else, that. A table that can still be
    /// relaxed may do without it.
    fn lack(&self, statement: &RowStatement<'_>, error: rusqlite::Error) -> RowError {
        let shape = statement.shape();
        let Some(missing) = needs::missing(&error) else { return RowError::Other(self.state.explain(error, &statement.doing())) };
        let can_relax = || relaxed::relaxed_sql(&self.state, shape, &Relaxation::default()).is_ok_and(|text| text.is_some());
        if !self.covers(shape, &Relaxation::default()) && can_relax() {
            return RowError::Refused(error);
        }
        // On a real table: the empty one in memory on which that is found out has no other.
        let look = || needs::obstacles(self.state.site, &schema::read(&self.state).ok()?, std::slice::from_ref(shape)).ok();
        let found = if self.state.connection.path().is_some_and(|path| !path.is_empty()) { look() } else { None };
        let named = found.and_then(|found| found.into_iter().next());
        let unnamed = Obstacle { table: shape.name.clone(), object: format!("table `{}`", shape.name), missing };
        RowError::Other(EngineError::Lacks(named.unwrap_or(unnamed)))
    }

    /// Tells whether a table was asked to relax this far.
    fn covers(&self, shape: &TableShape, needs: &Relaxation) -> bool {
        self.relaxed.iter().any(|relaxed| relaxed.table == shape.name && needs.is_within(&relaxed.by))
    }

    /// Tells whether a table has a relaxed text now.
    fn is_relaxed(&self, shape: &TableShape) -> bool {
        self.relaxed.iter().any(|relaxed| relaxed.table == shape.name && relaxed.own.is_some())
    }

    /// Gives a table the text that takes more rows, until [`Patch::tighten`]; where there is none, its rows are tried as it is.
    fn relax(&mut self, shape: &TableShape, mut needs: Relaxation) -> Result<(), EngineError> {
        if self.covers(shape, &needs) {
            return Ok(());
        }
        for relaxed in self.relaxed.iter().filter(|relaxed| relaxed.table == shape.name) {
            needs.extend(&relaxed.by);
        }
        // From its own text, which says what is still true of its columns.
        self.tighten()?;
        let text = match relaxed::relaxed_sql(&self.state, shape, &needs)? {
            None if needs != Relaxation::default() => relaxed::relaxed_sql(&self.state, shape, &Relaxation::default())?,
            text => text,
        };
        let is_it = |line: &Line| line.object.kind == ObjectKind::Table && line.object.name == shape.name;
        let own = lines(&self.state)?.into_iter().find(is_it).map(|line| line.object).filter(|_| text.is_some());
        if own.is_some() {
            self.set_text(&format!("making room for the rows of `{}`", shape.name), &shape.name, text.as_deref())?;
        }
        self.relaxed.push(Relaxed { table: shape.name.clone(), by: needs, own });
        Ok(())
    }

    /// Gives every relaxed table its own text again.
    pub(super) fn tighten(&mut self) -> Result<(), EngineError> {
        for own in std::mem::take(&mut self.relaxed).into_iter().filter_map(|relaxed| relaxed.own) {
            self.set_text(&format!("giving `{}` its text again", own.name), &own.name, own.sql.as_deref())?;
        }
        Ok(())
    }

    fn set_text(&self, doing: &str, table: &str, sql: Option<&str>) -> Result<(), EngineError> {
        self.edit_schema(doing, |connection| {
            connection
                .execute("UPDATE main.sqlite_schema SET sql=?1 WHERE type='table' AND name=?2", params![Ddl::of(sql), table])
                .map(drop)
        })
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
            let (sql, doing) = (object.sql.as_deref().unwrap_or_default(), format!("creating table `{}`", object.name));
            needs::create(self.state.connection, sql).map_err(|error| self.state.explain(error, &doing))?;
            if text::ddl_bytes(sql) != sql.as_bytes() {
                self.set_text(&doing, &object.name, Some(sql))?;
            }
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
                connection.execute(edit, params![object.name, Ddl::of(Some(sql)), spare]).map(drop)
            })?;
        }
        Ok(())
    }

    fn delete_rows(&mut self, shape: &TableShape, locators: RowSource<'_>) -> Result<u64, EngineError> {
        self.run_rows(&RowStatement::Delete(shape), locators)
    }

    fn update_rows(&mut self, shape: &TableShape, columns: &[usize], rows: RowSource<'_>) -> Result<u64, EngineError> {
        self.run_rows(&RowStatement::Update(shape, columns), rows)
    }

    fn insert_rows(&mut self, shape: &TableShape, rows: RowSource<'_>) -> Result<u64, EngineError> {
        self.run_rows(&RowStatement::Insert(shape), rows)
    }

    fn clear_table(&mut self, shape: &TableShape) -> Result<(), EngineError> {
        self.execute(&format!("DELETE FROM main.{}", quote(&shape.name)), &format!("clearing table `{}`", shape.name))
    }

    fn finish_schema(&mut self, target: &Schema) -> Result<(), EngineError> {
        self.tighten()?;
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
                    statement.execute(params![object.kind.word(), object.name, object.table, Ddl::of(object.sql.as_deref())])?;
                }
                Ok(())
            })?;
        }
        self.order_schema(target)?;
        // They were made from a text that stands for theirs.
        for object in target.objects.iter().filter(|object| object.kind == ObjectKind::Index && !is_present(object)) {
            let sql = object.sql.as_deref().unwrap_or_default();
            if text::ddl_bytes(sql) != sql.as_bytes() {
                self.execute(&format!("REINDEX main.{}", quote(&object.name)), &format!("filling index `{}`", object.name))?;
            }
        }
        Ok(())
    }

    fn write_settings(&mut self, settings: &Settings) -> Result<(), EngineError> {
        self.tighten()?;
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
                    text.execute(params![Ddl::of(object.sql.as_deref()), object.kind.word(), object.name])?;
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

/// Tells whether a statement failed for the row that it was to write, and not for the state of the file, the disk or a lock.
fn is_about_the_row(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TypeMismatch, Unknown};
    matches!(error.sqlite_error_code(), Some(ConstraintViolation | TypeMismatch | Unknown))
}

/// Tells whether an object is a line in `sqlite_schema` and nothing else.
pub(super) fn has_no_pages(object: &SchemaObject) -> bool {
    match object.kind {
        ObjectKind::Index => false,
        ObjectKind::Table => object.sql.as_deref().and_then(virtual_module).is_some(),
        _ => true,
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

    fn remember(&mut self, memory: &[u8]) {
        // Of any other time it says nothing of the pages that the journal does not name.
        if self.beginning != Some(xxh3_128(memory)) {
            return;
        }
        // Statements that are kept for later hold no page, but are easier to tell from those that do when they are gone.
        self.state.connection.flush_prepared_statement_cache();
        if let Some(held) = self.held {
            self.state.with_written_pages(held, memory);
        }
    }

    fn stale(&mut self, shape: &TableShape, key: &str, groups: &[u64]) -> Result<Option<Vec<usize>>, EngineError> {
        self.state.stale(shape, key, groups)
    }

    fn read_edited(&mut self, shape: &TableShape, group: usize, then: Then<'_>) -> Result<Option<Vec<EditedColumn>>, EngineError> {
        self.state.read_edited(shape, group, then)
    }

    fn read_stale(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        group: usize,
        sink: &mut dyn FnMut(RowGroup) -> std::ops::ControlFlow<()>,
    ) -> Result<usize, EngineError> {
        self.state.read_stale(shape, rule, group, sink)
    }

    fn sibling(&mut self) -> Result<Option<Box<dyn ReadTransaction + Send>>, EngineError> {
        self.state.sibling()
    }

    fn memory(&mut self, keys: &[(&str, String)]) -> Result<Option<Vec<u8>>, EngineError> {
        self.state.memory(keys)
    }

    fn remarks(&mut self) -> Vec<String> {
        self.state.remarks()
    }

    fn findings(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.state.findings()
    }

    fn query(&mut self, sql: &str, rows_max: usize) -> Result<Answer, EngineError> {
        self.state.query(sql, rows_max)
    }

    fn stamp(&mut self) -> Result<u64, EngineError> {
        self.state.stamp()
    }
}

impl WriteTransaction for Patch<'_> {
    fn starts_as_remembered(&mut self, memory: &[u8]) {
        self.beginning = Some(xxh3_128(memory));
    }

    fn commit(self: Box<Self>) -> Result<(), EngineError> {
        self.state.site.check_file()?;
        // If this fails (a reader that does not end), dropping the state rolls back. But where only the deletion of the journal could not be
        // synced, the journal is gone, and nothing can be rolled back any more.
        self.state.connection.execute_batch("COMMIT").map_err(|error| match error.sqlite_error() {
            Some(code) if code.extended_code == rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC => EngineError::Uncertain,
            _ => self.state.explain(error, "committing"),
        })
    }
}
