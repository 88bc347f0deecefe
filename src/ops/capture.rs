//! Taking a snapshot: one read transaction, row groups hashed and compressed on all cores, then the files beside the database ([`super::files`]), everything
//! durable and read back before the snapshot's file is written.

use std::sync::Arc;

use super::files::{self, Captured, Unreadable};
use super::memory::Memory;
use super::seen::{self, Seen};
use super::tables::{Found, Known, Reading};
use super::{OpError, Session};
use crate::engine::{Changes, ReadTransaction};
use crate::id::ObjectId;
use crate::progress::Progress;
use crate::rows::TableShape;
use crate::schema::{Schema, SettingScope, Settings, TableKind};
use crate::snapshot::build;
use crate::snapshot::manifest::{FORMAT_VERSION, Origin, Snapshot, SnapshotKind, TableEntry, TableManifest, keeps_generated};
use crate::store::{BatchMode, BatchStats, Store, StoreError};

/// A state whose objects were all built: what a snapshot file would say of it.
#[derive(Debug, Clone)]
pub struct State {
    /// The id of the schema object.
    pub schema_id: ObjectId,
    /// The schema.
    pub schema: Schema,
    /// The settings.
    pub settings: Settings,
    /// The tables' manifests with their ids, in creation order.
    pub tables: Vec<(ObjectId, TableManifest)>,
    /// The version of the snapshot format that its manifests have.
    pub format: u32,
    /// The engine's mark of it, where it was just read into the store, or is remembered ([`ReadTransaction::mark`]).
    pub mark: Option<String>,
    /// What is remembered of how it was read, likewise.
    pub memory: Option<Arc<Memory>>,
}

impl State {
    /// Finds a table's manifest by exact name.
    pub fn table(&self, name: &str) -> Option<&(ObjectId, TableManifest)> {
        self.tables.iter().find(|(_, manifest)| manifest.name == name)
    }

    /// Tells whether both are the same state: schema, rows, and the settings that a rollback restores. Exact where the same cut
    /// rules were used; otherwise it may tell no where the answer is yes, never the reverse.
    pub fn is_same(&self, other: &Self) -> bool {
        self.schema.is_same(&other.schema)
            && exact_settings(&self.settings).eq(exact_settings(&other.settings))
            && self.tables.iter().map(|(id, _)| id).eq(other.tables.iter().map(|(id, _)| id))
    }

    /// Returns how many rows all tables have together.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, manifest)| manifest.rows).sum()
    }
}

/// Returns the settings that a rollback restores, by name.
pub fn exact_settings(settings: &Settings) -> impl Iterator<Item = (&str, &str)> {
    let exact = settings.iter().filter(|(_, setting)| setting.scope == SettingScope::Exact);
    exact.map(|(name, setting)| (name.as_str(), setting.value.as_str()))
}

/// Which cut rules a capture uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// Those of the reference state, so that ids can be compared; sampled ones for tables that it does not have.
    Keep,
    /// The same, but for tables that have outgrown theirs.
    Adapt,
}

/// A snapshot that is in the store.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its id.
    pub id: ObjectId,
    /// Its file's content.
    pub snapshot: Snapshot,
    /// Its state.
    pub state: State,
    /// The files beside the database, as they were read for it.
    pub files: Option<Captured>,
    /// What it added to the store, its files not counted.
    pub stats: BatchStats,
    /// The engine's stamp at the end of reading, see [`ReadTransaction::stamp`].
    pub stamp: u64,
}

/// What a snapshot's file says besides its state.
#[derive(Debug, Clone)]
pub struct Label {
    /// Why it is taken.
    pub kind: SnapshotKind,
    /// What its maker says.
    pub message: Option<String>,
    /// The migration command.
    pub command: Vec<String>,
}

impl Label {
    /// Makes a label without message and command.
    pub fn new(kind: SnapshotKind) -> Self {
        Self { kind, message: None, command: Vec::new() }
    }
}

