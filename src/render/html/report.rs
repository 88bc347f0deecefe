//! The report of one migration: what was asked, how it ended, what became of schema and rows, what was lost, and how long it took.
//!
//! The caller fills a [`Report`] with plain data, no secret among it; [`page`] makes the page. What is empty has no section.

use std::fmt::Write;
use std::time::Duration;

use super::{ROWS_MAX, Role, begin_page, end_page, escape, prose, schema, table};
use crate::id::ObjectId;
use crate::render::text::duration;
use crate::schema::diff::SchemaDiff;
use crate::snapshot::changes::{RowChange, RowCounts, TablePair};
use crate::snapshot::manifest::Origin;

/// How a migration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The command succeeded, lost nothing, and its changes were kept.
    Done,
    /// The command succeeded and changed nothing.
    Unchanged,
    /// The command failed and had changed nothing.
    FailedUnchanged,
    /// It was not fine, and the database was put back, verified.
    RolledBack,
    /// It was not fine, and the database is as the command left it.
    NotRolledBack,
}

impl Ending {
    /// Returns the class that gives the verdict its colour, and the words above it.
    fn look(self) -> (&'static str, &'static str) {
        match self {
            Self::Done => ("good", "Done"),
            Self::Unchanged => ("quiet", "Nothing changed"),
            Self::FailedUnchanged => ("warn", "Failed, database unchanged"),
            Self::RolledBack => ("warn", "Rolled back"),
            Self::NotRolledBack => ("bad", "Not rolled back"),
        }
    }

    /// Returns the drawing beside the verdict: an SVG path in a box of 24.
    fn drawing(self) -> &'static str {
        match self {
            Self::Done => "M5 12.5l4.5 4.5L19 7.5",
            Self::Unchanged => "M6 9.5h12M6 14.5h12",
            Self::FailedUnchanged | Self::NotRolledBack => "M12 5.5v8M12 17.5v.5",
            Self::RolledBack => "M9 5L4.5 9.5 9 14M5 9.5h9a5 5 0 0 1 0 10h-3",
        }
    }
}

/// One migration.
#[derive(Debug, Clone)]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// What happened, and in what state the database is, in one sentence, as the error says it; code between backticks.
    pub headline: String,
    /// What to do next; code between backticks.
    pub hint: Option<String>,
    /// The database, without password.
    pub database: String,
    /// Who ran what where: that of the snapshot `pre`.
    pub origin: Origin,
    /// What its maker said about it.
    pub message: Option<String>,
    /// When it began, as people read it.
    pub time: String,
    /// How the command ended: `exit 0`; empty where it never ran.
    pub end: String,
    /// How long each part took, in order.
    pub timings: Vec<Timing>,
    /// The snapshots that it took or was put back to.
    pub snapshots: Vec<NamedSnapshot>,
    /// Each loss, announced ones among them.
    pub losses: Vec<ReportedLoss>,
    /// What else went wrong or is worth knowing: damage, limits of a rollback, why one failed. A sentence each.
    pub remarks: Vec<String>,
    /// Each guard that was asked.
    pub guards: Vec<Guard>,
    /// What the rules found in the migration's files.
    pub findings: Vec<RuleFinding>,
    /// What became of the schema.
    pub schema: SchemaDiff,
    /// The unified diff of its text, see [`crate::schema::diff::unified`].
    pub ddl: String,
    /// The tables with changes, in order.
    pub tables: Vec<ReportedTable>,
    /// The last of what the command printed, as it was printed.
    pub output: String,
}

/// How long a part took.
#[derive(Debug, Clone)]
pub struct Timing {
    /// The part: `snapshot before`, `command`, `snapshot after`, `rollback`.
    pub name: String,
    /// How long.
    pub duration: Duration,
}

/// A snapshot by the name that selects it.
#[derive(Debug, Clone)]
pub struct NamedSnapshot {
    /// `pre`, `post` or `failed`.
    pub name: String,
    /// Its id.
    pub id: ObjectId,
    /// What it holds: `2 tables, 5 rows`; may be empty.
    pub holds: String,
}

/// A loss, in words.
#[derive(Debug, Clone)]
pub struct ReportedLoss {
    /// One sentence; code between backticks.
    pub sentence: String,
    /// The keys of some of the rows.
    pub examples: Vec<String>,
    /// Whether it was announced.
    pub allowed: bool,
}

/// What a guard said.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Its name.
    pub name: String,
    /// Whether it let the migration pass.
    pub passed: bool,
    /// What it expected and what it found; may be empty.
    pub message: String,
}

/// What a rule found.
#[derive(Debug, Clone)]
pub struct RuleFinding {
    /// The rule's name.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// Where: `migrations/002.sql:14`; may be empty.
    pub place: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do instead; may be empty.
    pub help: String,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It stops a migration.
    Error,
    /// It should be looked at.
    Warning,
    /// It is good to know.
    Note,
}

