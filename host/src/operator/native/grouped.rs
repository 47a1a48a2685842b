//! Native groupers and updaters: the roles that get keys beside their rows.

use arrow::array::RecordBatch;
use tidemill_guest as guest;

use super::{Instance, assert_schema, rejection_rule};
use crate::operator::layout::{self, Lowered};
use crate::operator::{
    self, Call, CallError, Calling, Grouped, Grouper, GrouperOutput, GrouperPlan, Rejection, Timeouts, Updater,
    UpdaterInput, UpdaterOutput, UpdaterPlan,
};

/// A batch as the SDK sees it, but for its buffers, which borrow from it.
struct View<'a> {
    schema: &'a guest::Schema,
    lowered: Lowered<'a>,
    nodes: Vec<guest::Node>,
}

impl<'a> View<'a> {
    /// A view of `batch`, whose schema is `schema`.
    fn of<T: ?Sized>(
        instance: &mut Instance<T>,
        call: &Call,
        n_rows: usize,
        schema: &'a guest::Schema,
        batch: &'a RecordBatch,
    ) -> Result<Self, CallError> {
        let lowered = layout::lower(batch).map_err(|error| instance.broken(call, n_rows, error.to_string()))?;
        assert_schema(schema, batch);
        let nodes =
            lowered.nodes.iter().map(|node| guest::Node { length: node.length, null_count: node.null_count }).collect();
        Ok(Self { schema, lowered, nodes })
    }

    fn buffers(&self) -> Vec<&[u8]> {
        self.lowered.buffers.iter().map(AsRef::as_ref).collect()
    }

    /// The batch. `buffers` are what [`View::buffers`] gave.
    fn batch<'b>(&'b self, buffers: &'b [&'b [u8]]) -> guest::Batch<'b> {
        // SAFETY: the nodes and buffers are lowered from arrow arrays, which are valid, of the types of `schema`.
        unsafe { guest::Batch::new(self.schema, self.lowered.rows, &self.nodes, buffers) }
    }
}

fn rejections(rejected: Vec<guest::Rejection>) -> Vec<Rejection> {
    rejected.into_iter().map(|guest::Rejection { row, reason }| Rejection { row, reason }).collect()
}

/// A native operator opened as a grouper.
pub(super) struct NativeGrouper {
    pub(super) instance: Instance<dyn guest::Grouper + Send>,
    pub(super) plan: GrouperPlan,
    pub(super) keys: guest::Schema,
    /// What it reads of each input.
    pub(super) reads: Vec<guest::Schema>,
}

impl Grouper for NativeGrouper {
    fn plan(&self) -> &GrouperPlan {
        &self.plan
    }

    fn process(&mut self, call: &Call, keys: &RecordBatch, inputs: &[Grouped<'_>]) -> Result<GrouperOutput, CallError> {
        self.plan.assert_consistent(keys.num_rows(), inputs);
        let n_rows: Vec<_> = inputs.iter().map(|input| input.rows.num_rows()).collect();
        let n_rows_all = n_rows.iter().sum();
        let instance = &mut self.instance;
        let key_view = View::of(instance, call, n_rows_all, &self.keys, keys)?;
        let views = inputs
            .iter()
            .zip(&self.reads)
            .map(|(input, schema)| View::of(instance, call, n_rows_all, schema, input.rows))
            .collect::<Result<Vec<_>, _>>()?;
        let (key_buffers, buffers) = (key_view.buffers(), views.iter().map(View::buffers).collect::<Vec<_>>());
        let grouped: Vec<_> = views
            .iter()
            .zip(&buffers)
            .zip(inputs)
            .map(|((view, buffers), input)| guest::Grouped { rows: view.batch(buffers), ends: input.ends })
            .collect();
        let output = instance
            .call(call, n_rows_all, |operator, call| operator.process(call, key_view.batch(&key_buffers), &grouped))?;
        let guest::GrouperOutput { rows, group, mut rejected } = output;
        if rejected.is_empty() {
            rejected.resize_with(inputs.len(), Vec::new);
        }
        let rule = operator::group_rule(&group, rows.rows, keys.num_rows(), "groups").err().or_else(|| {
            if rejected.len() != inputs.len() {
                return Some(format!("`rejected` is for {} inputs, and there are {}", rejected.len(), inputs.len()));
            }
            let rules = rejected.iter().zip(&n_rows).map(|(rejected, n_rows)| rejection_rule(rejected, *n_rows));
            rules.enumerate().find_map(|(input, rule)| rule.map(|rule| format!("input {input}: {rule}")))
        });
        if let Some(rule) = rule {
            return Err(instance.broken(call, n_rows_all, rule));
        }
        let rows = instance.lift(call, n_rows_all, &self.plan.writes, rows, None)?;
        Ok(GrouperOutput { rows, group, rejected: rejected.into_iter().map(rejections).collect() })
    }
}

/// A native operator opened as an updater.
pub(super) struct NativeUpdater {
    pub(super) instance: Instance<dyn guest::Updater + Send>,
    pub(super) plan: UpdaterPlan,
    pub(super) keys: guest::Schema,
    pub(super) reads: guest::Schema,
    pub(super) state: guest::Schema,
}

impl Updater for NativeUpdater {
    fn plan(&self) -> &UpdaterPlan {
        &self.plan
    }

