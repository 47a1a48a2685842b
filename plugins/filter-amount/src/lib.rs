//! Keeps the rows with an amount of at least `min`. Of all their columns it reads that one.

use serde::Deserialize;
use tidemill_guest::{Row, operator};

/// What is read of an order.
#[derive(Row)]
pub struct Order {
    amount: f64,
}

/// Which orders stay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The smallest amount that stays.
    min: f64,
}

impl Config {
    fn check(&self) -> Result<(), String> {
        if self.min.is_finite() { Ok(()) } else { Err(format!("`min` is {}, not a number", self.min)) }
    }
}

/// Whether an order stays.
#[operator(check = Config::check)]
pub fn filter_amount(order: &Order, config: &Config) -> bool {
    order.amount >= config.min
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing;

    use super::*;

    #[derive(Row)]
    struct Input<'a> {
        name: &'a str,
        amount: Option<f64>,
    }

    #[track_caller]
    fn check(min: &str, amounts: &[Option<f64>], origin: Option<&[u32]>, rejected: &[(u32, &str)]) {
        let rows = amounts.iter().map(|&amount| Input { name: "x", amount });
        let config = format!("{{\"min\": {min}}}");
        let ran = testing::transform(&filter_amount::operator(), &config, rows).expect("it runs");
        assert_eq!(ran.origin.as_deref(), origin);
        assert_eq!(ran.rejections(), rejected);
        assert_eq!(ran.rows.rows as usize, origin.map_or(amounts.len(), <[u32]>::len));
    }

    #[test]
    fn rows_stay_by_their_amount() {
        check("5", &[Some(4.0), Some(5.0), Some(f64::NAN), Some(9.0)], Some(&[1, 3]), &[]);
        check("0.5", &[Some(1.0), Some(2.0)], None, &[]);
        check("0", &[], None, &[]);
        check("1", &[None, Some(1.0)], Some(&[1]), &[(0, "column `amount` is null")]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |config: &str| {
            let ran = testing::transform(&filter_amount::operator(), config, [Order { amount: 1.0 }]);
            ran.expect_err("it is refused").to_string()
        };
        assert_eq!(refused("{}"), "missing field `min`");
        assert_eq!(refused(r#"{"min": 1, "max": 2}"#), "unknown field `max`, expected `min`");
        #[derive(Row)]
        struct Text<'a> {
            amount: &'a str,
        }
        let ran = testing::transform(&filter_amount::operator(), r#"{"min": 1}"#, [Text { amount: "1" }]);
        assert_eq!(ran.expect_err("it is refused").to_string(), "column `amount` is utf8, float64 is expected");
    }
}
