//! Schemas as the contract writes them: fields in pre-order, each with its number of children.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::type_name::describe_type;

/// Fields that a schema from an operator may have, nested ones included: a wide table has a thousand.
pub const FIELDS_MAX: usize = 4096;

/// How deep the fields of a schema from an operator may be nested; a top-level field is 1 deep.
pub const CHILD_DEPTH_MAX: usize = 32;

/// How long a time zone in a schema from an operator may be, in bytes: the longest of the tz database has 32.
const TIME_ZONE_BYTES_MAX: usize = 64;

/// The zone of times that have none.
const UTC: &str = "+00:00";

/// A field's type without its children: the contract's `data-type`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Arrow's, and the contract explains each")]
pub enum FlatType {
    Null,
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    Utf8,
    Binary,
    /// Bytes a value.
    FixedSizeBinary(u32),
    Date32,
    /// Unit and time zone.
    Timestamp(TimeUnit, Option<String>),
    Duration(TimeUnit),
    /// Precision and scale.
    Decimal128(u8, i8),
    List,
    Struct,
    Map,
}

/// One field of a flat schema: the contract's `field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatField {
    /// The field's name.
    pub name: String,
    /// Its type.
    pub data_type: FlatType,
    /// Whether a value may be null.
    pub nullable: bool,
    /// How many of the fields that follow are its direct children.
    pub children: u32,
}

/// A column of a type that the contract does not carry, and that is not cast to one that it does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}` has type {data_type}, which the contract does not carry")]
pub struct UnsupportedType {
    /// The top-level column.
    pub column: String,
    /// The type that is not carried: the column's, or that of something in it.
    pub data_type: String,
}

/// The type that values of this type are cast to on the way to an operator; `None` when they go as they are.
///
/// The error is the type that the contract does not carry.
pub(super) fn contract_type(data_type: &DataType) -> Result<Option<DataType>, DataType> {
    let child = |field: &FieldRef| contract_field(field).map(|changed| changed.unwrap_or_else(|| field.clone()));
    Ok(match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Duration(_)
        | DataType::Decimal128(..) => None,
        DataType::FixedSizeBinary(width) if *width > 0 => None,
        DataType::Float16 => Some(DataType::Float32),
        DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::LargeBinary | DataType::BinaryView => Some(DataType::Binary),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            Some(DataType::Decimal128(*precision, *scale))
        }
        DataType::Dictionary(_, values) => Some(contract_type(values)?.unwrap_or_else(|| (**values).clone())),
        DataType::List(item) => contract_field(item)?.map(DataType::List),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => Some(DataType::List(child(item)?)),
        DataType::Struct(fields) => {
            let mut changed = false;
            let fields = fields
                .iter()
                .map(|field| {
                    let contract = contract_field(field)?;
                    changed |= contract.is_some();
                    Ok(contract.unwrap_or_else(|| field.clone()))
                })
                .collect::<Result<Fields, DataType>>()?;
            changed.then_some(DataType::Struct(fields))
        }
        DataType::Map(entries, sorted) => {
            let well_formed = matches!(entries.data_type(), DataType::Struct(pair)
                if pair.len() == 2 && !pair[0].is_nullable() && !entries.is_nullable());
            if !well_formed {
                return Err(data_type.clone());
            }
            contract_field(entries)?.map(|entries| DataType::Map(entries, *sorted))
        }
        other => return Err(other.clone()),
    })
}

fn contract_field(field: &FieldRef) -> Result<Option<FieldRef>, DataType> {
    let contract = contract_type(field.data_type())?;
    Ok(contract.map(|data_type| Arc::new(field.as_ref().clone().with_data_type(data_type))))
}

/// The schema that an operator sees of rows of `schema`: types that are cast on the way in are replaced.
///
/// Columns of a type that the contract does not carry stay as they are; [`flatten`] names the first.
#[must_use]
pub fn contract_schema(schema: &SchemaRef) -> SchemaRef {
    let mut changed = false;
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| match contract_field(field) {
            Ok(Some(contract)) => {
                changed = true;
                contract
            }
            Ok(None) | Err(_) => field.clone(),
        })
        .collect();
    if changed { Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())) } else { schema.clone() }
}

