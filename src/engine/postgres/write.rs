//! Changing a database in one transaction: everything that PostgreSQL declares can be declared and undone in one.
//!
//! ## Triggers and foreign keys
//! Who may set `session_replication_role` fires no trigger, no rule and no foreign key action but the triggers and rules that are enabled `ALWAYS` or for
//! replicas, which are disabled for the tables that rows are written to. Anybody else, an ordinary owner, disables the triggers and rules of these
//! tables, and drops their foreign keys and those that refer to them. At the end everything is put back as the target has it; a foreign key that is made again is
//! checked by the server.
//!
//! ## Sequences
//! `setval` is not undone with its transaction. *Must*: a sequence is given a new place first (`ALTER SEQUENCE ... RESTART`, which is undone), and
//! `setval` then writes there.
//!
//! ## Removal
//! Objects are dropped without `CASCADE`, in rounds: what something else still hangs on waits for the next round. So nothing goes that the plan does not
//! name.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::catalog::Relation;
use super::link::{self, Link};
use super::name::{literal, quoted};
use super::own::Own;
use super::read::{LARGE_OBJECTS, State, Stated};
use super::statement::KeyPart;
use super::{Options, statement, value};
use crate::engine::{Changes, EngineError, PatchTarget, RowSource, WriteTransaction};
use crate::rows::TableShape;
use crate::schema::{ObjectKind, Schema, SchemaObject, SettingScope, Settings};
use crate::value::Value;

/// How often a server that broke a commit off is asked what came of it, and the pause between.
const OUTCOME_ATTEMPTS: u32 = 200;
const OUTCOME_PAUSE: Duration = Duration::from_millis(100);

/// A transaction that writes.
pub(super) struct Writing<'e> {
    state: State<'e>,
    /// Whether the session may pass over triggers and foreign keys.
    is_replica: bool,
    /// Tables that were made ready for rows.
    ready: HashSet<String>,
    /// Statements that enable triggers and rules again as they were, by kind, table and name.
    enable: BTreeMap<(String, String, String), String>,
    /// Statements that take away what an object has too much, to be run with the removals.
    removals: Vec<String>,
    /// What was made in this transaction.
    made: HashSet<(ObjectKind, String)>,
    own: Own,
    is_over: bool,
}

impl<'e> Writing<'e> {
    /// Begins, and keeps every other writer out of all tables.
    ///
    /// # Errors
    /// [`EngineError::Locked`], which names who stands in the way, and the server's.
    pub fn begin(state: State<'e>) -> Result<Self, EngineError> {
        state.link.run("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE", "beginning a transaction")?;
        let mut writing = Self {
            state,
            is_replica: false,
            ready: HashSet::new(),
            enable: BTreeMap::new(),
            removals: Vec::new(),
            made: HashSet::new(),
            own: Own::default(),
            is_over: false,
        };
        // What is told to be done is done, whatever the server's configuration lets others lose in a crash.
        writing.run(
            "SELECT pg_catalog.set_config('synchronous_commit', 'on', true) WHERE pg_catalog.current_setting('synchronous_commit') = 'off'",
            "beginning a transaction",
        )?;
        writing.lock()?;
        writing.is_replica = writing.may("SET LOCAL session_replication_role = replica")?;
        // Once more, since what was known before the locks may be old.
        writing.state.forget_catalog();
        Ok(writing)
    }

