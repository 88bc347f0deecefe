//! One database, a file of it to work on, and a store: what is measured with them, each as often as it is called.
//!
//! The names of the measurements are those of the tables. Before a snapshot that others build on, the file rests for longer than the time in
//! which a change to it cannot be told from none ([`Stage::rest`]), as a database does between two migrations.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::database::{Database, UPDATES, Wide};
use super::environment::folder_bytes;
use super::process::{Cost, cost, succeed};
use super::results::Results;

/// How often in a round what is quick, and changes nothing, is measured.
const TIMES: usize = 3;

/// The copy that everything is compared with.
pub const COPY: &str = "cp";
/// A snapshot into an empty store.
pub const FIRST: &str = "first snapshot";
/// A snapshot where nothing changed since the last.
pub const UNCHANGED: &str = "snapshot, nothing changed";
/// A snapshot after scattered updates.
pub const UPDATED: &str = "snapshot, 1,000 scattered updates";
/// A snapshot after ALTER TABLE ADD COLUMN.
pub const ADDED: &str = "snapshot, ADD COLUMN with a constant default";
/// What changed in how many rows.
pub const DIFF_STAT: &str = "diff --stat of the 1,000 rows";
/// The rows themselves.
pub const DIFF: &str = "diff of the 1,000 rows";
/// Back to the state before.
pub const ROLLBACK: &str = "rollback of the 1,000 rows, with its proof";
/// What has changed since the last snapshot.
pub const STATUS: &str = "status, 1,000 rows changed";
/// A migration command in dbelay's care.
pub const MIGRATE: &str = "migrate, one row";
/// The same command on its own.
pub const ALONE: &str = "that command alone";
/// What the care costs.
pub const OVERHEAD: &str = "migrate, without the command";

/// A database in the work.
pub struct Stage {
    /// What is generated.
    pub database: Database,
    /// Where the file and the store are.
    work: tempfile::TempDir,
    /// What was measured.
    pub results: Results,
}

impl Stage {
    /// Begins with nothing.
    pub fn new(database: Database, work: tempfile::TempDir) -> Self {
        assert_eq!(UPDATES, 1_000, "the names say so");
        Self { database, work, results: Results::default() }
    }

    /// Returns the path of a file in the folder of the work.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Returns the file that is worked on.
    pub fn file(&self) -> PathBuf {
        self.path("app.db")
    }

    /// Measures a command.
    pub fn measure(&mut self, name: &str, command: &Command) -> Cost {
        self.results.measure(name, command)
    }

    /// Measures a command that writes a file or folder, which is not there before, and is removed afterwards.
    pub fn measure_writing(&mut self, name: &str, output: &Path, command: &Command) {
        self.measure(name, command);
        self.results.add_stored(name, folder_bytes(output));
        std::fs::remove_file(output).unwrap();
    }

