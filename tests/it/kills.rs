//! `kill -9` at random moments: the store stays sound, the database is before or after, and the next command says what happened.
//!
//! `DBELAY_TEST_KILLS` sets how many times each command is killed in each journal mode; `DBELAY_TEST_SEED` the first seed.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::oracle;
use crate::property::Random;
use crate::sandbox::Sandbox;

const BASE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE INDEX ti ON t(x); CREATE TABLE k(a);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000) INSERT INTO t SELECT i, 'row number '||i FROM n;
    INSERT INTO k VALUES('k')";
const CHANGE: &str = "UPDATE t SET x='changed '||id WHERE id%3=0; DELETE FROM t WHERE id>2500; DROP TABLE k; PRAGMA user_version=5";

pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Kills a command after a random part of the time that it takes, if it still runs; returns whether it did.
fn kill_somewhere(sandbox: &Sandbox, arguments: &[&str], random: &mut Random, whole: &mut Duration) -> bool {
    let mut command = sandbox.command();
    command.args(["--db", "app.db"]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let started = Instant::now();
    let mut child: Child = command.spawn().unwrap();
    let after = *whole * u32::try_from(random.below(1000)).unwrap() / 1000;
    while started.elapsed() < after {
        if child.try_wait().unwrap().is_some() {
            *whole = (*whole + started.elapsed()) / 2;
            return false;
        }
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The command that a migration wraps outlives its wrapper.
    while is_somebody_in(&sandbox.path("")) {
        std::thread::yield_now();
    }
    true
}

/// Tells whether a process runs in this folder.
pub fn is_somebody_in(folder: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|process| process.path().join("cwd"))
        .any(|cwd| std::fs::read_link(cwd).is_ok_and(|cwd| cwd == folder.canonicalize().unwrap()))
}

/// After how many kills a new project is begun: commands slow down with the snapshots that they leave.
const PROJECT_KILLS: u64 = 50;

#[test]
fn killed_at_any_moment_the_database_is_before_or_after() {
    let (kills, mut seed) = (number("DBELAY_TEST_KILLS", 4), number("DBELAY_TEST_SEED", 1));
    for mode in ["delete", "wal"] {
        for name in ["rollback", "undo", "migrate", "snapshot"] {
            let (mut killed, mut left) = (0, kills);
            while left > 0 {
                let now = left.min(PROJECT_KILLS);
                killed += kill_often(mode, name, now, seed);
                (left, seed) = (left - now, seed + 1);
            }
            println!("{mode}, {name}: killed {killed} of {kills} times before the end");
        }
    }
}

/// Kills one command again and again in a project of its own; returns how often it was not done yet.
fn kill_often(mode: &str, name: &str, kills: u64, seed: u64) -> u64 {
    let sandbox = Sandbox::with(&format!("PRAGMA journal_mode={mode}; {BASE}"));
    std::fs::write(sandbox.path("up.sql"), CHANGE).unwrap();
    let a = oracle::dump(&sandbox.db());
    sandbox.dbelay(&["snapshot", "--tag", "a"]).exits(0);
    sandbox.sql(CHANGE);
    let b = oracle::dump(&sandbox.db());
    sandbox.dbelay(&["snapshot", "--tag", "b"]).exits(0);
    let program = env!("CARGO_BIN_EXE_dbelay");
    let migrate = ["migrate", "--allow", "t", "--allow", "k", "--", program, "--db", "app.db", "demo-apply", "up.sql"];
    let arguments: &[&str] = match name {
        "rollback" => &["rollback", "a"],
        "migrate" => &migrate,
        other => &[other],
    };
    let mut random = Random::new(seed);
    let (mut whole, mut killed) = (Duration::from_millis(100), 0);
    for _ in 0..kills {
        // What there is to do: back from b to a, or from a to b.
        sandbox.dbelay(&["rollback", if name == "rollback" { "b" } else { "a" }]).exits(0);
        if name == "undo" {
            sandbox.dbelay(&["rollback", "b"]).exits(0);
        }
        if name == "snapshot" {
            sandbox.sql("UPDATE t SET x='other '||id WHERE id%7=0");
        }
        let before = oracle::dump(&sandbox.db());
        killed += u64::from(kill_somewhere(&sandbox, arguments, &mut random, &mut whole));
        sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
        let now = oracle::dump(&sandbox.db());
        assert!(now == before || (name != "snapshot" && (now == a || now == b)), "{mode}, {name}: neither before nor after");
        // The next command knows: what is as before or as intended is settled, what is neither must be decided.
        let next = sandbox.dbelay(&["migrate", "--", "true"]);
        assert!(next.code == 0 || (next.code == 3 && next.stderr.contains("was interrupted") && now == b), "{}", next.stderr);
        if next.code == 3 {
            assert!(name == "migrate", "{mode}, {name}: {}", next.stderr);
            sandbox.dbelay(&["rollback", "pre"]).exits(0);
            assert!(oracle::dump(&sandbox.db()) == a, "{mode}, {name}: not rolled back");
        }
        assert_eq!(sandbox.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
    }
    killed
}
