//! Which rows a join gives.

/// The type of a join.
///
/// | type | a left row with matches | a left row without | a right row without |
/// | --- | --- | --- | --- |
/// | inner | once a match | | |
/// | left | once a match | with nulls | |
/// | right | once a match | | with nulls |
/// | full | once a match | with nulls | with nulls |
/// | semi | once, alone | | |
/// | anti | | once, alone | |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JoinType {
    /// Pairs that match.
    #[default]
    Inner,
    /// Pairs, and left rows that match nothing.
    Left,
    /// Pairs, and right rows that match nothing.
    Right,
    /// Pairs, and rows of both sides that match nothing.
    Full,
    /// Left rows that match something.
    Semi,
    /// Left rows that match nothing.
    Anti,
}

impl JoinType {
    /// The names in a job file.
    pub const NAMES: [(&'static str, JoinType); 6] = [
        ("inner", JoinType::Inner),
        ("left", JoinType::Left),
        ("right", JoinType::Right),
        ("full", JoinType::Full),
        ("semi", JoinType::Semi),
        ("anti", JoinType::Anti),
    ];

    /// Its name in a job file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// Whether the columns of the right side are part of what it gives.
    #[must_use]
    pub fn has_right_columns(self) -> bool {
        !matches!(self, JoinType::Semi | JoinType::Anti)
    }

    /// Whether pairs that match are given.
    #[must_use]
    pub fn gives_pairs(self) -> bool {
        self.has_right_columns()
    }

    /// Whether rows of a side (0 is left) that match nothing are given.
    #[must_use]
    pub fn gives_unmatched(self, side: usize) -> bool {
        match self {
            JoinType::Inner | JoinType::Semi => false,
            JoinType::Left | JoinType::Anti => side == 0,
            JoinType::Right => side == 1,
            JoinType::Full => true,
        }
    }

    /// Whether a left row has had its say with its first match.
    #[must_use]
    pub(crate) fn ends_with_first_match(self) -> bool {
        matches!(self, JoinType::Semi | JoinType::Anti)
    }
}
