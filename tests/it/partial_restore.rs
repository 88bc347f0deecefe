//! `restore` of some rows: what is chosen, what comes along by foreign keys, what stands in the way, and that nothing else changes.

use serde_json::json;

use crate::oracle;
use crate::sandbox::Sandbox;

const SHOP: &str = "
    CREATE TABLE countries(code TEXT PRIMARY KEY, name);
    CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, name, country TEXT REFERENCES countries, boss INTEGER REFERENCES users);
    CREATE TABLE orders(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id) ON DELETE CASCADE, total);
    CREATE TABLE lines(order_id INTEGER, n INTEGER, what, PRIMARY KEY(order_id, n), FOREIGN KEY(order_id) REFERENCES orders) WITHOUT ROWID;
    CREATE TABLE log(line);
    CREATE INDEX by_user ON orders(user_id);
    CREATE TRIGGER noise AFTER INSERT ON orders BEGIN INSERT INTO log VALUES('order ' || new.id); END;
    INSERT INTO countries VALUES('de', 'Germany'), ('fr', 'France'), ('it', 'Italy');
    INSERT INTO users VALUES(1, 'ann', 'de', NULL), (2, 'bob', 'fr', 1), (3, 'cid', 'it', 2), (4, 'dan', NULL, 4);
    INSERT INTO orders VALUES(10, 2, 5.5), (11, 3, 100), (12, 3, 7), (13, 99, 1);
    INSERT INTO lines VALUES(10, 1, 'a'), (11, 1, 'b'), (11, 2, 'c'), (12, 1, 'd');
    DELETE FROM log;";

fn shop() -> Sandbox {
    let sandbox = Sandbox::with(SHOP);
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox
}

/// Restores lines into a new database; returns what is in it.
#[track_caller]
fn rows(sandbox: &Sandbox, file: &str, sql: &str) -> String {
    let connection = rusqlite::Connection::open(sandbox.path(file)).unwrap();
    connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap().unwrap_or_default()
}

#[test]
fn chosen_rows_bring_what_they_refer_to_and_nothing_else() {
    let sandbox = shop();
    let arguments = ["restore", "good", "--table", "orders", "--where", "total > 50 -- much", "--to", "part.db"];
    let run = sandbox.dbelay(&arguments).exits(0);
    run.prints(&[
        "orders: 1 row asked for",
        "users: 1 row along, since `orders`(user_id) refers to `users`",
        "`users`(boss) refers to `users`",
    ]);
    let list = |sql: &str| rows(&sandbox, "part.db", sql);
    assert_eq!(list("SELECT group_concat(id) FROM orders"), "11");
    assert_eq!(list("SELECT group_concat(id) FROM users"), "1,2,3", "the boss of the boss too");
    assert_eq!(list("SELECT group_concat(code) FROM countries"), "de,fr,it");
    assert_eq!(
        list("SELECT group_concat(name) FROM sqlite_schema WHERE type != 'index' OR sql NOT NULL"),
        "countries,users,sqlite_sequence,orders,by_user,noise"
    );
    assert_eq!(list("SELECT group_concat(\"table\") FROM pragma_foreign_key_check"), "");
    assert_eq!(oracle::findings(&sandbox.path("part.db")), ["ok"]);
}

#[test]
fn a_key_of_several_columns_and_a_table_without_row_numbers_are_chosen_by_a_condition() {
    let sandbox = shop();
    let condition = "what IN (SELECT what FROM lines WHERE n = 2)";
    let run = sandbox.dbelay(&["restore", "good", "--table", "lines", "--where", condition, "--to", "part.db", "--json"]).exits(0);
    let document = run.json();
    assert_eq!(document["chosen"], json!({ "lines": 1, "orders": 1, "users": 3, "countries": 3 }));
    assert_eq!(document["brought"][0], json!({ "table": "lines", "columns": ["order_id"], "parent": "orders", "rows": 1 }));
    assert_eq!(rows(&sandbox, "part.db", "SELECT group_concat(order_id || '/' || n) FROM lines"), "11/2");
}

#[test]
fn without_what_they_refer_to_rows_are_restored_alone_and_what_would_dangle_is_named() {
    let sandbox = shop();
    let arguments = ["restore", "good", "--table", "orders", "--where", "id < 12", "--no-closure", "--to", "part.db"];
    sandbox.dbelay(&arguments).exits(0).prints(&["users: 2 rows left out"]);
    assert_eq!(rows(&sandbox, "part.db", "SELECT group_concat(id) FROM orders"), "10,11");
    assert_eq!(rows(&sandbox, "part.db", "SELECT count(*) || '' FROM sqlite_schema WHERE name = 'users'"), "0");
    let run = sandbox.dbelay(&["restore", "good", "--table", "orders", "--where", "id = 13", "--to", "orphan.db"]).exits(0);
    run.says(&["1 row that it names", "not in the snapshot either"]);
}

#[test]
fn rows_that_were_lost_come_back_into_the_database_beside_those_that_stayed() {
    let sandbox = shop();
    sandbox
        .sql("DELETE FROM orders WHERE user_id = 3; DELETE FROM users WHERE id = 3; INSERT INTO orders VALUES(77, 1, 1); DELETE FROM log");
    let before = sandbox.copy_db("before.db");
    let run = sandbox.dbelay(&["restore", "good", "--table", "orders", "--where", "user_id = 3", "--to", "app.db"]).exits(0);
    run.says(&["takes it back"]).prints(&[
        "orders: inserted 2",
        "users: inserted 1, 2 there already",
        "countries: inserted 0, 3 there already",
    ]);
    assert_eq!(rows(&sandbox, "app.db", "SELECT group_concat(id) FROM (SELECT id FROM orders ORDER BY id)"), "10,11,12,13,77");
    assert_eq!(sandbox.number("SELECT count(*) FROM log"), 0, "no trigger fired");
    sandbox.dbelay(&["diff", "HEAD", "live", "--exit-code"]).exits(0);
    sandbox.dbelay(&["rollback", "--yes", "HEAD~1"]).exits(0);
    oracle::assert_same(&before, &sandbox.db());
}

