//! Live tables and columns whose values nothing carries any more once every script has run: what three rules share.

use super::lex::quoted;
use super::model::{Model, Table};
use super::{Ask, number};
use crate::schema::Schema;

/// A live table that a script dropped.
pub struct LostTable<'a> {
    /// The table as it was when it was dropped.
    pub table: &'a Table,
    /// Its live name.
    pub live: &'a str,
    /// What has its name in the end, if anything.
    pub successor: Option<&'a Table>,
    /// Its columns whose values nothing carries.
    pub columns: Vec<&'a str>,
    /// Whether nothing carries any of them.
    pub is_whole: bool,
}

/// Finds the live tables that were dropped, each with what was lost.
pub fn tables<'a>(model: &'a Model, schema: &'a Schema) -> Vec<LostTable<'a>> {
    let carried = model.carried();
    let mut found = Vec::new();
    for table in &model.dropped {
        let Some(live) = table.live.as_deref() else { continue };
        let own = |(from, _): &&(String, String)| from == live;
        let is_generated = |name: &str| {
            let live = schema.tables.iter().find(|other| other.name == live);
            live.is_some_and(|live| live.columns.iter().any(|column| column.generated && column.name.eq_ignore_ascii_case(name)))
        };
        let (mut columns, mut kept) = (Vec::new(), 0_usize);
        for column in table.columns.iter().filter(|column| !column.is_generated) {
            let mut sources = column.sources.iter().filter(own).filter(|(_, name)| !is_generated(name)).peekable();
            if sources.peek().is_none() {
                continue;
            }
            if sources.all(|source| carried.contains(source)) {
                kept += 1;
            } else {
                columns.push(column.name.as_str());
            }
        }
        let is_whole = kept == 0;
        found.push(LostTable { table, live, successor: model.table(live), columns, is_whole });
    }
    found
}

/// Counts the values of a column, where that can be said.
pub fn held(ask: &mut Ask<'_>, table: &Table, column: &str) -> Option<u64> {
    held_but(ask, table, column, None)
}

/// Counts the values of a column but for those that are this literal.
pub fn held_but(ask: &mut Ask<'_>, table: &Table, column: &str, literal: Option<&str>) -> Option<u64> {
    ask.count(&table.query_of([column])?, &is_held(column, literal)).filter(|held| *held > 0)
}

fn is_held(column: &str, literal: Option<&str>) -> String {
    let own = quoted(column);
    match literal {
        Some(literal) => format!("{own} IS NOT NULL AND {own} IS NOT {literal}"),
        None => format!("{own} IS NOT NULL"),
    }
}

/// Names some of the values of a column.
pub fn examples(ask: &mut Ask<'_>, table: &Table, column: &str) -> Vec<String> {
    examples_but(ask, table, column, None)
}

/// Names some of the values of a column that are not this literal.
pub fn examples_but(ask: &mut Ask<'_>, table: &Table, column: &str, literal: Option<&str>) -> Vec<String> {
    let mut columns = table.identity();
    if !columns.contains(&column) {
        columns.push(column);
    }
    let Some(query) = table.query_of(columns.iter().copied()) else { return Vec::new() };
    ask.examples(&query, &is_held(column, literal), &columns)
}

/// Says how many values.
pub fn values(count: u64) -> String {
    if count == 1 { "1 value".to_owned() } else { format!("{} values", number(count)) }
}
