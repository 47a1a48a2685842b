//! What a guest says, held against the contract: its plans, the numbers in its answers, their size.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use crate::operator::layout::{self, FlatField};
use crate::operator::{
    self, AggregatorPlan, Carried, GrouperOutput, GrouperPlan, Limits, Rejection, TransformOutput, TransformPlan,
    UpdaterInput, UpdaterOutput, UpdaterPlan,
};
use crate::plugin::breach::Breach;
use crate::plugin::contract::{
    RawAggregatorPlan, RawBatch, RawGrouperOutput, RawGrouperPlan, RawOutput, RawTransformPlan, RawUpdaterOutput,
    RawUpdaterPlan,
};
use crate::plugin::text;

/// How many names of columns a message lists.
const NAMES_SHOWN_MAX: usize = 20;

/// Checks a transform's plan against the schema of its input.
pub(crate) fn transform_plan(raw: RawTransformPlan, input: &Schema) -> Result<TransformPlan, String> {
    let RawTransformPlan { reads, writes, carries } = raw;
    let reads = columns_read(reads, input)?;
    let writes = schema("writes", &writes)?;
    if let Carried::Only(names) = &carries {
        let mut seen = HashSet::new();
        for name in names {
            column("carries", name, input)?;
            if !seen.insert(name) {
                return Err(format!("`carries` names the column `{}` twice", text::one_line(name)));
            }
        }
    }
    Ok(TransformPlan { reads, writes, carries })
}

/// Checks an aggregator's plan against the schema of its values.
pub(crate) fn aggregator_plan(raw: RawAggregatorPlan, values: &Schema) -> Result<AggregatorPlan, String> {
    Ok(AggregatorPlan {
        reads: columns_read(raw.reads, values)?,
        accumulator: schema("accumulator", &raw.accumulator)?,
        result: schema("result", &raw.result)?,
    })
}

/// Checks a grouper's plan against the schemas of its keys and inputs.
pub(crate) fn grouper_plan(raw: RawGrouperPlan, keys: &Schema, inputs: &[SchemaRef]) -> Result<GrouperPlan, String> {
    if raw.reads.len() != inputs.len() {
        return Err(format!("`reads` is for {} inputs, and there are {}", raw.reads.len(), inputs.len()));
    }
    let reads = raw.reads.into_iter().zip(inputs).map(|(reads, input)| columns_read(reads, input));
    let reads = reads.collect::<Result<_, _>>()?;
    let writes = schema("writes", &raw.writes)?;
    shown(operator::key_rule(&writes, keys))?;
    Ok(GrouperPlan { reads, writes })
}

/// Checks an updater's plan against the schemas of its keys and values.
pub(crate) fn updater_plan(raw: RawUpdaterPlan, keys: &Schema, values: &Schema) -> Result<UpdaterPlan, String> {
    let RawUpdaterPlan { reads, state, writes, calling, timeouts } = raw;
    let (reads, state) = (columns_read(reads, values)?, schema("state", &state)?);
    let writes = schema("writes", &writes)?;
    shown(operator::key_rule(&writes, keys))?;
    Ok(UpdaterPlan { reads, state, writes, calling, timeouts })
}

/// A rule that has names of the guest's in it, fit to be shown.
fn shown(rule: Result<(), String>) -> Result<(), String> {
    rule.map_err(|rule| text::one_line(&rule).into_owned())
}

fn columns_read(reads: Option<Vec<String>>, input: &Schema) -> Result<Vec<usize>, String> {
    let Some(names) = reads else { return Ok((0..input.fields().len()).collect()) };
    let mut indices = Vec::with_capacity(names.len().min(input.fields().len()));
    for name in &names {
        let index = column("reads", name, input)?;
        if indices.contains(&index) {
            return Err(format!("`reads` names the column `{}` twice", text::one_line(name)));
        }
        indices.push(index);
    }
    Ok(indices)
}

