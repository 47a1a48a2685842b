//! What is spilled comes back as it was, or is an error; and nothing stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, RecordBatchOptions};
use arrow::array::{ArrayRef, DictionaryArray, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{Int32Type, Schema};
use proptest::prelude::*;

use super::testing::{failing_spill_in, files, spill_in};
use super::*;
use crate::error::{Error, Explain, Retry};

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

proptest! {
    #[test]
    fn law_what_is_read_is_what_was_written(
        pushes in proptest::collection::vec(
            (proptest::collection::vec(proptest::option::of("[a-z]{0,12}"), 0..40), any::<bool>(), 0usize..20),
            0..12,
        ),
    ) {
        let folder = folder();
        let spill = spill_in(folder.path(), 1 << 20);
        let mut file = spill.file(SpillUse::Batch);
        let mut written = Vec::new();
        for (texts, is_nullable, from) in &pushes {
            let text: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            let is_nullable = *is_nullable || text.null_count() > 0;
            let view: ArrayRef = Arc::new(StringViewArray::from(texts.clone()));
            let words: ArrayRef =
                Arc::new(texts.iter().map(|text| text.as_deref()).collect::<DictionaryArray<Int32Type>>());
            let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                texts.iter().map(|text| text.as_ref().map(|text| text.bytes().map(|byte| Some(i32::from(byte))))),
            ));
            let columns = [("t", text, is_nullable), ("v", view, true), ("d", words, true), ("l", lists, true)];
            let rows = RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length");
            // A slice, as shuffles have them.
            let from = (*from).min(rows.num_rows());
            written.push(rows.slice(from, rows.num_rows() - from));
        }
        let records = spill_all(&mut file, &written).expect("room");
        let mut read = Vec::new();
        for record in &records {
            read.extend(record.read().expect("whole"));
        }
        prop_assert_eq!(&read, &written);
        let n_rows: usize = written.iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!((spill.counts().rows, spill.counts().rows_total), (n_rows as u64, n_rows as u64));
        prop_assert_eq!(spill.counts().disk_bytes, file.n_bytes());
        drop(file);
        prop_assert_eq!(files(folder.path()).len(), usize::from(!records.is_empty()));
        drop(records);
        prop_assert_eq!(files(folder.path()).len(), 0);
        let counts = spill.counts();
        prop_assert_eq!((counts.rows, counts.disk_bytes), (0, 0));
        drop(spill);
        prop_assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "the job's folder goes");
    }
}

#[test]
fn rows_without_columns_are_counted() {
    let folder = folder();
    let spill = spill_in(folder.path(), 1 << 20);
    let options = RecordBatchOptions::new().with_row_count(Some(7));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
    let record = spill.file(SpillUse::Batch).append(std::slice::from_ref(&rows)).expect("room");
    assert_eq!(record.read().expect("whole"), [rows]);
}

#[test]
fn views_do_not_write_what_they_do_not_show() {
    let folder = folder();
    let spill = spill_in(folder.path(), 1 << 20);
    let texts: ArrayRef =
        Arc::new(StringViewArray::from_iter_values((0..20_000).map(|n| format!("a text that is long, {n}"))));
    let rows = RecordBatch::try_from_iter([("v", texts)]).expect("one column").slice(10_000, 3);
    let record = spill.file(SpillUse::Batch).append(std::slice::from_ref(&rows)).expect("room");
    assert_eq!(record.read().expect("whole"), [rows]);
    assert!(spill.counts().disk_bytes < 2_000, "{:?}", spill.counts());
}

#[test]
fn a_file_that_was_changed_is_told_with_its_place() {
    let folder = folder();
    let spill = spill_in(folder.path(), 1 << 20);
    let mut file = spill.file(SpillUse::Batch);
    let first = file.append(&[numbers(0..1_000)]).expect("room");
    let second = file.append(&[numbers(1_000..2_000)]).expect("room");
    let path = files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&path).expect("a file");
    let last = bytes.len() - 1;
    bytes[last - 100] ^= 1;
    std::fs::write(&path, &bytes).expect("the file is ours");
    assert_eq!(first.read().expect("whole"), [numbers(0..1_000)]);
    let error = Error::from(second.read().expect_err("damaged"));
    let name = path.display();
    let text = error.to_string();
    assert!(text.starts_with("spilled rows are damaged: ") && text.contains(&format!("of `{name}`")), "{text}");
    assert!(error.hint().is_some_and(|hint| hint.contains(&format!("`{}`", folder.path().display()))));
    assert_eq!(error.retry(), Retry::WithBackoff);
    // Cut off.
    std::fs::write(&path, &bytes[..last / 2]).expect("the file is ours");
    assert!(matches!(second.read(), Err(SpillError::Damaged { .. })));
    std::fs::remove_file(&path).expect("the file is ours");
    assert!(matches!(second.read(), Err(SpillError::File { doing: "read", .. })));
}

