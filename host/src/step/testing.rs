//! For tests of steps by key: rows from columns, a run through a shuffle, and operators whose results are known.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::Error;
use crate::event_time::{BatchTimes, ClockId, Watermark, is_time_type};
use crate::ids::{BatchId, PartitionId};
use crate::job::Settings;
use crate::metrics::{LateRows, StepMeter};
use crate::operator::{
    Aggregator, AggregatorPlan, Call, CallError, CallSite, Limit, OpenError, Operator, Reducer, ReducerPlan, Role,
    StepInfo,
};
use crate::plugin::{Runtime, RuntimeConfig};
use crate::shuffle::{Partitioning, Shuffle};
use crate::spill::{BatchMemory, TaskMemory};
use crate::step::StepFactory;
use crate::step::definition::{Body, Built, PlanContext, Side, StepDefinition};
use crate::step::keyed::{KeyedStep, SpecProblem};
use crate::step::times::TimeColumns;
use crate::step::transform::CallBounds;
use crate::task::TaskContext;

/// Rows of these columns; all nullable.
pub(crate) fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns of one length")
}

/// Each row as text, as in `a|1|NULL`.
pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let mut texts = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a type with a text"))
            .collect();
        texts.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    texts
}

/// The numbers in the column `n` of the rows that were set aside.
pub(crate) fn numbers_aside(letters: &[RecordBatch]) -> Vec<u64> {
    let number = |value: Option<&str>| -> u64 {
        let row: serde_json::Value = serde_json::from_str(value.expect("JSON can say it")).expect("an object");
        row["n"].as_u64().expect("a number")
    };
    let mut numbers: Vec<u64> = letters
        .iter()
        .flat_map(|rows| rows.column(6).as_string::<i32>().iter().map(number).collect::<Vec<_>>())
        .collect();
    numbers.sort_unstable();
    numbers
}

pub(crate) fn task(partition: u32) -> TaskContext {
    TaskContext {
        batch_id: BatchId(7),
        batch_time_us: 7_000_000,
        is_repeated: false,
        partition: PartitionId(partition),
        stage_partition: PartitionId(partition),
        attempt: 0,
        times: Arc::default(),
        cancelled: Arc::new(AtomicBool::new(false)),
        late: Default::default(),
        memory: Default::default(),
    }
}

/// Runs one half on one partition.
pub(crate) fn run_half(
    factory: &dyn StepFactory,
    partition: u32,
    pushes: &[RecordBatch],
) -> Result<Vec<RecordBatch>, Error> {
    let mut given = Vec::new();
    let mut emit = |rows: RecordBatch| {
        given.push(rows);
        Ok(())
    };
    let mut step = factory.start(&task(partition))?;
    pushes.iter().try_for_each(|rows| step.push(rows.clone(), &mut emit))?;
    step.finish(&mut emit)?;
    drop(step);
    Ok(given)
}

/// Runs a step over map tasks, a shuffle and `n_partitions`; checks the schemas of what passes. The result has one list
/// of rows for each partition.
pub(crate) fn run_keyed(
    keyed: &dyn KeyedStep,
    map_tasks: &[Vec<RecordBatch>],
    n_partitions: u32,
) -> Result<Vec<Vec<RecordBatch>>, Error> {
    let n_partitions = if keyed.is_global() { 1 } else { n_partitions };
    let (combine, merge) = (keyed.combine(), keyed.merge());
    let shuffle = Arc::new(Shuffle::new(Partitioning::Hash { columns: keyed.partial_key_columns() }, n_partitions));
    for (index, pushes) in map_tasks.iter().enumerate() {
        let mut writer = shuffle.writer(index);
        for partials in run_half(&*combine, index as u32, pushes)? {
            assert_eq!(partials.schema(), keyed.partial_schema());
            writer.push(partials)?;
        }
        writer.finish()?;
    }
    (0..n_partitions)
        .map(|partition| {
            let partials = shuffle.read(PartitionId(partition)).collect::<Result<Vec<_>, _>>()?;
            let results = run_half(&*merge, partition, &partials)?;
            results.iter().for_each(|rows| assert_eq!(rows.schema(), keyed.output_schema()));
            Ok(results)
        })
        .collect()
}

