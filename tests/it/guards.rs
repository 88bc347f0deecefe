//! Guards in dbelay.toml: limits, tables that must not change, assertions in SQL.

use super::oracle;
use super::sandbox::Sandbox;

const SHOP: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE countries(code TEXT PRIMARY KEY, name TEXT);
CREATE TABLE django_migrations(id INTEGER PRIMARY KEY, app TEXT, name TEXT, applied TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100) INSERT INTO users SELECT i, 'user ' || i FROM n;
INSERT INTO countries VALUES('de','Germany'),('fr','France');
INSERT INTO django_migrations VALUES(1,'shop','0001_initial','2026-01-01');
";

#[track_caller]
fn check(guards: &str, sql: &str, code: i32, said: &[&str]) {
    let sandbox = Sandbox::with(SHOP);
    let kept = sandbox.copy_db("kept.db");
    std::fs::write(sandbox.path("dbelay.toml"), format!("database = \"app.db\"\n{guards}")).unwrap();
    sandbox.migrate(&["--allow", "users,countries"], sql).exits(code).says(said);
    if code == 4 {
        oracle::assert_same(&kept, &sandbox.db());
    }
}

#[test]
fn a_limit_of_rows_is_a_count_or_a_share() {
    let ten = "DELETE FROM users WHERE id <= 10";
    check(
        "[guards]\nrows-removed-max = 9\n",
        ten,
        4,
        &["guard `rows-removed-max` is broken", "10 of 100 rows of `users` were removed, and 9 may be"],
    );
    check("[guards]\nrows-removed-max = 10\n", ten, 0, &["guard holds"]);
    check("[guards]\nrows-removed-max = \"9.5%\"\n", ten, 4, &["9.5 % may be"]);
    check("[guards]\nrows-removed-max = \"10%\"\n", ten, 0, &[]);
    check("[guards]\nrows-removed-max = \"10%\"\n", "DROP TABLE countries", 4, &["2 of 2 rows of `countries`"]);
    let change = "UPDATE users SET name = name || '!' WHERE id <= 60";
    check("[guards]\nrows-changed-max = \"50%\"\n", change, 4, &["60 of 100 rows of `users` were changed"]);
}

#[test]
fn a_table_may_have_a_limit_of_its_own() {
    let guards = "[guards]\nrows-removed-max = 0\n[guards.tables.users]\nrows-removed-max = 50\n";
    check(guards, "DELETE FROM users WHERE id <= 10", 0, &[]);
    check(guards, "DELETE FROM countries WHERE code = 'de'", 4, &["`rows-removed-max` is broken", "`countries`"]);
    check(
        "[guards.tables.users]\nrows-removed-max = 5\n",
        "DELETE FROM users WHERE id <= 10",
        4,
        &["guard `tables.users.rows-removed-max`"],
    );
}

#[test]
fn ledgers_have_no_limits() {
    check("[guards]\nrows-removed-max = 0\nrows-changed-max = 0\n", "DELETE FROM django_migrations", 0, &[]);
}

#[test]
fn a_table_that_must_not_change_does_not() {
    let guards = "[guards]\nunchanged = [\"countries\"]\n";
    check(guards, "UPDATE users SET name = upper(name)", 0, &["guard holds"]);
    for (sql, said) in [
        ("UPDATE countries SET name = 'Deutschland' WHERE code = 'de'", "table `countries` was changed: 1 changed"),
        ("ALTER TABLE countries ADD COLUMN continent TEXT", "the definition of table `countries` was changed"),
        ("DROP TABLE countries", "table `countries` was dropped"),
        ("ALTER TABLE countries RENAME TO lands", "table `countries` was renamed to `lands`"),
    ] {
        check(guards, sql, 4, &["guard `unchanged.countries` is broken", said]);
    }
    check(
        "[guards]\nunchanged = [\"contries\"]\n[guards.tables.userz]\nrows-removed-max = 0\n",
        "UPDATE users SET name = upper(name)",
        0,
        &["names a table `contries`, and there is none", "names a table `userz`"],
    );
}

#[test]
fn virtual_tables_are_guarded_too() {
    let sandbox =
        Sandbox::with("CREATE VIRTUAL TABLE f USING fts5(t); INSERT INTO f VALUES('one'),('two'); CREATE TABLE u(id INTEGER PRIMARY KEY)");
    let guarded = |guards: &str, sql: &str, code: i32| {
        std::fs::write(sandbox.path("dbelay.toml"), format!("database = \"app.db\"\n[guards]\n{guards}\n")).unwrap();
        sandbox.migrate(&["--allow", "f"], sql).exits(code)
    };
    guarded("unchanged = [\"f\"]", "INSERT INTO u VALUES(1)", 0);
    guarded("unchanged = [\"f\"]", "INSERT INTO f VALUES('three')", 4).says(&["table `f` was changed"]);
    guarded("rows-removed-max = 0", "DELETE FROM f WHERE rowid = 1", 4).says(&["1 of 2 rows of `f` were removed"]);
    guarded("tables.f = { rows-removed-max = 0 }", "DELETE FROM f WHERE rowid = 1", 4);
}

