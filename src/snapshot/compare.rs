//! Which table, and which column of it, is the same on both sides of a comparison: by name, and where the name is gone, by content.
//!
//! Content is compared by ids: a table is recognised by its root or by its columns' digests, a column by its digest, and only
//! where that fails by a sample of its cells. Nothing here reads rows that ids prove equal.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::changes::{Cell, ColumnPair, RowKey, TablePair};
use super::manifest::TableManifest;
use super::{chunks, rowdiff};
use crate::id::ObjectId;
use crate::schema::{ObjectKind, Schema};
use crate::store::Glimpse;
use crate::value::cells_at;

/// An error from anywhere, as the cause of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How many row groups are looked at to recognise a column that was renamed and changed a little.
const SAMPLE_GROUPS: usize = 4;

/// The share of equal cells from which on two columns are the same, in percent.
const SAMPLE_EQUAL_PERCENT: usize = 95;

/// The share of common column names from which on the rows of two tables are looked at, in percent.
const NAMES_EQUAL_PERCENT: usize = 60;

/// The share of common keys, and of equal cells in the rows that have them, from which on such tables are the same, in percent.
const ROWS_EQUAL_PERCENT: u64 = 50;

/// The share of equal cells from which on two columns are the same where the DDL says that one was renamed, in percent.
const TEXT_EQUAL_PERCENT: usize = 50;

/// Where objects are read from.
pub trait Objects: Sync {
    /// Reads an object, proven by its id.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, BoxError>;

    /// Reads two objects that are likely to be alike, each proven by its id. A source may decode once what they share.
    ///
    /// # Errors
    /// As [`Objects::read`].
    fn read_pair(&self, ids: [&ObjectId; 2]) -> Result<[Vec<u8>; 2], BoxError> {
        Ok([self.read(ids[0])?, self.read(ids[1])?])
    }

    /// Takes cells out of a column chunk, given by their places in rising order. A source may remember them.
    ///
    /// # Errors
    /// As [`Objects::read`], and where it is no such chunk.
    fn glimpse(&self, id: &ObjectId, places: &[usize]) -> Result<Arc<Glimpse>, BoxError> {
        Ok(Arc::new(glimpse(&self.read(id)?, places)?))
    }
}

/// Takes cells out of a column chunk.
///
/// # Errors
/// Where it is no such chunk.
pub fn glimpse(json: &[u8], places: &[usize]) -> Result<Glimpse, BoxError> {
    let pieces = cells_at(json, places)?.into_iter().map(Into::into).collect();
    Ok(Glimpse { pieces, bytes: json.len() as u64, has_references: memchr::memmem::find(json, b"{\"ref\"").is_some() })
}

/// What stopped a comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// An object could not be had.
    #[error("reading what is to be compared failed")]
    Read(#[source] BoxError),
    /// An object is not what its place demands.
    #[error("object {id} is not what it should be: {what}")]
    Malformed {
        /// Which one.
        id: ObjectId,
        /// What is wrong with it.
        what: String,
    },
}

/// One side of a comparison.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its schema.
    pub schema: Schema,
    /// Its tables, in creation order.
    pub manifests: Vec<TableManifest>,
}

