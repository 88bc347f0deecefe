//! One connection with a runtime of its own, as calls that wait.
//!
//! Every session has the same settings, so that the server writes a value in the same way whatever its configuration says.

use std::ops::ControlFlow;
use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::connect::Session;
use super::{Options, connect};
use crate::engine::EngineError;

/// How a server writes values, and what it may not do behind our back. Values are written without loss: reals with all digits that they need
/// (`extra_float_digits`), dates and times in ISO's form and UTC, names with their schema.
const SESSION: &str = "SET search_path = ''; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; \
     SET timezone = 'UTC'; SET bytea_output = 'hex'; SET xmlbinary = 'base64'; SET xmloption = 'content'; SET lc_monetary = 'C'; \
     SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET row_security = off; SET jit = off; SET array_nulls = on; \
     SET quote_all_identifiers = off; SET synchronize_seqscans = off; SET statement_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET client_min_messages = error; SET check_function_bodies = off; \
     SET default_transaction_read_only = off; SET transform_null_equals = off; SET default_tablespace = ''";

/// The name under which the server's lists show a session.
pub const APPLICATION: &str = "dbelay";

/// A row of text cells.
pub type TextRow = SimpleQueryRow;

/// What a question would answer.
pub struct Description {
    /// The columns' names and types.
    pub columns: Vec<(String, String)>,
    /// Whether it has parameters.
    pub has_parameters: bool,
}

/// What the server said against a statement.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
struct Refusal {
    words: String,
    code: Option<SqlState>,
    /// Whether it is about a place in the statement.
    is_placed: bool,
}

/// Tells whether a statement that failed is several.
pub fn is_several(error: &EngineError) -> bool {
    // Of what is wrong within a statement the server says where.
    refusal(error).is_some_and(|refusal| refusal.code == Some(SqlState::SYNTAX_ERROR) && !refusal.is_placed)
}

/// Tells whether a statement failed because no statement of its kind can stand there.
pub fn is_misplaced(error: &EngineError) -> bool {
    let codes = [Some(SqlState::SYNTAX_ERROR), Some(SqlState::FEATURE_NOT_SUPPORTED)];
    refusal(error).is_some_and(|refusal| codes.contains(&refusal.code))
}

/// Tells whether a statement failed because of a value that it was given.
pub fn is_about_a_value(error: &EngineError) -> bool {
    refusal(error).is_some_and(|refusal| refusal.code == Some(SqlState::INVALID_PARAMETER_VALUE))
}

/// Tells whether a statement failed because a key is there already.
pub fn is_duplicate(error: &EngineError) -> bool {
    refusal(error).is_some_and(|refusal| refusal.code == Some(SqlState::UNIQUE_VIOLATION))
}

fn refusal(error: &EngineError) -> Option<&Refusal> {
    if let EngineError::Statement { source, .. } = error { source.downcast_ref() } else { None }
}

