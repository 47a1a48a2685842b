//! Groupers and updaters: keys go in beside their rows, and what comes back is right in every number, or refused.

use proptest::prelude::*;

use super::groups::numbers;
use super::*;
use crate::operator::{
    CallError, Calling, Change, Crossed, Grouped, GrouperOutput, Role, TimeoutChange, Timeouts, UpdaterInput,
    UpdaterOutput,
};

/// Answers what it was given: right when every group has one row. GROUPER and UPDATER are for a test's own words.
pub(super) const FUNCTIONS: &str = r#"
    ;; The numbers of groups, and a byte a key: put.
    (data (i32.const 3700) "\00\00\00\00\01\00\00\00\02\00\00\00")
    (data (i32.const 3800) "\01\01\01")
    (func $copy-batch (param $to i32) (param $from i32) (memory.copy (local.get $to) (local.get $from) (i32.const 20)))
    ;; Writes over an answer what a column of numbers says: a number's upper half is the word, its lower half the new value.
    (func $poke (param $answer i32) (param $batch i32) (local $rest i32) (local $at i32)
      (local.set $rest (i32.load (local.get $batch)))
      (if (local.get $rest) (then (local.set $at (i32.load offset=8 (i32.load offset=12 (local.get $batch))))))
      (block $done (loop $next
        (br_if $done (i32.eqz (local.get $rest)))
        (i32.store
          (i32.add (local.get $answer) (i32.shl (i32.load offset=4 (local.get $at)) (i32.const 2)))
          (i32.load (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (local.set $rest (i32.sub (local.get $rest) (i32.const 1)))
        (br $next))))
    ;; ok({ reads: [none], writes: the first input })
    (func (export "open-grouper") (param i32 i32 i32 i32 i32 i32 i32) (param i32 i32) (param $inputs i32) (param i32)
      (result i32)
      (i32.store (i32.const 4204) (i32.const 3600))
      (i32.store (i32.const 4208) (i32.const 1))
      (i32.store (i32.const 4212) (i32.load (local.get $inputs)))
      (i32.store (i32.const 4216) (i32.load offset=4 (local.get $inputs)))
      (i32.const 4200))
    ;; At 4300: ok({ rows: the first input, group: one a row, rejected: [] }).
    (func (export "group")
      (param i64 i64 i32 i32 i64 i32 i64) (param i32 i32 i32 i32 i32) (param $inputs i32) (param i32) (result i32)
      (call $copy-batch (i32.const 4304) (local.get $inputs))
      (i32.store (i32.const 4324) (i32.const 3700))
      (i32.store (i32.const 4328) (i32.load (local.get $inputs)))
      (;GROUPER;)
      (i32.const 4300))
    ;; ok({ reads: none, state: the values, writes: the values, calling: keys-with-values, timeouts: batch-time })
    (func (export "open-updater") (param i32 i32 i32 i32 i32 i32 i32) (param i32 i32) (param $values i32) (param $n i32)
      (result i32)
      (i32.store (i32.const 4416) (local.get $values))
      (i32.store (i32.const 4420) (local.get $n))
      (i32.store (i32.const 4424) (local.get $values))
      (i32.store (i32.const 4428) (local.get $n))
      (i32.store8 (i32.const 4433) (i32.const 1))
      (i32.const 4400))
    ;; Too many parameters to be passed one by one: the call is at 0, the keys at 48, the values at 68.
    ;; At 4500: ok({ changes: put, state: the values, timeouts-us: none, rows: the values, group: one a row, rejected: [] }).
    (func (export "update") (param $at i32) (result i32)
      (i32.store (i32.const 4504) (i32.const 3800))
      (i32.store (i32.const 4508) (i32.load offset=48 (local.get $at)))
      (call $copy-batch (i32.const 4512) (i32.add (local.get $at) (i32.const 68)))
      (call $copy-batch (i32.const 4544) (i32.add (local.get $at) (i32.const 68)))
      (i32.store (i32.const 4564) (i32.const 3700))
      (i32.store (i32.const 4568) (i32.load offset=68 (local.get $at)))
      (;UPDATER;)
      (i32.const 4500))
"#;

pub(super) const ROLES: &str = r#"
  (type $grouper-plan' (record (field "reads" (list (option (list string)))) (field "writes" (list $field))))
  (export $grouper-plan "grouper-plan" (type $grouper-plan'))
  (type $grouped' (record (field "rows" $batch) (field "ends" (list u32))))
  (export $grouped "grouped" (type $grouped'))
  (type $grouper-output' (record
    (field "rows" $batch) (field "group" (list u32)) (field "rejected" (list (list $rejection)))))
  (export $grouper-output "grouper-output" (type $grouper-output'))
  (func $open-grouper (param "step" $step) (param "keys" (list $field)) (param "inputs" (list (list $field)))
    (result (result $grouper-plan (error $refusal)))
    (canon lift (core func $main "open-grouper") (memory $mem) (realloc $realloc)))
  (func $group (param "call" $call) (param "keys" $batch) (param "inputs" (list $grouped))
    (result (result $grouper-output (error $failure)))
    (canon lift (core func $main "group") (memory $mem) (realloc $realloc)))
  (instance $grouper (export "open" (func $open-grouper)) (export "process" (func $group)))
  (export "tidemill:operator/grouper@0.1.0" (instance $grouper))

  (type $calling' (enum "keys-with-values" "every-key"))
  (export $calling "calling" (type $calling'))
  (type $timeouts' (enum "never" "batch-time" "event-time"))
  (export $timeouts "timeouts" (type $timeouts'))
  (type $updater-plan' (record
    (field "reads" (option (list string))) (field "state" (list $field)) (field "writes" (list $field))
    (field "calling" $calling) (field "timeouts" $timeouts)))
  (export $updater-plan "updater-plan" (type $updater-plan'))
  (type $updater-input' (record
    (field "keys" $batch) (field "values" $batch) (field "ends" (list u32)) (field "state" $batch)
    (field "has-state" (list u8)) (field "timed-out" (list u8))))
  (export $updater-input "updater-input" (type $updater-input'))
  (type $updater-output' (record
    (field "changes" (list u8)) (field "state" $batch) (field "timeouts-us" (option (list s64))) (field "rows" $batch)
    (field "group" (list u32)) (field "rejected" (list $rejection))))
  (export $updater-output "updater-output" (type $updater-output'))
  (func $open-updater (param "step" $step) (param "keys" (list $field)) (param "values" (list $field))
    (result (result $updater-plan (error $refusal)))
    (canon lift (core func $main "open-updater") (memory $mem) (realloc $realloc)))
  (func $update (param "call" $call) (param "input" $updater-input) (result (result $updater-output (error $failure)))
    (canon lift (core func $main "update") (memory $mem) (realloc $realloc)))
  (instance $updater (export "open" (func $open-updater)) (export "update" (func $update)))
  (export "tidemill:operator/updater@0.1.0" (instance $updater))
"#;

/// A guest with these instructions in `process` of its grouper and in `update` of its updater.
fn guest(grouper: &str, updater: &str) -> Plugin {
    let functions = FUNCTIONS.replace("(;GROUPER;)", grouper).replace("(;UPDATER;)", updater);
    let text = include_str!("guest.wat").replace("(;FUNCTIONS;)", &functions).replace("(;ROLES;)", ROLES);
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &wat::parse_str(text).unwrap());
    RUNTIME.load("guest.wasm", &path, &LoadOptions::default()).unwrap()
}

fn keys() -> RecordBatch {
    let names = StringArray::from(vec!["a", "b", "c"]);
    RecordBatch::try_from_iter([("key", Arc::new(names) as arrow::array::ArrayRef)]).unwrap()
}

fn group(grouper: &str) -> Result<GrouperOutput, CallError> {
    let rows = numbers(&[3, 1, 2]);
    let mut grouper = guest(grouper, "").open_grouper(&step(limits()), keys().schema_ref(), &[rows.schema()]).unwrap();
    grouper.process(&call(7), &keys(), &[Grouped { rows: &rows, ends: &[1, 2, 3] }])
}

fn check_group(grouper: &str, expected: &str) {
    check(group(grouper).unwrap_err(), expected);
}

fn check(error: CallError, expected: &str) {
    let message = error.to_string();
    let message = message.strip_prefix("`guest.wasm` in step `step`, batch 7, partition 3 ").unwrap_or(&message);
    assert_eq!(message.strip_prefix("returned a batch against the contract: ").unwrap_or(message), expected);
}

#[test]
fn a_grouper_says_which_group_a_row_is_of() {
    let plugin = guest("", "");
    assert_eq!(plugin.roles(), [Role::Transform, Role::Grouper, Role::Updater]);
    let rows = numbers(&[3, 1, 2]);
    let mut grouper = plugin.open_grouper(&step(limits()), keys().schema_ref(), &[rows.schema()]).unwrap();
    assert_eq!(grouper.plan().reads, [[0]]);
    assert_eq!(&grouper.plan().writes, rows.schema_ref());
    for _ in 0..2 {
        let output = grouper.process(&call(0), &keys(), &[Grouped { rows: &rows, ends: &[1, 2, 3] }]).unwrap();
        assert_eq!((output.rows, output.group, output.rejected), (rows.clone(), vec![0, 1, 2], vec![vec![]]));
    }
    // Keys: 4 for the rows, 8 for the node, 16 for the offsets, 3 of text. Rows: 4, 8, 24, and an end a group.
    let crossed = Crossed { in_bytes: 2 * (31 + 36 + 12), out_bytes: 2 * (36 + 12) };
    assert_eq!(grouper.bytes_crossed(), crossed);
    let nothing = grouper.process(&call(0), &keys().slice(0, 0), &[Grouped { rows: &numbers(&[]), ends: &[] }]);
    assert_eq!(nothing.unwrap().rows, numbers(&[]));
}

#[test]
fn what_a_grouper_answers_is_checked() {
    check_group("(i32.store (i32.const 3704) (i32.const 7))", "`group[1]` is 7, and there are 3 groups");
    check_group("(i32.store (i32.const 3700) (i32.const 2))", "`group[1]` is 1, less than the one before it, 2");
    check_group("(i32.store (i32.const 4328) (i32.const 2))", "`group` has 2 numbers for 3 rows of output");
    check_group(
        "(i32.store (i32.const 4332) (i32.const 3600)) (i32.store (i32.const 4336) (i32.const 2))",
        "`rejected` is for 2 inputs, and there are 1",
    );
    // rejected: [[{ row: 9, reason: "value" }]]
    check_group(
        "(i32.store (i32.const 4332) (i32.const 3900)) (i32.store (i32.const 4336) (i32.const 1))
         (i32.store (i32.const 3900) (i32.const 3908)) (i32.store (i32.const 3904) (i32.const 1))
         (i32.store (i32.const 3908) (i32.const 9)) (i32.store (i32.const 3912) (i32.const 16))
         (i32.store (i32.const 3916) (i32.const 5))",
        "input 0: `rejected[0]` is row 9, and the input has 3 rows",
    );
    check_group(
        "(i32.store (i32.const 4304) (i32.const 101))",
        "exceeded its output rows per call: the limit is 100, the plugin returned 101",
    );
    check_group("(i32.store (i32.const 4304) (i32.const 4))", "`group` has 3 numbers for 4 rows of output");
    check_group("(unreachable)", "crashed: it aborted");
}

#[test]
fn a_plan_that_does_not_fit_the_keys_or_the_inputs_is_refused() {
    let plugin = guest("", "");
    let (rows, step) = (numbers(&[]), step(limits()));
    let check = |error: Option<OpenError>, rule: &str| {
        let expected = format!("`guest.wasm` answered `open` of step `step` against the contract: {rule}");
        assert_eq!(error.unwrap().to_string(), expected);
    };
    let twice = plugin.open_grouper(&step, keys().schema_ref(), &[rows.schema(), rows.schema()]);
    check(twice.err(), "`reads` is for 1 inputs, and there are 2");
    let clash = plugin.open_grouper(&step, rows.schema_ref(), &[rows.schema()]);
    check(clash.err(), "`writes` has the column `n`, which is a key");
    let clash = plugin.open_updater(&step, rows.schema_ref(), rows.schema_ref());
    check(clash.err(), "`writes` has the column `n`, which is a key");
}

fn update(updater: &str) -> Result<UpdaterOutput, CallError> {
    let (keys, values, state) = (keys(), numbers(&[3, 1, 2]), numbers(&[5]));
    let plugin = guest("", updater);
    let mut updater = plugin.open_updater(&step(limits()), keys.schema_ref(), values.schema_ref()).unwrap();
    let input = UpdaterInput {
        keys: &keys,
        values: &values,
        ends: &[1, 2, 3],
        state: &state,
        has_state: &[false, true, false],
        timed_out: &[false; 3],
    };
    let output = updater.update(&call(7), &input)?;
    // In: keys 31, values 36, state 20, an end and two flags a key. Out: state and rows 36, a number and a byte a key.
    let crossed = Crossed { in_bytes: 31 + 36 + 20 + 18, out_bytes: 36 + 36 + 12 + 3 };
    assert_eq!(updater.bytes_crossed(), crossed);
    Ok(output)
}

fn check_update(updater: &str, expected: &str) {
    check(update(updater).unwrap_err(), expected);
}

/// `timeouts-us` of so many numbers, which are at 3920.
fn timeouts(n: usize) -> String {
    format!(
        "(i32.store8 (i32.const 4532) (i32.const 1)) (i32.store (i32.const 4536) (i32.const 3920))
         (i32.store (i32.const 4540) (i32.const {n}))"
    )
}

#[test]
fn an_updater_says_what_becomes_of_each_key() {
    let plugin = guest("", "");
    let schema = numbers(&[]).schema();
    let updater = plugin.open_updater(&step(limits()), keys().schema_ref(), &schema).unwrap();
    let plan = updater.plan();
    assert_eq!((&plan.reads[..], &plan.state, &plan.writes), (&[0][..], &schema, &schema));
    assert_eq!((plan.calling, plan.timeouts), (Calling::KeysWithValues, Timeouts::BatchTime));
    let output = update("").unwrap();
    assert_eq!(output.changes, [Change::Put(0), Change::Put(1), Change::Put(2)]);
    assert_eq!((&output.state, &output.rows), (&numbers(&[3, 1, 2]), &numbers(&[3, 1, 2])));
    assert_eq!((output.group, output.timeouts, output.rejected), (vec![0, 1, 2], None, vec![]));
}

#[test]
fn a_timeout_is_a_number_a_key() {
    let set = format!(
        "{} (i64.store (i32.const 3920) (i64.const 9)) (i64.store (i32.const 3928) (i64.const 0x7fffffffffffffff))
         (i64.store (i32.const 3936) (i64.const 0x8000000000000000))",
        timeouts(3)
    );
    let plugin = guest("", &set);
    let (keys, values) = (keys(), numbers(&[3, 1, 2]));
    let mut updater = plugin.open_updater(&step(limits()), keys.schema_ref(), values.schema_ref()).unwrap();
    let (ends, no) = ([1, 2, 3], [false; 3]);
    let state = numbers(&[]);
    let input =
        UpdaterInput { keys: &keys, values: &values, ends: &ends, state: &state, has_state: &no, timed_out: &no };
    let output = updater.update(&call(0), &input).unwrap();
    assert_eq!(output.timeouts.unwrap(), [TimeoutChange::Set(9), TimeoutChange::Clear, TimeoutChange::Keep]);
}

#[test]
fn what_an_updater_answers_is_checked() {
    check_update(
        "(i32.store8 (i32.const 3801) (i32.const 7))",
        "`changes[1]` is 7, and a change is 0 (keep), 1 (put) or 2 (remove)",
    );
    check_update("(i32.store (i32.const 4508) (i32.const 2))", "`changes` has 2 bytes, and there are 3 keys");
    check_update("(i32.store8 (i32.const 3800) (i32.const 2))", "`changes` puts 2 states, and `state` has 3 rows");
    check_update(&timeouts(2), "`timeouts-us` has 2 numbers, and there are 3 keys");
    // Nothing is put: the second key keeps its state, and the others have none.
    let without_state = "(i32.store8 (i32.const 3800) (i32.const 0)) (i32.store16 (i32.const 3801) (i32.const 0x200))
                         (i32.store (i32.const 4512) (i32.const 0)) (i32.store (i32.const 4520) (i32.const 0))
                         (i32.store (i32.const 4528) (i32.const 0))";
    check_update(
        &format!("{without_state} {} (i64.store (i32.const 3928) (i64.const 5))", timeouts(3)),
        "`timeouts-us[0]` is 0, and key 0 has no state after the call",
    );
    check_update("(i32.store (i32.const 4520) (i32.const 0))", "`state`: it has 0 nodes, its schema has 1 fields");
    check_update("(i32.store (i32.const 3708) (i32.const 3))", "`group[2]` is 3, and there are 3 keys");
    check_update(
        "(i32.store (i32.const 4572) (i32.const 3908)) (i32.store (i32.const 4576) (i32.const 1))
         (i32.store (i32.const 3908) (i32.const 3)) (i32.store (i32.const 3912) (i32.const 16))
         (i32.store (i32.const 3916) (i32.const 5))",
        "`rejected[0]` is row 3, and the input has 3 rows",
    );
    check_update(
        "(i32.store (i32.const 4544) (i32.const 101))",
        "exceeded its output rows per call: the limit is 100, the plugin returned 101",
    );
    check_update("(loop (br 0))", "exceeded its time per call: the limit is 200ms, the call had not ended by then");
}

/// Writes over its answers what its input says.
static POKED: LazyLock<Plugin> = LazyLock::new(|| {
    guest(
        "(call $poke (i32.const 4300) (local.get $inputs))",
        "(call $poke (i32.const 4500) (i32.add (local.get $at) (i32.const 68)))",
    )
});

#[test]
fn what_is_written_over_an_answer_is_in_it() {
    // The length of `group`, where there is one row.
    let rows = numbers(&[7 << 32 | 2]);
    let mut grouper = POKED.open_grouper(&step(limits()), keys().schema_ref(), &[rows.schema()]).unwrap();
    let error = grouper.process(&call(7), &keys().slice(0, 1), &[Grouped { rows: &rows, ends: &[1] }]).unwrap_err();
    check(error, "`group` has 2 numbers for 1 rows of output");
}

/// Words to write over an answer of so many: small numbers, which may be right, and any.
fn pokes(n_words: i64) -> impl Strategy<Value = Vec<i64>> {
    let value =
        prop_oneof![0_i64..6, Just(3600_i64), Just(3700), Just(3800), Just(i64::from(u32::MAX)), 0..1_i64 << 32];
    prop::collection::vec((0..n_words, value).prop_map(|(word, value)| word << 32 | value), 0..5)
}

/// An answer that is not used is one of these: the host has not panicked, and says why.
fn is_told(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Invalid { .. }
            | CallError::LimitExceeded { .. }
            | CallError::Trapped { .. }
            | CallError::Failed { .. }
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// The law: whatever a guest writes into its answer, what gets to a step is in range.
    #[test]
    fn no_answer_of_a_grouper_is_used_unless_it_is_right(pokes in pokes(10)) {
        let rows = numbers(&pokes);
        let ends: Vec<_> = (1..=3).map(|group| (group * pokes.len() / 3) as u32).collect();
        let mut grouper = POKED.open_grouper(&step(limits()), keys().schema_ref(), &[rows.schema()]).unwrap();
        match grouper.process(&call(0), &keys(), &[Grouped { rows: &rows, ends: &ends }]) {
            Ok(GrouperOutput { rows, group, rejected }) => {
                prop_assert_eq!(group.len(), rows.num_rows());
                prop_assert!(group.is_sorted() && group.iter().all(|group| *group < 3));
                prop_assert_eq!(rejected.len(), 1);
                prop_assert!(rejected[0].iter().all(|rejection| (rejection.row as usize) < pokes.len()));
            }
            Err(error) => prop_assert!(is_told(&error), "{error}"),
        }
    }

    #[test]
    fn no_answer_of_an_updater_is_used_unless_it_is_right(pokes in pokes(20)) {
        let values = numbers(&pokes);
        let ends: Vec<_> = (1..=3).map(|key| (key * pokes.len() / 3) as u32).collect();
        let mut updater = POKED.open_updater(&step(limits()), keys().schema_ref(), values.schema_ref()).unwrap();
        let has_state = [false, true, false];
        let input = UpdaterInput {
            keys: &keys(),
            values: &values,
            ends: &ends,
            state: &numbers(&[5]),
            has_state: &has_state,
            timed_out: &[false; 3],
        };
        match updater.update(&call(0), &input) {
            Ok(output) => {
                prop_assert_eq!(output.group.len(), output.rows.num_rows());
                prop_assert!(output.group.is_sorted() && output.group.iter().all(|key| *key < 3));
                let put = output.changes.iter().filter(|change| matches!(change, Change::Put(_))).count();
                prop_assert_eq!((output.changes.len(), put), (3, output.state.num_rows()));
                for (key, timeout) in output.timeouts.iter().flatten().enumerate() {
                    let has_state = match output.changes[key] {
                        Change::Keep => has_state[key],
                        Change::Put(_) => true,
                        Change::Remove => false,
                    };
                    prop_assert!(has_state || !matches!(timeout, TimeoutChange::Set(_)));
                }
                prop_assert!(output.rejected.iter().all(|rejection| (rejection.row as usize) < pokes.len()));
            }
            Err(error) => prop_assert!(is_told(&error), "{error}"),
        }
    }
}
