//! What is said of databases of servers where no server is needed: URLs, refusals, what is written for `dbelay init`.

use crate::sandbox::{Run, Sandbox, finish};

/// Nobody listens there.
const NOBODY: &str = "postgres://anna:hunter2@127.0.0.1:1/shop";

#[track_caller]
fn keeps_the_secret(run: Run) -> Run {
    assert!(!run.stderr.contains("hunter2") && !run.stdout.contains("hunter2"), "{}{}", run.stdout, run.stderr);
    run
}

#[test]
fn a_server_that_nobody_answers_for_leaves_no_store_behind() {
    let sandbox = Sandbox::new();
    for command in [&["snapshot"][..], &["migrate", "--", "true"], &["migrate", "--rehearse-only", "--", "true"], &["check"]] {
        let run = keeps_the_secret(sandbox.run(&[&["--db", NOBODY], command].concat()));
        assert!(run.code == 2 || run.code == 3, "{command:?}: {} {}", run.code, run.stderr);
        run.says(&["error: "]);
        assert!(!sandbox.path(".dbelay").exists(), "{command:?}");
    }
    let document = keeps_the_secret(sandbox.run(&["--json", "--db", NOBODY, "snapshot"])).json();
    assert!(document["error"]["message"].is_string(), "{document}");
}

#[test]
fn mysql_is_refused_by_name() {
    let sandbox = Sandbox::new();
    for command in [&["snapshot"][..], &["migrate", "--", "true"]] {
        let run = sandbox.run(&[&["--db", "mysql://anna:hunter2@localhost/shop"], command].concat()).exits(2);
        keeps_the_secret(run).says(&["opens SQLite and PostgreSQL databases", "is mysql"]);
    }
    assert!(!sandbox.path(".dbelay").exists());
}

#[test]
fn a_snapshot_is_not_restored_by_another_engine() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot", "--tag", "mine"]).exits(0);
    let to = |url: &str| keeps_the_secret(sandbox.dbelay(&["restore", "mine", "--to", url]).exits(2));
    to(NOBODY).says(&["is of a SQLite database", "`postgres://anna:***@127.0.0.1:1/shop` is a PostgreSQL database"]);
    to("mysql://anna:hunter2@h/d").says(&["is of a SQLite database", "is a MySQL database"]);
    let run = sandbox.run(&["--db", NOBODY, "rollback", "mine", "--force-identity", "--yes"]).exits(2);
    keeps_the_secret(run).says(&["is of `", "it is of another engine"]);
}

#[test]
fn the_schema_before_a_name_means_nothing_to_a_file() {
    let sandbox = Sandbox::with("CREATE TABLE users(id INTEGER PRIMARY KEY, name); INSERT INTO users VALUES(1,'a')");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["cat", "HEAD", "users"]).exits(0);
    sandbox.dbelay(&["cat", "HEAD", "public.users"]).exits(2).says(&["there is no table `public.users`"]);
    sandbox.migrate(&["--allow", "public.users"], "DELETE FROM users").exits(4).says(&["`--allow public.users` names no table"]);
}

#[test]
fn owners_may_be_left_out_with_every_command() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["migrate", "--no-owner", "--", "true"]).exits(0);
    for command in ["rollback", "undo", "redo"] {
        let run = sandbox.dbelay(&[command, "--no-owner", "--dry-run"]);
        assert!(!run.stderr.contains("unexpected argument"), "{command}: {}", run.stderr);
    }
}

#[test]
fn init_offers_the_variable_that_holds_a_servers_url() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path(".env"), format!("DATABASE_URL={NOBODY}\n")).unwrap();
    let run = keeps_the_secret(sandbox.run(&["init"]).exits(2));
    run.says(&["postgres://anna:***@127.0.0.1:1/shop (.env:1, DATABASE_URL; postgres)", "`dbelay init --db env:DATABASE_URL`"]);
    keeps_the_secret(sandbox.run(&["init", "--db", "env:DATABASE_URL"]).exits(0));
    let written = std::fs::read_to_string(sandbox.path("dbelay.toml")).unwrap();
    assert!(written.contains("database = \"env:DATABASE_URL\"") && !written.contains("hunter2"), "{written}");
    let run = keeps_the_secret(sandbox.run(&["snapshot"]));
    assert!(run.code != 0 && run.stderr.contains("DATABASE_URL in .env"), "{}", run.stderr);
}

#[test]
fn init_offers_another_variable_under_its_own_name() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path(".env"), format!("STAGING_DATABASE_URL={NOBODY}\n")).unwrap();
    keeps_the_secret(sandbox.run(&["init"]).exits(2)).says(&["`dbelay init --db env:STAGING_DATABASE_URL`"]);
}

#[test]
fn init_tells_that_it_wrote_a_password() {
    let sandbox = Sandbox::new();
    keeps_the_secret(sandbox.run(&["init", "--db", NOBODY]).exits(0)).says(&["the password is in dbelay.toml now", "env:DATABASE_URL"]);
    let without = Sandbox::new();
    let run = without.run(&["init", "--db", "postgres://anna@127.0.0.1:1/shop"]).exits(0);
    assert!(!run.stderr.contains("password"), "{}", run.stderr);
}

#[test]
fn a_hook_waits_for_no_server() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command();
    command.env("DATABASE_URL", NOBODY).args(["hook", "post-checkout", "a", "b", "1"]);
    let run = keeps_the_secret(finish(&mut command).exits(0));
    assert_eq!(run.stdout, "");
}
