//! What differs between two schemas: in neutral terms, object by object, and as a unified diff of the verbatim DDL.
//!
//! Renames of tables and columns are recognised elsewhere, by content, and given here; indexes, views and triggers are recognised by
//! their text. The engine's own tables and those behind virtual tables are left out: they follow from the rest.

use serde::Serialize;

use super::clauses::{Clause, clauses};
use super::{Column, ForeignKey, Index, ObjectKind, Schema, SchemaObject, Settings, Table, TableKind};

/// Which tables and columns go on under another name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames {
    /// Tables: name before, name after.
    pub tables: Vec<(String, String)>,
    /// Columns: the table's name after, the column's name before, its name after.
    pub columns: Vec<(String, String, String)>,
}

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A table.
    Table,
    /// A column of a table.
    Column,
    /// The primary key of a table.
    PrimaryKey,
    /// A foreign key of a table.
    ForeignKey,
    /// A check, a collation or another clause of a table's definition.
    Clause,
    /// An index.
    Index,
    /// A view.
    View,
    /// A trigger.
    Trigger,
    /// Another object, by its kind.
    #[serde(untagged)]
    Object(ObjectKind),
}

impl Subject {
    fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Column => "column",
            Self::PrimaryKey => "primary key",
            Self::ForeignKey => "foreign key",
            Self::Clause => "clause",
            Self::Index => "index",
            Self::View => "view",
            Self::Trigger => "trigger",
            Self::Object(kind) => kind.word(),
        }
    }
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Only after.
    Added,
    /// Only before.
    Removed,
    /// Under another name.
    Renamed,
    /// Under the same name, otherwise.
    Changed,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaChange {
    /// What it is about.
    pub subject: Subject,
    /// What happened.
    pub fate: Fate,
    /// The table it belongs to, by its name after, or before where it is gone.
    pub table: String,
    /// Its name after, or before where it is gone; the columns, for a key.
    pub name: String,
    /// Its name before, where it was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its definition before, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its definition after, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl SchemaChange {
    /// Says it in one line, after a sign: `+`, `-`, `~`, or `>` for a rename.
    pub fn line(&self) -> String {
        let sign = match self.fate {
            Fate::Added => '+',
            Fate::Removed => '-',
            Fate::Renamed => '>',
            Fate::Changed => '~',
        };
        let name = |name: &str| match self.subject {
            Subject::Column => format!("`{}.{name}`", self.table),
            Subject::PrimaryKey | Subject::ForeignKey => format!("of `{}` ({name})", self.table),
            Subject::Index | Subject::Trigger => format!("`{name}` on `{}`", self.table),
            Subject::Table | Subject::View | Subject::Object(_) => format!("`{name}`"),
            Subject::Clause if name.is_empty() => format!("of `{}`", self.table),
            Subject::Clause => format!("of `{}.{name}`", self.table),
        };
        let mut line = match &self.from {
            Some(from) => format!("{sign} {} {} is now {}", self.subject.word(), name(from), name(&self.name)),
            None => format!("{sign} {} {}", self.subject.word(), name(&self.name)),
        };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => line.push_str(&format!(": {before} -> {after}")),
            (None, Some(text)) | (Some(text), None) if !text.is_empty() => line.push_str(&format!(": {text}")),
            _ => {}
        }
        line
    }
}

/// Everything that differs between two schemas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SchemaDiff {
    /// The differences: table by table in the order after, then tables that went, then views.
    pub changes: Vec<SchemaChange>,
    /// Whether the verbatim text or the order of objects differs in a way that no change above tells.
    pub text_differs: bool,
    /// Settings that differ: name, value before, value after.
    pub settings: Vec<(String, String, String)>,
}

impl SchemaDiff {
    /// Tells whether nothing differs, not even the text.
    pub fn is_empty(&self) -> bool {
        !self.has_drift() && self.settings.is_empty()
    }

    /// Tells whether the schema itself differs, settings aside.
    pub fn has_drift(&self) -> bool {
        !self.changes.is_empty() || self.text_differs
    }

    /// Says each difference in one line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.changes.iter().map(SchemaChange::line).collect();
        lines.extend(self.settings.iter().map(|(name, was, is)| format!("~ setting `{name}`: {was} -> {is}")));
        if lines.is_empty() && self.text_differs {
            lines.push("~ the text or the order of the schema".to_owned());
        }
        lines
    }
}

