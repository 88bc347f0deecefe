//! What pages give against what SQLite's own SQL gives, over databases of many forms and random changes.

mod corners;
mod damage;
mod log;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use xxhash_rust::xxh3::xxh3_128;

use super::super::{Options, Sqlite};
use crate::engine::{Engine, ReadTransaction};
use crate::rows::{CutRule, EditedColumn, RowGroup, TableShape};
use crate::value::Value;

/// A source of numbers that are the same in every run, and of values for pages of a size.
struct Dice(u64, u64);

impl Dice {
    /// Returns a text's length: mostly short, else past what a page holds, and more seldom the larger that is.
    fn length(&mut self) -> usize {
        let limit = if self.below(1 + self.1 / 1024) == 0 { self.1 * 2 + 200 } else { 60 };
        self.below(limit) as usize
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }

    /// Writes a value in SQL.
    fn value(&mut self) -> String {
        match self.below(14) {
            0 => "NULL".to_owned(),
            1 => "0".to_owned(),
            2 => "1".to_owned(),
            3 => format!("{}", self.below(200) as i64 - 100),
            4 => format!("{}", (self.below(1 << 30) as i64) << self.below(34)),
            5 => "-9223372036854775808".to_owned(),
            6 => format!("{}.25", self.below(100_000)),
            7 => "9e999".to_owned(),
            8 => format!("1.5e{}", self.below(300) as i64 - 150),
            9 => format!("'{}'", "é\"x".repeat(self.below(12) as usize)),
            10 => format!("x'{}'", "00ff".repeat(self.below(9) as usize)),
            11 => format!("'{}'", "t".repeat(self.length())),
            12 => format!("CAST(x'{}' AS TEXT)", ["ff", "c3", "00d8", "41", "d800"][self.below(5) as usize]),
            _ => format!("'row {}'", self.below(1000)),
        }
    }
}

fn options(is_sql_only: bool) -> Options {
    Options { busy_ms: 100, extensions: Vec::new(), is_sql_only }
}

fn said(group: &RowGroup) -> String {
    let columns: Vec<_> = group
        .columns
        .iter()
        .map(|column| {
            let large: Vec<_> = column.large.iter().map(|large| large.id).collect();
            let head = String::from_utf8_lossy(&column.json[..column.json.len().min(60)]).into_owned();
            (xxh3_128(&column.json), head, column.is_default, large)
        })
        .collect();
    format!("{} {} {} {columns:?}", group.rows, group.first_key, group.cut_hash)
}

/// A row group as it was read.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    said: String,
    rows: u64,
    /// The JSON of its columns.
    columns: Vec<Vec<u8>>,
}

/// A table as it was read.
type Read = Vec<Kept>;

fn collect(groups: &mut Read) -> impl FnMut(RowGroup) -> ControlFlow<()> {
    |group| {
        let said = said(&group);
        groups.push(Kept { said, rows: group.rows, columns: group.columns.into_iter().map(|column| column.json).collect() });
        ControlFlow::Continue(())
    }
}

/// What a group is by its columns that were edited; none where it is to be read whole.
fn edited(read: &mut dyn ReadTransaction, shape: &TableShape, group: usize, before: &Read) -> Option<Vec<Vec<u8>>> {
    let edited = read.read_edited(shape, group, &mut |group, column| before.get(group)?.columns.get(column).cloned()).expect("read")?;
    let mut columns = before[group].columns.clone();
    for EditedColumn { column, chunk, then } in edited {
        assert_eq!(columns[column], then);
        let default = &shape.columns[column].default;
        let is_default = chunk.json == format!("[{}]", vec![default.as_str(); before[group].rows as usize].join(",")).into_bytes();
        assert_eq!(chunk.is_default, is_default);
        columns[column] = chunk.json;
    }
    Some(columns)
}

/// Reads every table through SQL.
fn by_sql(path: &Path, rule: CutRule) -> Vec<(TableShape, Read)> {
    let mut engine = Sqlite::open(path, &options(true)).expect("opened");
    let mut read = engine.begin_read().expect("begun");
    let shapes = read.shapes().expect("shapes");
    let mut tables = Vec::new();
    for shape in shapes {
        let mut groups = Read::new();
        read.read_table(&shape, rule, &mut collect(&mut groups)).expect("read");
        tables.push((shape, groups));
    }
    tables
}

