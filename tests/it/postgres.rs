//! PostgreSQL through the built binary, and `pg_dump` and digests of all rows to say what is really there.

mod drill;
mod types;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::cluster::{Cluster, PASSWORD, TestDatabase, assert_same};
use crate::sandbox::{Run, Sandbox, finish};

/// A database with everything that a server of version 13 has.
const EVERYTHING: &str = include_str!("everything.sql");

/// What a migration script is run by; the name of its file is `up.sql`.
const PSQL: [&str; 8] = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "up.sql", "{url}"];

/// The same, failing after its last statement.
const PSQL_AND_FAIL: [&str; 5] = ["sh", "-c", "psql -X -q -v ON_ERROR_STOP=1 -f up.sql \"$1\" || exit 9; exit 1", "sh", "{url}"];

/// A project folder and its database.
struct Project {
    cluster: &'static Cluster,
    sandbox: Sandbox,
    database: TestDatabase<'static>,
    url: String,
}

impl Project {
    /// Makes a project whose database these statements made; none where there is no server.
    #[track_caller]
    fn with(sql: &str) -> Option<Self> {
        let cluster = Cluster::shared()?;
        cluster.roles(&["dbelay_reader", "dbelay_owner"]);
        let (sandbox, database) = (Sandbox::new(), cluster.database());
        let url = database.url();
        let project = Self { cluster, sandbox, database, url };
        project.sql(sql);
        Some(project)
    }

    /// Runs statements, each in a transaction of its own.
    #[track_caller]
    fn sql(&self, sql: &str) {
        std::fs::write(self.sandbox.path("setup.sql"), sql).unwrap();
        self.database.file(&self.sandbox.path("setup.sql"));
    }

    /// Runs the binary on the database.
    #[track_caller]
    fn dbelay(&self, arguments: &[&str]) -> Run {
        let mut command = self.sandbox.command();
        finish(command.env("PATH", self.cluster.path()).args(["--db", &self.url]).args(arguments))
    }

    /// Goes on as a superuser of its own, whose databases no other test makes or drops.
    fn by_own_superuser(mut self) -> Self {
        let role = format!("{}_super", self.database.name());
        self.cluster.roles(&[&role]);
        self.database.psql(&format!("ALTER ROLE {role} SUPERUSER"));
        self.url = self.database.url_as(&role);
        self
    }

    /// Counts the databases of that superuser.
    fn own_databases(&self) -> String {
        let owned = "SELECT count(*) FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba WHERE rolname";
        self.database.psql(&format!("{owned} = '{}_super'", self.database.name()))
    }

    #[track_caller]
    fn migrate_by(&self, command: &[&str], options: &[&str], sql: &str) -> Run {
        std::fs::write(self.sandbox.path("up.sql"), sql).unwrap();
        let arguments: Vec<&str> = ["migrate"].iter().chain(options).chain(&["--"]).chain(command).copied().collect();
        self.dbelay(&arguments)
    }

    /// Runs a migration that is this SQL.
    #[track_caller]
    fn migrate(&self, options: &[&str], sql: &str) -> Run {
        self.migrate_by(&PSQL, options, sql)
    }

    /// Runs each of these migrations, which fail at their end, and asserts that the database is rolled back to what it was.
    #[track_caller]
    fn comes_back_from(&self, migrations: &[(&str, &str)]) {
        let before = self.database.state();
        for (name, sql) in migrations {
            println!("migration: {name}");
            let run = self.migrate_by(&PSQL_AND_FAIL, &["--on-failure", "rollback"], sql).exits(4);
            run.says(&["the migration command failed (exit 1", "was rolled back to snapshot", "and verified"]);
            assert_same(&before, &self.database.state(), name);
        }
        self.dbelay(&["diff", "pre", "live", "--exit-code"]).exits(0);
        self.dbelay(&["fsck", "--read-data"]).exits(0);
    }

