//! Reading a state: from [`super::pages`] where that can be done, else through SQL, where a table is scanned in its own order, and each value goes straight into the JSON of its column.

use std::cmp::Ordering;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::pages::held::Held;
use super::pages::log::Mark;
use super::pages::{PageReader, Pages};
use super::text::{self, Encoding};
use super::{Site, links, needs, query, quote, schema, since};
use crate::engine::since::{Extent, FoundSince, History};
use crate::engine::{Answer, EngineError, Finding, ReadTransaction, TablePart};
use crate::rows::{ColumnWriter, CutRule, EditedColumn, GroupBuilder, RowGroup, TableShape, Then};
use crate::schema::{ObjectKind, Schema, Setting, Settings};

/// The most that read pages side by side.
const READERS_MAX: usize = 16;

/// How many findings of one check are read.
pub(super) const FINDINGS_MAX: usize = 100;

/// The most columns that one statement gives (SQLITE_MAX_COLUMN as SQLite is built by default).
pub(super) const RESULT_COLUMNS_MAX: usize = 2_000;

/// An open transaction; it is rolled back when dropped.
pub(super) struct State<'a> {
    pub(super) connection: &'a Connection,
    pub(super) site: &'a Site,
    pub(super) encoding: Encoding,
    pub(super) pages: Option<Arc<Pages>>,
    /// How many more readers of the pages there may be.
    siblings_left: usize,
    remarks: Vec<String>,
}

impl<'a> State<'a> {
    /// Takes hold of a transaction that was just begun, and takes the lock that BEGIN alone does not take.
    pub(super) fn begun(connection: &'a Connection, site: &'a Site) -> Result<Self, EngineError> {
        let mut state = Self { connection, site, encoding: Encoding::Utf8, pages: None, siblings_left: 0, remarks: Vec::new() };
        let count = connection.query_row("SELECT count(*) FROM main.sqlite_schema", [], |row| row.get::<_, i64>(0));
        count.map_err(|error| state.explain(error, "reading the schema"))?;
        state.encoding = Encoding::named(&state.pragma("encoding")?);
        Ok(state)
    }

    /// Lets rows be read from pages, where that can be done; `mark` is what the transaction sees of a write-ahead log. Nothing may be written in it.
    pub(super) fn with_pages(mut self, held: &Held, mark: Option<&Mark>) -> Self {
        match Pages::of(&self, held, mark) {
            Ok(pages) => self.take_pages(pages),
            Err(why) => self.remarks.push(format!("the database is read through SQL: {why}")),
        }
        self
    }

    /// Lets rows be read from the pages that the transaction has written so far; it is to write no more.
    pub(super) fn with_written_pages(&mut self, held: &Held, memory: &[u8]) {
        match Pages::written(self, held) {
            Ok(pages) => {
                pages.remember(memory);
                self.take_pages(pages);
            }
            Err(why) => self.remarks.push(format!("what was written is read through SQL: {why}")),
        }
    }

