//! What a console sink prints, word for word.

use std::path::Path;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::error::Fault;
use crate::job::table::read_options;

const BATCH: SinkBatch = SinkBatch { batch_id: BatchId(12), batch_time_us: 1_795_332_600_250_000, is_repeated: false };

fn counts(words: &[&str], first_count: i64) -> RecordBatch {
    let word: ArrayRef = Arc::new(StringArray::from_iter_values(words));
    let count: ArrayRef = Arc::new(Int64Array::from_iter_values((0..words.len() as i64).map(|n| first_count + n)));
    RecordBatch::try_from_iter([("word", word), ("count", count)]).expect("columns of one length")
}

fn prepare(sink: &dyn Sink, partition: u32, rows: &[RecordBatch]) -> Prepared {
    let mut writer = sink.writer(&BATCH, PartitionId(partition)).expect("in memory");
    for rows in rows {
        writer.write(rows).expect("in memory");
    }
    writer.prepare().expect("in memory")
}

fn open(options: ConsoleSink) -> (Arc<dyn Sink>, Arc<Mutex<Vec<u8>>>) {
    let output = Arc::new(Mutex::new(Vec::new()));
    let writer: Arc<Mutex<dyn Write + Send>> = Arc::clone(&output) as _;
    let sink = ConsoleSink { output: ConsoleOutput::Writer(writer), ..options };
    (sink.open(&counts(&[], 0).schema()).expect("texts and numbers"), output)
}

fn text(output: &Mutex<Vec<u8>>) -> String {
    String::from_utf8(output.lock().expect("not poisoned").clone()).expect("UTF-8")
}

