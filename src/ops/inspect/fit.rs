//! What the parts of a snapshot say of each other: its table list and the manifests, the manifests and the schema, the settings and their engine.

use std::collections::HashSet;

use super::Loss;
use crate::engine;
use crate::schema::{ObjectKind, Schema, TableKind};
use crate::snapshot::manifest::{Snapshot, TableEntry, TableManifest};

/// The table under which an engine keeps what is no table of the schema.
const LARGE_OBJECTS: &str = "pg_largeobject";

fn wrong(table: &str, column: Option<&str>, what: String) -> Loss {
    Loss { table: Some(table.to_owned()), column: column.map(str::to_owned), first_row: None, rows: None, object: None, what }
}

/// Holds a manifest against the line that names it.
pub(super) fn table(entry: &TableEntry, manifest: &TableManifest, losses: &mut Vec<Loss>) {
    if entry.name != manifest.name {
        losses.push(wrong(&entry.name, None, format!("manifest {} is of table `{}`", entry.manifest, manifest.name)));
    }
    if entry.rows != manifest.rows {
        let what = format!("manifest {} says {} rows, the snapshot {}", entry.manifest, manifest.rows, entry.rows);
        losses.push(wrong(&entry.name, None, what));
    }
}

/// Holds a manifest against what the schema says of its table.
pub(super) fn declaration(snapshot: &Snapshot, manifest: &TableManifest, schema: &Schema, losses: &mut Vec<Loss>) {
    let name = &manifest.name;
    if snapshot.source.engine != "sqlite" && name == LARGE_OBJECTS {
        return;
    }
    let Some(table) = schema.table(name) else {
        return losses.push(wrong(name, None, "the schema has no such table".to_owned()));
    };
    let declared: HashSet<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    for column in manifest.columns.iter().filter(|column| !column.shape.hidden) {
        if !declared.contains(column.shape.name.as_str()) {
            losses.push(wrong(name, Some(&column.shape.name), "the schema has no such column".to_owned()));
        }
    }
    let kept: HashSet<&str> = manifest.columns.iter().map(|column| column.shape.name.as_str()).collect();
    for column in table.columns.iter().filter(|column| !column.generated && !kept.contains(column.name.as_str())) {
        losses.push(wrong(name, Some(&column.name), "the manifest lacks this column of the schema".to_owned()));
    }
}

/// Holds the order of the first keys against the table's own order, where that can be known: that of one whole number.
pub(super) fn order(snapshot: &Snapshot, manifest: &TableManifest, firsts: &[String], schema: &Schema, losses: &mut Vec<Loss>) {
    let is_numbered = manifest.identity.len() == 1 && manifest.identity == manifest.locator;
    if !is_numbered {
        return;
    }
    let Some(keys) = firsts.iter().map(|first| first.parse::<i64>().ok()).collect::<Option<Vec<_>>>() else { return };
    let may_fall = snapshot.source.engine != "sqlite" || schema.table(&manifest.name).is_none_or(|table| table.without_rowid);
    let rises = keys.windows(2).all(|pair| pair[0] < pair[1]);
    let falls = may_fall && keys.windows(2).all(|pair| pair[0] > pair[1]);
    if !rises && !falls {
        losses.push(wrong(&manifest.name, None, "its row groups are not in the order of their keys".to_owned()));
    }
}

/// Holds the schema against the tables that the snapshot lists.
pub(super) fn schema(snapshot: &Snapshot, schema: &Schema, losses: &mut Vec<Loss>) {
    let mut listed = HashSet::new();
    for entry in &snapshot.tables {
        if !listed.insert(entry.name.as_str()) {
            losses.push(wrong(&entry.name, None, "the snapshot lists it twice".to_owned()));
        }
    }
    let is_made = |name: &str| schema.object(ObjectKind::Table, name).is_some();
    for table in schema.tables.iter().filter(|table| table.kind == TableKind::Ordinary && is_made(&table.name)) {
        if !listed.contains(table.name.as_str()) {
            losses.push(wrong(&table.name, None, "the schema has it, and the snapshot does not list it".to_owned()));
        }
    }
    for index in &schema.indexes {
        if schema.table(&index.table).is_none() {
            losses
                .push(Loss::of_all(None, format!("index `{}` is on table `{}`, which the schema does not have", index.name, index.table)));
        }
    }
}

/// Holds the settings against what their engine would take.
pub(super) fn settings(snapshot: &Snapshot, losses: &mut Vec<Loss>) {
    losses.extend(engine::odd_settings(&snapshot.source.engine, &snapshot.settings).into_iter().map(|what| Loss::of_all(None, what)));
}
