//! Scripts in package.json. The text is edited by spans: order, indentation, line endings and everything else stay byte for byte, and the
//! result is proven to be the old document with the new scripts, and nothing besides, before it is handed out.

use std::ops::Range;

use serde_json::Value;

use super::{Edit, HookError, line_end, wrapped};

/// Scripts that migrate a database, the likeliest first.
const MIGRATE_SCRIPTS: [&str; 16] = [
    "db:migrate:deploy",
    "db:migrate",
    "migrate:deploy",
    "migrate",
    "prisma:migrate:deploy",
    "prisma:migrate",
    "drizzle:migrate",
    "knex:migrate",
    "db:migrate:latest",
    "migrate:latest",
    "migrate:up",
    "db:deploy",
    "migration:run",
    "migrations:run",
    "typeorm:migrate",
    "sequelize:migrate",
];

/// Packages, and how what they bring migrates a database.
const TOOLS: [(&str, &str); 9] = [
    ("prisma", "npx prisma migrate deploy"),
    ("drizzle-kit", "npx drizzle-kit migrate"),
    ("knex", "npx knex migrate:latest"),
    ("sequelize-cli", "npx sequelize-cli db:migrate"),
    ("@mikro-orm/cli", "npx mikro-orm migration:up"),
    ("kysely-ctl", "npx kysely migrate:latest"),
    ("db-migrate", "npx db-migrate up"),
    ("node-pg-migrate", "npx node-pg-migrate up"),
    ("dbmate", "npx dbmate up"),
];

/// Adds the scripts. `command` migrates the database; where it is not given it is found in the document.
///
/// # Errors
/// [`HookError::Unfit`], [`HookError::NoCommand`].
pub fn edit(text: &str, command: Option<&str>) -> Result<Edit, HookError> {
    let body_start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let (bom, body) = text.split_at(body_start);
    let document: Value =
        serde_json::from_str(body).map_err(|error| HookError::Unfit(format!("package.json is no valid JSON: {error}")))?;
    if !document.is_object() {
        return Err(HookError::Unfit("package.json holds no object".to_owned()));
    }
    let top = members(body, skip_space(body, 0));
    refuse_duplicates(&top, "package.json")?;
    let scripts = top.iter().find(|member| member.key == "scripts");
    let inner = match scripts {
        Some(member) if document["scripts"].is_object() => members(body, member.value.start),
        Some(_) => return Err(HookError::Unfit("`scripts` in package.json is no object".to_owned())),
        None => Vec::new(),
    };
    refuse_duplicates(&inner, "`scripts` in package.json")?;

    let (mut wanted, mut kept) = (Vec::new(), Vec::new());
    let there = |name: &str| document["scripts"].get(name);
    let is_wrapper = |value: &Value| value.as_str().is_some_and(|script| script.contains("dbelay migrate"));
    let safe = match (find_command(&document, command), there("db:migrate-safe")) {
        (Ok(command), _) => Some(format!("dbelay migrate -- {}", wrapped(&command)?)),
        // Whoever wrote one has said which command it is.
        (Err(_), Some(value)) if is_wrapper(value) => None,
        (Err(error), _) => return Err(error),
    };
    let others = [("db:backup", "dbelay snapshot"), ("db:restore", "dbelay rollback"), ("db:snapshots", "dbelay log")];
    let ours = safe.iter().map(|script| ("db:migrate-safe", script.as_str())).chain(others);
    for (name, script) in ours {
        match there(name) {
            None => wanted.push((name, script)),
            Some(Value::String(found)) if found == script => {}
            Some(_) => {
                kept.push(format!(
                    "the script `{name}` is there already and stays as it is; under another name, dbelay's would be `{script}`"
                ));
            }
        }
    }
    let new = insert(body, scripts, &top, &inner, &wanted);
    prove(&document, &new, &wanted)?;
    Ok(Edit { text: format!("{bom}{new}"), added: wanted.iter().map(|(name, _)| (*name).to_owned()).collect(), kept })
}

