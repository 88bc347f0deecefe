//! Checking the files of a store. What snapshots need of each other is for those who can read them to check.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::named::{SNAPSHOTS, TAGS};
use super::{Holder, Store, StoreError, check_tag_name, entries, log, pack};
use crate::id::ObjectId;
use crate::progress::{Progress, Unit};

/// The share that is all, in [`FsckDepth::Sample`].
pub const SHARE_ALL: u32 = 10_000;

/// The file of the cache that names the last pack that a sample read.
const POSITION: &str = "fsck-position";

/// The packs that a check reads.
#[derive(Default)]
struct Chosen {
    packs: HashSet<PathBuf>,
    /// The last one, of a sample.
    last: Option<PathBuf>,
    bytes_chosen: u64,
    bytes: u64,
}

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsckDepth {
    /// Indexes, snapshots, tags, the log.
    Structure,
    /// Every byte as well.
    ReadData,
    /// Every byte of some of the packs as well: about so many ten-thousandths of all bytes. They are those that come after the ones read the last
    /// time, so that checks that are repeated read all.
    Sample(u32),
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
    /// Bytes that all packs have.
    pub bytes: u64,
    /// Files that are none of the store's: ignored.
    pub strays: Vec<String>,
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
        let chosen = self.choose(&paths, depth);
        report.bytes = chosen.bytes;
        match depth {
            FsckDepth::Structure => progress.begin("checking packs", Some(paths.len() as u64), Unit::Objects),
            _ => progress.begin("reading packs", Some(chosen.bytes_chosen), Unit::Bytes),
        }
        for path in &paths {
            report.packs += 1;
            if let Err(what) = self.check_pack(path, chosen.packs.contains(path), progress, &mut report) {
                report.damage.push(Damage { path: self.relative(path), object: None, what });
            }
            if depth == FsckDepth::Structure {
                progress.advance(1);
            }
        }
        progress.finish();
        if let Some(last) = chosen.last {
            self.write_cache(POSITION, self.relative(&last).as_bytes());
        }
        report.strays = self.strays()?;
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

    /// Chooses the packs that are read.
    fn choose(&self, paths: &[PathBuf], depth: FsckDepth) -> Chosen {
        let lengths: Vec<u64> = paths.iter().map(|path| path.metadata().map_or(0, |metadata| metadata.len())).collect();
        let bytes = lengths.iter().sum();
        let mut chosen = Chosen { bytes, ..Chosen::default() };
        match depth {
            FsckDepth::Structure => {}
            FsckDepth::ReadData => {
                chosen.packs = paths.iter().cloned().collect();
                chosen.bytes_chosen = bytes;
            }
            FsckDepth::Sample(share) => {
                let wanted = u128::from(bytes) * u128::from(share) / u128::from(SHARE_ALL);
                let position = self.read_cache(POSITION).unwrap_or_default();
                let begin = paths.partition_point(|path| self.relative(path).as_bytes() <= position.as_slice());
                for (path, length) in paths.iter().zip(&lengths).cycle().skip(begin).take(paths.len()) {
                    if chosen.last.is_some() && u128::from(chosen.bytes_chosen) >= wanted {
                        break;
                    }
                    chosen.packs.insert(path.clone());
                    chosen.bytes_chosen += length;
                    chosen.last = Some(path.clone());
                }
            }
        }
        chosen
    }

    /// Lists the files in the store's folders that are none of its own: what others put there, and what a writer that died left.
    fn strays(&self) -> Result<Vec<String>, StoreError> {
        let mut strays = Vec::new();
        let packs = self.pack_paths()?;
        let mut look = |folder: &Path, is_own: &dyn Fn(&str, &Path) -> bool| -> Result<(), StoreError> {
            for (name, path) in entries(folder)? {
                if !is_own(&name, &path) {
                    strays.push(self.relative(&path));
                }
            }
            Ok(())
        };
        let folder = self.dir.join("packs");
        let is_room = |name: &str, path: &Path| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) && path.is_dir();
        look(&folder, &is_room)?;
        for (_, room) in entries(&folder)?.into_iter().filter(|(name, path)| is_room(name, path)) {
            look(&room, &|_, path| packs.binary_search_by(|known| known.as_path().cmp(path)).is_ok())?;
        }
        look(&self.dir.join(SNAPSHOTS.name), &|name, _| self.is_named(SNAPSHOTS, name, &|id| id.parse::<ObjectId>().is_ok()))?;
        look(&self.dir.join(TAGS.name), &|name, path| path.is_file() && self.is_named(TAGS, name, &|tag| check_tag_name(tag).is_ok()))?;
        strays.sort();
        Ok(strays)
    }

    fn check_pack(&self, path: &Path, is_read: bool, progress: &dyn Progress, report: &mut FsckReport) -> Result<(), String> {
        let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
        let (entries, cipher) = pack::read_index(&file, self.vault.as_ref()).map_err(|error| error.to_string())?;
        report.objects += entries.len() as u64;
        if !is_read {
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
                let what = match error {
                    StoreError::Damaged { what, id, .. } if id == entry.id => what,
                    other => other.to_string(),
                };
                report.damage.push(Damage { path: self.relative(path), object: Some(entry.id), what });
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
