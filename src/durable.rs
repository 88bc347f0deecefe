//! Durable writes: the only place that renames and syncs.
//!
//! A file appears whole or not at all: it is written under a name that starts with [`TEMPORARY`] in the directory where it belongs, synced,
//! renamed, and the directory is synced. Files are made 0600, directories 0700.
//!
//! Every step that changes what a power cut leaves counts down the crash countdown, if [`die_at_step`] set one: that is how tests die at
//! each of them in turn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What names of files begin with that are not there yet. Whoever finds one and is alone may delete it.
pub const TEMPORARY: &str = "tmp-";

/// Steps until the process dies; 0 for never.
static COUNTDOWN: AtomicU64 = AtomicU64::new(0);

/// Numbers temporary files, so that two threads never meet.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Lets the process die, without any clean-up, just before its n-th durable step from now on; 0 for never. For tests of crashes.
pub fn die_at_step(n: u64) {
    COUNTDOWN.store(n, Ordering::SeqCst);
}

fn step() {
    if COUNTDOWN.load(Ordering::Relaxed) > 0 && COUNTDOWN.fetch_sub(1, Ordering::SeqCst) == 1 {
        std::process::abort();
    }
}

/// Makes a directory, with its parents, and makes it durable. One that is there already is left as it is.
///
/// # Errors
/// What the system says.
pub fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir(parent)?;
    }
    step();
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Writes a file that appears whole or not at all; one of the same name is replaced.
///
/// # Errors
/// What the system says. The old file, or none, is there then.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = TemporaryFile::create_in(directory_of(path))?;
    file.write_all(bytes)?;
    file.publish(path)
}

/// As [`write`], but without waiting for the disk: for what only saves time. After a power cut there may be the old file, the new one, none, or one with
/// other bytes: whoever reads it *must* be able to tell.
///
/// # Errors
/// As [`write`].
pub fn write_fleeting(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = TemporaryFile::create_in(directory_of(path))?;
    file.write_all(bytes)?;
    file.rename(path)
}

/// As [`write`], with these permissions instead of its owner's alone: for files that are not the store's.
///
/// # Errors
/// As [`write`].
pub fn write_with(path: &Path, bytes: &[u8], permissions: fs::Permissions) -> io::Result<()> {
    let mut file = TemporaryFile::create_in(directory_of(path))?;
    file.write_all(bytes)?;
    fs::set_permissions(&file.path, permissions)?;
    file.publish(path)
}

/// Appends bytes to a file, after cutting it off at `length`, and makes both durable. Makes the file where there is none.
///
/// # Errors
/// What the system says. Some of the bytes may have been written then.
pub fn append_at(path: &Path, length: u64, bytes: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    step();
    let mut file = private(OpenOptions::new().write(true).create(true).truncate(false)).open(path)?;
    if file.metadata()?.len() != length {
        file.set_len(length)?;
    }
    file.seek(SeekFrom::Start(length))?;
    file.write_all(bytes)?;
    step();
    file.sync_all()?;
    if is_new { sync_dir(directory_of(path)) } else { Ok(()) }
}

/// Makes durable what others wrote into files of one folder, and under which names. What is not there, or is no file, is no error.
///
/// # Errors
/// What the system says.
pub fn sync_others(paths: &[PathBuf]) -> io::Result<()> {
    // A pipe would be waited for.
    for path in paths.iter().filter(|path| path.is_file()) {
        step();
        File::open(path)?.sync_all()?;
    }
    match paths.first().map(|path| directory_of(path)).filter(|folder| folder.is_dir()) {
        Some(folder) => sync_dir(folder),
        None => Ok(()),
    }
}

/// Deletes a file durably. One that is not there is no error.
///
/// # Errors
/// What the system says.
pub fn remove(path: &Path) -> io::Result<()> {
    step();
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    }
    sync_dir(directory_of(path))
}

/// Deletes an empty folder durably.
///
/// # Errors
/// What the system says, also where it is not empty.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    step();
    fs::remove_dir(path)?;
    sync_dir(directory_of(path))
}

