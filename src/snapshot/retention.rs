//! Retention: which snapshots a policy keeps, and why. A pure function of snapshots, policy, time and time zone.
//!
//! The semantics are those of restic's `forget`, taken from its documentation ("Removing backup snapshots") and from what its policy does
//! (`internal/data/snapshot_policy.go`), reasons included word for word, so that who knows the one knows the other:
//!
//! - Snapshots are looked at newest first. One is kept if any option keeps it; it has every reason that holds.
//! - `keep-last` keeps so many. `keep-hourly`, `-daily`, `-weekly`, `-monthly`, `-yearly` keep the newest of each hour, day, ISO week, month or
//!   year that has one, so many of them. Hours and days without a snapshot do not count.
//! - The oldest snapshot of all is kept too by an option of which something is left when it is reached: `oldest daily snapshot`.
//! - `keep-within` keeps what is younger than a span, counted back from the newest snapshot that is not in the future; what is in the future is
//!   younger than everything. `keep-within-hourly` and so on keep the newest of each hour and so on within their span, and the oldest
//!   of all if it is in there.
//! - `keep-tag` keeps what has all the tags of one list. The list with an empty tag means what has no tag.
//! - A policy that says nothing keeps everything.
//!
//! # What the calendar means
//! Hours, days, weeks, months and years are those of the given zone's wall clock. An hour that a clock shows twice when summer time ends is one
//! hour, one that it leaves out has no snapshots. Weeks begin on Monday and belong to the year of their Thursday (ISO 8601). restic reads each
//! time in the zone in which it was taken; here all are stored in UTC, and read in the zone of who asks.
//!
//! A clock that was set back leaves snapshots with later times than those taken after them. Times alone count here; what must be kept however
//! they lie is for the caller to protect.

mod span;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, TimeZone, Timelike, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use span::Span;

use crate::id::ObjectId;

/// How many an option keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// At most so many; 0 is as good as not said.
    AtMost(u32),
    /// All.
    Unlimited,
}

impl Default for Count {
    fn default() -> Self {
        Self::AtMost(0)
    }
}

impl Count {
    fn is_left(self) -> bool {
        self != Self::AtMost(0)
    }

    fn is_zero(&self) -> bool {
        !self.is_left()
    }

    fn take_one(&mut self) {
        if let Self::AtMost(left) = self {
            *left = left.saturating_sub(1);
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(count) => write!(f, "{count}"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl FromStr for Count {
    type Err = String;

    /// Reads a number, `unlimited`, or `-1`, which means the same.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" | "-1" => Ok(Self::Unlimited),
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map(Self::AtMost).map_err(|_| UNCOUNTABLE.to_owned()),
            _ => Err(UNCOUNTABLE.to_owned()),
        }
    }
}

const UNCOUNTABLE: &str = "write a number of snapshots, or `unlimited`";

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AtMost(count) => serializer.serialize_u32(*count),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer).map_err(|_| D::Error::custom(UNCOUNTABLE))? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}

/// Tags that a snapshot must all have. An empty one means that it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TagList(pub Vec<String>);

impl TagList {
    /// Reads tags with commas between them.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').map(|tag| tag.trim().to_owned()).collect())
    }

    /// Tells whether a snapshot with these tags has them all.
    pub fn is_met_by(&self, tags: &[String]) -> bool {
        for tag in &self.0 {
            if tag.is_empty() && tags.is_empty() {
                return true;
            }
            if !tags.contains(tag) {
                return false;
            }
        }
        true
    }
}

impl fmt::Display for TagList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0.join(", "))
    }
}

impl<'de> Deserialize<'de> for TagList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

