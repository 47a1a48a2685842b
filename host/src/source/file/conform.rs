//! Columns of files that have a schema of their own, as the source's schema says them.
//!
//! A column may be read as a wider type than the file has, never as one that some value of it does not fit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, make_array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::job::nearest::list;
use crate::plan::describe_type;
use crate::source::schema;

/// The schema of a file in the types that job files know; every column may be null.
///
/// # Errors
///
/// The first column that has no such type.
pub(super) fn canonical(schema: &Schema) -> Result<SchemaRef, String> {
    let field = |field: &FieldRef| match canonical_type(field.data_type()) {
        Some(data_type) => Ok(Field::new(field.name(), data_type, true)),
        None => Err(format!(
            "column `{}` has the type {}, which is not read",
            field.name(),
            describe_type(field.data_type())
        )),
    };
    let fields = schema.fields().iter().map(field).collect::<Result<Vec<_>, _>>()?;
    if fields.is_empty() { Err("it has no columns".into()) } else { Ok(Arc::new(Schema::new(fields))) }
}

fn canonical_type(data_type: &DataType) -> Option<DataType> {
    use DataType::*;
    let item = |field: &FieldRef| Some(Arc::new(Field::new("item", canonical_type(field.data_type())?, true)));
    Some(match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64 | Date32 => {
            data_type.clone()
        }
        Float16 => Float32,
        Utf8 | LargeUtf8 | Utf8View | Null => Utf8,
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Timestamp(..) | Date64 => schema::timestamp(),
        Duration(_) => Duration(TimeUnit::Microsecond),
        Decimal32(precision, scale) | Decimal64(precision, scale) | Decimal128(precision, scale) if *scale >= 0 => {
            Decimal128(*precision, *scale)
        }
        Dictionary(_, value) => canonical_type(value)?,
        List(field) | LargeList(field) | FixedSizeList(field, _) => List(item(field)?),
        Struct(fields) if !fields.is_empty() => {
            let field = |field: &FieldRef| Some(Field::new(field.name(), canonical_type(field.data_type())?, true));
            Struct(fields.iter().map(field).collect::<Option<Fields>>()?)
        }
        Map(entries, _) => {
            let Struct(fields) = entries.data_type() else { return None };
            let [key, value] = &fields[..] else { return None };
            let value = canonical_type(value.data_type())?;
            (canonical_type(key.data_type())? == Utf8).then(|| schema::map_of(value))?
        }
        _ => return None,
    })
}

/// Where the declared columns stand in a file.
///
/// # Errors
///
/// The first that is missing, or cannot be read as it is declared.
pub(super) fn find_columns(file: &Schema, declared: &Schema) -> Result<Vec<usize>, String> {
    let find = |field: &FieldRef| {
        let Ok(index) = file.index_of(field.name()) else {
            let names: Vec<&str> = file.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(format!("it has no column `{}`; it has {}", field.name(), list(&names)));
        };
        let found = file.field(index).data_type();
        if fits(found, field.data_type()) {
            return Ok(index);
        }
        let (declared, found) = (describe_type(field.data_type()), describe_type(found));
        Err(format!("column `{}` is {found}, and cannot be read as {declared}", field.name()))
    };
    declared.fields().iter().map(find).collect()
}

/// Whether every value of one type is a value of another.
fn fits(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (Dictionary(_, value), to) => fits(value, to),
        (Null, _) => true,
        (from, to) if from == to => true,
        (from, to) if from.is_integer() && to.is_integer() => {
            let (from_width, to_width) = (from.primitive_width(), to.primitive_width());
            match (from.is_signed_integer(), to.is_signed_integer()) {
                (true, false) => false,
                (false, true) => from_width < to_width,
                _ => from_width <= to_width,
            }
        }
        // Every whole number of 32 bits is a float of 64, and every one of 16 bits a float of 32.
        (from, Float64) if from.is_integer() => from.primitive_width().is_some_and(|width| width <= 4),
        (from, Float32) if from.is_integer() => from.primitive_width().is_some_and(|width| width <= 2),
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_) | Utf8, Binary) => true,
        (Timestamp(..) | Date64 | Date32, Timestamp(..)) | (Duration(_), Duration(_)) => true,
        (Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s), Decimal128(to_p, to_s)) => {
            s <= to_s && i16::from(*p) - i16::from(*s) <= i16::from(*to_p) - i16::from(*to_s)
        }
        (List(from) | LargeList(from) | FixedSizeList(from, _), List(to)) => fits(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => to.iter().all(|field| match from.find(field.name()) {
            Some((_, from)) => fits(from.data_type(), field.data_type()),
            None => false,
        }),
        (Map(from, _), Map(to, _)) => match (from.data_type(), to.data_type()) {
            (Struct(from), Struct(to)) if from.len() == 2 && to.len() == 2 => {
                fits(from[0].data_type(), to[0].data_type()) && fits(from[1].data_type(), to[1].data_type())
            }
            _ => false,
        },
        _ => false,
    }
}

