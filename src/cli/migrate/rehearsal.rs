//! The run before the run: on a scratch copy, told and judged as the real one.

use dbelay::ops::Session;
use dbelay::ops::migrate::{Aftermath, Prepared};
use dbelay::ops::rehearse::{self, Rehearsal, Scratch, ServerCopy};
use dbelay::process::CommandSpec;
use serde_json::{Map, json};

use super::Migration;
use super::document::{rehearsal_document, rehearsal_timings};
use super::told::{allowances, chain, summary, what_went_wrong};
use crate::cli::output::{DIM, GOOD, HEADING};
use crate::cli::rehearse::Stage;
use crate::cli::{CliError, DatabaseState, ErrorKind, Exit, files, page};

impl Migration<'_> {
    /// Rehearses, and writes the page of it where no real run follows.
    pub(super) fn rehearse(&mut self, session: &Session<'_>, prepared: &Prepared) -> Result<Rehearsal, CliError> {
        let rehearsal = self.play(session, prepared)?;
        let result = self.judge(prepared, &rehearsal);
        if self.args.rehearse_only || result.is_err() {
            let remarks = vec!["this was a rehearsal on a scratch copy; the real database was not touched".to_owned()];
            let mut timings = vec![("snapshot before", prepared.duration)];
            timings.extend(rehearsal_timings(&rehearsal));
            let told = page::Told {
                pre: &prepared.pre,
                others: Vec::new(),
                end: &rehearsal.end,
                words: &self.words,
                aftermath: &rehearsal.aftermath,
                events: &[],
                remarks: if rehearsal.is_real_untouched { remarks } else { Vec::new() },
                timings,
                output: &self.printed,
                findings: &self.findings,
                is_rehearsal: true,
            };
            let result = result.map(|()| Exit::DONE);
            self.report(session, told, &result);
            return result.map(|_| rehearsal);
        }
        Ok(rehearsal)
    }

    /// Runs the command on a scratch copy.
    fn play(&mut self, session: &Session<'_>, prepared: &Prepared) -> Result<Rehearsal, CliError> {
        let output = &self.cx.output;
        let command = self.args.command.clone();
        let stage = Stage::set(self.project, &command, self.args.url_env.as_deref(), !self.args.no_namespace)?;
        output.say(format_args!("{HEADING}rehearsal{HEADING:#}: the command meets a scratch database {}", stage.ways()));
        let spec = CommandSpec {
            foreground: self.cx.environment.stdin_terminal,
            timeout: self.args.timeout,
            ..stage.spec(self.project, &command)
        };
        let options = self.options.clone();
        let (make, discard) = (|| stage.copy(), || stage.discard());
        let rehearsal = self.project.with_database(stage.database(), |scratch| {
            let run = &mut || self.execute(&spec);
            let copy = stage.has_server().then_some(ServerCopy { make: &make, discard: &discard });
            let scratch = Scratch { session: scratch, copy };
            rehearse::rehearse(session, &scratch, prepared, &options, run).map_err(|error| {
                let state = if stage.is_protected() { DatabaseState::Unchanged } else { DatabaseState::Unknown };
                CliError::from(error).context("the rehearsal failed; the real run was not begun").state(state)
            })
        });
        self.is_protected = stage.is_protected();
        drop(stage);
        // A scratch database has no files of its own: what the command did to those beside the real one it did to them.
        if let Some(remark) = files::changed_since(session, prepared.pre.snapshot.files)? {
            self.cx.output.warn(format_args!("during the rehearsal files beside the real database changed: {remark}"));
        }
        rehearsal
    }

    /// Tells what happened in a rehearsal, and fails where it did not go well.
    fn judge(&self, prepared: &Prepared, rehearsal: &Rehearsal) -> Result<(), CliError> {
        let (output, is_protected) = (&self.cx.output, self.is_protected);
        output.say(format_args!("{DIM}command: {}{DIM:#}", self.words));
        if let Aftermath::Changed(judgement) = &rehearsal.aftermath {
            summary(self.cx, judgement)?;
        }
        if !rehearsal.is_real_untouched {
            if !is_protected || !rehearsal.is_scratch_touched {
                return Err(CliError::new(
                    ErrorKind::NotRolledBack,
                    "the rehearsal could not be isolated: the real database was changed while it ran, by the command or by another program",
                )
                .state(DatabaseState::Changed)
                .hint(format_args!(
                    "`dbelay diff {0} live` shows the change, `dbelay rollback {0}` takes it back",
                    prepared.pre.id.short()
                )));
            }
            output.note("another program changed the database during the rehearsal; the command has no way to it from where it ran");
        }
        if !rehearsal.is_fine() && (rehearsal.is_scratch_touched || !rehearsal.end.is_success()) {
            return Err(self.rehearsal_failure(rehearsal));
        }
        if !rehearsal.is_scratch_touched && !is_protected {
            return Err(CliError::new(
                ErrorKind::Failed,
                "the command changed nothing in the rehearsal, so that nothing shows that it met the scratch database",
            )
            .state(DatabaseState::Unchanged)
            .hint("if there is nothing to migrate, that is all; else `--url-env NAME`, `{db}` or `{url}` lead the command to it"));
        }
        let found = match &rehearsal.aftermath {
            Aftermath::Unchanged => "the command changed nothing",
            _ => "nothing speaks against it",
        };
        output.say(format_args!("{GOOD}rehearsed{GOOD:#}: {found}; the real database was not touched"));
        Ok(())
    }

    fn rehearsal_failure(&self, rehearsal: &Rehearsal) -> CliError {
        let (what, causes) = what_went_wrong(&rehearsal.end, &rehearsal.aftermath, &self.words, "in the rehearsal ");
        let message = format!("{what}; the database was not touched");
        let mut error = chain(ErrorKind::RolledBack, message, causes).state(DatabaseState::Unchanged);
        let allow = match &rehearsal.aftermath {
            Aftermath::Changed(judgement) if rehearsal.end.is_success() => allowances(&judgement.verdict),
            _ => None,
        };
        error = match allow {
            Some(allow) => error.hint(format_args!("if the loss is intended: `dbelay migrate {allow} -- ...`")),
            None => error.hint("mend the migration and rehearse it again; nothing has to be undone"),
        };
        if rehearsal.end.is_interrupted {
            error = error.kind(ErrorKind::Interrupted);
        }
        let mut details = Map::new();
        details.insert("rehearsal".to_owned(), rehearsal_document(rehearsal));
        details.insert("check".to_owned(), json!(self.findings));
        error.details = Some(details);
        error
    }

    /// Ends after a rehearsal that went well.
    pub(super) fn stop(&self, rehearsal: &Rehearsal) -> Result<Exit, CliError> {
        if self.cx.output.is_json() {
            let document = json!({ "result": "rehearsed", "rehearsal": rehearsal_document(rehearsal), "check": self.findings });
            self.cx.output.json(&document)?;
        }
        Ok(Exit::DONE)
    }
}
