//! A real SQLite database for the tests of rules.

use std::error::Error;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::script::Script;
use super::{Data, Finding, Options, Report, run};
use crate::engine::Engine;
use crate::engine::sqlite::{Options as Opening, Sqlite};
use crate::schema::Schema;
use crate::value::Value;

/// It, and what it declares.
pub struct Live {
    connection: Connection,
    schema: Schema,
}

impl Data for Live {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn query(&mut self, sql: &str, rows_max: usize) -> Result<Vec<Vec<Value>>, Box<dyn Error + Send + Sync>> {
        let mut statement = self.connection.prepare(sql)?;
        let columns = statement.column_count();
        let mut cursor = statement.query([])?;
        let mut rows = Vec::new();
        while let Some(row) = cursor.next()? {
            if rows.len() == rows_max {
                break;
            }
            let cell = |at| {
                Ok(match row.get_ref(at)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(value) => Value::Integer(value),
                    ValueRef::Real(value) => Value::Real(value),
                    ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
                    ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
                })
            };
            rows.push((0..columns).map(cell).collect::<Result<_, rusqlite::Error>>()?);
        }
        Ok(rows)
    }
}

/// Makes a database by these statements.
pub fn live(live: &str) -> (tempfile::TempDir, Live) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.db");
    let connection = Connection::open(&path).expect("a database");
    connection.execute_batch(&format!("PRAGMA foreign_keys=OFF; CREATE TABLE zz(z); DROP TABLE zz; {live}")).expect("the live database");
    let mut engine = Sqlite::open(&path, &Opening { busy_ms: 100, extensions: Vec::new(), is_sql_only: false }).expect("an engine");
    let schema = engine.begin_read().expect("a transaction").schema().expect("a schema");
    (dir, Live { connection, schema })
}

/// Runs every rule over scripts, on a database that these statements made.
pub fn report(statements: &str, scripts: &[&str], options: &Options) -> Report {
    let (_folder, mut live) = live(statements);
    let scripts: Vec<Script> =
        scripts.iter().enumerate().map(|(number, text)| Script::new(&format!("{number}.sql"), text.as_bytes())).collect();
    run(&scripts, &mut live, options)
}

/// Lists the findings of one script.
pub fn findings(live: &str, script: &str) -> Vec<Finding> {
    let report = report(live, &[script], &Options::default());
    assert_eq!(report.unanswered, Vec::<String>::new(), "{script}");
    report.findings
}

/// Asserts that a script has exactly one finding, of this rule, whose message has these parts.
#[track_caller]
pub fn catches(rule: &str, live: &str, script: &str, parts: &[&str]) {
    let found = findings(live, script);
    let [finding] = found.as_slice() else { panic!("{script}\n{found:#?}") };
    assert_eq!(finding.rule, rule, "{finding:#?}");
    let text = format!("{} {} {} {:?}", finding.message, finding.instead, finding.notes.join(" "), finding.examples);
    for part in parts {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

/// Asserts that nothing is found.
#[track_caller]
pub fn quiet(live: &str, script: &str) {
    let found = findings(live, script);
    assert!(found.is_empty(), "{script}\n{found:#?}");
}
