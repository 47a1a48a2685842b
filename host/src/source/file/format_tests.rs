//! Files of CSV, Parquet and Arrow's IPC in real directories; what is broken, and what is done with it.

use std::fs::{self, File};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::job::table::read_options;
use crate::plan::describe_schema;
use crate::source::schema::parse_schema;
use crate::source::{BatchLimit, OffsetRange, Replayable};

fn dir() -> TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

fn schema(columns: &[(&str, &str)]) -> SchemaRef {
    let columns: Vec<_> = columns.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    parse_schema(&columns).expect("right types")
}

fn open(source: &FileSource) -> Box<dyn Replayable> {
    match source.open().expect("it is there") {
        OpenSource::Replayable(replayable) => replayable,
        OpenSource::Receiver(_) => panic!("files are replayable"),
    }
}

fn read(source: &dyn Replayable, ranges: &[OffsetRange]) -> Result<Vec<RecordBatch>, Error> {
    let (reader, mut batches) = (source.reader(), Vec::new());
    for range in ranges {
        reader.read_range(range, &mut |rows| {
            batches.push(rows);
            Ok(())
        })?;
    }
    Ok(batches)
}

/// All rows of a source, in as many batches as come.
fn read_all(source: &FileSource) -> Result<Vec<RecordBatch>, Error> {
    let mut open = open(source);
    let planned = open.plan_batch(BatchLimit { partitions: 4 }).expect("it can be listed");
    read(&*open, &planned.ranges)
}

fn numbers(batches: &[RecordBatch]) -> Vec<Option<i64>> {
    batches.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).collect()
}

/// Rows as a table of another system may have them: `id` narrower than declared, and columns that nobody asks for.
fn orders(ids: std::ops::Range<i32>) -> RecordBatch {
    let names: StringArray = ids.clone().map(|id| (id % 3 != 0).then(|| format!("name {id}"))).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("ignored", Arc::new(Float64Array::from_iter_values(ids.clone().map(f64::from)))),
        ("name", Arc::new(names)),
        ("id", Arc::new(Int32Array::from_iter_values(ids.clone()))),
        ("odd", Arc::new(arrow::array::Time32SecondArray::from_iter_values(ids.clone().map(|_| 0)))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("one length")
}

fn write_parquet(path: &Path, rows: &RecordBatch, rows_per_group: usize, compression: Compression) {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(rows_per_group))
        .build();
    let file = File::create(path).expect("the directory is ours");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).expect("a right schema");
    writer.write(rows).expect("the directory is ours");
    writer.close().expect("the directory is ours");
}

fn write_ipc_file(path: &Path, batches: &[RecordBatch], options: IpcWriteOptions) {
    let file = File::create(path).expect("the directory is ours");
    let mut writer = FileWriter::try_new_with_options(file, &batches[0].schema(), options).expect("a right schema");
    batches.iter().for_each(|rows| writer.write(rows).expect("the directory is ours"));
    writer.finish().expect("the directory is ours");
}

fn write_ipc_stream(path: &Path, batches: &[RecordBatch]) {
    let file = File::create(path).expect("the directory is ours");
    let mut writer = StreamWriter::try_new(file, &batches[0].schema()).expect("a right schema");
    batches.iter().for_each(|rows| writer.write(rows).expect("the directory is ours"));
    writer.finish().expect("the directory is ours");
}

fn declared() -> Columns {
    schema(&[("id", "int64"), ("name", "utf8")]).into()
}

#[track_caller]
fn check_orders(batches: &[RecordBatch], ids: std::ops::Range<i32>) {
    let rows = concat_batches(&schema(&[("id", "int64"), ("name", "utf8")]), batches).expect("as declared");
    assert_eq!(numbers(std::slice::from_ref(&rows)), ids.clone().map(|id| Some(i64::from(id))).collect::<Vec<_>>());
    assert_eq!(rows.column(1), orders(ids).column(1));
}

