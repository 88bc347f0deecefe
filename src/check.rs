//! Rules about migrations that have not run yet, asked of the live data: one rule a file, with its page and its tests.
//!
//! [`run`] reads the scripts' statements ([`lex`], [`statement`]), follows what they make of the database ([`model`]), and lets each rule
//! ask the database, through [`Data`], about the rows that would be there. Nothing here does I/O, knows the clock, or changes anything.
//!
//! Invariants: a rule speaks only of what the database answered; where it cannot answer, or a statement did what cannot be said beforehand,
//! it is silent. What cannot be parsed is a finding of its own. No script, whatever its bytes, makes it panic.

pub mod check_over_violations;
pub mod copy_leaves_out_column;
pub mod drop_column_with_data;
pub mod drop_table_with_data;
pub mod foreign_key_over_orphans;
pub mod lex;
pub mod lost;
pub mod model;
pub mod not_null_over_nulls;
pub mod pending;
pub mod rebuild_cascades;
pub mod retype_loses_values;
pub mod script;
pub mod silence;
pub mod statement;
pub mod unique_over_duplicates;
pub mod unparsed;

#[cfg(test)]
mod testing;

use std::error::Error;

use serde::Serialize;

use self::model::{Copy, Model, Place, Table};
use self::script::{Script, Wrapper};
use self::silence::Silence;
use self::statement::Statement;
use crate::schema::Schema;
use crate::value::Value;

/// How many rows of a finding are named.
const EXAMPLES_MAX: usize = 3;

/// How much work it may be to follow the scripts, in tables and columns that are looked at: seconds, not minutes.
const WORK_MAX: usize = 400_000_000;

/// How many statements of a script are said not to have been parsed: after so many it is no SQL.
const UNPARSED_MAX: usize = 20;

/// The live database, as far as rules may ask it.
pub trait Data {
    /// Returns what it declares.
    fn schema(&self) -> &Schema;

    /// Answers one statement that reads.
    ///
    /// # Errors
    /// Whatever keeps it from being answered. The rule that asked is silent then.
    fn query(&mut self, sql: &str, rows_max: usize) -> Result<Vec<Vec<Value>>, Box<dyn Error + Send + Sync>>;
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It may go wrong: it depends on what cannot be seen from here.
    Warning,
    /// The migration would fail, or data would be lost.
    Error,
}

impl Severity {
    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something that would go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub path: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// How many characters of the line are meant.
    pub width: u32,
    /// The line itself, or the part of it around the place.
    pub source: String,
    /// The column of that part's first character.
    pub source_column: u32,
    /// The table that it is about, by its live name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The column that it is about.
    #[serde(rename = "table_column", skip_serializing_if = "Option::is_none")]
    pub table_column: Option<String>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// How many rows it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Some of the rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// What else happens, or why: a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What to do instead.
    pub instead: String,
    /// How to silence it.
    pub silence: String,
}

/// What a rule found, before its place is put into words.
#[derive(Debug, Clone)]
pub struct Found {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is shown.
    pub place: Place,
    /// Further statements on which it may be silenced.
    pub also: Vec<Place>,
    /// The table that it is about.
    pub table: Option<String>,
    /// The column that it is about.
    pub column: Option<String>,
    /// What is wrong.
    pub message: String,
    /// How many rows it concerns.
    pub rows: Option<u64>,
    /// Some of the rows.
    pub examples: Vec<String>,
    /// What else happens.
    pub notes: Vec<String>,
    /// What to do instead.
    pub instead: String,
}

impl Found {
    /// Begins one.
    pub fn new(place: Place, message: String, instead: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place,
            also: Vec::new(),
            table: None,
            column: None,
            message,
            rows: None,
            examples: Vec::new(),
            notes: Vec::new(),
            instead: instead.into(),
        }
    }

    /// Says what it is about.
    #[must_use]
    pub fn about(mut self, table: &str, column: Option<&str>) -> Self {
        self.table = Some(table.to_owned());
        self.column = column.map(str::to_owned);
        self
    }

    /// Says which rows it concerns.
    #[must_use]
    pub fn rows(mut self, rows: u64, examples: Vec<String>) -> Self {
        self.rows = Some(rows);
        self.examples = examples;
        self
    }
}

