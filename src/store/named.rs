//! Small files that are called by a name: snapshots by their ids, tags by theirs, the cache's files. In an encrypted store neither their names
//! nor their bytes tell anything; `src/store.rs` and [`super::crypt`] specify both.
//!
//! While a store is being encrypted, or gets another master key, a name may stand for a file of either kind; the newer kind goes first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::crypt::Place;
use super::{Store, StoreError, entries};
use crate::durable;

/// What the names of sealed files end in.
const SEALED: &str = ".enc";

/// A folder of small files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folder {
    /// Its name.
    pub name: &'static str,
    /// What the names of plain files end in.
    pub suffix: &'static str,
}

/// Snapshots.
pub(super) const SNAPSHOTS: Folder = Folder { name: "snapshots", suffix: ".json" };
/// Tags.
pub(super) const TAGS: Folder = Folder { name: "tags", suffix: "" };
/// Pins.
pub(super) const PINS: Folder = Folder { name: "pins", suffix: "" };
/// What is not needed.
pub(super) const CACHE: Folder = Folder { name: "cache", suffix: "" };

/// A file of a folder.
#[derive(Debug)]
pub(super) struct Named {
    /// What it is called; none where that cannot be told.
    pub name: Option<String>,
    /// The file.
    pub path: PathBuf,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Content {
    /// The file.
    pub path: PathBuf,
    /// Its plain bytes, or why there are none.
    pub bytes: Result<Vec<u8>, String>,
}

impl Store {
    fn folder_path(&self, folder: Folder) -> PathBuf {
        self.dir.join(folder.name)
    }

    /// Tells whether files that are not encrypted belong to the store.
    fn takes_plain(&self) -> bool {
        self.vault.as_ref().is_none_or(|vault| vault.has_plain)
    }

    /// Returns where a file of this name may be, the place for a new one first.
    pub(super) fn candidates(&self, folder: Folder, name: &str) -> Vec<PathBuf> {
        let dir = self.folder_path(folder);
        let sealed =
            self.vault.iter().flat_map(|vault| vault.ciphers()).map(|cipher| format!("{}{SEALED}", cipher.name(folder.name, name)));
        let plain = self.takes_plain().then(|| format!("{name}{}", folder.suffix));
        sealed.chain(plain).map(|file| dir.join(file)).collect()
    }

    /// Returns the part of a sealed file's name that its key made.
    pub(super) fn sealed_stem<'f>(&self, file: &'f str) -> Option<&'f str> {
        let is_name = |stem: &&str| stem.len() == 64 && stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        self.vault.as_ref().and_then(|_| file.strip_suffix(SEALED)).filter(is_name)
    }

    /// Tells whether a file belongs to a folder by the form of its name; `is_plain` tells it of plain names without their ending.
    pub(super) fn is_named(&self, folder: Folder, file: &str, is_plain: &dyn Fn(&str) -> bool) -> bool {
        self.sealed_stem(file).is_some() || self.takes_plain() && file.strip_suffix(folder.suffix).is_some_and(is_plain)
    }

    /// Opens the bytes of a sealed file; returns its name as well.
    pub(super) fn unseal(&self, folder: Folder, stem: &str, bytes: &[u8]) -> Result<(String, Vec<u8>), String> {
        let changed = || "it was not sealed with this key for this place, or was changed since".to_owned();
        let vault = self.vault.as_ref().ok_or_else(changed)?;
        let (plain, cipher) = vault.open(Place::File(folder.name, stem), bytes).map_err(|error| error.to_string())?;
        let end = plain.iter().position(|byte| *byte == 0).ok_or_else(changed)?;
        let name = std::str::from_utf8(&plain[..end]).map_err(|_| changed())?;
        if cipher.name(folder.name, name) != stem {
            return Err(changed());
        }
        Ok((name.to_owned(), plain[end + 1..].to_vec()))
    }

    /// Lists the files of a folder by the form of their names, sorted. Those that begin with [`durable::TEMPORARY`] are none.
    pub(super) fn list_named(&self, folder: Folder) -> Result<Vec<Named>, StoreError> {
        let mut found = Vec::new();
        for (file, path) in entries(&self.folder_path(folder))? {
            if file.starts_with(durable::TEMPORARY) {
                continue;
            }
            let name = if let Some(stem) = self.sealed_stem(&file) {
                let bytes = fs::read(&path).map_err(|source| StoreError::io("reading", &path, source))?;
                self.unseal(folder, stem, &bytes).ok().map(|(name, _)| name)
            } else if let Some(plain) = file.strip_suffix(folder.suffix).filter(|_| self.takes_plain()) {
                Some(plain.to_owned())
            } else {
                continue;
            };
            found.push(Named { name, path });
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Tells whether there is a file of a name. Does not read it.
    pub(super) fn has_named(&self, folder: Folder, name: &str) -> bool {
        self.candidates(folder, name).iter().any(|path| path.exists())
    }

    /// Reads the file of a name; none where there is none.
    pub(super) fn read_named(&self, folder: Folder, name: &str) -> Result<Option<Content>, StoreError> {
        for path in self.candidates(folder, name) {
            match fs::read(&path) {
                Ok(bytes) => return Ok(Some(Content { bytes: self.plain(folder, name, &path, bytes), path })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::io("reading", &path, source)),
            }
        }
        Ok(None)
    }

    fn plain(&self, folder: Folder, name: &str, path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        match self.sealed_stem(file) {
            None => Ok(bytes),
            Some(stem) => match self.unseal(folder, stem, &bytes)? {
                (found, plain) if found == name => Ok(plain),
                _ => Err("it is another's".to_owned()),
            },
        }
    }

    /// Writes the file of a name, durably, in place of one that is there. Those of the cache are not waited for: their readers take what is odd for
    /// nothing.
    pub(super) fn write_named(&self, folder: Folder, name: &str, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        let mut candidates = self.candidates(folder, name).into_iter();
        let path = candidates.next().unwrap_or_else(|| self.folder_path(folder).join(name));
        let io = |source| StoreError::io("writing", &path, source);
        let write = if folder.name == CACHE.name { durable::write_fleeting } else { durable::write };
        match &self.vault {
            None => write(&path, bytes).map_err(io)?,
            Some(vault) => {
                let stem = vault.current.name(folder.name, name);
                let plain = [name.as_bytes(), &[0], bytes].concat();
                write(&path, &vault.current.seal(Place::File(folder.name, &stem), &plain)).map_err(io)?;
            }
        }
        // An older kind of it would come back to life with the older key; it goes once the newer one is there for certain.
        let old: Vec<PathBuf> = candidates.filter(|old| old.exists()).collect();
        if !old.is_empty() {
            let found = fs::read(&path).map_err(|source| StoreError::io("reading back", &path, source))?;
            if self.plain(folder, name, &path, found).as_deref() != Ok(bytes) {
                return Err(StoreError::io("reading back", &path, io::Error::other("the bytes on disk are not those that were written")));
            }
        }
        for old in old {
            durable::remove(&old).map_err(|source| StoreError::io("deleting", &old, source))?;
        }
        Ok(path)
    }

    /// Deletes the file of a name, durably. One that is not there is no error.
    pub(super) fn remove_named(&self, folder: Folder, name: &str) -> Result<(), StoreError> {
        for path in self.candidates(folder, name) {
            durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))?;
        }
        Ok(())
    }
}
