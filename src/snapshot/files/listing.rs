//! A listing of files as a tree of objects: put into the store, read back, and walked.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::super::build::put_json;
use super::super::compare::Objects;
use super::content;
use super::{Child, ENTRIES_MAX, ENTRIES_MIN, ENTRIES_TARGET, Entry, EntryKind, FORMAT_VERSION, FilePath, Files, FilesError, Node};
use crate::id::ObjectId;
use crate::store::{Batch, StoreError};

/// How many nodes a node above the bottom has at most.
const NODES_MAX: usize = 64;

/// The most levels that a listing can have: more than 2^64 entries need.
const DEPTH_MAX: u32 = 64;

/// A listing that was read.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The files object.
    pub files: Files,
    /// The entries, by path.
    pub entries: Vec<Entry>,
    /// Its nodes, by level (0 at the bottom) and first path: bases for deltas of a later listing.
    nodes: HashMap<(u32, FilePath), ObjectId>,
}

impl Listing {
    /// Makes one of entries that stand in the order of their paths, and are in no store perhaps.
    pub fn of(files: Files, entries: Vec<Entry>) -> Self {
        Self { files, entries, nodes: HashMap::new() }
    }

    /// Finds the entry of a path.
    pub fn find(&self, path: &FilePath) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.path.cmp(path)).ok().and_then(|at| self.entries.get(at))
    }
}

/// A child on its way into a node.
struct Pending<T> {
    item: T,
    first: FilePath,
    cut_hash: u64,
    entries: u64,
}

/// Puts a listing of entries that stand in the order of their paths; returns its files object. `patterns` are what was included and excluded, `earlier` is a
/// listing that is likely to be similar.
///
/// # Errors
/// The store's.
pub fn put(
    batch: &Batch<'_>,
    entries: &[Entry],
    patterns: (&[String], &[String]),
    earlier: Option<&Listing>,
) -> Result<(ObjectId, Files), StoreError> {
    let count = |kind| entries.iter().filter(|entry| entry.kind == kind).count() as u64;
    let (depth, root) = tree(batch, entries, earlier)?;
    let files = Files {
        format: FORMAT_VERSION,
        include: patterns.0.to_vec(),
        exclude: patterns.1.to_vec(),
        files: count(EntryKind::File),
        folders: count(EntryKind::Dir),
        links: count(EntryKind::Symlink),
        bytes: entries.iter().map(|entry| entry.size).fold(0, u64::saturating_add),
        depth,
        root,
    };
    Ok((put_json(batch, &files, None)?, files))
}

fn tree(batch: &Batch<'_>, entries: &[Entry], earlier: Option<&Listing>) -> Result<(u32, Option<ObjectId>), StoreError> {
    if entries.is_empty() {
        return Ok((0, None));
    }
    let pending = |entry: &Entry| Pending { item: entry.clone(), first: entry.path.clone(), cut_hash: xxh3_64(&entry.path.0), entries: 1 };
    let mut nodes = level_of_nodes(batch, 0, entries.iter().map(pending), earlier, Node::Entries)?;
    let mut depth = 1;
    while nodes.len() > 1 {
        nodes = level_of_nodes(batch, depth, nodes.into_iter(), earlier, Node::Nodes)?;
        depth += 1;
    }
    Ok((depth, nodes.pop().map(|root| root.item.node)))
}

fn level_of_nodes<T>(
    batch: &Batch<'_>,
    level: u32,
    children: impl ExactSizeIterator<Item = Pending<T>>,
    earlier: Option<&Listing>,
    node: fn(Vec<T>) -> Node,
) -> Result<Vec<Pending<Child>>, StoreError> {
    let threshold = u64::MAX / ENTRIES_TARGET.saturating_mul(16_u64.saturating_pow(level));
    let (least, most) = if level == 0 { (ENTRIES_MIN, ENTRIES_MAX) } else { (2, NODES_MAX) };
    let mut nodes = Vec::new();
    let (mut items, mut first, mut entries) = (Vec::new(), None, 0);
    let mut left = children.len();
    for child in children {
        left -= 1;
        let first_path = first.get_or_insert(child.first).clone();
        entries += child.entries;
        items.push(child.item);
        if items.len() >= least && child.cut_hash <= threshold || items.len() >= most || left == 0 {
            let base = earlier.and_then(|earlier| earlier.nodes.get(&(level, first_path.clone())));
            let id = put_json(batch, &node(std::mem::take(&mut items)), base)?;
            let item = Child { first: first_path.clone(), entries, node: id };
            nodes.push(Pending { item, first: first_path, cut_hash: child.cut_hash, entries });
            (first, entries) = (None, 0);
        }
    }
    Ok(nodes)
}

