//! A part of a state: some tables, with what belongs to them, and nothing that needs others. And the state of a database that has nothing.

use std::collections::HashSet;

use super::OpError;
use super::capture::State;
use crate::id::ObjectId;
use crate::schema::{ObjectKind, Schema, SchemaObject, TableKind};

/// What SQLite keeps the last numbers of AUTOINCREMENT in.
const SEQUENCES: &str = "sqlite_sequence";

/// Takes tables out of a state with their indexes, constraints and triggers, what those need (types, functions, sequences), and the tables that hold a
/// virtual table's rows. Foreign keys to tables that are left out are left out too where they stand for themselves.
///
/// # Errors
/// [`OpError::NoTable`].
pub fn of_tables(state: &State, names: &[String]) -> Result<State, OpError> {
    let mut chosen: HashSet<String> = HashSet::new();
    for name in names {
        let tables = &state.schema.tables;
        let found = tables.iter().find(|table| table.name == *name);
        let found = found.or_else(|| tables.iter().find(|table| table.name.eq_ignore_ascii_case(name)));
        chosen.insert(found.ok_or_else(|| OpError::NoTable(name.clone(), "the snapshot".to_owned()))?.name.clone());
    }
    let is_shadow = |kind: &TableKind| matches!(kind, TableKind::Shadow { of } if chosen.contains(of));
    let shadows: Vec<String> = state.schema.tables.iter().filter(|t| is_shadow(&t.kind)).map(|t| t.name.clone()).collect();
    chosen.extend(shadows);
    let kept = kept_objects(&state.schema, &mut chosen);
    let is_kept = |object: &SchemaObject| kept.contains(&(object.kind, object.name.as_str()));
    let mut schema = Schema::default();
    schema.objects = state.schema.objects.iter().filter(|object| is_kept(object)).cloned().collect();
    let is_there = |kind, name: &str| kept.contains(&(kind, name));
    schema.tables = state.schema.tables.iter().filter(|table| is_there(ObjectKind::Table, &table.name)).cloned().collect();
    schema.indexes = state.schema.indexes.iter().filter(|index| chosen.contains(&index.table)).cloned().collect();
    let tables = state.tables.iter().filter(|(_, manifest)| chosen.contains(&manifest.name) && manifest.name != SEQUENCES);
    Ok(with_schema(state, schema, tables.cloned().collect()))
}

/// The state of a new database with the settings of another one's.
pub fn nothing(state: &State) -> State {
    let is_given = |object: &&SchemaObject| match object.kind {
        // Every new database of a server has these.
        ObjectKind::Namespace => object.name == "public",
        ObjectKind::Extension => object.name == "plpgsql",
        _ => false,
    };
    let objects = state.schema.objects.iter().filter(is_given).cloned().collect();
    with_schema(state, Schema { objects, ..Schema::default() }, Vec::new())
}

fn with_schema(state: &State, schema: Schema, tables: Vec<(ObjectId, crate::snapshot::manifest::TableManifest)>) -> State {
    let json = serde_json::to_vec(&schema).expect("a schema has string keys and no failing serializer");
    State {
        schema_id: ObjectId::of(&json),
        schema,
        settings: state.settings.clone(),
        tables,
        format: state.format,
        mark: None,
        memory: None,
    }
}

/// Finds the objects that belong to tables, and what they need in turn.
fn kept_objects<'a>(schema: &'a Schema, chosen: &mut HashSet<String>) -> HashSet<(ObjectKind, &'a str)> {
    let mut kept: HashSet<(ObjectKind, &str)> = HashSet::new();
    loop {
        let belongs = |object: &SchemaObject| match object.kind {
            ObjectKind::Table => chosen.contains(&object.name),
            ObjectKind::View | ObjectKind::MaterializedView => false,
            ObjectKind::ForeignKey => {
                chosen.contains(&object.table)
                    && object.needs.iter().all(|(kind, name)| *kind != ObjectKind::Table || chosen.contains(name))
            }
            kind if kind.is_attribute() => kept.iter().any(|(_, name)| *name == object.table || *name == object.name),
            _ => chosen.contains(&object.table),
        };
        let is_needed = |object: &SchemaObject| {
            let key = (object.kind, object.name.as_str());
            let needs_it = |other: &SchemaObject| other.needs.iter().any(|(kind, name)| (*kind, name.as_str()) == key);
            schema.objects.iter().any(|other| kept.contains(&(other.kind, other.name.as_str())) && needs_it(other))
        };
        let makes_sequences = |object: &SchemaObject| {
            let words = |sql: &str| sql.to_ascii_uppercase().contains("AUTOINCREMENT");
            object.kind == ObjectKind::Table && chosen.contains(&object.name) && object.sql.as_deref().is_some_and(words)
        };
        let needs_sequences = schema.objects.iter().any(makes_sequences);
        let new: Vec<(ObjectKind, &str)> = schema
            .objects
            .iter()
            .filter(|object| !kept.contains(&(object.kind, object.name.as_str())))
            .filter(|object| belongs(object) || is_needed(object) || (needs_sequences && object.name == SEQUENCES))
            .map(|object| (object.kind, object.name.as_str()))
            .collect();
        if new.is_empty() {
            return kept;
        }
        // A table that others need comes with its rows.
        chosen.extend(new.iter().filter(|(kind, _)| *kind == ObjectKind::Table).map(|(_, name)| (*name).to_owned()));
        kept.extend(new);
    }
}
