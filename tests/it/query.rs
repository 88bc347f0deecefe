//! `query`: SQL over a snapshot, of a scratch database that has what the question names and can only be read.

use super::sandbox::Sandbox;

const SHOP: &str = "
    CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, score REAL);
    CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, user_id REFERENCES users, total);
    CREATE TABLE big(id INTEGER PRIMARY KEY, body TEXT);
    CREATE VIEW spenders AS SELECT u.name, sum(o.total) AS spent FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id;
    CREATE INDEX by_name ON users(name);
    CREATE TRIGGER noise AFTER INSERT ON users BEGIN INSERT INTO big(body) VALUES('noise'); END;
    INSERT INTO orders(user_id, total) VALUES(1, 9007199254740993), (1, 1), (2, 2.5);
    INSERT INTO big(body) VALUES('x');
    INSERT INTO users VALUES(1, 'ann', 1.0), (2, 'bob', 9e999), (3, NULL, -2.5);";

fn shop() -> Sandbox {
    let sandbox = Sandbox::with(SHOP);
    sandbox.dbelay(&["snapshot", "--tag", "first"]).exits(0);
    sandbox
}

#[test]
fn a_question_sees_the_snapshot_and_not_the_database() {
    let sandbox = shop();
    sandbox.sql("DELETE FROM users WHERE id > 1");
    let count = |selector: &str| {
        sandbox.dbelay(&["query", selector, "SELECT count(*) AS n FROM users", "--json"]).exits(0).json()["rows"][0]["n"].clone()
    };
    assert_eq!((count("first"), count("HEAD"), count("live")), (3.into(), 3.into(), 1.into()));
}

#[test]
fn only_the_tables_that_a_question_names_are_loaded_views_expanded() {
    let sandbox = shop();
    let loaded = |sql: &str| {
        let run = sandbox.dbelay(&["-v", "query", "first", sql]).exits(0);
        run.stderr.lines().find_map(|line| line.strip_prefix("loaded: ")).unwrap().to_owned()
    };
    assert_eq!(loaded("SELECT * FROM users"), "users (3 rows)");
    assert_eq!(loaded("SELECT name FROM spenders"), "users (3 rows), orders (3 rows)");
    assert_eq!(loaded("SELECT 1"), "nothing");
    assert_eq!(loaded("SELECT seq FROM sqlite_sequence"), "sqlite_sequence (1 row)");
    let run =
        sandbox.dbelay(&["query", "first", "SELECT (SELECT seq FROM sqlite_sequence) AS s, count(*) AS n FROM orders", "--json"]).exits(0);
    assert_eq!(run.json()["rows"][0], serde_json::json!({ "s": 3, "n": 3 }), "the engine's own tables are as they were");
}

#[test]
fn values_are_exact_in_every_form() {
    let sandbox = shop();
    let run =
        sandbox.dbelay(&["query", "first", "SELECT total, typeof(total) AS t FROM orders WHERE id = 1", "--format", "jsonl"]).exits(0);
    assert_eq!(run.stdout, "{\"total\":\"9007199254740993\",\"t\":\"integer\"}\n");
    let run = sandbox.dbelay(&["query", "first", "SELECT score, name, x'00ff' AS b FROM users ORDER BY id", "--format", "csv"]).exits(0);
    assert_eq!(run.stdout, "score,name,b\r\n1.0,ann,00ff\r\nInfinity,bob,00ff\r\n-2.5,,00ff\r\n");
    let run = sandbox.dbelay(&["query", "first", "SELECT id, name FROM users ORDER BY id"]).exits(0);
    assert_eq!(run.stdout, "id  name\n 1  ann\n 2  bob\n 3  NULL\n");
    let run = sandbox.dbelay(&["query", "first", "SELECT 1 AS a, 2 AS a", "--json"]).exits(0);
    assert_eq!(run.json()["rows"][0], serde_json::json!({ "a": 1, "a:2": 2 }));
}

#[test]
fn more_rows_than_the_limit_are_told_of() {
    let sandbox = shop();
    let run = sandbox.dbelay(&["query", "first", "SELECT id FROM users ORDER BY id", "--limit", "2", "--format", "csv"]).exits(0);
    assert_eq!(run.says(&["only the first 2"]).stdout, "id\r\n1\r\n2\r\n");
    let run = sandbox.dbelay(&["query", "first", "SELECT id FROM users", "--limit", "3", "--json"]).exits(0);
    assert_eq!(run.json()["is_cut"], false);
}

