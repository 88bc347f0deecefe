//! What the environment says of a benchmark, and where its files are.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Tells whether figures are wanted: `cargo test --benches` runs benchmarks too, and wants none.
pub fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Returns the value of a variable, or what holds without it.
pub fn read<T: FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Tells whether a variable is set to anything but nothing and `0`.
pub fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Ends the benchmark as a failure where bars are missed and `DBELAY_BENCH_STRICT` is set.
pub fn judge(missed: usize) {
    assert!(missed == 0 || !is_set("DBELAY_BENCH_STRICT"), "{missed} bars are missed");
}

/// The folder of a benchmark's files: the one that `DBELAY_BENCH_FOLDER` names, which is kept for the next run, or one that goes with the value.
pub struct Folder {
    path: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Folder {
    /// Opens the folder.
    pub fn open() -> Self {
        if let Some(path) = std::env::var_os("DBELAY_BENCH_FOLDER") {
            std::fs::create_dir_all(&path).unwrap();
            return Self { path: std::fs::canonicalize(path).unwrap(), _temporary: None };
        }
        let temporary = tempfile::Builder::new().prefix("dbelay-bench-").tempdir().unwrap();
        Self { path: temporary.path().to_owned(), _temporary: Some(temporary) }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes an empty folder in it, which is removed with the value.
    pub fn work(&self) -> tempfile::TempDir {
        tempfile::Builder::new().prefix("work-").tempdir_in(&self.path).unwrap()
    }
}

/// Returns the bytes of the files in a folder; none where it is not there.
pub fn folder_bytes(folder: &Path) -> u64 {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum()
}