    /// Returns the rows of a table in a state, as `cat` gives them.
    #[track_caller]
    fn rows(&self, snapshot: &str, table: &str) -> Vec<Value> {
        let run = self.dbelay(&["cat", snapshot, table, "--format", "jsonl"]).exits(0);
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Counts rows, or whatever the query's first number is.
    #[track_caller]
    fn number(&self, sql: &str) -> i64 {
        self.database.psql(sql).trim().parse().unwrap()
    }

    /// Opens a session that has run these statements and stays where it is.
    fn held(&self, sql: &str) -> Held {
        let mut command = self.database.session();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{sql}\n\\echo held").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "held"), "the session ended: {sql}");
        Held(child)
    }
}

/// A session that stays until it is dropped.
struct Held(Child);

impl Held {
    /// Runs these statements, and ends the session.
    fn ends(mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{sql}").unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

const CHATS: &str = "
CREATE TABLE chats(id serial PRIMARY KEY, title text);
CREATE TABLE messages(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, chat_id integer REFERENCES chats ON DELETE CASCADE, body text);
INSERT INTO chats(title) VALUES('a'), ('b');
INSERT INTO messages(chat_id, body) VALUES(1, 'x'), (1, 'y'), (2, 'z');
";

#[test]
fn the_server_of_the_tests_tells_states_apart() {
    let Some(project) = Project::with("CREATE TABLE t(id serial PRIMARY KEY, \"T x\" text); INSERT INTO t(\"T x\") VALUES('a'), (NULL)")
    else {
        return;
    };
    let database = &project.database;
    let (before, dump) = (database.checksums(), database.dump());
    assert!(before.contains("rows public.t|2|") && before.contains("sequence public.t_id_seq|2|t"), "{before}");
    assert!(dump.contains("CREATE TABLE public.t"), "{dump}");
    assert_eq!(database.psql_as("dbelay_reader", "SELECT current_user").trim(), "dbelay_reader");
    database.psql("UPDATE t SET \"T x\" = '' WHERE id = 2");
    assert_ne!(before, database.checksums());
    assert_eq!(dump, database.dump());
    let everything = project.cluster.database();
    std::fs::write(project.sandbox.path("everything.sql"), EVERYTHING).unwrap();
    everything.file(&project.sandbox.path("everything.sql"));
    assert_same(&everything.state(), &everything.state(), "nothing was changed");
}

#[test]
fn snapshots_of_a_server_are_listed_shown_compared_and_returned_to() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    let before = project.database.state();
    let first = project.dbelay(&["snapshot", "-m", "the first", "--tag", "first", "--json"]).exits(0).json();
    assert!(first["tables"].as_u64() > Some(20) && first["rows"].as_u64() > Some(300), "{first}");
    let again = project.dbelay(&["snapshot", "--json"]).exits(0).json();
    assert_eq!(again["stats"]["objects_new"], 0, "{again}");
    project.dbelay(&["status"]).exits(0);
    project.dbelay(&["diff", "first", "live", "--exit-code"]).exits(0);

    project
        .database
        .psql("UPDATE users SET name = 'changed' WHERE id = 1; DELETE FROM events; ALTER TABLE visits ADD COLUMN extra text DEFAULT 'x'");
    let after = project.database.state();
    project.dbelay(&["snapshot"]).exits(0);
    project.dbelay(&["log"]).exits(0).prints(&["the first"]);
    let shown = project.dbelay(&["show", "first", "--json"]).exits(0).json();
    let names: Vec<&str> = shown["tables"].as_array().unwrap().iter().map(|table| table["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"users") && names.contains(&"archive.users"), "{names:?}");
    project.dbelay(&["show", "first"]).exits(0).prints(&["users", "posts"]);
    project.dbelay(&["diff", "first", "HEAD", "--stat", "--exit-code"]).exits(1).prints(&["users", "1 changed", "events", "removed"]);
    project.dbelay(&["diff", "first", "HEAD", "--schema"]).exits(0).prints(&["extra"]);
    project.dbelay(&["diff", "first", "HEAD", "--data", "-t", "users"]).exits(0).prints(&["id=1", "changed"]);
    assert_same(&after, &project.database.state(), "nothing was written");

    project.dbelay(&["rollback", "first", "--yes"]).exits(0);
    assert_same(&before, &project.database.state(), "rollback");
    project.dbelay(&["diff", "first", "live", "--exit-code"]).exits(0);
    project.dbelay(&["undo", "--yes"]).exits(0);
    assert_same(&after, &project.database.state(), "undo");
    project.dbelay(&["redo", "--yes"]).exits(0);
    assert_same(&before, &project.database.state(), "redo");
    project.dbelay(&["fsck", "--read-data"]).exits(0);
}

#[test]
fn changes_of_columns_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("add a column", "ALTER TABLE users ADD COLUMN note text"),
        ("add a column with a default", "ALTER TABLE users ADD COLUMN note text NOT NULL DEFAULT 'x', ADD COLUMN at timestamptz DEFAULT now()"),
        ("drop a column", "ALTER TABLE users DROP COLUMN tags"),
        ("drop a column in the middle and its views", "ALTER TABLE users DROP COLUMN mail CASCADE"),
        ("drop a key", "ALTER TABLE folders DROP COLUMN id CASCADE"),
        ("rename a column", "ALTER TABLE users RENAME COLUMN name TO full_name"),
        ("change a type", "DROP VIEW active CASCADE; ALTER TABLE users ALTER COLUMN balance TYPE integer USING 7"),
        ("change the type of a key", "ALTER TABLE old_rows ALTER COLUMN id TYPE text"),
        ("change a default", "ALTER TABLE users ALTER COLUMN feeling SET DEFAULT 'sad', ALTER COLUMN created DROP NOT NULL"),
        ("a generated column becomes a plain one", "ALTER TABLE posts ALTER COLUMN words DROP EXPRESSION; UPDATE posts SET words = -1"),
        ("the expression of a generated column", "ALTER TABLE posts DROP COLUMN words CASCADE, ADD COLUMN words integer GENERATED ALWAYS AS (2) STORED"),
        ("an identity goes", "ALTER TABLE posts ALTER COLUMN id DROP IDENTITY; INSERT INTO posts(id, user_id, title) VALUES (1, 1, 'x')"),
        ("the order of the columns", "ALTER TABLE archive.users ADD COLUMN n text; UPDATE archive.users SET n = name; ALTER TABLE archive.users DROP COLUMN name; ALTER TABLE archive.users RENAME n TO name"),
        ("statistics and storage of a column", "ALTER TABLE users ALTER COLUMN name SET STATISTICS -1, ALTER COLUMN settings SET STORAGE MAIN"),
    ]);
}

#[test]
fn changes_of_rows_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("delete rows that others refer to", "DELETE FROM users WHERE id <> 2"),
        ("delete all", "DELETE FROM posts; DELETE FROM events; DELETE FROM \"Other Place\".\"Mixed Case\"; DELETE FROM no_columns"),
        ("truncate", "TRUNCATE users CASCADE"),
        ("truncate and restart the sequences", "TRUNCATE users, visits, audit RESTART IDENTITY CASCADE"),
        ("update", "UPDATE users SET name = name || '!', tags = ARRAY[NULL, 'x'], home = ROW(NULL, NULL, NULL), settings = '{}'; UPDATE posts SET body = 'y'"),
        ("update keys", "DELETE FROM old_rows; UPDATE users SET id = id + 100; UPDATE archive.users SET id = 3 - id + 10"),
        ("exchange unique values", "UPDATE bookings SET during = int4range(20, 22) WHERE id = 1; UPDATE bookings SET during = '[1,5)' WHERE id = 2"),
        ("insert", "INSERT INTO users(name, mail) SELECT 'n' || i, i || '@example.org' FROM generate_series(1, 2000) AS i; INSERT INTO events VALUES ('same', 1, NULL)"),
        ("one of several equal rows", "DELETE FROM events WHERE ctid = (SELECT min(ctid) FROM events WHERE kind = 'same'); INSERT INTO no_columns DEFAULT VALUES"),
        ("rows in partitions and children", "UPDATE measures SET region = 'north' WHERE region = 'south'; DELETE FROM buckets WHERE id < 10; UPDATE places SET name = 'x'; DELETE FROM ONLY places"),
        ("cycles of foreign keys", "DELETE FROM teams WHERE false; UPDATE members SET team_id = 1; UPDATE teams SET lead_id = 3; DELETE FROM folders WHERE id = 1"),
        ("a materialized view", "UPDATE users SET name = 'x'; REFRESH MATERIALIZED VIEW post_counts; REFRESH MATERIALIZED VIEW post_total; REFRESH MATERIALIZED VIEW archive.not_yet"),
        ("rows of an unlogged table", "TRUNCATE scratch"),
        ("large objects", "SELECT lo_unlink(424242); SELECT lo_from_bytea(424243, 'x')"),
    ]);
}

#[test]
fn changes_of_sequences_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("use them", "SELECT nextval('users_id_seq'), nextval('posts_id_seq'), nextval('visits_id_seq'), nextval('never_used'), nextval('archive.lonely')"),
        ("set them", "SELECT setval('users_id_seq', 1, false), setval('far', 1), setval('lonely', 50), setval('downwards', -9, false)"),
        ("alter", "ALTER SEQUENCE lonely INCREMENT BY 1 NO CYCLE RESTART WITH 6; ALTER SEQUENCE never_used AS bigint MAXVALUE 99; ALTER SEQUENCE owned OWNED BY NONE"),
        ("alter an identity", "ALTER TABLE posts ALTER COLUMN id SET GENERATED BY DEFAULT SET INCREMENT BY 1 RESTART WITH 1"),
        ("drop", "DROP SEQUENCE lonely, far; ALTER TABLE users ALTER COLUMN id DROP DEFAULT; DROP SEQUENCE users_id_seq"),
        ("rename", "ALTER SEQUENCE downwards RENAME TO upwards; ALTER SEQUENCE archive.lonely SET SCHEMA \"Other Place\""),
        ("new", "CREATE SEQUENCE another; SELECT nextval('another')"),
    ]);
    let next = "SELECT nextval('never_used'), nextval('lonely'), nextval('archive.lonely'), nextval('visits_id_seq')";
    assert_eq!(project.database.psql(next), "7|17|77|2\n");
}

#[test]
fn changes_of_types_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("add a value to an enum", "ALTER TYPE mood ADD VALUE 'angry' AFTER 'sad'"),
        ("add a value to an enum and use it", "ALTER TYPE mood ADD VALUE 'angry' BEFORE 'sad';\nUPDATE users SET feeling = 'angry'"),
        ("rename a value of an enum", "ALTER TYPE mood RENAME VALUE 'sad' TO 'unhappy'"),
        ("a new enum in its place", "ALTER TABLE users ALTER COLUMN feeling DROP DEFAULT, ALTER COLUMN feeling TYPE text; DROP TYPE mood; CREATE TYPE mood AS ENUM ('happy')"),
        ("a domain", "ALTER DOMAIN email DROP CONSTRAINT has_at; ALTER DOMAIN email DROP NOT NULL; ALTER DOMAIN email DROP DEFAULT; UPDATE users SET mail = NULL WHERE id > 1"),
        ("a composite type", "ALTER TYPE address ADD ATTRIBUTE country text; ALTER TYPE address DROP ATTRIBUTE since"),
        ("drop types", "DROP TYPE address CASCADE; DROP DOMAIN email CASCADE; DROP TYPE span; DROP DOMAIN positive"),
        ("rename a type", "ALTER TYPE mood RENAME TO temper; ALTER TYPE archive.mood SET SCHEMA public"),
    ]);
}

