//! Odd corners of tables and files, each read as SQL reads it.

use super::*;

/// Makes a database, and reads its tables both ways; those that are named are read through SQL alone.
fn check(sql: &str, through_sql: &[&str]) {
    let (_folder, path) = in_folder();
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch(&format!("PRAGMA synchronous=OFF; {sql}")).unwrap_or_else(|error| panic!("{sql}: {error}"));
    drop(connection);
    check_file(&path, through_sql, sql);
}

fn check_file(path: &Path, through_sql: &[&str], what: &str) {
    for rows_target in [2, 1 << 40] {
        let rule = CutRule { rows_target };
        let mut engine = Sqlite::open(path, &options(false)).expect("opened");
        let mut read = engine.begin_read().expect("begun");
        let mut met = Vec::new();
        for shape in read.shapes().expect("shapes") {
            let (mut paged, mut queried) = (Read::new(), Read::new());
            let parts = read.parts(&shape, 1).expect("parts");
            let is_read = parts.first().is_some_and(|part| read.read_part(&shape, part, rule, &mut collect(&mut paged)).is_ok());
            read.read_table(&shape, rule, &mut collect(&mut queried)).unwrap_or_else(|error| panic!("{what}: {error}"));
            if is_read {
                assert_eq!(paged, queried, "{what}: {}", shape.name);
            } else {
                met.push(shape.name);
            }
        }
        met.sort_unstable();
        assert_eq!(met, through_sql, "{what}: {:?}", read.remarks());
    }
}

#[test]
fn reals_and_numbers_of_each_affinity_are_read() {
    let values = "(1, 2, 3, 4, 5, 6), (0, 0, 0, 0, 0, 0), (1.0, 1.0, 1.0, 1.0, 1.0, 1.0), (-1.5, '2', '3.0', x'00', 'a', 1e300), \
                  (9223372036854775807, -9223372036854775808, 9007199254740993, '9223372036854775808', '1e5', -0.0), (NULL, '', ' 1 ', 2147483648, 140737488355328, 0.1)";
    for tail in ["", "WITHOUT ROWID"] {
        check(
            &format!(
                "CREATE TABLE t(k INTEGER, a REAL, b DOUBLE PRECISION, c NUMERIC, d TEXT, e ANY, f, PRIMARY KEY(k, a, f)) {tail};
                 INSERT OR IGNORE INTO t SELECT row_number() OVER (), ifnull(column1, 0), column2, column3, column4, column5, ifnull(column6, 7) FROM (VALUES {values});
                 CREATE TABLE s(k INTEGER PRIMARY KEY, a ANY, b REAL, c INT) STRICT {};
                 INSERT INTO s SELECT row_number() OVER (), column1, 1, 2 FROM (VALUES {values});
                 INSERT INTO s VALUES(100, '001', 5, NULL), (101, 1.0, 2.0, 0)",
                if tail.is_empty() { "" } else { ", WITHOUT ROWID" }
            ),
            &[],
        );
    }
}

#[test]
fn columns_that_were_added_give_their_defaults() {
    check(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES(1, 2), (5, 6);
         ALTER TABLE t ADD COLUMN b TEXT NOT NULL DEFAULT 5;
         ALTER TABLE t ADD COLUMN c REAL NOT NULL DEFAULT 5;
         ALTER TABLE t ADD COLUMN d NUMERIC NOT NULL DEFAULT '5.0';
         ALTER TABLE t ADD COLUMN e INT DEFAULT '07';
         ALTER TABLE t ADD COLUMN f BLOB DEFAULT x'00ff';
         ALTER TABLE t ADD COLUMN g DEFAULT 9e999;
         ALTER TABLE t ADD COLUMN h REAL DEFAULT -0.0;
         ALTER TABLE t ADD COLUMN i DEFAULT TRUE;
         ALTER TABLE t ADD COLUMN j TEXT DEFAULT 'it''s';
         ALTER TABLE t ADD COLUMN k DEFAULT \"word\";
         ALTER TABLE t ADD COLUMN l INTEGER DEFAULT 1e3;
         ALTER TABLE t ADD COLUMN m DEFAULT +7;
         ALTER TABLE t ADD COLUMN n;
         INSERT INTO t(id, a) VALUES(9, 9);
         CREATE TABLE w(k TEXT PRIMARY KEY, a) WITHOUT ROWID; INSERT INTO w VALUES('a', 1), ('b', 2);
         ALTER TABLE w ADD COLUMN b REAL NOT NULL DEFAULT 3; INSERT INTO w VALUES('c', 1, 2)",
        &[],
    );
    // What is computed was computed when the column was added, and is not known here.
    check(
        "CREATE TABLE t(a); ALTER TABLE t ADD COLUMN b DEFAULT (1 + 2); INSERT INTO t(a) VALUES(2);
         CREATE TABLE u(a); INSERT INTO u VALUES(1); PRAGMA writable_schema=ON;
         UPDATE sqlite_schema SET sql='CREATE TABLE u(a, b DEFAULT (1 + 2))' WHERE name='u'",
        &["u"],
    );
}

