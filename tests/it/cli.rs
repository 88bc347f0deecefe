//! The command line as people meet it: init and what it offers, log, show, cat, status, completions, manual pages, colours, pipes.

use std::io::Write;
use std::process::Stdio;

use crate::sandbox::{Sandbox, finish};

const ONE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'a'),(2,'b')";

#[test]
fn init_offers_what_it_finds_and_takes_nothing_by_itself() {
    let sandbox = Sandbox::with(ONE);
    std::fs::write(sandbox.path(".env"), "DATABASE_URL=sqlite:app.db\n").unwrap();
    let run = sandbox.run(&["init"]).exits(2);
    assert!(
        run.stderr.contains("these were found") && run.stderr.contains(".env:1") && run.stderr.contains("dbelay init --db"),
        "{}",
        run.stderr
    );
    assert!(!sandbox.path("dbelay.toml").exists());
    sandbox.run(&["init", "--db", "app.db"]).exits(0).says(&["wrote dbelay.toml: database app.db", "next: `dbelay snapshot`"]);
    let config = std::fs::read_to_string(sandbox.path("dbelay.toml")).unwrap();
    assert!(config.contains("database = \"app.db\""), "{config}");
    sandbox.run(&["init"]).exits(0).says(&["is there already"]);
    sandbox.run(&["snapshot"]).exits(0).says(&["app.db (from dbelay.toml)"]);
    assert_eq!(std::fs::read_to_string(sandbox.path(".dbelay/.gitignore")).unwrap(), "*\n");
}

#[test]
fn each_framework_names_its_database() {
    for (file, text) in [
        ("schema.prisma", "datasource db {\n  provider = \"sqlite\"\n  url = \"file:./app.db\"\n}\n"),
        (
            "settings.py",
            "DATABASES = {\n  'default': {\n    'ENGINE': 'django.db.backends.sqlite3',\n    'NAME': BASE_DIR / 'app.db',\n  }\n}\n",
        ),
        ("database.yml", "development:\n  adapter: sqlite3\n  database: app.db\n"),
        ("knexfile.js", "module.exports = { development: { client: 'sqlite3', connection: { filename: './app.db' } } }\n"),
        ("drizzle.config.ts", "export default { dialect: 'sqlite', dbCredentials: { url: 'app.db' } }\n"),
    ] {
        let sandbox = Sandbox::with(ONE);
        let path = if file == "database.yml" { format!("config/{file}") } else { file.to_owned() };
        std::fs::create_dir_all(sandbox.path("config")).unwrap();
        std::fs::write(sandbox.path(&path), text).unwrap();
        let run = sandbox.run(&["init"]).exits(2);
        assert!(run.stderr.contains(file) && run.stderr.contains("app.db"), "{file}: {}", run.stderr);
    }
}

#[test]
fn log_show_and_cat_look_at_snapshots() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot", "-m", "first", "--tag", "v1"]).exits(0);
    sandbox.sql("UPDATE t SET x = 'c' WHERE id = 2; CREATE TABLE u(y)");
    sandbox.dbelay(&["snapshot", "-m", "second"]).exits(0);
    sandbox.dbelay(&["log"]).exits(0).prints(&["second", "first", "(v1)", "2 tables, 2 rows"]);
    assert_eq!(sandbox.dbelay(&["log", "--oneline", "-n", "1"]).exits(0).stdout.lines().count(), 1);
    let changed = |arguments: &[&str]| sandbox.dbelay(arguments).exits(0).json()["snapshots"].as_array().unwrap().len();
    assert_eq!(changed(&["log", "t", "--json"]), 2);
    assert_eq!(changed(&["log", "t", "1", "--json"]), 1);
    assert_eq!(changed(&["log", "t", "2", "--json"]), 2);
    assert_eq!(changed(&["log", "u", "--json"]), 1);
    sandbox.dbelay(&["log", "nosuch"]).exits(2);
    sandbox.dbelay(&["show", "v1"]).exits(0).prints(&["kind     manual", "message  first", "t         2"]);
    assert_eq!(sandbox.dbelay(&["show", "v1", "--schema"]).exits(0).stdout, "CREATE TABLE t(id INTEGER PRIMARY KEY, x);\n");
    assert_eq!(sandbox.dbelay(&["cat", "v1", "t"]).exits(0).stdout, "id,x\r\n1,a\r\n2,b\r\n");
    assert_eq!(sandbox.dbelay(&["cat", "HEAD", "T", "--key", "2", "--format", "jsonl"]).exits(0).stdout, "{\"id\":2,\"x\":\"c\"}\n");
    assert_eq!(sandbox.dbelay(&["cat", "v1", "t", "--json"]).exits(0).json()["rows"][1]["x"], "b");
    let sql = sandbox.dbelay(&["cat", "v1", "t", "--format", "sql"]).exits(0).stdout;
    sandbox.sql(&format!("DELETE FROM t; {sql}"));
    assert_eq!(sandbox.number("SELECT count(*) FROM t WHERE x IN ('a','b')"), 2);
}

