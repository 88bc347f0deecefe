//! The neutral schema: what a database declares, as every engine can tell it, next to the verbatim DDL that alone is exact.
//!
//! Objects stand in creation order with the engine's own words; tables are described once more in neutral terms, so that two
//! schemas can be compared without parsing SQL. [`diff`] compares.

pub mod clauses;
pub mod diff;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a database declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Every object, in creation order.
    pub objects: Vec<SchemaObject>,
    /// Every table, in creation order, in neutral terms.
    pub tables: Vec<Table>,
    /// Every index, in creation order, in neutral terms.
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
}

impl ObjectKind {
    /// Returns the word that SQL has for it, in lower case.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Index => "index",
            Self::View => "view",
            Self::Trigger => "trigger",
        }
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
    /// Its foreign keys, in declaration order.
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
