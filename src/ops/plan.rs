//! What must change to turn one state into another, as plain data.

use std::collections::HashSet;

use serde::Serialize;

use super::OpError;
use super::capture::{State, exact_settings};
use crate::id::ObjectId;
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, TableKind};
use crate::snapshot::manifest::TableManifest;

/// What must change to turn one state into another.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// Objects to drop, in creation order, with everything that hangs on them.
    pub drop: Vec<SchemaObject>,
    /// Tables to create.
    pub create: Vec<SchemaObject>,
    /// Indexes to create, on tables that stay, by name.
    pub indexes: Vec<String>,
    /// Whether other objects, the order or the text of the schema differ.
    pub schema_differs: bool,
    /// Tables whose rows change, in the target's order.
    pub tables: Vec<TablePlan>,
    /// Settings to write: name, value now, value then.
    pub settings: Vec<(String, String, String)>,
    /// What a rollback cannot restore in an existing database, in words.
    pub limits: Vec<String>,
}

impl Plan {
    /// Tells whether nothing must change.
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.create.is_empty() && !self.schema_differs && self.tables.is_empty() && self.settings.is_empty()
    }
}

/// What happens to one table's rows.
#[derive(Debug, Clone, Serialize)]
pub struct TablePlan {
    /// The table.
    pub name: String,
    /// How.
    pub action: RowAction,
    /// Rows in the target.
    pub rows: u64,
}

/// How a table's rows become the target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowAction {
    /// Only rows that differ are written.
    Patch,
    /// The table was created anew, and all rows are inserted.
    Fill,
    /// All rows are deleted and inserted, because no row can be addressed.
    Rewrite,
    /// One of the engine's own tables: compared at the end, and rewritten if it differs.
    Settle,
}

/// Finds what must change to turn `live` into `target`.
pub fn plan(live: &State, target: &State) -> Plan {
    let is_kept = |object: &SchemaObject, other: &Schema| other.objects.contains(object);
    let mut plan = Plan::default();
    let is_table = |object: &&SchemaObject| object.kind == ObjectKind::Table;
    let changed: HashSet<(ObjectKind, &str)> = live
        .schema
        .objects
        .iter()
        .filter(|object| object.sql.is_some() && !is_kept(object, &target.schema))
        .map(|object| (object.kind, object.name.as_str()))
        .collect();
    let goes_with = |object: &SchemaObject| {
        matches!(object.kind, ObjectKind::Index | ObjectKind::Trigger)
            && (changed.contains(&(ObjectKind::Table, object.table.as_str()))
                || changed.contains(&(ObjectKind::View, object.table.as_str())))
    };
    let goes = |object: &SchemaObject| changed.contains(&(object.kind, object.name.as_str())) || goes_with(object);
    plan.drop = live.schema.objects.iter().filter(|object| goes(object)).cloned().collect();
    let stays = |object: &SchemaObject| live.schema.objects.contains(object) && !goes(object);
    plan.create = target.schema.objects.iter().filter(is_table).filter(|object| !stays(object)).cloned().collect();
    let is_new_index = |object: &&SchemaObject| object.kind == ObjectKind::Index && object.sql.is_some() && !stays(object);
    plan.indexes = target.schema.objects.iter().filter(is_new_index).map(|object| object.name.clone()).collect();
    plan.schema_differs = live.schema.objects != target.schema.objects;
    for (id, manifest) in &target.tables {
        let is_internal = target.schema.table(&manifest.name).is_some_and(|table| table.kind == TableKind::Internal);
        let is_created = plan.create.iter().any(|object| object.name == manifest.name);
        let live_table = live.table(&manifest.name);
        let is_equal = live_table.is_some_and(|(live_id, _)| live_id == id);
        let action = if is_internal {
            RowAction::Settle
        } else if is_created {
            RowAction::Fill
        } else if is_equal {
            continue;
        } else if live_table.is_some_and(|(_, live)| is_patchable(live, manifest)) {
            RowAction::Patch
        } else {
            RowAction::Rewrite
        };
        if action == RowAction::Settle && is_equal && !is_created {
            continue;
        }
        plan.tables.push(TablePlan { name: manifest.name.clone(), action, rows: manifest.rows });
    }
    for (name, then) in exact_settings(&target.settings) {
        let now = live.settings.get(name).map_or("", |setting| setting.value.as_str());
        if now != then {
            plan.settings.push((name.to_owned(), now.to_owned(), then.to_owned()));
        }
    }
    for (name, setting) in &target.settings {
        let now = live.settings.get(name).map_or("", |setting| setting.value.as_str());
        if setting.scope != SettingScope::Exact && now != setting.value {
            plan.limits
                .push(format!("`{name}` is {now} and was {}: only a new database can be given it (`dbelay restore`)", setting.value));
        }
    }
    // Whatever is written may move the engine's own tables.
    if !plan.is_empty() {
        for (_, manifest) in &target.tables {
            let is_internal = target.schema.table(&manifest.name).is_some_and(|table| table.kind == TableKind::Internal);
            if is_internal && !plan.tables.iter().any(|table| table.name == manifest.name) {
                let action = RowAction::Settle;
                plan.tables.push(TablePlan { name: manifest.name.clone(), action, rows: manifest.rows });
            }
        }
    }
    plan
}