/// Makes a symbolic link that appears whole or not at all; a file or link of the same name is replaced. `prefix` begins the name that it has on its way,
/// and `dress` is given that name before the link gets its own.
///
/// # Errors
/// What the system says. What was there is there then.
#[cfg(unix)]
pub fn symlink(target: &Path, path: &Path, prefix: &str, dress: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let staged = loop {
        let name = format!("{prefix}{}", SEQUENCE.fetch_add(1, Ordering::Relaxed));
        let staged = directory_of(path).join(name);
        match std::os::unix::fs::symlink(target, &staged) {
            Ok(()) => break StagedFile { path: staged },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    };
    dress(&staged.path)?;
    staged.publish(path)
}

/// Gives a file another name, durably. Something of that name must not be there.
///
/// # Errors
/// What the system says. The file has its old name then.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if to.symlink_metadata().is_ok() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    step();
    fs::rename(from, to)?;
    sync_dir(directory_of(to))
}

/// Gives a file the first of these names that nothing has, durably; returns it. The names *must* be in one folder of the file's file system.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where each of them is taken, else what the system says. The file has its old name then.
pub fn rename_to_free(from: &Path, names: &mut dyn Iterator<Item = PathBuf>) -> io::Result<PathBuf> {
    for to in names {
        if to.symlink_metadata().is_ok() {
            continue;
        }
        step();
        // A link never takes the place of another file, also where somebody makes that one just now.
        match fs::hard_link(from, &to) {
            Ok(()) => fs::remove_file(from)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            // Not every file system has links.
            Err(_) => fs::rename(from, &to)?,
        }
        sync_dir(directory_of(&to))?;
        return Ok(to);
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

/// Opens a file for its owner alone.
///
/// # Errors
/// What the system says.
pub fn open_private(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(path)
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    step();
    // Elsewhere directories cannot be opened, and renames are durable by themselves.
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// A file on its way. Dropped before [`TemporaryFile::publish`], it is gone.
#[derive(Debug)]
pub struct TemporaryFile {
    file: Option<BufWriter<File>>,
    path: PathBuf,
}

impl TemporaryFile {
    /// Begins a file in the directory where it will stand.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_in(directory: &Path) -> io::Result<Self> {
        Self::create_as(directory, TEMPORARY)
    }

    /// As [`TemporaryFile::create_in`], with a name that begins otherwise: in a folder where files called [`TEMPORARY`] may be somebody's own.
    ///
    /// # Errors
    /// What the system says.
    pub fn create_as(directory: &Path, prefix: &str) -> io::Result<Self> {
        loop {
            let name = format!("{prefix}{}", SEQUENCE.fetch_add(1, Ordering::Relaxed));
            let path = directory.join(name);
            match private(OpenOptions::new().read(true).write(true).create_new(true)).open(&path) {
                Ok(file) => return Ok(Self { file: Some(BufWriter::with_capacity(1 << 18, file)), path }),
                // Another process's, or left behind by one that died.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns where it is as long as it is not there. What else writes to it there syncs it too.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file the first of these names that nothing has, durably; returns it. The names *must* be in the directory where it was begun.
    ///
    /// # Errors
    /// As [`rename_to_free`]. The file is gone then.
    pub fn publish_as_free(mut self, names: &mut dyn Iterator<Item = PathBuf>) -> io::Result<PathBuf> {
        if let Some(buffered) = self.file.take() {
            let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
            step();
            file.sync_all()?;
        }
        let named = rename_to_free(&self.path, names)?;
        self.path = PathBuf::new();
        Ok(named)
    }

    /// Lets `dress` give the file its permissions and times, makes it durable and closes it; it gets its name later.
    ///
    /// # Errors
    /// What the system says. The file is gone then.
    pub fn stage(mut self, dress: impl FnOnce(&File) -> io::Result<()>) -> io::Result<StagedFile> {
        let Some(buffered) = self.file.take() else { return Err(io::Error::other("the file was published")) };
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        dress(&file)?;
        step();
        file.sync_all()?;
        Ok(StagedFile { path: std::mem::take(&mut self.path) })
    }

    /// Gives the file its name, as [`write_fleeting`] says.
    fn rename(mut self, path: &Path) -> io::Result<()> {
        let Some(buffered) = self.file.take() else { return Ok(()) };
        drop(buffered.into_inner().map_err(io::IntoInnerError::into_error)?);
        step();
        fs::rename(&self.path, path)?;
        self.path = PathBuf::new();
        Ok(())
    }

    /// Gives the file its name, durably; one that has the name already is replaced. The directory *must* be on the same file system.
    ///
    /// # Errors
    /// What the system says. The file is gone then.
    pub fn publish(mut self, path: &Path) -> io::Result<()> {
        let Some(buffered) = self.file.take() else { return Ok(()) };
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        step();
        file.sync_all()?;
        drop(file);
        step();
        fs::rename(&self.path, path)?;
        let from = directory_of(&self.path).to_owned();
        self.path = PathBuf::new();
        let to = directory_of(path);
        sync_dir(to)?;
        if from == to { Ok(()) } else { sync_dir(&from) }
    }
}

impl Write for TemporaryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::Error::other("the file was published")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            self.file = None;
            // What cannot be deleted now, the next holder of the store's lock deletes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file that is whole, durable and closed, and has not its name yet. Dropped before [`StagedFile::publish`], it is gone.
#[derive(Debug)]
pub struct StagedFile {
    path: PathBuf,
}

impl StagedFile {
    /// Gives the file its name, durably; one that has the name already is replaced. The directory *must* be on the same file system.
    ///
    /// # Errors
    /// What the system says. The file is gone then.
    pub fn publish(mut self, path: &Path) -> io::Result<()> {
        step();
        fs::rename(&self.path, path)?;
        let from = std::mem::take(&mut self.path);
        sync_dir(directory_of(path))?;
        if directory_of(&from) == directory_of(path) { Ok(()) } else { sync_dir(directory_of(&from)) }
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns how much room a folder's file system has for this user; none where the system does not tell.
#[cfg(unix)]
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(folder).ok()?;
    told.f_bavail.checked_mul(told.f_frsize)
}

/// Returns nothing: this system is not asked.
#[cfg(not(unix))]
pub fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_is_the_owners() {
        let dir = tempfile::tempdir().expect("a directory");
        let nested = dir.path().join("a/b");
        create_dir(&nested).expect("directories");
        let path = nested.join("file");
        write(&path, b"one").expect("a file");
        write(&path, b"two").expect("a file");
        assert_eq!(fs::read(&path).expect("the file"), b"two");
        append_at(&path, 3, b"!").expect("more");
        append_at(&path, 2, b"in").expect("cut and more");
        assert_eq!(fs::read(&path).expect("the file"), b"twin");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().expect("metadata").permissions().mode() & 0o777, 0o600);
            assert_eq!(nested.metadata().expect("metadata").permissions().mode() & 0o777, 0o700);
        }
        remove(&path).expect("gone");
        remove(&path).expect("still gone");
        assert_eq!(fs::read_dir(&nested).expect("the directory").count(), 0);
    }

    #[test]
    fn a_file_takes_the_first_name_that_is_free_and_never_anothers() {
        let dir = tempfile::tempdir().expect("a directory");
        let names = || ["a", "a-2", "a-3"].map(|name| dir.path().join(name)).into_iter();
        for expected in ["a", "a-2", "a-3"] {
            let mut file = TemporaryFile::create_in(dir.path()).expect("a file");
            file.write_all(expected.as_bytes()).expect("written");
            assert_eq!(file.publish_as_free(&mut names()).expect("a name"), dir.path().join(expected));
        }
        let file = TemporaryFile::create_in(dir.path()).expect("a file");
        assert_eq!(file.publish_as_free(&mut names()).expect_err("none is free").kind(), io::ErrorKind::AlreadyExists);
        for name in ["a", "a-2", "a-3"] {
            assert_eq!(fs::read(dir.path().join(name)).expect("the file"), name.as_bytes());
        }
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 3);
    }

    #[test]
    fn a_file_that_was_not_published_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut file = TemporaryFile::create_in(dir.path()).expect("a file");
        file.write_all(b"half").expect("written");
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0);
    }
}
