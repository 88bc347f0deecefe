//! B-trees: where a table's rows stand (<https://www.sqlite.org/fileformat2.html>, section 1.6).

use xxhash_rust::xxh3::xxh3_128;

use super::Odd;
use super::record::varint;
use super::source::Source;

/// How deep a tree can be (`BTCURSOR_MAX_DEPTH` in SQLite).
pub(super) const DEPTH_MAX: usize = 20;

const INTERIOR_INDEX: u8 = 2;
const INTERIOR_TABLE: u8 = 5;
const LEAF_INDEX: u8 = 10;
const LEAF_TABLE: u8 = 13;

/// The head of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    InteriorIndex,
    InteriorTable,
    LeafIndex,
    LeafTable,
}

/// A page of a b-tree.
#[derive(Clone, Copy)]
pub(super) struct Page<'p> {
    bytes: &'p [u8],
    usable: usize,
    pub kind: Kind,
    pub cells: usize,
    pointers: usize,
    right: u32,
}

impl<'p> Page<'p> {
    /// Looks at a page's head; `number` is the page's.
    pub fn new(bytes: &'p [u8], number: u32, usable: usize) -> Result<Self, Odd> {
        let odd = || Odd::new(format!("page {number} is no page of a tree"));
        let start = if number == 1 { 100 } else { 0 };
        let head = bytes.get(start..start + 12).ok_or_else(odd)?;
        let kind = match head[0] {
            INTERIOR_INDEX => Kind::InteriorIndex,
            INTERIOR_TABLE => Kind::InteriorTable,
            LEAF_INDEX => Kind::LeafIndex,
            LEAF_TABLE => Kind::LeafTable,
            _ => return Err(odd()),
        };
        let is_interior = matches!(kind, Kind::InteriorIndex | Kind::InteriorTable);
        let cells = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let pointers = start + if is_interior { 12 } else { 8 };
        if pointers + cells * 2 > usable || usable > bytes.len() {
            return Err(odd());
        }
        let right = if is_interior { u32::from_be_bytes([head[8], head[9], head[10], head[11]]) } else { 0 };
        Ok(Self { bytes, usable, kind, cells, pointers, right })
    }

    /// Returns the bytes from a cell's first on, up to the page's end.
    #[inline]
    pub fn cell(&self, at: usize) -> Result<&'p [u8], Odd> {
        let odd = || Odd::new("a cell stands outside of its page");
        let place = self.pointers + at * 2;
        let pointer = self.bytes.get(place..place + 2).ok_or_else(odd)?;
        let start = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
        if start < self.pointers + self.cells * 2 {
            return Err(odd());
        }
        self.bytes.get(start..self.usable).ok_or_else(odd)
    }

    /// Returns the pages below an interior page, in order.
    pub fn children(&self) -> Result<Vec<u32>, Odd> {
        let mut children = Vec::with_capacity(self.cells + 1);
        for at in 0..self.cells {
            children
                .push(self.cell(at)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(|| Odd::new("a cell ends early"))?);
        }
        children.push(self.right);
        Ok(children)
    }
}

/// What a leaf's cell holds: its row number, and its record as far as it stands there.
pub(super) struct Cell<'p> {
    pub row_number: i64,
    pub local: &'p [u8],
    /// How long the whole record is.
    pub bytes: usize,
    /// The first page of the rest.
    pub overflow: Option<u32>,
}

/// How many bytes of records stand in the cells of a kind of tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    usable: usize,
    local_max: usize,
    local_min: usize,
    bytes_max: u64,
}

impl Limits {
    /// Returns those of tables with row numbers.
    pub fn of_table(source: &Source) -> Self {
        Self::new(source, source.usable() - 35)
    }

    /// Returns those of indexes, as which tables without row numbers are kept.
    pub fn of_index(source: &Source) -> Self {
        Self::new(source, (source.usable() - 12) * 64 / 255 - 23)
    }

    fn new(source: &Source, local_max: usize) -> Self {
        let usable = source.usable();
        Self { usable, local_max, local_min: (usable - 12) * 32 / 255 - 23, bytes_max: u64::from(source.pages()) * usable as u64 }
    }

    /// Takes a cell apart; `has_row_number` says what kind of tree it is of.
    #[inline]
    pub fn cell<'p>(&self, cell: &'p [u8], has_row_number: bool) -> Result<Cell<'p>, Odd> {
        let odd = || Odd::new("a cell ends early");
        let (bytes, mut at) = varint(cell).ok_or_else(odd)?;
        let mut row_number = 0;
        if has_row_number {
            let (number, length) = varint(&cell[at..]).ok_or_else(odd)?;
            row_number = number as i64;
            at += length;
        }
        if bytes > self.bytes_max {
            return Err(odd());
        }
        let bytes = bytes as usize;
        if bytes <= self.local_max {
            let local = cell.get(at..at + bytes).ok_or_else(odd)?;
            return Ok(Cell { row_number, local, bytes, overflow: None });
        }
        let fitting = self.local_min + (bytes - self.local_min) % (self.usable - 4);
        let here = if fitting <= self.local_max { fitting } else { self.local_min };
        let local = cell.get(at..at + here).ok_or_else(odd)?;
        let next = cell.get(at + here..at + here + 4).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_be_bytes(*bytes));
        Ok(Cell { row_number, local, bytes, overflow: Some(next.ok_or_else(odd)?) })
    }
}

