//! The changes of [`super::write`] as SQL text that `psql`, or any client, can run. Pure.
//!
//! What the live database says there, the schemas of both states say here: the script starts from the first one, and keeps account of what
//! is there at each point of it.
//!
//! - It is one transaction. With `session_replication_role` no trigger, rule or foreign key action fires; those that are enabled `ALWAYS` or for
//!   replicas are disabled for the tables that rows are written to.
//! - Objects are removed in the opposite order of that in which they could be made, and what goes with something else is left out. A script cannot try and
//!   see, so the order must be right.
//! - A partition that comes to a table that stays is made whole first, with its indexes, and attached then: the server would make its own otherwise.
//! - Privileges that the first state gives by default are taken back while objects are made, so that these have none but their own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write;

use super::name::{parts_of, quoted, shown, sql_of_shown};
use super::read::LARGE_OBJECTS;
use super::{name, statement, value};
use crate::engine::{EngineError, PatchTarget, RowSource};
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, Settings};
use crate::value::Value;

/// What stands at the beginning: the same settings as those of a session that reads (`link.rs`), as far as they say how a text is understood.
const HEAD: &str = "\
BEGIN;
SET LOCAL client_encoding = 'UTF8';
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = '';
SET LOCAL datestyle = 'ISO, MDY';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL timezone = 'UTC';
SET LOCAL lc_monetary = 'C';
SET LOCAL xmloption = 'content';
SET LOCAL array_nulls = on;
SET LOCAL transform_null_equals = off;
SET LOCAL check_function_bodies = off;
SET LOCAL default_tablespace = '';
SET LOCAL default_table_access_method = 'heap';
SET LOCAL row_security = off;
-- So that no trigger and no foreign key action fires. A superuser may set it and, from PostgreSQL 15 on, whoever was granted it
-- (GRANT SET ON PARAMETER session_replication_role); for anybody else the script fails here, before anything is changed.
SET LOCAL session_replication_role = 'replica';";

/// How many rows a statement inserts at most.
const INSERTED_ROWS_MAX: usize = 500;

/// A statement that inserts rows ends when it is as long as this.
const INSERTED_BYTES_MAX: usize = 1 << 20;

/// What an object is called by: kind and name.
type Key = (ObjectKind, String);

fn key(object: &SchemaObject) -> Key {
    (object.kind, object.name.clone())
}

/// One of the two states.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What it declares.
    pub schema: &'a Schema,
    /// Its settings.
    pub settings: &'a Settings,
}

/// Writes a patch as SQL statements.
pub struct Script<'a> {
    out: &'a mut dyn Write,
    /// The schema whose tables are shown by their names alone.
    default_schema: &'a str,
    /// Whether owners and privileges are written.
    with_owners: bool,
    before: Side<'a>,
    target: Side<'a>,
    /// What is there at this point of the script.
    present: BTreeMap<Key, SchemaObject>,
    /// What was made.
    made: HashSet<Key>,
    /// Whether something was added to a table that stays.
    is_added_to: bool,
    /// Sequences that were given other parameters.
    changed_sequences: HashSet<String>,
    /// Statements that take from tables what they have too much, by table.
    removals: HashMap<String, Vec<String>>,
    /// Tables that were detached from another.
    detached: HashSet<String>,
    /// What waits for the indexes of a partition.
    held: Vec<SchemaObject>,
    /// Tables that were made ready for rows.
    ready: HashSet<String>,
    /// Statements that enable triggers and rules again.
    enable: Vec<String>,
}

impl<'a> Script<'a> {
    /// Begins a script that makes one state of the other; owners and privileges are part of it, or not.
    ///
    /// # Errors
    /// [`EngineError::Input`] where the script cannot be written out, here and in all other methods.
    pub fn begin(
        out: &'a mut dyn Write,
        default_schema: &'a str,
        with_owners: bool,
        before: Side<'a>,
        target: Side<'a>,
    ) -> Result<Self, EngineError> {
        let present = before.schema.objects.iter().map(|object| (key(object), object.clone())).collect();
        let mut script = Self {
            out,
            default_schema,
            with_owners,
            before,
            target,
            present,
            made: HashSet::new(),
            is_added_to: false,
            changed_sequences: HashSet::new(),
            removals: HashMap::new(),
            detached: HashSet::new(),
            held: Vec::new(),
            ready: HashSet::new(),
            enable: Vec::new(),
        };
        script.line(HEAD)?;
        Ok(script)
    }

    /// Ends the script.
    ///
    /// # Errors
    /// As [`Script::begin`].
    pub fn finish(mut self) -> Result<(), EngineError> {
        self.line("COMMIT;")
    }

    fn line(&mut self, text: &str) -> Result<(), EngineError> {
        writeln!(self.out, "{text}").map_err(|error| EngineError::Input(Box::new(error)))
    }

    fn statement(&mut self, text: &str) -> Result<(), EngineError> {
        self.line(&format!("{text};"))
    }

