//! Rows as they cross the engine boundary: the shape of a table, a row group as one canonical JSON array a column, and the
//! rule that cuts a table into row groups.
//!
//! ## Where a table is cut
//! Rows come in the table's own order (rowid, or primary key where there is no rowid). For each row the *cut hash* is XXH3-64
//! (seed 0) over the canonical JSON of its identity columns, joined by commas. With `rows_target` = R, a row ends its group
//! - if the group has at least max(1, R/4) rows and the cut hash is at most (2^64 - 1) / R, or
//! - if the group has 4R rows, or
//! - if the group's JSON, large values included, has reached [`GROUP_BYTES_MAX`]: the one place where values move a cut. It keeps
//!   memory bounded where later rows are far larger than those that R was chosen from.
//!
//! So a value that changes moves no cut (but for the last rule), and an inserted or deleted row moves only its own group's, until
//! the next row that ends a group. Identity and not rowid cuts, so that a rebuild which renumbers rowids keeps its groups.

mod stretch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::id::ObjectId;
use crate::value::{self, LARGE_BYTES};
use stretch::Stretch;
pub use stretch::stretch_hash;

/// The JSON bytes that a row group should have.
pub const GROUP_BYTES_TARGET: u64 = 256 * 1024;

/// The JSON bytes at which a row group ends whatever its keys say.
pub const GROUP_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The bytes that are set aside for the first chunk of a column.
const CHUNK_BYTES_FIRST: usize = 1024;

/// How a table's columns are read, named and addressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    /// The table's name, with its schema where the engine has more than one (`public.users`).
    pub name: String,
    /// The stored columns, in order; a hidden row number is the first.
    pub columns: Vec<ColumnShape>,
    /// What makes a row the same row to its users: indexes of the primary key's columns, in key order, else of the row number.
    /// Empty where the table has neither.
    pub identity: Vec<usize>,
    /// What addresses exactly one row in the engine: the row number where there is one, else the primary key. Empty where nothing
    /// does; such a table is only ever rewritten whole.
    pub locator: Vec<usize>,
}

/// One stored column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnShape {
    /// The column's name; for a hidden row number the name by which the engine reads it (`rowid`).
    pub name: String,
    /// The declared type, verbatim; empty where there is none.
    #[serde(rename = "type")]
    pub declared_type: String,
    /// The canonical JSON of the declared constant default, `null` where there is none.
    pub default: String,
    /// Whether this is a row number that no `SELECT *` shows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Whether the engine computed the stored values by itself. They are kept all the same: another version of the engine, or other
    /// functions of the application, may compute others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generated: bool,
}

#[cfg(test)]
impl ColumnShape {
    /// Makes a plain column with this default, in JSON.
    pub fn plain(name: &str, default: &str) -> Self {
        Self { name: name.into(), declared_type: String::new(), default: default.into(), hidden: false, generated: false }
    }
}

impl TableShape {
    /// Returns the shape without the generated columns of which `is_wanted` says no.
    pub fn without_generated(mut self, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        let goes: Vec<bool> = self.columns.iter().map(|column| column.generated && !is_wanted(&column.name)).collect();
        let place = |at: &usize| at - goes.iter().take(*at).filter(|goes| **goes).count();
        // No key holds a generated column.
        self.identity = self.identity.iter().map(place).collect();
        self.locator = self.locator.iter().map(place).collect();
        let mut goes = goes.iter();
        self.columns.retain(|_| !goes.next().copied().unwrap_or(false));
        self
    }
}

/// The rule that cuts one table into row groups. It is kept in the table's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutRule {
    /// The mean distance, in rows, between two rows whose cut hash ends a group. At least 1.
    pub rows_target: u64,
}

impl CutRule {
    /// Chooses the rule for rows that take this many bytes of JSON on average.
    pub fn for_row_bytes(row_bytes: u64) -> Self {
        // A group has R/4 + R rows on average, and a power of two keeps the rule when rows change a little.
        let rows = (GROUP_BYTES_TARGET * 4 / 5 / row_bytes.max(1)).max(1);
        let power = rows.next_power_of_two();
        Self { rows_target: if power - rows > rows - power / 2 { power / 2 } else { power }.max(1) }
    }

    /// Tells whether a table of this many rows and JSON bytes has outgrown the rule by more than a factor of four.
    pub fn is_outgrown(self, rows: u64, bytes: u64) -> bool {
        // A table of one group says nothing about the distance of cuts.
        if rows == 0 || bytes <= GROUP_BYTES_TARGET * 4 && rows <= self.rows_target {
            return false;
        }
        let fitting = Self::for_row_bytes(bytes / rows).rows_target;
        fitting > self.rows_target * 4 || fitting * 4 < self.rows_target
    }

