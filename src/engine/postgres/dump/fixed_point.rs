//! Expressions that come back as they were written.
//!
//! The server prints an expression from its tree, and what it prints does not always make the same tree again. Two forms are known, and each is mended
//! by a cast that the server takes in without a trace:
//! - `(ARRAY['a'::character varying])::text[]` is an array that is cast. Read again, the cast goes to each element. With its own type named
//!   first, `(ARRAY['a'::character varying]::character varying[])::text[]`, it stays where it is. This is what `status IN ('a', 'b')` becomes.
//! - `((a AND b) AND c)`, as `BETWEEN` makes it, is read as `(a AND b AND c)`; `((a AND b)::boolean AND c)` is not. The same with `OR`.
//!
//! An array whose elements' type is not in the text (`(ARRAY[x, y])::text[]` with two columns), or whose elements differ in length, stays as it is.

use super::lex::{Kind, Lexer, Token};

/// Returns a statement of a dump in such words that the server, once it has read them, prints those of the original.
pub fn fixed_point(sql: &str) -> String {
    let Some(script) = Script::read(sql) else { return sql.to_owned() };
    let mut insertions: Vec<(usize, String)> = Vec::new();
    for (index, token) in script.tokens.iter().enumerate() {
        let insertion = if token.is_word(sql, "array") {
            script.array(index)
        } else if token.is_sign(sql, "(") {
            script.connective(index)
        } else {
            None
        };
        insertions.extend(insertion);
    }
    insertions.sort_by_key(|(at, _)| *at);
    let mut fixed = String::with_capacity(sql.len() + 32 * insertions.len());
    let mut done = 0;
    for (at, cast) in &insertions {
        fixed.push_str(sql.get(done..*at).unwrap_or_default());
        fixed.push_str(cast);
        done = *at;
    }
    fixed.push_str(sql.get(done..).unwrap_or_default());
    fixed
}

/// Words that a bracket follows which holds an expression.
const BEFORE_EXPRESSION: &[&str] = &["where", "when", "on", "having", "then", "else", "select", "return", "by", "case"];
/// Words that a type's name goes on with.
const TYPE_WORDS: &[&str] =
    &["varying", "precision", "without", "with", "time", "zone", "day", "to", "second", "year", "month", "hour", "minute"];

/// A type, of an array's elements where it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Element {
    /// Its name without a length: `character varying`.
    base: String,
    /// Its name as it is written: `character varying(3)`.
    full: String,
}

impl Element {
    fn plain(name: &str) -> Self {
        Self { base: name.to_owned(), full: name.to_owned() }
    }

    fn has_length(&self) -> bool {
        self.base != self.full
    }
}

/// A type as it is written after `::`.
#[derive(Debug, PartialEq, Eq)]
struct Type {
    element: Element,
    is_array: bool,
    /// The index of the token after it.
    end: usize,
}

/// A statement's tokens without comments.
struct Script<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    /// For each bracket the index of its partner.
    partners: Vec<Option<usize>>,
}

