//! A table's manifest after some of its row groups were read again, from the manifest before and those groups alone.
//!
//! *Must*: the result has the id that building from all rows would give. Where each group that was read again has its rows and its last key as before, the tree keeps
//! its shape, and only the nodes above them are built anew; else it is built anew over all groups.

use super::build::Bases;
use super::build::{StoredGroup, assemble_sized, digest, put_json};
use super::compare::Objects;
use super::manifest::{Group, ManifestColumn, TableManifest};
use super::splice::{SpliceError, Tree, Updates};
use crate::id::ObjectId;
use crate::rows::{EditedColumn, GROUP_BYTES_MAX, TableShape};
use crate::store::{Batch, StoreError};

/// What is known of a row group beside what its manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupFacts {
    /// How many rows it has.
    pub rows: u64,
    /// The cut hash of its last row.
    pub cut_hash: u64,
    /// The bytes of its JSON, large values and chunks that are not stored included.
    pub bytes: u64,
}

impl GroupFacts {
    /// Takes them from a group that was just stored.
    pub fn of(stored: &StoredGroup) -> Self {
        Self { rows: stored.group.rows, cut_hash: stored.cut_hash, bytes: stored.bytes }
    }
}

/// A table before.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The id of its manifest.
    pub id: ObjectId,
    /// Its manifest.
    pub manifest: &'a TableManifest,
    /// Its row groups, in order.
    pub groups: &'a [Group],
    /// What else is known of each.
    pub facts: &'a [GroupFacts],
}

/// Groups that were read again: from one on, up to before another.
#[derive(Debug)]
pub struct Recut {
    /// The number of the first that they replace.
    pub from: usize,
    /// The number of the first that stays.
    pub until: usize,
    /// What stands there now, in order.
    pub groups: Vec<StoredGroup>,
}

/// A table after.
pub struct After {
    /// The id of its manifest.
    pub id: ObjectId,
    /// Its manifest.
    pub manifest: TableManifest,
    /// What else is known of each of its groups.
    pub facts: Vec<GroupFacts>,
}

/// Tells whether the row groups of a table before can be those of this shape: its columns are the first ones, whatever they are called, and keys and defaults
/// are the same.
pub fn fits(manifest: &TableManifest, shape: &TableShape) -> bool {
    let same = |(column, shape): (&ManifestColumn, &crate::rows::ColumnShape)| {
        (&column.shape.default, column.shape.hidden) == (&shape.default, shape.hidden)
    };
    manifest.columns.len() <= shape.columns.len()
        && manifest.columns.iter().zip(&shape.columns).all(same)
        && (&manifest.identity, &manifest.locator) == (&shape.identity, &shape.locator)
}

/// Builds a group of which these columns, and no others, have other values, and all rows the keys that they had. None where it is not sure that the group
/// ends where it ended.
///
/// # Errors
/// What [`Batch::put`] fails with.
pub fn edit_group(
    batch: &Batch<'_>,
    (group, facts): (&Group, GroupFacts),
    edited: &[EditedColumn],
) -> Result<Option<StoredGroup>, StoreError> {
    let now: u64 = edited.iter().map(|edited| edited.chunk.json.len() as u64).sum();
    let then: u64 = edited.iter().map(|edited| edited.then.len() as u64).sum();
    let bytes = facts.bytes.saturating_sub(then) + now;
    // From there on values decide where a group ends.
    if facts.bytes.max(bytes) >= GROUP_BYTES_MAX {
        return Ok(None);
    }
    let mut columns = group.columns.clone();
    for EditedColumn { column, chunk, then } in edited {
        if columns.len() <= *column {
            columns.resize(*column + 1, None);
        }
        columns[*column] = match group.chunk(*column) {
            _ if chunk.is_default => None,
            Some(base) => Some(batch.put_like(&chunk.json, &base, then)?),
            None => Some(batch.put(&chunk.json, None)?),
        };
    }
    while columns.last().is_some_and(Option::is_none) {
        columns.pop();
    }
    let group = Group { rows: group.rows, first: group.first.clone(), columns };
    Ok(Some(StoredGroup { group, bytes, cut_hash: facts.cut_hash }))
}

