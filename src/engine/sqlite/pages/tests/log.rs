//! Databases in WAL mode: what stands in the log is read from there, and what others do meanwhile is not seen.

use super::super::log::checksum;
use super::*;

/// Lets a database keep everything in its log.
const LOG: &str = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;";

const CARRY: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];

fn run(connection: &Connection, sql: &str) {
    connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    super::super::super::beside(path, suffix)
}

fn log_bytes(path: &Path) -> u64 {
    beside(path, "-wal").metadata().map_or(0, |log| log.len())
}

/// Opens another connection, which waits for nobody.
fn other(path: &Path) -> Connection {
    let other = Connection::open(path).expect("opened");
    other.busy_timeout(std::time::Duration::ZERO).expect("set");
    run(&other, "PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF;");
    other
}

fn same_both_ways(path: &Path, what: &str) {
    for rows_target in [4, 1 << 40] {
        let rule = CutRule { rows_target };
        assert_same(&by_pages(path, rule).0, &by_sql(path, rule), what);
    }
}

#[test]
fn what_stands_in_the_log_is_read_as_sql_reads_it() {
    for (round, (page, form)) in forms().into_iter().enumerate() {
        let (_folder, path) = in_folder();
        let mut dice = Dice(round as u64 + 11, page);
        let connection = make(&path, &format!("{form}{LOG}"), 120, &mut dice);
        // Nothing but the first page stands in the file.
        assert!(path.metadata().expect("there").len() <= page && log_bytes(&path) > page * 20, "{form}");
        same_both_ways(&path, &form);
        let rule = CutRule { rows_target: 8 };
        let (mut tables, mut memory) = by_pages(&path, rule);
        let mut known_total = 0;
        for (step, sql) in [
            "PRAGMA wal_checkpoint(PASSIVE)",
            "UPDATE alias SET a = a + 1 WHERE id % 9 = 0; DELETE FROM hidden WHERE rowid % 8 = 1",
            "PRAGMA wal_checkpoint(PASSIVE); UPDATE flat SET c = 'new' WHERE d % 5 = 0",
            "DELETE FROM alias WHERE id > 50; DELETE FROM taken; VACUUM",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "INSERT INTO alias(id, b) VALUES(9000, zeroblob(200000)); UPDATE hidden SET a = 'u' WHERE rowid % 6 = 0",
            "PRAGMA wal_checkpoint(RESTART); UPDATE keyed SET c = 1.5",
        ]
        .into_iter()
        .enumerate()
        {
            run(&connection, sql);
            let what = format!("{form} step {step}: {sql}");
            let (now, memory_now, known) = again(&path, rule, &tables, &memory);
            assert_same(&now, &by_sql(&path, rule), &what);
            known_total += known.tables;
            (tables, memory) = (now, memory_now);
        }
        assert!(known_total > 20, "{form}: {known_total} tables were known");
    }
}

/// Reads every table in one transaction from pages and through SQL.
fn compare(read: &mut dyn ReadTransaction, shapes: &[TableShape], what: &str) -> Vec<Read> {
    let rule = CutRule { rows_target: 8 };
    let mut all = Vec::new();
    for shape in shapes {
        let (mut paged, mut queried) = (Read::new(), Read::new());
        let parts = read.parts(shape, 1).expect("parts");
        let part = parts.first().unwrap_or_else(|| panic!("{what}: {:?}", read.remarks()));
        read.read_part(shape, part, rule, &mut collect(&mut paged)).unwrap_or_else(|error| panic!("{what}: {error}"));
        read.read_table(shape, rule, &mut collect(&mut queried)).expect("read");
        assert_eq!(paged, queried, "{what}: {}", shape.name);
        all.push(paged);
    }
    all
}