    /// Tells whether a group ends where the rule ends it, and not because there were no more rows.
    pub fn is_whole(self, group: &RowGroup) -> bool {
        self.ends_group(group.cut_hash, group.rows, group.bytes())
    }

    fn ends_group(self, hash: u64, rows: u64, bytes: u64) -> bool {
        let target = self.rows_target.max(1);
        (rows >= (target / 4).max(1) && hash <= u64::MAX / target) || rows >= target.saturating_mul(4) || bytes >= GROUP_BYTES_MAX
    }
}

/// A text or blob that is an object of its own.
#[derive(Debug)]
pub struct LargeValue {
    /// The id of `json`.
    pub id: ObjectId,
    /// The value's canonical JSON.
    pub json: Vec<u8>,
}

/// One column of one row group, as the canonical JSON array that the store keeps.
#[derive(Debug)]
pub struct ColumnChunk {
    /// The array.
    pub json: Vec<u8>,
    /// Whether every value equals the column's default, so that nothing need be stored.
    pub is_default: bool,
    /// The values that the array only refers to.
    pub large: Vec<LargeValue>,
}

/// Consecutive rows of a table.
#[derive(Debug)]
pub struct RowGroup {
    /// How many rows.
    pub rows: u64,
    /// The canonical JSON of the first row's identity cells, joined by commas; empty for a table without identity.
    pub first_key: String,
    /// The cut hash of the last row.
    pub cut_hash: u64,
    /// One chunk a column of the shape, in its order.
    pub columns: Vec<ColumnChunk>,
}

impl RowGroup {
    /// Returns the bytes of its JSON, large values included, by which [`GROUP_BYTES_MAX`] is measured: without the brackets that close its arrays.
    pub fn bytes(&self) -> u64 {
        let bytes =
            |column: &ColumnChunk| column.json.len() as u64 - 1 + column.large.iter().map(|large| large.json.len() as u64).sum::<u64>();
        self.columns.iter().map(bytes).sum()
    }
}

/// A column of a row group that has other values.
#[derive(Debug)]
pub struct EditedColumn {
    /// Its number in the shape.
    pub column: usize,
    /// What it has now.
    pub chunk: ColumnChunk,
    /// Its JSON before.
    pub then: Vec<u8>,
}

/// Returns the JSON that a row group, by its number, had in a column; none where it cannot be had.
pub type Then<'t> = &'t mut dyn FnMut(usize, usize) -> Option<Vec<u8>>;

/// Writes one column's values.
#[derive(Debug)]
pub struct ColumnWriter {
    json: Vec<u8>,
    last: usize,
    default: Arc<str>,
    is_default: bool,
    large: Vec<LargeValue>,
    large_bytes: u64,
}

impl ColumnWriter {
    /// Begins a chunk that is likely to have so many bytes.
    fn new(default: Arc<str>, bytes: usize) -> Self {
        let mut json = Vec::with_capacity(bytes);
        json.push(b'[');
        Self { json, last: 1, default, is_default: true, large: Vec::new(), large_bytes: 0 }
    }

    #[inline]
    fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        self.last = self.json.len();
        encode(&mut self.json);
        self.is_default = self.is_default && self.json[self.last..] == *self.default.as_bytes();
    }

    /// Appends NULL.
    #[inline]
    pub fn push_null(&mut self) {
        self.push_with(value::encode_null);
    }

    /// Appends a boolean.
    pub fn push_boolean(&mut self, boolean: bool) {
        self.push_with(|out| out.extend_from_slice(if boolean { b"true" } else { b"false" }));
    }

    /// Appends an integer that is written as canonical JSON has it already: its digits, and a `-` before them.
    pub fn push_digits(&mut self, digits: &[u8]) {
        self.push_with(|out| out.extend_from_slice(digits));
    }

    /// Appends an integer.
    #[inline]
    pub fn push_integer(&mut self, integer: i64) {
        self.push_with(|out| value::encode_integer(out, integer));
    }

    /// Appends a real.
    #[inline]
    pub fn push_real(&mut self, real: f64) {
        self.push_with(|out| value::encode_real(out, real));
    }

    /// Appends text, UTF-8 or not.
    #[inline]
    pub fn push_text(&mut self, bytes: &[u8]) {
        if bytes.len() > LARGE_BYTES {
            self.push_large(bytes, value::encode_text);
        } else {
            self.push_with(|out| value::encode_text(out, bytes));
        }
    }

    /// Appends text of printable ASCII characters without quotes and backslashes, which stands in JSON as it is.
    pub fn push_plain(&mut self, text: &[u8]) {
        if text.len() > LARGE_BYTES {
            return self.push_text(text);
        }
        self.push_with(|out| {
            out.reserve(text.len() + 2);
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        });
    }

    /// Appends a blob.
    #[inline]
    pub fn push_blob(&mut self, bytes: &[u8]) {
        if bytes.len() > LARGE_BYTES {
            self.push_large(bytes, value::encode_blob);
        } else {
            self.push_with(|out| value::encode_blob(out, bytes));
        }
    }

    /// Appends a cell that another writer wrote; `large` are that writer's large values from this cell on.
    pub fn push_cell(&mut self, cell: &[u8], large: &mut dyn Iterator<Item = LargeValue>) {
        if cell.starts_with(b"{\"ref\"")
            && let Some(value) = large.next()
        {
            self.large_bytes += value.json.len() as u64;
            self.large.push(value);
        }
        self.push_with(|out| out.extend_from_slice(cell));
    }

    fn push_large(&mut self, bytes: &[u8], encode: fn(&mut Vec<u8>, &[u8])) {
        let mut json = Vec::new();
        encode(&mut json, bytes);
        let id = ObjectId::of(&json);
        self.large_bytes += json.len() as u64;
        self.large.push(LargeValue { id, json });
        self.push_with(|out| value::encode_large(out, &id, bytes.len() as u64));
    }

    fn last_cell(&self) -> &[u8] {
        &self.json[self.last..]
    }

    fn finish(mut self) -> ColumnChunk {
        self.json.push(b']');
        ColumnChunk { json: self.json, is_default: self.is_default, large: self.large }
    }
}

