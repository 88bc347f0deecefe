//! The rebuild of a table that others refer to ON DELETE CASCADE: with foreign keys on, DROP TABLE deletes their rows.

use super::lex::quoted;
use super::model::{Key, KeysSaid, Model, Rows, Table};
use super::script::Wrapper;
use super::statement::Statement;
use super::{Ask, Event, Found, Severity, Step, counted};

/// What `dbelay check --explain rebuild-cascades` prints.
pub const PAGE: &str = "\
A table is rebuilt (create, copy, drop, rename), others refer to it ON DELETE CASCADE, and foreign keys are on.

DROP TABLE first deletes the rows one by one then, and each takes along the rows that refer to it, or empties their columns (SET NULL, SET
DEFAULT). The migration succeeds; the rows are gone. `PRAGMA foreign_keys=OFF` is the remedy, and it does nothing inside a transaction: tools
that run each script in one (drizzle, sqlx, dbmate, goose) make it void. `defer_foreign_keys` does not help: it defers errors, not actions.

Where it depends on the tool whether foreign keys are on, this is a warning.

Example:
  CREATE TABLE chats_new (...);
  INSERT INTO chats_new SELECT * FROM chats;
  DROP TABLE chats;                            -- deletes every message of every chat
  ALTER TABLE chats_new RENAME TO chats;

Instead: `PRAGMA foreign_keys=OFF` outside of any transaction before it, and `PRAGMA foreign_key_check` after it. A script can leave the tool's
transaction itself: `COMMIT; PRAGMA foreign_keys=OFF; BEGIN; ...; COMMIT; PRAGMA foreign_keys=ON; BEGIN;`. sqlx runs a script without
one if it begins with `-- no-transaction`, dbmate with `-- migrate:up transaction:false`, goose with `-- +goose NO TRANSACTION`. Where the tool
insists: copy the referring rows into a table of their own first, and back afterwards; or avoid the rebuild (ADD COLUMN, RENAME COLUMN).