/// What to keep. Read from `[retention]` with kebab-case keys, written with snake_case ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "snake_case", deserialize = "kebab-case"), deny_unknown_fields, default)]
pub struct Policy {
    /// The newest.
    #[serde(skip_serializing_if = "Count::is_zero")]
    pub keep_last: Count,
    /// The newest of each hour.
    #[serde(skip_serializing_if = "Count::is_zero")]
    pub keep_hourly: Count,
    /// The newest of each day.
    #[serde(skip_serializing_if = "Count::is_zero")]
    pub keep_daily: Count,
    /// The newest of each week.
    #[serde(skip_serializing_if = "Count::is_zero")]
    pub keep_weekly: Count,
    /// The newest of each month.
    #[serde(skip_serializing_if = "Count::is_zero")]
    pub keep_monthly: Count,
    /// The newest of each year.
    #[serde(skip_serializing_if = "Count::is_zero")]
    pub keep_yearly: Count,
    /// All that is younger.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub keep_within: Span,
    /// Of what is younger, the newest of each hour.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub keep_within_hourly: Span,
    /// Of what is younger, the newest of each day.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub keep_within_daily: Span,
    /// Of what is younger, the newest of each week.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub keep_within_weekly: Span,
    /// Of what is younger, the newest of each month.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub keep_within_monthly: Span,
    /// Of what is younger, the newest of each year.
    #[serde(skip_serializing_if = "Span::is_zero")]
    pub keep_within_yearly: Span,
    /// All that has all the tags of one of these lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_tags: Vec<TagList>,
}

impl Policy {
    /// Tells whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.counts().iter().all(|(count, _)| !count.is_left())
            && self.keep_within.is_zero()
            && self.spans().iter().all(|(span, _)| span.is_zero())
            && self.keep_tags.is_empty()
    }

    fn counts(&self) -> [(Count, Calendar); 6] {
        [
            (self.keep_last, Calendar::Each),
            (self.keep_hourly, Calendar::Hour),
            (self.keep_daily, Calendar::Day),
            (self.keep_weekly, Calendar::Week),
            (self.keep_monthly, Calendar::Month),
            (self.keep_yearly, Calendar::Year),
        ]
    }

    fn spans(&self) -> [(Span, Calendar); 5] {
        [
            (self.keep_within_hourly, Calendar::Hour),
            (self.keep_within_daily, Calendar::Day),
            (self.keep_within_weekly, Calendar::Week),
            (self.keep_within_monthly, Calendar::Month),
            (self.keep_within_yearly, Calendar::Year),
        ]
    }
}

/// Says what is kept, in restic's words.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counted = Vec::new();
        for (count, calendar) in self.counts().into_iter().filter(|(count, _)| count.is_left()) {
            let word = if calendar == Calendar::Each { "latest" } else { calendar.word() };
            counted.push(match count {
                Count::AtMost(count) => format!("{count} {word}"),
                Count::Unlimited => format!("all {word}"),
            });
        }
        let mut parts = Vec::new();
        if !counted.is_empty() {
            parts.push(format!("{} snapshots", counted.join(", ")));
        }
        let within = self.spans().into_iter().filter(|(span, _)| !span.is_zero());
        parts.extend(within.map(|(span, calendar)| format!("{} snapshots within {span}", calendar.word())));
        let mut text = parts.join(", ");
        let mut and = |part: String| {
            if !text.is_empty() {
                text.push_str(" and ");
            }
            text.push_str(&part);
        };
        if !self.keep_tags.is_empty() {
            let lists: Vec<String> = self.keep_tags.iter().map(TagList::to_string).collect();
            and(format!("all snapshots with tags {}", lists.join(" or ")));
        }
        if !self.keep_within.is_zero() {
            and(format!("all snapshots within {} of the newest", self.keep_within));
        }
        if text.is_empty() { f.write_str("keep everything") } else { write!(f, "keep {text}") }
    }
}

/// A snapshot that is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: ObjectId,
    /// When it was taken.
    pub time: DateTime<Utc>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Why it must be kept whatever the policy says; mostly nothing. It takes its place in the policy all the same.
    pub protected: Vec<String>,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Its id.
    pub id: ObjectId,
    /// Why it is kept, the policy's reasons first; empty if it goes.
    pub reasons: Vec<String>,
}

impl Decision {
    /// Tells whether it stays.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Judges the snapshots of one group, given oldest first; of equal times the later in the list is the newer. Returns the decisions newest first.
pub fn decide<Z: TimeZone>(candidates: &[Candidate], policy: &Policy, now: DateTime<Utc>, zone: &Z) -> Vec<Decision> {
    let mut newest_first: Vec<&Candidate> = candidates.iter().rev().collect();
    newest_first.sort_by_key(|candidate| std::cmp::Reverse(candidate.time));
    let mut judge = Judge::new(policy, &newest_first, now, zone);
    let last = newest_first.len().saturating_sub(1);
    newest_first
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            let mut reasons = if policy.is_empty() { vec!["policy is empty".to_owned()] } else { judge.reasons(candidate, at, at == last) };
            reasons.extend(candidate.protected.iter().cloned());
            Decision { id: candidate.id, reasons }
        })
        .collect()
}

