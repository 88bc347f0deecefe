//! Encryption at rest: what is sealed, how, and against whom. [`super::keys`] tells how the master key is kept.
//!
//! ## Threat model
//! Whoever reads, copies or changes the store's files without a key (a backup, a synced folder, a stolen disk, a bucket) *must not* learn what the
//! database holds or held, its schema, its place, what tags and commands are called, nor be able to test a guess of any of these; and what they
//! change, exchange or move to another place in the store *must* be noticed where it is read.
//!
//! They do see: how many packs, snapshots, tags and operations there are, how long each file is, when it was written, and which files came together;
//! the store's own random id; how the master key is kept (kinds, labels and times of keys); and while a command runs, its name, process and host (`lock`).
//! They can delete files, or put a whole older copy of the store in its place: fsck names what is missing, but an old whole store is a whole store.
//! Who has the machine while dbelay runs with the key, the database itself, scratch databases of rehearsals and drills, exports, and what a file system
//! keeps of deleted files are out of reach of this.
//!
//! ## Keys
//! The master key is 32 random bytes. From it follow, by HMAC-SHA256 under it, the key of these labels: `dbelay 1 seal` (sealing), `dbelay 1 names` (names),
//! `dbelay 1 id` (its first 16 bytes in hex are the id of the master key, which `config.json` shows).
//!
//! ## Sealed bytes
//! A random nonce of 24 bytes, then the output of XChaCha20-Poly1305 (RFC 8439 with the extended nonce of draft-irtf-cfrg-xchacha): as many bytes as the
//! plain ones, and a tag of 16. The associated data is the word for the place, a zero byte, and the place itself:
//!
//! | what | word | place |
//! |---|---|---|
//! | an object's payload in a pack (already compressed) | `object` | the object's id, 32 bytes |
//! | a pack's index | `index` | nothing |
//! | a snapshot's file | `snapshot` | its file's name without ending |
//! | a small file that is called by a name (a tag) | the folder's name | its file's name |
//! | a line of the operation log | `operation` | its number, 8 bytes little endian |
//! | a file of the cache | `cache` | its file's name |
//! | what a key's file keeps | `key` | the rest of that file |
//!
//! ## Names
//! Where a file's name would tell an id or a word, it is instead the HMAC-SHA256 of word, zero byte and name under the names key, in hex.
//! Ids stay what they are, the SHA-256 of plain bytes, but no file and no index shows them without the key. So a snapshot has the same id in every store,
//! encrypted or not.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::id::ObjectId;

/// How many bytes a key has.
pub const KEY_BYTES: usize = 32;
/// How many bytes longer sealed bytes are than plain ones.
pub const OVERHEAD_BYTES: u64 = 24 + 16;
/// How many bytes a nonce has.
const NONCE_BYTES: usize = 24;

/// Fills a slice with random bytes.
pub type Random = fn(&mut [u8]);

/// A secret key.
pub type SecretKey = Zeroizing<[u8; KEY_BYTES]>;

/// Sealed bytes do not open: another key sealed them, or they are not what was sealed, or not where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was not sealed with this key for this place, or was changed since")]
pub struct NotSealed;

/// The place that sealed bytes belong to.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// An object's payload.
    Object(&'a ObjectId),
    /// A pack's index.
    Index,
    /// A file that stands in a folder under a name.
    File(&'a str, &'a str),
    /// A line of the operation log.
    Operation(u64),
    /// What a key's file keeps, with the rest of that file.
    Key(&'a [u8]),
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        let join = |word: &str, rest: &[u8]| [word.as_bytes(), &[0], rest].concat();
        match self {
            Self::Object(id) => join("object", &id.0),
            Self::Index => join("index", &[]),
            Self::File(word, name) => join(word, name.as_bytes()),
            Self::Operation(n) => join("operation", &n.to_le_bytes()),
            Self::Key(rest) => join("key", rest),
        }
    }
}

/// Seals and opens with one key; wiped from memory when it goes.
#[derive(Clone)]
pub struct Seal {
    aead: XChaCha20Poly1305,
    random: Random,
}

impl Seal {
    /// Takes a key.
    pub fn new(key: &SecretKey, random: Random) -> Self {
        Self { aead: XChaCha20Poly1305::new(&Key::from(**key)), random }
    }

    /// Seals bytes for a place.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        (self.random)(&mut nonce);
        let payload = Payload { msg: plain, aad: &place.bytes() };
        let sealed = self.aead.encrypt(&XNonce::from(nonce), payload).expect("what fits into memory is short enough for the cipher");
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// [`NotSealed`].
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, NotSealed> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(NotSealed)?;
        self.aead.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &place.bytes() }).map_err(|_| NotSealed)
    }
}