#[test]
fn what_others_commit_and_carry_over_while_it_is_read_is_not_seen() {
    // How much of the log was carried over when reading begins.
    for begin in ["nothing", "some", "all", "empty"] {
        for carry in CARRY {
            let (_folder, path) = in_folder();
            let connection = make(&path, &format!("PRAGMA page_size=1024; {LOG}"), 60, &mut Dice(3, 1024));
            connection.busy_timeout(std::time::Duration::ZERO).expect("set");
            match begin {
                "some" => {
                    let early = other(&path);
                    run(&early, "BEGIN; SELECT count(*) FROM alias");
                    run(&connection, "UPDATE alias SET a = 3; UPDATE hidden SET c = 'x'; PRAGMA wal_checkpoint(PASSIVE)");
                    run(&early, "COMMIT");
                }
                "all" => run(&connection, "PRAGMA wal_checkpoint(PASSIVE)"),
                "empty" => run(&connection, "PRAGMA wal_checkpoint(TRUNCATE)"),
                _ => {}
            }
            let what = format!("{begin} carried over, then {carry}");
            let mut engine = Sqlite::open(&path, &options(false)).expect("opened");
            let mut read = engine.begin_read().expect("begun");
            let shapes = read.shapes().expect("shapes");
            // Only some are looked at before others write.
            let early = compare(&mut *read, &shapes[..2], &what);
            for round in 0..3 {
                run(
                    &connection,
                    &format!(
                        "UPDATE alias SET a = a + {round}, c = hex(randomblob(300)); DELETE FROM flat WHERE d % 3 = {round}; UPDATE hidden SET a = randomblob(500)"
                    ),
                );
                run(&connection, &format!("PRAGMA wal_checkpoint({carry})"));
                run(&connection, "DELETE FROM taken; UPDATE keyed SET a = randomblob(70); INSERT INTO taken VALUES(1, 2, zeroblob(30000))");
                let late = compare(&mut *read, &shapes, &what);
                assert_eq!(early, late[..2], "{what}");
            }
            drop(read);
            drop(engine);
            same_both_ways(&path, &what);
        }
    }
}

/// Copies a database with its log, as a crash leaves it.
fn crashed(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
    let (folder, copy) = in_folder();
    std::fs::copy(path, &copy).expect("copied");
    let mut log = std::fs::read(beside(path, "-wal")).expect("read");
    change(&mut log);
    std::fs::write(beside(&copy, "-wal"), log).expect("written");
    (folder, copy)
}

#[test]
fn a_transaction_that_was_not_written_whole_is_not_read() {
    let (_folder, path) = in_folder();
    let connection = make(&path, &format!("PRAGMA page_size=1024; {LOG}"), 60, &mut Dice(4, 1024));
    let frame = 24 + 1024;
    run(&connection, "UPDATE hidden SET a = randomblob(900)");
    for cut in [1, frame / 2, frame, frame * 3, frame * 20 + 7] {
        let (_copied, copy) = crashed(&path, |log| log.truncate(log.len() - cut));
        same_both_ways(&copy, &format!("cut by {cut}"));
    }
    for back in [1, frame, frame * 9] {
        let (_copied, copy) = crashed(&path, |log| {
            let at = log.len() - back;
            log[at] ^= 1;
        });
        same_both_ways(&copy, &format!("changed {back} bytes before the end"));
    }
    let (_copied, copy) = crashed(&path, |log| log.extend_from_within(log.len() - frame..));
    same_both_ways(&copy, "a frame too many");
}

#[test]
fn a_log_that_a_machine_of_the_other_byte_order_wrote_is_read() {
    let (_folder, path) = in_folder();
    drop(make(&path, "PRAGMA page_size=512;", 0, &mut Dice(4, 512)));
    let connection = other(&path);
    run(&connection, &format!("{LOG} INSERT INTO hidden VALUES(1, 2, zeroblob(3000)); UPDATE hidden SET a = 5"));
    let (_copied, copy) = crashed(&path, |log| {
        log[3] ^= 1;
        let is_big = log[3] & 1 == 1;
        let mut sum = checksum(&log[..24], (0, 0), is_big);
        let put = |place: &mut [u8], sum: (u32, u32)| {
            place[..4].copy_from_slice(&sum.0.to_be_bytes());
            place[4..].copy_from_slice(&sum.1.to_be_bytes());
        };
        put(&mut log[24..32], sum);
        for frame in log[32..].chunks_exact_mut(24 + 512) {
            sum = checksum(&frame[24..], checksum(&frame[..8], sum, is_big), is_big);
            put(&mut frame[16..24], sum);
        }
    });
    let rule = CutRule { rows_target: 8 };
    same_both_ways(&copy, "the other byte order");
    // It is the log that was read, and not the file without it.
    assert_same(&by_pages(&copy, rule).0, &by_sql(&path, rule), "the other byte order");
}

