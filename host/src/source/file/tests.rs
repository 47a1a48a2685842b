//! File sources against real directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int8Type, Int64Type};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::error::Fault;
use crate::job::table::read_options;
use crate::source::lines::InvalidUtf8;
use crate::source::schema::parse_schema;
use crate::source::{BatchLimit, OffsetRange, PlannedRead, RangeReader, Replayable};

const LIMIT: BatchLimit = BatchLimit { partitions: 4 };

fn open(source: &FileSource) -> Result<Box<dyn Replayable>, Error> {
    match source.open()? {
        OpenSource::Replayable(replayable) => Ok(replayable),
        OpenSource::Receiver(_) => panic!("files are replayable"),
    }
}

fn plan(source: &mut Box<dyn Replayable>) -> PlannedRead {
    source.plan_batch(LIMIT).expect("the directory can be listed")
}

fn objects(planned: &PlannedRead) -> Vec<&str> {
    planned.ranges.iter().map(|range| range.object.rsplit('/').next().expect("split gives one at least")).collect()
}

fn read_batches(reader: &dyn RangeReader, range: &OffsetRange) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    reader.read_range(range, &mut |rows| {
        batches.push(rows);
        Ok(())
    })?;
    Ok(batches)
}

fn text(batches: &[RecordBatch]) -> Vec<String> {
    let lines = |rows: &RecordBatch| -> Vec<String> {
        rows.column(0).as_string::<i32>().iter().map(|line| line.expect("no nulls").to_owned()).collect()
    };
    batches.iter().flat_map(lines).collect()
}

fn read_lines(source: &dyn Replayable, ranges: &[OffsetRange]) -> Vec<String> {
    let reader = source.reader();
    ranges.iter().flat_map(|range| text(&read_batches(&*reader, range).expect("the file is there"))).collect()
}

/// Writes a file with a modification time, `second` after 1970.
fn write(dir: &Path, name: &str, content: &str, second: u64) {
    let path = dir.join(name);
    fs::write(&path, content).expect("the directory is ours");
    let file = fs::File::options().write(true).open(path).expect("just written");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(second)).expect("times can be set");
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

#[test]
fn files_are_read_once_in_the_order_of_their_times() {
    let dir = dir();
    write(dir.path(), "b.txt", "b\n", 1);
    write(dir.path(), "a.txt", "a\n", 2);
    write(dir.path(), "c.txt", "c\n", 1);
    write(dir.path(), ".hidden", "no\n", 1);
    write(dir.path(), "_private", "no\n", 1);
    write(dir.path(), "d.tmp", "no\n", 1);
    fs::create_dir(dir.path().join("sub")).expect("the directory is ours");
    let mut source = open(&FileSource::text(dir.path())).expect("the directory is there");
    let first = plan(&mut source);
    assert_eq!(objects(&first), ["b.txt", "c.txt", "a.txt"]);
    assert!(first.drained);
    assert_eq!(read_lines(&*source, &first.ranges), ["b", "c", "a"]);
    assert_eq!(plan(&mut source), PlannedRead { ranges: vec![], drained: true });

    // Moved in later, and older than what was read.
    fs::rename(dir.path().join("d.tmp"), dir.path().join("d.txt")).expect("within one directory");
    write(dir.path(), "a.txt", "a\nmore\n", 3);
    let second = plan(&mut source);
    assert_eq!(objects(&second), ["d.txt"], "a file that grew is not read again");
    assert_eq!(read_lines(&*source, &first.ranges[2..]), ["a"], "and its range is what it was");
}

#[test]
fn another_file_under_an_old_name_is_read() {
    let dir = dir();
    write(dir.path(), "a.txt", "old\n", 1);
    let mut source = open(&FileSource::text(dir.path())).expect("the directory is there");
    assert_eq!(objects(&plan(&mut source)), ["a.txt"]);
    write(dir.path(), "new.tmp", "new\n", 1);
    fs::rename(dir.path().join("new.tmp"), dir.path().join("a.txt")).expect("within one directory");
    let planned = plan(&mut source);
    assert_eq!(read_lines(&*source, &planned.ranges), ["new"]);
}

