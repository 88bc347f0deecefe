//! The pages of a tree above its leaves.

use super::super::Odd;
use super::super::source::Source;
use super::super::tree::DEPTH_MAX;
use super::page::{Fill, Keys, Shape};
use super::{Known, Root, Used, chain};

/// A leaf of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub page: u32,
    /// The tree, by its place among the roots.
    pub root: usize,
    /// The row numbers that it may hold.
    pub keys: Keys,
}

/// A page of a level, with the row numbers that it may hold, and whether it is known what the pages above say of it.
type Below = (u32, Keys, bool);

/// Checks the pages of a tree above its leaves, and notes the leaves that are to be checked. Returns how many entries stand in those that are not, and above the
/// leaves: only trees without row numbers have such.
pub(super) fn walk(source: &Source, root: &Root, at: usize, known: &Known, used: &Used, leaves: &mut Vec<Leaf>) -> Result<u64, Odd> {
    let (interior, leaf_kind) = match root.has_row_numbers {
        true => (Shape::interior_of_table(source), 13),
        false => (Shape::interior_of_index(source), 10),
    };
    let mut level: Vec<Below> = vec![(root.page, (None, None), true)];
    let mut bytes = vec![0; source.page_bytes()];
    let (mut fill, mut one) = (Fill::new(source), Vec::new());
    let mut entries = 0;
    for _ in 0..DEPTH_MAX {
        for (page, ..) in &level {
            if *page == 0 || *page > source.pages() {
                return Err(Odd::new(format!("page {page} is not there")));
            }
            used.add(*page)?;
        }
        // All leaves of a tree are equally deep.
        let Some(&(first, ..)) = level.first() else { return Err(Odd::new("a tree has no pages")) };
        source.read(first, &mut bytes)?;
        if bytes.get(if first == 1 { 100 } else { 0 }) == Some(&leaf_kind) {
            for (page, keys, is_bound) in level {
                match known.rows(page, is_bound).filter(|_| root.has_row_numbers) {
                    Some(rows) => entries += rows,
                    None => leaves.push(Leaf { page, root: at, keys }),
                }
            }
            return Ok(entries);
        }
        let mut below = Vec::with_capacity(level.len() * 64);
        for (page, keys, _) in level {
            source.read(page, &mut bytes)?;
            let mut least = keys.0;
            let is_same = known.is_same_above(page, &bytes);
            let mut is_first = true;
            let cells = fill.check(&interior, page, &bytes, keys, &mut |page, row_number| {
                // What the first and the last may hold is said by other pages too.
                let is_bound = is_same && !std::mem::take(&mut is_first) && row_number.is_some();
                below.push((page, (least, row_number.or(keys.1)), is_bound));
                least = row_number.or(least);
                Ok(())
            })?;
            for &(first, pages) in fill.overflows() {
                chain(source, first, pages, used, &mut one)?;
            }
            entries += if root.has_row_numbers { 0 } else { cells as u64 };
        }
        level = below;
    }
    Err(Odd::new("a tree is too deep"))
}
