//! `dbelay init --hooks`: adds dbelay to package.json, a Makefile or git's hooks. Reads, shows what would change, asks, writes; what the new text
//! is, [`dbelay::hooks`] says.

use std::fs::Permissions;
use std::io::Write;
use std::path::{Path, PathBuf};

use dbelay::git::Repository;
use dbelay::hooks::{Edit, HookError, git, make, npm};
use dbelay::render::text;
use serde_json::{Value, json};

use super::output::{ADDED, DIM, GOOD, REMOVED};
use super::{CliError, Context, ErrorKind, terminal};

/// Where dbelay is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Hook {
    /// Scripts in package.json
    Npm,
    /// Targets in the Makefile
    Make,
    /// A reminder after a checkout
    Git,
}

/// A file that would be changed.
pub struct Addition {
    hook: Hook,
    path: PathBuf,
    /// Its text now; none where it is not there.
    before: Option<String>,
    edit: Edit,
    permissions: Option<Permissions>,
}

impl Addition {
    fn is_nothing(&self) -> bool {
        self.before.as_deref() == Some(&self.edit.text)
    }

    fn diff(&self, cx: &Context) -> String {
        let name = self.name(cx);
        let (from, to) = (format!("a/{name}"), format!("b/{name}"));
        let from = if self.before.is_some() { from.as_str() } else { "/dev/null" };
        let before = self.before.as_deref().unwrap_or_default();
        similar::TextDiff::from_lines(before, &self.edit.text).unified_diff().context_radius(3).header(from, &to).to_string()
    }

    fn name(&self, cx: &Context) -> String {
        self.path.strip_prefix(&cx.environment.cwd).unwrap_or(&self.path).display().to_string()
    }
}

/// Finds the files, and what would become of them.
pub fn plan(hooks: &[Hook], command: Option<&str>, cx: &Context) -> Result<Vec<Addition>, CliError> {
    let mut additions: Vec<Addition> = Vec::new();
    for &hook in hooks {
        if additions.iter().any(|addition| addition.hook == hook) {
            continue;
        }
        additions.push(match hook {
            Hook::Npm => in_folder(cx, hook, &["package.json"], "`npm init` makes one", &|text| npm::edit(text, command))?,
            Hook::Make => in_folder(
                cx,
                hook,
                &["GNUmakefile", "makefile", "Makefile"],
                "make a Makefile, or put `dbelay migrate --` before the migration command where it is",
                &|text| make::edit(text, command),
            )?,
            Hook::Git => post_checkout(cx)?,
        });
    }
    Ok(additions)
}

fn in_folder(
    cx: &Context,
    hook: Hook,
    names: &[&str],
    hint: &str,
    edit: &dyn Fn(&str) -> Result<Edit, HookError>,
) -> Result<Addition, CliError> {
    let folder = &cx.environment.cwd;
    let Some(path) = names.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
        let name = names.last().copied().unwrap_or_default();
        return Err(CliError::new(ErrorKind::Config, format_args!("there is no {name} in `{}`", folder.display())).hint(hint));
    };
    let (path, before, permissions) = read(&path)?;
    let edit = edit(&before).map_err(|error| refused(error, &path))?;
    Ok(Addition { hook, path, before: Some(before), edit, permissions: Some(permissions) })
}

/// Reads a file that may be linked to; it is changed where it really is.
fn read(path: &Path) -> Result<(PathBuf, String, Permissions), CliError> {
    let path = fs_err::canonicalize(path)?;
    let permissions = fs_err::metadata(&path)?.permissions();
    let text = fs_err::read_to_string(&path).map_err(|error| CliError::from(error).kind(ErrorKind::Config))?;
    Ok((path, text, permissions))
}

fn refused(error: HookError, path: &Path) -> CliError {
    let place = path.display().to_string();
    match error {
        HookError::Unfit(_) => {
            CliError::new(ErrorKind::Config, error).hint(format_args!("`{place}` was not changed; mend it, or add dbelay by hand"))
        }
        HookError::NoCommand { ref example, .. } => {
            let hint = format!("say it: `--command \"{example}\"`");
            CliError::new(ErrorKind::Config, error).hint(hint)
        }
        HookError::Taken { ref line, .. } => {
            let hint = format!("add this line to `{place}` by hand:\n  {line}");
            CliError::new(ErrorKind::Config, error).hint(hint)
        }
    }
}

