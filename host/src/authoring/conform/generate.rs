//! Makes schemas and rows up, from a seed.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationMicrosecondArray,
    DurationMillisecondArray, DurationNanosecondArray, DurationSecondArray, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray, MapArray, NullArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Numbers that look random and are those of a seed.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The numbers of a seed.
    pub(super) fn of(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Whether something happens that does once in `n` times.
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How many values of a column are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// None.
    No,
    /// Some.
    Some,
    /// All, where they may be.
    All,
}

/// Types without children.
pub(super) fn simple_types() -> Vec<DataType> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let utc = || Some(Arc::from("+00:00"));
    vec![
        DataType::Null,
        DataType::Boolean,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float32,
        DataType::Float64,
        DataType::Utf8,
        DataType::Binary,
        DataType::FixedSizeBinary(5),
        DataType::Date32,
        DataType::Timestamp(Second, utc()),
        DataType::Timestamp(Millisecond, Some("Europe/Paris".into())),
        DataType::Timestamp(Microsecond, utc()),
        DataType::Timestamp(Nanosecond, Some("-03:30".into())),
        DataType::Duration(Second),
        DataType::Duration(Millisecond),
        DataType::Duration(Microsecond),
        DataType::Duration(Nanosecond),
        DataType::Decimal128(38, 10),
        DataType::Decimal128(5, -2),
    ]
}

/// Types with children.
pub(super) fn nested_types() -> Vec<DataType> {
    let list = |item: DataType, nullable| DataType::List(Arc::new(Field::new("item", item, nullable)));
    let of = |name: &str, data_type: DataType, nullable| Field::new(name, data_type, nullable);
    let structure = |fields: Vec<Field>| DataType::Struct(fields.into());
    let point = || structure(vec![of("x", DataType::Float64, false), of("y", DataType::Float64, true)]);
    let map = |key: DataType, value: DataType, nullable| {
        let pair = structure(vec![of("key", key, false), of("value", value, nullable)]);
        DataType::Map(Arc::new(Field::new("entries", pair, false)), false)
    };
    vec![
        list(DataType::Int32, true),
        list(DataType::Utf8, false),
        list(DataType::Boolean, true),
        list(DataType::Null, true),
        list(list(DataType::Int64, true), true),
        list(point(), true),
        point(),
        structure(vec![
            of("text", DataType::Utf8, true),
            of("inner", point(), true),
            of("bits", DataType::Boolean, true),
        ]),
        structure(vec![of("many", list(point(), false), true), of("bytes", DataType::FixedSizeBinary(3), true)]),
        map(DataType::Utf8, DataType::Int64, true),
        map(DataType::Int32, list(DataType::Utf8, true), true),
        list(map(DataType::Utf8, point(), false), true),
        structure(vec![of("map", map(DataType::Utf8, DataType::Decimal128(9, 2), true), true)]),
    ]
}

/// A schema of these types, columns `c0`, `c1` and so on.
pub(super) fn schema_of(types: &[DataType], nullable: bool) -> SchemaRef {
    let field = |(index, data_type): (usize, &DataType)| {
        // What is null always may be null.
        Field::new(format!("c{index}"), data_type.clone(), nullable || *data_type == DataType::Null)
    };
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// Rows of a schema.
pub(super) fn rows_of(schema: &SchemaRef, n_rows: usize, nulls: Nulls, dice: &mut Dice) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| column(field, n_rows, nulls, dice)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    // Every column is made of its field, and has so many rows.
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .unwrap_or_else(|error| unreachable!("the columns are those of the schema: {error}"))
}

/// Which of `n` values are there; `None` when all are.
fn validity(field: &Field, n: usize, nulls: Nulls, dice: &mut Dice) -> Option<NullBuffer> {
    if !field.is_nullable() || nulls == Nulls::No {
        return None;
    }
    Some(NullBuffer::from_iter((0..n).map(|_| nulls == Nulls::Some && !dice.once_in(3))))
}

