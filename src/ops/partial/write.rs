//! Writing chosen rows into a database that may have others: one transaction, read back before it is committed.
//!
//! A row that is there already and equal is left. One that is there with other values is a conflict: nothing is written then, unless it is asked
//! that the snapshot's values go over it. Rows are told apart by their primary key, else by their row number; rows without either by their content.

use std::collections::HashMap;
use std::ops::ControlFlow;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::{Choice, Rows};
use crate::engine::{BoxError, Engine, EngineError, WriteTransaction};
use crate::ops::capture::{self, References, Rules, State};
use crate::ops::compare::decode_cells;
use crate::ops::plan::plan;
use crate::ops::{OpError, part};
use crate::progress::Progress;
use crate::rows::{CutRule, RowGroup, TableShape};
use crate::schema::{ObjectKind, Schema, SettingScope, Settings};
use crate::snapshot::manifest::TableManifest;
use crate::snapshot::rowdiff;
use crate::store::{BatchMode, Store};
use crate::value::{Value, split_array};

/// How many conflicts of a table are named.
const CONFLICTS_SHOWN: usize = 5;

/// How many rows go to the database at once.
const ROWS_AT_ONCE: usize = 500;

/// How rows of the target are read.
const GROUPS: CutRule = CutRule { rows_target: 256 };

/// What is done about rows that are there with other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is written.
    Stop,
    /// The snapshot's values take their place.
    Overwrite,
}

/// What was found of a table, and written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableOutcome {
    /// The table.
    pub table: String,
    /// Rows that were inserted.
    pub inserted: u64,
    /// Rows that were there already, equal.
    pub equal: u64,
    /// Rows that were there with other values.
    pub conflicts: u64,
    /// The keys of some of them, as JSON.
    pub examples: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, and was read back.
    Written(Vec<TableOutcome>),
    /// There were conflicts, or nothing was to be written; nothing was.
    Looked(Vec<TableOutcome>),
}

/// What is written, and how.
pub struct Job<'a> {
    /// The snapshot's state.
    pub state: &'a State,
    /// Its store.
    pub store: &'a Store,
    /// Which rows.
    pub choice: &'a Choice,
    /// Whether the database has nothing yet, so that its tables are made first.
    pub is_new: bool,
    /// What is done about conflicts.
    pub on_conflict: OnConflict,
    /// Whether it is only looked at what would be done.
    pub is_dry: bool,
    /// Hears of progress.
    pub progress: &'a dyn Progress,
}

/// A chosen row's content, and what was found of it in the target.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    digest: u128,
    /// How many rows of this key are wanted: more than one only where the whole content is the key.
    count: u64,
    /// How many equal ones are there.
    found: u64,
    is_conflict: bool,
}

/// A table of the snapshot beside the one that its rows go to.
struct Pair<'a> {
    manifest: &'a TableManifest,
    rows: &'a Rows,
    target: TableShape,
    /// For each column of the target the snapshot's; none for a row number that the database gives anew.
    columns: Vec<Option<usize>>,
    /// The target's columns that tell rows apart; empty where their whole content does.
    key: Vec<usize>,
    /// The target's columns whose values count.
    counted: Vec<usize>,
}