#[test]
fn a_dropped_or_renamed_column_is_read() {
    check(
        "CREATE TABLE t(a, b, c); INSERT INTO t VALUES(1, 2, 3), (4, 5, 6); ALTER TABLE t DROP COLUMN b; ALTER TABLE t RENAME COLUMN c TO d; INSERT INTO t VALUES(7, 8);
         CREATE TABLE made AS SELECT a AS x, d + 0.5 AS y, 'z' || a FROM t;
         CREATE TABLE rowless(a, b REAL, c, PRIMARY KEY(c, a)) WITHOUT ROWID; INSERT INTO rowless VALUES(1, 2, 3), (4, 5, 6); ALTER TABLE rowless DROP COLUMN b",
        &[],
    );
}

#[test]
fn row_numbers_of_all_lengths_are_read() {
    let numbers = "(-9223372036854775808), (9223372036854775807), (0), (-1), (1), (127), (128), (16384), (2097152), (268435456), (72057594037927936), (-72057594037927937)";
    check(
        &format!(
            "CREATE TABLE alias(id INTEGER PRIMARY KEY, a); INSERT INTO alias SELECT column1, 'x' FROM (VALUES {numbers});
             CREATE TABLE hidden(a); INSERT INTO hidden(rowid, a) SELECT column1, column1 FROM (VALUES {numbers});
             CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, a); INSERT INTO counted(a) VALUES(1), (2); DELETE FROM counted WHERE id=2; INSERT INTO counted(a) VALUES(3);
             CREATE TABLE descending(id INTEGER PRIMARY KEY DESC, a); INSERT INTO descending VALUES(3, 1), (1, 2), (NULL, 4);
             CREATE TABLE no_alias(id INT PRIMARY KEY, a); INSERT INTO no_alias VALUES(3, 1), (1, 2), (NULL, 4), ('x', 5)"
        ),
        &[],
    );
}

#[test]
fn tables_without_row_numbers_are_read_in_the_order_of_their_keys() {
    check(
        "CREATE TABLE a(k TEXT COLLATE NOCASE, v, PRIMARY KEY(k)) WITHOUT ROWID; INSERT INTO a VALUES('b', 1), ('A', 2), ('C', 3), ('a ', 4);
         CREATE TABLE b(x, k INT, v, PRIMARY KEY(k DESC, v)) WITHOUT ROWID; INSERT INTO b VALUES(1, 2, 3), (1, 3, 3), (1, 2, 1), (4, -9, 0);
         CREATE TABLE c(k, v, PRIMARY KEY(k, k, v COLLATE RTRIM)) WITHOUT ROWID; INSERT INTO c VALUES(1, 'x'), (1.5, 'y'), ('1', 'z'), (x'31', 'q');
         CREATE TABLE d(k PRIMARY KEY, v) WITHOUT ROWID;
         CREATE TABLE e(k PRIMARY KEY, v) WITHOUT ROWID;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600) INSERT INTO e SELECT hex(i) || '.' || (i % 7), zeroblob(i * 5) FROM n;
         CREATE INDEX e_v ON e(v); DELETE FROM e WHERE k LIKE '3%'",
        &[],
    );
}

#[test]
fn rows_with_large_values_are_read() {
    for page_bytes in [512, 4096, 65_536] {
        check(
            &format!(
                "PRAGMA page_size={page_bytes};
                 CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c); INSERT INTO t VALUES(1, zeroblob(1000000), 'x', randomblob(70000)), (2, 1, 2, hex(zeroblob(40000))), (3, 'a', randomblob(200000), 4);
                 CREATE TABLE w(k PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO w VALUES(randomblob(90000), 1), ('k', zeroblob(300000)), (3, 4)"
            ),
            &[],
        );
    }
}

#[test]
fn records_of_each_length_around_the_bounds_of_a_page_are_read() {
    for page_bytes in [512, 1024] {
        let longest = page_bytes * 3;
        check(
            &format!(
                "PRAGMA page_size={page_bytes}; CREATE TABLE t(a); CREATE TABLE w(k INT PRIMARY KEY, a) WITHOUT ROWID;
                 WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {longest}) INSERT INTO t SELECT randomblob(i) FROM n;
                 INSERT INTO w SELECT rowid, a FROM t"
            ),
            &[],
        );
    }
}

#[test]
fn a_table_with_two_thousand_columns_is_read() {
    let names: Vec<String> = (0..2_000).map(|at| format!("c{at} {}", ["", "REAL", "TEXT", "INT"][at % 4])).collect();
    let values: Vec<String> = (0..2_000).map(|at| at.to_string()).collect();
    check(&format!("CREATE TABLE t({}); INSERT INTO t VALUES({}); INSERT INTO t(c1999) VALUES(7)", names.join(","), values.join(",")), &[]);
}

