//! The checks that need no migration to run: the database's own, and the rules of [`crate::check`] over scripts that are pending.
//!
//! Reads only. Everything is asked in one read transaction, so that all answers are about one state.

use crate::check::pending::{Ledger, NAMING_COLUMNS, Pending, pending};
use crate::check::script::Script;
use crate::check::{self, Data, Options, Report};
use crate::engine::{BoxError, Engine, EngineError, Finding, ReadTransaction};
use crate::id::ObjectId;
use crate::schema::diff::{Renames, SchemaDiff, diff};
use crate::schema::{Schema, Table};
use crate::source::migrations::MigrationFile;
use crate::value::Value;

use super::verdict::is_ledger_of;

/// How many rows of a ledger are read.
const LEDGER_ROWS_MAX: usize = 100_000;

/// What the database's own checks say.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// What the engine's checks find.
    pub findings: Vec<Finding>,
    /// How the schema differs from that of the newest snapshot, where there is one.
    pub drift: Option<SchemaDiff>,
}

/// Which scripts were looked at, and what was found in them.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Each script's path, and whether it is pending.
    pub scripts: Vec<(String, bool)>,
    /// Whether no ledger tells which are pending.
    pub is_guessed: bool,
    /// The findings.
    pub report: Report,
}

/// Runs the engine's checks, and compares the schema with that of the newest snapshot.
///
/// # Errors
/// As [`Engine::begin_read`].
pub fn health(engine: &mut dyn Engine, head: Option<&Schema>) -> Result<Health, EngineError> {
    let mut read = engine.begin_read()?;
    let live = read.schema()?;
    let drift = head.map(|head| diff(head, &live, &Renames::default())).filter(|drift| !drift.is_empty());
    Ok(Health { findings: read.findings()?, drift })
}

/// Tells who holds the write lock, if somebody does: an engine that does not wait is asked for it, and gives it back at once.
pub fn writer(engine: &mut dyn Engine) -> Option<String> {
    match engine.begin_write() {
        Err(EngineError::Locked { who, .. }) => Some(who.trim_start_matches([',', ' ']).to_owned()),
        _ => None,
    }
}

/// Runs the rules over those of these files that are pending.
///
/// # Errors
/// As [`Engine::begin_read`]. A question that the database does not answer is no error.
pub fn rules(engine: &mut dyn Engine, files: &[MigrationFile], options: &Options) -> Result<Checked, EngineError> {
    let mut read = engine.begin_read()?;
    let schema = read.schema()?;
    let mut live = Live { read: &mut *read, schema };
    let ledgers: Vec<Ledger> = live.schema.tables.clone().iter().filter_map(|table| live.ledger(table)).collect();
    let scripts: Vec<(Script, ObjectId)> =
        files.iter().map(|file| (Script::new(&file.path, &file.bytes), ObjectId::of(&file.bytes))).collect();
    let Pending { scripts: is_pending, is_guessed } = pending(&scripts, &ledgers, &live.schema);
    let options = Options { ledgers: ledgers.into_iter().map(|ledger| ledger.table).collect(), ..options.clone() };
    let all = scripts.into_iter().map(|(script, _)| script).zip(is_pending);
    let mut checked = Checked { is_guessed, ..Checked::default() };
    let mut looked_at = Vec::new();
    for (script, is_pending) in all {
        checked.scripts.push((script.path.clone(), is_pending));
        if is_pending {
            looked_at.push(script);
        }
    }
    checked.report = check::run(&looked_at, &mut live, &options);
    Ok(checked)
}

struct Live<'a, 'r> {
    read: &'a mut (dyn ReadTransaction + 'r),
    schema: Schema,
}

impl Data for Live<'_, '_> {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn query(&mut self, sql: &str, rows_max: usize) -> Result<Vec<Vec<Value>>, BoxError> {
        Ok(self.read.query(sql, rows_max)?.rows)
    }
}

impl Live<'_, '_> {
    /// Reads a table as a ledger, if it is one.
    fn ledger(&mut self, table: &Table) -> Option<Ledger> {
        let has = |name: &str| table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        if !is_ledger_of(&table.name, &has) {
            return None;
        }
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let naming: Vec<String> = NAMING_COLUMNS.iter().filter(|name| has(name)).map(|name| quoted(name)).collect();
        // What was undone, or never ended, is not applied.
        let conditions = [
            ("rolled_back_at", "rolled_back_at IS NULL"),
            ("finished_at", "finished_at IS NOT NULL"),
            ("is_applied", "is_applied"),
            ("success", "success"),
        ];
        let conditions: Vec<&str> = conditions.iter().filter(|(column, _)| has(column)).map(|(_, condition)| *condition).collect();
        let condition = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
        let mut ledger = Ledger { table: table.name.clone(), values: Vec::new(), is_last_only: has("dirty") };
        if !naming.is_empty() {
            let sql = format!("SELECT {} FROM main.{} WHERE {condition}", naming.join(", "), quoted(&table.name));
            let rows = self.query(&sql, LEDGER_ROWS_MAX).unwrap_or_default();
            ledger.values = rows.into_iter().flatten().filter_map(text).collect();
        }
        Some(ledger)
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::Text(bytes) => String::from_utf8(bytes).ok(),
        Value::Integer(integer) => Some(integer.to_string()),
        _ => None,
    }
}