/// Reads a files object.
///
/// # Errors
/// [`FilesError`] where it is missing, or is none that this version reads.
pub fn read_files(objects: &dyn Objects, id: &ObjectId) -> Result<Files, FilesError> {
    let files: Files = parse(id, &objects.read(id).map_err(FilesError::Read)?)?;
    let malformed = |what: String| Err(FilesError::Malformed { id: *id, what });
    if files.format > FORMAT_VERSION {
        return malformed(format!("it has format version {}; this dbelay reads up to {FORMAT_VERSION}", files.format));
    }
    if files.depth > DEPTH_MAX || (files.depth == 0) != files.root.is_none() {
        return malformed("its depth and its root do not fit together".to_owned());
    }
    Ok(files)
}

/// Reads a whole listing, and proves that it is valid.
///
/// # Errors
/// [`FilesError`] where an object is missing or malformed.
pub fn read(objects: &dyn Objects, id: &ObjectId) -> Result<Listing, FilesError> {
    let mut listing = Listing { files: read_files(objects, id)?, ..Listing::default() };
    if let (Some(root), Some(level)) = (listing.files.root, listing.files.depth.checked_sub(1)) {
        collect(objects, &root, level, &mut listing)?;
    }
    let count = |kind| listing.entries.iter().filter(|entry| entry.kind == kind).count() as u64;
    let bytes = listing.entries.iter().map(|entry| entry.size).fold(0, u64::saturating_add);
    let Files { files, folders, links, .. } = listing.files;
    if (count(EntryKind::File), count(EntryKind::Dir), count(EntryKind::Symlink), bytes) != (files, folders, links, listing.files.bytes) {
        return Err(FilesError::Malformed { id: *id, what: "its counts are not those of its entries".to_owned() });
    }
    Ok(listing)
}

fn parse<T: serde::de::DeserializeOwned>(id: &ObjectId, json: &[u8]) -> Result<T, FilesError> {
    serde_json::from_slice(json).map_err(|error| FilesError::Malformed { id: *id, what: error.to_string() })
}

/// Adds what stands below a node; returns how many entries that is.
fn collect(objects: &dyn Objects, id: &ObjectId, level: u32, listing: &mut Listing) -> Result<u64, FilesError> {
    let malformed = |what: String| Err(FilesError::Malformed { id: *id, what });
    let before = listing.entries.len();
    match parse(id, &objects.read(id).map_err(FilesError::Read)?)? {
        Node::Entries(entries) if level == 0 => {
            for entry in entries {
                if let Some(fault) = entry.fault() {
                    return malformed(format!("`{}`: {fault}", entry.path));
                }
                // That paths rise is also what bounds a tree that names one node many times.
                if listing.entries.last().is_some_and(|last| last.path >= entry.path) {
                    return malformed(format!("`{}` does not stand in the order of paths", entry.path));
                }
                if stands_below_none(&listing.entries, &entry.path) {
                    return malformed(format!("`{}` stands below what is no folder", entry.path));
                }
                listing.entries.push(entry);
            }
        }
        Node::Nodes(children) if level > 0 => {
            for child in children {
                let found = collect(objects, &child.node, level - 1, listing)?;
                if found != child.entries {
                    return malformed(format!("it says {} entries, there are {found}", child.entries));
                }
            }
        }
        _ => return malformed("it does not stand at its depth".to_owned()),
    }
    let found = listing.entries.len() - before;
    let Some(first) = listing.entries.get(before) else { return malformed("it is empty".to_owned()) };
    listing.nodes.insert((level, first.path.clone()), *id);
    Ok(found as u64)
}