    fn update(&mut self, call: &Call, input: &UpdaterInput<'_>) -> Result<UpdaterOutput, CallError> {
        input.assert_consistent();
        let (n_rows, n_keys) = (input.values.num_rows(), input.keys.num_rows());
        let instance = &mut self.instance;
        let keys = View::of(instance, call, n_rows, &self.keys, input.keys)?;
        let values = View::of(instance, call, n_rows, &self.reads, input.values)?;
        let state = View::of(instance, call, n_rows, &self.state, input.state)?;
        let buffers = (keys.buffers(), values.buffers(), state.buffers());
        let bytes = |flags: &[bool]| flags.iter().map(|flag| u8::from(*flag)).collect::<Vec<_>>();
        let (has_state, timed_out) = (bytes(input.has_state), bytes(input.timed_out));
        let guest_input = guest::UpdaterInput {
            keys: keys.batch(&buffers.0),
            values: values.batch(&buffers.1),
            ends: input.ends,
            state: state.batch(&buffers.2),
            has_state: &has_state,
            timed_out: &timed_out,
        };
        let output = instance.call(call, n_rows, |operator, call| operator.update(call, &guest_input))?;
        let guest::UpdaterOutput { changes, state, timeouts_us, rows, group, rejected } = output;
        let checked = operator::changes(&changes, n_keys, state.rows).and_then(|changes| {
            let timeouts =
                operator::timeout_changes(timeouts_us.as_deref(), &changes, input.has_state, self.plan.timeouts)?;
            operator::group_rule(&group, rows.rows, n_keys, "keys")?;
            rejection_rule(&rejected, n_rows).map_or(Ok((changes, timeouts)), Err)
        });
        let (changes, timeouts) = checked.map_err(|rule| instance.broken(call, n_rows, rule))?;
        let state = instance.lift(call, n_rows, &self.plan.state, state, None)?;
        let rows = instance.lift(call, n_rows, &self.plan.writes, rows, None)?;
        Ok(UpdaterOutput { changes, state, timeouts, rows, group, rejected: rejections(rejected) })
    }
}

pub(super) fn calling(calling: guest::Calling) -> Calling {
    match calling {
        guest::Calling::KeysWithValues => Calling::KeysWithValues,
        guest::Calling::EveryKey => Calling::EveryKey,
    }
}

pub(super) fn timeouts(timeouts: guest::Timeouts) -> Timeouts {
    match timeouts {
        guest::Timeouts::Never => Timeouts::Never,
        guest::Timeouts::BatchTime => Timeouts::BatchTime,
        guest::Timeouts::EventTime => Timeouts::EventTime,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use tidemill_guest::{Row, operator};

    use super::*;
    use crate::error::Explain;
    use crate::operator::native::NativeOperator;
    use crate::operator::native::tests::{batch, call, step};
    use crate::operator::{Change, Operator, Role, TimeoutChange};

    #[derive(Row, Clone)]
    struct Number {
        n: i64,
    }

    /// Answers what its configuration says, whatever it is asked.
    struct Liar(guest::GrouperOutput, guest::UpdaterOutput);

    fn number(config: &serde_json::Value, key: &str) -> Vec<i64> {
        let numbers = config[key].as_array().into_iter().flatten();
        numbers.map(|number| number.as_i64().unwrap()).collect()
    }

    #[operator]
    impl guest::Grouper for Liar {
        fn open(
            step: &guest::Step,
            _: &guest::Schema,
            inputs: &[guest::Schema],
        ) -> Result<(guest::GrouperPlan, Self), guest::Refusal> {
            let config: serde_json::Value = step.config()?;
            let group: Vec<_> = number(&config, "group").iter().map(|group| *group as u32).collect();
            let rejected = number(&config, "rejected").iter().map(|row| vec![rejection(*row)]).collect();
            let rows = Number::batch(group.iter().map(|_| Number { n: 1 }));
            let n_inputs = config["inputs"].as_u64().map_or(inputs.len(), |n| n as usize);
            let plan = guest::GrouperPlan { reads: vec![None; n_inputs], writes: Number::schema() };
            Ok((plan, Liar(guest::GrouperOutput { rows, group, rejected }, guest::UpdaterOutput::default())))
        }

        fn process(
            &mut self,
            _: &guest::Call,
            _: guest::Batch<'_>,
            _: &[guest::Grouped<'_>],
        ) -> Result<guest::GrouperOutput, guest::Failure> {
            Ok(self.0.clone())
        }
    }

    fn rejection(row: i64) -> guest::Rejection {
        guest::Rejection { row: row as u32, reason: "no".into() }
    }

    struct StateLiar(Liar);

    #[operator]
    impl guest::Updater for StateLiar {
        fn open(
            step: &guest::Step,
            _: &guest::Schema,
            _: &guest::Schema,
        ) -> Result<(guest::UpdaterPlan, Self), guest::Refusal> {
            let config: serde_json::Value = step.config()?;
            let group: Vec<_> = number(&config, "group").iter().map(|group| *group as u32).collect();
            let states = number(&config, "states").into_iter().map(|n| Number { n });
            let plan = guest::UpdaterPlan {
                reads: None,
                state: Number::schema(),
                writes: Number::schema(),
                calling: guest::Calling::EveryKey,
                timeouts: guest::Timeouts::BatchTime,
            };
            let output = guest::UpdaterOutput {
                changes: number(&config, "changes").iter().map(|change| *change as u8).collect(),
                state: Number::batch(states),
                timeouts_us: config["timeouts"].is_array().then(|| number(&config, "timeouts")),
                rows: Number::batch(group.iter().map(|_| Number { n: 1 })),
                group,
                rejected: number(&config, "rejected").into_iter().map(rejection).collect(),
            };
            Ok((plan, StateLiar(Liar(guest::GrouperOutput::default(), output))))
        }

        fn update(
            &mut self,
            _: &guest::Call,
            _: &guest::UpdaterInput<'_>,
        ) -> Result<guest::UpdaterOutput, guest::Failure> {
            Ok(self.0.1.clone())
        }
    }

    fn keys() -> RecordBatch {
        batch("key", StringArray::from_iter_values(["a", "b"]))
    }

    fn values() -> RecordBatch {
        batch("v", Int64Array::from(vec![1, 2, 3]))
    }

    fn group(config: serde_json::Value) -> Result<GrouperOutput, String> {
        let step = crate::operator::StepInfo { config, ..step() };
        let operator = NativeOperator::from(Liar::operator());
        assert_eq!(operator.roles(), [Role::Grouper]);
        let inputs = [values().schema(), values().schema()];
        let mut grouper = operator.open_grouper(&step, &keys().schema(), &inputs).map_err(|error| error.to_string())?;
        let values = values();
        let inputs = [Grouped { rows: &values, ends: &[2, 3] }, Grouped { rows: &values, ends: &[0, 3] }];
        grouper.process(&call(), &keys(), &inputs).map_err(|error| rule(&error))
    }

    fn rule(error: &CallError) -> String {
        let text = error.to_string();
        text.split_once("against the contract: ").map_or_else(|| text.clone(), |(_, rule)| rule.to_owned())
    }

    #[test]
    fn what_a_grouper_says_is_checked() {
        let check = |config, expected: &str| assert_eq!(group(config).unwrap_err(), expected);
        let output = group(serde_json::json!({"group": [0, 1, 1], "rejected": [2, 0]})).unwrap();
        assert_eq!((output.rows.num_rows(), output.group), (3, vec![0, 1, 1]));
        assert_eq!(output.rejected.iter().map(|rejected| rejected[0].row).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(group(serde_json::json!({})).unwrap().rejected, [vec![], vec![]]);
        check(serde_json::json!({"group": [2]}), "`group[0]` is 2, and there are 2 groups");
        check(serde_json::json!({"group": [1, 0]}), "`group[1]` is 0, less than the one before it, 1");
        check(serde_json::json!({"rejected": [1]}), "`rejected` is for 1 inputs, and there are 2");
        check(serde_json::json!({"rejected": [1, 3]}), "input 1: `rejected` names row 3, and the input has 3 rows");
        check(
            serde_json::json!({"inputs": 1}),
            "`Liar` answered `open` of step `words` against the contract: `reads` is for 1 inputs, and there are 2",
        );
    }

    fn update(config: serde_json::Value) -> Result<UpdaterOutput, String> {
        let step = crate::operator::StepInfo { config, ..step() };
        let operator = NativeOperator::from(StateLiar::operator());
        assert_eq!(operator.roles(), [Role::Updater]);
        let mut updater = operator.open_updater(&step, &keys().schema(), &values().schema()).unwrap();
        assert_eq!((updater.plan().calling, updater.plan().timeouts), (Calling::EveryKey, Timeouts::BatchTime));
        let (keys, values, state) = (keys(), values(), batch("n", Int64Array::from(vec![5])));
        let input = UpdaterInput {
            keys: &keys,
            values: &values,
            ends: &[3, 3],
            state: &state,
            has_state: &[false, true],
            timed_out: &[false, true],
        };
        updater.update(&call(), &input).map_err(|error| rule(&error))
    }

    #[test]
    fn what_an_updater_says_is_checked() {
        let check = |config, expected: &str| assert_eq!(update(config).unwrap_err(), expected);
        let output = update(serde_json::json!({"changes": [1, 0], "states": [7], "group": [0, 1], "rejected": [1],
            "timeouts": [9, i64::MAX]}));
        let output = output.unwrap();
        assert_eq!(output.changes, [Change::Put(0), Change::Keep]);
        assert_eq!(output.timeouts.unwrap(), [TimeoutChange::Set(9), TimeoutChange::Clear]);
        assert_eq!((output.state, output.group), (batch("n", Int64Array::from(vec![7])), vec![0, 1]));
        check(serde_json::json!({"changes": [0]}), "`changes` has 1 bytes, and there are 2 keys");
        check(
            serde_json::json!({"changes": [0, 7]}),
            "`changes[1]` is 7, and a change is 0 (keep), 1 (put) or 2 (remove)",
        );
        check(serde_json::json!({"changes": [1, 0]}), "`changes` puts 1 states, and `state` has 0 rows");
        check(
            serde_json::json!({"changes": [0, 2], "timeouts": [i64::MIN, 4]}),
            "`timeouts-us[1]` is 4, and key 1 has no state after the call",
        );
        check(serde_json::json!({"changes": [0, 0], "group": [2]}), "`group[0]` is 2, and there are 2 keys");
        check(
            serde_json::json!({"changes": [0, 0], "rejected": [3]}),
            "`rejected` names row 3, and the input has 3 rows",
        );
    }

    #[derive(Row)]
    struct Named {
        key: i64,
    }

    struct Clash;

    #[operator]
    impl guest::Group for Clash {
        type Key<'a> = guest::AnyKey;
        type Input<'a> = Number;
        type Output = Named;

        fn open(_: &guest::Step) -> Result<Self, guest::Refusal> {
            Ok(Clash)
        }

        fn group<'a>(
            &mut self,
            _: guest::AnyKey,
            _: guest::GroupRows<'a, Number>,
            out: &mut guest::GroupEmitter<Named>,
        ) {
            out.emit(Named { key: 1 });
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let operator = NativeOperator::from(Clash::operator());
        let check = |inputs: &[RecordBatch], expected: &str, hint: &str| {
            let inputs: Vec<_> = inputs.iter().map(RecordBatch::schema).collect();
            let error = operator.open_grouper(&step(), &keys().schema(), &inputs).err().unwrap();
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.hint().unwrap_or_default(), hint);
        };
        let numbers = || batch("n", Int64Array::from(vec![1]));
        check(
            &[numbers()],
            "`Clash` answered `open` of step `words` against the contract: `writes` has the column `key`, which is a key",
            "This is a bug in the plugin: report it to whoever wrote it.",
        );
        check(
            &[values()],
            "`Clash` refuses the input of step `words`: column `n` is missing, int64 is expected",
            "The input has the columns `key`: utf8 as keys, and `v`: int64.",
        );
        check(&[numbers(), numbers()], "`Clash` refuses step `words`: it groups one input, and the step has 2", "");
        let column = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let keys = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let error = operator.open_grouper(&step(), &keys.schema(), &[values().schema()]).err().unwrap();
        assert_eq!(
            error.to_string(),
            "`Clash` refuses the input of step `words`: column `n` is a key of the step, and is expected not to be one"
        );
    }
}
