//! The schema: `pg_dump`'s statements, one object after another in an order in which they can be made, with what the catalogue says of each.

use std::collections::{HashMap, HashSet};

use super::catalog::{self, Address, Catalog, PG_ATTRDEF};
use super::dump::Entry;
use super::link::Link;
use super::name::shown;
use crate::engine::EngineError;
use crate::schema::{Index, ObjectKind, Schema, SchemaObject, Table};

/// Makes the schema of what the catalogue says alone: without statements but for those that it can tell itself, in no order.
pub fn of_catalog(catalog: &Catalog) -> Schema {
    let objects = catalog.objects.iter().map(|known| object(known, known.sql.clone())).collect();
    let (tables, indexes) = in_order(catalog);
    Schema { objects, tables, indexes }
}

/// Returns the tables and indexes by name, since those that were made anew stand elsewhere in the catalogue.
fn in_order(catalog: &Catalog) -> (Vec<Table>, Vec<Index>) {
    let (mut tables, mut indexes) = (catalog.tables.clone(), catalog.indexes.clone());
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    for table in &mut tables {
        table.foreign_keys.sort_by(|a, b| (&a.columns, &a.parent, &a.parent_columns).cmp(&(&b.columns, &b.parent, &b.parent_columns)));
    }
    indexes.sort_by(|a, b| (&a.table, &a.name).cmp(&(&b.table, &b.name)));
    (tables, indexes)
}

fn object(known: &catalog::Known, sql: Option<String>) -> SchemaObject {
    SchemaObject { facts: known.facts.clone(), ..SchemaObject::new(known.kind, &known.name, &known.table, sql) }
}

/// Puts statements and catalogue together.
///
/// # Errors
/// The server's, in reading what depends on what.
pub fn assemble(link: &Link, catalog: &Catalog, entries: &[Entry], default_schema: &str) -> Result<Schema, EngineError> {
    let mut objects: Vec<SchemaObject> = Vec::new();
    let mut is_told: HashSet<(ObjectKind, String)> = HashSet::new();
    // What an address means as an object: the catalogue's, but for defaults that stand for themselves.
    let mut meaning: HashMap<Address, (ObjectKind, String)> = HashMap::new();
    for known in catalog.objects.iter().filter(|known| known.kind == ObjectKind::Namespace) {
        is_told.insert((known.kind, known.name.clone()));
        objects.push(object(known, known.sql.clone()));
    }
    for entry in entries {
        let sql = Some(entry.statements.join(";\n"));
        let relation = || {
            let schema = entry.schema.as_deref().unwrap_or_default();
            shown(default_schema, schema, &entry.tag)
        };
        let second = match entry.kind.as_str() {
            "TABLE ATTACH" => Some(format!("table attach {}", relation())),
            "INDEX ATTACH" => Some(format!("index attach {}", relation())),
            "SEQUENCE OWNED BY" => Some(format!("sequence owned by {}", relation())),
            "ROW SECURITY" => Some(format!("row security {}", relation())),
            "USER MAPPING" => {
                let parts = entry.tag.strip_prefix("USER MAPPING ").and_then(|rest| rest.rsplit_once(" SERVER "));
                parts.map(|(user, server)| format!("user mapping {user} on server {server}"))
            }
            _ => None,
        };
        let address = (entry.class, entry.oid);
        let known = match &second {
            Some(name) => catalog.object(ObjectKind::Other, name),
            None => catalog.places.get(&address).and_then(|&at| catalog.objects.get(at)),
        };
        let default = catalog.defaults.get(&entry.oid).filter(|_| entry.class == PG_ATTRDEF);
        let made = match (known, default) {
            (Some(known), _) => object(known, sql),
            (None, Some((table, column))) => {
                let table = catalog.relations.get(table).map(|relation| relation.shown.clone()).unwrap_or_default();
                let name = format!("{table}.{column}");
                meaning.insert(address, (ObjectKind::Default, name.clone()));
                let mut object = SchemaObject::new(ObjectKind::Default, name, &table, sql);
                object.needs.push((ObjectKind::Table, table));
                object
            }
            (None, None) => {
                let name = format!("{} {}", entry.kind.to_lowercase(), entry.tag);
                let mut object = SchemaObject::new(ObjectKind::Other, &name, "", sql);
                // Of what it is about: the object that has its address as a part.
                if let Some(owner) = resolve(catalog, &meaning, address) {
                    object.needs.push(owner);
                }
                meaning.insert(address, (ObjectKind::Other, name));
                object
            }
        };
        if is_told.insert((made.kind, made.name.clone())) {
            objects.push(made);
        }
    }
    // What is written over may come in any order, and has one that stays when objects are made anew.
    let (mut attributes, others): (Vec<_>, Vec<_>) = catalog.objects.iter().partition(|known| known.kind.is_attribute());
    attributes.sort_by_key(|known| (known.kind, &known.name));
    for known in others.into_iter().chain(attributes) {
        if is_told.insert((known.kind, known.name.clone())) {
            objects.push(object(known, known.sql.clone()));
        }
    }
    let mut needs = edges(link, catalog, &meaning)?;
    for known in &catalog.objects {
        // What says something about an object needs it.
        let primary = catalog.places.get(&known.address).and_then(|&at| catalog.objects.get(at));
        if let Some(primary) = primary.filter(|primary| (primary.kind, &primary.name) != (known.kind, &known.name)) {
            let own = needs.entry((known.kind, known.name.clone())).or_default();
            own.push((primary.kind, primary.name.clone()));
            if let Some(parent) = known.facts.get("parent") {
                let kind = if known.name.starts_with("table") { ObjectKind::Table } else { ObjectKind::Index };
                own.push((kind, parent.clone()));
            }
        }
    }
    for object in &mut objects {
        if let Some(found) = needs.remove(&(object.kind, object.name.clone())) {
            object.needs.extend(found);
        }
        object.needs.retain(|(kind, name)| !(*kind == object.kind && *name == object.name));
        object.needs.sort();
        object.needs.dedup();
    }
    let (tables, indexes) = in_order(catalog);
    Ok(Schema { objects, tables, indexes })
}

