//! A table's manifest after some of its rows were changed, from the manifest before and those rows alone.
//!
//! Rows whose key stays move no cut, so that the tree keeps its shape: only the chunks in which a cell differs, and the nodes above them, are built
//! anew. *Must*: the result has the id that building from all rows would give. Where that is not sure, because a row came or went, a value is an
//! object of its own, or a group is so large that values decide where it ends, there is no result, and the table is read.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::build::{digest, put_json};
use super::chunks::{read_node, row_groups, rows_of};
use super::compare::{CompareError, Objects};
use super::manifest::{Child, Group, ManifestColumn, Node, TableManifest};
use crate::id::ObjectId;
use crate::rows::{GROUP_BYTES_MAX, RowGroup};
use crate::store::{Batch, StoreError};
use crate::value::{cells_at, split_array};

/// What stopped a splice.
#[derive(Debug, thiserror::Error)]
pub enum SpliceError {
    /// Something of the table before cannot be read.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// Something cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A group in which rows were found: its place, the group after, and by how much its JSON grew.
type Found = (usize, Group, i64);

/// A row by its key: the canonical JSON of its identity cells, joined by commas.
type Rows<'a> = HashMap<Vec<u8>, Vec<&'a [u8]>>;

/// Builds the manifest of a table in which these rows, and no others, have other values than before. None where it cannot be told so.
///
/// # Errors
/// [`SpliceError`]; nothing is lost then but what it would have saved.
pub fn splice(
    batch: &Batch<'_>,
    objects: &dyn Objects,
    before: (ObjectId, &TableManifest),
    changed: &[RowGroup],
) -> Result<Option<(ObjectId, TableManifest)>, SpliceError> {
    let (id, manifest) = before;
    let Some(rows) = by_key(manifest, changed) else { return Ok(None) };
    if manifest.identity.is_empty() || rows.is_empty() {
        return Ok(None);
    }
    let groups = row_groups(manifest, objects)?;
    let wanted = candidates(manifest, &groups, &rows);
    let found: Mutex<(usize, Vec<Found>)> = Mutex::new((0, Vec::new()));
    let is_sure = Mutex::new(true);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> Result<(), SpliceError> {
        loop {
            let Some(&at) = wanted.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) else { return Ok(()) };
            let Some(group) = groups.get(at) else { return Ok(()) };
            match group_after(batch, objects, manifest, group, &rows)? {
                None => {
                    *is_sure.lock().unwrap_or_else(PoisonError::into_inner) = false;
                    return Ok(());
                }
                Some((0, _, _)) => {}
                Some((count, group, bytes)) => {
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.0 += count;
                    found.1.push((at, group, bytes));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(wanted.len());
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().map(|thread| thread.join().unwrap_or(Ok(()))).fold(own, |result, other| result.and(other))
    })?;
    let (count, found) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if count != rows.len() || !is_sure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Ok(None);
    }
    let bytes: i64 = found.iter().map(|(_, _, bytes)| bytes).sum();
    let mut after = groups;
    let mut is_changed = vec![false; after.len()];
    for (at, group, _) in found {
        if let (Some(slot), Some(flag)) = (after.get_mut(at), is_changed.get_mut(at)) {
            (*slot, *flag) = (group, true);
        }
    }
    let Some(root) = manifest.root else { return Ok(None) };
    let mut tree = Tree { batch, objects, after: &after, is_changed: &is_changed, at: 0 };
    let root = tree.node(root, manifest.depth)?;
    let columns = manifest
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| ManifestColumn { shape: column.shape.clone(), digest: digest(at, &column.shape.default, after.iter()) });
    let manifest = TableManifest {
        columns: columns.collect(),
        bytes: manifest.bytes.saturating_add_signed(bytes),
        root: Some(root),
        ..manifest.clone()
    };
    let id = put_json(batch, &manifest, Some(&id))?;
    Ok(Some((id, manifest)))
}

/// Takes rows apart; none where a value is an object of its own, or a key comes twice.
fn by_key<'a>(manifest: &TableManifest, groups: &'a [RowGroup]) -> Option<Rows<'a>> {
    let mut rows = Rows::new();
    for group in groups {
        if group.columns.len() != manifest.columns.len() || group.columns.iter().any(|column| !column.large.is_empty()) {
            return None;
        }
        let columns: Vec<Vec<&[u8]>> = group.columns.iter().map(|column| split_array(&column.json)).collect::<Result<_, _>>().ok()?;
        for row in 0..usize::try_from(group.rows).ok()? {
            let cells: Vec<&[u8]> = columns.iter().map(|column| column.get(row).copied()).collect::<Option<_>>()?;
            let key = key_of(manifest, &|column| cells.get(column).copied())?;
            if rows.insert(key, cells).is_some() {
                return None;
            }
        }
    }
    Some(rows)
}

fn key_of<'a>(manifest: &TableManifest, cell: &dyn Fn(usize) -> Option<&'a [u8]>) -> Option<Vec<u8>> {
    let cells: Vec<&[u8]> = manifest.identity.iter().map(|&column| cell(column)).collect::<Option<_>>()?;
    Some(cells.join(&b','))
}