/// What became of a table's rows.
#[derive(Debug, Clone)]
pub struct ReportedTable {
    /// The table.
    pub pair: TablePair,
    /// How many rows.
    pub counts: RowCounts,
    /// What it is to its reader.
    pub role: Role,
    /// Some of the changes, with all cells; those past [`ROWS_MAX`] are only counted.
    pub rows: Vec<RowChange>,
}

/// Makes the page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let command = report.origin.command.join(" ");
    let (_, words) = report.ending.look();
    begin_page(&mut out, &format!("{words}: {}", if command.is_empty() { "dbelay migrate" } else { &command }));
    verdict(&mut out, report, &command);
    losses(&mut out, report);
    items(&mut out, "Also", report.remarks.iter().map(|remark| ("chg", "!", prose(remark))));
    guards(&mut out, &report.guards);
    findings(&mut out, &report.findings);
    schema(&mut out, &report.schema.lines(), &report.ddl);
    if !report.tables.is_empty() {
        out.push_str("<section>\n<h2>Rows</h2>\n");
        for found in &report.tables {
            let shown = found.rows.get(..usize::try_from(ROWS_MAX).unwrap_or(usize::MAX)).unwrap_or(&found.rows);
            table(&mut out, &found.pair, &found.counts, found.role, shown);
        }
        out.push_str("</section>\n");
    }
    timings(&mut out, &report.timings);
    output(&mut out, report);
    facts(&mut out, report);
    end_page(&mut out, &format!("Written by dbelay {}", escape(&report.origin.dbelay)));
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

fn verdict(out: &mut String, report: &Report, command: &str) {
    let (class, words) = report.ending.look();
    push(out, format_args!("<header class=\"verdict {class}\">\n<p class=brand>dbelay migrate</p>\n<h1>"));
    let drawing = report.ending.drawing();
    push(out, format_args!("<svg viewBox=\"0 0 24 24\" aria-hidden=true><path d=\"{drawing}\"/></svg>{words}</h1>\n"));
    push(out, format_args!("<p class=headline>{}</p>\n", prose(&report.headline)));
    if !command.is_empty() {
        push(out, format_args!("<pre class=command>{}</pre>\n", escape(command)));
    }
    if let Some(message) = &report.message {
        push(out, format_args!("<p class=said>{}</p>\n", escape(message)));
    }
    let mut parts = vec![escape(&report.database), escape(&report.time)];
    if let Some(git) = &report.origin.git {
        parts.push(escape(&git.words()));
    }
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).map(|part| format!("<span>{part}</span>")).collect();
    push(out, format_args!("<p class=meta>{}</p>\n", parts.join("")));
    if let Some(hint) = &report.hint {
        push(out, format_args!("<p class=hint><b>Next</b> {}</p>\n", prose(hint)));
    }
    out.push_str("</header>\n");
}

/// Writes a section of signed lines; the third is HTML.
fn items<'a>(out: &mut String, title: &str, items: impl Iterator<Item = (&'a str, &'a str, String)>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    push(out, format_args!("<section>\n<h2>{title}</h2>\n<ul class=changes>\n"));
    for (class, sign, text) in items {
        push(out, format_args!("<li class={class}><span class=sign aria-hidden=true>{sign}</span><span>{text}</span></li>\n"));
    }
    out.push_str("</ul>\n</section>\n");
}

fn losses(out: &mut String, report: &Report) {
    let mut losses: Vec<&ReportedLoss> = report.losses.iter().collect();
    // What nobody announced comes first.
    losses.sort_by_key(|loss| loss.allowed);
    items(
        out,
        if losses.iter().all(|loss| loss.allowed) { "Lost, as announced" } else { "Lost" },
        losses.into_iter().map(|loss| {
            let mut text = prose(&loss.sentence);
            if loss.allowed {
                text.push_str(" <span class=tag>allowed</span>");
            }
            if !loss.examples.is_empty() {
                let examples: Vec<String> = loss.examples.iter().map(|example| format!("<code>{}</code>", escape(example))).collect();
                push(&mut text, format_args!("<span class=examples>{}</span>", examples.join(" ")));
            }
            if loss.allowed { ("dim", "−", text) } else { ("rem", "−", text) }
        }),
    );
}

fn guards(out: &mut String, guards: &[Guard]) {
    items(
        out,
        "Guards",
        guards.iter().map(|guard| {
            let (class, sign, word) = if guard.passed { ("add", "✓", "passed") } else { ("rem", "✗", "stopped the migration") };
            let mut text = format!("<b>{}</b> <span class=dim>{word}</span>", escape(&guard.name));
            if !guard.message.is_empty() {
                push(&mut text, format_args!("<span class=below>{}</span>", prose(&guard.message)));
            }
            (class, sign, text)
        }),
    );
}

