//! `filter`, `with`, `select`, `rename`, `cast`, `drop`.

use arrow::array::{Int64Array, StringArray};
use arrow::datatypes::DataType;

use super::*;
use crate::job::OnError;
use crate::step::cast::CastDefinition;
use crate::step::drop::DropDefinition;
use crate::step::filter::FilterDefinition;
use crate::step::rename::RenameDefinition;
use crate::step::select::SelectDefinition;
use crate::step::with::WithDefinition;

/// Conditions of the rows of tests.
const CONDITIONS: [&str; 8] = [
    "a > b",
    "a > 0 and c = 'a'",
    "coalesce(a, 0) % 2 = 1 or b is null",
    "c like 'a%'",
    "a in (1, 2, 3)",
    "not (a between -2 and 2)",
    "length(c) > 1 and upper(c) <> 'AB'",
    "case when a is null then b else a end > 1",
];

/// Expressions over the rows of tests.
const EXPRESSIONS: [&str; 8] = [
    "a + b",
    "a * 2.5",
    "c || '-' || cast(a as varchar)",
    "nullif(a, b)",
    "substr(upper(c), 1, 1)",
    "a / nullif(b, 0)",
    "array_length(make_array(a, b))",
    "date_part('year', to_timestamp(a * 10000000))",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_filter_gives_what_datafusion_gives_for_the_whole_table(
        of in proptest::collection::vec(a_row(), 1..40),
        lengths in proptest::collection::vec(1usize..12, 1..6),
        condition in 0..CONDITIONS.len(),
    ) {
        let table = table(&of);
        let built = plan(&FilterDefinition::new(CONDITIONS[condition]), &[("t", schema())]).expect("a condition");
        let given = run(&built, &[cut(&table, &lengths)]).expect("values");
        let query = format!("SELECT * FROM t WHERE {}", CONDITIONS[condition]);
        prop_assert_eq!(texts(&given), model(&query, &[("t", &table)]));
    }

    #[test]
    fn with_and_select_give_what_datafusion_gives_for_the_whole_table(
        of in proptest::collection::vec(a_row(), 1..40),
        lengths in proptest::collection::vec(1usize..12, 1..6),
        (first, second) in (0..EXPRESSIONS.len(), 0..EXPRESSIONS.len()),
    ) {
        let table = table(&of);
        let (first, second) = (EXPRESSIONS[first], EXPRESSIONS[second]);
        let built = plan(&WithDefinition::new([("x", first), ("b", second)]), &[("t", schema())]).expect("expressions");
        let given = run(&built, &[cut(&table, &lengths)]).expect("values");
        let query = format!("SELECT a, {second} AS b, c, {first} AS x FROM t");
        prop_assert_eq!(texts(&given), model(&query, &[("t", &table)]));

        let built = plan(&SelectDefinition::new([("y", second), ("a", first)]), &[("t", schema())]).expect("expressions");
        let given = run(&built, &[cut(&table, &lengths)]).expect("values");
        let query = format!("SELECT {second} AS y, {first} AS a FROM t");
        prop_assert_eq!(texts(&given), model(&query, &[("t", &table)]));
    }
}

#[test]
fn columns_are_renamed_dropped_and_cast_at_their_places() {
    let table = table(&[(Some(7), Some(1), Some("12".into())), (None, Some(2), None)]);
    let names = |built: &Built| {
        built.output.fields().iter().map(|field| format!("{}: {}", field.name(), field.data_type())).collect::<Vec<_>>()
    };
    let one = |definition: &dyn StepDefinition| {
        let built = plan(definition, &[("t", schema())]).expect("a step");
        (names(&built), texts(&run(&built, &[vec![table.clone()]]).expect("rows")))
    };
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();

    // Names may change places.
    let (fields, rows) = one(&RenameDefinition { names: pairs(&[("a", "b"), ("b", "a")]) });
    assert_eq!(
        (fields, rows),
        (vec!["b: Int64".into(), "a: Int64".into(), "c: Utf8".into()], vec!["7|1|12".into(), "NULL|2|NULL".into()])
    );
    let (fields, rows) = one(&DropDefinition { columns: vec!["b".into()] });
    assert_eq!((fields, rows), (vec!["a: Int64".into(), "c: Utf8".into()], vec!["7|12".into(), "NULL|NULL".into()]));
    let (fields, rows) =
        one(&CastDefinition { types: pairs(&[("c", "int64"), ("a", "utf8")]), on_error: Some(OnError::Fail) });
    assert_eq!(
        (fields, rows),
        (vec!["a: Utf8".into(), "b: Int64".into(), "c: Int64".into()], vec!["7|1|12".into(), "NULL|2|NULL".into()])
    );
    let (fields, rows) = one(&SelectDefinition::names(["c", "a"]));
    assert_eq!((fields, rows), (vec!["c: Utf8".into(), "a: Int64".into()], vec!["12|7".into(), "NULL|NULL".into()]));
}