    fn sql(&self, shown: &str) -> String {
        sql_of_shown(self.default_schema, shown)
    }

    fn is_made(&self, kind: ObjectKind, name: &str) -> bool {
        self.made.contains(&(kind, name.to_owned()))
    }

    /// Makes an object.
    fn make(&mut self, object: &SchemaObject) -> Result<(), EngineError> {
        if object.kind == ObjectKind::ForeignKey && self.detached.contains(&object.table) {
            // One of its former parent's became its own.
            if let Some(sql) = statement::removing(self.default_schema, object) {
                self.statement(&sql)?;
            }
        }
        if let Some(sql) = statement::making(object) {
            self.statement(&sql)?;
        }
        self.made.insert(key(object));
        self.present.insert(key(object), object.clone());
        Ok(())
    }

    /// Makes an object, or keeps it until the indexes of its partition are there.
    fn make_or_hold(&mut self, object: &SchemaObject) -> Result<(), EngineError> {
        let is_held = |table: &str| self.held.iter().any(|held| held.table == table && held.name.starts_with("table attach "));
        let waits = if let Some(index) = object.name.strip_prefix("index attach ").filter(|_| object.kind == ObjectKind::Other) {
            self.target.schema.indexes.iter().any(|known| known.name == index && is_held(&known.table))
        } else if object.kind == ObjectKind::Other && object.name.starts_with("table attach ") {
            object.facts.get("parent").is_some_and(|parent| !self.is_made(ObjectKind::Table, parent))
        } else {
            false
        };
        if waits {
            self.held.push(object.clone());
            return Ok(());
        }
        self.make(object)
    }

