//! Rehearsals: the command meets a scratch database, and the real one stays what it is, byte for byte.

use std::process::Command;

use super::oracle;
use super::sandbox::{Sandbox, finish, has_layers};

const POSTS: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE posts(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id) ON DELETE CASCADE, body TEXT);
INSERT INTO users VALUES(1,'ann'),(2,'bob');
INSERT INTO posts VALUES(1,1,'a'),(2,2,'b'),(3,2,'c');
";

const GOOD: &str = "ALTER TABLE users ADD COLUMN email TEXT; UPDATE users SET email = name || '@example.org'";

const CASCADE: &str = "
CREATE TABLE new_users(id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO new_users SELECT * FROM users; DROP TABLE users; ALTER TABLE new_users RENAME TO users";

/// The database's files and their bytes, but for the index of the log, which belongs to whoever reads.
fn bytes(sandbox: &Sandbox) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(sandbox.path(""))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"))
        .filter(|entry| entry.file_type().unwrap().is_file() && entry.file_name().to_string_lossy().starts_with("app.db"))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn has_leftovers(sandbox: &Sandbox) -> bool {
    let entries = std::fs::read_dir(sandbox.path("")).unwrap();
    entries.map(|entry| entry.unwrap()).any(|entry| entry.file_name().to_string_lossy().starts_with(".dbelay-rehearsal"))
}

#[test]
fn a_rehearsal_leaves_the_real_database_byte_identical() {
    for wal in [false, true] {
        let sandbox = Sandbox::with(POSTS);
        // A connection that stays keeps the log where it is.
        let held = sandbox.connect();
        if wal {
            held.pragma_update(None, "journal_mode", "wal").unwrap();
            held.execute_batch("INSERT INTO posts VALUES(4,1,'only in the log')").unwrap();
        }
        let before = bytes(&sandbox);
        for (sql, code) in [(GOOD, 0), (CASCADE, 4), ("UPDATE users SET name = 'half'; COMMIT; nonsense", 4)] {
            std::fs::write(sandbox.path("up.sql"), sql).unwrap();
            let apply = [env!("CARGO_BIN_EXE_dbelay"), "--db", "{db}", "demo-apply", "up.sql"];
            let arguments: Vec<&str> = ["migrate", "--rehearse-only", "--"].into_iter().chain(apply).collect();
            sandbox.dbelay(&arguments).exits(code).says(&["rehearsal"]);
            assert!(bytes(&sandbox) == before, "{sql}");
            assert!(!has_leftovers(&sandbox));
        }
    }
}

#[test]
fn a_rehearsal_that_loses_rows_stops_before_the_real_run() {
    let sandbox = Sandbox::with(POSTS);
    let kept = sandbox.copy_db("kept.db");
    std::fs::write(sandbox.path("up.sql"), CASCADE).unwrap();
    let apply = [env!("CARGO_BIN_EXE_dbelay"), "--db", "{db}", "demo-apply", "up.sql"];
    let arguments: Vec<&str> = ["migrate", "--rehearse", "--yes", "--"].into_iter().chain(apply).collect();
    let run = sandbox.dbelay(&arguments).exits(4);
    run.says(&["in the rehearsal the migration lost data", "the database was not touched", "3 of 3 rows of `posts`", "--allow posts"]);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn a_good_rehearsal_goes_on_to_the_real_run() {
    let sandbox = Sandbox::with(POSTS);
    std::fs::write(sandbox.path("up.sql"), GOOD).unwrap();
    let apply = [env!("CARGO_BIN_EXE_dbelay"), "--db", "{db}", "demo-apply", "up.sql"];
    let arguments: Vec<&str> = ["migrate", "--rehearse", "--yes", "--json", "--"].into_iter().chain(apply).collect();
    let run = sandbox.dbelay(&arguments).exits(0);
    let document = run.json();
    assert_eq!(document["result"], "done");
    assert_eq!(document["rehearsal"]["fine"], true);
    assert_eq!(document["rehearsal"]["tables"], document["tables"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM users WHERE email LIKE '%@example.org'"), 2);
}

#[test]
fn both_runs_find_the_same_on_standard_input() {
    let sandbox = Sandbox::with(POSTS);
    std::fs::write(sandbox.path("up.sql"), GOOD).unwrap();
    let mut command = sandbox.command();
    command.stdin(std::fs::File::open(sandbox.path("up.sql")).unwrap());
    let script = "cat > \"$1.sql\" && exec \"$0\" --db \"$1\" demo-apply \"$1.sql\"";
    command.args(["--db", "app.db", "migrate", "--rehearse", "--yes", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_dbelay"), "{db}"]);
    finish(&mut command).exits(0);
    assert_eq!(sandbox.number("SELECT count(email) FROM users"), 2);
}

#[test]
fn what_is_to_be_pasted_names_this_database() {
    let sandbox = Sandbox::with(POSTS);
    sandbox.dbelay(&["migrate", "--on-failure", "keep", "--", "sh", "-c", "exit 1"]).exits(4);
    let run = sandbox.migrate(&["--on-failure", "keep", "--store", "my store"], "DELETE FROM posts").exits(5);
    run.says(&["`dbelay rollback pre --db app.db --store 'my store'`"]);
    let odd = Sandbox::with("CREATE TABLE \"a b\"(id INTEGER PRIMARY KEY); INSERT INTO \"a b\" VALUES(1)");
    odd.migrate(&[], "DELETE FROM \"a b\"").exits(4).says(&["`dbelay migrate --allow 'a b' --db app.db -- ...`"]);
}

#[test]
fn without_a_terminal_somebody_must_have_said_yes() {
    let sandbox = Sandbox::with(POSTS);
    sandbox.dbelay(&["migrate", "--rehearse", "--", "true"]).exits(2).says(&["--rehearse --yes", "--rehearse-only"]);
}

#[test]
fn the_variable_names_the_scratch_database_in_the_form_in_which_it_was_given() {
    for (name, value, option, start, end) in [
        ("DATABASE_URL", "sqlite:app.db?mode=rwc", None, "sqlite:/", "/app.db?mode=rwc"),
        ("DATABASE_URL", "file:./app.db", None, "file:/", "/app.db"),
        ("DB_FILE", "app.db", Some("DB_FILE"), "/", "/app.db"),
        // Not set anywhere: it gets the form of `--db`.
        ("UNSET", "", Some("UNSET"), "/", "/app.db"),
    ] {
        let sandbox = Sandbox::with(POSTS);
        let mut command = sandbox.command();
        command.args(["--db", "app.db", "migrate", "--rehearse-only", "--no-namespace"]);
        if let Some(option) = option {
            command.args(["--url-env", option]);
        }
        if !value.is_empty() {
            command.env(name, value);
        }
        let script = format!("printf %s \"${name}\" > seen; f=${{{name}%%\\?*}}; f=${{f#*:}}; exec \"$0\" --db \"$f\" demo-apply up.sql");
        std::fs::write(sandbox.path("up.sql"), GOOD).unwrap();
        command.args(["--", "sh", "-c", &script, env!("CARGO_BIN_EXE_dbelay")]);
        finish(&mut command).exits(0).says(&[&format!("by the variable `{name}`"), "email"]);
        let seen = std::fs::read_to_string(sandbox.path("seen")).unwrap();
        assert!(seen.starts_with(start) && seen.ends_with(end) && seen.contains(".dbelay-rehearsal-"), "{seen}");
        assert_eq!(sandbox.number("SELECT count(*) FROM pragma_table_info('users')"), 2);
    }
}

#[test]
fn the_variable_may_stand_in_a_dotenv_file() {
    let sandbox = Sandbox::with(POSTS);
    std::fs::write(sandbox.path(".env"), "DATABASE_URL=\"file:./app.db\"\n").unwrap();
    let script = "printf %s \"$DATABASE_URL\" > seen";
    sandbox.run(&["migrate", "--rehearse-only", "--no-namespace", "--", "sh", "-c", script]).exits(3).says(&["changed nothing"]);
    assert!(std::fs::read_to_string(sandbox.path("seen")).unwrap().starts_with("file:/"));
}

#[test]
fn placeholders_in_the_command_name_the_real_database_in_the_real_run() {
    let sandbox = Sandbox::with(POSTS);
    sandbox.dbelay(&["migrate", "--", "sh", "-c", "printf '%s\\n' '{db}' '{url}' > seen"]).exits(0);
    let path = std::fs::canonicalize(sandbox.db()).unwrap();
    let seen = std::fs::read_to_string(sandbox.path("seen")).unwrap();
    let (db, url) = seen.trim().split_once('\n').unwrap();
    assert_eq!((std::fs::canonicalize(db).unwrap(), url), (path, format!("sqlite:///{db}").as_str()));
}

#[test]
fn a_tool_that_reads_its_own_configuration_meets_the_scratch_database_at_the_real_path() {
    if !has_layers() {
        return;
    }
    let sandbox = Sandbox::with(POSTS);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let before = bytes(&sandbox);
    // The path is nowhere but in the script; it reads and writes other files of the folder, too.
    std::fs::write(sandbox.path("own.sql"), GOOD).unwrap();
    let path = sandbox.db().display().to_string();
    let script = format!(
        "cd / && \"$0\" --db '{path}' demo-apply '{}' && echo seen > '{}'",
        sandbox.path("own.sql").display(),
        sandbox.path("up.sql").display()
    );
    std::fs::write(sandbox.path("up.sql"), "not yet").unwrap();
    let arguments = ["migrate", "--rehearse-only", "--", "sh", "-c", &script, env!("CARGO_BIN_EXE_dbelay")];
    sandbox.dbelay(&arguments).exits(0).says(&["at the real one's path", "users  2 changed", "the real database was not touched"]);
    assert!(bytes(&sandbox) == before && !has_leftovers(&sandbox));
    assert_eq!(std::fs::read_to_string(sandbox.path("up.sql")).unwrap(), "not yet", "what the command writes in the folder is gone");
    sandbox.dbelay(&["diff", "HEAD", "live", "--exit-code"]).exits(0);
}

/// A neighbour's journal that is torn from its database is damage.
#[test]
fn a_database_beside_the_real_one_is_not_touched_by_a_rehearsal_that_is_killed() {
    if !has_layers() {
        return;
    }
    for mode in ["delete", "wal"] {
        let sandbox = Sandbox::with(POSTS);
        let other = rusqlite::Connection::open(sandbox.path("other.db")).unwrap();
        other.execute_batch(&format!("PRAGMA journal_mode={mode}; CREATE TABLE t(x); INSERT INTO t VALUES('kept')")).unwrap();
        drop(other);
        let before = std::fs::read(sandbox.path("other.db")).unwrap();
        std::fs::write(sandbox.path("own.sql"), "UPDATE t SET x = 'half'; CREATE TABLE u(x)").unwrap();
        let script = "rm own.txt && \"$0\" --db other.db demo-apply own.sql && kill -9 $$";
        std::fs::write(sandbox.path("own.txt"), "mine").unwrap();
        let run = sandbox.dbelay(&["migrate", "--rehearse-only", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_dbelay")]);
        run.exits(4).says(&["killed by SIGKILL"]);
        assert!(std::fs::read(sandbox.path("other.db")).unwrap() == before);
        assert!(!sandbox.path("other.db-wal").exists() && !sandbox.path("other.db-journal").exists());
        assert_eq!(std::fs::read_to_string(sandbox.path("own.txt")).unwrap(), "mine");
    }
}

#[test]
fn where_a_name_leads_to_the_scratch_database_the_real_one_can_only_be_read() {
    if !has_layers() {
        return;
    }
    let sandbox = Sandbox::with(POSTS);
    let before = bytes(&sandbox);
    let path = sandbox.db().display().to_string();
    let script = format!(": {{db}}; exec \"$0\" --db '{path}' demo-apply up.sql");
    std::fs::write(sandbox.path("up.sql"), GOOD).unwrap();
    let arguments = ["migrate", "--rehearse-only", "--", "sh", "-c", &script, env!("CARGO_BIN_EXE_dbelay")];
    sandbox.dbelay(&arguments).exits(4).says(&["it can only read the real one", "readonly"]);
    assert!(bytes(&sandbox) == before);
}

#[test]
fn a_rehearsal_ends_in_time() {
    let sandbox = Sandbox::with(POSTS);
    assert!(Command::new("mkfifo").arg(sandbox.path("never")).status().unwrap().success());
    let arguments = ["migrate", "--rehearse-only", "--timeout", "300ms", "--", "sh", "-c", ": {db}; exec cat never"];
    sandbox.dbelay(&arguments).exits(4).says(&["took too long"]);
}

#[test]
fn a_log_that_nobody_has_open_is_left_as_it_is() {
    let sandbox = Sandbox::with(POSTS);
    let writer = sandbox.connect();
    writer.execute_batch("PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0; INSERT INTO posts VALUES(9,1,'in the log')").unwrap();
    for suffix in ["", "-wal"] {
        std::fs::copy(sandbox.path(&format!("app.db{suffix}")), sandbox.path(&format!("crashed.db{suffix}"))).unwrap();
    }
    drop(writer);
    for suffix in ["", "-wal"] {
        std::fs::rename(sandbox.path(&format!("crashed.db{suffix}")), sandbox.path(&format!("app.db{suffix}"))).unwrap();
    }
    let before = bytes(&sandbox);
    sandbox.dbelay(&["migrate", "--rehearse-only", "--", "sh", "-c", ": {db}"]).exits(0);
    sandbox.dbelay(&["diff", "HEAD", "live", "--exit-code"]).exits(0);
    assert!(bytes(&sandbox) == before);
    assert_eq!(sandbox.number("SELECT count(*) FROM posts"), 4);
}

#[test]
fn a_command_that_nothing_leads_to_the_scratch_database_is_not_run() {
    let sandbox = Sandbox::with(POSTS);
    let run = sandbox.dbelay(&["migrate", "--rehearse-only", "--no-namespace", "--", "touch", "ran"]).exits(3);
    run.says(&["cannot be rehearsed", "--url-env NAME", "{db}"]);
    assert!(!sandbox.path("ran").exists() && !has_leftovers(&sandbox));
}

#[test]
fn a_command_that_changed_the_real_database_all_the_same_is_told_of() {
    let sandbox = Sandbox::with(POSTS);
    let path = sandbox.db().display().to_string();
    let script = format!(": {{db}}; exec \"$0\" --db '{path}' demo-apply up.sql");
    std::fs::write(sandbox.path("up.sql"), GOOD).unwrap();
    let arguments = ["migrate", "--rehearse-only", "--no-namespace", "--", "sh", "-c", &script, env!("CARGO_BIN_EXE_dbelay")];
    let run = sandbox.dbelay(&arguments).exits(5).says(&["could not be isolated", "dbelay rollback"]);
    let id = run.stderr.split("`dbelay rollback ").nth(1).unwrap()[..8].to_owned();
    sandbox.dbelay(&["rollback", &id]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM pragma_table_info('users')"), 2);
}

#[test]
fn a_rehearsal_does_not_run_on_the_database_that_another_variable_names() {
    let sandbox = Sandbox::with(POSTS);
    let mut command = sandbox.command();
    command.env("DATABASE_URL", "other.db").args(["--db", "app.db", "migrate", "--rehearse-only", "--", "touch", "ran"]);
    finish(&mut command).exits(2).says(&["`DATABASE_URL` names `other.db`", "--url-env NAME"]);
    assert!(!sandbox.path("ran").exists());
}

#[test]
fn a_variable_that_nobody_set_is_set_for_the_rehearsal_and_for_the_real_run() {
    let sandbox = Sandbox::with(POSTS);
    let script = "echo \"$APP_DB\" >> seen; exec \"$0\" --db \"$APP_DB\" demo-apply up.sql";
    std::fs::write(sandbox.path("up.sql"), GOOD).unwrap();
    let arguments = ["migrate", "--rehearse", "--yes", "--url-env", "APP_DB", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_dbelay")];
    sandbox.dbelay(&arguments).exits(0);
    let seen = std::fs::read_to_string(sandbox.path("seen")).unwrap();
    let (scratch, real) = seen.trim().split_once('\n').unwrap();
    assert!(scratch.contains(".dbelay-rehearsal-") && !real.contains(".dbelay-rehearsal-"), "{seen}");
    assert_eq!(sandbox.number("SELECT count(email) FROM users"), 2);
}

#[test]
fn a_report_is_not_written_over_the_database() {
    let sandbox = Sandbox::with(POSTS);
    let before = bytes(&sandbox);
    sandbox.dbelay(&["migrate", "--report", "app.db", "--", "touch", "ran"]).exits(2).says(&["the report cannot be written to"]);
    assert!(bytes(&sandbox) == before && !sandbox.path("ran").exists());
    let run = sandbox.dbelay(&["migrate", "--report", "r.html", "--rehearse-only", "--", "sh", "-c", ": {db}"]).exits(0);
    assert!(run.stderr.contains("r.html"));
    let page = std::fs::read_to_string(sandbox.path("r.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && !page.contains("dbelay rollback") && !page.contains("<script"));
}

#[test]
fn what_a_crash_left_of_a_rehearsal_is_removed_by_the_next() {
    let sandbox = Sandbox::with(POSTS);
    let stale = sandbox.path(".dbelay-rehearsal-1");
    std::fs::create_dir(&stale).unwrap();
    std::fs::write(stale.join("app.db"), "left over").unwrap();
    std::fs::write(stale.join(".dbelay-in-use"), "").unwrap();
    sandbox
        .dbelay(&["migrate", "--rehearse-only", "--", "sh", "-c", "exit 1 # {db}"])
        .exits(4)
        .says(&["in the rehearsal the migration command failed"]);
    assert!(!has_leftovers(&sandbox));
}

#[test]
fn a_variable_that_names_another_database_is_told_of() {
    let sandbox = Sandbox::with(POSTS);
    let mut command = sandbox.command();
    command.env("DATABASE_URL", "postgres://me:hunter2@db.example.org/shop");
    let run = finish(command.args(["--db", "app.db", "migrate", "--", "true"])).exits(0);
    assert!(!run.stderr.contains("hunter2"));
    run.says(&["`DATABASE_URL` names `postgres://me:***@db.example.org/shop`", "neither seen nor put back"]);
    let mut command = sandbox.command();
    command.env("OTHER", "other.db").args(["--db", "app.db", "migrate", "--rehearse-only", "--url-env", "OTHER", "--", "true"]);
    finish(&mut command).exits(2).says(&["`OTHER` names `other.db`"]);
}