#[test]
fn limits_cut_batches_and_drained_means_what_was_there_at_first() {
    let dir = dir();
    for number in 0..5 {
        write(dir.path(), &format!("{number}.txt"), "0123456789\n", number);
    }
    let by_files = FileSource { files_per_batch_max: Some(2), ..FileSource::text(dir.path()) };
    let mut source = open(&by_files).expect("the directory is there");
    assert_eq!(objects(&plan(&mut source)), ["0.txt", "1.txt"]);
    write(dir.path(), "later.txt", "x\n", 0);
    assert_eq!(objects(&plan(&mut source)), ["2.txt", "3.txt"]);
    let third = plan(&mut source);
    assert_eq!((objects(&third), third.drained), (vec!["4.txt", "later.txt"], true));

    let by_bytes = FileSource { bytes_per_batch_max: Some(25), ..FileSource::text(dir.path().join("?.txt")) };
    let mut source = open(&by_bytes).expect("the pattern's directory is there");
    let sizes: Vec<(usize, bool)> =
        (0..4).map(|_| plan(&mut source)).map(|plan| (plan.ranges.len(), plan.drained)).collect();
    assert_eq!(sizes, [(2, false), (2, false), (1, true), (0, true)]);

    let tiny = FileSource { bytes_per_batch_max: Some(1), ..FileSource::text(dir.path().join("?.txt")) };
    assert_eq!(objects(&plan(&mut open(&tiny).expect("as before"))), ["0.txt"], "one file at least");
}

#[test]
fn a_single_file_is_read_whatever_its_name() {
    let dir = dir();
    write(dir.path(), "_x.tmp", "line\n", 1);
    let mut source = open(&FileSource::text(dir.path().join("_x.tmp"))).expect("it is there");
    let planned = plan(&mut source);
    assert_eq!(read_lines(&*source, &planned.ranges), ["line"]);
}

#[track_caller]
fn check_open(path: &Path, expected: &str) {
    let error = open(&FileSource::text(path)).err().expect("it cannot be opened");
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().is_some());
}

#[test]
fn what_is_not_there_is_an_error_when_it_is_opened() {
    let dir = dir();
    let name = |name: &str| dir.path().join(name).display().to_string();
    check_open(&dir.path().join("none"), &format!("`{}` does not exist", name("none")));
    check_open(&dir.path().join("none/*.txt"), &format!("`{}` does not exist", name("none")));
    open(&FileSource::text(dir.path().join("*.txt"))).expect("nothing matches yet");
    check_open(&dir.path().join("a[.txt"), "`a[.txt` is no pattern: invalid range pattern at character 2");
    write(dir.path(), "a.txt.gz", "", 1);
    let expected = format!("`{}` is compressed, and compressed files are not read in this version", name("a.txt.gz"));
    check_open(dir.path(), &expected);
    check_open(&dir.path().join("a.txt.gz"), &expected);
}

#[test]
fn a_compressed_file_that_appears_later_is_refused_once() {
    let dir = dir();
    let mut source = open(&FileSource::text(dir.path())).expect("an empty directory is fine");
    assert_eq!(plan(&mut source), PlannedRead { ranges: vec![], drained: true });
    write(dir.path(), "a.zst", "", 1);
    plan(&mut source);
    plan(&mut source);
    let seen = source.counters().expect("files are counted").snapshot();
    assert_eq!(seen.refused_objects, 1);
    assert!(seen.last_rejection.expect("it says why").contains("a.zst"));
}

#[test]
fn a_directory_that_vanishes_fails_the_batch_and_may_come_back() {
    let dir = dir();
    let sub = dir.path().join("in");
    fs::create_dir(&sub).expect("the directory is ours");
    let mut source = open(&FileSource::text(&sub)).expect("it is there");
    fs::remove_dir(&sub).expect("it is empty");
    let error = source.plan_batch(LIMIT).expect_err("it is gone");
    assert_eq!((error.to_string(), error.fault()), (format!("cannot list `{}`", sub.display()), Fault::External));
    fs::create_dir(&sub).expect("the directory is ours");
    write(&sub, "a.txt", "a\n", 1);
    assert_eq!(objects(&plan(&mut source)), ["a.txt"]);
}

