//! `dbelay forget`: drops snapshots by a policy or by name.

use std::io::Write;

use anstyle::Style;
use chrono::Local;
use dbelay::id::ObjectId;
use dbelay::ops::forget::{self, Acting, Group, Grouping, Item, Plan, Refusal};
use dbelay::ops::journal::{self, Author};
use dbelay::progress::{Progress, Unit};
use dbelay::render::text;
use dbelay::snapshot::retention::{Count, Policy, Span, TagList};
use dbelay::snapshot::select::ID_DIGITS_MIN;
use dbelay::store::LockGuard;
use serde_json::{Value, json};

use super::output::{DIM, ERROR, GOOD, HEADING, Out};
use super::project::{self, Identity, Need, Project};
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
/// Their data stays in the store until its space is freed, by --prune or `dbelay gc`. Exits with 1 if snapshots are damaged: those are neither
/// counted nor forgotten unless they are named.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Forget these, whatever their age
    #[arg(value_name = "SNAPSHOT", conflicts_with = "keep")]
    pub snapshots: Vec<String>,
    /// To what the policy is applied by itself: source,kind, or source, or kind, or none
    #[arg(long, value_name = "BY", default_value = "source,kind", value_parser = grouping)]
    pub group_by: Grouping,
    /// Free the space of what nothing needs any more
    #[arg(long)]
    pub prune: bool,
    /// What to keep.
    #[command(flatten)]
    pub keep: Keep,
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
    let lock = if cx.global.dry_run { None } else { Some(project.lock("forget")?) };
    let operations = journal::read(&project.store)?;
    let items = forget::look(&project.store, &operations, project.progress())?;
    let plan = match &policy {
        Some(policy) => by_policy(&project, items, policy, args.group_by)?,
        None => {
            let ids = args.snapshots.iter().map(|text| named(&project, &items, text)).collect::<Result<Vec<_>, _>>()?;
            forget::plan_named(&items, &ids).map_err(|refusals| refused(&refusals))?
        }
    };
    let has_work = plan.forgotten().next().is_some();
    if has_work && !cx.global.dry_run {
        execute(&project, &plan)?;
    }
    let exit = if plan.damaged.is_empty() { Exit::DONE } else { Exit::FOUND };
    if cx.output.is_json() {
        let pruned = if args.prune { prune_after(&project, lock.as_ref())? } else { Value::Null };
        cx.output.json(&document(cx, &plan, policy.as_ref(), &pruned))?;
        return Ok(exit);
    }
    print(cx, &plan, policy.is_some())?;
    if args.prune {
        prune_after(&project, lock.as_ref())?;
    } else if has_work && !cx.global.dry_run {
        cx.output.note("their data stays in the store until `dbelay gc` frees its space");
    }
    Ok(exit)
}

/// Frees the space of what was forgotten; returns what there is to tell of it to programs. Comes after the forgetting is done and, for people,
/// printed. The lock is still held; there is none in a dry run, which only says what would come.
fn prune_after(project: &Project<'_>, lock: Option<&LockGuard>) -> Result<Value, CliError> {
    let Some(lock) = lock else {
        project.cx.output.note("then `dbelay gc` would free the space");
        return Ok(Value::Null);
    };
    super::gc::prune(project, lock)
}

fn by_policy(project: &Project<'_>, mut items: Vec<Item>, policy: &Policy, by: Grouping) -> Result<Plan, CliError> {
    let cx = project.cx;
    // A database that was named means its snapshots alone.
    if cx.global.db.is_some() {
        let source = project.source()?;
        items.retain(|item| item.about.as_ref().is_none_or(|about| about.source == source));
    }
    let plan = forget::plan(&items, policy, by, cx.now(), &Local);
    if let Some(group) = plan.emptied().next() {
        return Err(emptied(group));
    }
    Ok(plan)
}

fn execute(project: &Project<'_>, plan: &Plan) -> Result<(), CliError> {
    let environment = &project.cx.environment;
    let author = Author { user: environment.user.clone(), host: environment.host.clone(), pid: environment.pid };
    let acting = Acting { author, now: &*environment.now, fallback: project.source().ok() };
    let count = plan.forgotten().count() as u64;
    project.progress().begin("forgetting snapshots", Some(count), Unit::Objects);
    let mut gone = 0;
    let done = forget::execute(&project.store, plan, &acting, &mut |_| {
        gone += 1;
        project.progress().advance(1);
    });
    project.progress().finish();
    done.map_err(|error| {
        let message = format!("{gone} of {} are forgotten, the rest is there; the same command goes on", counted(count, "snapshot"));
        CliError::from(error).context(message)
    })
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
    // No tag looks like an id, and one that is damaged would keep any selector from being read.
    let digits = text.to_ascii_lowercase();
    let mut fitting = items.iter().filter(|item| item.id.to_string().starts_with(&digits));
    match (digits.len() >= ID_DIGITS_MIN, fitting.next(), fitting.next()) {
        (true, Some(item), None) => Ok(item.id),
        _ => project.select_snapshot_of(text, Identity::Any),
    }
}