fn column(what: &str, name: &str, input: &Schema) -> Result<usize, String> {
    input.index_of(name).map_err(|_| {
        let name = text::one_line(name);
        let names = input.fields().iter().take(NAMES_SHOWN_MAX).map(|field| format!("`{}`", field.name()));
        let mut known = names.collect::<Vec<_>>().join(", ");
        if input.fields().len() > NAMES_SHOWN_MAX {
            known.push_str(", …");
        }
        match input.fields().is_empty() {
            true => format!("`{what}` names the column `{name}`, and the input has none"),
            false => format!("`{what}` names the column `{name}`, which is not among the input's: {known}"),
        }
    })
}

fn schema(what: &str, fields: &[FlatField]) -> Result<SchemaRef, String> {
    let schema = layout::unflatten(fields).map_err(|rule| format!("`{what}`: {}", text::one_line(&rule)))?;
    Ok(Arc::new(schema))
}

/// Checks what a transform returned for `n_rows` rows of input. Gives the bytes that came back as well. `nothing` is a batch
/// without rows of the schema that the plan writes.
pub(crate) fn transform_output(
    raw: RawOutput,
    plan: &TransformPlan,
    nothing: &RecordBatch,
    n_rows: u32,
    limits: &Limits,
) -> Result<(TransformOutput, u64), Breach> {
    let RawOutput { rows, origin, rejected } = raw;
    let n_bytes =
        batch_bytes(&rows) + origin.as_ref().map_or(0, |origin| 4 * origin.len() as u64) + rejected_bytes(&rejected);
    bounded(&rows, n_bytes, limits)?;
    match &origin {
        Some(origin) => check_origin(origin, rows.rows, n_rows)?,
        None if rows.rows != n_rows && carries_anything(&plan.carries) => {
            return Err(Breach::Invalid(format!(
                "`origin` is missing: the plan carries columns, and {} rows came of {n_rows}",
                rows.rows
            )));
        }
        None => {}
    }
    let rejected = check_rejected(rejected, n_rows)?;
    let rows = lift_or(nothing, rows)?;
    Ok((TransformOutput { rows, origin, rejected }, n_bytes))
}

/// Checks what a grouper returned for `n_groups` groups of inputs with so many rows. Gives the bytes that came back as well.
/// `nothing` is a batch without rows of the schema that the plan writes.
pub(crate) fn grouper_output(
    raw: RawGrouperOutput,
    nothing: &RecordBatch,
    n_groups: usize,
    n_rows: &[usize],
    limits: &Limits,
) -> Result<(GrouperOutput, u64), Breach> {
    let RawGrouperOutput { rows, group, mut rejected } = raw;
    let n_bytes = batch_bytes(&rows)
        + 4 * group.len() as u64
        + rejected.iter().map(|rejected| rejected_bytes(rejected)).sum::<u64>();
    bounded(&rows, n_bytes, limits)?;
    operator::group_rule(&group, rows.rows, n_groups, "groups").map_err(Breach::Invalid)?;
    if rejected.is_empty() {
        rejected.resize_with(n_rows.len(), Vec::new);
    }
    if rejected.len() != n_rows.len() {
        let (n, n_inputs) = (rejected.len(), n_rows.len());
        return Err(Breach::Invalid(format!("`rejected` is for {n} inputs, and there are {n_inputs}")));
    }
    let rejected = rejected.into_iter().zip(n_rows).enumerate().map(|(input, (rejected, n_rows))| {
        check_rejected(rejected, *n_rows as u32).map_err(|breach| match breach {
            Breach::Invalid(rule) => Breach::Invalid(format!("input {input}: {rule}")),
            other => other,
        })
    });
    let rejected = rejected.collect::<Result<_, _>>()?;
    Ok((GrouperOutput { rows: lift_or(nothing, rows)?, group, rejected }, n_bytes))
}

