//! Pack files: many objects in one immutable file with an index at its end. `src/store.rs` specifies the layout.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

use super::StoreError;
use super::crypt::{Cipher, OVERHEAD_BYTES, Place, Vault};
use super::typed;
use crate::durable::TemporaryFile;
use crate::id::{IdHasher, ObjectId};

/// The first bytes of a pack.
pub const MAGIC: &[u8; 8] = b"DBLYPAK1";
/// The last bytes of a pack.
pub const MAGIC_END: &[u8; 8] = b"DBLYEND1";
/// The length of the footer.
pub const FOOTER_BYTES: u64 = 64;
/// What the flags of a pack say whose payloads and index are sealed.
const FLAG_SEALED: u8 = 1;
/// A pack is closed when its payloads reach this many bytes.
pub const PACK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The longest object, in JSON bytes.
pub const OBJECT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// The longest index that is read.
const INDEX_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Object and base together must not be longer than this for a delta: what zstd's window must reach over.
const DELTA_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Shorter objects are not worth a delta.
const DELTA_BYTES_MIN: usize = 256;
/// A delta that takes less than one byte in so many is taken without a look at what compressing would give.
const DELTA_SHARE_SURE: usize = 40;
/// From here on a delta is looked for with long-distance matching, since level 3 alone finds little behind so long a prefix.
const LONG_DISTANCE_BYTES_MIN: usize = 128 * 1024;
/// What a dictionary with a header begins with.
const DICTIONARY_MAGIC: [u8; 4] = 0xec30_a437_u32.to_le_bytes();
/// What is allocated at once on the word of an index; longer objects grow as they are read.
const ALLOCATION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How an object's bytes stand in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// A zstd frame.
    Zstd,
    /// A zstd frame made with the base object's bytes as its prefix.
    ZstdPrefix,
    /// A typed object.
    Typed,
}

/// Which codecs a store's packs may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codecs {
    /// Those that the first versions read.
    First,
    /// All of them.
    All,
}

impl Codec {
    fn tag(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
            Self::ZstdPrefix => 2,
            Self::Typed => 3,
        }
    }

    fn of_tag(tag: u8) -> Option<Self> {
        [Self::Raw, Self::Zstd, Self::ZstdPrefix, Self::Typed].into_iter().find(|codec| codec.tag() == tag)
    }
}

/// One object's place in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The object.
    pub id: ObjectId,
    /// How it stands there.
    pub codec: Codec,
    /// The object that a delta needs; itself never a delta.
    pub base: Option<ObjectId>,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it takes there.
    pub stored: u64,
    /// How many bytes of JSON it has.
    pub raw: u64,
}

/// Why bytes are no pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PackError(pub String);

fn invalid<T>(what: impl Into<String>) -> Result<T, PackError> {
    Err(PackError(what.into()))
}

/// Compresses an object; as a delta to the base only where that takes less than half, or nearly nothing.
pub fn encode_object(json: &[u8], base: Option<(&ObjectId, &[u8])>, codecs: Codecs) -> io::Result<(Codec, Option<ObjectId>, Vec<u8>)> {
    let is_fit =
        |prefix: &[u8]| json.len() >= DELTA_BYTES_MIN && !prefix.is_empty() && (json.len() + prefix.len()) as u64 <= DELTA_BYTES_MAX;
    let Some((id, prefix)) = base.filter(|(_, prefix)| is_fit(prefix)) else { return encode_alone(json, codecs) };
    let delta = encode_delta(json, prefix)?;
    if delta.len() * DELTA_SHARE_SURE < json.len() {
        return Ok((Codec::ZstdPrefix, Some(*id), delta));
    }
    let alone = encode_alone(json, codecs)?;
    Ok(if delta.len() * 2 < alone.2.len() { (Codec::ZstdPrefix, Some(*id), delta) } else { alone })
}

fn encode_alone(json: &[u8], codecs: Codecs) -> io::Result<(Codec, Option<ObjectId>, Vec<u8>)> {
    let mut typed = Vec::new();
    if codecs == Codecs::All && typed::encode(json, &mut typed)? {
        return Ok((Codec::Typed, None, typed));
    }
    encode_plain(json)
}