#[test]
fn changes_of_tables_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("new tables", "CREATE TABLE fresh (id serial PRIMARY KEY, mood mood, user_id integer REFERENCES users); INSERT INTO fresh(mood) VALUES ('sad')"),
        ("drop a table", "DROP TABLE notes"),
        ("drop a table that others need", "DROP TABLE users CASCADE"),
        ("drop tables of a cycle", "DROP TABLE teams, members"),
        ("rename a table", "ALTER TABLE users RENAME TO people; ALTER TABLE archive.users RENAME TO users_old"),
        ("move a table", "ALTER TABLE visits SET SCHEMA archive"),
        ("exchange the names of two tables", "ALTER TABLE empty RENAME TO x; ALTER TABLE notes RENAME TO empty; ALTER TABLE x RENAME TO notes"),
        ("make a table anew", "CREATE TABLE users_new (LIKE users INCLUDING ALL); INSERT INTO users_new SELECT * FROM users; DROP TABLE users CASCADE; ALTER TABLE users_new RENAME TO users"),
        ("drop a partition", "DROP TABLE measures_north_old"),
        ("detach partitions", "ALTER TABLE measures DETACH PARTITION archive.measures_rest; ALTER TABLE buckets DETACH PARTITION buckets_1"),
        ("new partitions", "CREATE TABLE measures_west PARTITION OF measures FOR VALUES IN ('west'); INSERT INTO measures VALUES ('west', '2020-01-01', 1)"),
        ("drop a partitioned table", "DROP TABLE measures, buckets"),
        ("children", "ALTER TABLE towns NO INHERIT places; ALTER TABLE places ADD COLUMN more text"),
        ("drop parents", "DROP TABLE places CASCADE"),
        ("an unlogged table", "ALTER TABLE scratch SET LOGGED; ALTER TABLE empty SET UNLOGGED"),
        ("storage parameters", "ALTER TABLE bookings RESET (fillfactor), SET WITHOUT CLUSTER; ALTER TABLE archive.users REPLICA IDENTITY DEFAULT"),
        ("a schema", "DROP SCHEMA archive CASCADE"),
        ("the schema of all", "DROP SCHEMA public CASCADE; CREATE SCHEMA public"),
        ("new schemas", "CREATE SCHEMA brand_new; CREATE TABLE brand_new.users AS SELECT * FROM users; ALTER SCHEMA \"Other Place\" RENAME TO elsewhere"),
    ]);
}

#[test]
fn changes_of_constraints_and_indexes_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("add constraints", "ALTER TABLE users ADD CONSTRAINT sensible CHECK (id > 0), ADD UNIQUE (name); ALTER TABLE events ADD CHECK (at > 0) NOT VALID"),
        ("drop constraints", "ALTER TABLE posts DROP CONSTRAINT written_by, DROP CONSTRAINT posts_title_check; ALTER TABLE towns DROP CONSTRAINT named"),
        ("drop keys", "ALTER TABLE posts DROP CONSTRAINT posts_pkey; ALTER TABLE empty DROP CONSTRAINT empty_pkey"),
        ("rename a constraint", "ALTER TABLE posts RENAME CONSTRAINT written_by TO other_name; ALTER TABLE posts RENAME CONSTRAINT posts_pkey TO pk"),
        ("another action", "ALTER TABLE posts DROP CONSTRAINT written_by, ADD CONSTRAINT written_by FOREIGN KEY (user_id) REFERENCES users ON DELETE SET NULL"),
        ("validate", "DELETE FROM old_rows WHERE user_id = 999; ALTER TABLE old_rows VALIDATE CONSTRAINT not_checked"),
        ("drop an exclusion", "ALTER TABLE bookings DROP CONSTRAINT bookings_during_excl; INSERT INTO bookings VALUES (9, 1, '[1,9)')"),
        ("new indexes", "CREATE INDEX ON users (created); CREATE UNIQUE INDEX ON posts (title, user_id) WHERE words > 3; CREATE INDEX ON measures (region)"),
        ("an index made beside others", "CREATE INDEX CONCURRENTLY by_kind ON events (kind);"),
        ("drop indexes", "DROP INDEX users_lower, users_tags, measures_value"),
        ("rename an index", "ALTER INDEX users_mail RENAME TO users_by_mail"),
        ("statistics", "DROP STATISTICS users_name_mail; CREATE STATISTICS more ON kind, at FROM events"),
        ("a foreign key that nobody may defer", "ALTER TABLE members ALTER CONSTRAINT members_team_id_fkey NOT DEFERRABLE"),
    ]);
}

#[test]
fn changes_of_views_functions_and_triggers_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("drop views", "DROP VIEW totals; DROP VIEW paths"),
        ("drop views that others need", "DROP VIEW active CASCADE"),
        ("replace a view", "CREATE OR REPLACE VIEW totals AS SELECT total, total > 5 AS many, 1 AS more FROM post_total"),
        ("drop materialized views", "DROP MATERIALIZED VIEW post_counts CASCADE"),
        ("new views", "CREATE VIEW fresh AS SELECT * FROM totals; CREATE MATERIALIZED VIEW fresh_too AS SELECT * FROM fresh"),
        ("replace a function", "CREATE OR REPLACE FUNCTION shout(words text DEFAULT 'ho') RETURNS text LANGUAGE sql STABLE AS $$ SELECT words || '?' $$"),
        ("drop functions", "DROP FUNCTION shout(text) CASCADE; DROP FUNCTION shout(integer); DROP PROCEDURE forget; DROP AGGREGATE product(double precision)"),
        ("another function of the same name", "CREATE FUNCTION shout(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT a || b'"),
        ("operators, casts and collations", "DROP OPERATOR === (text, text); DROP CAST (address AS text); DROP COLLATION archive.bytes; DROP TEXT SEARCH CONFIGURATION archive.plain"),
        ("drop triggers", "DROP TRIGGER noted ON users; DROP TRIGGER checked_late ON teams; DROP TRIGGER through ON active_names"),
        ("switch triggers", "ALTER TABLE folders DISABLE TRIGGER noted_always; ALTER TABLE events ENABLE TRIGGER silent; ALTER TABLE users ENABLE REPLICA TRIGGER noted"),
        ("switch the triggers of foreign keys off", "ALTER TABLE posts DISABLE TRIGGER ALL"),
        ("drop a trigger's function", "DROP FUNCTION note() CASCADE"),
        ("rules", "DROP RULE no_delete ON notes; DELETE FROM notes; CREATE RULE nothing AS ON INSERT TO notes DO INSTEAD NOTHING"),
        ("event triggers", "DROP EVENT TRIGGER watched; DROP FUNCTION watch()"),
    ]);
}

#[test]
fn changes_of_rights_owners_and_comments_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("policies", "DROP POLICY own_posts ON posts; CREATE POLICY another ON posts USING (true); ALTER TABLE posts NO FORCE ROW LEVEL SECURITY"),
        ("no row level security", "ALTER TABLE posts DISABLE ROW LEVEL SECURITY; ALTER TABLE users ENABLE ROW LEVEL SECURITY"),
        ("grants", "GRANT ALL ON users, archive.users TO dbelay_owner; REVOKE ALL ON posts FROM dbelay_reader; GRANT USAGE ON TYPE mood TO dbelay_reader"),
        ("rights of columns and functions", "REVOKE ALL (name) ON users FROM dbelay_reader CASCADE; GRANT EXECUTE ON FUNCTION shout(text) TO PUBLIC"),
        ("rights of schemas", "REVOKE USAGE ON SCHEMA archive FROM dbelay_reader; GRANT CREATE ON SCHEMA public TO dbelay_reader"),
        ("rights by default", "ALTER DEFAULT PRIVILEGES IN SCHEMA archive REVOKE SELECT ON TABLES FROM dbelay_reader; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO dbelay_owner"),
        ("owners", "ALTER TABLE users OWNER TO dbelay_owner; ALTER TABLE archive.users OWNER TO dbelay_reader; ALTER SCHEMA archive OWNER TO dbelay_owner"),
        ("owners of the rest", "ALTER TYPE mood OWNER TO dbelay_owner; ALTER VIEW active OWNER TO dbelay_owner; ALTER FUNCTION note() OWNER TO dbelay_owner"),
        ("comments", "COMMENT ON TABLE users IS NULL; COMMENT ON COLUMN users.name IS 'new'; COMMENT ON SCHEMA archive IS 'x'; COMMENT ON TYPE mood IS NULL; COMMENT ON FUNCTION shout(text) IS NULL; COMMENT ON CONSTRAINT written_by ON posts IS NULL"),
        ("tables with rights go", "DROP TABLE posts CASCADE; DROP TABLE archive.users"),
    ]);
}

