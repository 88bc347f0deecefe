//! Finding cells in the array of a column chunk without telling all of its cells apart.
//!
//! What is looked for is where two arrays differ, or the cells at a few places. A cell begins after a *separator*, a comma between two cells. In a run
//! of bytes that begins with a cell, and has neither a backslash nor a brace, every quote begins or ends a string: there separators are found
//! 64 bytes at a time, as bits of a word. Any other run is walked cell by cell.
//!
//! Of a canonical array both ways say what [`super::split_array`] says. What is none may go unnoticed as long as none of its cells is asked for; nothing
//! here panics on it, and each cell that is handed out is still to be decoded.

use std::ops::ControlFlow;

use super::{ValueError, cell_length};

/// How many bytes are looked at at once.
const BLOCK: usize = 64;

/// How many bytes are compared at once while arrays are equal.
const STRIDE: usize = 512;

/// A cell in which two arrays differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Its place in both.
    pub row: usize,
    /// The cell of the first array.
    pub before: &'a [u8],
    /// The cell of the second.
    pub after: &'a [u8],
}

/// Finds the cells in which two canonical arrays of so many cells differ, in rising order.
///
/// # Errors
/// [`ValueError`] where one is no array, or has another number of cells.
pub fn differences<'a>(before: &'a [u8], after: &'a [u8], rows: usize) -> Result<Vec<Difference<'a>>, ValueError> {
    let error = || ValueError::new("an array of cells", after);
    let (mut from, mut to) = (inner(before)?, inner(after)?);
    let mut found = Vec::new();
    if from.is_empty() && to.is_empty() {
        return if rows == 0 { Ok(found) } else { Err(error()) };
    }
    let mut row = 0;
    loop {
        let same = common_prefix(from, to);
        let (cells, start) = last_start(from, same).ok_or_else(error)?;
        row += cells;
        from = from.get(start..).ok_or_else(error)?;
        to = to.get(start..).ok_or_else(error)?;
        let (was, is) = (first_cell(from).ok_or_else(error)?, first_cell(to).ok_or_else(error)?);
        if was != is {
            found.push(Difference { row, before: was, after: is });
        }
        row += 1;
        match (from.get(was.len()..).unwrap_or_default(), to.get(is.len()..).unwrap_or_default()) {
            ([], []) => break,
            ([b',', from_rest @ ..], [b',', to_rest @ ..]) => (from, to) = (from_rest, to_rest),
            _ => return Err(error()),
        }
    }
    if row == rows { Ok(found) } else { Err(error()) }
}

