//! Groupers and updaters of typed rows: what they get, what they keep, what becomes of misuse.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

use tidemill_guest::{
    AnyKey, Calling, CoGroup, Group, GroupEmitter, GroupRows, Refusal, Row, StateHandle, Step, Timeouts, TimestampUs,
    Update, operator, testing,
};

#[derive(Row, Clone, Debug, PartialEq)]
struct Number {
    n: i64,
}

#[derive(Row, Clone, PartialEq, Debug)]
struct City<'a> {
    city: &'a str,
}

#[derive(Row, Clone)]
struct MaybeNumber {
    n: Option<i64>,
}

/// Emits the name of the key with the sum, twice when it is large; rejects what is negative.
struct SumUp;

#[derive(Row)]
struct Summed<'a> {
    upper: &'a str,
    sum: i64,
}

#[operator]
impl Group for SumUp {
    type Key<'a> = City<'a>;
    type Input<'a> = Number;
    type Output = Summed<'static>;

    fn open(_: &Step) -> Result<Self, Refusal> {
        Ok(SumUp)
    }

    fn group<'a>(&mut self, key: City<'a>, rows: GroupRows<'a, Number>, out: &mut GroupEmitter<Summed<'static>>) {
        let n_rows = rows.len();
        assert_eq!(rows.clone().count(), n_rows, "as many come as are announced");
        let upper = key.city.to_uppercase();
        let mut sum = 0;
        for (id, Number { n }) in rows.with_ids() {
            if n < 0 {
                out.reject(id, "negative");
                out.reject(id, "a row has one reason");
            } else {
                sum += n;
            }
        }
        for _ in 0..if sum > 9 { 2 } else { 1 } {
            out.emit(Summed { upper: &upper, sum });
        }
    }
}

fn some(numbers: &[i64]) -> Vec<MaybeNumber> {
    numbers.iter().map(|n| MaybeNumber { n: Some(*n) }).collect()
}

#[test]
fn a_grouper_gets_all_rows_of_a_key() {
    let null = || MaybeNumber { n: None };
    let groups = [
        (City { city: "oslo" }, [some(&[1, -2, 3]), vec![null()]].concat()),
        (City { city: "bergen" }, vec![null()]),
        (City { city: "narvik" }, some(&[10])),
    ];
    let ran = testing::group(&SumUp::operator(), "{}", groups).unwrap();
    assert_eq!(ran.column::<i64>("sum"), [Some(4), Some(10), Some(10)]);
    assert_eq!(ran.column::<String>("upper")[0].as_deref(), Some("OSLO"));
    assert_eq!(ran.origin, Some(vec![0, 2, 2]), "a group whose rows cannot be read is left out");
    let null = "column `n` is null";
    assert_eq!(ran.rejections(), [(1, "negative"), (3, null), (4, null)]);
}

#[derive(Row)]
struct MaybeCity<'a> {
    city: Option<&'a str>,
}

#[test]
fn rows_of_a_key_that_cannot_be_read_are_rejected() {
    let groups = [(MaybeCity { city: None }, some(&[1, 2])), (MaybeCity { city: Some("a") }, some(&[3]))];
    let ran = testing::group(&SumUp::operator(), "{}", groups).unwrap();
    let reason = "key column `city` is null";
    assert_eq!((ran.rejections(), ran.column("sum")), (vec![(0, reason), (1, reason)], vec![Some(3_i64)]));
}

#[test]
fn a_grouper_refuses_what_does_not_fit() {
    let refused = |ran: Result<testing::Ran, testing::RunError>| ran.expect_err("it is refused").to_string();
    let ran = testing::group(&SumUp::operator(), "{}", [(AnyKey, some(&[1]))]);
    assert_eq!(refused(ran), "among the keys, column `city` is missing, utf8 is expected");
    let ran = testing::group(&SumUp::operator(), "{}", [(City { city: "a" }, vec![City { city: "b" }])]);
    assert_eq!(refused(ran), "column `n` is missing, int64 is expected");
}

/// How many rows there are on each side; the larger numbers of the left are rejected, and all of the right.
struct Counts;

#[derive(Row)]
struct Counted {
    left: i64,
    right: i64,
}

#[operator]
impl CoGroup for Counts {
    type Key<'a> = AnyKey;
    type Left<'a> = Number;
    type Right<'a> = City<'a>;
    type Output = Counted;

    fn open(_: &Step) -> Result<Self, Refusal> {
        Ok(Counts)
    }

