//! The strangest SQLite files that a user has: what is in them is in the snapshot, and comes back from it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::databases::{check, check_sql};
use crate::oracle;
use crate::sandbox::{Sandbox, compile, copy_database, finish};

/// As `check_sql`, by an application that brings a collation and a function which dbelay does not have.
fn check_application(build: &str, damage: &str) {
    let sandbox = Sandbox::new();
    sandbox.application_sql(build);
    check(build, &sandbox, &|sandbox| sandbox.application_sql(damage));
}

#[test]
fn utf16_text_that_is_no_text_keeps_its_units() {
    for encoding in ["le", "be"] {
        check_sql(
            encoding,
            &format!(
                "PRAGMA encoding='UTF-16{encoding}';
                 CREATE TABLE t(id INTEGER PRIMARY KEY, k, x TEXT); CREATE INDEX ti ON t(x);
                 INSERT INTO t VALUES(1,'a',CAST(x'00d84100' AS TEXT)), (2,CAST(x'00d8' AS TEXT),char(65534)||char(65535)||char(65279)),
                   (3,5,'5'), (4,'5',5), (5,'é','a'||char(0)||'b'), (6,CAST(x'dc00dc00' AS TEXT),'😀');
                 CREATE TABLE w(k PRIMARY KEY, v) WITHOUT ROWID;
                 INSERT INTO w VALUES(CAST(x'dc00dc' AS TEXT),1), (5,2), ('5',3), (char(65534),4)"
            ),
            "UPDATE t SET x='n'; DELETE FROM t WHERE id IN (2,6); UPDATE w SET v=9; DELETE FROM w WHERE k=5",
        );
    }
}

#[test]
fn a_key_without_a_type_tells_a_number_from_its_text_in_every_encoding() {
    for encoding in ["UTF-8", "UTF-16le"] {
        check_sql(
            encoding,
            &format!(
                "PRAGMA encoding='{encoding}'; CREATE TABLE w(k PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO w VALUES(5,'n'),('5','t'),(x'35','b')"
            ),
            "UPDATE w SET v='x' WHERE typeof(k)='text'; DELETE FROM w WHERE typeof(k)='blob'",
        );
    }
}

#[test]
fn text_that_is_no_utf8_stays_text_with_its_bytes() {
    check_sql(
        "invalid UTF-8",
        "CREATE TABLE t(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
         INSERT INTO t VALUES(CAST(x'ff00fe' AS TEXT),1), (CAST(x'eda080' AS TEXT),2), (CAST(x'c3' AS TEXT),3), ('c',4)",
        "UPDATE t SET v=v+1; DELETE FROM t WHERE v=3",
    );
}

#[test]
fn json_keeps_integers_and_infinities_beyond_what_json_has() {
    let sandbox = Sandbox::with("CREATE TABLE t(i, r); INSERT INTO t VALUES(9007199254740993, 9e999), (-9223372036854775807-1, -0.0)");
    sandbox.dbelay(&["snapshot"]).exits(0);
    let rows = sandbox.dbelay(&["cat", "HEAD", "t", "--format", "json"]).exits(0).json();
    let text = rows.to_string();
    for part in ["\"9007199254740993\"", "\"-9223372036854775808\"", "inf", "-0.0"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn a_name_changed_in_case_only_comes_back() {
    check_sql(
        "case",
        "CREATE TABLE users(Name, id INTEGER PRIMARY KEY); CREATE INDEX byName ON users(Name); CREATE VIEW V AS SELECT * FROM users;
         INSERT INTO users VALUES('a',1)",
        "ALTER TABLE users RENAME TO x; ALTER TABLE x RENAME TO Users; ALTER TABLE Users RENAME COLUMN Name TO NAME;
         DROP INDEX byName; CREATE INDEX BYNAME ON Users(NAME); DROP VIEW V; CREATE VIEW v AS SELECT * FROM Users",
    );
}

#[test]
fn a_collation_that_dbelay_does_not_have_is_in_nobodys_way() {
    check_application(
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, name TEXT COLLATE unicase, n); CREATE TABLE other(x);
         INSERT INTO notes VALUES(1,'B',1),(2,'a',2); INSERT INTO other VALUES(1)",
        "UPDATE notes SET name='z'; DROP TABLE other; ALTER TABLE notes ADD COLUMN extra DEFAULT 7",
    );
    check_application(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT COLLATE unicase CHECK(shout(name) <> 'x')); INSERT INTO t VALUES(1,'B'),(2,'a')",
        "DROP TABLE t",
    );
}

#[test]
fn a_table_whose_key_has_a_collation_that_dbelay_does_not_have_is_read_and_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.application_sql(
        "CREATE TABLE kinds(name TEXT COLLATE unicase PRIMARY KEY, v) WITHOUT ROWID; CREATE INDEX kv ON kinds(v); CREATE TABLE other(x);
         INSERT INTO kinds VALUES('b',1),('A',2); INSERT INTO other VALUES(1)",
    );
    let before = sandbox.copy_db("before.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.dbelay(&["cat", "good", "kinds"]).exits(0).prints(&["A,2", "b,1"]);
    sandbox.application_sql("DROP TABLE other");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&before, &sandbox.db());
    sandbox.application_sql("UPDATE kinds SET v=9 WHERE name='B'");
    sandbox.dbelay(&["diff", "good"]).exits(0).prints(&["kinds", "9"]);
    sandbox.dbelay(&["rollback", "good"]).exits(3).says(&["the rows of table `kinds` cannot be written", "unicase"]);
}

