//! The table of operations that die, fail and run out of room in these tests. To add one is to add an [`Operation`] to [`OPERATIONS`].

use crate::oracle;
use crate::sandbox::Sandbox;

/// Something that is done before an operation, from the same beginning each time.
pub enum Step {
    /// Runs statements on the database.
    Sql(&'static str),
    /// Runs dbelay with these words, which must exit so.
    Run(&'static [&'static str], i32),
    /// Writes a file.
    File(&'static str, &'static str),
    /// Deletes a file.
    Delete(&'static str),
}

/// An operation, and what must hold after it, whatever happened to it.
///
/// Of every operation it is asked that afterwards the store is sound, every snapshot that was there is there and whole, the database is as
/// before or as after (or as the migration's own command left it, which the next command then says), and the same line works again.
pub struct Operation {
    /// What it is called in figures and messages.
    pub name: &'static str,
    /// What is done before it.
    pub setup: &'static [Step],
    /// Its words, after `dbelay --db app.db`; `{dbelay}` is the program.
    pub line: &'static [&'static str],
    /// How it exits.
    pub code: i32,
    /// How the same line may exit when it is run again after it died or failed.
    pub again: &'static [i32],
    /// What its migration command does to the database, where it has one.
    pub command: Option<&'static str>,
    /// How it may exit where something failed below it.
    pub failures: &'static [i32],
    /// Tags of the setup whose snapshots the database may be equal to where it failed.
    pub returns_to: &'static [&'static str],
    /// Tags of the setup whose snapshots it may take away, and the tags with them.
    pub forgets: &'static [&'static str],
    /// Variables that every command of its project is given: a passphrase, say.
    pub env: &'static [(&'static str, &'static str)],
    /// Tells whether it did what it says, where the database does not show that.
    pub proof: fn(&Sandbox) -> bool,
    /// Tells whether what is there after a death is nothing half, where the database does not show that.
    pub is_whole: fn(&Sandbox) -> bool,
}

/// What every project begins with.
pub const BASE: &str = "
CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT);
CREATE INDEX tx ON t(x);
CREATE TABLE keyless(a);
CREATE TABLE big(id INTEGER PRIMARY KEY, body TEXT);
CREATE VIEW v AS SELECT id, upper(x) FROM t;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200) INSERT INTO t SELECT i, 'row number '||i FROM n;
INSERT INTO keyless VALUES('k'),(1),(NULL);
INSERT INTO big SELECT id, hex(zeroblob(200))||id FROM t WHERE id<20;
";

/// What befalls the database before a rollback.
const DAMAGE: &str = "UPDATE t SET x='damaged' WHERE id%3=0; DELETE FROM t WHERE id>150; DROP TABLE keyless; PRAGMA user_version=5";

/// A migration that loses nothing, and another that does; each in one transaction, so that it is whole or not at all, and such that a
/// second run changes nothing more.
const GOOD: &str = "BEGIN; UPDATE t SET x='new '||id WHERE id%5=0; CREATE TABLE IF NOT EXISTS more(y); COMMIT";
const LOSING: &str = "BEGIN; UPDATE t SET x='half' WHERE id%7=0; DELETE FROM keyless; COMMIT";

const TAKE_GOOD: Step = Step::Run(&["snapshot", "--tag", "good"], 0);
const TAKE_NEXT: Step = Step::Run(&["snapshot", "--tag", "next"], 0);
/// What happens after the snapshot `next`.
const MORE: &str = "UPDATE t SET x='more '||id WHERE id%11=0";
const MIGRATE: &[&str] = &["migrate", "--", "{dbelay}", "--db", "app.db", "demo-apply", "up.sql"];
/// A migration whose command does its work and then kills the dbelay above it.
const INTERRUPTED: &[&str] = &["migrate", "--", "sh", "-c", "{dbelay} --db app.db demo-apply up.sql; kill -9 $PPID"];

const NOTHING: Operation = Operation {
    name: "",
    setup: &[],
    line: &[],
    code: 0,
    again: &[0],
    command: None,
    failures: &[3],
    returns_to: &[],
    forgets: &[],
    env: &[],
    proof: |_| true,
    is_whole: |_| true,
};

/// Tells whether a tag is there, and which snapshot it names.
fn tag(sandbox: &Sandbox, name: &str) -> Option<String> {
    let tags = sandbox.dbelay(&["tag", "--json"]).exits(0).json();
    tags["tags"][name].as_str().map(str::to_owned)
}