/// A schema's fields in pre-order, types that are cast on the way in replaced.
///
/// # Errors
///
/// Names the first column of a type that the contract does not carry.
pub fn flatten(schema: &Schema) -> Result<Vec<FlatField>, UnsupportedType> {
    let mut flat = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let unsupported = |data_type: DataType| UnsupportedType {
            column: field.name().clone(),
            data_type: describe_type(&data_type),
        };
        match contract_field(field).map_err(unsupported)? {
            Some(contract) => push(&mut flat, &contract).map_err(unsupported)?,
            None => push(&mut flat, field).map_err(unsupported)?,
        }
    }
    Ok(flat)
}

fn push(flat: &mut Vec<FlatField>, field: &Field) -> Result<(), DataType> {
    let (data_type, children): (FlatType, &[FieldRef]) = match field.data_type() {
        DataType::Null => (FlatType::Null, &[]),
        DataType::Boolean => (FlatType::Boolean, &[]),
        DataType::Int8 => (FlatType::Int8, &[]),
        DataType::Int16 => (FlatType::Int16, &[]),
        DataType::Int32 => (FlatType::Int32, &[]),
        DataType::Int64 => (FlatType::Int64, &[]),
        DataType::UInt8 => (FlatType::UInt8, &[]),
        DataType::UInt16 => (FlatType::UInt16, &[]),
        DataType::UInt32 => (FlatType::UInt32, &[]),
        DataType::UInt64 => (FlatType::UInt64, &[]),
        DataType::Float32 => (FlatType::Float32, &[]),
        DataType::Float64 => (FlatType::Float64, &[]),
        DataType::Utf8 => (FlatType::Utf8, &[]),
        DataType::Binary => (FlatType::Binary, &[]),
        DataType::FixedSizeBinary(width) => (FlatType::FixedSizeBinary(width.unsigned_abs()), &[]),
        DataType::Date32 => (FlatType::Date32, &[]),
        DataType::Timestamp(unit, zone) => (FlatType::Timestamp(*unit, zone.as_deref().map(str::to_owned)), &[]),
        DataType::Duration(unit) => (FlatType::Duration(*unit), &[]),
        DataType::Decimal128(precision, scale) => (FlatType::Decimal128(*precision, *scale), &[]),
        DataType::List(item) => (FlatType::List, std::slice::from_ref(item)),
        DataType::Struct(fields) => (FlatType::Struct, fields),
        DataType::Map(entries, _) => (FlatType::Map, std::slice::from_ref(entries)),
        other => return Err(other.clone()),
    };
    flat.push(FlatField {
        name: field.name().clone(),
        // A column of the null type holds nulls, whatever its schema says.
        nullable: field.is_nullable() || data_type == FlatType::Null,
        data_type,
        // A schema with more than 2³² fields does not fit in memory.
        children: children.len() as u32,
    });
    children.iter().try_for_each(|child| push(flat, child))
}

/// The schema that flat fields spell. Times without a zone are in UTC, as all times of a job: so they go together with
/// those of sources.
///
/// The fields may come from a guest: nothing is taken on trust.
///
/// # Errors
///
/// Says which field breaks which rule: too many fields ([`FIELDS_MAX`]) or too deep ([`CHILD_DEPTH_MAX`]), names that
/// are not distinct within a level, a number of children that the type does not have or that the list does not hold, a
/// width, precision or time zone out of range, or a map that is not made of pairs.
pub fn unflatten(flat: &[FlatField]) -> Result<Schema, String> {
    if flat.len() > FIELDS_MAX {
        return Err(format!("a schema of {} fields is more than {FIELDS_MAX}", flat.len()));
    }
    let mut rest = flat.iter();
    let mut fields = Vec::new();
    let mut names = HashSet::new();
    while !rest.as_slice().is_empty() {
        fields.push(next_field(&mut rest, &mut names, "", 1)?);
    }
    Ok(Schema::new(fields))
}

