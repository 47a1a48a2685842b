//! An expression over the columns of a row: planned once, computed for whatever rows come.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::sql::planner::PlannerContext;

use super::failure::{EvaluationFailed, Site, ValueFailed, unbroken, unbroken_plan, unwrap, value_hint};
use super::lineage::time_origin;
use super::mistake::{Mistake, reason};
use super::scope::Scope;
use super::session::Session;
use super::strict::{careful, strict};
use super::types::{plain_array, plain_type};
use crate::error::Error;
use crate::step::times::TimeOrigin;

/// Letters of a value that a message shows.
const VALUE_CHARS_MAX: usize = 60;

/// Columns that a message shows.
const COLUMNS_SHOWN_MAX: usize = 8;

/// An expression, ready to be computed.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use arrow::datatypes::{DataType, Field, Schema};
/// use tidemill::sql::Session;
///
/// let schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Int64, true)]));
/// let session = Session::new(&[]).expect("no functions whose names could be taken");
///
/// let double = session.expression("price * 2", &schema).expect("a number");
/// assert_eq!(double.data_type(), &DataType::Int64);
/// let mistake = session.expression("prize * 2", &schema).unwrap_err();
/// assert_eq!(mistake.message, "there is no column `prize`");
/// ```
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    nullable: bool,
    times: TimeOrigin,
}

impl Session {
    /// Plans an expression over rows of a schema.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn expression(&self, text: &str, schema: &SchemaRef) -> Result<Expression, Mistake> {
        unbroken_plan(|| self.plan_expression(text, schema)).map_err(|mistake| mistake.in_text(text))
    }

    fn plan_expression(&self, text: &str, schema: &SchemaRef) -> Result<Expression, Mistake> {
        if text.trim().is_empty() {
            return Err(Mistake::new("the expression is empty", None));
        }
        let parsed = self.parser(text)?.parse_into_expr().map_err(|error| self.translate(error))?;
        if let Some(alias) = parsed.alias {
            let hint = "The key before the expression is the column's name.".to_owned();
            return Err(Mistake::new(format!("`AS {alias}` has no place in an expression"), Some(hint)));
        }
        let columns = DFSchema::try_from(schema.as_ref().clone()).map_err(|error| self.translate(error))?;
        let names = self.names(&[]);
        let logical = self.planner(&names).sql_to_expr(parsed.expr, &columns, &mut PlannerContext::new());
        let logical = logical.map_err(|error| self.translate(error))?;
        if let Some(mistake) = not_of_one_row(&logical) {
            return Err(mistake);
        }
        self.planned(text, logical, &columns).map_err(|error| self.translate(error)).and_then(|expression| {
            if expression.data_type == DataType::Null {
                let hint = "Give it a type, as in `cast(null AS bigint)`.".to_owned();
                return Err(Mistake::new(format!("`{text}` is always null and has no type"), Some(hint)));
            }
            Ok(expression)
        })
    }

    fn planned(&self, text: &str, logical: Expr, columns: &DFSchema) -> Result<Expression, DataFusionError> {
        let times = time_origin(&logical, columns, &|column| TimeOrigin::column(0, column));
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(columns.clone()))
            .with_config_options(self.state.config_options().clone())
            .build();
        let simplifier = ExprSimplifier::new(context);
        let logical = strict(simplifier.coerce(logical, columns)?, columns)?;
        let logical = simplifier.simplify(logical)?;
        let physical = careful(self.state.create_physical_expr(logical, columns)?)?;
        let data_type = plain_type(&physical.data_type(columns.as_arrow())?);
        let nullable = physical.nullable(columns.as_arrow())?;
        Ok(Expression { text: text.to_owned(), physical, data_type, nullable, times })
    }
}

