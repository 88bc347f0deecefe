//! Looking through everything that snapshots reach: is it there, is it what it should be, and does it fit together.
//!
//! What several snapshots share is looked at once. What is missing or wrong never ends the look: it is told as a [`Loss`], with the table, the column
//! and the rows that it costs, and the look goes on with the rest. Nothing is changed here.

mod fit;
mod table;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::table::TableFound;
use crate::id::ObjectId;
use crate::schema::Schema;
use crate::snapshot::files::{Entry, EntryKind, content, listing};
use crate::snapshot::manifest::{Node, Snapshot};
use crate::store::{Store, StoreError};
use crate::value::{LARGE_BYTES, Value, split_array};

/// How many slots of nodes are kept decoded.
const SLOTS_MAX: usize = 1_000_000;

/// The longest first cell of a chunk that is kept.
const CELL_BYTES_MAX: usize = 256;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Schema, manifests and nodes are read; of the rest only whether it is there.
    Structure,
    /// Every object is read, and everything is held against everything that it must fit.
    Everything,
}

/// Something that a snapshot lacks, or that is wrong in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The table; none where it concerns the whole snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The column; none where it concerns all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The first row concerned, counted from 1 in the table's own order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_row: Option<u64>,
    /// How many rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The first object that is missing or wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectId>,
    /// What is wrong.
    pub what: String,
}

impl Loss {
    /// Makes a loss of the whole snapshot.
    fn of_all(object: Option<ObjectId>, what: impl Into<String>) -> Self {
        Self { table: None, column: None, first_row: None, rows: None, object, what: what.into() }
    }

