//! Values at the ends of their types: what comes out is exact, or an error.

use super::strict::{query, value};
use super::*;
use crate::step::sql::SqlDefinition;

/// What each expression gives for the first row of [`super::strict::extremes`], whose `a` is 4 and `b` is 0.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(value(text).as_ref().map(|values| values[0].as_str()), Ok(*expected), "{text}");
    }
}

#[test]
fn digits_that_a_number_does_not_have_change_nothing() {
    check(&[
        ("round(1.5e0, 2147483647)", "1.5"),
        ("round(b + 1.5e0, 400)", "1.5"),
        ("round(1.5e0, -400)", "0.0"),
        ("trunc(b + 1.5e0, 400)", "1.5"),
        ("trunc(1.5e0, a * 0 - 9223372036854775807)", "0.0"),
        ("round(1e300, 20)", "1e300"),
        ("round(123.456e0, 309)", "123.456"),
        ("round(-2.5e0)", "-3.0"),
        ("trunc(-2.567e0, 2)", "-2.56"),
        ("round(cast(1.25 as float), 1)", "1.3"),
        ("round(a, 400)", "4"),
        ("round(cast(null as double), 400)", "NULL"),
        ("round(1.5e0, cast(null as int))", "NULL"),
    ]);
    assert!(value("round(1.7e308, -308)").expect_err("too large").contains("too large"));
}

#[test]
fn decimals_are_rounded_up_to_a_digit_more() {
    check(&[
        ("ceil(cast('99.95' as decimal(4,2)))", "100"),
        ("floor(cast('-99.95' as decimal(4,2)))", "-100"),
        ("ceil(cast('-99.95' as decimal(4,2)))", "-99"),
        ("floor(cast('99.95' as decimal(4,2)) + b)", "99"),
        ("ceil(cast('0.99999999999999999999999999999999999999' as decimal(38,38)))", "1"),
        ("ceil(cast('9.9999999999999999999999999999999999999' as decimal(38,37)))", "10"),
        (
            "ceil(cast('99999999999999999999999999999999999999' as decimal(38,0)))",
            "99999999999999999999999999999999999999",
        ),
        ("ceil(cast(null as decimal(4,2)))", "NULL"),
        ("ceil(1.5e0)", "2.0"),
    ]);
    assert_eq!(query("SELECT max(floor(cast(b as decimal(4,2)))) AS x FROM t"), Ok(vec!["5".to_owned()]));
}

#[test]
fn texts_are_filled_up_to_nothing_where_their_length_is_less() {
    for number in
        ["-1", "-2147483648", "cast(-1 - b as int)", "cast(-2147483648 + b as int)", "b - 9223372036854775807"]
    {
        check(&[(&format!("lpad(c, {number})"), ""), (&format!("rpad(c, {number}, 'ab')"), "")]);
    }
}

#[test]
fn times_are_cut_downwards_and_end_somewhere() {
    check(&[
        ("date_trunc('millisecond', to_timestamp_micros(b - 1))", "1969-12-31T23:59:59.999Z"),
        ("date_trunc('second', to_timestamp_micros(-1))", "1969-12-31T23:59:59Z"),
        ("date_trunc('week', to_timestamp_micros(b))", "1969-12-29T00:00:00Z"),
        ("date_trunc('month', to_timestamp_micros(-1))", "1969-12-01T00:00:00Z"),
        ("date_trunc('microsecond', to_timestamp_nanos(-1))", "1969-12-31T23:59:59.999999Z"),
        ("date_bin(interval '15 minutes', to_timestamp_micros(-1))", "1969-12-31T23:45:00Z"),
        ("date_part('year', cast(null as timestamp))", "NULL"),
    ]);
    let smallest = "to_timestamp_micros(-9223372036854775807 - 1 + b * 0)";
    for text in [
        format!("date_trunc('day', {smallest})"),
        format!("date_trunc('quarter', {smallest})"),
        format!("date_bin(interval '15 minutes', {smallest})"),
        format!("date_part('year', {smallest})"),
        "to_timestamp(b * 1e0 + 1e300)".to_owned(),
        "to_timestamp(b * cast('NaN' as double))".to_owned(),
    ] {
        assert!(value(&text).is_err(), "{text}");
    }
}

