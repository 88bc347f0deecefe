//! `kill -9` of the process at random moments, of its session by the server, and of the server's own process behind it: a PostgreSQL database is before
//! or after, what was said of it is true, and the next commands finish.
//!
//! `DBELAY_TEST_KILLS` sets how many kills there are in all, `DBELAY_TEST_SEED` the first seed, `DBELAY_TEST_FSYNC` that the server writes as those do
//! whose data is needed. The servers are the tests' own, since what falls here takes every other session with it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, THROWAWAY, TestDatabase, assert_same};
use crate::kills::{is_somebody_in, number};
use crate::property::Random;
use crate::sandbox::{Run, Sandbox, finish};

const BASE: &str = "
CREATE TABLE users(id integer PRIMARY KEY, name text NOT NULL, mail text UNIQUE);
CREATE TABLE posts(id integer PRIMARY KEY, user_id integer NOT NULL REFERENCES users ON DELETE CASCADE, title text);
CREATE TABLE log(at integer, what text);
CREATE INDEX by_title ON posts(title);
CREATE SEQUENCE numbers INCREMENT BY 5 CACHE 10;
CREATE VIEW named AS SELECT p.id, u.name FROM posts p JOIN users u ON u.id = p.user_id;
INSERT INTO users SELECT i, 'name ' || i, i || '@example.org' FROM generate_series(1, 1000) AS i;
INSERT INTO posts SELECT i, i % 1000 + 1, 'title ' || i FROM generate_series(1, 2000) AS i;
INSERT INTO log SELECT i % 7, 'what ' || i % 5 FROM generate_series(1, 500) AS i;
SELECT setval('numbers', 31);
";

/// Everything in it is undone with its transaction.
const CHANGE: &str = "
UPDATE users SET name = 'changed ' || id WHERE id % 3 = 0;
DROP VIEW named;
DROP TABLE posts;
DELETE FROM users WHERE id > 900;
ALTER TABLE users ADD COLUMN note text DEFAULT 'none';
DELETE FROM log WHERE at = 1;
ALTER SEQUENCE numbers RESTART WITH 500;
CREATE TABLE fresh(id serial PRIMARY KEY, v text);
INSERT INTO fresh(id, v) SELECT i, 'v' FROM generate_series(1, 500) AS i;
";

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    /// The process of dbelay.
    Process,
    /// Its session, as an administrator ends it.
    Session,
    /// The server's process of its session, upon which the server begins anew.
    Server,
}

/// What dbelay does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Deed {
    Rollback,
    /// A migration whose command fails when its work is done.
    Migrate,
    Rehearse,
}

/// Runs a script in one transaction.
const PSQL: &str = "psql -X -q -1 -v ON_ERROR_STOP=1 -f up.sql \"$1\"";