/// What the rows of one side are read from: map tasks, each with its pushes.
pub(crate) type MapTasks = Vec<Vec<RecordBatch>>;

/// One batch of a [`DefinitionRun`].
#[derive(Debug, Clone, Default)]
pub(crate) struct TestBatch {
    pub(crate) time_us: i64,
    /// The readings of the clock that all sides follow.
    pub(crate) watermark: Watermark,
    /// Whether it is the last batch of a job whose sources have ended. (Its clock has to say so too.)
    pub(crate) closes: bool,
    /// The rows of each side.
    pub(crate) sides: Vec<MapTasks>,
}

/// A step that plans itself, run over several batches as a job would run it: what it keeps is committed, or not.
pub(crate) struct DefinitionRun {
    pub(crate) built: Built,
    pub(crate) meter: Arc<StepMeter>,
    /// What it has set aside.
    pub(crate) letters: Mutex<Vec<RecordBatch>>,
    next_batch: u64,
    memory: Arc<BatchMemory>,
}

impl DefinitionRun {
    /// Plans the step on sides of these schemas; `clock` says whether they have an event time.
    pub(crate) fn plan(
        definition: &dyn StepDefinition,
        sides: &[SchemaRef],
        settings: &Settings,
        clock: bool,
    ) -> Result<Self, Vec<SpecProblem>> {
        static RUNTIME: std::sync::LazyLock<Runtime> =
            std::sync::LazyLock::new(|| Runtime::new(RuntimeConfig::default()).expect("a runtime"));
        let clock = clock.then_some(ClockId(0));
        // The watermark is of the first column of times.
        let times = |schema: &SchemaRef| {
            let mut fields = schema.fields().iter().filter(|field| clock.is_some() && is_time_type(field.data_type()));
            fields.next().map(|field| TimeColumns::of_event_time(schema, field.name())).unwrap_or_default()
        };
        let side = |(index, schema): (usize, &SchemaRef)| Side {
            names: vec![format!("side-{index}")],
            schema: schema.clone(),
            clock,
            times: times(schema),
            table: None,
        };
        let sides: Vec<_> = sides.iter().enumerate().map(side).collect();
        let meter = Arc::new(StepMeter::default());
        let context = PlanContext {
            step: "totals",
            settings,
            sides: &sides,
            clock,
            new_watermark: 0,
            meter: meter.clone(),
            runtime: &RUNTIME,
            budget: &Default::default(),
            stop: &Default::default(),
            states_before: &[],
        };
        let built = definition.plan(&context)?;
        Ok(Self { built, meter, letters: Mutex::default(), next_batch: 0, memory: Arc::default() })
    }

    /// The same with so little memory that rows are spilled.
    pub(crate) fn within(self, memory: &Arc<BatchMemory>) -> Self {
        Self { memory: memory.clone(), ..self }
    }

    /// Runs a batch and publishes it. The result has one list of rows for each partition, of the schema that was planned.
    pub(crate) fn batch(&mut self, batch: &TestBatch) -> Result<Vec<Vec<RecordBatch>>, Error> {
        let late = Arc::default();
        let results = self.attempt(batch, &late)?;
        late.count();
        if let Body::Gather(gather) = &self.built.body
            && let Some(state) = &gather.state
        {
            (0..state.n_partitions()).try_for_each(|partition| state.commit(PartitionId(partition)))?;
        }
        self.next_batch += 1;
        Ok(results)
    }

    /// Runs a batch and gives it up at the end: nothing of it is kept.
    pub(crate) fn failed_batch(&mut self, batch: &TestBatch) -> Result<Vec<Vec<RecordBatch>>, Error> {
        let results = self.attempt(batch, &Arc::default())?;
        if let Body::Gather(gather) = &self.built.body {
            gather.state.iter().for_each(|state| state.abort());
        }
        Ok(results)
    }

    /// Entries and bytes of what the step keeps.
    pub(crate) fn state_size(&self) -> (u64, u64) {
        match &self.built.body {
            Body::Gather(gather) => gather.state.as_ref().map_or((0, 0), |state| state.size()),
            Body::Narrow(_) => (0, 0),
        }
    }