#[test]
fn parquet_is_read_in_the_declared_columns() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::GZIP(Default::default()),
    ] {
        let dir = dir();
        write_parquet(&dir.path().join("a.parquet"), &orders(0..20_000), 3_000, compression);
        write_parquet(&dir.path().join("b.parquet"), &orders(20_000..20_010), 3_000, compression);
        let source = FileSource::new(dir.path(), FileFormat::Parquet(declared()));
        assert_eq!(describe_schema(&source.schema().expect("declared")), "{id: int64?, name: utf8?}");
        check_orders(&read_all(&source).expect("whole files"), 0..20_010);
    }
}

#[test]
fn ipc_files_and_streams_are_told_apart_and_read() {
    let dir = dir();
    let compressed = |codec| IpcWriteOptions::default().try_with_compression(Some(codec)).expect("a codec");
    let codecs = [arrow::ipc::CompressionType::ZSTD, arrow::ipc::CompressionType::LZ4_FRAME];
    write_ipc_file(&dir.path().join("1.arrow"), &[orders(0..10_000), orders(10_000..10_001)], compressed(codecs[0]));
    write_ipc_file(&dir.path().join("2.arrow"), &[orders(10_001..10_005)], compressed(codecs[1]));
    write_ipc_stream(&dir.path().join("3.arrows"), &[orders(10_005..10_006), orders(10_006..10_007)]);
    for (second, name) in ["1.arrow", "2.arrow", "3.arrows"].into_iter().enumerate() {
        let file = File::options().write(true).open(dir.path().join(name)).expect("just written");
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second as u64);
        file.set_modified(time).expect("times can be set");
    }
    let source = FileSource::new(dir.path(), FileFormat::Arrow(declared()));
    let mut open = open(&source);
    let planned = open.plan_batch(BatchLimit { partitions: 4 }).expect("it can be listed");
    assert_eq!(planned.ranges.len(), 3, "a file is a range");
    check_orders(&read(&*open, &planned.ranges).expect("whole files"), 0..10_007);
}

#[test]
fn schemas_are_found_in_the_first_file() {
    let dir = dir();
    let infer = |name: &str, format: FileFormat| {
        let schema = FileSource::new(dir.path().join(name), format).schema();
        schema.map(|schema| describe_schema(&schema)).map_err(|error| error.to_string())
    };
    let csv = || FileFormat::Csv(Columns::infer(), CsvOptions::default());
    let no_file = |name: &str| {
        let path = dir.path().join(name).display().to_string();
        Err(format!("the schema of `{path}` cannot be told: there is no file yet, or none with content"))
    };
    assert_eq!(infer("*.csv", csv()), no_file("*.csv"));
    assert_eq!(infer("missing", csv()), no_file("missing"));
    fs::write(dir.path().join("a.csv"), "").expect("the directory is ours");
    assert_eq!(infer("*.csv", csv()), no_file("*.csv"));
    fs::write(dir.path().join("b.csv"), "id,name\n1,ann\n").expect("the directory is ours");
    assert_eq!(infer("*.csv", csv()), Ok("{id: int64?, name: utf8?}".into()));
    fs::write(dir.path().join("a.json"), "{\"id\": 1, \"name\": \"ann\"}\n").expect("the directory is ours");
    assert_eq!(infer("a.json", FileFormat::Json(Columns::infer())), Ok("{id: int64?, name: utf8?}".into()));
    let plain = orders(0..3).project(&[1, 2]).expect("two columns");
    write_parquet(&dir.path().join("a.parquet"), &plain, 10, Compression::UNCOMPRESSED);
    let expected = Ok("{name: utf8?, id: int32?}".to_owned());
    assert_eq!(infer("a.parquet", FileFormat::Parquet(Columns::infer())), expected);
    write_ipc_file(&dir.path().join("a.arrow"), std::slice::from_ref(&plain), IpcWriteOptions::default());
    assert_eq!(infer("a.arrow", FileFormat::Arrow(Columns::infer())), expected);
    write_ipc_stream(&dir.path().join("a.arrows"), &[plain]);
    assert_eq!(infer("a.arrows", FileFormat::Arrow(Columns::infer())), expected);
    write_parquet(&dir.path().join("odd.parquet"), &orders(0..3), 10, Compression::UNCOMPRESSED);
    let error = infer("odd.parquet", FileFormat::Parquet(Columns::infer())).expect_err("times of day have no type");
    assert!(error.ends_with("column `odd` has the type time32(s), which is not read"), "{error}");
    let error = infer("a.csv", FileFormat::Parquet(Columns::infer())).expect_err("no Parquet");
    assert!(error.contains("cannot be told"), "{error}");
}

