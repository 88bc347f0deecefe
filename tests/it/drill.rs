//! The proof that a snapshot restores: what is told of it and kept, what a database may be like, and what is no proof.

use crate::sandbox::Sandbox;

/// What lies in a project's folder besides what the test put there.
fn scratch_folders(sandbox: &Sandbox) -> usize {
    let entries = std::fs::read_dir(sandbox.path("")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".dbelay-rehearsal")).count()
}

#[test]
fn a_drill_is_told_by_status_log_and_show() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x UNIQUE); INSERT INTO t VALUES(1,'a'),(2,'b')");
    sandbox.dbelay(&["snapshot", "--tag", "one"]).exits(0);
    sandbox.dbelay(&["status"]).exits(0).prints(&["last proven restorable: never"]);
    assert_eq!(sandbox.dbelay(&["status", "--json"]).json()["last_proven"], serde_json::Value::Null);
    sandbox.dbelay(&["verify", "--drill", "--dry-run"]).exits(0);
    let run = sandbox.dbelay(&["verify", "--drill"]).exits(0);
    run.prints(&["proven: snapshot", "2 rows, compared by ids", "a row written into 1 of 1 table"]);
    sandbox.sql("INSERT INTO t VALUES(3,'c')");
    sandbox.dbelay(&["snapshot", "--tag", "two"]).exits(0);
    let one = sandbox.dbelay(&["show", "one", "--json"]).json();
    let status = sandbox.dbelay(&["status", "--json"]).json();
    assert_eq!(status["last_proven"]["snapshot"], one["id"]);
    assert_eq!(status["last_proven"]["rows"], 2);
    sandbox.dbelay(&["status"]).exits(0).prints(&["last proven restorable: just now, snapshot"]);
    let log = sandbox.dbelay(&["log", "--json"]).json();
    assert!(log["snapshots"][0]["proven"].is_null() && log["snapshots"][1]["proven"]["tables"] == 1, "{log}");
    sandbox.dbelay(&["log", "--oneline"]).exits(0).prints(&["proven restorable just now"]);
    sandbox.dbelay(&["show", "one"]).exits(0).prints(&["proven   restorable just now"]);
    let op = sandbox.dbelay(&["op", "log", "--json"]).json();
    assert!(op["operations"].as_array().unwrap().iter().any(|op| op["entry"]["drill"]["written"] == 1), "{op}");
    let both = sandbox.dbelay(&["verify", "--drill", "one", "two", "--json"]).exits(0).json();
    assert_eq!(both["drills"].as_array().unwrap().len(), 2);
    assert_eq!(scratch_folders(&sandbox), 0);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 3);
}

#[test]
fn verify_reads_everything_and_is_kept_in_the_log() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x)");
    sandbox.sql("INSERT INTO t VALUES(1, zeroblob(100000)), (2, 'b')");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql("ALTER TABLE t ADD COLUMN y TEXT DEFAULT 'd'; CREATE TABLE w(a TEXT PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO w VALUES('z',1),('a',2)");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["verify"]).exits(0).prints(&["sound: 2 snapshots"]).says(&["`--drill"]);
    let json = sandbox.dbelay(&["verify", "--all", "--json"]).exits(0).json();
    assert_eq!((json["sound"].as_bool(), json["whole"].as_array().unwrap().len()), (Some(true), 2));
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["verify", "2 snapshots whole"]);
    sandbox.dbelay(&["verify", "--all", "HEAD"]).exits(2);
}

#[test]
fn a_database_without_rows_or_tables_is_no_false_alarm() {
    let sandbox = Sandbox::with("PRAGMA user_version=7");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["verify", "--drill"]).exits(0).prints(&["proven: snapshot", "no tables to write into"]);
    sandbox.sql(
        "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT NOT NULL, at DATETIME NOT NULL, u UNIQUE NOT NULL);
         CREATE TABLE b(a_id INTEGER NOT NULL REFERENCES a(id), c_id INTEGER NOT NULL REFERENCES c(id), PRIMARY KEY(a_id, c_id)) WITHOUT ROWID;
         CREATE TABLE c(id INTEGER PRIMARY KEY, up INTEGER REFERENCES c(id), s AS (id + 1));",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["verify"]).exits(0);
    sandbox.dbelay(&["verify", "--drill"]).exits(0).prints(&["a row written into 3 of 3 tables"]);
}

