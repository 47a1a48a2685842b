//! The laws of the layout: lifting what was lowered gives it back, and nothing that a guest returns breaks the host.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use proptest::prelude::*;

use super::*;

/// A small generator with a fixed definition (SplitMix64): proptest gives the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn any_type(random: &mut Random, depth: usize) -> DataType {
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let unit = units[random.below(4)];
    match random.below(if depth < 3 { 24 } else { 19 }) {
        0 => DataType::Null,
        1 => DataType::Boolean,
        2 => DataType::Int8,
        3 => DataType::Int16,
        4 => DataType::Int32,
        5 => DataType::Int64,
        6 => DataType::UInt8,
        7 => DataType::UInt16,
        8 => DataType::UInt32,
        9 => DataType::UInt64,
        10 => DataType::Float32,
        11 => DataType::Float64,
        12 => DataType::Binary,
        13 => DataType::FixedSizeBinary(1 + random.below(5) as i32),
        14 => DataType::Date32,
        15 => DataType::Timestamp(unit, Some(if random.below(2) == 0 { "+02:00" } else { "+00:00" }.into())),
        16 => DataType::Duration(unit),
        17 => DataType::Decimal128(20, [-2, 0, 5][random.below(3)]),
        18 | 19 => DataType::Utf8,
        20 | 21 => DataType::List(Arc::new(any_field(random, "item", depth + 1))),
        22 => DataType::Struct(
            (0..random.below(4)).map(|i| Arc::new(any_field(random, &format!("f{i}"), depth + 1))).collect(),
        ),
        _ => {
            let key = Field::new("key", DataType::Utf8, false);
            let pair = DataType::Struct(vec![key, any_field(random, "value", depth + 1)].into());
            DataType::Map(Arc::new(Field::new("entries", pair, false)), false)
        }
    }
}

fn any_field(random: &mut Random, name: &str, depth: usize) -> Field {
    let data_type = any_type(random, depth);
    let nullable = data_type == DataType::Null || random.below(2) == 0;
    Field::new(name, data_type, nullable)
}

fn any_array(random: &mut Random, field: &Field, length: usize) -> ArrayRef {
    let nulls =
        (field.is_nullable() && random.below(4) > 0).then(|| (0..length).map(|_| random.below(3) > 0).collect());
    let nulls: Option<NullBuffer> = nulls.map(|bits: BooleanBuffer| NullBuffer::new(bits));
    macro_rules! fixed {
        ($type:ty) => {{
            let values = (0..length).map(|_| random.next() as <$type as ArrowPrimitiveType>::Native).collect();
            let array = PrimitiveArray::<$type>::new(values, nulls);
            Arc::new(array.with_data_type(field.data_type().clone()))
        }};
    }
    let offsets = |random: &mut Random, most: usize| {
        OffsetBuffer::<i32>::from_lengths((0..length).map(|_| random.below(most + 1)).collect::<Vec<_>>())
    };
    match field.data_type() {
        DataType::Null => Arc::new(NullArray::new(length)),
        DataType::Boolean => {
            Arc::new(BooleanArray::new((0..length).map(|_| random.below(2) == 0).collect::<BooleanBuffer>(), nulls))
        }
        DataType::Int8 => fixed!(Int8Type),
        DataType::Int16 => fixed!(Int16Type),
        DataType::Int32 => fixed!(Int32Type),
        DataType::Int64 => fixed!(Int64Type),
        DataType::UInt8 => fixed!(UInt8Type),
        DataType::UInt16 => fixed!(UInt16Type),
        DataType::UInt32 => fixed!(UInt32Type),
        DataType::UInt64 => fixed!(UInt64Type),
        DataType::Float32 => fixed!(Float32Type),
        DataType::Float64 => fixed!(Float64Type),
        DataType::Date32 => fixed!(Date32Type),
        DataType::Timestamp(TimeUnit::Second, _) => fixed!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => fixed!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => fixed!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => fixed!(TimestampNanosecondType),
        DataType::Duration(TimeUnit::Second) => fixed!(DurationSecondType),
        DataType::Duration(TimeUnit::Millisecond) => fixed!(DurationMillisecondType),
        DataType::Duration(TimeUnit::Microsecond) => fixed!(DurationMicrosecondType),
        DataType::Duration(TimeUnit::Nanosecond) => fixed!(DurationNanosecondType),
        DataType::Decimal128(..) => fixed!(Decimal128Type),
        DataType::Binary => {
            let offsets = offsets(random, 5);
            let n_bytes = *offsets.last().unwrap() as usize;
            let data: Vec<u8> = (0..n_bytes).map(|_| random.next() as u8).collect();
            Arc::new(BinaryArray::new(offsets, data.into(), nulls))
        }
        DataType::Utf8 => {
            let values: Vec<String> = (0..length)
                .map(|_| (0..random.below(4)).map(|_| ['a', 'é', '水', '🌊'][random.below(4)]).collect())
                .collect();
            let array = StringArray::from_iter_values(values);
            let (offsets, data, _) = array.into_parts();
            Arc::new(StringArray::new(offsets, data, nulls))
        }
        DataType::FixedSizeBinary(width) => {
            let data: Vec<u8> = (0..length * *width as usize).map(|_| random.next() as u8).collect();
            Arc::new(FixedSizeBinaryArray::try_new_with_len(*width, data.into(), nulls, length).unwrap())
        }
        DataType::List(item) => {
            let offsets = offsets(random, 3);
            let values = any_array(random, item, *offsets.last().unwrap() as usize);
            Arc::new(ListArray::new(item.clone(), offsets, values, nulls))
        }
        DataType::Map(entries, sorted) => {
            let offsets = offsets(random, 3);
            let pairs = any_array(random, entries, *offsets.last().unwrap() as usize);
            Arc::new(MapArray::new(entries.clone(), offsets, pairs.as_struct().clone(), nulls, *sorted))
        }
        DataType::Struct(fields) => {
            let children = fields.iter().map(|field| any_array(random, field, length)).collect();
            Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, length).unwrap())
        }
        other => unreachable!("no generator for {other}"),
    }
}

