//! What is remembered of the pages that a table was read from, so that the next reading finds what changed.
//!
//! Every leaf has a hash over its bytes and those of the overflow pages that its rows go on in, a hash over the cut hashes of its rows, and how many they
//! are. That leaves of these contents, one after the other, are these rows, is true of any file at any time; so a memory that is stale, or of another file, is only
//! of no use. Pages that differ in a byte have different hashes (XXH3-128) but by an accident that nobody will live to see.
//!
//! ## Layout
//! The magic `DBLYPGS2`; numbers in little-endian: bytes a page, bytes of it in use, encoding (0 UTF-8, 1 and 2 UTF-16 low and high byte first), number of
//! tables, each 4 bytes. Then each table: its key and the signature of its layout, each with its length in 4 bytes before it; a byte of flags (1: a record had
//! more fields than the table columns; 2: the table has no row numbers; 4: the structure of every leaf was checked, within the pages above); the number of leaves in
//! 4 bytes; the numbers of their pages, 4 bytes each; their rows, 4 bytes each, the highest bit set where one goes on in other pages; hashes, 16 bytes each; hashes of
//! cut hashes, 8 bytes each; the number of pages above the leaves in 4 bytes, their numbers, 4 bytes each, and the hashes of their bytes, 16 bytes each; the number of
//! columns of which leaves have prints in 4 bytes, 0 where they have none; else the sum of each leaf's print, 16 bytes each, and a byte of each leaf's columns. A table without
//! row numbers has one leaf, its root, whose hash is that of all its pages. At the end the XXH3-128 of all bytes before.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_128;

use super::super::text::Encoding;
use super::prints::Prints;
use super::structure::Known;

const MAGIC: &[u8; 8] = b"DBLYPGS2";
const FLAG_SURPLUS: u8 = 1;
const FLAG_NO_ROW_NUMBERS: u8 = 2;
const FLAG_CHECKED: u8 = 4;
/// How many leaves are remembered at most, so that memory stays bounded: 6 GB of a database with pages of 4 KiB. A larger one is read whole.
const LEAVES_MAX: usize = 1_500_000;
/// How many bytes the prints have at most; a database with more is remembered without.
const PRINT_BYTES_MAX: usize = 24 << 20;
/// The bit of a leaf's rows that says that one of them goes on in other pages.
const OVERFLOWS: u32 = 1 << 31;

/// The memory of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    pub page_bytes: u32,
    pub usable: u32,
    pub encoding: Encoding,
    /// The tables, by what whoever keeps the memory calls them.
    pub tables: HashMap<String, TableMemory>,
}

/// The memory of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TableMemory {
    /// What its fields meant.
    pub signature: String,
    /// Whether a record had more fields than the table had columns: a column that is added later finds its values in them.
    pub has_surplus: bool,
    pub has_row_numbers: bool,
    /// Whether the structure of every leaf was checked, within what the pages above say.
    pub is_checked: bool,
    pub leaves: Leaves,
    /// The pages above the leaves, each with the hash of its bytes.
    pub above: Vec<(u32, u128)>,
    pub prints: Prints,
}

/// Leaves in order, one column a property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leaves {
    pub pages: Vec<u32>,
    pub marks: Vec<Mark>,
}

/// What a leaf holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub hash: u128,
    pub cuts: u64,
    pub rows: u32,
    pub overflows: bool,
}

/// Tells whether so many leaves of a table are remembered: those that are not need no memory while they are read, either.
pub(super) fn are_kept(leaves: usize) -> bool {
    leaves <= LEAVES_MAX
}

/// Tells whether the prints of so many leaves of a table with so many columns are remembered.
pub(super) fn are_prints_kept(leaves: usize, columns: usize) -> bool {
    are_kept(leaves) && leaves.saturating_mul(columns.saturating_add(16)) <= PRINT_BYTES_MAX
}

