//! Changing a state: one transaction, with triggers and foreign key actions off.
//!
//! What has no pages (views, triggers, virtual tables) is dropped and made by editing `sqlite_schema`, under
//! `PRAGMA writable_schema`: their text stays verbatim, no module and no function need be there, and the order of the lines can be
//! restored. What has pages is dropped and made by DDL. After each edit the schema is read anew (`writable_schema=RESET`), and
//! `schema_version` moves on, so that other connections read it anew too.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, ToSql, params};

use super::read::{RESULT_COLUMNS_MAX, State};
use super::relaxed::{self, Fits};
use super::schema::{lines, virtual_module};
use super::text::{self, Encoding};
use super::{needs, quote, schema, script};
use crate::engine::{EngineError, Finding, Obstacle, PatchTarget, ReadTransaction, RowSource, WriteTransaction};
use crate::rows::{CutRule, RowGroup, TableShape};
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, Settings};
use crate::value::Value;

/// An open write transaction.
pub(super) struct Patch<'a> {
    state: State<'a>,
    /// The tables whose text is relaxed for now, with the text that they had.
    relaxed: Vec<(String, Option<String>)>,
}

/// A value as SQLite takes it: text by its bytes, whatever they are.
pub(super) struct Bound<'a>(pub(super) &'a Value);

/// The text of an object as SQLite takes it: by its bytes, whatever they are.
struct Ddl(Option<Vec<u8>>);

impl Ddl {
    fn of(sql: Option<&str>) -> Self {
        Self(sql.map(text::ddl_bytes))
    }
}

impl ToSql for Ddl {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0.as_deref().map_or(ValueRef::Null, ValueRef::Text)))
    }
}

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

/// What is done to one row, with its statement.
enum RowStatement<'s> {
    Insert(&'s TableShape),
    Update(&'s TableShape, &'s [usize]),
    Delete(&'s TableShape),
}

impl RowStatement<'_> {
    fn shape(&self) -> &TableShape {
        match self {
            Self::Insert(shape) | Self::Update(shape, _) | Self::Delete(shape) => shape,
        }
    }

    fn sql(&self, form: &Form) -> String {
        match self {
            Self::Insert(shape) => insert_sql(shape, form),
            Self::Update(shape, columns) => update_sql(shape, columns, form),
            Self::Delete(shape) => delete_sql(shape, form),
        }
    }

    /// Tells which parameters the statement has.
    fn has_parameter(&self, at: usize, form: &Form) -> bool {
        let is_written = |column: usize| form.is_relaxed || !self.shape().columns.get(column).is_some_and(|column| column.generated);
        match self {
            Self::Insert(shape) => is_written(at) && !(at == 0 && is_too_wide(shape)),
            Self::Update(shape, columns) => {
                at.checked_sub(shape.locator.len()).is_none_or(|place| columns.get(place).is_some_and(|&column| is_written(column)))
            }
            Self::Delete(_) => true,
        }
    }

    fn doing(&self) -> String {
        match self {
            Self::Insert(shape) => format!("inserting rows into `{}`", shape.name),
            Self::Update(shape, _) => format!("updating rows of `{}`", shape.name),
            Self::Delete(shape) => format!("deleting rows of `{}`", shape.name),
        }
    }

    /// Tells whether the table takes the values that are to be stored, and keeps them as they are.
    fn fits(&self, fits: &Fits, row: &[Value]) -> bool {
        let columns = &self.shape().columns;
        let takes = |column: usize, value| !columns.get(column).is_some_and(|column| column.generated) && fits.takes(column, value);
        match self {
            Self::Insert(_) => row.iter().enumerate().all(|(column, value)| takes(column, value)),
            Self::Update(shape, columns) => {
                columns.iter().zip(row.iter().skip(shape.locator.len())).all(|(&column, value)| takes(column, value))
            }
            Self::Delete(_) => true,
        }
    }
}

/// What decides the text of a row's statement besides its shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Form {
    /// The parameters, counted from 0, that are bound as the bytes of a text.
    raw: Vec<usize>,
    /// Whether the table has its relaxed text, in which no column is generated.
    is_relaxed: bool,
}

impl Form {
    /// Writes a parameter. The plus takes the CAST's affinity away, which would have a key of no type compared as text.
    fn parameter(&self, at: usize) -> String {
        if self.raw.contains(&at) { format!("+CAST(?{} AS TEXT)", at + 1) } else { format!("?{}", at + 1) }
    }
}

