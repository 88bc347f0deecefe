//! Whole databases, strange ones and real ones: snapshot, damage, rollback, undo, redo, restore, and patches, each exact.
//!
//! `DBELAY_TEST_DATABASES` names a folder of further SQLite files that are taken through the same.

use std::path::Path;

use crate::oracle;
use crate::sandbox::{Sandbox, copy_database};

/// Takes a database through everything that dbelay promises.
pub fn check(name: &str, sandbox: &Sandbox, damage: &dyn Fn(&Sandbox)) {
    println!("{name}");
    let before = sandbox.copy_db("before.db");
    crate::pages::assert_both_ways_agree(&before);
    let writable = writable_tables(&before);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    damage(sandbox);
    let after = sandbox.copy_db("after.db");
    crate::pages::assert_both_ways_agree(&after);
    sandbox.dbelay(&["diff", "good"]).exits(0);
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&before, &sandbox.db());
    sandbox.dbelay(&["undo"]).exits(0);
    oracle::assert_same(&after, &sandbox.db());
    sandbox.dbelay(&["redo"]).exits(0);
    oracle::assert_same(&before, &sandbox.db());
    assert_eq!(writable_tables(&sandbox.db()), writable, "what can be written into the tables");
    sandbox.dbelay(&["restore", "good", "--to", "restored.db"]).exits(0);
    oracle::assert_same(&before, &sandbox.path("restored.db"));
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
}

/// Tries, in a transaction that is rolled back, to write one more row like an old one into each table, with a key that is made for it; returns what
/// came of it.
fn writable_tables(path: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(path).unwrap();
    crate::sandbox::bring_own(&connection);
    connection.execute_batch("PRAGMA foreign_keys=ON; BEGIN").unwrap();
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut tables =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%' ORDER BY name").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let write = |table: &str| -> Result<i64, rusqlite::Error> {
        let mut columns = connection.prepare(&format!(
            "SELECT name FROM pragma_table_xinfo({}) WHERE hidden=0 AND NOT (pk=1 AND upper(type)='INTEGER')",
            quote(table)
        ))?;
        let columns: Vec<String> = columns.query_map([], |row| Ok(quote(&row.get::<_, String>(0)?)))?.collect::<Result<_, _>>()?;
        let columns = columns.join(",");
        connection.execute(&format!("INSERT INTO {0}({columns}) SELECT {columns} FROM {0} LIMIT 1", quote(table)), [])?;
        connection
            .query_row(&format!("SELECT max(rowid) FROM {}", quote(table)), [], |row| row.get::<_, Option<i64>>(0))
            .map(|rowid| rowid.unwrap_or(0))
    };
    let results = tables.iter().map(|table| format!("{table}: {:?}", write(table).map_err(|error| error.to_string()))).collect();
    connection.execute_batch("ROLLBACK").unwrap();
    results
}

pub fn check_sql(name: &str, build: &str, damage: &str) {
    let sandbox = Sandbox::with(build);
    check(name, &sandbox, &|sandbox| sandbox.sql(damage));
    // The same as scripts, forth and back.
    for (from, to, reverse) in [("before.db", "after.db", false), ("after.db", "before.db", true)] {
        copy_database(&sandbox.path("after.db"), &sandbox.db());
        let mut arguments = vec!["diff", "good", "live", "--format", "sql"];
        arguments.extend(reverse.then_some("--reverse"));
        let patch = sandbox.dbelay(&arguments).exits(0).stdout;
        copy_database(&sandbox.path(from), &sandbox.path("patched.db"));
        rusqlite::Connection::open(sandbox.path("patched.db")).unwrap().execute_batch(&patch).unwrap();
        oracle::assert_same(&sandbox.path(to), &sandbox.path("patched.db"));
    }
}

