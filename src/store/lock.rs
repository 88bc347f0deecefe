//! The project lock: one process at a time changes the store or the database.
//!
//! It is the operating system's lock on the file `lock`, which goes with its process however that dies. What the file holds is only
//! for telling others who has it.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::durable;

/// The longest description that is read.
const HOLDER_BYTES_MAX: u64 = 64 * 1024;

/// How often a lock that nobody has signed is tried, and how long between.
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPT_WAIT: Duration = Duration::from_millis(5);

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Its process.
    pub pid: u32,
    /// On which host.
    pub host: String,
    /// What it does: the command's name.
    pub command: String,
    /// Since when, as snapshots write it.
    pub since: String,
}

/// The lock, held until this is dropped.
#[derive(Debug)]
pub struct LockGuard {
    file: File,
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // Others must not read of a holder that is gone; the lock itself goes with the file.
        let _ = self.file.set_len(0);
    }
}

/// Takes the lock, or says who has it.
///
/// # Errors
/// [`StoreError::Locked`] at once, [`StoreError::Io`].
pub fn acquire(path: &Path, holder: &LockHolder) -> Result<LockGuard, StoreError> {
    let io = |source| StoreError::io("locking", path, source);
    let mut file = durable::open_private(path).map_err(io)?;
    let mut attempts = 0;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let holder = read(&mut file).ok().flatten();
                attempts += 1;
                if holder.is_some() || attempts >= ATTEMPTS_MAX {
                    return Err(StoreError::Locked { holder });
                }
                // Somebody only looks who holds it, or has not written its name yet.
                std::thread::sleep(ATTEMPT_WAIT);
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    let json = serde_json::to_vec(holder).expect("a holder has string keys and no failing serializer");
    file.write_all(&json).map_err(io)?;
    Ok(LockGuard { file })
}

/// Takes the lock without signing it, unless something has happened: then nothing is returned. Waits for whoever has it until then.
///
/// # Errors
/// [`StoreError::Io`].
pub fn acquire_unless(path: &Path, has_happened: &dyn Fn() -> bool) -> Result<Option<File>, StoreError> {
    let io = |source| StoreError::io("locking", path, source);
    let file = durable::open_private(path).map_err(io)?;
    loop {
        let tried = file.try_lock();
        // Looked at after the lock was tried: who had it may have done it before he let it go.
        if has_happened() {
            return Ok(None);
        }
        match tried {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(ATTEMPT_WAIT),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
    }
}

/// Returns who holds the lock now.
///
/// # Errors
/// What the system says.
pub fn holder(path: &Path) -> io::Result<Option<LockHolder>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => read(&mut file),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read(file: &mut File) -> io::Result<Option<LockHolder>> {
    let mut json = Vec::new();
    file.rewind()?;
    file.take(HOLDER_BYTES_MAX).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_the_lock_and_others_hear_who() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let me = LockHolder { pid: 7, host: "here".into(), command: "migrate".into(), since: "now".into() };
        assert_eq!(holder(&path).expect("readable"), None);
        let guard = acquire(&path, &me).expect("free");
        assert_eq!(holder(&path).expect("readable"), Some(me.clone()));
        let Err(StoreError::Locked { holder: Some(found) }) = acquire(&path, &me) else { panic!("it is held") };
        assert_eq!(found, me);
        drop(guard);
        assert_eq!(holder(&path).expect("readable"), None);
        acquire(&path, &me).expect("free again");
    }
}