#[test]
fn files_that_vanish_or_shrink_after_planning_are_named() {
    let dir = dir();
    write(dir.path(), "a.txt", "0123456789\n", 1);
    write(dir.path(), "b.txt", "0123456789\n", 2);
    let mut source = open(&FileSource::text(dir.path())).expect("the directory is there");
    let planned = plan(&mut source);
    fs::remove_file(dir.path().join("a.txt")).expect("it was there");
    write(dir.path(), "b.txt", "012\n", 2);
    let errors: Vec<Error> = planned
        .ranges
        .iter()
        .map(|range| read_batches(&*source.reader(), range).expect_err("both are broken"))
        .collect();
    let name = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(errors[0].to_string(), format!("`{}` vanished after it became part of a batch", name("a.txt")));
    assert_eq!(errors[1].to_string(), format!("`{}` shrank to 4 bytes after 11 became part of a batch", name("b.txt")));
    assert!(errors.iter().all(|error| error.fault() == Fault::External && error.hint().is_some()));
}

#[test]
fn a_planned_file_that_was_replaced_is_named_and_not_read() {
    let dir = dir();
    write(dir.path(), "a.txt", "old\n", 1);
    let mut source = open(&FileSource::text(dir.path())).expect("the directory is there");
    let planned = plan(&mut source);
    write(dir.path(), "new.tmp", "new and longer\n", 1);
    fs::rename(dir.path().join("new.tmp"), dir.path().join("a.txt")).expect("within one directory");
    let error = read_batches(&*source.reader(), &planned.ranges[0]).expect_err("it is another file");
    let name = dir.path().join("a.txt").display().to_string();
    assert_eq!(error.to_string(), format!("`{name}` was replaced after it became part of a batch"));
    assert!(error.fault() == Fault::External && error.hint().is_some());
}

#[test]
fn a_pending_file_that_was_replaced_is_read_once_and_whole() {
    let dir = dir();
    write(dir.path(), "a.txt", "a\n", 1);
    write(dir.path(), "b.txt", "old\n", 2);
    let one_each = FileSource { files_per_batch_max: Some(1), ..FileSource::text(dir.path()) };
    let mut source = open(&one_each).expect("the directory is there");
    assert_eq!(objects(&plan(&mut source)), ["a.txt"]);
    write(dir.path(), "new.tmp", "new and longer\n", 3);
    fs::rename(dir.path().join("new.tmp"), dir.path().join("b.txt")).expect("within one directory");
    let second = plan(&mut source);
    assert_eq!((read_lines(&*source, &second.ranges), second.drained), (vec!["new and longer".into()], true));
    assert_eq!(plan(&mut source), PlannedRead { ranges: vec![], drained: true });
}

#[test]
fn the_folder_of_a_pattern_may_have_brackets() {
    let dir = dir();
    let folder = dir.path().join("jobs[1]*");
    fs::create_dir(&folder).expect("the directory is ours");
    write(&folder, "a.txt", "a\n", 1);
    write(&folder, "[b].txt", "b\n", 2);
    let mut source = open(&FileSource::text(folder.join("*.txt"))).expect("the directory is there");
    assert_eq!(objects(&plan(&mut source)), ["a.txt", "[b].txt"]);
    let mut source = open(&FileSource::text(folder.join("[b].txt"))).expect("it is there");
    assert_eq!(objects(&plan(&mut source)), ["[b].txt"], "what exists is meant literally");
}