    fn attempt(&self, batch: &TestBatch, late: &Arc<LateRows>) -> Result<Vec<Vec<RecordBatch>>, Error> {
        let times = Arc::new(BatchTimes::new(vec![batch.watermark], 1, batch.closes));
        // Stages that share a step are numbered through: nothing may depend on where that begins.
        let context = |partition: u32| TaskContext {
            batch_id: BatchId(self.next_batch),
            batch_time_us: batch.time_us,
            partition: PartitionId(partition + 1000),
            stage_partition: PartitionId(partition),
            times: times.clone(),
            late: late.clone(),
            ..task(partition)
        };
        let run = |factory: &dyn StepFactory, partition: u32, sides: Vec<Vec<RecordBatch>>, input_bytes: u64| {
            let mut given = Vec::new();
            let mut emit = |rows: RecordBatch| {
                given.push(rows);
                Ok(())
            };
            let memory = TaskMemory::new(&self.memory, input_bytes);
            let mut step = factory.start(&TaskContext { memory, ..context(partition) })?;
            for (side, pushes) in sides.into_iter().enumerate() {
                pushes.into_iter().try_for_each(|rows| step.push_side(side, rows, &mut emit))?;
            }
            step.finish(&mut emit)?;
            self.letters.lock().expect("no test panicked").extend(step.take_letters()?);
            drop(step);
            Ok::<_, Error>(given)
        };
        let results = match &self.built.body {
            Body::Narrow(factory) => {
                let tasks = batch.sides.first().into_iter().flatten().enumerate();
                let run = |(index, pushes): (usize, &Vec<RecordBatch>)| {
                    run(&**factory, index as u32, vec![pushes.clone()], 0)
                };
                tasks.map(run).collect::<Result<Vec<_>, _>>()?
            }
            Body::Gather(gather) => {
                let mut shuffles = Vec::new();
                for (index, side) in gather.sides.iter().enumerate() {
                    let shuffle =
                        Arc::new(Shuffle::within(side.partitioning.clone(), gather.n_partitions, &self.memory));
                    let tasks = batch.sides.get(index).map(Vec::as_slice).unwrap_or_default();
                    for (index, pushes) in tasks.iter().enumerate() {
                        let mut writer = shuffle.writer(index);
                        let prepared = match &side.prepare {
                            Some(prepare) => run(&**prepare, index as u32, vec![pushes.clone()], 0)?,
                            None => pushes.clone(),
                        };
                        prepared.into_iter().try_for_each(|rows| writer.push(rows))?;
                        writer.finish()?;
                    }
                    shuffle.deal()?;
                    shuffles.push(shuffle);
                }
                let has_rows = |partition| shuffles.iter().any(|shuffle| shuffle.rows_of(PartitionId(partition)) > 0);
                let run = |partition| {
                    if !gather.runs_when_empty && !has_rows(partition) {
                        return Ok(Vec::new());
                    }
                    let sides = shuffles.iter().map(|shuffle| shuffle.read(PartitionId(partition)).collect());
                    let sides = sides.collect::<Result<Vec<Vec<_>>, _>>()?;
                    let input_bytes = shuffles.iter().map(|shuffle| shuffle.bytes_of(PartitionId(partition))).sum();
                    run(&*gather.factory, partition, sides, input_bytes)
                };
                (0..gather.n_partitions).map(run).collect::<Result<Vec<_>, Error>>()?
            }
        };
        results.iter().flatten().for_each(|rows| assert_eq!(rows.schema(), self.built.output));
        Ok(results)
    }
}

pub(crate) fn info() -> StepInfo {
    StepInfo {
        job: "test".into(),
        step: "totals".into(),
        partitions: 2,
        config: serde_json::json!({}),
        limits: crate::operator::Limits::default(),
        budget: Default::default(),
        stop: Default::default(),
    }
}

pub(crate) fn bounds(rows: u32) -> CallBounds {
    CallBounds { rows, bytes: 4 << 20, whole_partition: false, clock: None }
}

