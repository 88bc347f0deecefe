//! The neutral schema: what a database declares, as every engine can tell it, next to the verbatim DDL that alone is exact.
//!
//! Objects stand in creation order with the engine's own words; tables are described once more in neutral terms, so that two
//! schemas can be compared without parsing SQL. [`diff`] compares.

pub mod alter;
pub mod clauses;
pub mod diff;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a database declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Every object, in an order in which they can be made; where the engine keeps it, that of their creation.
    pub objects: Vec<SchemaObject>,
    /// Every table, in neutral terms, in creation order, or by name where the engine keeps none.
    pub tables: Vec<Table>,
    /// Every index, in neutral terms, in the same order.
    pub indexes: Vec<Index>,
}

impl Schema {
    /// Finds a table by its exact name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Finds an object by kind and exact name.
    pub fn object(&self, kind: ObjectKind, name: &str) -> Option<&SchemaObject> {
        self.objects.iter().find(|object| object.kind == kind && object.name == name)
    }

    /// Tells whether both declare the same. Where the engine has a catalogue of facts the order of the objects says nothing.
    pub fn is_same(&self, other: &Self) -> bool {
        if self.objects.len() != other.objects.len() {
            return false;
        }
        if self.objects.iter().all(|object| object.facts.is_empty()) {
            return self.objects.iter().zip(&other.objects).all(|(a, b)| a.is_same(b));
        }
        let known: BTreeMap<_, _> = other.objects.iter().map(|object| ((object.kind, object.name.as_str()), object)).collect();
        self.objects.iter().all(|object| known.get(&(object.kind, object.name.as_str())).is_some_and(|other| object.is_same(other)))
    }

    /// Finds an object by which what was found in a transaction is not this schema, and names it. Where the engine has a catalogue of facts, and they
    /// are all that a transaction that writes can tell, only they count, of the kinds that are meant; else the text and the order of the objects do.
    pub fn contradicted_by(&self, found: &Self, is_meant: &dyn Fn(ObjectKind) -> bool) -> Option<String> {
        let words = |object: &SchemaObject| format!("{} `{}`", object.kind.word(), object.name);
        if self.objects.iter().chain(&found.objects).all(|object| object.facts.is_empty()) {
            let differs = found.objects.iter().zip(&self.objects).find(|(found, expected)| found != expected);
            let is_other_number = || (found.objects.len() != self.objects.len()).then(|| "the number of objects".to_owned());
            return differs.map(|(found, _)| words(found)).or_else(is_other_number);
        }
        let known: BTreeMap<_, _> = found.objects.iter().map(|object| ((object.kind, object.name.as_str()), object)).collect();
        let is_lacking = |object: &&SchemaObject| {
            let found = known.get(&(object.kind, object.name.as_str()));
            is_meant(object.kind) && !object.facts.is_empty() && found.is_none_or(|found| found.facts != object.facts)
        };
        if let Some(object) = self.objects.iter().find(is_lacking) {
            let parts = known.get(&(object.kind, object.name.as_str())).map(|found| differing_parts(&object.facts, &found.facts));
            return Some(format!("{}{}", words(object), parts.unwrap_or_else(|| ", which is missing".to_owned())));
        }
        let is_extra =
            |object: &&SchemaObject| is_meant(object.kind) && !object.facts.is_empty() && self.object(object.kind, &object.name).is_none();
        found.objects.iter().find(is_extra).map(|object| format!("{}, which is too much", words(object)))
    }

    /// Returns the DDL of all objects as a script, in creation order.
    pub fn script(&self) -> String {
        let mut script = String::new();
        for sql in self.objects.iter().filter_map(|object| object.sql.as_deref()) {
            script.push_str(sql);
            script.push_str(";\n");
        }
        script
    }
}

/// What kind of thing a schema object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A table, ordinary or virtual.
    Table,
    /// An index.
    Index,
    /// A view.
    View,
    /// A trigger.
    Trigger,
    /// A namespace that holds others (`CREATE SCHEMA`).
    Namespace,
    /// An extension.
    Extension,
    /// A type: an enum, a domain, a composite, a range.
    Type,
    /// A function, a procedure, an aggregate.
    Function,
    /// A sequence.
    Sequence,
    /// A view that keeps its rows.
    MaterializedView,
    /// A column's default that stands for itself.
    Default,
    /// A primary key, a unique or exclusion constraint, a check that stands for itself.
    Constraint,
    /// A foreign key that stands for itself.
    ForeignKey,
    /// A rewrite rule.
    Rule,
    /// A row-level security policy.
    Policy,
    /// A publication.
    Publication,
    /// A trigger on commands.
    EventTrigger,
    /// Extended statistics.
    Statistics,
    /// Who owns an object.
    Owner,
    /// Who may do what with an object.
    Privileges,
    /// A comment on an object.
    Comment,
    /// Anything else that an engine has; its name begins with the engine's word for it.
    Other,
}

