//! Which column chunks were read for the large values that they name, and what was found: a file of the store's cache.
//!
//! What a chunk names never changes, since its id is that of its bytes; so the file is never out of date. It begins with [`MAGIC`]; for
//! each chunk follow its id, how many large values it names (four bytes, little endian), and their ids; then the SHA-256 of all that. A file
//! that is anything else is taken as none, and the chunks are read again: in doubt nothing is believed.

use std::sync::{Mutex, PoisonError};

use crate::id::ObjectId;
use crate::snapshot::reach::{Role, Visitor};
use crate::store::{Mark, Marks, Store};

/// The first bytes.
const MAGIC: &[u8; 8] = b"DBLYREF1";

/// The file's name in the cache.
const NAME: &str = "large-values";

/// Chunks that need not be read.
pub(super) struct Scanned<'a> {
    store: &'a Store,
    marks: Marks,
    /// The file as it will be, without its end.
    bytes: Mutex<Vec<u8>>,
    /// How many bytes of it were there before.
    known: usize,
}

impl<'a> Scanned<'a> {
    /// Reads what is known of chunks that are needed, and tells of what they name. What is known of others is left out.
    pub(super) fn read(store: &'a Store, chunks: &Marks, visitor: &dyn Visitor) -> Self {
        let mut scanned = Self { store, marks: store.marks(), bytes: Mutex::new(MAGIC.to_vec()), known: MAGIC.len() };
        let file = store.read_cache(NAME).unwrap_or_default();
        let proven = file.split_last_chunk::<32>().filter(|(rest, check)| ObjectId::of(rest).0 == **check);
        let mut rest = proven.and_then(|(rest, _)| rest.strip_prefix(MAGIC)).unwrap_or_default();
        while let Some((chunk, large)) = take(&mut rest) {
            if store.is_marked(chunks, &chunk) {
                for id in &large {
                    visitor.meet(id, Role::Large);
                }
                scanned.remember(&chunk, &large);
            }
        }
        scanned.known = scanned.bytes.get_mut().unwrap_or_else(PoisonError::into_inner).len();
        scanned
    }

    /// The chunks that are known.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Remembers what a chunk names.
    pub(super) fn remember(&self, chunk: &ObjectId, large: &[ObjectId]) {
        let Ok(count) = u32::try_from(large.len()) else { return };
        if self.store.mark(&self.marks, chunk) != Mark::New {
            return;
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend_from_slice(&chunk.0);
        bytes.extend_from_slice(&count.to_le_bytes());
        large.iter().for_each(|id| bytes.extend_from_slice(&id.0));
    }

    /// Writes the file, if there is more to remember than before.
    pub(super) fn write(self) {
        let mut bytes = self.bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > self.known {
            let check = ObjectId::of(&bytes);
            bytes.extend_from_slice(&check.0);
            self.store.write_cache(NAME, &bytes);
        }
    }
}

/// Takes what is known of one chunk from the front.
fn take(rest: &mut &[u8]) -> Option<(ObjectId, Vec<ObjectId>)> {
    let (chunk, after) = rest.split_first_chunk::<32>()?;
    let (count, after) = after.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(32)?;
    let (large, after) = after.split_at_checked(length)?;
    *rest = after;
    let (ids, _) = large.as_chunks::<32>();
    Some((ObjectId(*chunk), ids.iter().map(|id| ObjectId(*id)).collect()))
}
