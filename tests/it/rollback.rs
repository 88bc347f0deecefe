//! Rollback and restore: exact, minimal, in one transaction, and refused where they cannot be.

use crate::oracle;
use crate::sandbox::Sandbox;

const APP: &str = "
PRAGMA user_version = 7;
CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, age INT);
CREATE TABLE notes(body TEXT);
CREATE INDEX by_age ON users(age);
CREATE VIEW adults AS SELECT * FROM users WHERE age > 17;
CREATE TRIGGER no_delete BEFORE DELETE ON users BEGIN SELECT RAISE(ABORT, 'never'); END;
INSERT INTO users(name, age) VALUES('ann', 40), ('bob', 41), ('cid', 42);
INSERT INTO notes VALUES('one'), ('one'), ('two');
";

#[test]
fn rows_schema_and_settings_come_back() {
    let sandbox = Sandbox::with(APP);
    let kept = sandbox.copy_db("kept.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql(
        "DROP TRIGGER no_delete; DELETE FROM users WHERE id = 2; UPDATE users SET name = 'x', age = NULL WHERE id = 1;
         INSERT INTO users(name) VALUES('new'); DROP VIEW adults; DROP INDEX by_age; ALTER TABLE notes ADD COLUMN extra;
         PRAGMA user_version = 8; CREATE TABLE junk(x); DELETE FROM notes WHERE rowid = 1",
    );
    let damaged = sandbox.copy_db("damaged.db");
    sandbox.dbelay(&["rollback", "good"]).exits(0).says(&["the database is equal to good", "verified"]);
    oracle::assert_same(&kept, &sandbox.db());
    sandbox.dbelay(&["undo"]).exits(0);
    oracle::assert_same(&damaged, &sandbox.db());
}

#[test]
fn swapped_unique_values_come_back() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE); INSERT INTO t VALUES(1,'a'),(2,'b'),(3,'c')");
    let kept = sandbox.copy_db("kept.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE t SET u = 'tmp' WHERE id=1; UPDATE t SET u='a' WHERE id=2; UPDATE t SET u='b' WHERE id=1");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn only_rows_that_differ_are_written() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    sandbox.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<50000) INSERT INTO t SELECT i, 'row '||i FROM n");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE t SET x='changed' WHERE id=777; DELETE FROM t WHERE id=30000; INSERT INTO t VALUES(60000,'new')");
    let run = sandbox.dbelay(&["rollback", "good", "--json"]).exits(0);
    let written = &run.json()["written"];
    assert_eq!((written["deleted"].as_u64(), written["updated"].as_u64(), written["inserted"].as_u64()), (Some(1), Some(1), Some(1)));
}

#[test]
fn an_equal_database_is_not_written() {
    let sandbox = Sandbox::with(APP);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let before = (std::fs::read(sandbox.db()).unwrap(), sandbox.db().metadata().unwrap().modified().unwrap());
    sandbox.dbelay(&["rollback", "good"]).exits(0).says(&["nothing to do"]);
    assert_eq!(before, (std::fs::read(sandbox.db()).unwrap(), sandbox.db().metadata().unwrap().modified().unwrap()));
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let sandbox = Sandbox::with(APP);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE users SET age = 1; ALTER TABLE notes ADD COLUMN extra; PRAGMA user_version = 8");
    let before = std::fs::read(sandbox.db()).unwrap();
    sandbox.dbelay(&["rollback", "good", "--dry-run"]).exits(0).prints(&[
        "patch the rows of `users`",
        "make anew table `notes`",
        "fill `notes` with its 3 rows",
        "set user_version from 8 to 7",
    ]);
    assert_eq!(before, std::fs::read(sandbox.db()).unwrap());
    assert_eq!(sandbox.dbelay(&["log", "--json"]).exits(0).json()["snapshots"].as_array().unwrap().len(), 1);
}

#[test]
fn one_table_can_be_rolled_back_alone() {
    let sandbox = Sandbox::with(APP);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE users SET age = 1; DELETE FROM notes; INSERT INTO notes VALUES('later')");
    let damaged = sandbox.copy_db("damaged.db");
    sandbox.dbelay(&["rollback", "good", "--table", "users"]).exits(0);
    assert_eq!(sandbox.number("SELECT sum(age) FROM users"), 123);
    assert_eq!(sandbox.number("SELECT count(*) FROM notes"), 1);
    sandbox.dbelay(&["undo"]).exits(0);
    oracle::assert_same(&damaged, &sandbox.db());
    sandbox.dbelay(&["redo"]).exits(0);
    assert_eq!(sandbox.number("SELECT sum(age) FROM users"), 123);
    sandbox.dbelay(&["rollback", "good", "--table", "nosuch"]).exits(2).says(&["there is no table `nosuch`"]);
}

