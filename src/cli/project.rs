//! What most commands begin with: the configuration, the database that is meant, its store, and a session of both.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use chrono::{DateTime, Local, Utc};
use dbelay::config::{self, Config};
use dbelay::engine::EngineError;
use dbelay::files::Folder;
use dbelay::id::ObjectId;
use dbelay::ops::capture::{self, State};
use dbelay::ops::journal::{self, Author, Entry, Indexed, Leftover, OperationKind, OperationResult, Phase};
use dbelay::ops::{OpError, Session};
use dbelay::render::StateName;
use dbelay::schema::Schema;
use dbelay::snapshot::manifest::{Origin, Snapshot, SourceName};
use dbelay::snapshot::select::{Known, KnownSnapshot, Selector, Target};
use dbelay::source::DatabaseUrl;
use dbelay::source::{self, Lookup, Resolved, SourceError, UrlOrigin};
use dbelay::store::{LockGuard, LockHolder, Store, StoreError};

use super::database::{self, Database};
use super::output::{DIM, ID};
use super::{CliError, Context, ErrorKind, progress::Bars, secret};

/// The name of a store's directory.
pub const STORE_DIR: &str = ".dbelay";

/// Reads the nearest dbelay.toml.
pub fn read_config(cx: &Context) -> Result<Option<Config>, CliError> {
    let Some(path) = config::find_upwards(&cx.environment.cwd, config::FILE_NAME) else { return Ok(None) };
    let text = fs_err::read_to_string(&path).map_err(|error| CliError::from(error).kind(ErrorKind::Config))?;
    Ok(Some(Config::parse(&text, &path)?))
}

/// Finds the database that is meant.
pub fn resolve(cx: &Context, config: Option<&Config>) -> Result<Resolved, CliError> {
    Ok(look_up(cx, config, source::resolve)?)
}

/// Finds the database that a variable names, in the environment or in `.env`; none where it is not set.
pub fn named_by(cx: &Context, config: Option<&Config>, variable: &str) -> Result<Option<Resolved>, CliError> {
    Ok(look_up(cx, config, |lookup| source::named_by(lookup, variable))?)
}

fn look_up<T>(cx: &Context, config: Option<&Config>, find: impl FnOnce(&Lookup<'_>) -> Result<T, SourceError>) -> Result<T, SourceError> {
    let dotenv = config::find_upwards(&cx.environment.cwd, ".env").filter(|path| path.is_file());
    let dotenv = dotenv.and_then(|path| Some((fs_err::read_to_string(&path).ok()?, path)));
    find(&Lookup {
        flag: cx.global.db.as_deref(),
        environment: &|name| cx.environment.vars.get(name).cloned(),
        config,
        dotenv: dotenv.as_ref().map(|(text, path)| (path.as_path(), text.as_str())),
        cwd: &cx.environment.cwd,
        exists: &|path| path.exists(),
    })
}

/// Finds the folder whose files are kept with a database: that of dbelay.toml, if it names files. They belong to the database that it names; another one, given
/// by `--db`, has none.
fn files(cx: &Context, config: &Config, database: &Database, store: &Store) -> Result<Option<Folder>, CliError> {
    if config.files.include.is_empty() {
        return Ok(None);
    }
    if cx.global.db.is_some() && config.database.is_some() {
        let own = look_up(cx, Some(config), |lookup| source::resolve(&Lookup { flag: None, ..*lookup }));
        let is_other = |own: &DatabaseUrl| {
            own.engine() != database.source.engine || database::place(cx, own).is_ok_and(|place| place != database.source.place)
        };
        if own.is_ok_and(|own| is_other(&own.url)) {
            cx.output.verbose(1, "this is not the database that dbelay.toml names, so its files are no part of it");
            return Ok(None);
        }
    }
    let root = config.path.parent().filter(|root| !root.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let root = cx.environment.cwd.join(root);
    let absolute = |path: &Path| cx.environment.cwd.join(path);
    let mut kept_out = vec![absolute(store.dir())];
    kept_out.extend(database.file().into_iter().flat_map(database::files).map(|path| absolute(&path)));
    Folder::new(&root, &config.files.include, &config.files.exclude, kept_out)
        .map(Some)
        .map_err(|error| CliError::from(error).kind(ErrorKind::Config).context("`[files]` in dbelay.toml"))
}

/// Whether a command may make the store that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// There must be one.
    Existing,
    /// One is made where there is none, and said so.
    Any,
}

/// Of which database a snapshot may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Of the project's.
    Same,
    /// Of any: the user says that this is meant.
    Any,
}

