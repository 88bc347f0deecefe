//! Files beside the database: in the same snapshots, shown, put back, and never lost on the way.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

use crate::crash;
use crate::sandbox::{Sandbox, finish};

const CONFIG: &str = "[files]\ninclude = [\"/uploads/\", \"/config/*.toml\"]\nexclude = [\"*.tmp\"]\n";

const BASE: &str = "CREATE TABLE docs(id INTEGER PRIMARY KEY, file TEXT); INSERT INTO docs VALUES(1,'a.txt'),(2,'b.txt')";

fn write(sandbox: &Sandbox, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = sandbox.path("").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn project() -> Sandbox {
    let sandbox = Sandbox::with(BASE);
    write(&sandbox, "dbelay.toml", CONFIG);
    write(&sandbox, "uploads/a.txt", "file a\n");
    write(&sandbox, "uploads/b.txt", "file b\n");
    write(&sandbox, "config/app.toml", "x = 1\n");
    sandbox
}

fn set_look(path: &Path, mode: u32, seconds: u64, ns: u32) {
    File::options().write(true).open(path).unwrap().set_modified(UNIX_EPOCH + Duration::new(seconds, ns)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Everything below a folder that a person could notice: kind, permissions, time to the nanosecond, content, what links lead to.
fn tree(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let what = match metadata.file_type() {
            kind if kind.is_dir() => format!("folder {:o}", metadata.mode()),
            kind if kind.is_symlink() => format!("link to {:?}", fs::read_link(entry.path()).unwrap()),
            _ => format!("file {:o} {:?}", metadata.mode(), fs::read(entry.path()).unwrap()),
        };
        let path = entry.path().strip_prefix(folder).unwrap();
        lines.push(format!("{path:?} {}.{:09} {what}", metadata.mtime(), metadata.mtime_nsec()));
    }
    lines
}

#[track_caller]
fn assert_tree(expected: &[String], folder: &Path) {
    let actual = tree(folder);
    let differs: Vec<_> =
        expected.iter().filter(|line| !actual.contains(line)).chain(actual.iter().filter(|line| !expected.contains(line))).collect();
    assert!(differs.is_empty(), "{differs:#?}");
}

/// Files of every kind that there is.
fn fill_with_everything(sandbox: &Sandbox) {
    write(sandbox, "uploads/empty.txt", "");
    write(sandbox, "uploads/with space/and \"quotes\" 'too'.txt", "x");
    write(sandbox, "uploads/line\nbreak.txt", "two lines");
    write(sandbox, Path::new("uploads").join(OsStr::from_bytes(b"no-utf8-\xff\xfe.bin")), b"\x00\xff");
    write(sandbox, "uploads/\u{fc}n\u{ef}c\u{f6}de \u{1f600}.txt", "\u{fc}");
    write(sandbox, "uploads/.hidden", "dot");
    write(sandbox, "uploads/large.bin", (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<u8>>());
    fs::create_dir_all(sandbox.path("uploads/empty/nested")).unwrap();
    symlink("/nowhere/at all", sandbox.path("uploads/dangling")).unwrap();
    symlink("a.txt", sandbox.path("uploads/link")).unwrap();
    symlink("../config", sandbox.path("uploads/folder-link")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), sandbox.path("uploads/odd-link")).unwrap();
    set_look(&sandbox.path("uploads/a.txt"), 0o600, 981_173_106, 123_456_789);
    set_look(&sandbox.path("uploads/b.txt"), 0o4751, 4_000_000_000, 1);
    set_look(&sandbox.path("uploads/.hidden"), 0o444, 0, 0);
    fs::set_permissions(sandbox.path("uploads/empty"), Permissions::from_mode(0o1770)).unwrap();
}

/// Changes, removes and exchanges nearly all of them.
fn damage(sandbox: &Sandbox) {
    let path = |name: &str| sandbox.path("uploads").join(name);
    fs::remove_dir_all(path("with space")).unwrap();
    fs::remove_dir_all(path("empty")).unwrap();
    fs::write(path("empty"), "a file now").unwrap();
    fs::remove_file(path("link")).unwrap();
    fs::create_dir(path("link")).unwrap();
    fs::write(path("link/below"), "deep").unwrap();
    fs::remove_file(path("dangling")).unwrap();
    symlink("elsewhere", path("dangling")).unwrap();
    fs::remove_file(path(".hidden")).unwrap();
    fs::write(path("a.txt"), "other\n").unwrap();
    fs::set_permissions(path("b.txt"), Permissions::from_mode(0o600)).unwrap();
    let mut large = fs::read(path("large.bin")).unwrap();
    large.splice(600_000..600_000, *b"inserted");
    fs::write(path("large.bin"), large).unwrap();
    fs::write(path("new\nline.txt"), "new").unwrap();
    fs::remove_file(sandbox.path("uploads").join(OsStr::from_bytes(b"no-utf8-\xff\xfe.bin"))).unwrap();
}

#[test]
fn a_rollback_with_files_puts_all_of_them_back_and_undo_takes_it_back() {
    let sandbox = project();
    fill_with_everything(&sandbox);
    let good = tree(&sandbox.path("uploads"));
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0).prints(&["10 files"]);
    sandbox.sql("DELETE FROM docs WHERE id = 2");
    damage(&sandbox);
    let bad = tree(&sandbox.path("uploads"));
    sandbox
        .dbelay(&["rollback", "good", "--with-files", "--dry-run"])
        .exits(0)
        .prints(&["patch the rows of `docs`", "remove file `uploads/new\\nline.txt`"]);
    assert_tree(&bad, &sandbox.path("uploads"));
    sandbox.dbelay(&["rollback", "good", "--with-files"]).exits(0).says(&["verified", "files: "]);
    assert_tree(&good, &sandbox.path("uploads"));
    assert_eq!(sandbox.number("SELECT count(*) FROM docs"), 2);
    sandbox.dbelay(&["status"]).exits(0).prints(&["the database is equal to it", "its files are the same"]);
    sandbox.dbelay(&["rollback", "good", "--with-files"]).exits(0).says(&["nothing to do"]);
    sandbox.dbelay(&["undo"]).exits(0);
    assert_tree(&bad, &sandbox.path("uploads"));
    assert_eq!(sandbox.number("SELECT count(*) FROM docs"), 1);
    sandbox.dbelay(&["redo"]).exits(0);
    assert_tree(&good, &sandbox.path("uploads"));
    sandbox.dbelay(&["fsck", "--read-data"]).exits(0);
}

#[test]
fn a_rollback_without_files_leaves_them_alone_and_says_so() {
    let sandbox = project();
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("DELETE FROM docs");
    write(&sandbox, "uploads/a.txt", "other\n");
    let left = tree(&sandbox.path("uploads"));
    sandbox.dbelay(&["rollback", "good"]).exits(0).says(&["1 file is not as it was then", "--with-files"]);
    assert_tree(&left, &sandbox.path("uploads"));
    // A file that was changed alone is put back alone.
    sandbox.dbelay(&["rollback", "good", "--with-files"]).exits(0).says(&["no rows written; files: 1 written"]);
    assert_eq!(fs::read(sandbox.path("uploads/a.txt")).unwrap(), b"file a\n");
    sandbox.dbelay(&["undo"]).exits(0);
    assert_eq!(fs::read(sandbox.path("uploads/a.txt")).unwrap(), b"other\n");
}

#[test]
fn a_restore_writes_the_files_into_a_folder_and_replaces_nothing_by_itself() {
    let sandbox = project();
    fill_with_everything(&sandbox);
    sandbox.dbelay(&["snapshot"]).exits(0);
    sandbox.dbelay(&["restore", "HEAD", "--to", "copy.db", "--files", "out/deep"]).exits(0).says(&["verified", "files: "]);
    assert_tree(&tree(&sandbox.path("uploads")), &sandbox.path("out/deep/uploads"));
    assert_eq!(fs::read(sandbox.path("out/deep/config/app.toml")).unwrap(), b"x = 1\n");
    fs::write(sandbox.path("out/deep/uploads/a.txt"), "mine").unwrap();
    sandbox.dbelay(&["restore", "HEAD", "--to", "other.db", "--files", "out/deep"]).exits(2).says(&["`uploads/a.txt`", "--overwrite"]);
    assert!(!sandbox.path("other.db").exists(), "the database is not restored where files are in the way");
    assert_eq!(fs::read(sandbox.path("out/deep/uploads/a.txt")).unwrap(), b"mine");
    sandbox.dbelay(&["restore", "HEAD", "--files", "out/deep", "--overwrite"]).exits(0);
    assert_tree(&tree(&sandbox.path("uploads")), &sandbox.path("out/deep/uploads"));
    sandbox.dbelay(&["restore", "HEAD"]).exits(2);
}

#[test]
fn nothing_is_restored_through_a_link() {
    let sandbox = project();
    sandbox.dbelay(&["snapshot"]).exits(0);
    fs::create_dir_all(sandbox.path("outside")).unwrap();
    fs::create_dir_all(sandbox.path("out")).unwrap();
    symlink("../outside", sandbox.path("out/uploads")).unwrap();
    sandbox.dbelay(&["restore", "HEAD", "--files", "out"]).exits(2).says(&["`uploads`"]);
    sandbox.dbelay(&["restore", "HEAD", "--files", "out", "--overwrite"]).exits(2);
    assert_eq!(fs::read_dir(sandbox.path("outside")).unwrap().count(), 0);
}

#[test]
fn an_insertion_in_a_large_file_stores_little() {
    let sandbox = project();
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut bytes: Vec<u8> = (0..20_000_000).map(|_| noise()).collect();
    write(&sandbox, "uploads/video.mp4", &bytes);
    let first = sandbox.dbelay(&["snapshot", "--json"]).exits(0).json();
    assert!(first["files"]["stats"]["objects"]["stored_bytes"].as_u64().unwrap() > 19_000_000);
    bytes.splice(10_000_000..10_000_000, *b"some bytes in the middle");
    write(&sandbox, "uploads/video.mp4", &bytes);
    write(&sandbox, "uploads/copy-of-video.mp4", &bytes);
    let second = sandbox.dbelay(&["snapshot", "--json"]).exits(0).json();
    let stored = second["files"]["stats"]["objects"]["stored_bytes"].as_u64().unwrap();
    assert!(stored < 600_000, "{stored} bytes for an insertion and a copy");
    let copy = sandbox.run(&["--db", "app.db", "restore", "HEAD", "--files", "out"]).exits(0);
    assert!(fs::read(sandbox.path("out/uploads/copy-of-video.mp4")).unwrap() == bytes, "{copy:?}");
}

/// Changes what the cache knows of the files.
fn edit_cache(sandbox: &Sandbox, edit: impl Fn(&mut Value)) {
    let cache = fs::read_dir(sandbox.path(".dbelay/cache")).unwrap().map(|entry| entry.unwrap().path());
    let path = cache.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("files-")).unwrap();
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    // As if the files had been read an hour later: long after they were written.
    json["begun_ms"] = (json["begun_ms"].as_i64().unwrap() + 3_600_000).into();
    edit(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn files_that_did_not_change_are_not_read_again() {
    let sandbox = project();
    let path = sandbox.path("uploads/a.txt");
    let stats = || sandbox.dbelay(&["snapshot", "--json"]).exits(0).json()["files"]["stats"].clone();
    let a_in_head = || sandbox.dbelay(&["cat", "HEAD", "--file", "uploads/a.txt"]).exits(0).stdout;
    assert_eq!(stats()["read"], 3);
    // What was written just before it was read may be written again within one tick of the clock.
    assert_eq!(stats()["read"], 3);
    edit_cache(&sandbox, |_| {});
    let third = stats();
    assert_eq!((third["read"].as_u64(), third["bytes_read"].as_u64(), third["kept"].as_u64()), (Some(0), Some(0), Some(3)));
    // Where the cache lies about the one time that no program can set, the file is not looked into: so it never is.
    let mtime = path.metadata().unwrap().modified().unwrap();
    let rewrite = |content: &str| {
        fs::write(&path, content).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
    };
    rewrite("FILE A\n");
    edit_cache(&sandbox, |json| {
        let looks = json["looks"].as_array_mut().unwrap();
        let look = looks.iter_mut().find(|look| look[0] == "uploads/a.txt").unwrap();
        let metadata = path.metadata().unwrap();
        look[5] = (metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()).into();
    });
    assert_eq!((stats()["read"].clone(), a_in_head()), (0.into(), "file a\n".to_owned()));
    // And where it does not, same size and same time do not hide the change.
    edit_cache(&sandbox, |_| {});
    rewrite("file Z\n");
    assert_eq!((stats()["read"].clone(), a_in_head()), (1.into(), "file Z\n".to_owned()));
    // Without the cache all are read.
    fs::remove_dir_all(sandbox.path(".dbelay/cache")).unwrap();
    assert_eq!(stats()["read"], 3);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let sandbox = project();
    let path = sandbox.path("uploads/busy.log");
    fs::write(&path, vec![b'x'; 4_000_000]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            use std::io::Write;
            let mut file = File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"!").unwrap();
            }
        });
        // The writer may be kept from writing now and then, as other programs are.
        let is_told = (0..20).any(|_| {
            let run = sandbox.dbelay(&["snapshot"]).exits(0);
            run.stderr.contains("`uploads/busy.log` was written each time that it was read")
        });
        sandbox.dbelay(&["tag", "busy", "HEAD"]).exits(0);
        let before = path.metadata().unwrap().len();
        let rollback = sandbox.dbelay(&["rollback", "busy", "--with-files"]);
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(is_told, "nothing of 20 snapshots was noticed");
        // Noticed when it is read, or at the last moment; in no case is it overwritten.
        let said = ["`uploads/busy.log` was written while it was read", "`uploads/busy.log`: somebody changed it meanwhile"];
        assert!(said.iter().any(|said| rollback.stderr.contains(said)) && [3, 5].contains(&rollback.code), "{rollback:?}");
        assert!(path.metadata().unwrap().len() >= before);
    });
    let listed = sandbox.dbelay(&["show", "busy", "--files", "--json"]).exits(0).json();
    let entry = |name: &str| listed["entries"].as_array().unwrap().iter().find(|entry| entry["path"] == name).unwrap().clone();
    assert_eq!((entry("uploads/busy.log")["changing"].as_bool(), entry("uploads/a.txt")["changing"].as_bool()), (Some(true), Some(false)));
    let settled = sandbox.dbelay(&["snapshot", "--json"]).exits(0).json();
    assert_eq!(settled["files"]["stats"]["changing"], 0);
    sandbox.dbelay(&["rollback", "busy", "--with-files"]).exits(0).says(&["perhaps not whole: `uploads/busy.log`"]);
}

