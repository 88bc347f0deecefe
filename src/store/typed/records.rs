//! Strings that all have one length and one build, such as dates, numbered names, and UUIDs: what stands in all of them, and numbers for what
//! does not. `src/store/typed.rs` specifies the layout.

use super::Malformed;
use super::cells::is_end;
use super::digits::{self, POWERS, Pen, word};
use super::planes::{Input, encode_varint};

/// The longest string, quotes included.
pub const RECORD_BYTES_MAX: usize = 96;
/// The most numbers that a string is made of.
pub const STREAMS_MAX: usize = 12;
/// The most runs of digits in a string.
const FIELDS_MAX: usize = 24;
/// What several digit runs that are one number may amount to.
const PRODUCT_MAX: u64 = 1 << 57;

/// Shorter strings are written as blocks of this many bytes, which is quicker than as many as they have.
const SHORT: usize = 32;

const DECIMAL: u8 = 0;
const HEX: u8 = 1;
const LIMITED: u8 = 2;
/// Marks a field that is part of the number of the field before.
const JOINED: u8 = 0x80;

/// A run of at most eight digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    at: usize,
    width: usize,
    is_hex: bool,
    is_joined: bool,
    /// What the digits are at least.
    offset: u64,
    /// By how much less than this they are more.
    radix: u64,
    stream: usize,
}

/// The build of the strings of an array.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Build {
    /// A string, quotes and a comma included, and room for a block behind. What its digits are is without meaning.
    skeleton: Vec<u8>,
    length: usize,
    /// Which bits of each word of a string are always the same.
    fixed: Vec<(u64, u64)>,
    fields: Vec<Field>,
    /// How many numbers a string is made of.
    pub streams: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Same,
    Digit,
    Hex,
}

/// Returns a mask of the lowest bytes of a word.
#[inline(always)]
fn low_bytes(count: usize) -> u64 {
    if count >= 8 { u64::MAX } else { (1 << (count * 8)) - 1 }
}

