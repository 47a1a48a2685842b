//! `sql`.

use arrow::datatypes::DataType;

use super::*;
use crate::sql::{OutOfMemory, QueryFailed};
use crate::step::sql::SqlDefinition;
use crate::task::pipeline::Cancelled;

/// Queries over the rows of tests, in two streams.
const QUERIES: [&str; 10] = [
    "SELECT c, count(*) AS n, sum(a) AS total FROM t GROUP BY c",
    "SELECT count(*) AS n, min(a) AS least, max(b) AS most FROM t",
    "SELECT * FROM t ORDER BY a, b, c LIMIT 5",
    "SELECT DISTINCT b FROM t",
    "SELECT a, b, row_number() OVER (PARTITION BY c ORDER BY a, b) AS n FROM t",
    "WITH big AS (SELECT * FROM t WHERE a > 0) SELECT c, avg(b) AS mean FROM big GROUP BY c HAVING count(*) > 1",
    "SELECT a FROM t UNION ALL SELECT b FROM t",
    "SELECT a, b FROM t WHERE a > (SELECT avg(a) FROM t)",
    "SELECT c FROM t WHERE a IN (SELECT b FROM t WHERE c IS NOT NULL)",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT count(*) FROM t)) SELECT i FROM n",
];

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_query_gives_what_datafusion_gives_for_the_whole_table_batch_after_batch(
        batches in proptest::collection::vec(proptest::collection::vec(a_row(), 1..30), 1..4),
        lengths in proptest::collection::vec(1usize..12, 1..6),
        query in 0..QUERIES.len(),
    ) {
        let built = plan(&SqlDefinition::new(QUERIES[query]), &[("t", schema())]).expect("a query");
        // One plan for all: what a batch has computed must not show in the next.
        for of in &batches {
            let table = table(of);
            let given = run(&built, &[cut(&table, &lengths)]).expect("rows");
            prop_assert_eq!(sorted(texts(&given)), sorted(model(QUERIES[query], &[("t", &table)])));
        }
    }

    #[test]
    fn by_key_gives_what_one_partition_gives(
        left in proptest::collection::vec(a_row(), 1..30),
        right in proptest::collection::vec(a_row(), 1..30),
        lengths in proptest::collection::vec(1usize..12, 1..6),
    ) {
        let query = "SELECT l.c AS c, count(*) AS n FROM \"left-rows\" AS l JOIN right_rows r ON l.c = r.c GROUP BY l.c";
        let (left, right) = (table(&left), table(&right));
        let streams = [("left-rows", schema()), ("right-rows", schema())];
        let sides = [cut(&left, &lengths), cut(&right, &lengths)];
        let one = SqlDefinition { others: vec!["right-rows".into()], ..SqlDefinition::new(query) };
        let several = one.clone().by(["c"]);
        let expected = sorted(model(query, &[("\"left-rows\"", &left), ("right_rows", &right)]));
        let one = plan(&one, &streams).expect("a query");
        let several = plan(&several, &streams).expect("a query");
        let Body::Gather(gather) = &several.body else { panic!("dealt out") };
        assert_eq!(gather.n_partitions, 4);
        prop_assert_eq!(sorted(texts(&run(&one, &sides).expect("rows"))), expected.clone());
        prop_assert_eq!(sorted(texts(&run(&several, &sides).expect("rows"))), expected);
    }
}

#[track_caller]
fn check_where(query: &str, is_narrow: bool, runs_when_empty: bool) {
    let built = plan(&SqlDefinition::new(query), &[("t", schema())]).expect("a query");
    match &built.body {
        Body::Narrow(_) => assert!(is_narrow, "{query}"),
        Body::Gather(gather) => {
            assert!(!is_narrow, "{query}");
            assert_eq!((gather.n_partitions, gather.runs_when_empty), (1, runs_when_empty), "{query}");
        }
    }
}

#[test]
fn a_query_row_by_row_runs_in_every_partition_and_others_in_one() {
    check_where("SELECT a + b AS x FROM t WHERE c = 'a'", true, false);
    check_where("SELECT x.a FROM (SELECT a FROM t) AS x", true, false);
    check_where("WITH x AS (SELECT a FROM t) SELECT a FROM x", true, false);
    check_where("SELECT unnest(make_array(a, b)) AS x FROM t", true, false);
    check_where("SELECT DISTINCT a FROM t", false, false);
    check_where("SELECT a FROM t LIMIT 1", false, false);
    check_where("SELECT a FROM t ORDER BY a", false, false);
    check_where("SELECT a, count(*) AS n FROM t GROUP BY a", false, false);
    check_where("SELECT a, sum(b) OVER () AS n FROM t", false, false);
    check_where("SELECT a FROM t WHERE a > (SELECT max(b) FROM t)", false, false);
    check_where("SELECT a FROM t UNION ALL SELECT b FROM t", false, false);
    check_where("SELECT count(*) AS n FROM t", false, true);
    check_where("SELECT 1 AS a UNION ALL SELECT a FROM t", false, true);
}