/// Finds the groups that can have these keys: by comparing where a table is in the order of integers, else all.
fn candidates(manifest: &TableManifest, groups: &[Group], rows: &Rows<'_>) -> Vec<usize> {
    let parse = |key: &str| key.split(',').map(|cell| cell.parse::<i64>().ok()).collect::<Option<Vec<i64>>>();
    let firsts: Option<Vec<Vec<i64>>> = groups.iter().map(|group| parse(&group.first)).collect();
    let keys: Option<Vec<Vec<i64>>> = rows.keys().map(|key| parse(std::str::from_utf8(key).ok()?)).collect();
    let all = || (0..groups.len()).collect();
    let (Some(firsts), Some(keys)) = (firsts, keys) else { return all() };
    if manifest.identity.is_empty() || !firsts.is_sorted() {
        return all();
    }
    let mut found: Vec<usize> = keys.iter().map(|key| firsts.partition_point(|first| first <= key).saturating_sub(1)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Builds a group in which rows have other values: how many of them it has, the group, and by how much its JSON grew. None where it is not sure
/// that it ends where it ended.
fn group_after(
    batch: &Batch<'_>,
    objects: &dyn Objects,
    manifest: &TableManifest,
    group: &Group,
    rows: &Rows<'_>,
) -> Result<Option<(usize, Group, i64)>, SpliceError> {
    let width = manifest.columns.len();
    let read = |column: usize| -> Result<Vec<u8>, CompareError> {
        match group.chunk(column) {
            Some(id) => objects.read(&id).map_err(CompareError::Read),
            None => {
                let default = manifest.columns.get(column).map_or("null", |column| column.shape.default.as_str());
                Ok(format!("[{}]", vec![default; rows_of(group)].join(",")).into_bytes())
            }
        }
    };
    let keys: Vec<Vec<u8>> = manifest.identity.iter().map(|&column| read(column)).collect::<Result<_, _>>()?;
    let Ok(keys) = keys.iter().map(|json| split_array(json)).collect::<Result<Vec<_>, _>>() else { return Ok(None) };
    let mut hits = Vec::new();
    let mut key = Vec::new();
    for row in 0..rows_of(group) {
        key.clear();
        for (at, column) in keys.iter().enumerate() {
            if at > 0 {
                key.push(b',');
            }
            let Some(cell) = column.get(row) else { return Ok(None) };
            key.extend_from_slice(cell);
        }
        if let Some(cells) = rows.get(&key) {
            hits.push((row, cells));
        }
    }
    if hits.is_empty() {
        return Ok(Some((0, group.clone(), 0)));
    }
    let places: Vec<usize> = hits.iter().map(|(row, _)| *row).collect();
    let (mut total, mut grown) = ([0_u64; 2], 0_i64);
    let mut columns: Vec<Option<ObjectId>> = Vec::with_capacity(width);
    for (column, shape) in manifest.columns.iter().enumerate() {
        let old = read(column)?;
        // A value that is an object of its own counts for more than its cell.
        if memchr::memmem::find(&old, b"{\"ref\"").is_some() {
            return Ok(None);
        }
        let Ok(now) = cells_at(&old, &places) else { return Ok(None) };
        let Some(then) = hits.iter().map(|(_, new)| new.get(column).copied()).collect::<Option<Vec<&[u8]>>>() else { return Ok(None) };
        if now == then {
            total = [total[0] + old.len() as u64, total[1] + old.len() as u64];
            columns.push(group.chunk(column));
            continue;
        }
        let Ok(mut cells) = split_array(&old) else { return Ok(None) };
        if cells.len() != rows_of(group) {
            return Ok(None);
        }
        for (row, new) in places.iter().zip(then) {
            if let Some(cell) = cells.get_mut(*row) {
                *cell = new;
            }
        }
        let mut json = Vec::with_capacity(old.len() + 64);
        json.push(b'[');
        json.extend_from_slice(&cells.join(&b','));
        json.push(b']');
        total = [total[0] + old.len() as u64, total[1] + json.len() as u64];
        grown += i64::try_from(json.len()).unwrap_or(i64::MAX) - i64::try_from(old.len()).unwrap_or(i64::MAX);
        let is_default = cells.iter().all(|cell| *cell == shape.shape.default.as_bytes());
        columns.push(if is_default { None } else { Some(batch.put(&json, group.chunk(column).as_ref())?) });
    }
    // From there on values decide where a group ends.
    if total.iter().any(|bytes| *bytes >= GROUP_BYTES_MAX) {
        return Ok(None);
    }
    while columns.last().is_some_and(Option::is_none) {
        columns.pop();
    }
    Ok(Some((hits.len(), Group { rows: group.rows, first: group.first.clone(), columns }, grown)))
}

/// A tree of the same shape over other groups.
struct Tree<'a, 'b> {
    batch: &'a Batch<'b>,
    objects: &'a dyn Objects,
    after: &'a [Group],
    is_changed: &'a [bool],
    /// How many groups were passed.
    at: usize,
}

impl Tree<'_, '_> {
    fn node(&mut self, id: ObjectId, level: u32) -> Result<ObjectId, SpliceError> {
        match read_node(&id, level, self.objects)? {
            Node::Groups(groups) => {
                let range = self.at..self.at + groups.len();
                self.at = range.end;
                if !self.is_changed.get(range.clone()).is_some_and(|flags| flags.contains(&true)) {
                    return Ok(id);
                }
                let groups = self.after.get(range).map(<[Group]>::to_vec).unwrap_or(groups);
                Ok(put_json(self.batch, &Node::Groups(groups), Some(&id))?)
            }
            Node::Nodes(children) => {
                let mut after = Vec::with_capacity(children.len());
                let mut differs = false;
                for child in children {
                    let node = self.node(child.node, level.saturating_sub(1))?;
                    differs |= node != child.node;
                    after.push(Child { rows: child.rows, node });
                }
                if differs { Ok(put_json(self.batch, &Node::Nodes(after), Some(&id))?) } else { Ok(id) }
            }
        }
    }
}
