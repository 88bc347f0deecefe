//! Making a database exactly equal to a snapshot.
//!
//! [`super::plan`] compares two states and says what must change; it is plain data, and what `--dry-run` prints. It is carried out on any
//! [`PatchTarget`]: a database's transaction, or a script (`diff --format sql`). [`rollback`] does both on the live database, with a safety
//! snapshot before and the proof by ids before the commit.
//!
//! What decides the order: objects are dropped before tables are created under the same names; rows are deleted, then updated,
//! then inserted, so that no unique constraint meets a value that is about to leave; indexes are made after the rows; the engine's
//! own tables (sequences, statistics) come last, since making everything else changes them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;

use super::capture::{self, Label, References, Rules, State, Taken, exact_settings};
use super::compare::{decode_cells, has_same_rules};
use super::files::back::Beside;
use super::journal::{self, Entry, OperationKind, OperationResult, Phase};
use super::memory::Memory;
use super::plan::{Plan, RowAction, merge, plan};
use super::{FileLook, OpError, Session, seen, with_causes};
use crate::engine::{BoxError, Engine, EngineError, Obstacle, PatchTarget, WriteTransaction};
use crate::files::write as files;
use crate::id::ObjectId;
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema, TableKind};
use crate::snapshot::build;
use crate::snapshot::changes::{Cells, Row, RowChange};
use crate::snapshot::manifest::{SnapshotKind, TableManifest};
use crate::snapshot::rowdiff;
use crate::store::{BatchMode, Store, StoreError};
use crate::value::Value;

/// How often a rollback begins anew because others wrote meanwhile.
const ATTEMPTS_MAX: u32 = 5;

/// How many rows go to the database at once.
const ROWS_AT_ONCE: usize = 1_000;

/// How many bytes of updated rows are kept rather than looked for again.
const UPDATES_BYTES_MAX: usize = 32 << 20;

/// How many sets of columns are updated one by one.
const UPDATE_SETS_MAX: usize = 64;

/// Counts of what was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Rows deleted one by one.
    pub deleted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows inserted.
    pub inserted: u64,
}

/// Carries out the part of a plan that comes before the rest of the schema and the engine's own tables.
///
/// # Errors
/// The target's and the store's. What was applied so far is the target's to forget.
fn apply_objects(target: &mut dyn PatchTarget, plan: &Plan, live: &State, wanted: &State, store: &Store) -> Result<Written, OpError> {
    let mut written = Written::default();
    for shape in &plan.clear {
        target.clear_table(shape)?;
    }
    target.alter_objects(&plan.alter)?;
    target.drop_objects(&plan.drop)?;
    target.create_tables(&plan.create)?;
    for table in &plan.tables {
        let Some((_, to)) = wanted.table(&table.name) else { continue };
        match table.action {
            RowAction::Fill => written.inserted += fill(target, to, store)?,
            RowAction::Rewrite => {
                target.clear_table(&to.shape())?;
                written.inserted += fill(target, to, store)?;
            }
            RowAction::Patch => {
                if let Some((_, from)) = live.table(&table.name) {
                    patch(target, from, to, &wanted.schema, store, &mut written)?;
                }
            }
            RowAction::Settle | RowAction::Refresh => {}
        }
    }
    Ok(written)
}

/// Carries out a whole plan on a target that cannot be read, such as a script.
///
/// # Errors
/// The target's and the store's.
pub fn apply_blind(target: &mut dyn PatchTarget, plan: &Plan, live: &State, wanted: &State, store: &Store) -> Result<Written, OpError> {
    let mut written = apply_objects(target, plan, live, wanted, store)?;
    // A script takes the triggers out of the way of its rows, so that it always has something to put back.
    target.finish_schema(&wanted.schema)?;
    refresh(target, plan, wanted)?;
    target.finish_rows(&wanted.schema)?;
    for table in plan.tables.iter().filter(|table| table.action == RowAction::Settle) {
        if let Some((_, to)) = wanted.table(&table.name) {
            target.clear_table(&to.shape())?;
            written.inserted += fill(target, to, store)?;
        }
    }
    target.write_settings(&wanted.settings)?;
    Ok(written)
}

