//! `export`: what comes out is loaded by the programs that it is for, and is the same database.

mod import;
#[cfg(all(unix, feature = "postgres"))]
mod servers;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::oracle;
use crate::sandbox::{Run, Sandbox, copy_database};

/// A database in which much is odd.
pub const ODD: &str = "
    PRAGMA user_version = 42; PRAGMA application_id = 7;
    CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, low TEXT AS (lower(name)) STORED, len AS (length(name)));
    CREATE TABLE posts(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id) ON DELETE CASCADE, body);
    CREATE TABLE loose(a, b);
    CREATE TABLE \"odd \"\"one\"(\"select\" BLOB, \"two words\" TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE log(line);
    CREATE VIEW authors AS SELECT name FROM users WHERE id IN (SELECT user_id FROM posts);
    CREATE INDEX posts_by_user ON posts(user_id) WHERE body IS NOT NULL;
    CREATE TRIGGER noise AFTER INSERT ON users BEGIN INSERT INTO log VALUES('user ' || new.name); END;
    CREATE VIRTUAL TABLE words USING fts5(body);
    INSERT INTO users(name) VALUES('Ann'), ('it''s'), ('gone');
    DELETE FROM users WHERE name = 'gone';
    INSERT INTO posts VALUES(1, 1, 'one'), (9007199254740993, 2, NULL), (3, 99, x'00ff');
    INSERT INTO loose(rowid, a, b) VALUES(5, 9e999, -9e999), (2, CAST(x'ff00' AS TEXT), 'a' || char(0) || 'b'), (9, 0.1, 1e300),
        (10, '9007199254740993', 9007199254740993), (11, char(13, 10), char(27) || '[31mred'), (12, 'x', 5e-324), (13, -0.0, 1.0);
    INSERT INTO \"odd \"\"one\" VALUES(x'', 'key'), (NULL, 'ключ');
    INSERT INTO words VALUES('the quick brown fox');";

/// Returns the id of each table of a snapshot.
pub fn tables(sandbox: &Sandbox, arguments: &[&str]) -> Vec<(String, String)> {
    let run = sandbox.run(arguments).exits(0);
    run.json()["tables"]
        .as_array()
        .unwrap_or_else(|| panic!("no tables: {}", run.stdout))
        .iter()
        .map(|table| (table["name"].as_str().unwrap().to_owned(), table["id"].as_str().or(table["manifest"].as_str()).unwrap().to_owned()))
        .collect()
}

/// Loads a dump with the program that it is for, stopping at the first error.
#[track_caller]
fn sqlite3(database: &Path, dump: &Path) {
    let input = std::fs::File::open(dump).unwrap();
    let output = Command::new("sqlite3").arg("-bail").arg(database).stdin(Stdio::from(input)).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn has_sqlite3() -> bool {
    let found = Command::new("sqlite3").arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no sqlite3");
    }
    found
}

#[track_caller]
fn exported(run: Run) -> String {
    let name = run.json()["file"].as_str().unwrap().to_owned();
    assert!(Path::new(&name).is_file(), "{name}");
    name
}

#[test]
fn an_sql_export_makes_the_same_database_with_sqlite3() {
    if !has_sqlite3() {
        return;
    }
    let sandbox = Sandbox::with(ODD);
    check_sql(&sandbox, "odd");
    let utf16 = Sandbox::with(&format!("PRAGMA encoding='UTF-16le'; PRAGMA page_size=8192; {ODD}"));
    check_sql(&utf16, "odd in UTF-16");
    let folders = [Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/databases")];
    let more = std::env::var_os("DBELAY_TEST_DATABASES").map(std::path::PathBuf::from);
    for folder in folders.into_iter().chain(more) {
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let is_database = |path: &Path| {
            let mut head = [0; 16];
            std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok()) && head == *b"SQLite format 3\0"
        };
        for path in paths.into_iter().filter(|path| is_database(path)) {
            let sandbox = Sandbox::new();
            copy_database(&path, &sandbox.db());
            check_sql(&sandbox, &path.display().to_string());
        }
    }
}

#[track_caller]
fn check_sql(sandbox: &Sandbox, name: &str) {
    println!("{name}");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["export", "--output", "out.sql"]).exits(0);
    let loaded = sandbox.path("loaded.db");
    sqlite3(&loaded, &sandbox.path("out.sql"));
    oracle::assert_same(&sandbox.db(), &loaded);
    sandbox.run(&["--db", "loaded.db", "snapshot"]).exits(0);
    let [before, after] = ["app.db", "loaded.db"].map(|db| tables(sandbox, &["--db", db, "show", "HEAD", "--json"]));
    assert_eq!(before, after, "{name}");
}