/// Writes the condition that finds a row by its locator cells, the first parameters.
fn locator_clause(shape: &TableShape, form: &Form) -> String {
    let part = |(at, &column): (usize, &usize)| script::is_cell(&shape.columns[column], &form.parameter(at));
    let parts: Vec<String> = shape.locator.iter().enumerate().map(part).collect();
    if parts.is_empty() { "0".to_owned() } else { parts.join(" AND ") }
}

/// Writes the statement that inserts a complete row; with more columns than a statement takes, all but the row number.
fn insert_sql(shape: &TableShape, form: &Form) -> String {
    let statement = RowStatement::Insert(shape);
    let columns: Vec<usize> = (0..shape.columns.len()).filter(|at| statement.has_parameter(*at, form)).collect();
    let names: Vec<String> = columns.iter().map(|&column| quote(&shape.columns[column].name)).collect();
    let marks: Vec<String> = columns.iter().map(|&column| form.parameter(column)).collect();
    format!("INSERT OR ABORT INTO main.{}({}) VALUES({})", quote(&shape.name), names.join(","), marks.join(","))
}

fn is_too_wide(shape: &TableShape) -> bool {
    shape.columns.len() > RESULT_COLUMNS_MAX && shape.columns.first().is_some_and(|column| column.hidden)
}

/// Writes the statement that sets columns of a row; with nothing to set, one that does nothing to it.
fn update_sql(shape: &TableShape, columns: &[usize], form: &Form) -> String {
    let (statement, first) = (RowStatement::Update(shape, columns), shape.locator.len());
    let set = |(at, &column): (usize, &usize)| format!("{}={}", quote(&shape.columns[column].name), form.parameter(first + at));
    let written = columns.iter().enumerate().filter(|(at, _)| statement.has_parameter(first + at, form));
    let mut sets: Vec<String> = written.map(set).collect();
    if sets.is_empty() {
        // Only generated columns differ, and they cannot be set: the proof will tell.
        let name = shape.columns.iter().find(|column| !column.generated).map(|column| quote(&column.name)).unwrap_or_default();
        sets.push(format!("{name}={name}"));
    }
    format!("UPDATE OR ABORT main.{} SET {} WHERE {}", quote(&shape.name), sets.join(","), locator_clause(shape, form))
}

fn delete_sql(shape: &TableShape, form: &Form) -> String {
    format!("DELETE FROM main.{} WHERE {}", quote(&shape.name), locator_clause(shape, form))
}

impl<'a> Patch<'a> {
    pub(super) fn new(state: State<'a>) -> Self {
        Self { state, relaxed: Vec::new() }
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
        let (doing, shape) = (statement.doing(), statement.shape());
        let (connection, encoding) = (self.state.connection, self.state.encoding);
        let site = self.state.site;
        let fail = |error| site.explain(error, &doing);
        let fits = Fits::of(&self.state, shape).map_err(fail)?;
        // What a relaxed text is for shows at the first row that needs it; whether there is one is asked once.
        let mut may_relax = !self.is_relaxed(shape);
        let mut prepared: Option<(Form, CachedStatement<'_>)> = None;
        let mut done = 0;
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            if may_relax && !statement.fits(&fits, &row) {
                may_relax = false;
                prepared = None;
                self.relax(shape)?;
            }
            let is_raw = |value: &Value| encoding != Encoding::Utf8 && matches!(value, Value::Text(_));
            let raw: Vec<usize> = row.iter().enumerate().filter(|(_, value)| is_raw(value)).map(|(at, _)| at).collect();
            let changed = loop {
                let form = Form { raw: raw.clone(), is_relaxed: self.is_relaxed(shape) };
                let ready = match &mut prepared {
                    Some((for_form, ready)) if *for_form == form => ready,
                    other => {
                        *other = None;
                        let ready = self.ready(statement, &raw)?;
                        // Preparing may have relaxed the table.
                        let form = Form { raw: raw.clone(), is_relaxed: self.is_relaxed(shape) };
                        &mut other.insert((form, ready)).1
                    }
                };
                let form = Form { raw: raw.clone(), is_relaxed: self.is_relaxed(shape) };
                for (at, value) in row.iter().enumerate().filter(|(at, _)| statement.has_parameter(*at, &form)) {
                    match value {
                        Value::Text(text) if encoding != Encoding::Utf8 => {
                            let stored = text::encode(text, encoding).ok_or_else(|| {
                                EngineError::Unsupported(format!("{doing} failed: a text is no UTF-16, which is the database's encoding"))
                            })?;
                            ready.raw_bind_parameter(at + 1, stored).map_err(fail)?;
                        }
                        value => ready.raw_bind_parameter(at + 1, Bound(value)).map_err(fail)?,
                    }
                }
                match ready.raw_execute() {
                    Ok(changed) => break changed,
                    // The table's own text may be what refuses the row: a virtual column that fails on it, say.
                    Err(error) if may_relax && is_about_the_row(&error) => {
                        may_relax = false;
                        prepared = None;
                        self.relax(shape)?;
                        if !self.is_relaxed(shape) {
                            return Err(fail(error));
                        }
                    }
                    Err(error) => return Err(fail(error)),
                }
            };
            let mut changed = changed;
            if matches!(statement, RowStatement::Insert(_)) && is_too_wide(shape) {
                let number = &shape.columns[0].name;
                let sql = format!("UPDATE main.{} SET {}=?1 WHERE {}=?2", quote(&shape.name), quote(number), quote(number));
                let mut renumber = connection.prepare_cached(&sql).map_err(fail)?;
                changed = renumber.execute(params![Bound(&row[0]), connection.last_insert_rowid()]).map_err(fail)?;
            }
            if changed != 1 {
                return Err(EngineError::Statement {
                    doing,
                    source: format!("row {} changed {changed} rows where it should change 1", done + 1).into(),
                });
            }
            done += 1;
        }
        Ok(done)
    }

