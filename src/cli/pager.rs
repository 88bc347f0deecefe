//! A pager between long output and the terminal, as git has one.
//!
//! `DBELAY_PAGER`, else `PAGER`, else `less`, run by the shell; empty or `cat` means none. `less` is told to leave short output on the screen
//! (`LESS=FRX`) unless `LESS` says something else. While it runs, Ctrl-C is its own affair. A pager that is not there is as good as none.

use std::io;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::Environment;

/// Which pager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagerSpec {
    command: String,
    env: Vec<(&'static str, &'static str)>,
}

impl PagerSpec {
    /// Returns the pager that the environment wants, if it wants one and it is there.
    pub fn of(environment: &Environment) -> Option<Self> {
        let set = ["DBELAY_PAGER", "PAGER"].iter().find_map(|name| environment.vars.get(*name));
        let command = set.map_or("less", |command| command.trim());
        if command.is_empty() || command == "cat" || !is_there(command, environment) {
            return None;
        }
        let defaults = [("LESS", "FRX"), ("LV", "-c")];
        let env = defaults.into_iter().filter(|(name, _)| !environment.vars.contains_key(*name)).collect();
        Some(Self { command: command.to_owned(), env })
    }
}

/// Returns whether the program of a shell command exists, as far as that can be told without a shell.
fn is_there(command: &str, environment: &Environment) -> bool {
    let program = command.split_whitespace().next().unwrap_or_default();
    if !program.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c)) {
        return true;
    }
    let path = environment.var("PATH").unwrap_or_default();
    std::env::split_paths(path).any(|dir| dir.join(program).is_file())
}

/// A pager that runs. Dropped, it is waited for; its input must be closed by then.
pub struct Pager {
    child: Child,
    #[cfg(unix)]
    _hold: dbelay::process::SignalHold,
}

impl Pager {
    /// Starts it, and returns it with its input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(spec: &PagerSpec) -> io::Result<(Self, ChildStdin)> {
        #[cfg(unix)]
        let hold = dbelay::process::SignalHold::keyboard()?;
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", &spec.command]).envs(spec.env.iter().copied()).stdin(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or_else(|| io::Error::other("the pager has no input"))?;
        let pager = Self {
            child,
            #[cfg(unix)]
            _hold: hold,
        };
        Ok((pager, input))
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        // How it ended says nothing about the command.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::environment;
    use super::*;

    #[test]
    fn the_environment_chooses_the_pager() {
        let check = |vars: &[(&str, &str)], expected: Option<&str>| {
            let mut environment = environment();
            environment.vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(PagerSpec::of(&environment).map(|spec| spec.command).as_deref(), expected, "{vars:?}");
        };
        check(&[("PAGER", "")], None);
        check(&[("PAGER", "cat")], None);
        check(&[("DBELAY_PAGER", ""), ("PAGER", "/bin/more")], None);
        check(&[("PAGER", "/bin/more -s")], Some("/bin/more -s"));
        check(&[("PAGER", "X=1 more")], Some("X=1 more"));
        check(&[("PAGER", "no-such-pager"), ("PATH", "/bin:/usr/bin")], None);
        check(&[("PATH", "/no/such/place")], None);
    }
}