#[test]
fn time_is_the_batch_time() {
    let select = SelectDefinition::new([
        ("now", "now()"),
        ("at", "batch_time()"),
        ("day", "current_date"),
        ("c", "current_timestamp = now()"),
    ]);
    let built = plan(&select, &[("t", schema())]).expect("functions of time");
    let given = run(&built, &[vec![table(&[(None, None, None)])]]).expect("values");
    // The task of tests has the time of seven seconds.
    assert_eq!(texts(&given), ["1970-01-01T00:00:07Z|1970-01-01T00:00:07Z|1970-01-01|true"]);
    assert_eq!(built.output.field(0).data_type(), &crate::source::schema::parse_type("timestamp").expect("a type"));
}

#[test]
fn times_are_instants_of_utc_whatever_they_are_made_by() {
    let select = SelectDefinition::new([
        ("t", "to_timestamp(a)"),
        ("m", "to_timestamp_millis(a)"),
        ("c", "cast('2026-03-01T12:30:00' as timestamp)"),
    ]);
    let built = plan(&select, &[("t", schema())]).expect("times");
    let given = run(&built, &[vec![table(&[(Some(5), None, None)])]]).expect("values");
    assert_eq!(texts(&given), ["1970-01-01T00:00:05Z|1970-01-01T00:00:00.005Z|2026-03-01T12:30:00Z"]);
    let failing = plan(&WithDefinition::new([("x", "1 / (1 - 1)")]), &[("t", schema())]).expect("an expression");
    let error = run(&failing, &[vec![table(&[(None, None, None)])]]).expect_err("no value").report();
    assert!(error.contains("caused by: divide by zero\n"), "an expression that reads no columns: {error}");
}

#[track_caller]
fn check_failure(definition: &dyn StepDefinition, expected: &str) {
    let table =
        table(&[(Some(1), Some(1), Some("x".into())), (Some(2), Some(0), Some("2".into())), (Some(3), Some(0), None)]);
    let built = plan(definition, &[("t", schema())]).expect("a step");
    let error = run(&built, &[vec![table]]).expect_err("a row without a value");
    assert_eq!(error.report(), expected);
}

#[test]
fn sums_that_do_not_fit_fail_and_do_not_wrap_around() {
    for text in ["a + 9223372036854775807", "-9223372036854775807 - a", "a * 9223372036854775807 * 2"] {
        let built = plan(&WithDefinition::new([("x", text)]), &[("t", schema())]).expect("a step");
        let large = table(&[(Some(0), None, None), (Some(3), None, None)]);
        let error = run(&built, &[vec![large]]).expect_err("a row without a value").report();
        assert!(error.contains("verflow") && error.contains("for the row with a = 3"), "{text}: {error}");
    }
}

#[test]
fn a_row_without_a_value_is_named() {
    check_failure(
        &WithDefinition::new([("x", "a / b")]),
        "error: step `it` cannot compute `a / b` in batch 7, partition 0\n  caused by: divide by zero, for the row with a = 2, \
         b = 0\n\nhint: `nullif(x, 0)` in the place of the divisor makes it null.\n",
    );
    check_failure(
        &FilterDefinition::new("cast(c as bigint) > 1"),
        "error: step `it` cannot compute `cast(c as bigint) > 1` in batch 7, partition 0\n  caused by: cannot cast string 'x' to \
         value of int64 type, for the row with c = 'x'\n\nhint: `try_cast(x AS …)` makes it null.\n",
    );
    check_failure(
        &CastDefinition { types: vec![("c".into(), "int64".into())], on_error: Some(OnError::Fail) },
        "error: step `it` cannot compute `cast of c` in batch 7, partition 0\n  caused by: the value cannot be int64, for the row \
         with c = 'x'\n\nhint: `on-error = \"null\"` makes such values null, and `\"dead-letter\"` \
         sets their rows aside.\n",
    );
}

