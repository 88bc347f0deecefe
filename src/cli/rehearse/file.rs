//! A scratch database that is a file.
//!
//! - By name it lies in a folder beside the real one, and the real one can only be read by the command, where the system can do that.
//! - In place, where nothing names it, the command sees a layer over the real database's folder, with the scratch database in it
//!   ([`dbelay::process::namespace`]). Whatever it writes in that folder is gone afterwards.
//!
//! The scratch folder is locked as long as it is used and removed afterwards. One that a crash left behind is removed by the next rehearsal.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use dbelay::process::{self, CommandSpec};
use dbelay::render::text::number;

use super::{Words, names_database, refuse_other, spec, unled, url_of, variable};
use crate::cli::database::{Database, JOURNALS, files};
use crate::cli::project::Project;
use crate::cli::{CliError, Context, DatabaseState, ErrorKind};

/// What scratch folders are called, before a number.
const FOLDER: &str = ".dbelay-rehearsal-";

/// The file whose lock says that a scratch folder is in use.
const IN_USE: &str = ".dbelay-in-use";

/// A scratch database and the way to it. Dropped, it is gone.
pub struct FileStage {
    /// The scratch database.
    pub database: Database,
    /// How the command comes to it.
    way: Way,
    /// The real database, without symbolic links.
    real: PathBuf,
    folder: PathBuf,
    in_use: Option<File>,
}

/// How a command comes to a scratch database.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// By name.
    Named {
        /// The variable that names it, and its value.
        variable: Option<(String, String)>,
        /// Whether a word of the command names it.
        has_placeholder: bool,
        /// Whether the command can only read the real one.
        is_guarded: bool,
    },
    /// At the real one's path.
    InPlace,
}

impl FileStage {
    /// Makes room for a scratch database, and finds out how the command can come to it. `with_namespace` tells whether it may be given a view of
    /// its own.
    pub fn set(project: &Project<'_>, command: &[OsString], wanted: Option<&str>, with_namespace: bool) -> Result<Self, CliError> {
        let cx = project.cx;
        let failed = |text: String| CliError::new(ErrorKind::Failed, text).state(DatabaseState::Unchanged);
        let database = project.database()?;
        let path = database.file().unwrap_or(Path::new(""));
        let real = path.canonicalize().map_err(|error| failed(format!("`{}`: {error}", path.display())))?;
        let (Some(parent), Some(file)) = (real.parent(), real.file_name()) else {
            return Err(failed(format!("`{}` is no file in a folder", real.display())));
        };
        let variable = variable(project, wanted)?;
        let has_placeholder = names_database(command);
        let need: u64 = files(&real).filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        // A table that is rebuilt stands there twice for a while.
        let need = need.saturating_mul(2);
        let stage = |folder: &Path, way: Way| -> Result<Self, String> {
            let mut stage = Self::begin(cx, database, real.clone(), file, folder, way, need)?;
            if stage.way != Way::InPlace {
                // A command that gives up its rights comes to it as to the real one.
                like(&stage.folder, parent).map_err(|error| error.to_string())?;
            } else {
                stage.layer(parent).map_err(|error| format!("the layer cannot be made: {error}"))?;
            }
            let probed = if with_namespace { stage.probe(cx) } else { Err("`--no-namespace` was given".to_owned()) };
            match &mut stage.way {
                Way::Named { is_guarded, .. } => *is_guarded = probed.is_ok(),
                Way::InPlace => probed?,
            }
            Ok(stage)
        };
        if variable.is_some() || has_placeholder {
            let way = Way::Named { variable: None, has_placeholder, is_guarded: false };
            let mut stage = stage(parent, way).map_err(|why| {
                failed(format!("there is no place for the scratch database: {why}")).hint("make room, or migrate without `--rehearse`")
            })?;
            let named = variable.and_then(|(name, url)| Some((name, url_of(cx, &stage.database, &url)?)));
            if let Way::Named { variable, .. } = &mut stage.way {
                *variable = named;
            }
            return Ok(stage);
        }
        // The command would be led past the layer, to a database that is nobody's scratch.
        refuse_other(project)?;
        let mut why = Vec::new();
        // A layer over a folder cannot lie in it.
        let temporary = cx.environment.var("TMPDIR").unwrap_or("/tmp");
        let places = [Some(Path::new(temporary)), parent.parent(), Some(Path::new("/var/tmp")), Some(Path::new("/dev/shm"))];
        for place in places.into_iter().flatten().filter_map(|place| place.canonicalize().ok()) {
            if place.starts_with(parent) {
                continue;
            }
            match stage(&place, Way::InPlace) {
                Ok(stage) => return Ok(stage),
                Err(reason) => why.push(reason),
            }
            if !with_namespace {
                break;
            }
        }
        Err(unled(why.first().map_or("there is no place for a layer over its folder", String::as_str)))
    }

