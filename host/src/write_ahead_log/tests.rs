//! The log on a disk that fills up, fails and loses its power.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use proptest::prelude::*;

use super::disk::{Disk, LocalDisk, SegmentFile};
use super::segment::{file_name, list};
use super::*;
use crate::source::{OffsetRange, RangeReader};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

/// Rows whose values are their numbers.
fn rows(start: u64, n_rows: u64) -> RecordBatch {
    let numbers = Int64Array::from_iter_values(start as i64..(start + n_rows) as i64);
    RecordBatch::try_new(schema(), vec![Arc::new(numbers)]).expect("one column")
}

/// A disk that remembers what it has promised, and may fail.
#[derive(Debug, Default)]
struct TestDisk {
    /// Of each file, the bytes that are on the disk.
    synced: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
    /// Bytes that still fit; a write that finds fewer writes those.
    room: Arc<AtomicU64>,
    syncs_fail: Arc<AtomicBool>,
}

impl TestDisk {
    fn roomy() -> Arc<Self> {
        let disk = Self::default();
        disk.room.store(u64::MAX, Ordering::SeqCst);
        Arc::new(disk)
    }

    /// The power goes: of what is not on the disk, a part of each file is there, as `keeps` draws it.
    fn cut_power(&self, mut keeps: impl FnMut(u64) -> u64) {
        for (path, synced) in self.synced.lock().expect("not poisoned").iter() {
            let Ok(file) = File::options().write(true).open(path) else { continue };
            let written = file.metadata().expect("a file").len();
            file.set_len(synced + keeps(written - synced)).expect("a file");
        }
    }
}

#[derive(Debug)]
struct TestFile {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    synced: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
    room: Arc<AtomicU64>,
    syncs_fail: Arc<AtomicBool>,
}

impl Disk for TestDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let file = LocalDisk.create(path)?;
        self.synced.lock().expect("not poisoned").insert(path.to_owned(), 0);
        let (synced, room, syncs_fail) = (self.synced.clone(), self.room.clone(), self.syncs_fail.clone());
        Ok(Box::new(TestFile { file, path: path.to_owned(), synced, room, syncs_fail }))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        LocalDisk.sync_folder(folder)
    }

    fn delete(&self, path: &Path) -> io::Result<()> {
        self.synced.lock().expect("not poisoned").remove(path);
        LocalDisk.delete(path)
    }
}

impl SegmentFile for TestFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = self.room.load(Ordering::SeqCst);
        let fits = bytes.len().min(room as usize);
        self.file.append(&bytes[..fits])?;
        if room != u64::MAX {
            self.room.fetch_sub(fits as u64, Ordering::SeqCst);
        }
        if fits < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn cut(&mut self, n_bytes: u64) -> io::Result<()> {
        self.file.cut(n_bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.syncs_fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.file.sync()?;
        let n_bytes = std::fs::metadata(&self.path)?.len();
        self.synced.lock().expect("not poisoned").insert(self.path.clone(), n_bytes);
        Ok(())
    }
}

/// Some sources, with their places.
fn sources(places: &[u64]) -> Vec<LogSource> {
    let source = |(index, &place): (usize, &u64)| {
        let source = LogSource::new(format!("s{index}"), schema());
        LogSource { place, reads_from: place, ..source }
    };
    places.iter().enumerate().map(source).collect()
}

fn open_at(disk: &Arc<TestDisk>, directory: &Path, sources: Vec<LogSource>) -> Result<Arc<WriteAheadLog>, Error> {
    WriteAheadLog::open_on(disk.clone(), &options(directory), sources)
}

fn options(directory: &Path) -> LogOptions {
    LogOptions {
        directory: directory.to_owned(),
        log: "one".into(),
        segment_bytes: 4 << 10,
        lost_rows: LostRows::Refuse,
    }
}