#[test]
fn a_link_to_a_database_with_a_log_is_read_with_the_log() {
    let (folder, path) = in_folder();
    let connection = make(&path, LOG, 40, &mut Dice(4, 4096));
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    same_both_ways(&link, "a link");
    run(&connection, "UPDATE alias SET a = 77");
    same_both_ways(&link, "a link, later");
}

#[test]
fn the_log_of_another_database_is_not_taken() {
    let (_folder, path) = in_folder();
    let connection = make(&path, LOG, 40, &mut Dice(4, 4096));
    let (_other_folder, foreign) = in_folder();
    let _keeps = make(&foreign, LOG, 40, &mut Dice(9, 4096));
    let mut engine = Sqlite::open(&path, &options(false)).expect("opened");
    run(&connection, "UPDATE alias SET a = 77");
    // Under the connections' hands: what they have open has no name any more.
    std::fs::remove_file(beside(&path, "-wal")).expect("removed");
    std::fs::copy(beside(&foreign, "-wal"), beside(&path, "-wal")).expect("copied");
    let mut read = engine.begin_read().expect("begun");
    assert!(read.remarks().iter().any(|remark| remark.contains("is not that of its index")), "{:?}", read.remarks());
    let shapes = read.shapes().expect("shapes");
    assert!(read.parts(&shapes[0], 1).expect("parts").is_empty());
}

#[test]
fn an_index_that_this_user_cannot_write_is_not_trusted() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = in_folder();
    let _connection = make(&path, LOG, 40, &mut Dice(4, 4096));
    let index = beside(&path, "-shm");
    let mut engine = Sqlite::open(&path, &options(false)).expect("opened");
    std::fs::set_permissions(&index, std::fs::Permissions::from_mode(0o444)).expect("set");
    let mut held = None;
    super::super::log::Index::hold(&mut held, &path);
    let is_allowed_all = rustix::fs::access(&index, rustix::fs::Access::WRITE_OK).is_ok();
    assert_eq!(held.as_ref().and_then(super::super::log::Index::mark).is_some(), is_allowed_all);
    drop(engine.begin_read().expect("begun"));
}

#[test]
fn beside_a_busy_writer_each_transaction_is_one_state() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (_folder, path) = in_folder();
    let writer = make(&path, &format!("PRAGMA page_size=512; {LOG}"), 20, &mut Dice(6, 512));
    writer.busy_timeout(std::time::Duration::ZERO).expect("set");
    let is_over = AtomicBool::new(false);
    let from_pages = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let writer = writer;
            let mut round = 0_usize;
            // While it is read the log only grows, and each reading reads it whole.
            while !is_over.load(Ordering::Relaxed) && round < 60 {
                run(
                    &writer,
                    &format!(
                        "UPDATE alias SET a = {round}; UPDATE hidden SET a = {round}, c = zeroblob({}); UPDATE flat SET c = {round}",
                        round * 37 % 3000
                    ),
                );
                if round.is_multiple_of(3) {
                    run(&writer, &format!("PRAGMA wal_checkpoint({})", CARRY[round / 3 % 4]));
                }
                round += 1;
            }
            round
        });
        let mut engine = Sqlite::open(&path, &options(false)).expect("opened");
        let mut from_pages = 0;
        for round in 0..20 {
            let mut read = engine.begin_read().expect("begun");
            // Where the writer leaves no gap, SQL is there; what is read from pages is right.
            if read.remarks().is_empty() {
                let shapes = read.shapes().expect("shapes");
                compare(&mut *read, &shapes, &format!("round {round}"));
                from_pages += 1;
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(thread.join().expect("it wrote") > 0);
        from_pages
    });
    assert!(from_pages > 0, "nothing was read from pages");
}
