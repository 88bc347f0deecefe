//! Files beside the database: reading them into a snapshot, and comparing them. [`back`] puts them back.
//!
//! They are read right after the database, of which each snapshot is one committed state. A file that a row speaks of was, as a rule, there before the row;
//! so that no row of a snapshot is without its file, but where an application writes the row first. Files that came in between are in the snapshot, too, without
//! their rows. Files have no transaction: the listing is as the files were one after the other while they were read.
//!
//! A file is not read again if the system says the same of it as when it was last read: device, inode, size, the time of last modification, and the time of
//! last change, which no program can set and each write moves. Two writes may fall into one tick of the file system's clock; so a file that had changed less
//! than [`SETTLED_MS`] before it was read is read once more. What the system said is in the store's cache, which may be deleted.
//!
//! A file that changes while it is read is read again, [`ATTEMPTS_MAX`] times in all; if it still changes then, its entry says so. One that vanishes before it is
//! read is left out, and told. One that cannot be read stops a snapshot that somebody may go back to (`manual`, `pre`, `safety`), so that nothing is
//! missing silently; in a snapshot of what has happened already (`post`, `failed`, `restored`) it is left out, and told.

pub mod back;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{OpError, Session};
use crate::files::write::WriteError;
use crate::files::{Folder, Found, Look, Walked, shown};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};
use crate::snapshot::cores::on_all_cores;
use crate::snapshot::files::changes::{FileChange, diff};
use crate::snapshot::files::content::{self, ContentError};
use crate::snapshot::files::listing::{self, Listing};
use crate::snapshot::files::{Entry, EntryKind, FilePath, Files, FilesError};
use crate::snapshot::manifest::SnapshotKind;
use crate::store::{Batch, BatchMode, BatchStats, Store};

/// How often a file is read that changes while it is read.
pub const ATTEMPTS_MAX: u32 = 3;

/// How long ago the last change of a file must have been when it was read, in milliseconds, so that a later one shows: the coarsest clock of a file system in
/// use (FAT) has ticks of two seconds.
pub const SETTLED_MS: i64 = 2_100;

/// What stopped a verb over files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file that is meant cannot be read.
    #[error("`{path}` cannot be read, and would be missing in the snapshot")]
    Unreadable {
        /// Which one.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the store has of files.
    #[error(transparent)]
    Stored(#[from] FilesError),
    /// Files cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A snapshot has no files.
    #[error("snapshot {0} holds no files")]
    NoFiles(ObjectId),
    /// No files are kept with the database.
    #[error("dbelay.toml names no files that are kept with this database")]
    NoFolder,
    /// A file that would be replaced or removed was not read as a whole.
    #[error("`{0}` was written while it was read, so the safety snapshot may not have it as it is")]
    Changing(FilePath),
    /// Files are in the way of a restore.
    #[error("{} there already: {}", if .0.len() == 1 { "a file is" } else { "files are" }, named(.0))]
    InTheWay(Vec<FilePath>),
    /// There is no file of this name.
    #[error("there is no file `{0}` in {1}")]
    NotFound(String, String),
}

/// Names some paths.
pub fn named(paths: &[FilePath]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown: Vec<String> = paths.iter().take(SHOWN_MAX).map(|path| format!("`{path}`")).collect();
    let more = paths.len().saturating_sub(SHOWN_MAX);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// What reading the files cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReadStats {
    /// Files that were read.
    pub read: u64,
    /// Their bytes, those of files that were read again counted again.
    pub bytes_read: u64,
    /// Files that were known, and not read.
    pub kept: u64,
    /// Files that were written each time that they were read.
    pub changing: u64,
    /// What was stored.
    pub objects: BatchStats,
}

/// The files as they were read.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The id of the files object.
    pub id: ObjectId,
    /// The files object.
    pub files: Files,
    /// The entries, by path.
    pub entries: Arc<[Entry]>,
    /// What it cost.
    pub stats: ReadStats,
}