    /// Prepares a statement; where the table's own text asks for what is not there (a generated column's function), under its relaxed text.
    fn ready(&mut self, statement: &RowStatement<'_>, raw: &[usize]) -> Result<CachedStatement<'a>, EngineError> {
        let connection = self.state.connection;
        let form = |is_relaxed| Form { raw: raw.to_vec(), is_relaxed };
        let sql = statement.sql(&form(self.is_relaxed(statement.shape())));
        let prepared = match connection.prepare_cached(&sql) {
            Err(error) if needs::missing(&error).is_some() => {
                self.relax(statement.shape())?;
                connection.prepare_cached(&statement.sql(&form(self.is_relaxed(statement.shape()))))
            }
            prepared => prepared,
        };
        prepared.map_err(|error| self.lack(statement.shape(), error, &statement.doing()))
    }

    /// Tries whether rows of a shape can be inserted.
    pub(super) fn try_insert(&mut self, shape: &TableShape) -> Result<(), EngineError> {
        self.ready(&RowStatement::Insert(shape), &[]).map(drop)
    }

    /// Says what a statement on a table lacks, and which object needs it; where it failed for something else, that.
    fn lack(&self, shape: &TableShape, error: rusqlite::Error, doing: &str) -> EngineError {
        let Some(missing) = needs::missing(&error) else { return self.state.explain(error, doing) };
        // On a real table: the empty one in memory on which that is found out has no other.
        let look = || needs::obstacles(self.state.site, &schema::read(&self.state).ok()?, std::slice::from_ref(shape)).ok();
        let found = if self.state.connection.path().is_some_and(|path| !path.is_empty()) { look() } else { None };
        let named = found.and_then(|found| found.into_iter().next());
        let unnamed = Obstacle { table: shape.name.clone(), object: format!("table `{}`", shape.name), missing };
        EngineError::Lacks(named.unwrap_or(unnamed))
    }

    fn is_relaxed(&self, shape: &TableShape) -> bool {
        self.relaxed.iter().any(|(name, _)| *name == shape.name)
    }

    /// Gives a table the text that takes any row, until [`Patch::tighten`]; where there is none, the row is tried as it is.
    fn relax(&mut self, shape: &TableShape) -> Result<(), EngineError> {
        let doing = format!("making room for the rows of `{}`", shape.name);
        let fail = |error| self.state.explain(error, &doing);
        if self.is_relaxed(shape) {
            return Ok(());
        }
        let without_rowid = schema::listed(&self.state).iter().any(|entry| entry.name == shape.name && entry.without_rowid);
        let Some(sql) = relaxed::relaxed_sql(&self.state, &shape.name, without_rowid).map_err(fail)? else { return Ok(()) };
        let line = lines(&self.state)?.into_iter().find(|line| line.object.kind == ObjectKind::Table && line.object.name == shape.name);
        let Some(line) = line else { return Ok(()) };
        self.set_text(&doing, &shape.name, Some(&sql))?;
        self.relaxed.push((shape.name.clone(), line.object.sql));
        Ok(())
    }

    /// Gives every relaxed table its own text again.
    pub(super) fn tighten(&mut self) -> Result<(), EngineError> {
        for (name, sql) in std::mem::take(&mut self.relaxed) {
            self.set_text(&format!("giving `{name}` its text again"), &name, sql.as_deref())?;
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
        self.order_schema(target)
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

/// Takes a value out of a statement; for tests.
#[cfg(test)]
pub(super) fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
