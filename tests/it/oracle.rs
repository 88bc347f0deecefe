//! Exact comparison of two SQLite databases that knows nothing of dbelay: every line of `sqlite_schema` in order, every row with
//! its rowid, every value with its storage class and bytes, the settings in the header.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// Asserts that two databases hold the same.
#[track_caller]
pub fn assert_same(expected: &Path, actual: &Path) {
    assert_eq!(findings(expected), findings(actual), "integrity_check");
    let (expected, actual) = (dump(expected), dump(actual));
    if expected != actual {
        for (line, (a, b)) in expected.lines().zip(actual.lines()).enumerate() {
            assert_eq!(a, b, "line {line} differs");
        }
        panic!("{} lines expected, {} found", expected.lines().count(), actual.lines().count());
    }
}

/// Returns what SQLite's own check finds.
pub fn findings(path: &Path) -> Vec<String> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    crate::sandbox::bring_own(&connection);
    // Where a module is not there or refuses its table, the check says so instead.
    let run = || -> Result<Vec<String>, rusqlite::Error> {
        connection.prepare("PRAGMA integrity_check")?.query_map([], |row| row.get(0))?.collect()
    };
    let mut lines = run().unwrap_or_else(|error| vec![error.to_string()]);
    lines.sort();
    lines
}

/// Writes everything in a database as text.
pub fn dump(path: &Path) -> String {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    crate::sandbox::bring_own(&connection);
    let mut out = String::new();
    for pragma in ["encoding", "user_version", "application_id", "auto_vacuum"] {
        connection
            .query_row(&format!("PRAGMA {pragma}"), [], |row| {
                out.push_str(&format!("{pragma} {}\n", value(row.get_ref(0)?)));
                Ok(())
            })
            .unwrap();
    }
    let mut tables = Vec::new();
    let mut schema = connection.prepare("SELECT type, name, tbl_name, sql, rootpage FROM sqlite_schema ORDER BY rowid").unwrap();
    let mut rows = schema.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        for column in 0..4 {
            out.push_str(&value(row.get_ref(column).unwrap()));
            out.push('\t');
        }
        out.push('\n');
        let kind: String = row.get(0).unwrap();
        if kind == "table" && row.get::<_, Option<i64>>(4).unwrap().unwrap_or(0) > 0 {
            tables.push(row.get::<_, String>(1).unwrap());
        }
    }
    tables.sort();
    for table in tables {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let mut info = connection.prepare(&format!("PRAGMA table_xinfo({})", quote(&table))).unwrap();
        let columns: Vec<(String, i64)> =
            info.query_map([], |row| Ok((row.get(1)?, row.get(6)?))).unwrap().collect::<Result<_, _>>().unwrap();
        let rowid =
            ["_rowid_", "rowid", "oid"].into_iter().find(|name| !columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name)));
        let named: Vec<String> =
            columns.iter().filter(|(_, hidden)| matches!(hidden, 0 | 3)).map(|(name, _)| format!("t.{}", quote(name))).collect();
        let select = |names: &[String]| format!("SELECT {} FROM {} AS t NOT INDEXED", names.join(","), quote(&table));
        let with_rowid: Vec<String> = rowid.map(|name| format!("t.{name}")).into_iter().chain(named.clone()).collect();
        let mut statement = connection.prepare(&select(&with_rowid)).or_else(|_| connection.prepare(&select(&named))).unwrap();
        let width = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        out.push_str(&format!("table {table}\n"));
        while let Some(row) = rows.next().unwrap() {
            for column in 0..width {
                out.push_str(&value(row.get_ref(column).unwrap()));
                out.push('\t');
            }
            out.push('\n');
        }
    }
    out
}

fn value(value: ValueRef<'_>) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(value) => format!("i{value}"),
        ValueRef::Real(value) => format!("r{:016x}", value.to_bits()),
        ValueRef::Text(bytes) => format!("t{}", std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), |text| format!("{text:?}"))),
        ValueRef::Blob(bytes) => format!("b{}", hex(bytes)),
    }
}
