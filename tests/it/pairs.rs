//! Two dbelays at once on one project, in every pairing of commands: each does what it says or says that the other is there, the store is
//! sound, and the database is what one of the two orders makes of it.
//!
//! [`LINES`] is the table of commands: whoever adds one adds a line. `DBELAY_TEST_ALL_DEATHS=1` tries every pairing, `DBELAY_TEST_PAIRS` times each;
//! otherwise a sample is tried, which `DBELAY_TEST_SEED` chooses.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::faults::is_thorough;
use crate::faults::operations::BASE;
use crate::kills::number;
use crate::oracle;
use crate::property::Random;
use crate::sandbox::{Run, Sandbox, copy_folder, finish};

/// How many pairings are tried where not all of them are.
const SAMPLE: usize = 40;

/// How much later the second may be started than the first, at most.
const LATER_MAX: u64 = 25_000;

/// The exit code for who finds another at work.
const LOCKED: i32 = 11;

/// A command that may run beside any other.
struct Line {
    /// Its words, after `dbelay --db app.db`; `{dbelay}` is the program.
    words: &'static [&'static str],
    /// How it may exit, with what it must say then; nothing is asked for where it says what it should.
    ends: &'static [(i32, &'static str)],
    /// Whether it writes the database.
    writes: bool,
}

const fn reads(words: &'static [&'static str], ends: &'static [(i32, &'static str)]) -> Line {
    Line { words, ends, writes: false }
}

const fn writes(words: &'static [&'static str], ends: &'static [(i32, &'static str)]) -> Line {
    Line { words, ends, writes: true }
}

const GOOD: &str = "UPDATE t SET x='new '||id WHERE id%5=0; CREATE TABLE IF NOT EXISTS more(y)";
const OTHER: &str = "UPDATE t SET x='other '||id WHERE id%4=0; CREATE TABLE IF NOT EXISTS others(y)";
const LOSING: &str = "UPDATE t SET x='half' WHERE id%7=0; DELETE FROM keyless";
const NO_STORE: i32 = 10;

/// What every project has before: snapshots, tags, a migration to undo and one to redo.
const SETUP: &[&[&str]] = &[
    &["snapshot", "--tag", "good"],
    &["migrate", "--", "{dbelay}", "--db", "app.db", "demo-apply", "good.sql"],
    &["tag", "old", "good"],
    &["migrate", "--", "{dbelay}", "--db", "app.db", "demo-apply", "other.sql"],
    &["undo"],
];

/// The commands on a project.
const LINES: &[Line] = &[
    reads(&["snapshot"], &[(0, "")]),
    reads(&["snapshot", "--tag", "new"], &[(0, ""), (2, "there is a tag `new` already")]),
    writes(&["migrate", "--", "{dbelay}", "--db", "app.db", "demo-apply", "other.sql"], &[(0, "")]),
    writes(
        &["migrate", "--", "{dbelay}", "--db", "app.db", "demo-apply", "losing.sql"],
        &[(4, "was rolled back"), (4, "put back"), (0, "changed nothing")],
    ),
    writes(&["rollback", "good"], &[(0, "")]),
    writes(&["rollback", "good", "--table", "t"], &[(0, "")]),
    writes(&["undo"], &[(0, ""), (3, "there is no operation to undo")]),
    writes(&["redo"], &[(0, ""), (3, "there is no operation to redo")]),
    reads(&["tag", "release", "good"], &[(0, "")]),
    reads(&["tag", "--force", "old", "HEAD"], &[(0, "")]),
    reads(&["tag", "--delete", "old"], &[(0, ""), (2, "there is no tag `old`")]),
    reads(&["tag"], &[(0, "")]),
    reads(&["log"], &[(0, "")]),
    reads(&["op", "log"], &[(0, "")]),
    reads(&["status"], &[(0, ""), (1, "")]),
    reads(&["diff"], &[(0, "")]),
    reads(&["diff", "good", "live"], &[(0, "")]),
    reads(&["show", "good"], &[(0, "")]),
    reads(&["cat", "good", "t"], &[(0, "")]),
    reads(&["check"], &[(0, ""), (1, "")]),
    reads(&["fsck", "--read-data"], &[(0, "")]),
    reads(&["restore", "good", "--to", "copy.db"], &[(0, ""), (2, "exists and is not empty")]),
    reads(&["forget", "--keep-last", "100"], &[(0, "")]),
    reads(&["gc"], &[(0, "")]),
    reads(&["verify", "--drill"], &[(0, "")]),
    reads(&["gc", "--grace", "0"], &[(0, "")]),
    reads(&["pin", "good"], &[(0, "")]),
    reads(&["export", "good", "--output", "good.json"], &[(0, ""), (2, "never writes over")]),
    reads(&["query", "good", "SELECT count(*) FROM t"], &[(0, "")]),
];