/// Finds some elements of a canonical JSON array of cells, given by their places in rising order, without looking at what comes after the last.
///
/// # Errors
/// As [`super::split_array`], and where there are not so many.
pub fn cells_at<'a>(json: &'a [u8], places: &[usize]) -> Result<Vec<&'a [u8]>, ValueError> {
    let error = || ValueError::new("an array of cells", json);
    let inner = inner(json)?;
    let mut found = Vec::with_capacity(places.len());
    let mut take = |start: usize| {
        let cell = inner.get(start..).and_then(first_cell);
        cell.map(|cell| found.push(cell)).is_some()
    };
    let mut wanted = places.iter().copied().peekable();
    while wanted.next_if_eq(&0).is_some() {
        if !take(0) {
            return Err(error());
        }
    }
    // The cell at a place begins after as many separators.
    let mut passed = 0;
    let flow = separators(inner, &mut |base, bits| {
        let count = bits.count_ones() as usize;
        while let Some(place) = wanted.next_if(|place| *place <= passed + count) {
            let skipped = (passed + 1..place).fold(bits, |bits, _| bits & bits.wrapping_sub(1));
            if place <= passed || !take(base + skipped.trailing_zeros() as usize + 1) {
                return ControlFlow::Break(());
            }
        }
        passed += count;
        if wanted.peek().is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    flow.ok_or_else(error)?;
    if found.len() == places.len() { Ok(found) } else { Err(error()) }
}

/// Takes the brackets off an array.
fn inner(json: &[u8]) -> Result<&[u8], ValueError> {
    let inner = json.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    inner.ok_or_else(|| ValueError::new("an array of cells", json))
}

/// Returns the cell with which a run begins, where one does and a separator or nothing follows it.
fn first_cell(run: &[u8]) -> Option<&[u8]> {
    let cell = run.get(..cell_length(run)?).filter(|cell| !cell.is_empty())?;
    matches!(run.get(cell.len()), None | Some(b',')).then_some(cell)
}

/// Counts the separators in the first `length` bytes of a run, and returns where the cell after the last of them begins. None where the cells
/// before it cannot be told apart.
fn last_start(run: &[u8], length: usize) -> Option<(usize, usize)> {
    let part = run.get(..length)?;
    let (mut cells, mut start) = (0, 0);
    if is_simple(part) {
        separators_in_simple(part, &mut |base, bits| {
            if bits != 0 {
                cells += bits.count_ones() as usize;
                start = base + BLOCK - bits.leading_zeros() as usize;
            }
            ControlFlow::Continue(())
        });
        return Some((cells, start));
    }
    loop {
        let end = start + cell_length(run.get(start..)?)?;
        if end >= length {
            return Some((cells, start));
        }
        if run.get(end) != Some(&b',') {
            return None;
        }
        (cells, start) = (cells + 1, end + 1);
    }
}

/// Hands over the separators of an array, as the offset of a word's lowest bit and the word, until it is told to stop. None where its cells cannot be told
/// apart.
fn separators(inner: &[u8], sink: &mut dyn FnMut(usize, u64) -> ControlFlow<()>) -> Option<()> {
    if is_simple(inner) {
        separators_in_simple(inner, sink);
        return Some(());
    }
    let mut start = 0;
    loop {
        let end = start + cell_length(inner.get(start..)?)?;
        match inner.get(end) {
            None => return Some(()),
            Some(b',') if sink(end, 1).is_break() => return Some(()),
            Some(b',') => start = end + 1,
            Some(_) => return None,
        }
    }
}

/// Tells whether every quote in a run begins or ends a string.
fn is_simple(run: &[u8]) -> bool {
    memchr::memchr2(b'\\', b'{', run).is_none()
}

/// As [`separators`], of a run that is simple and begins with a cell.
fn separators_in_simple(run: &[u8], sink: &mut dyn FnMut(usize, u64) -> ControlFlow<()>) {
    let has_strings = memchr::memchr(b'"', run).is_some();
    // All ones while inside of a string.
    let mut carried = 0_u64;
    let mut look = |base: usize, block: &[u8; BLOCK]| {
        let mut commas = places_of(block, b',');
        if has_strings {
            let inside = prefix_xor(places_of(block, b'"')) ^ carried;
            // The highest bit, spread over the word.
            carried = 0_u64.wrapping_sub(inside >> (BLOCK - 1));
            commas &= !inside;
        }
        sink(base, commas)
    };
    let (blocks, rest) = run.as_chunks::<BLOCK>();
    for (at, block) in blocks.iter().enumerate() {
        if look(at * BLOCK, block).is_break() {
            return;
        }
    }
    if !rest.is_empty() {
        let mut block = [0; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        let _ = look(blocks.len() * BLOCK, &block);
    }
}

/// Returns a word with a bit for each byte of a block that is this one.
fn places_of(block: &[u8; BLOCK], byte: u8) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const REST: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let (words, _) = block.as_chunks::<8>();
    words.iter().enumerate().fold(0, |places, (at, word)| {
        let other = u64::from_le_bytes(*word) ^ (LOW * u64::from(byte));
        // The highest bit of each byte that is zero, and no other bit (Hacker's Delight, 6-1).
        let zero = !(((other & REST) + REST) | other | REST);
        // The product gathers these bits in its highest byte: no two of its terms meet.
        places | ((zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (at * 8)
    })
}

/// Returns a word in which each bit says whether an odd number of bits is set up to it.
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// Returns how many bytes two runs begin with in common.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let strides = a.as_chunks::<STRIDE>().0.iter().zip(b.as_chunks::<STRIDE>().0);
    let mut at = strides.take_while(|(a, b)| a == b).count() * STRIDE;
    let words = a[at..].as_chunks::<8>().0.iter().zip(b[at..].as_chunks::<8>().0);
    for (a, b) in words {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return at + (differing.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Value, encode_large, split_array};
    use super::*;
    use crate::id::ObjectId;

    fn cell() -> impl Strategy<Value = String> {
        let text = prop_oneof!["[a-c,\"\\\\{}\\[\\]: \n]{0,12}", "[a-z ]{0,90}", "\\PC{0,8}"];
        prop_oneof![
            4 => any::<i16>().prop_map(|number| Value::Integer(number.into()).to_json()),
            2 => any::<f32>().prop_map(|number| Value::Real(number.into()).to_json()),
            4 => text.prop_map(|text| Value::Text(text.into_bytes()).to_json()),
            1 => proptest::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Value::Blob(bytes).to_json()),
            1 => Just(Value::Text(vec![0xff, b',']).to_json()),
            2 => Just("null".to_owned()),
            1 => any::<u8>().prop_map(|seed| {
                let mut out = Vec::new();
                encode_large(&mut out, &ObjectId::of(&[seed]), 70_000);
                String::from_utf8(out).expect("JSON")
            }),
        ]
    }

    /// Cells of one kind, or of many; so that simple runs are as frequent as others.
    fn cells() -> impl Strategy<Value = Vec<String>> {
        let many = |cell: BoxedStrategy<String>| proptest::collection::vec(cell, 1..100);
        prop_oneof![
            many(cell().boxed()),
            many((0..3_u8).prop_map(|n| n.to_string()).boxed()),
            many("[a-z,:\\[\\] ]{0,30}".prop_map(|text: String| Value::Text(text.into_bytes()).to_json()).boxed()),
            many(prop_oneof![Just("null".to_owned()), Just("\",\"".to_owned()), Just("1.5".to_owned())].boxed()),
        ]
    }

    fn array(cells: &[String]) -> String {
        format!("[{}]", cells.join(","))
    }

    /// Compares cell by cell, as the fast way must not.
    fn plainly<'a>(before: &'a [u8], after: &'a [u8]) -> Vec<Difference<'a>> {
        let (before, after) = (split_array(before).expect("an array"), split_array(after).expect("an array"));
        let rows = before.into_iter().zip(after).enumerate();
        rows.filter(|(_, (a, b))| a != b).map(|(row, (before, after))| Difference { row, before, after }).collect()
    }

    fn check(before: &[String], after: &[String]) {
        let (before, after) = (array(before), array(after));
        let rows = split_array(before.as_bytes()).expect("an array").len();
        assert_eq!(differences(before.as_bytes(), after.as_bytes(), rows), Ok(plainly(before.as_bytes(), after.as_bytes())));
        assert!(differences(before.as_bytes(), after.as_bytes(), rows + 1).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn differences_are_those_of_split_arrays(
            cells in cells(),
            others in proptest::collection::vec((any::<proptest::sample::Index>(), cell()), 0..8),
        ) {
            let mut after = cells.clone();
            for (at, other) in others {
                let at = at.index(after.len());
                after[at] = other;
            }
            check(&cells, &after);
            check(&after, &cells);
        }

        #[test]
        fn arrays_that_have_nothing_in_common_differ_everywhere(before in cells(), after in cells()) {
            let rows = before.len().min(after.len());
            check(&before[..rows], &after[..rows]);
        }

        #[test]
        fn the_first_and_the_last_cell_may_differ(cells in cells(), first in cell(), last in cell()) {
            let mut after = cells.clone();
            let end = after.len() - 1;
            after[0] = first;
            check(&cells, &after);
            after[end] = last;
            check(&cells, &after);
        }

        #[test]
        fn arrays_of_different_lengths_are_an_error(cells in cells(), more in cells()) {
            let longer: Vec<String> = cells.iter().chain(&more).cloned().collect();
            for (a, b) in [(&cells, &longer), (&longer, &cells)] {
                for rows in [cells.len(), longer.len()] {
                    prop_assert!(differences(array(a).as_bytes(), array(b).as_bytes(), rows).is_err());
                }
            }
        }

        #[test]
        fn cells_are_found_at_their_places(cells in cells(), places in proptest::collection::btree_set(0_usize..200, 0..20)) {
            let json = array(&cells);
            let split = split_array(json.as_bytes()).expect("an array");
            let places: Vec<usize> = places.into_iter().collect();
            let expected: Option<Vec<&[u8]>> = places.iter().map(|place| split.get(*place).copied()).collect();
            prop_assert_eq!(cells_at(json.as_bytes(), &places).ok(), expected);
        }

        #[test]
        fn bytes_that_are_no_array_do_no_harm(a in "[\\[\\]{},\"\\\\01a]{0,80}", b in "[\\[\\]{},\"\\\\01a]{0,80}", at in 0_usize..9) {
            let (a, b) = (format!("[{a}]"), format!("[{b}]"));
            let _ = differences(a.as_bytes(), b.as_bytes(), 3);
            let _ = cells_at(a.as_bytes(), &[at]);
        }
    }

    #[test]
    fn arrays_without_cells_are_equal() {
        assert_eq!(differences(b"[]", b"[]", 0), Ok(Vec::new()));
        for (before, after, rows) in
            [("[]", "[]", 1), ("[]", "[1]", 1), ("[1]", "[]", 1), ("", "[]", 0), ("[1,]", "[1,]", 2), ("[1,]", "[1,2]", 2)]
        {
            assert!(differences(before.as_bytes(), after.as_bytes(), rows).is_err(), "{before} {after}");
        }
    }

    #[test]
    fn places_and_prefixes_are_those_of_single_bytes() {
        let mut state = 7_u64;
        for _ in 0..200 {
            let block: [u8; BLOCK] = std::array::from_fn(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                [b',', b'-', b',' | 0x80, 0, b'"', 0xff][(state >> 40) as usize % 6]
            });
            for byte in [b',', b'"'] {
                let expected = block.iter().rev().fold(0, |word, found| word << 1 | u64::from(*found == byte));
                assert_eq!(places_of(&block, byte), expected);
            }
            let bits = places_of(&block, b'"');
            let expected = (0..64).fold(0, |word, at| word | u64::from((bits << (63 - at)).count_ones() % 2) << at);
            assert_eq!(prefix_xor(bits), expected);
        }
        let a: Vec<u8> = (0..3000_u32).map(|n| (n % 251) as u8).collect();
        for at in (0..3000).step_by(7) {
            let mut b = a.clone();
            b[at] ^= 1;
            assert_eq!((common_prefix(&a, &b), common_prefix(&a, &a[..at])), (at, at));
        }
    }
}
