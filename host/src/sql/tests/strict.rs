//! What fails rather than wrap around, and what guards.

use super::*;
use crate::step::filter::FilterDefinition;
use crate::step::sql::SqlDefinition;
use crate::step::with::WithDefinition;

/// A row whose `a` is the largest number, one whose `a` is the smallest, and small ones.
pub(super) fn extremes() -> RecordBatch {
    table(&[
        (Some(4), Some(0), Some("x".into())),
        (Some(i64::MAX), Some(2), Some("7".into())),
        (Some(i64::MIN), Some(5), None),
        (None, None, Some("9".into())),
    ])
}

pub(super) fn query(text: &str) -> Result<Vec<String>, String> {
    let built = plan(&SqlDefinition::new(text), &[("t", schema())]).expect("a query");
    run(&built, &[vec![extremes()]]).map(|rows| texts(&rows)).map_err(|error| error.report())
}

/// The expression as a column of a `with` step and of a query, for every row.
pub(super) fn value(text: &str) -> Result<Vec<String>, String> {
    let built = plan(&WithDefinition::new([("x", text)]), &[("t", schema())]).expect("an expression");
    let with = run(&built, &[vec![extremes()]]).map_err(|error| error.report()).map(|rows| {
        let last = |line: String| line.rsplit('|').next().unwrap_or_default().to_owned();
        texts(&rows).into_iter().map(last).collect()
    });
    let same = query(&format!("SELECT {text} AS x FROM t"));
    match (&with, &same) {
        (Ok(with), Ok(same)) => assert_eq!(with, same, "{text}"),
        (Err(_), Err(_)) => {}
        _ => panic!("{text}: {with:?} and {same:?}"),
    }
    with
}

#[test]
fn integers_that_do_not_fit_fail_wherever_they_are_computed() {
    for text in [
        "a + 1",
        "a - 10",
        "b * a * 2",
        "-a",
        "- (a - 0)",
        "9223372036854775807 + 1",
        "cast(b as tinyint) + cast(127 as tinyint)",
        "cast(b as bigint unsigned) - cast(3 as bigint unsigned)",
        "abs(a)",
        "case when b = 5 then a - 1 else 0 end",
    ] {
        let error = value(text).expect_err(text);
        assert!(error.to_lowercase().contains("overflow"), "{text}: {error}");
    }
    // What fits is computed: as far as the largest and the smallest.
    assert_eq!(value("coalesce(b, 0) * 2 - 1 + 3"), Ok(["2", "6", "12", "2"].map(str::to_owned).into()));
    assert_eq!(value("case when a > 0 then a - 1 else a + 1 end").expect("values")[1], (i64::MAX - 1).to_string());
    assert_eq!(value("-(-b)"), Ok(["0", "2", "5", "NULL"].map(str::to_owned).into()));
    assert_eq!(value("-9223372036854775808").expect("a value")[0], i64::MIN.to_string());
}

#[test]
fn a_sum_of_integers_fails_when_it_does_not_fit_and_not_on_the_way() {
    let largest = i64::MAX;
    for text in [
        "SELECT sum(a) AS s FROM t WHERE a > 0",
        "SELECT b > -1 AS k, sum(a) AS s FROM t WHERE a > 0 GROUP BY b > -1",
        "SELECT sum(DISTINCT a) AS s, count(DISTINCT b) AS n FROM t WHERE a > 0",
        "SELECT sum(a) OVER (ORDER BY b) AS s FROM t WHERE a > 0",
        "SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM t WHERE a > 0",
    ] {
        let error = query(text).expect_err(text);
        assert!(error.contains("overflow: the sum is 9223372036854775811, which no int64 holds"), "{text}: {error}");
    }
    // The largest and the smallest meet: what does not fit on the way does fit in the end.
    assert_eq!(query("SELECT sum(a) AS s FROM t"), Ok(vec!["3".to_owned()]));
    assert_eq!(query("SELECT sum(a) AS s FROM t WHERE b > 100"), Ok(vec!["NULL".to_owned()]));
    assert_eq!(
        query("SELECT sum(b) FILTER (WHERE a > 0) AS s, sum(DISTINCT b) AS d FROM t"),
        Ok(vec!["2|7".to_owned()])
    );
    assert_eq!(
        query("SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN CURRENT ROW AND CURRENT ROW) AS s FROM t WHERE a > 5"),
        Ok(vec![largest.to_string()])
    );
    assert_eq!(query("SELECT sum(cast(b as bigint unsigned)) AS s FROM t"), Ok(vec!["7".to_owned()]));
    assert_eq!(
        query("SELECT sum(b / 2.0) AS s, sum(cast(b as decimal(10,2))) AS d FROM t"),
        Ok(vec!["3.5|7.00".to_owned()])
    );
}