/// Compares two schemas.
pub fn diff(before: &Schema, after: &Schema, renames: &Renames) -> SchemaDiff {
    let mut changes = Vec::new();
    let is_shown = |table: &&Table| !matches!(table.kind, TableKind::Shadow { .. } | TableKind::Internal);
    let name_before = |name: &str| -> String {
        let renamed = renames.tables.iter().find(|(_, to)| to == name).map(|(from, _)| from.as_str());
        let same = || before.tables.iter().find(|table| table.name == name).map(|table| table.name.as_str());
        let case = || before.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name)).map(|table| table.name.as_str());
        renamed.or_else(same).or_else(case).unwrap_or(name).to_owned()
    };
    for table in after.tables.iter().filter(is_shown) {
        let from = name_before(&table.name);
        match before.table(&from) {
            None => changes.push(change(Subject::Table, Fate::Added, &table.name, &table.name)),
            Some(old) => {
                if from != table.name {
                    changes.push(SchemaChange { from: Some(from), ..change(Subject::Table, Fate::Renamed, &table.name, &table.name) });
                }
                table_changes(old, table, renames, &mut changes);
                clause_changes(before, after, (&old.name, &table.name), renames, &mut changes);
                index_changes(before, after, old, table, &mut changes);
                text_changes(before, after, ObjectKind::Trigger, (&old.name, &table.name), &mut changes);
                let (was, is) = (before.object(ObjectKind::Table, &old.name), after.object(ObjectKind::Table, &table.name));
                let is_told = changes.iter().any(|change| change.table == table.name && change.subject != Subject::Trigger);
                if was.map(|object| &object.sql) != is.map(|object| &object.sql) && !is_told {
                    changes.push(change(Subject::Table, Fate::Changed, &table.name, &table.name));
                }
            }
        }
        if before.table(&name_before(&table.name)).is_none() {
            for object in after.objects.iter().filter(|object| object.table == table.name && object.sql.is_some()) {
                let subject = match object.kind {
                    ObjectKind::Index => Subject::Index,
                    ObjectKind::Trigger => Subject::Trigger,
                    _ => continue,
                };
                changes.push(change(subject, Fate::Added, &table.name, &object.name));
            }
        }
    }
    for table in before.tables.iter().filter(is_shown) {
        if !after.tables.iter().any(|other| name_before(&other.name) == table.name) {
            changes.push(change(Subject::Table, Fate::Removed, &table.name, &table.name));
        }
    }
    text_changes(before, after, ObjectKind::View, ("", ""), &mut changes);
    let views: Vec<&str> =
        before.objects.iter().chain(&after.objects).filter(|o| o.kind == ObjectKind::View).map(|o| o.name.as_str()).collect();
    for view in views.iter().enumerate().filter(|(at, view)| !views[..*at].contains(view)).map(|(_, view)| view) {
        text_changes(before, after, ObjectKind::Trigger, (view, view), &mut changes);
    }
    object_changes(before, after, &mut changes);
    let text_differs = !before.is_same(after) && changes.is_empty();
    SchemaDiff { changes, text_differs, settings: Vec::new() }
}

/// Compares the objects of all kinds that have no comparison of their own.
fn object_changes(before: &Schema, after: &Schema, changes: &mut Vec<SchemaChange>) {
    let is_meant = |object: &&SchemaObject| {
        use ObjectKind::{Constraint, Default, ForeignKey, Index, Table, Trigger, View};
        // Keys and defaults are told with their table.
        let is_told = |kind| matches!(kind, Table | Index | View | Trigger | Default | ForeignKey | Constraint);
        !is_told(object.kind) && object.sql.is_some()
    };
    // What says something about an object that came or went is told with it.
    let is_of = |object: &SchemaObject, other: &Schema| {
        !object.kind.is_attribute() || object.needs.iter().all(|(kind, name)| other.object(*kind, name).is_some())
    };
    for object in after.objects.iter().filter(is_meant) {
        match before.object(object.kind, &object.name) {
            Some(old) if old.is_same(object) => {}
            Some(old) => changes.push(SchemaChange {
                before: old.sql.clone().filter(|_| object.kind.is_attribute()),
                after: object.sql.clone().filter(|_| object.kind.is_attribute()),
                ..change(Subject::Object(object.kind), Fate::Changed, &object.table, &object.name)
            }),
            None if is_of(object, before) => changes.push(change(Subject::Object(object.kind), Fate::Added, &object.table, &object.name)),
            None => {}
        }
    }
    for object in before.objects.iter().filter(is_meant).filter(|object| after.object(object.kind, &object.name).is_none()) {
        if is_of(object, after) {
            changes.push(change(Subject::Object(object.kind), Fate::Removed, &object.table, &object.name));
        }
    }
}

