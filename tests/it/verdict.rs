//! What a migration removed, and what only looks like it: each kind of loss caught, and its quiet forms let through.

use crate::oracle;
use crate::sandbox::{Run, Sandbox};

/// Runs a migration that loses data: it is rolled back, and says this.
#[track_caller]
fn loses(base: &str, sql: &str, said: &[&str]) -> Run {
    let sandbox = Sandbox::with(base);
    let kept = sandbox.copy_db("kept.db");
    let run = sandbox.migrate(&[], sql).exits(4).says(said);
    oracle::assert_same(&kept, &sandbox.db());
    run
}

/// Runs a migration that loses nothing: it is kept, and says this.
#[track_caller]
fn keeps(base: &str, sql: &str, said: &[&str]) -> Run {
    Sandbox::with(base).migrate(&[], sql).exits(0).says(said)
}

/// Forty people, no two alike, in three countries, with posts.
const PEOPLE: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, first TEXT, last TEXT, email TEXT, country TEXT, score INTEGER, active INTEGER);
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<40)
INSERT INTO users SELECT x, 'First'||x, 'Last'||x, 'user'||x||'@example.org', CASE x%3 WHEN 0 THEN 'Chile' WHEN 1 THEN 'Ghana' ELSE 'Japan' END,
  x%7, 1 FROM c;
CREATE TABLE posts(id INTEGER PRIMARY KEY, author INTEGER REFERENCES users(id) ON DELETE CASCADE, title TEXT);
INSERT INTO posts SELECT id, id, 'Post '||id FROM users WHERE id < 11;
";

/// Drops a column as the tools did before SQLite could, with foreign keys off.
const WITHOUT: &str = "PRAGMA foreign_keys=OFF; ";

const FAMILY: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE posts(id INTEGER PRIMARY KEY, author_id INTEGER REFERENCES users ON DELETE CASCADE);
CREATE TABLE comments(id INTEGER PRIMARY KEY, post_id INTEGER REFERENCES posts(id) ON DELETE CASCADE, body TEXT);
CREATE TABLE drafts(id INTEGER PRIMARY KEY, author_id INTEGER REFERENCES users(id) ON DELETE SET NULL);
CREATE TABLE likes(id INTEGER PRIMARY KEY, user_id INTEGER DEFAULT 0 REFERENCES users(id) ON DELETE SET DEFAULT);
INSERT INTO users VALUES(0,'nobody'),(1,'ann'),(2,'bob'),(3,'cid');
INSERT INTO posts VALUES(10,1),(11,2),(12,NULL);
INSERT INTO comments VALUES(100,10,'x'),(101,11,'y'),(102,12,'z');
INSERT INTO drafts VALUES(1,1),(2,2);
INSERT INTO likes VALUES(1,1),(2,2),(3,3);
";

#[test]
fn a_cascade_is_explained_through_each_foreign_key() {
    let rebuild = "CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT NOT NULL); INSERT INTO n SELECT * FROM users; DROP TABLE users; ALTER TABLE n RENAME TO users";
    let family = FAMILY.replace("DEFAULT 0 REFERENCES", "DEFAULT NULL REFERENCES");
    loses(
        &family,
        rebuild,
        &[
            "2 of 3 rows of `posts` are gone; they went through the foreign key `posts.author_id` -> `users.id` ON DELETE CASCADE, when `users` was rebuilt (id=10; id=11)",
            "2 of 3 rows of `comments` are gone; they went through the foreign key `comments.post_id` -> `posts.id` ON DELETE CASCADE, with rows of `posts`, which went through the foreign key `posts.author_id` -> `users.id` ON DELETE CASCADE, when `users` was rebuilt (id=100; id=101)",
            "column `drafts.author_id` lost all of its 2 values: nothing is left of them; they went through the foreign key `drafts.author_id` -> `users.id` ON DELETE SET NULL, when `users` was rebuilt",
            "column `likes.user_id` lost all of its 3 values: nothing is left of them; they went through the foreign key `likes.user_id` -> `users.id` ON DELETE SET DEFAULT, when `users` was rebuilt",
        ],
    );
}

#[test]
fn a_rebuild_with_the_same_ddl_is_seen_by_where_the_table_stands_now() {
    loses(
        "CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(id INTEGER PRIMARY KEY, a_id INTEGER REFERENCES a(id) ON DELETE CASCADE);
         INSERT INTO a VALUES(1),(2); INSERT INTO b VALUES(1,1),(2,2)",
        "CREATE TEMP TABLE t AS SELECT * FROM a; DROP TABLE a; CREATE TABLE a(id INTEGER PRIMARY KEY); INSERT INTO a SELECT * FROM t",
        &["2 of 2 rows of `b` are gone; they went through the foreign key `b.a_id` -> `a.id` ON DELETE CASCADE, when `a` was rebuilt"],
    );
}

#[test]
fn rows_that_went_with_deleted_or_replaced_ones_are_told_so() {
    loses(
        FAMILY,
        "DELETE FROM users WHERE id = 1",
        &[
            "1 of 4 rows of `users` are gone (id=1)",
            "1 of 3 rows of `posts` are gone; they went through the foreign key `posts.author_id` -> `users.id` ON DELETE CASCADE, when rows of `users` were deleted (id=10)",
        ],
    );
    loses(FAMILY, "INSERT OR REPLACE INTO users VALUES(1,'Ann')", &["when rows of `users` were replaced (id=10)"]);
    let two =
        "CREATE TABLE a(id INTEGER PRIMARY KEY); CREATE TABLE b(id INTEGER PRIMARY KEY, a_id INTEGER REFERENCES a(id) ON DELETE CASCADE);
        INSERT INTO a VALUES(1),(2); INSERT INTO b VALUES(1,1),(2,2)";
    loses(two, "DROP TABLE a", &["ON DELETE CASCADE, when `a` was dropped (id=1; id=2)"]);
}

#[test]
fn no_foreign_key_is_blamed_for_what_it_cannot_have_done() {
    let said = loses(
        FAMILY,
        "PRAGMA foreign_keys=OFF; CREATE TABLE n(id INTEGER PRIMARY KEY, name TEXT NOT NULL); INSERT INTO n SELECT * FROM users; DROP TABLE users;
         ALTER TABLE n RENAME TO users; DELETE FROM posts WHERE id = 11",
        &["1 of 3 rows of `posts` are gone (id=11)"],
    );
    assert!(!said.stderr.contains("`posts.author_id`"), "{}", said.stderr);
}

