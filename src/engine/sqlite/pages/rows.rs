//! Rows on their way out of pages into row groups, and the marks of the pages that they stand in.

use std::ops::ControlFlow;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::Odd;
use super::memory::Mark;
use super::prints::Prints;
use super::record::Layout;
use super::source::Source;
use super::table::Table;
use super::tree::{self, Kind, Limits, Overflow, Page};
use crate::rows::{CutRule, GroupBuilder, RowGroup, TableShape};

/// Whether to go on.
type Flow = Result<ControlFlow<()>, Odd>;

/// Hears of each group that ends.
pub(super) type Sink<'s> = &'s mut dyn FnMut(RowGroup) -> ControlFlow<()>;

/// Rows of a table on their way.
pub(super) struct Rows<'a> {
    layout: &'a Layout,
    source: &'a Source,
    builder: GroupBuilder,
    limits: Limits,
    overflow: Overflow<'a>,
    has_row_numbers: bool,
    last: Option<i64>,
    /// The hash over the cut hashes of the rows since the last mark.
    cuts: u64,
    /// The hash over the pages since the last mark, where there are more than one.
    pages: Option<Box<Xxh3Default>>,
    /// Whether a record had more fields than the table has columns.
    pub has_surplus: bool,
    /// The prints of the leaves that were read whole.
    pub prints: Prints,
    /// The hashes of the columns of the last of them.
    pub hashes: Vec<u128>,
}

