//! Retention against restic's documentation; what options mean, and how they are read.

mod calendar;
mod restic;

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;

use super::{Candidate, Decision, Policy, Span, TagList, decide};
use crate::id::ObjectId;

const UTC: Tz = Tz::UTC;

fn at(text: &str) -> DateTime<Utc> {
    let text = if text.contains('T') { text.to_owned() } else { format!("{}Z", text.replace(' ', "T")) };
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Reads options as they stand on a command line, without `--keep-`: `last 5 within-daily 7d tag a,b`.
fn policy(text: &str) -> Policy {
    let mut policy = Policy::default();
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    for pair in words.chunks(2) {
        let [name, value] = pair else { panic!("{text}") };
        let count = || value.parse().expect(value);
        let span = || value.parse().expect(value);
        match *name {
            "last" => policy.keep_last = count(),
            "hourly" => policy.keep_hourly = count(),
            "daily" => policy.keep_daily = count(),
            "weekly" => policy.keep_weekly = count(),
            "monthly" => policy.keep_monthly = count(),
            "yearly" => policy.keep_yearly = count(),
            "within" => policy.keep_within = span(),
            "within-hourly" => policy.keep_within_hourly = span(),
            "within-daily" => policy.keep_within_daily = span(),
            "within-weekly" => policy.keep_within_weekly = span(),
            "within-monthly" => policy.keep_within_monthly = span(),
            "within-yearly" => policy.keep_within_yearly = span(),
            "tag" => policy.keep_tags.push(TagList::parse(value.trim_matches('\''))),
            _ => panic!("{name}"),
        }
    }
    policy
}

fn candidate(number: u16, time: DateTime<Utc>, tags: &[&str]) -> Candidate {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    Candidate { id: ObjectId(id), time, tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), protected: Vec::new() }
}

fn candidates(times: &[DateTime<Utc>]) -> Vec<Candidate> {
    (0..).zip(times).map(|(number, time)| candidate(number, *time, &[])).collect()
}

/// Judges, and writes down what is kept, newest first: the time in the zone, and why.
fn kept(candidates: &[Candidate], policy: &Policy, now: &str, zone: Tz) -> Vec<String> {
    let decisions = decide(candidates, policy, at(now), &zone);
    assert_eq!(decisions.len(), candidates.len());
    let time = |decision: &Decision| candidates.iter().find(|candidate| candidate.id == decision.id).expect("there").time;
    let line = |decision: &Decision| {
        let local = time(decision).with_timezone(&zone);
        format!("{}: {}", local.format("%Y-%m-%d %H:%M"), decision.reasons.join(", "))
    };
    decisions.iter().filter(|decision| decision.is_kept()).map(line).collect()
}

const LATER: &str = "2030-01-01 00:00:00";

/// Checks what is kept of snapshots at these times of a zone's clock.
#[track_caller]
fn check_in(zone: Tz, times: &[&str], options: &str, expected: &[&str]) {
    let times: Vec<DateTime<Utc>> = times
        .iter()
        .map(|time| match time.contains(['Z', '+']) {
            true => at(time),
            false => {
                let naive = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M").expect(time);
                zone.from_local_datetime(&naive).single().expect(time).to_utc()
            }
        })
        .collect();
    assert_eq!(kept(&candidates(&times), &policy(options), LATER, zone), expected, "{options}");
}

#[track_caller]
fn check(times: &[&str], options: &str, expected: &[&str]) {
    check_in(UTC, times, options, expected);
}

/// One snapshot a day at noon, so many, the last on this day.
fn daily(days: i64, last: NaiveDate) -> Vec<Candidate> {
    let noon = last.and_hms_opt(12, 0, 0).expect("noon").and_utc();
    candidates(&(0..days).rev().map(|ago| noon - Duration::days(ago)).collect::<Vec<_>>())
}

fn count(kept: &[String], reason: &str) -> usize {
    kept.iter().filter(|line| line.split_once(": ").is_some_and(|(_, reasons)| reasons.split(", ").any(|one| one == reason))).count()
}

// What restic's documentation says.