/// Takes one field and all that it contains.
fn next_field<'a>(
    rest: &mut std::slice::Iter<'a, FlatField>,
    names: &mut HashSet<&'a str>,
    parent: &str,
    depth: usize,
) -> Result<FieldRef, String> {
    let Some(flat) = rest.next() else {
        return Err(format!("column `{parent}` has fewer children than it says: the schema ends before them"));
    };
    let separator = if parent.is_empty() { "" } else { "." };
    let path = format!("{parent}{separator}{}", flat.name.escape_debug());
    if !names.insert(&flat.name) {
        return Err(format!("column `{path}` stands there twice"));
    }
    if depth > CHILD_DEPTH_MAX {
        return Err(format!("column `{path}` is nested deeper than {CHILD_DEPTH_MAX} levels"));
    }
    let n_children_expected = match flat.data_type {
        FlatType::List | FlatType::Map => 1,
        FlatType::Struct => flat.children,
        _ => 0,
    };
    if flat.children != n_children_expected {
        return Err(format!("column `{path}` says it has {} children, not {n_children_expected}", flat.children));
    }
    let mut child_names = HashSet::new();
    let mut children = Vec::new();
    for _ in 0..flat.children {
        children.push(next_field(rest, &mut child_names, &path, depth + 1)?);
    }
    let data_type = nest(&flat.data_type, children).map_err(|rule| format!("column `{path}`: {rule}"))?;
    if data_type == DataType::Null && !flat.nullable {
        return Err(format!("column `{path}`: the null type must be nullable"));
    }
    Ok(Arc::new(Field::new(&flat.name, data_type, flat.nullable)))
}

/// The type with its children, which are as many as it has.
fn nest(flat: &FlatType, mut children: Vec<FieldRef>) -> Result<DataType, String> {
    Ok(match flat {
        FlatType::Null => DataType::Null,
        FlatType::Boolean => DataType::Boolean,
        FlatType::Int8 => DataType::Int8,
        FlatType::Int16 => DataType::Int16,
        FlatType::Int32 => DataType::Int32,
        FlatType::Int64 => DataType::Int64,
        FlatType::UInt8 => DataType::UInt8,
        FlatType::UInt16 => DataType::UInt16,
        FlatType::UInt32 => DataType::UInt32,
        FlatType::UInt64 => DataType::UInt64,
        FlatType::Float32 => DataType::Float32,
        FlatType::Float64 => DataType::Float64,
        FlatType::Utf8 => DataType::Utf8,
        FlatType::Binary => DataType::Binary,
        FlatType::FixedSizeBinary(width) => match i32::try_from(*width) {
            Ok(width) if width > 0 => DataType::FixedSizeBinary(width),
            _ => return Err(format!("a fixed width of {width} bytes is not between 1 and {}", i32::MAX)),
        },
        FlatType::Date32 => DataType::Date32,
        FlatType::Timestamp(unit, zone) => {
            if let Some(zone) = zone
                && (zone.is_empty() || zone.len() > TIME_ZONE_BYTES_MAX || !zone.bytes().all(|b| b.is_ascii_graphic()))
            {
                return Err(format!("`{}` is no time zone", zone.escape_debug().take(80).collect::<String>()));
            }
            DataType::Timestamp(*unit, Some(zone.as_deref().unwrap_or(UTC).into()))
        }
        FlatType::Duration(unit) => DataType::Duration(*unit),
        FlatType::Decimal128(precision, scale) => {
            if !(1..=DECIMAL128_MAX_PRECISION).contains(precision) {
                return Err(format!("a precision of {precision} is not between 1 and {DECIMAL128_MAX_PRECISION}"));
            }
            if i16::from(*scale).abs() > i16::from(*precision) {
                return Err(format!("a scale of {scale} is more than the precision of {precision}"));
            }
            DataType::Decimal128(*precision, *scale)
        }
        FlatType::Struct => DataType::Struct(children.into()),
        FlatType::List => DataType::List(children.pop().ok_or("a list needs a child")?),
        FlatType::Map => {
            let entries = children.pop().ok_or("a map needs a child")?;
            match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && !pair[0].is_nullable() && !entries.is_nullable() => {}
                _ => return Err("a map's child is a non-null struct of two, of which the first is not null".into()),
            }
            DataType::Map(entries, false)
        }
    })
}