/// Computes the materialized views of a plan again, in an order in which each finds what it reads.
fn refresh(target: &mut dyn PatchTarget, plan: &Plan, wanted: &State) -> Result<(), EngineError> {
    let is_meant = |name: &str| plan.tables.iter().any(|table| table.action == RowAction::Refresh && table.name == name);
    for object in wanted.schema.objects.iter().filter(|object| object.kind == ObjectKind::MaterializedView && is_meant(&object.name)) {
        target.refresh(&object.name)?;
    }
    Ok(())
}

/// Carries out a plan in a transaction and proves the result by ids; returns what is to be remembered of how the result was read as well.
///
/// # Errors
/// The engine's and the store's; [`OpError::NotProven`] if the result is not the target. The transaction must be dropped then.
fn apply_proven(
    transaction: &mut dyn WriteTransaction,
    plan: &Plan,
    live: &State,
    wanted: &State,
    session: &Session<'_>,
) -> Result<(Written, Option<Arc<Memory>>), OpError> {
    let store = session.store;
    let mut written = apply_objects(transaction, plan, live, wanted, store)?;
    if plan.schema_differs || !plan.drop.is_empty() {
        transaction.finish_schema(&wanted.schema)?;
    }
    refresh(transaction, plan, wanted)?;
    transaction.finish_rows(&wanted.schema)?;
    let settled: HashSet<&str> =
        plan.tables.iter().filter(|table| table.action == RowAction::Settle).map(|table| table.name.as_str()).collect();
    for found in capture::read_ids(transaction, store, wanted, None, &|name| settled.contains(name), session.progress)? {
        if let Some((wanted_id, to)) = wanted.table(&found.manifest.name)
            && *wanted_id != found.id
        {
            transaction.clear_table(&to.shape())?;
            written.inserted += fill(transaction, to, store)?;
        }
    }
    transaction.write_settings(&wanted.settings)?;
    let memory = prove(transaction, plan, live, wanted, session)?;
    Ok((written, memory))
}

/// Reads back, inside the transaction, everything that the plan touched, and compares ids with the target's. Returns what is to be remembered of it.
fn prove(
    transaction: &mut dyn WriteTransaction,
    plan: &Plan,
    live: &State,
    wanted: &State,
    session: &Session<'_>,
) -> Result<Option<Arc<Memory>>, OpError> {
    let not_proven = |what: String| Err(OpError::NotProven { what });
    let schema = transaction.schema()?;
    // The rest of a schema is what these objects mean to the engine of the day.
    let is_about_roles = |kind| matches!(kind, ObjectKind::Owner | ObjectKind::Privileges);
    if let Some(what) = wanted.schema.contradicted_by(&schema, &|kind| !is_about_roles(kind)) {
        return not_proven(format!("the schema would differ ({what})"));
    }
    // An engine leaves these out only where roles are not there, or where it was told to.
    if let Some(what) = wanted.schema.contradicted_by(&schema, &is_about_roles) {
        session.progress.warn(&format!("owners or privileges are not what they were: {what}"));
    }
    let settings = transaction.settings()?;
    if !exact_settings(&settings).eq(exact_settings(&wanted.settings)) {
        return not_proven("the settings would differ".to_owned());
    }
    let cleared = plan.clear.iter().map(|shape| shape.name.as_str());
    let touched: HashSet<&str> = plan.tables.iter().map(|table| table.name.as_str()).chain(cleared).collect();
    let found = capture::read_ids(transaction, session.store, wanted, Some(live), &|name| touched.contains(name), session.progress)?;
    for name in touched {
        let expected = wanted.table(name).map(|(id, _)| *id);
        let actual = found.iter().find(|table| table.manifest.name == name).map(|table| table.id);
        let is_computed = wanted.schema.table(name).is_some_and(|table| table.kind == TableKind::Materialized);
        if expected != actual && is_computed {
            session.progress.warn(&format!(
                "materialized view `{name}` is not what it was: its rows then were not those that its query finds in the tables as they were then"
            ));
        } else if expected != actual {
            return not_proven(format!("the rows of table `{name}` would differ"));
        }
    }
    let Some(earlier) = &live.memory else { return Ok(None) };
    let keys: Vec<(&str, String)> = wanted.tables.iter().map(|(id, manifest)| (manifest.name.as_str(), id.to_string())).collect();
    let facts = |id: &ObjectId| {
        let read = found.iter().find(|table| table.id == *id).and_then(|table| table.facts.clone());
        Some((*id, read.or_else(|| earlier.tables.get(id).cloned())?))
    };
    let engine = transaction.memory(&keys)?;
    Ok(engine.map(|engine| Arc::new(Memory { tables: wanted.tables.iter().filter_map(|(id, _)| facts(id)).collect(), engine })))
}