/// Opens a log, and goes on without what is lost.
fn open_without(disk: &Arc<TestDisk>, directory: &Path, sources: Vec<LogSource>) -> Arc<WriteAheadLog> {
    let options = LogOptions { lost_rows: LostRows::Skip, ..options(directory) };
    WriteAheadLog::open_on(disk.clone(), &options, sources).expect("what is lost is skipped")
}

/// Why a log is not opened.
#[track_caller]
fn refused(disk: &Arc<TestDisk>, directory: &Path, sources: Vec<LogSource>, what: &str) {
    let error = open_at(disk, directory, sources).expect_err("refused");
    assert!(error.to_string().contains(what), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--set job.lost-rows=skip")), "{:?}", error.hint());
}

fn never() -> bool {
    false
}

/// The values of some rows of a source, read again.
fn read(log: &Arc<WriteAheadLog>, source: usize, start: u64, end: u64) -> Result<Vec<u64>, Error> {
    let mut values = Vec::new();
    let range = OffsetRange { object: RECEIVED.into(), start, end, identity: None };
    LogReader::new(log.clone(), source).read_range(&range, &mut |rows| {
        values.extend(rows.column(0).as_primitive::<Int64Type>().values().iter().map(|&value| value as u64));
        Ok(())
    })?;
    Ok(values)
}

/// The values of the rows of a source that no batch has had.
fn unread(log: &Arc<WriteAheadLog>, source: usize) -> Vec<u64> {
    let pieces = log.unread(source).to_vec();
    let read = |unread: &Unread| {
        read(log, source, unread.first_row, unread.first_row + unread.n_rows).expect("they were just found")
    };
    pieces.iter().flat_map(read).collect()
}

/// A log of one source with some pushes of ten rows.
fn written(disk: &Arc<TestDisk>, directory: &Path, n_pushes: u64, durability: Durability) -> Arc<WriteAheadLog> {
    let log = open_at(disk, directory, sources(&[0])).expect("a new log");
    let way = ReceivedLog::new(log.clone(), 0, durability);
    (0..n_pushes).for_each(|push| way.write(rows(push * 10, 10)).expect("there is room"));
    log
}

#[test]
fn rows_are_there_again_by_their_numbers() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    drop(written(&disk, place.path(), 100, Durability::Row));
    assert!(list(place.path()).expect("segments").len() > 3, "small segments");
    let log = open_at(&disk, place.path(), sources(&[0])).expect("a whole log");
    assert_eq!(unread(&log, 0), (0..1000).collect::<Vec<_>>());
    assert_eq!(read(&log, 0, 995, 1000).expect("rows"), [995, 996, 997, 998, 999]);
    assert_eq!(read(&log, 0, 7, 800).expect("rows"), (7..800).collect::<Vec<_>>());
    let missing = read(&log, 0, 998, 1003).expect_err("they were never received");
    assert!(missing.to_string().contains("lacks rows 1000 to 1003 of source `s0`"), "{missing}");
    drop(log);
    // A batch has had some of them.
    let log = open_at(&disk, place.path(), sources(&[555])).expect("a whole log");
    assert_eq!((unread(&log, 0), log.next_row(0)), ((555..1000).collect::<Vec<_>>(), 1000));
    // What comes is behind them, in a segment of its own.
    ReceivedLog::new(log.clone(), 0, Durability::Row).write(rows(1000, 5)).expect("there is room");
    drop(log);
    let log = open_at(&disk, place.path(), sources(&[990])).expect("a whole log");
    assert_eq!(unread(&log, 0), (990..1005).collect::<Vec<_>>());
}

