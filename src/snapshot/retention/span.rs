//! Spans of time as retention counts them: years, months, days and hours, written `2y5m7d3h`.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, Duration, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest number in a span: longer than any store is old.
const NUMBER_MAX: u32 = 99_999;

/// A span of time in the calendar's own measures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days of the calendar, whatever summer time makes of their length.
    pub days: u32,
    /// Hours of 60 minutes.
    pub hours: u32,
}

impl Span {
    /// Tells whether it has no length.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the time that is so long before another, by the calendar of a zone: first years, months and days, then hours.
    ///
    /// A day that its month does not have counts on into the next month (a month before 31 March is 3 March, or 2 March in a leap year),
    /// as Go's calendar has it, and so restic. Of two times with the same reading, and of a reading that clocks left out, the earlier is meant:
    /// that keeps more. What lies before all time is its beginning.
    pub fn before<Z: TimeZone>(&self, time: DateTime<Utc>, zone: &Z) -> DateTime<Utc> {
        self.date_before(time.with_timezone(zone).naive_local())
            .and_then(|local| in_zone(local, zone).checked_sub_signed(Duration::hours(i64::from(self.hours))))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    fn date_before(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let months = i64::from(local.year()) * 12 + i64::from(local.month0()) - i64::from(self.years) * 12 - i64::from(self.months);
        let year = i32::try_from(months.div_euclid(12)).ok()?;
        let first = NaiveDate::from_ymd_opt(year, u32::try_from(months.rem_euclid(12)).ok()? + 1, 1)?;
        let day = first.checked_add_days(Days::new(u64::from(local.day0())))?.checked_sub_days(Days::new(u64::from(self.days)))?;
        Some(day.and_time(local.time()))
    }
}

/// Puts a wall clock's reading into a zone; see [`Span::before`].
fn in_zone<Z: TimeZone>(local: NaiveDateTime, zone: &Z) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => time.to_utc(),
        MappedLocalTime::None => {
            // No zone changes its clocks twice in two days, so a day later the clocks go as they do after the change.
            let later = local.checked_add_signed(Duration::days(1)).unwrap_or(local);
            let offset = zone.offset_from_utc_datetime(&later).fix();
            let utc = local.checked_sub_offset(offset).unwrap_or(local);
            utc.and_utc()
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(number, _)| *number > 0).try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

impl FromStr for Span {
    type Err = String;

    /// Reads numbers with a unit each: `2y5m7d3h`, in any order.
    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write years, months, days and hours, as in `2y5m7d3h`";
        let mut span = Self::default();
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(format!("it is empty; {hint}"));
        }
        let mut said = Vec::new();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| format!("`{rest}` has no unit; {hint}"))?;
            let (number, tail) = rest.split_at(digits);
            let number: u32 = match number.parse() {
                Ok(number) if number <= NUMBER_MAX => number,
                _ => return Err(format!("a number up to {NUMBER_MAX} is missing before `{tail}`; {hint}")),
            };
            let unit = tail.chars().next().unwrap_or_default();
            let part = match unit {
                'y' => &mut span.years,
                'm' => &mut span.months,
                'd' => &mut span.days,
                'h' => &mut span.hours,
                'w' => return Err(format!("weeks are not known, 7 days are one; {hint}")),
                _ => return Err(format!("`{unit}` is no unit; {hint}")),
            };
            if said.contains(&unit) {
                return Err(format!("`{unit}` stands there twice; {hint}"));
            }
            said.push(unit);
            *part = number;
            rest = tail.get(unit.len_utf8()..).unwrap_or_default();
        }
        Ok(span)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