#[test]
fn what_is_no_cast_has_no_hint_of_one() {
    for (text, reason) in [
        ("regexp_replace(c, '(', 'b')", "`(` is no regular expression: unclosed group"),
        ("c similar to '('", "`(` is no regular expression: unclosed group"),
        ("make_date(2024, 2, 30 + cast(b as int) * 0)", "unable to parse date from 2024, 2, 30"),
    ] {
        let error = value(text).expect_err(text);
        assert!(error.contains(reason) && !error.contains("try_cast"), "{text}: {error}");
    }
    assert!(value("cast(c as bigint)").expect_err("no number").contains("try_cast"));
}

/// Integers at and near the ends, and in the middle.
fn number() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        1 => Just(None),
        2 => (0..6i64).prop_map(|less| Some(i64::MAX - less)),
        2 => (0..6i64).prop_map(|more| Some(i64::MIN + more)),
        2 => (-6..6i64).prop_map(Some),
    ]
}

/// A bound of a frame: its text, and how far it is away. `None`: as far as there are rows.
fn bound(is_start: bool) -> impl Strategy<Value = (String, Option<i128>)> {
    let distance = || prop_oneof![0..8i128, Just(i128::from(i64::MAX)), Just(i128::from(i64::MAX) - 3)];
    prop_oneof![
        Just((if is_start { "UNBOUNDED PRECEDING" } else { "UNBOUNDED FOLLOWING" }.to_owned(), None)),
        Just(("CURRENT ROW".to_owned(), Some(0))),
        distance().prop_map(|distance| (format!("{distance} PRECEDING"), Some(-distance))),
        distance().prop_map(|distance| (format!("{distance} FOLLOWING"), Some(distance))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A frame has the rows that numbers without end say.
    #[test]
    fn frames_of_a_range_are_those_of_numbers_without_end(
        values in proptest::collection::vec(number(), 1..12),
        (start, end) in (bound(true), bound(false)).prop_filter("in order", |((first, start), (last, end))| {
            let kind = |text: &str| ["PRECEDING", "CURRENT ROW", "FOLLOWING"].iter().position(|kind| text.ends_with(kind));
            kind(first) <= kind(last) && start.zip(*end).is_none_or(|(start, end)| start <= end)
        }),
        (descends, nulls_first) in any::<(bool, bool)>(),
    ) {
        let rows: Vec<Row> = values.iter().zip(0..).map(|(value, id)| (*value, Some(id), None)).collect();
        let order = format!("a {} NULLS {}", if descends { "DESC" } else { "ASC" }, if nulls_first { "FIRST" } else { "LAST" });
        let text = format!(
            "SELECT b, count(*) OVER (ORDER BY {order} RANGE BETWEEN {} AND {}) AS n FROM t ORDER BY b", start.0, end.0
        );
        let built = plan(&SqlDefinition::new(&text), &[("t", schema())]).expect("a query");
        let given = texts(&run(&built, &[vec![table(&rows)]]).expect("counts"));
        let sign = if descends { -1 } else { 1 };
        let model = rows.iter().map(|(of, id, _)| {
            let is_in = |other: &Option<i64>| match (of, other) {
                (Some(of), Some(other)) => {
                    let ahead = (i128::from(*other) - i128::from(*of)) * sign;
                    start.1.is_none_or(|start| start <= ahead) && end.1.is_none_or(|end| ahead <= end)
                }
                // Rows without a value are one another's peers, before or behind all others.
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => {
                    let is_before = other.is_none() == nulls_first;
                    if is_before { start.1.is_none() } else { end.1.is_none() }
                }
            };
            format!("{}|{}", id.unwrap_or_default(), values.iter().filter(|other| is_in(other)).count())
        });
        prop_assert_eq!(given, model.collect::<Vec<_>>(), "{}", text);
    }
}

#[test]
fn frames_of_any_number_of_rows_have_those_that_there_are() {
    let largest = u64::MAX;
    for (frame, expected) in [
        (format!("ROWS BETWEEN {largest} PRECEDING AND {largest} FOLLOWING"), "4|4|4|4"),
        (format!("GROUPS BETWEEN CURRENT ROW AND {largest} FOLLOWING"), "4|3|2|1"),
        (format!("ROWS BETWEEN {largest} FOLLOWING AND UNBOUNDED FOLLOWING"), "0|0|0|0"),
    ] {
        let given = query(&format!("SELECT count(*) OVER (ORDER BY b, a {frame}) AS n FROM t")).expect("counts");
        assert_eq!(given.join("|"), expected, "{frame}");
    }
    let text = "SELECT count(*) OVER (ORDER BY to_timestamp_micros(a - b * 0) RANGE INTERVAL '1' DAY PRECEDING) AS n FROM t WHERE a > 0";
    assert!(query(text).expect_err("no such time").contains("beyond the times that there are"));
}

#[test]
fn windows_beside_a_frame_of_a_range_are_ordered_by_the_same() {
    let day = "INTERVAL '1' DAY";
    // For 0, 2 and 5.
    for (by, near, far, last) in [
        ("b", "2", "3", "1|3|3|2|2|5"),
        ("CAST(b AS DECIMAL(9, 2))", "2", "3", "1|3|3|2|2|5"),
        ("to_timestamp_seconds(b * 43200)", day, "INTERVAL '36' HOUR", "1|3|3|2|2|5"),
        ("to_date(to_timestamp_seconds(b * 43200))", day, day, "2|3|3|2|2|5"),
    ] {
        let text = format!(
            "SELECT count(*) OVER (ORDER BY {by} RANGE {near} PRECEDING) AS near, row_number() OVER (ORDER BY {by}) AS i, \
             count(b) OVER (ORDER BY {by}) AS running, lag(b) OVER (ORDER BY {by}) AS before, \
             count(*) OVER (ORDER BY {by} ROWS 1 PRECEDING) AS two, \
             max(b) OVER (ORDER BY {by} RANGE BETWEEN CURRENT ROW AND {far} FOLLOWING) AS far \
             FROM (SELECT b FROM t WHERE b < 9) ORDER BY i"
        );
        let given = query(&text).expect("counts");
        assert_eq!(given, ["1|1|1|NULL|1|2", "2|2|2|0|2|5", last], "{by}");
    }
}

#[test]
fn what_is_compared_with_all_of_another_has_an_end() {
    let error = value("levenshtein(repeat(c, 200000 + b), repeat('ab', 100000))").expect_err("too much");
    assert!(error.contains("`levenshtein` would compare") && error.contains("and may compare 17179869184"), "{error}");
    // What is less is done, piece by piece.
    let given = value("levenshtein(repeat('ab', 5000 + b), repeat('a', 10000))").expect("distances");
    assert_eq!(given, ["5000", "5002", "5005", "NULL"]);
    assert_eq!(
        value("array_has_any(range(b, 9), make_array(3, 50))"),
        Ok(["true", "true", "false", "NULL"].map(str::to_owned).into())
    );
}

#[test]
fn hours_are_not_lost_in_a_date() {
    for lost in ["date '1969-12-31' - interval '1 hour'", "interval '25 hours' + date '1970-01-01'"] {
        let found = mistakes(&SqlDefinition::new(format!("SELECT {lost} AS x FROM t")));
        assert!(found.iter().any(|mistake| mistake.contains("a date has no hours")), "{found:?}");
    }
    check(&[
        ("date '1969-12-31' + interval '1 day'", "1970-01-01"),
        ("date '1969-12-31' + interval '24 hours'", "1970-01-01"),
        ("cast(date '1969-12-31' as timestamp) - interval '1 hour'", "1969-12-30T23:00:00Z"),
    ]);
}
