//! Taking a snapshot: one read transaction, row groups hashed and compressed on all cores, everything durable and read back before
//! the snapshot's file is written.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::seen::{self, Seen};
use super::{OpError, Session};
use crate::engine::ReadTransaction;
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};
use crate::rows::{CutRule, RowGroup, TableShape};
use crate::schema::{Schema, SettingScope, Settings};
use crate::snapshot::build::{self, Bases, StoredGroup};
use crate::snapshot::manifest::{FORMAT_VERSION, Node, Origin, Snapshot, SnapshotKind, TableEntry, TableManifest, keeps_generated};
use crate::store::{Batch, BatchMode, BatchStats, Store, StoreError};

/// The most threads that hash and compress.
const THREADS_MAX: usize = 16;

/// JSON bytes a row that are assumed for a table that is still empty.
const EMPTY_ROW_BYTES: u64 = 128;

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
    /// What it added to the store.
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
    reference: Option<&State>,
    rules: Rules,
    progress: &dyn Progress,
) -> Result<(State, BatchStats), OpError> {
    let batch = store.begin(mode)?;
    let schema = transaction.schema()?;
    let settings = transaction.settings()?;
    let schema_id = build::put_json(&batch, &schema, reference.map(|state| &state.schema_id))?;
    let shapes = transaction.shapes()?;
    let tables = read_tables(transaction, store, &batch, &shapes, reference, rules, progress)?;
    let stats = batch.finish()?;
    Ok((State { schema_id, schema, settings, tables, format: FORMAT_VERSION }, stats))
}

/// Reads the wanted tables only, with the reference's rules, and stores nothing.
///
/// # Errors
/// As [`read_state`].
pub fn read_ids(
    transaction: &mut dyn ReadTransaction,
    store: &Store,
    reference: &State,
    wanted: &dyn Fn(&str) -> bool,
    progress: &dyn Progress,
) -> Result<Vec<(ObjectId, TableManifest)>, OpError> {
    let batch = store.begin(BatchMode::IdsOnly)?;
    let mut shapes = transaction.shapes()?;
    shapes.retain(|shape| wanted(&shape.name));
    let shapes: Vec<TableShape> = shapes.iter().map(|shape| as_kept(shape, reference)).collect();
    let tables = read_tables(transaction, store, &batch, &shapes, Some(reference), Rules::Keep, progress)?;
    batch.finish()?;
    Ok(tables)
}

struct Job<'a> {
    table: usize,
    sequence: usize,
    group: RowGroup,
    bases: &'a Bases,
}

/// What the workers hand back: for each table its groups with their place in it.
type Collected = Mutex<Vec<Vec<(usize, StoredGroup)>>>;

