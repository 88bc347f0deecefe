//! How people name a snapshot, and which one they mean.
//!
//! A selector is a name with any number of steps back (`~`, `~2`). Names are tried in this order: the reserved words `HEAD`, `live`,
//! `pre`, `post`, `failed`; a time, `@{...}`; a tag of exactly this name; the first digits (4 or more) of a snapshot's id. A step goes to
//! a snapshot's parent, or, where retention has forgotten that, to the newest remaining snapshot before it. From `live` the first step
//! goes to `HEAD`.
//!
//! `@{...}` is the newest snapshot not after that time, read in the local time zone unless it names another: `2026-11-20 14:00`, `2 hours ago`,
//! `yesterday 18:00`. A day without a time is its first moment. A time to come is an error: `@{2 hours}` is `ago` forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Local, MappedLocalTime, NaiveDate, NaiveDateTime, TimeZone, Utc};

use crate::id::ObjectId;

/// The fewest digits of an id that name a snapshot.
pub const ID_DIGITS_MIN: usize = 4;
/// The longest selector that is read.
pub const SELECTOR_BYTES_MAX: usize = 256;

/// The name of a snapshot, or of the live database, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    written: String,
    name: Name,
    steps: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Head,
    Live,
    Pre,
    Post,
    Failed,
    At(String),
    TagOrId(String),
}

/// A snapshot that a selector can mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownSnapshot {
    /// Its id.
    pub id: ObjectId,
    /// When it was taken.
    pub time: DateTime<Utc>,
    /// The snapshot before it, when it was taken.
    pub parent: Option<ObjectId>,
}

/// Everything that a selector can mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The snapshots of one source, newest last.
    pub snapshots: Vec<KnownSnapshot>,
    /// The tags.
    pub tags: BTreeMap<String, ObjectId>,
    /// The snapshot before the last migration.
    pub pre: Option<ObjectId>,
    /// The snapshot after the last migration.
    pub post: Option<ObjectId>,
    /// What the last migration that was rolled back had left.
    pub failed: Option<ObjectId>,
}

/// What a selector means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The database as it is now.
    Live,
    /// A snapshot.
    Snapshot(ObjectId),
}

/// Why a selector means nothing. Each message ends in what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text is no selector.
    #[error(
        "`{written}` is not the name of a snapshot: {why}; write `HEAD`, `HEAD~2`, `live`, a tag, an id's first digits, or `@{{2 hours ago}}`"
    )]
    Malformed {
        /// What was written.
        written: String,
        /// What is wrong.
        why: String,
    },
    /// There is no snapshot at all.
    #[error("`{written}` names nothing: there is no snapshot yet; `dbelay snapshot` takes one")]
    NoSnapshots {
        /// What was written.
        written: String,
    },
    /// No tag and no id fits.
    #[error("`{written}` names no snapshot: {near}; `dbelay log` lists them")]
    Nothing {
        /// What was written.
        written: String,
        /// What comes close.
        near: String,
    },
    /// More than one id starts with these digits.
    #[error("`{written}` names {} snapshots: {}; write more digits", .ids.len(), ids.iter().take(4).map(|id| format!("`{}`", distinct(id, ids))).collect::<Vec<_>>().join(", "))]
    Several {
        /// What was written.
        written: String,
        /// All that fit, newest first.
        ids: Vec<ObjectId>,
    },
    /// An id's digits, but not enough.
    #[error("`{written}` is too short for an id and is no tag; write at least {ID_DIGITS_MIN} digits")]
    TooFewDigits {
        /// What was written.
        written: String,
    },
    /// The steps lead past the oldest snapshot.
    #[error("`{written}` goes back {steps} steps, but there {} before `{from}`; `dbelay log` lists them", match available { 0 => "is no snapshot".to_owned(), 1 => "is only 1 snapshot".to_owned(), n => format!("are only {n} snapshots") })]
    BeyondHistory {
        /// What was written.
        written: String,
        /// The name without its steps.
        from: String,
        /// How many steps were asked for.
        steps: u32,
        /// How many there are.
        available: u32,
    },
    /// There is no such migration on record.
    #[error("`{written}` names nothing: {why}; `dbelay log` lists the snapshots")]
    NoMigration {
        /// What was written.
        written: String,
        /// Why there is none.
        why: &'static str,
    },
    /// The time cannot be understood.
    #[error("the time in `{written}` {why}; write `@{{2026-11-20 14:00}}` or `@{{2 hours ago}}`")]
    Time {
        /// What was written.
        written: String,
        /// Why not.
        why: String,
    },
    /// Every snapshot is younger.
    #[error("`{written}` is before the first snapshot, `{first}`, which is of {time}; `dbelay log` lists them")]
    BeforeHistory {
        /// What was written.
        written: String,
        /// The oldest snapshot's short id.
        first: String,
        /// Its local time.
        time: String,
    },
}