#[cfg(unix)]
#[test]
fn an_entry_that_cannot_be_read_is_refused_once_and_stops_no_other() {
    use std::os::unix::fs::symlink;
    let dir = dir();
    symlink(dir.path().join("nothing"), dir.path().join("dangling.txt")).expect("the directory is ours");
    symlink(dir.path().join("loop.txt"), dir.path().join("loop.txt")).expect("the directory is ours");
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket.txt")).expect("the directory is ours");
    write(dir.path(), "a.txt", "a\n", 1);
    for path in [dir.path().to_owned(), dir.path().join("*.txt")] {
        let mut source = open(&FileSource::text(path)).expect("the directory is there");
        assert_eq!(objects(&plan(&mut source)), ["a.txt"]);
        assert_eq!(objects(&plan(&mut source)), [""; 0]);
        assert_eq!(source.counters().expect("files are counted").snapshot().refused_objects, 3);
    }
    drop(socket);
}

#[cfg(unix)]
#[test]
fn what_is_not_a_regular_file_is_refused_when_it_is_opened() {
    let dir = dir();
    let path = dir.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("the directory is ours");
    check_open(&path, &format!("`{}` is not a regular file", path.display()));
    check_open(Path::new("/dev/null"), "`/dev/null` is not a regular file");
    #[cfg(target_os = "linux")]
    check_open(Path::new("/proc/version"), "`/proc/version` is not a regular file");
}

#[test]
fn files_that_are_known_are_read_while_the_directory_cannot_be_listed() {
    let dir = dir();
    let (sub, away) = (dir.path().join("in"), dir.path().join("away"));
    fs::create_dir(&sub).expect("the directory is ours");
    write(&sub, "a.txt", "a\n", 1);
    let mut source = open(&FileSource::text(&sub)).expect("it is there");
    fs::rename(&sub, &away).expect("within one directory");
    let planned = plan(&mut source);
    assert_eq!((objects(&planned), planned.drained), (vec!["a.txt"], true));
    assert_eq!(source.counters().expect("files are counted").snapshot().failures, 1);
    source.plan_batch(LIMIT).expect_err("nothing is pending");
}

fn json_source(dir: &Path, columns: &[(&str, &str)]) -> FileSource {
    let columns: Vec<_> = columns.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    FileSource::json(dir, parse_schema(&columns).expect("right types"))
}

#[test]
fn json_lines_become_columns_and_bad_ones_are_rejected() {
    let dir = dir();
    let content = [
        r#"{"word": "a", "n": 1, "other": [1, {"x": 2}]}"#,
        "",
        r#"{"word": "b", "n": "many"}"#,
        "   ",
        r#"{"word": "c""#,
        r#", "n": 3}"#,
        r#"{"n": 4} {"n": 5}"#,
        r#"[{"n": 6}]"#,
        "null",
        "nonsense",
        r#"{"n": 7, "tags": ["x", null]}"#,
        "{}",
        r#"{"n": 1e999}"#,
        r#"{"word": "last", "n": 8}"#,
    ];
    write(dir.path(), "a.json", &content.join("\n"), 1);
    let columns = [("word", "utf8"), ("n", "int64"), ("tags", "list<utf8>")];
    let mut source = open(&json_source(dir.path(), &columns)).expect("the directory is there");
    let planned = plan(&mut source);
    let batches = read_batches(&*source.reader(), &planned.ranges[0]).expect("bad lines are no error");
    let numbers: Vec<Option<i64>> =
        batches.iter().flat_map(|rows| rows.column(1).as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).collect();
    assert_eq!(numbers, [Some(1), Some(7), None, Some(8)]);
    assert_eq!(batches[0].column(2).as_list::<i32>().value(1).len(), 2);
    let seen = source.counters().expect("files are counted").snapshot();
    assert_eq!((seen.rejected_rows, seen.rows), (8, 4));
    let reason = seen.last_rejection.expect("it says why");
    assert!(reason.starts_with(&format!("`{}`: `", dir.path().join("a.json").display())), "{reason}");
}

