//! One variable out of a `.env` file. The file is read as `dotenvy` reads it, and nothing is put into the environment.
//!
//! A line that `dotenvy` refuses does not hide the others: `.env` files are written for many readers, and an apostrophe in
//! an application's name must not make its database disappear. Only the variable asked for must be readable.

use std::path::Path;

use super::SourceError;

/// A variable's value and its line.
#[derive(Clone, PartialEq, Eq)]
pub struct DotEnvValue {
    /// The value, quotes and escapes resolved.
    pub value: String,
    /// The line, from 1.
    pub line: u32,
}

impl std::fmt::Debug for DotEnvValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DotEnvValue({}, line {})", super::redact(&self.value), self.line)
    }
}

/// Reads one variable. `path` is for messages only.
///
/// # Errors
/// [`SourceError::DotEnv`] if its line cannot be read, [`SourceError::TwoValues`] if it has two different values: `dotenvy` takes
/// the first of them, Node's `dotenv` the last.
pub fn read_dotenv(path: &Path, contents: &str, name: &str) -> Result<Option<DotEnvValue>, SourceError> {
    let contents = contents.strip_prefix('\u{feff}').unwrap_or(contents);
    let lines = lines_of(contents, name);
    if lines.is_empty() {
        return Ok(None);
    }
    let mut values: Vec<String> = dotenvy::from_read_iter(contents.as_bytes())
        .filter_map(Result::ok)
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value)
        .collect();
    if values.len() != lines.len() {
        // A line elsewhere swallowed it (an open quote runs to the end of the file), or one looks like it inside a quoted text.
        values.clear();
        for (line, rest) in &lines {
            match dotenvy::from_read_iter(rest.as_bytes()).next() {
                Some(Ok((key, value))) if key == name => values.push(value),
                _ => return Err(SourceError::DotEnv { name: name.to_owned(), path: path.to_owned(), line: *line }),
            }
        }
    }
    let mut found: Option<DotEnvValue> = None;
    for (value, (line, _)) in values.into_iter().zip(lines) {
        match &found {
            None => found = Some(DotEnvValue { value, line }),
            Some(first) if first.value == value => {}
            Some(first) => {
                return Err(SourceError::TwoValues { name: name.to_owned(), path: path.to_owned(), first: first.line, second: line });
            }
        }
    }
    Ok(found)
}

/// Returns the names that are assigned, in order, each once. A name is letters, digits, `_` and `.`.
pub(super) fn names(contents: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for line in contents.strip_prefix('\u{feff}').unwrap_or(contents).lines() {
        if let Some(name) = assigned(line)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Returns number and start of each line that assigns this variable; the text runs on to the end of the file.
fn lines_of<'a>(contents: &'a str, name: &str) -> Vec<(u32, &'a str)> {
    let mut lines = Vec::new();
    let mut rest = contents;
    let mut number = 1_u32;
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        if rest.get(..end).and_then(assigned) == Some(name) {
            lines.push((number, rest));
        }
        rest = rest.get(end..).unwrap_or("");
        number = number.saturating_add(1);
    }
    lines
}

fn assigned(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    let name = name.strip_prefix("export ").map_or(name, str::trim_start);
    (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(contents: &str, expected: Option<(&str, u32)>) {
        let actual = read_dotenv(Path::new(".env"), contents, "DATABASE_URL").expect("readable");
        assert_eq!(actual, expected.map(|(value, line)| DotEnvValue { value: value.to_owned(), line }), "{contents}");
    }

    #[test]
    fn a_variable_is_found_in_all_the_ways_to_write_it() {
        check("", None);
        check("OTHER=1\n# DATABASE_URL=x\nMY_DATABASE_URL=y\n", None);
        check("DATABASE_URL=app.db", Some(("app.db", 1)));
        check("\u{feff}DATABASE_URL=app.db\r\n", Some(("app.db", 1)));
        check("A=1\nexport DATABASE_URL = \"file:./dev.db\" # local\n", Some(("file:./dev.db", 2)));
        check("DATABASE_URL='pa$$w'\n", Some(("pa$$w", 1)));
        check("DIR=data\nDATABASE_URL=${DIR}/app.db\n", Some(("data/app.db", 2)));
        check("DATABASE_URL=\n", Some(("", 1)));
        check("DATABASE_URL=a.db\nDATABASE_URL=a.db\n", Some(("a.db", 1)));
    }

    #[test]
    fn a_bad_line_elsewhere_hides_nothing() {
        check("APP_NAME=My App\nDATABASE_URL=a.db\n", Some(("a.db", 2)));
        check("APP_NAME=Bob's\nDATABASE_URL=a.db\nX=1\n", Some(("a.db", 2)));
    }

    #[test]
    fn what_cannot_be_read_names_its_line_and_no_value() {
        let read = |text| read_dotenv(Path::new(".env"), text, "DATABASE_URL").expect_err("unreadable").to_string();
        let error = read("A=1\nDATABASE_URL=postgres://u:se cret@h/d\n");
        assert!(error.contains("line 2") && !error.contains("cret"), "{error}");
        let error = read("DATABASE_URL=a.db\nDATABASE_URL=b.db\n");
        assert!(error.contains("lines 1 and 2"), "{error}");
    }
}