/// Ends of lists over their items, for `n` lists: some are empty.
fn offsets(n: usize, dice: &mut Dice) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths((0..n).map(|_| if dice.once_in(3) { 0 } else { dice.below(4) }))
}

fn text(dice: &mut Dice) -> String {
    const TEXTS: [&str; 8] =
        ["", "a", "ten bytes.", "naïve", "日本語", "🦀🌊", "\u{0}\n\t\"'", "a text that is longer than sixteen bytes"];
    TEXTS[dice.below(TEXTS.len())].repeat(1 + dice.below(2))
}

fn bytes(dice: &mut Dice) -> Vec<u8> {
    (0..dice.below(9)).map(|_| dice.bits() as u8).collect()
}

/// A whole number: often the least or the largest.
fn number(dice: &mut Dice, least: i128, largest: i128) -> i128 {
    match dice.below(6) {
        0 => least,
        1 => largest,
        2 => 0i128.clamp(least, largest),
        _ => {
            // Modulo 2 to the power of 128 both are right, however far the ends are apart.
            let span = largest.wrapping_sub(least) as u128;
            let bits = (u128::from(dice.bits()) << 64 | u128::from(dice.bits())) % span.saturating_add(1);
            least.wrapping_add(bits as i128)
        }
    }
}

fn float(dice: &mut Dice) -> f64 {
    match dice.below(9) {
        0 => 0.0,
        1 => -0.0,
        2 => f64::INFINITY,
        3 => f64::NEG_INFINITY,
        4 => f64::NAN,
        5 => f64::MIN_POSITIVE,
        6 => f64::MAX,
        _ => (dice.bits() as i64) as f64 / 1024.0,
    }
}

