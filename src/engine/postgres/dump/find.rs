//! Which `pg_dump`: one of at least the server's version, for an older one refuses.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::engine::EngineError;

/// Where installers put PostgreSQL's programs; one part of each may hold a star.
const USUAL_PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "C:\\Program Files\\PostgreSQL\\*\\bin",
];

/// A `pg_dump` that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    /// Its version in its own words: `15.18`.
    version: String,
    major: u32,
    /// Whether it is a script that chooses a version by itself, as Debian's is.
    is_script: bool,
}

/// Finds the `pg_dump` for a server of this version (`server_version_num`): of the same major version, else of the next higher one, in these folders, in
/// their order, then in the usual places.
///
/// # Errors
/// [`EngineError::Unsupported`] where there is none that can read the server. A retry is safe, and looks again.
pub fn find(folders: &[PathBuf], server_version_num: u32) -> Result<PathBuf, EngineError> {
    let usual = USUAL_PLACES.iter().flat_map(|place| expand(place));
    let mut seen = BTreeSet::new();
    let paths = folders.iter().cloned().chain(usual).filter_map(|folder| {
        let path = folder.join(format!("pg_dump{}", std::env::consts::EXE_SUFFIX));
        // A relative folder of PATH would run what happens to lie where one is.
        (folder.is_absolute() && path.is_file() && seen.insert(path.clone())).then_some(path)
    });
    let (scripts, programs): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|path| is_script(path));
    let mut candidates = Vec::new();
    for (path, is_script) in programs.into_iter().map(|path| (path, false)).chain(scripts.into_iter().map(|path| (path, true))) {
        let Some(candidate) = ask(path, is_script) else { continue };
        // None is better, so the others need not be asked, of which a script takes its time.
        if candidate.major == server_version_num / 10_000 {
            return Ok(candidate.path);
        }
        candidates.push(candidate);
    }
    choose(&candidates, server_version_num)
        .map(Path::to_owned)
        .ok_or_else(|| EngineError::Unsupported(lacking(&candidates, server_version_num)))
}

fn choose(candidates: &[Candidate], server_version_num: u32) -> Option<&Path> {
    let fitting = candidates.iter().filter(|candidate| candidate.major >= server_version_num / 10_000);
    // The first of equals wins, and a program wins over a script.
    fitting.min_by_key(|candidate| (candidate.major, candidate.is_script)).map(|candidate| candidate.path.as_path())
}

/// Says what is needed, what is there, and what to install.
fn lacking(candidates: &[Candidate], server_version_num: u32) -> String {
    let (major, minor) = (server_version_num / 10_000, server_version_num % 10_000);
    let found: Vec<_> = candidates.iter().map(|found| format!("{} (`{}`)", found.version, found.path.display())).collect();
    let found = if found.is_empty() { "none was found".to_owned() } else { format!("only older ones were found: {}", found.join(", ")) };
    format!(
        "reading the schema of a PostgreSQL {major}.{minor} server needs `pg_dump` {major} or newer, and {found}; install it with `apt install \
         postgresql-client-{major}` (Debian, Ubuntu), `dnf install postgresql` (Fedora) or `brew install libpq` (macOS)"
    )
}

/// Asks a program for its version; none where it has no answer.
fn ask(path: PathBuf, is_script: bool) -> Option<Candidate> {
    let output = Command::new(&path).arg("--version").env_remove("PGCLUSTER").stdin(Stdio::null()).output().ok()?;
    let (version, major) = parse_version(std::str::from_utf8(&output.stdout).ok()?)?;
    Some(Candidate { version: version.to_owned(), major, path, is_script })
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    fs_err::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"#!"
}

/// Reads `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`: the version and its major number.
fn parse_version(answer: &str) -> Option<(&str, u32)> {
    let version = answer.trim().strip_prefix("pg_dump (")?.split_once(") ")?.1.split_whitespace().next()?;
    let digits = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    Some((version, version.get(..digits)?.parse().ok()?))
}