/// A column as another type that it [fits](fits).
///
/// # Errors
///
/// When a value does not fit after all: an instant in seconds that is too far away for microseconds.
pub(super) fn conform(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let cast = |column: &ArrayRef, to: &DataType| {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(column, to, &options)
    };
    match (column.data_type(), to) {
        (DataType::Null, _) => Ok(new_null_array(to, column.len())),
        (DataType::Dictionary(_, value), _) => {
            let value = value.as_ref().clone();
            conform(&cast(column, &value)?, to)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let found = column.as_struct();
            let child = |field: &FieldRef| {
                let missing = || ArrowError::SchemaError(format!("field `{}` is missing", field.name()));
                conform(found.column_by_name(field.name()).ok_or_else(missing)?, field.data_type())
            };
            let children = fields.iter().map(child).collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(StructArray::try_new(fields.clone(), children, found.nulls().cloned())?))
        }
        (DataType::LargeList(item) | DataType::FixedSizeList(item, _), DataType::List(_)) => {
            conform(&cast(column, &DataType::List(Arc::clone(item)))?, to)
        }
        (DataType::List(_), DataType::List(item)) => {
            let found = column.as_list::<i32>();
            let items = conform(found.values(), item.data_type())?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), found.offsets().clone(), items, found.nulls().cloned())?))
        }
        (DataType::Map(..), DataType::Map(entries, is_sorted)) => {
            let found = column.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(ArrowError::SchemaError("the entries of a map are no struct".into()));
            };
            let children =
                vec![conform(found.keys(), fields[0].data_type())?, conform(found.values(), fields[1].data_type())?];
            let pairs = StructArray::try_new(fields.clone(), children, None)?;
            let (offsets, nulls) = (found.offsets().clone(), found.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *is_sorted)?))
        }
        // The same instant whatever the zone says; without a zone it is UTC.
        (DataType::Timestamp(..), DataType::Timestamp(unit, zone)) => {
            let instants = cast(column, &DataType::Timestamp(*unit, column_zone(column)))?;
            let data = instants.to_data().into_builder().data_type(DataType::Timestamp(*unit, zone.clone())).build()?;
            Ok(make_array(data))
        }
        (DataType::Date32 | DataType::Date64, DataType::Timestamp(unit, _)) => {
            conform(&cast(column, &DataType::Timestamp(*unit, None))?, to)
        }
        _ => cast(column, to),
    }
}

