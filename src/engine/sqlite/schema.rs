//! What a SQLite database declares: `sqlite_schema` verbatim, and the pragmas in neutral terms.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::quote;
use super::read::State;
use super::text::ddl_text;
use crate::engine::EngineError;
use crate::rows::{ColumnShape, TableShape};
use crate::schema::{Column, ForeignKey, Index, ObjectKind, Schema, SchemaObject, Table, TableKind};
use crate::value::Value;

/// A line of `sqlite_schema`.
pub(super) struct Line {
    pub(super) rowid: i64,
    pub(super) object: SchemaObject,
    pub(super) has_pages: bool,
}

/// Reads `sqlite_schema` in its order.
pub(super) fn lines(state: &State<'_>) -> Result<Vec<Line>, EngineError> {
    let run = || -> Result<Vec<Result<Line, EngineError>>, rusqlite::Error> {
        let sql = "SELECT rowid, type, name, tbl_name, sql, rootpage FROM main.sqlite_schema ORDER BY rowid";
        let mut statement = state.connection.prepare_cached(sql)?;
        statement.query_map([], |row| Ok(line(row)))?.collect()
    };
    run().map_err(|error| state.explain(error, "reading `sqlite_schema`"))?.into_iter().collect()
}

fn line(row: &Row<'_>) -> Result<Line, EngineError> {
    let text = |column: usize| -> Result<Option<String>, EngineError> {
        match row.get_ref(column) {
            Ok(ValueRef::Null) => Ok(None),
            Ok(ValueRef::Text(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => {
                    let name = String::from_utf8_lossy(bytes);
                    Err(EngineError::Unsupported(format!("`sqlite_schema` holds text that is not UTF-8: `{name}`")))
                }
            },
            _ => Err(EngineError::Damaged("a line of `sqlite_schema` is not text".to_owned())),
        }
    };
    let ddl = match row.get_ref(4) {
        Ok(ValueRef::Text(bytes)) => Some(ddl_text(bytes)),
        _ => text(4)?,
    };
    let required = |column: usize| Ok(text(column)?.unwrap_or_default());
    let kind = match required(1)?.as_str() {
        "table" => ObjectKind::Table,
        "index" => ObjectKind::Index,
        "view" => ObjectKind::View,
        "trigger" => ObjectKind::Trigger,
        other => return Err(EngineError::Unsupported(format!("`sqlite_schema` holds an object of the unknown type `{other}`"))),
    };
    let object = SchemaObject::new(kind, required(2)?, required(3)?, ddl);
    let has_pages = row.get::<_, Option<i64>>(5).ok().flatten().is_some_and(|page| page > 0);
    Ok(Line { rowid: row.get(0).unwrap_or(0), object, has_pages })
}

/// Tells whether this DDL makes a virtual table, and of which module.
pub(super) fn virtual_module(sql: &str) -> Option<String> {
    let mut rest = sql;
    for word in ["create", "virtual", "table"] {
        let (found, after) = name_token(rest)?;
        if !found.eq_ignore_ascii_case(word) {
            return None;
        }
        rest = after;
    }
    // The name, which may be quoted and may hold any word, then USING and the module.
    let (_, after_name) = name_token(rest)?;
    let (_, after_using) = name_token(after_name)?;
    Some(name_token(after_using)?.0.to_owned())
}

/// Skips white space and comments.
fn skip_blanks(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start();
        sql = if let Some(comment) = sql.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(comment) = sql.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, rest)| rest)
        } else {
            return sql;
        };
    }
}

/// Splits a name, quoted or bare, off the front of SQL.
fn name_token(sql: &str) -> Option<(&str, &str)> {
    let sql = skip_blanks(sql);
    let close = match sql.chars().next()? {
        quote @ ('"' | '`' | '\'') => quote,
        '[' => ']',
        _ => {
            let end = sql.find(|letter: char| !(letter.is_alphanumeric() || "_$".contains(letter))).unwrap_or(sql.len());
            return (end > 0).then(|| sql.split_at(end));
        }
    };
    let mut at = 1;
    loop {
        at += sql[at..].find(close)?;
        // A doubled quote is a quote in the name.
        if close == ']' || !sql[at + 1..].starts_with(close) {
            return Some((&sql[1..at], &sql[at + 1..]));
        }
        at += 2;
    }
}

