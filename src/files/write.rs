//! Writing files back: first everything that can fail for want of room is done beside what is there ([`stage`]), then names are exchanged ([`Staged::publish`]).
//!
//! # Invariants
//! - Nothing is replaced or removed that is not what the change says was there before: what somebody wrote since stays, and is told.
//! - A file appears whole or not at all, with its permissions and its time.
//! - Nothing is written through a link: each folder on the way to a file must be a folder. (Somebody who exchanges folders for links at the very
//!   moment is not kept from it; whoever may do that may write there anyway.)
//! - A replaced file keeps its owner, as far as this process may give it; a new one gets that of its folder.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Look, TEMPORARY, shown};
use crate::durable::{self, StagedFile, TemporaryFile};
use crate::snapshot::files::changes::{Aspect, FileChange};
use crate::snapshot::files::{Entry, EntryKind, FilePath, FilesError};

/// What stopped the staging of files; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system.
    #[error("`{path}` cannot be written")]
    File {
        /// Which one.
        path: FilePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the store has of it.
    #[error(transparent)]
    Content(#[from] FilesError),
}

/// What may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// What a change says was there before.
    Known,
    /// Any file or link.
    Anything,
}

/// A file that is not as it was to be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// Which one.
    pub path: FilePath,
    /// Why.
    pub why: String,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Files and links that were written, and folders that were made.
    pub written: u64,
    /// Files, links and folders that were removed.
    pub removed: u64,
    /// Those whose permissions or time alone were changed.
    pub dressed: u64,
    /// The bytes of the files that were written.
    pub bytes: u64,
    /// What could not be done.
    pub failures: Vec<Failure>,
    /// What is worth telling.
    pub remarks: Vec<String>,
}

/// Gives an entry's bytes to a sink.
pub type Content<'a> = dyn Fn(&Entry, &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), FilesError> + 'a;

/// Changes whose files are written, and have not their names yet. Dropped, nothing of them is left.
#[derive(Debug)]
pub struct Staged {
    root: PathBuf,
    changes: Vec<FileChange>,
    folders: Vec<Entry>,
    files: HashMap<usize, StagedFile>,
    replace: Replace,
}

/// Writes the files of changes, which stand in the order of their paths, beside their places. `folders` are all those that there are to be.
///
/// # Errors
/// [`WriteError`]; nothing was changed then.
pub fn stage(
    root: &Path,
    changes: Vec<FileChange>,
    folders: Vec<Entry>,
    replace: Replace,
    content: &Content<'_>,
) -> Result<Staged, WriteError> {
    let mut files = HashMap::new();
    for (at, change) in changes.iter().enumerate() {
        let Some(entry) = change.after.as_ref().filter(|entry| entry.kind == EntryKind::File && needs_content(change)) else { continue };
        let failed = |source| WriteError::File { path: entry.path.clone(), source };
        let place = place(root, &entry.path).map_err(failed)?;
        let beside = nearest_folder(root, &place);
        let mut file = TemporaryFile::create_as(beside, TEMPORARY).map_err(failed)?;
        content(entry, &mut |bytes| file.write_all(bytes))?;
        files.insert(at, file.stage(|file| dress(file, entry, &place)).map_err(failed)?);
    }
    Ok(Staged { root: root.to_owned(), changes, folders, files, replace })
}

/// Removes what a process that died left on its way.
///
/// # Errors
/// What the system says.
pub fn remove_leftover(path: &Path) -> io::Result<()> {
    durable::remove(path)
}

/// Makes a folder that is not there, as open as new folders of this user are.
///
/// # Errors
/// [`WriteError::File`].
pub fn make_root(root: &Path) -> Result<(), WriteError> {
    if root.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(root).map_err(|source| WriteError::File { path: FilePath(root.as_os_str().as_encoded_bytes().to_vec()), source })
}

fn needs_content(change: &FileChange) -> bool {
    change.before.is_none() || change.aspects.iter().any(|aspect| matches!(aspect, Aspect::Kind | Aspect::Content))
}

/// Returns where a path of a store is in a folder.
fn place(root: &Path, path: &FilePath) -> io::Result<PathBuf> {
    match path.fault() {
        Some(fault) => Err(io::Error::new(io::ErrorKind::InvalidInput, fault)),
        None => path.to_path().map(|path| root.join(path)).ok_or_else(|| io::Error::other("this system has no such name")),
    }
}

