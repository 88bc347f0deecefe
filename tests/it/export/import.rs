//! `import`: files that hold a database become snapshots, the same as they were, and what a file could do beside that is refused.

use std::io::Write;
use std::process::Command;

use super::{ODD, has_sqlite3, tables};
use crate::oracle;
use crate::sandbox::Sandbox;

/// Exports a snapshot, imports the file as a snapshot of the same database, and asserts that both are the same.
#[track_caller]
fn check_round_trip(sandbox: &Sandbox, file: &str) {
    sandbox.dbelay(&["export", "--output", file]).exits(0);
    let before = tables(sandbox, &["--db", "app.db", "show", "HEAD", "--json"]);
    sandbox.dbelay(&["import", file, "--as-source", "--tag", &format!("of-{file}")]).exits(0);
    assert_eq!(before, tables(sandbox, &["--db", "app.db", "show", &format!("of-{file}"), "--json"]), "{file}");
    let diff = sandbox.dbelay(&["diff", "first", &format!("of-{file}"), "--exit-code"]);
    assert_eq!(diff.code, 0, "{file}:\n{}", diff.stdout);
}

#[test]
fn an_export_is_imported_as_it_was() {
    for pragma in ["", "PRAGMA encoding='UTF-16le';"] {
        let sandbox = Sandbox::with(&format!("{pragma}{ODD}"));
        sandbox.dbelay(&["snapshot", "--tag", "first"]).exits(0);
        for file in ["a.json", "a.jsonl", "a.sql", "a.sql.gz", "a.sqlite", "a.zip"] {
            check_round_trip(&sandbox, file);
        }
        sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
    }
}

#[test]
fn real_databases_are_imported_as_they_were() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/databases");
    let more = std::env::var_os("DBELAY_TEST_DATABASES").map(std::path::PathBuf::from);
    for path in [folder].into_iter().chain(more).flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()) {
        if !std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0")) {
            continue;
        }
        println!("{}", path.display());
        let sandbox = Sandbox::new();
        crate::sandbox::copy_database(&path, &sandbox.db());
        sandbox.dbelay(&["snapshot", "--tag", "first"]).exits(0);
        for file in ["a.json", "a.sql.gz"] {
            check_round_trip(&sandbox, file);
        }
    }
}

#[test]
fn a_dump_of_sqlite3_is_imported() {
    if !has_sqlite3() {
        return;
    }
    let sandbox = Sandbox::with(ODD);
    sandbox.dbelay(&["snapshot", "--tag", "first"]).exits(0);
    let output = Command::new("sqlite3").arg(sandbox.db()).arg(".dump").output().unwrap();
    std::fs::write(sandbox.path("dump.sql"), output.stdout).unwrap();
    sandbox.dbelay(&["import", "dump.sql", "--as-source"]).exits(0);
    let rows = |selector: &str| {
        let sql = "SELECT count(*), sum(id), group_concat(name) FROM users";
        sandbox.dbelay(&["query", selector, sql, "--format", "csv"]).exits(0).stdout
    };
    assert_eq!(rows("first"), rows("HEAD"));
    // What it keeps: bytes that are no text, infinities, rows of an index of words. What it does not: what follows a NUL in a
    // text, row numbers that nobody named, the header's settings.
    let odd = |selector: &str| {
        let sql = "SELECT hex(b), typeof(b), a = 9e999 FROM loose WHERE length(b) > 1 OR typeof(b) != 'text' ORDER BY hex(a), hex(b)";
        sandbox.dbelay(&["query", selector, sql, "--format", "csv"]).exits(0).stdout
    };
    assert_eq!(odd("first"), odd("HEAD"));
    sandbox.dbelay(&["query", "HEAD", "SELECT body FROM words WHERE words MATCH 'fox'"]).exits(0).prints(&["the quick brown fox"]);
}

