//! What differs between two states, in every form, through every change of the schema.

use crate::oracle;
use crate::sandbox::{Sandbox, copy_database};

const USERS: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, age INT);
CREATE TABLE plain(a, b);
INSERT INTO users VALUES(1,'ann',40),(2,'bob',41),(3,'cid',42);
INSERT INTO plain VALUES('x',1),('x',1),('y',2);
";

fn changed(sql: &str) -> Sandbox {
    let sandbox = Sandbox::with(USERS);
    sandbox.dbelay(&["snapshot", "--tag", "a"]).exits(0);
    sandbox.sql(sql);
    sandbox
}

#[test]
fn rows_are_told_cell_by_cell() {
    let sandbox =
        changed("UPDATE users SET name='bea', age=NULL WHERE id=2; DELETE FROM users WHERE id=1; INSERT INTO users VALUES(9,'dan',1)");
    sandbox.dbelay(&["diff", "a"]).exits(0).prints(&[
        "table users",
        "- id=1 name='ann' age=40",
        "~ id=2  name: 'bob' -> 'bea'  age: 41 -> NULL",
        "+ id=9 name='dan' age=1",
        "1 added, 1 removed, 1 changed",
    ]);
}

#[test]
fn rows_without_a_key_are_a_multiset() {
    let sandbox = changed("DELETE FROM plain WHERE rowid = 1; INSERT INTO plain VALUES('z',9)");
    let run = sandbox.dbelay(&["diff", "a"]).exits(0).prints(&["table plain", "1 added, 1 removed"]);
    assert_eq!(run.stdout.matches("a='x'").count(), 1, "{}", run.stdout);
    let sandbox = changed("CREATE TABLE p2 AS SELECT * FROM plain ORDER BY rowid DESC; DROP TABLE plain; ALTER TABLE p2 RENAME TO plain");
    let run = sandbox.dbelay(&["diff", "a", "--data"]).exits(0);
    assert!(!run.stdout.contains("added"), "rows in another order are the same rows: {}", run.stdout);
}

#[test]
fn renamed_columns_and_tables_are_recognised_by_content() {
    let sandbox = changed(
        "ALTER TABLE users RENAME COLUMN name TO full_name; ALTER TABLE users RENAME TO people; UPDATE people SET full_name='x' WHERE id=1",
    );
    sandbox.dbelay(&["diff", "a"]).exits(0).prints(&[
        "> table `users` is now `people`",
        "> column `people.name` is now `people.full_name`",
        "table people (was users)",
        "1 changed",
    ]);
}

#[test]
fn a_changed_primary_key_does_not_empty_the_diff() {
    let sandbox = changed(
        "CREATE TABLE u2(id TEXT PRIMARY KEY, name TEXT, age INT); INSERT INTO u2 SELECT * FROM users; DROP TABLE users;
         ALTER TABLE u2 RENAME TO users; UPDATE users SET age = 99 WHERE id = '2'",
    );
    let run = sandbox.dbelay(&["diff", "a", "--stat"]).exits(0);
    assert!(run.stdout.contains("users  3 changed") && !run.stdout.contains("added"), "{}", run.stdout);
    sandbox.dbelay(&["diff", "a", "users", "--ignore-column", "id"]).exits(0).prints(&["1 changed", "age: 41 -> 99"]);
}

#[test]
fn an_added_column_is_told_with_the_values_that_were_filled_in() {
    let sandbox = changed("ALTER TABLE users ADD COLUMN mail TEXT DEFAULT 'none'; UPDATE users SET mail='b@x' WHERE id=2");
    sandbox.dbelay(&["diff", "a"]).exits(0).prints(&["+ column `users.mail`: TEXT DEFAULT 'none'", "~ id=2  mail: 'b@x'", "1 changed"]);
    let sandbox = changed("ALTER TABLE users ADD COLUMN mail TEXT");
    let run = sandbox.dbelay(&["diff", "a", "--stat"]).exits(0);
    assert!(!run.stdout.contains("changed"), "{}", run.stdout);
}

#[test]
fn a_dropped_column_and_a_dropped_table_are_told() {
    let sandbox = changed("ALTER TABLE users DROP COLUMN age; DROP TABLE plain");
    sandbox.dbelay(&["diff", "a", "--stat"]).exits(0).prints(&[
        "- column `users.age`: INT",
        "- table `plain`",
        "plain (dropped)  3 removed",
    ]);
}

