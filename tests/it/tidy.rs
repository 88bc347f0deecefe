//! Reads the source's imports and fails on what the architecture does not allow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Module, and what it may import from the crate. A module may always import itself and what stands below it.
const ALLOWED: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("value", &["id"]),
    ("rows", &["id", "value"]),
    ("schema", &["id", "value", "rows"]),
    ("progress", &[]),
    ("durable", &[]),
    ("process", &[]),
    ("config", &["source", "snapshot"]),
    ("source", &["config"]),
    ("git", &["snapshot"]),
    ("hooks", &[]),
    ("engine", &["id", "value", "rows", "schema", "progress", "source"]),
    ("store", &["id", "durable", "progress"]),
    ("snapshot", &["id", "value", "rows", "schema", "store"]),
    ("files", &["id", "durable", "snapshot"]),
    ("render", &["id", "value", "rows", "schema", "snapshot"]),
    ("check", &["id", "value", "rows", "schema"]),
    (
        "ops",
        &[
            "id", "value", "rows", "schema", "progress", "engine", "store", "snapshot", "render", "source", "config", "process", "check",
            "files",
        ],
    ),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the first names after `crate::` in the code part of a file, in use lists too.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        let code = line.split(" // ").next().unwrap();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            found.push(name);
        }
    }
    found
}

#[test]
fn imports_follow_the_architecture() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut offences = Vec::new();
    for path in sources(&root()) {
        let relative = path.strip_prefix(root()).unwrap().to_owned();
        let top = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        // What only tests see may look at everything.
        if matches!(top.as_str(), "main" | "lib" | "cli") || relative.ends_with("testing.rs") {
            continue;
        }
        let may = allowed.get(top.as_str()).unwrap_or_else(|| panic!("`{top}` has no line in the table of imports"));
        for name in imports(&std::fs::read_to_string(&path).unwrap()) {
            if name != top && !may.contains(&name.as_str()) {
                offences.push(format!("{} imports {name}", relative.display()));
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn no_engine_imports_another() {
    let engines = root().join("engine");
    for path in sources(&engines) {
        let relative = path.strip_prefix(&engines).unwrap().to_owned();
        let own = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for other in ["sqlite", "postgres", "mysql"].into_iter().filter(|other| *other != own) {
            assert!(!text.contains(&format!("engine::{other}")), "{} imports {other}", path.display());
        }
    }
}

#[test]
fn only_one_module_renames_syncs_prints_or_reads_the_clock() {
    let rules: &[(&[&str], &[&str])] = &[
        (&["fs::rename", ".sync_all()", ".sync_data()"], &["durable.rs"]),
        (&["println!", "eprintln!", "print!(", "eprint!("], &["cli/output.rs"]),
        (&["Utc::now()", "Local::now()", "SystemTime::now()", "env::var", "env::vars", "env::current_dir"], &["main.rs"]),
    ];
    let mut offences = Vec::new();
    for path in sources(&root()) {
        let relative = path.strip_prefix(root()).unwrap().display().to_string();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (words, places) in rules {
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    if !places.contains(&relative.as_str()) {
                        offences.push(format!("{relative}: {word}"));
                    }
                }
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in sources(&root()) {
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("//!"), "{} does not start with `//!`", path.display());
    }
}

#[test]
fn every_test_that_the_checklist_names_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checklist = std::fs::read_to_string(folder.join("tests/CHECKLIST.md")).unwrap();
    let code: String = [folder.join("tests/it"), root()]
        .iter()
        .flat_map(|folder| sources(folder))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let names = checklist.split('`').skip(1).step_by(2).filter(|word| {
        word.matches('_').count() > 2 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    });
    let (mut count, mut missing) = (0, Vec::new());
    for name in names {
        count += 1;
        if !code.contains(&format!("fn {name}()")) {
            missing.push(name);
        }
    }
    assert!(count > 50 && missing.is_empty(), "of {count}: {missing:#?}");
}
