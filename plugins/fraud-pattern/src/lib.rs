//! A small amount followed by a large one soon after, on the same card: how a stolen card is tried out. In event time, on
//! any keys.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `at` | timestamp | read: when the payment was; written: when the large one was |
//! | `amount` | float64 | read; written: the large one's |
//! | `small_at` | timestamp | written: when the small one was |
//! | `small_amount` | float64 | written: the small one's |
//!
//! ```toml
//! config = { small = 1.0, large = 500.0, within = "1m" }
//! ```
//!
//! A payment below `small` arms the pattern for the time `within`; the first one of at least `large` in that time is an
//! alert, and disarms it. The last small payment counts. The payments of a batch are put in order; one that comes in a later
//! batch than it should have sees what came before it.

use serde::Deserialize;
use tidemill_guest::{
    AnyKey, DurationUs, GroupEmitter, GroupRows, Refusal, Row, StateHandle, Step, Timeouts, TimestampUs, Update,
    operator,
};

/// What the pattern is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What is small is below this.
    small: f64,
    /// What is large is at least this.
    large: f64,
    /// How soon the large one follows.
    within: DurationUs,
}

/// What is read of a payment.
#[derive(Row, Clone, Copy)]
pub struct Payment {
    at: TimestampUs,
    amount: f64,
}

/// What is kept of a card: the last small payment.
#[derive(Row, Debug, Clone, PartialEq)]
pub struct Armed {
    small_at: TimestampUs,
    small_amount: f64,
}

/// The pattern, found.
#[derive(Row)]
pub struct Alert {
    small_at: TimestampUs,
    small_amount: f64,
    at: TimestampUs,
    amount: f64,
}

/// Finds the pattern.
pub struct FraudPattern {
    config: Config,
}

impl FraudPattern {
    /// The last time at which a large payment is an alert.
    fn deadline(&self, armed: &Armed) -> i64 {
        armed.small_at.0.saturating_add(self.config.within.0)
    }
}

#[operator]
impl Update for FraudPattern {
    type Key<'a> = AnyKey;
    type Input<'a> = Payment;
    type State = Armed;
    type Output = Alert;

    const TIMEOUTS: Timeouts = Timeouts::EventTime;

    fn open(step: &Step) -> Result<Self, Refusal> {
        let config: Config = step.config()?;
        if config.small > config.large {
            let text = format!("`small` is {}, and must not be more than `large`, {}", config.small, config.large);
            return Err(Refusal::Config(text));
        }
        Ok(Self { config })
    }

    fn update(
        &mut self,
        _: AnyKey,
        rows: GroupRows<'_, Payment>,
        state: &mut StateHandle<Armed>,
        out: &mut GroupEmitter<Alert>,
    ) {
        if state.timed_out() {
            return state.remove();
        }
        let mut payments: Vec<_> = rows.collect();
        payments.sort_by_key(|payment| payment.at);
        for Payment { at, amount } in payments {
            if amount < self.config.small {
                let armed = Armed { small_at: at, small_amount: amount };
                // No payment that is still to come can be in time once the watermark is past the deadline.
                state.set_timeout(TimestampUs(self.deadline(&armed).saturating_add(1)));
                state.set(armed);
            } else if amount >= self.config.large
                && let Some(armed) = state.get()
                && armed.small_at <= at
                && at.0 <= self.deadline(armed)
            {
                out.emit(Alert { small_at: armed.small_at, small_amount: armed.small_amount, at, amount });
                state.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{self, Updates};

    use super::*;

    #[derive(Row, Clone, PartialEq, Debug)]
    struct Card {
        card: i64,
    }

    type Batches = Updates<Card, Payment, Armed>;

    fn patterns() -> Batches {
        let config = r#"{"small": 1, "large": 500, "within": "60us"}"#;
        testing::update(&FraudPattern::operator(), config).expect("it opens")
    }

    /// Runs a batch of payments with one card; answers when the small and the large one of each alert were.
    fn run(batches: &mut Batches, watermark: i64, payments: &[(i64, f64)]) -> Vec<(i64, i64)> {
        let payments: Vec<_> = payments.iter().map(|&(at, amount)| Payment { at: TimestampUs(at), amount }).collect();
        let rows = if payments.is_empty() { vec![] } else { vec![(Card { card: 1 }, payments)] };
        let ran = batches.run(TimestampUs(watermark), rows).expect("it runs");
        let times = |name: &str| ran.column::<TimestampUs>(name).into_iter().flatten().map(|time| time.0);
        times("small_at").zip(times("at")).collect()
    }

    #[test]
    fn a_small_amount_and_then_a_large_one_is_an_alert() {
        let mut batches = patterns();
        assert_eq!(run(&mut batches, 0, &[(100, 0.5)]), []);
        assert_eq!(run(&mut batches, 50, &[(120, 40.0), (130, 900.0), (131, 900.0)]), [(100, 130)], "one alert");
        assert_eq!(batches.keys().count(), 0, "an alert disarms");
        assert_eq!(run(&mut batches, 50, &[(300, 900.0), (290, 0.1)]), [(290, 300)], "a batch is put in order");
    }

    #[test]
    fn what_is_too_late_is_none() {
        let mut batches = patterns();
        assert_eq!(run(&mut batches, 0, &[(100, 0.5), (161, 900.0)]), []);
        assert_eq!(run(&mut batches, 0, &[(160, 900.0)]), [(100, 160)], "the deadline is in time");
        assert_eq!(run(&mut batches, 0, &[(100, 0.5), (150, 0.9), (200, 500.0)]), [(150, 200)], "the last small one");
        assert_eq!(run(&mut batches, 0, &[(300, 0.5)]), []);
        assert_eq!(run(&mut batches, 0, &[(299, 900.0)]), [], "it was before the small one");
    }

    #[test]
    fn nothing_is_kept_once_nothing_can_come() {
        let mut batches = patterns();
        run(&mut batches, 0, &[(100, 0.5)]);
        assert_eq!(batches.timeout(&Card { card: 1 }), Some(TimestampUs(161)));
        assert_eq!(run(&mut batches, 160, &[]), []);
        assert_eq!(batches.keys().count(), 1);
        assert_eq!(run(&mut batches, 161, &[]), []);
        assert_eq!(batches.keys().count(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |config: &str, expected: &str| {
            let refused = testing::update::<Card, Payment, Armed>(&FraudPattern::operator(), config);
            assert_eq!(refused.expect_err("it is refused").to_string(), expected);
        };
        check(r#"{"small": 1, "large": 500}"#, "missing field `within`");
        check(r#"{"small": 9, "large": 5, "within": "1m"}"#, "`small` is 9, and must not be more than `large`, 5");
    }
}
