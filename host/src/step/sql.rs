//! `sql = "SELECT word, count(*) AS n FROM words GROUP BY word"`: a query over the rows of a batch.
//!
//! ```text
//!  of each row for itself:  rows ──▶ query ──▶ rows                        in every partition, as they come
//!  otherwise:               each stream ── shuffle ──▶ query ──▶ rows      in one partition, or dealt out `by` columns
//! ```

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::job::steps::{read_partitions, refuse_plugin_keys_but};
use crate::job::table::Table;
use crate::job::{ON_ERROR_KEYS, OnError, read_on_error};
use crate::operator::Limits;
use crate::shuffle::Partitioning;
use crate::shuffle::key_encoding::plain_type;
use crate::sql::{Function, FunctionDefinition, Query, QueryTable, RunBounds, Scope, Session};
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::keyed::{KeyColumns, SpecProblem};
use crate::step::times::TimeColumns;
use crate::step::{Emit, PipelineStep, StepFactory};
use crate::task::TaskContext;

/// The least memory that a query can be given.
const MEMORY_BYTES_MIN: u64 = 64 << 10;

/// Why a query cannot set bad rows aside, and what to do instead.
const NO_DEAD_LETTERS: (&str, &str) = (
    "a query has no dead letters: it takes rows together, and which of them is bad cannot be told",
    "Choices: `fail`, `skip-batch`. Compute what may fail in a `with` or a `select` before it, which have dead letters.",
);

/// The step.
#[derive(Debug, Clone)]
pub struct SqlDefinition {
    /// The query.
    pub query: String,
    /// The streams that it reads besides the first of `from`.
    pub others: Vec<String>,
    /// The columns of every stream by which rows are dealt out; none: all rows are in one partition.
    pub by: Vec<String>,
    /// Partitions with `by`; the job's when not said.
    pub partitions: Option<u32>,
    /// Memory for what the query computes in a partition; the job's when not said.
    pub memory_bytes: Option<u64>,
    /// Plugins that it calls.
    pub functions: Vec<FunctionDefinition>,
    /// What happens when the query fails, or a call of a plugin fails.
    pub on_error: OnError,
}

impl SqlDefinition {
    /// A query over the rows of a batch, in one partition.
    #[must_use]
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            query: query.into(),
            others: Vec::new(),
            by: Vec::new(),
            partitions: None,
            memory_bytes: None,
            functions: Vec::new(),
            on_error: OnError::Fail,
        }
    }

    /// The query in several partitions: right only if it groups or joins by these columns.
    #[must_use]
    pub fn by<'s>(mut self, by: impl IntoIterator<Item = &'s str>) -> Self {
        self.by = by.into_iter().map(str::to_owned).collect();
        self
    }

    /// The query with so much memory for what it computes.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// The query with a plugin as a function.
    #[must_use]
    pub fn function(mut self, function: FunctionDefinition) -> Self {
        self.functions.push(function);
        self
    }

    /// The step with this done when it fails in a batch.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    pub(crate) fn parse(table: &mut Table<'_>, limits: &Limits) -> Option<Self> {
        let functions = FunctionDefinition::parse_all(table, limits);
        let on_error = read_on_error(table, Some(NO_DEAD_LETTERS));
        refuse_plugin_keys_but(table, "sql", &ON_ERROR_KEYS);
        let by = table.texts("by").unwrap_or_default();
        let partitions = read_partitions(table);
        if partitions.is_some() && by.is_empty() {
            let hint = "Name in `by` the columns that the query groups or joins by, or leave `partitions` out.";
            table.problem("partitions", "a query without `by` runs in one partition", Some(hint.into()));
        }
        let memory_bytes = table.size("memory");
        if memory_bytes.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
            table.problem("memory", "`memory` must be at least 64KiB", None);
        }
        let others = table.texts("from").unwrap_or_default().into_iter().skip(1).collect();
        Some(Self { query: table.required_text("sql")?, others, by, partitions, memory_bytes, functions, on_error })
    }

    /// The columns of each side by which rows are dealt out.
    fn key_columns(&self, context: &PlanContext<'_>) -> Result<Vec<Vec<usize>>, Vec<SpecProblem>> {
        let mut problems = Vec::new();
        let sides = context.sides.iter().map(|side| {
            let mut of_side = Vec::new();
            let keys = KeyColumns::resolve(&side.schema, &self.by, &mut of_side);
            if context.sides.len() > 1 {
                of_side.iter_mut().for_each(|problem| problem.message += &format!(", of `{}`", side.names.join(", ")));
            }
            problems.append(&mut of_side);
            keys
        });
        let sides: Vec<KeyColumns> = sides.collect();
        if problems.is_empty() {
            // Equal values of different types would not meet.
            for (side, keys) in context.sides.iter().zip(&sides).skip(1) {
                for (name, (first, other)) in self.by.iter().zip(sides[0].fields.iter().zip(&keys.fields)) {
                    if plain_type(first.data_type()) != plain_type(other.data_type()) {
                        let (left, right) = (context.sides[0].names.join(", "), side.names.join(", "));
                        let types = [first, other].map(|field| crate::plan::describe_type(field.data_type()));
                        let message = format!("`{name}` is {} in `{left}` and {} in `{right}`", types[0], types[1]);
                        let hint = Some("Give both one type, with a `cast` step before.".to_owned());
                        problems.push(SpecProblem { key: "by".into(), message, hint });
                    }
                }
            }
        }
        if problems.is_empty() { Ok(sides.into_iter().map(|keys| keys.indices).collect()) } else { Err(problems) }
    }
}

