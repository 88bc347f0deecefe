//! One table of a snapshot: its manifest, its tree, its chunks, and what the manifest says of all of them together.

use std::collections::HashSet;
use std::rc::Rc;

use super::{Bad, Inspection, Look, Loss};
use crate::id::ObjectId;
use crate::snapshot::build;
use crate::snapshot::manifest::{Group, Node, TableManifest};
use crate::value::Value;

/// What was found in a table.
#[derive(Debug, Default)]
pub(super) struct TableFound {
    /// Its manifest, if that can be read.
    pub manifest: Option<TableManifest>,
    /// What is missing or wrong; the table's name is left out, since several may share a manifest's objects.
    pub losses: Vec<Loss>,
    /// All objects that are missing.
    pub lost: HashSet<ObjectId>,
    /// The first keys of its row groups, where everything was read.
    pub firsts: Vec<String>,
}

impl TableFound {
    /// Adds a loss; one that goes on where another of the same column ended is told with it.
    fn lose(&mut self, column: Option<&str>, rows: Option<(u64, u64)>, bad: &Bad) {
        self.lost.insert(bad.object);
        let last = self.losses.iter_mut().rev().find(|loss| loss.column.as_deref() == column && loss.object.is_some());
        if let (Some(last), Some((first, count))) = (last, rows)
            && let (Some(last_first), Some(last_count)) = (last.first_row, last.rows)
            && last_first.saturating_add(last_count) == first + 1
        {
            last.rows = Some(last_count.saturating_add(count));
            return;
        }
        self.losses.push(Loss {
            table: None,
            column: column.map(str::to_owned),
            first_row: rows.map(|(first, _)| first.saturating_add(1)),
            rows: rows.map(|(_, count)| count),
            object: Some(bad.object),
            what: bad.what.to_string(),
        });
    }

    fn wrong(&mut self, column: Option<&str>, what: String) {
        self.losses.push(Loss { table: None, column: column.map(str::to_owned), first_row: None, rows: None, object: None, what });
    }
}

