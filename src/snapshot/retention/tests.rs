//! Retention against restic's documentation and the results of its own tests, and against the calendar.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, NaiveDate, TimeZone, Utc};
use chrono_tz::{America, Australia, Europe, Pacific, Tz};

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

// What restic's own tests of its policy expect (`internal/data/testdata/policy_keep_snapshots_*`), of the same snapshots.

/// The days of months on which those snapshots were taken, at 10:20:30.
const DAYS: &[(&str, &[u32])] = &[
    ("2014-08", &[8, 10, 12, 13, 15, 18, 20, 21, 22]),
    ("2014-09", &[1, 2, 5, 6, 8, 9, 10, 11, 20, 22]),
    ("2014-10", &[1, 2, 5, 6, 8, 9, 10, 11, 20, 22]),
    ("2014-11", &[8, 10, 12, 13, 15, 18, 20, 21, 22]),
    ("2015-08", &[8, 10, 12, 13, 15, 18, 20, 21, 22]),
    ("2015-09", &[1, 2, 5, 6, 8, 9, 10, 11, 20, 22]),
    ("2015-10", &[1, 2, 5, 6, 8, 9, 10, 11, 20, 22]),
    ("2015-11", &[8, 10, 12, 13, 15, 18, 20, 21, 22]),
];

/// Those of January 2016.
const JANUARY: [&str; 19] = [
    "01 01:02:03",
    "01 01:03:03",
    "01 07:08:03",
    "03 07:02:03",
    "04 10:23:03",
    "04 11:23:03",
    "04 12:23:03",
    "04 12:24:03",
    "04 12:28:03",
    "04 12:30:03",
    "04 16:23:03",
    "05 09:02:03",
    "06 08:02:03",
    "07 10:02:03",
    "08 20:02:03",
    "09 21:02:03",
    "12 21:02:03",
    "12 21:08:03",
    "18 12:02:03",
];

fn restics() -> Vec<Candidate> {
    let mut all: Vec<(DateTime<Utc>, &[&str])> = Vec::new();
    for (month, days) in DAYS {
        for day in *days {
            let tags: &[&str] = match (*month, *day) {
                ("2014-10", _) | ("2014-11", ..=13) => &["foo"],
                ("2014-11", 15) => &["foo", "bar"],
                _ => &[],
            };
            let time = format!("{month}-{day:02} 10:20:30");
            all.push((at(&time), tags));
            if *day == 13 {
                all.push((at(&format!("{time}.1")), if *month == "2014-11" { &["bar"] } else { &[] }));
            }
        }
    }
    // Of one moment there were five.
    all.push((at("2015-10-22 10:20:30"), &[]));
    all.extend([(at("2015-10-22 10:20:30"), &["foo", "bar"] as &[&str]); 3]);
    all.extend(JANUARY.map(|time| (at(&format!("2016-01-{time}")), &[] as &[&str])));
    assert_eq!(all.len(), 103);
    (0..).zip(all).map(|(number, (time, tags))| candidate(number, time, tags)).collect()
}

#[track_caller]
fn check_restics(options: &str, expected: &[(&str, &str)]) {
    let expected: Vec<String> = expected.iter().map(|(time, reasons)| format!("{time}: {reasons}")).collect();
    assert_eq!(kept(&restics(), &policy(options), LATER, UTC), expected, "{options}");
}