#[test]
fn storage_classes_stay_what_they_are() {
    check_sql(
        "storage classes",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, any, n NUMERIC, r REAL, x TEXT, b BLOB, i INT);
         INSERT INTO t VALUES(1, 1, 1, 1, 1, 1, 1), (2, 1.0, '1.0', '1e300', 1.5, '1', '0x10'), (3, '1', 'abc', 'abc', x'00', x'', 'abc'),
           (4, -0.0, 9e999, -9e999, '', x'ff', 9223372036854775807), (5, NULL, NULL, NULL, NULL, NULL, -9223372036854775808),
           (6, CAST(x'fffe80' AS TEXT), 'nul'||char(0)||'nul', 5e-324, '007', zeroblob(10), 4.9406564584124654e-324)",
        "UPDATE t SET any = CAST(any AS TEXT), n = n || '', r = 0, i = CAST(i AS REAL); DELETE FROM t WHERE id = 6",
    );
}

#[test]
fn odd_names_are_names() {
    check_sql(
        "names",
        "CREATE TABLE \"select\"(\"from\" PRIMARY KEY, \"a b\", \"q\"\"uote\", \"\", ünï, \"rowid\", \"it's\", [br]) WITHOUT ROWID;
         CREATE TABLE \"T\"(\"Rowid\", \"_rowid_\"); CREATE TABLE \"all three\"(rowid, oid, _rowid_);
         CREATE INDEX \"i x\" ON \"select\"(\"a b\"); CREATE VIEW \"v;\" AS SELECT \"from\" FROM \"select\";
         INSERT INTO \"select\" VALUES(1,2,3,4,5,6,7,8); INSERT INTO \"T\" VALUES(7,8),(9,10); INSERT INTO \"all three\" VALUES(1,2,3)",
        "UPDATE \"select\" SET \"a b\"='x', \"\"='y'; DELETE FROM \"T\" WHERE \"Rowid\"=7; DROP VIEW \"v;\"; UPDATE \"all three\" SET oid = 'x'",
    );
}

#[test]
fn keys_may_be_missing_null_or_duplicate() {
    check_sql(
        "keys",
        "CREATE TABLE keyless(a, b); INSERT INTO keyless VALUES(1,1),(1,1),(NULL,NULL),(NULL,NULL);
         CREATE TABLE nulls(k TEXT PRIMARY KEY, v); INSERT INTO nulls VALUES(NULL,1),(NULL,2),('a',3);
         CREATE TABLE pair(a, b, v, PRIMARY KEY(b, a)) WITHOUT ROWID; INSERT INTO pair VALUES(1,2,'x'),(2,1,'y');
         CREATE TABLE holes(id INTEGER PRIMARY KEY, v); INSERT INTO holes VALUES(-5,'neg'),(9223372036854775807,'max'),(0,'zero')",
        "DELETE FROM keyless WHERE rowid IN (1,3); UPDATE nulls SET v = v + 10; UPDATE pair SET v='z' WHERE a=1; DELETE FROM holes WHERE id=0",
    );
}

