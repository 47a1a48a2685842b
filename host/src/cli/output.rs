//! What is written where: results to standard output, everything about them to standard error.

use std::io::{IsTerminal, Write};

use tidemill::error::Error;

use super::Format;

/// Whether standard error takes colours.
pub(super) fn use_color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
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

/// Writes any error of the library.
pub(super) fn fail(format: Format, error: &Error) {
    print_error(format, &error.to_string(), || error.report());
}

/// Bytes as people read them.
pub(super) fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