/// Tells whether `copy.db` holds what the tag `good` names: what [`BASE`] made.
fn is_copy(sandbox: &Sandbox) -> bool {
    sandbox.path("copy.db").exists() && oracle::dump(&sandbox.path("copy.db")) == oracle::dump(&Sandbox::with(BASE).db())
}

/// Tells whether `copy.db` holds all or nothing.
fn is_copy_or_nothing(sandbox: &Sandbox) -> bool {
    let copy = sandbox.path("copy.db");
    let tables = || rusqlite::Connection::open(&copy).unwrap().query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    !copy.exists() || tables() == Ok(0) || is_copy(sandbox)
}

/// Every operation.
pub const OPERATIONS: &[Operation] = &[
    Operation { name: "init", line: &["init"], again: &[0, 2], proof: |sandbox| sandbox.path("dbelay.toml").exists(), ..NOTHING },
    Operation { name: "first snapshot", line: &["snapshot"], ..NOTHING },
    Operation {
        name: "snapshot",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE)],
        line: &["snapshot", "--tag", "next", "-m", "why"],
        again: &[0, 2],
        // Without its tag it was not reported, and the line run again takes another.
        proof: |sandbox| tag(sandbox, "next").is_some(),
        ..NOTHING
    },
    Operation {
        name: "migrate",
        setup: &[TAKE_GOOD, Step::File("up.sql", GOOD)],
        line: MIGRATE,
        command: Some(GOOD),
        failures: &[3, 4, 5],
        ..NOTHING
    },
    Operation {
        name: "migrate, losing",
        setup: &[TAKE_GOOD, Step::File("up.sql", LOSING)],
        line: MIGRATE,
        code: 4,
        again: &[4],
        command: Some(LOSING),
        failures: &[3, 4, 5],
        ..NOTHING
    },
    Operation {
        name: "migrate --on-failure keep",
        setup: &[TAKE_GOOD, Step::File("up.sql", LOSING)],
        line: &["migrate", "--on-failure", "keep", "--", "{dbelay}", "--db", "app.db", "demo-apply", "up.sql"],
        code: 5,
        again: &[0, 5],
        command: Some(LOSING),
        failures: &[3, 4, 5],
        ..NOTHING
    },
    Operation {
        name: "migrate, first of all",
        setup: &[Step::File("up.sql", GOOD)],
        line: MIGRATE,
        command: Some(GOOD),
        failures: &[3, 4, 5],
        ..NOTHING
    },
    Operation {
        name: "migrate --resume",
        setup: &[TAKE_GOOD, Step::File("up.sql", GOOD), Step::Run(INTERRUPTED, -1)],
        line: &["migrate", "--resume", "--", "{dbelay}", "--db", "app.db", "demo-apply", "up.sql"],
        again: &[0, 3],
        command: Some(GOOD),
        failures: &[3, 4, 5],
        // A command that is taken up and fails is rolled back with all that it did before.
        returns_to: &["good"],
        ..NOTHING
    },
    Operation {
        name: "migrate --accept",
        setup: &[TAKE_GOOD, Step::File("up.sql", LOSING), Step::Run(INTERRUPTED, -1)],
        line: &["migrate", "--accept"],
        again: &[0, 3],
        ..NOTHING
    },
    Operation {
        name: "rollback of an interrupted migration",
        setup: &[TAKE_GOOD, Step::File("up.sql", LOSING), Step::Run(INTERRUPTED, -1)],
        line: &["rollback"],
        ..NOTHING
    },
    Operation { name: "rollback", setup: &[TAKE_GOOD, Step::Sql(DAMAGE)], line: &["rollback", "good"], ..NOTHING },
    Operation {
        name: "rollback --table",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE)],
        line: &["rollback", "good", "--table", "t", "--table", "keyless"],
        ..NOTHING
    },
    Operation {
        name: "rollback of a deleted database",
        setup: &[TAKE_GOOD, Step::Delete("app.db")],
        line: &["rollback", "good"],
        ..NOTHING
    },
    Operation {
        name: "undo",
        setup: &[TAKE_GOOD, Step::File("up.sql", GOOD), Step::Run(MIGRATE, 0)],
        line: &["undo"],
        again: &[0, 3],
        ..NOTHING
    },
    Operation {
        name: "redo",
        setup: &[TAKE_GOOD, Step::File("up.sql", GOOD), Step::Run(MIGRATE, 0), Step::Run(&["undo"], 0)],
        line: &["redo"],
        again: &[0, 3],
        ..NOTHING
    },
    Operation {
        name: "tag",
        setup: &[TAKE_GOOD],
        line: &["tag", "release", "good"],
        proof: |sandbox| tag(sandbox, "release").is_some() && tag(sandbox, "release") == tag(sandbox, "good"),
        ..NOTHING
    },
    Operation {
        name: "tag --force",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE), Step::Run(&["snapshot", "--tag", "next"], 0)],
        line: &["tag", "--force", "good", "next"],
        proof: |sandbox| tag(sandbox, "good") == tag(sandbox, "next"),
        is_whole: |sandbox| tag(sandbox, "good").is_some(),
        ..NOTHING
    },
    Operation {
        name: "tag --delete",
        setup: &[TAKE_GOOD],
        line: &["tag", "--delete", "good"],
        again: &[0, 2],
        proof: |sandbox| tag(sandbox, "good").is_none(),
        ..NOTHING
    },
    Operation {
        name: "restore",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE)],
        line: &["restore", "good", "--to", "copy.db"],
        // What died while it wrote into a new file may leave that file, which then has to be deleted or named differently.
        again: &[0, 2],
        proof: is_copy,
        is_whole: is_copy_or_nothing,
        ..NOTHING
    },
    Operation {
        name: "forget",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE), TAKE_NEXT, Step::Sql(MORE), Step::Run(&["snapshot"], 0)],
        line: &["forget", "next"],
        // It is gone, and so no snapshot that could be forgotten.
        again: &[0, 2],
        forgets: &["next"],
        proof: |sandbox| tag(sandbox, "next").is_none(),
        ..NOTHING
    },
    Operation {
        name: "forget --prune",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE), TAKE_NEXT, Step::Sql(MORE), Step::Run(&["snapshot"], 0)],
        line: &["forget", "next", "--prune"],
        again: &[0, 2],
        forgets: &["next"],
        proof: |sandbox| tag(sandbox, "next").is_none(),
        ..NOTHING
    },
    Operation {
        name: "gc, condemning",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE), TAKE_NEXT, Step::Sql(MORE), Step::Run(&["snapshot"], 0), Step::Run(&["forget", "next"], 0)],
        line: &["gc"],
        ..NOTHING
    },
    Operation {
        name: "gc, deleting",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE), TAKE_NEXT, Step::Sql(MORE), Step::Run(&["snapshot"], 0), Step::Run(&["forget", "next"], 0)],
        line: &["gc", "--grace", "0"],
        ..NOTHING
    },
    Operation {
        name: "verify --drill",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE)],
        line: &["verify", "--drill"],
        // What could not be tried out is found, not failed.
        failures: &[1, 3],
        ..NOTHING
    },
    Operation {
        name: "export",
        setup: &[TAKE_GOOD],
        line: &["export", "good", "--output", "good.json"],
        again: &[0, 2],
        proof: |sandbox| sandbox.path("good.json").exists(),
        // What is there is there as a whole: an export can be read back.
        is_whole: |sandbox| !sandbox.path("good.json").exists() || sandbox.path("good.json").metadata().unwrap().len() > 1000,
        ..NOTHING
    },
    Operation {
        name: "key add, encrypting",
        setup: &[TAKE_GOOD, Step::Sql(DAMAGE), TAKE_NEXT],
        line: &["key", "add", "--new-key-file", "a.key"],
        env: &[("DBELAY_KEY_FILE", "a.key")],
        proof: |sandbox| sandbox.dbelay(&["log"]).code == 12,
        ..NOTHING
    },
    Operation {
        name: "key rotate",
        setup: &[TAKE_GOOD, Step::Run(&["key", "add", "--new-key-file", "a.key"], 0), Step::Sql(DAMAGE), TAKE_NEXT],
        line: &["key", "rotate", "--yes"],
        env: &[("DBELAY_KEY_FILE", "a.key")],
        ..NOTHING
    },
    Operation {
        name: "snapshot, encrypted",
        setup: &[TAKE_GOOD, Step::Run(&["key", "add", "--new-key-file", "a.key"], 0), Step::Sql(DAMAGE)],
        line: &["snapshot", "--tag", "next"],
        env: &[("DBELAY_KEY_FILE", "a.key")],
        again: &[0, 2],
        proof: |sandbox| {
            sandbox.command().args(["--db", "app.db", "show", "next", "--key-file", "a.key"]).status().is_ok_and(|status| status.success())
        },
        ..NOTHING
    },
    Operation {
        name: "import",
        setup: &[TAKE_GOOD, Step::Run(&["restore", "good", "--to", "other.db"], 0)],
        line: &["import", "other.db", "--tag", "other"],
        again: &[0, 2],
        proof: |sandbox| tag(sandbox, "other").is_some(),
        ..NOTHING
    },
    Operation { name: "pin", setup: &[TAKE_GOOD], line: &["pin", "good"], ..NOTHING },
];
