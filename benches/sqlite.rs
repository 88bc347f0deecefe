//! What dbelay costs on one SQLite database, against copying it, in one run: medians, and ratios to the copy.
//!
//! `cargo bench` builds an application-like database of about 100 MB; `DBELAY_BENCH_DATABASE` names another to use instead, and
//! `DBELAY_BENCH_ROUNDS` how often each measurement is taken (5).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that cannot go on has no result")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Rows of the larger table of the generated database.
const ROWS: u64 = 700_000;

struct Bench {
    dir: tempfile::TempDir,
    rounds: usize,
    copy: Duration,
    bytes: u64,
}

fn main() {
    // `cargo test --benches` runs it too, and wants no figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let dir = tempfile::Builder::new().prefix("dbelay-bench-").tempdir().unwrap();
    let source = match std::env::var_os("DBELAY_BENCH_DATABASE") {
        Some(path) => PathBuf::from(path),
        None => generate(dir.path()),
    };
    let rounds = std::env::var("DBELAY_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let bytes = source.metadata().unwrap().len();
    println!("{:.1} MB, medians of {rounds}\n", bytes as f64 / 1e6);
    let mut bench = Bench { dir, rounds, copy: Duration::ZERO, bytes };
    let app = bench.dir.path().join("app.db");
    let copy = bench.measure("copy, synced", &mut |_| {}, &mut |bench| {
        std::fs::copy(&source, bench.dir.path().join("copy.db")).unwrap();
        std::fs::File::open(bench.dir.path().join("copy.db")).unwrap().sync_all().unwrap();
    });
    bench.copy = copy;
    bench.report("copy, synced", copy);
    std::fs::copy(&source, &app).unwrap();
    // A database that changed a moment ago is always read; this measures what happens to one that did not.
    std::thread::sleep(Duration::from_secs(3));

    bench.step("VACUUM INTO", &mut |bench| drop(std::fs::remove_file(bench.dir.path().join("vacuum.db"))), &mut |bench| {
        Connection::open(bench.dir.path().join("app.db"))
            .unwrap()
            .execute("VACUUM INTO ?", [bench.dir.path().join("vacuum.db").to_str()])
            .unwrap();
    });
    bench.step("first snapshot", &mut |bench| drop(std::fs::remove_dir_all(bench.dir.path().join(".dbelay"))), &mut |bench| {
        bench.dbelay(&["snapshot"]);
    });
    bench.step("migrate, first, no-op", &mut |bench| drop(std::fs::remove_dir_all(bench.dir.path().join(".dbelay"))), &mut |bench| {
        bench.dbelay(&["migrate", "--", "true"]);
    });
    bench.step("migrate, again, no-op", &mut |_| {}, &mut |bench| bench.dbelay(&["migrate", "--", "true"]));
    bench.dbelay(&["snapshot", "--tag", "base"]);
    if std::env::var_os("DBELAY_BENCH_DATABASE").is_none() {
        bench.migrations();
    }
    bench.step("snapshot after 1,000 updates", &mut |bench| bench.update(), &mut |bench| bench.dbelay(&["snapshot"]));
    bench.step("diff --stat of the last two", &mut |_| {}, &mut |bench| bench.dbelay(&["diff", "HEAD~1", "HEAD", "--stat"]));
    bench.step(
        "rollback of 1,000 updates",
        &mut |bench| {
            bench.update();
            bench.dbelay(&["snapshot"]);
        },
        &mut |bench| bench.dbelay(&["rollback", "base", "--yes"]),
    );
    println!("\nstore: {:.1} MB", size(&bench.dir.path().join(".dbelay")) as f64 / 1e6);
}

impl Bench {
    fn dbelay(&self, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbelay"));
        command.current_dir(self.dir.path()).args(["-q", "--db", "app.db", "--store", ".dbelay"]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Measures what `migrate` costs around a command that changes something of the generated database, and a rehearsal.
    fn migrations(&self) {
        let bench = self;
        std::fs::write(
            bench.dir.path().join("up.sql"),
            "ALTER TABLE users ADD COLUMN note TEXT; UPDATE users SET note = name WHERE id % 100 = 0",
        )
        .unwrap();
        let apply = [env!("CARGO_BIN_EXE_dbelay"), "-q", "--db", "app.db", "demo-apply", "up.sql"];
        let mut alone = Vec::new();
        bench.step(
            "migrate, a column and 1 %",
            &mut |bench| {
                bench.dbelay(&["rollback", "base", "--yes"]);
                bench.dbelay(&["migrate", "--", "true"]);
                // What changed a moment ago is always read.
                std::thread::sleep(Duration::from_millis(2_300));
                bench.dbelay(&["migrate", "--", "true"]);
            },
            &mut |bench| bench.dbelay(&["migrate", "--"].iter().chain(&apply).copied().collect::<Vec<_>>()),
        );
        for _ in 0..bench.rounds {
            bench.dbelay(&["rollback", "base", "--yes"]);
            let start = Instant::now();
            bench.dbelay(&apply[4..]);
            alone.push(start.elapsed());
        }
        alone.sort();
        bench.report("  the command alone", alone[alone.len() / 2]);
        bench.dbelay(&["rollback", "base", "--yes"]);
        std::thread::sleep(Duration::from_millis(2_300));
        bench.dbelay(&["migrate", "--", "true"]);
        bench.step("migrate --rehearse-only, no-op", &mut |_| {}, &mut |bench| bench.dbelay(&["migrate", "--rehearse-only", "--", "true"]));
    }

    /// Changes the last column of 1,000 rows, spread over the largest table.
    fn update(&self) {
        let connection = Connection::open(self.dir.path().join("app.db")).unwrap();
        let tables: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let count =
            |table: &String| connection.query_row(&format!("SELECT max(rowid) FROM \"{table}\""), [], |row| row.get(0)).unwrap_or(0_i64);
        let table = tables.iter().max_by_key(|table| count(table)).unwrap();
        let column: String =
            connection.query_row("SELECT name FROM pragma_table_info(?) ORDER BY cid DESC LIMIT 1", [table], |row| row.get(0)).unwrap();
        let step = (count(table) / 1000).max(1);
        let sql =
            format!("UPDATE \"{table}\" SET \"{column}\" = 'changed ' || random() WHERE rowid % {step} = 1 AND rowid <= 1000 * {step}");
        connection.execute(&sql, []).unwrap();
    }

    fn measure(&self, _: &str, prepare: &mut dyn FnMut(&Self), run: &mut dyn FnMut(&Self)) -> Duration {
        let mut times: Vec<Duration> = (0..self.rounds)
            .map(|_| {
                prepare(self);
                let start = Instant::now();
                run(self);
                start.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    }

    fn step(&self, name: &str, prepare: &mut dyn FnMut(&Self), run: &mut dyn FnMut(&Self)) {
        let time = self.measure(name, prepare, run);
        self.report(name, time);
    }

    fn report(&self, name: &str, time: Duration) {
        let seconds = time.as_secs_f64();
        println!(
            "{name:<30} {seconds:>8.3} s  {:>7.2} x copy  {:>8.0} MB/s of database",
            seconds / self.copy.as_secs_f64().max(1e-9),
            self.bytes as f64 / 1e6 / seconds
        );
    }
}

/// Builds a database such as an application has: users, posts with text, and a log of events.
fn generate(dir: &Path) -> PathBuf {
    let path = dir.join("generated.db");
    let connection = Connection::open(&path).unwrap();
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
               INSERT INTO posts SELECT i, i*31%{users}+1, 'Title '||(i*48271%9999), hex(randomblob(120)), (i*48271%100000)/1000.0 FROM n;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {ROWS})
               INSERT INTO events SELECT i, i*7919%{users}+1, CASE i%4 WHEN 0 THEN 'view' WHEN 1 THEN 'click' WHEN 2 THEN 'edit' ELSE 'login' END,
                 1700000000+i*17, 'detail of event '||(i*16807%65537) FROM n;",
            users = ROWS / 10,
        ))
        .unwrap();
    path
}

fn size(folder: &Path) -> u64 {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|m| m.len())
        .sum()
}