#[test]
fn orphans_are_named_with_their_foreign_key_and_rows() {
    loses(
        FAMILY,
        "PRAGMA foreign_keys=OFF; UPDATE comments SET post_id = 77 WHERE id > 100",
        &[
            "2 rows of `comments` now refer to rows that do not exist; through the foreign key `comments.post_id` -> `posts.id` (id=101, post_id=77; id=102, post_id=77)",
        ],
    );
}

#[test]
fn orphans_that_were_there_before_are_no_loss_and_new_ones_in_their_place_are() {
    let base = "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, p_id INTEGER REFERENCES p(id), q INTEGER);
        INSERT INTO p VALUES(1); INSERT INTO c VALUES(1,8,0),(2,1,0)";
    keeps(base, "PRAGMA foreign_keys=OFF; UPDATE c SET q = 1; ALTER TABLE c RENAME TO d", &[]);
    loses(
        base,
        "PRAGMA foreign_keys=OFF; UPDATE c SET p_id = 1 WHERE id = 1; UPDATE c SET p_id = 9 WHERE id = 2",
        &["1 row of `c` now refer", "(id=2, p_id=9)"],
    );
    loses(
        base,
        "PRAGMA foreign_keys=OFF; UPDATE c SET p_id = 9 WHERE id = 2",
        &["1 row of `c` now refer", "1 more did so before", "(id=2, p_id=9)"],
    );
}

#[test]
fn ledgers_are_named_with_their_new_entries_and_never_judged() {
    let base = "CREATE TABLE django_migrations(id INTEGER PRIMARY KEY, app TEXT, name TEXT); INSERT INTO django_migrations VALUES(1,'shop','0001_initial');
        CREATE TABLE t(x)";
    keeps(
        base,
        "INSERT INTO django_migrations VALUES(2,'shop','0002_more'),(3,'shop','0003_less')",
        &["ledger: `django_migrations` +2 rows (shop.0002_more, shop.0003_less)"],
    );
    keeps(base, "DELETE FROM django_migrations", &["ledger: `django_migrations` -1 row"]);
    keeps(base, "DROP TABLE django_migrations", &["ledger: `django_migrations` (dropped), -1 row"]);
    keeps(
        "CREATE TABLE alembic_version(version_num TEXT PRIMARY KEY); INSERT INTO alembic_version VALUES('a1')",
        "UPDATE alembic_version SET version_num='b2'",
        &["ledger: `alembic_version` +1 row, -1 row (b2)"],
    );
    let run = Sandbox::with(base).migrate(&["--json"], "INSERT INTO django_migrations VALUES(2,'shop','0002_more')").exits(0);
    assert_eq!(run.json()["tables"][0]["entries"][0], "shop.0002_more");
}

#[test]
fn a_column_all_set_to_one_value_is_loss() {
    let run = loses(
        PEOPLE,
        "UPDATE users SET email = 'x'",
        &[
            "all 40 values of `users.email` were overwritten; every one is 'x' now, 40 different ones are gone (id=1; id=2; id=3; id=4; id=5)",
            "--allow users.email",
        ],
    );
    assert!(!run.stderr.contains("nothing is left"));
    // Those that were NULL may stay so, and rows that came may have others.
    loses(
        PEOPLE,
        "UPDATE users SET score = 3; INSERT INTO users(id, score) VALUES(99, 5)",
        &["34 of 40 values of `users.score` were overwritten; every one is 3 now, 6 different"],
    );
    let sandbox = Sandbox::with(PEOPLE);
    let json = sandbox.migrate(&["--json"], "UPDATE users SET email = 'x'").exits(4).json();
    assert_eq!(json["losses"][0]["kind"], "overwritten");
    sandbox.migrate(&["--allow", "users.email"], "UPDATE users SET email = 'x'").exits(0).says(&["allowed: all 40 values"]);
}

#[test]
fn mass_changes_that_are_part_of_life_are_no_loss() {
    // A flag of two values is only remarked; one row that differs shows that it was no mistake.
    let two = "CREATE TABLE t(id INTEGER PRIMARY KEY, kind TEXT); INSERT INTO t VALUES(1,'a'),(2,'b'),(3,'a')";
    keeps(two, "UPDATE t SET kind = 'b'", &[]);
    keeps(two, "UPDATE t SET kind = 'c'", &["remark: every value of `t.kind` is 'c' now (3 changed)"]);
    keeps(PEOPLE, "UPDATE users SET email = 'x' WHERE id < 40", &[]);
    keeps(PEOPLE, "UPDATE users SET active = 0", &[]);
    // One that was put right afterwards does not.
    let repaired = "UPDATE users SET email = 'x'; UPDATE users SET email = 'root' WHERE id = 1";
    loses(PEOPLE, repaired, &["39 of 40 values of `users.email` were overwritten; all but 1 are 'x' now, 39 different ones are gone"]);
    // Times are set to now.
    let times = "CREATE TABLE t(id INTEGER PRIMARY KEY, at TEXT, n INTEGER);
        INSERT INTO t VALUES(1,'2026-01-01 10:00:00',1767323045),(2,'2026-02-01',1767323046),(3,'2026-03-01',1767323047)";
    let now = "UPDATE t SET at = '2026-11-20 12:00:00', n = 1795186800";
    keeps(times, now, &["remark: every value of `t.at` is '2026-11-20 12:00:00' now (3 changed)"]);
    loses(times, "UPDATE t SET at = 'never'", &["all 3 values of `t.at` were overwritten"]);
}

#[test]
fn an_overwritten_column_that_was_copied_first_has_moved() {
    keeps(
        PEOPLE,
        "ALTER TABLE users ADD COLUMN old_email TEXT; UPDATE users SET old_email = email; UPDATE users SET email = 'x'",
        &["moved: `users.email` to `users.old_email` (40 values)"],
    );
}

