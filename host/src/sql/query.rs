//! A query over the rows of a batch: planned once, run for every partition that has rows.
//!
//! ```text
//!  text ── parse ── refuse what is no query ── find the streams ── logical plan ── optimize ──▶ Query
//!  Query ── a physical plan (kept from run to run) ── StreamScan gives the inputs ──▶ rows, as they come
//! ```
//!
//! A physical plan holds what one run has computed (the table of a join, say), so two runs at the same time have two plans:
//! each run takes an idle one, or makes one of the logical plan, and puts it back, reset, when it has ended well.

use std::future::poll_fn;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::TaskContext;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableSource};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use futures::StreamExt;
use tokio::runtime::{Handle, Runtime};

use super::failure::{Site, cancelled, query_failed, unbroken, unbroken_plan, wrap};
use super::lineage::time_origins;
use super::mistake::{Mistake, twice};
use super::refused::{not_a_query, refused};
use super::scope::Scope;
use super::session::Session;
use super::stream_table::{Inputs, StreamTable};
use super::strict::careful_plan;
use super::types::{plain_array, plain_type};
use crate::error::{Error, Explain, Fault};
use crate::ids::{BatchId, PartitionId};
use crate::job::nearest::suggest;
use crate::spill::TaskMemory;
use crate::step::Emit;
use crate::step::keyed::{batch_of, internal};
use crate::step::times::TimeOrigin;
use crate::task::TaskContext as Task;

/// A stream that a query may read.
#[derive(Debug, Clone)]
pub struct QueryTable {
    /// The stream's name; a query may write `_` for its `-`.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
}

/// A query, ready to run.
pub struct Query {
    session: Session,
    logical: LogicalPlan,
    tables: Vec<SchemaRef>,
    output: SchemaRef,
    /// What each column is computed of, if it is one of times.
    times: Vec<TimeOrigin>,
    is_row_by_row: bool,
    gives_rows_of_nothing: bool,
    /// Physical plans that no run uses now: as many as have run at the same time.
    idle: Mutex<Vec<Arc<dyn ExecutionPlan>>>,
}

/// Where a query runs, and what it may use.
#[derive(Debug, Clone, Copy)]
pub struct RunBounds<'a> {
    /// The step.
    pub step: &'a str,
    /// Memory for what it computes, the rows it reads left out.
    pub memory_bytes: u64,
}