impl ObjectKind {
    /// Returns the word that SQL has for it, in lower case.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Index => "index",
            Self::View => "view",
            Self::Trigger => "trigger",
            Self::Namespace => "schema",
            Self::Extension => "extension",
            Self::Type => "type",
            Self::Function => "function",
            Self::Sequence => "sequence",
            Self::MaterializedView => "materialized view",
            Self::Default => "default",
            Self::Constraint => "constraint",
            Self::ForeignKey => "foreign key",
            Self::Rule => "rule",
            Self::Policy => "policy",
            Self::Publication => "publication",
            Self::EventTrigger => "event trigger",
            Self::Statistics => "statistics",
            Self::Owner => "owner",
            Self::Privileges => "privileges",
            Self::Comment => "comment",
            Self::Other => "object",
        }
    }

    /// Tells whether it says something about another object and stands or falls with it: it can be written over, and nothing hangs on it.
    pub fn is_attribute(self) -> bool {
        matches!(self, Self::Owner | Self::Privileges | Self::Comment)
    }
}

/// One object with its verbatim DDL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SchemaObject {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The table that it belongs to; a table's own name for itself.
    pub table: String,
    /// The statement that made it, byte for byte as the engine keeps it; none for what the engine made by itself, such as the
    /// index behind a UNIQUE constraint.
    pub sql: Option<String>,
    /// What the engine's catalogue says of it, part by part (`column id`, `check positive`), free of what differs between two databases that are
    /// the same (internal ids, places). Where there is any, it decides whether two objects are the same, and the DDL is only how to make one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, String>,
    /// The objects without which this one cannot be, each as kind and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<(ObjectKind, String)>,
}

impl SchemaObject {
    /// Makes an object of which only the DDL is known.
    pub fn new(kind: ObjectKind, name: impl Into<String>, table: impl Into<String>, sql: Option<String>) -> Self {
        Self { kind, name: name.into(), table: table.into(), sql, facts: BTreeMap::new(), needs: Vec::new() }
    }

    /// Tells whether both are the same thing under the same name.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_named_same = self.kind == other.kind && self.name == other.name && self.table == other.table;
        let is_known = !self.facts.is_empty() && !other.facts.is_empty();
        is_named_same && if is_known { self.facts == other.facts } else { self.sql == other.sql }
    }
}

/// Names the parts in which facts differ.
fn differing_parts(expected: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> String {
    let names: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differing = names.into_iter().filter(|name| expected.get(*name) != found.get(*name));
    let part = |name: &String| {
        let value = |facts: &BTreeMap<String, String>| facts.get(name).map_or_else(|| "nothing".to_owned(), |value| format!("`{value}`"));
        format!(": {name}: {} instead of {}", value(found), value(expected))
    };
    differing.map(part).collect()
}

/// What stands behind a table's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Rows of its own.
    Ordinary,
    /// A module presents it; its rows, if it has any, live in shadow tables.
    Virtual {
        /// The module's name.
        module: String,
    },
    /// Holds the rows of a virtual table.
    Shadow {
        /// That virtual table's name.
        of: String,
    },
    /// The engine's own (`sqlite_sequence`, `sqlite_stat1`).
    Internal,
    /// Its rows live in its partitions.
    Partitioned,
    /// Its rows live elsewhere; they are not kept.
    Foreign,
    /// A query's rows, kept until it is refreshed.
    Materialized,
}

/// A table in neutral terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What stands behind it.
    pub kind: TableKind,
    /// Its columns in order, generated ones among them.
    pub columns: Vec<Column>,
    /// Names of the primary key's columns, in key order; empty without one.
    pub primary_key: Vec<String>,
    /// Its foreign keys, in declaration order, or by their columns where the engine keeps none.
    pub foreign_keys: Vec<ForeignKey>,
    /// Whether its rows have no rowid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_rowid: bool,
    /// Whether its column types are enforced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

/// A column in neutral terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The declared type, verbatim; empty where there is none.
    #[serde(rename = "type")]
    pub declared_type: String,
    /// Whether NULL is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_null: bool,
    /// The default's expression, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether its value is computed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generated: bool,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// The referring columns.
    pub columns: Vec<String>,
    /// The table referred to.
    pub parent: String,
    /// The columns referred to; empty where the parent's primary key is meant.
    pub parent_columns: Vec<String>,
    /// What happens when the parent row goes, in SQL's words (`CASCADE`).
    pub on_delete: String,
    /// What happens when the parent's key changes.
    pub on_update: String,
}

/// An index in neutral terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// The table it is on.
    pub table: String,
    /// Whether it refuses duplicates.
    pub unique: bool,
    /// Its columns in order; none stands for an expression.
    pub columns: Vec<Option<String>>,
    /// Whether it holds only some rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Settings of a database by name, in name order.
pub type Settings = BTreeMap<String, Setting>;

/// One setting of a database that belongs to its state (`user_version`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The value, as the engine writes it.
    pub value: String,
    /// What can restore it.
    pub scope: SettingScope,
}

/// What can restore a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingScope {
    /// A rollback does; the setting is part of the proof.
    Exact,
    /// Only a new database can be given it; a rollback tells where it differs.
    Creation,
}