impl Deed {
    fn arguments(self) -> Vec<String> {
        let fails = format!("{PSQL}; exit 1");
        let words: &[&str] = match self {
            Self::Rollback => &["rollback", "a", "--yes"],
            Self::Migrate => &["migrate", "--on-failure", "rollback", "--", "sh", "-c", &fails, "sh", "{url}"],
            Self::Rehearse => &["migrate", "--rehearse-only", "--", "sh", "-c", PSQL, "sh", "{url}"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// What came of the kills of one kind.
#[derive(Debug, Default)]
struct Counts {
    kills: u64,
    /// How many came before the command had ended.
    in_time: u64,
    old: u64,
    new: u64,
}

/// After how many kills a new project is begun: commands slow down with the snapshots that they leave.
const PROJECT_KILLS: u64 = 25;

#[test]
fn killed_at_any_moment_the_database_of_a_server_is_before_or_after() {
    const CASES: [(Victim, Deed); 3] =
        [(Victim::Process, Deed::Rollback), (Victim::Process, Deed::Migrate), (Victim::Process, Deed::Rehearse)];
    kill_all(&CASES, number("DBELAY_TEST_KILLS", 12) / 2);
}

#[test]
fn when_the_server_ends_its_session_the_database_is_before_or_after() {
    const CASES: [(Victim, Deed); 4] = [
        (Victim::Session, Deed::Rollback),
        (Victim::Server, Deed::Rollback),
        (Victim::Session, Deed::Migrate),
        (Victim::Server, Deed::Migrate),
    ];
    kill_all(&CASES, number("DBELAY_TEST_KILLS", 12).div_ceil(2));
}

/// Shares the kills out among these cases, and says what came of them.
fn kill_all(cases: &[(Victim, Deed)], kills: u64) {
    if Cluster::shared().is_none() {
        return;
    }
    let settings: &[(&str, &str)] = if number("DBELAY_TEST_FSYNC", 0) == 0 { THROWAWAY } else { &[("max_connections", "30")] };
    let Some(cluster) = Cluster::start(settings) else {
        println!("skipped: no server of its own can be started");
        return;
    };
    let mut seed = number("DBELAY_TEST_SEED", 1);
    for (at, &(victim, deed)) in (0..).zip(cases) {
        let count = cases.len() as u64;
        let (mut counts, mut left) = (Counts::default(), kills / count + u64::from(at < kills % count));
        while left > 0 {
            let now = left.min(PROJECT_KILLS);
            kill_often(&cluster, victim, deed, now, seed, &mut counts);
            (left, seed) = (left - now, seed + 1);
        }
        println!("{victim:?}, {deed:?}: {counts:?}");
    }
}

/// A project folder and its database.
struct Project<'a> {
    cluster: &'a Cluster,
    sandbox: Sandbox,
    database: TestDatabase<'a>,
}

impl Project<'_> {
    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.sandbox.command();
        command.env("PATH", self.cluster.path()).args(["--db", &self.database.url()]).args(arguments);
        command
    }

    #[track_caller]
    fn dbelay(&self, arguments: &[&str]) -> Run {
        finish(&mut self.command(arguments))
    }

    /// Waits until the server takes sessions, and nobody is there any more who was at work.
    fn wait(&self) {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        while is_somebody_in(&self.sandbox.path("")) {
            std::thread::yield_now();
        }
        loop {
            let mut command = self.database.session();
            let run = finish(command.args(["-c", others]));
            if run.code == 0 && run.stdout.trim() == "0" {
                return;
            }
        }
    }
}

/// A session from which others are looked at, opened before it is needed.
struct Watcher {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watcher {
    fn open(project: &Project<'_>) -> Self {
        let mut command = project.database.session();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut watcher = Self { child, lines };
        assert_eq!(watcher.ask("SELECT 1"), 1);
        watcher
    }

    /// Asks for a number.
    fn ask(&mut self, sql: &str) -> i32 {
        writeln!(self.child.stdin.as_mut().unwrap(), "{sql};").unwrap();
        self.lines.next().unwrap().unwrap().trim().parse().unwrap()
    }

    /// Ends the sessions of dbelay; tells whether there was one.
    fn end_sessions(mut self) -> bool {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'dbelay'";
        let ended = self.ask(sql) > 0;
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
        ended
    }