#[test]
fn segments_go_when_their_rows_are_not_needed() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    let log = written(&disk, place.path(), 100, Durability::Row);
    let n_segments = || list(place.path()).expect("segments").len();
    let before = n_segments();
    log.release([("s0", 9)]);
    assert_eq!(n_segments(), before);
    log.release([("s0", 500)]);
    assert!((2..before).contains(&n_segments()), "{} of {before}", n_segments());
    log.release([("s0", 1000)]);
    assert_eq!(n_segments(), 1, "the one that is written to stays");
    drop(log);
    let log = open_at(&disk, place.path(), sources(&[1000])).expect("a whole log");
    assert_eq!((unread(&log, 0), log.next_row(0)), (vec![], 1000));
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    drop(written(&disk, place.path(), 4, Durability::Batch));
    // Nothing was written before the log was told to.
    assert_eq!(list(place.path()).expect("segments").len(), 0);
    let log = written(&disk, place.path(), 4, Durability::Batch);
    log.sync(&never).expect("there is room");
    drop(log);
    let whole = std::fs::read(place.path().join(file_name(0))).expect("a segment");
    for n_bytes in (0..whole.len()).rev().step_by(5) {
        let place = tempfile::tempdir().expect("a folder");
        std::fs::write(place.path().join(file_name(0)), &whole[..n_bytes]).expect("a segment");
        let log = open_at(&disk, place.path(), sources(&[0])).expect("a torn end is nobody's");
        let found = unread(&log, 0);
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
        assert!(found.len().is_multiple_of(10) && found.len() < 40, "whole pushes");
        // It goes on behind what is whole.
        ReceivedLog::new(log.clone(), 0, Durability::Row).write(rows(found.len() as u64, 3)).expect("there is room");
        drop(log);
        let log = open_at(&disk, place.path(), sources(&[0])).expect("a whole log");
        assert_eq!(unread(&log, 0), (0..found.len() as u64 + 3).collect::<Vec<_>>());
    }
}

#[test]
fn damage_is_named_with_its_place_and_what_is_lost() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    drop(written(&disk, place.path(), 105, Durability::Row));
    let segments = list(place.path()).expect("segments");
    let (_, first) = &segments[0];
    let (_, last) = segments.last().expect("some");
    let flip = |path: &Path, at: usize| {
        let mut bytes = std::fs::read(path).expect("a segment");
        let at = if at == usize::MAX { bytes.len() - 20 } else { at };
        bytes[at] ^= 1;
        std::fs::write(path, bytes).expect("a segment");
    };
    let refused = |what: &str| {
        let error = open_at(&disk, place.path(), sources(&[0])).expect_err("damaged");
        assert!(error.in_one_line().contains(what), "{}", error.in_one_line());
        assert!(error.hint().is_some_and(|hint| hint.starts_with("Bring the file")), "{:?}", error.hint());
    };
    // The payload of the first frame; then its header; then the head of the file.
    let head =
        std::fs::read(first).expect("a segment").windows(4).position(|bytes| bytes == frame::MAGIC).expect("a frame");
    for at in [head + 100, head + 9, 30] {
        flip(first, at);
        refused(if at > 30 { "is damaged at byte" } else { "0000000000` is damaged: " });
        flip(first, at);
    }
    flip(first, head + 100);
    refused("what it has of `s0` from row 0 on cannot be read");
    // What no batch needs any more does not matter.
    drop(open_at(&disk, place.path(), sources(&[300])).expect("rows that were done long ago"));
    // Without the file its rows are lost, and the job goes on with the others when that is wanted.
    let end = segment::scan(&segments[1].1, 1, false, |_, _| true).expect("whole").expect("whole").pieces[0].rows.start;
    std::fs::remove_file(first).expect("a segment");
    let lost = format!("at least {end} rows of source `s0` that no batch has had are gone, 0 to {end}");
    self::refused(&disk, place.path(), sources(&[0]), &lost);
    let log = open_without(&disk, place.path(), sources(&[0]));
    assert_eq!(unread(&log, 0), (end..1050).collect::<Vec<_>>());
    let missing = log.check(0, 0, 5).expect_err("they are gone");
    assert!(missing.to_string().contains("lacks rows 0 to 5"), "{missing}");
    drop(log);
    // In the last file: a frame behind it was on the disk later, so it was too.
    flip(last, head + 100);
    refused("is damaged at byte");
    flip(last, head + 100);
    // The last frame of all may never have been written whole.
    flip(last, usize::MAX);
    let log = open_at(&disk, place.path(), sources(&[0])).expect("a torn end");
    assert_eq!(unread(&log, 0), (end..1040).collect::<Vec<_>>());
}

