//! Reads Rust just well enough to tell code from comments, texts and tests.

/// The text with every comment and every text literal blanked out, line by line as long as it was.
pub(super) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => end_of_line(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_comment(bytes, at),
            b'"' => end_of_text(bytes, at + 1),
            b'r' if !is_word(bytes, at) => end_of_raw_text(bytes, at).unwrap_or(at),
            b'\'' => end_of_character(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    // Characters of several bytes stand outside comments and texts only in names; those are blanked as a whole above.
    String::from_utf8_lossy(&code).into_owned()
}

/// The part of `code` (of [`code_only`]) before its unit tests.
pub(super) fn before_tests(code: &str) -> &str {
    code.find("\n#[cfg(test)]\nmod ").map_or(code, |at| &code[..at])
}

/// Whether the byte before `at` belongs to a word, so that an `r` there opens nothing. `b` may stand before it.
fn is_word(bytes: &[u8], at: usize) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match at.checked_sub(1).map(|before| bytes[before]) {
        Some(b'b' | b'c') => at >= 2 && word(bytes[at - 2]),
        Some(before) => word(before),
        None => false,
    }
}

fn end_of_line(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| start + length)
}

fn end_of_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn end_of_text(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"` or `r#"…"#`; none if this is no such text.
fn end_of_raw_text(bytes: &[u8], start: usize) -> Option<usize> {
    let n_hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = start + 1 + n_hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; n_hashes]].concat();
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(bytes.len(), |length| open + 1 + length + close.len()))
}

/// The end of `'x'` or `'\n'`; none if this is a lifetime.
fn end_of_character(bytes: &[u8], start: usize) -> Option<usize> {
    let rest = bytes.get(start + 1..)?;
    if rest.first() == Some(&b'\\') {
        let length = rest.iter().skip(2).position(|byte| *byte == b'\'')?;
        return Some(start + 1 + 2 + length + 1);
    }
    // A quote right after one character makes it a literal.
    let length = width(*rest.first()?);
    (rest.get(length) == Some(&b'\'')).then_some(start + 1 + length + 1)
}

/// How many bytes a character has that starts with this one.
fn width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let code = code_only(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn comments_and_texts_are_blanked() {
        check("a // b\nc", "a c");
        check("/* a /* b */ c */ d", "d");
        check(r#"a("b // \" c") d"#, "a( ) d");
        check(r##"r#"a " b"# c br"d" e"##, "c b e");
        check("parser\"x\" for\"y\"", "parser for");
        check("'\"' a '\\'' b 'é' c", "a b c");
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check("/// SystemTime::now\n//! x\ncode", "code");
    }

    #[test]
    fn what_is_never_closed_ends_with_the_file() {
        check("a \"b", "a");
        check("a /* b", "a");
        check("a r#\"b", "a");
        check("a \"b\\", "a");
        check("'", "'");
    }

    #[test]
    fn tests_are_cut_off() {
        assert_eq!(before_tests("a\n#[cfg(test)]\nmod tests {}"), "a");
        assert_eq!(before_tests("a\n#[cfg(test)]\nuse b;"), "a\n#[cfg(test)]\nuse b;");
    }
}