#[test]
fn the_quota_holds_and_blocks_have_half_of_it() {
    let folder = folder();
    let spill = spill_in(folder.path(), 1 << 20);
    // Numbers that do not compress.
    let rows =
        |seed: u64| numbers((0..2_000).map(|n| xxhash_rust::xxh3::xxh3_64_with_seed(b"n", seed * 10_000 + n) as i64));
    let mut blocks = spill.file(SpillUse::Blocks);
    let mut held = Vec::new();
    let error = (0..).find_map(|seed| blocks.append(&[rows(seed)]).map(|record| held.push(record)).err());
    let error = error.expect("it ends");
    assert!((448 << 10..=512 << 10).contains(&spill.counts().disk_bytes), "{:?}", spill.counts());
    assert!(error.to_string().starts_with("received rows that wait in `"), "{error}");
    assert!(error.to_string().contains(" more exceed half of the `spill.quota` of 1MiB"), "{error}");
    let mut batch = spill.file(SpillUse::Batch);
    let error = (0..).find_map(|seed| batch.append(&[rows(seed)]).map(|record| held.push(record)).err());
    let error = error.expect("it ends");
    assert!((960 << 10..=1 << 20).contains(&spill.counts().disk_bytes), "{:?}", spill.counts());
    assert!(error.to_string().starts_with("spilled rows of the job in `"), "{error}");
    assert_eq!((error.retry(), error.fault()), (Retry::WithBackoff, crate::error::Fault::User));
    drop((batch, blocks, held));
    assert_eq!(spill.counts().disk_bytes, 0);
    spill.file(SpillUse::Blocks).append(&[rows(0)]).expect("room again");
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let folder = folder();
    let fails = Arc::new(AtomicBool::new(false));
    let spill = failing_spill_in(folder.path(), 1 << 20, &fails);
    let mut file = spill.file(SpillUse::Batch);
    let first = file.append(&[numbers(0..10)]).expect("room");
    let before = spill.counts();
    fails.store(true, Ordering::Relaxed);
    let error = file.append(&[numbers(10..20)]).expect_err("the disk is full");
    assert_eq!(spill.counts(), SpillCounts { disk_bytes_peak: spill.counts().disk_bytes_peak, ..before });
    assert_eq!(error.retry(), Retry::UntilItPasses);
    assert!(error.to_string().starts_with(&format!("the disk of `{}` has no room for ", folder.path().display())));
    assert!(error.hint().is_some_and(|hint| hint.contains("`spill.path`")));
    fails.store(false, Ordering::Relaxed);
    let second = file.append(&[numbers(20..30)]).expect("room again");
    assert_eq!(first.read().expect("whole"), [numbers(0..10)]);
    assert_eq!(second.read().expect("whole"), [numbers(20..30)]);
    let n_bytes = std::fs::metadata(&files(folder.path())[0]).expect("a file").len();
    assert_eq!(n_bytes, file.n_bytes());
}

#[test]
fn nothing_is_spilled_when_the_job_has_ended() {
    let folder = folder();
    let spill = spill_in(folder.path(), 1 << 20);
    let mut file = spill.file(SpillUse::Blocks);
    let record = file.append(&[numbers(0..10)]).expect("room");
    spill.close();
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    assert!(matches!(record.read(), Err(SpillError::File { .. })));
    assert!(matches!(spill.file(SpillUse::Blocks).append(&[numbers(0..1)]), Err(SpillError::Folder { .. })));
}

#[test]
fn without_a_quota_there_is_no_place() {
    let file = tempfile::NamedTempFile::new().expect("a file for tests");
    let path = Some(file.path().join("x"));
    let none = SpillSettings { path: path.clone(), quota_bytes: 0, ..SpillSettings::default() };
    assert!(Spill::open(&none).expect("no folder is needed").is_none());
    let error = Spill::open(&SpillSettings { path, ..SpillSettings::default() }).expect_err("a file is no folder");
    assert_eq!(error.hint().as_deref(), Some("Set `spill.path` to a folder that can be written."));
}
