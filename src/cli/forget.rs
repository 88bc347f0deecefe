//! `dbelay forget`: drops snapshots by a policy or by name.

use std::io::Write;

use anstyle::Style;
use chrono::Local;
use dbelay::id::ObjectId;
use dbelay::ops::forget::{self, Acting, Group, Grouping, Item, Plan, Refusal};
use dbelay::ops::journal::{self, Author};
use dbelay::snapshot::retention::{Count, Policy, Span, TagList};
use dbelay::snapshot::select::ID_DIGITS_MIN;
use serde_json::json;

use super::output::{DIM, ERROR, GOOD, HEADING, Out};
use super::project::{Identity, Need, Project};
use super::table::{Align, Table};
use super::time::{counted, stamp};
use super::{CliError, Context, ErrorKind, Exit, log};

const EXAMPLES: &str = "\
Examples:
  dbelay forget --keep-last 5 --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  dbelay forget --keep-within 30d --keep-tag release
  dbelay forget                               the policy of [retention] in dbelay.toml
  dbelay forget 7f3a91c2 --prune

The policy is applied to each database and kind of snapshot (manual, pre, post, ...) by itself. A snapshot is kept if any option
keeps it. Never forgotten: what is pinned, HEAD, the state before the latest migration or an unfinished one, the last good one.";

/// Forget snapshots: those that no --keep option keeps, or those that are named
///
/// Their data stays in the store until its space is freed, by --prune or `dbelay gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Forget these, whatever their age
    #[arg(value_name = "SNAPSHOT", conflicts_with = "keep")]
    pub snapshots: Vec<String>,
    /// What to keep.
    #[command(flatten)]
    pub keep: Keep,
    /// To what the policy is applied by itself: source,kind, or source, or kind, or none
    #[arg(long, value_name = "BY", default_value = "source,kind", value_parser = grouping)]
    pub group_by: Grouping,
    /// Free the space of what nothing needs any more
    #[arg(long)]
    pub prune: bool,
}

/// What to keep. N is a number or `unlimited`; TIME is as in 2y5m7d3h: years, months, days, hours before the newest snapshot.
#[derive(Debug, Default, clap::Args)]
#[group(id = "keep", multiple = true)]
#[command(next_help_heading = "What to keep (N: a number or unlimited; TIME: 2y5m7d3h, back from the newest)")]
pub struct Keep {
    /// The last N snapshots
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_last: Option<Count>,
    /// The newest of each hour, for the last N hours that have one
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_hourly: Option<Count>,
    /// The newest of each day, for N days
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_daily: Option<Count>,
    /// The newest of each week (Monday to Sunday), for N weeks
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_weekly: Option<Count>,
    /// The newest of each month, for N months
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_monthly: Option<Count>,
    /// The newest of each year, for N years
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep_yearly: Option<Count>,
    /// All that are younger than TIME
    #[arg(long, value_name = "TIME")]
    pub keep_within: Option<Span>,
    /// The newest of each hour, of those younger than TIME
    #[arg(long, value_name = "TIME")]
    pub keep_within_hourly: Option<Span>,
    /// The newest of each day, of those younger than TIME
    #[arg(long, value_name = "TIME")]
    pub keep_within_daily: Option<Span>,
    /// The newest of each week, of those younger than TIME
    #[arg(long, value_name = "TIME")]
    pub keep_within_weekly: Option<Span>,
    /// The newest of each month, of those younger than TIME
    #[arg(long, value_name = "TIME")]
    pub keep_within_monthly: Option<Span>,
    /// The newest of each year, of those younger than TIME
    #[arg(long, value_name = "TIME")]
    pub keep_within_yearly: Option<Span>,
    /// All that have all these tags, with commas between; may be given again for others
    #[arg(long, value_name = "TAGS")]
    pub keep_tag: Vec<String>,
}

impl Keep {
    /// Returns the policy, if any of it was said.
    fn policy(&self) -> Option<Policy> {
        let counts = [self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly, self.keep_monthly, self.keep_yearly];
        let [keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly] = counts.map(Option::unwrap_or_default);
        let spans = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_yearly,
        ];
        if counts.iter().all(Option::is_none) && spans.iter().all(Option::is_none) && self.keep_tag.is_empty() {
            return None;
        }
        let [keep_within, keep_within_hourly, keep_within_daily, keep_within_weekly, keep_within_monthly, keep_within_yearly] =
            spans.map(Option::unwrap_or_default);
        let keep_tags = self.keep_tag.iter().map(|text| TagList::parse(text)).collect();
        Some(Policy {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            keep_within,
            keep_within_hourly,
            keep_within_daily,
            keep_within_weekly,
            keep_within_monthly,
            keep_within_yearly,
            keep_tags,
        })
    }
}