/// Takes the next cut hash into a hash over all.
fn chain(cuts: u64, cut: u64) -> u64 {
    (cuts.rotate_left(23) ^ cut).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Takes a page into the hash over a leaf and what its rows go on in.
fn take(pages: &mut Option<Box<Xxh3Default>>, leaf: &[u8], page: &[u8]) {
    let hasher = pages.get_or_insert_with(|| {
        let mut hasher = Box::new(Xxh3Default::new());
        hasher.update(leaf);
        hasher
    });
    hasher.update(page);
}

impl<'a> Rows<'a> {
    /// Begins before the first row of a table, whose leaves are to have prints.
    pub fn new(table: &'a Table, source: &'a Source, shape: &TableShape, rule: CutRule) -> Self {
        Self::with_layout(table, &table.layout, source, shape, rule).with_prints()
    }

    fn with_prints(mut self) -> Self {
        self.builder = self.builder.with_stretches();
        self
    }

    /// As [`Rows::new`], of a shape that has some of the columns, without prints.
    pub fn with_layout(table: &Table, layout: &'a Layout, source: &'a Source, shape: &TableShape, rule: CutRule) -> Self {
        Self {
            layout,
            source,
            builder: GroupBuilder::new(shape, rule),
            limits: if table.has_row_numbers { Limits::of_table(source) } else { Limits::of_index(source) },
            overflow: Overflow::new(source),
            has_row_numbers: table.has_row_numbers,
            last: None,
            cuts: 0,
            pages: None,
            has_surplus: false,
            prints: Prints::default(),
            hashes: Vec::new(),
        }
    }

    /// Goes on after a leaf: rows are in order across parts too.
    pub fn follow(&mut self, leaf: Option<u32>) -> Result<(), Odd> {
        let Some(number) = leaf else { return Ok(()) };
        let mut bytes = vec![0; self.source.page_bytes()];
        self.source.read(number, &mut bytes)?;
        let page = self.leaf(number, &bytes)?;
        let Some(last) = page.cells.checked_sub(1) else { return Ok(()) };
        self.last = Some(self.limits.cell(page.cell(last)?, true)?.row_number);
        Ok(())
    }

    /// Returns the rows that are left as the last group.
    pub fn finish(self) -> Option<RowGroup> {
        self.builder.finish()
    }

    /// Reads a leaf of a table with row numbers whole, and marks it; no mark where the sink broke.
    pub fn read_leaf(&mut self, number: u32, bytes: &[u8], sink: Sink<'_>) -> Result<Option<Mark>, Odd> {
        let page = self.leaf(number, bytes)?;
        self.builder.begin_stretch();
        for at in 0..page.cells {
            if self.row(page.cell(at)?, bytes, sink)?.is_break() {
                return Ok(None);
            }
        }
        self.builder.end_stretch(&mut self.hashes);
        if !self.hashes.is_empty() {
            self.prints.push(&self.hashes);
        }
        let rows = u32::try_from(page.cells).map_err(|_| Odd::new("a page has too many cells"))?;
        let pages = self.pages.take();
        let hash = pages.as_ref().map_or_else(|| xxh3_128(bytes), |pages| pages.digest128());
        Ok(Some(Mark { hash, cuts: std::mem::take(&mut self.cuts), rows, overflows: pages.is_some() }))
    }

    /// Reads the cells of a leaf from one on; `each` hears of the group that a row ended, and at which cell the next begins.
    pub fn read_cells(
        &mut self,
        number: u32,
        bytes: &[u8],
        from: usize,
        each: &mut dyn FnMut(RowGroup, usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Odd> {
        let page = self.leaf(number, bytes)?;
        for at in from..page.cells {
            if self.row(page.cell(at)?, bytes, &mut |group| each(group, at + 1))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Hashes a leaf, with what its rows go on in where some do.
    pub fn hash_leaf(&mut self, number: u32, bytes: &[u8], overflows: bool) -> Result<u128, Odd> {
        if !overflows {
            return Ok(xxh3_128(bytes));
        }
        let page = self.leaf(number, bytes)?;
        for at in 0..page.cells {
            self.pass(page.cell(at)?, bytes)?;
        }
        Ok(self.pages.take().map_or_else(|| xxh3_128(bytes), |pages| pages.digest128()))
    }

    /// Reads a table without row numbers, whose rows stand in all its pages; returns a mark of all of them. Without a sink the pages are hashed alone.
    pub fn walk(&mut self, root: u32, sink: Option<Sink<'_>>) -> Result<(ControlFlow<()>, Mark), Odd> {
        self.pages = Some(Box::new(Xxh3Default::new()));
        let mut sink = sink;
        let mut left = self.source.pages();
        let flow = self.walk_from(root, 0, &mut left, &mut sink)?;
        let hash = self.pages.take().map_or(0, |pages| pages.digest128());
        Ok((flow, Mark { hash, ..Mark::default() }))
    }

    fn walk_from(&mut self, number: u32, depth: usize, left: &mut u32, sink: &mut Option<Sink<'_>>) -> Result<ControlFlow<()>, Odd> {
        *left = left.checked_sub(1).filter(|_| depth <= tree::DEPTH_MAX).ok_or_else(|| Odd::new("its pages go round in a circle"))?;
        let mut bytes = vec![0; self.source.page_bytes()];
        self.source.read(number, &mut bytes)?;
        take(&mut self.pages, &[], &bytes);
        let page = Page::new(&bytes, number, self.source.usable())?;
        let children = match page.kind {
            Kind::LeafIndex => Vec::new(),
            Kind::InteriorIndex => page.children()?,
            _ => return Err(Odd::new(format!("page {number} is of a table with row numbers"))),
        };
        let skip = if children.is_empty() { 0 } else { 4 };
        for at in 0..page.cells {
            if let Some(child) = children.get(at)
                && self.walk_from(*child, depth + 1, left, sink)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            let cell = page.cell(at)?.get(skip..).ok_or_else(|| Odd::new("a cell ends early"))?;
            match sink {
                Some(sink) => {
                    if self.row(cell, &[], &mut **sink)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                None => self.pass(cell, &[])?,
            }
        }
        match children.last() {
            Some(child) => self.walk_from(*child, depth + 1, left, sink),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn leaf<'p>(&self, number: u32, bytes: &'p [u8]) -> Result<Page<'p>, Odd> {
        let page = Page::new(bytes, number, self.source.usable())?;
        if page.kind == Kind::LeafTable { Ok(page) } else { Err(Odd::new(format!("page {number} is no leaf"))) }
    }

    /// Reads a row.
    #[inline]
    fn row(&mut self, cell: &[u8], leaf: &[u8], sink: Sink<'_>) -> Result<ControlFlow<()>, Odd> {
        let cell = self.limits.cell(cell, self.has_row_numbers)?;
        if self.has_row_numbers {
            if self.last.is_some_and(|last| last >= cell.row_number) {
                return Err(Odd::new(format!("row {} is out of order", cell.row_number)));
            }
            self.last = Some(cell.row_number);
        }
        let record = match cell.overflow {
            None => cell.local,
            Some(_) => self.overflow.read(&cell, &mut |page| take(&mut self.pages, leaf, page))?,
        };
        self.has_surplus |= self.layout.push(cell.row_number, record, self.source.encoding(), self.builder.columns())?;
        let ended = self.builder.end_row();
        self.cuts = chain(self.cuts, self.builder.cut_hash());
        Ok(ended.map_or(ControlFlow::Continue(()), sink))
    }

    /// Passes a row, and takes the pages that it goes on in into the hash.
    fn pass(&mut self, cell: &[u8], leaf: &[u8]) -> Result<(), Odd> {
        let cell = self.limits.cell(cell, self.has_row_numbers)?;
        if cell.overflow.is_some() {
            self.overflow.read(&cell, &mut |page| take(&mut self.pages, leaf, page))?;
        }
        Ok(())
    }
}

/// Reads pages in this order, those that follow one another at once; `each` says whether to go on.
pub(super) fn read_pages(source: &Source, mut pages: &[u32], each: &mut dyn FnMut(u32, &[u8]) -> Flow) -> Result<ControlFlow<()>, Odd> {
    let page_bytes = source.page_bytes();
    let mut bytes = Vec::new();
    while let Some(&first) = pages.first() {
        let follows = |(at, number): (usize, &u32)| Some(*number) == u32::try_from(at).ok().and_then(|at| first.checked_add(at));
        let count = pages.iter().enumerate().take(source.run_pages()).take_while(|page| follows(*page)).count();
        let (run, after) = pages.split_at(count);
        pages = after;
        bytes.resize(count * page_bytes, 0);
        source.read(first, &mut bytes)?;
        for (&number, bytes) in run.iter().zip(bytes.chunks_exact(page_bytes)) {
            if each(number, bytes)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}
