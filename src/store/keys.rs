//! Keys: each is a file `keys/<id>.json` that keeps the master key, sealed with what follows from a passphrase or from a key file.
//!
//! | field | value |
//! |---|---|
//! | `format` | 1; a reader *must* refuse others |
//! | `id` | 16 hex digits, random; the file's name |
//! | `kind` | `passphrase` or `file` |
//! | `label` | what its maker called it |
//! | `created` | when, as snapshots write it |
//! | `salt` | 16 random bytes in hex |
//! | `kdf`? | for a passphrase: `{"name":"argon2id","memory_kib","passes","lanes"}` |
//! | `sealed` | base64: the current master key, and after it the former one while not everything is sealed anew; [`super::crypt`] says how it is sealed, the place being the JSON of the fields above, in this order, without white space |
//!
//! A passphrase's key is Argon2id (RFC 9106, version 0x13) of its bytes and the salt; new ones take the second of the RFC's recommended settings, 64 MiB,
//! 3 passes, 4 lanes. A key file holds `dbelay-key-1 `, 32 random bytes in base64, and a newline; its key is the HMAC-SHA256 of `dbelay 1 key file`, a zero byte and
//! the salt under those bytes, since what is random needs no stretching. A reader *must* refuse settings beyond the limits below, which a changed file could name to
//! take its memory.
//!
//! A file whose name begins with `pending-` belongs to a store that is about to be encrypted: it counts once `config.json` says that it is.

use std::fs;
use std::path::PathBuf;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::crypt::{Cipher, KEY_BYTES, Place, Random, Seal, SecretKey, keyed_hash};
use super::{Store, StoreError, entries};
use crate::durable;

/// The version of a key's file that this build reads and writes.
const FORMAT: u32 = 1;
/// What a key file begins with.
const KEY_FILE_MAGIC: &str = "dbelay-key-1 ";
/// The longest key file that is read.
pub const KEY_FILE_BYTES_MAX: u64 = 4096;
/// The largest file in `keys/` that is read.
const SLOT_BYTES_MAX: u64 = 64 * 1024;
/// What begins the name of a key of a store that is not encrypted yet.
pub(super) const PENDING: &str = "pending-";
/// How many bytes a salt has.
const SALT_BYTES: usize = 16;
/// The most memory that a key's file can ask for: 4 GiB.
const MEMORY_KIB_MAX: u32 = 4 * 1024 * 1024;
/// The most passes that it can ask for.
const PASSES_MAX: u32 = 64;
/// The most lanes that it can ask for.
const LANES_MAX: u32 = 64;

/// What a person has to open a store.
pub enum Secret {
    /// A passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The bytes of a key file.
    KeyFile(SecretKey),
}

