//! Statements that make, change and remove objects, told by what a schema says of them. Pure.

use std::collections::BTreeMap;

use super::dump;
use super::name::{literal, quoted, sql_of_identity, sql_of_shown};
use crate::schema::{ObjectKind, SchemaObject};

/// Tells whether a function is one that the server makes, and removes, with a range type.
pub fn is_of_range(object: &SchemaObject) -> bool {
    let definition = object.facts.get("definition").map(String::as_str).unwrap_or_default();
    object.kind == ObjectKind::Function && definition.contains("LANGUAGE internal") && definition.contains("range_constructor")
}

/// Returns the statements that make an object; none for what comes by itself.
pub fn making(object: &SchemaObject) -> Option<String> {
    if is_of_range(object) {
        return None;
    }
    let sql = dump::fixed_point(object.sql.as_deref()?);
    if object.kind == ObjectKind::Function {
        for word in ["FUNCTION", "PROCEDURE", "AGGREGATE"] {
            if let Some(rest) = sql.strip_prefix(&format!("CREATE {word} ")) {
                return Some(format!("CREATE OR REPLACE {word} {rest}"));
            }
        }
    }
    Some(sql)
}

/// Returns the names of a table's columns.
pub fn columns(table: &SchemaObject) -> Vec<String> {
    table.facts.get("columns").and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default()
}

/// Returns the statements that take from a table that stays what the target does not have: columns, defaults, NOT NULL, checks.
pub fn removals(table_sql: &str, live: &SchemaObject, target: &SchemaObject) -> Vec<String> {
    let gone: Vec<String> = columns(live).into_iter().filter(|column| !target.facts.contains_key(&format!("type {column}"))).collect();
    let stays = |name: &str| !gone.iter().any(|gone| gone == name);
    let mut removals = Vec::new();
    for (part, _) in live.facts.iter().filter(|(part, value)| target.facts.get(*part) != Some(*value)) {
        let Some((word, name)) = part.split_once(' ') else { continue };
        match word {
            "default" if stays(name) => {
                removals.push(format!("ALTER TABLE ONLY {table_sql} ALTER COLUMN {} DROP DEFAULT", quoted(name)));
            }
            "check" => removals.push(format!("ALTER TABLE {table_sql} DROP CONSTRAINT IF EXISTS {}", quoted(name))),
            "not" => {
                let name = name.strip_prefix("null ").unwrap_or(name);
                if stays(name) {
                    removals.push(format!("ALTER TABLE {table_sql} ALTER COLUMN {} DROP NOT NULL", quoted(name)));
                }
            }
            _ => {}
        }
    }
    removals.extend(gone.iter().map(|column| format!("ALTER TABLE {table_sql} DROP COLUMN IF EXISTS {}", quoted(column))));
    removals
}

/// Returns the statements that bring an object that stays from these facts to what the target says of it, as far as that needs no new one:
/// defaults, NOT NULL, checks, and the parameters of a sequence.
pub fn additions(relation_sql: &str, found: &BTreeMap<String, String>, target: &SchemaObject) -> Vec<String> {
    let differing: Vec<(&String, &String)> = target.facts.iter().filter(|(part, value)| found.get(*part) != Some(*value)).collect();
    if target.kind == ObjectKind::Sequence {
        return if differing.is_empty() { Vec::new() } else { vec![sequence(relation_sql, target)] };
    }
    let mut statements = Vec::new();
    for (part, value) in differing {
        let Some((word, name)) = part.split_once(' ') else { continue };
        match word {
            "default" => statements.push(format!("ALTER TABLE ONLY {relation_sql} ALTER COLUMN {} SET DEFAULT {value}", quoted(name))),
            "check" => {
                statements.push(format!("ALTER TABLE {relation_sql} ADD CONSTRAINT {} {}", quoted(name), dump::fixed_point(value)));
            }
            "not" => {
                let column = quoted(name.strip_prefix("null ").unwrap_or(name));
                statements.push(format!("ALTER TABLE {relation_sql} ALTER COLUMN {column} SET NOT NULL"));
            }
            _ => {}
        }
    }
    statements
}

