//! What silences findings: comments in the scripts, `ignore` in dbelay.toml, and losses that are announced.
//!
//! `-- dbelay: allow RULE[, RULE]` counts for the statement on whose lines it stands, or before which it stands; `-- dbelay: allow-file RULE`
//! for the whole file. A name that is no rule's is remarked on, so that a misspelt one does not silence nothing unnoticed.

use std::collections::BTreeSet;

use super::script::Script;
use super::{Found, Options, rule};

/// What is silenced.
#[derive(Debug, Default)]
pub struct Silence {
    /// Rules by script and statement.
    statements: BTreeSet<(usize, usize, String)>,
    /// Rules by script.
    files: BTreeSet<(usize, String)>,
    /// What dbelay.toml says, in lower case.
    ignore: Vec<String>,
    /// Announced losses, in lower case.
    allow: Vec<String>,
    /// Names that are no rule's.
    pub remarks: Vec<String>,
}

impl Silence {
    /// Begins with what was said outside of scripts.
    pub fn new(options: &Options) -> Self {
        let lower = |list: &[String]| list.iter().map(|entry| entry.trim().to_lowercase()).collect::<Vec<_>>();
        let mut silence = Self { ignore: lower(&options.ignore), allow: lower(&options.allow), ..Self::default() };
        for entry in &options.ignore {
            let name = entry.split(':').next().unwrap_or_default().trim().to_lowercase();
            if rule(&name).is_none() {
                silence
                    .remarks
                    .push(format!("`ignore` in dbelay.toml names `{name}`, which is no rule; `dbelay check --rules` lists them"));
            }
        }
        silence
    }

    /// Reads the comments of a script.
    pub fn read(&mut self, number: usize, script: &Script) {
        let statements = script.statement_ranges();
        for (range, comment) in script.comments() {
            let inner = comment.trim_start_matches(['-', '/', '*', '>', ' ', '\t']).trim_end_matches("*/");
            let Some(words) = inner.strip_prefix("dbelay:").map(str::trim_start) else { continue };
            let (is_file, list) = match (words.strip_prefix("allow-file"), words.strip_prefix("allow")) {
                (Some(list), _) => (true, list),
                (None, Some(list)) => (false, list),
                (None, None) => {
                    self.remark(script, range.start, "after `dbelay:` comes `allow RULE` or `allow-file RULE`");
                    continue;
                }
            };
            // What follows the names in other words is why.
            let names = list.split(',').filter_map(|part| part.split_whitespace().next());
            let mut count = 0;
            for name in names {
                count += 1;
                let name = name.to_lowercase();
                if rule(&name).is_none() {
                    self.remark(script, range.start, &format!("`{name}` is no rule; `dbelay check --rules` lists them"));
                } else if is_file {
                    self.files.insert((number, name));
                } else if let Some(statement) = meant(script, &statements, range.start) {
                    self.statements.insert((number, statement, name));
                } else {
                    self.remark(script, range.start, "there is no statement here that it could be about");
                }
            }
            if count == 0 {
                self.remark(script, range.start, "it names no rule; `dbelay check --rules` lists them");
            }
        }
    }

    fn remark(&mut self, script: &Script, at: usize, words: &str) {
        self.remarks.push(format!("{}:{}: `dbelay:` comment: {words}", script.path, script.position(at).0));
    }

    /// Tells whether a finding is silenced.
    pub fn is_silenced(&self, rule: &str, found: &Found) -> bool {
        let places = std::iter::once(&found.place).chain(&found.also);
        let mut places = places.map(|place| (place.script, place.statement));
        if places.any(|(script, statement)| {
            self.statements.contains(&(script, statement, rule.to_owned())) || self.files.contains(&(script, rule.to_owned()))
        }) {
            return true;
        }
        let table = found.table.as_ref().map(|table| table.to_lowercase());
        let column = table.as_ref().zip(found.column.as_ref()).map(|(table, column)| format!("{table}.{}", column.to_lowercase()));
        let names = [table, column];
        let mut names = names.iter().flatten();
        let is_announced = |name: &String| {
            let is_drop = rule.starts_with("drop-") || rule == "copy-leaves-out-column";
            is_drop && self.allow.contains(name) || self.ignore.contains(&format!("{rule}:{name}"))
        };
        self.ignore.iter().any(|entry| entry == rule) || names.any(is_announced)
    }
}

/// Finds the statement that a comment is about: the one on whose lines it stands, else the next.
fn meant(script: &Script, statements: &[std::ops::Range<usize>], at: usize) -> Option<usize> {
    let line = |at: usize| script.position(at).0;
    let own = line(at);
    let before = statements.iter().rposition(|range| range.start <= at);
    if let Some(before) = before
        && statements.get(before).is_some_and(|range| range.end > at || line(range.end) == own)
    {
        return Some(before);
    }
    let next = before.map_or(0, |before| before + 1);
    (next < statements.len()).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_about_the_statement_that_it_stands_at() {
        let text = "-- dbelay: allow unparsed\nA;\nB; -- dbelay: allow rebuild-cascades, unparsed because\n\n/* dbelay: allow drop-table-with-data */ C\n D;\nE;";
        let mut silence = Silence::default();
        silence.read(0, &Script::new("a.sql", text.as_bytes()));
        let expected = [(0, "unparsed"), (1, "rebuild-cascades"), (1, "unparsed"), (2, "drop-table-with-data")];
        assert_eq!(silence.statements, expected.iter().map(|(statement, rule)| (0, *statement, (*rule).to_owned())).collect());
        assert!(silence.remarks.is_empty());
    }

    #[test]
    fn unknown_names_are_remarked_on() {
        let mut silence = Silence::new(&Options { ignore: vec!["drop-tabel:users".to_owned()], ..Options::default() });
        silence.read(
            0,
            &Script::new("a.sql", b"-- dbelay: allow-file nonsense\n-- dbelay: ignore x\n-- dbelay: allow\n-- dbelay: allow unparsed"),
        );
        assert_eq!(silence.remarks.len(), 5, "{:?}", silence.remarks);
        assert!(silence.remarks[0].contains("`drop-tabel`") && silence.remarks[1].starts_with("a.sql:1: "));
    }
}
