//! Which pages a transaction has changed, by what SQLite keeps to undo it.
//!
//! Before SQLite changes a page that had content when the transaction began, it writes that content to the rollback journal; it could not roll back otherwise. So a
//! page that stood in the file then, and is not in the journal, is what it was. The format: <https://www.sqlite.org/fileformat2.html>, section 3.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use super::Odd;
use super::source::read_exact_at;

const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// The bytes of a journal's header that say something; it fills a sector.
const HEADER_BYTES: usize = 28;

/// The sizes that a sector can have.
const SECTOR_BYTES: std::ops::RangeInclusive<u64> = 32..=65_536;

/// Lists the pages in a rollback journal that is being written in this process; none where there is no journal.
pub(super) fn changed_pages(journal: &Path, page_bytes: usize) -> Result<HashSet<u32>, Odd> {
    let odd = || Odd::new("its journal is not as expected");
    let mut pages = HashSet::new();
    let file = match File::open(journal) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(pages),
        Err(error) => return Err(Odd::new(format!("its journal cannot be read: {error}"))),
    };
    let length = file.metadata().map_err(|_| odd())?.len();
    // Each record has the page's number, its content and a checksum.
    let record = page_bytes as u64 + 8;
    let mut at = 0;
    while at + HEADER_BYTES as u64 <= length {
        let mut header = [0; HEADER_BYTES];
        read_exact_at(&file, &mut header, at)?;
        let number = |from: usize| u32::from_be_bytes(std::array::from_fn(|byte| header[from + byte]));
        let (records, sector) = (u64::from(number(8)), u64::from(number(20)));
        // A header that is not synced yet has no magic.
        let is_begun = header[..12] == [0; 12];
        if !is_begun && header[..8] != MAGIC || !SECTOR_BYTES.contains(&sector) || number(24) as usize != page_bytes {
            return Err(odd());
        }
        at += sector;
        let room = length.saturating_sub(at) / record;
        // The last header may not be written anew yet.
        let records = if records == 0 || records == u64::from(u32::MAX) { room } else { records };
        if records > room {
            return Err(odd());
        }
        for _ in 0..records {
            let mut number = [0; 4];
            read_exact_at(&file, &mut number, at)?;
            pages.insert(u32::from_be_bytes(number));
            at += record;
        }
        at = at.next_multiple_of(sector);
    }
    Ok(pages)
}