/// What becomes of a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It stops the reading.
    Refuse,
    /// It is left out, and told.
    Tell,
}

impl Unreadable {
    /// Decides by what a snapshot is for.
    pub fn of(kind: SnapshotKind) -> Self {
        match kind {
            SnapshotKind::Manual | SnapshotKind::Pre | SnapshotKind::Safety => Self::Refuse,
            SnapshotKind::Post | SnapshotKind::Failed | SnapshotKind::Restored => Self::Tell,
        }
    }
}

/// What the cache keeps of the last reading.
#[derive(Debug, Serialize, Deserialize)]
struct Cache {
    /// When it began, in milliseconds since 1970.
    begun_ms: i64,
    /// The files object.
    files: ObjectId,
    /// Path, device, inode, size, times of modification and change, in nanoseconds.
    looks: Vec<(FilePath, u64, u64, u64, i64, i64)>,
}

/// What is known from the last reading.
#[derive(Debug, Default)]
struct Known {
    begun_ms: i64,
    files: Option<ObjectId>,
    looks: HashMap<FilePath, Look>,
    listing: Listing,
}

fn cache_name(session: &Session<'_>, folder: &Folder) -> String {
    let source = &session.source;
    let whose = format!("{} {} {}", source.engine, source.place, folder.root().display());
    format!("files-{}.json", ObjectId::of(whose.as_bytes()).short())
}

impl Known {
    /// Reads what is known; nothing where the cache was deleted, or the listing is gone from the store.
    fn read(session: &Session<'_>, folder: &Folder) -> Self {
        let recall = || {
            let json = session.store.read_cache(&cache_name(session, folder))?;
            let cache: Cache = serde_json::from_slice(&json).ok()?;
            let listing = listing::read(session.store, &cache.files).ok()?;
            let look = |(path, device, inode, size, mtime, ctime)| (path, Look { id: (device, inode), size, mtime, ctime, mode: 0 });
            let looks = cache.looks.into_iter().map(look).collect();
            Some(Self { begun_ms: cache.begun_ms, files: Some(cache.files), looks, listing })
        };
        recall().unwrap_or_default()
    }

    /// Finds what a file held when it was last read, if that cannot have changed since.
    fn unchanged(&self, found: &Found, store: &Store) -> Option<&Entry> {
        let known = self.looks.get(&found.path)?;
        if (Look { mode: 0, ..found.look }) != *known || known.ctime / 1_000_000 + SETTLED_MS >= self.begun_ms {
            return None;
        }
        let entry = self.listing.find(&found.path)?;
        let is_same = entry.kind == EntryKind::File && !entry.changing && entry.size == found.look.size;
        // What a snapshot is to refer to must be there, whatever was freed since.
        let is_there = || {
            entry.lists.iter().all(|id| store.contains(id))
                && content::chunks(store, entry).is_ok_and(|chunks| chunks.iter().all(|id| store.contains(id)))
        };
        (is_same && is_there()).then_some(entry)
    }
}