    fn take_pages(&mut self, pages: Pages) {
        self.pages = Some(Arc::new(pages));
        self.siblings_left = std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, READERS_MAX) - 1;
    }

    /// Reads through SQL from here on: what the pages were taken for is changed.
    pub(super) fn drop_pages(&mut self) {
        self.pages = None;
        self.siblings_left = 0;
    }

    pub(super) fn explain(&self, error: rusqlite::Error, doing: &str) -> EngineError {
        self.site.explain(error, doing)
    }

    fn pragma(&self, name: &str) -> Result<String, EngineError> {
        let value = self.connection.pragma_query_value(Some("main"), name, |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Integer(value) => value.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            })
        });
        value.map_err(|error| self.explain(error, &format!("reading `{name}`")))
    }

    /// Scans a table into a builder; `tail` follows the table's name in the statement. `each` hears of every row, and of the group that it
    /// ended.
    fn scan(
        &self,
        shape: &TableShape,
        tail: &str,
        builder: &mut GroupBuilder,
        each: &mut dyn FnMut(Option<RowGroup>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        // What was handed over once must not be handed over again.
        let mut is_begun = false;
        let first = self.try_scan(shape, tail, builder, &mut |group| {
            is_begun = true;
            each(group)
        });
        let scanned = match first {
            Err(error) if !is_begun && is_about_collations(&error) => {
                needs::with_stand_ins(self.connection, &shape.name, || self.try_scan(shape, tail, builder, each))
                    .and_then(|scanned| scanned)
            }
            scanned => scanned,
        };
        scanned.map_err(|error| self.explain(error, &format!("reading table `{}`", shape.name)))
    }

    /// Reads with one statement, or, where a table has more columns than a statement gives, with several side by side: in one transaction
    /// they meet the same rows in the same order.
    fn try_scan(
        &self,
        shape: &TableShape,
        tail: &str,
        builder: &mut GroupBuilder,
        each: &mut dyn FnMut(Option<RowGroup>) -> ControlFlow<()>,
    ) -> Result<(), rusqlite::Error> {
        let way = self.own_order(shape)?;
        let is_utf8 = self.encoding == Encoding::Utf8;
        let at_once = if is_utf8 { RESULT_COLUMNS_MAX } else { RESULT_COLUMNS_MAX / 2 };
        let mut statements = Vec::new();
        for columns in shape.columns.chunks(at_once) {
            let column = |name: &str| {
                let name = format!("t.{}", quote(name));
                if is_utf8 {
                    name
                } else {
                    format!("CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END,typeof({name})")
                }
            };
            let columns: Vec<String> = columns.iter().map(|shape| column(&shape.name)).collect();
            let sql = format!("SELECT {} FROM main.{} AS t {way} {tail}", columns.join(","), quote(&shape.name));
            statements.push(self.connection.prepare(&sql)?);
        }
        let mut order = Order::default();
        let mut cursors = statements.iter_mut().map(|statement| statement.query([])).collect::<Result<Vec<_>, _>>()?;
        loop {
            let mut ended = 0;
            let mut is_first = true;
            for (cursor, writers) in cursors.iter_mut().zip(builder.columns().chunks_mut(at_once)) {
                let Some(row) = cursor.next()? else {
                    ended += 1;
                    continue;
                };
                for (at, writer) in writers.iter_mut().enumerate() {
                    if is_utf8 {
                        push(writer, row.get_ref(at)?);
                    } else if row.get_ref(at * 2 + 1)? == ValueRef::Text(b"text") {
                        writer.push_text(&text::decode(row.get_ref(at * 2)?.as_bytes_or_null()?.unwrap_or_default(), self.encoding));
                    } else {
                        push(writer, row.get_ref(at * 2)?);
                    }
                }
                if let [locator] = shape.locator.as_slice()
                    && *locator < at_once
                    && std::mem::take(&mut is_first)
                    && let ValueRef::Integer(key) = row.get_ref(if is_utf8 { *locator } else { *locator * 2 })?
                {
                    order.follow(key)?;
                }
            }
            if ended == cursors.len() {
                return Ok(());
            }
            if ended > 0 {
                // No transaction shows that.
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
            if each(builder.end_row()).is_break() {
                return Ok(());
            }
        }
    }

    /// Says in SQL that a table is to be scanned in its own order. `NOT INDEXED` says so of a table with row numbers only: of one without,
    /// SQLite may still scan any index that has all columns.
    fn own_order(&self, shape: &TableShape) -> Result<String, rusqlite::Error> {
        let has_row_number = shape.locator.is_empty() || shape.columns.first().is_some_and(|column| column.hidden);
        let sql = "SELECT name FROM pragma_index_list(?1, 'main') WHERE origin='pk'";
        let key: Option<String> = match has_row_number {
            true => None,
            // A key that is the row number itself has no index.
            false => self.connection.prepare_cached(sql)?.query_row([&shape.name], |row| row.get(0)).optional()?,
        };
        Ok(key.map_or_else(|| "NOT INDEXED".to_owned(), |name| format!("INDEXED BY {}", quote(&name))))
    }

    /// Checks the structure of the whole file; where something that the schema needs is not there, table by table, and tells which tables
    /// could not be checked.
    pub(super) fn structure(&self, pragma: &str) -> Result<Vec<Finding>, EngineError> {
        let check = |argument: &str| -> Result<Vec<String>, rusqlite::Error> {
            let mut statement = self.connection.prepare(&format!("PRAGMA main.{pragma}({argument})"))?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let finding = |table: Option<&str>, message: String| Finding {
            check: "integrity".into(),
            table: table.map(str::to_owned),
            message,
            count: 1,
        };
        let mut findings = Vec::new();
        let mut look = |table: Option<&str>, found: Result<Vec<String>, rusqlite::Error>| match found {
            Ok(lines) => {
                // A row that its table's text would refuse today is odd, and whole: the text was edited after it was written.
                let is_about_values = |line: &str| line.contains(" value in ") || line.starts_with("CHECK constraint failed in ");
                findings.extend(lines.into_iter().filter(|line| line != "ok").map(|line| match is_about_values(&line) {
                    true => Finding { check: "constraint".into(), ..finding(table, line) },
                    false => finding(table, line),
                }));
                Ok(true)
            }
            Err(error) => match self.explain(error, pragma) {
                EngineError::Damaged(message) => {
                    findings.push(finding(table, message));
                    Ok(true)
                }
                EngineError::Statement { source, .. } => {
                    findings.extend(table.map(|name| Finding {
                        check: "unchecked".into(),
                        ..finding(table, format!("table `{name}` could not be checked: {source}"))
                    }));
                    Ok(false)
                }
                other => Err(other),
            },
        };
        if !look(None, check(&FINDINGS_MAX.to_string()))? {
            for line in schema::lines(self)?.iter().filter(|line| line.object.kind == ObjectKind::Table && line.has_pages) {
                let name = &line.object.name;
                look(Some(name), check(&quote(name)))?;
            }
        }
        Ok(findings)
    }

    /// Looks into the indexes whose keys are computed: another version of SQLite, or other functions of the application, may have computed other
    /// keys than this one does, and then finds its rows by them.
    fn computed_indexes(&self) -> Result<Vec<Finding>, EngineError> {
        let sql = "SELECT DISTINCT l.name, s.tbl_name FROM main.sqlite_schema AS s, pragma_index_list(s.tbl_name, 'main') AS l, pragma_index_xinfo(l.name, 'main') AS x \
                   WHERE s.type='index' AND s.sql IS NOT NULL AND l.name=s.name AND (l.partial OR x.cid=-2) ORDER BY s.tbl_name";
        let run = |sql: &str| -> Result<Vec<(String, String)>, rusqlite::Error> {
            self.connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let indexes = run(sql).map_err(|error| self.explain(error, "listing the indexes"))?;
        let mut findings = Vec::new();
        let mut looked: Option<(String, Vec<(String, String)>)> = None;
        for (index, table) in indexes {
            if looked.as_ref().is_none_or(|(name, _)| *name != table) {
                let check = format!("SELECT integrity_check, '' FROM pragma_integrity_check({})", quote(&table));
                // What cannot be computed at all is told as an obstacle.
                looked = Some((table.clone(), run(&check).unwrap_or_default()));
            }
            let lines = looked.as_ref().map_or(&[][..], |(_, lines)| lines);
            let differing = lines.iter().filter(|(line, _)| line.ends_with(&format!("missing from index {index}"))).count() as u64;
            if differing > 0 {
                let message = format!(
                    "index `{index}` of `{table}` holds other keys than this SQLite computes (another version did, or the application's own functions): after a rollback of `{table}`, `REINDEX` it there"
                );
                findings.push(Finding { check: "index".into(), table: Some(table), message, count: differing });
            }
        }
        Ok(findings)
    }

    /// Runs all checks; `pragma` is the one of the structure.
    pub(super) fn findings_of(&self, pragma: &str) -> Result<Vec<Finding>, EngineError> {
        let mut findings = self.structure(pragma)?;
        findings.extend(self.computed_indexes()?);
        findings.extend(self.foreign_key_check()?);
        Ok(findings)
    }

    fn foreign_key_check(&self) -> Result<Vec<Finding>, EngineError> {
        links::orphans(self, None)
    }
}

/// The order in which a scan meets row numbers. Pages that hang in the wrong place of a damaged file are read without complaint, but not in order.
#[derive(Default)]
struct Order {
    last: Option<i64>,
    direction: Option<Ordering>,
}

impl Order {
    fn follow(&mut self, key: i64) -> Result<(), rusqlite::Error> {
        let step = self.last.map(|last| key.cmp(&last));
        if step == Some(Ordering::Equal) || (step.is_some() && self.direction.is_some() && step != self.direction) {
            let words = format!("row {key} follows row {}, which is out of order", self.last.unwrap_or_default());
            return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(words)));
        }
        // A key without row numbers may be declared to descend.
        self.direction = self.direction.or(step);
        self.last = Some(key);
        Ok(())
    }
}

/// Tells whether a statement failed for a collation that is not there.
fn is_about_collations(error: &rusqlite::Error) -> bool {
    let words = error.to_string();
    words.contains("no query solution") || words.contains("no such collation sequence")
}

/// Appends a value of a row to its column.
fn push(writer: &mut ColumnWriter, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => writer.push_null(),
        ValueRef::Integer(integer) => writer.push_integer(integer),
        ValueRef::Real(real) => writer.push_real(real),
        ValueRef::Text(bytes) => writer.push_text(bytes),
        ValueRef::Blob(bytes) => writer.push_blob(bytes),
    }
}