/// Tells whether a path leads through an entry that is no folder.
fn stands_below_none(entries: &[Entry], path: &FilePath) -> bool {
    let ends = path.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    ends.into_iter().any(|end| {
        let parent = &path.0[..end];
        let at = entries.binary_search_by(|entry| entry.path.0.as_slice().cmp(parent));
        at.is_ok_and(|at| entries.get(at).is_some_and(|entry| entry.kind != EntryKind::Dir))
    })
}

/// What an object is to a files object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It may name others: the object itself, a node, a list of chunks.
    Names,
    /// It is bytes of a file, whatever these look like.
    Bytes,
}

/// Hears of an object; tells whether what it names is to be visited.
pub type Sink<'a> = dyn FnMut(ObjectId, Part) -> bool + 'a;

/// Visits all objects that a files object reaches, itself first. What stands below an object is visited only if `sink` says yes to it, so that what was
/// seen before can be passed over.
///
/// # Errors
/// [`FilesError`] where an object that leads to others is missing or malformed. Chunks are named and not read.
pub fn visit(objects: &dyn Objects, id: &ObjectId, sink: &mut Sink<'_>) -> Result<(), FilesError> {
    if !sink(*id, Part::Names) {
        return Ok(());
    }
    let files = read_files(objects, id)?;
    match (files.root, files.depth.checked_sub(1)) {
        (Some(root), Some(level)) => visit_node(objects, root, level, sink),
        _ => Ok(()),
    }
}

