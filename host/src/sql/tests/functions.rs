//! Operators as functions.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::error::Explain;
use crate::job::OnError;
use crate::job::table::read_options;
use crate::operator::{
    Aggregator, Call, CallError, CallSite, Carried, Grouper, Limits, OpenError, Operator, Reducer, Rejection, Role,
    StepInfo, Transform, TransformOutput, TransformPlan, Updater,
};
use crate::sql::FunctionDefinition;
use crate::step::filter::FilterDefinition;
use crate::step::select::SelectDefinition;
use crate::step::sql::SqlDefinition;
use crate::step::testing::{Registered, SumJoinMean};

/// Reads `value`, a text, and writes it in capitals with its number in the partition. Rejects `bb`, fails on `c`, leaves out
/// `d`, gives `aa` twice; gives the rows of a call from the last to the first.
#[derive(Debug, Clone)]
struct Shout;

struct Shouting(TransformPlan);

impl Operator for Shout {
    fn name(&self) -> &str {
        "shout"
    }

    fn roles(&self) -> Vec<Role> {
        vec![Role::Transform]
    }

    fn open_transform(&self, step: &StepInfo, input: &SchemaRef) -> Result<Box<dyn Transform>, OpenError> {
        let fits = input
            .column_with_name("value")
            .is_some_and(|(_, field)| field.data_type() == &arrow::datatypes::DataType::Utf8);
        if !fits {
            return Err(OpenError::Schema {
                operator: "shout".into(),
                step: step.step.clone(),
                reason: "column `value` is missing, utf8 is expected".into(),
                input: crate::plan::describe_schema(input),
            });
        }
        let writes = Arc::new(Schema::new(vec![Field::new("shouted", arrow::datatypes::DataType::Utf8, false)]));
        let reads = vec![input.index_of("value").expect("it is there")];
        Ok(Box::new(Shouting(TransformPlan { reads, writes, carries: Carried::Nothing })))
    }

    fn open_reducer(&self, step: &StepInfo, _: &SchemaRef) -> Result<Box<dyn Reducer>, OpenError> {
        Err(OpenError::MissingRole {
            operator: "shout".into(),
            step: step.step.clone(),
            role: Role::Reducer,
            has: self.roles(),
        })
    }

    fn open_grouper(&self, step: &StepInfo, _: &SchemaRef, _: &[SchemaRef]) -> Result<Box<dyn Grouper>, OpenError> {
        let has = self.roles();
        Err(OpenError::MissingRole { operator: "shout".into(), step: step.step.clone(), role: Role::Grouper, has })
    }

    fn open_updater(&self, step: &StepInfo, _: &SchemaRef, _: &SchemaRef) -> Result<Box<dyn Updater>, OpenError> {
        let has = self.roles();
        Err(OpenError::MissingRole { operator: "shout".into(), step: step.step.clone(), role: Role::Updater, has })
    }

    fn open_aggregator(&self, step: &StepInfo, _: &SchemaRef) -> Result<Box<dyn Aggregator>, OpenError> {
        Err(OpenError::MissingRole {
            operator: "shout".into(),
            step: step.step.clone(),
            role: Role::Aggregator,
            has: self.roles(),
        })
    }
}

impl Transform for Shouting {
    fn plan(&self) -> &TransformPlan {
        &self.0
    }

