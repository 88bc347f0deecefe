//! Reading the tables of a state: known ones are recognised, large ones are read in parts side by side where the engine can, row groups are hashed and
//! compressed on all cores.

mod again;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::OpError;
use super::capture::{Rules, State};
use super::memory::Memory;
use crate::engine::{Changes, EngineError, ReadTransaction, TablePart};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};
use crate::rows::{CutRule, RowGroup, TableShape};
use crate::schema::{ObjectKind, Schema, SchemaObject};
use crate::snapshot::build::{self, Bases, StoredGroup};
use crate::snapshot::manifest::TableManifest;
use crate::snapshot::regroup::{self, GroupFacts};
use crate::snapshot::seam::{self, Ends, Part};
use crate::snapshot::splice::{self, Changed, SpliceError};
use crate::store::{Batch, Store, StoreError};

/// How many parts a table is read in for each transaction that reads, so that none of them ends long after the others.
const PARTS_PER_READER: usize = 4;

/// The distance of the sequence numbers of two parts; those of the groups at their heads come first.
const PART_STRIDE: u64 = 1 << 32;

/// More than the groups at a part's head.
const HEAD_STRIDE: u64 = 1 << 16;

/// JSON bytes a row that are assumed for a table that is still empty.
const EMPTY_ROW_BYTES: u64 = 128;

/// How many changed rows are taken over one by one in any table.
const SPLICED_ROWS_MIN: u64 = 2_000;

/// The share of a table's rows, as one in so many, up to which changed rows are taken over one by one.
const SPLICED_SHARE: u64 = 50;

/// The most threads that hash and compress.
const THREADS_MAX: usize = 16;

/// An earlier state, and what the database declares now.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub state: &'a State,
    pub schema: &'a Schema,
}

impl<'a> Known<'a> {
    /// Returns what is known of a table and still stands for it if no row was changed: it has the same columns, and what its values mean is
    /// declared in the same way.
    fn table(&self, shape: &TableShape, rule: CutRule) -> Option<(&'a str, &'a (ObjectId, TableManifest))> {
        let mark = self.state.mark.as_deref()?;
        let found = self.state.table(&shape.name).filter(|(_, manifest)| manifest.cut == rule && manifest.shape() == *shape)?;
        let kinds = [ObjectKind::Table, ObjectKind::MaterializedView];
        let twin = |schema: &'a Schema| kinds.iter().find_map(|kind| schema.object(*kind, &shape.name));
        let (then, now) = (twin(&self.state.schema)?, twin(self.schema)?);
        (then.is_same(now) && self.has_same_types()).then_some((mark, found))
    }

    fn has_same_types(&self) -> bool {
        let is_type = |object: &&SchemaObject| matches!(object.kind, ObjectKind::Type | ObjectKind::Extension);
        let types = |schema: &'a Schema| schema.objects.iter().filter(is_type);
        types(self.schema).count() == types(&self.state.schema).count()
            && types(self.schema).all(|object| self.state.schema.object(object.kind, &object.name).is_some_and(|then| then.is_same(object)))
    }
}

/// A table as it was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub id: ObjectId,
    pub manifest: TableManifest,
    /// The facts of its row groups; none where they were not seen.
    pub facts: Option<Vec<GroupFacts>>,
}

/// A table as it is remembered.
#[derive(Clone, Copy)]
struct Remembered<'m> {
    id: ObjectId,
    manifest: &'m TableManifest,
    facts: &'m [GroupFacts],
}

/// What is read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub store: &'a Store,
    pub batch: &'a Batch<'a>,
    pub shapes: &'a [TableShape],
    /// Whose cut rules are used, and where bases for deltas are found.
    pub reference: Option<&'a State>,
    pub known: Option<Known<'a>>,
    pub rules: Rules,
    pub progress: &'a dyn Progress,
}

/// A part of a table on its way from the engine.
struct Job {
    table: usize,
    /// Which rows; all where none is said.
    part: Option<TablePart>,
    bytes: u64,
    at: usize,
    parts: usize,
}

/// A row group on its way to a worker.
struct Parcel<'a> {
    table: usize,
    sequence: u64,
    group: RowGroup,
    bases: &'a Bases,
}

/// For each table its groups, with their place in it.
type Stored = Vec<Vec<(u64, StoredGroup)>>;

/// A transaction beside the first.
type Sibling = Box<dyn ReadTransaction + Send>;