/// Returns the number that so many lower-case hexadecimal digits are, at most eight, if they are such.
#[inline(always)]
fn hex_value(word: u64, count: usize) -> Option<u64> {
    let mask = low_bytes(count);
    let letters = (word >> 6) & 0x0101_0101_0101_0101;
    let values = ((word & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9) & mask;
    if (values & !0x0f0f_0f0f_0f0f_0f0f) != 0 || hex_digits(values) & mask != word & mask {
        return None;
    }
    let ordered = values.swap_bytes();
    let pairs = (ordered | (ordered >> 4)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    let eight = (fours | (fours >> 16)) & 0xffff_ffff;
    Some(eight >> ((8 - count) * 4))
}

/// Returns the characters of hexadecimal digits.
#[inline(always)]
fn hex_digits(values: u64) -> u64 {
    let letters = ((values + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    values + 0x3030_3030_3030_3030 + letters * 39
}

/// Returns the lowest `count` hexadecimal digits of a number as characters.
#[inline(always)]
fn hex_text(number: u64, count: usize) -> u64 {
    let eight = (number << ((8 - count) * 4)) & 0xffff_ffff;
    let fours = (eight | (eight << 16)) & 0x0000_ffff_0000_ffff;
    let pairs = (fours | (fours << 8)) & 0x00ff_00ff_00ff_00ff;
    let ordered = (pairs | (pairs << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    hex_digits(ordered.swap_bytes())
}

/// Returns remainder and quotient; by far the most numbers are short, and quicker to divide so.
#[inline(always)]
fn divide(number: u64, by: u64) -> (u64, u64) {
    match (u32::try_from(number), u32::try_from(by)) {
        (Ok(number), Ok(by)) => (u64::from(number % by), u64::from(number / by)),
        _ => (number % by, number / by),
    }
}

/// Tells whether a string, quotes included, begins with a date.
pub fn is_date(cell: &[u8]) -> bool {
    let digit = |at: usize| cell.get(at).is_some_and(u8::is_ascii_digit);
    cell.len() >= 12 && cell[5] == b'-' && cell[8] == b'-' && [1, 2, 3, 4, 6, 7, 9, 10].into_iter().all(digit)
}

impl Build {
    /// Finds the build of strings, of which some are given, quotes included and without escapes.
    pub fn find(&mut self, sample: &[&[u8]]) -> Option<()> {
        let first = *sample.first()?;
        let length = first.len();
        if !(3..=RECORD_BYTES_MAX).contains(&length) || sample.iter().any(|cell| cell.len() != length) {
            return None;
        }
        let classes = classes(sample)?;
        self.length = length;
        self.fields.clear();
        let mut at = 0;
        while at < length {
            let run = classes[at..].iter().take_while(|class| **class != Class::Same).count();
            let is_hex = classes[at..at + run].contains(&Class::Hex);
            let has_time = !is_hex && at == 1 && is_date(first) && sample.iter().all(|cell| is_date(cell));
            if has_time && run == 4 {
                at = self.add_time(first, &classes);
                continue;
            }
            for from in (0..run).step_by(8) {
                let width = (run - from).min(8);
                let radix = if is_hex { 1 << (width * 4) } else { POWERS[width] };
                self.fields.push(Field { at: at + from, width, is_hex, is_joined: !is_hex, offset: 0, radix, stream: 0 });
            }
            at += run.max(1);
        }
        self.skeleton.clear();
        self.skeleton.extend_from_slice(first);
        self.settle()
    }

    /// Adds the fields of a date, and of the time that may follow; returns where they end.
    fn add_time(&mut self, first: &[u8], classes: &[Class]) -> usize {
        let parts = [(1, 4, 0, 10_000), (6, 2, 1, 12), (9, 2, 1, 31), (12, 2, 0, 24), (15, 2, 0, 60), (18, 2, 0, 60)];
        let is_time = first.get(14) == Some(&b':') && first.get(17) == Some(&b':') && classes.len() > 20;
        let has_digits =
            is_time && [12, 13, 15, 16, 18, 19].into_iter().all(|at| classes[at] == Class::Digit) && classes[11] == Class::Same;
        let count = if has_digits { 6 } else { 3 };
        for &(at, width, offset, radix) in &parts[..count] {
            self.fields.push(Field { at, width, is_hex: false, is_joined: at > 1, offset, radix, stream: 0 });
        }
        if has_digits { 20 } else { 11 }
    }

    /// Makes the rest of what is known from the skeleton's text and the fields.
    fn settle(&mut self) -> Option<()> {
        let mut product = 1_u64;
        self.streams = 0;
        for at in 0..self.fields.len() {
            let field = &mut self.fields[at];
            if at > 0 && field.is_joined && product.checked_mul(field.radix).is_some_and(|product| product <= PRODUCT_MAX) {
                product *= field.radix;
            } else {
                field.is_joined = false;
                product = field.radix;
                self.streams += 1;
            }
            field.stream = self.streams - 1;
            for byte in &mut self.skeleton[field.at..field.at + field.width] {
                *byte = b'0';
            }
        }
        if self.streams == 0 || self.streams > STREAMS_MAX || self.fields.len() > FIELDS_MAX {
            return None;
        }
        self.skeleton.push(b',');
        self.skeleton.resize(self.length + SHORT, 0);
        self.fixed.clear();
        for from in (0..self.length).step_by(8) {
            let mut mask = low_bytes(self.length - from);
            for field in &self.fields {
                for at in (field.at..field.at + field.width).filter(|at| (from..from + 8).contains(at)) {
                    mask &= !(0xff << ((at - from) * 8));
                }
            }
            self.fixed.push((mask, word(&self.skeleton, from) & mask));
        }
        Some(())
    }

    /// Reads the string at a place into the streams, if it has this build; tells where it ends.
    #[inline(always)]
    pub fn read(&self, json: &[u8], at: usize, streams: &mut [Vec<i64>; STREAMS_MAX]) -> Option<usize> {
        let end = at + self.length;
        let is_built = self.fixed.iter().enumerate().all(|(nth, (mask, same))| word(json, at + nth * 8) & mask == *same);
        if !is_built || !is_end(json, end) {
            return None;
        }
        let mut numbers = [0_u64; STREAMS_MAX];
        for field in &self.fields {
            let text = word(json, at + field.at);
            let value = if field.is_hex {
                hex_value(text, field.width)?
            } else if digits::count(text) >= field.width {
                digits::value(text, field.width).wrapping_sub(field.offset)
            } else {
                return None;
            };
            if value >= field.radix {
                return None;
            }
            let number = &mut numbers[field.stream];
            *number = *number * field.radix + value;
        }
        for (stream, number) in streams.iter_mut().zip(numbers).take(self.streams) {
            stream.push(number as i64);
        }
        Some(end)
    }

    /// Appends the build.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_varint(out, self.length as u64);
        out.extend_from_slice(&self.skeleton[..self.length]);
        encode_varint(out, self.fields.len() as u64);
        for field in &self.fields {
            let is_plain = field.offset == 0 && field.radix == POWERS[field.width];
            let kind = if field.is_hex {
                HEX
            } else if is_plain {
                DECIMAL
            } else {
                LIMITED
            };
            out.extend_from_slice(&[kind | if field.is_joined { JOINED } else { 0 }, field.at as u8, field.width as u8]);
            if kind == LIMITED {
                encode_varint(out, field.offset);
                encode_varint(out, field.radix);
            }
        }
    }

    /// Reads a build.
    pub fn decode(&mut self, input: &mut Input<'_>) -> Result<(), Malformed> {
        let malformed = Malformed("the build of its strings is impossible");
        self.length = input.length(RECORD_BYTES_MAX)?;
        self.skeleton.clear();
        self.skeleton.extend_from_slice(input.take(self.length)?);
        self.fields.clear();
        let mut free = 0;
        for nth in 0..input.length(FIELDS_MAX)? {
            let kind = input.byte()?;
            let (at, width) = (usize::from(input.byte()?), usize::from(input.byte()?));
            if at < free || !(1..=8).contains(&width) || at + width > self.length {
                return Err(malformed);
            }
            free = at + width;
            let is_joined = kind & JOINED != 0;
            let (is_hex, offset, radix) = match kind & !JOINED {
                HEX => (true, 0, 1 << (width * 4)),
                DECIMAL => (false, 0, POWERS[width]),
                LIMITED => (false, input.varint()?, input.varint()?),
                _ => return Err(malformed),
            };
            let fits = is_hex || offset.checked_add(radix).is_some_and(|end| radix > 0 && end <= POWERS[width]);
            if !fits || (nth == 0 && is_joined) {
                return Err(malformed);
            }
            self.fields.push(Field { at, width, is_hex, is_joined, offset, radix, stream: 0 });
        }
        let joined: Vec<bool> = self.fields.iter().map(|field| field.is_joined).collect();
        self.settle().ok_or(malformed.clone())?;
        // A join that would be too large a number was undone.
        if self.fields.iter().map(|field| field.is_joined).ne(joined) { Err(malformed) } else { Ok(()) }
    }

    /// Writes the string of the numbers at a place of the streams, and a comma.
    #[inline(always)]
    pub fn write(&mut self, pen: &mut Pen<'_>, streams: &[Vec<i64>; STREAMS_MAX], nth: usize) -> Result<(), digits::Full> {
        let mut rest = 0;
        let mut is_begun = false;
        for field in self.fields.iter().rev() {
            if !is_begun {
                rest = *streams[field.stream].get(nth).ok_or(digits::Full)? as u64;
            }
            let value = if field.is_joined {
                let digits;
                (digits, rest) = divide(rest, field.radix);
                digits
            } else {
                rest
            };
            is_begun = field.is_joined;
            if value >= field.radix {
                return Err(digits::Full);
            }
            let text = if field.is_hex {
                hex_text(value, field.width)
            } else {
                (digits::spread(value + field.offset) | 0x3030_3030_3030_3030) >> ((8 - field.width) * 8)
            };
            let mask = low_bytes(field.width);
            let place = self.skeleton.get_mut(field.at..).and_then(|rest| rest.first_chunk_mut::<8>()).ok_or(digits::Full)?;
            *place = ((u64::from_le_bytes(*place) & !mask) | (text & mask)).to_le_bytes();
        }
        if self.length < SHORT {
            *pen.next::<SHORT>(self.length + 1)? = *self.skeleton.first_chunk().ok_or(digits::Full)?;
            return Ok(());
        }
        pen.copy(self.skeleton.get(..=self.length).ok_or(digits::Full)?)
    }
}

/// Says of every place in strings of one length what stands there; none where it is neither the same everywhere nor a digit.
fn classes(sample: &[&[u8]]) -> Option<Vec<Class>> {
    let first = *sample.first()?;
    let mut classes = Vec::with_capacity(first.len());
    let mut varies = vec![false; first.len()];
    for (at, byte) in first.iter().enumerate() {
        let all = |test: &dyn Fn(u8) -> bool| sample.iter().all(|cell| test(cell[at]));
        varies[at] = !all(&|other| other == *byte);
        classes.push(if all(&|other| other.is_ascii_digit()) {
            Class::Digit
        } else if !varies[at] {
            Class::Same
        } else if all(&|other| matches!(other, b'0'..=b'9' | b'a'..=b'f')) {
            Class::Hex
        } else {
            return None;
        });
    }
    if classes.contains(&Class::Hex) {
        // Where hexadecimal digits vary, letters beside them that happen to be the same are such digits, too.
        for at in 0..first.len() {
            if classes[at] == Class::Same && matches!(first[at], b'a'..=b'f') {
                classes[at] = Class::Hex;
            }
        }
    }
    // Runs that never vary are part of what is the same; dates are taken as a whole.
    let mut at = 0;
    while at < classes.len() {
        let run = classes[at..].iter().take_while(|class| **class != Class::Same).count();
        if run > 0 && !varies[at..at + run].contains(&true) && !is_date(first) {
            classes[at..at + run].fill(Class::Same);
        }
        at += run.max(1);
    }
    Some(classes)
}