#[test]
fn values_cut_to_one_length_are_loss() {
    let base = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, b BLOB);
        INSERT INTO t VALUES(1,'Annabella',x'0102030405'),(2,'Bo',x'01'),(3,'Christopher',x'0907060504'),(4,'Éléonore',NULL)";
    let run = loses(
        base,
        "UPDATE t SET name = substr(name,1,5)",
        &["3 of 4 values of `t.name` were cut short; none is longer than 5 now (id=1; id=3; id=4)", "--allow t.name"],
    );
    assert!(!run.stderr.contains("t.b"));
    loses(base, "UPDATE t SET b = substr(b,1,2)", &["2 of 4 values of `t.b` were cut short; none is longer than 2 now"]);
    loses(
        base,
        "CREATE TABLE n(id INTEGER PRIMARY KEY, name VARCHAR(5), b BLOB); INSERT INTO n SELECT id, substr(name,1,5), b FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t",
        &["3 of 4 values of `t.name` did not survive the change of its type; 3 were cut to a length of 5"],
    );
}

#[test]
fn texts_that_lost_a_meaningless_end_are_no_loss() {
    let base = "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT);
        INSERT INTO t VALUES(1,'one   ','u1@old.example','abc'),(2,'two','u2@old.example','abcdef'),(3,'six   ','u3@old.example','xyzabc')";
    keeps(base, "UPDATE t SET a = trim(a)", &[]);
    keeps(base, "UPDATE t SET b = replace(b, '@old.example', '')", &[]);
    // Different lengths: somebody edited.
    keeps(base, "UPDATE t SET c = CASE id WHEN 2 THEN 'ab' WHEN 3 THEN 'xyz' ELSE c END", &[]);
}

/// Rebuilds `t(id, v)` with another type for `v`.
fn retype(to: &str, expression: &str) -> String {
    format!(
        "CREATE TABLE n(id INTEGER PRIMARY KEY, v {to}); INSERT INTO n SELECT id, {expression} FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t"
    )
}

fn values(of: &str, values: &str) -> String {
    let rows: Vec<String> = values.split(';').enumerate().map(|(at, value)| format!("({}, {value})", at + 1)).collect();
    format!("CREATE TABLE t(id INTEGER PRIMARY KEY, v {of}); INSERT INTO t VALUES {}", rows.join(", "))
}

#[test]
fn a_retype_that_destroys_values_is_loss() {
    for (from, before, to, expression, count) in [
        ("TEXT", "'2020-05-01';'2021-06-02';'2022-07-03'", "INTEGER", "CAST(v AS INTEGER)", "3 of 3"),
        ("TEXT", "'forty';'41';'42'", "INTEGER", "CAST(v AS INTEGER)", "1 of 3"),
        ("TEXT", "'5 kg';'7 lb'", "REAL", "CAST(v AS REAL)", "2 of 2"),
        ("REAL", "1.5;2.5;3.0", "INTEGER", "CAST(v AS INTEGER)", "2 of 3"),
        ("REAL", "1.2345;2.5;3.9999", "NUMERIC", "round(v, 2)", "2 of 3"),
        ("DECIMAL", "'1.2345';'2.5'", "REAL", "round(v, 2)", "1 of 2"),
        ("TEXT", "'1.2345';'2.5'", "REAL", "round(v, 2)", "1 of 2"),
        ("INTEGER", "9007199254740993;5", "REAL", "v", "1 of 2"),
        ("BLOB", "x'4142';x'4300ff'", "TEXT", "substr(v, 1, 1)", "2 of 2"),
        ("TEXT", "'open';'closed';'waiting'", "BOOLEAN", "v = 'open'", "3 of 3"),
        ("INTEGER", "0;1;2;3;4", "BOOLEAN", "v > 0", "3 of 5"),
        ("TEXT", "'a';'b'", "INTEGER", "CASE v WHEN 'a' THEN NULL ELSE 1 END", "1 of 2"),
    ] {
        let said = format!("{count} values of `t.v` did not survive the change of its type");
        loses(&values(from, before), &retype(to, expression), &[&said]);
    }
}

#[test]
fn a_retype_that_keeps_what_the_values_say_is_no_loss() {
    for (from, before, to, expression) in [
        ("TEXT", "'2020-05-01';'2021-06-02';'2022-07-03'", "INTEGER", "CAST(strftime('%s', v) AS INTEGER)"),
        ("TEXT", "'2020-05-01';'2021-06-02';'2022-07-03'", "INTEGER", "CAST(replace(v, '-', '') AS INTEGER)"),
        ("TEXT", "'1';'0';'1'", "BOOLEAN", "CAST(v AS INTEGER)"),
        ("TEXT", "'yes';'no';'Y'", "BOOLEAN", "v LIKE 'y%'"),
        ("TEXT", "'open';'closed';'waiting'", "INTEGER", "CASE v WHEN 'open' THEN 0 WHEN 'closed' THEN 1 ELSE 2 END"),
        ("TEXT", "'active';'inactive';'active'", "BOOLEAN", "v = 'active'"),
        ("TEXT", "'1,200';'3,400'", "INTEGER", "CAST(replace(v, ',', '') AS INTEGER)"),
        ("REAL", "1.5;2.25;3.0", "INTEGER", "CAST(v * 100 AS INTEGER)"),
        ("TEXT", "'{\"a\": 1}';'{\"b\": [1, 2]}'", "JSON", "json(v)"),
        ("TEXT", "'4142';'4344'", "BLOB", "unhex(v)"),
        ("BLOB", "x'4142';x'4344'", "TEXT", "hex(v)"),
        ("BLOB", "x'4142';x'4344'", "TEXT", "CAST(v AS TEXT)"),
        ("TEXT", "'Ann';'BOB'", "VARCHAR(9)", "upper(v)"),
        ("CHAR(9)", "'ann      ';'bob      '", "VARCHAR(9)", "trim(v)"),
        ("TEXT", "'5.50';'7.00'", "REAL", "CAST(v AS REAL)"),
        ("REAL", "0.30000000000000004;2.5", "TEXT", "CAST(v AS TEXT)"),
        ("INTEGER", "5;7", "TEXT", "CAST(v AS TEXT)"),
    ] {
        keeps(&values(from, before), &retype(to, expression), &[]);
    }
}

