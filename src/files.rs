//! The folder whose files are kept with a database: which of them are meant ([`Folder::walk`]), and how they are written back ([`write`]).
//!
//! Patterns are those of gitignore files, from the folder: `/uploads/` is the folder of that name here, `uploads/` any folder of that name, `*.toml` any
//! such file. A file is meant if it, or a folder that it stands in, is included and neither is excluded; the last pattern that matches it decides, else the one
//! that matches the nearest folder, so that `!uploads/cache/` takes out what `uploads/` put in.
//!
//! Never taken in, whatever the patterns say: what the caller keeps out (the store, the database and what its engine keeps beside it), folders called
//! `.git`, and names that begin with [`TEMPORARY`]. Links are kept as links and never followed. What is no file, folder or link is skipped, and told.

pub mod write;

use std::io;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::snapshot::files::{EntryKind, FilePath};

/// What names of files begin with that are on their way to their place.
pub const TEMPORARY: &str = ".dbelay-tmp-";

/// A pattern cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{pattern}` cannot be read: {why}")]
pub struct PatternError {
    /// Which one.
    pub pattern: String,
    /// Why not.
    pub why: String,
}

/// What the file system says of a file: all of it the same, and settled, is the same content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Device and inode.
    pub id: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// The time of last modification, in nanoseconds since 1970.
    pub mtime: i64,
    /// The time of last change, which no program can set, in nanoseconds since 1970.
    pub ctime: i64,
    /// The permission bits.
    pub mode: u32,
}

impl Look {
    /// Takes what matters out of metadata.
    #[cfg(unix)]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            id: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            mtime: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime: ns(metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode() & 0o7777,
        }
    }

    /// Takes what matters out of metadata. This system tells neither inodes nor the time of last change.
    #[cfg(not(unix))]
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let mtime = since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
        let mode = if metadata.permissions().readonly() { 0o444 } else { 0o644 };
        Self { id: (0, 0), size: metadata.len(), mtime, ctime: mtime, mode }
    }
}

/// Something that a walk found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where, from the folder.
    pub path: FilePath,
    /// Where, for the system.
    pub place: PathBuf,
    /// What.
    pub kind: EntryKind,
    /// What the file system says of it.
    pub look: Look,
}

/// What a walk found, and what it passed by.
#[derive(Debug, Default)]
pub struct Walked {
    /// Files, folders and links, in the order of their paths.
    pub found: Vec<Found>,
    /// What is worth telling: skipped files, links that lead to folders.
    pub remarks: Vec<String>,
    /// Folders that are meant and cannot be read.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// Files that somebody left on their way.
    pub leftovers: Vec<PathBuf>,
}

/// A folder, and which of its files are meant.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    patterns: [Vec<String>; 2],
    include: Gitignore,
    exclude: Gitignore,
    reaches: Option<Vec<Reach>>,
    kept_out: Vec<PathBuf>,
    kept_out_ids: Vec<(u64, u64)>,
}

/// Where a pattern that is bound to the folder can match: below these names, so deep at most.
#[derive(Debug)]
struct Reach {
    names: Vec<String>,
    depth_max: usize,
}

impl Folder {
    /// Takes a folder with patterns. `kept_out` are files and folders that are never meant.
    ///
    /// # Errors
    /// [`PatternError`] for one that cannot be read.
    pub fn new(root: &Path, include: &[String], exclude: &[String], kept_out: Vec<PathBuf>) -> Result<Self, PatternError> {
        let reaches = include.iter().filter(|pattern| !pattern.starts_with('!')).map(|pattern| reach(pattern)).collect();
        // The same file under another name is kept out as well.
        let kept_out_ids = kept_out.iter().filter_map(|path| Some(Look::of(&path.metadata().ok()?).id)).filter(|id| id.1 != 0).collect();
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let names = |path: PathBuf| {
            let parent = path.parent().and_then(|parent| parent.canonicalize().ok()).zip(path.file_name());
            parent.map_or_else(|| path.clone(), |(parent, name)| parent.join(name))
        };
        Ok(Self {
            root,
            patterns: [include.to_vec(), exclude.to_vec()],
            include: matcher(include)?,
            exclude: matcher(exclude)?,
            reaches,
            kept_out: kept_out.into_iter().map(names).collect(),
            kept_out_ids,
        })
    }

    /// Returns the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the patterns of what is included and excluded.
    pub fn patterns(&self) -> (&[String], &[String]) {
        (&self.patterns[0], &self.patterns[1])
    }

    /// Tells whether a path is meant, by the patterns and names alone.
    pub fn includes(&self, path: &FilePath, kind: EntryKind) -> bool {
        let parts = path.0.split(|byte| *byte == b'/');
        if path.fault().is_some() || parts.into_iter().any(|part| part == b".git" || part.starts_with(TEMPORARY.as_bytes())) {
            return false;
        }
        let Some(path) = path.to_path() else { return false };
        let place = self.root.join(&path);
        !self.kept_out.iter().any(|kept| place.starts_with(kept)) && self.is_meant(&path, kind == EntryKind::Dir)
    }