#[test]
fn restics_own_cases_with_counts() {
    let (d, dw, m, my, y) =
        ("daily snapshot", "daily snapshot, weekly snapshot", "monthly snapshot", "monthly snapshot, yearly snapshot", "yearly snapshot");
    check_restics(
        "yearly 10",
        &[("2016-01-18 12:02", y), ("2015-11-22 10:20", y), ("2014-11-22 10:20", y), ("2014-08-08 10:20", "oldest yearly snapshot")],
    );
    check_restics(
        "daily 2 weekly 2 monthly 6",
        &[
            ("2016-01-18 12:02", "daily snapshot, weekly snapshot, monthly snapshot"),
            ("2016-01-12 21:08", dw),
            ("2015-11-22 10:20", m),
            ("2015-10-22 10:20", m),
            ("2015-09-22 10:20", m),
            ("2015-08-22 10:20", m),
            ("2014-11-22 10:20", m),
        ],
    );
    check_restics(
        "daily 7 weekly 2 monthly 3 yearly 10",
        &[
            ("2016-01-18 12:02", "daily snapshot, weekly snapshot, monthly snapshot, yearly snapshot"),
            ("2016-01-12 21:08", dw),
            ("2016-01-09 21:02", d),
            ("2016-01-08 20:02", d),
            ("2016-01-07 10:02", d),
            ("2016-01-06 08:02", d),
            ("2016-01-05 09:02", d),
            ("2015-11-22 10:20", my),
            ("2015-10-22 10:20", m),
            ("2014-11-22 10:20", y),
            ("2014-08-08 10:20", "oldest yearly snapshot"),
        ],
    );
    check_restics(
        "daily 3 weekly 2 monthly unlimited yearly unlimited",
        &[
            ("2016-01-18 12:02", "daily snapshot, weekly snapshot, monthly snapshot, yearly snapshot"),
            ("2016-01-12 21:08", dw),
            ("2016-01-09 21:02", d),
            ("2015-11-22 10:20", my),
            ("2015-10-22 10:20", m),
            ("2015-09-22 10:20", m),
            ("2015-08-22 10:20", m),
            ("2014-11-22 10:20", my),
            ("2014-10-22 10:20", m),
            ("2014-09-22 10:20", m),
            ("2014-08-22 10:20", m),
            ("2014-08-08 10:20", "oldest monthly snapshot, oldest yearly snapshot"),
        ],
    );
}

#[test]
fn restics_own_cases_with_spans() {
    let all = "within 1h, hourly within 1d, daily within 7d, weekly within 1m, monthly within 1y, yearly within 9999y";
    check_restics(
        "within 1h within-hourly 1d within-daily 7d within-weekly 1m within-monthly 1y within-yearly 9999y",
        &[
            ("2016-01-18 12:02", all),
            ("2016-01-12 21:08", "daily within 7d, weekly within 1m"),
            ("2016-01-09 21:02", "weekly within 1m"),
            ("2016-01-03 07:02", "weekly within 1m"),
            ("2015-11-22 10:20", "monthly within 1y, yearly within 9999y"),
            ("2015-10-22 10:20", "monthly within 1y"),
            ("2015-09-22 10:20", "monthly within 1y"),
            ("2015-08-22 10:20", "monthly within 1y"),
            ("2014-11-22 10:20", "yearly within 9999y"),
            ("2014-08-08 10:20", "oldest yearly within 9999y"),
        ],
    );
    let same = |times: &'static [&'static str], reason: &'static str| times.iter().map(move |time| (*time, reason)).collect::<Vec<_>>();
    let months = ["2016-01-18 12:02", "2015-11-22 10:20", "2015-10-22 10:20", "2015-09-22 10:20", "2015-08-22 10:20", "2014-11-22 10:20"];
    check_restics("within-monthly 1y2m3d3h", &months.map(|time| (time, "monthly within 1y2m3d3h")));
    const WEEKS: &[&str] = &[
        "2016-01-18 12:02",
        "2016-01-12 21:08",
        "2016-01-09 21:02",
        "2016-01-03 07:02",
        "2015-11-22 10:20",
        "2015-11-15 10:20",
        "2015-11-08 10:20",
        "2015-10-22 10:20",
        "2015-10-11 10:20",
        "2015-10-02 10:20",
        "2015-09-22 10:20",
        "2015-09-20 10:20",
        "2015-09-11 10:20",
        "2015-09-06 10:20",
        "2015-08-22 10:20",
        "2015-08-15 10:20",
        "2015-08-08 10:20",
        "2014-11-22 10:20",
        "2014-11-15 10:20",
    ];
    check_restics("within-weekly 1y2m3d3h", &same(WEEKS, "weekly within 1y2m3d3h"));
}

