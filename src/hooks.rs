//! What `dbelay init --hooks` writes into files that are somebody else's: package.json, a Makefile, a hook of git.
//!
//! Pure: a text goes in, a new text comes out, with what was added and what was left alone. Only what is missing is added; nothing that is
//! there is changed, moved or formatted anew; a second time there is nothing to do. What cannot be understood for sure is an
//! error, and the file stays as it is.

pub mod git;
pub mod make;
pub mod npm;

/// The first line of what dbelay adds to a file of lines.
const BEGIN: &str = "# dbelay: begin";

/// The last line of it.
const END: &str = "# dbelay: end";

/// What became of a file's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The new text; the old one where nothing is to be done.
    pub text: String,
    /// The names that were added: scripts or targets.
    pub added: Vec<String>,
    /// What was there under a name of ours with another content, and stays: a sentence each.
    pub kept: Vec<String>,
}

/// Why a file is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// The file is not what its name says, or something that cannot be added to for sure.
    #[error("{0}")]
    Unfit(String),
    /// Which command migrates the database cannot be told.
    #[error("{message}")]
    NoCommand {
        /// What was looked for.
        message: String,
        /// What to say instead, for `--command`.
        example: String,
    },
    /// Somebody else's hook is there.
    #[error("{message}")]
    Taken {
        /// What is there.
        message: String,
        /// The line to add to it by hand.
        line: String,
    },
}

/// Writes a command for one line of a shell after `dbelay migrate --`: what only a shell understands is given to one.
fn wrapped(command: &str) -> Result<String, HookError> {
    let command = command.trim();
    if command.is_empty() || command.chars().any(char::is_control) {
        return Err(HookError::Unfit("the migration command is empty, or more than one line".to_owned()));
    }
    let is_assignment = |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'));
    let is_plain = !command.contains([';', '&', '|', '<', '>', '(', ')', '`', '$', '*', '?', '#', '~']);
    if is_plain && !command.split_whitespace().next().is_some_and(is_assignment) {
        return Ok(command.to_owned());
    }
    let quoted = shlex::try_quote(command).map_err(|_| HookError::Unfit("the migration command holds a zero byte".to_owned()))?;
    Ok(format!("sh -c {quoted}"))
}

/// Returns the line ending that a text has.
fn line_end(text: &str) -> &'static str {
    match text.find('\n') {
        Some(at) if text.as_bytes().get(..at).is_some_and(|before| before.ends_with(b"\r")) => "\r\n",
        _ => "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_shell_understands_is_given_to_one() {
        let check = |command: &str, expected: &str| assert_eq!(wrapped(command).as_deref(), Ok(expected), "{command}");
        check(" npx prisma migrate deploy ", "npx prisma migrate deploy");
        check("knex --env=prod migrate:latest", "knex --env=prod migrate:latest");
        check("a && b", "sh -c 'a && b'");
        check("NODE_ENV=test knex migrate:latest", "sh -c 'NODE_ENV=test knex migrate:latest'");
        assert!(wrapped("").is_err() && wrapped("a\nb").is_err());
    }
}
