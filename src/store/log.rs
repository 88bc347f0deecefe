//! The operation log: a chain of lines, each with its own hash and that of the line before. `src/store.rs` specifies a line.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreError;
use super::crypt::{Cipher, Place, Vault};
use crate::durable;
use crate::id::ObjectId;

/// What a disk writes at once.
const SECTOR_BYTES: u64 = 512;

/// The hash before the first entry.
const NOTHING: ObjectId = ObjectId([0; 32]);

/// The longest log that is read.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// An entry of the operation log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// Its place, counted from 0.
    pub index: u64,
    /// Its hash.
    pub id: ObjectId,
    /// What it says.
    pub body: Value,
}

#[derive(Serialize, Deserialize)]
struct Link {
    prev: ObjectId,
    n: u64,
    op: Value,
}

/// What was found in a log's bytes.
#[derive(Debug, Default)]
pub struct Reading {
    /// The entries up to the first damage.
    pub entries: Vec<LogEntry>,
    /// Where the whole lines end: what follows was never reported as written.
    pub whole_bytes: u64,
    /// What is wrong, and in which line, counted from 1.
    pub damage: Option<(usize, String)>,
}

/// Reads a log; none is an empty one.
///
/// # Errors
/// What the system says. Damage is no error.
pub fn read(path: &Path, vault: Option<&Vault>) -> io::Result<Reading> {
    let bytes = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > LOG_BYTES_MAX => return Err(io::Error::other("the operation log is too long")),
        Ok(_) => fs::read(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes, vault))
}

pub(super) fn parse(bytes: &[u8], vault: Option<&Vault>) -> Reading {
    let mut reading = Reading::default();
    let mut prev = NOTHING;
    for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else {
            // A line that only lacks its end was torn by a crash; one that ends in something else was changed.
            let is_whole = |line: &[u8]| open(line, at as u64, vault).and_then(|line| decode(&line)).is_ok();
            if line.split_last().is_some_and(|(_, rest)| is_whole(rest)) && !is_whole(line) {
                reading.damage.get_or_insert((at + 1, "its end is damaged".to_owned()));
            }
            break;
        };
        reading.whole_bytes += line.len() as u64 + 1;
        if reading.damage.is_some() {
            continue;
        }
        let whole = open(line, at as u64, vault).and_then(|line| decode(&line));
        let is_last = reading.whole_bytes == bytes.len() as u64;
        if is_last && whole.is_err() && has_hole(line, reading.whole_bytes - line.len() as u64 - 1) {
            // A power cut came before all of its sectors were there.
            reading.whole_bytes -= line.len() as u64 + 1;
            break;
        }
        let checked = whole.and_then(|(id, link)| {
            if link.prev != prev {
                return Err("it does not follow the line before".to_owned());
            }
            if link.n != reading.entries.len() as u64 {
                return Err(format!("it is number {}, not {}", link.n, reading.entries.len()));
            }
            Ok(LogEntry { index: link.n, id, body: link.op })
        });
        match checked {
            Ok(entry) => {
                prev = entry.id;
                reading.entries.push(entry);
            }
            Err(what) => reading.damage = Some((at + 1, what)),
        }
    }
    reading
}

/// Opens a line, where it is sealed.
fn open<'l>(line: &'l [u8], n: u64, vault: Option<&Vault>) -> Result<Cow<'l, [u8]>, String> {
    let Some(vault) = vault else { return Ok(Cow::Borrowed(line)) };
    if vault.has_plain && line.starts_with(b"{") {
        return Ok(Cow::Borrowed(line));
    }
    let sealed = BASE64.decode(line).map_err(|_| "it is no sealed entry of the log".to_owned())?;
    let (plain, _) = vault.open(Place::Operation(n), &sealed).map_err(|error| error.to_string())?;
    Ok(Cow::Owned(plain))
}

/// Seals a line, which ends in a newline, where it is to be.
fn seal(line: Vec<u8>, n: u64, cipher: Option<&Cipher>) -> Vec<u8> {
    let Some(cipher) = cipher else { return line };
    let mut sealed = BASE64.encode(cipher.seal(Place::Operation(n), line.strip_suffix(b"\n").unwrap_or(&line))).into_bytes();
    sealed.push(b'\n');
    sealed
}

/// Seals the lines of a whole log with the current key.
pub(super) fn seal_anew(bytes: &[u8], vault: &Vault) -> Result<Vec<u8>, String> {
    let mut sealed = Vec::with_capacity(bytes.len() * 2);
    for (n, line) in (0..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
        let line = open(line.strip_suffix(b"\n").unwrap_or(line), n, Some(vault))?;
        sealed.extend(seal(line.into_owned(), n, Some(&vault.current)));
    }
    Ok(sealed)
}

/// Tells whether a line that begins at this offset lacks a whole sector: there are zeros then, which no line has, and which no changed byte
/// makes of one.
fn has_hole(line: &[u8], offset: u64) -> bool {
    let first = usize::try_from(SECTOR_BYTES - offset % SECTOR_BYTES).unwrap_or(usize::MAX).min(line.len());
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(usize::MAX);
    let (head, rest) = line.split_at(first);
    [head].into_iter().chain(rest.chunks(sector)).any(|piece| !piece.is_empty() && piece.iter().all(|byte| *byte == 0))
}

