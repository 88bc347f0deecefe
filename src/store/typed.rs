//! The typed form of an array: a reversible transform of the canonical JSON of a column chunk into fewer bytes, in front of zstd.
//!
//! An object's id is that of its JSON; this is only how a pack holds it (codec 3). Whatever the bytes of an array are, decoding gives them back
//! exactly: every form names the spelling that it takes, and what is spelled otherwise stands as it is. Arrays that fit no form have none; that of texts
//! of many lengths is not among the forms, since zstd gains nothing by having quotes and commas taken away.
//!
//! # Format
//! Numbers are unsigned LEB128, signed ones zigzag before (`n << 1 ^ n >> 63`). A typed object is `DBt1`, the length of the JSON (at most
//! [`RAW_BYTES_MAX`]), and its content; it says itself where it ends.
//!
//! | content | |
//! |---|---|
//! | 1 byte | the form, 16 more where there are NULLs, 32 more where there are odd cells |
//! | number | of cells |
//! | plane | where there are NULLs: a bit for each cell, the first the lowest of the first byte, set where the cell is `null` |
//! | number, number, plane | where there are odd cells: how many, and the bytes of all: of each how many cells stand between it and the odd one before, its length, its bytes |
//! | form | the other cells, as below |
//!
//! The JSON is `[`, the cells with commas between, and `]`.
//!
//! **Plane**: bytes whose number is known. None where that is 0. Else 0 and the bytes; 1, a length, and a zstd frame of that length; or 2 and the byte
//! that all of them are.
//!
//! **Numbers**: signed 64-bit integers whose count is known; none where that is 0. A byte, 0 or 1, with 128 added where residuals stand bit by bit; a byte, the
//! width of the widest residual; a signed number; after kind 1 another. Kind 0: a number is the signed one and its residual. Kind 1: the first number is the
//! signed one (its residual is without meaning), each other is the one before, the second signed one, and its residual. All sums are modulo 2^64. Then the
//! residuals, nothing where their width is 0. Bit by bit (widths up to 57): each in `width` bits, the lowest first, filled up to a whole byte at the end. Else for
//! widths up to 4 one plane in which as many as fit share a byte, in 1, 2 or 4 bits each, the first the lowest; for others a plane of their lowest bytes, one of the
//! next, and so on.
//!
//! | form | cells | content |
//! |---|---|---|
//! | 0 | integers: `-?` and digits without leading zeros, in 64 bits, no `-0` | numbers |
//! | 1 | decimals: such digits, `.`, and up to 8 digits, of which the last is no 0 unless it is the only one; at most 18 digits; no `-0.0` | a byte, the scale; numbers in units of 10^-scale |
//! | 2 | strings of one build | build; numbers for each stream, one after the other |
//! | 3 | anything | how many distinct cells (at most 2^14), the bytes of all, a plane: of each its length and its bytes; numbers: of each cell the distinct one |
//!
//! **Build**: the length of the strings, quotes included (at most 96), and one string; a count of fields; of each field a kind, where it begins, how many
//! digits it has (1 to 8), a byte each. Fields follow one another and do not overlap. Kind 0: decimal digits, less than 10^digits. 1: lower-case hexadecimal
//! digits. 2: decimal digits, followed by two numbers, the least that they are, and by less than how much they are more. With 128 added the field belongs to the same stream as
//! the one before: the number of a stream is made of its fields, the first the most significant, each times what the later ones may be. That product is at
//! most 2^57, unless a field stands alone.
//!
//! A reader takes no more memory than the JSON's length times a small factor, whatever the bytes say.

mod cells;
mod digits;
mod forms;
mod numbers;
mod planes;
mod records;

use std::cell::RefCell;
use std::io;

use cells::{Gaps, Holes, cell_end, walk};
use digits::Pen;
use forms::{Decimals, Dictionary, Entries};
use numbers::{NumberBuffers, NumberMemory};
use planes::{Input, PlaneReader, PlaneWriter, encode_varint};
use records::{Build, STREAMS_MAX};