/// As a reducer: adds int64 columns and joins utf8 ones, which tells orders apart. As an aggregator: the mean of the
/// first value column, int64.
#[derive(Debug)]
pub(crate) struct SumJoinMean {
    /// Calls with more groups return too much.
    pub(crate) groups_max: usize,
    /// Whether it answers with a row too few.
    pub(crate) lies: bool,
    /// Whether it says as a reducer that it can be inverted.
    pub(crate) invertible: bool,
    /// How often it was opened.
    pub(crate) opened: AtomicU32,
    /// Rows of all calls that went well.
    pub(crate) rows_seen: AtomicU64,
    /// Rows of the largest call.
    pub(crate) rows_max_seen: AtomicU64,
}

impl SumJoinMean {
    pub(crate) fn new() -> Self {
        Self {
            groups_max: usize::MAX,
            lies: false,
            invertible: true,
            opened: AtomicU32::new(0),
            rows_seen: AtomicU64::new(0),
            rows_max_seen: AtomicU64::new(0),
        }
    }
}

struct Opened {
    operator: Arc<SumJoinMean>,
    values: SchemaRef,
    plan: AggregatorPlan,
    spent: bool,
}

/// What the tests register: an [`Operator`] needs to hand itself to its instances.
pub(crate) struct Registered(pub(crate) Arc<SumJoinMean>);

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Registered {
    fn opened(&self, values: &SchemaRef) -> Box<Opened> {
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let int = |name| Field::new(name, DataType::Int64, false);
        let plan = AggregatorPlan {
            reads: vec![0],
            accumulator: Arc::new(Schema::new(vec![int("sum"), int("count")])),
            result: Arc::new(Schema::new(vec![Field::new("mean", DataType::Float64, false)])),
        };
        Box::new(Opened { operator: self.0.clone(), values: values.clone(), plan, spent: false })
    }
}

impl Operator for Registered {
    fn name(&self) -> &str {
        "sum-join-mean"
    }

    fn roles(&self) -> Vec<Role> {
        vec![Role::Reducer, Role::Aggregator]
    }

    fn open_reducer(&self, _: &StepInfo, values: &SchemaRef) -> Result<Box<dyn Reducer>, OpenError> {
        Ok(self.opened(values))
    }

    fn open_aggregator(&self, _: &StepInfo, values: &SchemaRef) -> Result<Box<dyn Aggregator>, OpenError> {
        Ok(self.opened(values))
    }
}

