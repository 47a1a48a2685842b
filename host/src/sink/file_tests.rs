//! A file sink against real directories.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use tempfile::TempDir;

use super::*;
use crate::error::{Explain, Fault};
use crate::job::table::read_options;

fn batch(number: u64) -> SinkBatch {
    SinkBatch { batch_id: BatchId(number), batch_time_us: 0 }
}

fn counts(words: &[&str]) -> RecordBatch {
    let word: ArrayRef = Arc::new(StringArray::from_iter_values(words));
    let count: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=words.len() as i64));
    RecordBatch::try_from_iter([("word", word), ("count", count)]).expect("columns of one length")
}

fn lines(lines: &[Option<&str>]) -> RecordBatch {
    let column: ArrayRef = Arc::new(StringArray::from_iter(lines.iter().copied()));
    RecordBatch::try_from_iter([("value", column)]).expect("one column")
}

fn write(sink: &dyn Sink, number: u64, partition: u32, rows: &[RecordBatch]) -> Prepared {
    let mut writer = sink.writer(&batch(number), PartitionId(partition)).expect("the directory is ours");
    for rows in rows {
        writer.write(rows).expect("the directory is ours");
    }
    writer.prepare().expect("the directory is ours")
}

fn open(definition: &FileSink, rows: &RecordBatch) -> Result<Arc<dyn Sink>, Error> {
    definition.open(&rows.schema())
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

/// The files of a directory, with what is in them; the lock is left out.
fn files(path: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(path).expect("it is there").map(|entry| entry.expect("it is there").path());
    entries
        .map(|path| (path.file_name().expect("a file").to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name != LOCK_NAME)
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap_or_else(|_| "a directory".into())))
        .collect()
}

#[track_caller]
fn check_files(path: &Path, expected: &[(&str, &str)]) {
    let expected = expected.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect();
    assert_eq!(files(path), expected);
}

const A: &str = "{\"word\":\"a\",\"count\":1}\n";

#[test]
fn law_a_batch_appears_whole_once_and_only_when_published() {
    let dir = dir();
    let path = dir.path().join("made/on/the/way");
    let sink = open(&FileSink::json(&path), &counts(&[])).expect("it can be made");
    let parts = vec![
        write(&*sink, 7, 3, &[counts(&["a"])]),
        write(&*sink, 7, 0, &[counts(&["a"]), counts(&[]), counts(&["b"])]),
        write(&*sink, 7, 1, &[]),
        write(&*sink, 7, 2, &[counts(&[])]),
    ];
    assert!(files(&path).keys().all(|name| name.starts_with('.')), "nothing is visible yet");
    sink.publish(&batch(7), parts).expect("the directory is ours");
    let expected = [
        ("batch-0000000007-part-0000.jsonl", "{\"word\":\"a\",\"count\":1}\n{\"word\":\"b\",\"count\":1}\n"),
        ("batch-0000000007-part-0003.jsonl", A),
    ];
    check_files(&path, &expected);
    sink.publish(&batch(7), vec![write(&*sink, 7, 5, &[counts(&["again"])])]).expect("nothing to do");
    check_files(&path, &expected);
    sink.close().expect("nothing to do");
}

#[test]
fn a_batch_that_fails_leaves_nothing() {
    let dir = dir();
    let sink = open(&FileSink::json(dir.path()), &counts(&[])).expect("it is there");
    let mut unprepared = sink.writer(&batch(0), PartitionId(0)).expect("the directory is ours");
    let many: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
    unprepared.write(&counts(&many.iter().map(String::as_str).collect::<Vec<_>>())).expect("the directory is ours");
    let prepared = write(&*sink, 0, 1, &[counts(&["a"])]);
    assert_eq!(files(dir.path()).len(), 2);
    drop(unprepared);
    drop(prepared);
    check_files(dir.path(), &[]);
}

#[test]
fn a_batch_that_cannot_be_published_whole_is_taken_back_and_may_be_published_again() {
    let dir = dir();
    let sink = open(&FileSink::json(dir.path()), &counts(&[])).expect("it is there");
    let parts = || (0..3).map(|partition| write(&*sink, 0, partition, &[counts(&["a"])])).collect::<Vec<_>>();
    let in_the_way = dir.path().join("batch-0000000000-part-0001.jsonl");
    fs::create_dir(&in_the_way).expect("the directory is ours");
    let error = sink.publish(&batch(0), parts()).expect_err("a directory is in the way");
    assert_eq!(error.to_string(), format!("cannot write `{}`", in_the_way.display()));
    check_files(dir.path(), &[("batch-0000000000-part-0001.jsonl", "a directory")]);
    fs::remove_dir(&in_the_way).expect("it is empty");
    sink.publish(&batch(0), parts()).expect("nothing is in the way");
    assert_eq!(files(dir.path()).len(), 3);
}