    /// Makes room for a scratch database that no command comes to: beside the real one where that can be, else among temporary files. The real one
    /// need not be there.
    pub fn bare(cx: &Context, database: &Database, need: u64) -> Result<Self, CliError> {
        let path = database.file().unwrap_or(Path::new(""));
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = real.file_name().unwrap_or("scratch.db".as_ref()).to_owned();
        let temporary = Path::new(cx.environment.var("TMPDIR").unwrap_or("/tmp"));
        let mut why = Vec::new();
        for folder in [real.parent(), Some(temporary)].into_iter().flatten().filter(|folder| folder.is_dir()) {
            let way = Way::Named { variable: None, has_placeholder: false, is_guarded: false };
            match Self::begin(cx, database, real.clone(), &file, folder, way, need) {
                Ok(stage) => return Ok(stage),
                Err(reason) => why.push(reason),
            }
        }
        let why = why.first().map_or("neither the database's folder nor one for temporary files is there", String::as_str);
        Err(CliError::new(ErrorKind::Failed, format_args!("there is no place for the scratch database: {why}"))
            .state(DatabaseState::Unchanged)
            .hint("make room, or name a folder with room in `TMPDIR`"))
    }

    /// Makes a scratch folder, and names the database in it.
    fn begin(
        cx: &Context,
        database: &Database,
        real: PathBuf,
        file: &std::ffi::OsStr,
        folder: &Path,
        way: Way,
        need: u64,
    ) -> Result<Self, String> {
        remove_stale(folder);
        if let Some(room) = dbelay::durable::free_bytes(folder)
            && room < need
        {
            return Err(format!("about {} bytes are needed, and {} are free in `{}`", number(need), number(room), folder.display()));
        }
        let mut number = [0; 8];
        (cx.environment.random)(&mut number);
        let folder = folder.join(format!("{FOLDER}{:016x}", u64::from_ne_bytes(number)));
        let in_use = make(&folder).map_err(|error| format!("`{}` cannot be made: {error}", folder.display()))?;
        let place = if way == Way::InPlace { folder.join("upper") } else { folder.clone() };
        let scratch = database.at(place.join(file)).ok_or("it is no file")?;
        Ok(Self { database: scratch, way, real, folder, in_use: Some(in_use) })
    }

    /// Makes the folders of a layer. The folder that the command sees has the permissions of the layer's.
    fn layer(&self, real: &Path) -> std::io::Result<()> {
        let upper = self.folder.join("upper");
        std::fs::create_dir(&upper)?;
        like(&upper, real)?;
        std::fs::create_dir(self.folder.join("work"))
    }

    /// Tells whether the command cannot have changed the real database.
    pub fn is_protected(&self) -> bool {
        matches!(self.way, Way::InPlace | Way::Named { is_guarded: true, .. })
    }

