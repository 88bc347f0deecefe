//! Runs the command that `dbelay migrate` wraps: pure mechanism, no opinion about what the result means.
//!
//! Two manners, chosen by [`CommandSpec::foreground`]:
//!
//! - **On a terminal** the command stays in our process group with our own standard streams: prompts work, colours stay, and nothing
//!   is captured. The terminal sends Ctrl-C and Ctrl-\ to both of us, so we only take note of them; SIGTERM and SIGHUP come to us
//!   alone and are forwarded to the command.
//! - **Without one** the command leads a process group of its own. Its output passes through the caller's sink while the last
//!   [`CommandSpec::capture_bytes_max`] bytes of each stream are kept. SIGINT, SIGQUIT, SIGTERM and SIGHUP are forwarded to the whole
//!   group.
//!
//! # Invariants
//! - While the command runs, none of those signals ends us: the state of a database is only decided after the command is gone.
//! - A signal is forwarded only while the command is not yet reaped, so that it never hits a process that inherited its number. One that
//!   comes while the command is being started waits for it.
//! - A signal that was ignored when we were started (`nohup`, background jobs of a script) stays ignored, by us and by the command.
//! - The end of the *leader* is the end of the command. Processes that it leaves behind may hold its pipes open for ever, so reading
//!   goes on after that until both pipes end, or for [`DRAIN_MS_MAX`] at most; [`Outcome::stragglers`] tells of them.
//!   A straggler that writes after that gets a broken pipe.
//! - When nobody reads the sink's other side any more, the command is not stopped for it: a half-done migration is worse than lost
//!   output. The sink has no way to fail.
//!
//! On Windows there is no forwarding: the console sends Ctrl-C to every process attached to it.

pub mod namespace;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

/// For how long the output of left-over processes is read after the command itself has ended.
pub const DRAIN_MS_MAX: u64 = 1000;

/// How long a command that took too long has for cleaning up, from the request to end until it is killed.
pub const GRACE_MS: u64 = 10_000;

/// How long processes that end with the command have for it, before they count as left behind.
const STRAGGLER_MS: u64 = 300;

/// How much of a stream is kept where the caller has no wish of its own.
pub const CAPTURE_BYTES_DEFAULT: usize = 64 * 1024;

const READ_BYTES: usize = 16 * 1024;
/// Chunks that wait for the sink; together with the pipe's own buffer this is what the command can be ahead of it.
const CHUNKS_MAX: usize = 16;

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    /// The program, looked up in `PATH` where it has no slash, then its arguments. No shell is involved.
    pub command: Vec<OsString>,
    /// Variables added to the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// How many bytes of the end of each stream are kept.
    pub capture_bytes_max: usize,
    /// Whether the command gets the terminal. True if and only if standard input is one.
    pub foreground: bool,
    /// Whether what the command prints to its standard output goes to our standard error, because ours is for one JSON document.
    pub stdout_to_stderr: bool,
    /// How long it may run. After that it is asked to end (SIGTERM), and [`GRACE_MS`] later killed.
    pub timeout: Option<Duration>,
}

/// Which of the command's streams some bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitKind {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl ExitKind {
    /// Returns whether the command says that it succeeded.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for ExitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

/// What became of the command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub exit: ExitKind,
    /// From its start to its end, without the draining of its pipes.
    pub duration: Duration,
    /// The end of its standard output; empty on a terminal.
    pub stdout_tail: Vec<u8>,
    /// The end of its standard error; empty on a terminal.
    pub stderr_tail: Vec<u8>,
    /// Whether someone asked us to stop meanwhile: Ctrl-C, Ctrl-\, SIGTERM or SIGHUP.
    pub interrupted: bool,
    /// Whether it was ended because it ran longer than it may.
    pub timed_out: bool,
    /// Whether the command was stopped because it wanted to ask something at a terminal that it does not own.
    pub wanted_terminal: bool,
    /// Whether processes that it started were still running when it ended; never known on a terminal or on Windows.
    pub stragglers: bool,
}

