//! The names of types in everything that people read: plans, schemas, messages.

use arrow::datatypes::{DataType, TimeUnit};

/// A type as job files write it; what they have no name for is told apart from what they have one for.
///
/// | type | written |
/// | --- | --- |
/// | one of a job file | as [`parse_type`](crate::source::schema::parse_type) reads it |
/// | times of another unit or zone, or of none | `timestamp(ns)`, `timestamp(ms, Europe/Berlin)`, `timestamp(us, no zone)` |
/// | durations of another unit | `duration(ms)` |
/// | any other | its name in Arrow, in small letters |
pub(crate) fn describe_type(data_type: &DataType) -> String {
    let unit_name = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    match data_type {
        DataType::List(item) => format!("list<{}>", describe_type(item.data_type())),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|field| format!("{}: {}", field.name(), describe_type(field.data_type())));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let types = fields.iter().map(|field| describe_type(field.data_type()));
                format!("map<{}>", types.collect::<Vec<_>>().join(", "))
            }
            other => format!("map<{}>", describe_type(other)),
        },
        DataType::Dictionary(_, values) => format!("dictionary<{}>", describe_type(values)),
        DataType::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => "timestamp".into(),
        DataType::Timestamp(unit, Some(zone)) if is_utc(zone) => format!("timestamp({})", unit_name(unit)),
        DataType::Timestamp(unit, zone) => {
            format!("timestamp({}, {})", unit_name(unit), zone.as_deref().unwrap_or("no zone"))
        }
        DataType::Duration(TimeUnit::Microsecond) => "duration".into(),
        DataType::Duration(unit) => format!("duration({})", unit_name(unit)),
        DataType::LargeUtf8 => "large utf8".into(),
        DataType::LargeBinary => "large binary".into(),
        DataType::Utf8View => "utf8 view".into(),
        DataType::BinaryView => "binary view".into(),
        other => other.to_string().to_lowercase(),
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "+00:00" | "UTC" | "Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::schema::parse_type;

    #[test]
    fn types_are_written_as_job_files_write_them() {
        let all = [
            "boolean",
            "int8",
            "uint64",
            "float32",
            "utf8",
            "binary",
            "date32",
            "timestamp",
            "duration",
            "decimal(10, 2)",
            "list<timestamp>",
            "struct<a: int64, b: list<utf8>>",
            "map<utf8, decimal(38, 0)>",
        ];
        for text in all {
            assert_eq!(describe_type(&parse_type(text).expect("a type")), text);
        }
    }

    #[test]
    fn types_that_job_files_do_not_have_are_told_apart() {
        let check = |data_type: DataType, expected: &str| assert_eq!(describe_type(&data_type), expected);
        check(DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), "timestamp(ns)");
        check(DataType::Timestamp(TimeUnit::Microsecond, None), "timestamp(us, no zone)");
        check(DataType::Timestamp(TimeUnit::Second, Some("+02:00".into())), "timestamp(s, +02:00)");
        check(DataType::Duration(TimeUnit::Second), "duration(s)");
        check(DataType::LargeUtf8, "large utf8");
        check(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "dictionary<utf8>");
        check(DataType::Date64, "date64");
        check(DataType::Time32(TimeUnit::Second), "time32(s)");
    }
}