/// Reads every table from its pages at once; returns what is to be remembered as well.
fn by_pages(path: &Path, rule: CutRule) -> (Vec<(TableShape, Read)>, Vec<u8>) {
    let mut engine = Sqlite::open(path, &options(false)).expect("opened");
    let mut read = engine.begin_read().expect("begun");
    let shapes = read.shapes().expect("shapes");
    let mut tables = Vec::new();
    for shape in shapes {
        let parts = read.parts(&shape, 1).expect("parts");
        assert_eq!(parts.len(), 1, "{}: {:?}", shape.name, read.remarks());
        let mut groups = Read::new();
        read.read_part(&shape, &parts[0], rule, &mut collect(&mut groups)).expect("read");
        tables.push((shape, groups));
    }
    let memory = remember(&mut *read, &tables);
    (tables, memory)
}

fn remember(read: &mut dyn ReadTransaction, tables: &[(TableShape, Read)]) -> Vec<u8> {
    let keys: Vec<(&str, String)> = tables.iter().map(|(shape, _)| (shape.name.as_str(), shape.name.clone())).collect();
    read.memory(&keys).expect("remembered").expect("a memory")
}

/// What was known when a database was read again: tables, and groups by their edited columns.
#[derive(Debug, Default)]
struct Known {
    tables: usize,
    edited: usize,
}

/// Reads what changed since a memory, and puts it together with what was read then; returns how much could be read so.
fn again(path: &Path, rule: CutRule, then: &[(TableShape, Read)], memory: &[u8]) -> (Vec<(TableShape, Read)>, Vec<u8>, Known) {
    let mut engine = Sqlite::open(path, &options(false)).expect("opened");
    let mut read = engine.begin_read().expect("begun");
    read.remember(memory);
    let shapes = read.shapes().expect("shapes");
    let mut tables = Vec::new();
    let mut known = Known::default();
    for shape in shapes {
        let before = then.iter().find(|(other, _)| other.name == shape.name);
        let rows: Vec<u64> = before.iter().flat_map(|(_, groups)| groups).map(|group| group.rows).collect();
        let stale = match before {
            Some((then, _)) if *then == shape => read.stale(&shape, &shape.name, &rows).expect("looked"),
            _ => None,
        };
        let mut groups = Read::new();
        match (stale, before) {
            (Some(stale), Some((_, before))) => {
                known.tables += 1;
                let mut at = 0;
                for from in stale.into_iter().filter(|_| !before.is_empty()) {
                    if from < at {
                        continue;
                    }
                    groups.extend_from_slice(&before[at..from]);
                    let edited = edited(&mut *read, &shape, from, before);
                    let place = groups.len();
                    at = read.read_stale(&shape, rule, from, &mut collect(&mut groups)).expect("read");
                    if let Some(columns) = edited {
                        known.edited += 1;
                        assert_eq!(groups[place].columns, columns, "group {from} of {}", shape.name);
                    }
                }
                groups.extend_from_slice(&before[at..]);
            }
            _ => {
                let parts = read.parts(&shape, 1).expect("parts");
                read.read_part(&shape, &parts[0], rule, &mut collect(&mut groups)).expect("read");
            }
        }
        tables.push((shape, groups));
    }
    let memory = remember(&mut *read, &tables);
    (tables, memory, known)
}

fn assert_same(found: &[(TableShape, Read)], expected: &[(TableShape, Read)], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for ((shape, found), (_, expected)) in found.iter().zip(expected) {
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(found == expected, "{what}: group {at} of {}:\n{found:?}\n{expected:?}", shape.name);
        }
        assert_eq!(found.len(), expected.len(), "{what}: {}", shape.name);
    }
}

/// Makes a database with tables of every form, in which `rows` rows stand.
fn make(path: &Path, form: &str, rows: u64, dice: &mut Dice) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(&format!(
            "{form}
             PRAGMA synchronous=OFF;
             CREATE TABLE alias(id INTEGER PRIMARY KEY, a REAL, b, c TEXT DEFAULT 'x');
             CREATE TABLE hidden(a, b DOUBLE, c NUMERIC);
             CREATE TABLE keyed(a, b INTEGER, c REAL, PRIMARY KEY(b, a));
             CREATE TABLE reversed(id INTEGER PRIMARY KEY DESC, a);
             CREATE TABLE flat(a, b TEXT, c REAL, d INTEGER, PRIMARY KEY(b, d)) WITHOUT ROWID;
             CREATE TABLE computed(id INTEGER PRIMARY KEY, a INT, v AS (a + 1) VIRTUAL, s REAL AS (a * 2) STORED, z);
             CREATE TABLE taken(rowid, _rowid_, oid);
             CREATE TABLE empty(a, b);
             BEGIN;"
        ))
        .expect("made");
    for row in 0..rows {
        insert(&connection, row as i64, dice);
    }
    connection.execute_batch("COMMIT").expect("committed");
    connection
}