    fn lock(&mut self) -> Result<(), EngineError> {
        let tables: Vec<String> = {
            let catalog = self.state.catalog()?;
            let mut tables: Vec<&Relation> = catalog.relations.values().filter(|relation| matches!(relation.kind, 'r' | 'p')).collect();
            tables.sort_by_key(|relation| relation.oid);
            tables
                .iter()
                .filter(|r| !catalog.members.contains(&(super::catalog::PG_CLASS, r.oid)))
                .map(|r| format!("ONLY {}", r.sql()))
                .collect()
        };
        for some in tables.chunks(100) {
            self.run(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", some.join(", ")), "locking the tables")?;
        }
        Ok(())
    }

    /// Tries a statement; tells whether it went well.
    fn may(&mut self, sql: &str) -> Result<bool, EngineError> {
        let link = self.state.link;
        link.run("SAVEPOINT dbelay_try", "setting a savepoint")?;
        match link.run(sql, "trying") {
            Ok(()) => {
                link.run("RELEASE SAVEPOINT dbelay_try", "setting a savepoint")?;
                Ok(true)
            }
            Err(EngineError::Statement { .. }) => {
                link.run("ROLLBACK TO SAVEPOINT dbelay_try; RELEASE SAVEPOINT dbelay_try", "setting a savepoint")?;
                Ok(false)
            }
            Err(error) => Err(self.told(error)),
        }
    }

    fn run(&self, sql: &str, doing: &str) -> Result<(), EngineError> {
        self.state.link.run(sql, doing).map_err(|error| self.told(error))
    }

    /// Adds to a lock that was not had who holds it.
    fn told(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::Locked { waited_ms, .. } => EngineError::Locked { who: super::sessions(self.state.options), waited_ms },
            other => other,
        }
    }

    /// Makes a table ready for rows: nothing fires, and nothing is checked that may not hold yet.
    fn prepare(&mut self, table: &str) -> Result<(), EngineError> {
        if table == LARGE_OBJECTS || !self.ready.insert(table.to_owned()) {
            return Ok(());
        }
        let mut statements = Vec::new();
        {
            let catalog = self.state.catalog()?;
            let Some(relation) = catalog.relation(table) else { return Ok(()) };
            let sql = relation.sql();
            // Asked for at the server, since those that a partition has from its parent are no objects of their own.
            let triggers = self.state.link.rows(
                &format!(
                    "SELECT 'TRIGGER', tgname, tgenabled FROM pg_catalog.pg_trigger WHERE tgrelid = {0} AND NOT tgisinternal \
                     UNION ALL SELECT 'RULE', rulename, ev_enabled FROM pg_catalog.pg_rewrite WHERE ev_class = {0} AND rulename <> '_RETURN'",
                    relation.oid
                ),
                "looking for triggers and rules",
            )?;
            for trigger in &triggers {
                let [kind, name, state] = [0, 1, 2].map(|at| trigger.get(at).unwrap_or_default());
                let fires = if self.is_replica { matches!(state, "A" | "R") } else { state != "D" };
                if fires {
                    let word = match state {
                        "A" => "ENABLE ALWAYS",
                        "R" => "ENABLE REPLICA",
                        _ => "ENABLE",
                    };
                    statements.push(format!("ALTER TABLE ONLY {sql} DISABLE {kind} {}", quoted(name)));
                    let enable = format!("ALTER TABLE ONLY {sql} {word} {kind} {}", quoted(name));
                    self.enable.insert((kind.to_owned(), table.to_owned(), name.to_owned()), enable);
                }
            }
            if !self.is_replica {
                for key in catalog.objects.iter().filter(|object| object.kind == ObjectKind::ForeignKey) {
                    let refers = catalog
                        .tables
                        .iter()
                        .find(|t| t.name == key.table)
                        .is_some_and(|t| t.foreign_keys.iter().any(|k| k.parent == table));
                    if key.table == table || refers {
                        statements.push(key.drop.clone());
                    }
                }
            }
        }
        if !statements.is_empty() {
            self.run(&statements.join("; "), &format!("taking triggers and foreign keys of table `{table}` out of the way"))?;
            self.state.forget_catalog();
        }
        Ok(())
    }

