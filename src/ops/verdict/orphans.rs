//! References that point nowhere now and did not before: through which foreign key, and from which rows.

use std::collections::{HashMap, HashSet};

use super::loss::{Loss, LossKind};
use super::marks::{self, NOTHING};
use super::search::Search;
use super::watch::{EXAMPLES_MAX, key_of, multiset};
use super::{Baseline, cause};
use crate::engine::Finding;
use crate::engine::since::{Extent, FoundSince};
use crate::ops::OpError;
use crate::ops::capture::State;
use crate::render::text::number;
use crate::schema::ForeignKey;
use crate::snapshot::changes::Cell;

/// How many rows a table may have to be read for its references.
const ROWS_MAX: u64 = 1 << 22;

/// An orphan: its mark, and its key and references in words.
type Orphan = (u64, String);

/// Judges the foreign key findings after against those before.
pub(super) fn losses(search: &Search<'_>, before: Baseline<'_>, after: &[FoundSince]) -> Result<Vec<Loss>, OpError> {
    let mut losses = Vec::new();
    for FoundSince { finding, new } in after.iter().filter(|found| found.finding.check == "foreign_key") {
        let known_as = names_before(search, &finding.message);
        let is_known = |other: &&Finding| other.check == "foreign_key" && (other.message == finding.message || other.message == known_as);
        let is_checked = before.extent == Extent::All;
        let known = before.findings.iter().find(is_known).map(|other| other.count).or(is_checked.then_some(0));
        let known = known.or(new.map(|new| finding.count.saturating_sub(new)));
        let table = finding.table.clone().unwrap_or_default();
        let mut told = Vec::new();
        let (mut seen, mut fresh, mut examples) = (0, 0, Vec::new());
        let schema = &search.comparison.after.schema;
        let found = schema.tables.iter().find(|other| other.name.eq_ignore_ascii_case(&table));
        let keys = found.map_or(&[][..], |table| &table.foreign_keys);
        for key in keys.iter().filter(|key| finding.message.contains(&format!("`{}`", key.parent))) {
            let orphans = orphans(search, search.comparison.after, &table, key)?;
            if orphans.is_empty() {
                continue;
            }
            seen += orphans.len() as u64;
            let mut old = if known == Some(0) { HashMap::new() } else { orphans_before(search, &table, key)? };
            let count = fresh;
            for (mark, words) in orphans {
                match old.get_mut(&mark).filter(|count| **count > 0) {
                    Some(count) => *count -= 1,
                    None => {
                        fresh += 1;
                        if examples.len() < EXAMPLES_MAX {
                            examples.push(words);
                        }
                    }
                }
            }
            if fresh > count {
                told.push(cause::name(schema, &table, key));
            }
        }
        // Where the engine sees others than we do, by its own rules of comparing, its count is the right one.
        let count = match known {
            _ if seen == finding.count => fresh,
            Some(known) => finding.count.saturating_sub(known),
            // Rather too much is told than too little.
            None => finding.count,
        };
        if count == 0 {
            continue;
        }
        let mut loss = Loss::new(LossKind::Orphans, &table, None, count, finding.count);
        match told.as_slice() {
            [] => loss.explain(finding.message.clone()),
            told => loss.explain(format!("through the foreign key {}", told.join(" and "))),
        }
        if known.is_none() && seen != finding.count {
            loss.explain("how many of them did so before is not known".to_owned());
        } else if finding.count > count {
            loss.explain(format!("{} more did so before", number(finding.count - count)));
        }
        loss.examples = examples;
        losses.push(loss);
    }
    Ok(losses)
}

/// Writes a finding's message as it would have been before tables were renamed.
fn names_before(search: &Search<'_>, message: &str) -> String {
    let mut message = message.to_owned();
    for pair in &search.comparison.pairs {
        if let (Some(before), Some(after)) = (&pair.before, &pair.after)
            && before.name != after.name
        {
            message = message.replace(&format!("`{}`", after.name), &format!("`{}`", before.name));
        }
    }
    message
}

