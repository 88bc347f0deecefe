//! Where a project's git history stands, read from git's own files: the branch and the commit that are checked out.
//!
//! Never runs git, never writes, and is never an error: what is odd, too large or not there means that nothing is known. Which file says what is
//! in gitrepository-layout(5): `HEAD` of the work tree; refs in files of their own, else in `packed-refs`; a `.git` that is a file names
//! the folder of a worktree or submodule, whose `commondir` names the one with the refs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::snapshot::manifest::GitPosition;

/// The most bytes that are read of a file that holds one line.
const LINE_BYTES_MAX: u64 = 4096;

/// The most bytes that are read of a list of refs, or of a configuration.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// How many refs that only name another are followed.
const REFS_MAX: usize = 5;

/// The folders of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The folder with the files of the work tree.
    pub work: PathBuf,
    /// The folder with `HEAD`: `.git`, or a worktree's own below it.
    pub own: PathBuf,
    /// The folder with what all worktrees share: refs, configuration, hooks.
    pub common: PathBuf,
}

impl Repository {
    /// Finds the repository that a folder is in.
    pub fn find(start: &Path) -> Option<Self> {
        start.ancestors().find_map(|folder| {
            let found = folder.join(".git");
            let own = if found.is_dir() { found } else { folder.join(line(&found)?.strip_prefix("gitdir:")?.trim()) };
            if !own.join("HEAD").is_file() {
                return None;
            }
            let common = match line(&own.join("commondir")) {
                Some(path) => own.join(path.trim()),
                None => own.clone(),
            };
            Some(Self { work: folder.to_owned(), own, common })
        })
    }

    /// Reads what is checked out.
    pub fn position(&self) -> Option<GitPosition> {
        let head = line(&self.own.join("HEAD"))?;
        let Some(name) = reference(&head) else {
            return Some(GitPosition { branch: None, commit: Some(commit(&head)?) });
        };
        let branch = name.strip_prefix("refs/heads/")?;
        // Where refs are kept in tables, as git can be told to, this name stands in for all of them.
        if branch == ".invalid" {
            return None;
        }
        Some(GitPosition { branch: Some(branch.to_owned()), commit: self.resolve(name.to_owned()) })
    }

    fn resolve(&self, mut name: String) -> Option<String> {
        for _ in 0..REFS_MAX {
            let Some(text) = line(&self.own.join(&name)).or_else(|| line(&self.common.join(&name))) else {
                return self.packed(&name);
            };
            match reference(&text) {
                Some(other) => name = other.to_owned(),
                None => return commit(&text),
            }
        }
        None
    }

    fn packed(&self, name: &str) -> Option<String> {
        let text = read(&self.common.join("packed-refs"), LIST_BYTES_MAX)?;
        text.lines().find_map(|line| line.split_once(' ').filter(|(_, found)| found.trim_end() == name).and_then(|(id, _)| commit(id)))
    }

    /// Reads the folder that a configuration sets for hooks (`core.hooksPath`), as it is written.
    pub fn hooks_path(config: &Path) -> Option<String> {
        let text = read(config, LIST_BYTES_MAX)?;
        let mut is_core = false;
        let mut found = None;
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[') {
                is_core = section.split(']').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("core"));
            } else if is_core
                && let Some((key, value)) = line.split_once('=')
                && key.trim().eq_ignore_ascii_case("hookspath")
            {
                found = Some(value.split([';', '#']).next().unwrap_or_default().trim().trim_matches('"').to_owned());
            }
        }
        found.filter(|path| !path.is_empty())
    }
}

/// Reads the branch and the commit that are checked out in the repository that a folder is in; none where that cannot be told.
pub fn position(start: &Path) -> Option<GitPosition> {
    Repository::find(start)?.position()
}

fn read(path: &Path, bytes_max: u64) -> Option<String> {
    let file = File::open(path).ok()?;
    // A pipe or a device would be waited for.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let count = file.take(bytes_max + 1).read_to_string(&mut text).ok()?;
    (count as u64 <= bytes_max).then_some(text)
}