/// Finds the command that migrates the database: as given, in a script, or by a package that is depended on.
fn find_command(document: &Value, given: Option<&str>) -> Result<String, HookError> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let script = |name: &&&str| document["scripts"].get(**name).and_then(Value::as_str).is_some_and(|script| !script.contains("dbelay"));
    if let Some(name) = MIGRATE_SCRIPTS.iter().find(script) {
        return Ok(format!("{} run {name}", runner(document)));
    }
    let depends = |name: &str| ["dependencies", "devDependencies"].iter().any(|kind| document[*kind].get(name).is_some());
    let tools: Vec<_> = TOOLS.iter().filter(|(name, _)| depends(name)).collect();
    let no_command = |message: String, example: &str| Err(HookError::NoCommand { message, example: example.to_owned() });
    match tools.as_slice() {
        [(_, command)] => Ok((*command).to_owned()),
        [(first, example), (second, _), ..] => {
            no_command(format!("which command migrates the database? package.json depends on `{first}` and on `{second}`"), example)
        }
        [] if depends("typeorm") => no_command(
            "which data source does the command migrate? package.json depends on `typeorm`, which has to be told".to_owned(),
            "npx typeorm migration:run -d src/data-source.js",
        ),
        [] => no_command(
            "which command migrates the database? package.json has no script like `db:migrate`, and depends on no migration tool"
                .to_owned(),
            "npx prisma migrate deploy",
        ),
    }
}

/// Names the program that runs scripts, as `packageManager` has it.
fn runner(document: &Value) -> &'static str {
    let name = document["packageManager"].as_str().and_then(|said| said.split('@').next()).unwrap_or_default();
    ["pnpm", "yarn", "bun"].into_iter().find(|known| *known == name).unwrap_or("npm")
}

/// A member of an object in the text.
#[derive(Debug)]
struct Member {
    key: String,
    /// With its quotes.
    key_span: Range<usize>,
    value: Range<usize>,
}

/// Lists the members of the object that begins at an offset. The text *must* be valid JSON; if it is not, members are missing, which
/// [`prove`] finds.
fn members(text: &str, start: usize) -> Vec<Member> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = skip_space(text, start + 1);
    while bytes.get(at) == Some(&b'"') {
        let key_span = at..value_end(text, at);
        let colon = skip_space(text, key_span.end);
        let value_start = skip_space(text, colon + 1);
        let value = value_start..value_end(text, value_start);
        let Some(Ok(key)) = text.get(key_span.clone()).map(serde_json::from_str) else { break };
        at = skip_space(text, value.end);
        found.push(Member { key, key_span, value });
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at = skip_space(text, at + 1);
    }
    found
}

fn skip_space(text: &str, at: usize) -> usize {
    let rest = text.as_bytes().get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Finds where the value that begins at an offset ends.
fn value_end(text: &str, start: usize) -> usize {
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for (offset, byte) in rest.iter().enumerate() {
        let after = start + offset + 1;
        if in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    in_string = false;
                    if depth == 0 {
                        return after;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return after - 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return after;
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return after - 1,
            _ => {}
        }
    }
    text.len()
}

fn refuse_duplicates(members: &[Member], place: &str) -> Result<(), HookError> {
    let mut keys: Vec<&str> = members.iter().map(|member| member.key.as_str()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(HookError::Unfit(format!("{place} names `{}` twice", pair[0]))),
        None => Ok(()),
    }
}

/// How new members are written.
struct Layout<'a> {
    /// What stands before each member: a line end and its indentation, or a space, or nothing.
    before: String,
    /// What stands between a key and its value, the colon included.
    colon: &'a str,
}

fn insert(body: &str, scripts: Option<&Member>, top: &[Member], inner: &[Member], wanted: &[(&str, &str)]) -> String {
    if wanted.is_empty() {
        return body.to_owned();
    }
    let end = line_end(body);
    let open = skip_space(body, 0);
    let space = |range: Range<usize>| body.get(range).unwrap_or_default();
    let before_first = top.first().map(|first| space(open + 1..first.key_span.start));
    let is_tall = before_first.is_none_or(|before| before.contains('\n'));
    let unit = match before_first {
        Some(before) if is_tall => indentation(before),
        _ => "  ",
    };
    let colon = top.first().map_or(": ", |first| space(first.key_span.end..first.value.start));
    let gap = if colon.ends_with(' ') { " " } else { "" };
    let tall = |depth: usize| format!("{end}{}", unit.repeat(depth));
    match (scripts, inner.first(), inner.last()) {
        // Beside other scripts: as they are written.
        (Some(member), Some(first), Some(last)) => {
            let lead = space(member.value.start + 1..first.key_span.start);
            let before = match inner {
                [.., before_last, last] if !lead.contains('\n') => {
                    let between = space(before_last.value.end..last.key_span.start);
                    between.split_once(',').map_or(gap, |(_, after)| after).to_owned()
                }
                _ if lead.contains('\n') => format!("{end}{}", indentation(lead)),
                _ => gap.to_owned(),
            };
            let layout = Layout { before, colon: space(first.key_span.end..first.value.start) };
            splice(body, last.value.end..last.value.end, &format!(",{}", layout.members(wanted)))
        }
        // Into an object that is there and empty.
        (Some(member), ..) => {
            let before = if is_tall { tall(2) } else { gap.to_owned() };
            let close = if is_tall { tall(1) } else { gap.to_owned() };
            let members = Layout { before, colon }.members(wanted);
            splice(body, member.value.clone(), &format!("{{{members}{close}}}"))
        }
        // As the last member of the document.
        (None, ..) => {
            let before = if is_tall { tall(2) } else { gap.to_owned() };
            let close = if is_tall { tall(1) } else { gap.to_owned() };
            let members = Layout { before, colon }.members(wanted);
            let (at, comma) = top.last().map_or((open + 1..open + 1, ""), |last| (last.value.end..last.value.end, ","));
            let lead = if is_tall { tall(1) } else { gap.to_owned() };
            let tail = if top.is_empty() && !body.get(open..).unwrap_or_default().contains('\n') { end } else { "" };
            splice(body, at, &format!("{comma}{lead}\"scripts\"{colon}{{{members}{close}}}{tail}"))
        }
    }
}

