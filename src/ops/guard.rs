//! Guards: what a migration must not do, as `[guards]` in dbelay.toml says it. Each has a name, which the verdict cites.
//!
//! Limits are about what happened to rows and are judged from a comparison; assertions are questions in SQL, answered by the database after the
//! migration, and where the answer must be what it was, before it too. Ledgers and the engine's own tables have no limits.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::OpError;
use super::compare::Comparison;
use super::verdict::{self, TableChange, Verdict};
use crate::config::{Assertion, Expected, GuardsConfig, Limit};
use crate::engine::{Answer, EngineError, ReadTransaction};
use crate::id::ObjectId;
use crate::render::text::number;
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema, TableKind};
use crate::value::Value;

/// The most rows that an answer may have that must stay what it was.
const ANSWER_ROWS_MAX: usize = 100_000;

/// What became of one guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuardResult {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, in one sentence without the name.
    pub message: String,
}

impl GuardResult {
    /// Says it in one sentence.
    pub fn sentence(&self) -> String {
        let Self { name, message, .. } = self;
        if self.holds { format!("guard `{name}` holds: {message}") } else { format!("guard `{name}` is broken: {message}") }
    }
}

/// What is known before the migration.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// The answers to the questions whose answers must stay what they are, by the assertion's name.
    pub answers: Vec<Known>,
    /// The assertions that do not hold already; what they ask for may be the migration's purpose.
    pub broken: Vec<GuardResult>,
}

/// An answer, as far as it has to be known to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The assertion's name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// The id of its rows' canonical JSON, sorted.
    pub digest: ObjectId,
    /// Its first row, as it is shown.
    pub first: String,
}

impl Known {
    fn of(name: &str, answer: &Answer) -> Self {
        let row_json = |row: &Vec<Value>| row.iter().map(Value::to_json).collect::<Vec<_>>().join(",");
        let mut rows: Vec<String> = answer.rows.iter().map(row_json).collect();
        // The order of rows is nobody's promise.
        rows.sort_unstable();
        let json = rows.join("\n").into_bytes();
        let first = answer.rows.first().map(|row| shown(row)).unwrap_or_default();
        Self { name: name.to_owned(), rows: answer.rows.len() as u64, digest: ObjectId::of(&json), first }
    }
}

/// Asks what has to be known before the migration.
///
/// # Errors
/// [`OpError::Guard`] for a question that must be answered now and cannot.
pub fn before(read: &mut dyn ReadTransaction, guards: &GuardsConfig) -> Result<Before, OpError> {
    let mut before = Before::default();
    for assertion in &guards.assertions {
        if assertion.unchanged {
            let fail = |source| OpError::Guard { name: assertion.name.clone(), source };
            before.answers.push(Known::of(&assertion.name, &ask(read, assertion).map_err(fail)?));
        } else {
            // What is not there yet may be what the migration brings; a question that is none never will be one.
            match ask(read, assertion) {
                Err(source) if !is_about_what_is_missing(&source) => {
                    return Err(OpError::Guard { name: assertion.name.clone(), source });
                }
                _ => {}
            }
            let result = assert(read, assertion, None);
            if !result.holds {
                before.broken.push(result);
            }
        }
    }
    Ok(before)
}

/// Judges every guard. `read` sees the state after the migration.
pub fn judge(
    guards: &GuardsConfig,
    comparison: &Comparison<'_>,
    verdict: &Verdict,
    before: &Before,
    read: &mut dyn ReadTransaction,
) -> Vec<GuardResult> {
    let mut results = Vec::new();
    for change in verdict.changes.iter().filter(|change| is_limited(comparison, change)) {
        let pair = &change.pair;
        let Some(name) = pair.before.as_ref().map(|shape| shape.name.as_str()) else { continue };
        let virtual_table = verdict::content_of(comparison, pair);
        let name = virtual_table.as_deref().unwrap_or(name);
        let own = guards.tables.iter().find(|(table, _)| table.eq_ignore_ascii_case(name)).map(|(_, own)| own);
        let removed = if pair.after.is_none() { pair.rows_before } else { change.counts.removed };
        for (what, word, count, of_all, of_table) in [
            ("rows-removed-max", "removed", removed, guards.rows_removed_max, own.and_then(|own| own.rows_removed_max)),
            ("rows-changed-max", "changed", change.counts.changed, guards.rows_changed_max, own.and_then(|own| own.rows_changed_max)),
        ] {
            let (guard, limit) = match (of_table, of_all) {
                (Some(limit), _) => (format!("tables.{name}.{what}"), limit),
                (None, Some(limit)) => (what.to_owned(), limit),
                (None, None) => continue,
            };
            let rows = number(count);
            let (of, limit) = (number(pair.rows_before), (limit, exceeds(limit, count, pair.rows_before)));
            results.push(GuardResult {
                name: guard,
                holds: !limit.1,
                message: format!("{rows} of {of} rows of `{name}` were {word}, and {} may be", limit.0),
            });
        }
    }
    for name in &guards.unchanged {
        results.push(untouched(comparison, verdict, name));
    }
    for assertion in &guards.assertions {
        let known = before.answers.iter().find(|known| known.name == assertion.name);
        results.push(assert(read, assertion, known));
    }
    results
}