    /// Returns a command of dbelay on the file and the store.
    pub fn dbelay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbelay"));
        command.current_dir(self.work.path()).args(["-q", "--db", "app.db", "--store", "store"]).args(arguments);
        command
    }

    /// Measures a command of dbelay, and by how much the store grows with it.
    fn measure_growth(&mut self, name: &str, arguments: &[&str]) {
        let before = folder_bytes(&self.path("store"));
        self.measure(name, &self.dbelay(arguments));
        self.results.add_stored(name, folder_bytes(&self.path("store")).saturating_sub(before));
    }

    /// Takes a snapshot that is not measured.
    fn settle(&self) {
        succeed(&mut self.dbelay(&["snapshot"]));
    }

    /// Lets the file rest.
    fn rest(&self) {
        std::thread::sleep(Duration::from_millis(2_300));
    }

    /// Reads the file and the store, since a peer may have had them thrown out of the page cache (restic and borg do).
    fn warm(&self) {
        let files = walkdir::WalkDir::new(self.path("store")).into_iter().filter_map(Result::ok).map(walkdir::DirEntry::into_path);
        for path in files.chain([self.file()]).filter(|path| path.is_file()) {
            std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut std::io::sink()).unwrap();
        }
    }

    /// Waits until the file is on its disk, so that nothing measured later is slowed down by that.
    fn flush(&self) {
        std::fs::File::open(self.file()).unwrap().sync_all().unwrap();
    }

    /// Copies the database, into a new file.
    pub fn copy(&mut self) {
        drop(std::fs::remove_file(self.file()));
        self.measure(COPY, &copying(&self.database.path, &self.file()));
        self.flush();
    }

    /// Takes the first snapshot.
    pub fn first(&mut self) {
        self.rest();
        drop(std::fs::remove_dir_all(self.path("store")));
        self.measure_growth(FIRST, &["snapshot"]);
    }

    /// Takes snapshots of what did not change.
    pub fn unchanged(&mut self) {
        (0..TIMES).for_each(|_| self.measure_growth(UNCHANGED, &["snapshot"]));
        succeed(&mut self.dbelay(&["tag", "base"]));
    }

    /// Changes scattered cells and takes a snapshot.
    pub fn updated(&mut self) {
        self.database.update(&self.file(), 1);
        self.rest();
        self.warm();
        self.measure_growth(UPDATED, &["snapshot"]);
    }

    /// Compares the last two snapshots.
    pub fn diffs(&mut self) {
        self.warm();
        for _ in 0..TIMES {
            self.measure(DIFF_STAT, &self.dbelay(&["diff", "HEAD~1", "HEAD", "--stat"]));
            self.measure(DIFF, &self.dbelay(&["diff", "HEAD~1", "HEAD"]));
        }
    }

    /// Goes back to the first snapshot.
    pub fn rolled_back(&mut self) {
        self.warm();
        self.measure(ROLLBACK, &self.dbelay(&["rollback", "base", "--yes"]));
    }

    /// Asks for the status where other cells are changed.
    pub fn status(&mut self) {
        self.database.update(&self.file(), 2);
        self.rest();
        self.warm();
        self.measure(STATUS, &self.dbelay(&["status"]));
    }

    /// Puts a database into the place of the file, as a copy within it.
    pub fn put(&mut self, name: Option<&str>, from: &Path) {
        let copy = copying(from, &self.file());
        let cost = cost(&copy);
        if let Some(name) = name {
            self.results.add(name, cost);
        }
        self.flush();
    }

    /// Runs a migration of one row, in dbelay's care and on its own.
    pub fn migrated(&mut self) {
        self.rest();
        self.settle();
        self.warm();
        std::fs::write(self.path("one.sql"), self.database.one_row()).unwrap();
        let program = env!("CARGO_BIN_EXE_dbelay");
        let apply = ["-q", "--db", "app.db", "demo-apply", "one.sql"];
        let around = ["migrate", "--", program].iter().chain(&apply).copied().collect::<Vec<_>>();
        let around = self.measure(MIGRATE, &self.dbelay(&around));
        let mut command = Command::new(program);
        let alone = self.measure(ALONE, command.current_dir(self.work.path()).args(apply));
        self.results.add(OVERHEAD, Cost { seconds: around.seconds - alone.seconds, ..around });
    }

    /// Runs a migration that does nothing, and rehearses one, for which the whole database is written anew.
    pub fn rehearsed(&mut self) {
        self.measure("migrate around nothing", &self.dbelay(&["migrate", "--", "true"]));
        self.measure("migrate --rehearse-only around nothing", &self.dbelay(&["migrate", "--rehearse-only", "--", "true"]));
    }

    /// Takes a snapshot of the database with a new column.
    pub fn column_added(&mut self) {
        self.base();
        self.database.add_column(&self.file());
        self.measure_growth(ADDED, &["snapshot"]);
    }

    /// Takes a snapshot of the database with a wide change.
    pub fn widely_changed(&mut self, wide: Wide) {
        let changed = self.database.wide(wide);
        self.base();
        self.put(None, &changed);
        let name = match wide {
            Wide::Column => "snapshot, one column of all rows updated",
            Wide::Dropped => "snapshot, DROP COLUMN",
            Wide::Churn => "snapshot, 1 % deleted and 1 % inserted",
        };
        self.measure_growth(name, &["snapshot"]);
    }

    /// Makes the file what was generated, and dbelay aware of it.
    fn base(&mut self) {
        self.put(None, &self.database.path.clone());
        self.settle();
    }
}

/// Returns the command that copies a file, which must not be one that only shares the blocks of the other.
fn copying(from: &Path, to: &Path) -> Command {
    let mut command = Command::new("cp");
    if cfg!(target_os = "linux") {
        command.arg("--reflink=never");
    }
    command.arg(from).arg(to);
    command
}
