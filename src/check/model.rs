//! What the pending statements make of the database, as far as it can be said beforehand.
//!
//! Each table is known by a query over the live database that gives the rows which the table would have at that point: a renamed column is
//! renamed in the query, an UPDATE is a CASE in it, a DELETE a condition, `INSERT ... SELECT` the SELECT itself. So a question about rows is
//! answered by the database, exactly and before anything ran. Where a statement does what a query cannot say, rows or columns are *not
//! known*, and no rule asks about them: silence is the answer then, never a guess.
//!
//! Beside that, each column carries the live columns that its values came from ([`Column::sources`]): what no column carries in the end is
//! lost. That set is wide on purpose: what might have been kept is not reported.

use std::collections::{BTreeMap, BTreeSet};

use super::lex::{self, quoted};
use super::statement::{
    ColumnDefinition, Conflict, Expression, IndexPart, KeyDefinition, ResultColumn, Select, Statement, TableDefinition, name_list,
};
use crate::schema::{ObjectKind, Schema, TableKind};

/// How much more work a column is than a table.
const COLUMN_WORK: usize = 20;

/// The longest query that rows are known by.
const QUERY_BYTES_MAX: usize = 64 * 1024;

/// A place in the pending scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// The script's number.
    pub script: usize,
    /// The statement's number in it.
    pub statement: usize,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// A statement's place, and those of the items in its first parentheses.
#[derive(Debug, Clone)]
pub struct Places {
    /// The whole statement.
    pub whole: Place,
    /// What the statement is about: the added column, the dropped table.
    pub subject: Place,
    /// The items.
    pub items: Vec<Place>,
}

impl Places {
    fn item(&self, at: usize) -> Place {
        self.items.get(at).copied().unwrap_or(self.whole)
    }
}

/// The rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// This query over the live database gives them.
    Known(String),
    /// There are none.
    Empty,
    /// Nobody can say.
    Unknown,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type.
    pub declared_type: String,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Its default.
    pub default: Option<Expression>,
    /// Its collation, where the migration declares one.
    pub collation: Option<String>,
    /// Whether it is computed.
    pub is_generated: bool,
    /// The live columns whose values might stand in it.
    pub sources: BTreeSet<(String, String)>,
    /// Whether the table's query tells its values.
    pub is_known: bool,
    /// Whether a copy puts something into it, whatever that is: rows that are written out are none, nor is a constant nothing.
    pub is_filled: bool,
    /// What a copy puts into it, where that is a constant nothing.
    pub nothing: Option<String>,
    /// Where it was declared, if a migration did.
    pub place: Option<Place>,
}

/// A column that was dropped, and its table as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedColumn {
    /// The table.
    pub table: Table,
    /// The column's name.
    pub name: String,
    /// Where it was dropped.
    pub place: Place,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The referring columns.
    pub columns: Vec<String>,
    /// The table referred to.
    pub parent: String,
    /// The columns referred to; empty for the primary key.
    pub parent_columns: Vec<String>,
    /// What happens when the parent row goes.
    pub on_delete: String,
    /// Where it was declared, if a migration did.
    pub place: Option<Place>,
}

/// Values that went from live tables into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// The live tables whose values they are.
    pub lives: BTreeSet<String>,
    /// The number of the table that got them.
    pub to: usize,
    /// Which rows they came from; none where that cannot be said.
    pub rows: Option<TakenRows>,
}

/// Rows of one table that a copy takes, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenRows {
    /// The number of the table.
    pub from: usize,
    /// What the copy calls it.
    pub alias: String,
    /// What the rows fulfil; none where all are taken.
    pub condition: Option<Expression>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its number: it stays when the name does not.
    pub number: usize,
    /// Its name now.
    pub name: String,
    /// The live table that it is.
    pub live: Option<String>,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its primary key.
    pub primary_key: Vec<String>,
    /// What must be unique in it, with the place of each; those of live tables are not listed.
    pub uniques: Vec<(Place, Vec<IndexPart>)>,
    /// What each row must fulfil, with the place of each; those of live tables are not listed.
    pub checks: Vec<(Place, Expression)>,
    /// Its foreign keys.
    pub foreign_keys: Vec<Key>,
    /// Its rows.
    pub rows: Rows,
    /// Whether types are enforced.
    pub is_strict: bool,
    /// Whether it has no rowid.
    pub without_rowid: bool,
    /// Whether it goes with the connection.
    pub is_temporary: bool,
    /// Where it was created, if a migration did.
    pub created: Option<Place>,
    /// Where it was last filled.
    pub filled: Option<Place>,
    /// Where it last took over what other tables have.
    pub copied: Option<Place>,
    /// Where it was dropped.
    pub dropped: Option<Place>,
}

impl Table {
    /// Finds a column.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    fn column_mut(&mut self, name: &str) -> Option<&mut Column> {
        self.columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Returns the query that gives its rows.
    pub fn query(&self) -> Option<String> {
        match &self.rows {
            Rows::Known(query) => Some(query.clone()),
            Rows::Empty => {
                let columns: Vec<String> = self.columns.iter().map(|column| format!("NULL AS {}", quoted(&column.name))).collect();
                Some(format!("SELECT {} WHERE 0", columns.join(", ")))
            }
            Rows::Unknown => None,
        }
    }