fn findings(out: &mut String, findings: &[RuleFinding]) {
    items(
        out,
        "Rules",
        findings.iter().map(|finding| {
            let (class, sign, word) = match finding.severity {
                Severity::Error => ("rem", "✗", "error"),
                Severity::Warning => ("chg", "!", "warning"),
                Severity::Note => ("dim", "i", "note"),
            };
            let mut text = format!("<b>{}</b> <span class=dim>{word}", escape(&finding.rule));
            if !finding.place.is_empty() {
                push(&mut text, format_args!(", <code>{}</code>", escape(&finding.place)));
            }
            push(&mut text, format_args!("</span><span class=below>{}</span>", prose(&finding.message)));
            if !finding.help.is_empty() {
                push(&mut text, format_args!("<span class=\"below dim\">{}</span>", prose(&finding.help)));
            }
            (class, sign, text)
        }),
    );
}

/// Draws the parts in proportion.
fn timings(out: &mut String, timings: &[Timing]) {
    let total: Duration = timings.iter().map(|timing| timing.duration).sum();
    if timings.is_empty() {
        return;
    }
    push(out, format_args!("<section>\n<h2>Time <span class=dim>{}</span></h2>\n<ul class=times>\n", duration(total)));
    for timing in timings {
        let share = if total.is_zero() { 0.0 } else { 100.0 * timing.duration.as_secs_f64() / total.as_secs_f64() };
        push(
            out,
            format_args!(
                "<li><span>{}</span><span class=bar><i style=\"width:{share:.1}%\"></i></span><span class=much>{}</span></li>\n",
                escape(&timing.name),
                duration(timing.duration)
            ),
        );
    }
    out.push_str("</ul>\n</section>\n");
}

fn output(out: &mut String, report: &Report) {
    let text = &report.output;
    if text.trim().is_empty() {
        return;
    }
    let is_open = if matches!(report.ending, Ending::Done | Ending::Unchanged) { "" } else { " open" };
    out.push_str("<section>\n<h2>Output of the command</h2>\n");
    push(out, format_args!("<details{is_open}>\n<summary>Its last lines</summary>\n<pre class=output>"));
    // Colours mean nothing here.
    for line in anstream::adapter::strip_str(text).to_string().lines() {
        // A line that was written over in place shows as it stood at last.
        let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
        out.push_str(&escape(&line.replace('\t', "    ")));
        out.push('\n');
    }
    out.push_str("</pre>\n</details>\n</section>\n");
}