fn encode_plain(json: &[u8]) -> io::Result<(Codec, Option<ObjectId>, Vec<u8>)> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    }
    let plain = COMPRESSOR.with_borrow_mut(|compressor| match compressor {
        Some(compressor) => compressor.compress(json),
        None => compressor.insert(zstd::bulk::Compressor::new(1)?).compress(json),
    })?;
    Ok(if plain.len() < json.len() { (Codec::Zstd, None, plain) } else { (Codec::Raw, None, json.to_vec()) })
}

fn encode_delta(json: &[u8], prefix: &[u8]) -> io::Result<Vec<u8>> {
    if json.len().max(prefix.len()) < LONG_DISTANCE_BYTES_MIN && !prefix.starts_with(&DICTIONARY_MAGIC) {
        return encode_short_delta(json, prefix);
    }
    let reach = (json.len() + prefix.len()).next_power_of_two().trailing_zeros().clamp(10, 27);
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 3, prefix)?;
    encoder.window_log(reach)?;
    if prefix.len() >= LONG_DISTANCE_BYTES_MIN {
        encoder.long_distance_matching(true)?;
        encoder.set_parameter(CParameter::LdmMinMatch(32))?;
        encoder.set_parameter(CParameter::HashLog(18))?;
    }
    encoder.set_pledged_src_size(Some(json.len() as u64))?;
    encoder.write_all(json)?;
    encoder.finish()
}

/// As [`encode_delta`] of what is short, in memory that is used again: to make that anew takes longer than the delta.
fn encode_short_delta(json: &[u8], prefix: &[u8]) -> io::Result<Vec<u8>> {
    thread_local! {
        static CONTEXT: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    }
    let mut delta = Vec::with_capacity(zstd::zstd_safe::compress_bound(json.len()));
    let code = CONTEXT.with_borrow_mut(|context| context.get_or_insert_with(CCtx::create).compress_using_dict(&mut delta, json, prefix, 3));
    code.map_err(|code| io::Error::other(zstd::zstd_safe::get_error_name(code)))?;
    Ok(delta)
}

/// Decodes an object's stored bytes and proves them by its id. `base` is the base's bytes, for a delta.
pub fn decode_object(entry: &Entry, stored: Vec<u8>, base: Option<&[u8]>) -> Result<Vec<u8>, PackError> {
    let json = match entry.codec {
        Codec::Raw => stored,
        Codec::Typed => {
            let mut json = Vec::new();
            typed::decode(&stored, entry.raw, &mut json).map_err(|error| PackError(error.to_string()))?;
            json
        }
        codec => decompress(codec, &stored, entry.raw, base)?,
    };
    if json.len() as u64 != entry.raw {
        return invalid(format!("it has {} bytes, the index says {}", json.len(), entry.raw));
    }
    if ObjectId::of(&json) != entry.id {
        return invalid("its bytes do not have its id");
    }
    Ok(json)
}

/// Tells whether stored bytes decode to the JSON that they were made from.
pub fn is_encoding_of(json: &[u8], codec: Codec, stored: &[u8], base: Option<&[u8]>) -> bool {
    thread_local! {
        static DECODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    match codec {
        Codec::Raw => stored == json,
        Codec::Typed => DECODED.with_borrow_mut(|decoded| typed::decode(stored, json.len() as u64, decoded).is_ok() && decoded == json),
        codec => decompress(codec, stored, json.len() as u64, base).is_ok_and(|decoded| decoded == json),
    }
}

fn decompress(codec: Codec, stored: &[u8], raw: u64, base: Option<&[u8]>) -> Result<Vec<u8>, PackError> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    let limit = raw.min(ALLOCATION_BYTES_MAX);
    let mut json = Vec::new();
    let read = match (codec, base) {
        (Codec::ZstdPrefix, None) => return invalid("its base is missing"),
        (Codec::ZstdPrefix, Some(prefix)) if raw <= ALLOCATION_BYTES_MAX && !prefix.starts_with(&DICTIONARY_MAGIC) => {
            json.reserve_exact(usize::try_from(limit).unwrap_or_default());
            decompress_delta(&mut json, stored, prefix)
        }
        (Codec::ZstdPrefix, Some(prefix)) => {
            zstd::stream::read::Decoder::with_ref_prefix(stored, prefix).and_then(|decoder| fill(&mut json, decoder, raw, limit))
        }
        _ if raw <= ALLOCATION_BYTES_MAX => DECOMPRESSOR.with_borrow_mut(|decompressor| {
            let capacity = usize::try_from(limit).unwrap_or_default();
            let decompressor = match decompressor {
                Some(decompressor) => decompressor,
                none => none.insert(zstd::bulk::Decompressor::new()?),
            };
            json = decompressor.decompress(stored, capacity)?;
            Ok(())
        }),
        _ => zstd::stream::read::Decoder::new(stored).and_then(|decoder| fill(&mut json, decoder, raw, limit)),
    };
    match read {
        Ok(()) => Ok(json),
        Err(error) => invalid(format!("it cannot be decompressed: {error}")),
    }
}

