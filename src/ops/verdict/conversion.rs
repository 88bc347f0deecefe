//! Whether a value survives being written in another type. Pure.
//!
//! A value that is another one now was changed, and a change is no loss: what is looked for is what only a conversion does, and nobody
//! who meant to write another value: NULL, the number that a text begins with, fewer digits, a text cut short.

use crate::value::Value;

/// What became of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survival {
    /// The new value says all that the old one did, or is simply another.
    Kept,
    /// It is gone, wholly or in part.
    Lost,
    /// Only its first characters or bytes are left, this many.
    Cut(usize),
    /// A text without any number became 0: what `CAST` does, and what a code for it may be.
    Zero,
    /// A text or a number became a number that cannot be seen in it: a code, a time, a flag.
    Recoded,
}

/// Tells what became of a value in a column that has another type now.
pub(super) fn survival(before: &Value, after: &Value) -> Survival {
    match (before, after) {
        (Value::Null, _) => Survival::Kept,
        (_, Value::Null) => Survival::Lost,
        (Value::Text(before) | Value::Blob(before), Value::Integer(_) | Value::Real(_) | Value::Boolean(_)) => recoded(before, after),
        (Value::Real(before), Value::Integer(after)) => from_real(*before, *after as f64, true),
        (Value::Real(before), Value::Real(after)) => from_real(*before, *after, false),
        (Value::Real(before), Value::Text(after)) => match parse(after) {
            Some(after) => from_real(*before, after, false),
            None => Survival::Kept,
        },
        // Beyond 2^53 a real is not every integer.
        (Value::Integer(before), Value::Real(after)) if *after as i128 == i128::from(*before) => Survival::Kept,
        (Value::Integer(before), Value::Real(after)) if (*after - *before as f64).abs() <= 1024.0 => Survival::Lost,
        (Value::Integer(before), Value::Integer(after)) if before != after && matches!(after, 0 | 1) => Survival::Recoded,
        (Value::Integer(before), Value::Boolean(after)) if *before != i64::from(*after) => Survival::Recoded,
        (Value::Integer(before), Value::Text(after)) => cut(before.to_string().as_bytes(), after),
        (Value::Text(before) | Value::Blob(before), Value::Text(after) | Value::Blob(after)) => cut(before, after),
        _ => Survival::Kept,
    }
}

/// Tells whether one text is the beginning of another, so that what is missing meant something.
pub(super) fn cut(before: &[u8], after: &[u8]) -> Survival {
    let Some(rest) = before.strip_prefix(after).filter(|rest| !rest.is_empty()) else { return Survival::Kept };
    // Padding, and digits that say nothing: `1.50` and `1.5`.
    let is_blank = rest.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0);
    if is_blank || parse(before).is_some_and(|number| parse(after) == Some(number)) {
        return Survival::Kept;
    }
    Survival::Cut(length(after))
}

/// Returns the length in characters, or in bytes of what is no text.
pub(super) fn length(text: &[u8]) -> usize {
    std::str::from_utf8(text).map_or(text.len(), |text| text.chars().count())
}

