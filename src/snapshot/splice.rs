//! A table's manifest after some of its rows were changed, from the manifest before and those rows alone.
//!
//! A row whose key stays moves no cut: only the chunks in which a cell differs, and the nodes above them, are built anew, and the tree keeps its shape.
//! Where a row came or went, its group and those after it are cut again, up to the first row that ends a group as before; the tree is then built
//! anew over all groups. *Must*: the result has the id that building from all rows would give. Where that is not sure, because a value is an object of its
//! own, the order of a new row's key is not known, or a group is so large that values decide where it ends, there is no result, and the table is read.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::build::{Bases, StoredGroup, assemble_sized, digest, put_json, store_group};
use super::chunks::{column_json, read_node, row_groups, rows_of};
use super::compare::{self, CompareError, Objects};
use super::cores::on_all_cores;
use super::manifest::{Child, Group, ManifestColumn, Node, TableManifest};
use crate::id::ObjectId;
use crate::rows::{GROUP_BYTES_MAX, GroupBuilder, RowGroup};
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

/// What became of a table's rows.
#[derive(Debug, Clone, Copy)]
pub struct Changed<'a> {
    /// The rows that were not there as they are.
    pub rows: &'a [RowGroup],
    /// How many rows that were there are not there any more as they were.
    pub gone: u64,
    /// The keys of rows that may be gone: the canonical JSON of their identity cells, joined by commas. Those of `rows` need not be among them. Empty
    /// where they are not known.
    pub keys: &'a [Vec<u8>],
}

/// What a row is now, by its key: its cells, or gone.
type Rows<'a> = HashMap<Vec<u8>, Option<Vec<&'a [u8]>>>;

/// A key of integers, in the order of the table.
type Numbers = Vec<i64>;

/// Keys in their order, by the group in which they stand or are to stand.
type Places<'a> = BTreeMap<usize, Vec<(Numbers, &'a Vec<u8>)>>;

/// What became of a group.
enum After {
    /// Nothing.
    Same,
    /// Rows have other values: the group, and by how much its JSON grew.
    Updated(Group, i64),
    /// Rows came or went.
    Recut,
}

/// Groups in which rows have other values, by their place, and by how much their JSON grew.
pub(super) type Updates = BTreeMap<usize, (Group, i64)>;

/// Groups that were cut again: from one on, up to before another.
struct Recut {
    from: usize,
    until: usize,
    groups: Vec<StoredGroup>,
    bytes_before: u64,
}

/// A splice on its way.
struct Splice<'a> {
    batch: &'a Batch<'a>,
    objects: &'a dyn Objects,
    manifest: &'a TableManifest,
    groups: &'a [Group],
    rows: &'a Rows<'a>,
    /// Where a row stands or is to stand, by group, in the order of their keys; none where keys are no integers.
    places: Option<Places<'a>>,
}

/// Builds the manifest of a table in which these rows, and no others, are other than before. None where it cannot be told so.
///
/// # Errors
/// [`SpliceError`]; nothing is lost then but what it would have saved.
pub fn splice(
    batch: &Batch<'_>,
    objects: &dyn Objects,
    before: (ObjectId, &TableManifest),
    changed: Changed<'_>,
) -> Result<Option<(ObjectId, TableManifest)>, SpliceError> {
    let (id, manifest) = before;
    let Some(rows) = by_key(manifest, changed) else { return Ok(None) };
    let new = rows.values().flatten().count() as u64;
    if manifest.identity.is_empty() || rows.is_empty() || changed.gone > new && changed.keys.is_empty() {
        return Ok(None);
    }
    let groups = row_groups(manifest, objects)?;
    let places = places(&groups, &rows);
    let splice = Splice { batch, objects, manifest, groups: &groups, rows: &rows, places };
    let wanted: Vec<usize> = splice.places.as_ref().map_or_else(|| (0..groups.len()).collect(), |places| places.keys().copied().collect());
    let found = on_all_cores(&wanted, || |at: &usize| splice.look(*at))?;
    let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let matched: u64 = found.iter().map(|(matched, _, _)| matched).sum();
    let replaced: u64 = found.iter().map(|(_, replaced, _)| replaced).sum();
    // Every row that is gone was found, and so was every new row, or it has its place.
    if matched != changed.gone || replaced != new && splice.places.is_none() {
        return Ok(None);
    }
    let (mut updates, mut again) = (BTreeMap::new(), Vec::new());
    for (at, (_, _, found)) in wanted.into_iter().zip(found) {
        match found {
            After::Same => {}
            After::Updated(group, bytes) => drop(updates.insert(at, (group, bytes))),
            After::Recut => again.push(at),
        }
    }
    if again.is_empty() { splice.keep_tree(id, &updates).map(Some) } else { splice.build_tree(id, &updates, &again) }
}