#[test]
fn a_table_that_was_dropped_comes_back_alone_with_its_sequence() {
    let sandbox = Sandbox::with(APP);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("DROP TRIGGER no_delete; DROP VIEW adults; DROP TABLE users; UPDATE notes SET body = 'kept'");
    sandbox.dbelay(&["rollback", "good", "-t", "users"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM users"), 3);
    assert_eq!(sandbox.number("SELECT count(*) FROM notes WHERE body = 'kept'"), 3);
}

#[test]
fn a_deleted_database_is_made_anew() {
    let sandbox = Sandbox::with(APP);
    let kept = sandbox.copy_db("kept.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    std::fs::remove_file(sandbox.db()).unwrap();
    sandbox.dbelay(&["rollback", "good"]).exits(0).says(&["was gone, and was made anew"]);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn a_writer_that_holds_the_database_stops_the_rollback_and_nothing_changes() {
    let sandbox = Sandbox::with(APP);
    std::fs::write(sandbox.path("dbelay.toml"), "database = \"app.db\"\n[sqlite]\nbusy-timeout-ms = 50\n").unwrap();
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE users SET age = 1");
    let holder = sandbox.connect();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    sandbox.dbelay(&["rollback", "good"]).exits(11).says(&["the database is locked by another process", "the database is unchanged"]);
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sandbox.number("SELECT sum(age) FROM users"), 3);
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    assert_eq!(sandbox.number("SELECT sum(age) FROM users"), 123);
}

#[test]
fn a_reader_is_not_disturbed_in_wal_mode() {
    let sandbox = Sandbox::with(&format!("PRAGMA journal_mode=WAL; {APP}"));
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let reader = sandbox.connect();
    reader.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
    sandbox.sql("UPDATE users SET age = 1");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    assert_eq!(sandbox.number("SELECT sum(age) FROM users"), 123);
    reader.execute_batch("COMMIT").unwrap();
}

#[test]
fn commits_that_are_only_in_the_wal_are_in_the_snapshot() {
    let sandbox = Sandbox::with(&format!("PRAGMA journal_mode=WAL; {APP}"));
    let writer = sandbox.connect();
    writer.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO notes VALUES('in the wal')").unwrap();
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["cat", "live", "notes"]).exits(0).prints(&["in the wal"]);
    sandbox.dbelay(&["cat", "HEAD", "notes"]).exits(0).prints(&["in the wal"]);
}

#[test]
fn restore_writes_a_new_file_and_refuses_one_with_content() {
    let sandbox = Sandbox::with(&format!("PRAGMA page_size=8192; PRAGMA encoding='UTF-16be'; {APP}"));
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["restore", "HEAD", "--to", "copy.db"]).exits(0).says(&["verified"]);
    oracle::assert_same(&sandbox.db(), &sandbox.path("copy.db"));
    sandbox.dbelay(&["restore", "HEAD", "--to", "copy.db"]).exits(2).says(&["exists and is not empty", "dbelay rollback"]);
    sandbox.dbelay(&["restore", "HEAD", "--to", "app.db"]).exits(2);
}

#[test]
fn triggers_stay_silent_and_rows_can_be_written_afterwards() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE TABLE log(what);
         CREATE TRIGGER ins AFTER INSERT ON t BEGIN INSERT INTO log VALUES('ins'); END;
         CREATE TRIGGER del AFTER DELETE ON t BEGIN INSERT INTO log VALUES('del'); END;
         INSERT INTO t VALUES(1,'a'),(2,'b')",
    );
    let kept = sandbox.copy_db("kept.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("DELETE FROM t WHERE id=1; INSERT INTO t VALUES(3,'c')");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&kept, &sandbox.db());
    sandbox.sql("INSERT INTO t VALUES(9,'z')");
    assert_eq!(sandbox.number("SELECT count(*) FROM log"), 3);
}

#[test]
fn foreign_key_cycles_and_self_references_come_back() {
    let sandbox = Sandbox::with(
        "CREATE TABLE a(id INTEGER PRIMARY KEY, b REFERENCES b(id) ON DELETE CASCADE);
         CREATE TABLE b(id INTEGER PRIMARY KEY, a REFERENCES a(id) ON DELETE CASCADE, self REFERENCES b(id));
         INSERT INTO a VALUES(1,1); INSERT INTO b VALUES(1,1,1)",
    );
    let kept = sandbox.copy_db("kept.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("PRAGMA foreign_keys=ON; DELETE FROM a");
    assert_eq!(sandbox.number("SELECT count(*) FROM b"), 0);
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn a_rollback_of_one_table_speaks_of_that_table() {
    let sandbox = Sandbox::with(APP);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE users SET age = 1; DELETE FROM notes");
    sandbox.dbelay(&["rollback", "good", "-t", "notes"]).exits(0).says(&["table `notes` is equal to good"]);
}

#[test]
fn a_name_that_another_table_has_now_is_told_and_nothing_changes() {
    let sandbox = Sandbox::with(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, v); INSERT INTO p VALUES(1); INSERT INTO c VALUES(1,1); CREATE INDEX ci ON c(v)",
    );
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let good = sandbox.copy_db("good.db");
    sandbox.sql("DROP TABLE p; ALTER TABLE c RENAME TO p");
    let renamed = sandbox.copy_db("renamed.db");
    sandbox.dbelay(&["rollback", "good", "-t", "c"]).exits(3).says(&["index `ci` of `c` cannot come back", "roll back everything"]);
    oracle::assert_same(&renamed, &sandbox.db());
    sandbox.dbelay(&["rollback", "good", "-t", "c", "-t", "p"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM c INDEXED BY ci"), 1);
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&good, &sandbox.db());
}

#[test]
fn a_writer_that_never_stops_does_not_stop_a_rollback() {
    let sandbox = Sandbox::with("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    sandbox.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) INSERT INTO t SELECT i, 'row '||i FROM n");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (stop, connection) = (std::sync::Arc::clone(&stop), sandbox.connect());
        connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                connection.execute("INSERT INTO t(x) VALUES('again')", []).unwrap();
            }
        })
    };
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}
