//! The hook of git that runs after a checkout, and the line in it.

use super::{BEGIN, END, Edit, HookError};

/// Writes the line that a hook needs; it never fails a checkout. `folder` is where the project is, from the top of the work tree.
pub fn line(folder: &str) -> String {
    let call = "dbelay hook post-checkout \"$@\"";
    let call = match shlex::try_quote(folder) {
        Ok(quoted) if !folder.is_empty() => format!("(cd {quoted} && {call})"),
        _ => call.to_owned(),
    };
    format!("command -v dbelay >/dev/null 2>&1 && {call} || :")
}

/// Makes the text of the hook. One that is there is never changed: it may end early, or belong to a tool that writes it anew.
///
/// # Errors
/// [`HookError::Taken`] where there is a hook without the line.
pub fn edit(text: Option<&str>, folder: &str) -> Result<Edit, HookError> {
    let line = line(folder);
    match text {
        Some(text) if text.contains(&line) => Ok(Edit { text: text.to_owned(), added: Vec::new(), kept: Vec::new() }),
        Some(text) if !text.trim().is_empty() => {
            Err(HookError::Taken { message: "there is a hook post-checkout already, and it stays as it is".to_owned(), line })
        }
        _ => Ok(Edit {
            text: format!("#!/bin/sh\n{BEGIN} (written by `dbelay init --hooks git`)\n{line}\n{END}\n"),
            added: vec!["post-checkout".to_owned()],
            kept: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_goes_to_the_folder_of_the_project() {
        assert!(line("a b").contains("(cd 'a b' && dbelay hook post-checkout \"$@\") || :"));
    }

    #[test]
    fn a_hook_is_made_once_and_another_is_never_touched() {
        let made = edit(None, "").expect("a hook");
        assert!(made.text.starts_with("#!/bin/sh\n") && made.text.contains(&line("")));
        let again = edit(Some(&made.text), "").expect("a hook");
        assert_eq!((again.text.as_str(), again.added), (made.text.as_str(), Vec::new()));
        assert!(edit(Some("#!/bin/sh\nexec lint\n"), "").is_err_and(|error| matches!(error, HookError::Taken { .. })));
        assert!(edit(Some(&made.text), "packages/a b").is_err(), "another project's line is not this one's");
    }
}