#[test]
fn a_constraint_that_cannot_be_guessed_is_told_and_no_failure() {
    let sandbox = Sandbox::with(
        "CREATE TABLE code(id INTEGER PRIMARY KEY, x TEXT NOT NULL CHECK(x GLOB 'A-[0-9]*'));
         CREATE TABLE full(kind TEXT PRIMARY KEY CHECK(kind IN ('a','b')));
         CREATE TABLE like_others(id INTEGER PRIMARY KEY, x TEXT NOT NULL CHECK(x GLOB 'A-[0-9]*'));
         INSERT INTO full VALUES('a'),('b'); INSERT INTO like_others VALUES(7,'A-1')",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    let run = sandbox.dbelay(&["verify", "--drill"]).exits(0);
    run.prints(&[
        "a row written into 1 of 3 tables",
        "not written: `code`: CHECK constraint failed",
        "not written: `full`: CHECK constraint failed",
    ]);
}

#[test]
fn what_the_snapshot_itself_has_is_no_failure_of_it() {
    let sandbox = Sandbox::with(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, p REFERENCES p(id)); INSERT INTO c VALUES(1, 99);
         CREATE TRIGGER t AFTER INSERT ON p BEGIN SELECT raise(ABORT, 'never'); END;
         CREATE VIRTUAL TABLE words USING fts5(x); INSERT INTO words VALUES('hello')",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["verify"]).exits(0);
    sandbox.dbelay(&["verify", "--drill"]).exits(0).says(&["do not exist (so does the snapshot)"]).prints(&["2 of 2 tables"]);
}

#[test]
fn a_snapshot_that_lost_something_is_not_proven() {
    let sandbox = Sandbox::with("CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'a')");
    sandbox.dbelay(&["snapshot"]).exits(0);
    // The chunk of the column is damaged, and nothing else.
    let show = sandbox.dbelay(&["show", "HEAD", "--json"]).json();
    let pack =
        walkdir::WalkDir::new(sandbox.path(".dbelay/packs")).into_iter().map(Result::unwrap).find(|e| e.file_type().is_file()).unwrap();
    let mut bytes = std::fs::read(pack.path()).unwrap();
    let at = bytes.windows(5).position(|window| window == b"[\"a\"]").unwrap();
    bytes[at + 2] = b'b';
    std::fs::write(pack.path(), bytes).unwrap();
    sandbox.dbelay(&["verify"]).exits(1).prints(&["table `t`, column `x`, row 1: object"]);
    let run = sandbox.dbelay(&["verify", "--drill"]).exits(1);
    run.prints(&["not proven: snapshot"]);
    sandbox.dbelay(&["status"]).prints(&["last proven restorable: never"]);
    let log = sandbox.dbelay(&["op", "log", "--json"]).json();
    assert_eq!(
        (&log["operations"][0]["entry"]["result"], &log["operations"][0]["entry"]["after"]),
        (&serde_json::json!("failed"), &show["id"])
    );
    assert_eq!(scratch_folders(&sandbox), 0);
}

#[test]
fn a_drill_needs_no_live_database_and_leaves_what_a_crash_left_to_nobody() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot"]).exits(0);
    std::fs::remove_file(sandbox.db()).unwrap();
    // As a killed one leaves it.
    std::fs::create_dir(sandbox.path(".dbelay-rehearsal-0123456789abcdef")).unwrap();
    std::fs::write(sandbox.path(".dbelay-rehearsal-0123456789abcdef/.dbelay-in-use"), "").unwrap();
    sandbox.dbelay(&["verify", "--drill"]).exits(0).prints(&["proven"]);
    sandbox.run(&["verify", "--drill"]).exits(0).prints(&["proven"]);
    assert_eq!(scratch_folders(&sandbox), 0);
}
