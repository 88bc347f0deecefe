//! Rows that their own table would not take: NULL in a NOT NULL column, a text that the column's type would turn into a number, a value of
//! another class in a STRICT table. They exist where somebody edited the schema's text (`PRAGMA writable_schema`, which SQLite's own manual
//! recommends for adding a NOT NULL constraint) after the rows were written.
//!
//! The same serves a table with a generated column: stored values are written as they were, whatever this SQLite would compute, and a virtual
//! column may need a function that is not there.
//!
//! To write such a row, the table gets a *relaxed* text for the time being: the same columns in the same places with their affinities, defaults
//! and collations, the same keys and so the same indexes, but no constraints. What the rest of the file depends on stays: an index may compare
//! columns, and a row that is older than a column reads its default. Only for values of another class does a column's type go too, and only
//! where no expression or condition of an index names the column, whose result could change.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::read::State;
use super::schema::{self, ColumnLine, STORED, VIRTUAL};
use super::{needs, quote};
use crate::engine::EngineError;
use crate::rows::TableShape;
use crate::schema::ObjectKind;
use crate::value::Value;

/// How a column changes what is written to it, <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Affinity {
    Text,
    Integer,
    Real,
    Numeric,
    None,
}

impl Affinity {
    fn of_column(line: &ColumnLine, is_strict: bool) -> Self {
        // Elsewhere a type of this name would be NUMERIC.
        if is_strict && line.declared_type.eq_ignore_ascii_case("any") { Self::None } else { Self::of(&line.declared_type) }
    }

    /// A type that has this affinity, and never makes a key the row number.
    fn word(self) -> &'static str {
        match self {
            Self::Text => " TEXT",
            Self::Integer => " INT",
            Self::Real => " REAL",
            Self::Numeric => " NUMERIC",
            Self::None => " BLOB",
        }
    }

    fn of(declared_type: &str) -> Self {
        let name = declared_type.to_ascii_uppercase();
        let has = |part: &str| name.contains(part);
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || name.is_empty() {
            Self::None
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

/// What the columns of a table take as it is.
pub(super) struct Fits(Vec<Column>);

struct Column {
    affinity: Affinity,
    not_null: bool,
    is_strict: bool,
}

impl Fits {
    /// Looks a shape's columns up in the live schema.
    pub(super) fn of(state: &State<'_>, shape: &TableShape) -> Result<Self, rusqlite::Error> {
        let lines = schema::columns(state, &shape.name)?;
        let is_strict = schema::listed(state).iter().any(|entry| entry.name == shape.name && entry.strict);
        let is_key = |line: &ColumnLine| line.key_position > 0 && line.declared_type.eq_ignore_ascii_case("integer");
        let column = |name: &str| match lines.iter().find(|line| line.name == name) {
            // The row number takes no NULL, but what is read from it never is.
            Some(line) => Column {
                affinity: Affinity::of_column(line, is_strict),
                not_null: line.not_null && !is_key(line),
                is_strict: is_strict && !line.declared_type.eq_ignore_ascii_case("any"),
            },
            None => Column { affinity: Affinity::None, not_null: false, is_strict: false },
        };
        Ok(Self(shape.columns.iter().map(|shape| if shape.hidden { column("") } else { column(&shape.name) }).collect()))
    }

    /// Says what must go for a column to take a value and keep it as it is.
    pub(super) fn needs(&self, column: usize, value: &Value) -> Option<Need> {
        let Column { affinity, not_null, is_strict } = self.0.get(column)?;
        let keeps = match (value, affinity) {
            (Value::Null, _) => return not_null.then_some(Need::Null),
            (Value::Integer(_), Affinity::Text | Affinity::Real) => false,
            (Value::Real(_), Affinity::Text) => false,
            (Value::Real(real), Affinity::Integer | Affinity::Numeric) => !(*is_strict || real.trunc() == *real && real.abs() < 9.3e18),
            (Value::Text(_), Affinity::Integer | Affinity::Real) if *is_strict => false,
            (Value::Text(text), Affinity::Integer | Affinity::Numeric | Affinity::Real) => !is_number(text),
            (Value::Blob(_), Affinity::Text | Affinity::Integer | Affinity::Real) => return is_strict.then_some(Need::Constraints),
            (Value::Integer(_) | Value::Real(_) | Value::Text(_), Affinity::None) => return is_strict.then_some(Need::Constraints),
            _ => true,
        };
        (!keeps).then_some(Need::Type)
    }
}

/// What of a table's text keeps a column from a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// NOT NULL.
    Null,
    /// Another constraint, or that the table is STRICT.
    Constraints,
    /// The column's type.
    Type,
}

/// What a relaxed text leaves out besides checks, keys of other tables and the expressions of generated columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Relaxation {
    /// Columns whose NOT NULL goes.
    pub(super) nullable: BTreeSet<String>,
    /// Columns whose type goes.
    pub(super) untyped: BTreeSet<String>,
}

