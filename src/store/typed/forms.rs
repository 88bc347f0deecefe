//! Forms of single numbers and of few distinct cells: integers, decimals, dictionaries. `src/store/typed.rs` specifies the layout.

use super::Malformed;
use super::cells::{cell_end, is_end};
use super::digits::{self, POWERS, Pen, word};
use super::planes::{Input, PlaneReader, PlaneWriter, encode_varint};

/// The most digits behind a decimal point.
pub const SCALE_MAX: usize = 8;
/// The most digits of a decimal, those in front of the point and the scale together.
const DECIMAL_DIGITS_MAX: usize = 18;
/// The most distinct cells of a dictionary.
const ENTRIES_MAX: usize = 1 << 14;
/// How many places of the table are looked at for a cell.
const PROBES_MAX: usize = 16;

/// Reads the integer at a place, if it is spelled as integers are; tells where it ends.
#[inline(always)]
pub fn integer(json: &[u8], at: usize) -> Option<(i64, usize)> {
    // By far the most are short, and have a comma behind them in the same word.
    let first = word(json, at);
    let count = digits::count(first);
    if (1..8).contains(&count) && (first >> (count * 8)) as u8 == b',' && (count == 1 || first as u8 != b'0') {
        return Some((digits::value(first, count) as i64, at + count));
    }
    long_integer(json, at)
}

fn long_integer(json: &[u8], at: usize) -> Option<(i64, usize)> {
    let is_negative = json.get(at) == Some(&b'-');
    let from = at + usize::from(is_negative);
    let (size, count) = digits::read(json, from);
    let end = from + count;
    let has_leading_zero = count > 1 && json.get(from) == Some(&b'0');
    if count == 0 || count > 19 || has_leading_zero || !is_end(json, end) {
        return None;
    }
    if is_negative {
        let fits = size != 0 && size <= 1 << 63;
        return fits.then_some(((size as i64).wrapping_neg(), end));
    }
    (size < 1 << 63).then_some((size as i64, end))
}

/// Writes an integer and a comma.
#[inline(always)]
pub fn write_integer(pen: &mut Pen<'_>, value: i64) -> Result<(), digits::Full> {
    if value < 0 {
        pen.byte(b'-')?;
    }
    let size = value.unsigned_abs();
    if size < 10_000_000 {
        return pen.short_item(size);
    }
    pen.number(size)?;
    pen.byte(b',')
}

/// Decimals as whole numbers of a common unit.
#[derive(Default)]
pub struct Decimals {
    /// How many digits behind the point the unit has.
    pub scale: usize,
}

impl Decimals {
    /// Reads the decimal at a place, if it is spelled as short reals are; tells where it ends. The numbers read before are brought to a smaller unit
    /// where this one needs it.
    #[inline(always)]
    pub fn read(&mut self, json: &[u8], at: usize, values: &mut [i64]) -> Option<(i64, usize)> {
        let is_negative = json.get(at) == Some(&b'-');
        let from = at + usize::from(is_negative);
        let (whole, whole_digits) = digits::read(json, from);
        let point = from + whole_digits;
        if whole_digits == 0 || json.get(point) != Some(&b'.') || (whole_digits > 1 && json.get(from) == Some(&b'0')) {
            return None;
        }
        let behind = word(json, point + 1);
        let count = digits::count(behind);
        let end = point + 1 + count;
        if count == 0 || !is_end(json, end) {
            return None;
        }
        let fraction = digits::value(behind, count);
        let last = json.get(end - 1);
        let used = if fraction == 0 { 0 } else { count };
        if count > 1 && last == Some(&b'0') {
            return None;
        }
        if used > self.scale {
            self.rescale(used, values)?;
        }
        if whole_digits + self.scale > DECIMAL_DIGITS_MAX {
            return None;
        }
        let size = (whole * POWERS[self.scale] + fraction * POWERS[self.scale - used]) as i64;
        if is_negative && size == 0 {
            return None;
        }
        Some((if is_negative { -size } else { size }, end))
    }

    /// Takes a smaller unit, unless a number would have too many digits then.
    #[cold]
    fn rescale(&mut self, scale: usize, values: &mut [i64]) -> Option<()> {
        let factor = POWERS[scale - self.scale] as i64;
        let limit = POWERS[DECIMAL_DIGITS_MAX] / factor as u64;
        if scale > SCALE_MAX || values.iter().any(|value| value.unsigned_abs() >= limit) {
            return None;
        }
        values.iter_mut().for_each(|value| *value *= factor);
        self.scale = scale;
        Some(())
    }
}

/// Writes a decimal and a comma. The scale must not be above [`SCALE_MAX`].
#[inline(always)]
pub fn write_decimal(pen: &mut Pen<'_>, value: i64, scale: usize) -> Result<(), digits::Full> {
    if value < 0 {
        pen.byte(b'-')?;
    }
    let size = value.unsigned_abs();
    if size < 100_000_000 && (1..=6).contains(&scale) {
        return pen.short_decimal(size, scale);
    }
    let (whole, fraction) = match scale {
        0 => (size, 0),
        _ => (size / POWERS[scale], size % POWERS[scale]),
    };
    pen.number(whole)?;
    pen.byte(b'.')?;
    pen.fraction(fraction, scale.max(1))?;
    pen.byte(b',')
}