    fn make_held(&mut self) -> Result<(), EngineError> {
        let (tables, indexes): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|o| o.name.starts_with("table attach "));
        for object in tables.iter().chain(&indexes) {
            self.make(object)?;
        }
        Ok(())
    }

    /// Writes what takes from a table what it has too much, and then the same for the tables that have it from there.
    fn remove_parts(&mut self, table: &str) -> Result<(), EngineError> {
        let mut tables = vec![table.to_owned()];
        while let Some(table) = tables.pop() {
            for sql in self.removals.remove(&table).unwrap_or_default() {
                self.statement(&sql)?;
            }
            let children = self.removals.keys().filter(|child| parents(self.before.schema, child).contains(&table)).cloned();
            let mut children: Vec<String> = children.collect();
            children.sort();
            tables.extend(children);
        }
        Ok(())
    }

    /// Tells whether an object goes with what it belongs to, so that nothing must be said.
    fn goes_along(&self, object: &SchemaObject, going: &HashSet<Key>) -> bool {
        let goes = |kind: ObjectKind, name: &str| going.contains(&(kind, name.to_owned()));
        let relations = [ObjectKind::Table, ObjectKind::View, ObjectKind::MaterializedView];
        let table_goes = relations.iter().any(|kind| goes(*kind, &object.table));
        match object.kind {
            ObjectKind::Index | ObjectKind::Constraint => table_goes || self.parent_index_goes(object, going),
            ObjectKind::Trigger | ObjectKind::Rule | ObjectKind::Policy | ObjectKind::Statistics | ObjectKind::Sequence => table_goes,
            ObjectKind::Other => match object.name.strip_prefix("sequence owned by ") {
                // One that stays must not go with the table of its column.
                Some(sequence) => goes(ObjectKind::Sequence, sequence),
                None => table_goes,
            },
            _ => false,
        }
    }

    /// Tells whether an index, or that of a constraint, is part of one that goes, from which its table is not detached.
    fn parent_index_goes(&self, object: &SchemaObject, going: &HashSet<Key>) -> bool {
        if going.contains(&(ObjectKind::Other, format!("table attach {}", object.table))) {
            return false;
        }
        let attached = self.before.schema.object(ObjectKind::Other, &format!("index attach {}", self.index_of(object)));
        let Some(parent) = attached.and_then(|attached| attached.facts.get("parent")) else { return false };
        going.iter().filter(|(kind, _)| matches!(kind, ObjectKind::Index | ObjectKind::Constraint)).any(|(kind, name)| {
            let found = self.before.schema.object(*kind, name);
            found.is_some_and(|found| self.index_of(found) == *parent)
        })
    }

    /// Names the index of an index or a constraint.
    fn index_of(&self, object: &SchemaObject) -> String {
        if object.kind != ObjectKind::Constraint {
            return object.name.clone();
        }
        let schema = parts_of(&object.table).0.unwrap_or_else(|| self.default_schema.to_owned());
        let own = object.name.strip_prefix(&object.table).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&object.name);
        shown(self.default_schema, &schema, own)
    }

    /// Takes a default away that stands for itself, where something that it needs goes and its table does not.
    fn remove_default(&mut self, default: &SchemaObject, going: &HashSet<Key>) -> Result<(), EngineError> {
        let table = (ObjectKind::Table, default.table.clone());
        if going.contains(&table) {
            self.present.remove(&key(default));
        } else if default.needs.iter().any(|need| going.contains(need)) {
            let column = default.name.strip_prefix(&default.table).and_then(|rest| rest.strip_prefix('.')).unwrap_or(&default.name);
            self.statement(&format!("ALTER TABLE ONLY {} ALTER COLUMN {} DROP DEFAULT", self.sql(&default.table), quoted(column)))?;
            if let Some(present) = self.present.get_mut(&table) {
                present.facts.remove(&format!("default {column}"));
            }
            self.present.remove(&key(default));
        }
        Ok(())
    }

    /// Makes a table ready for rows: nothing fires.
    fn prepare(&mut self, table: &str) -> Result<(), EngineError> {
        if !self.ready.insert(table.to_owned()) {
            return Ok(());
        }
        let sql = self.sql(table);
        let word = |state: &str| match state {
            "A" => Some("ENABLE ALWAYS"),
            "R" => Some("ENABLE REPLICA"),
            _ => None,
        };
        let mut found: Vec<(&str, String, &str)> = Vec::new();
        for object in self.present.values().filter(|object| object.table == table) {
            let state = |part: &str| object.facts.get(part).and_then(|state| word(state));
            let own = || object.name.strip_prefix(&format!("{table}.")).unwrap_or(&object.name).to_owned();
            match object.kind {
                ObjectKind::Trigger => found.extend(state("enabled").map(|word| ("TRIGGER", own(), word))),
                ObjectKind::Rule => found.extend(state("enabled").map(|word| ("RULE", own(), word))),
                // A partition's, which came with its parent's.
                ObjectKind::Table => {
                    let parts = object.facts.iter().filter_map(|(part, state)| Some((part.strip_prefix("trigger ")?, word(state)?)));
                    found.extend(parts.map(|(name, word)| ("TRIGGER", name.to_owned(), word)));
                }
                _ => {}
            }
        }
        for (kind, name, word) in found {
            self.enable.push(format!("ALTER TABLE {sql} {word} {kind} {}", quoted(&name)));
            self.statement(&format!("ALTER TABLE {sql} DISABLE {kind} {}", quoted(&name)))?;
        }
        Ok(())
    }

    /// Writes the condition that finds the row with these locator cells.
    fn condition(&self, shape: &TableShape, locator: &[Value]) -> String {
        let part = |(&at, value): (&usize, &Value)| {
            let column = shape.columns.get(at)?;
            let name = quoted(&column.name);
            Some(if is_own_type(self.default_schema, self.target.schema, &column.declared_type) {
                format!("{name} = {}", typed_literal(value, &column.declared_type))
            } else {
                // Which operator compares the type of an extension is not known, and its text is exact.
                format!("{name}::text = {}", typed_literal(value, "text"))
            })
        };
        let parts: Vec<String> = shape.locator.iter().zip(locator).filter_map(part).collect();
        if parts.is_empty() { "false".to_owned() } else { parts.join(" AND ") }
    }

    fn large_objects(&mut self, rows: RowSource<'_>) -> Result<u64, EngineError> {
        let mut count = 0;
        for row in rows {
            for sql in large_object(&row.map_err(EngineError::Input)?, self.with_owners) {
                self.statement(&sql)?;
            }
            count += 1;
        }
        Ok(count)
    }

    fn update_large_objects(&mut self, columns: &[usize], rows: RowSource<'_>) -> Result<u64, EngineError> {
        let mut count = 0;
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            let Some((oid, values)) = row.split_first() else { continue };
            let oid = literal(oid);
            for (column, value) in columns.iter().zip(values) {
                if *column == 1 {
                    const WRITE: u32 = 0x2_0000;
                    self.statement(&format!("SELECT pg_catalog.lo_truncate64(pg_catalog.lo_open({oid}, {WRITE}), 0)"))?;
                    self.statement(&format!("SELECT pg_catalog.lo_put({oid}, 0, {})", literal(value)))?;
                }
                if let Some(sql) = large_object_part(&oid, *column, value).filter(|_| self.with_owners) {
                    self.statement(&sql)?;
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Makes owners, privileges and comments the target's.
    fn finish_attributes(&mut self) -> Result<(), EngineError> {
        // Who gives an object away takes privileges along.
        for is_owner in [true, false] {
            let with_owners = self.with_owners;
            let is_meant = |object: &&SchemaObject| {
                let is_wanted = with_owners || object.kind == ObjectKind::Comment;
                object.kind.is_attribute() && is_wanted && (object.kind == ObjectKind::Owner) == is_owner
            };
            for object in self.target.schema.objects.iter().filter(is_meant) {
                let found = self.before.schema.object(object.kind, &object.name);
                let is_kept = match object.needs.as_slice() {
                    // What it is about is a part of something.
                    [] => self.made.is_empty() && !self.is_added_to,
                    needs => !needs.iter().any(|need| self.made.contains(need)),
                };
                if is_kept && found.is_some_and(|found| found.facts == object.facts) {
                    continue;
                }
                if let Some(found) = found.filter(|found| is_kept && found.kind == ObjectKind::Privileges) {
                    // Somebody may have had privileges who has none.
                    for sql in statement::revokes(found) {
                        self.statement(sql)?;
                    }
                }
                if let Some(sql) = &object.sql {
                    self.statement(sql)?;
                }
            }
            for object in self.before.schema.objects.iter().filter(is_meant) {
                let stays = object.needs.iter().all(|need| self.present.contains_key(need) && !self.made.contains(need));
                if !stays || object.needs.is_empty() || self.target.schema.object(object.kind, &object.name).is_some() {
                    continue;
                }
                if object.kind == ObjectKind::Privileges {
                    for sql in statement::plain_privileges(object, self.owner(object)) {
                        self.statement(&sql)?;
                    }
                } else if let Some(sql) = statement::removing(self.default_schema, object) {
                    self.statement(&sql)?;
                }
            }
        }
        Ok(())
    }

    /// Tells who owns what privileges are about, in the target.
    fn owner(&self, privileges: &SchemaObject) -> Option<&'a str> {
        let of = |name: &str| self.target.schema.object(ObjectKind::Owner, name).and_then(|owner| owner.facts.get("owner"));
        // A sequence of a column is its table's owner's.
        of(&privileges.name).or_else(|| of(&format!("table {}", privileges.table))).map(String::as_str)
    }
}

impl PatchTarget for Script<'_> {
    fn alter_objects(&mut self, changes: &[(SchemaObject, SchemaObject)]) -> Result<(), EngineError> {
        for (live, target) in changes.iter().filter(|(live, _)| live.kind == ObjectKind::Table) {
            let statements = statement::removals(&self.sql(&live.name), live, target);
            self.removals.insert(live.name.clone(), statements);
            if let Some(present) = self.present.get_mut(&key(live)) {
                present.facts.retain(|part, value| target.facts.get(part) == Some(value));
            }
        }
        Ok(())
    }

    fn drop_objects(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        let going: HashSet<Key> = objects.iter().map(key).collect();
        for object in self.before.schema.objects.iter().rev() {
            if object.kind == ObjectKind::Default {
                self.remove_default(object, &going)?;
            } else if going.contains(&key(object)) {
                let removing = statement::removing(self.default_schema, object).filter(|_| !self.goes_along(object, &going));
                if let Some(sql) = removing {
                    self.statement(&sql)?;
                }
                if object.name.starts_with("table attach ") {
                    self.detached.insert(object.table.clone());
                }
                self.present.remove(&key(object));
            } else if object.kind == ObjectKind::Table && self.removals.contains_key(&object.name) {
                let waits = parents(self.before.schema, &object.name).iter().any(|parent| self.removals.contains_key(parent));
                if !waits {
                    self.remove_parts(&object.name)?;
                }
            }
        }
        let is_new = |object: &&SchemaObject| !object.kind.is_attribute() && !self.present.contains_key(&key(object));
        if self.target.schema.objects.iter().any(|object| is_new(&object)) {
            for object in self.before.schema.objects.iter().filter(|object| object.name.starts_with(statement::DEFAULT_PRIVILEGES)) {
                if self.present.remove(&key(object)).is_some()
                    && let Some(sql) = statement::removing(self.default_schema, object)
                {
                    self.statement(&sql)?;
                }
            }
        }
        Ok(())
    }

    fn create_tables(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        for object in objects {
            self.make_or_hold(object)?;
        }
        Ok(())
    }

    fn delete_rows(&mut self, shape: &TableShape, locators: RowSource<'_>) -> Result<u64, EngineError> {
        let is_large = shape.name == LARGE_OBJECTS;
        if !is_large {
            self.prepare(&shape.name)?;
        }
        let table = self.sql(&shape.name);
        let mut count = 0;
        for row in locators {
            let row = row.map_err(EngineError::Input)?;
            if is_large {
                let oid = row.first().map(literal).unwrap_or_default();
                self.statement(&format!("SELECT pg_catalog.lo_unlink({oid})"))?;
            } else {
                self.statement(&format!("DELETE FROM ONLY {table} WHERE {}", self.condition(shape, &row)))?;
            }
            count += 1;
        }
        Ok(count)
    }

    fn update_rows(&mut self, shape: &TableShape, columns: &[usize], rows: RowSource<'_>) -> Result<u64, EngineError> {
        if shape.name == LARGE_OBJECTS {
            return self.update_large_objects(columns, rows);
        }
        self.prepare(&shape.name)?;
        let table = self.sql(&shape.name);
        let facts = self.present.get(&(ObjectKind::Table, shape.name.clone())).map(|table| &table.facts);
        let is_always = |name: &str| facts.and_then(|facts| facts.get(&format!("identity {name}"))).is_some_and(|identity| identity == "a");
        let updated = columns.iter().filter_map(|&at| shape.columns.get(at)).map(|column| column.name.as_str());
        let always: Vec<String> = updated.filter(|name| is_always(name)).map(quoted).collect();
        let mut count = 0;
        // Nobody may write to such a column as long as it is one.
        for column in &always {
            self.statement(&format!("ALTER TABLE {table} ALTER COLUMN {column} SET GENERATED BY DEFAULT"))?;
        }
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            let (locator, values) = row.split_at(shape.locator.len().min(row.len()));
            let written = columns.iter().zip(values).filter_map(|(&at, value)| Some((shape.columns.get(at)?, value)));
            let sets: Vec<String> = written
                .filter(|(column, _)| !column.generated)
                .map(|(column, value)| format!("{} = {}", quoted(&column.name), literal(value)))
                .collect();
            // Else only what the database computes differs.
            if !sets.is_empty() {
                self.statement(&format!("UPDATE ONLY {table} SET {} WHERE {}", sets.join(", "), self.condition(shape, locator)))?;
            }
            count += 1;
        }
        for column in &always {
            self.statement(&format!("ALTER TABLE {table} ALTER COLUMN {column} SET GENERATED ALWAYS"))?;
        }
        Ok(count)
    }

    fn insert_rows(&mut self, shape: &TableShape, rows: RowSource<'_>) -> Result<u64, EngineError> {
        if shape.name == LARGE_OBJECTS {
            return self.large_objects(rows);
        }
        self.prepare(&shape.name)?;
        let insert = Insert::new(self.default_schema, self.target.schema, shape);
        let mut count = 0;
        let (mut text, mut in_text) = (String::new(), 0);
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            count += 1;
            match insert.values(&row) {
                None => self.statement(&insert.head)?,
                Some(values) => {
                    text.push_str(if in_text == 0 { &insert.head } else { "," });
                    text.push('\n');
                    text.push_str(&values);
                    in_text += 1;
                    if in_text >= INSERTED_ROWS_MAX || text.len() >= INSERTED_BYTES_MAX {
                        self.statement(&text)?;
                        text.clear();
                        in_text = 0;
                    }
                }
            }
        }
        if in_text > 0 {
            self.statement(&text)?;
        }
        Ok(count)
    }

    fn clear_table(&mut self, shape: &TableShape) -> Result<(), EngineError> {
        if shape.name == LARGE_OBJECTS {
            return self.statement("SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata");
        }
        self.prepare(&shape.name)?;
        self.statement(&format!("DELETE FROM ONLY {}", self.sql(&shape.name)))
    }

    fn refresh(&mut self, name: &str) -> Result<(), EngineError> {
        self.statement(&format!("REFRESH MATERIALIZED VIEW {}", self.sql(name)))
    }

    fn finish_schema(&mut self, target: &Schema) -> Result<(), EngineError> {
        use ObjectKind::{Default, EventTrigger, ForeignKey, Function, Policy, Publication, Rule, Sequence, Table, Trigger};
        for object in target.objects.iter().filter(|object| !object.kind.is_attribute()) {
            if matches!(object.kind, EventTrigger | ForeignKey | Policy | Publication | Rule | Trigger) {
                self.make_held()?;
            }
            let found = self.present.get(&key(object)).cloned();
            match (object.kind, found) {
                // Where the table stays, its facts say which default is to be set.
                (Default, None) if !self.is_made(Table, &object.table) => {}
                (_, None) => {
                    if !self.held.iter().any(|held| key(held) == key(object)) {
                        self.make_or_hold(object)?;
                    }
                }
                (_, Some(found)) if object.facts.is_empty() || found.facts == object.facts => {}
                (Table, Some(found)) => self.add_parts(&found.facts, object)?,
                (Sequence, Some(found)) => self.change_sequence(&found.facts, object)?,
                (Function, Some(_)) => self.make(object)?,
                (_, Some(_)) => {}
            }
        }
        self.make_held()?;
        self.finish_attributes()
    }

    fn finish_rows(&mut self, _: &Schema) -> Result<(), EngineError> {
        for sql in std::mem::take(&mut self.enable) {
            self.statement(&sql)?;
        }
        Ok(())
    }

    fn write_settings(&mut self, settings: &Settings) -> Result<(), EngineError> {
        let value_before = |name: &str| self.before.settings.get(name).map(|setting| setting.value.as_str());
        let mut statements = Vec::new();
        let is_exact = |scope: SettingScope| scope == SettingScope::Exact;
        for (name, setting) in settings.iter().filter(|(_, setting)| is_exact(setting.scope)) {
            let is_same = value_before(name) == Some(setting.value.as_str());
            if let Some(sequence) = name.strip_prefix("sequence ") {
                let is_touched = self.is_made(ObjectKind::Sequence, sequence) || self.changed_sequences.contains(sequence);
                if let Some((last, called)) = setting.value.split_once(' ').filter(|_| !is_same || is_touched) {
                    let sql = self.sql(sequence);
                    // What `setval` writes is not undone with its transaction, what it writes it to is.
                    statements.push(format!("ALTER SEQUENCE {sql} RESTART WITH {last}"));
                    statements.push(format!(
                        "SELECT pg_catalog.setval({}::pg_catalog.regclass, {last}, {})",
                        name::literal(&sql),
                        called == "called"
                    ));
                }
            } else if !is_same {
                statements.extend(database_setting(name, Some(&setting.value)));
            }
        }
        let is_gone = |name: &str| !settings.get(name).is_some_and(|setting| is_exact(setting.scope));
        for (name, _) in self.before.settings.iter().filter(|(name, setting)| is_exact(setting.scope) && is_gone(name)) {
            statements.extend(database_setting(name, None));
        }
        for sql in statements {
            self.statement(&sql)?;
        }
        Ok(())
    }
}

