//! What a query may not hold: what changes something, and clauses of other systems that would be read and not done.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{LimitClause, Query, Select, SelectItem, SetExpr, TableFactor, Visit, Visitor};

use super::mistake::Mistake;

/// The first thing in a query that no step does.
pub(super) fn refused(query: &Query) -> Option<Mistake> {
    query.visit(&mut Refusing).break_value()
}

/// The mistake of a statement that is no query.
pub(super) fn not_a_query(what: &str) -> Mistake {
    let hint = "A step reads the streams of `from` and gives rows: write `SELECT …`, or `WITH … SELECT …`.";
    Mistake::new(format!("{what} is no query"), Some(hint.to_owned()))
}

struct Refusing;

/// The first clause that is there, and what to write instead.
fn first(clauses: &[(bool, &str, &str)]) -> ControlFlow<Mistake> {
    match clauses.iter().find(|(is_there, ..)| *is_there) {
        Some((_, clause, hint)) => {
            ControlFlow::Break(Mistake::new(format!("`{clause}` is not done here"), Some((*hint).to_owned())))
        }
        None => ControlFlow::Continue(()),
    }
}

const LEAVE_OUT: &str = "Leave it out.";
const LIMIT: &str = "Write `LIMIT n` at the end.";
const NO_LOCKS: &str = "Leave it out: nobody else changes the rows of a batch.";
const ORDER_BY: &str = "Write `ORDER BY`.";
const SAMPLE: &str = "A `sample` step before this one takes a part of the rows.";
const UNNEST: &str = "Write `unnest(x)` among the columns.";

fn has_ilike(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) if options.opt_ilike.is_some())
}

impl Visitor for Refusing {
    type Break = Mistake;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Mistake> {
        match query.body.as_ref() {
            SetExpr::Insert(_) => return ControlFlow::Break(not_a_query("`INSERT`")),
            SetExpr::Update(_) => return ControlFlow::Break(not_a_query("`UPDATE`")),
            SetExpr::Delete(_) => return ControlFlow::Break(not_a_query("`DELETE`")),
            SetExpr::Merge(_) => return ControlFlow::Break(not_a_query("`MERGE`")),
            _ => {}
        }
        let limits_by =
            matches!(&query.limit_clause, Some(LimitClause::LimitOffset { limit_by, .. }) if !limit_by.is_empty());
        first(&[
            (
                limits_by,
                "LIMIT BY",
                "Number the rows with `row_number() OVER (PARTITION BY …)`, and compare that in a query around it.",
            ),
            (!query.locks.is_empty(), "FOR UPDATE` or `FOR SHARE", NO_LOCKS),
            (query.for_clause.is_some(), "FOR", LEAVE_OUT),
            (query.settings.is_some(), "SETTINGS", LEAVE_OUT),
            (query.format_clause.is_some(), "FORMAT", "The sink decides how rows are written."),
            (query.fetch.is_some(), "FETCH", LIMIT),
        ])
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Mistake> {
        first(&[
            (select.top.is_some(), "TOP", LIMIT),
            (select.into.is_some(), "INTO", "The steps and sinks behind this one get its rows."),
            (!select.lateral_views.is_empty(), "LATERAL VIEW", UNNEST),
            (select.prewhere.is_some(), "PREWHERE", "Write `WHERE`."),
            (!select.connect_by.is_empty(), "CONNECT BY", "Write `WITH RECURSIVE`."),
            (!select.sort_by.is_empty(), "SORT BY", ORDER_BY),
            (!select.cluster_by.is_empty(), "CLUSTER BY", ORDER_BY),
            (select.projection.iter().any(has_ilike), "* ILIKE", "Name the columns."),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY", "The step's `by` says what comes to one partition."),
        ])
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Mistake> {
        match table {
            TableFactor::Table { with_hints, version, with_ordinality, partitions, sample, index_hints, .. } => {
                first(&[
                    (sample.is_some(), "TABLESAMPLE", SAMPLE),
                    (version.is_some(), "FOR SYSTEM_TIME", "A query reads the rows of the batch."),
                    (*with_ordinality, "WITH ORDINALITY", "Write `row_number() OVER ()` among the columns."),
                    (!partitions.is_empty(), "PARTITION", LEAVE_OUT),
                    (!with_hints.is_empty() || !index_hints.is_empty(), "WITH` or `USE INDEX", LEAVE_OUT),
                ])
            }
            TableFactor::Pivot { .. } => {
                first(&[(true, "PIVOT", "Write a column for each value, as `sum(CASE WHEN … THEN … END)`.")])
            }
            TableFactor::Unpivot { .. } => {
                first(&[(true, "UNPIVOT", "Write a `UNION ALL` of a query for each column.")])
            }
            TableFactor::MatchRecognize { .. } => first(&[(
                true,
                "MATCH_RECOGNIZE",
                "A plugin in an `update-state` step sees the rows of a key one after the other.",
            )]),
            TableFactor::Derived { sample, .. } => first(&[(sample.is_some(), "TABLESAMPLE", SAMPLE)]),
            _ => ControlFlow::Continue(()),
        }
    }
}