fn insert(connection: &Connection, row: i64, dice: &mut Dice) {
    let id = if row % 7 == 0 { -row } else { row * 3 };
    let mut v = || dice.value();
    let sql = format!(
        "INSERT OR IGNORE INTO alias VALUES({id}, {}, {}, {});
         INSERT INTO hidden VALUES({}, {}, {});
         INSERT OR IGNORE INTO keyed VALUES({}, {row}, {});
         INSERT OR IGNORE INTO reversed VALUES({id}, {});
         INSERT OR IGNORE INTO flat VALUES({}, 'k' || ({row} * 7919 % 1000), {}, {row});
         INSERT OR IGNORE INTO computed(id, a, z) VALUES({id}, {row}, {});
         INSERT INTO taken VALUES({}, {}, {});",
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v(),
        v()
    );
    connection.execute_batch(&sql).expect("inserted");
}

/// Returns the settings of a database of each form, with its page size.
fn forms() -> Vec<(u64, String)> {
    let mut forms = Vec::new();
    for (at, page) in [512, 1024, 4096, 65_536].into_iter().enumerate() {
        let encoding = ["UTF-8", "UTF-16le", "UTF-16be"][at % 3];
        forms.push((page, format!("PRAGMA page_size={page}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={};", at % 3)));
        forms.push((page, format!("PRAGMA page_size={page}; PRAGMA auto_vacuum={};", (at + 1) % 3)));
    }
    forms
}

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    (folder, path)
}

#[test]
fn pages_give_the_row_groups_that_sql_gives() {
    for (round, (page, form)) in forms().into_iter().enumerate() {
        let (_folder, path) = in_folder();
        let mut dice = Dice(round as u64, page);
        let connection = make(&path, &form, 300, &mut dice);
        connection.execute_batch("DELETE FROM hidden WHERE rowid % 3 = 0; ALTER TABLE alias ADD COLUMN late REAL DEFAULT 7; ALTER TABLE flat ADD COLUMN late DEFAULT 'ü'; INSERT INTO alias VALUES(100000, 1, 2, 3, 4); INSERT INTO flat VALUES(1, 'zz', 3, 4, 5)").expect("changed");
        for rows_target in [1, 16, 1 << 40] {
            let rule = CutRule { rows_target };
            assert_same(&by_pages(&path, rule).0, &by_sql(&path, rule), &form);
        }
    }
}

