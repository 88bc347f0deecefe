//! Targets in a Makefile: one marked block at its end.

use super::{BEGIN, END, Edit, HookError, line_end, wrapped};

/// Targets that migrate a database, the likeliest first.
const MIGRATE_TARGETS: [&str; 6] = ["db-migrate", "migrate", "db_migrate", "db.migrate", "migrate-up", "db-up"];

/// Adds the targets. `command` migrates the database; where it is not given it is found among the Makefile's own targets.
///
/// # Errors
/// [`HookError::Unfit`], [`HookError::NoCommand`].
pub fn edit(text: &str, command: Option<&str>) -> Result<Edit, HookError> {
    if text.lines().any(|line| line.trim_start().starts_with(".RECIPEPREFIX")) {
        return Err(HookError::Unfit("the Makefile sets .RECIPEPREFIX: recipes in it do not begin with a tab".to_owned()));
    }
    let unchanged = |kept| Ok(Edit { text: text.to_owned(), added: Vec::new(), kept });
    let rules = rules(text);
    if let Some(block) = block(text) {
        let is_whole = block.contains("dbelay migrate");
        return match (command.map(escaped).transpose()?, is_whole) {
            (Some(command), true) if !block.contains(&format!("dbelay migrate -- {command}")) => {
                unchanged(vec!["dbelay's block is there already, with another command, and stays as it is; edit or delete it".to_owned()])
            }
            _ => unchanged(Vec::new()),
        };
    }
    let command = match command {
        Some(command) => escaped(command)?,
        None => format!("$(MAKE) {}", find_target(text, &rules)?),
    };
    let migrate = format!("dbelay migrate -- {command}");
    // The first target of a Makefile without any is what a bare `make` does: one that only looks.
    let ours = [
        ("db-snapshots", "dbelay log"),
        ("db-migrate-safe", migrate.as_str()),
        ("db-backup", "dbelay snapshot"),
        ("db-restore", "dbelay rollback $(SNAPSHOT)"),
    ];
    let is_taken = |name: &str| rules.iter().any(|rule| rule.name == name);
    let (taken, free): (Vec<_>, Vec<_>) = ours.into_iter().partition(|(name, _)| is_taken(name));
    let kept = taken
        .iter()
        .map(|(name, recipe)| {
            format!("the target `{name}` is there already and stays as it is; under another name, dbelay's would be `{recipe}`")
        })
        .collect();
    if free.is_empty() {
        return unchanged(kept);
    }
    let end = line_end(text);
    let mut new = text.to_owned();
    if !text.is_empty() {
        if !text.ends_with('\n') {
            new.push_str(end);
        }
        new.push_str(end);
    }
    let names: Vec<&str> = free.iter().map(|(name, _)| *name).collect();
    let mut lines = vec![format!("{BEGIN} (written by `dbelay init --hooks make`)"), format!(".PHONY: {}", names.join(" "))];
    for (name, recipe) in &free {
        lines.push(format!("{name}:"));
        lines.push(format!("\t{recipe}"));
    }
    lines.push(END.to_owned());
    for line in lines {
        new.push_str(&line);
        new.push_str(end);
    }
    Ok(Edit { text: new, added: names.into_iter().map(str::to_owned).collect(), kept })
}

/// Writes a command for a recipe: a target that make is to make, or what a shell would run.
fn escaped(command: &str) -> Result<String, HookError> {
    if let Some(target) = command.trim().strip_prefix("$(MAKE) ") {
        return Ok(format!("$(MAKE) {}", wrapped(target)?.replace('$', "$$")));
    }
    Ok(wrapped(command)?.replace('$', "$$"))
}

/// Returns the marked block.
fn block(text: &str) -> Option<&str> {
    let start = text.find(BEGIN)?;
    let rest = text.get(start..)?;
    rest.get(..rest.find(END).unwrap_or(rest.len()))
}

/// A target, and the lines of its recipe.
struct Rule<'a> {
    name: &'a str,
    recipe: Vec<&'a str>,
}