fn grouping(text: &str) -> Result<Grouping, String> {
    let mut by = Grouping { source: false, kind: false };
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "none") {
        match word {
            "source" => by.source = true,
            "kind" => by.kind = true,
            _ => return Err("write `source,kind`, `source`, `kind` or `none`".to_owned()),
        }
    }
    Ok(by)
}

/// Runs the command.
pub fn run(args: &Args, cx: &Context) -> Result<Exit, CliError> {
    let project = Project::open(cx, Need::Existing)?;
    let policy = if args.snapshots.is_empty() { Some(policy(args, &project)?) } else { None };
    // What is only looked at may change meanwhile; what is done may not.
    let _lock = if cx.global.dry_run { None } else { Some(project.lock("forget")?) };
    let operations = journal::read(&project.store)?;
    let mut items = forget::look(&project.store, &operations, project.progress())?;
    let plan = match &policy {
        Some(policy) => {
            // A database that was named means its snapshots alone.
            if cx.global.db.is_some() {
                let source = project.source()?;
                items.retain(|item| item.about.as_ref().is_none_or(|about| about.source == source));
            }
            let plan = forget::plan(&items, policy, args.group_by, cx.now(), &Local);
            if let Some(group) = plan.emptied().next() {
                return Err(emptied(group));
            }
            plan
        }
        None => {
            let ids = args.snapshots.iter().map(|text| named(&project, &items, text)).collect::<Result<Vec<_>, _>>()?;
            forget::plan_named(&items, &ids).map_err(|refusals| refused(&refusals))?
        }
    };
    let mut gone = 0;
    if !cx.global.dry_run && plan.forgotten().next().is_some() {
        let environment = &cx.environment;
        let author = Author { user: environment.user.clone(), host: environment.host.clone(), pid: environment.pid };
        let acting = Acting { author, now: &*environment.now, fallback: project.source().ok() };
        forget::execute(&project.store, &plan, &acting, &mut |_| gone += 1).map_err(|error| {
            CliError::from(error).context(format!("{} forgotten, the rest is there; `dbelay forget` again goes on", counted(gone, "snapshot was")))
        })?;
    }
    let exit = print(&project, &plan, policy.as_ref())?;
    if args.prune {
        prune_after(&project, &plan)?;
    } else if gone > 0 {
        cx.output.note("their data stays in the store until `dbelay gc` frees its space");
    }
    Ok(exit)
}

/// Frees the space of what was forgotten.
fn prune_after(project: &Project<'_>, plan: &Plan) -> Result<(), CliError> {
    if plan.forgotten().next().is_some() {
        project.cx.output.note("`dbelay gc` frees the space");
    }
    Ok(())
}

/// Returns the policy of the command line, else that of dbelay.toml.
fn policy(args: &Args, project: &Project<'_>) -> Result<Policy, CliError> {
    let said = args.keep.policy();
    let configured = || project.config.as_ref().map(|config| config.retention.clone()).filter(|policy| !policy.is_empty());
    let example = "say what to keep: `dbelay forget --keep-last 5 --keep-daily 7 --dry-run`, or put it under `[retention]` in dbelay.toml";
    match said.or_else(configured) {
        Some(policy) if !policy.is_empty() => Ok(policy),
        Some(_) => Err(CliError::usage("a policy that keeps nothing is not followed: nothing was forgotten").hint(example)),
        None => Err(CliError::usage("neither a snapshot nor what to keep is named: nothing was forgotten").hint(example)),
    }
}

/// Finds a snapshot that is named, also one that cannot be read.
fn named(project: &Project<'_>, items: &[Item], text: &str) -> Result<ObjectId, CliError> {
    // Only ids lead to what is damaged, and its file would keep others from being found.
    let digits = text.to_ascii_lowercase();
    let mut fitting = items.iter().filter(|item| item.damage.is_some() && item.id.to_string().starts_with(&digits));
    if let (true, Some(item), None) = (digits.len() >= ID_DIGITS_MIN, fitting.next(), fitting.next()) {
        return Ok(item.id);
    }
    project.select_snapshot_of(text, Identity::Any)
}

fn refused(refusals: &[Refusal]) -> CliError {
    let list: Vec<String> = refusals.iter().map(|refusal| format!("{} ({})", refusal.id.short(), refusal.why)).collect();
    let what = if refusals.len() == 1 { "a snapshot" } else { "snapshots" };
    let error = CliError::new(ErrorKind::Failed, format_args!("nothing was forgotten: {what} must stay: {}", list.join("; ")));
    match refusals.iter().find(|refusal| refusal.is_pinned) {
        Some(refusal) => error.hint(format_args!("`dbelay unpin {}` lets it go", refusal.id.short())),
        None => error.hint("name the others, without these"),
    }
}