/// Takes rows apart; none where a value is an object of its own, or a key comes twice.
fn by_key<'a>(manifest: &TableManifest, changed: Changed<'a>) -> Option<Rows<'a>> {
    let mut rows = Rows::new();
    for group in changed.rows {
        if group.columns.len() != manifest.columns.len() || group.columns.iter().any(|column| !column.large.is_empty()) {
            return None;
        }
        let columns: Vec<Vec<&[u8]>> = group.columns.iter().map(|column| split_array(&column.json)).collect::<Result<_, _>>().ok()?;
        for row in 0..usize::try_from(group.rows).ok()? {
            let cells: Vec<&[u8]> = columns.iter().map(|column| column.get(row).copied()).collect::<Option<_>>()?;
            let key: Vec<&[u8]> = manifest.identity.iter().map(|&column| cells.get(column).copied()).collect::<Option<_>>()?;
            if rows.insert(key.join(&b','), Some(cells)).is_some() {
                return None;
            }
        }
    }
    for key in changed.keys {
        rows.entry(key.clone()).or_insert(None);
    }
    Some(rows)
}

fn numbers(key: &str) -> Option<Numbers> {
    key.split(',').map(|cell| cell.parse::<i64>().ok()).collect()
}

/// Finds the group of each key, where a table is in the order of integers.
fn places<'a>(groups: &[Group], rows: &'a Rows<'_>) -> Option<Places<'a>> {
    let firsts: Vec<Numbers> = groups.iter().map(|group| numbers(&group.first)).collect::<Option<_>>()?;
    if groups.is_empty() || !firsts.is_sorted() {
        return None;
    }
    let mut places = Places::new();
    for key in rows.keys() {
        let number = numbers(std::str::from_utf8(key).ok()?)?;
        let at = firsts.partition_point(|first| *first <= number).saturating_sub(1);
        places.entry(at).or_default().push((number, key));
    }
    places.values_mut().for_each(|keys| keys.sort_unstable());
    Some(places)
}

