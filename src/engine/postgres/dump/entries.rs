//! A dump taken apart.
//!
//! Before each entry of its table of contents `pg_dump --verbose` writes a comment:
//! ```text
//! --
//! -- TOC entry 218 (class 1259 OID 16489)
//! -- Dependencies: 217
//! -- Name: users; Type: TABLE; Schema: app; Owner: -; Tablespace: fast
//! --
//! ```
//! The same text can stand in the body of a function or in a default, so the whole dump is read token by token: such a comment counts only where no
//! statement is open. A line break in a name is a blank in the comment, and a name can hold `; Type: `: class and OID tell what
//! an entry is about, name and schema are for the reader.
//!
//! The dump sets `default_tablespace` and `default_table_access_method` where they change, for all that follows. Here each entry that they apply to has them
//! of its own where they are not the usual ones, and puts them back.

use super::lex::{Kind, Lexer, Token, Unterminated};
use crate::engine::EngineError;

/// What the dump says of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The catalogue that the object is in, as that table's OID; 0 where it is in none.
    pub class: u32,
    /// The object's OID in it; 0 where there is none.
    pub oid: u32,
    /// The dump's word for it: `TABLE`, `FK CONSTRAINT`.
    pub kind: String,
    /// Its schema, where it is in one.
    pub schema: Option<String>,
    /// Its name, after its table's where it belongs to one (`users users_pkey`), with its arguments' types where it has such.
    pub tag: String,
    /// The statements that make it, without the final semicolon.
    pub statements: Vec<String>,
}

/// Kinds of entries that are about the dump, or that have a place of their own.
const PASSED_OVER: &[&str] =
    &["ACL", "COMMENT", "DATABASE", "DATABASE PROPERTIES", "ENCODING", "SEARCHPATH", "SECURITY LABEL", "STDSTRINGS"];
/// Kinds of entries that are put in a tablespace.
const IN_TABLESPACE: &[&str] = &["TABLE", "MATERIALIZED VIEW", "INDEX", "CONSTRAINT"];
/// Kinds of entries that have a table access method.
const WITH_METHOD: &[&str] = &["TABLE", "MATERIALIZED VIEW"];

/// Takes the text of `pg_dump --schema-only --verbose` apart, in its order: what an entry needs stands before it.
///
/// # Errors
/// [`EngineError::Unsupported`] for a text that is no such dump.
pub fn entries(text: &str) -> Result<Vec<Entry>, EngineError> {
    let mut splitter = Splitter::new(text);
    let mut lexer = Lexer::new(text);
    while let Some(token) = lexer.next() {
        let token = token.map_err(|Unterminated(at)| strange(text, at, "something in quotes has no end"))?;
        if splitter.statement.is_some() {
            splitter.go_on(token)?;
        } else if token.kind == Kind::Comment {
            splitter.comment(token)?;
        } else if token.is_sign(text, "\\") {
            lexer.skip_line();
        } else {
            splitter.go_on(token)?;
        }
    }
    splitter.finish()
}

/// A statement that has no end yet.
#[derive(Debug, Default)]
struct Statement {
    start: usize,
    /// Where its last token but comments ends.
    end: usize,
    /// How many round brackets are open.
    bracket_depth: usize,
    /// How many `BEGIN ATOMIC` and `CASE` are open, outside of brackets.
    block_depth: usize,
    /// Whether it creates something.
    is_create: bool,
    /// Whether the last word was `BEGIN`.
    after_begin: bool,
    /// Whether `PARTITION BY` stands outside of brackets.
    is_partitioned: bool,
    after_partition: bool,
}

impl Statement {
    /// Takes one more token in and tells whether it ends the statement.
    fn push(&mut self, text: &str, token: Token) -> bool {
        match token.kind {
            Kind::Comment => return false,
            Kind::Sign => match token.text(text) {
                "(" => self.bracket_depth += 1,
                ")" => self.bracket_depth = self.bracket_depth.saturating_sub(1),
                ";" if self.bracket_depth == 0 && self.block_depth == 0 => return true,
                _ => {}
            },
            Kind::Word if self.bracket_depth == 0 => self.word(token.text(text)),
            _ => {}
        }
        let is_word = |word| token.is_word(text, word);
        self.after_begin = is_word("begin");
        self.after_partition = is_word("partition");
        self.end = token.end;
        false
    }

    fn word(&mut self, word: &str) {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        if self.block_depth > 0 {
            if is("case") {
                self.block_depth += 1;
            } else if is("end") {
                self.block_depth -= 1;
            }
        } else if self.is_create && self.after_begin && is("atomic") {
            self.block_depth = 1;
        } else if self.after_partition && is("by") {
            self.is_partitioned = true;
        }
    }
}