/// A part of the calendar of which the newest snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calendar {
    /// No part: every snapshot is one of its own.
    Each,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Calendar {
    fn word(self) -> &'static str {
        match self {
            Self::Each => "last",
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// Returns what is the same for all times in one hour, day and so on, and for no others. `at` is the snapshot's place in its list.
    fn part<Z: TimeZone>(self, time: &DateTime<Z>, at: usize) -> (i32, u32, u32) {
        match self {
            Self::Each => (0, 0, u32::try_from(at).unwrap_or(u32::MAX)),
            Self::Hour => (time.year(), time.ordinal(), time.hour()),
            Self::Day => (time.year(), time.ordinal(), 0),
            Self::Week => (time.iso_week().year(), time.iso_week().week(), 0),
            Self::Month => (time.year(), time.month(), 0),
            Self::Year => (time.year(), 0, 0),
        }
    }
}

/// An option that keeps the newest of each part of the calendar.
struct Bucket {
    calendar: Calendar,
    left: Count,
    /// Only what is younger than this; none for all times.
    after: Option<DateTime<Utc>>,
    /// The part of the last snapshot that was kept by it.
    filled: Option<(i32, u32, u32)>,
    /// How its reason ends: `snapshot`, or `within 7d`.
    reason: String,
}

impl Bucket {
    fn reason<Z: TimeZone>(&mut self, time: DateTime<Utc>, local: &DateTime<Z>, at: usize, is_oldest: bool) -> Option<String> {
        if !self.left.is_left() || self.after.is_some_and(|after| time <= after) {
            return None;
        }
        let part = self.calendar.part(local, at);
        let is_filled = self.filled == Some(part);
        if is_filled && !is_oldest {
            return None;
        }
        self.filled = Some(part);
        self.left.take_one();
        let oldest = if is_filled { "oldest " } else { "" };
        Some(format!("{oldest}{} {}", self.calendar.word(), self.reason))
    }
}

/// The policy, and how much of it is used up.
struct Judge<'a, Z> {
    policy: &'a Policy,
    zone: &'a Z,
    /// What is younger than this is kept; none where nothing is asked for.
    within: Option<DateTime<Utc>>,
    buckets: Vec<Bucket>,
}

impl<'a, Z: TimeZone> Judge<'a, Z> {
    fn new(policy: &'a Policy, newest_first: &[&Candidate], now: DateTime<Utc>, zone: &'a Z) -> Self {
        let newest = newest_first.iter().map(|candidate| candidate.time).find(|time| *time <= now);
        // Where all are in the future, all are younger than anything.
        let before = |span: &Span| newest.map_or(DateTime::<Utc>::MIN_UTC, |newest| span.before(newest, zone));
        let counts = policy.counts().into_iter().map(|(left, calendar)| Bucket {
            calendar,
            left,
            after: None,
            filled: None,
            reason: "snapshot".to_owned(),
        });
        let spans = policy.spans().into_iter().filter(|(span, _)| !span.is_zero()).map(|(span, calendar)| Bucket {
            calendar,
            left: Count::Unlimited,
            after: Some(before(&span)),
            filled: None,
            reason: format!("within {span}"),
        });
        let within = (!policy.keep_within.is_zero()).then(|| before(&policy.keep_within));
        Self { policy, zone, within, buckets: counts.chain(spans).collect() }
    }

    /// Returns why the policy keeps a snapshot, in restic's words and order.
    fn reasons(&mut self, candidate: &Candidate, at: usize, is_oldest: bool) -> Vec<String> {
        let met = self.policy.keep_tags.iter().filter(|tags| tags.is_met_by(&candidate.tags));
        let mut reasons: Vec<String> = met.map(|tags| format!("has tags {tags}")).collect();
        if self.within.is_some_and(|after| candidate.time > after) {
            reasons.push(format!("within {}", self.policy.keep_within));
        }
        let local = candidate.time.with_timezone(self.zone);
        reasons.extend(self.buckets.iter_mut().filter_map(|bucket| bucket.reason(candidate.time, &local, at, is_oldest)));
        reasons
    }
}