    /// Kills a process of the server behind dbelay, and waits until the server has noticed; tells whether there was one.
    fn crash(mut self) -> bool {
        let sql = "SELECT coalesce((SELECT pid FROM pg_stat_activity WHERE application_name = 'dbelay' ORDER BY random() LIMIT 1), 0)";
        let pid = Pid::from_raw(self.ask(sql));
        let is_killed = pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
        let mut stdin = self.child.stdin.take().unwrap();
        if is_killed {
            // The server ends every session.
            writeln!(stdin, "SELECT pg_sleep(60);").unwrap();
            assert!(self.lines.next().is_none(), "the server does not mind that a process of its own was killed");
        }
        drop(stdin);
        self.child.wait().unwrap();
        is_killed
    }
}

/// Starts a command and kills the victim after a random part of the time that it takes; returns how the command ended, and whether it had not yet.
fn kill_somewhere(project: &Project<'_>, victim: Victim, deed: Deed, random: &mut Random, whole: &mut Duration) -> (Run, bool) {
    let arguments = deed.arguments();
    let mut command = project.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let watcher = (victim != Victim::Process).then(|| Watcher::open(project));
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    let after = *whole * u32::try_from(random.below(1000)).unwrap() / 1000;
    while started.elapsed() < after && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let is_running = child.try_wait().unwrap().is_none();
    if !is_running {
        *whole = (*whole + started.elapsed()) / 2;
    }
    let is_killed = match watcher {
        _ if !is_running => false,
        None => child.kill().is_ok(),
        Some(watcher) if victim == Victim::Session => watcher.end_sessions(),
        Some(watcher) => watcher.crash(),
    };
    // A command that outlives its wrapper has the pipes too, and ends by itself.
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let run = Run { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) };
    (run, is_killed)
}

/// Kills one deed again and again in a project of its own.
fn kill_often(cluster: &Cluster, victim: Victim, deed: Deed, kills: u64, seed: u64, counts: &mut Counts) {
    let project = Project { cluster, sandbox: Sandbox::new(), database: cluster.database() };
    let (database, up) = (&project.database, project.sandbox.path("up.sql"));
    database.psql(BASE);
    std::fs::write(&up, format!("{CHANGE}\n")).unwrap();
    let a = database.state();
    project.dbelay(&["snapshot", "--tag", "a"]).exits(0);
    database.psql(CHANGE);
    let b = database.state();
    assert_ne!(a, b);
    let (before, intended) = if deed == Deed::Rollback { (&b, &a) } else { (&a, if deed == Deed::Rehearse { &a } else { &b }) };
    let mut random = Random::new(seed);
    // The first command tells how long one takes.
    project.dbelay(&["rollback", "a", "--yes"]).exits(0);
    if deed == Deed::Rollback {
        database.psql(CHANGE);
    }
    let started = Instant::now();
    project.dbelay(&deed.arguments().iter().map(String::as_str).collect::<Vec<_>>());
    let mut whole = started.elapsed();
    assert_same(&a, &database.state(), "nobody is killed");
    for at in 0..kills {
        let case = format!("{victim:?}, {deed:?}, seed {seed}, kill {at}");
        if deed == Deed::Rollback {
            database.psql(CHANGE);
        }
        let (run, is_killed) = kill_somewhere(&project, victim, deed, &mut random, &mut whole);
        project.wait();
        let now = database.state();
        if now != *intended {
            assert_same(before, &now, &format!("{case}: neither before nor after: {run:?}"));
        }
        counts.kills += 1;
        counts.in_time += u64::from(is_killed);
        if now == *before {
            counts.old += 1
        } else {
            counts.new += 1
        }
        // What was said is true.
        if run.stderr.contains("the database is unchanged") {
            assert_same(before, &now, &format!("{case}: {run:?}"));
        }
        if run.code == 0 || run.stderr.contains("was rolled back to snapshot") {
            assert_same(&a, &now, &format!("{case}: {run:?}"));
        }
        // The next commands look at it, do what is left, and leave nothing behind.
        let status = project.dbelay(&["status"]);
        assert!([0, 1].contains(&status.code), "{case}: {run:?}, {status:?}");
        project.dbelay(&["rollback", "a", "--yes"]).exits(0);
        assert_same(&a, &database.state(), &case);
        project.dbelay(&["migrate", "--", "true"]).exits(0);
        assert_eq!(database.psql("SELECT datname FROM pg_database WHERE datname LIKE 'dbelay\\_rehearsal\\_%'"), "", "{case}");
        project.dbelay(&["fsck", "--read-data"]).exits(0);
    }
    assert_same(&a, &database.state(), "at the end");
}
