//! Where a file's bytes are cut, and how they are put into the store and taken out.
//!
//! A file of at most [`CHUNK_BYTES_MIN`] bytes is one chunk. A longer one is cut by FastCDC as its version of 2020 has it (gear table and masks of the crate
//! `fastcdc`, normalisation level 1, seed 0) with the sizes below; they *must* stay as they are, or files that did not change would be stored again. A test
//! holds the cuts of a file that is known.

use std::io::{self, Read};

use fastcdc::v2020::StreamCDC;

use super::super::compare::Objects;
use super::{CHUNKS_INLINE_MAX, Entry, FilesError};
use crate::id::ObjectId;
use crate::store::{Batch, StoreError};

/// The shortest chunk but for a file's last.
pub const CHUNK_BYTES_MIN: usize = 16 * 1024;

/// The length that cutting aims at.
pub const CHUNK_BYTES_TARGET: usize = 64 * 1024;

/// The longest chunk.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// A list of chunks ends with the one whose id begins with at most this number.
const LIST_CUT_MAX: u64 = u64::MAX / 64;

/// How many chunks a list has at least, but for the last.
const LIST_CHUNKS_MIN: usize = 16;

/// How many chunks a list has at most.
const LIST_CHUNKS_MAX: usize = 256;

/// What stopped the reading of a file.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The file.
    #[error("the file cannot be read")]
    File(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Cuts what a reader gives into chunks; returns how many bytes it gave.
///
/// # Errors
/// The reader's, and the sink's.
pub fn cut(mut source: impl Read, sink: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>) -> Result<u64, ContentError> {
    let mut head = Vec::new();
    source.by_ref().take(CHUNK_BYTES_MIN as u64 + 1).read_to_end(&mut head).map_err(ContentError::File)?;
    if head.len() <= CHUNK_BYTES_MIN {
        if !head.is_empty() {
            sink(&head)?;
        }
        return Ok(head.len() as u64);
    }
    let mut bytes = 0;
    for chunk in StreamCDC::new(head.as_slice().chain(source), CHUNK_BYTES_MIN, CHUNK_BYTES_TARGET, CHUNK_BYTES_MAX) {
        let chunk = chunk.map_err(|error| ContentError::File(error.into()))?;
        bytes += chunk.data.len() as u64;
        sink(&chunk.data)?;
    }
    Ok(bytes)
}

/// Puts what a reader gives into a batch, and makes it the entry's content. `earlier` are the chunks that the file had: they are likely to be similar.
///
/// # Errors
/// The reader's and the store's; the entry has no content then.
pub fn put(batch: &Batch<'_>, source: impl Read, entry: &mut Entry, earlier: &[ObjectId]) -> Result<(), ContentError> {
    (entry.size, entry.chunks, entry.lists) = (0, Vec::new(), Vec::new());
    let mut chunks = Vec::new();
    let size = cut(source, &mut |bytes| {
        let base = earlier.get(chunks.len());
        chunks.push(batch.put(bytes, base)?);
        Ok(())
    })?;
    entry.size = size;
    if chunks.len() <= CHUNKS_INLINE_MAX {
        entry.chunks = chunks;
    } else {
        for list in lists(&chunks) {
            let json = serde_json::to_vec(list).expect("ids serialise");
            entry.lists.push(batch.put(&json, None)?);
        }
    }
    Ok(())
}

/// Cuts a long file's chunks into lists.
fn lists(mut chunks: &[ObjectId]) -> Vec<&[ObjectId]> {
    let mut lists = Vec::new();
    while !chunks.is_empty() {
        let is_cut = |id: &ObjectId| u64::from_be_bytes(std::array::from_fn(|at| id.0[at])) <= LIST_CUT_MAX;
        let bound = chunks.len().min(LIST_CHUNKS_MAX);
        let end = (LIST_CHUNKS_MIN..bound).find(|&end| is_cut(&chunks[end - 1])).unwrap_or(bound);
        let (list, rest) = chunks.split_at(end);
        lists.push(list);
        chunks = rest;
    }
    lists
}

/// Returns the ids of a file's chunks, in their order.
///
/// # Errors
/// [`FilesError`] where a list is missing or is none.
pub fn chunks(objects: &dyn Objects, entry: &Entry) -> Result<Vec<ObjectId>, FilesError> {
    let mut chunks = entry.chunks.clone();
    for list in &entry.lists {
        let json = objects.read(list).map_err(FilesError::Read)?;
        let ids: Vec<ObjectId> =
            serde_json::from_slice(&json).map_err(|error| FilesError::Malformed { id: *list, what: error.to_string() })?;
        chunks.extend(ids);
    }
    Ok(chunks)
}

/// Gives a file's bytes to a sink, piece by piece.
///
/// # Errors
/// [`FilesError`] where an object is missing or damaged, or the pieces have not the file's size; the sink's, as [`FilesError::Read`].
pub fn read(objects: &dyn Objects, entry: &Entry, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), FilesError> {
    let mut bytes = 0_u64;
    let mut last = None;
    for id in chunks(objects, entry)? {
        let chunk = objects.read(&id).map_err(FilesError::Read)?;
        bytes = bytes.saturating_add(chunk.len() as u64);
        if bytes > entry.size {
            break;
        }
        sink(&chunk).map_err(|error| FilesError::Read(error.into()))?;
        last = Some(id);
    }
    if bytes == entry.size {
        return Ok(());
    }
    let what = format!("the chunks of `{}` have not the {} bytes that the file has", entry.path, entry.size);
    Err(FilesError::Malformed { id: last.unwrap_or(ObjectId([0; 32])), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look like chance and are the same everywhere.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn lengths(bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let total = cut(bytes, &mut |chunk| {
            lengths.push(chunk.len());
            Ok(())
        });
        assert_eq!(total.expect("memory"), bytes.len() as u64);
        lengths
    }

    #[test]
    fn the_cuts_of_a_known_file_stay_where_they_are() {
        assert_eq!(lengths(&noise(1_000_000)), GOLDEN);
        assert_eq!(lengths(&vec![0; 600_000]), [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 600_000 - 2 * CHUNK_BYTES_MAX]);
    }

    const GOLDEN: &[usize] = &[71_088, 66_480, 100_652, 128_639, 102_442, 92_174, 121_669, 113_315, 77_339, 74_154, 52_048];

    #[test]
    fn a_small_file_is_one_chunk_and_an_empty_one_none() {
        assert_eq!(lengths(b""), [0_usize; 0]);
        assert_eq!(lengths(b"x"), [1]);
        assert_eq!(lengths(&noise(CHUNK_BYTES_MIN)), [CHUNK_BYTES_MIN]);
    }

    #[test]
    fn an_insertion_moves_the_cuts_around_it_and_no_others() {
        let chunks = |bytes: &[u8]| {
            let mut ids = std::collections::HashSet::new();
            cut(bytes, &mut |chunk| {
                ids.insert(ObjectId::of(chunk));
                Ok(())
            })
            .expect("memory");
            ids
        };
        let before = noise(4_000_000);
        let mut after = before.clone();
        after.splice(2_000_000..2_000_000, *b"inserted");
        let (before, after) = (chunks(&before), chunks(&after));
        assert!(after.difference(&before).count() <= 3, "{} of {} chunks are new", after.difference(&before).count(), after.len());
    }

    #[test]
    fn lists_of_chunks_are_cut_by_content() {
        let ids: Vec<ObjectId> = (0..2_000_u32).map(|n| ObjectId::of(&n.to_le_bytes())).collect();
        let whole = lists(&ids);
        assert_eq!(whole.concat(), ids);
        let mut changed = ids.clone();
        changed.insert(1_000, ObjectId([7; 32]));
        let changed = lists(&changed);
        assert!(changed.iter().filter(|list| !whole.contains(list)).count() <= 2);
    }
}