/// A connection.
pub struct Link {
    runtime: Runtime,
    session: Session,
    place: String,
    lock_ms: u64,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`EngineError::Missing`] where there is no such database, [`EngineError::Unreadable`] where it cannot be reached.
    pub fn open(options: &Options) -> Result<Self, EngineError> {
        let place = options.place.clone();
        let unreadable = |reason: String| EngineError::Unreadable { place: place.clone(), reason };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| unreadable(error.to_string()))?;
        let session = runtime.block_on(connect::connect(&options.connection, APPLICATION))?;
        let link = Self { runtime, session, place, lock_ms: options.lock_ms };
        link.run(SESSION, "setting up the session")?;
        link.run(&format!("SET lock_timeout = {}", options.lock_ms), "setting up the session")?;
        Ok(link)
    }

    /// Describes what a question would answer, without asking it: the columns' names and types. None for what answers nothing.
    ///
    /// # Errors
    /// As [`Link::run`]; also for more than one statement.
    pub fn describe(&self, sql: &str, doing: &str) -> Result<Description, EngineError> {
        let statement = self.runtime.block_on(self.session.client.prepare(sql)).map_err(|error| self.failed(doing, error))?;
        let columns = statement.columns().iter().map(|column| (column.name().to_owned(), column.type_().name().to_owned())).collect();
        Ok(Description { columns, has_parameters: !statement.params().is_empty() })
    }

    /// Runs statements and forgets what they say.
    ///
    /// # Errors
    /// [`EngineError::Statement`] and what [`failed`] makes of the server's code.
    pub fn run(&self, sql: &str, doing: &str) -> Result<(), EngineError> {
        self.runtime.block_on(self.session.client.batch_execute(sql)).map_err(|error| self.failed(doing, error))
    }

    /// Asks for rows, each cell as text.
    ///
    /// # Errors
    /// As [`Link::run`].
    pub fn rows(&self, sql: &str, doing: &str) -> Result<Vec<TextRow>, EngineError> {
        let messages = self.runtime.block_on(self.session.client.simple_query(sql)).map_err(|error| self.failed(doing, error))?;
        Ok(messages.into_iter().filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None }).collect())
    }

    /// Asks for one cell of one row; none for NULL or no row.
    ///
    /// # Errors
    /// As [`Link::run`].
    pub fn cell(&self, sql: &str, doing: &str) -> Result<Option<String>, EngineError> {
        Ok(self.rows(sql, doing)?.first().and_then(|row| row.get(0)).map(ToOwned::to_owned))
    }

    /// Runs a statement with lists of texts as its parameters; returns how many rows it concerned.
    ///
    /// # Errors
    /// As [`Link::run`].
    pub fn run_lists(&self, sql: &str, lists: &[Vec<Option<String>>], doing: &str) -> Result<u64, EngineError> {
        use tokio_postgres::types::{ToSql, Type};
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            lists.iter().map(|list| (list as &(dyn ToSql + Sync), Type::TEXT_ARRAY)).collect();
        let run = async {
            let mut stream = pin!(self.session.client.query_typed_raw(sql, parameters).await?);
            while let Some(row) = stream.next().await {
                row?;
            }
            Ok(stream.rows_affected().unwrap_or(0))
        };
        self.runtime.block_on(run).map_err(|error| self.failed(doing, error))
    }

    /// Runs a `COPY ... TO STDOUT` and hands over its lines, some at once, each with its line break.
    ///
    /// # Errors
    /// As [`Link::run`]. After a break the rest is read and forgotten, so that the connection can go on.
    pub fn copy_out(&self, sql: &str, doing: &str, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), EngineError> {
        let copy = async {
            let mut stream = pin!(self.session.client.copy_out(sql).await?);
            while let Some(bytes) = stream.next().await {
                if sink(&bytes?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        self.runtime.block_on(copy).map_err(|error| self.failed(doing, error))
    }

    /// Runs a `COPY ... FROM STDIN` with these bytes; returns how many rows came in.
    ///
    /// # Errors
    /// As [`Link::run`].
    pub fn copy_in(&self, sql: &str, doing: &str, bytes: Bytes) -> Result<u64, EngineError> {
        let copy = async {
            let mut sink = pin!(self.session.client.copy_in::<_, Bytes>(sql).await?);
            sink.send(bytes).await?;
            sink.finish().await
        };
        self.runtime.block_on(copy).map_err(|error| self.failed(doing, error))
    }

    /// Names an error by what was being done. A lock that was not had names who stands in the way.
    pub fn failed(&self, doing: &str, error: tokio_postgres::Error) -> EngineError {
        match error.code() {
            Some(code) if [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) => {
                EngineError::Locked { who: String::new(), waited_ms: self.lock_ms }
            }
            Some(code) if *code == SqlState::DISK_FULL => EngineError::Full,
            Some(code) if *code == SqlState::READ_ONLY_SQL_TRANSACTION => EngineError::ReadOnly(words(&error)),
            Some(code) if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED => EngineError::Damaged(words(&error)),
            _ if error.is_closed() => {
                EngineError::Unreadable { place: self.place.clone(), reason: format!("the connection was lost while {doing}") }
            }
            code => {
                let is_placed = error.as_db_error().is_some_and(|error| error.position().is_some());
                let refusal = Refusal { words: words(&error), code: code.cloned(), is_placed };
                EngineError::Statement { doing: doing.to_owned(), source: Box::new(refusal) }
            }
        }
    }
}

/// Says a server's error in its own words, with what it adds.
pub fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => {
            let mut text = error.message().to_owned();
            if let Some(detail) = error.detail() {
                text.push_str(&format!(" ({detail})"));
            }
            text
        }
        None => {
            let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
            causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
        }
    }
}
