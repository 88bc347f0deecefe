//! Where a project's migrations are: the files that `[migrate] files` names, or common places.
//!
//! Bounded throughout: folders to a depth, entries, bytes of a file. Folders of dependencies are not entered, links not followed.
//!
//! Their order is that in which tools run them. A name that begins with a number (after `V`, where it does; `1.2` and Flyway's `1_2__` are two
//! numbers) stands before one without, by its numbers: `9_b` before `10_a`. What is equal so far, and names without numbers, stand by bytes.

use std::cmp::Ordering;
use std::io::Read;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// The most folder entries looked at.
const ENTRIES_MAX: usize = 200_000;
/// How deep a file lies at most.
const DEPTH_MAX: usize = 12;
/// The longest file that is read.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Folders that hold other people's files, or none.
const SKIPPED: [&str; 7] = ["node_modules", ".git", ".dbelay", "target", ".venv", "venv", "__pycache__"];

/// Where tools keep migrations that are SQL.
pub const COMMON_PLACES: [&str; 10] = [
    "prisma/migrations/*/migration.sql",
    "drizzle/*.sql",
    "drizzle/*/migration.sql",
    "db/migrations/*.sql",
    "db/migrate/*.sql",
    "migrations/*.sql",
    "migrations/*/up.sql",
    "migrations/*/migration.sql",
    "supabase/migrations/*.sql",
    "sql/migrations/*.sql",
];

/// A file of migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationFile {
    /// Its path from the root, with slashes.
    pub path: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A migration file that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MigrationsError {
    /// The pattern is none.
    #[error("`files` has a pattern that cannot be read: {0}")]
    Pattern(#[from] globset::Error),
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A folder holds more than is looked at.
    #[error(
        "`{folder}` has more than {ENTRIES_MAX} entries, so not every migration would be found: `files` in dbelay.toml can name them closer"
    )]
    TooMany {
        /// The folder, from the root.
        folder: String,
    },
}

/// Names the common places that have files.
pub fn places(root: &Path) -> Vec<&'static str> {
    // A folder with too much in it is named, so that whoever looks for its files is told.
    let is_there = |place: &&&'static str| find(root, std::slice::from_ref(*place)).map_or(true, |found| !found.is_empty());
    COMMON_PLACES.iter().filter(is_there).copied().collect()
}

/// Lists the files below a root that some pattern matches, in the order of their versions; files that go down are left out.
///
/// # Errors
/// [`MigrationsError::Pattern`], [`MigrationsError::TooMany`].
pub fn find(root: &Path, patterns: &[impl AsRef<str>]) -> Result<Vec<String>, MigrationsError> {
    find_within(root, patterns, ENTRIES_MAX)
}

fn find_within(root: &Path, patterns: &[impl AsRef<str>], entries_max: usize) -> Result<Vec<String>, MigrationsError> {
    let matcher = |pattern: &str| Ok(GlobBuilder::new(pattern.trim_start_matches("./")).literal_separator(true).build()?.compile_matcher());
    let matchers: Vec<GlobMatcher> = patterns.iter().map(|pattern| matcher(pattern.as_ref())).collect::<Result<_, globset::Error>>()?;
    let mut found = Vec::new();
    // Only folders that a pattern begins with are entered.
    let mut starts: Vec<PathBuf> = patterns.iter().map(|pattern| root.join(literal_start(pattern.as_ref()))).collect();
    starts.sort();
    starts.dedup();
    for start in starts {
        let wanted = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !(entry.file_type().is_dir() && SKIPPED.contains(&entry.file_name().to_string_lossy().as_ref()))
        };
        let walk = walkdir::WalkDir::new(&start).max_depth(DEPTH_MAX).sort_by_file_name().into_iter().filter_entry(wanted);
        for (number, entry) in walk.enumerate() {
            if number == entries_max {
                let folder = start.strip_prefix(root).unwrap_or(&start).to_string_lossy().replace('\\', "/");
                return Err(MigrationsError::TooMany { folder: if folder.is_empty() { ".".to_owned() } else { folder } });
            }
            let Some(entry) = entry.ok().filter(|entry| entry.file_type().is_file()) else { continue };
            let Ok(relative) = entry.path().strip_prefix(root) else { continue };
            let path = relative.to_string_lossy().replace('\\', "/");
            if !goes_down(&path) && matchers.iter().any(|matcher| matcher.is_match(&path)) {
                found.push(path);
            }
        }
    }
    found.sort_by(|a, b| by_version(a, b));
    found.dedup();
    Ok(found)
}

/// Compares paths part by part, by [`version`] and then by bytes.
fn by_version(a: &str, b: &str) -> Ordering {
    let unequal = a.split('/').zip(b.split('/')).map(|(a, b)| by_part(a, b)).find(|order| order.is_ne());
    unequal.unwrap_or_else(|| a.split('/').count().cmp(&b.split('/').count()))
}