#[test]
fn a_schema_that_is_found_stays() {
    let dir = dir();
    fs::write(dir.path().join("a.csv"), "id\n1\n").expect("the directory is ours");
    let source = FileSource::new(dir.path(), FileFormat::Csv(Columns::infer(), CsvOptions::default()));
    assert_eq!(describe_schema(&source.schema().expect("a file")), "{id: int64?}");
    fs::write(dir.path().join("a.csv"), "id\nx\n").expect("the directory is ours");
    assert_eq!(describe_schema(&source.schema().expect("found before")), "{id: int64?}");
    assert_eq!(describe_schema(&source.clone().schema().expect("a file")), "{id: utf8?}");
}

#[test]
fn declared_columns_that_the_first_file_has_not_are_told_before_the_job_runs() {
    let dir = dir();
    let path = dir.path().join("a.csv");
    fs::write(&path, "id,nam\n1,ann\n").expect("the directory is ours");
    let source = FileSource::new(&path, FileFormat::Csv(declared(), CsvOptions::default()));
    let expected = "it has no column `name`; its header has `id`, `nam`";
    let error = source.schema().expect_err("a column is missing").to_string();
    assert_eq!(error, format!("the declared columns are not those of `{}`: {expected}", path.display()));

    let path = dir.path().join("a.parquet");
    write_parquet(&path, &orders(0..1), 10, Compression::UNCOMPRESSED);
    let check = |columns: &[(&str, &str)]| {
        let source = FileSource::new(&path, FileFormat::Parquet(schema(columns).into()));
        source.schema().map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(check(&[("id", "int64")]), Ok(()));
    let start = format!("the declared columns are not those of `{}`: ", path.display());
    let expected = "column `id` is int32, and cannot be read as int16";
    assert_eq!(check(&[("id", "int16")]), Err(format!("{start}{expected}")));
}

/// Object, position and value.
type Letter = (String, i64, String);

/// What each way of dealing with bad rows makes of a file: rows, dead letters, refused files, the error.
fn each_way(path: &Path, format: &FileFormat) -> (usize, Vec<Letter>, u64, Option<String>) {
    let with = |bad_rows| FileSource { bad_rows, ..FileSource::new(path, format.clone()) };
    let mut dropping = open(&with(BadRows::Drop));
    let planned = dropping.plan_batch(BatchLimit { partitions: 3 }).expect("it can be listed");
    let dropped = read(&*dropping, &planned.ranges).expect("what is bad is dropped");
    let n_rows = dropped.iter().map(RecordBatch::num_rows).sum();
    let n_refused = dropping.counters().expect("counted").snapshot().refused_objects;
    let error = read_all(&with(BadRows::Fail)).err().map(|error| error.to_string());
    let mut letters = Vec::new();
    for rows in read_all(&with(BadRows::DeadLetter("bad".into()))).expect("what is bad is set aside") {
        let hidden = rows.column(rows.num_columns() - 1);
        let letter = hidden.as_struct();
        for row in (0..rows.num_rows()).filter(|row| hidden.is_valid(*row)) {
            let object = letter.column(0).as_string::<i32>().value(row);
            let position = letter.column(1).as_primitive::<Int64Type>().value(row);
            letters.push((object.to_owned(), position, letter.column(2).as_string::<i32>().value(row).to_owned()));
        }
    }
    (n_rows, letters, n_refused, error)
}

#[track_caller]
fn check_broken(path: &Path, format: FileFormat, n_good: usize, reason: &str) {
    let (n_rows, letters, n_refused, error) = each_way(path, &format);
    let name = path.display().to_string();
    assert_eq!(letters, [(name.clone(), 0, reason.to_owned())]);
    assert_eq!(error, Some(format!("`{name}` cannot be read: {reason}")));
    assert_eq!((n_rows, n_refused), (n_good, 1));
}

#[test]
fn broken_files_are_named_with_what_is_wrong() {
    let dir = dir();
    let path = |name: &str| dir.path().join(name);
    let parquet = || FileFormat::Parquet(declared());
    let arrow = || FileFormat::Arrow(declared());
    fs::write(path("text.parquet"), "this is no Parquet\n").expect("the directory is ours");
    check_broken(&path("text.parquet"), parquet(), 0, "Invalid Parquet file. Corrupt footer");
    fs::write(path("text.arrow"), "this is no Arrow\n").expect("the directory is ours");
    let neither = "it is neither an Arrow IPC file nor an Arrow IPC stream";
    check_broken(&path("text.arrow"), arrow(), 0, neither);
    fs::write(path("tiny.arrow"), "x").expect("the directory is ours");
    check_broken(&path("tiny.arrow"), arrow(), 0, neither);

    write_ipc_file(&path("a.arrow"), &[orders(0..100)], IpcWriteOptions::default());
    let whole = fs::read(path("a.arrow")).expect("just written");
    fs::write(path("a.arrow"), &whole[..whole.len() - 20]).expect("the directory is ours");
    check_broken(&path("a.arrow"), arrow(), 0, "it is an Arrow IPC file without its end");

    write_ipc_stream(&path("a.arrows"), &[orders(0..100)]);
    let whole = fs::read(path("a.arrows")).expect("just written");
    fs::write(path("a.arrows"), &whole[..whole.len() - 100]).expect("the directory is ours");
    check_broken(&path("a.arrows"), arrow(), 0, "it ends too early");

    let other = orders(0..5).project(&[0, 1]).expect("two columns");
    write_parquet(&path("other.parquet"), &other, 10, Compression::UNCOMPRESSED);
    check_broken(&path("other.parquet"), parquet(), 0, "it has no column `id`; it has `ignored`, `name`");

    fs::write(path("a.csv"), "id\n1\n").expect("the directory is ours");
    let csv = FileFormat::Csv(declared(), CsvOptions::default());
    check_broken(&path("a.csv"), csv, 0, "it has no column `name`; its header has `id`");
}

#[test]
fn a_page_that_is_damaged_ends_its_file_and_keeps_the_batches_before() {
    let dir = dir();
    let path = dir.path().join("a.parquet");
    write_parquet(&path, &orders(0..20_000), 10_000, Compression::SNAPPY);
    let mut bytes = fs::read(&path).expect("just written");
    let second = {
        let file = File::open(&path).expect("just written");
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("it is right");
        reader.metadata().row_group(1).column(2).byte_range().0 as usize
    };
    bytes[second..second + 64].fill(0xff);
    fs::write(&path, bytes).expect("the directory is ours");
    let (n_rows, letters, n_refused, error) = each_way(&path, &FileFormat::Parquet(declared()));
    assert_eq!((n_rows, letters.len(), n_refused), (8_192, 1, 1), "whole batches");
    assert!(error.is_some_and(|error| error.contains("a.parquet")));
}

#[test]
fn a_bad_row_fails_with_its_line() {
    let dir = dir();
    let path = dir.path().join("a.jsonl");
    let lines: String = (0..100_000).map(|id| format!("{{\"id\": {id}, \"name\": \"x\"}}\n")).collect();
    fs::write(&path, lines.replace("\"id\": 77777,", "\"id\": 7.5,")).expect("the directory is ours");
    let source = FileSource { bad_rows: BadRows::Fail, ..FileSource::new(&path, FileFormat::Json(declared())) };
    let error = read_all(&source).expect_err("one is bad").to_string();
    let expected = "cannot be read: `{\"id\": 7.5, \"name\": \"x\"}`: `id` must be a whole number, and 7.5 is not";
    assert_eq!(error, format!("the row at line 77778 of `{}` {expected}", path.display()));
}

#[test]
fn a_byte_order_mark_costs_no_row() {
    let dir = dir();
    let path = dir.path().join("a");
    fs::write(&path, "\u{feff}{\"id\": 1}\n{\"id\": 2}\n").expect("the directory is ours");
    let json = FileSource::new(&path, FileFormat::Json(declared()));
    assert_eq!(numbers(&read_all(&json).expect("good lines")), [Some(1), Some(2)]);
    fs::write(&path, "\u{feff}id,name\n1,x\n").expect("the directory is ours");
    let csv = FileSource::new(&path, FileFormat::Csv(declared(), CsvOptions::default()));
    assert_eq!(numbers(&read_all(&csv).expect("good lines")), [Some(1)]);
    fs::write(&path, "\u{feff}a\n\u{feff}b\n").expect("the directory is ours");
    let lines = read_all(&FileSource::text(&path)).expect("good lines");
    assert_eq!(lines[0].column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), Some("\u{feff}b")]);
    fs::write(&path, "\u{feff}").expect("the directory is ours");
    assert_eq!(read_all(&FileSource::text(&path)).expect("nothing").len(), 0);
}

