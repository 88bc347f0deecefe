//! New orphans, held against a comparison of all orphans before and after: in schemas and through changes that were thrown by dice.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::engine::BoxError;
use crate::engine::sqlite::{Options, Sqlite, query, schema};

/// Numbers that look random, and are the same each time (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

/// All rows of all tables: column by column.
type Rows = BTreeMap<String, Vec<BTreeMap<String, Value>>>;

/// An earlier state as it was, with its schema.
struct Earlier {
    schema: Schema,
    rows: Rows,
    now: Rows,
}

impl History for Earlier {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn name_then(&self, table: &str) -> Option<String> {
        self.rows.contains_key(table).then(|| table.to_owned())
    }

    fn is_same(&self, table: &str) -> bool {
        let text = |rows: &Rows| format!("{:?}", rows.get(table));
        text(&self.rows) == text(&self.now)
    }

    fn keys(&self, table: &str, columns: &[String], keys_max: usize) -> Result<Option<Keys>, BoxError> {
        let mut balance: HashMap<String, (i64, Vec<Value>)> = HashMap::new();
        for (rows, by) in [(&self.rows, -1), (&self.now, 1)] {
            for row in rows.get(table).into_iter().flatten() {
                let Some(key) = columns.iter().map(|column| row.get(&column.to_ascii_lowercase()).cloned()).collect::<Option<Vec<_>>>()
                else {
                    return Ok(None);
                };
                let name = key.iter().map(Value::to_json).collect::<Vec<_>>().join(",");
                balance.entry(name).or_insert((0, key)).0 += by;
            }
        }
        let mut keys = Keys::default();
        for (count, key) in balance.into_values() {
            match count {
                1.. => keys.came.extend(std::iter::repeat_n(key, usize::try_from(count)?)),
                0 => {}
                _ => keys.went.push(key),
            }
        }
        Ok((keys.came.len() + keys.went.len() <= keys_max).then_some(keys))
    }
}

fn rows(state: &State<'_>, schema: &Schema) -> Rows {
    let mut all = Rows::new();
    for table in &schema.tables {
        let mut statement = state.connection.prepare(&format!("SELECT * FROM {}", quote(&table.name))).expect("a table");
        let names: Vec<String> = statement.column_names().map(str::to_ascii_lowercase).collect();
        let row = |row: &rusqlite::Row<'_>| {
            names.iter().enumerate().map(|(at, name)| Ok((name.clone(), query::value(row.get_ref(at)?)))).collect()
        };
        let found = statement.query_map([], row).expect("rows").collect::<Result<_, rusqlite::Error>>().expect("rows");
        all.insert(table.name.clone(), found);
    }
    all
}

/// The references through a key that point nowhere, each as often as it does so; none where the engine refuses to tell.
fn dangling(state: &State<'_>, schema: &Schema, table: &Table, key: &ForeignKey) -> Option<HashMap<String, i64>> {
    state.connection.prepare(&format!("PRAGMA foreign_key_check({})", quote(&table.name))).ok()?;
    let columns = Links::parent_columns(schema, key);
    let is_there = Links::table(schema, &key.parent).is_some();
    let pairs: Vec<_> = key.columns.iter().zip(&columns).map(|(from, to)| format!("p.{}=+c.{}", quote(to), quote(from))).collect();
    let set: Vec<_> = key.columns.iter().map(|name| format!("c.{} IS NOT NULL", quote(name))).collect();
    let name: Vec<_> = key.columns.iter().map(|name| format!("quote(c.{})", quote(name))).collect();
    let missing = if is_there {
        format!("AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})", quote(&key.parent), pairs.join(" AND "))
    } else {
        String::new()
    };
    let sql = format!(
        "SELECT {}, count(*) FROM {} AS c WHERE {} {missing} GROUP BY 1",
        name.join("||','||"),
        quote(&table.name),
        set.join(" AND ")
    );
    let mut statement = state.connection.prepare(&sql).ok()?;
    Some(statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).ok()?.collect::<Result<_, _>>().expect("rows"))
}