/// Decompresses a delta into what has room for it. To zstd a prefix is a dictionary without a header of its own, which is what anything is
/// that does not begin with [`DICTIONARY_MAGIC`].
fn decompress_delta(json: &mut Vec<u8>, stored: &[u8], prefix: &[u8]) -> io::Result<()> {
    thread_local! {
        static CONTEXT: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    }
    let code = CONTEXT.with_borrow_mut(|context| context.get_or_insert_with(DCtx::create).decompress_using_dict(json, stored, prefix));
    code.map(drop).map_err(|code| io::Error::other(zstd::zstd_safe::get_error_name(code)))
}

fn fill(json: &mut Vec<u8>, decoder: impl Read, raw: u64, first: u64) -> io::Result<()> {
    json.reserve(usize::try_from(first).unwrap_or_default());
    decoder.take(raw.saturating_add(1)).read_to_end(json).map(drop)
}

/// Encodes the index of a pack whose entries stand one after the other from [`MAGIC`] on.
pub fn encode_index(entries: &[Entry]) -> Vec<u8> {
    let mut index = Vec::with_capacity(entries.len() * 40);
    for entry in entries {
        index.extend_from_slice(&entry.id.0);
        index.push(entry.codec.tag());
        if let Some(base) = &entry.base {
            index.extend_from_slice(&base.0);
        }
        encode_varint(&mut index, entry.stored);
        encode_varint(&mut index, entry.raw);
    }
    index
}

/// Decodes an index; `payload_end` is where it begins in the pack, `overhead` how many bytes longer than what they hold payloads are.
///
/// # Errors
/// Where it is anything but the index of `count` entries that fill the pack up to there.
pub fn decode_index(mut index: &[u8], count: u32, payload_end: u64, overhead: u64) -> Result<Vec<Entry>, PackError> {
    let mut entries = Vec::with_capacity((count as usize).min(index.len() / 35));
    let mut offset = MAGIC.len() as u64;
    for _ in 0..count {
        let entry = decode_entry(&mut index, offset, overhead)?;
        offset = offset
            .checked_add(entry.stored)
            .filter(|end| *end <= payload_end)
            .ok_or_else(|| PackError("an object ends past the payloads".into()))?;
        entries.push(entry);
    }
    if !index.is_empty() || offset != payload_end {
        return invalid("the index does not fit the payloads");
    }
    Ok(entries)
}

/// Takes one entry off the front of an index; its payload stands at `offset`, `overhead` bytes longer than what it holds.
fn decode_entry(index: &mut &[u8], offset: u64, overhead: u64) -> Result<Entry, PackError> {
    let id = take_id(index)?;
    let (&tag, rest) = index.split_first().ok_or_else(ends_early)?;
    *index = rest;
    let Some(codec) = Codec::of_tag(tag) else { return invalid(format!("object {id} has the unknown codec {tag}")) };
    let base = if codec == Codec::ZstdPrefix { Some(take_id(index)?) } else { None };
    let stored = decode_varint(index)?;
    let raw = decode_varint(index)?;
    if raw > OBJECT_BYTES_MAX || (codec == Codec::Raw && raw.checked_add(overhead) != Some(stored)) {
        return invalid(format!("object {id} has impossible lengths"));
    }
    Ok(Entry { id, codec, base, offset, stored, raw })
}

/// Decodes an index that need not be whole, entry by entry until one makes no sense. Nothing of what it says is proven.
pub fn decode_index_loosely(mut index: &[u8], payload_end: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut offset = MAGIC.len() as u64;
    while !index.is_empty() && offset < payload_end {
        let Ok(entry) = decode_entry(&mut index, offset, 0) else { break };
        let Some(end) = offset.checked_add(entry.stored).filter(|end| *end <= payload_end) else { break };
        entries.push(entry);
        offset = end;
    }
    entries
}

fn ends_early() -> PackError {
    PackError("the index ends early".into())
}

