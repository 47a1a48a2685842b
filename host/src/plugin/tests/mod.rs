//! Small guests, written as text, driven through the public interface: loading, limits, determinism.

mod groups;
mod hostile;
mod identity;
mod keyed;
mod load;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::ids::{BatchId, PartitionId};
use crate::operator::{Call, Limits, OpenError, Operator, StepInfo, Transform};
use crate::plugin::{InstanceMode, LoadOptions, Plugin, Runtime, RuntimeConfig};

/// One runtime for all tests: no cache.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(config(None)).unwrap());

fn config(cache_dir: Option<PathBuf>) -> RuntimeConfig {
    RuntimeConfig { cache_dir, ..RuntimeConfig::default() }
}

/// The test guest with these instructions in `open` and `process`.
fn guest(open: &str, process: &str) -> Vec<u8> {
    let text = include_str!("guest.wat").replace("(;OPEN;)", open).replace("(;PROCESS;)", process);
    wat::parse_str(text).unwrap()
}

fn write(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("guest.wasm");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn plugin_with(open: &str, process: &str, options: &LoadOptions) -> Plugin {
    let folder = tempfile::tempdir().unwrap();
    RUNTIME.load("guest.wasm", &write(folder.path(), &guest(open, process)), options).unwrap()
}

fn plugin(open: &str, process: &str) -> Plugin {
    plugin_with(open, process, &LoadOptions::default())
}

fn limits() -> Limits {
    // The shortest times are still a hundred times what these guests need.
    Limits {
        time_to_open: Duration::from_millis(500),
        time_per_call: Duration::from_millis(200),
        memory_bytes: 1 << 20,
        output_bytes: 4096,
        output_rows: 100,
        log_bytes_per_call: 1000,
        ..Limits::default()
    }
}

fn step(limits: Limits) -> StepInfo {
    StepInfo {
        job: "job".into(),
        step: "step".into(),
        partitions: 4,
        config: serde_json::Value::Object(serde_json::Map::new()),
        limits,
        budget: Default::default(),
        stop: Default::default(),
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Utf8, false)]))
}

fn open(plugin: &Plugin, limits: Limits) -> Result<Box<dyn Transform>, OpenError> {
    plugin.open_transform(&step(limits), &schema())
}

fn rows(values: &[&str]) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(StringArray::from(values.to_vec()))]).unwrap()
}

fn call(batch_id: u64) -> Call {
    Call {
        batch_id: BatchId(batch_id),
        batch_time_us: 1_700_000_000_000_000,
        partition: PartitionId(3),
        attempt: 0,
        first_row: 0,
        watermark_us: None,
    }
}

/// The number that a guest wrote over the first eight bytes of the output's text. Made of seven-bit bytes, it is UTF-8.
fn number(transform: &mut dyn Transform, batch_id: u64) -> u64 {
    let output = transform.process(&call(batch_id), &rows(&["12345678"])).unwrap();
    let text = output.rows.column(0).as_any().downcast_ref::<StringArray>().unwrap();
    u64::from_le_bytes(text.value(0).as_bytes().try_into().unwrap())
}

/// Spreads the low 32 bits of a number over eight bytes of four bits each, which are UTF-8.
const SPREAD: &str = "(local.set $time (i64.and (local.get $time) (i64.const 0x0f0f0f0f0f0f0f0f)))";
