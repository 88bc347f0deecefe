//! The stage of a rehearsal: a scratch database beside the real one, and the ways on which a command comes to it.
//!
//! - The command's words: `{db}` and `{url}`.
//! - The variable that names the database, in the form in which it was given.
//! - A namespace in which the scratch database stands at the real one's path ([`dbelay::process::namespace`]): for tools that read the path from
//!   their own configuration, and as a safeguard beside the other two wherever the system has it.
//!
//! The scratch database lies in a folder of its own, which is locked as long as it is used and removed afterwards. One that a crash left behind is
//! removed by the next rehearsal.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};

use dbelay::process::namespace;
use dbelay::process::{self, CommandSpec};
use dbelay::render::text::number;
use dbelay::source::{COMMON_VARIABLE, DatabaseUrl};

use super::project::{Database, Project, named_by};
use super::{CliError, Context, DatabaseState, ErrorKind};

/// What the folders of scratch databases are called, before a number.
const FOLDER: &str = ".dbelay-rehearsal-";

/// The file whose lock says that the folder is in use.
const IN_USE: &str = ".dbelay-in-use";

/// A scratch database and the ways to it. Dropped, it is gone.
pub struct Stage {
    /// The scratch database.
    pub database: Database,
    /// The variable that names it to the command, and its value.
    pub variable: Option<(String, String)>,
    /// Whether a word of the command names it.
    pub has_placeholder: bool,
    /// Whether it stands at the real one's path for the command; else why not.
    pub namespace: Result<(), String>,
    real: PathBuf,
    folder: PathBuf,
    in_use: Option<File>,
}

/// What the words of a command may hold in place of the database.
#[derive(Debug, Clone)]
pub struct Words {
    /// For `{db}`.
    pub path: String,
    /// For `{url}`.
    pub url: String,
}

impl Words {
    /// Names a database.
    pub fn of(database: &Database, url: Option<&DatabaseUrl>) -> Self {
        let path = database.path.to_string_lossy().into_owned();
        let written = url.and_then(|url| url.at_path(&database.path)).filter(|text| *text != path);
        // Four slashes are an absolute path to every tool.
        let url = written.unwrap_or_else(|| format!("sqlite:///{path}"));
        Self { path, url }
    }

    /// Fills a command's words in.
    pub fn fill(&self, command: &[OsString]) -> Vec<OsString> {
        let fill = |word: &OsString| match word.to_str() {
            Some(text) if has_placeholder(text) => OsString::from(text.replace("{db}", &self.path).replace("{url}", &self.url)),
            _ => word.clone(),
        };
        command.iter().map(fill).collect()
    }
}

fn has_placeholder(word: &str) -> bool {
    word.contains("{db}") || word.contains("{url}")
}

/// Finds the variable that names the project's database to the command, and its value: the one that is asked for, else `DATABASE_URL` where it
/// does name it.
pub fn variable(project: &Project<'_>, wanted: Option<&str>) -> Result<Option<(String, DatabaseUrl)>, CliError> {
    let config = project.config.as_ref();
    let wanted = wanted.or_else(|| config?.migrate.url_env.as_deref());
    let place = &project.database()?.source.place;
    if let Some(name) = wanted {
        return match named_by(project.cx, config, name)? {
            Some(named) if named.url.place() == *place => Ok(Some((name.to_owned(), named.url))),
            Some(named) => Err(other_database(name, &named.url, place)),
            None => Ok(project.url.clone().map(|url| (name.to_owned(), url))),
        };
    }
    let named = named_by(project.cx, config, COMMON_VARIABLE).ok().flatten();
    Ok(named.filter(|named| named.url.place() == *place).map(|named| (COMMON_VARIABLE.to_owned(), named.url)))
}

fn other_database(name: &str, url: &DatabaseUrl, place: &str) -> CliError {
    CliError::new(ErrorKind::Config, format_args!("`{name}` names `{url}`, and the database that is watched is `{place}`"))
        .state(DatabaseState::Unchanged)
        .hint("the command would migrate another database than the one that can be put back; `--db` names the one to watch")
}

/// Warns where `DATABASE_URL` names another database than the one that is watched: the command may well migrate that one.
pub fn warn_of_other(project: &Project<'_>) -> Result<(), CliError> {
    let place = &project.database()?.source.place;
    let Ok(Some(named)) = named_by(project.cx, project.config.as_ref(), COMMON_VARIABLE) else { return Ok(()) };
    if named.url.place() != *place {
        project.cx.output.warn(format_args!(
            "`{COMMON_VARIABLE}` names `{}`, and the database that is watched is `{place}`: what the command does to another is neither seen nor put back",
            named.url
        ));
    }
    Ok(())
}