impl TableMemory {
    /// Adds the leaves whose structure was checked, of a file that has these pages.
    pub fn add_known(&self, known: &mut Known) {
        if !self.is_checked || !self.has_row_numbers {
            return;
        }
        for (page, mark) in self.leaves.pages.iter().zip(&self.leaves.marks).filter(|(_, mark)| !mark.overflows) {
            known.add(*page, mark.rows, false);
        }
        known.add_above(self.above.iter().copied());
    }
}

impl Memory {
    /// Writes it; nothing where there are more than [`LEAVES_MAX`].
    pub fn into_bytes(mut self) -> Vec<u8> {
        let mut leaves: usize = self.tables.values().map(|table| table.leaves.pages.len()).sum();
        if leaves > LEAVES_MAX {
            self.tables.clear();
            leaves = 0;
        }
        let prints: usize = self.tables.values().map(|table| table.prints.sums.len() * (16 + table.prints.columns)).sum();
        if prints > PRINT_BYTES_MAX {
            self.tables.values_mut().for_each(|table| table.prints = Prints::default());
        }
        let mut out = Vec::with_capacity(leaves * 32 + prints.min(PRINT_BYTES_MAX) + 4096);
        out.extend_from_slice(MAGIC);
        let number = |out: &mut Vec<u8>, number: usize| out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
        let encoding = match self.encoding {
            Encoding::Utf8 => 0,
            Encoding::Utf16le => 1,
            Encoding::Utf16be => 2,
        };
        for head in [self.page_bytes as usize, self.usable as usize, encoding, self.tables.len()] {
            number(&mut out, head);
        }
        let mut tables: Vec<_> = self.tables.into_iter().collect();
        tables.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        // Each goes when it is written: there may be millions of leaves.
        for (key, table) in tables {
            for text in [&key, &table.signature] {
                number(&mut out, text.len());
                out.extend_from_slice(text.as_bytes());
            }
            let surplus = if table.has_surplus { FLAG_SURPLUS } else { 0 };
            let checked = if table.is_checked { FLAG_CHECKED } else { 0 };
            out.push(surplus | checked | if table.has_row_numbers { 0 } else { FLAG_NO_ROW_NUMBERS });
            let Leaves { pages, marks } = &table.leaves;
            number(&mut out, pages.len());
            pages.iter().for_each(|page| out.extend_from_slice(&page.to_le_bytes()));
            marks.iter().for_each(|mark| out.extend_from_slice(&(mark.rows | if mark.overflows { OVERFLOWS } else { 0 }).to_le_bytes()));
            marks.iter().for_each(|mark| out.extend_from_slice(&mark.hash.to_le_bytes()));
            marks.iter().for_each(|mark| out.extend_from_slice(&mark.cuts.to_le_bytes()));
            number(&mut out, table.above.len());
            table.above.iter().for_each(|(page, _)| out.extend_from_slice(&page.to_le_bytes()));
            table.above.iter().for_each(|(_, hash)| out.extend_from_slice(&hash.to_le_bytes()));
            let Prints { columns, sums, bytes } = &table.prints;
            number(&mut out, *columns);
            sums.iter().for_each(|sum| out.extend_from_slice(&sum.to_le_bytes()));
            out.extend_from_slice(bytes);
        }
        let hash = xxh3_128(&out);
        out.extend_from_slice(&hash.to_le_bytes());
        out
    }