impl From<&str> for SqlDefinition {
    fn from(query: &str) -> Self {
        Self::new(query)
    }
}

impl StepDefinition for SqlDefinition {
    fn kind(&self) -> &'static str {
        "sql"
    }

    fn other_inputs(&self) -> Vec<String> {
        self.others.clone()
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let functions = Function::load_all(&self.functions, context)?;
        let session = Session::new(&functions)?;
        let tables = context.sides.iter().map(|side| {
            let name = side.names.first().cloned().unwrap_or_default();
            QueryTable { name, schema: side.schema.clone() }
        });
        let tables: Vec<QueryTable> = tables.collect();
        let query = session.query(&self.query, &tables).map_err(|mistake| vec![mistake.at("sql")])?;
        let columns = self.key_columns(context)?;
        if !self.by.is_empty() && query.gives_rows_of_nothing() {
            let message = "the query gives a row when there are none: in each partition, with `by`".to_owned();
            let hint = Some("Group by the columns of `by`, or leave `by` out.".to_owned());
            return Err(vec![SpecProblem { key: "by".into(), message, hint }]);
        }
        let output = query.output_schema().clone();
        let operators = Function::planned(&functions, &self.functions);
        let on_error = self.on_error.clone();
        let is_narrow = query.is_row_by_row() && self.by.is_empty();
        let sides: Vec<&TimeColumns> = context.sides.iter().map(|side| &side.times).collect();
        let times = Some(TimeColumns::computed(&sides, &output, |column| query.time_origin(column)));
        let runs_when_empty = query.gives_rows_of_nothing();
        let factory = Arc::new(SqlStep {
            step: context.step.to_owned(),
            query: Arc::new(query),
            memory_bytes: self.memory_bytes.unwrap_or(context.settings.memory_bytes),
            n_sides: context.sides.len(),
            is_narrow,
        });
        if is_narrow {
            return Ok(Built { operators, on_error, times, ..Built::narrow(output, factory) });
        }
        let n_partitions = match self.by.is_empty() {
            true => 1,
            false => self.partitions.unwrap_or(context.settings.partitions),
        };
        let sides = columns
            .into_iter()
            .map(|columns| GatherSide { prepare: None, partitioning: Partitioning::Hash { columns } });
        let gather = Gather { sides: sides.collect(), n_partitions, runs_when_empty, state: None, factory };
        Ok(Built { operators, on_error, times, ..Built::gather(output, gather) })
    }
}

/// The query of a plan.
#[derive(Clone)]
struct SqlStep {
    step: String,
    query: Arc<Query>,
    memory_bytes: u64,
    n_sides: usize,
    is_narrow: bool,
}

impl StepFactory for SqlStep {
    fn start(&self, task: &TaskContext) -> Result<Box<dyn PipelineStep>, Error> {
        let inputs = vec![Vec::new(); self.n_sides];
        let closes = task.times.closes();
        Ok(Box::new(Running { sql: self.clone(), scope: Scope::new(task), inputs, closes }))
    }
}

struct Running {
    sql: SqlStep,
    scope: Arc<Scope>,
    /// The rows of each side so far; of a query row by row, none.
    inputs: Vec<Vec<RecordBatch>>,
    /// Whether it is the batch that closes a job.
    closes: bool,
}

impl Running {
    fn run(&self, inputs: Vec<Vec<RecordBatch>>, emit: &mut Emit<'_>) -> Result<(), Error> {
        let bounds = RunBounds { step: &self.sql.step, memory_bytes: self.sql.memory_bytes };
        self.sql.query.run(inputs, &self.scope, bounds, emit)
    }
}

impl PipelineStep for Running {
    fn push(&mut self, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        self.push_side(0, rows, emit)
    }

    fn push_side(&mut self, side: usize, rows: RecordBatch, emit: &mut Emit<'_>) -> Result<(), Error> {
        if self.sql.is_narrow {
            return self.run(vec![vec![rows]], emit);
        }
        self.inputs[side].push(rows);
        Ok(())
    }

    fn finish(&mut self, emit: &mut Emit<'_>) -> Result<(), Error> {
        if self.sql.is_narrow {
            return Ok(());
        }
        let inputs = std::mem::take(&mut self.inputs);
        // That batch has rows only where something was kept: no rows are no batch there.
        if self.closes && inputs.iter().all(Vec::is_empty) {
            return Ok(());
        }
        self.run(inputs, emit)
    }
}