#[test]
fn large_csv_is_cut_only_where_quotes_have_no_line_ends() {
    let dir = dir();
    let path = dir.path().join("a.csv");
    let mut text = String::from("name,id\n");
    (0..300_000).for_each(|id| text.push_str(&format!("name {id},{id}\n")));
    fs::write(&path, &text).expect("the directory is ours");
    for quoted_newlines in [true, false] {
        let options = CsvOptions { quoted_newlines, ..CsvOptions::default() };
        let source = FileSource::new(&path, FileFormat::Csv(declared(), options));
        let mut open = open(&source);
        let planned = open.plan_batch(BatchLimit { partitions: 4 }).expect("it can be listed");
        assert_eq!(planned.ranges.len(), if quoted_newlines { 1 } else { 4 });
        let rows = read(&*open, &planned.ranges).expect("good records");
        assert!(numbers(&rows).into_iter().eq((0..300_000).map(Some)));
        assert_eq!(open.counters().expect("counted").snapshot().last_rejection, None);
    }
}

#[test]
fn options_of_every_format_are_read() {
    let read =
        |text: &str| read_options(text, Path::new("/base"), FileSource::parse).map(|source| source.expect("right"));
    let format = |text: &str| read(&format!("path = 'a'\n{text}")).expect("right").format;
    let columns = || Columns::Declared(schema(&[("a", "utf8")]));
    assert_eq!(format("format = 'json'\nschema = 'infer'"), FileFormat::Json(Columns::infer()));
    let csv = CsvOptions { delimiter: b'\t', ..CsvOptions::default() };
    assert_eq!(format("format = 'csv'\nschema = { a = 'utf8' }\ndelimiter = \"\\t\""), FileFormat::Csv(columns(), csv));
    assert_eq!(format("format = 'parquet'"), FileFormat::Parquet(Columns::infer()));
    assert_eq!(format("format = 'parquet'\nschema = { a = 'utf8' }"), FileFormat::Parquet(columns()));
    assert_eq!(format("format = 'arrow'\nschema = 'infer'"), FileFormat::Arrow(Columns::infer()));
    let source = read("path = 'a'\nformat = 'parquet'\non-error = 'dead-letter'\ndead-letter = 'bad'").expect("right");
    assert_eq!(source.dead_letter(), Some("bad"));
}