impl Script<'_> {
    /// Adds to a table that stays what the target has more. What it is given, the tables that have their columns from it have too.
    fn add_parts(&mut self, found: &BTreeMap<String, String>, target: &SchemaObject) -> Result<(), EngineError> {
        for sql in statement::additions(&self.sql(&target.name), found, target) {
            self.statement(&sql)?;
            self.is_added_to = true;
        }
        let mut tables = vec![target.name.clone()];
        let mut is_told: HashSet<String> = HashSet::new();
        while let Some(table) = tables.pop() {
            if !is_told.insert(table.clone()) {
                continue;
            }
            let children: Vec<String> = self
                .target
                .schema
                .objects
                .iter()
                .filter(|object| object.kind == ObjectKind::Table && parents(self.target.schema, &object.name).contains(&table))
                .map(|object| object.name.clone())
                .collect();
            for child in children {
                if let Some(present) = self.present.get_mut(&(ObjectKind::Table, child.clone())) {
                    for (part, value) in
                        target.facts.iter().filter(|(part, value)| part.starts_with("check ") && !value.contains("NO INHERIT"))
                    {
                        present.facts.insert(part.clone(), value.clone());
                    }
                }
                tables.push(child);
            }
        }
        Ok(())
    }

    fn change_sequence(&mut self, found: &BTreeMap<String, String>, target: &SchemaObject) -> Result<(), EngineError> {
        let last = self.target.settings.get(&format!("sequence {}", target.name)).and_then(|setting| setting.value.split(' ').next());
        // Where it stands may be outside of its new bounds.
        let restart = last.map(|last| format!(" RESTART WITH {last}")).unwrap_or_default();
        for sql in statement::additions(&self.sql(&target.name), found, target) {
            self.statement(&format!("{sql}{restart}"))?;
        }
        self.changed_sequences.insert(target.name.clone());
        Ok(())
    }
}