fn read_tables(
    transaction: &mut dyn ReadTransaction,
    store: &Store,
    batch: &Batch<'_>,
    shapes: &[TableShape],
    reference: Option<&State>,
    policy: Rules,
    progress: &dyn Progress,
) -> Result<Vec<(ObjectId, TableManifest)>, OpError> {
    let mut plans: Vec<(CutRule, Bases)> = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let earlier = reference.and_then(|state| state.table(&shape.name));
        let rule = match earlier {
            Some((_, manifest)) if policy == Rules::Keep || !manifest.cut.is_outgrown(manifest.rows, manifest.bytes) => manifest.cut,
            _ => match transaction.row_bytes(shape)? {
                0 => CutRule::for_row_bytes(EMPTY_ROW_BYTES),
                bytes => CutRule::for_row_bytes(bytes),
            },
        };
        plans.push((rule, earlier.map_or_else(Bases::default, |(id, manifest)| bases(store, *id, manifest, shape))));
    }
    let known = reference.map_or(0, State::rows);
    progress.begin("reading", (known > 0).then_some(known), Unit::Rows);
    let collected: Collected = Mutex::new(shapes.iter().map(|_| Vec::new()).collect());
    let failed: Mutex<Option<StoreError>> = Mutex::new(None);
    let read = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, NonZero::get).clamp(1, THREADS_MAX);
        let (sender, receiver) = crossbeam_channel::bounded::<Job<'_>>(threads * 2);
        for _ in 0..threads {
            let receiver = receiver.clone();
            let (collected, failed) = (&collected, &failed);
            scope.spawn(move || {
                for job in receiver {
                    match build::store_group(batch, job.group, job.bases) {
                        Ok(stored) => lock(collected)[job.table].push((job.sequence, stored)),
                        Err(error) => {
                            lock(failed).get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
        drop(receiver);
        for (table, (shape, (rule, bases))) in shapes.iter().zip(&plans).enumerate() {
            let mut sequence = 0;
            transaction.read_table(shape, *rule, &mut |group| {
                progress.advance(group.rows);
                let job = Job { table, sequence, group, bases };
                sequence += 1;
                // Sending fails when every worker is gone, which only an error does.
                if lock(&failed).is_some() || sender.send(job).is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok::<(), OpError>(())
    });
    progress.finish();
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error.into());
    }
    read?;
    let mut tables = Vec::with_capacity(shapes.len());
    let collected = collected.into_inner().unwrap_or_else(PoisonError::into_inner);
    for ((shape, (rule, bases)), mut groups) in shapes.iter().zip(&plans).zip(collected) {
        groups.sort_unstable_by_key(|(sequence, _)| *sequence);
        let groups = groups.into_iter().map(|(_, stored)| stored).collect();
        tables.push(build::assemble(batch, shape, *rule, groups, bases)?);
    }
    Ok(tables)
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked left a plain list behind, which is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finds what an earlier manifest offers as bases. What cannot be read is left out: bases only save space.
fn bases(store: &Store, id: ObjectId, manifest: &TableManifest, shape: &TableShape) -> Bases {
    let slot = |name: &str| manifest.columns.iter().position(|column| column.shape.name == name);
    let mut bases =
        Bases { manifest: Some(id), slots: shape.columns.iter().map(|column| slot(&column.name)).collect(), ..Bases::default() };
    if let Some(root) = manifest.root {
        collect_bases(store, root, manifest.depth, &mut bases);
    }
    bases
}

/// Walks a tree depth first, so that a node's first key is known when it is left; returns that key.
fn collect_bases(store: &Store, id: ObjectId, level: u32, bases: &mut Bases) -> Option<String> {
    let node: Node = serde_json::from_slice(&store.get(&id).ok()?).ok()?;
    let first = match node {
        Node::Groups(groups) => {
            let first = groups.first()?.first.clone();
            bases.groups.extend(groups.into_iter().map(|group| (group.first, group.columns)));
            first
        }
        Node::Nodes(children) => {
            let below = level.checked_sub(1).filter(|below| *below > 0)?;
            let mut first = None;
            for child in children {
                let key = collect_bases(store, child.node, below, bases)?;
                first.get_or_insert(key);
            }
            first?
        }
    };
    bases.nodes.insert((level, first.clone()), id);
    Some(first)
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
    let reference = head.as_ref().map(|(_, snapshot)| load(session.store, snapshot)).transpose()?;
    let fingerprint = (session.fingerprint)();
    let mut engine = (session.open)()?;
    let taken = take_from(session, &mut *engine.begin_read()?, label, reference.as_ref(), parent, Rules::Adapt)?;
    drop(engine);
    if let Some(fingerprint) = fingerprint
        && (session.fingerprint)().as_ref() == Some(&fingerprint)
    {
        seen::remember(session, &Seen { fingerprint, snapshot: taken.id, findings: None });
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
    let (state, stats) = read_state(transaction, session.store, BatchMode::Durable, reference, rules, session.progress)?;
    let stamp = transaction.stamp()?;
    let taken = save_at(session, label, state, parent, stamp, time)?;
    Ok(Taken { stats, ..taken })
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
        origin: Origin { command: label.command, ..session.origin.clone() },
    };
    let json = serde_json::to_vec(&snapshot).expect("the format's types have string keys and no failing serializer");
    let id = session.store.put_snapshot(&json)?;
    Ok(Taken { id, snapshot, state, stats: BatchStats::default(), stamp })
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
    let format = |source| OpError::Format { what: "snapshot", id, source };
    let Version { format: found } = serde_json::from_slice(&json).map_err(format)?;
    if found > FORMAT_VERSION {
        return Err(OpError::NewerSnapshot { id, found, supported: FORMAT_VERSION });
    }
    serde_json::from_slice(&json).map_err(format)
}

/// Reads all snapshots of all sources, oldest first.
///
/// # Errors
/// As [`read_snapshot`].
pub fn snapshots(store: &Store) -> Result<Vec<(ObjectId, Snapshot)>, OpError> {
    let mut found = Vec::new();
    for id in store.snapshot_ids()? {
        found.push((id, read_snapshot(store, id)?));
    }
    found.sort_by(|(_, a), (_, b)| a.time.cmp(&b.time));
    // Of two in one millisecond the parent is the older.
    for at in 1..found.len() {
        if found[at - 1].1.time == found[at].1.time && found[at - 1].1.parent == Some(found[at].0) {
            found.swap(at - 1, at);
        }
    }
    Ok(found)
}

/// Returns the newest snapshot of the session's source.
///
/// # Errors
/// As [`read_snapshot`].
pub fn newest(session: &Session<'_>) -> Result<Option<(ObjectId, Snapshot)>, OpError> {
    Ok(snapshots(session.store)?.into_iter().rfind(|(_, snapshot)| snapshot.source == session.source))
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
    Ok(State { schema_id: snapshot.schema, schema, settings: snapshot.settings.clone(), tables, format: snapshot.format })
}