/// A column of a field.
pub(super) fn column(field: &FieldRef, n: usize, nulls: Nulls, dice: &mut Dice) -> ArrayRef {
    let data_type = field.data_type();
    if n == 0 {
        return new_empty_array(data_type);
    }
    let valid = validity(field, n, nulls, dice);
    macro_rules! whole {
        ($array:ident, $native:ty) => {{
            let (least, largest) = (i128::from(<$native>::MIN), i128::from(<$native>::MAX));
            let values: Vec<$native> = (0..n).map(|_| number(dice, least, largest) as $native).collect();
            $array::new(values.into(), valid)
        }};
    }
    macro_rules! timestamp {
        ($array:ident, $zone:expr) => {
            Arc::new(whole!($array, i64).with_timezone_opt($zone.clone())) as ArrayRef
        };
    }
    let child_nulls = if nulls == Nulls::No { Nulls::No } else { Nulls::Some };
    match data_type {
        DataType::Null => Arc::new(NullArray::new(n)),
        DataType::Boolean => Arc::new(BooleanArray::new((0..n).map(|_| dice.once_in(2)).collect(), valid)),
        DataType::Int8 => Arc::new(whole!(Int8Array, i8)),
        DataType::Int16 => Arc::new(whole!(Int16Array, i16)),
        DataType::Int32 => Arc::new(whole!(Int32Array, i32)),
        DataType::Int64 => Arc::new(whole!(Int64Array, i64)),
        DataType::UInt8 => Arc::new(whole!(UInt8Array, u8)),
        DataType::UInt16 => Arc::new(whole!(UInt16Array, u16)),
        DataType::UInt32 => Arc::new(whole!(UInt32Array, u32)),
        DataType::UInt64 => Arc::new(whole!(UInt64Array, u64)),
        DataType::Float32 => {
            Arc::new(Float32Array::new((0..n).map(|_| float(dice) as f32).collect::<Vec<_>>().into(), valid))
        }
        DataType::Float64 => Arc::new(Float64Array::new((0..n).map(|_| float(dice)).collect::<Vec<_>>().into(), valid)),
        DataType::Utf8 => {
            let there = |index: usize| valid.as_ref().is_none_or(|valid| valid.is_valid(index));
            Arc::new((0..n).map(|index| there(index).then(|| text(dice))).collect::<StringArray>())
        }
        DataType::Binary => {
            let there = |index: usize| valid.as_ref().is_none_or(|valid| valid.is_valid(index));
            Arc::new((0..n).map(|index| there(index).then(|| bytes(dice))).collect::<BinaryArray>())
        }
        DataType::FixedSizeBinary(width) => {
            let data: Vec<u8> = (0..n * *width as usize).map(|_| dice.bits() as u8).collect();
            Arc::new(FixedSizeBinaryArray::new(*width, data.into(), valid))
        }
        DataType::Date32 => Arc::new(whole!(Date32Array, i32)),
        DataType::Timestamp(TimeUnit::Second, zone) => timestamp!(TimestampSecondArray, zone),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => timestamp!(TimestampMillisecondArray, zone),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => timestamp!(TimestampMicrosecondArray, zone),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => timestamp!(TimestampNanosecondArray, zone),
        DataType::Duration(TimeUnit::Second) => Arc::new(whole!(DurationSecondArray, i64)),
        DataType::Duration(TimeUnit::Millisecond) => Arc::new(whole!(DurationMillisecondArray, i64)),
        DataType::Duration(TimeUnit::Microsecond) => Arc::new(whole!(DurationMicrosecondArray, i64)),
        DataType::Duration(TimeUnit::Nanosecond) => Arc::new(whole!(DurationNanosecondArray, i64)),
        DataType::Decimal128(precision, scale) => {
            let most = 10_i128.pow(u32::from(*precision)) - 1;
            let values: Vec<i128> = (0..n).map(|_| number(dice, -most, most)).collect();
            let array = Decimal128Array::new(values.into(), valid);
            // The precision and scale are those of a type that is right.
            Arc::new(array.with_precision_and_scale(*precision, *scale).unwrap_or_else(|error| unreachable!("{error}")))
        }
        DataType::List(item) => {
            let offsets = offsets(n, dice);
            let items = column(item, offsets.last().map_or(0, |last| *last as usize), child_nulls, dice);
            Arc::new(ListArray::new(Arc::clone(item), offsets, items, valid))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| column(field, n, child_nulls, dice)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, valid))
        }
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { unreachable!("a map is of pairs") };
            let offsets = offsets(n, dice);
            let n_entries = offsets.last().map_or(0, |last| *last as usize);
            let columns = pair.iter().map(|field| column(field, n_entries, child_nulls, dice)).collect();
            let pairs = StructArray::new(pair.clone(), columns, None);
            Arc::new(MapArray::new(Arc::clone(entries), offsets, pairs, valid, *sorted))
        }
        other => unreachable!("the contract has no {other}"),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;
    use crate::operator::layout::{contract_schema, flatten, unflatten};

    #[test]
    fn every_type_is_made_up_and_crosses_as_it_is() {
        let mut dice = Dice::of(7);
        let types = [simple_types(), nested_types()].concat();
        for nullable in [false, true] {
            let schema = schema_of(&types, nullable);
            assert_eq!(contract_schema(&schema), schema);
            let back = unflatten(&flatten(&schema).expect("the contract carries all")).expect("it is one");
            assert_eq!(back.fields(), schema.fields());
            for nulls in [Nulls::No, Nulls::Some, Nulls::All] {
                for n_rows in [0, 1, 9, 100] {
                    let rows = rows_of(&schema, n_rows, nulls, &mut dice);
                    assert_eq!(rows.num_rows(), n_rows);
                    let n_null = rows.column(1).null_count();
                    assert_eq!(n_null == n_rows, n_rows == 0 || nullable && (nulls == Nulls::All || n_null == n_rows));
                }
            }
        }
        assert_eq!(rows_of(&schema_of(&[], true), 5, Nulls::No, &mut dice).num_rows(), 5);
    }

    #[test]
    fn a_seed_always_makes_the_same() {
        let schema = schema_of(&nested_types(), true);
        let rows = |seed| rows_of(&schema, 20, Nulls::Some, &mut Dice::of(seed));
        assert_eq!(rows(1), rows(1));
        assert_ne!(rows(1), rows(2));
    }
}