    /// Runs removals in rounds until all are done.
    fn remove(&mut self, statements: Vec<String>) -> Result<(), EngineError> {
        let mut left = statements;
        while !left.is_empty() {
            let mut waiting = Vec::new();
            let mut last = None;
            let before = left.len();
            let link = self.state.link;
            for statement in left {
                link.run("SAVEPOINT dbelay_drop", "setting a savepoint")?;
                match link.run(&statement, &format!("`{statement}`")) {
                    Ok(()) => link.run("RELEASE SAVEPOINT dbelay_drop", "setting a savepoint")?,
                    Err(error @ EngineError::Statement { .. }) => {
                        link.run("ROLLBACK TO SAVEPOINT dbelay_drop; RELEASE SAVEPOINT dbelay_drop", "setting a savepoint")?;
                        last.get_or_insert(error);
                        waiting.push(statement);
                    }
                    Err(error) => return Err(self.told(error)),
                }
            }
            match last {
                Some(error) if waiting.len() == before => return Err(error),
                _ => left = waiting,
            }
        }
        self.state.forget_catalog();
        Ok(())
    }

    /// Runs the statements that make an object.
    fn make(&mut self, object: &SchemaObject) -> Result<(), EngineError> {
        let Some(sql) = statement::making(object) else { return Ok(()) };
        self.run(&sql, &format!("making {} `{}`", object.kind.word(), object.name))?;
        self.made.insert((object.kind, object.name.clone()));
        Ok(())
    }

    fn relation<T>(&self, shape: &TableShape, read: impl FnOnce(&Relation) -> T) -> Result<T, EngineError> {
        let catalog = self.state.catalog()?;
        let relation = catalog.relation(&shape.name);
        relation.map(read).ok_or_else(|| EngineError::Unsupported(format!("there is no table `{}` to write to", shape.name)))
    }

    /// Returns what locates a row.
    fn locator(&self, shape: &TableShape) -> Result<Vec<KeyPart>, EngineError> {
        self.relation(shape, |relation| relation.locator(shape))?
            .ok_or_else(|| EngineError::Unsupported(format!("the rows of table `{}` cannot be told apart", shape.name)))
    }

    /// Runs a statement over rows of cells, given as one list of texts a column; returns these.
    fn run_rows(&self, sql: &str, width: usize, rows: RowSource<'_>, doing: &str) -> Result<Vec<Vec<Option<String>>>, EngineError> {
        let mut lists: Vec<Vec<Option<String>>> = vec![Vec::new(); width];
        let mut count = 0;
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            for (list, cell) in lists.iter_mut().zip(&row) {
                let text = value::text_of(cell).map(String::from_utf8).transpose();
                list.push(text.map_err(|_| EngineError::Unsupported("a key that is no UTF-8 cannot be looked for".to_owned()))?);
            }
            count += 1;
        }
        if count == 0 {
            return Ok(lists);
        }
        // One row is found by its key, whatever the server believes of the table.
        self.run("SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off", doing)?;
        let done = self.state.link.run_lists(sql, &lists, doing).map_err(|error| self.told(error))?;
        self.run("SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on", doing)?;
        if done == count {
            Ok(lists)
        } else {
            Err(EngineError::Statement { doing: doing.to_owned(), source: format!("{done} of {count} rows were found").into() })
        }
    }

    /// Writes large objects, which are no table.
    fn write_large_objects(&mut self, rows: RowSource<'_>, doing: &str) -> Result<u64, EngineError> {
        let mut count = 0;
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            let text = |at: usize| row.get(at).and_then(value::text_of).and_then(|text| String::from_utf8(text).ok());
            let (Some(oid), Some(data)) = (text(0), text(1)) else { continue };
            let oid = literal(&oid);
            self.run(
                &format!(
                    "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = {oid}::oid; \
                     SELECT pg_catalog.lo_from_bytea({oid}::oid, {}::bytea)",
                    literal(&data)
                ),
                doing,
            )?;
            if let Some(owner) = text(2) {
                self.may(&format!("ALTER LARGE OBJECT {} OWNER TO {}", oid.trim_matches('\''), quoted(&owner)))?;
            }
            if let Some(privileges) = text(3) {
                let sql = format!(
                    "UPDATE pg_catalog.pg_largeobject_metadata SET lomacl = {}::aclitem[] WHERE oid = {oid}::oid",
                    literal(&privileges)
                );
                self.may(&sql)?;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Brings an object that stays to what the target says of it, as far as that needs no new one: defaults, NOT NULL, checks, and the
    /// parameters of a sequence.
    fn reconcile(&mut self, found: &BTreeMap<String, String>, relation_sql: &str, target: &SchemaObject) -> Result<(), EngineError> {
        let statements = statement::additions(relation_sql, found, target);
        let any = !statements.is_empty();
        for statement in statements {
            self.run(&statement, &format!("changing {} `{}`", target.kind.word(), target.name))?;
        }
        if any {
            // What a table is given, its partitions have too.
            self.state.forget_catalog();
        }
        Ok(())
    }
}

/// Returns the role that a statement gives something to, where it is one about roles.
fn roles_of(object: &SchemaObject) -> bool {
    matches!(object.kind, ObjectKind::Owner | ObjectKind::Privileges)
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.state.link.run("ROLLBACK", "ending a transaction");
        }
    }
}

