//! The library between a process and its files: see `shim_faults.c`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::sandbox::compile;

/// What happens at the n-th call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before it.
    Kill,
    /// The process dies after half of a write.
    Tear,
    /// It fails once.
    IoError,
    /// There is no room, from then on.
    Full,
    /// Nothing; calls are written down.
    Trace,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Tear => "tear",
            Self::IoError => "eio",
            Self::Full => "full",
            Self::Trace => "trace",
        }
    }
}

/// The compiled library, and a counter that the processes under it share.
pub struct Shim {
    dir: tempfile::TempDir,
}

/// The library is compiled once a test run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &LIBRARY
        .get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let library = dir.path().join("shim.so");
            compile("shim_faults.c", &library);
            (dir, library)
        })
        .1
}

impl Shim {
    pub fn new() -> Self {
        library();
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn counter(&self) -> PathBuf {
        self.dir.path().join("counter")
    }

    /// Where a trace is written.
    pub fn trace(&self) -> PathBuf {
        self.dir.path().join("trace")
    }

    /// Puts a fault at the n-th call of a command on files below a folder; with 0 they are only counted.
    pub fn arm(&self, command: &mut Command, folder: &Path, fault: Fault, at: u64) {
        std::fs::write(self.counter(), [0; 16]).unwrap();
        command
            .env("LD_PRELOAD", library())
            .env("DBELAY_FAULT", format!("{}:{at}", fault.word()))
            .env("DBELAY_FAULT_BELOW", folder.canonicalize().unwrap())
            .env("DBELAY_FAULT_COUNTER", self.counter())
            .env("DBELAY_FAULT_TRACE", self.trace());
    }

    /// Returns how many calls there were since.
    pub fn calls(&self) -> u64 {
        let bytes = std::fs::read(self.counter()).unwrap();
        u64::from_ne_bytes(bytes[..8].try_into().unwrap())
    }
}