#[test]
fn changes_of_publications_and_foreign_tables_are_rolled_back() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.comes_back_from(&[
        ("publications", "ALTER PUBLICATION changes DROP TABLE archive.users; CREATE PUBLICATION all_of_it FOR ALL TABLES"),
        ("drop a published table", "DROP TABLE archive.users"),
        ("drop a publication", "DROP PUBLICATION changes"),
        ("foreign tables", "ALTER FOREIGN TABLE far_away ADD COLUMN more text; CREATE FOREIGN TABLE farther (x integer) SERVER elsewhere"),
        ("drop a foreign table", "DROP FOREIGN TABLE far_away"),
    ]);
}

#[test]
fn extensions_are_no_part_of_the_schema_and_their_tables_and_types_are() {
    let Some(project) = Project::with("") else { return };
    let available =
        project.database.psql("SELECT name FROM pg_available_extensions WHERE name IN ('citext', 'hstore', 'pg_trgm') ORDER BY 1");
    if available != "citext\nhstore\npg_trgm\n" {
        println!("skipped: the server has no citext, hstore and pg_trgm");
        return;
    }
    project.sql(
        "CREATE SCHEMA extensions; CREATE EXTENSION hstore SCHEMA extensions; CREATE EXTENSION citext;
         CREATE TABLE t(id citext PRIMARY KEY, v extensions.hstore);
         INSERT INTO t VALUES('Ann', 'a=>1, \"b \\\" c\"=>NULL'), ('bob', '')",
    );
    project.comes_back_from(&[
        ("rows", "UPDATE t SET id = lower(id::text), v = NULL"),
        ("a table", "DROP TABLE t"),
        ("a new extension", "CREATE EXTENSION pg_trgm; CREATE INDEX ON t USING gin ((id::text) gin_trgm_ops)"),
        ("an extension goes with its columns", "DROP EXTENSION hstore CASCADE"),
        ("a comment", "COMMENT ON EXTENSION citext IS 'mine'"),
    ]);
}

#[test]
fn rows_that_a_cascade_took_are_loss() {
    let Some(project) = Project::with(CHATS) else { return };
    let before = project.database.state();
    project.migrate(&[], "DELETE FROM chats WHERE id = 1").exits(4).says(&[
        "messages",
        "was rolled back to snapshot",
        "and verified",
        "--allow",
    ]);
    assert_same(&before, &project.database.state(), "cascade");
    project.dbelay(&["diff", "pre", "failed", "--data"]).exits(0).prints(&["- id=1 chat_id=1 body='x'"]);
    project.migrate(&["--allow", "chats,messages"], "DELETE FROM chats WHERE id = 1").exits(0);
    assert_eq!(project.number("SELECT count(*) FROM messages"), 1);
    project.dbelay(&["rollback", "--yes"]).exits(0);
    assert_same(&before, &project.database.state(), "rollback");
}

#[test]
fn columns_and_tables_that_held_data_are_loss() {
    let Some(project) = Project::with(CHATS) else { return };
    let before = project.database.state();
    for (sql, word) in [
        ("ALTER TABLE messages DROP COLUMN body", "body"),
        ("DROP TABLE messages", "messages"),
        ("TRUNCATE chats CASCADE", "chats"),
        ("ALTER TABLE messages ALTER COLUMN body TYPE integer USING 0", "body"),
        ("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "messages"),
    ] {
        project.migrate(&[], sql).exits(4).says(&[word, "was rolled back to snapshot"]);
        assert_same(&before, &project.database.state(), sql);
    }
}

#[test]
fn a_migration_of_a_server_that_is_harmless_is_kept() {
    let Some(project) = Project::with(CHATS) else { return };
    let before = project.database.state();
    let sql = "ALTER TABLE messages ADD COLUMN read boolean DEFAULT false; UPDATE chats SET title = upper(title) WHERE id = 1;
               ALTER TABLE messages RENAME COLUMN body TO content; ALTER TABLE chats RENAME TO threads";
    let document = project.migrate(&["--json"], sql).exits(0).json();
    assert_eq!(document["result"], "done");
    assert_eq!(document["losses"], serde_json::json!([]));
    assert_eq!(project.database.psql("SELECT title FROM threads ORDER BY id"), "A\nb\n");
    let after = project.database.state();
    project.dbelay(&["undo", "--yes"]).exits(0);
    assert_same(&before, &project.database.state(), "undo");
    project.dbelay(&["redo", "--yes"]).exits(0);
    assert_same(&after, &project.database.state(), "redo");
}

#[test]
fn a_command_that_changed_nothing_on_a_server_leaves_nothing_to_undo() {
    let Some(project) = Project::with(CHATS) else { return };
    project.dbelay(&["migrate", "--", "true"]).exits(0).says(&["the command changed nothing"]);
    project.dbelay(&["migrate", "--", "false"]).exits(4).says(&["unchanged"]);
    project.dbelay(&["undo"]).exits(3);
}

#[test]
fn a_command_that_drops_and_creates_the_database_is_rolled_back() {
    let Some(project) = Project::with(CHATS) else { return };
    let before = project.database.state();
    let (server, name) = (project.database.url_of_server(), project.database.name());
    let (drop, create) = (format!("DROP DATABASE {name}"), format!("CREATE DATABASE {name}"));
    let command = ["migrate", "--on-failure", "rollback", "--", "psql", "-X", "-q", "-d", server, "-c", &drop, "-c", &create];
    project.dbelay(&command).exits(4).says(&["was rolled back to snapshot"]);
    assert_same(&before, &project.database.state(), "the database is a new one");
}

#[test]
fn same_names_in_other_schemas_and_a_search_path_do_not_mislead() {
    let Some(project) = Project::with(
        "CREATE SCHEMA one; CREATE SCHEMA two;
         CREATE TABLE one.t(id integer PRIMARY KEY, v text); CREATE TABLE two.t(id integer PRIMARY KEY, other integer); CREATE TABLE public.t(v text);
         INSERT INTO one.t VALUES(1, 'one'); INSERT INTO two.t VALUES(1, 2), (2, 3); INSERT INTO public.t VALUES('public');
         CREATE FUNCTION one.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
         CREATE FUNCTION one.format_type(oid, integer) RETURNS text LANGUAGE sql AS $$ SELECT 'nonsense' $$;
         CREATE TYPE two.int4 AS ENUM ('one'); CREATE TABLE one.pg_class(v integer); INSERT INTO one.pg_class VALUES(1);
         CREATE TABLE two.e(v two.int4, w pg_catalog.int4); INSERT INTO two.e VALUES('one', 1)",
    ) else {
        return;
    };
    let name = project.database.name();
    project.database.psql(&format!("ALTER DATABASE {name} SET search_path = one, two, pg_catalog, public"));
    project.comes_back_from(&[
        ("rows", "UPDATE one.t SET v = 'x'; DELETE FROM two.t WHERE id = 1; INSERT INTO public.t VALUES('y'); DELETE FROM one.pg_class"),
        ("tables", "DROP TABLE one.t; DROP TABLE two.t; DROP TABLE public.t; DROP TABLE two.e; DROP TABLE one.pg_class"),
    ]);
    for (table, rows) in [("one.t", 1), ("two.t", 2), ("two.e", 1)] {
        assert_eq!(project.rows("HEAD", table).len(), rows, "{table}");
    }
}

#[test]
fn settings_of_a_database_change_nothing_of_what_is_read() {
    let Some(project) = Project::with(
        "CREATE TABLE t(id integer PRIMARY KEY, d date, at timestamptz, i interval, b bytea, f double precision, x text);
         INSERT INTO t VALUES(1, '2024-02-03', '2024-02-03 04:05:06.789+00', '1 year -2 days 03:04:05.6', '\\x00ff5c', 0.1::float8 + 0.2::float8, 'a\\b')",
    ) else {
        return;
    };
    project.dbelay(&["snapshot", "--tag", "plain"]).exits(0);
    let name = project.database.name();
    for setting in [
        "datestyle = 'German, DMY'",
        "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "extra_float_digits = -10",
        "timezone = 'Asia/Kolkata'",
        "standard_conforming_strings = off",
        "default_transaction_read_only = on",
        "statement_timeout = '500ms'",
        "row_security = off",
        "quote_all_identifiers = on",
    ] {
        project.database.psql(&format!("BEGIN READ WRITE; SET LOCAL statement_timeout = 0; ALTER DATABASE {name} SET {setting}; COMMIT"));
    }
    project.dbelay(&["diff", "plain", "live", "--data", "--exit-code"]).exits(0);
    project.database.psql("BEGIN READ WRITE; UPDATE t SET d = NULL, at = NULL, i = NULL, b = NULL, f = 0, x = ''; COMMIT");
    project.dbelay(&["rollback", "plain", "--yes"]).exits(0);
    project.dbelay(&["diff", "plain", "live", "--data", "--exit-code"]).exits(0);
    let all = "SET statement_timeout = 0; SET extra_float_digits = 3; SET bytea_output = hex; SELECT f, b, x, at = '2024-02-03 04:05:06.789+00', i = '1 year -2 days 03:04:05.6' FROM t";
    assert_eq!(project.database.psql(all), "0.30000000000000004|\\x00ff5c|a\\b|t|t\n");
}

#[test]
fn triggers_of_every_kind_are_silent_in_a_rollback() {
    let Some(project) = Project::with(
        "CREATE TABLE t(id integer PRIMARY KEY, v text); CREATE TABLE log(what text); CREATE TABLE child(t_id integer REFERENCES t ON DELETE CASCADE);
         INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) AS i; INSERT INTO child SELECT id FROM t;
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (TG_NAME || ' ' || TG_OP); RETURN COALESCE(NEW, OLD); END $$;
         CREATE TRIGGER plain BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER always BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER replica BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER statement AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON t EXECUTE FUNCTION note();
         ALTER TABLE t ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica;
         CREATE RULE mirrored AS ON INSERT TO child DO ALSO INSERT INTO log VALUES('rule')",
    ) else {
        return;
    };
    project.comes_back_from(&[
        ("updates", "UPDATE t SET v = 'w' WHERE id < 5"),
        ("deletes", "DELETE FROM t WHERE id > 15; DELETE FROM child; ALTER TABLE log ADD COLUMN x text"),
        ("truncate", "TRUNCATE t CASCADE"),
        ("other triggers", "DROP TRIGGER plain ON t; ALTER TABLE t ENABLE TRIGGER always; DELETE FROM t WHERE id > 3"),
    ]);
    project.database.psql("DELETE FROM t WHERE id = 1");
    assert_eq!(project.number("SELECT count(*) FROM log WHERE what LIKE 'plain%'"), 1);
}