#[test]
fn a_line_of_json_nested_deep_is_rejected_and_its_reason_is_short() {
    let dir = dir();
    let deep = |open: &str, close: &str| format!("{{\"n\": {}1{}}}", open.repeat(50_000), close.repeat(50_000));
    let long = format!("{{\"n\": {{\"x\": \"{}\"}}}}", "long ".repeat(1_000));
    let content = [deep("[", "]"), deep("{\"n\":", "}"), r#"{"n": 1}"#.into(), long];
    write(dir.path(), "a.json", &content.join("\n"), 1);
    let mut source = open(&json_source(dir.path(), &[("n", "int64")])).expect("the directory is there");
    let planned = plan(&mut source);
    let batches = read_batches(&*source.reader(), &planned.ranges[0]).expect("bad lines are no error");
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let seen = source.counters().expect("files are counted").snapshot();
    assert_eq!(seen.rejected_rows, 3);
    let reason = seen.last_rejection.expect("it says why");
    assert!(reason.chars().count() < 600, "{reason}");
}

/// As the manual says it.
#[test]
fn numbers_with_a_fraction_and_those_out_of_range_are_rejected() {
    let dir = dir();
    let content = ["1.9", "-1.9", "1e2", "\"7\"", "128", "-129", "\"1.5\""].map(|n| format!("{{\"n\": {n}}}"));
    write(dir.path(), "a.json", &content.join("\n"), 1);
    let mut source = open(&json_source(dir.path(), &[("n", "int8")])).expect("the directory is there");
    let planned = plan(&mut source);
    let batches = read_batches(&*source.reader(), &planned.ranges[0]).expect("bad lines are no error");
    let numbers: Vec<_> =
        batches.iter().flat_map(|rows| rows.column(0).as_primitive::<Int8Type>().iter().collect::<Vec<_>>()).collect();
    assert_eq!(numbers, [Some(100), Some(7)]);
    assert_eq!(source.counters().expect("files are counted").snapshot().rejected_rows, 5);
}

#[test]
fn every_type_of_a_schema_can_be_read_from_json() {
    let dir = dir();
    let columns = [
        ("a", "boolean"),
        ("b", "int8"),
        ("c", "uint64"),
        ("d", "float32"),
        ("e", "utf8"),
        ("f", "date32"),
        ("g", "timestamp"),
        ("h", "decimal(10, 2)"),
        ("i", "struct<x: int32, y: list<utf8>>"),
        ("j", "map<utf8, int64>"),
        ("k", "duration"),
        ("l", "binary"),
    ];
    let line = r#"{"a": true, "b": -8, "c": 18446744073709551615, "d": 0.5, "e": "é", "f": "2026-11-22",
        "g": "2026-11-22T07:30:00.5Z", "h": "12.34", "i": {"x": 1, "y": ["z"]}, "j": {"k": 5}, "k": 17, "l": "00ff"}"#;
    write(dir.path(), "a.json", &line.replace('\n', " "), 1);
    let mut source = open(&json_source(dir.path(), &columns)).expect("the directory is there");
    let planned = plan(&mut source);
    let batches = read_batches(&*source.reader(), &planned.ranges[0]).expect("it is there");
    let seen = source.counters().expect("files are counted").snapshot();
    assert_eq!(seen.last_rejection, None);
    assert!(batches[0].columns().iter().all(|column| column.null_count() == 0));
}

#[test]
fn options_are_read() {
    let read = |text: &str| read_options(text, Path::new("/base"), FileSource::parse);
    assert_eq!(read("path = 'logs'"), Ok(Some(FileSource::text("/base/logs"))));
    let all = "path = '/x/*.json'\nformat = 'json'\nschema = { word = 'utf8', n = 'int64' }\nmax-files-per-batch = 3\n\
               max-bytes-per-batch = '1MiB'\nmax-line-bytes = '1KiB'";
    let expected = FileSource {
        files_per_batch_max: Some(3),
        bytes_per_batch_max: Some(1 << 20),
        lines: LineOptions { line_bytes_max: 1024, ..LineOptions::default() },
        ..json_source(Path::new("/x/*.json"), &[("word", "utf8"), ("n", "int64")])
    };
    assert_eq!(read(all), Ok(Some(expected)));
}

#[track_caller]
fn check_options(text: &str, expected: &[&str]) {
    let problems = read_options(text, Path::new("/base"), FileSource::parse).expect_err("there are mistakes");
    assert_eq!(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(), expected);
}

