//! Forgetting snapshots, by a policy or by name: what goes and what stays is planned first, from facts alone, and then done.
//!
//! # What is never forgotten
//! - What is pinned. What an unfinished operation began from or was to lead to. The state before the latest migration of each database.
//! - By a policy: the newest snapshot of each database (`HEAD`), and the state that its last operation left, where a clock that was set back gave
//!   another a later time; the newest good one, should `HEAD` not be good; whatever is damaged, which does not use up what the policy keeps either.
//! - By name: the last good snapshot of a database.
//!
//! A snapshot is good if and only if its file, its schema and its tables' manifests can be read. Tags alone protect nothing, as in restic; a plan
//! names those that go.
//!
//! # Order
//! The caller holds the project lock from before the facts are looked up until the end. The operation log says which snapshots go and why before
//! the first of them does, and which went afterwards. Of each its tags go first, then its file. Interrupted anywhere, what was not reached yet
//! is there as it was, and the next forgetting settles the log. Objects stay where they are: freeing their space is another matter.

mod facts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use serde::{Serialize, Serializer};

pub use facts::look;

use super::OpError;
use super::journal::{self, Author, Entry, Forgotten, Indexed, OperationKind, OperationResult, Phase};
use crate::id::ObjectId;
use crate::snapshot::manifest::{SnapshotKind, SourceName};
use crate::snapshot::retention::{self, Candidate, Policy};
use crate::store::Store;

/// A snapshot, as far as forgetting is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its id.
    pub id: ObjectId,
    /// What its file says; none where that cannot be read.
    #[serde(flatten)]
    pub about: Option<About>,
    /// The tags that name it.
    pub tags: Vec<String>,
    /// What is wrong with it; none if it is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Why it must not go, whatever a policy says.
    #[serde(skip)]
    pub protections: Vec<Protection>,
}

/// What a snapshot's file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// Its database.
    pub source: SourceName,
    /// Why it was taken.
    pub kind: SnapshotKind,
    /// When.
    #[serde(serialize_with = "stamp")]
    pub time: DateTime<Utc>,
    /// What its maker said.
    pub message: Option<String>,
}

fn stamp<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Why a snapshot must not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Somebody pinned it.
    Pinned,
    /// An operation that was left open needs it.
    Unfinished(OperationKind),
    /// It is the state before the latest migration of its database.
    LatestPre,
    /// It is the newest of its database. Does not hold against its name.
    Head,
    /// It is the state that the last operation left, though another has a later time. Does not hold against its name.
    LastState,
    /// It is the newest good one of its database, which is not the newest. Does not hold against its name unless it is the last.
    NewestGood,
}

impl Protection {
    /// Tells whether it holds also where the snapshot is named.
    fn holds_against_name(self) -> bool {
        matches!(self, Self::Pinned | Self::Unfinished(_) | Self::LatestPre)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned => f.write_str("pinned"),
            Self::Unfinished(kind) => write!(f, "needed by an unfinished {}", kind.word()),
            Self::LatestPre => f.write_str("pre of the latest migration"),
            Self::Head => f.write_str("HEAD"),
            Self::LastState => f.write_str("last state of the database"),
            Self::NewestGood => f.write_str("newest good snapshot"),
        }
    }
}

/// By what snapshots are put into groups, each of which the policy is applied to by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// By database.
    pub source: bool,
    /// By why they were taken.
    pub kind: bool,
}

/// A snapshot that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Which.
    #[serde(flatten)]
    pub item: Item,
    /// Why, the policy's reasons first.
    pub reasons: Vec<String>,
}

/// What becomes of the snapshots of a group, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Their database, if they are grouped by that.
    pub source: Option<SourceName>,
    /// Why they were taken, if they are grouped by that.
    pub kind: Option<SnapshotKind>,
    /// Those that stay.
    pub keep: Vec<Kept>,
    /// Those that go.
    pub forget: Vec<Item>,
}

/// What is to be forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Why, in words.
    pub why: String,
    /// The groups, in the order of their oldest snapshots.
    pub groups: Vec<Group>,
    /// What is damaged, and so neither judged nor forgotten by a policy.
    pub damaged: Vec<Item>,
}