#[test]
fn a_role_that_is_no_superuser_rolls_back_too() {
    let Some(mut project) = Project::with("") else { return };
    let name = project.database.name().to_owned();
    project.database.psql(&format!("ALTER DATABASE {name} OWNER TO dbelay_owner; ALTER SCHEMA public OWNER TO dbelay_owner"));
    let setup = format!(
        "{CHATS}
         CREATE TYPE mood AS ENUM ('sad', 'happy'); ALTER TABLE chats ADD COLUMN mood mood DEFAULT 'sad';
         CREATE TABLE log(what text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log VALUES (TG_OP); RETURN NULL; END $$;
         CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON messages FOR EACH ROW EXECUTE FUNCTION note();
         CREATE VIEW titles AS SELECT title FROM chats"
    );
    project.database.psql_as("dbelay_owner", &setup);
    project.url = project.database.url_as("dbelay_owner");
    project.comes_back_from(&[
        ("rows", "UPDATE messages SET body = 'x'; DELETE FROM messages WHERE id = 2"),
        ("a cascade", "DELETE FROM chats"),
        ("a column", "ALTER TABLE chats DROP COLUMN mood; ALTER TABLE messages ADD COLUMN extra integer"),
        ("tables", "DROP TABLE messages; DROP TABLE chats CASCADE"),
        ("an enum", "ALTER TYPE mood ADD VALUE 'angry'"),
    ]);
}

#[test]
fn an_owner_who_is_gone_is_named_and_the_rows_come_back() {
    let Some(project) = Project::with("") else { return };
    let role = format!("{}_gone", project.database.name());
    project.cluster.roles(&[&role]);
    project.sql(&format!(
        "CREATE TABLE t(id integer PRIMARY KEY, v text); INSERT INTO t VALUES(1, 'x'); ALTER TABLE t OWNER TO {role}; GRANT SELECT ON t TO {role}"
    ));
    project.dbelay(&["snapshot"]).exits(0);
    project.database.psql(&format!("DROP TABLE t; DROP OWNED BY {role}; DROP ROLE {role}"));
    project.dbelay(&["rollback", "HEAD", "--yes"]).says(&[&role]);
    assert_eq!(project.database.psql("SELECT * FROM t"), "1|x\n");
}

#[test]
fn a_snapshot_of_a_server_beside_busy_writers_is_one_committed_state() {
    let Some(project) = Project::with(
        "CREATE TABLE one(id integer PRIMARY KEY, v integer); CREATE TABLE two(id integer PRIMARY KEY, v integer);
         INSERT INTO one SELECT i, 100 FROM generate_series(1, 500) AS i; INSERT INTO two SELECT i, 100 FROM generate_series(1, 500) AS i",
    ) else {
        return;
    };
    let mut writer = project.database.session();
    let transfers = "DO $$ BEGIN FOR i IN 1..1000000 LOOP
        UPDATE one SET v = v - 1 WHERE id = i % 500 + 1; UPDATE two SET v = v + 1 WHERE id = i * 7 % 500 + 1; COMMIT; END LOOP; END $$";
    let mut writer = writer.args(["-c", transfers]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..4 {
        project.dbelay(&["snapshot"]).exits(0);
        let sum = |table| project.rows("HEAD", table).iter().map(|row| row["v"].as_i64().unwrap()).sum::<i64>();
        assert_eq!(sum("one") + sum("two"), 100_000);
    }
    assert!(writer.try_wait().unwrap().is_none(), "the writer has ended");
    project
        .database
        .psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO %' AND datname = current_database()");
    writer.wait().unwrap();
}

#[test]
fn a_session_that_holds_a_table_of_the_server_stops_a_rollback_in_time_and_nothing_changes() {
    let Some(project) = Project::with(CHATS) else { return };
    project.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    project.database.psql("UPDATE chats SET title = 'changed'");
    let changed = project.database.state();
    {
        let _held = project.held("BEGIN; UPDATE chats SET title = 'held' WHERE id = 1;");
        project.dbelay(&["rollback", "good", "--yes"]).exits(11).says(&["locked", "the database is unchanged"]);
    }
    assert_same(&changed, &project.database.state(), "held");
    {
        let _reader = project.held("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM chats;");
        project.dbelay(&["snapshot"]).exits(0);
    }
    project.dbelay(&["rollback", "good", "--yes"]).exits(0);
    assert_eq!(project.database.psql("SELECT title FROM chats ORDER BY id"), "a\nb\n");
}

#[test]
fn a_prepared_transaction_stops_a_rollback_in_time_and_nothing_changes() {
    let Some(project) = Project::with(CHATS) else { return };
    if project.number("SELECT current_setting('max_prepared_transactions')::int") == 0 {
        println!("skipped: the server takes no prepared transactions");
        return;
    }
    project.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    project.database.psql("UPDATE chats SET title = 'changed'");
    let gid = project.database.name().to_owned();
    project.database.psql(&format!("BEGIN; UPDATE chats SET title = 'prepared'; PREPARE TRANSACTION '{gid}'"));
    project.dbelay(&["rollback", "good", "--yes"]).exits(11).says(&["locked", "the database is unchanged"]);
    project.database.psql(&format!("ROLLBACK PREPARED '{gid}'"));
    project.dbelay(&["rollback", "good", "--yes"]).exits(0);
    assert_eq!(project.database.psql("SELECT title FROM chats ORDER BY id"), "a\nb\n");
}

#[test]
fn sessions_that_are_open_and_idle_are_in_nobodys_way() {
    let Some(project) = Project::with(CHATS) else { return };
    let _idle = [project.held("SELECT * FROM chats;"), project.held("PREPARE p AS SELECT * FROM messages; EXECUTE p;")];
    project.comes_back_from(&[("tables", "DROP TABLE messages; ALTER TABLE chats ADD COLUMN x text"), ("rows", "DELETE FROM chats")]);
}

#[test]
fn an_index_that_could_not_be_built_is_shown_and_goes_with_a_rollback() {
    let Some(project) = Project::with("CREATE TABLE t(id integer PRIMARY KEY, v text); INSERT INTO t VALUES(1, 'same'), (2, 'same')")
    else {
        return;
    };
    let before = project.database.state();
    let run = project.migrate(&["--on-failure", "keep"], "CREATE UNIQUE INDEX CONCURRENTLY half ON t (v);").exits(5);
    run.says(&["the migration command failed"]);
    assert!(project.database.checksums().contains("index|public.half|f"), "{}", project.database.checksums());
    project.dbelay(&["diff", "pre", "live", "--schema"]).exits(0).prints(&["half"]);
    project.dbelay(&["check"]).exits(1);
    let invalid = project.database.state();
    project.dbelay(&["snapshot", "--tag", "invalid"]).exits(0);
    project.database.psql("UPDATE t SET v = 'other' WHERE id = 2; CREATE TABLE u(x text)");
    project.dbelay(&["rollback", "invalid", "--yes"]).exits(0);
    assert_same(&invalid, &project.database.state(), "the invalid index is as it was");
    project.dbelay(&["rollback", "pre", "--yes"]).exits(0);
    assert_same(&before, &project.database.state(), "rollback");
}

#[test]
fn keys_of_every_type_find_their_rows() {
    let Some(project) = Project::with(
        "CREATE TABLE k_text(k text PRIMARY KEY, v integer); INSERT INTO k_text VALUES('a', 1), ('A', 2), ('', 3), (E'a\\tb\\\\', 4), ('ä', 5), ('a ', 6);
         CREATE TABLE k_char(k char(3) PRIMARY KEY, v integer); INSERT INTO k_char VALUES('a', 1), (' a', 2);
         CREATE TABLE k_uuid(k uuid PRIMARY KEY, v integer); INSERT INTO k_uuid SELECT md5(i::text)::uuid, i FROM generate_series(1, 500) AS i;
         CREATE TABLE k_numeric(k numeric PRIMARY KEY, v integer); INSERT INTO k_numeric VALUES(1.00, 1), ('NaN', 2), (-1e30, 3), (1e-30, 4), (10, 5), (9, 6);
         CREATE TABLE k_float(k double precision PRIMARY KEY, v integer); INSERT INTO k_float VALUES('NaN', 1), ('-0', 2), ('Infinity', 3), (5e-324, 4), (1e15, 5), (0.1, 6);
         CREATE TABLE k_time(k timestamptz PRIMARY KEY, v integer); INSERT INTO k_time VALUES('infinity', 1), ('0044-03-15 12:00:00+00 BC', 2), ('2024-01-01 00:00:00.000001+00', 3);
         CREATE TABLE k_bytes(k bytea PRIMARY KEY, v integer); INSERT INTO k_bytes VALUES('', 1), ('\\x00', 2), ('\\xff00', 3);
         CREATE TABLE k_bool(k boolean PRIMARY KEY, v integer); INSERT INTO k_bool VALUES(true, 1), (false, 2);
         CREATE TABLE k_array(k text[] PRIMARY KEY, v integer); INSERT INTO k_array VALUES('{}', 1), ('{NULL}', 2), ('{\"NULL\"}', 3), ('[2:3]={a,b}', 4);
         CREATE TABLE k_range(k int4range PRIMARY KEY, v integer); INSERT INTO k_range VALUES('empty', 1), ('(,)', 2), ('[1,2]', 3);
         CREATE TABLE k_json(k jsonb PRIMARY KEY, v integer); INSERT INTO k_json VALUES('null', 1), ('{\"a\":1}', 2), ('1.10', 3);
         CREATE TYPE rgb AS ENUM ('red', 'green', 'blue'); CREATE TABLE k_enum(k rgb PRIMARY KEY, v integer); INSERT INTO k_enum VALUES('green', 1), ('red', 2);
         CREATE TABLE k_pair(a text COLLATE \"C\", b integer, v integer, PRIMARY KEY(b, a)); INSERT INTO k_pair SELECT 'x' || i % 7, i, i FROM generate_series(-50, 50) AS i;
         CREATE TABLE k_unique(k integer NOT NULL UNIQUE, v integer); INSERT INTO k_unique SELECT i, i FROM generate_series(1, 9) AS i;
         CREATE TABLE k_nullable(k integer UNIQUE, v integer); INSERT INTO k_nullable VALUES(NULL, 1), (NULL, 1), (1, 1);
         CREATE TABLE k_deferred(k integer PRIMARY KEY DEFERRABLE, v integer); INSERT INTO k_deferred VALUES(1, 1), (2, 2)",
    ) else {
        return;
    };
    let tables = project.database.psql("SELECT relname FROM pg_class WHERE relname LIKE 'k\\_%' AND relkind = 'r' ORDER BY 1");
    let each = |sql: &str| tables.lines().map(|table| sql.replace("{t}", table)).collect::<Vec<_>>().join(";\n");
    project.comes_back_from(&[
        ("update every other row", &each("UPDATE {t} SET v = v + 1000 WHERE v % 2 = 0")),
        ("delete some", &each("DELETE FROM {t} WHERE v % 3 = 0")),
        ("all of them", &each("UPDATE {t} SET v = -v")),
        ("drop the keys", &each("ALTER TABLE {t} DROP COLUMN v")),
    ]);
}

#[test]
fn values_of_many_megabytes_and_many_columns_come_back() {
    // `pg_dump` takes seconds to write a thousand defaults of one table.
    let default = |column| if column % 10 == 0 { format!(" DEFAULT {column}") } else { String::new() };
    let columns: Vec<String> = (0..1500).map(|column| format!("c{column} integer{}", default(column))).collect();
    let Some(project) = Project::with(&format!(
        "CREATE TABLE wide({}); INSERT INTO wide DEFAULT VALUES; UPDATE wide SET c0 = NULL, c1499 = -1;
         CREATE TABLE long(id integer PRIMARY KEY, v text, b bytea);
         INSERT INTO long SELECT i, repeat(md5(i::text), 500000), decode(repeat(md5(i::text), 100000), 'hex') FROM generate_series(1, 2) AS i",
        columns.join(", ")
    )) else {
        return;
    };
    project.comes_back_from(&[
        ("rows", "UPDATE long SET v = v || 'x' WHERE id = 1; UPDATE wide SET c700 = 0"),
        ("tables", "DROP TABLE long; DROP TABLE wide"),
    ]);
}

#[test]
fn rules_of_every_kind_are_silent_in_a_rollback() {
    for state in ["", "ALTER TABLE t ENABLE REPLICA RULE r", "ALTER TABLE t ENABLE ALWAYS RULE r", "ALTER TABLE t DISABLE RULE r"] {
        let Some(project) = Project::with(&format!(
            "CREATE TABLE t(id integer PRIMARY KEY, v text); CREATE TABLE log(id integer, n integer PRIMARY KEY);
             INSERT INTO t SELECT i, 'a' FROM generate_series(1, 20) AS i; INSERT INTO log SELECT i, i FROM generate_series(1, 5) AS i;
             CREATE RULE r AS ON UPDATE TO t DO ALSO DELETE FROM log WHERE n = 1; {state}"
        )) else {
            return;
        };
        let before = project.database.state();
        project.dbelay(&["snapshot"]).exits(0);
        project.sql("SET session_replication_role = replica; ALTER TABLE t DISABLE RULE r; UPDATE t SET v = 'b' WHERE id = 7");
        project.sql(if state.is_empty() { "ALTER TABLE t ENABLE RULE r" } else { state });
        project.dbelay(&["rollback", "HEAD", "--yes"]).exits(0);
        assert_same(&before, &project.database.state(), state);
    }
}

#[test]
fn a_table_that_changes_while_others_are_put_back_stops_the_rollback() {
    let Some(project) = Project::with(
        "CREATE TABLE t(id integer PRIMARY KEY, v text); CREATE TABLE log(tag text);
         INSERT INTO t VALUES(1, 'a');
         CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log(tag) VALUES(tg_tag); END $$;
         CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION note(); ALTER EVENT TRIGGER noted ENABLE ALWAYS",
    ) else {
        return;
    };
    project.dbelay(&["snapshot"]).exits(0);
    project.sql("CREATE VIEW w AS SELECT 1 AS a; UPDATE t SET v = 'b'; TRUNCATE log");
    project.dbelay(&["snapshot"]).exits(0);
    let after = project.database.state();
    project.dbelay(&["rollback", "HEAD~1", "--yes"]).exits(3).says(&["`log`", "event trigger", "the database is unchanged"]);
    assert_same(&after, &project.database.state(), "refused");
    // An extension's table is no part of a snapshot: some fill theirs when they are made.
    project.sql("ALTER EXTENSION plpgsql ADD TABLE log");
    project.dbelay(&["snapshot"]).exits(0);
    project.sql("CREATE VIEW w2 AS SELECT 1 AS a; UPDATE t SET v = 'c'");
    project.dbelay(&["rollback", "HEAD", "--yes"]).exits(0);
    assert_eq!(project.database.psql("SELECT v FROM t").trim(), "b");
}

#[test]
fn a_patch_in_sql_makes_the_other_state_of_a_server() {
    let Some(project) = Project::with(CHATS) else { return };
    let before = project.database.state();
    project.dbelay(&["snapshot", "--tag", "a"]).exits(0);
    project.sql(
        "UPDATE chats SET title = E'it''s \\\\ new' WHERE id = 1; DELETE FROM messages WHERE id = 2; ALTER TABLE chats ADD COLUMN n numeric DEFAULT 1.50;
         CREATE TABLE fresh(id serial PRIMARY KEY, v text[]); INSERT INTO fresh(v) VALUES('{a,NULL}'); INSERT INTO messages(body) VALUES(NULL)",
    );
    let after = project.database.state();
    for (reverse, expected) in [(true, &before), (false, &after)] {
        let (from, to) = if reverse { ("b", "a") } else { ("a", "b") };
        if reverse {
            project.dbelay(&["snapshot", "--tag", "b"]).exits(0);
        }
        let patch = project.dbelay(&["diff", from, to, "--format", "sql"]).exits(0).stdout;
        project.sql(&patch);
        assert_same(expected, &project.database.state(), "patched");
    }
}

#[test]
fn a_snapshot_of_a_server_is_restored_into_an_empty_database() {
    let Some(project) = Project::with(EVERYTHING) else { return };
    project.dbelay(&["snapshot"]).exits(0);
    let copy = project.cluster.database();
    project.dbelay(&["restore", "HEAD", "--to", &copy.url()]).exits(0);
    assert_same(&project.database.state(), &copy.state(), "restored");
    project.dbelay(&["restore", "HEAD", "--to", &copy.url()]).exits(2).says(&["not empty"]);
    assert_same(&project.database.state(), &copy.state(), "refused");
}

#[test]
fn a_rehearsal_leaves_the_real_database_of_a_server_alone() {
    let Some(project) = Project::with(CHATS).map(Project::by_own_superuser) else { return };
    let before = project.database.state();
    for (sql, code) in
        [("ALTER TABLE chats ADD COLUMN x integer", 0), ("DELETE FROM chats", 4), ("UPDATE chats SET title = 'x'; nonsense", 4)]
    {
        project.migrate(&["--rehearse-only"], sql).exits(code).says(&["rehearsal"]);
        assert_same(&before, &project.database.state(), sql);
    }
    assert_eq!(project.own_databases(), "0\n");
}

#[test]
fn what_cannot_be_reached_on_a_server_is_named_and_no_password_is() {
    let Some(mut project) = Project::with(CHATS) else { return };
    project.url = project.database.url_as("dbelay_reader");
    let refused = project.dbelay(&["snapshot", "--json"]).exits(3);
    assert!(refused.json()["error"]["message"].is_string());
    assert!(!refused.stdout.contains(PASSWORD) && !refused.stderr.contains(PASSWORD), "{refused:?}");
    project.database.psql(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO dbelay_reader; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO dbelay_reader",
    );
    let run = project.dbelay(&["-v", "snapshot"]).exits(0);
    assert!(!run.stdout.contains(PASSWORD) && !run.stderr.contains(PASSWORD), "{run:?}");
    project.database.psql("UPDATE chats SET title = 'x'");
    project.dbelay(&["rollback", "HEAD", "--yes"]).exits(3).says(&["the database is unchanged"]);
    assert!(!holds(&project.sandbox.path(""), PASSWORD));

    let role = project.database.url_as("dbelay_nobody");
    let missing = project.url.replace(project.database.name(), "dbelay_not_there");
    let nowhere = format!("postgres://ann:{PASSWORD}@127.0.0.1:1/app");
    for (url, words) in [(role, "dbelay_nobody"), (missing, "dbelay_not_there"), (nowhere, "127.0.0.1")] {
        let run = finish(project.sandbox.command().args(["--db", &url, "snapshot"])).exits(2).says(&[words]);
        assert!(!run.stderr.contains(PASSWORD), "{}", run.stderr);
    }
}

/// Tells whether a file below a folder holds these bytes.
fn holds(folder: &Path, word: &str) -> bool {
    let files = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.unwrap().into_path()).filter(|path| path.is_file());
    files.into_iter().any(|path| std::fs::read(path).unwrap().windows(word.len()).any(|bytes| bytes == word.as_bytes()))
}

#[test]
fn a_database_of_a_server_without_tables_comes_back() {
    let Some(project) = Project::with("") else { return };
    project.comes_back_from(&[
        ("a table", "CREATE TABLE t(x integer); INSERT INTO t VALUES(1)"),
        ("a schema and a type", "CREATE SCHEMA s; CREATE TYPE s.t AS ENUM ()"),
    ]);
}

#[test]
fn databases_of_other_encodings_come_back() {
    let Some(cluster) = Cluster::shared() else { return };
    for (words, text) in
        [("ENCODING 'LATIN1'", "caf\u{e9}"), ("ENCODING 'EUC_JP'", "\u{65e5}\u{672c}"), ("ENCODING 'SQL_ASCII'", "caf\u{e9}")]
    {
        let database = cluster.database_with(&format!("TEMPLATE template0 LOCALE 'C' {words}"));
        let (sandbox, url) = (Sandbox::new(), database.url());
        let project = Project { cluster, sandbox, database, url };
        project.sql(&format!("SET client_encoding = 'UTF8'; CREATE TABLE t(id integer PRIMARY KEY, v text); COMMENT ON TABLE t IS '{text}'; INSERT INTO t VALUES(1, '{text}')"));
        project.comes_back_from(&[("rows", "UPDATE t SET v = 'x'"), ("a table", "DROP TABLE t")]);
    }
}

#[test]
fn a_table_read_in_parts_is_the_one_that_is_read_at_once() {
    let Some(project) = Project::with(
        "CREATE TABLE big(a bigint, b integer, v text, n numeric, PRIMARY KEY (a, b));
         INSERT INTO big SELECT i / 3 * CASE WHEN i < 90000 THEN 1 ELSE 100 END, i % 3, repeat(md5(i::text), 4), i / 7.0 FROM generate_series(1, 240000) AS i;
         CREATE TABLE days(d timestamptz PRIMARY KEY, v text);
         INSERT INTO days SELECT '2020-01-01Z'::timestamptz + i * interval '7 minutes', repeat(md5(i::text), 5) FROM generate_series(1, 200000) AS i;
         CREATE TABLE words(w text PRIMARY KEY, v text); INSERT INTO words SELECT md5(i::text), repeat('x', 600) FROM generate_series(1, 60000) AS i;
         ANALYZE days",
    ) else {
        return;
    };
    let readers = |count: u8| std::fs::write(project.sandbox.path("dbelay.toml"), format!("[postgres]\nreaders = {count}\n")).unwrap();
    readers(3);
    project.dbelay(&["snapshot"]).exits(0).prints(&["3 tables, 500,000 rows"]);
    std::fs::remove_dir_all(project.sandbox.path(".dbelay/cache")).unwrap();
    readers(1);
    project.dbelay(&["snapshot"]).exits(0).prints(&["nothing new to store"]);
    project.dbelay(&["fsck", "--read-data"]).exits(0);
}

#[test]
fn what_is_taken_over_from_an_earlier_snapshot_is_what_reading_would_find() {
    let Some(project) = Project::with(
        "CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TABLE t(a bigint, b integer, m mood DEFAULT 'ok', v text DEFAULT 'none', n numeric, PRIMARY KEY (a, b));
         INSERT INTO t SELECT i / 3, i % 3, 'ok', md5(i::text), i / 7.0 FROM generate_series(1, 30000) AS i;
         CREATE TABLE words(w text PRIMARY KEY, n integer); INSERT INTO words SELECT md5(i::text), i FROM generate_series(1, 9000) AS i;
         CREATE TABLE bare(v text); INSERT INTO bare SELECT 'x' || i FROM generate_series(1, 100) AS i;
         CREATE TABLE long(id integer PRIMARY KEY, v text); INSERT INTO long SELECT i, repeat('x', 70000) FROM generate_series(1, 5) AS i;
         CREATE TABLE part(a integer); CREATE TABLE holder(id integer PRIMARY KEY, p part, ps part[]);
         INSERT INTO holder VALUES(1, ROW(1), ARRAY[ROW(2)::part]);
         CREATE TABLE named(id integer PRIMARY KEY, r regclass, rs regclass[]); INSERT INTO named VALUES(1, 'bare', '{bare}'), (2, '-', '{-}')",
    ) else {
        return;
    };
    let check = |name: &str| {
        project.dbelay(&["snapshot", "-q"]).exits(0);
        std::fs::remove_dir_all(project.sandbox.path(".dbelay/cache")).unwrap();
        let run = project.dbelay(&["status"]).exits(0);
        assert!(run.stdout.contains("the database is equal to it"), "{name}: {}", run.stdout);
    };
    for (name, sql) in [
        ("values", "UPDATE t SET v = 'new', n = NULL WHERE a % 1000 = 7; UPDATE words SET n = -n WHERE n < 20"),
        ("to the default", "UPDATE t SET v = DEFAULT, m = 'sad' WHERE a = 5000; UPDATE t SET v = DEFAULT WHERE a BETWEEN 1 AND 500"),
        ("there and back", "UPDATE t SET m = 'sad' WHERE a = 9; UPDATE t SET m = 'ok' WHERE a = 9"),
        ("keys", "UPDATE t SET b = 99 WHERE a = 77 AND b = 1; UPDATE words SET w = 'zz' || w WHERE n = 500"),
        (
            "rows that come",
            "INSERT INTO t SELECT i, 50 FROM generate_series(-3, 9000, 450) AS i; INSERT INTO t VALUES(90000, 1); UPDATE t SET n = 3 WHERE a = 451",
        ),
        ("rows that come and go", "DELETE FROM t WHERE a = 100; INSERT INTO t SELECT 100000 + i, 0 FROM generate_series(1, 3) AS i"),
        ("one goes, another comes", "DELETE FROM words WHERE n = 600; INSERT INTO words VALUES('m', 600)"),
        ("a row put back", "DELETE FROM t WHERE a = 200 AND b = 1; INSERT INTO t VALUES(200, 1, 'ok', md5('601'), 1)"),
        ("no key", "UPDATE bare SET v = 'y' WHERE v = 'x7'"),
        ("large values", "UPDATE long SET v = v || 'y' WHERE id = 2; UPDATE long SET v = 'short' WHERE id = 3"),
        ("a name of a value", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'"),
        ("the same column again", "ALTER TABLE t DROP COLUMN v; ALTER TABLE t ADD COLUMN v text DEFAULT 'again'"),
        (
            "the same table again",
            "CREATE TABLE other AS TABLE words; DROP TABLE words; ALTER TABLE other RENAME TO words; ALTER TABLE words ADD PRIMARY KEY (w)",
        ),
        ("rewritten", "VACUUM FULL t"),
        ("clustered", "CLUSTER t USING t_pkey; UPDATE t SET n = 1 WHERE a = 1"),
        ("a column of a row in another table", "ALTER TABLE part ADD COLUMN b integer"),
        ("another name for what is named", "ALTER TABLE bare RENAME TO naked"),
        ("emptied", "TRUNCATE words"),
    ] {
        project.dbelay(&["snapshot", "-q"]).exits(0);
        project.sql(sql);
        check(name);
    }
    // What is under way when a snapshot is taken, in parts of its own, is seen when it is done.
    let held =
        project.held("BEGIN; SAVEPOINT s; UPDATE t SET n = 5 WHERE a = 50; RELEASE s; SAVEPOINT s; UPDATE t SET n = 6 WHERE a = 60;");
    project.sql("UPDATE t SET n = 7 WHERE a = 70");
    project.dbelay(&["snapshot", "-q"]).exits(0);
    held.ends("COMMIT;");
    check("subtransactions");
    // What a rollback wrote itself is proven without reading the rest.
    for sql in [
        "UPDATE t SET n = 8 WHERE a % 700 = 3",
        "DELETE FROM t WHERE a % 900 = 5; UPDATE t SET n = 9 WHERE a % 800 = 6; INSERT INTO t SELECT i, 70 FROM generate_series(-30, 12000, 333) AS i",
        "DELETE FROM words; UPDATE t SET b = b + 1000 WHERE a = 1234",
    ] {
        project.dbelay(&["snapshot", "-q"]).exits(0);
        project.sql(sql);
        project.dbelay(&["rollback", "HEAD", "--yes"]).exits(0);
        check(sql);
    }
}
