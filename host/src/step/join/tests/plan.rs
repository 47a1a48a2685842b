//! How joins are read, what their columns are, and what is refused.

use std::path::Path;
use std::time::Duration;

use super::super::JoinScope;
use super::*;
use crate::job::table::read_options;

fn read(text: &str) -> Result<JoinOptions, String> {
    match read_options(&format!("join = {{ {text} }}"), Path::new("."), |table| JoinOptions::parse(table).options) {
        Ok(options) => Ok(options.expect("options without mistakes")),
        Err(problems) => Err(problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; ")),
    }
}

#[track_caller]
fn check_mistake(text: &str, expected: &str) {
    assert_eq!(read(text), Err(expected.to_owned()), "{text}");
}

#[test]
fn options_are_read() {
    let least = JoinOptions::new("r", ["k"]);
    assert_eq!(read("with = 'r', on = 'k'"), Ok(least.clone()));
    assert_eq!(read("with = 'r', on = ['k']"), Ok(least.clone()));
    let full = JoinOptions {
        on: vec![("k".into(), "id".into())],
        join_type: JoinType::Anti,
        prefix: Some("r_".into()),
        partitions: Some(3),
        ..least.clone()
    };
    assert_eq!(read("with = 'r', on = { k = 'id' }, type = 'anti', prefix = 'r_', partitions = 3"), Ok(full));
    let at = ("at".to_owned(), "at".to_owned());
    let within = JoinScope::Interval { time: at.clone(), before: Duration::from_secs(600), after: Duration::ZERO };
    let with = |scope| Ok(JoinOptions { scope, ..least.clone() });
    assert_eq!(read("with = 'r', on = 'k', within = { before = '10m' }, time = 'at'"), with(within));
    let window = |slide| JoinScope::Window {
        time: ("at".into(), "seen".into()),
        size: Duration::from_secs(60),
        slide: Duration::from_secs(slide),
    };
    let time = "time = { left = 'at', right = 'seen' }";
    assert_eq!(read(&format!("with = 'r', on = 'k', window = {{ size = '1m', {time} }}")), with(window(60)));
    assert_eq!(
        read(&format!("with = 'r', on = 'k', window = {{ size = '1m', slide = '5s', {time} }}")),
        with(window(5))
    );
    let latest = |time, timeout| JoinScope::Latest { time, timeout };
    assert_eq!(read("with = 'r', on = 'k', latest = true"), with(latest(None, None)));
    let timeout = Some(Duration::from_secs(86_400));
    assert_eq!(
        read("with = 'r', on = 'k', latest = true, time = 'at', timeout = '24h'"),
        with(latest(Some(at), timeout))
    );
}

#[test]
fn mistakes_are_named() {
    check_mistake("", "`with` is missing in `join`; `on` is missing in `join`");
    check_mistake("with = 'r', on = []", "`on` is empty");
    check_mistake("with = 'r', on = 'k', late = 'x'", "no row is late for a join without event time");
    let latest = "with = 'r', on = 'k', latest = true, time = 'at'";
    check_mistake(&format!("{latest}, late = {{ right = 'x' }}"), "no right row is late for `latest`");
    check_mistake(&format!("{latest}, late = {{}}"), "`left` is missing in `late`");
    check_mistake("with = 'r', on = ['k', 'k']", "column `k` is named twice");
    check_mistake("with = 'r', on = 'k', type = 'outer'", "`type` cannot be `outer`");
    check_mistake("with = 'r', on = 'k', within = { before = '1s' }", "`time` is missing in `join`");
    check_mistake("with = 'r', on = 'k', within = {}, time = 'at'", "`before` is missing in `within`");
    check_mistake("with = 'r', on = 'k', time = 'at'", "`time` says nothing here");
    check_mistake("with = 'r', on = 'k', timeout = '1s'", "`timeout` is for joins with `latest = true`");
    check_mistake("with = 'r', on = 'k', latest = false", "`latest` can only be true");
    check_mistake("with = 'r', on = 'k', latest = true, timeout = '0s'", "`timeout` must be longer than 0");
    check_mistake(
        "with = 'r', on = 'k', latest = true, within = { before = '1s' }, time = 'at'",
        "`latest` does not go with `within`",
    );
    check_mistake("with = 'r', on = 'k', window = { time = 'at' }", "`size` is missing in `window`");
    check_mistake(
        "with = 'r', on = 'k', window = { size = '1h', slide = '1s', time = 'at' }",
        "a row would be in more than 1000 windows",
    );
    check_mistake("with = 'r', on = 'k', typ = 'left'", "unknown key `typ` in `join`");
}

fn fields(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let fields = fields.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[track_caller]
fn check_plan(text: &str, sides: [SchemaRef; 2], clock: bool, expected: Result<&str, &str>) {
    let definition = JoinDefinition(read(text).expect("options without mistakes"));
    let planned = DefinitionRun::plan(&definition, &sides, &Settings::default(), clock);
    let nullable = |field: &Arc<Field>| if field.is_nullable() { "?" } else { "" };
    let shown = planned.map_err(|problems| {
        let shown = problems.iter().map(|problem| format!("{}: {}", problem.key, problem.message));
        shown.collect::<Vec<_>>().join("; ")
    });
    let shown = shown.map(|planned| {
        let fields = planned.built.output.fields().iter().map(|field| format!("{}{}", field.name(), nullable(field)));
        fields.collect::<Vec<_>>().join(" ")
    });
    assert_eq!(shown, expected.map(str::to_owned).map_err(str::to_owned));
}

fn sides() -> [SchemaRef; 2] {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    [
        fields(&[("k", DataType::Int64, false), ("n", DataType::Utf8, false), ("at", time.clone(), false)]),
        fields(&[("k", DataType::Int64, false), ("n", DataType::Int8, false), ("seen", time, false)]),
    ]
}

#[test]
fn columns_stand_side_by_side_and_shared_keys_once() {
    let clash = "join: both `side-0` and `side-1` have a column `n`";
    check_plan("with = 'r', on = 'k'", sides(), false, Err(clash));
    check_plan("with = 'r', on = 'k', prefix = 'r_'", sides(), false, Ok("k n at r_n seen"));
    check_plan("with = 'r', on = 'k', prefix = 'r_', type = 'left'", sides(), false, Ok("k n at r_n? seen?"));
    check_plan("with = 'r', on = 'k', prefix = 'r_', type = 'right'", sides(), false, Ok("k n? at? r_n seen"));
    check_plan("with = 'r', on = 'k', prefix = 'r_', type = 'full'", sides(), false, Ok("k n? at? r_n? seen?"));
    check_plan("with = 'r', on = 'k', type = 'semi'", sides(), false, Ok("k n at"));
    check_plan(
        "with = 'r', on = { at = 'seen' }, prefix = 'r_', type = 'full'",
        sides(),
        false,
        Ok("k? n? at? r_k? r_n? seen?"),
    );
    check_plan(
        "with = 'r', on = 'k', prefix = 'r_', window = { size = '1m', time = { left = 'at', right = 'seen' } }",
        sides(),
        true,
        Ok("k n at r_n seen window_start window_end"),
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    check_plan(
        "with = 'r', on = 'id', type = 'semi'",
        sides(),
        false,
        Err("join.on: `side-0` has no column `id`; join.on: `side-1` has no column `id`"),
    );
    check_plan(
        "with = 'r', on = 'n', prefix = 'r_'",
        sides(),
        false,
        Err(
            "join.on: `side-0.n` has type utf8 and `side-1.n` has type int8, and values of different types are not equal",
        ),
    );
    let no_time = "join.within: `side-0` has no event time, and without its watermark rows would be kept for ever; \
                   join.within: `side-1` has no event time, and without its watermark rows would be kept for ever";
    let within = "within = { before = '1s' }, time = { left = 'at', right = 'seen' }";
    check_plan(&format!("with = 'r', on = 'k', type = 'semi', {within}"), sides(), false, Err(no_time));
    check_plan(
        "with = 'r', on = 'k', type = 'semi', within = { before = '1s' }, time = 'at'",
        sides(),
        true,
        Err("join.time.right: `side-1` has no column `at`"),
    );
    check_plan(
        "with = 'r', on = 'k', type = 'semi', within = { before = '1s' }, time = { left = 'n', right = 'seen' }",
        sides(),
        true,
        Err("join.time.left: column `n` of `side-0` has type utf8, which is no time"),
    );
    check_plan(
        "with = 'r', on = 'k', type = 'full', latest = true, prefix = 'r_'",
        sides(),
        false,
        Err("join.type: a full join with the latest rows of a stream cannot be had"),
    );
}
