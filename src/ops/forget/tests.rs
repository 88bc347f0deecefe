//! What is planned, from made-up snapshots and operation logs.

use chrono::{DateTime, Utc};

use super::facts::protect;
use super::{About, Grouping, Item, Plan, Protection, plan, plan_named};
use crate::id::ObjectId;
use crate::ops::journal::{Author, Entry, Indexed, OperationKind, OperationResult, Phase};
use crate::snapshot::manifest::{SnapshotKind, SourceName};
use crate::snapshot::retention::{Count, Policy};

fn source(place: &str) -> SourceName {
    SourceName { engine: "sqlite".to_owned(), place: place.to_owned() }
}

fn id(number: u8) -> ObjectId {
    ObjectId([number; 32])
}

/// A good snapshot of noon on this day of May.
fn item(day: u8, place: &str, kind: SnapshotKind) -> Item {
    let time: DateTime<Utc> = format!("2026-05-{day:02}T12:00:00Z").parse().expect("a time");
    let about = About { source: source(place), kind, time, message: None };
    Item { id: id(day), about: Some(about), tags: Vec::new(), damage: None, protections: Vec::new() }
}

fn manual(days: std::ops::RangeInclusive<u8>) -> Vec<Item> {
    days.map(|day| item(day, "a", SnapshotKind::Manual)).collect()
}

fn entry(kind: OperationKind, phase: Phase, before: Option<u8>, after: Option<u8>) -> Entry {
    let by = Author::default();
    Entry { before: before.map(id), after: after.map(id), ..Entry::by(&by, source("a"), String::new(), kind, phase) }
}

fn log(entries: Vec<Entry>) -> Vec<Indexed> {
    (0..).zip(entries).map(|(index, entry)| (index, id(0), entry)).collect()
}

const BY_BOTH: Grouping = Grouping { source: true, kind: true };

fn last(count: u32) -> Policy {
    Policy { keep_last: Count::AtMost(count), ..Policy::default() }
}

fn planned(items: &[Item], policy: &Policy, by: Grouping) -> Plan {
    plan(items, policy, by, "2026-06-01T00:00:00Z".parse().expect("a time"), &Utc)
}

/// Checks which days go, newest first within their groups, and why those stay that the policy would not keep.
#[track_caller]
fn check(plan: &Plan, forgotten: &[u8], kept: &[(u8, &str)]) {
    assert_eq!(plan.forgotten().map(|item| item.id.0[0]).collect::<Vec<_>>(), forgotten);
    let reasons: Vec<(u8, String)> = plan.kept().map(|kept| (kept.item.id.0[0], kept.reasons.join(", "))).collect();
    let reasons: Vec<(u8, &str)> = reasons.iter().map(|(day, reasons)| (*day, reasons.as_str())).collect();
    assert_eq!(reasons, kept);
}

#[test]
fn each_database_and_kind_is_judged_by_itself_and_together_where_that_is_wanted() {
    let mut items = vec![
        item(1, "a", SnapshotKind::Manual),
        item(2, "b", SnapshotKind::Manual),
        item(3, "a", SnapshotKind::Pre),
        item(4, "a", SnapshotKind::Manual),
        item(5, "a", SnapshotKind::Pre),
        item(6, "b", SnapshotKind::Manual),
    ];
    protect(&mut items, &[].into(), &[]);
    let (last_one, last_head) = ("last snapshot", "last snapshot, HEAD");
    check(&planned(&items, &last(1), BY_BOTH), &[1, 2, 3], &[(4, last_one), (6, last_head), (5, last_head)]);
    check(&planned(&items, &last(1), Grouping { source: true, kind: false }), &[4, 3, 1, 2], &[(5, last_head), (6, last_head)]);
    check(&planned(&items, &last(1), Grouping { source: false, kind: true }), &[4, 2, 1, 3], &[(6, last_head), (5, last_head)]);
    check(&planned(&items, &last(1), Grouping { source: false, kind: false }), &[4, 3, 2, 1], &[(6, last_head), (5, "HEAD")]);
}

