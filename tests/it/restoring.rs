//! What a rollback does to a SQLite file that others use, and how little of it it writes.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::databases::{check, check_sql};
use crate::oracle;
use crate::sandbox::Sandbox;

const SHORT_WAIT: &str = "database = \"app.db\"\n[sqlite]\nbusy-timeout-ms = 50\n";

#[test]
fn no_stale_log_brings_the_bad_rows_back() {
    let sandbox =
        Sandbox::with("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'good'),(2,'good')");
    let good = sandbox.copy_db("good.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    // The reader keeps the log from being reset, and what the migration wrote stays in it.
    let (reader, writer) = (sandbox.connect(), sandbox.connect());
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    writer.execute_batch("PRAGMA wal_autocheckpoint=0; UPDATE t SET x='bad'; CREATE TABLE bad(y); INSERT INTO bad VALUES(1)").unwrap();
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    reader.execute_batch("COMMIT").unwrap();
    drop((reader, writer));
    oracle::assert_same(&good, &sandbox.db());
    sandbox.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::copy(sandbox.db(), sandbox.path("alone.db")).unwrap();
    oracle::assert_same(&good, &sandbox.path("alone.db"));
}

#[test]
fn who_holds_the_database_is_named() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    std::fs::write(sandbox.path("dbelay.toml"), SHORT_WAIT).unwrap();
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE t SET x=2");
    let us = format!("(process {})", std::process::id());
    for mode in ["delete", "wal"] {
        sandbox.sql(&format!("PRAGMA journal_mode={mode}"));
        let holder = sandbox.connect();
        holder.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(3)").unwrap();
        sandbox.dbelay(&["rollback", "good"]).exits(11).says(&["is locked by another process", &us, "the database is unchanged"]);
        holder.execute_batch("ROLLBACK").unwrap();
    }
    sandbox.dbelay(&["rollback", "good"]).exits(0);
}

#[test]
fn a_reader_that_does_not_end_stops_a_rollback_without_a_log_in_time_and_nothing_changes() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    std::fs::write(sandbox.path("dbelay.toml"), SHORT_WAIT).unwrap();
    let good = sandbox.copy_db("good.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE t SET x=2");
    let bad = sandbox.copy_db("bad.db");
    let reader = sandbox.connect();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let us = format!("(process {})", std::process::id());
    sandbox.dbelay(&["rollback", "good"]).exits(11).says(&["is locked by another process", &us, "the database is unchanged"]);
    oracle::assert_same(&bad, &sandbox.db());
    reader.execute_batch("COMMIT").unwrap();
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&good, &sandbox.db());
}

#[test]
fn a_writer_that_ends_in_time_is_waited_for() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let holder = sandbox.connect();
    holder.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(2)").unwrap();
    let mut waiting = sandbox.command();
    let mut waiting = waiting.args(["--db", "app.db", "rollback", "good"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    // It cannot end before the writer does, whenever that is.
    assert!(waiting.try_wait().unwrap().is_none());
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 1);
}

#[test]
fn rowids_that_vacuum_renumbered_come_back() {
    check_sql(
        "vacuum",
        "CREATE TABLE src(t); INSERT INTO src(rowid,t) VALUES(10,'ten words'),(20,'twenty words'),(30,'thirty');
         CREATE VIRTUAL TABLE f USING fts5(t, content='src'); INSERT INTO f(f) VALUES('rebuild')",
        "DELETE FROM src WHERE rowid=20; VACUUM",
    );
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t(rowid,x) VALUES(10,'a'),(20,'b')");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("VACUUM");
    assert_eq!(sandbox.number("SELECT sum(rowid) FROM t"), 3);
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    assert_eq!(sandbox.number("SELECT sum(rowid) FROM t"), 30);
}

#[test]
fn a_sequence_goes_on_where_it_was_after_a_rebuild() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO t(x) VALUES(1),(2),(3); DELETE FROM t WHERE id=3",
    );
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql(
        "CREATE TABLE n(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
    );
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    sandbox.sql("INSERT INTO t(x) VALUES('next')");
    assert_eq!(sandbox.number("SELECT max(id) FROM t"), 4);
}