#[test]
fn mistakes_in_options_are_named() {
    check_options("format = 'text'", &["`path` is missing"]);
    check_options("path = 'a'\nformat = 'jsn'", &["`format` cannot be `jsn`"]);
    check_options("path = 'a'\nformat = 'json'", &["`schema` is missing"]);
    check_options("path = 'a'\nschema = { a = 'utf8' }", &["`schema` does not go with `format = \"text\"`"]);
    let with_invalid = "path = 'a'\nformat = 'json'\nschema = { a = 'utf8' }\ninvalid = 'drop'";
    check_options(with_invalid, &["`invalid` does not go with `format = \"json\"`"]);
    check_options("path = '/a[.txt'", &["`a[.txt` is no pattern: invalid range pattern at character 2"]);
    check_options("path = 'a'\nformat = 'json'\nschema = {}", &["`schema` has no columns"]);
    let two = "path = 'a'\nformat = 'json'\nschema = { a = 'uft8', b = 'list<' }";
    check_options(two, &["`uft8` is no type", "`list<` is no type: a name is missing at the end"]);
    check_options("path = 'a'\nmax-bytes-per-batch = 0", &["`max-bytes-per-batch` must be more than 0"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However a file is cut into ranges, its lines come out once each, in order, as if it were read whole.
    #[test]
    fn law_ranges_lose_no_line_and_double_none(
        content in prop::collection::vec(prop_oneof![3 => Just(b'\n'), 8 => b'a'..b'e', 1 => Just(0xff_u8)], 0..120),
        mut cuts in prop::collection::vec(0..120_u64, 0..8),
        line_bytes_max in 1..12_u64,
    ) {
        let dir = dir();
        let path = dir.path().join("a.txt");
        fs::write(&path, &content).expect("the directory is ours");
        let size = content.len() as u64;
        cuts.retain(|cut| *cut < size);
        cuts.extend([0, size]);
        cuts.sort_unstable();
        let lines = LineOptions { line_bytes_max, invalid: InvalidUtf8::Replace };
        let source = open(&FileSource { lines, ..FileSource::text(&path) }).expect("it is there");
        let object = path.display().to_string();
        let range = |start, end| OffsetRange { object: object.clone(), start, end, identity: None };
        let whole = read_lines(&*source, &[range(0, size)]);
        let refused_whole = source.counters().expect("counted").snapshot().refused_lines;
        let parts: Vec<_> = cuts.windows(2).map(|cut| range(cut[0], cut[1])).collect();
        prop_assert_eq!(read_lines(&*source, &parts), whole);
        let refused_parts = source.counters().expect("counted").snapshot().refused_lines - refused_whole;
        prop_assert_eq!(refused_parts, refused_whole);
    }
}

/// Large enough for several reads a range, with lines longer than a read; cut everywhere around the read's end.
#[test]
fn ranges_longer_than_a_read_are_whole() {
    let dir = dir();
    let mut expected = BTreeMap::new();
    let mut content = String::new();
    for number in 0..60_000 {
        expected.insert(content.len() as u64, number);
        content.push_str(&format!("{number} {}\n", "x".repeat(number % 97)));
        if number % 20_000 == 7 {
            content.push_str(&"long ".repeat(150_000));
            content.push('\n');
        }
    }
    write(dir.path(), "a.txt", &content, 1);
    let mut source = open(&FileSource::text(dir.path())).expect("the directory is there");
    let planned = plan(&mut source);
    assert!(planned.ranges.len() >= 4);
    assert!(read_lines(&*source, &planned.ranges).iter().map(String::as_str).eq(content.lines()));
    let object = planned.ranges[0].object.clone();
    for middle in [512 << 10, (512 << 10) - 1, (512 << 10) + 1, 1 << 20, content.len() as u64 - 1] {
        let ranges = [(0, middle), (middle, content.len() as u64)].map(|(start, end)| OffsetRange {
            object: object.clone(),
            start,
            end,
            identity: None,
        });
        assert!(read_lines(&*source, &ranges).iter().map(String::as_str).eq(content.lines()), "cut at {middle}");
    }
}
