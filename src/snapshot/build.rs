//! Building what a snapshot says of a table, from row groups in any order of arrival.
//!
//! [`store_group`] may run on many threads; [`assemble`] runs once a table, when all its groups are there. What an earlier snapshot
//! knew of the table only ever makes the store smaller (as bases for deltas); it never changes an id.

use std::collections::HashMap;

use super::chunks::decode_node;
use super::compare::Objects;
use super::manifest::{Child, Group, ManifestColumn, Node, TableManifest};
use crate::id::{IdHasher, ObjectId};
use crate::rows::{CutRule, RowGroup, TableShape};
use crate::store::{Batch, StoreError};

/// How many children a node has on average.
const NODE_FANOUT: u64 = 16;

/// How many children a node has at most.
const NODE_CHILDREN_MAX: usize = 64;

/// A row group whose chunks are in the store.
#[derive(Debug)]
pub struct StoredGroup {
    /// What the manifest's tree says of it.
    pub group: Group,
    /// The JSON bytes of its chunks.
    pub bytes: u64,
    /// The cut hash of its last row.
    pub cut_hash: u64,
}

/// What an earlier snapshot knew of a table: where to find bases for deltas.
#[derive(Debug, Default)]
pub struct Bases {
    /// The earlier manifest.
    pub manifest: Option<ObjectId>,
    /// For each column of the new shape, its slot in the earlier groups.
    pub slots: Vec<Option<usize>>,
    /// The slots of each earlier group, by its first key.
    pub groups: HashMap<String, Vec<Option<ObjectId>>>,
    /// Earlier nodes by level (1 at the bottom) and first key.
    pub nodes: HashMap<(u32, String), ObjectId>,
}

impl Bases {
    /// Finds what an earlier manifest offers as bases. What cannot be read is left out: bases only save space.
    pub fn of(objects: &dyn Objects, id: ObjectId, manifest: &TableManifest, shape: &TableShape) -> Self {
        let slot = |name: &str| manifest.columns.iter().position(|column| column.shape.name == name);
        let mut bases =
            Self { manifest: Some(id), slots: shape.columns.iter().map(|column| slot(&column.name)).collect(), ..Self::default() };
        if let Some(root) = manifest.root {
            bases.collect(objects, root, manifest.depth);
        }
        bases
    }

    /// Walks a tree depth first, so that a node's first key is known when it is left; returns that key.
    fn collect(&mut self, objects: &dyn Objects, id: ObjectId, level: u32) -> Option<String> {
        let node = decode_node(&id, &objects.read(&id).ok()?, level).ok()?;
        let first = match node {
            Node::Groups(groups) => {
                let first = groups.first()?.first.clone();
                self.groups.extend(groups.into_iter().map(|group| (group.first, group.columns)));
                first
            }
            Node::Nodes(children) => {
                let below = level.checked_sub(1).filter(|below| *below > 0)?;
                let mut first = None;
                for child in children {
                    let key = self.collect(objects, child.node, below)?;
                    first.get_or_insert(key);
                }
                first?
            }
        };
        self.nodes.insert((level, first.clone()), id);
        Some(first)
    }
}

/// Puts a group's chunks and large values into the batch.
///
/// # Errors
/// What [`Batch::put`] fails with.
pub fn store_group(batch: &Batch<'_>, group: RowGroup, bases: &Bases) -> Result<StoredGroup, StoreError> {
    let earlier = bases.groups.get(&group.first_key);
    let base = |at: usize| {
        let slot = bases.slots.get(at).copied().flatten()?;
        earlier?.get(slot).copied().flatten()
    };
    store_group_like(batch, group, &base)
}

/// As [`store_group`], where `base` gives for each column a chunk that is likely to be similar.
pub fn store_group_like(batch: &Batch<'_>, group: RowGroup, base: &dyn Fn(usize) -> Option<ObjectId>) -> Result<StoredGroup, StoreError> {
    let mut columns = Vec::with_capacity(group.columns.len());
    let mut bytes = 0;
    for (at, column) in group.columns.into_iter().enumerate() {
        bytes += column.json.len() as u64;
        for large in &column.large {
            batch.put(&large.json, None)?;
            bytes += large.json.len() as u64;
        }
        if column.is_default {
            columns.push(None);
        } else {
            columns.push(Some(batch.put(&column.json, base(at).as_ref())?));
        }
    }
    while columns.last().is_some_and(Option::is_none) {
        columns.pop();
    }
    Ok(StoredGroup { group: Group { rows: group.rows, first: group.first_key, columns }, bytes, cut_hash: group.cut_hash })
}

