//! Bad input gets the right message and the right exit code, and changes nothing.

use crate::sandbox::Sandbox;

const ONE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'a')";

#[track_caller]
fn check(sandbox: &Sandbox, arguments: &[&str], code: i32, said: &[&str]) {
    sandbox.dbelay(arguments).exits(code).says(said);
    let json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let run = sandbox.dbelay(&json).exits(code);
    assert_eq!(run.json()["schema_version"], 1, "{arguments:?}");
    assert!(run.json()["error"]["message"].is_string(), "{arguments:?}: {}", run.stdout);
}

#[test]
fn a_missing_database_is_named() {
    let sandbox = Sandbox::new();
    check(&sandbox, &["snapshot"], 2, &["there is no database at", "app.db"]);
    assert!(!sandbox.path(".dbelay").exists() && !sandbox.db().exists());
}

#[test]
fn a_file_of_text_and_a_directory_and_noise_are_no_databases() {
    let sandbox = Sandbox::new();
    for (content, said) in [(&b"plain text, and more of it"[..], "it holds text"), (&[0x8f_u8; 4096][..], "SQLCipher")] {
        std::fs::write(sandbox.db(), content).unwrap();
        check(&sandbox, &["snapshot"], 2, &["is not a SQLite database", said]);
        assert_eq!(std::fs::read(sandbox.db()).unwrap(), content);
    }
    std::fs::remove_file(sandbox.db()).unwrap();
    std::fs::create_dir(sandbox.db()).unwrap();
    check(&sandbox, &["snapshot"], 2, &["it is a directory"]);
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.db(), b"").unwrap();
    sandbox.dbelay(&["snapshot", "--tag", "empty"]).exits(0);
    sandbox.sql(ONE);
    sandbox.dbelay(&["rollback", "empty"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM sqlite_schema"), 0);
}

#[test]
fn a_damaged_database_is_not_migrated() {
    let sandbox = Sandbox::with(ONE);
    sandbox.sql("CREATE INDEX i ON t(x); WITH RECURSIVE n(k) AS (SELECT 2 UNION ALL SELECT k+1 FROM n WHERE k<2000) INSERT INTO t SELECT k,'row'||k FROM n");
    let mut bytes = std::fs::read(sandbox.db()).unwrap();
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 64].fill(0xff);
    std::fs::write(sandbox.db(), &bytes).unwrap();
    sandbox.dbelay(&["migrate", "--", "true"]).exits(3).says(&["the database is damaged", "the migration was not begun"]);
    assert_eq!(std::fs::read(sandbox.db()).unwrap(), bytes);
}

#[test]
fn no_store_is_said_with_the_command_that_makes_one() {
    let sandbox = Sandbox::with(ONE);
    for command in [&["log"][..], &["diff"], &["rollback"], &["undo"], &["status"], &["fsck"], &["tag"], &["op", "log"], &["show"]] {
        check(&sandbox, command, 10, &["there is no store at", "dbelay init"]);
    }
    assert!(!sandbox.path(".dbelay").exists());
}

#[test]
fn selectors_that_name_nothing_or_two_things_are_refused() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    check(&sandbox, &["rollback", "nosuch"], 2, &["`nosuch` names no snapshot"]);
    check(&sandbox, &["rollback"], 2, &["pre"]);
    check(&sandbox, &["show", "ab"], 2, &[]);
    check(&sandbox, &["rollback", "live"], 2, &["`live` is no snapshot"]);
    check(&sandbox, &["show", "@{in the year of the dragon}"], 2, &[]);
    check(&sandbox, &["cat", "HEAD", "nosuch"], 2, &["there is no table `nosuch`"]);
    check(&sandbox, &["cat", "HEAD", "t", "--key", "99"], 2, &["there is no row with the key 99"]);
}

#[test]
fn a_snapshot_of_another_database_is_refused() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let id = sandbox.dbelay(&["log", "--json"]).json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let other = rusqlite::Connection::open(sandbox.path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE mine(x)").unwrap();
    drop(other);
    let run = sandbox.run(&["--db", "other.db", "rollback", &id, "--yes"]).exits(2);
    assert!(run.stderr.contains("is of `") && run.stderr.contains("app.db"), "{}", run.stderr);
}

#[test]
fn a_locked_database_is_said_so_in_time() {
    let sandbox = Sandbox::with(ONE);
    std::fs::write(sandbox.path("dbelay.toml"), "database = \"app.db\"\n[sqlite]\nbusy-timeout-ms = 50\n").unwrap();
    let holder = sandbox.connect();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    check(&sandbox, &["snapshot"], 11, &["the database is locked by another process", "busy-timeout-ms"]);
}

