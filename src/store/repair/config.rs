//! A store's `config.json` that is damaged or lost: what it must have been, where that can be told.
//!
//! One turned bit is turned back, which the file's own check proves. A lost one is made anew only where nothing in the store could say something else:
//! every pack begins as packs of this format do, and there are no keys. Its own id is the one thing that is new then; nothing in the store refers to it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::super::config::Config;
use super::super::pack::MAGIC;
use super::super::{FORMAT_PLAIN, StoreError, entries};
use super::turn_back;
use crate::durable;
use crate::id::ObjectId;

/// What can be done about a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigFate {
    /// Nothing need be done.
    Sound,
    /// One bit was turned; this is the file as it was.
    Mended(Vec<u8>),
    /// It can be made anew, with another id of the store.
    Anew,
    /// Nobody can tell what it was, and why.
    Lost(String),
}

/// Looks at a store's config. There must be a store's folders.
///
/// # Errors
/// [`StoreError::NoStore`], [`StoreError::NewerFormat`], [`StoreError::Io`].
pub fn look_at_config(dir: &Path) -> Result<ConfigFate, StoreError> {
    let folders = [dir.join("packs"), dir.join("snapshots")];
    if !folders.iter().any(|folder| folder.is_dir()) {
        return Err(StoreError::NoStore(dir.to_owned()));
    }
    let path = dir.join("config.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(StoreError::io("reading", &path, source)),
    };
    if is_right(&bytes) {
        return Ok(ConfigFate::Sound);
    }
    let mended = turn_back(bytes.clone(), &is_right);
    if let Some(found) = Config::later_format(&bytes).filter(|_| mended.is_none()) {
        return Err(StoreError::NewerFormat { dir: dir.to_owned(), found });
    }
    if let Some(mended) = mended {
        return Ok(ConfigFate::Mended(mended));
    }
    for (_, room) in entries(&dir.join("packs"))?.into_iter().filter(|(_, path)| path.is_dir()) {
        for (name, pack) in entries(&room)?.into_iter().filter(|(name, _)| name.ends_with(".pack")) {
            let mut magic = [0; 8];
            let read = File::open(&pack).and_then(|mut file| file.read_exact(&mut magic));
            if read.is_err() || magic != *MAGIC {
                return Ok(ConfigFate::Lost(format!("pack `{name}` does not begin as packs of format {FORMAT_PLAIN} do")));
            }
        }
    }
    if !entries(&dir.join("keys"))?.is_empty() {
        return Ok(ConfigFate::Lost("the store has keys, and only the lost file said how they are used".to_owned()));
    }
    Ok(ConfigFate::Anew)
}

fn is_right(bytes: &[u8]) -> bool {
    Config::decode(bytes).is_ok()
}

/// Writes a config that was found, keeping what stood there in `damaged/`.
///
/// # Errors
/// [`StoreError::Io`].
pub fn write_config(dir: &Path, fate: &ConfigFate, id: [u8; 16]) -> Result<(), StoreError> {
    let path = dir.join("config.json");
    let io = |source| StoreError::io("writing", &path, source);
    let bytes = match fate {
        ConfigFate::Sound | ConfigFate::Lost(_) => return Ok(()),
        ConfigFate::Mended(bytes) => bytes.clone(),
        ConfigFate::Anew => Config::plain(id.iter().map(|byte| format!("{byte:02x}")).collect()).encode(),
    };
    if let Ok(old) = fs::read(&path) {
        let kept = dir.join(super::DAMAGED).join(format!("config-{}.json", ObjectId::of(&old).short()));
        durable::create_dir(&dir.join(super::DAMAGED)).map_err(io)?;
        durable::write(&kept, &old).map_err(io)?;
    }
    durable::write(&path, &bytes).map_err(io)
}