/// The system gave no runtime.
#[derive(Debug, thiserror::Error)]
#[error("a query cannot start")]
struct NoRuntime(#[source] std::io::Error);

impl Explain for NoRuntime {
    fn fault(&self) -> Fault {
        Fault::External
    }
}

impl Session {
    /// Plans a query over some streams, each a table of its name.
    ///
    /// # Errors
    ///
    /// What is wrong with it, a stream that it does not read among that.
    pub fn query(&self, text: &str, tables: &[QueryTable]) -> Result<Query, Mistake> {
        unbroken_plan(|| self.plan_query(text, tables)).map_err(|mistake| mistake.in_text(text))
    }

    fn plan_query(&self, text: &str, tables: &[QueryTable]) -> Result<Query, Mistake> {
        let statement = self.parse_query(text)?;
        let names = table_names(&statement, tables)?;
        let sources: Vec<(String, Arc<dyn TableSource>)> = names
            .into_iter()
            .map(|(name, index)| {
                let schema = tables[index].schema.clone();
                (name, provider_as_source(Arc::new(StreamTable { index, schema })))
            })
            .collect();
        let names = self.names(&sources);
        let plan = self.planner(&names).statement_to_plan(statement).map_err(|error| self.translate(error))?;
        let queries_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        queries_only.verify_plan(&plan).map_err(|_| not_a_query("this"))?;
        check_columns(&plan)?;
        let times = time_origins(&plan);
        let logical = self.state.optimize(&plan).map_err(|error| self.translate(error))?;
        let query = Query {
            session: self.clone(),
            is_row_by_row: tables.len() == 1 && is_row_by_row(&logical),
            logical,
            tables: tables.iter().map(|table| table.schema.clone()).collect(),
            output: Arc::new(Schema::empty()),
            times,
            gives_rows_of_nothing: false,
            idle: Mutex::default(),
        };
        outside_of_runtimes(|| query.tried()).map_err(|error| self.translate(error))
    }

    /// The one query of a text.
    fn parse_query(&self, text: &str) -> Result<Statement, Mistake> {
        let mut statements = self.parser(text)?.parse_statements().map_err(|error| self.translate(error))?;
        let Some(statement) = statements.pop_front() else {
            return Err(Mistake::new("the query is empty", Some("Write `SELECT … FROM …`.".to_owned())));
        };
        if !statements.is_empty() {
            return Err(Mistake::new("it is more than one statement", Some("Make a step of each.".to_owned())));
        }
        match &statement {
            Statement::Statement(inner) => match inner.as_ref() {
                SqlStatement::Query(query) => match refused(query) {
                    Some(mistake) => Err(mistake),
                    None => Ok(statement),
                },
                other => {
                    let words: Vec<String> =
                        other.to_string().split_whitespace().take(1).map(str::to_uppercase).collect();
                    Err(not_a_query(&format!("`{}`", words.concat())))
                }
            },
            Statement::CreateExternalTable(_) => Err(not_a_query("`CREATE EXTERNAL TABLE`")),
            Statement::CopyTo(_) => Err(not_a_query("`COPY`")),
            Statement::Explain(_) => Err(not_a_query("`EXPLAIN`")),
            Statement::Reset(_) => Err(not_a_query("`RESET`")),
        }
    }
}

/// The names by which a query reads streams, each with its stream. All streams are read, and nothing else is.
fn table_names(statement: &Statement, tables: &[QueryTable]) -> Result<Vec<(String, usize)>, Mistake> {
    let (references, _) = resolve_table_references(statement, false)
        .map_err(|error| Mistake::new(super::mistake::reason(&error), None))?;
    let mut names = Vec::new();
    for reference in references {
        let found = match &reference {
            TableReference::Bare { table } => {
                let exactly = tables.iter().position(|known| *known.name == **table);
                exactly.or_else(|| tables.iter().position(|known| known.name.replace('-', "_") == **table))
            }
            _ => None,
        };
        match found {
            Some(index) => names.push((reference.table().to_owned(), index)),
            None => {
                let name = reference.to_string();
                let all = tables.iter().map(|table| table.name.as_str());
                let hint = suggest(&name, "A query reads the streams of `from`, which are", all);
                return Err(Mistake::new(format!("there is no stream `{name}` in `from`"), hint));
            }
        }
    }
    for (index, table) in tables.iter().enumerate() {
        if !names.iter().any(|(_, used)| *used == index) {
            let name = &table.name;
            let written = if name.contains('-') { format!("\"{name}\"") } else { name.clone() };
            let hint = format!("Write `… FROM {written} …`, or leave `{name}` out of `from`.");
            let message = format!("the query does not read `{name}`");
            return Err(Mistake { key: Some("from".into()), ..Mistake::new(message, Some(hint)) });
        }
    }
    Ok(names)
}

/// What the columns of a result must be: of different names, and of some type.
fn check_columns(plan: &LogicalPlan) -> Result<(), Mistake> {
    let fields = plan.schema().fields();
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|other| other.name() == field.name()) {
            return Err(twice(field.name()));
        }
        if field.data_type() == &DataType::Null {
            let hint = "Give it a type, as in `cast(null AS bigint)`.".to_owned();
            return Err(Mistake::new(format!("column `{}` is always null and has no type", field.name()), Some(hint)));
        }
    }
    Ok(())
}

