//! Joins with a table.

use std::fs;

use super::super::JoinScope;
use super::*;
use crate::context::Context;
use crate::event_time::ClockId;
use crate::job::{Step, StepKind};
use crate::metrics::StepMeter;
use crate::plan::build_plan;
use crate::plugin::{Runtime, RuntimeConfig};
use crate::source::table::{LiveTable, TableSource};
use crate::source::{Columns, CsvOptions, FileFormat, FileSource};
use crate::step::StepFactory;
use crate::step::definition::{Body, PlanContext, Side, StepDefinition};
use crate::step::keyed::SpecProblem;
use crate::step::sql::SqlDefinition;
use crate::step::testing::{task, texts};

fn plan(table: &Arc<LiveTable>, options: JoinOptions) -> Result<Arc<dyn StepFactory>, Vec<SpecProblem>> {
    let runtime = Runtime::new(RuntimeConfig::default()).expect("a runtime");
    let side = |name: &str, schema: SchemaRef, table| Side {
        times: Default::default(),
        names: vec![name.to_owned()],
        schema,
        clock: Some(ClockId(0)),
        table,
    };
    let sides = [side("left", schema(0), None), side("right", table.schema().clone(), Some(table.clone()))];
    let context = PlanContext {
        step: "joined",
        settings: &Settings::default(),
        sides: &sides,
        clock: None,
        new_watermark: 0,
        meter: Arc::new(StepMeter::default()),
        runtime: &runtime,
        budget: &Default::default(),
        stop: &Default::default(),
        states_before: &[],
    };
    match JoinDefinition(options).plan(&context)?.body {
        Body::Narrow(factory) => Ok(factory),
        Body::Gather(_) => panic!("a join with a table has no shuffle"),
    }
}

#[test]
fn rows_are_joined_with_the_table_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("t.csv");
    fs::write(&path, "k,name\n0,ann\n2,bob\n2,bert\n,nobody\n").expect("written");
    let schema =
        Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("name", DataType::Utf8, true)]));
    let csv = FileFormat::Csv(Columns::Declared(schema), CsvOptions::default());
    let source = TableSource::new(FileSource::new(&path, csv));
    let table = Arc::new(LiveTable::new("t", source).expect("a table"));
    table.open().expect("it opens");
    let rows = [Some(0), None, Some(2), Some(4)].into_iter().zip(1..).map(|(key, id)| Row { key, id, time: None });
    let rows = record_batch(0, &rows.collect::<Vec<_>>());
    let run = |factory: &Arc<dyn StepFactory>, pushes: &[RecordBatch]| {
        let mut given = Vec::new();
        let mut emit = |rows: RecordBatch| {
            given.push(rows);
            Ok(())
        };
        let mut step = factory.start(&task(0)).expect("it starts");
        pushes.iter().try_for_each(|rows| step.push(rows.clone(), &mut emit)).expect("it runs");
        step.finish(&mut emit).expect("it runs");
        texts(&given).join(" ")
    };
    let of_type = |join_type| plan(&table, options(join_type, JoinScope::Batch)).expect("it fits");
    let left = of_type(JoinType::Left);
    let whole = run(&left, std::slice::from_ref(&rows));
    assert_eq!(whole, "0|1|NULL|ann NULL|2|NULL|NULL 2|3|NULL|bob 2|3|NULL|bert 4|4|NULL|NULL");
    assert_eq!(run(&left, &[rows.slice(0, 1), rows.slice(1, 3)]), whole);
    assert_eq!(run(&of_type(JoinType::Inner), std::slice::from_ref(&rows)), "0|1|NULL|ann 2|3|NULL|bob 2|3|NULL|bert");
    assert_eq!(run(&of_type(JoinType::Semi), std::slice::from_ref(&rows)), "0|1|NULL 2|3|NULL");
    assert_eq!(run(&of_type(JoinType::Anti), std::slice::from_ref(&rows)), "NULL|2|NULL 4|4|NULL");

    // A task that has started keeps what it started with; the next batch has the new rows.
    let mut started = left.start(&task(0)).expect("it starts");
    fs::write(&path, "k,name\n4,carl\n").expect("written");
    table.refresh(1);
    let mut given = Vec::new();
    let mut emit = |rows: RecordBatch| {
        given.push(rows);
        Ok(())
    };
    started.push(rows.clone(), &mut emit).expect("it runs");
    assert_eq!(texts(&given).join(" "), whole);
    assert_eq!(run(&left, &[rows.slice(3, 1)]), "4|4|NULL|carl");
}

#[test]
fn what_cannot_be_had_of_a_table_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.csv"), "k,name\nx,ann\n").expect("written");
    let csv = FileFormat::Csv(Columns::infer(), CsvOptions::default());
    let source = TableSource::new(FileSource::new(folder.path().join("t.csv"), csv));
    let table = Arc::new(LiveTable::new("t", source).expect("a table"));
    let latest = JoinScope::Latest { time: None, timeout: None };
    for (join_type, scope, key) in [
        (JoinType::Right, JoinScope::Batch, "join.type"),
        (JoinType::Full, JoinScope::Batch, "join.type"),
        (JoinType::Inner, latest, "join.latest"),
    ] {
        let problems = plan(&table, options(join_type, scope)).err().expect("it is refused");
        assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), [key]);
    }
}

#[test]
fn only_joins_read_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("t.txt"), "a\n").expect("written");
    let context = Context::new(Settings::default()).expect("a context");
    context.table("t", TableSource::new(FileSource::text(folder.path().join("t.txt"))));
    context.socket_text_stream("lines", "127.0.0.1:9999").join("joined", JoinOptions::new("t", ["value"])).print();
    assert_eq!(context.check().map(|plan| plan.tables.len()).ok(), Some(1));

    let mut job = context.into_job();
    let query = SqlDefinition { others: vec!["t".into()], ..SqlDefinition::new("select 1") };
    for (name, from, kind) in [("q", "lines", StepKind::Built(Arc::new(query))), ("u", "t", StepKind::Union)] {
        job.steps.push(Step { name: name.into(), from: vec![from.into()], kind, spans: Default::default() });
    }
    let runtime = Runtime::new(RuntimeConfig::default()).expect("a runtime");
    let problems = build_plan(&job, &runtime).err().expect("two steps read a table").0;
    let shown: Vec<_> =
        problems.iter().map(|problem| (problem.place.name.as_str(), problem.message.as_str())).collect();
    let message = "`t` is a table, and rows do not flow out of a table";
    assert_eq!(shown, [("q", message), ("u", message)]);
}
