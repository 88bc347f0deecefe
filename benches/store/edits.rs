//! Random edits of the benchmark's database, and a snapshot after each hundred, of the edited rows alone.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, SecondsFormat, TimeDelta};
use dbelay::id::ObjectId;
use dbelay::ops::capture;
use dbelay::rows::{CutRule, GroupBuilder, RowGroup, TableShape};
use dbelay::snapshot::manifest::TableManifest;
use dbelay::snapshot::splice::{Changed, splice};
use dbelay::store::{BatchMode, Store};
use rusqlite::Connection;
use rusqlite::types::Value;

use super::ROWS;

/// Edits between two snapshots.
const EDITS: u64 = 100;

/// The tables, and one edit of each for whole numbers `id` and `value`.
const UPDATES: [(&str, &str); 4] = [
    ("events", "UPDATE events SET detail = 'edited ' || ?2 WHERE id = ?1"),
    ("posts", "UPDATE posts SET score = ?2 / 7.0 WHERE id = ?1"),
    ("posts", "UPDATE posts SET body = hex(randomblob(120)) || ?2 WHERE id = ?1"),
    ("users", "UPDATE users SET name = 'Renamed ' || ?2 WHERE id = ?1"),
];
const DELETE: (&str, &str) = ("events", "DELETE FROM events WHERE id = ?1 AND ?2 >= 0");
const INSERT: (&str, &str) = ("events", "INSERT OR REPLACE INTO events VALUES(?1, ?2 % 1000, 'new', ?2, 'added')");

/// Rows by their keys.
type Rows = BTreeMap<i64, Vec<Value>>;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((self.0 >> 33) % limit).unwrap()
    }
}

/// Edits the database and adds snapshots until the store has so many.
pub fn fill(store: &Path, db: &Path, snapshots: u64) {
    let store = Store::open(store).unwrap();
    let mut connection = Connection::open(db).unwrap();
    connection.execute_batch("PRAGMA synchronous=OFF").unwrap();
    let mut there = capture::snapshots(&store).unwrap();
    let mut random = Random(there.len() as u64 + 7);
    let (mut id, mut snapshot) = there.pop().unwrap();
    for _ in there.len() as u64 + 1..snapshots {
        // What each edit touches, by table; the edits are made when it is known how the rows were.
        let edits: Vec<(&str, &str, i64, i64)> = (0..EDITS)
            .map(|_| {
                let (table, sql) = match random.below(20) {
                    0 => DELETE,
                    1 => INSERT,
                    2..6 => UPDATES[1],
                    6..9 => UPDATES[2],
                    9..12 => UPDATES[3],
                    _ => UPDATES[0],
                };
                let rows = if table == "events" { ROWS } else { ROWS / 10 };
                let new = if sql == INSERT.1 { rows.cast_signed() + random.below(ROWS) } else { random.below(rows) + 1 };
                (table, sql, new, random.below(1_000_000))
            })
            .collect();
        let mut touched: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        edits.iter().for_each(|(table, _, id, _)| touched.entry(table).or_default().push(*id));
        let look = |connection: &Connection| -> Vec<Rows> { touched.iter().map(|(table, ids)| read(connection, table, ids)).collect() };
        let before = look(&connection);
        let transaction = connection.transaction().unwrap();
        for (_, sql, id, value) in &edits {
            transaction.prepare_cached(sql).unwrap().execute([id, value]).unwrap();
        }
        transaction.commit().unwrap();
        let after = look(&connection);
        let batch = store.begin(BatchMode::Durable).unwrap();
        for ((table, before), after) in touched.keys().zip(&before).zip(&after) {
            let entry = snapshot.tables.iter_mut().find(|entry| entry.name == *table).unwrap();
            let manifest: TableManifest = serde_json::from_slice(&store.get(&entry.manifest).unwrap()).unwrap();
            let gone: Vec<i64> = before.iter().filter(|(id, row)| after.get(id) != Some(row)).map(|(id, _)| *id).collect();
            let keys: Vec<Vec<u8>> = gone.iter().map(|id| id.to_string().into_bytes()).collect();
            let rows = groups(&manifest.shape(), after.iter().filter(|(id, row)| before.get(id) != Some(row)).map(|(_, row)| row));
            let changed = Changed { rows: &rows, gone: gone.len() as u64, keys: &keys };
            if let Some((id, manifest)) = splice(&batch, &store, (entry.manifest, &manifest), changed).unwrap() {
                (entry.manifest, entry.rows) = (id, manifest.rows);
            } else {
                assert!(rows.is_empty() && gone.is_empty(), "the rows of {table} were not taken over");
            }
        }
        batch.finish().unwrap();
        snapshot.parent = Some::<ObjectId>(id);
        let later = DateTime::parse_from_rfc3339(&snapshot.time).unwrap() + TimeDelta::milliseconds(1);
        snapshot.time = later.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true);
        id = store.put_snapshot(&serde_json::to_vec(&snapshot).unwrap()).unwrap();
    }
}

fn read(connection: &Connection, table: &str, ids: &[i64]) -> Rows {
    let mut statement = connection.prepare_cached(&format!("SELECT * FROM {table} WHERE id = ?")).unwrap();
    let columns = statement.column_count();
    let mut rows = Rows::new();
    for id in ids {
        let mut found = statement.query([id]).unwrap();
        if let Some(row) = found.next().unwrap() {
            rows.insert(*id, (0..columns).map(|at| row.get(at).unwrap()).collect());
        }
    }
    rows
}

fn groups<'a>(shape: &TableShape, rows: impl Iterator<Item = &'a Vec<Value>>) -> Vec<RowGroup> {
    let mut builder = GroupBuilder::new(shape, CutRule { rows_target: 1 << 40 });
    for row in rows {
        for (writer, value) in builder.columns().iter_mut().zip(row) {
            match value {
                Value::Null => writer.push_null(),
                Value::Integer(integer) => writer.push_integer(*integer),
                Value::Real(real) => writer.push_real(*real),
                Value::Text(text) => writer.push_text(text.as_bytes()),
                Value::Blob(blob) => writer.push_blob(blob),
            }
        }
        assert!(builder.end_row().is_none());
    }
    builder.finish().into_iter().collect()
}