    /// Says it in one line, without what is wrong.
    pub fn place(&self) -> String {
        let Some(table) = &self.table else { return "the snapshot".to_owned() };
        let column = self.column.as_ref().map(|column| format!(", column `{column}`")).unwrap_or_default();
        let rows = match (self.first_row, self.rows) {
            (Some(first), Some(1)) => format!(", row {first}"),
            (Some(first), Some(rows)) => format!(", rows {first} to {}", first.saturating_add(rows).saturating_sub(1)),
            _ => String::new(),
        };
        format!("table `{table}`{column}{rows}")
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.table {
            Some(_) => write!(f, "{}: {}", self.place(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// What was found in one snapshot.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// What it lacks, and what is wrong in it.
    pub losses: Vec<Loss>,
    /// All objects that it lacks.
    pub lost: HashSet<ObjectId>,
}

impl Found {
    /// Names the tables that lost something.
    pub fn tables(&self) -> Vec<String> {
        self.losses.iter().filter_map(|loss| loss.table.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// An object that cannot be used, and why.
#[derive(Debug, Clone)]
struct Bad {
    object: ObjectId,
    what: Rc<str>,
}

/// What is known of a column chunk.
#[derive(Debug, Clone)]
struct Facts {
    cells: u64,
    /// The bytes of its JSON, large values included.
    bytes: u64,
    /// Its first cell, if that is short.
    first: Option<Box<str>>,
}

/// A look through a store's snapshots; what was seen once is not read again.
pub struct Inspection<'a> {
    store: &'a Store,
    look: Look,
    schemas: HashMap<ObjectId, Result<Rc<Schema>, Bad>>,
    tables: HashMap<ObjectId, Rc<TableFound>>,
    nodes: HashMap<(ObjectId, u32), Rc<Node>>,
    slots: usize,
    /// Nodes at the bottom all of whose chunks are there.
    whole: HashSet<ObjectId>,
    chunks: HashMap<ObjectId, Result<Facts, Bad>>,
    large: HashMap<ObjectId, Result<(u64, u64), Bad>>,
    /// Lists of files, with what is wrong below them.
    listings: HashMap<ObjectId, Rc<[Bad]>>,
    /// The lengths of pieces of files.
    pieces: HashMap<ObjectId, Result<u64, Bad>>,
    /// How many objects were read.
    pub objects: u64,
    /// How many bytes of JSON they have.
    pub bytes: u64,
}

impl<'a> Inspection<'a> {
    /// Begins to look.
    pub fn new(store: &'a Store, look: Look) -> Self {
        Self {
            store,
            look,
            schemas: HashMap::new(),
            tables: HashMap::new(),
            nodes: HashMap::new(),
            slots: 0,
            whole: HashSet::new(),
            chunks: HashMap::new(),
            large: HashMap::new(),
            listings: HashMap::new(),
            pieces: HashMap::new(),
            objects: 0,
            bytes: 0,
        }
    }

    /// Looks through a snapshot.
    pub fn snapshot(&mut self, snapshot: &Snapshot) -> Found {
        let mut found = Found::default();
        let schema = match self.schema(snapshot.schema) {
            Ok(schema) => Some(schema),
            Err(bad) => {
                found.lost.insert(bad.object);
                found.losses.push(Loss::of_all(Some(bad.object), format!("the schema: {}", bad.what)));
                None
            }
        };
        for entry in &snapshot.tables {
            let table = self.table(entry.manifest);
            found.lost.extend(&table.lost);
            let named = table.losses.iter().map(|loss| Loss { table: Some(entry.name.clone()), ..loss.clone() });
            found.losses.extend(named);
            if let Some(manifest) = &table.manifest {
                fit::table(entry, manifest, &mut found.losses);
                if self.look == Look::Everything
                    && let Some(schema) = &schema
                {
                    fit::declaration(snapshot, manifest, schema, &mut found.losses);
                    fit::order(snapshot, manifest, &table.firsts, schema, &mut found.losses);
                }
            }
        }
        if let Some(files) = snapshot.files {
            let bad = self.files(files);
            found.lost.extend(bad.iter().map(|bad| bad.object));
            found.losses.extend(bad.iter().map(|bad| Loss::of_all(Some(bad.object), bad.what.to_string())));
        }
        if self.look == Look::Everything {
            if let Some(schema) = &schema {
                fit::schema(snapshot, schema, &mut found.losses);
            }
            fit::settings(snapshot, &mut found.losses);
        }
        found
    }

    /// Looks through the files beside the database.
    fn files(&mut self, id: ObjectId) -> Rc<[Bad]> {
        if let Some(known) = self.listings.get(&id) {
            return Rc::clone(known);
        }
        let mut found = Vec::new();
        match listing::read(self.store, &id) {
            Err(error) => found.push(bad(id, format!("its files: {}", super::with_causes(&error)))),
            Ok(listing) => {
                for entry in listing.entries.iter().filter(|entry| entry.kind == EntryKind::File) {
                    let what = match content::chunks(self.store, entry) {
                        Ok(chunks) => self.file_bytes(entry, &chunks),
                        Err(error) => Some(bad(id, super::with_causes(&error))),
                    };
                    found.extend(what.map(|it| bad(it.object, format!("file `{}`: {}", entry.path, it.what))));
                }
            }
        }
        let found: Rc<[Bad]> = found.into();
        self.listings.insert(id, Rc::clone(&found));
        found
    }

    /// Looks at the pieces of a file; returns the first that cannot be used.
    fn file_bytes(&mut self, entry: &Entry, chunks: &[ObjectId]) -> Option<Bad> {
        let mut bytes = 0_u64;
        for &chunk in chunks {
            if self.look == Look::Structure {
                if !self.store.contains(&chunk) {
                    return Some(missing(chunk));
                }
                continue;
            }
            let length = match self.pieces.get(&chunk) {
                Some(known) => known.clone(),
                None => {
                    let read = self.read(chunk).map(|bytes| bytes.len() as u64);
                    self.pieces.insert(chunk, read.clone());
                    read
                }
            };
            match length {
                Ok(length) => bytes = bytes.saturating_add(length),
                Err(bad) => return Some(bad),
            }
        }
        let is_wrong = self.look == Look::Everything && bytes != entry.size;
        is_wrong.then(|| {
            bad(chunks.first().copied().unwrap_or(ObjectId([0; 32])), format!("its pieces have {bytes} bytes, not {}", entry.size))
        })
    }

    /// Reads an object; the store proves it by its id.
    fn read(&mut self, id: ObjectId) -> Result<Vec<u8>, Bad> {
        let json = self.store.get(&id).map_err(|error| match error {
            StoreError::Missing(_) => missing(id),
            StoreError::Damaged { what, id: damaged, .. } if damaged == id => bad(id, format!("object {} is damaged: {what}", id.short())),
            other => bad(id, other.to_string()),
        })?;
        self.objects += 1;
        self.bytes += json.len() as u64;
        Ok(json)
    }

    fn decode<T: DeserializeOwned>(&mut self, id: ObjectId) -> Result<T, Bad> {
        serde_json::from_slice(&self.read(id)?).map_err(|error| bad(id, format!("object {id}: {error}")))
    }

    fn schema(&mut self, id: ObjectId) -> Result<Rc<Schema>, Bad> {
        if let Some(known) = self.schemas.get(&id) {
            return known.clone();
        }
        let schema = self.decode(id).map(Rc::new);
        self.schemas.insert(id, schema.clone());
        schema
    }

    /// Reads a node that stands so many levels above the row groups, 1 being the level of those that list them.
    fn node(&mut self, id: ObjectId, level: u32) -> Result<Rc<Node>, Bad> {
        if let Some(known) = self.nodes.get(&(id, level)) {
            return Ok(Rc::clone(known));
        }
        let node: Node = self.decode(id)?;
        let slots = match (&node, level) {
            (Node::Groups(groups), 1) => groups.iter().map(|group| group.columns.len() + 1).sum(),
            (Node::Nodes(children), 2..) => children.len(),
            _ => return Err(bad(id, format!("node {id} does not stand at the depth that its manifest says"))),
        };
        if self.slots > SLOTS_MAX {
            self.nodes.clear();
            self.slots = 0;
        }
        self.slots += slots;
        let node = Rc::new(node);
        self.nodes.insert((id, level), Rc::clone(&node));
        Ok(node)
    }

    /// Looks at a column chunk.
    fn chunk(&mut self, id: ObjectId) -> Result<Facts, Bad> {
        if let Some(known) = self.chunks.get(&id) {
            return known.clone();
        }
        let facts = self.read(id).and_then(|json| self.facts(id, &json));
        self.chunks.insert(id, facts.clone());
        facts
    }

    fn facts(&mut self, id: ObjectId, json: &[u8]) -> Result<Facts, Bad> {
        let wrong = |what: String| bad(id, format!("chunk {id}: {what}"));
        let cells = split_array(json).map_err(|error| wrong(error.to_string()))?;
        let mut bytes = json.len() as u64;
        for cell in &cells {
            match Value::decode(cell).map_err(|error| wrong(error.to_string()))? {
                Value::Large { id: large, bytes: told } => {
                    let (json_bytes, found) = self.large(large)?;
                    if found != told {
                        return Err(wrong(format!("a value of {told} bytes has {found}")));
                    }
                    bytes = bytes.saturating_add(json_bytes);
                }
                Value::Text(text) | Value::Blob(text) if text.len() > LARGE_BYTES => {
                    return Err(wrong(format!("a value of {} bytes stands in it, and not by itself", text.len())));
                }
                _ => {}
            }
        }
        let first = cells.first().filter(|cell| cell.len() <= CELL_BYTES_MAX);
        let first = first.map(|cell| String::from_utf8_lossy(cell).into_owned().into_boxed_str());
        Ok(Facts { cells: cells.len() as u64, bytes, first })
    }

    /// Returns the first cell of a chunk that was found to be whole.
    fn first_cell(&mut self, id: ObjectId) -> Option<String> {
        let facts = self.chunk(id).ok()?;
        if let Some(first) = facts.first {
            return Some(first.into_string());
        }
        let json = self.read(id).ok()?;
        let cells = split_array(&json).ok()?;
        cells.first().map(|cell| String::from_utf8_lossy(cell).into_owned())
    }

    /// Looks at a value that is an object of its own; returns the bytes of its JSON and its own.
    fn large(&mut self, id: ObjectId) -> Result<(u64, u64), Bad> {
        if let Some(known) = self.large.get(&id) {
            return known.clone();
        }
        let found = self.read(id).and_then(|json| match Value::decode(&json) {
            Ok(Value::Text(bytes) | Value::Blob(bytes)) => Ok((json.len() as u64, bytes.len() as u64)),
            _ => Err(bad(id, format!("object {id} is no text and no blob"))),
        });
        self.large.insert(id, found.clone());
        found
    }
}

fn missing(id: ObjectId) -> Bad {
    bad(id, format!("object {} is missing", id.short()))
}

fn bad(object: ObjectId, what: impl Into<Rc<str>>) -> Bad {
    Bad { object, what: what.into() }
}
