//! Others' locks: waiting for them, and telling who has them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

/// How long to pause between two tries for the write lock. SQLite's own busy handler pauses up to 100 ms, and so never meets the gap that
/// a program leaves which writes one transaction after another.
const PAUSE: Duration = Duration::from_micros(500);

/// Begins a transaction that holds the write lock, waiting for it as long as it may.
pub(super) fn begin_immediate(connection: &Connection, busy_ms: u64) -> Result<(), rusqlite::Error> {
    let wait = Duration::from_millis(busy_ms);
    let started = Instant::now();
    connection.busy_timeout(Duration::ZERO)?;
    let begun = loop {
        match connection.execute_batch("BEGIN IMMEDIATE") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && started.elapsed() < wait => thread::sleep(PAUSE),
            begun => break begun,
        }
    };
    connection.busy_timeout(wait)?;
    begun
}

/// Says which processes hold a lock on a database, writers before readers: ``, `sqlite3` (process 4711)``; nothing where the system does not
/// tell.
///
/// SQLite's locks are POSIX locks on the database file (rollback journal) or on its `-shm` file (WAL), and Linux lists those by
/// inode in `/proc/locks`: <https://www.sqlite.org/lockingv3.html>, <https://www.sqlite.org/walformat.html>.
#[cfg(target_os = "linux")]
pub(super) fn holders(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let name = |path: &Path| {
        let metadata = path.metadata().ok()?;
        let device = metadata.dev();
        Some(format!("{:02x}:{:02x}:{}", rustix::fs::major(device), rustix::fs::minor(device), metadata.ino()))
    };
    let files: Vec<String> = [path.to_owned(), super::beside(path, "-shm")].iter().filter_map(|path| name(path)).collect();
    let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut found = listed(&table, &files);
    found.retain(|(_, pid)| *pid != std::process::id());
    // Only those who write keep others from reading; where there are none, readers keep a writer from committing.
    if found.iter().any(|(is_writer, _)| *is_writer) {
        found.retain(|(is_writer, _)| *is_writer);
    }
    let mut names: Vec<String> = Vec::new();
    for (_, pid) in found {
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = match command.trim() {
            "" => format!("process {pid}"),
            command => format!("`{command}` (process {pid})"),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { String::new() } else { format!(", {}", names.join(" and ")) }
}

/// Says nothing: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn holders(_: &Path) -> String {
    String::new()
}

/// Finds the locks on these files (device and inode, as it writes them) in the text of `/proc/locks`: whether for writing, and by which process.
#[cfg(any(target_os = "linux", test))]
fn listed(table: &str, files: &[String]) -> Vec<(bool, u32)> {
    let lock = |line: &str| {
        // `1: POSIX  ADVISORY  WRITE 4711 08:02:131085 1073741825 1073741825`; who only waits has `->` after the number.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, mode, pid, file, ..] = words.as_slice() else { return None };
        files.iter().any(|known| known == file).then_some((*mode == "WRITE", pid.parse().ok()?))
    };
    table.lines().filter_map(lock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_found_by_file_and_waiters_are_left_out() {
        let table = "1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF\n\
                     2: POSIX  ADVISORY  READ 12 fd:00:99 1073741826 1073742335\n\
                     2: -> POSIX  ADVISORY  WRITE 13 fd:00:99 1073741826 1073742335\n\
                     3: FLOCK  ADVISORY  WRITE x fd:00:99 0 EOF\nnonsense\n";
        let files = ["fd:00:99", "fd:00:2531452", "fd:01:99"].map(str::to_owned);
        assert_eq!(listed(table, &files[..1]), [(false, 12)]);
        assert_eq!(listed(table, &files[..2]), [(true, 3568), (false, 12)]);
        assert_eq!(listed(table, &files[2..]), []);
    }
}