impl Plan {
    /// Returns all that goes.
    pub fn forgotten(&self) -> impl Iterator<Item = &Item> {
        self.groups.iter().flat_map(|group| &group.forget)
    }

    /// Returns all that stays, but for what is damaged.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.groups.iter().flat_map(|group| &group.keep)
    }

    /// Returns the groups of which nothing would stay. restic refuses to go on then, and so should a caller: it is seldom meant.
    pub fn emptied(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.keep.is_empty())
    }
}

/// Plans what a policy forgets of these snapshots, which are given oldest first. Pure.
pub fn plan<Z: TimeZone>(items: &[Item], policy: &Policy, by: Grouping, now: DateTime<Utc>, zone: &Z) -> Plan {
    let mut plan = Plan { why: policy.to_string(), ..Plan::default() };
    let mut groups: Vec<(Group, Vec<(&Item, Candidate)>)> = Vec::new();
    for item in items {
        let (Some(about), None) = (&item.about, &item.damage) else {
            plan.damaged.push(item.clone());
            continue;
        };
        let source = by.source.then(|| about.source.clone());
        let kind = by.kind.then_some(about.kind);
        let protected = item.protections.iter().map(Protection::to_string).collect();
        let candidate = Candidate { id: item.id, time: about.time, tags: item.tags.clone(), protected };
        match groups.iter_mut().find(|(group, _)| group.source == source && group.kind == kind) {
            Some((_, members)) => members.push((item, candidate)),
            None => groups.push((Group { source, kind, ..Group::default() }, vec![(item, candidate)])),
        }
    }
    for (mut group, members) in groups {
        let candidates: Vec<Candidate> = members.iter().map(|(_, candidate)| candidate.clone()).collect();
        let items: BTreeMap<ObjectId, &Item> = members.iter().map(|(item, _)| (item.id, *item)).collect();
        for decision in retention::decide(&candidates, policy, now, zone) {
            let Some(item) = items.get(&decision.id).copied().cloned() else { continue };
            match decision.is_kept() {
                true => group.keep.push(Kept { item, reasons: decision.reasons }),
                false => group.forget.push(item),
            }
        }
        plan.groups.push(group);
    }
    plan
}

/// Why a snapshot that was named cannot be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub id: ObjectId,
    /// Why not: what it is.
    pub why: String,
    /// Whether it is its pin alone.
    pub is_pinned: bool,
}

/// Plans to forget the snapshots of these ids, or says which of them must stay. Pure; ids that are not there are left out.
///
/// # Errors
/// All refusals; then nothing is to be forgotten.
pub fn plan_named(items: &[Item], ids: &[ObjectId]) -> Result<Plan, Vec<Refusal>> {
    let is_named = |item: &&Item| ids.contains(&item.id);
    let mut refusals = Vec::new();
    for item in items.iter().filter(is_named) {
        let held: Vec<Protection> = item.protections.iter().copied().filter(|protection| protection.holds_against_name()).collect();
        if !held.is_empty() {
            let why = held.iter().map(Protection::to_string).collect::<Vec<_>>().join(", ");
            refusals.push(Refusal { id: item.id, why, is_pinned: held == [Protection::Pinned] });
        } else if is_last_good(items, item, ids) {
            refusals.push(Refusal { id: item.id, why: "the last good snapshot of its database".to_owned(), is_pinned: false });
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let forget: Vec<Item> = items.iter().rev().filter(is_named).cloned().collect();
    Ok(Plan { why: "named".to_owned(), groups: vec![Group { forget, ..Group::default() }], damaged: Vec::new() })
}

/// Tells whether a snapshot is the newest good one of its database, and no other good one would stay.
fn is_last_good(items: &[Item], item: &Item, going: &[ObjectId]) -> bool {
    let Some(about) = item.about.as_ref().filter(|_| item.damage.is_none()) else { return false };
    let of_same = |other: &&Item| other.damage.is_none() && other.about.as_ref().is_some_and(|other| other.source == about.source);
    let mut good = items.iter().filter(of_same);
    good.clone().all(|other| going.contains(&other.id)) && good.next_back().is_some_and(|newest| newest.id == item.id)
}

/// Who forgets, and when.
pub struct Acting<'a> {
    /// Who.
    pub author: Author,
    /// The clock.
    pub now: &'a dyn Fn() -> DateTime<Utc>,
    /// The database that stands in the operation log for snapshots that do not say any more of which they are.
    pub fallback: Option<SourceName>,
}

impl Acting<'_> {
    fn entry(&self, source: SourceName, phase: Phase) -> Entry {
        Entry::by(&self.author, source, (self.now)().to_rfc3339_opts(SecondsFormat::Millis, true), OperationKind::Forget, phase)
    }
}