#[test]
fn rows_of_a_dropped_table_that_stand_in_another_have_moved() {
    let base = format!("{PEOPLE} DROP TABLE posts; CREATE TABLE people(pid INTEGER PRIMARY KEY, first TEXT, last TEXT, mail TEXT, country TEXT, score INT, active INT);
        INSERT INTO people VALUES(1,'Old','Hand','old@example.org','Peru',9,0);");
    let copy = "INSERT INTO people(first,last,mail,country,score,active) SELECT first,last,email,country,score,active FROM users";
    let run = keeps(&base, &format!("{copy}; DROP TABLE users"), &["moved: 40 rows of `users` to `people`"]);
    assert!(!run.stderr.contains("gone"));
    loses(
        &base,
        &format!("{copy} WHERE id <= 30; DROP TABLE users"),
        &["table `users` was dropped, and 10 of its 40 rows stand nowhere now; 30 others stand in `people` now"],
    );
    loses(
        &base,
        "INSERT INTO people(first,last,country,score,active) SELECT first,last,country,score,active FROM users; DROP TABLE users",
        &["column `users.email` was dropped with 40 values; its rows went to `people` without it", "moved: 40 rows of `users` to `people`"],
    );
    let json = Sandbox::with(&base).migrate(&["--json"], &format!("{copy}; DROP TABLE users")).exits(0).json();
    assert_eq!((json["moved"][0]["to_table"].as_str(), json["moved"][0]["count"].as_u64()), (Some("people"), Some(40)));
}

#[test]
fn a_table_split_in_two_has_moved() {
    let base = PEOPLE.split("CREATE TABLE posts").next().unwrap();
    keeps(
        base,
        "CREATE TABLE actives AS SELECT * FROM users WHERE id%4; CREATE TABLE others AS SELECT * FROM users WHERE id%4=0; DROP TABLE users",
        &["moved: 10 rows of `users` to `others`"],
    );
    keeps(
        base,
        "CREATE TABLE names(id INTEGER PRIMARY KEY, first TEXT, last TEXT, score INT, active INT, lives_in TEXT); INSERT INTO names SELECT id,first,last,score,active,country FROM users;
         CREATE TABLE emails(id INTEGER PRIMARY KEY, user_id INTEGER, address TEXT); INSERT INTO emails(user_id,address) SELECT id,email FROM users ORDER BY email; DROP TABLE users",
        &["`emails.address` (40 values)"],
    );
}

#[test]
fn archived_rows_have_moved_and_deleted_ones_have_not() {
    let base = "CREATE TABLE jobs(id INTEGER PRIMARY KEY, name TEXT, done INTEGER); CREATE TABLE jobs_archive(id INTEGER PRIMARY KEY, name TEXT, done INTEGER);
        WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<20) INSERT INTO jobs SELECT x, 'job '||x, x%2 FROM c";
    keeps(
        base,
        "INSERT INTO jobs_archive SELECT * FROM jobs WHERE done; DELETE FROM jobs WHERE done",
        &["moved: 10 rows of `jobs` to `jobs_archive`"],
    );
    loses(
        base,
        "INSERT INTO jobs_archive SELECT * FROM jobs WHERE done AND id < 15; DELETE FROM jobs WHERE done",
        &["3 of 20 rows of `jobs` are gone; 7 others stand in `jobs_archive` now (id=15; id=17; id=19)"],
    );
}

#[test]
fn rows_that_have_other_keys_now_have_moved() {
    keeps(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES(1,'ann'),(2,'bob'),(3,'cid')",
        "UPDATE t SET id = id + 100",
        &["moved: 3 rows of `t` to other keys"],
    );
    loses(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES(1,'ann'),(2,'bob'),(3,'cid')",
        "DELETE FROM t; INSERT INTO t VALUES(101,'ann'),(102,'dan')",
        &["2 of 3 rows of `t` are gone; 1 other stands in `t` now (id=2; id=3)"],
    );
}

#[test]
fn equal_rows_that_became_one_have_moved_and_kinds_of_a_long_list_have_not() {
    let base = "CREATE TABLE subs(id INTEGER PRIMARY KEY, mail TEXT); INSERT INTO subs VALUES(1,'a@x.org'),(2,'b@x.org'),(3,'c@x.org'),(4,'a@x.org')";
    keeps(
        base,
        "CREATE TABLE mails(id INTEGER PRIMARY KEY, mail TEXT UNIQUE); INSERT OR IGNORE INTO mails(mail) SELECT mail FROM subs; DROP TABLE subs",
        &["moved: 1 row of `subs` to an equal one still there"],
    );
    keeps(
        base,
        "CREATE TABLE mails(id INTEGER PRIMARY KEY, kind INT, mail TEXT UNIQUE); INSERT INTO mails VALUES(9,1,'z@x.org');
        INSERT OR IGNORE INTO mails(mail) SELECT mail FROM subs; DROP TABLE subs",
        &["moved: 4 rows of `subs` to `mails`, 3 different"],
    );
    keeps(base, "DELETE FROM subs WHERE id = 4", &["moved: 1 row of `subs` to an equal one still there"]);
    loses(
        &format!("{base}; INSERT INTO subs VALUES(5,'a@x.org')"),
        "DELETE FROM subs WHERE id = 4",
        &["1 of 5 rows of `subs` are gone (id=4)"],
    );
    let events = "CREATE TABLE events(id INTEGER PRIMARY KEY, kind TEXT);
        WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<100) INSERT INTO events SELECT x, 'kind '||(x%4) FROM c";
    loses(
        events,
        "CREATE TABLE kinds(id INTEGER PRIMARY KEY, kind TEXT); INSERT INTO kinds(kind) SELECT DISTINCT kind FROM events; DROP TABLE events",
        &["96 of 100 rows of `events` are gone"],
    );
}

#[test]
fn a_table_merged_into_the_rows_of_another_has_moved() {
    let base = "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO users VALUES(1,'ann'),(2,'bob'),(3,'cid'),(4,'dan');
        CREATE TABLE profiles(id INTEGER PRIMARY KEY, user_id INTEGER, bio TEXT, likes TEXT);
        INSERT INTO profiles VALUES(7,1,'climber','rope'),(8,2,'baker',NULL),(9,3,'sailor','wind')";
    keeps(
        base,
        "ALTER TABLE users ADD COLUMN bio TEXT; ALTER TABLE users ADD COLUMN likes TEXT;
         UPDATE users SET (bio, likes) = (SELECT bio, likes FROM profiles WHERE user_id = users.id); DROP TABLE profiles",
        &["moved: 3 rows of `profiles` to `users`"],
    );
}