/// Reads a state, building its objects into a batch of this mode.
///
/// # Errors
/// The engine's and the store's; nothing is left behind then.
pub fn read_state(
    transaction: &mut dyn ReadTransaction,
    store: &Store,
    mode: BatchMode,
    references: References<'_>,
    rules: Rules,
    progress: &dyn Progress,
) -> Result<(State, BatchStats), OpError> {
    let References { rules: reference, known } = references;
    let batch = store.begin(mode)?;
    let mark = if mode == BatchMode::Durable { transaction.mark()? } else { None };
    let schema = transaction.schema()?;
    let settings = transaction.settings()?;
    let schema_id = build::put_json(&batch, &schema, reference.map(|state| &state.schema_id))?;
    let shapes = transaction.shapes()?;
    let known = known.map(|known| Known { state: known, schema: &schema });
    let found = Reading { store, batch: &batch, shapes: &shapes, reference, known, rules, progress }.run(transaction)?;
    let keys: Vec<(&str, String)> = found.iter().map(|table| (table.manifest.name.as_str(), table.id.to_string())).collect();
    let memory = if mode == BatchMode::Durable { transaction.memory(&keys)? } else { None };
    let facts = || found.iter().filter_map(|table| Some((table.id, table.facts.clone()?))).collect();
    let memory = memory.map(|engine| Arc::new(Memory { tables: facts(), engine }));
    let tables = found.into_iter().map(|table| (table.id, table.manifest)).collect();
    let stats = batch.finish()?;
    Ok((State { schema_id, schema, settings, tables, format: FORMAT_VERSION, mark, memory }, stats))
}

/// What a state is read with.
#[derive(Debug, Clone, Copy, Default)]
pub struct References<'a> {
    /// Whose cut rules are used.
    pub rules: Option<&'a State>,
    /// An earlier state with a mark: what did not change since is not read again.
    pub known: Option<&'a State>,
}

/// Reads the wanted tables only, with the reference's rules, and stores nothing. They must be declared as the reference's are.
///
/// # Errors
/// As [`read_state`].
pub(super) fn read_ids(
    transaction: &mut dyn ReadTransaction,
    store: &Store,
    reference: &State,
    known: Option<&State>,
    wanted: &dyn Fn(&str) -> bool,
    progress: &dyn Progress,
) -> Result<Vec<Found>, OpError> {
    let batch = store.begin(BatchMode::IdsOnly)?;
    let mut shapes = transaction.shapes()?;
    shapes.retain(|shape| wanted(&shape.name));
    let shapes: Vec<TableShape> = shapes.iter().map(|shape| as_kept(shape, reference)).collect();
    let known = known.map(|known| Known { state: known, schema: &reference.schema });
    let reading = Reading { store, batch: &batch, shapes: &shapes, reference: Some(reference), known, rules: Rules::Keep, progress };
    let found = reading.run(transaction)?;
    batch.finish()?;
    Ok(found)
}

/// Returns a shape as a state of an earlier format keeps it, whose ids are to be compared with.
fn as_kept(shape: &TableShape, state: &State) -> TableShape {
    match state.table(&shape.name) {
        Some((_, manifest)) if !keeps_generated(state.format) => {
            shape.clone().without_generated(&|name| manifest.columns.iter().any(|column| column.shape.name == name))
        }
        _ => shape.clone(),
    }
}

/// Takes a snapshot of the session's database. One that nobody wrote since it was seen is not read again.
///
/// # Errors
/// The engine's and the store's. The store holds no new snapshot then.
pub fn take(session: &Session<'_>, label: Label) -> Result<Taken, OpError> {
    let head = newest(session)?;
    let parent = head.as_ref().map(|(id, _)| *id);
    if let Some((seen, state)) = seen::recall(session)? {
        let taken = save(session, label, state, parent, 0)?;
        seen::remember(session, &Seen { snapshot: taken.id, ..seen });
        return Ok(taken);
    }
    let reference = match &head {
        Some((_, snapshot)) => Some(load(session.store, snapshot).or_else(|error| load_rest(session, error))?),
        None => None,
    };
    let fingerprint = (session.fingerprint)();
    let mut engine = (session.open)()?;
    let taken = take_from(session, &mut *engine.begin_read()?, label, reference.as_ref(), parent, Rules::Adapt)?;
    tell_skipped(session, &taken.state.schema);
    drop(engine);
    if let Some(fingerprint) = fingerprint
        && (session.fingerprint)().as_ref() == Some(&fingerprint)
    {
        let memory = taken.state.memory.is_some().then_some(taken.id);
        seen::remember(session, &Seen { fingerprint, snapshot: taken.id, findings: None, is_sound: false, memory });
    }
    Ok(taken)
}