    fn is_meant(&self, path: &Path, is_dir: bool) -> bool {
        self.include.matched_path_or_any_parents(path, is_dir).is_ignore() && !self.is_excluded(path, is_dir)
    }

    fn is_excluded(&self, path: &Path, is_dir: bool) -> bool {
        self.exclude.matched_path_or_any_parents(path, is_dir).is_ignore()
    }

    /// Tells whether anything below a folder can be meant.
    fn may_hold(&self, path: &Path) -> bool {
        if self.exclude.num_whitelists() == 0 && self.is_excluded(path, true) {
            return false;
        }
        let Some(reaches) = &self.reaches else { return true };
        let names: Vec<_> = path.components().map(|part| part.as_os_str()).collect();
        let is_reached = |reach: &Reach| {
            names.len() < reach.depth_max && names.iter().zip(&reach.names).all(|(name, wanted)| *name == std::ffi::OsStr::new(wanted))
        };
        reaches.iter().any(is_reached) || self.include.matched_path_or_any_parents(path, true).is_ignore()
    }

    /// Walks the folder. What vanishes meanwhile is not found.
    pub fn walk(&self) -> Walked {
        let mut walked = Walked::default();
        let mut walk = walkdir::WalkDir::new(&self.root).follow_links(false).into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.note_error(error, &mut walked);
                    continue;
                }
            };
            let Ok(path) = entry.path().strip_prefix(&self.root) else { continue };
            if path.as_os_str().is_empty() {
                continue;
            }
            let is_dir = entry.file_type().is_dir();
            if self.is_kept_out(&entry) {
                if is_dir {
                    walk.skip_current_dir();
                }
                continue;
            }
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                if is_dir {
                    walk.skip_current_dir();
                } else {
                    walked.leftovers.push(entry.path().to_owned());
                }
                continue;
            }
            if is_dir && !self.may_hold(path) {
                walk.skip_current_dir();
                continue;
            }
            self.take(&entry, path, &mut walked);
        }
        walked.found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        walked
    }

    fn is_kept_out(&self, entry: &walkdir::DirEntry) -> bool {
        let is_dir = entry.file_type().is_dir();
        if is_dir && entry.file_name() == ".git" || self.kept_out.iter().any(|path| path == entry.path()) {
            return true;
        }
        let id = || entry.metadata().ok().map(|metadata| Look::of(&metadata).id);
        !self.kept_out_ids.is_empty() && id().is_some_and(|id| self.kept_out_ids.contains(&id))
    }

    fn take(&self, entry: &walkdir::DirEntry, path: &Path, walked: &mut Walked) {
        let kind = entry.file_type();
        if !self.is_meant(path, kind.is_dir()) {
            if kind.is_symlink() && self.is_meant(path, true) && entry.path().is_dir() {
                walked
                    .remarks
                    .push(format!("`{}` is a link to a folder; links are not followed, so what is there is not kept", shown(path)));
            }
            return;
        }
        let kind = match kind {
            kind if kind.is_file() => EntryKind::File,
            kind if kind.is_dir() => EntryKind::Dir,
            kind if kind.is_symlink() => EntryKind::Symlink,
            _ => {
                walked.remarks.push(format!("`{}` is no file, folder or link (a socket, pipe or device), and is not kept", shown(path)));
                return;
            }
        };
        let Some(name) = FilePath::of(path) else {
            walked.remarks.push(format!("`{}` has a name that cannot be written down, and is not kept", shown(path)));
            return;
        };
        match entry.metadata() {
            Ok(metadata) => {
                walked.found.push(Found { path: name, place: entry.path().to_owned(), kind, look: Look::of(&metadata) });
            }
            Err(error) => self.note_error(error, walked),
        }
    }

    fn note_error(&self, error: walkdir::Error, walked: &mut Walked) {
        let place = error.path().unwrap_or(&self.root).to_owned();
        let error = error.into_io_error().unwrap_or_else(|| io::Error::other("links lead in a circle"));
        if error.kind() == io::ErrorKind::NotFound && place != self.root {
            return;
        }
        let path = place.strip_prefix(&self.root).unwrap_or(&place);
        if path.as_os_str().is_empty() || self.is_meant(path, true) {
            walked.unreadable.push((place, error));
        } else {
            walked.remarks.push(format!("`{}` cannot be looked at ({error}); whatever is included there is not kept", shown(path)));
        }
    }
}

/// Writes a path of this system for people, as [`FilePath`] does.
pub fn shown(path: &Path) -> String {
    FilePath::target(path).map_or_else(|| path.display().to_string(), |path| path.to_string())
}

/// Builds the matcher of patterns.
fn matcher(patterns: &[String]) -> Result<Gitignore, PatternError> {
    let failed = |pattern: &str, error: ignore::Error| PatternError { pattern: pattern.to_owned(), why: error.to_string() };
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(|error| failed(pattern, error))?;
    }
    builder.build().map_err(|error| failed(&patterns.join(", "), error))
}