/// Pairs the tables of two sides: those of `after` in its order, then those that are only before.
///
/// # Errors
/// [`CompareError`], where content has to be looked at.
pub fn pair_tables(before: &Side, after: &Side, objects: &dyn Objects) -> Result<Vec<TablePair>, CompareError> {
    let mut partner: Vec<Option<usize>> = vec![None; after.manifests.len()];
    let mut is_taken = vec![false; before.manifests.len()];
    pair_moved(before, after, &mut partner, &mut is_taken);
    let same: [fn(&str, &str) -> bool; 2] = [|a, b| a == b, |a, b| a.eq_ignore_ascii_case(b)];
    for same in same {
        for (at, manifest) in after.manifests.iter().enumerate() {
            if partner[at].is_none() {
                let found = (0..before.manifests.len()).find(|&b| !is_taken[b] && same(&before.manifests[b].name, &manifest.name));
                if let Some(b) = found {
                    is_taken[b] = true;
                    partner[at] = Some(b);
                }
            }
        }
    }
    let mut candidates = Vec::new();
    for (a, to) in after.manifests.iter().enumerate().filter(|(a, _)| partner[*a].is_none()) {
        for (b, from) in before.manifests.iter().enumerate().filter(|(b, _)| !is_taken[*b]) {
            if let Some(score) = likeness(from, to, objects)? {
                candidates.push((score, a, b));
            }
        }
    }
    candidates.sort_by(|x, y| y.0.cmp(&x.0).then(x.1.cmp(&y.1)).then(x.2.cmp(&y.2)));
    for (_, a, b) in candidates {
        if partner[a].is_none() && !is_taken[b] {
            is_taken[b] = true;
            partner[a] = Some(b);
        }
    }
    let mut pairs = Vec::new();
    let sql =
        |side: &Side, name: &str| side.schema.object(ObjectKind::Table, name).and_then(|object| object.sql.clone()).unwrap_or_default();
    for (to, partner) in after.manifests.iter().zip(partner) {
        pairs.push(match partner {
            Some(b) => {
                let from = &before.manifests[b];
                pair(from, to, [&sql(before, &from.name), &sql(after, &to.name)], objects)?
            }
            None => one_sided(None, Some(to)),
        });
    }
    for (from, _) in before.manifests.iter().zip(is_taken).filter(|(_, is_taken)| !is_taken) {
        pairs.push(one_sided(Some(from), None));
    }
    Ok(pairs)
}

/// Pairs tables whose whole content stands under another name now, though their own name is there too: tables that exchanged their names, or one
/// that was renamed to make room.
fn pair_moved(before: &Side, after: &Side, partner: &mut [Option<usize>], is_taken: &mut [bool]) {
    let names = |manifest: &TableManifest| manifest.columns.iter().map(|column| column.shape.name.clone()).collect::<Vec<_>>();
    let is_same = |from: &TableManifest, to: &TableManifest| from.root == to.root && from.rows > 0 && names(from) == names(to);
    for (b, from) in before.manifests.iter().enumerate() {
        let namesake = |to: &TableManifest| to.name.eq_ignore_ascii_case(&from.name);
        if !after.manifests.iter().any(|to| namesake(to) && !is_same(from, to)) {
            continue;
        }
        let mut moved = (0..after.manifests.len()).filter(|&a| {
            let to = &after.manifests[a];
            // What already was there under that name is not this table.
            let was_there = before.manifests.iter().any(|other| other.name.eq_ignore_ascii_case(&to.name) && is_same(other, to));
            partner[a].is_none() && !namesake(to) && is_same(from, to) && !was_there
        });
        if let (Some(a), None) = (moved.next(), moved.next()) {
            partner[a] = Some(b);
            is_taken[b] = true;
        }
    }
}

