//! Which row groups of two tables differ at all: both trees are walked from the top, and what both have is dropped, unread where that is possible.

use std::collections::HashMap;
use std::hash::Hash;

use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::{CompareError, Diff, Slot, Which};
use crate::id::ObjectId;
use crate::snapshot::chunks::{GROUP_ROWS_MAX, decode_node, read_node};
use crate::snapshot::cores::on_all_cores;
use crate::snapshot::manifest::{Group, Node};
use crate::snapshot::nodes::{GroupText, split_groups};

/// Bottom nodes that are looked at together.
enum Work {
    /// One of each side that stand at the same place, and so are likely to be alike.
    Both([ObjectId; 2]),
    /// One of a side.
    One(Which, ObjectId),
}

/// What a group means in a comparison: its rows, and for each pair of columns its chunk, or the text of its default.
type Meaning = (u64, Vec<Option<Result<ObjectId, String>>>);

impl Diff<'_> {
    /// Walks both trees from the top and drops what both have; returns the groups that remain.
    pub(super) fn differing_groups(&self) -> Result<(Vec<Group>, Vec<Group>), CompareError> {
        let objects = self.cache.objects;
        // A node means the same on both sides only where its slots do.
        let is_positional = self.columns.iter().all(|pair| match (pair.before, pair.after) {
            (Some(b), Some(a)) => a == b && self.before.columns[b].shape.default == self.after.columns[a].shape.default,
            (None, Some(a)) => a >= self.before.columns.len(),
            _ => true,
        });
        let mut nodes: [Vec<ObjectId>; 2] = [Vec::new(), Vec::new()];
        let sides = [self.before, self.after];
        for level in (1..=self.before.depth.max(self.after.depth)).rev() {
            for (side, nodes) in sides.iter().zip(&mut nodes) {
                if side.depth == level {
                    nodes.extend(side.root);
                }
            }
            if is_positional {
                let [before, after] = &mut nodes;
                drop_common(before, after, |id| *id);
            }
            if level == 1 {
                break;
            }
            for nodes in &mut nodes {
                let mut below = Vec::new();
                for id in std::mem::take(nodes) {
                    // What stands this high is never a list of groups.
                    if let Node::Nodes(children) = read_node(&id, level, objects)? {
                        below.extend(children.into_iter().map(|child| child.node));
                    }
                }
                *nodes = below;
            }
        }
        let [mut before, mut after] = self.groups_of(nodes, is_positional)?;
        let pairs: Vec<usize> = self.compared.iter().copied().chain(self.number).collect();
        self.drop_common_groups(&mut before, &mut after, &pairs);
        Ok((before, after))
    }

    /// Lists the groups of bottom nodes, in their order; where slots mean the same on both sides, without some that both have.
    fn groups_of(&self, [before, after]: [Vec<ObjectId>; 2], is_positional: bool) -> Result<[Vec<Group>; 2], CompareError> {
        let objects = self.cache.objects;
        let work: Vec<Work> = if is_positional && before.len() == after.len() {
            before.into_iter().zip(after).map(|(b, a)| Work::Both([b, a])).collect()
        } else {
            let before = before.into_iter().map(|id| Work::One(Which::Before, id));
            before.chain(after.into_iter().map(|id| Work::One(Which::After, id))).collect()
        };
        let found = on_all_cores(&work, || {
            |work: &Work| match work {
                Work::Both([b, a]) => {
                    let json = objects.read_pair([b, a]).map_err(CompareError::Read)?;
                    differing_in(&json).map_or_else(|| Ok([groups_in(b, &json[0])?, groups_in(a, &json[1])?]), Ok)
                }
                Work::One(which, id) => {
                    let groups = groups_in(id, &objects.read(id).map_err(CompareError::Read)?)?;
                    Ok(if *which == Which::Before { [groups, Vec::new()] } else { [Vec::new(), groups] })
                }
            }
        })?;
        Ok(found.into_iter().fold([Vec::new(), Vec::new()], |[mut before, mut after], [b, a]| {
            before.extend(b);
            after.extend(a);
            [before, after]
        }))
    }

    fn drop_common_groups(&self, before: &mut Vec<Group>, after: &mut Vec<Group>, pairs: &[usize]) {
        let meaning = |group: &Group, which: Which| -> Meaning {
            let slot = |pair: &usize| {
                self.slot(group, *pair, which).map(|slot| match slot {
                    Slot::Chunk(id) => Ok(id),
                    Slot::Default(json) => Err(json.to_owned()),
                })
            };
            (group.rows, pairs.iter().map(slot).collect())
        };
        let mut from: Vec<_> = before.drain(..).map(|group| (Some(meaning(&group, Which::Before)), group)).collect();
        let to = after.drain(..).map(|group| {
            let is_filled = self.added.iter().any(|&pair| self.is_filled(&group, pair));
            ((!is_filled).then(|| meaning(&group, Which::After)), group)
        });
        let mut to: Vec<_> = to.collect();
        drop_common(&mut from, &mut to, |(meaning, _)| meaning.clone());
        before.extend(from.into_iter().map(|(_, group)| group));
        after.extend(to.into_iter().map(|(_, group)| group));
    }
}

