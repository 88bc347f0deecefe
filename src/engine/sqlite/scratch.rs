//! A SQLite database of nobody: it has no name and no file that others could open, and is gone when it is dropped.
//!
//! SQLite keeps it in memory as long as it is small, and beyond that in a file that is unlinked as soon as it is made. Questions
//! that others write are asked of it ([`Scratch::ask`]): an authorizer lets them read and nothing else, and tells which tables they read, so that
//! only these need be filled ([`Scratch::names`]).

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OpenFlags};

use super::query::value;
use super::{Options, Site, Sqlite};
use crate::engine::EngineError;
use crate::schema::Settings;
use crate::value::Value;

/// PRAGMAs that only describe the schema. They are asked as table-valued functions.
const PRAGMAS: [&str; 8] =
    ["table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list", "data_version"];

/// Functions that reach beyond the database.
const FUNCTIONS: [&str; 3] = ["load_extension", "fts3_tokenizer", "readfile"];

/// A database that nobody else can open.
#[derive(Debug)]
pub struct Scratch {
    sqlite: Sqlite,
}

/// What a statement wanted, as the authorizer heard it.
#[derive(Debug, Default)]
struct Heard {
    tables: Vec<String>,
    refused: Option<String>,
}

impl Scratch {
    /// Makes an empty one with these settings, as far as only a new database can be given them.
    ///
    /// # Errors
    /// The system's, and [`EngineError::Extension`].
    pub fn new(settings: &Settings, options: &Options) -> Result<Self, EngineError> {
        let site = Site::new(Path::new(""), options);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags("", flags).map_err(|error| site.explain(error, "making a scratch database"))?;
        let sqlite = Sqlite { connection, site, is_read_only: false, held: None, index: None }.set_up()?;
        sqlite.set_creation(settings)?;
        Ok(Self { sqlite })
    }

    /// Returns it as a database that is filled like any other.
    pub fn engine(&mut self) -> &mut Sqlite {
        &mut self.sqlite
    }

    /// Finds the tables that a question reads: views are followed, and a virtual table is named as itself and, where its module says so, by the tables
    /// behind it. Nothing is run.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] for what is not one statement that only reads, [`EngineError::Statement`] for what SQLite does not understand.
    pub fn names(&mut self, sql: &str) -> Result<Vec<String>, EngineError> {
        let heard = self.listen(|connection| check(connection, sql, &mut |_| Ok(())))?;
        Ok(heard.tables)
    }

