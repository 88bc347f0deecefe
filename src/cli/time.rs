//! Times, ages, durations, sizes and counts as people read them. Machines get RFC 3339 and plain numbers.

use chrono::{DateTime, Local, TimeZone, Utc};
pub use dbelay::render::text::{duration, number};

/// Renders a time in the local zone: `2026-11-21 14:03:11`.
pub fn stamp(time: DateTime<Utc>) -> String {
    stamp_in(time, &Local)
}

fn stamp_in<Z: TimeZone<Offset: std::fmt::Display>>(time: DateTime<Utc>, zone: &Z) -> String {
    time.with_timezone(zone).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Renders an RFC 3339 stamp in the local zone; what is none stays as it is.
pub fn stamp_text(rfc3339: &str) -> String {
    DateTime::parse_from_rfc3339(rfc3339).map_or_else(|_| rfc3339.to_owned(), |time| stamp(time.to_utc()))
}

/// Renders how long ago a time is: `3 minutes ago`; `in the future` for what clocks that disagree may bring.
pub fn age(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - time).num_seconds();
    let Ok(seconds) = u64::try_from(seconds) else {
        return if seconds > -5 { "just now".into() } else { "in the future".into() };
    };
    const UNITS: [(u64, &str); 6] =
        [(31_557_600, "year"), (2_629_800, "month"), (604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute")];
    match UNITS.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => format!("{} ago", counted(seconds / length, unit)),
        None if seconds < 5 => "just now".into(),
        None => format!("{} ago", counted(seconds, "second")),
    }
}

/// Renders a size: `17 B`, `1.2 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be printed as 1024.0 is one of the next unit.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Renders a number of things, in English: `1 row`, `1,204 rows`, `2 entries`.
pub fn counted(count: u64, thing: &str) -> String {
    match (count, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{} {stem}ies", number(count)),
        _ => format!("{} {thing}s", number(count)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn stamps_are_in_the_zone_of_the_reader() {
        let zone = chrono::FixedOffset::east_opt(2 * 3600).expect("an offset");
        assert_eq!(stamp_in(at("2026-11-21T12:03:11.9Z"), &zone), "2026-11-21 14:03:11");
        assert_eq!(stamp_text("not a time"), "not a time");
    }

    #[test]
    fn ages() {
        let check = |then: &str, expected: &str| assert_eq!(age(at(then), at("2026-11-21T12:00:00Z")), expected, "{then}");
        check("2026-11-21T11:59:58Z", "just now");
        check("2026-11-21T12:00:02Z", "just now");
        check("2026-11-21T13:00:00Z", "in the future");
        check("2026-11-21T11:59:30Z", "30 seconds ago");
        check("2026-11-21T11:59:00Z", "1 minute ago");
        check("2026-11-21T09:01:00Z", "2 hours ago");
        check("2026-11-20T11:00:00Z", "1 day ago");
        check("2026-11-07T11:00:00Z", "2 weeks ago");
        check("2024-11-01T00:00:00Z", "2 years ago");
    }

    #[test]
    fn sizes_and_counts() {
        let check = |size, expected: &str| assert_eq!(bytes(size), expected);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1024 * 1024 - 1, "1.0 MiB");
        check(1_258_291, "1.2 MiB");
        check(u64::MAX, "16.0 EiB");
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1204, "row"), "1,204 rows");
        assert_eq!(counted(0, "entry"), "0 entries");
    }
}
