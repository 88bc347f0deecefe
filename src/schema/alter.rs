//! Which changes of an object can be taken back without making it anew.
//!
//! An object is made anew where that is not sure: with everything that hangs on it, and for a table with all its rows.

use std::collections::BTreeMap;

use super::{ObjectKind, SchemaObject};

/// The parts of a table that can be changed where it stands, by the first word of their names.
const CHANGEABLE: [&str; 3] = ["default", "not", "check"];

/// Tells whether an object can be brought from one state to the other where it stands.
pub fn is_alterable(live: &SchemaObject, target: &SchemaObject) -> bool {
    if live.kind != target.kind || live.name != target.name || live.facts.is_empty() || target.facts.is_empty() {
        return false;
    }
    match live.kind {
        kind if kind.is_attribute() => true,
        // What it is called with, and what comes back, must stay.
        ObjectKind::Function => live.facts.get("signature") == target.facts.get("signature") && target.sql.is_some(),
        ObjectKind::Sequence => {
            let of = |object: &SchemaObject| (object.facts.get("kind").cloned(), object.facts.get("identity of").cloned());
            of(live) == of(target)
        }
        ObjectKind::Table => is_table_alterable(&live.facts, &target.facts),
        _ => false,
    }
}

fn is_table_alterable(live: &BTreeMap<String, String>, target: &BTreeMap<String, String>) -> bool {
    let columns = |facts: &BTreeMap<String, String>| -> Vec<String> {
        facts.get("columns").and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default()
    };
    let (now, then) = (columns(live), columns(target));
    // A column that was added stands at the end, and only such a one can go without leaving the order of the others.
    if !now.starts_with(&then) || then.is_empty() {
        return false;
    }
    let extra: Vec<&String> = now.iter().skip(then.len()).collect();
    let is_of_extra = |part: &str| extra.iter().any(|name| part.strip_suffix(name.as_str()).is_some_and(|word| word.ends_with(' ')));
    let names = live.keys().chain(target.keys());
    names.filter(|part| live.get(*part) != target.get(*part)).all(|part| {
        let word = part.split(' ').next().unwrap_or_default();
        part == "columns" || CHANGEABLE.contains(&word) || is_of_extra(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(parts: &[(&str, &str)]) -> SchemaObject {
        let facts = parts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        SchemaObject { facts, ..SchemaObject::new(ObjectKind::Table, "t", "t", Some("CREATE TABLE t()".to_owned())) }
    }

    #[track_caller]
    fn check(live: &[(&str, &str)], target: &[(&str, &str)], expected: bool) {
        assert_eq!(is_alterable(&table(live), &table(target)), expected);
    }

    #[test]
    fn a_table_is_changed_where_it_stands_only_where_that_is_sure() {
        let a: (&str, &str) = ("columns", r#"["a"]"#);
        let plain = [a, ("type a", "integer")];
        let added =
            [("columns", r#"["a","b"]"#), ("type a", "integer"), ("type b", "text"), ("storage b", "x"), ("default b", "'x'::text")];
        check(&added, &plain, true);
        check(&plain, &added, false);
        check(&[a, ("type a", "bigint")], &plain, false);
        check(&[a, ("type a", "integer"), ("not null a", ""), ("default a", "0"), ("check c", "CHECK (true)")], &plain, true);
        check(&[("columns", r#"["c","a"]"#), ("type a", "integer"), ("type c", "text")], &plain, false);
        check(&[a, ("type a", "integer"), ("options", "fillfactor=50")], &plain, false);
    }
}