/// Finds the targets of explicit rules. Variables in them, and what conditions leave out, are not computed.
fn rules(text: &str) -> Vec<Rule<'_>> {
    let mut found: Vec<Rule<'_>> = Vec::new();
    let mut open = 0..0;
    let mut is_continued = false;
    for line in text.lines() {
        let was_continued = std::mem::replace(&mut is_continued, line.ends_with('\\'));
        if line.starts_with('\t') {
            found.get_mut(open.clone()).into_iter().flatten().for_each(|rule| rule.recipe.push(line));
            continue;
        }
        let code = line.split('#').next().unwrap_or_default();
        let Some((targets, rest)) = code.split_once(':').filter(|_| !was_continued) else {
            continue;
        };
        // An assignment of any kind: `a := b`, `a ::= b`, `a = b:c`.
        if targets.contains('=') || rest.trim_start_matches(':').starts_with('=') {
            continue;
        }
        let start = found.len();
        found.extend(targets.split_whitespace().filter(|name| !name.starts_with('.')).map(|name| Rule { name, recipe: Vec::new() }));
        open = start..found.len();
        if let Some((_, recipe)) = rest.split_once(';') {
            found.iter_mut().skip(start).for_each(|rule| rule.recipe.push(recipe));
        }
    }
    found
}

fn find_target<'a>(text: &str, rules: &[Rule<'a>]) -> Result<&'a str, HookError> {
    let is_fit = |rule: &&Rule<'_>, wanted: &str| rule.name == wanted && !rule.recipe.iter().any(|line| line.contains("dbelay"));
    let found = MIGRATE_TARGETS.iter().find_map(|wanted| rules.iter().find(|rule| is_fit(rule, wanted)));
    match found {
        Some(rule) => Ok(rule.name),
        None => Err(HookError::NoCommand {
            message: "which command migrates the database? the Makefile has no target `migrate` or `db-migrate`".to_owned(),
            example: if text.contains("alembic") { "alembic upgrade head".to_owned() } else { "./migrate.sh".to_owned() },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# dbelay: begin (written by `dbelay init --hooks make`)\n\
        .PHONY: db-snapshots db-migrate-safe db-backup db-restore\n\
        db-snapshots:\n\tdbelay log\ndb-migrate-safe:\n\tdbelay migrate -- $(MAKE) migrate\n\
        db-backup:\n\tdbelay snapshot\ndb-restore:\n\tdbelay rollback $(SNAPSHOT)\n# dbelay: end\n";

    #[test]
    fn a_block_is_appended_once() {
        for (text, glue) in [("all:\n\techo\nmigrate: all\n\t./up\n", "\n"), ("migrate:\n\t./up", "\n\n")] {
            let edit = edit(text, None).expect("an edit");
            assert_eq!(edit.text, format!("{text}{glue}{BLOCK}"));
            assert_eq!(edit.added.len(), 4);
            let again = super::edit(&edit.text, None).expect("a second edit");
            assert_eq!((again.text, again.added), (edit.text, Vec::new()));
        }
        let edit = edit("migrate:\r\n\t./up\r\n", None).expect("an edit");
        assert!(!edit.text.replace("\r\n", "").contains('\n'), "{:?}", edit.text);
    }

    #[test]
    fn a_target_of_that_name_is_never_defined_twice() {
        let edit = edit("migrate db-backup: x\n\t./up\n", None).expect("an edit");
        assert_eq!(edit.added, ["db-snapshots", "db-migrate-safe", "db-restore"]);
        assert!(edit.kept[0].contains("db-backup") && !edit.text.contains("\ndb-backup:"), "{edit:?}");
    }

    #[test]
    fn the_command_is_a_target_or_what_is_given() {
        let command = |text: &str, given| {
            let text = edit(text, given)?.text;
            let found = text.lines().find_map(|line| line.strip_prefix("\tdbelay migrate -- ").map(str::to_owned));
            Ok::<_, HookError>(found.unwrap_or_default())
        };
        assert_eq!(command("migrate :\n\tx\ndb-migrate:\n\ty\n", None).as_deref(), Ok("$(MAKE) db-migrate"));
        assert_eq!(command("", Some("echo $HOME")).as_deref(), Ok("sh -c 'echo $$HOME'"));
        assert!(matches!(command("migrate := a\nmigrate = b:c\n# migrate:\nx: migrate\n", None), Err(HookError::NoCommand { .. })));
        assert!(command("migrate:\n\tdbelay migrate -- x\n", None).is_err(), "what is wrapped already is not wrapped again");
    }

    #[test]
    fn another_command_does_not_change_a_block_that_is_there() {
        let text = edit("migrate:\n\tx\n", None).expect("an edit").text;
        let again = edit(&text, Some("other")).expect("an edit");
        assert_eq!(again.text, text);
        assert!(again.kept[0].contains("another command"), "{:?}", again.kept);
    }

    #[test]
    fn a_makefile_without_tabs_is_left_alone() {
        assert!(edit(".RECIPEPREFIX = >\nmigrate:\n> x\n", None).is_err());
    }
}