/// Finds the folder nearest to a place that is there, and is no link.
fn nearest_folder<'p>(root: &'p Path, place: &'p Path) -> &'p Path {
    let mut nearest = root;
    let below: Vec<&Path> = place.ancestors().skip(1).take_while(|folder| *folder != root).collect();
    for folder in below.into_iter().rev() {
        if !is_folder(folder) {
            break;
        }
        nearest = folder;
    }
    nearest
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Gives a file its owner, its permissions and its time.
fn dress(file: &File, entry: &Entry, place: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let like = place.symlink_metadata().ok().filter(Metadata::is_file).or_else(|| place.parent()?.metadata().ok());
        let own = file.metadata()?;
        if let Some(like) = like.filter(|like| (like.uid(), like.gid()) != (own.uid(), own.gid())) {
            // Only root may give a file away; whoever else writes it has it anyway.
            let _ = std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()));
        }
        if let Some(mode) = entry.mode {
            file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
        }
    }
    #[cfg(not(unix))]
    let _ = place;
    match entry.mtime {
        Some(mtime) => file.set_modified(system_time(mtime)),
        None => Ok(()),
    }
}

fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let time = if ns < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// Tells whether what stands somewhere is what an entry says. Bytes are not read: one who writes a file and then sets its time back hides it.
fn is_as(entry: &Entry, place: &Path, metadata: &Metadata) -> bool {
    match entry.kind {
        EntryKind::Dir => metadata.is_dir(),
        EntryKind::File => metadata.is_file() && (metadata.len(), Some(Look::of(metadata).mtime)) == (entry.size, entry.mtime),
        EntryKind::Symlink => {
            metadata.is_symlink() && fs::read_link(place).ok().and_then(|target| FilePath::target(&target)) == entry.target
        }
    }
}

impl Staged {
    /// Makes the changes. What fails is told, and does not keep the rest from being done.
    pub fn publish(mut self) -> Written {
        let mut written = Written::default();
        let changes = std::mem::take(&mut self.changes);
        let failed = |path: &FilePath, error: io::Error, written: &mut Written| {
            written.failures.push(Failure { path: path.clone(), why: error.to_string() });
        };
        // What stands in a folder goes before it.
        for change in changes.iter().rev() {
            let Some(before) = &change.before else { continue };
            if change.after.as_ref().is_some_and(|after| after.kind == before.kind) {
                continue;
            }
            match self.remove(before, change.after.is_some(), &mut written) {
                Ok(true) => written.removed += u64::from(change.after.is_none()),
                Ok(false) => {}
                Err(error) => failed(&change.path, error, &mut written),
            }
        }
        let kept: HashSet<FilePath> = written.failures.iter().map(|failure| failure.path.clone()).collect();
        // A folder is there before what stands in it.
        for (at, change) in changes.iter().enumerate() {
            let Some(after) = &change.after else { continue };
            if kept.contains(&change.path) {
                continue;
            }
            match self.put(at, change, after, &mut written) {
                Ok(()) if needs_content(change) || change.aspects.contains(&Aspect::Target) => {
                    written.written += 1;
                    written.bytes += after.size;
                }
                Ok(()) => written.dressed += 1,
                Err(error) => failed(&change.path, error, &mut written),
            }
        }
        // A folder that nobody may write into gets its permissions when everything is in it, and its time when nothing happens in it any more.
        let touched: HashSet<&[u8]> = changes.iter().flat_map(|change| [change.path.0.as_slice(), parent(&change.path)]).collect();
        for folder in self.folders.iter().rev().filter(|folder| touched.contains(folder.path.0.as_slice())) {
            if let Err(error) = self.dress_folder(folder) {
                failed(&folder.path, error, &mut written);
            }
        }
        written
    }

    /// Removes what was there before; returns whether it did. A folder in which something is left stays, unless something else is to have its name.
    fn remove(&self, before: &Entry, must: bool, written: &mut Written) -> io::Result<bool> {
        let place = self.checked_place(&before.path)?;
        let metadata = match place.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(false),
            Err(error) => return Err(error),
        };
        if !is_as(before, &place, &metadata) {
            return Err(changed_since());
        }
        if before.kind != EntryKind::Dir {
            durable::remove(&place)?;
            return Ok(true);
        }
        match durable::remove_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && !must => {
                written.remarks.push(format!("the folder `{}` stays, since it holds what is not kept with the database", before.path));
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }

