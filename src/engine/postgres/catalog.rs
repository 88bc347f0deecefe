//! What the server's catalogue says: every object that belongs to the database's users, with facts that say what it is.
//!
//! It can be read in any transaction, in one that has changed the schema too, which `pg_dump` cannot; so the proof of a rollback rests on the facts.
//! *Must*: two objects that differ in anything that `pg_dump` writes of them differ in their facts, but for the kinds in [`OTHERS`], of which
//! only the text is compared. Facts never hold what two equal databases do not share: internal ids, positions of columns that are gone.
//!
//! Owners, privileges and comments are objects of their own: they are written over without touching what they are about.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::link::{Link, TextRow};
use super::name::{literal, qualified, quoted, shown, shown_identity};
use super::statement::KeyPart;
use crate::engine::EngineError;
use crate::rows::TableShape;
use crate::schema::{Column, ForeignKey, Index, ObjectKind, Setting, SettingScope, Settings, Table, TableKind};

/// The catalogues of the kinds of objects that are compared by their text alone.
const OTHERS: &str = "'pg_cast','pg_conversion','pg_collation','pg_operator','pg_opclass','pg_opfamily','pg_ts_dict','pg_ts_parser',\
     'pg_ts_config','pg_ts_template','pg_language','pg_foreign_data_wrapper','pg_foreign_server','pg_user_mapping','pg_transform','pg_am',\
     'pg_subscription'";

/// Schemas that are the server's own.
const USER_SCHEMA: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// The address of an object: its catalogue, and its id in it.
pub type Address = (u32, u32);

/// `pg_class`, as a catalogue's id. These ids are the same in every version.
pub const PG_CLASS: u32 = 1259;
/// `pg_attrdef`.
pub const PG_ATTRDEF: u32 = 2604;
const PG_TYPE: u32 = 1247;
const PG_PROC: u32 = 1255;
const PG_NAMESPACE: u32 = 2615;
const PG_CONSTRAINT: u32 = 2606;
const PG_TRIGGER: u32 = 2620;
const PG_REWRITE: u32 = 2618;
const PG_POLICY: u32 = 3256;
const PG_EXTENSION: u32 = 3079;
const PG_PUBLICATION: u32 = 6104;
const PG_PUBLICATION_REL: u32 = 6106;
const PG_PUBLICATION_NAMESPACE: u32 = 6237;
const PG_EVENT_TRIGGER: u32 = 3466;
const PG_STATISTIC_EXT: u32 = 3381;

/// An object that the catalogue knows.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where it stands in the catalogue; for what says something about another object, that one's.
    pub address: Address,
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name as it is shown.
    pub name: String,
    /// The table that it belongs to, as it is shown.
    pub table: String,
    /// What it is, part by part.
    pub facts: BTreeMap<String, String>,
    /// A statement that makes it, where the catalogue can tell.
    pub sql: Option<String>,
    /// A statement that removes it.
    pub drop: String,
}

/// A relation: something with columns, or a sequence or an index.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its id.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its name as it is shown.
    pub shown: String,
    /// The server's letter for its kind.
    pub kind: char,
    /// Its columns, in order.
    pub columns: Vec<Attribute>,
    /// What addresses a row: indexes into `columns`, each with the operator that tells equality, written as SQL.
    pub key: Vec<(usize, String)>,
    /// Whether a materialized view holds rows.
    pub is_populated: bool,
    /// Whether its rows are kept by another method than the server's usual one.
    pub is_foreign_heap: bool,
}

impl Relation {
    /// Returns its name as SQL.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// Returns what locates a row of it; none where nothing does.
    pub fn locator(&self, shape: &TableShape) -> Option<Vec<KeyPart>> {
        let part = |&at: &usize| {
            let name = shape.columns.get(at)?.name.clone();
            let attribute = self.columns.iter().position(|attribute| attribute.name == name)?;
            let operator = self.key.iter().find(|(column, _)| *column == attribute).map(|(_, operator)| operator.clone());
            let sql_type = self.columns.get(attribute)?.sql_type.clone();
            Some((name, sql_type, operator.unwrap_or_else(|| "OPERATOR(pg_catalog.=)".to_owned())))
        };
        shape.locator.iter().map(part).collect()
    }

    /// Tells whether it has rows of its own that are read.
    pub fn has_rows(&self) -> bool {
        matches!(self.kind, 'r') || self.kind == 'm' && self.is_populated
    }
}

/// A column.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// Its number in the catalogue.
    pub number: i32,
    /// Its name.
    pub name: String,
    /// Its type with its modifiers, as SQL.
    pub sql_type: String,
    /// The type's name in the catalogue, that of the base type for a domain.
    pub base: String,
    /// Whether the text of its values says nothing but what its rows hold and the type declares: not the name of something else, which may get
    /// another name, and not a row of a table, which may get another column.
    pub is_self_contained: bool,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Its default, or the expression that computes it.
    pub default: Option<String>,
    /// How it is computed: `s` stored, `v` when it is read, or not at all.
    pub generated: Option<char>,
    /// Whether it numbers rows by itself: `a` always, `d` by default, or not.
    pub identity: Option<char>,
}

/// What a database declares.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Every object of the database's users.
    pub objects: Vec<Known>,
    /// Every relation of theirs, by id.
    pub relations: HashMap<u32, Relation>,
    /// Tables in neutral terms, in the order of their ids.
    pub tables: Vec<Table>,
    /// Indexes in neutral terms.
    pub indexes: Vec<Index>,
    /// The kinds of objects that are told apart by their text alone: type and identity in the server's words.
    pub others: HashMap<Address, (String, String)>,
    /// What belongs to what, by address, where a thing is part of another in our terms.
    pub part_of: HashMap<Address, Address>,
    /// The addresses that belong to extensions.
    pub members: HashSet<Address>,
    /// Of each default its table's id and its column.
    pub defaults: HashMap<u32, (u32, String)>,
    /// Which object of the list is meant by an address.
    pub places: HashMap<Address, usize>,
}

impl Catalog {
    /// Finds a relation by its name as it is shown.
    pub fn relation(&self, shown: &str) -> Option<&Relation> {
        self.relations.values().find(|relation| relation.shown == shown && matches!(relation.kind, 'r' | 'm' | 'p' | 'f'))
    }

    /// Finds an object.
    pub fn object(&self, kind: ObjectKind, name: &str) -> Option<&Known> {
        self.objects.iter().find(|object| object.kind == kind && object.name == name)
    }
}

fn text(row: &TextRow, at: usize) -> String {
    row.get(at).unwrap_or_default().to_owned()
}

fn number<T: std::str::FromStr + Default>(row: &TextRow, at: usize) -> T {
    row.get(at).and_then(|cell| cell.parse().ok()).unwrap_or_default()
}

fn letter(row: &TextRow, at: usize) -> Option<char> {
    row.get(at).and_then(|cell| cell.chars().next())
}

/// Reads the catalogue.
///
/// # Errors
/// The server's.
pub fn read(link: &Link, version: u32, default_schema: &str) -> Result<Catalog, EngineError> {
    let mut reader =
        Reader { link, version, default_schema, catalog: Catalog::default(), primary: HashMap::new(), foreign: HashMap::new() };
    reader.members()?;
    reader.namespaces()?;
    reader.extensions()?;
    reader.relations()?;
    reader.columns()?;
    reader.constraints()?;
    reader.indexes()?;
    reader.sequences()?;
    reader.views()?;
    reader.inheritance()?;
    reader.types()?;
    reader.functions()?;
    reader.triggers()?;
    reader.policies()?;
    reader.rest()?;
    reader.others()?;
    reader.owners()?;
    reader.privileges()?;
    reader.comments()?;
    reader.neutral();
    Ok(reader.catalog)
}

struct Reader<'a> {
    link: &'a Link,
    version: u32,
    default_schema: &'a str,
    catalog: Catalog,
    primary: HashMap<u32, Vec<String>>,
    foreign: HashMap<u32, Vec<ForeignKey>>,
}

const READING: &str = "reading the catalogue";

type Facts = BTreeMap<String, String>;

/// A key of a table, after its rank among others and its width: columns with the operators that compare them.
type RankedKey = (u8, usize, Vec<(usize, String)>);

fn fact(facts: &mut Facts, name: impl Into<String>, value: impl Into<String>) {
    facts.insert(name.into(), value.into());
}

