//! `dbelay key`: encryption of the store, and the keys that open it.

use std::io::Write;
use std::path::PathBuf;

use chrono::SecondsFormat;
use dbelay::ops::journal::{self, Author, Entry, OperationKind, OperationResult, Phase};
use dbelay::progress::Progress;
use dbelay::snapshot::manifest::SourceName;
use dbelay::store::keys::{KeyKind, KeyLabel, KeySlot, Secret};
use dbelay::store::{LockHolder, Store};
use serde_json::{Value, json};

use super::output::{DIM, GOOD, ID};
use super::progress::Bars;
use super::project::{find_store, read_config, resolve};
use super::secret::{self, Opened};
use super::table::{Align, Table};
use super::time::stamp_text;
use super::{CliError, Context, ErrorKind, Exit, terminal};

const ADD_EXAMPLES: &str = "\
Examples:
  dbelay key add
  dbelay key add --label laptop
  dbelay key add --new-key-file ~/.config/dbelay/shop.key";

const LIST_EXAMPLES: &str = "\
Examples:
  dbelay key list
  dbelay key list --json";

const REMOVE_EXAMPLES: &str = "\
Examples:
  dbelay key remove 3f9c21d0a7b4e865";

const CHANGE_EXAMPLES: &str = "\
Examples:
  dbelay key change
  dbelay key change --new-key-file shop.key";

const RESUME_EXAMPLES: &str = "\
Examples:
  dbelay key resume";

const ROTATE_EXAMPLES: &str = "\
Examples:
  dbelay key rotate
  dbelay key rotate --yes";

/// Encrypt the store, and manage the keys that open it
///
/// The first key encrypts the store: everything in it is sealed anew. A key is a passphrase or a key file; each opens the same store. The passphrase of the
/// store is taken from `--key-file`, DBELAY_PASSWORD, DBELAY_PASSWORD_FILE, DBELAY_PASSWORD_COMMAND or the terminal, a new one from variables of the same names
/// that begin with DBELAY_NEW_.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// List the keys
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Add a key; the first one encrypts the store
    #[command(after_help = ADD_EXAMPLES)]
    Add(NewKey),
    /// Remove a key; the last one stays
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// Its id, or the first digits of it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Put another secret in the place of the one that opened the store
    #[command(after_help = CHANGE_EXAMPLES)]
    Change(NewKey),
    /// Make a new master key and seal everything anew; all keys but the one that opened the store end
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate,
    /// Go on with a change of the encryption that was interrupted
    #[command(after_help = RESUME_EXAMPLES)]
    Resume,
}

/// A key to be made.
#[derive(Debug, clap::Args)]
pub struct NewKey {
    /// What to call it [default: user@host]
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// A key file instead of a passphrase; it is made where it is not there
    #[arg(long, value_name = "PATH")]
    pub new_key_file: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let config = read_config(cx)?;
    let file = resolve(cx, config.as_ref()).ok().and_then(|resolved| resolved.url.sqlite_path().map(ToOwned::to_owned));
    let (dir, _) = find_store(cx, config.as_ref(), file.as_deref());
    let Opened { store, secret } = secret::open_store(cx, &dir)?;
    if let KeyCommand::List = &args.command {
        return list(&store, cx);
    }
    let _lock = store.lock(&holder(cx))?;
    let (store, secret) = match secret {
        Some(secret) if store.is_unsettled() && !cx.global.dry_run => {
            cx.output.note("a change of the encryption was interrupted; it is gone on with");
            (settle(store, &secret, cx)?, Some(secret))
        }
        secret => (store, secret),
    };
    match (&args.command, secret) {
        (KeyCommand::List, _) => Ok(Exit::DONE),
        (KeyCommand::Resume, _) => resume(&store, cx),
        (KeyCommand::Add(new), None) => encrypt(store, new, cx),
        (_, None) => Err(CliError::usage("the store is not encrypted").hint("`dbelay key add` encrypts it")),
        (KeyCommand::Add(new), Some(_)) => add(&store, new, cx),
        (KeyCommand::Remove { id }, Some(_)) => remove(&store, id, cx),
        (KeyCommand::Change(new), Some(_)) => change(&store, new, cx),
        (KeyCommand::Rotate, Some(secret)) => rotate(store, &secret, cx),
    }
}

/// Finishes a change of the encryption, and opens the store anew.
fn settle(store: Store, secret: &Secret, cx: &Context) -> Result<Store, CliError> {
    let bars = Bars::new(&cx.output);
    let kept = |error: CliError| {
        let first = match error.kind {
            ErrorKind::Locked => "wait until that has ended",
            ErrorKind::Damaged => "`dbelay fsck --repair` saves what is whole",
            _ => "mend what failed",
        };
        error.hint(format_args!("everything is still there, partly as it was; {first}, then `dbelay key resume` goes on"))
    };
    store.settle(secret, cx.environment.random, &bars).map_err(|error| kept(error.into()))?;
    bars.finish();
    Ok(Store::open_with(store.dir(), secret, cx.environment.random)?)
}

