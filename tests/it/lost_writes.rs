//! A power cut after any call: what was synced is there, and of the rest nothing, everything, some, or a part of a write.
//!
//! Each operation of the table ([`crate::faults::operations`]) is run once while all that it does to files is written down. From that the disks
//! are built that a power cut after the k-th call could leave, on a file system that promises no more than it must: what was written to a file is
//! certain once that file was synced, and a name once its folder was, each apart from the other and in any order. Of every such disk it is
//! asked that the store is sound, that nothing is lost that was there before, that the database is before or after, that the state before is
//! in the store where the database is another by now, and, once the command has said that it is done, that all it said is so.
//!
//! `DBELAY_TEST_ALL_DEATHS=1` looks after every call, `DBELAY_TEST_SEED` chooses what is lost.
#![cfg(target_os = "linux")]

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::faults::project::Project;
use crate::faults::shim::{Fault, Shim};
use crate::faults::{for_each_operation, is_thorough, place};
use crate::property::Random;
use crate::sandbox::finish;
use dbelay::id::ObjectId;
use dbelay::ops::fsck::fsck;
use dbelay::progress::Silent;
use dbelay::store::{FsckDepth, Store};

/// After every how many calls a power cut is tried where not all are, and how many random disks are built each time.
const STRIDE: usize = 3;
const RANDOM_DISKS: u64 = 3;

/// After every how many disks work is gone on with, which takes long.
const DISKS_PER_GOING_ON: usize = 60;

/// What a process did to a file or a name.
enum Call {
    Create { inode: u64, path: String },
    Write { inode: u64, at: usize, bytes: Vec<u8> },
    Cut { inode: u64, length: usize },
    Sync { inode: u64 },
    SyncFolder { path: String },
    Rename { from: String, to: String },
    Link { from: String, to: String },
    Remove { path: String },
    MakeFolder { path: String },
}

/// Reads what `shim_faults.c` wrote; names are those below the folder.
fn read_trace(bytes: &[u8], below: &Path) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut rest = bytes;
    let name = |path: &str| Path::new(path).strip_prefix(below).unwrap().to_str().unwrap().to_owned();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        rest = &rest[end + 1..];
        let (kind, words) = line.split_at(2);
        let number = |at: usize| words.split(' ').nth(at).unwrap().parse::<u64>().unwrap();
        let length = |at: usize| usize::try_from(number(at)).unwrap();
        calls.push(match kind.trim_end() {
            "C" => Call::Create { inode: number(0), path: name(words.split_once(' ').unwrap().1) },
            "W" => {
                let (bytes, after) = rest.split_at(length(2));
                rest = after;
                Call::Write { inode: number(0), at: length(1), bytes: bytes.to_owned() }
            }
            "T" => Call::Cut { inode: number(0), length: length(1) },
            "S" => Call::Sync { inode: number(0) },
            "D" => Call::SyncFolder { path: name(words) },
            "R" | "L" => {
                let (from, to) = words.split_once('\t').unwrap();
                let (from, to) = (name(from), name(to));
                if kind == "R " { Call::Rename { from, to } } else { Call::Link { from, to } }
            }
            "U" | "X" => Call::Remove { path: name(words) },
            "M" => Call::MakeFolder { path: name(words) },
            other => panic!("a trace has no `{other}`"),
        });
    }
    calls
}

/// A file or a folder, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    File(usize),
    Folder(usize),
}

enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// A file: what is certain of it, and what was done to it since.
#[derive(Default)]
struct File {
    certain: Vec<u8>,
    /// Whether it was ever synced; before that, it may hold anything.
    was_synced: bool,
    since: Vec<Change>,
}

/// A folder: the names that are certain, those that there are, and what was done since. Names that were changed by one call within one folder
/// are changed together.
#[derive(Default)]
struct Folder {
    certain: BTreeMap<String, Node>,
    live: BTreeMap<String, Node>,
    since: Vec<Vec<(String, Option<Node>)>>,
}

/// A disk as it may be cut off.
struct Disk {
    files: Vec<File>,
    folders: Vec<Folder>,
    inodes: HashMap<u64, usize>,
}

/// What a power cut leaves of something that was not synced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Of a write, its first half.
    Half,
    /// Of a write, all but its first sector.
    Late,
    All,
}

/// What a disk writes at once.
const SECTOR: usize = 512;

/// Files by name, and the folders that have none in them.
type Content = BTreeMap<String, Option<Vec<u8>>>;

impl Disk {
    /// Takes a folder as it is: all of it is certain.
    fn of(root: &Path) -> Self {
        let mut disk = Self { files: Vec::new(), folders: vec![Folder::default()], inodes: HashMap::new() };
        disk.take(root, 0);
        disk
    }

