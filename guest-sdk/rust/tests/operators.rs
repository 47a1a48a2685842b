//! Every shape that `#[operator]` takes, and every type that a row can have.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

use std::borrow::Cow;

use serde::Deserialize;
use tidemill_guest::{
    Aggregate, Batch, Call, Date, Decimal, DurationUs, Emitter, Failure, Field, OwnedBatch, Refusal, Reject, Row, Rows,
    Schema, Step, TimestampUs, operator, testing,
};

#[derive(Row, Debug, Clone, PartialEq)]
struct Inner {
    a: i32,
    b: Option<String>,
}

#[derive(Row, Debug, Clone, PartialEq)]
struct Everything<'a> {
    flag: bool,
    small: i8,
    short: i16,
    int: i32,
    long: i64,
    usmall: u8,
    ushort: u16,
    uint: u32,
    ulong: u64,
    single: f32,
    double: f64,
    text: &'a str,
    cow: Cow<'a, str>,
    owned: String,
    bytes: &'a [u8],
    bytes_cow: Cow<'a, [u8]>,
    fixed: [u8; 3],
    date: Date,
    time: TimestampUs,
    length: DurationUs,
    price: Decimal<10, 2>,
    #[row(rename = "maybe-flag")]
    maybe_flag: Option<bool>,
    maybe_text: Option<&'a str>,
    maybe_long: Option<i64>,
    numbers: Vec<i64>,
    words: Option<Vec<Option<&'a str>>>,
    nested: Inner,
    maybe_nested: Option<Inner>,
    list_of_structs: Vec<Inner>,
    r#type: u8,
}

fn everything(n: usize) -> Everything<'static> {
    const TEXTS: [&str; 5] = ["", "a", "été", "seventeen bytes !", "水水水水水水水水"];
    let text = TEXTS[n % 5];
    let maybe = |every: usize| !n.is_multiple_of(every);
    let inner = |n: usize| Inner { a: n as i32, b: (!n.is_multiple_of(3)).then(|| TEXTS[n % 5].to_owned()) };
    Everything {
        flag: n.is_multiple_of(2),
        small: n as i8,
        short: -(n as i16),
        int: n as i32 * 1000,
        long: i64::MIN + n as i64,
        usmall: n as u8,
        ushort: n as u16,
        uint: n as u32,
        ulong: u64::MAX - n as u64,
        single: n as f32 / 3.0,
        double: n as f64 / 3.0,
        text,
        cow: if maybe(2) { text.into() } else { text.to_uppercase().into() },
        owned: text.repeat(2),
        bytes: &text.as_bytes()[..text.len() / 2],
        bytes_cow: text.as_bytes().into(),
        fixed: [n as u8; 3],
        date: Date(n as i32),
        time: TimestampUs(n as i64),
        length: DurationUs(-(n as i64)),
        price: Decimal(n as i128 * 100),
        maybe_flag: maybe(3).then_some(maybe(2)),
        maybe_text: maybe(4).then_some(text),
        maybe_long: maybe(9).then_some(n as i64),
        numbers: (0..n as i64 % 4).collect(),
        words: maybe(5).then(|| vec![Some(text), None, Some("x")][..n % 4].to_vec()),
        nested: inner(n),
        maybe_nested: maybe(2).then(|| inner(n)),
        list_of_structs: (0..n % 3).map(inner).collect(),
        r#type: 7,
    }
}