    /// Returns the query, if it tells the values of all of these columns.
    pub fn query_of<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
        let is_known = |name: &str| self.column(name).is_some_and(|column| column.is_known);
        names.into_iter().all(is_known).then(|| self.query()).flatten()
    }

    /// Returns the query, if it tells the values of every column that a piece of SQL names.
    pub fn query_for(&self, sql: &str) -> Option<String> {
        let names = lex::names(sql);
        let is_unknown = |column: &&Column| !column.is_known && names.contains(&column.name.to_lowercase());
        if self.columns.iter().any(|column| is_unknown(&column)) { None } else { self.query() }
    }

    /// Returns the column that stands for the row number.
    pub fn rowid_alias(&self) -> Option<&Column> {
        match self.primary_key.as_slice() {
            [only] if !self.without_rowid => self.column(only).filter(|column| column.declared_type.eq_ignore_ascii_case("integer")),
            _ => None,
        }
    }

    /// Returns the columns that tell its rows apart, for examples.
    pub fn identity(&self) -> Vec<&str> {
        let key: Vec<&str> = self.primary_key.iter().map(String::as_str).collect();
        let is_known = key.iter().all(|name| self.column(name).is_some_and(|column| column.is_known));
        if is_known { key } else { Vec::new() }
    }

    /// Tells whether values of another table might stand in it.
    pub fn carries_of(&self, other: &Table) -> bool {
        let sources: BTreeSet<_> = other.columns.iter().flat_map(|column| &column.sources).collect();
        self.columns.iter().any(|column| column.sources.iter().any(|source| sources.contains(source)))
    }

    fn forget_rows(&mut self) {
        self.rows = Rows::Unknown;
    }

    /// Wraps the query; `columns` are the new columns, as SQL.
    fn wrap(&mut self, columns: &[String]) {
        if let Rows::Known(query) = &self.rows {
            let query = format!("SELECT {} FROM ({query}) AS {}", columns.join(", "), quoted(&self.name));
            self.rows = if query.len() > QUERY_BYTES_MAX { Rows::Unknown } else { Rows::Known(query) };
        }
    }

    fn renamed_columns(&self, from: &str, to: &str) -> Vec<String> {
        let one = |column: &Column| {
            let name = if column.name.eq_ignore_ascii_case(from) { to } else { &column.name };
            format!("{} AS {}", quoted(&column.name), quoted(name))
        };
        self.columns.iter().map(one).collect()
    }
}

/// One column that a copy fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedColumn {
    /// The column of the target.
    pub target: String,
    /// What fills it; none where that cannot be said.
    pub value: Option<Expression>,
    /// The declared type of the column that it comes from, where it comes from a bare one.
    pub source_type: Option<String>,
    /// Whether its values are known.
    pub is_known: bool,
}

/// Rows that came from a query into a table: `INSERT ... SELECT`, `CREATE TABLE ... AS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The columns that are filled.
    pub columns: Vec<CopiedColumn>,
    /// The query that gives the values as they were selected, by the target's names.
    pub raw: Option<String>,
    /// The query that gives the rows as the target would hold them: with its types, and its defaults for what is not filled.
    pub rows: Option<String>,
    /// What happens with rows that are refused.
    pub conflict: Conflict,
    /// The tables that the rows came from.
    pub from: Vec<String>,
    /// Whether the rows are written out (VALUES).
    pub is_values: bool,
    /// Whether each row is one row of the only table, and the target was empty before.
    pub is_row_by_row: bool,
}

impl Copy {
    /// Finds what fills a column.
    pub fn column(&self, target: &str) -> Option<&CopiedColumn> {
        self.columns.iter().find(|column| column.target.eq_ignore_ascii_case(target))
    }

    /// Returns the query that gives the rows, if it tells the values of every column that a piece of SQL names.
    pub fn rows_for(&self, sql: &str) -> Option<&str> {
        let names = lex::names(sql);
        let is_unknown = |column: &CopiedColumn| !column.is_known && names.contains(&column.target.to_lowercase());
        self.rows.as_deref().filter(|_| !self.columns.iter().any(is_unknown))
    }

    /// Returns the name of the table that the rows came from, where it is one; else that of their target.
    pub fn origin<'n>(&'n self, target: &'n Table) -> &'n str {
        match self.from.as_slice() {
            [only] => only,
            _ => &target.name,
        }
    }
}

/// What was said about foreign keys in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeysSaid {
    /// Nothing.
    #[default]
    Nothing,
    /// That they be off, outside of any transaction that the script begins.
    Off,
    /// That they be off, where no transaction can be: after a COMMIT, or before a BEGIN, which would fail inside one.
    OffSurely,
    /// That they be off, inside one.
    OffInTransaction,
    /// That they be on.
    On,
}

#[derive(Debug, Clone)]
struct Trigger {
    name: String,
    table: String,
    names: BTreeSet<String>,
}

/// What the database looks like at a point of the pending scripts.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The tables.
    pub tables: Vec<Table>,
    /// The tables that were dropped, in order.
    pub dropped: Vec<Table>,
    /// Which values went where, in order.
    pub takes: Vec<Take>,
    /// The columns that were dropped, in order.
    pub dropped_columns: Vec<DroppedColumn>,
    /// What was said about foreign keys in this script.
    pub keys_said: KeysSaid,
    is_in_transaction: bool,
    has_committed: bool,
    is_legacy_rename: bool,
    triggers: Vec<Trigger>,
    /// Names that stand for rows which no query of ours describes: views, virtual tables.
    opaque: BTreeSet<String>,
    /// Where in `tables` those of a name are, the name in lower case.
    places: BTreeMap<String, Vec<usize>>,
    /// How many tables there ever were.
    count: usize,
}

