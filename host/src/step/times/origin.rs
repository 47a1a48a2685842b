//! What a column of times is computed of.

use arrow::datatypes::{DataType, TimeUnit};

use super::{TimeColumn, TimeColumns};

/// Microseconds of a day.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// What a column of times is computed of, row by row or of rows of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeOrigin {
    /// Times of a column of an input, as they are.
    Column {
        /// The input, by its number among those of the step.
        side: usize,
        /// The column.
        name: String,
    },
    /// Times that are at least so much later; less than 0: at most so much earlier.
    Shifted(Box<TimeOrigin>, i64),
    /// Times cut to the beginning of a piece of time.
    Cut(Box<TimeOrigin>, Cut),
    /// Times of one of these. Of none: no time at all.
    OneOf(Vec<TimeOrigin>),
    /// Anything else.
    Unknown,
}

/// Pieces of time, which a time is cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// How long one is at most, in microseconds.
    pub size_us: i64,
    /// By how much they begin later than multiples of that since 1970-01-01; `None`: they are not all as long.
    pub offset_us: Option<i64>,
}

impl Cut {
    /// Pieces of one length.
    #[must_use]
    pub fn even(size_us: i64, offset_us: i64) -> Self {
        Self { size_us, offset_us: Some(offset_us) }
    }

    /// Pieces that are not all as long.
    #[must_use]
    pub fn uneven(size_us: i64) -> Self {
        Self { size_us, offset_us: None }
    }

    /// Days.
    #[must_use]
    pub fn day() -> Self {
        Self::even(DAY_US, 0)
    }
}

impl TimeOrigin {
    /// A column of an input.
    #[must_use]
    pub fn column(side: usize, name: impl Into<String>) -> Self {
        Self::Column { side, name: name.into() }
    }

    /// The times in another type: one that is coarser cuts them.
    #[must_use]
    pub fn cast(self, to: &DataType) -> Self {
        let cut = match to {
            DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => return self,
            DataType::Timestamp(TimeUnit::Millisecond, _) => Cut::even(1_000, 0),
            DataType::Timestamp(TimeUnit::Second, _) => Cut::even(1_000_000, 0),
            DataType::Date32 | DataType::Date64 => Cut::day(),
            _ => return Self::Unknown,
        };
        Self::Cut(Box::new(self), cut)
    }

    /// What is known of such times; `sides` are the inputs.
    pub(super) fn known(&self, sides: &[&TimeColumns]) -> Vec<TimeColumn> {
        let each = |of: &Self, what: &dyn Fn(&TimeColumn) -> TimeColumn| of.known(sides).iter().map(what).collect();
        match self {
            Self::Column { side, name } => match sides.get(*side) {
                Some(side) => side.known(name),
                None => vec![TimeColumn::Unknown],
            },
            Self::Shifted(of, us) => each(of, &|known| known.shifted(*us)),
            Self::Cut(of, cut) => each(of, &|known| known.cut(*cut)),
            Self::OneOf(all) => {
                let mut known = Vec::new();
                for one in all.iter().flat_map(|one| one.known(sides)) {
                    if !known.contains(&one) {
                        known.push(one);
                    }
                }
                known
            }
            Self::Unknown => vec![TimeColumn::Unknown],
        }
    }
}