fn sequence(sequence: &str, target: &SchemaObject) -> String {
    let fact = |name: &str| target.facts.get(name).map(String::as_str).unwrap_or_default();
    let cycle = if fact("cycle") == "t" { "CYCLE" } else { "NO CYCLE" };
    format!(
        "ALTER SEQUENCE {sequence} AS {} INCREMENT BY {} MINVALUE {} MAXVALUE {} START WITH {} CACHE {} {cycle}",
        fact("type"),
        fact("increment"),
        fact("minimum"),
        fact("maximum"),
        fact("start"),
        fact("cache")
    )
}

/// Returns the statements that remove an object, of which nothing but the schema is known; none for what goes with something else.
pub fn removing(default_schema: &str, object: &SchemaObject) -> Option<String> {
    let SchemaObject { kind, name, table, facts, .. } = object;
    let sql = || sql_of_shown(default_schema, name);
    let table_sql = || sql_of_shown(default_schema, table);
    // What belongs to a table has its name before its own.
    let own = || quoted(name.strip_prefix(table.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name));
    Some(match kind {
        ObjectKind::Table if facts.get("kind").is_some_and(|kind| kind.starts_with('f')) => {
            format!("DROP FOREIGN TABLE IF EXISTS {}", sql())
        }
        ObjectKind::Type => {
            format!("DROP {} IF EXISTS {}", if facts.contains_key("base") { "DOMAIN" } else { "TYPE" }, sql())
        }
        ObjectKind::Sequence => match facts.get("identity of") {
            Some(of) => {
                let column = quoted(of.strip_prefix(table.as_str()).and_then(|rest| rest.strip_prefix('.')).unwrap_or(of));
                format!("ALTER TABLE IF EXISTS {} ALTER COLUMN {column} DROP IDENTITY IF EXISTS", table_sql())
            }
            None => format!("DROP SEQUENCE IF EXISTS {}", sql()),
        },
        ObjectKind::Table | ObjectKind::Index | ObjectKind::View | ObjectKind::MaterializedView | ObjectKind::Statistics => {
            format!("DROP {} IF EXISTS {}", kind.word().to_uppercase(), sql())
        }
        ObjectKind::Namespace | ObjectKind::Extension | ObjectKind::Publication | ObjectKind::EventTrigger => {
            format!("DROP {} IF EXISTS {}", kind.word().to_uppercase(), quoted(name))
        }
        ObjectKind::Function if is_of_range(object) => return None,
        ObjectKind::Function => {
            let word = match facts.get("signature").and_then(|signature| signature.chars().next()) {
                Some('a') => "AGGREGATE",
                Some('p') => "PROCEDURE",
                _ => "FUNCTION",
            };
            format!("DROP {word} IF EXISTS {}", sql_of_identity(default_schema, name))
        }
        ObjectKind::Constraint | ObjectKind::ForeignKey => {
            format!("ALTER TABLE IF EXISTS {} DROP CONSTRAINT IF EXISTS {}", table_sql(), own())
        }
        ObjectKind::Trigger | ObjectKind::Rule | ObjectKind::Policy => {
            format!("DROP {} IF EXISTS {} ON {}", kind.word().to_uppercase(), own(), table_sql())
        }
        ObjectKind::Comment => {
            let suffix = format!(" IS {}", literal(facts.get("comment")?));
            format!("{} IS NULL", object.sql.as_deref()?.strip_suffix(&suffix)?)
        }
        ObjectKind::Other => return removing_other(default_schema, object),
        // One goes with its table, or is set anew; the others need to know who owns the object.
        ObjectKind::Default | ObjectKind::Owner | ObjectKind::Privileges => return None,
    })
}

/// The kinds of objects that are told apart by their text alone and have no schema, in the server's words and in those of statements.
const WITHOUT_SCHEMA: [(&str, &str); 5] = [
    ("language", "LANGUAGE"),
    ("foreign-data wrapper", "FOREIGN DATA WRAPPER"),
    ("server", "SERVER"),
    ("access method", "ACCESS METHOD"),
    ("subscription", "SUBSCRIPTION"),
];

/// Those that have one.
const WITH_SCHEMA: [&str; 9] = [
    "conversion",
    "collation",
    "operator class",
    "operator family",
    "operator",
    "text search dictionary",
    "text search parser",
    "text search configuration",
    "text search template",
];

