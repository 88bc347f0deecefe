//! Tests of typed objects as a whole.

use proptest::prelude::*;

use super::*;

fn array<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut json = b"[".to_vec();
    for (nth, cell) in cells.into_iter().enumerate() {
        if nth > 0 {
            json.push(b',');
        }
        json.extend_from_slice(cell.as_ref().as_bytes());
    }
    json.push(b']');
    json
}

/// Encodes an array and decodes it again; returns the typed form, if there is one.
#[track_caller]
fn round(json: &[u8]) -> Option<Vec<u8>> {
    let mut typed = b"before".to_vec();
    if !encode(json, &mut typed).expect("memory") {
        assert_eq!(typed, b"before");
        return None;
    }
    let typed = typed.split_off(6);
    let mut decoded = b"what was there".to_vec();
    decode(&typed, json.len() as u64, &mut decoded).expect("decodes");
    assert_eq!(String::from_utf8_lossy(&decoded), String::from_utf8_lossy(json));
    let mut longer = typed.clone();
    longer.extend_from_slice(b"DBLYEND1");
    assert_eq!(decode_first(&longer, &mut decoded), Ok((json.len(), 8)));
    assert!(decode(&longer, json.len() as u64, &mut decoded).is_err());
    assert!(decode(&typed, json.len() as u64 + 1, &mut decoded).is_err());
    Some(typed)
}

#[track_caller]
fn check_form(form: Form, cells: &[String]) -> Vec<u8> {
    let json = array(cells);
    let typed = round(&json).unwrap_or_else(|| panic!("no form for {}", String::from_utf8_lossy(&json)));
    let mut input = Input(&typed[4..]);
    input.varint().expect("the length");
    assert_eq!(Form::of_tag(input.byte().expect("the form") & 15), Some(form), "{}", String::from_utf8_lossy(&json));
    typed
}

/// Numbers that look random and are the same each time.
fn noise() -> impl FnMut(u64) -> u64 {
    let mut state = 1_u64;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    }
}

/// Columns as they are met: a name, the form they should get, and by how much smaller than zstd alone they should be, in per cent.
fn columns() -> Vec<(&'static str, Form, u64, Vec<String>)> {
    let mut random = noise();
    let mut sum = 0;
    let mut cells = |cell: &mut CellOf<'_>| -> Vec<String> { (0..2000).map(|nth| cell(nth, &mut random)).collect() };
    vec![
        ("rowids", Form::Integers, 95, cells(&mut |nth, _| (nth + 77_000).to_string())),
        (
            "sorted keys",
            Form::Integers,
            50,
            cells(&mut |_, random| {
                sum += random(4);
                sum.to_string()
            }),
        ),
        ("foreign keys", Form::Integers, 15, cells(&mut |_, random| random(200_000).to_string())),
        (
            "signed, some NULL",
            Form::Integers,
            15,
            cells(&mut |nth, random| {
                if nth % 7 == 0 { "null".into() } else { (random(2000) as i64 - 1000).to_string() }
            }),
        ),
        ("prices", Form::Decimals, 15, cells(&mut |_, random| format!("{:?}", random(10_000_000) as f64 / 100.0))),
        ("whole reals", Form::Decimals, 20, cells(&mut |_, random| format!("{}.0", 1 + random(50)))),
        ("dates", Form::Records, 30, cells(&mut |_, random| format!("\"199{}-{:02}-{:02}\"", random(8), 1 + random(12), 1 + random(28)))),
        (
            "times",
            Form::Records,
            50,
            cells(&mut |nth, random| {
                format!("\"2024-03-{:02}T{:02}:{:02}:{:02}.{:03}Z\"", 1 + nth / 100, nth / 10 % 24, nth % 60, random(60), random(1000))
            }),
        ),
        ("numbered names", Form::Records, 60, cells(&mut |nth, _| format!("\"Customer#{nth:09}\""))),
        (
            "uuids",
            Form::Records,
            5,
            cells(&mut |_, random| {
                let mut hex = |digits: u32| format!("{:0width$x}", random(1 << (4 * digits)), width = digits as usize);
                format!("\"{}{}-{}-4{}-a{}-{}{}\"", hex(4), hex(4), hex(4), hex(3), hex(3), hex(6), hex(6))
            }),
        ),
        (
            "few words",
            Form::Dictionary,
            30,
            cells(&mut |_, random| format!("\"{}\"", ["AIR", "REG AIR", "RAIL", "SHIP", "TRUCK"][random(5) as usize])),
        ),
        ("booleans, some NULL", Form::Dictionary, 20, cells(&mut |_, random| ["true", "false", "null"][random(3) as usize].to_owned())),
        ("all NULL", Form::Dictionary, 0, cells(&mut |_, _| "null".to_owned())),
    ]
}

