//! Checking the files of a store. What snapshots need of each other is for those who can read them to check.

use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::{Holder, Store, StoreError, log, pack};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsckDepth {
    /// Indexes, snapshots, tags, the log.
    Structure,
    /// Every byte as well.
    ReadData,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file, from the store's directory.
    pub path: String,
    /// The object, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectId>,
    /// What is wrong.
    pub what: String,
}

/// What a check looked at, and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FsckReport {
    /// Packs.
    pub packs: u64,
    /// Objects in them.
    pub objects: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Everything that is wrong, in the order of files.
    pub damage: Vec<Damage>,
}

impl Store {
    /// Checks packs, snapshot files, tags, pins and the operation log.
    ///
    /// # Errors
    /// [`StoreError::Io`] where a directory cannot be read; damage is in the report.
    pub fn fsck(&self, depth: FsckDepth, progress: &dyn Progress) -> Result<FsckReport, StoreError> {
        let mut report = FsckReport::default();
        let paths = self.pack_paths()?;
        let bytes = paths.iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
        match depth {
            FsckDepth::Structure => progress.begin("checking packs", Some(paths.len() as u64), Unit::Objects),
            FsckDepth::ReadData => progress.begin("reading packs", Some(bytes), Unit::Bytes),
        }
        for path in &paths {
            report.packs += 1;
            if let Err(what) = self.check_pack(path, depth, progress, &mut report) {
                report.damage.push(Damage { path: self.relative(path), object: None, what });
            }
            if depth == FsckDepth::Structure {
                progress.advance(1);
            }
        }
        progress.finish();
        for (path, id) in self.snapshot_files()? {
            let what = match id {
                None if self.vault.is_none() => continue,
                None => "it is no snapshot that was sealed with this key".to_owned(),
                Some(id) => match self.snapshot(&id) {
                    Ok(_) => String::new(),
                    Err(error) => error.to_string(),
                },
            };
            report.snapshots += 1;
            if !what.is_empty() {
                report.damage.push(Damage { path: self.relative(&path), object: None, what });
            }
        }
        for tag in self.tag_files()? {
            let what = match tag.id {
                None => "it holds no snapshot id".to_owned(),
                Some(id) if !self.has_snapshot(&id) => format!("it names snapshot {id}, which is not there"),
                Some(_) => continue,
            };
            report.damage.push(Damage { path: tag.file, object: None, what });
        }
        for pin in self.pin_files()? {
            let what = match pin.id {
                Some(id) if !self.has_snapshot(&id) => format!("it pins snapshot {id}, which is not there"),
                _ if !pin.is_whole => "it does not hold the id that it is named after".to_owned(),
                _ => continue,
            };
            report.damage.push(Damage { path: pin.file, object: None, what });
        }
        let path = self.log_path();
        let reading = log::read(&path, self.vault.as_ref()).map_err(|source| StoreError::io("reading", &path, source))?;
        if let Some((line, what)) = reading.damage {
            report.damage.push(Damage { path: "ops.jsonl".to_owned(), object: None, what: format!("line {line}: {what}") });
        }
        if !self.dir.join("snapshots").is_dir() || !self.dir.join("packs").is_dir() {
            let what = "its directories are not all there".to_owned();
            report.damage.push(Damage { path: String::new(), object: None, what });
        }
        Ok(report)
    }

    fn check_pack(&self, path: &Path, depth: FsckDepth, progress: &dyn Progress, report: &mut FsckReport) -> Result<(), String> {
        let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
        let (entries, cipher) = pack::read_index(&file, self.vault.as_ref()).map_err(|error| error.to_string())?;
        report.objects += entries.len() as u64;
        if depth == FsckDepth::Structure {
            return Ok(());
        }
        let mut read = 0;
        let hash = pack::hash_file(&file, &mut |bytes| {
            read += bytes;
            progress.advance(bytes);
        });
        report.bytes_read += read;
        let holder = Holder::Pack(path.to_owned(), cipher);
        let before = report.damage.len();
        for entry in &entries {
            if let Err(error) = self.read(entry, &holder) {
                report.damage.push(Damage { path: self.relative(path), object: Some(entry.id), what: error.to_string() });
            }
        }
        let expected = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        match hash {
            Err(error) => Err(format!("it cannot be read: {error}")),
            Ok(hash) if hash.to_string() != expected && report.damage.len() == before => Err("its bytes do not have its id".to_owned()),
            Ok(_) => Ok(()),
        }
    }
}