impl Reading<'_> {
    /// Reads the tables; returns their manifests in the order of their shapes, and the facts of their row groups where they are known.
    ///
    /// # Errors
    /// The engine's and the store's.
    pub fn run(&self, transaction: &mut dyn ReadTransaction) -> Result<Vec<Found>, OpError> {
        if let Some(memory) = self.known.and_then(|known| known.state.memory.as_deref()) {
            transaction.remember(&memory.engine);
        }
        let rules = self.cut_rules(transaction)?;
        let rows = self.reference.map_or(0, State::rows);
        self.progress.begin("reading", (rows > 0).then_some(rows), Unit::Rows);
        let mut siblings = Vec::new();
        while !self.shapes.is_empty()
            && let Some(sibling) = transaction.sibling()?
        {
            siblings.push(sibling);
        }
        let mut recognised = self.recognise(transaction, &mut siblings, &rules)?;
        self.read_again(transaction, &mut siblings, &rules, &mut recognised)?;
        let unknown: Vec<usize> = (0..self.shapes.len()).filter(|&table| recognised[table].is_none()).collect();
        let bases: Vec<OnceLock<Bases>> = self.shapes.iter().map(|_| OnceLock::new()).collect();
        let mut stored = self.read(transaction, &mut siblings, &rules, &bases, &unknown)?;
        self.progress.finish();
        for remark in transaction.remarks() {
            self.progress.detail(&remark);
        }
        let mut tables = Vec::with_capacity(self.shapes.len());
        for (table, recognised) in recognised.into_iter().enumerate() {
            if let Some(found) = recognised {
                tables.push(found);
                continue;
            }
            let mut groups = std::mem::take(&mut stored[table]);
            groups.sort_unstable_by_key(|(sequence, _)| *sequence);
            let groups: Vec<StoredGroup> = groups.into_iter().map(|(_, stored)| stored).collect();
            let facts = groups.iter().map(GroupFacts::of).collect();
            let bases = bases[table].get_or_init(|| self.bases(table));
            let (id, manifest) = build::assemble(self.batch, &self.shapes[table], rules[table], groups, bases)?;
            tables.push(Found { id, manifest, facts: Some(facts) });
        }
        Ok(tables)
    }

    fn cut_rules(&self, transaction: &mut dyn ReadTransaction) -> Result<Vec<CutRule>, OpError> {
        let rule = |shape: &TableShape| match self.earlier(shape) {
            Some((_, manifest)) if self.rules == Rules::Keep || !manifest.cut.is_outgrown(manifest.rows, manifest.bytes) => {
                Ok(manifest.cut)
            }
            _ => Ok(match transaction.row_bytes(shape)? {
                0 => CutRule::for_row_bytes(EMPTY_ROW_BYTES),
                bytes => CutRule::for_row_bytes(bytes),
            }),
        };
        self.shapes.iter().map(rule).collect()
    }

    fn earlier(&self, shape: &TableShape) -> Option<&(ObjectId, TableManifest)> {
        self.reference.and_then(|state| state.table(&shape.name))
    }

    /// Finds bases for a table's groups; none where nothing is kept.
    fn bases(&self, table: usize) -> Bases {
        let shape = &self.shapes[table];
        match self.earlier(shape) {
            Some((id, manifest)) if self.batch.keeps() => Bases::of(self.store, *id, manifest, shape),
            _ => Bases::default(),
        }
    }

    /// Finds the tables that need not be read.
    fn recognise(
        &self,
        transaction: &mut dyn ReadTransaction,
        siblings: &mut [Sibling],
        rules: &[CutRule],
    ) -> Result<Vec<Option<Found>>, OpError> {
        let found = Mutex::new(vec![None; self.shapes.len()]);
        let Some(known) = self.known else { return Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner)) };
        let mut order: Vec<(usize, &str, &(ObjectId, TableManifest))> = Vec::new();
        for (table, (shape, rule)) in self.shapes.iter().zip(rules).enumerate() {
            order.extend(known.table(shape, *rule).map(|(mark, before)| (table, mark, before)));
        }
        order.sort_by_key(|(_, _, (_, manifest))| std::cmp::Reverse(manifest.bytes));
        let next = AtomicUsize::new(0);
        side_by_side(transaction, siblings, &|transaction| {
            while let Some((table, mark, before)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some((id, manifest)) = recognise(transaction, self.store, self.batch, &self.shapes[*table], mark, before)? {
                    self.progress.advance(manifest.rows);
                    lock(&found)[*table] = Some(Found { id, manifest, facts: None });
                }
            }
            Ok(())
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds out, of the tables that are remembered, what changed since, and reads that alone.
    fn read_again(
        &self,
        transaction: &mut dyn ReadTransaction,
        siblings: &mut [Sibling],
        rules: &[CutRule],
        found: &mut [Option<Found>],
    ) -> Result<(), OpError> {
        let Some(memory) = self.known.and_then(|known| known.state.memory.as_deref()) else { return Ok(()) };
        let mut stale = Vec::new();
        for (table, shape) in self.shapes.iter().enumerate() {
            if found[table].is_none()
                && let Some(before) = self.remembered(shape, rules[table], memory)
            {
                stale.extend(again::find(transaction, table, shape, before)?);
            }
        }
        let again = again::Again { reading: self, rules, tables: stale };
        for (table, after) in again.run(transaction, siblings)? {
            found[table] = Some(after);
        }
        Ok(())
    }

    /// Returns what is remembered of a table and can still be its own, and the facts of its groups.
    fn remembered<'m>(&'m self, shape: &TableShape, rule: CutRule, memory: &'m Memory) -> Option<Remembered<'m>> {
        let (id, manifest) = self.known?.state.table(&shape.name)?;
        let facts = memory.tables.get(id)?;
        (manifest.cut == rule && regroup::fits(manifest, shape)).then_some(Remembered { id: *id, manifest, facts })
    }

    /// Reads tables whole.
    fn read(
        &self,
        transaction: &mut dyn ReadTransaction,
        siblings: &mut [Sibling],
        rules: &[CutRule],
        bases: &[OnceLock<Bases>],
        tables: &[usize],
    ) -> Result<Stored, OpError> {
        let (parts, whole): (Vec<Job>, Vec<Job>) =
            self.jobs(transaction, siblings.len() + 1, tables)?.into_iter().partition(|job| job.part.is_some());
        let stored: Mutex<Stored> = Mutex::new(self.shapes.iter().map(|_| Vec::new()).collect());
        let ends: Mutex<Vec<Vec<(usize, Ends)>>> = Mutex::new(self.shapes.iter().map(|_| Vec::new()).collect());
        // Tables whose parts cannot be joined, or are void.
        let apart: Mutex<BTreeSet<usize>> = Mutex::default();
        let (next_whole, next_part) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Tables that only some transactions can read come first, so that none of them is left for the end.
        let next = |transaction: &dyn ReadTransaction| {
            let whole = if transaction.reads_tables() { whole.get(next_whole.fetch_add(1, Ordering::Relaxed)) } else { None };
            whole.or_else(|| parts.get(next_part.fetch_add(1, Ordering::Relaxed)))
        };
        self.store(&stored, |send| {
            let work = |transaction: &mut dyn ReadTransaction| -> Result<(), OpError> {
                while let Some(job) = next(transaction) {
                    let Job { table, at, parts, .. } = *job;
                    let (shape, rule) = (&self.shapes[table], rules[table]);
                    let bases = bases[table].get_or_init(|| self.bases(table));
                    let send_from = |first: u64| {
                        let mut sequence = first;
                        move |group: RowGroup| {
                            sequence += 1;
                            send(Parcel { table, sequence, group, bases })
                        }
                    };
                    let mut send = send_from(at as u64 * PART_STRIDE + HEAD_STRIDE);
                    let Some(part_read) = &job.part else {
                        transaction.read_table(shape, rule, &mut |group| {
                            self.progress.advance(group.rows);
                            send(group)
                        })?;
                        continue;
                    };
                    let mut part = Part::new(rule, at == 0, at + 1 == parts);
                    let mut is_stopped = false;
                    let read = transaction.read_part(shape, part_read, rule, &mut |group| {
                        self.progress.advance(group.rows);
                        let flow = part.take(group).map_or(ControlFlow::Continue(()), &mut send);
                        is_stopped |= flow.is_break();
                        flow
                    });
                    if let Err(EngineError::Void(_)) = read {
                        lock(&apart).insert(table);
                        continue;
                    }
                    read?;
                    if is_stopped {
                        return Ok(());
                    }
                    let (last, end) = part.finish();
                    let _ = last.map(&mut send);
                    // Whoever ends the last part joins them, so that no more than the tables in work are held.
                    let mut whole = {
                        let mut ends = lock(&ends);
                        ends[table].push((at, end));
                        if ends[table].len() < parts {
                            continue;
                        }
                        std::mem::take(&mut ends[table])
                    };
                    whole.sort_unstable_by_key(|(at, _)| *at);
                    let Some((heads, rest)) = seam::join(shape, rule, whole.into_iter().map(|(_, end)| end).collect()) else {
                        lock(&apart).insert(table);
                        continue;
                    };
                    for (groups, first) in heads.into_iter().zip((0..).step_by(PART_STRIDE as usize)) {
                        let _ = groups.into_iter().try_for_each(send_from(first));
                    }
                    let _ = rest.map(send_from(parts as u64 * PART_STRIDE));
                }
                Ok(())
            };
            side_by_side(transaction, siblings, &work)
        })?;
        for table in apart.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let bases = bases[table].get_or_init(|| self.bases(table));
            let at_once = self.read_at_once(transaction, &self.shapes[table], rules[table], bases)?;
            lock(&stored)[table] = at_once;
        }
        Ok(stored.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hashes, compresses and stores on all cores what is sent.
    fn store<'p>(
        &self,
        stored: &Mutex<Stored>,
        feed: impl FnOnce(&(dyn Fn(Parcel<'p>) -> ControlFlow<()> + Sync)) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let failed: Mutex<Option<StoreError>> = Mutex::new(None);
        let fed = std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(2, NonZero::get).clamp(1, THREADS_MAX);
            let (sender, receiver) = crossbeam_channel::bounded::<Parcel<'_>>(threads * 2);
            for _ in 0..threads {
                let receiver = receiver.clone();
                let failed = &failed;
                scope.spawn(move || {
                    for parcel in receiver {
                        match build::store_group(self.batch, parcel.group, parcel.bases) {
                            Ok(group) => lock(stored)[parcel.table].push((parcel.sequence, group)),
                            Err(error) => {
                                lock(failed).get_or_insert(error);
                                return;
                            }
                        }
                    }
                });
            }
            drop(receiver);
            // The workers end when there is no sender any more. Sending fails when every worker is gone, which only an error does.
            feed(&|parcel| {
                if lock(&failed).is_some() || sender.send(parcel).is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => fed,
        }
    }

    /// Reads a table in one go, in this thread.
    fn read_at_once(
        &self,
        transaction: &mut dyn ReadTransaction,
        shape: &TableShape,
        rule: CutRule,
        bases: &Bases,
    ) -> Result<Vec<(u64, StoredGroup)>, OpError> {
        let mut stored: Vec<(u64, StoredGroup)> = Vec::new();
        let mut failed = None;
        transaction.read_table(shape, rule, &mut |group| match build::store_group(self.batch, group, bases) {
            Ok(group) => {
                stored.push((stored.len() as u64, group));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(stored), |error| Err(error.into()))
    }

    /// Lists what is read, large parts first, so that none is left for the end.
    fn jobs(&self, transaction: &mut dyn ReadTransaction, readers: usize, tables: &[usize]) -> Result<Vec<Job>, OpError> {
        let mut jobs = Vec::with_capacity(tables.len());
        for &table in tables {
            let shape = &self.shapes[table];
            let known_bytes = self.earlier(shape).map_or(0, |(_, manifest)| manifest.bytes);
            let parts = transaction.parts(shape, readers * PARTS_PER_READER)?;
            if parts.is_empty() {
                jobs.push(Job { table, part: None, bytes: known_bytes, at: 0, parts: 1 });
            }
            let count = parts.len();
            jobs.extend(parts.into_iter().enumerate().map(|(at, part)| Job {
                table,
                bytes: part.bytes,
                part: Some(part),
                at,
                parts: count,
            }));
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.bytes));
        Ok(jobs)
    }
}

/// Runs the same work with each transaction; one that fails does not stop the others.
fn side_by_side(
    transaction: &mut dyn ReadTransaction,
    siblings: &mut [Sibling],
    work: &(dyn Fn(&mut dyn ReadTransaction) -> Result<(), OpError> + Sync),
) -> Result<(), OpError> {
    std::thread::scope(|scope| {
        let beside: Vec<_> = siblings.iter_mut().map(|sibling| scope.spawn(move || work(&mut **sibling))).collect();
        let own = work(transaction);
        let lost = || OpError::from(EngineError::Unsupported("a reader ended before its time".to_owned()));
        beside.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(lost()))).fold(own, Result::and)
    })
}

/// Finds out what became of a table that is known from before, without reading it; none where it must be read.
fn recognise(
    transaction: &mut dyn ReadTransaction,
    store: &Store,
    batch: &Batch<'_>,
    shape: &TableShape,
    mark: &str,
    before: &(ObjectId, TableManifest),
) -> Result<Option<(ObjectId, TableManifest)>, OpError> {
    let (id, manifest) = before;
    let rows_max = (manifest.rows / SPLICED_SHARE).max(SPLICED_ROWS_MIN);
    match transaction.changes(mark, shape, manifest.rows, rows_max)? {
        Changes::Unknown => Ok(None),
        Changes::Rows { new, gone: 0, .. } if new.is_empty() => Ok(Some((*id, manifest.clone()))),
        Changes::Rows { new, gone, keys } => {
            match splice::splice(batch, store, (*id, manifest), Changed { rows: &new, gone, keys: &keys }) {
                Ok(spliced) => Ok(spliced),
                // What cannot be read of an earlier state only costs time.
                Err(SpliceError::Compare(_)) => Ok(None),
                Err(SpliceError::Store(error)) => Err(error.into()),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A worker that panicked left a plain list behind, which is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
