//! Planes: runs of bytes of a length that both sides know, each stored as what takes least; and the reading of what a hostile pack may hold.
//! `src/store/typed.rs` specifies the layout.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use super::Malformed;

/// The bytes of a plane follow.
const RAW: u8 = 0;
/// A zstd frame follows, after its length.
const ZSTD: u8 = 1;
/// All bytes are the one that follows.
const EQUAL: u8 = 2;

/// Shorter planes are not worth a frame.
const ZSTD_BYTES_MIN: usize = 24;

/// Appends an unsigned LEB128 number.
pub fn encode_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Makes of a signed number an unsigned one that is small where its size is.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Takes back [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes that are read from the front. Every method fails instead of reading past the end.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Takes one byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(byte)
    }

    /// Takes so many bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes an unsigned LEB128 number.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// Takes a length that must not be above a limit.
    pub fn length(&mut self, limit: usize) -> Result<usize, Malformed> {
        usize::try_from(self.varint()?).ok().filter(|length| *length <= limit).ok_or(Malformed("a length is impossible"))
    }
}

/// Writes planes.
pub struct PlaneWriter {
    noise: Compressor<'static>,
    text: Compressor<'static>,
    packed: Vec<u8>,
}

impl PlaneWriter {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        let mut noise = Compressor::new(1)?;
        // Short matches in what is nearly noise cost more than the letters that they stand for.
        noise.set_parameter(CParameter::MinMatch(7))?;
        // Planes are short: a large table would take longer to clear than to use.
        noise.set_parameter(CParameter::HashLog(11))?;
        Ok(Self { noise, text: Compressor::new(1)?, packed: Vec::new() })
    }

    /// Appends a plane of numbers.
    pub fn write(&mut self, plane: &[u8], out: &mut Vec<u8>) {
        write(&mut self.noise, &mut self.packed, plane, out);
    }

    /// Appends a plane of text.
    pub fn write_text(&mut self, plane: &[u8], out: &mut Vec<u8>) {
        write(&mut self.text, &mut self.packed, plane, out);
    }
}

fn write(compressor: &mut Compressor<'static>, packed: &mut Vec<u8>, plane: &[u8], out: &mut Vec<u8>) {
    let Some(&first) = plane.first() else { return };
    if plane.iter().all(|byte| *byte == first) {
        out.extend_from_slice(&[EQUAL, first]);
        return;
    }
    if plane.len() >= ZSTD_BYTES_MIN {
        // Room for less than the plane itself: what does not fit is not wanted.
        packed.resize(packed.len().max(plane.len()), 0);
        let room = plane.len() - 4;
        if let Ok(length) = compressor.compress_to_buffer(plane, &mut packed[..room]) {
            out.push(ZSTD);
            encode_varint(out, length as u64);
            out.extend_from_slice(&packed[..length]);
            return;
        }
    }
    out.push(RAW);
    out.extend_from_slice(plane);
}

/// Reads planes.
pub struct PlaneReader {
    decompressor: Decompressor<'static>,
}

impl PlaneReader {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        Ok(Self { decompressor: Decompressor::new()? })
    }

    /// Reads a plane of so many bytes into the front of memory of its own, which grows as it must, or refers to it where it stands.
    pub fn read<'a: 'm, 'm>(&mut self, input: &mut Input<'a>, length: usize, memory: &'m mut Vec<u8>) -> Result<&'m [u8], Malformed> {
        if length == 0 {
            return Ok(&[]);
        }
        let kind = input.byte()?;
        if kind == RAW {
            return input.take(length);
        }
        memory.resize(memory.len().max(length), 0);
        let plane = &mut memory[..length];
        match kind {
            ZSTD => {
                let stored = input.length(length)?;
                let count = self.decompressor.decompress_to_buffer(input.take(stored)?, plane);
                if count.ok() != Some(length) {
                    return Err(Malformed("a plane cannot be decompressed"));
                }
            }
            EQUAL => plane.fill(input.byte()?),
            _ => return Err(Malformed("a plane is of an unknown kind")),
        }
        Ok(plane)
    }
}
