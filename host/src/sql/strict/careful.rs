//! `AND` and `OR` that guard: when the left side decides a row, the right side is not asked about it.
//!
//! Asking both sides about all rows is quicker, and for most expressions the same. So that is tried first, and only when it
//! fails are the rows taken apart: `b <> 0 AND 10 / b > 1` divides by no zero.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, or_kleene};
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::projection::ProjectionExec;

/// The expression, with `AND` and `OR` that guard.
pub(in crate::sql) fn careful(quick: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let guarded = quick.clone().transform_up(|part| {
        Ok(match part.downcast_ref::<BinaryExpr>() {
            Some(binary) if matches!(binary.op(), Operator::And | Operator::Or) => {
                Transformed::yes(Arc::new(Guarded {
                    is_and: binary.op() == &Operator::And,
                    left: binary.left().clone(),
                    right: binary.right().clone(),
                }))
            }
            _ => Transformed::no(part),
        })
    })?;
    if !guarded.transformed {
        return Ok(quick);
    }
    Ok(Arc::new(Careful { quick, guarded: guarded.data }))
}

/// The plan, with conditions and columns in which `AND` and `OR` guard.
pub(in crate::sql) fn careful_plan(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        if let Some(filter) = node.downcast_ref::<FilterExec>() {
            let predicate = careful(filter.predicate().clone())?;
            let filter = FilterExecBuilder::from(filter).with_predicate(predicate).build()?;
            return Ok(Transformed::yes(Arc::new(filter)));
        }
        if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            let columns = projection
                .expr()
                .iter()
                .map(|column| Ok(ProjectionExpr { expr: careful(column.expr.clone())?, alias: column.alias.clone() }));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            return Ok(Transformed::yes(Arc::new(ProjectionExec::try_new(columns, projection.input().clone())?)));
        }
        Ok(Transformed::no(node))
    })?;
    Ok(plan.data)
}

/// An expression that is computed the quick way, and the guarded way when that fails.
#[derive(Debug, Eq)]
struct Careful {
    quick: Arc<dyn PhysicalExpr>,
    guarded: Arc<dyn PhysicalExpr>,
}

impl PartialEq for Careful {
    fn eq(&self, other: &Self) -> bool {
        // One follows from the other.
        self.quick.eq(&other.quick)
    }
}

impl Hash for Careful {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.quick.hash(state);
    }
}

impl fmt::Display for Careful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.quick.fmt(f)
    }
}

impl PhysicalExpr for Careful {
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.quick.return_field(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        match self.quick.evaluate(rows) {
            // What a plugin's function says, or that the batch was given up, would only be said again.
            Err(error) if !matches!(error.find_root(), DataFusionError::External(_)) => self.guarded.evaluate(rows),
            outcome => outcome,
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.quick]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match (children.pop(), children.is_empty()) {
            (Some(quick), true) => careful(quick),
            _ => internal_err!("one expression is computed carefully"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.quick.fmt_sql(f)
    }
}

/// `AND` or `OR` that asks its right side about those rows alone that its left side leaves open.
#[derive(Debug, Eq)]
struct Guarded {
    is_and: bool,
    left: Arc<dyn PhysicalExpr>,
    right: Arc<dyn PhysicalExpr>,
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.is_and == other.is_and && self.left.eq(&other.left) && self.right.eq(&other.right)
    }
}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.is_and.hash(state);
        self.left.hash(state);
        self.right.hash(state);
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {} {})", self.left, if self.is_and { "AND" } else { "OR" }, self.right)
    }
}

impl PhysicalExpr for Guarded {
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        let operator = if self.is_and { Operator::And } else { Operator::Or };
        BinaryExpr::new(self.left.clone(), operator, self.right.clone()).return_field(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let n_rows = rows.num_rows();
        let left = self.left.evaluate(rows)?.into_array(n_rows)?;
        let left = left.as_boolean();
        // False decides an AND, true an OR; null decides neither.
        let open: BooleanArray =
            (0..n_rows).map(|row| Some(left.is_null(row) || left.value(row) == self.is_and)).collect();
        let right = self.right.evaluate_selection(rows, &open)?.into_array(n_rows)?;
        let both = if self.is_and { and_kleene } else { or_kleene };
        Ok(ColumnarValue::Array(Arc::new(both(left, right.as_boolean())?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Self { is_and: self.is_and, left, right })),
            Err(_) => internal_err!("two sides are guarded"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
