//! Questions in SQL that others write: guards, data-aware rules. One statement, and none that could change anything.

use std::time::Duration;

use rusqlite::types::ValueRef;

use super::read::State;
use crate::engine::{Answer, EngineError};
use crate::value::Value;

/// What a question may begin with. Table-valued functions of PRAGMAs are all without effect, PRAGMA statements are not.
const BEGINNINGS: [&str; 3] = ["select", "with", "values"];

/// How long a question may take: somebody waits for what depends on it.
const SECONDS_MAX: u64 = 60;

/// Answers a question with at most this many rows.
pub(super) fn query(state: &State<'_>, sql: &str, rows_max: usize) -> Result<Answer, EngineError> {
    let handle = state.connection.get_interrupt_handle();
    let (done, waits) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waits.recv_timeout(Duration::from_secs(SECONDS_MAX)) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                handle.interrupt();
            }
        });
        let answer = ask(state, sql, rows_max);
        drop(done);
        match answer {
            Err(EngineError::Statement { source, .. }) if is_interrupted(&*source) => {
                let words = format!("the query `{}` was given up after {SECONDS_MAX} seconds", sql.trim());
                Err(EngineError::Unsupported(words))
            }
            answer => answer,
        }
    })
}

fn is_interrupted(error: &(dyn std::error::Error + 'static)) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    code == Some(rusqlite::ErrorCode::OperationInterrupted)
}

fn ask(state: &State<'_>, sql: &str, rows_max: usize) -> Result<Answer, EngineError> {
    let fail = |error| state.explain(error, &format!("the query `{}`", sql.trim()));
    let refuse = |what: &str| Err(EngineError::Unsupported(format!("the query `{}` {what}", sql.trim())));
    if !BEGINNINGS.iter().any(|word| first_word(sql).eq_ignore_ascii_case(word)) {
        return refuse("is no SELECT");
    }
    let mut statement = match state.connection.prepare(sql) {
        Err(rusqlite::Error::MultipleStatement) => return refuse("is more than one statement"),
        prepared => prepared.map_err(fail)?,
    };
    if !statement.readonly() {
        return refuse("would change the database");
    }
    if statement.parameter_count() > 0 {
        return refuse("has parameters, and nobody gives them values");
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut answer = Answer { columns, rows: Vec::new(), is_cut: false };
    let mut cursor = statement.query([]).map_err(fail)?;
    while let Some(row) = cursor.next().map_err(fail)? {
        if answer.rows.len() == rows_max {
            answer.is_cut = true;
            break;
        }
        let cells = (0..answer.columns.len()).map(|at| row.get_ref(at).map(value));
        answer.rows.push(cells.collect::<Result<_, _>>().map_err(fail)?);
    }
    Ok(answer)
}

pub(super) fn value(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        // In UTF-8, whatever the file has.
        ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// Returns the first word after blanks and comments.
fn first_word(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let after = if let Some(line) = rest.strip_prefix("--") {
            line.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(block) = rest.strip_prefix("/*") {
            block.split_once("*/").map_or("", |(_, after)| after)
        } else {
            break;
        };
        rest = after.trim_start();
    }
    let end = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
    &rest[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_stands_after_comments() {
        for sql in ["select 1", "  -- why\n /* and\nhow */ select(1)", "select"] {
            assert_eq!(first_word(sql), "select", "{sql}");
        }
        assert_eq!(first_word("-- nothing"), "");
        assert_eq!(first_word("/* open"), "");
    }
}
