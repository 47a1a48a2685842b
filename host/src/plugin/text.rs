//! Words of a guest made safe to show: one line, bounded, no control characters.

use std::borrow::Cow;

/// The longest reason, refusal or log line of a guest that is kept, in bytes. What is longer is cut, with `…`.
pub const GUEST_TEXT_BYTES_MAX: usize = 1 << 10;

/// One line of at most [`GUEST_TEXT_BYTES_MAX`] bytes: control and invisible characters escaped, the rest as it is.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.len() <= GUEST_TEXT_BYTES_MAX && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len().min(GUEST_TEXT_BYTES_MAX) + 16);
    for c in text.chars() {
        let start = line.len();
        match c {
            '"' | '\'' | '\\' => line.push(c),
            // Everything that is not printable: control characters, separators, marks that change direction.
            c => line.extend(c.escape_debug()),
        }
        if line.len() > GUEST_TEXT_BYTES_MAX {
            line.truncate(start);
            line.push('…');
            break;
        }
    }
    Cow::Owned(line)
}

/// The last lines that a guest wrote before it trapped, as one line: empty lines and advice of its runtime left out.
pub(crate) fn last_words(written: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(written);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE"))
        .map(one_line)
        .collect();
    (!lines.is_empty()).then(|| lines.join(" | ").replace(": | ", ": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(one_line(input), expected);
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        check("", "");
        check("column `a` is \"missing\" \\ gone", "column `a` is \"missing\" \\ gone");
        check("größer als 5 €", "größer als 5 €");
    }

    #[test]
    fn control_and_direction_characters_are_escaped() {
        check("a\nb\r\tc\u{1b}[31m", "a\\nb\\r\\tc\\u{1b}[31m");
        check("abc\u{202e}fed", "abc\\u{202e}fed");
        check("\u{0}", "\\0");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let long = "ä".repeat(GUEST_TEXT_BYTES_MAX);
        let line = one_line(&long);
        assert!(line.len() <= GUEST_TEXT_BYTES_MAX + '…'.len_utf8());
        assert!(line.ends_with('…'));
    }

    #[test]
    fn last_words_are_the_panic_without_advice() {
        let written = b"\nthread '<unnamed>' panicked at src/lib.rs:3:5:\nboom\nnote: run with `RUST_BACKTRACE=1` \
                        environment variable to display a backtrace\n";
        assert_eq!(last_words(written).as_deref(), Some("thread '<unnamed>' panicked at src/lib.rs:3:5: boom"));
        assert_eq!(last_words(b" \n\n"), None);
        assert_eq!(last_words(b"\xff\x07").as_deref(), Some("\u{fffd}\\u{7}"));
    }
}