#[track_caller]
fn check_mistake(query: &str, expected: &str) {
    assert_eq!(mistakes(&SqlDefinition::new(query)), [expected]);
}

#[test]
fn only_queries_over_the_streams_of_the_step_are_taken() {
    let hint = "A step reads the streams of `from` and gives rows: write `SELECT …`, or `WITH … SELECT …`.";
    for (text, what) in [
        ("CREATE TABLE x (a int)", "`CREATE`"),
        ("DROP TABLE t", "`DROP`"),
        ("INSERT INTO t VALUES (1)", "`INSERT`"),
        ("COPY t TO 'x.csv'", "`COPY`"),
        ("SET x = 1", "`SET`"),
        ("EXPLAIN SELECT a FROM t", "`EXPLAIN`"),
        ("SHOW TABLES", "`SHOW`"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'x.csv'", "`CREATE EXTERNAL TABLE`"),
        ("WITH x AS (INSERT INTO t VALUES (1)) SELECT 1 FROM t", "`INSERT`"),
    ] {
        check_mistake(text, &format!("sql: {what} is no query | {hint}"));
    }
    check_mistake(
        "SELECT 1 AS a",
        "from: the query does not read `t` | Write `… FROM t …`, or leave `t` out of `from`.",
    );
    let there_are = "A query reads the streams of `from`, which are: `t`";
    check_mistake("SELECT * FROM users", &format!("sql: there is no stream `users` in `from` | {there_are}"));
    check_mistake("SELECT * FROM t, 'x.csv'", &format!("sql: there is no stream `x.csv` in `from` | {there_are}"));
    check_mistake(
        "SELECT * FROM t, read_csv('x.csv')",
        &format!("sql: there is no stream `read_csv` in `from` | {there_are}"),
    );
    check_mistake("SELECT * FROM public.t", &format!("sql: there is no stream `public.t` in `from` | {there_are}"));
    check_mistake("SELECT a FROM t; SELECT b FROM t", "sql: it is more than one statement | Make a step of each.");
    check_mistake(" ", "sql: the query is empty | Write `SELECT … FROM …`.");
}

#[test]
fn mistakes_in_queries_say_what_to_write() {
    let expected = [
        ("SELECT a FROM t WHERE", "sql: syntax error at the end: an expression is expected"),
        (
            "SELECT aa FROM t",
            "sql: there is no column `aa` | Did you mean `a`? Texts stand in single quotes, as in 'a'.",
        ),
        ("SELECT u.a FROM t", "sql: there is no column `a` of a stream `u` | Streams here: `t`"),
        (
            "SELECT t.d FROM t",
            "sql: there is no column `d` | The input has `a`, `b`, `c`. Texts stand in single quotes, as in 'a'.",
        ),
        (
            "SELECT a, b AS a FROM t",
            "sql: `a` stands for more than one column | Say of which stream it is, as in `stream.a`, or give columns of the result different names.",
        ),
        (
            "SELECT x.a, y.a FROM t x JOIN t y ON x.b = y.b",
            "sql: two columns of the result are called `a` | Give one of them another name: `a AS other`.",
        ),
        (
            "SELECT a FROM t x JOIN t y ON x.b = y.b",
            "sql: `a` stands for more than one column | Say of which stream it is, as in `stream.a`, or give columns of the result different names.",
        ),
        (
            "SELECT null AS n, a FROM t",
            "sql: column `n` is always null and has no type | Give it a type, as in `cast(null AS bigint)`.",
        ),
        (
            "SELECT a FROM t GROUP BY b",
            "sql: column `a` is neither grouped by nor in an aggregate | Add it to `GROUP BY`, or say which of its values: \
             `min(a)`, say.",
        ),
        (
            "SELECT a, a FROM t",
            "sql: two columns of the result are called `a` | Give one of them another name: `a AS other`.",
        ),
        (
            "SELECT a + 1, a + 1 FROM t",
            "sql: two columns of the result are the same, and have no names | Give them names: `x + 1 AS other`.",
        ),
        (
            "SELECT a,\n  aa AS x\nFROM t",
            "sql: there is no column `aa`, at line 2, character 3 of the text | Did you mean `a`? Texts stand in single quotes, as in 'a'.",
        ),
        (
            "SELECT a\nFROM t\nWHERE AND b",
            "sql: syntax error at line 3, character 11 of the text: end of statement is expected, and `b` stands there",
        ),
        ("SELECT cuont(a) FROM t", "sql: there is no function `cuont` | Did you mean `count`?"),
    ];
    let found = expected.map(|(query, _)| (query, mistakes(&SqlDefinition::new(query)).join("\n")));
    assert_eq!(found, expected.map(|(query, expected)| (query, expected.to_owned())));
}

#[test]
fn rows_are_dealt_out_by_columns_that_are_there_and_of_queries_that_group() {
    let by = SqlDefinition::new("SELECT count(*) AS n FROM t").by(["a"]);
    assert_eq!(
        mistakes(&by),
        [
            "by: the query gives a row when there are none: in each partition, with `by` | Group by the columns of `by`, or leave `by` out."
        ]
    );
    let by = SqlDefinition::new("SELECT a, count(*) AS n FROM t GROUP BY a").by(["d"]);
    assert_eq!(mistakes(&by), ["by: the input has no column `d` | The input has `a`, `b`, `c`."]);
}

#[test]
fn a_query_that_needs_more_memory_than_it_may_have_says_so() {
    let numbers: Vec<Row> = (0..20_000).map(|n| (Some(n), None, None)).collect();
    let sql = SqlDefinition::new("SELECT a, array_agg(b) AS all FROM t GROUP BY a".replace(" all", " every"))
        .memory(64 << 10);
    let built = plan(&sql, &[("t", schema())]).expect("a query");
    let error = run(&built, &[vec![table(&numbers)]]).expect_err("too much");
    assert!(error.downcast_ref::<OutOfMemory>().is_some(), "{}", error.report());
    assert!(
        error.report().starts_with(
            "error: the query of step `it` needs more than its 64 KiB of memory in batch 7, partition 0\n"
        )
    );
    let sort = SqlDefinition::new("SELECT * FROM t ORDER BY a").memory(64 << 10);
    let built = plan(&sort, &[("t", schema())]).expect("a query");
    let error = run(&built, &[vec![table(&numbers)]]).expect_err("too much");
    assert!(error.downcast_ref::<OutOfMemory>().is_some(), "{}", error.report());
    // A failed run leaves nothing behind.
    assert_eq!(run(&built, &[vec![table(&numbers[..10])]]).expect("little").len(), 1);
}

#[test]
fn a_query_that_fails_says_why() {
    let built = plan(&SqlDefinition::new("SELECT sum(a / b) AS x FROM t"), &[("t", schema())]).expect("a query");
    let error = run(&built, &[vec![table(&[(Some(1), Some(0), None)])]]).expect_err("no value");
    assert!(error.downcast_ref::<QueryFailed>().is_some());
    assert_eq!(
        error.report(),
        "error: the query of step `it` failed in batch 7, partition 0: divide by zero\n\nhint: `nullif(x, 0)` in the place of \
         the divisor makes it null.\n"
    );
}

#[test]
fn an_endless_query_ends_when_the_batch_is_given_up() {
    let query = "WITH RECURSIVE n AS (SELECT a AS i FROM t UNION ALL SELECT i FROM n) SELECT i FROM n";
    let session = crate::sql::Session::new(&[]).expect("a session");
    let tables = [crate::sql::QueryTable { name: "t".into(), schema: schema() }];
    let query = session.query(query, &tables).expect("a query");
    let task = task(0);
    let scope = crate::sql::Scope::new(&task);
    let bounds = crate::sql::RunBounds { step: "it", memory_bytes: 64 << 20 };
    let mut n_rows = 0;
    let given = query.run(vec![vec![table(&[(Some(1), None, None)])]], &scope, bounds, &mut |rows| {
        n_rows += rows.num_rows();
        task.cancelled.store(n_rows > 10, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    let error = given.expect_err("endless");
    assert!(error.downcast_ref::<Cancelled>().is_some(), "{}", error.report());
}

#[test]
fn a_plan_can_be_made_within_a_runtime_of_the_program() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let built =
        runtime.block_on(async { plan(&SqlDefinition::new("SELECT count(*) AS n FROM t"), &[("t", schema())]) });
    assert_eq!(built.expect("a query").output.field(0).data_type(), &DataType::Int64);
}
