//! What must change to turn one state into another, as plain data.

use std::collections::HashSet;

use serde::Serialize;

use super::OpError;
use super::capture::{State, exact_settings};
use crate::id::ObjectId;
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, TableKind};
use crate::snapshot::manifest::TableManifest;

/// What must change to turn one state into another.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Plan {
    /// What has rows and no declaration (large objects), and is to have none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clear: Vec<TableShape>,
    /// Objects that stay and are changed where they stand: as they are, and as they are to be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alter: Vec<(SchemaObject, SchemaObject)>,
    /// Objects to drop, in creation order, with everything that hangs on them.
    pub drop: Vec<SchemaObject>,
    /// Tables to create, and what an engine needs before there can be rows in them.
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
        self.alter.is_empty()
            && self.drop.is_empty()
            && self.create.is_empty()
            && !self.schema_differs
            && self.tables.is_empty()
            && self.settings.is_empty()
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
    /// The rows of a materialized view are computed again.
    Refresh,
}

/// Finds what must change to turn `live` into `target`.
pub fn plan(live: &State, target: &State) -> Plan {
    let mut plan = Plan::default();
    let (objects, wanted) = (&live.schema.objects, &target.schema);
    let twin = |object: &SchemaObject| wanted.object(object.kind, &object.name);
    let is_alterable = |object: &SchemaObject| twin(object).is_some_and(|twin| crate::schema::alter::is_alterable(object, twin));
    let gone = going(objects, wanted, &is_alterable);
    let goes = |object: &SchemaObject| gone.contains(&(object.kind, object.name.as_str()));
    plan.drop = objects.iter().filter(|object| goes(object)).cloned().collect();
    plan.alter = objects
        .iter()
        .filter(|object| !object.kind.is_attribute() && !goes(object) && is_alterable(object))
        .filter_map(|object| Some((object.clone(), twin(object).filter(|twin| !twin.is_same(object))?.clone())))
        .collect();
    let stays = |object: &SchemaObject| objects.iter().any(|other| other.is_same(object) && !goes(other));
    let is_altered = |object: &SchemaObject| plan.alter.iter().any(|(_, twin)| (twin.kind, &twin.name) == (object.kind, &object.name));
    let is_first = before_rows(&wanted.objects);
    let is_new = |object: &SchemaObject| !stays(object) && (!is_altered(object) || object.kind == ObjectKind::Function);
    plan.create = wanted
        .objects
        .iter()
        .enumerate()
        .filter(|(at, object)| is_first(*at, object) && !object.kind.is_attribute() && is_new(object))
        .map(|(_, object)| object.clone())
        .filter(|object| object.kind != ObjectKind::Default || gone_or_new_table(objects, &goes, &object.table))
        .collect();
    let is_new_index = |object: &&SchemaObject| object.kind == ObjectKind::Index && object.sql.is_some() && !stays(object);
    plan.indexes = wanted.objects.iter().filter(is_new_index).map(|object| object.name.clone()).collect();
    plan.schema_differs = !live.schema.is_same(wanted);
    for (id, manifest) in &target.tables {
        let kind = target.schema.table(&manifest.name).map(|table| &table.kind);
        let is_internal = kind == Some(&TableKind::Internal);
        let is_created = plan
            .create
            .iter()
            .any(|object| matches!(object.kind, ObjectKind::Table | ObjectKind::MaterializedView) && object.name == manifest.name);
        let live_table = live.table(&manifest.name);
        let is_equal = live_table.is_some_and(|(live_id, _)| live_id == id);
        let action = if is_internal {
            RowAction::Settle
        } else if kind == Some(&TableKind::Materialized) && (is_created || !is_equal) {
            RowAction::Refresh
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
    let is_undeclared = |name: &str| live.schema.table(name).is_none() && target.table(name).is_none();
    plan.clear = live.tables.iter().filter(|(_, table)| is_undeclared(&table.name)).map(|(_, table)| table.shape()).collect();
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

/// Tells whether the table that something belongs to is made anew, or was not there.
fn gone_or_new_table(live: &[SchemaObject], goes: &dyn Fn(&SchemaObject) -> bool, table: &str) -> bool {
    !live.iter().any(|object| object.kind == ObjectKind::Table && object.name == table && !goes(object))
}

/// Finds the live objects that have to go: those that the target does not have, or has otherwise, and all that hangs on them.
fn going<'a>(objects: &'a [SchemaObject], wanted: &Schema, is_alterable: &dyn Fn(&SchemaObject) -> bool) -> HashSet<(ObjectKind, &'a str)> {
    let is_kept = |object: &SchemaObject| wanted.objects.iter().any(|other| other.is_same(object));
    // An attribute is written over, and a default goes with its table or is changed with it.
    let is_own = |object: &&SchemaObject| !object.kind.is_attribute() && object.kind != ObjectKind::Default;
    let mut gone: HashSet<(ObjectKind, &str)> = objects
        .iter()
        .filter(is_own)
        .filter(|object| object.sql.is_some() || !object.facts.is_empty())
        .filter(|object| !is_kept(object) && !is_alterable(object))
        .map(|object| (object.kind, object.name.as_str()))
        .collect();
    loop {
        let hangs = |object: &&SchemaObject| {
            // What the target does not need it for is taken from it before.
            let is_needed = |need: &(ObjectKind, String)| match wanted.object(object.kind, &object.name) {
                Some(twin) => twin.needs.contains(need),
                None => true,
            };
            let on_need = object.needs.iter().any(|need| gone.contains(&(need.0, need.1.as_str())) && is_needed(need));
            let on_table = matches!(object.kind, ObjectKind::Index | ObjectKind::Trigger)
                && [ObjectKind::Table, ObjectKind::View].iter().any(|kind| gone.contains(&(*kind, object.table.as_str())));
            on_need || on_table
        };
        let more: Vec<(ObjectKind, &str)> = objects
            .iter()
            .filter(is_own)
            .filter(|object| !gone.contains(&(object.kind, object.name.as_str())) && hangs(object))
            .map(|object| (object.kind, object.name.as_str()))
            .collect();
        if more.is_empty() {
            return gone;
        }
        gone.extend(more);
    }
}

/// Tells by its place and kind whether an object is made before there are rows. Engines that know only tables make only these first; where objects
/// stand in the order in which they can be made, all do that stand before the first one that is made over rows.
fn before_rows(objects: &[SchemaObject]) -> impl Fn(usize, &SchemaObject) -> bool {
    use ObjectKind::{Constraint, EventTrigger, ForeignKey, Index, Policy, Publication, Rule, Statistics, Trigger};
    let is_over_rows =
        |kind| matches!(kind, Constraint | EventTrigger | ForeignKey | Index | Policy | Publication | Rule | Statistics | Trigger);
    let has_facts = objects.iter().any(|object| !object.facts.is_empty());
    let border = objects.iter().position(|object| is_over_rows(object.kind)).unwrap_or(objects.len());
    move |at, object| if has_facts { at < border } else { object.kind == ObjectKind::Table }
}

/// Tells whether rows can be patched one by one: same columns, but for some at the end that are taken away, and rows that can be addressed.
fn is_patchable(live: &TableManifest, target: &TableManifest) -> bool {
    let names = |manifest: &TableManifest| manifest.columns.iter().map(|column| column.shape.name.clone()).collect::<Vec<_>>();
    !target.locator.is_empty() && live.locator == target.locator && names(live).starts_with(&names(target))
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
    Ok(State {
        schema_id,
        schema,
        settings: live.settings.clone(),
        tables,
        format: live.format.min(target.format),
        mark: None,
        memory: None,
    })
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
