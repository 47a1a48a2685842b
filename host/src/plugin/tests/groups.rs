//! Reducers and aggregators: groups go in, one row a group comes out, or the answer is refused.

use arrow::array::Int64Array;

use super::*;
use crate::operator::Role;

/// Answers what it was given: right when every group has one row.
const FUNCTIONS: &str = r#"
    (func $answer (param $rows i32) (param $nodes i32) (param $n-nodes i32) (param $buffers i32) (param $n-buffers i32)
      (result i32)
      (i32.store (i32.const 3076) (local.get $rows))
      (i32.store (i32.const 3080) (local.get $nodes))
      (i32.store (i32.const 3084) (local.get $n-nodes))
      (i32.store (i32.const 3088) (local.get $buffers))
      (i32.store (i32.const 3092) (local.get $n-buffers))
      (i32.const 3072))
    (func (export "open-reducer") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (i32.store8 (i32.const 3204) (i32.const 1))
      (i32.const 3200))
    ;; ok({ reads: none, accumulator: the input, result: the input })
    (func (export "open-aggregator") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (i32.store (i32.const 3344) (local.get 7))
      (i32.store (i32.const 3348) (local.get 8))
      (i32.store (i32.const 3352) (local.get 7))
      (i32.store (i32.const 3356) (local.get 8))
      (i32.const 3328))
    (func (export "groups")
      (param i64 i64 i32 i32 i64 i32 i64) (param i32 i32 i32 i32 i32) (param i32 i32) (result i32)
      (call $answer (local.get 7) (local.get 8) (local.get 9) (local.get 10) (local.get 11)))
    (func (export "finish")
      (param i64 i64 i32 i32 i64 i32 i64) (param i32 i32 i32 i32 i32) (result i32)
      (call $answer (local.get 7) (local.get 8) (local.get 9) (local.get 10) (local.get 11)))
    ;; Too many parameters to be passed one by one: the call is at 0, the whole at 48, the part at 68.
    (func (export "invert") (param $at i32) (result i32)
      (call $answer
        (i32.load offset=48 (local.get $at)) (i32.load offset=52 (local.get $at)) (i32.load offset=56 (local.get $at))
        (i32.load offset=60 (local.get $at)) (i32.load offset=64 (local.get $at))))
"#;

const ROLES: &str = r#"
  (type $reducer-plan' (record (field "invertible" bool)))
  (export $reducer-plan "reducer-plan" (type $reducer-plan'))
  (func $open-reducer (param "step" $step) (param "values" (list $field))
    (result (result $reducer-plan (error $refusal)))
    (canon lift (core func $main "open-reducer") (memory $mem) (realloc $realloc)))
  (func $groups-values (param "call" $call) (param "values" $batch) (param "ends" (list u32))
    (result (result $batch (error $failure)))
    (canon lift (core func $main "groups") (memory $mem) (realloc $realloc)))
  (func $invert (param "call" $call) (param "whole" $batch) (param "part" $batch)
    (result (result $batch (error $failure)))
    (canon lift (core func $main "invert") (memory $mem) (realloc $realloc)))
  (instance $reducer
    (export "open" (func $open-reducer)) (export "reduce" (func $groups-values)) (export "invert" (func $invert)))
  (export "tidemill:operator/reducer@0.1.0" (instance $reducer))

  (type $aggregator-plan' (record
    (field "reads" (option (list string))) (field "accumulator" (list $field)) (field "result" (list $field))))
  (export $aggregator-plan "aggregator-plan" (type $aggregator-plan'))
  (func $open-aggregator (param "step" $step) (param "values" (list $field))
    (result (result $aggregator-plan (error $refusal)))
    (canon lift (core func $main "open-aggregator") (memory $mem) (realloc $realloc)))
  (func $groups-accumulators (param "call" $call) (param "accumulators" $batch) (param "ends" (list u32))
    (result (result $batch (error $failure)))
    (canon lift (core func $main "groups") (memory $mem) (realloc $realloc)))
  (func $finish (param "call" $call) (param "accumulators" $batch) (result (result $batch (error $failure)))
    (canon lift (core func $main "finish") (memory $mem) (realloc $realloc)))
  (instance $aggregator
    (export "open" (func $open-aggregator)) (export "accumulate" (func $groups-values))
    (export "merge" (func $groups-accumulators)) (export "finish" (func $finish)))
  (export "tidemill:operator/aggregator@0.1.0" (instance $aggregator))
"#;

static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| {
    let functions = format!("{FUNCTIONS}{}", keyed::FUNCTIONS);
    let roles = format!("{ROLES}{}", keyed::ROLES);
    let text = include_str!("guest.wat").replace("(;FUNCTIONS;)", &functions).replace("(;ROLES;)", &roles);
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), &wat::parse_str(text).unwrap());
    RUNTIME.load("guest.wasm", &path, &LoadOptions::default()).unwrap()
});

pub(super) fn numbers(numbers: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(numbers.to_vec())) as arrow::array::ArrayRef)]).unwrap()
}

#[test]
fn a_plugin_may_have_every_role() {
    assert_eq!(PLUGIN.roles(), Role::ALL);
}

#[test]
fn a_reducer_answers_one_row_a_group() {
    let values = numbers(&[3, 1, 2]);
    let mut reducer = PLUGIN.open_reducer(&step(limits()), values.schema_ref()).unwrap();
    assert!(reducer.plan().invertible);
    assert_eq!(reducer.reduce(&call(0), &values, &[1, 2, 3]).unwrap(), values);
    assert_eq!(reducer.invert(&call(0), &values, &numbers(&[1, 1, 1])).unwrap(), values);
    // 4 for the rows, 8 for the node, 24 for the numbers; three times in, with three ends, and twice out.
    assert_eq!(reducer.bytes_crossed(), crate::operator::Crossed { in_bytes: 3 * 36 + 12, out_bytes: 2 * 36 });
    assert_eq!(
        reducer.reduce(&call(7), &values, &[1, 3]).unwrap_err().to_string(),
        "`guest.wasm` in step `step`, batch 7, partition 3 returned a batch against the contract: it has 3 rows, and there \
         are 2 groups"
    );
    reducer.reduce(&call(7), &values, &[1, 2, 3]).expect_err("it is spent");
}

#[test]
fn an_aggregator_answers_one_row_a_group() {
    let values = numbers(&[3, 1, 2]);
    let open = || PLUGIN.open_aggregator(&step(limits()), values.schema_ref()).unwrap();
    let mut aggregator = open();
    assert_eq!(aggregator.plan().reads, [0]);
    assert_eq!(&aggregator.plan().accumulator, values.schema_ref());
    assert_eq!(aggregator.accumulate(&call(0), &values, &[1, 2, 3]).unwrap(), values);
    assert_eq!(aggregator.merge(&call(0), &values, &[1, 2, 3]).unwrap(), values);
    assert_eq!(aggregator.finish(&call(0), &values).unwrap(), values);
    aggregator.merge(&call(0), &values, &[3]).expect_err("three rows for one group");
    open().accumulate(&call(0), &values, &[3]).expect_err("three rows for one group");
}
