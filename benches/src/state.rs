//! What state costs: a batch of keys among many entries, memory and disk for ten million of them, and more than fits.
//!
//! Each part runs in a process of its own, so that its peak memory is its own.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use tidemill::ids::PartitionId;
use tidemill::metrics::peak_memory_bytes;
use tidemill::state::{Backend, StateError, StateSettings, StateStore, StepState};
use tidemill_bench::cpu::{median, thread_time};
use tidemill_bench::figure::{show, show_at_most};

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures state on one thread; prints figures as JSON lines.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// A hundredth of the entries: the figures mean little
    #[arg(long)]
    quick: bool,
    /// One part, in this process
    #[arg(long)]
    part: Option<Part>,
}

/// What is measured in one process.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Memory,
    Lsm,
    /// State ten times its budget, by the backend that has none: what the others are compared with.
    TenfoldMemory,
    /// State ten times its budget: tables move to disk while it is filled.
    TenfoldAuto,
    /// State ten times its budget, on disk from the start.
    TenfoldLsm,
}

/// How much is measured.
struct Scale {
    /// Entries at which batches are measured; the last is all.
    n_entries: [u64; 3],
    /// Batches that are measured.
    n_batches: usize,
}

/// Entries that one batch adds while the state is filled.
const ENTRIES_PER_BATCH: u64 = 50_000;

/// Keys of a measured batch: all are read, all are written.
const KEYS: u64 = 1000;

/// Bytes of an entry in memory, at most.
const MEMORY_BYTES_PER_ENTRY: f64 = 50.0;

/// Bytes of the process with ten million entries on disk, at most.
const LSM_MEMORY_BYTES: f64 = 256e6;

/// The median of the measured batches on disk, at most.
const LSM_BATCH_MS: f64 = 10.0;

/// What the figures of state that exceeds its budget are called.
const TENFOLD: &str = "ten times the budget";

/// Those of them that are compared.
const TENFOLD_FIGURES: [&str; 5] =
    ["filling", "rows of batches of 1,000 keys", "such a batch, p50", "such a batch, p99", "peak memory"];

/// Partitions of state that exceeds its budget, each a table that moves.
const PARTITIONS: u32 = 16;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let scale = match options.quick {
        true => Scale { n_entries: [1000, 10_000, 100_000], n_batches: 5 },
        false => Scale { n_entries: [10_000, 1_000_000, 10_000_000], n_batches: 101 },
    };
    let Some(part) = options.part else { return each_in_a_process(options.quick) };
    let settings = StateSettings::default();
    let result = match part {
        Part::Memory => one_table(&scale, "memory", &StateSettings { backend: Backend::Memory, ..settings }),
        Part::Lsm => one_table(&scale, "lsm", &StateSettings { backend: Backend::Lsm, ..settings }),
        Part::TenfoldMemory => beyond_the_budget(&scale, "memory", Backend::Memory),
        Part::TenfoldAuto => beyond_the_budget(&scale, "auto", Backend::Auto),
        Part::TenfoldLsm => beyond_the_budget(&scale, "lsm", Backend::Lsm),
    };
    result.map_err(|error| match error.downcast::<StateError>() {
        Ok(error) => anyhow::anyhow!("{}", tidemill::error::Error::from(error).report()),
        Err(error) => error,
    })
}

fn each_in_a_process(is_quick: bool) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("this program is not found")?;
    let mut figures: HashMap<String, f64> = HashMap::new();
    for part in Part::value_variants() {
        let name = part.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let quick = is_quick.then_some("--quick");
        let output = Command::new(&program).arg("--part").arg(&name).args(quick).stderr(Stdio::inherit()).output()?;
        let lines = String::from_utf8(output.stdout).context("figures are text")?;
        print!("{lines}");
        if !output.status.success() {
            bail!("part `{name}` failed");
        }
        for line in lines.lines() {
            let figure: serde_json::Value = serde_json::from_str(line).context("a figure is JSON")?;
            if let (Some(name), Some(value)) = (figure["name"].as_str(), figure["value"].as_f64()) {
                figures.insert(name.to_owned(), value);
            }
        }
    }
    for name in ["auto", "lsm"] {
        for figure in TENFOLD_FIGURES {
            let value = |name: &str| figures.get(&format!("{name}, {TENFOLD}: {figure}")).copied();
            let (Some(value), Some(in_memory)) = (value(name), value("memory")) else { bail!("no figure `{figure}`") };
            show(&format!("{name}, {TENFOLD}: {figure}, against memory"), value / in_memory, "x");
        }
    }
    Ok(())
}