fn take_id(index: &mut &[u8]) -> Result<ObjectId, PackError> {
    let (id, rest) = index.split_first_chunk::<32>().ok_or_else(ends_early)?;
    *index = rest;
    Ok(ObjectId(*id))
}

/// Appends an unsigned LEB128 number.
fn encode_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn decode_varint(bytes: &mut &[u8]) -> Result<u64, PackError> {
    let mut value: u64 = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(ends_early)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            // One number has one spelling.
            return if byte == 0 && shift > 0 { invalid("a number in the index is not in its shortest form") } else { Ok(value) };
        }
    }
    invalid("a number in the index is too long")
}

/// Encodes a footer.
fn encode_footer(index_offset: u64, index: &[u8], count: u32, flags: u8) -> Vec<u8> {
    let mut footer = Vec::with_capacity(64);
    footer.extend_from_slice(&index_offset.to_le_bytes());
    footer.extend_from_slice(&(index.len() as u64).to_le_bytes());
    footer.extend_from_slice(&count.to_le_bytes());
    footer.extend_from_slice(&[32, 32, flags, 0]);
    footer.extend_from_slice(&Sha256::digest(index));
    footer.extend_from_slice(MAGIC_END);
    footer
}

/// Reads the index of an open pack; tells what its payloads are sealed with, if they are.
///
/// # Errors
/// [`PackError`] where the file is no whole pack, or not sealed as the packs of its store are.
pub fn read_index(file: &File, vault: Option<&Vault>) -> Result<(Vec<Entry>, Option<Arc<Cipher>>), PackError> {
    let io = |error: io::Error| PackError(format!("it cannot be read: {error}"));
    let length = file.metadata().map_err(io)?.len();
    let Some(footer_offset) = length.checked_sub(FOOTER_BYTES).filter(|offset| *offset >= MAGIC.len() as u64) else {
        return invalid(format!("{length} bytes are too short for a pack"));
    };
    let mut magic = [0; 8];
    read_exact_at(file, &mut magic, 0).map_err(io)?;
    let mut footer = [0; FOOTER_BYTES as usize];
    read_exact_at(file, &mut footer, footer_offset).map_err(io)?;
    if magic != *MAGIC || !footer.ends_with(MAGIC_END) {
        return invalid("it does not begin and end as a pack does");
    }
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| footer[at + byte]));
    let (index_offset, index_bytes) = (number(0), number(8));
    let count = u32::from_le_bytes(std::array::from_fn(|byte| footer[16 + byte]));
    let is_sealed = match footer[20..24] {
        [32, 32, 0, 0] => false,
        [32, 32, FLAG_SEALED, 0] => true,
        _ => return invalid("it was written in a way that this version does not know"),
    };
    if index_offset < MAGIC.len() as u64 || index_bytes > INDEX_BYTES_MAX || index_offset.checked_add(index_bytes) != Some(footer_offset) {
        return invalid("its footer does not fit its length");
    }
    let mut index = vec![0; usize::try_from(index_bytes).map_err(|_| ends_early())?];
    read_exact_at(file, &mut index, index_offset).map_err(io)?;
    if Sha256::digest(&index)[..] != footer[24..56] {
        return invalid("its index does not match its checksum");
    }
    match (vault, is_sealed) {
        (Some(vault), true) => {
            let Ok((index, cipher)) = vault.open(Place::Index, &index) else { return invalid("its index was sealed with another key") };
            Ok((decode_index(&index, count, index_offset, OVERHEAD_BYTES)?, Some(Arc::clone(cipher))))
        }
        (None, true) => invalid("it is encrypted, and the store is not"),
        (Some(Vault { has_plain: false, .. }), false) => invalid("it is not encrypted, and the store is"),
        (_, false) => Ok((decode_index(&index, count, index_offset, 0)?, None)),
    }
}

/// Tells whether a pack's file has the bytes that its name says.
pub fn is_whole(path: &Path) -> bool {
    let hash = File::open(path).and_then(|file| hash_file(&file, &mut |_| {}));
    hash.is_ok_and(|hash| path.file_stem().and_then(|stem| stem.to_str()) == Some(hash.to_string().as_str()))
}

/// Opens an entry's stored bytes, where they are sealed.
///
/// # Errors
/// Where they are not what was sealed.
pub fn unseal(entry: &Entry, stored: Vec<u8>, cipher: Option<&Cipher>) -> Result<Vec<u8>, PackError> {
    match cipher {
        None => Ok(stored),
        Some(cipher) => cipher.open(Place::Object(&entry.id), &stored).map_err(|error| PackError(error.to_string())),
    }
}