/// Scores how surely two tables of different names are one that was renamed; none if they are not.
fn likeness(before: &TableManifest, after: &TableManifest, objects: &dyn Objects) -> Result<Option<u32>, CompareError> {
    let names = |manifest: &TableManifest| -> Vec<String> {
        manifest.columns.iter().filter(|c| !c.shape.hidden).map(|c| c.shape.name.to_ascii_lowercase()).collect()
    };
    let (from, to) = (names(before), names(after));
    if before.rows == 0 || after.rows == 0 {
        let types = |manifest: &TableManifest| manifest.columns.iter().map(|c| c.shape.declared_type.clone()).collect::<Vec<_>>();
        let is_same = before.rows == after.rows && from == to && types(before) == types(after);
        return Ok(is_same.then_some(1));
    }
    if before.root == after.root && before.columns.len() == after.columns.len() {
        return Ok(Some(if from == to { 2000 } else { 1999 }));
    }
    let digests: HashSet<ObjectId> = before.columns.iter().map(|column| column.digest).collect();
    let equal = after.columns.iter().filter(|column| digests.contains(&column.digest)).count();
    let widest = from.len().max(to.len()).max(1);
    // A row number alone says little: every table of as many rows may have it.
    let telling = after.columns.iter().filter(|c| !c.shape.hidden && digests.contains(&c.digest) && !is_counter(c, after)).count();
    if equal * 2 >= widest && telling > 0 {
        return Ok(Some(1000 + u32::try_from(equal).unwrap_or(u32::MAX / 2)));
    }
    let common = to.iter().filter(|name| from.contains(name)).count();
    if common * 100 >= widest * NAMES_EQUAL_PERCENT {
        let found = pair(before, after, ["", ""], objects)?;
        if let RowKey::Columns(_) = found.key
            && rowdiff::common_percent(&found, before, after, objects)? >= ROWS_EQUAL_PERCENT
        {
            return Ok(Some(u32::try_from(common).unwrap_or(u32::MAX / 2)));
        }
    }
    Ok(None)
}

/// Tells whether a column may well be a plain count from 1, as every table has one.
fn is_counter(column: &super::manifest::ManifestColumn, manifest: &TableManifest) -> bool {
    matches!(manifest.identity.as_slice(), [key] if manifest.columns.get(*key).is_some_and(|key| key.digest == column.digest))
}

fn one_sided(before: Option<&TableManifest>, after: Option<&TableManifest>) -> TablePair {
    let width = before.or(after).map_or(0, |manifest| manifest.columns.len());
    let identity = before.or(after).map_or(&[][..], |manifest| &manifest.identity);
    TablePair {
        before: before.map(TableManifest::shape),
        after: after.map(TableManifest::shape),
        rows_before: before.map_or(0, |manifest| manifest.rows),
        rows_after: after.map_or(0, |manifest| manifest.rows),
        columns: (0..width).map(|at| ColumnPair { before: before.map(|_| at), after: after.map(|_| at) }).collect(),
        key: if identity.is_empty() { RowKey::Content(None) } else { RowKey::Columns(identity.to_vec()) },
    }
}

/// Pairs two tables; `sql` is their DDL.
fn pair(before: &TableManifest, after: &TableManifest, sql: [&str; 2], objects: &dyn Objects) -> Result<TablePair, CompareError> {
    let partner = pair_columns(before, after, sql, objects)?;
    let mut columns: Vec<ColumnPair> =
        partner.iter().enumerate().map(|(at, before)| ColumnPair { before: *before, after: Some(at) }).collect();
    for at in (0..before.columns.len()).filter(|at| !partner.contains(&Some(*at))) {
        columns.push(ColumnPair { before: Some(at), after: None });
    }
    let key = row_key(before, after, &columns);
    Ok(TablePair {
        before: Some(before.shape()),
        after: Some(after.shape()),
        rows_before: before.rows,
        rows_after: after.rows,
        columns,
        key,
    })
}