#[test]
fn an_end_that_is_gone_is_noticed_and_given_up_once() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    let log = written(&disk, place.path(), 105, Durability::Row);
    log.close();
    drop(log);
    let segments = list(place.path()).expect("segments");
    let (number, last) = segments.last().expect("some");
    let scan = segment::scan(last, *number, true, |_, _| true).expect("whole").expect("whole");
    let end = scan.pieces[0].rows.start;
    // A part of it: whole frames, so that nothing in the file says that there were more.
    let whole = std::fs::read(last).expect("a segment");
    let head = whole.windows(4).position(|bytes| bytes == frame::MAGIC).expect("a frame");
    std::fs::write(last, &whole[..head]).expect("a segment");
    let lost = format!("at least {} rows of source `s0` that no batch has had are gone, {end} to 1050", 1050 - end);
    refused(&disk, place.path(), sources(&[0]), &format!("is not as it was left: {lost}"));
    // Its head alone, half of it: it is as good as gone, and stays for whoever wants to see it.
    std::fs::write(last, &whole[..20]).expect("a segment");
    let file = format!("file `{}`, its last, is not there; {lost}", file_name(*number));
    refused(&disk, place.path(), sources(&[0]), &file);
    assert!(last.exists());
    // All of it.
    std::fs::remove_file(last).expect("a segment");
    refused(&disk, place.path(), sources(&[0]), &file);
    // What is left was in batches: there may have been more.
    refused(&disk, place.path(), sources(&[1050]), "rows of source `s0` that batches have had are gone");
    let inspection = |taken| {
        let mut found = inspect(place.path()).expect("whole files");
        found.compare("s0", 0, taken);
        let of = found.sources[0].clone();
        (found.missing_file, of.end_row, of.lost_rows, of.has(0, end), of.has(0, end + 1), of.lacks_its_end())
    };
    assert_eq!(inspection(0), (Some(file_name(*number)), 1050, 1050 - end, true, false, true));
    assert_eq!(inspection(1050), (Some(file_name(*number)), 1050, 0, true, false, true));
    let log = open_without(&disk, place.path(), sources(&[0]));
    assert_eq!((unread(&log, 0), log.next_row(0)), ((0..end).collect::<Vec<_>>(), 1050));
    drop(log);
    // It is known from now on.
    assert_eq!(inspection(0), (None, 1050, 0, true, false, false));
    let log = open_at(&disk, place.path(), sources(&[0])).expect("what is lost was given up");
    ReceivedLog::new(log.clone(), 0, Durability::Row).write(rows(1050, 5)).expect("there is room");
    drop(log);
    let after = list(place.path()).expect("segments");
    assert!(after.last().is_some_and(|(newest, _)| newest > number), "the name of what is gone is not used again");
    let log = open_at(&disk, place.path(), sources(&[0])).expect("what is lost was given up");
    assert_eq!(unread(&log, 0), (0..end).chain(1050..1055).collect::<Vec<_>>());
    drop(log);
    // What is lost next is news.
    std::fs::remove_file(&after.last().expect("some").1).expect("a segment");
    let known = |known_end| vec![LogSource { known_end, ..LogSource::new("s0", schema()) }];
    refused(
        &disk,
        place.path(),
        known(1053),
        "at least 3 rows of source `s0` that no batch has had are gone, 1050 to 1053",
    );
}