/// Tells whether limits are about a table: one of the application's, or one that holds the rows of a virtual table of the application.
fn is_limited(comparison: &Comparison<'_>, change: &TableChange) -> bool {
    !change.is_ledger && (!comparison.is_machinery(&change.pair) || verdict::content_of(comparison, &change.pair).is_some())
}

/// Tells whether a question failed because of a table, column or function that is not there.
fn is_about_what_is_missing(error: &EngineError) -> bool {
    let is_so = |text: String| ["no such ", " does not exist"].into_iter().any(|words| text.contains(words));
    matches!(error, EngineError::Statement { .. }) && is_so(super::with_causes(error))
}

fn exceeds(limit: Limit, count: u64, of: u64) -> bool {
    match limit {
        Limit::Rows(rows) => count > rows,
        Limit::Percent(percent) => count as f64 * 100.0 > percent * of as f64,
    }
}

/// Tells whether a table is what it was: its rows, and the statement that made it.
fn untouched(comparison: &Comparison<'_>, verdict: &Verdict, name: &str) -> GuardResult {
    let is_it = |other: &str| other.eq_ignore_ascii_case(name);
    let result = |holds, message: String| GuardResult { name: format!("unchanged.{name}"), holds, message };
    let pair = comparison.pairs.iter().find(|pair| pair.before.as_ref().is_some_and(|shape| is_it(&shape.name)));
    let Some(pair) = pair else {
        if comparison.pairs.iter().any(|pair| is_it(pair.name())) {
            return result(false, format!("table `{name}` is new"));
        }
        return untouched_virtual(comparison, verdict, name).unwrap_or_else(|| result(true, format!("there is no table `{name}`")));
    };
    match verdict.changes.iter().find(|change| change.pair.before == pair.before) {
        Some(change) if change.pair.after.is_none() => return result(false, format!("table `{name}` was dropped")),
        Some(change) if !change.counts.is_empty() => {
            return result(false, format!("table `{name}` was changed: {}", crate::render::text::sentence(&change.pair, &change.counts)));
        }
        _ => {}
    }
    let Some(after) = &pair.after else { return result(false, format!("table `{name}` was dropped")) };
    if !is_it(&after.name) {
        return result(false, format!("table `{name}` was renamed to `{}`", after.name));
    }
    let sql =
        |state: &super::capture::State, name: &str| state.schema.object(ObjectKind::Table, name).and_then(|object| object.sql.clone());
    let before = pair.before.as_ref().map_or("", |shape| &shape.name);
    if sql(comparison.before, before) != sql(comparison.after, &after.name) {
        return result(false, format!("the definition of table `{name}` was changed"));
    }
    result(true, format!("table `{name}` is what it was"))
}

/// The same of a virtual table, which is what its shadow tables hold; none where there is no such table.
fn untouched_virtual(comparison: &Comparison<'_>, verdict: &Verdict, name: &str) -> Option<GuardResult> {
    let result = |holds, message: String| Some(GuardResult { name: format!("unchanged.{name}"), holds, message });
    let find = |schema: &Schema| schema.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name)).cloned();
    let before = find(&comparison.before.schema)?;
    let Some(after) = find(&comparison.after.schema) else { return result(false, format!("table `{name}` was dropped")) };
    let is_shadow = |shape: &TableShape| {
        comparison.before.schema.table(&shape.name).is_some_and(|table| table.kind == TableKind::Shadow { of: before.name.clone() })
    };
    let sql = |schema: &Schema, name: &str| schema.object(ObjectKind::Table, name).and_then(|object| object.sql.clone());
    if sql(&comparison.before.schema, &before.name) != sql(&comparison.after.schema, &after.name) {
        return result(false, format!("the definition of table `{name}` was changed"));
    }
    let is_changed = verdict.changes.iter().any(|change| change.pair.before.as_ref().is_some_and(is_shadow));
    result(!is_changed, format!("table `{name}` {}", if is_changed { "was changed" } else { "is what it was" }))
}

fn ask(read: &mut dyn ReadTransaction, assertion: &Assertion) -> Result<Answer, EngineError> {
    let answer = read.query(&assertion.sql, ANSWER_ROWS_MAX)?;
    if answer.is_cut {
        let words = format!("the answer to `{}` has more than {ANSWER_ROWS_MAX} rows; let it count or sum them", assertion.name);
        return Err(EngineError::Unsupported(words));
    }
    Ok(answer)
}

