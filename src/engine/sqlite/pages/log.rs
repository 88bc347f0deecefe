//! The write-ahead log of a database (<https://www.sqlite.org/walformat.html>): what a read transaction sees of it.
//!
//! A transaction sees of each page the newest frame up to its mark, `mxFrame`, else what stands in the file. SQLite does not tell the mark. But the header of the
//! log's index (the `-shm` file) changes with each commit, each restart of the log and each recovery, and never back; so where it is the same before a transaction
//! begins and after it has begun, it is the header that the transaction took. That it is the header of this log is proven by the checksum over all frames.
//!
//! What is seen stays where it is as long as SQLite holds the transaction (`walTryBeginRead`, `walCheckpoint` and `walRestartLog` in `wal.c`):
//!
//! - All frames were carried over into the file (`nBackfill` is `mxFrame`, as in an empty log): the file alone is what is seen. If SQLite holds read lock 0, nobody
//!   writes the file; if it holds another, nobody carries over what comes after the mark of that lock. The log may be started anew: it is not read.
//! - Some were not: then some were not when the transaction began either, since under one header the number only grows. So SQLite holds a read lock other than 0,
//!   nobody starts the log anew or cuts it off, and the frames up to the mark stay as they are. That some of them are carried over meanwhile changes nothing:
//!   pages that have a frame are not read from the file.
//!
//! The index is never read where SQLite may do without it: if this user may not write it, SQLite may have made an index of its own in memory. The two files have
//! the byte order of the machine (the index) and the highest byte first (the log, whose checksums are of either).

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Odd;
use super::held::Held;
use super::source::read_exact_at;

/// The version of both formats.
const VERSION: u32 = 3_007_000;

/// Bytes of one of the two copies of the header of the index.
const INDEX_HEADER_BYTES: usize = 48;

const LOG_HEADER_BYTES: usize = 32;

const FRAME_HEADER_BYTES: usize = 24;

/// The first bytes of a log, but for their last bit: whether checksums take the highest byte first.
const MAGIC: u32 = 0x377f_0682;

/// How many bytes of a log are read at once.
const RUN_BYTES: usize = 256 * 1024;

/// The index of a log, which stays open as long as this lives; to be dropped after the connection.
#[derive(Debug)]
pub(in crate::engine::sqlite) struct Index {
    held: Held,
    database: PathBuf,
    is_writable: bool,
}

/// What an index says at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::sqlite) struct Mark {
    header: [u8; INDEX_HEADER_BYTES],
    /// How many frames were carried over into the file.
    carried: u32,
    /// The database, under the name beside which SQLite keeps the log.
    database: PathBuf,
}

impl Index {
    /// Opens the index of a database's log, if there is one, in the place of what was open before.
    ///
    /// To be called while a connection is open that made or found the index: then nobody removes it before the connection closes.
    pub fn hold(open: &mut Option<Self>, database: &Path) {
        // SQLite keeps it beside the file itself, not beside a link to it.
        let Ok(database) = database.canonicalize() else { return };
        let path = super::super::beside(&database, "-shm");
        let id = super::super::file_id(&path);
        if open.as_ref().is_some_and(|index| Some(index.held.id()) == id && index.database == database) {
            return;
        }
        // The one before, if any, has no name any more: nobody of this process has locks on it.
        let is_writable = is_writable(&path);
        *open = Held::of(&path, id).map(|held| Self { held, database, is_writable });
    }

    /// Reads the index; none where somebody is writing it, or it may not be the one that SQLite uses.
    pub fn mark(&self) -> Option<Mark> {
        let header = self.header()?;
        let mut carried = [0; 4];
        read_exact_at(self.held.file(), &mut carried, 2 * INDEX_HEADER_BYTES as u64).ok()?;
        // Between two readings of one header, the number is of that header.
        let is_whole = self.is_writable && self.header()? == header;
        is_whole.then(|| Mark { header, carried: u32::from_ne_bytes(carried), database: self.database.clone() })
    }

    /// Reads the header, if both copies say the same.
    fn header(&self) -> Option<[u8; INDEX_HEADER_BYTES]> {
        let mut copies = [0; 2 * INDEX_HEADER_BYTES];
        read_exact_at(self.held.file(), &mut copies, 0).ok()?;
        let (first, second) = copies.split_first_chunk::<INDEX_HEADER_BYTES>()?;
        (first == second).then_some(*first)
    }
}

#[cfg(unix)]
fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
fn is_writable(_: &Path) -> bool {
    false
}

impl Mark {
    /// Tells whether both are of one state of the database, however much of the log was carried over.
    pub fn is_same_state(&self, other: &Self) -> bool {
        (self.header, &self.database) == (other.header, &other.database)
    }

    fn word(&self, at: usize) -> u32 {
        self.header.get(at..at + 4).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn frames(&self) -> u32 {
        self.word(16)
    }

    fn pages(&self) -> u32 {
        self.word(20)
    }

    fn page_bytes(&self) -> usize {
        match u16::from_ne_bytes([self.header[14], self.header[15]]) {
            1 => 65_536,
            other => usize::from(other),
        }
    }

    fn is_sound(&self) -> bool {
        let sum = (self.word(40), self.word(44));
        let words = self.header.get(..40).unwrap_or_default();
        self.word(0) == VERSION && self.header[12] == 1 && checksum(words, (0, 0), cfg!(target_endian = "big")) == sum
    }
}

/// The frames of a log that a transaction sees.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    page_bytes: usize,
    salts: [u8; 8],
    /// Each page that has frames, with its newest, in the order of the pages.
    frames: Vec<(u32, u32)>,
}

