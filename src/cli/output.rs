//! The only printer. Data goes to standard output, everything else to standard error.
//!
//! # Invariants
//! - With `--json` nothing but one document goes to standard output: [`Output::out`] swallows what it is given, [`Output::json`] prints.
//! - Text is readable without colour; whether there is any is decided once, from `--color`, `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR`, `TERM`
//!   and the terminal.
//! - A reader that went away (`| head`, a pager that was quit) is no error: the write fails with a broken pipe, the command ends by `?`, and
//!   [`Output::reader_is_gone`] tells the report to stay silent.
//! - A progress bar is out of the way while something is printed to standard error.

use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use dbelay::process::Stream;
use indicatif::ProgressBar;
use serde::Serialize;

use super::pager::Pager;
use super::{Environment, Global, When};

/// The word `error`.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The word `warning`.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// The words `hint` and `note`.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// That something went well.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Headings and names of tables.
pub const HEADING: Style = Style::new().bold();
/// What is beside the point.
pub const DIM: Style = Style::new().dimmed();
/// Ids of snapshots.
pub const ID: Style = AnsiColor::Yellow.on_default();
/// What only the later state has.
pub const ADDED: Style = AnsiColor::Green.on_default();
/// What only the earlier state has.
pub const REMOVED: Style = AnsiColor::Red.on_default();
/// What both have, differently.
pub const CHANGED: Style = AnsiColor::Yellow.on_default();

/// The version of every JSON document that is printed. Fields are added without a new one; it changes when one changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Prints.
pub struct Output {
    json: bool,
    quiet: bool,
    verbosity: u8,
    stdout_color: ColorChoice,
    stderr_color: ColorChoice,
    stdout_terminal: bool,
    stderr_terminal: bool,
    pager: Option<super::pager::PagerSpec>,
    /// The options that name database and store, for the commands that hints name; with a leading blank, or empty.
    place: String,
    bar: Mutex<Option<ProgressBar>>,
    reader_gone: Arc<AtomicBool>,
    document_printed: AtomicBool,
    engine: Mutex<&'static str>,
}

impl Output {
    /// Decides how to print.
    pub fn new(global: &Global, environment: &Environment) -> Self {
        let stdout_terminal = environment.stdout_terminal;
        let paged = stdout_terminal && !global.json && !global.no_pager;
        Self {
            json: global.json,
            quiet: global.quiet,
            verbosity: global.verbose,
            stdout_color: color(global.color, stdout_terminal, environment),
            stderr_color: color(global.color, environment.stderr_terminal, environment),
            stdout_terminal,
            stderr_terminal: environment.stderr_terminal,
            pager: if paged { super::pager::PagerSpec::of(environment) } else { None },
            place: place(global, environment),
            bar: Mutex::new(None),
            reader_gone: Arc::default(),
            document_printed: AtomicBool::new(false),
            engine: Mutex::new(""),
        }
    }

    /// Remembers of which engine the database is, for what helps against its errors.
    pub fn set_engine(&self, engine: &'static str) {
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = engine;
    }

    /// Returns of which engine the database is; empty where that is not known.
    pub fn engine(&self) -> &'static str {
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns standard output, buffered; nothing comes out of it with `--json`. Call [`Out::finish`] at the end, or its last errors are lost.
    pub fn out(&self) -> Out {
        let raw: Box<dyn Write> = if self.json { Box::new(io::sink()) } else { Box::new(io::stdout()) };
        Out::new(raw, self.stdout_color, None, &self.reader_gone)
    }

    /// Returns standard output through the pager, if it is a terminal and a pager is wanted and there.
    pub fn paged(&self) -> Out {
        let Some(spec) = &self.pager else { return self.out() };
        match Pager::start(spec) {
            Ok((pager, input)) => Out::new(Box::new(input), self.stdout_color, Some(pager), &self.reader_gone),
            Err(error) => {
                self.verbose(1, format_args!("no pager: {error}"));
                self.out()
            }
        }
    }

    /// Returns standard output for a document that is written piece by piece: buffered, without a pager, also with `--json`. It *must* be whole
    /// before [`Out::finish`].
    pub fn document(&self) -> Out {
        self.document_printed.store(true, Ordering::Relaxed);
        // Every byte is the document's: nothing is taken for a colour.
        Out::new(Box::new(io::stdout()), ColorChoice::AlwaysAnsi, None, &self.reader_gone)
    }