/// What a typed object begins with.
pub const MAGIC: &[u8; 4] = b"DBt1";
/// The longest array that has a typed form.
pub const RAW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The shortest.
const RAW_BYTES_MIN: usize = 48;
/// How many cells are looked at to choose a form.
const SAMPLE: usize = 24;

const NULLS: u8 = 16;
const ODD: u8 = 32;

/// Why bytes are no typed object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its typed form is malformed: {0}")]
pub struct Malformed(&'static str);

/// What the cells of an array are alike in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Integers,
    Decimals,
    Records,
    Dictionary,
}

impl Form {
    const ALL: [Self; 4] = [Self::Integers, Self::Decimals, Self::Records, Self::Dictionary];

    fn tag(self) -> u8 {
        self as u8
    }

    fn of_tag(tag: u8) -> Option<Self> {
        Self::ALL.get(usize::from(tag)).copied()
    }
}

/// Memory that is used again for every array that is written.
struct Encoder {
    planes: PlaneWriter,
    numbers: NumberMemory,
    holes: Holes,
    streams: [Vec<i64>; STREAMS_MAX],
    build: Build,
    dictionary: Dictionary,
}

/// Memory that is used again for every array that is read.
struct Decoder {
    planes: PlaneReader,
    numbers: NumberBuffers,
    gaps: Gaps,
    streams: [Vec<i64>; STREAMS_MAX],
    build: Build,
    entries: Entries,
    memory: Vec<u8>,
}

/// Appends the typed form of an array, if it has one. What was appended in vain is taken back.
///
/// # Errors
/// Where zstd has no memory.
pub fn encode(json: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
    thread_local! {
        static ENCODER: RefCell<Option<Encoder>> = const { RefCell::new(None) };
    }
    if !(RAW_BYTES_MIN..=RAW_BYTES_MAX).contains(&json.len()) || json[0] != b'[' || json[json.len() - 1] != b']' {
        return Ok(false);
    }
    ENCODER.with_borrow_mut(|encoder| {
        let encoder = match encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new()?),
        };
        let start = out.len();
        out.extend_from_slice(MAGIC);
        encode_varint(out, json.len() as u64);
        let is_encoded = encoder.encode(json, out).is_some();
        if !is_encoded {
            out.truncate(start);
        }
        Ok(is_encoded)
    })
}

/// Decodes a typed object into memory, whose content is replaced. `raw` is how many bytes of JSON it is to have.
///
/// # Errors
/// Where it is no typed object of such JSON.
pub fn decode(typed: &[u8], raw: u64, json: &mut Vec<u8>) -> Result<(), Malformed> {
    let (found, rest) = decode_first(typed, json)?;
    if found as u64 != raw || rest != 0 {
        return Err(Malformed("it has another length than the index says"));
    }
    Ok(())
}

/// Decodes the typed object that bytes begin with into memory, whose content is replaced; returns its length, and how many bytes follow.
///
/// # Errors
/// Where they begin with none.
pub fn decode_first(bytes: &[u8], json: &mut Vec<u8>) -> Result<(usize, usize), Malformed> {
    thread_local! {
        static DECODER: RefCell<Option<Decoder>> = const { RefCell::new(None) };
    }
    let mut input = Input(bytes);
    if input.take(MAGIC.len())? != MAGIC {
        return Err(Malformed("it does not begin as one"));
    }
    let raw = input.length(RAW_BYTES_MAX)?;
    DECODER.with_borrow_mut(|decoder| {
        let decoder = match decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new().map_err(|_| Malformed("there is no memory to decode it"))?),
        };
        decoder.decode(&mut input, raw, json)?;
        Ok((raw, input.0.len()))
    })
}