#[test]
fn rows_that_drop_table_cascaded_away_come_back() {
    let sandbox = Sandbox::with(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE tree(id INTEGER PRIMARY KEY, up REFERENCES tree(id) ON DELETE SET NULL);
         INSERT INTO p VALUES(1),(2); INSERT INTO c VALUES(1,1),(2,2),(3,2); INSERT INTO tree VALUES(1,NULL),(2,1),(3,2)",
    );
    check("cascade", &sandbox, &|sandbox| {
        sandbox.sql(
            "PRAGMA foreign_keys=ON; CREATE TABLE p_new(id INTEGER PRIMARY KEY, x); INSERT INTO p_new SELECT id, 1 FROM p; DROP TABLE p;
             ALTER TABLE p_new RENAME TO p; DELETE FROM tree WHERE id=1",
        );
        assert_eq!(sandbox.number("SELECT count(*) FROM c"), 0);
    });
    assert_eq!(sandbox.number("SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

#[test]
fn permissions_and_owner_of_the_file_are_kept() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    std::fs::set_permissions(sandbox.db(), std::fs::Permissions::from_mode(0o640)).unwrap();
    if rustix::process::getuid().is_root() {
        std::os::unix::fs::chown(sandbox.db(), Some(4242), Some(4343)).unwrap();
    }
    let of = |metadata: std::fs::Metadata| (metadata.mode(), metadata.uid(), metadata.gid(), metadata.ino());
    let before = of(sandbox.db().metadata().unwrap());
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("DROP TABLE t; CREATE TABLE u(y)");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    sandbox.dbelay(&["undo"]).exits(0);
    assert_eq!(of(sandbox.db().metadata().unwrap()), before);
}

#[test]
fn a_rollback_writes_the_pages_of_the_rows_that_differ() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE TABLE other(x)");
    sandbox.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<40000) INSERT INTO t SELECT i, 'row number '||i FROM n; INSERT INTO other SELECT x FROM t");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE t SET x='changed' WHERE id % 4000 = 7");
    let before = std::fs::read(sandbox.db()).unwrap();
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    let after = std::fs::read(sandbox.db()).unwrap();
    assert_eq!(before.len(), after.len());
    let pages = before.chunks(4096).zip(after.chunks(4096)).filter(|(a, b)| a != b).count();
    // Ten rows on ten pages, and the header.
    assert!((2..=11).contains(&pages), "{pages} of {} pages were written", after.len() / 4096);
}

#[test]
fn an_equal_database_keeps_its_change_counter_and_times() {
    for mode in ["delete", "wal"] {
        let sandbox = Sandbox::with(&format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO t(x) VALUES(1); ANALYZE; PRAGMA user_version=3"
        ));
        sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
        let look = || {
            let metadata = sandbox.db().metadata().unwrap();
            (std::fs::read(sandbox.db()).unwrap(), metadata.mtime(), metadata.mtime_nsec())
        };
        let before = look();
        sandbox.dbelay(&["rollback", "good"]).exits(0).says(&["nothing to do"]);
        sandbox.dbelay(&["migrate", "--", "true"]).exits(0);
        sandbox.dbelay(&["status"]).exits(0);
        assert!(look() == before, "{mode}: the file was written");
    }
}

#[test]
fn a_rollback_to_the_snapshot_of_another_database_must_be_meant() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot", "--tag", "mine"]).exits(0);
    let other = rusqlite::Connection::open(sandbox.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs(y)").unwrap();
    drop(other);
    let bytes = std::fs::read(sandbox.path("other.db")).unwrap();
    sandbox.run(&["--db", "other.db", "rollback", "mine"]).exits(2).says(&["is of `", "--force-identity"]);
    assert_eq!(std::fs::read(sandbox.path("other.db")).unwrap(), bytes);
    sandbox.run(&["--db", "other.db", "rollback", "mine", "--force-identity"]).exits(0);
    oracle::assert_same(&sandbox.db(), &sandbox.path("other.db"));
    sandbox.run(&["--db", "other.db", "undo"]).exits(0);
    let back = rusqlite::Connection::open(sandbox.path("other.db")).unwrap();
    assert_eq!(back.query_row("SELECT group_concat(name) FROM sqlite_schema", [], |row| row.get::<_, String>(0)).unwrap(), "theirs");
}

#[test]
fn a_damaged_database_never_becomes_a_snapshot_that_hides_it() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    sandbox
        .sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000) INSERT INTO t SELECT i, 'row number '||i FROM n");
    let good = sandbox.copy_db("good.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let bytes = std::fs::read(sandbox.db()).unwrap();
    // Any page but the first, one after another, overwritten with noise: where SQLite cannot read the table, there is no snapshot of it.
    for page in (1..bytes.len() / 4096).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[page * 4096..page * 4096 + 200].fill(0xa5);
        std::fs::write(sandbox.db(), &damaged).unwrap();
        sandbox.dbelay(&["snapshot"]).exits(3).says(&["the database is damaged", "dbelay restore"]);
        sandbox.dbelay(&["migrate", "--", "true"]).exits(3).says(&["the database is damaged", "the migration was not begun"]);
        assert!(std::fs::read(sandbox.db()).unwrap() == damaged);
    }
    // Two pages that have changed places are each as they should be.
    let mut swapped = bytes.clone();
    let (a, b) = (bytes.len() / 4096 / 3 * 4096, bytes.len() / 4096 / 2 * 4096);
    swapped[a..a + 4096].copy_from_slice(&bytes[b..b + 4096]);
    swapped[b..b + 4096].copy_from_slice(&bytes[a..a + 4096]);
    std::fs::write(sandbox.db(), &swapped).unwrap();
    sandbox.dbelay(&["snapshot"]).exits(3).says(&["the database is damaged", "out of order"]);
    sandbox.dbelay(&["restore", "good", "--to", "new.db"]).exits(0);
    oracle::assert_same(&good, &sandbox.path("new.db"));
    assert_eq!(sandbox.dbelay(&["log", "--json"]).json()["snapshots"].as_array().unwrap().len(), 1);
}
