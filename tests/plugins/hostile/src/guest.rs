//! The transform, against the raw contract.

use std::cell::RefCell;
use std::hint::black_box;

use serde_json::Value as Json;
use tidemill_guest::wasm::raw::arrow::{Batch, DataType, Field, Node};
use tidemill_guest::wasm::raw::diagnostics;
use tidemill_guest::wasm::raw::transform::exports::tidemill::operator::transform::{Carried, Guest, Output, Plan};
use tidemill_guest::wasm::raw::types::{Call, Failure, Refusal, Rejection, Step};

struct Hostile;

thread_local! {
    static CONFIG: RefCell<Json> = const { RefCell::new(Json::Null) };
}

/// What it does when nothing is asked for. Tests write something else of the same length into the file, so that it is another plugin: "by default: panics", or
/// "by default: shouts".
const BY_DEFAULT: &str = "by default: passes";

fn word(config: &Json, key: &str) -> String {
    config.get(key).and_then(Json::as_str).unwrap_or(BY_DEFAULT).to_owned()
}

fn value(name: &str, data_type: DataType) -> Field {
    Field { name: name.into(), data_type, nullable: true, children: 0 }
}

fn plan() -> Plan {
    Plan { reads: Some(vec!["value".into()]), writes: vec![value("value", DataType::Utf8)], carries: Carried::Nothing }
}

impl Guest for Hostile {
    fn open(step: Step, input: Vec<Field>) -> Result<Plan, Refusal> {
        let config: Json = serde_json::from_str(&step.config).map_err(|error| Refusal::Config(error.to_string()))?;
        let what = word(&config, "do");
        CONFIG.set(config);
        let mut plan = plan();
        match what.as_str() {
            "panic-in-open" => panic!("open was asked to panic"),
            "endless-loop-in-open" | "cpu-hog-in-open" => spin(),
            "memory-bomb-in-open" => bomb(),
            "sleep-in-open" => std::thread::sleep(std::time::Duration::from_secs(3600)),
            "exit-in-open" => std::process::exit(3),
            "refuse-config" => return Err(Refusal::Config("`do` should be something kind".into())),
            "refuse-schema" => return Err(Refusal::Schema("column `kindness` is missing".into())),
            "refuse-other" => return Err(Refusal::Other("not today".into())),
            "refuse-with-control-characters" => return Err(Refusal::Other("\u{1b}[2J\nerror: all is well\0".into())),
            "refuse-at-length" => return Err(Refusal::Other("no ".repeat(10_000_000))),
            "reads-unknown" => plan.reads = Some(vec!["valeu".into()]),
            "reads-twice" => plan.reads = Some(vec!["value".into(), "value".into()]),
            "reads-a-million" => plan.reads = Some(vec!["value".into(); 1_000_000]),
            "carries-unknown" => plan.carries = Carried::Only(vec!["valeu".into()]),
            "writes-twice" => plan.writes.push(value("value", DataType::Int64)),
            "writes-too-many" => plan.writes = (0..100_000).map(|i| value(&i.to_string(), DataType::Int8)).collect(),
            "writes-too-deep" => {
                plan.writes = (0..4000).map(|_| Field { children: 1, ..value("value", DataType::List) }).collect();
            }
            "writes-missing-children" => plan.writes[0] = Field { children: 7, ..value("value", DataType::Struct) },
            "writes-bad-decimal" => plan.writes[0] = value("value", DataType::Decimal128((200, -100))),
            "carry-everything" | "wrong-row-numbers" | "missing-row-numbers" | "too-many-row-numbers" => {
                plan.carries = Carried::Everything;
            }
            _ => {}
        }
        // A guest that was told no columns says so, rather than lying about them.
        if input.iter().all(|field| field.name != "value") {
            return Err(Refusal::Schema("column `value` is missing".into()));
        }
        Ok(plan)
    }

