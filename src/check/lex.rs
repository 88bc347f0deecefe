//! The words of a script, and where its statements begin and end.
//!
//! Only as much of SQLite's tokens as is needed to find statements, comments and places: the parser reads each statement on its own, so
//! that one which it does not know costs that one. Total: every input has tokens, and every byte is looked at a bounded number of times.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a bare name.
    Word,
    /// A name in quotes: `"a"`, `` `a` ``, `[a]`.
    Name,
    /// A string: `'a'`.
    Text,
    /// A number.
    Number,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// Any other sign.
    Sign,
}

/// A token, by its place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

impl Token {
    /// Returns its text.
    pub fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// Tells whether it is this keyword.
    pub fn is(&self, text: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(text).eq_ignore_ascii_case(word)
    }

    /// Returns the name that it stands for, without quotes; none where it is no name.
    pub fn name(&self, text: &str) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text(text).to_owned()),
            Kind::Name | Kind::Text => Some(unquoted(self.text(text))),
            _ => None,
        }
    }
}

/// Takes a name out of its quotes.
pub fn unquoted(name: &str) -> String {
    let Some(mark) = name.chars().next().filter(|mark| "\"'`[".contains(*mark)) else { return name.to_owned() };
    let close = if mark == '[' { ']' } else { mark };
    let inner = name.get(1..).and_then(|rest| rest.strip_suffix(close)).unwrap_or(name);
    if mark == '[' { inner.to_owned() } else { inner.replace(&format!("{mark}{mark}"), &mark.to_string()) }
}

/// Quotes a name.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A script taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lexed {
    /// The tokens, in order.
    pub tokens: Vec<Token>,
    /// The comments, in order, with their marks.
    pub comments: Vec<Range<usize>>,
}

/// Reads the tokens of a text.
pub fn lex(text: &str) -> Lexed {
    let bytes = text.as_bytes();
    let mut lexed = Lexed::default();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let start = at;
        let next = bytes.get(at + 1);
        let kind = match byte {
            byte if byte.is_ascii_whitespace() || byte == 0x0b => {
                at += 1;
                continue;
            }
            b'-' if next == Some(&b'-') => {
                at = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |length| start + length);
                lexed.comments.push(start..at);
                continue;
            }
            b'/' if next == Some(&b'*') => {
                at = memchr::memmem::find(&bytes[start + 2..], b"*/").map_or(bytes.len(), |length| start + length + 4);
                lexed.comments.push(start..at);
                continue;
            }
            b'\'' | b'"' | b'`' => {
                at = string_end(bytes, start, byte);
                if byte == b'\'' { Kind::Text } else { Kind::Name }
            }
            b'[' => {
                at = memchr::memchr(b']', &bytes[start..]).map_or(bytes.len(), |length| start + length + 1);
                Kind::Name
            }
            b'0'..=b'9' => {
                at = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_');
                Kind::Number
            }
            byte if is_word(byte) => {
                at = run(bytes, start, is_word);
                Kind::Word
            }
            _ => {
                at += 1;
                match byte {
                    b'(' => Kind::Open,
                    b')' => Kind::Close,
                    b',' => Kind::Comma,
                    b';' => Kind::Semicolon,
                    b'.' => Kind::Dot,
                    _ => Kind::Sign,
                }
            }
        };
        lexed.tokens.push(Token { kind, start, end: at });
    }
    lexed
}

/// Letters, digits, and every byte of what is not ASCII.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn run(bytes: &[u8], start: usize, wanted: impl Fn(u8) -> bool) -> usize {
    bytes[start..].iter().position(|&byte| !wanted(byte)).map_or(bytes.len(), |length| start + length)
}

