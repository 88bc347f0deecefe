//! Real migration tools, installed from their registries, each with its own small project in `fixtures/tools/`.
//!
//! They run where `DBELAY_TEST_TOOLS` is set, as CI sets it: to `all`, or to the names of some. Without it they are skipped, and say so.

#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::oracle;
use super::sandbox::{Run, Sandbox, copy_folder, finish, has_layers};

const TOOLS: [&str; 8] = ["alembic", "dbmate", "django", "drizzle", "knex", "prisma", "sequelize", "sqlx"];

/// A tool, installed, and its project with the base migrations applied and rows in the tables.
struct Tool {
    fixture: PathBuf,
    installed: PathBuf,
    project: Value,
    base: Sandbox,
}

impl Tool {
    /// Installs a tool and prepares its project; none where it is not asked for.
    fn set_up(name: &str) -> Option<Self> {
        let wanted = std::env::var("DBELAY_TEST_TOOLS").unwrap_or_default();
        let is_known = |word: &&str| *word == "all" || TOOLS.contains(word);
        let unknown: Vec<&str> = wanted.split([',', ' ']).filter(|word| !word.is_empty() && !is_known(word)).collect();
        assert!(unknown.is_empty(), "DBELAY_TEST_TOOLS names {unknown:?}; known are all, {}", TOOLS.join(", "));
        if wanted != "all" && !wanted.split([',', ' ']).any(|word| word == name) {
            println!("skipped: {name} is not in DBELAY_TEST_TOOLS");
            return None;
        }
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tools").join(name);
        let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools").join(name);
        std::fs::create_dir_all(installed.parent().unwrap()).unwrap();
        let install = Command::new("sh").arg(fixture.join("install.sh")).arg(&installed).stdin(Stdio::null()).output().unwrap();
        assert!(install.status.success(), "{name} cannot be installed:\n{}", String::from_utf8_lossy(&install.stderr));
        let project = serde_json::from_str(&std::fs::read_to_string(fixture.join("project.json")).unwrap()).unwrap();
        let tool = Self { fixture, installed, project, base: Sandbox::new() };
        let folder = tool.base.path("");
        copy_folder(&tool.fixture.join("project"), &folder);
        tool.link(&folder);
        for argv in ["create", "migrate"] {
            if !tool.project[argv].is_null() {
                let words = tool.words(argv);
                finish(tool.command(&folder, &words[0]).args(&words[1..])).exits(0);
            }
        }
        let seed = std::fs::read_to_string(tool.fixture.join(tool.text("seed"))).unwrap();
        rusqlite::Connection::open(folder.join(tool.text("database"))).unwrap().execute_batch(&seed).unwrap();
        Some(tool)
    }

    fn text(&self, key: &str) -> &str {
        self.project[key].as_str().unwrap()
    }

    /// Returns a field that is a command line.
    fn words(&self, key: &str) -> Vec<String> {
        self.project[key].as_array().unwrap().iter().map(|word| self.filled(word.as_str().unwrap())).collect()
    }

    fn filled(&self, text: &str) -> String {
        let path = std::env::var("PATH").unwrap();
        let bin = self.installed.join("bin");
        text.replace("{bin}", bin.to_str().unwrap()).replace("{path}", &path).replace("{db}", self.text("database"))
    }

    /// What the project has links to, such as `node_modules`.
    fn link(&self, folder: &Path) {
        for name in self.project["link"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            std::os::unix::fs::symlink(self.installed.join(name), folder.join(name)).unwrap();
        }
    }

    /// A command in a project, with the environment in which the tool runs.
    fn command(&self, folder: &Path, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear().stdin(Stdio::null());
        command.env("HOME", folder).env("TZ", "UTC").env("LANG", "C.UTF-8").env("USER", "tester");
        for (name, value) in self.project["env"].as_object().unwrap() {
            command.env(name, self.filled(value.as_str().unwrap()));
        }
        if let Some(name) = self.project["url_env"].as_str() {
            command.env(name, self.filled(self.text("url_form")));
        }
        command
    }

    /// A copy of the prepared project, with the files of a step in it.
    fn at_step(&self, step: &str) -> Project<'_> {
        let sandbox = Sandbox::new();
        let folder = sandbox.path("");
        for entry in std::fs::read_dir(self.base.path("")).unwrap().map(|entry| entry.unwrap()) {
            let to = folder.join(entry.file_name());
            match entry.file_type().unwrap() {
                kind if kind.is_symlink() => std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), to).unwrap(),
                kind if kind.is_dir() => {
                    std::fs::create_dir(&to).unwrap();
                    copy_folder(&entry.path(), &to);
                }
                _ => drop(std::fs::copy(entry.path(), to).unwrap()),
            }
        }
        copy_folder(&self.fixture.join("steps").join(step), &folder);
        let kept = sandbox.path("kept.db");
        std::fs::copy(folder.join(self.text("database")), &kept).unwrap();
        Project { tool: self, sandbox, kept }
    }
}

