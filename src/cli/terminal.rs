//! Questions to the person at the terminal. The answer comes from standard input, the question goes to standard error.

use std::io;

use super::output::HEADING;
use super::{CliError, Context};

/// Asks a yes-or-no question; an empty answer means the default, the end of input means no. `--yes` answers it.
///
/// # Errors
/// A usage error that names `--yes` where nobody can be asked.
pub fn confirm(cx: &Context, question: &str, default: bool) -> Result<bool, CliError> {
    if cx.global.yes {
        return Ok(true);
    }
    ask(cx, question, if default { "Y/n" } else { "y/N" }, |answer| match answer {
        None => Some(false),
        Some("") => Some(default),
        Some("y" | "yes") => Some(true),
        Some("n" | "no") => Some(false),
        Some(_) => None,
    })
}

/// Asks for one of these words, of which the first letter is enough; an empty answer and the end of input mean the first one. Returns its
/// index.
///
/// # Errors
/// A usage error where nobody can be asked.
pub fn choose(cx: &Context, question: &str, words: &[&str]) -> Result<usize, CliError> {
    ask(cx, question, &words.join("/"), |answer| match answer {
        None | Some("") => Some(0),
        Some(answer) => words.iter().position(|word| word.starts_with(answer)),
    })
}

/// Asks until an answer makes sense, ten times at most. Answers come trimmed, in lower case; none at the end of input.
fn ask<T>(cx: &Context, question: &str, choices: &str, mut judge: impl FnMut(Option<&str>) -> Option<T>) -> Result<T, CliError> {
    if !cx.environment.stdin_terminal || !cx.environment.stderr_terminal || cx.global.json {
        return Err(
            CliError::usage(format_args!("nobody can be asked: {question}")).hint("with `--yes` every question is answered with yes")
        );
    }
    for _ in 0..10 {
        cx.output.prompt(format_args!("{HEADING}{question}{HEADING:#} [{choices}] "));
        let mut line = String::new();
        let count = io::stdin().read_line(&mut line)?;
        let answer = line.trim().to_lowercase();
        if let Some(verdict) = judge((count > 0).then_some(answer.as_str())) {
            return Ok(verdict);
        }
    }
    Err(CliError::usage(format_args!("no answer to: {question}")))
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::environment;
    use super::super::{Global, Output};
    use super::*;

    #[test]
    fn without_a_terminal_only_yes_answers() {
        let context = |yes| {
            let (global, environment) = (Global { yes, ..Global::default() }, environment());
            let output = Output::new(&global, &environment);
            Context { global, environment, output }
        };
        assert!(confirm(&context(true), "sure?", false).is_ok_and(|answer| answer));
        assert!(confirm(&context(false), "sure?", true).is_err_and(|error| error.hint.is_some_and(|hint| hint.contains("--yes"))));
    }
}