/// What `PRAGMA table_xinfo` says of a generated column that has no place in a row.
pub(super) const VIRTUAL: i64 = 2;
/// What it says of one that has.
pub(super) const STORED: i64 = 3;

/// One line of `PRAGMA table_xinfo`.
pub(super) struct ColumnLine {
    pub(super) name: String,
    pub(super) declared_type: String,
    pub(super) not_null: bool,
    pub(super) default: Option<String>,
    pub(super) key_position: i64,
    pub(super) hidden: i64,
}

pub(super) fn columns(state: &State<'_>, table: &str) -> Result<Vec<ColumnLine>, rusqlite::Error> {
    let mut statement = state.connection.prepare(&format!("PRAGMA main.table_xinfo({})", quote(table)))?;
    let lossy = |row: &Row<'_>, at: usize| -> Result<Option<String>, rusqlite::Error> {
        Ok(match row.get_ref(at)? {
            ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
    };
    let lines = statement.query_map([], |row| {
        Ok(ColumnLine {
            name: lossy(row, 1)?.unwrap_or_default(),
            declared_type: lossy(row, 2)?.unwrap_or_default(),
            not_null: row.get::<_, i64>(3)? != 0,
            default: lossy(row, 4)?,
            key_position: row.get(5)?,
            hidden: row.get(6)?,
        })
    })?;
    lines.collect()
}

/// What `PRAGMA table_list` says of a table.
pub(super) struct Listed {
    pub(super) name: String,
    is_shadow: bool,
    pub(super) without_rowid: bool,
    pub(super) strict: bool,
}

pub(super) fn listed(state: &State<'_>) -> Vec<Listed> {
    let run = || -> Result<Vec<Listed>, rusqlite::Error> {
        let mut statement = state.connection.prepare("PRAGMA main.table_list")?;
        let lines = statement.query_map([], |row| {
            Ok(Listed {
                name: row.get(1)?,
                is_shadow: row.get::<_, String>(2)? == "shadow",
                without_rowid: row.get::<_, i64>(4)? != 0,
                strict: row.get::<_, i64>(5)? != 0,
            })
        })?;
        lines.collect()
    };
    run().unwrap_or_default()
}

/// One line of `PRAGMA index_list`: name, whether unique, origin (`c`, `u`, `pk`), whether partial.
pub(super) fn index_list(state: &State<'_>, table: &str) -> Result<Vec<(String, bool, String, bool)>, rusqlite::Error> {
    let mut statement = state.connection.prepare(&format!("PRAGMA main.index_list({})", quote(table)))?;
    let lines = statement.query_map([], |row| Ok((row.get(1)?, row.get::<_, i64>(2)? != 0, row.get(3)?, row.get::<_, i64>(4)? != 0)))?;
    lines.collect()
}

/// Reads the whole schema.
pub(super) fn read(state: &State<'_>) -> Result<Schema, EngineError> {
    let lines = lines(state)?;
    let listed = listed(state);
    let virtuals: Vec<String> = lines
        .iter()
        .filter(|line| line.object.kind == ObjectKind::Table && line.object.sql.as_deref().and_then(virtual_module).is_some())
        .map(|line| line.object.name.clone())
        .collect();
    let mut schema = Schema::default();
    for line in &lines {
        if line.object.kind == ObjectKind::Table {
            let table = table(state, line, &listed, &virtuals).map_err(|error| {
                let doing = format!("describing table `{}`", line.object.name);
                state.explain(error, &doing)
            })?;
            for (name, unique, _, partial) in index_list(state, &line.object.name).unwrap_or_default() {
                let columns = index_columns(state, &name).unwrap_or_default();
                schema.indexes.push(Index { name, table: line.object.name.clone(), unique, columns, partial });
            }
            schema.tables.push(table);
        }
    }
    schema.objects = lines.into_iter().map(|line| line.object).collect();
    let position = |name: &str| schema.objects.iter().position(|object| object.kind == ObjectKind::Index && object.name == name);
    schema.indexes.sort_by_key(|index| position(&index.name));
    Ok(schema)
}

fn index_columns(state: &State<'_>, index: &str) -> Result<Vec<Option<String>>, rusqlite::Error> {
    let mut statement = state.connection.prepare(&format!("PRAGMA main.index_info({})", quote(index)))?;
    statement.query_map([], |row| row.get(2))?.collect()
}

fn table(state: &State<'_>, line: &Line, listed: &[Listed], virtuals: &[String]) -> Result<Table, rusqlite::Error> {
    let name = &line.object.name;
    let sql = line.object.sql.as_deref().unwrap_or_default();
    let entry = listed.iter().find(|entry| entry.name == *name);
    let owner = || {
        let owns = |owner: &&String| {
            name.len() > owner.len()
                && name.as_bytes()[owner.len()] == b'_'
                && name.is_char_boundary(owner.len())
                && name[..owner.len()].eq_ignore_ascii_case(owner)
        };
        virtuals.iter().filter(owns).max_by_key(|owner| owner.len()).cloned()
    };
    let kind = if let Some(module) = virtual_module(sql) {
        TableKind::Virtual { module }
    } else if name.to_ascii_lowercase().starts_with("sqlite_") {
        TableKind::Internal
    } else if entry.is_some_and(|entry| entry.is_shadow) {
        TableKind::Shadow { of: owner().unwrap_or_default() }
    } else {
        TableKind::Ordinary
    };
    let columns = match &kind {
        // Only its module can say, which may not be there or may refuse, and a state must not depend on that.
        TableKind::Virtual { .. } => Vec::new(),
        _ => self::columns(state, name)?,
    };
    let mut key: Vec<&ColumnLine> = columns.iter().filter(|column| column.key_position > 0).collect();
    key.sort_by_key(|column| column.key_position);
    Ok(Table {
        name: name.clone(),
        primary_key: key.iter().map(|column| column.name.clone()).collect(),
        foreign_keys: foreign_keys(state, name)?,
        without_rowid: entry.is_some_and(|entry| entry.without_rowid),
        strict: entry.is_some_and(|entry| entry.strict),
        columns: columns
            .into_iter()
            .map(|column| Column {
                name: column.name,
                declared_type: column.declared_type,
                not_null: column.not_null,
                default: column.default,
                generated: column.hidden > 1,
            })
            .collect(),
        kind,
    })
}

fn foreign_keys(state: &State<'_>, table: &str) -> Result<Vec<ForeignKey>, rusqlite::Error> {
    let mut statement = state.connection.prepare(&format!("PRAGMA main.foreign_key_list({})", quote(table)))?;
    let mut rows = statement.query([])?;
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if keys.last().is_none_or(|(last, _)| *last != id) {
            let key = ForeignKey {
                columns: Vec::new(),
                parent: row.get(2)?,
                parent_columns: Vec::new(),
                on_update: row.get(5)?,
                on_delete: row.get(6)?,
            };
            keys.push((id, key));
        }
        if let Some((_, key)) = keys.last_mut() {
            key.columns.push(row.get(3)?);
            key.parent_columns.extend(row.get::<_, Option<String>>(4)?);
        }
    }
    // SQLite lists the last declared first.
    keys.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// Returns the shapes of all tables that have pages, in creation order.
pub(super) fn shapes(state: &State<'_>) -> Result<Vec<TableShape>, EngineError> {
    let listed = listed(state);
    let mut defaults = Defaults::new();
    let mut shapes = Vec::new();
    for line in lines(state)?.iter().filter(|line| line.object.kind == ObjectKind::Table && line.has_pages) {
        let name = &line.object.name;
        let without_rowid = listed.iter().any(|entry| entry.name == *name && entry.without_rowid);
        let shape = shape(state, name, without_rowid, &mut defaults)
            .map_err(|error| state.explain(error, &format!("describing table `{name}`")))?;
        shapes.push(shape);
    }
    Ok(shapes)
}

fn shape(state: &State<'_>, table: &str, without_rowid: bool, defaults: &mut Defaults) -> Result<TableShape, rusqlite::Error> {
    let lines = columns(state, table)?;
    let mut key: Vec<&ColumnLine> = lines.iter().filter(|column| column.key_position > 0).collect();
    key.sort_by_key(|column| column.key_position);
    // INTEGER PRIMARY KEY is the rowid itself, unless it was declared DESC, by a quirk of old: then an index stands behind it.
    let alias = match key.as_slice() {
        [only] if !without_rowid && only.declared_type.eq_ignore_ascii_case("integer") => {
            let has_index = index_list(state, table)?.iter().any(|(_, _, origin, _)| origin == "pk");
            (!has_index).then_some(only.name.as_str())
        }
        _ => None,
    };
    let rowid = if without_rowid || alias.is_some() {
        None
    } else {
        ["rowid", "_rowid_", "oid"].into_iter().find(|name| !lines.iter().any(|column| column.name.eq_ignore_ascii_case(name)))
    };
    let mut columns: Vec<ColumnShape> = Vec::new();
    columns.extend(rowid.map(|name| ColumnShape {
        name: name.to_owned(),
        declared_type: "INTEGER".to_owned(),
        default: "null".to_owned(),
        hidden: true,
        generated: false,
    }));
    for line in lines.iter().filter(|line| matches!(line.hidden, 0 | STORED)) {
        columns.push(ColumnShape {
            name: line.name.clone(),
            declared_type: line.declared_type.clone(),
            default: defaults.evaluate(&line.declared_type, line.default.as_deref()),
            hidden: false,
            generated: line.hidden == STORED,
        });
    }
    let index = |name: &str| columns.iter().position(|column| !column.hidden && column.name == name);
    let key_indexes: Vec<usize> = key.iter().filter_map(|column| index(&column.name)).collect();
    let (identity, locator) = match (alias, rowid) {
        (Some(_), _) => (key_indexes.clone(), key_indexes),
        (None, Some(_)) if key_indexes.is_empty() => (vec![0], vec![0]),
        (None, Some(_)) => (key_indexes, vec![0]),
        (None, None) if without_rowid => (key_indexes.clone(), key_indexes),
        // All three names of the rowid are taken by columns: no row can be addressed.
        (None, None) => (key_indexes, Vec::new()),
    };
    Ok(TableShape { name: table.to_owned(), columns, identity, locator })
}

/// Evaluates constant defaults, with the affinity of their column, in a database of its own.
struct Defaults(Option<Connection>);

impl Defaults {
    fn new() -> Self {
        Self(Connection::open_in_memory().ok())
    }

    /// Returns the canonical JSON of the value that a row without the column has; `null` where that is no constant.
    fn evaluate(&mut self, declared_type: &str, expression: Option<&str>) -> String {
        let null = || "null".to_owned();
        let (Some(connection), Some(expression)) = (&self.0, expression) else { return null() };
        if !is_literal(expression) {
            return null();
        }
        // A type is made of words and numbers in parentheses; anything else is nothing that decides an affinity by itself.
        let plain_type: String =
            declared_type.chars().map(|letter| if letter.is_alphanumeric() || letter == '_' { letter } else { ' ' }).collect();
        let quoted = if plain_type.trim().is_empty() { String::new() } else { quote(plain_type.trim()) };
        let run = || -> Result<Value, rusqlite::Error> {
            connection.execute_batch(&format!(
                "DROP TABLE IF EXISTS d; CREATE TABLE d(k INTEGER PRIMARY KEY, c {quoted} DEFAULT {expression}); INSERT INTO d(k) VALUES(1)"
            ))?;
            connection.query_row("SELECT c FROM d", [], |row| {
                Ok(match row.get_ref(0)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(value) => Value::Integer(value),
                    ValueRef::Real(value) => Value::Real(value),
                    ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
                    ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
                })
            })
        };
        match run() {
            Ok(value) => value.to_json(),
            Err(_) => null(),
        }
    }
}

