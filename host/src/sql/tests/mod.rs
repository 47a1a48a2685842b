//! Steps of SQL, planned and run as in a job, held against DataFusion's own run over whole tables.

mod edges;
mod expressions;
mod functions;
mod queries;
mod strict;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use proptest::prelude::*;

use crate::error::Error;
use crate::ids::PartitionId;
use crate::job::Settings;
use crate::metrics::StepMeter;
use crate::operator::StopFlag;
use crate::plugin::{Runtime, RuntimeConfig};
use crate::shuffle::Shuffle;
use crate::step::definition::{Body, Built, PlanContext, Side, StepDefinition};
use crate::step::keyed::SpecProblem;
use crate::step::testing::{rows, task, texts};

/// Plans a step over streams of these names.
fn plan(definition: &dyn StepDefinition, streams: &[(&str, SchemaRef)]) -> Result<Built, Vec<SpecProblem>> {
    plan_with(&Settings::default(), definition, streams)
}

/// Plans a step of a job with these settings.
fn plan_with(
    settings: &Settings,
    definition: &dyn StepDefinition,
    streams: &[(&str, SchemaRef)],
) -> Result<Built, Vec<SpecProblem>> {
    plan_metered(settings, definition, streams, Arc::new(StepMeter::default()))
}

fn plan_metered(
    settings: &Settings,
    definition: &dyn StepDefinition,
    streams: &[(&str, SchemaRef)],
    meter: Arc<StepMeter>,
) -> Result<Built, Vec<SpecProblem>> {
    let sides: Vec<Side> = streams
        .iter()
        .map(|(name, schema)| Side {
            names: vec![(*name).to_owned()],
            schema: schema.clone(),
            clock: None,
            times: Default::default(),
            table: None,
        })
        .collect();
    definition.plan(&PlanContext {
        step: "it",
        settings,
        sides: &sides,
        clock: None,
        new_watermark: 0,
        meter,
        runtime: &Runtime::new(RuntimeConfig::default()).expect("a plugin runtime"),
        budget: &Default::default(),
        stop: &StopFlag::default(),
        states_before: &[],
    })
}

/// What a planned step gives for some pushes on each side; checks the schema of what it gives.
fn run(built: &Built, sides: &[Vec<RecordBatch>]) -> Result<Vec<RecordBatch>, Error> {
    let mut given = Vec::new();
    let mut emit = |rows: RecordBatch| {
        assert_eq!(rows.schema(), built.output);
        given.push(rows);
        Ok(())
    };
    match &built.body {
        Body::Narrow(factory) => {
            let mut step = factory.start(&task(0))?;
            sides[0].iter().try_for_each(|rows| step.push(rows.clone(), &mut emit))?;
            step.finish(&mut emit)?;
        }
        Body::Gather(gather) => {
            let mut shuffles = Vec::new();
            for (side, pushes) in gather.sides.iter().zip(sides) {
                let shuffle = Arc::new(Shuffle::new(side.partitioning.clone(), gather.n_partitions));
                let mut writer = shuffle.writer(0);
                pushes.iter().try_for_each(|rows| writer.push(rows.clone()))?;
                writer.finish()?;
                shuffles.push(shuffle);
            }
            for partition in 0..gather.n_partitions {
                let mut step = gather.factory.start(&task(partition))?;
                for (side, shuffle) in shuffles.iter().enumerate() {
                    for rows in shuffle.read(PartitionId(partition)) {
                        step.push_side(side, rows?, &mut emit)?;
                    }
                }
                step.finish(&mut emit)?;
            }
        }
    }
    Ok(given)
}

/// What DataFusion gives for a query over whole tables, with its own defaults.
fn model(query: &str, tables: &[(&str, &RecordBatch)]) -> Vec<String> {
    let context = datafusion::prelude::SessionContext::new();
    for (name, rows) in tables {
        context.register_batch(*name, (*rows).clone()).expect("a new table");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let given = runtime.block_on(async { context.sql(query).await?.collect().await });
    texts(&given.expect("a query that runs"))
}

/// A row of the tables of tests.
type Row = (Option<i64>, Option<i64>, Option<String>);

fn a_row() -> impl Strategy<Value = Row> {
    let number = || proptest::option::weighted(0.8, -5i64..5);
    (number(), number(), proptest::option::weighted(0.8, "[a-c]{0,2}"))
}

fn table(of: &[Row]) -> RecordBatch {
    let a: ArrayRef = Arc::new(Int64Array::from_iter(of.iter().map(|row| row.0)));
    let b: ArrayRef = Arc::new(Int64Array::from_iter(of.iter().map(|row| row.1)));
    let c: ArrayRef = Arc::new(StringArray::from_iter(of.iter().map(|row| row.2.as_deref())));
    rows(vec![("a", a), ("b", b), ("c", c)])
}

/// The rows in pushes of these lengths, in turn.
fn cut(rows: &RecordBatch, lengths: &[usize]) -> Vec<RecordBatch> {
    crate::step::testing::cut_into_tasks(rows, lengths, 1).concat()
}

fn schema() -> SchemaRef {
    table(&[]).schema()
}

/// The mistakes of a step over one stream, `t`, as `key: message | hint`.
fn mistakes(definition: &dyn StepDefinition) -> Vec<String> {
    let problems = plan(definition, &[("t", schema())]).err().unwrap_or_default();
    let key_of = |problem: &SpecProblem| problem.key.split('[').next().unwrap_or_default().to_owned();
    problems
        .into_iter()
        .map(|problem| match &problem.hint {
            Some(hint) => format!("{}: {} | {hint}", key_of(&problem), problem.message),
            None => format!("{}: {}", key_of(&problem), problem.message),
        })
        .collect()
}
