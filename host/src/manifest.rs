//! What a sink of files has published: which files are part of which batch. Written by the sink, read by sources of files.
//!
//! A directory has a folder [`FOLDER`]. Each of its files has a line for each of its batches, a JSON object:
//!
//! | file | batches |
//! | --- | --- |
//! | `0000000012` | batch 12 |
//! | `0000000000-0000000011` | batches 0 to 11, as far as they had rows: many files, merged to one |
//!
//! A batch is published when a line says so, and its files were whole by then. While files are merged a batch may stand in two of
//! them, with the same words.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// Where manifests are, in the directory of a sink. Sources of files pass such names over.
pub(crate) const FOLDER: &str = "_manifest";

/// The version of the lines.
const VERSION: u32 = 1;

/// So many files that could be merged wait to be.
///
/// What a reader opens stays few, and a line is written again only as often as the number of lines has doubled since.
const MERGE_FILES_MIN: usize = 100;

/// How often a reader that sees files being merged looks again. Files are merged once in [`MERGE_FILES_MIN`] batches.
const READ_ATTEMPTS_MAX: usize = 10;

/// What a batch has published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Of the format.
    version: u32,
    pub(crate) batch_id: u64,
    pub(crate) batch_time_us: i64,
    /// In the order of their rows.
    pub(crate) files: Vec<PublishedFile>,
}

/// A file that is there, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublishedFile {
    /// Its path within the directory, with `/`.
    pub(crate) path: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestFile {
    /// The first batch that it may have.
    pub(crate) first: u64,
    /// The last one.
    pub(crate) last: u64,
    pub(crate) bytes: u64,
}

impl Manifest {
    pub(crate) fn new(batch_id: u64, batch_time_us: i64, files: Vec<PublishedFile>) -> Self {
        Self { version: VERSION, batch_id, batch_time_us, files }
    }
}

impl ManifestFile {
    /// Its name in the folder.
    pub(crate) fn name(&self) -> String {
        match self {
            Self { first, last, .. } if first == last => format!("{first:010}"),
            Self { first, last, .. } => format!("{first:010}-{last:010}"),
        }
    }
}

/// The batches of a name that is as [`ManifestFile::name`] makes them.
pub(crate) fn batches_of(name: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let is_number = text.len() >= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    match name.split_once('-') {
        None => number(name).map(|batch| (batch, batch)),
        Some((first, last)) => number(first).zip(number(last)).filter(|(first, last)| first < last),
    }
}

/// Manifests as the bytes of a file.
pub(crate) fn encode(manifests: &[Manifest]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for manifest in manifests {
        serde_json::to_writer(&mut bytes, manifest)
            .unwrap_or_else(|error| unreachable!("manifests are plain data, and memory takes all: {error}"));
        bytes.push(b'\n');
    }
    bytes
}

/// Reads the bytes of a file.
///
/// # Errors
///
/// What is wrong with them, for people.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Manifest>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let lines = text.strip_suffix('\n').ok_or("its last line has no end")?;
    lines.split('\n').map(decode_line).collect()
}

fn decode_line(line: &str) -> Result<Manifest, String> {
    /// What lines of all versions have.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let is_other = |error: serde_json::Error| format!("a line is no manifest: {error}");
    let Versioned { version } = serde_json::from_str(line).map_err(is_other)?;
    if version != VERSION {
        return Err(format!("it has version {version} of the format, and {VERSION} is read"));
    }
    let manifest: Manifest = serde_json::from_str(line).map_err(is_other)?;
    for file in &manifest.files {
        let is_within = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
        if file.path.is_empty() || !is_within {
            return Err(format!("it names `{}`, which is not in the directory", file.path));
        }
    }
    Ok(manifest)
}