impl Stage {
    /// Makes room for a scratch database, and finds out how the command can come to it.
    pub fn set(project: &Project<'_>, command: &[OsString], wanted: Option<&str>, with_namespace: bool) -> Result<Self, CliError> {
        let cx = project.cx;
        let failed = |text: String| CliError::new(ErrorKind::Failed, text).state(DatabaseState::Unchanged);
        let database = project.database()?;
        let real = database.path.canonicalize().map_err(|error| failed(format!("`{}`: {error}", database.path.display())))?;
        let variable = variable(project, wanted)?;
        let (Some(parent), Some(file)) = (real.parent(), real.file_name()) else {
            return Err(failed(format!("`{}` is no file in a folder", real.display())));
        };
        remove_stale(parent);
        let need: u64 = ["", "-wal"].iter().filter_map(|suffix| size(&real, suffix)).sum();
        // A table that is rebuilt stands there twice for a while.
        if let Some(room) = dbelay::durable::free_bytes(parent)
            && room < need.saturating_mul(2)
        {
            return Err(failed(format!(
                "a rehearsal needs about {} bytes beside the database, and {} are free",
                number(need.saturating_mul(2)),
                number(room)
            ))
            .hint("make room, or migrate without `--rehearse`"));
        }
        let folder = parent.join(format!("{FOLDER}{}", cx.environment.pid));
        let in_use = make(&folder).map_err(|error| {
            failed(format!("the scratch database cannot be made in `{}`: {error}", parent.display()))
                .hint("a rehearsal needs a folder that can be written")
        })?;
        let mut stage = Self {
            database: database.at(folder.join(file)),
            variable: None,
            has_placeholder: command.iter().filter_map(|word| word.to_str()).any(has_placeholder),
            namespace: Ok(()),
            real: real.clone(),
            folder,
            in_use: Some(in_use),
        };
        stage.variable = variable.and_then(|(name, url)| Some((name, url.at_path(&stage.database.path)?)));
        stage.namespace = if with_namespace { stage.probe(cx) } else { Err("`--no-namespace` was given".to_owned()) };
        if let Err(why) = &stage.namespace
            && stage.variable.is_none()
            && !stage.has_placeholder
        {
            let message = "the command cannot be rehearsed: nothing would lead it to the scratch database, so it would run on the real one";
            return Err(failed(why.clone()).context(message).kind(ErrorKind::Failed).state(DatabaseState::Unchanged).hint(
                "name the database in the command as `{db}` or `{url}`, or name the variable from which it takes it: `--url-env NAME`",
            ));
        }
        Ok(stage)
    }

    /// Finds out whether this system can put the scratch database in the real one's place.
    fn probe(&self, cx: &Context) -> Result<(), String> {
        if !cfg!(target_os = "linux") {
            return Err("this system has no mount namespaces".to_owned());
        }
        let mut command = self.isolated(cx, &[]);
        command.insert(command.len() - 1, "--probe".into());
        command.pop();
        let spec = CommandSpec { command, ..spec(cx, Vec::new()) };
        let outcome = process::run(&spec, &mut |_| {}, &mut |_, _| {}).map_err(|error| error.to_string())?;
        if outcome.exit.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&outcome.stderr_tail).trim().replace('\n', " ");
        Err(said.strip_prefix("error: ").unwrap_or(&said).to_owned())
    }

    /// Returns the command line under which a command sees the scratch database in the real one's place.
    fn isolated(&self, cx: &Context, command: &[OsString]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![cx.environment.program.clone().into(), "isolate".into()];
        let parent = self.real.parent().unwrap_or(Path::new("/"));
        words.extend(["--real".into(), parent.as_os_str().to_owned(), "--stand-in".into(), self.folder.as_os_str().to_owned()]);
        words.extend(["--file".into(), self.real.file_name().unwrap_or(OsStr::new("")).to_owned(), "--".into()]);
        words.extend(command.iter().cloned());
        words
    }

    /// Says how the command that is rehearsed is to be run.
    pub fn spec(&self, project: &Project<'_>, command: &[OsString]) -> CommandSpec {
        let cx = project.cx;
        let command = Words::of(&self.database, project.url.as_ref()).fill(command);
        let command = if self.namespace.is_ok() { self.isolated(cx, &command) } else { command };
        let env = self.variable.iter().map(|(name, value)| (name.into(), value.into())).collect();
        CommandSpec { env, ..spec(cx, command) }
    }

    /// Says in words how the command comes to the scratch database.
    pub fn ways(&self) -> String {
        let mut ways = Vec::new();
        if self.has_placeholder {
            ways.push("by the words of the command".to_owned());
        }
        if let Some((name, _)) = &self.variable {
            ways.push(format!("by the variable `{name}`"));
        }
        if self.namespace.is_ok() {
            ways.push("at the real one's path, which only the command sees so".to_owned());
        }
        ways.join(", and ")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        remove(&self.folder);
        drop(self.in_use.take());
    }
}

/// Says how a command is run that has nothing of its own.
pub fn spec(cx: &Context, command: Vec<OsString>) -> CommandSpec {
    CommandSpec {
        command,
        env: Vec::new(),
        cwd: cx.environment.cwd.clone(),
        capture_bytes_max: process::CAPTURE_BYTES_DEFAULT,
        foreground: false,
        stdout_to_stderr: cx.output.is_json(),
        timeout: None,
    }
}

fn size(path: &Path, suffix: &str) -> Option<u64> {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    Path::new(&name).metadata().ok().map(|metadata| metadata.len())
}

fn make(folder: &Path) -> std::io::Result<File> {
    remove(folder);
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let file = dbelay::durable::open_private(&folder.join(IN_USE))?;
    file.lock()?;
    Ok(file)
}

/// Removes a scratch folder. What is mounted in it is somebody's real file, so that it stays where anything is.
fn remove(folder: &Path) {
    if folder.is_dir() && !namespace::has_mounts(folder) {
        // What stays is removed by the next rehearsal.
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Removes the scratch folders of rehearsals that are no more.
fn remove_stale(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let is_scratch = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(FOLDER.as_bytes()));
    for folder in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_scratch) {
        let is_free = match File::open(folder.join(IN_USE)) {
            Ok(file) => file.try_lock().is_ok(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if is_free {
            remove(&folder);
        }
    }
}