#[test]
fn sequences_come_back_also_of_emptied_tables() {
    check_sql(
        "sequences",
        "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO a(x) VALUES(1),(2),(3); DELETE FROM a;
         CREATE TABLE b(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO b VALUES(1000,'x')",
        "INSERT INTO a(x) VALUES('more'); DROP TABLE b; CREATE TABLE c(id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO c VALUES(77)",
    );
    check_sql(
        "sequence gone",
        "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO a(x) VALUES(1)",
        "DROP TABLE a; CREATE TABLE z(x)",
    );
}

#[test]
fn generated_strict_and_checked_columns_come_back() {
    check_sql(
        "generated",
        "CREATE TABLE g(id INTEGER PRIMARY KEY, a INT, v AS (a*2) VIRTUAL, s TEXT AS (a||'!') STORED, b DEFAULT (1+1) CHECK(b <> 5));
         INSERT INTO g(a) VALUES(1),(2); CREATE INDEX gi ON g(v); CREATE UNIQUE INDEX gu ON g(s);
         CREATE TABLE st(i INTEGER, t TEXT, a ANY) STRICT; INSERT INTO st VALUES(1,'x',x'00'),(2,'y',1.5);
         PRAGMA ignore_check_constraints=ON; INSERT INTO g(a, b) VALUES(3, 5)",
        "UPDATE g SET a = a + 100; DELETE FROM st; ALTER TABLE g ADD COLUMN w AS (a+1)",
    );
}

#[test]
fn full_text_and_spatial_tables_come_back_with_their_shadows() {
    check_sql(
        "fts and rtree",
        "CREATE VIRTUAL TABLE f5 USING fts5(title, body); INSERT INTO f5 VALUES('hello','wide world'),('rope','long');
         CREATE VIRTUAL TABLE f4 USING fts4(body); INSERT INTO f4 VALUES('four of four');
         CREATE TABLE src(id INTEGER PRIMARY KEY, t); INSERT INTO src VALUES(1,'external words');
         CREATE VIRTUAL TABLE fx USING fts5(t, content='src', content_rowid='id'); INSERT INTO fx(fx) VALUES('rebuild');
         CREATE VIRTUAL TABLE fc USING fts5(t, content=''); INSERT INTO fc(rowid, t) VALUES(1,'contentless');
         CREATE VIRTUAL TABLE rt USING rtree(id, minx, maxx); INSERT INTO rt VALUES(1, 0.5, 1.5)",
        "INSERT INTO f5 VALUES('new','row'); DELETE FROM f4; DROP TABLE fx; INSERT INTO rt VALUES(2, 7, 8); DROP TABLE fc",
    );
}

#[test]
fn tables_of_unknown_modules_come_back() {
    check_sql(
        "unknown module",
        "CREATE TABLE t(x); INSERT INTO t VALUES(1); PRAGMA writable_schema=ON;
         INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table','geo','geo',0,'CREATE VIRTUAL TABLE geo USING nosuchmodule(a,b)');
         PRAGMA writable_schema=RESET",
        "UPDATE t SET x = 2; PRAGMA writable_schema=ON; DELETE FROM sqlite_schema WHERE name='geo'; PRAGMA writable_schema=RESET",
    );
}

#[test]
fn encodings_page_sizes_and_settings_are_kept() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        for page_size in [512, 4096, 65536] {
            check_sql(
                encoding,
                &format!(
                    "PRAGMA encoding='{encoding}'; PRAGMA page_size={page_size}; PRAGMA auto_vacuum=2;
                     CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT COLLATE NOCASE UNIQUE);
                     INSERT INTO t VALUES(1,'grün'),(2,'😀'),(3,'a'||char(0)||'b'); PRAGMA user_version=-5; PRAGMA application_id=12345"
                ),
                "UPDATE t SET x = x||x; PRAGMA user_version=6; PRAGMA application_id=0; INSERT INTO t VALUES(4,'z')",
            );
        }
    }
}

#[test]
fn statistics_views_and_triggers_come_back_in_their_order() {
    check_sql(
        "objects",
        "CREATE TABLE a(x UNIQUE, y); CREATE VIEW v1 AS SELECT * FROM a; CREATE TABLE b(x PRIMARY KEY, z REFERENCES a(x));
         CREATE VIEW v2 AS SELECT * FROM v1; CREATE TRIGGER t1 INSTEAD OF INSERT ON v2 BEGIN INSERT INTO a VALUES(new.x, new.y); END;
         CREATE INDEX i1 ON a(y) WHERE y IS NOT NULL; CREATE INDEX i2 ON a(lower(y));
         CREATE TRIGGER t2 AFTER UPDATE ON a BEGIN DELETE FROM b; END;
         INSERT INTO a VALUES(1,'p'),(2,NULL),(3,'q'); INSERT INTO b VALUES(1,1); ANALYZE",
        "DROP TRIGGER t2; DROP INDEX i1; CREATE INDEX i1 ON a(y); DELETE FROM a WHERE x=2; DROP VIEW v1; ANALYZE; DROP TABLE b",
    );
}