/// Lists the settings that differ, in name order.
pub fn settings(before: &Settings, after: &Settings) -> Vec<(String, String, String)> {
    let value = |settings: &Settings, name: &str| settings.get(name).map(|setting| setting.value.clone()).unwrap_or_default();
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().map(|name| (name.clone(), value(before, name), value(after, name)));
    differing.filter(|(_, was, is)| was != is).collect()
}

fn change(subject: Subject, fate: Fate, table: &str, name: &str) -> SchemaChange {
    SchemaChange { subject, fate, table: table.to_owned(), name: name.to_owned(), from: None, before: None, after: None }
}

fn table_changes(before: &Table, after: &Table, renames: &Renames, changes: &mut Vec<SchemaChange>) {
    // The columns of a virtual table are what its module made of the DDL, which differs too where they do.
    if matches!((&before.kind, &after.kind), (TableKind::Virtual { .. }, TableKind::Virtual { .. })) {
        return;
    }
    let name_before = |name: &str| -> String {
        let renamed = renames.columns.iter().find(|(table, _, to)| *table == after.name && to == name).map(|(_, from, _)| from.clone());
        let case = || before.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)).map(|column| column.name.clone());
        renamed.or_else(case).unwrap_or_else(|| name.to_owned())
    };
    let mut gone: Vec<&Column> = before.columns.iter().collect();
    for column in &after.columns {
        let from = name_before(&column.name);
        let base = change(Subject::Column, Fate::Added, &after.name, &column.name);
        match before.columns.iter().find(|old| old.name == from) {
            None => changes.push(SchemaChange { after: Some(definition(column)), ..base }),
            Some(old) => {
                gone.retain(|other| other.name != from);
                let (was, is) = (definition(old), definition(column));
                let differs = was != is;
                let (was, is) = (differs.then_some(was), differs.then_some(is));
                if from != column.name {
                    changes.push(SchemaChange { fate: Fate::Renamed, from: Some(from), before: was, after: is, ..base });
                } else if differs {
                    changes.push(SchemaChange { fate: Fate::Changed, before: was, after: is, ..base });
                }
            }
        }
    }
    for column in gone {
        let base = change(Subject::Column, Fate::Removed, &after.name, &column.name);
        changes.push(SchemaChange { before: Some(definition(column)), ..base });
    }
    let key_before: Vec<String> = before
        .primary_key
        .iter()
        .map(|name| {
            let renamed = renames.columns.iter().find(|(table, from, _)| *table == after.name && from == name);
            renamed.map_or_else(|| name.clone(), |(_, _, to)| to.clone())
        })
        .collect();
    if key_before != after.primary_key {
        let text = |key: &[String]| Some(format!("({})", key.join(", ")));
        changes.push(SchemaChange {
            before: text(&before.primary_key),
            after: text(&after.primary_key),
            ..change(Subject::PrimaryKey, Fate::Changed, &after.name, &after.primary_key.join(", "))
        });
    }
    // A key that refers to a table or column that was renamed goes with it.
    let keys_before: Vec<ForeignKey> = before.foreign_keys.iter().map(|key| renamed_key(key, &after.name, renames)).collect();
    for key in &after.foreign_keys {
        if !keys_before.contains(key) {
            let base = change(Subject::ForeignKey, Fate::Added, &after.name, &key.columns.join(", "));
            changes.push(SchemaChange { after: Some(reference(key)), ..base });
        }
    }
    for key in &keys_before {
        if !after.foreign_keys.contains(key) {
            let base = change(Subject::ForeignKey, Fate::Removed, &after.name, &key.columns.join(", "));
            changes.push(SchemaChange { before: Some(reference(key)), ..base });
        }
    }
}