/// Writes the chosen rows.
///
/// # Errors
/// The engine's and the store's; [`EngineError::Unsupported`] where a table is not there, or has other columns; [`OpError::NotProven`] where the
/// rows that were read back are not those that were chosen. Nothing is written in each case.
pub fn write(job: &Job<'_>, engine: &mut dyn Engine) -> Result<Outcome, OpError> {
    let names: Vec<String> = job.choice.tables.keys().cloned().collect();
    let part = part::of_tables(job.state, &names)?;
    let part = State { tables: Vec::new(), ..part };
    let before = {
        let mut read = engine.begin_read()?;
        let references = References::default();
        if job.is_new {
            capture::read_state(&mut *read, job.store, BatchMode::IdsOnly, references, Rules::Keep, job.progress)?.0
        } else {
            // Its rows are not read here.
            State { schema: read.schema()?, settings: read.settings()?, ..part.clone() }
        }
    };
    let mut transaction = engine.begin_write()?;
    if job.is_new {
        let plan = plan(&before, &part);
        transaction.drop_objects(&plan.drop)?;
        transaction.create_tables(&plan.create)?;
    }
    let shapes = transaction.shapes()?;
    let pairs = job.choice.tables.iter().map(|(name, rows)| pair(job, name, rows, &shapes)).collect::<Result<Vec<_>, OpError>>()?;
    let mut outcomes = Vec::new();
    let mut found = Vec::new();
    for pair in &pairs {
        let mut wanted = wanted(job, pair)?;
        let mut outcome = TableOutcome { table: pair.target.name.clone(), ..TableOutcome::default() };
        let before = meet(&mut *transaction, pair, &mut wanted, &mut outcome)?;
        outcome.inserted = wanted.values().map(|wanted| wanted.count - wanted.found).sum::<u64>();
        outcome.equal = wanted.values().map(|wanted| wanted.found).sum();
        outcomes.push(outcome);
        found.push((wanted, before));
    }
    let is_stopped = job.on_conflict == OnConflict::Stop && outcomes.iter().any(|outcome| outcome.conflicts > 0);
    if job.is_dry || is_stopped {
        return Ok(Outcome::Looked(outcomes));
    }
    for (pair, (wanted, _)) in pairs.iter().zip(&found) {
        remove(&mut *transaction, pair, wanted)?;
        insert(job, &mut *transaction, pair, wanted)?;
    }
    let schema: &Schema = if job.is_new { &part.schema } else { &before.schema };
    transaction.finish_schema(schema)?;
    transaction.finish_rows(schema)?;
    let settings = settings(&mut *transaction, &part, job.is_new)?;
    transaction.write_settings(&settings)?;
    for ((pair, (wanted, before)), outcome) in pairs.iter().zip(found).zip(&outcomes) {
        prove(&mut *transaction, pair, wanted, before, outcome)?;
    }
    transaction.commit()?;
    Ok(Outcome::Written(outcomes))
}

fn pair<'a>(job: &Job<'a>, name: &str, rows: &'a Rows, shapes: &[TableShape]) -> Result<Pair<'a>, OpError> {
    let unsupported = |what: String| OpError::Engine(EngineError::Unsupported(what));
    let (_, manifest) = job.state.table(name).ok_or_else(|| OpError::NoTable(name.to_owned(), "the snapshot".to_owned()))?;
    let same = |shape: &&TableShape| shape.name.eq_ignore_ascii_case(name);
    let target = shapes.iter().find(|shape| shape.name == name).or_else(|| shapes.iter().find(same));
    let target = target.ok_or_else(|| unsupported(format!("the database has no table `{name}`, so its rows have no place there")))?.clone();
    let source = manifest.shape();
    let plain = |shape: &TableShape| -> Vec<String> {
        let own = shape.columns.iter().filter(|column| !column.hidden && !column.generated);
        own.map(|column| column.name.to_lowercase()).collect()
    };
    let (have, need) = (plain(&target), plain(&source));
    let missing = |a: &[String], b: &[String]| a.iter().filter(|name| !b.contains(name)).cloned().collect::<Vec<_>>().join("`, `");
    let (lacks, extra) = (missing(&need, &have), missing(&have, &need));
    if !lacks.is_empty() || !extra.is_empty() {
        let what = if lacks.is_empty() { format!("`{extra}`, which it did not have") } else { format!("no `{lacks}`") };
        return Err(unsupported(format!("table `{name}` has other columns than in the snapshot: {what}")));
    }
    let is_numbered = target.identity.iter().any(|&at| target.columns[at].hidden);
    // A row number that identifies nothing is given anew where others may have it.
    let is_kept = |at: usize| !target.columns[at].hidden || is_numbered || job.is_new;
    let place = |at: usize| {
        let column = &target.columns[at];
        source.columns.iter().position(|other| other.name.eq_ignore_ascii_case(&column.name) && other.hidden == column.hidden)
    };
    let columns: Vec<Option<usize>> = (0..target.columns.len()).map(|at| if is_kept(at) { place(at) } else { None }).collect();
    let counted = (0..columns.len()).filter(|&at| columns[at].is_some() && !target.columns[at].generated).collect();
    let key = target.identity.clone();
    Ok(Pair { manifest, rows, columns, key, counted, target })
}

