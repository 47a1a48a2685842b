//! A stream as a table of a query: what it holds is said anew for each run.
//!
//! ```text
//!  plan (made once):  … ◀── StreamScan { index: 0 }
//!  run of a batch:    TaskContext { Inputs { tables: [rows of stream 0, …] } } ──▶ StreamScan gives tables[0]
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session as CatalogSession, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions, project_schema,
};

use super::failure::cancelled;

/// The rows of one run of a query.
#[derive(Debug)]
pub(super) struct Inputs {
    /// The rows of each stream, of its table's schema.
    pub(super) tables: Vec<Vec<RecordBatch>>,
    /// Set when the batch is given up.
    pub(super) cancelled: Arc<AtomicBool>,
}

/// A stream of a query.
#[derive(Debug)]
pub(super) struct StreamTable {
    /// Which of a run's inputs it is.
    pub(super) index: usize,
    /// Its columns.
    pub(super) schema: SchemaRef,
}

#[async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn CatalogSession,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = project_schema(&self.schema, projection)?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let projection = projection.cloned();
        Ok(Arc::new(StreamScan { index: self.index, projection, properties: Arc::new(properties) }))
    }
}

/// Gives the rows of a stream in a run.
#[derive(Debug)]
struct StreamScan {
    index: usize,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for StreamScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamScan: stream={}", self.index)
    }
}

impl ExecutionPlan for StreamScan {
    fn name(&self) -> &str {
        "StreamScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inputs = context
            .session_config()
            .get_extension::<Inputs>()
            .ok_or_else(|| internal_datafusion_err!("a query runs without its inputs"))?;
        let projection = self.projection.clone();
        let index = self.index;
        let n_batches = inputs.tables.get(index).map_or(0, Vec::len);
        let rows = (0..n_batches).map(move |batch| {
            if inputs.cancelled.load(Ordering::Relaxed) {
                return Err(cancelled());
            }
            let rows = &inputs.tables[index][batch];
            match &projection {
                Some(columns) => Ok(rows.project(columns)?),
                None => Ok(rows.clone()),
            }
        });
        let stream = RecordBatchStreamAdapter::new(self.schema(), futures::stream::iter(rows));
        Ok(Box::pin(cooperative(stream)))
    }
}
