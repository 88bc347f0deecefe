//! Random schemas, rows and migrations: a rollback restores the same ids and the same database, a patch turns one state into the
//! other. Seeds are printed; `DBELAY_TEST_CASES` sets how many cases are tried, `DBELAY_TEST_SEED` the first.

use crate::oracle;
use crate::sandbox::Sandbox;

/// A small generator (xorshift64*), so that a seed means the same case for ever.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }
}

struct Table {
    name: String,
    columns: Vec<String>,
}

/// Writes a literal of any kind.
fn literal(random: &mut Random) -> String {
    match random.below(20) {
        0 => "NULL".into(),
        1 => "9223372036854775807".into(),
        2 => "-9223372036854775807 - 1".into(),
        3 => "-0.0".into(),
        4 => "1e308".into(),
        5 => "9e999".into(),
        6 => "X'00ff10'".into(),
        7 => "CAST(X'ff00fe' AS TEXT)".into(),
        8 => "'nul' || char(0) || 'inside'".into(),
        9 => "'it''s \"quoted\" 😀'".into(),
        10 => "'007'".into(),
        11 => format!("'{}'", "x".repeat(usize::try_from(random.below(300)).unwrap())),
        12 => format!("{}.5", random.below(1000)),
        13 => "CAST(X'00d84100' AS TEXT)".into(),
        14 => "char(65534) || 'x' || char(65535)".into(),
        15 => "CAST(X'd800dc' AS TEXT)".into(),
        16 if random.chance(10) => "hex(zeroblob(40000))".into(),
        17 => format!("'{}'", random.pick(&["a", "A", "a ", "é", "É", ""])),
        18 => "4.9e-324".into(),
        _ => random.below(1_000_000).to_string(),
    }
}