#[test]
fn what_an_unfinished_or_the_latest_migration_needs_stays() {
    use OperationKind::{Forget, Gc, Migrate, Rollback};
    let mut ended = entry(Migrate, Phase::End, Some(1), Some(2));
    (ended.begin, ended.result) = (Some(0), Some(OperationResult::Done));
    let mut items = manual(1..=8);
    let log = log(vec![
        entry(Migrate, Phase::Begin, Some(1), None),
        ended,
        entry(Rollback, Phase::Begin, Some(3), Some(4)),
        entry(Migrate, Phase::Begin, Some(5), None),
        // These need nothing.
        entry(Forget, Phase::Begin, Some(6), None),
        entry(Gc, Phase::Begin, Some(6), None),
    ]);
    protect(&mut items, &[].into(), &log);
    let kept = [
        (8, "last snapshot, HEAD"),
        (5, "needed by an unfinished migrate, pre of the latest migration, last state of the database"),
        (4, "needed by an unfinished rollback"),
        (3, "needed by an unfinished rollback"),
    ];
    check(&planned(&items, &last(1), BY_BOTH), &[7, 6, 2, 1], &kept);
    let refused = plan_named(&items, &[id(3), id(7)]).expect_err("needed");
    assert_eq!(
        refused.iter().map(|refusal| (refusal.id, refusal.why.as_str())).collect::<Vec<_>>(),
        [(id(3), "needed by an unfinished rollback")]
    );
    check(&plan_named(&items, &[id(7), id(2), id(8)]).expect("free to go"), &[8, 7, 2], &[]);
}

#[test]
fn the_newest_good_one_stays_where_the_newest_is_damaged_and_damage_uses_nothing_up() {
    let mut items = manual(1..=5);
    for day in [2, 5] {
        items[day - 1].damage = Some("object is missing".to_owned());
    }
    protect(&mut items, &[].into(), &[]);
    let plan = planned(&items, &last(1), BY_BOTH);
    check(&plan, &[3, 1], &[(4, "last snapshot, newest good snapshot")]);
    assert_eq!(plan.damaged.iter().map(|item| item.id).collect::<Vec<_>>(), [id(2), id(5)]);
    assert_eq!(items[4].protections, [Protection::Head]);
    // A policy that would keep none of them.
    let tagged = Policy { keep_tags: vec![crate::snapshot::retention::TagList::parse("x")], ..Policy::default() };
    check(&planned(&items, &tagged, BY_BOTH), &[3, 1], &[(4, "newest good snapshot")]);
}

#[test]
fn the_last_good_one_of_a_database_is_refused_by_name_and_damaged_ones_are_not() {
    let mut items = manual(1..=3);
    items.push(item(4, "b", SnapshotKind::Manual));
    items[2].damage = Some("object is missing".to_owned());
    items.push(Item { id: id(9), about: None, tags: Vec::new(), damage: Some("no JSON".to_owned()), protections: Vec::new() });
    protect(&mut items, &[].into(), &[]);
    let refused = |ids: &[u8]| {
        let ids: Vec<ObjectId> = ids.iter().copied().map(id).collect();
        plan_named(&items, &ids).err().map(|list| list.iter().map(|refusal| refusal.id.0[0]).collect::<Vec<_>>())
    };
    assert_eq!(refused(&[1]), None);
    assert_eq!(refused(&[2]), None);
    assert_eq!(refused(&[1, 2]), Some(vec![2]));
    assert_eq!(refused(&[1, 3, 9]), None);
    assert_eq!(refused(&[4]), Some(vec![4]));
    // What is not there is left out.
    assert_eq!(refused(&[77]), None);
}

#[test]
fn pins_hold_against_policy_and_name() {
    let mut items = manual(1..=3);
    protect(&mut items, &[id(1)].into(), &[]);
    check(&planned(&items, &last(1), BY_BOTH), &[2], &[(3, "last snapshot, HEAD"), (1, "pinned")]);
    let refused = plan_named(&items, &[id(1), id(2)]).expect_err("pinned");
    assert!(refused.len() == 1 && refused[0].is_pinned && refused[0].id == id(1));
}

#[test]
fn after_a_clock_was_set_back_what_was_taken_last_stays_too() {
    use OperationKind::{Restore, Snapshot};
    let mut items = manual(1..=4);
    let end = |kind, after| entry(kind, Phase::End, None, Some(after));
    // A snapshot of the 4th, then one of the 2nd; a copy made of an old one is no state of the database.
    protect(&mut items, &[].into(), &log(vec![end(Snapshot, 4), end(Snapshot, 2), end(Restore, 1)]));
    check(&planned(&items, &last(1), BY_BOTH), &[3, 1], &[(4, "last snapshot, HEAD"), (2, "last state of the database")]);
}

#[test]
fn a_group_of_which_nothing_would_stay_is_named() {
    let mut items = vec![item(1, "a", SnapshotKind::Post), item(2, "a", SnapshotKind::Manual)];
    items[1].tags = vec!["x".to_owned()];
    protect(&mut items, &[].into(), &[]);
    let tagged = Policy { keep_tags: vec![crate::snapshot::retention::TagList::parse("x")], ..Policy::default() };
    let emptied = |by| planned(&items, &tagged, by).emptied().map(|group| group.kind).collect::<Vec<_>>();
    assert_eq!(emptied(BY_BOTH), [Some(SnapshotKind::Post)]);
    assert_eq!(emptied(Grouping { source: true, kind: false }), []);
}