/// Checks what an updater returned for `input`. Gives the bytes that came back as well. `no_rows` and `no_state` are batches
/// without rows of the schemas of the plan.
pub(crate) fn updater_output(
    raw: RawUpdaterOutput,
    plan: &UpdaterPlan,
    no_rows: &RecordBatch,
    no_state: &RecordBatch,
    input: &UpdaterInput<'_>,
    limits: &Limits,
) -> Result<(UpdaterOutput, u64), Breach> {
    let RawUpdaterOutput { changes, state, timeouts_us, rows, group, rejected } = raw;
    let n_bytes = batch_bytes(&rows)
        + batch_bytes(&state)
        + changes.len() as u64
        + timeouts_us.as_ref().map_or(0, |timeouts| 8 * timeouts.len() as u64)
        + 4 * group.len() as u64
        + rejected_bytes(&rejected);
    bounded(&rows, n_bytes, limits)?;
    let n_keys = input.keys.num_rows();
    let changes = operator::changes(&changes, n_keys, state.rows).map_err(Breach::Invalid)?;
    let timeouts = operator::timeout_changes(timeouts_us.as_deref(), &changes, input.has_state, plan.timeouts);
    let timeouts = timeouts.map_err(Breach::Invalid)?;
    operator::group_rule(&group, rows.rows, n_keys, "keys").map_err(Breach::Invalid)?;
    let rejected = check_rejected(rejected, input.values.num_rows() as u32)?;
    let state = lift_or(no_state, state).map_err(|breach| match breach {
        Breach::Invalid(rule) => Breach::Invalid(format!("`state`: {rule}")),
        other => other,
    })?;
    Ok((UpdaterOutput { changes, state, timeouts, rows: lift_or(no_rows, rows)?, group, rejected }, n_bytes))
}

fn rejected_bytes(rejected: &[Rejection]) -> u64 {
    rejected.iter().map(|rejection| 4 + rejection.reason.len() as u64).sum()
}

fn carries_anything(carries: &Carried) -> bool {
    match carries {
        Carried::Nothing => false,
        Carried::Everything => true,
        Carried::Only(names) => !names.is_empty(),
    }
}

fn check_origin(origin: &[u32], n_output: u32, n_rows: u32) -> Result<(), Breach> {
    if origin.len() != n_output as usize {
        let n = origin.len();
        return Err(Breach::Invalid(format!("`origin` has {n} numbers for {n_output} rows of output")));
    }
    // The largest is found at memory speed; which one it was matters only when it is wrong.
    if origin.iter().max().is_some_and(|largest| *largest >= n_rows) {
        let wrong = origin.iter().enumerate().find(|(_, row)| **row >= n_rows);
        if let Some((index, row)) = wrong {
            return Err(Breach::Invalid(format!("`origin[{index}]` is {row}, and the input has {n_rows} rows")));
        }
    }
    Ok(())
}

fn check_rejected(rejected: Vec<Rejection>, n_rows: u32) -> Result<Vec<Rejection>, Breach> {
    if rejected.is_empty() {
        return Ok(rejected);
    }
    let mut seen = vec![false; n_rows as usize];
    rejected
        .into_iter()
        .enumerate()
        .map(|(index, Rejection { row, reason })| match seen.get_mut(row as usize) {
            None => Err(Breach::Invalid(format!("`rejected[{index}]` is row {row}, and the input has {n_rows} rows"))),
            Some(true) => Err(Breach::Invalid(format!("`rejected` names row {row} twice"))),
            Some(seen) => {
                *seen = true;
                let reason = match text::one_line(&reason) {
                    std::borrow::Cow::Borrowed(_) => reason,
                    std::borrow::Cow::Owned(shown) => shown,
                };
                Ok(Rejection { row, reason })
            }
        })
        .collect()
}

