//! A session: the functions that a step's texts may call, and how texts are read.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, TableReference, plan_datafusion_err};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion::sql::parser::{DFParser, DFParserBuilder};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use super::function::Function;
use super::mistake::{Mistake, UNREPEATABLE, translate};
use super::strict::{StrictRule, checked_sum, strict_function};
use super::time;
use crate::step::keyed::SpecProblem;

/// What plans the texts of one step.
#[derive(Clone)]
pub struct Session {
    pub(super) state: SessionState,
    /// What functions are called, for suggestions.
    names: Arc<Vec<String>>,
}

impl Session {
    /// A session with the functions of SQL, and those that the step brings.
    ///
    /// # Errors
    ///
    /// Functions whose names are taken.
    pub fn new(functions: &[Arc<Function>]) -> Result<Self, Vec<SpecProblem>> {
        let mut state = base().clone();
        let mut problems = Vec::new();
        for function in functions {
            let name = function.name();
            let is_taken = state.scalar_functions().contains_key(name)
                || state.aggregate_functions().contains_key(name)
                || state.window_functions().contains_key(name);
            if is_taken {
                let message = format!("there is a function `{name}` already");
                let hint = Some("Give it another name.".into());
                problems.push(SpecProblem { key: format!("functions.{name}"), message, hint });
                continue;
            }
            let registered = match function.implementation() {
                super::function::Implementation::Scalar(udf) => state.register_udf(udf).map(drop),
                super::function::Implementation::Aggregate(udf) => state.register_udaf(udf).map(drop),
            };
            if let Err(error) = registered {
                problems.push(translate(error, &[]).at(format!("functions.{name}")));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let names: BTreeSet<&String> = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys())
            .collect();
        let names = Arc::new(names.into_iter().cloned().collect());
        Ok(Self { state, names })
    }

    /// A parser of a text.
    pub(super) fn parser<'t>(&self, text: &'t str) -> Result<DFParser<'t>, Mistake> {
        let limit = self.state.config_options().sql_parser.recursion_limit.get();
        DFParserBuilder::new(text)
            .with_dialect(&GenericDialect)
            .with_recursion_limit(limit)
            .build()
            .map_err(|error| self.translate(error))
    }

    /// What turns parsed texts into plans over `tables`.
    pub(super) fn planner<'p>(&self, names: &'p Names<'_>) -> SqlToRel<'p, Names<'p>>
    where
        Self: 'p,
    {
        let options = &self.state.config_options().sql_parser;
        let options = ParserOptions {
            parse_float_as_decimal: options.parse_float_as_decimal,
            enable_ident_normalization: options.enable_ident_normalization,
            support_varchar_with_length: options.support_varchar_with_length,
            map_string_types_to_utf8view: options.map_string_types_to_utf8view,
            enable_options_value_normalization: options.enable_options_value_normalization,
            collect_spans: options.collect_spans,
            ..ParserOptions::default()
        };
        SqlToRel::new_with_options(names, options)
    }

    /// What names mean in a text over `tables`.
    pub(super) fn names<'a>(&'a self, tables: &'a [(String, Arc<dyn TableSource>)]) -> Names<'a> {
        Names { state: &self.state, tables }
    }

    /// An error of parsing or planning, in the words of a job file.
    pub(super) fn translate(&self, error: datafusion::common::DataFusionError) -> Mistake {
        translate(error, &self.names)
    }
}

/// The functions of SQL and the settings, made once: every step's session is a copy.
fn base() -> &'static SessionState {
    static BASE: OnceLock<SessionState> = OnceLock::new();
    BASE.get_or_init(|| {
        let time = time::functions();
        let is_told_by_batch = |name: &str| {
            time.iter().any(|ours| ours.name() == name || ours.aliases().iter().any(|alias| alias == name))
        };
        let mut scalar = SessionStateDefaults::default_scalar_functions();
        scalar.retain(|function| !is_told_by_batch(function.name()) && !UNREPEATABLE.contains(&function.name()));
        let mut scalar: Vec<_> = scalar.into_iter().map(strict_function).collect();
        scalar.extend(time.iter().cloned());
        let mut aggregates = SessionStateDefaults::default_aggregate_functions();
        let sum = checked_sum();
        aggregates.retain(|function| function.name() != sum.name());
        aggregates.push(sum);
        SessionStateBuilder::new()
            .with_config(config())
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(scalar)
            .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
            .with_aggregate_functions(aggregates)
            .with_window_functions(SessionStateDefaults::default_window_functions())
            .with_analyzer_rule(Arc::new(StrictRule))
            .build()
    })
}

/// How everything is planned.
fn config() -> SessionConfig {
    // One thread and rows in order: what comes out depends on the rows alone.
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    // Columns are called as in the job file.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Mistakes in long texts say where they are.
    options.sql_parser.collect_spans = true;
    // Filters that appear while a query runs would be for the files that it reads, and it reads none.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    // Nothing is written to disk, so no memory is set aside for reading it back.
    options.execution.sort_spill_reservation_bytes = 0;
    config
}

/// What names mean in a text: tables are the streams of a step, functions those of the session.
pub(super) struct Names<'a> {
    state: &'a SessionState,
    tables: &'a [(String, Arc<dyn TableSource>)],
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        let found = self.tables.iter().find(|(table, _)| name.schema().is_none() && table == name.table());
        found.map(|(_, source)| source.clone()).ok_or_else(|| plan_datafusion_err!("there is no stream `{name}` here"))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        _: Vec<datafusion::logical_expr::Expr>,
    ) -> Result<Arc<dyn TableSource>> {
        Err(plan_datafusion_err!("table function '{name}' not found"))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