#[test]
fn a_log_that_is_gone_is_noticed_by_what_batches_say() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    let source = |place, known_end, begun| {
        vec![LogSource { place, reads_from: place, known_end, begun, ..LogSource::new("s0", schema()) }]
    };
    refused(
        &disk,
        place.path(),
        source(10, 30, vec![]),
        "at least 20 rows of source `s0` that no batch has had are gone, 10 to 30",
    );
    refused(&disk, place.path(), source(30, 30, vec![]), "those that came after them may be");
    // Rows that nobody reads any more are there all the same.
    let whole = tempfile::tempdir().expect("a folder");
    drop(written(&disk, whole.path(), 3, Durability::Row));
    drop(open_at(&disk, whole.path(), source(30, 30, vec![])).expect("a whole log"));
    // Rows of a batch that is to be run again cannot be skipped.
    let options = LogOptions { lost_rows: LostRows::Skip, ..options(place.path()) };
    let error = WriteAheadLog::open_on(disk.clone(), &options, source(30, 30, vec![(20, 30)])).expect_err("refused");
    assert!(error.to_string().contains("lacks rows 20 to 30 of source `s0`, with which a batch was begun"), "{error}");
    let log = open_without(&disk, place.path(), source(10, 30, vec![]));
    assert_eq!((unread(&log, 0), log.next_row(0)), (vec![], 30));
    drop(log);
    drop(open_at(&disk, place.path(), source(10, 30, vec![])).expect("what is lost was given up"));
}

#[test]
fn what_is_another_job_s_is_refused() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    let log = written(&disk, place.path(), 3, Durability::Row);
    let refused = |outcome: Result<Arc<WriteAheadLog>, Error>, what: &str| {
        let error = outcome.expect_err("refused").to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(open_at(&disk, place.path(), sources(&[0])), "is in use by another process");
    drop(log);
    let options = LogOptions { log: "two".into(), ..options(place.path()) };
    refused(WriteAheadLog::open(&options, sources(&[0])), "has the write-ahead log of another checkpoint");
    let renamed = vec![LogSource::new("other", schema())];
    refused(
        open_at(&disk, place.path(), renamed),
        "rows of source `s0` that no batch has had, and the job has no such source",
    );
    let file = vec![LogSource { is_receiver: false, ..LogSource::new("s0", schema()) }];
    refused(open_at(&disk, place.path(), file), "the job has no such source of received rows");
    let text = Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]));
    let changed = vec![LogSource::new("s0", text.clone())];
    refused(open_at(&disk, place.path(), changed), "with the columns {n: int64}, and the source has {n: utf8?} now");
    // Rows that are done do not stand in the way.
    let changed = vec![LogSource { place: 30, reads_from: 30, ..LogSource::new("s0", text) }];
    assert_eq!(open_at(&disk, place.path(), changed).expect("all rows are done").next_row(0), 30);
    std::fs::write(place.path().join("letter.txt"), "dear").expect("a file");
    refused(open_at(&disk, place.path(), sources(&[0])), "is not empty: `letter.txt` is in it");
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    let log = written(&disk, place.path(), 5, Durability::Row);
    // A part of the next frame fits.
    disk.room.store(100, Ordering::SeqCst);
    let pushing: Vec<_> = (0..4)
        .map(|_| {
            let way = ReceivedLog::new(log.clone(), 0, Durability::Row);
            std::thread::spawn(move || way.write(rows(0, 1)).expect("it waits until there is room"))
        })
        .collect();
    while disk.room.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
    assert!(pushing.iter().all(|thread| !thread.is_finished()));
    disk.room.store(u64::MAX, Ordering::SeqCst);
    pushing.into_iter().for_each(|thread| thread.join().expect("does not panic"));
    drop(log);
    let log = open_at(&disk, place.path(), sources(&[0])).expect("a whole log");
    assert_eq!(unread(&log, 0), (0..50).chain([0; 4]).collect::<Vec<_>>());
    // Who need not wait any longer does not, and what it could not write is written before what comes later.
    disk.room.store(0, Ordering::SeqCst);
    let way = ReceivedLog::new(log.clone(), 0, Durability::Row);
    let stopped = way.push(rows(54, 1), |_| Ok(()), &|| true).expect_err("there is no room");
    assert!(matches!(stopped, ReceiveError::Stopped(_)), "{stopped}");
    disk.room.store(u64::MAX, Ordering::SeqCst);
    way.write(rows(55, 1)).expect("there is room");
    drop((way, log));
    let log = open_at(&disk, place.path(), sources(&[54])).expect("a whole log");
    assert_eq!(unread(&log, 0), [54, 55]);
}