/// A project at a step.
struct Project<'a> {
    tool: &'a Tool,
    sandbox: Sandbox,
    kept: PathBuf,
}

impl Project<'_> {
    #[track_caller]
    fn dbelay(&self, arguments: &[&str]) -> Run {
        let folder = self.sandbox.path("");
        finish(self.tool.command(&folder, env!("CARGO_BIN_EXE_dbelay")).args(["--db", self.tool.text("database")]).args(arguments))
    }

    /// Runs the tool under `dbelay migrate`.
    #[track_caller]
    fn migrate(&self, options: &[&str]) -> Run {
        let words = self.tool.words("migrate");
        let mut arguments = vec!["migrate", "--json"];
        arguments.extend(options);
        arguments.push("--");
        arguments.extend(words.iter().map(String::as_str));
        self.dbelay(&arguments)
    }

    fn database(&self) -> PathBuf {
        self.sandbox.path(self.tool.text("database"))
    }

    #[track_caller]
    fn is_as_before(&self) {
        oracle::assert_same(&self.kept, &self.database());
    }

    /// Takes the step's files, as who mends a migration does.
    fn mend(&self, step: &str) {
        copy_folder(&self.tool.fixture.join("steps").join(step), &self.sandbox.path(""));
    }
}

/// Takes a tool through all of it.
fn take_through(name: &str) {
    let Some(tool) = Tool::set_up(name) else { return };

    let good = tool.at_step("good");
    let run = good.migrate(&[]).exits(0);
    let document = run.json();
    let is_ledger = |table: &Value| table["ledger"] == true && table["added"].as_u64() > Some(0) || table["table"] == "alembic_version";
    assert!(document["tables"].as_array().unwrap().iter().any(is_ledger), "no ledger in {document}");
    assert_eq!(document["losses"], serde_json::json!([]));
    assert!(!run.stderr.contains("left processes behind"), "{}", run.stderr);
    good.dbelay(&["rollback", "--yes"]).exits(0);
    good.is_as_before();

    // A tool that reads the path from its own configuration is led nowhere else but there.
    let can_rehearse = tool.project["url_env"].is_string() || has_layers();
    let rehearsed = tool.at_step("good");
    if can_rehearse {
        let bytes = std::fs::read(rehearsed.database()).unwrap();
        let document = rehearsed.migrate(&["--rehearse-only"]).exits(0).json();
        assert_eq!(document["rehearsal"]["scratch_touched"], true, "{document}");
        assert!(std::fs::read(rehearsed.database()).unwrap() == bytes, "the rehearsal of {name} changed the database");
    }

    let loses = tool.at_step("loses");
    let bytes = std::fs::read(loses.database()).unwrap();
    let rehearsal = can_rehearse.then(|| loses.migrate(&["--rehearse-only"]).exits(4).json());
    assert!(std::fs::read(loses.database()).unwrap() == bytes, "the rehearsal of {name} changed the database");
    let document = loses.migrate(&[]).exits(4).says(&["lost data", "was rolled back"]).json();
    for losses in std::iter::once(&document["losses"]).chain(rehearsal.as_ref().map(|rehearsal| &rehearsal["rehearsal"]["losses"])) {
        let is_found = |loss: &&Value| loss["table"] == tool.project["loses"]["table"] && loss["count"] == tool.project["loses"]["rows"];
        assert!(losses.as_array().unwrap().iter().any(|loss| is_found(&loss)), "{losses}");
    }
    loses.is_as_before();

    let halfway = tool.at_step("halfway");
    let failed = halfway.migrate(&[]).exits(4).says(&["the migration command failed", "was rolled back"]).json();
    assert!(!failed["tables"].as_array().unwrap().is_empty() || !failed["schema"]["changes"].as_array().unwrap().is_empty());
    halfway.is_as_before();
    halfway.mend("fixed");
    halfway.migrate(&[]).exits(0);
}

#[test]
fn alembic() {
    take_through("alembic");
}

#[test]
fn dbmate() {
    take_through("dbmate");
}

#[test]
fn django() {
    take_through("django");
    let Some(tool) = Tool::set_up("django") else { return };
    let renamed = tool.at_step("loses-rename");
    renamed.migrate(&[]).exits(4).says(&["was dropped with"]);
    renamed.is_as_before();
}

#[test]
fn drizzle() {
    take_through("drizzle");
}

#[test]
fn knex() {
    take_through("knex");
}

#[test]
fn prisma() {
    take_through("prisma");
}

#[test]
fn sequelize() {
    take_through("sequelize");
}

#[test]
fn sqlx() {
    take_through("sqlx");
}
