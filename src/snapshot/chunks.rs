//! Reading a table's tree: its nodes, its row groups, their column chunks.

use std::cell::RefCell;
use std::rc::Rc;

use hashlink::LinkedHashMap;

use super::changes::Cell;
use super::compare::{CompareError, Objects};
use super::manifest::{Group, Node, TableManifest};
use super::nodes::{GroupText, split_groups};
use crate::id::ObjectId;
use crate::value::split_array;

/// The most rows that a group may say it has.
pub(super) const GROUP_ROWS_MAX: u64 = 1 << 26;

/// How many bytes of column chunks a [`Cache`] keeps.
const CACHE_BYTES_MAX: usize = 96 << 20;

/// Lists the row groups of a table, in its order.
///
/// # Errors
/// [`CompareError`].
pub fn row_groups(manifest: &TableManifest, objects: &dyn Objects) -> Result<Vec<Group>, CompareError> {
    let mut nodes: Vec<ObjectId> = manifest.root.into_iter().collect();
    let mut groups = Vec::new();
    for level in (1..=manifest.depth).rev() {
        let mut below = Vec::new();
        for id in nodes {
            match read_node(&id, level, objects)? {
                Node::Nodes(children) => below.extend(children.into_iter().map(|child| child.node)),
                Node::Groups(found) => groups.extend(found),
            }
        }
        nodes = below;
    }
    Ok(groups)
}

/// Reads the cells of one column in one row group.
///
/// # Errors
/// [`CompareError`].
pub fn column_chunk(manifest: &TableManifest, group: &Group, column: usize, objects: &dyn Objects) -> Result<Vec<Cell>, CompareError> {
    let chunk = Chunk::read(manifest, group, column, objects)?;
    Ok((0..rows_of(group)).map(|row| chunk.cell(row).into()).collect())
}

/// Returns the JSON of a column of a row group, also where nothing is stored because all values are the default.
///
/// # Errors
/// [`CompareError`].
pub fn column_json(manifest: &TableManifest, group: &Group, column: usize, objects: &dyn Objects) -> Result<Vec<u8>, CompareError> {
    match group.chunk(column) {
        Some(id) => objects.read(&id).map_err(CompareError::Read),
        None => {
            let default = manifest.columns.get(column).map_or("null", |column| column.shape.default.as_str());
            Ok(format!("[{}]", vec![default; rows_of(group)].join(",")).into_bytes())
        }
    }
}

/// Tells whether any row group stores a chunk of a column: whether not all values are the default.
///
/// # Errors
/// [`CompareError`].
pub fn has_chunk(manifest: &TableManifest, column: usize, objects: &dyn Objects) -> Result<bool, CompareError> {
    Ok(row_groups(manifest, objects)?.iter().any(|group| group.chunk(column).is_some()))
}

pub(super) fn rows_of(group: &Group) -> usize {
    // What was read from a manifest is at most GROUP_ROWS_MAX.
    usize::try_from(group.rows).unwrap_or(usize::MAX)
}

pub(super) fn read_node(id: &ObjectId, level: u32, objects: &dyn Objects) -> Result<Node, CompareError> {
    decode_node(id, &objects.read(id).map_err(CompareError::Read)?, level)
}

/// Decodes a node that was read.
pub(super) fn decode_node(id: &ObjectId, json: &[u8], level: u32) -> Result<Node, CompareError> {
    let malformed = |what: String| CompareError::Malformed { id: *id, what };
    let quickly = || split_groups(json)?.iter().map(GroupText::decode).collect::<Option<Vec<Group>>>();
    let node = match quickly() {
        Some(groups) => Node::Groups(groups),
        None => serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?,
    };
    match (&node, level) {
        (Node::Groups(groups), 1) => match groups.iter().find(|group| group.rows > GROUP_ROWS_MAX) {
            Some(group) => Err(malformed(format!("a group of {} rows", group.rows))),
            None => Ok(node),
        },
        (Node::Nodes(_), 2..) => Ok(node),
        _ => Err(malformed(format!("it does not belong on level {level}"))),
    }
}

/// One column of one row group.
pub(super) enum Chunk {
    Stored { text: String, ends: Vec<(u32, u32)> },
    Default(String),
}

impl Chunk {
    pub(super) fn read(manifest: &TableManifest, group: &Group, column: usize, objects: &dyn Objects) -> Result<Self, CompareError> {
        let Some(id) = group.chunk(column) else {
            return Ok(Self::Default(manifest.columns.get(column).map_or("null", |column| &column.shape.default).to_owned()));
        };
        let malformed = |what: String| CompareError::Malformed { id, what };
        let json = objects.read(&id).map_err(CompareError::Read)?;
        let text = String::from_utf8(json).map_err(|error| malformed(error.to_string()))?;
        let cells = split_array(text.as_bytes()).map_err(|error| malformed(error.to_string()))?;
        if cells.len() as u64 != group.rows {
            return Err(malformed(format!("{} cells for {} rows", cells.len(), group.rows)));
        }
        let start = text.as_ptr() as usize;
        let ends = cells
            .iter()
            .map(|cell| {
                let from = cell.as_ptr() as usize - start;
                let range = u32::try_from(from).ok().zip(u32::try_from(from + cell.len()).ok());
                range.filter(|(from, to)| text.is_char_boundary(*from as usize) && text.is_char_boundary(*to as usize))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| malformed("its cells cannot be told apart".to_owned()))?;
        Ok(Self::Stored { text, ends })
    }

    pub(super) fn cell(&self, row: usize) -> &str {
        match self {
            Self::Stored { text, ends } => ends.get(row).map_or("null", |(from, to)| &text[*from as usize..*to as usize]),
            Self::Default(json) => json,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Stored { text, ends } => text.len() + ends.len() * 8,
            Self::Default(_) => 64,
        }
    }
}

/// Chunks that were read lately.
pub(super) struct Cache<'a> {
    pub(super) objects: &'a dyn Objects,
    kept: RefCell<(LinkedHashMap<ObjectId, Rc<Chunk>>, usize)>,
}

impl<'a> Cache<'a> {
    pub(super) fn new(objects: &'a dyn Objects) -> Self {
        Self { objects, kept: RefCell::new((LinkedHashMap::new(), 0)) }
    }

    pub(super) fn chunk(&self, manifest: &TableManifest, group: &Group, column: usize) -> Result<Rc<Chunk>, CompareError> {
        let Some(id) = group.chunk(column) else { return Ok(Rc::new(Chunk::read(manifest, group, column, self.objects)?)) };
        if let Some(chunk) = self.kept.borrow_mut().0.to_back(&id) {
            return Ok(Rc::clone(chunk));
        }
        let chunk = Rc::new(Chunk::read(manifest, group, column, self.objects)?);
        let (map, bytes) = &mut *self.kept.borrow_mut();
        *bytes += chunk.bytes();
        map.insert(id, Rc::clone(&chunk));
        while *bytes > CACHE_BYTES_MAX
            && let Some((_, old)) = map.pop_front()
        {
            *bytes -= old.bytes();
        }
        Ok(chunk)
    }
}