impl Layout<'_> {
    fn members(&self, wanted: &[(&str, &str)]) -> String {
        let member = |(name, script): &(&str, &str)| format!("{}{}{}{}", self.before, Value::from(*name), self.colon, Value::from(*script));
        wanted.iter().map(member).collect::<Vec<_>>().join(",")
    }
}

/// Returns what stands after the last line end.
fn indentation(space: &str) -> &str {
    space.rsplit('\n').next().unwrap_or_default()
}

fn splice(text: &str, at: Range<usize>, new: &str) -> String {
    let (before, after) = (text.get(..at.start).unwrap_or_default(), text.get(at.end..).unwrap_or_default());
    format!("{before}{new}{after}")
}

/// Proves that the new text is the old document with these scripts and nothing besides.
fn prove(before: &Value, new: &str, wanted: &[(&str, &str)]) -> Result<(), HookError> {
    let mut expected = before.clone();
    for (name, script) in wanted {
        expected["scripts"][*name] = Value::from(*script);
    }
    match serde_json::from_str::<Value>(new) {
        Ok(actual) if actual == expected => Ok(()),
        _ => Err(HookError::Unfit("package.json is laid out in a way that scripts cannot be added to for sure".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: &str = r#""db:migrate-safe": "dbelay migrate -- npm run migrate""#;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let edit = edit(text, None).expect("an edit");
        assert_eq!(edit.text, expected);
        let again = super::edit(&edit.text, None).expect("a second edit");
        assert_eq!((again.text, again.added, again.kept), (edit.text, Vec::new(), edit.kept), "the second time there is nothing to do");
    }

    #[track_caller]
    fn refuses(text: &str, part: &str) {
        let error = edit(text, Some("x")).expect_err("an error").to_string();
        assert!(error.contains(part), "no `{part}` in {error}");
    }

    #[test]
    fn scripts_are_added_after_the_others_as_they_are_written() {
        let text =
            "{\n\t\"name\": \"x\",\n\t\"scripts\": {\n\t\t\"b\": \"1\",\n\t\t\"migrate\": \"knex \\\"x\\\" {,}\"\n\t},\n\t\"a\": [1.50]\n}";
        let expected = text.replace(
            "{,}\"\n",
            &format!(
                "{{,}}\",\n\t\t{FOUR},\n\t\t\"db:backup\": \"dbelay snapshot\",\n\t\t\"db:restore\": \"dbelay rollback\",\n\t\t\"db:snapshots\": \"dbelay log\"\n"
            ),
        );
        check(text, &expected);
        check(&text.replace('\n', "\r\n"), &expected.replace('\n', "\r\n"));
        check(&format!("\u{feff}{text}\n"), &format!("\u{feff}{expected}\n"));
        check(&text.replace('\t', "    "), &expected.replace('\t', "    "));
    }

    #[test]
    fn scripts_on_one_line_stay_on_one_line() {
        let more =
            format!("{FOUR}, \"db:backup\": \"dbelay snapshot\", \"db:restore\": \"dbelay rollback\", \"db:snapshots\": \"dbelay log\"");
        check("{ \"scripts\": { \"migrate\": \"x\" } }\n", &format!("{{ \"scripts\": {{ \"migrate\": \"x\", {more} }} }}\n"));
        let tight = more.replace("\": \"", "\":\"").replace("\", \"", "\",\"");
        check("{\"scripts\":{\"migrate\":\"x\"}}", &format!("{{\"scripts\":{{\"migrate\":\"x\",{tight}}}}}"));
    }

    #[test]
    fn scripts_that_are_missing_or_empty_are_made() {
        let inner = "{\n    \"db:migrate-safe\": \"dbelay migrate -- npx knex migrate:latest\",\n    \"db:backup\": \"dbelay snapshot\",\n    \
                     \"db:restore\": \"dbelay rollback\",\n    \"db:snapshots\": \"dbelay log\"\n  }";
        for empty in ["{}", "{ }", "{\n  }"] {
            let text = format!("{{\n  \"scripts\": {empty},\n  \"devDependencies\": {{\"knex\": \"3\"}}\n}}\n");
            check(&text, &text.replace(&format!("\"scripts\": {empty}"), &format!("\"scripts\": {inner}")));
        }
        let text = "{\n  \"dependencies\": {\"knex\": \"3\"}\n}\n";
        check(text, &text.replace("\n}\n", &format!(",\n  \"scripts\": {inner}\n}}\n")));
        let made = edit("{}", Some("x")).expect("an edit").text;
        assert!(
            made.starts_with("{\n  \"scripts\": {\n    \"db:migrate-safe\": \"dbelay migrate -- x\",") && made.ends_with("  }\n}"),
            "{made}"
        );
    }

    #[test]
    fn a_script_of_that_name_is_never_overwritten() {
        let text = "{\"scripts\": {\"migrate\": \"x\", \"db:backup\": \"pg_dump\", \"db:restore\": 7}}";
        let edit = edit(text, None).expect("an edit");
        assert_eq!(edit.added, ["db:migrate-safe", "db:snapshots"]);
        assert_eq!(edit.kept.len(), 2);
        assert!(edit.kept[0].contains("db:backup") && edit.kept[0].contains("dbelay snapshot"), "{:?}", edit.kept);
        assert!(edit.text.contains("\"db:backup\": \"pg_dump\", \"db:restore\": 7"), "{}", edit.text);
    }

    #[test]
    fn the_command_is_found_in_scripts_then_in_dependencies() {
        let find = |text: &str| find_command(&serde_json::from_str(text).expect("json"), None);
        let check = |text: &str, expected: &str| assert_eq!(find(text).as_deref(), Ok(expected), "{text}");
        check(r#"{"scripts":{"migrate":"a","db:migrate":"b"},"dependencies":{"prisma":"6"}}"#, "npm run db:migrate");
        check(r#"{"scripts":{"migrate":"a"},"packageManager":"pnpm@9.1.0+sha.1"}"#, "pnpm run migrate");
        check(r#"{"scripts":{"migrate":"dbelay migrate -- x"},"devDependencies":{"prisma":"6"}}"#, "npx prisma migrate deploy");
        check(r#"{"devDependencies":{"drizzle-kit":"1"}}"#, "npx drizzle-kit migrate");
        assert!(matches!(find(r#"{"dependencies":{"knex":"1","prisma":"6"}}"#), Err(HookError::NoCommand { .. })));
        assert!(find(r#"{"dependencies":{"typeorm":"1"}}"#).is_err_and(|error| error.to_string().contains("data source")));
        assert!(find("{}").is_err());
    }

    #[test]
    fn a_wrapper_that_somebody_wrote_needs_no_command() {
        let text = r#"{"scripts":{"db:migrate-safe":"dbelay migrate --allow x -- node up.js"}}"#;
        let edit = edit(text, None).expect("an edit");
        assert_eq!(edit.added, ["db:backup", "db:restore", "db:snapshots"]);
        assert_eq!(edit.kept, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_sound_package_json_is_left_alone() {
        refuses("{\"scripts\": {},}", "no valid JSON");
        refuses("{ // why\n}", "no valid JSON");
        refuses("[]", "no object");
        refuses("{\"scripts\": []}", "`scripts`");
        refuses("{\"scripts\": {\"a\": \"1\", \"a\": \"2\"}}", "`a` twice");
        refuses("{\"scripts\": {}, \"scripts\": {}}", "`scripts` twice");
        refuses("", "no valid JSON");
        assert!(edit("{}", Some("a\nb")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}\\[\\]\", :\\\\a\n\t]{0,40}") {
            let _ = edit(&text, Some("x"));
            let _ = members(&text, 0);
        }
    }
}
