//! Values that the rows which held them still lead to: through a reference to where they stand now, or one to one through a value that came.
//!
//! Both are told row by row. That all different values of a column stand somewhere proves nothing: a table of statistics holds them, too, and so does a
//! lookup table that no row refers to.

use std::collections::{HashMap, HashSet};

use super::marks::NOTHING;
use super::moved::MovedBy;
use super::search::Search;
use super::values::{Held, Origin, key_mark};
use crate::ops::OpError;

/// From how many different values a column that was there before, and has the same ones, says the same.
const DIFFERENT_MIN: usize = 3;

/// How many rows more than different values a recoding has at least: each of them could have been another.
const REPEATED_MIN: usize = 6;

/// How the rows that held values are, after: for each column, a mark for each value.
struct Links {
    at: usize,
    columns: Vec<Vec<u64>>,
}

/// Finds what the rows that held values lead to; `lookups` are the pairs and columns in which all different ones stand.
pub(super) fn followed(
    search: &Search<'_>,
    origin: Origin<'_>,
    held: &Held,
    lookups: &[(usize, usize)],
) -> Result<Option<(MovedBy, String, String)>, OpError> {
    let Some(links) = links(search, origin, held)? else { return Ok(None) };
    let Some(own) = &search.touched[links.at].pair.after else { return Ok(None) };
    let origin_after = origin.after.filter(|_| links.at == origin.at);
    let is_open =
        |column: usize| own.columns.get(column).is_some_and(|shape| !shape.hidden && !shape.generated) && Some(column) != origin_after;
    // The same value may have stood in the row all the time.
    let different = held.different();
    let is_same = |column: &usize| is_open(*column) && links.columns[*column] == held.marks;
    if let Some(column) = (0..links.columns.len()).find(is_same).filter(|_| held.is_telling && different.len() >= DIFFERENT_MIN) {
        return Ok(Some((MovedBy::Values, own.name.clone(), own.columns[column].name.clone())));
    }
    // Those that refer to the rows of a lookup table, and lead to other values there.
    let mut misled = HashSet::new();
    for &(target, to) in lookups {
        let (Some(after), Some(came)) = (&search.touched[target].pair.after, search.arrivals(target)?) else { continue };
        for key in (0..after.columns.len()).filter(|key| *key != to) {
            let mut said: HashMap<u64, u64> = HashMap::new();
            for row in (0..came.len()).filter(|&row| came.is_fresh(row, to) && came.mark(row, key) != NOTHING) {
                let (key, value) = (came.mark(row, key), came.mark(row, to));
                // What leads to two values leads to none.
                said.entry(key).and_modify(|other| *other = if *other == value { value } else { NOTHING }).or_insert(value);
            }
            let leads = |links: &Vec<u64>| links.iter().zip(&held.marks).all(|(link, mark)| said.get(link) == Some(mark));
            if after.identity == [key] {
                let refers = |links: &Vec<u64>| links.iter().all(|link| said.contains_key(link));
                misled.extend((0..links.columns.len()).filter(|&column| refers(&links.columns[column])));
            }
            if different.len() > 1 && links.columns.iter().any(leads) {
                return Ok(Some((MovedBy::Lookup, after.name.clone(), after.columns[to].name.clone())));
            }
        }
    }
    let old: HashSet<String> = match &search.touched[origin.at].pair.before {
        Some(before) => before.columns.iter().map(|column| column.name.to_lowercase()).collect(),
        None => HashSet::new(),
    };
    let came = |column: &usize| is_open(*column) && !misled.contains(column) && !old.contains(&own.columns[*column].name.to_lowercase());
    let is_recoded = |column: &usize| is_one_to_one(&held.marks, &links.columns[*column]);
    let found = (0..links.columns.len()).filter(came).find(is_recoded);
    let is_told = different.len() > 1 && held.marks.len() >= different.len() * 2 + REPEATED_MIN;
    Ok(found.filter(|_| is_told).map(|column| (MovedBy::Recoded, own.name.clone(), own.columns[column].name.clone())))
}

/// Tells whether each of these has one of those, and no other has it.
fn is_one_to_one(before: &[u64], after: &[u64]) -> bool {
    let (mut forth, mut back) = (HashMap::new(), HashMap::new());
    before.iter().zip(after).all(|(before, after)| {
        *after != NOTHING && *forth.entry(before).or_insert(after) == after && *back.entry(after).or_insert(before) == before
    })
}

/// Reads the rows that held values as they are after. None where there are too many, or no key tells which they are.
fn links(search: &Search<'_>, origin: Origin<'_>, held: &Held) -> Result<Option<Links>, OpError> {
    if let Some((at, rows)) = &held.went {
        let Some(came) = search.arrivals(*at)? else { return Ok(None) };
        let Some(after) = search.touched[*at].pair.after.as_ref().filter(|_| rows.len() == held.marks.len()) else { return Ok(None) };
        let column = |column: usize| rows.iter().map(|&row| came.mark(row, column)).collect();
        return Ok(Some(Links { at: *at, columns: (0..after.columns.len()).map(column).collect() }));
    }
    let pair = search.touched[origin.at].pair;
    let (Some(before), Some(after)) = (&pair.before, &pair.after) else { return Ok(None) };
    let Some((_, manifest)) = search.comparison.after.table(&after.name) else { return Ok(None) };
    let stands = |key: &usize| pair.columns.iter().find(|column| column.before == Some(*key))?.after;
    let Some(key) = before.identity.iter().map(stands).collect::<Option<Vec<usize>>>() else { return Ok(None) };
    if key.is_empty() || held.keys.len() != held.marks.len() || !search.fits(after, held.count()) {
        return Ok(None);
    }
    let places: HashMap<u64, usize> = held.keys.iter().enumerate().map(|(at, key)| (*key, at)).collect();
    let mut columns = vec![vec![NOTHING; held.marks.len()]; after.columns.len()];
    let all: Vec<usize> = (0..after.columns.len()).collect();
    search.columns(manifest, &all, &mut |cells| {
        let Some(&place) = key_mark(key.iter().filter_map(|&key| cells.get(key).copied())).and_then(|key| places.get(&key)) else { return };
        for (column, cell) in columns.iter_mut().zip(cells) {
            column[place] = super::marks::mark(cell);
        }
    })?;
    Ok(Some(Links { at: origin.at, columns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_one_goes_both_ways() {
        assert!(is_one_to_one(&[1, 2, 1], &[7, 8, 7]));
        for after in [[7, 8, 9], [7, 7, 7], [7, NOTHING, 7]] {
            assert!(!is_one_to_one(&[1, 2, 1], &after), "{after:?}");
        }
    }
}