/// A moment at which rules look.
pub enum Event<'a> {
    /// A statement is about to run.
    Before(Step<'a>),
    /// A query filled a table.
    Filled {
        /// The statement; the model is that after it.
        step: Step<'a>,
        /// The table, filled.
        table: &'a Table,
        /// The rows.
        copy: &'a Copy,
    },
    /// A script has run.
    ScriptEnd {
        /// What the database is then.
        model: &'a Model,
        /// What it was before all scripts.
        schema: &'a Schema,
        /// The script's number.
        script: usize,
    },
    /// Every script has run.
    End {
        /// What the database is then.
        model: &'a Model,
        /// What it was.
        schema: &'a Schema,
        /// The migration tools' own tables.
        ledgers: &'a [String],
    },
}

/// A statement and what is around it.
pub struct Step<'a> {
    /// The statement.
    pub statement: &'a Statement,
    /// Its place.
    pub place: Place,
    /// What it is about.
    pub subject: Place,
    /// What the database is.
    pub model: &'a Model,
    /// What runs the script.
    pub wrapper: &'a Wrapper,
}

/// One rule.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Its page.
    pub page: &'static str,
    check: fn(&Event<'_>, &mut Ask<'_>) -> Vec<Found>,
}

impl Rule {
    /// Returns the first line of its page: what it finds.
    pub fn summary(&self) -> &'static str {
        self.page.lines().next().unwrap_or_default()
    }
}

/// Every rule, in the order in which they are listed.
pub static RULES: [Rule; 10] = [
    Rule { name: "not-null-over-nulls", page: not_null_over_nulls::PAGE, check: not_null_over_nulls::check },
    Rule { name: "unique-over-duplicates", page: unique_over_duplicates::PAGE, check: unique_over_duplicates::check },
    Rule { name: "foreign-key-over-orphans", page: foreign_key_over_orphans::PAGE, check: foreign_key_over_orphans::check },
    Rule { name: "check-over-violations", page: check_over_violations::PAGE, check: check_over_violations::check },
    Rule { name: "retype-loses-values", page: retype_loses_values::PAGE, check: retype_loses_values::check },
    Rule { name: "drop-table-with-data", page: drop_table_with_data::PAGE, check: drop_table_with_data::check },
    Rule { name: "drop-column-with-data", page: drop_column_with_data::PAGE, check: drop_column_with_data::check },
    Rule { name: "rebuild-cascades", page: rebuild_cascades::PAGE, check: rebuild_cascades::check },
    Rule { name: "copy-leaves-out-column", page: copy_leaves_out_column::PAGE, check: copy_leaves_out_column::check },
    Rule { name: unparsed::NAME, page: unparsed::PAGE, check: |_, _| Vec::new() },
];

/// Finds a rule by its name.
pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// What a run is told besides the scripts.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The ledgers that the database has, by name: they tell which tool runs the scripts.
    pub ledgers: Vec<String>,
    /// What dbelay.toml silences: `rule`, `rule:table`, `rule:table.column`.
    pub ignore: Vec<String>,
    /// Losses that are announced: `table`, `table.column`.
    pub allow: Vec<String>,
}

/// What a run gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The findings, by place.
    pub findings: Vec<Finding>,
    /// How many findings were silenced.
    pub silenced: u64,
    /// What is wrong with what silences: names of rules that do not exist.
    pub remarks: Vec<String>,
    /// Questions that the database did not answer, with its words.
    pub unanswered: Vec<String>,
}

/// The way to ask: it counts, names rows, and remembers what was not answered.
pub struct Ask<'d> {
    data: &'d mut dyn Data,
    unanswered: Vec<String>,
}

impl<'d> Ask<'d> {
    /// Asks this database.
    pub fn new(data: &'d mut dyn Data) -> Self {
        Self { data, unanswered: Vec::new() }
    }

    /// Returns the rows that a query gives; none where it cannot be answered.
    pub fn rows(&mut self, sql: &str, rows_max: usize) -> Option<Vec<Vec<Value>>> {
        match self.data.query(sql, rows_max) {
            Ok(rows) => Some(rows),
            Err(error) => {
                let mut text = error.to_string();
                let mut cause = error.source();
                while let Some(next) = cause {
                    text.push_str(&format!(": {next}"));
                    cause = next.source();
                }
                self.unanswered.push(text);
                None
            }
        }
    }

    /// Counts the rows of a query that fulfil a condition; none where it cannot be answered.
    pub fn count(&mut self, query: &str, condition: &str) -> Option<u64> {
        let sql = format!("SELECT count(*) FROM ({query}) WHERE {condition}");
        match self.rows(&sql, 1)?.first()?.first()? {
            Value::Integer(count) => u64::try_from(*count).ok(),
            _ => None,
        }
    }