/// Reads records that go on in other pages.
pub(super) struct Overflow<'s> {
    source: &'s Source,
    run: Vec<u8>,
    /// The first page of `run`, 0 where it holds none.
    first: u32,
    record: Vec<u8>,
}

/// How many overflow pages are read at once: the pages of a long record mostly follow one another.
const OVERFLOW_RUN: usize = 8;

impl<'s> Overflow<'s> {
    pub fn new(source: &'s Source) -> Self {
        Self { source, run: Vec::new(), first: 0, record: Vec::new() }
    }

    /// Reads a record whole; `seen` hears the bytes of each page that it goes on in.
    pub fn read(&mut self, cell: &Cell<'_>, seen: &mut dyn FnMut(&[u8])) -> Result<&[u8], Odd> {
        self.record.clear();
        self.record.extend_from_slice(cell.local);
        let mut next = cell.overflow.unwrap_or_default();
        let room = self.source.usable() - 4;
        while self.record.len() < cell.bytes {
            let left = cell.bytes - self.record.len();
            let page = self.page(next, left.div_ceil(room))?;
            seen(page);
            let (head, rest) = page.split_first_chunk().ok_or_else(|| Odd::new("a page ends early"))?;
            next = u32::from_be_bytes(*head);
            let rest = rest.get(..left.min(room)).ok_or_else(|| Odd::new("a page ends early"))?.to_vec();
            self.record.extend_from_slice(&rest);
        }
        Ok(&self.record)
    }

    /// Returns a page, and reads some after it where so many are likely to be asked for.
    fn page(&mut self, number: u32, wanted: usize) -> Result<&[u8], Odd> {
        let page_bytes = self.source.page_bytes();
        let held = self.run.len() / page_bytes;
        let is_held = self.first > 0 && number >= self.first && ((number - self.first) as usize) < held;
        if !is_held {
            let after = self.source.pages().checked_sub(number).ok_or_else(|| Odd::new(format!("page {number} is not there")))?;
            let count = wanted.min(OVERFLOW_RUN).min(after as usize + 1).max(1);
            self.run.resize(count * page_bytes, 0);
            self.first = 0;
            self.source.read(number, &mut self.run)?;
            self.first = number;
        }
        let at = (number - self.first) as usize * page_bytes;
        self.run.get(at..at + page_bytes).ok_or_else(|| Odd::new("a page ends early"))
    }
}

/// The pages of a table with row numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// The leaves, in the order of their rows.
    pub leaves: Vec<u32>,
    /// The largest row number that each leaf may hold, as the pages above say.
    pub most: Vec<i64>,
    /// The pages above the leaves, each with the hash of its bytes.
    pub above: Vec<(u32, u128)>,
}

/// Finds the pages of a table below its root.
pub(super) fn walk(source: &Source, root: u32) -> Result<Tree, Odd> {
    let (mut level, mut most, mut above) = (vec![root], vec![i64::MAX], Vec::new());
    let mut bytes = vec![0; source.page_bytes()];
    // A page that hangs in more than one place would make more of them than there are.
    let mut left = source.pages() as usize;
    for _ in 0..DEPTH_MAX {
        left = left.checked_sub(level.len()).ok_or_else(|| Odd::new("its pages go round in a circle"))?;
        // All leaves of a tree are equally deep.
        let Some(&first) = level.first() else { break };
        source.read(first, &mut bytes)?;
        match Page::new(&bytes, first, source.usable())?.kind {
            Kind::LeafTable => return Ok(Tree { leaves: level, most, above }),
            Kind::InteriorTable => {}
            _ => return Err(Odd::new(format!("page {first} is of an index"))),
        }
        let mut below = Vec::with_capacity(level.len() * 64);
        let mut most_below = Vec::with_capacity(level.len() * 64);
        for (number, most) in level.into_iter().zip(most) {
            source.read(number, &mut bytes)?;
            let page = Page::new(&bytes, number, source.usable())?;
            if page.kind != Kind::InteriorTable {
                return Err(Odd::new(format!("page {number} is not as deep as others")));
            }
            for at in 0..page.cells {
                let odd = || Odd::new("a cell ends early");
                let (child, key) = page.cell(at)?.split_first_chunk().ok_or_else(odd)?;
                below.push(u32::from_be_bytes(*child));
                most_below.push(varint(key).ok_or_else(odd)?.0 as i64);
            }
            below.push(page.right);
            most_below.push(most);
            above.push((number, xxh3_128(&bytes)));
        }
        (level, most) = (below, most_below);
    }
    Err(Odd::new("its tree is too deep"))
}