/// A project: its configuration, its database if one is named, its store.
pub struct Project<'a> {
    /// What every command is given.
    pub cx: &'a Context,
    /// dbelay.toml.
    pub config: Option<Config>,
    /// The database, or why none is named.
    database: Result<Database, CliErrorCell>,
    /// How it was named, if it was.
    pub url: Option<DatabaseUrl>,
    /// The store.
    pub store: Store,
    /// The folder whose files are kept with the database, where there are such.
    pub files: Option<Folder>,
    /// The snapshots as they were read last, and the ids that there were then.
    listed: RefCell<Option<Listed>>,
    progress: Bars<'a>,
}

/// The ids of all snapshots, and those that can be read.
type Listed = (Vec<ObjectId>, Rc<[(ObjectId, Snapshot)]>);

/// An error that is only worth telling where the database is needed.
type CliErrorCell = RefCell<Option<CliError>>;

impl<'a> Project<'a> {
    /// Opens the project.
    pub fn open(cx: &'a Context, need: Need) -> Result<Self, CliError> {
        let config = read_config(cx)?;
        let mut url = None;
        let database = resolve(cx, config.as_ref()).and_then(|resolved| {
            url = Some(resolved.url.clone());
            let database = Database::of(cx, &resolved.url, config.as_ref())?;
            cx.output.say(format_args!("{DIM}database {}{DIM:#}", resolved.described));
            Ok(database)
        });
        // A command that cannot go on without a database must not leave a store behind.
        if need == Need::Any
            && let Err(error) = database
        {
            return Err(error);
        }
        let file = database.as_ref().ok().and_then(Database::file);
        if need == Need::Any
            && let Some(file) = file.filter(|file| !file.exists())
        {
            return Err(EngineError::Missing(file.display().to_string()).into());
        }
        let (dir, exists) = find_store(cx, config.as_ref(), file);
        let store = match exists {
            false if need == Need::Any => {
                // What is no database shall leave no store behind either.
                if let Ok(database) = &database {
                    database.open()?;
                }
                let store = create_store(cx, &dir)?;
                cx.output.note(format_args!("a new store was made in `{}`", dir.display()));
                store
            }
            _ => secret::open_store(cx, &dir)?.store,
        };
        if store.is_unsettled() {
            cx.output.note("a change of the store's encryption was interrupted; `dbelay key resume` goes on with it");
        }
        let files = match (&config, &database) {
            (Some(config), Ok(database)) => files(cx, config, database, &store)?,
            _ => None,
        };
        let database = database.map_err(|error| CliErrorCell::new(Some(error)));
        Ok(Self { cx, config, database, url, store, files, listed: RefCell::default(), progress: Bars::new(&cx.output) })
    }

    /// Returns the database, or says why none is named.
    pub fn database(&self) -> Result<&Database, CliError> {
        match &self.database {
            Ok(database) => Ok(database),
            Err(cell) => Err(cell.borrow_mut().take().unwrap_or_else(|| CliError::usage("no database is named"))),
        }
    }

    /// Returns the database, if one is named.
    pub fn known_database(&self) -> Option<&Database> {
        self.database.as_ref().ok()
    }

    /// Makes an entry of the operation log, of something that ended and needs no database.
    pub fn entry(&self, kind: OperationKind, source: SourceName, result: OperationResult) -> Entry {
        let environment = &self.cx.environment;
        let author = Author { user: environment.user.clone(), host: environment.host.clone(), pid: environment.pid };
        let time = self.cx.now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        Entry { result: Some(result), ..Entry::by(&author, source, time, kind, Phase::End) }
    }

    /// Returns the name of the database in the store; where none is named, that of the only one in the store.
    pub fn source(&self) -> Result<SourceName, CliError> {
        match self.only_source()? {
            Some(source) => Ok(source),
            None => Err(self.database().err().unwrap_or_else(|| CliError::usage("no database is named"))),
        }
    }

    /// Tells whether owners and privileges are put back.
    pub fn with_owners(&self) -> bool {
        self.config.as_ref().is_none_or(|config| config.postgres.owners) && !self.cx.global.no_owner
    }