/// A batch of any schema of the contract, a slice of a larger one as often as not.
pub(crate) fn any_batch(seed: u64, rows: usize) -> RecordBatch {
    let mut random = Random(seed);
    let fields: Vec<_> = (0..random.below(5)).map(|i| any_field(&mut random, &format!("c{i}"), 1)).collect();
    let (before, after) = if random.below(2) == 0 { (0, 0) } else { (random.below(20), random.below(20)) };
    let length = before + rows + after;
    let columns = fields.iter().map(|field| any_array(&mut random, field, length)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(length));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap();
    batch.slice(before, rows)
}

fn owned(lowered: &Lowered<'_>) -> Vec<Vec<u8>> {
    lowered.buffers.iter().map(|buffer| buffer.to_vec()).collect()
}

/// Breaks one thing of what a guest returns.
fn break_one(random: &mut Random, rows: &mut u32, nodes: &mut Vec<Node>, buffers: &mut Vec<Vec<u8>>) {
    let number = [0, 1, 7, 8, u32::MAX, u32::MAX - 1, 1 << 31, random.next() as u32][random.below(8)];
    match random.below(9) {
        0 => *rows = number,
        1 if !nodes.is_empty() => {
            let i = random.below(nodes.len());
            nodes[i].length = number;
        }
        2 if !nodes.is_empty() => {
            let i = random.below(nodes.len());
            nodes[i].null_count = number;
        }
        3 => drop(nodes.pop()),
        4 => buffers.push(Vec::new()),
        5 if !buffers.is_empty() => drop(buffers.remove(random.below(buffers.len()))),
        6 if !buffers.is_empty() => {
            let i = random.below(buffers.len());
            let length = random.below(40);
            buffers[i].resize(length, 0xFF);
        }
        _ => {
            let i = (0..buffers.len()).filter(|&i| !buffers[i].is_empty()).max_by_key(|_| random.next());
            if let Some(i) = i {
                let at = random.below(buffers[i].len());
                buffers[i][at] = random.next() as u8;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn lifting_what_was_lowered_gives_it_back(seed: u64, rows in 0_usize..70) {
        let batch = any_batch(seed, rows);
        let lowered = lower(&batch).unwrap();
        let lifted = lift(batch.schema_ref(), lowered.rows, &lowered.nodes, owned(&lowered)).unwrap();
        prop_assert_eq!(&lifted, &batch);
        for column in lifted.columns() {
            column.to_data().validate_full().unwrap();
        }
    }

    #[test]
    fn unflattening_what_was_flattened_gives_it_back(seed: u64) {
        let schema = any_batch(seed, 0).schema();
        prop_assert_eq!(&unflatten(&flatten(&schema).unwrap()).unwrap(), schema.as_ref());
        prop_assert_eq!(&contract_schema(&schema), &schema);
    }

    #[test]
    fn what_is_broken_is_an_error_or_a_valid_batch(seed: u64, rows in 0_usize..40, n_breaks in 1_usize..4) {
        let batch = any_batch(seed, rows);
        let lowered = lower(&batch).unwrap();
        let (mut rows, mut nodes, mut buffers) = (lowered.rows, lowered.nodes.clone(), owned(&lowered));
        let mut random = Random(!seed);
        for _ in 0..n_breaks {
            break_one(&mut random, &mut rows, &mut nodes, &mut buffers);
        }
        if let Ok(lifted) = lift(batch.schema_ref(), rows, &nodes, buffers) {
            prop_assert_eq!(lifted.num_rows(), rows as usize);
            for column in lifted.columns() {
                column.to_data().validate_full().unwrap();
            }
        }
    }

    #[test]
    fn a_broken_schema_is_an_error_or_a_schema(seed: u64) {
        let mut random = Random(!seed);
        let mut flat = flatten(&any_batch(seed, 0).schema()).unwrap();
        for _ in 0..3 {
            if flat.is_empty() {
                break;
            }
            let i = random.below(flat.len());
            match random.below(5) {
                0 => flat[i].children = [0, 1, 2, u32::MAX][random.below(4)],
                1 => flat[i].nullable = !flat[i].nullable,
                2 => flat[i].data_type = [FlatType::Map, FlatType::FixedSizeBinary(0), FlatType::Decimal128(77, 3)][random.below(3)].clone(),
                3 => flat[i].name = "f0".into(),
                _ => drop(flat.remove(i)),
            }
        }
        if let Ok(schema) = unflatten(&flat) {
            // What is accepted can be used: arrow makes arrays of it.
            RecordBatch::new_empty(Arc::new(schema));
        }
    }
}

/// Lifts one column `c`, not null, of `data_type`.
#[track_caller]
fn check(data_type: DataType, nodes: &[(u32, u32)], buffers: &[&[u8]], expected: Result<(), &str>) {
    let schema = Arc::new(Schema::new(vec![Field::new("c", data_type, false)]));
    let nodes: Vec<_> = nodes.iter().map(|&(length, null_count)| Node { length, null_count }).collect();
    let buffers = buffers.iter().map(|buffer| buffer.to_vec()).collect();
    let found = lift(&schema, 2, &nodes, buffers).map(|_| ());
    assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|text| *text).map(|()| &()));
}

fn le(offsets: &[i32]) -> Vec<u8> {
    offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect()
}

#[test]
fn every_rule_has_its_message() {
    use DataType::*;
    let one = &[(2, 0)][..];
    check(Utf8, one, &[&[], &le(&[0, 1, 3]), "aé".as_bytes()], Ok(()));
    check(Utf8, &[], &[&[], &[], &[]], Err("it has 0 nodes, its schema has 1 fields"));
    check(Utf8, one, &[&[], &[]], Err("it has 2 buffers, its schema needs 3"));
    check(Utf8, &[(3, 0)], &[&[], &[], &[]], Err("column `c`: it has 3 values, not 2"));
    check(Utf8, one, &[&[], &[], b""], Err("column `c`: its offsets buffer has 0 bytes, 2 values need 12"));
    check(Utf8, one, &[&[], &le(&[1, 1, 1]), b"a"], Err("column `c`: its first offset is 1, not 0"));
    let falls = Err("column `c`: offset 2 is 1, less than the one before it, 3");
    check(Utf8, one, &[&[], &le(&[0, 3, 1]), b"a"], falls);
    check(Utf8, one, &[&[], &le(&[0, 0, 9]), b"a"], Err("column `c`: its last offset is 9, and its data has 1 bytes"));
    check(Utf8, one, &[&[], &le(&[0, 1, 2]), b"a\xFF"], Err("column `c`: value 1 is not UTF-8"));
    let inside = Err("column `c`: offset 1 is 1, in the middle of a character");
    check(Utf8, one, &[&[], &le(&[0, 1, 2]), "é".as_bytes()], inside);
    check(Binary, one, &[&[], &le(&[0, 1, 2]), b"a\xFF"], Ok(()));
    check(Int64, one, &[&[], &[0; 15]], Err("column `c`: its values buffer has 15 bytes, 2 values need 16"));
    check(Int64, one, &[&[3, 0], &[0; 16]], Err("column `c`: its validity buffer has 2 bytes, 2 values need 1"));
    let miscounted = Err("column `c`: its null count is 0, and 1 of its validity bits are not set");
    check(Int64, one, &[&[1], &[0; 16]], miscounted);
    let empty = Err("column `c`: its null count is 1, and its validity buffer is empty");
    check(Int64, &[(2, 1)], &[&[], &[0; 16]], empty);
    check(Int64, &[(2, 1)], &[&[1], &[0; 16]], Err("column `c`: value 1 is null, and it is not nullable"));
    check(Int64, one, &[&[0xFF], &[0; 16]], Ok(()));
    check(Boolean, one, &[&[], &[0, 0]], Err("column `c`: its values buffer has 2 bytes, 2 values need 1"));
    let wide = [99_i128, 100].map(i128::to_le_bytes).concat();
    check(Decimal128(2, 0), one, &[&[], &wide], Err("column `c`: value 1 has more than 2 digits"));
    let item = Arc::new(Field::new("item", Int8, false));
    let list = List(item);
    check(list.clone(), &[(2, 0), (3, 0)], &[&[], &le(&[0, 1, 3]), &[], &[1, 2, 3]], Ok(()));
    let too_few = Err("column `c.item`: it has 2 values, and the last offset into it is 3");
    check(list.clone(), &[(2, 0), (2, 0)], &[&[], &le(&[0, 1, 3]), &[], &[1, 2]], too_few);
    let null = Err("column `c.item`: value 0 is null, and it is not nullable");
    check(list, &[(2, 0), (1, 1)], &[&[], &le(&[0, 1, 1]), &[0], &[1]], null);
}

#[test]
fn rows_without_columns_are_counted() {
    let batch = lift(&Arc::new(Schema::empty()), 7, &[], vec![]).unwrap();
    assert_eq!(batch.num_rows(), 7);
    assert_eq!(lower(&batch).unwrap(), Lowered { rows: 7, nodes: vec![], buffers: vec![] });
}

#[test]
fn no_rows_need_no_bytes() {
    let batch = any_batch(4, 0);
    let lowered = lower(&batch).unwrap();
    let none = vec![Vec::new(); lowered.buffers.len()];
    assert_eq!(lift(batch.schema_ref(), 0, &lowered.nodes, none).unwrap(), batch);
}

#[test]
fn types_that_the_contract_lacks_are_cast() {
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("dictionary", Arc::new(words)),
        ("large", Arc::new(LargeStringArray::from(vec![Some("x"), None, Some("yy"), None]))),
        ("view", Arc::new(StringViewArray::from(vec!["x", "a string that is not inlined", "", "z"]))),
        ("half", Arc::new(Float16Array::from(vec![None; 4]))),
        ("small", Arc::new(Decimal64Array::from(vec![1, 2, 3, 4]).with_precision_and_scale(5, 2).unwrap())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let batch = batch.slice(1, 3);
    let schema = contract_schema(batch.schema_ref());
    let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    use DataType::*;
    assert_eq!(types, [Utf8, Utf8, Utf8, Float32, Decimal128(5, 2)]);
    assert_eq!(unflatten(&flatten(batch.schema_ref()).unwrap()).unwrap(), *schema);

    let lowered = lower(&batch).unwrap();
    let lifted = lift(&schema, lowered.rows, &lowered.nodes, owned(&lowered)).unwrap();
    assert_eq!(lifted.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("b"), Some("a")]);
    assert_eq!(lifted.column(2).as_string::<i32>().value(0), "a string that is not inlined");
    assert_eq!(lifted.column(4).as_primitive::<Decimal128Type>().values(), &[2, 3, 4]);
}

#[test]
fn a_slice_borrows_what_it_can() {
    let batch = RecordBatch::try_from_iter([
        ("number", Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef),
        ("word", Arc::new(StringArray::from_iter_values((0..100).map(|i| i.to_string())))),
    ]);
    let batch = batch.unwrap().slice(16, 50);
    let lowered = lower(&batch).unwrap();
    let borrowed: Vec<_> = lowered.buffers.iter().map(|buffer| matches!(buffer, Cow::Borrowed(_))).collect();
    // Only the offsets of a slice are written anew.
    assert_eq!(borrowed, [true, true, true, false, true]);
}

#[test]
fn types_that_nothing_stands_for_are_refused() {
    let check = |data_type: DataType, expected: &str| {
        let schema = Schema::new(vec![Field::new("c", data_type, true)]);
        assert_eq!(flatten(&schema).unwrap_err().to_string(), expected);
    };
    let message = |name: &str| format!("column `c` has type {name}, which the contract does not carry");
    check(DataType::Time64(TimeUnit::Nanosecond), &message("time64(ns)"));
    check(DataType::Interval(IntervalUnit::DayTime), &message("interval(daytime)"));
    let item = Arc::new(Field::new("item", DataType::Date64, true));
    check(DataType::List(item), &message("date64"));
    check(DataType::FixedSizeBinary(0), &message("fixedsizebinary(0)"));
}

#[test]
fn a_schema_from_a_guest_is_bounded() {
    let field = |name: &str, data_type, children| FlatField { name: name.into(), data_type, nullable: true, children };
    let check = |flat: &[FlatField], expected: &str| assert_eq!(unflatten(flat).unwrap_err(), expected);
    let wide: Vec<_> = (0..=FIELDS_MAX).map(|i| field(&i.to_string(), FlatType::Int8, 0)).collect();
    check(&wide, "a schema of 4097 fields is more than 4096");
    let deep = vec![field("d", FlatType::List, 1); 4000];
    let path = ["d"; CHILD_DEPTH_MAX + 1].join(".");
    check(&deep, &format!("column `{path}` is nested deeper than 32 levels"));
    check(&[field("a", FlatType::Utf8, 0), field("a", FlatType::Int8, 0)], "column `a` stands there twice");
    check(&[field("a", FlatType::Utf8, 1)], "column `a` says it has 1 children, not 0");
    let missing = "column `a` has fewer children than it says: the schema ends before them";
    check(&[field("a", FlatType::Struct, u32::MAX)], missing);
    let wild = field("a", FlatType::Timestamp(TimeUnit::Second, Some("\u{1b}[2J".into())), 0);
    check(&[wild], "column `a`: `\\u{1b}[2J` is no time zone");
    let scale = field("a", FlatType::Decimal128(5, 6), 0);
    check(&[scale], "column `a`: a scale of 6 is more than the precision of 5");
}

#[test]
fn metadata_stays_with_the_schema() {
    let metadata = HashMap::from([("unit".to_owned(), "m".to_owned())]);
    let field = Field::new("c", DataType::LargeUtf8, true).with_metadata(metadata.clone());
    let schema = contract_schema(&Arc::new(Schema::new(vec![field])));
    assert_eq!(schema.field(0).metadata(), &metadata);
}

#[test]
fn times_without_a_zone_are_in_utc() {
    let data_type = FlatType::Timestamp(TimeUnit::Microsecond, None);
    let flat = FlatField { name: "at".into(), data_type, nullable: true, children: 0 };
    let schema = unflatten(&[flat]).expect("a right schema");
    assert_eq!(*schema.field(0).data_type(), crate::source::schema::timestamp());
}