#[test]
fn usual_columns_get_the_form_that_fits_and_shrink() {
    for (name, form, share, cells) in columns() {
        let typed = check_form(form, &cells).len() as u64;
        let plain = zstd::bulk::compress(&array(&cells), 1).expect("compressed").len() as u64;
        assert!(typed * 100 <= plain * (100 - share), "{name}: {typed} bytes, {plain} without");
    }
}

#[test]
fn arrays_without_a_form_have_none() {
    let mut random = noise();
    let texts: Vec<String> =
        (0..500).map(|_| format!("\"{}\"", "x".repeat(random(20) as usize + 1) + &random(1 << 30).to_string())).collect();
    let reals: Vec<String> = (0..500).map(|_| format!("{:?}", random(1 << 30) as f64 / 7.0)).collect();
    for json in [&b"[]"[..], b"", b"[1]", b"{}", b"[", b"]", &array(&texts), &array(&reals), &b"[1,2]".repeat(40), &b"x".repeat(100)] {
        assert_eq!(round(json), None, "{}", String::from_utf8_lossy(json));
    }
}

#[test]
fn odd_spellings_among_many_usual_ones_come_back_as_they_are() {
    let odd = [
        "null",
        "true",
        "0",
        "-0",
        "-0.0",
        "0.0",
        "00",
        "01",
        "1e5",
        "1E5",
        "1.50",
        "1.",
        ".5",
        "-",
        "",
        "1.0e10",
        "5e-324",
        "+1",
        "12345678.12345678",
        "123456789012.123456789",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "99999999999999999999",
        "0.00000001",
        "-0.00000001",
        "999999999999999999.0",
        "\"\"",
        "\"a\\\"b\"",
        "\"\\\\\"",
        "\"0000-00-00\"",
        "\"2024-02-30\"",
        "\"2024-13-01\"",
        "\"2024-1-01\"",
        "\"2024-01-011\"",
        "\"9999-12-31\"",
        "\"2024-01-01 25:00:00\"",
        "\"2024-01-01 23:59:60\"",
        "\"007\"",
        "\"a,b\"",
        "\"Customer#00000000a\"",
        "\"ü€😀\"",
        "{\"real\":\"inf\"}",
        "{\"blob\":\"AAEC\"}",
        "{\"ref\":\"00\",\"bytes\":7}",
        " 1",
        "1 ",
    ];
    for (name, form, _, cells) in columns() {
        for odd in odd {
            for place in [0, 1, 700, cells.len() - 1] {
                let mut cells = cells.clone();
                cells[place] = odd.to_owned();
                let json = array(&cells);
                let typed = round(&json);
                // What stands in the sample may make the choice another one.
                assert!(typed.is_some() || (form != Form::Dictionary && place < SAMPLE), "{odd} at {place} of {name}");
            }
        }
    }
}

#[test]
fn the_extremes_of_numbers_come_back() {
    let extremes = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for spread in [1, 2, 3] {
        let cells: Vec<String> = (0..200).map(|nth| extremes[nth * spread % extremes.len()].to_string()).collect();
        check_form(Form::Integers, &cells);
    }
    for width in 0..63 {
        let mut random = noise();
        let cells: Vec<String> = (0..100).map(|_| ((random(1 << 31) << 31 | random(1 << 31)) >> (62 - width)).to_string()).collect();
        check_form(Form::Integers, &cells);
    }
}