    /// Returns standard output for rows: byte for byte where a program reads them, through the pager where somebody does.
    pub fn rows(&self) -> Out {
        if self.stdout_terminal { self.paged() } else { self.document() }
    }

    /// Prints the one JSON document, with `schema_version` before its own fields.
    ///
    /// # Errors
    /// When it is no map, and when standard output cannot be written.
    pub fn json<T: Serialize + ?Sized>(&self, document: &T) -> io::Result<()> {
        #[derive(Serialize)]
        struct Envelope<'a, T: ?Sized> {
            schema_version: u32,
            #[serde(flatten)]
            document: &'a T,
        }
        let mut text = serde_json::to_vec_pretty(&Envelope { schema_version: SCHEMA_VERSION, document })?;
        text.push(b'\n');
        self.document_printed.store(true, Ordering::Relaxed);
        let mut out = Out::new(Box::new(io::stdout()), ColorChoice::AlwaysAnsi, None, &self.reader_gone);
        out.write_all(&text)?;
        out.finish()
    }

    /// Returns whether text on standard output has colours.
    pub fn colors(&self) -> bool {
        self.stdout_color != ColorChoice::Never
    }

    /// Returns whether one JSON document is wanted.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Returns whether the one document was printed already.
    pub fn document_printed(&self) -> bool {
        self.document_printed.load(Ordering::Relaxed)
    }

    /// Returns whether whoever read standard output stopped reading.
    pub fn reader_is_gone(&self) -> bool {
        self.reader_gone.load(Ordering::Relaxed)
    }

    /// Prints a line to standard error, unless `--quiet`: what was done.
    pub fn say(&self, line: impl Display) {
        if !self.quiet {
            self.line(self.placed(&line.to_string()));
        }
    }

    /// As [`Output::say`], with commands as they stand: where they need no options to mean this database.
    pub fn say_as_is(&self, line: impl Display) {
        if !self.quiet {
            self.line(line);
        }
    }

    /// Adds the options that name database and store to each command of ours between backticks, so that it works when pasted.
    pub fn placed(&self, text: &str) -> String {
        if self.place.is_empty() {
            return text.to_owned();
        }
        let mut parts = text.split('`');
        let mut out = parts.next().unwrap_or_default().to_owned();
        let mut is_code = true;
        for part in parts {
            out.push('`');
            match part.strip_prefix("dbelay ").filter(|rest| is_code && !rest.contains("--db")) {
                Some(_) => {
                    let end = part.find(" -- ").unwrap_or(part.len());
                    let (command, rest) = part.split_at(end);
                    out.push_str(&format!("{command}{}{rest}", self.place));
                }
                None => out.push_str(part),
            }
            is_code = !is_code;
        }
        out
    }

    /// Prints a line to standard error, from so many `-v` on.
    pub fn verbose(&self, level: u8, line: impl Display) {
        if self.verbosity >= level {
            self.line(format_args!("{DIM}{line}{DIM:#}"));
        }
    }

    /// Prints something worth knowing to standard error, unless `--quiet`.
    pub fn note(&self, line: impl Display) {
        self.say(format_args!("{HINT}note{HINT:#}: {line}"));
    }

    /// Prints a warning to standard error, always.
    pub fn warn(&self, line: impl Display) {
        self.line(format_args!("{WARNING}warning{WARNING:#}: {line}"));
    }

    /// Prints a line to standard error, always.
    pub fn line(&self, line: impl Display) {
        self.stderr(&format!("{line}\n"));
    }

    /// Prints to standard error without ending the line.
    pub fn prompt(&self, text: impl Display) {
        self.stderr(&text.to_string());
    }

    /// Prints what a wrapped command printed, byte for byte. That nobody reads it is no reason to stop the command.
    pub fn pass(&self, stream: Stream, bytes: &[u8]) {
        let _ = match stream {
            Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
            Stream::Stderr => io::stderr().write_all(bytes),
        };
    }

    /// Returns whether progress bars are wanted.
    pub fn shows_progress(&self) -> bool {
        self.stderr_terminal && !self.quiet && !self.json
    }

    /// Names the bar that has to make way for text; none when it is gone.
    pub fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    fn stderr(&self, text: &str) {
        // Where standard error cannot be written there is nobody to be told of it.
        let print = || {
            let _ = AutoStream::new(io::stderr(), self.stderr_color).write_all(text.as_bytes());
        };
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// Writes the options of a command line that name database and store. What the environment says need not be said again.
fn place(global: &Global, environment: &Environment) -> String {
    let option = |name: &str, value: &str| shlex::try_quote(value).map(|value| format!(" --{name} {value}")).unwrap_or_default();
    let database = global.db.as_deref().map(|db| option("db", &dbelay::source::redact(db))).unwrap_or_default();
    let store = global.store.as_deref().and_then(std::path::Path::to_str);
    let store = store.filter(|store| environment.var("DBELAY_STORE") != Some(store));
    format!("{database}{}", store.map(|store| option("store", store)).unwrap_or_default())
}

/// Standard output, a pager before it, or nothing.
pub struct Out {
    sink: Option<BufWriter<AutoStream<Box<dyn Write>>>>,
    pager: Option<Pager>,
    reader_gone: Arc<AtomicBool>,
}

impl Out {
    fn new(raw: Box<dyn Write>, color: ColorChoice, pager: Option<Pager>, reader_gone: &Arc<AtomicBool>) -> Self {
        let sink = BufWriter::with_capacity(32 * 1024, AutoStream::new(raw, color));
        Self { sink: Some(sink), pager, reader_gone: Arc::clone(reader_gone) }
    }

    /// Writes what is buffered, and waits until the pager was quit. A pager that was quit early is no error.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if self.pager.is_some() && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    fn seen<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            self.reader_gone.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.sink.as_mut().map_or(Ok(bytes.len()), |sink| sink.write(bytes));
        self.seen(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.sink.as_mut().map_or(Ok(()), Write::flush);
        self.seen(result)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        // The pager sees the end of its input before we wait for it.
        drop(self.sink.take());
        drop(self.pager.take());
    }
}

/// Decides about colours: the option, then the variables of no-color.org and bixense.com/clicolors, then the terminal.
fn color(when: When, terminal: bool, environment: &Environment) -> ColorChoice {
    let auto = || {
        if environment.var("NO_COLOR").is_some() {
            false
        } else if environment.var("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
            true
        } else {
            terminal && environment.var("CLICOLOR") != Some("0") && environment.var("TERM") != Some("dumb")
        }
    };
    match when {
        When::Always => ColorChoice::Always,
        When::Auto if auto() => ColorChoice::Always,
        When::Auto | When::Never => ColorChoice::Never,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A world without terminals and variables, at the beginning of 2026.
    pub fn environment() -> Environment {
        Environment {
            program: "dbelay".into(),
            cwd: std::env::temp_dir(),
            vars: std::collections::BTreeMap::new(),
            now: Box::new(|| "2026-01-01T00:00:00Z".parse().expect("a time")),
            random: |bytes| bytes.fill(7),
            user: "ada".into(),
            host: "engine".into(),
            pid: 1,
            stdin_terminal: false,
            stdout_terminal: false,
            stderr_terminal: false,
        }
    }

    #[test]
    fn colours_follow_the_option_then_the_variables_then_the_terminal() {
        let check = |when, terminal, vars: &[(&str, &str)], expected: bool| {
            let mut environment = environment();
            environment.vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let expected = if expected { ColorChoice::Always } else { ColorChoice::Never };
            assert_eq!(color(when, terminal, &environment), expected, "{when:?} {terminal} {vars:?}");
        };
        check(When::Auto, true, &[], true);
        check(When::Auto, false, &[], false);
        check(When::Auto, true, &[("NO_COLOR", "1")], false);
        check(When::Auto, true, &[("NO_COLOR", "")], true);
        check(When::Auto, false, &[("CLICOLOR_FORCE", "1")], true);
        check(When::Auto, false, &[("CLICOLOR_FORCE", "0")], false);
        check(When::Auto, true, &[("TERM", "dumb")], false);
        check(When::Always, false, &[("NO_COLOR", "1")], true);
        check(When::Never, true, &[("CLICOLOR_FORCE", "1")], false);
    }
}
