//! The wrapper: what it catches, what it lets through, and what it leaves behind.

use std::process::Stdio;

use crate::oracle;
use crate::sandbox::{Sandbox, finish};

const CHATS: &str = "
CREATE TABLE chats(id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE messages(id INTEGER PRIMARY KEY, chat_id INTEGER REFERENCES chats(id) ON DELETE CASCADE, body TEXT);
INSERT INTO chats VALUES(1,'a'),(2,'b');
INSERT INTO messages VALUES(1,1,'x'),(2,1,'y'),(3,2,'z');
";

const REBUILD: &str = "
CREATE TABLE chats_new(id INTEGER PRIMARY KEY, title TEXT NOT NULL);
INSERT INTO chats_new SELECT * FROM chats;
DROP TABLE chats;
ALTER TABLE chats_new RENAME TO chats;
";

#[test]
fn rollback_restores_rows_deleted_by_cascade() {
    let sandbox = Sandbox::with(CHATS);
    let kept = sandbox.copy_db("kept.db");
    sandbox.migrate(&[], REBUILD).exits(4).says(&[
        "3 of 3 rows of `messages` are gone; they went through the foreign key `messages.chat_id` -> `chats.id` ON DELETE CASCADE, when `chats` was rebuilt (id=1; id=2; id=3)",
        "was rolled back to snapshot",
        "and verified",
        "--allow messages",
    ]);
    oracle::assert_same(&kept, &sandbox.db());
    sandbox.dbelay(&["diff", "pre", "failed", "--data"]).exits(0).prints(&["- id=1 chat_id=1 body='x'", "3 removed"]);
}

#[test]
fn an_announced_loss_is_kept() {
    let sandbox = Sandbox::with(CHATS);
    sandbox.migrate(&["--allow", "messages"], REBUILD).exits(0).says(&["allowed: 3 of 3 rows of `messages` are gone"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM messages"), 0);
    sandbox.dbelay(&["rollback"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM messages"), 3);
}

#[test]
fn a_loss_in_the_configuration_is_announced_too() {
    let sandbox = Sandbox::with(CHATS);
    std::fs::write(sandbox.path("dbelay.toml"), "database = \"app.db\"\n[migrate]\nallow = [\"messages\"]\n").unwrap();
    sandbox.migrate(&[], REBUILD).exits(0);
}

#[test]
fn a_harmless_migration_is_kept_and_told() {
    let sandbox = Sandbox::with(CHATS);
    sandbox.migrate(&[], "ALTER TABLE messages ADD COLUMN read INTEGER DEFAULT 0; UPDATE chats SET title = upper(title)").exits(0).says(&[
        "+ column `messages.read`: INTEGER DEFAULT 0",
        "chats  2 changed  (title)",
        "snapshot post",
    ]);
    sandbox.dbelay(&["diff", "pre", "post", "--stat"]).exits(0).prints(&["chats  2 changed  (title)"]);
}

#[test]
fn a_failed_command_is_rolled_back_though_it_had_committed() {
    let sandbox = Sandbox::with(CHATS);
    let kept = sandbox.copy_db("kept.db");
    sandbox
        .migrate(&[], "UPDATE chats SET title = 'half'; INSERT INTO nosuch VALUES(1)")
        .exits(4)
        .says(&["the migration command failed (exit 3", "was rolled back to snapshot"]);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn a_failed_command_that_changed_nothing_says_so() {
    let sandbox = Sandbox::with(CHATS);
    let run = sandbox.migrate(&["--json"], "INSERT INTO nosuch VALUES(1)").exits(4);
    let json = run.json();
    assert_eq!(json["error"]["database_state"], "unchanged");
    assert_eq!(json["result"], "unchanged");
}

#[test]
fn a_failed_migration_can_be_kept() {
    let sandbox = Sandbox::with(CHATS);
    let run =
        sandbox.migrate(&["--on-failure", "keep", "--json"], "UPDATE chats SET title = 'half'; INSERT INTO nosuch VALUES(1)").exits(5);
    let json = run.json();
    assert_eq!(json["error"]["kind"], "not_rolled_back");
    assert_eq!(json["error"]["database_state"], "changed");
    assert_eq!(sandbox.number("SELECT count(*) FROM chats WHERE title = 'half'"), 2);
    sandbox.dbelay(&["rollback"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM chats WHERE title = 'half'"), 0);
}

#[test]
fn a_command_killed_by_a_signal_has_failed() {
    let sandbox = Sandbox::with(CHATS);
    sandbox.dbelay(&["migrate", "--", "sh", "-c", "kill -9 $$"]).exits(4).says(&["killed by SIGKILL", "the database is unchanged"]);
}

#[test]
fn a_command_that_does_not_exist_is_said_so() {
    let sandbox = Sandbox::with(CHATS);
    let run = sandbox.dbelay(&["migrate", "--json", "--", "no-such-command-at-all"]).exits(3);
    assert_eq!(run.json()["error"]["database_state"], "unchanged");
    sandbox.dbelay(&["status"]).exits(0);
}

#[test]
fn a_command_that_changes_nothing_leaves_nothing_to_undo() {
    let sandbox = Sandbox::with(CHATS);
    sandbox.dbelay(&["migrate", "--", "true"]).exits(0).says(&["the command changed nothing"]);
    sandbox.dbelay(&["undo"]).exits(3).says(&["there is no operation to undo"]);
}

#[test]
fn a_database_that_the_command_deleted_comes_back() {
    let sandbox = Sandbox::with(CHATS);
    let kept = sandbox.copy_db("kept.db");
    sandbox.dbelay(&["migrate", "--", "rm", "app.db"]).exits(4).says(&["cannot be read", "there is no database"]);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn a_database_that_the_command_destroyed_is_set_aside_and_made_anew() {
    let sandbox = Sandbox::with(CHATS);
    let kept = sandbox.copy_db("kept.db");
    let destroy = ["--", "sh", "-c", "echo this is no database at all > app.db"];
    let keep = ["migrate", "--on-failure", "keep"].iter().chain(&destroy).copied().collect::<Vec<_>>();
    sandbox.dbelay(&keep).exits(5).says(&["cannot be read", "dbelay restore"]);
    sandbox.dbelay(&["restore", "pre", "--to", "new.db"]).exits(0);
    oracle::assert_same(&kept, &sandbox.path("new.db"));
    std::fs::copy(&kept, sandbox.db()).unwrap();
    let back = ["migrate"].iter().chain(&destroy).copied().collect::<Vec<_>>();
    sandbox.dbelay(&back).exits(4).says(&["replaced the database's file", "app.db.failed-1", "rolled back to snapshot"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("app.db.failed-1")).unwrap(), "this is no database at all\n");
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn renamed_tables_and_columns_are_no_loss() {
    let sandbox = Sandbox::with(CHATS);
    sandbox
        .migrate(&[], "ALTER TABLE messages RENAME COLUMN body TO content; ALTER TABLE messages RENAME TO posts")
        .exits(0)
        .says(&["> table `messages` is now `posts`", "> column `posts.body` is now `posts.content`"]);
}

#[test]
fn each_kind_of_loss_is_caught() {
    let base = "
        CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, age TEXT, note TEXT);
        INSERT INTO t VALUES(1,'ann','forty','n1'),(2,'bob','41','n2'),(3,'cid','42','n3');
        CREATE TABLE other(id INTEGER PRIMARY KEY, t_id INTEGER REFERENCES t(id));
        INSERT INTO other VALUES(1,1),(2,2);";
    for (sql, said) in [
        ("PRAGMA foreign_keys=OFF; DROP TABLE other", "table `other` was dropped with 2 rows"),
        ("PRAGMA foreign_keys=OFF; DELETE FROM other WHERE id=2", "1 of 2 rows of `other` are gone"),
        ("ALTER TABLE t DROP COLUMN note", "column `t.note` was dropped with 3 values"),
        ("UPDATE t SET note = NULL", "column `t.note` lost all of its 3 values"),
        ("PRAGMA foreign_keys=OFF; UPDATE other SET t_id = 99 WHERE id=1", "1 row of `other` now refer to rows that do not exist"),
        (
            "PRAGMA foreign_keys=OFF; CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT, age INTEGER, note TEXT);
             INSERT INTO n SELECT id, name, CAST(age AS INTEGER), note FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
            "1 of 3 values of `t.age` did not survive the change of its type",
        ),
    ] {
        let sandbox = Sandbox::with(base);
        let kept = sandbox.copy_db("kept.db");
        sandbox.migrate(&[], sql).exits(4).says(&[said]);
        oracle::assert_same(&kept, &sandbox.db());
    }
}

#[test]
fn the_ledger_of_a_migration_tool_is_rolled_back_with_the_rest() {
    let sandbox = Sandbox::with("CREATE TABLE schema_migrations(version TEXT); CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    let sql = "INSERT INTO schema_migrations VALUES('002'); DELETE FROM t";
    sandbox.migrate(&[], sql).exits(4).says(&["ledger: `schema_migrations` +1 row (002)"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM schema_migrations"), 0);
    sandbox.migrate(&["--allow", "t"], sql).exits(0);
}

#[test]
fn output_streams_and_stays_apart_from_the_json_document() {
    let sandbox = Sandbox::with(CHATS);
    let run = sandbox.dbelay(&["migrate", "--", "sh", "-c", "echo to stdout; echo to stderr >&2"]).exits(0);
    assert_eq!(run.stdout, "to stdout\n");
    assert!(run.stderr.contains("to stderr\n"));
    let run = sandbox.dbelay(&["migrate", "--json", "--", "sh", "-c", "echo to stdout"]).exits(0);
    assert_eq!(run.json()["result"], "unchanged");
    assert!(run.stderr.contains("to stdout\n"));
}

#[test]
fn drift_is_told_before_the_migration() {
    let sandbox = Sandbox::with(CHATS);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql("CREATE INDEX by_hand ON chats(title)");
    sandbox.dbelay(&["migrate", "--", "true"]).exits(0).says(&["outside of dbelay", "+ index `by_hand` on `chats`"]);
}

#[test]
fn a_second_dbelay_waits_for_nobody_and_hears_who_works() {
    let sandbox = Sandbox::with(CHATS);
    let inner = format!("{} --db app.db snapshot; test $? -eq 11", env!("CARGO_BIN_EXE_dbelay"));
    sandbox.dbelay(&["migrate", "--", "sh", "-c", &inner]).exits(0).says(&["locked by `dbelay migrate` (process"]);
}

#[test]
fn an_interrupted_migration_is_rolled_back() {
    let sandbox = Sandbox::with(CHATS);
    let kept = sandbox.copy_db("kept.db");
    // Not INT, which is ignored, and stays so, where a script runs the tests in its background.
    let script = format!("{} --db app.db demo-apply up.sql && kill -TERM $PPID && exec cat fifo", env!("CARGO_BIN_EXE_dbelay"));
    std::fs::write(sandbox.path("up.sql"), "UPDATE chats SET title = 'half'").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(sandbox.path("fifo")).status().unwrap().success());
    let mut command = sandbox.command();
    command.args(["--db", "app.db", "migrate", "--", "sh", "-c", &script]).stdin(Stdio::null());
    finish(&mut command).exits(130).says(&["was interrupted", "was rolled back to snapshot"]);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn the_first_migration_makes_the_database() {
    let sandbox = Sandbox::new();
    sandbox
        .migrate(&[], "CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)")
        .exits(0)
        .says(&["there is no database at", "yet"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 1);
    sandbox.dbelay(&["rollback"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM sqlite_schema"), 0);
}

#[test]
fn a_first_migration_that_fails_or_does_nothing_leaves_no_database() {
    let sandbox = Sandbox::new();
    sandbox.dbelay(&["migrate", "--", "true"]).exits(0).says(&["did not touch"]);
    assert!(!sandbox.db().exists());
    sandbox.migrate(&[], "CREATE TABLE t(id); COMMIT; nonsense").exits(4);
    assert!(!sandbox.db().exists());
    sandbox.dbelay(&["--db", "no/such/folder.db", "migrate", "--", "true"]).exits(2);
}

#[test]
fn an_empty_file_that_somebody_fills_is_not_taken_away() {
    let sandbox = Sandbox::new();
    assert!(std::process::Command::new("mkfifo").arg(sandbox.path("go")).status().unwrap().success());
    let mut command = sandbox.command();
    command.args(["--db", "app.db", "migrate", "--", "cat", "go"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut dbelay = command.spawn().unwrap();
    // Opened only when the command reads it.
    let go = std::fs::OpenOptions::new().write(true).open(sandbox.path("go")).unwrap();
    let writer = sandbox.connect();
    writer.execute_batch("BEGIN; CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    drop(go);
    assert!(dbelay.wait().unwrap().success());
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(sandbox.number("SELECT x FROM t"), 1);
}

#[test]
fn a_first_rehearsal_says_nothing_of_a_command_that_did_not_touch_the_database() {
    let sandbox = Sandbox::new();
    let run = sandbox.dbelay(&["migrate", "--rehearse-only", "--", "sh", "-c", ": {db}"]);
    assert!(!run.stderr.contains("did not touch `"), "{}", run.stderr);
    assert!(!sandbox.db().exists());
}

/// Things with enough rows that chance is no explanation.
const INVOICES: &str = "
CREATE TABLE inv(id INTEGER PRIMARY KEY, no TEXT, amt REAL, paid INT);
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<200) INSERT INTO inv SELECT x,'INV'||x,x*3.5,x%2 FROM c;
CREATE TABLE colors(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO colors VALUES(1,'red'),(2,'green'),(3,'blue');
CREATE TABLE zip(id INTEGER PRIMARY KEY, code TEXT, big INT); INSERT INTO zip VALUES(1,'007',9007199254740993),(2,'12345',1);
CREATE VIRTUAL TABLE ft USING fts5(t); INSERT INTO ft VALUES('hello'),('world');
";

#[test]
fn what_only_looks_like_a_rename_hides_no_loss() {
    for (sql, said) in [
        (
            "DROP TABLE colors; CREATE TABLE sizes(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO sizes VALUES(1,'S'),(2,'M'),(3,'L')",
            "table `colors` was dropped",
        ),
        (
            "DROP TABLE colors; CREATE TABLE sizes(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO sizes SELECT id, 'R'||id FROM inv",
            "table `colors` was dropped",
        ),
        (
            "ALTER TABLE inv DROP COLUMN paid; ALTER TABLE inv ADD COLUMN odd INT; UPDATE inv SET odd = CASE WHEN id%10<9 THEN id%2 ELSE 1-id%2 END",
            "column `inv.paid` was dropped",
        ),
        ("ALTER TABLE inv DROP COLUMN paid; ALTER TABLE inv ADD COLUMN paid INT AS (1) VIRTUAL", "column `inv.paid` was dropped"),
        (
            "CREATE TABLE i2(id INTEGER PRIMARY KEY, no TEXT, amt REAL NOT NULL DEFAULT 0, paid INT); INSERT INTO i2(id,no,paid) SELECT id,no,paid FROM inv; DROP TABLE inv; ALTER TABLE i2 RENAME TO inv",
            "column `inv.amt` lost all of its 200 values",
        ),
        (
            "CREATE TABLE z2(id INTEGER PRIMARY KEY, code INT, big INT); INSERT INTO z2 SELECT * FROM zip; DROP TABLE zip; ALTER TABLE z2 RENAME TO zip",
            "1 of 2 values of `zip.code` did not survive",
        ),
        (
            "CREATE TABLE z2(id INTEGER PRIMARY KEY, code TEXT, big REAL); INSERT INTO z2 SELECT * FROM zip; DROP TABLE zip; ALTER TABLE z2 RENAME TO zip",
            "1 of 2 values of `zip.big` did not survive",
        ),
        ("UPDATE inv SET no = ''", "column `inv.no` lost all of its 200 values"),
        ("DELETE FROM ft WHERE rowid = 1", "1 of 2 rows of `ft` are gone"),
        ("DROP TABLE ft", "table `ft` was dropped with 2 rows"),
    ] {
        let sandbox = Sandbox::with(INVOICES);
        let kept = sandbox.copy_db("kept.db");
        sandbox.migrate(&[], sql).exits(4).says(&[said]);
        oracle::assert_same(&kept, &sandbox.db());
    }
}

#[test]
fn what_goes_on_elsewhere_is_no_loss() {
    for sql in [
        "ALTER TABLE colors RENAME TO old; CREATE TABLE colors(id INTEGER PRIMARY KEY, name TEXT)",
        "ALTER TABLE colors RENAME TO t; ALTER TABLE zip RENAME TO colors; ALTER TABLE t RENAME TO zip",
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, no TEXT); INSERT INTO notes SELECT id, no FROM inv; ALTER TABLE inv DROP COLUMN no",
        "ALTER TABLE ft RENAME TO search",
        "ALTER TABLE inv RENAME COLUMN paid TO is_paid",
        "ALTER TABLE inv RENAME TO invoices; ALTER TABLE invoices RENAME COLUMN no TO number; UPDATE invoices SET amt = amt + 1",
        "CREATE TABLE z2(id TEXT PRIMARY KEY, code TEXT, big INT); INSERT INTO z2 SELECT * FROM zip; DROP TABLE zip; ALTER TABLE z2 RENAME TO zip",
    ] {
        Sandbox::with(INVOICES).migrate(&[], sql).exits(0);
    }
}

#[test]
fn an_allowance_that_names_nothing_is_told() {
    Sandbox::with(CHATS).migrate(&["--allow", "chatz"], "SELECT 1").exits(0).says(&["`--allow chatz` names no table and no column"]);
}

#[test]
fn a_table_that_only_has_the_name_of_a_ledger_is_judged() {
    let sandbox = Sandbox::with("CREATE TABLE migrations(id INTEGER PRIMARY KEY, species TEXT); INSERT INTO migrations VALUES(1,'stork')");
    sandbox.migrate(&[], "DROP TABLE migrations").exits(4).says(&["table `migrations` was dropped with 1 row"]);
}

#[test]
fn a_password_in_the_words_of_a_command_is_kept_nowhere() {
    let sandbox = Sandbox::with(CHATS);
    let command = ["sh", "-c", "test \"$1\" = postgres://ann:hunter2@h/app && sqlite3 app.db 'DELETE FROM messages'", "sh"];
    let words = [&["migrate", "--allow", "messages", "--"][..], &command, &["postgres://ann:hunter2@h/app"]].concat();
    let run = sandbox.dbelay(&words);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    assert!(!sandbox.dbelay(&["op", "log"]).exits(0).stdout.contains("hunter2"));
    let mut kept = 0;
    for entry in walkdir::WalkDir::new(sandbox.path(".dbelay")).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file())
    {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(memchr::memmem::find(&bytes, b"hunter2").is_none(), "{}", entry.path().display());
        kept += usize::from(memchr::memmem::find(&bytes, b"ann:***@h/app").is_some());
    }
    assert!(kept >= 2, "the command itself is kept");
}
