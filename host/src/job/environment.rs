//! `${NAME}` and `${NAME:-default}` in texts: read from the environment, so that no secret stands in a file.

use std::env::VarError;

use super::table::Reader;
use super::tree::{Entry, Node, Value};

/// Where names are looked up; tests bring their own.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Result<String, VarError>;

/// Reads the environment into every text of a tree. What cannot be read is recorded; the text is left as it is written.
pub(super) fn substitute(entries: &mut [Entry], reader: &Reader, lookup: Lookup<'_>) {
    for entry in entries {
        substitute_node(&mut entry.node, reader, lookup);
    }
}

fn substitute_node(node: &mut Node, reader: &Reader, lookup: Lookup<'_>) {
    match &mut node.value {
        Value::Text(text) => {
            let mut secrets = Vec::new();
            let expanded = expand(&text.written, lookup, &mut secrets);
            reader.secrets.borrow_mut().extend(secrets);
            match expanded {
                Ok(value) => text.value = value,
                Err((message, hint)) => reader.problem(&node.place, message, Some(hint)),
            }
        }
        Value::List(items) => items.iter_mut().for_each(|item| substitute_node(item, reader, lookup)),
        Value::Table(entries) => substitute(entries, reader, lookup),
        _ => {}
    }
}

/// The text with its references replaced; `$${` stands for `${`. What the environment holds is not expanded again.
///
/// What was read goes into `secrets`, with its reference.
fn expand(text: &str, lookup: Lookup<'_>, secrets: &mut Vec<(String, String)>) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // `$${`: the first `$` is the escape.
            expanded.push_str(&rest[..at - 1]);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}').map(|end| at + end) else {
            let message = "`${` is never closed".to_owned();
            return Err((message, "Write `${NAME}`, or `$${` for the two characters themselves.".into()));
        };
        let reference = &rest[at + 2..end];
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (reference, None),
        };
        if !is_name(name) {
            let message = format!("`{name}` is not the name of an environment variable");
            return Err((message, "Write `${NAME}` or `${NAME:-default}`, or `$${` for `${` itself.".into()));
        }
        match (lookup(name), default) {
            // As in a shell: `:-` also stands in for a variable that is empty.
            (Ok(value), default) if default.is_none() || !value.is_empty() => {
                expanded.push_str(&value);
                secrets.push((value, format!("${{{name}}}")));
            }
            (Ok(_) | Err(VarError::NotPresent), Some(default)) => expanded.push_str(default),
            (Ok(_) | Err(VarError::NotPresent), None) => {
                let message = format!("the environment variable `{name}` is not set");
                return Err((message, format!("Set it, or write `${{{name}:-default}}`.")));
            }
            (Err(VarError::NotUnicode(_)), _) => {
                return Err((format!("the environment variable `{name}` is not UTF-8"), "Set it to a text.".into()));
            }
        }
        rest = &rest[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment(name: &str) -> Result<String, VarError> {
        match name {
            "HOST" => Ok("example.org".into()),
            "EMPTY" => Ok(String::new()),
            "NESTED" => Ok("${HOST}".into()),
            _ => Err(VarError::NotPresent),
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let found = expand(text, &environment, &mut Vec::new()).map_err(|(message, _)| message);
        assert_eq!(found, expected.map(String::from).map_err(String::from), "{text}");
    }

    #[test]
    fn references_read_the_environment() {
        check("", Ok(""));
        check("plain $ { } $HOST", Ok("plain $ { } $HOST"));
        check("${HOST}:9999", Ok("example.org:9999"));
        check("${HOST}${HOST}", Ok("example.orgexample.org"));
        check("${PORT:-9999}", Ok("9999"));
        check("${PORT:-}", Ok(""));
        check("${EMPTY:-x}${EMPTY}", Ok("x"));
        check("${HOST:-x}", Ok("example.org"));
        check("${NESTED}", Ok("${HOST}"));
        check("$${HOST}", Ok("${HOST}"));
        check("é${HOST}é", Ok("éexample.orgé"));
        check("${PORT}", Err("the environment variable `PORT` is not set"));
        check("${HOST", Err("`${` is never closed"));
        check("${}", Err("`` is not the name of an environment variable"));
        check("${a b}", Err("`a b` is not the name of an environment variable"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[$]{0,3}[{}a:é-]{0,5}[$]{0,2}[{}HOST:-]{0,9}|.{0,30}") {
            let _ = expand(&text, &environment, &mut Vec::new());
        }

        #[test]
        fn a_text_without_references_stays(text in "[^$]{0,30}") {
            prop_assert_eq!(expand(&text, &environment, &mut Vec::new()), Ok(text));
        }
    }
}
