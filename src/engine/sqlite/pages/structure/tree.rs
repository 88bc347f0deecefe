//! The pages of a tree above its leaves.

use super::super::Odd;
use super::super::source::Source;
use super::super::tree::DEPTH_MAX;
use super::page::{Fill, Keys, Shape};
use super::{Root, Used, chain};

/// A leaf of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaf {
    pub page: u32,
    /// The tree, by its place among the roots.
    pub root: usize,
    /// The row numbers that it may hold.
    pub keys: Keys,
}

/// Checks the pages of a tree above its leaves, and notes the leaves. Returns how many entries stand above them: only trees without row numbers have such.
pub(super) fn walk(source: &Source, root: &Root, at: usize, used: &Used, leaves: &mut Vec<Leaf>) -> Result<u64, Odd> {
    let (interior, leaf_kind) = match root.has_row_numbers {
        true => (Shape::interior_of_table(source), 13),
        false => (Shape::interior_of_index(source), 10),
    };
    let mut level: Vec<(u32, Keys)> = vec![(root.page, (None, None))];
    let mut bytes = vec![0; source.page_bytes()];
    let (mut fill, mut one) = (Fill::new(source), Vec::new());
    let mut entries = 0;
    for _ in 0..DEPTH_MAX {
        for (page, _) in &level {
            if *page == 0 || *page > source.pages() {
                return Err(Odd::new(format!("page {page} is not there")));
            }
            used.add(*page)?;
        }
        // All leaves of a tree are equally deep.
        let Some(&(first, _)) = level.first() else { return Err(Odd::new("a tree has no pages")) };
        source.read(first, &mut bytes)?;
        if bytes.get(if first == 1 { 100 } else { 0 }) == Some(&leaf_kind) {
            leaves.extend(level.into_iter().map(|(page, keys)| Leaf { page, root: at, keys }));
            return Ok(entries);
        }
        let mut below = Vec::with_capacity(level.len() * 64);
        for (page, keys) in level {
            source.read(page, &mut bytes)?;
            let mut least = keys.0;
            let cells = fill.check(&interior, page, &bytes, keys, &mut |page, row_number| {
                below.push((page, (least, row_number.or(keys.1))));
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