/// Takes a snapshot of what a transaction sees, with the cut rules of a reference state.
///
/// # Errors
/// As [`take`].
pub fn take_from(
    session: &Session<'_>,
    transaction: &mut dyn ReadTransaction,
    label: Label,
    reference: Option<&State>,
    parent: Option<ObjectId>,
    rules: Rules,
) -> Result<Taken, OpError> {
    let time = session.stamp();
    let known = seen::marked(session)?;
    let references = References { rules: reference, known: known.as_ref() };
    let (state, stats) = read_state(transaction, session.store, BatchMode::Durable, references, rules, session.progress)?;
    let stamp = transaction.stamp()?;
    let taken = save_at(session, label, state, parent, stamp, time)?;
    Ok(Taken { stats, ..taken })
}

/// Names the tables whose rows are no part of a snapshot.
pub(super) fn tell_skipped(session: &Session<'_>, schema: &Schema) {
    for table in schema.tables.iter().filter(|table| table.kind == TableKind::Foreign) {
        session.progress.warn(&format!("the rows of foreign table `{}` live elsewhere and are no part of the snapshot", table.name));
    }
}

/// Tells whether a transaction still sees a state that was read before, by what the engine says of every table; no where it cannot tell.
///
/// # Errors
/// The engine's.
pub(super) fn is_unchanged(transaction: &mut dyn ReadTransaction, state: &State) -> Result<bool, OpError> {
    let Some(mark) = &state.mark else { return Ok(false) };
    let schema = transaction.schema()?;
    if state.schema.contradicted_by(&schema, &|_| true).is_some() {
        return Ok(false);
    }
    if !exact_settings(&transaction.settings()?).eq(exact_settings(&state.settings)) {
        return Ok(false);
    }
    let shapes = transaction.shapes()?;
    if shapes.len() != state.tables.len() {
        return Ok(false);
    }
    for shape in &shapes {
        let Some((_, manifest)) = state.table(&shape.name).filter(|(_, manifest)| manifest.shape() == *shape) else { return Ok(false) };
        match transaction.changes(mark, shape, manifest.rows, 0)? {
            Changes::Rows { new, gone: 0, .. } if new.is_empty() => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Writes the snapshot file of a state whose objects are durable already.
///
/// # Errors
/// The store's.
pub fn save(session: &Session<'_>, label: Label, state: State, parent: Option<ObjectId>, stamp: u64) -> Result<Taken, OpError> {
    save_at(session, label, state, parent, stamp, session.stamp())
}

/// As [`save`], of a state that was read at this time.
pub(super) fn save_at(
    session: &Session<'_>,
    label: Label,
    state: State,
    parent: Option<ObjectId>,
    stamp: u64,
    time: String,
) -> Result<Taken, OpError> {
    let files = files::capture(session, BatchMode::Durable, Unreadable::of(label.kind))?;
    let entry = |(id, manifest): &(ObjectId, TableManifest)| TableEntry { name: manifest.name.clone(), rows: manifest.rows, manifest: *id };
    let snapshot = Snapshot {
        format: state.format,
        source: session.source.clone(),
        time,
        kind: label.kind,
        message: label.message,
        parent,
        schema: state.schema_id,
        settings: state.settings.clone(),
        tables: state.tables.iter().map(entry).collect(),
        files: files.as_ref().map(|files| files.id),
        origin: Origin { command: label.command, ..session.origin.clone() },
    };
    let json = serde_json::to_vec(&snapshot).expect("the format's types have string keys and no failing serializer");
    let id = session.store.put_snapshot(&json)?;
    if let Some(mark) = &state.mark {
        seen::remember_mark(session, id, mark);
    }
    if let Some(memory) = &state.memory {
        seen::remember_memory(session, id, memory);
    }
    Ok(Taken { id, snapshot, state, files, stats: BatchStats::default(), stamp })
}

/// Reads a snapshot's file.
///
/// # Errors
/// [`OpError::Store`], [`OpError::Format`], [`OpError::NewerSnapshot`].
pub fn read_snapshot(store: &Store, id: ObjectId) -> Result<Snapshot, OpError> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let json = store.snapshot(&id)?;
    let read = serde_json::from_slice::<Snapshot>(&json);
    // Only what is not of this format is read twice: a later one may look like this one, or not.
    let found = match &read {
        Ok(snapshot) => snapshot.format,
        Err(_) => serde_json::from_slice(&json).map_or(0, |Version { format }| format),
    };
    if found > FORMAT_VERSION {
        return Err(OpError::NewerSnapshot { id, found, supported: FORMAT_VERSION });
    }
    read.map_err(|source| OpError::Format { what: "snapshot", id, source })
}

/// Reads all snapshots of all sources, oldest first. Those whose files are damaged are left out: what is damaged costs only itself, and `fsck` names it.
///
/// # Errors
/// As [`read_snapshot`].
pub fn snapshots(store: &Store) -> Result<Vec<(ObjectId, Snapshot)>, OpError> {
    let mut found = Vec::new();
    for id in store.snapshot_ids()? {
        match read_snapshot(store, id) {
            Ok(snapshot) => found.push((id, snapshot)),
            Err(OpError::Store(StoreError::DamagedSnapshot(_)) | OpError::Format { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    sort(&mut found);
    Ok(found)
}

/// Puts snapshots in the order in which they were taken, oldest first.
pub(super) fn sort(found: &mut [(ObjectId, Snapshot)]) {
    found.sort_by(|(_, a), (_, b)| a.time.cmp(&b.time));
    // Of two in one millisecond the parent is the older.
    for at in 1..found.len() {
        if found[at - 1].1.time == found[at].1.time && found[at - 1].1.parent == Some(found[at].0) {
            found.swap(at - 1, at);
        }
    }
}

/// Returns the newest snapshot of the session's source.
///
/// # Errors
/// As [`read_snapshot`].
pub fn newest(session: &Session<'_>) -> Result<Option<(ObjectId, Snapshot)>, OpError> {
    Ok(snapshots(session.store)?.into_iter().rfind(|(_, snapshot)| snapshot.source == session.source))
}

/// Gathers what can still be read of the tables of the newest snapshots, each as the newest that has it does: enough to cut their rows as before, so
/// that what is the same gets the ids that it had. Only for what is missing or damaged; any other error is given back.
fn load_rest(session: &Session<'_>, error: OpError) -> Result<State, OpError> {
    if !matches!(error, OpError::Store(StoreError::Missing(_) | StoreError::Damaged { .. }) | OpError::Format { .. }) {
        return Err(error);
    }
    session.progress.warn(&format!("the newest snapshot is damaged ({error}); everything is read anew"));
    let mut rest = State {
        schema_id: ObjectId([0; 32]),
        schema: Schema::default(),
        settings: Settings::new(),
        tables: Vec::new(),
        format: FORMAT_VERSION,
        mark: None,
        memory: None,
    };
    for (_, snapshot) in snapshots(session.store)?.into_iter().rev().filter(|(_, snapshot)| snapshot.source == session.source) {
        for entry in &snapshot.tables {
            if rest.table(&entry.name).is_some() {
                continue;
            }
            let manifest = session.store.get(&entry.manifest).ok().and_then(|json| serde_json::from_slice::<TableManifest>(&json).ok());
            rest.tables.extend(manifest.filter(TableManifest::is_consistent).map(|manifest| (entry.manifest, manifest)));
        }
    }
    Ok(rest)
}

/// Reads what a snapshot refers to: its schema and manifests, not its rows.
///
/// # Errors
/// [`OpError::Store`] where an object is missing or damaged, [`OpError::Format`].
pub fn load(store: &Store, snapshot: &Snapshot) -> Result<State, OpError> {
    fn object<T: serde::de::DeserializeOwned>(store: &Store, what: &'static str, id: ObjectId) -> Result<T, OpError> {
        serde_json::from_slice(&store.get(&id)?).map_err(|source| OpError::Format { what, id, source })
    }
    let table = |entry: &TableEntry| -> Result<(ObjectId, TableManifest), OpError> {
        let manifest: TableManifest = object(store, "table manifest", entry.manifest)?;
        let misfit = || serde::de::Error::custom("its columns and keys do not fit together");
        if !manifest.is_consistent() {
            return Err(OpError::Format { what: "table manifest", id: entry.manifest, source: misfit() });
        }
        Ok((entry.manifest, manifest))
    };
    let tables = snapshot.tables.iter().map(table).collect::<Result<_, OpError>>()?;
    let schema = object(store, "schema", snapshot.schema)?;
    Ok(State {
        schema_id: snapshot.schema,
        schema,
        settings: snapshot.settings.clone(),
        tables,
        format: snapshot.format,
        mark: None,
        memory: None,
    })
}