impl Splice<'_> {
    /// Reads a column of a group.
    fn read(&self, group: &Group, column: usize) -> Result<Vec<u8>, CompareError> {
        column_json(self.manifest, group, column, self.objects)
    }

    /// Looks what becomes of a group: how many of its rows are changed or gone, how many of them are changed, and what that makes of it. None where it is not
    /// sure.
    fn look(&self, at: usize) -> Result<Option<(u64, u64, After)>, SpliceError> {
        let Some(group) = self.groups.get(at) else { return Ok(None) };
        let keys: Vec<Vec<u8>> = self.manifest.identity.iter().map(|&column| self.read(group, column)).collect::<Result<_, _>>()?;
        let Ok(keys) = keys.iter().map(|json| split_array(json)).collect::<Result<Vec<_>, _>>() else { return Ok(None) };
        let mut hits = Vec::new();
        let (mut matched, mut key) = (0, Vec::new());
        for row in 0..rows_of(group) {
            if join_key(&keys, row, &mut key).is_none() {
                return Ok(None);
            }
            if let Some(now) = self.rows.get(&key) {
                matched += 1;
                hits.extend(now.as_ref().map(|cells| (row, cells)));
            }
        }
        let replaced = hits.len() as u64;
        let is_new = |(_, key): &&(Numbers, &Vec<u8>)| self.rows.get(*key).is_some_and(Option::is_some);
        let placed =
            self.places.as_ref().and_then(|places| places.get(&at)).map_or(replaced, |keys| keys.iter().filter(is_new).count() as u64);
        let after = if matched > replaced || placed > replaced {
            Some(After::Recut)
        } else if hits.is_empty() {
            Some(After::Same)
        } else {
            self.updated(group, &hits)?
        };
        Ok(after.map(|after| (matched, replaced, after)))
    }

    /// Builds a group in which rows have other values. None where it is not sure that it ends where it ended.
    fn updated(&self, group: &Group, hits: &[(usize, &Vec<&[u8]>)]) -> Result<Option<After>, SpliceError> {
        let places: Vec<usize> = hits.iter().map(|(row, _)| *row).collect();
        let (mut total, mut grown) = ([0_u64; 2], 0_i64);
        let mut columns: Vec<Option<ObjectId>> = Vec::with_capacity(self.manifest.columns.len());
        for (column, shape) in self.manifest.columns.iter().enumerate() {
            let glimpse = match group.chunk(column) {
                Some(id) => self.objects.glimpse(&id, &places).map_err(CompareError::Read)?,
                None => Arc::new(compare::glimpse(&self.read(group, column)?, &places).map_err(CompareError::Read)?),
            };
            // A value that is an object of its own counts for more than its cell.
            if glimpse.has_references {
                return Ok(None);
            }
            let Some(then) = hits.iter().map(|(_, new)| new.get(column).copied()).collect::<Option<Vec<&[u8]>>>() else { return Ok(None) };
            if glimpse.pieces.iter().zip(&then).all(|(now, then)| **now == **then) {
                total = total.map(|total| total + glimpse.bytes);
                columns.push(group.chunk(column));
                continue;
            }
            let old = self.read(group, column)?;
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
            columns.push(if is_default { None } else { Some(self.batch.put(&json, group.chunk(column).as_ref())?) });
        }
        // From there on values decide where a group ends.
        if total.iter().any(|bytes| *bytes >= GROUP_BYTES_MAX) {
            return Ok(None);
        }
        while columns.last().is_some_and(Option::is_none) {
            columns.pop();
        }
        Ok(Some(After::Updated(Group { rows: group.rows, first: group.first.clone(), columns }, grown)))
    }

    /// Builds the nodes above changed groups; the others stay.
    fn keep_tree(&self, id: ObjectId, updates: &Updates) -> Result<(ObjectId, TableManifest), SpliceError> {
        let manifest = self.manifest;
        let root = match manifest.root {
            Some(root) => {
                Some(Tree { batch: self.batch, objects: self.objects, groups: self.groups, updates }.build(root, manifest.depth)?)
            }
            None => None,
        };
        let groups = || self.groups.iter().enumerate().map(|(at, group)| updates.get(&at).map_or(group, |(group, _)| group));
        let columns = manifest
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| ManifestColumn { shape: column.shape.clone(), digest: digest(at, &column.shape.default, groups()) });
        let grown = updates.values().map(|(_, bytes)| bytes).sum();
        let bytes = manifest.bytes.saturating_add_signed(grown);
        let manifest = TableManifest { columns: columns.collect(), bytes, root, ..manifest.clone() };
        let id = put_json(self.batch, &manifest, Some(&id))?;
        Ok((id, manifest))
    }

    /// Cuts groups again from each of `again` on, and builds the tree over all groups.
    fn build_tree(&self, id: ObjectId, updates: &Updates, again: &[usize]) -> Result<Option<(ObjectId, TableManifest)>, SpliceError> {
        let shape = self.manifest.shape();
        let bases = Bases::of(self.objects, id, self.manifest, &shape);
        let recuts = on_all_cores(again, || |from: &usize| self.recut(*from, &bases))?;
        let Some(recuts) = recuts.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        // The groups in order; a number is one that stays, or whose rows have other values.
        let mut order: Vec<Result<StoredGroup, usize>> = Vec::with_capacity(self.groups.len());
        let mut bytes = i128::from(self.manifest.bytes);
        let mut at = 0;
        for recut in recuts {
            // One that began before may have gone past where this one begins.
            if recut.from < at {
                continue;
            }
            order.extend((at..recut.from).map(Err));
            at = recut.until;
            bytes += recut.groups.iter().map(|stored| i128::from(stored.bytes)).sum::<i128>() - i128::from(recut.bytes_before);
            order.extend(recut.groups.into_iter().map(Ok));
        }
        order.extend((at..self.groups.len()).map(Err));
        let kept: Vec<usize> = order.iter().filter_map(|group| group.as_ref().err().copied()).collect();
        let Some(hashes) = on_all_cores(&kept, || |at: &usize| self.cut_hash(*at))?.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let hashes: HashMap<usize, u64> = kept.into_iter().zip(hashes).collect();
        let mut groups = Vec::with_capacity(order.len());
        for group in order {
            groups.push(match group {
                Ok(stored) => stored,
                Err(at) => {
                    let (group, grown) = updates.get(&at).map_or((&self.groups[at], 0), |(group, grown)| (group, *grown));
                    bytes += i128::from(grown);
                    StoredGroup { group: group.clone(), bytes: 0, cut_hash: hashes.get(&at).copied().unwrap_or_default() }
                }
            });
        }
        let Ok(bytes) = u64::try_from(bytes) else { return Ok(None) };
        Ok(Some(assemble_sized(self.batch, &shape, self.manifest.cut, groups, &bases, bytes)?))
    }

    /// Returns the cut hash of a group's last row.
    fn cut_hash(&self, at: usize) -> Result<Option<u64>, SpliceError> {
        let Some((group, last)) = self.groups.get(at).and_then(|group| Some((group, rows_of(group).checked_sub(1)?))) else {
            return Ok(None);
        };
        let mut key = Vec::new();
        for (place, &column) in self.manifest.identity.iter().enumerate() {
            if place > 0 {
                key.push(b',');
            }
            let json = self.read(group, column)?;
            let Some(cell) = cells_at(&json, &[last]).ok().and_then(|cells| cells.first().copied()) else { return Ok(None) };
            key.extend_from_slice(cell);
        }
        Ok(Some(xxhash_rust::xxh3::xxh3_64(&key)))
    }

    /// Cuts groups again from one on, until one begins with the row with which it began. None where it is not sure.
    fn recut(&self, from: usize, bases: &Bases) -> Result<Option<Recut>, SpliceError> {
        let shape = self.manifest.shape();
        let mut cutter = Cutter { builder: GroupBuilder::new(&shape, self.manifest.cut), is_fresh: true, groups: Vec::new() };
        let (mut bytes_before, mut until) = (0, from);
        while let Some(group) = self.groups.get(until) {
            let Some(bytes) = self.append(until, group, &mut cutter)? else { return Ok(None) };
            bytes_before += bytes;
            until += 1;
            if cutter.is_fresh {
                break;
            }
        }
        let Cutter { builder, mut groups, .. } = cutter;
        groups.extend(builder.finish());
        let groups = groups.into_iter().map(|group| store_group(self.batch, group, bases)).collect::<Result<_, _>>()?;
        Ok(Some(Recut { from, until, groups, bytes_before }))
    }

    /// Appends the rows of a group as they are now; returns the bytes of its JSON before.
    fn append(&self, at: usize, group: &Group, cutter: &mut Cutter) -> Result<Option<u64>, SpliceError> {
        let columns: Vec<Vec<u8>> = (0..self.manifest.columns.len()).map(|column| self.read(group, column)).collect::<Result<_, _>>()?;
        if columns.iter().any(|json| memchr::memmem::find(json, b"{\"ref\"").is_some()) {
            return Ok(None);
        }
        let Ok(cells) = columns.iter().map(|json| split_array(json)).collect::<Result<Vec<_>, _>>() else { return Ok(None) };
        let places = self.places.as_ref().and_then(|places| places.get(&at)).map(Vec::as_slice).unwrap_or_default();
        let mut new = places.iter().filter_map(|(number, key)| Some((number, self.rows.get(*key)?.as_ref()?))).peekable();
        let keys: Vec<Vec<&[u8]>> = self.manifest.identity.iter().filter_map(|&column| cells.get(column).cloned()).collect();
        let mut key = Vec::new();
        for row in 0..rows_of(group) {
            if join_key(&keys, row, &mut key).is_none() {
                return Ok(None);
            }
            if new.peek().is_some() {
                let Some(number) = std::str::from_utf8(&key).ok().and_then(numbers) else { return Ok(None) };
                while let Some((_, cells)) = new.next_if(|(other, _)| **other < number) {
                    cutter.push(cells.iter().copied());
                }
                new.next_if(|(other, _)| **other == number);
            }
            match self.rows.get(&key) {
                None => {
                    let Some(row) = cells.iter().map(|column| column.get(row).copied()).collect::<Option<Vec<_>>>() else {
                        return Ok(None);
                    };
                    cutter.push(row.into_iter());
                }
                Some(Some(now)) => cutter.push(now.iter().copied()),
                Some(None) => {}
            }
        }
        for (_, cells) in new {
            cutter.push(cells.iter().copied());
        }
        Ok(Some(columns.iter().map(|json| json.len() as u64).sum()))
    }
}