/// Why the command could not be run. In every case it did not run at all, but for [`CommandError::Lost`].
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No command was given.
    #[error("there is no command to run")]
    Empty,
    /// The directory to run it in is missing.
    #[error("there is no directory `{}` to run the command in", .0.display())]
    NoDirectory(PathBuf),
    /// No such program; a shell would exit with 127.
    #[error("there is no command `{0}`")]
    NotFound(String),
    /// The program may not or cannot be executed; a shell would exit with 126.
    #[error("the command `{program}` cannot be executed")]
    NotExecutable {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It could not be started for another reason.
    #[error("the command `{program}` could not be started")]
    Start {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It was started, and may still run: its end could not be waited for.
    #[error("the end of the command `{program}` could not be waited for")]
    Lost {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
}

impl CommandError {
    /// Returns the code with which a shell would exit: 127 not found, 126 not executable, else 125.
    pub fn shell_code(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

enum Event {
    Chunk(Stream, Vec<u8>),
    End,
    Exited(io::Result<ExitStatus>, Instant),
}

/// Runs a command to its end. Without a terminal, the sink gets its output piece by piece as it comes, on this thread;
/// with [`CommandSpec::stdout_to_stderr`] all of it as [`Stream::Stderr`].
///
/// # Errors
/// [`CommandError`]; a command that ran and failed is no error.
pub fn run(spec: &CommandSpec, sink: &mut dyn FnMut(Stream, &[u8])) -> Result<Outcome, CommandError> {
    let (program, arguments) = spec.command.split_first().ok_or(CommandError::Empty)?;
    let name = program.to_string_lossy().into_owned();
    if !spec.cwd.is_dir() {
        return Err(CommandError::NoDirectory(spec.cwd.clone()));
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&spec.cwd).envs(spec.env.iter().map(|(key, value)| (key, value))).stdin(Stdio::inherit());
    if spec.foreground {
        if spec.stdout_to_stderr {
            command.stdout(io::stderr());
        }
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
    }

    let watch = platform::Watch::begin(spec.foreground).map_err(|source| CommandError::Start { program: name.clone(), source })?;
    let begin = Instant::now();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(source) => {
            watch.end(false);
            return Err(spawn_error(&name, source));
        }
    };

    let (events, inbox) = crossbeam_channel::bounded(CHUNKS_MAX);
    let mut open = 0;
    let stdout_as = if spec.stdout_to_stderr { Stream::Stderr } else { Stream::Stdout };
    let mut tails = [Tail::new(spec.capture_bytes_max), Tail::new(spec.capture_bytes_max)];
    if let Some(pipe) = child.stdout.take() {
        open += 1;
        pump(pipe, Stream::Stdout, events.clone());
    }
    if let Some(pipe) = child.stderr.take() {
        open += 1;
        pump(pipe, Stream::Stderr, events.clone());
    }
    let waiter = watch.follow(child);
    let exit = events;
    thread::spawn(move || {
        let status = waiter();
        // The receiver is gone only when `run` has returned, which it does not before this message.
        let _ = exit.send(Event::Exited(status, Instant::now()));
    });

    let mut take = |stream: Stream, bytes: &[u8]| {
        tails[usize::from(stream == Stream::Stderr)].push(bytes);
        sink(if stream == Stream::Stdout { stdout_as } else { stream }, bytes);
    };
    let deadline = spec.timeout.and_then(|timeout| begin.checked_add(timeout));
    let (status, ended, timed_out) = until_exit(&inbox, &mut open, deadline, &watch, &mut take);
    drain(&inbox, open, Instant::now() + Duration::from_millis(DRAIN_MS_MAX), &mut take);
    let heard = watch.end(timed_out);
    let status = status.map_err(|source| CommandError::Lost { program: name, source })?;
    let [stdout, stderr] = tails;
    Ok(Outcome {
        exit: exit_kind(status),
        duration: ended.duration_since(begin),
        stdout_tail: stdout.0.into(),
        stderr_tail: stderr.0.into(),
        interrupted: heard.interrupted,
        timed_out,
        wanted_terminal: heard.wanted_terminal,
        stragglers: heard.stragglers,
    })
}

/// Passes output on until the command's leader has ended; at the deadline it is asked to end, and later made to. Tells whether it was.
fn until_exit(
    inbox: &Receiver<Event>,
    open: &mut u32,
    deadline: Option<Instant>,
    watch: &platform::Watch,
    take: &mut dyn FnMut(Stream, &[u8]),
) -> (io::Result<ExitStatus>, Instant, bool) {
    let mut deadline = deadline;
    let mut timed_out = false;
    loop {
        let event = match deadline {
            Some(deadline) => inbox.recv_deadline(deadline),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        // What ended in time did, however late we hear of it.
        if let Ok(Event::Exited(status, at)) = event {
            return (status, at, timed_out);
        }
        // A command that prints without a pause must not hide from its deadline.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            watch.stop(if timed_out { platform::Stop::Kill } else { platform::Stop::Ask });
            deadline = (!timed_out).then(|| Instant::now() + Duration::from_millis(GRACE_MS));
            timed_out = true;
        }
        match event {
            Ok(Event::Chunk(stream, bytes)) => take(stream, &bytes),
            Ok(Event::End) => *open -= 1,
            Ok(Event::Exited(..)) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return (Err(io::Error::other("the waiting thread is gone")), Instant::now(), timed_out);
            }
        }
    }
}

/// Passes on what is left in the pipes, until they end or the time is over.
fn drain(inbox: &Receiver<Event>, mut open: u32, until: Instant, take: &mut dyn FnMut(Stream, &[u8])) {
    while open > 0 {
        match inbox.recv_deadline(until) {
            Ok(Event::Chunk(stream, bytes)) => take(stream, &bytes),
            Ok(Event::End) => open -= 1,
            Ok(Event::Exited(..)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
        // A straggler that never pauses must not keep us either.
        if Instant::now() >= until {
            return;
        }
    }
}

/// Reads a pipe on a thread of its own, which ends with the pipe, or when nobody wants the bytes any more.
fn pump(mut pipe: impl Read + Send + 'static, stream: Stream, events: Sender<Event>) {
    thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if events.send(Event::Chunk(stream, buffer[..count].to_vec())).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = events.send(Event::End);
    });
}

/// The last bytes of a stream.
struct Tail(VecDeque<u8>, usize);

impl Tail {
    fn new(bytes_max: usize) -> Self {
        Self(VecDeque::new(), bytes_max)
    }

    fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.1)..];
        let excess = (self.0.len() + kept.len()).saturating_sub(self.1);
        self.0.drain(..excess);
        self.0.extend(kept);
    }
}