#[test]
fn of_twelve_sundays_keep_daily_4_keeps_the_last_four() {
    let first = at("2019-09-01 11:00:00");
    let sundays: Vec<DateTime<Utc>> = (0..12).map(|week| first + Duration::weeks(week)).collect();
    let expected = [
        "2019-11-17 11:00: daily snapshot",
        "2019-11-10 11:00: daily snapshot",
        "2019-11-03 11:00: daily snapshot",
        "2019-10-27 11:00: daily snapshot",
    ];
    assert_eq!(kept(&candidates(&sundays), &policy("daily 4"), LATER, UTC), expected);
}

#[test]
fn of_a_hundred_years_of_days_so_many_are_kept_as_the_documentation_says() {
    // The last day is a Thursday in the middle of month and year: no daily one is the last of its month but the newest.
    let all = daily(36_525, NaiveDate::from_ymd_opt(2026, 7, 16).expect("a day"));
    let kept = kept(&all, &policy("daily 7 weekly 5 monthly 12 yearly 75"), LATER, UTC);
    assert_eq!(count(&kept, "daily snapshot"), 7);
    assert_eq!(count(&kept, "weekly snapshot"), 5);
    assert_eq!(count(&kept, "monthly snapshot"), 12);
    assert_eq!(count(&kept, "yearly snapshot"), 75);
    // The newest is one of each. Of the other weeks' last days one is among the seven days. The last day of each December before the present
    // year is the last of its month too, but only one December is among the twelve months.
    let all_reasons = "2026-07-16 12:00: daily snapshot, weekly snapshot, monthly snapshot, yearly snapshot";
    assert_eq!(kept.first().map(String::as_str), Some(all_reasons));
    assert!(kept.contains(&"2026-07-12 12:00: daily snapshot, weekly snapshot".to_owned()), "{kept:#?}");
    assert!(kept.contains(&"2025-12-31 12:00: monthly snapshot, yearly snapshot".to_owned()), "{kept:#?}");
    assert_eq!(kept.len(), 7 + (5 - 2) + (12 - 1) + (75 - 2));
}

#[test]
fn spans_keep_days_weeks_months_and_years_of_irregular_snapshots() {
    let all = daily(3 * 366, NaiveDate::from_ymd_opt(2026, 7, 16).expect("a day"));
    let kept = kept(&all, &policy("within-daily 7d within-weekly 1m within-monthly 1y within-yearly 75y"), LATER, UTC);
    assert_eq!(count(&kept, "daily within 7d"), 7);
    // Weeks of 16 July, and those that end on 12 and 5 July, 28 and 21 June.
    assert_eq!(count(&kept, "weekly within 1m"), 5);
    assert_eq!(count(&kept, "monthly within 1y"), 13);
    assert_eq!(count(&kept, "yearly within 75y"), 4);
    assert_eq!(count(&kept, "oldest yearly within 75y"), 1);
}

#[test]
fn a_span_is_counted_from_the_newest_snapshot_and_not_from_now() {
    // "2y5m7d3h": all in the two years, five months, seven days and three hours before the latest.
    check(
        &["2016-08-09 08:59", "2016-08-09 09:00", "2016-08-09 09:01", "2017-01-01 00:00", "2019-01-16 12:00"],
        "within 2y5m7d3h",
        &["2019-01-16 12:00: within 2y5m7d3h", "2017-01-01 00:00: within 2y5m7d3h", "2016-08-09 09:01: within 2y5m7d3h"],
    );
}

