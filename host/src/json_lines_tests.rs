//! What is written is read back, whatever it is.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, MapArray, StringArray,
    StructArray, TimestampSecondArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::SchemaRef;
use proptest::prelude::*;

use super::*;
use crate::source::schema::parse_schema;
use crate::source::{FileSource, read_table};

/// Random numbers that a seed fixes: xorshift.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// One in four is null.
    fn nulls(&mut self, n_rows: usize) -> NullBuffer {
        (0..n_rows).map(|_| self.below(4) > 0).collect()
    }
}

/// A column of any type of the manual, with the odd values of each.
pub(crate) fn column(data_type: &DataType, n_rows: usize, dice: &mut Dice) -> ArrayRef {
    let nulls = dice.nulls(n_rows);
    // Whole numbers become what is one within; those that do not fit become null.
    let whole = |dice: &mut Dice, numbers: &[i64]| -> ArrayRef {
        let some = |dice: &mut Dice| if dice.below(3) == 0 { dice.pick(numbers) } else { dice.below(200) as i64 - 100 };
        let numbers: Vec<Option<i64>> = nulls.iter().map(|valid| valid.then(|| some(dice))).collect();
        let numbers: ArrayRef = Arc::new(Int64Array::from(numbers));
        let options = CastOptions { safe: true, ..CastOptions::default() };
        cast_with_options(&numbers, data_type, &options).expect("numbers can be cast")
    };
    match data_type {
        DataType::Boolean => Arc::new(nulls.iter().map(|v| v.then(|| dice.below(2) == 0)).collect::<BooleanArray>()),
        DataType::Float32 => {
            let values = [0.1, -0.0, f32::MAX, f32::MIN_POSITIVE, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e10];
            Arc::new(nulls.iter().map(|v| v.then(|| dice.pick(&values))).collect::<Float32Array>())
        }
        DataType::Float64 => {
            let values = [0.1, -0.0, f64::MAX, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, 123_456.789];
            Arc::new(nulls.iter().map(|v| v.then(|| dice.pick(&values))).collect::<Float64Array>())
        }
        DataType::Utf8 => {
            let values =
                ["", "a", "\"\\\n\r\t\u{0}\u{1f}", "häß€😀", "\u{feff}", "null", "1.5", "{\"a\": 1}", "\u{2028}"];
            Arc::new(nulls.iter().map(|v| v.then(|| dice.pick(&values))).collect::<StringArray>())
        }
        DataType::Binary => {
            let values: [&[u8]; 4] = [b"", b"\0\xff", b"text", b"\n"];
            Arc::new(nulls.iter().map(|v| v.then(|| dice.pick(&values))).collect::<BinaryArray>())
        }
        DataType::Date32 => {
            // The first and last days of the years 0 to 9999, those beyond, and the first and last of all.
            let odd = [-719_528, 2_932_896, -719_529, 2_932_897, i32::MIN, i32::MAX, -1, 0, 20_000];
            let days: Vec<Option<i32>> = nulls.iter().map(|v| v.then(|| dice.pick(&odd))).collect();
            Arc::new(arrow::array::Date32Array::from(days))
        }
        DataType::Timestamp(..) => {
            let ends = [-62_167_219_200_000_000, 253_402_300_799_999_999];
            let beyond = [ends[0] - 1, ends[1] + 1, i64::MIN, i64::MAX];
            whole(dice, &[&ends[..], &beyond, &[-1, 1, 1_500_000, 1_763_796_600_123_456]].concat())
        }
        DataType::Duration(_) => whole(dice, &[i64::MIN, i64::MAX, -1, 1_500_000]),
        DataType::Decimal128(..) => whole(dice, &[99_999_999, -12_345, 7]),
        DataType::List(item) => {
            let lengths: Vec<usize> = (0..n_rows).map(|_| dice.below(4) as usize).collect();
            let items = column(item.data_type(), lengths.iter().sum(), dice);
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(ListArray::new(Arc::clone(item), offsets, items, Some(nulls)))
        }
        DataType::Struct(fields) => {
            let children = fields.iter().map(|field| column(field.data_type(), n_rows, dice)).collect();
            Arc::new(StructArray::new(fields.clone(), children, Some(nulls)))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { panic!("the entries of a map are a struct") };
            let lengths: Vec<usize> = (0..n_rows).map(|_| dice.below(4) as usize).collect();
            let keys: StringArray = lengths.iter().flat_map(|n| (0..*n).map(|key| Some(format!("k\"{key}")))).collect();
            let values = column(fields[1].data_type(), keys.len(), dice);
            let pairs = StructArray::new(fields.clone(), vec![Arc::new(keys), values], None);
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(MapArray::new(Arc::clone(entries), offsets, pairs, Some(nulls), false))
        }
        _ => whole(dice, &[i64::MIN, i64::MAX, 127, -128, 255, 65_535, 4_294_967_295]),
    }
}

pub(crate) const SIMPLE: &[&str] = &[
    "boolean",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "utf8",
    "binary",
    "date32",
    "timestamp",
    "duration",
    "decimal(12, 4)",
    "decimal(38, 0)",
];

