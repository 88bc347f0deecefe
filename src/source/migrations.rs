//! Where a project's migrations are: the files that `[migrate] files` names, or common places.
//!
//! Bounded throughout: folders to a depth, entries, bytes of a file. Folders of dependencies are not entered, links not followed.

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
}

/// Names the common places that have files.
pub fn places(root: &Path) -> Vec<&'static str> {
    let is_there = |place: &&&'static str| find(root, std::slice::from_ref(*place)).is_ok_and(|found| !found.is_empty());
    COMMON_PLACES.iter().filter(is_there).copied().collect()
}

/// Lists the files below a root that some pattern matches, by path; files that go down are left out.
///
/// # Errors
/// [`MigrationsError::Pattern`].
pub fn find(root: &Path, patterns: &[impl AsRef<str>]) -> Result<Vec<String>, MigrationsError> {
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
        for entry in walk.take(ENTRIES_MAX).filter_map(Result::ok).filter(|entry| entry.path().is_file()) {
            let Ok(relative) = entry.path().strip_prefix(root) else { continue };
            let path = relative.to_string_lossy().replace('\\', "/");
            if !goes_down(&path) && matchers.iter().any(|matcher| matcher.is_match(&path)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
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
}