impl Inspection<'_> {
    /// Looks at a table by its manifest's id.
    pub(super) fn table(&mut self, id: ObjectId) -> Rc<TableFound> {
        if let Some(known) = self.tables.get(&id) {
            return Rc::clone(known);
        }
        let mut found = TableFound::default();
        match self.decode::<TableManifest>(id) {
            Err(bad) => found.lose(None, None, &bad),
            Ok(manifest) if !manifest.is_consistent() => {
                found.wrong(None, format!("manifest {id}: its columns and keys do not fit together"))
            }
            Ok(manifest) => {
                self.look_at(id, &manifest, &mut found);
                found.manifest = Some(manifest);
            }
        }
        let found = Rc::new(found);
        self.tables.insert(id, Rc::clone(&found));
        found
    }

    fn look_at(&mut self, id: ObjectId, manifest: &TableManifest, found: &mut TableFound) {
        match (manifest.root, manifest.depth) {
            (None, 0) if manifest.rows == 0 => {}
            (Some(_), 1..) => {}
            _ => return found.wrong(None, format!("manifest {id} has no root for its depth {}", manifest.depth)),
        }
        let leaves = self.leaves(id, manifest, found);
        if self.look == Look::Structure {
            return;
        }
        let is_whole = found.losses.is_empty();
        let groups = || leaves.iter().flat_map(|(_, node)| if let Node::Groups(groups) = &**node { groups.as_slice() } else { &[] });
        let mut bytes: u64 = 0;
        for (first, node) in &leaves {
            let Node::Groups(groups) = &**node else { continue };
            let mut row = *first;
            for group in groups {
                bytes = bytes.saturating_add(self.group(manifest, group, row, found));
                row = row.saturating_add(group.rows);
            }
        }
        let mut names = HashSet::new();
        for (at, column) in manifest.columns.iter().enumerate() {
            let name = column.shape.name.as_str();
            if !names.insert(name) {
                found.wrong(Some(name), format!("manifest {id} has this column twice"));
            }
            if !Value::decode(column.shape.default.as_bytes()).is_ok_and(|value| value.to_json() == column.shape.default) {
                found.wrong(Some(name), format!("manifest {id}: its default `{}` is no value", column.shape.default));
            }
            if is_whole && build::digest(at, &column.shape.default, groups()) != column.digest {
                found.wrong(Some(name), format!("manifest {id}: its digest is not that of its chunks"));
            }
        }
        if manifest.cut.rows_target == 0 {
            found.wrong(None, format!("manifest {id} was cut by no rule"));
        }
        if found.losses.is_empty() && bytes != manifest.bytes {
            found.wrong(None, format!("manifest {id} says {} bytes, its chunks have {bytes}", manifest.bytes));
        }
        found.firsts = groups().map(|group| group.first.clone()).collect();
    }

    /// Reads the nodes of a tree down to those that list row groups; returns these, each with the number of rows before it.
    fn leaves(&mut self, id: ObjectId, manifest: &TableManifest, found: &mut TableFound) -> Vec<(u64, Rc<Node>)> {
        let mut leaves = Vec::new();
        let mut level: Vec<(ObjectId, u64, u64)> = manifest.root.into_iter().map(|root| (root, 0, manifest.rows)).collect();
        for depth in (1..=manifest.depth).rev() {
            let mut below = Vec::new();
            for (node_id, first, told) in level {
                if self.look == Look::Structure && depth == 1 && self.whole.contains(&node_id) {
                    continue;
                }
                let node = match self.node(node_id, depth) {
                    Ok(node) => node,
                    Err(bad) => {
                        found.lose(None, Some((first, told)), &bad);
                        continue;
                    }
                };
                let mut rows: u64 = 0;
                match &*node {
                    Node::Groups(groups) => {
                        let lost = found.lost.len();
                        for group in groups {
                            if self.look == Look::Structure {
                                self.presence(manifest, group, first.saturating_add(rows), found);
                            }
                            rows = rows.saturating_add(group.rows);
                        }
                        if self.look == Look::Structure && lost == found.lost.len() && rows == told {
                            self.whole.insert(node_id);
                        }
                        leaves.push((first, Rc::clone(&node)));
                    }
                    Node::Nodes(children) => {
                        for child in children {
                            below.push((child.node, first.saturating_add(rows), child.rows));
                            rows = rows.saturating_add(child.rows);
                        }
                    }
                }
                if rows != told {
                    let parent = if Some(node_id) == manifest.root { format!("manifest {id}") } else { "its parent".to_owned() };
                    found.wrong(None, format!("node {node_id} has {rows} rows, {parent} says {told}"));
                }
            }
            level = below;
            if level.is_empty() {
                break;
            }
        }
        leaves
    }

    /// Looks whether a group's chunks are there.
    fn presence(&self, manifest: &TableManifest, group: &Group, row: u64, found: &mut TableFound) {
        for (at, chunk) in group.columns.iter().enumerate() {
            let Some(chunk) = chunk else { continue };
            if !self.store.contains(chunk) {
                found.lose(name(manifest, at), Some((row, group.rows)), &super::missing(*chunk));
            }
        }
    }

    /// Looks at a group's chunks; returns the bytes of its JSON.
    fn group(&mut self, manifest: &TableManifest, group: &Group, row: u64, found: &mut TableFound) -> u64 {
        if group.rows == 0 {
            found.wrong(None, format!("the group at row {} has no rows", row.saturating_add(1)));
        }
        if group.columns.len() > manifest.columns.len() {
            found.wrong(None, format!("the group at row {} has more columns than the table", row.saturating_add(1)));
        }
        if group.columns.last().is_some_and(Option::is_none) {
            found.wrong(None, format!("the group at row {} ends in a slot that it must leave out", row.saturating_add(1)));
        }
        let mut bytes: u64 = 0;
        let mut is_whole = true;
        for (at, column) in manifest.columns.iter().enumerate() {
            let Some(chunk) = group.chunk(at) else {
                // Brackets, values, and the commas between them.
                let default = column.shape.default.len() as u64;
                bytes = bytes.saturating_add(group.rows.saturating_mul(default.saturating_add(1)).saturating_add(1));
                continue;
            };
            match self.chunk(chunk) {
                Ok(facts) if facts.cells == group.rows => bytes = bytes.saturating_add(facts.bytes),
                Ok(facts) => {
                    let what = format!("chunk {chunk} has {} cells, its group {} rows", facts.cells, group.rows);
                    found.lose(name(manifest, at), Some((row, group.rows)), &super::bad(chunk, what));
                    is_whole = false;
                }
                Err(bad) => {
                    found.lose(name(manifest, at), Some((row, group.rows)), &bad);
                    is_whole = false;
                }
            }
        }
        if is_whole {
            let key: Option<Vec<String>> = manifest.identity.iter().map(|&at| self.first_of(manifest, group, at)).collect();
            if key.is_none_or(|key| key.join(",") != group.first) {
                found.wrong(None, format!("the group at row {} does not begin with the key that its node says", row.saturating_add(1)));
            }
        }
        bytes
    }

    /// Returns a column's value in the first row of a group.
    fn first_of(&mut self, manifest: &TableManifest, group: &Group, at: usize) -> Option<String> {
        match group.chunk(at) {
            Some(chunk) => self.first_cell(chunk),
            None => manifest.columns.get(at).map(|column| column.shape.default.clone()),
        }
    }
}

fn name(manifest: &TableManifest, at: usize) -> Option<&str> {
    manifest.columns.get(at).map(|column| column.shape.name.as_str())
}