/// Finds which object an address means, following what is part of what.
fn resolve(catalog: &Catalog, meaning: &HashMap<Address, (ObjectKind, String)>, address: Address) -> Option<(ObjectKind, String)> {
    let mut address = address;
    for _ in 0..8 {
        if let Some(found) = meaning.get(&address) {
            return Some(found.clone());
        }
        if let Some(known) = catalog.places.get(&address).and_then(|&at| catalog.objects.get(at)) {
            return Some((known.kind, known.name.clone()));
        }
        address = *catalog.part_of.get(&address)?;
    }
    None
}

type Edges = HashMap<(ObjectKind, String), Vec<(ObjectKind, String)>>;

/// Reads what depends on what.
fn edges(link: &Link, catalog: &Catalog, meaning: &HashMap<Address, (ObjectKind, String)>) -> Result<Edges, EngineError> {
    let rows = link.rows(
        "SELECT DISTINCT classid::int8, objid::int8, refclassid::int8, refobjid::int8 FROM pg_catalog.pg_depend \
         WHERE deptype IN ('n','a','i','P','S') AND (objid >= 16384 OR classid = 2604) AND (refobjid >= 16384 OR refclassid = 2615)",
        "reading what depends on what",
    )?;
    let mut edges = Edges::new();
    for row in &rows {
        let number = |at: usize| row.get(at).and_then(|cell| cell.parse::<u32>().ok()).unwrap_or_default();
        let (from, to) = ((number(0), number(1)), (number(2), number(3)));
        if catalog.members.contains(&from) {
            continue;
        }
        if let (Some(from), Some(to)) = (resolve(catalog, meaning, from), resolve(catalog, meaning, to))
            && from != to
        {
            edges.entry(from).or_default().push(to);
        }
    }
    Ok(edges)
}