/// Names the tables from which another has its columns.
fn parents(schema: &Schema, table: &str) -> Vec<String> {
    let attached = schema.object(ObjectKind::Other, &format!("table attach {table}")).and_then(|attached| attached.facts.get("parent"));
    let inherited = schema.object(ObjectKind::Table, table).into_iter().flat_map(|table| &table.facts);
    let inherited = inherited.filter(|(part, _)| part.starts_with("inherits ")).map(|(_, parent)| parent);
    attached.into_iter().chain(inherited).cloned().collect()
}

/// Writes the statement that sets what `ALTER DATABASE` can set, or resets it, in whatever database the script runs.
fn database_setting(name: &str, value: Option<&str>) -> Option<String> {
    const DATABASE: &str = "\u{1}";
    let (scope, variable) = statement::setting_of(name, DATABASE)?;
    let sql = match value {
        Some(value) => format!("{scope} SET {} TO {}", quoted(&variable), statement::setting_value(&variable, value)),
        None => format!("{scope} RESET {}", quoted(&variable)),
    };
    let template = name::literal(&sql.replace('%', "%%").replace(DATABASE, "%I"));
    let body = format!("BEGIN EXECUTE pg_catalog.format({template}, pg_catalog.current_database()); END");
    Some(format!("DO {}", name::literal(&body)))
}