#[test]
fn whatever_byte_is_changed_or_missing_nothing_panics_and_nothing_grows() {
    let mut decoded = Vec::new();
    for (name, _, _, cells) in columns() {
        let json = array(&cells[..120]);
        let Some(typed) = round(&json) else { panic!("{name} has no form") };
        for at in 0..typed.len() {
            for change in [1, 0x80, 0xff, 1 << (at % 8)] {
                let mut changed = typed.clone();
                changed[at] ^= change;
                let _ = decode(&changed, json.len() as u64, &mut decoded);
                assert!(decoded.len() <= RAW_BYTES_MAX + Pen::SLACK);
            }
            assert!(decode(&typed[..at], json.len() as u64, &mut decoded).is_err(), "{name} cut at {at}");
        }
    }
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        (-50..50_i64).prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| format!("{value:?}")),
        (-100_000..100_000_i64, 0..6_u32).prop_map(|(value, scale)| format!("{:?}", value as f64 / 10_f64.powi(scale as i32))),
        (0..10_000, 0..14, 0..33).prop_map(|(year, month, day)| format!("\"{year:04}-{month:02}-{day:02}\"")),
        "[a-f0-9]{8}".prop_map(|hex| format!("\"{hex}\"")),
        "\"[ -!#-\\[\\]-~]{0,12}\"",
        "\"(a|\\\\\"|\\\\\\\\|,|\\])*\"",
        Just("null".to_owned()),
        Just("true".to_owned()),
    ]
}

proptest! {
    #[test]
    fn arrays_of_one_kind_with_some_others_come_back(
        kind in prop::collection::vec(cell(), 1..4),
        others in prop::collection::vec((cell(), 0..200_usize), 0..6),
        picks in prop::collection::vec(0..4_usize, 1..200),
    ) {
        let mut cells: Vec<String> = picks.iter().map(|pick| kind[pick % kind.len()].clone()).collect();
        for (other, place) in others {
            let place = place % cells.len();
            cells[place] = other;
        }
        round(&array(&cells));
    }

    #[test]
    fn numbers_of_any_size_come_back(values in prop::collection::vec(any::<i64>(), 1..100), shift in 0..64_u32, scale in 0..9_usize) {
        let cells: Vec<String> = values.iter().map(|value| (value >> shift).to_string()).collect();
        round(&array(&cells));
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell}.{}", &"00000000"[..scale])).collect();
        round(&array(&cells));
        let cells: Vec<String> = values.iter().map(|value| format!("{:?}", (value >> shift) as f64 / 10_f64.powi(scale as i32))).collect();
        round(&array(&cells));
    }

    #[test]
    fn any_bytes_come_back_or_have_no_form(bytes in prop::collection::vec(prop_oneof![Just(b','), Just(b'"'), Just(b'1'), any::<u8>()], 0..200)) {
        round(&bytes);
        let mut bracketed = b"[".to_vec();
        bracketed.extend_from_slice(&bytes);
        bracketed.push(b']');
        round(&bracketed);
    }

    #[test]
    fn hostile_bytes_are_refused_or_decoded(bytes in prop::collection::vec(any::<u8>(), 0..80), form in 0..64_u8, raw in 0..5000_u64) {
        let mut typed = MAGIC.to_vec();
        encode_varint(&mut typed, raw);
        typed.push(form);
        typed.extend_from_slice(&bytes);
        let mut json = Vec::new();
        if decode(&typed, raw, &mut json).is_ok() {
            prop_assert_eq!(json.len() as u64, raw);
        }
    }
}
/// Makes a cell from its number and dice.
type CellOf<'c> = dyn FnMut(u64, &mut dyn FnMut(u64) -> u64) -> String + 'c;
