//! Putting files back: [`plan`] says what must change, as plain data; [`Beside`] does it together with the rollback of a database, [`restore`] in a folder.
//!
//! A rollback with files goes in this order: the safety snapshot, which has database and files; the files that must come back are written beside their places
//! and made durable ([`Beside::stage`]), so that what fails for want of room or rights fails before anything was changed; the database's one transaction;
//! then the names of the files are exchanged ([`Beside::publish`]); and all is read again and compared ([`Beside::prove`]). What can still fail then is told file by
//! file. A crash leaves the database as it was, with its files; or as it was to be, with files of which each is as it was or as it was to be. The
//! journal has no end then, and the next command says which it is.
//!
//! Never changed: files that are not included now, or were not included when the snapshot was taken, since then nothing is known of whether they were there; and
//! files that are not what the safety snapshot says.

use std::collections::HashSet;
use std::path::Path;

use super::{Captured, FileError, load};
use crate::files::write::{Content, Failure, Replace, Staged, Written, stage};
use crate::files::{Folder, PatternError};
use crate::id::ObjectId;
use crate::ops::{OpError, Session};
use crate::snapshot::files::changes::{FileChange, diff};
use crate::snapshot::files::listing::Listing;
use crate::snapshot::files::{Entry, EntryKind, FilePath, content};
use crate::store::Store;

/// What must change so that the files are those of a snapshot.
#[derive(Debug, Clone, Default)]
pub struct FilePlan {
    /// The changes, by path.
    pub changes: Vec<FileChange>,
    /// The snapshot's folders, whose times are put back where something in them changes.
    pub folders: Vec<Entry>,
    /// What the snapshot has, and is not included now; it is left as it is.
    pub left: Vec<FilePath>,
}

/// Plans the way from the files as they are to those of a snapshot.
///
/// # Errors
/// [`PatternError`] where the patterns of the snapshot cannot be read.
pub fn plan(folder: &Folder, live: &[Entry], target: &Listing) -> Result<FilePlan, PatternError> {
    let then = Folder::new(folder.root(), &target.files.include, &target.files.exclude, Vec::new())?;
    let (wanted, left): (Vec<&Entry>, Vec<&Entry>) = target.entries.iter().partition(|entry| folder.includes(&entry.path, entry.kind));
    let wanted: Vec<Entry> = wanted.into_iter().cloned().collect();
    // What was not looked for then was perhaps there.
    let known: Vec<Entry> = live.iter().filter(|entry| then.includes(&entry.path, entry.kind)).cloned().collect();
    Ok(FilePlan {
        changes: diff(&known, &wanted),
        folders: folders(&wanted),
        left: left.into_iter().map(|entry| entry.path.clone()).collect(),
    })
}

fn folders(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().filter(|entry| entry.kind == EntryKind::Dir).cloned().collect()
}

/// The files that go back with a database.
#[derive(Debug)]
pub struct Beside {
    target: Listing,
    staged: Option<(Staged, Vec<FileChange>)>,
    /// What was written, once it was.
    pub written: Option<Written>,
}

impl Beside {
    /// Takes the files of a snapshot.
    ///
    /// # Errors
    /// [`FileError::NoFolder`], [`FileError::NoFiles`], and the store's.
    pub fn of(session: &Session<'_>, snapshot: ObjectId, files: Option<ObjectId>) -> Result<Self, OpError> {
        if session.files.is_none() {
            return Err(FileError::NoFolder.into());
        }
        let target = load(session.store, &files.ok_or(FileError::NoFiles(snapshot))?)?;
        Ok(Self { target, staged: None, written: None })
    }

    /// Writes the files that must come back beside their places; `live` are those that the safety snapshot has.
    ///
    /// # Errors
    /// [`FileError::Changing`], [`FileError::Write`]; no file was changed then.
    pub fn stage(&mut self, session: &Session<'_>, live: Option<&Captured>) -> Result<(), OpError> {
        let (Some(folder), Some(live)) = (session.files, live) else { return Err(FileError::NoFolder.into()) };
        self.staged = None;
        let FilePlan { changes, folders, left } = plan(folder, &live.entries, &self.target).map_err(as_format)?;
        if let Some(changing) = changes.iter().filter_map(|change| change.before.as_ref()).find(|entry| entry.changing) {
            return Err(FileError::Changing(changing.path.clone()).into());
        }
        if !left.is_empty() {
            session.progress.warn(&format!("not included now, and left as they are: {}", super::named(&left)));
        }
        warn_of_changing(session, &changes);
        let staged =
            stage(folder.root(), changes.clone(), folders, Replace::Known, &*content_of(session.store)).map_err(FileError::from)?;
        self.staged = Some((staged, changes));
        Ok(())
    }

    /// Exchanges the files; returns whether there was anything to do. The database is what it was to be by now.
    pub fn publish(&mut self) -> bool {
        let Some((staged, changes)) = self.staged.take() else { return false };
        self.written = Some(staged.publish());
        let has_work = !changes.is_empty();
        // What is compared afterwards.
        self.target.entries = changes.into_iter().filter_map(|change| change.after).collect();
        has_work
    }

