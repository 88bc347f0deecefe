//! Which field of a table's records is which column of its shape.

use rusqlite::OptionalExtension;

use super::super::read::State;
use super::super::schema::{self, STORED};
use super::Odd;
use super::record::{self, Field, Layout};
use crate::rows::TableShape;
use crate::value::LARGE_BYTES;

/// Finds the columns of a table with row numbers: its records have the stored ones, in order.
pub(super) fn of_table(state: &State<'_>, shape: &TableShape) -> Result<Layout, Odd> {
    let lines = schema::columns(state, &shape.name)?;
    let stored: Vec<_> = lines.iter().filter(|line| matches!(line.hidden, 0 | STORED)).collect();
    let row_number = shape.columns.first().is_some_and(|column| column.hidden).then_some(0);
    let skip = usize::from(row_number.is_some());
    if stored.len() + skip != shape.columns.len() {
        return Err(Odd::new("its columns are not those that were described"));
    }
    // Without a column of its own that is the row number, and with no name left for it, nothing addresses a row.
    let alias = match (row_number, shape.locator.as_slice()) {
        (None, [column]) => Some(*column),
        _ => None,
    };
    let field = |(at, line): (usize, &&schema::ColumnLine)| {
        let column = at + skip;
        Field {
            column,
            is_row_number: alias == Some(column),
            is_real: record::is_real(&line.declared_type),
            missing: missing(line, shape, column),
        }
    };
    Ok(Layout { row_number, fields: stored.iter().enumerate().map(field).collect() })
}

/// Finds the columns of a table without row numbers: its records have the key's columns first.
pub(super) fn of_index(state: &State<'_>, shape: &TableShape) -> Result<Layout, Odd> {
    let lines = schema::columns(state, &shape.name)?;
    let sql = "SELECT name FROM pragma_index_list(?1, 'main') WHERE origin='pk'";
    let key: Option<String> = state.connection.prepare_cached(sql)?.query_row([&shape.name], |row| row.get(0)).optional()?;
    let key = key.ok_or_else(|| Odd::new("it has neither row numbers nor a key"))?;
    let sql = "SELECT cid FROM pragma_index_xinfo(?1, 'main') ORDER BY seqno";
    let places = state.connection.prepare_cached(sql)?.query_map([key], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
    // The place of each column of the table among those of the shape, which are the stored ones.
    let mut columns = Vec::with_capacity(lines.len());
    let mut next = 0;
    for line in &lines {
        let is_stored = matches!(line.hidden, 0 | STORED);
        columns.push(is_stored.then_some(next));
        next += usize::from(is_stored);
    }
    let mut fields = Vec::with_capacity(next);
    for place in places {
        let place = usize::try_from(place).map_err(|_| Odd::new("its key is computed"))?;
        let (Some(Some(column)), Some(line)) = (columns.get(place).copied(), lines.get(place)) else {
            return Err(Odd::new("its columns are not those that were described"));
        };
        fields.push(Field {
            column,
            is_row_number: false,
            is_real: record::is_real(&line.declared_type),
            missing: missing(line, shape, column),
        });
    }
    let mut met: Vec<usize> = fields.iter().map(|field| field.column).collect();
    met.sort_unstable();
    if !met.into_iter().eq(0..shape.columns.len()) {
        return Err(Odd::new("its columns are not those that were described"));
    }
    Ok(Layout { row_number: None, fields })
}

/// Returns what a row has that was written before a column was added, where it is sure.
fn missing(line: &schema::ColumnLine, shape: &TableShape, column: usize) -> Option<String> {
    let default = &shape.columns.get(column)?.default;
    let is_known = line.hidden == 0 && line.default.as_deref().is_none_or(schema::is_literal) && default.len() < LARGE_BYTES;
    is_known.then(|| default.clone())
}
