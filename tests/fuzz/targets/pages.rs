//! Reads tables of damaged databases from their pages and through SQL: never a panic, never a row that SQLite does not read so.
//!
//! The first byte of an input picks a small database; each four bytes after it are a place in it, and what is written there.

#![no_main]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::OnceLock;

use dbelay::engine::sqlite::{Options, Sqlite};
use dbelay::engine::{Engine, EngineError};
use dbelay::rows::{CutRule, RowGroup};
use libfuzzer_sys::fuzz_target;

/// The settings of the databases.
const FORMS: [&str; 4] = [
    "PRAGMA page_size=512;",
    "PRAGMA page_size=512; PRAGMA encoding='UTF-16le'; PRAGMA auto_vacuum=1;",
    "PRAGMA page_size=1024; PRAGMA auto_vacuum=2;",
    "PRAGMA page_size=4096; PRAGMA encoding='UTF-16be';",
];

const TABLES: &str = "
    CREATE TABLE alias(id INTEGER PRIMARY KEY, a REAL, b, c TEXT DEFAULT 'x');
    CREATE TABLE hidden(a, b DOUBLE, c NUMERIC);
    CREATE TABLE keyed(a, b INTEGER, c REAL, PRIMARY KEY(b, a));
    CREATE TABLE flat(a, b TEXT, c REAL, d INTEGER, PRIMARY KEY(b, d)) WITHOUT ROWID;
    CREATE TABLE computed(id INTEGER PRIMARY KEY, a INT, v AS (a + 1) VIRTUAL, s REAL AS (a * 2) STORED, z);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) INSERT INTO alias SELECT i * 3, i / 4.0, zeroblob(i * 20), 'text ' || i FROM n;
    INSERT INTO hidden SELECT c, a, id FROM alias; INSERT INTO keyed SELECT c, id % 7, a FROM alias;
    INSERT INTO flat SELECT b, c, a, id FROM alias; INSERT INTO computed(id, a, z) SELECT id, id, b FROM alias;
    ALTER TABLE alias ADD COLUMN late REAL NOT NULL DEFAULT 7; DELETE FROM hidden WHERE rowid % 4 = 0;";

/// Where the databases are made, and what they are.
fn seeds() -> &'static (tempfile::TempDir, Vec<Vec<u8>>) {
    static SEEDS: OnceLock<(tempfile::TempDir, Vec<Vec<u8>>)> = OnceLock::new();
    SEEDS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let make = |form: &&str| {
            let path = folder.path().join("seed.db");
            let _ = std::fs::remove_file(&path);
            let connection = rusqlite::Connection::open(&path).expect("a database");
            connection.execute_batch(&format!("{form}{TABLES}")).expect("made");
            drop(connection);
            std::fs::read(&path).expect("read")
        };
        let seeds = FORMS.iter().map(make).collect();
        (folder, seeds)
    })
}

fn said(group: &RowGroup) -> String {
    let columns: Vec<_> = group
        .columns
        .iter()
        .map(|column| (String::from_utf8_lossy(&column.json).into_owned(), column.is_default, column.large.iter().map(|large| large.id).collect::<Vec<_>>()))
        .collect();
    format!("{} {} {} {columns:?}", group.rows, group.first_key, group.cut_hash)
}

fn read(path: PathBuf) {
    let options = Options { busy_ms: 0, extensions: Vec::new(), is_sql_only: false };
    let rule = CutRule { rows_target: 8 };
    let Ok(mut engine) = Sqlite::open(&path, &options) else { return };
    let Ok(mut read) = engine.begin_read() else { return };
    let Ok(shapes) = read.shapes() else { return };
    for shape in shapes {
        let (mut paged, mut queried) = (Vec::new(), Vec::new());
        let parts = read.parts(&shape, 1).unwrap_or_default();
        let Some(part) = parts.first() else { continue };
        let outcome = read.read_part(&shape, part, rule, &mut |group| {
            paged.push(said(&group));
            ControlFlow::Continue(())
        });
        match outcome {
            Err(EngineError::Void(_)) => continue,
            Err(error) => panic!("`{}`: {error}", shape.name),
            Ok(()) => {}
        }
        let through_sql = read.read_table(&shape, rule, &mut |group| {
            queried.push(said(&group));
            ControlFlow::Continue(())
        });
        if through_sql.is_ok() {
            assert_eq!(paged, queried, "`{}`", shape.name);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let (folder, seeds) = seeds();
    let Some((&form, changes)) = input.split_first() else { return };
    let mut bytes = seeds[usize::from(form) % seeds.len()].clone();
    for change in changes.chunks_exact(4) {
        let place = u32::from_be_bytes([0, change[0], change[1], change[2]]) as usize;
        // The first page is for SQLite to make sense of.
        let first = 4096.min(bytes.len() - 1);
        let at = first + place % (bytes.len() - first);
        bytes[at] = change[3];
    }
    let path = folder.path().join("damaged.db");
    std::fs::write(&path, bytes).expect("written");
    read(path);
});
