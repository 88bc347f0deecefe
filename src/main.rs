//! The `dbelay` command: gathers what it needs to know of the world, runs, and exits. The only reader of the clock, the environment
//! and randomness; everything else is given an [`Environment`].

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;

mod cli;

use cli::Environment;

fn main() -> ExitCode {
    cli::main(std::env::args_os().collect(), environment()).into()
}

fn environment() -> Environment {
    // A variable that is no UTF-8 is nothing that dbelay reads; commands that it starts inherit it all the same.
    let vars: BTreeMap<_, _> =
        std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect();
    let user = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| vars.get(*name)).cloned().unwrap_or_default();
    Environment {
        cwd: std::env::current_dir().unwrap_or_else(|_| ".".into()),
        program: std::env::current_exe().unwrap_or_else(|_| "dbelay".into()),
        now: Box::new(chrono::Utc::now),
        random: |bytes| getrandom::fill(bytes).expect("the system has randomness"),
        user,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        pid: std::process::id(),
        stdin_terminal: std::io::stdin().is_terminal(),
        stdout_terminal: std::io::stdout().is_terminal(),
        stderr_terminal: std::io::stderr().is_terminal(),
        vars,
    }
}
