//! A dump as statements, and loading one into a scratch database.
//!
//! A dump is somebody's text, so it is read as text only: commands of the `sqlite3` shell are refused, and an authorizer refuses what reaches beyond
//! the database (other files, libraries). What it wrote into the schema as text is looked at afterwards: no two tables may share their pages. PRAGMAs that belong to the content are followed, all others are
//! passed over. Triggers do not fire: a dump holds what they did.

use std::io::BufRead;

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::scratch::Scratch;
use crate::engine::EngineError;

/// The longest statement that is read: SQLite takes none that is longer.
const STATEMENT_BYTES_MAX: usize = 1_000_000_000;

/// PRAGMAs that are part of what a dump says.
const PRAGMAS: [&str; 6] = ["encoding", "page_size", "auto_vacuum", "user_version", "application_id", "writable_schema"];

/// A statement of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// Its text. What is no UTF-8 stands as `CAST(X'..' AS TEXT)`.
    pub sql: String,
}

/// Where in a statement a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Quotes(u8),
    LineComment,
    BlockComment,
}

/// The statements of a text, one after another, whatever its length.
pub struct Statements<R> {
    input: R,
    line: u64,
    rest: Vec<u8>,
    at: usize,
}

impl<R: BufRead> Statements<R> {
    /// Begins at the beginning.
    pub fn new(input: R) -> Self {
        Self { input, line: 0, rest: Vec::new(), at: 0 }
    }

    fn byte(&mut self) -> Result<Option<u8>, EngineError> {
        if self.at >= self.rest.len() {
            self.rest.clear();
            self.at = 0;
            let read = self.input.read_until(b'\n', &mut self.rest).map_err(|error| EngineError::Input(Box::new(error)))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
        }
        let byte = self.rest[self.at];
        self.at += 1;
        Ok(Some(byte))
    }

    fn peek(&self) -> Option<u8> {
        self.rest.get(self.at).copied()
    }

    /// Returns the next statement, with its semicolon; none at the end.
    ///
    /// # Errors
    /// The reader's; [`EngineError::Unsupported`] for a command of the shell, or a statement that does not end.
    pub fn read(&mut self) -> Result<Option<Statement>, EngineError> {
        let mut text: Vec<u8> = Vec::new();
        // The text's literals, where it may have bytes that are no text.
        let mut literals: Vec<(usize, usize)> = Vec::new();
        let (mut inside, mut begun) = (Inside::Nothing, 0);
        let (mut start, mut words) = (None, Words::default());
        while let Some(byte) = self.byte()? {
            if start.is_none() {
                if byte.is_ascii_whitespace() || byte == b';' {
                    continue;
                }
                if byte == b'.' && self.at == 1 {
                    return Err(EngineError::Unsupported(format!("line {} is a command of the sqlite3 shell, and none is run", self.line)));
                }
                start = Some(self.line);
            }
            text.push(byte);
            if text.len() > STATEMENT_BYTES_MAX {
                return Err(EngineError::Unsupported(format!("the statement on line {} is too long", start.unwrap_or(0))));
            }
            match inside {
                Inside::Nothing => match byte {
                    b'\'' | b'"' | b'`' | b'[' => {
                        words.other();
                        inside = Inside::Quotes(if byte == b'[' { b']' } else { byte });
                        begun = text.len() - 1;
                    }
                    b'-' if self.peek() == Some(b'-') => inside = Inside::LineComment,
                    b'/' if self.peek() == Some(b'*') => {
                        // Not the end of it, too.
                        self.at += 1;
                        text.push(b'*');
                        inside = Inside::BlockComment;
                    }
                    b';' => {
                        if words.semicolon() {
                            return finish(text, start.unwrap_or(0), &literals).map(Some);
                        }
                    }
                    byte => words.byte(byte),
                },
                // A quote that is doubled begins the same again.
                Inside::Quotes(end) if byte == end => {
                    inside = Inside::Nothing;
                    if end == b'\'' {
                        match literals.last_mut() {
                            Some(last) if last.1 == begun => last.1 = text.len(),
                            _ => literals.push((begun, text.len())),
                        }
                    }
                }
                Inside::LineComment if byte == b'\n' => inside = Inside::Nothing,
                Inside::BlockComment if byte == b'*' && self.peek() == Some(b'/') => {
                    self.at += 1;
                    text.push(b'/');
                    inside = Inside::Nothing;
                }
                Inside::Quotes(_) | Inside::LineComment | Inside::BlockComment => {}
            }
        }
        let line = start.unwrap_or(0);
        match inside {
            Inside::Quotes(_) | Inside::BlockComment => Err(EngineError::Unsupported(format!("the statement on line {line} does not end"))),
            _ if words.is_empty() => Ok(None),
            _ => Err(EngineError::Unsupported(format!("the statement on line {line} has no semicolon: the dump is cut off"))),
        }
    }
}

