//! Where the secret of an encrypted store comes from, and opening one with it.
//!
//! In this order: `--key-file` or `DBELAY_KEY_FILE`, `DBELAY_PASSWORD`, `DBELAY_PASSWORD_FILE`, `DBELAY_PASSWORD_COMMAND`, and at last the person at the terminal. A
//! new secret has variables of its own, which begin with `DBELAY_NEW_`. No secret is ever printed, and none stands on a command line.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use dbelay::store::keys::{KEY_FILE_BYTES_MAX, Secret};
use dbelay::store::{Store, StoreError};
use zeroize::Zeroizing;

use super::output::HEADING;
use super::{CliError, Context, ErrorKind};

/// How often a wrong passphrase may be typed.
const ATTEMPTS_MAX: u32 = 3;
/// The longest passphrase that a file or a command may give.
const PASSPHRASE_BYTES_MAX: u64 = 64 * 1024;

/// An open store, and what opened it.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The secret, where it is encrypted.
    pub secret: Option<Secret>,
}

/// Opens a store; asks for its secret where it is encrypted.
///
/// # Errors
/// The store's; of kind `wrong_key` where there is no secret, or a wrong one.
pub fn open_store(cx: &Context, dir: &Path) -> Result<Opened, CliError> {
    match Store::open(dir) {
        Err(StoreError::KeyNeeded(_)) => {}
        store => return Ok(Opened { store: store?, secret: None }),
    }
    let open = |secret: Secret| -> Result<Opened, CliError> {
        Ok(Opened { store: Store::open_with(dir, &secret, cx.environment.random)?, secret: Some(secret) })
    };
    if let Some(secret) = given(cx, Which::Present)? {
        return open(secret);
    }
    for attempt in 1.. {
        let question = format!("passphrase of the store `{}`", dir.display());
        let Some(secret) = ask(cx, &question)? else {
            return Err(StoreError::KeyNeeded(dir.to_owned()).into());
        };
        match open(secret) {
            Err(error) if error.kind == ErrorKind::WrongKey && attempt < ATTEMPTS_MAX => cx.output.warn("this opens none of its keys"),
            opened => return opened,
        }
    }
    Err(StoreError::KeyNeeded(dir.to_owned()).into())
}

/// Which secret is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The one that opens the store.
    Present,
    /// One for a new key.
    New,
}

/// Finds the secret that the command line or the environment gives, if they do.
fn given(cx: &Context, which: Which) -> Result<Option<Secret>, CliError> {
    let variable = |rest: &str| match which {
        Which::Present => format!("DBELAY_{rest}"),
        Which::New => format!("DBELAY_NEW_{rest}"),
    };
    if let Some(path) = cx.global.key_file.as_ref().filter(|_| which == Which::Present) {
        return read_key_file(&cx.environment.cwd.join(path)).map(Some);
    }
    if let Some(words) = cx.environment.var(&variable("PASSWORD")) {
        return passphrase(words.as_bytes().to_vec(), &variable("PASSWORD")).map(Some);
    }
    if let Some(path) = cx.environment.var(&variable("PASSWORD_FILE")) {
        let path = cx.environment.cwd.join(path);
        let file = fs_err::File::open(&path).map_err(|error| CliError::from(error).kind(ErrorKind::WrongKey))?;
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(PASSPHRASE_BYTES_MAX).read_to_end(&mut bytes)?;
        return passphrase(first_line(&bytes).to_vec(), &path.display().to_string()).map(Some);
    }
    if let Some(command) = cx.environment.var(&variable("PASSWORD_COMMAND")) {
        return of_command(cx, command, &variable("PASSWORD_COMMAND")).map(Some);
    }
    Ok(None)
}

fn of_command(cx: &Context, command: &str, variable: &str) -> Result<Secret, CliError> {
    let failed = |what: String| CliError::new(ErrorKind::WrongKey, format_args!("the command in `{variable}` {what}"));
    let words = shlex::split(command).unwrap_or_default();
    let Some((program, args)) = words.split_first() else { return Err(failed("is no command line".to_owned())) };
    let child = Command::new(program).args(args).current_dir(&cx.environment.cwd).stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
    let output = child.map_err(|error| failed(format!("could not be started: {error}")))?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    passphrase(first_line(&bytes).to_vec(), variable)
}

/// Takes what stands before the first line's end.
fn first_line(bytes: &[u8]) -> &[u8] {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn passphrase(bytes: Vec<u8>, origin: &str) -> Result<Secret, CliError> {
    if bytes.is_empty() {
        return Err(CliError::new(ErrorKind::WrongKey, format_args!("the passphrase from `{origin}` is empty")));
    }
    Ok(Secret::Passphrase(Zeroizing::new(bytes)))
}

fn read_key_file(path: &Path) -> Result<Secret, CliError> {
    let file = fs_err::File::open(path).map_err(|error| CliError::from(error).kind(ErrorKind::WrongKey))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Secret::of_key_file(&bytes).ok_or_else(|| {
        CliError::new(ErrorKind::WrongKey, format_args!("`{}` is no key file of dbelay", path.display()))
            .hint("`dbelay key add --new-key-file PATH` makes one")
    })
}

/// Asks the person at the terminal; none where nobody can be asked.
fn ask(cx: &Context, question: &str) -> Result<Option<Secret>, CliError> {
    if !cx.environment.stdin_terminal || !cx.environment.stderr_terminal || cx.global.json {
        return Ok(None);
    }
    cx.output.prompt(format_args!("{HEADING}{question}{HEADING:#}: "));
    let typed = Zeroizing::new(rpassword::read_password()?);
    passphrase(typed.as_bytes().to_vec(), "the terminal").map(Some)
}

/// Finds the secret of a new key: in a key file, which is made where it is not there, in the environment, or by asking twice.
///
/// # Errors
/// Where there is none, or it is empty, or was typed differently.
pub fn new_secret(cx: &Context, key_file: Option<&Path>) -> Result<Secret, CliError> {
    if let Some(path) = key_file {
        let path = cx.environment.cwd.join(path);
        if path.exists() {
            return read_key_file(&path);
        }
        let (secret, text) = Secret::new_key_file(cx.environment.random);
        dbelay::durable::write(&path, text.as_bytes())?;
        cx.output.say(format_args!("wrote the key file `{}`; keep a copy of it elsewhere", path.display()));
        return Ok(secret);
    }
    if let Some(secret) = given(cx, Which::New)? {
        return Ok(secret);
    }
    let nobody = || {
        CliError::usage("nobody can be asked for the new passphrase")
            .hint("`DBELAY_NEW_PASSWORD_FILE` or `DBELAY_NEW_PASSWORD_COMMAND` gives it, `--new-key-file PATH` makes a key file instead")
    };
    let first = ask(cx, "new passphrase")?.ok_or_else(nobody)?;
    let second = ask(cx, "the same again")?.ok_or_else(nobody)?;
    match (&first, &second) {
        (Secret::Passphrase(one), Secret::Passphrase(two)) if one == two => Ok(first),
        _ => Err(CliError::usage("the two passphrases are not the same")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_ends_at_the_first_lines_end() {
        for (bytes, expected) in
            [("word\n", "word"), ("word", "word"), ("two words\r\nmore\n", "two words"), (" spaced \n", " spaced "), ("", "")]
        {
            assert_eq!(first_line(bytes.as_bytes()), expected.as_bytes());
        }
    }
}