fn visit_node(objects: &dyn Objects, id: ObjectId, level: u32, sink: &mut Sink<'_>) -> Result<(), FilesError> {
    if !sink(id, Part::Names) {
        return Ok(());
    }
    match parse(&id, &objects.read(&id).map_err(FilesError::Read)?)? {
        Node::Entries(entries) if level == 0 => {
            for entry in &entries {
                let mut is_new = entry.lists.is_empty();
                let mut named = entry.chunks.clone();
                for list in &entry.lists {
                    is_new |= sink(*list, Part::Names);
                }
                if is_new && !entry.lists.is_empty() {
                    named = content::chunks(objects, entry)?;
                }
                for chunk in named {
                    sink(chunk, Part::Bytes);
                }
            }
            Ok(())
        }
        Node::Nodes(children) if level > 0 => children.iter().try_for_each(|child| visit_node(objects, child.node, level - 1, sink)),
        _ => Err(FilesError::Malformed { id, what: "it does not stand at its depth".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{BatchMode, Store};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::create(&dir.path().join("s"), [1; 16]).expect("a store");
        (dir, store)
    }

    fn file(path: &str, content: &[u8]) -> Entry {
        let chunks = if content.is_empty() { Vec::new() } else { vec![ObjectId::of(content)] };
        let entry = Entry::new(FilePath(path.into()), EntryKind::File);
        Entry { mode: Some(0o644), mtime: Some(1_700_000_000_123_456_789), size: content.len() as u64, chunks, ..entry }
    }

    fn many(count: usize) -> Vec<Entry> {
        (0..count).map(|n| file(&format!("uploads/{n:06}.txt"), format!("file {n}").as_bytes())).collect()
    }

    fn put_all(store: &Store, entries: &[Entry], earlier: Option<&Listing>) -> (ObjectId, crate::store::BatchStats) {
        let batch = store.begin(BatchMode::Durable).expect("a batch");
        let (id, _) = put(&batch, entries, (&["uploads/".to_owned()], &[]), earlier).expect("put");
        (id, batch.finish().expect("durable"))
    }

    #[test]
    fn a_listing_comes_back_as_it_was() {
        let (_dir, store) = store();
        for count in [0, 1, 15, 300, 5_000] {
            let entries = many(count);
            let (id, _) = put_all(&store, &entries, None);
            let listing = read(&store, &id).expect("a listing");
            assert_eq!(listing.entries, entries);
            assert_eq!(listing.files.files, count as u64);
        }
    }

    #[test]
    fn a_change_in_a_large_folder_costs_little() {
        let (_dir, store) = store();
        let mut entries = many(20_000);
        let (id, first) = put_all(&store, &entries, None);
        let earlier = read(&store, &id).expect("a listing");
        entries[7_777] = file("uploads/007777.txt", b"changed");
        let (other, second) = put_all(&store, &entries, Some(&earlier));
        assert_ne!(id, other);
        assert!(second.objects_new <= 7 && second.stored_bytes < 4_000, "{second:?} of {first:?}");
        entries.remove(12_345);
        let (_, third) = put_all(&store, &entries, Some(&earlier));
        assert!(third.objects_new <= 12 && third.stored_bytes < 8_000, "{third:?}");
        // Whatever the history, the same files are the same id.
        entries.insert(12_345, file("uploads/012345.txt", b"file 12345"));
        entries[7_777] = file("uploads/007777.txt", b"file 7777");
        assert_eq!(put_all(&store, &entries, None).0, id);
    }

    #[test]
    fn all_objects_of_a_listing_are_visited() {
        let (_dir, store) = store();
        let batch = store.begin(BatchMode::Durable).expect("a batch");
        let mut long = Entry::new(FilePath(b"z".to_vec()), EntryKind::File);
        let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        content::put(&batch, bytes.as_slice(), &mut long, &[]).expect("put");
        assert!(!long.lists.is_empty());
        let mut entries = vec![file("a", b"file a")];
        batch.put(b"file a", None).expect("put");
        entries.push(long.clone());
        let (id, _) = put(&batch, &entries, (&[], &[]), None).expect("put");
        let stats = batch.finish().expect("durable");
        let mut seen = std::collections::HashSet::new();
        visit(&store, &id, &mut |id, _| seen.insert(id)).expect("visited");
        assert_eq!(seen.len() as u64, stats.objects_new);
        assert!(seen.iter().all(|id| store.contains(id)));
        let mut back = Vec::new();
        content::read(&store, &long, &mut |piece| {
            back.extend_from_slice(piece);
            Ok(())
        })
        .expect("read");
        assert!(back == bytes);
    }

    #[test]
    fn hostile_listings_are_refused() {
        let (_dir, store) = store();
        let check = |entries: &[Entry], expected: &str| {
            let (id, _) = put_all(&store, entries, None);
            let error = read(&store, &id).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        let link = Entry { target: Some(FilePath(b"/etc".to_vec())), ..Entry::new(FilePath(b"l".to_vec()), EntryKind::Symlink) };
        check(&[file("../x", b"")], "leaves its folder");
        check(&[file("/x", b"")], "leaves its folder");
        check(&[file("b", b""), file("a", b"")], "order of paths");
        check(&[file("a", b""), file("a", b"")], "order of paths");
        check(&[link.clone(), file("l/passwd", b"")], "no folder");
        check(&[file("a", b"x"), file("a.b", b""), file("a/b", b"")], "no folder");
        check(&[Entry { target: None, ..link }], "do not fit its kind");
        check(&[Entry { size: 5, ..file("a", b"") }], "do not fit its kind");
        let batch = store.begin(BatchMode::Durable).expect("a batch");
        let leaf = put_json(&batch, &Node::Entries(vec![file("a", b"")]), None).expect("put");
        let child = Child { first: FilePath(b"a".to_vec()), entries: 1, node: leaf };
        let node = put_json(&batch, &Node::Nodes(vec![child.clone(), child]), None).expect("put");
        let empty = put_json(&batch, &Node::Entries(Vec::new()), None).expect("put");
        let files = |depth, root| Files { format: 1, files: 2, depth, root, ..Files::default() };
        let bombs = [files(2, Some(node)), files(1, Some(node)), files(1, Some(empty)), files(9, None), files(99, Some(node))];
        let bombs: Vec<ObjectId> = bombs.iter().map(|files| put_json(&batch, files, None).expect("put")).collect();
        batch.finish().expect("durable");
        for id in bombs {
            assert!(read(&store, &id).is_err());
        }
    }
}
