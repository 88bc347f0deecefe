//! The pages of a database as one transaction sees them.
//!
//! Exact as long as SQLite holds a read transaction that began before: with a rollback journal its lock keeps everybody from writing the file; with a
//! write-ahead log it keeps everybody from carrying over what it does not see (<https://www.sqlite.org/walformat.html>, section 2.3).

use std::fs::File;
use std::sync::Arc;

use super::super::text::Encoding;
use super::Odd;

/// How many bytes are read at once where pages follow one another.
const RUN_BYTES: usize = 256 * 1024;

/// The smallest and the largest page, in bytes.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// The pages of one state.
#[derive(Debug)]
pub(super) struct Source {
    file: Arc<File>,
    page_bytes: usize,
    usable: usize,
    pages: u32,
    encoding: Encoding,
}

/// What the header of a database says (<https://www.sqlite.org/fileformat2.html>, section 1.3).
pub(super) struct Header {
    /// Bytes a page.
    pub page_bytes: usize,
    /// Bytes of each page that are kept for others.
    reserved: usize,
    /// Whether it is written through a write-ahead log.
    pub has_log: bool,
}

impl Header {
    /// Reads the header of a file.
    pub fn read(file: &File) -> Result<Self, Odd> {
        let mut bytes = [0; 100];
        read_exact_at(file, &mut bytes, 0)?;
        let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            other => usize::from(other),
        };
        let reserved = usize::from(bytes[20]);
        if !bytes.starts_with(super::super::MAGIC) || !PAGE_BYTES.contains(&page_bytes) || !page_bytes.is_power_of_two() {
            return Err(Odd::new("its header is none"));
        }
        if page_bytes - reserved < 480 || bytes[21..24] != [64, 32, 32] {
            return Err(Odd::new("its header has odd numbers"));
        }
        Ok(Self { page_bytes, reserved, has_log: bytes[18] == 2 || bytes[19] == 2 })
    }
}

impl Source {
    /// Takes the pages of a file; `pages` is how many the transaction sees.
    pub fn new(file: Arc<File>, header: &Header, pages: u32, encoding: Encoding) -> Self {
        Self { file, page_bytes: header.page_bytes, usable: header.page_bytes - header.reserved, pages, encoding }
    }

    /// Returns the bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Returns the bytes of a page that hold content.
    pub fn usable(&self) -> usize {
        self.usable
    }

    /// Returns how many pages there are.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Returns how text is stored.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns how many pages are worth reading at once.
    pub fn run_pages(&self) -> usize {
        (RUN_BYTES / self.page_bytes).max(1)
    }

    /// Reads whole pages that follow one another, from this one on, as many as have room.
    pub fn read(&self, first: u32, bytes: &mut [u8]) -> Result<(), Odd> {
        let count = bytes.len() / self.page_bytes;
        let last = u64::from(first) + count as u64;
        if first == 0 || last > u64::from(self.pages) + 1 {
            return Err(Odd::new(format!("page {first} is not there")));
        }
        read_exact_at(&self.file, bytes, (u64::from(first) - 1) * self.page_bytes as u64)
    }
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), Odd> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset).map_err(|error| Odd::new(format!("it cannot be read: {error}")))
}

#[cfg(not(unix))]
pub(super) fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> Result<(), Odd> {
    Err(Odd::new("this system has no positional reads"))
}
