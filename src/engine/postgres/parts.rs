//! Where a large table is split, so that its parts are read side by side.

use super::name::{literal, quoted};
use super::read::State;
use crate::engine::{EngineError, TablePart};
use crate::rows::TableShape;

/// The least pages of a part.
const PART_PAGES_MIN: u64 = 2_048;

const DOING: &str = "looking for places to split a table";

/// Splits a large table by the first column of its key, at values that the server's statistics say are evenly spread, else between the least and the
/// greatest number. Only by types whose order is the same on every system.
pub(super) fn parts(state: &State<'_>, shape: &TableShape, parts_max: usize) -> Result<Vec<TablePart>, EngineError> {
    let catalog = state.catalog()?;
    let first = shape.identity.first().and_then(|&at| shape.columns.get(at));
    let Some((relation, column)) = catalog.relation(&shape.name).zip(first) else { return Ok(Vec::new()) };
    let pages = state.link.cell(&format!("SELECT pg_catalog.pg_table_size({}::oid) / 8192", relation.oid), DOING)?;
    let pages: u64 = pages.and_then(|cell| cell.parse().ok()).unwrap_or(0);
    let whole = || Ok(vec![TablePart { rows: String::new(), bytes: pages * 8192 }]);
    let Some(attribute) = relation.columns.iter().find(|attribute| attribute.name == column.name && attribute.not_null) else {
        return whole();
    };
    let is_integer = matches!(attribute.base.as_str(), "int2" | "int4" | "int8");
    let is_ordered = is_integer || matches!(attribute.base.as_str(), "numeric" | "uuid" | "date" | "timestamp" | "timestamptz");
    let count = parts_max.min(usize::try_from(pages / PART_PAGES_MIN).unwrap_or(usize::MAX));
    if !is_ordered || count < 2 {
        return whole();
    }
    let name = format!("t.{}", quoted(&attribute.name));
    let known = state.link.rows(
        &format!(
            "SELECT u.bound FROM pg_catalog.pg_stats s, pg_catalog.unnest(s.histogram_bounds::text::text[]) WITH ORDINALITY AS u(bound, n) \
             WHERE s.schemaname = {} AND s.tablename = {} AND s.attname = {} AND NOT s.inherited ORDER BY u.n",
            literal(&relation.schema),
            literal(&relation.name),
            literal(&attribute.name)
        ),
        DOING,
    )?;
    let known: Vec<&str> = known.iter().filter_map(|row| row.get(0)).collect();
    let mut bounds: Vec<String> = Vec::new();
    if known.len() > count {
        bounds = (1..count).filter_map(|at| known.get(at * (known.len() - 1) / count)).map(|bound| (*bound).to_owned()).collect();
    } else if is_integer {
        let found =
            state.link.rows(&format!("SELECT pg_catalog.min({name}), pg_catalog.max({name}) FROM ONLY {} t", relation.sql()), DOING)?;
        let number = |at: usize| found.first().and_then(|row| row.get(at)).and_then(|cell| cell.parse::<i128>().ok());
        if let (Some(least), Some(greatest)) = (number(0), number(1)) {
            let count = i128::try_from(count).unwrap_or(1);
            bounds = (1..count).map(|at| (least + (greatest - least) * at / count).to_string()).collect();
        }
    }
    bounds.dedup();
    let bytes = pages * 8192 / (bounds.len() as u64 + 1);
    let from = std::iter::once(None).chain(bounds.iter().map(Some));
    let until = bounds.iter().map(Some).chain([None]);
    let rows = from.zip(until).map(|(from, until)| {
        let from = from.map(|bound| format!("{name} >= {}", literal(bound)));
        let until = until.map(|bound| format!("{name} < {}", literal(bound)));
        from.into_iter().chain(until).collect::<Vec<_>>().join(" AND ")
    });
    Ok(rows.map(|rows| TablePart { rows, bytes }).collect())
}
