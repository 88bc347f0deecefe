//! A project folder of its own for one test: a clean environment, the built binary, a database.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use serde_json::Value;

/// A temporary project.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr holds each of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in stderr:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        }
        self
    }

    /// Asserts that stdout holds each of these.
    #[track_caller]
    pub fn prints(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "no `{part}` in stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        }
        self
    }

    /// Reads stdout as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

impl Sandbox {
    /// Makes an empty project folder.
    pub fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("dbelay-test-").tempdir().unwrap() }
    }

    /// Makes a project whose database `app.db` was made by these statements.
    pub fn with(sql: &str) -> Self {
        let sandbox = Self::new();
        sandbox.sql(sql);
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn db(&self) -> PathBuf {
        self.path("app.db")
    }

    /// Runs statements on the database, with foreign keys off, as most drivers have it.
    #[track_caller]
    pub fn sql(&self, sql: &str) {
        self.connect().execute_batch(sql).unwrap();
    }

    pub fn connect(&self) -> Connection {
        let connection = Connection::open(self.db()).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection
    }

    /// Connects as an application does that brings its own collation `unicase` and its own function `shout`.
    pub fn application(&self) -> Connection {
        let connection = self.connect();
        bring_own(&connection);
        connection
    }

    /// Runs statements as that application.
    #[track_caller]
    pub fn application_sql(&self, sql: &str) {
        self.application().execute_batch(sql).unwrap();
    }

    /// Counts rows, or whatever the query's first number is.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        self.connect().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbelay"));
        command.current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.dir.path()).env("TZ", "UTC").env("LANG", "C.UTF-8").env("USER", "tester");
        command
    }

    /// Runs the binary in the project folder.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Run {
        finish(self.command().args(arguments))
    }

    /// Runs the binary on `app.db`.
    #[track_caller]
    pub fn dbelay(&self, arguments: &[&str]) -> Run {
        finish(self.command().args(["--db", "app.db"]).args(arguments))
    }

    /// Runs a migration that is this SQL, with foreign keys on, as migration tools have it, and fails where the SQL fails.
    #[track_caller]
    pub fn migrate(&self, options: &[&str], sql: &str) -> Run {
        std::fs::write(self.path("up.sql"), sql).unwrap();
        let mut arguments = vec!["migrate"];
        arguments.extend(options);
        arguments.extend(["--", env!("CARGO_BIN_EXE_dbelay"), "--db", "app.db", "demo-apply", "up.sql"]);
        self.dbelay(&arguments)
    }

    /// Copies the database, with its journal files, under another name; returns the copy's path.
    pub fn copy_db(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        copy_database(&self.db(), &to);
        to
    }
}

/// Tells whether this system lets a process put a layer over a folder; elsewhere a rehearsal needs a variable or `{db}`. Says so where not.
pub fn has_layers() -> bool {
    let sandbox = Sandbox::new();
    let folder = |name: &str| {
        std::fs::create_dir(sandbox.path(name)).unwrap();
        sandbox.path(name)
    };
    let mut command = sandbox.command();
    command.arg("isolate").arg("--folder").arg(folder("folder")).arg("--upper").arg(folder("upper")).arg("--work").arg(folder("work"));
    let run = finish(command.arg("--probe"));
    if run.code != 0 {
        println!("skipped: this system gives no layers: {}", run.stderr);
    }
    run.code == 0
}

/// Gives a connection what the application of these tests brings.
pub fn bring_own(connection: &Connection) {
    connection.create_collation("unicase", |a: &str, b: &str| a.to_lowercase().cmp(&b.to_lowercase())).unwrap();
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    let shout = |context: &rusqlite::functions::Context<'_>| {
        Ok(match context.get::<rusqlite::types::Value>(0)? {
            rusqlite::types::Value::Null => None,
            rusqlite::types::Value::Text(text) => Some(format!("{text}!")),
            other => Some(format!("{other:?}!")),
        })
    };
    connection.create_scalar_function("shout", 1, flags, shout).unwrap();
}

/// Compiles a shared library from C, as the README's requirements allow; returns its path.
pub fn compile(source: &str, to: &Path) {
    let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(source);
    let run = finish(compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(to).arg(file).arg("-ldl"));
    run.exits(0);
}

/// Copies a database file and the files beside it that belong to it.
pub fn copy_database(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    let mut permissions = to.metadata().unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a copy in a temporary folder")]
    permissions.set_readonly(false);
    std::fs::set_permissions(to, permissions).unwrap();
    for suffix in ["-wal", "-journal"] {
        let beside = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if beside(from).exists() {
            std::fs::copy(beside(from), beside(to)).unwrap();
        }
    }
}

/// Copies everything in a folder into another.
pub fn copy_folder(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(target).unwrap();
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
pub fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Run { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}