    /// Compares what was written with what is there now, as it was read again.
    pub fn prove(&mut self, live: Option<&Captured>) {
        let (Some(written), Some(live)) = (&mut self.written, live) else { return };
        let told: HashSet<FilePath> = written.failures.iter().map(|failure| failure.path.clone()).collect();
        let mut undressed = Vec::new();
        for entry in self.target.entries.iter().filter(|entry| !told.contains(&entry.path)) {
            let found = live.entries.binary_search_by(|other| other.path.cmp(&entry.path)).ok().and_then(|at| live.entries.get(at));
            match found.filter(|found| has_same_content(found, entry)) {
                Some(found) if found.mode == entry.mode && (found.mtime == entry.mtime || entry.kind == EntryKind::Dir) => {}
                // A file system may not keep them, or not so exactly.
                Some(_) => undressed.push(entry.path.clone()),
                None => {
                    let why = "what was read back is not what the snapshot has".to_owned();
                    written.failures.push(Failure { path: entry.path.clone(), why });
                }
            }
        }
        if !undressed.is_empty() {
            written.remarks.push(format!("permissions or times could not be put back exactly: {}", super::named(&undressed)));
        }
    }
}

/// Tells whether an entry that was read as a whole has the kind, the bytes and the target of another.
fn has_same_content(found: &Entry, wanted: &Entry) -> bool {
    (found.kind, &found.target) == (wanted.kind, &wanted.target) && found.has_content_of(wanted) && !found.changing
}

fn warn_of_changing(session: &Session<'_>, changes: &[FileChange]) {
    let torn: Vec<FilePath> = changes
        .iter()
        .filter(|change| change.after.as_ref().is_some_and(|entry| entry.changing))
        .map(|change| change.path.clone())
        .collect();
    if !torn.is_empty() {
        session.progress.warn(&format!("written while the snapshot read it, and perhaps not whole: {}", super::named(&torn)));
    }
}

fn as_format(error: PatternError) -> OpError {
    let what = format!("its patterns cannot be read: {error}");
    FileError::from(crate::snapshot::files::FilesError::Malformed { id: ObjectId([0; 32]), what }).into()
}

/// Gives the bytes of files out of a store.
fn content_of(store: &Store) -> Box<Content<'_>> {
    Box::new(move |entry, sink| content::read(store, entry, sink))
}

/// Finds files of a snapshot that a restore into a folder would meet. Folders that are there are no obstacle.
///
/// # Errors
/// [`FileError::InTheWay`], unless they may be replaced.
pub fn refuse_in_the_way(root: &Path, target: &Listing, replace: Replace) -> Result<(), FileError> {
    let is_met = |entry: &&Entry| {
        let there = entry.path.to_path().and_then(|path| root.join(path).symlink_metadata().ok());
        there.is_some_and(|there| if entry.kind == EntryKind::Dir { !there.is_dir() } else { there.is_dir() || replace == Replace::Known })
    };
    let met: Vec<FilePath> = target.entries.iter().filter(is_met).map(|entry| entry.path.clone()).collect();
    if met.is_empty() { Ok(()) } else { Err(FileError::InTheWay(met)) }
}

/// Writes the files of a snapshot into a folder, which is made where there is none.
///
/// # Errors
/// [`FileError::InTheWay`], [`FileError::Write`]: no file was changed then. What fails later is in what is returned.
pub fn restore(session: &Session<'_>, root: &Path, target: &Listing, replace: Replace) -> Result<Written, OpError> {
    refuse_in_the_way(root, target, replace)?;
    let changes = diff(&[], &target.entries);
    warn_of_changing(session, &changes);
    crate::files::write::make_root(root).map_err(FileError::from)?;
    let staged = stage(root, changes, folders(&target.entries), replace, &*content_of(session.store)).map_err(FileError::from)?;
    let mut written = staged.publish();
    prove_folder(session, root, target, &mut written)?;
    Ok(written)
}

/// Reads the files of a folder again, and adds those that are not what the snapshot has.
fn prove_folder(session: &Session<'_>, root: &Path, target: &Listing, written: &mut Written) -> Result<(), OpError> {
    let folder = Folder::new(root, &target.files.include, &target.files.exclude, Vec::new()).map_err(as_format)?;
    let reader = Session { files: Some(&folder), ..copy(session) };
    let live = super::capture(&reader, crate::store::BatchMode::IdsOnly, super::Unreadable::Tell)?;
    let mut beside = Beside { target: target.clone(), staged: None, written: Some(std::mem::take(written)) };
    beside.prove(live.as_ref());
    *written = beside.written.unwrap_or_default();
    Ok(())
}

/// Makes a session of the same parts.
fn copy<'a>(session: &Session<'a>) -> Session<'a> {
    Session { origin: session.origin.clone(), source: session.source.clone(), ..*session }
}
