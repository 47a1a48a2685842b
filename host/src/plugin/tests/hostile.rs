//! Guests that break every limit and lie about every number: each a clear error, and the host goes on.

use super::*;
use crate::error::Explain;
use crate::operator::{CallError, Crossed};

fn check(process: &str, expected: &str) {
    check_with(process, limits(), expected);
}

fn check_with(process: &str, limits: Limits, expected: &str) {
    let plugin = plugin("", process);
    let mut transform = open(&plugin, limits.clone()).unwrap();
    let error = transform.process(&call(7), &rows(&["one", "two"])).unwrap_err();
    let prefix = "`guest.wasm` in step `step`, batch 7, partition 3 ";
    let message = error.to_string();
    assert_eq!(message.strip_prefix(prefix).unwrap_or(&message), expected);
    // The seat is spent, and another opens.
    let again = transform.process(&call(7), &rows(&["one"])).unwrap_err();
    assert!(matches!(again, CallError::Failed { .. }), "{again}");
    open(&plugin, limits).unwrap();
}

fn check_open(instructions: &str, expected: &str) {
    let error = open(&plugin(instructions, ""), limits()).err().unwrap();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_guest_that_behaves_is_not_disturbed() {
    let plugin = plugin("", "");
    let mut transform = open(&plugin, limits()).unwrap();
    for values in [&["one", "two"][..], &[], &[""]] {
        let output = transform.process(&call(0), &rows(values)).unwrap();
        assert_eq!(output.rows, rows(values));
        assert_eq!(output.origin, None);
    }
    // 4 for the rows, 8 for the node, 4 for each offset, and the text; with no rows the 4 alone.
    let crossed = transform.bytes_crossed();
    assert_eq!(crossed, Crossed { in_bytes: 12 + 12 + 6 + 4 + 12 + 8, out_bytes: 12 + 12 + 6 + 4 + 12 + 8 });
}

#[test]
fn a_loop_without_end_is_stopped() {
    check("(loop (br 0))", "exceeded its time per call: the limit is 200ms, the call had not ended by then");
    check_open(
        "(loop (br 0))",
        "`guest.wasm` exceeded its time to open while opening step `step`: the limit is 500ms, `open` had not ended by then",
    );
}

#[test]
fn a_recursion_without_end_is_stopped() {
    check("(drop (call $recurse (i32.const 1)))", "exceeded its stack: the limit is 1MiB, all of it was used");
}

#[test]
fn fuel_is_counted_when_it_is_limited() {
    let limits = Limits { fuel_per_call: Some(10_000), ..limits() };
    check_with("(loop (br 0))", limits.clone(), "exceeded its fuel per call: the limit is 10000 units, all were used");
    let mut transform = open(&plugin("", ""), limits).unwrap();
    for batch_id in 0..1000 {
        transform.process(&call(batch_id), &rows(&["a"])).unwrap();
    }
}

#[test]
fn memory_is_limited() {
    check(
        "(if (i32.eq (i32.const -1) (memory.grow (i32.const 1000))) (then (unreachable)))",
        "exceeded its memory: the limit is 1MiB, the plugin asked for 62.7MiB",
    );
    let mut transform = open(&plugin("", "(drop (memory.grow (i32.const 1000)))"), limits()).unwrap();
    transform.process(&call(0), &rows(&["a"])).expect("a guest that copes with less memory is not stopped");
    let error = open(&plugin("", ""), Limits { memory_bytes: 65536, ..limits() }).err().unwrap();
    assert_eq!(
        error.to_string(),
        "`guest.wasm` exceeded its memory while opening step `step`: the limit is 64KiB, the plugin asked for 128KiB"
    );
}

#[test]
fn tables_are_limited() {
    check(
        "(if (i32.eq (i32.const -1) (table.grow (ref.null func) (i32.const 1000000))) (then (unreachable)))",
        "exceeded its table elements: the limit is 100000, the plugin asked for 1000001",
    );
}

#[test]
fn parts_of_an_instance_are_limited() {
    let check = |limits: Limits, expected: &str| {
        let error = open(&plugin("", ""), limits).err().unwrap();
        assert_eq!(error.to_string(), format!("`guest.wasm` exceeded its {expected}"));
        assert!(error.hint().is_some_and(|hint| hint.starts_with("Raise `")), "{:?}", error.hint());
    };
    let one = "while opening step `step`: the limit is 0, the plugin asked for 1";
    check(Limits { core_instances: 0, ..limits() }, &format!("core instances {one}"));
    check(Limits { memories: 0, ..limits() }, &format!("memories {one}"));
    check(Limits { tables: 0, ..limits() }, &format!("tables {one}"));
}

#[test]
fn host_calls_are_limited() {
    let calls = "(call $count (i32.const 16) (i32.const 5) (i64.const 2))";
    let two = Limits { host_calls: 2, ..limits() };
    open(&plugin("", &calls.repeat(2)), two.clone()).unwrap().process(&call(0), &rows(&["a"])).unwrap();
    // Also in a call that is over before anybody looks.
    let exceeded = "exceeded its host calls per call: the limit is 2, the plugin made more";
    check_with(&calls.repeat(3), two.clone(), exceeded);
    check_with(&format!("(loop {calls} (br 0))"), two, exceeded);
}

#[test]
fn instances_of_a_job_have_one_sum() {
    let plugin = plugin("", "");
    let budget = crate::operator::Budget::new(crate::operator::JobLimits { instances: 1, ..Default::default() });
    let step = StepInfo { budget, ..step(limits()) };
    let first = plugin.open_transform(&step, &schema()).unwrap();
    let error = plugin.open_transform(&step, &schema()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "`guest.wasm` exceeded its job's instances of plugins while opening step `step`: the limit is 1, it would be number 2"
    );
    drop(first);
    plugin.open_transform(&step, &schema()).unwrap();
}

#[test]
fn a_trap_tells_the_last_words() {
    check("(call $print-boom) (unreachable)", "crashed: it aborted; it wrote: boom");
    check("(unreachable)", "crashed: it aborted");
    check_open(
        "(call $print-boom) (unreachable)",
        "`guest.wasm` crashed while opening step `step`: it aborted; it wrote: boom",
    );
    check("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "crashed: wasm trap: integer divide by zero");
    check(
        "(drop (i32.load (i32.const -1)))",
        "crashed: it accessed memory out of bounds, as a recursion without end does too",
    );
}

#[test]
fn a_guest_does_not_exit() {
    check(
        "(call $exit (i32.const 1))",
        "crashed: it called `exit` with code 1, and a plugin does not exit: it returns",
    );
}

#[test]
fn a_sleep_takes_no_time_and_moves_the_clock() {
    let sleep = "(call $block (call $subscribe (i64.const 3600000000000)))
         (local.set $time (i64.sub (call $now) (i64.mul (local.get $time) (i64.const 1000))))
         (local.set $time (i64.div_u (local.get $time) (i64.const 1000000000)))
         (local.set $time (i64.or (i64.shl (i64.and (local.get $time) (i64.const 0xf80)) (i64.const 1))
                                  (i64.and (local.get $time) (i64.const 0x7f))))
         (call $give (local.get $time))";
    let mut transform = open(&plugin("", sleep), limits()).unwrap();
    // 3600 seconds, seven bits a byte.
    assert_eq!(number(&mut *transform, 0), 3600 / 128 * 256 + 3600 % 128);
    assert_eq!(number(&mut *transform, 1), 3600 / 128 * 256 + 3600 % 128);
    // Sleeping for ever is a loop like any other.
    check(
        "(loop (call $block (call $subscribe (i64.const 1000000000))) (br 0))",
        "crashed: resource table has no free keys",
    );
}

#[test]
fn random_numbers_belong_to_the_rows() {
    let random = format!("(local.set $time (call $random)) {SPREAD} (call $give (local.get $time))");
    let plugin = plugin("", &random);
    let mut transform = open(&plugin, limits()).unwrap();
    let numbers: Vec<_> = (0..4).map(|batch_id| number(&mut *transform, batch_id)).collect();
    let mut other = open(&plugin, limits()).unwrap();
    let again: Vec<_> = (0..4).rev().map(|batch_id| number(&mut *other, batch_id)).rev().collect();
    assert_eq!(numbers, again);
    assert!(numbers.iter().collect::<std::collections::HashSet<_>>().len() == 4, "{numbers:?}");
}

#[test]
fn the_log_is_limited() {
    check(
        "(loop (call $log (i32.const 1) (i32.const 16) (i32.const 5)) (br 0))",
        "exceeded its log bytes per call: the limit is 1000B, the plugin wrote 1005B",
    );
    check(
        "(loop (call $print-boom) (br 0))",
        "exceeded its log bytes per call: the limit is 1000B, the plugin wrote 1005B",
    );
    check_with(
        "(drop (memory.grow (i32.const 7))) (call $log (i32.const 1) (i32.const 0) (i32.const 500000))",
        Limits { output_bytes: 4096, ..limits() },
        "exceeded its log bytes per call: the limit is 1000B, the plugin wrote more than 4KiB at once",
    );
}

#[test]
fn the_output_is_limited() {
    check(
        "(i32.store (i32.const 1284) (i32.const 101))",
        "exceeded its output rows per call: the limit is 100, the plugin returned 101",
    );
    // The text's length.
    check(
        "(i32.store offset=20 (local.get $buffers) (i32.const 5000))",
        "exceeded its output bytes per call: the limit is 4KiB, the plugin returned 5.0KiB",
    );
    check(
        "(drop (memory.grow (i32.const 8))) (i32.store offset=20 (local.get $buffers) (i32.const 400000))",
        "exceeded its output bytes per call: the limit is 4KiB, the plugin returned more",
    );
}

#[test]
fn lies_about_the_batch_are_found() {
    check(
        "(i32.store (i32.const 1284) (i32.const 3))",
        "returned a batch against the contract: column `value`: it has 2 values, not 3",
    );
    check(
        "(i32.store offset=20 (local.get $buffers) (i32.const -1))",
        "returned a batch against the contract: it cannot be read: list pointer/length out of bounds of memory",
    );
    check(
        "(i32.store (i32.const 1300) (i32.const 2))",
        "returned a batch against the contract: it has 2 buffers, its schema needs 3",
    );
    check(
        "(i32.store offset=4 (i32.load offset=8 (local.get $buffers)) (i32.const 9))",
        "returned a batch against the contract: column `value`: offset 2 is 6, less than the one before it, 9",
    );
    check("(call $give (i64.const -1))", "returned a batch against the contract: column `value`: value 0 is not UTF-8");
    // `origin`: some, [7] of two rows; then some, [0, 7].
    check(
        "(i32.store (i32.const 1304) (i32.const 1)) (i32.store (i32.const 1308) (i32.const 2048))
         (i32.store (i32.const 1312) (i32.const 1))",
        "returned a batch against the contract: `origin` has 1 numbers for 2 rows of output",
    );
    check(
        "(i32.store (i32.const 1304) (i32.const 1)) (i32.store (i32.const 1308) (i32.const 4096))
         (i32.store (i32.const 1312) (i32.const 2)) (i32.store (i32.const 4100) (i32.const 7))",
        "returned a batch against the contract: `origin[1]` is 7, and the input has 2 rows",
    );
    // A discriminant that the variant does not have.
    check(
        "(i32.store8 (i32.const 1280) (i32.const 9))",
        "returned a batch against the contract: it cannot be read: invalid expected discriminant",
    );
}

#[test]
fn a_failure_is_the_guests_word() {
    // At 4096: err(retry("value")).
    let fail = |case: u32| {
        format!(
            "(i32.store (i32.const 1280) (i32.const 1)) (i32.store (i32.const 1284) (i32.const {case}))
             (i32.store (i32.const 1288) (i32.const 16)) (i32.store (i32.const 1292) (i32.const 5))"
        )
    };
    for (case, retry) in [(0, crate::error::Retry::WithBackoff), (1, crate::error::Retry::Never)] {
        check(&fail(case), "failed: value");
        let error = open(&plugin("", &fail(case)), limits()).unwrap().process(&call(0), &rows(&[])).unwrap_err();
        assert_eq!(error.retry(), retry);
    }
}

#[test]
fn a_refusal_is_the_guests_word() {
    let refuse = |case: u32| {
        format!(
            "(i32.store (i32.const 1024) (i32.const 1)) (i32.store (i32.const 1028) (i32.const {case}))
             (i32.store (i32.const 1032) (i32.const 16)) (i32.store (i32.const 1036) (i32.const 5))"
        )
    };
    check_open(&refuse(0), "`guest.wasm` refuses the config of step `step`: value");
    check_open(&refuse(1), "`guest.wasm` refuses the input of step `step`: value");
    check_open(&refuse(2), "`guest.wasm` refuses step `step`: value");
}

#[test]
fn a_plan_against_the_contract_is_refused() {
    // The field's number of children.
    check_open(
        "(i32.store (i32.const 2080) (i32.const 1))",
        "`guest.wasm` answered `open` of step `step` against the contract: `writes`: column `value` says it has 1 \
         children, not 0",
    );
    // carries: only(["value", "value"]) at 4096.
    check_open(
        "(i32.store (i32.const 1048) (i32.const 2)) (i32.store (i32.const 1052) (i32.const 4096))
         (i32.store (i32.const 1056) (i32.const 1))
         (i32.store (i32.const 4096) (i32.const 16)) (i32.store (i32.const 4100) (i32.const 4))",
        "`guest.wasm` answered `open` of step `step` against the contract: `carries` names the column `valu`, which is not \
         among the input's: `value`",
    );
}

#[test]
fn another_plan_than_before_is_refused() {
    // Whether the column is nullable follows the config's length: another question may have another answer.
    let plugin = plugin("(i32.store8 (i32.const 2076) (i32.gt_u (local.get $config-len) (i32.const 2)))", "");
    open(&plugin, limits()).unwrap();
    let other = StepInfo { config: serde_json::json!({"a": 1}), ..step(limits()) };
    assert!(plugin.open_transform(&other, &schema()).unwrap().plan().writes.field(0).is_nullable());
    assert!(!open(&plugin, limits()).unwrap().plan().writes.field(0).is_nullable());
}

#[test]
fn a_plan_that_changes_between_instances_is_refused() {
    // Everything is the same for every instance but what it may use.
    let plugin = plugin("(i32.store8 (i32.const 2076) (i32.eq (i32.const -1) (memory.grow (i32.const 8))))", "");
    open(&plugin, limits()).unwrap();
    let error = open(&plugin, Limits { memory_bytes: 128 << 10, ..limits() }).err().unwrap();
    assert_eq!(
        error.to_string(),
        "`guest.wasm` answered `open` of step `step` in another way than when the job was checked"
    );
}

#[test]
fn a_role_that_is_missing_is_named() {
    let error = plugin("", "").open_reducer(&step(limits()), &schema()).err().unwrap();
    assert_eq!(error.to_string(), "`guest.wasm`, in step `step`, has no role `reducer`");
    assert_eq!(error.hint().unwrap(), "It has `transform`. Use a step kind for that, or another plugin for `reducer`.");
}

#[test]
fn a_kept_instance_remembers_and_a_fresh_one_does_not() {
    // Counts its calls in memory.
    let count = "(i64.store (i32.const 4096) (i64.add (i64.load (i32.const 4096)) (i64.const 1)))
                 (call $give (i64.load (i32.const 4096)))";
    for (instance, expected) in [(InstanceMode::Kept, [1, 2, 3, 4]), (InstanceMode::Fresh, [1, 2, 1, 1])] {
        let plugin = plugin_with("", count, &LoadOptions { instance, ..LoadOptions::default() });
        let mut transform = open(&plugin, limits()).unwrap();
        let numbers = [0, 0, 1, 2].map(|batch_id| number(&mut *transform, batch_id));
        assert_eq!(numbers, expected, "{instance:?}");
    }
}

#[test]
fn what_guests_count_is_kept_by_step() {
    let plugin = plugin("", "(call $count (i32.const 16) (i32.const 5) (i64.const 2))");
    assert!(plugin.metrics("job", "step").is_none());
    for _ in 0..2 {
        open(&plugin, limits()).unwrap().process(&call(0), &rows(&[])).unwrap();
    }
    let metrics = plugin.metrics("job", "step").unwrap().snapshot();
    assert_eq!(metrics, [("value".to_owned(), crate::plugin::MetricValue::Counter(4))]);
}
