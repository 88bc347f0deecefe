//! Runs of 64-bit integers: less the smallest, or as differences, in as few bits as the widest needs. `src/store/typed.rs` specifies the layout.

use super::Malformed;
use super::digits::word;
use super::planes::{Input, PlaneReader, PlaneWriter, encode_varint, unzigzag, zigzag};

/// The residuals are what numbers are above the smallest.
const ABOVE_SMALLEST: u8 = 0;
/// The residuals are what differences of neighbours are above the smallest difference.
const DIFFERENCES: u8 = 1;
/// Marks residuals that stand bit by bit.
const BITS: u8 = 0x80;

/// Wider residuals do not stand bit by bit: a word that begins at any byte must hold one.
const BITS_MAX: u32 = 57;
/// Residuals up to so many bits stand several to a byte.
const SHARED_MAX: u32 = 4;
/// How many neighbours are looked at for the choice between numbers and differences.
const SAMPLE: usize = 256;

/// Memory for writing numbers.
#[derive(Default)]
pub struct NumberMemory {
    residuals: Vec<u64>,
    plane: Vec<u8>,
    planes: Vec<u8>,
}

/// Memory for reading numbers.
#[derive(Default)]
pub struct NumberBuffers {
    residuals: Vec<u64>,
    plane: Vec<u8>,
}

fn bits_of(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// Appends numbers. How many they are is for the reader to know.
pub fn encode(values: &[i64], memory: &mut NumberMemory, planes: &mut PlaneWriter, out: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    let (mut low, mut high) = (first, first);
    let (mut step_low, mut step_high) = if values.len() == 1 { (0, 0) } else { (i64::MAX, i64::MIN) };
    let mut before = first;
    for &value in values.iter().skip(1) {
        let step = value.wrapping_sub(before);
        before = value;
        low = low.min(value);
        high = high.max(value);
        step_low = step_low.min(step);
        step_high = step_high.max(step);
    }
    memory.residuals.clear();
    let (transform, range) = if are_steps_narrower(values, low, step_low) {
        memory.residuals.push(0);
        memory.residuals.extend(values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]).wrapping_sub(step_low) as u64));
        (DIFFERENCES, step_high.wrapping_sub(step_low) as u64)
    } else {
        memory.residuals.extend(values.iter().map(|value| value.wrapping_sub(low) as u64));
        (ABOVE_SMALLEST, high.wrapping_sub(low) as u64)
    };
    let width = bits_of(range);
    let head = out.len();
    out.push(transform);
    out.push(width as u8);
    if transform == DIFFERENCES {
        encode_varint(out, zigzag(first));
        encode_varint(out, zigzag(step_low));
    } else {
        encode_varint(out, zigzag(low));
    }
    if width == 0 {
        return;
    }
    let NumberMemory { residuals, plane, planes: packed } = memory;
    packed.clear();
    if width <= SHARED_MAX {
        share(residuals, shared_width(width), plane);
        planes.write(plane, packed);
    } else {
        for shift in (0..width).step_by(8) {
            plane.clear();
            plane.extend(residuals.iter().map(|residual| (residual >> shift) as u8));
            planes.write(plane, packed);
        }
    }
    if width <= BITS_MAX && (residuals.len() as u64 * u64::from(width)).div_ceil(8) <= packed.len() as u64 {
        out[head] |= BITS;
        write_bits(residuals, width, out);
    } else {
        out.extend_from_slice(packed);
    }
}

/// Tells whether differences take fewer bits than the numbers themselves, as far as a sample tells.
fn are_steps_narrower(values: &[i64], low: i64, step_low: i64) -> bool {
    let (mut as_they_are, mut as_steps, mut alike, mut seen) = (0, 0, 0, 0);
    let stride = (values.len() / SAMPLE).max(1);
    for at in (2..values.len()).step_by(stride) {
        let step = values[at].wrapping_sub(values[at - 1]);
        as_they_are += bits_of(values[at].wrapping_sub(low) as u64);
        as_steps += bits_of(step.wrapping_sub(step_low) as u64);
        alike += u32::from(step == values[at - 1].wrapping_sub(values[at - 2]));
        seen += 1;
    }
    as_steps < as_they_are || alike * 8 > seen * 7
}