proptest! {
    #[test]
    fn sums_are_those_of_numbers_without_end(
        of in proptest::collection::vec((proptest::option::of(any::<i64>()), 0i64..3), 1..20),
        lengths in proptest::collection::vec(1usize..12, 1..6),
    ) {
        let rows: Vec<Row> = of.iter().map(|&(a, b)| (a, Some(b), None)).collect();
        let table = table(&rows);
        let built = plan(&SqlDefinition::new("SELECT b, sum(a) AS s FROM t GROUP BY b ORDER BY b"), &[("t", schema())]);
        let given = run(&built.expect("a query"), &[cut(&table, &lengths)]);
        let expected: Vec<Option<String>> = (0..3)
            .filter(|key| of.iter().any(|(_, b)| b == key))
            .map(|key| {
                let values: Vec<i128> = of.iter().filter(|(_, b)| *b == key).filter_map(|(a, _)| *a).map(i128::from).collect();
                let total: i128 = values.iter().sum();
                if values.is_empty() { return Some(format!("{key}|NULL")); }
                i64::try_from(total).ok().map(|total| format!("{key}|{total}"))
            })
            .collect();
        match expected.into_iter().collect::<Option<Vec<String>>>() {
            Some(expected) => prop_assert_eq!(texts(&given.expect("sums that fit")), expected),
            None => prop_assert!(given.expect_err("a sum that does not fit").report().contains("overflow: the sum is")),
        }
    }
}

#[test]
fn cases_and_conditions_guard_what_stands_behind_them() {
    for condition in [
        "b <> 0 and 10 / b > 1",
        "b = 0 or 10 / b > 1",
        "not (b = 0 or 10 / b <= 1)",
        "case when b = 0 then false else 10 / b > 1 end",
        "case when b <> 0 then 10 / b > 1 end",
        "b <> 0 and (a > 0 and a / b > 100 or 10 / b = 2)",
        "c <> 'x' and cast(c as bigint) > 1",
        "case when c = 'x' then false else cast(c as bigint) > 1 end",
        "coalesce(b = 0, 10 / b > 0) is not null and (b = 0 or 10 / b > 0)",
    ] {
        let built = plan(&FilterDefinition::new(condition), &[("t", schema())]).expect("a condition");
        let step = run(&built, &[vec![extremes()]]).map(|rows| texts(&rows)).map_err(|error| error.report());
        let whole = query(&format!("SELECT * FROM t WHERE {condition}"));
        assert!(step.is_ok(), "{condition}: {step:?}");
        assert_eq!(step, whole, "{condition}");
        assert!(value(condition).is_ok(), "{condition}");
        let counted = query(&format!("SELECT count(*) FILTER (WHERE x) AS n FROM (SELECT {condition} AS x FROM t)"));
        assert_eq!(counted, Ok(vec![step.map(|rows| rows.len()).unwrap_or_default().to_string()]), "{condition}");
    }
    let cases = "SELECT sum(CASE WHEN b = 0 THEN 1 ELSE 10 / b END) AS s FROM t";
    assert_eq!(query(cases), Ok(vec!["8".to_owned()]));
    let cases = "SELECT count(*) FILTER (WHERE CASE WHEN b = 0 THEN true ELSE 10 / b > 2 END) AS n FROM t";
    assert_eq!(query(cases), Ok(vec!["2".to_owned()]));
    // What is not guarded fails as before.
    assert!(query("SELECT * FROM t WHERE 10 / b > 1 AND b <> 0").expect_err("a zero").contains("divide by zero"));
}

