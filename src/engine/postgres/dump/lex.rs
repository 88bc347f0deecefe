//! The words of a dump: as much of PostgreSQL's tokens as is needed to tell what is a string and what a border.
//!
//! The rules are those of the server's `scan.l` with `standard_conforming_strings` on, which is how every dump here is made.

use memchr::memmem;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a bare name.
    Word,
    /// A name in quotes.
    Name,
    /// A string: `'a'`, `E'a'`, `$$a$$`.
    Text,
    /// A number.
    Number,
    /// `-- a` or `/* a */`.
    Comment,
    /// Any other single sign.
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
    pub fn is_word(&self, text: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(text).eq_ignore_ascii_case(word)
    }

    /// Tells whether it is this sign.
    pub fn is_sign(&self, text: &str, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text(text) == sign
    }
}

/// A string, a name or a comment that begins here has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unterminated(pub usize);

/// Reads one token after another.
#[derive(Debug)]
pub struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    /// Begins at the start of a text.
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Goes on after the end of the line.
    pub fn skip_line(&mut self) {
        self.at = line_end(self.text.as_bytes(), self.at);
    }
}

impl Iterator for Lexer<'_> {
    type Item = Result<Token, Unterminated>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let start = self.at + bytes.get(self.at..)?.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b)?;
        match token(bytes, start) {
            Some((kind, end)) => {
                self.at = end;
                Some(Ok(Token { kind, start, end }))
            }
            None => {
                self.at = bytes.len();
                Some(Err(Unterminated(start)))
            }
        }
    }
}

/// Returns the kind and the end of the token that starts here; none where it has no end.
fn token(bytes: &[u8], start: usize) -> Option<(Kind, usize)> {
    let byte = *bytes.get(start)?;
    let next = bytes.get(start + 1).copied();
    match byte {
        b'-' if next == Some(b'-') => Some((Kind::Comment, line_end(bytes, start))),
        b'/' if next == Some(b'*') => Some((Kind::Comment, comment_end(bytes, start)?)),
        b'\'' => Some((Kind::Text, quoted_end(bytes, start + 1, b'\'')?)),
        b'"' => Some((Kind::Name, quoted_end(bytes, start + 1, b'"')?)),
        b'e' | b'E' if next == Some(b'\'') => Some((Kind::Text, escaped_end(bytes, start + 2)?)),
        b'$' => match dollar_mark(bytes, start) {
            Some(mark) => {
                let inner = start + mark.len();
                Some((Kind::Text, inner + memmem::find(bytes.get(inner..)?, mark)? + mark.len()))
            }
            None => Some((Kind::Sign, start + 1)),
        },
        b'0'..=b'9' => Some((Kind::Number, run_end(bytes, start, |byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_'))),
        byte if is_name_start(byte) => Some((Kind::Word, run_end(bytes, start, |byte| is_name_part(byte) || byte == b'$'))),
        _ => Some((Kind::Sign, start + 1)),
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit()
}

fn run_end(bytes: &[u8], start: usize, is_part: impl Fn(u8) -> bool) -> usize {
    bytes.iter().skip(start).position(|byte| !is_part(*byte)).map_or(bytes.len(), |length| start + length)
}

fn line_end(bytes: &[u8], start: usize) -> usize {
    run_end(bytes, start, |byte| byte != b'\n')
}

/// Finds the end of a string or name in which only the doubled mark is special.
fn quoted_end(bytes: &[u8], mut at: usize, mark: u8) -> Option<usize> {
    loop {
        at += memchr::memchr(mark, bytes.get(at..)?)? + 1;
        if bytes.get(at) != Some(&mark) {
            return Some(at);
        }
        at += 1;
    }
}

/// Finds the end of a string with backslashes.
fn escaped_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'\'', b'\\', bytes.get(at..)?)?;
        let is_escape = bytes.get(at) == Some(&b'\\') || bytes.get(at + 1) == Some(&b'\'');
        if !is_escape {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Returns the mark of a dollar-quoted string, `$$` or `$tag$`, where one starts here.
fn dollar_mark(bytes: &[u8], start: usize) -> Option<&[u8]> {
    let end = run_end(bytes, start + 1, is_name_part);
    let is_tag = bytes.get(start + 1).is_some_and(|byte| !byte.is_ascii_digit()) && bytes.get(end) == Some(&b'$');
    if is_tag { bytes.get(start..=end) } else { None }
}

/// Finds the end of a comment that may hold others.
fn comment_end(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut at) = (1_usize, start + 2);
    while depth > 0 {
        at += memchr::memchr2(b'*', b'/', bytes.get(at..)?)?;
        match bytes.get(at..at + 2)? {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let actual: Vec<&str> = Lexer::new(text).map(|token| token.map_or("?", |token| token.text(text))).collect();
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn a_token_ends_where_the_server_ends_it() {
        check("a.b;", &["a", ".", "b", ";"]);
        check("'a''b;' 'c\\' d", &["'a''b;'", "'c\\'", "d"]);
        check("E'a\\'b''c\\\\' e'x' note'y'", &["E'a\\'b''c\\\\'", "e'x'", "note", "'y'"]);
        check("\"a\"\"b;\"\"\" c", &["\"a\"\"b;\"\"\"", "c"]);
        check("$$a$b$c$$ $x$ $$;$X$ $x$ é$y$", &["$$a$b$c$$", "$x$ $$;$X$ $x$", "é$y$"]);
        check("$1 + $2$", &["$", "1", "+", "$", "2", "$"]);
        check("/* a /* ; */ '*/b--;\nc", &["/* a /* ; */ '*/", "b", "--;", "c"]);
        check("-- a\r\nb", &["-- a\r", "b"]);
        check("/***/x/*/ */", &["/***/", "x", "/*/ */"]);
        check("1.5e3 x'ff'", &["1.5e3", "x", "'ff'"]);
    }

    #[test]
    fn what_has_no_end_is_told() {
        for text in ["'a", "E'a\\'", "\"a", "$$a$", "$x$ $X$", "/* /* */", "/*"] {
            assert_eq!(Lexer::new(text).collect::<Vec<_>>(), [Err(Unterminated(0))], "{text}");
        }
    }
}
