//! Virtual tables: what they hold stands in shadow tables, and is judged there, under the name that people know.

use super::loss::{Loss, LossKind};
use crate::ops::compare::Comparison;
use crate::schema::{ObjectKind, TableKind};
use crate::snapshot::changes::{RowCounts, TablePair};

/// Returns the virtual table whose rows a shadow table holds one by one: FTS keeps them in `_content`, R-tree in `_rowid`.
pub fn content_of(comparison: &Comparison<'_>, pair: &TablePair) -> Option<String> {
    let shape = pair.before.as_ref()?;
    let TableKind::Shadow { of } = &comparison.before.schema.table(&shape.name)?.kind else { return None };
    let suffix = shape.name.strip_prefix(of.as_str())?;
    matches!(suffix, "_content" | "_rowid").then(|| of.clone())
}

/// Judges the rows of a virtual table that is still there. One that went is judged as a whole.
pub(super) fn content_loss(table: &str, pair: &TablePair, counts: &RowCounts) -> Option<Loss> {
    let has_lost = pair.after.is_some() && counts.removed > 0;
    has_lost.then(|| Loss::new(LossKind::RowsRemoved, table, None, counts.removed, pair.rows_before))
}

/// Judges virtual tables that went: what they held stands in tables that went with them.
pub(super) fn dropped(comparison: &Comparison<'_>) -> Vec<Loss> {
    let (before, after) = (comparison.before, comparison.after);
    let goes_on = |name: &str| {
        comparison.pairs.iter().any(|pair| pair.after.is_some() && content_of(comparison, pair).is_some_and(|table| table == name))
    };
    let mut losses = Vec::new();
    for table in &before.schema.tables {
        let TableKind::Virtual { .. } = table.kind else { continue };
        if after.schema.table(&table.name).is_some() || goes_on(&table.name) {
            continue;
        }
        let object = before.schema.object(ObjectKind::Table, &table.name);
        let sql = object.and_then(|object| object.sql.clone()).unwrap_or_default().to_ascii_lowercase();
        // An index over another table's rows holds nothing of its own.
        let is_external = sql.split("content").skip(1).any(|rest| rest.trim_start().starts_with('='));
        let rows = ["content", "rowid", "docsize"]
            .iter()
            .filter_map(|suffix| before.table(&format!("{}_{suffix}", table.name)))
            .map(|(_, manifest)| manifest.rows)
            .max()
            .unwrap_or(0);
        if rows > 0 && !is_external {
            losses.push(Loss::new(LossKind::TableDropped, &table.name, None, rows, rows));
        }
    }
    losses
}
