//! Counts words the obvious fast way, and compares such counts with what a job has counted.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use hashbrown::HashMap;
use serde::Deserialize;

/// How often each word comes.
pub type Counts = HashMap<Vec<u8>, u64>;

/// The files of a folder that are not hidden, by name; a file is itself.
///
/// # Errors
///
/// When the folder cannot be listed.
pub fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot list `{}`", path.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|file| {
        let is_hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']));
        file.is_file() && !is_hidden
    });
    files.sort();
    Ok(files)
}

/// Counts the words of all files, on this many threads.
///
/// # Errors
///
/// When a file cannot be read.
pub fn count_files(files: &[PathBuf], n_threads: usize) -> anyhow::Result<Counts> {
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<Counts> {
        let mut counts = Counts::new();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let text = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
            count(&mut counts, &text);
        }
        Ok(counts)
    };
    if n_threads <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
        let mut all = Counts::new();
        for thread in threads {
            let counts = thread.join().map_err(|_| anyhow::anyhow!("a counting thread panicked"))??;
            for (word, n) in counts {
                *all.entry(word).or_default() += n;
            }
        }
        Ok(all)
    })
}

/// Adds the words of a text.
pub fn count(counts: &mut Counts, text: &[u8]) {
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        *counts.entry_ref(word).or_default() += 1;
    }
}

/// A row that a job has written.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    word: Cow<'a, str>,
    count: u64,
}

/// What the rows of a job are, batch after batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The counts of each batch: they are added up.
    OfBatches,
    /// The counts of all batches so far, of the words that a batch has: the last one of each word is the largest.
    Running,
}

/// Reads the rows `{"word": …, "count": …}` of every file of a folder: a job writes a word once a batch.
///
/// # Errors
///
/// When a file cannot be read, or a line is no such row.
pub fn read_rows(folder: &Path, rows: Rows) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    for path in files(folder)? {
        let file = File::open(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = String::new();
        for number in 1_u64.. {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                break;
            }
            let row: Row = serde_json::from_str(&line)
                .with_context(|| format!("`{}`, line {number}, is no row with word and count", path.display()))?;
            let count = counts.entry_ref(row.word.as_bytes()).or_default();
            *count = match rows {
                Rows::OfBatches => *count + row.count,
                Rows::Running => row.count.max(*count),
            };
        }
    }
    Ok(counts)
}

/// Whether both count the same words as often.
///
/// # Errors
///
/// The first few words that differ, and how many do.
pub fn compare(expected: &Counts, found: &Counts) -> anyhow::Result<()> {
    let words = expected.keys().chain(found.keys().filter(|word| !expected.contains_key(*word)));
    let mut differing: Vec<_> = words.filter(|word| expected.get(*word) != found.get(*word)).collect();
    differing.sort_unstable();
    let shown = differing.iter().take(5).map(|word| {
        let number = |counts: &Counts| counts.get(*word).copied().unwrap_or(0);
        format!("\n  {}: {} instead of {}", String::from_utf8_lossy(word), number(found), number(expected))
    });
    ensure!(differing.is_empty(), "{} words are counted wrongly:{}", differing.len(), shown.collect::<String>());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> Counts {
        words.iter().map(|(word, n)| (word.as_bytes().to_vec(), *n)).collect()
    }

    #[test]
    fn words_are_what_stands_between_blanks() {
        let mut found = Counts::new();
        count(&mut found, b" a  b\ta\r\nc\n\na");
        assert_eq!(found, counts(&[("a", 3), ("b", 1), ("c", 1)]));
    }

    #[test]
    fn threads_do_not_matter_and_hidden_files_do_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("1", "a b"), ("2", "b c"), ("3", "c c"), (".4", "x"), ("_5", "x")] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        let files = files(folder.path()).expect("listed");
        let expected = counts(&[("a", 1), ("b", 2), ("c", 3)]);
        for n_threads in [1, 2, 5] {
            assert_eq!(count_files(&files, n_threads).expect("counted"), expected);
        }
    }

    #[test]
    fn rows_are_added_up_over_batches() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("1.jsonl"), "{\"word\":\"a\",\"count\":2}\n{\"word\":\"\\u0062\",\"count\":1}\n")
            .expect("written");
        fs::write(folder.path().join("2.jsonl"), "{\"count\":3,\"word\":\"a\"}\n").expect("written");
        assert_eq!(read_rows(folder.path(), Rows::OfBatches).expect("read"), counts(&[("a", 5), ("b", 1)]));
        assert_eq!(read_rows(folder.path(), Rows::Running).expect("read"), counts(&[("a", 3), ("b", 1)]));
        fs::write(folder.path().join("3.jsonl"), "{\"word\":\"a\"}\n").expect("written");
        let error = format!("{:#}", read_rows(folder.path(), Rows::OfBatches).expect_err("a row without a count"));
        assert!(error.contains("3.jsonl") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn differences_are_named() {
        let expected = counts(&[("a", 1), ("b", 2)]);
        assert!(compare(&expected, &expected).is_ok());
        let error = compare(&expected, &counts(&[("a", 1), ("b", 3), ("c", 1)])).expect_err("they differ").to_string();
        assert_eq!(error, "2 words are counted wrongly:\n  b: 3 instead of 2\n  c: 1 instead of 0");
    }
}