/// Tells whether rows can be patched one by one: same columns, and rows that can be addressed.
fn is_patchable(live: &TableManifest, target: &TableManifest) -> bool {
    let names = |manifest: &TableManifest| manifest.columns.iter().map(|column| column.shape.name.clone()).collect::<Vec<_>>();
    !target.locator.is_empty() && live.locator == target.locator && names(live) == names(target)
}

/// The live state with some tables as they are in the target: the target of a rollback of these tables alone.
///
/// # Errors
/// [`OpError::NoTable`] where neither state has a table of a name.
pub fn merge(live: &State, target: &State, names: &[String]) -> Result<State, OpError> {
    let find = |state: &State, name: &str| {
        let tables = &state.schema.tables;
        let exact = tables.iter().find(|table| table.name == name);
        exact.or_else(|| tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))).map(|table| table.name.clone())
    };
    let mut chosen: HashSet<String> = HashSet::new();
    for name in names {
        let found = find(target, name).into_iter().chain(find(live, name)).collect::<Vec<_>>();
        if found.is_empty() {
            return Err(OpError::NoTable(name.clone(), "the snapshot or the database".to_owned()));
        }
        chosen.extend(found);
    }
    // A virtual table comes with the tables that hold its rows.
    let shadows = |state: &State| {
        let tables = state.schema.tables.iter();
        tables
            .filter(|table| matches!(&table.kind, TableKind::Shadow { of } if chosen.contains(of)))
            .map(|table| table.name.clone())
            .collect::<Vec<_>>()
    };
    let extra: Vec<String> = shadows(live).into_iter().chain(shadows(target)).collect();
    chosen.extend(extra);
    let is_chosen = |object: &&SchemaObject| chosen.contains(&object.table) || chosen.contains(&object.name);
    let mut objects: Vec<SchemaObject> = Vec::new();
    for object in &live.schema.objects {
        let then = target.schema.object(object.kind, &object.name);
        match (is_chosen(&object), then) {
            (false, _) => objects.push(object.clone()),
            // Its name may belong to another table then, which stays as it is.
            (true, Some(then)) if is_chosen(&then) => objects.push(then.clone()),
            (true, _) => {}
        }
    }
    for object in target.schema.objects.iter().filter(is_chosen) {
        match objects.iter().find(|other| other.kind == object.kind && other.name == object.name) {
            None => objects.push(object.clone()),
            Some(other) if other.table != object.table => {
                return Err(OpError::NameTaken {
                    what: format!("{} `{}`", object.kind.word(), object.name),
                    table: object.table.clone(),
                    other: other.table.clone(),
                });
            }
            Some(_) => {}
        }
    }
    let mut objects = owners_first(objects);
    let has_sequence = |state: &State| state.schema.tables.iter().any(|table| table.name == "sqlite_sequence");
    if has_sequence(target) && !has_sequence(live) {
        // The tables that come back may need it, and SQLite makes it with them; its place is where the snapshot has it.
        objects.extend(target.schema.objects.iter().filter(|object| object.name == "sqlite_sequence").cloned());
    }
    let pick = |name: &str| if chosen.contains(name) { target } else { live };
    let mut schema = Schema { objects, ..Schema::default() };
    for object in schema.objects.iter().filter(|object| object.kind == ObjectKind::Table) {
        let from = if pick(&object.name).schema.table(&object.name).is_some() { pick(&object.name) } else { target };
        schema.tables.extend(from.schema.table(&object.name).cloned());
    }
    for object in schema.objects.iter().filter(|object| object.kind == ObjectKind::Index) {
        let indexes = |state: &State| state.schema.indexes.iter().find(|index| index.name == object.name).cloned();
        schema.indexes.extend(indexes(pick(&object.table)));
    }
    let tables = schema
        .tables
        .iter()
        .filter_map(|table| pick(&table.name).table(&table.name).or_else(|| target.table(&table.name)).cloned())
        .collect();
    let json = serde_json::to_vec(&schema).expect("a schema has string keys and no failing serializer");
    let schema_id = ObjectId::of(&json);
    Ok(State { schema_id, schema, settings: live.settings.clone(), tables, format: live.format.min(target.format) })
}

/// Puts indexes and triggers that stand before their table or view at the end: no database reads them in that order.
fn owners_first(objects: Vec<SchemaObject>) -> Vec<SchemaObject> {
    let mut owners: HashSet<String> = HashSet::new();
    let (mut ordered, mut late) = (Vec::with_capacity(objects.len()), Vec::new());
    for object in objects {
        match object.kind {
            ObjectKind::Index | ObjectKind::Trigger if !owners.contains(&object.table) => late.push(object),
            kind => {
                if matches!(kind, ObjectKind::Table | ObjectKind::View) {
                    owners.insert(object.name.clone());
                }
                ordered.push(object);
            }
        }
    }
    ordered.extend(late);
    ordered
}