/// Hands a batch of rows to the target; returns how many it took.
type SendRows<'a> = dyn FnMut(&mut dyn Iterator<Item = Result<Vec<Value>, BoxError>>) -> Result<u64, EngineError> + 'a;

/// Sends rows on in batches.
struct Sender<'a> {
    rows: Vec<Vec<Value>>,
    sent: u64,
    error: Option<OpError>,
    send: &'a mut SendRows<'a>,
}

impl Sender<'_> {
    fn push(&mut self, row: Result<Vec<Value>, OpError>) -> ControlFlow<()> {
        match row {
            Ok(row) => self.rows.push(row),
            Err(error) => {
                self.error = Some(error);
                return ControlFlow::Break(());
            }
        }
        if self.rows.len() >= ROWS_AT_ONCE { self.flush() } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        if self.rows.is_empty() {
            return ControlFlow::Continue(());
        }
        match (self.send)(&mut std::mem::take(&mut self.rows).into_iter().map(Ok)) {
            Ok(done) => {
                self.sent += done;
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.error = Some(error.into());
                ControlFlow::Break(())
            }
        }
    }

    fn finish(mut self) -> Result<u64, OpError> {
        if self.error.is_none() {
            let _ = self.flush();
        }
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.sent),
        }
    }
}

/// Inserts all rows of a table.
///
/// # Errors
/// The target's and the store's.
pub fn fill(target: &mut dyn PatchTarget, manifest: &TableManifest, store: &Store) -> Result<u64, OpError> {
    let shape = manifest.shape();
    let mut sender = Sender { rows: Vec::new(), sent: 0, error: None, send: &mut |rows| target.insert_rows(&shape, rows) };
    rowdiff::table_rows(manifest, store, &mut |row| sender.push(decode_cells(store, row.iter())))?;
    sender.finish()
}

/// Rows that are to be updated, by the columns that are set, so that each needs one statement; as long as they are few.
#[derive(Default)]
struct Updates {
    rows: BTreeMap<Vec<usize>, Vec<Row>>,
    bytes: usize,
    /// All columns that are set.
    columns: BTreeSet<usize>,
    /// Whether all rows differ in the same columns.
    is_uniform: bool,
}

impl Updates {
    fn is_kept(&self) -> bool {
        self.bytes <= UPDATES_BYTES_MAX
    }

    fn keep(&mut self, row: Row, columns: Vec<usize>) {
        self.is_uniform = self.columns.is_empty()
            || self.is_uniform && columns.len() == self.columns.len() && columns.iter().all(|c| self.columns.contains(c));
        self.columns.extend(&columns);
        self.bytes += row.iter().map(|cell| size_of_val(cell) + cell.len()).sum::<usize>();
        if self.is_kept() && (self.rows.len() < UPDATE_SETS_MAX || self.rows.contains_key(&columns)) {
            self.rows.entry(columns).or_default().push(row);
        } else {
            self.bytes = usize::MAX / 2;
            self.rows.clear();
        }
    }
}

