//! A part of the text of a value: the word of a query that is wrong, say, and where it stands in the job file.

use std::ops::Range;

/// The key of a part of its text, in bytes, as in `with.total[4..9]`.
#[must_use]
pub(crate) fn key_of_part(key: &str, part: &Range<usize>) -> String {
    format!("{key}[{}..{}]", part.start, part.end)
}

/// A key of a part, taken apart again; `None`: it is the key of a whole value.
pub(crate) fn split_key(key: &str) -> Option<(&str, Range<usize>)> {
    let (key, part) = key.strip_suffix(']')?.rsplit_once('[')?;
    let (start, end) = part.split_once("..")?;
    Some((key, start.parse().ok()?..end.parse().ok()?))
}

/// Where a part of a text stands in the text of TOML that says it, its quotes included; `None`: that cannot be told.
pub(super) fn find_part(written: &str, part: &Range<usize>) -> Option<Range<usize>> {
    let places = places(written)?;
    let start = *places.get(part.start)?;
    // The end is that of the character before it, however it is written.
    let end = *places.get(part.end.max(part.start))?;
    // What follows an escaped line end stands on another line.
    let is_one = part.end > part.start && end > start;
    Some(if is_one { start..start + written.get(start..end)?.trim_end().len().max(1) } else { start..start + 1 })
}

/// Where each byte of the text stands, and the byte behind it.
fn places(written: &str) -> Option<Vec<usize>> {
    // Variables of the environment are longer or shorter than their names.
    if written.contains("${") {
        return None;
    }
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| written.starts_with(quote))?;
    let escapes = quote.starts_with('"');
    let end = written.strip_suffix(quote)?.len();
    if end < quote.len() {
        return None;
    }
    let mut places = Vec::new();
    let mut at = quote.len();
    if quote.len() == 3 {
        // A line end directly behind the quotes is none of the text.
        at += ["\r\n", "\n"].into_iter().find(|line_end| written[at..end].starts_with(line_end)).map_or(0, str::len);
    }
    while at < end {
        let rest = &written[at..end];
        let first = rest.chars().next()?;
        let (n_written, n_bytes) = match (first, escapes) {
            ('\\', true) => {
                let escaped = rest[1..].chars().next()?;
                match escaped {
                    'u' => (6, char_bytes(rest.get(2..6)?)?),
                    'U' => (10, char_bytes(rest.get(2..10)?)?),
                    'x' => (4, char_bytes(rest.get(2..4)?)?),
                    ' ' | '\t' | '\r' | '\n' => {
                        let line = rest[1..].trim_start();
                        (rest.len() - line.len(), 0)
                    }
                    _ => (1 + escaped.len_utf8(), 1),
                }
            }
            _ => (first.len_utf8(), first.len_utf8()),
        };
        let is_as_written = n_written == n_bytes;
        places.extend((0..n_bytes).map(|byte| if is_as_written { at + byte } else { at }));
        at += n_written;
    }
    places.push(end);
    Some(places)
}

/// How many bytes the character with this number has.
fn char_bytes(hex: &str) -> Option<usize> {
    char::from_u32(u32::from_str_radix(hex, 16).ok()?).map(char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where `part` of the text stands, marked in what is written.
    #[track_caller]
    fn check(written: &str, part: &str, expected: Option<&str>) {
        let document = format!("x = {written}");
        let table = toml::de::DeTable::parse(&document).expect("a text");
        let text = table.get_ref().get("x").and_then(|value| value.get_ref().as_str()).expect("a text");
        let start = text.find(part).expect("a part");
        let found = find_part(written, &(start..start + part.len()));
        assert_eq!(found.map(|found| &written[found]), expected, "{written}");
    }

    #[test]
    fn parts_are_found_however_the_text_is_written() {
        for quote in ["\"", "'", "\"\"\"", "'''"] {
            check(&format!("{quote}SELECT née, prize FROM t{quote}"), "prize", Some("prize"));
        }
        check("'''\nSELECT a,\n  prize\nFROM t'''", "prize", Some("prize"));
        check("\"\"\"\r\nSELECT a,\r\n  prize\"\"\"", "prize", Some("prize"));
        check(r#""a = \"\u00e9\" or prize""#, "prize", Some("prize"));
        check(r#""a = \"\u00e9\" or prize""#, "é", Some(r"\u00e9"));
        check("\"\"\"a + \\\n    prize\"\"\"", "prize", Some("prize"));
        check("\"${A} + prize\"", "prize", None);
        assert_eq!(find_part("5", &(0..1)), None);
        assert_eq!(find_part("'ab'", &(2..2)), Some(3..4));
        assert_eq!(find_part("'ab'", &(7..8)), None);
    }

    proptest! {
        #[test]
        fn every_letter_of_any_text_is_found(text in "[a-z\"'\\\\é\n\t ]{1,20}") {
            let written = format!("{text:?}");
            for (start, letter) in text.char_indices().filter(|(_, letter)| letter.is_ascii_lowercase()) {
                let found = find_part(&written, &(start..start + 1));
                prop_assert_eq!(found.map(|found| written[found].to_owned()), Some(letter.to_string()), "{}", written);
            }
        }

        #[test]
        fn nothing_makes_it_panic(written in "[\"']{0,3}.{0,20}[\"']{0,3}", start in 0..30usize, len in 0..9usize) {
            if let Some(found) = find_part(&written, &(start..start + len)) {
                prop_assert!(found.end <= written.len() + 1);
            }
        }

        #[test]
        fn keys_of_parts_are_taken_apart(key in "[a-z.]{1,9}", part in (0..99usize, 0..99usize)) {
            let part = part.0..part.1;
            let whole = key_of_part(&key, &part);
            prop_assert_eq!(split_key(&whole), Some((key.as_str(), part)));
            prop_assert_eq!(split_key(&key), None);
        }
    }
}
