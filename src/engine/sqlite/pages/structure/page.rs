//! One page of a tree: whether its cells, its free blocks and its lost bytes fill it, and none overlaps another.

use super::super::Odd;
use super::super::record::varint;
use super::super::source::Source;

/// What a page of a kind looks like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The first byte of its head.
    kind: u8,
    /// How long its head is.
    head: usize,
    /// Whether cells begin with the page below.
    is_interior: bool,
    /// Whether cells hold a row number.
    has_row_number: bool,
    /// Whether cells hold a record.
    has_record: bool,
    /// The longest record that stands in its cell whole.
    local_max: usize,
    /// How much of a longer one does at least.
    local_min: usize,
}

impl Shape {
    pub fn leaf_of_table(source: &Source) -> Self {
        Self::new(source, 13)
    }

    pub fn leaf_of_index(source: &Source) -> Self {
        Self::new(source, 10)
    }

    pub fn interior_of_table(source: &Source) -> Self {
        Self::new(source, 5)
    }

    pub fn interior_of_index(source: &Source) -> Self {
        Self::new(source, 2)
    }

    fn new(source: &Source, kind: u8) -> Self {
        let usable = source.usable();
        let is_interior = kind < 8;
        let is_table = kind == 5 || kind == 13;
        Self {
            kind,
            head: if is_interior { 12 } else { 8 },
            is_interior,
            has_row_number: is_table,
            has_record: kind != 5,
            local_max: if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 },
            local_min: (usable - 12) * 32 / 255 - 23,
        }
    }
}

/// The row numbers that a page may hold: above the first, up to the second.
pub(super) type Keys = (Option<i64>, Option<i64>);

/// Checks pages, one after another.
pub(super) struct Fill {
    usable: usize,
    pages: u32,
    /// A bit a byte of the page.
    taken: Vec<u64>,
    overflows: Vec<(u32, u64)>,
}

/// A cell as far as structure goes.
struct Cell {
    bytes: usize,
    row_number: Option<i64>,
    overflow: Option<(u32, u64)>,
}

impl Fill {
    pub fn new(source: &Source) -> Self {
        Self { usable: source.usable(), pages: source.pages(), taken: vec![0; source.usable().div_ceil(64) + 1], overflows: Vec::new() }
    }

    /// Returns where the records of the page that was checked last go on: the first page, and how many there are.
    pub fn overflows(&self) -> &[(u32, u64)] {
        &self.overflows
    }