#[test]
fn the_schema_is_a_unified_diff_of_the_verbatim_ddl() {
    let sandbox = changed("CREATE INDEX by_name ON users(name)");
    sandbox.dbelay(&["diff", "a", "--schema"]).exits(0).prints(&[
        "+ index `by_name` on `users`",
        "+++ live",
        "+CREATE INDEX by_name ON users(name);",
    ]);
}

#[test]
fn filters_conditions_and_limits_narrow_the_rows() {
    let sandbox = changed(
        "UPDATE users SET age = age + 1; DELETE FROM users WHERE id=1; INSERT INTO users VALUES(9,'dan',1);
         UPDATE plain SET b = 7",
    );
    let run = sandbox.dbelay(&["diff", "a", "--filter", "removed", "users"]).exits(0).prints(&["- id=1"]);
    assert!(!run.stdout.contains("~ ") && !run.stdout.contains("+ "), "{}", run.stdout);
    let run = sandbox.dbelay(&["diff", "a", "--where", "id > 2 AND age >= 42"]).exits(0).prints(&["~ id=3", "1 changed"]);
    assert!(!run.stdout.contains("id=2") && !run.stdout.contains("plain"), "{}", run.stdout);
    sandbox.dbelay(&["diff", "a", "users", "--limit", "1"]).exits(0).prints(&["… and 3 more", "1 added, 1 removed, 2 changed"]);
    sandbox.dbelay(&["diff", "a", "--where", "nosuch = 1"]).exits(2).says(&["no table understands the condition"]);
    let run = sandbox.dbelay(&["diff", "a", "--ignore-column", "users.age", "--filter", "changed"]).exits(0);
    assert!(!run.stdout.contains("table users"), "{}", run.stdout);
    sandbox.dbelay(&["diff", "a", "nosuch"]).exits(2).says(&["there is no table `nosuch`"]);
    sandbox.dbelay(&["diff", "--table", "nosuch"]).exits(2).says(&["there is no table `nosuch`"]);
}

#[test]
fn programs_get_json_lines_and_csv() {
    let sandbox = changed("UPDATE users SET name='bea, \"b\"' WHERE id=2; INSERT INTO users VALUES(9007199254740993,'big',NULL)");
    let json = sandbox.dbelay(&["diff", "a", "--json"]).exits(0).json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["tables"][0]["table"], "users");
    assert_eq!(json["tables"][0]["rows"][0]["columns"][0], "name");
    assert_eq!(json["tables"][0]["rows"][1]["after"]["id"], "9007199254740993");
    assert_eq!(json, sandbox.dbelay(&["diff", "a", "--format", "json"]).exits(0).json());
    let lines = sandbox.dbelay(&["diff", "a", "--format", "jsonl"]).exits(0).stdout;
    let types: Vec<String> =
        lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, ["states", "row", "row", "table"]);
    sandbox
        .dbelay(&["diff", "a", "--format", "csv"])
        .exits(0)
        .prints(&["table,change,key,column,before,after\r\n", "users,changed,\"{\"\"id\"\":2}\",name,bob,\"bea, \"\"b\"\"\"\r\n"]);
    let stat = sandbox.dbelay(&["diff", "a", "--stat", "--json"]).exits(0).json();
    assert_eq!(stat["tables"][0]["changed"], 1);
    assert!(stat["tables"][0].get("rows").is_none());
}

#[test]
fn names_alone_and_exit_codes() {
    let sandbox = changed("UPDATE users SET age = 1");
    assert_eq!(sandbox.dbelay(&["diff", "a", "--name-only"]).exits(0).stdout, "users\n");
    sandbox.dbelay(&["diff", "a", "--exit-code"]).exits(1);
    sandbox.dbelay(&["diff", "a", "a", "--exit-code"]).exits(0).says(&["are the same"]);
    sandbox.dbelay(&["diff", "a", "--format", "sql", "--exit-code"]).exits(1);
}

#[test]
fn a_patch_applied_by_another_sqlite_turns_one_state_into_the_other() {
    let sandbox = Sandbox::with(USERS);
    let before = sandbox.copy_db("before.db");
    sandbox.dbelay(&["snapshot", "--tag", "a"]).exits(0);
    sandbox.sql("UPDATE users SET age=1.5 WHERE id=1; DROP TABLE plain; CREATE TABLE fresh(x PRIMARY KEY) WITHOUT ROWID; INSERT INTO fresh VALUES('é')");
    for (from, to, reverse) in [(&before, &sandbox.db(), false), (&sandbox.db(), &before, true)] {
        let patch = sandbox
            .dbelay(if reverse { &["diff", "a", "--format", "sql", "-R"] } else { &["diff", "a", "--format", "sql"] })
            .exits(0)
            .stdout;
        let patched = sandbox.path("patched.db");
        copy_database(from, &patched);
        rusqlite::Connection::open(&patched).unwrap().execute_batch(&patch).unwrap();
        oracle::assert_same(to, &patched);
    }
    sandbox.dbelay(&["diff", "a", "--format", "sql", "--limit", "3"]).exits(2).says(&["a patch is whole"]);
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let sandbox = changed("UPDATE users SET name = char(27)||'[31mred'||char(10)||'x' WHERE id=1");
    let run = sandbox.dbelay(&["diff", "a"]).exits(0).prints(&["\\u{1b}[31mred\\nx"]);
    assert!(!run.stdout.contains('\u{1b}'));
}