    fn put(&mut self, at: usize, change: &FileChange, after: &Entry, written: &mut Written) -> io::Result<()> {
        let place = self.checked_place(&after.path)?;
        self.make_parents(&place, written)?;
        let there = match place.symlink_metadata() {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if after.kind == EntryKind::Dir {
            return match there {
                Some(there) if there.is_dir() => Ok(()),
                Some(_) => Err(taken()),
                None => durable::create_dir(&place),
            };
        }
        // What was of another kind is gone by now.
        let before = change.before.as_ref().filter(|before| before.kind == after.kind);
        match (&there, before) {
            (None, None) => {}
            (Some(there), _) if self.replace == Replace::Anything && !there.is_dir() => {}
            (Some(there), Some(before)) if is_as(before, &place, there) => {}
            (_, Some(_)) => return Err(changed_since()),
            (Some(_), None) => return Err(taken()),
        }
        match (after.kind, self.files.remove(&at)) {
            (EntryKind::File, Some(staged)) => staged.publish(&place),
            (EntryKind::File, None) => dress_in_place(after, &place),
            _ => put_link(after, &place),
        }
    }

    fn dress_folder(&self, entry: &Entry) -> io::Result<()> {
        let place = self.checked_place(&entry.path)?;
        #[cfg(unix)]
        if let Ok(metadata) = place.symlink_metadata()
            && metadata.is_dir()
        {
            if let Some(mode) = entry.mode.filter(|mode| Look::of(&metadata).mode != mode & 0o7777) {
                fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777))?;
            }
            set_time(entry, &place)?;
        }
        let _ = place;
        Ok(())
    }

    /// Returns where a path is, if nothing on the way is a link or a file.
    fn checked_place(&self, path: &FilePath) -> io::Result<PathBuf> {
        let place = place(&self.root, path)?;
        for folder in place.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            match folder.symlink_metadata() {
                Ok(metadata) if !metadata.is_dir() => {
                    return Err(io::Error::other(format!("`{}` is no folder, and nothing is written through it", shown(folder))));
                }
                _ => {}
            }
        }
        Ok(place)
    }

    /// Makes the folders on the way that no entry names; they are as open as the folder that they stand in.
    fn make_parents(&self, place: &Path, written: &mut Written) -> io::Result<()> {
        let missing: Vec<&Path> = place.ancestors().skip(1).take_while(|folder| *folder != self.root && !folder.is_dir()).collect();
        for folder in missing.into_iter().rev() {
            durable::create_dir(folder)?;
            written.written += 1;
            if let Some(above) = folder.parent().and_then(|above| above.metadata().ok()) {
                fs::set_permissions(folder, above.permissions())?;
            }
        }
        Ok(())
    }
}

/// Returns the path of the folder that something stands in; empty at the top.
fn parent(path: &FilePath) -> &[u8] {
    let end = path.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.0.get(..end).unwrap_or_default()
}

fn changed_since() -> io::Error {
    io::Error::other("somebody changed it meanwhile, so it was left alone")
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "something else stands there, and was left alone")
}

/// Gives a file that keeps its bytes its permissions and its time.
fn dress_in_place(entry: &Entry, place: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(mode) = entry.mode {
        fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777))?;
    }
    set_time(entry, place)
}

