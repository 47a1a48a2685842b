//! A file sink against real directories.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use proptest::prelude::*;
use tempfile::TempDir;

use super::names::LOCK_NAME;
use super::*;
use crate::error::{Explain, Fault};
use crate::ids::PartitionId;
use crate::job::table::read_options;
use crate::json_lines::tests::{Dice, SIMPLE, column, schema};
use crate::sink::{Prepared, SinkBatch};
use crate::source::{Columns, CsvOptions, FileFormat, FileSource, read_table};

fn batch(number: u64) -> SinkBatch {
    SinkBatch { batch_id: BatchId(number), batch_time_us: 0, is_repeated: false }
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

/// The files of a directory and of folders in it, with what is in them; the lock and manifests are left out.
fn files(path: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it is there") {
            let of_entry = entry.expect("it is there").path();
            let name = of_entry.strip_prefix(path).expect("it is within").to_string_lossy().into_owned();
            match fs::read(&of_entry) {
                _ if name == LOCK_NAME || name == manifest::FOLDER => {}
                Ok(content) => drop(files.insert(name, String::from_utf8_lossy(&content).into_owned())),
                Err(_) if fs::read_dir(&of_entry).is_ok_and(|mut within| within.next().is_some()) => {
                    folders.push(of_entry)
                }
                Err(_) => drop(files.insert(name, "a directory".into())),
            }
        }
    }
    files
}

/// What the manifests say: the files of each batch.
fn published(path: &Path) -> Vec<(u64, Vec<String>)> {
    let batches = manifest::read_all(path).expect("they are whole");
    let names = |batch: manifest::Manifest| batch.files.into_iter().map(|file| file.path).collect();
    batches.into_iter().map(|batch| (batch.batch_id, names(batch))).collect()
}

