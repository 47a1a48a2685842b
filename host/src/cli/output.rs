//! What is written where: results to standard output, everything about them to standard error.

use std::io::{IsTerminal, Write};

use tidemill::error::Error;
use tidemill::job::problems::{Problem, Problems};
use tidemill::job::render::{position, render};

use super::Format;

/// Whether standard error takes colours.
pub(super) fn use_color() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stderr().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Writes to standard error. When that is closed there is nobody left to tell.
pub(super) fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes a result to standard output; false when it is closed.
pub(super) fn put(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

/// Writes an event as a line of JSON to standard error.
pub(super) fn say_event(event: &str, fields: impl serde::Serialize) {
    let mut line = serde_json::json!({ "event": event });
    if let (Some(line), Ok(serde_json::Value::Object(fields))) = (line.as_object_mut(), serde_json::to_value(fields)) {
        line.extend(fields);
    }
    say(&format!("{line}\n"));
}

/// Writes an error as it is shown to people, or as an event.
pub(super) fn print_error(format: Format, message: &str, report: impl FnOnce() -> String) {
    match format {
        Format::Human => say(&report()),
        Format::Json => say_event("error", serde_json::json!({ "message": message, "report": report() })),
    }
}

/// Writes the mistakes of a job file, as they are shown to people or as an event each.
pub(super) fn print_mistakes(format: Format, problems: &Problems, text: &str, name: &str) {
    match format {
        Format::Human => say(&render(problems, text, name, use_color())),
        Format::Json => problems.iter().for_each(|problem| say_event("mistake", mistake(problem, text, name))),
    }
}

/// A mistake as the fields of an event.
fn mistake(problem: &Problem, text: &str, name: &str) -> serde_json::Value {
    let argument = problem.argument.as_deref();
    let place = problem.span.as_ref().map(|span| position(argument.unwrap_or(text), span.start));
    serde_json::json!({
        "file": argument.is_none().then_some(name),
        "argument": argument,
        "line": place.map(|(line, _)| line),
        "column": place.map(|(_, column)| column),
        "message": problem.message,
        "hint": problem.hint,
    })
}

/// Writes any error of the library.
pub(super) fn fail(format: Format, error: &Error) {
    print_error(format, &error.to_string(), || error.report());
}

/// Bytes as people read them.
pub(super) fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// A number as people read it.
pub(super) fn human_count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// A time as people read it.
pub(super) fn human_seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(problem: Problem, expected: &str) {
        let expected: serde_json::Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(mistake(&problem, "[job]\nb=1", "job.toml"), expected);
    }

    #[test]
    fn mistakes_are_events_with_places() {
        check(
            Problem::new("unknown key `b`").at(Some(6..7)).hint(Some("Did you mean `a`?".into())),
            r#"{"file": "job.toml", "argument": null, "line": 2, "column": 1,
                "message": "unknown key `b`", "hint": "Did you mean `a`?"}"#,
        );
        check(
            Problem { argument: Some("x=1".into()), ..Problem::new("wrong").at(Some(2..3)) },
            r#"{"file": null, "argument": "x=1", "line": 1, "column": 3, "message": "wrong", "hint": null}"#,
        );
        check(
            Problem::new("the job has no sink"),
            r#"{"file": "job.toml", "argument": null, "line": null, "column": null,
                "message": "the job has no sink", "hint": null}"#,
        );
    }
}
