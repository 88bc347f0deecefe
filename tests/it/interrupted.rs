//! Migrations that were interrupted, and commands that do more than migrate: what stands is said, and each way out gets out.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use super::oracle;
use super::sandbox::{Sandbox, finish};

const SHOP: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO users VALUES(1,'ann'),(2,'bob');
";

/// Whom a test kills, while the command has done half of its work.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Killed {
    Dbelay,
    Command,
    Both,
}

/// A project in which a migration was killed: half of the work is done, `up.sql` has the rest.
struct Interrupted {
    sandbox: Sandbox,
    kept: std::path::PathBuf,
    dbelay: Child,
    /// The command's process, where it still runs.
    command: Option<i32>,
}

/// Runs a migration whose command does its first half, says so, and waits on a pipe before the second.
fn interrupt(whom: Killed) -> Interrupted {
    let sandbox = Sandbox::with(SHOP);
    let kept = sandbox.copy_db("kept.db");
    assert!(Command::new("mkfifo").arg(sandbox.path("go")).status().unwrap().success());
    std::fs::write(sandbox.path("half.sql"), "ALTER TABLE users ADD COLUMN email TEXT").unwrap();
    std::fs::write(sandbox.path("rest.sql"), "UPDATE users SET email = name || '@example.org'").unwrap();
    let script = "set -e; [ -e done ] || \"$0\" --db app.db demo-apply half.sql; touch done; echo pid $$; \
                  [ -e resumed ] || cat go > taken; \"$0\" --db app.db demo-apply rest.sql";
    let mut command = sandbox.command();
    command.args(["--db", "app.db", "migrate", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_dbelay")]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let mut dbelay = command.spawn().unwrap();
    let mut stdout = dbelay.stdout.take().unwrap();
    let (mut said, mut byte) = (String::new(), [0]);
    while !(said.contains("pid ") && said.ends_with('\n')) {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "the command ended: {said}");
        said.push(char::from(byte[0]));
    }
    let pid: i32 = said.trim().rsplit(' ').next().unwrap().parse().unwrap();
    if whom != Killed::Command {
        dbelay.kill().unwrap();
        assert_eq!(dbelay.wait().unwrap().signal(), Some(9));
    }
    if whom != Killed::Dbelay {
        // It leads a group, in which the `cat` is that it waits for.
        let group = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    }
    if whom == Killed::Both {
        while rustix::process::test_kill_process_group(rustix::process::Pid::from_raw(pid).unwrap()).is_ok() {
            std::thread::yield_now();
        }
    }
    // Not before the command is gone: one that has not come to its wait yet would not wait.
    if whom != Killed::Dbelay {
        std::fs::write(sandbox.path("resumed"), "").unwrap();
    }
    Interrupted { sandbox, kept, dbelay, command: (whom == Killed::Dbelay).then_some(pid) }
}

/// Waits until a process that is not our child is gone.
fn wait_gone(pid: i32) {
    while dbelay::process::ProcessId::of(u32::try_from(pid).unwrap()).is_running() {
        std::thread::yield_now();
    }
}

fn emails(sandbox: &Sandbox) -> i64 {
    sandbox.number("SELECT count(email) FROM users")
}

#[test]
fn a_command_that_is_killed_is_rolled_back() {
    let mut interrupted = interrupt(Killed::Command);
    assert_eq!(interrupted.dbelay.wait().unwrap().code(), Some(4));
    oracle::assert_same(&interrupted.kept, &interrupted.sandbox.db());
}

#[test]
fn a_command_that_outlives_dbelay_is_named_and_waited_for() {
    let interrupted = interrupt(Killed::Dbelay);
    let (sandbox, pid) = (&interrupted.sandbox, interrupted.command.unwrap());
    for arguments in [&["migrate", "--", "true"][..], &["rollback"], &["migrate", "--resume"], &["migrate", "--accept"], &["undo"]] {
        sandbox.dbelay(arguments).exits(11).says(&["still runs", &pid.to_string()]);
    }
    // Its work goes on, and ends.
    std::fs::write(sandbox.path("go"), "go").unwrap();
    wait_gone(pid);
    assert_eq!(emails(sandbox), 2);
    let said = ["`dbelay migrate`", "was interrupted", "dbelay rollback pre", "--resume", "--accept"];
    sandbox.dbelay(&["migrate", "--", "true"]).exits(3).says(&said);
    sandbox.dbelay(&["rollback", "--yes"]).exits(0);
    oracle::assert_same(&interrupted.kept, &sandbox.db());
}

#[test]
fn rollback_gets_out_of_an_interrupted_migration() {
    let interrupted = interrupt(Killed::Both);
    let sandbox = &interrupted.sandbox;
    sandbox.dbelay(&["status"]).says(&["interrupted"]);
    sandbox.dbelay(&["rollback", "--yes"]).exits(0);
    oracle::assert_same(&interrupted.kept, &sandbox.db());
    sandbox.dbelay(&["migrate", "--", "true"]).exits(0);
}

#[test]
fn resume_runs_the_command_again_and_judges_all_of_it() {
    let interrupted = interrupt(Killed::Both);
    let sandbox = &interrupted.sandbox;
    let run = sandbox.dbelay(&["migrate", "--resume"]).exits(0);
    run.says(&["is taken up", "+ column `users.email`", "2 changed"]);
    assert_eq!(emails(sandbox), 2);
    sandbox.dbelay(&["rollback", "--yes"]).exits(0);
    oracle::assert_same(&interrupted.kept, &sandbox.db());
}

#[test]
fn a_resumed_migration_that_loses_rows_goes_back_to_its_beginning() {
    let interrupted = interrupt(Killed::Both);
    let sandbox = &interrupted.sandbox;
    std::fs::write(sandbox.path("lose.sql"), "DELETE FROM users").unwrap();
    let apply = ["--", env!("CARGO_BIN_EXE_dbelay"), "--db", "app.db", "demo-apply", "lose.sql"];
    let arguments: Vec<&str> = ["migrate", "--resume"].into_iter().chain(apply).collect();
    sandbox.dbelay(&arguments).exits(4).says(&["2 of 2 rows of `users` are gone"]);
    oracle::assert_same(&interrupted.kept, &sandbox.db());
}

#[test]
fn a_database_that_an_interrupted_migration_left_as_garbage_is_set_aside() {
    let interrupted = interrupt(Killed::Both);
    let sandbox = &interrupted.sandbox;
    std::fs::write(sandbox.db(), "no database any more, whatever it was").unwrap();
    sandbox.dbelay(&["migrate", "--", "true"]).exits(3).says(&["was interrupted", "dbelay rollback pre"]);
    sandbox.dbelay(&["rollback", "--yes"]).exits(0);
    oracle::assert_same(&interrupted.kept, &sandbox.db());
    assert!(std::fs::read_to_string(sandbox.path("app.db.failed-1")).unwrap().starts_with("no database"));
    sandbox.dbelay(&["migrate", "--", "true"]).exits(0);
}

#[test]
fn a_rollback_of_what_is_gone_makes_it_as_others_are_made_and_of_garbage_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let sandbox = Sandbox::with(SHOP);
    let usual = mode(&sandbox.db());
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    std::fs::remove_file(sandbox.db()).unwrap();
    sandbox.dbelay(&["rollback", "good", "--yes"]).exits(0);
    assert_eq!(mode(&sandbox.db()), usual);
    std::fs::write(sandbox.db(), "garbage, whatever it was before").unwrap();
    std::fs::set_permissions(sandbox.db(), std::fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.dbelay(&["rollback", "good", "--yes"]).exits(0).says(&["app.db.failed-1"]);
    assert_eq!(mode(&sandbox.db()), 0o600);
}

#[test]
fn a_database_behind_a_link_is_made_anew_behind_it() {
    let sandbox = Sandbox::with(SHOP);
    let kept = sandbox.copy_db("kept.db");
    std::fs::create_dir(sandbox.path("data")).unwrap();
    std::fs::rename(sandbox.db(), sandbox.path("data/real.db")).unwrap();
    std::os::unix::fs::symlink("data/real.db", sandbox.db()).unwrap();
    sandbox.dbelay(&["migrate", "--", "sh", "-c", "echo garbage > app.db"]).exits(4).says(&["data/real.db.failed-1"]);
    assert!(sandbox.db().symlink_metadata().unwrap().is_symlink());
    oracle::assert_same(&kept, &sandbox.path("data/real.db"));
}

#[test]
fn accept_keeps_what_an_interrupted_migration_did() {
    let interrupted = interrupt(Killed::Both);
    let sandbox = &interrupted.sandbox;
    sandbox.dbelay(&["migrate", "--accept"]).exits(0).says(&["is kept", "dbelay undo"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM pragma_table_info('users')"), 3);
    sandbox.dbelay(&["migrate", "--accept"]).exits(3).says(&["there is no interrupted migration"]);
    sandbox.dbelay(&["undo"]).exits(0);
    oracle::assert_same(&interrupted.kept, &sandbox.db());
}

#[test]
fn a_command_that_never_ends_is_ended_and_rolled_back() {
    let sandbox = Sandbox::with(SHOP);
    let kept = sandbox.copy_db("kept.db");
    std::fs::write(sandbox.path("half.sql"), "DELETE FROM users").unwrap();
    assert!(Command::new("mkfifo").arg(sandbox.path("never")).status().unwrap().success());
    let script = "\"$0\" --db app.db demo-apply half.sql; exec cat never";
    let arguments = ["migrate", "--timeout", "1500ms", "--json", "--", "sh", "-c", script, env!("CARGO_BIN_EXE_dbelay")];
    let run = sandbox.dbelay(&arguments).exits(4).says(&["took too long", "it ran longer than 1.5 s", "was rolled back"]);
    assert_eq!(run.json()["command"]["timed_out"], true);
    oracle::assert_same(&kept, &sandbox.db());
    sandbox.dbelay(&["migrate", "--timeout", "soon", "--", "true"]).exits(2);
}

#[test]
fn a_command_that_replaces_the_file_is_told_of_and_rolled_back() {
    let sandbox = Sandbox::with(SHOP);
    let kept = sandbox.copy_db("kept.db");
    let other = Sandbox::with("CREATE TABLE other(x); INSERT INTO other VALUES(1)");
    std::fs::rename(other.db(), sandbox.path("new.db")).unwrap();
    let run = sandbox.dbelay(&["migrate", "--json", "--", "mv", "new.db", "app.db"]).exits(4);
    assert_eq!(run.json()["events"][0]["event"], "replaced");
    run.says(&["replaced the database's file by another", "table `users` was dropped with 2 rows"]);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn a_deleted_database_comes_back_with_its_permissions_and_without_a_stale_log() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with(SHOP);
    sandbox.sql("PRAGMA journal_mode=wal");
    std::fs::set_permissions(sandbox.db(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let writer = sandbox.connect();
    writer.execute_batch("INSERT INTO users VALUES(3,'only in the log')").unwrap();
    let kept = sandbox.copy_db("kept.db");
    // The log of the deleted file stays behind.
    let run = sandbox.dbelay(&["migrate", "--json", "--", "rm", "app.db"]).exits(4);
    assert_eq!(run.json()["events"][0]["event"], "deleted");
    drop(writer);
    oracle::assert_same(&kept, &sandbox.db());
    assert_eq!(sandbox.db().metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(sandbox.connect().pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap(), "wal");
}

#[test]
fn a_command_that_empties_the_database_is_called_that() {
    let sandbox = Sandbox::with(SHOP);
    sandbox.sql("CREATE TABLE notes(id INTEGER PRIMARY KEY, t TEXT); INSERT INTO notes VALUES(1,'x')");
    let kept = sandbox.copy_db("kept.db");
    let reset = "DROP TABLE users; DROP TABLE notes; CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE notes(id INTEGER PRIMARY KEY, t TEXT)";
    sandbox.migrate(&[], reset).exits(4).says(&["the migration emptied the database"]);
    oracle::assert_same(&kept, &sandbox.db());
}

#[test]
fn a_changed_journal_mode_is_told_of_and_put_back() {
    let mode = |sandbox: &Sandbox| sandbox.connect().pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap();
    let sandbox = Sandbox::with(SHOP);
    sandbox.migrate(&[], "PRAGMA journal_mode=wal; ALTER TABLE users ADD COLUMN x").exits(0).says(&["from `delete` to `wal`"]);
    assert_eq!(mode(&sandbox), "wal");
    let back = Sandbox::with(SHOP);
    back.migrate(&[], "PRAGMA journal_mode=wal; DELETE FROM users").exits(4).says(&["from `delete` to `wal`"]);
    assert_eq!(mode(&back), "delete");
}

#[test]
fn what_a_json_reader_gets_has_every_field_also_where_nothing_changed() {
    let sandbox = Sandbox::with(SHOP);
    let mut command = sandbox.command();
    let run = finish(command.args(["--db", "app.db", "migrate", "--json", "--", "true"])).exits(0);
    let document = run.json();
    for field in ["result", "pre", "post", "command", "events", "schema", "tables", "losses", "guards", "seconds"] {
        assert!(!document[field].is_null(), "{field}: {document}");
    }
}