/// Tells where a pattern can match; none where it can match anywhere.
fn reach(pattern: &str) -> Option<Reach> {
    let body = pattern.strip_suffix('/').unwrap_or(pattern);
    if !body.contains('/') {
        return None;
    }
    let parts: Vec<&str> = body.strip_prefix('/').unwrap_or(body).split('/').collect();
    let is_literal = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
    let names = parts.iter().copied().take_while(is_literal).map(str::to_owned).collect();
    let depth_max = if parts.contains(&"**") { usize::MAX } else { parts.len() };
    Some(Reach { names, depth_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Makes files (and folders, whose names end with a slash), and returns what a walk finds.
    fn walk(files: &[&str], include: &[&str], exclude: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = dir.path().join(file);
            let folder = if file.ends_with('/') { path.clone() } else { path.parent().expect("a parent").to_owned() };
            fs_err::create_dir_all(folder).expect("a folder");
            if !file.ends_with('/') {
                fs_err::write(path, file).expect("a file");
            }
        }
        let kept_out = vec![dir.path().join("app.db"), dir.path().join(".dbelay")];
        let folder = Folder::new(dir.path(), &strings(include), &strings(exclude), kept_out).expect("patterns");
        let walked = folder.walk();
        for found in &walked.found {
            assert!(folder.includes(&found.path, found.kind), "{}", found.path);
        }
        walked.found.iter().map(|found| found.path.to_string()).collect()
    }

    const TREE: &[&str] = &[
        "app.db",
        ".dbelay/config.json",
        ".git/config.toml",
        "config/app.toml",
        "config/notes.md",
        "config/deep/more.toml",
        "public/uploads/x.png",
        "uploads/a.jpg",
        "uploads/a/b.jpg",
        "uploads/cache/tmp.jpg",
        "uploads/empty/",
        "uploads/.dbelay-tmp-1-0",
    ];

    #[test]
    fn patterns_are_those_of_gitignore() {
        let uploads =
            ["uploads", "uploads/a", "uploads/a.jpg", "uploads/a/b.jpg", "uploads/cache", "uploads/cache/tmp.jpg", "uploads/empty"];
        assert_eq!(walk(TREE, &["/uploads/"], &[]), uploads);
        assert_eq!(walk(TREE, &["uploads/"], &[])[..2], ["public/uploads", "public/uploads/x.png"]);
        assert_eq!(walk(TREE, &["config/*.toml"], &[]), ["config/app.toml"]);
        assert_eq!(walk(TREE, &["config/**/*.toml"], &[]), ["config/app.toml", "config/deep/more.toml"]);
        assert_eq!(walk(TREE, &["*.toml", "*.db", "config.json"], &[]), ["config/app.toml", "config/deep/more.toml"]);
        assert_eq!(walk(TREE, &["/uploads/"], &["cache/", "*.jpg"]), ["uploads", "uploads/a", "uploads/empty"]);
        assert_eq!(walk(TREE, &["/uploads/"], &["*.jpg", "!b.jpg", "cache"]), ["uploads", "uploads/a", "uploads/a/b.jpg", "uploads/empty"]);
        let negated = ["uploads", "uploads/a", "uploads/a.jpg", "uploads/a/b.jpg", "uploads/empty"];
        assert_eq!(walk(TREE, &["/uploads/", "!/uploads/cache/"], &[]), negated);
        assert_eq!(walk(TREE, &["/uploads/a.jpg"], &[]), ["uploads/a.jpg"]);
        assert_eq!(walk(TREE, &["*"], &["uploads", "public", "config"]), [""; 0]);
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_named() {
        let error = Folder::new(Path::new("."), &strings(&["a", "b[z-a]"]), &[], Vec::new()).expect_err("refused");
        assert_eq!(error.pattern, "b[z-a]");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed_and_what_is_special_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let (inside, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs_err::create_dir_all(inside.join("uploads")).expect("a folder");
        fs_err::create_dir_all(&outside).expect("a folder");
        fs_err::write(outside.join("x"), "x").expect("a file");
        std::os::unix::fs::symlink(&outside, inside.join("uploads/link")).expect("a link");
        std::os::unix::fs::symlink(&outside, inside.join("media")).expect("a link");
        let _socket = std::os::unix::net::UnixListener::bind(inside.join("uploads/socket")).expect("a socket");
        let folder = Folder::new(&inside, &strings(&["uploads/", "media/"]), &[], Vec::new()).expect("patterns");
        let walked = folder.walk();
        let paths: Vec<String> = walked.found.iter().map(|found| found.path.to_string()).collect();
        assert_eq!(paths, ["uploads", "uploads/link"]);
        assert_eq!(walked.remarks.len(), 2, "{:?}", walked.remarks);
    }

    #[cfg(unix)]
    #[test]
    fn the_database_is_kept_out_under_its_other_name_too() {
        let dir = tempfile::tempdir().expect("a directory");
        fs_err::write(dir.path().join("app.db"), "x").expect("a file");
        fs_err::hard_link(dir.path().join("app.db"), dir.path().join("other.db")).expect("a link");
        let folder = Folder::new(dir.path(), &strings(&["*.db"]), &[], vec![dir.path().join("app.db")]).expect("patterns");
        assert!(folder.walk().found.is_empty());
    }
}
