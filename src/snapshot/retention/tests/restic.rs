//! The snapshots of restic's own tests of its policy, and what those expect (`internal/data/testdata/policy_keep_snapshots_*`).

use chrono::{DateTime, Utc};

use super::{Candidate, LATER, UTC, at, candidate, kept, policy};

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

/// Returns them, in no order.
pub(super) fn all() -> Vec<Candidate> {
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
    assert_eq!(kept(&all(), &policy(options), LATER, UTC), expected, "{options}");
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
    let kept = kept(&all(), &policy("tag foo tag bar"), LATER, UTC);
    assert_eq!(kept.len(), 19);
    assert_eq!(kept[..3], ["2015-10-22 10:20: has tags [foo], has tags [bar]"; 3].map(str::to_owned));
    assert_eq!(
        kept[3..6],
        ["2014-11-15 10:20: has tags [foo], has tags [bar]", "2014-11-13 10:20: has tags [bar]", "2014-11-13 10:20: has tags [foo]",]
    );
    assert_eq!(kept[18], "2014-10-01 10:20: has tags [foo]");
}