/// Turns the rows of one table into another's, writing only those that differ: deletes, then updates, then inserts.
fn patch(
    target: &mut dyn PatchTarget,
    from: &TableManifest,
    to: &TableManifest,
    schema: &Schema,
    store: &Store,
    written: &mut Written,
) -> Result<(), OpError> {
    let shape = to.shape();
    let fragile = fragile_columns(&shape, schema);
    let is_update = |columns: &[usize]| !columns.iter().any(|column| fragile.contains(column));
    let locator = |row: &Row| decode_cells(store, shape.locator.iter().filter_map(|&column| row.get(column)));

    let mut sender = Sender { rows: Vec::new(), sent: 0, error: None, send: &mut |rows| target.delete_rows(&shape, rows) };
    let mut has_inserts = false;
    // Updates come after all deletes. As long as they are few they need not be looked for again.
    let mut updates = Updates::default();
    rowdiff::diff_exact(from, to, store, Cells::Telling, &mut |change| match change {
        RowChange::Removed(before) => sender.push(locator(&before)),
        RowChange::Changed { before, columns, .. } if !is_update(&columns) => {
            has_inserts = true;
            sender.push(locator(&before))
        }
        RowChange::Changed { after, columns, .. } => {
            updates.keep(after, columns);
            ControlFlow::Continue(())
        }
        RowChange::Added(_) => {
            has_inserts = true;
            ControlFlow::Continue(())
        }
    })?;
    written.deleted += sender.finish()?;

    let is_kept = updates.is_kept();
    // Where they are not kept, one statement sets all of the columns, so that the other cells of each row are needed too if not all rows differ in them.
    let sets = if is_kept { updates.rows } else { BTreeMap::from([(updates.columns.iter().copied().collect(), Vec::new())]) };
    for (columns, rows) in sets.into_iter().filter(|(columns, _)| !columns.is_empty()) {
        let mut sender = Sender { rows: Vec::new(), sent: 0, error: None, send: &mut |rows| target.update_rows(&shape, &columns, rows) };
        let mut send =
            |after: &Row| sender.push(decode_cells(store, shape.locator.iter().chain(&columns).filter_map(|&column| after.get(column))));
        if is_kept {
            let _ = rows.iter().try_for_each(send);
        } else {
            let cells = if updates.is_uniform { Cells::Telling } else { Cells::All };
            rowdiff::diff_exact(from, to, store, cells, &mut |change| match change {
                RowChange::Changed { after, columns: changed, .. } if is_update(&changed) => send(&after),
                _ => ControlFlow::Continue(()),
            })?;
        }
        written.updated += sender.finish()?;
    }
    if has_inserts {
        let mut sender = Sender { rows: Vec::new(), sent: 0, error: None, send: &mut |rows| target.insert_rows(&shape, rows) };
        rowdiff::diff_exact(from, to, store, Cells::All, &mut |change| match change {
            RowChange::Added(after) => sender.push(decode_cells(store, after.iter())),
            RowChange::Changed { after, columns, .. } if !is_update(&columns) => sender.push(decode_cells(store, after.iter())),
            _ => ControlFlow::Continue(()),
        })?;
        written.inserted += sender.finish()?;
    }
    Ok(())
}

/// Finds the columns whose values must be unique: rows in which one changes are deleted and inserted, since an update could meet
/// a value that another row still has. An index over an expression makes every column such a one.
fn fragile_columns(shape: &TableShape, schema: &Schema) -> HashSet<usize> {
    let mut fragile: HashSet<usize> = shape.locator.iter().chain(&shape.identity).copied().collect();
    if schema.table(&shape.name).is_none() {
        // What is no declared table is written row by row, whole.
        fragile.extend(0..shape.columns.len());
    }
    // A number that the engine always gives by itself can be inserted, but not be changed.
    if let Some(object) = schema.object(ObjectKind::Table, &shape.name) {
        let is_given = |name: &str| object.facts.get(&format!("identity {name}")).is_some_and(|kind| kind == "a");
        fragile.extend((0..shape.columns.len()).filter(|&at| is_given(&shape.columns[at].name)));
    }
    for index in schema.indexes.iter().filter(|index| index.unique && index.table == shape.name) {
        for column in &index.columns {
            match column.as_ref().map(|name| shape.columns.iter().position(|column| column.name == *name)) {
                Some(Some(column)) => {
                    fragile.insert(column);
                }
                // An expression, or a generated column.
                None | Some(None) => fragile.extend(0..shape.columns.len()),
            }
        }
    }
    fragile
}