/// Writes a foreign key as it would be after the renames.
fn renamed_key(key: &ForeignKey, table: &str, renames: &Renames) -> ForeignKey {
    let parent = renames.tables.iter().find(|(from, _)| *from == key.parent).map_or(&key.parent, |(_, to)| to);
    let columns = |table: &str, names: &[String]| -> Vec<String> {
        let renamed = |name: &String| renames.columns.iter().find(|(of, from, _)| of == table && from == name).map(|(_, _, to)| to.clone());
        names.iter().map(|name| renamed(name).unwrap_or_else(|| name.clone())).collect()
    };
    ForeignKey {
        columns: columns(table, &key.columns),
        parent_columns: columns(parent, &key.parent_columns),
        parent: parent.clone(),
        ..key.clone()
    }
}

/// Compares what a table's definition says beyond columns and keys. `names` are the table's before and after.
fn clause_changes(before: &Schema, after: &Schema, names: (&str, &str), renames: &Renames, changes: &mut Vec<SchemaChange>) {
    let of = |schema: &Schema, name: &str| -> Vec<Clause> {
        let sql = schema.object(ObjectKind::Table, name).and_then(|object| object.sql.as_deref());
        sql.map(clauses).unwrap_or_default()
    };
    let renamed = |word: &String| {
        let column = renames.columns.iter().find(|(table, from, _)| table == names.1 && from.eq_ignore_ascii_case(word));
        let table = || word.eq_ignore_ascii_case(names.0).then(|| names.1.to_owned());
        column.map(|(_, _, to)| to.clone()).or_else(table).unwrap_or_else(|| word.clone())
    };
    let was: Vec<Clause> = of(before, names.0)
        .into_iter()
        .map(|clause| Clause { column: clause.column.as_ref().map(renamed), words: clause.words.iter().map(renamed).collect() })
        .collect();
    let is = of(after, names.1);
    let is_same = |a: &Clause, b: &Clause| {
        let same = |a: &String, b: &String| a == b || !a.starts_with('\'') && a.eq_ignore_ascii_case(b);
        a.words.len() == b.words.len()
            && a.words.iter().zip(&b.words).all(|(a, b)| same(a, b))
            && a.column.as_deref().unwrap_or_default().eq_ignore_ascii_case(b.column.as_deref().unwrap_or_default())
    };
    let has_column = |schema: &Schema, table: &str, column: &str| {
        schema.table(table).is_some_and(|table| table.columns.iter().any(|other| other.name.eq_ignore_ascii_case(column)))
    };
    for (list, other, fate) in [(&is, &was, Fate::Added), (&was, &is, Fate::Removed)] {
        for clause in list.iter().filter(|clause| !other.iter().any(|other| is_same(clause, other))) {
            let column = clause.column.as_deref().unwrap_or_default();
            // What came or went with its column is told with that.
            let is_told = !column.is_empty()
                && match fate {
                    Fate::Added => changes.iter().any(|c| c.subject == Subject::Column && c.fate == Fate::Added && c.name == column),
                    _ => !has_column(after, names.1, column),
                };
            if !is_told {
                let base = change(Subject::Clause, fate, names.1, column);
                let (text, none) = (Some(clause.text()), None);
                let (before, after) = if fate == Fate::Added { (none, text) } else { (text, none) };
                changes.push(SchemaChange { before, after, ..base });
            }
        }
    }
}

/// Writes a column's definition as DDL would.
fn definition(column: &Column) -> String {
    let mut text = column.declared_type.clone();
    let mut add = |part: &str| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
    };
    if column.not_null {
        add("NOT NULL");
    }
    if let Some(default) = &column.default {
        add(&format!("DEFAULT {default}"));
    }
    if column.generated {
        add("GENERATED");
    }
    if text.is_empty() { "any type".to_owned() } else { text }
}

fn reference(key: &ForeignKey) -> String {
    let mut text = format!("REFERENCES {}", key.parent);
    if !key.parent_columns.is_empty() {
        text.push_str(&format!("({})", key.parent_columns.join(", ")));
    }
    for (event, action) in [("DELETE", &key.on_delete), ("UPDATE", &key.on_update)] {
        if !action.is_empty() && action != "NO ACTION" {
            text.push_str(&format!(" ON {event} {action}"));
        }
    }
    text
}