/// Shortens an id, but not so far that it is another's.
fn distinct(id: &ObjectId, ids: &[ObjectId]) -> String {
    let text = id.to_string();
    let shared = ids.iter().filter(|other| *other != id).map(|other| common(&text, &other.to_string())).max().unwrap_or(0);
    text.chars().take((shared + 1).max(8)).collect()
}

fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.written)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl Selector {
    /// Reads a selector. Whether it means anything is for [`Selector::resolve`] to say.
    ///
    /// # Errors
    /// [`SelectorError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let malformed = |why: &str| SelectorError::Malformed {
            written: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            why: why.to_owned(),
        };
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let (name, tail) = if let Some(rest) = text.strip_prefix("@{") {
            let (time, tail) = rest.split_once('}').ok_or_else(|| malformed("the closing `}` is missing"))?;
            if time.trim().is_empty() {
                return Err(malformed("there is no time between `{` and `}`"));
            }
            (Name::At(time.trim().to_owned()), tail)
        } else {
            let (name, tail) = text.split_at(text.find('~').unwrap_or(text.len()));
            let name = match name {
                "HEAD" => Name::Head,
                "live" => Name::Live,
                "pre" => Name::Pre,
                "post" => Name::Post,
                "failed" => Name::Failed,
                "" => return Err(malformed("it is empty")),
                _ if name.contains(|c: char| c.is_whitespace() || c.is_control()) => return Err(malformed("it holds a blank")),
                _ if name.contains(['^', '{', '}']) => return Err(malformed("`^`, `{` and `}` have no meaning in it")),
                _ => Name::TagOrId(name.to_owned()),
            };
            (name, tail)
        };
        let steps = read_steps(tail).ok_or_else(|| malformed("only `~` or `~` and a number may follow a name"))?;
        Ok(Self { written: text.to_owned(), name, steps })
    }

    /// Finds what is meant.
    ///
    /// # Errors
    /// Every [`SelectorError`] but [`SelectorError::Malformed`].
    pub fn resolve(&self, known: &Known, now: DateTime<Local>) -> Result<Target, SelectorError> {
        let start = match &self.name {
            Name::Live if self.steps == 0 => return Ok(Target::Live),
            Name::Live => return self.step_back(known, self.head(known)?, self.steps - 1),
            Name::Head => self.head(known)?,
            Name::Pre => known.pre.ok_or_else(|| self.no_migration("no migration was run yet"))?,
            Name::Post => known.post.ok_or_else(|| self.no_migration("no migration was finished yet"))?,
            Name::Failed => known.failed.ok_or_else(|| self.no_migration("no migration was rolled back yet"))?,
            Name::At(time) => self.at(known, time, now)?,
            Name::TagOrId(name) => match known.tags.get(name) {
                Some(id) => *id,
                None => self.by_digits(known, name)?,
            },
        };
        self.step_back(known, start, self.steps)
    }

    fn head(&self, known: &Known) -> Result<ObjectId, SelectorError> {
        known.snapshots.last().map(|newest| newest.id).ok_or_else(|| SelectorError::NoSnapshots { written: self.written.clone() })
    }

    fn no_migration(&self, why: &'static str) -> SelectorError {
        SelectorError::NoMigration { written: self.written.clone(), why }
    }

    fn by_digits(&self, known: &Known, name: &str) -> Result<ObjectId, SelectorError> {
        let ids = every_id(known);
        let digits = name.to_ascii_lowercase();
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex && digits.len() < ID_DIGITS_MIN && near_name(known, name).is_none() {
            return Err(SelectorError::TooFewDigits { written: self.written.clone() });
        }
        let fitting: Vec<ObjectId> = match is_hex && digits.len() >= ID_DIGITS_MIN {
            true => ids.iter().filter(|id| id.to_string().starts_with(&digits)).copied().collect(),
            false => Vec::new(),
        };
        match fitting.as_slice() {
            [id] => Ok(*id),
            [] if ids.is_empty() => Err(SelectorError::NoSnapshots { written: self.written.clone() }),
            [] => Err(SelectorError::Nothing { written: self.written.clone(), near: near(known, name, is_hex, &ids) }),
            _ => Err(SelectorError::Several { written: self.written.clone(), ids: fitting }),
        }
    }

    fn at(&self, known: &Known, text: &str, now: DateTime<Local>) -> Result<ObjectId, SelectorError> {
        let time = read_time(text, now).map_err(|why| SelectorError::Time { written: self.written.clone(), why })?;
        self.head(known)?;
        // A clock that was set back makes times fall; the newest among equals is the last.
        let newest = known.snapshots.iter().filter(|snapshot| snapshot.time <= time).max_by_key(|snapshot| snapshot.time);
        match (newest, known.snapshots.iter().min_by_key(|snapshot| snapshot.time)) {
            (Some(snapshot), _) => Ok(snapshot.id),
            (None, Some(first)) => Err(SelectorError::BeforeHistory {
                written: self.written.clone(),
                first: first.id.short(),
                time: first.time.with_timezone(&now.timezone()).format("%Y-%m-%d %H:%M:%S").to_string(),
            }),
            (None, None) => Err(SelectorError::NoSnapshots { written: self.written.clone() }),
        }
    }

    fn step_back(&self, known: &Known, start: ObjectId, steps: u32) -> Result<Target, SelectorError> {
        let mut id = start;
        for step in 0..steps {
            // Parents cannot lead in a circle (an id holds its parent's), but a damaged list could.
            let before = parent(known, id).filter(|_| usize::try_from(step).is_ok_and(|step| step <= known.snapshots.len()));
            let Some(before) = before else {
                let skipped = u32::from(self.name == Name::Live);
                return Err(SelectorError::BeyondHistory {
                    written: self.written.clone(),
                    from: self.written.split('~').next().unwrap_or("").to_owned(),
                    steps: self.steps,
                    available: step + skipped,
                });
            };
            id = before;
        }
        Ok(Target::Snapshot(id))
    }
}

