//! A disk that becomes full at any write: the right message, the database before or after, the store sound.
//!
//! The disk is full for the process under test only: a library loaded before the C library fails its n-th write to a file and every one
//! after it.
#![cfg(target_os = "linux")]

use crate::oracle;
use crate::sandbox::{Run, Sandbox, compile, copy_folder, finish};

const WRITES_MAX: u32 = 400;

const BASE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT); CREATE TABLE k(a);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<400) INSERT INTO t SELECT i, 'row number '||i FROM n;
    INSERT INTO k VALUES('k')";
const DAMAGE: &str = "UPDATE t SET x='damaged' WHERE id%3=0; DELETE FROM t WHERE id>350; DROP TABLE k; PRAGMA user_version=5";

/// Runs a command from the same beginning again and again, with the disk full from one write later on each time, until it succeeds.
fn check(mode: &str, prepare: &dyn Fn(&Sandbox), arguments: &[&str], codes: &[i32], after: &dyn Fn(&Sandbox, &Run)) {
    let sandbox = Sandbox::with(&format!("PRAGMA journal_mode={mode}; {BASE}"));
    let tools = tempfile::tempdir().unwrap();
    let shim = tools.path().join("shim.so");
    compile("shim_disk_full.c", &shim);
    prepare(&sandbox);
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&sandbox.path(""), kept.path());
    let mut seen = Vec::new();
    for at in 1..WRITES_MAX {
        for entry in std::fs::read_dir(sandbox.path("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        copy_folder(kept.path(), &sandbox.path(""));
        let mut command = sandbox.command();
        command.args(["--db", "app.db"]).args(arguments).env("LD_PRELOAD", &shim).env("DBELAY_SHIM_FULL_AT", at.to_string());
        let run = finish(&mut command);
        if run.code == 0 && !run.stderr.contains("warning") {
            assert!(at > 5, "nothing was written");
            assert!(!seen.is_empty());
            return;
        }
        assert!(codes.contains(&run.code), "{mode}, write {at}: exit {}\n{}", run.code, run.stderr);
        assert!(run.stderr.contains("o space left") || run.stderr.contains("disk is full"), "{mode}, write {at}: {}", run.stderr);
        if sandbox.path(".dbelay/config.json").exists() {
            sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
        }
        after(&sandbox, &run);
        // With room again, the next command works.
        sandbox.dbelay(&["snapshot"]).exits(0);
        sandbox.dbelay(&["status"]).exits(0);
        seen.push(run.code);
    }
    panic!("more than {WRITES_MAX} writes");
}

#[test]
fn a_disk_full_during_a_snapshot_leaves_the_database_and_the_store_alone() {
    for mode in ["delete", "wal"] {
        let expected = Sandbox::with(&format!("PRAGMA journal_mode={mode}; {BASE}"));
        check(mode, &|_| {}, &["snapshot"], &[3], &|sandbox, _| oracle::assert_same(&expected.db(), &sandbox.db()));
    }
}

#[test]
fn a_disk_full_during_a_rollback_leaves_the_database_before_or_after() {
    for mode in ["delete", "wal"] {
        let good = Sandbox::with(&format!("PRAGMA journal_mode={mode}; {BASE}"));
        let (good_dump, damaged_dump) = (oracle::dump(&good.db()), {
            good.sql(DAMAGE);
            oracle::dump(&good.db())
        });
        let prepare = |sandbox: &Sandbox| {
            sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
            sandbox.sql(DAMAGE);
        };
        check(mode, &prepare, &["rollback", "good"], &[0, 3], &|sandbox, run| {
            let now = oracle::dump(&sandbox.db());
            if run.code == 0 {
                assert_eq!(now, good_dump);
            } else {
                assert_eq!(now, damaged_dump, "{}", run.stderr);
                sandbox.dbelay(&["rollback", "good"]).exits(0);
                assert_eq!(oracle::dump(&sandbox.db()), good_dump);
            }
        });
    }
}

#[test]
fn a_disk_full_during_a_migration_can_be_rolled_back_once_there_is_room() {
    for mode in ["delete", "wal"] {
        let before = Sandbox::with(&format!("PRAGMA journal_mode={mode}; {BASE}"));
        let before_dump = oracle::dump(&before.db());
        let prepare =
            |sandbox: &Sandbox| std::fs::write(sandbox.path("up.sql"), "UPDATE t SET x='new' WHERE id%5=0; CREATE TABLE more(y)").unwrap();
        let program = env!("CARGO_BIN_EXE_dbelay");
        // The command itself meets the full disk too, and fails; then there is no room to roll back either.
        let arguments = ["migrate", "--", program, "--db", "app.db", "demo-apply", "up.sql"];
        check(mode, &prepare, &arguments, &[0, 3, 4, 5], &|sandbox, run| {
            let now = oracle::dump(&sandbox.db());
            if run.stderr.contains("the database is unchanged") || run.code == 4 {
                assert_eq!(now, before_dump, "{}", run.stderr);
            } else if now != before_dump {
                sandbox.dbelay(&["rollback", "pre"]).exits(0);
                assert_eq!(oracle::dump(&sandbox.db()), before_dump);
            }
        });
    }
}