/// What a rollback did.
#[derive(Debug, Clone)]
pub struct RolledBack {
    /// The snapshot of the live state before it; `undo` returns there.
    pub safety: Taken,
    /// What had to change.
    pub plan: Plan,
    /// What was written.
    pub written: Written,
    /// The snapshot of the state after it; equal to `safety`'s where nothing had to change, none where it could not be written.
    pub after: Option<ObjectId>,
    /// What became of the files, where they went with it.
    pub files: Option<files::Written>,
}

/// What goes on around a rollback.
pub struct Around<'a> {
    /// Sees each plan before anything is written, and may stop the rollback by returning false.
    pub on_plan: &'a mut dyn FnMut(&Plan, &Taken) -> Result<bool, OpError>,
    /// The files that go back with the database.
    pub files: Option<&'a mut Beside>,
}

/// Which tables a rollback concerns.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// The whole database.
    Everything,
    /// These tables, with their indexes and triggers; the rest stays as it is.
    Tables(&'a [String]),
}

/// Makes the live database equal to a state that is in the store, or changes nothing. A database that is gone is made anew.
///
/// `label` says what the safety snapshot is called. `first` is a snapshot just taken of the same engine's database, which then serves as the safety snapshot.
///
/// # Errors
/// The engine's and the store's, [`OpError::NotProven`]. In each case but [`EngineError::Uncertain`] the database is as it was.
pub fn rollback(
    session: &Session<'_>,
    engine: &mut dyn Engine,
    target: &State,
    scope: Scope<'_>,
    label: &Label,
    first: Option<Taken>,
    mut around: Around<'_>,
) -> Result<Option<RolledBack>, OpError> {
    let mut first = first;
    let newest = || Ok::<_, OpError>(capture::newest(session)?.map(|(id, _)| id));
    for _ in 1..ATTEMPTS_MAX {
        let taken = match first.take() {
            Some(taken) => taken,
            None => {
                let parent = newest()?;
                let mut read = engine.begin_read()?;
                // Recalled inside the transaction, so that what the stamp stands for is what was recalled.
                match seen::recall(session)?.filter(|(_, state)| has_same_rules(target, state)) {
                    Some((_, state)) => {
                        let stamp = read.stamp()?;
                        capture::save(session, label.clone(), state, parent, stamp)?
                    }
                    None => capture::take_from(session, &mut *read, label.clone(), Some(target), parent, Rules::Keep)?,
                }
            }
        };
        let refuse = &mut |plan: &Plan, wanted: &State| match obstacles(engine, plan, wanted)? {
            found if found.is_empty() => Ok(()),
            found => Err(OpError::Unwritable(found)),
        };
        let prepared = match prepare(session, taken, target, scope, label, refuse, &mut around)? {
            Ok(prepared) => prepared,
            Err(settled) => return Ok(settled.map(|settled| *settled)),
        };
        let mut transaction = engine.begin_write()?;
        // A stamp may be the whole server's, on which others write other databases.
        if transaction.stamp()? == prepared.taken.stamp || capture::is_unchanged(&mut *transaction, &prepared.taken.state)? {
            return finish(session, transaction, prepared, label, around.files).map(Some);
        }
    }
    // Others that keep writing are kept out at last. Before, they need not wait while the database is read and the plan is made.
    let mut transaction = engine.begin_write()?;
    let taken = if transaction.has_statements() {
        capture::take_from(session, &mut *transaction, label.clone(), Some(target), newest()?, Rules::Keep)?
    } else {
        // Who writes rows waits for this transaction; who reads does not.
        let mut beside = (session.open)()?;
        capture::take_from(session, &mut *beside.begin_read()?, label.clone(), Some(target), newest()?, Rules::Keep)?
    };
    // What this plan needs was found out about the one before.
    match prepare(session, taken, target, scope, label, &mut |_, _| Ok(()), &mut around)? {
        Ok(prepared) => finish(session, transaction, prepared, label, around.files).map(Some),
        Err(settled) => Ok(settled.map(|settled| *settled)),
    }
}