/// The files of the folder of a directory, in the order of their batches; none when there is no such folder.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<ManifestFile>> {
    let entries = match fs::read_dir(directory.join(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some((first, last)) = entry.file_name().to_str().and_then(batches_of) else { continue };
        match entry.metadata() {
            Ok(metadata) => files.push(ManifestFile { first, last, bytes: metadata.len() }),
            // Merged since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    sort(&mut files);
    Ok(files)
}

/// Brings files to the order of their batches.
pub(crate) fn sort(files: &mut [ManifestFile]) {
    files.sort_by_key(|file| (file.first, std::cmp::Reverse(file.last)));
}

/// Reads one file of the folder of a directory.
pub(crate) fn read(directory: &Path, file: &ManifestFile) -> io::Result<Vec<Manifest>> {
    let path = directory.join(FOLDER).join(file.name());
    let bytes = fs::read(&path)?;
    decode(&bytes).map_err(|what| {
        let text = format!("the manifest `{}` is damaged: {what}", path.display());
        io::Error::new(ErrorKind::InvalidData, text)
    })
}

/// All batches that are published in a directory, in order. The sink may be at work meanwhile: a batch is among them or not.
pub(crate) fn read_all(directory: &Path) -> io::Result<Vec<Manifest>> {
    for _ in 0..READ_ATTEMPTS_MAX {
        let files = list(directory)?;
        let mut batches = BTreeMap::new();
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for file in files {
            match read(directory, &file) {
                Ok(manifests) => {
                    batches.extend(manifests.into_iter().map(|manifest| (manifest.batch_id, manifest)));
                    there.push(file);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => gone.push(file),
                Err(error) => return Err(error),
            }
        }
        if is_whole(&there, &gone, &list(directory)?) {
            return Ok(batches.into_values().collect());
        }
    }
    Err(io::Error::new(ErrorKind::ResourceBusy, "its manifests were merged each time they were read"))
}

/// Whether the files that were read have all batches up to the last of them, though some were gone by then, as a look after that
/// says: those that are gone were merged into one that was read, and there is no other one.
fn is_whole(read: &[ManifestFile], gone: &[ManifestFile], after: &[ManifestFile]) -> bool {
    let is_read = |file: &ManifestFile| read.iter().any(|other| other.first <= file.first && file.last <= other.last);
    let last = read.iter().map(|file| file.last).max();
    // What came later is for the next look.
    let is_later = |file: &ManifestFile| last.is_some_and(|last| file.first > last);
    gone.iter().all(is_read) && after.iter().all(|file| is_read(file) || is_later(file))
}

/// Decides which files are to be merged, by their sizes in the order of their batches: the newest that are together as large as each
/// of them, when there are enough. So there are few files, and what is merged has doubled.
pub(crate) fn to_merge(sizes: &[u64]) -> Option<Range<usize>> {
    let mut newer = 0_u64;
    let mut start = sizes.len();
    for (index, &bytes) in sizes.iter().enumerate().rev() {
        let n_newer = sizes.len() - 1 - index;
        // The first few are of one size, more or less.
        if bytes > newer && n_newer >= MERGE_FILES_MIN {
            break;
        }
        newer = newer.saturating_add(bytes);
        start = index;
    }
    (sizes.len() - start > MERGE_FILES_MIN).then_some(start..sizes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(batch_id: u64) -> Manifest {
        let file = |part| PublishedFile {
            path: format!("day=1/batch-{batch_id:010}-part-{part:04}.csv"),
            rows: batch_id + part,
            bytes: 7,
        };
        Manifest::new(batch_id, 1_795_332_600_000_000, (0..batch_id % 3).map(file).collect())
    }

    #[test]
    fn a_line_has_a_batch() {
        let expected = "{\"version\":1,\"batch_id\":1,\"batch_time_us\":1795332600000000,\"files\":[{\"path\":\
                        \"day=1/batch-0000000001-part-0000.csv\",\"rows\":1,\"bytes\":7}]}\n";
        assert_eq!(String::from_utf8_lossy(&encode(&[manifest(1)])), expected);
    }

    #[track_caller]
    fn check_damage(bytes: &str, expected: &str) {
        let what = decode(bytes.as_bytes()).expect_err("it is damaged");
        assert!(what.starts_with(expected), "{what}");
    }

    #[test]
    fn what_is_no_manifest_is_told() {
        let whole = String::from_utf8(encode(&[manifest(1), manifest(2)])).expect("JSON");
        check_damage("", "its last line has no end");
        check_damage(&whole[..whole.len() - 1], "its last line has no end");
        check_damage("{}\n", "a line is no manifest: missing field `version`");
        check_damage(&whole.replace("\"version\":1", "\"version\":2"), "it has version 2 of the format, and 1 is read");
        check_damage(&whole.replace("day=1/", "../"), "it names `../batch-");
        check_damage(&whole.replace("day=1/", "/"), "it names `/batch-");
    }

    #[track_caller]
    fn check_name(name: &str, expected: Option<(u64, u64)>) {
        assert_eq!(batches_of(name), expected, "{name}");
    }

    #[test]
    fn names_say_which_batches() {
        check_name("0000000012", Some((12, 12)));
        check_name("0000000000-0000000011", Some((0, 11)));
        check_name("12345678901", Some((12_345_678_901, 12_345_678_901)));
        check_name(".0000000012.tmp", None);
        check_name("12", None);
        check_name("0000000012-0000000011", None);
        check_name("0000000012-", None);
    }

    #[track_caller]
    fn check_merge(sizes: &[u64], expected: Option<Range<usize>>) {
        assert_eq!(to_merge(sizes), expected);
    }

    #[test]
    fn many_small_files_are_merged_and_a_large_one_waits_for_as_much() {
        check_merge(&[], None);
        check_merge(&[1; 100], None);
        check_merge(&[1; 101], Some(0..101));
        check_merge(&[[1000].as_slice(), &[1; 100]].concat(), None);
        check_merge(&[[1000].as_slice(), &[1; 101]].concat(), Some(1..102));
        check_merge(&[[100].as_slice(), &[1; 101]].concat(), Some(0..102));
        check_merge(&[[4000, 101].as_slice(), &[1; 101]].concat(), Some(1..103));
    }

    #[test]
    fn a_line_is_written_again_only_as_often_as_their_number_has_doubled() {
        let (mut sizes, mut written) = (Vec::new(), 0);
        for _ in 0..100_000 {
            sizes.push(1);
            if let Some(merged) = to_merge(&sizes) {
                let bytes = sizes.drain(merged).sum();
                written += bytes;
                sizes.push(bytes);
            }
            assert!(sizes.len() <= 2 * MERGE_FILES_MIN, "{} files", sizes.len());
        }
        assert!(written <= 100_000 * 11, "2^10 * 100 is more than there are, and {written} lines were written");
    }

    #[test]
    fn a_reader_sees_whether_files_were_merged_meanwhile() {
        let file = |first, last| ManifestFile { first, last, bytes: 1 };
        let singles: Vec<_> = (0..3).map(|batch| file(batch, batch)).collect();
        let merged = [file(0, 2)];
        assert!(is_whole(&[], &[], &[]));
        assert!(is_whole(&singles, &[], &singles));
        assert!(is_whole(&singles[..2], &[], &singles), "one more batch");
        assert!(is_whole(&singles, &[], &singles[2..]) && is_whole(&merged, &singles[..1], &merged), "merged ones go");
        assert!(!is_whole(&singles[1..], &singles[..1], &merged), "one was gone before it was read");
        assert!(!is_whole(&singles[2..], &[], &merged), "others were gone before they were listed");
        assert!(!is_whole(&[], &[], &merged), "all were");
    }

    proptest! {
        #[test]
        fn law_decode_of_encode_is_what_was_there(batches in prop::collection::vec(0..1_000_000_u64, 1..20)) {
            let manifests: Vec<_> = batches.into_iter().map(manifest).collect();
            prop_assert_eq!(decode(&encode(&manifests)), Ok(manifests));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