impl Opened {
    /// What every call does first: limits, and that a spent instance is not used again.
    fn enter(&mut self, call: &Call, rows: &RecordBatch, ends: &[u32]) -> Result<(), CallError> {
        assert!(!self.spent, "an instance was used after it failed");
        assert!(ends.is_sorted_by(|a, b| a < b) && ends.first().is_none_or(|end| *end > 0), "no group is empty");
        assert_eq!(ends.last().map_or(0, |end| *end as usize), rows.num_rows());
        if ends.len() > self.operator.groups_max {
            self.spent = true;
            return Err(too_much("sum-join-mean", call, rows.num_rows(), format!("{} rows", ends.len())));
        }
        self.operator.rows_seen.fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
        self.operator.rows_max_seen.fetch_max(rows.num_rows() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// The error of a call with `n_rows` rows that returned too much.
pub(crate) fn too_much(operator: &str, call: &Call, n_rows: usize, seen: String) -> CallError {
    let site = CallSite {
        operator: operator.into(),
        step: "totals".into(),
        batch_id: call.batch_id,
        partition: call.partition,
        n_rows,
    };
    CallError::LimitExceeded { site: Box::new(site), limit: Limit::OutputRows, seen }
}

/// The rows of each group.
pub(crate) fn groups(ends: &[u32]) -> impl Iterator<Item = std::ops::Range<usize>> {
    ends.iter().scan(0, |start, &end| Some(std::mem::replace(start, end as usize)..end as usize))
}

fn sums(column: &ArrayRef, ends: &[u32]) -> ArrayRef {
    let values = column.as_primitive::<Int64Type>();
    let sum = |group: std::ops::Range<usize>| {
        group.filter(|&row| values.is_valid(row)).map(|row| values.value(row)).sum::<i64>()
    };
    Arc::new(groups(ends).map(sum).collect::<Int64Array>())
}

impl Reducer for Opened {
    fn plan(&self) -> ReducerPlan {
        ReducerPlan { invertible: self.operator.invertible }
    }

    fn reduce(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        self.enter(call, values, ends)?;
        let ends = if self.operator.lies { &ends[1..] } else { ends };
        let columns = values.columns().iter().map(|column| match column.data_type() {
            DataType::Int64 => sums(column, ends),
            _ => {
                let texts = column.as_string::<i32>();
                let join = |group: std::ops::Range<usize>| group.map(|row| texts.value(row)).collect::<String>();
                Arc::new(groups(ends).map(join).map(Some).collect::<StringArray>())
            }
        });
        Ok(RecordBatch::try_new(self.values.clone(), columns.collect()).expect("the schema of the values"))
    }

    /// Subtracts numbers, and takes the text of `part` from the start of the whole's.
    fn invert(&mut self, call: &Call, whole: &RecordBatch, part: &RecordBatch) -> Result<RecordBatch, CallError> {
        assert!(self.operator.invertible, "it said that it cannot");
        let ends: Vec<u32> = (1..=whole.num_rows() as u32).collect();
        self.enter(call, whole, &ends)?;
        assert_eq!(part.schema(), whole.schema());
        let columns = whole.columns().iter().zip(part.columns()).map(|(whole, part)| match whole.data_type() {
            DataType::Int64 => {
                let (whole, part) = (whole.as_primitive::<Int64Type>(), part.as_primitive::<Int64Type>());
                Arc::new(whole.iter().zip(part).map(|(whole, part)| Some(whole? - part?)).collect::<Int64Array>())
                    as ArrayRef
            }
            _ => {
                let (whole, part) = (whole.as_string::<i32>(), part.as_string::<i32>());
                let rest = whole.iter().zip(part).map(|(whole, part)| whole?.strip_prefix(part?));
                Arc::new(rest.collect::<StringArray>())
            }
        });
        Ok(RecordBatch::try_new(self.values.clone(), columns.collect()).expect("the schema of the values"))
    }
}

impl Aggregator for Opened {
    fn plan(&self) -> &AggregatorPlan {
        &self.plan
    }

    fn accumulate(&mut self, call: &Call, values: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        self.enter(call, values, ends)?;
        let counts: Int64Array = groups(ends).map(|group| group.len() as i64).collect();
        let columns = vec![sums(values.column(0), ends), Arc::new(counts) as ArrayRef];
        Ok(RecordBatch::try_new(self.plan.accumulator.clone(), columns).expect("the accumulator's schema"))
    }

    fn merge(&mut self, call: &Call, accumulators: &RecordBatch, ends: &[u32]) -> Result<RecordBatch, CallError> {
        self.enter(call, accumulators, ends)?;
        let columns = accumulators.columns().iter().map(|column| sums(column, ends)).collect();
        Ok(RecordBatch::try_new(self.plan.accumulator.clone(), columns).expect("the accumulator's schema"))
    }

    fn finish(&mut self, call: &Call, accumulators: &RecordBatch) -> Result<RecordBatch, CallError> {
        let ends: Vec<u32> = (1..=accumulators.num_rows() as u32).collect();
        self.enter(call, accumulators, &ends)?;
        let sums = accumulators.column(0).as_primitive::<Int64Type>().values();
        let counts = accumulators.column(1).as_primitive::<Int64Type>().values();
        let means = sums.iter().zip(counts).map(|(&sum, &count)| sum as f64 / count as f64);
        let means: Float64Array = means.map(Some).collect::<arrow::array::PrimitiveArray<Float64Type>>();
        Ok(RecordBatch::try_new(self.plan.result.clone(), vec![Arc::new(means)]).expect("the result's schema"))
    }
}

/// Cuts rows into map tasks and pushes: `cuts` are lengths, used in turn; each `tasks`-th push goes to the next task.
pub(crate) fn cut_into_tasks(rows: &RecordBatch, cuts: &[usize], n_tasks: usize) -> Vec<Vec<RecordBatch>> {
    let mut pushes = Vec::new();
    let mut start = 0;
    for &length in cuts.iter().cycle() {
        let length = length.min(rows.num_rows() - start);
        pushes.push(rows.slice(start, length));
        start += length;
        if start == rows.num_rows() {
            break;
        }
    }
    let per_task = pushes.len().div_ceil(n_tasks.max(1)).max(1);
    pushes.chunks(per_task).map(<[RecordBatch]>::to_vec).collect()
}
