//! Reads a file or a directory whole, as a table that stands beside a stream.

use std::collections::BTreeSet;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::FileSource;
use super::listing::Place;
use crate::error::Error;
use crate::source::reject::BadRows;
use crate::source::{BatchLimit, OpenSource, SourceDefinition, SourceError, SourceSnapshot};
use crate::step::chunks::batch_bytes;

/// What the files of a table were at some moment: another value means that the table is to be read again.
///
/// A file is known by its path, its identity (on Unix its device, its number and when it was made), its size and when it
/// was last modified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<FileStamp>);

impl Fingerprint {
    /// How many files there were.
    #[must_use]
    pub fn n_files(&self) -> usize {
        self.0.len()
    }

    /// Their bytes together.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.0.iter().map(|file| file.n_bytes).sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    path: String,
    identity: u128,
    n_bytes: u64,
    modified: SystemTime,
}

/// A table that was read.
#[derive(Debug, Clone)]
pub struct TableRead {
    /// The declared schema, or the one that was found.
    pub schema: SchemaRef,
    /// Its rows, in the order of the files.
    pub batches: Vec<RecordBatch>,
    /// What the files were when reading began. If one changed meanwhile, the next [`fingerprint`] is another.
    pub fingerprint: Fingerprint,
    /// What was seen: rejected rows and refused files among it.
    pub seen: SourceSnapshot,
}

/// What the files of a source are now.
///
/// # Errors
///
/// When they cannot be listed.
pub fn fingerprint(source: &FileSource) -> Result<Fingerprint, Error> {
    let listing = Place::find(&source.path)?.list()?;
    let stamp = |file: super::listing::FoundFile| FileStamp {
        path: file.path,
        identity: file.key,
        n_bytes: file.n_bytes,
        modified: file.modified,
    };
    Ok(Fingerprint(listing.files.into_iter().map(stamp).collect()))
}

/// Reads all rows of the files that a source has now: its format, schema and options say how.
///
/// Rejected rows and refused files are dropped and counted, or fail the read, as `bad_rows` says; a table has no dead
/// letters.
///
/// # Errors
///
/// What cannot be listed or read; a file that was replaced while it was read is one, and reading again helps then.
///
/// # Examples
///
/// ```
/// use tidemill::source::{CsvOptions, Columns, FileFormat, FileSource, fingerprint, read_table};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("users.csv");
/// std::fs::write(&path, "id,name\n1,ann\n2,bob\n")?;
///
/// let source = FileSource::new(&path, FileFormat::Csv(Columns::infer(), CsvOptions::default()));
/// let table = read_table(&source)?;
/// assert_eq!(table.batches.iter().map(|rows| rows.num_rows()).sum::<usize>(), 2);
/// assert_eq!(fingerprint(&source)?, table.fingerprint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_table(source: &FileSource) -> Result<TableRead, Error> {
    read_table_within(source, u64::MAX)
}

