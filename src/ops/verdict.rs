//! What a migration removed: data that stood in the database before, and stands nowhere after.
//!
//! Told as loss: tables that went with their rows, rows that went, columns that went or were emptied while they held values, values
//! that a change of type destroyed, and references that now point nowhere. A table or column that goes on under another name is
//! recognised by its content and is no loss. Ledgers of migration tools, the engine's own tables and the machinery of virtual
//! tables are never judged.

use std::ops::ControlFlow;

use serde::Serialize;

use super::OpError;
use super::capture::State;
use super::compare::Comparison;
use crate::engine::Finding;
use crate::id::ObjectId;
use crate::render::text::number;
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema, TableKind};
use crate::snapshot::changes::{Cell, Cells, RowChange, RowCounts, TableFate, TablePair};
use crate::snapshot::chunks;
use crate::snapshot::manifest::TableManifest;
use crate::store::Store;
use crate::value::Value;

/// Tables in which migration tools keep what they have applied, in lower case.
///
/// Prisma, Alembic, Django, Rails and golang-migrate and dbmate, sqlx, Flyway, Liquibase, Drizzle, knex, Rails, Sequelize, Diesel,
/// Laravel, goose, Doctrine.
pub const LEDGERS: [&str; 18] = [
    "_prisma_migrations",
    "alembic_version",
    "django_migrations",
    "schema_migrations",
    "_sqlx_migrations",
    "flyway_schema_history",
    "databasechangelog",
    "databasechangeloglock",
    "__drizzle_migrations",
    "knex_migrations",
    "knex_migrations_lock",
    "ar_internal_metadata",
    "sequelizemeta",
    "__diesel_schema_migrations",
    "migrations",
    "goose_db_version",
    "doctrine_migration_versions",
    "refinery_schema_history",
];

/// How many rows of a loss are named.
const EXAMPLES_MAX: usize = 5;

/// Something that a migration removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What kind of loss.
    pub kind: LossKind,
    /// The table, by its name before.
    pub table: String,
    /// The column, by its name before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// How many rows or values it concerns.
    pub count: u64,
    /// Of how many.
    pub of: u64,
    /// Why, where it can be told: the foreign key that took the rows along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The keys of some of the rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Whether it was announced (`--allow`).
    pub allowed: bool,
}

/// What kind of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// A table went with its rows.
    TableDropped,
    /// Rows went.
    RowsRemoved,
    /// A column went with its values.
    ColumnDropped,
    /// Every value of a column became NULL, an empty text, or the default of a table that was made anew.
    ColumnEmptied,
    /// Values did not survive a change of the column's type.
    ValuesDestroyed,
    /// Rows refer to rows that do not exist.
    Orphans,
}

impl Loss {
    /// Says it in one sentence.
    pub fn sentence(&self) -> String {
        let Self { table, count, of, .. } = self;
        let column = self.column.as_deref().unwrap_or_default();
        let rows = if *count == 1 { "row" } else { "rows" };
        let values = if *count == 1 { "value" } else { "values" };
        let (count, of) = (number(*count), number(*of));
        let mut text = match self.kind {
            LossKind::TableDropped => format!("table `{table}` was dropped with {count} {rows}"),
            LossKind::RowsRemoved => format!("{count} of {of} rows of `{table}` are gone"),
            LossKind::ColumnDropped => format!("column `{table}.{column}` was dropped with {count} {values}"),
            LossKind::ColumnEmptied => format!("column `{table}.{column}` lost all of its {count} {values}: nothing is left of them"),
            LossKind::ValuesDestroyed => format!("{count} of {of} values of `{table}.{column}` did not survive the change of its type"),
            LossKind::Orphans => format!("{count} {rows} of `{table}` now refer to rows that do not exist"),
        };
        if let Some(cause) = &self.cause {
            text.push_str("; ");
            text.push_str(cause);
        }
        text
    }

    /// Returns what `--allow` takes to announce it.
    pub fn allowance(&self) -> String {
        match &self.column {
            Some(column) => format!("{}.{column}", self.table),
            None => self.table.clone(),
        }
    }
}

/// One table's part in a migration.
pub struct TableChange {
    /// The table.
    pub pair: TablePair,
    /// Its rows.
    pub counts: RowCounts,
    /// Whether it is a migration tool's ledger.
    pub is_ledger: bool,
}

