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

/// Lists the pages in the rollback journal of a transaction of this process.
///
/// # Errors
/// [`Odd`] where the journal is not whole, and where there is none: a transaction that has not written has none, but neither has one whose journal is kept elsewhere.
pub(super) fn changed_pages(journal: &Path, page_bytes: usize) -> Result<HashSet<u32>, Odd> {
    let odd = || Odd::new("its journal is not as expected");
    let mut pages = HashSet::new();
    let file = File::open(journal).map_err(|error| Odd::new(format!("its journal cannot be read: {error}")))?;
    let length = file.metadata().map_err(|_| odd())?.len();
    if length < HEADER_BYTES as u64 {
        return Err(odd());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_lists_the_pages_that_a_transaction_changed_and_what_is_none_is_odd() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, journal) = (folder.path().join("a.db"), folder.path().join("a.db-journal"));
        let connection = rusqlite::Connection::open(&path).expect("a database");
        let sql = "PRAGMA page_size=1024; CREATE TABLE t(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<900) INSERT INTO t SELECT hex(i*i) FROM n";
        connection.execute_batch(sql).expect("made");
        assert!(changed_pages(&journal, 1024).is_err(), "there is no journal");
        let before = std::fs::read(&path).expect("read");
        connection.execute_batch("BEGIN; UPDATE t SET a='x' WHERE rowid % 90 = 0").expect("changed");
        connection.cache_flush().expect("flushed");
        connection.execute_batch("DELETE FROM t WHERE rowid=5").expect("changed");
        connection.cache_flush().expect("flushed");
        let found = changed_pages(&journal, 1024).expect("a journal");
        let after = std::fs::read(&path).expect("read");
        let differ = (1_u32..).zip(before.chunks(1024).zip(after.chunks(1024))).filter(|(_, (before, after))| before != after);
        let differ: Vec<u32> = differ.map(|(page, _)| page).collect();
        assert!(differ.len() > 5 && differ.iter().all(|page| found.contains(page)), "{differ:?} {found:?}");
        assert!(found.len() < before.len() / 1024);
        assert!(changed_pages(&journal, 512).is_err(), "pages of another size");
        let other = folder.path().join("other");
        for bytes in [&b""[..], &[0; 27], &[7; 600]] {
            std::fs::write(&other, bytes).expect("written");
            assert!(changed_pages(&other, 1024).is_err());
        }
    }
}