/// Finds what keeps a plan from being carried out with this engine. A table whose rows are patched is not looked at: which columns
/// change, and so which indexes, shows only then.
///
/// # Errors
/// The engine's.
pub fn obstacles(engine: &mut dyn Engine, plan: &Plan, wanted: &State) -> Result<Vec<Obstacle>, OpError> {
    let is_filled = |action| matches!(action, RowAction::Fill | RowAction::Rewrite);
    let written = plan.tables.iter().filter(|table| is_filled(table.action)).filter_map(|table| wanted.table(&table.name));
    let mut shapes: Vec<TableShape> = written.map(|(_, manifest)| manifest.shape()).collect();
    // An index that comes back is filled from rows that stay.
    for object in wanted.schema.objects.iter().filter(|object| plan.indexes.contains(&object.name)) {
        if !shapes.iter().any(|shape| shape.name == object.table) {
            shapes.extend(wanted.table(&object.table).map(|(_, manifest)| manifest.shape()));
        }
    }
    Ok(engine.obstacles(&wanted.schema, &shapes)?)
}

/// A rollback that is about to be carried out.
struct Prepared {
    taken: Taken,
    wanted: State,
    plan: Plan,
}

/// Plans; where there is nothing to carry out in the database, says how it ended: stopped, or with nothing to do but for the files.
fn prepare(
    session: &Session<'_>,
    taken: Taken,
    target: &State,
    scope: Scope<'_>,
    label: &Label,
    refuse: &mut dyn FnMut(&Plan, &State) -> Result<(), OpError>,
    around: &mut Around<'_>,
) -> Result<Result<Prepared, Option<Box<RolledBack>>>, OpError> {
    let wanted = match scope {
        Scope::Everything => target.clone(),
        Scope::Tables(names) => merge(&taken.state, target, names)?,
    };
    let plan = plan(&taken.state, &wanted);
    refuse(&plan, &wanted)?;
    if !(around.on_plan)(&plan, &taken)? {
        return Ok(Err(None));
    }
    if let Some(files) = &mut around.files {
        files.stage(session, taken.files.as_ref())?;
    }
    if plan.is_empty() {
        let (mut after, mut written) = (Some(taken.id), None);
        if let Some(files) = &mut around.files {
            if files.publish() {
                after = save_after(session, label, taken.state.clone(), &taken, Some(files));
            }
            written = files.written.clone();
        }
        return Ok(Err(Some(Box::new(RolledBack { safety: taken, plan, written: Written::default(), after, files: written }))));
    }
    Ok(Ok(Prepared { taken, wanted, plan }))
}

fn finish(
    session: &Session<'_>,
    mut transaction: Box<dyn WriteTransaction + '_>,
    prepared: Prepared,
    label: &Label,
    mut files: Option<&mut Beside>,
) -> Result<RolledBack, OpError> {
    let Prepared { taken, wanted, plan } = prepared;
    if let Some(mark) = &taken.state.mark {
        transaction.starts_as(mark)?;
    }
    // Nobody writes from here on: what is the file's now is what the transaction began with.
    let memory = taken.state.memory.clone().or_else(|| seen::memory_of_now(session));
    if let Some(memory) = &memory {
        transaction.starts_as_remembered(&memory.engine);
    }
    let taken = Taken { state: State { memory, ..taken.state }, ..taken };
    let (written, memory) = apply_proven(&mut *transaction, &plan, &taken.state, &wanted, session)?;
    // Everything that the new snapshot refers to is durable before the database is what it says.
    let batch = session.store.begin(BatchMode::Durable)?;
    build::put_json(&batch, &wanted.schema, None)?;
    batch.finish()?;
    transaction.commit()?;
    // From here on the rollback has happened, whatever else fails.
    if let Some(files) = &mut files {
        files.publish();
    }
    // The mark is of the state before; the memory is of this one.
    let wanted = State { mark: None, memory, ..wanted };
    let after = save_after(session, label, wanted, &taken, files.as_deref_mut());
    let files = files.and_then(|files| files.written.clone());
    Ok(RolledBack { safety: taken, plan, written, after, files })
}