/// Collects the rows that an engine reads into row groups.
///
/// The engine appends one value to every column of a row, then calls [`GroupBuilder::end_row`].
#[derive(Debug)]
pub struct GroupBuilder {
    identity: Vec<usize>,
    defaults: Vec<Arc<str>>,
    rule: CutRule,
    columns: Vec<ColumnWriter>,
    rows: u64,
    first_key: String,
    /// The last row's key, where it has more than one column.
    key: Vec<u8>,
    hash: u64,
    stretch: Option<Stretch>,
}

impl GroupBuilder {
    /// Starts on a table's first row.
    pub fn new(shape: &TableShape, rule: CutRule) -> Self {
        let defaults: Vec<Arc<str>> = shape.columns.iter().map(|column| column.default.as_str().into()).collect();
        let columns = defaults.iter().map(|default| ColumnWriter::new(Arc::clone(default), CHUNK_BYTES_FIRST)).collect();
        let (identity, first_key) = (shape.identity.clone(), String::new());
        Self { identity, defaults, rule, columns, rows: 0, first_key, key: Vec::new(), hash: 0, stretch: None }
    }

    /// Hashes stretches of rows, each from a [`GroupBuilder::begin_stretch`] to the next [`GroupBuilder::end_stretch`].
    pub fn with_stretches(mut self) -> Self {
        self.stretch = Some(Stretch::default());
        self
    }

    /// Begins a stretch with the next row.
    pub fn begin_stretch(&mut self) {
        if let Some(stretch) = &mut self.stretch {
            stretch.begin(&self.columns);
        }
    }

    /// Ends a stretch with the row that ended last; writes its hashes, one a column ([`stretch_hash`]), over what is there.
    pub fn end_stretch(&mut self, hashes: &mut Vec<u128>) {
        if let Some(stretch) = &mut self.stretch {
            stretch.end(&self.columns, hashes);
        }
    }

    /// Returns the writers, one a column of the shape, in its order.
    pub fn columns(&mut self) -> &mut [ColumnWriter] {
        &mut self.columns
    }

    /// Ends the row to which each column got its value; returns the group if this row is its last.
    #[inline]
    pub fn end_row(&mut self) -> Option<RowGroup> {
        self.rows += 1;
        let key_cells = self.identity.iter().map(|&column| self.columns[column].last_cell());
        self.hash = match self.identity.as_slice() {
            [] => 0,
            [column] => xxhash_rust::xxh3::xxh3_64(self.columns[*column].last_cell()),
            _ => {
                // At once is quicker than cell by cell, and the same.
                self.key.clear();
                for (at, cell) in key_cells.clone().enumerate() {
                    if at > 0 {
                        self.key.push(b',');
                    }
                    self.key.extend_from_slice(cell);
                }
                xxhash_rust::xxh3::xxh3_64(&self.key)
            }
        };
        if self.identity.is_empty() {
            // Without identity the row itself is the key: its cells in order.
            let mut hasher = Xxh3Default::new();
            for column in &self.columns {
                hasher.update(column.last_cell());
                hasher.update(b",");
            }
            self.hash = hasher.digest();
        } else if self.rows == 1 {
            let cells: Vec<&str> = key_cells.map(|cell| std::str::from_utf8(cell).expect("canonical JSON is UTF-8")).collect();
            self.first_key = cells.join(",");
        }
        let bytes = self.columns.iter().map(|column| column.json.len() as u64 + column.large_bytes).sum();
        if self.rule.ends_group(self.hash, self.rows, bytes) { self.take() } else { None }
    }

