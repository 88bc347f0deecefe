//! Leaves whose structure was checked by whoever read their rows.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

use super::super::Odd;
use super::super::source::Source;
use super::page::{Fill, Shape};

/// The structure of one leaf of a table with row numbers after the other.
pub(in super::super) struct LeafCheck {
    shape: Shape,
    fill: Fill,
}

impl LeafCheck {
    pub fn new(source: &Source) -> Self {
        Self { shape: Shape::leaf_of_table(source), fill: Fill::new(source) }
    }

    /// Checks a leaf that may hold row numbers above the first of these, and up to the second. Where its records go on is not looked at.
    pub fn check(&mut self, number: u32, bytes: &[u8], above: Option<i64>, up_to: i64) -> Result<(), Odd> {
        self.fill.check(&self.shape, number, bytes, (above, Some(up_to)), &mut |_, _| Ok(())).map(drop)
    }
}

/// The bit that says that a leaf was checked against the pages that stand above it now.
const NOW: u32 = 1 << 31;

/// Leaves that were checked, and have no record that goes on in other pages.
#[derive(Debug, Default)]
pub(in super::super) struct Known {
    /// By the numbers of pages, how many rows a leaf has, plus one; 0 where it is not known.
    leaves: Vec<u32>,
    /// The hashes of the pages that stood above leaves which were checked earlier.
    above: HashMap<u32, u128>,
}

impl Known {
    /// Knows nothing of a file of so many pages.
    pub fn none(pages: u32) -> Self {
        Self { leaves: vec![0; pages as usize + 1], above: HashMap::new() }
    }

    /// Adds a leaf; `is_now` says that it was checked against what stands above it now, and not against what did when it was read.
    pub fn add(&mut self, page: u32, rows: u32, is_now: bool) {
        if let Some(place) = self.leaves.get_mut(page as usize) {
            *place = ((rows & !NOW) + 1) | if is_now { NOW } else { 0 };
        }
    }

    /// Adds pages that stood above leaves when those were checked.
    pub fn add_above(&mut self, pages: impl IntoIterator<Item = (u32, u128)>) {
        self.above.extend(pages);
    }

    /// Tells whether a page is one that stood above leaves, and is what it was.
    pub fn is_same_above(&self, page: u32, bytes: &[u8]) -> bool {
        self.above.get(&page).is_some_and(|hash| *hash == xxh3_128(bytes))
    }

    /// Returns how many rows a leaf has that need not be checked again; `is_bound` says that what stands above it says the same as then.
    pub fn rows(&self, page: u32, is_bound: bool) -> Option<u64> {
        let leaf = *self.leaves.get(page as usize)?;
        (leaf > 0 && (is_bound || leaf & NOW > 0)).then(|| u64::from((leaf & !NOW) - 1))
    }
}