/// Returns the folders that a place with at most one star stands for, those of higher versions first.
fn expand(place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else { return vec![PathBuf::from(place)] };
    let cut = before.rfind(['/', '\\']).map_or(0, |slash| slash + 1);
    let (folder, prefix) = before.split_at(cut);
    let Ok(listing) = fs_err::read_dir(folder) else { return Vec::new() };
    let names = listing.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(prefix));
    let mut names: Vec<_> = names.collect();
    names.sort_by_key(|name| {
        let number = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        std::cmp::Reverse((number.split('.').filter_map(|part| part.parse::<u32>().ok()).collect::<Vec<_>>(), name.clone()))
    });
    names.iter().map(|name| PathBuf::from(format!("{folder}{name}{after}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(path: &str, version: &str, is_script: bool) -> Candidate {
        let (version, major) = parse_version(version).expect("a version");
        Candidate { path: path.into(), version: version.to_owned(), major, is_script }
    }

    #[test]
    fn versions_are_read_as_packagers_write_them() {
        let cases = [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(("15.18", 15))),
            ("pg_dump (PostgreSQL) 18.6", Some(("18.6", 18))),
            ("pg_dump (PostgreSQL) 19beta1", Some(("19beta1", 19))),
            ("pg_dump (PostgreSQL) 9.6.24", Some(("9.6.24", 9))),
            ("pg_dump: error", None),
            ("pg_dump (PostgreSQL) devel", None),
            ("", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(parse_version(answer), expected, "{answer}");
        }
    }

    #[test]
    fn the_same_version_is_preferred_then_the_next_and_a_program_to_a_script() {
        let all = [
            candidate("/path", "pg_dump (PostgreSQL) 15.18", true),
            candidate("/17", "pg_dump (PostgreSQL) 17.1", false),
            candidate("/16", "pg_dump (PostgreSQL) 16.1", true),
            candidate("/15", "pg_dump (PostgreSQL) 15.18", false),
            candidate("/15b", "pg_dump (PostgreSQL) 15.19", false),
        ];
        for (server, expected) in
            [(130_004, Some("/15")), (150_000, Some("/15")), (160_002, Some("/16")), (170_009, Some("/17")), (180_000, None)]
        {
            assert_eq!(choose(&all, server), expected.map(Path::new), "{server}");
        }
    }

    #[test]
    fn what_is_lacking_is_told_with_what_is_there_and_what_to_install() {
        let none = lacking(&[], 180_006);
        assert_eq!(
            none,
            "reading the schema of a PostgreSQL 18.6 server needs `pg_dump` 18 or newer, and none was found; install it with `apt install \
             postgresql-client-18` (Debian, Ubuntu), `dnf install postgresql` (Fedora) or `brew install libpq` (macOS)"
        );
        let older = lacking(&[candidate("/a/pg_dump", "pg_dump (PostgreSQL) 15.18", false)], 180_006);
        assert!(older.contains("newer, and only older ones were found: 15.18 (`/a/pg_dump`); install"), "{older}");
    }

    #[test]
    fn a_star_stands_for_what_is_there_newest_first() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["pgsql-9.6", "pgsql-15", "pgsql-9", "other"] {
            fs_err::create_dir(folder.path().join(name)).expect("made");
        }
        let root = folder.path().display();
        let expected: Vec<_> = ["15", "9.6", "9"].iter().map(|version| PathBuf::from(format!("{root}/pgsql-{version}/bin"))).collect();
        assert_eq!(expand(&format!("{root}/pgsql-*/bin")), expected);
        assert_eq!(expand("/no/such/*/bin"), Vec::<PathBuf>::new());
        assert_eq!(expand("/a/b"), [PathBuf::from("/a/b")]);
    }

    #[cfg(unix)]
    #[test]
    fn programs_that_do_not_answer_and_relative_folders_are_passed_over() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let mut folders = vec![PathBuf::from("."), PathBuf::new()];
        for (name, text) in [
            ("mute", "#!/bin/sh\nexit 1\n"),
            ("old", "#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.1'\n"),
            ("new", "#!/bin/sh\necho 'pg_dump (PostgreSQL) 77.1'\n"),
        ] {
            let path = folder.path().join(name);
            fs_err::create_dir(&path).expect("made");
            fs_err::write(path.join("pg_dump"), text).expect("written");
            fs_err::set_permissions(path.join("pg_dump"), std::fs::Permissions::from_mode(0o755)).expect("set");
            folders.push(path);
        }
        assert_eq!(find(&folders, 770_000).expect("found"), folder.path().join("new/pg_dump"));
        let error = find(&folders, 780_000).expect_err("none fits").to_string();
        assert!(error.contains("12.1 (`") && error.contains("77.1 (`") && error.contains("postgresql-client-78"), "{error}");
    }
}
