//! The kinds of steps that run an operator or built-in aggregates within a batch, as every other kind plans itself.

use std::sync::Arc;

use crate::job::{OperatorStep, StepKind};
use crate::operator::Operator;
use crate::plan::PlannedOperator;
use crate::step::KeyedOpenError;
use crate::step::aggregate::{AggregateSpec, value_of};
use crate::step::aggregate_with::AggregateWithSpec;
use crate::step::count::gather_of;
use crate::step::dead_letters::{LetterBox, letters_of};
use crate::step::definition::{Built, PlanContext};
use crate::step::keyed::{KeyedStep, SpecProblem};
use crate::step::reduce::ReduceSpec;
use crate::step::transform::TransformStep;

/// Plans a step of one of these kinds; `None`: it is of another.
pub(super) fn plan(kind: &StepKind, context: &PlanContext<'_>) -> Option<Result<Built, Vec<SpecProblem>>> {
    Some(match kind {
        StepKind::Transform(runs) => transform(runs, context),
        StepKind::Aggregate { by, select, partitions } => aggregate(by, select, *partitions, context),
        StepKind::AggregateWith { by, operator, partitions } => {
            let open = |loaded: Arc<dyn Operator>| {
                let (info, bounds) = (context.info(operator), context.bounds(operator));
                let spec = AggregateWithSpec::open(loaded, info, context.input(), by, bounds, context.meter.clone())?;
                let reads = spec.reads();
                Ok((spec, reads))
            };
            keyed("aggregate", by, operator, *partitions, context, open)
        }
        StepKind::Reduce { by, operator, partitions } => {
            let open = |loaded: Arc<dyn Operator>| {
                let (info, bounds) = (context.info(operator), context.bounds(operator));
                let spec = ReduceSpec::open(loaded, info, context.input(), by, bounds, context.meter.clone())?;
                let reads = spec.reads();
                Ok((spec, reads))
            };
            keyed("reduce", by, operator, *partitions, context, open)
        }
        StepKind::Union | StepKind::Repartition { .. } | StepKind::Built(_) => return None,
    })
}

fn transform(runs: &OperatorStep, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
    let dead_letters = letters_of(runs)?;
    let operator = context.load(runs, "transform").map_err(|problem| vec![problem])?;
    let (info, bounds) = (context.info(runs), context.bounds(runs));
    let input = context.input();
    let opened = TransformStep::open(operator.clone(), info, input.clone(), bounds, context.meter.clone());
    let opened = opened.map_err(|error| vec![context.refused("transform", error)])?;
    let reads = opened.plan().reads.iter().map(|&index| input.field(index).name().clone()).collect();
    let output = opened.output_schema().clone();
    // What is carried is the row's own; of what a plugin writes it says nothing.
    let times = context.times().through(&output, |name| {
        let is_written = opened.plan().writes.column_with_name(name).is_some();
        (!is_written).then(|| name.to_owned())
    });
    let operators = vec![planned_operator(operator, runs, reads)];
    let opened = opened.with_dead_letters(LetterBox::of_step(context, dead_letters, &operators));
    Ok(Built { operators, times: Some(times), ..Built::narrow(output, Arc::new(opened)) })
}

fn aggregate(
    by: &[String],
    select: &[(String, String)],
    partitions: Option<u32>,
    context: &PlanContext<'_>,
) -> Result<Built, Vec<SpecProblem>> {
    let spec = AggregateSpec::resolve(context.step, context.input(), by, select);
    let spec = spec.map_err(|problems| within("aggregate", problems))?;
    let n_partitions = partitions.unwrap_or(context.settings.partitions);
    let output = spec.output_schema();
    let times = context.times().through(&output, |name| value_of(name, by, select));
    Ok(Built { times: Some(times), ..Built::gather(output, gather_of(context, &spec, n_partitions)) })
}

/// A step by key that an operator computes; `open` gives it and the columns that it reads.
fn keyed<S: KeyedStep>(
    kind: &str,
    by: &[String],
    runs: &OperatorStep,
    partitions: Option<u32>,
    context: &PlanContext<'_>,
    open: impl FnOnce(Arc<dyn Operator>) -> Result<(S, Vec<String>), KeyedOpenError>,
) -> Result<Built, Vec<SpecProblem>> {
    let operator = context.load(runs, &format!("{kind}.plugin")).map_err(|problem| vec![problem])?;
    let (spec, reads) = open(operator.clone()).map_err(|error| match error {
        KeyedOpenError::Open(error) => vec![context.refused(kind, error)],
        KeyedOpenError::Spec(problems) => within(kind, problems),
    })?;
    let planned = planned_operator(operator, runs, reads);
    let n_partitions = partitions.unwrap_or(context.settings.partitions);
    let output = spec.output_schema();
    let times = context.times().through(&output, |name| value_of(name, by, &[]));
    Ok(Built {
        operators: vec![planned],
        times: Some(times),
        ..Built::gather(output, gather_of(context, &spec, n_partitions))
    })
}

/// Problems of a kind's own table.
fn within(kind: &str, mut problems: Vec<SpecProblem>) -> Vec<SpecProblem> {
    problems.iter_mut().for_each(|problem| problem.key = format!("{kind}.{}", problem.key));
    problems
}

fn planned_operator(operator: Arc<dyn Operator>, runs: &OperatorStep, reads: Vec<String>) -> PlannedOperator {
    PlannedOperator {
        sha256: operator.sha256(),
        operator,
        reads,
        limits: runs.limits.clone(),
        on_error: runs.on_error.clone(),
    }
}
