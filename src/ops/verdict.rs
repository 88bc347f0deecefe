//! What a migration removed: data that stood in the database before, and stands nowhere after.
//!
//! Told as loss: tables that went with their rows, rows that went, columns that went, were emptied, overwritten with one value or cut short while
//! they held values, values that a change of type destroyed, and references that now point nowhere. A table or column that goes on
//! under another name is recognised by its content and is no loss; nor are rows and values that stand in another table now, which are told
//! as moved. Ledgers of migration tools, the engine's own tables and the machinery of virtual tables are never judged.
//!
//! ## Emptied
//! No value of a column is left in the rows that were there before, but for a few that became others; what came with new rows says nothing of the old
//! ones. One value that nobody touched shows that somebody chose what to clear, and it is remarked, unless the table was made anew and a copy left
//! the column out, or a foreign key took the references ([`unset`]).
//!
//! ## Overwritten
//! Every value of a column became one and the same, but for one in twenty that became others, of at least three different ones before (of two it is only
//! remarked: flags are set all the time), unless all of them are times, which is remarked, too, or the old ones stand elsewhere now. It is told though a
//! migration may have derived another column from the old values first: what only *follows* from a value does not hold it. (django-oscar's `catalogue 0019` sets `catalogue_option.type` to
//! `text` after it made `required` of it: on the two values that the application writes, a remark; on any three, a loss.)
//!
//! ## In two passes
//! The rows of each table go by once, and [`watch`] counts what is suspicious. Only a suspicion has rows read again: where the data went
//! ([`moved`]), and why ([`cause`]).

mod cause;
mod conversion;
mod ledger;
mod links;
mod loss;
mod marks;
mod matching;
mod moved;
mod orphans;
mod parts;
mod rows;
mod search;
mod unset;
mod values;
mod virtual_tables;
mod watch;

use std::ops::ControlFlow;

use super::OpError;
use super::capture::State;
use super::compare::Comparison;
use crate::engine::Finding;
use crate::engine::since::{Extent, FoundSince};
use crate::render::text::{self, number};
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema};
use crate::snapshot::changes::{Cells, RowChange, RowCounts, TableFate, TablePair};
use crate::snapshot::chunks;
use crate::store::Store;
use crate::value::Value;

pub use ledger::{is_ledger, is_ledger_of};
pub use loss::{Loss, LossKind};
pub use moved::{Moved, MovedBy};
use search::{Search, Touched};
use values::{Held, Origin};
pub use virtual_tables::content_of;
use watch::{Became, EXAMPLES_MAX, Overwrite, Tally, Watch};

/// How many different values make one that replaces them all a loss.
const DIFFERENT_MIN: usize = 3;

/// How many values are so many that something general happened to them.
const MANY_MIN: u64 = 3;

/// One in how many values is so few that it proves nothing.
const FEW_IN: u64 = 20;

/// One table's part in a migration.
pub struct TableChange {
    /// The table.
    pub pair: TablePair,
    /// Its rows.
    pub counts: RowCounts,
    /// Whether it is a migration tool's ledger.
    pub is_ledger: bool,
    /// The migrations that a ledger's first new rows are for, where they say so.
    pub entries: Vec<String>,
}

impl TableChange {
    /// Says what happened to a ledger: `` `django_migrations` +3 rows (shop.0002_more, …)``.
    pub fn ledger_sentence(&self) -> String {
        let Self { pair, counts, entries, .. } = self;
        let count = |sign: &str, count: u64| {
            let rows = if count == 1 { "row" } else { "rows" };
            (count > 0).then(|| format!("{sign}{} {rows}", number(count)))
        };
        let mut parts: Vec<String> = [count("+", counts.added), count("-", counts.removed)].into_iter().flatten().collect();
        if counts.changed > 0 {
            parts.push(format!("{} changed", number(counts.changed)));
        }
        if parts.is_empty() || pair.fate() != TableFate::Kept {
            parts.insert(0, text::title(pair).strip_prefix(pair.name()).map(str::trim).unwrap_or_default().to_owned());
        }
        let more = if counts.added > entries.len() as u64 { ", …" } else { "" };
        let named = if entries.is_empty() { String::new() } else { format!(" ({}{more})", entries.join(", ")) };
        let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("`{}` {}{named}", pair.name(), parts.join(", "))
    }
}

