//! What every engine promises, as one suite that each implementation runs unchanged. What differs between engines is data ([`Words`]).

use std::ops::ControlFlow;
use std::path::Path;

use dbelay::engine::sqlite::{Options, Sqlite};
use dbelay::engine::{Engine, EngineError, ReadTransaction};
use dbelay::rows::{CutRule, TableShape};
use dbelay::schema::{ObjectKind, Setting, SettingScope, Settings};
use dbelay::value::Value;

/// How long an engine under test waits for a lock, in milliseconds.
const WAIT_MS: u64 = 100;

/// An engine under test: a place for one database, and a way around dbelay to run statements on it.
struct Subject<'a> {
    open: &'a dyn Fn() -> Result<Box<dyn Engine>, EngineError>,
    create: &'a dyn Fn() -> Box<dyn Engine>,
    run: &'a dyn Fn(&str),
    words: &'a Words,
}

/// What an engine says in its own way.
struct Words {
    /// Its name.
    engine: &'static str,
    /// What a new database has, though nobody made it, besides what is said of it.
    born: &'static [(ObjectKind, &'static str)],
    /// How the statement of the table `users` begins.
    users: &'static str,
    /// Whether a table without a key has a hidden column that tells its rows apart.
    has_row_numbers: bool,
    /// What a database needs so that it can be written beside a reader.
    beside: &'static str,
    /// A view, an index and a trigger on the tables.
    more: &'static str,
    /// Tables `p`, `c` and `log`: what happens to the row of `p` would reach `c` by a foreign key and `log` by a trigger.
    actions: &'static str,
    /// A setting of the state: what makes it, its name, another value.
    setting: (&'static str, &'static str, &'static str),
    /// Two rows of `links` without their rows of `users`.
    orphans: &'static str,
    /// What changes a database that has the tables and the setting, in each way that there is.
    changes: &'static [&'static str],
    /// What is no question.
    commands: &'static [&'static str],
}

const SQLITE: Words = Words {
    engine: "sqlite",
    born: &[],
    users: "CREATE TABLE users",
    has_row_numbers: true,
    beside: "PRAGMA journal_mode=WAL",
    more: "CREATE VIEW v AS SELECT 1; CREATE INDEX i ON users(name); CREATE TRIGGER g AFTER DELETE ON users BEGIN SELECT 1; END",
    actions: "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id) ON DELETE CASCADE); CREATE TABLE log(x);
        CREATE TRIGGER g AFTER DELETE ON p BEGIN INSERT INTO log VALUES(1); END; INSERT INTO p VALUES(1); INSERT INTO c VALUES(1)",
    setting: ("PRAGMA user_version=3", "user_version", "-9"),
    orphans: "PRAGMA foreign_keys=OFF; INSERT INTO links VALUES(99,1),(98,1)",
    changes: &["UPDATE users SET name = 'other' WHERE id = 1", "CREATE TABLE t(x)", "PRAGMA user_version=4"],
    commands: &["PRAGMA user_version=7", "SELECT ?"],
};

#[cfg(all(unix, feature = "postgres"))]
const POSTGRES: Words = Words {
    engine: "postgres",
    born: &[(ObjectKind::Namespace, "public")],
    users: "CREATE TABLE public.users",
    has_row_numbers: false,
    beside: "",
    more: "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'; CREATE VIEW v AS SELECT 1;
        CREATE INDEX i ON users(name); CREATE TRIGGER g AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION f()",
    actions:
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p INTEGER REFERENCES p(id) ON DELETE CASCADE); CREATE TABLE log(x INTEGER);
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.log VALUES(1); RETURN OLD; END';
        CREATE TRIGGER g AFTER DELETE ON p FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE p ENABLE ALWAYS TRIGGER g;
        INSERT INTO p VALUES(1); INSERT INTO c VALUES(1)",
    setting: ("CREATE SEQUENCE s; SELECT setval('s', 3)", "sequence s", "42 not called"),
    orphans: "SET session_replication_role = replica; INSERT INTO links VALUES(99,1),(98,1)",
    // Of the values of a sequence the server writes down some at once, and the others without a trace in its count of transactions.
    changes: &[
        "UPDATE users SET name = 'other' WHERE id = 1",
        "CREATE TABLE t(x integer)",
        "SELECT nextval('s')",
        "SELECT nextval('s')",
        "SELECT setval('s', 7, false)",
    ],
    commands: &[
        "SET work_mem = '1MB'",
        "SELECT $1::integer",
        "SELECT nextval('s')",
        "SELECT * FROM users FOR UPDATE",
        "DELETE FROM users RETURNING id",
        "WITH u AS (DELETE FROM users RETURNING id) SELECT * FROM u",
        "SELECT * INTO other FROM users",
        "CREATE TABLE t(x integer)",
        "COPY users TO STDOUT",
    ],
};