/// Joins the cells of a row's key; none where there is no such row.
fn join_key(columns: &[Vec<&[u8]>], row: usize, key: &mut Vec<u8>) -> Option<()> {
    key.clear();
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            key.push(b',');
        }
        key.extend_from_slice(column.get(row)?);
    }
    Some(())
}

/// Rows on their way into groups.
struct Cutter {
    builder: GroupBuilder,
    /// Whether the next row begins a group.
    is_fresh: bool,
    groups: Vec<RowGroup>,
}

impl Cutter {
    fn push<'c>(&mut self, cells: impl Iterator<Item = &'c [u8]>) {
        for (writer, cell) in self.builder.columns().iter_mut().zip(cells) {
            writer.push_cell(cell, &mut std::iter::empty());
        }
        let group = self.builder.end_row();
        self.is_fresh = group.is_some();
        self.groups.extend(group);
    }
}

/// A tree of the same shape over other groups.
pub(super) struct Tree<'a, 'b> {
    pub batch: &'a Batch<'b>,
    pub objects: &'a dyn Objects,
    /// The groups before, in order.
    pub groups: &'a [Group],
    pub updates: &'a Updates,
}

/// A bottom node: its id before, and its groups by their places.
struct Bottom {
    id: ObjectId,
    groups: Range<usize>,
}