impl Model {
    /// Begins with the live schema.
    pub fn new(schema: &Schema) -> Self {
        let mut model = Self::default();
        for table in &schema.tables {
            if table.kind != TableKind::Ordinary {
                model.opaque.insert(table.name.to_lowercase());
                continue;
            }
            let column = |column: &crate::schema::Column| Column {
                name: column.name.clone(),
                declared_type: column.declared_type.clone(),
                not_null: column.not_null,
                default: column.default.as_ref().map(|sql| Expression { sql: sql.clone(), ..Expression::default() }),
                is_generated: column.generated,
                sources: BTreeSet::from([(table.name.clone(), column.name.clone())]),
                is_known: true,
                ..Column::default()
            };
            let key = |key: &crate::schema::ForeignKey| Key {
                columns: key.columns.clone(),
                parent: key.parent.clone(),
                parent_columns: key.parent_columns.clone(),
                on_delete: key.on_delete.clone(),
                place: None,
            };
            let names = name_list(table.columns.iter().map(|column| &column.name));
            model.push(Table {
                number: 0,
                is_temporary: false,
                name: table.name.clone(),
                live: Some(table.name.clone()),
                columns: table.columns.iter().map(column).collect(),
                primary_key: table.primary_key.clone(),
                uniques: Vec::new(),
                checks: Vec::new(),
                foreign_keys: table.foreign_keys.iter().map(key).collect(),
                rows: Rows::Known(format!("SELECT {names} FROM main.{}", quoted(&table.name))),
                is_strict: table.strict,
                without_rowid: table.without_rowid,
                created: None,
                filled: None,
                copied: None,
                dropped: None,
            });
        }
        for object in &schema.objects {
            match object.kind {
                ObjectKind::View => {
                    model.opaque.insert(object.name.to_lowercase());
                }
                ObjectKind::Trigger => model.triggers.push(Trigger {
                    name: object.name.clone(),
                    table: object.table.clone(),
                    names: lex::names(object.sql.as_deref().unwrap_or_default()),
                }),
                _ => {}
            }
        }
        model
    }