/// Returns how many rows lists of cells are.
fn count_of(lists: &[Vec<Option<String>>]) -> u64 {
    lists.first().map_or(0, Vec::len) as u64
}

impl PatchTarget for Writing<'_> {
    fn alter_objects(&mut self, changes: &[(SchemaObject, SchemaObject)]) -> Result<(), EngineError> {
        let mut removals = Vec::new();
        {
            let catalog = self.state.catalog()?;
            for (live, target) in changes.iter().filter(|(live, _)| live.kind == ObjectKind::Table) {
                let Some(relation) = catalog.relation(&live.name) else { continue };
                removals.extend(statement::removals(&relation.sql(), live, target));
            }
        }
        self.removals.extend(removals);
        Ok(())
    }

    fn drop_objects(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        let mut statements = std::mem::take(&mut self.removals);
        {
            let catalog = self.state.catalog()?;
            for object in objects.iter().rev() {
                match catalog.object(object.kind, &object.name) {
                    Some(known) if !known.drop.is_empty() => statements.push(known.drop.clone()),
                    Some(_) => {}
                    // What the catalogue does not list goes with what it needs, or not at all, which the proof would not see.
                    None if object.needs.iter().any(|(kind, name)| objects.iter().any(|o| o.kind == *kind && o.name == *name)) => {}
                    None => {
                        let what = format!("{} `{}` cannot be taken away alone", object.kind.word(), object.name);
                        return Err(EngineError::Unsupported(what));
                    }
                }
            }
        }
        self.remove(statements)
    }

    fn create_tables(&mut self, objects: &[SchemaObject]) -> Result<(), EngineError> {
        for object in objects {
            self.make(object)?;
        }
        self.state.forget_catalog();
        Ok(())
    }

    fn delete_rows(&mut self, shape: &TableShape, locators: RowSource<'_>) -> Result<u64, EngineError> {
        let doing = format!("deleting rows of table `{}`", shape.name);
        if shape.name == LARGE_OBJECTS {
            let sql = "SELECT pg_catalog.lo_unlink(v.a::oid) FROM pg_catalog.unnest($1::text[]) AS v(a)";
            return self.run_rows(sql, 1, locators, &doing).map(|lists| count_of(&lists));
        }
        self.prepare(&shape.name)?;
        let locator = self.locator(shape)?;
        let table = self.relation(shape, Relation::sql)?;
        let (from, on) = statement::joined(&locator, &[], &[]);
        let lists = self.run_rows(&format!("DELETE FROM ONLY {table} t USING {from} WHERE {on}"), locator.len(), locators, &doing)?;
        self.own.table(&shape.name).delete(&lists);
        Ok(count_of(&lists))
    }

    fn update_rows(&mut self, shape: &TableShape, columns: &[usize], rows: RowSource<'_>) -> Result<u64, EngineError> {
        let doing = format!("updating rows of table `{}`", shape.name);
        if shape.name == LARGE_OBJECTS {
            return Err(EngineError::Unsupported("large objects are written whole".to_owned()));
        }
        self.prepare(&shape.name)?;
        let locator = self.locator(shape)?;
        let table = self.relation(shape, Relation::sql)?;
        // What the server computes follows from the rest.
        let written: Vec<(usize, String, String)> = columns
            .iter()
            .enumerate()
            .filter_map(|(at, &column)| {
                shape.columns.get(column).filter(|column| !column.generated).map(|c| (at, c.name.clone(), c.declared_type.clone()))
            })
            .collect();
        let values: Vec<(usize, String)> = written.iter().map(|(at, _, sql_type)| (locator.len() + at, sql_type.clone())).collect();
        let (from, on) = statement::joined(&locator, &values, &[]);
        let set: Vec<String> = written.iter().map(|(at, name, _)| format!("{} = v.c{}", quoted(name), locator.len() + at)).collect();
        if set.is_empty() {
            return Ok(rows.count() as u64);
        }
        let width = locator.len() + columns.len();
        let lists = self.run_rows(&format!("UPDATE ONLY {table} t SET {} FROM {from} WHERE {on}", set.join(", ")), width, rows, &doing)?;
        self.own.table(&shape.name).update(lists.get(..locator.len()).unwrap_or_default());
        Ok(count_of(&lists))
    }

    fn insert_rows(&mut self, shape: &TableShape, rows: RowSource<'_>) -> Result<u64, EngineError> {
        let doing = format!("inserting rows into table `{}`", shape.name);
        if shape.name == LARGE_OBJECTS {
            return self.write_large_objects(rows, &doing);
        }
        self.prepare(&shape.name)?;
        let table = self.relation(shape, Relation::sql)?;
        let columns: Vec<usize> = (0..shape.columns.len()).filter(|&at| !shape.columns[at].generated).collect();
        let mut bytes = Vec::new();
        let mut count = 0;
        let mut keys: Vec<Vec<Option<String>>> = vec![Vec::new(); shape.locator.len()];
        for row in rows {
            let row = row.map_err(EngineError::Input)?;
            for (list, &column) in keys.iter_mut().zip(&shape.locator) {
                list.push(row.get(column).and_then(value::text_of).and_then(|text| String::from_utf8(text).ok()));
            }
            for (place, &column) in columns.iter().enumerate() {
                if place > 0 {
                    bytes.push(b'\t');
                }
                value::write(&mut bytes, row.get(column).unwrap_or(&Value::Null));
            }
            bytes.push(b'\n');
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let names: Vec<String> = columns.iter().map(|&at| quoted(&shape.columns[at].name)).collect();
        if names.is_empty() {
            self.own.table(&shape.name).lose();
            self.run(&vec![format!("INSERT INTO {table} DEFAULT VALUES"); count].join("; "), &doing)?;
            return Ok(count as u64);
        }
        let sql = format!("COPY {table} ({}) FROM STDIN", names.join(", "));
        let done = self.state.link.copy_in(&sql, &doing, Bytes::from(bytes)).map_err(|error| self.told(error))?;
        self.own.table(&shape.name).insert(&keys);
        Ok(done)
    }

    fn clear_table(&mut self, shape: &TableShape) -> Result<(), EngineError> {
        let doing = format!("clearing table `{}`", shape.name);
        if shape.name == LARGE_OBJECTS {
            return self.run("SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata", &doing);
        }
        self.prepare(&shape.name)?;
        let table = self.relation(shape, Relation::sql)?;
        self.own.table(&shape.name).lose();
        self.run(&format!("DELETE FROM ONLY {table}"), &doing)
    }

    fn refresh(&mut self, name: &str) -> Result<(), EngineError> {
        let sql = self.state.catalog()?.relations.values().find(|r| r.shown == name && r.kind == 'm').map(Relation::sql);
        match sql {
            Some(sql) => {
                self.run(&format!("REFRESH MATERIALIZED VIEW {sql}"), &format!("refreshing materialized view `{name}`"))?;
                self.state.forget_catalog();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn finish_schema(&mut self, target: &Schema) -> Result<(), EngineError> {
        self.state.forget_catalog();
        for object in &target.objects {
            enum Step {
                Make,
                Reconcile(BTreeMap<String, String>, String),
                Nothing,
            }
            if object.kind == ObjectKind::Default || object.kind.is_attribute() {
                continue;
            }
            let step = {
                let catalog = self.state.catalog()?;
                match catalog.object(object.kind, &object.name) {
                    Some(known) if object.facts.is_empty() || known.facts == object.facts => Step::Nothing,
                    Some(known) if matches!(object.kind, ObjectKind::Table | ObjectKind::Sequence) => {
                        let relation =
                            catalog.relations.values().find(|relation| (super::catalog::PG_CLASS, relation.oid) == known.address);
                        relation.map_or(Step::Nothing, |relation| Step::Reconcile(known.facts.clone(), relation.sql()))
                    }
                    // A function that stays is replaced; what else differs here was said to go, and is gone.
                    Some(_) if object.kind == ObjectKind::Function => Step::Make,
                    Some(_) => Step::Nothing,
                    // What the catalogue does not list comes with what it needs.
                    None if object.facts.is_empty() && !object.needs.iter().any(|need| self.made.contains(need)) => Step::Nothing,
                    None => Step::Make,
                }
            };
            match step {
                Step::Make => {
                    self.make(object)?;
                }
                Step::Reconcile(facts, sql) => self.reconcile(&facts, &sql, object)?,
                Step::Nothing => {}
            }
        }
        self.state.forget_catalog();
        self.finish_attributes(target)
    }

    fn finish_rows(&mut self, target: &Schema) -> Result<(), EngineError> {
        let mut statements: Vec<String> = Vec::new();
        for ((kind, table, name), statement) in &self.enable {
            let Some(relation) = self.state.catalog()?.relation(table).map(|relation| relation.oid) else { continue };
            let sql = if kind == "RULE" {
                format!("SELECT 1 FROM pg_catalog.pg_rewrite WHERE ev_class = {relation} AND rulename = {}", literal(name))
            } else {
                format!("SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = {relation} AND tgname = {}", literal(name))
            };
            if self.state.link.cell(&sql, "looking for triggers and rules")?.is_some() {
                statements.push(statement.clone());
            }
        }
        self.enable.clear();
        for statement in &statements {
            self.run(statement, "enabling triggers and rules again")?;
        }
        self.state.forget_catalog();
        let missing: Vec<SchemaObject> = {
            let catalog = self.state.catalog()?;
            let keys = target.objects.iter().filter(|object| object.kind == ObjectKind::ForeignKey);
            keys.filter(|object| catalog.object(object.kind, &object.name).is_none()).cloned().collect()
        };
        for key in &missing {
            self.make(key)?;
        }
        if !missing.is_empty() {
            self.state.forget_catalog();
            // A comment went with its constraint.
            self.finish_attributes(target)?;
        }
        Ok(())
    }

    fn write_settings(&mut self, settings: &Settings) -> Result<(), EngineError> {
        let found = self.state.settings()?;
        let database = self.state.options.connection.database.clone();
        let exact = |settings: &Settings| {
            let exact = settings.iter().filter(|(_, setting)| setting.scope == SettingScope::Exact);
            exact.map(|(name, setting)| (name.clone(), setting.value.clone())).collect::<BTreeMap<_, _>>()
        };
        let (found, wanted) = (exact(&found), exact(settings));
        for (name, value) in wanted.iter().filter(|(name, value)| found.get(*name) != Some(value)) {
            let doing = format!("writing `{name}`");
            if let Some(sequence) = name.strip_prefix("sequence ") {
                let relation = self.state.catalog()?.relations.values().find(|r| r.kind == 'S' && r.shown == sequence).cloned();
                let Some((relation, (last, called))) = relation.zip(value.split_once(' ')) else { continue };
                let called = called == "called";
                self.run(
                    &format!(
                        "ALTER SEQUENCE {0} RESTART WITH {last}; SELECT pg_catalog.setval({1}::pg_catalog.regclass, {last}, {called})",
                        relation.sql(),
                        literal(&relation.sql())
                    ),
                    &doing,
                )?;
            } else if let Some((scope, variable)) = statement::setting_of(name, &quoted(&database)) {
                self.run(&format!("{scope} SET {} TO {}", quoted(&variable), statement::setting_value(&variable, value)), &doing)?;
            }
        }
        for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
            if let Some((scope, variable)) = statement::setting_of(name, &quoted(&database)) {
                self.run(&format!("{scope} RESET {}", quoted(&variable)), &format!("resetting `{name}`"))?;
            }
        }
        Ok(())
    }
}

impl Writing<'_> {
    /// Makes owners, privileges and comments the target's. What is about a role that is not here is left out.
    fn finish_attributes(&mut self, target: &Schema) -> Result<(), EngineError> {
        // Who gives an object away takes privileges along.
        self.finish_attributes_of(target, &|kind| kind == ObjectKind::Owner)?;
        self.finish_attributes_of(target, &|kind| kind != ObjectKind::Owner)
    }

    fn finish_attributes_of(&mut self, target: &Schema, is_meant: &dyn Fn(ObjectKind) -> bool) -> Result<(), EngineError> {
        let with_owners = self.state.options.with_owners;
        let mut statements = Vec::new();
        {
            let catalog = self.state.catalog()?;
            for object in target.objects.iter().filter(|object| object.kind.is_attribute() && is_meant(object.kind)) {
                let is_wanted = with_owners || !roles_of(object);
                let known = catalog.object(object.kind, &object.name);
                let same = known.is_some_and(|known| known.facts == object.facts);
                if let Some(sql) = object.sql.clone().filter(|_| is_wanted && !same) {
                    // What others were granted since goes first.
                    if let Some(known) = known.filter(|known| known.kind == ObjectKind::Privileges) {
                        statements.push((object.kind, object.name.clone(), known.drop.clone()));
                    }
                    statements.push((object.kind, object.name.clone(), sql));
                }
            }
            for known in catalog.objects.iter().filter(|known| known.kind.is_attribute() && is_meant(known.kind) && !known.drop.is_empty())
            {
                let is_wanted = with_owners || known.kind == ObjectKind::Comment;
                if is_wanted && target.object(known.kind, &known.name).is_none() {
                    statements.push((known.kind, known.name.clone(), known.drop.clone()));
                }
            }
        }
        let any = !statements.is_empty();
        for (kind, name, sql) in statements {
            let doing = format!("writing {} of {name}", kind.word());
            if kind == ObjectKind::Comment {
                self.run(&sql, &doing)?;
            } else if !self.may(&sql)? {
                let missing = self.state.link.cell(&missing_roles(&sql), "looking for roles")?;
                if missing.is_none() {
                    // It is not a role that is missing: the server's own words tell.
                    self.run(&sql, &doing)?;
                }
            }
        }
        if any {
            self.state.forget_catalog();
        }
        Ok(())
    }
}

/// Asks for a role of a statement that is not there.
fn missing_roles(sql: &str) -> String {
    let mut roles = Vec::new();
    for statement in sql.split(";\n") {
        for word in [" OWNER TO ", " TO ", " FROM "] {
            if let Some((_, rest)) = statement.rsplit_once(word) {
                let role = rest.trim_end_matches(" WITH GRANT OPTION");
                if role != "PUBLIC" {
                    roles.push(if role.starts_with('"') { role.trim_matches('"').replace("\"\"", "\"") } else { role.to_owned() });
                }
            }
        }
    }
    let list: Vec<String> = roles.iter().map(|role| literal(role)).collect();
    format!(
        "SELECT r FROM pg_catalog.unnest(ARRAY[{}]::text[]) r WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles p WHERE p.rolname = r) LIMIT 1",
        list.join(", ")
    )
}

impl Stated for Writing<'_> {
    fn with<T>(&mut self, run: impl FnOnce(&mut State<'_>) -> T) -> T {
        run(&mut self.state)
    }

    fn own_changes(&mut self, mark: &str, shape: &TableShape, rows_max: u64) -> Result<Option<Changes>, EngineError> {
        self.own.changes(&self.state, mark, shape, rows_max)
    }
}

impl WriteTransaction for Writing<'_> {
    fn has_statements(&self) -> bool {
        // `pg_dump` cannot see what this transaction changed, and only it writes them all.
        false
    }

    fn starts_as(&mut self, mark: &str) -> Result<(), EngineError> {
        self.own.begin(&self.state, mark)
    }

    fn commit(mut self: Box<Self>) -> Result<(), EngineError> {
        if let Some(table) = self.own.stray(&self.state)? {
            return Err(EngineError::Unsupported(format!(
                "table `{table}` was changed too while others were put back, by an event trigger, or by a trigger or rule that cannot be kept silent; \
                 disable it and try again"
            )));
        }
        let link = self.state.link;
        // A transaction in which something failed refuses this; a COMMIT would end it without a word.
        let number = link.cell("SELECT pg_catalog.pg_current_xact_id_if_assigned()::text", "committing")?;
        let life = link.cell(LIFE, "committing")?;
        self.is_over = true;
        let Err(error) = link.run("COMMIT", "committing") else { return Ok(()) };
        match (link.run("ROLLBACK", "ending a transaction"), number) {
            // There is no connection any more that could say what came of it.
            (Err(_), Some(number)) => outcome(self.state.options, &number, life.as_deref(), error),
            _ => Err(self.told(error)),
        }
    }
}