/// Takes the snapshot of the state after a rollback, and proves the files that went with it. That it cannot be written is told.
fn save_after(session: &Session<'_>, label: &Label, state: State, before: &Taken, files: Option<&mut Beside>) -> Option<ObjectId> {
    let label = Label { kind: SnapshotKind::Restored, ..label.clone() };
    match capture::save(session, label, state, Some(before.id), before.stamp) {
        Ok(saved) => {
            if let Some(files) = files {
                files.prove(saved.files.as_ref());
            }
            Some(saved.id)
        }
        Err(error) => {
            session.progress.warn(&format!("the snapshot of the new state could not be written: {}", with_causes(&error)));
            None
        }
    }
}

/// What a rollback is to the operation log.
#[derive(Debug, Clone, Copy)]
pub struct Intent {
    /// Rollback, undo or redo.
    pub kind: OperationKind,
    /// The snapshot to go to.
    pub target: ObjectId,
    /// For undo and redo, the operation that is undone or redone.
    pub of: Option<u64>,
    /// Whether the files beside the database go with it.
    pub files: bool,
}

/// What became of a rollback.
#[derive(Debug, Clone)]
pub enum Done {
    /// The caller stopped it at the plan.
    Stopped,
    /// The database is what it was to be.
    RolledBack(Box<RolledBack>),
    /// There was no database, and it was made anew.
    Recreated {
        /// What was written.
        written: Written,
        /// The snapshot of the state after it.
        after: ObjectId,
    },
}

