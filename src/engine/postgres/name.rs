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

#[cfg(test)]
mod tests {
    use super::*;

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
