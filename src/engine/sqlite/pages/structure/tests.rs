//! What is sound for us, held against SQLite's own check: on databases of all kinds, and on damaged ones.

use std::ops::ControlFlow;
use std::path::Path;

use super::super::super::read::State;
use super::super::super::{Options, Sqlite, since};
use crate::engine::ReadTransaction;
use crate::rows::{CutRule, RowGroup, TableShape};

/// Numbers that look random, and are the same each time (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// What SQLite's own check says of the structure; none where it cannot even begin.
fn said(path: &Path) -> Option<Vec<String>> {
    let connection = rusqlite::Connection::open(path).ok()?;
    let mut statement = connection.prepare("PRAGMA quick_check").ok()?;
    let mut lines = Vec::new();
    let mut rows = statement.query([]).ok()?;
    // A record that cannot be read ends it, with no more to say than that: what stands in records is not structure.
    while let Ok(Some(row)) = rows.next() {
        lines.push(row.get::<_, String>(0).ok()?);
    }
    let is_about_structure = |line: &String| line != "ok" && line != "database disk image is malformed" && !line.contains(" value in ");
    Some(lines.into_iter().filter(is_about_structure).collect())
}

fn is_sound(path: &Path) -> Option<bool> {
    let sqlite = Sqlite::open(path, &Options::default()).ok()?;
    sqlite.statement("BEGIN", "beginning").ok()?;
    let held = sqlite.held.as_ref()?;
    let state = sqlite.state().ok()?.with_pages(held, None);
    since::is_sound(&state).ok()
}

/// Makes a database of many kinds of pages: long records, records that go on, free pages, trees of three levels.
fn make(path: &Path, page_bytes: usize, rows: usize, dice: &mut Dice) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    connection
        .execute_batch(&format!(
            "PRAGMA page_size={page_bytes}; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; \
             CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT, body BLOB); CREATE INDEX a_name ON a (name); \
             CREATE UNIQUE INDEX a_some ON a (id) WHERE id % 3 = 0; CREATE INDEX a_long ON a (body, name); \
             CREATE TABLE b (k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE INDEX b_v ON b (v); \
             CREATE TABLE c (x, y UNIQUE); CREATE TABLE empty (z PRIMARY KEY); CREATE VIEW v AS SELECT * FROM a; BEGIN"
        ))
        .expect("tables");
    for at in 0..rows {
        let long = if dice.roll(12) == 0 { dice.roll(page_bytes * 5) } else { dice.roll(60) };
        let id = dice.roll(rows * 20) as i64 - rows as i64;
        connection
            .execute("INSERT OR IGNORE INTO a VALUES (?1, 'n' || ?2, zeroblob(?3))", (id, dice.roll(1000) as i64, long as i64))
            .expect("a");
        connection
            .execute("INSERT OR IGNORE INTO b VALUES (hex(?1), zeroblob(?2))", (dice.roll(rows * 5) as i64, (long / 2) as i64))
            .expect("b");
        connection.execute("INSERT OR IGNORE INTO c VALUES (?1, ?2)", (at as i64, dice.roll(rows * 9) as i64)).expect("c");
    }
    let (a, b) = (dice.roll(5) + 2, dice.roll(7) + 2);
    connection
        .execute_batch(&format!(
            "COMMIT; DELETE FROM a WHERE id % {a} = 0; DELETE FROM c WHERE x % {b} = 0; UPDATE b SET v = v || 'x' WHERE k < '4'"
        ))
        .expect("changes");
    if dice.roll(3) == 0 {
        connection.execute_batch("DROP TABLE b").expect("dropped");
    }
}

#[test]
fn databases_of_all_kinds_are_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for (at, page_bytes) in [512, 1024, 4096, 8192, 65536].into_iter().enumerate() {
        for rows in [0, 1, 40, 2000] {
            let path = dir.path().join(format!("{at}-{rows}.db"));
            make(&path, page_bytes, rows, &mut dice);
            assert_eq!(said(&path), Some(Vec::new()), "{page_bytes} {rows}");
            assert_eq!(is_sound(&path), Some(true), "pages of {page_bytes} bytes, {rows} rows");
        }
    }
}

#[test]
fn what_sqlite_does_not_take_for_sound_is_not_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let (mut found, mut missed) = (0, 0);
    for page_bytes in [512_usize, 1024, 4096] {
        let whole = dir.path().join(format!("whole-{page_bytes}.db"));
        make(&whole, page_bytes, 300, &mut dice);
        let bytes = std::fs::read(&whole).expect("its bytes");
        let pages = bytes.len() / page_bytes;
        for at in 0..500 {
            let mut damaged = bytes.clone();
            let page = dice.roll(pages);
            match dice.roll(6) {
                // A byte of a page's head or of its first cells' places.
                0..=2 => damaged[page * page_bytes + dice.roll(24)] = dice.roll(256) as u8,
                3 => damaged[page * page_bytes + dice.roll(page_bytes)] ^= 1 << dice.roll(8),
                // A page that stands in another's place.
                4 => {
                    let other = dice.roll(pages);
                    damaged.copy_within(other * page_bytes..(other + 1) * page_bytes, page * page_bytes);
                }
                // What the header says of free pages.
                _ => damaged[32 + dice.roll(8)] = dice.roll(4) as u8,
            }
            let path = dir.path().join("damaged.db");
            std::fs::write(&path, &damaged).expect("written");
            let Some(lines) = said(&path) else { continue };
            let sound = is_sound(&path);
            if lines.is_empty() {
                missed += u32::from(sound == Some(true));
            } else {
                found += 1;
                assert_ne!(sound, Some(true), "pages of {page_bytes} bytes, damage {at}: {lines:?}");
            }
        }
    }
    // Else nothing was tried.
    assert!(found > 300 && missed > 10, "{found} {missed}");
}

