//! `dbelay check` and what a migration is told before it runs: through the built binary, on real databases.

use std::process::Stdio;

use crate::sandbox::Sandbox;

const CHATS: &str = "
CREATE TABLE chats(id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE messages(id INTEGER PRIMARY KEY, chat_id INTEGER REFERENCES chats(id) ON DELETE CASCADE, body TEXT);
INSERT INTO chats VALUES(1,'a'),(2,NULL);
INSERT INTO messages VALUES(1,1,'x'),(2,1,'y'),(3,2,'z');
";

const REBUILD: &str = "-- made by hand
CREATE TABLE chats_new(
  id INTEGER PRIMARY KEY,
  title TEXT NOT NULL
);
INSERT INTO chats_new SELECT * FROM chats;
DROP TABLE chats;
ALTER TABLE chats_new RENAME TO chats;
";

/// Makes a project with migrations, the first of which is applied according to dbmate's ledger.
fn project(live: &str, files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::with(live);
    for (name, text) in files {
        let path = sandbox.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    sandbox
}

#[test]
fn findings_are_shown_with_place_rows_and_remedy_and_nothing_is_changed() {
    let sandbox = project(
        CHATS,
        &[("migrations/1_init.sql", "CREATE TABLE chats(id); CREATE TABLE messages(id);"), ("migrations/2_rebuild.sql", REBUILD)],
    );
    let before = std::fs::read(sandbox.db()).unwrap();
    sandbox.dbelay(&["check"]).exits(1).prints(&[
        "error[not-null-over-nulls]: `title` of `chats_new` is NOT NULL, and 1 row has NULL",
        "--> migrations/2_rebuild.sql:4:3",
        "4 |   title TEXT NOT NULL",
        "  |   ^^^^^^^^^^^^^^^^^^^",
        "= rows: 1, such as id=2",
        "= instead: fill it before",
        "= silence: `-- dbelay: allow not-null-over-nulls` above the statement",
        "error[rebuild-cascades]: `DROP TABLE chats` in the rebuild of `chats` deletes 3 rows of `messages`",
        "--> migrations/2_rebuild.sql:7:12",
    ]);
    assert_eq!(std::fs::read(sandbox.db()).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(sandbox.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no store and no journal: {left:?}");
}

#[test]
fn what_check_says_of_a_rebuild_is_what_happens() {
    let sandbox = project(CHATS, &[("up.sql", REBUILD)]);
    sandbox.sql("UPDATE chats SET title = 'b' WHERE title IS NULL");
    std::fs::write(sandbox.path("dbelay.toml"), "database = \"app.db\"\n[migrate]\nfiles = [\"up.sql\"]\n").unwrap();
    sandbox.run(&["check"]).exits(1).prints(&["rebuild-cascades", "3 rows of `messages`"]);
    sandbox.migrate(&[], REBUILD).exits(4).says(&["3 of 3 rows of `messages` are gone"]);
}

#[test]
fn a_good_database_with_good_migrations_has_nothing_found() {
    let sandbox = project(CHATS, &[("migrations/2_more.sql", "ALTER TABLE chats ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;")]);
    sandbox.dbelay(&["check"]).exits(0).says(&["nothing found", "1 of 1 migration files looked at", "no ledger tells"]);
    let document = sandbox.dbelay(&["check", "--json"]).exits(0).json();
    assert_eq!((&document["ok"], &document["files"][0]["pending"]), (&true.into(), &true.into()));
    Sandbox::with(CHATS).dbelay(&["check"]).exits(0).says(&["no migrations that are SQL files were found"]);
}

#[test]
fn a_ledger_tells_which_migrations_are_pending() {
    let live =
        format!("{CHATS} CREATE TABLE schema_migrations(version TEXT PRIMARY KEY); INSERT INTO schema_migrations VALUES('20240101');");
    let drop = "-- migrate:up\nDROP TABLE messages;\n-- migrate:down\nDROP TABLE chats;\n";
    let sandbox =
        project(&live, &[("db/migrations/20240101_old.sql", drop), ("db/migrations/20240102_new.sql", "-- migrate:up\nSELECT 1;\n")]);
    sandbox.dbelay(&["check"]).exits(0).says(&["1 of 2 migration files looked at"]);
    sandbox.sql("DELETE FROM schema_migrations");
    let document = sandbox.dbelay(&["check", "--json"]).exits(1).json();
    let finding = &document["findings"][0];
    assert_eq!(finding["rule"], "drop-table-with-data");
    assert_eq!((&finding["path"], &finding["line"], &finding["column"]), (&"db/migrations/20240101_old.sql".into(), &2.into(), &12.into()));
    assert_eq!((&finding["severity"], &finding["rows"], &finding["table"]), (&"error".into(), &3.into(), &"messages".into()));
}

#[test]
fn pending_migrations_are_taken_in_the_order_of_their_versions() {
    let fill = "UPDATE chats SET title = 'b' WHERE title IS NULL;";
    let rebuild = "CREATE TABLE n(id INTEGER PRIMARY KEY, title TEXT NOT NULL); INSERT INTO n SELECT * FROM chats;";
    for (first, second) in [("9_fill.up.sql", "10_key.up.sql"), ("V9__fill.sql", "V10__key.sql"), ("V1.9__fill.sql", "V1.10__key.sql")] {
        let name = |file: &str| format!("migrations/{file}");
        let sandbox = project(CHATS, &[(&name(first), fill), (&name(second), rebuild)]);
        sandbox.dbelay(&["check"]).exits(0).says(&["2 of 2 migration files looked at"]);
        let sandbox = project(CHATS, &[(&name(first), rebuild), (&name(second), fill)]);
        sandbox.dbelay(&["check"]).exits(1).prints(&["not-null-over-nulls"]);
    }
}

#[test]
fn findings_are_silenced_by_comment_configuration_and_allowance() {
    let drop = "DROP TABLE messages;\n";
    let sandbox = project(CHATS, &[("migrations/1.sql", drop)]);
    sandbox.dbelay(&["check"]).exits(1);
    std::fs::write(sandbox.path("migrations/1.sql"), format!("-- dbelay: allow drop-table-with-data: nobody reads them\n{drop}")).unwrap();
    sandbox.dbelay(&["check"]).exits(1).says(&["is no rule"]);
    std::fs::write(sandbox.path("migrations/1.sql"), format!("-- dbelay: allow drop-table-with-data (nobody reads them)\n{drop}")).unwrap();
    sandbox.dbelay(&["check"]).exits(0).says(&["1 silenced"]);
    std::fs::write(sandbox.path("migrations/1.sql"), drop).unwrap();
    let configure = |text: &str| std::fs::write(sandbox.path("dbelay.toml"), format!("database = \"app.db\"\n{text}")).unwrap();
    configure("[check]\nignore = [\"drop-table-with-data:messages\"]\n");
    sandbox.run(&["check"]).exits(0);
    configure("[migrate]\nallow = [\"messages\"]\n");
    sandbox.run(&["check"]).exits(0);
    configure("[check]\nignore = [\"drop-table\"]\n");
    sandbox.run(&["check"]).exits(1).says(&["`drop-table`, which is no rule"]);
}

#[test]
fn rules_are_listed_and_explained() {
    let sandbox = Sandbox::new();
    let listed = sandbox.run(&["check", "--rules"]).exits(0).prints(&["rebuild-cascades", "unparsed"]);
    for rule in listed.stdout.lines().filter_map(|line| line.split_whitespace().next()) {
        sandbox.run(&["check", "--explain", rule]).exits(0).prints(&[rule, "Example:", "Instead:", "Silence:"]);
    }
    sandbox.run(&["check", "--explain", "no-such-rule"]).exits(2).says(&["`no-such-rule`", "--rules"]);
}

#[test]
fn the_state_of_the_database_is_told() {
    let sandbox = Sandbox::with(CHATS);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["check"]).exits(0);
    sandbox.sql("ALTER TABLE chats ADD COLUMN x; INSERT INTO messages VALUES(9,9,'orphan')");
    sandbox.dbelay(&["check"]).exits(1).prints(&["[drift]", "chats.x", "[foreign_key]"]);
    let document = sandbox.dbelay(&["check", "--json"]).exits(1).json();
    assert_eq!(document["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn an_open_write_transaction_is_told() {
    let sandbox = Sandbox::with(CHATS);
    let writer = sandbox.connect();
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE chats SET title = 'open'").unwrap();
    sandbox.dbelay(&["check"]).exits(1).prints(&["[writer]", "write transaction"]);
    writer.execute_batch("ROLLBACK").unwrap();
    sandbox.dbelay(&["check"]).exits(0);
}

#[test]
fn files_of_any_bytes_are_read() {
    let sandbox = project(CHATS, &[("migrations/1.sql", "SELECT 1;")]);
    std::fs::write(sandbox.path("migrations/2.sql"), b"\xff\xfe\0S\0E").unwrap();
    std::fs::write(sandbox.path("migrations/3.sql"), format!("SELECT {}", "(".repeat(1 << 18))).unwrap();
    let run = sandbox.dbelay(&["check"]).exits(1);
    assert!(run.stdout.len() < 4_000, "{} bytes", run.stdout.len());
    run.prints(&["is no UTF-8", "nests deeper"]);
}

#[test]
fn an_init_writes_where_migrations_are() {
    let sandbox = project(CHATS, &[("prisma/migrations/1_a/migration.sql", "DROP TABLE messages;")]);
    sandbox.run(&["init", "--db", "app.db"]).exits(0).says(&["prisma/migrations/*/migration.sql"]);
    assert!(std::fs::read_to_string(sandbox.path("dbelay.toml")).unwrap().contains("files = [\"prisma/migrations/*/migration.sql\"]"));
    sandbox.run(&["check"]).exits(1).prints(&["prisma/migrations/1_a/migration.sql:1:12"]);
    let nothing =
        sandbox.command().args(["check"]).env("DBELAY_DATABASE_URL", "postgres://u:hunter2@h/d").stdin(Stdio::null()).output().unwrap();
    assert!(!String::from_utf8_lossy(&nothing.stderr).contains("hunter2"));
}

#[test]
fn findings_stop_a_migration_where_that_is_wanted() {
    let sandbox = project(CHATS, &[("migrations/2.sql", "DROP TABLE messages;")]);
    let configure = |text: &str| std::fs::write(sandbox.path("dbelay.toml"), format!("database = \"app.db\"\n{text}")).unwrap();
    configure("[check]\non-findings = \"stop\"\n");
    let stopped = sandbox.migrate(&["--json"], "DROP TABLE messages;").exits(3);
    let document = stopped.json();
    assert_eq!(
        (&document["error"]["database_state"], &document["check"][0]["rule"]),
        (&"unchanged".into(), &"drop-table-with-data".into())
    );
    stopped.says(&["check[drop-table-with-data]: migrations/2.sql:1:12: `messages` is dropped", "the migration was not begun"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM messages"), 3);
    sandbox.migrate(&["--allow", "messages"], "DROP TABLE messages;").exits(0);
    sandbox.dbelay(&["undo"]).exits(0);
    configure("");
    sandbox.migrate(&[], "SELECT 1;").exits(0).says(&["check[drop-table-with-data]"]);
}

#[test]
fn guards_are_asked_without_a_migration() {
    let sandbox = Sandbox::with(CHATS);
    let assertion = "database = \"app.db\"\n[[guards.assert]]\nname = \"titles\"\nsql = \"SELECT count(*) FROM chats WHERE title IS NULL\"\nequals = 0\n";
    std::fs::write(sandbox.path("dbelay.toml"), assertion).unwrap();
    sandbox.run(&["check"]).exits(1).prints(&["[guard]", "titles"]);
    sandbox.sql("UPDATE chats SET title = 'b' WHERE title IS NULL");
    sandbox.run(&["check"]).exits(0);
}