    fn cogroup<'a>(
        &mut self,
        _: AnyKey,
        left: GroupRows<'a, Number>,
        right: GroupRows<'a, City<'a>>,
        out: &mut GroupEmitter<Counted>,
    ) {
        out.emit(Counted { left: left.len() as i64, right: right.len() as i64 });
        left.with_ids().filter(|(_, row)| row.n > 1).for_each(|(id, _)| out.reject(id, "left"));
        right.with_ids().for_each(|(id, _)| out.reject(id, "right"));
    }
}

#[test]
fn a_cogroup_gets_the_rows_of_both_sides() {
    let numbers = |numbers: &[i64]| numbers.iter().map(|&n| Number { n }).collect::<Vec<_>>();
    let cities = |n: usize| vec![City { city: "x" }; n];
    let groups = [(AnyKey, numbers(&[1, 2]), cities(1)), (AnyKey, vec![], cities(2)), (AnyKey, numbers(&[1]), vec![])];
    let ran = testing::cogroup(&Counts::operator(), "{}", groups).unwrap();
    assert_eq!(ran.column::<i64>("left"), [Some(2), Some(0), Some(1)]);
    assert_eq!(ran.column::<i64>("right"), [Some(1), Some(2), Some(0)]);
    // The right rows are counted after the three left ones.
    assert_eq!(ran.rejections(), [(1, "left"), (3, "right"), (4, "right"), (5, "right")]);
}

// An updater that does with its state what the numbers of the rows say, one after the other.
macro_rules! deeds {
    ($name:ident, $timeouts:expr, $calling:expr) => {
        struct $name;

        #[operator]
        impl Update for $name {
            type Key<'a> = City<'a>;
            type Input<'a> = Number;
            type State = Number;
            type Output = Number;

            const TIMEOUTS: Timeouts = $timeouts;
            const CALLING: Calling = $calling;

            fn open(_: &Step) -> Result<Self, Refusal> {
                Ok($name)
            }

            fn update(
                &mut self,
                _: City<'_>,
                rows: GroupRows<'_, Number>,
                state: &mut StateHandle<Number>,
                out: &mut GroupEmitter<Number>,
            ) {
                if state.timed_out() {
                    assert_eq!(rows.len(), 0);
                    out.emit(Number { n: -1 });
                }
                for Number { n } in rows {
                    do_deed(n, state);
                }
                out.emit(Number { n: state.get().map_or(0, |state| state.n) });
            }
        }
    };
}

const SET_7: i64 = 0;
const ADD_1: i64 = 1;
const REMOVE: i64 = 2;
const TAKE: i64 = 3;
const AT_50: i64 = 4;
const AFTER_10: i64 = 5;
const CLEAR: i64 = 6;
const INSERT_1: i64 = 7;
const AT_THE_END: i64 = 8;

fn do_deed(deed: i64, state: &mut StateHandle<Number>) {
    match deed {
        SET_7 => state.set(Number { n: 7 }),
        ADD_1 => state.get_mut().into_iter().for_each(|number| number.n += 1),
        REMOVE => state.remove(),
        TAKE => drop(state.take()),
        AT_50 => state.set_timeout(TimestampUs(50)),
        AFTER_10 => state.set_timeout_after(std::time::Duration::from_micros(10)),
        CLEAR => state.clear_timeout(),
        INSERT_1 => state.get_or_insert_with(|| Number { n: 0 }).n += 1,
        AT_THE_END => state.set_timeout(TimestampUs(i64::MAX)),
        _ => {}
    }
}

deeds!(Plain, Timeouts::BatchTime, Calling::KeysWithValues);
deeds!(Always, Timeouts::BatchTime, Calling::EveryKey);
deeds!(Untimed, Timeouts::Never, Calling::KeysWithValues);
deeds!(EventTimed, Timeouts::EventTime, Calling::KeysWithValues);

type Deeded = testing::Updates<City<'static>, MaybeNumber, Number>;

const OSLO: City<'static> = City { city: "oslo" };

fn open_deeds(operator: &tidemill_guest::native::Operator) -> Deeded {
    testing::update(operator, "{}").unwrap()
}

/// Does deeds with a key that had this state and timeout; answers what it has then.
#[track_caller]
fn check_deeds(before: &[i64], deeds: &[i64], state: Option<i64>, timeout: Option<i64>) {
    let mut batches = open_deeds(&Plain::operator());
    batches.run(TimestampUs(0), [(OSLO, some(before))]).unwrap();
    batches.run(TimestampUs(20), [(OSLO, some(deeds))]).unwrap();
    let found = (batches.state(&OSLO).map(|number| number.n), batches.timeout(&OSLO).map(|time| time.0));
    assert_eq!(found, (state, timeout), "{deeds:?} after {before:?}");
}