impl ReadTransaction for State<'_> {
    fn schema(&mut self) -> Result<Schema, EngineError> {
        schema::read(self)
    }

    fn settings(&mut self) -> Result<Settings, EngineError> {
        let mut settings = Settings::new();
        for (name, scope) in super::settings::NAMES {
            settings.insert(name.to_owned(), Setting { value: self.pragma(name)?, scope });
        }
        Ok(settings)
    }

    fn shapes(&mut self) -> Result<Vec<TableShape>, EngineError> {
        schema::shapes(self)
    }

    fn row_bytes(&mut self, shape: &TableShape) -> Result<u64, EngineError> {
        let mut builder = GroupBuilder::new(shape, CutRule { rows_target: u64::MAX / 8 });
        let mut rows = 0;
        let mut bytes = 0;
        let mut measure = |group: Option<RowGroup>| {
            if let Some(group) = group {
                rows += group.rows;
                bytes += group.columns.iter().map(|column| column.json.len() as u64).sum::<u64>();
            }
        };
        let mut tails = vec!["LIMIT 400".to_owned()];
        if let [rowid] = shape.locator.as_slice() {
            // The first rows need not be like the others: look at three more places.
            let name = quote(&shape.columns[*rowid].name);
            let table = quote(&shape.name);
            for tenths in [3, 6, 9] {
                // Each end by itself, since SQLite looks for one without reading the table, and for both together by reading it.
                let (least, most) = (format!("SELECT min({name}) FROM main.{table}"), format!("SELECT max({name}) FROM main.{table}"));
                let rest = 10 - tenths;
                tails.push(format!("WHERE t.{name} >= ({least})/10*{rest} + ({most})/10*{tenths} LIMIT 100"));
            }
        }
        for tail in &tails {
            let sampled = self.scan(shape, tail, &mut builder, &mut |group| {
                measure(group);
                ControlFlow::Continue(())
            });
            // Only the first look must work; the others need arithmetic over the key.
            if tail == &tails[0] {
                sampled?;
            }
        }
        measure(builder.finish());
        Ok(bytes.checked_div(rows).map_or(0, |mean| mean.max(1)))
    }

    fn read_table(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let mut builder = GroupBuilder::new(shape, rule);
        let mut is_broken = false;
        self.scan(shape, "", &mut builder, &mut |group| {
            is_broken = group.is_some_and(|group| sink(group).is_break());
            if is_broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        // The check after the last table is one of all that was read before.
        self.site.check_still()?;
        if !is_broken && let Some(group) = builder.finish() {
            let _ = sink(group);
        }
        Ok(())
    }

    fn parts(&mut self, shape: &TableShape, parts_max: usize) -> Result<Vec<TablePart>, EngineError> {
        let Some(pages) = self.pages.as_ref().map(Arc::clone) else { return Ok(Vec::new()) };
        Ok(pages.parts(self, shape, parts_max))
    }

    fn read_part(
        &mut self,
        shape: &TableShape,
        part: &TablePart,
        rule: CutRule,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        match &self.pages {
            Some(pages) => pages.read_part(shape, part, rule, sink)?,
            None => return Err(EngineError::Void(format!("table `{}` is to be read through SQL", shape.name))),
        }
        self.site.check_still()
    }

    fn remember(&mut self, memory: &[u8]) {
        if let Some(pages) = &self.pages {
            pages.remember(memory);
        }
    }

    fn sees_remembered(&mut self) {
        if let Some(pages) = &self.pages {
            pages.sees_remembered();
        }
    }

    fn stale(&mut self, shape: &TableShape, key: &str, groups: &[u64]) -> Result<Option<Vec<usize>>, EngineError> {
        let Some(pages) = self.pages.as_ref().map(Arc::clone) else { return Ok(None) };
        Ok(pages.stale(self, shape, key, groups))
    }

    fn read_edited(&mut self, shape: &TableShape, group: usize, then: Then<'_>) -> Result<Option<Vec<EditedColumn>>, EngineError> {
        self.pages.as_ref().map_or(Ok(None), |pages| pages.read_edited(shape, group, then))
    }

    fn read_stale(
        &mut self,
        shape: &TableShape,
        rule: CutRule,
        group: usize,
        sink: &mut dyn FnMut(RowGroup) -> ControlFlow<()>,
    ) -> Result<usize, EngineError> {
        match &self.pages {
            Some(pages) => pages.read_stale(shape, rule, group, sink),
            None => Err(EngineError::Void(format!("table `{}` is to be read through SQL", shape.name))),
        }
    }

    fn memory(&mut self, keys: &[(&str, String)]) -> Result<Option<Vec<u8>>, EngineError> {
        self.site.check_still()?;
        Ok(self.pages.as_ref().map(|pages| pages.memory(keys)))
    }

    fn sibling(&mut self) -> Result<Option<Box<dyn ReadTransaction + Send>>, EngineError> {
        let Some(pages) = self.pages.as_ref().filter(|_| self.siblings_left > 0) else { return Ok(None) };
        self.siblings_left -= 1;
        Ok(Some(Box::new(PageReader(Arc::clone(pages)))))
    }

    fn remarks(&mut self) -> Vec<String> {
        let mut remarks = self.remarks.clone();
        remarks.extend(self.pages.iter().flat_map(|pages| pages.remarks()));
        remarks
    }

    fn findings(&mut self) -> Result<Vec<Finding>, EngineError> {
        self.findings_of("quick_check")
    }

    fn look_over(&mut self) -> Result<(Vec<Finding>, Extent), EngineError> {
        since::look_over(self)
    }

    fn findings_since(&mut self, history: &dyn History) -> Result<Vec<FoundSince>, EngineError> {
        since::findings(self, history)
    }

    fn query(&mut self, sql: &str, rows_max: usize) -> Result<Answer, EngineError> {
        query::query(self, sql, rows_max)
    }

    fn stamp(&mut self) -> Result<u64, EngineError> {
        let version: i64 = self
            .connection
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(|error| self.explain(error, "reading `data_version`"))?;
        Ok(version.unsigned_abs())
    }
}

impl Drop for State<'_> {
    fn drop(&mut self) {
        if !self.connection.is_autocommit() {
            // A failure leaves the transaction to the next statement or to closing the connection, both of which end it.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}
