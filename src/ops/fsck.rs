//! Checking the whole store: files and packs by the store itself, and here what snapshots need of them, and what damage costs them.

use std::collections::HashSet;

use serde::Serialize;

use super::capture;
use super::inspect::{Found, Inspection, Look, Loss};
use super::{OpError, journal};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};
use crate::snapshot::manifest::SourceName;
use crate::store::{Damage, FsckDepth, Store};

/// What a check looked at, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Packs.
    pub packs: u64,
    /// Objects in them.
    pub objects: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Bytes that all packs have.
    pub bytes: u64,
    /// Everything that is wrong, in the order of files.
    pub damage: Vec<Told>,
    /// The snapshots that have everything they need, as far as was looked.
    pub whole: Vec<ObjectId>,
    /// Those that do not.
    pub broken: Vec<Broken>,
    /// Files that are none of the store's: ignored.
    pub strays: Vec<String>,
}

/// Something that is not as it should be, and what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// What is wrong, and where.
    #[serde(flatten)]
    pub damage: Damage,
    /// Which snapshots it costs something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cost>,
}

/// What some damage costs a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The snapshot.
    pub snapshot: ObjectId,
    /// Tables in it that are not whole; none where it concerns the snapshot as such.
    pub tables: Vec<String>,
}

/// A snapshot that is not whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Which one.
    pub snapshot: ObjectId,
    /// When it was taken; none where its file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Of which database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
    /// What it lost.
    pub losses: Vec<Loss>,
}

/// What became of all snapshots of a store.
#[derive(Debug, Default)]
pub struct Fates {
    /// Those that are whole.
    pub whole: Vec<ObjectId>,
    /// Those that are not, with all objects that each lacks.
    pub broken: Vec<(Broken, HashSet<ObjectId>)>,
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Looks through snapshots of a store.
///
/// # Errors
/// Only what keeps the look from going on.
pub fn fates(store: &Store, ids: &[ObjectId], look: Look, progress: &dyn Progress) -> Result<Fates, OpError> {
    let mut inspection = Inspection::new(store, look);
    let mut fates = Fates::default();
    progress.begin("checking snapshots", Some(ids.len() as u64), Unit::Objects);
    for &id in ids {
        let (described, found) = match capture::read_snapshot(store, id) {
            Ok(snapshot) => {
                let found = inspection.snapshot(&snapshot);
                (Some((snapshot.time, snapshot.source)), found)
            }
            Err(error) => (None, Found { losses: vec![unreadable(&error)], ..Found::default() }),
        };
        progress.advance(1);
        if found.losses.is_empty() {
            fates.whole.push(id);
            continue;
        }
        let (time, source) = described.unzip();
        fates.broken.push((Broken { snapshot: id, time, source, losses: found.losses }, found.lost));
    }
    progress.finish();
    fates.objects = inspection.objects;
    fates.bytes = inspection.bytes;
    Ok(fates)
}

fn unreadable(error: &OpError) -> Loss {
    Loss { table: None, column: None, first_row: None, rows: None, object: None, what: super::with_causes(error) }
}

/// Checks a store; `ReadData` also reads every byte of every pack, and holds everything that snapshots reach against everything that it must fit.
///
/// # Errors
/// Only what keeps the check itself from going on; damage is in the report.
pub fn fsck(store: &Store, depth: FsckDepth, progress: &dyn Progress) -> Result<Report, OpError> {
    let files = store.fsck(depth, progress)?;
    let look = if depth == FsckDepth::ReadData { Look::Everything } else { Look::Structure };
    let fates = fates(store, &store.snapshot_ids()?, look, progress)?;
    let mut report = Report {
        packs: files.packs,
        objects: files.objects,
        snapshots: files.snapshots,
        bytes_read: files.bytes_read,
        bytes: files.bytes,
        strays: files.strays,
        ..Report::default()
    };
    report.damage = files.damage.into_iter().map(|damage| told(store, damage, &fates)).collect();
    for (broken, _) in &fates.broken {
        let path = store.snapshot_place(&broken.snapshot);
        // A file that cannot be read, or does not match its name, was told of by the store.
        if report.damage.iter().any(|told| told.damage.path == path) {
            continue;
        }
        let Some(first) = broken.losses.first() else { continue };
        let what = if broken.time.is_some() { format!("cannot be restored whole: {first}") } else { first.what.clone() };
        let costs = vec![Cost { snapshot: broken.snapshot, tables: tables(broken) }];
        report.damage.push(Told { damage: Damage { path, object: None, what }, costs });
    }
    if let Err(OpError::Format { id, source, .. }) = journal::read(store) {
        let damage = Damage { path: "ops.jsonl".to_owned(), object: None, what: format!("entry {id}: {source}") };
        report.damage.push(Told { damage, costs: Vec::new() });
    }
    report.whole = fates.whole;
    report.broken = fates.broken.into_iter().map(|(broken, _)| broken).collect();
    Ok(report)
}

fn tables(broken: &Broken) -> Vec<String> {
    let found = Found { losses: broken.losses.clone(), lost: HashSet::new() };
    found.tables()
}

/// Finds out what damage costs: by the object that it is about, by the snapshot whose file it is, or, of a pack of which nothing is known, by what is
/// missing.
fn told(store: &Store, damage: Damage, fates: &Fates) -> Told {
    let is_meant = |broken: &Broken, lost: &HashSet<ObjectId>| match damage.object {
        Some(object) => lost.contains(&object),
        None if damage.path.starts_with("packs/") => lost.iter().any(|object| !store.contains(object)),
        None => damage.path == store.snapshot_place(&broken.snapshot),
    };
    let meant = fates.broken.iter().filter(|(broken, lost)| is_meant(broken, lost));
    let costs = meant.map(|(broken, _)| Cost { snapshot: broken.snapshot, tables: tables(broken) }).collect();
    Told { damage, costs }
}