/// Finds the end of a quoted token; a doubled mark stands for one.
fn string_end(bytes: &[u8], start: usize, mark: u8) -> usize {
    let mut at = start + 1;
    while let Some(length) = bytes.get(at..).and_then(|rest| memchr::memchr(mark, rest)) {
        at += length + 1;
        if bytes.get(at) != Some(&mark) {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// Finds the statements: ranges of tokens without the semicolon. A trigger ends at the semicolon after its END.
pub fn statements(text: &str, tokens: &[Token]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Semicolon {
            continue;
        }
        let statement = &tokens[start..at];
        let ends_trigger = match statement {
            [.., before, end] => before.kind == Kind::Semicolon && end.is(text, "end"),
            _ => false,
        };
        if is_trigger(text, statement) && !ends_trigger {
            continue;
        }
        if !statement.is_empty() {
            found.push(start..at);
        }
        start = at + 1;
    }
    if start < tokens.len() {
        found.push(start..tokens.len());
    }
    found
}

fn is_trigger(text: &str, statement: &[Token]) -> bool {
    let is = |at: usize, word: &str| statement.get(at).is_some_and(|token| token.is(text, word));
    is(0, "create") && (is(1, "trigger") || (is(1, "temp") || is(1, "temporary")) && is(2, "trigger"))
}

/// Bounds how deep a statement can nest: open parentheses and CASEs, and the operators beside them, which lean to the left.
pub fn depth_max(text: &str, tokens: &[Token]) -> usize {
    const OPERATORS: [&str; 12] = ["and", "or", "not", "is", "in", "like", "between", "collate", "glob", "match", "regexp", "isnull"];
    // For each open parenthesis: how many operators stand since the last comma.
    let mut open = vec![0_usize];
    let (mut deep, mut deepest) = (0_usize, 0_usize);
    for token in tokens {
        let word = token.text(text);
        match token.kind {
            Kind::Open => {
                open.push(1);
                deep += 1;
            }
            Kind::Close if open.len() > 1 => deep -= open.pop().unwrap_or_default(),
            Kind::Comma => deep -= open.last_mut().map(std::mem::take).unwrap_or_default(),
            Kind::Sign | Kind::Dot => {
                deep += 1;
                *open.last_mut().expect("the first is never taken away") += 1;
            }
            Kind::Word if word.eq_ignore_ascii_case("case") || OPERATORS.iter().any(|other| word.eq_ignore_ascii_case(other)) => {
                deep += 1;
                *open.last_mut().expect("the first is never taken away") += 1;
            }
            _ => {}
        }
        deepest = deepest.max(deep);
    }
    deepest
}

/// Returns the names in a piece of SQL, in lower case: keywords among them.
pub fn names(sql: &str) -> std::collections::BTreeSet<String> {
    lex(sql)
        .tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Word | Kind::Name))
        .filter_map(|token| Some(token.name(sql)?.to_lowercase()))
        .collect()
}

/// Leaves out what stands in the parentheses of calls of these functions.
pub fn without_calls(sql: &str, functions: &[&str]) -> String {
    let tokens = lex(sql).tokens;
    let mut kept = String::with_capacity(sql.len());
    let (mut from, mut depth) = (0, 0_usize);
    for window in tokens.windows(2) {
        let [before, token] = window else { continue };
        match token.kind {
            Kind::Open if depth > 0 => depth += 1,
            Kind::Open if functions.iter().any(|function| before.is(sql, function)) => {
                kept.push_str(sql.get(from..token.end).unwrap_or_default());
                depth = 1;
            }
            Kind::Close if depth > 0 => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            from = token.start;
        } else {
            from = sql.len();
        }
    }
    kept.push_str(sql.get(from..).unwrap_or_default());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let lexed = lex(text);
        let place = |range: Range<usize>| &text[lexed.tokens[range.start].start..lexed.tokens[range.end - 1].end];
        let found: Vec<&str> = statements(text, &lexed.tokens).into_iter().map(place).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_strings_comments_and_triggers() {
        check("select 1;\n--> statement-breakpoint\nselect ';' ;; -- x;y\n", &["select 1", "select ';'"]);
        check("select \"a;b\", [c;d], `e;f` /* ; */ , 'it''s;'", &["select \"a;b\", [c;d], `e;f` /* ; */ , 'it''s;'"]);
        let trigger = "CREATE TRIGGER t AFTER UPDATE ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; DELETE FROM b; END";
        check(&format!("{trigger}; SELECT 1"), &[trigger, "SELECT 1"]);
        check("", &[]);
        check("select 'open", &["select 'open"]);
        check("/* open ; ", &[]);
    }

    #[test]
    fn names_lose_their_quotes() {
        for (name, expected) in [("\"a\"\"b\"", "a\"b"), ("`a`", "a"), ("[a b]", "a b"), ("a", "a"), ("'a'", "a"), ("\"", "\"")] {
            assert_eq!(unquoted(name), expected);
        }
    }

    #[test]
    fn calls_lose_what_stands_in_them() {
        let check = |sql: &str, expected: &str| assert_eq!(without_calls(sql, &["length"]), expected);
        check("length(a) + LENGTH( (b) ) + c", "length() + LENGTH() + c");
        check("substr(a, 1, length(a) - 1)", "substr(a, 1, length() - 1)");
        check("(\"length\"(a)) || length", "(\"length\"(a)) || length");
        check("length(a", "length(");
    }

    #[test]
    fn depth_counts_what_nests() {
        let depth = |sql: &str| depth_max(sql, &lex(sql).tokens);
        assert!(depth("((((((1))))))") >= 6);
        assert!(depth("1+1+1+1+1+1+1") >= 6);
        assert!(depth("(1),(2),(3),(4),(5)") <= 2);
        assert_eq!(depth(")))"), 0);
    }
}