/// Finds for each column after the one before.
fn pair_columns(
    before: &TableManifest,
    after: &TableManifest,
    sql: [&str; 2],
    objects: &dyn Objects,
) -> Result<Vec<Option<usize>>, CompareError> {
    let mut partners = Partners { of_after: vec![None; after.columns.len()], is_taken: vec![false; before.columns.len()] };
    let (from, to) = (&before.columns, &after.columns);
    let by_name = |a: usize, b: usize| from[b].shape.hidden == to[a].shape.hidden && from[b].shape.name == to[a].shape.name;
    let by_case = |a: usize, b: usize| {
        let (from, to) = (&from[b].shape, &to[a].shape);
        from.hidden && to.hidden || from.hidden == to.hidden && from.name.eq_ignore_ascii_case(&to.name)
    };
    let is_visible = |a: usize, b: usize| !from[b].shape.hidden && !to[a].shape.hidden;
    let mut held = HashMap::new();
    let by_digest = |a: usize, b: usize| is_visible(a, b) && before.rows > 0 && from[b].digest == to[a].digest;
    partners.assign(&mut |a, b| Ok(by_name(a, b)))?;
    partners.assign(&mut |a, b| Ok(by_case(a, b)))?;
    partners.assign(&mut |a, b| {
        if !by_digest(a, b) {
            return Ok(false);
        }
        // Columns without any value are all alike; one that went and one that came are the same only where they stand alike.
        let has_values = match held.entry(b) {
            std::collections::hash_map::Entry::Occupied(known) => *known.get(),
            std::collections::hash_map::Entry::Vacant(unknown) => *unknown.insert(chunks::has_chunk(before, b, objects)?),
        };
        Ok(has_values || a == b && from[b].shape.declared_type == to[a].shape.declared_type)
    })?;
    for at in renamed_in_text(before, after, sql, &partners.of_after) {
        // DROP and ADD of a column leave the same text as a rename; the values tell.
        if before.rows == 0 || resemblance(before, at, after, at, objects)?.is_rename_in_text() {
            partners.set(at, at);
        }
    }
    partners.assign(&mut |a, b| {
        let is_candidate =
            is_visible(a, b) && before.rows > 0 && from[b].shape.declared_type.eq_ignore_ascii_case(&to[a].shape.declared_type);
        Ok(is_candidate && resemblance(before, b, after, a, objects)?.is_rename())
    })?;
    Ok(partners.of_after)
}

/// Columns on their way to a partner.
struct Partners {
    /// For each column after, the one before.
    of_after: Vec<Option<usize>>,
    /// For each column before, whether it has a partner.
    is_taken: Vec<bool>,
}

impl Partners {
    fn set(&mut self, after: usize, before: usize) {
        self.is_taken[before] = true;
        self.of_after[after] = Some(before);
    }

    /// Pairs what has no partner yet and passes a test, the first that does.
    fn assign(&mut self, test: &mut dyn FnMut(usize, usize) -> Result<bool, CompareError>) -> Result<(), CompareError> {
        for a in 0..self.of_after.len() {
            for b in 0..self.is_taken.len() {
                if self.of_after[a].is_none() && !self.is_taken[b] && test(a, b)? {
                    self.set(a, b);
                }
            }
        }
        Ok(())
    }
}

/// Finds columns that stand where others stood, in DDL that is the same but for their names: what `RENAME COLUMN` leaves. Their places are
/// the same on both sides.
fn renamed_in_text(before: &TableManifest, after: &TableManifest, sql: [&str; 2], partner: &[Option<usize>]) -> Vec<usize> {
    let is_alone = |at: &usize| {
        let has_none = partner.get(*at).is_some_and(Option::is_none) && !partner.contains(&Some(*at));
        has_none && before.columns.get(*at).is_some_and(|column| !column.shape.hidden)
    };
    let candidates: Vec<usize> = (0..after.columns.len()).filter(is_alone).collect();
    // The name of the table itself may be another.
    let body = |sql: &str| sql.find('(').map(|at| words(&sql[at..]));
    let (Some(mut from), Some(to)) = (body(sql[0]), body(sql[1])) else { return Vec::new() };
    for &at in &candidates {
        from = from.replace(&words(&before.columns[at].shape.name), &words(&after.columns[at].shape.name));
    }
    if from == to { candidates } else { Vec::new() }
}

/// Breaks SQL into words and signs, without quotes and white space, each between two NULs.
fn words(sql: &str) -> String {
    let mut text = String::from("\0");
    let mut is_word = false;
    for letter in sql.chars().filter(|letter| !matches!(letter, '"' | '`' | '[' | ']')) {
        let goes_on = letter.is_alphanumeric() || letter == '_';
        let is_border = !(is_word && goes_on);
        if is_border && !text.ends_with('\0') {
            text.push('\0');
        }
        if !letter.is_whitespace() {
            text.push(letter);
        }
        is_word = goes_on;
    }
    if !text.ends_with('\0') {
        text.push('\0');
    }
    text
}

