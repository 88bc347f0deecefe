//! A SQL condition over rows that are not in a database: what `diff --where` asks.

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value as SqlValue};

use crate::engine::EngineError;
use crate::value::Value;

fn explain(error: rusqlite::Error, doing: &str) -> EngineError {
    EngineError::Statement { doing: doing.to_owned(), source: Box::new(error) }
}

/// A condition over the columns of one table, evaluated by SQLite in memory.
pub struct Condition {
    connection: Connection,
    sql: String,
    columns: usize,
}

impl Condition {
    /// Prepares a condition over columns of these names.
    ///
    /// # Errors
    /// [`EngineError::Statement`] where it is no SQL expression over them.
    pub fn new(columns: &[&str], condition: &str) -> Result<Self, EngineError> {
        let doing = "reading the condition";
        let connection = Connection::open_in_memory().map_err(|error| explain(error, doing))?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let row: Vec<String> = columns.iter().enumerate().map(|(at, name)| format!("?{} AS {}", at + 1, quoted(name))).collect();
        // On a line of its own, so that a comment in it ends with it.
        let sql =
            format!("SELECT 1 FROM (SELECT {}) WHERE (\n{condition}\n)", if row.is_empty() { "1".to_owned() } else { row.join(", ") });
        // In double quotes stand names here, never text.
        for option in [rusqlite::config::DbConfig::SQLITE_DBCONFIG_DQS_DML, rusqlite::config::DbConfig::SQLITE_DBCONFIG_DQS_DDL] {
            connection.set_db_config(option, false).map_err(|error| explain(error, doing))?;
        }
        connection.prepare(&sql).map_err(|error| explain(error, doing))?;
        Ok(Self { connection, sql, columns: columns.len() })
    }

    /// Tells whether the condition holds for a row, given in the order of the columns.
    ///
    /// # Errors
    /// [`EngineError::Statement`] where evaluating it fails.
    pub fn holds(&self, row: &[Value]) -> Result<bool, EngineError> {
        let fail = |error| explain(error, "evaluating the condition");
        let mut statement = self.connection.prepare_cached(&self.sql).map_err(fail)?;
        let cells = row.iter().take(self.columns).map(|value| {
            ToSqlOutput::Owned(match value {
                Value::Null | Value::Large { .. } => SqlValue::Null,
                Value::Boolean(value) => SqlValue::Integer((*value).into()),
                Value::Integer(value) => SqlValue::Integer(*value),
                Value::Real(value) => SqlValue::Real(*value),
                Value::Text(bytes) => SqlValue::Text(String::from_utf8_lossy(bytes).into_owned()),
                Value::Blob(bytes) => SqlValue::Blob(bytes.clone()),
            })
        });
        statement.exists(rusqlite::params_from_iter(cells)).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_for_the_rows_that_sqlite_would_find() {
        let condition = Condition::new(&["id", "user name"], "id > 3 AND \"user name\" LIKE 'a%' -- ours").expect("an expression");
        let row = |id, name: &str| [Value::Integer(id), Value::Text(name.into())];
        assert!(condition.holds(&row(4, "ann")).expect("evaluated"));
        assert!(!condition.holds(&row(3, "ann")).expect("evaluated"));
        assert!(!condition.holds(&[Value::Integer(9), Value::Null]).expect("evaluated"));
        assert!(Condition::new(&["id"], "nosuch = 1").is_err());
        assert!(Condition::new(&["id"], "\"nosuch\" = 1").is_err());
        assert!(Condition::new(&["id"], "id =").is_err());
    }
}
