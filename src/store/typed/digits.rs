//! Decimal digits, eight at a time in a word: reading them from JSON and writing them back.
//!
//! Words are little endian, so that a word's lowest byte is the first character. Nothing here knows cells or the format.

/// Eight ASCII zeros.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// 10 to the power of the index.
pub const POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// Returns the eight bytes from a place on; zeros stand for those behind the end.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut eight = [0; 8];
            eight.iter_mut().zip(bytes.get(at..).unwrap_or_default()).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(eight)
        }
    }
}

/// Counts the digits that a word begins with.
#[inline(always)]
pub fn count(word: u64) -> usize {
    let values = word ^ ZEROS;
    // A byte above 9 has its high bit set; what it may carry into the bytes behind it does not matter.
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    (others.trailing_zeros() / 8) as usize
}

/// Returns the number that the first `count` characters of a word are, at most eight of them, all of them digits.
#[inline(always)]
pub fn value(word: u64, count: usize) -> u64 {
    if count == 0 {
        return 0;
    }
    let eight = (word & 0x0f0f_0f0f_0f0f_0f0f) << ((8 - count) * 8);
    let pairs = (eight.wrapping_mul(2561) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(6_553_601) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(42_949_672_960_001) >> 32
}

/// Reads all digits from a place on, up to 19 of them: the number, and how many they are. 20 and more are told as 20.
#[inline(always)]
pub fn read(bytes: &[u8], at: usize) -> (u64, usize) {
    let first = word(bytes, at);
    let digits = count(first);
    if digits < 8 {
        return (value(first, digits), digits);
    }
    read_long(bytes, at, value(first, 8))
}

fn read_long(bytes: &[u8], at: usize, first: u64) -> (u64, usize) {
    let second = word(bytes, at + 8);
    let digits = count(second);
    let number = first * POWERS[digits] + value(second, digits);
    if digits < 8 {
        return (number, 8 + digits);
    }
    let third = word(bytes, at + 16);
    let digits = count(third).min(4);
    if digits > 3 { (0, 20) } else { (number * POWERS[digits] + value(third, digits), 16 + digits) }
}

/// Returns the eight digits of a number below 10^8, as values in the bytes of a word, the highest first.
#[inline(always)]
pub fn spread(number: u64) -> u64 {
    let merged = (number / 10_000) | ((number % 10_000) << 32);
    let top = ((merged * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let hundreds = ((merged - 100 * top) << 16) + top;
    let tens = ((hundreds * 103) >> 10) & 0x000f_000f_000f_000f;
    tens + ((hundreds - 10 * tens) << 8)
}

/// Writes into fixed memory, never past its end.
pub struct Pen<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

/// What was to be written is longer than the object is said to be.
#[derive(Debug)]
pub struct Full;

impl<'a> Pen<'a> {
    /// How many bytes more than what is to be written there must be, since words are written whole.
    pub const SLACK: usize = 32;

    /// Begins at the front.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns how much was written.
    pub fn written(&self) -> usize {
        self.at
    }

    /// Returns the next bytes to write into, and goes on by some of them.
    #[inline(always)]
    pub fn next<const N: usize>(&mut self, used: usize) -> Result<&mut [u8; N], Full> {
        let place = self.bytes.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut::<N>()).ok_or(Full)?;
        self.at += used;
        Ok(place)
    }

    /// Writes one byte.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) -> Result<(), Full> {
        *self.next::<1>(1)? = [byte];
        Ok(())
    }

    /// Writes bytes.
    #[inline(always)]
    pub fn copy(&mut self, from: &[u8]) -> Result<(), Full> {
        let end = self.at.checked_add(from.len()).ok_or(Full)?;
        self.bytes.get_mut(self.at..end).ok_or(Full)?.copy_from_slice(from);
        self.at = end;
        Ok(())
    }

    /// Writes the lowest bytes of a word.
    #[inline(always)]
    pub fn word(&mut self, word: u64, count: usize) -> Result<(), Full> {
        *self.next::<8>(count)? = word.to_le_bytes();
        Ok(())
    }

    /// Writes a number without leading zeros.
    #[inline(always)]
    pub fn number(&mut self, number: u64) -> Result<(), Full> {
        if number < 100_000_000 {
            let eight = spread(number);
            let leading = (eight.trailing_zeros() / 8).min(7) as usize;
            return self.word((eight | ZEROS) >> (leading * 8), 8 - leading);
        }
        self.long(number)
    }

    fn long(&mut self, number: u64) -> Result<(), Full> {
        self.number(number / 100_000_000)?;
        self.word(spread(number % 100_000_000) | ZEROS, 8)
    }

    /// Writes a number below 10^7 without leading zeros, and a comma.
    #[inline(always)]
    pub fn short_item(&mut self, number: u64) -> Result<(), Full> {
        let eight = spread(number);
        let count = 8 - (eight.trailing_zeros() / 8).min(7) as usize;
        self.word((eight | ZEROS) >> ((8 - count) * 8) | u64::from(b',') << (count * 8), count + 1)
    }

    /// Writes a number below 10^8 in units of 10^-scale, and a comma; the scale is 1 to 6.
    #[inline(always)]
    pub fn short_decimal(&mut self, number: u64, scale: usize) -> Result<(), Full> {
        let eight = spread(number);
        let leading = (eight.trailing_zeros() as usize / 8).min(7 - scale);
        self.word((eight | ZEROS) >> (leading * 8), 8 - scale - leading)?;
        let fraction = eight >> ((8 - scale) * 8);
        let used = (8 - fraction.leading_zeros() as usize / 8).max(1);
        let digits = (fraction | ZEROS) & ((1 << (used * 8)) - 1);
        self.word(u64::from(b'.') | digits << 8 | u64::from(b',') << ((used + 1) * 8), used + 2)
    }

    /// Writes a fraction of `count` digits, at most eight, without the zeros at its end, but at least one digit.
    #[inline(always)]
    pub fn fraction(&mut self, number: u64, count: usize) -> Result<(), Full> {
        let digits = spread(number) >> ((8 - count) * 8);
        let used = (8 - digits.leading_zeros() / 8).max(1) as usize;
        self.word(digits | ZEROS, used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_and_written_as_they_are() {
        let mut numbers: Vec<u64> = (0..20).flat_map(|power| [10_u64.pow(power) - 1, 10_u64.pow(power), 10_u64.pow(power) + 7]).collect();
        numbers.extend([0, 5, 42, 99_999_999, 100_000_000, u64::from(u32::MAX), i64::MAX as u64, 1 << 63]);
        for number in numbers {
            let mut bytes = [0; 64];
            let mut pen = Pen::new(&mut bytes);
            pen.number(number).expect("room");
            let written = pen.written();
            assert_eq!(std::str::from_utf8(&bytes[..written]), Ok(number.to_string().as_str()));
            for end in [written, 64] {
                let expected = if written < 20 { (number, written) } else { (0, 20) };
                assert_eq!(read(&bytes[..end], 0), expected);
            }
        }
    }

    #[test]
    fn fractions_end_with_a_digit_that_counts() {
        for (number, count, expected) in [(0, 1, "0"), (0, 8, "0"), (5, 2, "05"), (50, 2, "5"), (120, 3, "12"), (7, 8, "00000007")] {
            let mut bytes = [0; 16];
            let mut pen = Pen::new(&mut bytes);
            pen.fraction(number, count).expect("room");
            let written = pen.written();
            assert_eq!(std::str::from_utf8(&bytes[..written]), Ok(expected));
        }
    }

    #[test]
    fn nothing_is_written_past_the_end() {
        let mut pen_bytes = [0; 10];
        let mut pen = Pen::new(&mut pen_bytes);
        assert!(pen.number(123).is_ok() && pen.number(7).is_err() && pen.copy(&[0; 8]).is_err() && pen.byte(1).is_ok());
    }
}
