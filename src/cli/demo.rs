//! `dbelay demo`: the whole story on a scratch database. Every line after a `$` is run as it stands, by this very program.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::json;

use super::output::{DIM, HEADING, Out};
use super::{CliError, Context, ErrorKind, Exit};

const EXAMPLES: &str = "\
Examples:
  dbelay demo";

/// A chat application: messages belong to chats, and go with them.
const DATABASE: &str = "
CREATE TABLE chats(id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE messages(id INTEGER PRIMARY KEY, chat_id INTEGER NOT NULL REFERENCES chats(id) ON DELETE CASCADE, body TEXT NOT NULL);
INSERT INTO chats VALUES (1, 'rope'), (2, 'weather');
INSERT INTO messages VALUES (1, 1, 'is it long enough?'), (2, 1, 'sixty metres'), (3, 2, 'clear until noon');
";

/// The rebuild that SQLite's own documentation describes, with foreign keys left on, as most migration tools have them: DROP TABLE
/// deletes the rows of `chats` first, and the messages go with them.
const MIGRATION: &str = "\
-- chats.title becomes NOT NULL: rebuild the table
CREATE TABLE chats_new(id INTEGER PRIMARY KEY, title TEXT NOT NULL);
INSERT INTO chats_new SELECT id, title FROM chats;
DROP TABLE chats;
ALTER TABLE chats_new RENAME TO chats;
";

/// A migration that does no harm.
const SECOND: &str = "\
ALTER TABLE messages ADD COLUMN read_at TEXT;
UPDATE messages SET read_at = '2026-11-20' WHERE chat_id = 1;
";

/// Tell the whole story on a scratch database: a migration that loses rows, caught, rolled back, undone
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {}

/// Runs the command.
pub fn run(_: &Args, cx: &Context) -> Result<Exit, CliError> {
    let dir = tempfile::Builder::new().prefix("dbelay-demo-").tempdir()?.keep();
    let connection = Connection::open(dir.join("app.db"))?;
    connection.execute_batch(DATABASE)?;
    drop(connection);
    fs_err::create_dir(dir.join("migrations"))?;
    fs_err::write(dir.join("migrations/001_title.sql"), MIGRATION)?;
    fs_err::write(dir.join("migrations/002_read.sql"), SECOND)?;
    let mut story = Story { cx, dir: &dir, out: cx.output.out() };

    story
        .say("A chat application: two chats, three messages. This migration makes `chats.title` NOT NULL, the way SQLite's manual says:")?;
    story.quote(MIGRATION)?;
    story
        .say("It runs without an error, and integrity_check is content. But it is run with foreign keys on, so it loses every message:")?;
    story.step(&["init", "--db", "app.db"], 0)?;
    story.step(&["migrate", "--", "dbelay", "demo-apply", "migrations/001_title.sql"], 4)?;
    story.say("The rows are back. What the migration had done is kept as the snapshot `failed`:")?;
    story.step(&["diff", "pre", "failed", "--data"], 0)?;
    story.say("A migration that does no harm goes through, and can be taken back and done again:")?;
    story.step(&["migrate", "--", "dbelay", "demo-apply", "migrations/002_read.sql"], 0)?;
    story.step(&["diff", "pre", "post", "--stat"], 0)?;
    story.step(&["undo"], 0)?;
    story.step(&["redo"], 0)?;
    story.step(&["op", "log"], 0)?;
    let count: i64 = Connection::open(dir.join("app.db"))?.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?;
    story.say(&format!("All {count} messages are there. The folder is yours to play with: cd {}", dir.display()))?;
    story.out.finish()?;
    if cx.output.is_json() {
        cx.output.json(&json!({ "directory": dir, "messages": count }))?;
    }
    Ok(Exit::DONE)
}

struct Story<'a> {
    cx: &'a Context,
    dir: &'a Path,
    out: Out,
}

impl Story<'_> {
    fn say(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.out, "\n{text}\n")?;
        Ok(())
    }

    fn quote(&mut self, text: &str) -> Result<(), CliError> {
        for line in text.lines() {
            writeln!(self.out, "    {DIM}{line}{DIM:#}")?;
        }
        Ok(())
    }

    /// Shows a command and runs it; its output follows in the order in which it was printed, as far as two streams have one.
    fn step(&mut self, words: &[&str], expected: i32) -> Result<(), CliError> {
        writeln!(self.out, "{HEADING}$ dbelay {}{HEADING:#}", words.join(" "))?;
        let program = &self.cx.environment.program;
        let mut command = Command::new(program);
        // On the command line of a user `dbelay` is in PATH; here it is wherever this program is.
        let words = words
            .iter()
            .enumerate()
            .map(|(at, word)| if *word == "dbelay" && at > 0 { program.clone().into_os_string() } else { (*word).into() });
        if self.cx.output.colors() {
            command.args(["--color", "always"]);
        }
        command.args(words).current_dir(self.dir).stdin(std::process::Stdio::null());
        for variable in ["DATABASE_URL", "DBELAY_DATABASE_URL", "DBELAY_STORE"] {
            command.env_remove(variable);
        }
        let output = command.output()?;
        self.out.write_all(&output.stderr)?;
        self.out.write_all(&output.stdout)?;
        if expected != 0 {
            writeln!(self.out, "{DIM}(exit code {}){DIM:#}", output.status.code().unwrap_or(-1))?;
        }
        writeln!(self.out)?;
        self.out.flush()?;
        if output.status.code() != Some(expected) {
            return Err(CliError::new(ErrorKind::Failed, format!("the demo did not go as it should: {}", output.status)));
        }
        Ok(())
    }
}