/// The commands in a folder where there is no store yet.
const FIRST_LINES: &[Line] = &[
    reads(&["init"], &[(0, ""), (2, "is there already")]),
    reads(&["snapshot"], &[(0, "")]),
    writes(&["migrate", "--", "{dbelay}", "--db", "app.db", "demo-apply", "other.sql"], &[(0, "")]),
    reads(&["status"], &[(0, ""), (1, ""), (NO_STORE, "")]),
    reads(&["log"], &[(0, ""), (NO_STORE, "")]),
    reads(&["fsck"], &[(0, ""), (NO_STORE, "")]),
];

/// A project that begins the same each time.
struct Project {
    sandbox: Sandbox,
    kept: tempfile::TempDir,
    snapshots: BTreeSet<String>,
    before: String,
    /// What the database is after one line alone, by its place in the table.
    alone: BTreeMap<usize, String>,
}

impl Project {
    fn new(mode: &str, setup: &[&[&str]]) -> Self {
        let sandbox = Sandbox::with(&format!("PRAGMA journal_mode={mode}; {BASE}"));
        for (name, sql) in [("good.sql", GOOD), ("other.sql", OTHER), ("losing.sql", LOSING)] {
            std::fs::write(sandbox.path(name), sql).unwrap();
        }
        let kept = tempfile::tempdir().unwrap();
        let mut project = Self { sandbox, kept, snapshots: BTreeSet::new(), before: String::new(), alone: BTreeMap::new() };
        for words in setup {
            finish(&mut project.command(words)).exits(0);
        }
        project.snapshots = project.ids();
        project.before = oracle::dump(&project.sandbox.db());
        copy_folder(&project.sandbox.path(""), project.kept.path());
        project
    }

