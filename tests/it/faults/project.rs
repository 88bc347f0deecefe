//! A project in which one operation of the table is tried again and again from the same beginning, and what is asked of it each time.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::operations::{BASE, Operation, Step};
use crate::kills::is_somebody_in;
use crate::oracle;
use crate::sandbox::{Run, Sandbox, copy_folder, finish};

/// The dump of a database that is not there, and of one that holds nothing.
const GONE: &str = "there is no file";

pub struct Project {
    pub operation: &'static Operation,
    pub mode: &'static str,
    pub sandbox: Sandbox,
    kept: tempfile::TempDir,
    /// The database before the operation, and after it.
    before: String,
    after: String,
    /// The database as the migration's command leaves it.
    between: Option<String>,
    /// The databases to which it may return where it fails.
    returns_to: Vec<String>,
    /// The snapshots that must stay, with the database that each holds.
    snapshots: BTreeMap<String, String>,
    turn: Cell<usize>,
}

impl Project {
    pub fn new(operation: &'static Operation, mode: &'static str) -> Self {
        let sandbox = Sandbox::with(&format!("PRAGMA journal_mode={mode}; {BASE}"));
        let kept = tempfile::tempdir().unwrap();
        let mut project = Self {
            operation,
            mode,
            sandbox,
            kept,
            before: String::new(),
            after: String::new(),
            between: None,
            returns_to: Vec::new(),
            snapshots: BTreeMap::new(),
            turn: Cell::new(0),
        };
        for step in operation.setup {
            match step {
                Step::Sql(sql) => project.sandbox.sql(sql),
                Step::File(name, text) => std::fs::write(project.sandbox.path(name), text).unwrap(),
                Step::Delete(name) => std::fs::remove_file(project.sandbox.path(name)).unwrap(),
                Step::Run(words, code) => {
                    project.dbelay(words).exits(*code);
                    project.wait();
                }
            }
        }
        project.before = dump(&project.sandbox.db());
        if let Some(sql) = operation.command {
            let copy = Sandbox::new();
            crate::sandbox::copy_database(&project.sandbox.db(), &copy.db());
            copy.sql(sql);
            project.between = Some(oracle::dump(&copy.db()));
        }
        for id in project.ids() {
            let holds = project.restored(&id);
            project.snapshots.insert(id, holds);
        }
        project.returns_to = operation.returns_to.iter().map(|tag| project.snapshots[&project.tag(tag)].clone()).collect();
        for tag in operation.forgets {
            let id = project.tag(tag);
            project.snapshots.remove(&id);
        }
        copy_folder(&project.sandbox.path(""), project.kept.path());
        finish(&mut project.command()).exits(operation.code);
        project.after = dump(&project.sandbox.db());
        assert!((operation.proof)(&project.sandbox), "{}: its proof fails where nothing else did", operation.name);
        project
    }

