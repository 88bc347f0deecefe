//! The statements that write one row, and values as SQLite takes them.
//!
//! The text of a statement follows from the shape of its table, from what is written, and from a [`Form`]: which texts are bound as bytes (in
//! a database whose encoding is UTF-16, see [`super::text`]), and whether the table has its relaxed text ([`super::relaxed`]).

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::read::RESULT_COLUMNS_MAX;
use super::relaxed::{Fits, Need, Relaxation};
use super::{quote, script, text};
use crate::rows::TableShape;
use crate::value::Value;

/// A value as SQLite takes it: text by its bytes, whatever they are.
pub(super) struct Bound<'a>(pub(super) &'a Value);

/// The text of an object as SQLite takes it: by its bytes, whatever they are.
pub(super) struct Ddl(Option<Vec<u8>>);

impl Ddl {
    pub(super) fn of(sql: Option<&str>) -> Self {
        Self(sql.map(text::ddl_bytes))
    }
}

impl ToSql for Ddl {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0.as_deref().map_or(ValueRef::Null, ValueRef::Text)))
    }
}

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Boolean(value) => ValueRef::Integer(i64::from(*value)),
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(bytes) => ValueRef::Text(bytes),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
            Value::Large { id, .. } => {
                let message = format!("the large value {id} was not resolved");
                return Err(rusqlite::Error::ToSqlConversionFailure(message.into()));
            }
        }))
    }
}

/// What is done to one row, with its statement.
pub(super) enum RowStatement<'s> {
    Insert(&'s TableShape),
    Update(&'s TableShape, &'s [usize]),
    Delete(&'s TableShape),
}

impl RowStatement<'_> {
    pub(super) fn shape(&self) -> &TableShape {
        match self {
            Self::Insert(shape) | Self::Update(shape, _) | Self::Delete(shape) => shape,
        }
    }

    pub(super) fn sql(&self, form: &Form) -> String {
        match self {
            Self::Insert(shape) => insert_sql(shape, form),
            Self::Update(shape, columns) => update_sql(shape, columns, form),
            Self::Delete(shape) => delete_sql(shape, form),
        }
    }

    /// Tells which parameters the statement has.
    pub(super) fn has_parameter(&self, at: usize, form: &Form) -> bool {
        let is_written = |column: usize| form.is_relaxed || !self.shape().columns.get(column).is_some_and(|column| column.generated);
        match self {
            Self::Insert(shape) => is_written(at) && !(at == 0 && is_too_wide(shape)),
            Self::Update(shape, columns) => {
                at.checked_sub(shape.locator.len()).is_none_or(|place| columns.get(place).is_some_and(|&column| is_written(column)))
            }
            Self::Delete(_) => true,
        }
    }

    pub(super) fn doing(&self) -> String {
        match self {
            Self::Insert(shape) => format!("inserting rows into `{}`", shape.name),
            Self::Update(shape, _) => format!("updating rows of `{}`", shape.name),
            Self::Delete(shape) => format!("deleting rows of `{}`", shape.name),
        }
    }

    /// Says what must go from the table's text for it to take the values that are to be stored, and to keep them as they are.
    pub(super) fn needs(&self, fits: &Fits, row: &[Value]) -> Option<Relaxation> {
        let columns = &self.shape().columns;
        let mut needs: Option<Relaxation> = None;
        let mut look = |column: usize, value: &Value| {
            let Some(shape) = columns.get(column) else { return };
            match fits.needs(column, value) {
                Some(Need::Type) => {
                    needs.get_or_insert_default().untyped.insert(shape.name.clone());
                }
                Some(Need::Null) => {
                    needs.get_or_insert_default().nullable.insert(shape.name.clone());
                }
                Some(Need::Constraints) => {
                    needs.get_or_insert_default();
                }
                None if shape.generated => {
                    needs.get_or_insert_default();
                }
                None => {}
            }
        };
        match self {
            Self::Insert(_) => row.iter().enumerate().for_each(|(column, value)| look(column, value)),
            Self::Update(shape, columns) => {
                columns.iter().zip(row.iter().skip(shape.locator.len())).for_each(|(&column, value)| look(column, value));
            }
            Self::Delete(_) => {}
        }
        needs
    }
}

/// What decides the text of a row's statement besides its shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// The parameters, counted from 0, that are bound as the bytes of a text.
    pub(super) raw: Vec<usize>,
    /// Whether the table has its relaxed text, in which no column is generated.
    pub(super) is_relaxed: bool,
}

impl Form {
    /// Writes a parameter. The plus takes the CAST's affinity away, which would have a key of no type compared as text.
    fn parameter(&self, at: usize) -> String {
        if self.raw.contains(&at) { format!("+CAST(?{} AS TEXT)", at + 1) } else { format!("?{}", at + 1) }
    }
}

/// Writes the condition that finds a row by its locator cells, the first parameters.
fn locator_clause(shape: &TableShape, form: &Form) -> String {
    let part = |(at, &column): (usize, &usize)| script::is_cell(&shape.columns[column], &form.parameter(at));
    let parts: Vec<String> = shape.locator.iter().enumerate().map(part).collect();
    if parts.is_empty() { "0".to_owned() } else { parts.join(" AND ") }
}

/// Writes the statement that inserts a complete row; with more columns than a statement takes, all but the row number.
fn insert_sql(shape: &TableShape, form: &Form) -> String {
    let statement = RowStatement::Insert(shape);
    let columns: Vec<usize> = (0..shape.columns.len()).filter(|at| statement.has_parameter(*at, form)).collect();
    let names: Vec<String> = columns.iter().map(|&column| quote(&shape.columns[column].name)).collect();
    let marks: Vec<String> = columns.iter().map(|&column| form.parameter(column)).collect();
    format!("INSERT OR ABORT INTO main.{}({}) VALUES({})", quote(&shape.name), names.join(","), marks.join(","))
}

pub(super) fn is_too_wide(shape: &TableShape) -> bool {
    shape.columns.len() > RESULT_COLUMNS_MAX && shape.columns.first().is_some_and(|column| column.hidden)
}

/// Writes the statement that sets columns of a row; with nothing to set, one that does nothing to it.
fn update_sql(shape: &TableShape, columns: &[usize], form: &Form) -> String {
    let (statement, first) = (RowStatement::Update(shape, columns), shape.locator.len());
    let set = |(at, &column): (usize, &usize)| format!("{}={}", quote(&shape.columns[column].name), form.parameter(first + at));
    let written = columns.iter().enumerate().filter(|(at, _)| statement.has_parameter(first + at, form));
    let mut sets: Vec<String> = written.map(set).collect();
    if sets.is_empty() {
        // Only generated columns differ, and they cannot be set: the proof will tell.
        let name = shape.columns.iter().find(|column| !column.generated).map(|column| quote(&column.name)).unwrap_or_default();
        sets.push(format!("{name}={name}"));
    }
    format!("UPDATE OR ABORT main.{} SET {} WHERE {}", quote(&shape.name), sets.join(","), locator_clause(shape, form))
}

fn delete_sql(shape: &TableShape, form: &Form) -> String {
    format!("DELETE FROM main.{} WHERE {}", quote(&shape.name), locator_clause(shape, form))
}

/// Takes a value out of a statement; for tests.
#[cfg(test)]
pub(super) fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}