impl Pair<'_> {
    /// Returns what tells a row apart, and the digest of what it holds; cells are the target's, in its order.
    fn look<'c>(&self, cell: impl Fn(usize) -> &'c str) -> (String, u128) {
        let join = |columns: &[usize]| columns.iter().map(|&at| cell(at)).collect::<Vec<_>>().join(",");
        let content = join(&self.counted);
        let digest = xxh3_128(content.as_bytes());
        (if self.key.is_empty() { format!("{digest:032x}") } else { join(&self.key) }, digest)
    }

    /// Returns the cells of a row of the snapshot as the target has them.
    fn cells<'r, T: AsRef<str>>(&self, row: &'r [T]) -> impl Fn(usize) -> &'r str {
        move |at: usize| self.columns.get(at).copied().flatten().and_then(|source| row.get(source)).map_or("null", AsRef::as_ref)
    }
}

/// Collects the chosen rows by what tells them apart.
fn wanted(job: &Job<'_>, pair: &Pair<'_>) -> Result<HashMap<String, Wanted>, OpError> {
    let mut wanted: HashMap<String, Wanted> = HashMap::new();
    super::each_row(pair.manifest, job.store, &mut |place, row| {
        if pair.rows.contains(place) {
            let (key, digest) = pair.look(pair.cells(&row));
            wanted.entry(key).or_insert(Wanted { digest, count: 0, found: 0, is_conflict: false }).count += 1;
        }
    })?;
    Ok(wanted)
}

/// Goes through the rows of the target's table; returns how many there are.
fn meet(
    transaction: &mut dyn WriteTransaction,
    pair: &Pair<'_>,
    wanted: &mut HashMap<String, Wanted>,
    outcome: &mut TableOutcome,
) -> Result<u64, OpError> {
    let mut count = 0;
    each_target_row(transaction, &pair.target, &mut |cells| {
        count += 1;
        let (key, digest) = pair.look(|at| cells[at]);
        let Some(wanted) = wanted.get_mut(&key) else { return };
        if wanted.digest == digest {
            wanted.found = (wanted.found + 1).min(wanted.count);
        } else {
            wanted.is_conflict = true;
            outcome.conflicts += 1;
            if outcome.examples.len() < CONFLICTS_SHOWN {
                outcome.examples.push(key);
            }
        }
    })?;
    Ok(count)
}

/// Reads a table of the target row by row, as canonical JSON.
fn each_target_row(transaction: &mut dyn WriteTransaction, shape: &TableShape, each: &mut dyn FnMut(&[&str])) -> Result<(), OpError> {
    let mut failed: Option<BoxError> = None;
    let mut group = |group: &RowGroup| -> Result<(), BoxError> {
        let mut columns = Vec::with_capacity(group.columns.len());
        for column in &group.columns {
            columns.push(split_array(&column.json)?);
        }
        let mut cells: Vec<&str> = Vec::new();
        for row in 0..usize::try_from(group.rows)? {
            cells.clear();
            for column in &columns {
                cells.push(std::str::from_utf8(column.get(row).copied().unwrap_or(b"null"))?);
            }
            each(&cells);
        }
        Ok(())
    };
    transaction.read_table(shape, GROUPS, &mut |rows| match group(&rows) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), |error| Err(EngineError::Input(error).into()))
}

