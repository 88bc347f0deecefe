//! Rows from the pages of a file against rows through SQL: the same groups, and so the same ids, for every database that the tests have.

use std::ops::ControlFlow;
use std::path::Path;

use dbelay::engine::sqlite::{Options, Sqlite};
use dbelay::engine::{Engine, EngineError, ReadTransaction};
use dbelay::id::ObjectId;
use dbelay::rows::{CutRule, RowGroup, TableShape};

use crate::sandbox::Sandbox;

/// What a group says, large values by their ids.
fn said(group: &RowGroup) -> String {
    let large = |column: &dbelay::rows::ColumnChunk| column.large.iter().map(|large| large.id.to_string()).collect::<Vec<_>>();
    let columns: Vec<_> = group.columns.iter().map(|column| (ObjectId::of(&column.json), column.is_default, large(column))).collect();
    format!("{} rows from {:?}, cut {}: {columns:?}", group.rows, group.first_key, group.cut_hash)
}

fn collect(groups: &mut Vec<String>) -> impl FnMut(RowGroup) -> ControlFlow<()> {
    |group| {
        groups.push(said(&group));
        ControlFlow::Continue(())
    }
}

/// Reads a table from its pages; none where it is left to SQL.
fn from_pages(read: &mut dyn ReadTransaction, shape: &TableShape, rule: CutRule) -> Option<Vec<String>> {
    let parts = read.parts(shape, 1).unwrap();
    let mut groups = Vec::new();
    let outcome = read.read_part(shape, parts.first()?, rule, &mut collect(&mut groups));
    match outcome {
        Ok(()) => Some(groups),
        Err(EngineError::Void(_)) => None,
        Err(error) => panic!("{}: {error}", shape.name),
    }
}

/// Reads every table of a database both ways; returns how many were read from pages.
pub fn assert_both_ways_agree(path: &Path) -> usize {
    let options = Options { busy_ms: 1000, ..Options::default() };
    let mut engine = Sqlite::open(path, &options).unwrap();
    let mut read = engine.begin_read().unwrap();
    let mut count = 0;
    for shape in read.shapes().unwrap() {
        for rows_target in [8, 1024] {
            let rule = CutRule { rows_target };
            let Some(paged) = from_pages(&mut *read, &shape, rule) else { continue };
            let mut queried = Vec::new();
            read.read_table(&shape, rule, &mut collect(&mut queried)).unwrap();
            assert_eq!(paged, queried, "{} of {}", shape.name, path.display());
            count += 1;
        }
    }
    count / 2
}

/// A table of some thousand rows in a few hundred pages, and one without row numbers.
const TABLES: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, a REAL, b TEXT, c); CREATE TABLE flat(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000)
    INSERT INTO t SELECT i, i*0.25, 'row ' || i, hex(i*i) FROM n;
    INSERT INTO flat SELECT b, a FROM t WHERE id % 100 = 0";

fn manifests(sandbox: &Sandbox, selector: &str, store: &str) -> Vec<String> {
    let shown = sandbox.dbelay(&["show", selector, "--json", "--store", store]).exits(0).json();
    let tables = shown["tables"].as_array().unwrap();
    tables.iter().map(|table| table["manifest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn snapshots_have_the_ids_that_reading_through_sql_gives_them() {
    let sandbox = Sandbox::with(TABLES);
    let fast = std::fs::read_to_string(sandbox.path("dbelay.toml")).unwrap_or_else(|_| "database = \"app.db\"\n".to_owned());
    let slow = format!("{fast}\n[sqlite]\nread-pages = false\n");
    for (step, sql) in [
        "",
        "UPDATE t SET a = a + 1 WHERE id % 1000 = 7",
        "DELETE FROM t WHERE id BETWEEN 5000 AND 5100; INSERT INTO t SELECT id + 100000, a, b, c FROM t WHERE id < 300",
        "ALTER TABLE t ADD COLUMN late TEXT DEFAULT 'none'",
        "UPDATE t SET late = 'now' WHERE id = 77; UPDATE flat SET v = 0 WHERE k = 'row 700'",
        "UPDATE t SET late = 'none' WHERE id = 77; UPDATE t SET a = -0.5 WHERE id IN (1, 20000)",
        "UPDATE t SET a = c, c = a WHERE id % 3000 = 5; UPDATE t SET b = 'a, \"b\", [c' || char(92) WHERE id % 2500 = 9",
        "ALTER TABLE t ADD COLUMN more DEFAULT 5; UPDATE t SET late = NULL, more = late WHERE id BETWEEN 8000 AND 8005",
        "UPDATE t SET c = hex(zeroblob(50000)) WHERE id = 9000; UPDATE t SET b = 'beside it' WHERE id = 9001",
        "UPDATE t SET b = 'again' WHERE id = 9001; UPDATE t SET c = 'small' WHERE id = 9000; UPDATE t SET more = 6 WHERE id % 4000 = 1",
        "ALTER TABLE t RENAME COLUMN c TO d; ALTER TABLE t DROP COLUMN b",
        "VACUUM",
        "DELETE FROM t",
    ]
    .into_iter()
    .enumerate()
    {
        sandbox.sql(sql);
        for (config, store) in [(&fast, "fast"), (&slow, "slow")] {
            std::fs::write(sandbox.path("dbelay.toml"), config).unwrap();
            if step == 0 {
                sandbox.dbelay(&["init", "--store", store]);
            }
            sandbox.dbelay(&["snapshot", "--store", store]).exits(0);
        }
        assert_eq!(manifests(&sandbox, "HEAD", "fast"), manifests(&sandbox, "HEAD", "slow"), "{sql}");
    }
}

#[test]
fn a_column_that_is_added_adds_little_to_the_store() {
    let sandbox = Sandbox::with(TABLES);
    let bytes = || -> u64 {
        let files = walkdir::WalkDir::new(sandbox.path(".dbelay")).into_iter().filter_map(Result::ok);
        files.filter_map(|entry| entry.metadata().ok()).filter(|metadata| metadata.is_file()).map(|metadata| metadata.len()).sum()
    };
    sandbox.dbelay(&["snapshot"]).exits(0);
    let before = bytes();
    sandbox.sql("ALTER TABLE t ADD COLUMN late TEXT DEFAULT 'none'");
    sandbox.dbelay(&["snapshot"]).exits(0);
    let added = bytes() - before;
    assert!(added < 6_000, "{added} bytes");
}

#[test]
fn a_rollback_is_proven_from_the_pages_that_it_wrote() {
    let sandbox = Sandbox::with(TABLES);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let before = sandbox.copy_db("before.db");
    sandbox
        .sql("UPDATE t SET a = -a WHERE id % 500 = 3; DELETE FROM t WHERE id BETWEEN 100 AND 400; UPDATE flat SET v = 1 WHERE k > 'row 9'");
    let run = sandbox.dbelay(&["rollback", "good", "--yes", "-v"]).exits(0);
    assert!(!run.stderr.contains("through SQL"), "{}", run.stderr);
    crate::oracle::assert_same(&before, &sandbox.db());
    sandbox.dbelay(&["status"]).exits(0);
    sandbox.dbelay(&["undo"]).exits(0);
    sandbox.dbelay(&["redo"]).exits(0);
    crate::oracle::assert_same(&before, &sandbox.db());
    assert!(assert_both_ways_agree(&sandbox.db()) >= 2);
}
