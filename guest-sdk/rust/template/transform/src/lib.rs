//! Splits lines into words.

use serde::Deserialize;
use tidemill_guest::{Reject, Row, operator};

/// What is read of a row: the columns of these names. No other is sent.
#[derive(Row)]
pub struct Line<'a> {
    value: Option<&'a str>,
}

/// What is written.
#[derive(Row)]
pub struct Word {
    word: String,
    position: i64,
}

/// The step's `config`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether words are written in small letters, those of ASCII.
    lowercase: bool,
}

/// The words of a line: what stands between white space. A line that is null is rejected, which is counted and sets it
/// aside where the job says so.
#[operator]
pub fn split_words(line: Line<'_>, config: &Config) -> Result<Vec<Word>, Reject> {
    let value = line.value.ok_or("`value` is null")?;
    let words = value.split_ascii_whitespace().zip(0..);
    let write = |word: &str| if config.lowercase { word.to_ascii_lowercase() } else { word.to_owned() };
    Ok(words.map(|(word, position)| Word { word: write(word), position }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_guest::testing;

    #[test]
    fn words_stand_between_white_space() {
        let lines = [Line { value: Some("To  be\tor") }, Line { value: None }, Line { value: Some("") }];
        let ran = testing::transform(&split_words::operator(), r#"{"lowercase": true}"#, lines).unwrap();
        assert_eq!(ran.column::<String>("word").into_iter().flatten().collect::<Vec<_>>(), ["to", "be", "or"]);
        assert_eq!(ran.column::<i64>("position"), [Some(0), Some(1), Some(2)]);
    }
}
