//! Leases: who reads the store, so that nothing is deleted under a reader.
//!
//! Every open [`super::Store`] holds the operating system's shared lock on the file `leases`, from before it lists the packs until it is
//! dropped; it goes with its process however that dies. Deleting packs needs the exclusive lock, and never waits for it: what is not
//! deleted now stays condemned, and a later run deletes it. A store that can only be read is read without a lease where the file
//! cannot be made; the grace period is what protects such a reader.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::durable;

/// How often a lease that a deletion is in the way of is tried, and how long between: half a minute together.
const ATTEMPTS_MAX: u32 = 3_000;
const ATTEMPT_WAIT: Duration = Duration::from_millis(10);

/// A reader's lease, held until this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    file: Option<File>,
}

/// Nobody reads the store as long as this lives.
#[derive(Debug)]
pub(super) struct Alone<'a> {
    file: &'a File,
}

impl Lease {
    /// Takes a lease; waits for a deletion that goes on.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where the deletion does not end.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        // Where the file cannot be made there is nobody who could delete from here.
        let Ok(file) = durable::open_private(path).or_else(|_| File::open(path)) else { return Ok(Self { file: None }) };
        for _ in 0..ATTEMPTS_MAX {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Self { file: Some(file) }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(ATTEMPT_WAIT),
                // A file system without locks has no project lock either, and so no deletions.
                Err(TryLockError::Error(_)) => return Ok(Self { file: None }),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Becomes the only one, if no other lease is held. This lease is a reader's again when what is returned is dropped.
    pub(super) fn alone(&self) -> Option<Alone<'_>> {
        let file = self.file.as_ref()?;
        // Some systems cannot turn a shared lock into an exclusive one. Nobody else deletes in between: that needs the project lock.
        file.unlock().ok()?;
        match file.try_lock() {
            Ok(()) => Some(Alone { file }),
            Err(_) => {
                let _ = file.lock_shared();
                None
            }
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let _ = self.file.unlock();
        let _ = self.file.lock_shared();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_alone_only_while_nobody_reads() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("leases");
        let own = Lease::take(&path).expect("a lease");
        let other = Lease::take(&path).expect("a lease beside it");
        assert!(own.alone().is_none());
        drop(other);
        let alone = own.alone().expect("nobody reads");
        assert!(File::open(&path).expect("the file").try_lock_shared().is_err());
        drop(alone);
        let other = Lease::take(&path).expect("a lease again");
        assert!(own.alone().is_none() && other.alone().is_none(), "each is a reader again");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_read_without_a_lease() {
        let lease = Lease::take(Path::new("/nonexistent/leases")).expect("no error");
        assert!(lease.alone().is_none());
    }
}
