//! A SQLite database to measure on, and the changes that are made to it. The same seed makes the same change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// Cells that [`Database::update`] changes.
pub const UPDATES: usize = 1_000;

/// What is changed where.
#[derive(Debug, Clone, Copy)]
pub struct Changes {
    /// The table with the most rows, which has rowids from 1 on.
    pub table: &'static str,
    /// The cell that scattered updates change, and what it becomes.
    pub cell: (&'static str, &'static str),
    /// The column that is changed in all rows, and what it becomes.
    pub column: (&'static str, &'static str),
    /// The column that is dropped.
    pub dropped: &'static str,
    /// The column of the key that tells a copied row from its original, and what it becomes.
    pub copied: (&'static str, &'static str),
}

/// A generated database, which nothing changes any more, and the wide changes of it, each made once.
#[derive(Debug)]
pub struct Database {
    /// What it is.
    pub title: String,
    /// Its file.
    pub path: PathBuf,
    /// What is changed where.
    pub changes: Changes,
}

/// A change that touches so much that it is kept as a database of its own.
#[derive(Debug, Clone, Copy)]
pub enum Wide {
    /// One column of all rows is another.
    Column,
    /// A column is dropped.
    Dropped,
    /// 1 % of the rows are deleted, and as many inserted.
    Churn,
}

/// Numbers that look random.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    pub fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns the next number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Returns so many different rowids, in order.
    fn rowids(&mut self, rows: usize, count: usize) -> BTreeSet<i64> {
        let mut picked = BTreeSet::new();
        while picked.len() < count.min(rows) {
            picked.insert(i64::try_from(self.below(rows)).unwrap() + 1);
        }
        picked
    }
}

/// Opens a database for changes that need not survive anything.
pub fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -200000").unwrap();
    connection
}

/// Makes a file if it is not there. A file that is only begun has another name, so that what is there is whole.
pub fn make(path: &Path, fill: &mut dyn FnMut(&Path)) {
    if path.exists() {
        return;
    }
    let begun = path.with_extension("begun");
    drop(std::fs::remove_file(&begun));
    fill(&begun);
    std::fs::File::open(&begun).unwrap().sync_all().unwrap();
    std::fs::rename(&begun, path).unwrap();
}

impl Database {
    /// Returns the bytes of its file.
    pub fn bytes(&self) -> u64 {
        self.path.metadata().unwrap().len()
    }

    /// Changes one cell in each of [`UPDATES`] rows that lie scattered over the table, in one transaction.
    pub fn update(&self, file: &Path, seed: u64) {
        let Changes { table, cell: (cell, value), .. } = self.changes;
        let mut connection = Connection::open(file).unwrap();
        let rows = rows(&connection, table);
        let transaction = connection.transaction().unwrap();
        {
            let mut update = transaction.prepare(&format!("UPDATE {table} SET {cell} = {value} WHERE rowid = ?1")).unwrap();
            for rowid in Random(seed).rowids(rows, UPDATES) {
                update.execute([rowid]).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    /// Returns a statement that changes one row, each time anew.
    pub fn one_row(&self) -> String {
        let Changes { table, cell: (cell, value), .. } = self.changes;
        format!("UPDATE {table} SET {cell} = {value} WHERE rowid = (SELECT max(rowid) / 2 FROM {table})")
    }

    /// Adds a column with a constant default.
    pub fn add_column(&self, file: &Path) {
        let sql = format!("ALTER TABLE {} ADD COLUMN added TEXT NOT NULL DEFAULT 'none'", self.changes.table);
        Connection::open(file).unwrap().execute_batch(&sql).unwrap();
    }

    /// Returns the file of a wide change, which is made if it is not there.
    pub fn wide(&self, wide: Wide) -> PathBuf {
        let name = match wide {
            Wide::Column => "column",
            Wide::Dropped => "dropped",
            Wide::Churn => "churn",
        };
        let path = self.path.with_extension(format!("{name}.db"));
        make(&path, &mut |begun| {
            std::fs::copy(&self.path, begun).unwrap();
            let connection = open(begun);
            let Changes { table, column: (column, value), dropped, .. } = self.changes;
            match wide {
                Wide::Column => connection.execute_batch(&format!("UPDATE {table} SET {column} = {value}")).unwrap(),
                Wide::Dropped => connection.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {dropped}")).unwrap(),
                Wide::Churn => self.churn(connection),
            }
        });
        path
    }

    fn churn(&self, mut connection: Connection) {
        let Changes { table, copied: (copied, copy), .. } = self.changes;
        let rows = rows(&connection, table);
        let names: Vec<String> = connection
            .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let values: Vec<&str> = names.iter().map(|name| if name == copied { copy } else { name.as_str() }).collect();
        let insert = format!("INSERT INTO {table}({}) SELECT {} FROM {table} WHERE rowid = ?1", names.join(", "), values.join(", "));
        let transaction = connection.transaction().unwrap();
        {
            let mut random = Random(11);
            let delete = format!("DELETE FROM {table} WHERE rowid = ?1");
            for sql in [insert, delete] {
                let mut statement = transaction.prepare(&sql).unwrap();
                for rowid in random.rowids(rows, rows / 100) {
                    statement.execute([rowid]).unwrap();
                }
            }
        }
        transaction.commit().unwrap();
    }
}

fn rows(connection: &Connection, table: &str) -> usize {
    let rows: i64 = connection.query_row(&format!("SELECT max(rowid) FROM {table}"), [], |row| row.get(0)).unwrap();
    usize::try_from(rows).unwrap()
}