fn removing_other(default_schema: &str, object: &SchemaObject) -> Option<String> {
    let SchemaObject { name, table, facts, .. } = object;
    let after = |word: &str| name.strip_prefix(word).and_then(|rest| rest.strip_prefix(' '));
    let sql = |shown: &str| sql_of_shown(default_schema, shown);
    if let Some(table) = after("row security") {
        return Some(format!("ALTER TABLE IF EXISTS {} DISABLE ROW LEVEL SECURITY", sql(table)));
    }
    if let Some(partition) = after("table attach") {
        return Some(format!("ALTER TABLE {} DETACH PARTITION {}", sql(facts.get("parent")?), sql(partition)));
    }
    if let Some(sequence) = after("sequence owned by") {
        return Some(format!("ALTER SEQUENCE IF EXISTS {} OWNED BY NONE", sql(sequence)));
    }
    if let Some(publication) = facts.get("publication") {
        return Some(format!("ALTER PUBLICATION {} DROP TABLE {}", quoted(publication), sql(table)));
    }
    if name.starts_with(DEFAULT_PRIVILEGES) {
        return Some(no_default_privileges(object.sql.as_deref()?));
    }
    if let Some(identity) = after("user mapping") {
        return Some(format!(
            "DROP USER MAPPING IF EXISTS FOR {}",
            identity.strip_prefix("for ").unwrap_or(identity).replacen(" on server ", " SERVER ", 1)
        ));
    }
    if let Some(identity) = after("transform") {
        let identity = identity.replacen("for ", "FOR ", 1).replacen(" on language ", " LANGUAGE ", 1);
        return Some(format!("DROP TRANSFORM IF EXISTS {identity}"));
    }
    if let Some(identity) = after("cast") {
        return Some(format!("DROP CAST IF EXISTS {identity}"));
    }
    let plain = WITHOUT_SCHEMA.iter().find_map(|(word, sql)| Some((*sql, after(word)?)));
    if let Some((word, identity)) = plain {
        return Some(format!("DROP {word} IF EXISTS {identity}"));
    }
    let (word, identity) = WITH_SCHEMA.iter().find_map(|word| Some((word, after(word)?)))?;
    Some(format!("DROP {} IF EXISTS {}", word.to_uppercase(), sql_of_identity(default_schema, identity)))
}

/// How the names of default privileges begin.
pub const DEFAULT_PRIVILEGES: &str = "default privileges of ";

/// Turns the statements that give privileges by default into those that leave what the server gives by itself.
fn no_default_privileges(sql: &str) -> String {
    let mut statements: Vec<String> = Vec::new();
    let mut first = None;
    for statement in sql.split("; ") {
        let parts = statement.split_once(" GRANT ").or_else(|| statement.split_once(" REVOKE "));
        let Some((begin, rest)) = parts else { continue };
        let Some((_, rest)) = rest.split_once(" ON ") else { continue };
        let Some((word, role)) = rest.split_once(" TO ").or_else(|| rest.split_once(" FROM ")) else { continue };
        let role = role.strip_suffix(" WITH GRANT OPTION").unwrap_or(role);
        first.get_or_insert((begin, word));
        let revoke = format!("{begin} REVOKE ALL ON {word} FROM {role}");
        if !statements.contains(&revoke) {
            statements.push(revoke);
        }
    }
    if let Some((begin, word)) = first
        && !begin.contains(" IN SCHEMA ")
    {
        let owner = begin.strip_prefix("ALTER DEFAULT PRIVILEGES FOR ROLE ").unwrap_or_default();
        statements.push(format!("{begin} GRANT ALL ON {word} TO {owner}"));
        if matches!(word, "FUNCTIONS" | "TYPES") {
            statements.push(format!("{begin} GRANT ALL ON {word} TO PUBLIC"));
        }
    }
    statements.join(";\n")
}

/// Returns the statements of an object's privileges that take away what was given.
pub fn revokes(privileges: &SchemaObject) -> Vec<&str> {
    privileges.sql.iter().flat_map(|sql| sql.split(";\n")).filter(|statement| statement.starts_with("REVOKE ")).collect()
}

