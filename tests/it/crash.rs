//! A migration that dies at its n-th durable step, for every n: the store stays sound, the database is before or after, the next command says
//! what to do, and each of the ways that it names leads out. Other operations, and deaths elsewhere, are in [`crate::faults`].

use crate::oracle;
use crate::sandbox::{Sandbox, copy_folder, finish};

/// The most steps that one command takes.
const STEPS_MAX: u64 = 400;

const BASE: &str = "
CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);
CREATE TABLE keyless(a);
INSERT INTO t VALUES(1,'a'),(2,'b'),(3,'c');
INSERT INTO keyless VALUES('k');
";

/// Prepares a project, then runs a command again and again, each time from the same beginning, dying one step later, until it lives.
pub fn check(prepare: &dyn Fn(&Sandbox), arguments: &[&str], live_code: i32, after_death: &dyn Fn(&Sandbox)) {
    let sandbox = Sandbox::with(BASE);
    prepare(&sandbox);
    let kept = tempfile::tempdir().unwrap();
    copy_folder(&sandbox.path(""), kept.path());
    for step in 1..STEPS_MAX {
        for entry in std::fs::read_dir(sandbox.path("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        copy_folder(kept.path(), &sandbox.path(""));
        let mut command = sandbox.command();
        command.args(["--db", "app.db"]).args(arguments).env("DBELAY_TEST_DIE_AT_STEP", step.to_string());
        let run = finish(&mut command);
        if run.code != -1 {
            assert_eq!(run.code, live_code, "{}", run.stderr);
            assert!(step > 3, "the command took no durable steps");
            return;
        }
        if sandbox.path(".dbelay/config.json").exists() {
            sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
        }
        after_death(&sandbox);
        // Whatever was left behind, the next command works.
        sandbox.dbelay(&["snapshot"]).exits(0);
        sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
        sandbox.dbelay(&["status"]).exits(0).prints(&["the database is equal to it"]);
    }
    panic!("more than {STEPS_MAX} steps");
}

/// Asserts that a database is what it was before the migration, or what the command made of it.
type IsAfter<'a> = dyn Fn(&Sandbox, bool) + 'a;

/// Takes a migration that dies through one way out; `way` is called where the command's work is in the database.
fn check_migration(way: &dyn Fn(&Sandbox, &IsAfter<'_>)) {
    let before = Sandbox::with(BASE);
    let sql = "UPDATE t SET x = 'half'; DELETE FROM keyless";
    let after = Sandbox::with(BASE);
    after.sql(sql);
    let (before_dump, after_dump) = (oracle::dump(&before.db()), oracle::dump(&after.db()));
    let program = env!("CARGO_BIN_EXE_dbelay");
    check(
        &|sandbox| {
            std::fs::write(sandbox.path("up.sql"), sql).unwrap();
            sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
        },
        &["migrate", "--", program, "--db", "app.db", "demo-apply", "up.sql"],
        4,
        &|sandbox| {
            let now = oracle::dump(&sandbox.db());
            assert!(now == before_dump || now == after_dump, "{now}");
            if now == after_dump {
                let said = ["was interrupted", "dbelay rollback pre", "--resume", "--accept"];
                sandbox.dbelay(&["migrate", "--", "true"]).exits(3).says(&said);
                way(sandbox, &|sandbox, is_after| {
                    assert_eq!(oracle::dump(&sandbox.db()), if is_after { after_dump.clone() } else { before_dump.clone() });
                });
            }
        },
    );
}

#[test]
fn a_migration_that_dies_can_be_rolled_back() {
    check_migration(&|sandbox, is_after| {
        sandbox.dbelay(&["rollback"]).exits(0);
        is_after(sandbox, false);
    });
}

#[test]
fn a_migration_that_dies_can_be_resumed_and_is_judged_as_a_whole() {
    check_migration(&|sandbox, is_after| {
        sandbox.dbelay(&["migrate", "--resume"]).exits(4).says(&["`keyless` are gone"]);
        is_after(sandbox, false);
    });
}

#[test]
fn a_migration_that_dies_can_be_accepted_and_undone() {
    check_migration(&|sandbox, is_after| {
        sandbox.dbelay(&["migrate", "--accept"]).exits(0);
        is_after(sandbox, true);
        sandbox.dbelay(&["undo"]).exits(0);
        is_after(sandbox, false);
    });
}