    fn take(&mut self, path: &Path, folder: usize) {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let node = if entry.path().is_dir() {
                self.folders.push(Folder::default());
                let number = self.folders.len() - 1;
                self.take(&entry.path(), number);
                Node::Folder(number)
            } else {
                self.inodes.insert(entry.metadata().unwrap().ino(), self.files.len());
                self.files.push(File { certain: std::fs::read(entry.path()).unwrap(), was_synced: true, since: Vec::new() });
                Node::File(self.files.len() - 1)
            };
            // What SQLite shares in memory between processes is gone with them.
            if !name.ends_with("-shm") {
                self.folders[folder].certain.insert(name.clone(), node);
                self.folders[folder].live.insert(name, node);
            }
        }
    }

    /// Finds the folder of a name, and the name in it.
    fn parent(&self, path: &str) -> (usize, String) {
        let mut folder = 0;
        let mut names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
        let last = names.pop().unwrap_or_default();
        for name in names {
            match self.folders[folder].live.get(name) {
                Some(Node::Folder(number)) => folder = *number,
                _ => panic!("`{path}` is in no folder of the trace"),
            }
        }
        (folder, last.to_owned())
    }

    /// Changes names of one folder together.
    fn name(&mut self, folder: usize, changes: Vec<(String, Option<Node>)>) {
        let folder = &mut self.folders[folder];
        for (name, node) in &changes {
            match node {
                Some(node) => folder.live.insert(name.clone(), *node),
                None => folder.live.remove(name),
            };
        }
        folder.since.push(changes);
    }

    fn file(&mut self, inode: u64) -> &mut File {
        let number = self.inodes[&inode];
        &mut self.files[number]
    }

    fn apply(&mut self, call: &Call) {
        match call {
            Call::Create { inode, path } => {
                self.files.push(File::default());
                self.inodes.insert(*inode, self.files.len() - 1);
                let node = Node::File(self.files.len() - 1);
                let (folder, name) = self.parent(path);
                self.name(folder, vec![(name, Some(node))]);
            }
            Call::Write { inode, at, bytes } => self.file(*inode).since.push(Change::Write(*at, bytes.clone())),
            Call::Cut { inode, length } => self.file(*inode).since.push(Change::Cut(*length)),
            Call::Sync { inode } => {
                let file = self.file(*inode);
                file.certain = file.content(&mut |_| Left::All);
                file.since.clear();
                file.was_synced = true;
            }
            Call::SyncFolder { path } => {
                let folder = match self.parent(path) {
                    (_, name) if name.is_empty() => 0,
                    (folder, name) => match self.folders[folder].live[&name] {
                        Node::Folder(number) => number,
                        Node::File(_) => panic!("`{path}` is a file"),
                    },
                };
                self.folders[folder].certain = self.folders[folder].live.clone();
                self.folders[folder].since.clear();
            }
            Call::Rename { from, to } => {
                let ((from_folder, from), (to_folder, to)) = (self.parent(from), self.parent(to));
                let node = self.folders[from_folder].live[&from];
                if from_folder == to_folder {
                    self.name(from_folder, vec![(from, None), (to, Some(node))]);
                } else {
                    self.name(to_folder, vec![(to, Some(node))]);
                    self.name(from_folder, vec![(from, None)]);
                }
            }
            Call::Link { from, to } => {
                let ((from_folder, from), (folder, to)) = (self.parent(from), self.parent(to));
                let node = self.folders[from_folder].live[&from];
                self.name(folder, vec![(to, Some(node))]);
            }
            Call::Remove { path } => {
                let (folder, name) = self.parent(path);
                self.name(folder, vec![(name, None)]);
            }
            Call::MakeFolder { path } => {
                self.folders.push(Folder::default());
                let node = Node::Folder(self.folders.len() - 1);
                let (folder, name) = self.parent(path);
                self.name(folder, vec![(name, Some(node))]);
            }
        }
    }

    /// Builds what a power cut now may leave; `left` is asked about everything that was not synced, the last of a file's writes marked.
    fn cut(&self, left: &mut dyn FnMut(bool) -> Left) -> Content {
        let mut content = Content::new();
        self.cut_folder(0, "", left, &mut content);
        content
    }

    fn cut_folder(&self, number: usize, path: &str, left: &mut dyn FnMut(bool) -> Left, content: &mut Content) {
        let folder = &self.folders[number];
        let mut names = folder.certain.clone();
        for changes in &folder.since {
            if left(false) == Left::Nothing {
                continue;
            }
            for (name, node) in changes {
                match node {
                    Some(node) => names.insert(name.clone(), *node),
                    None => names.remove(name),
                };
            }
        }
        for (name, node) in names {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            match node {
                Node::File(number) => {
                    let bytes = self.files[number].content(left);
                    content.insert(path, Some(bytes));
                }
                Node::Folder(number) => {
                    content.insert(path.clone(), None);
                    self.cut_folder(number, &path, left, content);
                }
            }
        }
    }
}