/// Runs one part of the contract on every engine.
fn with_engines(part: impl Fn(&Subject<'_>)) {
    with_sqlite(&part);
    #[cfg(all(unix, feature = "postgres"))]
    if let Some(cluster) = crate::cluster::Cluster::shared() {
        with_postgres(cluster, &part);
    }
}

/// Runs one part on every engine, where nobody else is at the server.
fn with_quiet_engines(part: impl Fn(&Subject<'_>)) {
    with_sqlite(&part);
    #[cfg(all(unix, feature = "postgres"))]
    if crate::cluster::Cluster::shared().is_some() {
        let settings = [crate::cluster::THROWAWAY, &[("autovacuum", "off")]].concat();
        match crate::cluster::Cluster::start(&settings) {
            Some(cluster) => with_postgres(&cluster, &part),
            None => println!("skipped: no server of its own can be started"),
        }
    }
}

fn with_sqlite(part: &dyn Fn(&Subject<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let options = Options { busy_ms: WAIT_MS, ..Options::default() };
    let open = |path: &Path| Sqlite::open(path, &options).map(|engine| Box::new(engine) as Box<dyn Engine>);
    println!("engine: {}", SQLITE.engine);
    part(&Subject {
        open: &|| open(&path),
        create: &|| Box::new(Sqlite::create(&path, &Settings::default(), &options).unwrap()),
        run: &|sql| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap(),
        words: &SQLITE,
    });
}

#[cfg(all(unix, feature = "postgres"))]
fn with_postgres(cluster: &crate::cluster::Cluster, part: &dyn Fn(&Subject<'_>)) {
    use dbelay::engine::postgres::{Options, Postgres};
    use dbelay::source::{DatabaseUrl, UrlOrigin, libpq};

    let database = cluster.database_to_be();
    let url = DatabaseUrl::parse(&database.url(), &UrlOrigin::Flag, Path::new("/"), &|_| false).unwrap();
    let environment = |name: &str| std::env::var(name).ok();
    let lookup = libpq::Lookup { environment: &environment, read: &|_| None, user: "postgres", home: None, socket_exists: &|_| false };
    let connection = libpq::connection(url.server_url().unwrap(), &lookup).unwrap();
    let options = Options {
        place: libpq::place_of(&connection),
        connection,
        lock_ms: WAIT_MS,
        readers: 2,
        program_folders: std::env::split_paths(&cluster.path()).collect(),
        with_owners: true,
    };
    println!("engine: {}", POSTGRES.engine);
    part(&Subject {
        open: &|| Postgres::open(&options).map(|engine| Box::new(engine) as Box<dyn Engine>),
        create: &|| Box::new(Postgres::create(&options, &Settings::default()).unwrap()),
        run: &|sql| {
            database.make();
            database.psql(sql);
        },
        words: &POSTGRES,
    });
}

const TABLES: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE links(a INTEGER REFERENCES users(id), b INTEGER);
INSERT INTO users VALUES(1,'ann'),(2,'bob'),(3,NULL);
INSERT INTO links VALUES(1,2),(1,2);
";

fn rule() -> CutRule {
    CutRule { rows_target: 1 << 10 }
}

fn columns(read: &mut dyn ReadTransaction, shape: &TableShape) -> Vec<String> {
    let mut columns = vec![String::new(); shape.columns.len()];
    read.read_table(shape, rule(), &mut |group| {
        for (text, chunk) in columns.iter_mut().zip(&group.columns) {
            text.push_str(std::str::from_utf8(&chunk.json).unwrap());
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    columns
}

fn shape(read: &mut dyn ReadTransaction, name: &str) -> TableShape {
    read.shapes().unwrap().into_iter().find(|shape| shape.name == name).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[test]
fn a_missing_database_is_an_error_of_its_own() {
    with_engines(|subject| assert!(matches!((subject.open)(), Err(EngineError::Missing(_)))));
}

#[test]
fn a_new_database_is_empty() {
    with_engines(|subject| {
        let mut engine = (subject.create)();
        let mut read = engine.begin_read().unwrap();
        let schema = read.schema().unwrap();
        let objects = schema.objects.iter().filter(|object| !object.kind.is_attribute());
        let objects: Vec<_> = objects.map(|object| (object.kind, object.name.as_str())).collect();
        assert_eq!(objects, subject.words.born);
        assert!(schema.tables.is_empty() && schema.indexes.is_empty());
        assert!(read.shapes().unwrap().is_empty());
        assert!(read.findings().unwrap().is_empty());
    });
}

#[test]
fn a_state_is_read_as_columns_of_row_groups() {
    with_engines(|subject| {
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let mut read = engine.begin_read().unwrap();
        let schema = read.schema().unwrap();
        assert_eq!(schema.table("users").unwrap().primary_key, ["id"]);
        assert_eq!(schema.table("links").unwrap().foreign_keys[0].parent, "users");
        assert!(schema.object(ObjectKind::Table, "users").unwrap().sql.as_ref().unwrap().starts_with(subject.words.users));
        let users = shape(&mut *read, "users");
        assert_eq!(columns(&mut *read, &users), ["[1,2,3]", "[\"ann\",\"bob\",null]"]);
        let links = shape(&mut *read, "links");
        if subject.words.has_row_numbers {
            assert!(links.columns[0].hidden && links.identity == [0] && links.locator == [0]);
            assert_eq!(columns(&mut *read, &links), ["[1,2]", "[1,1]", "[2,2]"]);
        } else {
            assert!(links.identity.is_empty() && links.locator.is_empty() && !links.columns.iter().any(|column| column.hidden));
            assert_eq!(columns(&mut *read, &links), ["[1,1]", "[2,2]"]);
        }
        assert!(read.row_bytes(&users).unwrap() > 0);
    });
}

#[test]
fn a_transaction_sees_one_state_whatever_others_write() {
    with_engines(|subject| {
        (subject.run)(&format!("{}; {TABLES}", subject.words.beside));
        let mut engine = (subject.open)().unwrap();
        let before = {
            let mut read = engine.begin_read().unwrap();
            let users = shape(&mut *read, "users");
            (subject.run)("UPDATE users SET name = 'other'");
            assert_eq!(columns(&mut *read, &users)[1], "[\"ann\",\"bob\",null]");
            read.stamp().unwrap()
        };
        let mut read = engine.begin_read().unwrap();
        let users = shape(&mut *read, "users");
        assert_eq!(columns(&mut *read, &users)[1], "[\"other\",\"other\",\"other\"]");
        assert_ne!(read.stamp().unwrap(), before);
    });
}

#[test]
fn a_stamp_stays_while_nobody_writes() {
    with_quiet_engines(|subject| {
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let first = engine.begin_read().unwrap().stamp().unwrap();
        let second = engine.begin_read().unwrap().stamp().unwrap();
        let third = engine.begin_write().unwrap().stamp().unwrap();
        assert!(first == second && second == third);
    });
}

#[test]
fn a_stamp_is_another_whatever_somebody_writes() {
    with_quiet_engines(|subject| {
        (subject.run)(&format!("{TABLES}; {}", subject.words.setting.0));
        let mut engine = (subject.open)().unwrap();
        let mut before = engine.begin_read().unwrap().stamp().unwrap();
        for (at, change) in subject.words.changes.iter().enumerate() {
            (subject.run)(change);
            let after = if at % 2 == 0 { engine.begin_read().unwrap().stamp() } else { engine.begin_write().unwrap().stamp() }.unwrap();
            assert_ne!(before, after, "{change}");
            before = after;
        }
    });
}

#[test]
fn a_reader_that_breaks_gets_no_more_groups() {
    with_engines(|subject| {
        (subject.run)(
            "CREATE TABLE n(i INTEGER PRIMARY KEY); WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM r WHERE i<9000) INSERT INTO n SELECT i FROM r",
        );
        let mut engine = (subject.open)().unwrap();
        let mut read = engine.begin_read().unwrap();
        let shape = shape(&mut *read, "n");
        let mut groups = 0;
        read.read_table(&shape, CutRule { rows_target: 16 }, &mut |_| {
            groups += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(groups, 1);
        assert_eq!(read.query("SELECT count(*) FROM n", 1).unwrap().rows, [[Value::Integer(9000)]]);
    });
}

#[test]
fn rows_are_deleted_updated_and_inserted_by_locator() {
    with_engines(|subject| {
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let mut write = engine.begin_write().unwrap();
        let users = shape(&mut *write, "users");
        assert_eq!(write.delete_rows(&users, &mut [Ok(vec![Value::Integer(1)])].into_iter()).unwrap(), 1);
        let update = Ok(vec![Value::Integer(2), text("bea")]);
        assert_eq!(write.update_rows(&users, &[1], &mut [update].into_iter()).unwrap(), 1);
        assert_eq!(write.insert_rows(&users, &mut [Ok(vec![Value::Integer(-7), text("neg")])].into_iter()).unwrap(), 1);
        assert_eq!(columns(&mut *write, &users), ["[-7,2,3]", "[\"neg\",\"bea\",null]"]);
        write.commit().unwrap();
        let mut read = engine.begin_read().unwrap();
        assert_eq!(columns(&mut *read, &users)[0], "[-7,2,3]");
    });
}

#[test]
fn what_failed_in_a_transaction_is_not_committed() {
    with_engines(|subject| {
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let mut write = engine.begin_write().unwrap();
        let users = shape(&mut *write, "users");
        write.delete_rows(&users, &mut [Ok(vec![Value::Integer(3)])].into_iter()).unwrap();
        let same = || Ok(vec![Value::Integer(7), text("same")]);
        assert!(write.insert_rows(&users, &mut [same(), same()].into_iter()).is_err());
        if write.commit().is_ok() {
            assert_eq!(columns(&mut *engine.begin_read().unwrap(), &users)[0], "[1,2,7]", "{}", subject.words.engine);
        } else {
            assert_eq!(columns(&mut *engine.begin_read().unwrap(), &users)[0], "[1,2,3]", "{}", subject.words.engine);
        }
    });
}

#[test]
fn a_transaction_that_is_dropped_leaves_no_trace() {
    with_engines(|subject| {
        (subject.run)(&format!("{TABLES}; {}", subject.words.setting.0));
        let mut engine = (subject.open)().unwrap();
        let (schema, settings) = {
            let mut read = engine.begin_read().unwrap();
            (read.schema().unwrap(), read.settings().unwrap())
        };
        let mut write = engine.begin_write().unwrap();
        let users = shape(&mut *write, "users");
        write.write_settings(&with_another_setting(&settings, subject.words)).unwrap();
        write.clear_table(&users).unwrap();
        write.drop_objects(&schema.objects).unwrap();
        assert!(write.schema().unwrap().objects.is_empty());
        drop(write);
        let mut read = engine.begin_read().unwrap();
        assert_eq!(read.schema().unwrap(), schema);
        assert_eq!(read.settings().unwrap(), settings);
        assert_eq!(columns(&mut *read, &users)[0], "[1,2,3]");
    });
}

/// Changes the setting of the state.
fn with_another_setting(settings: &Settings, words: &Words) -> Settings {
    let (_, name, value) = words.setting;
    let mut settings = settings.clone();
    let known = settings.insert(name.to_owned(), Setting { value: value.to_owned(), scope: SettingScope::Exact });
    assert!(known.is_some_and(|known| known.scope == SettingScope::Exact && known.value != value), "{name}");
    settings
}

#[test]
fn a_schema_comes_back_word_for_word_and_in_its_order() {
    with_engines(|subject| {
        (subject.run)(&format!("{TABLES} {}", subject.words.more));
        let mut engine = (subject.open)().unwrap();
        let target = engine.begin_read().unwrap().schema().unwrap();
        let mut write = engine.begin_write().unwrap();
        write.drop_objects(&target.objects).unwrap();
        let is_first = |kind| matches!(kind, ObjectKind::Namespace | ObjectKind::Table);
        let tables: Vec<_> = target.objects.iter().filter(|object| is_first(object.kind)).cloned().collect();
        write.create_tables(&tables).unwrap();
        write.finish_schema(&target).unwrap();
        write.finish_rows(&target).unwrap();
        assert_eq!(target.contradicted_by(&write.schema().unwrap(), &|_| true), None);
        write.commit().unwrap();
        assert_eq!(engine.begin_read().unwrap().schema().unwrap(), target);
    });
}

#[test]
fn triggers_and_foreign_key_actions_are_off() {
    with_engines(|subject| {
        (subject.run)(subject.words.actions);
        let mut engine = (subject.open)().unwrap();
        let mut write = engine.begin_write().unwrap();
        let (p, c, log) = (shape(&mut *write, "p"), shape(&mut *write, "c"), shape(&mut *write, "log"));
        write.clear_table(&p).unwrap();
        assert_eq!(columns(&mut *write, &c).last().unwrap(), "[1]");
        assert_eq!(columns(&mut *write, &log).last().unwrap(), "");
    });
}

#[test]
fn settings_are_written_and_read() {
    with_engines(|subject| {
        (subject.run)(&format!("{TABLES}; {}", subject.words.setting.0));
        let mut engine = (subject.open)().unwrap();
        let settings = with_another_setting(&engine.begin_read().unwrap().settings().unwrap(), subject.words);
        let mut write = engine.begin_write().unwrap();
        write.write_settings(&settings).unwrap();
        write.commit().unwrap();
        assert_eq!(engine.begin_read().unwrap().settings().unwrap(), settings);
    });
}

#[test]
fn orphans_are_found() {
    with_engines(|subject| {
        (subject.run)(&format!("{TABLES} {}", subject.words.orphans));
        let mut engine = (subject.open)().unwrap();
        let findings = engine.begin_read().unwrap().findings().unwrap();
        assert_eq!((findings.len(), findings[0].count, findings[0].check.as_str()), (1, 2, "foreign_key"));
    });
}

#[test]
fn a_second_writer_waits_within_its_bound() {
    with_engines(|subject| {
        (subject.run)(TABLES);
        let (mut first, mut second) = ((subject.open)().unwrap(), (subject.open)().unwrap());
        let _write = first.begin_write().unwrap();
        assert!(matches!(second.begin_write().map(drop), Err(EngineError::Locked { waited_ms: WAIT_MS, .. })));
    });
}

#[test]
fn a_question_is_answered_and_a_command_is_refused() {
    with_engines(|subject| {
        drop((subject.create)());
        (subject.run)(&format!("{TABLES}; {}", subject.words.setting.0));
        let mut engine = (subject.open)().unwrap();
        let settings = engine.begin_read().unwrap().settings().unwrap();
        let ask = |read: &mut dyn ReadTransaction| {
            let answer = read.query("SELECT id, name FROM users ORDER BY id", 2).unwrap();
            assert_eq!(answer.columns, ["id", "name"]);
            assert_eq!(answer.rows, [[Value::Integer(1), text("ann")], [Value::Integer(2), text("bob")]]);
            assert!(answer.is_cut);
            assert!(!read.query("-- how many\nWITH u AS (SELECT 1) SELECT * FROM u", 1).unwrap().is_cut);
            let commands = ["DELETE FROM users", "WITH u AS (SELECT 1) DELETE FROM users", "SELECT 1; DELETE FROM users", "ROLLBACK", ""];
            for sql in commands.iter().chain(subject.words.commands) {
                let answer = read.query(sql, 1);
                assert!(matches!(answer, Err(EngineError::Unsupported(_))), "{}, {sql}: {answer:?}", subject.words.engine);
            }
            assert!(matches!(read.query("SELECT nothing FROM users", 1), Err(EngineError::Statement { .. })));
            assert!(matches!(read.query("SELECT FROM WHERE", 1), Err(EngineError::Statement { .. })));
            assert_eq!(read.query("SELECT count(*) FROM users", 1).unwrap().rows, [[Value::Integer(3)]]);
        };
        ask(&mut *engine.begin_read().unwrap());
        let mut write = engine.begin_write().unwrap();
        ask(&mut *write);
        write.commit().unwrap();
        assert_eq!(engine.begin_read().unwrap().settings().unwrap(), settings);
    });
}