/// Forgets what a plan says. The caller holds the project lock, and has held it since before it looked up the facts. Tells of each that is gone.
///
/// # Errors
/// The store's. What was told of is gone then, the rest is there; trying again goes on.
pub fn execute(store: &Store, plan: &Plan, acting: &Acting<'_>, gone: &mut dyn FnMut(&ObjectId)) -> Result<(), OpError> {
    settle(store, &journal::read(store)?, acting)?;
    let mut open: Vec<(u64, Entry)> = Vec::new();
    for (source, forgotten) in by_source(plan, acting) {
        let begin = Entry { forgotten, note: Some(plan.why.clone()), ..acting.entry(source, Phase::Begin) };
        open.push((journal::write(store, &begin)?, begin));
    }
    let ids: Vec<ObjectId> = plan.forgotten().map(|item| item.id).collect();
    let mut went = HashSet::new();
    let deleted = store.delete_snapshots(&ids, &mut |id| {
        went.insert(*id);
        gone(id);
    });
    let result = if deleted.is_ok() { OperationResult::Done } else { OperationResult::Failed };
    for (index, begin) in open {
        let written = end(store, acting, index, &begin, result, |id| went.contains(id));
        // Why they could not be deleted says more than that the log could not be written either.
        if deleted.is_ok() {
            written?;
        }
    }
    Ok(deleted?)
}

/// Writes the ends of forgettings that were interrupted.
fn settle(store: &Store, log: &[Indexed], acting: &Acting<'_>) -> Result<(), OpError> {
    for (index, _, begin) in journal::open(log).into_iter().filter(|(_, _, entry)| entry.kind == OperationKind::Forget) {
        end(store, acting, *index, begin, OperationResult::Abandoned, |id| !store.has_snapshot(id))?;
    }
    Ok(())
}

fn end(
    store: &Store,
    acting: &Acting<'_>,
    index: u64,
    begin: &Entry,
    result: OperationResult,
    is_gone: impl Fn(&ObjectId) -> bool,
) -> Result<(), OpError> {
    let forgotten = begin.forgotten.iter().filter(|forgotten| is_gone(&forgotten.id)).cloned().collect();
    let end = acting.entry(begin.source.clone(), Phase::End);
    journal::write(store, &Entry { begin: Some(index), result: Some(result), forgotten, note: begin.note.clone(), ..end })?;
    Ok(())
}

/// Sorts what goes by the database in whose name the operation log tells of it.
fn by_source(plan: &Plan, acting: &Acting<'_>) -> Vec<(SourceName, Vec<Forgotten>)> {
    let mut found: Vec<(SourceName, Vec<Forgotten>)> = Vec::new();
    for item in plan.forgotten() {
        let known = item.about.as_ref().map(|about| about.source.clone()).or_else(|| acting.fallback.clone());
        let source = known.unwrap_or_else(|| SourceName { engine: "unknown".to_owned(), place: String::new() });
        let time = item.about.as_ref().map(|about| about.time.to_rfc3339_opts(SecondsFormat::Millis, true));
        let forgotten = Forgotten { id: item.id, time, tags: item.tags.clone() };
        match found.iter_mut().find(|(other, _)| *other == source) {
            Some((_, list)) => list.push(forgotten),
            None => found.push((source, vec![forgotten])),
        }
    }
    found
}
