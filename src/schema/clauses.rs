//! What a CREATE TABLE statement says that the neutral model does not have: checks, collations, AUTOINCREMENT, table options. Read off the
//! verbatim text by its words, brackets and quotes, which every dialect shares, so that a table that was made anew without one of them
//! shows it.

/// One such clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// The column in whose definition it stands; none for one of the table.
    pub column: Option<String>,
    /// Its words, as they are compared: without quotes, key words in capitals.
    pub words: Vec<String>,
}

impl Clause {
    /// Writes it as DDL would.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut before = "";
        for word in &self.words {
            let is_close = matches!(word.as_str(), ")" | "," | ".") || before == "(" || before == "." || before.is_empty();
            if !(is_close || word == "(" && is_function(before)) {
                text.push(' ');
            }
            text.push_str(word);
            before = word;
        }
        text
    }
}

/// What stands right before a bracket without being a key word is the name of a function.
fn is_function(word: &str) -> bool {
    let is_key = ["CHECK", "IN", "AND", "OR", "NOT", "BETWEEN", "LIKE", "GLOB", "IS"].contains(&word.to_ascii_uppercase().as_str());
    !is_key && word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    is_quoted: bool,
}

impl Word {
    fn is(&self, word: &str) -> bool {
        !self.is_quoted && self.text.eq_ignore_ascii_case(word)
    }
}

/// Breaks a statement into words, names, literals and signs; comments and blanks are left out.
fn words(sql: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut letters = sql.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let rest = sql.get(at..).unwrap_or_default();
        let skip_to = |end: usize, letters: &mut std::iter::Peekable<std::str::CharIndices<'_>>| {
            while letters.peek().is_some_and(|(next, _)| *next < at + end) {
                letters.next();
            }
        };
        if rest.starts_with("--") {
            skip_to(rest.find('\n').unwrap_or(rest.len()), &mut letters);
        } else if rest.starts_with("/*") {
            skip_to(rest.get(2..).and_then(|inner| inner.find("*/")).map_or(rest.len(), |end| end + 4), &mut letters);
        } else if matches!(letter, '\'' | '"' | '`' | '[') {
            let close = if letter == '[' { ']' } else { letter };
            let mut text = String::new();
            while let Some((_, inner)) = letters.next() {
                if inner == close {
                    // Doubled, it stands for itself.
                    if close == ']' || letters.peek().is_none_or(|(_, next)| *next != close) {
                        break;
                    }
                    letters.next();
                }
                text.push(inner);
            }
            // A literal keeps its quotes, which tell it from a name.
            let text = if letter == '\'' { format!("'{}'", text.replace('\'', "''")) } else { text };
            found.push(Word { text, is_quoted: true });
        } else if letter.is_alphanumeric() || letter == '_' {
            let end = rest.find(|other: char| !other.is_alphanumeric() && other != '_' && other != '$').unwrap_or(rest.len());
            skip_to(end, &mut letters);
            found.push(Word { text: rest.get(..end).unwrap_or_default().to_owned(), is_quoted: false });
        } else if !letter.is_whitespace() {
            let pair = rest.get(..2).filter(|pair| ["<>", "<=", ">=", "!=", "==", "||", "<<", ">>"].contains(pair));
            if pair.is_some() {
                letters.next();
            }
            found.push(Word { text: pair.map_or_else(|| letter.to_string(), str::to_owned), is_quoted: false });
        }
    }
    found
}