/// Reads the files that are kept with the session's database; none where there are no such. Of [`BatchMode::Durable`] is what becomes a snapshot's.
///
/// # Errors
/// [`FileError::Unreadable`], and the store's. Nothing is left behind then but objects that nothing refers to.
pub fn capture(session: &Session<'_>, mode: BatchMode, unreadable: Unreadable) -> Result<Option<Captured>, OpError> {
    let Some(folder) = session.files else { return Ok(None) };
    let begun_ms = session.clock().timestamp_millis();
    let Walked { found, remarks, unreadable: closed, leftovers } = folder.walk();
    if mode == BatchMode::Durable {
        remarks.iter().for_each(|remark| session.progress.warn(remark));
        // Only who holds the project's lock takes snapshots, so nobody is writing these.
        leftovers.iter().for_each(|path| drop(crate::files::write::remove_leftover(path)));
    }
    for (path, error) in closed {
        refuse_or_tell(session, unreadable, shown(&path), error)?;
    }
    let known = Known::read(session, folder);
    let batch = session.store.begin(mode)?;
    let reading =
        Reading { session, batch: &batch, known: &known, unreadable, heard: Mutex::new(session.progress), counts: Counts::default() };
    let found: Vec<(Found, Option<&Entry>)> = {
        let kept = found.iter().map(|found| known.unchanged(found, session.store)).collect::<Vec<_>>();
        found.into_iter().zip(kept).collect()
    };
    let unread = found.iter().filter(|(found, kept)| found.kind == EntryKind::File && kept.is_none());
    session.progress.begin("reading files", Some(unread.map(|(found, _)| found.look.size).sum()), Unit::Bytes);
    let read = on_all_cores(&found, || |(found, kept): &(Found, Option<&Entry>)| reading.entry(found, *kept));
    session.progress.finish();
    let (entries, looks): (Vec<Entry>, Vec<Look>) = read?.into_iter().flatten().unzip();
    let Counts { read, bytes_read, kept } = reading.counts;
    let is_known = known.files.is_some() && known.listing.entries == entries && {
        let Files { include, exclude, .. } = &known.listing.files;
        (include.as_slice(), exclude.as_slice()) == folder.patterns()
    };
    let (id, files) = match known.files.filter(|_| is_known) {
        Some(id) => (id, known.listing.files.clone()),
        None => listing::put(&batch, &entries, folder.patterns(), Some(&known.listing))?,
    };
    let objects = batch.finish()?;
    if mode == BatchMode::Durable {
        let settled = entries.iter().zip(&looks).filter(|(entry, _)| entry.kind == EntryKind::File && !entry.changing);
        let looks = settled.map(|(entry, look)| (entry.path.clone(), look.id.0, look.id.1, look.size, look.mtime, look.ctime)).collect();
        let json = serde_json::to_vec(&Cache { begun_ms, files: id, looks }).expect("plain data with string keys serialises");
        session.store.write_cache(&cache_name(session, folder), &json);
    }
    let changing = entries.iter().filter(|entry| entry.changing).count() as u64;
    let stats = ReadStats { read: read.into_inner(), bytes_read: bytes_read.into_inner(), kept: kept.into_inner(), changing, objects };
    Ok(Some(Captured { id, files, entries: entries.into(), stats }))
}