#[test]
fn a_disk_that_does_not_keep_its_word_ends_the_job() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    let log = written(&disk, place.path(), 5, Durability::Row);
    disk.syncs_fail.store(true, Ordering::SeqCst);
    let way = ReceivedLog::new(log.clone(), 0, Durability::Row);
    let error = way.write(rows(50, 10)).expect_err("it is not on the disk");
    assert!(
        error.in_one_line().ends_with("could not be brought to the disk: the disk is gone"),
        "{}",
        error.in_one_line()
    );
    // A later success would not mean that it is.
    disk.syncs_fail.store(false, Ordering::SeqCst);
    assert!(way.has_failed() && way.write(rows(60, 10)).is_err() && log.sync(&never).is_err());
}

#[test]
fn rows_that_the_block_store_refuses_are_the_next_run_s() {
    let (disk, place) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
    let log = written(&disk, place.path(), 1, Durability::Row);
    let way = ReceivedLog::new(log.clone(), 0, Durability::Row);
    way.push(rows(10, 10), |_| Err(Stopped), &|| true).expect("they are on the disk");
    // What comes behind them would have their numbers in the block store.
    let refused = way.push(rows(20, 10), |_| panic!("not given"), &|| true).expect_err("nobody has them");
    assert!(matches!(refused, ReceiveError::Stopped(_)));
    drop((way, log));
    let log = open_at(&disk, place.path(), sources(&[10])).expect("a whole log");
    assert_eq!(unread(&log, 0), (10..20).collect::<Vec<_>>());
}

#[test]
fn pushes_of_many_threads_share_syncs_and_keep_their_order_in_the_store() {
    /// Counts syncs, each of which is slow.
    #[derive(Debug)]
    struct Slow(Arc<AtomicU64>);
    #[derive(Debug)]
    struct SlowFile(Box<dyn SegmentFile>, Arc<AtomicU64>);
    impl Disk for Slow {
        fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
            Ok(Box::new(SlowFile(LocalDisk.create(path)?, self.0.clone())))
        }
        fn sync_folder(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn delete(&self, path: &Path) -> io::Result<()> {
            LocalDisk.delete(path)
        }
    }
    impl SegmentFile for SlowFile {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.append(bytes)
        }
        fn cut(&mut self, n_bytes: u64) -> io::Result<()> {
            self.0.cut(n_bytes)
        }
        fn sync(&mut self) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        }
    }
    let place = tempfile::tempdir().expect("a folder");
    let n_syncs = Arc::new(AtomicU64::new(0));
    let options = LogOptions { segment_bytes: 1 << 20, ..options(place.path()) };
    let open = || WriteAheadLog::open_on(Arc::new(Slow(n_syncs.clone())), &options, sources(&[0]));
    let log = open().expect("a new log");
    let way = Arc::new(ReceivedLog::new(log.clone(), 0, Durability::Row));
    let stored = Arc::new(Mutex::new(Vec::new()));
    let pushing: Vec<_> = (0..16)
        .map(|thread| {
            let (way, stored) = (way.clone(), stored.clone());
            let push = move || {
                for push in 0..8 {
                    let store = |rows: RecordBatch| {
                        let value = rows.column(0).as_primitive::<Int64Type>().value(0) as u64;
                        stored.lock().expect("not poisoned").push(value);
                        Ok(())
                    };
                    way.push(rows(thread * 100 + push, 1), store, &never).expect("there is room");
                }
            };
            std::thread::spawn(push)
        })
        .collect();
    pushing.into_iter().for_each(|thread| thread.join().expect("does not panic"));
    // 128 pushes: each would have a sync of its own. And no thread is done without one for each of its eight.
    assert!((8..64).contains(&n_syncs.load(Ordering::SeqCst)), "{n_syncs:?} syncs");
    drop((way, log));
    assert_eq!(unread(&open().expect("a whole log"), 0), *stored.lock().expect("not poisoned"));
}

