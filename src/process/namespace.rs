//! A folder that one process tree, and nobody else, sees with other database files in it (Linux).
//!
//! A tool that reads the path of its database from its own configuration meets a copy of it this way. The folder, and not the file alone, is
//! exchanged: SQLite keeps a database's journals beside it, and the journal of a copy, lying beside the real database, would be taken for the
//! real one's. So the stand-in folder holds the copy, and all else of the real folder is mounted into it: every other file is the real one.
//! Files that the process tree makes anew in that folder stay in the stand-in.
//!
//! # Invariants
//! - [`enter`] acts on this process and those that it starts. Nothing is mounted before the namespace is private, so nothing of it is ever seen
//!   outside.
//! - A user without rights over the system gets them in a user namespace of his own, in which he is who he was; they end with `exec`.
//! - On error nothing was changed for anybody else; this process is not to go on.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// The most things beside the database that are mounted one by one.
pub const ENTRIES_MAX: usize = 5_000;

/// What is exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// The real folder, absolute and without symbolic links.
    pub real: PathBuf,
    /// The folder that takes its place: below the real one, or elsewhere.
    pub stand_in: PathBuf,
    /// The name of the database in both.
    pub file: std::ffi::OsString,
}

/// Why a process cannot be given another view.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// Not on this system.
    #[error("this system has no mount namespaces")]
    Unsupported,
    /// The system refuses one.
    #[error("the system gives this user no namespaces ({0})")]
    Refused(#[source] io::Error),
    /// Something in the folder cannot be mounted.
    #[error("`{}` cannot be mounted", path.display())]
    Mount {
        /// What.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The folder cannot be exchanged.
    #[error("`{}` {why}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// The files that SQLite keeps for a database: itself, and its journals.
fn is_database(name: &OsStr, file: &OsStr) -> bool {
    let (name, file) = (name.as_encoded_bytes(), file.as_encoded_bytes());
    name.strip_prefix(file).is_some_and(|rest| matches!(rest, b"" | b"-wal" | b"-shm" | b"-journal"))
}

/// Gives this process, and all that it starts, the stand-in in place of the real folder. `cwd` is entered anew, by its name.
///
/// # Errors
/// [`NamespaceError`]; the process should end then.
#[cfg(target_os = "linux")]
pub fn enter(exchange: &StandIn, cwd: &Path) -> Result<(), NamespaceError> {
    use nix::mount::{MsFlags, mount};
    use nix::sched::CloneFlags;

    let StandIn { real, stand_in, file } = exchange;
    if real.parent().is_none() {
        return Err(NamespaceError::Folder { path: real.clone(), why: "is the root of the file system".to_owned() });
    }
    let io_error = |errno: nix::Error| io::Error::from_raw_os_error(errno as i32);
    let unshare = |flags| nix::sched::unshare(flags).map_err(io_error);
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    // Whoever may mount needs no user namespace, in which other users' files would look like nobody's.
    if !uid.is_root() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(NamespaceError::Refused)?;
        let write = |name: &str, text: String| std::fs::write(Path::new("/proc/self").join(name), text).map_err(NamespaceError::Refused);
        // Linux wants this before a group is mapped by one who has no right over groups (user_namespaces(7)).
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{uid} {uid} 1"))?;
        write("gid_map", format!("{gid} {gid} 1"))?;
    }
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(|errno| NamespaceError::Refused(io_error(errno)))?;
    let bind = |from: &Path, to: &Path| {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(from), to, none, flags, none).map_err(|errno| NamespaceError::Mount { path: from.to_owned(), source: io_error(errno) })
    };
    let unreadable = |source| NamespaceError::Mount { path: real.clone(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(real).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !is_database(&entry.file_name(), file) {
            entries.push(entry);
        }
        if entries.len() > ENTRIES_MAX {
            return Err(NamespaceError::Folder { path: real.clone(), why: format!("holds more than {ENTRIES_MAX} files") });
        }
    }
    for entry in entries {
        let (from, to) = (entry.path(), stand_in.join(entry.file_name()));
        let at = |source| NamespaceError::Mount { path: entry.path(), source };
        let kind = entry.file_type().map_err(at)?;
        if kind.is_symlink() {
            made(std::fs::read_link(&from).and_then(|target| std::os::unix::fs::symlink(target, &to))).map_err(at)?;
            continue;
        }
        made(if kind.is_dir() { std::fs::create_dir(&to) } else { std::fs::File::create_new(&to).map(drop) }).map_err(at)?;
        // The stand-in under its own name is the stand-in again, so that the copy has its journals beside it under each of its names.
        bind(if from == *stand_in { stand_in } else { &from }, &to)?;
    }
    bind(stand_in, real)?;
    std::env::set_current_dir(cwd).map_err(|source| NamespaceError::Mount { path: cwd.to_owned(), source })
}

/// An earlier process that entered left the places for the mounts behind.
#[cfg(target_os = "linux")]
fn made(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Tells whether this process sees something mounted in a folder; yes where it cannot be told.
#[cfg(target_os = "linux")]
pub fn has_mounts(folder: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return true };
    let escaped = |text: &str| text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|place| Path::new(&escaped(place)).starts_with(folder))
}

/// Tells whether this process sees something mounted in a folder; nothing ever is here.
#[cfg(not(target_os = "linux"))]
pub fn has_mounts(_folder: &Path) -> bool {
    false
}

/// There is no such thing here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn enter(_exchange: &StandIn, _cwd: &Path) -> Result<(), NamespaceError> {
    Err(NamespaceError::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_and_its_journals_are_told_from_what_stands_beside_them() {
        let is = |name: &str| is_database(OsStr::new(name), OsStr::new("app.db"));
        assert!(is("app.db") && is("app.db-wal") && is("app.db-shm") && is("app.db-journal"));
        assert!(!is("app.db2") && !is("app.db-backup") && !is("app") && !is("other.db"));
    }
}