#[test]
fn a_function_that_dbelay_does_not_have_is_in_nobodys_way() {
    check_application(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, g AS (shout(a)), d DEFAULT (shout(1)), c CHECK(shout(c) <> '!'));
         CREATE TRIGGER tr AFTER UPDATE ON t BEGIN SELECT shout(new.a); END; CREATE VIEW v AS SELECT shout(a) FROM t;
         INSERT INTO t(id,a,c) VALUES(1,'x','y'),(2,'z',1)",
        "UPDATE t SET a='changed' WHERE id=1; DELETE FROM t WHERE id=2",
    );
    check_application(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a, g AS (shout(a))); INSERT INTO t VALUES(1,'x')",
        "DROP TABLE t; CREATE TABLE u(x)",
    );
}

#[test]
fn stored_values_come_back_as_they_were_whoever_computed_them() {
    // Another version of SQLite, or other functions of the application, computed other values than this one would.
    let build = "CREATE TABLE t(id INTEGER PRIMARY KEY, a, s AS (shout(a)) STORED, v AS (a||'v'), n TEXT NOT NULL DEFAULT 'n'); CREATE INDEX ts ON t(s);
         CREATE TABLE p(k TEXT PRIMARY KEY, price REAL, label AS (price || ' EUR') STORED) WITHOUT ROWID;
         INSERT INTO t(id,a) VALUES(1,'x'),(2,'z'),(3,NULL); INSERT INTO p VALUES('a', 0.1+0.2),('b', 2)";
    let stale = "PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql=replace(replace(sql, ' EUR', ' USD'), 'shout(a)', 'upper(a)') WHERE type='table';
         PRAGMA writable_schema=RESET";
    for (prepare, damage) in [
        (stale, "UPDATE t SET a='changed' WHERE id<3; DELETE FROM t WHERE id=3; UPDATE p SET price=price+1"),
        (stale, "UPDATE t SET a=a; UPDATE p SET price=price"),
        (stale, "DROP TABLE t; DROP TABLE p"),
        ("", "ALTER TABLE t ADD COLUMN extra; UPDATE t SET extra=1"),
        ("", "DROP TABLE t; DROP TABLE p"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.application_sql(build);
        sandbox.application_sql(prepare);
        let before = sandbox.copy_db("before.db");
        sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
        sandbox.application_sql(damage);
        let after = sandbox.copy_db("after.db");
        sandbox.dbelay(&["rollback", "good"]).exits(0);
        oracle::assert_same(&before, &sandbox.db());
        sandbox.dbelay(&["undo"]).exits(0);
        oracle::assert_same(&after, &sandbox.db());
        sandbox.dbelay(&["restore", "good", "--to", "new.db"]).exits(0);
        oracle::assert_same(&before, &sandbox.path("new.db"));
    }
}

#[test]
fn a_virtual_table_that_its_module_refuses_comes_back_and_goes_again() {
    for (build, damage) in [
        ("CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES('one two')", "DELETE FROM f_config"),
        ("CREATE TABLE src(a); CREATE VIRTUAL TABLE f USING fts4(content='src', a); INSERT INTO src VALUES('x')", "DROP TABLE src"),
        ("CREATE VIRTUAL TABLE f -- full text\n USING fts5(a); INSERT INTO f VALUES('x')", "DROP TABLE f"),
    ] {
        check_sql(build, build, damage);
        // And the other way round: the state to go back to is the broken one.
        let sandbox = Sandbox::with(build);
        sandbox.sql(damage);
        check(damage, &sandbox, &|sandbox| sandbox.sql("CREATE TABLE IF NOT EXISTS other(x); DROP TABLE IF EXISTS src"));
    }
}

#[test]
fn a_row_that_a_virtual_column_fails_on_comes_back() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, doc, n); INSERT INTO t VALUES(1,'{\"a\":1}',1),(2,'no json',2);
         ALTER TABLE t ADD COLUMN a AS (json_extract(doc,'$.a'))",
    );
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    for damage in ["UPDATE t SET n=5 WHERE id=1; INSERT INTO t(doc) VALUES('{}')", "DROP TABLE t"] {
        sandbox.sql(damage);
        sandbox.dbelay(&["rollback", "good"]).exits(0);
        assert_eq!(sandbox.number("SELECT count(*) FROM t WHERE doc='no json' AND n=2"), 1);
        assert_eq!(sandbox.number("SELECT sum(n) FROM t"), 3);
    }
}