Silence: `-- dbelay: allow rebuild-cascades` above the DROP TABLE, or in dbelay.toml under [check]
  ignore = [\"rebuild-cascades:chats\"]
";

/// How far rows are followed from table to table.
const DEPTH_MAX: usize = 6;

/// What foreign keys do at a DROP TABLE.
enum Keys {
    /// They act, for this reason.
    On(String),
    /// They do nothing.
    Off,
    /// Nobody can tell from here, for this reason.
    Depends(String),
}

/// Looks at each DROP TABLE of a table whose rows went elsewhere.
pub fn check(event: &Event<'_>, ask: &mut Ask<'_>) -> Vec<Found> {
    let Event::Before(step) = event else { return Vec::new() };
    let Statement::DropTable { name } = step.statement else { return Vec::new() };
    let Some(table) = step.model.table(name) else { return Vec::new() };
    let is_rebuild = step.model.tables.iter().any(|other| other.name != table.name && other.carries_of(table));
    if !is_rebuild || table.rows == Rows::Empty {
        return Vec::new();
    }
    let (severity, why) = match keys(step.model.keys_said, step.wrapper) {
        Keys::On(why) => (Severity::Error, why),
        Keys::Off => return Vec::new(),
        Keys::Depends(why) => (Severity::Warning, why),
    };
    cascade(step, table, severity, why, ask).into_iter().collect()
}

fn keys(said: KeysSaid, wrapper: &Wrapper) -> Keys {
    let void = "inside a transaction `PRAGMA foreign_keys=OFF` does nothing";
    let tool = wrapper.tool.unwrap_or("the tool");
    let is_off_by_default = wrapper.has_keys == Some(false);
    match said {
        KeysSaid::OffSurely => Keys::Off,
        KeysSaid::On => Keys::On("the script turns foreign keys on".to_owned()),
        KeysSaid::OffInTransaction if is_off_by_default => {
            Keys::Depends(format!("{void}, and {tool} has foreign keys on if its URL says so"))
        }
        KeysSaid::OffInTransaction => Keys::On(format!("{void}, and the script begins one before")),
        KeysSaid::Off => match wrapper.is_transaction {
            Some(false) => Keys::Off,
            Some(true) if is_off_by_default => {
                Keys::Depends(format!("{void}, {tool} runs the script in one, and has foreign keys on if its URL says so"))
            }
            Some(true) => Keys::On(format!("{void}, and {tool} runs the script in one")),
            None => Keys::Depends(format!("{void}; it depends on whether {tool} runs the script in one")),
        },
        KeysSaid::Nothing if is_off_by_default => Keys::Depends(format!("{tool} has foreign keys on if its URL says so")),
        KeysSaid::Nothing => Keys::On("nothing turns foreign keys off, which most tools have on".to_owned()),
    }
}

/// Rows that a DROP TABLE takes along, or whose columns it empties.
struct Effect {
    table: String,
    rows: u64,
    sentence: String,
}

fn cascade(step: &Step<'_>, table: &Table, severity: Severity, why: String, ask: &mut Ask<'_>) -> Option<Found> {
    let mut effects = Vec::new();
    let query = table.query()?;
    follow(step.model, table, &query, &mut vec![table.name.clone()], &mut effects, ask);
    let first = effects.first()?;
    let name = table.live.as_deref().unwrap_or(&table.name);
    let message = format!("`DROP TABLE {}` in the rebuild of `{name}` {}", table.name, first.sentence);
    let rows = effects.iter().map(|effect| effect.rows).sum();
    let instead = match step.wrapper.tool {
        Some("sqlx") => "`PRAGMA foreign_keys=OFF` before it, in a script that begins with `-- no-transaction`",
        Some("dbmate") => "`PRAGMA foreign_keys=OFF` before it, under `-- migrate:up transaction:false`",
        Some("goose") => "`PRAGMA foreign_keys=OFF` before it, in a script with `-- +goose NO TRANSACTION`",
        Some("drizzle") => {
            "leave the transaction first: `COMMIT; PRAGMA foreign_keys=OFF; BEGIN;` before it, `COMMIT; PRAGMA foreign_keys=ON; BEGIN;` after it"
        }
        _ => "`PRAGMA foreign_keys=OFF` outside of any transaction before it, `PRAGMA foreign_key_check` after it",
    };
    let mut found = Found { severity, ..Found::new(step.subject, message, instead) }.about(name, None).rows(rows, Vec::new());
    found.notes = effects.iter().skip(1).map(|effect| format!("it also {}", effect.sentence)).collect();
    found.notes.push(why);
    let mut tables: Vec<&str> = effects.iter().map(|effect| effect.table.as_str()).collect();
    tables.dedup();
    found.notes.push(format!(
        "`dbelay diff pre live` would show the loss in {}",
        tables.iter().map(|table| format!("`{table}`")).collect::<Vec<_>>().join(", ")
    ));
    Some(found)
}

/// Follows deleted rows, given by a query, to those who refer to them.
fn follow(model: &Model, parent: &Table, deleted: &str, seen: &mut Vec<String>, effects: &mut Vec<Effect>, ask: &mut Ask<'_>) {
    if seen.len() > DEPTH_MAX {
        return;
    }
    for child in &model.tables {
        if seen.contains(&child.name) {
            continue;
        }
        for key in child.foreign_keys.iter().filter(|key| key.parent.eq_ignore_ascii_case(&parent.name)) {
            let is_cascade = key.on_delete == "CASCADE";
            if !is_cascade && !matches!(key.on_delete.as_str(), "SET NULL" | "SET DEFAULT") {
                continue;
            }
            let Some(query) = referring(parent, deleted, child, key) else { continue };
            let Some(rows) = ask.count(&query, "1").filter(|rows| *rows > 0) else { continue };
            let columns = key.columns.join(", ");
            let sentence = if is_cascade {
                format!(
                    "deletes {} of `{}`, which refer to `{}` by `{columns}` ON DELETE CASCADE",
                    counted(rows, "row"),
                    child.name,
                    parent.name
                )
            } else {
                format!(
                    "loses `{columns}` in {} of `{}`, which refers to `{}` ON DELETE {}",
                    counted(rows, "row"),
                    child.name,
                    parent.name,
                    key.on_delete
                )
            };
            effects.push(Effect { table: child.name.clone(), rows, sentence });
            if is_cascade {
                seen.push(child.name.clone());
                follow(model, child, &query, seen, effects, ask);
                seen.pop();
            }
        }
    }
}

fn referring(parent: &Table, deleted: &str, child: &Table, key: &Key) -> Option<String> {
    let parent_columns = if key.parent_columns.is_empty() { &parent.primary_key } else { &key.parent_columns };
    if parent_columns.len() != key.columns.len() || key.columns.is_empty() {
        return None;
    }
    parent.query_of(parent_columns.iter().map(String::as_str))?;
    let rows = child.query_of(key.columns.iter().map(String::as_str))?;
    let pairs: Vec<String> =
        parent_columns.iter().zip(&key.columns).map(|(to, from)| format!("p.{} = c.{}", quoted(to), quoted(from))).collect();
    Some(format!("SELECT c.* FROM ({rows}) AS c WHERE EXISTS (SELECT 1 FROM ({deleted}) AS p WHERE {})", pairs.join(" AND ")))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catches, findings, quiet, report};
    use super::super::{Options, Severity};

    const RULE: &str = "rebuild-cascades";
    const LIVE: &str = "CREATE TABLE chats(id INTEGER PRIMARY KEY, title TEXT);
        CREATE TABLE messages(id INTEGER PRIMARY KEY, chat_id INTEGER REFERENCES chats(id) ON DELETE CASCADE, body TEXT);
        CREATE TABLE likes(id INTEGER PRIMARY KEY, message_id INTEGER REFERENCES messages ON DELETE CASCADE);
        CREATE TABLE pins(id INTEGER PRIMARY KEY, chat_id INTEGER REFERENCES chats(id) ON DELETE SET NULL);
        CREATE TABLE logs(id INTEGER PRIMARY KEY, chat_id INTEGER REFERENCES chats(id));
        INSERT INTO chats VALUES(1,'a'),(2,'b'); INSERT INTO messages VALUES(1,1,'x'),(2,1,'y'),(3,NULL,'z'); INSERT INTO likes VALUES(1,1),(2,3),(3,2),(4,2);
        INSERT INTO pins VALUES(1,2); INSERT INTO logs VALUES(1,1);";
    const REBUILD: &str = "CREATE TABLE `__new_chats` (`id` integer PRIMARY KEY NOT NULL, `title` text NOT NULL);\n--> statement-breakpoint\nINSERT INTO `__new_chats`(\"id\", \"title\") SELECT \"id\", \"title\" FROM `chats`;--> statement-breakpoint\nDROP TABLE `chats`;--> statement-breakpoint\nALTER TABLE `__new_chats` RENAME TO `chats`;--> statement-breakpoint\n";

    fn plain() -> String {
        REBUILD.replace("--> statement-breakpoint", "")
    }

    fn severity(script: &str, ledger: &str) -> Option<Severity> {
        let options = Options { ledgers: vec![ledger.to_owned()], ..Options::default() };
        let report = report(LIVE, &[script], &options);
        report.findings.iter().find(|finding| finding.rule == RULE).map(|finding| finding.severity)
    }

    #[test]
    fn rows_that_go_along_are_found_also_in_the_next_table() {
        catches(
            RULE,
            LIVE,
            &plain(),
            &[
                "deletes 2 rows of `messages`",
                "by `chat_id` ON DELETE CASCADE",
                "deletes 3 rows of `likes`",
                "loses `chat_id` in 1 row of `pins`",
            ],
        );
        let old = "ALTER TABLE chats RENAME TO old; CREATE TABLE chats(id INTEGER PRIMARY KEY, title TEXT); INSERT INTO chats SELECT * FROM old; DROP TABLE old;";
        catches(RULE, LIVE, old, &["`DROP TABLE old` in the rebuild of `chats`", "2 rows of `messages`"]);
        catches(
            RULE,
            LIVE,
            "CREATE TABLE t AS SELECT * FROM chats; DROP TABLE chats; CREATE TABLE chats(id INTEGER PRIMARY KEY, title); INSERT INTO chats SELECT * FROM t; DROP TABLE t;",
            &["2 rows of `messages`"],
        );
        let own = "CREATE TABLE nodes(id INTEGER PRIMARY KEY, up INTEGER REFERENCES nodes(id) ON DELETE CASCADE); INSERT INTO nodes VALUES(1,NULL),(2,1);";
        catches(
            RULE,
            own,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, up INTEGER REFERENCES nodes(id) ON DELETE CASCADE); INSERT INTO n SELECT * FROM nodes; DROP TABLE nodes; ALTER TABLE n RENAME TO nodes;",
            &["1 row of `n`"],
        );
    }

    #[test]
    fn a_pragma_counts_where_it_can_work() {
        let off = format!("PRAGMA foreign_keys=OFF;{}", plain());
        assert_eq!(severity(&plain(), ""), Some(Severity::Error));
        assert_eq!(severity(&off, ""), Some(Severity::Warning));
        assert_eq!(
            severity(&format!("PRAGMA foreign_keys=OFF;--> statement-breakpoint\n{REBUILD}PRAGMA foreign_keys=ON;"), ""),
            Some(Severity::Error)
        );
        assert_eq!(severity(&off, "_sqlx_migrations"), Some(Severity::Error));
        assert_eq!(severity(&format!("-- no-transaction\n{off}"), "_sqlx_migrations"), None);
        assert_eq!(severity(&format!("BEGIN;{off}COMMIT;"), ""), Some(Severity::Error));
        assert_eq!(severity(&format!("PRAGMA foreign_keys=OFF;BEGIN;{}COMMIT;", plain()), "_prisma_migrations"), None);
        assert_eq!(severity(&format!("PRAGMA foreign_keys=OFF;BEGIN;{}COMMIT;", plain()), ""), None);
        let left = format!(
            "COMMIT;--> statement-breakpoint\nPRAGMA foreign_keys=OFF;--> statement-breakpoint\nBEGIN;{REBUILD}COMMIT;PRAGMA foreign_keys=ON;BEGIN;"
        );
        assert_eq!(severity(&left, "__drizzle_migrations"), None);
        assert_eq!(
            severity(&format!("COMMIT TRANSACTION;PRAGMA foreign_keys=OFF;BEGIN TRANSACTION;{}", plain()), "_sqlx_migrations"),
            None
        );
        assert_eq!(severity(&format!("-- migrate:up\n{off}"), ""), Some(Severity::Warning));
        assert_eq!(severity(&format!("-- migrate:up transaction:false\n{off}\n-- migrate:down\nDROP TABLE chats;"), ""), None);
        assert_eq!(severity(&format!("PRAGMA defer_foreign_keys=ON;{}", plain()), ""), Some(Severity::Error));
    }

    #[test]
    fn nothing_refers_to_it_or_nothing_is_there() {
        quiet(
            LIVE,
            "CREATE TABLE n(id INTEGER PRIMARY KEY, message_id INTEGER); INSERT INTO n SELECT * FROM likes; DROP TABLE likes; ALTER TABLE n RENAME TO likes;",
        );
        quiet(LIVE, &format!("DELETE FROM likes; DELETE FROM messages; DELETE FROM pins; {}", plain()));
        quiet(
            "CREATE TABLE chats(id INTEGER PRIMARY KEY, title TEXT); CREATE TABLE m(id INTEGER PRIMARY KEY, chat_id REFERENCES chats ON DELETE CASCADE);",
            &plain(),
        );
        quiet(
            "CREATE TABLE chats(id INTEGER PRIMARY KEY, title TEXT); CREATE TABLE m(id INTEGER PRIMARY KEY, chat_id REFERENCES chats); INSERT INTO chats VALUES(1,'a'); INSERT INTO m VALUES(1,1);",
            &plain(),
        );
        assert!(findings(LIVE, &format!("-- dbelay: allow-file rebuild-cascades\n{REBUILD}")).is_empty());
    }
}