fn line(path: &Path) -> Option<String> {
    let text = read(path, LINE_BYTES_MAX)?;
    let line = text.lines().next()?.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Takes the name out of `ref: refs/heads/main`. It becomes part of a path: nothing in it may lead out of the repository.
fn reference(line: &str) -> Option<&str> {
    let name = line.strip_prefix("ref:")?.trim();
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    let is_fine = name.starts_with("refs/") && name.split('/').all(is_plain) && !name.chars().any(char::is_control);
    is_fine.then_some(name)
}

/// Takes the id of a commit: 40 or 64 hex digits.
fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    let is_hex = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        dir
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], from: &str, expected: Option<(Option<&str>, Option<&str>)>) {
        let dir = repository(files);
        let expected =
            expected.map(|(branch, commit)| GitPosition { branch: branch.map(str::to_owned), commit: commit.map(str::to_owned) });
        assert_eq!(position(&dir.path().join(from)), expected);
    }

    #[test]
    fn a_branch_is_read_from_a_ref_of_its_own_or_from_the_packed_ones() {
        let loose = format!("{ID}\n");
        check(&[(".git/HEAD", "ref: refs/heads/main\n"), (".git/refs/heads/main", &loose)], "", Some((Some("main"), Some(ID))));
        let packed = format!("# pack-refs with: peeled fully-peeled sorted\n{ID} refs/heads/a/b\n^{ID}\n{ID} refs/tags/v1\n");
        let files = [(".git/HEAD", "ref: refs/heads/a/b\n"), (".git/packed-refs", packed.as_str()), ("src/deep/x", "")];
        check(&files, "src/deep", Some((Some("a/b"), Some(ID))));
    }

    #[test]
    fn a_branch_without_a_commit_and_a_commit_without_a_branch_are_known_by_what_there_is() {
        check(&[(".git/HEAD", "ref: refs/heads/main\n")], "", Some((Some("main"), None)));
        check(&[(".git/HEAD", &format!("{ID}\n"))], "", Some((None, Some(ID))));
    }

    #[test]
    fn a_worktree_has_its_own_head_and_the_refs_of_all() {
        let files = [
            ("main/.git/HEAD", "ref: refs/heads/main\n"),
            ("main/.git/refs/heads/feature", ID),
            ("main/.git/worktrees/wt/HEAD", "ref: refs/heads/feature\n"),
            ("main/.git/worktrees/wt/commondir", "../..\n"),
            ("wt/.git", "gitdir: ../main/.git/worktrees/wt\n"),
        ];
        check(&files, "wt", Some((Some("feature"), Some(ID))));
    }

    #[test]
    fn what_is_odd_is_not_known() {
        check(&[("x", "")], "", None);
        check(&[(".git/HEAD", "")], "", None);
        check(&[(".git/HEAD", "nonsense\n")], "", None);
        check(&[(".git/HEAD", "ref: ../../etc/passwd\n")], "", None);
        check(&[(".git/HEAD", "ref: refs/heads/../../x\n")], "", None);
        check(&[(".git/HEAD", "ref: refs/heads/.invalid\n")], "", None);
        check(&[(".git/HEAD", &"ref: refs/heads/a".repeat(1000))], "", None);
        check(&[(".git", "gitdir: nowhere\n")], "", None);
        let endless = [(".git/HEAD", "ref: refs/heads/a\n"), (".git/refs/heads/a", "ref: refs/heads/a\n")];
        check(&endless, "", Some((Some("a"), None)));
    }

    #[test]
    fn the_folder_of_hooks_is_the_last_one_that_the_core_section_names() {
        let text =
            "[core]\n\tbare = false\n\thooksPath = .husky/_\n[user]\n\thooksPath = wrong\n[CORE]\n  HOOKSPATH = \".githooks\" ; ours\n";
        let dir = repository(&[("config", text), ("other", "[core]\nbare = true\n")]);
        assert_eq!(Repository::hooks_path(&dir.path().join("config")).as_deref(), Some(".githooks"));
        assert_eq!(Repository::hooks_path(&dir.path().join("other")), None);
    }
}