fn create_table(random: &mut Random, index: u64, parents: &[Table]) -> (Table, String) {
    let odd = ["plain", "with space", "quo\"te", "select", "Ünïcode", "rowid"];
    let name = format!("t{index} {}", random.pick(&odd[..5]));
    let is_strict = random.chance(12);
    let loose = ["INTEGER", "TEXT", "REAL", "BLOB", "NUMERIC", "", "VARCHAR(20)", "BOOLEAN", "DATETIME"];
    let types = if is_strict { &["INTEGER", "TEXT", "REAL", "BLOB", "ANY", "INT"][..] } else { &loose[..] };
    let id_type = if is_strict { " ANY" } else { "" };
    let mut columns = Vec::new();
    let mut parts = Vec::new();
    let key = random.below(8);
    match key {
        0 => parts.push("id INTEGER PRIMARY KEY".to_owned()),
        1 => parts.push("id INTEGER PRIMARY KEY AUTOINCREMENT".to_owned()),
        2 => parts.push("id TEXT PRIMARY KEY".to_owned()),
        3 => parts.push("id BLOB NOT NULL".to_owned()),
        4 => parts.push("id INTEGER PRIMARY KEY DESC".to_owned()),
        5 => parts.push(format!("id{id_type} COLLATE NOCASE NOT NULL")),
        _ => parts.push(format!("id{id_type}")),
    }
    columns.push("id".to_owned());
    for at in 0..=random.below(4) {
        let column = format!("c{at} {}", random.pick(&odd));
        let mut part = format!("\"{}\" {}", column.replace('"', "\"\""), random.pick(types));
        if random.chance(30) {
            part.push_str(&format!(" DEFAULT {}", random.pick(&["5", "'x'", "NULL", "CURRENT_TIMESTAMP", "-1.5", "(1+1)"])));
        }
        if random.chance(10) {
            part.push_str(if random.chance(50) { " COLLATE NOCASE" } else { " COLLATE RTRIM" });
        }
        if random.chance(6) {
            part.push_str(" CHECK(1)");
        }
        if random.chance(8) {
            part.push_str(" UNIQUE");
        }
        parts.push(part);
        columns.push(column);
    }
    if random.chance(20) {
        parts.push("g AS (length(id)) VIRTUAL".to_owned());
    }
    if random.chance(20) {
        parts.push("s AS (typeof(id)) STORED".to_owned());
    }
    let last = columns.last().unwrap().replace('"', "\"\"");
    if key == 3 {
        parts.push("PRIMARY KEY(id)".to_owned());
    }
    if key == 5 {
        parts.push(format!("PRIMARY KEY(\"{last}\" DESC, id)"));
    }
    if random.chance(8) {
        parts.push(format!("UNIQUE(id, \"{last}\" COLLATE NOCASE)"));
    }
    if random.chance(15) {
        parts.push(format!(
            "FOREIGN KEY(\"{last}\") REFERENCES \"{}\"(id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
            name.replace('"', "\"\"")
        ));
    }
    if let (true, Some(parent)) = (random.chance(40), parents.last()) {
        let quoted = parent.name.replace('"', "\"\"");
        let action = random.pick(&["CASCADE", "SET NULL", "NO ACTION"]);
        parts.push(format!("FOREIGN KEY(id) REFERENCES \"{quoted}\"(id) ON DELETE {action}"));
    }
    let mut tail = if matches!(key, 3 | 5) && random.chance(60) { " WITHOUT ROWID".to_owned() } else { String::new() };
    if is_strict {
        tail.push_str(if tail.is_empty() { " STRICT" } else { ", STRICT" });
    }
    let sql = format!("CREATE TABLE \"{}\"({}){tail}", name.replace('"', "\"\""), parts.join(", "));
    (Table { name, columns }, sql)
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes statements that build a database. Each may fail; that is part of the game.
fn build(random: &mut Random) -> (Vec<Table>, Vec<String>) {
    let mut tables = Vec::new();
    let mut statements = vec![];
    if random.chance(15) {
        statements.push(format!("PRAGMA encoding='UTF-16{}'", random.pick(&["le", "be"])));
    }
    if random.chance(15) {
        statements.push(format!("PRAGMA auto_vacuum={}", random.pick(&[1, 2])));
    }
    if random.chance(25) {
        statements.push("PRAGMA journal_mode=WAL".to_owned());
    }
    if random.chance(30) {
        statements.push(format!("PRAGMA page_size={}", random.pick(&[512, 1024, 8192])));
    }
    for index in 0..=random.below(3) {
        let (table, sql) = create_table(random, index, &tables);
        statements.push(sql);
        tables.push(table);
    }
    for table in &tables {
        let name = quote(&table.name);
        let column = quote(random.pick::<String>(&table.columns));
        if random.chance(40) {
            statements.push(format!("CREATE INDEX {} ON {name}({column})", quote(&format!("i {}", table.name))));
        }
        if random.chance(20) {
            statements.push(format!(
                "CREATE INDEX {} ON {name}(lower({column})) WHERE {column} IS NOT NULL",
                quote(&format!("p {}", table.name))
            ));
        }
        if random.chance(30) {
            statements.push(format!("CREATE VIEW {} AS SELECT * FROM {name}", quote(&format!("v {}", table.name))));
        }
        if random.chance(30) {
            let trigger = quote(&format!("tr {}", table.name));
            statements.push(format!("CREATE TRIGGER {trigger} AFTER DELETE ON {name} BEGIN INSERT INTO log(what) VALUES('gone'); END"));
        }
    }
    if random.chance(20) {
        let view = quote(&format!("v {}", tables[0].name));
        statements.push(format!("CREATE VIEW \"view on view\" AS SELECT count(*) AS n FROM {view}"));
        statements.push(format!("CREATE TRIGGER instead INSTEAD OF DELETE ON {view} BEGIN DELETE FROM log; END"));
        statements.push(format!(
            "CREATE TRIGGER writes BEFORE INSERT ON {} BEGIN INSERT INTO log(what) VALUES(new.id); END",
            quote(&tables[0].name)
        ));
    }
    if random.chance(60) {
        statements.push("CREATE TABLE log(what TEXT, at DEFAULT 7)".to_owned());
    }
    if random.chance(25) {
        statements.push("CREATE VIRTUAL TABLE docs USING fts5(title, body)".to_owned());
        statements.push("INSERT INTO docs VALUES('hello','world of words'),('second','row')".to_owned());
    }
    if random.chance(12) {
        statements.push("CREATE VIRTUAL TABLE f4 USING fts4(body, content='log')".to_owned());
        statements.push("CREATE VIRTUAL TABLE f3 USING fts3(body)".to_owned());
        statements.push("INSERT INTO f3 VALUES('three'),('more words')".to_owned());
    }
    if random.chance(12) {
        statements.push("CREATE VIRTUAL TABLE places USING rtree(id, x0, x1, +note)".to_owned());
        statements.push("INSERT INTO places VALUES(1, 0, 1, 'here'),(2, 5, 6, x'00')".to_owned());
    }
    if random.chance(12) {
        statements.push("CREATE VIRTUAL TABLE bare USING fts5(body, content='', tokenize='trigram')".to_owned());
        statements.push("INSERT INTO bare(rowid, body) VALUES(4,'without content')".to_owned());
    }
    if random.chance(30) {
        statements.push(format!("PRAGMA user_version={}", random.below(1000)));
    }
    for table in &tables {
        statements.extend(inserts(random, table, 12));
    }
    if random.chance(30) {
        statements.push("ANALYZE".to_owned());
    }
    (tables, statements)
}

fn inserts(random: &mut Random, table: &Table, most: u64) -> Vec<String> {
    let names: Vec<String> = table.columns.iter().map(|column| quote(column)).collect();
    (0..random.below(most))
        .map(|_| {
            let values: Vec<String> = table.columns.iter().map(|_| literal(random)).collect();
            format!("INSERT OR IGNORE INTO {}({}) VALUES({})", quote(&table.name), names.join(","), values.join(","))
        })
        .collect()
}

/// Makes statements that change a database.
fn change(random: &mut Random, tables: &[Table]) -> Vec<String> {
    let mut statements = Vec::new();
    for _ in 0..=random.below(6) {
        let table = random.pick(tables);
        let name = quote(&table.name);
        let column = quote(random.pick::<String>(&table.columns));
        match random.below(24) {
            0 => statements.push(format!("DELETE FROM {name} WHERE rowid % 3 = 0")),
            16 => statements.push(format!("PRAGMA foreign_keys=ON; DELETE FROM {name}; PRAGMA foreign_keys=OFF")),
            17 => {
                // The rebuild that SQLite's manual describes, with the foreign keys that many tools leave on.
                statements.push(format!(
                    "PRAGMA foreign_keys=ON; BEGIN; CREATE TABLE rebuilt AS SELECT * FROM {name}; DROP TABLE {name}; ALTER TABLE rebuilt RENAME TO {name}; COMMIT"
                ));
                statements.push("ROLLBACK; PRAGMA foreign_keys=OFF".to_owned());
            }
            18 => statements.push("UPDATE sqlite_sequence SET seq = seq + 10; DELETE FROM sqlite_sequence WHERE seq > 1000".to_owned()),
            19 => statements.push(format!("UPDATE OR IGNORE {name} SET {column} = {column} || 'x' WHERE rowid % 2 = 0")),
            20 => statements.push(format!("DROP TRIGGER IF EXISTS writes; DROP VIEW IF EXISTS {}", quote(&format!("v {}", table.name)))),
            21 => statements.push(
                "UPDATE places SET note = 'there'; DELETE FROM f3 WHERE rowid = 1; INSERT INTO bare(rowid, body) VALUES(9,'more')"
                    .to_owned(),
            ),
            22 => statements.push("DROP TABLE places; DROP TABLE f3; DROP TABLE bare".to_owned()),
            23 => statements.push(format!("UPDATE OR IGNORE {name} SET rowid = rowid + 100")),
            1 | 2 => statements.push(format!("UPDATE OR IGNORE {name} SET {column} = {}", literal(random))),
            3 => statements.push(format!("UPDATE OR IGNORE {name} SET {column} = {} WHERE rowid % 2 = 1", literal(random))),
            4 => statements.push(format!("DROP TABLE {name}")),
            5 => statements.push(format!("ALTER TABLE {name} ADD COLUMN \"added {}\" TEXT DEFAULT 'd'", random.below(100))),
            6 => statements.push(format!("ALTER TABLE {name} RENAME TO \"renamed {}\"", random.below(100))),
            7 => statements.push(format!("ALTER TABLE {name} RENAME COLUMN {column} TO \"moved {}\"", random.below(100))),
            8 => statements.push(format!("ALTER TABLE {name} DROP COLUMN {column}")),
            9 => {
                statements.push(format!("CREATE TABLE rebuilt AS SELECT * FROM {name}"));
                statements.push(format!("DROP TABLE {name}"));
                statements.push(format!("ALTER TABLE rebuilt RENAME TO {name}"));
            }
            10 => statements.push(format!("CREATE INDEX \"new {}\" ON {name}({column})", random.below(100))),
            11 => statements.push("CREATE TABLE fresh(id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO fresh(x) VALUES(1)".to_owned()),
            12 => statements.push(
                random
                    .pick(&["VACUUM", "ANALYZE", "REINDEX", "PRAGMA user_version=4711", "DELETE FROM docs", "DROP TABLE docs"])
                    .to_string(),
            ),
            13 => statements.push(format!("CREATE VIEW \"view {}\" AS SELECT 1 FROM {name}", random.below(100))),
            _ => statements.extend(inserts(random, table, 8)),
        }
    }
    statements
}

fn run_all(sandbox: &Sandbox, statements: &[String]) {
    let connection = sandbox.connect();
    connection.set_prepared_statement_cache_capacity(0);
    for statement in statements {
        // A statement that does not fit the schema it meets is skipped: the state is whatever it is.
        let _ = connection.execute_batch(statement);
    }
}

/// Returns what a snapshot's file says of its tables: names, rows and manifest ids.
fn tables_of(sandbox: &Sandbox, name: &str) -> serde_json::Value {
    let id = sandbox.dbelay(&["show", name, "--json"]).exits(0).json()["id"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(sandbox.path(&format!(".dbelay/snapshots/{id}.json"))).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["tables"].clone()
}

/// Edits the schema's text under rows that are there already: constraints that they violate, expressions that were not theirs.
fn scar(random: &mut Random) -> Vec<String> {
    let edits = [
        ("\" TEXT", "\" TEXT NOT NULL"),
        ("\" BLOB", "\" BLOB NOT NULL"),
        ("\" NUMERIC", "\" NUMERIC NOT NULL DEFAULT 3"),
        ("AS (typeof(id)) STORED", "AS (length(id)) STORED"),
        ("AS (length(id)) VIRTUAL", "AS (json_extract(id, '$.a')) VIRTUAL"),
        ("CHECK(1)", "CHECK(0)"),
    ];
    let mut statements = vec!["PRAGMA writable_schema=ON".to_owned()];
    for (from, to) in edits {
        if random.chance(60) {
            let (from, to) = (from.replace('\'', "''"), to.replace('\'', "''"));
            statements.push(format!("UPDATE sqlite_schema SET sql=replace(sql, '{from}', '{to}') WHERE type='table' AND rootpage>0"));
        }
    }
    statements.push("PRAGMA writable_schema=RESET".to_owned());
    statements
}

#[test]
fn rows_that_their_tables_would_refuse_are_restored_or_left_alone_on_random_databases() {
    let (mut cases, mut refused) = (0, 0);
    for_each_seed(12, &mut |_, random| {
        cases += 1;
        let sandbox = Sandbox::new();
        let (tables, mut statements) = build(random);
        statements.extend(scar(random));
        run_all(&sandbox, &statements);
        sandbox.sql("CREATE TABLE IF NOT EXISTS always(x); INSERT INTO always VALUES(1)");
        let before = sandbox.copy_db("before.db");
        sandbox.dbelay(&["snapshot", "--tag", "a"]).exits(0);
        run_all(&sandbox, &change(random, &tables));
        if random.chance(30) {
            run_all(&sandbox, &tables.iter().map(|table| format!("DROP TABLE {}", quote(&table.name))).collect::<Vec<_>>());
        }
        let after = sandbox.copy_db("after.db");
        let run = sandbox.dbelay(&["rollback", "a", "--yes"]);
        if run.code == 3 {
            // An index has a condition on what would have to give way.
            assert!(run.stderr.contains("NOT NULL constraint failed") || run.stderr.contains("would differ"), "{}", run.stderr);
            oracle::assert_same(&after, &sandbox.db());
            refused += 1;
            return;
        }
        run.exits(0);
        oracle::assert_same(&before, &sandbox.db());
        if oracle::dump(&before) != oracle::dump(&after) {
            sandbox.dbelay(&["undo", "--yes"]).exits(0);
            oracle::assert_same(&after, &sandbox.db());
        }
        sandbox.dbelay(&["restore", "a", "--to", "restored.db"]).exits(0);
        oracle::assert_same(&before, &sandbox.path("restored.db"));
    });
    println!("{refused} of {cases} refused");
    assert!(refused * 10 <= cases, "{refused} of {cases} refused");
}

/// Runs a case for each seed that is asked for.
fn for_each_seed(otherwise: u64, case: &mut dyn FnMut(u64, &mut Random)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("DBELAY_TEST_SEED").unwrap_or(1);
    for seed in first..first + number("DBELAY_TEST_CASES").unwrap_or(otherwise) {
        println!("seed {seed}");
        case(seed, &mut Random::new(seed));
    }
}

#[test]
fn rollback_undo_and_patches_are_exact_on_random_databases() {
    for_each_seed(25, &mut check_case);
}

fn check_case(seed: u64, random: &mut Random) {
    let sandbox = Sandbox::new();
    let (tables, statements) = build(random);
    run_all(&sandbox, &statements);
    sandbox.sql("CREATE TABLE IF NOT EXISTS always(x); INSERT INTO always VALUES(1)");
    let before = sandbox.copy_db("before.db");
    sandbox.dbelay(&["snapshot", "--tag", "a"]).exits(0);
    run_all(&sandbox, &change(random, &tables));
    let after = sandbox.copy_db("after.db");

    let forward = sandbox.dbelay(&["diff", "a", "live", "--format", "sql"]).exits(0).stdout;
    let backward = sandbox.dbelay(&["diff", "a", "live", "--format", "sql", "--reverse"]).exits(0).stdout;
    for (from, patch, to) in [(&before, &forward, &after), (&after, &backward, &before)] {
        let patched = sandbox.path("patched.db");
        crate::sandbox::copy_database(from, &patched);
        let connection = rusqlite::Connection::open(&patched).unwrap();
        connection.execute_batch(patch).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{patch}"));
        drop(connection);
        if std::env::var_os("DBELAY_TEST_PRINT").is_some() {
            println!("{patch}");
        }
        oracle::assert_same(to, &patched);
    }

    sandbox.dbelay(&["rollback", "a", "--yes"]).exits(0);
    oracle::assert_same(&before, &sandbox.db());
    sandbox.dbelay(&["diff", "a", "HEAD", "--exit-code"]).exits(0);
    sandbox.dbelay(&["snapshot"]).exits(0);
    assert_eq!(tables_of(&sandbox, "a"), tables_of(&sandbox, "HEAD"), "the same state has the same ids");
    if oracle::dump(&before) == oracle::dump(&after) {
        sandbox.dbelay(&["undo", "--yes"]).exits(3).says(&["there is no operation to undo"]);
        return;
    }
    sandbox.dbelay(&["undo", "--yes"]).exits(0);
    oracle::assert_same(&after, &sandbox.db());
    sandbox.dbelay(&["redo", "--yes"]).exits(0);
    oracle::assert_same(&before, &sandbox.db());
    sandbox.dbelay(&["restore", "a", "--to", "restored.db"]).exits(0);
    oracle::assert_same(&before, &sandbox.path("restored.db"));
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
}