/// Checks an answer of `n_expected` rows, one a `what`, of the schema `schema`. Gives the bytes that came back as well.
pub(crate) fn answer(
    raw: RawBatch,
    schema: &SchemaRef,
    n_expected: usize,
    what: &str,
    limits: &Limits,
) -> Result<(RecordBatch, u64), Breach> {
    let n_bytes = batch_bytes(&raw);
    bounded(&raw, n_bytes, limits)?;
    if raw.rows as usize != n_expected {
        return Err(Breach::Invalid(format!("it has {} rows, and there are {n_expected} {what}", raw.rows)));
    }
    Ok((lift(schema, raw)?, n_bytes))
}

/// The rows, of the schema of `nothing`, which is what they are when there are none.
fn lift_or(nothing: &RecordBatch, raw: RawBatch) -> Result<RecordBatch, Breach> {
    match raw {
        RawBatch { rows: 0, nodes, buffers } if nodes.is_empty() && buffers.is_empty() => Ok(nothing.clone()),
        raw => lift(nothing.schema_ref(), raw),
    }
}

fn lift(schema: &SchemaRef, raw: RawBatch) -> Result<RecordBatch, Breach> {
    layout::lift(schema, raw.rows, &raw.nodes, raw.buffers).map_err(Breach::Invalid)
}

fn batch_bytes(raw: &RawBatch) -> u64 {
    layout_bytes(raw.nodes.len(), raw.buffers.iter().map(|buffer| buffer.len() as u64).sum())
}

/// Bytes that a batch takes on its way: its buffers, two numbers a node, one for the rows.
pub(crate) fn layout_bytes(n_nodes: usize, n_buffer_bytes: u64) -> u64 {
    4 + 8 * n_nodes as u64 + n_buffer_bytes
}

