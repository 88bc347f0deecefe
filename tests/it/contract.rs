//! What every engine promises, as one suite that each implementation runs unchanged.

use std::ops::ControlFlow;
use std::path::Path;

use dbelay::engine::sqlite::{Options, Sqlite};
use dbelay::engine::{Engine, EngineError, ReadTransaction};
use dbelay::rows::{CutRule, TableShape};
use dbelay::schema::{ObjectKind, Settings};
use dbelay::value::Value;

/// An engine under test: a place for one database, and a way around dbelay to run statements on it.
struct Subject<'a> {
    open: &'a dyn Fn() -> Result<Box<dyn Engine>, EngineError>,
    create: &'a dyn Fn() -> Box<dyn Engine>,
    run: &'a dyn Fn(&str),
}

/// Runs one part of the contract on SQLite.
fn with_sqlite(part: impl Fn(&Subject<'_>)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.db");
    let options = Options { busy_ms: 100, ..Options::default() };
    let open = |path: &Path| Sqlite::open(path, &options).map(|engine| Box::new(engine) as Box<dyn Engine>);
    part(&Subject {
        open: &|| open(&path),
        create: &|| Box::new(Sqlite::create(&path, &Settings::default(), &options).unwrap()),
        run: &|sql| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap(),
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
    with_sqlite(|subject| assert!(matches!((subject.open)(), Err(EngineError::Missing(_)))));
}

#[test]
fn a_new_database_is_empty() {
    with_sqlite(|subject| {
        let mut engine = (subject.create)();
        let mut read = engine.begin_read().unwrap();
        assert!(read.schema().unwrap().objects.is_empty());
        assert!(read.shapes().unwrap().is_empty());
        assert!(read.findings().unwrap().is_empty());
    });
}

#[test]
fn a_state_is_read_as_columns_of_row_groups() {
    with_sqlite(|subject| {
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let mut read = engine.begin_read().unwrap();
        let schema = read.schema().unwrap();
        assert_eq!(schema.table("users").unwrap().primary_key, ["id"]);
        assert_eq!(schema.table("links").unwrap().foreign_keys[0].parent, "users");
        assert!(schema.object(ObjectKind::Table, "users").unwrap().sql.as_ref().unwrap().starts_with("CREATE TABLE users"));
        let users = shape(&mut *read, "users");
        assert_eq!(columns(&mut *read, &users), ["[1,2,3]", "[\"ann\",\"bob\",null]"]);
        let links = shape(&mut *read, "links");
        assert!(links.columns[0].hidden && links.identity == [0] && links.locator == [0]);
        assert_eq!(columns(&mut *read, &links), ["[1,2]", "[1,1]", "[2,2]"]);
        assert!(read.row_bytes(&users).unwrap() > 0);
    });
}

#[test]
fn a_transaction_sees_one_state_whatever_others_write() {
    with_sqlite(|subject| {
        (subject.run)(&format!("PRAGMA journal_mode=WAL; {TABLES}"));
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
    with_sqlite(|subject| {
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let first = engine.begin_read().unwrap().stamp().unwrap();
        let second = engine.begin_read().unwrap().stamp().unwrap();
        let third = engine.begin_write().unwrap().stamp().unwrap();
        assert!(first == second && second == third);
    });
}

#[test]
fn a_reader_that_breaks_gets_no_more_groups() {
    with_sqlite(|subject| {
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
    });
}

#[test]
fn rows_are_deleted_updated_and_inserted_by_locator() {
    with_sqlite(|subject| {
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
fn a_transaction_that_is_dropped_leaves_no_trace() {
    with_sqlite(|subject| {
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let mut write = engine.begin_write().unwrap();
        let (users, objects) = (shape(&mut *write, "users"), write.schema().unwrap().objects);
        write.clear_table(&users).unwrap();
        write.drop_objects(&objects).unwrap();
        assert!(write.schema().unwrap().objects.is_empty());
        drop(write);
        let mut read = engine.begin_read().unwrap();
        assert_eq!(read.schema().unwrap().objects, objects);
        assert_eq!(columns(&mut *read, &users)[0], "[1,2,3]");
    });
}

#[test]
fn a_schema_comes_back_word_for_word_and_in_its_order() {
    with_sqlite(|subject| {
        (subject.run)(&format!(
            "{TABLES} CREATE VIEW v AS SELECT 1; CREATE INDEX i ON users(name); CREATE TRIGGER g AFTER DELETE ON users BEGIN SELECT 1; END"
        ));
        let mut engine = (subject.open)().unwrap();
        let target = engine.begin_read().unwrap().schema().unwrap();
        let mut write = engine.begin_write().unwrap();
        write.drop_objects(&target.objects).unwrap();
        let tables: Vec<_> = target.objects.iter().filter(|object| object.kind == ObjectKind::Table).cloned().collect();
        write.create_tables(&tables).unwrap();
        write.finish_schema(&target).unwrap();
        assert_eq!(write.schema().unwrap(), target);
        write.commit().unwrap();
        assert_eq!(engine.begin_read().unwrap().schema().unwrap(), target);
    });
}

#[test]
fn triggers_and_foreign_key_actions_are_off() {
    with_sqlite(|subject| {
        (subject.run)(
            "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id) ON DELETE CASCADE); CREATE TABLE log(x);
             CREATE TRIGGER g AFTER DELETE ON p BEGIN INSERT INTO log VALUES(1); END; INSERT INTO p VALUES(1); INSERT INTO c VALUES(1)",
        );
        let mut engine = (subject.open)().unwrap();
        let mut write = engine.begin_write().unwrap();
        let (p, c, log) = (shape(&mut *write, "p"), shape(&mut *write, "c"), shape(&mut *write, "log"));
        write.clear_table(&p).unwrap();
        assert_eq!(columns(&mut *write, &c)[1], "[1]");
        assert_eq!(columns(&mut *write, &log)[1], "");
    });
}

#[test]
fn settings_are_written_and_read() {
    with_sqlite(|subject| {
        (subject.run)("PRAGMA user_version=3; CREATE TABLE t(x)");
        let mut engine = (subject.open)().unwrap();
        let mut settings = engine.begin_read().unwrap().settings().unwrap();
        settings.get_mut("user_version").unwrap().value = "-9".into();
        let mut write = engine.begin_write().unwrap();
        write.write_settings(&settings).unwrap();
        write.commit().unwrap();
        assert_eq!(engine.begin_read().unwrap().settings().unwrap(), settings);
    });
}

#[test]
fn orphans_are_found() {
    with_sqlite(|subject| {
        (subject.run)(&format!("{TABLES} PRAGMA foreign_keys=OFF; INSERT INTO links VALUES(99,1),(98,1)"));
        let mut engine = (subject.open)().unwrap();
        let findings = engine.begin_read().unwrap().findings().unwrap();
        assert_eq!((findings.len(), findings[0].count, findings[0].check.as_str()), (1, 2, "foreign_key"));
    });
}

#[test]
fn a_second_writer_waits_within_its_bound() {
    with_sqlite(|subject| {
        (subject.run)(TABLES);
        let (mut first, mut second) = ((subject.open)().unwrap(), (subject.open)().unwrap());
        let _write = first.begin_write().unwrap();
        assert!(matches!(second.begin_write().map(drop), Err(EngineError::Locked { waited_ms: 100, .. })));
    });
}

#[test]
fn a_question_is_answered_and_a_command_is_refused() {
    with_sqlite(|subject| {
        drop((subject.create)());
        (subject.run)(TABLES);
        let mut engine = (subject.open)().unwrap();
        let mut read = engine.begin_read().unwrap();
        let answer = read.query("SELECT id, name FROM users ORDER BY id", 2).unwrap();
        assert_eq!(answer.columns, ["id", "name"]);
        assert_eq!(answer.rows, [[Value::Integer(1), text("ann")], [Value::Integer(2), text("bob")]]);
        assert!(answer.is_cut);
        assert!(!read.query("-- how many\nWITH u AS (SELECT 1) SELECT * FROM u", 1).unwrap().is_cut);
        for sql in [
            "DELETE FROM users",
            "WITH u AS (SELECT 1) DELETE FROM users",
            "SELECT 1; DELETE FROM users",
            "ROLLBACK",
            "PRAGMA user_version=7",
            "SELECT ?",
            "",
        ] {
            assert!(matches!(read.query(sql, 1), Err(EngineError::Unsupported(_))), "{sql}");
        }
        assert!(matches!(read.query("SELECT nothing FROM users", 1), Err(EngineError::Statement { .. })));
        assert_eq!(read.query("SELECT count(*) FROM users", 1).unwrap().rows, [[Value::Integer(3)]]);
    });
}