#[test]
fn a_table_has_a_head_the_first_rows_and_the_number_of_the_others() {
    let (sink, output) = open(ConsoleSink { rows: Some(3), truncate: 8, ..ConsoleSink::table() });
    let parts = vec![
        prepare(&*sink, 1, &[counts(&["third", "fourth"], 1_000)]),
        prepare(&*sink, 0, &[counts(&["a \x1b[31mtrick", "second"], 1)]),
    ];
    assert_eq!(text(&output), "", "nothing is printed before the batch is published");
    sink.publish(&BATCH, parts).expect("a vector takes all");
    let expected = "\
batch 12 · 2026-11-22 07:30:00.250 UTC · 4 rows
word      count
────────  ─────
a \\u{1b…      1
second        2
third      1000
… and 1 row more

";
    assert_eq!(text(&output), expected);
}

#[test]
fn law_publishing_twice_prints_once_and_empty_batches_print_nothing() {
    let (sink, output) = open(ConsoleSink::table());
    sink.publish(&SinkBatch { batch_id: BatchId(11), ..BATCH }, vec![prepare(&*sink, 0, &[])]).expect("a vector");
    assert_eq!(text(&output), "");
    sink.publish(&BATCH, vec![prepare(&*sink, 0, &[counts(&["once"], 1)])]).expect("a vector");
    sink.publish(&BATCH, vec![prepare(&*sink, 0, &[counts(&["once"], 1)])]).expect("a vector");
    assert_eq!(text(&output).matches("once").count(), 1);
}

#[test]
fn a_batch_that_may_have_been_printed_before_a_restart_says_so() {
    let again = SinkBatch { is_repeated: true, ..BATCH };
    let (sink, output) = open(ConsoleSink::table());
    sink.publish(&again, vec![prepare(&*sink, 0, &[counts(&["a"], 1)])]).expect("a vector");
    let head = text(&output).lines().next().map(str::to_owned);
    assert_eq!(head.as_deref(), Some("batch 12 · 2026-11-22 07:30:00.250 UTC · 1 row · again after a restart"));
    let (sink, output) = open(ConsoleSink::json());
    sink.publish(&again, vec![prepare(&*sink, 0, &[counts(&["a"], 1)])]).expect("a vector");
    assert_eq!(text(&output), "{\"word\":\"a\",\"count\":1,\"_repeated\":true}\n");
    let mut row_without_columns = Vec::new();
    mark_repeated(b"{", &mut row_without_columns);
    assert_eq!(row_without_columns, b"{\"_repeated\":true}\n");
}

#[test]
fn json_is_lines_and_nothing_else() {
    let (sink, output) = open(ConsoleSink::json());
    let parts = vec![prepare(&*sink, 1, &[counts(&["c"], 3)]), prepare(&*sink, 0, &[counts(&["a", "b\n\x1b"], 1)])];
    sink.publish(&BATCH, parts).expect("a vector");
    let expected =
        "{\"word\":\"a\",\"count\":1}\n{\"word\":\"b\\n\\u001b\",\"count\":2}\n{\"word\":\"c\",\"count\":3}\n";
    assert_eq!(text(&output), expected);
    let (sink, output) = open(ConsoleSink { rows: Some(2), ..ConsoleSink::json() });
    let parts = vec![prepare(&*sink, 0, &[counts(&["a"], 1)]), prepare(&*sink, 1, &[counts(&["b", "c"], 2)])];
    sink.publish(&BATCH, parts).expect("a vector");
    assert_eq!(text(&output).lines().count(), 2);
}

#[test]
fn a_partition_holds_no_more_than_is_shown() {
    let (sink, _) = open(ConsoleSink::table());
    let many: Vec<String> = (0..1_000).map(|number| number.to_string()).collect();
    let words: Vec<&str> = many.iter().map(String::as_str).collect();
    let prepared = prepare(&*sink, 0, &[counts(&words, 0), counts(&words, 0)]);
    assert_eq!(prepared.n_rows, 2_000);
    let Ok(shown) = prepared.payload.downcast::<Shown>() else { panic!("the sink's own") };
    assert!(matches!(*shown, Shown::Cells(cells) if cells.len() == 20));
}

#[test]
fn a_closed_output_is_an_error_and_the_batch_may_be_printed_again() {
    struct Closed(bool);
    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if std::mem::take(&mut self.0) { Err(ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let output = ConsoleOutput::Writer(Arc::new(Mutex::new(Closed(true))));
    let sink = ConsoleSink { output, ..ConsoleSink::table() };
    let sink = sink.open(&counts(&[], 0).schema()).expect("texts and numbers");
    let part = || vec![prepare(&*sink, 0, &[counts(&["a"], 1)])];
    let error = sink.publish(&BATCH, part()).expect_err("closed");
    assert_eq!(error.to_string(), "the console's output was closed by whoever read it");
    assert_eq!(error.fault(), Fault::External);
    sink.publish(&BATCH, part()).expect("open again");
}

#[test]
fn every_type_of_the_contract_is_printed() {
    let nested = DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into());
    let types = [
        DataType::Null,
        DataType::Boolean,
        DataType::UInt8,
        DataType::Float32,
        DataType::Binary,
        DataType::FixedSizeBinary(4),
        DataType::Date32,
        DataType::Decimal128(10, 2),
        DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("+00:00".into())),
        DataType::Duration(arrow::datatypes::TimeUnit::Second),
        nested.clone(),
        DataType::List(Arc::new(Field::new("item", nested, true))),
    ];
    let fields: Vec<Field> = types
        .iter()
        .enumerate()
        .map(|(index, data_type)| Field::new(index.to_string(), data_type.clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = types.iter().map(|data_type| new_null_array(data_type, 2)).collect();
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns).expect("of its schema");
    for options in [ConsoleSink::table(), ConsoleSink::json()] {
        options.check(&schema).expect("all can be printed");
        let sink = options.open(&schema).expect("all can be printed");
        prepare(&*sink, 0, std::slice::from_ref(&rows));
    }
}

#[test]
fn numbers_stand_at_the_right_and_nulls_are_shown() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), None]));
    let rows = RecordBatch::try_from_iter([("value", values)]).expect("one column");
    let output = Arc::new(Mutex::new(Vec::new()));
    let writer: Arc<Mutex<dyn Write + Send>> = Arc::clone(&output) as _;
    let sink = ConsoleSink { output: ConsoleOutput::Writer(writer), ..ConsoleSink::table() };
    let sink = sink.open(&rows.schema()).expect("a number");
    sink.publish(&BATCH, vec![prepare(&*sink, 0, &[rows])]).expect("a vector");
    assert!(text(&output).ends_with("value\n─────\n  1.5\n null\n\n"), "{}", text(&output));
}

#[track_caller]
fn check_n_of(n_rows: u64, expected: &str) {
    assert_eq!(n_of(n_rows), expected);
}

#[test]
fn numbers_of_rows_are_grouped() {
    check_n_of(1, "1 row");
    check_n_of(999, "999 rows");
    check_n_of(1_000, "1,000 rows");
    check_n_of(1_234_567, "1,234,567 rows");
}

#[test]
fn options_are_read() {
    let read = |text: &str| {
        let sink = read_options(text, Path::new("."), ConsoleSink::parse);
        sink.map(|sink| sink.map(|sink| (sink.format, sink.rows, sink.truncate)))
    };
    assert_eq!(read(""), Ok(Some((ConsoleFormat::Table, Some(20), 40))));
    assert_eq!(read("rows = 5\ntruncate = 10"), Ok(Some((ConsoleFormat::Table, Some(5), 10))));
    assert_eq!(read("format = 'json'"), Ok(Some((ConsoleFormat::Json, None, 40))));
    assert_eq!(read("format = 'jsno'").expect_err("no such format").len(), 1);
}