/// Whether a plan makes of each row, for itself, some rows.
fn is_row_by_row(plan: &LogicalPlan) -> bool {
    let mut n_scans = 0;
    let mut is_so = true;
    let searched = plan.apply(|node| {
        is_so &= match node {
            LogicalPlan::TableScan(scan) => {
                n_scans += 1;
                scan.fetch.is_none()
            }
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Unnest(_) => true,
            _ => false,
        };
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                let is_query = matches!(
                    part,
                    Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
                );
                is_so &= !is_query;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    searched.is_ok() && is_so && n_scans == 1
}

/// Does something that blocks on a runtime of its own, also when the program calls from within one.
fn outside_of_runtimes<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if Handle::try_current().is_err() {
        return work();
    }
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

fn runtime() -> Result<Runtime, DataFusionError> {
    tokio::runtime::Builder::new_current_thread().build().map_err(|error| wrap(NoRuntime(error)))
}

impl Query {
    /// The schema of its rows.
    #[must_use]
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output
    }

    /// What a column of its rows is computed of, if it is one of times.
    #[must_use]
    pub fn time_origin(&self, column: &str) -> TimeOrigin {
        let index = self.output.index_of(column).ok();
        index.and_then(|index| self.times.get(index)).cloned().unwrap_or(TimeOrigin::Unknown)
    }

    /// Whether it makes of each row, for itself, some rows: then it may run on any part of the rows.
    #[must_use]
    pub fn is_row_by_row(&self) -> bool {
        self.is_row_by_row
    }

    /// Whether it gives rows when there are none, as `count(*)` does.
    #[must_use]
    pub fn gives_rows_of_nothing(&self) -> bool {
        self.gives_rows_of_nothing
    }

    /// The query with what a run on no rows shows: its schema, and whether that is a result too.
    fn tried(mut self) -> Result<Self, DataFusionError> {
        let plan = runtime()?.block_on(self.physical())?;
        let schema = plan.schema();
        let fields = schema
            .fields()
            .iter()
            .map(|field| Field::new(field.name(), plain_type(field.data_type()), field.is_nullable()));
        self.output = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        self.idle = Mutex::new(vec![plan]);
        let task = Task {
            batch_id: BatchId(0),
            batch_time_us: 0,
            is_repeated: false,
            partition: PartitionId(0),
            stage_partition: PartitionId(0),
            attempt: 0,
            times: Arc::default(),
            cancelled: Arc::default(),
            late: Arc::default(),
            memory: TaskMemory::default(),
        };
        let mut n_rows = 0;
        let nothing = vec![Vec::new(); self.tables.len()];
        // Nobody holds the memory of a run on no rows against it.
        let bounds = RunBounds { step: "", memory_bytes: u64::from(u32::MAX) };
        self.try_run(nothing, &Scope::new(&task), bounds, &mut |rows| {
            n_rows += rows.num_rows();
            Ok(())
        })?;
        self.gives_rows_of_nothing = n_rows > 0;
        Ok(self)
    }

    async fn physical(&self) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let state = &self.session.state;
        careful_plan(state.query_planner().create_physical_plan(&self.logical, state).await?)
    }

    /// Runs it on the rows of each stream, in a step's task; not from within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`super::QueryFailed`], [`super::OutOfMemory`]; that the batch was given up; what a plugin's function said, or `emit`.
    pub fn run(
        &self,
        inputs: Vec<Vec<RecordBatch>>,
        scope: &Arc<Scope>,
        bounds: RunBounds<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        self.try_run(inputs, scope, bounds, emit).map_err(|error| {
            let site = Site::new(bounds.step, scope.task());
            query_failed(error, site, bounds.memory_bytes)
        })
    }

    fn try_run(
        &self,
        inputs: Vec<Vec<RecordBatch>>,
        scope: &Arc<Scope>,
        bounds: RunBounds<'_>,
        emit: &mut Emit<'_>,
    ) -> Result<(), DataFusionError> {
        let runtime = runtime()?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let plan = match idle {
            Some(plan) => plan,
            None => runtime.block_on(self.physical())?,
        };
        let cancel = scope.task().cancelled.clone();
        let tables = inputs.into_iter().zip(&self.tables).map(|(rows, schema)| conform(rows, schema));
        let inputs = Inputs { tables: tables.collect::<Result<_, _>>().map_err(wrap)?, cancelled: cancel.clone() };
        let context = Arc::new(task_context(self.session.state.config(), inputs, bounds.memory_bytes)?);
        // One after the other, so that the order of the rows is the plan's.
        for partition in 0..plan.output_partitioning().partition_count() {
            let mut stream = scope.run(|| {
                let _entered = runtime.enter();
                unbroken(|| plan.execute(partition, context.clone()))
            })?;
            loop {
                // Plans yield every now and then: a batch that is given up does not wait for a long one.
                let next = poll_fn(|task| {
                    if cancel.load(std::sync::atomic::Ordering::Relaxed) {
                        return Poll::Ready(Some(Err(cancelled())));
                    }
                    stream.poll_next_unpin(task)
                });
                let next = scope.run(|| unbroken(|| runtime.block_on(next).transpose()));
                let Some(rows) = next? else { break };
                if rows.num_rows() > 0 {
                    // Outside of the runtime: steps behind may run queries of their own.
                    emit(self.given(&rows, bounds.step).map_err(wrap)?).map_err(wrap)?;
                }
            }
        }
        let plan = reset_plan_states(plan)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(plan);
        Ok(())
    }

    /// The rows of the plan with the types that columns have between steps.
    fn given(&self, rows: &RecordBatch, step: &str) -> Result<RecordBatch, Error> {
        let doing = || internal(format!("taking the rows of the query of step `{step}`"));
        let columns = rows
            .columns()
            .iter()
            .zip(self.output.fields())
            .map(|(column, field)| plain_array(column, field.data_type()).map(std::borrow::Cow::into_owned));
        let columns = columns.collect::<Result<_, _>>().map_err(doing())?;
        batch_of(self.output.clone(), columns, rows.num_rows()).map_err(doing())
    }
}

/// Rows with the schema of their table: rows of several streams that were united may differ in what can be null.
fn conform(rows: Vec<RecordBatch>, schema: &SchemaRef) -> Result<Vec<RecordBatch>, Error> {
    let one = |rows: RecordBatch| {
        if rows.schema_ref() == schema {
            return Ok(rows);
        }
        let columns = rows
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(column, field)| plain_array(column, field.data_type()).map(std::borrow::Cow::into_owned));
        let columns = columns.collect::<Result<_, _>>()?;
        batch_of(schema.clone(), columns, rows.num_rows())
    };
    rows.into_iter().map(|rows| one(rows).map_err(internal("reading the rows of a query"))).collect()
}

/// What a run has: its inputs, memory with an end, and no disk.
fn task_context(config: &SessionConfig, inputs: Inputs, memory_bytes: u64) -> Result<TaskContext, DataFusionError> {
    let memory_bytes = usize::try_from(memory_bytes).unwrap_or(usize::MAX);
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let config = config.clone().with_extension(Arc::new(inputs));
    Ok(TaskContext::default().with_session_config(config).with_runtime(environment))
}