fn assert(read: &mut dyn ReadTransaction, assertion: &Assertion, before: Option<&Known>) -> GuardResult {
    let result = |holds, message| GuardResult { name: assertion.name.clone(), holds, message };
    let answer = match ask(read, assertion) {
        Ok(answer) => answer,
        Err(error) => return result(false, format!("it cannot be answered: {}", super::with_causes(&error))),
    };
    if assertion.unchanged {
        let Some(before) = before else { return result(false, "nobody knows the answer before the migration".to_owned()) };
        let after = Known::of(&assertion.name, &answer);
        let words = if before.digest == after.digest {
            "the answer is what it was".to_owned()
        } else if (before.rows, after.rows) == (1, 1) {
            format!("the answer was {}, and is {}", before.first, after.first)
        } else {
            format!("the answer has other rows: it had {}, and has {}", number(before.rows), number(after.rows))
        };
        return result(before.digest == after.digest, words);
    }
    let [row] = answer.rows.as_slice() else {
        return result(false, format!("one row is expected, and the answer has {}", number(answer.rows.len() as u64)));
    };
    let [value] = row.as_slice() else {
        return result(false, format!("one value is expected, and the answer has {} columns", row.len()));
    };
    if let Some(expected) = &assertion.equals {
        return result(equals(expected, value), format!("{expected} is expected, and the answer is {}", shown(row)));
    }
    if !matches!(value, Value::Integer(_) | Value::Real(_)) {
        return result(false, format!("a number is expected, and the answer is {}", shown(row)));
    }
    let least = assertion.at_least.is_none_or(|least| compare(value, least).is_some_and(Ordering::is_ge));
    let most = assertion.at_most.is_none_or(|most| compare(value, most).is_some_and(Ordering::is_le));
    let bounds = match (assertion.at_least, assertion.at_most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (_, most) => format!("at most {}", most.unwrap_or_default()),
    };
    result(least && most, format!("{bounds} is expected, and the answer is {}", shown(row)))
}

/// Compares a number with a bound, by size and without rounding: beyond 2^53 a real is not every integer.
fn compare(value: &Value, bound: f64) -> Option<Ordering> {
    match value {
        Value::Real(value) => value.partial_cmp(&bound),
        Value::Integer(value) => {
            let value = i128::from(*value);
            // Saturates, which is beyond every integer of 64 bits.
            let whole = bound.floor() as i128;
            Some(value.cmp(&whole).then(if bound > bound.floor() { Ordering::Less } else { Ordering::Equal }))
        }
        _ => None,
    }
}

fn equals(expected: &Expected, value: &Value) -> bool {
    match (expected, value) {
        (Expected::Boolean(expected), Value::Boolean(value)) => expected == value,
        (Expected::Boolean(expected), Value::Integer(value)) => i64::from(*expected) == *value,
        (Expected::Integer(expected), Value::Integer(value)) => expected == value,
        (Expected::Integer(expected), Value::Real(value)) => compare(&Value::Integer(*expected), *value) == Some(Ordering::Equal),
        (Expected::Real(expected), Value::Real(value)) => expected == value,
        (Expected::Real(expected), Value::Integer(_)) => compare(value, *expected) == Some(Ordering::Equal),
        (Expected::Text(expected), Value::Text(value)) => expected.as_bytes() == value,
        _ => false,
    }
}

/// Writes a row of an answer, cut where it is long.
fn shown(row: &[Value]) -> String {
    const LENGTH_MAX: usize = 120;
    let text = row.iter().map(Value::to_json).collect::<Vec<_>>().join(", ");
    match text.char_indices().nth(LENGTH_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_in_per_cent_is_of_the_rows_before() {
        assert!(!exceeds(Limit::Percent(5.0), 5, 100) && exceeds(Limit::Percent(5.0), 6, 100));
        assert!(!exceeds(Limit::Percent(0.0), 0, 0) && exceeds(Limit::Percent(0.0), 1, 10));
        assert!(!exceeds(Limit::Rows(3), 3, 3) && exceeds(Limit::Rows(3), 4, 100));
    }

    #[test]
    fn bounds_are_compared_without_rounding() {
        let beyond = Value::Integer(9_007_199_254_740_993);
        assert_eq!(compare(&beyond, 9_007_199_254_740_992.0), Some(Ordering::Greater));
        assert_eq!(compare(&Value::Integer(3), 3.5), Some(Ordering::Less));
        assert_eq!(compare(&Value::Integer(-3), -3.5), Some(Ordering::Greater));
        assert_eq!(compare(&Value::Integer(i64::MAX), 1e300), Some(Ordering::Less));
        assert_eq!(compare(&Value::Real(0.5), 0.5), Some(Ordering::Equal));
        assert!(!equals(&Expected::Real(9_007_199_254_740_992.0), &beyond));
    }

    #[test]
    fn numbers_are_equal_by_value_and_texts_by_bytes() {
        let text = |text: &str| Value::Text(text.as_bytes().to_vec());
        for (expected, value) in [
            (Expected::Integer(0), Value::Integer(0)),
            (Expected::Integer(2), Value::Real(2.0)),
            (Expected::Real(0.5), Value::Real(0.5)),
            (Expected::Boolean(true), Value::Integer(1)),
            (Expected::Text("ok".to_owned()), text("ok")),
        ] {
            assert!(equals(&expected, &value), "{expected} {value:?}");
        }
        for (expected, value) in
            [(Expected::Integer(0), Value::Null), (Expected::Integer(1), text("1")), (Expected::Text("ok".to_owned()), text("OK"))]
        {
            assert!(!equals(&expected, &value), "{expected} {value:?}");
        }
    }
}