fn spawn_error(program: &str, source: io::Error) -> CommandError {
    let program = program.to_owned();
    #[cfg(unix)]
    let not_a_program = source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error());
    #[cfg(not(unix))]
    let not_a_program = false;
    match source.kind() {
        io::ErrorKind::NotFound => CommandError::NotFound(program),
        io::ErrorKind::PermissionDenied | io::ErrorKind::IsADirectory => CommandError::NotExecutable { program, source },
        _ if not_a_program => CommandError::NotExecutable { program, source },
        _ => CommandError::Start { program, source },
    }
}

fn exit_kind(status: ExitStatus) -> ExitKind {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitKind::Signal(signal);
    }
    ExitKind::Code(status.code().unwrap_or(-1))
}

fn signal_name(signal: i32) -> Option<&'static str> {
    #[cfg(unix)]
    return signal_hook::low_level::signal_name(signal);
    #[cfg(not(unix))]
    {
        let _ = signal;
        None
    }
}

/// A process, told from a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it began, as the system counts; none where that cannot be known.
    pub begin: Option<u64>,
}

impl ProcessId {
    /// Describes the process that has this number now.
    pub fn of(pid: u32) -> Self {
        Self { pid, begin: begin_of(pid) }
    }

    /// Tells whether it still runs; no where that cannot be known.
    pub fn is_running(&self) -> bool {
        self.begin.is_some() && begin_of(self.pid) == self.begin
    }
}