#[test]
fn rows_of_every_size_come_back() {
    check_sql(
        "sizes",
        "CREATE TABLE big(id INTEGER PRIMARY KEY, t TEXT, b BLOB);
         INSERT INTO big VALUES(1, replace(hex(zeroblob(40000)),'00','xy'), zeroblob(200000)), (2, 'small', x'01'), (3, NULL, randomblob(70000));
         CREATE TABLE many(id INTEGER PRIMARY KEY, v);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<30000) INSERT INTO many SELECT i, 'value '||(i*7919%1000) FROM n",
        "UPDATE big SET t = 'x'||t WHERE id=1; DELETE FROM big WHERE id=3; DELETE FROM many WHERE id%1000=0; UPDATE many SET v='c' WHERE id%777=0",
    );
}

#[test]
fn a_table_that_was_rebuilt_comes_back_with_its_rowids() {
    check_sql(
        "rebuild",
        "CREATE TABLE t(k TEXT PRIMARY KEY, v); INSERT INTO t(rowid,k,v) VALUES(10,'a',1),(20,'b',2),(30,'c',3)",
        "CREATE TABLE n(k TEXT PRIMARY KEY, v NOT NULL); INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; DELETE FROM t WHERE k='b'",
    );
}

/// Damages a database of which nothing is known: every seventh table in another way.
fn damage_anything(sandbox: &Sandbox) {
    let connection = sandbox.connect();
    let names = |sql: &str| -> Vec<String> {
        connection.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let try_one = |sql: String| connection.execute_batch(&sql).is_ok();
    for (at, table) in names("SELECT name FROM sqlite_schema WHERE type='table' AND name NOT LIKE 'sqlite_%'").iter().enumerate() {
        let columns: Vec<String> = connection
            .prepare(&format!("PRAGMA table_info({})", quote(table)))
            .and_then(|mut statement| statement.query_map([], |row| row.get(1))?.collect())
            .unwrap_or_default();
        let Some(last) = columns.last().map(|column| quote(column)) else { continue };
        let name = quote(table);
        match at % 7 {
            0 => try_one(format!("DELETE FROM {name} WHERE rowid % 3 = 0")) || try_one(format!("DELETE FROM {name}")),
            1 => try_one(format!("UPDATE {name} SET {last} = 'damaged'")),
            2 => try_one(format!("DROP TABLE {name}")),
            3 => try_one(format!("ALTER TABLE {name} ADD COLUMN dbelay_added TEXT DEFAULT 'x'; UPDATE {name} SET dbelay_added = rowid")),
            4 => try_one(format!("ALTER TABLE {name} RENAME TO {}", quote(&format!("{table} renamed")))),
            5 => try_one(format!("ALTER TABLE {name} RENAME COLUMN {last} TO dbelay_moved")),
            _ => try_one(format!("ALTER TABLE {name} DROP COLUMN {last}")),
        };
    }
    try_one(
        "PRAGMA user_version=4242; CREATE TABLE dbelay_fresh(a PRIMARY KEY, b); INSERT INTO dbelay_fresh VALUES(1,2); ANALYZE".to_owned(),
    );
}

#[test]
fn real_databases_come_back() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/databases");
    let more = std::env::var_os("DBELAY_TEST_DATABASES").map(std::path::PathBuf::from);
    let mut files: Vec<_> =
        [own].into_iter().chain(more).flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0")));
    files.sort();
    assert!(!files.is_empty(), "there are no databases");
    for file in files {
        let sandbox = Sandbox::new();
        copy_database(&file, &sandbox.db());
        check(&file.display().to_string(), &sandbox, &damage_anything);
    }
}