    /// Reads it; none where it is anything but what was written.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, hash) = bytes.split_last_chunk::<16>()?;
        if xxh3_128(content) != u128::from_le_bytes(*hash) {
            return None;
        }
        let mut rest = Bytes(content.strip_prefix(MAGIC)?);
        let (page_bytes, usable, encoding, count) = (rest.number()?, rest.number()?, rest.number()?, rest.number()?);
        let encoding = match encoding {
            0 => Encoding::Utf8,
            1 => Encoding::Utf16le,
            2 => Encoding::Utf16be,
            _ => return None,
        };
        let mut tables = HashMap::new();
        for _ in 0..count {
            let (key, signature) = (rest.text()?, rest.text()?);
            let flags = *rest.take(1)?.first()?;
            let leaves = rest.number()? as usize;
            let pages = rest.array::<4>(leaves)?.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
            let (rows, hashes, cuts) = (rest.array::<4>(leaves)?, rest.array::<16>(leaves)?, rest.array::<8>(leaves)?);
            let mark = |((rows, hash), cuts): ((&[u8; 4], &[u8; 16]), &[u8; 8])| {
                let rows = u32::from_le_bytes(*rows);
                Mark {
                    hash: u128::from_le_bytes(*hash),
                    cuts: u64::from_le_bytes(*cuts),
                    rows: rows & !OVERFLOWS,
                    overflows: rows & OVERFLOWS > 0,
                }
            };
            let marks = rows.iter().zip(hashes).zip(cuts).map(mark).collect();
            let above = rest.number()? as usize;
            let (numbers, hashes) = (rest.array::<4>(above)?, rest.array::<16>(above)?);
            let above = numbers.iter().zip(hashes).map(|(page, hash)| (u32::from_le_bytes(*page), u128::from_le_bytes(*hash)));
            let columns = rest.number()? as usize;
            let prints = match columns {
                0 => Prints::default(),
                _ => Prints {
                    columns,
                    sums: rest.array::<16>(leaves)?.iter().map(|sum| u128::from_le_bytes(*sum)).collect(),
                    bytes: rest.take(leaves.checked_mul(columns)?)?.to_vec(),
                },
            };
            let table = TableMemory {
                signature,
                has_surplus: flags & FLAG_SURPLUS > 0,
                has_row_numbers: flags & FLAG_NO_ROW_NUMBERS == 0,
                is_checked: flags & FLAG_CHECKED > 0,
                leaves: Leaves { pages, marks },
                above: above.collect(),
                prints,
            };
            tables.insert(key, table);
        }
        rest.0.is_empty().then_some(Self { page_bytes, usable, encoding, tables })
    }
}

/// Bytes on their way in.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.array::<4>(1)?.first().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        std::str::from_utf8(self.take(length)?).ok().map(str::to_owned)
    }

    fn array<const N: usize>(&mut self, count: usize) -> Option<&'b [[u8; N]]> {
        let (items, rest) = self.take(count.checked_mul(N)?)?.as_chunks::<N>();
        rest.is_empty().then_some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let mark = |number: u32| Mark {
            hash: u128::from(number) << 70,
            cuts: u64::from(number) * 3,
            rows: number,
            overflows: number.is_multiple_of(2),
        };
        let leaves = Leaves { pages: vec![7, 3, 9], marks: [1, 2, 3].map(mark).to_vec() };
        let above = vec![(4, 1 << 99), (u32::MAX, 7)];
        let mut prints = Prints::of(2, 3);
        let mut more = Prints::default();
        more.push(&[1 << 77, 3]);
        assert!(prints.put(1, &more) && !prints.put(3, &more));
        assert_eq!((prints.get(1), prints.get(3)), (Some(((1 << 77) + 3, [0, 3].as_slice())), None));
        let table =
            TableMemory { signature: "s".into(), has_surplus: true, has_row_numbers: true, is_checked: true, leaves, above, prints };
        let empty = TableMemory { has_row_numbers: false, ..TableMemory::default() };
        let tables = HashMap::from([("a".to_owned(), table), ("b".to_owned(), empty)]);
        let memory = Memory { page_bytes: 65_536, usable: 65_500, encoding: Encoding::Utf16be, tables };
        let bytes = memory.clone().into_bytes();
        assert_eq!(Memory::of_bytes(&bytes), Some(memory));
        assert!(are_kept(LEAVES_MAX) && !are_kept(LEAVES_MAX + 1));
        assert!(are_prints_kept(1 << 19, 32) && !are_prints_kept(1 << 20, 32) && !are_prints_kept(LEAVES_MAX + 1, 0));
        for at in 0..bytes.len() {
            assert_eq!(Memory::of_bytes(&bytes[..at]), None);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(Memory::of_bytes(&flipped), None);
        }
    }
}