#[test]
fn a_database_that_is_exported_is_the_same() {
    let sandbox = Sandbox::with(ODD);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["export", "--output", "copy.db"]).exits(0);
    oracle::assert_same(&sandbox.db(), &sandbox.path("copy.db"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(sandbox.path("copy.db").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let files: Vec<_> = std::fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!files.iter().any(|name| name.to_string_lossy().contains("tmp-") || name.to_string_lossy().contains("-journal")), "{files:?}");
}

#[test]
fn a_file_is_named_by_its_database_and_time_and_never_written_over() {
    let sandbox = Sandbox::with(ODD);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let export = || exported(sandbox.dbelay(&["export", "--format", "json", "--json"]).exits(0));
    let [first, second] = [export(), export()];
    let stem = |path: &str| Path::new(path).file_name().unwrap().to_str().unwrap().strip_suffix(".json").unwrap().to_owned();
    let (first_stem, second_stem) = (stem(&first), stem(&second));
    assert_eq!(second_stem, format!("{first_stem}-2"));
    let shape: String = first_stem.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(shape, "app-0000-00-00T000000Z");
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    std::fs::write(sandbox.path("mine.sql"), "mine").unwrap();
    sandbox.dbelay(&["export", "--output", "mine.sql"]).exits(2).says(&["never writes over a file"]);
    assert_eq!(std::fs::read(sandbox.path("mine.sql")).unwrap(), b"mine");
    let run = sandbox.dbelay(&["export", "--dry-run", "--json"]).exits(0);
    assert!(!Path::new(run.json()["file"].as_str().unwrap()).exists());
}

#[test]
fn json_has_the_schema_and_the_rows_by_table() {
    let sandbox = Sandbox::with(ODD);
    sandbox.dbelay(&["snapshot", "--tag", "it"]).exits(0);
    let document = sandbox.dbelay(&["export", "it", "--format", "json", "--output", "-"]).exits(0).json();
    assert_eq!((&document["schema_version"], &document["format"]), (&1.into(), &"dbelay-export".into()));
    assert!(document["schema"].as_array().unwrap().iter().any(|sql| sql.as_str().unwrap().starts_with("CREATE VIEW authors")));
    assert_eq!(document["data"]["users"][1], serde_json::json!({ "id": 2, "name": "it's", "low": "it's" }));
    assert_eq!(document["data"]["posts"][2]["id"], "9007199254740993", "an integer that JSON readers would round is a string");
    assert_eq!(document["data"]["loose"][1]["a"], serde_json::json!({ "real": "inf" }));
    let lines = sandbox.dbelay(&["export", "it", "--format", "jsonl", "--table", "users", "--output", "-"]).exits(0).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["table"], &lines[1]["row"]["name"]), (3, &"users".into(), &"Ann".into()));
}

#[test]
fn csv_is_a_file_for_one_table_and_a_zip_for_several() {
    let sandbox = Sandbox::with(ODD);
    sandbox.dbelay(&["snapshot"]).exits(0);
    let one = sandbox.dbelay(&["export", "--format", "csv", "--table", "users", "--output", "-"]).exits(0).stdout;
    assert_eq!(one, "id,name,low\r\n1,Ann,ann\r\n2,it's,it's\r\n");
    sandbox.dbelay(&["export", "--format", "csv", "--output", "-"]).exits(2).says(&["CSV holds one table"]);
    sandbox.dbelay(&["export", "--format", "csv", "--output", "all.csv"]).exits(2).says(&["zip"]);
    sandbox.dbelay(&["export", "--output", "all.csv.zip"]).exits(0);
    let mut zip = zip::ZipArchive::new(std::fs::File::open(sandbox.path("all.csv.zip")).unwrap()).unwrap();
    let mut names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["log.csv", "loose.csv", "odd %22one.csv", "posts.csv", "users.csv"]);
    let mut text = String::new();
    zip.by_name("users.csv").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, one);
}

#[test]
fn a_zip_holds_everything_that_puts_the_database_back_and_no_secret() {
    let sandbox = Sandbox::with(ODD);
    std::fs::write(
        sandbox.path("dbelay.toml"),
        "# postgres://old:hunter2@h/d\ndatabase = \"app.db\"\n[sources]\nlive = \"postgres://anna:hunter2@db.example.org/shop\"\n",
    )
    .unwrap();
    sandbox.run(&["snapshot"]).exits(0);
    sandbox.run(&["export", "--output", "all.zip"]).exits(0);
    let mut zip = zip::ZipArchive::new(std::fs::File::open(sandbox.path("all.zip")).unwrap()).unwrap();
    let mut texts = std::collections::BTreeMap::new();
    for at in 0..zip.len() {
        let mut file = zip.by_index(at).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        texts.insert(file.name().unwrap().into_owned(), text);
    }
    let names: Vec<&str> = texts.keys().map(String::as_str).collect();
    assert_eq!(names, ["README.txt", "attachments/", "config/", "config/dbelay.toml", "database.sql", "metadata.json"]);
    assert!(!texts.values().any(|text| text.contains("hunter2")));
    assert!(texts["config/dbelay.toml"].contains("db.example.org"));
    let metadata: Value = serde_json::from_str(&texts["metadata.json"]).unwrap();
    assert_eq!(metadata["tables"].as_array().unwrap().iter().find(|table| table["name"] == "users").unwrap()["rows"], 2);
    if has_sqlite3() {
        std::fs::write(sandbox.path("database.sql"), &texts["database.sql"]).unwrap();
        sqlite3(&sandbox.path("loaded.db"), &sandbox.path("database.sql"));
        oracle::assert_same(&sandbox.db(), &sandbox.path("loaded.db"));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_bytes_pass_as_they_are() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) INSERT INTO t SELECT char(27) || '[31m' || i FROM n",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    for arguments in [
        &["cat", "HEAD", "t", "--format", "sql"][..],
        &["export", "--format", "sql", "--output", "-"],
        &["query", "HEAD", "SELECT * FROM t", "--format", "csv"],
    ] {
        let mut child =
            sandbox.command().args(["--db", "app.db"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut head = vec![0; 4096];
        child.stdout.as_mut().unwrap().read_exact(&mut head).unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        assert!(head.windows(5).any(|bytes| bytes == b"\x1b[31m"), "{arguments:?}");
        assert!(!said.contains("error"), "{arguments:?}: {said}");
    }
}