fn bounded(raw: &RawBatch, n_bytes: u64, limits: &Limits) -> Result<(), Breach> {
    if u64::from(raw.rows) > limits.output_rows {
        return Err(Breach::output_rows(limits, raw.rows.into()));
    }
    if n_bytes > limits.output_bytes {
        return Err(Breach::output_bytes(limits, Some(n_bytes)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;
    use crate::operator::layout::{FlatType, Node};

    fn input() -> Schema {
        Schema::new(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)])
    }

    fn flat(name: &str) -> FlatField {
        FlatField { name: name.into(), data_type: FlatType::Int32, nullable: false, children: 0 }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn check_plan(reads: Option<&[&str]>, writes: &[&str], carries: Carried, expected: Result<&[usize], &str>) {
        let raw =
            RawTransformPlan { reads: reads.map(names), writes: writes.iter().map(|n| flat(n)).collect(), carries };
        let found = transform_plan(raw, &input()).map(|plan| plan.reads);
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn a_plan_names_columns_that_are_there_once() {
        check_plan(None, &[], Carried::Everything, Ok(&[0, 1]));
        check_plan(Some(&[]), &["x"], Carried::Nothing, Ok(&[]));
        check_plan(Some(&["b", "a"]), &["a"], Carried::Only(names(&["a"])), Ok(&[1, 0]));
        check_plan(
            Some(&["c\n"]),
            &[],
            Carried::Nothing,
            Err("`reads` names the column `c\\n`, which is not among the input's: `a`, `b`"),
        );
        check_plan(Some(&["a", "a"]), &[], Carried::Nothing, Err("`reads` names the column `a` twice"));
        check_plan(
            None,
            &[],
            Carried::Only(names(&["z"])),
            Err("`carries` names the column `z`, which is not among the input's: `a`, `b`"),
        );
        check_plan(None, &[], Carried::Only(names(&["b", "b"])), Err("`carries` names the column `b` twice"));
        assert!(
            transform_plan(
                RawTransformPlan { reads: None, writes: vec![flat("x"), flat("x")], carries: Carried::Nothing },
                &input()
            )
            .unwrap_err()
            .starts_with("`writes`: ")
        );
    }

    fn output(n_rows: u32, origin: Option<&[u32]>, rejected: &[u32]) -> RawOutput {
        RawOutput {
            rows: RawBatch {
                rows: n_rows,
                nodes: vec![Node { length: n_rows, null_count: 0 }],
                buffers: vec![vec![], vec![0; 4 * n_rows as usize]],
            },
            origin: origin.map(<[u32]>::to_vec),
            rejected: rejected.iter().map(|row| Rejection { row: *row, reason: "bad\n".into() }).collect(),
        }
    }

    fn check_output(raw: RawOutput, carries: Carried, expected: Result<usize, &str>) {
        let writes = Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, false)]));
        let nothing = RecordBatch::new_empty(Arc::clone(&writes));
        let plan = TransformPlan { reads: vec![], writes, carries };
        let limits = Limits { output_rows: 5, output_bytes: 60, ..Limits::default() };
        let found = transform_output(raw, &plan, &nothing, 3, &limits);
        match (found, expected) {
            (Ok((output, _)), Ok(n_rows)) => assert_eq!(output.rows.num_rows(), n_rows),
            (Err(Breach::Invalid(rule)), Err(expected)) => assert_eq!(rule, expected),
            (Err(Breach::Limit { seen, .. }), Err(expected)) => assert_eq!(seen, expected),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn an_output_without_rows_needs_no_nodes_and_no_buffers() {
        let without_parts = |n_rows| {
            let rows = RawBatch { rows: n_rows, nodes: vec![], buffers: vec![] };
            RawOutput { rows, origin: None, rejected: vec![] }
        };
        check_output(without_parts(0), Carried::Nothing, Ok(0));
        check_output(output(0, None, &[]), Carried::Nothing, Ok(0));
        check_output(without_parts(1), Carried::Nothing, Err("it has 0 nodes, its schema has 1 fields"));
    }

    #[test]
    fn row_numbers_stay_within_the_input() {
        check_output(output(3, None, &[]), Carried::Everything, Ok(3));
        check_output(output(2, None, &[]), Carried::Nothing, Ok(2));
        check_output(output(2, None, &[]), Carried::Only(vec![]), Ok(2));
        check_output(output(2, Some(&[2, 0]), &[1]), Carried::Everything, Ok(2));
        check_output(
            output(2, None, &[]),
            Carried::Everything,
            Err("`origin` is missing: the plan carries columns, and 2 rows came of 3"),
        );
        check_output(output(2, Some(&[0]), &[]), Carried::Nothing, Err("`origin` has 1 numbers for 2 rows of output"));
        check_output(
            output(2, Some(&[0, 3]), &[]),
            Carried::Nothing,
            Err("`origin[1]` is 3, and the input has 3 rows"),
        );
        check_output(output(3, None, &[3]), Carried::Nothing, Err("`rejected[0]` is row 3, and the input has 3 rows"));
        check_output(output(3, None, &[1, 1]), Carried::Nothing, Err("`rejected` names row 1 twice"));
    }

    #[test]
    fn output_is_bounded_before_it_is_read() {
        check_output(output(6, None, &[]), Carried::Nothing, Err("the limit is 5, the plugin returned 6"));
        // 4 for the rows, 8 for the node, 12 for the values, and 8 for each rejection.
        check_output(output(3, None, &[0, 1, 2]), Carried::Nothing, Ok(3));
        let mut large = output(3, None, &[]);
        large.rows.buffers[0] = vec![0; 37];
        check_output(large, Carried::Nothing, Err("the limit is 60B, the plugin returned 61B"));
    }

    #[test]
    fn an_answer_has_one_row_a_group() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("x", DataType::Int32, false)]));
        let limits = Limits::default();
        let (batch, n_bytes) = answer(output(3, None, &[]).rows, &schema, 3, "groups", &limits).unwrap();
        assert_eq!((batch.num_rows(), n_bytes), (3, 24));
        let wrong = answer(output(3, None, &[]).rows, &schema, 4, "groups", &limits).unwrap_err();
        assert_eq!(wrong, Breach::Invalid("it has 3 rows, and there are 4 groups".into()));
    }
}
