//! The structure of a whole file, checked on all cores: what SQLite's own check of b-trees and free pages looks at, many times as fast.
//!
//! - It only ever says that all is sound. Whatever is not as the file format says, or not known here (the page map of a database that vacuums itself), is
//!   [`Odd`], and SQLite's own check then has the last word, and finds the words.
//! - Sound means: every page is used exactly once, by one tree, one record that goes on in it, or the list of free pages; all leaves of a tree are equally
//!   deep; cells, free blocks and lost bytes of a page fill it, and none overlaps another; row numbers ascend, within what the pages above say; a record
//!   goes on in as many pages as it needs; an index that is not partial has as many entries as its table has rows.
//! - What stands in records is not looked at: whoever reads the rows does that.
//! - A leaf of a table that whoever read its rows checked in the same way ([`LeafCheck`]) is not looked at again, if what the pages above say of it is what
//!   they said ([`Known`]).
//!
//! [`tree`] walks the pages above the leaves, [`leaf`] takes one page apart, and this file puts them together.

mod known;
mod page;
mod tree;

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::Odd;
use super::source::Source;
pub(super) use known::{Known, LeafCheck};
use page::{Fill, Shape};
use tree::Leaf;

/// How many bytes of the file a thread takes at once.
const RUN_BYTES: usize = 256 * 1024;

/// The most threads that check.
const THREADS_MAX: usize = 16;

/// Where the page of locks begins, which no tree uses (<https://www.sqlite.org/fileformat2.html>, section 1.4).
const LOCK_BYTE: u64 = 1 << 30;

/// A tree of the database, by its first page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::sqlite) struct Root {
    /// Its first page.
    pub page: u32,
    /// Whether it is a table with row numbers; else an index, or a table without.
    pub has_row_numbers: bool,
    /// The tree that must have as many entries, by its place among the roots.
    pub as_many_as: Option<usize>,
}

/// Which pages are used, each by one only.
struct Used(Vec<AtomicU64>);