fn label(new: &NewKey, cx: &Context) -> String {
    let default = || format!("{}@{}", cx.environment.user, cx.environment.host);
    new.label.clone().unwrap_or_else(default)
}

fn created(cx: &Context) -> String {
    cx.now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn encrypt(store: Store, new: &NewKey, cx: &Context) -> Result<Exit, CliError> {
    if cx.global.dry_run {
        return would(cx, format_args!("would encrypt the store `{}`", store.dir().display()));
    }
    let store = begin_encryption(store, new, cx)?;
    let slot = store.opened_by().map(|slot| document(slot, true));
    finish(cx, &json!({ "encrypted": true, "key": slot }))
}

/// Encrypts a store that was just made; nobody else has it yet.
///
/// # Errors
/// As `dbelay key add`.
pub fn encrypt_new(store: Store, new: &NewKey, cx: &Context) -> Result<Store, CliError> {
    let _lock = store.lock(&holder(cx))?;
    begin_encryption(store, new, cx)
}

/// Encrypts a store, and opens it anew.
fn begin_encryption(store: Store, new: &NewKey, cx: &Context) -> Result<Store, CliError> {
    let secret = secret::new_secret(cx, new.new_key_file.as_deref())?;
    let (label, created) = (label(new, cx), created(cx));
    let (store, slot) = store.encrypt(&secret, KeyLabel { label: &label, created: &created }, cx.environment.random)?;
    let store = settle(store, &secret, cx)?;
    note(&store, "encrypted", &slot, cx)?;
    cx.output.say(format_args!("{GOOD}the store `{}` is encrypted{GOOD:#}; {} opens it", store.dir().display(), words(&slot)));
    cx.output.note("without a key nothing in it can be read again, by anybody: keep a second one elsewhere (`dbelay key add`)");
    Ok(store)
}

fn holder(cx: &Context) -> LockHolder {
    let since = cx.now().to_rfc3339_opts(SecondsFormat::Secs, true);
    LockHolder { pid: cx.environment.pid, host: cx.environment.host.clone(), command: "key".to_owned(), since }
}

fn add(store: &Store, new: &NewKey, cx: &Context) -> Result<Exit, CliError> {
    if cx.global.dry_run {
        return would(cx, "would add a key");
    }
    let secret = secret::new_secret(cx, new.new_key_file.as_deref())?;
    let (label, created) = (label(new, cx), created(cx));
    let slot = store.add_key(&secret, KeyLabel { label: &label, created: &created }, cx.environment.random)?;
    note(store, "added", &slot, cx)?;
    cx.output.say(format_args!("{} opens the store now", words(&slot)));
    finish(cx, &json!({ "key": document(&slot, false) }))
}

fn remove(store: &Store, digits: &str, cx: &Context) -> Result<Exit, CliError> {
    let keys: Vec<KeySlot> = store.keys()?.into_iter().flatten().filter(|slot| slot.id.starts_with(digits)).collect();
    let slot = match keys.as_slice() {
        [slot] => slot,
        [] => {
            return Err(CliError::new(ErrorKind::NotFound, format_args!("there is no key `{digits}`")).hint("`dbelay key list` lists them"));
        }
        _ => return Err(CliError::usage(format_args!("`{digits}` names several keys")).hint("write more digits")),
    };
    if cx.global.dry_run {
        return would(cx, format_args!("would remove {}", words(slot)));
    }
    store.remove_key(&slot.id)?;
    note(store, "removed", slot, cx)?;
    cx.output.say(format_args!("{} opens the store no more", words(slot)));
    cx.output.note("whoever had it may have kept the master key; `dbelay key rotate` makes a new one and seals everything anew");
    finish(cx, &json!({ "removed": slot.id }))
}

fn change(store: &Store, new: &NewKey, cx: &Context) -> Result<Exit, CliError> {
    if cx.global.dry_run {
        return would(cx, "would exchange the key that opened the store");
    }
    let secret = secret::new_secret(cx, new.new_key_file.as_deref())?;
    let old = store.opened_by().cloned();
    let (label, created) = (label(new, cx), created(cx));
    let slot = store.change_key(&secret, KeyLabel { label: &label, created: &created }, cx.environment.random)?;
    note(store, "changed", &slot, cx)?;
    cx.output.say(format_args!("{} opens the store now, the old one no more", words(&slot)));
    finish(cx, &json!({ "key": document(&slot, true), "removed": old.map(|slot| slot.id) }))
}

fn rotate(store: Store, secret: &Secret, cx: &Context) -> Result<Exit, CliError> {
    let mine = store.opened_by().map(|slot| slot.id.clone()).unwrap_or_default();
    let others: Vec<KeySlot> = store.keys()?.into_iter().flatten().filter(|slot| slot.id != mine).collect();
    let ended: Vec<String> = others.iter().map(words).collect();
    if cx.global.dry_run {
        let ended = if ended.is_empty() { String::new() } else { format!("; these would end: {}", ended.join(", ")) };
        return would(cx, format_args!("would make a new master key and seal everything anew{ended}"));
    }
    if !ended.is_empty() {
        let question = format!("these keys will end: {}; go on?", ended.join(", "));
        if !terminal::confirm(cx, &question, false)? {
            return Err(CliError::usage("nothing was changed"));
        }
    }
    let store = settle(store.rotate(secret, cx.environment.random)?, secret, cx)?;
    if let Some(slot) = store.opened_by().cloned() {
        note(&store, "rotated", &slot, cx)?;
    }
    cx.output.say(format_args!("{GOOD}everything is sealed with a new master key{GOOD:#}"));
    finish(cx, &json!({ "rotated": true, "removed": others.iter().map(|slot| &slot.id).collect::<Vec<_>>() }))
}

/// What was interrupted is done by now.
fn resume(store: &Store, cx: &Context) -> Result<Exit, CliError> {
    match (store.is_unsettled(), store.is_encrypted()) {
        (true, _) => return would(cx, "would go on with a change of the encryption"),
        (false, true) => cx.output.say("everything in the store is sealed with its master key"),
        (false, false) => cx.output.say("the store is not encrypted, and nothing is to be gone on with"),
    }
    finish(cx, &json!({ "encrypted": store.is_encrypted(), "unsettled": false }))
}

fn list(store: &Store, cx: &Context) -> Result<Exit, CliError> {
    let mine = store.opened_by().map(|slot| slot.id.as_str()).unwrap_or_default();
    let mut table = Table::new(&[Align::Left; 5]);
    let mut keys = Vec::new();
    for key in store.keys()? {
        match key {
            Ok(slot) => {
                let used = if slot.id == mine { "opened the store" } else { "" };
                table.line(
                    Default::default(),
                    [&slot.id, kind(&slot), &slot.label, &stamp_text(&slot.created), used].map(ToString::to_string),
                );
                keys.push(document(&slot, slot.id == mine));
            }
            Err(error) => cx.output.warn(error),
        }
    }
    if cx.output.is_json() {
        cx.output.json(&json!({ "encrypted": store.is_encrypted(), "unsettled": store.is_unsettled(), "keys": keys }))?;
        return Ok(Exit::DONE);
    }
    if !store.is_encrypted() {
        cx.output.say_as_is(format_args!("the store is not encrypted; {DIM}`dbelay key add` encrypts it{DIM:#}"));
    } else if store.is_unsettled() {
        cx.output.note("a change of the encryption was interrupted; `dbelay key resume` goes on with it");
    }
    let mut out = cx.output.out();
    table.write("", &mut out)?;
    out.flush()?;
    out.finish()?;
    Ok(Exit::DONE)
}

fn kind(slot: &KeySlot) -> &'static str {
    match slot.kind {
        KeyKind::Passphrase => "passphrase",
        KeyKind::File => "key file",
    }
}

