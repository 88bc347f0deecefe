//! What snapshots reach: the one walk over every object that they name, and that those name in turn.
//!
//! A [`Visitor`] is told each object with its role, and says whether to go on below it; so what many snapshots share is read once. Column
//! chunks are not read by the walk: they name others only where a cell is a large value ([`crate::value`]), which [`large_values`] finds.

use super::chunks::read_node;
use super::compare::Objects;
use super::cores::on_all_cores;
use super::manifest::{Node, Snapshot, TableManifest};
use crate::id::ObjectId;

/// More levels than a table's tree has: it would have more rows than there are numbers.
const DEPTH_MAX: u32 = 64;

/// What an object is to those that name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A snapshot's schema. Names nothing.
    Schema,
    /// A table's manifest. Names a node.
    Manifest,
    /// A node. Names nodes, or column chunks.
    Node,
    /// A column chunk. Names large values.
    Chunk,
    /// A large value. Names nothing.
    Large,
}

impl Role {
    /// Returns what people call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Manifest => "table manifest",
            Self::Node => "node",
            Self::Chunk => "column chunk",
            Self::Large => "large value",
        }
    }
}

/// Hears what is reached; from many threads.
pub trait Visitor: Sync {
    /// An object is reached. Tells whether what it names is to be reached too; asked once for each place that names it.
    fn meet(&self, id: &ObjectId, role: Role) -> bool;

    /// An object that was to be read could not be, so that what it names is not reached.
    fn lost(&self, id: &ObjectId, role: Role, why: String);
}

/// Walks over what these snapshots reach, on all cores. `read` reads a snapshot's file; one that cannot be read it tells of itself.
pub fn walk_all(
    snapshots: &[ObjectId],
    read: &(dyn Fn(&ObjectId) -> Option<Snapshot> + Sync),
    objects: &dyn Objects,
    visitor: &dyn Visitor,
) {
    let work = |id: &ObjectId| -> Result<(), std::convert::Infallible> {
        if let Some(snapshot) = read(id) {
            walk(&snapshot, objects, visitor);
        }
        Ok(())
    };
    let _ = on_all_cores(snapshots, || work);
}

/// Walks over what a snapshot reaches.
pub fn walk(snapshot: &Snapshot, objects: &dyn Objects, visitor: &dyn Visitor) {
    visitor.meet(&snapshot.schema, Role::Schema);
    for table in &snapshot.tables {
        if !visitor.meet(&table.manifest, Role::Manifest) {
            continue;
        }
        match root(&table.manifest, objects) {
            Ok(None) => {}
            Ok(Some((root, depth))) => node(&root, depth, objects, visitor),
            Err(why) => visitor.lost(&table.manifest, Role::Manifest, why),
        }
    }
}

/// Returns a manifest's root and its level; none for an empty table.
fn root(id: &ObjectId, objects: &dyn Objects) -> Result<Option<(ObjectId, u32)>, String> {
    let json = objects.read(id).map_err(|error| error.to_string())?;
    let manifest: TableManifest = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    match (manifest.root, manifest.depth) {
        (None, 0) => Ok(None),
        (Some(root), depth @ 1..=DEPTH_MAX) => Ok(Some((root, depth))),
        (_, depth) => Err(format!("it has no root for its depth {depth}")),
    }
}

fn node(id: &ObjectId, level: u32, objects: &dyn Objects, visitor: &dyn Visitor) {
    if !visitor.meet(id, Role::Node) {
        return;
    }
    match read_node(id, level, objects) {
        Ok(Node::Nodes(children)) => children.iter().for_each(|child| node(&child.node, level - 1, objects, visitor)),
        Ok(Node::Groups(groups)) => {
            for chunk in groups.iter().flat_map(|group| group.columns.iter().flatten()) {
                visitor.meet(chunk, Role::Chunk);
            }
        }
        Err(error) => visitor.lost(id, Role::Node, with_cause(&error)),
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Reads column chunks on all cores, and hears of the large values that each names.
pub fn scan(chunks: &[ObjectId], objects: &dyn Objects, visitor: &dyn Visitor, found: &(dyn Fn(&ObjectId, &[ObjectId]) + Sync)) {
    let work = |id: &ObjectId| -> Result<(), std::convert::Infallible> {
        match objects.read(id).map_err(|error| error.to_string()).and_then(|json| large_values(&json)) {
            Ok(large) => {
                for id in &large {
                    visitor.meet(id, Role::Large);
                }
                found(id, &large);
            }
            Err(why) => visitor.lost(id, Role::Chunk, why),
        }
        Ok(())
    };
    let _ = on_all_cores(chunks, || work);
}

/// Tells which of these objects could be large values: those that are no arrays, and those that cannot be read.
pub fn perhaps_large(candidates: &[ObjectId], objects: &dyn Objects) -> Vec<ObjectId> {
    let look =
        |id: &ObjectId| -> Result<bool, std::convert::Infallible> { Ok(objects.read(id).map_or(true, |json| !json.starts_with(b"["))) };
    let Ok(answers) = on_all_cores(candidates, || look);
    candidates.iter().zip(answers).filter(|(_, is_large)| *is_large).map(|(id, _)| *id).collect()
}

/// Lists the large values that a column chunk names. In text the quotes of what looks like one are escaped, so that nothing else is found.
///
/// # Errors
/// Where a cell names none by an id.
pub fn large_values(chunk: &[u8]) -> Result<Vec<ObjectId>, String> {
    const BEGINNING: &[u8] = b"{\"ref\":\"";
    memchr::memmem::find_iter(chunk, BEGINNING)
        .map(|at| {
            let digits = chunk.get(at + BEGINNING.len()..).and_then(|rest| rest.split(|byte| *byte == b'"').next()).unwrap_or_default();
            let id = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            id.ok_or_else(|| format!("a cell at byte {at} names no object"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn large_values_are_found_and_text_that_looks_like_one_is_not() {
        let large = |name: &str| Value::Large { id: ObjectId::of(name.as_bytes()), bytes: 70_000 };
        let looks_so = Value::Text(large("no").to_json().into_bytes());
        let base64 = Value::Text(vec![0xff; 40]);
        let cells = [large("a"), looks_so, Value::Null, base64, large("b")];
        let chunk = format!("[{}]", cells.iter().map(Value::to_json).collect::<Vec<_>>().join(","));
        assert_eq!(large_values(chunk.as_bytes()), Ok(vec![ObjectId::of(b"a"), ObjectId::of(b"b")]));
        assert_eq!(large_values(b"[1,\"x\"]"), Ok(Vec::new()));
        assert!(large_values(b"[{\"ref\":\"no id\",\"bytes\":1}]").is_err() && large_values(b"[{\"ref\":\"").is_err());
    }
}