#[test]
fn tags_of_one_list_must_all_be_there_and_of_several_lists_one() {
    let all = [
        candidate(0, at("2026-01-01 00:00:00"), &[]),
        candidate(1, at("2026-01-02 00:00:00"), &["foo"]),
        candidate(2, at("2026-01-03 00:00:00"), &["bar", "foo"]),
        candidate(3, at("2026-01-04 00:00:00"), &["bar"]),
        candidate(4, at("2026-01-05 00:00:00"), &["other"]),
    ];
    let check = |options: &str, expected: &[&str]| assert_eq!(kept(&all, &policy(options), LATER, UTC), expected, "{options}");
    check("tag foo", &["2026-01-03 00:00: has tags [foo]", "2026-01-02 00:00: has tags [foo]"]);
    check("tag foo,bar", &["2026-01-03 00:00: has tags [foo, bar]"]);
    check(
        "tag foo tag bar",
        &["2026-01-04 00:00: has tags [bar]", "2026-01-03 00:00: has tags [foo], has tags [bar]", "2026-01-02 00:00: has tags [foo]"],
    );
    check("tag ''", &["2026-01-01 00:00: has tags []"]);
    check("tag nonesuch", &[]);
    check("tag foo last 1", &["2026-01-05 00:00: last snapshot", "2026-01-03 00:00: has tags [foo]", "2026-01-02 00:00: has tags [foo]"]);
}

#[test]
fn the_oldest_is_kept_while_something_is_left_and_is_called_so() {
    let times = ["2026-03-01 10:10", "2026-03-01 10:40", "2026-03-02 09:00"];
    check(
        &times,
        "hourly 3",
        &["2026-03-02 09:00: hourly snapshot", "2026-03-01 10:40: hourly snapshot", "2026-03-01 10:10: oldest hourly snapshot"],
    );
    check(&times, "hourly 2", &["2026-03-02 09:00: hourly snapshot", "2026-03-01 10:40: hourly snapshot"]);
    check(
        &times,
        "within-daily 2d",
        &["2026-03-02 09:00: daily within 2d", "2026-03-01 10:40: daily within 2d", "2026-03-01 10:10: oldest daily within 2d"],
    );
    check(&times, "within-daily 22h", &["2026-03-02 09:00: daily within 22h"]);
    // One that is alone is the newest of its day, and no oldest.
    check(&["2026-03-01 10:10"], "daily 2 last 2", &["2026-03-01 10:10: last snapshot, daily snapshot"]);
}

#[test]
fn unlimited_is_all_of_its_kind_and_minus_one_is_the_same() {
    let times = ["2026-03-01 10:10", "2026-03-01 10:40", "2026-03-02 09:00", "2026-03-02 09:59"];
    for word in ["unlimited", "-1"] {
        check(
            &times,
            &format!("last {word}"),
            &[
                "2026-03-02 09:59: last snapshot",
                "2026-03-02 09:00: last snapshot",
                "2026-03-01 10:40: last snapshot",
                "2026-03-01 10:10: last snapshot",
            ],
        );
        check(
            &times,
            &format!("hourly {word}"),
            &["2026-03-02 09:59: hourly snapshot", "2026-03-01 10:40: hourly snapshot", "2026-03-01 10:10: oldest hourly snapshot"],
        );
    }
}

#[test]
fn a_policy_that_says_nothing_keeps_everything() {
    check(
        &["2026-03-01 10:10", "2026-03-02 09:00"],
        "last 0 within 0d",
        &["2026-03-02 09:00: policy is empty", "2026-03-01 10:10: policy is empty"],
    );
    assert!(policy("daily 0").is_empty() && !policy("tag ''").is_empty());
    assert_eq!(decide(&[], &policy("last 1"), at(LATER), &UTC), []);
}

#[test]
fn snapshots_of_the_future_are_not_measured_from_and_stay_within_every_span() {
    let times = ["2026-03-01 00:00", "2026-03-09 00:00", "2026-03-10 00:00", "2026-04-01 00:00"].map(|time| at(&format!("{time}:00")));
    let all = candidates(&times);
    let now = "2026-03-10 12:00:00";
    let expected = ["2026-04-01 00:00: within 3d", "2026-03-10 00:00: within 3d", "2026-03-09 00:00: within 3d"];
    assert_eq!(kept(&all, &policy("within 3d"), now, UTC), expected);
    assert_eq!(
        kept(&all, &policy("within-daily 1d"), now, UTC),
        ["2026-04-01 00:00: daily within 1d", "2026-03-10 00:00: daily within 1d"]
    );
    // Counts take them for what they say they are: the newest.
    assert_eq!(kept(&all, &policy("last 1"), now, UTC), ["2026-04-01 00:00: last snapshot"]);
    // With nothing but the future there is nothing to measure from, and nothing goes.
    assert_eq!(kept(&all, &policy("within 1h"), "2026-01-01 00:00:00", UTC).len(), 4);
}

