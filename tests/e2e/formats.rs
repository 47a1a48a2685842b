//! Sources of every format through the binary, and what becomes of rows and files that cannot be read.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, ListArray, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::Int32Type;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use tidemill_tests::{Running, Sender, folder, run, wait_for, written_lines};

/// A job of one source, whose rows go to `out`.
fn job(source: &str) -> String {
    format!(
        "[job]\nname = \"formats\"\ntrigger = \"available-now\"\n\n[[source]]\nname = \"rows\"\n{source}\n\n\
         [[sink]]\nname = \"good\"\nfrom = \"rows\"\ntype = \"file\"\npath = \"out\"\noverwrite = true\n"
    )
}

/// With the rejected rows beside them, in `bad`.
fn with_letters(source: &str) -> String {
    let source = format!("{source}\non-error = \"dead-letter\"\ndead-letter = \"bad-rows\"");
    let sink = "\n[[sink]]\nname = \"bad\"\nfrom = \"bad-rows\"\ntype = \"file\"\npath = \"bad\"\noverwrite = true\n";
    job(&source) + sink
}

fn write_job(place: &Path, job: &str) {
    std::fs::write(place.join("job.toml"), job).expect("a new file");
}

#[track_caller]
fn check_runs(place: &Path, job: &str, expected: &[&str]) {
    write_job(place, job);
    let ended = run(place, &["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(written_lines(&place.join("out")), expected);
}

/// Dead letters, with `{folder}` for the test's folder.
fn letters(place: &Path) -> Vec<String> {
    let here = format!("{}/", place.display());
    written_lines(&place.join("bad")).iter().map(|line| line.replace(&here, "{folder}/").replace("./", "")).collect()
}

fn visits(ids: std::ops::Range<i32>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("place", Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("place {id}"))))),
        ("id", Arc::new(Int32Array::from_iter_values(ids.clone()))),
        ("at", Arc::new(TimestampMillisecondArray::from_iter_values(ids.clone().map(|id| i64::from(id) * 500)))),
        (
            "scores",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(ids.map(|id| Some(vec![Some(id), None])))),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("one length")
}

const VISITS: &[&str] = &[
    r#"{"id":1,"at":"1970-01-01T00:00:00.500Z","scores":[1,null]}"#,
    r#"{"id":2,"at":"1970-01-01T00:00:01Z","scores":[2,null]}"#,
    r#"{"id":3,"at":"1970-01-01T00:00:01.500Z","scores":[3,null]}"#,
];

/// All but one column of the files, and one of them wider.
const VISITS_SCHEMA: &str = r#"schema = { id = "int64", at = "timestamp", scores = "list<int64>" }"#;