/// Reads an entry's stored bytes.
pub fn read_stored(file: &File, entry: &Entry) -> io::Result<Vec<u8>> {
    if entry.stored > ALLOCATION_BYTES_MAX && entry.offset.saturating_add(entry.stored) > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut stored = vec![0; usize::try_from(entry.stored).map_err(io::Error::other)?];
    read_exact_at(file, &mut stored, entry.offset)?;
    Ok(stored)
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

/// Returns the SHA-256 of a whole file, read in pieces.
pub fn hash_file(mut file: &File, heard: &mut dyn FnMut(u64)) -> io::Result<ObjectId> {
    io::Seek::rewind(&mut file)?;
    let mut hasher = IdHasher::default();
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            count => {
                hasher.update(&piece[..count]);
                heard(count as u64);
            }
        }
    }
}

/// Writes one pack.
pub struct PackWriter<W> {
    file: W,
    cipher: Option<Arc<Cipher>>,
    hasher: IdHasher,
    offset: u64,
    entries: Vec<Entry>,
}

impl<W: Write> PackWriter<W> {
    /// Begins a pack, whose payloads are sealed with this.
    pub fn new(file: W, cipher: Option<Arc<Cipher>>) -> io::Result<Self> {
        let mut writer = Self { file, cipher, hasher: IdHasher::default(), offset: 0, entries: Vec::new() };
        writer.write(MAGIC)?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Appends an object.
    pub fn append(&mut self, id: ObjectId, codec: Codec, base: Option<ObjectId>, raw: u64, stored: &[u8]) -> io::Result<()> {
        let entry = Entry { id, codec, base, offset: self.offset, stored: stored.len() as u64, raw };
        self.write(stored)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Tells whether the pack should be closed.
    pub fn is_full(&self) -> bool {
        self.offset >= PACK_BYTES_MAX
    }

    /// Takes the entries written so far and the file, without an index: for packs that only this process reads.
    pub fn into_parts(self) -> (W, Vec<Entry>) {
        (self.file, self.entries)
    }

    pub(super) fn close(mut self) -> io::Result<(W, ObjectId, Vec<Entry>)> {
        let index_offset = self.offset;
        let index = encode_index(&self.entries);
        let (index, flags) = match &self.cipher {
            Some(cipher) => (cipher.seal(Place::Index, &index), FLAG_SEALED),
            None => (index, 0),
        };
        let count = u32::try_from(self.entries.len()).map_err(io::Error::other)?;
        self.write(&index)?;
        self.write(&encode_footer(index_offset, &index, count, flags))?;
        Ok((self.file, self.hasher.finish(), self.entries))
    }
}

impl PackWriter<TemporaryFile> {
    /// Closes the pack and publishes it under `packs/`; returns its path, its id, and its entries.
    pub fn publish(self, packs: &Path) -> Result<(PathBuf, ObjectId, Vec<Entry>), StoreError> {
        let (file, id, entries) = self.close().map_err(|source| StoreError::io("writing a pack", packs, source))?;
        let name = id.to_string();
        let directory = packs.join(&name[..2]);
        let path = directory.join(format!("{name}.pack"));
        crate::durable::create_dir(&directory).map_err(|source| StoreError::io("creating", &directory, source))?;
        file.publish(&path).map_err(|source| StoreError::io("writing", &path, source))?;
        Ok((path, id, entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(objects: &[&[u8]]) -> Vec<u8> {
        pack_with(None, objects)
    }

    fn pack_with(cipher: Option<&Arc<Cipher>>, objects: &[&[u8]]) -> Vec<u8> {
        let mut writer = PackWriter::new(Vec::new(), cipher.cloned()).expect("memory");
        for json in objects {
            let (codec, base, stored) = encode_object(json, None, Codecs::All).expect("compressed");
            let id = ObjectId::of(json);
            let stored = cipher.map_or(stored.clone(), |cipher| cipher.seal(Place::Object(&id), &stored));
            writer.append(id, codec, base, json.len() as u64, &stored).expect("memory");
        }
        writer.close().expect("memory").0
    }

    fn open(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PackError> {
        open_with(None, bytes)
    }

    fn open_with(vault: Option<&Vault>, bytes: &[u8]) -> Result<Vec<Vec<u8>>, PackError> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        let (entries, cipher) = read_index(&file, vault)?;
        let read = |entry: &Entry| {
            let stored = read_stored(&file, entry).map_err(|error| PackError(error.to_string()))?;
            decode_object(entry, unseal(entry, stored, cipher.as_deref())?, None)
        };
        entries.iter().map(read).collect()
    }

    fn vault(has_plain: bool) -> Vault {
        Vault { current: Arc::new(Cipher::generate(crate::store::crypt::tests::random)), former: None, has_plain }
    }

    #[test]
    fn an_encrypted_pack_tells_nothing_and_notices_every_flipped_byte() {
        let vault = vault(false);
        let objects: [&[u8]; 3] = [b"[1,2,3]", &b"\"abc\",".repeat(20), b""];
        let whole = pack_with(Some(&vault.current), &objects);
        assert_eq!(open_with(Some(&vault), &whole), Ok(objects.iter().map(|object| object.to_vec()).collect()));
        for secret in [b"[1,2,3]".as_slice(), &ObjectId::of(b"[1,2,3]").0] {
            assert_eq!(memchr::memmem::find(&whole, secret), None);
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(open_with(Some(&vault), &flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn plain_packs_are_no_part_of_an_encrypted_store_nor_the_reverse() {
        let (settled, mixed) = (vault(false), vault(true));
        let objects: [&[u8]; 1] = [b"[1]"];
        assert!(open(&pack_with(Some(&settled.current), &objects)).is_err());
        assert!(open_with(Some(&settled), &pack(&objects)).is_err());
        assert!(open_with(Some(&mixed), &pack(&objects)).is_ok());
        assert!(open_with(Some(&mixed), &pack_with(Some(&settled.current), &objects)).is_err());
    }

    #[test]
    fn what_was_packed_comes_out() {
        let long = b"\"x\",".repeat(1000);
        let objects: [&[u8]; 3] = [b"[1,2]", &long, b""];
        assert_eq!(open(&pack(&objects)), Ok(objects.iter().map(|object| object.to_vec()).collect()));
        assert_eq!(open(&pack(&[])), Ok(vec![]));
    }

    #[test]
    fn every_flipped_or_missing_byte_is_noticed() {
        let whole = pack(&[b"[1,2,3]", &b"\"abc\",".repeat(100)]);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(open(&flipped).is_err(), "byte {at}");
            assert!(open(&whole[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn hostile_indexes_are_refused_without_being_believed() {
        let footer = |offset: u64, bytes: &[u8], count| encode_footer(offset, bytes, count, 0);
        for (index, count) in [(vec![], u32::MAX), (vec![0xff; 100], 1), (vec![0; 35], 1), (vec![0; 33], 1)] {
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&index);
            file.extend_from_slice(&footer(8, &index, count));
            assert!(open(&file).is_err(), "{count} entries in {} bytes", index.len());
        }
        let mut huge = vec![0; 32];
        huge.push(1);
        encode_varint(&mut huge, 0);
        encode_varint(&mut huge, OBJECT_BYTES_MAX);
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&huge);
        file.extend_from_slice(&footer(8, &huge, 1));
        assert!(open(&file).is_err());
        for offset in [0, 7, 9, u64::MAX] {
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&footer(offset, &[], 0));
            assert!(open(&file).is_err(), "index at {offset}");
        }
    }

    #[test]
    fn a_small_change_is_stored_as_a_delta() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        for cells in [200, 60_000] {
            let before: Vec<String> = (0..cells).map(|_| noise().to_string()).collect();
            let mut after = before.clone();
            after[cells / 2] = "7".into();
            let (before, after) = (before.join(",").into_bytes(), after.join(",").into_bytes());
            let base = ObjectId::of(&before);
            let (codec, kept, stored) = encode_object(&after, Some((&base, &before)), Codecs::All).expect("compressed");
            assert_eq!((codec, kept), (Codec::ZstdPrefix, Some(base)));
            assert!(stored.len() < 400, "{} bytes for one cell of {cells}", stored.len());
            let entry =
                Entry { id: ObjectId::of(&after), codec, base: kept, offset: 0, stored: stored.len() as u64, raw: after.len() as u64 };
            assert_eq!(decode_object(&entry, stored.clone(), Some(&before)), Ok(after));
            assert!(decode_object(&entry, stored, None).is_err());
        }
    }
}
