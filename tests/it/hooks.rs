//! Adoption: what `init --hooks` writes into files of others, the reminder after a checkout, and what snapshots know of git.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use crate::sandbox::{Run, Sandbox, finish};

const ONE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES(1,'a'),(2,'b')";

const PACKAGE: &str =
    "{\r\n\t\"name\": \"shop\",\r\n\t\"scripts\": {\r\n\t\t\"migrate\": \"node up.js\"\r\n\t},\r\n\t\"license\": \"MIT\"\r\n}";

/// Makes a project that is initialised, with these files.
fn project(files: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::with(ONE);
    sandbox.run(&["init", "--db", "app.db"]).exits(0);
    for (name, text) in files {
        std::fs::create_dir_all(sandbox.path(name).parent().unwrap()).unwrap();
        std::fs::write(sandbox.path(name), text).unwrap();
    }
    sandbox
}

fn text(sandbox: &Sandbox, name: &str) -> String {
    std::fs::read_to_string(sandbox.path(name)).unwrap()
}

/// Puts a branch's commit into git's files, and checks it out, as git would.
fn check_out(sandbox: &Sandbox, branch: &str) {
    let file = sandbox.path(&format!(".git/refs/heads/{branch}"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(sandbox.path(".git/HEAD"), format!("ref: refs/heads/{branch}\n")).unwrap();
    std::fs::write(file, format!("{}\n", "0123456789".repeat(4))).unwrap();
}

/// Runs a program in the project, with this dbelay first in PATH.
fn run_with_path(sandbox: &Sandbox, program: &str, arguments: &[&str]) -> Option<Run> {
    let own = Path::new(env!("CARGO_BIN_EXE_dbelay")).parent().unwrap();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<_> = std::iter::once(own.to_owned()).chain(std::env::split_paths(&rest)).collect();
    let path: OsString = std::env::join_paths(path).unwrap();
    if !std::env::split_paths(&rest).any(|folder| folder.join(program).is_file()) {
        println!("skipped: there is no `{program}` here");
        return None;
    }
    let mut command = Command::new(program);
    command.current_dir(sandbox.path("")).env_clear().env("PATH", path).env("HOME", sandbox.path("")).env("TZ", "UTC");
    command.envs([("GIT_AUTHOR_NAME", "t"), ("GIT_AUTHOR_EMAIL", "t@t"), ("GIT_COMMITTER_NAME", "t"), ("GIT_COMMITTER_EMAIL", "t@t")]);
    Some(finish(command.args(arguments)))
}

#[test]
fn package_json_is_changed_after_its_diff_was_shown_and_only_with_consent() {
    let sandbox = project(&[("package.json", PACKAGE)]);
    let added = "+\t\t\"db:migrate-safe\": \"dbelay migrate -- npm run migrate\",";
    sandbox.run(&["init", "--hooks", "npm"]).exits(2).prints(&["--- a/package.json", added]).says(&["nobody can be asked", "--yes"]);
    sandbox.run(&["init", "--hooks", "npm", "--dry-run"]).exits(0).prints(&[added]);
    assert_eq!(text(&sandbox, "package.json"), PACKAGE);
    sandbox
        .run(&["init", "--hooks", "npm", "--yes"])
        .exits(0)
        .prints(&[added])
        .says(&["db:migrate-safe, db:backup, db:restore, db:snapshots"]);
    let new = text(&sandbox, "package.json");
    let ours: Vec<&str> = new.lines().filter(|line| line.contains("\"db:")).collect();
    assert_eq!(ours.len(), 4);
    let without = new.replace(&format!(",\r\n{}", ours.join("\r\n")), "");
    assert_eq!(without, PACKAGE, "all else is as it was, byte for byte");
    sandbox.run(&["init", "--hooks", "npm"]).exits(0).says(&["`package.json` has everything already"]);
    assert_eq!(text(&sandbox, "package.json"), new);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_changed_keeps_its_mode_and_a_link_to_it_stays_one() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let sandbox = project(&[("real/package.json", PACKAGE)]);
    std::fs::set_permissions(sandbox.path("real/package.json"), PermissionsExt::from_mode(0o640)).unwrap();
    symlink("real/package.json", sandbox.path("package.json")).unwrap();
    sandbox.run(&["init", "--hooks", "npm", "--yes"]).exits(0);
    assert!(sandbox.path("package.json").is_symlink());
    assert!(text(&sandbox, "real/package.json").contains("db:backup"));
    assert_eq!(sandbox.path("real/package.json").metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_cannot_be_added_to_is_told_before_anything_is_made() {
    for (file, content, expected) in [
        ("package.json", "{\"scripts\": {\"a\": \"1\",}}", "no valid JSON"),
        ("package.json", "{\"name\": \"x\"}", "which command migrates the database?"),
        ("other", "", "there is no package.json"),
    ] {
        let sandbox = Sandbox::with(ONE);
        std::fs::write(sandbox.path(file), content).unwrap();
        sandbox.dbelay(&["init", "--hooks", "npm", "--yes"]).exits(2).says(&[expected, "hint: "]);
        assert_eq!(text(&sandbox, file), content);
        assert!(!sandbox.path("dbelay.toml").exists(), "{expected}");
    }
}

#[test]
fn a_new_project_is_initialised_and_adopted_at_once() {
    let sandbox = Sandbox::with(ONE);
    std::fs::write(sandbox.path("package.json"), "{\"scripts\": {\"db:backup\": \"cp app.db old.db\"}}").unwrap();
    let run = sandbox.dbelay(&["init", "--hooks", "npm", "--command", "node up.js", "--yes", "--json"]).exits(0);
    let hook = &run.json()["hooks"][0];
    assert_eq!(hook["added"], serde_json::json!(["db:migrate-safe", "db:restore", "db:snapshots"]));
    assert!(hook["kept"][0].as_str().unwrap().contains("db:backup"), "{hook}");
    assert!(text(&sandbox, "package.json").contains("\"dbelay migrate -- node up.js\"") && sandbox.path("dbelay.toml").exists());
}

#[test]
fn targets_of_a_makefile_run_the_wrapper() {
    let sandbox = project(&[("Makefile", "all:\n\t@echo nothing to do\n\nmigrate:\n\tdbelay demo-apply up.sql\n")]);
    std::fs::write(sandbox.path("up.sql"), "DELETE FROM t WHERE id = 2").unwrap();
    sandbox.run(&["init", "--hooks", "make", "--yes"]).exits(2).says(&["which command migrates the database?", "--command"]);
    sandbox.run(&["init", "--hooks", "make", "--yes", "--command", "$(MAKE) up"]).exits(0).prints(&["+\tdbelay migrate -- $(MAKE) up"]);
    let sandbox = project(&[("Makefile", "all:\n\t@echo nothing to do\n\nmigrate:\n\t./up.sh\n")]);
    sandbox.run(&["init", "--hooks", "make", "--yes"]).exits(0).prints(&["+db-migrate-safe:", "+\tdbelay migrate -- $(MAKE) migrate"]);
    sandbox.run(&["init", "--hooks", "make", "--yes"]).exits(0).says(&["has everything already"]);
    let loses =
        format!("#!/bin/sh\nprintf '%s' 'DELETE FROM t WHERE id = 2' > up.sql\nexec {} demo-apply up.sql\n", env!("CARGO_BIN_EXE_dbelay"));
    std::fs::write(sandbox.path("up.sh"), loses).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(sandbox.path("up.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let Some(run) = run_with_path(&sandbox, "make", &["db-migrate-safe"]) else { return };
    run.exits(2).says(&["1 of 2 rows of `t` are gone", "rolled back"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 2);
    run_with_path(&sandbox, "make", &["db-backup"]).unwrap().exits(0);
    run_with_path(&sandbox, "make", &["db-snapshots"]).unwrap().exits(0).prints(&["manual"]);
    run_with_path(&sandbox, "make", &[]).unwrap().exits(0).prints(&["nothing to do"]);
}

#[test]
fn snapshots_record_the_branch_and_the_commit() {
    let sandbox = project(&[]);
    sandbox.run(&["snapshot"]).exits(0);
    check_out(&sandbox, "feature/a");
    sandbox.run(&["snapshot"]).exits(0);
    sandbox.run(&["show"]).exits(0).prints(&["git", "feature/a 01234567"]);
    for arguments in [&["log"][..], &["log", "--oneline"]] {
        let log = sandbox.run(arguments).exits(0).stdout;
        assert_eq!(log.matches("on feature/a").count(), 1, "{log}");
    }
    let log = sandbox.run(&["log", "--json"]).exits(0).json();
    assert_eq!(log["snapshots"][0]["origin"]["git"]["branch"], "feature/a");
    assert_eq!(log["snapshots"][0]["origin"]["git"]["commit"], "0123456789".repeat(4));
    assert!(log["snapshots"][1]["origin"].get("git").is_none());
    std::fs::write(sandbox.path(".git/HEAD"), "not what git writes").unwrap();
    sandbox.run(&["snapshot"]).exits(0);
}

#[test]
fn a_checkout_tells_that_the_schema_is_another_branchs() {
    let sandbox = project(&[]);
    let hook = |flag: &str| sandbox.run(&["hook", "post-checkout", "a", "b", flag]).exits(0).stderr;
    check_out(&sandbox, "main");
    assert_eq!(hook("1"), "", "nothing is known yet");
    sandbox.run(&["snapshot", "--tag", "on-main"]).exits(0);
    check_out(&sandbox, "feature");
    assert_eq!(hook("1"), "", "a new branch has the schema that is there");
    sandbox.sql("ALTER TABLE t ADD COLUMN y");
    sandbox.run(&["snapshot", "--tag", "on-feature"]).exits(0);
    assert_eq!(hook("1"), "");
    check_out(&sandbox, "main");
    assert_eq!(hook("0"), "", "files were checked out, and no branch");
    let said = hook("1");
    let id = |tag| sandbox.run(&["show", tag, "--json"]).exits(0).json()["id"].as_str().unwrap()[..8].to_owned();
    let (main, feature) = (id("on-main"), id("on-feature"));
    let parts = [
        format!("dbelay: the database has the schema of branch `feature` (snapshot {feature}, "),
        format!(
            "the last one on `main` is {main}: `dbelay diff {main} live --schema` shows the difference, `dbelay rollback {main}` goes back to it"
        ),
    ];
    assert!(parts.iter().all(|part| said.contains(part)) && said.lines().count() == 1, "{said}");
    sandbox.run(&["diff", &main, "live", "--schema"]).exits(0).prints(&["t.y"]);
    sandbox.sql("ALTER TABLE t ADD COLUMN z");
    assert!(hook("1").contains("the database does not have the schema of branch `main`"));
    sandbox.run(&["rollback", &main, "--yes"]).exits(0);
    assert_eq!(hook("1"), "");
}

#[test]
fn the_hook_of_git_never_fails_and_is_silent_where_there_is_nothing() {
    let sandbox = Sandbox::new();
    for arguments in
        [&["hook", "post-checkout"][..], &["hook", "post-checkout", "a", "b", "1"], &["hook", "post-checkout", "-x", "--", "1"]]
    {
        let run = sandbox.run(arguments).exits(0);
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    }
    let sandbox = project(&[("dbelay.toml", "nonsense")]);
    check_out(&sandbox, "main");
    assert_eq!(sandbox.run(&["hook", "post-checkout", "a", "b", "1"]).exits(0).stderr, "");
}

#[test]
fn a_hook_of_somebody_else_is_never_touched() {
    let line = "dbelay hook post-checkout \"$@\"";
    let sandbox = project(&[]);
    sandbox.run(&["init", "--hooks", "git", "--yes"]).exits(2).says(&["in no git repository"]);
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[(".git/hooks/post-checkout", "#!/bin/sh\nexec lint\n")], ".git/hooks/post-checkout` by hand"),
        (&[(".git/config", "[core]\n\thooksPath = .husky/_\n")], ".husky/post-checkout` by hand"),
        (&[(".git/config", "[core]\n\thooksPath = /usr/share/hooks\n")], "outside of this repository"),
        (&[(".gitconfig", "[core]\n\thooksPath = ~/hooks\n")], "every repository"),
    ];
    for (files, expected) in cases {
        let sandbox = project(files);
        check_out(&sandbox, "main");
        sandbox.run(&["init", "--hooks", "git", "--yes"]).exits(2).says(&[expected, line]);
        for (name, before) in files {
            assert_eq!(text(&sandbox, name), *before);
        }
    }
    let sandbox = project(&[(".git/config", "[core]\n\thooksPath = .githooks\n")]);
    check_out(&sandbox, "main");
    sandbox.run(&["init", "--hooks", "git", "--yes"]).exits(0);
    assert!(text(&sandbox, ".githooks/post-checkout").contains(line));
}

#[test]
fn git_itself_runs_the_hook() {
    let sandbox = project(&[("package.json", PACKAGE)]);
    let git = |arguments: &[&str]| run_with_path(&sandbox, "git", arguments).map(|run| run.exits(0));
    if git(&["init", "-q", "-b", "main"]).is_none() {
        return;
    }
    git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    sandbox.run(&["init", "--hooks", "git", "--yes"]).exits(0).prints(&["--- /dev/null"]).says(&["post-checkout"]);
    sandbox.run(&["init", "--hooks", "git"]).exits(0).says(&["has everything already"]);
    sandbox.run(&["snapshot"]).exits(0);
    let commit = git(&["rev-parse", "HEAD"]).unwrap().stdout;
    assert_eq!(sandbox.run(&["show", "--json"]).exits(0).json()["origin"]["git"]["commit"], commit.trim());
    git(&["checkout", "-q", "-b", "feature"]);
    sandbox.sql("ALTER TABLE t ADD COLUMN y");
    sandbox.run(&["snapshot"]).exits(0);
    git(&["pack-refs", "--all"]);
    let run = git(&["checkout", "-q", "main"]).unwrap();
    assert!(run.stderr.contains("dbelay: the database has the schema of branch `feature`"), "{}", run.stderr);
    let worktree = sandbox.path("beside");
    git(&["worktree", "add", "-q", worktree.to_str().unwrap(), "feature"]);
    let run = finish(sandbox.command().current_dir(&worktree).args(["--db", "../app.db", "--store", "../.dbelay", "snapshot", "--json"]))
        .exits(0);
    let id = run.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.run(&["show", &id, "--json"]).exits(0).json()["origin"]["git"]["branch"], "feature");
}