#[test]
fn what_would_change_something_is_refused_and_a_mistake_is_named_with_its_place() {
    let sandbox = shop();
    let before = std::fs::read(sandbox.db()).unwrap();
    for (sql, words) in [
        ("DELETE FROM users", "delete from `users`"),
        ("ATTACH 'other.db' AS other", "attach another database"),
        ("PRAGMA user_version = 7", "PRAGMA user_version"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT 1; DROP TABLE users", "change the schema"),
        ("SELECT nme FROM users", "no such column: nme, at line 1, column 8: `nme`"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT load_extension('x')", "load_extension"),
    ] {
        sandbox.dbelay(&["query", "first", sql]).exits(2).says(&[words]);
        let run = sandbox.dbelay(&["query", "first", sql, "--json"]).exits(2);
        assert_eq!(run.json()["schema_version"], 1, "{sql}");
    }
    assert_eq!(std::fs::read(sandbox.db()).unwrap(), before);
    assert!(!sandbox.path("other.db").exists());
}

#[test]
fn an_index_of_words_can_be_asked() {
    let sandbox = Sandbox::with(
        "CREATE TABLE docs(id INTEGER PRIMARY KEY, body);
         CREATE VIRTUAL TABLE words USING fts5(body, content='docs', content_rowid='id');
         CREATE VIRTUAL TABLE own USING fts5(body);
         CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
         INSERT INTO docs VALUES(1, 'the quick brown fox'), (2, 'a lazy dog');
         INSERT INTO words(rowid, body) SELECT id, body FROM docs;
         INSERT INTO own(body) SELECT body FROM docs;
         INSERT INTO boxes VALUES(7, 1, 2);",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    for (sql, expected) in [
        ("SELECT rowid AS v FROM words WHERE words MATCH 'fox'", "1"),
        ("SELECT body AS v FROM words WHERE words MATCH 'dog'", "a lazy dog"),
        ("SELECT body AS v FROM own WHERE own MATCH 'quick'", "the quick brown fox"),
        ("SELECT id AS v FROM boxes WHERE x0 < 1.5", "7"),
    ] {
        let run = sandbox.dbelay(&["query", "HEAD", sql, "--format", "csv"]).exits(0);
        assert_eq!(run.stdout, format!("v\r\n{expected}\r\n"), "{sql}");
    }
}

#[test]
fn a_snapshot_can_be_asked_when_its_database_is_gone() {
    let sandbox = shop();
    std::fs::remove_file(sandbox.db()).unwrap();
    let run = sandbox.dbelay(&["query", "first", "SELECT name FROM users WHERE id = 1", "--format", "csv"]).exits(0);
    assert_eq!(run.stdout, "name\r\nann\r\n");
}

#[test]
fn a_row_is_found_by_its_key_in_a_table_of_any_order() {
    let sandbox = Sandbox::with(
        "CREATE TABLE up(id INTEGER PRIMARY KEY, t); CREATE TABLE down(id INTEGER, t, PRIMARY KEY(id DESC)) WITHOUT ROWID; CREATE TABLE text(id TEXT PRIMARY KEY, t) WITHOUT ROWID;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 30000) INSERT INTO up SELECT i - 15000, 'row ' || i FROM n;
         INSERT INTO down SELECT * FROM up; INSERT INTO text SELECT * FROM up;",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    for table in ["up", "down", "text"] {
        for (key, expected) in [("-14999", "row 1"), ("0", "row 15000"), ("15000", "row 30000")] {
            sandbox.dbelay(&["cat", "HEAD", table, "--key", key]).exits(0).prints(&[&format!("{key},{expected}")]);
        }
        sandbox.dbelay(&["cat", "HEAD", table, "--key", "15001"]).exits(2);
    }
}

#[test]
fn every_way_to_name_a_table_reads_its_rows() {
    let sandbox = shop();
    sandbox.sql("CREATE TABLE names(id INTEGER PRIMARY KEY, nick); INSERT INTO names SELECT id, name || '!' FROM users");
    sandbox.sql("CREATE VIEW joined AS SELECT count(*) AS n FROM users JOIN names USING(id)");
    sandbox.dbelay(&["snapshot", "--tag", "second"]).exits(0);
    let questions = [
        "SELECT count(*) FROM users JOIN names USING(id)",
        "SELECT count(*) FROM users NATURAL JOIN names",
        "SELECT count(*) FROM users LEFT JOIN names USING(id)",
        "SELECT n FROM joined",
        "WITH u(id) AS (SELECT id FROM users) SELECT count(*) FROM u JOIN names USING(id)",
        "SELECT count(*) FROM [users] WHERE EXISTS (SELECT 1 FROM main.\"names\" n WHERE n.id = users.id)",
        "SELECT (SELECT count(*) FROM names) + (SELECT count(*) FROM `users`)",
        "SELECT count(*) FROM users, names",
        "SELECT count(*) FROM (SELECT 1 FROM users UNION ALL SELECT 2 FROM names)",
        "SELECT id FROM users INTERSECT SELECT id FROM names ORDER BY 1 DESC LIMIT 1",
        "SELECT count(*) FROM users WHERE (id, name || '!') IN names",
    ];
    for question in questions {
        let expected: i64 = sandbox.connect().query_row(question, [], |row| row.get(0)).unwrap();
        let asked = sandbox.dbelay(&["query", "second", question, "--format", "csv"]).exits(0);
        assert_eq!(asked.stdout.lines().nth(1), Some(expected.to_string().as_str()), "{question}");
    }
}