/// How much two columns have in common, in a sample.
#[derive(Debug, Default)]
struct Resemblance {
    /// Cells looked at.
    seen: usize,
    /// Those that are equal.
    equal: usize,
    /// Different values before, NULL not counted.
    values: HashSet<Cell>,
    /// Those among them that stand in equal cells.
    equal_values: HashSet<Cell>,
    /// Whether the column before has any value but its default, wherever.
    has_values: bool,
}

impl Resemblance {
    /// Two columns of the same few words are not the same column.
    fn is_rename(&self) -> bool {
        self.seen > 0 && self.equal_values.len() > 2 && self.equal * 100 >= self.seen * SAMPLE_EQUAL_PERCENT
    }

    fn is_rename_in_text(&self) -> bool {
        if !self.has_values {
            // Nothing can be lost.
            return true;
        }
        let is_mostly = |percent: usize| self.seen > 0 && self.equal * 100 >= self.seen * percent;
        let has_many =
            self.values.len() > 2 && self.equal_values.len() > 1 && self.equal_values.len() * 100 >= self.values.len() * TEXT_EQUAL_PERCENT;
        has_many && is_mostly(TEXT_EQUAL_PERCENT) || !self.equal_values.is_empty() && is_mostly(SAMPLE_EQUAL_PERCENT)
    }
}

/// Compares two columns in a few groups that begin with the same key and have as many rows, where the first has values.
fn resemblance(
    before: &TableManifest,
    b: usize,
    after: &TableManifest,
    a: usize,
    objects: &dyn Objects,
) -> Result<Resemblance, CompareError> {
    let groups = chunks::row_groups(after, objects)?;
    let by_first: HashMap<&str, &super::manifest::Group> = groups.iter().map(|group| (group.first.as_str(), group)).collect();
    let mut found = Resemblance::default();
    let mut looked_at = 0;
    for group in chunks::row_groups(before, objects)? {
        if group.chunk(b).is_none() {
            continue;
        }
        found.has_values = true;
        let Some(other) = by_first.get(group.first.as_str()).filter(|other| other.rows == group.rows && !group.first.is_empty()) else {
            continue;
        };
        let was = chunks::column_chunk(before, &group, b, objects)?;
        let is = chunks::column_chunk(after, other, a, objects)?;
        for (was, is) in was.into_iter().zip(is) {
            found.seen += 1;
            found.equal += usize::from(was == is);
            if &*was != "null" {
                if was == is {
                    found.equal_values.insert(is);
                }
                found.values.insert(was);
            }
        }
        looked_at += 1;
        if looked_at == SAMPLE_GROUPS {
            break;
        }
    }
    Ok(found)
}

fn row_key(before: &TableManifest, after: &TableManifest, columns: &[ColumnPair]) -> RowKey {
    let find = |test: &dyn Fn(&ColumnPair) -> bool| columns.iter().position(test);
    let is_visible = |pair: &ColumnPair| {
        pair.before.is_some_and(|at| !before.columns[at].shape.hidden) && pair.after.is_some_and(|at| !after.columns[at].shape.hidden)
    };
    let of_before: Option<Vec<usize>> =
        before.identity.iter().map(|&at| find(&|pair| pair.before == Some(at) && is_visible(pair))).collect();
    let of_after: Option<Vec<usize>> = after.identity.iter().map(|&at| find(&|pair| pair.after == Some(at) && is_visible(pair))).collect();
    for key in [of_before, of_after].into_iter().flatten() {
        if !key.is_empty() {
            return RowKey::Columns(key);
        }
    }
    RowKey::Content(find(&|pair| {
        pair.before.is_some_and(|at| before.columns[at].shape.hidden) && pair.after.is_some_and(|at| after.columns[at].shape.hidden)
    }))
}
