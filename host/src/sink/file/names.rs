//! What files and folders of a file sink are called, and what a name says.

use std::fmt::Write;

use super::options::FileSinkFormat;
use crate::ids::{BatchId, PartitionId};

/// The file that is locked for as long as a sink writes to a directory. Hidden, as file sources pass such names over.
pub(super) const LOCK_NAME: &str = ".tidemill-sink.lock";

/// The folder of rows whose value is null, or an empty text, which has no name of its own: Hive's, as all readers know it.
pub(super) const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The longest name that file systems take.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// Whose a file is, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A file that was being written.
    Temporary,
    /// A part of a batch.
    Published(BatchId),
    /// Not ours.
    Foreign,
}

impl Name {
    pub(super) fn of(name: &str) -> Self {
        let temporary = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
        match temporary.and_then(|name| name.rsplit_once('.')) {
            Some((name, number)) if is_number(number, 1) && batch_of(name).is_some() => Self::Temporary,
            None => batch_of(name).map_or(Self::Foreign, Self::Published),
            Some(_) => Self::Foreign,
        }
    }
}

/// The batch of a name that is as [`part_name`] makes them.
fn batch_of(name: &str) -> Option<BatchId> {
    let (numbers, extension) = name.rsplit_once('.')?;
    FileSinkFormat::EXTENSIONS.contains(&extension).then_some(())?;
    let (batch, part) = numbers.strip_prefix("batch-")?.split_once("-part-")?;
    let is_part = match part.split_once('-') {
        None => is_number(part, 4),
        Some((part, index)) => is_number(part, 4) && is_number(index, 4),
    };
    (is_part && is_number(batch, 10)).then(|| batch.parse().ok().map(BatchId)).flatten()
}

fn is_number(text: &str, n_digits_min: usize) -> bool {
    text.len() >= n_digits_min && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name of a file of a partition; `index` counts the files that it has in one folder.
pub(super) fn part_name(batch_id: BatchId, partition: PartitionId, index: u32, extension: &str) -> String {
    let index = if index == 0 { String::new() } else { format!("-{index:04}") };
    format!("batch-{:010}-part-{:04}{index}.{extension}", batch_id.0, partition.0)
}

/// The folder of the rows that have a value in a column, as in `day=2026-11-22`.
pub(super) fn folder_name(column: &str, value: Option<&str>) -> String {
    let value = value.filter(|value| !value.is_empty());
    format!("{}={}", percent_encoded(column), value.map_or(NULL_VALUE.into(), percent_encoded))
}

/// Whether a folder may be one of those of values.
pub(super) fn is_folder_of_value(name: &str) -> bool {
    name.contains('=')
}

/// A text without what means something in paths, patterns and shells. What is beyond ASCII stays, as with Hive, but for what controls
/// a terminal.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for letter in text.chars() {
        let is_plain = letter.is_ascii_alphanumeric() || "-_.~".contains(letter);
        if is_plain || !(letter.is_ascii() || letter.is_control()) {
            encoded.push(letter);
            continue;
        }
        for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Name) {
        assert_eq!(Name::of(name), expected, "{name}");
    }

    #[test]
    fn names_say_whose_a_file_is() {
        check("batch-0000000000-part-0000.jsonl", Name::Published(BatchId(0)));
        check("batch-12345678901-part-12345.txt", Name::Published(BatchId(12_345_678_901)));
        check("batch-0000000007-part-0000-0001.parquet", Name::Published(BatchId(7)));
        check("batch-0000000007-part-0000.csv", Name::Published(BatchId(7)));
        check(".batch-0000000000-part-0000.jsonl.0.tmp", Name::Temporary);
        check(".batch-0000000000-part-0000-0012.csv.3.tmp", Name::Temporary);
        check(".batch-0000000000-part-0000.jsonl.tmp", Name::Foreign);
        check("batch-000-part-0000.jsonl", Name::Foreign);
        check("batch-0000000000-part-000x.jsonl", Name::Foreign);
        check("batch-0000000000-part-0000-1.jsonl", Name::Foreign);
        check("batch-0000000000-part-0000.orc", Name::Foreign);
        check("batch-0000000000-part-0000.jsonl.0.tmp", Name::Foreign);
        let own = part_name(BatchId(u64::MAX), PartitionId(u32::MAX), u32::MAX, "txt");
        check(&own, Name::Published(BatchId(u64::MAX)));
        assert_eq!(part_name(BatchId(1), PartitionId(2), 0, "csv"), "batch-0000000001-part-0002.csv");
        assert_eq!(part_name(BatchId(1), PartitionId(2), 3, "csv"), "batch-0000000001-part-0002-0003.csv");
    }

    #[track_caller]
    fn check_folder(column: &str, value: Option<&str>, expected: &str) {
        assert_eq!(folder_name(column, value), expected);
        assert!(is_folder_of_value(expected));
    }

    #[test]
    fn folders_have_the_values_in_their_names() {
        check_folder("day", Some("2026-11-22"), "day=2026-11-22");
        check_folder("day", None, "day=__HIVE_DEFAULT_PARTITION__");
        check_folder("day", Some(""), "day=__HIVE_DEFAULT_PARTITION__");
        check_folder("a=b", Some("../../etc"), "a%3Db=..%2F..%2Fetc");
        check_folder("at", Some("2026-11-22T07:30:00Z"), "at=2026-11-22T07%3A30%3A00Z");
        check_folder("city", Some("Zürich 1"), "city=Zürich%201");
        check_folder("x", Some("100%\u{1b}[2J\u{9b}\\*"), "x=100%25%1B%5B2J%C2%9B%5C%2A");
    }
}