    /// Answers a question: the columns' names first, then row after row until there are no more or the sink breaks.
    ///
    /// # Errors
    /// As [`Scratch::names`].
    pub fn ask(
        &mut self,
        sql: &str,
        begin: &mut dyn FnMut(Vec<String>),
        sink: &mut dyn FnMut(Vec<Value>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.listen(|connection| {
            check(connection, sql, &mut |statement| {
                let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
                let width = columns.len();
                begin(columns);
                let mut cursor = statement.query([])?;
                while let Some(row) = cursor.next()? {
                    let cells = (0..width).map(|at| row.get_ref(at).map(value)).collect::<Result<_, _>>()?;
                    if sink(cells).is_break() {
                        break;
                    }
                }
                Ok(())
            })
        })
        .map(drop)
    }

    /// Runs something while an authorizer listens and refuses all but reading.
    fn listen(&mut self, run: impl FnOnce(&Connection) -> Result<(), EngineError>) -> Result<Heard, EngineError> {
        let fail = |error| EngineError::Statement { doing: GUARDING.to_owned(), source: Box::new(error) };
        self.sqlite.connection.pragma_update(None, "query_only", true).map_err(fail)?;
        let heard = self.guard(judge, "and a snapshot can only be read", "the query", run);
        self.sqlite.connection.pragma_update(None, "query_only", false).map_err(fail)?;
        heard
    }

    /// Runs something while an authorizer refuses what this judge refuses, in words.
    pub(super) fn listen_with(
        &mut self,
        judge: fn(&AuthContext<'_>) -> Result<Authorization, String>,
        run: impl FnOnce(&Connection) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let hear = move |context: &AuthContext<'_>, heard: &mut Heard| {
            judge(context).unwrap_or_else(|what| {
                heard.refused.get_or_insert(what);
                Authorization::Deny
            })
        };
        self.guard(hear, "which no dump needs", "the dump", run).map(drop)
    }

    fn guard(
        &mut self,
        judge: impl Fn(&AuthContext<'_>, &mut Heard) -> Authorization + Send + 'static,
        why_not: &str,
        what: &str,
        run: impl FnOnce(&Connection) -> Result<(), EngineError>,
    ) -> Result<Heard, EngineError> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let told = Arc::clone(&heard);
        let fail = |error| EngineError::Statement { doing: GUARDING.to_owned(), source: Box::new(error) };
        let hook = move |context: AuthContext<'_>| judge(&context, &mut told.lock().unwrap_or_else(PoisonError::into_inner));
        let connection = &mut self.sqlite.connection;
        connection.authorizer(Some(hook)).map_err(fail)?;
        let done = run(connection);
        connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(fail)?;
        let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
        match (done, &heard.refused) {
            (Ok(()), _) => Ok(heard),
            (Err(error @ EngineError::Unsupported(_)), _) => Err(error),
            (Err(_), Some(refused)) => Err(EngineError::Unsupported(format!("{what} would {refused}, {why_not}"))),
            (Err(error), None) => Err(error),
        }
    }

    /// Checks that no two objects share their pages, and reads the schema anew. What was written into it as text is true then.
    pub(super) fn check_pages(&mut self) -> Result<(), EngineError> {
        let connection = &self.sqlite.connection;
        let look = || -> Result<Option<String>, rusqlite::Error> {
            connection.execute_batch("PRAGMA writable_schema=RESET")?;
            let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table','index') AND rootpage > 0 AND rootpage IN \
                       (SELECT rootpage FROM sqlite_schema GROUP BY rootpage HAVING count(*) > 1) \
                       UNION ALL SELECT name FROM sqlite_schema WHERE rootpage = 1 \
                       UNION ALL SELECT name FROM sqlite_schema WHERE coalesce(rootpage, 0) > 0 AND type NOT IN ('table','index')";
            let shared = connection.prepare(sql)?.query_map([], |row| row.get(0))?.next().transpose()?;
            Ok(shared)
        };
        match look() {
            Ok(None) => Ok(()),
            Ok(Some(name)) => Err(EngineError::Unsupported(format!("the dump gives `{name}` pages that are another's"))),
            Err(error) => {
                Err(EngineError::Unsupported(format!("the dump leaves no sound schema, its pages cannot be read: {}", words(&error))))
            }
        }
    }
}

/// What is done while an authorizer is set.
const GUARDING: &str = "guarding the scratch database";

/// Prepares a question and checks that it is one.
fn check(
    connection: &Connection,
    sql: &str,
    run: &mut dyn FnMut(&mut rusqlite::Statement<'_>) -> Result<(), rusqlite::Error>,
) -> Result<(), EngineError> {
    let refuse = |what: &str| Err(EngineError::Unsupported(format!("the query {what}")));
    let mut statement = match connection.prepare(sql) {
        Err(rusqlite::Error::MultipleStatement) => return refuse("is more than one statement"),
        prepared => prepared.map_err(explain)?,
    };
    if statement.column_count() == 0 {
        return refuse("is no statement that returns rows");
    }
    if !statement.readonly() {
        return refuse("would change the database, and a snapshot can only be read");
    }
    if statement.parameter_count() > 0 {
        return refuse("has parameters, and nobody gives them values");
    }
    run(&mut statement).map_err(explain)
}

/// Says what SQLite did not understand, and where.
fn explain(error: rusqlite::Error) -> EngineError {
    EngineError::Statement { doing: "the query".to_owned(), source: words(&error).into() }
}

/// Says an error of SQLite in its own words, with the place in the statement.
pub(super) fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } => match usize::try_from(*offset).ok().and_then(|at| place(sql, at)) {
            Some(place) => format!("{msg}, {place}"),
            None => msg.clone(),
        },
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}

/// Tells whether a function reaches beyond the database.
pub(super) fn reaches_beyond(function: &str) -> bool {
    FUNCTIONS.iter().any(|name| name.eq_ignore_ascii_case(function))
}

/// Names a place in a text: line, column, and what stands there.
fn place(sql: &str, at: usize) -> Option<String> {
    let (before, rest) = (sql.get(..at)?, sql.get(at..)?);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let word: String = rest.chars().take_while(|letter| !letter.is_whitespace()).take(40).collect();
    Some(if word.is_empty() {
        format!("at its end (line {line}, column {column})")
    } else {
        format!("at line {line}, column {column}: `{word}`")
    })
}