fn refuse_or_tell(session: &Session<'_>, unreadable: Unreadable, path: String, source: io::Error) -> Result<(), OpError> {
    match unreadable {
        Unreadable::Refuse => Err(FileError::Unreadable { path, source }.into()),
        Unreadable::Tell => {
            session.progress.warn(&format!("`{path}` cannot be read ({source}), and is not in the snapshot"));
            Ok(())
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    bytes_read: AtomicU64,
    kept: AtomicU64,
}

/// A reading on its way, on all cores.
struct Reading<'a> {
    session: &'a Session<'a>,
    batch: &'a Batch<'a>,
    known: &'a Known,
    unreadable: Unreadable,
    /// Hears from one thread at a time.
    heard: Mutex<&'a dyn Progress>,
    counts: Counts,
}

impl Reading<'_> {
    /// Reads what was found, but for a file that is known to be as it was; none where it is not there any more, or cannot be read and that is told.
    fn entry(&self, found: &Found, kept: Option<&Entry>) -> Result<Option<(Entry, Look)>, OpError> {
        let entry = Entry::new(found.path.clone(), found.kind);
        let read = match found.kind {
            EntryKind::Dir => {
                let (mode, mtime) = (Some(found.look.mode), Some(found.look.mtime));
                return Ok(Some((Entry { mode, mtime, ..entry }, found.look)));
            }
            EntryKind::Symlink => fs::read_link(&found.place).map_err(OpenError::from).and_then(|target| {
                let target = FilePath::target(&target).ok_or_else(|| io::Error::other("what it leads to cannot be written down"))?;
                Ok((Entry { mtime: Some(found.look.mtime), target: Some(target), ..entry }, found.look))
            }),
            EntryKind::File => match kept {
                Some(known) => {
                    self.counts.kept.fetch_add(1, Ordering::Relaxed);
                    let (mode, mtime) = (Some(found.look.mode), Some(found.look.mtime));
                    return Ok(Some((Entry { mode, mtime, ..known.clone() }, found.look)));
                }
                None => self.file(found, entry),
            },
        };
        let error = match read {
            Ok(read) => return Ok(Some(read)),
            Err(OpenError::Op(error)) => return Err(*error),
            Err(OpenError::Io(error)) => error,
        };
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if error.kind() == io::ErrorKind::NotFound {
            heard.warn(&format!("`{}` vanished before it was read, and is not in the snapshot", found.path));
            return Ok(None);
        }
        refuse_or_tell(self.session, self.unreadable, found.path.to_string(), error).map(|()| None)
    }

    fn file(&self, found: &Found, mut entry: Entry) -> Result<(Entry, Look), OpenError> {
        let earlier = self.known.listing.find(&found.path).map(|known| known.chunks.as_slice()).unwrap_or_default();
        self.counts.read.fetch_add(1, Ordering::Relaxed);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let file = open(found)?;
            let before = Look::of(&file.metadata()?);
            // One that grows faster than it is read would have no end.
            content::put(self.batch, (&file).take(before.size), &mut entry, earlier).map_err(|error| match error {
                ContentError::File(error) => OpenError::Io(error),
                ContentError::Store(error) => OpenError::Op(Box::new(error.into())),
            })?;
            let after = Look::of(&file.metadata()?);
            self.counts.bytes_read.fetch_add(entry.size, Ordering::Relaxed);
            (entry.mode, entry.mtime) = (Some(after.mode), Some(after.mtime));
            // A read moves no time that is looked at here.
            let is_settled = Look { mode: 0, ..before } == Look { mode: 0, ..after } && entry.size == after.size;
            if !is_settled && attempt < ATTEMPTS_MAX {
                continue;
            }
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.advance(entry.size);
            entry.changing = !is_settled;
            if entry.changing {
                heard.warn(&format!("`{}` was written each time that it was read; the snapshot says so of it", found.path));
            }
            return Ok((entry, after));
        }
    }
}

/// What kept a file from being read.
enum OpenError {
    Io(io::Error),
    Op(Box<OpError>),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens a file that a walk found, if it is still one.
fn open(found: &Found) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe that took its name must not be waited for.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    }
    let file = options.open(&found.place)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Reads the listing of a snapshot's files object.
///
/// # Errors
/// [`FilesError`] where an object is missing or malformed.
pub fn load(store: &Store, id: &ObjectId) -> Result<Listing, OpError> {
    Ok(listing::read(store, id).map_err(FileError::from)?)
}

/// Compares the files of a snapshot with those that were read; none where either has none.
///
/// # Errors
/// As [`load`].
pub fn changes(store: &Store, before: Option<ObjectId>, after: Option<&Captured>) -> Result<Option<Vec<FileChange>>, OpError> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(None) };
    if before == after.id {
        return Ok(Some(Vec::new()));
    }
    Ok(Some(diff(&load(store, &before)?.entries, &after.entries)))
}

/// Tells whether the live files are those of a snapshot; yes where the snapshot has none.
///
/// # Errors
/// As [`capture`] and [`load`].
pub fn is_live(session: &Session<'_>, id: Option<ObjectId>) -> Result<bool, OpError> {
    let live = capture(session, BatchMode::IdsOnly, Unreadable::Tell)?;
    Ok(changes(session.store, id, live.as_ref())?.is_none_or(|changes| changes.is_empty()))
}