/// What happens to a job with two sources.
#[derive(Debug, Clone)]
enum Event {
    Push {
        source: usize,
        n_rows: u64,
        waits: bool,
    },
    Begin,
    Commit,
    /// The process ends; the machine too, if it keeps so much of what is not on the disk, of 255.
    Crash {
        power: Option<u8>,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0usize..2, 1u64..300, any::<bool>()).prop_map(|(source, n_rows, waits)| Event::Push { source, n_rows, waits }),
        2 => Just(Event::Begin),
        2 => Just(Event::Commit),
        1 => proptest::option::of(any::<u8>()).prop_map(|power| Event::Crash { power }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whenever_it_crashes_what_was_promised_is_there(events in proptest::collection::vec(event(), 1..60)) {
        let (mut disk, folder) = (TestDisk::roomy(), tempfile::tempdir().expect("a folder"));
        let mut log = open_at(&disk, folder.path(), sources(&[0, 0])).expect("a new log");
        // Of each source: rows pushed, rows that are promised, rows that a batch has, rows that are done.
        let (mut pushed, mut promised, mut place, mut done) = ([0_u64; 2], [0_u64; 2], [0_u64; 2], [0_u64; 2]);
        let mut running: VecDeque<[u64; 2]> = VecDeque::new();
        for event in events {
            match event {
                Event::Push { source, n_rows, waits } => {
                    let durability = if waits { Durability::Row } else { Durability::Batch };
                    let way = ReceivedLog::new(log.clone(), source, durability);
                    way.write(rows(pushed[source], n_rows)).expect("there is room");
                    pushed[source] += n_rows;
                    if waits {
                        // One sync for all.
                        promised = pushed;
                    }
                }
                Event::Begin => {
                    log.sync(&never).expect("there is room");
                    (promised, place) = (pushed, pushed);
                    running.push_back(place);
                }
                Event::Commit => {
                    let Some(ends) = running.pop_front() else { continue };
                    done = ends;
                    log.release([("s0", done[0]), ("s1", done[1])]);
                }
                Event::Crash { power } => {
                    drop(log);
                    if let Some(power) = power {
                        disk.cut_power(|n_bytes| n_bytes * u64::from(power) / 255);
                    }
                    disk = TestDisk::roomy();
                    let source = |(index, source): (usize, LogSource)| {
                        LogSource { place: place[index], reads_from: done[index], kept_from: done[index], ..source }
                    };
                    let all = sources(&[0, 0]).into_iter().enumerate().map(source).collect();
                    log = open_at(&disk, folder.path(), all).expect("a torn end at most");
                    for source in 0..2 {
                        let end = log.next_row(source);
                        prop_assert!((promised[source]..=pushed[source]).contains(&end), "{end} of {promised:?} to {pushed:?}");
                        // What batches were begun with, and then the rest.
                        log.check(source, done[source], place[source]).expect("a batch was begun with them");
                        let begun = read(&log, source, done[source], place[source]);
                        if done[source] < place[source] {
                            prop_assert_eq!(begun.expect("they are there"), (done[source]..place[source]).collect::<Vec<_>>());
                        }
                        prop_assert_eq!(unread(&log, source), (place[source]..end).collect::<Vec<_>>());
                        pushed[source] = end;
                        promised[source] = end;
                    }
                }
            }
        }
    }
}
