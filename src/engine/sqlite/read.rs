//! Reading a state through SQL: a table is scanned in its own order, and each value goes straight into the JSON of its column.

use std::ops::ControlFlow;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::{explain, quote, schema};
use crate::engine::{EngineError, Finding, ReadTransaction};
use crate::rows::{ColumnWriter, CutRule, GroupBuilder, RowGroup, TableShape};
use crate::schema::{Schema, Setting, SettingScope, Settings};

/// How many findings of one check are read.
const FINDINGS_MAX: usize = 100;

/// An open transaction; it is rolled back when dropped.
pub(super) struct State<'a> {
    pub(super) connection: &'a Connection,
    pub(super) busy_ms: u64,
}

impl State<'_> {
    /// Takes the lock that BEGIN alone does not take.
    pub(super) fn touch(&self) -> Result<(), EngineError> {
        let count = self.connection.query_row("SELECT count(*) FROM main.sqlite_schema", [], |row| row.get::<_, i64>(0));
        count.map(drop).map_err(|error| self.explain(error, "reading the schema"))
    }

    pub(super) fn explain(&self, error: rusqlite::Error, doing: &str) -> EngineError {
        explain(error, doing, self.busy_ms)
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

    /// Scans a table; `tail` follows the table's name in the statement.
    fn scan(
        &self,
        shape: &TableShape,
        tail: &str,
        row: &mut dyn FnMut(&rusqlite::Row<'_>) -> Result<ControlFlow<()>, rusqlite::Error>,
    ) -> Result<(), EngineError> {
        let doing = || format!("reading table `{}`", shape.name);
        let columns: Vec<String> = shape.columns.iter().map(|column| format!("t.{}", quote(&column.name))).collect();
        let sql = format!("SELECT {} FROM main.{} AS t NOT INDEXED {tail}", columns.join(","), quote(&shape.name));
        let mut run = || -> Result<(), rusqlite::Error> {
            let mut statement = self.connection.prepare(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(found) = rows.next()? {
                if row(found)?.is_break() {
                    break;
                }
            }
            Ok(())
        };
        run().map_err(|error| self.explain(error, &doing()))
    }

    fn quick_check(&self) -> Result<Vec<Finding>, EngineError> {
        let run = || -> Result<Vec<String>, rusqlite::Error> {
            let mut statement = self.connection.prepare(&format!("PRAGMA main.quick_check({FINDINGS_MAX})"))?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let finding = |message: String| Finding { check: "integrity".into(), table: None, message, count: 1 };
        match run() {
            Ok(lines) => Ok(lines.into_iter().filter(|line| line != "ok").map(finding).collect()),
            Err(error) => match self.explain(error, "quick_check") {
                EngineError::Damaged(message) => Ok(vec![finding(message)]),
                // What the check needs and this build lacks (a function, a collation) is no damage.
                EngineError::Statement { .. } => Ok(Vec::new()),
                other => Err(other),
            },
        }
    }

    fn foreign_key_check(&self) -> Result<Vec<Finding>, EngineError> {
        let run = || -> Result<Vec<(String, String)>, rusqlite::Error> {
            let mut statement = self.connection.prepare("PRAGMA main.foreign_key_check")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(2)?)))?.collect()
        };
        let Ok(orphans) = run() else {
            // The declared keys do not fit their tables ("foreign key mismatch"): nothing can be checked, and nothing is enforced.
            return Ok(Vec::new());
        };
        let mut findings: Vec<Finding> = Vec::new();
        for (table, parent) in orphans {
            let message = format!("rows of `{table}` refer to rows of `{parent}` that do not exist");
            match findings.iter_mut().find(|finding| finding.message == message) {
                Some(finding) => finding.count += 1,
                None => findings.push(Finding { check: "foreign_key".into(), table: Some(table), message, count: 1 }),
            }
        }
        findings.truncate(FINDINGS_MAX);
        Ok(findings)
    }
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
        for (name, scope) in [
            ("user_version", SettingScope::Exact),
            ("application_id", SettingScope::Exact),
            ("encoding", SettingScope::Creation),
            ("page_size", SettingScope::Creation),
            ("auto_vacuum", SettingScope::Creation),
        ] {
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
            let sampled = self.scan(shape, tail, &mut |row| {
                for (column, writer) in builder.columns().iter_mut().enumerate() {
                    push(writer, row.get_ref(column)?);
                }
                measure(builder.end_row());
                Ok(ControlFlow::Continue(()))
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
        self.scan(shape, "", &mut |row| {
            for (column, writer) in builder.columns().iter_mut().enumerate() {
                push(writer, row.get_ref(column)?);
            }
            if let Some(group) = builder.end_row()
                && sink(group).is_break()
            {
                is_broken = true;
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if !is_broken && let Some(group) = builder.finish() {
            let _ = sink(group);
        }
        Ok(())
    }

    fn findings(&mut self) -> Result<Vec<Finding>, EngineError> {
        let mut findings = self.quick_check()?;
        findings.extend(self.foreign_key_check()?);
        Ok(findings)
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