#[test]
fn tables_that_are_only_alike_hide_no_dropped_one() {
    for sql in [
        // Other values under the same names; the same small numbers under others; flags and counts.
        "CREATE TABLE people(id INTEGER PRIMARY KEY, first TEXT, last TEXT, email TEXT); INSERT INTO people SELECT id, 'A'||id, 'B'||id, 'c'||id FROM users",
        "CREATE TABLE levels(id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO levels SELECT id, id%7 FROM users",
        "CREATE TABLE flags(id INTEGER PRIMARY KEY, active INTEGER); INSERT INTO flags SELECT id, 1 FROM users",
    ] {
        loses(
            PEOPLE,
            &format!("PRAGMA foreign_keys=OFF; {sql}; DROP TABLE posts; DROP TABLE users"),
            &["table `users` was dropped with 40 rows"],
        );
    }
    let tags = "CREATE TABLE post_tags(post INTEGER, tag INTEGER, PRIMARY KEY(post, tag)); INSERT INTO post_tags VALUES(1,1),(1,2),(2,1)";
    keeps(
        tags,
        "CREATE TABLE taggings(id INTEGER PRIMARY KEY, tag INTEGER, post INTEGER); INSERT INTO taggings(post, tag) SELECT * FROM post_tags; DROP TABLE post_tags",
        &[],
    );
    loses(
        tags,
        "CREATE TABLE taggings(id INTEGER PRIMARY KEY, tag INTEGER, post INTEGER); INSERT INTO taggings(post, tag) VALUES(1,1),(1,2),(2,2); DROP TABLE post_tags",
        &["1 of 3 rows of `post_tags` are gone (post=2, tag=1)"],
    );
}

#[test]
fn a_column_split_off_into_another_table_has_moved() {
    keeps(
        PEOPLE,
        "CREATE TABLE emails(id INTEGER PRIMARY KEY, user INTEGER, address TEXT); INSERT INTO emails(user, address) SELECT id, email FROM users ORDER BY email;
         ALTER TABLE users DROP COLUMN email",
        &["moved: `users.email` to `emails.address` (40 values)"],
    );
    keeps(
        PEOPLE,
        "CREATE TABLE scores(id INTEGER PRIMARY KEY, user INTEGER, score INTEGER); INSERT INTO scores(user, score) SELECT id, score FROM users ORDER BY email;
         ALTER TABLE users DROP COLUMN score",
        &["moved: `users.score` to `scores.score` (40 values)"],
    );
    loses(
        PEOPLE,
        "CREATE TABLE emails(id INTEGER PRIMARY KEY, user INTEGER, address TEXT); INSERT INTO emails(user, address) SELECT id, email FROM users WHERE id > 1;
         ALTER TABLE users DROP COLUMN email",
        &["column `users.email` was dropped with 40 values"],
    );
}

#[test]
fn a_column_made_into_a_lookup_table_has_moved() {
    keeps(
        PEOPLE,
        "CREATE TABLE countries(id INTEGER PRIMARY KEY, name TEXT UNIQUE); INSERT INTO countries(name) SELECT DISTINCT country FROM users;
         ALTER TABLE users ADD COLUMN country_id INTEGER; UPDATE users SET country_id = (SELECT id FROM countries WHERE name = country);
         ALTER TABLE users DROP COLUMN country",
        &["moved: `users.country` to `countries.name` (40 values, 3 different)"],
    );
    // Of numbers, too, it is the reference that tells.
    keeps(
        PEOPLE,
        "CREATE TABLE levels(id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO levels(n) SELECT DISTINCT score FROM users ORDER BY score DESC;
         ALTER TABLE users ADD COLUMN level INTEGER; UPDATE users SET level = (SELECT id FROM levels WHERE n = score); ALTER TABLE users DROP COLUMN score",
        &["moved: `users.score` to `levels.n` (40 values, 7 different)"],
    );
    // Small numbers stand in every table.
    loses(
        PEOPLE,
        "CREATE TABLE levels(id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO levels(n) SELECT DISTINCT score FROM users; ALTER TABLE users DROP COLUMN score",
        &["column `users.score` was dropped with 40 values"],
    );
}

#[test]
fn names_put_together_or_taken_apart_have_moved() {
    keeps(
        PEOPLE,
        "ALTER TABLE users ADD COLUMN name TEXT; UPDATE users SET name = first || ' ' || last; ALTER TABLE users DROP COLUMN first; ALTER TABLE users DROP COLUMN last",
        &["moved: `users.first` into `users.name` (40 values)", "moved: `users.last` into `users.name` (40 values)"],
    );
    let whole = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES(1,'Ann Lee'),(2,'Bob Ray'),(3,'Cid Orr')";
    let split = "ALTER TABLE t ADD COLUMN a TEXT; ALTER TABLE t ADD COLUMN b TEXT; UPDATE t SET a = substr(name,1,3), b = substr(name,5)";
    keeps(whole, &format!("{split}; ALTER TABLE t DROP COLUMN name"), &["moved: `t.name` into `t.a`, `t.b` (3 values)"]);
    loses(
        whole,
        &format!("{split}; UPDATE t SET b = 'Roe' WHERE id = 2; ALTER TABLE t DROP COLUMN name"),
        &["column `t.name` was dropped with 3 values"],
    );
}

#[test]
fn a_flag_that_stands_beside_another_like_it_has_not_moved() {
    loses(
        PEOPLE,
        "CREATE TABLE prefs(user INTEGER PRIMARY KEY, mails INTEGER); INSERT INTO prefs SELECT id, 1 FROM users; ALTER TABLE users DROP COLUMN active",
        &["column `users.active` was dropped with 40 values"],
    );
}

