//! Exports of several files in one zip.
//!
//! | file | what it is |
//! |---|---|
//! | `metadata.json` | which snapshot, of what, when; each table with its rows and the id that proves it |
//! | `database.sql` | the database, as `--format sql` writes it |
//! | `config/dbelay.toml` | the project's configuration, without comments and without secrets; where there is one |
//! | `attachments/` | the files that belong to the snapshot; see [`attachments`] |
//! | `README.txt` | how it is put back by hand |
//!
//! It is written from its beginning to its end, so that it can go to a pipe.

use std::io::{Seek, Write};

use dbelay::ops::export;
use dbelay::snapshot::files::{Entry, EntryKind, content};
use dbelay::source::redact;
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{Subject, sql};
use crate::cli::{CliError, Context, files};

/// What a secret is replaced with.
const HIDDEN: &str = "***";

/// Words in the names of settings whose values are not shown.
const SECRETS: [&str; 5] = ["password", "secret", "token", "passphrase", "private"];

/// Lists the files beside the database that a snapshot keeps. Those of the live database are where they are.
fn attachments(subject: &Subject<'_>) -> Result<Vec<Entry>, CliError> {
    let Some(id) = subject.id else { return Ok(Vec::new()) };
    let (snapshot, _) = subject.project.load(id)?;
    Ok(files::of_snapshot(&subject.project.store, &snapshot)?.map(|files| files.listing.entries.to_vec()).unwrap_or_default())
}

/// Puts a file, a folder or a link into the zip.
fn attach<W: Write + Seek>(zip: &mut ZipWriter<W>, subject: &Subject<'_>, entry: &Entry) -> Result<(), CliError> {
    let name = format!("attachments/{}", entry.path);
    let mode = entry.mode.map_or(options(), |mode| options().unix_permissions(mode));
    match entry.kind {
        EntryKind::Dir => zip.add_directory(name, mode)?,
        EntryKind::Symlink => zip.add_symlink(name, entry.target.as_ref().map(ToString::to_string).unwrap_or_default(), options())?,
        EntryKind::File => {
            zip.start_file(name, mode)?;
            content::read(&subject.project.store, entry, &mut |bytes| zip.write_all(bytes))?;
        }
    }
    Ok(())
}

fn options() -> SimpleFileOptions {
    // Its length is not known before it is written.
    SimpleFileOptions::default().large_file(true).unix_permissions(0o600)
}

/// Writes tables as CSV, a file each.
pub fn csv(subject: &Subject<'_>, tables: &[usize], out: &mut dyn Write) -> Result<(), CliError> {
    let mut zip = ZipWriter::new_stream(out);
    for (_, manifest) in tables.iter().filter_map(|at| subject.state.tables.get(*at)) {
        zip.start_file(format!("{}.csv", file_name(&manifest.name)), options())?;
        export::csv(&mut zip, manifest, &subject.project.store)?;
    }
    zip.finish()?;
    Ok(())
}

/// Writes the whole.
pub fn zip(subject: &Subject<'_>, out: &mut dyn Write) -> Result<(), CliError> {
    let attachments = attachments(subject)?;
    let config = config(subject.project.cx)?;
    let mut zip = ZipWriter::new_stream(out);
    zip.start_file("metadata.json", options())?;
    let names: Vec<String> = attachments.iter().map(|entry| entry.path.to_string()).collect();
    let text = serde_json::to_string_pretty(&metadata(subject, &names))?;
    writeln!(zip, "{text}")?;
    zip.start_file("database.sql", options())?;
    sql(subject, &mut zip)?;
    zip.add_directory("config", SimpleFileOptions::default())?;
    if let Some(config) = config {
        zip.start_file("config/dbelay.toml", options())?;
        zip.write_all(config.as_bytes())?;
    }
    zip.add_directory("attachments", SimpleFileOptions::default())?;
    for entry in &attachments {
        attach(&mut zip, subject, entry)?;
    }
    zip.start_file("README.txt", options())?;
    zip.write_all(readme(subject).as_bytes())?;
    zip.finish()?;
    Ok(())
}