fn words(slot: &KeySlot) -> String {
    format!("the {} {ID}{}{ID:#} ({})", kind(slot), slot.id, slot.label)
}

fn document(slot: &KeySlot, is_used: bool) -> Value {
    json!({ "id": slot.id, "kind": slot.kind, "label": slot.label, "created": slot.created, "opened": is_used })
}

fn would(cx: &Context, what: impl std::fmt::Display) -> Result<Exit, CliError> {
    cx.output.say(&what);
    finish(cx, &json!({ "dry_run": true, "plan": what.to_string() }))
}

fn finish(cx: &Context, document: &Value) -> Result<Exit, CliError> {
    if cx.output.is_json() {
        cx.output.json(document)?;
    }
    Ok(Exit::DONE)
}

/// Writes into the operation log what became of a key.
fn note(store: &Store, what: &str, slot: &KeySlot, cx: &Context) -> Result<(), CliError> {
    let environment = &cx.environment;
    let source = SourceName { engine: "store".to_owned(), place: store.id().to_owned() };
    let author = Author { user: environment.user.clone(), host: environment.host.clone(), pid: environment.pid };
    let mut entry = Entry::by(&author, source, created(cx), OperationKind::Key, Phase::End);
    entry.result = Some(OperationResult::Done);
    entry.note = Some(format!("{what}: {} {} ({})", kind(slot), slot.id, slot.label));
    journal::write(store, &entry)?;
    Ok(())
}