impl File {
    fn content(&self, left: &mut dyn FnMut(bool) -> Left) -> Vec<u8> {
        let mut bytes = self.certain.clone();
        let mut is_all_lost = !self.since.is_empty();
        for (at, change) in self.since.iter().enumerate() {
            let left = left(at + 1 == self.since.len());
            is_all_lost &= left == Left::Nothing;
            match (change, left) {
                (_, Left::Nothing) | (Change::Cut(_), Left::Half | Left::Late) => {}
                (Change::Cut(length), Left::All) => bytes.resize(*length, 0),
                (Change::Write(place, written), left) => {
                    let kept = match left {
                        Left::Half => 0..written.len() / 2,
                        Left::Late => (SECTOR - place % SECTOR).min(written.len())..written.len(),
                        Left::Nothing | Left::All => 0..written.len(),
                    };
                    bytes.resize(bytes.len().max(place + kept.end), 0);
                    bytes[place + kept.start..place + kept.end].copy_from_slice(&written[kept]);
                }
            }
        }
        // Its length may be known where its content is not: then there is what was on the disk before.
        if is_all_lost && !self.was_synced && left(false) == Left::Half {
            let length = self.since.iter().map(|change| if let Change::Write(at, bytes) = change { at + bytes.len() } else { 0 }).max();
            let mut random = Random::new(length.unwrap_or(0) as u64);
            bytes = (0..length.unwrap_or(0)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        }
        bytes
    }
}

/// Which disks are built after a call.
#[derive(Clone, Copy)]
enum Cut {
    /// Nothing is left that was not synced.
    Certain,
    /// Everything is left: the power stayed, the process died.
    Whole,
    /// Everything but half of the last write of each file.
    Torn,
    /// Everything but the beginning of the last write of each file: a disk writes in the order that it likes.
    Late,
    /// Anything.
    Random(u64),
}

impl Cut {
    fn of(self, disk: &Disk) -> Content {
        let mut random = Random::new(if let Self::Random(seed) = self { seed } else { 0 });
        disk.cut(&mut |is_last| match self {
            Self::Certain => Left::Nothing,
            Self::Whole => Left::All,
            Self::Torn if is_last => Left::Half,
            Self::Late if is_last => Left::Late,
            Self::Torn | Self::Late => Left::All,
            Self::Random(_) => match random.below(10) {
                0..4 => Left::Nothing,
                4 => Left::Half,
                5 => Left::Late,
                _ => Left::All,
            },
        })
    }
}

/// What a store holds, as far as it was told to anybody.
#[derive(Clone, Default, PartialEq, Eq)]
struct Told {
    snapshots: Vec<ObjectId>,
    tags: BTreeMap<String, ObjectId>,
    operations: Vec<ObjectId>,
    /// Whether an operation is open.
    is_open: bool,
}

impl Told {
    /// Reads a store that must be sound; none where there is none.
    fn of(folder: &Path) -> Result<Option<Self>, String> {
        let dir = folder.join(".dbelay");
        if !dir.join("config.json").exists() {
            return Ok(None);
        }
        let store = Store::open(&dir).map_err(|error| error.to_string())?;
        let report = fsck(&store, FsckDepth::ReadData, &Silent).map_err(|error| error.to_string())?;
        if !report.damage.is_empty() {
            return Err(format!("{:?}", report.damage));
        }
        let operations = store.operations().map_err(|error| error.to_string())?;
        let is_open = |begin: u64| !operations.iter().any(|entry| entry.body["begin"] == begin);
        Ok(Some(Self {
            snapshots: store.snapshot_ids().map_err(|error| error.to_string())?,
            tags: store.tags().map_err(|error| error.to_string())?,
            is_open: operations.iter().any(|entry| entry.body["phase"] == "begin" && is_open(entry.index)),
            operations: operations.into_iter().map(|entry| entry.id).collect(),
        }))
    }
}

/// One operation, its trace, and what was so before and after it.
struct Play<'a> {
    project: &'a Project,
    before: Option<Told>,
    after: Option<Told>,
    /// The snapshots that hold the state before.
    holders: Vec<ObjectId>,
}

