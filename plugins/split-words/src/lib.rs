//! Splits lines into words.

use serde::Deserialize;
use tidemill_guest::{Emitter, Row, operator};

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
        line.value.to_lowercase().split_ascii_whitespace().for_each(|word| out.emit(Word { word }));
    } else {
        line.value.split_ascii_whitespace().for_each(|word| out.emit(Word { word }));
    }
}