    /// As [`Project::source`]; none where several could be meant.
    fn only_source(&self) -> Result<Option<SourceName>, CliError> {
        if let Ok(database) = &self.database {
            return Ok(Some(database.source.clone()));
        }
        let mut sources: Vec<SourceName> = self.snapshots()?.iter().map(|(_, snapshot)| snapshot.source.clone()).collect();
        sources.dedup();
        sources.sort_by(|a, b| a.place.cmp(&b.place));
        sources.dedup();
        Ok(<[SourceName; 1]>::try_from(sources).ok().map(|[source]| source))
    }

    /// Returns how a table, or a column of one, is called in the project's database and its snapshots: as written where `is_known` knows that,
    /// else without the schema whose tables are named without it.
    pub fn name<'n>(&self, written: &'n str, is_known: impl FnOnce(&str) -> bool) -> &'n str {
        match &self.database {
            Ok(database) => database.name(written, is_known),
            Err(_) => match self.only_source() {
                Ok(Some(source)) => database::name_in(&source, written, is_known),
                _ => written,
            },
        }
    }

    /// As [`Project::name`], of tables of a schema.
    pub fn tables(&self, written: &[String], schema: &Schema) -> Vec<String> {
        let is_known = |name: &str| schema.tables.iter().any(|table| table.name.eq_ignore_ascii_case(name));
        written.iter().map(|name| self.name(name, is_known).to_owned()).collect()
    }

    /// Returns who hears of progress.
    pub fn progress(&self) -> &Bars<'a> {
        &self.progress
    }

    /// Takes the project lock for a command.
    pub fn lock(&self, command: &str) -> Result<LockGuard, CliError> {
        let environment = &self.cx.environment;
        let since = self.cx.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        Ok(self.store.lock(&LockHolder { pid: environment.pid, host: environment.host.clone(), command: command.to_owned(), since })?)
    }

    /// Runs something with a session.
    pub fn with<T>(&self, run: impl FnOnce(&Session<'_>) -> Result<T, CliError>) -> Result<T, CliError> {
        let database = self.database()?;
        self.with_files(database, self.files.as_ref(), run)
    }

    /// Runs something with a session of another database, which has no files beside it.
    pub fn with_database<T>(&self, database: &Database, run: impl FnOnce(&Session<'_>) -> Result<T, CliError>) -> Result<T, CliError> {
        self.with_files(database, None, run)
    }

    fn with_files<T>(
        &self,
        database: &Database,
        files: Option<&Folder>,
        run: impl FnOnce(&Session<'_>) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let environment = &self.cx.environment;
        let origin = Origin {
            dbelay: env!("CARGO_PKG_VERSION").to_owned(),
            user: environment.user.clone(),
            host: environment.host.clone(),
            command: Vec::new(),
            git: dbelay::git::position(&environment.cwd),
        };
        run(&Session {
            store: &self.store,
            source: database.source.clone(),
            open: &|| database.open(),
            create: &|settings| database.create(settings),
            place: database,
            files,
            fingerprint: &|| database.fingerprint((environment.now)().timestamp_millis()),
            origin,
            pid: environment.pid,
            now: &*environment.now,
            progress: &self.progress,
        })
    }

    /// Reads the operation log; one that is damaged is told of, and taken as empty.
    pub fn operations(&self) -> Vec<Indexed> {
        journal::read(&self.store).unwrap_or_else(|error| {
            self.cx.output.warn(format_args!("{error}; `pre`, `post`, `failed` and `undo` know nothing of what it said"));
            Vec::new()
        })
    }

    /// Reads all snapshots, oldest first; once, as long as no other is there.
    fn snapshots(&self) -> Result<Rc<[(ObjectId, Snapshot)]>, CliError> {
        let ids = self.store.snapshot_ids()?;
        let mut listed = self.listed.borrow_mut();
        match &*listed {
            Some((known, snapshots)) if *known == ids => Ok(Rc::clone(snapshots)),
            _ => {
                let snapshots: Rc<[_]> = capture::snapshots(&self.store)?.into();
                *listed = Some((ids, Rc::clone(&snapshots)));
                Ok(snapshots)
            }
        }
    }

    /// Returns everything that a selector can mean for a source, or for all.
    pub fn known(&self, source: Option<&SourceName>) -> Result<Known, CliError> {
        let snapshots = self.snapshots()?;
        let snapshots = snapshots.iter().filter(|(_, snapshot)| source.is_none_or(|source| snapshot.source == *source));
        let snapshots = snapshots.map(|(id, snapshot)| KnownSnapshot { id: *id, time: time(snapshot), parent: snapshot.parent }).collect();
        let last = source.map(|source| journal::last_migration(&self.operations(), source)).unwrap_or_default();
        Ok(Known { snapshots, tags: self.tags()?, pre: last.pre, post: last.post, failed: last.failed })
    }

    /// Lists the tags; damaged ones are told of, and left out.
    pub fn tags(&self) -> Result<BTreeMap<String, ObjectId>, CliError> {
        let (tags, damaged) = self.store.whole_tags()?;
        for name in damaged {
            self.cx.output.warn(format_args!("the tag `{name}` is damaged; `dbelay fsck --repair` takes it out"));
        }
        Ok(tags)
    }

    /// Finds what a selector means for the project's database.
    pub fn select(&self, text: &str) -> Result<Target, CliError> {
        self.select_of(text, Identity::Same)
    }

    /// As [`Project::select`]; a snapshot of another database is found too where that is wanted.
    fn select_of(&self, text: &str, identity: Identity) -> Result<Target, CliError> {
        let source = self.source()?;
        let selector = Selector::parse(text)?;
        let now = self.cx.now().with_timezone(&Local);
        let found = match selector.resolve(&self.known(Some(&source))?, now) {
            Ok(found) => found,
            // It may be the id of a snapshot of another database.
            Err(error) => match selector.resolve(&self.known(None)?, now) {
                Ok(found @ Target::Snapshot(_)) => found,
                _ => return Err(error.into()),
            },
        };
        // So may a tag, which the whole store shares.
        if let Target::Snapshot(id) = found {
            let snapshot = capture::read_snapshot(&self.store, id)?;
            let message = format!("snapshot {} is of `{}`, not of `{}`", id.short(), snapshot.source.place, source.place);
            if snapshot.source.engine != source.engine {
                return Err(CliError::new(ErrorKind::NotFound, message)
                    .hint(format_args!("it is of another engine; `--db {}` names that database", snapshot.source.place)));
            }
            if snapshot.source != source && identity == Identity::Same {
                return Err(CliError::new(ErrorKind::NotFound, message).hint(format_args!(
                    "`--db {}` names that database; `dbelay rollback --force-identity` puts its content into this one",
                    snapshot.source.place
                )));
            }
        }
        Ok(found)
    }

    /// Finds the snapshot that a selector means; `live` is none.
    pub fn select_snapshot(&self, text: &str) -> Result<ObjectId, CliError> {
        self.select_snapshot_of(text, Identity::Same)
    }

    /// As [`Project::select_snapshot`]; a snapshot of another database is found too where that is wanted.
    pub fn select_snapshot_of(&self, text: &str, identity: Identity) -> Result<ObjectId, CliError> {
        match self.select_of(text, identity)? {
            Target::Snapshot(id) => Ok(id),
            Target::Live => Err(CliError::usage("`live` is no snapshot").hint("`dbelay snapshot` takes one")),
        }
    }

    /// Reads a snapshot and what it refers to.
    pub fn load(&self, id: ObjectId) -> Result<(Snapshot, State), CliError> {
        let snapshot = capture::read_snapshot(&self.store, id)?;
        let state = capture::load(&self.store, &snapshot)?;
        Ok((snapshot, state))
    }

    /// Names a snapshot as it was asked for.
    pub fn state_name(&self, text: &str, id: ObjectId, snapshot: &Snapshot) -> StateName {
        StateName { name: text.to_owned(), id: Some(id.to_string()), time: Some(snapshot.time.clone()) }
    }

    /// Finds operations that a crash left open. Those that left the database as it was, or as it was to be, are settled and told of; returns
    /// the others, which need a decision. The project must be locked.
    pub fn settle(&self, session: &Session<'_>) -> Result<Vec<Indexed>, CliError> {
        let log = self.operations();
        let mut open = Vec::new();
        for begin in journal::unfinished(&log, &session.source) {
            let (index, _, entry) = begin;
            if let Some(running) = self.running(*index) {
                let message =
                    format!("the command of an interrupted `dbelay migrate` still runs: `{}`, {running}", entry.command.join(" "));
                return Err(CliError::new(ErrorKind::Locked, message)
                    .state(super::DatabaseState::Unknown)
                    .hint("wait until it has ended, or end it; then try again"));
            }
            let leftover = match journal::look_at(session, entry) {
                Err(OpError::Engine(error)) if error.is_no_database() => Leftover::Neither,
                looked => looked?,
            };
            let what = format!("`dbelay {}` of {} was interrupted", entry.kind.word(), super::time::stamp_text(&entry.time));
            match leftover {
                Leftover::AsBefore => {
                    self.cx.output.note(format_args!("{what}; the database is as it was before it"));
                    journal::settle(session, begin, OperationResult::Abandoned, entry.before)?;
                }
                Leftover::AsIntended => {
                    self.cx.output.note(format_args!("{what} after its work was done; the database is as it was to be"));
                    journal::settle(session, begin, OperationResult::Done, entry.after)?;
                }
                Leftover::Neither => open.push(begin.clone()),
            }
        }
        Ok(open)
    }

    /// Names the processes of an interrupted operation's command that still run, if any do.
    pub fn running(&self, begin: u64) -> Option<String> {
        let mut found = dbelay::process::marked(&journal::mark(&self.store, begin));
        found.sort_unstable();
        let names: Vec<String> = found.iter().map(u32::to_string).collect();
        (!names.is_empty()).then(|| format!("{} {}", if names.len() == 1 { "process" } else { "processes" }, names.join(", ")))
    }

    /// Says that an operation was left open, and what to do.
    pub fn left_open(&self, begin: &Indexed) -> CliError {
        let (_, _, entry) = begin;
        let command = if entry.command.is_empty() { String::new() } else { format!(" (`{}`)", entry.command.join(" ")) };
        let when = super::time::stamp_text(&entry.time);
        let before = entry.before.map(|id| id.short()).unwrap_or_default();
        let word = entry.kind.word();
        let (what, with_files) = if entry.files { ("the database with its files", " --with-files") } else { ("the database", "") };
        let message = format!("`dbelay {word}`{command} of {when} was interrupted, and {what} is not as it was before");
        let target = if entry.kind == OperationKind::Migrate { "pre".to_owned() } else { before };
        let others = if entry.kind == OperationKind::Migrate {
            "`dbelay migrate --resume` runs its command again, `dbelay migrate --accept` keeps what it did"
        } else {
            "`dbelay snapshot` keeps it"
        };
        CliError::new(ErrorKind::Failed, message).state(super::DatabaseState::Unchanged).hint(format_args!(
            "`dbelay diff {target} live` shows what it did, `dbelay rollback {target}{with_files}` puts everything back, {others}"
        ))
    }
}

/// Returns when a snapshot was taken.
pub fn time(snapshot: &Snapshot) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(&snapshot.time).map_or(DateTime::UNIX_EPOCH, |time| time.to_utc())
}

/// Styles an id.
pub fn id(id: &ObjectId) -> String {
    format!("{ID}{}{ID:#}", id.short())
}

/// Makes a store.
pub fn create_store(cx: &Context, dir: &Path) -> Result<Store, CliError> {
    let mut id = [0; 16];
    (cx.environment.random)(&mut id);
    match Store::create(dir, id) {
        // Another made it since somebody looked.
        Err(StoreError::Exists(_)) => Ok(Store::open(dir)?),
        store => Ok(store?),
    }
}

/// Finds the store's directory, and tells whether something is there.
pub fn find_store(cx: &Context, config: Option<&Config>, database: Option<&Path>) -> (PathBuf, bool) {
    let cwd = &cx.environment.cwd;
    let found = |dir: PathBuf| {
        let exists = dir.join("config.json").exists();
        (dir, exists)
    };
    if let Some(dir) = &cx.global.store {
        return found(cwd.join(dir));
    }
    if let Some(config) = config {
        return found(config.store_path());
    }
    let is_store = |start: &Path| start.ancestors().map(|folder| folder.join(STORE_DIR)).find(|dir| dir.join("config.json").exists());
    let beside = database.and_then(Path::parent);
    match is_store(cwd).or_else(|| beside.and_then(is_store)) {
        Some(dir) => (dir, true),
        None => (cwd.join(STORE_DIR), false),
    }
}

/// Reads a URL given on the command line.
pub fn parse_url(cx: &Context, text: &str) -> Result<DatabaseUrl, SourceError> {
    DatabaseUrl::parse(text, &UrlOrigin::Flag, &cx.environment.cwd, &|path| path.exists())
}