/// Computes the HMAC-SHA256 of parts, one after the other.
pub fn keyed_hash(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> SecretKey {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A master key, and what follows from it.
pub struct Cipher {
    id: String,
    master: SecretKey,
    names: SecretKey,
    seal: Seal,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({})", self.id)
    }
}

impl Cipher {
    /// Makes a master key.
    pub fn generate(random: Random) -> Self {
        let mut master = SecretKey::default();
        random(&mut *master);
        Self::of(master, random)
    }

    /// Takes a master key.
    pub fn of(master: SecretKey, random: Random) -> Self {
        let key = |label: &[u8]| keyed_hash(&master, &[label]);
        Self { id: hex(&key(b"dbelay 1 id")[..16]), names: key(b"dbelay 1 names"), seal: Seal::new(&key(b"dbelay 1 seal"), random), master }
    }

    /// Returns the master key's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the master key.
    pub fn master(&self) -> &SecretKey {
        &self.master
    }

    /// Returns the name that a file has in a folder.
    pub fn name(&self, folder: &str, name: &str) -> String {
        hex(&*self.mac(folder, name.as_bytes()))
    }

    /// Proves bytes for a purpose.
    pub fn mac(&self, purpose: &str, bytes: &[u8]) -> SecretKey {
        keyed_hash(&self.names, &[purpose.as_bytes(), &[0], bytes])
    }

    /// Seals bytes for a place.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        self.seal.seal(place, plain)
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// [`NotSealed`].
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, NotSealed> {
        self.seal.open(place, sealed)
    }
}

/// The keys of an open store.
#[derive(Debug, Clone)]
pub struct Vault {
    /// The master key that everything new is sealed with.
    pub current: Arc<Cipher>,
    /// The one that it takes the place of, while not everything is sealed anew.
    pub former: Option<Arc<Cipher>>,
    /// Whether files that are not encrypted may still be there.
    pub has_plain: bool,
}

impl Vault {
    /// Returns the keys, the current one first.
    pub fn ciphers(&self) -> impl Iterator<Item = &Arc<Cipher>> {
        std::iter::once(&self.current).chain(&self.former)
    }

    /// Tells whether everything is sealed with the current key.
    pub fn is_settled(&self) -> bool {
        self.former.is_none() && !self.has_plain
    }

    /// Opens what one of the keys sealed for a place; tells which.
    ///
    /// # Errors
    /// [`NotSealed`].
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<(Vec<u8>, &Arc<Cipher>), NotSealed> {
        self.ciphers().find_map(|cipher| Some((cipher.open(place, sealed).ok()?, cipher))).ok_or(NotSealed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bytes that only tests may take for random ones.
    pub fn random(bytes: &mut [u8]) {
        use std::sync::atomic::{AtomicU64, Ordering};
        static STATE: AtomicU64 = AtomicU64::new(1);
        for chunk in bytes.chunks_mut(8) {
            let next = xxhash_rust::xxh3::xxh3_64(&STATE.fetch_add(1, Ordering::Relaxed).to_le_bytes()).to_le_bytes();
            chunk.copy_from_slice(&next[..chunk.len()]);
        }
    }

    fn cipher(byte: u8) -> Cipher {
        Cipher::of(Zeroizing::new([byte; KEY_BYTES]), random)
    }

    #[test]
    fn what_was_sealed_opens_only_with_its_key_and_in_its_place() {
        let (mine, other) = (cipher(1), cipher(2));
        let sealed = mine.seal(Place::File("tags", "a"), b"words");
        assert_eq!(mine.open(Place::File("tags", "a"), &sealed).as_deref(), Ok(b"words".as_slice()));
        for place in [Place::File("tags", "b"), Place::File("cache", "a"), Place::Index, Place::Operation(0)] {
            assert_eq!(mine.open(place, &sealed), Err(NotSealed), "{place:?}");
        }
        assert_eq!(other.open(Place::File("tags", "a"), &sealed), Err(NotSealed));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let cipher = cipher(1);
        let sealed = cipher.seal(Place::Index, b"an index");
        assert_eq!(sealed.len() as u64, 8 + OVERHEAD_BYTES);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1 << (at % 8);
            assert_eq!(cipher.open(Place::Index, &changed), Err(NotSealed), "byte {at}");
            assert_eq!(cipher.open(Place::Index, &sealed[..at]), Err(NotSealed), "{at} bytes");
        }
    }

    #[test]
    fn the_same_bytes_are_never_sealed_to_the_same() {
        let cipher = cipher(1);
        assert_ne!(cipher.seal(Place::Index, b"x"), cipher.seal(Place::Index, b"x"));
    }

    #[test]
    fn names_follow_from_key_folder_and_name() {
        assert_eq!(cipher(1).name("tags", "v1"), cipher(1).name("tags", "v1"));
        assert_ne!(cipher(1).name("tags", "v1"), cipher(2).name("tags", "v1"));
        assert_ne!(cipher(1).name("tags", "v1"), cipher(1).name("pins", "v1"));
        // Written once, by this format's first version.
        assert_eq!(cipher(1).id(), "de62609b778a79c29c5d7ccdf7baf50c");
        assert_eq!(cipher(1).name("tags", "v1"), "838e13a9a645968508a4c4767256e0c6800f8c2bfdb464585219c9c4960f5290");
    }
}