fn refused(refusals: &[Refusal]) -> CliError {
    let list: Vec<String> = refusals.iter().map(|refusal| format!("{} ({})", refusal.id.short(), refusal.why)).collect();
    let what = if refusals.len() == 1 { "a snapshot" } else { "snapshots" };
    let mut error = CliError::new(ErrorKind::Failed, format_args!("nothing was forgotten: {what} must stay: {}", list.join("; ")));
    let details = refusals.iter().map(|refusal| json!({ "snapshot": refusal.id, "why": refusal.why })).collect();
    error.details = Some([("refused".to_owned(), Value::Array(details))].into_iter().collect());
    match refusals.iter().find(|refusal| refusal.is_pinned) {
        Some(refusal) => error.hint(format_args!("`dbelay unpin {}` lets it go", refusal.id.short())),
        None => error.hint("`dbelay forget --help` says what is never forgotten"),
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

fn tags(plan: &Plan) -> Vec<&String> {
    plan.forgotten().flat_map(|item| &item.tags).collect()
}

fn document(cx: &Context, plan: &Plan, policy: Option<&Policy>, pruned: &Value) -> Value {
    json!({
        "dry_run": cx.global.dry_run, "policy": policy, "why": plan.why, "groups": plan.groups, "damaged": plan.damaged,
        "kept": plan.kept().count(), "forgotten": plan.forgotten().count(), "tags": tags(plan), "pruned": pruned,
    })
}

fn print(cx: &Context, plan: &Plan, by_policy: bool) -> Result<(), CliError> {
    let mut out = cx.output.paged();
    if by_policy {
        writeln!(out, "{DIM}policy: {}{DIM:#}\n", plan.why)?;
    }
    for group in &plan.groups {
        write_group(&mut out, group, by_policy, cx.global.dry_run)?;
    }
    for item in &plan.damaged {
        let damage = text::clean(item.damage.as_deref().unwrap_or_default());
        writeln!(out, "{ERROR}damaged{ERROR:#}, neither counted nor forgotten: {} ({damage})", project::id(&item.id))?;
    }
    let (kept, forgotten) = (plan.kept().count(), plan.forgotten().count());
    let verb = if cx.global.dry_run { "would be forgotten" } else { "forgotten" };
    let kept = if by_policy { format!("{kept} kept, ") } else { String::new() };
    writeln!(out, "{GOOD}{kept}{forgotten} {verb}{GOOD:#}")?;
    let tags: Vec<String> = tags(plan).iter().map(|tag| format!("`{tag}`")).collect();
    if !tags.is_empty() {
        let went = if cx.global.dry_run { "these tags would go with them" } else { "these tags went with them" };
        writeln!(out, "{went}: {}", tags.join(", "))?;
    }
    out.finish()?;
    Ok(())
}

fn write_group(out: &mut Out, group: &Group, by_policy: bool, dry_run: bool) -> Result<(), CliError> {
    let count = |n: usize| counted(n as u64, "snapshot");
    if by_policy {
        writeln!(out, "{HEADING}{}{HEADING:#}", text::clean(&title(group)))?;
        writeln!(out, "keep {}:", count(group.keep.len()))?;
        let mut table = table("reasons");
        for kept in &group.keep {
            table.line(Style::new(), cells(&kept.item).into_iter().chain([kept.reasons.join(", ")]));
        }
        table.write("  ", out)?;
    }
    if !group.forget.is_empty() {
        let verb = if dry_run { "would forget" } else { "forget" };
        writeln!(out, "{verb} {}:", count(group.forget.len()))?;
        let mut table = table("");
        for item in &group.forget {
            table.line(Style::new(), cells(item).into_iter().chain(item.damage.as_ref().map(|damage| format!("damaged: {damage}"))));
        }
        table.write("  ", out)?;
    }
    writeln!(out)?;
    Ok(())
}

fn table(last: &str) -> Table {
    let mut table = Table::new(&[Align::Left; 5]);
    table.line(DIM, ["id", "time", "kind", "tags", last]);
    table
}

fn cells(item: &Item) -> [String; 4] {
    let time = item.about.as_ref().map(|about| stamp(about.time)).unwrap_or_default();
    let kind = item.about.as_ref().map(|about| log::kind(about.kind).to_owned()).unwrap_or_default();
    [item.id.short(), time, kind, item.tags.join(", ")]
}