/// Runs the binary as somebody whom permissions bind, also where the tests run as root.
fn as_nobody(sandbox: &Sandbox, arguments: &[&str]) -> crate::sandbox::Run {
    let mut command = sandbox.command();
    if rustix::process::getuid().is_root() {
        let program = sandbox.path("dbelay");
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_dbelay"), &program).unwrap();
        }
        for entry in walkdir::WalkDir::new(sandbox.path("")) {
            std::os::unix::fs::lchown(entry.unwrap().path(), Some(65_534), Some(65_534)).unwrap();
        }
        let mut own = std::process::Command::new(program);
        own.current_dir(sandbox.path("")).env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        own.stdin(std::process::Stdio::null()).uid(65_534).gid(65_534);
        command = own;
    }
    finish(command.args(["--db", "app.db"]).args(arguments))
}

#[test]
fn a_file_that_cannot_be_read_stops_a_snapshot_and_is_named() {
    let sandbox = project();
    fs::set_permissions(sandbox.path("uploads/b.txt"), Permissions::from_mode(0o0)).unwrap();
    as_nobody(&sandbox, &["snapshot"]).exits(3).says(&["`uploads/b.txt` cannot be read", "exclude"]);
    assert_eq!(as_nobody(&sandbox, &["log", "--json"]).exits(0).json()["snapshots"].as_array().unwrap().len(), 0);
    as_nobody(&sandbox, &["migrate", "--", "true"]).exits(3).says(&["the migration was not begun", "`uploads/b.txt`"]);
    // What has happened already is kept without it.
    fs::set_permissions(sandbox.path("uploads/b.txt"), Permissions::from_mode(0o644)).unwrap();
    let migrated = as_nobody(&sandbox, &["migrate", "--", "sh", "-c", "chmod 0 uploads/b.txt; echo x > uploads/c.txt"]);
    migrated.exits(0).says(&["`uploads/b.txt` cannot be read", "is not in the snapshot", "uploads/c.txt"]);
    fs::set_permissions(sandbox.path("uploads"), Permissions::from_mode(0o0)).unwrap();
    as_nobody(&sandbox, &["snapshot"]).exits(3).says(&["uploads` cannot be read"]);
    fs::set_permissions(sandbox.path("uploads"), Permissions::from_mode(0o755)).unwrap();
    write(&sandbox, "dbelay.toml", CONFIG.replace("*.tmp", "b.txt"));
    as_nobody(&sandbox, &["snapshot"]).exits(0);
}

