//! Where the cells of an array begin and end, and those among them that a form leaves out. `src/store/typed.rs` specifies the layout.
//!
//! Whatever is taken for a cell, the array is those pieces with commas between: no form depends on its being JSON.

use super::Malformed;
use super::digits::{Full, Pen, word};
use super::planes::{Input, PlaneReader, PlaneWriter, encode_varint};

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks the lowest byte of a word that is the one asked for, and perhaps some behind it.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let other = word ^ (LOW * u64::from(byte));
    other.wrapping_sub(LOW) & !other & HIGH
}

/// Tells whether a cell may end at a place: before a comma, or before the bracket that ends the array.
#[inline(always)]
pub fn is_end(json: &[u8], at: usize) -> bool {
    match json.get(at) {
        Some(b',') => true,
        Some(b']') => at + 1 == json.len(),
        _ => false,
    }
}

/// Finds the end of a string without escapes that begins at a place: where its closing quote is.
#[inline(always)]
pub fn plain_string(json: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let eight = word(json, from);
        let quotes = equal(eight, b'"');
        let hits = quotes | equal(eight, b'\\');
        if hits != 0 {
            let first = (hits.trailing_zeros() / 8) as usize;
            return (json.get(from + first) == Some(&b'"')).then_some(from + first);
        }
        from += 8;
        if from >= json.len() {
            return None;
        }
    }
}

/// Finds the end of the cell that begins at a place, if the array can be cut there.
#[inline(always)]
pub fn cell_end(json: &[u8], at: usize) -> Option<usize> {
    let end = match json.get(at)? {
        b'"' => match plain_string(json, at) {
            Some(quote) => quote + 1,
            None => escaped_string(json, at)?,
        },
        b'{' => at + memchr::memchr(b'}', json.get(at..)?)? + 1,
        _ => at + memchr::memchr2(b',', b']', json.get(at..)?)?,
    };
    is_end(json, end).then_some(end)
}

fn escaped_string(json: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let next = from + memchr::memchr2(b'"', b'\\', json.get(from..)?)?;
        if json.get(next) == Some(&b'"') {
            return Some(next + 1);
        }
        from = next + 2;
    }
}

/// The cells that a form leaves out: NULLs, and odd ones that stand as they are.
#[derive(Default)]
pub struct Holes {
    nulls: Vec<usize>,
    odd: Vec<(usize, usize, usize)>,
    memory: Vec<u8>,
}

/// Goes through the cells of an array. `take` says where the cell ends if it could take it; what it could not is a hole. Returns how many cells
/// there are, or none where there are too many holes, or the array cannot be cut into cells.
pub fn walk(json: &[u8], holes: &mut Holes, mut take: impl FnMut(usize) -> Option<usize>) -> Option<usize> {
    holes.nulls.clear();
    holes.odd.clear();
    let mut at = 1;
    let mut index = 0;
    loop {
        let end = match take(at) {
            Some(end) => end,
            None => {
                let end = cell_end(json, at)?;
                if json.get(at..end) == Some(b"null") {
                    holes.nulls.push(index);
                } else {
                    holes.odd.push((index, at, end));
                    if holes.odd.len() > 8 + index / 16 {
                        return None;
                    }
                }
                end
            }
        };
        index += 1;
        if end + 1 == json.len() {
            return Some(index);
        }
        at = end + 1;
    }
}

impl Holes {
    /// Tells whether there are NULLs, and whether there are odd cells.
    pub fn kinds(&self) -> (bool, bool) {
        (!self.nulls.is_empty(), !self.odd.is_empty())
    }

    /// Appends the holes among so many cells.
    pub fn encode(&mut self, json: &[u8], count: usize, planes: &mut PlaneWriter, out: &mut Vec<u8>) {
        let memory = &mut self.memory;
        if !self.nulls.is_empty() {
            memory.clear();
            memory.resize(count.div_ceil(8), 0);
            self.nulls.iter().for_each(|at| memory[at / 8] |= 1 << (at % 8));
            planes.write(memory, out);
        }
        if !self.odd.is_empty() {
            memory.clear();
            let mut next = 0;
            for &(index, from, to) in &self.odd {
                encode_varint(memory, (index - next) as u64);
                encode_varint(memory, (to - from) as u64);
                memory.extend_from_slice(&json[from..to]);
                next = index + 1;
            }
            encode_varint(out, self.odd.len() as u64);
            encode_varint(out, memory.len() as u64);
            planes.write_text(memory, out);
        }
    }
}

/// The holes among the cells that are read.
#[derive(Default)]
pub struct Gaps {
    nulls: Vec<u8>,
    odd: Vec<u8>,
    odd_count: usize,
    count: usize,
    null_count: usize,
}

impl Gaps {
    /// Reads the holes among so many cells, of an array of at most so many bytes.
    pub fn decode(
        &mut self,
        input: &mut Input<'_>,
        count: usize,
        (has_nulls, has_odd): (bool, bool),
        raw: usize,
        planes: &mut PlaneReader,
        memory: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        (self.count, self.odd_count, self.null_count) = (count, 0, 0);
        self.nulls.clear();
        self.odd.clear();
        if has_nulls {
            self.nulls.extend_from_slice(planes.read(input, count.div_ceil(8), memory)?);
            self.null_count = self.nulls.iter().map(|byte| byte.count_ones() as usize).sum();
        }
        if has_odd {
            self.odd_count = input.length(count)?;
            let length = input.length(raw.saturating_mul(3))?;
            self.odd.extend_from_slice(planes.read(input, length, memory)?);
        }
        Ok(())
    }

    /// Returns how many cells are none of the holes.
    pub fn filled(&self) -> Result<usize, Malformed> {
        self.count.checked_sub(self.null_count + self.odd_count).ok_or(Malformed("it has more holes than cells"))
    }

    /// Writes the array: `cell` writes the next cell that is no hole, and a comma.
    pub fn weave(&self, pen: &mut Pen<'_>, mut cell: impl FnMut(&mut Pen<'_>, usize) -> Result<(), Full>) -> Result<(), Malformed> {
        let long = |Full| Malformed("it is longer than it is said to be");
        let filled = self.filled()?;
        pen.byte(b'[').map_err(long)?;
        if filled == self.count {
            for at in 0..filled {
                cell(pen, at).map_err(long)?;
            }
            return Ok(());
        }
        let mut odd = Input(&self.odd);
        let mut odd_left = self.odd_count;
        let mut next_odd = if odd_left > 0 { odd.length(self.count)? } else { usize::MAX };
        let mut taken = 0;
        for at in 0..self.count {
            if self.nulls.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1) {
                pen.copy(b"null,").map_err(long)?;
            } else if at == next_odd {
                let length = odd.length(self.odd.len())?;
                pen.copy(odd.take(length)?).and_then(|()| pen.byte(b',')).map_err(long)?;
                odd_left -= 1;
                next_odd = if odd_left > 0 { at + 1 + odd.length(self.count)? } else { usize::MAX };
            } else if taken < filled {
                cell(pen, taken).map_err(long)?;
                taken += 1;
            } else {
                return Err(Malformed("its holes are where no cells are"));
            }
        }
        Ok(())
    }
}