impl Relaxation {
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.nullable.is_subset(&other.nullable) && self.untyped.is_subset(&other.untyped)
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.nullable.extend(other.nullable.iter().cloned());
        self.untyped.extend(other.untyped.iter().cloned());
    }
}

/// Tells whether SQLite would read a text as a number.
fn is_number(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let is_plain = text.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
    is_plain && std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// Tells whether a table's text may be relaxed without an index depending on what goes, and without a value being left out: every stored
/// generated column must be among those that are written.
fn may_relax(state: &State<'_>, shape: &TableShape, lines: &[ColumnLine], relaxation: &Relaxation) -> Result<bool, EngineError> {
    let table = &shape.name;
    let is_kept = |line: &ColumnLine| shape.columns.iter().any(|column| column.generated && column.name == line.name);
    if lines.iter().any(|line| line.hidden == STORED && !is_kept(line)) {
        return Ok(false);
    }
    let generated: Vec<&str> = lines.iter().filter(|line| line.hidden == VIRTUAL).map(|line| line.name.as_str()).collect();
    let freed = relaxation.nullable.iter().chain(&relaxation.untyped).map(String::as_str);
    let going: Vec<&str> = generated.iter().copied().chain(freed).collect();
    if going.is_empty() {
        return Ok(true);
    }
    // Name, whether a column of the table is a key of it, whether an expression is.
    let look = || -> Result<Vec<(String, Option<String>, bool)>, rusqlite::Error> {
        let sql =
            "SELECT l.name, x.name, x.cid=-2 FROM pragma_index_list(?1, 'main') AS l, pragma_index_xinfo(l.name, 'main') AS x WHERE x.key";
        state.connection.prepare(sql)?.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
    };
    let keys = look().map_err(|error| state.explain(error, &format!("looking at the indexes of `{table}`")))?;
    let is_key = generated.iter().any(|name| keys.iter().any(|(_, key, _)| key.as_deref() == Some(name)));
    let is_in_the_way = |line: &schema::Line| {
        let Some(text) = line.object.sql.as_deref().filter(|_| line.object.table == *table).map(str::to_lowercase) else { return false };
        let has_expression = keys.iter().any(|(index, _, is_expression)| *is_expression && *index == line.object.name);
        // A plain key takes any value; an expression or a condition may name any column, and so may a word that means something else.
        let telling = if has_expression { Some(text.as_str()) } else { text.find("where").map(|at| &text[at..]) };
        telling.is_some_and(|text| going.iter().any(|name| names(text, name)))
    };
    let indexes = schema::lines(state)?;
    Ok(!is_key && !indexes.iter().filter(|line| line.object.kind == ObjectKind::Index).any(is_in_the_way))
}

/// Writes the relaxed text of a table, with its stored generated columns as ordinary ones, and without its virtual ones, which have no place in
/// a row. None where an index needs what would go, or SQLite does not take the text.
pub(super) fn relaxed_sql(state: &State<'_>, shape: &TableShape, relaxation: &Relaxation) -> Result<Option<String>, EngineError> {
    let fail = |error| state.explain(error, &format!("looking at table `{}`", shape.name));
    let lines = schema::columns(state, &shape.name).map_err(fail)?;
    if !may_relax(state, shape, &lines, relaxation)? {
        return Ok(None);
    }
    let text = write_sql(state, &shape.name, &lines, relaxation).map_err(fail)?;
    // Tried out first: a text that cannot be read would make the whole schema unreadable.
    let memory = Connection::open_in_memory().map_err(fail)?;
    Ok(needs::create(&memory, &text).is_ok().then_some(text))
}

fn write_sql(state: &State<'_>, table: &str, lines: &[ColumnLine], relaxation: &Relaxation) -> Result<String, rusqlite::Error> {
    let listed = schema::listed(state);
    let entry = listed.iter().find(|entry| entry.name == table);
    let mut indexes = implicit_indexes(state.connection, table)?;
    indexes.sort_by_key(|index| index.number);
    let has_key_index = indexes.iter().any(|index| index.is_key);
    let is_strict = entry.is_some_and(|entry| entry.strict);
    let mut parts = Vec::new();
    for line in lines.iter().filter(|line| line.hidden != VIRTUAL) {
        let (_, collation, ..) = state.connection.column_metadata(Some("main"), table, line.name.as_str())?;
        let collation = collation.map_or_else(|| "BINARY".into(), |name| name.to_string_lossy().into_owned());
        let declared = if line.key_position > 0 && !has_key_index {
            " INTEGER PRIMARY KEY"
        } else if relaxation.untyped.contains(&line.name) {
            ""
        } else {
            Affinity::of_column(line, is_strict).word()
        };
        let not_null = if line.not_null && !relaxation.nullable.contains(&line.name) { " NOT NULL" } else { "" };
        let default = line.default.as_deref().map(default_clause).unwrap_or_default();
        parts.push(format!("{}{declared}{not_null}{default} COLLATE {}", quote(&line.name), quote(&collation)));
    }
    for index in indexes {
        let columns: Vec<String> = index
            .columns
            .iter()
            .map(|(name, collation, is_descending)| {
                format!("{} COLLATE {}{}", quote(name), quote(collation), if *is_descending { " DESC" } else { "" })
            })
            .collect();
        parts.push(format!("{}({})", if index.is_key { "PRIMARY KEY" } else { "UNIQUE" }, columns.join(",")));
    }
    let tail = if entry.is_some_and(|entry| entry.without_rowid) { " WITHOUT ROWID" } else { "" };
    Ok(format!("CREATE TABLE {}({}){tail}", quote(table), parts.join(",")))
}

/// Writes a DEFAULT clause from the text that SQLite gives of it, which has lost the parentheses of an expression. A single word, quoted or not,
/// must not get any: it is a text then, and a column's name in them.
fn default_clause(text: &str) -> String {
    let is_word = text.chars().all(|letter| letter.is_alphanumeric() || letter == '_') || text.starts_with(['`', '[']);
    if is_word || schema::is_literal(text) { format!(" DEFAULT {text}") } else { format!(" DEFAULT ({text}\n)") }
}

/// Tells whether a text in lower case may name a column: as one of its words, or quoted in one of SQLite's ways.
fn names(text: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    if name.chars().all(is_part) {
        return text.split(|letter| !is_part(letter)).any(|word| word == name);
    }
    let doubled = ['"', '`', '\''].map(|quote| name.replace(quote, &format!("{quote}{quote}")));
    text.contains(&name) || doubled.iter().any(|quoted| text.contains(quoted))
}

/// An index that came with a table's PRIMARY KEY or UNIQUE.
struct ImplicitIndex {
    /// Its place among them, which is in its name.
    number: u64,
    is_key: bool,
    /// Name, collation, whether descending.
    columns: Vec<(String, String, bool)>,
}

fn implicit_indexes(connection: &Connection, table: &str) -> Result<Vec<ImplicitIndex>, rusqlite::Error> {
    let sql = "SELECT name, origin FROM pragma_index_list(?1, 'main') WHERE origin IN ('u','pk')";
    let mut list = connection.prepare(sql)?;
    let found: Vec<(String, String)> = list.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let mut columns = connection.prepare("SELECT name, coll, desc FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno")?;
    let mut indexes = Vec::new();
    for (name, origin) in found {
        indexes.push(ImplicitIndex {
            number: name.rsplit('_').next().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX),
            is_key: origin == "pk",
            columns: columns
                .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Result<_, rusqlite::Error>>()?,
        });
    }
    Ok(indexes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_named_however_it_is_quoted() {
        for text in ["where \"a\"\"b\" < 5", "where [a\"b] < 5", "where `a\"b` < 5"] {
            assert!(names(text, "A\"b"), "{text}");
        }
        assert!(names("where \"n\" < 5", "N") && names("where t.n<5", "n"));
        assert!(!names("where name < 5", "n") && !names("where a < 5", "a b"));
    }

    #[test]
    fn what_a_column_keeps_is_what_sqlite_would_not_change() {
        let connection = Connection::open_in_memory().expect("memory");
        let values = [
            Value::Null,
            Value::Integer(7),
            Value::Real(7.0),
            Value::Real(7.5),
            Value::Real(f64::INFINITY),
            Value::Text("007".into()),
            Value::Text(" 1e3 ".into()),
            Value::Text("1e".into()),
            Value::Text("2024-01-02".into()),
            Value::Text(".5".into()),
            Value::Text("x".into()),
            Value::Text(Vec::new()),
            Value::Blob(b"7".to_vec()),
        ];
        for declared in ["INTEGER", "TEXT", "REAL", "BLOB", "", "NUMERIC", "DATETIME", "VARCHAR(3)", "DOUBLE", "BOOLEAN"] {
            let fits = Fits(vec![Column { affinity: Affinity::of(declared), not_null: false, is_strict: false }]);
            connection.execute_batch(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t(c {declared})")).expect("made");
            for value in &values {
                connection.execute("INSERT INTO t VALUES(?)", [super::super::statement::Bound(value)]).expect("inserted");
                let kept = connection.query_row("SELECT c FROM t", [], |row| Ok(super::super::statement::owned(row.get_ref(0)?)));
                connection.execute("DELETE FROM t", []).expect("emptied");
                let kept = kept.expect("selected").to_json() == value.to_json();
                assert!(kept || fits.needs(0, value).is_some(), "{declared} changes {}", value.to_json());
                // Taking too little is slow only.
                if matches!(value, Value::Text(_) | Value::Null) {
                    assert_eq!(kept, fits.needs(0, value).is_none(), "{declared}: {}", value.to_json());
                }
            }
        }
    }
}
