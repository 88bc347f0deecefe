//! Names: as SQL has them, and as they are shown.
//!
//! A table of the default schema is shown by its name alone, any other as `schema.table`. A part that holds a dot or a quote stands in quotes.

/// Writes an identifier as SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes text as an SQL literal, whatever the server's `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// Writes the name of something in a schema as SQL.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// Names something in a schema for people and for the store.
pub fn shown(default_schema: &str, schema: &str, name: &str) -> String {
    if schema == default_schema { plain(name) } else { format!("{}.{}", plain(schema), plain(name)) }
}

fn plain(part: &str) -> String {
    if part.contains(['.', '"']) || part.is_empty() { quoted(part) } else { part.to_owned() }
}

/// Takes the default schema off an identity as the server writes it.
pub fn shown_identity(default_schema: &str, identity: &str) -> String {
    let is_simple = default_schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let prefix = if is_simple { format!("{default_schema}.") } else { format!("{}.", quoted(default_schema)) };
    identity.strip_prefix(&prefix).unwrap_or(identity).to_owned()
}

/// Writes a name as it is shown as SQL again, with its schema.
pub fn sql_of_shown(default_schema: &str, shown: &str) -> String {
    match parts_of(shown) {
        (Some(schema), name) => qualified(&schema, &name),
        (None, name) => qualified(default_schema, &name),
    }
}

/// Takes a name as it is shown, or as the server writes it, apart: the schema, where one stands before it, and the name.
pub fn parts_of(shown: &str) -> (Option<String>, String) {
    let (first, rest) = first_part(shown, |c| c != '.');
    match rest.strip_prefix('.') {
        Some(name) => (Some(first), first_part(name, |_| true).0),
        None => (None, first + rest),
    }
}

/// Takes the first part of a name off, without its quotes; a part without them ends where a letter is not its own.
fn first_part(name: &str, is_own: impl Fn(char) -> bool) -> (String, &str) {
    let Some(inner) = name.strip_prefix('"') else {
        let end = name.find(|c| !is_own(c)).unwrap_or(name.len());
        let (first, rest) = name.split_at(end);
        return (first.to_owned(), rest);
    };
    let mut part = String::new();
    let mut rest = inner;
    while let Some((before, after)) = rest.split_once('"') {
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return (part, after),
        }
    }
    part.push_str(rest);
    (part, "")
}

/// Puts the default schema before an identity that [`shown_identity`] took it off.
pub fn sql_of_identity(default_schema: &str, identity: &str) -> String {
    let (_, rest) = first_part(identity, |c| c.is_alphanumeric() || c == '_' || c == '$');
    if rest.starts_with('.') { identity.to_owned() } else { format!("{}.{identity}", quoted(default_schema)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_shown_become_sql_again() {
        for (schema, name) in [
            ("public", "users"),
            ("audit", "users"),
            ("public", "a.b"),
            ("A", "My Table"),
            ("a.\"b", "\"x\".y"),
            ("public", ""),
            ("x", "ü"),
        ] {
            assert_eq!(sql_of_shown("public", &shown("public", schema, name)), qualified(schema, name));
        }
        for (shown, expected) in [
            ("f(integer)", "\"public\".f(integer)"),
            ("audit.f(audit.mood)", "audit.f(audit.mood)"),
            ("\"My F\"(audit.mood)", "\"public\".\"My F\"(audit.mood)"),
            ("\"A \"\" B\".f()", "\"A \"\" B\".f()"),
            ("===(text,text)", "\"public\".===(text,text)"),
        ] {
            assert_eq!(sql_of_identity("public", shown), expected);
        }
    }

    #[test]
    fn names_are_shown_without_the_default_schema() {
        assert_eq!(shown("public", "public", "users"), "users");
        assert_eq!(shown("public", "audit", "users"), "audit.users");
        assert_eq!(shown("public", "public", "a.b"), "\"a.b\"");
        assert_eq!(shown("public", "A", "My Table"), "A.My Table");
        assert_eq!(shown_identity("public", "public.f(integer)"), "f(integer)");
        assert_eq!(shown_identity("public", "publication.f()"), "publication.f()");
    }

    #[test]
    fn sql_is_quoted() {
        assert_eq!(qualified("a\"b", "c"), "\"a\"\"b\".\"c\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
    }
}