#[test]
fn an_index_that_has_all_columns_changes_no_order() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(id BLOB NOT NULL PRIMARY KEY, c) WITHOUT ROWID; INSERT INTO t VALUES(5,'a'),(3,'b'),(9,'0'),(x'00',1)",
    );
    let manifest = || sandbox.dbelay(&["show", "HEAD", "--json"]).exits(0).json()["tables"][0]["manifest"].clone();
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let before = manifest();
    sandbox.sql("CREATE INDEX i ON t(c)");
    sandbox.dbelay(&["snapshot"]).exits(0);
    assert_eq!(manifest(), before);
    sandbox.sql("INSERT INTO t VALUES(4,'00'); ANALYZE");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    sandbox.dbelay(&["diff", "good", "--exit-code"]).exits(0);
}

#[test]
fn a_key_whose_collation_is_not_its_columns_finds_one_row() {
    check_sql(
        "key collation",
        "CREATE TABLE t(a TEXT COLLATE NOCASE, b, v, PRIMARY KEY(a COLLATE BINARY, b)) WITHOUT ROWID; INSERT INTO t VALUES('x',1,1),('X',1,2),('y',2,3);
         CREATE TABLE u(a TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO u VALUES('x',1),('Y',2)",
        "UPDATE t SET v=v+10 WHERE a='x' COLLATE BINARY; DELETE FROM t WHERE a='X' COLLATE BINARY; UPDATE u SET v=3; UPDATE u SET a='y' WHERE a='Y'",
    );
}

#[test]
fn what_an_index_needs_and_nobody_has_is_refused_by_name_and_an_extension_brings_it() {
    for (build, damage, named) in [
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT COLLATE unicase); CREATE UNIQUE INDEX by_name ON t(name);
             INSERT INTO t VALUES(1,'B'),(2,'a'),(3,'c')",
            "UPDATE t SET name='x' WHERE id=1; DELETE FROM t WHERE id=3",
            ["index `by_name`", "no such collation sequence: unicase"],
        ),
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); CREATE INDEX by_shout ON t(shout(name)); INSERT INTO t VALUES(1,'B'),(2,'a')",
            "DROP TABLE t",
            ["index `by_shout`", "no such function: shout"],
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.application_sql(build);
        let before = sandbox.copy_db("before.db");
        sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
        sandbox
            .dbelay(&["migrate", "--", "true"])
            .exits(0)
            .says(&["before the migration: the rows of table `t` cannot be written", named[1]]);
        sandbox.application_sql(damage);
        let bytes = std::fs::read(sandbox.db()).unwrap();
        sandbox.dbelay(&["rollback", "good"]).exits(3).says(&["the database is unchanged", named[0], named[1], "extensions = ["]);
        assert!(std::fs::read(sandbox.db()).unwrap() == bytes, "the database was touched");

        compile("extension.c", &sandbox.path("application.so"));
        std::fs::write(sandbox.path("dbelay.toml"), "database = \"app.db\"\n[sqlite]\nextensions = [\"./application.so\"]\n").unwrap();
        sandbox.dbelay(&["rollback", "good"]).exits(0);
        oracle::assert_same(&before, &sandbox.db());
        let checked: String = sandbox.application().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(checked, "ok");
        sandbox.dbelay(&["restore", "good", "--to", "new.db"]).exits(0);
        oracle::assert_same(&before, &sandbox.path("new.db"));
    }
}

#[test]
fn an_extension_that_cannot_be_loaded_is_named() {
    let sandbox = Sandbox::with("CREATE TABLE t(x)");
    std::fs::write(sandbox.path("dbelay.toml"), "database = \"app.db\"\n[sqlite]\nextensions = [\"./nosuch\"]\n").unwrap();
    sandbox.dbelay(&["snapshot"]).exits(2).says(&["the extension `", "nosuch` cannot be loaded"]);
}

#[test]
fn virtual_tables_of_every_kind_come_back_with_their_shadows() {
    check_sql(
        "virtual tables",
        "CREATE VIRTUAL TABLE f3 USING fts3(a, b); INSERT INTO f3 VALUES('one','two');
         CREATE VIRTUAL TABLE f4 USING fts4(content='', a); INSERT INTO f4(docid,a) VALUES(3,'contentless four');
         CREATE VIRTUAL TABLE f4x USING fts4(a, notindexed=a, prefix='2,3', languageid='lid'); INSERT INTO f4x(a) VALUES('x');
         CREATE VIRTUAL TABLE f4a USING fts4aux(f3);
         CREATE VIRTUAL TABLE fd USING fts5(a, content='', contentless_delete=1); INSERT INTO fd(rowid,a) VALUES(5,'gone soon');
         CREATE VIRTUAL TABLE ftri USING fts5(a, tokenize='trigram', detail=none); INSERT INTO ftri VALUES('trigrams here');
         CREATE VIRTUAL TABLE fv USING fts5vocab(ftri, 'row');
         CREATE VIRTUAL TABLE ri USING rtree_i32(id, a, b, +note); INSERT INTO ri VALUES(1,2,3,'kept beside');
         CREATE VIRTUAL TABLE st USING dbstat;
         CREATE TABLE \"f3_notes\"(x); INSERT INTO f3_notes VALUES('no shadow of f3')",
        "INSERT INTO f3 VALUES('three','four'); INSERT INTO f4(docid,a) VALUES(4,'new'); DROP TABLE fd; DELETE FROM ftri; DROP TABLE fv;
         UPDATE ri SET note='changed'; DROP TABLE f4a; UPDATE f3_notes SET x=1; INSERT INTO ftri(ftri) VALUES('optimize')",
    );
}