/// Rolls back with a journal: a beginning before anything is touched, an end afterwards.
///
/// `on_plan` is asked as in [`rollback`]. A database that is gone is made anew without asking.
///
/// # Errors
/// As [`rollback`]; the journal has an end then too, where it can be written and the end is known.
pub fn run(
    session: &Session<'_>,
    intent: Intent,
    scope: Scope<'_>,
    on_plan: &mut dyn FnMut(&Plan, &Taken) -> Result<bool, OpError>,
) -> Result<Done, OpError> {
    let store = session.store;
    let snapshot = capture::read_snapshot(store, intent.target)?;
    let target = capture::load(store, &snapshot)?;
    let mut beside = if intent.files { Some(Beside::of(session, intent.target, snapshot.files)?) } else { None };
    let message = format!("{} to {}", intent.kind.word(), intent.target.short());
    let begin = |before: Option<ObjectId>| {
        let mut entry = Entry::new(session, intent.kind, Phase::Begin);
        (entry.before, entry.after, entry.of, entry.files) = (before, Some(intent.target), intent.of, intent.files);
        let index = journal::write(store, &entry)?;
        Ok::<Entry, OpError>(Entry { phase: Phase::End, begin: Some(index), ..entry })
    };
    let end = |mut entry: Entry, after: Option<ObjectId>, result: OperationResult, note: Option<String>| {
        (entry.time, entry.after, entry.result, entry.note) = (session.stamp(), after, Some(result), note);
        journal::write(store, &entry)
    };
    // Whatever an operation came to has come about by its end. Where that cannot be written, the next command finds it unfinished, and sees.
    let tell = |ended: Result<u64, StoreError>| {
        if let Err(error) = ended {
            session.progress.warn(&format!("the operation log could not be written: {}", with_causes(&error)));
        }
    };
    let mut engine = match (session.open)() {
        Ok(engine) => engine,
        Err(error) if error.is_no_database() => {
            // Without a database there is no safety snapshot, and without that no file is touched.
            let entry = Entry { files: false, ..begin(None)? };
            match recreate(session, &target, session.place.look().as_ref()) {
                Ok(written) => {
                    tell(end(entry, Some(intent.target), OperationResult::Done, Some("the database was gone".to_owned())));
                    return Ok(Done::Recreated { written, after: intent.target });
                }
                Err(error) => {
                    tell(end(entry, None, OperationResult::Failed, Some(error.to_string())));
                    return Err(error);
                }
            }
        }
        Err(error) => return Err(error.into()),
    };
    let mut begun: Option<Entry> = None;
    let label = safety_label(message);
    let mut on_plan = |plan: &Plan, taken: &Taken| {
        if !on_plan(plan, taken)? {
            return Ok(false);
        }
        if let Some(entry) = begun.take() {
            end(entry, None, OperationResult::Failed, Some("others wrote meanwhile; it was begun anew".to_owned()))?;
        }
        begun = Some(begin(Some(taken.id))?);
        Ok(true)
    };
    let around = Around { on_plan: &mut on_plan, files: beside.as_mut() };
    let result = rollback(session, &mut *engine, &target, scope, &label, None, around);
    match (result, begun) {
        (Ok(Some(done)), Some(entry)) => {
            let whole = matches!(scope, Scope::Everything).then_some(intent.target);
            let failures = done.files.as_ref().map_or(0, |files| files.failures.len());
            let note = (failures > 0).then(|| format!("{failures} of its files are not what they were to be"));
            // The next command finds it unfinished, and the database as it was to be.
            tell(end(entry, done.after.or(whole), OperationResult::Done, note));
            Ok(Done::RolledBack(Box::new(done)))
        }
        (Ok(_), _) => Ok(Done::Stopped),
        // The next command finds it unfinished, and sees what came of it.
        (Err(error @ OpError::Engine(EngineError::Uncertain)), _) => Err(error),
        (Err(error), entry) => {
            if let Some(entry) = entry {
                let before = entry.before;
                tell(end(entry, before, OperationResult::Failed, Some(error.to_string())));
            }
            Err(error)
        }
    }
}

/// Makes a database that is gone, or is none any more, anew. What stands in its place, and journals that were left beside it, get other
/// names first, which is told; the new database would take them for its own. It is like the file was, where that is known.
///
/// # Errors
/// As [`restore`], and the system's. There is no database then, or an empty one.
pub fn recreate(session: &Session<'_>, target: &State, like: Option<&FileLook>) -> Result<Written, OpError> {
    let aside = session.place.set_aside(like).map_err(|source| OpError::Aside { place: session.source.place.clone(), source })?;
    // Told whatever comes of it: it is somebody's file.
    if let Some(aside) = aside {
        session.progress.warn(&format!("what stood in the database's place is `{}` now", aside.display()));
    }
    let mut engine = (session.create)(&target.settings)?;
    let (_, written) = restore(session, &mut *engine, target)?;
    Ok(written)
}

/// Writes a state into an empty database.
///
/// # Errors
/// As [`rollback`]; the database stays empty then.
pub fn restore(session: &Session<'_>, engine: &mut dyn Engine, target: &State) -> Result<(Plan, Written), OpError> {
    let (empty, _) = {
        let mut read = engine.begin_read()?;
        let references = References { rules: Some(target), known: None };
        capture::read_state(&mut *read, session.store, BatchMode::IdsOnly, references, Rules::Keep, session.progress)?
    };
    let plan = plan(&empty, target);
    let obstacles = obstacles(engine, &plan, target)?;
    if !obstacles.is_empty() {
        return Err(OpError::Unwritable(obstacles));
    }
    let mut transaction = engine.begin_write()?;
    let (written, _) = apply_proven(&mut *transaction, &plan, &empty, target, session)?;
    transaction.commit()?;
    Ok((plan, written))
}

/// Makes the label of a safety snapshot.
pub fn safety_label(message: String) -> Label {
    Label { message: Some(message), ..Label::new(SnapshotKind::Safety) }
}
