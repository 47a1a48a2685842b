//! The `k` largest values of each key so far, with the items that they are of. On any keys.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `item` | text | read and written |
//! | `value` | float64 | read and written |
//! | `rank` | int64 | written: 1 is the largest |
//!
//! ```toml
//! config = { k = 10 }
//! ```
//!
//! When a batch changes the list of a key, the whole list comes out, from the largest value to the smallest. Of equal values
//! the one that came first stands first. An item may stand there more than once. A value that is not a number is rejected.

use serde::Deserialize;
use tidemill_guest::{AnyKey, GroupEmitter, GroupRows, Refusal, Row, StateHandle, Step, Update, operator};

/// How long a list may be: it crosses the boundary with every batch that has rows of its key.
const K_MAX: usize = 10_000;

/// How many values stay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// How many.
    k: usize,
}

/// What is read of a row.
#[derive(Row)]
pub struct Scored<'a> {
    item: &'a str,
    value: f64,
}

/// One of the largest values.
#[derive(Row, Debug, Clone, PartialEq)]
pub struct Entry {
    item: String,
    value: f64,
}

/// What is kept of a key: the largest value first.
#[derive(Row, Debug, Clone, PartialEq)]
pub struct List {
    entries: Vec<Entry>,
}

/// A place in the list.
#[derive(Row)]
pub struct Ranked<'a> {
    rank: i64,
    item: &'a str,
    value: f64,
}

/// Keeps the largest values.
pub struct RunningTopK {
    k: usize,
}

#[operator]
impl Update for RunningTopK {
    type Key<'a> = AnyKey;
    type Input<'a> = Scored<'a>;
    type State = List;
    type Output = Ranked<'static>;

    fn open(step: &Step) -> Result<Self, Refusal> {
        let Config { k } = step.config()?;
        if k == 0 || k > K_MAX {
            return Err(Refusal::Config(format!("`k` is {k}, and must be between 1 and {K_MAX}")));
        }
        Ok(Self { k })
    }

    fn update<'a>(
        &mut self,
        _: AnyKey,
        rows: GroupRows<'a, Scored<'a>>,
        state: &mut StateHandle<List>,
        out: &mut GroupEmitter<Ranked<'static>>,
    ) {
        // Owned text is made for what enters the list alone.
        let mut entered = Vec::new();
        for (id, row) in rows.with_ids() {
            if row.value.is_nan() {
                out.reject(id, "`value` is not a number");
                continue;
            }
            let kept = state.get().map_or(&[][..], |list| &list.entries);
            if kept.len() < self.k || kept.last().is_some_and(|last| row.value > last.value) {
                entered.push(Entry { item: row.item.to_owned(), value: row.value });
            }
        }
        if entered.is_empty() {
            return;
        }
        let list = state.get_or_insert_with(|| List { entries: Vec::new() });
        list.entries.extend(entered);
        // Stable: of equal values the one that came first stays first.
        list.entries.sort_by(|a, b| b.value.total_cmp(&a.value));
        list.entries.truncate(self.k);
        for (rank, Entry { item, value }) in (1..).zip(&list.entries) {
            out.emit(Ranked { rank, item, value: *value });
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_guest::testing::{self, Updates};

    use super::*;

    #[derive(Row, Clone, PartialEq, Debug)]
    struct Game<'a> {
        game: &'a str,
    }

    const CHESS: Game<'static> = Game { game: "chess" };
    const GO: Game<'static> = Game { game: "go" };

    type Batches = Updates<Game<'static>, Scored<'static>, List>;

    fn top(k: usize) -> Batches {
        testing::update(&RunningTopK::operator(), &format!(r#"{{"k": {k}}}"#)).expect("it opens")
    }

    fn scored(rows: &[(&'static str, f64)]) -> Vec<Scored<'static>> {
        rows.iter().map(|&(item, value)| Scored { item, value }).collect()
    }

    /// The list that comes out, as text.
    fn run(batches: &mut Batches, rows: &[(&'static str, f64)]) -> String {
        let ran = batches.run(Default::default(), [(CHESS, scored(rows))]).expect("it runs");
        let (items, values) = (ran.column::<String>("item"), ran.column::<f64>("value"));
        let rows = ran.column::<i64>("rank").into_iter().zip(items).zip(values);
        let row = |((rank, item), value): ((Option<i64>, Option<String>), Option<f64>)| {
            format!("{}{}{}", rank.unwrap_or(0), item.unwrap_or_default(), value.unwrap_or(0.0))
        };
        rows.map(row).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_list_comes_out_when_it_changes() {
        let mut batches = top(2);
        assert_eq!(run(&mut batches, &[("a", 1.0), ("b", 3.0), ("c", 2.0)]), "1b3 2c2");
        assert_eq!(run(&mut batches, &[("d", 2.0), ("e", 0.0)]), "", "what is not larger changes nothing");
        assert_eq!(run(&mut batches, &[("f", 9.0), ("g", 9.0)]), "1f9 2g9");
        let entry = |item: &str, value| Entry { item: item.into(), value };
        assert_eq!(batches.state(&CHESS).map(|list| &list.entries[..]), Some(&[entry("f", 9.0), entry("g", 9.0)][..]));
    }

    #[test]
    fn keys_have_lists_of_their_own() {
        let mut batches = top(1);
        let rows = [(CHESS, scored(&[("a", 1.0)])), (GO, scored(&[("b", 2.0)]))];
        let ran = batches.run(Default::default(), rows).expect("it runs");
        assert_eq!(ran.keys(), [CHESS, GO]);
        assert_eq!(ran.column::<f64>("value"), [Some(1.0), Some(2.0)]);
    }

    #[test]
    fn what_is_not_a_number_is_rejected() {
        let ran = top(2).run(Default::default(), [(CHESS, scored(&[("a", 1.0), ("b", f64::NAN)]))]).expect("it runs");
        assert_eq!(ran.rejections(), [(1, "`value` is not a number")]);
        assert_eq!(ran.column::<i64>("rank"), [Some(1)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let check = |config: &str, expected: &str| {
            let refused = testing::update::<Game<'_>, Scored<'_>, List>(&RunningTopK::operator(), config);
            assert_eq!(refused.expect_err("it is refused").to_string(), expected);
        };
        check("{}", "missing field `k`");
        check(r#"{"k": 0}"#, "`k` is 0, and must be between 1 and 10000");
    }
}