#[test]
fn a_cast_is_done_before_what_it_is_compared_with() {
    // Neither the largest nor the smallest number is an int.
    assert_eq!(value("try_cast(a as int) > 0"), Ok(["true", "NULL", "NULL", "NULL"].map(str::to_owned).into()));
    assert_eq!(value("try_cast(a as int) in (4, 5)"), Ok(["true", "NULL", "NULL", "NULL"].map(str::to_owned).into()));
    let error = value("cast(a as int) > 0").expect_err("no int");
    assert!(error.contains("9223372036854775807"), "{error}");
    // A wider type holds all: such casts stay as they are, and can be looked through.
    assert_eq!(
        value("cast(cast(b as int) as bigint) = 5"),
        Ok(["false", "false", "true", "NULL"].map(str::to_owned).into())
    );
}

#[test]
fn values_of_any_length_have_an_end() {
    for text in [
        "lpad(c, 2147483647)",
        "rpad(c, b * 1000000000)",
        "repeat(c, 2000000000)",
        "array_repeat(b, 2000000000)",
        "array_resize(make_array(b), 2000000000, b)",
        "range(2000000000)",
        "generate_series(a - a, 9223372036854775807, 2)",
        "array_repeat(array_repeat(array_repeat(b, 1000), 1000), 1000)",
        "range(now(), now() + interval '1 year', interval '1 microsecond')",
        "generate_series(cast(now() as timestamp), cast(now() as timestamp) + interval '1 day', interval '1 microsecond')",
    ] {
        let error = value(text).expect_err(text);
        assert!(
            error.contains(" characters or elements for ") && error.contains("may make 67108864"),
            "{text}: {error}"
        );
    }
    assert_eq!(value("lpad(c, 3, '.') || repeat('ab', b)").expect("values")[..2], ["..x", "..7abab"]);
    assert_eq!(value("range(b, 4, 2)").expect("values")[..2], ["[0, 2]", "[2]"]);
}

#[test]
fn a_function_that_breaks_off_fails_its_row_and_not_the_host() {
    let text = "date_trunc('week', arrow_cast(a, 'Timestamp(Microsecond, Some(\"UTC\"))'))";
    let error = value(text).expect_err("no such week");
    assert!(error.contains("for the row with a = "), "{error}");
    // The step goes on with other rows.
    let built = plan(&WithDefinition::new([("x", text)]), &[("t", schema())]).expect("an expression");
    let fine = table(&[(Some(0), None, None)]);
    assert!(run(&built, &[vec![extremes()]]).is_err());
    assert_eq!(texts(&run(&built, &[vec![fine]]).expect("a week")), ["0|NULL|NULL|1969-12-29T00:00:00Z"]);
}