    fn process(call: Call, input: Batch) -> Result<Output, Failure> {
        let (what, at, only) = CONFIG.with_borrow(|config| {
            let at = config.get("at").and_then(Json::as_u64).unwrap_or(0);
            (word(config, "do"), at, config.get("when").and_then(Json::as_str).map(str::to_owned))
        });
        // `when`: only a call that holds this text among its rows.
        let holds = |text: &String| {
            input
                .buffers
                .last()
                .is_some_and(|data| data.windows(text.len().max(1)).any(|found| found == text.as_bytes()))
        };
        if call.batch_id.max(call.first_row) < at || only.is_some_and(|text| !holds(&text)) {
            return Ok(output(input));
        }
        misbehave(&what, &call, input)
    }
}

fn output(rows: Batch) -> Output {
    Output { rows, origin: None, rejected: Vec::new() }
}

fn spin() -> ! {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

#[expect(unconditional_recursion, reason = "that is what is asked for")]
fn recurse(n: u64) -> u64 {
    let room = [n; 64];
    black_box(room)[3] + recurse(black_box(n + 1))
}

fn bomb() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
}

fn misbehave(what: &str, call: &Call, mut input: Batch) -> Result<Output, Failure> {
    let n_rows = input.rows;
    let offset = |bytes: i32| bytes.to_le_bytes();
    match what {
        "endless-loop" | "cpu-hog" | "cpu-hog-of-job" => spin(),
        "recursion" => {
            black_box(recurse(0));
        }
        "memory-bomb" | "memory-bomb-of-job" => bomb(),
        "panic" | "by default: panics" => panic!("process was asked to panic"),
        "by default: shouts" => input.buffers[2].make_ascii_uppercase(),
        "panic-with-control-characters" => panic!("\u{1b}[2J\nerror: all is well"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(3),
        "unreachable" => core::arch::wasm32::unreachable(),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "sleep-often" => (0..1_000_000).for_each(|_| std::thread::sleep(std::time::Duration::from_millis(100))),
        "fail" => return Err(Failure::Fatal("the operator says so".into())),
        "fail-retry" => return Err(Failure::Retry("the operator says so".into())),
        "log-flood" => {
            (0..1_000_000).for_each(|i| diagnostics::log(diagnostics::Level::Warn, &format!("flood {i:100}")))
        }
        "log-line-flood" => (0..1_000_000).for_each(|_| diagnostics::log(diagnostics::Level::Warn, "")),
        "log-long" => diagnostics::log(diagnostics::Level::Warn, &"x".repeat(40 << 20)),
        "log-control-characters" => diagnostics::log(diagnostics::Level::Error, "\u{1b}[2J\nall is well"),
        "stderr-flood" => (0..1_000_000).for_each(|i| eprintln!("flood {i:100}")),
        "stdout-flood" => (0..1_000_000).for_each(|i| println!("flood {i:100}")),
        "host-call-flood" => (0..u64::MAX).for_each(|i| diagnostics::count("calls", i)),
        "count-flood" => (0..100_000).for_each(|i| diagnostics::count(&format!("counter {i}"), 1)),
        "output-flood" => {
            let n = 40 << 20;
            input.rows = 1;
            input.nodes = vec![Node { length: 1, null_count: 0 }];
            input.buffers = vec![vec![], [offset(0), offset(n)].concat(), vec![b'x'; n as usize]];
        }
        "row-flood" => {
            let n = 5_000_000;
            input.rows = n;
            input.nodes = vec![Node { length: n, null_count: 0 }];
            input.buffers = vec![vec![], vec![0; 4 * (n as usize + 1)], vec![]];
        }
        "wrong-length" => input.nodes[0].length += 1,
        "huge-rows" => {
            input.rows = u32::MAX;
            input.nodes[0].length = u32::MAX;
        }
        "wrong-null-count" => input.nodes[0].null_count = u32::MAX,
        "null-count-without-validity" => {
            input.nodes[0].null_count = 1;
            input.buffers[0].clear();
        }
        "short-validity" => {
            input.nodes[0].null_count = n_rows;
            input.buffers[0] = vec![0; (n_rows as usize).div_ceil(8) + 1];
        }
        "missing-node" => input.nodes.clear(),
        "extra-node" => input.nodes.push(Node { length: 0, null_count: 0 }),
        "missing-buffer" => drop(input.buffers.pop()),
        "extra-buffer" => input.buffers.push(vec![]),
        "offsets-missing" => input.buffers[1].clear(),
        "offsets-backwards" => {
            input.buffers[1] = (0..=n_rows as i32).rev().flat_map(offset).collect();
            input.buffers[1][..4].fill(0);
        }
        "offsets-out-of-bounds" => {
            let last = input.buffers[1].len() - 4;
            input.buffers[1][last..].copy_from_slice(&offset(i32::MAX));
        }
        "offsets-negative" => {
            let last = input.buffers[1].len() - 4;
            input.buffers[1][last..].copy_from_slice(&offset(-1));
        }
        "offsets-not-from-zero" => input.buffers[1][..4].copy_from_slice(&offset(1)),
        "bad-utf8" => input.buffers[2].fill(0xFF),
        "split-character" => {
            input.rows = 2;
            input.nodes = vec![Node { length: 2, null_count: 0 }];
            input.buffers = vec![vec![], [offset(0), offset(1), offset(2)].concat(), "é".into()];
        }
        "wrong-schema" => input.buffers = vec![vec![], vec![0; 8 * n_rows as usize], vec![]],
        "wrong-row-numbers" => return Ok(Output { origin: Some(vec![n_rows; n_rows as usize]), ..output(input) }),
        "missing-row-numbers" => {
            input.rows = 0;
            input.nodes[0] = Node { length: 0, null_count: 0 };
            input.buffers = vec![vec![]; 3];
        }
        "too-many-row-numbers" => return Ok(Output { origin: Some(vec![0; n_rows as usize + 1]), ..output(input) }),
        "reject-unknown" => {
            let rejected = vec![Rejection { row: n_rows, reason: "not there".into() }];
            return Ok(Output { rejected, ..output(input) });
        }
        "reject-twice" => {
            let rejected = vec![Rejection { row: 0, reason: "again".into() }; 2];
            return Ok(Output { rejected, ..output(input) });
        }
        "reject-at-length" => {
            let rejected = vec![Rejection { row: 0, reason: "x\u{1b}\n".repeat(1 << 20) }];
            return Ok(Output { rejected, ..output(input) });
        }
        // Not hostile, but what a sandbox must decide: every row becomes what the guest sees.
        "read-clock" => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            return Ok(output(repeat(&now.as_micros().to_string(), n_rows)));
        }
        "read-monotonic-clock" => {
            let start = std::time::Instant::now();
            std::thread::sleep(std::time::Duration::from_secs(3600));
            return Ok(output(repeat(&start.elapsed().as_secs().to_string(), n_rows)));
        }
        "random" => {
            use std::hash::{BuildHasher, RandomState};
            // The keys of a thread's first state come from the host when it is made; those after it are counted up.
            let number = RandomState::new().hash_one(7_u8);
            return Ok(output(repeat(&number.to_string(), n_rows)));
        }
        "read-environment" => {
            let seen = format!("{} variables, {} arguments", std::env::vars().count(), std::env::args().count());
            return Ok(output(repeat(&seen, n_rows)));
        }
        "read-file" => {
            let seen = match std::fs::read_to_string("/etc/passwd") {
                Ok(text) => format!("read {} bytes", text.len()),
                Err(error) => error.to_string(),
            };
            return Ok(output(repeat(&seen, n_rows)));
        }
        "read-call" => {
            let seen = format!(
                "batch {} at {}, partition {}, attempt {}, row {}, watermark {:?}",
                call.batch_id, call.batch_time_us, call.partition, call.attempt, call.first_row, call.watermark_us
            );
            return Ok(output(repeat(&seen, n_rows)));
        }
        _ => {}
    }
    Ok(output(input))
}

/// `n_rows` rows of the same text.
fn repeat(text: &str, n_rows: u32) -> Batch {
    let offsets = (0..=n_rows).flat_map(|row| (row * text.len() as u32).to_le_bytes()).collect();
    Batch {
        rows: n_rows,
        nodes: vec![Node { length: n_rows, null_count: 0 }],
        buffers: vec![vec![], offsets, text.repeat(n_rows as usize).into_bytes()],
    }
}

tidemill_guest::wasm::raw::transform::export_transform!(Hostile with_types_in tidemill_guest::wasm::raw::transform);