/// Reads `~`, `~2`, `~~`, `~1~2`. A number too large for any history is as good as the largest.
fn read_steps(mut tail: &str) -> Option<u32> {
    let mut steps = 0_u32;
    while !tail.is_empty() {
        let rest = tail.strip_prefix('~')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        steps = steps.saturating_add(if number.is_empty() { 1 } else { number.parse().unwrap_or(u32::MAX) });
        tail = after;
    }
    Some(steps)
}

fn parent(known: &Known, id: ObjectId) -> Option<ObjectId> {
    let at = known.snapshots.iter().position(|snapshot| snapshot.id == id)?;
    let recorded = known.snapshots.get(at)?.parent?;
    if known.snapshots.iter().any(|snapshot| snapshot.id == recorded) {
        return Some(recorded);
    }
    at.checked_sub(1).and_then(|before| known.snapshots.get(before)).map(|snapshot| snapshot.id)
}

/// Returns every id that can be named, newest first.
fn every_id(known: &Known) -> Vec<ObjectId> {
    let mut seen = BTreeSet::new();
    let named = known.pre.into_iter().chain(known.post).chain(known.failed).chain(known.tags.values().copied());
    known.snapshots.iter().rev().map(|snapshot| snapshot.id).chain(named).filter(|id| seen.insert(*id)).collect()
}

fn near(known: &Known, name: &str, is_hex: bool, ids: &[ObjectId]) -> String {
    if let Some(tag) = near_name(known, name) {
        return format!("there is no tag of this name, but there is `{tag}`");
    }
    if !is_hex {
        return "there is no tag of this name".to_owned();
    }
    let digits = name.to_ascii_lowercase();
    let shared = ids.iter().map(|id| common(&id.to_string(), &digits)).max().unwrap_or(0);
    let closest: Vec<String> =
        ids.iter().filter(|id| common(&id.to_string(), &digits) == shared).take(3).map(|id| format!("`{}`", id.short())).collect();
    format!("no id starts with these digits; the closest ids start with {}", closest.join(", "))
}

/// Returns the tag or reserved word that is spelt almost like this.
fn near_name<'a>(known: &'a Known, name: &str) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let words = known.tags.keys().map(String::as_str).chain(["HEAD", "live", "pre", "post", "failed"]);
    let allowed = (name.chars().count() / 3).min(3);
    words.take(10_000).map(|word| (distance(&lower, &word.to_lowercase()), word)).filter(|(d, _)| *d <= allowed).min().map(|(_, word)| word)
}