pub(super) fn is_literal(expression: &str) -> bool {
    let text = expression.trim();
    let body = text.strip_prefix(['+', '-']).unwrap_or(text).trim_start();
    match body.as_bytes().first() {
        Some(b'0'..=b'9' | b'.') => {
            let hexadecimal = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X"));
            hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) || body.parse::<f64>().is_ok()
        }
        Some(&mark @ (b'\'' | b'"')) => ends_string(body, mark),
        Some(b'x' | b'X') if body.as_bytes().get(1) == Some(&b'\'') => ends_string(&body[1..], b'\''),
        _ => ["null", "true", "false"].iter().any(|word| body.eq_ignore_ascii_case(word)),
    }
}

/// Tells whether a quoted string ends where the text ends.
fn ends_string(text: &str, mark: u8) -> bool {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        if bytes[at] == mark {
            if bytes.get(at + 1) != Some(&mark) {
                return at + 1 == bytes.len();
            }
            at += 1;
        }
        at += 1;
    }
    false
}

/// Orders objects for dropping: the youngest first, and `sqlite_sequence` last, since dropping a table with AUTOINCREMENT writes into it.
pub fn drop_order<'o>(objects: &[&'o SchemaObject]) -> Vec<&'o SchemaObject> {
    let is_sequence = |object: &&&SchemaObject| object.name.eq_ignore_ascii_case("sqlite_sequence");
    let others = objects.iter().rev().filter(|object| !is_sequence(object));
    others.chain(objects.iter().filter(is_sequence)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_are_constant_defaults() {
        for literal in ["0", "0x1F", "-1.5e3", "'a''b'", "NULL", "true", "x'00'", "\"a\"", "''"] {
            assert!(is_literal(literal), "{literal}");
        }
        for other in ["CURRENT_TIMESTAMP", "random()", "'a' || 'b'", "1 + f(2)", "1+1", "1-1", "'", ""] {
            assert!(!is_literal(other), "{other}");
        }
    }

    #[test]
    fn a_default_has_the_affinity_of_its_column() {
        let mut defaults = Defaults::new();
        assert_eq!(defaults.evaluate("TEXT", Some("5")), "\"5\"");
        assert_eq!(defaults.evaluate("varchar(10)", Some("5")), "\"5\"");
        assert_eq!(defaults.evaluate("REAL", Some("5")), "5.0");
        assert_eq!(defaults.evaluate("INTEGER", Some("'5'")), "5");
        assert_eq!(defaults.evaluate("", Some("'5'")), "\"5\"");
        assert_eq!(defaults.evaluate("TEXT", Some("CURRENT_TIMESTAMP")), "null");
        assert_eq!(defaults.evaluate("TEXT", None), "null");
    }

    #[test]
    fn the_module_of_a_virtual_table_is_found() {
        assert_eq!(virtual_module("CREATE VIRTUAL TABLE \"using x\" USING fts5(a)").as_deref(), Some("fts5"));
        assert_eq!(virtual_module("create virtual table t using \"rtree\"(a,b,c)").as_deref(), Some("rtree"));
        assert_eq!(virtual_module("CREATE/**/VIRTUAL TABLE t -- using fts3\n /* so */ USING fts5(a)").as_deref(), Some("fts5"));
        assert_eq!(virtual_module("CREATE TABLE virtual(a)"), None);
    }
}
