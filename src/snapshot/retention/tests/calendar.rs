//! Retention and the calendar: ISO weeks, days on which clocks change, leap years, clocks that run backwards.

use chrono_tz::{America, Australia, Europe, Pacific, Tz};

use super::super::Decision;
use super::{Candidate, LATER, Span, UTC, at, candidates, check, check_in, decide, kept, policy, restic};

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
    let (mut forward, mut backward) = (restic::all(), restic::all());
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