/// Counts the letters to insert, delete or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            left = replaced.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Reads a time; says why not in words that continue "the time in `...`".
fn read_time(text: &str, now: DateTime<Local>) -> Result<DateTime<Utc>, String> {
    let not_understood = || "is not understood".to_owned();
    let time = if let Some(exact) = exact_time(text) {
        exact
    } else if let Some(naive) = naive_time(text) {
        in_zone(naive, now)?
    } else if text.contains('+') || text.ends_with(['Z', 'z']) {
        // interim adds offsets to the local time.
        return Err(not_understood());
    } else if let Ok(interim::Interval::Seconds(seconds)) = interim::parse_duration(text) {
        // Hours are real hours, also across a change of summer time.
        now.checked_add_signed(chrono::Duration::seconds(i64::from(seconds))).ok_or_else(not_understood)?.to_utc()
    } else {
        // interim knows a zone's offset for UTC only, so it reckons in wall clock time, which is put into the zone afterwards.
        let wall = now.naive_local().and_utc();
        let read = interim::parse_date_string(text, wall, interim::Dialect::Uk).map_err(|_| not_understood())?;
        in_zone(read.naive_utc(), now)?
    };
    if time > now.to_utc() {
        let there = time.with_timezone(&now.timezone()).format("%Y-%m-%d %H:%M");
        return Err(format!("is still to come ({there}); for the past say `ago`, `last` or the date"));
    }
    Ok(time)
}

fn exact_time(text: &str) -> Option<DateTime<Utc>> {
    let formats = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f %#z", "%Y-%m-%d %H:%M %#z"];
    let plain = text.replacen('T', " ", 1).replace(['Z', 'z'], "+00:00");
    let dated = plain.get(..4).is_some_and(|year| year.bytes().all(|b| b.is_ascii_digit()));
    formats.iter().filter(|_| dated).find_map(|format| DateTime::parse_from_str(&plain, format).ok()).map(|time| time.to_utc())
}

fn naive_time(text: &str) -> Option<NaiveDateTime> {
    let plain = text.replacen('T', " ", 1);
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
    let time = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(&plain, format).ok());
    time.or_else(|| NaiveDate::parse_from_str(&plain, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0)))
}