#[test]
fn parquet_is_read_with_the_declared_columns_or_all() {
    let place = folder();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let file = File::create(place.path().join("a.parquet")).expect("a new file");
    let mut writer = ArrowWriter::try_new(file, visits(0..0).schema(), Some(properties)).expect("a right schema");
    writer.write(&visits(1..4)).expect("the folder is ours");
    writer.close().expect("the folder is ours");
    let source = "type = \"file\"\npath = \"a.parquet\"\nformat = \"parquet\"";
    check_runs(place.path(), &job(&format!("{source}\n{VISITS_SCHEMA}")), VISITS);
    let all: Vec<String> =
        (1..4).map(|id| VISITS[id - 1].replacen('{', &format!("{{\"place\":\"place {id}\","), 1)).collect();
    check_runs(place.path(), &job(source), &all.iter().map(String::as_str).collect::<Vec<_>>());
    let checked = run(place.path(), &["check", "job.toml"]);
    let schema = "{place: utf8?, id: int32?, at: timestamp?, scores: list<int32>?}";
    assert!(checked.stdout.contains(&format!("a.parquet {schema}")), "{}", checked.stdout);

    write_job(place.path(), &job(&format!("{source}\nschema = {{ id = \"int16\" }}")));
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("column `id` is int32, and cannot be read as int16"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--> job.toml:10:10"), "{}", ended.stderr);
}

#[test]
fn arrow_files_and_streams_are_read() {
    let place = folder();
    let mut writer =
        FileWriter::try_new(File::create(place.path().join("a.arrow")).expect("a new file"), &visits(0..0).schema())
            .expect("a right schema");
    writer.write(&visits(1..3)).expect("the folder is ours");
    writer.finish().expect("the folder is ours");
    let mut writer =
        StreamWriter::try_new(File::create(place.path().join("b.arrow")).expect("a new file"), &visits(0..0).schema())
            .expect("a right schema");
    writer.write(&visits(3..4)).expect("the folder is ours");
    writer.finish().expect("the folder is ours");
    let source = format!("type = \"file\"\npath = \"*.arrow\"\nformat = \"arrow\"\n{VISITS_SCHEMA}");
    check_runs(place.path(), &job(&source), VISITS);
}

#[test]
fn a_broken_file_is_left_out_set_aside_or_the_end_of_the_job() {
    let place = folder();
    let mut writer = ArrowWriter::try_new(
        File::create(place.path().join("b.parquet")).expect("a new file"),
        visits(0..0).schema(),
        None,
    )
    .expect("a right schema");
    writer.write(&visits(1..4)).expect("the folder is ours");
    writer.close().expect("the folder is ours");
    std::fs::write(place.path().join("a.parquet"), "no Parquet").expect("a new file");
    let source = format!("type = \"file\"\npath = \"*.parquet\"\nformat = \"parquet\"\n{VISITS_SCHEMA}");
    let reason = "Invalid Parquet file. Corrupt footer";
    check_runs(place.path(), &job(&source), VISITS);
    check_runs(place.path(), &with_letters(&source), VISITS);
    let letter = format!(r#"{{"source":"rows","object":"{{folder}}/a.parquet","position":0,"reason":"{reason}"}}"#);
    assert_eq!(
        letters(place.path()).iter().map(|line| line.replace("{folder}/", "")).collect::<Vec<_>>(),
        [letter.replace("{folder}/", "")]
    );
    write_job(place.path(), &job(&format!("{source}\non-error = \"fail\"")));
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains(&format!("a.parquet` cannot be read: {reason}")), "{}", ended.stderr);
}

const LINES: &str = "{\"n\": 1}\n{\"n\": 1.5}\n{\"n\": 2}\n";

#[test]
fn a_bad_row_is_dropped_and_shown_or_fails_the_job_with_its_line() {
    let place = folder();
    std::fs::write(place.path().join("in.jsonl"), LINES).expect("a new file");
    let source = "type = \"file\"\npath = \"in.jsonl\"\nformat = \"json\"\nschema = { n = \"int64\" }";
    for drops in [source.to_owned(), format!("{source}\non-error = \"drop\"")] {
        check_runs(place.path(), &job(&drops), &[r#"{"n":1}"#, r#"{"n":2}"#]);
    }
    write_job(place.path(), &job(&format!("{source}\non-error = \"fail\"")));
    let ended = run(place.path(), &["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    let expected = "cannot be read: `{\"n\": 1.5}`: `n` must be a whole number, and 1.5 is not";
    assert!(ended.stderr.contains("the row at line 2 of `"), "{}", ended.stderr);
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: Mend the row"), "{}", ended.stderr);
}

#[test]
fn standard_input_may_be_csv_and_its_bad_rows_are_set_aside() {
    let place = folder();
    let source = "type = \"stdin\"\nformat = \"csv\"\nschema = { n = \"int64\", s = \"utf8\" }";
    write_job(place.path(), &with_letters(source));
    let mut running = Running::start(place.path(), &["run", "job.toml"]);
    running.type_in("s,n\n\"a\nb\",1\nc,x\nd\n,2\n");
    running.close_stdin();
    let ended = running.wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(written_lines(&place.path().join("out")), [r#"{"n":1,"s":"a\nb"}"#, r#"{"n":2}"#]);
    let letter = |position: u8, reason: &str, value: &str| {
        format!(
            r#"{{"source":"rows","object":"standard input","position":{position},"reason":"{reason}","value":"{value}"}}"#
        )
    };
    let expected = [
        letter(12, "column `n` is int64, and `x` is none", "c,x"),
        letter(16, "it has 1 field, and 2 are expected", "d"),
    ];
    assert_eq!(letters(place.path()), expected);
    let checked = run(place.path(), &["check", "job.toml"]);
    assert!(checked.stdout.contains("source rows: stdin standard input {n: int64?, s: utf8?}\n"), "{}", checked.stdout);
    let letters = "rejected rows bad-rows {source: utf8, object: utf8, position: int64, reason: utf8, value: utf8?}\n";
    assert!(checked.stdout.contains(letters), "{}", checked.stdout);
}

#[test]
fn a_bad_row_of_one_source_ends_the_job_of_several() {
    let place = folder();
    let server = Sender::listen();
    let other = Sender::listen();
    let socket = |name: &str, address: &str, more: &str| {
        format!("[[source]]\nname = \"{name}\"\ntype = \"socket\"\naddress = \"{address}\"\n{more}\n\n")
    };
    let json = "format = \"json\"\nschema = { value = \"utf8\" }\non-error = \"fail\"";
    let job = format!(
        "[job]\nbatch-interval = \"50ms\"\n\n{}{}[[sink]]\nfrom = [\"rows\", \"lines\"]\ntype = \"file\"\npath = \"out\"\n",
        socket("rows", &server.address(), json),
        socket("lines", &other.address(), "")
    );
    write_job(place.path(), &job);
    let running = Running::start(place.path(), &["run", "job.toml"]);
    let (mut rows, _lines) = (server.accept(), other.accept());
    use std::io::Write;
    rows.write_all(b"{\"value\": \"a\"}\n").expect("sent");
    wait_for("the first row", || (!written_lines(&place.path().join("out")).is_empty()).then_some(()));
    rows.write_all(b"nonsense\n").expect("sent");
    let ended = running.wait();
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot be read: `nonsense`: it is no JSON object"), "{}", ended.stderr);
    assert_eq!(written_lines(&place.path().join("out")), [r#"{"value":"a"}"#]);
}