/// Finds where git looks for its hooks. A place that other repositories share, or that a tool writes anew, is nobody's to write to.
fn post_checkout(cx: &Context) -> Result<Addition, CliError> {
    let cwd = &cx.environment.cwd;
    let Some(repository) = Repository::find(cwd) else {
        return Err(
            CliError::new(ErrorKind::Config, format_args!("`{}` is in no git repository", cwd.display())).hint("`git init` makes one")
        );
    };
    let folder = cwd.strip_prefix(&repository.work).unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let home = cx.environment.var("HOME").map(PathBuf::from);
    let taken = |message: String, place: &Path| Err(refused(HookError::Taken { message, line: git::line(&folder) }, place));
    let own = [repository.own.join("config.worktree"), repository.common.join("config")];
    let hooks = match own.iter().find_map(|path| Repository::hooks_path(path)) {
        Some(path) => {
            let hooks = match (path.strip_prefix("~/"), &home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => repository.work.join(&path),
            };
            if let Some(husky) = hooks.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == ".husky")) {
                return taken("husky writes the hooks of this repository".to_owned(), &husky.join("post-checkout"));
            }
            if !hooks.starts_with(&repository.work) {
                return taken(
                    format!("git is told to look for hooks outside of this repository, in `{path}`"),
                    &hooks.join("post-checkout"),
                );
            }
            hooks
        }
        None => {
            let global = cx.environment.var("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".config")));
            let shared = [home.map(|home| home.join(".gitconfig")), global.map(|folder| folder.join("git/config"))];
            if let Some(path) = shared.iter().flatten().find_map(|path| Repository::hooks_path(path)) {
                return taken(
                    format!("git is told to look for the hooks of every repository in `{path}`"),
                    &Path::new(&path).join("post-checkout"),
                );
            }
            repository.common.join("hooks")
        }
    };
    let path = hooks.join("post-checkout");
    let (path, before, permissions) = if path.exists() {
        let (path, text, permissions) = read(&path)?;
        (path, Some(text), Some(permissions))
    } else {
        (path, None, None)
    };
    let edit = git::edit(before.as_deref(), &folder).map_err(|error| refused(error, &path))?;
    Ok(Addition { hook: Hook::Git, path, before, edit, permissions: permissions.or_else(executable) })
}

#[cfg(unix)]
fn executable() -> Option<Permissions> {
    Some(std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

#[cfg(not(unix))]
fn executable() -> Option<Permissions> {
    None
}

/// Prints what would change.
pub fn show(additions: &[Addition], cx: &Context) -> Result<(), CliError> {
    let mut out = cx.output.out();
    for addition in additions {
        if addition.is_nothing() {
            cx.output.say(format_args!("{DIM}`{}` has everything already{DIM:#}", addition.name(cx)));
        }
        for kept in &addition.edit.kept {
            cx.output.note(text::clean(kept));
        }
        for line in addition.diff(cx).lines() {
            let style = match line.as_bytes().first() {
                Some(b'+') => ADDED,
                Some(b'-') => REMOVED,
                Some(b'@') => DIM,
                _ => anstyle::Style::new(),
            };
            // A tab is what a Makefile is about.
            let line = line.trim_end_matches('\r').split('\t').map(text::clean).collect::<Vec<_>>().join("\t");
            writeln!(out, "{style}{line}{style:#}")?;
        }
    }
    out.finish()?;
    Ok(())
}

/// Asks, and writes.
pub fn execute(additions: &[Addition], cx: &Context) -> Result<(), CliError> {
    let changes: Vec<&Addition> = additions.iter().filter(|addition| !addition.is_nothing()).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = changes.iter().map(|addition| format!("`{}`", addition.name(cx))).collect();
    if !terminal::confirm(cx, &format!("write this to {}?", names.join(" and ")), true)? {
        return Err(CliError::usage("nothing was added").hint("`dbelay init` without `--hooks` changes none of these files"));
    }
    for Addition { path, before, edit, permissions, .. } in changes {
        let now = path.exists().then(|| fs_err::read_to_string(path)).transpose()?;
        if now != *before {
            return Err(CliError::new(ErrorKind::Failed, format_args!("`{}` was changed meanwhile, and stays as it is", path.display()))
                .hint("run the same command again"));
        }
        if let Some(folder) = path.parent() {
            dbelay::durable::create_dir(folder)?;
        }
        match permissions {
            Some(permissions) => dbelay::durable::write_with(path, edit.text.as_bytes(), permissions.clone())?,
            None => dbelay::durable::write(path, edit.text.as_bytes())?,
        }
        cx.output.say(format_args!("{GOOD}wrote{GOOD:#} `{}`: {}", path.display(), edit.added.join(", ")));
    }
    Ok(())
}

/// Describes the changes for programs.
pub fn document(additions: &[Addition]) -> Value {
    let one = |addition: &Addition| {
        let hook = match addition.hook {
            Hook::Npm => "npm",
            Hook::Make => "make",
            Hook::Git => "git",
        };
        let Edit { added, kept, text } = &addition.edit;
        json!({ "hook": hook, "path": addition.path, "changed": !addition.is_nothing(), "added": added, "kept": kept, "text": text })
    };
    additions.iter().map(one).collect()
}
