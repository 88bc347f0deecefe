//! What is checked of a database, and when.
//!
//! | when | structure | rows that their own table would refuse, computed indexes | foreign keys |
//! |---|---|---|---|
//! | before a migration, up to [`QUICK_BYTES_MAX`] | `quick_check` | `quick_check`, `integrity_check` of their tables | `foreign_key_check` |
//! | before one of a larger database | [`structure`], else `quick_check` | not | not |
//! | after a migration | [`structure`], else `quick_check`; virtual tables whose content changed by their module | not: it is no loss | what can have lost its parent ([`links`]) |
//! | where all is asked for ([`ReadTransaction::findings`](crate::engine::ReadTransaction::findings)) | as in the first line | | |
//!
//! The structure is that of the whole file, whatever changed: damage by another program's hand (a file copied over, a journal deleted, a schema edited)
//! does not stay where rows changed. Whatever our own check does not take for sound is SQLite's to judge. The records of tables are read by whoever reads
//! the rows.

use std::collections::HashSet;

use super::pages::Odd;
use super::pages::structure::Root;
use super::read::State;
use super::{links, quote, schema};
use crate::engine::since::{Extent, FoundSince, History};
use crate::engine::{EngineError, Finding};
use crate::schema::{ObjectKind, Schema, TableKind};

/// Up to how many bytes all checks are quick.
const QUICK_BYTES_MAX: u64 = 16 << 20;

/// Runs the checks that a migration can wait for.
pub(super) fn look_over(state: &State<'_>) -> Result<(Vec<Finding>, Extent), EngineError> {
    if bytes(state)? <= QUICK_BYTES_MAX {
        return Ok((state.findings_of("quick_check")?, Extent::All));
    }
    match is_sound(state)? {
        true => Ok((Vec::new(), Extent::Structure)),
        false => Ok((state.structure("quick_check")?, Extent::Structure)),
    }
}

/// Finds damage, and the references that point nowhere and did not before.
pub(super) fn findings(state: &State<'_>, history: &dyn History) -> Result<Vec<FoundSince>, EngineError> {
    let schema = schema::read(state)?;
    let mut damage = match is_sound(state)? {
        true => Vec::new(),
        false => state.structure("quick_check")?,
    };
    if damage.is_empty() {
        damage = virtual_tables(state, history, &schema)?;
    }
    damage.retain(|finding| finding.check == "integrity");
    let mut found: Vec<FoundSince> = damage.into_iter().map(|finding| FoundSince { finding, new: None }).collect();
    found.extend(links::new_orphans(state, history, &schema)?);
    Ok(found)
}

fn bytes(state: &State<'_>) -> Result<u64, EngineError> {
    let number = |name: &str| state.connection.pragma_query_value(Some("main"), name, |row| row.get::<_, i64>(0));
    let product = || Ok(number("page_count")?.unsigned_abs().saturating_mul(number("page_size")?.unsigned_abs()));
    product().map_err(|error| state.explain(error, "reading the size of the database"))
}

/// Tells whether the structure of the file was found sound; no where it was not, or could not be looked at.
pub(super) fn is_sound(state: &State<'_>) -> Result<bool, EngineError> {
    let Some(pages) = &state.pages else { return Ok(false) };
    let sound = roots(state).and_then(|roots| pages.check_structure(&roots));
    state.site.check_still()?;
    Ok(sound.is_ok())
}

/// Lists the trees of the database, that of the schema first.
fn roots(state: &State<'_>) -> Result<Vec<Root>, Odd> {
    type Line = (String, String, String, i64, bool, Option<bool>);
    let sql = "SELECT s.type, s.name, s.tbl_name, s.rootpage, t.wr, l.partial FROM main.sqlite_schema AS s \
               LEFT JOIN pragma_table_list AS t ON t.schema='main' AND t.name=s.tbl_name COLLATE NOCASE \
               LEFT JOIN pragma_index_list(s.tbl_name, 'main') AS l ON s.type='index' AND l.name=s.name COLLATE NOCASE \
               WHERE s.rootpage>0 ORDER BY s.type='index', s.rowid";
    let mut statement = state.connection.prepare_cached(sql)?;
    let line = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?));
    let lines = statement.query_map([], line)?.collect::<Result<Vec<Line>, _>>()?;
    let mut roots = vec![Root { page: 1, has_row_numbers: true, as_many_as: None }];
    let mut seen = HashSet::new();
    let mut tables: Vec<(String, usize)> = Vec::new();
    for (kind, name, table, page, without_row_numbers, partial) in lines {
        let page = u32::try_from(page).map_err(|_| Odd::new("a tree has an odd page"))?;
        if !seen.insert((kind.clone(), name.to_ascii_lowercase())) {
            return Err(Odd::new("a name stands twice in the schema"));
        }
        match kind.as_str() {
            "table" => {
                tables.push((table.to_ascii_lowercase(), roots.len()));
                roots.push(Root { page, has_row_numbers: !without_row_numbers, as_many_as: None });
            }
            "index" => {
                let partial = partial.ok_or_else(|| Odd::new("an index is of no table"))?;
                let table = table.to_ascii_lowercase();
                let of =
                    tables.iter().find(|(name, _)| *name == table).map(|(_, at)| *at).ok_or_else(|| Odd::new("an index is of no table"))?;
                roots.push(Root { page, has_row_numbers: false, as_many_as: (!partial).then_some(of) });
            }
            _ => return Err(Odd::new("something that has no rows has pages")),
        }
    }
    Ok(roots)
}

/// Has the modules of virtual tables look at what they keep, where that changed.
fn virtual_tables(state: &State<'_>, history: &dyn History, schema: &Schema) -> Result<Vec<Finding>, EngineError> {
    let is_same = |name: &str| history.name_then(name).is_some() && history.is_same(name);
    let mut findings = Vec::new();
    for table in schema.tables.iter().filter(|table| matches!(table.kind, TableKind::Virtual { .. })) {
        let shadows =
            schema.tables.iter().filter(|shadow| matches!(&shadow.kind, TableKind::Shadow { of } if of.eq_ignore_ascii_case(&table.name)));
        let sql = |schema: &Schema| schema.object(ObjectKind::Table, &table.name).and_then(|object| object.sql.clone());
        // What is indexed may stand in a table that is not the module's.
        let is_of_others = sql(schema).is_some_and(|sql| sql.to_ascii_lowercase().contains("content"));
        if !is_of_others && sql(schema) == sql(history.schema()) && shadows.into_iter().all(|shadow| is_same(&shadow.name)) {
            continue;
        }
        let check = || -> Result<Vec<String>, rusqlite::Error> {
            let mut statement = state.connection.prepare(&format!("PRAGMA main.quick_check({})", quote(&table.name)))?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        // A module that is not there says nothing.
        for message in check().unwrap_or_default().into_iter().filter(|line| line != "ok") {
            findings.push(Finding { check: "integrity".into(), table: Some(table.name.clone()), message, count: 1 });
        }
    }
    Ok(findings)
}