#[test]
fn what_changed_since_a_memory_gives_what_reading_everything_gives() {
    for (round, (page, form)) in forms().into_iter().enumerate() {
        let (_folder, path) = in_folder();
        let mut dice = Dice(round as u64 + 77, page);
        let connection = make(&path, &form, 400, &mut dice);
        let rule = CutRule { rows_target: [4, 16, 64][round % 3] };
        let (mut tables, mut memory) = by_pages(&path, rule);
        let mut known_total = Known::default();
        for step in 0..24 {
            let key = dice.below(1800) as i64;
            let value = dice.value();
            let sql = match step % 12 {
                0 => String::new(),
                1 => format!("UPDATE alias SET b = {value} WHERE id = (SELECT max(id) FROM alias WHERE id <= {key}); UPDATE taken SET oid = {value} WHERE oid = 1"),
                2 => format!("UPDATE hidden SET a = {value} WHERE rowid % 50 = {}", key % 50),
                3 => format!("DELETE FROM alias WHERE id BETWEEN {key} AND {}; DELETE FROM hidden WHERE rowid = {key}", key + 30),
                4 => format!("DELETE FROM keyed WHERE b % 40 = {}; UPDATE keyed SET b = b + 10000 WHERE b = {}", key % 40, key / 3),
                5 => "UPDATE alias SET c = zeroblob(3000) WHERE id % 100 = 0; UPDATE hidden SET b = 'x' || hex(randomblob(900)) WHERE rowid < 5".to_owned(),
                6 => "UPDATE alias SET c = CAST(zeroblob(2999) AS TEXT) || 'y' WHERE id % 100 = 0".to_owned(),
                7 => format!("UPDATE flat SET c = {value} WHERE d = {}", key % 400),
                8 => format!("DELETE FROM reversed WHERE id > {key}; DELETE FROM hidden WHERE rowid > {}", key % 500 + 100),
                9 => format!("UPDATE computed SET a = a + 1 WHERE id = {}", key % 300 * 3),
                10 => "DELETE FROM taken; INSERT INTO empty VALUES(1, 2)".to_owned(),
                _ => "DELETE FROM empty; UPDATE keyed SET c = c + 1".to_owned(),
            };
            connection.execute_batch(&sql).expect("changed");
            if step % 3 == 1 {
                connection.execute_batch("BEGIN").expect("begun");
                for row in 0..dice.below(60) as i64 {
                    insert(&connection, 2_000 + step * 100 + row, &mut dice);
                }
                connection.execute_batch("COMMIT").expect("committed");
            }
            let what = format!("{form} step {step}: {sql}");
            let (now, memory_now, known) = again(&path, rule, &tables, &memory);
            assert_same(&now, &by_sql(&path, rule), &what);
            known_total.tables += known.tables;
            known_total.edited += known.edited;
            (tables, memory) = (now, memory_now);
        }
        assert!(known_total.tables > 24 * 3 && known_total.edited > 0, "{form}: {known_total:?}");
    }
}

/// Reads a table inside a transaction that writes, with what changed since a memory where that is told; returns whether it was.
fn stale_in_writing(path: &Path, tables: &[(TableShape, Read)], memory: &[u8], is_of_beginning: bool) -> Option<Vec<usize>> {
    let mut engine = Sqlite::open(path, &options(false)).expect("opened");
    let mut write = engine.begin_write().expect("begun");
    if is_of_beginning {
        write.starts_as_remembered(memory);
    }
    let (shape, groups) = tables.iter().find(|(shape, _)| shape.name == "alias").expect("a table");
    let key = Value::Integer(0);
    let rows: &mut dyn Iterator<Item = _> = &mut std::iter::once(Ok(vec![key, Value::Text(b"now".to_vec())]));
    assert_eq!(write.update_rows(shape, &[2], rows).expect("updated"), 1);
    write.remember(memory);
    let rows: Vec<u64> = groups.iter().map(|group| group.rows).collect();
    write.stale(shape, &shape.name, &rows).expect("looked")
}

#[test]
fn in_writing_only_a_memory_of_the_beginning_says_what_changed() {
    let (_folder, path) = in_folder();
    let rule = CutRule { rows_target: 4 };
    let connection = make(&path, "", 300, &mut Dice(1, 4096));
    let (tables, memory) = by_pages(&path, rule);
    assert_eq!(stale_in_writing(&path, &tables, &memory, false), None, "nobody said of when it is");
    let stale = stale_in_writing(&path, &tables, &memory, true).expect("told");
    assert!(!stale.is_empty() && stale.len() < 20, "{stale:?}");
    // The files are what they were; what others changed since would be missed.
    connection.execute_batch("UPDATE alias SET b='others' WHERE id % 5 = 0").expect("changed");
    assert_eq!(stale_in_writing(&path, &tables, &memory, false), None);
}

#[test]
fn a_memory_of_another_database_or_a_damaged_one_changes_nothing() {
    let (_folder, path) = in_folder();
    let (_other_folder, other) = in_folder();
    let rule = CutRule { rows_target: 16 };
    let connection = make(&path, "", 300, &mut Dice(1, 4096));
    drop(make(&other, "", 300, &mut Dice(2, 4096)));
    let (tables, memory) = by_pages(&path, rule);
    let (_, foreign) = by_pages(&other, rule);
    connection.execute_batch("UPDATE alias SET a = a + 1 WHERE id % 11 = 0").expect("changed");
    let mut damaged = memory.clone();
    damaged[memory.len() / 2] ^= 1;
    let expected = by_sql(&path, rule);
    for memory in [foreign.as_slice(), &damaged, &memory[..memory.len() - 1], &[], &memory] {
        assert_same(&again(&path, rule, &tables, memory).0, &expected, "another memory");
    }
}