fn parse(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A real that became another number: rounded, or another one on purpose (cents for dollars)?
fn from_real(before: f64, after: f64, is_integer: bool) -> Survival {
    // The last of seventeen digits is not what people mean by loss.
    if before == after || (before - after).abs() <= before.abs() * 1e-14 {
        return Survival::Kept;
    }
    if after == 0.0 || is_integer && (before - after).abs() < 1.0 {
        return Survival::Lost;
    }
    let places = |number: f64| number.to_string().split_once('.').map_or(0, |(_, digits)| digits.len());
    let (was, is) = (places(before), places(after));
    let unit = 10_f64.powi(-i32::try_from(is).unwrap_or(i32::MAX));
    if is < was && (before - after).abs() < unit { Survival::Lost } else { Survival::Kept }
}

/// A text that became a number.
fn recoded(before: &[u8], after: &Value) -> Survival {
    let number = match after {
        Value::Integer(integer) => *integer as f64,
        Value::Real(real) => *real,
        Value::Boolean(flag) => f64::from(u8::from(*flag)),
        _ => return Survival::Kept,
    };
    if before.is_empty() || says(before, after) {
        return Survival::Kept;
    }
    match leading_number(before) {
        None if number == 0.0 => Survival::Zero,
        None => Survival::Recoded,
        // A date is not the number that it begins with, unless it became that.
        Some(leading) if leading == number || leading.trunc() == number => Survival::Lost,
        Some(leading) if parse(before) == Some(leading) => from_real(leading, number, matches!(after, Value::Integer(_))),
        Some(_) => Survival::Recoded,
    }
}

/// Returns the number that a text begins with, as SQL's `CAST` sees it.
fn leading_number(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii_start();
    let end = |is_part: &dyn Fn(usize, u8) -> bool| text.iter().enumerate().take_while(|(at, byte)| is_part(*at, **byte)).count();
    let mut longest =
        end(&|at, byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || matches!(byte, b'+' | b'-') && at == 0);
    // What begins like a number need not go on like one: `1.2.3`, `2020-01-01`, `3e`.
    while longest > 0 {
        if let Some(number) = text.get(..longest).and_then(parse) {
            return Some(number);
        }
        longest -= 1;
    }
    None
}

/// Tells whether a text says this number, in a way that the number says all that the text did: `007` is more than 7.
fn says(text: &[u8], number: &Value) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let text = text.trim();
    let number = match number {
        Value::Integer(integer) if text == integer.to_string() => return true,
        Value::Integer(integer) => *integer as f64,
        Value::Real(real) => *real,
        Value::Boolean(flag) => f64::from(u8::from(*flag)),
        _ => return false,
    };
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if number == 0.0 && is(&["false", "f", "no", "n", "off"]) || number == 1.0 && is(&["true", "t", "yes", "y", "on"]) {
        return true;
    }
    let digits = text.trim_start_matches('-').as_bytes();
    let is_padded = matches!(digits, [b'0', b'0'..=b'9', ..] | [b'+', ..]);
    // An integer of more digits than a real has would be equal only by rounding.
    let is_exact = !digits.iter().all(u8::is_ascii_digit) || digits.len() <= 15;
    !is_padded && is_exact && text.parse::<f64>() == Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str, expected: Survival) {
        let decode = |json: &str| Value::decode(json.as_bytes()).expect("a cell");
        assert_eq!(survival(&decode(before), &decode(after)), expected, "{before} -> {after}");
    }

    #[test]
    fn a_conversion_destroys_what_it_cannot_hold() {
        for (before, after) in [
            ("\"abc\"", "null"),
            ("5", "null"),
            ("\"12a\"", "12"),
            ("\"12a\"", "12.0"),
            ("\"007\"", "7"),
            ("\"2020-05-01\"", "2020"),
            ("1.5", "1"),
            ("1.5", "2"),
            ("1.2345", "1.23"),
            ("1.25", "\"1.3\""),
            ("\"1.2345\"", "1.23"),
            ("\"1.9\"", "1"),
            ("9007199254740993", "9007199254740992.0"),
            ("\"9007199254740993\"", "9007199254740992.0"),
        ] {
            check(before, after, Survival::Lost);
        }
        check("\"abcdef\"", "\"abc\"", Survival::Cut(3));
        check("{\"blob\":\"AQID\"}", "{\"blob\":\"AQI=\"}", Survival::Cut(2));
        check("12345", "\"123\"", Survival::Cut(3));
        check("\"abc\"", "0", Survival::Zero);
    }

    #[test]
    fn what_says_the_same_or_was_meant_to_be_another_survives() {
        for (before, after) in [
            ("\"0\"", "0"),
            ("\"false\"", "0"),
            ("null", "null"),
            ("1", "\"1\""),
            ("\"5\"", "5"),
            ("\"5.50\"", "5.5"),
            ("\"5.50\"", "\"5.5\""),
            ("\"yes\"", "1"),
            ("5", "5.0"),
            ("2.0", "2"),
            ("1.5", "150"),
            ("0.30000000000000004", "\"0.3\""),
            ("\"ab   \"", "\"ab\""),
            ("\"ABC\"", "\"abc\""),
            ("\"{\\\"a\\\": 1}\"", "\"{\\\"a\\\":1}\""),
            ("\"AB\"", "{\"blob\":\"QUI=\"}"),
            ("{\"blob\":\"QUI=\"}", "\"4142\""),
            ("\"\"", "0"),
        ] {
            check(before, after, Survival::Kept);
        }
        check("\"2020-01-01\"", "1577836800", Survival::Recoded);
        check("\"open\"", "2", Survival::Recoded);
        check("3", "1", Survival::Recoded);
    }
}