#[test]
fn batches_of_an_earlier_run_are_refused_or_deleted() {
    let dir = dir();
    let definition = FileSink::json(dir.path());
    let foreign = ["notes.txt", ".batch-1.tmp", "batch-1-part-0.jsonl", ".other.tmp"];
    for name in foreign {
        fs::write(dir.path().join(name), name).expect("the directory is ours");
    }
    let sink = open(&definition, &counts(&[])).expect("nothing of ours is there");
    sink.publish(&batch(0), vec![write(&*sink, 0, 0, &[counts(&["a"])])]).expect("the directory is ours");
    drop(sink);
    let error = open(&definition, &counts(&[])).map(|_| ()).expect_err("there are batches");
    let expected = "has batches of an earlier run, such as `batch-0000000000-part-0000.jsonl`";
    assert_eq!(error.to_string(), format!("`{}` {expected}", dir.path().display()));
    assert_eq!(error.fault(), Fault::User);
    let overwriting = FileSink { overwrite: true, ..definition };
    let _sink = open(&overwriting, &counts(&[])).expect("they may be deleted");
    assert_eq!(
        files(dir.path()).into_keys().collect::<Vec<_>>(),
        [".batch-1.tmp", ".other.tmp", "batch-1-part-0.jsonl", "notes.txt"]
    );
}

#[test]
fn hidden_files_of_a_dead_run_are_removed() {
    let dir = dir();
    fs::write(dir.path().join(".batch-0000000003-part-0001.jsonl.17.tmp"), "half a li").expect("the directory is ours");
    fs::write(dir.path().join(".batch-0000000003-part-0001.txt.9.tmp"), "half a li").expect("the directory is ours");
    let _sink = open(&FileSink::json(dir.path()), &counts(&[])).expect("nothing is published");
    check_files(dir.path(), &[]);
}

#[test]
fn a_directory_has_one_sink_at_a_time() {
    let dir = dir();
    let definition = FileSink::json(dir.path());
    let sink = open(&definition, &counts(&[])).expect("it is free");
    let error = open(&definition, &counts(&[])).map(|_| ()).expect_err("it is taken");
    assert_eq!(error.to_string(), format!("`{}` is being written to by another job or sink", dir.path().display()));
    drop(sink);
    open(&definition, &counts(&[])).expect("it is free again");
}

#[test]
fn text_is_a_line_a_row() {
    let dir = dir();
    let rows = lines(&[Some("one"), None, Some("drei é")]);
    let sink = open(&FileSink::text(dir.path()), &rows).expect("one column of text");
    sink.publish(&batch(0), vec![write(&*sink, 0, 0, &[rows.slice(0, 2), rows.slice(2, 1)])]).expect("ours");
    check_files(dir.path(), &[("batch-0000000000-part-0000.txt", "one\n\ndrei é\n")]);
}

#[track_caller]
fn check_schema(rows: &RecordBatch, expected: &str) {
    let error = FileSink::text("unused").check(&rows.schema()).expect_err("no text");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn text_needs_one_column_of_text() {
    check_schema(&counts(&[]), "rows cannot be written as text: they have 2 columns, and a line has one");
    let number = counts(&[]).project(&[1]).expect("there are two columns");
    check_schema(&number, "rows cannot be written as text: column `count` is int64, not utf8");
}

#[test]
fn a_path_that_is_no_directory_is_named() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "").expect("the directory is ours");
    let error = open(&FileSink::json(&path), &counts(&[])).map(|_| ()).expect_err("a file is there");
    assert_eq!(error.to_string(), format!("`{}` cannot be used as a directory", path.display()));
}

#[test]
fn a_full_disk_is_somebody_elses_fault_and_may_pass() {
    let error = SinkError::write_file("out/a", ErrorKind::StorageFull.into());
    assert_eq!(error.to_string(), "no space is left for `out/a`");
    assert_eq!((error.fault(), error.retry()), (Fault::External, crate::error::Retry::UntilItPasses));
    assert!(error.hint().is_some_and(|hint| hint.contains("Nothing of the batch is visible")));
}

#[track_caller]
fn check_name(name: &str, expected: Name) {
    assert_eq!(Name::of(name), expected, "{name}");
}

#[test]
fn names_say_whose_a_file_is() {
    check_name("batch-0000000000-part-0000.jsonl", Name::Published(BatchId(0)));
    check_name("batch-12345678901-part-12345.txt", Name::Published(BatchId(12_345_678_901)));
    check_name(".batch-0000000000-part-0000.jsonl.0.tmp", Name::Temporary);
    check_name(".batch-0000000000-part-0000.jsonl.tmp", Name::Foreign);
    check_name("batch-000-part-0000.jsonl", Name::Foreign);
    check_name("batch-0000000000-part-000x.jsonl", Name::Foreign);
    check_name("batch-0000000000-part-0000.csv", Name::Foreign);
    check_name("batch-0000000000-part-0000.jsonl.0.tmp", Name::Foreign);
    let own = part_name(BatchId(u64::MAX), PartitionId(u32::MAX), FileSinkFormat::Text);
    check_name(&own, Name::Published(BatchId(u64::MAX)));
}

#[test]
fn options_are_read() {
    let read = |text: &str| read_options(text, Path::new("/base"), FileSink::parse);
    assert_eq!(read("path = 'out'"), Ok(Some(FileSink::json("/base/out"))));
    let all = "path = '/out'\nformat = 'text'\noverwrite = true";
    assert_eq!(read(all), Ok(Some(FileSink { overwrite: true, ..FileSink::text("/out") })));
    let problems = read("format = 'csv'").expect_err("two mistakes");
    assert_eq!(problems.len(), 2);
}
