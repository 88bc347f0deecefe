//! Pages that are not as they should be: an error, or what SQLite reads of them.

use super::*;
use crate::engine::EngineError;

/// Picks a byte that says how others are to be read: of a page's head, of its list of cells, or of the head of a cell; of the first page none, which is for
/// SQLite to make sense of.
fn aim(whole: &[u8], page_bytes: usize, dice: &mut Dice) -> usize {
    let page = page_bytes * (1 + dice.below((whole.len() / page_bytes) as u64 - 1) as usize);
    let pointers = page + if matches!(whole[page], 2 | 5) { 12 } else { 8 };
    match dice.below(6) {
        0 => page + dice.below(12) as usize,
        1 => pointers + dice.below(16) as usize,
        2 => page + dice.below(page_bytes as u64) as usize,
        _ => {
            let cells = u64::from(u16::from_be_bytes([whole[page + 3], whole[page + 4]]));
            let pointer = pointers + 2 * dice.below(cells.min(page_bytes as u64 / 4)) as usize;
            let cell = usize::from(u16::from_be_bytes([whole[pointer], whole[pointer + 1]]));
            page + (cell + dice.below(8) as usize) % page_bytes
        }
    }
}

/// Damages one to three bytes of a database, many times; returns how often a table was not read from pages for it.
fn damage(form: &str, page_bytes: usize, seed: u64, times: u32) -> u32 {
    let (_folder, path) = in_folder();
    drop(make(&path, form, 60, &mut Dice(seed, page_bytes as u64)));
    let whole = std::fs::read(&path).expect("read");
    let rule = CutRule { rows_target: 16 };
    let mut dice = Dice(seed + 99, 0);
    let mut odd = 0;
    for round in 0..times {
        let mut bytes = whole.clone();
        let places: Vec<usize> = (0..1 + dice.below(3)).map(|_| aim(&whole, page_bytes, &mut dice)).collect();
        for &at in &places {
            bytes[at] = if dice.below(2) == 0 { dice.below(256) as u8 } else { bytes[at] ^ 1 << dice.below(8) };
        }
        let what = format!("{form} seed {seed}, round {round}, bytes {places:?}");
        std::fs::write(&path, &bytes).expect("written");
        let Ok(mut engine) = Sqlite::open(&path, &options(false)) else { continue };
        let Ok(mut read) = engine.begin_read() else { continue };
        let Ok(shapes) = read.shapes() else { continue };
        for shape in shapes {
            let (mut paged, mut queried) = (Read::new(), Read::new());
            let parts = read.parts(&shape, 1).expect("parts");
            let Some(part) = parts.first() else {
                odd += 1;
                continue;
            };
            let outcome = read.read_part(&shape, part, rule, &mut collect(&mut paged));
            match outcome {
                Err(EngineError::Void(_)) => odd += 1,
                Err(error) => panic!("{what}: {error}"),
                // Where SQLite reads it too, it reads the same.
                Ok(()) => {
                    if read.read_table(&shape, rule, &mut collect(&mut queried)).is_ok() {
                        assert_eq!(paged, queried, "{what}: {}", shape.name);
                    }
                }
            }
        }
    }
    odd
}

#[test]
fn a_damaged_page_is_an_error_or_reads_as_sqlite_reads_it() {
    let odd = damage("PRAGMA page_size=512;", 512, 5, 300);
    assert!(odd > 60, "{odd} were noticed");
}

#[test]
#[ignore = "takes minutes"]
fn many_damaged_pages_are_errors_or_read_as_sqlite_reads_them() {
    for seed in 0..20 {
        let page_bytes = [512, 1024, 4096][seed as usize % 3];
        let encoding = ["UTF-8", "UTF-16le"][seed as usize % 2];
        let form = format!("PRAGMA page_size={page_bytes}; PRAGMA encoding='{encoding}'; PRAGMA auto_vacuum={};", seed % 3);
        assert!(damage(&form, page_bytes, seed, 1_000) > 100, "{form}");
    }
}