pub(crate) fn types() -> impl Strategy<Value = String> {
    prop::sample::select(SIMPLE).prop_map(str::to_owned).prop_recursive(3, 6, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|item| format!("list<{item}>")),
            inner.clone().prop_map(|value| format!("map<utf8, {value}>")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("struct<a: {a}, b-c: {b}>")),
        ]
    })
}

pub(crate) fn schema(types: &[String]) -> SchemaRef {
    let columns: Vec<_> = types.iter().enumerate().map(|(index, text)| (format!("c{index}"), text.clone())).collect();
    parse_schema(&columns).expect("right types")
}

fn round_trip(rows: &RecordBatch) -> RecordBatch {
    let mut lines = Vec::new();
    write_lines(rows, &mut lines).expect("every type can be written");
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("a.jsonl"), &lines).expect("the directory is ours");
    let table = read_table(&FileSource::json(dir.path(), rows.schema())).expect("it is there");
    assert_eq!(table.seen.last_rejection, None, "{}", String::from_utf8_lossy(&lines));
    concat_batches(&rows.schema(), &table.batches).expect("of one schema")
}

#[test]
fn every_simple_type_is_read_back() {
    let types: Vec<String> = SIMPLE.iter().map(|text| (*text).to_owned()).collect();
    let schema = schema(&types);
    let mut dice = Dice(42);
    let columns = schema.fields().iter().map(|field| column(field.data_type(), 200, &mut dice)).collect();
    let rows = RecordBatch::try_new(schema, columns).expect("as the schema says");
    assert!(rows.columns().iter().all(|column| column.null_count() < 150), "most values are there");
    assert_eq!(round_trip(&rows), rows);
}

#[test]
fn what_arrow_would_lose_is_written() {
    let schema = schema(&["map<utf8, int64>".into(), "duration".into(), "float64".into(), "list<float32>".into()]);
    let line = "{\"c0\":{\"a\":null,\"b\":1},\"c1\":1500000,\"c2\":\"-inf\",\"c3\":[\"NaN\",0.5,null]}\n";
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("a.jsonl"), line).expect("the directory is ours");
    let table = read_table(&FileSource::json(dir.path(), schema)).expect("it is there");
    let mut lines = Vec::new();
    write_lines(&table.batches[0], &mut lines).expect("every type can be written");
    assert_eq!(String::from_utf8_lossy(&lines), line);
}

#[test]
fn times_of_years_without_four_digits_are_numbers() {
    let times = vec![None, Some(253_402_300_799), Some(253_402_300_800), Some(-62_167_219_201)];
    let written = |zone: &str| {
        let times = TimestampSecondArray::from(times.clone()).with_timezone(zone);
        let rows = RecordBatch::try_from_iter([("t", Arc::new(times) as ArrayRef)]).expect("a column");
        let mut lines = Vec::new();
        write_lines(&rows, &mut lines).expect("they fit");
        String::from_utf8(lines).expect("text")
    };
    let beyond = "{\"t\":253402300800000000}\n{\"t\":-62167219201000000}\n";
    assert_eq!(written("+00:00"), format!("{{}}\n{{\"t\":\"9999-12-31T23:59:59Z\"}}\n{beyond}"));
    assert_eq!(written("+02:00"), format!("{{}}\n{{\"t\":253402300799000000}}\n{beyond}"));
}

#[test]
fn a_time_beyond_all_microseconds_is_an_error_and_not_a_text() {
    let times = TimestampSecondArray::from(vec![None, Some(0), Some(i64::MAX)]);
    let rows = RecordBatch::try_from_iter([("t", Arc::new(times) as ArrayRef)]).expect("a column");
    let error = write_lines(&rows, &mut Vec::new()).expect_err("it has no number of microseconds");
    let expected = "Invalid argument error: the time 9223372036854775807 (in seconds since 1970) is in no year that can be \
                    written";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_column_of_nulls_is_left_out() {
    let schema = schema(&["int64".into(), "utf8".into()]);
    let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), 2)).collect();
    let mut lines = Vec::new();
    write_lines(&RecordBatch::try_new(Arc::clone(&schema), columns).expect("nulls"), &mut lines).expect("nulls");
    assert_eq!(String::from_utf8_lossy(&lines), "{}\n{}\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn law_what_is_written_is_read_back(types in prop::collection::vec(types(), 1..4), n_rows in 1..12_usize, seed in 1..u64::MAX) {
        let schema = schema(&types);
        let mut dice = Dice(seed);
        let columns = schema.fields().iter().map(|field| column(field.data_type(), n_rows, &mut dice)).collect();
        let rows = RecordBatch::try_new(schema, columns).expect("as the schema says");
        prop_assert_eq!(round_trip(&rows), rows);
    }
}

#[test]
fn durations_are_written_in_microseconds_whatever_their_unit() {
    use arrow::array::{DurationNanosecondArray, DurationSecondArray};
    let columns: [(&str, ArrayRef); 2] = [
        ("ns", Arc::new(DurationNanosecondArray::from(vec![1_500_000_000]))),
        ("s", Arc::new(DurationSecondArray::from(vec![-2]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).expect("columns of one length");
    assert_eq!(json_line(&rows).as_deref(), Some(r#"{"ns":1500000,"s":-2000000}"#));
}
