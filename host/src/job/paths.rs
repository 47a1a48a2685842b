//! Paths of a job file: relative to it, absolute, or `file:` URLs.

use std::path::{Path, PathBuf};

/// The path that a text means.
///
/// # Errors
///
/// What is wrong, to follow the key's name, and what to write instead.
pub(super) fn resolve(text: &str, base_dir: &Path) -> Result<PathBuf, (String, Option<String>)> {
    let path = match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => from_file_url(rest)?,
        Some((scheme, rest)) if rest.starts_with("//") && is_scheme(scheme) => {
            let hint = "Write a path, or a URL that starts with `file:`.".into();
            return Err((
                format!("is a URL of kind `{scheme}:`, and this version reads and writes local files only"),
                Some(hint),
            ));
        }
        _ => PathBuf::from(text),
    };
    if path.as_os_str().is_empty() {
        return Err(("is empty".into(), Some("Write `.` for the job file's folder.".into())));
    }
    if text.contains('\0') {
        return Err(("holds a zero byte, which no path can".into(), None));
    }
    // Components like `.` are dropped, so that paths in messages are as short as they can be.
    Ok(base_dir.join(path).components().collect())
}

/// The path of what follows `file:`.
fn from_file_url(rest: &str) -> Result<PathBuf, (String, Option<String>)> {
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => match rest.find('/') {
            Some(end) if matches!(&rest[..end], "" | "localhost") => &rest[end..],
            _ => {
                let hint = "Write `file:///absolute/path`, with three slashes.".into();
                return Err(("names a file of another machine".into(), Some(hint)));
            }
        },
    };
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[2..];
            }
            None => {
                return Err(("has a `%` without two hexadecimal digits".into(), Some("Write `%25` for `%`.".into())));
            }
        }
    }
    String::from_utf8(bytes).map(PathBuf::from).map_err(|_| ("is not UTF-8 once its `%` are read".into(), None))
}

/// The name of a file in the same folder that `path` was most likely meant to be.
pub(super) fn similar_file(path: &Path) -> Option<String> {
    /// Folders with more files are not searched.
    const FILES_MAX: usize = 10_000;
    let wanted = path.file_name()?.to_str()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = std::fs::read_dir(parent).ok()?.take(FILES_MAX);
    let names: Vec<String> = files.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect();
    super::nearest::nearest(wanted, names.iter().map(String::as_str)).map(String::from)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let found = resolve(text, Path::new("/jobs")).map_err(|(message, _)| message);
        assert_eq!(found, expected.map(PathBuf::from).map_err(String::from), "{text}");
    }

    #[test]
    fn paths_are_relative_to_the_job_file() {
        check("a/b.wasm", Ok("/jobs/a/b.wasm"));
        check("./a", Ok("/jobs/a"));
        check("../a", Ok("/jobs/../a"));
        check("/a/b", Ok("/a/b"));
        check(".", Ok("/jobs"));
        check("a:b", Ok("/jobs/a:b"));
        check("in/*.txt", Ok("/jobs/in/*.txt"));
        check("", Err("is empty"));
    }

    #[test]
    fn file_urls_are_paths() {
        check("file:///a/b", Ok("/a/b"));
        check("file://localhost/a", Ok("/a"));
        check("file:a%20b", Ok("/jobs/a b"));
        check("FILE:/a", Ok("/a"));
        check("file:", Err("is empty"));
        check("file://server/a", Err("names a file of another machine"));
        check("file:a%2", Err("has a `%` without two hexadecimal digits"));
        check("file:%é", Err("has a `%` without two hexadecimal digits"));
        check("file:%ff", Err("is not UTF-8 once its `%` are read"));
        check("s3://a/b", Err("is a URL of kind `s3:`, and this version reads and writes local files only"));
    }
}