/// What a migration did to the rows, and what it removed.
pub struct Verdict {
    /// Each table with changed rows, in order.
    pub changes: Vec<TableChange>,
    /// Each loss, announced ones among them.
    pub losses: Vec<Loss>,
}

impl Verdict {
    /// Returns the losses that nobody announced.
    pub fn unannounced(&self) -> impl Iterator<Item = &Loss> {
        self.losses.iter().filter(|loss| !loss.allowed)
    }
}

/// Judges a comparison.
///
/// `findings` are the foreign key findings before and after; `allowed` is what `--allow` names (`table` or `table.column`).
///
/// # Errors
/// [`OpError::Compare`] where an object is missing or malformed.
pub fn judge(
    store: &Store,
    comparison: &Comparison<'_>,
    findings: (&[Finding], &[Finding]),
    allowed: &[String],
) -> Result<Verdict, OpError> {
    let mut verdict = Verdict { changes: Vec::new(), losses: Vec::new() };
    for pair in &comparison.pairs {
        let is_ledger = is_ledger(pair.name()) && looks_like_ledger(pair);
        if comparison.is_equal(pair) {
            continue;
        }
        let sql = |state: &State, shape: &Option<TableShape>| {
            let name = shape.as_ref().map_or("", |shape| &shape.name);
            state.schema.object(ObjectKind::Table, name).and_then(|object| object.sql.clone())
        };
        let mut watch = Watch::new(pair, sql(comparison.before, &pair.before) != sql(comparison.after, &pair.after));
        let counts = comparison.rows(pair, Cells::Telling, &mut |change| watch.see(pair, &change))?;
        if let Some(table) = content_of(comparison, pair) {
            content_losses(&table, pair, &counts, &mut verdict.losses);
        } else if !is_ledger && !comparison.is_machinery(pair) {
            table_losses(store, comparison, pair, &counts, watch, &mut verdict.losses)?;
        }
        if !counts.is_empty() || pair.fate() != TableFate::Kept {
            verdict.changes.push(TableChange { pair: pair.clone(), counts, is_ledger });
        }
    }
    virtual_losses(comparison, &mut verdict.losses);
    orphans(findings.0, findings.1, &mut verdict.losses);
    for loss in &mut verdict.losses {
        let allowance = loss.allowance();
        loss.allowed = allowed.iter().any(|name| name.eq_ignore_ascii_case(&allowance) || name.eq_ignore_ascii_case(&loss.table));
    }
    Ok(verdict)
}

/// Tells whether a table is a migration tool's ledger, by its name without the schema.
pub fn is_ledger(table: &str) -> bool {
    let name = table.rsplit('.').next().unwrap_or(table).to_ascii_lowercase();
    LEDGERS.contains(&name.as_str())
}

/// Tells whether a table of a name that others have too has the columns of a ledger: `migrations` is Laravel's and TypeORM's, and any
/// ornithologist's.
fn looks_like_ledger(pair: &TablePair) -> bool {
    let shape = pair.before.as_ref().or(pair.after.as_ref());
    let has = |wanted: &str| shape.is_some_and(|shape| shape.columns.iter().any(|column| column.name.eq_ignore_ascii_case(wanted)));
    !pair.name().eq_ignore_ascii_case("migrations") || has("migration") && has("batch") || has("timestamp") && has("name") || has("version")
}

/// What is counted while the rows of a pair go by.
struct Watch {
    removed_examples: Vec<String>,
    /// For each paired column: values that did not survive.
    destroyed: Vec<u64>,
    /// For each paired column: values that became NULL, nothing, or the default.
    emptied: Vec<u64>,
    /// For each paired column: the default that stands for a value left out; none where the table was not made anew.
    defaults: Vec<Option<String>>,
}

impl Watch {
    /// `is_rebuilt` tells whether the table's DDL is another: a copy may have left columns out.
    fn new(pair: &TablePair, is_rebuilt: bool) -> Self {
        let zeros = vec![0; pair.columns.len()];
        let default = |at: Option<usize>| Some(pair.after.as_ref()?.columns.get(at?)?.default.clone()).filter(|_| is_rebuilt);
        let defaults = pair.columns.iter().map(|column| default(column.after)).collect();
        Self { removed_examples: Vec::new(), destroyed: zeros.clone(), emptied: zeros, defaults }
    }