#[test]
fn tokenizers_and_modules_that_dbelay_does_not_have_are_in_nobodys_way() {
    check_sql(
        "tokenizer",
        "CREATE VIRTUAL TABLE f USING fts5(a, tokenize='porter'); INSERT INTO f VALUES('hello words'); CREATE TABLE t(x); INSERT INTO t VALUES(1);
         CREATE VIRTUAL TABLE g USING fts4(a); INSERT INTO g VALUES('hello words');
         CREATE TABLE vec_chunks(id INTEGER PRIMARY KEY, data BLOB); INSERT INTO vec_chunks VALUES(1, x'0102');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql=replace(sql,'porter','mytokens') WHERE name='f';
         UPDATE sqlite_schema SET sql='CREATE VIRTUAL TABLE g USING fts4(a, tokenize=icu de_DE)' WHERE name='g';
         INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table','vec','vec',0,'CREATE VIRTUAL TABLE vec USING vec0(embedding float[4])');
         PRAGMA writable_schema=RESET",
        "UPDATE t SET x=2; UPDATE f_content SET c0='changed'; DELETE FROM g_content; DROP TABLE vec_chunks",
    );
}

#[test]
fn a_virtual_table_that_cannot_be_rebuilt_is_searched_as_before() {
    let sandbox = Sandbox::with(
        "CREATE VIRTUAL TABLE f USING fts5(a, content=''); INSERT INTO f(rowid,a) VALUES(1,'alpha beta'),(2,'gamma');
         CREATE TABLE src(id INTEGER PRIMARY KEY, t); INSERT INTO src VALUES(10,'delta words');
         CREATE VIRTUAL TABLE x USING fts5(t, content='src', content_rowid='id'); INSERT INTO x(x) VALUES('rebuild')",
    );
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("DROP TABLE f; DELETE FROM src; INSERT INTO x(x) VALUES('rebuild')");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    assert_eq!(sandbox.number("SELECT rowid FROM f WHERE f MATCH 'gamma'"), 2);
    assert_eq!(sandbox.number("SELECT rowid FROM x WHERE x MATCH 'delta'"), 10);
    sandbox.sql("INSERT INTO f(f) VALUES('integrity-check'); INSERT INTO x(x, rank) VALUES('integrity-check', 1)");
}

#[test]
fn two_thousand_columns_are_read_and_written() {
    for encoding in ["UTF-8", "UTF-16be"] {
        let columns: Vec<String> = (0..2000).map(|at| format!("c{at}")).collect();
        let values: Vec<String> = (0..2000).map(|at| format!("'v{at}'")).collect();
        let sandbox = Sandbox::with(&format!(
            "PRAGMA encoding='{encoding}'; CREATE TABLE t({}); INSERT INTO t VALUES({}); INSERT INTO t(rowid,c5) VALUES(77,'x')",
            columns.join(","),
            values.join(",")
        ));
        sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
        sandbox.sql(
            "UPDATE t SET c3='changed', c1999=NULL WHERE rowid=1; DELETE FROM t WHERE rowid=77; INSERT INTO t(rowid,c0) VALUES(5,'new')",
        );
        sandbox.dbelay(&["rollback", "good"]).exits(0);
        for (sql, expected) in [
            ("SELECT sum(rowid) FROM t", 78),
            ("SELECT count(*) FROM t WHERE c3='v3' AND c1999='v1999'", 1),
            ("SELECT count(*) FROM t WHERE rowid=77 AND c5='x'", 1),
        ] {
            assert_eq!(sandbox.number(sql), expected, "{encoding}: {sql}");
        }
        sandbox.dbelay(&["restore", "good", "--to", "new.db"]).exits(0);
        sandbox.dbelay(&["diff", "good", "--exit-code"]).exits(0);
    }
}

#[test]
fn a_value_of_many_megabytes_comes_back() {
    check_sql(
        "large",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, b BLOB, s TEXT); INSERT INTO t VALUES(1, zeroblob(9000000), NULL), (2, NULL, hex(randomblob(1500000)))",
        "UPDATE t SET b=NULL; UPDATE t SET s=s||'x' WHERE id=2",
    );
}

#[test]
fn a_database_without_tables_comes_back() {
    check_sql("no tables", "PRAGMA user_version=7; VACUUM", "CREATE TABLE t(x); PRAGMA user_version=8");
    check_sql(
        "no rows",
        "CREATE TABLE t(x); CREATE TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "INSERT INTO t VALUES(1); DROP TABLE s",
    );
}