fn emptied(group: &Group) -> CliError {
    let count = counted(group.forget.len() as u64, "snapshot");
    let message = format!("nothing was forgotten: of {} nothing would stay ({count}), since none has the tags", title(group));
    CliError::new(ErrorKind::Failed, message)
        .hint("keep at least one of each: `--keep-last 1` beside the tags; or `--group-by source`, so that kinds are not kept apart")
}

/// Names a group.
fn title(group: &Group) -> String {
    let source = group.source.as_ref().map(|source| format!("`{}`", source.place));
    let kind = group.kind.map(|kind| format!("kind {}", log::kind(kind)));
    match (source, kind) {
        (None, None) => "all snapshots".to_owned(),
        (source, kind) => [source, kind].into_iter().flatten().collect::<Vec<_>>().join(", "),
    }
}

fn print(project: &Project<'_>, plan: &Plan, policy: Option<&Policy>) -> Result<Exit, CliError> {
    let cx = project.cx;
    let exit = if plan.damaged.is_empty() { Exit::DONE } else { Exit::FOUND };
    let (kept, forgotten) = (plan.kept().count() as u64, plan.forgotten().count() as u64);
    let tags: Vec<&String> = plan.forgotten().flat_map(|item| &item.tags).collect();
    if cx.output.is_json() {
        cx.output.json(&json!({
            "dry_run": cx.global.dry_run, "policy": policy, "why": plan.why, "groups": plan.groups, "damaged": plan.damaged,
            "kept": kept, "forgotten": forgotten, "tags": tags,
        }))?;
        return Ok(exit);
    }
    let mut out = cx.output.paged();
    if policy.is_some() {
        writeln!(out, "{DIM}policy: {}{DIM:#}", plan.why)?;
    }
    for group in &plan.groups {
        write_group(&mut out, group, policy.is_some(), cx.global.dry_run)?;
    }
    for item in &plan.damaged {
        let damage = item.damage.as_deref().unwrap_or_default();
        writeln!(out, "{ERROR}damaged{ERROR:#}, neither counted nor forgotten: {} ({})", item.id.short(), dbelay::render::text::clean(damage))?;
    }
    let verb = if cx.global.dry_run { "would be forgotten" } else { "forgotten" };
    let kept = policy.map(|_| format!("{kept} kept, ")).unwrap_or_default();
    writeln!(out, "{GOOD}{kept}{forgotten} {verb}{GOOD:#}")?;
    if !tags.is_empty() {
        let list: Vec<String> = tags.iter().map(|tag| format!("`{tag}`")).collect();
        let went = if cx.global.dry_run { "these tags would go with them" } else { "these tags went with them" };
        writeln!(out, "{went}: {}", list.join(", "))?;
    }
    out.finish()?;
    Ok(exit)
}

fn write_group(out: &mut Out, group: &Group, by_policy: bool, dry_run: bool) -> Result<(), CliError> {
    let count = |n: usize| counted(n as u64, "snapshot");
    if by_policy {
        writeln!(out, "\n{HEADING}{}: keep {}{HEADING:#}", title(group), count(group.keep.len()))?;
        let mut table = table();
        for kept in &group.keep {
            table.line(Style::new(), cells(&kept.item).into_iter().chain([kept.reasons.join(", ")]));
        }
        table.write("  ", out)?;
    }
    if group.forget.is_empty() {
        return Ok(());
    }
    let verb = if dry_run { "would forget" } else { "forget" };
    writeln!(out, "{HEADING}{}: {verb} {}{HEADING:#}", title(group), count(group.forget.len()))?;
    let mut table = table();
    for item in &group.forget {
        table.line(Style::new(), cells(item).into_iter().chain(item.damage.as_ref().map(|damage| format!("damaged: {damage}"))));
    }
    table.write("  ", out)?;
    writeln!(out)?;
    Ok(())
}

fn table() -> Table {
    let mut table = Table::new(&[Align::Left; 5]);
    table.line(DIM, ["id", "time", "kind", "tags", ""]);
    table
}

fn cells(item: &Item) -> [String; 4] {
    let time = item.about.as_ref().map(|about| stamp(about.time)).unwrap_or_default();
    let kind = item.about.as_ref().map(|about| log::kind(about.kind).to_owned()).unwrap_or_default();
    [item.id.short(), time, kind, item.tags.join(", ")]
}