#[test]
fn status_tells_drift_with_its_exit_code() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["status"]).exits(0).prints(&["the database is equal to it"]);
    sandbox.sql("INSERT INTO t VALUES(3,'c')");
    sandbox.dbelay(&["status"]).exits(0).prints(&["t  3 rows, had 2"]);
    sandbox.sql("ALTER TABLE t ADD COLUMN z");
    sandbox.dbelay(&["status"]).exits(1).prints(&["the schema was changed since", "+ column `t.z`"]);
    let json = sandbox.dbelay(&["status", "--json"]).exits(1).json();
    assert_eq!((json["drift"].as_bool(), json["same"].as_bool()), (Some(true), Some(false)));
}

#[test]
fn completions_and_manual_pages_are_made() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(sandbox.run(&["completions", shell]).exits(0).stdout.contains("migrate"));
    }
    sandbox.run(&["man"]).exits(0).prints(&[".TH dbelay"]);
    sandbox.run(&["man", "--dir", "man"]).exits(0);
    assert!(sandbox.path("man/dbelay-migrate.1").exists());
}

#[test]
fn every_help_has_examples() {
    let sandbox = Sandbox::new();
    for command in [
        "init",
        "demo",
        "migrate",
        "snapshot",
        "log",
        "show",
        "status",
        "diff",
        "rollback",
        "restore",
        "undo",
        "redo",
        "tag",
        "cat",
        "fsck",
        "completions",
        "man",
    ] {
        sandbox.run(&[command, "--help"]).exits(0).prints(&["Examples:", "dbelay"]);
    }
    sandbox.run(&["--help"]).exits(0).prints(&["Exit codes:", "migrate"]);
}

#[test]
fn colours_are_for_terminals_or_on_demand() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql("UPDATE t SET x = 'c'");
    assert!(!sandbox.dbelay(&["diff"]).exits(0).stdout.contains('\u{1b}'));
    assert!(sandbox.dbelay(&["diff", "--color", "always"]).exits(0).stdout.contains("\u{1b}["));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::with(ONE);
    sandbox.sql("WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i+1 FROM n WHERE i<60000) INSERT INTO t SELECT i, 'a long enough line '||i FROM n");
    sandbox.dbelay(&["snapshot"]).exits(0);
    let mut child =
        sandbox.command().args(["--db", "app.db", "cat", "HEAD", "t"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("error"), "{stderr}");
}

#[test]
fn quiet_says_nothing_but_data() {
    let sandbox = Sandbox::with(ONE);
    let run = sandbox.dbelay(&["snapshot", "-q"]).exits(0);
    assert_eq!(run.stderr, "");
    assert!(run.stdout.starts_with("snapshot "));
}

#[test]
fn the_database_is_found_as_documented() {
    let sandbox = Sandbox::with(ONE);
    std::fs::write(sandbox.path(".env"), "DATABASE_URL=file:./app.db\n").unwrap();
    sandbox.run(&["snapshot"]).exits(0).says(&["app.db (from DATABASE_URL in .env)"]);
    let mut command = sandbox.command();
    command.env("DBELAY_DATABASE_URL", "sqlite:app.db").args(["snapshot"]);
    finish(&mut command).exits(0).says(&["DBELAY_DATABASE_URL"]);
    std::fs::create_dir(sandbox.path("sub")).unwrap();
    let mut command = sandbox.command();
    command.current_dir(sandbox.path("sub")).args(["log", "--json"]);
    assert_eq!(finish(&mut command).exits(0).json()["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn a_prompt_of_the_wrapped_command_is_answered_from_the_same_input() {
    let sandbox = Sandbox::with(ONE);
    let mut child = sandbox
        .command()
        .args(["--db", "app.db", "migrate", "--", "sh", "-c", "read answer; echo got $answer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"yes please\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got yes please\n");
    assert!(output.status.success());
}

#[test]
fn a_key_of_several_parts_may_hold_commas() {
    let sandbox =
        Sandbox::with("CREATE TABLE ck(a INT, b TEXT, v, PRIMARY KEY(a, b)); INSERT INTO ck VALUES(1,'x,y','here'),(2,'z','there')");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["cat", "HEAD", "ck", "--key", "[1,\"x,y\"]"]).exits(0).prints(&["here"]);
    sandbox.dbelay(&["cat", "HEAD", "ck", "--key", "2,z"]).exits(0).prints(&["there"]);
}

#[test]
fn a_dry_run_prints_its_document_too() {
    let sandbox = Sandbox::with(ONE);
    for arguments in [&["snapshot", "--dry-run", "--json"][..], &["migrate", "--dry-run", "--json", "--", "true"]] {
        assert_eq!(sandbox.dbelay(arguments).exits(0).json()["dry_run"], true);
    }
}