/// As [`read_table`], of rows that take at most so many bytes: reading is given up with the first rows beyond.
///
/// # Errors
///
/// As [`read_table`]; [`SourceError::TableTooLarge`].
pub fn read_table_within(source: &FileSource, limit_bytes: u64) -> Result<TableRead, Error> {
    if matches!(source.bad_rows, BadRows::DeadLetter(_)) {
        let message = "a table has no dead letters".into();
        let hint = Some("write `on-error = \"drop\"` or `\"fail\"`".into());
        return Err(SourceError::Option { message, hint }.into());
    }
    let fingerprint = fingerprint(source)?;
    let whole = FileSource { files_per_batch_max: None, bytes_per_batch_max: None, ..source.clone() };
    // Of the clone: a schema that is found is that of the files as they are now.
    let schema = whole.schema()?;
    let OpenSource::Replayable(mut open) = whole.open()? else {
        return Err(SourceError::Option { message: "files are no receiver".into(), hint: None }.into());
    };
    let reader = open.reader();
    let mut batches = Vec::new();
    let mut seen_bytes = 0_u64;
    let ranges = open.plan_batch(BatchLimit { partitions: 1 })?.ranges;
    let objects: BTreeSet<&String> = ranges.iter().map(|range| &range.object).collect();
    let mut n_files = BTreeSet::new();
    for range in &ranges {
        n_files.insert(&range.object);
        reader.read_range(range, &mut |rows| {
            seen_bytes = seen_bytes.saturating_add(batch_bytes(&rows));
            if seen_bytes > limit_bytes {
                let (n_files, n_files_found) = (n_files.len(), objects.len());
                let path = source.path.clone();
                return Err(SourceError::TableTooLarge { path, limit_bytes, seen_bytes, n_files, n_files_found }.into());
            }
            batches.push(rows);
            Ok(())
        })?;
    }
    let seen = open.counters().map(|counters| counters.snapshot()).unwrap_or_default();
    Ok(TableRead { schema, batches, fingerprint, seen })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::plan::describe_schema;
    use crate::source::{Columns, CsvOptions, FileFormat};

    fn users(path: &Path) -> FileSource {
        FileSource::new(path, FileFormat::Csv(Columns::infer(), CsvOptions::default()))
    }

    fn n_rows(table: &TableRead) -> usize {
        table.batches.iter().map(RecordBatch::num_rows).sum()
    }

    #[test]
    fn a_directory_is_read_whole_and_its_changes_are_seen() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("the directory is ours");
        write("a.csv", "id,name\n1,ann\n");
        write("b.csv", "name,id\nbob,2\nbad\n");
        let source = FileSource { files_per_batch_max: Some(1), ..users(dir.path()) };
        let table = read_table(&source).expect("two files");
        assert_eq!(describe_schema(&table.schema), "{id: int64?, name: utf8?}");
        assert_eq!((n_rows(&table), table.seen.rejected_rows), (2, 1));
        assert_eq!((table.fingerprint.n_files(), table.fingerprint.n_bytes()), (2, 32));
        let unchanged = fingerprint(&source).expect("it can be listed");
        assert_eq!(unchanged, table.fingerprint);

        write("c.csv", "id,name\n3,cid\n");
        let with_third = fingerprint(&source).expect("it can be listed");
        assert_ne!(with_third, table.fingerprint, "a file more");
        assert_eq!(n_rows(&read_table(&source).expect("three files")), 3);

        write(".new", "id,name\n4,dan\n");
        fs::rename(dir.path().join(".new"), dir.path().join("c.csv")).expect("within one directory");
        let replaced = fingerprint(&source).expect("it can be listed");
        assert_ne!(replaced, with_third, "another file of the same size");

        write("c.csv", "id,name\n4,dan\n5,eve\n");
        assert_ne!(fingerprint(&source).expect("it can be listed"), replaced, "a file that grew");
        fs::remove_file(dir.path().join("c.csv")).expect("it is there");
        assert_eq!(fingerprint(&source).expect("it can be listed"), table.fingerprint);
    }

    #[test]
    fn a_table_that_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = |source: &FileSource| read_table(source).expect_err("it cannot be read").to_string();
        assert!(error(&users(&dir.path().join("none.csv"))).ends_with("does not exist"));
        assert!(error(&users(dir.path())).ends_with("there is no file yet, or none with content"));
        let fails = FileSource { bad_rows: BadRows::Fail, ..users(dir.path()) };
        let path = dir.path().join("a.csv");
        fs::write(&path, "id\n1\n2,3\n").expect("the directory is ours");
        let expected = "cannot be read: `2,3`: it has 2 fields, and 1 are expected";
        assert_eq!(error(&fails), format!("the row at line 3 of `{}` {expected}", path.display()));
        let letters = FileSource { bad_rows: BadRows::DeadLetter("bad".into()), ..users(dir.path()) };
        assert_eq!(error(&letters), "a table has no dead letters");
    }
}