#[test]
fn a_store_of_a_newer_format_is_left_alone() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let path = sandbox.path(".dbelay/config.json");
    let config = std::fs::read_to_string(&path).unwrap().replace("\"format\":3", "\"format\":9");
    std::fs::write(&path, config).unwrap();
    check(&sandbox, &["snapshot"], 2, &["has format version 9; this dbelay reads up to 3"]);
    check(&sandbox, &["log"], 2, &["format version 9"]);
}

#[test]
fn a_snapshot_of_a_newer_format_is_refused_by_itself() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let json = "{\"format\":7,\"what\":\"ever\"}";
    let id = dbelay::id::ObjectId::of(json.as_bytes());
    std::fs::write(sandbox.path(&format!(".dbelay/snapshots/{id}.json")), json).unwrap();
    check(&sandbox, &["log"], 3, &["format version 7; this dbelay reads up to 2"]);
}

#[test]
fn configuration_errors_name_file_line_and_key() {
    let sandbox = Sandbox::with(ONE);
    std::fs::write(sandbox.path("dbelay.toml"), "database = \"app.db\"\n[migrate]\non-failure = \"explode\"\n").unwrap();
    check(&sandbox, &["snapshot"], 2, &["dbelay.toml`, line 3", "migrate.on-failure"]);
}

#[test]
fn no_named_database_and_an_unsupported_one_are_said() {
    let sandbox = Sandbox::with(ONE);
    let run = sandbox.run(&["snapshot"]).exits(2);
    assert!(run.stderr.contains("no database is named"), "{}", run.stderr);
    let run = sandbox.run(&["--db", "postgres://user:secret@localhost/app", "snapshot"]).exits(2);
    assert!(run.stderr.contains("postgres") && !run.stderr.contains("secret"), "{}", run.stderr);
    let mut command = sandbox.command();
    command.env("DATABASE_URL", "").arg("snapshot");
    let run = crate::sandbox::finish(&mut command).exits(2);
    assert!(run.stderr.contains("is empty"), "{}", run.stderr);
}

#[test]
fn usage_errors_exit_with_two_and_say_what_was_meant() {
    let sandbox = Sandbox::with(ONE);
    let run = sandbox.dbelay(&["snapshoot"]).exits(2);
    assert!(run.stderr.contains("snapshot"), "{}", run.stderr);
    sandbox.dbelay(&["migrate"]).exits(2);
    let run = sandbox.dbelay(&["--json", "diff", "--nonsense"]).exits(2);
    assert_eq!(run.json()["error"]["kind"], "usage");
    sandbox.dbelay(&["snapshot", "--tag", "HEAD"]).exits(2).says(&["cannot be a tag"]);
    assert!(!sandbox.path(".dbelay").exists());
    sandbox.dbelay(&["migrate", "--on-failure", "ask", "--", "true"]).exits(2).says(&["nobody can be asked"]);
}

#[test]
fn a_damaged_pack_costs_only_what_it_held() {
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot", "--tag", "one"]).exits(0);
    let packs = || -> Vec<std::path::PathBuf> {
        walkdir::WalkDir::new(sandbox.path(".dbelay/packs"))
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "pack"))
            .collect()
    };
    let first = packs();
    sandbox.sql("CREATE TABLE other(y); INSERT INTO other VALUES('new')");
    sandbox.dbelay(&["snapshot", "--tag", "two"]).exits(0);
    let second = packs().into_iter().find(|path| !first.contains(path)).unwrap();
    let mut bytes = std::fs::read(&second).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(&second, &bytes).unwrap();
    sandbox.dbelay(&["fsck"]).exits(1).prints(&["damage in packs/", "cannot be restored whole"]);
    sandbox.dbelay(&["show", "two"]).exits(3).says(&["is missing from the store", "fsck --read-data"]);
    sandbox.dbelay(&["rollback", "one"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM sqlite_schema"), 1);
}

#[test]
fn a_read_only_database_can_be_read_and_is_not_written() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with(ONE);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE t SET x='b'");
    std::fs::set_permissions(sandbox.db(), std::fs::Permissions::from_mode(0o444)).unwrap();
    sandbox.dbelay(&["snapshot"]).exits(0);
    // Root may write everything, so that there is nothing to refuse.
    if std::fs::OpenOptions::new().write(true).open(sandbox.db()).is_err() {
        sandbox.dbelay(&["rollback", "good"]).exits(3).says(&["cannot be written"]);
    }
}
