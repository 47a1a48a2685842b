//! Schemas: the contract's types as Rust's, nested as they are rather than flat.

use std::fmt;

/// The unit of a timestamp or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TimeUnit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

/// The type of a field, as Arrow names it. What nested types are made of stands in [`Field::children`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are Arrow's, and the contract explains each")]
pub enum DataType {
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
    /// One child: the items.
    List,
    Struct,
    /// One child: a struct of two, key and value.
    Map,
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = |unit: &TimeUnit| match unit {
            TimeUnit::Second => "s",
            TimeUnit::Millisecond => "ms",
            TimeUnit::Microsecond => "us",
            TimeUnit::Nanosecond => "ns",
        };
        match self {
            DataType::FixedSizeBinary(width) => write!(f, "fixed-size-binary({width})"),
            DataType::Timestamp(u, None) => write!(f, "timestamp({})", unit(u)),
            DataType::Timestamp(u, Some(zone)) => write!(f, "timestamp({}, {zone})", unit(u)),
            DataType::Duration(u) => write!(f, "duration({})", unit(u)),
            DataType::Decimal128(precision, scale) => write!(f, "decimal128({precision}, {scale})"),
            // The variants without a payload are named as in the contract.
            other => f.write_str(&format!("{other:?}").to_lowercase()),
        }
    }
}

/// One field of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether a value may be null.
    pub nullable: bool,
    /// What it is made of.
    pub children: Vec<Field>,
}

impl Field {
    /// A field without children whose values are not null.
    #[must_use]
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: false, children: Vec::new() }
    }

    /// The same field, whose values may be null.
    #[must_use]
    pub fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// The same field with children.
    #[must_use]
    pub fn with_children(self, children: Vec<Field>) -> Self {
        Self { children, ..self }
    }

    /// How many nodes it has in a batch: its own and its children's.
    #[must_use]
    pub fn n_nodes(&self) -> usize {
        1 + self.children.iter().map(Field::n_nodes).sum::<usize>()
    }

    /// How many buffers it has in a batch: its own and its children's.
    #[must_use]
    pub fn n_buffers(&self) -> usize {
        let own = match self.data_type {
            DataType::Null => 0,
            DataType::Struct => 1,
            DataType::Utf8 | DataType::Binary => 3,
            _ => 2,
        };
        own + self.children.iter().map(Field::n_buffers).sum::<usize>()
    }

    /// Its type with what it is made of, as in `struct<lat: float64, lon: float64>`.
    #[must_use]
    pub fn type_text(&self) -> String {
        if self.children.is_empty() {
            return self.data_type.to_string();
        }
        let children: Vec<_> =
            self.children.iter().map(|child| format!("{}: {}", child.name, child.type_text())).collect();
        format!("{}<{}>", self.data_type, children.join(", "))
    }
}

/// The fields of the rows of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    /// The columns, in order.
    pub fields: Vec<Field>,
}

impl Schema {
    /// A schema of these columns.
    #[must_use]
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// The column of this name and its index.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(usize, &Field)> {
        self.fields.iter().enumerate().find(|(_, field)| field.name == name)
    }

    /// The columns of these names, in their order; `None` when one is missing.
    #[must_use]
    pub fn select(&self, names: &[String]) -> Option<Schema> {
        names.iter().map(|name| self.find(name).map(|(_, field)| field.clone())).collect::<Option<_>>().map(Schema::new)
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> =
            self.fields.iter().map(|field| format!("`{}`: {}", field.name, field.type_text())).collect();
        f.write_str(&if columns.is_empty() { "no columns".into() } else { columns.join(", ") })
    }
}