#[test]
fn text_with_zeros_and_of_odd_lengths_is_read() {
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        check(
            &format!(
                "PRAGMA encoding='{encoding}'; CREATE TABLE t(a TEXT, b);
                 INSERT INTO t VALUES('a' || char(0) || 'b', char(0)), (CAST(x'41' AS TEXT), CAST(x'410042' AS TEXT)), (CAST(x'00d8' AS TEXT), CAST(x'd80000' AS TEXT)), \
                 (char(65279) || 'x', char(128512)), (CAST(x'fffe4100' AS TEXT), CAST(x'feff0041' AS TEXT)), ('', CAST(x'' AS TEXT)), (CAST(x'c3' AS TEXT), CAST(x'f0908080ff' AS TEXT))"
            ),
            &[],
        );
    }
}

#[test]
fn tables_that_sqlite_or_its_modules_keep_are_read() {
    check(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a); CREATE INDEX t_a ON t(a); INSERT INTO t(a) VALUES(1), (2), (2); ANALYZE;
         CREATE VIRTUAL TABLE words USING fts5(body); INSERT INTO words VALUES('some words'), ('other words'); DELETE FROM words WHERE rowid=1;
         CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1); INSERT INTO boxes VALUES(1, 0, 1), (2, 0.5, 3)",
        &[],
    );
}

/// Writes over a part of a file, wherever it stands.
fn patch(path: &Path, from: &[u8], to: &[u8]) {
    let mut bytes = std::fs::read(path).expect("read");
    let at = bytes.windows(from.len()).position(|bytes| bytes == from).expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to);
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn what_is_no_number_is_read_as_sqlite_reads_it() {
    for tail in ["REAL", "", "NUMERIC"] {
        let (_folder, path) = in_folder();
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch(&format!("CREATE TABLE t(a {tail}, b); INSERT INTO t VALUES(1234567.125, 1), (2, 3)")).expect("made");
        drop(connection);
        patch(&path, &1_234_567.125_f64.to_be_bytes(), &f64::NAN.to_be_bytes());
        check_file(&path, &[], "NaN");
    }
}

#[test]
fn integers_that_are_longer_than_they_need_to_be_are_read() {
    let (_folder, path) = in_folder();
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch("CREATE TABLE t(a, b REAL, c TEXT); INSERT INTO t VALUES(1234567890123456789, 1234567890123, x'aa')")
        .expect("made");
    drop(connection);
    patch(&path, &1_234_567_890_123_456_789_i64.to_be_bytes(), &1_i64.to_be_bytes());
    patch(&path, &[0x01, 0x1f, 0x71, 0xfb, 0x04, 0xcb], &[0, 0, 0, 0, 0, 0]);
    check_file(&path, &[], "long integers");
}

#[test]
fn bytes_that_are_reserved_in_each_page_are_passed_over() {
    for (page_bytes, reserved) in [(512_usize, 32_u8), (1024, 8), (4096, 255), (65_536, 32)] {
        let (_folder, path) = in_folder();
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch(&format!("PRAGMA page_size={page_bytes}; CREATE TABLE t(a)")).expect("made");
        drop(connection);
        // An empty database whose pages keep no content at their ends: byte 20 says how much, and the cells' places are moved down by as much.
        let mut bytes = std::fs::read(&path).expect("read");
        bytes[20] = reserved;
        let cell = usize::from(u16::from_be_bytes([bytes[108], bytes[109]]));
        let moved = cell - usize::from(reserved);
        bytes.copy_within(cell..page_bytes, moved);
        for head in [105, 108] {
            bytes[head..head + 2].copy_from_slice(&u16::try_from(moved).expect("small").to_be_bytes());
        }
        let empty = (page_bytes - usize::from(reserved)) as u16;
        bytes[page_bytes + 5..page_bytes + 7].copy_from_slice(&empty.to_be_bytes());
        std::fs::write(&path, bytes).expect("written");
        let connection = Connection::open(&path).expect("a database");
        connection
            .execute_batch(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 900) INSERT INTO t SELECT randomblob(i * 2) FROM n;
                 CREATE TABLE w(k INT PRIMARY KEY, a) WITHOUT ROWID; INSERT INTO w SELECT rowid, a FROM t; PRAGMA integrity_check",
            )
            .expect("filled");
        let fault: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
        assert_eq!(fault, "ok");
        drop(connection);
        check_file(&path, &[], &format!("{reserved} reserved"));
    }
}

#[test]
fn a_table_that_stands_in_the_pages_of_an_index_is_read_as_sqlite_reads_it_or_not_at_all() {
    let (_folder, path) = in_folder();
    let connection = Connection::open(&path).expect("a database");
    connection
        .execute_batch(
            "CREATE TABLE t(a, b); CREATE INDEX i ON t(b); INSERT INTO t VALUES(1, 2), (3, 4);
             PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=(SELECT rootpage FROM sqlite_schema WHERE name='i') WHERE name='t'",
        )
        .expect("made");
    drop(connection);
    let Ok(mut engine) = Sqlite::open(&path, &options(false)) else { return };
    let Ok(mut read) = engine.begin_read() else { return };
    for shape in read.shapes().unwrap_or_default() {
        assert!(read.parts(&shape, 1).expect("parts").is_empty(), "{}", shape.name);
    }
}