/// Publishes rows as a batch of one partition.
fn publish(sink: &dyn Sink, number: u64, rows: &[RecordBatch]) {
    sink.publish(&batch(number), vec![write(sink, number, 0, rows)]).expect("the directory is ours");
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
    assert_eq!(files(dir.path()).len(), 2, "hidden ones");
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

#[test]
fn a_value_that_starts_as_a_byte_order_mark_is_kept() {
    let rows = lines(&[Some("\u{feff}a"), Some("\u{feff}b")]);
    assert_eq!(round_trip(FileSink::text(""), FileFormat::Text, &rows).column(0), rows.column(0));
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

#[test]
fn a_manifest_names_the_files_of_a_batch() {
    let dir = dir();
    let sink = open(&FileSink::json(dir.path()), &counts(&[])).expect("it is there");
    assert!(dir.path().join(manifest::FOLDER).is_dir(), "readers wait for manifests from the start");
    let parts = vec![write(&*sink, 7, 3, &[counts(&["a"])]), write(&*sink, 7, 0, &[counts(&["a"]), counts(&["b"])])];
    sink.publish(&batch(7), parts).expect("the directory is ours");
    publish(&*sink, 8, &[]);
    let expected = "{\"version\":1,\"batch_id\":7,\"batch_time_us\":0,\"files\":[\
                    {\"path\":\"batch-0000000007-part-0000.jsonl\",\"rows\":2,\"bytes\":46},\
                    {\"path\":\"batch-0000000007-part-0003.jsonl\",\"rows\":1,\"bytes\":23}]}\n";
    let folder = dir.path().join(manifest::FOLDER);
    assert_eq!(fs::read_to_string(folder.join("0000000007")).expect("it is there"), expected);
    assert_eq!(fs::read_dir(folder).expect("it is there").count(), 1, "a batch without rows has none");
}

#[test]
fn law_a_batch_is_published_once_whatever_a_restart_comes_after() {
    let dir = dir();
    let definition = FileSink { partition_by: vec!["word".into()], ..FileSink::json(dir.path()) };
    let rows = counts(&["a"]);
    let sink = open(&definition, &rows).expect("it is there");
    (0..3).for_each(|number| publish(&*sink, number, std::slice::from_ref(&rows)));
    drop(sink);
    // Batch 2 was published and not committed, of batch 3 some files were there, and a manifest was being written.
    let half = dir.path().join("word=b/batch-0000000003-part-0000.jsonl");
    fs::create_dir(dir.path().join("word=b")).expect("the directory is ours");
    fs::write(&half, "half").expect("the directory is ours");
    fs::write(dir.path().join("_manifest/.0000000003.tmp"), "{").expect("the directory is ours");
    let before = files(dir.path());
    let sink = definition.resume(&rows.schema(), Some(BatchId(1))).expect("it goes on");
    assert!(!half.exists() && !dir.path().join("_manifest/.0000000003.tmp").exists());
    let again = SinkBatch { is_repeated: true, ..batch(2) };
    sink.publish(&again, vec![write(&*sink, 2, 0, &[counts(&["other"])])]).expect("nothing to do");
    let left: Vec<_> = before.keys().filter(|name| !name.contains("word=b")).collect();
    assert_eq!(files(dir.path()).keys().filter(|name| !name.contains("word=b")).collect::<Vec<_>>(), left);
    publish(&*sink, 3, &[counts(&["b"])]);
    let batches: Vec<u64> = published(dir.path()).into_iter().map(|(batch_id, _)| batch_id).collect();
    assert_eq!(batches, [0, 1, 2, 3]);
}

#[test]
fn a_directory_that_is_ahead_of_the_checkpoint_is_an_error_and_no_lost_batch() {
    let dir = dir();
    let definition = FileSink::json(dir.path());
    let sink = open(&definition, &counts(&[])).expect("it is there");
    (0..5).for_each(|number| publish(&*sink, number, &[counts(&["a"])]));
    drop(sink);
    let sink = definition.resume(&counts(&[]).schema(), Some(BatchId(1))).expect("it goes on");
    let error = sink.publish(&batch(2), vec![write(&*sink, 2, 0, &[counts(&["new"])])]).expect_err("other rows");
    let expected = format!("`{}` has batch 2, and the checkpoint is older than that", dir.path().display());
    assert_eq!((error.to_string(), error.fault()), (expected, Fault::User));
}

#[test]
fn manifests_are_merged_and_say_the_same() {
    let dir = dir();
    let definition = FileSink::json(dir.path());
    let sink = open(&definition, &counts(&[])).expect("it is there");
    (0..250).for_each(|number| publish(&*sink, number, &[counts(&["a"])]));
    let n_files = |path: &Path| fs::read_dir(path.join(manifest::FOLDER)).expect("it is there").count();
    assert!(n_files(dir.path()) <= 102, "{}", n_files(dir.path()));
    let expected: Vec<_> =
        (0..250).map(|number| (number, vec![format!("batch-{number:010}-part-0000.jsonl")])).collect();
    assert_eq!(published(dir.path()), expected);
    drop(sink);
    // A process that died before it deleted what it had merged.
    let of_first = manifest::encode(&manifest::read_all(dir.path()).expect("they are whole")[..1]);
    fs::write(dir.path().join("_manifest/0000000000"), of_first).expect("the directory is ours");
    let sink = definition.resume(&counts(&[]).schema(), Some(BatchId(249))).expect("it goes on");
    assert_eq!(published(dir.path()), expected);
    (250..400).for_each(|number| publish(&*sink, number, &[counts(&["a"])]));
    assert_eq!(published(dir.path()).len(), 400);
    drop(sink);
    let overwriting = FileSink { overwrite: true, ..definition };
    let _sink = open(&overwriting, &counts(&[])).expect("they may be deleted");
    assert_eq!((n_files(dir.path()), files(dir.path()).len()), (0, 0));
}

#[test]
fn law_a_reader_beside_the_sink_sees_every_batch_so_far() {
    let dir = dir();
    let sink = open(&FileSink::json(dir.path()), &counts(&[])).expect("it is there");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let path = dir.path();
    let n_looks = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut n_seen, mut n_looks) = (0, 0);
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let batches: Vec<u64> = published(path).into_iter().map(|(batch_id, _)| batch_id).collect();
                assert_eq!(batches, (0..batches.len() as u64).collect::<Vec<_>>(), "none is missing");
                assert!(batches.len() >= n_seen, "what is published stays");
                n_seen = batches.len();
                n_looks += 1;
            }
            n_looks
        });
        (0..350).for_each(|number| publish(&*sink, number, &[counts(&["a"])]));
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().expect("every look was right")
    });
    assert!(n_looks > 3, "{n_looks} looks");
}

