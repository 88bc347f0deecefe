//! The pages of a database as one transaction sees them.
//!
//! Exact as long as SQLite holds a read transaction that began before: with a rollback journal its lock keeps everybody from writing the file; for what holds with a
//! write-ahead log, see [`log`](super::log).

use std::fs::File;
use std::sync::Arc;

use super::super::text::Encoding;
use super::Odd;
use super::log::Log;

/// How many bytes are read at once where pages follow one another.
const RUN_BYTES: usize = 256 * 1024;

/// The smallest and the largest page, in bytes.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// The pages of one state.
#[derive(Debug)]
pub(super) struct Source {
    file: Arc<File>,
    /// What is newer than the file.
    log: Option<Log>,
    page_bytes: usize,
    usable: usize,
    pages: u32,
    encoding: Encoding,
}

/// What the header of a database says (<https://www.sqlite.org/fileformat2.html>, section 1.3).
struct Header {
    /// Bytes a page.
    pub page_bytes: usize,
    /// Bytes of each page that are kept for others.
    reserved: usize,
}

impl Header {
    /// Takes apart the first bytes of the first page.
    fn of(bytes: &[u8; 100]) -> Result<Self, Odd> {
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
        Ok(Self { page_bytes, reserved })
    }
}

impl Source {
    /// Takes the pages of a file, and of the log where there are newer ones; `pages` is how many the transaction sees.
    pub fn of(file: Arc<File>, log: Option<Log>, pages: u32, encoding: Encoding) -> Result<Self, Odd> {
        let mut head = [0; 100];
        match log.as_ref().and_then(|log| Some((log, *log.within(1..2).first()?))) {
            Some((log, place)) => log.read(place, &mut head)?,
            None => read_exact_at(&file, &mut head, 0)?,
        }
        let header = Header::of(&head)?;
        if log.as_ref().is_some_and(|log| log.page_bytes() != header.page_bytes) {
            return Err(Odd::new("its write-ahead log has pages of another size"));
        }
        Ok(Self { file, log, page_bytes: header.page_bytes, usable: header.page_bytes - header.reserved, pages, encoding })
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
        let Some(log) = &self.log else { return read_exact_at(&self.file, bytes, self.offset(first.into())) };
        let mut next = u64::from(first);
        let mut rest = bytes;
        for &(page, frame) in log.within(next..last) {
            let (before, after) = rest.split_at_mut((u64::from(page) - next) as usize * self.page_bytes);
            let (here, after) = after.split_at_mut(self.page_bytes);
            read_padded_at(&self.file, before, self.offset(next))?;
            log.read((page, frame), here)?;
            (next, rest) = (u64::from(page) + 1, after);
        }
        read_padded_at(&self.file, rest, self.offset(next))
    }

    /// Returns where a page begins in the file; the first is 1.
    fn offset(&self, page: u64) -> u64 {
        page.saturating_sub(1) * self.page_bytes as u64
    }
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), Odd> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset).map_err(|error| Odd::new(format!("it cannot be read: {error}")))
}

/// Reads what there is, and zeros after it, as SQLite does: the file may end before pages that were never written because nothing stands in them.
#[cfg(unix)]
fn read_padded_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> Result<(), Odd> {
    while !bytes.is_empty() {
        let count = match std::os::unix::fs::FileExt::read_at(file, bytes, offset) {
            Ok(0) => {
                bytes.fill(0);
                return Ok(());
            }
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Odd::new(format!("it cannot be read: {error}"))),
        };
        let rest = std::mem::take(&mut bytes);
        bytes = rest.get_mut(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}

#[cfg(not(unix))]
fn read_padded_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), Odd> {
    read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
pub(super) fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> Result<(), Odd> {
    Err(Odd::new("this system has no positional reads"))
}