impl Secret {
    /// Reads the text of a key file; none where it is not one.
    pub fn of_key_file(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_end().strip_prefix(KEY_FILE_MAGIC)?;
        let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
        Some(Self::KeyFile(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }

    /// Makes a key file; returns its text.
    pub fn new_key_file(random: Random) -> (Self, Zeroizing<String>) {
        let mut key = SecretKey::default();
        random(&mut *key);
        let encoded = Zeroizing::new(BASE64.encode(*key));
        let text = Zeroizing::new(format!("{KEY_FILE_MAGIC}{}\n", *encoded));
        (Self::KeyFile(key), text)
    }

    fn kind(&self) -> KeyKind {
        match self {
            Self::Passphrase(_) => KeyKind::Passphrase,
            Self::KeyFile(_) => KeyKind::File,
        }
    }
}

/// Which secret a key needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// A passphrase.
    Passphrase,
    /// A key file.
    File,
}

/// How a passphrase is stretched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename = "argon2id")]
pub struct Stretching {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Default for Stretching {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

/// What is known of a key without opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    format: u32,
    /// Its id.
    pub id: String,
    /// Which secret it needs.
    pub kind: KeyKind,
    /// What its maker called it.
    pub label: String,
    /// When it was made.
    pub created: String,
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kdf: Option<Stretching>,
}

#[derive(Serialize, Deserialize)]
struct SlotFile {
    #[serde(flatten)]
    slot: KeySlot,
    sealed: String,
}

/// What is said of a new key.
#[derive(Debug, Clone, Copy)]
pub struct KeyLabel<'a> {
    /// What its maker calls it.
    pub label: &'a str,
    /// When it is made, as snapshots write it.
    pub created: &'a str,
}

fn random_hex(bytes: usize, random: Random) -> String {
    let mut drawn = vec![0; bytes];
    random(&mut drawn);
    drawn.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl KeySlot {
    fn new(secret: &Secret, label: KeyLabel<'_>, random: Random) -> Self {
        Self {
            format: FORMAT,
            id: random_hex(8, random),
            kind: secret.kind(),
            label: label.label.to_owned(),
            created: label.created.to_owned(),
            salt: random_hex(SALT_BYTES, random),
            kdf: (secret.kind() == KeyKind::Passphrase).then(Stretching::default),
        }
    }

    fn place(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a key has string keys and no failing serializer")
    }

    /// Computes what seals the master key; none where the settings are not to be trusted.
    fn seal(&self, secret: &Secret, random: Random) -> Option<Seal> {
        let salt: Vec<u8> = self.salt.as_bytes().chunks(2).map(decode_byte).collect::<Option<_>>()?;
        let key = match (secret, &self.kdf) {
            (Secret::KeyFile(bytes), None) => keyed_hash(bytes, &[b"dbelay 1 key file", &[0], &salt]),
            (Secret::Passphrase(words), Some(kdf)) if salt.len() == SALT_BYTES => {
                if kdf.memory_kib > MEMORY_KIB_MAX || kdf.passes > PASSES_MAX || kdf.lanes > LANES_MAX {
                    return None;
                }
                let params = Params::new(kdf.memory_kib, kdf.passes, kdf.lanes, Some(KEY_BYTES)).ok()?;
                let mut key = SecretKey::default();
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(words, &salt, &mut *key).ok()?;
                key
            }
            _ => return None,
        };
        Some(Seal::new(&key, random))
    }

    fn encode(self, secret: &Secret, masters: &[&SecretKey], random: Random) -> Option<Vec<u8>> {
        let plain = Zeroizing::new(masters.iter().flat_map(|master| master.iter().copied()).collect::<Vec<u8>>());
        let sealed = self.seal(secret, random)?.seal(Place::Key(&self.place()), &plain);
        let file = SlotFile { slot: self, sealed: BASE64.encode(sealed) };
        let mut json = serde_json::to_vec(&file).expect("a key has string keys and no failing serializer");
        json.push(b'\n');
        Some(json)
    }
}

fn decode_byte(pair: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?, 16).ok()
}

impl SlotFile {
    /// Opens it; none where the secret is not the one.
    fn open(&self, secret: &Secret, random: Random) -> Option<Vec<SecretKey>> {
        if self.slot.kind != secret.kind() {
            return None;
        }
        let sealed = BASE64.decode(&self.sealed).ok()?;
        let plain = Zeroizing::new(self.slot.seal(secret, random)?.open(Place::Key(&self.slot.place()), &sealed).ok()?);
        let (masters, rest) = plain.as_chunks::<KEY_BYTES>();
        (rest.is_empty() && !masters.is_empty()).then(|| masters.iter().map(|master| Zeroizing::new(*master)).collect())
    }
}

/// A key that opened the store.
pub(super) struct Opened {
    /// Which one.
    pub slot: KeySlot,
    /// The current master key.
    pub current: Cipher,
    /// The former one.
    pub former: Option<Cipher>,
}

impl Store {
    pub(super) fn slot_files(dir: &std::path::Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let mut files: Vec<(String, PathBuf)> = entries(&dir.join("keys"))?
            .into_iter()
            .filter_map(|(name, path)| {
                let stem = name.strip_suffix(".json")?;
                let id = stem.strip_prefix(PENDING).unwrap_or(stem);
                (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| (stem.to_owned(), path))
            })
            .collect();
        files.sort();
        Ok(files)
    }

    fn read_slot(stem: &str, path: &std::path::Path) -> Result<SlotFile, StoreError> {
        let damaged = |what: String| StoreError::Config { path: path.to_owned(), what };
        let metadata = fs::metadata(path).map_err(|source| StoreError::io("reading", path, source))?;
        if metadata.len() > SLOT_BYTES_MAX {
            return Err(damaged("it is too long for a key".to_owned()));
        }
        let json = fs::read(path).map_err(|source| StoreError::io("reading", path, source))?;
        let file: SlotFile = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if file.slot.format != FORMAT || stem.strip_prefix(PENDING).unwrap_or(stem) != file.slot.id {
            return Err(damaged("it is not the key that its name says, or of a later version".to_owned()));
        }
        Ok(file)
    }

    /// Opens the master keys with a secret.
    pub(super) fn unlock(dir: &std::path::Path, secret: &Secret, random: Random) -> Result<Opened, StoreError> {
        let mut damage = None;
        let files = Self::slot_files(dir)?;
        for (stem, path) in &files {
            let file = match Self::read_slot(stem, path) {
                Ok(file) => file,
                Err(error) => {
                    damage = Some(error);
                    continue;
                }
            };
            if let Some(mut masters) = file.open(secret, random).map(Vec::into_iter)
                && let Some(current) = masters.next()
            {
                let former = masters.next().map(|master| Cipher::of(master, random));
                return Ok(Opened { slot: file.slot, current: Cipher::of(current, random), former });
            }
        }
        // Where a key's file cannot be read, the secret may well be right.
        Err(damage.unwrap_or(StoreError::WrongKey { dir: dir.to_owned(), keys: files.len() }))
    }

