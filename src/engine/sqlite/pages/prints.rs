//! Prints of leaves: what tells which columns of a leaf changed, and proves that all others did not.

use std::collections::HashMap;

use super::memory::Mark;
use crate::rows::{TableShape, stretch_hash};

/// What each leaf had in each column, as far as it tells which columns changed: all leaves have such a print, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prints {
    /// How many columns there are.
    pub columns: usize,
    /// Of each leaf the sum of its columns' hashes ([`stretch_hash`](crate::rows::stretch_hash)), modulo 2^128.
    pub sums: Vec<u128>,
    /// Of each leaf the lowest byte of each column's hash.
    pub bytes: Vec<u8>,
}

impl Prints {
    /// Makes room for so many leaves.
    pub fn of(columns: usize, leaves: usize) -> Self {
        Self { columns, sums: vec![0; leaves], bytes: vec![0; leaves * columns] }
    }

    /// Returns the sum of a leaf with these hashes.
    pub fn sum(hashes: &[u128]) -> u128 {
        hashes.iter().fold(0, |sum: u128, hash| sum.wrapping_add(*hash))
    }

    /// Appends a leaf with these hashes, one a column.
    pub fn push(&mut self, hashes: &[u128]) {
        self.columns = hashes.len();
        self.sums.push(Self::sum(hashes));
        self.bytes.extend(hashes.iter().map(|hash| *hash as u8));
    }

    /// Returns a leaf's print: its sum, and a byte a column.
    pub fn get(&self, leaf: usize) -> Option<(u128, &[u8])> {
        Some((*self.sums.get(leaf)?, self.bytes.get(leaf * self.columns..(leaf + 1) * self.columns)?))
    }

    /// Puts the first of these hashes, one for each column that has prints, in the place of a leaf's.
    pub fn set(&mut self, leaf: usize, hashes: &[u128]) {
        let Some(hashes) = hashes.get(..self.columns) else { return };
        let bytes: Vec<u8> = hashes.iter().map(|hash| *hash as u8).collect();
        self.put_one(leaf, Self::sum(hashes), &bytes);
    }

    /// Puts a print in the place of a leaf's; where there are none, or of another number of columns, nothing happens.
    pub fn put_one(&mut self, leaf: usize, sum: u128, bytes: &[u8]) {
        if bytes.len() == self.columns
            && let Some(place) = self.sums.get_mut(leaf)
            && let Some(places) = self.bytes.get_mut(leaf * self.columns..(leaf + 1) * self.columns)
        {
            *place = sum;
            places.copy_from_slice(bytes);
        }
    }

    /// Returns the prints of leaves that stand elsewhere now, each where `now` says, among so many; those of new ones are not known.
    pub fn moved(&self, now: &[Option<usize>], leaves: usize) -> Self {
        let mut moved = Self::of(self.columns, leaves);
        for (leaf, place) in now.iter().enumerate() {
            if let (Some(place), Some((sum, bytes))) = (place, self.get(leaf)) {
                moved.put_one(*place, sum, bytes);
            }
        }
        moved
    }

    /// Puts prints in the place of those from a leaf on; tells whether they fit there.
    pub fn put(&mut self, leaf: usize, prints: &Self) -> bool {
        let columns = self.columns;
        let sums = self.sums.get_mut(leaf..leaf + prints.sums.len());
        let bytes = self.bytes.get_mut(leaf * columns..(leaf + prints.sums.len()) * columns);
        match (sums, bytes) {
            (Some(sums), Some(bytes)) if prints.columns == columns || prints.sums.is_empty() => {
                sums.copy_from_slice(&prints.sums);
                bytes.copy_from_slice(&prints.bytes);
                true
            }
            _ => false,
        }
    }
}

/// The hashes of columns that were added behind the others, where they have their defaults.
pub(super) struct Defaults<'s> {
    shape: &'s TableShape,
    /// How many columns there were before.
    columns: usize,
    /// By numbers of rows.
    known: HashMap<u32, Vec<u128>>,
}

impl<'s> Defaults<'s> {
    pub fn of(shape: &'s TableShape, columns: usize) -> Self {
        Self { shape, columns, known: HashMap::new() }
    }

    /// Returns the hashes of the added columns in a leaf of so many rows.
    pub fn hashes(&mut self, rows: u32) -> &[u128] {
        let Self { shape, columns, known } = self;
        known.entry(rows).or_insert_with(|| {
            let cells = |default: &str| vec![default; rows as usize].join(",");
            let added = shape.columns.iter().enumerate().skip(*columns);
            added.map(|(at, column)| stretch_hash(at, cells(&column.default).as_bytes())).collect()
        })
    }

    /// Returns the print of a leaf with all columns.
    pub fn widen(&mut self, (sum, bytes): (u128, &[u8]), rows: u32) -> (u128, Box<[u8]>) {
        let added = self.hashes(rows);
        let sum = sum.wrapping_add(Prints::sum(added));
        (sum, bytes.iter().copied().chain(added.iter().map(|hash| *hash as u8)).collect())
    }

    /// Returns all prints with all columns.
    pub fn widen_all(&mut self, prints: &Prints, marks: &[Mark]) -> Prints {
        let mut wider = Prints::of(self.shape.columns.len(), marks.len());
        for (place, mark) in marks.iter().enumerate() {
            if let Some(print) = prints.get(place) {
                let (sum, bytes) = self.widen(print, mark.rows);
                wider.put_one(place, sum, &bytes);
            }
        }
        wider
    }
}