impl Tree<'_, '_> {
    /// Builds what stands below a root, and the root. Bottom nodes, which are most, are built on all cores.
    pub fn build(&self, root: ObjectId, depth: u32) -> Result<ObjectId, SpliceError> {
        let mut bottoms = Vec::new();
        if depth <= 1 {
            bottoms.push(Bottom { id: root, groups: 0..self.groups.len() });
        } else {
            self.find_bottoms(root, depth, &mut bottoms)?;
        }
        let build = |bottom: &Bottom| -> Result<ObjectId, StoreError> {
            let Bottom { id, groups } = bottom;
            if self.updates.range(groups.clone()).next().is_none() {
                return Ok(*id);
            }
            let now = |at: usize| self.updates.get(&at).map(|(after, _)| after).or_else(|| self.groups.get(at)).cloned();
            put_json(self.batch, &Node::Groups(groups.clone().filter_map(now).collect()), Some(id))
        };
        let built = on_all_cores(&bottoms, || build)?;
        self.above(root, depth, &mut built.into_iter())
    }

    fn find_bottoms(&self, id: ObjectId, level: u32, bottoms: &mut Vec<Bottom>) -> Result<(), SpliceError> {
        let malformed = |what: &str| CompareError::Malformed { id, what: what.to_owned() };
        let Node::Nodes(children) = read_node(&id, level, self.objects)? else {
            return Err(malformed("it is no node above others").into());
        };
        for child in children {
            if level > 2 {
                self.find_bottoms(child.node, level - 1, bottoms)?;
                continue;
            }
            let from = bottoms.last().map_or(0, |last| last.groups.end);
            let (mut until, mut rows) = (from, 0);
            while rows < child.rows {
                rows += self.groups.get(until).ok_or_else(|| malformed("it has more rows than its groups"))?.rows;
                until += 1;
            }
            if rows != child.rows {
                return Err(malformed("it ends within a group").into());
            }
            bottoms.push(Bottom { id: child.node, groups: from..until });
        }
        Ok(())
    }

