//! What others take for the same on a SQLite database, where they are installed. One that is not is named, and has no figures.

use std::path::Path;
use std::process::Command;

use super::environment::folder_bytes;
use super::process::{succeed, version};
use super::stage::{FIRST, Stage, UNCHANGED, UPDATED};

/// SQLite's own copy, page by page.
pub const BACKUP: &str = "sqlite3 .backup";
/// SQLite's comparison of two databases.
pub const SQLDIFF: &str = "sqldiff of the 1,000 rows";

/// Which peers there are.
#[derive(Debug)]
pub struct Peers {
    sqlite3: bool,
    zstd: bool,
    sqldiff: bool,
    keepers: Vec<Keeper>,
    /// What each says of its version.
    pub versions: Vec<String>,
    /// Those that are not installed.
    pub missing: Vec<&'static str>,
}

/// A backup program that keeps each version in a repository.
#[derive(Debug, Clone, Copy)]
enum Keeper {
    Restic,
    Borg,
}

impl Peers {
    /// Looks which are installed.
    pub fn find() -> Self {
        let (mut versions, mut missing) = (Vec::new(), Vec::new());
        let mut is_there = |program: &'static str, argument: &str| match version(program, argument) {
            Some(said) => {
                let is_number = |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
                let number = said.split([' ', ',']).find(is_number).unwrap_or("of some version");
                versions.push(format!("{program} {number}"));
                true
            }
            None => {
                missing.push(program);
                false
            }
        };
        let (sqlite3, zstd) = (is_there("sqlite3", "--version"), is_there("zstd", "--version"));
        let sqldiff = version("sqldiff", "--help").is_some();
        let keepers = [(Keeper::Restic, "restic", "version"), (Keeper::Borg, "borg", "--version")];
        let keepers =
            keepers.into_iter().filter(|&(_, program, argument)| is_there(program, argument)).map(|(keeper, ..)| keeper).collect();
        if !sqldiff {
            missing.push("sqldiff");
        }
        Self { sqlite3, zstd, sqldiff, keepers, versions, missing }
    }

    /// Copies the database as SQLite does.
    pub fn copies(&self, stage: &mut Stage) {
        if !self.sqlite3 {
            return;
        }
        let output = stage.path("copy.db");
        stage.measure_writing(BACKUP, &output, &shell(&stage.database.path, &format!(".backup '{}'", output.display())));
        stage.measure_writing("sqlite3 VACUUM INTO", &output, &shell(&stage.database.path, &format!("VACUUM INTO '{}'", output.display())));
    }

    /// Writes the database as SQL, compressed.
    pub fn dumps(&self, stage: &mut Stage) {
        if !self.sqlite3 || !self.zstd {
            return;
        }
        let output = stage.path("dump.zst");
        let mut command = Command::new("sh");
        command.args(["-c", "sqlite3 \"$1\" .dump | zstd -q -1 -o \"$2\"", "sh"]).arg(&stage.database.path).arg(&output);
        stage.measure_writing("sqlite3 .dump | zstd -1", &output, &command);
    }

    /// Restores the database into the file, as SQLite does.
    pub fn restores(&self, stage: &mut Stage) {
        if self.sqlite3 {
            stage.measure("sqlite3 .restore", &shell(&stage.file(), &format!(".restore '{}'", stage.database.path.display())));
        }
    }

    /// Compares the database with the changed file.
    pub fn compares(&self, stage: &mut Stage) {
        if self.sqldiff {
            let mut command = Command::new("sqldiff");
            command.arg(&stage.database.path).arg(stage.file());
            stage.measure(SQLDIFF, &command);
        }
    }

    /// Keeps the file, which is as it was generated, in a new repository of each, twice.
    pub fn keep(&self, stage: &mut Stage) {
        for keeper in &self.keepers {
            succeed(&mut keeper.creates(stage));
            keeper.backup(stage, FIRST);
            keeper.backup(stage, UNCHANGED);
        }
    }

    /// Keeps the changed file too, and removes the repositories.
    pub fn keep_changed(&self, stage: &mut Stage) {
        for keeper in &self.keepers {
            keeper.backup(stage, UPDATED);
            std::fs::remove_dir_all(keeper.repository(stage)).unwrap();
        }
    }
}

impl Keeper {
    fn program(self) -> &'static str {
        match self {
            Self::Restic => "restic",
            Self::Borg => "borg",
        }
    }

    fn repository(self, stage: &Stage) -> std::path::PathBuf {
        stage.path(self.program())
    }

    fn command(self, stage: &Stage) -> Command {
        let mut command = Command::new(self.program());
        // What they keep outside of the repository stays in the folder too.
        command.env("RESTIC_PASSWORD", "bench").env("RESTIC_CACHE_DIR", stage.path("restic-cache"));
        command.env("BORG_BASE_DIR", stage.path("borg-base")).env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
        command
    }

    fn creates(self, stage: &Stage) -> Command {
        let (mut command, repository) = (self.command(stage), self.repository(stage));
        match self {
            Self::Restic => command.args(["init", "--quiet", "--repo"]),
            Self::Borg => command.args(["init", "--encryption", "none"]),
        };
        command.arg(repository);
        command
    }

    fn backup(self, stage: &mut Stage, what: &str) {
        let (mut command, repository) = (self.command(stage), self.repository(stage));
        let before = folder_bytes(&repository);
        match self {
            Self::Restic => command.args(["backup", "--quiet", "--repo"]).arg(&repository),
            Self::Borg => command.arg("create").arg(format!("{}::{{now:%s.%f}}", repository.display())),
        };
        let name = format!("{} {}", self.program(), what.replace("snapshot", "backup"));
        stage.measure(&name, command.arg(stage.file()));
        stage.results.add_stored(&name, folder_bytes(&repository).saturating_sub(before));
    }
}

fn shell(database: &Path, statement: &str) -> Command {
    let mut command = Command::new("sqlite3");
    command.arg(database).arg(statement);
    command
}
