//! What is refused when the step is put together, and the stream of late rows.

use super::*;

fn definition(by: &[&str], over: Over) -> WindowedDefinition {
    let by = by.iter().map(|name| (*name).to_owned()).collect();
    WindowedDefinition { computes: What::Sums { floats: false }.computes(), by, partitions: None, over }
}

#[track_caller]
fn check(definition: &WindowedDefinition, interval_ms: u64, clock: bool, expected: &[(&str, &str)]) {
    let settings = Settings { batch_interval: std::time::Duration::from_millis(interval_ms), ..Settings::default() };
    let planned = DefinitionRun::plan(definition, &[input(&[], true).schema()], &settings, clock);
    let problems = planned.err().unwrap_or_default();
    let problems: Vec<_> = problems.iter().map(|it| (it.key.as_str(), it.message.as_str())).collect();
    assert_eq!(problems, expected);
}

fn minute() -> Window {
    Window::tumbling(std::time::Duration::from_secs(60))
}

#[test]
fn what_does_not_fit_is_refused() {
    let no_clock = "a window on event time ends when a watermark says so, and the rows of `side-0` have none";
    check(&definition(&["key"], Over::Window(minute().on("ts"))), 0, false, &[("aggregate.window.time", no_clock)]);
    check(
        &definition(&["kye"], Over::Window(minute().on("tz"))),
        0,
        true,
        &[("aggregate.window.time", "the input has no column `tz`"), ("aggregate.by", "the input has no column `kye`")],
    );
    check(
        &definition(&[], Over::Window(minute().on("n"))),
        0,
        true,
        &[("aggregate.window.time", "column `n` has type int64, which is no time")],
    );
    let sliding = Window::sliding(std::time::Duration::from_secs(60), std::time::Duration::from_secs(9));
    check(
        &definition(&[], Over::Window(sliding)),
        2_000,
        false,
        &[("aggregate.window.slide", "`slide` is 9s, which is no multiple of the batch interval, 2s")],
    );
    check(
        &definition(&[], Over::Window(minute())),
        7_000,
        false,
        &[("aggregate.window.size", "`size` is 1m, which is no multiple of the batch interval, 7s")],
    );
    check(&definition(&[], Over::Window(minute())), 0, false, &[]);
    let us = std::time::Duration::from_micros;
    let many = "a row would belong to 60000000 windows, and 100000 are the most";
    let sliding = Window::sliding(us(60_000_000), us(1));
    check(&definition(&[], Over::Window(sliding)), 0, false, &[("aggregate.window.slide", many)]);
    let none = Window::sliding(us(60), us(0));
    check(
        &definition(&[], Over::Window(none)),
        0,
        false,
        &[("aggregate.window.slide", "`slide` must be longer than 0")],
    );
    let none = Window::session(us(0));
    check(&definition(&[], Over::Window(none)), 0, false, &[("aggregate.window.gap", "`gap` must be longer than 0")]);
    let none = Window::count(0, 1);
    let message = "`count` must be between 1 and 4294967296";
    check(&definition(&[], Over::Window(none)), 0, false, &[("aggregate.window.count", message)]);
}

#[test]
fn the_columns_of_a_window_have_names_of_their_own() {
    let mut taken = definition(&["key"], Over::Window(minute()));
    taken.computes = Computes::Select(vec![("window_end".into(), "max(ts)".into())]);
    let message = "the output would have two columns `window_end`: windows have one of that name";
    check(&taken, 0, false, &[("aggregate.select.window_end", message)]);
    let renamed: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("window_start", DataType::Int64, false),
        Field::new("n", DataType::Int64, true),
    ]));
    let planned =
        DefinitionRun::plan(&definition(&["window_start"], Over::Window(minute())), &[renamed], &settings(1), true);
    assert_eq!(planned.err().expect("it is taken")[0].key, "aggregate.by");
}

#[test]
fn a_window_has_its_columns_first_and_a_reducer_does_not_reduce_its_time() {
    let names = |what: What| {
        let schema = input(&[], what.has_quarters()).schema();
        let over = Over::Window(minute().on("ts"));
        let step = WindowedDefinition { computes: what.computes(), by: vec!["key".into()], partitions: None, over };
        let run = DefinitionRun::plan(&step, &[schema], &settings(1), true).unwrap_or_else(|error| panic!("{error:?}"));
        let fields = run.built.output.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        fields.join(" ")
    };
    assert_eq!(names(What::Sums { floats: false }), "window_start window_end key c0 c1");
    assert_eq!(names(What::Joined { invertible: true }), "window_start window_end key n letters");
}

#[test]
fn late_rows_are_a_stream_of_their_own() {
    let ten = std::time::Duration::from_micros(10);
    let window = Window::sliding(ten, ten / 2).on("ts").lateness(ten / 5);
    let late = LateDefinition { key: "aggregate.late", window };
    let mut run = DefinitionRun::plan(&late, &[input(&[], false).schema()], &settings(2), true)
        .unwrap_or_else(|error| panic!("{error:?}"));
    let sample = |at| Sample { key: Some(1), n: None, letter: b'a', at };
    let rows = input(&[sample(Some(0)), sample(Some(5)), sample(None), sample(Some(9)), sample(Some(10))], false);
    let mut late_at = |late_us| {
        let watermark = Watermark { late_us, now_us: Some(30) };
        let batch = TestBatch { watermark, sides: vec![vec![vec![rows.clone()]]], ..TestBatch::default() };
        let given = run.batch(&batch).expect("it runs");
        let times = given[0][0].column(3).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        times.iter().collect::<Vec<_>>()
    };
    assert_eq!(late_at(None), [None]);
    // The last window of 0 to 4 ends at 10, that of 5 to 9 at 15, and they stay open for 2 more.
    assert_eq!(late_at(Some(16)), [Some(0), None]);
    assert_eq!(late_at(Some(17)), [Some(0), Some(5), None, Some(9)]);
}