    /// Finds out whether this system can give a process such a view.
    fn probe(&self, cx: &Context) -> Result<(), String> {
        if !cfg!(target_os = "linux") {
            return Err("this system has no mount namespaces".to_owned());
        }
        let mut command = self.isolated(cx);
        command.push("--probe".into());
        let spec = CommandSpec { command, ..spec(cx, Vec::new()) };
        let outcome = process::run(&spec, &mut |_, _| {}).map_err(|error| error.to_string())?;
        if outcome.exit.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&outcome.stderr_tail).split_whitespace().collect::<Vec<_>>().join(" ");
        Err(said.strip_prefix("error: ").unwrap_or(&said).to_owned())
    }

    /// Returns the beginning of the command line under which a command has its view.
    fn isolated(&self, cx: &Context) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![cx.environment.program.clone().into(), "isolate".into()];
        match (&self.way, self.real.parent(), self.real.file_name()) {
            (Way::InPlace, Some(parent), Some(file)) => {
                words.extend(["--folder".into(), parent.as_os_str().to_owned()]);
                words.extend(["--upper".into(), self.folder.join("upper").into(), "--work".into(), self.folder.join("work").into()]);
                for suffix in JOURNALS {
                    let mut word = OsString::from("--hide=");
                    word.push(file);
                    word.push(suffix);
                    words.push(word);
                }
            }
            _ => words.extend(["--read-only".into(), self.real.as_os_str().to_owned()]),
        }
        words
    }

    /// Says how the command that is rehearsed is to be run.
    pub fn spec(&self, project: &Project<'_>, command: &[OsString]) -> CommandSpec {
        let cx = project.cx;
        let mut env = Vec::new();
        let mut words = command.to_vec();
        if let Way::Named { variable, .. } = &self.way {
            env.extend(variable.iter().map(|(name, value)| (name.into(), value.into())));
            words = Words::of(&self.database, project.url.as_ref()).fill(command);
        }
        if self.is_protected() {
            let mut isolated = self.isolated(cx);
            isolated.push("--".into());
            isolated.append(&mut words);
            words = isolated;
        }
        CommandSpec { env, ..spec(cx, words) }
    }

    /// Says in words how the command comes to the scratch database.
    pub fn ways(&self) -> String {
        let Way::Named { variable, has_placeholder, is_guarded } = &self.way else {
            return "at the real one's path; whatever it writes in that folder is gone afterwards".to_owned();
        };
        let mut ways = Vec::new();
        if *has_placeholder {
            ways.push("by the words of the command".to_owned());
        }
        if let Some((name, _)) = variable {
            ways.push(format!("by the variable `{name}`"));
        }
        let guard = if *is_guarded { "; it can only read the real one" } else { "" };
        format!("{}{guard}", ways.join(", and "))
    }
}

impl Drop for FileStage {
    fn drop(&mut self) {
        remove(&self.folder);
        drop(self.in_use.take());
    }
}

fn make(folder: &Path) -> std::io::Result<File> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let file = dbelay::durable::open_private(&folder.join(IN_USE))?;
    file.lock()?;
    Ok(file)
}

/// Gives a folder the permissions of another, and its owner where that may be done.
fn like(folder: &Path, other: &Path) -> std::io::Result<()> {
    let metadata = other.metadata()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let _ = std::os::unix::fs::chown(folder, Some(metadata.uid()), Some(metadata.gid()));
    }
    std::fs::set_permissions(folder, metadata.permissions())
}

/// Removes a scratch folder. Symbolic links in it are not followed.
fn remove(folder: &Path) {
    // The system keeps a folder there that nobody may read.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let inner = folder.join("work/work");
        if is_own_folder(&folder.join("work")) && is_own_folder(&inner) {
            let _ = std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o700));
        }
    }
    // What stays is removed by the next rehearsal.
    let _ = std::fs::remove_dir_all(folder);
}

/// Tells whether something is a folder of this user, and no link to one. In a folder that all may write others may have put it there.
fn is_own_folder(path: &Path) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    #[cfg(unix)]
    let is_own = std::os::unix::fs::MetadataExt::uid(&metadata) == rustix::process::geteuid().as_raw();
    #[cfg(not(unix))]
    let is_own = true;
    metadata.is_dir() && is_own
}

/// Removes the scratch folders of rehearsals that are no more.
fn remove_stale(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let is_scratch = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(FOLDER.as_bytes()));
    for folder in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_scratch).filter(|folder| is_own_folder(folder)) {
        let in_use = folder.join(IN_USE);
        // One that has no such file yet is being made.
        let is_file = in_use.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file && File::open(in_use).is_ok_and(|file| file.try_lock().is_ok()) {
            remove(&folder);
        }
    }
}