/// Tells whether a type is the server's own, or one that the schema declares on top of those; else it is an extension's.
fn is_own_type(default_schema: &str, schema: &Schema, sql_type: &str) -> bool {
    let mut sql_type = sql_type;
    // A domain over a domain over ... a type.
    for _ in 0..64 {
        let plain = sql_type.trim_end_matches("[]");
        let (Some(place), own) = parts_of(plain) else { return true };
        let name = shown(default_schema, &place, &own);
        if schema.object(ObjectKind::Table, &name).is_some() {
            return true;
        }
        match schema.object(ObjectKind::Type, &name).map(|found| found.facts.get("base")) {
            None => return false,
            Some(None) => return true,
            Some(Some(base)) => sql_type = base,
        }
    }
    false
}

/// The statement that inserts rows into a table: what stands before the values.
struct Insert {
    head: String,
    /// The columns that are written.
    columns: Vec<usize>,
}

impl Insert {
    fn new(default_schema: &str, schema: &Schema, shape: &TableShape) -> Self {
        let written = |(at, column): (usize, &crate::rows::ColumnShape)| (!column.generated).then_some(at);
        let columns: Vec<usize> = shape.columns.iter().enumerate().filter_map(written).collect();
        let table = sql_of_shown(default_schema, &shape.name);
        let names: Vec<&String> = columns.iter().filter_map(|&at| shape.columns.get(at)).map(|column| &column.name).collect();
        if names.is_empty() {
            return Self { head: format!("INSERT INTO {table} DEFAULT VALUES"), columns };
        }
        let facts = schema.object(ObjectKind::Table, &shape.name).map(|table| &table.facts);
        let is_identity = |name: &String| facts.is_some_and(|facts| facts.contains_key(&format!("identity {name}")));
        let overriding = if names.iter().any(|name| is_identity(name)) { " OVERRIDING SYSTEM VALUE" } else { "" };
        let list: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        Self { head: format!("INSERT INTO {table} ({}){overriding} VALUES", list.join(", ")), columns }
    }