/// What an expression asks for that one row does not have.
fn not_of_one_row(expression: &Expr) -> Option<Mistake> {
    let mut mistake = None;
    let searched = expression.apply(|part| {
        let (what, hint) = match part {
            Expr::AggregateFunction(function) => (
                format!("`{}` needs many rows", function.func.name()),
                "Aggregates stand in `aggregate` and `sql` steps.",
            ),
            Expr::WindowFunction(function) => {
                (format!("`{}` needs many rows", function.fun.name()), "Functions with `OVER` stand in `sql` steps.")
            }
            Expr::Unnest(_) => ("`unnest` gives several rows for one".to_owned(), "It stands in `sql` steps."),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_) => {
                ("an expression cannot hold a query".to_owned(), "Queries stand in `sql` steps.")
            }
            Expr::Placeholder(placeholder) => {
                (format!("`{}` has no value", placeholder.id), "`${NAME}` in a job file reads the environment.")
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        mistake = Some(Mistake::new(what, Some(hint.to_owned())));
        Ok(TreeNodeRecursion::Stop)
    });
    debug_assert!(searched.is_ok(), "nothing that was done can fail");
    mistake
}

impl Expression {
    /// As it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The type of its values.
    #[must_use]
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// What its values are computed of, if they are times.
    #[must_use]
    pub fn time_origin(&self) -> &TimeOrigin {
        &self.times
    }

    /// Whether a value may be null.
    #[must_use]
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// Its value for every row, in a step's task.
    ///
    /// # Errors
    ///
    /// [`EvaluationFailed`] with the first row that has no value; what a plugin's function said.
    pub fn evaluate(&self, rows: &RecordBatch, step: &str, scope: &Arc<Scope>) -> Result<ArrayRef, Error> {
        scope.run(|| {
            let error = match self.try_evaluate(rows) {
                Ok(column) => return Ok(column),
                Err(error) => match unwrap(error) {
                    Ok(ours) => return Err(ours),
                    Err(error) => error,
                },
            };
            let (reason, row) = match self.first_failure(rows) {
                Some((row, reason)) => (reason, Some(row).filter(|row| !row.is_empty())),
                None => (reason(&error), None),
            };
            let hint = value_hint(&reason);
            let source = ValueFailed { reason, row, hint };
            Err(EvaluationFailed { site: Site::new(step, scope.task()), text: self.text.clone(), source }.into())
        })
    }

    fn try_evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        unbroken(|| {
            let column = self.physical.evaluate(rows)?.into_array(rows.num_rows())?;
            Ok(plain_array(&column, &self.data_type)?.into_owned())
        })
    }

    /// The first row that has no value, and why: found by halving.
    fn first_failure(&self, rows: &RecordBatch) -> Option<(String, String)> {
        let (mut start, mut end) = (0, rows.num_rows());
        while end - start > 1 {
            let middle = start + (end - start) / 2;
            match self.try_evaluate(&rows.slice(start, middle - start)) {
                Ok(_) => start = middle,
                Err(_) => end = middle,
            }
        }
        let row = rows.slice(start, end - start);
        let error = self.try_evaluate(&row).err()?;
        Some((describe_row(&row, &self.reads()), reason(&error)))
    }

    /// The columns that it reads, by index.
    fn reads(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = collect_columns(&self.physical).iter().map(|column| column.index()).collect();
        columns.sort_unstable();
        columns
    }
}

/// The values of the first of some rows, as in `price = 3, quantity = 0`.
pub(crate) fn describe_row(rows: &RecordBatch, columns: &[usize]) -> String {
    let options = FormatOptions::new().with_null("null");
    let schema: &Schema = rows.schema_ref();
    let values = columns.iter().take(COLUMNS_SHOWN_MAX).filter_map(|&index| {
        let text =
            ArrayFormatter::try_new(rows.column(index).as_ref(), &options).ok()?.value(0).try_to_string().ok()?;
        let mut shown: String = text.chars().take(VALUE_CHARS_MAX).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        let quote = if matches!(rows.column(index).data_type(), DataType::Utf8) { "'" } else { "" };
        Some(format!("{} = {quote}{shown}{quote}", schema.field(index).name()))
    });
    values.collect::<Vec<_>>().join(", ")
}