    /// Checks a page; `below` hears of the page below each cell of an interior one, with the cell's row number, and last of the rightmost one.
    /// Returns how many cells there are.
    pub fn check(
        &mut self,
        shape: &Shape,
        number: u32,
        bytes: &[u8],
        keys: Keys,
        below: &mut dyn FnMut(u32, Option<i64>) -> Result<(), Odd>,
    ) -> Result<usize, Odd> {
        let odd = |what: &str| Odd::new(format!("page {number}: {what}"));
        let start = if number == 1 { 100 } else { 0 };
        let page = bytes.get(..self.usable).ok_or_else(|| odd("it ends early"))?;
        let head = page.get(start..start + shape.head).ok_or_else(|| odd("it ends early"))?;
        if head[0] != shape.kind {
            return Err(odd("it is of another kind"));
        }
        let short = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
        let (mut free, cells, lost) = (short(1), short(3), usize::from(head[7]));
        let content = if short(5) == 0 { 65_536 } else { short(5) };
        let pointers = start + shape.head;
        let pointers_end = pointers + cells * 2;
        if content < pointers_end || content > self.usable {
            return Err(odd("its content begins in an odd place"));
        }
        self.taken.fill(0);
        self.overflows.clear();
        let mut filled = 0;
        let mut last = keys.0;
        let mut run = (0, 0);
        for pointer in page[pointers..pointers_end].chunks_exact(2) {
            let place = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
            if place < content {
                return Err(odd("a cell stands outside of its content"));
            }
            let bytes = page.get(place..).filter(|bytes| bytes.len() >= 4).ok_or_else(|| odd("a cell stands outside of it"))?;
            let cell = self.cell(shape, bytes).ok_or_else(|| odd("a cell ends early"))?;
            // Cells mostly stand side by side, in the order in which they came or the other way round: such a run is taken at once.
            let end = place + cell.bytes;
            match run {
                (start, _) if start == end => run.0 = place,
                (_, until) if until == place => run.1 = end,
                (start, until) => {
                    if until > start && !self.take(start, until - start) {
                        return Err(odd("two cells overlap"));
                    }
                    run = (place, end);
                }
            }
            filled += cell.bytes;
            if let Some(row_number) = cell.row_number {
                // The pages above may name a row number twice; leaves may not.
                if last.is_some_and(|last| row_number <= last) || keys.1.is_some_and(|most| row_number > most) {
                    return Err(odd("its row numbers are out of order"));
                }
                last = Some(row_number);
            }
            self.overflows.extend(cell.overflow);
            if shape.is_interior {
                below(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), cell.row_number)?;
            }
        }
        if run.1 > run.0 && !self.take(run.0, run.1 - run.0) {
            return Err(odd("two cells overlap"));
        }
        if shape.is_interior {
            below(u32::from_be_bytes([head[8], head[9], head[10], head[11]]), None)?;
        }
        let mut after = content;
        while free != 0 {
            let block = page.get(free..free + 4).filter(|_| free >= after).ok_or_else(|| odd("a free block stands in an odd place"))?;
            let (next, length) =
                (usize::from(u16::from_be_bytes([block[0], block[1]])), usize::from(u16::from_be_bytes([block[2], block[3]])));
            // Less than four bytes behind it would belong to it.
            if length < 4 || free + length > self.usable || (next != 0 && next < free + length + 4) {
                return Err(odd("a free block has an odd size"));
            }
            if !self.take(free, length) {
                return Err(odd("a free block overlaps"));
            }
            filled += length;
            after = free + length;
            free = next;
        }
        if content + filled + lost != self.usable {
            return Err(odd("its bytes do not add up"));
        }
        Ok(cells)
    }

    fn cell(&self, shape: &Shape, bytes: &[u8]) -> Option<Cell> {
        let mut at = if shape.is_interior { 4 } else { 0 };
        let mut record = 0;
        if shape.has_record {
            let (length, taken) = varint(bytes.get(at..)?)?;
            // SQLite knows no longer ones.
            record = usize::try_from(length).ok().filter(|length| *length <= i32::MAX as usize)?;
            at += taken;
        }
        let mut row_number = None;
        if shape.has_row_number {
            let (number, taken) = varint(bytes.get(at..)?)?;
            row_number = Some(number as i64);
            at += taken;
        }
        if record <= shape.local_max {
            // A cell takes four bytes at least, so that a free block fits where it was.
            let length = (at + record).max(4);
            return (length <= bytes.len()).then_some(Cell { bytes: length, row_number, overflow: None });
        }
        let room = self.usable - 4;
        let fitting = shape.local_min + (record - shape.local_min) % room;
        let here = if fitting <= shape.local_max { fitting } else { shape.local_min };
        let first = bytes.get(at + here..at + here + 4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        let pages = (record - here).div_ceil(room) as u64;
        if pages > u64::from(self.pages) {
            return None;
        }
        Some(Cell { bytes: at + here + 4, row_number, overflow: Some((first, pages)) })
    }

    /// Marks bytes as taken; tells whether none of them was.
    fn take(&mut self, start: usize, length: usize) -> bool {
        let end = start + length;
        let (first, last) = (start / 64, (end - 1) / 64);
        let low = u64::MAX << (start % 64);
        let high = u64::MAX >> (63 - (end - 1) % 64);
        if last >= self.taken.len() {
            return false;
        }
        if first == last {
            return set(&mut self.taken[first], low & high);
        }
        let is_free = set(&mut self.taken[first], low) & set(&mut self.taken[last], high);
        self.taken[first + 1..last].iter_mut().fold(is_free, |is_free, word| set(word, u64::MAX) & is_free)
    }
}

#[inline]
fn set(word: &mut u64, bits: u64) -> bool {
    let is_free = *word & bits == 0;
    *word |= bits;
    is_free
}