/// Decides as the documentation puts it, without looking at restic's way to do it: for each option by itself, the newest of each part that has one.
#[test]
fn every_count_keeps_the_newest_of_so_many_parts() {
    let all = restic::all();
    let key = |calendar: &str, time: DateTime<Utc>| match calendar {
        "hourly" => time.format("%Y-%m-%d %H").to_string(),
        "daily" => time.format("%Y-%m-%d").to_string(),
        "weekly" => time.format("%G-%V").to_string(),
        "monthly" => time.format("%Y-%m").to_string(),
        _ => time.format("%Y").to_string(),
    };
    for calendar in ["hourly", "daily", "weekly", "monthly", "yearly"] {
        for count in [1, 2, 3, 7, 20, 60] {
            let mut parts: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
            for candidate in &all {
                let newest = parts.entry(key(calendar, candidate.time)).or_insert(candidate.time);
                *newest = candidate.time.max(*newest);
            }
            let mut expected: Vec<DateTime<Utc>> = parts.values().rev().take(count).copied().collect();
            let oldest = all.iter().map(|candidate| candidate.time).min().expect("some");
            if expected.len() < count && !expected.contains(&oldest) {
                expected.push(oldest);
            }
            let decisions = decide(&all, &policy(&format!("{calendar} {count}")), at(LATER), &UTC);
            let kept = decisions.iter().filter(|decision| decision.is_kept());
            let time = |decision: &Decision| all.iter().find(|candidate| candidate.id == decision.id).expect("there").time;
            assert_eq!(kept.map(time).collect::<Vec<_>>(), expected, "{calendar} {count}");
        }
    }
}

// Reading and writing.

#[test]
fn spans_are_read_and_written_as_restic_does() {
    for (text, written) in
        [("9h", "9h"), ("4d2h", "4d2h"), ("5d7m", "7m5d"), ("4h3d9m", "9m3d4h"), (" 2y5m7d3h ", "2y5m7d3h"), ("0d", ""), ("014d", "14d")]
    {
        assert_eq!(text.parse::<Span>().expect(text).to_string(), written);
    }
    for (text, part) in [
        ("2w", "7 days"),
        ("1y4m3w1d", "7 days"),
        ("s", "missing before `s`"),
        ("", "empty"),
        ("5", "`5` has no unit"),
        ("-7m5d", "missing"),
        ("1d2d", "twice"),
        ("9999999999d", "up to 99999"),
        ("5é", "`é` is no unit"),
        ("\u{7c0}d", "missing"),
        ("3D", "`D`"),
        ("1.5d", "`.`"),
    ] {
        let error = text.parse::<Span>().expect_err(text);
        assert!(error.contains(part) && error.ends_with("`2y5m7d3h`"), "{text}: {error}");
    }
}

#[test]
fn counts_are_numbers_or_unlimited() {
    for text in ["", "-2", "x", "1.5", "99999999999", "Unlimited", "+1"] {
        assert!(text.parse::<super::Count>().is_err(), "{text:?}");
    }
    assert_eq!("0".parse(), Ok(super::Count::default()));
    assert_eq!(super::Count::Unlimited.to_string().parse(), Ok(super::Count::Unlimited));
}

#[test]
fn a_policy_is_said_in_restics_words() {
    let check = |options: &str, expected: &str| assert_eq!(policy(options).to_string(), expected);
    check("last 3 daily 4", "keep 3 latest, 4 daily snapshots");
    check("yearly unlimited within-hourly 2d", "keep all yearly snapshots, hourly snapshots within 2d");
    check("tag a,b tag c within 1y", "keep all snapshots with tags [a, b] or [c] and all snapshots within 1y of the newest");
    check("", "keep everything");
    let json = serde_json::to_value(policy("last 3 weekly unlimited within 30d tag a,b")).expect("json");
    assert_eq!(json, serde_json::json!({ "keep_last": 3, "keep_weekly": "unlimited", "keep_within": "30d", "keep_tags": [["a", "b"]] }));
}