#[test]
fn a_cast_may_give_null_instead() {
    let table = table(&[(None, None, Some("x".into())), (None, None, Some("2".into()))]);
    let cast = CastDefinition { types: vec![("c".into(), "int64".into())], on_error: None };
    let built = plan(&cast, &[("t", schema())]).expect("a step");
    assert_eq!(texts(&run(&built, &[vec![table]]).expect("values")), ["NULL|NULL|NULL", "NULL|NULL|2"]);
}

#[test]
fn mistakes_in_expressions_say_what_to_write() {
    let expected = [
        ("aa > 1", "there is no column `aa` | Did you mean `a`? Texts stand in single quotes, as in 'a'."),
        ("A > 1", "there is no column `A` | Did you mean `a`? Columns are told apart by case."),
        ("c = \"x\"", "there is no column `x` | The input has `a`, `b`, `c`. Texts stand in single quotes, as in 'a'."),
        ("a >", "syntax error at the end: an expression is expected"),
        ("a > 1 b", "syntax error at character 7: end of expression is expected, and `b` stands there"),
        (
            "a + 1",
            "`a + 1` is int64, and a filter must be true or false | Compare it with something, as in `price > 10`.",
        ),
        ("uper(c) = 'A'", "there is no function `uper` | Did you mean `upper`?"),
        (
            "random() > 0.5",
            "there is no function `random` | A batch that is run again must give the same rows. `md5` or `sha256` of a column spreads rows, and plugins have random numbers that are the same in each run.",
        ),
        ("count(*) > 1", "`count` needs many rows | Aggregates stand in `aggregate` and `sql` steps."),
        (
            "row_number() over (order by a) = 1",
            "`row_number` needs many rows | Functions with `OVER` stand in `sql` steps.",
        ),
        ("a in (select 1)", "an expression cannot hold a query | Queries stand in `sql` steps."),
        ("", "the expression is empty"),
        (
            "c + 1 > make_array(1)",
            "`utf8 + int64` cannot be computed: the types do not fit | `cast(x AS …)`, or a `cast` step before, gives a column another type.",
        ),
        ("a as b", "`AS b` has no place in an expression | The key before the expression is the column's name."),
    ];
    let found = expected.map(|(condition, _)| (condition, mistakes(&FilterDefinition::new(condition)).join("\n")));
    assert_eq!(found, expected.map(|(condition, expected)| (condition, format!("filter: {expected}"))));
}

#[test]
fn every_mistake_of_a_step_is_told_at_its_key() {
    let with = WithDefinition::new([("x", "zz"), ("y", "a +"), ("n", "null")]);
    assert_eq!(
        mistakes(&with),
        [
            "with.x: there is no column `zz` | The input has `a`, `b`, `c`. Texts stand in single quotes, as in 'a'.",
            "with.y: syntax error at the end: an expression is expected",
            "with.n: `null` is always null and has no type | Give it a type, as in `cast(null AS bigint)`.",
        ]
    );
    assert_eq!(
        mistakes(&SelectDefinition::names(["a", "d", "a"])),
        ["select.1: there is no column `d` | The input has `a`, `b`, `c`.", "select.2: column `a` is named twice"]
    );
    let rename = RenameDefinition { names: vec![("z".into(), "y".into()), ("a".into(), "b".into())] };
    assert_eq!(
        mistakes(&rename),
        [
            "rename.z: there is no column `z` | The input has `a`, `b`, `c`.",
            "rename.a: two columns would be called `b` | Rename or drop the other one too.",
        ]
    );
    let cast = CastDefinition {
        types: vec![("a".into(), "in64".into()), ("b".into(), "list<utf8>".into())],
        on_error: Some(OnError::Fail),
    };
    assert_eq!(mistakes(&cast)[0], "cast.a: `in64` is no type | did you mean `int64`?");
    assert_eq!(
        mistakes(&DropDefinition { columns: vec!["a".into(), "b".into(), "c".into()] }),
        ["drop: no column would be left"]
    );
}

#[test]
fn columns_of_any_name_can_be_read() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let words: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let table = rows(vec![("userId", numbers), ("first name", words)]);
    let built = plan(&FilterDefinition::new("userId > 1 AND \"first name\" = 'y'"), &[("t", table.schema())])
        .expect("a condition");
    assert_eq!(texts(&run(&built, &[vec![table]]).expect("rows")), ["2|y"]);
    assert_eq!(built.output.field(0).data_type(), &DataType::Int64);
}