#[test]
fn selectors_name_states() {
    let sandbox = changed("UPDATE users SET age = 1");
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql("UPDATE users SET age = 2");
    for (arguments, said) in [
        (&["diff"][..], "1 -> 2"),
        (&["diff", "HEAD~1", "HEAD"], "40 -> 1"),
        (&["diff", "a", "live"], "40 -> 2"),
        (&["diff", "live", "a"], "2 -> 40"),
        (&["diff", "users"], "1 -> 2"),
    ] {
        sandbox.dbelay(arguments).exits(0).prints(&[said]);
    }
    sandbox.dbelay(&["diff", "HEAD~9"]).exits(2);
    sandbox.dbelay(&["diff", "zzz"]).exits(2).says(&["`zzz` names no snapshot"]);
}

#[test]
fn settings_are_part_of_a_difference() {
    let sandbox = changed("PRAGMA user_version=4");
    sandbox.dbelay(&["diff", "a", "--exit-code"]).exits(1).prints(&["~ setting `user_version`: 0 -> 4"]);
    let json = sandbox.dbelay(&["diff", "a", "--json"]).json();
    assert_eq!(json["schema"]["settings"][0]["after"], "4");
    sandbox.dbelay(&["status"]).exits(0).prints(&["~ setting `user_version`: 0 -> 4"]);
}

#[test]
fn a_narrowed_difference_does_not_claim_that_states_are_the_same() {
    let sandbox = changed("UPDATE users SET name='zz' WHERE id=1");
    sandbox.dbelay(&["diff", "a", "--where", "id = 7"]).exits(0).says(&["no such difference between"]);
}

#[test]
fn a_page_holds_the_differences_and_no_markup_of_theirs() {
    let sandbox = changed("UPDATE users SET name='<b>bea</b>' WHERE id=2; DELETE FROM users WHERE id=1; ALTER TABLE plain ADD COLUMN c");
    let page = sandbox.dbelay(&["diff", "a", "--format", "html"]).exits(0).stdout;
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    for part in ["1 removed", "1 changed", "<code>plain.c</code>", "&lt;b&gt;bea&lt;/b&gt;", "<del>&#39;bob&#39;</del>"] {
        assert!(page.contains(part), "no `{part}` in {page}");
    }
    assert!(!page.contains("<b>bea"), "{page}");
}

#[test]
fn a_rebuild_that_drops_clauses_shows_each_of_them() {
    let sandbox = Sandbox::with(
        "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE CHECK (name <> ''), age INT);
         INSERT INTO t(name, age) VALUES('a', 1)",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql(
        "CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT, age INT, CHECK (age > 0)); INSERT INTO n SELECT * FROM t;
         DROP TABLE t; ALTER TABLE n RENAME TO t",
    );
    sandbox.dbelay(&["diff", "--schema"]).exits(0).prints(&[
        "- clause of `t.id`: AUTOINCREMENT",
        "- clause of `t.name`: COLLATE NOCASE",
        "- clause of `t`: CHECK (name <> '')",
        "+ clause of `t`: CHECK (age > 0)",
    ]);
}

#[test]
fn keys_and_checks_follow_what_was_renamed() {
    let sandbox = Sandbox::with(
        "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'name'));
         CREATE TABLE pets(id INTEGER PRIMARY KEY, owner INTEGER REFERENCES people(id) ON DELETE CASCADE);
         INSERT INTO people VALUES(1,'ann'),(2,'bob'),(3,'cid'); INSERT INTO pets VALUES(1,1),(2,2)",
    );
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.sql("ALTER TABLE people RENAME TO humans; ALTER TABLE humans RENAME COLUMN name TO full_name");
    let run = sandbox.dbelay(&["diff", "--schema"]).exits(0).prints(&["> table `people` is now `humans`"]);
    assert!(!run.stdout.contains("foreign key of") && !run.stdout.contains("clause"), "{}", run.stdout);
}