const TYPES: [&str; 9] = ["INTEGER", "TEXT", "", "REAL", "NUMERIC", "BLOB", "VARCHAR(9)", "TEXT COLLATE NOCASE", "BIGINT"];
const VALUES: [&str; 14] = ["1", "2", "3", "'1'", "'2'", "'a'", "'A'", "'b'", "1.0", "2.5", "NULL", "x'61'", "'3.0'", "4"];

fn parent(name: &str, dice: &mut Dice) -> String {
    let (a, b) = (dice.pick(&TYPES), dice.pick(&TYPES));
    match dice.roll(6) {
        0 => format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY, k {a} UNIQUE, l {b}, UNIQUE (k, l))"),
        1 => format!("CREATE TABLE {name} (id {a} PRIMARY KEY, k {a} UNIQUE, l {b}, UNIQUE (l, k)) WITHOUT ROWID"),
        2 => format!("CREATE TABLE {name} (id {a} PRIMARY KEY, k {b} UNIQUE, l {a}, UNIQUE (k, l))"),
        // One whose key nothing makes unique.
        3 => format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY, k {a}, l {b})"),
        _ => format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY, k {a} UNIQUE, l {b} UNIQUE, UNIQUE (k, l))"),
    }
}

fn child(name: &str, dice: &mut Dice) -> String {
    let to = dice.pick(&["p", "q", "gone", name]);
    let (a, b) = (dice.pick(&TYPES), dice.pick(&TYPES));
    let action = dice.pick(&["", "ON DELETE CASCADE", "ON DELETE SET NULL", "MATCH FULL", "DEFERRABLE INITIALLY DEFERRED"]);
    let key = match dice.roll(5) {
        0 => format!("FOREIGN KEY (x) REFERENCES {to} {action}"),
        1 => format!("FOREIGN KEY (x, y) REFERENCES {to} (k, l) {action}"),
        2 => format!("FOREIGN KEY (x) REFERENCES {to} (k) {action}, FOREIGN KEY (y) REFERENCES p (id)"),
        3 => format!("FOREIGN KEY (y) REFERENCES {to} (id) {action}"),
        _ => format!("FOREIGN KEY (x) REFERENCES {to} (k) {action}"),
    };
    let end = if dice.roll(4) == 0 { ") WITHOUT ROWID" } else { ")" };
    format!("CREATE TABLE {name} (id INTEGER PRIMARY KEY, k {a} UNIQUE, l {b}, x {a}, y {b}, {key}{end}")
}

fn step(dice: &mut Dice) -> String {
    let (table, other) = (dice.pick(&["p", "q", "c", "d"]), dice.pick(&["p", "q", "c", "d"]));
    let (a, b, c) = (dice.pick(&VALUES), dice.pick(&VALUES), dice.pick(&VALUES));
    let id = dice.roll(14);
    match dice.roll(16) {
        0..=3 if matches!(table, "c" | "d") => format!("INSERT OR IGNORE INTO {table} (id, k, l, x, y) VALUES ({id}, {c}, {b}, {a}, {b})"),
        0..=3 => format!("INSERT OR IGNORE INTO {table} (id, k, l) VALUES ({id}, {a}, {b})"),
        4..=6 => format!("DELETE FROM {table} WHERE id % {} = 1", dice.roll(4) + 2),
        7..=8 => format!("UPDATE OR IGNORE {table} SET k = {a} WHERE id = {id}"),
        9 => format!("UPDATE OR IGNORE {table} SET x = {a}, y = {b} WHERE id < {id}"),
        10 => format!("UPDATE OR IGNORE {table} SET id = id + 100 WHERE id > {id}"),
        11 => format!("DELETE FROM {other}"),
        12 => format!("ALTER TABLE {table} ADD COLUMN z{id} DEFAULT 7"),
        13 => format!("DROP TABLE {table}"),
        14 => format!("CREATE INDEX i{id} ON {table} (x)"),
        _ => child(&format!("e{id}"), dice),
    }
}