#[derive(Debug)]
struct Splitter<'t> {
    text: &'t str,
    done: Vec<Entry>,
    /// Class and OID of a comment whose `Name` line has not come yet.
    header: Option<(u32, u32)>,
    entry: Option<Entry>,
    statement: Option<Statement>,
    /// The settings in force where they are not the usual ones, with their values.
    tablespace: Option<&'t str>,
    method: Option<&'t str>,
}

impl<'t> Splitter<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, done: Vec::new(), header: None, entry: None, statement: None, tablespace: None, method: None }
    }

    /// Reads a comment outside of statements.
    fn comment(&mut self, token: Token) -> Result<(), EngineError> {
        let line = token.text(self.text).trim_end();
        if let Some(rest) = line.strip_prefix("-- TOC entry ") {
            self.close_entry();
            self.header = Some(parse_ids(rest).ok_or_else(|| strange(self.text, token.start, "an entry without class and OID"))?);
        } else if let Some(rest) = line.strip_prefix("-- Name: ")
            && let Some((class, oid)) = self.header.take()
        {
            let name = parse_name(rest).ok_or_else(|| strange(self.text, token.start, "an entry without a type"))?;
            self.entry = Some(Entry { class, oid, ..name });
        }
        Ok(())
    }

    /// Takes one more token of a statement in, or the first of one.
    fn go_on(&mut self, token: Token) -> Result<(), EngineError> {
        let statement = self.statement.get_or_insert_with(|| Statement {
            start: token.start,
            end: token.start,
            is_create: token.is_word(self.text, "create"),
            ..Statement::default()
        });
        if !statement.push(self.text, token) {
            return Ok(());
        }
        let Some(statement) = self.statement.take() else { return Ok(()) };
        let sql = self.text.get(statement.start..statement.end).unwrap_or_default();
        if sql.is_empty() || sql.starts_with("SELECT pg_catalog.set_config(") {
            return Ok(());
        }
        if let Some(setting) = sql.strip_prefix("SET ") {
            return self.set(setting, token.start);
        }
        let Some(entry) = &mut self.entry else {
            return Err(strange(self.text, statement.start, "a statement that belongs to no entry"));
        };
        let settings = [
            (self.tablespace, "default_tablespace", "''", IN_TABLESPACE.contains(&entry.kind.as_str())),
            (self.method, "default_table_access_method", "heap", WITH_METHOD.contains(&entry.kind.as_str()) && !statement.is_partitioned),
        ];
        let is_first = entry.statements.is_empty();
        let in_force = || settings.iter().filter(|(value, .., applies)| is_first && *applies && value.is_some());
        entry.statements.extend(in_force().map(|(value, name, ..)| format!("SET LOCAL {name} = {}", value.unwrap_or_default())));
        entry.statements.push(sql.to_owned());
        entry.statements.extend(in_force().map(|(_, name, usual, _)| format!("SET LOCAL {name} = {usual}")));
        Ok(())
    }

    /// Reads a setting for all that follows.
    fn set(&mut self, setting: &'t str, at: usize) -> Result<(), EngineError> {
        match setting.split_once(" = ") {
            Some(("default_tablespace", value)) => self.tablespace = Some(value).filter(|value| *value != "''"),
            Some(("default_table_access_method", value)) => self.method = Some(value).filter(|value| *value != "heap"),
            Some(("standard_conforming_strings", value)) if value != "on" => {
                return Err(strange(self.text, at, "`standard_conforming_strings` is off"));
            }
            _ => {}
        }
        Ok(())
    }

    fn close_entry(&mut self) {
        // An entry without a statement is about what every database has (`public`).
        let kept = |entry: &Entry| !entry.statements.is_empty() && !PASSED_OVER.contains(&entry.kind.as_str());
        self.done.extend(self.entry.take().filter(kept));
    }

    fn finish(mut self) -> Result<Vec<Entry>, EngineError> {
        if let Some(statement) = &self.statement {
            return Err(strange(self.text, statement.start, "a statement without an end"));
        }
        self.close_entry();
        Ok(self.done)
    }
}

/// Reads `218 (class 1259 OID 16489)`.
fn parse_ids(rest: &str) -> Option<(u32, u32)> {
    let (class, oid) = rest.split_once(" (class ")?.1.strip_suffix(')')?.split_once(" OID ")?;
    Some((class.parse().ok()?, oid.parse().ok()?))
}