fn index_changes(before: &Schema, after: &Schema, old: &Table, new: &Table, changes: &mut Vec<SchemaChange>) {
    text_changes(before, after, ObjectKind::Index, (&old.name, &new.name), changes);
    // What the engine makes by itself for UNIQUE constraints has no text, and stands for the constraint.
    let automatic = |schema: &Schema, table: &str| -> Vec<Index> {
        let is_automatic = |index: &&Index| {
            index.table == table && schema.object(ObjectKind::Index, &index.name).is_some_and(|object| object.sql.is_none())
        };
        schema.indexes.iter().filter(is_automatic).cloned().collect()
    };
    let (was, is) = (automatic(before, &old.name), automatic(after, &new.name));
    let is_in = |list: &[Index], index: &Index| list.iter().any(|other| other.columns == index.columns && other.unique == index.unique);
    let columns =
        |index: &Index| format!("UNIQUE ({})", index.columns.iter().map(|c| c.as_deref().unwrap_or("?")).collect::<Vec<_>>().join(", "));
    for index in is.iter().filter(|index| !is_in(&was, index)) {
        changes.push(SchemaChange { after: Some(columns(index)), ..change(Subject::Index, Fate::Added, &new.name, &index.name) });
    }
    for index in was.iter().filter(|index| !is_in(&is, index)) {
        changes.push(SchemaChange { before: Some(columns(index)), ..change(Subject::Index, Fate::Removed, &new.name, &index.name) });
    }
}

/// Compares objects that are nothing but their text, those of one table or, for views, all.
fn text_changes(before: &Schema, after: &Schema, kind: ObjectKind, tables: (&str, &str), changes: &mut Vec<SchemaChange>) {
    let subject = match kind {
        ObjectKind::Index => Subject::Index,
        ObjectKind::View => Subject::View,
        ObjectKind::Trigger => Subject::Trigger,
        ObjectKind::Table => Subject::Table,
        kind => Subject::Object(kind),
    };
    let of = |schema: &'_ Schema, table: &str| -> Vec<SchemaObject> {
        let is_meant =
            |object: &&SchemaObject| object.kind == kind && object.sql.is_some() && (kind == ObjectKind::View || object.table == table);
        schema.objects.iter().filter(is_meant).cloned().collect()
    };
    let (was, is) = (of(before, tables.0), of(after, tables.1));
    let find = |list: &[SchemaObject], name: &str| list.iter().position(|object| object.name == name);
    let body = |object: &SchemaObject| object.sql.as_deref().unwrap_or_default().replacen(&object.name, "", 1);
    let table = |object: &SchemaObject| if kind == ObjectKind::View { object.name.clone() } else { tables.1.to_owned() };
    let mut gone: Vec<&SchemaObject> = was.iter().filter(|object| find(&is, &object.name).is_none()).collect();
    for object in &is {
        match find(&was, &object.name) {
            Some(at) if was[at].is_same(object) => {}
            Some(at) => {
                // A table that was renamed is renamed in the texts that mention it.
                if was[at].sql.as_ref().map(|sql| sql.replace(tables.0, tables.1)) != object.sql {
                    changes.push(change(subject, Fate::Changed, &table(object), &object.name));
                }
            }
            None => match gone.iter().position(|old| body(old) == body(object)) {
                Some(at) => {
                    let from = Some(gone.remove(at).name.clone());
                    changes.push(SchemaChange { from, ..change(subject, Fate::Renamed, &table(object), &object.name) });
                }
                None => changes.push(change(subject, Fate::Added, &table(object), &object.name)),
            },
        }
    }
    for object in gone {
        changes.push(change(subject, Fate::Removed, &table(object), &object.name));
    }
}