#[test]
fn statistics_of_every_version_come_back() {
    check_sql(
        "statistics",
        "CREATE TABLE t(a, b); CREATE INDEX ta ON t(a); CREATE INDEX tb ON t(b, a);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) INSERT INTO t SELECT i%7, i FROM n; ANALYZE;
         CREATE TABLE spare(tbl, idx, neq, nlt, ndlt, sample); INSERT INTO spare VALUES('t','ta','1','2','3',x'00');
         PRAGMA writable_schema=ON; UPDATE sqlite_schema SET name='sqlite_stat3', tbl_name='sqlite_stat3',
           sql='CREATE TABLE sqlite_stat3(tbl,idx,neq,nlt,ndlt,sample)' WHERE name='spare'; PRAGMA writable_schema=RESET",
        "DELETE FROM t WHERE b>100; ANALYZE; DELETE FROM sqlite_stat1 WHERE idx='tb'",
    );
    check_sql(
        "statistics gone",
        "CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES(1); ANALYZE",
        "DROP TABLE sqlite_stat4; DROP TABLE sqlite_stat1",
    );
}

#[test]
fn page_sizes_vacuum_modes_and_reserved_bytes_are_read() {
    for page_size in [512, 1024, 32768, 65536] {
        for vacuum in [0, 1, 2] {
            check_sql(
                &format!("page size {page_size}, auto_vacuum {vacuum}"),
                &format!(
                    "PRAGMA page_size={page_size}; PRAGMA auto_vacuum={vacuum}; CREATE TABLE t(id INTEGER PRIMARY KEY, x);
                     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300) INSERT INTO t SELECT i, hex(zeroblob(i*3)) FROM n"
                ),
                "DELETE FROM t WHERE id%3=0; PRAGMA incremental_vacuum",
            );
        }
    }
    // Byte 20 of the header: bytes at the end of each page that an extension keeps for itself.
    let sandbox = Sandbox::with("CREATE TABLE t(x)");
    let mut bytes = std::fs::read(sandbox.db()).unwrap();
    bytes[20] = 32;
    std::fs::write(sandbox.db(), &bytes).unwrap();
    sandbox.sql("VACUUM; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) INSERT INTO t SELECT 'row '||i FROM n");
    assert_eq!(std::fs::read(sandbox.db()).unwrap()[20], 32);
    check("reserved bytes", &sandbox, &|sandbox| sandbox.sql("DELETE FROM t WHERE rowid%2=0; CREATE TABLE u(y)"));
    assert_eq!(std::fs::read(sandbox.db()).unwrap()[20], 32);
}

#[test]
fn rows_that_their_own_table_would_refuse_come_back() {
    check_scar("a TEXT NOT NULL, n TEXT, u UNIQUE, r TEXT", "a TEXT, n INTEGER, u UNIQUE, r REAL");
    check_scar("a TEXT NOT NULL DEFAULT 'x', n INTEGER NOT NULL, u UNIQUE, r BLOB", "a TEXT, n TEXT, u UNIQUE, r REAL");
}

/// Edits a table's text after its rows were written, as some tools do to add a constraint. (The type of an indexed column is another matter:
/// SQLite itself does not find such a row's place in the index any more.)
fn check_scar(after: &str, before: &str) {
    let sandbox = Sandbox::with(&format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, {before}); CREATE INDEX ta ON t(a DESC, u) WHERE u IS NOT NULL;
         INSERT INTO t VALUES(1,NULL,'007',1,1.5),(2,'a',7,NULL,2),(3,'3','3',3,3); PRAGMA writable_schema=ON;"
    ));
    let text = format!("CREATE TABLE t(id INTEGER PRIMARY KEY, {after})").replace('\'', "''");
    sandbox.sql(&format!("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql='{text}' WHERE name='t'; PRAGMA writable_schema=RESET"));
    check(after, &sandbox, &|sandbox| sandbox.sql("DELETE FROM t WHERE id<3; UPDATE t SET a=9; INSERT INTO t VALUES(5,'x',1,9,1)"));
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    let checked: String =
        sandbox.connect().query_row("SELECT group_concat(integrity_check) FROM pragma_integrity_check", [], |row| row.get(0)).unwrap();
    assert!(!checked.contains("missing") && !checked.contains("wrong"), "{checked}");
}

#[test]
fn rows_of_a_table_that_became_strict_come_back() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(k TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID; INSERT INTO t VALUES('a','text'),('b',1.5),('c',3); PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql='CREATE TABLE t(k TEXT PRIMARY KEY, n INTEGER) STRICT, WITHOUT ROWID' WHERE name='t'; PRAGMA writable_schema=RESET",
    );
    check("strict", &sandbox, &|sandbox| sandbox.sql("DELETE FROM t; INSERT INTO t VALUES('z',1)"));
}

#[test]
fn a_schema_with_scars_comes_back() {
    check_sql(
        "scars",
        "CREATE TABLE t(x, y DEFAULT 'a'); INSERT INTO t VALUES(1,2); CREATE VIEW lost AS SELECT * FROM nowhere;
         CREATE VIEW v AS SELECT x FROM t; CREATE TRIGGER tr INSTEAD OF INSERT ON v BEGIN INSERT INTO nowhere VALUES(new.x); END;
         PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql='create   table  t ( x /* a comment */ , y DEFAULT ''a''  -- the end\n )' WHERE name='t';
         UPDATE sqlite_schema SET rowid=rowid+100 WHERE name='t'; PRAGMA writable_schema=RESET",
        "DROP VIEW lost; DROP TRIGGER tr; ALTER TABLE t ADD COLUMN z; UPDATE t SET x=3",
    );
}