    /// Finds a table.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(self.at(name)?)
    }

    /// Returns the live columns whose values some column might still carry: of a table that stays when the connection is closed.
    pub fn carried(&self) -> BTreeSet<&(String, String)> {
        let staying = self.tables.iter().filter(|table| !table.is_temporary);
        staying.flat_map(|table| &table.columns).flat_map(|column| &column.sources).collect()
    }

    /// Says how much work a statement is to follow, in tables and columns that are looked at.
    pub fn work_of(&self, statement: &Statement) -> usize {
        let columns = |name: &str| self.table(name).map_or(0, |table| table.columns.len());
        let triggers = self.triggers.len();
        match statement {
            Statement::AddColumn { table, .. } | Statement::DropColumn { table, .. } => COLUMN_WORK * columns(table),
            Statement::Insert { table, .. } | Statement::Update { table, .. } => triggers + COLUMN_WORK * columns(table),
            Statement::Delete { table, .. } => triggers + self.tables.len() + COLUMN_WORK * columns(table),
            Statement::RenameColumn { table, .. } => self.tables.len() + COLUMN_WORK * columns(table),
            Statement::DropTable { .. } | Statement::RenameTable { .. } | Statement::CreateOther { .. } | Statement::DropOther { .. } => {
                COLUMN_WORK * self.tables.len() + triggers
            }
            _ => 0,
        }
    }

    fn at(&self, name: &str) -> Option<usize> {
        let is_it = |at: &&usize| self.tables.get(**at).is_some_and(|table| table.name.eq_ignore_ascii_case(name));
        self.places.get(&name.to_lowercase())?.iter().find(is_it).copied()
    }

    fn table_mut(&mut self, name: &str) -> Option<&mut Table> {
        let at = self.at(name)?;
        self.tables.get_mut(at)
    }

    fn push(&mut self, table: Table) {
        self.count += 1;
        self.places.entry(table.name.to_lowercase()).or_default().push(self.tables.len());
        self.tables.push(Table { number: self.count, ..table });
    }

    /// Notes anew where the tables are.
    fn place_tables(&mut self) {
        self.places.clear();
        for (at, table) in self.tables.iter().enumerate() {
            self.places.entry(table.name.to_lowercase()).or_default().push(at);
        }
    }

    /// Forgets which rows of a table went where: what a condition says of them is not what it said.
    fn forget_takes(&mut self, name: &str) {
        let Some(number) = self.table(name).map(|table| table.number) else { return };
        for take in &mut self.takes {
            if take.rows.as_ref().is_some_and(|rows| rows.from == number && rows.condition.is_some()) {
                take.rows = None;
            }
        }
    }

    /// Forgets what only holds within one script.
    pub fn begin_script(&mut self) {
        self.keys_said = KeysSaid::Nothing;
        self.is_in_transaction = false;
        self.has_committed = false;
        self.is_legacy_rename = false;
    }

    /// Forgets the rows of every table that a text names which nobody could read.
    pub fn forget(&mut self, sql: &str) {
        let names = lex::names(sql);
        for table in self.tables.iter_mut().filter(|table| names.contains(&table.name.to_lowercase())) {
            table.forget_rows();
        }
    }

    /// Returns the tables that a set of names mentions.
    fn mentioned(&self, names: &BTreeSet<String>) -> Vec<&Table> {
        // In the order of the tables, whatever that of the names.
        let places: BTreeSet<usize> = names.iter().filter_map(|name| self.places.get(name)).flatten().copied().collect();
        places.into_iter().filter_map(|at| self.tables.get(at)).collect()
    }

    /// Writes the WITH clauses that make every table that is mentioned what it is at this point; none where that cannot be said.
    fn scope(&self, names: &BTreeSet<String>) -> Option<Vec<String>> {
        if names.iter().any(|name| self.opaque.contains(name)) {
            return None;
        }
        // A column that is not known would be read as what it was.
        let is_unknown = |column: &Column| !column.is_known && names.contains(&column.name.to_lowercase());
        self.mentioned(names)
            .into_iter()
            .map(|table| {
                if table.columns.iter().any(is_unknown) {
                    return None;
                }
                Some(format!("{} AS ({})", quoted(&table.name), table.query()?))
            })
            .collect()
    }

    /// Collects the live columns that the values of an expression might come from, and tells whether they are known.
    fn lineage(&self, names: &BTreeSet<String>, tables: &[&Table]) -> (BTreeSet<(String, String)>, bool) {
        let mut sources = BTreeSet::new();
        let mut is_known = true;
        for column in tables.iter().flat_map(|table| &table.columns) {
            if names.contains(&column.name.to_lowercase()) {
                sources.extend(column.sources.iter().cloned());
                is_known &= column.is_known;
            }
        }
        (sources, is_known)
    }

    /// Follows a statement; returns the rows that it copied, if it did.
    pub fn apply(&mut self, statement: &Statement, places: &Places) -> Option<Copy> {
        match statement {
            Statement::CreateTable { name, is_temporary, table, .. } => self.create(name, *is_temporary, table, places),
            Statement::CreateTableAs { name, is_temporary, select, .. } => return self.create_as(name, *is_temporary, select, places),
            Statement::CreateOther { kind, name, table, .. } => match table {
                Some(table) => {
                    // What it would do is not read: whoever writes the table leaves everything unknown.
                    let names = self.tables.iter().map(|table| table.name.to_lowercase()).collect();
                    self.triggers.push(Trigger { name: name.clone(), table: table.clone(), names });
                }
                None => {
                    debug_assert!(!kind.is_empty());
                    self.opaque.insert(name.to_lowercase());
                }
            },
            Statement::CreateIndex { is_unique: true, table, columns, condition: None, .. } => {
                if let Some(table) = self.table_mut(table) {
                    table.uniques.push((places.whole, columns.clone()));
                }
            }
            Statement::AddColumn { table, column } => self.add_column(table, column, places),
            Statement::DropColumn { table, column } => {
                self.forget_takes(table);
                if let Some(table) = self.table(table) {
                    let dropped = DroppedColumn { table: table.clone(), name: column.clone(), place: places.subject };
                    self.dropped_columns.push(dropped);
                }
                if let Some(table) = self.table_mut(table) {
                    let kept: Vec<String> = table
                        .columns
                        .iter()
                        .filter(|other| !other.name.eq_ignore_ascii_case(column))
                        .map(|other| quoted(&other.name))
                        .collect();
                    table.wrap(&kept);
                    table.columns.retain(|other| !other.name.eq_ignore_ascii_case(column));
                }
            }
            Statement::RenameColumn { table, from, to } => self.rename_column(table, from, to),
            Statement::RenameTable { table, to } => self.rename_table(table, to),
            Statement::SetNotNull { table, column } => {
                if let Some(column) = self.table_mut(table).and_then(|table| table.column_mut(column)) {
                    column.not_null = true;
                }
            }
            Statement::AddCheck { table, check } => {
                if let Some(table) = self.table_mut(table) {
                    table.checks.push((places.whole, check.clone()));
                }
            }
            Statement::DropTable { name } => self.drop_table(name, places),
            Statement::DropOther { name } => {
                self.triggers.retain(|trigger| !trigger.name.eq_ignore_ascii_case(name));
                self.opaque.remove(&name.to_lowercase());
            }
            Statement::Insert { table, columns, conflict, select } => {
                return self.insert(table, columns.as_deref(), *conflict, select.as_ref(), places);
            }
            Statement::Update { .. } => self.update(statement),
            Statement::Delete { table, alias, condition, is_plain } => self.delete(table, alias.as_deref(), condition.as_ref(), *is_plain),
            Statement::Pragma { name, value: Some(value) } => self.pragma(name, value),
            Statement::Begin => {
                self.is_in_transaction = true;
                if self.keys_said == KeysSaid::Off {
                    self.keys_said = KeysSaid::OffSurely;
                }
            }
            Statement::Commit => {
                self.is_in_transaction = false;
                self.has_committed = true;
            }
            Statement::CreateIndex { .. } | Statement::Pragma { .. } | Statement::Other => {}
        }
        None
    }

    fn pragma(&mut self, name: &str, value: &str) {
        let is_on = matches!(value, "on" | "1" | "true" | "yes");
        match name {
            "foreign_keys" => {
                self.keys_said = match (is_on, self.is_in_transaction, self.keys_said) {
                    (true, true, said) => said,
                    (true, false, _) => KeysSaid::On,
                    (false, true, said @ (KeysSaid::Off | KeysSaid::OffSurely)) => said,
                    (false, true, _) => KeysSaid::OffInTransaction,
                    (false, false, _) if self.has_committed => KeysSaid::OffSurely,
                    (false, false, _) => KeysSaid::Off,
                };
            }
            "legacy_alter_table" => self.is_legacy_rename = is_on,
            _ => {}
        }
    }

    fn create(&mut self, name: &str, is_temporary: bool, definition: &TableDefinition, places: &Places) {
        if self.table(name).is_some() {
            return;
        }
        let column = |(at, column): (usize, &ColumnDefinition)| Column {
            is_known: !column.is_generated,
            place: Some(places.item(at)),
            // In a table without rowids, and in none other, a key refuses NULL by itself.
            not_null: column.not_null || definition.without_rowid && definition.primary_key.contains(&column.name),
            ..declared(column)
        };
        let key = |key: &KeyDefinition| Key {
            columns: key.columns.clone(),
            parent: key.parent.clone(),
            parent_columns: key.parent_columns.clone(),
            on_delete: key.on_delete.clone(),
            place: Some(places.item(key.item)),
        };
        self.opaque.remove(&name.to_lowercase());
        self.push(Table {
            number: 0,
            is_temporary,
            name: name.to_owned(),
            live: None,
            columns: definition.columns.iter().enumerate().map(column).collect(),
            primary_key: definition.primary_key.clone(),
            uniques: definition.uniques.iter().map(|(item, parts)| (places.item(*item), parts.clone())).collect(),
            checks: definition.checks.iter().map(|(item, check)| (places.item(*item), check.clone())).collect(),
            foreign_keys: definition.foreign_keys.iter().map(key).collect(),
            rows: Rows::Empty,
            is_strict: definition.is_strict,
            without_rowid: definition.without_rowid,
            created: Some(places.whole),
            filled: None,
            copied: None,
            dropped: None,
        });
    }

    fn create_as(&mut self, name: &str, is_temporary: bool, select: &Select, places: &Places) -> Option<Copy> {
        if self.table(name).is_some() {
            return None;
        }
        let named = self.result_columns(select)?;
        let columns = named
            .iter()
            .map(|(value, name)| ColumnDefinition {
                name: name.clone().or_else(|| value.column.clone()).unwrap_or_else(|| value.sql.clone()),
                ..ColumnDefinition::default()
            })
            .collect();
        self.create(name, is_temporary, &TableDefinition { columns, ..TableDefinition::default() }, places);
        self.insert(name, None, Conflict::Fail, Some(select), places)
    }

    fn add_column(&mut self, table: &str, column: &ColumnDefinition, places: &Places) {
        let Some(table) = self.table_mut(table) else { return };
        if table.column(&column.name).is_some() {
            return;
        }
        let default = column.default.as_ref().map_or("NULL", |default| &default.sql);
        let is_known = !column.is_generated && column.default.as_ref().is_none_or(|default| default.is_literal);
        let mut columns: Vec<String> = table.columns.iter().map(|other| quoted(&other.name)).collect();
        let value = if is_known { default } else { "NULL" };
        columns.push(format!("{value} AS {}", quoted(&column.name)));
        table.wrap(&columns);
        table.columns.push(Column { is_known, place: Some(places.subject), ..declared(column) });
        table.checks.extend(column.checks.iter().map(|check| (places.subject, check.clone())));
        table.foreign_keys.extend(column.foreign_key.iter().map(|key| Key {
            columns: key.columns.clone(),
            parent: key.parent.clone(),
            parent_columns: key.parent_columns.clone(),
            on_delete: key.on_delete.clone(),
            place: Some(places.subject),
        }));
    }

    fn rename_column(&mut self, table: &str, from: &str, to: &str) {
        self.forget_takes(table);
        let change = |names: &mut Vec<String>| {
            for name in names.iter_mut().filter(|name| name.eq_ignore_ascii_case(from)) {
                to.clone_into(name);
            }
        };
        for other in &mut self.tables {
            for key in other.foreign_keys.iter_mut().filter(|key| key.parent.eq_ignore_ascii_case(table)) {
                change(&mut key.parent_columns);
            }
        }
        let Some(table) = self.table_mut(table) else { return };
        let columns = table.renamed_columns(from, to);
        table.wrap(&columns);
        change(&mut table.primary_key);
        for key in &mut table.foreign_keys {
            change(&mut key.columns);
        }
        if let Some(column) = table.column_mut(from) {
            to.clone_into(&mut column.name);
        }
    }

    fn rename_table(&mut self, name: &str, to: &str) {
        if self.table(to).is_some() && !name.eq_ignore_ascii_case(to) {
            return;
        }
        let Some(table) = self.table_mut(name) else { return };
        to.clone_into(&mut table.name);
        self.place_tables();
        for trigger in self.triggers.iter_mut().filter(|trigger| trigger.table.eq_ignore_ascii_case(name)) {
            to.clone_into(&mut trigger.table);
        }
        // References follow a table that is renamed, unless SQLite is told to behave as before 3.26.
        if !self.is_legacy_rename {
            for key in self.tables.iter_mut().flat_map(|table| &mut table.foreign_keys) {
                if key.parent.eq_ignore_ascii_case(name) {
                    to.clone_into(&mut key.parent);
                }
            }
        }
    }

    fn drop_table(&mut self, name: &str, places: &Places) {
        if let Some(at) = self.at(name) {
            let table = self.tables.remove(at);
            self.place_tables();
            self.dropped.push(Table { dropped: Some(places.subject), ..table });
            self.triggers.retain(|trigger| !trigger.table.eq_ignore_ascii_case(name));
        }
        self.opaque.remove(&name.to_lowercase());
    }

    /// Takes what a query selects apart, stars among it; none where that cannot be done.
    fn result_columns(&self, select: &Select) -> Option<Vec<(Expression, Option<String>)>> {
        if !select.is_plain {
            return None;
        }
        let bare =
            |column: &Column| (Expression { sql: quoted(&column.name), column: Some(column.name.clone()), ..Expression::default() }, None);
        let mut found = Vec::new();
        for column in &select.columns {
            match column {
                ResultColumn::Expression(value, name) => found.push((value.clone(), name.clone())),
                ResultColumn::Star => {
                    for (table, _) in &select.from {
                        found.extend(self.table(table)?.columns.iter().map(bare));
                    }
                }
                ResultColumn::TableStar(wanted) => {
                    let is_meant =
                        |(table, alias): &&(String, Option<String>)| alias.as_ref().unwrap_or(table).eq_ignore_ascii_case(wanted);
                    let (table, _) = select.from.iter().find(is_meant)?;
                    found.extend(self.table(table)?.columns.iter().map(bare));
                }
            }
        }
        Some(found)
    }

    fn insert(
        &mut self,
        name: &str,
        columns: Option<&[String]>,
        conflict: Conflict,
        select: Option<&Select>,
        places: &Places,
    ) -> Option<Copy> {
        self.fire_triggers(name);
        let target = self.table(name)?;
        let targets: Vec<String> = match columns {
            Some(columns) => columns.to_vec(),
            None => target.columns.iter().filter(|column| !column.is_generated).map(|column| column.name.clone()).collect(),
        };
        let Some(select) = select else {
            self.table_mut(name)?.forget_rows();
            return None;
        };
        let names: BTreeSet<String> = lex::names(&select.sql).into_iter().chain(lex::names(&select.around)).collect();
        let mentioned = self.mentioned(&names);
        let values = self.result_columns(select).filter(|values| values.len() == targets.len());
        let scope = self.scope(&names).filter(|_| !select.sql.is_empty() && select.sql.len() <= QUERY_BYTES_MAX);
        // A column that is not known spoils the query only where it decides about rows; that is not taken apart.
        let raw = scope.map(|mut clauses| {
            clauses.push(format!("\"dbelay copy\"({}) AS ({})", name_list(&targets), select.sql));
            format!("WITH {} SELECT {} FROM \"dbelay copy\"", clauses.join(", "), name_list(&targets))
        });
        let mut copied = Vec::new();
        let mut lineages = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            let value = values.as_ref().and_then(|values| values.get(at)).map(|(value, _)| value.clone());
            let (sources, is_known) = match &value {
                Some(value) => {
                    let (_, is_known) = self.lineage(&value.names(), &mentioned);
                    (self.lineage(&value.carried_names(), &mentioned).0, is_known)
                }
                None => {
                    let all = mentioned.iter().flat_map(|table| &table.columns).flat_map(|column| column.sources.iter().cloned());
                    (all.collect(), true)
                }
            };
            let source = value.as_ref().and_then(|value| value.column.as_ref()).and_then(|column| {
                let mut found = mentioned.iter().filter_map(|table| table.column(column));
                found.next().filter(|_| found.next().is_none())
            });
            copied.push(CopiedColumn {
                target: target.clone(),
                source_type: source.map(|column| column.declared_type.clone()),
                value,
                is_known: is_known && raw.is_some(),
            });
            lineages.push(sources);
        }
        let from = mentioned.iter().map(|table| table.name.clone()).collect();
        let rows = raw.as_ref().map(|raw| filled(self.table(name), &copied, raw));
        let is_row_by_row = select.is_row_by_row && self.table(name)?.rows == Rows::Empty;
        let copy = Copy { columns: copied, raw, rows, conflict, from, is_values: select.is_values, is_row_by_row };
        let has_null = names.contains("null");
        // Rows that are written out, by VALUES or by a SELECT from nothing, come besides those that are copied.
        let is_copy = !(select.is_values || select.is_plain && select.from.is_empty());
        let taken = self.taken(select);
        let lives = lineages.iter().flatten().map(|(live, _)| live.clone()).collect();
        let table = self.table_mut(name)?;
        table.filled = Some(places.whole);
        if is_copy {
            table.copied = Some(places.whole);
        }
        let take = Take { lives, to: table.number, rows: taken };
        let alias = table.rowid_alias().map(|column| column.name.clone());
        for column in &mut table.columns {
            let at = targets.iter().position(|target| target.eq_ignore_ascii_case(&column.name));
            if let Some(copied) = at.and_then(|at| copy.columns.get(at)).filter(|_| is_copy) {
                let nothing = copied.value.as_ref().filter(|value| value.is_nothing());
                column.is_filled |= nothing.is_none();
                column.nothing = nothing.map(|value| value.sql.clone()).or(column.nothing.take());
            }
            if let Some(at) = at {
                column.sources.extend(lineages.get(at).cloned().unwrap_or_default());
            }
            // A row number that nobody gives is SQLite's choice; a default that is no constant is decided when it is needed.
            let is_given = at.is_some();
            let is_alias = alias.as_deref() == Some(column.name.as_str());
            let has_constant = column.default.as_ref().is_none_or(|default| default.is_literal);
            column.is_known &= match at {
                Some(at) => copy.columns.get(at).is_some_and(|copied| copied.is_known),
                None => has_constant,
            };
            column.is_known &= !is_alias || is_given && !(select.is_values && has_null);
        }
        table.rows = match (&table.rows, &copy.rows) {
            _ if conflict != Conflict::Fail => Rows::Unknown,
            (Rows::Empty, Some(rows)) => Rows::Known(rows.clone()),
            (Rows::Known(before), Some(rows)) => {
                let all = name_list(table.columns.iter().map(|column| &column.name));
                Rows::Known(format!("SELECT {all} FROM ({before}) UNION ALL SELECT {all} FROM ({rows})"))
            }
            _ => Rows::Unknown,
        };
        if matches!(&table.rows, Rows::Known(query) if query.len() > QUERY_BYTES_MAX) {
            table.forget_rows();
        }
        if !take.lives.is_empty() {
            self.takes.push(take);
        }
        Some(copy)
    }

    /// Says which rows of which table a query takes; none where it is more than one table and a condition on its columns.
    fn taken(&self, select: &Select) -> Option<TakenRows> {
        let [(from, alias)] = select.from.as_slice() else { return None };
        if !select.is_row_by_row || select.is_cut {
            return None;
        }
        let condition = select.condition.clone();
        if condition.as_ref().is_some_and(|condition| is_volatile(condition) || condition.names().contains("select")) {
            return None;
        }
        Some(TakenRows { from: self.table(from)?.number, alias: alias.clone().unwrap_or_else(|| from.clone()), condition })
    }

    fn update(&mut self, statement: &Statement) {
        let Statement::Update { table: name, alias, sets, condition, is_plain, around } = statement else { return };
        let (alias, condition) = (alias.as_deref(), condition.as_ref());
        self.fire_triggers(name);
        let texts = sets.iter().map(|(_, value)| value).chain(condition);
        let around = lex::names(around);
        let names: BTreeSet<String> = texts.flat_map(Expression::names).chain(around.iter().cloned()).collect();
        let scope = self.scope(&names).filter(|_| *is_plain);
        let Some(target) = self.table(name) else { return };
        let mentioned: Vec<&Table> = self.mentioned(&names).into_iter().chain([target]).collect();
        let lineage = |(_, value): &(String, Expression)| {
            let (_, is_known) = self.lineage(&value.names(), &mentioned);
            let carried = value.carried_names().into_iter().chain(around.iter().cloned()).collect();
            (self.lineage(&carried, &mentioned).0, is_known)
        };
        let lineages: Vec<_> = sets.iter().map(lineage).collect();
        let lives: BTreeSet<String> = lineages.iter().flat_map(|(sources, _)| sources).map(|(live, _)| live.clone()).collect();
        let take = Take { lives, to: target.number, rows: None };
        let conditions_known = condition.is_none_or(|condition| self.lineage(&condition.names(), &mentioned).1);
        let query = scope.zip(target.query()).filter(|_| conditions_known).map(|(clauses, before)| {
            let with = if clauses.is_empty() { String::new() } else { format!("WITH {} ", clauses.join(", ")) };
            let columns = target.columns.iter().map(|column| {
                let own = quoted(&column.name);
                match sets.iter().find(|(set, _)| set.eq_ignore_ascii_case(&column.name)) {
                    None => own,
                    Some((_, value)) => match condition {
                        None => format!("({}) AS {own}", value.sql),
                        Some(condition) => format!("CASE WHEN ({}) THEN ({}) ELSE {own} END AS {own}", condition.sql, value.sql),
                    },
                }
            });
            let columns: Vec<String> = columns.collect();
            let alias = quoted(alias.unwrap_or(name));
            format!("{with}SELECT {} FROM ({before}) AS {alias}", columns.join(", "))
        });
        let query = query.filter(|query| query.len() <= QUERY_BYTES_MAX);
        self.forget_takes(name);
        if !take.lives.is_empty() {
            self.takes.push(take);
        }
        let Some(table) = self.table_mut(name) else { return };
        let is_exact = query.is_some();
        if let Some(query) = query {
            table.rows = Rows::Known(query);
        }
        for ((set, value), (sources, is_known)) in sets.iter().zip(lineages) {
            if let Some(column) = table.column_mut(set) {
                // Only an UPDATE of every row makes a column known that was not.
                let was_known = column.is_known || condition.is_none();
                column.is_known = is_exact && is_known && was_known && !is_volatile(value);
                column.sources.extend(sources);
            }
        }
    }

    fn delete(&mut self, name: &str, alias: Option<&str>, condition: Option<&Expression>, is_plain: bool) {
        self.fire_triggers(name);
        self.cascade(name, 0);
        let names = condition.map(Expression::names).unwrap_or_default();
        let scope = self.scope(&names).filter(|_| is_plain);
        let Some(table) = self.table(name) else { return };
        let is_known = condition.is_none_or(|condition| table.query_for(&condition.sql).is_some() && !is_volatile(condition));
        let rows = match (condition, scope, table.query()) {
            (None, _, _) if is_plain => Rows::Empty,
            (Some(condition), Some(clauses), Some(before)) if is_known => {
                let with = if clauses.is_empty() { String::new() } else { format!("WITH {} ", clauses.join(", ")) };
                let all = name_list(table.columns.iter().map(|column| &column.name));
                let alias = quoted(alias.unwrap_or(name));
                Rows::Known(format!("{with}SELECT {all} FROM ({before}) AS {alias} WHERE ({}) IS NOT TRUE", condition.sql))
            }
            _ => Rows::Unknown,
        };
        if let Some(table) = self.table_mut(name) {
            table.rows = rows;
        }
    }

    /// Forgets what foreign keys may have done to those who refer to a table.
    fn cascade(&mut self, parent: &str, depth: usize) {
        const DEPTH_MAX: usize = 16;
        let mut gone = Vec::new();
        for table in &mut self.tables {
            for key in table.foreign_keys.clone().iter().filter(|key| key.parent.eq_ignore_ascii_case(parent)) {
                match key.on_delete.as_str() {
                    "CASCADE" if table.rows != Rows::Unknown && table.rows != Rows::Empty => {
                        table.forget_rows();
                        gone.push(table.name.clone());
                    }
                    "SET NULL" | "SET DEFAULT" => {
                        for name in &key.columns {
                            if let Some(column) = table.column_mut(name) {
                                column.is_known = false;
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        if depth < DEPTH_MAX {
            gone.iter().for_each(|name| self.cascade(name, depth + 1));
        }
    }

    /// Forgets what the triggers of a table may do when it is written.
    fn fire_triggers(&mut self, name: &str) {
        let fired: Vec<Trigger> = self.triggers.iter().filter(|trigger| trigger.table.eq_ignore_ascii_case(name)).cloned().collect();
        for trigger in fired {
            let writes_rows = ["insert", "delete", "replace"].iter().any(|word| trigger.names.contains(*word));
            for table in self.tables.iter_mut().filter(|table| trigger.names.contains(&table.name.to_lowercase())) {
                if writes_rows {
                    table.forget_rows();
                }
                for column in table.columns.iter_mut().filter(|column| trigger.names.contains(&column.name.to_lowercase())) {
                    column.is_known = false;
                }
            }
        }
    }
}

fn declared(column: &ColumnDefinition) -> Column {
    Column {
        name: column.name.clone(),
        declared_type: column.declared_type.clone(),
        not_null: column.not_null,
        default: column.default.clone(),
        collation: column.collation.clone(),
        is_generated: column.is_generated,
        ..Column::default()
    }
}

/// Tells whether an expression may be another each time.
fn is_volatile(expression: &Expression) -> bool {
    let names = expression.names();
    ["random", "randomblob", "current_timestamp", "current_date", "current_time", "last_insert_rowid", "changes"]
        .iter()
        .any(|name| names.contains(*name))
}

/// Writes the query that gives the rows as a table would hold them.
fn filled(target: Option<&Table>, copied: &[CopiedColumn], raw: &str) -> String {
    let columns = target.map_or(&[][..], |table| &table.columns);
    let value = |column: &Column| {
        let own = quoted(&column.name);
        let found = copied.iter().find(|copied| copied.target.eq_ignore_ascii_case(&column.name));
        let value = match found {
            Some(copied) => {
                let to = Affinity::of(&column.declared_type);
                let is_same = copied.value.as_ref().is_some_and(|value| value.cast.is_none())
                    && copied.source_type.as_ref().is_some_and(|from| Affinity::of(from) == to);
                if is_same { own.clone() } else { to.applied(&own) }
            }
            None => match &column.default {
                Some(default) if default.is_literal => default.sql.clone(),
                _ => "NULL".to_owned(),
            },
        };
        format!("{value} AS {own}")
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    format!("SELECT {} FROM ({raw})", values.join(", "))
}

/// What a column's declared type does to the values that it is given: <https://www.sqlite.org/datatype3.html>, section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "SQLite's own words")]
pub enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

impl Affinity {
    /// Determines it from a declared type.
    pub fn of(declared_type: &str) -> Self {
        let declared = declared_type.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if declared.trim().is_empty() || has(&["BLOB"]) {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Writes what becomes of a value. A comparison with a CAST to NUMERIC holds exactly for text that is a number.
    pub fn applied(self, value: &str) -> String {
        let number = format!("typeof({value}) = 'text' AND CAST({value} AS NUMERIC) = {value}");
        match self {
            Self::Blob => value.to_owned(),
            Self::Text => format!("CASE WHEN typeof({value}) IN ('integer', 'real') THEN CAST({value} AS TEXT) ELSE {value} END"),
            Self::Real => format!(
                "CASE WHEN {number} THEN CAST({value} AS REAL) WHEN typeof({value}) = 'integer' THEN CAST({value} AS REAL) ELSE {value} END"
            ),
            Self::Integer | Self::Numeric => format!(
                "CASE WHEN {number} THEN CAST({value} AS NUMERIC) WHEN typeof({value}) = 'real' AND CAST({value} AS INTEGER) = {value} \
                 AND abs({value}) < 9e15 THEN CAST({value} AS INTEGER) ELSE {value} END"
            ),
        }
    }
}