#[test]
fn the_order_of_an_answer_is_nobodys_promise() {
    let guards = "[[guards.assert]]\nname = \"a\"\nsql = \"SELECT name FROM countries\"\nunchanged = true\n";
    let turned = "CREATE TABLE n(code TEXT PRIMARY KEY, name TEXT); INSERT INTO n SELECT * FROM countries ORDER BY code DESC;
        DROP TABLE countries; ALTER TABLE n RENAME TO countries";
    check(guards, turned, 0, &[]);
    check(guards, "UPDATE countries SET name = 'BRD' WHERE code = 'de'", 4, &["the answer has other rows"]);
}

#[test]
fn an_assertion_is_judged_on_the_result_and_cited_by_its_name() {
    let assertion = |rest: &str| format!("[[guards.assert]]\nname = \"everyone has a name\"\n{rest}\n");
    let nulls = assertion("sql = \"SELECT count(*) FROM users WHERE name IS NULL\"\nequals = 0");
    check(
        &nulls,
        "UPDATE users SET name = NULL WHERE id = 7",
        4,
        &["guard `everyone has a name` is broken: 0 is expected, and the answer is 1"],
    );
    check(&nulls, "UPDATE users SET name = upper(name)", 0, &["guard holds"]);
    let least = assertion("sql = \"SELECT count(*) FROM users\"\nat_least = 100");
    check(&least, "DELETE FROM users WHERE id = 1", 4, &["at least 100 is expected, and the answer is 99"]);
    let same = assertion("sql = \"SELECT count(*), min(name) FROM users\"\nunchanged = true");
    check(&same, "DELETE FROM users WHERE id = 9", 4, &["the answer was 100, \"user 1\", and is 99, \"user 1\""]);
    check(&same, "ALTER TABLE users ADD COLUMN email TEXT", 0, &[]);
    check(&same, "ALTER TABLE users RENAME TO people", 4, &["it cannot be answered", "no such table"]);
    let text = assertion("sql = \"SELECT name FROM countries WHERE code = 'de'\"\nequals = \"Germany\"");
    check(&text, "UPDATE countries SET name = 'BRD' WHERE code = 'de'", 4, &["\"Germany\" is expected, and the answer is \"BRD\""]);
}

#[test]
fn an_assertion_that_could_change_something_or_cannot_be_asked_stops_before_anything_runs() {
    for (sql, what) in [
        ("DELETE FROM users", "unchanged = true"),
        ("SELECT nothing FROM users", "unchanged = true"),
        ("SELECT 1; SELECT 2", "equals = 1"),
        ("PRAGMA user_version = 3", "equals = 3"),
        ("selec 1", "at-least = 1"),
        ("-- nothing", "at-most = 1"),
    ] {
        let sandbox = Sandbox::with(SHOP);
        let toml = format!("database = \"app.db\"\n[[guards.assert]]\nname = \"wrong\"\nsql = \"{sql}\"\n{what}\n");
        std::fs::write(sandbox.path("dbelay.toml"), toml).unwrap();
        sandbox.run(&["migrate", "--", "touch", "ran"]).exits(2).says(&["the guard `wrong` cannot be judged", "was not begun"]);
        assert!(!sandbox.path("ran").exists());
        assert_eq!(sandbox.number("SELECT count(*) FROM users"), 100);
    }
}

#[test]
fn an_assertion_that_does_not_hold_yet_may_be_what_the_migration_is_for() {
    let guards = "[[guards.assert]]\nname = \"emails\"\nsql = \"SELECT count(email) FROM users\"\nequals = 100\n";
    let fill = "ALTER TABLE users ADD COLUMN email TEXT; UPDATE users SET email = name";
    check(guards, fill, 0, &["before the migration: guard `emails` is broken", "guard holds"]);
}

#[test]
fn guards_that_make_no_sense_are_errors_of_the_configuration() {
    for (guards, said) in [
        ("[guards]\nrows-removed-max = \"many\"\n", "a limit is a number of rows"),
        ("[guards]\nrows-removed-max = \"101%\"\n", "a limit is a number of rows"),
        ("[guards]\nrows-remove-max = 1\n", "rows-remove-max"),
        ("[[guards.assert]]\nname = \"a\"\nsql = \"SELECT 1\"\n", "needs one of"),
        ("[[guards.assert]]\nname = \"a\"\nsql = \"SELECT 1\"\nequals = 1\nunchanged = true\n", "needs one of"),
        ("[[guards.assert]]\nname = \"a\"\nsql = \"SELECT 1\"\nat-most = nan\n", "no finite number"),
        ("[[guards.assert]]\nname = \" \"\nsql = \"SELECT 1\"\nequals = 1\n", "name of an assertion"),
        (
            "[[guards.assert]]\nname = \"a\"\nsql = \"SELECT 1\"\nequals = 1\n[[guards.assert]]\nname = \"a\"\nsql = \"SELECT 1\"\nequals = 1\n",
            "two assertions",
        ),
    ] {
        check(guards, "SELECT 1", 2, &["dbelay.toml", said]);
    }
}