/// Deletes the rows that others take the place of.
fn remove(transaction: &mut dyn WriteTransaction, pair: &Pair<'_>, wanted: &HashMap<String, Wanted>) -> Result<(), OpError> {
    if !wanted.values().any(|wanted| wanted.is_conflict) {
        return Ok(());
    }
    let mut locators: Vec<Vec<String>> = Vec::new();
    each_target_row(transaction, &pair.target, &mut |cells| {
        let (key, digest) = pair.look(|at| cells[at]);
        if wanted.get(&key).is_some_and(|wanted| wanted.is_conflict && wanted.digest != digest) {
            locators.push(pair.target.locator.iter().map(|&at| cells[at].to_owned()).collect());
        }
    })?;
    let decode = |cells: &Vec<String>| -> Result<Vec<Value>, BoxError> {
        Ok(cells.iter().map(|cell| Value::decode(cell.as_bytes())).collect::<Result<_, _>>()?)
    };
    let rows: Vec<_> = locators.iter().map(decode).collect();
    transaction.delete_rows(&pair.target, &mut rows.into_iter())?;
    Ok(())
}

fn insert(job: &Job<'_>, transaction: &mut dyn WriteTransaction, pair: &Pair<'_>, wanted: &HashMap<String, Wanted>) -> Result<(), OpError> {
    let mut left: HashMap<&str, u64> = HashMap::new();
    let (mut rows, mut failed, mut place) = (Vec::new(), None, 0);
    let mut send = |rows: &mut Vec<Vec<Value>>| -> Result<(), OpError> {
        if !rows.is_empty() {
            transaction.insert_rows(&pair.target, &mut std::mem::take(rows).into_iter().map(Ok))?;
        }
        Ok(())
    };
    let mut each = |row: &crate::snapshot::changes::Row| -> Result<(), OpError> {
        let (key, _) = pair.look(pair.cells(row));
        let Some((key, wanted)) = wanted.get_key_value(&key) else { return Ok(()) };
        // So many of the same content are there already.
        let left = left.entry(key).or_insert(wanted.found);
        if *left > 0 {
            *left -= 1;
            return Ok(());
        }
        let values = decode_cells(job.store, row.iter())?;
        let value = |column: &Option<usize>| column.and_then(|at| values.get(at).cloned()).unwrap_or(Value::Null);
        rows.push(pair.columns.iter().map(value).collect());
        if rows.len() >= ROWS_AT_ONCE { send(&mut rows) } else { Ok(()) }
    };
    rowdiff::table_rows(pair.manifest, job.store, &mut |row| {
        let is_chosen = pair.rows.contains(place);
        place += 1;
        match if is_chosen { each(&row) } else { Ok(()) } {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => send(&mut rows),
    }
}

/// Returns the settings to write: of a new database all that the snapshot has, of another one its own, with sequences of the chosen tables that were
/// further in the snapshot.
fn settings(transaction: &mut dyn WriteTransaction, part: &State, is_new: bool) -> Result<Settings, OpError> {
    let mut settings = transaction.settings()?;
    let is_sequence = |name: &str| {
        let sequence = name.strip_prefix("sequence ");
        sequence.is_some_and(|sequence| part.schema.object(ObjectKind::Sequence, sequence).is_some())
    };
    let number = |value: &str| value.split(' ').next().and_then(|number| number.parse::<i64>().ok());
    for (name, then) in part.settings.iter().filter(|(_, setting)| setting.scope == SettingScope::Exact) {
        let is_further = settings.get(name).is_none_or(|now| number(&now.value) < number(&then.value));
        let is_wanted = if name.starts_with("sequence ") { is_sequence(name) && (is_new || is_further) } else { is_new };
        if is_wanted {
            settings.insert(name.clone(), then.clone());
        }
    }
    Ok(settings)
}

/// Reads a table back: every chosen row is there, and no other one came or went.
fn prove(
    transaction: &mut dyn WriteTransaction,
    pair: &Pair<'_>,
    mut wanted: HashMap<String, Wanted>,
    before: u64,
    outcome: &TableOutcome,
) -> Result<(), OpError> {
    for row in wanted.values_mut() {
        row.found = 0;
    }
    let after = meet(transaction, pair, &mut wanted, &mut TableOutcome::default())?;
    let is_there = wanted.values().all(|wanted| wanted.found == wanted.count);
    if !is_there || after != before + outcome.inserted - outcome.conflicts {
        return Err(OpError::NotProven { what: format!("the rows of table `{}` would differ", pair.target.name) });
    }
    Ok(())
}