/// Collects the orphans that the same foreign key had before.
fn orphans_before(search: &Search<'_>, table: &str, key: &ForeignKey) -> Result<HashMap<u64, u32>, OpError> {
    let before_of = |name: &str| {
        let pair =
            search.comparison.pairs.iter().find(|pair| pair.after.as_ref().is_some_and(|after| after.name.eq_ignore_ascii_case(name)));
        pair.and_then(|pair| pair.before.as_ref()).map_or_else(|| name.to_owned(), |before| before.name.clone())
    };
    let parent = before_of(&key.parent);
    let table = before_of(table);
    let found = search.comparison.before.schema.table(&table).map_or(&[][..], |table| &table.foreign_keys);
    let same = |other: &&ForeignKey| other.parent.eq_ignore_ascii_case(&parent) && other.columns.len() == key.columns.len();
    let keys: Vec<&ForeignKey> = found.iter().filter(same).collect();
    let named = |other: &&&ForeignKey| other.columns.iter().zip(&key.columns).all(|(a, b)| a.eq_ignore_ascii_case(b));
    let Some(key) = keys.iter().find(named).or(keys.first()) else { return Ok(HashMap::new()) };
    let orphans = orphans(search, search.comparison.before, &table, key)?;
    Ok(multiset(orphans.into_iter().map(|(mark, _)| mark)))
}

/// Finds the rows of a table that refer to nothing through a key; none where it cannot be told.
fn orphans(search: &Search<'_>, state: &State, table: &str, key: &ForeignKey) -> Result<Vec<Orphan>, OpError> {
    let find = |name: &str| state.tables.iter().map(|(_, manifest)| manifest).find(|manifest| manifest.name.eq_ignore_ascii_case(name));
    let Some(child) = find(table).filter(|manifest| manifest.rows <= ROWS_MAX) else { return Ok(Vec::new()) };
    let places = |manifest: &crate::snapshot::manifest::TableManifest, names: &[String]| -> Option<Vec<usize>> {
        let place = |name: &String| manifest.columns.iter().position(|column| column.shape.name.eq_ignore_ascii_case(name));
        names.iter().map(place).collect()
    };
    let mut standing = HashSet::new();
    if let Some(parent) = find(&key.parent) {
        let columns = places(parent, &cause::parent_columns(&state.schema, key)).filter(|columns| !columns.is_empty());
        let (Some(columns), true) = (columns, parent.rows <= ROWS_MAX) else { return Ok(Vec::new()) };
        search.columns(parent, &columns, &mut |cells| {
            standing.insert(cells.iter().map(|cell| marks::mark(cell)).collect::<Vec<_>>());
        })?;
    }
    let Some(columns) = places(child, &key.columns).filter(|columns| !columns.is_empty()) else { return Ok(Vec::new()) };
    let all: Vec<usize> = child.identity.iter().chain(&columns).copied().collect();
    let shape = child.shape();
    let keys = child.identity.len();
    let mut orphans = Vec::new();
    search.columns(child, &all, &mut |cells| {
        let (identity, references) = cells.split_at(keys.min(cells.len()));
        let marks: Vec<u64> = references.iter().map(|cell| marks::mark(cell)).collect();
        if marks.contains(&NOTHING) || standing.contains(&marks) {
            return;
        }
        let row: Vec<&str> = identity.iter().chain(references).map(|cell| &***cell).collect();
        let mut cells: Vec<Cell> = vec!["".into(); shape.columns.len()];
        for (&at, cell) in all.iter().zip(&row) {
            cells[at] = (*cell).into();
        }
        let mut words = key_of(&shape, &cells);
        for (&at, cell) in columns.iter().zip(references).filter(|(at, _)| !child.identity.contains(at)) {
            let comma = if words.is_empty() { "" } else { ", " };
            words.push_str(&format!("{comma}{}={cell}", shape.columns[at].name));
        }
        orphans.push((marks::mark(&format!("\"{}", row.join("\n"))), words));
    })?;
    Ok(orphans)
}