/// Runs statements as they are, then checks that no way back leaves an index at odds with its table.
fn check_indexes(name: &str, build: &str, scar: &str, damage: &str) {
    let sandbox = Sandbox::with(build);
    sandbox.sql(&format!("PRAGMA writable_schema=ON; {scar}; PRAGMA writable_schema=RESET"));
    let before = sandbox.copy_db("before.db");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql(damage);
    let after = sandbox.copy_db("after.db");
    let run = sandbox.dbelay(&["rollback", "good"]);
    assert!(run.code == 0 || run.code == 3, "{name}: {}", run.stderr);
    // Exact, or refused and untouched.
    oracle::assert_same(if run.code == 0 { &before } else { &after }, &sandbox.db());
    println!("{name}: exit {}", run.code);
}

#[test]
fn no_index_is_at_odds_with_its_table_after_a_rollback() {
    let retype = "UPDATE sqlite_schema SET sql=replace(sql, 'amount INT', 'amount TEXT') WHERE type='table'";
    for encoding in ["UTF-8", "UTF-16le"] {
        check_indexes(
            "a condition on a column whose type was edited",
            &format!(
                "PRAGMA encoding='{encoding}'; CREATE TABLE t(id INTEGER PRIMARY KEY, amount INT, v); CREATE INDEX i ON t(v) WHERE amount < '10';
                 INSERT INTO t VALUES(1,5,'a'),(2,50,'b'),(3,9,'c')"
            ),
            &format!("{retype}; DELETE FROM sqlite_schema WHERE name='i'"),
            "DELETE FROM t; CREATE TABLE x(y)",
        );
    }
    check_indexes(
        "a condition on a quoted column",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, \"a\"\"b\" INT, v); INSERT INTO t VALUES(1,5,'a'),(2,50,'b')",
        "UPDATE sqlite_schema SET sql=replace(sql, ' INT,', ' TEXT,') WHERE type='table'",
        "DELETE FROM t; CREATE INDEX i ON t(v) WHERE \"a\"\"b\" < '10'",
    );
    check_indexes(
        "NOT NULL and a condition IS NOT NULL",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, b TEXT, v); INSERT INTO t VALUES(1,NULL,'a'),(2,'x','b')",
        "UPDATE sqlite_schema SET sql=replace(sql, 'b TEXT', 'b TEXT NOT NULL') WHERE type='table'",
        "CREATE INDEX i ON t(v) WHERE b IS NOT NULL; DELETE FROM t",
    );
    check_indexes(
        "a condition in another encoding",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, city, v); INSERT INTO t VALUES(1,CAST(x'4bf66c6e' AS TEXT),'a'),(2,'x','b');
         CREATE INDEX i ON t(v) WHERE city = 'K?ln'",
        "UPDATE sqlite_schema SET sql=CAST(replace(CAST(sql AS BLOB), '?', x'f6') AS TEXT) WHERE name='i'; PRAGMA writable_schema=RESET; REINDEX",
        "DROP INDEX i",
    );
}

#[test]
fn defaults_that_are_words_are_no_obstacle() {
    check_sql(
        "defaults",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, st TEXT DEFAULT active, q DEFAULT \"quoted\", e DEFAULT (1+2), c DEFAULT CURRENT_DATE, n DEFAULT -5,
           qty INT, total AS (qty*2) STORED); INSERT INTO t(id,qty) VALUES(1,2),(2,3); ALTER TABLE t ADD COLUMN late DEFAULT 'late'; CREATE INDEX il ON t(late)",
        "UPDATE t SET qty=9; DELETE FROM t WHERE id=2; UPDATE t SET late='x'",
    );
}

#[test]
fn a_database_that_was_replaced_meanwhile_is_not_written() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("UPDATE t SET x=2");
    let other = sandbox.copy_db("other.db");
    // The command puts another file in its place; what was opened before is nobody's database.
    let run = sandbox.dbelay(&["migrate", "--", "sh", "-c", "mv other.db app.db; exit 1"]).exits(4);
    assert!(run.stderr.contains("equal to snapshot") || run.stderr.contains("rolled back"), "{}", run.stderr);
    assert!(!other.exists());
    assert_eq!(sandbox.number("SELECT x FROM t"), 2);
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    assert_eq!(sandbox.number("SELECT x FROM t"), 1);
}

#[test]
fn ddl_in_another_encoding_keeps_its_bytes() {
    let build = "CREATE TABLE t(x DEFAULT 'caf?', y CHECK(y <> '?')); CREATE INDEX i ON t(x) WHERE x <> '?'; CREATE VIEW v AS SELECT 'caf?' FROM t;
         INSERT INTO t VALUES(1,2); PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql=CAST(replace(CAST(sql AS BLOB), '?', x'e9') AS TEXT);
         PRAGMA writable_schema=RESET";
    check_sql("latin1", build, "DROP VIEW v; DROP INDEX i; UPDATE t SET x=5");
    check_sql("latin1", build, "DROP TABLE t; DROP VIEW v");
}