#[track_caller]
fn check_options(text: &str, expected: &[&str]) {
    let problems = read_options(&format!("path = 'a'\n{text}"), Path::new("/base"), FileSource::parse);
    let problems = problems.expect_err("there are mistakes");
    assert_eq!(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn mistakes_in_options_of_every_format_are_named() {
    check_options("format = 'csv'", &["`schema` is missing"]);
    check_options("format = 'csv'\nschema = 'guess'", &["`schema` cannot be `guess`"]);
    check_options("format = 'csv'\nschema = { a = 'list<utf8>', b = 'utf8' }", &["column `a` cannot be read from CSV"]);
    let does_not_go = |key: &str, format: &str| format!("`{key}` does not go with `format = \"{format}\"`");
    check_options("format = 'parquet'\nheader = true", &[&does_not_go("header", "parquet")]);
    check_options("format = 'arrow'\nmax-line-bytes = '1KiB'", &[&does_not_go("max-line-bytes", "arrow")]);
    check_options("format = 'csv'\nschema = 'infer'\ninvalid = 'drop'", &[&does_not_go("invalid", "csv")]);
    check_options("on-error = 'drop'", &[&does_not_go("on-error", "text")]);
    check_options(
        "format = 'parket'\nschema = 'infer'\nquote = ''\non-error = 'fail'",
        &["`format` cannot be `parket`"],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// However a file is cut into ranges, its rows come out once each, in order, as if it were read whole.
    #[test]
    fn law_ranges_of_csv_and_parquet_lose_no_row_and_double_none(
        n_rows in 1..60_i32,
        rows_per_group in 1..20_usize,
        mut cuts in prop::collection::vec(0..4_000_u64, 0..8),
    ) {
        let dir = dir();
        let csv = dir.path().join("a.csv");
        let mut text = String::from("\u{feff}\n\"name\",id\r\n");
        (0..n_rows).for_each(|id| text.push_str(&format!("\"na,me {id}\",{id}\n{}", if id % 7 == 0 { "bad\n\n" } else { "" })));
        fs::write(&csv, text).expect("the directory is ours");
        let parquet = dir.path().join("a.parquet");
        write_parquet(&parquet, &orders(0..n_rows), rows_per_group, Compression::UNCOMPRESSED);
        let options = CsvOptions { quoted_newlines: false, ..CsvOptions::default() };
        for (path, format) in [(csv, FileFormat::Csv(declared(), options)), (parquet, FileFormat::Parquet(declared()))] {
            let size = fs::metadata(&path).expect("just written").len();
            cuts.retain(|cut| *cut < size);
            cuts.extend([0, size]);
            cuts.sort_unstable();
            let open = open(&FileSource::new(&path, format));
            let object = path.display().to_string();
            let range = |cut: &[u64]| OffsetRange { object: object.clone(), start: cut[0], end: cut[1], identity: None };
            let ranges: Vec<_> = cuts.windows(2).map(range).collect();
            let rows = read(&*open, &ranges).expect("a whole file");
            prop_assert_eq!(numbers(&rows), (0..i64::from(n_rows)).map(Some).collect::<Vec<_>>());
        }
    }

    /// Whatever happens to a file of Parquet or IPC, reading it neither panics nor allocates what it says.
    #[test]
    fn damaged_files_never_panic(
        kind in 0..3_u8,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = dir();
        let path = dir.path().join("a");
        let rows = orders(0..50);
        match kind {
            0 => write_parquet(&path, &rows, 20, Compression::SNAPPY),
            1 => write_ipc_file(&path, &[rows.clone(), rows], IpcWriteOptions::default()),
            _ => write_ipc_stream(&path, &[rows.clone(), rows]),
        }
        let mut bytes = fs::read(&path).expect("just written");
        for (index, byte) in damage {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).expect("the directory is ours");
        let format = if kind == 0 { FileFormat::Parquet(declared()) } else { FileFormat::Arrow(declared()) };
        for batch in read_all(&FileSource::new(&path, format)).expect("what is bad is dropped") {
            batch.columns().iter().for_each(|column| column.to_data().validate_full().expect("valid Arrow"));
        }
    }
}
