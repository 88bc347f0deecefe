//! The password file: `host:port:database:user:password` a line, `*` for any, `\:` and `\\` for `:` and `\`. The first line that fits counts.

use std::path::PathBuf;

use super::words::Settings;
use super::{Host, HostName, Lookup, SOCKET_FOLDERS};
use crate::source::SourceError;

/// The longest password file that is read.
const LINES_MAX: usize = 10_000;

/// Finds the password for these hosts. A file that others can read is passed over, as in libpq.
///
/// # Errors
/// Where the hosts have different passwords.
pub(super) fn find(
    settings: &Settings,
    lookup: &Lookup<'_>,
    hosts: &[Host],
    user: &str,
    database: &str,
) -> Result<Option<String>, SourceError> {
    let path = settings.text("passfile").map(PathBuf::from).or_else(|| lookup.home.map(|home| home.join(".pgpass")));
    let Some(file) = path.and_then(|path| (lookup.read)(&path)).filter(|file| file.mode & 0o077 == 0) else { return Ok(None) };
    let mut passwords = hosts.iter().map(|host| first_match(&file.text, host, user, database));
    let first = passwords.next().flatten();
    if passwords.any(|other| other != first) {
        return Err(settings.refused(
            "host",
            "the password file does not have one password for all the hosts in the list",
            "name one host, or give them the same password in the file",
        ));
    }
    Ok(first)
}

fn first_match(text: &str, host: &Host, user: &str, database: &str) -> Option<String> {
    let name = match &host.name {
        HostName::Tcp(name) => name.clone(),
        // A socket in a default folder is found under `localhost`.
        HostName::Socket(folder) if SOCKET_FOLDERS.iter().any(|default| folder.as_os_str() == *default) => "localhost".to_owned(),
        HostName::Socket(folder) => folder.to_string_lossy().into_owned(),
    };
    let wanted = [name.as_str(), &host.port.to_string(), database, user];
    let found = text.lines().take(LINES_MAX).filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for value in wanted {
            let (field, after) = split_field(rest)?;
            if rest.get(..rest.len() - after.len() - 1) != Some("*") && field != value {
                return None;
            }
            rest = after;
        }
        Some(unescaped(rest))
    });
    found.filter(|password| !password.is_empty())
}

/// Splits at the first `:` without a `\` before it. Returns the field as it is meant, and the rest as it is written.
fn split_field(text: &str) -> Option<(String, &str)> {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            ':' if !is_escaped => return Some((unescaped(text.get(..at)?), text.get(at + 1..)?)),
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(if letter == '\\' { letters.next().unwrap_or('\\') } else { letter });
    }
    plain
}
