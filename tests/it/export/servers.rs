//! Exports and questions of PostgreSQL snapshots, with `psql` to load and `pg_dump` to say what is there.

use crate::cluster::{Cluster, TestDatabase, assert_same};
use crate::sandbox::{Run, Sandbox, finish};

/// A database with everything that a server of version 13 has.
const EVERYTHING: &str = include_str!("../everything.sql");

const SHOP: &str = "
    CREATE TABLE users(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, balance numeric(40,20));
    CREATE TABLE orders(id serial PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, total numeric, at timestamptz DEFAULT '2024-01-01Z');
    CREATE TABLE big(id int PRIMARY KEY, body text);
    CREATE SCHEMA audit; CREATE TABLE audit.lines(n int, t text);
    CREATE VIEW spenders AS SELECT u.name, sum(o.total) AS spent FROM users u JOIN orders o ON o.user_id = u.id GROUP BY u.id;
    INSERT INTO users(name, balance) VALUES('ann', 12345678901234567890.00000000000000000001), ('bob', 9.5);
    INSERT INTO orders(user_id, total) VALUES(1, 10.5), (1, 2), (2, 100);
    INSERT INTO audit.lines VALUES(1, 'x');
    INSERT INTO big SELECT i, 'x' FROM generate_series(1, 1000) i;";

fn run(cluster: &Cluster, sandbox: &Sandbox, url: &str, arguments: &[&str]) -> Run {
    finish(sandbox.command().env("PATH", cluster.path()).args(["--db", url]).args(arguments))
}