#[test]
fn restics_own_cases_with_tags() {
    let kept = kept(&restics(), &policy("tag foo tag bar"), LATER, UTC);
    assert_eq!(kept.len(), 19);
    assert_eq!(kept[..3], ["2015-10-22 10:20: has tags [foo], has tags [bar]"; 3].map(str::to_owned));
    assert_eq!(
        kept[3..6],
        ["2014-11-15 10:20: has tags [foo], has tags [bar]", "2014-11-13 10:20: has tags [bar]", "2014-11-13 10:20: has tags [foo]",]
    );
    assert_eq!(kept[18], "2014-10-01 10:20: has tags [foo]");
}

// The calendar.

#[test]
fn weeks_are_those_of_iso_8601_around_new_year() {
    // 2020 has 53 weeks: Friday 1 January 2021 still is of the last.
    check(
        &["2020-12-27 12:00", "2020-12-28 12:00", "2020-12-31 12:00", "2021-01-01 12:00", "2021-01-03 12:00", "2021-01-04 12:00"],
        "weekly 9",
        &["2021-01-04 12:00: weekly snapshot", "2021-01-03 12:00: weekly snapshot", "2020-12-27 12:00: weekly snapshot"],
    );
    // Monday 30 December 2024 is of the first week of 2025.
    check(
        &["2024-12-29 23:59", "2024-12-30 00:00", "2025-01-05 23:59", "2025-01-06 00:00"],
        "weekly 9",
        &["2025-01-06 00:00: weekly snapshot", "2025-01-05 23:59: weekly snapshot", "2024-12-29 23:59: weekly snapshot"],
    );
    // The first and the last week of a year have the same days of the year's end in them, and are not one.
    check(
        &["2018-01-01 12:00", "2018-12-30 12:00", "2018-12-31 12:00"],
        "weekly 9",
        &["2018-12-31 12:00: weekly snapshot", "2018-12-30 12:00: weekly snapshot", "2018-01-01 12:00: weekly snapshot"],
    );
    // A year's last days may be in the next year's week, but are of their own month and year.
    check(
        &["2024-12-31 12:00", "2025-01-01 12:00"],
        "monthly 9 yearly 9",
        &["2025-01-01 12:00: monthly snapshot, yearly snapshot", "2024-12-31 12:00: monthly snapshot, yearly snapshot"],
    );
}

#[test]
fn a_week_begins_on_monday_of_the_reader() {
    // Sunday evening in New York is Monday in UTC.
    let times = ["2026-06-14T03:30:00Z", "2026-06-15T03:30:00Z", "2026-06-15T12:00:00Z"];
    check_in(
        America::New_York,
        &times,
        "weekly 9",
        &["2026-06-15 08:00: weekly snapshot", "2026-06-14 23:30: weekly snapshot", "2026-06-13 23:30: oldest weekly snapshot"],
    );
    check(&times, "weekly 9", &["2026-06-15 12:00: weekly snapshot", "2026-06-14 03:30: weekly snapshot"]);
}