fn judge(context: &AuthContext<'_>, heard: &mut Heard) -> Authorization {
    let is_of = |database: Option<&str>| database.is_none_or(|name| name.eq_ignore_ascii_case("main"));
    let refused = match context.action {
        AuthAction::Select | AuthAction::Recursive => return Authorization::Allow,
        AuthAction::Read { table_name, .. } => {
            if is_of(context.database_name) && !heard.tables.iter().any(|name| name.eq_ignore_ascii_case(table_name)) {
                heard.tables.push(table_name.to_owned());
            }
            return Authorization::Allow;
        }
        AuthAction::Function { function_name } if !reaches_beyond(function_name) => {
            return Authorization::Allow;
        }
        AuthAction::Pragma { pragma_name, .. } if PRAGMAS.iter().any(|name| name.eq_ignore_ascii_case(pragma_name)) => {
            return Authorization::Allow;
        }
        // The module of a virtual table prepares what it would write when it is first asked anything. None of it can run here.
        AuthAction::Insert { table_name } | AuthAction::Delete { table_name } | AuthAction::Update { table_name, .. }
            if is_shadow(table_name) =>
        {
            return Authorization::Allow;
        }
        AuthAction::Insert { table_name } | AuthAction::Delete { table_name } | AuthAction::Update { table_name, .. }
            if ["sqlite_master", "sqlite_schema"].contains(&table_name) =>
        {
            "change the schema".to_owned()
        }
        AuthAction::Function { function_name } => format!("call `{function_name}`"),
        AuthAction::Pragma { pragma_name, .. } => format!("use `PRAGMA {pragma_name}`"),
        AuthAction::Insert { table_name } => format!("insert into `{table_name}`"),
        AuthAction::Delete { table_name } => format!("delete from `{table_name}`"),
        AuthAction::Update { table_name, .. } => format!("update `{table_name}`"),
        AuthAction::Attach { .. } => "attach another database".to_owned(),
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => "begin or end a transaction".to_owned(),
        _ => "change the database".to_owned(),
    };
    heard.refused.get_or_insert(refused);
    Authorization::Deny
}

/// Tells by its name whether a table may hold the rows of a virtual one.
fn is_shadow(name: &str) -> bool {
    let endings = ["_node", "_rowid", "_parent", "_data", "_idx", "_content", "_docsize", "_config", "_segments", "_segdir", "_stat"];
    endings.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> Scratch {
        let mut scratch = Scratch::new(&Settings::default(), &Options::default()).expect("a scratch database");
        let sql = "CREATE TABLE users(id INTEGER PRIMARY KEY, name); CREATE TABLE posts(id, author); CREATE TABLE \"odd one\"(a);
            CREATE VIEW authors AS SELECT name FROM users WHERE id IN (SELECT author FROM posts);
            INSERT INTO users VALUES(1, 'ann'), (2, NULL)";
        scratch.engine().connection.execute_batch(sql).expect("a schema");
        scratch
    }

    #[track_caller]
    fn check_names(sql: &str, expected: &[&str]) {
        let mut names = scratch().names(sql).expect(sql);
        names.sort();
        assert_eq!(names, expected, "{sql}");
    }

    #[test]
    fn a_question_names_the_tables_that_it_reads_through_views_and_without_columns() {
        check_names("SELECT count(*) FROM users", &["users"]);
        check_names("SELECT * FROM authors", &["authors", "posts", "users"]);
        check_names("WITH x AS (SELECT a FROM \"odd one\") SELECT * FROM x", &["odd one"]);
        check_names("SELECT 1", &[]);
        check_names("VALUES(1)", &[]);
    }

    #[track_caller]
    fn check_refused(sql: &str, words: &str) {
        let error = scratch().names(sql).expect_err(sql);
        let text = format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(text.contains(words), "{sql}: {text}");
    }

    #[test]
    fn what_does_more_than_read_is_refused_by_name() {
        check_refused("DELETE FROM users", "delete from `users`");
        check_refused("INSERT INTO posts VALUES(1,2) RETURNING id", "insert into `posts`");
        check_refused("DROP TABLE users", "would change the schema");
        check_refused("ATTACH 'x.db' AS x", "attach another database");
        check_refused("PRAGMA journal_mode", "PRAGMA journal_mode");
        check_refused("SELECT load_extension('x')", "load_extension");
        check_refused("SELECT 1; SELECT 2", "more than one statement");
        check_refused("SELECT * FROM users WHERE id = ?", "parameters");
        check_refused("BEGIN", "transaction");
        check_refused("", "no statement that returns rows");
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_place() {
        check_refused("SELECT nme\nFROM users", "no such column: nme, at line 1, column 8: `nme`");
        check_refused("SELECT *\nFROM userz", "no such table: userz");
        check_refused("SELECT * FROM users WHERE", "incomplete input");
        check_refused("SELECT *\nFROM users WERE id", "at line 2");
    }

    #[test]
    fn rows_come_with_their_storage_classes() {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        let mut sink = |row: Vec<Value>| {
            rows.push(row);
            ControlFlow::Continue(())
        };
        scratch().ask("SELECT id, name, 1.0, x'00' FROM users ORDER BY id", &mut |names| columns = names, &mut sink).expect("an answer");
        assert_eq!(columns, ["id", "name", "1.0", "x'00'"]);
        let json: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(Value::to_json).collect()).collect();
        assert_eq!(json, [["1", "\"ann\"", "1.0", "{\"blob\":\"AA==\"}"], ["2", "null", "1.0", "{\"blob\":\"AA==\"}"]]);
    }
}