/// The state of one step, and how many entries it has.
struct Filled {
    store: StateStore,
    state: Arc<StepState>,
    n_partitions: u32,
    n_entries: u64,
    /// For the choice of keys.
    seed: u64,
}

/// A number as a key column of that type is encoded.
fn encoded(number: u64) -> [u8; 9] {
    let mut bytes = [1; 9];
    bytes[1..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The key of the entry with a number: the multiplier is odd, so keys differ and come in no order.
fn key_of(number: u64) -> [u8; 9] {
    encoded(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Filled {
    fn open(settings: &StateSettings, n_partitions: u32) -> Result<Self, StateError> {
        let store = StateStore::open(settings)?;
        let state = StepState::new("bench", 1, n_partitions);
        store.attach(&state);
        Ok(Self { store, state, n_partitions, n_entries: 0, seed: 1 })
    }

    /// Adds entries until there are so many, batch by batch; seconds of the longest batch.
    fn fill(&mut self, n_entries: u64) -> Result<f64, StateError> {
        let mut longest = 0.0_f64;
        while self.n_entries < n_entries {
            let started = Instant::now();
            let numbers = self.n_entries..n_entries.min(self.n_entries + ENTRIES_PER_BATCH);
            for partition in 0..self.n_partitions {
                let mut task = self.state.begin(PartitionId(partition))?;
                for number in
                    numbers.clone().filter(|number| number % u64::from(self.n_partitions) == u64::from(partition))
                {
                    task.changes(0).put(0, &key_of(number), &encoded(number));
                }
                task.finish();
                self.state.commit(PartitionId(partition))?;
            }
            self.store.maintain()?;
            self.n_entries = numbers.end;
            longest = longest.max(started.elapsed().as_secs_f64());
        }
        Ok(longest)
    }

    /// A number of an entry, at random.
    fn any_number(&mut self) -> u64 {
        // Steele, Lea and Flood's SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.seed;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % self.n_entries
    }

    /// One batch as a step does it: reads every key, writes every key, is committed.
    fn batch(&mut self) -> anyhow::Result<Cost> {
        let numbers: Vec<u64> = (0..KEYS).map(|_| self.any_number()).collect();
        let (started, cpu_before) = (Instant::now(), thread_time());
        for partition in 0..self.n_partitions {
            let mut task = self.state.begin(PartitionId(partition))?;
            for number in numbers.iter().filter(|number| *number % u64::from(self.n_partitions) == u64::from(partition))
            {
                let key = key_of(*number);
                let value = task.table(0).get(0, &key)?.map(|value| value.into_owned());
                ensure!(value.as_deref() == Some(&encoded(*number)[..]), "entry {number} holds {value:?}");
                task.changes(0).put(0, &key, &encoded(*number));
            }
            task.finish();
            self.state.commit(PartitionId(partition))?;
        }
        self.store.maintain()?;
        Ok(Cost { cpu: thread_time().saturating_sub(cpu_before), wall: started.elapsed() })
    }

    /// Measures some batches, and shows them under a title; the median is to be at most so many milliseconds.
    fn show_batches(&mut self, n_batches: usize, title: &str, ms_max: Option<f64>) -> anyhow::Result<()> {
        let costs = (0..n_batches).map(|_| self.batch()).collect::<anyhow::Result<Vec<Cost>>>()?;
        let cpu_ns: Vec<f64> = costs.iter().map(|cost| cost.cpu.as_secs_f64() * 1e9).collect();
        let wall_ms: Vec<f64> = costs.iter().map(|cost| cost.wall.as_secs_f64() * 1e3).collect();
        let slowest_ms = wall_ms.iter().copied().fold(0.0, f64::max);
        show(&format!("{title}: cpu"), median(cpu_ns) / KEYS as f64, "ns/key");
        match ms_max {
            Some(limit) => show_at_most(title, median(wall_ms), "ms", limit),
            None => show(title, median(wall_ms), "ms"),
        }
        show(&format!("{title}: the slowest"), slowest_ms, "ms");
        Ok(())
    }
}

/// What one batch cost: the CPU time of the thread that runs it, and how long it took.
struct Cost {
    cpu: Duration,
    wall: Duration,
}

/// `10 million`, `10 thousand`: as people say it.
fn in_words(number: u64) -> String {
    match number {
        1_000_000.. => format!("{} million", number / 1_000_000),
        _ => format!("{} thousand", number / 1000),
    }
}

/// One table of one partition: batches at each size, and what all entries take.
fn one_table(scale: &Scale, name: &str, settings: &StateSettings) -> anyhow::Result<()> {
    let empty_bytes = peak_memory_bytes().unwrap_or_default();
    let mut filled = Filled::open(settings, 1)?;
    let started = Instant::now();
    let (mut filling, mut longest) = (0.0, 0.0_f64);
    for n_entries in scale.n_entries {
        let before = started.elapsed().as_secs_f64();
        longest = longest.max(filled.fill(n_entries)?);
        filling += started.elapsed().as_secs_f64() - before;
        let title = format!("{name}: batch of 1,000 keys among {}", in_words(n_entries));
        let ms_max = (settings.backend == Backend::Lsm).then_some(LSM_BATCH_MS);
        filled.show_batches(scale.n_batches, &title, ms_max)?;
    }
    let n_entries = filled.n_entries as f64;
    let (counted, n_bytes) = filled.state.size();
    ensure!(counted == filled.n_entries, "{counted} entries of {n_entries}");
    show(&format!("{name}: filling, one thread"), n_entries / filling, "entries/s");
    show(&format!("{name}: filling, the longest batch of 50,000"), longest * 1e3, "ms");
    let all = in_words(filled.n_entries);
    let peak_bytes = peak_memory_bytes().unwrap_or_default() as f64;
    match settings.backend {
        Backend::Lsm => {
            show_at_most(&format!("{name}: peak memory with {all}"), peak_bytes, "bytes", LSM_MEMORY_BYTES);
            show(&format!("{name}: disk"), filled.store.disk_bytes() as f64 / n_entries, "bytes/entry");
        }
        _ => {
            let per_entry = n_bytes as f64 / n_entries;
            show_at_most(&format!("{name}: allocated"), per_entry, "bytes/entry", MEMORY_BYTES_PER_ENTRY);
            let grown = peak_bytes - empty_bytes as f64;
            show(&format!("{name}: peak memory of the process"), grown / n_entries, "bytes/entry");
            show(&format!("{name}: peak memory with {all}"), peak_bytes, "bytes");
        }
    }
    Ok(())
}

/// State in partitions, by a backend whose budget is a tenth of the memory that the state would take.
fn beyond_the_budget(scale: &Scale, name: &str, backend: Backend) -> anyhow::Result<()> {
    let n_entries = scale.n_entries[2];
    // An entry takes about thirty bytes.
    let memory_bytes = n_entries * 30 / 10;
    let settings = StateSettings { backend, memory_bytes, ..StateSettings::default() };
    let mut filled = Filled::open(&settings, PARTITIONS)?;
    let started = Instant::now();
    let longest = filled.fill(n_entries)?;
    let show_one = |figure: &str, value: f64, unit: &str| show(&format!("{name}, {TENFOLD}: {figure}"), value, unit);
    let [filling, rows, p50, p99, peak] = TENFOLD_FIGURES;
    show_one(filling, n_entries as f64 / started.elapsed().as_secs_f64(), "entries/s");
    show_one("the longest batch of 50,000", longest * 1e3, "ms");
    let costs = (0..scale.n_batches).map(|_| filled.batch()).collect::<anyhow::Result<Vec<Cost>>>()?;
    let mut wall_ms: Vec<f64> = costs.iter().map(|cost| cost.wall.as_secs_f64() * 1e3).collect();
    wall_ms.sort_by(f64::total_cmp);
    show_one(rows, (KEYS * costs.len() as u64) as f64 / (wall_ms.iter().sum::<f64>() / 1e3), "rows/s");
    show_one(p50, wall_ms[wall_ms.len() / 2], "ms");
    show_one(p99, wall_ms[(wall_ms.len() * 99 / 100).min(wall_ms.len() - 1)], "ms");
    show_one(peak, peak_memory_bytes().unwrap_or_default() as f64, "bytes");
    let (counted, _) = filled.state.size();
    ensure!(counted == n_entries, "{counted} entries of {n_entries}");
    show_one("the budget", memory_bytes as f64, "bytes");
    if backend != Backend::Memory {
        let disk_bytes = filled.store.disk_bytes();
        ensure!(disk_bytes > 0, "nothing is on disk");
        ensure!(filled.store.memory_bytes() <= memory_bytes, "{} bytes in memory", filled.store.memory_bytes());
        show_one("disk", disk_bytes as f64 / n_entries as f64, "bytes/entry");
    }
    Ok(())
}
