//! Where records of CSV end, and how many fields they have, without unpacking them.
//!
//! As every reader of CSV does it: a quote opens a field only where it starts; two quotes within a quoted field are one
//! of its characters; whatever follows the closing quote belongs to the field too.

use memchr::{memchr, memchr_iter};

/// What a line of CSV has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Delimiters outside of quotes: one fewer than the fields that end on the line, or with it.
    pub(super) n_delimiters: usize,
    /// Whether a quoted field goes on with the next line.
    pub(super) is_open: bool,
}

/// Looks at a line without its line end; `is_open`: it starts within a quoted field.
pub(super) fn scan(line: &[u8], delimiter: u8, quote: Option<u8>, is_open: bool) -> Scanned {
    let Some(quote) = quote.filter(|quote| is_open || memchr(*quote, line).is_some()) else {
        return Scanned { n_delimiters: memchr_iter(delimiter, line).count(), is_open: false };
    };
    let (mut n_delimiters, mut rest, mut within) = (0, line, is_open);
    loop {
        if within {
            match memchr(quote, rest) {
                None => return Scanned { n_delimiters, is_open: true },
                Some(end) if rest.get(end + 1) == Some(&quote) => rest = &rest[end + 2..],
                Some(end) => {
                    within = false;
                    rest = &rest[end + 1..];
                }
            }
            if within {
                continue;
            }
        } else if rest.first() == Some(&quote) {
            within = true;
            rest = &rest[1..];
            continue;
        }
        // The rest of an unquoted field, or what follows the closing quote of one.
        match memchr(delimiter, rest) {
            None => return Scanned { n_delimiters, is_open: false },
            Some(end) => {
                n_delimiters += 1;
                rest = &rest[end + 1..];
            }
        }
    }
}

/// The first record of a text and how many fields it has; blank lines before it are passed over. `None` when there is
/// none, or when it has no end.
pub(super) fn first_record(
    text: &[u8],
    delimiter: u8,
    quote: Option<u8>,
    may_have_lines: bool,
) -> Option<(&[u8], usize)> {
    let blank = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let start = text.iter().position(|byte| !blank(byte))?;
    let text = &text[start..];
    let (mut end, mut n_fields, mut is_open) = (0, 1, false);
    loop {
        let rest = &text[end..];
        let line_end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest[..line_end].strip_suffix(b"\r").unwrap_or(&rest[..line_end]);
        let scanned = scan(line, delimiter, quote, is_open);
        n_fields += scanned.n_delimiters;
        is_open = scanned.is_open;
        if !is_open {
            return Some((&text[..end + line.len()], n_fields));
        }
        if !may_have_lines || line_end == rest.len() {
            return None;
        }
        end += line_end + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(line: &str, is_open: bool, expected: (usize, bool)) {
        let scanned = scan(line.as_bytes(), b',', Some(b'"'), is_open);
        assert_eq!((scanned.n_delimiters, scanned.is_open), expected, "{line}");
    }

    #[test]
    fn quotes_hide_delimiters_and_line_ends() {
        check("", false, (0, false));
        check("a,b,c", false, (2, false));
        check("\"a,b\",c", false, (1, false));
        check("\"a\"\"b,\",c", false, (1, false));
        check("5\" pipe,c", false, (1, false));
        check("\"a\"b\",c", false, (1, false));
        check("a,\"b", false, (1, true));
        check("b,\",c", true, (1, false));
        check("b,\"\",c", true, (0, true));
        check(",\"", false, (1, true));
        check("\"", false, (0, true));
        check("\"\"", false, (0, false));
    }

    #[test]
    fn a_record_may_have_several_lines() {
        let first = |text: &'static str, lines| first_record(text.as_bytes(), b',', Some(b'"'), lines);
        assert_eq!(first("\r\n\na,b\r\nc", true), Some((&b"a,b"[..], 2)));
        assert_eq!(first("a,\"b\nc\",d\ne", true), Some((&b"a,\"b\nc\",d"[..], 3)));
        assert_eq!(first("a,\"b\nc\",d\ne", false), None);
        assert_eq!(first("a,\"b", true), None);
        assert_eq!(first("\n", true), None);
    }

    /// A byte at a time.
    fn oracle(line: &[u8], mut within: bool) -> (usize, bool) {
        let (mut n_delimiters, mut at_start, mut index) = (0, !within, 0);
        while index < line.len() {
            match line[index] {
                b'"' if within && line.get(index + 1) == Some(&b'"') => index += 1,
                b'"' if within => within = false,
                b'"' if at_start => within = true,
                b',' if !within => {
                    n_delimiters += 1;
                    at_start = true;
                    index += 1;
                    continue;
                }
                _ => {}
            }
            at_start = false;
            index += 1;
        }
        (n_delimiters, within)
    }

    proptest! {
        #[test]
        fn law_scanning_fast_is_scanning(
            line in prop::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'a')], 0..20),
            is_open in any::<bool>(),
        ) {
            let scanned = scan(&line, b',', Some(b'"'), is_open);
            prop_assert_eq!((scanned.n_delimiters, scanned.is_open), oracle(&line, is_open));
        }
    }
}