    fn reset(&self) {
        for entry in std::fs::read_dir(self.sandbox.path("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        copy_folder(self.kept.path(), &self.sandbox.path(""));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.sandbox.command();
        command.args(["--db", "app.db"]).args(words.iter().map(|word| word.replace("{dbelay}", env!("CARGO_BIN_EXE_dbelay"))));
        command
    }

    fn start(&self, line: &Line) -> Child {
        self.command(line.words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn ids(&self) -> BTreeSet<String> {
        if !self.sandbox.path(".dbelay/config.json").exists() {
            return BTreeSet::new();
        }
        let log = finish(&mut self.command(&["log", "--json"])).exits(0).json();
        log["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns what the database may be after two lines: as before, as after one of them, or as after both, in each order.
    fn outcomes(&mut self, lines: &[Line], pair: (usize, usize)) -> BTreeSet<String> {
        let mut outcomes = BTreeSet::from([self.before.clone()]);
        let writers: Vec<usize> = [pair.0, pair.1].into_iter().filter(|at| lines[*at].writes).collect();
        for at in &writers {
            if !self.alone.contains_key(at) {
                self.reset();
                finish(&mut self.command(lines[*at].words));
                self.alone.insert(*at, oracle::dump(&self.sandbox.db()));
            }
            outcomes.insert(self.alone[at].clone());
        }
        if let [a, b] = *writers {
            for order in [[a, b], [b, a]] {
                self.reset();
                for at in order {
                    finish(&mut self.command(lines[at].words));
                }
                outcomes.insert(oracle::dump(&self.sandbox.db()));
            }
        }
        outcomes
    }
}

/// Takes what a process said.
fn ended(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What came of the pairings of a table.
#[derive(Default)]
struct Count {
    pairings: usize,
    runs: usize,
    locked: usize,
    failures: Vec<String>,
}

fn run_pairs(mode: &str, setup: &[&[&str]], lines: &[Line], sample: usize, random: &mut Random, count: &mut Count) {
    let mut project = Project::new(mode, setup);
    let known: Vec<usize> = (0..lines.len()).collect();
    let mut pairs: Vec<(usize, usize)> = known.iter().flat_map(|a| known.iter().map(|b| (*a, *b))).filter(|(a, b)| a <= b).collect();
    if !is_thorough() {
        while pairs.len() > sample {
            pairs.swap_remove(usize::try_from(random.below(pairs.len() as u64)).unwrap());
        }
    }
    let times = number("DBELAY_TEST_PAIRS", if is_thorough() { 4 } else { 2 });
    for pair in pairs {
        let outcomes = project.outcomes(lines, pair);
        count.pairings += 1;
        for time in 0..times {
            count.runs += 1;
            let pair = if time % 2 == 0 { pair } else { (pair.1, pair.0) };
            // The first of them at once; then the second somewhere within the first.
            let later = Duration::from_micros(if time < 2 { 0 } else { random.below(LATER_MAX) });
            count.locked += run_pair(&project, (&lines[pair.0], &lines[pair.1]), later, &outcomes, &mut count.failures);
        }
    }
}

/// Runs two at once; returns how many of them found the other.
fn run_pair(project: &Project, pair: (&Line, &Line), later: Duration, outcomes: &BTreeSet<String>, failures: &mut Vec<String>) -> usize {
    project.reset();
    let first = project.start(pair.0);
    let begun = Instant::now();
    while begun.elapsed() < later {
        std::hint::spin_loop();
    }
    let second = project.start(pair.1);
    let runs = [(pair.0, ended(first)), (pair.1, ended(second))];
    let what = format!("`{}` and {later:?} later `{}`", pair.0.words.join(" "), pair.1.words.join(" "));
    let mut fail = |why: String| failures.push(format!("{what}: {why}"));
    let mut locked = 0;
    for (line, run) in &runs {
        let is_end = |(code, says): &(i32, &str)| run.code == *code && (run.stderr.contains(says) || run.stdout.contains(says));
        if run.code == LOCKED {
            locked += 1;
        } else if !line.ends.iter().any(is_end) {
            fail(format!("`{}` exits {}\n{}", line.words.join(" "), run.code, run.stderr));
        }
    }
    if runs.iter().all(|(line, run)| run.code == LOCKED && line.writes) {
        fail("each says that the other is there".to_owned());
    }
    if !outcomes.contains(&oracle::dump(&project.sandbox.db())) {
        let said: Vec<&str> = runs.iter().map(|(_, run)| run.stderr.as_str()).collect();
        fail(format!("the database is what no order makes of it\n{}", said.join("\n")));
    }
    if project.sandbox.path(".dbelay/config.json").exists() {
        let fsck = finish(&mut project.command(&["fsck", "--read-data"]));
        if fsck.code != 0 {
            fail(format!("the store is damaged\n{}{}", fsck.stdout, fsck.stderr));
        }
        let ids = project.ids();
        if !project.snapshots.is_subset(&ids) {
            fail("snapshots are lost".to_owned());
        }
        let next = finish(&mut project.command(&["snapshot"]));
        if next.code != 0 || next.stderr.contains("interrupted") {
            fail(format!("the next command exits {}\n{}", next.code, next.stderr));
        }
    }
    locked
}

#[test]
fn two_dbelays_at_once_do_what_they_say_or_say_that_the_other_is_there() {
    let seed = number("DBELAY_TEST_SEED", 1);
    let mut random = Random::new(seed);
    let mut count = Count::default();
    for mode in ["delete", "wal"] {
        run_pairs(mode, SETUP, LINES, SAMPLE, &mut random, &mut count);
        run_pairs(mode, &[], FIRST_LINES, SAMPLE / 4, &mut random, &mut count);
    }
    let Count { pairings, runs, locked, failures } = count;
    println!("pairs: {pairings} pairings, {runs} runs, {locked} times locked, {} failures (seed {seed})", failures.len());
    assert!(locked > 0, "no two of them ever met");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