#[test]
fn files_that_cannot_be_written_stop_a_rollback_before_anything_is_changed() {
    let sandbox = project();
    as_nobody(&sandbox, &["snapshot", "--tag", "good"]).exits(0);
    sandbox.sql("DELETE FROM docs");
    fs::write(sandbox.path("uploads/a.txt"), "other\n").unwrap();
    fs::set_permissions(sandbox.path("uploads"), Permissions::from_mode(0o555)).unwrap();
    as_nobody(&sandbox, &["rollback", "good", "--with-files"])
        .exits(3)
        .says(&["`uploads/a.txt` cannot be written", "the database is unchanged"]);
    assert_eq!(sandbox.number("SELECT count(*) FROM docs"), 0);
    assert_eq!(fs::read(sandbox.path("uploads/a.txt")).unwrap(), b"other\n");
    fs::set_permissions(sandbox.path("uploads"), Permissions::from_mode(0o755)).unwrap();
    as_nobody(&sandbox, &["rollback", "good", "--with-files"]).exits(0);
    assert_eq!((sandbox.number("SELECT count(*) FROM docs"), fs::read(sandbox.path("uploads/a.txt")).unwrap()), (2, b"file a\n".to_vec()));
}

#[test]
fn what_differs_between_files_is_shown_in_every_form() {
    let sandbox = project();
    sandbox.dbelay(&["snapshot", "--tag", "one"]).exits(0);
    // An attachment whose row is still there, and one without a row.
    fs::remove_file(sandbox.path("uploads/b.txt")).unwrap();
    write(&sandbox, "uploads/orphan.txt", "12345");
    write(&sandbox, "uploads/skipped.tmp", "no");
    write(&sandbox, "uploads/a.txt", "longer than before\n");
    fs::set_permissions(sandbox.path("config/app.toml"), Permissions::from_mode(0o600)).unwrap();
    let lines = [
        "~ config/app.toml  mode (644 -> 600)",
        "~ uploads/a.txt  content (7 -> 19 bytes)",
        "- uploads/b.txt  7 bytes",
        "+ uploads/orphan.txt  5 bytes",
    ];
    sandbox.dbelay(&["diff"]).exits(0).prints(&lines).prints(&["1 added, 1 removed, 2 changed"]);
    sandbox.dbelay(&["diff", "--stat"]).exits(0).prints(&["files  1 added, 1 removed, 2 changed"]);
    sandbox.dbelay(&["status"]).exits(0).prints(&lines).prints(&["the database is equal to it"]);
    sandbox.dbelay(&["snapshot", "--tag", "two"]).exits(0);
    sandbox.dbelay(&["diff", "one", "two", "--exit-code"]).exits(1).prints(&lines);
    sandbox.dbelay(&["diff", "one", "two", "-R"]).exits(0).prints(&["+ uploads/b.txt", "- uploads/orphan.txt"]);
    assert_eq!(
        sandbox.dbelay(&["diff", "one", "two", "--name-only"]).stdout,
        "config/app.toml\nuploads/a.txt\nuploads/b.txt\nuploads/orphan.txt\n"
    );
    let json = sandbox.dbelay(&["diff", "one", "two", "--json"]).exits(0).json();
    let files = json["files"].as_array().unwrap();
    assert_eq!(
        (files.len(), &files[2]["change"], &files[1]["before"]["size"], &files[1]["after"]["size"]),
        (4, &"removed".into(), &7.into(), &19.into())
    );
    let jsonl = sandbox.dbelay(&["diff", "one", "two", "--format", "jsonl"]).exits(0).stdout;
    assert_eq!(jsonl.lines().filter(|line| serde_json::from_str::<Value>(line).unwrap()["type"] == "file").count(), 4);
    sandbox.dbelay(&["diff", "one", "two", "--table", "docs"]).exits(0).says(&["no such difference"]);
    sandbox.dbelay(&["diff", "two", "live"]).exits(0).says(&["are the same"]);
    sandbox.dbelay(&["show", "one"]).exits(0).prints(&["3 files, 1 folder, 0 links"]);
    sandbox.dbelay(&["show", "one", "--files"]).exits(0).prints(&["uploads/b.txt"]);
    assert_eq!(sandbox.dbelay(&["cat", "one", "--file", "uploads/b.txt"]).exits(0).stdout, "file b\n");
    sandbox.dbelay(&["cat", "two", "--file", "uploads/b.txt"]).exits(2).says(&["no file `uploads/b.txt`"]);
}