/// Builds the tree and the manifest of a table whose groups are all stored, given in table order.
///
/// # Errors
/// What [`Batch::put`] fails with.
pub fn assemble(
    batch: &Batch<'_>,
    shape: &TableShape,
    rule: CutRule,
    groups: Vec<StoredGroup>,
    bases: &Bases,
) -> Result<(ObjectId, TableManifest), StoreError> {
    let bytes = groups.iter().map(|stored| stored.bytes).sum();
    assemble_sized(batch, shape, rule, groups, bases, bytes)
}

/// As [`assemble`], of a table of which it is known how many bytes its JSON has.
pub(super) fn assemble_sized(
    batch: &Batch<'_>,
    shape: &TableShape,
    rule: CutRule,
    groups: Vec<StoredGroup>,
    bases: &Bases,
    bytes: u64,
) -> Result<(ObjectId, TableManifest), StoreError> {
    let rows = groups.iter().map(|stored| stored.group.rows).sum();
    let columns = shape
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| ManifestColumn {
            shape: column.clone(),
            digest: digest(at, &column.default, groups.iter().map(|stored| &stored.group)),
        })
        .collect();
    let (depth, root) = tree(batch, rule, groups, bases)?;
    let manifest = TableManifest {
        name: shape.name.clone(),
        columns,
        identity: shape.identity.clone(),
        locator: shape.locator.clone(),
        cut: rule,
        rows,
        bytes,
        depth,
        root,
    };
    let id = put_json(batch, &manifest, bases.manifest.as_ref())?;
    Ok((id, manifest))
}

/// Puts a value's JSON.
///
/// # Errors
/// What [`Batch::put`] fails with.
pub fn put_json<T: serde::Serialize>(batch: &Batch<'_>, value: &T, base: Option<&ObjectId>) -> Result<ObjectId, StoreError> {
    let json = serde_json::to_vec(value).expect("the format's types have string keys and no failing serializer");
    batch.put(&json, base)
}

/// Computes a column's digest over its groups, in table order.
pub fn digest<'a>(column: usize, default: &str, groups: impl Iterator<Item = &'a Group>) -> ObjectId {
    let mut hasher = IdHasher::default();
    let mut has_empty = false;
    for group in groups {
        match group.chunk(column) {
            Some(id) => {
                hasher.update(&[1]);
                hasher.update(&id.0);
            }
            None => {
                has_empty = true;
                hasher.update(&[0]);
                hasher.update(&group.rows.to_le_bytes());
            }
        }
    }
    if has_empty {
        hasher.update(&[2]);
        hasher.update(default.as_bytes());
    }
    hasher.finish()
}

/// A child on its way into a node.
struct Pending<T> {
    item: T,
    first: String,
    cut_hash: u64,
    rows: u64,
}

fn tree(batch: &Batch<'_>, rule: CutRule, groups: Vec<StoredGroup>, bases: &Bases) -> Result<(u32, Option<ObjectId>), StoreError> {
    if groups.is_empty() {
        return Ok((0, None));
    }
    let leaves = groups
        .into_iter()
        .map(|stored| Pending { first: stored.group.first.clone(), cut_hash: stored.cut_hash, rows: stored.group.rows, item: stored.group })
        .collect();
    let mut level = 1;
    let mut nodes = level_of_nodes(batch, rule, level, leaves, bases, Node::Groups)?;
    while nodes.len() > 1 {
        level += 1;
        nodes = level_of_nodes(batch, rule, level, nodes, bases, Node::Nodes)?;
    }
    Ok((level, nodes.pop().map(|root| root.item.node)))
}

fn level_of_nodes<T>(
    batch: &Batch<'_>,
    rule: CutRule,
    level: u32,
    children: Vec<Pending<T>>,
    bases: &Bases,
    node: fn(Vec<T>) -> Node,
) -> Result<Vec<Pending<Child>>, StoreError> {
    let distance = rule.rows_target.max(1).saturating_mul(NODE_FANOUT.saturating_pow(level));
    let threshold = u64::MAX / distance;
    let mut nodes = Vec::new();
    let mut items = Vec::new();
    let mut first = String::new();
    let mut rows = 0;
    let mut left = children.len();
    for child in children {
        left -= 1;
        if items.is_empty() {
            first = child.first;
        }
        rows += child.rows;
        items.push(child.item);
        let is_end = items.len() >= 2 && child.cut_hash <= threshold || items.len() >= NODE_CHILDREN_MAX || left == 0;
        if is_end {
            let base = bases.nodes.get(&(level, first.clone()));
            let id = put_json(batch, &node(std::mem::take(&mut items)), base)?;
            nodes.push(Pending { item: Child { rows, node: id }, first: std::mem::take(&mut first), cut_hash: child.cut_hash, rows });
            rows = 0;
        }
    }
    Ok(nodes)
}