impl Encoder {
    fn new() -> io::Result<Self> {
        Ok(Self {
            planes: PlaneWriter::new()?,
            numbers: NumberMemory::default(),
            holes: Holes::default(),
            streams: Default::default(),
            build: Build::default(),
            dictionary: Dictionary::default(),
        })
    }

    fn encode(&mut self, json: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let sample = Sample::take(json)?;
        match sample.guess()? {
            Form::Integers => self.integers(json, out),
            Form::Decimals => self.decimals(json, out),
            Form::Records => {
                self.build.find(&sample.strings)?;
                self.records(json, out)
            }
            Form::Dictionary => match self.dictionary(json, out) {
                None if sample.decimals > 0 => self.decimals(json, out),
                done => done,
            },
        }
    }

    /// Appends what stands in front of the cells of every form.
    fn head(&mut self, form: Form, json: &[u8], count: usize, out: &mut Vec<u8>) {
        let (has_nulls, has_odd) = self.holes.kinds();
        out.push(form.tag() | if has_nulls { NULLS } else { 0 } | if has_odd { ODD } else { 0 });
        encode_varint(out, count as u64);
        self.holes.encode(json, count, &mut self.planes, out);
    }

    fn integers(&mut self, json: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let values = &mut self.streams[0];
        values.clear();
        let count = walk(json, &mut self.holes, |at| {
            let (value, end) = forms::integer(json, at)?;
            values.push(value);
            Some(end)
        })?;
        self.head(Form::Integers, json, count, out);
        numbers::encode(&self.streams[0], &mut self.numbers, &mut self.planes, out);
        Some(())
    }

    fn decimals(&mut self, json: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let values = &mut self.streams[0];
        values.clear();
        let mut decimals = Decimals::default();
        let count = walk(json, &mut self.holes, |at| {
            let (value, end) = decimals.read(json, at, values)?;
            values.push(value);
            Some(end)
        })?;
        self.head(Form::Decimals, json, count, out);
        out.push(decimals.scale as u8);
        numbers::encode(&self.streams[0], &mut self.numbers, &mut self.planes, out);
        Some(())
    }

    fn records(&mut self, json: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.streams.iter_mut().for_each(Vec::clear);
        let (build, streams) = (&self.build, &mut self.streams);
        let count = walk(json, &mut self.holes, |at| build.read(json, at, streams))?;
        self.head(Form::Records, json, count, out);
        self.build.encode(out);
        for stream in &self.streams[..self.build.streams] {
            numbers::encode(stream, &mut self.numbers, &mut self.planes, out);
        }
        Some(())
    }

    fn dictionary(&mut self, json: &[u8], out: &mut Vec<u8>) -> Option<()> {
        self.dictionary.collect(json, &mut self.streams[0])?;
        out.push(Form::Dictionary.tag());
        encode_varint(out, self.streams[0].len() as u64);
        self.dictionary.encode(json, &mut self.planes, out);
        numbers::encode(&self.streams[0], &mut self.numbers, &mut self.planes, out);
        Some(())
    }
}

/// The first cells of an array.
struct Sample<'a> {
    strings: Vec<&'a [u8]>,
    integers: usize,
    decimals: usize,
    /// How many of them are not NULL.
    seen: usize,
    distinct: usize,
}

impl<'a> Sample<'a> {
    fn take(json: &'a [u8]) -> Option<Self> {
        let mut sample = Self { strings: Vec::with_capacity(SAMPLE), integers: 0, decimals: 0, seen: 0, distinct: 0 };
        let mut cells: [&[u8]; SAMPLE] = [&[]; SAMPLE];
        let mut at = 1;
        for _ in 0..SAMPLE * 16 {
            let end = cell_end(json, at)?;
            let cell = &json[at..end];
            if cell != b"null" {
                sample.distinct += usize::from(!cells[..sample.seen].contains(&cell));
                cells[sample.seen] = cell;
                sample.seen += 1;
                match cell.first() {
                    Some(b'"') => sample.strings.push(cell),
                    Some(b'-' | b'0'..=b'9') => {
                        let is_decimal = memchr::memchr2(b'.', b'e', cell).is_some();
                        sample.decimals += usize::from(is_decimal);
                        sample.integers += usize::from(!is_decimal);
                    }
                    _ => {}
                }
            }
            if end + 1 == json.len() || sample.seen == SAMPLE {
                break;
            }
            at = end + 1;
        }
        Some(sample)
    }