/// Reads the clauses of a CREATE TABLE statement, in its order.
pub fn clauses(sql: &str) -> Vec<Clause> {
    let words = words(sql);
    let Some(open) = words.iter().position(|word| word.is("(")) else { return Vec::new() };
    let mut found = Vec::new();
    let (mut depth, mut start, mut at) = (1_u32, open + 1, open + 1);
    while at < words.len() && depth > 0 {
        let word = &words[at];
        depth = if word.is("(") { depth + 1 } else { depth - u32::from(word.is(")")) };
        if depth == 0 || depth == 1 && word.is(",") {
            item(&words[start..at], &mut found);
            start = at + 1;
        }
        at += 1;
    }
    let options = words.get(at..).unwrap_or_default();
    if options.windows(2).any(|pair| pair[0].is("without") && pair[1].is("rowid")) {
        found.push(Clause { column: None, words: vec!["WITHOUT".to_owned(), "ROWID".to_owned()] });
    }
    if options.iter().any(|word| word.is("strict")) {
        found.push(Clause { column: None, words: vec!["STRICT".to_owned()] });
    }
    found
}

/// Reads the clauses of a column, or of a constraint of the table.
fn item(words: &[Word], found: &mut Vec<Clause>) {
    let Some(first) = words.first() else { return };
    let is_constraint = ["constraint", "check", "unique", "primary", "foreign", "exclude"].iter().any(|word| first.is(word));
    let column = (!is_constraint).then(|| first.text.clone());
    let mut at = usize::from(!is_constraint);
    while let Some(word) = words.get(at) {
        at += 1;
        if word.is("autoincrement") {
            found.push(Clause { column: column.clone(), words: vec!["AUTOINCREMENT".to_owned()] });
        } else if word.is("collate") {
            let name = words.get(at).map(|word| word.text.to_ascii_uppercase());
            found.push(Clause { column: column.clone(), words: std::iter::once("COLLATE".to_owned()).chain(name).collect() });
        } else if word.is("check") && words.get(at).is_some_and(|word| word.is("(")) {
            let end = at + balanced(&words[at..]);
            let inner = words[at..end].iter().map(|word| word.text.clone());
            // A check means the same wherever it stands.
            found.push(Clause { column: None, words: std::iter::once("CHECK".to_owned()).chain(inner).collect() });
            at = end;
        } else if word.is("(") {
            at += balanced(&words[at - 1..]) - 1;
        }
    }
}

/// Returns how many words a bracket takes, from its opening to its closing one or to the end.
fn balanced(words: &[Word]) -> usize {
    let mut depth = 0_u32;
    for (at, word) in words.iter().enumerate() {
        depth = if word.is("(") { depth + 1 } else { depth.saturating_sub(u32::from(word.is(")"))) };
        if depth == 0 {
            return at + 1;
        }
    }
    words.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expected: &[(&str, &str)]) {
        let found = clauses(sql);
        let found: Vec<(String, String)> = found.iter().map(|clause| (clause.column.clone().unwrap_or_default(), clause.text())).collect();
        let expected: Vec<(String, String)> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn checks_collations_and_options_are_found() {
        check(
            "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT COLLATE nocase)",
            &[("id", "AUTOINCREMENT"), ("n", "COLLATE NOCASE")],
        );
        check(
            "create table `t`(`a` int check(`a`>0), CONSTRAINT c CHECK (length(b) <= 3 AND b IN ('x','y')), b) STRICT, WITHOUT ROWID",
            &[("", "CHECK (a > 0)"), ("", "CHECK (length(b) <= 3 AND b IN ('x', 'y'))"), ("", "WITHOUT ROWID"), ("", "STRICT")],
        );
        check("CREATE TABLE t(a DEFAULT (1+(2)), \"check\" TEXT DEFAULT 'collate (', b /* check (x) */ -- autoincrement\n)", &[]);
    }

    #[test]
    fn what_is_no_table_or_no_whole_one_has_what_it_says() {
        for sql in ["", "CREATE TABLE t AS SELECT 1", "CREATE TABLE t(", "'", "((((", "/*", "CREATE TABLE t(a /*/ CHECK (a) */)"] {
            check(sql, &[]);
        }
        check("CREATE TABLE t(a CHECK (a", &[]);
        check("CREATE TABLE t(a CHECK (a > 0), b CHECK (", &[("", "CHECK (a > 0)")]);
    }
}