/// Sets the time of a file or link.
#[cfg(unix)]
fn set_time(entry: &Entry, place: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
    let Some(mtime) = entry.mtime else { return Ok(()) };
    let last_modification = Timespec { tv_sec: mtime.div_euclid(1_000_000_000), tv_nsec: mtime.rem_euclid(1_000_000_000) };
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Ok(utimensat(CWD, place, &Timestamps { last_access, last_modification }, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(not(unix))]
fn set_time(entry: &Entry, place: &Path) -> io::Result<()> {
    match entry.mtime {
        Some(mtime) => fs::OpenOptions::new().write(true).open(place)?.set_modified(system_time(mtime)),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn put_link(entry: &Entry, place: &Path) -> io::Result<()> {
    let target = entry.target.as_ref().and_then(FilePath::to_path).ok_or_else(|| io::Error::other("the link has no target"))?;
    durable::symlink(&target, place, TEMPORARY, |link| set_time(entry, link))
}

#[cfg(not(unix))]
fn put_link(_: &Entry, _: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "links are not made on this system"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::snapshot::files::changes::diff;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let entry = Entry::new(FilePath(path.into()), kind);
        match kind {
            EntryKind::File => Entry { mode: Some(0o640), mtime: Some(-1_500_000_001), ..entry },
            EntryKind::Dir => Entry { mode: Some(0o750), mtime: Some(1_000_000_002), ..entry },
            EntryKind::Symlink => Entry { mtime: Some(5_000_000_007), target: Some(FilePath(b"/etc".to_vec())), ..entry },
        }
    }

    /// Writes entries into a folder; every file gets its own path as bytes.
    fn write(root: &Path, before: &[Entry], after: &[Entry]) -> Written {
        let content =
            |entry: &Entry, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>| sink(&entry.path.0).map_err(|e| FilesError::Read(e.into()));
        let folders = after.iter().filter(|entry| entry.kind == EntryKind::Dir).cloned().collect();
        stage(root, diff(before, after), folders, Replace::Known, &content).expect("staged").publish()
    }

    fn with_size(mut entry: Entry) -> Entry {
        entry.size = entry.path.0.len() as u64;
        entry.chunks = vec![crate::id::ObjectId::of(&entry.path.0)];
        entry
    }

    #[test]
    fn files_folders_and_links_are_written_with_what_belongs_to_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let after = [entry("d", EntryKind::Dir), with_size(entry("d/f", EntryKind::File)), entry("l", EntryKind::Symlink)];
        let done = write(dir.path(), &[], &after);
        assert_eq!((done.written, done.failures.as_slice()), (3, &[][..]));
        let look = Look::of(&dir.path().join("d/f").metadata().expect("there"));
        assert_eq!((look.mode, look.mtime, look.size), (0o640, -1_500_000_001, 3));
        assert_eq!(Look::of(&dir.path().join("l").symlink_metadata().expect("there")).mtime, 5_000_000_007);
        let folder = Look::of(&dir.path().join("d").metadata().expect("there"));
        assert_eq!((folder.mode, folder.mtime), (0o750, 1_000_000_002));
        // And back to nothing.
        let done = write(dir.path(), &after, &[]);
        assert_eq!((done.removed, done.failures.as_slice()), (3, &[][..]));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn what_somebody_wrote_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = [with_size(entry("a", EntryKind::File)), with_size(entry("b", EntryKind::File))];
        assert_eq!(write(dir.path(), &[], &old).written, 2);
        fs_err::write(dir.path().join("a"), "mine").expect("written");
        fs_err::write(dir.path().join("c"), "mine too").expect("written");
        let new = [with_size(entry("c", EntryKind::File))];
        let done = write(dir.path(), &old, &new);
        let failed: Vec<String> = done.failures.iter().map(|failure| failure.path.to_string()).collect();
        assert_eq!((failed, done.removed, done.written), (vec!["a".to_owned(), "c".to_owned()], 1, 0));
        assert_eq!(fs_err::read(dir.path().join("a")).expect("there"), b"mine");
        assert_eq!(fs_err::read(dir.path().join("c")).expect("there"), b"mine too");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2, "nothing is left on its way");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs_err::create_dir(&root).expect("a folder");
        fs_err::create_dir(&outside).expect("a folder");
        std::os::unix::fs::symlink(&outside, root.join("d")).expect("a link");
        let done = write(&root, &[], &[with_size(entry("d/f", EntryKind::File))]);
        assert!(done.failures[0].why.contains("no folder"), "{done:?}");
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0);
        let content = |_: &Entry, _: &mut dyn FnMut(&[u8]) -> io::Result<()>| Ok(());
        let hostile = diff(&[], &[with_size(entry("../x", EntryKind::File))]);
        assert!(stage(&root, hostile, Vec::new(), Replace::Anything, &content).is_err());
    }

    #[test]
    fn a_folder_becomes_a_file_and_a_file_a_folder() {
        let dir = tempfile::tempdir().expect("a directory");
        let one = [entry("x", EntryKind::Dir), with_size(entry("x/f", EntryKind::File)), with_size(entry("y", EntryKind::File))];
        let other = [with_size(entry("x", EntryKind::File)), entry("y", EntryKind::Dir), with_size(entry("y/f", EntryKind::File))];
        write(dir.path(), &[], &one);
        for (before, after) in [(&one, &other), (&other, &one)] {
            let done = write(dir.path(), before, after);
            assert!(done.failures.is_empty(), "{done:?}");
            assert!(after.iter().all(|entry| is_as(
                entry,
                &dir.path().join(entry.path.to_string()),
                &dir.path().join(entry.path.to_string()).metadata().expect("there")
            )));
        }
    }
}