    /// Builds a node whose bottom nodes are these.
    fn above(&self, id: ObjectId, level: u32, bottoms: &mut dyn Iterator<Item = ObjectId>) -> Result<ObjectId, SpliceError> {
        if level <= 1 {
            return Ok(bottoms.next().unwrap_or(id));
        }
        let Node::Nodes(children) = read_node(&id, level, self.objects)? else { return Ok(id) };
        let mut after = Vec::with_capacity(children.len());
        let mut differs = false;
        for child in children {
            let node = self.above(child.node, level - 1, bottoms)?;
            differs |= node != child.node;
            after.push(Child { rows: child.rows, node });
        }
        if differs { Ok(put_json(self.batch, &Node::Nodes(after), Some(&id))?) } else { Ok(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::assemble;
    use super::*;
    use crate::rows::{ColumnShape, CutRule, TableShape};
    use crate::store::{BatchMode, Store};

    type Table = BTreeMap<Numbers, (Option<String>, u64)>;

    /// A source of numbers that are the same in every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit.max(1)
        }
    }

    fn shape(key: usize) -> TableShape {
        let mut columns: Vec<ColumnShape> = (0..key).map(|at| ColumnShape::plain(&format!("k{at}"), "null")).collect();
        columns.extend([ColumnShape::plain("b", "\"x\""), ColumnShape::plain("c", "null")]);
        let identity: Vec<usize> = (0..key).rev().collect();
        TableShape { name: "t".into(), columns, identity: identity.clone(), locator: identity }
    }

    fn groups(shape: &TableShape, rule: CutRule, rows: &Table) -> Vec<RowGroup> {
        let mut builder = GroupBuilder::new(shape, rule);
        let mut groups = Vec::new();
        for (key, (text, number)) in rows {
            let width = key.len();
            // The key's columns stand in the other order.
            for (at, number) in key.iter().enumerate() {
                builder.columns()[width - 1 - at].push_integer(*number);
            }
            match text {
                Some(text) => builder.columns()[width].push_text(text.as_bytes()),
                None => builder.columns()[width].push_null(),
            }
            builder.columns()[width + 1].push_integer(i64::try_from(*number).expect("small"));
            groups.extend(builder.end_row());
        }
        groups.extend(builder.finish());
        groups
    }

    fn whole(batch: &Batch<'_>, shape: &TableShape, rule: CutRule, rows: &Table) -> (ObjectId, TableManifest) {
        let bases = Bases::default();
        let groups = groups(shape, rule, rows).into_iter().map(|group| store_group(batch, group, &bases).expect("stored")).collect();
        assemble(batch, shape, rule, groups, &bases).expect("stored")
    }

    fn key_json(key: &Numbers) -> Vec<u8> {
        key.iter().map(i64::to_string).collect::<Vec<_>>().join(",").into_bytes()
    }

    #[test]
    fn what_is_spliced_is_what_reading_all_rows_would_give() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::create(&dir.path().join("store"), [7; 16]).expect("a store");
        let mut dice = Dice(11);
        for round in 0..60 {
            let width = 1 + round % 2;
            let shape = shape(width);
            let rule = CutRule { rows_target: [1, 4, 16, 64, 256][round % 5] };
            let number = |dice: &mut Dice| i64::try_from(dice.below(4_000)).expect("small") - 1_000;
            let new_key =
                |dice: &mut Dice| -> Numbers { (0..width).map(|at| if at == 0 { number(dice) } else { number(dice) % 7 }).collect() };
            let value = |dice: &mut Dice| {
                (
                    match dice.below(4) {
                        0 => None,
                        1 => Some("x".to_owned()),
                        n => Some("é\"".repeat(n as usize)),
                    },
                    dice.below(9),
                )
            };
            let mut before = Table::new();
            for _ in 0..dice.below(3_000) {
                before.insert(new_key(&mut dice), value(&mut dice));
            }
            let mut after = before.clone();
            let keys: Vec<Numbers> = before.keys().cloned().collect();
            let most = [0, 1, 3, 40, 400][(round / 5) % 5];
            // Changes are scattered, or side by side; at the ends too.
            let start = dice.below(keys.len() as u64);
            let pick = |dice: &mut Dice, at: u64| {
                let at = if round % 3 == 0 { start + at } else { dice.below(keys.len() as u64 + 1) };
                keys.get(usize::try_from(at).expect("small")).cloned()
            };
            for at in 0..dice.below(most + 1) {
                if let Some(key) = pick(&mut dice, at) {
                    after.insert(key, value(&mut dice));
                }
            }
            for at in 0..dice.below(most + 1) {
                if let Some(key) = pick(&mut dice, at) {
                    after.remove(&key);
                }
            }
            for _ in 0..dice.below(most + 1) {
                after.insert(new_key(&mut dice), value(&mut dice));
            }
            if round % 11 == 0 {
                after.pop_first();
                after.pop_last();
                after.insert(vec![-5_000; width], value(&mut dice));
                after.insert(vec![5_000; width], value(&mut dice));
            }
            let batch = store.begin(BatchMode::Durable).expect("a batch");
            let (id, manifest) = whole(&batch, &shape, rule, &before);
            batch.finish().expect("stored");
            let changed: Table =
                after.iter().filter(|(key, row)| before.get(*key) != Some(row)).map(|(k, r)| (k.clone(), r.clone())).collect();
            let gone: Vec<&Numbers> = before.iter().filter(|(key, row)| after.get(*key) != Some(row)).map(|(key, _)| key).collect();
            let keys: Vec<Vec<u8>> = gone.iter().map(|key| key_json(key)).collect();
            let rows = groups(&shape, CutRule { rows_target: 1 << 40 }, &changed);
            let has_deletes = gone.iter().any(|key| !after.contains_key(*key));
            let batch = store.begin(BatchMode::Durable).expect("a batch");
            let known = Changed { rows: &rows, gone: gone.len() as u64, keys: if has_deletes { &keys } else { &[] } };
            let spliced = splice(&batch, &store, (id, &manifest), known).expect("spliced");
            let unknown = Changed { keys: &[], ..known };
            let nothing = splice(&batch, &store, (id, &manifest), unknown).expect("spliced");
            let wrong = Changed { gone: gone.len() as u64 + 1, ..known };
            assert!(splice(&batch, &store, (id, &manifest), wrong).expect("spliced").is_none(), "round {round}: a row is missing");
            let ids = store.begin(BatchMode::IdsOnly).expect("a batch");
            let expected = whole(&ids, &shape, rule, &after);
            batch.finish().expect("stored");
            if changed.is_empty() && gone.is_empty() || before.is_empty() {
                assert!(spliced.is_none(), "round {round}");
            } else {
                assert!(
                    spliced.as_ref() == Some(&expected),
                    "round {round}: {} changed, {} gone of {}",
                    changed.len(),
                    gone.len(),
                    before.len()
                );
            }
            assert!(nothing.is_none() || !has_deletes && nothing.as_ref() == Some(&expected), "round {round}: who is gone is not known");
        }
    }
}