    /// Names some rows of a query that fulfil a condition, by these columns; nothing without columns.
    pub fn examples(&mut self, query: &str, condition: &str, columns: &[&str]) -> Vec<String> {
        if columns.is_empty() {
            return Vec::new();
        }
        let sql = format!("SELECT {} FROM ({query}) WHERE {condition}", statement::name_list(columns));
        let line = |row: Vec<Value>| {
            let cell = |(name, value): (&&str, &Value)| format!("{name}={}", shown(value));
            columns.iter().zip(&row).map(cell).collect::<Vec<_>>().join(", ")
        };
        self.rows(&sql, EXAMPLES_MAX).unwrap_or_default().into_iter().map(line).collect()
    }
}

/// Writes a value for people: short, and without what would disturb a terminal.
pub fn shown(value: &Value) -> String {
    const LETTERS_MAX: usize = 40;
    match value {
        Value::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let mut short: String = text.chars().take(LETTERS_MAX).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
            if text.chars().count() > LETTERS_MAX {
                short.push('…');
            }
            format!("'{short}'")
        }
        Value::Blob(bytes) => format!("({} bytes)", bytes.len()),
        other => other.to_json(),
    }
}

/// Says how many.
pub fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {one}s", number(count)) }
}

/// Writes a number with commas.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Runs every rule over the pending scripts, in their order.
///
/// The work is bounded: where it becomes too much a finding says that the rest was not looked at.
pub fn run(scripts: &[Script], data: &mut dyn Data, options: &Options) -> Report {
    run_within(scripts, data, options, WORK_MAX)
}

fn run_within(scripts: &[Script], data: &mut dyn Data, options: &Options, work_max: usize) -> Report {
    let mut silence = Silence::new(options);
    let schema = data.schema().clone();
    let mut model = Model::new(&schema);
    let mut ask = Ask::new(data);
    let mut found: Vec<(&'static str, Found)> = Vec::new();
    let (mut work, mut is_cut) = (0_usize, false);
    for (number, script) in scripts.iter().enumerate() {
        silence.read(number, script);
        if is_cut {
            continue;
        }
        let wrapper = Wrapper::of(script, &options.ledgers);
        model.begin_script();
        found.extend(unparsed::bytes(script, number).map(|finding| (unparsed::NAME, finding)));
        let mut unparsed = 0_usize;
        for part in script.statements(number) {
            let statement = match &part.parsed {
                Ok(statement) => statement,
                Err(reason) => {
                    model.forget(script.text_at(&part.places.whole));
                    unparsed += 1;
                    if unparsed <= UNPARSED_MAX {
                        found.push((unparsed::NAME, unparsed::statement(part.places.whole, reason, unparsed == UNPARSED_MAX)));
                    }
                    continue;
                }
            };
            let (place, subject) = (part.places.whole, part.places.subject);
            work = work.saturating_add(model.work_of(statement));
            if work > work_max {
                found.push((unparsed::NAME, unparsed::rest(place)));
                is_cut = true;
                break;
            }
            let before = Event::Before(Step { statement, place, subject, model: &model, wrapper: &wrapper });
            look(&before, &mut ask, &mut found);
            if let Some(copy) = model.apply(statement, &part.places)
                && let Statement::Insert { table, .. } | Statement::CreateTableAs { name: table, .. } = statement
                && let Some(table) = model.table(table)
            {
                let step = Step { statement, place, subject, model: &model, wrapper: &wrapper };
                look(&Event::Filled { step, table, copy: &copy }, &mut ask, &mut found);
            }
        }
        // What the rest would have kept or filled is not known.
        if is_cut {
            continue;
        }
        look(&Event::ScriptEnd { model: &model, schema: &schema, script: number }, &mut ask, &mut found);
    }
    if !is_cut {
        look(&Event::End { model: &model, schema: &schema, ledgers: &options.ledgers }, &mut ask, &mut found);
    }
    let mut report = Report { unanswered: ask.unanswered, remarks: silence.remarks.clone(), ..Report::default() };
    found.sort_by_key(|(_, found)| (found.place.script, found.place.start));
    for (rule, found) in found {
        let Some(script) = scripts.get(found.place.script) else { continue };
        if silence.is_silenced(rule, &found) {
            report.silenced += 1;
        } else {
            report.findings.push(script.finding(rule, found));
        }
    }
    report
}

fn look(event: &Event<'_>, ask: &mut Ask<'_>, found: &mut Vec<(&'static str, Found)>) {
    for rule in &RULES {
        found.extend((rule.check)(event, ask).into_iter().map(|finding| (rule.name, finding)));
    }
}