    /// Guesses which form fits.
    fn guess(&self) -> Option<Form> {
        let most = |count: usize| count > 0 && count * 8 >= self.seen * 7;
        if most(self.integers) {
            return Some(Form::Integers);
        }
        // Long decimals that come again and again are shorter as what they repeat.
        if most(self.decimals) && self.distinct * 2 > self.seen + 1 {
            return Some(Form::Decimals);
        }
        if self.strings.len() == self.seen
            && self.strings.iter().all(|cell| records::is_date(cell))
            && Build::default().find(&self.strings).is_some()
        {
            return Some(Form::Records);
        }
        if self.distinct * 2 <= self.seen + 1 {
            return Some(Form::Dictionary);
        }
        (most(self.strings.len()) && Build::default().find(&self.strings).is_some()).then_some(Form::Records)
    }
}

impl Decoder {
    fn new() -> io::Result<Self> {
        Ok(Self {
            planes: PlaneReader::new()?,
            numbers: NumberBuffers::default(),
            gaps: Gaps::default(),
            streams: Default::default(),
            build: Build::default(),
            entries: Entries::default(),
            memory: Vec::new(),
        })
    }

    fn decode(&mut self, input: &mut Input<'_>, raw: usize, json: &mut Vec<u8>) -> Result<(), Malformed> {
        let tag = input.byte()?;
        let holes = (tag & NULLS != 0, tag & ODD != 0);
        let form = Form::of_tag(tag & !(NULLS | ODD)).ok_or(Malformed("its form is unknown"))?;
        // Every cell takes a comma or bracket at least.
        let count = input.length(raw)?;
        let Self { planes, numbers, gaps, streams, build, entries, memory } = self;
        gaps.decode(input, count, holes, raw, planes, memory)?;
        let filled = gaps.filled()?;
        json.clear();
        json.resize(raw + Pen::SLACK, 0);
        let mut pen = Pen::new(json);
        match form {
            Form::Integers => {
                numbers::decode(input, filled, numbers, planes, &mut streams[0])?;
                let values = streams[0].as_slice();
                gaps.weave(&mut pen, |pen, at| forms::write_integer(pen, *values.get(at).ok_or(digits::Full)?))?;
            }
            Form::Decimals => {
                let scale = usize::from(input.byte()?);
                if scale > forms::SCALE_MAX {
                    return Err(Malformed("its scale is impossible"));
                }
                numbers::decode(input, filled, numbers, planes, &mut streams[0])?;
                let values = streams[0].as_slice();
                gaps.weave(&mut pen, |pen, at| forms::write_decimal(pen, *values.get(at).ok_or(digits::Full)?, scale))?;
            }
            Form::Records => {
                build.decode(input)?;
                for stream in &mut streams[..build.streams] {
                    numbers::decode(input, filled, numbers, planes, stream)?;
                }
                gaps.weave(&mut pen, |pen, at| build.write(pen, streams, at))?;
            }
            Form::Dictionary => {
                entries.decode(input, raw, planes, memory)?;
                numbers::decode(input, filled, numbers, planes, &mut streams[0])?;
                let codes = streams[0].as_slice();
                entries.have(codes)?;
                gaps.weave(&mut pen, |pen, at| entries.write(pen, *codes.get(at).ok_or(digits::Full)?))?;
            }
        }
        if pen.written() != raw || raw == 0 {
            return Err(Malformed("it is shorter than it is said to be"));
        }
        json.truncate(raw);
        json[raw - 1] = b']';
        Ok(())
    }
}

#[cfg(test)]
mod tests;