#[test]
fn a_source_reads_what_manifests_name_and_nothing_else() {
    let dir = dir();
    let definition = FileSink { partition_by: vec!["word".into()], ..FileSink::json(dir.path()) };
    let rows = counts(&["b", "a"]);
    let sink = open(&definition, &rows).expect("it is there");
    let read = |path: &Path| -> Vec<i64> {
        let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, true)]));
        let batches = read_table(&FileSource::json(path, schema)).expect("it can be listed").batches;
        let counts = |rows: &RecordBatch| {
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(rows.column(0)).values().to_vec()
        };
        batches.iter().flat_map(counts).collect()
    };
    let pattern = dir.path().join("*/*.jsonl");
    fs::write(dir.path().join("foreign.jsonl"), "{\"count\":99}\n").expect("the directory is ours");
    assert!(read(dir.path()).is_empty(), "nothing is published");
    publish(&*sink, 0, std::slice::from_ref(&rows));
    publish(&*sink, 1, &[counts(&["a"])]);
    fs::copy(
        dir.path().join("word=a/batch-0000000000-part-0000.jsonl"),
        dir.path().join("word=a/batch-0000000002-part-0000.jsonl"),
    )
    .expect("the directory is ours");
    assert_eq!(read(dir.path()), [2, 1, 1], "in the order of batches");
    assert_eq!(read(&pattern).len(), 3);
    fs::remove_dir_all(dir.path().join(manifest::FOLDER)).expect("the directory is ours");
    assert_eq!((read(dir.path()), read(&pattern).len()), (vec![99], 4), "a directory as any other");
}

#[test]
fn rows_are_dealt_out_by_value_and_keep_their_order() {
    let dir = dir();
    let word: ArrayRef = Arc::new(StringArray::from(vec![Some("x/y"), None, Some("x/y"), Some(""), Some("z")]));
    let at: ArrayRef = Arc::new(arrow::array::DurationSecondArray::from(vec![1, 1, 1, 1, 2]));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5));
    let rows = RecordBatch::try_from_iter([("word", word), ("n", n), ("at", at)]).expect("columns of one length");
    let definition = FileSink { partition_by: vec!["at".into(), "word".into()], ..FileSink::json(dir.path()) };
    let sink = open(&definition, &rows).expect("it is there");
    publish(&*sink, 0, &[rows.slice(0, 2), rows.slice(2, 3)]);
    let name = "batch-0000000000-part-0000.jsonl";
    let null = "word=__HIVE_DEFAULT_PARTITION__";
    check_files(
        dir.path(),
        &[
            (&format!("at=1000000/word=x%2Fy/{name}"), "{\"n\":0}\n{\"n\":2}\n"),
            (&format!("at=1000000/{null}/{name}"), "{\"n\":1}\n{\"n\":3}\n"),
            (&format!("at=2000000/word=z/{name}"), "{\"n\":4}\n"),
        ],
    );
    let (_, paths) = published(dir.path()).remove(0);
    let sorted = [format!("at=1000000/{null}/{name}"), format!("at=1000000/word=x%2Fy/{name}")];
    assert_eq!(paths[..2], sorted);
}

