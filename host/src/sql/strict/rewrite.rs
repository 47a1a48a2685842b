//! Expressions as they are meant: what the simplifier may do to them must not change what comes out, or whether it fails.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::expr::{BinaryExpr, Case, Cast, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::AnalyzerRule;

use super::arithmetic::{checked, checked_negative, fitting};
use super::frames::{Order, reachable_frame};
use super::passing::{Look, passing};
use crate::sql::lineage::interval;

/// Makes the expressions of a plan strict. It comes after the rule that makes their types fit.
#[derive(Debug)]
pub(in crate::sql) struct StrictRule;

impl AnalyzerRule for StrictRule {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
            }
            let names = NamePreserver::new(&plan);
            let order = match &plan {
                LogicalPlan::Window(window) => Order::needed(&window.window_expr, &schema)?,
                _ => None,
            };
            let plan = plan.map_expressions(|expression| {
                let name = names.save(&expression);
                let ordered = order
                    .as_ref()
                    .map_or_else(|| Ok(Transformed::no(expression.clone())), |order| order.of(expression.clone()))?;
                let strict = ordered.transform_data(|expression| strict_parts(expression, &schema))?;
                Ok(strict.update_data(|expression| name.restore(expression)))
            })?;
            plan.map_data(LogicalPlan::recompute_schema)
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "strict"
    }
}

/// The expression, strict. Its types fit already.
pub(in crate::sql) fn strict(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(strict_parts(expression, schema)?.data)
}

fn strict_parts(expression: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expression.transform_up(|part| {
        let strict = match &part {
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if is_integer(left, schema) && is_integer(right, schema) =>
            {
                checked(left, *op, right)
            }
            Expr::Negative(value) if is_integer(value, schema) => Some(checked_negative(value)),
            Expr::BinaryExpr(BinaryExpr { left, right, .. }) if loses_hours(left, right, schema) => {
                return plan_err!(
                    "a date has no hours, and would lose those of the interval: cast it to a timestamp first"
                );
            }
            Expr::BinaryExpr(_) if is_of(&part, schema, DataType::is_decimal) => Some(fitting(part.clone())),
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field })
                if may_change(expr, field.data_type(), schema) =>
            {
                Some(kept(part.clone()))
            }
            Expr::WindowFunction(function) => {
                reachable_frame(function)?.map(|function| Expr::WindowFunction(Box::new(function)))
            }
            Expr::Case(case) if is_of(&part, schema, |data_type| data_type == &DataType::Boolean) => guarding(case),
            _ => None,
        };
        Ok(strict.map_or_else(|| Transformed::no(part), Transformed::yes))
    })
}

/// Whether hours are added to a date or taken from one: DataFusion leaves them out.
fn loses_hours(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    const DAY_NS: i64 = 86_400_000_000_000;
    let is_date = |expression: &Expr| is_of(expression, schema, |data_type| data_type == &DataType::Date32);
    let has_hours = |expression: &Expr| interval(expression).is_some_and(|interval| interval.nanoseconds % DAY_NS != 0);
    is_date(left) && has_hours(right) || is_date(right) && has_hours(left)
}

fn is_of(expression: &Expr, schema: &DFSchema, is: impl FnOnce(&DataType) -> bool) -> bool {
    expression.get_type(schema).is_ok_and(|data_type| is(&data_type))
}

fn is_integer(expression: &Expr, schema: &DFSchema) -> bool {
    is_of(expression, schema, DataType::is_integer)
}

/// Whether a cast may fail for some value, or make one of several: comparing what was cast is then another thing than
/// comparing what was not, which is what the simplifier makes of it.
fn may_change(from: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    if matches!(from, Expr::Literal(..)) {
        return false;
    }
    let widens = |from: &DataType| {
        from == to
            || match (from.primitive_width(), to.primitive_width()) {
                (Some(narrow), Some(wide)) => {
                    (from.is_signed_integer() && to.is_signed_integer() && narrow <= wide)
                        || (from.is_unsigned_integer() && to.is_unsigned_integer() && narrow <= wide)
                        || (from.is_unsigned_integer() && to.is_signed_integer() && narrow < wide)
                }
                _ => false,
            }
    };
    is_of(from, schema, |from| !widens(from))
}

/// A condition of cases as a number that is made a condition again: one of conditions alone would be turned into `AND` and
/// `OR`, which may compute every case for every row.
fn guarding(case: &Case) -> Option<Expr> {
    if case.expr.is_some() {
        return None;
    }
    let number = |condition: &Expr| Box::new(cast(condition.clone(), DataType::Int8));
    let cases = case.when_then_expr.iter().map(|(when, then)| (when.clone(), number(then))).collect();
    let otherwise = case.else_expr.as_ref().map(|otherwise| number(otherwise));
    Some(kept(cast(Expr::Case(Case::new(None, cases, otherwise)), DataType::Boolean)))
}

fn cast(expression: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expression), to))
}

/// The expression, as something that the simplifier does not look into.
fn kept(expression: Expr) -> Expr {
    passing(expression, Kept)
}

/// Looks at nothing.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept;

impl Look for Kept {
    const NAME: &str = "kept";

    fn look(&self, _: &ArrayRef) -> Result<()> {
        Ok(())
    }

    fn column_name(&self, argument: &Expr) -> Result<String> {
        // Not that of what is kept: a cast has the name of its column, and columns of a join must be told apart.
        Ok(format!("kept({argument})"))
    }
}