    fn process(&mut self, call: &Call, input: &RecordBatch) -> Result<TransformOutput, CallError> {
        let texts = input.column(0).as_string::<i32>();
        let (mut values, mut origin, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for row in (0..texts.len()).rev() {
            let text = if texts.is_null(row) { "" } else { texts.value(row) };
            match text {
                "bb" => rejected.push(Rejection { row: row as u32, reason: "too quiet".into() }),
                "c" => {
                    let site = CallSite {
                        operator: "shout".into(),
                        step: "it".into(),
                        batch_id: call.batch_id,
                        partition: call.partition,
                        n_rows: texts.len(),
                    };
                    return Err(CallError::Invalid { site: Box::new(site), rule: "it is hoarse".into() });
                }
                "d" => {}
                text => {
                    if text == "aa" {
                        values.push(text.to_owned());
                        origin.push(row as u32);
                    }
                    values.push(format!("{}{}", text.to_uppercase(), call.first_row + row as u64));
                    origin.push(row as u32);
                }
            }
        }
        let column: ArrayRef = Arc::new(StringArray::from(values));
        let rows = RecordBatch::try_new(self.0.writes.clone(), vec![column]).expect("its schema");
        Ok(TransformOutput { rows, origin: Some(origin), rejected })
    }
}

fn shout() -> FunctionDefinition {
    FunctionDefinition::new("shout", Arc::new(Shout) as Arc<dyn Operator>)
}

fn mean() -> FunctionDefinition {
    let operator: Arc<dyn Operator> = Arc::new(Registered(Arc::new(SumJoinMean::new())));
    FunctionDefinition::new("mean_of", operator)
}

fn words(words: &[&str]) -> RecordBatch {
    table(&words.iter().map(|word| (None, None, Some((*word).to_owned()))).collect::<Vec<_>>())
}

#[test]
fn a_transform_is_a_function_of_its_arguments() {
    let select = SelectDefinition::new([("c", "c"), ("x", "shout(c || '!')"), ("y", "shout('k')")]).function(shout());
    let built = plan(&select, &[("t", schema())]).expect("a function");
    let names = |built: &Built| built.operators.iter().map(|it| it.operator.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&built), ["shout"]);
    let given = run(&built, &[vec![words(&["a", "b"]), words(&["c"])]]).expect("values");
    // Each call says how many rows the function has had: calls with different arguments are of one function.
    let given = texts(&given);
    assert_eq!(
        given
            .iter()
            .map(|row| row.split('|').collect::<Vec<_>>())
            .map(|row| row[1].to_owned())
            .collect::<Vec<_>>()
            .len(),
        3
    );
    assert!(
        given[0].starts_with("a|A!0|K") && given[1].starts_with("b|B!1|K") && given[2].starts_with("c|C!"),
        "{given:?}"
    );
}

#[test]
fn a_row_that_a_function_rejects_is_null_and_one_that_it_fails_on_fails() {
    let with = || SelectDefinition::new([("x", "shout(c)")]).function(shout());
    let built = plan(&with(), &[("t", schema())]).expect("a function");
    assert_eq!(texts(&run(&built, &[vec![words(&["a", "bb", "b"])]]).expect("values")), ["A0", "NULL", "B2"]);
    let error = run(&built, &[vec![words(&["a", "c"])]]).expect_err("a failure");
    let error = error.downcast_ref::<CallError>().expect("what the operator said");
    assert_eq!(error.site().step, "it");
    assert!(error.hint().is_some());
    for (word, what) in [("d", "gives no row for some rows"), ("aa", "gives several rows for one row")] {
        let error = run(&built, &[vec![words(&["a", word])]]).expect_err("not a function");
        assert_eq!(error.to_string(), format!("`shout`, which is `shout`, {what}"));
    }
}