#[test]
fn a_long_value_is_told_before_a_file_has_such_a_name() {
    let dir = dir();
    let rows = counts(&[&"x".repeat(251)]);
    let definition = FileSink { partition_by: vec!["word".into()], ..FileSink::json(dir.path()) };
    let sink = open(&definition, &rows).expect("it is there");
    let mut writer = sink.writer(&batch(0), PartitionId(0)).expect("the directory is ours");
    let error = writer.write(&rows).expect_err("too long");
    let expected = "a value of column `word` makes the name of a folder 256 bytes long, and file systems take 255";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn files_are_rolled_alike_however_rows_come() {
    let many: Vec<String> = (0..2_000).map(|number| format!("{number:04}")).collect();
    let rows = counts(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let written = |cuts: &[usize]| {
        let dir = dir();
        let definition = FileSink { file_bytes_max: Some(10_000), ..FileSink::json(dir.path()) };
        let sink = open(&definition, &rows).expect("it is there");
        let mut pieces = Vec::new();
        let mut start = 0;
        for &end in cuts.iter().chain(&[rows.num_rows()]) {
            pieces.push(rows.slice(start, end - start));
            start = end;
        }
        publish(&*sink, 0, &pieces);
        (files(dir.path()), published(dir.path()))
    };
    let (whole, manifests) = written(&[]);
    let names: Vec<&str> = manifests[0].1.iter().map(String::as_str).collect();
    assert!(names.len() > 3, "{names:?}");
    assert_eq!(names[..2], ["batch-0000000000-part-0000.jsonl", "batch-0000000000-part-0000-0001.jsonl"]);
    assert!(whole.values().take(1).all(|text| (10_000..16_000).contains(&text.len())));
    let in_order: String = names.iter().map(|name| whole[*name].as_str()).collect();
    assert_eq!(in_order.lines().count(), 2_000);
    assert!(in_order.lines().is_sorted_by_key(|line| line.split(':').nth(1).map(str::to_owned)));
    assert_eq!(written(&[1, 130, 131, 900]).0, whole);
}

#[test]
fn many_values_do_not_keep_many_files_open() {
    let dir = dir();
    let words: Vec<String> = (0..300).map(|number| (number % 150).to_string()).collect();
    let rows = counts(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let definition = FileSink { partition_by: vec!["word".into()], ..FileSink::json(dir.path()) };
    let sink = open(&definition, &rows).expect("it is there");
    let mut writer = sink.writer(&batch(0), PartitionId(0)).expect("the directory is ours");
    writer.write(&rows.slice(0, 150)).expect("the directory is ours");
    #[cfg(target_os = "linux")]
    {
        let links = fs::read_dir("/proc/self/fd")
            .expect("Linux has it")
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        let n_open =
            links.filter(|path| path.starts_with(dir.path()) && path.to_string_lossy().ends_with(".tmp")).count();
        assert_eq!(n_open, 100);
    }
    writer.write(&rows.slice(150, 150)).expect("the directory is ours");
    sink.publish(&batch(0), vec![writer.prepare().expect("the directory is ours")]).expect("the directory is ours");
    let (_, paths) = published(dir.path()).remove(0);
    assert_eq!(paths.len(), 300, "each was ended before its second row came");
    assert_eq!(files(dir.path()).values().map(|text| text.lines().count()).sum::<usize>(), 300);
}

#[track_caller]
fn check_refused(definition: &FileSink, schema: &SchemaRef, expected: &str) {
    assert_eq!(definition.check(schema).expect_err("it cannot be written").to_string(), expected);
}

#[test]
fn what_a_format_has_no_place_for_is_refused() {
    let nested = schema(&["utf8".into(), "list<int64>".into()]);
    let csv = FileSink::new("unused", FileSinkFormat::Csv(CsvSinkOptions::default()));
    check_refused(
        &csv,
        &nested,
        "rows cannot be written as CSV: column `c1` is list<int64>, and a field has one value",
    );
    let parquet = FileSink::new("unused", FileSinkFormat::Parquet(ParquetCompression::Zstd));
    parquet.check(&nested).expect("Parquet has lists");
    let by = |columns: &[&str]| {
        let partition_by = columns.iter().map(|column| (*column).to_owned()).collect();
        FileSink { partition_by, ..csv.clone() }
    };
    check_refused(&by(&["c0", "c2"]), &nested, "`partition-by` names `c2`, and there is no such column");
    check_refused(&by(&["c0", "c0"]), &nested, "`partition-by` names `c0` twice");
    check_refused(&by(&["c1"]), &nested, "column `c1` is list<int64>, and cannot be in the name of a folder");
    let flat = schema(&["utf8".into(), "int64".into()]);
    check_refused(&by(&["c1", "c0"]), &flat, "`partition-by` names all columns, and none is left for the files");
    by(&["c1"]).check(&flat).expect("a column is left");
    let text = FileSink { partition_by: vec!["c1".into()], ..FileSink::text("unused") };
    text.check(&flat).expect("one column of text is left");
}

/// Rows that were written to files and read by a source of their schema.
fn round_trip(definition: FileSink, format: FileFormat, rows: &RecordBatch) -> RecordBatch {
    let dir = dir();
    let sink = FileSink { path: dir.path().to_owned(), ..definition };
    let sink = open(&sink, rows).expect("every type can be written");
    let half = rows.num_rows() / 2;
    publish(&*sink, 0, &[rows.slice(0, half), rows.slice(half, rows.num_rows() - half)]);
    let source = FileSource::new(dir.path(), format);
    let table = read_table(&source).expect("it is there");
    assert_eq!(table.seen.last_rejection, None, "{:?}", files(dir.path()));
    concat_batches(&table.schema, &table.batches).expect("of one schema")
}

fn random_rows(types: &[String], n_rows: usize, seed: u64) -> RecordBatch {
    let schema = schema(types);
    let mut dice = Dice(seed);
    let columns = schema.fields().iter().map(|field| column(field.data_type(), n_rows, &mut dice)).collect();
    RecordBatch::try_new(schema, columns).expect("as the schema says")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn law_what_is_written_as_parquet_is_read_back(
        types in prop::collection::vec(crate::json_lines::tests::types(), 1..4),
        n_rows in 1..300_usize,
        seed in 1..u64::MAX,
        compression in prop::sample::select(vec![ParquetCompression::Zstd, ParquetCompression::Snappy, ParquetCompression::None]),
    ) {
        let rows = random_rows(&types, n_rows, seed);
        let sink = FileSink { file_bytes_max: Some(2_000), ..FileSink::new("", FileSinkFormat::Parquet(compression)) };
        prop_assert_eq!(round_trip(sink, FileFormat::Parquet(Columns::infer()), &rows), rows);
    }

    #[test]
    fn law_what_is_written_as_csv_is_read_back(
        types in prop::collection::vec(prop::sample::select(SIMPLE.to_vec()), 1..5),
        n_rows in 1..300_usize,
        seed in 1..u64::MAX,
        delimiter in prop::sample::select(vec![b',', b';', b'\t']),
        header in any::<bool>(),
    ) {
        // What is in no year of four digits has no text that is read.
        let types: Vec<String> = types.iter().filter(|text| !["timestamp", "date32"].contains(*text)).map(|text| (*text).to_owned()).collect();
        prop_assume!(!types.is_empty());
        let rows = random_rows(&types, n_rows, seed);
        // Empty texts are not null then.
        let null_value = "\\N".to_owned();
        let read = CsvOptions { delimiter, header, null_values: vec![null_value.clone()], ..CsvOptions::default() };
        let options = CsvSinkOptions { delimiter, header, null_value };
        let sink = FileSink { file_bytes_max: Some(2_000), ..FileSink::new("", FileSinkFormat::Csv(options)) };
        prop_assert_eq!(round_trip(sink, FileFormat::Csv(rows.schema().into(), read), &rows), rows);
    }
}

#[test]
fn csv_has_times_and_dates_as_sources_read_them() {
    let dir = dir();
    let at =
        arrow::array::TimestampMicrosecondArray::from(vec![Some(1_795_332_600_250_000), None]).with_timezone("+00:00");
    let day = arrow::array::Date32Array::from(vec![Some(20_779), None]);
    let text = StringArray::from(vec![Some("a;\"b\"\nc"), Some("")]);
    let columns: [(&str, ArrayRef); 3] = [("at", Arc::new(at)), ("day", Arc::new(day)), ("text", Arc::new(text))];
    let rows = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let options = CsvSinkOptions { delimiter: b';', header: true, null_value: "NA".into() };
    let sink = open(&FileSink::new(dir.path(), FileSinkFormat::Csv(options)), &rows).expect("it is there");
    publish(&*sink, 0, &[rows]);
    let expected = "at;day;text\n2026-11-22T07:30:00.250Z;2026-11-22;\"a;\"\"b\"\"\nc\"\nNA;NA;\n";
    check_files(dir.path(), &[("batch-0000000000-part-0000.csv", expected)]);
}

#[test]
fn options_are_read() {
    let read = |text: &str| read_options(text, Path::new("/base"), FileSink::parse);
    assert_eq!(read("path = 'out'"), Ok(Some(FileSink::json("/base/out"))));
    let all = "path = '/out'\nformat = 'text'\noverwrite = true";
    assert_eq!(read(all), Ok(Some(FileSink { overwrite: true, ..FileSink::text("/out") })));
    let csv =
        "path = '/o'\nformat = 'csv'\ndelimiter = \"\\t\"\nheader = false\nnull-value = 'NA'\nmax-file-size = '1kB'";
    let options = CsvSinkOptions { delimiter: b'\t', header: false, null_value: "NA".into() };
    let expected = FileSink { file_bytes_max: Some(1_000), ..FileSink::new("/o", FileSinkFormat::Csv(options)) };
    assert_eq!(read(csv), Ok(Some(expected)));
    let parquet = "path = '/o'\nformat = 'parquet'\ncompression = 'snappy'\npartition-by = ['day', 'city']";
    let expected = FileSink {
        partition_by: vec!["day".into(), "city".into()],
        ..FileSink::new("/o", FileSinkFormat::Parquet(ParquetCompression::Snappy))
    };
    assert_eq!(read(parquet), Ok(Some(expected)));
    let n_problems = |text: &str| read(text).expect_err("mistakes").len();
    assert_eq!(n_problems("format = 'orc'"), 2);
    assert_eq!(n_problems("path = '/o'\nmax-file-size = '0'\ndelimiter = ';'\ncompression = 'none'"), 3);
    assert_eq!(n_problems("path = '/o'\nformat = 'csv'\ndelimiter = 'ab'\ncompression = 'none'"), 2);
}
