//! Descriptors of database files beside SQLite's own.
//!
//! On POSIX systems a process loses all its locks on a file when it closes *any* descriptor of it (<https://www.sqlite.org/howtocorrupt.html>, section
//! 2.2). So a file is opened here before SQLite opens it, at most once however many connections there are, and closed after the last of them.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::FileId;

/// The open files, with the number of those who hold each.
static OPEN: Mutex<Option<Files>> = Mutex::new(None);

/// Files by what they are, with the number of those who hold each.
type Files = HashMap<FileId, (Arc<File>, usize)>;

/// A database file that stays open as long as this lives; to be dropped after the connection.
#[derive(Debug)]
pub(in crate::engine::sqlite) struct Held {
    id: FileId,
    file: Arc<File>,
}

fn open() -> MutexGuard<'static, Option<Files>> {
    // Nothing in here panics half way.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// Opens a file, or shares it; none where it is not this one, cannot be opened for reading, or the system does not tell files apart.
    pub fn of(path: &Path, id: Option<FileId>) -> Option<Self> {
        let id = id?;
        let mut files = open();
        let files = files.get_or_insert_default();
        if let Some((file, holders)) = files.get_mut(&id) {
            *holders += 1;
            return Some(Self { id, file: Arc::clone(file) });
        }
        // What is not the file that was meant is closed again, which is a pity only if SQLite has it open under another name.
        let file = Arc::new(File::open(path).ok()?);
        if file_id(&file) != Some(id) {
            return None;
        }
        files.insert(id, (Arc::clone(&file), 1));
        Some(Self { id, file })
    }

    /// Returns which file it is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Returns the file. It must not outlive this.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut files = open();
        let Some(files) = files.as_mut() else { return };
        // Closed while nobody else can be about to share it.
        if let Some((_, holders)) = files.get_mut(&self.id) {
            *holders -= 1;
            if *holders == 0 {
                files.remove(&self.id);
            }
        }
    }
}

#[cfg(unix)]
fn file_id(file: &File) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn file_id(_: &File) -> Option<FileId> {
    None
}
