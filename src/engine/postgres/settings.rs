//! Which settings a PostgreSQL database's state can have. Pure; whether a server knows an encoding or a locale is for the server to say.

use crate::schema::{SettingScope, Settings};

/// Names the settings that PostgreSQL would not take, or does not have.
pub fn odd(settings: &Settings) -> Vec<String> {
    let mut odd = Vec::new();
    for (name, setting) in settings {
        let value = setting.value.as_str();
        let is_creation = ["encoding", "collate", "ctype", "locale provider", "locale"].contains(&name.as_str());
        let is_fine = if name.starts_with("sequence ") {
            let place = value.split_once(' ');
            place.is_some_and(|(at, word)| at.parse::<i64>().is_ok() && ["called", "not called"].contains(&word))
        } else if name == "locale provider" {
            ["b", "c", "i", "d"].contains(&value)
        } else if name == "encoding" {
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        } else if name.starts_with("setting ") || is_creation {
            !value.contains('\0')
        } else {
            odd.push(format!("setting `{name}` is none of PostgreSQL's"));
            continue;
        };
        if !is_fine {
            odd.push(format!("setting `{name}` is `{value}`, which PostgreSQL does not take"));
        }
        if (setting.scope == SettingScope::Creation) != is_creation {
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
    fn only_what_postgresql_takes_is_sane() {
        let check = |name: &str, value: &str, scope, expected: usize| {
            let settings = Settings::from([(name.to_owned(), Setting { value: value.to_owned(), scope })]);
            assert_eq!(odd(&settings).len(), expected, "{name} = {value}: {:?}", odd(&settings));
        };
        check("sequence users_id_seq", "7 called", SettingScope::Exact, 0);
        check("sequence users_id_seq", "seven called", SettingScope::Exact, 1);
        check("encoding", "UTF8", SettingScope::Creation, 0);
        check("encoding", "UTF8", SettingScope::Exact, 1);
        check("colour", "red", SettingScope::Exact, 1);
    }
}