#[operator]
fn identity(row: Everything<'_>) -> Everything<'_> {
    row
}

/// Reading what was written gives it back, whatever the number of rows: bits end within bytes or with them.
#[test]
fn what_is_written_is_read() {
    for n_rows in [0, 1, 7, 8, 9, 64, 100] {
        let rows: Vec<_> = (0..n_rows).map(everything).collect();
        let (schema, written) = (Everything::schema(), Everything::batch(rows.clone()));
        let buffers = written.slices();
        let batch = Batch::checked(&schema, written.rows, &written.nodes, &buffers).unwrap();
        let read: Vec<_> = Rows::<Everything<'_>>::new(batch).unwrap().iter().map(|(_, row)| row).collect();
        assert_eq!(read, rows);
        let ran = testing::transform(&identity::operator(), "", rows).unwrap();
        // Without rows there may be neither nodes nor buffers.
        let expected = if n_rows == 0 { OwnedBatch::default() } else { written };
        assert_eq!((ran.rows.clone(), ran.schema), (expected, schema));
    }
}

#[derive(Row, Clone, Debug, PartialEq)]
struct Number {
    n: i64,
}

#[derive(Row)]
struct MaybeNumber {
    n: Option<i64>,
    note: String,
}

fn numbers(numbers: &[i64]) -> Vec<MaybeNumber> {
    numbers.iter().map(|&n| MaybeNumber { n: (n >= 0).then_some(n), note: "x".into() }).collect()
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Config {
    add: i64,
}

fn check_config(config: &Config) -> Result<(), String> {
    if config.add < 100 { Ok(()) } else { Err("`add` is too much".into()) }
}

#[operator]
fn map(number: Number) -> Number {
    Number { n: number.n + 1 }
}

#[operator(carry = ["note"], check = check_config)]
fn map_all_parameters(number: &Number, call: &Call, config: &Config) -> Result<Number, Reject> {
    if number.n == 13 { Err("unlucky".into()) } else { Ok(Number { n: number.n + config.add + call.batch_id as i64 }) }
}

#[operator]
fn keep_even(number: &Number) -> bool {
    number.n % 2 == 0
}

#[operator(carry = ["n"])]
fn keep_or_reject(number: Number) -> Result<bool, String> {
    if number.n == 13 { Err("unlucky".into()) } else { Ok(number.n > 1) }
}

#[operator(carry = "all")]
fn halve(number: Number) -> Option<Number> {
    (number.n % 2 == 0).then_some(Number { n: number.n / 2 })
}

#[operator]
fn count_down(number: Number) -> Vec<Number> {
    (0..number.n).rev().map(|n| Number { n }).collect()
}

#[operator(carry = "all")]
fn count_up(number: Number) -> Result<impl Iterator<Item = Number>, String> {
    if number.n > 3 { Err(format!("{} is too many", number.n)) } else { Ok((0..number.n).map(|n| Number { n })) }
}

#[operator(carry = "all")]
fn emit_some(number: Number, out: &mut Emitter<Number>) -> Result<(), Reject> {
    (0..number.n).for_each(|n| out.emit(Number { n }));
    if number.n == 3 { Err("three".into()) } else { Ok(()) }
}

#[operator(carry = "all")]
fn largest(numbers: Rows<'_, Number>, out: &mut Emitter<Number>) -> Result<(), Failure> {
    let largest = numbers.iter().max_by_key(|(_, number)| number.n).ok_or("there is no largest number of none")?;
    out.emit_from(largest.0, largest.1);
    Ok(())
}

#[operator(carry = "all")]
fn forgets_origin(numbers: Rows<'_, Number>, out: &mut Emitter<Number>) {
    numbers.iter().for_each(|(_, number)| out.emit(number));
}

#[track_caller]
fn check(
    operator: tidemill_guest::native::Operator,
    input: &[i64],
    expected: &[i64],
    origin: Option<&[u32]>,
    rejected: &[(u32, &str)],
) {
    let ran = testing::transform(&operator, "{}", numbers(input)).unwrap();
    assert_eq!(ran.column::<i64>("n").into_iter().flatten().collect::<Vec<_>>(), expected);
    assert_eq!(ran.origin.as_deref(), origin);
    assert_eq!(ran.rejections(), rejected);
}

#[test]
fn every_shape_of_function_runs() {
    // A negative number stands for a null.
    let null = "column `n` is null";
    check(map::operator(), &[1, 2], &[2, 3], None, &[]);
    check(map::operator(), &[1, -1], &[2], None, &[(1, null)]);
    check(map_all_parameters::operator(), &[1, 13, 2], &[1, 2], Some(&[0, 2]), &[(1, "unlucky")]);
    check(map_all_parameters::operator(), &[1, 2], &[1, 2], None, &[]);
    check(halve::operator(), &[1, 2, 4], &[1, 2], Some(&[1, 2]), &[]);
    check(count_down::operator(), &[2, 0, 3], &[1, 0, 2, 1, 0], None, &[]);
    check(count_up::operator(), &[2, 9, -1, 1], &[0, 1, 0], Some(&[0, 0, 3]), &[(1, "9 is too many"), (2, null)]);
    check(emit_some::operator(), &[1, 3], &[0, 0, 1, 2], Some(&[0, 1, 1, 1]), &[(1, "three")]);
    check(largest::operator(), &[1, 3, -1, 2], &[3], Some(&[1]), &[(2, null)]);
}

#[test]
fn filters_write_nothing() {
    #[track_caller]
    fn check(
        operator: tidemill_guest::native::Operator,
        input: &[i64],
        n_rows: u32,
        origin: Option<&[u32]>,
        rejected: &[(u32, &str)],
    ) {
        let ran = testing::transform(&operator, "", numbers(input)).unwrap();
        assert_eq!((ran.rows.rows, ran.schema.fields.len()), (n_rows, 0));
        assert_eq!(ran.origin.as_deref(), origin);
        assert_eq!(ran.rejections(), rejected);
    }
    check(keep_even::operator(), &[2, 4], 2, None, &[]);
    check(keep_even::operator(), &[1, 2, -1], 1, Some(&[1]), &[(2, "column `n` is null")]);
    check(keep_even::operator(), &[1], 0, Some(&[]), &[]);
    check(keep_or_reject::operator(), &[13, 1, 2], 1, Some(&[2]), &[(0, "unlucky")]);
}

#[test]
fn what_fails_says_why() {
    #[track_caller]
    fn check(operator: tidemill_guest::native::Operator, config: &str, input: &[i64], expected: &str) {
        let error = testing::transform(&operator, config, numbers(input)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    check(largest::operator(), "", &[], "there is no largest number of none");
    let origin = "a function of a whole batch that carries columns must say which row it emits from: `emit_from`";
    check(forgets_origin::operator(), "", &[1], origin);
    check(map_all_parameters::operator(), r#"{"add": 100}"#, &[], "`add` is too much");
    check(map_all_parameters::operator(), r#"{"plus": 1}"#, &[], "unknown field `plus`, expected `add`");
    check(map::operator(), r#"{"add": 1}"#, &[], "unknown field `add`, there are no fields");

    #[derive(Row)]
    struct Text {
        n: String,
    }
    let error = testing::transform(&map::operator(), "", [Text { n: "1".into() }]).unwrap_err();
    assert_eq!(error.to_string(), "column `n` is utf8, int64 is expected");
    let error = testing::transform(&map::operator(), "", [Inner { a: 1, b: None }]).unwrap_err();
    assert_eq!(error.to_string(), "column `n` is missing, int64 is expected");
    let error = testing::transform(&map_all_parameters::operator(), "", [Number { n: 1 }]).unwrap_err();
    assert_eq!(error.to_string(), "column `note`, which is to be carried, is missing");
}

#[derive(Row)]
struct Sale<'a> {
    amount: i64,
    last: &'a str,
}

/// The same columns in another order than [`Sale`]'s.
#[derive(Row)]
struct Elas {
    last: String,
    amount: Option<i64>,
}

#[operator(reducer, invert = take_away)]
fn add_up<'a>(a: Sale<'a>, b: Sale<'a>) -> Result<Sale<'a>, String> {
    let amount = a.amount.checked_add(b.amount).ok_or("too much")?;
    Ok(Sale { amount, last: b.last })
}

fn take_away<'a>(whole: Sale<'a>, part: Sale<'a>) -> Result<Sale<'a>, String> {
    Ok(Sale { amount: whole.amount - part.amount, last: whole.last })
}

#[test]
fn reducers_combine_groups() {
    let rows = || [(1, "a"), (2, "b"), (3, "c")].map(|(amount, last)| Elas { last: last.into(), amount: Some(amount) });
    let ran = testing::reduce(&add_up::operator(), "", rows(), &[2, 3]).unwrap();
    assert_eq!(ran.column::<i64>("amount"), [Some(3), Some(3)]);
    assert_eq!(ran.column::<String>("last"), [Some("b".to_owned()), Some("c".to_owned())]);
    let ran = testing::invert(&add_up::operator(), "", rows(), rows()).unwrap().unwrap();
    assert_eq!(ran.column::<i64>("amount"), [Some(0); 3]);

    let null = [Elas { last: "a".into(), amount: None }];
    let error = testing::reduce(&add_up::operator(), "", null, &[1]).unwrap_err();
    assert_eq!(error.to_string(), "row 0: column `amount` is null");
    let much = [i64::MAX, 1].map(|amount| Sale { amount, last: "" });
    assert_eq!(testing::reduce(&add_up::operator(), "", much, &[2]).unwrap_err().to_string(), "too much");
    let error = testing::reduce(&add_up::operator(), "", [everything(1)], &[1]).unwrap_err();
    assert_eq!(error.to_string(), "column `amount` is missing, int64 is expected");
}

struct Longest;

#[operator]
impl Aggregate for Longest {
    type Input<'a> = Sale<'a>;
    type Accumulator = Inner;
    type Output = Inner;

    fn open(_: &Step) -> Result<Self, Refusal> {
        Ok(Longest)
    }

    fn start(&self) -> Inner {
        Inner { a: 0, b: None }
    }

    fn add(&self, longest: &mut Inner, row: Sale<'_>) {
        self.merge(longest, Inner { a: 1, b: Some(row.last.to_owned()) });
    }

    fn merge(&self, longest: &mut Inner, other: Inner) {
        longest.a += other.a;
        if other.b.as_ref().map(String::len) > longest.b.as_ref().map(String::len) {
            longest.b = other.b;
        }
    }

    fn finish(&self, longest: Inner) -> Inner {
        longest
    }
}

#[test]
fn aggregators_merge_what_they_accumulate() {
    let rows = ["aa", "b", "ccc"].map(|last| Sale { amount: 1, last });
    let ran = testing::aggregate(&Longest::operator(), "", rows, &[2, 3]).unwrap();
    assert_eq!(ran.column::<i32>("a"), [Some(2), Some(1)]);
    assert_eq!(ran.column::<String>("b"), [Some("aa".to_owned()), Some("ccc".to_owned())]);
}

/// What a batch from somewhere else breaks is said, not read.
#[test]
fn a_broken_batch_is_not_read() {
    let schema = Schema::new(vec![Field { name: "n".into(), ..<String as tidemill_guest::value::Value>::field("n") }]);
    let check = |buffers: [&[u8]; 3], expected: &str| {
        let nodes = [tidemill_guest::Node { length: 1, null_count: 0 }];
        assert_eq!(Batch::checked(&schema, 1, &nodes, &buffers).unwrap_err(), expected);
    };
    check([&[], &[0; 4], &[]], "column `n`: it has not one offset more than values");
    check([&[], &[0, 0, 0, 0, 9, 0, 0, 0], b"a"], "column `n`: a buffer has 1 bytes, not 9");
    check([&[], &[1, 0, 0, 0, 1, 0, 0, 0], b"a"], "column `n`: its offsets do not start at 0, or fall");
    check([&[], &[0, 0, 0, 0, 1, 0, 0, 0], b"\xFF"], "column `n`: a value is not UTF-8");
    check([&[0], &[0, 0, 0, 0, 1, 0, 0, 0], b"a"], "column `n`: its null count is 0, and 1 values are null");
    assert_eq!(OwnedBatch::default().slices().len(), 0);
}
