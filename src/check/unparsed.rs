//! What could not be read as SQL: said, so that nobody takes silence for an all-clear.

use super::model::Place;
use super::script::Script;
use super::{Found, Severity};

/// The rule's name.
pub const NAME: &str = "unparsed";

/// What `dbelay check --explain unparsed` prints.
pub const PAGE: &str = "\
A statement or a file could not be read, so no rule looked at it.

The grammar is SQLite's. What another program reads before SQLite does (dot-commands of the shell, placeholders of a template) is none of
it, nor is a file that is not UTF-8, nor a statement that nests deeper than SQLite takes. The tables that it names count as not known from
there on. Scripts that make or change tables by the ten thousand are followed to a bound: what comes after it is not looked at, and that is said.

Example:
  .mode csv
  ALTER TABLE users ALTER COLUMN age TYPE bigint;

Instead: look at it yourself; write it so that SQLite itself would take it.

Silence: `-- dbelay: allow unparsed` above the statement, or in dbelay.toml under [check]
  ignore = [\"unparsed\"]
";

/// Says that a statement could not be parsed.
pub fn statement(place: Place, reason: &str, is_last: bool) -> Found {
    let more = if is_last { "; what follows in this file and cannot be parsed either is not listed" } else { "" };
    let message = format!("this could not be parsed, so nothing looked at it: {reason}{more}");
    Found { severity: Severity::Warning, ..Found::new(place, message, "look at it yourself, or write it as SQLite takes it") }
}

/// Says from where on nothing was looked at, because it would have been too much.
pub fn rest(place: Place) -> Found {
    let message =
        "from here on nothing looked at the migrations: there is too much in them to follow, and what is lost in the end was not asked";
    Found {
        severity: Severity::Warning,
        ..Found::new(place, message.to_owned(), "look at the rest yourself, or divide it and check each part")
    }
}

/// Says where a file stops being text.
pub fn bytes(script: &Script, number: usize) -> Option<Found> {
    let at = script.not_utf8?;
    let place = Place { script: number, statement: usize::MAX, start: at, end: at };
    let message = "from here on the file is no UTF-8, and nothing looked at it".to_owned();
    Some(Found { severity: Severity::Warning, ..Found::new(place, message, "store the file as UTF-8") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{catches, findings, live, quiet};
    use super::super::{Options, Script, run, run_within};
    use super::*;

    #[test]
    fn what_is_no_sql_is_said_and_the_rest_is_read() {
        catches(NAME, "", "SELECT 1;\n.mode csv\n;CREATE TABLE a(b);", &["near \".\""]);
        catches(NAME, "", "ALTER TABLE users ALTER COLUMN age TYPE bigint;", &["TYPE"]);
        catches(NAME, "", "CREATE TABLE {{name}} (a);", &["nothing looked at it"]);
        let live = "CREATE TABLE a(id INTEGER PRIMARY KEY, b); INSERT INTO a VALUES(1,NULL);";
        // What was not read may have filled the column.
        catches(NAME, live, "UPDAET a SET b = 1; CREATE TABLE n(id INTEGER PRIMARY KEY, b NOT NULL); INSERT INTO n SELECT * FROM a;", &[]);
        assert_eq!(findings(live, "nonsense; DROP TABLE a;").len(), 2);
    }

    #[test]
    fn where_the_work_becomes_too_much_is_said_and_nothing_is_guessed_of_the_end() {
        let (_folder, mut live) = live("CREATE TABLE a(b); INSERT INTO a VALUES(1); CREATE TABLE c(d); INSERT INTO c VALUES(2);");
        let texts = ["DROP TABLE a;", "SELECT 1;\n DROP TABLE c;", "DROP TABLE IF EXISTS nowhere;"];
        let scripts: Vec<Script> = texts.iter().map(|text| Script::new("a.sql", text.as_bytes())).collect();
        let found = run_within(&scripts, &mut live, &Options::default(), 50).findings;
        assert_eq!(found.iter().map(|finding| (finding.rule, finding.line)).collect::<Vec<_>>(), [(NAME, 2)], "{found:#?}");
        assert!(found.iter().all(|finding| finding.message.contains("nothing looked at")));
        assert_eq!(run(&scripts, &mut live, &Options::default()).findings.len(), 2);
    }

    #[test]
    fn thousands_of_tables_and_columns_are_followed_to_the_end() {
        let tables: String = (0..5_000).map(|number| format!("CREATE TABLE t{number}(a);")).collect();
        let columns: String = (0..1_500).map(|number| format!("ALTER TABLE a ADD COLUMN c{number};")).collect();
        let live = "CREATE TABLE a(b); CREATE TABLE z(y); INSERT INTO z VALUES(1);";
        catches("drop-table-with-data", live, &format!("{tables}{columns}DROP TABLE z;"), &["1 row"]);
    }

    #[test]
    fn sql_of_every_kind_is_read() {
        quiet(
            "",
            "PRAGMA foreign_keys=off; BEGIN IMMEDIATE; CREATE TABLE a(b INTEGER PRIMARY KEY AUTOINCREMENT, c TEXT GENERATED ALWAYS AS (b||'x') STORED) STRICT; END;",
        );
        quiet(
            "",
            "CREATE VIRTUAL TABLE f USING fts5(a, tokenize = 'porter unicode61'); CREATE VIEW v AS WITH x AS (SELECT 1) SELECT * FROM x; VACUUM; ANALYZE; REINDEX;",
        );
        quiet(
            "CREATE TABLE a(b);",
            "CREATE TRIGGER t AFTER INSERT ON a WHEN new.b > 1 BEGIN UPDATE a SET b = CASE WHEN 1 THEN 2 END; SELECT raise(ABORT, 'no'); END;",
        );
        quiet(
            "CREATE TABLE a(b UNIQUE);",
            "INSERT INTO a(b) VALUES (1),(2) ON CONFLICT(b) DO UPDATE SET b = excluded.b RETURNING b; REPLACE INTO a VALUES(3);",
        );
    }

    #[test]
    fn a_file_that_is_no_utf8_is_said() {
        let mut data = Nothing(crate::schema::Schema::default());
        let report = run(&[Script::new("a.sql", b"CREATE TABLE a(b);\nDROP TABLE \xff;")], &mut data, &Options::default());
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.rule, finding.line)).collect();
        assert_eq!(found, [(NAME, 2), (NAME, 2)]);
    }

    struct Nothing(crate::schema::Schema);

    impl super::super::Data for Nothing {
        fn schema(&self) -> &crate::schema::Schema {
            &self.0
        }

        fn query(&mut self, _: &str, _: usize) -> Result<Vec<Vec<crate::value::Value>>, Box<dyn std::error::Error + Send + Sync>> {
            Err("nobody answers".into())
        }
    }

    #[test]
    fn ten_megabytes_of_anything_are_read() {
        for text in [
            "(".repeat(10 << 20),
            "a;".repeat(100_000),
            format!("INSERT INTO a VALUES {}", "(1,'x'),".repeat(1 << 20)),
            "-- x\n".repeat(1 << 20),
        ] {
            let _ = run(&[Script::new("a.sql", text.as_bytes())], &mut Nothing(crate::schema::Schema::default()), &Options::default());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), words in "(CREATE|DROP|TABLE|a|b|\\(|\\)|,|;|--|'|\"| |\n|INSERT|INTO|SELECT|\\*|FROM|ALTER|ADD|NOT|NULL){0,40}") {
            for text in [bytes, words.into_bytes()] {
                let _ = run(&[Script::new("a.sql", &text)], &mut Nothing(crate::schema::Schema::default()), &Options::default());
            }
        }
    }
}