impl Reader<'_> {
    fn rows(&self, sql: &str) -> Result<Vec<TextRow>, EngineError> {
        self.link.rows(sql, READING)
    }

    fn shown(&self, schema: &str, name: &str) -> String {
        shown(self.default_schema, schema, name)
    }

    fn identity(&self, identity: &str) -> String {
        shown_identity(self.default_schema, identity)
    }

    fn is_member(&self, address: Address) -> bool {
        self.catalog.members.contains(&address)
    }

    /// Returns the relation of an id, if it is a user's and no extension's.
    fn relation(&self, oid: u32) -> Option<&Relation> {
        self.catalog.relations.get(&oid).filter(|_| !self.is_member((PG_CLASS, oid)))
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the object, and every call names them in this order")]
    fn push(&mut self, address: Address, kind: ObjectKind, name: String, table: String, facts: Facts, sql: Option<String>, drop: String) {
        if !self.is_member(address) {
            if !kind.is_attribute() {
                self.catalog.places.entry(address).or_insert(self.catalog.objects.len());
            }
            self.catalog.objects.push(Known { address, kind, name, table, facts, sql, drop });
        }
    }

    /// Adds a fact to an object that is there.
    fn add(&mut self, address: Address, name: impl Into<String>, value: impl Into<String>) {
        if let Some(object) = self.catalog.places.get(&address).copied().and_then(|at| self.catalog.objects.get_mut(at)) {
            object.facts.insert(name.into(), value.into());
        }
    }

    fn members(&mut self) -> Result<(), EngineError> {
        let rows = self.rows("SELECT classid::int8, objid::int8, refobjid::int8 FROM pg_catalog.pg_depend WHERE deptype = 'e'")?;
        for row in &rows {
            let address = (number(row, 0), number(row, 1));
            self.catalog.members.insert(address);
            self.catalog.part_of.insert(address, (PG_EXTENSION, number(row, 2)));
        }
        Ok(())
    }

    fn namespaces(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(&format!("SELECT n.oid::int8, n.nspname FROM pg_catalog.pg_namespace n WHERE {USER_SCHEMA} ORDER BY 1"))?;
        for row in &rows {
            let (oid, name) = (number(row, 0), text(row, 1));
            let facts = Facts::from([("schema".to_owned(), String::new())]);
            let (sql, drop) = (format!("CREATE SCHEMA {}", quoted(&name)), format!("DROP SCHEMA IF EXISTS {}", quoted(&name)));
            self.push((PG_NAMESPACE, oid), ObjectKind::Namespace, name, String::new(), facts, Some(sql), drop);
        }
        Ok(())
    }

    fn extensions(&mut self) -> Result<(), EngineError> {
        let sql = "SELECT e.oid::int8, e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e \
                   JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.oid >= 16384 ORDER BY 1";
        for row in &self.rows(sql)? {
            let mut facts = Facts::new();
            fact(&mut facts, "version", text(row, 2));
            fact(&mut facts, "schema", text(row, 3));
            let name = text(row, 1);
            let drop = format!("DROP EXTENSION IF EXISTS {}", quoted(&name));
            self.push((PG_EXTENSION, number(row, 0)), ObjectKind::Extension, name, String::new(), facts, None, drop);
        }
        Ok(())
    }

    fn relations(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(&format!(
            "SELECT c.oid::int8, n.nspname, c.relname, c.relkind, c.relpersistence, c.relispopulated, c.relreplident, \
                    pg_catalog.array_to_string(c.reloptions, ', '), c.relrowsecurity, c.relforcerowsecurity, \
                    pg_catalog.pg_get_expr(c.relpartbound, c.oid), \
                    CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END, am.amname, ts.spcname, \
                    CASE WHEN c.reloftype <> 0 THEN c.reloftype::pg_catalog.regtype::text END, \
                    pg_catalog.array_to_string(t.reloptions, ', '), fs.srvname, pg_catalog.array_to_string(ft.ftoptions, ', ') \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace \
             LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid LEFT JOIN pg_catalog.pg_foreign_table ft ON ft.ftrelid = c.oid \
             LEFT JOIN pg_catalog.pg_foreign_server fs ON fs.oid = ft.ftserver \
             WHERE {USER_SCHEMA} AND c.relkind IN ('r','p','f','m','v','S','i','I') ORDER BY 1"
        ))?;
        for row in &rows {
            let (oid, schema, name) = (number(row, 0), text(row, 1), text(row, 2));
            let kind = letter(row, 3).unwrap_or(' ');
            let shown = self.shown(&schema, &name);
            let sql = qualified(&schema, &name);
            let relation = Relation {
                oid,
                schema,
                name,
                shown: shown.clone(),
                kind,
                columns: Vec::new(),
                key: Vec::new(),
                is_populated: row.get(5) == Some("t"),
                is_foreign_heap: row.get(12) != Some("heap"),
            };
            self.catalog.relations.insert(oid, relation);
            let mut facts = Facts::new();
            for (at, name) in
                [(7, "options"), (13, "tablespace"), (14, "of type"), (15, "toast options"), (16, "server"), (17, "foreign options")]
            {
                if let Some(value) = row.get(at).filter(|value| !value.is_empty()) {
                    fact(&mut facts, name, value);
                }
            }
            let persistence = letter(row, 4).unwrap_or('p');
            let (object, word) = match kind {
                'r' | 'p' => (ObjectKind::Table, "TABLE"),
                'f' => (ObjectKind::Table, "FOREIGN TABLE"),
                'm' => (ObjectKind::MaterializedView, "MATERIALIZED VIEW"),
                'v' => (ObjectKind::View, "VIEW"),
                'S' => (ObjectKind::Sequence, "SEQUENCE"),
                _ => continue,
            };
            fact(&mut facts, "kind", format!("{kind}{persistence}"));
            if matches!(kind, 'r' | 'p' | 'm') {
                if letter(row, 6) != Some('d') {
                    fact(&mut facts, "replica identity", text(row, 6));
                }
                if let Some(method) = row.get(12).filter(|method| *method != "heap") {
                    fact(&mut facts, "method", method);
                }
            }
            if kind == 'm' {
                fact(&mut facts, "populated", text(row, 5));
            }
            if row.get(9) == Some("t") {
                fact(&mut facts, "force row security", "on");
            }
            if let Some(key) = row.get(11) {
                fact(&mut facts, "partition by", key);
            }
            let address = (PG_CLASS, oid);
            let table = if object == ObjectKind::Table { shown.clone() } else { String::new() };
            self.push(address, object, shown.clone(), table, facts, None, format!("DROP {word} IF EXISTS {sql}"));
            if row.get(8) == Some("t") && !self.is_member(address) {
                let facts = Facts::from([("row security".to_owned(), "on".to_owned())]);
                let statement = format!("ALTER TABLE {sql} ENABLE ROW LEVEL SECURITY");
                let drop = format!("ALTER TABLE IF EXISTS {sql} DISABLE ROW LEVEL SECURITY");
                self.push(address, ObjectKind::Other, format!("row security {shown}"), shown.clone(), facts, Some(statement), drop);
            }
            if let Some(bound) = row.get(10) {
                let facts = Facts::from([("bound".to_owned(), bound.to_owned())]);
                self.push(address, ObjectKind::Other, format!("table attach {shown}"), shown, facts, None, String::new());
            }
        }
        Ok(())
    }

    fn columns(&mut self) -> Result<(), EngineError> {
        let compression = if self.version >= 140_000 { "a.attcompression" } else { "''" };
        let types = self.rows(
            "SELECT t.oid::int8, t.typtype, t.typbasetype::int8, CASE WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE '' END, t.typelem::int8 \
             FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace",
        )?;
        // A type that is no domain says nothing of a row; its elements may.
        let elements: HashMap<u32, (char, u32)> =
            types.iter().map(|row| (number(row, 0), (letter(row, 1).unwrap_or(' '), number(row, 4)))).collect();
        let types: HashMap<u32, (bool, u32, String)> =
            types.iter().map(|row| (number(row, 0), (row.get(1) == Some("d"), number(row, 2), text(row, 3)))).collect();
        let base_of = |oid: u32| {
            let mut oid = oid;
            // A domain over a domain over ... a type; the server knows no circle.
            for _ in 0..64 {
                match types.get(&oid) {
                    Some((true, base, _)) => oid = *base,
                    Some((false, _, name)) => return name.clone(),
                    None => break,
                }
            }
            String::new()
        };
        let is_self_contained = |oid: u32| {
            let mut oid = oid;
            for _ in 0..64 {
                let (Some((is_domain, base, name)), Some((kind, element))) = (types.get(&oid), elements.get(&oid)) else { return false };
                // Composites, ranges and whatever a later server has may hold anything.
                if !matches!(kind, 'b' | 'd' | 'e') || name.starts_with("reg") || name == "aclitem" {
                    return matches!(kind, 'r' | 'm') && !name.is_empty();
                }
                match (is_domain, element) {
                    (true, _) => oid = *base,
                    (false, 0) => return true,
                    (false, element) => oid = *element,
                }
            }
            false
        };
        let rows = self.rows(&format!(
            "SELECT a.attrelid::int8, a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypid::int8, a.attnotnull, \
                    pg_catalog.pg_get_expr(d.adbin, CASE WHEN a.attgenerated = '' THEN 0 ELSE d.adrelid END), a.attidentity, a.attgenerated, \
                    CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::pg_catalog.regcollation::text END, \
                    CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END, {compression}, a.attstattarget, \
                    pg_catalog.array_to_string(a.attoptions, ', '), pg_catalog.array_to_string(a.attfdwoptions, ', '), d.oid::int8 \
             FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
             LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE {USER_SCHEMA} AND c.relkind IN ('r','p','f','m','v') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2"
        ))?;
        let mut order: HashMap<u32, Vec<String>> = HashMap::new();
        for row in &rows {
            let oid: u32 = number(row, 0);
            let some = |at: usize| letter(row, at).filter(|c| *c != ' ');
            let attribute = Attribute {
                number: number(row, 1),
                name: text(row, 2),
                sql_type: text(row, 3),
                base: base_of(number(row, 4)),
                is_self_contained: is_self_contained(number(row, 4)),
                not_null: row.get(5) == Some("t"),
                default: row.get(6).map(ToOwned::to_owned),
                generated: some(8),
                identity: some(7),
            };
            let address = (PG_CLASS, oid);
            let name = attribute.name.clone();
            order.entry(oid).or_default().push(name.clone());
            let mut facts: Vec<(String, String)> = vec![(format!("type {name}"), attribute.sql_type.clone())];
            if attribute.not_null {
                facts.push((format!("not null {name}"), String::new()));
            }
            if let Some(default) = &attribute.default {
                let word = if attribute.generated.is_some() { "generated" } else { "default" };
                facts.push((
                    format!("{word} {name}"),
                    format!("{}{default}", attribute.generated.map(|c| format!("{c} ")).unwrap_or_default()),
                ));
            }
            if let Some(identity) = attribute.identity {
                facts.push((format!("identity {name}"), identity.to_string()));
            }
            let others = [
                (9, "collation"),
                (10, "storage"),
                (11, "compression"),
                (12, "statistics"),
                (13, "column options"),
                (14, "foreign column options"),
            ];
            for (at, word) in others {
                if let Some(value) = row.get(at).filter(|value| !(value.is_empty() || at == 12 && *value == "-1")) {
                    facts.push((format!("{word} {name}"), value.to_owned()));
                }
            }
            for (name, value) in facts {
                self.add(address, name, value);
            }
            if let Some(default) = row.get(15).and_then(|cell| cell.parse().ok()) {
                self.catalog.part_of.insert((PG_ATTRDEF, default), address);
                self.catalog.defaults.insert(default, (oid, attribute.name.clone()));
            }
            if let Some(relation) = self.catalog.relations.get_mut(&oid) {
                relation.columns.push(attribute);
            }
        }
        for (oid, names) in order {
            let names = serde_json::to_string(&names).expect("a list of strings serialises");
            self.add((PG_CLASS, oid), "columns", names);
        }
        Ok(())
    }

    fn indexes(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(
            "SELECT i.indexrelid::int8, i.indrelid::int8, pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisclustered, \
                    i.indisreplident, k.oid::int8, i.indisunique, i.indpred IS NOT NULL, i.indkey::text, i.indnkeyatts, i.indisexclusion, \
                    i.indimmediate, i.indisprimary, \
                    (SELECT pg_catalog.string_agg(on_.nspname || ' ' || op.oprname, ',' ORDER BY u.n) FROM pg_catalog.unnest(i.indclass::oid[]) \
                       WITH ORDINALITY u(oid, n) JOIN pg_catalog.pg_opclass oc ON oc.oid = u.oid JOIN pg_catalog.pg_amop ao \
                       ON ao.amopfamily = oc.opcfamily AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype \
                       AND ao.amopstrategy = 3 AND ao.amoppurpose = 's' JOIN pg_catalog.pg_operator op ON op.oid = ao.amopopr \
                       JOIN pg_catalog.pg_namespace on_ ON on_.oid = op.oprnamespace WHERE am.amname = 'btree'), \
                    (SELECT pg_catalog.string_agg(a.attnum || '=' || a.attstattarget, ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
                       WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0), ts.spcname, i.indisready \
             FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am am ON am.oid = c.relam \
             LEFT JOIN pg_catalog.pg_tablespace ts ON ts.oid = c.reltablespace \
             LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p','u','x') \
             WHERE i.indrelid >= 16384 ORDER BY 1",
        )?;
        let mut keys: HashMap<u32, RankedKey> = HashMap::new();
        for row in &rows {
            let (oid, table): (u32, u32) = (number(row, 0), number(row, 1));
            let (Some(index), Some(relation)) = (self.relation(oid).cloned(), self.catalog.relations.get(&table).cloned()) else {
                continue;
            };
            let is = |at: usize| row.get(at) == Some("t");
            let mut facts = Facts::new();
            for (at, name) in [(4, "clustered"), (5, "replica identity")] {
                if is(at) {
                    fact(&mut facts, name, "");
                }
            }
            if let Some(targets) = row.get(15).filter(|targets| !targets.is_empty()) {
                fact(&mut facts, "statistics", targets);
            }
            if let Some(space) = row.get(16) {
                fact(&mut facts, "tablespace", space);
            }
            let constraint = row.get(6).and_then(|cell| cell.parse::<u32>().ok());
            match constraint {
                Some(constraint) => {
                    // The constraint is the object; what is special about its index is a fact of it.
                    self.catalog.part_of.insert((PG_CLASS, oid), (PG_CONSTRAINT, constraint));
                    for (name, value) in facts {
                        self.add((PG_CONSTRAINT, constraint), name, value);
                    }
                }
                None => {
                    fact(&mut facts, "definition", text(row, 2));
                    if !is(3) || !is(17) {
                        fact(&mut facts, "invalid", "");
                    }
                    let drop = format!("DROP INDEX IF EXISTS {}", index.sql());
                    let (name, table) = (index.shown.clone(), relation.shown.clone());
                    self.push((PG_CLASS, oid), ObjectKind::Index, name, table, facts, Some(text(row, 2)), drop);
                }
            }
            let positions: Vec<Option<usize>> = text(row, 9)
                .split(' ')
                .take(number(row, 10))
                .map(|cell| cell.parse::<i32>().ok().and_then(|n| relation.columns.iter().position(|column| column.number == n)))
                .collect();
            let names = positions.iter().map(|at| at.and_then(|at| relation.columns.get(at)).map(|column| column.name.clone())).collect();
            let is_unique = is(7) || is(11);
            // Whatever an exclusion constraint compares, rows must not meet in it.
            let columns = if is(11) { vec![None] } else { names };
            let (name, shown) = (index.shown.clone(), relation.shown.clone());
            self.catalog.indexes.push(Index { name, table: shown, unique: is_unique, columns, partial: is(8) });
            let operators: Vec<String> = text(row, 14)
                .split(',')
                .filter_map(|cell| cell.split_once(' '))
                .map(|(schema, operator)| format!("OPERATOR({}.{operator})", quoted(schema)))
                .collect();
            let known: Vec<usize> = positions.iter().copied().flatten().collect();
            let all_there = known.len() == positions.len() && known.len() == operators.len();
            let is_total = known.iter().all(|&at| relation.columns.get(at).is_some_and(|column| column.not_null));
            if is(7) && !is(8) && is(12) && is(3) && all_there && is_total && !known.is_empty() {
                let rank = if is(13) { 0 } else { 1 };
                let key: Vec<(usize, String)> = known.into_iter().zip(operators).collect();
                let better = keys.get(&table).is_none_or(|(other, width, _)| (rank, key.len()) < (*other, *width));
                if better {
                    keys.insert(table, (rank, key.len(), key));
                }
            }
        }
        for (table, (_, _, key)) in keys {
            if let Some(relation) = self.catalog.relations.get_mut(&table) {
                relation.key = key;
            }
        }
        Ok(())
    }

    fn constraints(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(
            "SELECT k.oid::int8, k.conname, k.contype, k.conrelid::int8, k.contypid::int8, k.convalidated, \
                    pg_catalog.pg_get_constraintdef(k.oid), k.conparentid::int8, k.confrelid::int8, \
                    k.conkey::int2[]::text, k.confkey::int2[]::text, k.confdeltype, k.confupdtype, \
                    (SELECT pg_catalog.string_agg(t.tgenabled::text, '' ORDER BY t.tgtype, t.tgrelid = k.conrelid) FROM pg_catalog.pg_trigger t \
                       WHERE t.tgconstraint = k.oid AND k.contype = 'f') \
             FROM pg_catalog.pg_constraint k ORDER BY 1",
        )?;
        for row in &rows {
            let (oid, name): (u32, String) = (number(row, 0), text(row, 1));
            let table: u32 = number(row, 3);
            let Some(relation) = self.relation(table).cloned() else { continue };
            let definition = text(row, 6);
            let kind = letter(row, 2).unwrap_or(' ');
            let address = (PG_CONSTRAINT, oid);
            let is_valid = row.get(5) == Some("t");
            let own = format!("{}.{}", relation.shown, name);
            let sql = format!("ALTER TABLE {} ADD CONSTRAINT {} {definition}", relation.sql(), quoted(&name));
            let drop = format!("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}", relation.sql(), quoted(&name));
            let mut facts = Facts::from([("definition".to_owned(), definition.clone())]);
            self.note_key(row, kind, &relation);
            match kind {
                'c' if is_valid => {
                    self.catalog.part_of.insert(address, (PG_CLASS, table));
                    self.add((PG_CLASS, table), format!("check {name}"), definition);
                }
                'n' => {
                    self.catalog.part_of.insert(address, (PG_CLASS, table));
                    self.add((PG_CLASS, table), format!("named not null {name}"), definition);
                }
                'c' => self.push(address, ObjectKind::Constraint, own, relation.shown, facts, Some(sql), drop),
                'p' | 'u' | 'x' => self.push(address, ObjectKind::Constraint, own, relation.shown, facts, Some(sql), drop),
                'f' if number::<u32>(row, 7) == 0 => {
                    if !is_valid {
                        fact(&mut facts, "not valid", "");
                    }
                    // The server checks it by triggers of its own, which can be switched off.
                    if let Some(states) = row.get(13).filter(|states| states.chars().any(|state| state != 'O')) {
                        fact(&mut facts, "triggers", states);
                    }
                    self.push(address, ObjectKind::ForeignKey, own, relation.shown, facts, Some(sql), drop);
                }
                'f' => {
                    self.catalog.part_of.insert(address, (PG_CONSTRAINT, number(row, 7)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps what the neutral terms say of a primary or foreign key.
    fn note_key(&mut self, row: &TextRow, kind: char, relation: &Relation) {
        let names = |at: usize, relation: &Relation| -> Vec<String> {
            let numbers = text(row, at);
            let numbers = numbers.trim_matches(|c| c == '{' || c == '}').split(',').filter_map(|cell| cell.parse::<i32>().ok());
            numbers.filter_map(|n| relation.columns.iter().find(|column| column.number == n)).map(|column| column.name.clone()).collect()
        };
        match kind {
            'p' => {
                self.primary.insert(relation.oid, names(9, relation));
            }
            'f' => {
                let Some(parent) = self.catalog.relations.get(&number(row, 8)) else { return };
                let action = |at: usize| {
                    match letter(row, at) {
                        Some('c') => "CASCADE",
                        Some('n') => "SET NULL",
                        Some('d') => "SET DEFAULT",
                        Some('r') => "RESTRICT",
                        _ => "NO ACTION",
                    }
                    .to_owned()
                };
                let key = ForeignKey {
                    columns: names(9, relation),
                    parent: parent.shown.clone(),
                    parent_columns: names(10, parent),
                    on_delete: action(11),
                    on_update: action(12),
                };
                self.foreign.entry(relation.oid).or_default().push(key);
            }
            _ => {}
        }
    }

    fn sequences(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(
            "SELECT s.seqrelid::int8, s.seqtypid::pg_catalog.regtype::text, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, \
                    s.seqcycle, d.refobjid::int8, d.refobjsubid, d.deptype FROM pg_catalog.pg_sequence s \
             LEFT JOIN pg_catalog.pg_depend d ON d.classid = 1259 AND d.objid = s.seqrelid AND d.refclassid = 1259 AND d.deptype IN ('a','i') \
             ORDER BY 1",
        )?;
        for row in &rows {
            let oid: u32 = number(row, 0);
            let Some(sequence) = self.relation(oid).cloned() else { continue };
            let address = (PG_CLASS, oid);
            let names = ["type", "start", "increment", "minimum", "maximum", "cache", "cycle"];
            for (at, name) in names.iter().enumerate() {
                self.add(address, *name, text(row, at + 1));
            }
            let owner = row.get(8).and_then(|cell| cell.parse::<u32>().ok()).and_then(|oid| self.catalog.relations.get(&oid)).cloned();
            let Some(owner) = owner else { continue };
            let number: i32 = number(row, 9);
            let Some(column) = owner.columns.iter().find(|column| column.number == number) else { continue };
            let place = self.catalog.places.get(&address).copied();
            if let Some(object) = place.and_then(|at| self.catalog.objects.get_mut(at)) {
                object.table.clone_from(&owner.shown);
            }
            if letter(row, 10) == Some('i') {
                let definition = format!("{}.{}", owner.shown, column.name);
                let table = owner.sql();
                let column = quoted(&column.name);
                self.add(address, "identity of", definition);
                if let Some(object) = place.and_then(|at| self.catalog.objects.get_mut(at)) {
                    object.drop = format!("ALTER TABLE IF EXISTS {table} ALTER COLUMN {column} DROP IDENTITY IF EXISTS");
                }
            } else {
                let facts = Facts::from([("owner".to_owned(), format!("{}.{}", owner.shown, column.name))]);
                let sql = format!("ALTER SEQUENCE {} OWNED BY {}.{}", sequence.sql(), owner.sql(), quoted(&column.name));
                let drop = format!("ALTER SEQUENCE IF EXISTS {} OWNED BY NONE", sequence.sql());
                let name = format!("sequence owned by {}", sequence.shown);
                self.push(address, ObjectKind::Other, name, owner.shown, facts, Some(sql), drop);
            }
        }
        Ok(())
    }

    fn views(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(&format!(
            "SELECT c.oid::int8, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {USER_SCHEMA} AND c.relkind IN ('v','m') ORDER BY 1"
        ))?;
        for row in &rows {
            self.add((PG_CLASS, number(row, 0)), "query", text(row, 1));
        }
        let rows = self.rows(
            "SELECT r.oid::int8, r.rulename, r.ev_class::int8, r.ev_enabled, pg_catalog.pg_get_ruledef(r.oid) FROM pg_catalog.pg_rewrite r \
             WHERE r.ev_class >= 16384 ORDER BY 1",
        )?;
        for row in &rows {
            let (oid, name, table): (u32, String, u32) = (number(row, 0), text(row, 1), number(row, 2));
            if name == "_RETURN" {
                self.catalog.part_of.insert((PG_REWRITE, oid), (PG_CLASS, table));
                continue;
            }
            let Some(relation) = self.relation(table).cloned() else { continue };
            let mut facts = Facts::from([("definition".to_owned(), text(row, 4))]);
            fact(&mut facts, "enabled", text(row, 3));
            let drop = format!("DROP RULE IF EXISTS {} ON {}", quoted(&name), relation.sql());
            let own = format!("{}.{name}", relation.shown);
            self.push((PG_REWRITE, oid), ObjectKind::Rule, own, relation.shown, facts, Some(text(row, 4)), drop);
        }
        Ok(())
    }

    fn inheritance(&mut self) -> Result<(), EngineError> {
        let rows = self.rows("SELECT inhrelid::int8, inhparent::int8, inhseqno FROM pg_catalog.pg_inherits ORDER BY 1, 3")?;
        for row in &rows {
            let (child, parent): (u32, u32) = (number(row, 0), number(row, 1));
            let Some(parent) = self.catalog.relations.get(&parent).cloned() else { continue };
            if self.relation(child).is_none() {
                continue;
            }
            let is_index = matches!(parent.kind, 'i' | 'I');
            let is_partition = matches!(parent.kind, 'p' | 'I');
            let number: u32 = number(row, 2);
            if is_partition {
                let bound = if is_index { "index attach" } else { "table attach" };
                let shown = self.relation(child).map(|relation| relation.shown.clone()).unwrap_or_default();
                let name = format!("{bound} {shown}");
                if is_index {
                    let facts = Facts::from([("parent".to_owned(), parent.shown.clone())]);
                    self.push((PG_CLASS, child), ObjectKind::Other, name, String::new(), facts, None, String::new());
                } else if let Some(object) = self.catalog.objects.iter_mut().find(|o| o.kind == ObjectKind::Other && o.name == name) {
                    fact(&mut object.facts, "parent", parent.shown.clone());
                    if let Some(relation) = self.catalog.relations.get(&child) {
                        object.drop = format!("ALTER TABLE {} DETACH PARTITION {}", parent.sql(), relation.sql());
                    }
                }
            } else {
                self.add((PG_CLASS, child), format!("inherits {number}"), parent.shown.clone());
            }
        }
        Ok(())
    }

    fn types(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(&format!(
            "SELECT t.oid::int8, n.nspname, t.typname, t.typtype, t.typrelid::int8, t.typarray::int8, \
                    pg_catalog.format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault, \
                    CASE WHEN t.typcollation <> 0 AND t.typtype = 'd' AND t.typcollation <> b.typcollation THEN t.typcollation::pg_catalog.regcollation::text END, \
                    c.relkind, (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid), \
                    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
                        CASE WHEN a.attcollation <> 0 THEN a.attcollation::pg_catalog.regcollation::text END) ORDER BY a.attnum)::text \
                        FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'c'), \
                    (SELECT pg_catalog.json_build_array(r.rngsubtype::pg_catalog.regtype::text, r.rngcollation::pg_catalog.regcollation::text, \
                        (SELECT opcname FROM pg_catalog.pg_opclass WHERE oid = r.rngsubopc), r.rngcanonical::text, r.rngsubdiff::text)::text \
                        FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid), \
                    EXISTS (SELECT 1 FROM pg_catalog.pg_type e WHERE e.typarray = t.oid), t.typelem::int8 \
             FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
             LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid \
             WHERE {USER_SCHEMA} ORDER BY 1"
        ))?;
        for row in &rows {
            let (oid, schema, name): (u32, String, String) = (number(row, 0), text(row, 1), text(row, 2));
            let address = (PG_TYPE, oid);
            let array: u32 = number(row, 5);
            if array != 0 {
                self.catalog.part_of.insert((PG_TYPE, array), address);
            }
            if row.get(14) == Some("t") {
                continue;
            }
            let kind = letter(row, 3).unwrap_or(' ');
            let mut facts = Facts::new();
            let mut word = "TYPE";
            match kind {
                'e' => fact(&mut facts, "labels", text(row, 11)),
                'd' => {
                    word = "DOMAIN";
                    fact(&mut facts, "base", text(row, 6));
                    if row.get(7) == Some("t") {
                        fact(&mut facts, "not null", "");
                    }
                    for (at, name) in [(8, "default"), (9, "collation")] {
                        if let Some(value) = row.get(at) {
                            fact(&mut facts, name, value);
                        }
                    }
                }
                'c' if row.get(10) == Some("c") => {
                    // Its columns hang on an entry in the list of relations.
                    self.catalog.part_of.insert((PG_CLASS, number(row, 4)), address);
                    fact(&mut facts, "attributes", text(row, 12));
                }
                'c' => {
                    self.catalog.part_of.insert(address, (PG_CLASS, number(row, 4)));
                    continue;
                }
                'r' => fact(&mut facts, "range", text(row, 13)),
                'm' => continue,
                _ => fact(&mut facts, "base type", kind.to_string()),
            }
            let drop = format!("DROP {word} IF EXISTS {}", qualified(&schema, &name));
            let shown = self.shown(&schema, &name);
            self.push(address, ObjectKind::Type, shown, String::new(), facts, None, drop);
        }
        if self.version >= 140_000 {
            for row in &self.rows("SELECT rngmultitypid::int8, rngtypid::int8 FROM pg_catalog.pg_range")? {
                self.catalog.part_of.insert((PG_TYPE, number(row, 0)), (PG_TYPE, number(row, 1)));
            }
        }
        let rows = self.rows(
            "SELECT k.oid::int8, k.conname, k.contypid::int8, pg_catalog.pg_get_constraintdef(k.oid), k.convalidated FROM pg_catalog.pg_constraint k \
             WHERE k.contypid <> 0 ORDER BY 1",
        )?;
        for row in &rows {
            let address = (PG_TYPE, number(row, 2));
            self.catalog.part_of.insert((PG_CONSTRAINT, number(row, 0)), address);
            self.add(address, format!("check {}", text(row, 1)), text(row, 3));
        }
        Ok(())
    }

    fn functions(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(&format!(
            "SELECT p.oid::int8, p.oid::pg_catalog.regprocedure::text, p.prokind, \
                    CASE WHEN p.prokind <> 'a' THEN pg_catalog.pg_get_functiondef(p.oid) END, \
                    pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid), \
                    (SELECT (pg_catalog.to_jsonb(a) - 'aggfnoid' - 'aggsortop' - 'aggtranstype' - 'aggmtranstype' || pg_catalog.jsonb_build_object( \
                       'sortop', a.aggsortop::pg_catalog.regoperator::text, 'type', a.aggtranstype::pg_catalog.regtype::text, \
                       'mtype', a.aggmtranstype::pg_catalog.regtype::text))::text FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid) \
             FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {USER_SCHEMA} ORDER BY 1"
        ))?;
        for row in &rows {
            let address = (PG_PROC, number(row, 0));
            let signature = text(row, 1);
            let kind = letter(row, 2).unwrap_or('f');
            let mut facts = Facts::new();
            fact(&mut facts, "signature", format!("{kind} ({}) {}", text(row, 4), text(row, 5)));
            fact(&mut facts, "definition", row.get(3).or_else(|| row.get(6)).unwrap_or_default());
            let word = match kind {
                'a' => "AGGREGATE",
                'p' => "PROCEDURE",
                _ => "FUNCTION",
            };
            let drop = format!("DROP {word} IF EXISTS {signature}");
            let name = self.identity(&signature);
            let sql = row.get(3).map(ToOwned::to_owned);
            self.push(address, ObjectKind::Function, name, String::new(), facts, sql, drop);
        }
        Ok(())
    }

    fn triggers(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(
            "SELECT t.oid::int8, t.tgname, t.tgrelid::int8, t.tgenabled, pg_catalog.pg_get_triggerdef(t.oid), t.tgparentid::int8, \
                    t.tgconstraint::int8 FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal ORDER BY 1",
        )?;
        for row in &rows {
            let address = (PG_TRIGGER, number(row, 0));
            let Some(relation) = self.relation(number(row, 2)).cloned() else { continue };
            let constraint: u32 = number(row, 6);
            if constraint != 0 {
                self.catalog.part_of.insert((PG_CONSTRAINT, constraint), address);
            }
            let parent: u32 = number(row, 5);
            if parent != 0 {
                // Made with its parent; what may differ is whether it is enabled.
                self.catalog.part_of.insert(address, (PG_CLASS, relation.oid));
                if row.get(3) != Some("O") {
                    self.add((PG_CLASS, relation.oid), format!("trigger {}", text(row, 1)), text(row, 3));
                }
                continue;
            }
            let name = text(row, 1);
            let mut facts = Facts::from([("definition".to_owned(), text(row, 4))]);
            fact(&mut facts, "enabled", text(row, 3));
            let drop = format!("DROP TRIGGER IF EXISTS {} ON {}", quoted(&name), relation.sql());
            let own = format!("{}.{name}", relation.shown);
            self.push(address, ObjectKind::Trigger, own, relation.shown, facts, Some(text(row, 4)), drop);
        }
        Ok(())
    }

    fn policies(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(
            "SELECT p.oid::int8, p.polname, p.polrelid::int8, p.polcmd, p.polpermissive, \
                    (SELECT pg_catalog.string_agg(COALESCE(r.rolname, 'public'), ',' ORDER BY 1) FROM pg_catalog.unnest(p.polroles) u(oid) \
                       LEFT JOIN pg_catalog.pg_roles r ON r.oid = u.oid), pg_catalog.pg_get_expr(p.polqual, p.polrelid), \
                    pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) FROM pg_catalog.pg_policy p ORDER BY 1",
        )?;
        for row in &rows {
            let Some(relation) = self.relation(number(row, 2)).cloned() else { continue };
            let name = text(row, 1);
            let mut facts = Facts::new();
            for (at, part) in [(3, "command"), (4, "permissive"), (5, "roles"), (6, "using"), (7, "check")] {
                if let Some(value) = row.get(at) {
                    fact(&mut facts, part, value);
                }
            }
            let drop = format!("DROP POLICY IF EXISTS {} ON {}", quoted(&name), relation.sql());
            let own = format!("{}.{name}", relation.shown);
            self.push((PG_POLICY, number(row, 0)), ObjectKind::Policy, own, relation.shown, facts, None, drop);
        }
        Ok(())
    }

    /// Publications, triggers on commands, statistics.
    fn rest(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(
            "SELECT p.oid::int8, p.pubname, (pg_catalog.to_jsonb(p) - 'oid' - 'pubowner')::text FROM pg_catalog.pg_publication p ORDER BY 1",
        )?;
        for row in &rows {
            let name = text(row, 1);
            let facts = Facts::from([("definition".to_owned(), text(row, 2))]);
            let drop = format!("DROP PUBLICATION IF EXISTS {}", quoted(&name));
            self.push((PG_PUBLICATION, number(row, 0)), ObjectKind::Publication, name, String::new(), facts, None, drop);
        }
        let parts = if self.version >= 150_000 { "pg_catalog.pg_get_expr(r.prqual, r.prrelid), r.prattrs::text" } else { "NULL, NULL" };
        let rows = self.rows(&format!(
            "SELECT r.oid::int8, p.pubname, r.prrelid::int8, {parts} FROM pg_catalog.pg_publication_rel r \
             JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid ORDER BY 1"
        ))?;
        for row in &rows {
            let Some(relation) = self.relation(number(row, 2)).cloned() else { continue };
            let publication = text(row, 1);
            let mut facts = Facts::from([("publication".to_owned(), publication.clone())]);
            for (at, part) in [(3, "rows"), (4, "columns")] {
                if let Some(value) = row.get(at) {
                    fact(&mut facts, part, value);
                }
            }
            let drop = format!("ALTER PUBLICATION {} DROP TABLE {}", quoted(&publication), relation.sql());
            let name = format!("publication table {publication} {}", relation.shown);
            self.push((PG_PUBLICATION_REL, number(row, 0)), ObjectKind::Other, name, relation.shown, facts, None, drop);
        }
        if self.version >= 150_000 {
            let rows = self.rows(
                "SELECT r.oid::int8, p.pubname, n.nspname FROM pg_catalog.pg_publication_namespace r \
                 JOIN pg_catalog.pg_publication p ON p.oid = r.pnpubid JOIN pg_catalog.pg_namespace n ON n.oid = r.pnnspid ORDER BY 1",
            )?;
            for row in &rows {
                let (publication, schema) = (text(row, 1), text(row, 2));
                let drop = format!("ALTER PUBLICATION {} DROP TABLES IN SCHEMA {}", quoted(&publication), quoted(&schema));
                let name = format!("publication schema {publication} {schema}");
                let facts = Facts::from([("publication".to_owned(), publication)]);
                self.push((PG_PUBLICATION_NAMESPACE, number(row, 0)), ObjectKind::Other, name, String::new(), facts, None, drop);
            }
        }
        let rows = self.rows(
            "SELECT e.oid::int8, e.evtname, (pg_catalog.to_jsonb(e) - 'oid' - 'evtowner' - 'evtfoid')::text, e.evtfoid::pg_catalog.regprocedure::text \
             FROM pg_catalog.pg_event_trigger e ORDER BY 1",
        )?;
        for row in &rows {
            let name = text(row, 1);
            let mut facts = Facts::from([("definition".to_owned(), text(row, 2))]);
            fact(&mut facts, "function", text(row, 3));
            let drop = format!("DROP EVENT TRIGGER IF EXISTS {}", quoted(&name));
            self.push((PG_EVENT_TRIGGER, number(row, 0)), ObjectKind::EventTrigger, name, String::new(), facts, None, drop);
        }
        let rows = self.rows(&format!(
            "SELECT s.oid::int8, n.nspname, s.stxname, pg_catalog.pg_get_statisticsobjdef(s.oid), s.stxstattarget, s.stxrelid::int8 \
             FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace WHERE {USER_SCHEMA} ORDER BY 1"
        ))?;
        for row in &rows {
            let (schema, name) = (text(row, 1), text(row, 2));
            let mut facts = Facts::from([("definition".to_owned(), text(row, 3))]);
            if let Some(target) = row.get(4).filter(|target| *target != "-1") {
                fact(&mut facts, "target", target);
            }
            let table = self.relation(number(row, 5)).map(|relation| relation.shown.clone()).unwrap_or_default();
            let drop = format!("DROP STATISTICS IF EXISTS {}", qualified(&schema, &name));
            let shown = self.shown(&schema, &name);
            self.push((PG_STATISTIC_EXT, number(row, 0)), ObjectKind::Statistics, shown, table, facts, Some(text(row, 3)), drop);
        }
        Ok(())
    }

    /// Objects that are compared by their text: only that they are there is known.
    fn others(&mut self) -> Result<(), EngineError> {
        // Some of these catalogues are for superusers alone; who cannot see them cannot have changed them.
        let catalogs = self.rows(&format!(
            "SELECT c.oid::int8, c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace \
             AND c.relname IN ({OTHERS}) AND pg_catalog.has_table_privilege(c.oid, 'SELECT') ORDER BY 1"
        ))?;
        for catalog in &catalogs {
            let class: u32 = number(catalog, 0);
            let rows = self.rows(&format!(
                "SELECT o.oid::int8, i.type, i.identity FROM pg_catalog.{} o, \
                 LATERAL pg_catalog.pg_identify_object({class}::oid, o.oid, 0) i WHERE o.oid >= 16384 ORDER BY 1",
                text(catalog, 1)
            ))?;
            for row in &rows {
                let address = (class, number(row, 0));
                if self.is_member(address) {
                    continue;
                }
                let (word, identity) = (text(row, 1), text(row, 2));
                let statement = match word.as_str() {
                    "user mapping" => format!("DROP USER MAPPING IF EXISTS FOR {}", identity.replacen(" on server ", " SERVER ", 1)),
                    "transform" => format!(
                        "DROP TRANSFORM IF EXISTS {}",
                        identity.replacen("for ", "FOR ", 1).replacen(" on language ", " LANGUAGE ", 1)
                    ),
                    "foreign-data wrapper" => format!("DROP FOREIGN DATA WRAPPER IF EXISTS {identity}"),
                    word => format!("DROP {} IF EXISTS {identity}", word.to_uppercase()),
                };
                let name = format!("{word} {}", self.identity(&identity));
                self.catalog.others.insert(address, (word, identity));
                self.push(address, ObjectKind::Other, name, String::new(), Facts::new(), None, statement);
            }
        }
        let rows = self.rows(
            "SELECT d.oid::int8, r.rolname, n.nspname, d.defaclobjtype, pg_catalog.array_to_string(ARRAY(SELECT u::text FROM pg_catalog.unnest(d.defaclacl) u ORDER BY 1), ', ') \
             FROM pg_catalog.pg_default_acl d JOIN pg_catalog.pg_roles r ON r.oid = d.defaclrole \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace ORDER BY 1",
        )?;
        for row in &rows {
            let word = match letter(row, 3) {
                Some('r') => "TABLES",
                Some('S') => "SEQUENCES",
                Some('f') => "FUNCTIONS",
                Some('T') => "TYPES",
                _ => "SCHEMAS",
            };
            let place = row.get(2).map(|schema| format!(" IN SCHEMA {}", quoted(schema))).unwrap_or_default();
            let role = text(row, 1);
            let name = format!("default privileges of {role} for {}{place}", word.to_lowercase());
            let facts = Facts::from([("privileges".to_owned(), text(row, 4))]);
            let begin = format!("ALTER DEFAULT PRIVILEGES FOR ROLE {}{place}", quoted(&role));
            let grantees = self.rows(&format!(
                "SELECT DISTINCT COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC') FROM pg_catalog.pg_default_acl d, \
                 LATERAL pg_catalog.aclexplode(d.defaclacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee WHERE d.oid = {}",
                text(row, 0)
            ))?;
            let roles: Vec<String> = grantees.iter().map(|row| text(row, 0)).collect();
            let revokes: Vec<String> =
                roles.iter().chain([&quoted(&role)]).map(|role| format!("{begin} REVOKE ALL ON {word} FROM {role}")).collect();
            let granted = self.rows(&format!(
                "SELECT pg_catalog.concat_ws(' ', a.privilege_type, 'ON {word} TO', COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC'), \
                   CASE WHEN a.is_grantable THEN 'WITH GRANT OPTION' END) FROM pg_catalog.pg_default_acl d, \
                 LATERAL pg_catalog.aclexplode(d.defaclacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee WHERE d.oid = {} ORDER BY 1",
                text(row, 0)
            ))?;
            let grants = granted.iter().map(|row| format!("{begin} GRANT {}", text(row, 0)));
            // Those for the whole database start from what the server gives by itself, which is taken away first.
            let everyone = if row.get(2).is_none() && matches!(word, "FUNCTIONS" | "TYPES") { "PUBLIC" } else { "" };
            let first = (!everyone.is_empty()).then(|| format!("{begin} REVOKE ALL ON {word} FROM PUBLIC"));
            let own = row.get(2).is_none().then(|| format!("{begin} REVOKE ALL ON {word} FROM {}", quoted(&role)));
            let sql: Vec<String> = first.into_iter().chain(own).chain(grants).collect();
            let back = match (row.get(2).is_none(), everyone) {
                (true, "PUBLIC") => {
                    vec![format!("{begin} GRANT ALL ON {word} TO {}", quoted(&role)), format!("{begin} GRANT ALL ON {word} TO PUBLIC")]
                }
                (true, _) => vec![format!("{begin} GRANT ALL ON {word} TO {}", quoted(&role))],
                _ => Vec::new(),
            };
            let drop: Vec<String> = revokes.into_iter().chain(back).collect();
            self.push((826, number(row, 0)), ObjectKind::Other, name, String::new(), facts, Some(sql.join("; ")), drop.join("; "));
        }
        Ok(())
    }

    /// Returns the objects by address that say what is owned, commented and granted.
    fn named(&self, address: Address) -> Option<&Known> {
        let address =
            self.catalog.part_of.get(&address).filter(|part| part.0 == PG_CLASS && address.0 == PG_TYPE).copied().unwrap_or(address);
        self.catalog.places.get(&address).and_then(|&at| self.catalog.objects.get(at))
    }

    fn owners(&mut self) -> Result<(), EngineError> {
        // A sequence that belongs to a column is its table's owner's, and cannot be given away alone.
        let rows = self.rows(&format!(
            "SELECT o.class, o.oid::int8, r.rolname, i.type, i.identity FROM ( \
               SELECT 1259 AS class, c.oid, c.relowner AS owner FROM pg_catalog.pg_class c WHERE c.relkind IN ('r','p','f','m','v','S') AND c.oid >= 16384 \
                 AND NOT (c.relkind = 'S' AND EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 1259 AND d.objid = c.oid AND d.refclassid = 1259 AND d.deptype IN ('a','i'))) \
               UNION ALL SELECT 1255, oid, proowner FROM pg_catalog.pg_proc WHERE oid >= 16384 \
               UNION ALL SELECT 1247, t.oid, t.typowner FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid WHERE t.oid >= 16384 \
                 AND (t.typtype IN ('e','d','r','b') OR t.typtype = 'c' AND c.relkind = 'c') AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_type e WHERE e.typarray = t.oid) \
               UNION ALL SELECT 2615, n.oid, n.nspowner FROM pg_catalog.pg_namespace n WHERE {USER_SCHEMA} \
               UNION ALL SELECT 6104, oid, pubowner FROM pg_catalog.pg_publication UNION ALL SELECT 3466, oid, evtowner FROM pg_catalog.pg_event_trigger \
               UNION ALL SELECT 3381, oid, stxowner FROM pg_catalog.pg_statistic_ext WHERE oid >= 16384 \
               UNION ALL SELECT 1417, oid, srvowner FROM pg_catalog.pg_foreign_server UNION ALL SELECT 2328, oid, fdwowner FROM pg_catalog.pg_foreign_data_wrapper WHERE oid >= 16384 \
               UNION ALL SELECT 3456, oid, collowner FROM pg_catalog.pg_collation WHERE oid >= 16384 UNION ALL SELECT 3602, oid, cfgowner FROM pg_catalog.pg_ts_config WHERE oid >= 16384 \
               UNION ALL SELECT 3600, oid, dictowner FROM pg_catalog.pg_ts_dict WHERE oid >= 16384 UNION ALL SELECT 2617, oid, oprowner FROM pg_catalog.pg_operator WHERE oid >= 16384 \
             ) o JOIN pg_catalog.pg_roles r ON r.oid = o.owner, LATERAL pg_catalog.pg_identify_object(o.class::oid, o.oid, 0) i ORDER BY 1, 2"
        ))?;
        for row in &rows {
            let address: Address = (number(row, 0), number(row, 1));
            let Some(object) = self.named(address) else { continue };
            let (name, table) = (format!("{} {}", object.kind.word(), object.name), object.table.clone());
            let role = text(row, 2);
            let word = statement_word(&text(row, 3));
            let sql = format!("ALTER {word} {} OWNER TO {}", text(row, 4), quoted(&role));
            let facts = Facts::from([("owner".to_owned(), role)]);
            self.push(address, ObjectKind::Owner, name, table, facts, Some(sql), String::new());
        }
        Ok(())
    }

    fn privileges(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(&format!(
            "SELECT o.class, o.oid::int8, o.sub, i.type, i.identity, (SELECT pg_catalog.string_agg(x.line, E'\\n' ORDER BY x.place) FROM ( \
               SELECT pg_catalog.concat_ws(' ', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END, \
                 pg_catalog.string_agg(a.privilege_type, ',' ORDER BY a.privilege_type), CASE WHEN a.is_grantable THEN 'GRANTABLE' ELSE 'PLAIN' END) AS line, pg_catalog.min(a.place) AS place \
               FROM pg_catalog.aclexplode(o.acl) WITH ORDINALITY AS a(grantor, grantee, privilege_type, is_grantable, place) LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee GROUP BY a.grantee, g.rolname, a.is_grantable) x), \
               CASE WHEN o.sub = 0 THEN (SELECT pg_catalog.string_agg(x.line, E'\\n' ORDER BY x.line) FROM ( \
               SELECT pg_catalog.concat_ws(' ', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(g.rolname) END, \
                 pg_catalog.string_agg(a.privilege_type, ',' ORDER BY a.privilege_type), CASE WHEN a.is_grantable THEN 'GRANTABLE' ELSE 'PLAIN' END) AS line \
               FROM pg_catalog.aclexplode(pg_catalog.acldefault(o.letter, o.owner)) a LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee GROUP BY a.grantee, g.rolname, a.is_grantable) x) END, \
               COALESCE(pg_catalog.quote_ident(ow.rolname), 'PUBLIC'), pg_catalog.quote_ident(at.attname) FROM ( \
               SELECT 1259 AS class, c.oid, 0 AS sub, c.relacl AS acl, (CASE WHEN c.relkind = 'S' THEN 's' ELSE 'r' END)::\"char\" AS letter, c.relowner AS owner FROM pg_catalog.pg_class c WHERE c.relacl IS NOT NULL AND c.oid >= 16384 \
               UNION ALL SELECT 1259, a.attrelid, a.attnum, a.attacl, 'c', c.relowner FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL AND a.attrelid >= 16384 AND NOT a.attisdropped \
               UNION ALL SELECT 1255, oid, 0, proacl, 'f', proowner FROM pg_catalog.pg_proc WHERE proacl IS NOT NULL AND oid >= 16384 \
               UNION ALL SELECT 1247, oid, 0, typacl, 'T', typowner FROM pg_catalog.pg_type WHERE typacl IS NOT NULL AND oid >= 16384 \
               UNION ALL SELECT 2615, n.oid, 0, n.nspacl, 'n', n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspacl IS NOT NULL AND {USER_SCHEMA} \
               UNION ALL SELECT 1417, oid, 0, srvacl, 'S', srvowner FROM pg_catalog.pg_foreign_server WHERE srvacl IS NOT NULL \
               UNION ALL SELECT 2328, oid, 0, fdwacl, 'F', fdwowner FROM pg_catalog.pg_foreign_data_wrapper WHERE fdwacl IS NOT NULL AND oid >= 16384 \
             ) o LEFT JOIN pg_catalog.pg_roles ow ON ow.oid = o.owner \
             LEFT JOIN pg_catalog.pg_attribute at ON o.class = 1259 AND o.sub > 0 AND at.attrelid = o.oid AND at.attnum = o.sub, \
             LATERAL pg_catalog.pg_identify_object(o.class::oid, o.oid, 0) i ORDER BY 1, 2, 3"
        ))?;
        for row in &rows {
            let address: Address = (number(row, 0), number(row, 1));
            // Who was granted something first stands first, and pg_dump writes them so; what is granted does not depend on it.
            let in_order = text(row, 5);
            let mut lines: Vec<&str> = in_order.lines().collect();
            lines.sort_unstable();
            let granted = lines.join("\n");
            let default = text(row, 6);
            if granted == default {
                continue;
            }
            let Some(object) = self.named(address) else { continue };
            let column = row.get(8);
            let name = match column {
                Some(column) => format!("{} {}.{column}", object.kind.word(), object.name),
                None => format!("{} {}", object.kind.word(), object.name),
            };
            let table = object.table.clone();
            let (kind, identity) = (text(row, 3), text(row, 4));
            let word = match kind.as_str() {
                "table" | "view" | "materialized view" | "foreign table" => "TABLE".to_owned(),
                "aggregate" => "FUNCTION".to_owned(),
                "server" => "FOREIGN SERVER".to_owned(),
                kind => statement_word(kind),
            };
            let owner = text(row, 7);
            let list = column.map(|column| format!(" ({column})")).unwrap_or_default();
            let grants = |lines: &str| -> Vec<String> {
                let grant = |line: &str| {
                    let mut parts = line.rsplitn(3, ' ');
                    let (option, privileges, grantee) = (parts.next()?, parts.next()?, parts.next()?);
                    let privileges: Vec<String> = privileges.split(',').map(|privilege| format!("{privilege}{list}")).collect();
                    let option = if option == "GRANTABLE" { " WITH GRANT OPTION" } else { "" };
                    Some(format!("GRANT {} ON {word} {identity} TO {grantee}{option}", privileges.join(", ")))
                };
                lines.lines().filter_map(grant).collect()
            };
            let grantee = |line: &str| line.rsplitn(3, ' ').nth(2).unwrap_or_default().to_owned();
            let all: Vec<String> = granted.lines().chain(default.lines()).map(grantee).collect();
            let all: std::collections::BTreeSet<String> =
                all.into_iter().chain(["PUBLIC".to_owned(), owner]).filter(|role| !role.is_empty()).collect();
            let revoke: Vec<String> = all.iter().map(|role| format!("REVOKE ALL{list} ON {word} {identity} FROM {role}")).collect();
            let script = |grants: Vec<String>| revoke.iter().cloned().chain(grants).collect::<Vec<_>>().join(";\n");
            let facts = Facts::from([("granted".to_owned(), granted.clone())]);
            let (sql, drop) = (script(grants(&in_order)), script(grants(&default)));
            self.push(address, ObjectKind::Privileges, name, table, facts, Some(sql), drop);
        }
        Ok(())
    }

    fn comments(&mut self) -> Result<(), EngineError> {
        let rows = self.rows(
            "SELECT d.classoid::int8, d.objoid::int8, d.objsubid, i.type, i.identity, d.description FROM pg_catalog.pg_description d, \
             LATERAL pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) i \
             WHERE d.objoid >= 16384 OR d.classoid = 2615 AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.oid = d.objoid \
               AND (n.nspname ~ '^pg_' OR n.nspname = 'information_schema')) ORDER BY 1, 2, 3",
        )?;
        for row in &rows {
            let address: Address = (number(row, 0), number(row, 1));
            let (word, identity) = (text(row, 3), text(row, 4));
            let is_ours = self.catalog.places.contains_key(&address) || self.catalog.part_of.contains_key(&address);
            // What is part of an extension has the comment that comes with it.
            if word.is_empty() || self.is_member(address) || !is_ours {
                continue;
            }
            let word = match word.as_str() {
                "table column" | "view column" | "materialized view column" | "foreign table column" | "composite type column" => {
                    "COLUMN".to_owned()
                }
                "table constraint" | "domain constraint" => "CONSTRAINT".to_owned(),
                "statistics object" => "STATISTICS".to_owned(),
                "foreign-data wrapper" => "FOREIGN DATA WRAPPER".to_owned(),
                word => word.to_uppercase(),
            };
            let identity_sql =
                if text(row, 3) == "domain constraint" { identity.replacen(" on ", " ON DOMAIN ", 1) } else { identity.clone() };
            let shown = self.identity(&identity);
            let table =
                self.relation(address.1).filter(|_| address.0 == PG_CLASS).map(|relation| relation.shown.clone()).unwrap_or_default();
            let comment = text(row, 5);
            let sql = format!("COMMENT ON {word} {identity_sql} IS {}", literal(&comment));
            let drop = format!("COMMENT ON {word} {identity_sql} IS NULL");
            let facts = Facts::from([("comment".to_owned(), comment)]);
            self.push(address, ObjectKind::Comment, format!("{} {shown}", word.to_lowercase()), table, facts, Some(sql), drop);
        }
        Ok(())
    }

    /// Describes tables in neutral terms.
    fn neutral(&mut self) {
        let mut relations: Vec<&Relation> = self.catalog.relations.values().filter(|r| matches!(r.kind, 'r' | 'p' | 'f' | 'm')).collect();
        relations.sort_by_key(|relation| relation.oid);
        let mut tables = Vec::new();
        for relation in relations.into_iter().filter(|relation| !self.is_member((PG_CLASS, relation.oid))) {
            let column = |attribute: &Attribute| Column {
                name: attribute.name.clone(),
                declared_type: attribute.sql_type.clone(),
                not_null: attribute.not_null,
                default: attribute.default.clone().filter(|_| attribute.generated.is_none()),
                generated: attribute.generated.is_some(),
            };
            tables.push(Table {
                name: relation.shown.clone(),
                kind: match relation.kind {
                    'p' => TableKind::Partitioned,
                    'f' => TableKind::Foreign,
                    'm' => TableKind::Materialized,
                    _ => TableKind::Ordinary,
                },
                columns: relation.columns.iter().map(column).collect(),
                primary_key: self.primary.get(&relation.oid).cloned().unwrap_or_default(),
                foreign_keys: self.foreign.get(&relation.oid).cloned().unwrap_or_default(),
                without_rowid: false,
                strict: false,
            });
        }
        self.catalog.tables = tables;
    }
}

/// Writes the server's word for a kind of object as its statements have it.
fn statement_word(kind: &str) -> String {
    match kind {
        "foreign-data wrapper" => "FOREIGN DATA WRAPPER".to_owned(),
        "statistics object" => "STATISTICS".to_owned(),
        kind => kind.to_uppercase(),
    }
}

/// Reads the settings that belong to a database's state: what its sequences say, what `ALTER DATABASE` set, and what only a new one can be given.
///
/// # Errors
/// The server's.
pub fn settings(link: &Link, version: u32, catalog: &Catalog) -> Result<Settings, EngineError> {
    let mut settings = Settings::new();
    let exact = |value: String| Setting { value, scope: SettingScope::Exact };
    let sequences: Vec<&Relation> = {
        let mut found: Vec<&Relation> =
            catalog.relations.values().filter(|r| r.kind == 'S' && !catalog.members.contains(&(PG_CLASS, r.oid))).collect();
        found.sort_by(|a, b| a.shown.cmp(&b.shown));
        found
    };
    for some in sequences.chunks(200) {
        let questions: Vec<String> =
            some.iter().map(|s| format!("SELECT {}, last_value, is_called FROM {}", literal(&s.shown), s.sql())).collect();
        for row in &link.rows(&questions.join(" UNION ALL "), "reading sequences")? {
            let called = if row.get(2) == Some("t") { "called" } else { "not called" };
            settings.insert(format!("sequence {}", text(row, 0)), exact(format!("{} {called}", text(row, 1))));
        }
    }
    let rows = link.rows(
        "SELECT pg_catalog.split_part(c, '=', 1), pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1), r.rolname FROM pg_catalog.pg_db_role_setting s \
         LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, LATERAL pg_catalog.unnest(s.setconfig) c \
         WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        "reading the database's settings",
    )?;
    for row in &rows {
        let of = row.get(2).map(|role| format!(" for {role}")).unwrap_or_default();
        settings.insert(format!("setting {}{of}", text(row, 0)), exact(text(row, 1)));
    }
    let locale = if version >= 170_000 {
        "datlocale"
    } else if version >= 150_000 {
        "daticulocale"
    } else {
        "NULL::text"
    };
    let provider = if version >= 150_000 { "datlocprovider" } else { "'c'" };
    let rows = link.rows(
        &format!(
            "SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype, {provider}, {locale} \
             FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"
        ),
        "reading the database's settings",
    )?;
    if let Some(row) = rows.first() {
        for (at, name) in ["encoding", "collate", "ctype", "locale provider", "locale"].iter().enumerate() {
            if let Some(value) = row.get(at) {
                settings.insert((*name).to_owned(), Setting { value: value.to_owned(), scope: SettingScope::Creation });
            }
        }
    }
    Ok(settings)
}