/// Memory for dictionaries.
#[derive(Default)]
pub struct Dictionary {
    slots: Vec<u16>,
    entries: Vec<(usize, usize)>,
    text: Vec<u8>,
}

impl Dictionary {
    /// Gives every cell of an array the number of its like, in the order of first appearance; or gives up since too few are alike.
    pub fn collect(&mut self, json: &[u8], codes: &mut Vec<i64>) -> Option<()> {
        codes.clear();
        self.entries.clear();
        self.slots.clear();
        self.slots.resize(256, 0);
        let mut at = 1;
        loop {
            let end = cell_end(json, at)?;
            let code = self.code(json, at, end, codes.len())?;
            codes.push(code as i64);
            if end + 1 == json.len() {
                break;
            }
            at = end + 1;
        }
        (self.entries.len() <= 1 + codes.len() / 4).then_some(())
    }

    #[inline(always)]
    fn code(&mut self, json: &[u8], at: usize, end: usize, seen: usize) -> Option<usize> {
        let length = end - at;
        let first = word(json, at);
        let (first, last) = if length >= 8 { (first, word(json, end - 8)) } else { (first & ((1 << (length * 8)) - 1), 0) };
        let mixed = (first ^ last.rotate_left(29) ^ length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mask = self.slots.len() - 1;
        let mut slot = (mixed >> 40) as usize & mask;
        for _ in 0..PROBES_MAX {
            let code = usize::from(*self.slots.get(slot)?);
            if code == 0 {
                return self.add(slot, at, end, seen);
            }
            let &(from, to) = self.entries.get(code - 1)?;
            if to - from == length {
                let is_same =
                    if length < 8 { word(json, from) & ((1 << (length * 8)) - 1) == first } else { json[from..to] == json[at..end] };
                if is_same {
                    return Some(code - 1);
                }
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    #[cold]
    fn add(&mut self, slot: usize, at: usize, end: usize, seen: usize) -> Option<usize> {
        if self.entries.len() >= ENTRIES_MAX || self.entries.len() > 48 + seen / 4 {
            return None;
        }
        self.entries.push((at, end));
        let code = self.entries.len();
        *self.slots.get_mut(slot)? = code as u16;
        Some(code - 1)
    }

    /// Appends the distinct cells.
    pub fn encode(&mut self, json: &[u8], planes: &mut PlaneWriter, out: &mut Vec<u8>) {
        self.text.clear();
        for &(from, to) in &self.entries {
            encode_varint(&mut self.text, (to - from) as u64);
            self.text.extend_from_slice(&json[from..to]);
        }
        encode_varint(out, self.entries.len() as u64);
        encode_varint(out, self.text.len() as u64);
        planes.write_text(&self.text, out);
    }
}

/// The distinct cells of a dictionary that is read.
#[derive(Default)]
pub struct Entries {
    text: Vec<u8>,
    places: Vec<(usize, usize)>,
}

impl Entries {
    /// Reads the distinct cells of an array of so many bytes.
    pub fn decode(&mut self, input: &mut Input<'_>, raw: usize, planes: &mut PlaneReader, memory: &mut Vec<u8>) -> Result<(), Malformed> {
        let count = input.length(ENTRIES_MAX)?;
        let length = input.length(raw.saturating_mul(3))?;
        self.text.clear();
        self.text.extend_from_slice(planes.read(input, length, memory)?);
        self.places.clear();
        let mut rest = Input(&self.text);
        for _ in 0..count {
            let bytes = rest.length(length)?;
            let from = length - rest.0.len();
            rest.take(bytes)?;
            self.places.push((from, from + bytes));
        }
        // The comma behind each cell is written with it.
        Ok(())
    }

    /// Writes the cell of a number and a comma.
    #[inline(always)]
    pub fn write(&self, pen: &mut Pen<'_>, code: i64) -> Result<(), digits::Full> {
        let &(from, to) = usize::try_from(code).ok().and_then(|code| self.places.get(code)).ok_or(digits::Full)?;
        let length = to - from;
        if length <= 8 {
            pen.word(word(&self.text, from), length)?;
        } else {
            pen.copy(self.text.get(from..to).ok_or(digits::Full)?)?;
        }
        pen.byte(b',')
    }

    /// Tells whether every number has a cell.
    pub fn have(&self, codes: &[i64]) -> Result<(), Malformed> {
        let all = codes.iter().all(|code| usize::try_from(*code).is_ok_and(|code| code < self.places.len()));
        if all { Ok(()) } else { Err(Malformed("a cell is none of its dictionary")) }
    }
}