    /// Writes the values of a row; none where nothing is written.
    fn values(&self, row: &[Value]) -> Option<String> {
        let values: Vec<String> = self.columns.iter().map(|&at| row.get(at).map_or_else(|| "NULL".to_owned(), literal)).collect();
        (!values.is_empty()).then(|| format!("({})", values.join(", ")))
    }
}

/// Writes the name of a table, as it is shown, as it stands in a statement.
pub fn table(default_schema: &str, shown: &str) -> String {
    sql_of_shown(default_schema, shown)
}

/// Returns the statements that write a row of a table, without the final semicolon of the last one.
pub fn insert(default_schema: &str, schema: &Schema, shape: &TableShape, row: &[Value]) -> String {
    if shape.name == LARGE_OBJECTS {
        return large_object(row, true).join(";\n");
    }
    let insert = Insert::new(default_schema, schema, shape);
    let values = insert.values(row).map(|values| format!(" {values}")).unwrap_or_default();
    format!("{}{values}", insert.head)
}

/// Returns the statements that write a large object.
fn large_object(row: &[Value], with_owners: bool) -> Vec<String> {
    let (Some(oid), Some(data)) = (row.first(), row.get(1)) else { return Vec::new() };
    let (oid, data) = (literal(oid), literal(data));
    let mut statements = vec![format!("SELECT pg_catalog.lo_from_bytea({oid}, {data})")];
    let parts = row.iter().enumerate().filter(|(_, value)| with_owners && !matches!(value, Value::Null));
    statements.extend(parts.filter_map(|(at, value)| large_object_part(&oid, at, value)));
    statements
}

/// Returns the statement that says whose a large object is, or who may use it.
fn large_object_part(oid: &str, column: usize, value: &Value) -> Option<String> {
    match (column, value) {
        (2, Value::Text(owner)) => Some(format!("ALTER LARGE OBJECT {oid} OWNER TO {}", quoted(&String::from_utf8_lossy(owner)))),
        (3, privileges) => {
            let privileges = typed_literal(privileges, "aclitem[]");
            Some(format!("UPDATE pg_catalog.pg_largeobject_metadata SET lomacl = {privileges} WHERE oid = {oid}"))
        }
        _ => None,
    }
}

/// Writes a value as an SQL literal that has exactly this value in a column of its type.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Null | Value::Large { .. } => "NULL".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        // What has no digits, and the zero that has a sign, are no numbers to the parser.
        Value::Real(real) if !real.is_finite() || (*real == 0.0 && real.is_sign_negative()) => in_quotes(value),
        Value::Real(_) => value::text_of(value).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default(),
        Value::Text(_) | Value::Blob(_) => in_quotes(value),
    }
}

/// Writes a value as an SQL expression of this type.
fn typed_literal(value: &Value, sql_type: &str) -> String {
    match value {
        Value::Null | Value::Large { .. } => "NULL".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(integer) if i32::try_from(*integer).is_ok() => integer.to_string(),
        value => format!("{}::{sql_type}", in_quotes(value)),
    }
}