/// Writes a statement's text so that it is UTF-8.
fn finish(text: Vec<u8>, line: u64, literals: &[(usize, usize)]) -> Result<Statement, EngineError> {
    let text = match String::from_utf8(text) {
        Ok(sql) => return Ok(Statement { line, sql }),
        Err(error) => error.into_bytes(),
    };
    let mut sql: Vec<u8> = Vec::new();
    let mut from = 0;
    for &(start, end) in literals {
        let literal = text.get(start..end).unwrap_or_default();
        if std::str::from_utf8(literal).is_ok() {
            continue;
        }
        sql.extend_from_slice(text.get(from..start).unwrap_or_default());
        sql.extend_from_slice(b"CAST(X'");
        let mut bytes = literal.get(1..literal.len() - 1).unwrap_or_default().iter();
        while let Some(byte) = bytes.next() {
            sql.extend_from_slice(format!("{byte:02X}").as_bytes());
            if *byte == b'\'' {
                bytes.next();
            }
        }
        sql.extend_from_slice(b"' AS TEXT)");
        from = end;
    }
    sql.extend_from_slice(text.get(from..).unwrap_or_default());
    let no_text = |_| EngineError::Unsupported(format!("the statement on line {line} is no UTF-8"));
    Ok(Statement { line, sql: String::from_utf8(sql).map_err(no_text)? })
}

/// Enough of a statement's words to know where it ends: that of a trigger at `; END;`, as SQLite itself sees it.
#[derive(Debug, Default)]
struct Words {
    word: Vec<u8>,
    /// How many words were read, as far as it matters.
    count: u32,
    is_create: bool,
    is_trigger: bool,
    /// Whether a semicolon stood before the last word.
    after_semicolon: bool,
    /// Whether the last word is the END of a trigger.
    is_end: bool,
    is_any: bool,
}

impl Words {
    fn is_empty(&self) -> bool {
        !self.is_any && self.word.is_empty()
    }

    fn byte(&mut self, byte: u8) {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 {
            if self.word.len() < 16 {
                self.word.push(byte.to_ascii_uppercase());
            }
            return;
        }
        self.end_word();
        if !byte.is_ascii_whitespace() {
            self.other();
        }
    }

    fn other(&mut self) {
        self.end_word();
        self.is_any = true;
        (self.after_semicolon, self.is_end) = (false, false);
        self.count = self.count.max(3);
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        self.is_any = true;
        match (self.count, word.as_slice()) {
            (0, b"CREATE") => self.is_create = true,
            (1, b"TEMP" | b"TEMPORARY") if self.is_create => self.count = 0,
            (1, b"TRIGGER") if self.is_create => self.is_trigger = true,
            _ => {}
        }
        self.count += 1;
        self.is_end = self.after_semicolon && word == b"END";
        self.after_semicolon = false;
    }

    /// Hears a semicolon; tells whether it ends the statement.
    fn semicolon(&mut self) -> bool {
        self.end_word();
        let ends = !self.is_trigger || self.is_end;
        (self.after_semicolon, self.is_end) = (true, false);
        ends
    }
}