fn made(cluster: &'static Cluster, sandbox: &Sandbox, sql: &str) -> TestDatabase<'static> {
    cluster.roles(&["dbelay_reader", "dbelay_owner"]);
    let database = cluster.database();
    std::fs::write(sandbox.path("setup.sql"), sql).unwrap();
    database.file(&sandbox.path("setup.sql"));
    database
}

#[test]
fn an_sql_export_makes_the_same_database_with_psql() {
    let Some(cluster) = Cluster::shared() else { return };
    for sql in [SHOP, EVERYTHING] {
        let sandbox = Sandbox::new();
        let database = made(cluster, &sandbox, sql);
        run(cluster, &sandbox, &database.url(), &["snapshot"]).exits(0);
        run(cluster, &sandbox, &database.url(), &["export", "--output", "out.sql"]).exits(0);
        let loaded = cluster.database();
        loaded.file(&sandbox.path("out.sql"));
        assert_same(&database.state(), &loaded.state(), "the loaded database");
        run(cluster, &sandbox, &loaded.url(), &["snapshot"]).exits(0);
        let tables = |url: &str| run(cluster, &sandbox, url, &["show", "HEAD", "--json"]).exits(0).json()["tables"].clone();
        assert_eq!(tables(&database.url()), tables(&loaded.url()));
    }
}

#[test]
fn a_part_of_a_database_is_exported_without_what_it_would_need_from_the_rest() {
    let Some(cluster) = Cluster::shared() else { return };
    let sandbox = Sandbox::new();
    let database = made(cluster, &sandbox, SHOP);
    run(cluster, &sandbox, &database.url(), &["snapshot"]).exits(0);
    run(cluster, &sandbox, &database.url(), &["export", "--table", "orders", "--output", "out.sql"]).exits(0);
    let loaded = cluster.database();
    loaded.file(&sandbox.path("out.sql"));
    assert_eq!(loaded.psql("SELECT count(*), sum(total) FROM orders"), "3|112.5\n");
    assert_eq!(loaded.psql("INSERT INTO orders(user_id) VALUES(7) RETURNING id"), "4\n");
    assert_eq!(loaded.psql("SELECT count(*) FROM pg_class WHERE relname = 'users'"), "0\n");
}

#[test]
fn a_question_is_asked_on_the_server_of_what_it_names_and_leaves_nothing_there() {
    let Some(cluster) = Cluster::shared() else { return };
    let sandbox = Sandbox::new();
    let database = made(cluster, &sandbox, SHOP);
    let dbelay = |arguments: &[&str]| run(cluster, &sandbox, &database.url(), arguments);
    dbelay(&["snapshot"]).exits(0);
    database.psql("DELETE FROM orders");
    let asked =
        dbelay(&["-v", "query", "HEAD", "SELECT name, spent FROM spenders WHERE spent > 9.9 ORDER BY spent", "--format", "csv"]).exits(0);
    assert_eq!(asked.stdout, "name,spent\r\nann,12.5\r\nbob,100\r\n", "numbers compare as numbers");
    assert!(asked.stderr.contains("users (2 rows)") && asked.stderr.contains("orders (3 rows)") && !asked.stderr.contains("big"));
    let exact = dbelay(&["query", "HEAD", "SELECT balance FROM users WHERE id = 1", "--format", "jsonl"]).exits(0).stdout;
    assert_eq!(exact, "{\"balance\":\"12345678901234567890.00000000000000000001\"}\n");
    dbelay(&["query", "HEAD", "SELECT count(*) AS n FROM orders", "--format", "csv"]).exits(0).prints(&["n\r\n3"]);
    dbelay(&["query", "HEAD", "SELECT n FROM audit.lines", "--format", "csv"]).exits(0).prints(&["n\r\n1"]);
    dbelay(&["query", "HEAD", "DELETE FROM users"]).exits(2);
    dbelay(&["query", "HEAD", "SELECT nme FROM users"]).exits(2).says(&["nme"]);
    let left = database.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'dbelay_rehearsal_%' AND NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory')");
    assert_eq!(left, "0\n");
}

#[test]
fn a_json_export_is_imported_through_the_server_as_it_was() {
    let Some(cluster) = Cluster::shared() else { return };
    for sql in [SHOP, EVERYTHING] {
        let sandbox = Sandbox::new();
        let database = made(cluster, &sandbox, sql);
        let dbelay = |arguments: &[&str]| run(cluster, &sandbox, &database.url(), arguments);
        dbelay(&["snapshot", "--tag", "first"]).exits(0);
        for file in ["a.json", "a.jsonl"] {
            dbelay(&["export", "--output", file]).exits(0);
            dbelay(&["import", file, "--as-source", "--tag", &format!("of-{file}")]).exits(0);
            let diff = dbelay(&["diff", "first", &format!("of-{file}"), "--exit-code"]);
            assert_eq!(diff.code, 0, "{file}: {}", diff.stdout);
        }
        dbelay(&["export", "--output", "a.sql"]).exits(0);
        dbelay(&["import", "a.sql"]).exits(2).says(&["psql"]);
    }
}

#[test]
fn chosen_rows_come_back_with_what_they_refer_to_and_their_sequences() {
    let Some(cluster) = Cluster::shared() else { return };
    let sandbox = Sandbox::new();
    let database = made(cluster, &sandbox, SHOP);
    let dbelay = |arguments: &[&str]| run(cluster, &sandbox, &database.url(), arguments);
    dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let target = cluster.database();
    let arguments = ["restore", "good", "--table", "orders", "--where", "total > 9.9 AND total < 50", "--to", &target.url()];
    dbelay(&arguments).exits(0).prints(&["orders: 1 row asked for", "users: 1 row along"]);
    assert_eq!(
        target.psql("SELECT o.id, u.name, u.balance FROM orders o JOIN users u ON u.id = o.user_id"),
        "1|ann|12345678901234567890.00000000000000000001\n"
    );
    assert_eq!(target.psql("INSERT INTO orders(user_id) VALUES(1) RETURNING id"), "4\n");
    assert_eq!(target.psql("SELECT count(*) FROM pg_constraint WHERE contype = 'f'"), "1\n");
    database.psql("DELETE FROM orders; DELETE FROM users; UPDATE big SET body = 'y' WHERE id = 5");
    dbelay(&["restore", "good", "--table", "orders", "--to", &database.url()])
        .exits(0)
        .prints(&["orders: inserted 3", "users: inserted 2"]);
    assert_eq!(database.psql("SELECT sum(total), count(*) FROM orders"), "112.5|3\n");
    dbelay(&["restore", "good", "--table", "big", "--to", &database.url()]).exits(3).says(&["`big`: 1 row (5)"]);
    dbelay(&["restore", "good", "--table", "big", "--overwrite", "--to", &database.url()]).exits(0);
    dbelay(&["restore", "good", "--table", "audit.lines", "--where", "t = 'x'", "--to", &database.url()])
        .exits(0)
        .prints(&["1 there already"]);
    dbelay(&["diff", "good", "live", "--exit-code"]).exits(0);
    dbelay(&["restore", "good", "--validate-only", "--to", &cluster.database().url()]).exits(0);
}