/// Asks for what changes when the server begins anew after a crash: numbers of transactions that were lost are then given again.
const LIFE: &str =
    "SELECT pg_catalog.concat_ws(' ', pg_catalog.pg_postmaster_start_time(), (SELECT stats_reset FROM pg_catalog.pg_stat_bgwriter))";

/// Finds out in another session whether the transaction of this number was committed before its own was lost with this error.
fn outcome(options: &Options, number: &str, life: Option<&str>, error: EngineError) -> Result<(), EngineError> {
    const DOING: &str = "asking whether a transaction was committed";
    for _ in 0..OUTCOME_ATTEMPTS {
        let asked = Link::open(options).and_then(|link| {
            let now = link.cell(LIFE, DOING)?;
            let status = link.cell(&format!("SELECT pg_catalog.pg_xact_status({}::pg_catalog.xid8)", literal(number)), DOING);
            Ok((status, now))
        });
        match asked {
            Ok((Ok(Some(status)), now)) if status == "committed" => {
                return if now.as_deref() == life { Ok(()) } else { Err(EngineError::Uncertain) };
            }
            Ok((Ok(Some(status)), _)) if status == "aborted" => return Err(error),
            // The number was lost in a crash, and is to be given again.
            Ok((Err(refused), _)) if link::is_about_a_value(&refused) => return Err(error),
            Ok((Ok(None), _)) => break,
            // It is not over yet, or the server is not there yet.
            Ok(_) | Err(_) => std::thread::sleep(OUTCOME_PAUSE),
        }
    }
    Err(EngineError::Uncertain)
}