    fn is_empty(&self, column: usize, cell: &str) -> bool {
        matches!(cell, "null" | "\"\"") || self.defaults.get(column).is_some_and(|default| default.as_deref() == Some(cell))
    }

    fn see(&mut self, pair: &TablePair, change: &RowChange) -> ControlFlow<()> {
        match change {
            RowChange::Added(_) => {}
            RowChange::Removed(row) => {
                if self.removed_examples.len() < EXAMPLES_MAX
                    && let Some(shape) = &pair.before
                {
                    let cell = |&column: &usize| Some(format!("{}={}", shape.columns.get(column)?.name, row.get(column)?));
                    self.removed_examples.push(shape.identity.iter().filter_map(cell).collect::<Vec<_>>().join(", "));
                }
            }
            RowChange::Changed { before, after, columns } => {
                for &column in columns {
                    let Some(found) = pair.columns.get(column) else { continue };
                    let cell = |row: &'_ [Cell], index: Option<usize>| index.and_then(|index| row.get(index)).cloned();
                    if let (Some(was), Some(is)) = (cell(before, found.before), cell(after, found.after)) {
                        self.emptied[column] += u64::from(!self.is_empty(column, &was) && self.is_empty(column, &is));
                        self.destroyed[column] += u64::from(is_destroyed(&was, &is));
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Tells whether a conversion lost a value: it became NULL, nothing, a bare zero, or was cut short.
fn is_destroyed(before: &str, after: &str) -> bool {
    let (Ok(before), Ok(after)) = (Value::decode(before.as_bytes()), Value::decode(after.as_bytes())) else { return false };
    match (before, after) {
        (Value::Null, _) => false,
        (_, Value::Null) => true,
        (Value::Text(before), after @ (Value::Integer(_) | Value::Real(_))) => !says(&before, &after),
        (Value::Real(before), Value::Integer(after)) => before != after as f64,
        // Beyond 2^53 a real is not every integer.
        (Value::Integer(before), Value::Real(after)) => after as i128 != i128::from(before),
        (Value::Text(before) | Value::Blob(before), Value::Text(after) | Value::Blob(after)) => {
            after.len() < before.len() && before.starts_with(&after)
        }
        _ => false,
    }
}

/// Tells whether a text says this number, in a way that the number says all that the text did: `007` is more than 7.
fn says(text: &[u8], number: &Value) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let text = text.trim();
    let number = match number {
        Value::Integer(integer) if text == integer.to_string() => return true,
        Value::Integer(integer) => *integer as f64,
        Value::Real(real) => *real,
        _ => return false,
    };
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if number == 0.0 && is(&["false", "f", "no", "n", "off"]) || number == 1.0 && is(&["true", "t", "yes", "y", "on"]) {
        return true;
    }
    let digits = text.trim_start_matches('-').as_bytes();
    let is_padded = matches!(digits, [b'0', b'0'..=b'9', ..] | [b'+', ..]);
    // An integer of more digits than a real has would be equal only by rounding.
    let is_exact = !digits.iter().all(u8::is_ascii_digit) || digits.len() <= 15;
    !is_padded && is_exact && text.parse::<f64>() == Ok(number)
}

fn table_losses(
    store: &Store,
    comparison: &Comparison<'_>,
    pair: &TablePair,
    counts: &RowCounts,
    watch: Watch,
    losses: &mut Vec<Loss>,
) -> Result<(), OpError> {
    let Some(before) = &pair.before else { return Ok(()) };
    let loss = |kind, column: Option<&str>, count, of| Loss {
        kind,
        table: before.name.clone(),
        column: column.map(str::to_owned),
        count,
        of,
        cause: None,
        examples: Vec::new(),
        allowed: false,
    };
    let Some(after) = &pair.after else {
        if pair.rows_before > 0 {
            losses.push(loss(LossKind::TableDropped, None, pair.rows_before, pair.rows_before));
        }
        return Ok(());
    };
    if counts.removed > 0 {
        losses.push(Loss {
            cause: cascade(comparison, &before.name, None),
            examples: watch.removed_examples.clone(),
            ..loss(LossKind::RowsRemoved, None, counts.removed, pair.rows_before)
        });
    }
    let Some((_, manifest)) = comparison.before.table(&before.name) else { return Ok(()) };
    for (at, column) in pair.columns.iter().enumerate() {
        let Some(index) = column.before else { continue };
        let shape = &before.columns[index];
        // What was computed from other columns is no data of its own.
        if shape.hidden || shape.generated {
            continue;
        }
        let name = Some(shape.name.as_str());
        match column.after {
            None => {
                let held = values(store, manifest, index, &|cell| cell == "null")?;
                if held > 0 && counts.removed < pair.rows_before && !stands_elsewhere(comparison, &manifest.columns[index].digest) {
                    let cause = is_computed(&comparison.after.schema, &after.name, &shape.name)
                        .then(|| "a generated column has its name now, whose values nobody compared".to_owned());
                    losses.push(Loss { cause, ..loss(LossKind::ColumnDropped, name, held, pair.rows_before) });
                }
            }
            Some(after_index) => {
                let is_retyped = !after.columns[after_index].declared_type.eq_ignore_ascii_case(&shape.declared_type);
                if watch.emptied[at] > 0 {
                    let after_manifest = comparison.after.table(&after.name).map(|(_, manifest)| manifest);
                    let is_empty = |cell: &str| watch.is_empty(at, cell);
                    let left = after_manifest.map_or(Ok(0), |manifest| values(store, manifest, after_index, &is_empty))?;
                    if left == 0 {
                        let cause = cascade(comparison, &before.name, Some(&shape.name));
                        losses.push(Loss { cause, ..loss(LossKind::ColumnEmptied, name, watch.emptied[at], pair.rows_before) });
                        continue;
                    }
                }
                if is_retyped && watch.destroyed[at] > 0 {
                    losses.push(loss(LossKind::ValuesDestroyed, name, watch.destroyed[at], pair.rows_before));
                }
            }
        }
    }
    Ok(())
}

/// Tells whether a column went on as a generated one, whose values are not stored.
fn is_computed(schema: &Schema, table: &str, column: &str) -> bool {
    let columns = schema.table(table).map_or(&[][..], |table| &table.columns);
    columns.iter().any(|other| other.generated && other.name.eq_ignore_ascii_case(column))
}

/// Tells whether a column's whole content stands more often after than it did before, so that it went somewhere else: into a table that was split off.
fn stands_elsewhere(comparison: &Comparison<'_>, digest: &ObjectId) -> bool {
    let count = |state: &State| {
        let columns = state.tables.iter().flat_map(|(_, manifest)| &manifest.columns);
        columns.filter(|column| column.digest == *digest).count()
    };
    count(comparison.after) >= count(comparison.before)
}

/// Counts the values of a column that are not empty, groups where all are the default left out.
fn values(store: &Store, manifest: &TableManifest, column: usize, is_empty: &dyn Fn(&str) -> bool) -> Result<u64, OpError> {
    let mut held = 0;
    for group in chunks::row_groups(manifest, store)? {
        if group.chunk(column).is_some() {
            let cells = chunks::column_chunk(manifest, &group, column, store)?;
            held += cells.iter().filter(|cell| !is_empty(cell)).count() as u64;
        }
    }
    Ok(held)
}

/// Returns the virtual table whose rows a shadow table holds one by one: FTS keeps them in `_content`, R-tree in `_rowid`.
fn content_of(comparison: &Comparison<'_>, pair: &TablePair) -> Option<String> {
    let shape = pair.before.as_ref()?;
    let TableKind::Shadow { of } = &comparison.before.schema.table(&shape.name)?.kind else { return None };
    let suffix = shape.name.strip_prefix(of.as_str())?;
    matches!(suffix, "_content" | "_rowid").then(|| of.clone())
}

/// Judges the rows of a virtual table that is still there. One that went is judged as a whole.
fn content_losses(table: &str, pair: &TablePair, counts: &RowCounts, losses: &mut Vec<Loss>) {
    if pair.after.is_some() && counts.removed > 0 {
        losses.push(Loss {
            kind: LossKind::RowsRemoved,
            table: table.to_owned(),
            column: None,
            count: counts.removed,
            of: pair.rows_before,
            cause: None,
            examples: Vec::new(),
            allowed: false,
        });
    }
}

/// Names the foreign key whose action explains that rows went or values became NULL: one to a table that was rebuilt or lost rows.
fn cascade(comparison: &Comparison<'_>, table: &str, column: Option<&str>) -> Option<String> {
    let action = if column.is_some() { "SET NULL" } else { "CASCADE" };
    let keys = &comparison.before.schema.table(table)?.foreign_keys;
    let key = keys.iter().find(|key| {
        let is_touched = || {
            let sql = |state: &State| {
                let objects = state.schema.objects.iter();
                objects.filter(|object| object.name.eq_ignore_ascii_case(&key.parent)).map(|object| object.sql.clone()).collect::<Vec<_>>()
            };
            let rows =
                |state: &State| state.tables.iter().find(|(_, other)| other.name.eq_ignore_ascii_case(&key.parent)).map(|(id, _)| *id);
            sql(comparison.before) != sql(comparison.after) || rows(comparison.before) != rows(comparison.after)
        };
        let is_column = column.is_none_or(|column| key.columns.iter().any(|other| other == column));
        key.on_delete == action && is_column && is_touched()
    })?;
    let what = if column.is_some() { "it references" } else { "they referenced" };
    Some(format!("{what} `{}` ON DELETE {action}", key.parent))
}

/// Judges virtual tables that went: what they held stands in tables that went with them.
fn virtual_losses(comparison: &Comparison<'_>, losses: &mut Vec<Loss>) {
    let (before, after) = (comparison.before, comparison.after);
    let goes_on = |name: &str| {
        comparison.pairs.iter().any(|pair| pair.after.is_some() && content_of(comparison, pair).is_some_and(|table| table == name))
    };
    for table in &before.schema.tables {
        let TableKind::Virtual { .. } = table.kind else { continue };
        if after.schema.table(&table.name).is_some() || goes_on(&table.name) {
            continue;
        }
        let object = before.schema.object(ObjectKind::Table, &table.name);
        let sql = object.and_then(|object| object.sql.clone()).unwrap_or_default().to_ascii_lowercase();
        // An index over another table's rows holds nothing of its own.
        let is_external = sql.split("content").skip(1).any(|rest| rest.trim_start().starts_with('='));
        let rows = ["content", "rowid", "docsize"]
            .iter()
            .filter_map(|suffix| before.table(&format!("{}_{suffix}", table.name)))
            .map(|(_, manifest)| manifest.rows)
            .max()
            .unwrap_or(0);
        if rows > 0 && !is_external {
            losses.push(Loss {
                kind: LossKind::TableDropped,
                table: table.name.clone(),
                column: None,
                count: rows,
                of: rows,
                cause: None,
                examples: Vec::new(),
                allowed: false,
            });
        }
    }
}

fn orphans(before: &[Finding], after: &[Finding], losses: &mut Vec<Loss>) {
    let is_key = |finding: &&Finding| finding.check == "foreign_key";
    for finding in after.iter().filter(is_key) {
        let known = before.iter().filter(is_key).find(|other| other.message == finding.message).map_or(0, |other| other.count);
        if finding.count > known {
            losses.push(Loss {
                kind: LossKind::Orphans,
                table: finding.table.clone().unwrap_or_default(),
                column: None,
                count: finding.count - known,
                of: finding.count,
                cause: Some(finding.message.clone()),
                examples: Vec::new(),
                allowed: false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_destroys_what_it_cannot_hold() {
        for (before, after) in [
            ("\"abc\"", "0"),
            ("\"abc\"", "null"),
            ("5", "null"),
            ("\"abcdef\"", "\"abc\""),
            ("\"12a\"", "0.0"),
            ("\"12a\"", "12"),
            ("\"007\"", "7"),
            ("1.5", "1"),
            ("9007199254740993", "9007199254740992.0"),
            ("\"9007199254740993\"", "9007199254740992.0"),
        ] {
            assert!(is_destroyed(before, after), "{before} -> {after}");
        }
        for (before, after) in [
            ("\"0\"", "0"),
            ("\"false\"", "0"),
            ("null", "null"),
            ("1", "\"1\""),
            ("\"5\"", "5"),
            ("\"5.50\"", "5.5"),
            ("\"yes\"", "1"),
            ("5", "5.0"),
            ("2.0", "2"),
            ("0", "null "),
        ] {
            assert!(!is_destroyed(before, after), "{before} -> {after}");
        }
    }

    #[test]
    fn ledgers_are_known_by_name() {
        assert!(is_ledger("_prisma_migrations") && is_ledger("public.SchemA_Migrations"));
        assert!(!is_ledger("users"));
    }
}