impl Used {
    fn new(pages: u32) -> Self {
        Self((0..=pages / 64).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes that a page is used.
    fn add(&self, page: u32) -> Result<(), Odd> {
        let word = self.0.get(page as usize / 64).ok_or_else(|| Odd::new(format!("page {page} is not there")))?;
        let bit = 1 << (page % 64);
        match word.fetch_or(bit, Ordering::Relaxed) & bit {
            0 => Ok(()),
            _ => Err(Odd::new(format!("page {page} is used twice"))),
        }
    }

    fn has(&self, page: u32) -> bool {
        self.0.get(page as usize / 64).is_some_and(|word| word.load(Ordering::Relaxed) & 1 << (page % 64) != 0)
    }
}

/// Checks the structure of a file; `roots` are those of all its trees, the schema's among them. Leaves that are known are not looked at.
pub(super) fn check(source: &Source, roots: &[Root], known: &Known) -> Result<(), Odd> {
    let used = Used::new(source.pages());
    let mut head = vec![0; source.page_bytes()];
    source.read(1, &mut head)?;
    if word(&head, 52)? != 0 {
        return Err(Odd::new("its pages have a map"));
    }
    if let Ok(lock) = u32::try_from(LOCK_BYTE / source.page_bytes() as u64 + 1)
        && lock <= source.pages()
    {
        used.add(lock)?;
    }
    free_pages(source, &head, &used)?;
    let mut leaves = Vec::new();
    let entries: Vec<AtomicU64> = roots.iter().map(|_| AtomicU64::new(0)).collect();
    for (at, root) in roots.iter().enumerate() {
        let counted = tree::walk(source, root, at, known, &used, &mut leaves)?;
        entries[at].fetch_add(counted, Ordering::Relaxed);
    }
    check_leaves(source, roots, &leaves, &used, &entries)?;
    for (root, count) in roots.iter().zip(&entries) {
        let expected = root.as_many_as.and_then(|at| entries.get(at));
        if expected.is_some_and(|expected| expected.load(Ordering::Relaxed) != count.load(Ordering::Relaxed)) {
            return Err(Odd::new(format!("the tree of page {} has another number of entries than its table", root.page)));
        }
    }
    match (1..=source.pages()).find(|page| !used.has(*page)) {
        Some(page) => Err(Odd::new(format!("page {page} is never used"))),
        None => Ok(()),
    }
}

/// Checks all leaves, in the order in which they stand in the file.
fn check_leaves(source: &Source, roots: &[Root], leaves: &[Leaf], used: &Used, entries: &[AtomicU64]) -> Result<(), Odd> {
    // Which leaf a page is, counted from one.
    let mut places = vec![0_u32; source.pages() as usize + 1];
    for (at, leaf) in leaves.iter().enumerate() {
        places[leaf.page as usize] = at as u32 + 1;
    }
    let run_pages = (RUN_BYTES / source.page_bytes()).max(1);
    let runs = (source.pages() as usize).div_ceil(run_pages);
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let shapes = [Shape::leaf_of_table(source), Shape::leaf_of_index(source)];
    let work = || -> Result<(), Odd> {
        let mut bytes = vec![0; run_pages * source.page_bytes()];
        let (mut fill, mut one) = (Fill::new(source), Vec::new());
        while !is_over.load(Ordering::Relaxed) {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= runs {
                return Ok(());
            }
            let first = run * run_pages + 1;
            let last = (first + run_pages - 1).min(source.pages() as usize);
            let mut next = first;
            while let Some(from) = (next..=last).find(|page| places[*page] > 0) {
                // Up to where two pages follow that are no leaves to look at: one is read along.
                let is_end = |page: &usize| places[*page] == 0 && (*page == last || places[*page + 1] == 0);
                let until = (from..=last).find(is_end).map_or(last, |end| end - 1);
                next = until + 1;
                let bytes = &mut bytes[..(until - from + 1) * source.page_bytes()];
                source.read(from as u32, bytes)?;
                for (page, bytes) in (from..=until).zip(bytes.chunks_exact(source.page_bytes())) {
                    let Some(leaf) = (places[page] as usize).checked_sub(1).and_then(|at| leaves.get(at)) else { continue };
                    let Some(root) = roots.get(leaf.root) else { continue };
                    let shape = if root.has_row_numbers { &shapes[0] } else { &shapes[1] };
                    let cells = fill.check(shape, leaf.page, bytes, leaf.keys, &mut |_, _| Ok(()))?;
                    for &(first, pages) in fill.overflows() {
                        chain(source, first, pages, used, &mut one)?;
                    }
                    entries[leaf.root].fetch_add(cells as u64, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    };
    let work = || work().inspect_err(|_| is_over.store(true, Ordering::Relaxed));
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, THREADS_MAX);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().fold(own, |all, other| all.and(other.join().unwrap_or_else(|_| Err(Odd::new("a check broke off")))))
    })
}

/// Checks that a record goes on in exactly so many pages.
fn chain(source: &Source, first: u32, pages: u64, used: &Used, bytes: &mut Vec<u8>) -> Result<(), Odd> {
    bytes.resize(source.page_bytes(), 0);
    let mut page = first;
    for _ in 0..pages {
        if page == 0 || page > source.pages() {
            return Err(Odd::new("a record ends early"));
        }
        // A page that was met before ends a circle.
        used.add(page)?;
        source.read(page, bytes)?;
        page = word(bytes, 0)?;
    }
    if page == 0 { Ok(()) } else { Err(Odd::new("a record goes on after its end")) }
}

/// Checks the list of free pages.
fn free_pages(source: &Source, head: &[u8], used: &Used) -> Result<(), Odd> {
    let (mut trunk, expected) = (word(head, 32)?, word(head, 36)?);
    let mut found: u32 = 0;
    let mut bytes = vec![0; source.page_bytes()];
    while trunk != 0 {
        used.add(trunk)?;
        source.read(trunk, &mut bytes)?;
        let count = word(&bytes, 4)?;
        if u64::from(count) > source.usable() as u64 / 4 - 2 {
            return Err(Odd::new(format!("page {trunk} lists too many free pages")));
        }
        for at in 0..count as usize {
            let page = word(&bytes, 8 + at * 4)?;
            if page == 0 || page > source.pages() {
                return Err(Odd::new(format!("free page {page} is not there")));
            }
            used.add(page)?;
        }
        found = found.saturating_add(count).saturating_add(1);
        trunk = word(&bytes, 0)?;
    }
    if found == expected { Ok(()) } else { Err(Odd::new(format!("{found} free pages are listed, and {expected} expected"))) }
}

/// Reads a big-endian word.
fn word(bytes: &[u8], at: usize) -> Result<u32, Odd> {
    let found = bytes.get(at..at + 4).and_then(<[u8]>::first_chunk);
    found.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(|| Odd::new("a page ends early"))
}

#[cfg(test)]
mod tests;