#[test]
fn an_emptied_column_that_was_copied_first_has_moved() {
    keeps(
        PEOPLE,
        "CREATE TABLE emails(user INTEGER PRIMARY KEY, address TEXT); INSERT INTO emails SELECT id, email FROM users; UPDATE users SET email = NULL",
        &["moved: `users.email` to `emails.address` (40 values)"],
    );
    loses(PEOPLE, "UPDATE users SET email = ''", &["column `users.email` lost all of its 40 values: nothing is left of them (id=1; id=2;"]);
}

#[test]
fn a_column_that_held_only_empty_texts_is_no_loss() {
    keeps("CREATE TABLE t(id INTEGER PRIMARY KEY, note TEXT); INSERT INTO t VALUES(1,''),(2,NULL)", "ALTER TABLE t DROP COLUMN note", &[]);
}

#[test]
fn a_column_that_held_its_default_everywhere_is_no_loss() {
    let base = "CREATE TABLE t(id INTEGER PRIMARY KEY, legacy INTEGER NOT NULL DEFAULT 0); INSERT INTO t(id) VALUES(1),(2)";
    keeps(base, "ALTER TABLE t DROP COLUMN legacy", &[]);
    loses(
        &format!("{base},(3); UPDATE t SET legacy = 1 WHERE id = 3"),
        "ALTER TABLE t DROP COLUMN legacy",
        &["column `t.legacy` was dropped with 3 values"],
    );
}

#[test]
fn an_allowance_may_use_the_new_name() {
    let base = "CREATE TABLE old(id INTEGER PRIMARY KEY, a TEXT, b TEXT);
        INSERT INTO old VALUES(1,'ann','x'),(2,'bob','y'),(3,'cid','z'),(4,'dan','w'),(5,'eve','v')";
    let sql = "ALTER TABLE old RENAME TO new; ALTER TABLE new RENAME COLUMN a TO c; ALTER TABLE new DROP COLUMN b";
    for allow in ["new.b", "old.b", "new", "OLD"] {
        Sandbox::with(base).migrate(&["--allow", allow], sql).exits(0).says(&["allowed: column `old.b` was dropped"]);
    }
    Sandbox::with(base).migrate(&["--allow", "new.c"], sql).exits(4);
}

#[test]
fn without_foreign_keys_a_rebuild_that_drops_a_column_says_which() {
    let sql = format!(
        "{WITHOUT} CREATE TABLE n(id INTEGER PRIMARY KEY, first TEXT, last TEXT, email TEXT, country TEXT, score INT);
        INSERT INTO n SELECT id, first, last, email, country, score FROM users; DROP TABLE users; ALTER TABLE n RENAME TO users"
    );
    loses(PEOPLE, &sql, &["column `users.active` was dropped with 40 values", "--allow users.active"]);
}

/// Two hundred items in eight categories, whose key is rebuilt or replaced.
fn items(action: &str) -> String {
    format!(
        "CREATE TABLE cat(id INTEGER PRIMARY KEY, n TEXT); INSERT INTO cat VALUES(1,'a'),(2,'b'),(3,'c'),(4,'d'),(5,'e'),(6,'f'),(7,'g'),(8,'h');
        CREATE TABLE item(id INTEGER PRIMARY KEY, cat_id INTEGER DEFAULT 8 REFERENCES cat(id) ON DELETE {action}, x TEXT);
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<200) INSERT INTO item SELECT i, i%8+1, 'x'||i FROM c"
    )
}

#[test]
fn values_that_came_or_were_repaired_hide_no_emptied_column() {
    let rebuild = "CREATE TABLE m(id INTEGER PRIMARY KEY, n TEXT NOT NULL); INSERT INTO m SELECT id,n FROM cat; DROP TABLE cat; ALTER TABLE m RENAME TO cat";
    let base = items("SET NULL");
    let cause = "they went through the foreign key `item.cat_id` -> `cat.id` ON DELETE SET NULL, when `cat` was rebuilt";
    let seed = format!("{rebuild}; INSERT INTO item(cat_id,x) VALUES(1,'new')");
    loses(&base, &seed, &["column `item.cat_id` lost all of its 200 values: nothing is left of them", cause]);
    let repair = format!("{rebuild}; UPDATE item SET cat_id = 3 WHERE id = 5");
    loses(&base, &repair, &["column `item.cat_id` lost 199 of its 200 values; they went through", cause]);

    let copy =
        "CREATE TABLE m(id INTEGER PRIMARY KEY, cat_id INTEGER, x TEXT DEFAULT 'x2'); INSERT INTO m(id,cat_id) SELECT id,cat_id FROM item;
        DROP TABLE item; ALTER TABLE m RENAME TO item";
    let seed = format!("{copy}; INSERT INTO item VALUES(999,1,'new'),(1000,1,'newer')");
    loses(&base, &seed, &["column `item.x` lost all of its 199 values"]);
    // Also where what was repaired is what it was.
    let repair = format!("{copy}; UPDATE item SET x = 'x'||id WHERE id < 9");
    loses(&base, &repair, &["column `item.x` lost 192 of its 199 values"]);
}

#[test]
fn clearing_what_was_chosen_is_no_emptied_column() {
    let base = items("SET NULL");
    keeps(&base, "UPDATE item SET x = NULL WHERE id <> 7", &["remark: 199 of 200 values of `item.x` are gone"]);
    // Some texts could not be put right.
    keeps(&base, "UPDATE item SET x = CASE WHEN id < 9 THEN NULL ELSE x||'!' END", &[]);
}

#[test]
fn references_that_a_foreign_key_took_are_loss_though_others_stand() {
    let replace = "INSERT OR REPLACE INTO cat SELECT id, upper(n) FROM cat WHERE id < 5";
    for action in ["SET NULL", "SET DEFAULT"] {
        let cause = format!("ON DELETE {action}, when rows of `cat` were replaced (id=1; id=2; id=3;");
        loses(&items(action), replace, &["column `item.cat_id` lost 100 of its ", " values; they went through the foreign key", &cause]);
    }
    // One that came, and one that was repaired, hide nothing.
    let more = format!(
        "{replace}; INSERT INTO item(cat_id) VALUES(1); UPDATE item SET cat_id = 2 WHERE id = 1; UPDATE cat SET n = 'z' WHERE id = 8"
    );
    loses(&items("SET NULL"), &more, &["column `item.cat_id` lost 99 of its 200 values"]);
    // A kind that was merged into another, whose references nobody moved.
    loses(
        &format!("{}; INSERT INTO cat VALUES(9,'a'); UPDATE item SET cat_id = 9 WHERE id < 11", items("SET NULL")),
        "DELETE FROM cat WHERE id = 9",
        &["column `item.cat_id` lost 10 of its 200 values", "when rows of `cat` were deleted"],
    );
}