#[test]
fn temporary_and_attached_databases_are_said_to_be_out_of_scope() {
    let sandbox = Sandbox::new();
    sandbox.run(&["snapshot", "--help"]).exits(0).prints(&["TEMP tables", "attaches"]);
}

#[test]
fn rows_that_only_the_log_has_are_read_in_every_journal_mode() {
    for mode in ["wal", "delete", "truncate", "persist", "memory", "off"] {
        let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
        let writer = sandbox.connect();
        writer.pragma_update(None, "journal_mode", mode).unwrap();
        writer.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES(2),(3)").unwrap();
        sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
        assert_eq!(sandbox.dbelay(&["show", "good", "--json"]).exits(0).json()["rows"], 3, "{mode}");
        writer.execute_batch("DELETE FROM t").unwrap();
        sandbox.dbelay(&["rollback", "good"]).exits(0);
        assert_eq!(writer.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 3, "{mode}");
        let kept: String = sandbox.connect().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(kept == "wal", mode == "wal", "a rollback changes no journal mode");
    }
}

#[test]
fn a_hot_rollback_journal_is_played_back_before_anything_is_read() {
    let sandbox = Sandbox::with("CREATE TABLE t(x, y)");
    sandbox
        .sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000) INSERT INTO t SELECT i, hex(zeroblob(50)) FROM n");
    let expected = sandbox.copy_db("expected.db");
    let crashed = Sandbox::new();
    {
        // What a process leaves behind that is killed in the middle of a transaction which has begun to write the file.
        let connection = sandbox.connect();
        connection.execute_batch("PRAGMA cache_size=2; BEGIN; UPDATE t SET x=-x, y=''; DELETE FROM t WHERE rowid%2").unwrap();
        copy_database(&sandbox.db(), &crashed.db());
    }
    assert!(crashed.path("app.db-journal").metadata().unwrap().len() > 512);
    assert_ne!(std::fs::read(crashed.db()).unwrap(), std::fs::read(&expected).unwrap());
    crashed.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    oracle::assert_same(&expected, &crashed.db());
    crashed.sql("DELETE FROM t");
    crashed.dbelay(&["rollback", "good"]).exits(0);
    oracle::assert_same(&expected, &crashed.db());
}

#[test]
fn a_snapshot_beside_a_busy_writer_is_one_committed_state() {
    for mode in ["wal", "delete"] {
        let sandbox = Sandbox::with(&format!("PRAGMA journal_mode={mode}; CREATE TABLE a(n); CREATE TABLE b(n); CREATE TABLE c(x)"));
        sandbox.sql("INSERT INTO a VALUES(0); INSERT INTO b VALUES(0); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20000) INSERT INTO c SELECT i FROM n");
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (stop, connection) = (Arc::clone(&stop), sandbox.connect());
            connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
            connection.pragma_update(None, "synchronous", "off").unwrap();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    connection.execute_batch("BEGIN IMMEDIATE; UPDATE a SET n=n+1; UPDATE b SET n=n-1; COMMIT").unwrap();
                }
            })
        };
        for _ in 0..5 {
            sandbox.dbelay(&["snapshot"]).exits(0);
            let cell = |table: &str| {
                let text = sandbox.dbelay(&["cat", "HEAD", table, "--format", "csv"]).exits(0).stdout;
                text.lines().last().unwrap().rsplit(',').next().unwrap().parse::<i64>().unwrap()
            };
            assert_eq!(cell("a") + cell("b"), 0, "{mode}");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}

#[test]
fn a_symlink_as_path_stays_one() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("data")).unwrap();
    std::os::unix::fs::symlink("data/real.db", sandbox.db()).unwrap();
    sandbox.sql("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    check("symlink", &sandbox, &|sandbox| sandbox.sql("DELETE FROM t; PRAGMA journal_mode=WAL; INSERT INTO t VALUES(2)"));
    assert!(sandbox.db().symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_link(sandbox.db()).unwrap(), std::path::Path::new("data/real.db"));
}