impl<'t> Script<'t> {
    fn read(text: &'t str) -> Option<Self> {
        let tokens: Result<Vec<_>, _> =
            Lexer::new(text).filter(|token| !matches!(token, Ok(token) if token.kind == Kind::Comment)).collect();
        let tokens = tokens.ok()?;
        let mut partners = vec![None; tokens.len()];
        let mut open = Vec::new();
        for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Sign) {
            match token.text(text) {
                "(" | "[" => open.push(index),
                close @ (")" | "]") => {
                    let start = open.pop()?;
                    let is_pair = tokens.get(start)?.is_sign(text, if close == ")" { "(" } else { "[" });
                    if !is_pair {
                        return None;
                    }
                    *partners.get_mut(start)? = Some(index);
                    *partners.get_mut(index)? = Some(start);
                }
                _ => {}
            }
        }
        Some(Self { text, tokens, partners })
    }

    fn is_sign(&self, index: usize, sign: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.is_sign(self.text, sign))
    }

    fn is_word(&self, index: usize, word: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.is_word(self.text, word))
    }

    fn partner(&self, index: usize) -> Option<usize> {
        self.partners.get(index).copied().flatten()
    }

    fn is_cast(&self, index: usize) -> bool {
        self.is_sign(index, ":") && self.is_sign(index + 1, ":")
    }

    /// Tells whether the bracket here holds a call's arguments: it stands right after a name.
    fn is_call(&self, bracket: usize) -> bool {
        let before = bracket.checked_sub(1).and_then(|before| self.tokens.get(before));
        let is_name = before.filter(|token| matches!(token.kind, Kind::Word | Kind::Name));
        is_name.is_some_and(|token| self.tokens.get(bracket).is_some_and(|bracket| token.end == bracket.start))
    }

    /// Finds the cast that holds an array together which is cast to another type; `ARRAY` stands here.
    fn array(&self, start: usize) -> Option<(usize, String)> {
        let close = self.partner(start + 1).filter(|_| self.is_sign(start + 1, "["))?;
        let (mut before, mut after) = (start, close + 1);
        while before > 0 && self.is_sign(after, ")") && self.partner(after) == Some(before - 1) && !self.is_call(before - 1) {
            (before, after) = (before - 1, after + 1);
        }
        let target = self.read_type(after + 2).filter(|target| self.is_cast(after) && target.is_array)?;
        let element = self.array_type(start + 1, close)?;
        let is_pushed_down = target.element != element;
        is_pushed_down.then(|| (self.tokens.get(close).map_or(0, |token| token.end), format!("::{}[]", element.full)))
    }

    /// Returns the type of the elements between these brackets, where the text says it. A length counts only where all have it: a cast to
    /// it would cut the others.
    fn array_type(&self, open: usize, close: usize) -> Option<Element> {
        let mut types = Vec::new();
        let (mut start, mut at) = (open + 1, open + 1);
        while at < close {
            if self.is_sign(at, ",") {
                types.push(self.element_type(start, at));
                start = at + 1;
            }
            at = self.partner(at).filter(|partner| *partner > at).unwrap_or(at) + 1;
        }
        types.push(self.element_type(start, close));
        let is_known = types.iter().all(Option::is_some);
        let mut known = types.into_iter().flatten();
        let first = known.next()?;
        let is_common = known.all(|other| other == first) && (is_known || !first.has_length());
        is_common.then_some(first)
    }

    /// Returns the type of the expression between these tokens, where its text says it: a constant, or something that is cast.
    fn element_type(&self, start: usize, end: usize) -> Option<Element> {
        let first = self.tokens.get(start)?;
        let text = first.text(self.text);
        if self.is_word(start, "array")
            && let Some(close) = self.partner(start + 1)
            && close + 1 == end
        {
            return self.array_type(start + 1, close);
        }
        if start + 1 == end {
            return match first.kind {
                Kind::Number if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Element::plain("integer")),
                Kind::Number => Some(Element::plain("numeric")),
                Kind::Word if text == "true" || text == "false" => Some(Element::plain("boolean")),
                _ => None,
            };
        }
        let mut at = start + 1;
        if self.is_sign(start, "(") {
            at = self.partner(start)? + 1;
        } else if matches!(first.kind, Kind::Word | Kind::Name) {
            while self.is_sign(at, ".") {
                at += 2;
            }
            if (self.is_sign(at, "(") && self.is_call(at)) || self.is_sign(at, "[") {
                at = self.partner(at)? + 1;
            }
        } else if first.kind == Kind::Sign {
            return None;
        }
        let mut found = None;
        while at < end && self.is_cast(at) {
            let cast = self.read_type(at + 2)?;
            at = cast.end;
            found = Some(cast.element);
        }
        found.filter(|element| at == end && element.base != "record" && element.base != "unknown")
    }

    /// Reads the name of a type that begins here.
    fn read_type(&self, start: usize) -> Option<Type> {
        let mut base = String::new();
        let (mut at, mut has_length) = (start, false);
        while let Some(token) = self.tokens.get(at) {
            let text = token.text(self.text);
            let is_first = base.is_empty() || base.ends_with('.');
            match token.kind {
                Kind::Word | Kind::Name if is_first => base.push_str(text),
                Kind::Word if TYPE_WORDS.contains(&text) => {
                    base.push(' ');
                    base.push_str(text);
                }
                Kind::Sign if text == "." && !is_first => base.push('.'),
                Kind::Sign if text == "(" && !is_first => {
                    has_length = true;
                    at = self.partner(at)?;
                }
                _ => break,
            }
            at += 1;
        }
        let written = self.text.get(self.tokens.get(start)?.start..self.tokens.get(at.checked_sub(1)?)?.end)?;
        let has_length = has_length || base.starts_with("interval ");
        // Without a length the first two would have that of one.
        let base = match base.as_str() {
            "" => return None,
            "character" => "bpchar".to_owned(),
            "bit" => "\"bit\"".to_owned(),
            other if other.starts_with("interval ") => "interval".to_owned(),
            _ => base,
        };
        let full = if has_length { written.to_owned() } else { base.clone() };
        let mut is_array = false;
        while self.is_sign(at, "[") && self.is_sign(at + 1, "]") {
            is_array = true;
            at += 2;
        }
        Some(Type { element: Element { base, full }, is_array, end: at })
    }

    /// Finds the cast that keeps `(a AND b)` apart from the `AND` after it, and the same with `OR`; the bracket stands here.
    fn connective(&self, open: usize) -> Option<(usize, String)> {
        let close = self.partner(open)?;
        let word = ["and", "or"].into_iter().find(|word| self.is_word(close + 1, word))?;
        let before = self.tokens.get(open.checked_sub(1)?)?;
        let is_first = match before.kind {
            Kind::Word => BEFORE_EXPRESSION.iter().any(|word| before.is_word(self.text, word)) && !self.is_call(open),
            Kind::Sign => matches!(before.text(self.text), "(" | ","),
            _ => false,
        };
        let mut at = open + 1;
        while is_first && at < close {
            if self.is_word(at, word) {
                return Some((self.tokens.get(close)?.end, "::boolean".to_owned()));
            }
            at = self.partner(at).filter(|partner| *partner > at).unwrap_or(at) + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sql: &str, expected: &str) {
        assert_eq!(fixed_point(sql), expected, "{sql}");
        assert_eq!(fixed_point(expected), expected, "a second time");
    }

    /// Casts an array of this to `text[]` and expects it to be held together by this type.
    #[track_caller]
    fn check_array(elements: &str, expected: Option<&str>) {
        let own = expected.map(|name| format!("::{name}[]")).unwrap_or_default();
        check(
            &format!("CHECK ((x = ANY ((ARRAY[{elements}])::text[])))"),
            &format!("CHECK ((x = ANY ((ARRAY[{elements}]{own})::text[])))"),
        );
    }

    #[test]
    fn an_array_that_is_cast_names_its_own_type() {
        check_array("'a'::character varying, 'b]'::character varying", Some("character varying"));
        check_array("'x'::character varying(3), 'y'::character varying(3)", Some("character varying(3)"));
        check_array("'x'::character varying(3), 'y'::character varying", None);
        check_array("v2, 'x'::character varying(3)", None);
        check_array("v2, 'x'::character varying", Some("character varying"));
        check_array("'a'::character(3)", Some("character(3)"));
        check_array("'a'::bpchar", Some("bpchar"));
        check_array("(v)::character varying, t", Some("character varying"));
        check_array("NULL::app.\"My type\", x", Some("app.\"My type\""));
        check_array("1, 2", Some("integer"));
        check_array("1.5", Some("numeric"));
        check_array("true", Some("boolean"));
        check_array("B'1'::bit(3)", None);
        check_array("'1'::bit(3)", Some("bit(3)"));
        check_array("'1'::\"bit\"", Some("\"bit\""));
        check_array("'2020-01-01 00:00:00'::timestamp(3) without time zone", Some("timestamp(3) without time zone"));
        check_array("'1 day'::interval day to second(2)", Some("interval day to second(2)"));
        check_array("ARRAY['a'::character varying, x], y", Some("character varying"));
        check_array("('{a}'::character varying[])", None);
        check_array("'{a}'::character varying[]", Some("character varying"));
        check_array("f(a, 'x'::text)::name", Some("name"));
        check_array("t.v, t.w", None);
        check_array("t.v || 'x'::bpchar", None);
        check_array("'a'::character varying::name", Some("name"));
        check_array("'a'::text, 'b'::text", None);
        check_array("", None);
        check_array("ROW(1)::record", None);
    }

    #[test]
    fn only_what_is_cast_to_an_array_is_changed() {
        for sql in [
            "CHECK ((v = ANY (ARRAY['a'::bpchar, 'b'::bpchar])))",
            "DEFAULT (f(ARRAY['a'::bpchar]))::text[]",
            "SELECT f(ARRAY['a'::bpchar])::text[]",
            "SELECT '(ARRAY[''a''::bpchar])::text[]', $$(ARRAY['a'::bpchar])::text[]$$, \"(ARRAY['a'::bpchar])::text[]\"",
            "SELECT (ARRAY['a'::bpchar])[1]::text",
            "SELECT ARRAY[]::text[]",
            "SELECT (ARRAY['a'::bpchar)::text[]",
            "SELECT 'open",
            "ARRAY[",
        ] {
            check(sql, sql);
        }
        check("SELECT ARRAY['a'::bpchar]::text[]", "SELECT ARRAY['a'::bpchar]::bpchar[]::text[]");
        check("SELECT (ARRAY['a'::text])::text[]", "SELECT (ARRAY['a'::text])::text[]");
        check(
            "SELECT (ARRAY['a'::character varying])::character varying(3)[]",
            "SELECT (ARRAY['a'::character varying]::character varying[])::character varying(3)[]",
        );
    }

    #[test]
    fn a_first_operand_of_the_same_connective_stays_apart() {
        check("CHECK ((((a >= 1) AND (a <= 2)) AND b))", "CHECK ((((a >= 1) AND (a <= 2))::boolean AND b))");
        check("WHERE ((a OR b) OR (c OR d))", "WHERE ((a OR b)::boolean OR (c OR d))");
        check("WHEN (((a AND b) AND c) AND d)", "WHEN (((a AND b)::boolean AND c)::boolean AND d)");
        for sql in [
            "CHECK ((a AND (b AND c) AND d))",
            "CHECK (((a OR b) AND c))",
            "CHECK (((f(a AND b)) AND c))",
            "SELECT (bool_and(x) OVER (ORDER BY y ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AND z)",
            "SELECT (x IN (a AND b) AND c)",
            "CHECK ((f(a AND b) AND c))",
        ] {
            check(sql, sql);
        }
    }
}