/// Writes the text of a value in quotes. A byte that is no UTF-8, and a carriage return, which not every program leaves alone, stand as their numbers.
fn in_quotes(value: &Value) -> String {
    let text = value::text_of(value).unwrap_or_default();
    let is_plain = |chunk: &std::str::Utf8Chunk<'_>| chunk.invalid().is_empty() && !chunk.valid().contains(['\\', '\r']);
    let mut sql = String::with_capacity(text.len() + 3);
    let is_escaped = !text.utf8_chunks().all(|chunk| is_plain(&chunk));
    sql.push_str(if is_escaped { "E'" } else { "'" });
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' => sql.push_str("''"),
                '\\' => sql.push_str("\\\\"),
                '\r' => sql.push_str("\\r"),
                c => sql.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(sql, "\\x{byte:02x}").expect("writing to a string does not fail");
        }
    }
    sql.push('\'');
    sql
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ColumnShape;

    fn text(text: &str) -> Value {
        Value::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn values_are_written_as_literals() {
        for (value, expected) in [
            (Value::Null, "NULL"),
            (Value::Boolean(true), "true"),
            (Value::Integer(i64::MIN), "-9223372036854775808"),
            (Value::Real(0.1), "0.1"),
            (Value::Real(1e300), "1e300"),
            (Value::Real(-0.0), "'-0.0'"),
            (Value::Real(f64::NAN), "'NaN'"),
            (Value::Real(f64::NEG_INFINITY), "'-Infinity'"),
            (Value::Blob(vec![0, 255]), "E'\\\\x00ff'"),
            (text(""), "''"),
            (text("it's\n:x"), "'it''s\n:x'"),
            (text("C:\\ '\r\n"), "E'C:\\\\ ''\\r\n'"),
            (Value::Text(vec![b'a', 0xff, b'\'']), "E'a\\xff'''"),
        ] {
            assert_eq!(literal(&value), expected);
        }
    }

    #[test]
    fn literals_of_keys_have_their_type() {
        for (value, sql_type, expected) in [
            (Value::Integer(-5), "smallint", "-5"),
            (Value::Integer(1 << 40), "bigint", "'1099511627776'::bigint"),
            (Value::Real(1.5), "real", "'1.5'::real"),
            (Value::Boolean(false), "boolean", "false"),
            (Value::Blob(vec![1]), "bytea", "E'\\\\x01'::bytea"),
            (text("a"), "public.mood", "'a'::public.mood"),
            (Value::Null, "text", "NULL"),
        ] {
            assert_eq!(typed_literal(&value, sql_type), expected);
        }
    }

    fn shape(columns: &[(&str, bool)]) -> TableShape {
        let column = |&(name, generated): &(&str, bool)| ColumnShape {
            name: name.to_owned(),
            declared_type: "integer".to_owned(),
            default: "null".to_owned(),
            hidden: false,
            generated,
        };
        TableShape { name: "a.t".to_owned(), columns: columns.iter().map(column).collect(), identity: vec![0], locator: vec![0] }
    }

    #[test]
    fn rows_are_inserted_without_what_is_computed_and_with_what_would_be_given() {
        let mut schema = Schema::default();
        let row = [Value::Integer(1), Value::Integer(2)];
        let insert = |schema: &Schema, columns: &[(&str, bool)]| insert("public", schema, &shape(columns), &row);
        assert_eq!(insert(&schema, &[("id", false), ("twice", true)]), r#"INSERT INTO "a"."t" ("id") VALUES (1)"#);
        assert_eq!(insert(&schema, &[("twice", true)]), r#"INSERT INTO "a"."t" DEFAULT VALUES"#);
        let mut table = SchemaObject::new(ObjectKind::Table, "a.t", "a.t", None);
        table.facts.insert("identity id".to_owned(), "a".to_owned());
        schema.objects.push(table);
        let expected = r#"INSERT INTO "a"."t" ("id", "x") OVERRIDING SYSTEM VALUE VALUES (1, 2)"#;
        assert_eq!(insert(&schema, &[("id", false), ("x", false)]), expected);
    }

    #[test]
    fn types_of_extensions_are_told_from_others() {
        let mut schema = Schema::default();
        let mut add = |name: &str, base: Option<&str>| {
            let mut object = SchemaObject::new(ObjectKind::Type, name, "", None);
            object.facts.extend(base.map(|base| ("base".to_owned(), base.to_owned())));
            schema.objects.push(object);
        };
        add("mood", None);
        add("a.email", Some("text"));
        add("label", Some("public.citext"));
        for (sql_type, expected) in [
            ("numeric(10,2)", true),
            ("\"char\"", true),
            ("public.mood", true),
            ("public.mood[]", true),
            ("a.email", true),
            ("public.label", false),
            ("public.citext", false),
        ] {
            assert_eq!(is_own_type("public", &schema, sql_type), expected, "{sql_type}");
        }
    }

    #[test]
    fn settings_are_those_of_the_database_in_which_the_script_runs() {
        assert_eq!(
            database_setting("setting work_mem for ann", Some("10%")).as_deref(),
            Some(
                "DO 'BEGIN EXECUTE pg_catalog.format(''ALTER ROLE \"ann\" IN DATABASE %I SET \"work_mem\" TO ''''10%%'''''', \
                 pg_catalog.current_database()); END'"
            )
        );
        assert_eq!(database_setting("sequence s", None), None);
    }
}
