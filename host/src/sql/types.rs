//! The types that columns have between steps. DataFusion also makes others of the same values.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use crate::source::schema::UTC;

/// The type that values of this type have between steps: texts and bytes without views, dictionaries unpacked, times in microseconds
/// of UTC.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| -> FieldRef {
        Arc::new(Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()))
    };
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::Date64 => DataType::Date32,
        // An instant, whatever it is counted in; without a zone it is UTC's.
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(field(item))
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

/// The values in another type that holds them: of the same rows elsewhere, or the plain one.
pub(crate) fn plain_array<'a>(array: &'a ArrayRef, data_type: &DataType) -> Result<Cow<'a, ArrayRef>, ArrowError> {
    if array.data_type() == data_type {
        return Ok(Cow::Borrowed(array));
    }
    // A value that the type does not have is an error, and not null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    Ok(Cow::Owned(cast_with_options(array, data_type, &options)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data_type: DataType, expected: DataType) {
        assert_eq!(plain_type(&data_type), expected);
        // What is plain stays as it is.
        assert_eq!(plain_type(&expected), expected);
    }

    #[test]
    fn views_dictionaries_and_times_become_plain_also_within_others() {
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        let of = |data_type| DataType::Struct(Fields::from(vec![Field::new("a", data_type, false)]));
        check(DataType::Int64, DataType::Int64);
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        check(DataType::Timestamp(TimeUnit::Nanosecond, None), utc.clone());
        check(list(DataType::Timestamp(TimeUnit::Second, Some("+02:00".into()))), list(utc));
        check(DataType::Utf8View, DataType::Utf8);
        check(DataType::Dictionary(DataType::Int32.into(), DataType::LargeUtf8.into()), DataType::Utf8);
        check(list(DataType::BinaryView), list(DataType::Binary));
        check(of(list(DataType::Utf8View)), of(list(DataType::Utf8)));
    }
}
