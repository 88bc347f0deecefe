//! Runs a process and says what it cost.
//!
//! The system tells the peak memory of children only as the largest of all that ended, and counts the memory of whoever started them. So each
//! process is started by a small one of its own: the benchmark itself, run once more with [`ONE`] as its first argument.

use std::process::{Command, Stdio};
use std::time::Instant;

/// The argument after which a command stands that is to be measured.
const ONE: &str = "--measure-one";

/// What a process cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// From its start to its end.
    pub seconds: f64,
    /// On all processors, in it and in the kernel, its own children included.
    pub cpu_seconds: f64,
    /// The most memory that it had at once; zero where the system does not tell.
    pub peak_bytes: u64,
}

/// Runs the command of the arguments where this process was started for one. Each benchmark calls it first.
pub fn serve() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != ONE) {
        return;
    }
    let mut command = Command::new(arguments.next().unwrap());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let (cpu_seconds, peak_bytes) = children();
    println!("{seconds} {cpu_seconds} {peak_bytes}");
    std::process::exit(i32::from(!status.success()));
}

#[cfg(unix)]
fn children() -> (f64, u64) {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;

    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    (microseconds as f64 / 1e6, u64::try_from(usage.max_rss()).unwrap() * unit)
}

#[cfg(not(unix))]
fn children() -> (f64, u64) {
    (0.0, 0)
}

/// Runs a command, which must succeed, and returns what it cost. What it prints to its standard output is thrown away.
pub fn cost(command: &Command) -> Cost {
    let mut one = Command::new(std::env::current_exe().unwrap());
    one.arg(ONE).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        one.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => one.env(name, value),
            None => one.env_remove(name),
        };
    }
    let output = one.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let mut fields = said.split_whitespace();
    let mut next = || fields.next().unwrap();
    Cost { seconds: next().parse().unwrap(), cpu_seconds: next().parse().unwrap(), peak_bytes: next().parse().unwrap() }
}

/// Runs a command that must succeed, outside of what is measured.
pub fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the first line that a program says of itself; none where it is not installed.
pub fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}
