//! Splits lines into words.

use serde::Deserialize;
use tidemill_guest::{Emitter, Row, operator, text};

/// A line of text.
#[derive(Row)]
pub struct Line<'a> {
    value: &'a str,
}

/// A word of it.
#[derive(Row)]
pub struct Word<'a> {
    word: &'a str,
}

/// How lines are split.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Config {
    /// Whether words are written in lower case.
    lowercase: bool,
}

/// Emits every word of a line: what stands between white space.
#[operator]
pub fn split_words(line: Line<'_>, config: &Config, out: &mut Emitter<Word<'_>>) {
    if config.lowercase {
        text::words(&line.value.to_lowercase()).for_each(|word| out.emit(Word { word }));
    } else {
        text::words(line.value).for_each(|word| out.emit(Word { word }));
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing;

    use super::*;

    #[track_caller]
    fn check(config: &str, lines: &[&str], expected: &[&str]) {
        let lines = lines.iter().map(|&value| Line { value });
        let ran = testing::transform(&split_words::operator(), config, lines).expect("it runs");
        let words: Vec<_> = ran.column::<String>("word").into_iter().flatten().collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn words_stand_between_white_space() {
        check(
            "",
            &["to be  or\tnot", "", " a word of more than sixteen-bytes "],
            &["to", "be", "or", "not", "a", "word", "of", "more", "than", "sixteen-bytes"],
        );
        check(r#"{"lowercase": true}"#, &["Été ÜBER x"], &["été", "über", "x"]);
        check("{}", &[], &[]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let ran = testing::transform(&split_words::operator(), r#"{"lower": 1}"#, [Line { value: "" }]);
        assert_eq!(ran.expect_err("it is refused").to_string(), "unknown field `lower`, expected `lowercase`");
    }
}