    /// Empties the project's folder.
    pub fn clear(&self) {
        for entry in std::fs::read_dir(self.sandbox.path("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }

    /// Puts everything back to before the operation.
    pub fn reset(&self) {
        self.clear();
        copy_folder(self.kept.path(), &self.sandbox.path(""));
    }

    /// Returns the operation's command line, ready to run.
    pub fn command(&self) -> Command {
        self.words(self.operation.line)
    }

    fn words(&self, words: &[&str]) -> Command {
        let mut command = self.sandbox.command();
        command.args(["--db", "app.db"]).envs(self.operation.env.iter().copied());
        command.args(words.iter().map(|word| word.replace("{dbelay}", env!("CARGO_BIN_EXE_dbelay"))));
        command
    }

    fn dbelay(&self, words: &[&str]) -> Run {
        finish(&mut self.words(words))
    }

    /// Waits for the command of a migration, which outlives its wrapper.
    pub fn wait(&self) {
        while is_somebody_in(&self.sandbox.path("")) {
            std::thread::yield_now();
        }
    }

    fn has_store(&self) -> bool {
        self.sandbox.path(".dbelay/config.json").exists()
    }

    fn ids(&self) -> Vec<String> {
        if !self.has_store() {
            return Vec::new();
        }
        let log = self.dbelay(&["log", "--json"]).exits(0).json();
        log["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the snapshot that a tag of the setup names.
    fn tag(&self, name: &str) -> String {
        let tags = self.dbelay(&["tag", "--json"]).exits(0).json();
        tags["tags"][name].as_str().expect("a tag of the setup").to_owned()
    }

    /// Tells whether the database is as before the operation, or where it returns to.
    fn is_back(&self, now: &str) -> bool {
        let is_nothing = self.before == GONE && is_empty(&self.sandbox.db());
        self.before == now || self.returns_to.iter().any(|dump| dump == now) || is_nothing
    }

    /// Tells whether a snapshot must be there whatever happens.
    pub fn must_stay(&self, id: &str) -> bool {
        self.snapshots.contains_key(id)
    }

    /// Returns the snapshots that hold the database as it was before the operation.
    pub fn holders(&self) -> Vec<String> {
        self.ids().into_iter().filter(|id| self.restored(id) == self.before).collect()
    }

    /// Tells whether that is the database as it was before the operation.
    pub fn is_before(&self, now: &str) -> bool {
        self.before == now
    }

    /// Restores a snapshot into a database of its own, and returns what that holds.
    fn restored(&self, id: &str) -> String {
        let to = tempfile::tempdir().unwrap();
        let file = to.path().join("restored.db");
        let run = self.dbelay(&["restore", id, "--to", file.to_str().unwrap()]);
        assert_eq!(run.code, 0, "snapshot {id} does not restore: {}", run.stderr);
        oracle::dump(&file)
    }

    /// Asserts what must hold whatever happened: the store is sound, nothing in it is lost, the database is something that it may be.
    pub fn is_sound(&self, place: &str) {
        if self.has_store() {
            let run = self.dbelay(&["fsck", "--read-data"]);
            assert_eq!(run.code, 0, "{place}: the store is damaged\n{}{}", run.stdout, run.stderr);
            // Each of them by its turn, and not by looking at its id: it has to come out as it went in.
            let ids = self.ids();
            for id in self.snapshots.keys() {
                assert!(ids.contains(id), "{place}: snapshot {id} is lost");
            }
            if let Some((id, expected)) = self.snapshots.iter().nth(self.turn.get() % self.snapshots.len().max(1)) {
                assert!(self.restored(id) == *expected, "{place}: snapshot {id} holds something else");
                self.turn.set(self.turn.get() + 1);
            }
        } else {
            assert!(self.snapshots.is_empty(), "{place}: the store is gone");
        }
        self.is_known_database(place);
    }

    /// Asserts that the database is something that it may be, and returns what it is.
    pub fn is_known_database(&self, place: &str) -> String {
        let now = dump(&self.sandbox.db());
        let is_known = self.is_back(&now) || now == self.after || self.between.as_ref() == Some(&now);
        assert!(is_known, "{place}: the database is neither before nor after, but\n{}", now.chars().take(300).collect::<String>());
        assert!((self.operation.is_whole)(&self.sandbox), "{place}: something is there by half");
        now
    }

    /// Asserts that all is as after the operation.
    pub fn is_done(&self, place: &str) {
        assert!(dump(&self.sandbox.db()) == self.after, "{place}: it was reported, and the database is not as after it");
        assert!((self.operation.proof)(&self.sandbox), "{place}: it was reported, and it is not done");
    }

    /// Asserts that a run did what it says: everything is as after success, or the database is what the exit code says.
    pub fn is_true(&self, run: &Run, place: &str) {
        assert!(!run.stderr.contains("panicked"), "{place}: {}", run.stderr);
        let now = dump(&self.sandbox.db());
        // Of a migration that was not rolled back nothing is said but that.
        if run.code == self.operation.code && run.code != 5 {
            assert!(now == self.after, "{place}: exit {}, and the database is not as after it\n{}", run.code, run.stderr);
            assert!((self.operation.proof)(&self.sandbox), "{place}: exit {}, and it is not done\n{}", run.code, run.stderr);
            return;
        }
        assert!(self.operation.failures.contains(&run.code), "{place}: exit {}\n{}", run.code, run.stderr);
        if run.code == 5 && now == self.after {
            return;
        }
        let named =
            ["nput/output error", "disk I/O error", "o space left", "disk is full", "the disk failed", "unable to open database file"];
        let is_named = named.iter().any(|name| run.stderr.contains(name) || run.stdout.contains(name));
        assert!(is_named, "{place}: exit {}, and no word of why\n{}\n{}", run.code, run.stdout, run.stderr);
        let is_known = !["broke off at its end", "is interrupted", "not known"].iter().any(|words| run.stderr.contains(words));
        if is_known && (run.code == 4 || run.stderr.contains("the database is unchanged")) {
            assert!(self.is_back(&now), "{place}: exit {}, and the database is not as it was\n{}", run.code, run.stderr);
        }
    }

    /// Asserts that work goes on: the same line works, by the way that it names where it says that something is open; so does the next.
    pub fn goes_on(&self, place: &str) {
        let found = dump(&self.sandbox.db());
        let was_left = self.between.as_ref() == Some(&found) && found != self.before && found != self.after;
        let mut run = if was_left { self.dbelay(&["migrate", "--", "true"]) } else { finish(&mut self.command()) };
        if run.code == 3 && run.stderr.contains("and the database is not as it was before") {
            let way = run.stderr.split('`').find_map(|words| words.strip_prefix("dbelay rollback ").map(str::to_owned));
            let way = way.unwrap_or_else(|| panic!("{place}: no way out is named\n{}", run.stderr));
            let target = way.split_whitespace().next().unwrap();
            let back = self.dbelay(&["rollback", target]);
            assert_eq!(back.code, 0, "{place}: `dbelay rollback {way}` does not work\n{}", back.stderr);
            run = finish(&mut self.command());
        } else if was_left {
            // The command failed, its work was not rolled back, and it said so.
            assert_eq!(run.code, 0, "{place}: {}", run.stderr);
            self.dbelay(&["rollback", "good"]).exits(0);
            run = finish(&mut self.command());
        }
        assert!(self.operation.again.contains(&run.code), "{place}: run again: exit {}\n{}", run.code, run.stderr);
        let now = dump(&self.sandbox.db());
        let is_back = run.code != self.operation.code && now == found && self.is_back(&now);
        assert!(now == self.after || is_back, "{place}: run again, the database is not as after it (exit {})\n{}", run.code, run.stderr);
        if run.code == self.operation.code {
            assert!((self.operation.proof)(&self.sandbox), "{place}: run again, it is not done\n{}", run.stderr);
        }
        let run = self.dbelay(&["snapshot"]);
        assert_eq!(run.code, 0, "{place}: the next snapshot\n{}", run.stderr);
        let run = self.dbelay(&["status"]);
        assert!(run.code == 0 && run.stdout.contains("the database is equal to it"), "{place}: {}{}", run.stdout, run.stderr);
        let run = self.dbelay(&["fsck", "--read-data"]);
        assert_eq!(run.code, 0, "{place}: the store is damaged in the end\n{}{}", run.stdout, run.stderr);
    }
}

fn dump(database: &Path) -> String {
    if database.exists() { oracle::dump(database) } else { GONE.to_owned() }
}

/// Tells whether a database is not there, or holds nothing.
fn is_empty(database: &Path) -> bool {
    !database.exists() || {
        let connection = rusqlite::Connection::open(database).unwrap();
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)) == Ok(0)
    }
}