fn facts(out: &mut String, report: &Report) {
    let Report { origin, .. } = report;
    let git = origin.git.as_ref();
    let by = [origin.user.as_str(), origin.host.as_str()].join("@");
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("<code>{}</code>", escape(text)) };
    let mut facts = vec![
        ("Database", code(&report.database)),
        ("Command", code(&origin.command.join(" "))),
        ("Ended with", escape(&report.end)),
        ("Began", escape(&report.time)),
    ];
    let snapshots: Vec<String> = report
        .snapshots
        .iter()
        .map(|snapshot| {
            let holds =
                if snapshot.holds.is_empty() { String::new() } else { format!(" <span class=dim>{}</span>", escape(&snapshot.holds)) };
            format!("<div><b>{}</b> <code class=id>{}</code>{holds}</div>", escape(&snapshot.name), snapshot.id)
        })
        .collect();
    facts.push(("Snapshots", snapshots.join("")));
    facts.push(("Git branch", git.and_then(|git| git.branch.as_deref()).map(code).unwrap_or_default()));
    facts.push(("Git commit", git.and_then(|git| git.commit.as_deref()).map(code).unwrap_or_default()));
    facts.push(("By", escape(by.trim_matches('@'))));
    out.push_str("<section>\n<h2>Facts</h2>\n<dl>\n");
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        push(out, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
    }
    out.push_str("</dl>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{ColumnShape, TableShape};
    use crate::snapshot::changes::{ColumnPair, RowKey};
    use crate::snapshot::manifest::GitPosition;

    const HOSTILE: &str = "<script>alert(1)</script>\"'&`<img src=x onerror=alert(2)>";

    fn shape(name: &str, columns: &[&str]) -> TableShape {
        let column = |name: &&str| ColumnShape {
            name: (*name).to_owned(),
            declared_type: "TEXT".to_owned(),
            default: "null".to_owned(),
            hidden: false,
            generated: false,
        };
        TableShape { name: name.to_owned(), columns: columns.iter().map(column).collect(), identity: vec![0], locator: vec![0] }
    }

    fn row(cells: &[&str]) -> Vec<crate::snapshot::changes::Cell> {
        cells.iter().map(|cell| Box::from(*cell)).collect()
    }

    fn report(text: &str) -> Report {
        let text = || text.to_owned();
        let cell = serde_json::Value::from(text()).to_string();
        let shape = shape(&text(), &["id", &text()]);
        let pair = |at| ColumnPair { before: Some(at), after: Some(at) };
        let pair = TablePair {
            before: Some(shape.clone()),
            after: Some(shape),
            rows_before: 3,
            rows_after: 2,
            columns: vec![pair(0), pair(1)],
            key: RowKey::Columns(vec![0]),
        };
        let rows = vec![
            RowChange::Removed(row(&["1", &cell])),
            RowChange::Added(row(&["2", "null"])),
            RowChange::Changed { before: row(&["3", "null"]), after: row(&["3", &cell]), columns: vec![1] },
        ];
        let counts = RowCounts { added: 1, removed: 40, changed: 1, renumbered: 0, cells: vec![0, 1] };
        Report {
            ending: Ending::RolledBack,
            headline: text(),
            hint: Some(text()),
            database: text(),
            origin: Origin {
                dbelay: text(),
                user: text(),
                host: text(),
                command: vec![text()],
                git: Some(GitPosition { branch: Some(text()), commit: Some(text()) }),
            },
            message: Some(text()),
            time: text(),
            end: text(),
            timings: vec![Timing { name: text(), duration: Duration::from_millis(2100) }],
            snapshots: vec![NamedSnapshot { name: text(), id: ObjectId::of(b""), holds: text() }],
            losses: vec![
                ReportedLoss { sentence: text(), examples: vec![text()], allowed: true },
                ReportedLoss { sentence: "3 rows are gone".to_owned(), examples: Vec::new(), allowed: false },
            ],
            remarks: vec![text()],
            guards: vec![Guard { name: text(), passed: false, message: text() }],
            findings: vec![RuleFinding { rule: text(), severity: Severity::Error, place: text(), message: text(), help: text() }],
            schema: SchemaDiff { changes: Vec::new(), text_differs: false, settings: vec![(text(), text(), text())] },
            ddl: format!("+{}\n", text()),
            tables: vec![ReportedTable { pair, counts, role: Role::Ordinary, rows }],
            output: text(),
        }
    }

    #[test]
    fn hostile_names_and_values_stay_text() {
        let page = page(&report(HOSTILE));
        assert!(page.matches("&lt;script&gt;alert(1)").count() > 25);
        for word in ["<script", "<img", "onerror=alert(2)>\"", "http:", "https:", "@import", "url("] {
            assert!(!page.contains(word), "{word} is in the page");
        }
        // Each tag that stands there is one of ours.
        let ours =
            ["html", "head", "meta", "link", "title", "style", "body", "main", "header", "section", "footer", "details", "summary", "svg"];
        let parts = ["path", "h1", "h2", "p", "pre", "b", "i", "ul", "li", "dl", "dt", "dd", "div", "span", "code", "del", "ins"];
        let table = ["table", "thead", "tbody", "tr", "th", "td"];
        let style = page.split("<style>").nth(1).and_then(|rest| rest.split_once("</style>")).map_or("", |(style, _)| style);
        for tag in page.replace(style, "").split('<').skip(1) {
            let name: String = tag.trim_start_matches(['/', '!']).chars().take_while(char::is_ascii_alphanumeric).collect();
            let is_ours = name == "doctype" || ours.iter().chain(&parts).chain(&table).any(|known| *known == name);
            assert!(is_ours, "<{tag}");
        }
    }

    #[test]
    fn what_was_not_announced_comes_before_what_was() {
        let page = page(&report("said"));
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("no `{text}`"));
        assert!(at("3 rows are gone") < at("<span class=tag>allowed</span>"));
        assert!(at("<h2>Lost</h2>") < at("<h2>Rows</h2>"));
        assert!(page.contains("and 39 more"), "rows that are only counted are told of");
    }

    #[test]
    fn what_is_empty_has_no_section() {
        let bare = Report {
            ending: Ending::Unchanged,
            hint: None,
            message: None,
            timings: Vec::new(),
            snapshots: Vec::new(),
            losses: Vec::new(),
            remarks: Vec::new(),
            guards: Vec::new(),
            findings: Vec::new(),
            schema: SchemaDiff::default(),
            ddl: String::new(),
            tables: Vec::new(),
            output: String::new(),
            ..report("x")
        };
        let page = page(&bare);
        assert_eq!(page.matches("<h2>").count(), 1, "the facts alone");
        assert!(page.contains("Nothing changed"));
    }

    #[test]
    fn output_loses_its_colours_and_what_was_written_over() {
        let page = page(&Report { output: "\u{1b}[31m10%\r100%\u{1b}[0m\r\nnext\n".to_owned(), ..report("x") });
        assert!(page.contains("<pre class=output>100%\nnext\n</pre>"), "{page}");
    }
}
