//! What one process tree, and nobody else, sees in place of files (Linux).
//!
//! - [`View::Overlay`]: a folder with a layer over it. Everything that the processes write there, whatever it is, lands in the layer; the folder
//!   below stays what it is. A database in the layer is met at the path of the real one, by a tool that reads that path from its own
//!   configuration. The folder, and not the file alone: SQLite keeps a database's journals beside it, and a journal that is torn from its
//!   database, this one's or a neighbour's, is damage.
//! - [`View::ReadOnly`]: a file that can only be read, for processes that have no business with it.
//!
//! # Invariants
//! - [`enter`] acts on this process and those that it starts. Nothing is mounted before the namespace is private, so nothing of it is ever seen
//!   outside.
//! - A user without rights over the system gets them in a user namespace of his own, in which he is who he was; they end with `exec`.
//! - On error nothing was changed for anybody else; this process is not to go on.

use std::io;
use std::path::{Path, PathBuf};

/// What a process tree is to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// A folder with a layer over it.
    Overlay(Overlay),
    /// This file, absolute and without symbolic links, and nobody can write it.
    ReadOnly(PathBuf),
}

/// A folder and the layer over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The folder, absolute and without symbolic links.
    pub folder: PathBuf,
    /// What is over it. Not below the folder, nor above it.
    pub upper: PathBuf,
    /// An empty folder beside the layer, on its file system, for the system itself.
    pub work: PathBuf,
    /// Names in the folder that are to be gone, where the layer does not have them.
    pub hidden: Vec<std::ffi::OsString>,
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
    /// Something cannot be mounted.
    #[error("`{}` cannot be mounted over", path.display())]
    Mount {
        /// What.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Something in it is mounted already, and a layer would hide that.
    #[error("`{}` is mounted in the folder", .0.display())]
    Mounted(PathBuf),
}

/// Gives this process, and all that it starts, a view. `cwd` is entered anew, by its name.
///
/// # Errors
/// [`NamespaceError`]; the process should end then.
#[cfg(target_os = "linux")]
pub fn enter(view: &View, cwd: &Path) -> Result<(), NamespaceError> {
    use nix::mount::{MsFlags, mount};

    if let View::Overlay(overlay) = view
        && let Some(mounted) = mounts()
            .map_err(NamespaceError::Refused)?
            .into_iter()
            .find(|place| *place != overlay.folder && place.starts_with(&overlay.folder))
    {
        return Err(NamespaceError::Mounted(mounted));
    }
    let is_root = unshare()?;
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).map_err(|errno| NamespaceError::Refused(io_error(errno)))?;
    match view {
        View::Overlay(overlay) => {
            let Overlay { folder, upper, work, hidden } = overlay;
            let failed = |source| NamespaceError::Mount { path: folder.clone(), source };
            let mut options = std::ffi::OsString::from(if is_root { "" } else { "userxattr," });
            for (at, (name, path)) in [("lowerdir", folder), ("upperdir", upper), ("workdir", work)].into_iter().enumerate() {
                options.push(if at == 0 { "" } else { "," });
                options.push(name);
                options.push("=");
                options.push(escaped(path));
            }
            let mounted = mount(Some("overlay"), folder, Some("overlay"), MsFlags::empty(), Some(options.as_os_str()));
            mounted.map_err(|errno| failed(io_error(errno)))?;
            for name in hidden.iter().filter(|name| upper.join(name).symlink_metadata().is_err()) {
                match std::fs::remove_file(folder.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                    _ => {}
                }
            }
        }
        View::ReadOnly(file) => {
            let failed = |errno| NamespaceError::Mount { path: file.clone(), source: io_error(errno) };
            mount(Some(file), file, none, MsFlags::MS_BIND, none).map_err(failed)?;
            // What the file system is mounted with stays, or a user namespace may not change it.
            let flags = nix::sys::statvfs::statvfs(file).map_err(failed)?.flags().bits();
            let kept = MsFlags::from_bits_truncate(flags) & (MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC);
            mount(none, file, none, kept | MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).map_err(failed)?;
        }
    }
    std::env::set_current_dir(cwd).map_err(|source| NamespaceError::Mount { path: cwd.to_owned(), source })
}

/// Leaves the system's mounts. Tells whether this is who may mount anyway.
#[cfg(target_os = "linux")]
fn unshare() -> Result<bool, NamespaceError> {
    use nix::sched::CloneFlags;

    let unshare = |flags| nix::sched::unshare(flags).map_err(io_error);
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    // Whoever may mount needs no user namespace, in which other users' files would look like nobody's.
    if uid.is_root() && unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        return Ok(true);
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(NamespaceError::Refused)?;
    let write = |name: &str, text: String| std::fs::write(Path::new("/proc/self").join(name), text).map_err(NamespaceError::Refused);
    // Linux wants this before a group is mapped by one who has no right over groups (user_namespaces(7)).
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{uid} {uid} 1"))?;
    write("gid_map", format!("{gid} {gid} 1"))?;
    Ok(false)
}

#[cfg(target_os = "linux")]
fn io_error(errno: nix::Error) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// Writes a path as an option of an overlay: commas and colons end one there.
#[cfg(target_os = "linux")]
fn escaped(path: &Path) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b'\\' | b',' | b':') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    std::ffi::OsString::from_vec(bytes)
}

/// Lists where something is mounted.
#[cfg(target_os = "linux")]
fn mounts() -> io::Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    // Blanks and the like are written in octal (proc(5)).
    let plain = |text: &str| text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|place| PathBuf::from(plain(place))).collect())
}

/// There is no such thing here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn enter(_view: &View, _cwd: &Path) -> Result<(), NamespaceError> {
    Err(NamespaceError::Unsupported)
}