fn metadata(subject: &Subject<'_>, attachments: &[String]) -> serde_json::Value {
    let tables: Vec<_> =
        subject.state.tables.iter().map(|(id, manifest)| json!({ "name": manifest.name, "rows": manifest.rows, "id": id })).collect();
    json!({
        "schema_version": 1,
        "format": export::FORMAT,
        "dbelay": env!("CARGO_PKG_VERSION"),
        "timestamp": subject.timestamp,
        "snapshot": subject.id,
        "source": subject.source,
        "settings": subject.state.settings,
        "tables": tables,
        "attachments": attachments,
    })
}

/// Returns the project's configuration without what must not leave it. Comments may hold anything, and are left out.
fn config(cx: &Context) -> Result<Option<String>, CliError> {
    let Some(path) = dbelay::config::find_upwards(&cx.environment.cwd, dbelay::config::FILE_NAME) else { return Ok(None) };
    let text = fs_err::read_to_string(path)?;
    let mut table: toml::Table = text.parse()?;
    table.iter_mut().for_each(|(key, value)| hide(key, value));
    Ok(Some(toml::to_string_pretty(&table)?))
}

fn hide(key: &str, value: &mut toml::Value) {
    match value {
        toml::Value::Table(table) => table.iter_mut().for_each(|(key, value)| hide(key, value)),
        toml::Value::Array(values) => values.iter_mut().for_each(|value| hide(key, value)),
        toml::Value::String(text) if SECRETS.iter().any(|word| key.to_ascii_lowercase().contains(word)) => HIDDEN.clone_into(text),
        toml::Value::String(text) => *text = redact(text),
        _ => {}
    }
}

fn readme(subject: &Subject<'_>) -> String {
    let (made, load) = match subject.source.engine.as_str() {
        "sqlite" => ("a new file", "sqlite3 new.db < database.sql"),
        _ => ("an empty database", "createdb new_database && psql -X -v ON_ERROR_STOP=1 -d new_database -f database.sql"),
    };
    let place: String = subject.source.place.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(
        "This is {place}\nas it was at {}, written by dbelay {}.\n\n\
         metadata.json   which snapshot this is, its tables and how many rows they have\n\
         database.sql    schema and rows\n\
         config/         the configuration of the project, without secrets\n\
         attachments/    files that belong to the database\n\n\
         To put it back by hand, load database.sql into {made}:\n\n    {load}\n\n\
         To take it into a store: dbelay import THIS_FILE\n",
        subject.timestamp,
        env!("CARGO_PKG_VERSION"),
    )
}

/// Writes a table's name so that it is a file's name everywhere.
fn file_name(table: &str) -> String {
    let mut name = String::new();
    for letter in table.chars() {
        match letter {
            '.' if name.is_empty() => name.push_str("%2E"),
            letter if letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.' | ' ') => name.push(letter),
            letter => {
                let mut bytes = [0; 4];
                letter.encode_utf8(&mut bytes).bytes().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
            }
        }
    }
    if name.is_empty() { "%".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_any_name_has_a_file() {
        for (table, expected) in [("users", "users"), ("audit.log", "audit.log"), ("../x", "%2E.%2Fx"), ("", "%"), ("a\"b", "a%22b")] {
            assert_eq!(file_name(table), expected);
        }
    }

    #[test]
    fn no_secret_is_in_a_configuration_that_goes_out() {
        let mut value: toml::Value = toml::from_str::<toml::Table>(
            "database = 'postgres://anna:hunter2@h/shop'\n[x]\npassword = 'hunter2'\nlist = ['mysql://a:hunter2@h/b']",
        )
        .expect("a table")
        .into();
        hide("", &mut value);
        let text = toml::to_string(&value).expect("text");
        assert!(!text.contains("hunter2") && text.contains("shop"), "{text}");
    }
}