#[test]
fn references_that_an_update_chose_are_no_loss() {
    let base = items("SET NULL");
    // Each is spoken for by another that stays.
    keeps(&base, "UPDATE cat SET n = upper(n); UPDATE item SET cat_id = NULL WHERE cat_id = 3", &[]);
    keeps(&base, "UPDATE cat SET n = upper(n) WHERE id = 3; UPDATE item SET cat_id = NULL WHERE cat_id = 3 AND id > 20", &[]);
    keeps(&base, "UPDATE item SET cat_id = NULL WHERE cat_id = 3", &[]);
    // They follow what they refer to.
    keeps(
        &base,
        "PRAGMA foreign_keys=OFF; UPDATE item SET cat_id = 1 WHERE cat_id = 2; DELETE FROM cat WHERE id = 2; INSERT INTO cat VALUES(2,'b')",
        &[],
    );
}

#[test]
fn rows_that_came_or_were_spared_hide_no_cut() {
    let base = "CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT);
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<40) INSERT INTO t SELECT i, 'this is what number '||i||' had to say' FROM c";
    loses(
        base,
        "UPDATE t SET body = substr(body,1,21); INSERT INTO t(body) VALUES('a new one, which is longer than that')",
        &["40 of 40 values of `t.body` were cut short; none is longer than 21 now"],
    );
    loses(
        base,
        "UPDATE t SET body = substr(body,1,21) WHERE id > 1",
        &["39 of 40 values of `t.body` were cut short; all but 1 are no longer than 21 now"],
    );
    keeps(base, "UPDATE t SET body = substr(body,1,21) WHERE id > 20", &[]);
}

/// Makes a lookup table of the countries.
const COUNTRIES: &str =
    "CREATE TABLE countries(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO countries(name) SELECT DISTINCT country FROM users";

#[test]
fn a_lookup_table_that_no_row_leads_to_holds_nothing() {
    let add = "ALTER TABLE users ADD COLUMN country_id INTEGER";
    let set = "UPDATE users SET country_id = (SELECT id FROM countries WHERE name = country)";
    for link in [
        String::new(),
        format!("{add};"),
        format!("{add}; UPDATE users SET country_id = 1;"),
        format!("{add}; {set} WHERE id < 30;"),
        // Joined by the wrong column.
        format!(
            "{add}; UPDATE users SET country_id = (SELECT c.id FROM countries c WHERE c.id = users.id%3+1 OR c.id = 1 AND users.id = 8 LIMIT 1);"
        ),
    ] {
        loses(
            PEOPLE,
            &format!("{COUNTRIES}; {link} ALTER TABLE users DROP COLUMN country"),
            &["column `users.country` was dropped with 40 values"],
        );
    }
    let emptied = "column `users.country` lost all of its 40 values";
    loses(PEOPLE, &format!("{COUNTRIES}; UPDATE users SET country = NULL"), &[emptied]);
    keeps(
        PEOPLE,
        &format!("{COUNTRIES}; {add}; {set}; UPDATE users SET country = NULL"),
        &["moved: `users.country` to `countries.name` (40 values, 3 different)"],
    );
    // The rows went to another table under other keys.
    let base = PEOPLE.split("CREATE TABLE posts").next().unwrap();
    let table = "CREATE TABLE people(pid INTEGER PRIMARY KEY, first TEXT, last TEXT, mail TEXT, score INT, active INT, cid INT)";
    let copy = "INSERT INTO people(first,last,mail,score,active,cid) SELECT first,last,email,score,active,CID FROM users JOIN countries c ON name = country ORDER BY last";
    let went = format!("{COUNTRIES}; {table}; {copy}; DROP TABLE users");
    keeps(base, &went.replace("CID", "c.id"), &["moved: `users.country` to `countries.name` (40 values, 3 different)"]);
    loses(base, &went.replace("CID", "1"), &["column `users.country` was dropped with 40 values; its rows went to `people` without it"]);
}

#[test]
fn a_table_of_statistics_is_no_lookup_table() {
    loses(
        PEOPLE,
        "CREATE TABLE stats(country TEXT, n INTEGER); INSERT INTO stats SELECT country, count(*) FROM users GROUP BY 1; ALTER TABLE users DROP COLUMN country",
        &["column `users.country` was dropped with 40 values"],
    );
}

#[test]
fn values_in_the_rows_of_others_have_not_moved() {
    loses(
        PEOPLE,
        "ALTER TABLE users ADD COLUMN mail TEXT; UPDATE users SET mail = (SELECT email FROM users u WHERE u.id = 41 - users.id); ALTER TABLE users DROP COLUMN email",
        &["column `users.email` was dropped with 40 values"],
    );
}

#[test]
fn rows_of_several_columns_lead_to_their_values_by_all_of_them() {
    let base = "CREATE TABLE names(post INTEGER, lang TEXT, name TEXT, mood TEXT, PRIMARY KEY(post, lang)) WITHOUT ROWID;
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<20) INSERT INTO names SELECT i, l, 'name '||i||l, 'mood '||(i%4) FROM c, (SELECT 'en' l UNION SELECT 'de')";
    let split = "CREATE TABLE texts(id INTEGER PRIMARY KEY, post INTEGER, lang TEXT, v TEXT); INSERT INTO texts(post,lang,v) SELECT post,lang,name FROM names ORDER BY name";
    let drop = "ALTER TABLE names DROP COLUMN name";
    keeps(base, &format!("{split}; {drop}"), &["moved: `names.name` to `texts.v` (40 values)"]);
    loses(
        base,
        &format!("{split}; UPDATE texts SET lang = 'fr' WHERE id = 3; {drop}"),
        &["column `names.name` was dropped with 40 values"],
    );
    keeps(
        base,
        "CREATE TABLE moods(id INTEGER PRIMARY KEY, m TEXT); INSERT INTO moods(m) SELECT DISTINCT mood FROM names; ALTER TABLE names ADD COLUMN mid INTEGER;
         UPDATE names SET mid = (SELECT id FROM moods WHERE m = mood); ALTER TABLE names DROP COLUMN mood",
        &["moved: `names.mood` to `moods.m` (40 values, 4 different)"],
    );
}