/// Builds the manifest of a table of this shape, which [`fits`], in which these groups, and no others, are other than before; columns that were added since have
/// their default in all others. None where it is not sure what that gives.
///
/// # Errors
/// [`SpliceError`].
pub fn regroup(
    batch: &Batch<'_>,
    objects: &dyn Objects,
    before: Before<'_>,
    shape: &TableShape,
    mut recuts: Vec<Recut>,
) -> Result<Option<After>, SpliceError> {
    let Before { id, manifest, groups, facts } = before;
    if facts.len() != groups.len() {
        return Ok(None);
    }
    // What a group's new columns add to its JSON: brackets, and as many defaults with commas between them as it has rows.
    let added: u64 = shape.columns.iter().skip(manifest.columns.len()).map(|column| column.default.len() as u64 + 1).sum();
    let brackets = (shape.columns.len() - manifest.columns.len()) as u64;
    let kept = |at: usize| {
        let (group, facts) = (groups.get(at)?, facts.get(at)?);
        let bytes = facts.bytes + group.rows * added + brackets;
        // From there on values decide where a group ends.
        (added == 0 || bytes < GROUP_BYTES_MAX).then_some((group, GroupFacts { bytes, ..*facts }))
    };
    recuts.sort_unstable_by_key(|recut| recut.from);
    let mut order: Vec<Result<StoredGroup, usize>> = Vec::with_capacity(groups.len());
    let mut at = 0;
    let mut is_same_shape = true;
    for recut in recuts {
        // One that began before may have gone past where this one begins.
        if recut.from < at {
            continue;
        }
        order.extend((at..recut.from).map(Err));
        is_same_shape &= match recut.groups.as_slice() {
            [only] if recut.until == recut.from + 1 => groups.get(recut.from).zip(facts.get(recut.from)).is_some_and(|(group, facts)| {
                (group.rows, &group.first, facts.cut_hash) == (only.group.rows, &only.group.first, only.cut_hash)
            }),
            _ => false,
        };
        at = recut.until;
        order.extend(recut.groups.into_iter().map(Ok));
    }
    order.extend((at..groups.len()).map(Err));
    let mut all = Vec::with_capacity(order.len());
    let mut updates = Updates::new();
    for (place, group) in order.into_iter().enumerate() {
        match group {
            Ok(stored) => {
                updates.insert(place, (stored.group.clone(), 0));
                all.push(stored);
            }
            Err(at) => {
                let Some((group, facts)) = kept(at) else { return Ok(None) };
                all.push(StoredGroup { group: group.clone(), bytes: facts.bytes, cut_hash: facts.cut_hash });
            }
        }
    }
    let facts = all.iter().map(GroupFacts::of).collect();
    let bytes = all.iter().map(|stored| stored.bytes).sum();
    let (id, manifest) = match manifest.root {
        Some(root) if is_same_shape => {
            updates.retain(|at, (group, _)| groups.get(*at) != Some(group));
            let root = Tree { batch, objects, groups, updates: &updates }.build(root, manifest.depth)?;
            let groups = || all.iter().map(|stored| &stored.group);
            let columns = shape.columns.iter().enumerate();
            let columns =
                columns.map(|(at, column)| ManifestColumn { shape: column.clone(), digest: digest(at, &column.default, groups()) });
            let after = TableManifest { name: shape.name.clone(), columns: columns.collect(), bytes, root: Some(root), ..manifest.clone() };
            (put_json(batch, &after, Some(&id))?, after)
        }
        _ => {
            let bases = Bases::of(objects, id, manifest, shape);
            assemble_sized(batch, shape, manifest.cut, all, &bases, bytes)?
        }
    };
    Ok(Some(After { id, manifest, facts }))
}