/// Writes the verbatim DDL of both as a unified diff; empty where it is the same.
pub fn unified(before: &Schema, after: &Schema, label_before: &str, label_after: &str) -> String {
    let (was, is) = (before.script(), after.script());
    if was == is {
        return String::new();
    }
    similar::TextDiff::from_lines(&was, &is).unified_diff().context_radius(3).header(label_before, label_after).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, declared_type: &str) -> Column {
        Column { name: name.into(), declared_type: declared_type.into(), not_null: false, default: None, generated: false }
    }

    fn schema(tables: &[(&str, &[(&str, &str)])], others: &[(ObjectKind, &str, &str, &str)]) -> Schema {
        let mut schema = Schema::default();
        for (name, columns) in tables {
            let list: Vec<String> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
            let sql = format!("CREATE TABLE {name}({})", list.join(", "));
            schema.objects.push(SchemaObject::new(ObjectKind::Table, *name, *name, Some(sql)));
            schema.tables.push(Table {
                name: (*name).into(),
                kind: TableKind::Ordinary,
                columns: columns.iter().map(|(name, kind)| column(name, kind)).collect(),
                primary_key: vec![columns[0].0.into()],
                foreign_keys: Vec::new(),
                without_rowid: false,
                strict: false,
            });
        }
        for (kind, name, table, sql) in others {
            schema.objects.push(SchemaObject::new(*kind, *name, *table, Some((*sql).into())));
        }
        schema
    }

    fn check(before: &Schema, after: &Schema, renames: &Renames, expected: &[&str]) {
        assert_eq!(diff(before, after, renames).lines(), expected);
    }

    #[test]
    fn tables_and_columns_that_came_went_and_changed_are_told() {
        let before = schema(&[("users", &[("id", "INTEGER"), ("name", "TEXT"), ("old", "TEXT")]), ("gone", &[("id", "INTEGER")])], &[]);
        let after = schema(&[("users", &[("id", "INTEGER"), ("name", "VARCHAR(9)"), ("new", "")]), ("come", &[("id", "INTEGER")])], &[]);
        check(
            &before,
            &after,
            &Renames::default(),
            &[
                "~ column `users.name`: TEXT -> VARCHAR(9)",
                "+ column `users.new`: any type",
                "- column `users.old`: TEXT",
                "+ table `come`",
                "- table `gone`",
            ],
        );
        check(&before, &before, &Renames::default(), &[]);
    }

    #[test]
    fn renames_are_told_as_such() {
        let before = schema(&[("users", &[("id", "INTEGER"), ("mail", "TEXT")])], &[]);
        let after = schema(&[("people", &[("id", "INTEGER"), ("email", "TEXT")])], &[]);
        let renames =
            Renames { tables: vec![("users".into(), "people".into())], columns: vec![("people".into(), "mail".into(), "email".into())] };
        check(&before, &after, &renames, &["> table `users` is now `people`", "> column `people.mail` is now `people.email`"]);
    }

    #[test]
    fn indexes_views_and_triggers_are_compared_by_their_text() {
        use ObjectKind::{Index, Trigger, View};
        let tables: &[(&str, &[(&str, &str)])] = &[("t", &[("id", "INTEGER")])];
        let before = schema(
            tables,
            &[
                (Index, "i1", "t", "CREATE INDEX i1 ON t(id)"),
                (View, "v", "v", "CREATE VIEW v AS SELECT 1"),
                (Trigger, "g", "t", "CREATE TRIGGER g"),
            ],
        );
        let after = schema(
            tables,
            &[
                (Index, "i2", "t", "CREATE INDEX i2 ON t(id)"),
                (View, "v", "v", "CREATE VIEW v AS SELECT 2"),
                (View, "w", "w", "CREATE VIEW w AS SELECT 3"),
            ],
        );
        check(
            &before,
            &after,
            &Renames::default(),
            &["> index `i1` on `t` is now `i2` on `t`", "- trigger `g` on `t`", "~ view `v`", "+ view `w`"],
        );
    }

    #[test]
    fn the_text_is_a_unified_diff_under_its_labels() {
        let before = schema(&[("t", &[("id", "INTEGER")])], &[]);
        let after = schema(&[("t", &[("id", "INTEGER"), ("x", "")])], &[]);
        assert_eq!(
            unified(&before, &after, "pre", "post"),
            "--- pre\n+++ post\n@@ -1 +1 @@\n-CREATE TABLE t(id INTEGER);\n+CREATE TABLE t(id INTEGER, x );\n"
        );
        assert_eq!(unified(&before, &before, "a", "b"), "");
    }
}