#[test]
fn a_handle_does_what_it_is_asked_and_no_more() {
    let kept = &[SET_7, AT_50][..];
    check_deeds(kept, &[9], Some(7), Some(50));
    check_deeds(kept, &[ADD_1, ADD_1], Some(9), Some(50));
    check_deeds(kept, &[REMOVE], None, None);
    check_deeds(kept, &[TAKE], None, None);
    check_deeds(kept, &[TAKE, SET_7], Some(7), Some(50));
    check_deeds(kept, &[REMOVE, SET_7], Some(7), None);
    check_deeds(kept, &[REMOVE, SET_7, AFTER_10], Some(7), Some(30));
    check_deeds(kept, &[CLEAR], Some(7), None);
    check_deeds(kept, &[AFTER_10, AT_50, AFTER_10], Some(7), Some(30));
    check_deeds(kept, &[AT_THE_END], Some(7), Some(i64::MAX - 1));
    check_deeds(&[9], &[ADD_1], None, None);
    check_deeds(&[9], &[REMOVE], None, None);
    check_deeds(&[9], &[INSERT_1, INSERT_1], Some(2), None);
    // The order of a timeout and its state does not matter.
    check_deeds(&[9], &[AT_50, SET_7], Some(7), Some(50));
    check_deeds(&[9], &[AT_50, REMOVE], None, None);
}

#[test]
fn misuse_fails_the_call() {
    let check = |operator: tidemill_guest::native::Operator, deeds: &[i64], expected: &str| {
        let ran = open_deeds(&operator).run(TimestampUs(0), [(OSLO, some(deeds))]);
        assert_eq!(ran.expect_err("it fails").to_string(), expected);
    };
    check(Plain::operator(), &[AT_50], "it sets a timeout for a key that it leaves without state");
    check(Plain::operator(), &[SET_7, AT_50, TAKE], "it sets a timeout for a key that it leaves without state");
    check(Untimed::operator(), &[SET_7, AT_50], "it sets a timeout, and its `TIMEOUTS` is `Timeouts::Never`");
    check(
        EventTimed::operator(),
        &[SET_7, AFTER_10],
        "`set_timeout_after` counts from the batch's time, and its timeouts are in event time",
    );
}

#[test]
fn keys_time_out_after_rows_have_been_seen() {
    let mut batches = open_deeds(&Plain::operator());
    let numbers = |ran: testing::UpdateRan<City<'_>>| ran.column::<i64>("n").into_iter().flatten().collect::<Vec<_>>();
    let mut run = |time, deeds: &[i64]| {
        let rows = if deeds.is_empty() { vec![] } else { vec![(OSLO, some(deeds))] };
        numbers(batches.run(TimestampUs(time), rows).unwrap())
    };
    assert_eq!(run(0, &[SET_7, AT_50]), [7]);
    assert_eq!(run(49, &[]), [0; 0]);
    assert_eq!(run(50, &[AFTER_10]), [7], "rows put the timeout off");
    assert_eq!(run(60, &[ADD_1]), [8, -1, 8], "with rows that do not, it is called twice");
    assert_eq!(run(61, &[]), [0; 0], "a timeout fires once");
    assert_eq!(run(100, &[AT_50]), [8, -1, 8], "one that has passed is due at once");
}

#[test]
fn every_key_is_called_when_it_asks_for_it() {
    let mut batches = open_deeds(&Always::operator());
    let bergen = City { city: "bergen" };
    let deeds = [(OSLO, some(&[SET_7])), (bergen.clone(), some(&[INSERT_1]))];
    batches.run(TimestampUs(0), deeds).unwrap();
    let ran = batches.run(TimestampUs(1), [(bergen.clone(), some(&[ADD_1, AFTER_10]))]).unwrap();
    assert_eq!((ran.keys(), ran.column("n")), (&[bergen.clone(), OSLO][..], vec![Some(2_i64), Some(7)]));
    let ran = batches.run(TimestampUs(11), []).unwrap();
    assert_eq!(ran.keys(), [OSLO, bergen.clone(), bergen]);
    assert_eq!(ran.column::<i64>("n"), [Some(7), Some(-1), Some(2)], "what timed out is not called twice");
}

#[test]
fn a_key_whose_rows_cannot_be_read_is_left_alone() {
    let mut batches = open_deeds(&Plain::operator());
    batches.run(TimestampUs(0), [(OSLO, some(&[SET_7, AT_50]))]).unwrap();
    let ran = batches.run(TimestampUs(1), [(OSLO, vec![MaybeNumber { n: None }])]).unwrap();
    assert_eq!((ran.rejections(), ran.keys().len()), (vec![(0, "column `n` is null")], 0));
    assert_eq!((batches.state(&OSLO).map(|number| number.n), batches.timeout(&OSLO)), (Some(7), Some(TimestampUs(50))));
}