#[test]
fn a_row_with_other_values_stops_everything_unless_it_may_be_written_over() {
    let sandbox = shop();
    sandbox.sql("UPDATE orders SET total = 8 WHERE id = 12; DELETE FROM orders WHERE id = 11");
    let before = oracle::dump(&sandbox.db());
    let arguments = ["restore", "good", "--table", "orders", "--to", "app.db"];
    let run = sandbox.dbelay(&arguments).exits(3);
    run.says(&["nothing was written", "`orders`: 1 row (12)", "--overwrite"]);
    assert_eq!(before, oracle::dump(&sandbox.db()));
    assert_eq!(
        sandbox.dbelay(&["log", "--json"]).exits(0).json()["snapshots"].as_array().unwrap().len(),
        1,
        "what is refused leaves no snapshot"
    );
    let looked = sandbox.dbelay(&[&arguments[..], &["--dry-run", "--json"]].concat()).exits(0).json();
    let orders = looked["tables"].as_array().unwrap().iter().find(|table| table["table"] == "orders").unwrap().clone();
    assert_eq!(orders, json!({ "table": "orders", "inserted": 2, "equal": 2, "conflicts": 1, "examples": ["12"] }));
    assert_eq!(before, oracle::dump(&sandbox.db()));
    sandbox.dbelay(&[&arguments[..], &["--overwrite"]].concat()).exits(0);
    sandbox.dbelay(&["diff", "good", "live", "--exit-code"]).exits(0);
}

#[test]
fn a_table_with_other_columns_is_refused_and_one_without_a_key_keeps_its_rows() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 'x'), (1, 'x'), (2, zeroblob(100000)); CREATE TABLE u(k TEXT PRIMARY KEY, v); INSERT INTO u VALUES('a', 1), ('b', 2)",
    );
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.dbelay(&["restore", "good", "--table", "t", "--table", "u", "--to", "part.db"]).exits(0);
    oracle::assert_same(&sandbox.db(), &sandbox.path("part.db"));
    // Another row has the number that this one had.
    sandbox.sql("DELETE FROM u WHERE k = 'a'; DELETE FROM u; INSERT INTO u VALUES('c', 3)");
    sandbox.dbelay(&["restore", "good", "--table", "u", "--to", "app.db"]).exits(0);
    assert_eq!(rows(&sandbox, "app.db", "SELECT group_concat(k) FROM (SELECT k FROM u ORDER BY k)"), "a,b,c");
    sandbox.sql("ALTER TABLE t ADD COLUMN c");
    sandbox.dbelay(&["restore", "good", "--table", "t", "--to", "app.db"]).exits(3).says(&["has other columns", "`c`"]);
    sandbox.sql("DROP TABLE t");
    sandbox.dbelay(&["restore", "good", "--table", "t", "--to", "app.db"]).exits(3).says(&["no table `t`"]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let sandbox = shop();
    for (arguments, words) in [
        (&["--where", "1", "--to", "x.db"][..], "--table"),
        (&["--table", "users", "--table", "log", "--where", "1", "--to", "x.db"], "one table"),
        (&["--table", "nothing", "--to", "x.db"], "no table `nothing`"),
        (&["--table", "users", "--where", "nme = 1", "--to", "x.db"], "no such column: nme"),
        (&["--table", "users", "--where", "1); DELETE FROM users; --", "--to", "x.db"], ""),
        (&["--table", "sqlite_sequence", "--to", "x.db"], "not restored by themselves"),
        (&["--table", "users"], "--to"),
    ] {
        let run = sandbox.dbelay(&[&["restore", "good"][..], arguments].concat()).exits(2);
        assert!(run.stderr.contains(words), "{arguments:?}: {}", run.stderr);
        assert!(!sandbox.path("x.db").exists(), "{arguments:?}");
    }
    sandbox.dbelay(&["restore", "good", "--table", "users", "--where", "0", "--to", "x.db"]).exits(0).prints(&["no row is chosen"]);
    assert!(!sandbox.path("x.db").exists());
}

#[test]
fn a_snapshot_is_validated_without_a_write() {
    let sandbox = shop();
    let run = sandbox.dbelay(&["restore", "good", "--validate-only", "--to", "new.db", "--json"]).exits(0);
    assert_eq!((&run.json()["valid"], &run.json()["problems"]), (&true.into(), &json!([])));
    assert!(!sandbox.path("new.db").exists());
    sandbox.dbelay(&["restore", "good", "--validate-only", "--to", "app.db"]).exits(1).prints(&["exists and is not empty"]);
    sandbox.dbelay(&["restore", "good", "--validate-only", "--to", "nowhere/new.db"]).exits(1).prints(&["no folder"]);
    // A byte of a pack.
    let pack = walkdir::WalkDir::new(sandbox.path(".dbelay/packs"))
        .into_iter()
        .map(Result::unwrap)
        .find(|entry| entry.file_type().is_file())
        .unwrap();
    let mut bytes = std::fs::read(pack.path()).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0x40;
    std::fs::remove_file(pack.path()).unwrap();
    std::fs::write(pack.path(), bytes).unwrap();
    let run = sandbox.dbelay(&["restore", "good", "--validate-only"]);
    assert_ne!(run.code, 0, "{}", run.stdout);
}