impl Play<'_> {
    /// Puts a disk into the project's folder, and looks at it.
    fn look(&self, content: &Content, is_reported: bool, goes_on: bool, place: &str) {
        let root = self.project.sandbox.path("");
        self.project.clear();
        for (name, bytes) in content {
            match bytes {
                Some(bytes) => std::fs::write(root.join(name), bytes).unwrap(),
                None => std::fs::create_dir(root.join(name)).unwrap(),
            }
        }
        if self.project.operation.env.is_empty() {
            let told = Told::of(&root).unwrap_or_else(|damage| panic!("{place}: the store is damaged: {damage}"));
            let now = self.project.is_known_database(place);
            self.compare(told.as_ref(), &now, is_reported, place);
        } else {
            // What is encrypted is looked at through the binary, which is given the key.
            self.project.is_sound(place);
        }
        if is_reported {
            self.project.is_done(place);
        } else if goes_on {
            self.project.is_sound(place);
            self.project.goes_on(place);
        }
    }

    fn compare(&self, told: Option<&Told>, now: &str, is_reported: bool, place: &str) {
        if is_reported {
            assert!(told == self.after.as_ref(), "{place}: what was reported is not all there");
            return;
        }
        let Some(before) = &self.before else { return };
        let told = told.unwrap_or_else(|| panic!("{place}: the store is gone"));
        for id in before.snapshots.iter().filter(|id| self.project.must_stay(&id.to_string())) {
            assert!(told.snapshots.contains(id), "{place}: snapshot {id} is lost");
        }
        assert!(told.operations.starts_with(&before.operations), "{place}: the operation log has lost entries");
        let after = self.after.clone().unwrap_or_default();
        for (name, id) in before.tags.iter().filter(|(name, _)| !self.project.operation.forgets.contains(&name.as_str())) {
            let may_be = [Some(id), after.tags.get(name)];
            assert!(may_be.contains(&told.tags.get(name)), "{place}: the tag `{name}` is lost");
        }
        if self.project.is_before(now) {
            return;
        }
        assert!(
            self.holders.is_empty() || self.holders.iter().any(|id| told.snapshots.contains(id)),
            "{place}: the database is another, and the state before it is in no snapshot"
        );
        let is_known = told.is_open || told.operations.len() > before.operations.len();
        assert!(is_known, "{place}: the database is another, and the log says nothing of it");
    }
}

#[test]
fn a_power_cut_after_any_call_loses_nothing_that_was_reported() {
    let shim = Shim::new();
    for_each_operation("disks after a power cut", |project, random| {
        let root = project.sandbox.path("").canonicalize().unwrap();
        project.reset();
        let before = Told::of(&root).unwrap_or_default();
        let mut disk = Disk::of(&root);
        let _ = std::fs::remove_file(shim.trace());
        let mut command = project.command();
        shim.arm(&mut command, &root, Fault::Trace, 0);
        finish(&mut command).exits(project.operation.code);
        let after = Told::of(&root).unwrap_or_default();
        let holders = project.holders().iter().map(|id| id.parse().unwrap()).collect();
        let calls = read_trace(&std::fs::read(shim.trace()).unwrap(), &root);
        assert!(!calls.is_empty(), "{}: nothing was traced", project.operation.name);
        let play = Play { project, before, after, holders };
        let (mut seen, mut disks) = (HashSet::new(), 0);
        let offset = usize::try_from(random.below(STRIDE as u64)).unwrap();
        for at in 0..=calls.len() {
            if at > 0 {
                disk.apply(&calls[at - 1]);
            }
            let is_reported = at == calls.len();
            if !is_thorough() && !is_reported && at % STRIDE != offset {
                continue;
            }
            let mut cuts = vec![Cut::Certain, Cut::Whole, Cut::Torn, Cut::Late];
            cuts.extend((0..RANDOM_DISKS).map(|_| Cut::Random(random.below(1 << 40))));
            for (cut, name) in cuts
                .into_iter()
                .zip(["nothing", "everything", "half of a write", "the end of a write"].into_iter().chain(std::iter::repeat("something")))
            {
                let content = cut.of(&disk);
                let mut hasher = DefaultHasher::new();
                (is_reported, &content).hash(&mut hasher);
                if !seen.insert(hasher.finish()) {
                    continue;
                }
                disks += 1;
                let what = format!("{name} kept of what was not synced after call {at} of {},", calls.len());
                let place = place(project.operation, project.mode, &what, disks as u64);
                play.look(&content, is_reported, disks % DISKS_PER_GOING_ON == 0, &place);
            }
        }
        disks as u64
    });
}