fn groups_in(id: &ObjectId, json: &[u8]) -> Result<Vec<Group>, CompareError> {
    match decode_node(id, json, 1)? {
        Node::Groups(groups) => Ok(groups),
        Node::Nodes(_) => Ok(Vec::new()),
    }
}

/// Decodes the groups of two bottom nodes that are not in both, byte by byte; none where one is to be decoded as a whole.
fn differing_in(nodes: &[Vec<u8>; 2]) -> Option<[Vec<Group>; 2]> {
    let (mut before, mut after) = (split_groups(&nodes[0])?, split_groups(&nodes[1])?);
    if before.len() == after.len() {
        // Nearly always equal groups stand at equal places.
        let is_same: Vec<bool> = before.iter().zip(&after).map(|(b, a)| b.text == a.text).collect();
        for side in [&mut before, &mut after] {
            let mut same = is_same.iter();
            side.retain(|_| !same.next().copied().unwrap_or(false));
        }
    }
    drop_common(&mut before, &mut after, |group| group.text);
    let decode = |groups: Vec<GroupText<'_>>| {
        let decoded = groups.iter().map(|group| group.decode().filter(|group| group.rows <= GROUP_ROWS_MAX));
        decoded.collect::<Option<Vec<Group>>>()
    };
    Some([decode(before)?, decode(after)?])
}

/// Removes from both lists what both have, as often as both have it.
fn drop_common<T, K: Hash + Eq>(before: &mut Vec<T>, after: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let keys: [Vec<K>; 2] = [before.iter().map(&key).collect(), after.iter().map(&key).collect()];
    let mut counts: HashMap<&K, (u32, u32), Xxh3DefaultBuilder> = HashMap::default();
    for key in &keys[0] {
        counts.entry(key).or_default().0 += 1;
    }
    for key in &keys[1] {
        counts.entry(key).or_default().1 += 1;
    }
    for (from, to) in counts.values_mut() {
        let common = (*from).min(*to);
        (*from, *to) = (common, common);
    }
    let mut is_kept = |key: &K, side: fn(&mut (u32, u32)) -> &mut u32| {
        counts.get_mut(key).is_none_or(|left| {
            let left = side(left);
            let is_kept = *left == 0;
            *left = left.saturating_sub(1);
            is_kept
        })
    };
    let kept: [Vec<bool>; 2] = [
        keys[0].iter().map(|key| is_kept(key, |(from, _)| from)).collect(),
        keys[1].iter().map(|key| is_kept(key, |(_, to)| to)).collect(),
    ];
    drop(keys);
    for (side, kept) in [before, after].into_iter().zip(kept) {
        let mut kept = kept.into_iter();
        side.retain(|_| kept.next().unwrap_or(true));
    }
}