/// Reads `users; Type: TABLE; Schema: app; Owner: -`, from the end, because a name may hold anything.
fn parse_name(rest: &str) -> Option<Entry> {
    let (rest, _owner) = rest.rsplit_once("; Owner: ")?;
    let (rest, schema) = rest.rsplit_once("; Schema: ")?;
    let (tag, kind) = rest.rsplit_once("; Type: ")?;
    let schema = Some(schema).filter(|schema| *schema != "-").map(str::to_owned);
    Some(Entry { kind: kind.to_owned(), schema, tag: tag.to_owned(), ..Entry::default() })
}

fn strange(text: &str, at: usize, what: &str) -> EngineError {
    let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    EngineError::Unsupported(format!("the text of `pg_dump` cannot be taken apart: {what} (line {line})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: u32, oid: u32, name: &str) -> String {
        format!("--\n-- TOC entry 7 (class {class} OID {oid})\n-- Dependencies: 3 4\n-- Name: {name}; Owner: -\n--\n\n")
    }

    /// Reads an entry with this body and one more, and compares the statements of the first.
    #[track_caller]
    fn check(body: &str, expected: &[&str]) {
        let text = format!("{}{body}\n\n\n{}SELECT 2;\n", header(1, 2, "a; Type: X; Schema: -"), header(3, 4, "b; Type: Y; Schema: s"));
        for text in [text.clone(), text.replace('\n', "\r\n")] {
            let actual = entries(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(actual.len(), 2, "{text}");
            let statements: Vec<_> = actual[0].statements.iter().map(|sql| sql.replace("\r\n", "\n")).collect();
            assert_eq!(statements, expected, "{text}");
            let second = Entry {
                class: 3,
                oid: 4,
                kind: "Y".into(),
                schema: Some("s".into()),
                tag: "b".into(),
                statements: vec!["SELECT 2".into()],
            };
            assert_eq!(actual[1], second);
        }
    }

    const FAKE: &str = "\n--\n-- TOC entry 9 (class 8 OID 7)\n-- Name: x; Type: TABLE; Schema: public; Owner: -\n--\n\nCREATE TABLE x();\n";

    #[test]
    fn borders_inside_of_quotes_are_none() {
        let quotes = [("'", "'"), ("E'\\'", "'"), ("\"", "\""), ("$$", "$$"), ("$_$ $$ ", "$_$"), ("/* /* */", "*/ 1"), ("(", ")")];
        for (open, close) in quotes {
            let sql = format!("CREATE FUNCTION f() AS {open}{FAKE}{close}");
            check(&format!("{sql};"), &[&sql]);
        }
    }

    #[test]
    fn a_comment_inside_of_a_statement_is_no_border() {
        let fake = FAKE.replace("CREATE TABLE x();", "");
        let sql = format!("SELECT 1{fake} + 1");
        check(&format!("-- before\n{sql} -- after\n;\n/* end; */"), &[&sql]);
    }

    #[test]
    fn the_body_of_an_sql_function_is_one_statement() {
        let body = "CREATE FUNCTION s.f(i integer) RETURNS integer\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT\n         CASE\n             WHEN (i > 1) \
                    THEN\n             CASE i\n                 WHEN 2 THEN 1\n                 ELSE ( CASE WHEN true THEN 1 END)\n             END\n             \
                    ELSE 3\n         END AS \"case\", 1 AS \"end\";\n SELECT 1 AS \"end\";\nEND";
        check(&format!("{body};\n\nALTER FUNCTION x;"), &[body, "ALTER FUNCTION x"]);
        let empty = "CREATE PROCEDURE p()\n    BEGIN ATOMIC\nEND";
        check(&format!("{empty};"), &[empty]);
    }

    #[test]
    fn words_that_begin_a_body_elsewhere_are_words() {
        check("CREATE TABLE t (begin integer, atomic text);", &["CREATE TABLE t (begin integer, atomic text)"]);
        check("CREATE TRIGGER begin BEFORE INSERT;", &["CREATE TRIGGER begin BEFORE INSERT"]);
        check(
            "CREATE VIEW v AS SELECT CASE WHEN a THEN b END;\nSELECT 3;",
            &["CREATE VIEW v AS SELECT CASE WHEN a THEN b END", "SELECT 3"],
        );
    }

    #[test]
    fn a_rule_of_several_statements_is_one() {
        let rule = "CREATE RULE r AS\n    ON INSERT TO v DO INSTEAD ( INSERT INTO t (n)\n  VALUES (')');\n DELETE FROM t;\n)";
        check(&format!("{rule};"), &[rule]);
    }

    #[test]
    fn what_psql_reads_for_itself_is_skipped() {
        check("\\restrict a'b\nSELECT 1;\n\\unrestrict a'b\n", &["SELECT 1"]);
    }

    #[test]
    fn names_hold_anything() {
        let cases = [
            ("users; Type: TABLE; Schema: app; Owner: -", "users", "TABLE", Some("app")),
            ("users users_pkey; Type: CONSTRAINT; Schema: app; Owner: -; Tablespace: fast", "users users_pkey", "CONSTRAINT", Some("app")),
            (
                "w; Type: TABLE; Schema: y; Owner: z(integer); Type: FUNCTION; Schema: Od\"d;x; Owner: -",
                "w; Type: TABLE; Schema: y; Owner: z(integer)",
                "FUNCTION",
                Some("Od\"d;x"),
            ),
            ("CAST (app.pair AS integer); Type: CAST; Schema: -; Owner: -", "CAST (app.pair AS integer)", "CAST", None),
        ];
        for (line, tag, kind, schema) in cases {
            let expected = Entry { kind: kind.into(), schema: schema.map(str::to_owned), tag: tag.into(), ..Entry::default() };
            assert_eq!(parse_name(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn the_preamble_and_entries_that_make_nothing_are_left_out() {
        let public = header(2615, 2200, "public; Type: SCHEMA; Schema: -");
        let comment = header(0, 0, "TABLE t; Type: COMMENT; Schema: public");
        let text = format!(
            "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\nSET standard_conforming_strings = on;\nSELECT pg_catalog.set_config('search_path', '', \
             false);\n\n{public}-- *not* creating schema, since initdb creates it\n\n{comment}COMMENT ON TABLE t IS 'x';\n-- Completed on x\n"
        );
        assert_eq!(entries(&text).expect("a dump"), []);
    }

    #[test]
    fn settings_go_to_the_entries_that_they_apply_to() {
        let mut text = String::new();
        let mut push = |set: &str, kind: &str, sql: &str| {
            text.push_str(&format!("{set}\n\n{}{sql};\n\n\n", header(1, 1, &format!("a; Type: {kind}; Schema: -"))));
        };
        push("SET default_tablespace = '';\n\nSET default_table_access_method = heap;", "TABLE", "t1");
        push("SET default_tablespace = \"f;\";\n\nSET default_table_access_method = zed;", "TABLE", "t2;\nt2b");
        push("", "TABLE", "t3 (partition by integer) PARTITION BY RANGE (a)");
        push("", "VIEW", "v");
        push("", "INDEX", "i");
        push("SET default_tablespace = '';", "MATERIALIZED VIEW", "m");
        push("SET default_table_access_method = heap;", "TABLE", "t4");
        let actual: Vec<_> = entries(&text).expect("a dump").into_iter().map(|entry| entry.statements.join("; ")).collect();
        let space = |sql: &str| format!("SET LOCAL default_tablespace = \"f;\"; {sql}; SET LOCAL default_tablespace = ''");
        let expected = [
            "t1".to_owned(),
            "SET LOCAL default_tablespace = \"f;\"; SET LOCAL default_table_access_method = zed; t2; SET LOCAL default_tablespace = ''; SET LOCAL \
             default_table_access_method = heap; t2b"
                .to_owned(),
            space("t3 (partition by integer) PARTITION BY RANGE (a)"),
            "v".to_owned(),
            space("i"),
            "SET LOCAL default_table_access_method = zed; m; SET LOCAL default_table_access_method = heap".to_owned(),
            "t4".to_owned(),
        ];
        assert_eq!(actual, expected);
    }

    #[test]
    fn a_text_that_is_no_dump_is_told_with_its_line() {
        let cases = [
            ("CREATE TABLE t();", "a statement that belongs to no entry (line 1)"),
            ("--\n-- TOC entry 3\n", "an entry without class and OID (line 2)"),
            ("--\n-- TOC entry 3 (class 1 OID 2)\n-- Name: x\n", "an entry without a type (line 3)"),
            ("\nSET a = 'x;\n", "something in quotes has no end (line 2)"),
            ("\n\nSET a = x\n", "a statement without an end (line 3)"),
            ("SET standard_conforming_strings = off;", "`standard_conforming_strings` is off (line 1)"),
        ];
        for (text, expected) in cases {
            let error = entries(text).expect_err(text).to_string();
            assert_eq!(error, format!("the text of `pg_dump` cannot be taken apart: {expected}"));
        }
    }
}