impl Scratch {
    /// Runs the statements of a dump.
    ///
    /// # Errors
    /// The reader's; [`EngineError::Unsupported`] for what no dump needs, [`EngineError::Statement`] with the line for what fails.
    pub fn load(&mut self, input: impl BufRead) -> Result<(), EngineError> {
        self.listen_with(judge, |connection| {
            let mut statements = Statements::new(input);
            while let Some(Statement { line, sql }) = statements.read()? {
                connection.execute_batch(&sql).map_err(|error| EngineError::Statement {
                    doing: format!("the statement on line {line}"),
                    source: super::scratch::words(&error).into(),
                })?;
            }
            if !connection.is_autocommit() {
                return Err(EngineError::Unsupported("the dump begins a transaction that it does not end: it is cut off".to_owned()));
            }
            Ok(())
        })?;
        self.check_pages()
    }
}

fn judge(context: &AuthContext<'_>) -> Result<Authorization, String> {
    Ok(match context.action {
        AuthAction::Pragma { pragma_name, .. } if PRAGMAS.iter().any(|name| name.eq_ignore_ascii_case(pragma_name)) => Authorization::Allow,
        AuthAction::Pragma { .. } => Authorization::Ignore,
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => return Err("attach another database".to_owned()),
        AuthAction::Function { function_name } if super::scratch::reaches_beyond(function_name) => {
            return Err(format!("call `{function_name}`"));
        }
        _ => Authorization::Allow,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expected: &[(u64, &str)]) {
        let mut statements = Statements::new(text);
        let mut found = Vec::new();
        while let Some(statement) = statements.read().expect("statements") {
            found.push((statement.line, statement.sql));
        }
        let expected: Vec<(u64, String)> = expected.iter().map(|(line, sql)| (*line, (*sql).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn statements_end_where_sqlite_ends_them() {
        check(b"", &[]);
        check(b" ;;\n-- nothing\n", &[]);
        check(b"SELECT 1;SELECT\n2;", &[(1, "SELECT 1;"), (1, "SELECT\n2;")]);
        check(b"SELECT ';''', \"a;\"\"\", `;`, [;] -- ;\n /* ; */;", &[(1, "SELECT ';''', \"a;\"\"\", `;`, [;] -- ;\n /* ; */;")]);
        check(b"SELECT /*/;*/ 1;", &[(1, "SELECT /*/;*/ 1;")]);
        let trigger = "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; DELETE FROM b; END;";
        check(format!("{trigger}\nSELECT 1;").as_bytes(), &[(1, trigger), (2, "SELECT 1;")]);
        check(
            b"CREATE TABLE trigger_t(a); CREATE INDEX i ON trigger_t(a);",
            &[(1, "CREATE TABLE trigger_t(a);"), (1, "CREATE INDEX i ON trigger_t(a);")],
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_written_so_that_they_stay() {
        check(b"INSERT INTO t VALUES('a''\xff','b');", &[(1, "INSERT INTO t VALUES(CAST(X'6127FF' AS TEXT),'b');")]);
        check("SELECT 'ключ';".as_bytes(), &[(1, "SELECT 'ключ';")]);
    }

    #[track_caller]
    fn check_refused(text: &str, words: &str) {
        let mut scratch = Scratch::new(&crate::schema::Settings::default(), &super::super::Options::default()).expect("a scratch database");
        let error = scratch.load(text.as_bytes()).expect_err(text);
        let said = format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(said.contains(words), "{text}: {said}");
    }

    #[test]
    fn what_no_dump_needs_is_refused() {
        check_refused("SELECT 1;\n.read other.sql\n", "line 2 is a command of the sqlite3 shell");
        check_refused("ATTACH 'other.db' AS other;", "attach another database");
        check_refused("CREATE TABLE t(a);\nSELECT load_extension('x');", "load_extension");
        check_refused("CREATE TABLE t(a); PRAGMA writable_schema=ON; UPDATE sqlite_schema SET rootpage=1;", "pages");
        check_refused(
            "CREATE TABLE t(a); PRAGMA writable_schema=ON;
             INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql) VALUES('table','u','u',2,'CREATE TABLE u(a)');",
            "pages",
        );
        check_refused("SELECT 1", "cut off");
        check_refused("BEGIN; CREATE TABLE t(a);", "cut off");
        check_refused("SELECT 'a;", "does not end");
        check_refused("CREATE TABLE t(a);\n\nINSERT INTO u VALUES(1);", "line 3");
    }
}