fn by_part(a: &str, b: &str) -> Ordering {
    match (version(a), version(b)) {
        (Some(first), Some(second)) => first.cmp(&second).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Returns the numbers that a name begins with, each as its length without leading zeros and its digits: so they compare whatever their size.
fn version(name: &str) -> Option<Vec<(usize, &str)>> {
    let bare = name.strip_prefix(['V', 'v']).unwrap_or(name);
    // Flyway divides by `_` as by `.`, and ends the version with `__`.
    let is_flyway = bare.len() < name.len() && bare.contains("__");
    let mut numbers = Vec::new();
    let mut rest = bare;
    loop {
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        if digits.is_empty() {
            break;
        }
        let digits = digits.trim_start_matches('0');
        numbers.push((digits.len(), digits));
        let divided = after.strip_prefix('.').or_else(|| after.strip_prefix('_').filter(|_| is_flyway));
        let Some(next) = divided else { break };
        rest = next;
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// Reads one of the files.
///
/// # Errors
/// [`MigrationsError::Read`], also for a file that is longer than any migration.
pub fn read(root: &Path, path: &str) -> Result<MigrationFile, MigrationsError> {
    let fail = |source| MigrationsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(root.join(path)).map_err(fail)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(std::io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes"))));
    }
    Ok(MigrationFile { path: path.to_owned(), bytes })
}

fn literal_start(pattern: &str) -> PathBuf {
    let pattern = pattern.trim_start_matches("./");
    let literal = pattern.split('/').take_while(|part| !part.contains(['*', '?', '[', '{']));
    let start: PathBuf = literal.collect();
    if pattern.contains(['*', '?', '[', '{']) { start } else { start.parent().map(Path::to_owned).unwrap_or_default() }
}

fn goes_down(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name == "down.sql" || name.ends_with(".down.sql") || name.ends_with("_down.sql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_pattern_in_their_order() {
        let root = tempfile::tempdir().expect("a folder");
        for name in [
            "prisma/migrations/2_b/migration.sql",
            "prisma/migrations/1_a/migration.sql",
            "migrations/1.up.sql",
            "migrations/1.down.sql",
            "node_modules/x/migrations/1.sql",
            "migrations/notes.txt",
        ] {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs_err::write(path, "SELECT 1").expect("a file");
        }
        let found = |patterns: &[&str]| find(root.path(), patterns).expect("patterns");
        assert_eq!(found(&["./prisma/**/*.sql"]), ["prisma/migrations/1_a/migration.sql", "prisma/migrations/2_b/migration.sql"]);
        assert_eq!(found(&["migrations/1.up.sql", "nothing/*.sql"]), ["migrations/1.up.sql"]);
        assert_eq!(found(&["**/*.sql"]).len(), 3);
        assert_eq!(places(root.path()), ["prisma/migrations/*/migration.sql", "migrations/*.sql"]);
        assert_eq!(read(root.path(), "migrations/1.up.sql").expect("a file").bytes, b"SELECT 1");
        assert!(find(root.path(), &["a[".to_owned()]).is_err());
        assert!(read(root.path(), "no.sql").expect_err("none").to_string().contains("`no.sql`"));
    }

    #[test]
    fn versions_are_numbers_and_the_rest_bytes() {
        let check = |expected: &[&str]| {
            let mut sorted: Vec<&str> = expected.iter().rev().copied().collect();
            sorted.sort_by(|a, b| by_version(a, b));
            assert_eq!(sorted, expected);
        };
        check(&["m/9_x.up.sql", "m/10_x.up.sql", "m/A.sql"]);
        check(&["m/V1__a.sql", "m/V1.2__a.sql", "m/V1_10__b.sql", "m/V2__a.sql", "m/V10__a.sql", "m/R__views.sql"]);
        check(&["1.9.0_a.sql", "1.10_a.sql", "2.sql"]);
        check(&["000009_b.sql", "9_c.sql", "0010_a.sql", "99999999999999999999999999999999999999999_a.sql"]);
        check(&["p/2_b/migration.sql", "p/10_a/migration.sql"]);
        check(&["2024-01-02-030405_b/up.sql", "2024-02-01-000000_a/up.sql"]);
        check(&["20240101000000_b.sql", "20240102000000_a.sql"]);
        check(&["V2__a.sql", "10_b.sql", "A.sql"]);
    }

    #[test]
    fn a_folder_with_too_much_in_it_is_an_error_and_no_cut_list() {
        let root = tempfile::tempdir().expect("a folder");
        fs_err::create_dir(root.path().join("m")).expect("a folder");
        for name in ["m/1.sql", "m/2.sql"] {
            fs_err::write(root.path().join(name), "SELECT 1").expect("a file");
        }
        assert_eq!(find_within(root.path(), &["m/*.sql"], 3).expect("the folder and two files").len(), 2);
        let error = find_within(root.path(), &["m/*.sql"], 2).expect_err("one too many");
        assert!(error.to_string().contains("`m` has more than"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let root = tempfile::tempdir().expect("a folder");
        let outside = tempfile::NamedTempFile::new().expect("a file");
        fs_err::create_dir(root.path().join("m")).expect("a folder");
        fs_err::write(root.path().join("m/1.sql"), "SELECT 1").expect("a file");
        std::os::unix::fs::symlink(outside.path(), root.path().join("m/2.sql")).expect("a link");
        assert_eq!(find(root.path(), &["m/*.sql"]).expect("a pattern"), ["m/1.sql"]);
    }
}