#[test]
fn values_that_others_stand_for_one_to_one_have_moved() {
    let code = |code: &str| {
        format!("ALTER TABLE users ADD COLUMN code INTEGER; UPDATE users SET code = {code}; ALTER TABLE users DROP COLUMN country")
    };
    keeps(
        PEOPLE,
        &code("CASE country WHEN 'Chile' THEN 0 WHEN 'Ghana' THEN 1 ELSE 2 END"),
        &["moved: `users.country` to `users.code` (40 values, 3 different)"],
    );
    for lossy in ["country = 'Chile'", "CASE country WHEN 'Chile' THEN 0 WHEN 'Ghana' THEN 1 END", "id"] {
        loses(PEOPLE, &code(lossy), &["column `users.country` was dropped with 40 values"]);
    }
    // Any other key goes one to one with what is different everywhere.
    loses(
        PEOPLE,
        "ALTER TABLE users ADD COLUMN uuid TEXT; UPDATE users SET uuid = hex(randomblob(8)); ALTER TABLE users DROP COLUMN email",
        &["column `users.email` was dropped with 40 values"],
    );
}

#[test]
fn a_column_whose_copy_was_made_before_has_moved() {
    let base = format!("{PEOPLE} ALTER TABLE users ADD COLUMN mail TEXT; UPDATE users SET mail = email;");
    keeps(&base, "ALTER TABLE users DROP COLUMN email", &["moved: `users.email` to `users.mail` (40 values)"]);
    loses(
        &format!("{base} UPDATE users SET mail = 'x' WHERE id = 4"),
        "ALTER TABLE users DROP COLUMN email",
        &["column `users.email` was dropped"],
    );
}

#[test]
fn mass_changes_that_may_be_meant_are_remarked() {
    let base = "CREATE TABLE t(id INTEGER PRIMARY KEY, zip TEXT, city TEXT, price REAL);
        WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<20) INSERT INTO t SELECT i, '0'||(1234+i), 'City '||i||' on Sea', i+0.75 FROM c";
    let copy = "CREATE TABLE n(id INTEGER PRIMARY KEY, city TEXT, zip TEXT, price REAL); INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t";
    for (sql, said) in [
        (
            copy,
            &["20 values of `t.zip` are those that stood in `city` before", "20 values of `t.city` are those that stood in `zip` before"][..],
        ),
        ("UPDATE t SET price = round(price)", &["20 values of `t.price` have fewer digits now"]),
        ("UPDATE t SET zip = CAST(zip + 0 AS TEXT)", &["20 values of `t.zip` have fewer digits now"]),
        ("UPDATE t SET city = substr(city, 1, length(city) - 3 - id/4)", &["20 values of `t.city` are only their own beginning now"]),
        ("UPDATE t SET city = 'none' WHERE id > 2", &["18 of 20 values of `t.city` are 'none' now"]),
    ] {
        keeps(base, sql, said);
    }
    for sql in ["UPDATE t SET price = price * 1.19, city = upper(city), zip = zip||'0'", "UPDATE t SET city = NULL WHERE id < 3"] {
        let run = keeps(base, sql, &[]);
        assert!(!run.stderr.contains("remark"), "{sql}: {}", run.stderr);
    }
}

#[test]
fn a_text_that_all_rows_have_holds_no_part_of_them() {
    let all =
        "ALTER TABLE users ADD COLUMN note TEXT; UPDATE users SET note = 'Chile, Ghana, Japan'; ALTER TABLE users DROP COLUMN country";
    loses(PEOPLE, all, &["column `users.country` was dropped with 40 values"]);
}

#[test]
fn an_empty_text_is_nothing_to_a_change_of_type_either() {
    keeps(&values("TEXT", "'5';'';'7'"), &retype("INTEGER", "nullif(v, '')"), &[]);
    loses(&values("TEXT", "'5';'x';'7'"), &retype("INTEGER", "nullif(v, 'x')"), &["1 of 3 values of `t.v` did not survive"]);
}

#[test]
fn rows_whose_key_alone_was_made_another_are_not_gone() {
    let base = "CREATE TABLE people(email TEXT PRIMARY KEY, name TEXT, age INT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<50) INSERT INTO people SELECT 'User'||i||'@X.org', 'name '||i, i FROM n;";
    let good = Sandbox::with(base);
    good.migrate(&[], "UPDATE people SET email = lower(email)").exits(0);
    let bad = Sandbox::with(base);
    bad.migrate(&[], "UPDATE people SET email = lower(email); DELETE FROM people WHERE age > 40").exits(4);
    let other = Sandbox::with(base);
    let anew = "DELETE FROM people; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<50)
        INSERT INTO people SELECT 'other'||i, 'someone '||i, i FROM n";
    other.migrate(&[], anew).exits(4).says(&["50 of 50 rows of `people` are gone"]);
}

#[test]
fn rows_that_were_deleted_by_themselves_are_not_explained_by_a_foreign_key() {
    let base = "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE posts(id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users(id) ON DELETE CASCADE, body TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<40) INSERT INTO users SELECT i, 'name '||i FROM n;
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) INSERT INTO posts SELECT i, i%40+1, 'body '||i FROM n;
        INSERT INTO posts SELECT 900+id, 900+id, 'of nobody' FROM users WHERE id < 4;";
    for sql in [
        "DELETE FROM posts WHERE id < 50; UPDATE users SET name = name || '!'",
        "DELETE FROM posts WHERE user_id NOT IN (SELECT id FROM users)",
        "DELETE FROM posts WHERE id % 3 = 0; ALTER TABLE users ADD COLUMN age",
        "DELETE FROM posts; ALTER TABLE users ADD COLUMN age",
    ] {
        let sandbox = Sandbox::with(base);
        let run = sandbox.migrate(&[], sql).exits(4);
        assert!(!run.stderr.contains("through the foreign key"), "{sql}\n{}", run.stderr);
    }
}