/// Puts a wall clock time into the local zone; of two equal readings when clocks go back it is the later.
fn in_zone(naive: NaiveDateTime, now: DateTime<Local>) -> Result<DateTime<Utc>, String> {
    match now.timezone().from_local_datetime(&naive) {
        MappedLocalTime::Single(time) => Ok(time.to_utc()),
        MappedLocalTime::Ambiguous(_, later) => Ok(later.to_utc()),
        MappedLocalTime::None => Err("did not exist: clocks went forward over it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: &str) -> ObjectId {
        format!("{first:0<64}").parse().expect("hex digits")
    }

    fn now() -> DateTime<Local> {
        Local.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).single().expect("noon exists")
    }

    /// Four snapshots, one an hour until 11:00, `aaaa1` to `cccc`.
    fn known() -> Known {
        let ids = [id("aaaa1"), id("aaaa2"), id("bbbb"), id("cccc")];
        let snapshots = ids.iter().enumerate().map(|(at, id)| KnownSnapshot {
            id: *id,
            time: (now() - chrono::Duration::hours(4 - i64::try_from(at).expect("small"))).to_utc(),
            parent: at.checked_sub(1).map(|before| ids[before]),
        });
        let tags = [("release-1", ids[0]), ("cafe", ids[1]), ("v2", ids[2])].map(|(name, id)| (name.to_owned(), id));
        Known { snapshots: snapshots.collect(), tags: tags.into(), pre: Some(ids[2]), post: Some(ids[3]), failed: None }
    }

    fn run(text: &str, known: &Known) -> Result<Target, SelectorError> {
        Selector::parse(text)?.resolve(known, now())
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(run(text, &known()), Ok(Target::Snapshot(id(expected))), "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, known: &Known, expected: &[&str]) {
        let error = run(text, known).expect_err(text).to_string();
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }

    #[test]
    fn every_form_names_its_snapshot() {
        for (text, expected) in [
            ("HEAD", "cccc"),
            ("HEAD~0", "cccc"),
            ("HEAD~", "bbbb"),
            ("HEAD~2", "aaaa2"),
            ("HEAD~~", "aaaa2"),
            ("HEAD~1~2", "aaaa1"),
            ("live~", "cccc"),
            ("live~2", "bbbb"),
            ("pre", "bbbb"),
            ("pre~1", "aaaa2"),
            ("post", "cccc"),
            ("release-1", "aaaa1"),
            ("v2~", "aaaa2"),
            ("bbbb", "bbbb"),
            ("BBBB0", "bbbb"),
            ("aaaa2~1", "aaaa1"),
            ("@{90 minutes ago}", "bbbb"),
            ("@{1 hour ago}", "cccc"),
            ("@{now}~1", "bbbb"),
            ("@{2026-11-21 10:30}", "bbbb"),
            ("@{2026-11-21T09:00:00}", "aaaa2"),
            ("@{today 09:59}", "aaaa2"),
        ] {
            check(text, expected);
        }
        assert_eq!(run("live", &known()), Ok(Target::Live));
        assert_eq!(run("live~0", &known()), Ok(Target::Live));
        let exact = now().to_utc() - chrono::Duration::hours(2);
        check(&format!("@{{{}}}", exact.to_rfc3339()), "bbbb");
        check(&format!("@{{{}}}", exact.format("%Y-%m-%d %H:%MZ")), "bbbb");
    }

    #[test]
    fn a_tag_comes_before_an_id() {
        let mut known = known();
        known.tags.insert("cccc".to_owned(), id("aaaa1"));
        assert_eq!(run("cccc", &known), Ok(Target::Snapshot(id("aaaa1"))));
        assert_eq!(run("ccccc", &self::known()).ok(), None);
        assert_eq!(run("cafe", &known), Ok(Target::Snapshot(id("aaaa2"))));
    }

    #[test]
    fn a_forgotten_parent_is_stepped_over() {
        let mut known = known();
        known.snapshots.remove(2);
        assert_eq!(run("HEAD~", &known), Ok(Target::Snapshot(id("aaaa2"))));
        assert_eq!(run("pre", &known), Ok(Target::Snapshot(id("bbbb"))));
    }

    #[test]
    fn an_error_says_what_comes_close() {
        let known = known();
        check_error("release-2", &known, &["but there is `release-1`"]);
        check_error("head", &known, &["but there is `HEAD`"]);
        check_error("faild", &known, &["but there is `failed`"]);
        check_error("nonsense", &known, &["no tag of this name;", "`dbelay log`"]);
        check_error("bbbf", &known, &["closest ids start with `bbbb0000`"]);
        check_error("aaaa", &known, &["names 2 snapshots", "`aaaa2000`, `aaaa1000`", "more digits"]);
        check_error("bbb", &known, &["too short", "at least 4 digits"]);
        check_error("failed", &known, &["no migration was rolled back yet"]);
        check_error("HEAD~9", &known, &["goes back 9 steps", "only 3 snapshots before `HEAD`"]);
        check_error("HEAD~99999999999", &known, &["only 3 snapshots"]);
        check_error("live~5", &known, &["goes back 5 steps", "only 4 snapshots before `live`"]);
        check_error("release-1~", &known, &["there is no snapshot before `release-1`"]);
        check_error("HEAD", &Known::default(), &["no snapshot yet", "`dbelay snapshot`"]);
        check_error("abcd", &Known::default(), &["no snapshot yet"]);
        check_error("@{1 day ago}", &known, &["before the first snapshot, `aaaa1000`", "2026-11-21 08:00:00"]);
        check_error("@{2 hours}", &known, &["still to come", "`ago`"]);
        check_error("@{soonish}", &known, &["is not understood"]);
        check_error("@{2026-13-41 14:00}", &known, &["is not understood"]);
        check_error("@{10:00+02:00}", &known, &["is not understood"]);
    }

    #[test]
    fn ids_that_share_many_digits_are_shown_apart() {
        let mut known = known();
        known.snapshots[2].id = id("aaaa2000000001");
        check_error("aaaa2", &known, &["`aaaa2000000001`, `aaaa2000000000`"]);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["", "~1", "HEAD^", "HEAD~x", "HEAD~-1", "a b", "@{", "@{}", "@{ }", "@{now}x", "tag\n", "{x}", &"a".repeat(300)] {
            assert!(matches!(Selector::parse(text), Err(SelectorError::Malformed { .. })), "{text:?}");
        }
        for text in ["HEAD", "@{2 hours ago}~2", "release-1~"] {
            assert_eq!(Selector::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn no_text_between_the_braces_breaks_it() {
        for text in [
            "9999-12-31 23:59",
            "-9999 years",
            "9999 years ago",
            "last 99/99",
            "0000-00-00",
            "\u{1f600}",
            "T",
            "31 feb",
            "99:99",
            "9999 weeks ago",
            "1 2 3",
            "next",
            "12am",
        ] {
            let _ = run(&format!("@{{{text}}}"), &known());
        }
    }
}