/// Runs the binary as a user who may write only the store: where the tests run as root, as `nobody`.
fn as_nobody(sandbox: &Sandbox, arguments: &[&str]) -> crate::sandbox::Run {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let binary = sandbox.path("dbelay-binary");
    if !binary.exists() {
        // By another process: while this one has a file open for writing, none of its threads can run it.
        finish(Command::new("cp").arg(env!("CARGO_BIN_EXE_dbelay")).arg(&binary)).exits(0);
        std::fs::create_dir(sandbox.path("store")).unwrap();
        std::fs::set_permissions(sandbox.path("store"), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::fs::set_permissions(sandbox.path(""), std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let mut command = Command::new(binary);
    command.env_clear().current_dir(sandbox.path("")).env("DBELAY_STORE", sandbox.path("store/.dbelay")).stdin(std::process::Stdio::null());
    if rustix::process::getuid().is_root() {
        command.uid(65534).gid(65534);
    }
    finish(command.args(["--db", "app.db"]).args(arguments))
}

#[test]
fn a_database_where_nothing_can_be_written_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for build in ["CREATE TABLE t(x)", "PRAGMA journal_mode=WAL; CREATE TABLE t(x)"] {
        let sandbox = Sandbox::with(build);
        sandbox.sql("INSERT INTO t VALUES(1),(2)");
        mode(&sandbox.db(), 0o444);
        as_nobody(&sandbox, &["snapshot", "--tag", "good"]).exits(0);
        assert_eq!(as_nobody(&sandbox, &["show", "good", "--json"]).exits(0).json()["rows"], 2, "{build}");
        mode(&sandbox.path(""), 0o755);
        mode(&sandbox.db(), 0o644);
        sandbox.sql("DELETE FROM t");
        mode(&sandbox.db(), 0o444);
        mode(&sandbox.path(""), 0o555);
        let run = as_nobody(&sandbox, &["rollback", "good"]).exits(3).says(&["cannot be written", "the database is unchanged"]);
        assert!(!run.stderr.contains("undo"), "{}", run.stderr);
        mode(&sandbox.path(""), 0o755);
        mode(&sandbox.db(), 0o644);
        assert_eq!(sandbox.number("SELECT count(*) FROM t"), 0);
    }
}

#[test]
fn a_log_that_must_be_replayed_where_nothing_can_be_written_is_said_so() {
    use std::os::unix::fs::PermissionsExt;
    let source = Sandbox::with("PRAGMA journal_mode=WAL; CREATE TABLE t(x)");
    let open = source.connect();
    open.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES(1)").unwrap();
    let sandbox = Sandbox::new();
    copy_database(&source.db(), &sandbox.db());
    for name in ["app.db", "app.db-wal"] {
        std::fs::set_permissions(sandbox.path(name), std::fs::Permissions::from_mode(0o444)).unwrap();
    }
    as_nobody(&sandbox, &["snapshot"]).exits(3).says(&["replay the write-ahead log", "copy these files together"]);
    std::fs::set_permissions(sandbox.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn pipes_and_devices_are_no_databases() {
    let sandbox = Sandbox::new();
    finish(Command::new("mkfifo").arg(sandbox.db())).exits(0);
    sandbox.dbelay(&["snapshot"]).exits(2).says(&["it is a pipe or a device"]);
    sandbox.run(&["--db", "/dev/null", "snapshot"]).exits(2).says(&["it is a pipe or a device"]);
}

#[test]
fn line_ends_of_other_systems_pass_through_a_script() {
    let sandbox = Sandbox::with("CREATE TABLE t(x); INSERT INTO t VALUES('one')");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("CREATE TABLE u(y, -- a comment\r\n z); CREATE VIEW v AS\r\n SELECT * FROM u; UPDATE t SET x='one\r\ntwo'||char(13)");
    let patch = sandbox.dbelay(&["diff", "good", "--format", "sql"]).exits(0).stdout;
    // As the sqlite3 shell reads a line.
    let lines: String = patch.split('\n').map(|line| format!("{}\n", line.strip_suffix('\r').unwrap_or(line))).collect();
    sandbox.dbelay(&["restore", "good", "--to", "new.db"]).exits(0);
    rusqlite::Connection::open(sandbox.path("new.db")).unwrap().execute_batch(&lines).unwrap();
    oracle::assert_same(&sandbox.db(), &sandbox.path("new.db"));
}

#[test]
fn a_stored_column_that_was_virtual_before_is_in_the_way_back() {
    let sandbox = Sandbox::new();
    sandbox.application_sql("CREATE TABLE t(id INTEGER PRIMARY KEY, a, g AS (shout(a))); INSERT INTO t VALUES(1,'x'),(2,'y')");
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.application_sql(
        "CREATE TABLE n(id INTEGER PRIMARY KEY, a, g AS (shout(a)) STORED); INSERT INTO n SELECT id, a FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
    );
    let stored = sandbox.copy_db("stored.db");
    sandbox.dbelay(&["rollback", "good"]).exits(0);
    sandbox.dbelay(&["undo"]).exits(0);
    oracle::assert_same(&stored, &sandbox.db());
    sandbox.dbelay(&["redo"]).exits(0);
    sandbox.dbelay(&["diff", "good", "--exit-code"]).exits(0);
}

#[test]
fn an_unreadable_database_is_said_so() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with("CREATE TABLE t(x)");
    std::fs::set_permissions(sandbox.db(), std::fs::Permissions::from_mode(0o000)).unwrap();
    as_nobody(&sandbox, &["snapshot"]).exits(2).says(&["app.db", "ermission denied"]);
    std::fs::set_permissions(sandbox.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_index_whose_keys_another_sqlite_computed_is_named_before_a_migration() {
    let sandbox = Sandbox::new();
    // The application's own `lower`, as those have that load an ICU.
    let connection = sandbox.connect();
    let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8
        | rusqlite::functions::FunctionFlags::SQLITE_DETERMINISTIC
        | rusqlite::functions::FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("lower", 1, flags, |context| Ok(context.get::<String>(0)?.to_lowercase())).unwrap();
    connection
        .execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE INDEX tl ON t(lower(x)); INSERT INTO t(x) VALUES('É'),('a')")
        .unwrap();
    drop(connection);
    sandbox.dbelay(&["migrate", "--", "true"]).exits(0).says(&["index `tl` of `t` holds other keys than this SQLite computes"]);
}