#[test]
fn clauses_that_no_step_does_are_refused_and_not_left_out() {
    for (text, clause) in [
        ("SELECT * FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
        ("SELECT * FROM t FOR UPDATE", "FOR UPDATE` or `FOR SHARE"),
        ("SELECT TOP 3 * FROM t", "TOP"),
        ("SELECT * FROM t FETCH FIRST 3 ROWS ONLY", "FETCH"),
        ("SELECT * FROM t SORT BY a", "SORT BY"),
        ("SELECT * FROM t LATERAL VIEW explode(c) x AS y", "LATERAL VIEW"),
        ("SELECT * FROM (SELECT * FROM t FOR SHARE) AS x", "FOR UPDATE` or `FOR SHARE"),
        ("SELECT * ILIKE 'a%' FROM t", "* ILIKE"),
    ] {
        let found = mistakes(&SqlDefinition::new(text));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("sql: `{clause}` is not done here | ")),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn decimals_that_have_more_digits_than_their_type_fail() {
    let large = "cast(60000000000000000000000000000000000000 as decimal(38,0))";
    for text in [
        format!("{large} * cast(b as decimal(38,0))"),
        format!("{large} + {large} + cast(b as decimal(38,0))"),
        format!("cast(b as decimal(38,0)) - ({large} + {large})"),
    ] {
        let error = value(&text).expect_err(&text);
        assert!(
            error.contains("too large") || error.contains("verflow") || error.contains("precision"),
            "{text}: {error}"
        );
    }
    for text in [
        format!("SELECT sum({large} + b - b) AS s FROM t"),
        format!("SELECT a IS NULL AS k, sum({large} + b - b) AS s FROM t GROUP BY a IS NULL"),
    ] {
        let error = query(&text).expect_err(&text);
        assert!(
            error.contains("overflow: the sum is 1") && error.contains(", which no decimal(38, 0) holds"),
            "{text}: {error}"
        );
    }
    assert_eq!(
        query("SELECT sum(cast(b as decimal(10,2)) * 1.5) AS s, avg(cast(b as decimal(10,2))) AS m FROM t")
            .expect("decimals")[0]
            .split('|')
            .next(),
        Some("10.5")
    );
}

#[test]
fn streams_are_joined_by_keys_of_different_types() {
    let other: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![Some(0), Some(2), Some(9), None]));
    let float: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![Some(2.0), Some(5.0), Some(0.5), None]));
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("5"), Some("0"), Some("7"), None]));
    let right = rows(vec![("u", other), ("f", float), ("s", text)]);
    for (text, expected) in [
        ("SELECT l.b AS b, r.u AS u FROM l JOIN r ON l.b = r.u", vec!["0|0", "2|2"]),
        ("SELECT l.b AS b, r.f AS f FROM l JOIN r ON l.b = r.f", vec!["2|2.0", "5|5.0"]),
        ("SELECT l.b AS b FROM l JOIN r ON cast(r.s as bigint) = l.b", vec!["0", "5"]),
        ("SELECT l.b AS b, r.u AS u FROM l JOIN r ON l.b = r.u AND cast(r.s as bigint) = l.b", vec![]),
        ("SELECT l.b AS b, r.u AS u FROM l LEFT JOIN r ON l.b = r.u", vec!["0|0", "2|2", "5|NULL", "NULL|NULL"]),
        ("SELECT l.b AS b FROM l WHERE l.b IN (SELECT u FROM r)", vec!["0", "2"]),
        ("SELECT l.b AS b FROM l WHERE EXISTS (SELECT 1 FROM r WHERE r.f = l.b)", vec!["2", "5"]),
        (
            "SELECT r.u AS u, count(*) AS n FROM l JOIN r ON cast(l.b as decimal(10,2)) = r.u GROUP BY r.u",
            vec!["0|1", "2|1"],
        ),
    ] {
        let sql = SqlDefinition { others: vec!["r".into()], ..SqlDefinition::new(text) };
        let built = plan(&sql, &[("l", schema()), ("r", right.schema())])
            .unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"));
        let mut given = texts(&run(&built, &[vec![extremes()], vec![right.clone()]]).expect("rows"));
        given.sort();
        assert_eq!(given, expected, "{text}");
    }
}

#[test]
fn times_that_do_not_fit_fail_and_are_not_null() {
    for text in ["to_timestamp_seconds(a)", "to_timestamp_millis(a)", "to_timestamp_seconds(9223372036854775807)"] {
        let built = plan(&WithDefinition::new([("x", text)]), &[("t", schema())]);
        let is_refused = built.is_err() || run(&built.expect("an expression"), &[vec![extremes()]]).is_err();
        assert!(is_refused, "{text}");
    }
}