#[test]
fn the_hour_that_comes_twice_is_one_and_the_one_left_out_is_none() {
    // Berlin, 25 October 2026: 03:00 becomes 02:00. One snapshot each half hour from 00:30 UTC on.
    let autumn = [
        "2026-10-24T23:30:00Z",
        "2026-10-25T00:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T02:00:00Z",
    ];
    check_in(
        Europe::Berlin,
        &autumn,
        "hourly 24",
        &["2026-10-25 03:00: hourly snapshot", "2026-10-25 02:30: hourly snapshot", "2026-10-25 01:30: hourly snapshot"],
    );
    // Berlin, 29 March 2026: 02:00 becomes 03:00.
    let spring = ["2026-03-29T00:30:00Z", "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:59:00Z", "2026-03-29T02:00:00Z"];
    check_in(
        Europe::Berlin,
        &spring,
        "hourly 24",
        &[
            "2026-03-29 04:00: hourly snapshot",
            "2026-03-29 03:59: hourly snapshot",
            "2026-03-29 01:59: hourly snapshot",
            "2026-03-29 01:30: oldest hourly snapshot",
        ],
    );
    // New York, 1 November 2026: 02:00 becomes 01:00; 8 March: 02:00 becomes 03:00.
    let autumn = ["2026-11-01T04:30:00Z", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-01T07:30:00Z"];
    check_in(
        America::New_York,
        &autumn,
        "hourly 24",
        &["2026-11-01 02:30: hourly snapshot", "2026-11-01 01:30: hourly snapshot", "2026-11-01 00:30: hourly snapshot"],
    );
    let spring = ["2026-03-08T06:59:00Z", "2026-03-08T07:00:00Z"];
    check_in(America::New_York, &spring, "hourly 24", &["2026-03-08 03:00: hourly snapshot", "2026-03-08 01:59: hourly snapshot"]);
    // Lord Howe's clocks go back by half an hour.
    let autumn = ["2026-04-04T14:20:00Z", "2026-04-04T14:50:00Z", "2026-04-04T15:10:00Z", "2026-04-04T15:40:00Z"];
    check_in(
        Australia::Lord_Howe,
        &autumn,
        "hourly 24",
        &["2026-04-05 02:10: hourly snapshot", "2026-04-05 01:40: hourly snapshot", "2026-04-05 01:20: oldest hourly snapshot"],
    );
}

#[test]
fn days_of_23_and_25_hours_are_days() {
    let times = ["2026-03-28 23:30", "2026-03-29 00:30", "2026-03-29 23:30", "2026-03-30 00:30"];
    check_in(
        Europe::Berlin,
        &times,
        "daily 9",
        &["2026-03-30 00:30: daily snapshot", "2026-03-29 23:30: daily snapshot", "2026-03-28 23:30: daily snapshot"],
    );
    let times = ["2026-10-24 23:30", "2026-10-25 00:30", "2026-10-25 23:30", "2026-10-26 00:30"];
    check_in(
        Europe::Berlin,
        &times,
        "daily 9",
        &["2026-10-26 00:30: daily snapshot", "2026-10-25 23:30: daily snapshot", "2026-10-24 23:30: daily snapshot"],
    );
}

#[test]
fn a_day_back_is_a_day_of_the_calendar_and_24_hours_are_hours() {
    // The day between has 23 hours.
    let times = ["2026-03-28 11:30", "2026-03-28 12:30", "2026-03-29 12:00"];
    check_in(Europe::Berlin, &times, "within 1d", &["2026-03-29 12:00: within 1d", "2026-03-28 12:30: within 1d"]);
    check_in(
        Europe::Berlin,
        &times,
        "within 24h",
        &["2026-03-29 12:00: within 24h", "2026-03-28 12:30: within 24h", "2026-03-28 11:30: within 24h"],
    );
}

#[test]
fn spans_end_where_the_calendar_says() {
    let check = |zone: Tz, span: &str, time: &str, expected: &str| {
        let span: Span = span.parse().expect(span);
        assert_eq!(span.before(at(time), &zone), at(expected), "{span} before {time}");
    };
    check(UTC, "1m", "2026-03-31 10:00:00", "2026-03-03 10:00:00");
    check(UTC, "1m", "2024-03-31 10:00:00", "2024-03-02 10:00:00");
    check(UTC, "1y", "2024-02-29 10:00:00", "2023-03-01 10:00:00");
    check(UTC, "4y", "2024-02-29 10:00:00", "2020-02-29 10:00:00");
    check(UTC, "4y", "1904-02-29 10:00:00", "1900-03-01 10:00:00");
    check(UTC, "1d", "2024-03-01 10:00:00", "2024-02-29 10:00:00");
    check(UTC, "1d", "2026-03-01 10:00:00", "2026-02-28 10:00:00");
    check(UTC, "14m", "2026-01-15 10:00:00", "2024-11-15 10:00:00");
    check(UTC, "1y2m3d3h", "2016-01-18 12:02:03", "2014-11-15 09:02:03");
    // What clocks left out, and what they showed twice: the earlier.
    check(Europe::Berlin, "1d", "2026-03-30T00:30:00Z", "2026-03-29T00:30:00Z");
    check(Europe::Berlin, "1d", "2026-10-26T01:30:00Z", "2026-10-25T00:30:00Z");
    // Samoa left out a whole day.
    check(Pacific::Apia, "1d", "2011-12-30T22:00:00Z", "2011-12-29T22:00:00Z");
    check(UTC, "99999y", "2026-01-01 00:00:00", "-97973-01-01T00:00:00Z");
}

#[test]
fn the_29th_of_february_is_a_day_a_month_and_a_year_like_others() {
    let times = ["2024-02-28 12:00", "2024-02-29 12:00", "2024-03-01 12:00"];
    check(&times, "daily 9", &["2024-03-01 12:00: daily snapshot", "2024-02-29 12:00: daily snapshot", "2024-02-28 12:00: daily snapshot"]);
    check(
        &times,
        "monthly 9",
        &["2024-03-01 12:00: monthly snapshot", "2024-02-29 12:00: monthly snapshot", "2024-02-28 12:00: oldest monthly snapshot"],
    );
    check(&["2023-02-28 12:00", "2023-03-01 12:00", "2024-02-29 12:00"], "within 1y", &["2024-02-29 12:00: within 1y"]);
    // The 60th day is another one in a leap year; that makes no two days one.
    check(&["2023-03-01 12:00", "2024-02-29 12:00"], "daily 9", &["2024-02-29 12:00: daily snapshot", "2023-03-01 12:00: daily snapshot"]);
}

#[test]
fn a_clock_that_ran_backwards_changes_the_order_and_nothing_else() {
    // Taken in this order; after the second the clock was set back by two days.
    let times = ["2026-05-10 10:00", "2026-05-10 12:00", "2026-05-08 12:30", "2026-05-08 13:00"];
    check(&times, "last 2", &["2026-05-10 12:00: last snapshot", "2026-05-10 10:00: last snapshot"]);
    check(&times, "daily 2", &["2026-05-10 12:00: daily snapshot", "2026-05-08 13:00: daily snapshot"]);
    check(&times, "within 5h", &["2026-05-10 12:00: within 5h", "2026-05-10 10:00: within 5h"]);
    // Whatever the order in which they are given.
    let (mut forward, mut backward) = (restics(), restics());
    backward.reverse();
    forward.sort_by_key(|candidate| candidate.time);
    for options in ["last 10", "hourly 20", "daily 30 weekly 4", "within 2m2h", "within-weekly 1y yearly 3"] {
        let times = |all: &[Candidate]| kept(all, &policy(options), LATER, UTC);
        assert_eq!(times(&forward), times(&backward), "{options}");
    }
}

#[test]
fn of_equal_times_the_one_given_later_is_the_newer() {
    let all = candidates(&[at("2026-05-10 10:00:00"); 3]);
    let kept = |options: &str| -> Vec<(u8, Vec<String>)> {
        let decisions = decide(&all, &policy(options), at(LATER), &UTC);
        decisions.into_iter().filter(Decision::is_kept).map(|decision| (decision.id.0[1], decision.reasons)).collect()
    };
    assert_eq!(kept("last 1"), [(2, vec!["last snapshot".to_owned()])]);
    assert_eq!(kept("daily 1"), [(2, vec!["daily snapshot".to_owned()])]);
    assert_eq!(kept("daily 2"), [(2, vec!["daily snapshot".to_owned()]), (0, vec!["oldest daily snapshot".to_owned()])]);
    assert_eq!(kept("within 1h").len(), 3);
}

#[test]
fn what_is_protected_stays_and_takes_its_place_all_the_same() {
    let mut all = candidates(&["2026-05-01 10:00:00", "2026-05-01 11:00:00", "2026-05-02 10:00:00"].map(at));
    all[0].protected = vec!["pinned".to_owned()];
    all[1].protected = vec!["HEAD".to_owned(), "pinned".to_owned()];
    let expected = ["2026-05-02 10:00: daily snapshot", "2026-05-01 11:00: daily snapshot, HEAD, pinned", "2026-05-01 10:00: pinned"];
    assert_eq!(kept(&all, &policy("daily 2"), LATER, UTC), expected);
}

/// Decides as the documentation puts it, without looking at restic's way to do it: for each option by itself, the newest of each part that has one.
#[test]
fn every_count_keeps_the_newest_of_so_many_parts() {
    let all = restics();
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