/// The variable that marks a command and all that it starts, see [`marked`].
pub const MARK: &str = "DBELAY_OPERATION";

/// Finds the processes that were started with [`MARK`] set to this, whoever started them: a command that outlives us, and what it left behind.
/// Only Linux tells, and only of this user's processes.
pub fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_marked).collect()
}

/// Returns when a process began, in clock ticks after the system's own start (field 22 of `/proc/PID/stat`, proc(5)); none for one that ended
/// and was not waited for yet, and where there is no such file.
fn begin_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

/// How a command is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Ask,
    Kill,
}

/// What was heard while the command ran.
struct Heard {
    interrupted: bool,
    wanted_terminal: bool,
    stragglers: bool,
}

#[cfg(unix)]
pub use platform::SignalHold;

#[cfg(unix)]
mod platform {
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;
    use std::io;
    use std::process::{Child, ExitStatus};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::thread;

    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process_group, waitid};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};
    use signal_hook::iterator::{Handle, Signals};

    use std::time::{Duration, Instant};

    pub(super) use super::Stop;
    use super::{Heard, ProcessId, STRAGGLER_MS};

    /// Whether a signal has its default effect on us, and how many want that it has not.
    struct Held {
        default: Arc<AtomicBool>,
        holders: usize,
    }

    static HELD: Mutex<BTreeMap<i32, Held>> = Mutex::new(BTreeMap::new());

    fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As long as it lives, these signals do not end us; after that they do again. A handler that is once installed stays, which is
    /// why the default effect has to be emulated after that.
    pub struct SignalHold(Vec<i32>);

    impl SignalHold {
        /// Holds Ctrl-C and Ctrl-\, for as long as another program on the same terminal is the one that they are meant for.
        ///
        /// # Errors
        /// When the system refuses a handler.
        pub fn keyboard() -> io::Result<Self> {
            Self::of(&[SIGINT, SIGQUIT])
        }

        /// Holds everything that asks us to end, for as long as something must be brought to its end.
        ///
        /// # Errors
        /// When the system refuses a handler.
        pub fn all() -> io::Result<Self> {
            Self::of(&[SIGINT, SIGQUIT, SIGTERM, SIGHUP])
        }

        /// Holds those of these signals that we do not ignore anyway.
        fn of(signals: &[i32]) -> io::Result<Self> {
            let mut held = locked(&HELD);
            let mut hold = Self(Vec::new());
            for &signal in signals {
                let entry = match held.entry(signal) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(_) if ignored(signal) => continue,
                    Entry::Vacant(entry) => {
                        let default = Arc::new(AtomicBool::new(true));
                        signal_hook::flag::register_conditional_default(signal, Arc::clone(&default))?;
                        entry.insert(Held { default, holders: 0 })
                    }
                };
                entry.holders += 1;
                entry.default.store(false, Ordering::SeqCst);
                hold.0.push(signal);
            }
            Ok(hold)
        }
    }

    impl Drop for SignalHold {
        fn drop(&mut self) {
            let mut held = locked(&HELD);
            for signal in &self.0 {
                if let Some(entry) = held.get_mut(signal) {
                    entry.holders -= 1;
                    entry.default.store(entry.holders == 0, Ordering::SeqCst);
                }
            }
        }
    }

    /// Returns whether we were started with this signal ignored, as `nohup` does. Only Linux tells that without unsafe code;
    /// elsewhere it is taken for not ignored.
    fn ignored(signal: i32) -> bool {
        let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
        u32::try_from(signal - 1).ok().and_then(|bit| mask.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
    }

    /// Where a signal goes.
    enum Target {
        /// The command is being started: what comes meanwhile waits for it.
        Starting(Vec<i32>),
        Running(Pid),
        /// Reaped, or never known by its number.
        Gone,
    }

    struct Shared {
        target: Mutex<Target>,
        /// Its process group; outlives it in its stragglers.
        group: Mutex<Option<Pid>>,
        /// What the command had started when it was asked to end, on a terminal.
        family: Mutex<Vec<ProcessId>>,
        foreground: bool,
        interrupted: AtomicBool,
        wanted_terminal: AtomicBool,
    }

    impl Shared {
        fn forward(&self, signal: i32) {
            self.interrupted.store(true, Ordering::SeqCst);
            if self.foreground && (signal == SIGINT || signal == SIGQUIT) {
                return;
            }
            // Locked until the signal is sent, so that the command is not reaped in between.
            let mut target = locked(&self.target);
            match &mut *target {
                Target::Starting(waiting) => waiting.push(signal),
                Target::Running(pid) => self.send(*pid, signal),
                Target::Gone => {}
            }
        }

        fn started(&self, pid: Option<Pid>) {
            if !self.foreground {
                *locked(&self.group) = pid;
            }
            let mut target = locked(&self.target);
            let before = std::mem::replace(&mut *target, pid.map_or(Target::Gone, Target::Running));
            if let (Some(pid), Target::Starting(waiting)) = (pid, before) {
                waiting.into_iter().for_each(|signal| self.send(pid, signal));
            }
        }

        fn send(&self, pid: Pid, signal: i32) {
            if let Some(signal) = Signal::from_named_raw(signal) {
                // An error means that it is gone, or changed its user: either way there is nothing more to do.
                let _ = if self.foreground { kill_process(pid, signal) } else { kill_process_group(pid, signal) };
            }
        }
    }

    /// Hears the signals that come to us while a command runs.
    pub(super) struct Watch {
        shared: Arc<Shared>,
        handle: Handle,
        listener: thread::JoinHandle<()>,
        hold: SignalHold,
    }

    impl Watch {
        /// Begins before the command does, so that no signal is missed.
        pub(super) fn begin(foreground: bool) -> io::Result<Self> {
            let hold = SignalHold::of(&[SIGINT, SIGQUIT, SIGTERM, SIGHUP])?;
            let mut signals = Signals::new(&hold.0)?;
            let handle = signals.handle();
            let shared = Arc::new(Shared {
                target: Mutex::new(Target::Starting(Vec::new())),
                group: Mutex::new(None),
                family: Mutex::new(Vec::new()),
                foreground,
                interrupted: AtomicBool::new(false),
                wanted_terminal: AtomicBool::new(false),
            });
            let hears = Arc::clone(&shared);
            let listener = thread::spawn(move || {
                for signal in signals.forever() {
                    hears.forward(signal);
                }
            });
            Ok(Self { shared, handle, listener, hold })
        }

        /// Returns what waits for the command's end.
        pub(super) fn follow(&self, mut child: Child) -> impl FnOnce() -> io::Result<ExitStatus> + Send + 'static {
            let shared = Arc::clone(&self.shared);
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            shared.started(pid);
            move || {
                if let Some(pid) = pid {
                    wait_unreaped(pid, &shared)?;
                }
                *locked(&shared.target) = Target::Gone;
                child.wait()
            }
        }

        /// Makes the command end, where it has not yet.
        pub(super) fn stop(&self, how: Stop) {
            let target = locked(&self.shared.target);
            if let Target::Running(pid) = *target {
                let signal = match how {
                    Stop::Ask => SIGTERM,
                    Stop::Kill => SIGKILL,
                };
                // In a group of its own all of it hears; on a terminal, where it is in ours, each process that it started has to be told.
                if self.shared.foreground {
                    let family = family(pid);
                    family.iter().for_each(|member| end_process(member, signal));
                    locked(&self.shared.family).extend(family);
                }
                self.shared.send(pid, signal);
            }
        }

        /// Stops to listen, and tells what was heard.
        /// What a command that took too long left behind is killed: it must not write after that.
        pub(super) fn end(self, timed_out: bool) -> Heard {
            self.handle.close();
            if timed_out {
                if let Some(group) = *locked(&self.shared.group) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                locked(&self.shared.family).iter().for_each(|member| end_process(member, SIGKILL));
            }
            // The listener ends with its iterator; it cannot have panicked in a way that matters now.
            let _ = self.listener.join();
            drop(self.hold);
            let group = *locked(&self.shared.group);
            Heard {
                interrupted: self.shared.interrupted.load(Ordering::SeqCst),
                wanted_terminal: self.shared.wanted_terminal.load(Ordering::SeqCst),
                stragglers: group.is_some_and(|group| outlives(group, Instant::now() + Duration::from_millis(STRAGGLER_MS))),
            }
        }
    }

    /// Ends a process that was seen, if it is still that one.
    fn end_process(process: &ProcessId, signal: i32) {
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
        if let (Some(pid), Some(signal), true) = (pid, Signal::from_named_raw(signal), process.is_running()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Finds what a process started, and what that started; nothing where there is no `/proc`.
    fn family(root: Pid) -> Vec<ProcessId> {
        let parent_of = |pid: u32| -> Option<u32> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // After the name, in parentheses, come the state and the parent (proc(5)).
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let all: Vec<(u32, u32)> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
        let mut found: Vec<u32> = u32::try_from(root.as_raw_nonzero().get()).into_iter().collect();
        let mut at = 0;
        while let Some(&parent) = found.get(at) {
            let children: Vec<u32> = all.iter().filter(|(pid, of)| *of == parent && !found.contains(pid)).map(|(pid, _)| *pid).collect();
            found.extend(children);
            at += 1;
        }
        found.into_iter().skip(1).map(ProcessId::of).collect()
    }

    /// Tells whether something of a process group still runs at a time, or until then nothing does.
    fn outlives(group: Pid, until: Instant) -> bool {
        loop {
            if test_kill_process_group(group).is_err() || !has_living(group) {
                return false;
            }
            if Instant::now() >= until {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells whether a group has a process that is more than the memory of one: the system counts those that nobody waited for yet. Where there is
    /// no `/proc`, every one is.
    fn has_living(group: Pid) -> bool {
        let Ok(entries) = std::fs::read_dir("/proc") else { return true };
        let mut is_known = false;
        for entry in entries.flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            is_known = true;
            // The name, in parentheses, may hold anything; after it come the state, the parent and the group (proc(5)).
            let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
            let (state, group_of) = (fields.next(), fields.nth(1));
            if group_of == Some(group.as_raw_nonzero().get().to_string().as_str()) && !matches!(state, Some("Z" | "X")) {
                return true;
            }
        }
        !is_known
    }

    /// Waits until the command has ended, and leaves it unreaped, so that its number cannot be given to another process yet.
    ///
    /// A command in a group of its own that reaches for the terminal is stopped by the system, and would stay so for ever: it
    /// is asked to end instead.
    fn wait_unreaped(pid: Pid, shared: &Shared) -> io::Result<()> {
        let mut options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        if !shared.foreground {
            options |= WaitIdOptions::STOPPED;
        }
        loop {
            match waitid(WaitId::Pid(pid), options) {
                Ok(Some(status)) if status.stopped() => {
                    let by = status.stopping_signal();
                    // Takes the news of the stop away, or the next wait would return it again.
                    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
                    if by == Some(signal_hook::consts::SIGTTIN) || by == Some(signal_hook::consts::SIGTTOU) {
                        shared.wanted_terminal.store(true, Ordering::SeqCst);
                        let _ = kill_process_group(pid, Signal::TERM);
                        let _ = kill_process_group(pid, Signal::CONT);
                    }
                }
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;
    use std::process::{Child, ExitStatus};

    use super::Heard;
    pub(super) use super::Stop;

    /// Hears nothing.
    pub(super) struct Watch(std::sync::Mutex<Option<u32>>);

    impl Watch {
        pub(super) fn begin(_foreground: bool) -> io::Result<Self> {
            Ok(Self(std::sync::Mutex::new(None)))
        }

        pub(super) fn follow(&self, mut child: Child) -> impl FnOnce() -> io::Result<ExitStatus> + Send + 'static {
            *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(child.id());
            move || child.wait()
        }

        /// Ends the command and what it started. There is no way to ask.
        pub(super) fn stop(&self, _how: Stop) {
            if let Some(pid) = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                let _ = std::process::Command::new("taskkill").args(["/T", "/F", "/PID", &pid.to_string()]).output();
            }
        }

        pub(super) fn end(self, _timed_out: bool) -> Heard {
            Heard { interrupted: false, wanted_terminal: false, stragglers: false }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn sh(script: &str) -> CommandSpec {
        CommandSpec {
            command: ["sh", "-c", script].map(OsString::from).to_vec(),
            env: vec![("DBELAY_WORD".into(), "rope".into())],
            cwd: std::env::temp_dir(),
            capture_bytes_max: 16,
            foreground: false,
            stdout_to_stderr: false,
            timeout: None,
        }
    }

    /// Signals come to the whole process, so that a test that sends one must be alone.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn run_all(spec: &CommandSpec) -> (Outcome, String, String) {
        let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let outcome = run(spec, &mut |stream, bytes| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        })
        .expect("it runs");
        (outcome, String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
    }

    #[test]
    fn output_passes_through_and_its_end_is_kept() {
        let (outcome, stdout, stderr) = run_all(&sh("echo $DBELAY_WORD 0123456789abcdef; echo oops >&2; exit 3"));
        assert_eq!(outcome.exit, ExitKind::Code(3));
        assert_eq!((stdout.as_str(), stderr.as_str()), ("rope 0123456789abcdef\n", "oops\n"));
        assert_eq!(outcome.stdout_tail, b"123456789abcdef\n");
        assert_eq!(outcome.stderr_tail, b"oops\n");
        assert!(!outcome.interrupted && !outcome.stragglers);
    }

    #[test]
    fn standard_output_can_be_told_to_go_to_standard_error() {
        let (_, stdout, stderr) = run_all(&CommandSpec { stdout_to_stderr: true, ..sh("echo one") });
        assert_eq!((stdout.as_str(), stderr.as_str()), ("", "one\n"));
    }

    #[test]
    fn a_killed_command_names_its_signal() {
        let (outcome, ..) = run_all(&sh("kill -KILL $$"));
        assert_eq!(outcome.exit, ExitKind::Signal(9));
        assert_eq!(outcome.exit.to_string(), "killed by SIGKILL");
    }

    #[test]
    fn a_straggler_that_holds_the_pipes_does_not_hold_us() {
        let started = Instant::now();
        let (outcome, stdout, _) = run_all(&sh("sleep 20 & echo $!"));
        assert_eq!(outcome.exit, ExitKind::Code(0));
        assert!(outcome.stragglers);
        assert!(started.elapsed() < Duration::from_secs(15));
        assert!(outcome.duration < Duration::from_secs(15));
        let pid = stdout.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("the pid that sh printed");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it still runs");
    }

    #[test]
    fn a_process_that_ended_and_was_not_waited_for_is_no_straggler() {
        // The inner shell becomes a process that never waits; what it started stays as a memory of its group.
        let (outcome, ..) = run_all(&sh("(sh -c 'exit 0' & exec setsid sleep 5) >/dev/null 2>&1 & sleep 0.3"));
        assert!(!outcome.stragglers);
    }

    #[test]
    fn a_signal_to_us_reaches_the_command_and_not_us() {
        // The command sends it to its parent, this process, at once, and ends early only by what comes back.
        let script = "trap 'echo got it; exit 7' TERM; kill -TERM $PPID; for i in $(seq 400); do sleep 0.05; done";
        let (outcome, stdout, _) = run_all(&sh(script));
        assert_eq!(outcome.exit, ExitKind::Code(7));
        assert_eq!(stdout, "got it\n");
        assert!(outcome.interrupted);
    }

    #[test]
    fn a_command_that_runs_too_long_is_asked_to_end() {
        let spec =
            CommandSpec { timeout: Some(Duration::from_millis(1500)), ..sh("trap 'echo bye; exit 9' TERM; while :; do sleep 0.05; done") };
        let (outcome, stdout, _) = run_all(&spec);
        assert_eq!((outcome.exit, stdout.as_str(), outcome.timed_out, outcome.interrupted), (ExitKind::Code(9), "bye\n", true, false));
        let (outcome, ..) = run_all(&CommandSpec { timeout: Some(Duration::from_secs(60)), ..sh("exit 0") });
        assert!(!outcome.timed_out);
    }

    #[test]
    fn a_command_that_prints_without_a_pause_does_not_outlive_its_time() {
        let (outcome, ..) = run_all(&CommandSpec { timeout: Some(Duration::from_millis(200)), ..sh("exec yes") });
        assert_eq!((outcome.exit, outcome.timed_out), (ExitKind::Signal(15), true));
    }

    #[test]
    fn what_a_command_that_ran_too_long_started_ends_with_it() {
        let script = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & wait";
        let (outcome, stdout, _) = run_all(&CommandSpec { timeout: Some(Duration::from_millis(1500)), ..sh(script) });
        assert!(outcome.timed_out);
        let inner = ProcessId::of(stdout.trim().parse().expect("the pid that the inner shell printed"));
        // What is killed takes a moment to be gone.
        let until = Instant::now() + Duration::from_secs(20);
        while inner.is_running() && Instant::now() < until {
            thread::yield_now();
        }
        assert!(!inner.is_running());
    }

    #[test]
    fn what_a_marked_command_left_behind_is_found() {
        let mark = format!("test-{}", std::process::id());
        let mut spec = sh("sleep 60 >/dev/null 2>&1 & echo $!");
        spec.env.push((MARK.into(), mark.clone().into()));
        let (_, stdout, _) = run_all(&spec);
        let pid: u32 = stdout.trim().parse().expect("the pid that sh printed");
        assert_eq!(marked(&mark), [pid]);
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it still runs");
        assert!(marked("another").is_empty());
    }

    #[test]
    fn a_process_is_known_while_it_runs_and_not_after() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("it runs");
        let id = ProcessId::of(child.id());
        assert!(id.is_running() && !ProcessId { begin: id.begin.map(|ticks| ticks + 1), ..id.clone() }.is_running());
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert!(!id.is_running());
    }

    #[test]
    fn a_missing_command_and_one_that_cannot_be_executed_are_told_apart() {
        let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let of = |program: &str| run(&CommandSpec { command: vec![program.into()], ..sh("") }, &mut |_, _| {}).expect_err("it cannot run");
        let missing = of("no-such-command-anywhere");
        assert_eq!((missing.shell_code(), missing.to_string().as_str()), (127, "there is no command `no-such-command-anywhere`"));
        assert_eq!(of("/").shell_code(), 126);
        let elsewhere = CommandSpec { cwd: "/no/such/place".into(), ..sh("true") };
        assert!(matches!(run(&elsewhere, &mut |_, _| {}), Err(CommandError::NoDirectory(_))));
    }
}