    /// Returns the cut hash of the row that ended last.
    pub fn cut_hash(&self) -> u64 {
        self.hash
    }

    /// Returns the rows that are left as the last group.
    pub fn finish(mut self) -> Option<RowGroup> {
        self.take()
    }

    fn take(&mut self) -> Option<RowGroup> {
        if self.rows == 0 {
            return None;
        }
        if let Some(stretch) = &mut self.stretch {
            stretch.leave(&self.columns);
        }
        // The next group is about as long as this one.
        let next = |(default, column): (&Arc<str>, &ColumnWriter)| ColumnWriter::new(Arc::clone(default), column.json.len() * 5 / 4 + 16);
        let next = self.defaults.iter().zip(&self.columns).map(next).collect();
        let columns = std::mem::replace(&mut self.columns, next);
        let group = RowGroup {
            rows: self.rows,
            first_key: std::mem::take(&mut self.first_key),
            cut_hash: self.hash,
            columns: columns.into_iter().map(ColumnWriter::finish).collect(),
        };
        self.rows = 0;
        Some(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(identity: &[usize]) -> TableShape {
        let column = |name: &str| ColumnShape::plain(name, "null");
        TableShape { name: "t".into(), columns: vec![column("a"), column("b")], identity: identity.to_vec(), locator: identity.to_vec() }
    }

    fn cut(keys: impl Iterator<Item = i64>, value: &str, rows_target: u64) -> Vec<RowGroup> {
        let mut builder = GroupBuilder::new(&shape(&[0]), CutRule { rows_target });
        let mut groups = Vec::new();
        for key in keys {
            builder.columns()[0].push_integer(key);
            builder.columns()[1].push_text(value.as_bytes());
            groups.extend(builder.end_row());
        }
        groups.extend(builder.finish());
        groups
    }

    #[test]
    fn values_move_no_cut_and_an_insert_moves_its_own() {
        let before: Vec<String> = cut(0..10_000, "x", 64).into_iter().map(|group| group.first_key).collect();
        let other_values: Vec<String> = cut(0..10_000, "yyyy", 64).into_iter().map(|group| group.first_key).collect();
        assert_eq!(before, other_values);
        assert!((60..=300).contains(&before.len()), "{} groups", before.len());
        let inserted: Vec<String> =
            cut((0..5_000).chain([100_000]).chain(5_000..10_000), "x", 64).into_iter().map(|g| g.first_key).collect();
        let moved = inserted.iter().filter(|key| !before.contains(key)).count();
        assert!(moved <= 3, "{moved} groups begin elsewhere");
    }

    #[test]
    fn groups_have_their_bounds() {
        for group in cut(0..100_000, "x", 128) {
            assert!(group.rows <= 512);
        }
        for group in cut(0..2_000, &"x".repeat(60_000), 1 << 20) {
            assert!(group.columns[1].json.len() as u64 <= GROUP_BYTES_MAX + 70_000);
        }
    }

    #[test]
    fn a_chunk_of_defaults_is_known_as_such() {
        let mut shape = shape(&[0]);
        shape.columns[1].default = "\"x\"".into();
        let mut builder = GroupBuilder::new(&shape, CutRule { rows_target: 10 });
        for (key, value) in [(1, "x"), (2, "x")] {
            builder.columns()[0].push_integer(key);
            builder.columns()[1].push_text(value.as_bytes());
            assert!(builder.end_row().is_none());
        }
        let group = builder.finish().expect("two rows");
        assert_eq!((group.columns[0].is_default, group.columns[1].is_default), (false, true));
        assert_eq!(group.columns[1].json, b"[\"x\",\"x\"]");
    }

    #[test]
    fn a_large_value_is_an_object_of_its_own() {
        let mut writer = ColumnWriter::new("null".into(), 0);
        let text = "x".repeat(LARGE_BYTES + 1);
        writer.push_text(text.as_bytes());
        let chunk = writer.finish();
        let id = ObjectId::of(format!("\"{text}\"").as_bytes());
        assert_eq!(chunk.json, format!("[{{\"ref\":\"{id}\",\"bytes\":{}}}]", LARGE_BYTES + 1).into_bytes());
        assert_eq!(chunk.large[0].id, id);
    }

    #[test]
    fn the_rule_is_kept_until_it_is_off_by_four() {
        let rule = CutRule::for_row_bytes(120);
        assert!(rule.rows_target.is_power_of_two());
        assert!(!rule.is_outgrown(1_000_000, 120 * 1_000_000));
        assert!(!rule.is_outgrown(1_000_000, 300 * 1_000_000));
        assert!(rule.is_outgrown(1_000_000, 1_200 * 1_000_000));
        assert!(rule.is_outgrown(1_000_000, 10 * 1_000_000));
    }
}