#[test]
fn a_file_becomes_a_snapshot_beside_those_of_the_database() {
    let sandbox = Sandbox::with("CREATE TABLE t(a); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot", "--tag", "mine"]).exits(0);
    std::fs::write(sandbox.path("seed.sql"), "CREATE TABLE t(a);\nCREATE TABLE log(n);\nINSERT INTO t VALUES(1),(2);\n").unwrap();
    let run = sandbox.dbelay(&["import", "seed.sql", "-m", "seed", "--tag", "seed", "--json"]).exits(0);
    let document = run.json();
    assert_eq!((&document["rows"], &document["kind"], &document["message"]), (&2.into(), &"manual".into(), &"seed".into()));
    assert!(document["source"]["place"].as_str().unwrap().ends_with("/seed.sql"));
    sandbox.dbelay(&["import", "seed.sql", "--tag", "seed"]).exits(2).says(&["there is a tag `seed` already"]);
    let head = sandbox.dbelay(&["query", "HEAD", "SELECT count(*) AS n FROM t", "--json"]).exits(0).json();
    assert_eq!(head["rows"][0]["n"], 1, "the newest snapshot of the database is its own");
    sandbox.dbelay(&["rollback", "seed", "--force-identity", "--yes"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 2);
    sandbox.dbelay(&["op", "log"]).exits(0).prints(&["import"]);
}

#[test]
fn a_first_import_makes_the_store() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("seed.sql"), "CREATE TABLE t(a); INSERT INTO t VALUES(1);").unwrap();
    let id = sandbox.run(&["import", "seed.sql", "--json"]).exits(0).json()["id"].as_str().unwrap().to_owned();
    sandbox.run(&["restore", &id, "--to", "new.db"]).exits(0);
    let other = Sandbox::with("CREATE TABLE t(a); INSERT INTO t VALUES(1);");
    oracle::assert_same(&other.db(), &sandbox.path("new.db"));
}

#[test]
fn what_cannot_be_imported_is_refused_by_name_and_leaves_no_snapshot() {
    let sandbox = Sandbox::with("CREATE TABLE t(a)");
    sandbox.dbelay(&["snapshot"]).exits(0);
    let write = |name: &str, bytes: &[u8]| std::fs::write(sandbox.path(name), bytes).unwrap();
    let gz = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let good = gz("CREATE TABLE t(a);");
    for (name, bytes, words) in [
        ("shell.sql", &b"CREATE TABLE t(a);\n.shell rm -rf x\n"[..], "line 2 is a command of the sqlite3 shell"),
        ("attach.sql", b"ATTACH 'stolen.db' AS s; CREATE TABLE s.t(a);", "attach another database"),
        ("extension.sql", b"SELECT load_extension('./x.so');", "load_extension"),
        ("cut.sql", b"BEGIN; CREATE TABLE t(a);", "cut off"),
        ("wrong.sql", b"CREATE TABLE t(a);\nINSERT INTO u VALUES(1);\n", "the statement on line 2"),
        ("cut.sql.gz", &good[..good.len() - 9], "cannot"),
        ("pg.sql", b"--\n-- PostgreSQL database dump\n--\n\\! rm -rf x\n", "psql"),
        ("pg.dump", b"PGDMP...", "pg_restore"),
        ("other.json", b"{\"users\": []}", "no export of dbelay"),
        ("other.zip", b"PK\x03\x04", "cannot be imported"),
        ("damaged.db", b"SQLite format 3\0 and no more", ""),
    ] {
        write(name, bytes);
        let run = sandbox.dbelay(&["import", name]);
        assert!([2, 3].contains(&run.code), "{name}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{name}: {}", run.stderr);
    }
    sandbox.dbelay(&["import", "nowhere.sql"]).exits(2);
    assert!(!sandbox.path("stolen.db").exists());
    assert_eq!(sandbox.dbelay(&["log", "--json"]).exits(0).json()["snapshots"].as_array().unwrap().len(), 1);
}
