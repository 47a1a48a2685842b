//! Adds up the sales of a key.

use tidemill_guest::{Row, operator};

/// A sale, or several added up: all columns that are not keys.
#[derive(Row, Clone)]
pub struct Sales {
    count: i64,
    amount: i64,
    highest: i64,
}

/// Two become one. It must not matter which two are added up first.
#[operator(reducer)]
pub fn add_up(a: Sales, b: Sales) -> Sales {
    Sales { count: a.count + b.count, amount: a.amount + b.amount, highest: a.highest.max(b.highest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_guest::testing;

    #[test]
    fn sales_are_added_up() {
        let sale = |amount| Sales { count: 1, amount, highest: amount };
        // Two groups: of the first two rows, and of the third.
        let ran = testing::reduce(&add_up::operator(), "{}", [sale(5), sale(-2), sale(7)], &[2, 3]).unwrap();
        assert_eq!(ran.column::<i64>("count"), [Some(2), Some(1)]);
        assert_eq!(ran.column::<i64>("amount"), [Some(3), Some(7)]);
        assert_eq!(ran.column::<i64>("highest"), [Some(5), Some(7)]);
    }
}