/// Returns the statements that leave an object the privileges that its owner gave nobody: those that the server gives by itself.
pub fn plain_privileges(privileges: &SchemaObject, owner: Option<&str>) -> Vec<String> {
    let revokes = revokes(privileges);
    let mut statements: Vec<String> = revokes.iter().map(|statement| (*statement).to_owned()).collect();
    let place = revokes.first().and_then(|statement| statement.strip_prefix("REVOKE ALL ON ")).and_then(|rest| rest.rsplit_once(" FROM "));
    // Those of a column are none.
    if let Some((place, _)) = place {
        if let Some(owner) = owner {
            statements.push(format!("GRANT ALL ON {place} TO {}", quoted(owner)));
        }
        if ["FUNCTION ", "PROCEDURE ", "TYPE ", "DOMAIN "].iter().any(|word| place.starts_with(word)) {
            statements.push(format!("GRANT ALL ON {place} TO PUBLIC"));
        }
    }
    statements
}

/// Takes apart the name of a database's setting: the beginning of the statement that changes it, and the variable.
pub fn setting_of(name: &str, database_sql: &str) -> Option<(String, String)> {
    let rest = name.strip_prefix("setting ")?;
    Some(match rest.split_once(" for ") {
        Some((variable, role)) => (format!("ALTER ROLE {} IN DATABASE {database_sql}", quoted(role)), variable.to_owned()),
        None => (format!("ALTER DATABASE {database_sql}"), rest.to_owned()),
    })
}

/// Writes a variable's value. Lists of names are kept as the server has them, already quoted.
pub fn setting_value(variable: &str, value: &str) -> String {
    const LISTS: [&str; 6] = [
        "search_path",
        "DateStyle",
        "temp_tablespaces",
        "session_preload_libraries",
        "local_preload_libraries",
        "shared_preload_libraries",
    ];
    if LISTS.iter().any(|list| list.eq_ignore_ascii_case(variable)) && !value.is_empty() { value.to_owned() } else { literal(value) }
}

/// One column of a key: its name, its type, and the operator that compares it.
pub type KeyPart = (String, String, String);

