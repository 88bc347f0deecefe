//! Telling that nobody wrote a database since, without reading it: from what the file system says of its files, as git does for a
//! working tree.
//!
//! The fingerprint is device, inode, size, and the times of last modification and last change, to the nanosecond, of the database and of its
//! write-ahead log. Any write moves the time of last change, which no program can set; so equal fingerprints mean equal
//! content, unless two writes fall into one tick of the file system's clock. Therefore a file that was changed within the last
//! [`SETTLED_MS`] has none. Where there may be more to know (a rollback journal beside it, a system without inodes) there is none either.
//!
//! Only looks at names: to open and close the file would drop the locks that SQLite holds on it in this process.

use std::path::Path;

use super::beside;

/// How long ago the last change must be, in milliseconds: the coarsest clock of a file system in use (FAT) has ticks of two seconds.
pub const SETTLED_MS: i64 = 2_100;

/// Returns the fingerprint of a database at this time (milliseconds since 1970), where it can be told.
pub fn fingerprint(path: &Path, now_ms: i64) -> Option<String> {
    if beside(path, "-journal").metadata().is_ok_and(|metadata| metadata.len() > 0) {
        return None;
    }
    read(path, Some(now_ms))
}

/// Returns what the file system says of the files now, however lately they changed: two that differ are of two states.
pub(super) fn look(path: &Path) -> Option<String> {
    read(path, None)
}

#[cfg(unix)]
fn read(path: &Path, now_ms: Option<i64>) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let mut text = String::new();
    for (name, path) in [("db", path.to_owned()), ("wal", beside(path, "-wal"))] {
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && name == "wal" => continue,
            Err(_) => return None,
        };
        // An empty log says as little as none.
        if name == "wal" && metadata.len() == 0 {
            continue;
        }
        let changed_ms = |seconds: i64, nanos: i64| seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000);
        let newest_ms = changed_ms(metadata.mtime(), metadata.mtime_nsec()).max(changed_ms(metadata.ctime(), metadata.ctime_nsec()));
        if !metadata.is_file() || now_ms.is_some_and(|now_ms| now_ms.saturating_sub(newest_ms) < SETTLED_MS) {
            return None;
        }
        text.push_str(&format!(
            "{name}:{}:{}:{}:{}.{}:{}.{};",
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec()
        ));
    }
    Some(text)
}

/// Returns none: this system does not say enough.
#[cfg(not(unix))]
fn read(_: &Path, _: Option<i64>) -> Option<String> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_just_changed_has_no_fingerprint_and_a_settled_one_keeps_its_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.db");
        assert_eq!(fingerprint(&path, i64::MAX), None);
        std::fs::write(&path, b"x").expect("written");
        let changed_ms = {
            use std::os::unix::fs::MetadataExt;
            let metadata = path.metadata().expect("metadata");
            metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000
        };
        assert_eq!(fingerprint(&path, changed_ms + SETTLED_MS - 1), None);
        assert!(fingerprint(&path, changed_ms + SETTLED_MS).is_some());
        let later = changed_ms + 10_000;
        let first = fingerprint(&path, later).expect("settled");
        std::fs::write(dir.path().join("a.db-wal"), b"").expect("written");
        assert_eq!(fingerprint(&path, later).as_ref(), Some(&first));
        std::fs::write(dir.path().join("a.db-wal"), b"frames").expect("written");
        assert_ne!(fingerprint(&path, later).as_ref(), Some(&first));
        std::fs::write(dir.path().join("a.db-journal"), b"hot").expect("written");
        assert_eq!(fingerprint(&path, later), None);
    }
}