    /// Lists the keys, in the order of their ids. Those that cannot be read are errors of their own.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the folder cannot be read.
    pub fn keys(&self) -> Result<Vec<Result<KeySlot, StoreError>>, StoreError> {
        let files = Self::slot_files(self.dir())?;
        Ok(files.iter().map(|(stem, path)| Self::read_slot(stem, path).map(|file| file.slot)).collect())
    }

    /// Writes a key that opens these master keys, durably, and opens it again.
    pub(super) fn write_slot(
        &self,
        prefix: &str,
        secret: &Secret,
        label: KeyLabel<'_>,
        masters: &[&SecretKey],
        random: Random,
    ) -> Result<KeySlot, StoreError> {
        let slot = KeySlot::new(secret, label, random);
        self.write_slot_file(prefix, slot, secret, masters, random)
    }

    /// Writes a key's file, in place of one of the same id.
    pub(super) fn write_slot_file(
        &self,
        prefix: &str,
        slot: KeySlot,
        secret: &Secret,
        masters: &[&SecretKey],
        random: Random,
    ) -> Result<KeySlot, StoreError> {
        let keys = self.dir().join("keys");
        durable::create_dir(&keys).map_err(|source| StoreError::io("creating", &keys, source))?;
        let stem = format!("{prefix}{}", slot.id);
        let path = keys.join(format!("{stem}.json"));
        let damaged = |what: &str| StoreError::Config { path: path.clone(), what: what.to_owned() };
        let json = slot.clone().encode(secret, masters, random).ok_or_else(|| damaged("its settings are beyond the limits"))?;
        // A key that does not open would lock its owner out: it is tried before it is there.
        let file: SlotFile = serde_json::from_slice(&json).map_err(|error| damaged(&error.to_string()))?;
        let opened = file.open(secret, random).unwrap_or_default();
        if opened.len() != masters.len() || opened.iter().zip(masters).any(|(opened, master)| **opened != ***master) {
            return Err(damaged("it would not open what it was made for"));
        }
        durable::write(&path, &json).map_err(|source| StoreError::io("writing", &path, source))?;
        let written = Self::read_slot(&stem, &path)?;
        if written.sealed != file.sealed {
            return Err(damaged("the bytes on disk are not those that were written"));
        }
        Ok(slot)
    }

    /// Deletes a key's file, durably.
    pub(super) fn delete_slot(&self, id: &str) -> Result<(), StoreError> {
        let path = self.dir().join("keys").join(format!("{id}.json"));
        durable::remove(&path).map_err(|source| StoreError::io("deleting", &path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::super::crypt::tests::random;
    use super::*;

    fn passphrase(words: &str) -> Secret {
        Secret::Passphrase(Zeroizing::new(words.as_bytes().to_vec()))
    }

    fn file(secret: &Secret) -> SlotFile {
        let label = KeyLabel { label: "mine", created: "2026-01-01T00:00:00.000Z" };
        let mut slot = KeySlot::new(secret, label, random);
        // Tests need not wait.
        slot.kdf = slot.kdf.map(|_| Stretching { memory_kib: 64, passes: 1, lanes: 1 });
        let json = slot.encode(secret, &[&Zeroizing::new([5; KEY_BYTES])], random).expect("encoded");
        serde_json::from_slice(&json).expect("a key")
    }

    #[test]
    fn a_key_opens_with_its_secret_alone() {
        let (key_file, text) = Secret::new_key_file(random);
        let again = Secret::of_key_file(text.as_bytes()).expect("a key file");
        for (secret, right, wrong) in
            [(passphrase("one"), passphrase("one"), passphrase("two")), (key_file, again, Secret::new_key_file(random).0)]
        {
            let file = file(&secret);
            let opened = file.open(&right, random).expect("the right one");
            assert_eq!(opened.iter().map(|master| **master).collect::<Vec<_>>(), [[5; KEY_BYTES]]);
            assert!(file.open(&wrong, random).is_none());
        }
        assert!(Secret::of_key_file(b"dbelay-key-1 c2hvcnQ=\n").is_none());
        assert!(Secret::of_key_file(b"\xff").is_none());
    }

    #[test]
    fn a_changed_key_does_not_open() {
        let change: [fn(&mut SlotFile); 4] = [
            |file| file.slot.label = "theirs".to_owned(),
            |file| file.slot.salt.replace_range(..2, "zz"),
            |file| file.slot.kdf = Some(Stretching { memory_kib: u32::MAX, passes: 1, lanes: 1 }),
            |file| file.sealed.truncate(8),
        ];
        for change in change {
            let mut file = file(&passphrase("one"));
            change(&mut file);
            assert!(file.open(&passphrase("one"), random).is_none());
        }
    }
}