/// Writes the rows of a statement as a table `v`, and how they are joined by their locator. Their cells are lists of texts, one a column: these, or
/// the statement's parameters.
pub fn joined(locator: &[KeyPart], values: &[(usize, String)], lists: &[String]) -> (String, String) {
    let width = values.iter().map(|(at, _)| at + 1).max().unwrap_or(0).max(locator.len());
    let list = |at: usize| lists.get(at).map_or_else(|| format!("${}::text[]", at + 1), |list| format!("{list}::text[]"));
    let parameters: Vec<String> = (0..width).map(list).collect();
    let names: Vec<String> = (0..width).map(|n| format!("c{n}")).collect();
    let cast = |at: usize, sql_type: &str| {
        let value = format!("u.c{at}::{sql_type}");
        // The name of nothing is read where a row is inserted, and by no cast.
        if sql_type.starts_with("reg") && !sql_type.ends_with("[]") {
            format!("CASE WHEN u.c{at} = '-' THEN 0::pg_catalog.oid::{sql_type} ELSE {value} END AS c{at}")
        } else {
            format!("{value} AS c{at}")
        }
    };
    let casts: Vec<String> = locator
        .iter()
        .enumerate()
        .map(|(at, (_, sql_type, _))| cast(at, sql_type))
        .chain(values.iter().map(|(at, sql_type)| cast(*at, sql_type)))
        .collect();
    let from = format!(
        "(SELECT {} FROM ROWS FROM ({}) AS u({})) v",
        casts.join(", "),
        parameters.iter().map(|p| format!("pg_catalog.unnest({p})")).collect::<Vec<_>>().join(", "),
        names.join(", ")
    );
    let on: Vec<String> =
        locator.iter().enumerate().map(|(at, (name, _, operator))| format!("t.{} {operator} v.c{at}", quoted(name))).collect();
    (from, on.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: ObjectKind, name: &str, table: &str, facts: &[(&str, &str)], expected: &str) {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let object = SchemaObject { facts, ..SchemaObject::new(kind, name, table, None) };
        assert_eq!(removing("public", &object).as_deref(), Some(expected));
    }

    #[test]
    fn what_a_schema_says_of_an_object_tells_how_it_is_removed() {
        use ObjectKind as K;
        check(K::Table, "a.users", "a.users", &[("kind", "rp")], r#"DROP TABLE IF EXISTS "a"."users""#);
        check(K::Table, "far", "far", &[("kind", "fp")], r#"DROP FOREIGN TABLE IF EXISTS "public"."far""#);
        check(K::Type, "email", "", &[("base", "text")], r#"DROP DOMAIN IF EXISTS "public"."email""#);
        check(K::Namespace, "a.b", "", &[], r#"DROP SCHEMA IF EXISTS "a.b""#);
        check(K::Sequence, "s", "", &[], r#"DROP SEQUENCE IF EXISTS "public"."s""#);
        let identity = r#"ALTER TABLE IF EXISTS "a"."t" ALTER COLUMN "id" DROP IDENTITY IF EXISTS"#;
        check(K::Sequence, "a.t_id_seq", "a.t", &[("identity of", "a.t.id")], identity);
        check(K::Function, "f(integer)", "", &[("signature", "p (a integer) ")], r#"DROP PROCEDURE IF EXISTS "public".f(integer)"#);
        check(K::Constraint, "a.t.t_key", "a.t", &[], r#"ALTER TABLE IF EXISTS "a"."t" DROP CONSTRAINT IF EXISTS "t_key""#);
        check(K::Trigger, "t.x.y", "t", &[], r#"DROP TRIGGER IF EXISTS "x.y" ON "public"."t""#);
        check(K::Other, "row security t", "t", &[], r#"ALTER TABLE IF EXISTS "public"."t" DISABLE ROW LEVEL SECURITY"#);
        check(K::Other, "table attach p", "p", &[("parent", "a.t")], r#"ALTER TABLE "a"."t" DETACH PARTITION "public"."p""#);
        check(K::Other, "operator ===(text,text)", "", &[], r#"DROP OPERATOR IF EXISTS "public".===(text,text)"#);
        check(K::Other, "operator class a.o USING btree", "", &[], "DROP OPERATOR CLASS IF EXISTS a.o USING btree");
        check(K::Other, "cast (public.address AS text)", "", &[], "DROP CAST IF EXISTS (public.address AS text)");
        check(K::Other, "server elsewhere", "", &[], "DROP SERVER IF EXISTS elsewhere");
    }

    #[test]
    fn functions_of_a_range_come_and_go_with_it() {
        let mut object = SchemaObject::new(ObjectKind::Function, "span(integer,integer)", "", Some("CREATE FUNCTION x".to_owned()));
        assert!(making(&object).is_some() && removing("public", &object).is_some());
        let definition = " LANGUAGE internal\n IMMUTABLE\nAS $function$range_constructor2$function$";
        object.facts.insert("definition".to_owned(), definition.to_owned());
        assert!(making(&object).is_none() && removing("public", &object).is_none());
    }

    #[test]
    fn privileges_go_by_what_gave_them() {
        let sql = "ALTER DEFAULT PRIVILEGES FOR ROLE \"ann\" REVOKE ALL ON TYPES FROM PUBLIC; \
                   ALTER DEFAULT PRIVILEGES FOR ROLE \"ann\" GRANT USAGE ON TYPES TO bob WITH GRANT OPTION";
        let removed = no_default_privileges(sql);
        let begin = "ALTER DEFAULT PRIVILEGES FOR ROLE \"ann\"";
        let expected = format!(
            "{begin} REVOKE ALL ON TYPES FROM PUBLIC;\n{begin} REVOKE ALL ON TYPES FROM bob;\n\
             {begin} GRANT ALL ON TYPES TO \"ann\";\n{begin} GRANT ALL ON TYPES TO PUBLIC"
        );
        assert_eq!(removed, expected);
        let sql =
            "REVOKE ALL ON TABLE public.t FROM PUBLIC;\nREVOKE ALL ON TABLE public.t FROM bob;\nGRANT SELECT ON TABLE public.t TO bob";
        let object = SchemaObject::new(ObjectKind::Privileges, "table t", "t", Some(sql.to_owned()));
        let plain = plain_privileges(&object, Some("ann")).join("; ");
        assert_eq!(
            plain,
            "REVOKE ALL ON TABLE public.t FROM PUBLIC; REVOKE ALL ON TABLE public.t FROM bob; GRANT ALL ON TABLE public.t TO \"ann\""
        );
    }
}