#[test]
fn a_migration_tells_of_files_and_puts_them_back_where_that_is_asked() {
    let sandbox = project();
    let lossy = ["migrate", "--", "sh", "-c", "echo more >> uploads/a.txt; rm uploads/b.txt; exit 3"];
    sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
    let good = tree(&sandbox.path("uploads"));
    let told = ["~ uploads/a.txt", "- uploads/b.txt"];
    sandbox.dbelay(&lossy).exits(4).says(&told).says(&["left as the command left them", "rollback pre --with-files"]);
    assert!(!sandbox.path("uploads/b.txt").exists());
    sandbox.dbelay(&["diff", "pre", "failed"]).exits(0).prints(&told);
    sandbox.dbelay(&["rollback", "pre", "--with-files"]).exits(0);
    assert_tree(&good, &sandbox.path("uploads"));
    let mut with_files = vec!["migrate", "--with-files"];
    with_files.extend(&lossy[1..]);
    sandbox.dbelay(&with_files).exits(4).says(&told).says(&["files: 2 written put back"]);
    assert_tree(&good, &sandbox.path("uploads"));
    // Rows that are lost take the files with them.
    sandbox.sql("CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    write(&sandbox, "up.sql", "DROP TABLE t");
    let program = env!("CARGO_BIN_EXE_dbelay");
    let command = format!("rm uploads/b.txt; '{program}' --db app.db demo-apply up.sql");
    let json = sandbox.dbelay(&["migrate", "--json", "--with-files", "--", "sh", "-c", &command]).exits(4).json();
    assert_eq!(json["files"]["counts"]["removed"], 1, "{json}");
    assert_eq!(json["files"]["back"]["written"], 1, "{json}");
    assert_tree(&good, &sandbox.path("uploads"));
    assert_eq!(sandbox.number("SELECT count(*) FROM t"), 1);
    // Files that a migration changes are no loss.
    sandbox.dbelay(&["migrate", "--", "rm", "uploads/b.txt"]).exits(0).says(&["- uploads/b.txt", "snapshot post"]);
    sandbox.dbelay(&["diff", "pre", "post"]).exits(0).prints(&["- uploads/b.txt"]);
    sandbox.dbelay(&["undo", "--with-files"]).exits(0);
    assert_tree(&good, &sandbox.path("uploads"));
}

#[test]
fn what_the_patterns_did_not_name_then_or_do_not_name_now_is_left_alone() {
    let sandbox = project();
    sandbox.dbelay(&["snapshot", "--tag", "wide"]).exits(0);
    write(&sandbox, "dbelay.toml", "[files]\ninclude = [\"/uploads/\"]\n");
    sandbox.dbelay(&["snapshot", "--tag", "narrow"]).exits(0);
    write(&sandbox, "config/app.toml", "x = 2\n");
    sandbox.dbelay(&["rollback", "wide", "--with-files"]).exits(0).says(&["not included now, and left as they are: `config/app.toml`"]);
    assert_eq!(fs::read(sandbox.path("config/app.toml")).unwrap(), b"x = 2\n");
    write(&sandbox, "dbelay.toml", CONFIG);
    write(&sandbox, "uploads/new.txt", "new");
    sandbox.dbelay(&["rollback", "narrow", "--with-files"]).exits(0);
    assert_eq!(fs::read(sandbox.path("config/app.toml")).unwrap(), b"x = 2\n", "nobody knows whether it was there");
    assert!(!sandbox.path("uploads/new.txt").exists());
}

#[test]
fn the_database_the_store_and_special_files_are_never_taken_in() {
    let sandbox = project();
    sandbox.sql("PRAGMA journal_mode=wal; INSERT INTO docs VALUES(9,'x')");
    write(&sandbox, "dbelay.toml", "[files]\ninclude = [\"*\"]\n");
    write(&sandbox, ".git/HEAD", "ref: refs/heads/main");
    write(&sandbox, "uploads/.dbelay-tmp-77", "left by one that died");
    finish(sandbox.command().arg("--version")).exits(0);
    assert!(std::process::Command::new("mkfifo").arg(sandbox.path("uploads/pipe")).status().unwrap().success());
    let holder = sandbox.connect();
    holder.execute_batch("BEGIN; SELECT * FROM docs").unwrap();
    assert!(sandbox.path("app.db-wal").exists());
    sandbox.dbelay(&["snapshot"]).exits(0).says(&["`uploads/pipe` is no file, folder or link"]);
    let listed = sandbox.dbelay(&["show", "--files", "--json"]).exits(0).json();
    let paths: Vec<&str> = listed["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["config", "config/app.toml", "dbelay.toml", "uploads", "uploads/a.txt", "uploads/b.txt"]);
    assert!(!sandbox.path("uploads/.dbelay-tmp-77").exists(), "nobody is on the way any more");
}

#[test]
fn snapshots_without_files_and_projects_without_files_say_so() {
    let sandbox = Sandbox::with(BASE);
    sandbox.dbelay(&["snapshot", "--tag", "bare"]).exits(0);
    sandbox.dbelay(&["rollback", "bare", "--with-files"]).exits(2).says(&["names no files", "[files]"]);
    sandbox.dbelay(&["migrate", "--with-files", "--", "true"]).exits(2).says(&["names no files"]);
    write(&sandbox, "dbelay.toml", CONFIG);
    write(&sandbox, "uploads/a.txt", "a");
    sandbox.dbelay(&["rollback", "bare", "--with-files"]).exits(2).says(&["holds no files"]);
    sandbox.dbelay(&["restore", "bare", "--files", "out"]).exits(2).says(&["holds no files"]);
    sandbox.dbelay(&["rollback", "bare"]).exits(0);
    // They belong to the database that dbelay.toml names.
    write(&sandbox, "dbelay.toml", format!("database = \"app.db\"\n{CONFIG}"));
    rusqlite::Connection::open(sandbox.path("other.db")).unwrap().execute_batch("CREATE TABLE o(x)").unwrap();
    assert_eq!(sandbox.run(&["--db", "other.db", "snapshot", "--json"]).exits(0).json()["files"], Value::Null);
    assert_eq!(sandbox.run(&["--db", "./app.db", "snapshot", "--json"]).exits(0).json()["files"]["files"], 1);
}

#[test]
fn a_lost_chunk_of_a_file_is_named_and_costs_that_file_alone() {
    let sandbox = project();
    sandbox.dbelay(&["snapshot", "--tag", "whole"]).exits(0);
    let packs = |sandbox: &Sandbox| {
        let files = walkdir::WalkDir::new(sandbox.path(".dbelay/packs")).into_iter().map(|entry| entry.unwrap().into_path());
        files.filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let before = packs(&sandbox);
    write(&sandbox, "uploads/c.txt", "file c\n");
    sandbox.dbelay(&["snapshot", "--tag", "torn"]).exits(0);
    for pack in packs(&sandbox).into_iter().filter(|path| !before.contains(path)) {
        fs::remove_file(pack).unwrap();
    }
    sandbox.dbelay(&["fsck"]).exits(1).prints(&["its files"]);
    sandbox.sql("DELETE FROM docs");
    sandbox.dbelay(&["rollback", "torn", "--with-files"]).exits(3);
    assert_eq!(sandbox.number("SELECT count(*) FROM docs"), 0);
    sandbox.dbelay(&["rollback", "whole", "--with-files"]).exits(0);
    assert_eq!(sandbox.number("SELECT count(*) FROM docs"), 2);
    assert!(!sandbox.path("uploads/c.txt").exists());
}

#[test]
fn a_rollback_with_files_that_dies_is_told_exactly_and_can_be_finished() {
    let content = |sandbox: &Sandbox| {
        let read = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap_or_default();
        [read("uploads/a.txt"), read("uploads/b.txt"), read("uploads/c.txt")]
    };
    let (good, bad) = (["file a\n", "file b\n", ""], ["other\n", "", "new\n"]);
    crash::check(
        &|sandbox| {
            write(sandbox, "dbelay.toml", CONFIG);
            write(sandbox, "uploads/a.txt", good[0]);
            write(sandbox, "uploads/b.txt", good[1]);
            sandbox.dbelay(&["snapshot", "--tag", "good"]).exits(0);
            sandbox.sql("DELETE FROM keyless");
            write(sandbox, "uploads/a.txt", bad[0]);
            fs::remove_file(sandbox.path("uploads/b.txt")).unwrap();
            write(sandbox, "uploads/c.txt", bad[2]);
        },
        &["rollback", "good", "--with-files"],
        0,
        &|sandbox| {
            let rows = sandbox.number("SELECT count(*) FROM keyless");
            let now = content(sandbox);
            for (at, text) in now.iter().enumerate() {
                assert!(text == good[at] || text == bad[at], "{text} is half a file");
            }
            // Files are touched only once the database is what it was to be.
            assert!(rows == 1 || now == bad, "{now:?}");
            sandbox.dbelay(&["rollback", "good", "--with-files"]).exits(0);
            assert_eq!((content(sandbox), sandbox.number("SELECT count(*) FROM keyless")), (good.map(str::to_owned), 1));
            let left = fs::read_dir(sandbox.path("uploads")).unwrap().count();
            assert_eq!(left, 2, "something is left on its way");
        },
    );
}