/// Returns in how many bits residuals stand that share bytes.
fn shared_width(width: u32) -> u32 {
    width.next_power_of_two()
}

/// Puts residuals of 1, 2 or 4 bits into bytes, the first into the lowest bits.
fn share(residuals: &[u64], width: u32, plane: &mut Vec<u8>) {
    let each = (8 / width) as usize;
    plane.clear();
    let byte = |some: &[u64]| some.iter().rev().fold(0, |byte, residual| byte << width | *residual as u8);
    plane.extend(residuals.chunks(each).map(byte));
}

fn write_bits(residuals: &[u64], width: u32, out: &mut Vec<u8>) {
    let length = (residuals.len() as u64 * u64::from(width)).div_ceil(8);
    let end = out.len() + length as usize;
    let (mut waiting, mut count) = (0_u128, 0);
    for residual in residuals {
        waiting |= u128::from(*residual) << count;
        count += width;
        if count >= 64 {
            out.extend_from_slice(&(waiting as u64).to_le_bytes());
            waiting >>= 64;
            count -= 64;
        }
    }
    out.extend_from_slice(&(waiting as u64).to_le_bytes());
    out.truncate(end);
}

/// Reads so many numbers.
pub fn decode(
    input: &mut Input<'_>,
    count: usize,
    buffers: &mut NumberBuffers,
    planes: &mut PlaneReader,
    values: &mut Vec<i64>,
) -> Result<(), Malformed> {
    values.clear();
    if count == 0 {
        return Ok(());
    }
    let kind = input.byte()?;
    let width = u32::from(input.byte()?);
    let base = unzigzag(input.varint()?);
    let transform = kind & !BITS;
    if width > 64 || transform > DIFFERENCES || (kind & BITS != 0 && !(1..=BITS_MAX).contains(&width)) {
        return Err(Malformed("numbers are of an unknown kind"));
    }
    let step = if transform == DIFFERENCES { unzigzag(input.varint()?) } else { 0 };
    let residuals = &mut buffers.residuals;
    residuals.clear();
    if width == 0 {
        residuals.resize(count, 0);
    } else if kind & BITS != 0 {
        read_bits(input, count, width, residuals)?;
    } else if width <= SHARED_MAX {
        let width = shared_width(width);
        let each = (8 / width) as usize;
        let plane = planes.read(input, count.div_ceil(each), &mut buffers.plane)?;
        let mask = (1_u64 << width) - 1;
        residuals.reserve(plane.len() * each);
        for byte in plane {
            residuals.extend((0..8).step_by(width as usize).map(|shift| u64::from(byte >> shift) & mask));
        }
        residuals.truncate(count);
    } else {
        read_planes(input, count, width, buffers, planes)?;
    }
    let residuals = &buffers.residuals;
    if transform == DIFFERENCES {
        let mut value = base;
        values.push(value);
        values.extend(residuals.iter().skip(1).map(|residual| {
            value = value.wrapping_add(step).wrapping_add(*residual as i64);
            value
        }));
    } else {
        values.extend(residuals.iter().map(|residual| base.wrapping_add(*residual as i64)));
    }
    Ok(())
}

fn read_bits(input: &mut Input<'_>, count: usize, width: u32, residuals: &mut Vec<u64>) -> Result<(), Malformed> {
    let width = width as usize;
    let bits = count.checked_mul(width).ok_or(Malformed("there are too many numbers"))?;
    let bytes = input.take(bits.div_ceil(8))?;
    let mask = (1_u64 << width) - 1;
    residuals.extend((0..count).map(|at| (word(bytes, at * width / 8) >> (at * width % 8)) & mask));
    Ok(())
}

fn read_planes(
    input: &mut Input<'_>,
    count: usize,
    width: u32,
    buffers: &mut NumberBuffers,
    planes: &mut PlaneReader,
) -> Result<(), Malformed> {
    for shift in (0..width).step_by(8) {
        let plane = planes.read(input, count, &mut buffers.plane)?;
        if shift == 0 {
            buffers.residuals.extend(plane.iter().map(|byte| u64::from(*byte)));
        } else {
            for (residual, byte) in buffers.residuals.iter_mut().zip(plane) {
                *residual |= u64::from(*byte) << shift;
            }
        }
    }
    Ok(())
}