fn column_zone(column: &ArrayRef) -> Option<Arc<str>> {
    match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, LargeStringArray, TimestampNanosecondArray, TimestampSecondArray};
    use arrow::datatypes::Int8Type;
    use arrow::util::display::array_value_to_string;

    use super::*;
    use crate::source::schema::parse_type;

    #[track_caller]
    fn check_fits(from: DataType, to: &str, expected: bool) {
        assert_eq!(fits(&from, &parse_type(to).expect("a type")), expected, "{from} as {to}");
    }

    #[test]
    fn columns_fit_wider_types_only() {
        use DataType::*;
        check_fits(Int32, "int64", true);
        check_fits(Int64, "int32", false);
        check_fits(UInt32, "int64", true);
        check_fits(UInt32, "int32", false);
        check_fits(Int8, "uint64", false);
        check_fits(Int32, "float64", true);
        check_fits(Int64, "float64", false);
        check_fits(Float64, "float32", false);
        check_fits(LargeUtf8, "utf8", true);
        check_fits(Int64, "utf8", false);
        check_fits(Utf8, "int64", false);
        check_fits(Null, "int64", true);
        check_fits(Timestamp(TimeUnit::Nanosecond, None), "timestamp", true);
        check_fits(Date32, "timestamp", true);
        check_fits(Decimal128(5, 2), "decimal(6, 2)", true);
        check_fits(Decimal128(5, 2), "decimal(6, 4)", false);
        check_fits(parse_type("struct<a: int8, b: utf8>").expect("a type"), "struct<a: int64>", true);
        check_fits(parse_type("struct<a: int8>").expect("a type"), "struct<a: int8, b: utf8>", false);
        check_fits(parse_type("list<int8>").expect("a type"), "list<utf8>", false);
        check_fits(parse_type("map<utf8, int8>").expect("a type"), "map<utf8, int16>", true);
    }

    #[track_caller]
    fn check(column: ArrayRef, to: &str, expected: &[Option<&str>]) {
        let to = parse_type(to).expect("a type");
        assert!(fits(column.data_type(), &to));
        let column = conform(&column, &to).expect("it fits");
        assert_eq!(column.data_type(), &to);
        column.to_data().validate_full().expect("valid Arrow");
        let shown: Vec<_> = (0..column.len())
            .map(|row| column.is_valid(row).then(|| array_value_to_string(&column, row).expect("it can be shown")))
            .collect();
        assert_eq!(shown.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn columns_become_what_is_declared() {
        check(Arc::new(Int32Array::from(vec![Some(1), None])), "int64", &[Some("1"), None]);
        check(Arc::new(LargeStringArray::from(vec!["a"])), "utf8", &[Some("a")]);
        let dictionary: DictionaryArray<Int8Type> = ["a", "b", "a"].into_iter().collect();
        check(Arc::new(dictionary), "utf8", &[Some("a"), Some("b"), Some("a")]);
        let nanos = TimestampNanosecondArray::from(vec![1_500_000_999]).with_timezone("+02:00");
        check(Arc::new(nanos), "timestamp", &[Some("1970-01-01T00:00:01.500Z")]);
        check(Arc::new(TimestampSecondArray::from(vec![7])), "timestamp", &[Some("1970-01-01T00:00:07Z")]);
        let list =
            ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        check(Arc::new(list), "list<int64>", &[Some("[1, ]"), None]);
        let fields =
            Fields::from(vec![Field::new("x", DataType::Int32, false), Field::new("y", DataType::LargeUtf8, true)]);
        let children: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![1])), Arc::new(LargeStringArray::from(vec!["a"]))];
        check(Arc::new(StructArray::new(fields, children, None)), "struct<y: utf8, x: int64>", &[Some("{y: a, x: 1}")]);
    }

    #[test]
    fn an_instant_that_is_too_far_away_is_an_error() {
        let column: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
        conform(&column, &schema::timestamp()).expect_err("microseconds have no room for it");
    }

    #[test]
    fn schemas_of_files_are_said_in_our_types() {
        let file = Schema::new(vec![
            Field::new("a", DataType::LargeUtf8, false),
            Field::new("b", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), false),
            Field::new("c", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
            Field::new_list("d", Field::new("element", DataType::Int32, false), false),
        ]);
        let found = canonical(&file).expect("all have one");
        assert_eq!(crate::plan::describe_schema(&found), "{a: utf8?, b: utf8?, c: timestamp?, d: list<int32>?}");
        find_columns(&file, &found).expect("a file fits its own schema");
        let odd = Schema::new(vec![Field::new("a", DataType::Time32(TimeUnit::Second), true)]);
        assert_eq!(canonical(&odd).expect_err("no type"), "column `a` has the type time32(s), which is not read");
    }

    #[test]
    fn missing_and_other_columns_are_named() {
        let file = Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)]);
        let find = |name: &str, data_type| find_columns(&file, &Schema::new(vec![Field::new(name, data_type, true)]));
        assert_eq!(find("b", DataType::Utf8), Ok(vec![1]));
        assert_eq!(find("c", DataType::Utf8), Err("it has no column `c`; it has `a`, `b`".into()));
        assert_eq!(find("a", DataType::Int8), Err("column `a` is int64, and cannot be read as int8".into()));
    }
}