/// What a migration did to the rows, and what it removed.
pub struct Verdict {
    /// Each table with changed rows, in order.
    pub changes: Vec<TableChange>,
    /// Each loss, announced ones among them.
    pub losses: Vec<Loss>,
    /// What went from its place and stands elsewhere now.
    pub moved: Vec<Moved>,
    /// What is no loss and worth a look.
    pub remarks: Vec<String>,
}

impl Verdict {
    /// Returns the losses that nobody announced.
    pub fn unannounced(&self) -> impl Iterator<Item = &Loss> {
        self.losses.iter().filter(|loss| !loss.allowed)
    }
}

/// What the engine's checks found before.
#[derive(Debug, Clone, Copy)]
pub struct Baseline<'a> {
    /// The findings.
    pub findings: &'a [Finding],
    /// How much was checked.
    pub extent: Extent,
}

/// Judges a comparison.
///
/// `findings` are those before and after, of which those about foreign keys count; `allowed` is what `--allow` names: `table` or `table.column`, by the names before or
/// after.
///
/// # Errors
/// [`OpError::Compare`] where an object is missing or malformed.
pub fn judge(
    store: &Store,
    comparison: &Comparison<'_>,
    findings: (Baseline<'_>, &[FoundSince]),
    allowed: &[String],
) -> Result<Verdict, OpError> {
    let mut verdict = Verdict { changes: Vec::new(), losses: Vec::new(), moved: Vec::new(), remarks: Vec::new() };
    let (mut touched, mut watches) = (Vec::new(), Vec::new());
    for pair in comparison.pairs.iter().filter(|pair| !comparison.is_equal(pair)) {
        let is_ledger = pair.after.as_ref().or(pair.before.as_ref()).is_some_and(is_ledger);
        let mut watch = watch_of(store, comparison, pair, is_ledger);
        let cells = if is_ledger { Cells::All } else { Cells::Telling };
        let counts = comparison.rows(pair, cells, &mut |change| {
            watch.see(pair, &change);
            ControlFlow::Continue(())
        })?;
        if let Some(table) = virtual_tables::content_of(comparison, pair) {
            verdict.losses.extend(virtual_tables::content_loss(&table, pair, &counts));
        }
        if !counts.is_empty() || pair.fate() != TableFate::Kept {
            let entries = watch.entries.names.clone();
            verdict.changes.push(TableChange { pair: pair.clone(), counts: counts.clone(), is_ledger, entries });
        }
        touched.push(Touched { pair, counts, is_data: !is_ledger && !comparison.is_machinery(pair) });
        watches.push(watch);
    }
    let search = Search::new(store, comparison, &touched);
    for (at, watch) in watches.iter().enumerate().filter(|(at, _)| touched[*at].is_data) {
        row_losses(&search, at, watch, &mut verdict)?;
        column_losses(&search, at, watch, &mut verdict)?;
    }
    verdict.losses.extend(virtual_tables::dropped(comparison));
    verdict.losses.extend(orphans::losses(&search, findings.0, findings.1)?);
    for loss in &mut verdict.losses {
        loss.renamed.0 = renamed(comparison, &loss.table);
        loss.allowed = allowed.iter().any(|name| loss.is_named_by(name));
    }
    Ok(verdict)
}

/// Returns what a table is called after, where that is not what it was called before.
fn renamed(comparison: &Comparison<'_>, table: &str) -> Option<String> {
    let pair = comparison.pairs.iter().find(|pair| pair.before.as_ref().is_some_and(|shape| shape.name == table))?;
    pair.after.as_ref().map(|shape| shape.name.clone()).filter(|name| name != table)
}

fn watch_of<'a>(store: &'a Store, comparison: &Comparison<'_>, pair: &TablePair, is_ledger: bool) -> Watch<'a> {
    let sql = |state: &State, shape: &Option<TableShape>| {
        let name = shape.as_ref().map_or("", |shape| &shape.name);
        state.schema.object(ObjectKind::Table, name).and_then(|object| object.sql.clone())
    };
    let is_rebuilt = sql(comparison.before, &pair.before) != sql(comparison.after, &pair.after);
    let table = pair.before.as_ref().and_then(|shape| comparison.before.schema.table(&shape.name));
    let keys = table.map_or(&[][..], |table| &table.foreign_keys);
    let set_default = keys.iter().filter(|key| key.on_delete == "SET DEFAULT").flat_map(|key| &key.columns);
    let set_default: Vec<&str> = set_default.map(String::as_str).collect();
    Watch::new(store, pair, is_ledger, is_rebuilt, &set_default)
}

/// Judges the rows that went.
fn row_losses(search: &Search<'_>, at: usize, watch: &Watch<'_>, verdict: &mut Verdict) -> Result<(), OpError> {
    let Touched { pair, counts, .. } = &search.touched[at];
    let Some(before) = pair.before.as_ref().filter(|_| counts.removed > 0) else { return Ok(()) };
    let found = rows::rows(search, at)?;
    let left = found.as_ref().map_or(counts.removed, |found| found.left.len() as u64);
    if left > 0 {
        let kind = if pair.after.is_some() { LossKind::RowsRemoved } else { LossKind::TableDropped };
        let mut loss = Loss::new(kind, &before.name, None, left, pair.rows_before);
        if pair.after.is_some() {
            loss.examples = match &found {
                Some(found) if left < counts.removed => keys_of(search, at, &found.left)?,
                _ => watch.removed.clone(),
            };
            loss.cause = cause::of_rows(search, at)?;
        }
        for moved in found.iter().flat_map(|found| &found.moved) {
            let stand = if moved.count == 1 { "other stands" } else { "others stand" };
            loss.explain(format!("{} {stand} in `{}` now", number(moved.count), moved.to_table));
        }
        if let (None, Some(unsearched)) = (&found, search.unsearched()) {
            loss.explain(unsearched);
        }
        verdict.losses.push(loss);
    }
    let Some(found) = found else { return Ok(()) };
    verdict.moved.extend(found.moved);
    for behind in found.left_behind {
        let Some(shape) = before.columns.get(behind.column) else { continue };
        let origin = Origin { at, column: &shape.name, after: None };
        match values::values(search, origin, &behind.values)? {
            Some(moved) => verdict.moved.push(moved),
            None => {
                let mut loss = Loss::new(LossKind::ColumnDropped, &before.name, Some(&shape.name), behind.values.count(), pair.rows_before);
                loss.explain(format!("its rows went to `{}` without it", behind.to));
                verdict.losses.push(loss);
            }
        }
    }
    Ok(())
}

/// Returns the keys of the first of these rows, which are indexes into those that went.
fn keys_of(search: &Search<'_>, at: usize, rows: &[usize]) -> Result<Vec<String>, OpError> {
    let pair = search.touched[at].pair;
    let (mut row_at, mut keys) = (0, Vec::new());
    search.comparison.rows(pair, Cells::Telling, &mut |change| {
        let (RowChange::Removed(row), Some(shape)) = (change, &pair.before) else { return ControlFlow::Break(()) };
        if rows.binary_search(&row_at).is_ok() {
            keys.push(watch::key_of(shape, &row));
        }
        row_at += 1;
        if keys.len() < EXAMPLES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(keys)
}

/// Judges what became of the values of each column, in rows that are still there.
fn column_losses(search: &Search<'_>, at: usize, watch: &Watch<'_>, verdict: &mut Verdict) -> Result<(), OpError> {
    let Touched { pair, counts, .. } = &search.touched[at];
    let (Some(before), Some(after)) = (&pair.before, &pair.after) else { return Ok(()) };
    for (place, column) in pair.columns.iter().enumerate() {
        let Some(index) = column.before else { continue };
        let shape = &before.columns[index];
        // What was computed from other columns is no data of its own.
        if shape.hidden || shape.generated {
            continue;
        }
        let suspicion = Suspicion { search, at, place, index, watch: &watch.columns[place] };
        let found = match column.after {
            None if counts.removed < pair.rows_before => suspicion.dropped(&after.name)?,
            None => None,
            Some(_) => match suspicion.changed(verdict)? {
                Some((loss, held)) => suspicion.unless_moved(loss, held)?,
                None => {
                    suspicion.remark(watch.came_from(place), verdict)?;
                    None
                }
            },
        };
        match found {
            Some(Found::Lost(mut loss)) => {
                let renamed = column.after.and_then(|at| after.columns.get(at)).filter(|column| column.name != shape.name);
                loss.renamed.1 = renamed.map(|column| column.name.clone());
                verdict.losses.push(loss);
            }
            Some(Found::Moved(moved)) => verdict.moved.push(moved),
            None => {}
        }
    }
    Ok(())
}

/// Tells whether a column went on as a generated one, whose values are not stored.
fn is_computed(schema: &Schema, table: &str, column: &str) -> bool {
    let columns = schema.table(table).map_or(&[][..], |table| &table.columns);
    columns.iter().any(|other| other.generated && other.name.eq_ignore_ascii_case(column))
}

/// What came of a suspicion.
enum Found {
    Lost(Loss),
    Moved(Moved),
}

/// A column that may have lost values.
struct Suspicion<'a> {
    search: &'a Search<'a>,
    at: usize,
    /// Its place among the pair's columns.
    place: usize,
    /// Its index in the shape before.
    index: usize,
    watch: &'a watch::ColumnWatch,
}

impl Suspicion<'_> {
    fn pair(&self) -> &TablePair {
        self.search.touched[self.at].pair
    }

    fn origin(&self) -> Origin<'_> {
        let column = self.pair().before.as_ref().and_then(|shape| shape.columns.get(self.index)).map_or("", |column| &column.name);
        Origin { at: self.at, column, after: self.pair().columns[self.place].after }
    }

    fn loss(&self, kind: LossKind, count: u64, of: u64) -> Loss {
        let table = self.pair().before.as_ref().map_or("", |shape| &shape.name);
        Loss::new(kind, table, Some(self.origin().column), count, of)
    }

    fn told(&self, kind: LossKind, tally: &Tally) -> Loss {
        let mut loss = self.loss(kind, tally.count, self.pair().rows_before);
        loss.examples = tally.examples.clone();
        loss
    }

    /// Judges a column that is not there any more.
    fn dropped(&self, table: &str) -> Result<Option<Found>, OpError> {
        let (search, origin) = (self.search, self.origin());
        let before = self.pair().before.as_ref().and_then(|shape| search.comparison.before.table(&shape.name));
        // What all rows had by default stands in the old DDL.
        let Some((_, manifest)) = before else { return Ok(None) };
        if !chunks::has_chunk(manifest, self.index, search.store)? {
            return Ok(None);
        }
        let held = values::held_in_column(search, self.at, self.index)?;
        let count = match &held {
            Some(held) => held.count(),
            None => self.count(Side::Before, u64::MAX, &mut |cell| marks::mark(cell) != marks::NOTHING)?,
        };
        if count == 0 {
            return Ok(None);
        }
        if let Some(moved) = values::whole_column(search, origin, self.index, count)? {
            return Ok(Some(Found::Moved(moved)));
        }
        let mut loss = self.loss(LossKind::ColumnDropped, count, self.pair().rows_before);
        if is_computed(&search.comparison.after.schema, table, origin.column) {
            loss.explain("a generated column has its name now, whose values nobody compared".to_owned());
        }
        self.unless_moved(loss, held)
    }

    /// Finds out whether what is missing stands elsewhere; nobody knows of values that are too many to hold.
    fn unless_moved(&self, mut loss: Loss, held: Option<Held>) -> Result<Option<Found>, OpError> {
        let (search, origin) = (self.search, self.origin());
        let moved = match held {
            Some(held) => match values::values(search, origin, &held)? {
                None => parts::part(search, origin, self.index, held.count())?,
                moved => moved,
            },
            None => values::whole_column(search, origin, self.index, loss.count)?,
        };
        if let Some(moved) = moved {
            return Ok(Some(Found::Moved(moved)));
        }
        if let Some(unsearched) = self.search.unsearched() {
            loss.explain(unsearched);
        }
        Ok(Some(Found::Lost(loss)))
    }

    /// Judges a column whose values changed; returns the loss with the values that went.
    fn changed(&self, verdict: &mut Verdict) -> Result<Option<(Loss, Option<Held>)>, OpError> {
        let watch = self.watch;
        let held = || values::held_in_changed(self.search, self.at, self.place);
        if watch.emptied.count > 0 {
            let stand = |most| self.count_old(most, &mut |cell| !watch.is_nothing(cell));
            // From more than that on no number makes it emptied.
            let few = stand(watch.replaced.max(watch.emptied.count / FEW_IN))?;
            if self.is_emptied(few) {
                let mut loss = self.emptied(&watch.emptied, few);
                let held = held()?;
                let values = held.as_ref().map(Held::different).unwrap_or_default();
                loss.cause = cause::of_values(self.search, self.at, self.origin().column, &values)?;
                return Ok(Some((loss, held)));
            }
            if let Some(unset) = unset::references(self.search, self.at, self.place)? {
                let mut loss = self.emptied(&unset.tally, stand(u64::MAX)? + watch.emptied.count - unset.tally.count);
                loss.explain(unset.cause);
                return Ok(Some((loss, Some(unset.held))));
            }
        }
        if let Some(loss) = self.overwritten(verdict)? {
            return Ok(Some((loss, held()?)));
        }
        let cuts = &watch.cuts;
        if watch.is_retyped {
            let destroyed = watch.destroyed();
            if destroyed.count > 0 {
                let mut loss = self.told(LossKind::ValuesDestroyed, &destroyed);
                if let (Some(length), 1..) = (cuts.length, cuts.tally.count) {
                    loss.explain(format!("{} were cut to a length of {length}", number(cuts.tally.count)));
                }
                return Ok(Some((loss, held()?)));
            }
        } else if let Some(length) = cuts.length.filter(|_| cuts.is_various && cuts.tally.count > 1)
            && let longer = self.count_old(cuts.tally.count / FEW_IN, &mut |cell| length_of(cell) > length as u64)?
            && longer.saturating_mul(FEW_IN) <= cuts.tally.count
        {
            let mut loss = self.told(LossKind::Truncated, &cuts.tally);
            loss.explain(match longer {
                0 => format!("none is longer than {length} now"),
                longer => format!("all but {} are no longer than {length} now", number(longer)),
            });
            return Ok(Some((loss, held()?)));
        }
        Ok(None)
    }

    /// Tells whether a column's values are as good as all gone; `stand` is how many do in rows that were there before.
    ///
    /// One value that nobody touched shows that somebody chose which to clear; one that came, or became another, does not. In a table that was made
    /// anew, nothing was chosen: what stands was repaired afterwards.
    fn is_emptied(&self, stand: u64) -> bool {
        let (count, replaced) = (self.watch.emptied.count, self.watch.replaced);
        // What a change of type made of the others is judged by itself.
        let is_most = replaced == 0 || replaced < count && !self.watch.is_retyped;
        stand <= replaced && is_most || self.watch.is_copied && stand.saturating_mul(FEW_IN) <= count
    }

    fn emptied(&self, tally: &Tally, stand: u64) -> Loss {
        let mut loss = self.told(LossKind::ColumnEmptied, tally);
        loss.of = tally.count + stand;
        loss
    }

    /// Judges a column whose changed values became one, all or nearly all.
    fn overwritten(&self, verdict: &mut Verdict) -> Result<Option<Loss>, OpError> {
        let Overwrite::Few(few) = &self.watch.overwrite else { return Ok(None) };
        let Some(Became { value, different, tally, is_time }) = few.iter().max_by_key(|became| became.tally.count) else { return Ok(None) };
        let others: u64 = few.iter().map(|became| became.tally.count).sum::<u64>() - tally.count;
        if self.watch.is_nothing(value) || different.is_empty() || others.saturating_mul(FEW_IN) > tally.count {
            return Ok(None);
        }
        let most = others.max(tally.count);
        let standing = self.count_old(most, &mut |cell| cell != &**value && marks::mark(cell) != marks::NOTHING)?;
        if standing > most {
            return Ok(None);
        }
        let (mut held, mut stood) = (0, false);
        self.count(Side::Before, u64::MAX, &mut |cell| {
            held += u64::from(marks::mark(cell) != marks::NOTHING);
            stood |= cell == &**value;
            false
        })?;
        let gone = different.len();
        let value = text::value(value);
        let column = format!("{}.{}", self.pair().name(), self.origin().column);
        let rows = number(tally.count);
        if standing > others {
            if gone >= DIFFERENT_MIN && tally.count >= standing {
                verdict.remarks.push(format!("{rows} of {} values of `{column}` are {value} now", number(held)));
            }
            return Ok(None);
        }
        if *is_time || gone + usize::from(stood) < DIFFERENT_MIN {
            if gone + usize::from(stood) > 1 {
                verdict.remarks.push(format!("every value of `{column}` is {value} now ({rows} changed)"));
            }
            return Ok(None);
        }
        let mut loss = self.told(LossKind::Overwritten, tally);
        loss.of = held.max(tally.count);
        let are = if gone == 1 { "one is" } else { "different ones are" };
        let every = match others {
            0 => "every one is".to_owned(),
            others => format!("all but {} are", number(others)),
        };
        loss.explain(format!("{every} {value} now, {} {are} gone", number(gone as u64)));
        Ok(Some(loss))
    }

    /// Remarks what mass changes leave behind, where it is no loss: an UPDATE may have meant it.
    fn remark(&self, from: Option<(usize, u64)>, verdict: &mut Verdict) -> Result<(), OpError> {
        let watch = self.watch;
        let changed = watch.emptied.count + watch.replaced;
        let column = format!("{}.{}", self.pair().name(), self.origin().column);
        if watch.emptied.count >= MANY_MIN {
            let stand = self.count_old(watch.emptied.count, &mut |cell| !watch.is_nothing(cell))?;
            if watch.emptied.count >= stand {
                let (count, of) = (number(watch.emptied.count), number(watch.emptied.count + stand));
                verdict.remarks.push(format!("{count} of {of} values of `{column}` are gone"));
            }
        }
        let (cuts, few) = (&watch.cuts, changed.saturating_sub(watch.emptied.count));
        if watch.is_retyped || few < MANY_MIN {
            return Ok(());
        }
        let before = self.pair().before.as_ref();
        let source = from.filter(|(_, count)| *count >= MANY_MIN && count.saturating_mul(10) >= few.saturating_mul(9));
        let source = source.and_then(|(at, count)| Some((&before?.columns.get(self.pair().columns.get(at)?.before?)?.name, count)));
        if let Some((source, count)) = source {
            verdict.remarks.push(format!("{} values of `{column}` are those that stood in `{source}` before", number(count)));
        } else if watch.rounded == few {
            verdict.remarks.push(format!("{} values of `{column}` have fewer digits now", number(few)));
        } else if cuts.tally.count == few && cuts.is_various {
            verdict.remarks.push(format!("{} values of `{column}` are only their own beginning now", number(few)));
        }
        Ok(())
    }

    /// Counts cells of the column after, but for those of rows that came: up to one more than `most`, since a large table need not be read for what is soon known.
    fn count_old(&self, most: u64, is_counted: &mut dyn FnMut(&str) -> bool) -> Result<u64, OpError> {
        let mut came = 0;
        let Touched { pair, counts, .. } = &self.search.touched[self.at];
        if let (1.., Some(index)) = (counts.added, pair.columns[self.place].after) {
            self.search.comparison.rows(pair, Cells::All, &mut |change| {
                if let RowChange::Added(row) = change {
                    came += row.get(index).map_or(0, |cell| u64::from(is_counted(cell)));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(self.count(Side::After, most.saturating_add(came), is_counted)?.saturating_sub(came))
    }

    /// Counts cells of the column on one side, up to one more than `most`.
    fn count(&self, side: Side, most: u64, is_counted: &mut dyn FnMut(&str) -> bool) -> Result<u64, OpError> {
        let (pair, comparison) = (self.pair(), self.search.comparison);
        let (state, shape, index) = match side {
            Side::Before => (comparison.before, &pair.before, Some(self.index)),
            Side::After => (comparison.after, &pair.after, pair.columns[self.place].after),
        };
        let manifest = shape.as_ref().and_then(|shape| state.table(&shape.name)).map(|(_, manifest)| manifest);
        let (Some(manifest), Some(index)) = (manifest, index) else { return Ok(0) };
        let mut count = 0;
        self.search.columns_while(manifest, &[index], &mut |cells| {
            count += cells.first().map_or(0, |cell| u64::from(is_counted(cell)));
            if count > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(count)
    }
}

#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
}

/// Returns the length of a cell in characters, or in bytes of what is no text.
fn length_of(cell: &str) -> u64 {
    match Value::decode(cell.as_bytes()) {
        Ok(Value::Text(bytes) | Value::Blob(bytes)) => conversion::length(&bytes) as u64,
        Ok(Value::Large { bytes, .. }) => bytes,
        _ => 0,
    }
}