/// The tables of a database, each with how many rows its row groups have.
type Groups = Vec<(TableShape, Vec<u64>)>;

const RULE: CutRule = CutRule { rows_target: 16 };

/// Opens a database and hands its transaction to `work`; none where it cannot be opened.
fn in_transaction<T>(path: &Path, work: impl FnOnce(&mut State<'_>) -> T) -> Option<T> {
    let sqlite = Sqlite::open(path, &Options::default()).ok()?;
    sqlite.statement("BEGIN", "beginning").ok()?;
    let held = sqlite.held.as_ref()?;
    let mut state = sqlite.state().ok()?.with_pages(held, None);
    Some(work(&mut state))
}

/// Reads all tables from their pages, and remembers them.
fn read(path: &Path) -> (Groups, Vec<u8>) {
    let work = |state: &mut State<'_>| {
        let mut groups = Groups::new();
        for shape in state.shapes().expect("shapes") {
            let parts = state.parts(&shape, 1).expect("parts");
            let mut rows = Vec::new();
            let mut sink = |group: RowGroup| {
                rows.push(group.rows);
                ControlFlow::Continue(())
            };
            state.read_part(&shape, &parts[0], RULE, &mut sink).expect("read");
            groups.push((shape, rows));
        }
        let memory = state.memory(&keys(&groups)).expect("remembered").expect("a memory");
        (groups, memory)
    };
    in_transaction(path, work).expect("opened")
}

fn keys(groups: &Groups) -> Vec<(&str, String)> {
    groups.iter().map(|(shape, _)| (shape.name.as_str(), shape.name.clone())).collect()
}

/// Tells whether a database is sound, when this is remembered of it.
fn is_sound_since(path: &Path, groups: &Groups, memory: &[u8]) -> Option<bool> {
    let work = |state: &mut State<'_>| {
        state.remember(memory);
        for (shape, rows) in groups {
            state.stale(shape, &shape.name, rows).ok()?;
        }
        state.memory(&keys(groups)).ok()?;
        since::is_sound(state).ok()
    };
    in_transaction(path, work)?
}

#[test]
fn what_was_damaged_since_it_was_checked_is_not_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dice = Dice(0x0bad_cafe_1234_5677);
    let (mut found, mut sound) = (0, 0);
    for page_bytes in [512_usize, 1024, 4096] {
        let path = dir.path().join(format!("{page_bytes}.db"));
        make(&path, page_bytes, 1500, &mut dice);
        let (groups, memory) = read(&path);
        assert_eq!(is_sound_since(&path, &groups, &memory), Some(true));
        let connection = rusqlite::Connection::open(&path).expect("a database");
        connection
            .execute_batch(
                "UPDATE a SET name = name || 'y' WHERE id % 50 = 1; DELETE FROM a WHERE id % 31 = 2; UPDATE c SET y = -y WHERE x % 90 = 5; \
                 INSERT INTO c SELECT x + 100000, y + 5000000 FROM c WHERE x % 40 = 1",
            )
            .expect("changed");
        drop(connection);
        assert_eq!(is_sound_since(&path, &groups, &memory), Some(true), "{page_bytes}");
        let bytes = std::fs::read(&path).expect("its bytes");
        let pages = bytes.len() / page_bytes;
        let above: Vec<usize> = (1..pages).filter(|page| bytes[page * page_bytes] == 5).collect();
        for at in 0..300 {
            let mut damaged = bytes.clone();
            let page = dice.roll(pages);
            match dice.roll(8) {
                0..=2 => damaged[page * page_bytes + dice.roll(24)] = dice.roll(256) as u8,
                3 => damaged[page * page_bytes + dice.roll(page_bytes)] ^= 1 << dice.roll(8),
                6 => {
                    let other = dice.roll(pages);
                    damaged.copy_within(other * page_bytes..(other + 1) * page_bytes, page * page_bytes);
                }
                // What a page above leaves says of them.
                4 | 5 if !above.is_empty() => {
                    let page = above[dice.roll(above.len())];
                    damaged[page * page_bytes + page_bytes - 1 - dice.roll(page_bytes / 4)] ^= 1 << dice.roll(8);
                }
                // Two pages change places: leaves that are what they were hang elsewhere.
                _ => {
                    let other = dice.roll(pages);
                    let kept = damaged[page * page_bytes..(page + 1) * page_bytes].to_vec();
                    damaged.copy_within(other * page_bytes..(other + 1) * page_bytes, page * page_bytes);
                    damaged[other * page_bytes..(other + 1) * page_bytes].copy_from_slice(&kept);
                }
            }
            let path = dir.path().join("damaged.db");
            std::fs::write(&path, &damaged).expect("written");
            let Some(lines) = said(&path) else { continue };
            let is_sound = is_sound_since(&path, &groups, &memory);
            if lines.is_empty() {
                sound += u32::from(is_sound == Some(true));
            } else {
                found += 1;
                assert_ne!(is_sound, Some(true), "pages of {page_bytes} bytes, damage {at}: {lines:?}");
            }
        }
    }
    // Else nothing was tried.
    assert!(found > 300 && sound > 10, "{found} {sound}");
}