/// Runs one round; returns how many tables had new orphans, and how many of these were told exactly.
fn round(seed: u64) -> (u32, u32) {
    let mut dice = Dice(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.db");
    drop(rusqlite::Connection::open(&path).expect("a database").execute_batch("PRAGMA synchronous=OFF; CREATE TABLE p (id); DROP TABLE p"));
    let sqlite = Sqlite::open(&path, &Options::default()).expect("it opens");
    let mut done = Vec::new();
    let mut run = |sql: String| {
        // What cannot be done is not done.
        let _ = sqlite.connection.execute_batch(&sql);
        done.push(sql);
    };
    run("BEGIN".to_owned());
    for sql in [parent("p", &mut dice), parent("q", &mut dice), child("c", &mut dice), child("d", &mut dice)] {
        run(sql);
    }
    for _ in 0..40 {
        let id = dice.roll(14);
        let (a, b, c) = (dice.pick(&VALUES), dice.pick(&VALUES), dice.pick(&VALUES));
        match dice.pick(&["p", "q", "c", "d"]) {
            table @ ("p" | "q") => run(format!("INSERT OR IGNORE INTO {table} VALUES ({id}, {a}, {b})")),
            table => run(format!("INSERT OR IGNORE INTO {table} VALUES ({id}, {c}, {b}, {a}, {b})")),
        }
    }
    let state = sqlite.state().expect("a state");
    let then = schema::read(&state).expect("a schema");
    let rows_then = rows(&state, &then);
    let key_name =
        |table: &Table, key: &ForeignKey| (table.name.clone(), key.parent.clone(), key.columns.clone(), key.parent_columns.clone());
    let all = |schema: &Schema| -> HashMap<_, _> {
        let keys = schema.tables.iter().flat_map(|table| table.foreign_keys.iter().map(move |key| (table, key)));
        keys.filter_map(|(table, key)| Some((key_name(table, key), dangling(&state, schema, table, key)?))).collect()
    };
    let before = all(&then);
    for _ in 0..=dice.roll(4) {
        run(step(&mut dice));
    }
    let now = schema::read(&state).expect("a schema");
    let after = all(&now);
    let history = Earlier { schema: then, rows: rows_then, now: rows(&state, &now) };
    let found = new_orphans(&state, &history, &now).expect("found");
    let all_now: HashMap<(String, String), u64> = now
        .tables
        .iter()
        .flat_map(|table| check(&state, Some(&table.name)).expect("checked"))
        .map(|(parent, finding)| ((finding.table.unwrap_or_default(), parent), finding.count))
        .collect();
    let (mut with_news, mut exact) = (0, 0);
    let mut news: HashMap<(String, String), i64> = HashMap::new();
    for (name, dangling) in &after {
        let Some(before) = before.get(name) else { continue };
        let fresh: i64 = dangling.iter().map(|(key, count)| (count - before.get(key).copied().unwrap_or(0)).max(0)).sum();
        *news.entry((name.0.clone(), name.1.clone())).or_default() += fresh;
    }
    for ((table, parent), count) in &all_now {
        let message = format!("rows of `{table}` refer to rows of `{parent}` that do not exist");
        let told = found.iter().find(|found| found.finding.message == message);
        if let Some(told) = told {
            assert_eq!(told.finding.count, *count, "seed {seed}: {done:#?}");
        }
        let Some(fresh) = news.get(&(table.clone(), parent.clone())) else { continue };
        if *fresh > 0 {
            with_news += 1;
            assert!(told.is_some_and(|told| told.new != Some(0)), "seed {seed}, {message}, {fresh} new ones: {done:#?}");
        }
        if let Some(new) = told.and_then(|told| told.new)
            && history.rows.contains_key(table)
            && before.keys().filter(|name| name.0 == *table && name.1 == *parent).count()
                == after.keys().filter(|name| name.0 == *table && name.1 == *parent).count()
        {
            exact += 1;
            assert!(new == 0 || *fresh > 0, "seed {seed}, {message}: {new} are told, and none is new: {done:#?}");
        }
    }
    (with_news, exact)
}

#[test]
fn orphans_are_new_here_exactly_where_they_are_in_a_comparison_of_all() {
    let rounds = (1..=500).map(|seed| round(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)));
    let (with_news, exact) = rounds.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    // Else nothing was tried.
    assert!(with_news > 60 && exact > 30, "{with_news} {exact}");
}
