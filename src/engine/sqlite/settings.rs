//! Which values SQLite's settings can have. Pure.

use crate::schema::{SettingScope, Settings};

/// The settings that a state has, with their scope.
pub(super) const NAMES: [(&str, SettingScope); 5] = [
    ("user_version", SettingScope::Exact),
    ("application_id", SettingScope::Exact),
    ("encoding", SettingScope::Creation),
    ("page_size", SettingScope::Creation),
    ("auto_vacuum", SettingScope::Creation),
];

/// Names the settings that SQLite would not take, or does not have.
pub fn odd(settings: &Settings) -> Vec<String> {
    let mut odd = Vec::new();
    for (name, setting) in settings {
        let value = setting.value.as_str();
        let is_fine = match name.as_str() {
            "user_version" | "application_id" => value.parse::<i32>().is_ok(),
            "encoding" => ["UTF-8", "UTF-16le", "UTF-16be"].contains(&value),
            "page_size" => value.parse::<u32>().is_ok_and(|size| (512..=65_536).contains(&size) && size.is_power_of_two()),
            "auto_vacuum" => ["0", "1", "2"].contains(&value),
            _ => {
                odd.push(format!("setting `{name}` is none of SQLite's"));
                continue;
            }
        };
        if !is_fine {
            odd.push(format!("setting `{name}` is `{value}`, which SQLite does not take"));
        }
        if NAMES.iter().any(|(known, scope)| known == name && *scope != setting.scope) {
            odd.push(format!("setting `{name}` has another scope than it can have"));
        }
    }
    odd
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Setting;

    #[test]
    fn only_what_sqlite_takes_is_sane() {
        let check = |name: &str, value: &str, expected: usize| {
            let scope = NAMES.iter().find(|(known, _)| *known == name).map_or(SettingScope::Exact, |(_, scope)| *scope);
            let settings = Settings::from([(name.to_owned(), Setting { value: value.to_owned(), scope })]);
            assert_eq!(odd(&settings).len(), expected, "{name} = {value}: {:?}", odd(&settings));
        };
        for (name, value) in [("user_version", "-7"), ("encoding", "UTF-16be"), ("page_size", "65536"), ("auto_vacuum", "2")] {
            check(name, value, 0);
        }
        for (name, value) in [
            ("user_version", "3000000000"),
            ("encoding", "latin1"),
            ("page_size", "1000"),
            ("page_size", "256"),
            ("auto_vacuum", "3"),
            ("journal", "x"),
        ] {
            check(name, value, 1);
        }
    }
}