/// Takes a line apart: `{"id":"…",` and then the link's JSON without its opening brace.
fn decode(line: &[u8]) -> Result<(ObjectId, Link), String> {
    let malformed = || "it is not an entry of the log".to_owned();
    let rest = line.strip_prefix(b"{\"id\":\"").ok_or_else(malformed)?;
    let (digits, rest) = rest.split_at_checked(64).ok_or_else(malformed)?;
    let rest = rest.strip_prefix(b"\",").ok_or_else(malformed)?;
    let id: ObjectId = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
    let body = [b"{", rest].concat();
    if ObjectId::of(&body) != id {
        return Err("its hash does not fit".to_owned());
    }
    Ok((id, serde_json::from_slice(&body).map_err(|error| error.to_string())?))
}

fn encode(link: &Link) -> (ObjectId, Vec<u8>) {
    let body = serde_json::to_vec(link).expect("a link has string keys and no failing serializer");
    let id = ObjectId::of(&body);
    let mut line = format!("{{\"id\":\"{id}\",").into_bytes();
    line.extend_from_slice(&body[1..]);
    line.push(b'\n');
    (id, line)
}

/// Appends an entry durably; a torn end is cut off first. A log that is damaged is not continued.
///
/// # Errors
/// [`StoreError::Log`], [`StoreError::Io`].
pub fn append(path: &Path, body: Value, vault: Option<&Vault>) -> Result<LogEntry, StoreError> {
    let reading = read(path, vault).map_err(|source| StoreError::io("reading", path, source))?;
    if let Some((line, what)) = reading.damage {
        return Err(StoreError::Log { path: path.to_owned(), line, what });
    }
    let prev = reading.entries.last().map_or(NOTHING, |entry| entry.id);
    let link = Link { prev, n: reading.entries.len() as u64, op: body };
    let (id, line) = encode(&link);
    let line = seal(line, link.n, vault.map(|vault| &*vault.current));
    durable::append_at(path, reading.whole_bytes, &line).map_err(|source| StoreError::io("writing", path, source))?;
    Ok(LogEntry { index: link.n, id, body: link.op })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut prev = NOTHING;
        for n in 0..3 {
            let (id, line) = encode(&Link { prev, n, op: json!({ "what": n }) });
            bytes.extend_from_slice(&line);
            prev = id;
        }
        bytes
    }

    #[test]
    fn a_log_reads_back() {
        let reading = parse(&log(), None);
        assert_eq!(reading.damage, None);
        assert_eq!(reading.entries.iter().map(|entry| entry.body["what"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
        assert_eq!(reading.whole_bytes, log().len() as u64);
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let whole = log();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(parse(&flipped, None).damage.is_some(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_torn_end_is_cut_off_and_a_missing_line_is_noticed() {
        let whole = log();
        let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        for cut in lines[0].len() + lines[1].len() + 1..whole.len() {
            let reading = parse(&whole[..cut], None);
            assert_eq!((reading.damage, reading.entries.len()), (None, 2), "cut at {cut}");
            assert_eq!(reading.whole_bytes, (lines[0].len() + lines[1].len()) as u64);
        }
        let without_second = [lines[0], lines[2]].concat();
        assert_eq!(parse(&without_second, None).damage.map(|(line, _)| line), Some(2));
        let exchanged = [lines[1], lines[0]].concat();
        assert!(parse(&exchanged, None).damage.is_some());
    }

    #[test]
    fn a_last_line_of_which_a_sector_was_never_written_is_cut_off() {
        let (id, first) = encode(&Link { prev: NOTHING, n: 0, op: json!({ "what": "x".repeat(300) }) });
        let (_, second) = encode(&Link { prev: id, n: 1, op: json!({ "what": "y".repeat(1500) }) });
        let sector = usize::try_from(SECTOR_BYTES).expect("small");
        let whole = [first.clone(), second].concat();
        for lost in first.len() / sector..whole.len() / sector {
            let mut torn = whole.clone();
            torn[(lost * sector).max(first.len())..(lost + 1) * sector].fill(0);
            let reading = parse(&torn, None);
            assert_eq!((reading.damage, reading.entries.len(), reading.whole_bytes), (None, 1, first.len() as u64), "sector {lost}");
            // Within a sector nothing is lost by itself.
            torn = whole.clone();
            torn[lost * sector + 10..lost * sector + 500].fill(0);
            assert!(parse(&torn, None).damage.is_some(), "within sector {lost}");
        }
        let mut early = [whole, b"{}\n".to_vec()].concat();
        early[sector * 2..sector * 3].fill(0);
        assert!(parse(&early, None).damage.is_some(), "what is not the last line was whole once");
    }

    #[test]
    fn appending_goes_on_after_a_torn_end_and_refuses_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ops.jsonl");
        for what in 0..3 {
            append(&path, json!({ "what": what }), None).expect("appended");
        }
        let mut bytes = fs::read(&path).expect("the log");
        bytes.extend_from_slice(b"{\"id\":\"torn");
        fs::write(&path, &bytes).expect("torn");
        assert_eq!(append(&path, json!({}), None).expect("appended").index, 3);
        assert_eq!(read(&path, None).expect("read").entries.len(), 4);
        bytes[80] ^= 1;
        fs::write(&path, &bytes).expect("damaged");
        assert!(matches!(append(&path, json!({}), None), Err(StoreError::Log { line: 1, .. })));
    }
}
