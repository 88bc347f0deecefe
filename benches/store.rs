//! What a store of many snapshots costs: a database of about 100 MB, 1,000 snapshots of it with 100 random edits between each, and then the time of
//! what reads or cleans the store.
//!
//! `cargo bench --bench store`. `DBELAY_BENCH_SNAPSHOTS` is the number of snapshots (1,000), `DBELAY_BENCH_ROUNDS` how often what changes
//! nothing is measured (5), `DBELAY_BENCH_FOLDER` a folder in which the database and its store are made, and kept: what is there already is
//! gone on with, so that a store need be made only once. Each measurement that changes the store is made on a copy.
//!
//! Snapshots of SQLite read the whole database. To make 1,000 of them in minutes, the edited rows alone are taken over from snapshot to snapshot
//! ([`dbelay::snapshot::splice`]); that this gives the same objects is looked at in the end.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on has no result")]

#[path = "store/edits.rs"]
mod edits;
#[path = "shared/mod.rs"]
mod shared;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use shared::environment::{Folder, folder_bytes, is_bench, read};

/// Rows of the larger table of the database.
const ROWS: u64 = 700_000;

/// What `log` and `status` may take.
const TARGET: Duration = Duration::from_millis(100);

struct Bench {
    folder: PathBuf,
    rounds: usize,
}

fn main() {
    if !is_bench() {
        return;
    }
    let folder = Folder::open();
    let snapshots = read("DBELAY_BENCH_SNAPSHOTS", 1_000);
    let bench = Bench { folder: folder.path().to_owned(), rounds: read("DBELAY_BENCH_ROUNDS", 5) };
    bench.fill(snapshots);
    bench.size("store");
    // What changed a moment ago is always read.
    std::thread::sleep(Duration::from_secs(3));
    bench.dbelay(&["migrate", "--", "true"]);
    bench.read_only("as it grew");
    bench.step("gc, nothing forgotten", 1, &["gc", "--grace", "0"]);
    bench.size("store");
    bench.read_only("after gc");
    bench.forget(snapshots / 10);
    bench.step("gc --dry-run, nine of ten forgotten", 1, &["gc", "--dry-run"]);
    bench.step("gc, nine of ten forgotten", 1, &["gc", "--grace", "0"]);
    bench.step("gc, nothing to do", bench.rounds, &["gc", "--grace", "0"]);
    bench.size("store");
    bench.step("fsck --read-data", 1, &["fsck", "--read-data"]);
    std::fs::remove_dir_all(bench.folder.join(".dbelay")).unwrap();
    std::fs::rename(bench.folder.join("full"), bench.folder.join(".dbelay")).unwrap();
}

impl Bench {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbelay"));
        command.current_dir(&self.folder).args(["-q", "--db", "app.db", "--store", ".dbelay"]).args(arguments).output().unwrap()
    }

    fn dbelay(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes the database and its snapshots, as far as they are not there.
    fn fill(&self, snapshots: u64) {
        let (store, full) = (self.folder.join(".dbelay"), self.folder.join("full"));
        if full.exists() {
            drop(std::fs::remove_dir_all(&store));
            std::fs::rename(&full, &store).unwrap();
        }
        let db = self.folder.join("app.db");
        if !db.exists() {
            generate(&db);
        }
        let there = std::fs::read_dir(store.join("snapshots")).map_or(0, |files| files.count() as u64);
        if there == 0 {
            self.dbelay(&["snapshot"]);
        }
        let start = Instant::now();
        edits::fill(&store, &db, snapshots);
        println!("{:<40} {:>8.1} s", "edits and snapshots, spliced", start.elapsed().as_secs_f64());
        // The database read as a whole gives the objects that are there already: the shortcut made what snapshots would have made.
        let output = self.run(&["snapshot", "--json"]);
        let taken: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(taken["stats"]["objects_new"], 0, "{taken}");
        println!("{:<40} {:>8.1} MB", "database", db.metadata().unwrap().len() as f64 / 1e6);
        copy(&store, &full);
    }

    fn read_only(&self, when: &str) {
        println!("\n{when}");
        let log = self.step("log", self.rounds, &["log"]);
        let status = self.step("status", self.rounds, &["status"]);
        for (name, time) in [("log", log), ("status", status)] {
            println!("  {name} is {} {} ms", if time < TARGET { "under" } else { "NOT under" }, TARGET.as_millis());
        }
        self.step("diff --stat of the last two", self.rounds, &["diff", "HEAD~1", "HEAD", "--stat"]);
        self.step("diff --stat of first and last", 1, &["diff", &format!("HEAD~{}", self.snapshots() - 1), "HEAD", "--stat"]);
        self.step("fsck", 1, &["fsck"]);
    }

    fn snapshots(&self) -> usize {
        std::fs::read_dir(self.folder.join(".dbelay/snapshots")).unwrap().count()
    }

    /// Forgets all but so many snapshots.
    fn forget(&self, keep: u64) {
        println!();
        if self.run(&["forget", "--help"]).status.success() {
            self.step("forget nine of ten", 1, &["forget", "--keep-last", &keep.to_string(), "--yes"]);
            return;
        }
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.folder.join(".dbelay/snapshots")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.metadata().unwrap().modified().unwrap()));
        files.iter().skip(usize::try_from(keep).unwrap()).for_each(|file| std::fs::remove_file(file).unwrap());
    }

    fn step(&self, name: &str, rounds: usize, arguments: &[&str]) -> Duration {
        let mut times: Vec<Duration> = (0..rounds)
            .map(|_| {
                let start = Instant::now();
                self.dbelay(arguments);
                start.elapsed()
            })
            .collect();
        times.sort();
        let time = times[times.len() / 2];
        println!("{name:<40} {:>8.3} s", time.as_secs_f64());
        time
    }

    fn size(&self, name: &str) {
        let files = walkdir::WalkDir::new(self.folder.join(".dbelay")).into_iter().filter_map(Result::ok);
        let packs = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "pack")).count();
        let bytes = folder_bytes(&self.folder.join(".dbelay"));
        println!("{name:<40} {:>8.1} MB in {packs} packs", bytes as f64 / 1e6);
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(target).unwrap();
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Builds a database such as an application has: users, posts with text, and a log of events.
fn generate(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
             CREATE TABLE users(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, created TEXT);
             CREATE TABLE posts(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id), title TEXT, body TEXT, score REAL);
             CREATE TABLE events(id INTEGER PRIMARY KEY, user_id INTEGER, kind TEXT, at INTEGER, detail TEXT);
             CREATE INDEX events_user ON events(user_id);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {users})
               INSERT INTO users SELECT i, 'user'||i||'@example.org', 'Name '||(i*7919%100003), date('2020-01-01', '+'||(i%2000)||' days') FROM n;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {users} * 2)
               INSERT INTO posts SELECT i, i*31%{users}+1, 'Title '||(i*48271%9999), hex(randomblob(160)), (i*48271%100000)/1000.0 FROM n;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {ROWS})
               INSERT INTO events SELECT i, i*7919%{users}+1, CASE i%4 WHEN 0 THEN 'view' WHEN 1 THEN 'click' WHEN 2 THEN 'edit' ELSE 'login' END,
                 1700000000+i*17, 'detail of event '||(i*16807%65537) FROM n;",
            users = ROWS / 10,
        ))
        .unwrap();
}
