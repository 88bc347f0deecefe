//! Reading again the row groups of which an engine says that they are not what they were.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Found, OpError, Reading, Remembered, Sibling, lock, side_by_side};
use crate::engine::{EngineError, ReadTransaction};
use crate::rows::{CutRule, RowGroup, TableShape};
use crate::snapshot::build::{self, StoredGroup};
use crate::snapshot::chunks::{column_json, row_groups};
use crate::snapshot::manifest::Group;
use crate::snapshot::regroup::{Before, Recut, edit_group, regroup};
use crate::snapshot::splice::SpliceError;
use crate::store::StoreError;

/// How many groups around its own a group's like is looked for among.
const LIKE_DISTANCE: usize = 4;

/// A table of which it is known what changed.
pub(super) struct Stale<'m> {
    table: usize,
    before: Remembered<'m>,
    again: Vec<usize>,
}

/// Finds what changed of a table; none where nobody can tell.
pub(super) fn find<'m>(
    transaction: &mut dyn ReadTransaction,
    table: usize,
    shape: &TableShape,
    before: Remembered<'m>,
) -> Result<Option<Stale<'m>>, OpError> {
    let rows: Vec<u64> = before.facts.iter().map(|facts| facts.rows).collect();
    let again = transaction.stale(shape, &before.id.to_string(), &rows)?;
    Ok(again.map(|again| Stale { table, before, again }))
}

/// What is read again.
pub(super) struct Again<'a, 'm> {
    pub reading: &'a Reading<'a>,
    pub rules: &'a [CutRule],
    pub tables: Vec<Stale<'m>>,
}

/// A group that is read again.
struct Job<'j> {
    stale: &'j Stale<'j>,
    groups: &'j [Group],
    from: usize,
}

impl Again<'_, '_> {
    /// Reads what changed; returns the tables that are known by it. Others are to be read whole.
    pub fn run(self, transaction: &mut dyn ReadTransaction, siblings: &mut [Sibling]) -> Result<Vec<(usize, Found)>, OpError> {
        let mut found = Vec::new();
        let mut open: Vec<(&Stale<'_>, Vec<Group>)> = Vec::new();
        for stale in &self.tables {
            let Remembered { id, manifest, facts } = stale.before;
            if stale.again.is_empty() && manifest.shape() == self.reading.shapes[stale.table] {
                self.reading.progress.advance(manifest.rows);
                found.push((stale.table, Found { id, manifest: manifest.clone(), facts: Some(facts.to_vec()) }));
                continue;
            }
            // What cannot be read of an earlier state only costs time.
            let Ok(groups) = row_groups(manifest, self.reading.store) else { continue };
            open.push((stale, groups));
        }
        let mut jobs = Vec::new();
        for (stale, groups) in &open {
            jobs.extend(stale.again.iter().map(|from| Job { stale, groups, from: *from }));
        }
        let recuts = self.read(transaction, siblings, &jobs)?;
        for ((stale, groups), recuts) in open.iter().zip(Self::by_table(&open, recuts)) {
            let Some(recuts) = recuts else { continue };
            let Remembered { id, manifest, facts } = stale.before;
            let before = Before { id, manifest, groups, facts };
            match regroup(self.reading.batch, self.reading.store, before, &self.reading.shapes[stale.table], recuts) {
                Ok(Some(after)) => found.push((stale.table, Found { id: after.id, manifest: after.manifest, facts: Some(after.facts) })),
                Ok(None) | Err(SpliceError::Compare(_)) => {}
                Err(SpliceError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// Sorts what was read by table; none for a table of which something was void.
    fn by_table(open: &[(&Stale<'_>, Vec<Group>)], recuts: Vec<(usize, Option<Recut>)>) -> Vec<Option<Vec<Recut>>> {
        let mut sorted: Vec<Option<Vec<Recut>>> = open.iter().map(|_| Some(Vec::new())).collect();
        for (table, recut) in recuts {
            let Some(at) = open.iter().position(|(stale, _)| stale.table == table) else { continue };
            match (recut, &mut sorted[at]) {
                (Some(recut), Some(recuts)) => recuts.push(recut),
                (None, recuts) => *recuts = None,
                (Some(_), None) => {}
            }
        }
        sorted
    }

    /// Reads groups on all cores; each is hashed and compressed by who read it.
    fn read(
        &self,
        transaction: &mut dyn ReadTransaction,
        siblings: &mut [Sibling],
        jobs: &[Job<'_>],
    ) -> Result<Vec<(usize, Option<Recut>)>, OpError> {
        let done = Mutex::new(Vec::with_capacity(jobs.len()));
        let next = AtomicUsize::new(0);
        side_by_side(transaction, siblings, &|transaction| {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let recut = self.read_one(transaction, job)?;
                lock(&done).push((job.stale.table, recut));
            }
            Ok(())
        })?;
        Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads only those columns of a group that have other values; none where it is to be read whole.
    fn edit(&self, transaction: &mut dyn ReadTransaction, job: &Job<'_>) -> Result<Option<StoredGroup>, OpError> {
        let Job { stale, groups, from } = *job;
        let Reading { store, batch, shapes, .. } = *self.reading;
        let (Some(group), Some(facts)) = (groups.get(from), stale.before.facts.get(from)) else { return Ok(None) };
        let (manifest, shape) = (stale.before.manifest, &shapes[stale.table]);
        if manifest.columns.len() != shape.columns.len() {
            return Ok(None);
        }
        // What cannot be read of an earlier state only costs time.
        let mut then = |group: usize, column: usize| column_json(manifest, groups.get(group)?, column, store).ok();
        match transaction.read_edited(shape, from, &mut then)? {
            Some(edited) => Ok(edit_group(batch, (group, *facts), &edited)?),
            None => Ok(None),
        }
    }

    fn read_one(&self, transaction: &mut dyn ReadTransaction, job: &Job<'_>) -> Result<Option<Recut>, OpError> {
        let Job { stale, groups: before, from } = *job;
        match self.edit(transaction, job) {
            Ok(Some(edited)) => return Ok(Some(Recut { from, until: from + 1, groups: vec![edited] })),
            Ok(None) => {}
            Err(OpError::Engine(EngineError::Void(_))) => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut groups: Vec<StoredGroup> = Vec::new();
        let mut failed: Option<StoreError> = None;
        let mut take = |group: RowGroup| {
            let like = like(before, from + groups.len(), &group.first_key);
            match build::store_group_like(self.reading.batch, group, &|column| like.and_then(|group| group.chunk(column))) {
                Ok(stored) => {
                    groups.push(stored);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let until = transaction.read_stale(&self.reading.shapes[stale.table], self.rules[stale.table], from, &mut take);
        if let Some(error) = failed {
            return Err(error.into());
        }
        match until {
            Ok(until) => Ok(Some(Recut { from, until, groups })),
            Err(EngineError::Void(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the group of before that begins as one does now, near where it would stand; else the one that stood there.
fn like<'g>(groups: &'g [Group], at: usize, first: &str) -> Option<&'g Group> {
    let near = at.saturating_sub(LIKE_DISTANCE)..(at + LIKE_DISTANCE + 1).min(groups.len());
    groups.get(near).and_then(|near| near.iter().find(|group| group.first == first)).or_else(|| groups.get(at))
}