#[test]
fn a_function_in_a_filter_and_in_a_query_is_the_same() {
    let filter = FilterDefinition::new("shout(c) = 'A0'").function(shout());
    let built = plan(&filter, &[("t", schema())]).expect("a function");
    assert_eq!(texts(&run(&built, &[vec![words(&["a", "b"])]]).expect("rows")), ["NULL|NULL|a"]);
    let sql = SqlDefinition::new("SELECT shout(c) AS x FROM t ORDER BY c DESC").function(shout());
    let built = plan(&sql, &[("t", schema())]).expect("a function");
    assert_eq!(texts(&run(&built, &[vec![words(&["a", "b"])]]).expect("rows")), ["B1", "A0"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_aggregator_is_an_aggregate_of_queries(
        of in proptest::collection::vec((-9i64..9, "[a-h]"), 1..60),
        lengths in proptest::collection::vec(1usize..12, 1..6),
        rows_per_call in 1u32..20,
        groups_max in 1usize..5,
    ) {
        let of: Vec<Row> = of.into_iter().map(|(a, c)| (Some(a), None, Some(c))).collect();
        let table = table(&of);
        // Calls of few rows, and an operator that returns too much for many groups.
        let settings = Settings { rows_per_call, ..Settings::default() };
        let operator: Arc<dyn Operator> = Arc::new(Registered(Arc::new(SumJoinMean { groups_max, ..SumJoinMean::new() })));
        for (query, same) in [
            ("SELECT c, mean_of(a) AS m FROM t GROUP BY c", "SELECT c, avg(a) AS m FROM t GROUP BY c"),
            (
                "SELECT c, mean_of(a) FILTER (WHERE a > 0) AS m, count(*) AS n FROM t GROUP BY c",
                "SELECT c, avg(a) FILTER (WHERE a > 0) AS m, count(*) AS n FROM t GROUP BY c",
            ),
            ("SELECT mean_of(a) AS m FROM t", "SELECT avg(a) AS m FROM t"),
            (
                "SELECT c, mean_of(a) OVER (PARTITION BY c) AS m FROM t",
                "SELECT c, avg(a) OVER (PARTITION BY c) AS m FROM t",
            ),
        ] {
            let sql = SqlDefinition::new(query).function(FunctionDefinition::new("mean_of", operator.clone()));
            let built = plan_with(&settings, &sql, &[("t", schema())]).expect("a function");
            let mut given = texts(&run(&built, &[cut(&table, &lengths)]).expect("rows"));
            given.sort();
            let mut expected = model(same, &[("t", &table)]);
            expected.sort();
            prop_assert_eq!(given, expected, "{}", query);
        }
    }
}

/// Groups come to a plugin many in one call, and few when their accumulators are merged.
#[test]
fn groups_of_a_query_share_calls() {
    let of: Vec<Row> = (0..40_000).map(|row| (Some(row), Some(row % 10_000), None)).collect();
    let sql = SqlDefinition::new("SELECT b, mean_of(a) AS m FROM t GROUP BY b").function(mean());
    let meter = Arc::new(StepMeter::default());
    let built = plan_metered(&Settings::default(), &sql, &[("t", schema())], meter.clone()).expect("a function");
    let given = run(&built, &[cut(&table(&of), &[10_000])]).expect("rows");
    assert_eq!(given.iter().map(RecordBatch::num_rows).sum::<usize>(), 10_000);
    assert!(meter.calls.get() < 30, "{} calls", meter.calls.get());
}

#[test]
fn a_plan_knows_the_plugin_of_every_function() {
    let sql = SqlDefinition::new("SELECT shout(c) AS x, mean_of(a) AS m FROM t GROUP BY c");
    let built = plan(&sql.function(shout()).function(mean()), &[("t", schema())]).expect("two functions");
    let shown = built.operators.iter().map(|it| (it.operator.name().to_owned(), it.reads.clone()));
    let reads = || vec!["value".to_owned()];
    assert_eq!(shown.collect::<Vec<_>>(), [("shout".to_owned(), reads()), ("sum-join-mean".to_owned(), reads())]);
}

#[test]
fn an_aggregate_of_no_rows_is_null() {
    let sql = SqlDefinition::new("SELECT mean_of(a) AS m, count(*) AS n FROM t").function(mean());
    let built = plan(&sql, &[("t", schema())]).expect("a function");
    assert_eq!(texts(&run(&built, &[vec![]]).expect("rows")), ["NULL|0"]);
}

#[test]
fn functions_are_read_with_what_they_may_use() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    std::fs::write(folder.path().join("p.wasm"), b"").expect("a file in it");
    let text = "filter = 'loud(a, b)'
        on-error = 'skip-batch'
        functions = { loud = { plugin = 'p.wasm', reads = ['x', 'y'], config = { z = 1 }, limits = { memory = '1MiB' } } }";
    let read = read_options(text, folder.path(), |table| FilterDefinition::parse(table, &Limits::default()));
    let read = read.expect("no mistake").expect("a filter");
    let [function] = &read.functions[..] else { panic!("{read:?}") };
    assert_eq!((function.name.as_str(), &function.reads[..]), ("loud", &["x".to_owned(), "y".to_owned()][..]));
    assert_eq!(function.operator.config, serde_json::json!({ "z": 1 }));
    assert_eq!((function.operator.limits.memory_bytes, read.on_error), (1 << 20, OnError::SkipBatch));
}

#[test]
fn functions_that_do_not_fit_are_mistakes() {
    let select = SelectDefinition::new([("x", "shout(a)")]).function(shout());
    assert_eq!(
        mistakes(&select),
        [
            "functions.shout.reads: `shout` cannot be called like this: `shout` refuses the input of step `it`: column `value` is \
          missing, utf8 is expected | The input has the columns {value: int64?}. They are called so by `reads = [\"value\"]`: name \
          there the columns that the plugin reads, in the order of the arguments."
        ]
    );
    let select = SelectDefinition::new([("x", "shout(c, c)")]).function(shout());
    assert_eq!(mistakes(&select), ["select.x: the function 'shout' expected 1 arguments but received 2"]);
    let select =
        SelectDefinition::new([("x", "upper(c)")]).function(FunctionDefinition { name: "upper".into(), ..shout() });
    assert_eq!(mistakes(&select), ["functions.upper: there is a function `upper` already | Give it another name."]);
    let select = SelectDefinition::new([("x", "mean_of(a)")]).function(mean());
    assert_eq!(
        mistakes(&select),
        ["select.x: `mean_of` needs many rows | Aggregates stand in `aggregate` and `sql` steps."]
    );
    let sql = SqlDefinition::new("SELECT mean_of(DISTINCT a) AS m, count(*) AS n FROM t").function(mean());
    assert_eq!(mistakes(&sql), ["sql: `mean_of` is a plugin, and cannot be DISTINCT"]);
}