impl Log {
    /// Takes the frames that a transaction sees, whose mark was found when it had begun; `pages` is how many pages it sees. None where the file has everything.
    pub fn of(mark: &Mark, pages: u32) -> Result<Option<Self>, Odd> {
        if !mark.is_sound() {
            return Err(Odd::new("the index of its write-ahead log is none"));
        }
        if mark.frames() == 0 || mark.carried >= mark.frames() {
            return Ok(None);
        }
        if mark.pages() != pages {
            return Err(Odd::new("its write-ahead log has another number of pages"));
        }
        let path = super::super::beside(&mark.database, "-wal");
        let file = File::open(path).map_err(|error| Odd::new(format!("its write-ahead log cannot be opened: {error}")))?;
        Self::read_all(file, mark).map(Some)
    }

    /// Reads all frames up to the mark, and proves that they are those of it.
    fn read_all(file: File, mark: &Mark) -> Result<Self, Odd> {
        let odd = || Odd::new("its write-ahead log is not that of its index");
        let mut head = [0; LOG_HEADER_BYTES];
        read_exact_at(&file, &mut head, 0)?;
        let word = |at: usize| word(&head, at);
        let page_bytes = mark.page_bytes();
        let is_big = word(0) & 1 == 1;
        let mut sum = checksum(&head[..24], (0, 0), is_big);
        let is_of_index =
            word(0) & !1 == MAGIC && word(4) == VERSION && word(8) as usize == page_bytes && head[16..24] == mark.header[32..40];
        if !is_of_index || sum != (word(24), word(28)) || !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
            return Err(odd());
        }
        let mut log = Self { file, page_bytes, salts: [0; 8], frames: Vec::new() };
        log.salts.copy_from_slice(&head[16..24]);
        let frame_bytes = FRAME_HEADER_BYTES + page_bytes;
        let at_once = (RUN_BYTES / frame_bytes).max(1);
        let mut bytes = Vec::new();
        let mut next = 1;
        while next <= mark.frames() {
            let count = at_once.min((mark.frames() - next) as usize + 1);
            bytes.resize(count * frame_bytes, 0);
            read_exact_at(&log.file, &mut bytes, log.offset(next))?;
            for frame in bytes.chunks_exact(frame_bytes) {
                let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
                sum = checksum(page, checksum(&head[..8], sum, is_big), is_big);
                let page = self::word(head, 0);
                if head[8..16] != log.salts || sum != (self::word(head, 16), self::word(head, 20)) || page == 0 {
                    return Err(odd());
                }
                log.frames.push((page, next));
                next = next.checked_add(1).ok_or_else(odd)?;
            }
        }
        if sum != (mark.word(24), mark.word(28)) {
            return Err(odd());
        }
        log.frames.sort_unstable_by_key(|&(page, frame)| (page, u32::MAX - frame));
        log.frames.dedup_by_key(|(page, _)| *page);
        log.frames.shrink_to_fit();
        Ok(log)
    }

    /// Returns the bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Lists which of some pages stand in the log, each with its frame, in order.
    pub fn within(&self, pages: Range<u64>) -> &[(u32, u32)] {
        let from = self.frames.partition_point(|(page, _)| u64::from(*page) < pages.start);
        let rest = self.frames.get(from..).unwrap_or_default();
        // Few are asked for at once.
        let count = rest.iter().take_while(|(page, _)| u64::from(*page) < pages.end).count();
        rest.get(..count).unwrap_or_default()
    }

    /// Reads a page from its frame, and looks once more whether it is that page's.
    pub fn read(&self, (page, frame): (u32, u32), bytes: &mut [u8]) -> Result<(), Odd> {
        let offset = self.offset(frame);
        read_exact_at(&self.file, bytes, offset + FRAME_HEADER_BYTES as u64)?;
        // After the content: who writes a frame anew writes its header first.
        let mut head = [0; FRAME_HEADER_BYTES];
        read_exact_at(&self.file, &mut head, offset)?;
        if word(&head, 0) == page && head[8..16] == self.salts { Ok(()) } else { Err(Odd::new("its write-ahead log was started anew")) }
    }

    /// Returns where a frame begins; the first is 1.
    fn offset(&self, frame: u32) -> u64 {
        let before = u64::from(frame).saturating_sub(1);
        LOG_HEADER_BYTES as u64 + before * (FRAME_HEADER_BYTES + self.page_bytes) as u64
    }
}

/// Reads a number of the log; 0 where it ends.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Goes on with a checksum over more bytes, whose number is a multiple of eight.
pub(super) fn checksum(bytes: &[u8], sum: (u32, u32), is_big: bool) -> (u32, u32) {
    if is_big { checksum_by(bytes, sum, u32::from_be_bytes) } else { checksum_by(bytes, sum, u32::from_le_bytes) }
}

#[inline]
fn checksum_by(bytes: &[u8], (mut first, mut second): (u32, u32), word: impl Fn([u8; 4]) -> u32) -> (u32, u32) {
    let (pairs, _) = bytes.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in pairs {
        first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
        second = second.wrapping_add(word([e, f, g, h])).wrapping_add(first);
    }
    (first, second)
}
