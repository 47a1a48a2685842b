//! The conformance operator of an SDK, check by check.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

use super::call::{Given, compare, text};
use super::expected::{Config, answers, state_schema};
use super::generate::{Dice, Nulls, nested_types, schema_of, simple_types};
use super::given::{given, with_second};
use super::{Found, Kit, LONG, SIZES};
use crate::error::{Explain, Retry};
use crate::operator::{
    AggregatorPlan, CallError, Calling, Carried, GrouperPlan, OpenError, ReducerPlan, Role, Timeouts, TransformPlan,
    UpdaterPlan,
};
use crate::plugin::MetricValue;
use crate::type_name::describe_type;

/// The views that an SDK may have.
const VIEWS: [&str; 2] = ["columns", "rows"];

/// The text with which the operator refuses and fails when it is asked to.
const REFUSED: &str = "refused as asked";
/// See [`REFUSED`].
const FAILED: &str = "failed as asked";

/// What a call is made of.
struct Case {
    schema: SchemaRef,
    n_rows: usize,
    nulls: Nulls,
    config: Config,
    first_row: u64,
}

impl Case {
    fn new(schema: SchemaRef, n_rows: usize, nulls: Nulls) -> Self {
        Self { schema, n_rows, nulls, config: Config::default(), first_row: 0 }
    }

    fn with(schema: SchemaRef, config: Config) -> Self {
        Self { schema, n_rows: 23, nulls: Nulls::Some, config, first_row: 5 }
    }
}

/// A few columns, for what does not depend on types.
fn few() -> SchemaRef {
    schema_of(&[DataType::Int64, DataType::Utf8, nested_types().swap_remove(0)], true)
}

impl Kit<'_> {
    /// Checks the conformance operator in a role.
    pub(super) fn check_sdk(&mut self, role: Role) {
        self.check(role, "open", "the plan is what the specification says", |kit, dice| {
            for schema in
                [few(), schema_of(&[], true), schema_of(&simple_types(), false), schema_of(&nested_types(), true)]
            {
                kit.check_plan(role, &schema, &Config::default(), dice)?;
            }
            options(role).into_iter().try_for_each(|config| kit.check_plan(role, &few(), &config, dice))
        });
        self.check(role, "refusals", "it refuses with the right kind and words", |kit, dice| {
            kit.check_refusals(role, dice)
        });
        self.check(role, "failures", "it fails with the right kind and words", |kit, dice| {
            kit.check_failures(role, dice)
        });
        self.check(role, "types", "rows of every type", |kit, dice| kit.run(role, dice, by_types(&simple_types())));
        self.check(role, "nesting", "lists, structs and maps of them", |kit, dice| {
            kit.run(role, dice, by_types(&nested_types()))
        });
        self.check(role, "empties", "no rows, no columns", |kit, dice| {
            let all = [simple_types(), nested_types()].concat();
            let schemas = [schema_of(&all, true), schema_of(&all, false), schema_of(&[], true)];
            let mut cases: Vec<_> = schemas.into_iter().map(|schema| Case::new(schema, 0, Nulls::No)).collect();
            cases.push(Case::new(schema_of(&[], true), 9, Nulls::No));
            kit.run(role, dice, cases)
        });
        self.check(role, "long", "some thousand rows", |kit, dice| {
            let schemas = [schema_of(&simple_types(), true), schema_of(&nested_types()[..6], true), few()];
            kit.run(role, dice, schemas.into_iter().map(|schema| Case::new(schema, LONG, Nulls::Some)).collect())
        });
        self.check(role, "options", "every key of the configuration that changes what comes out", |kit, dice| {
            let cases = options(role).into_iter().map(|config| Case::with(few(), config));
            kit.run(role, dice, cases.collect())
        });
        self.check(role, "diagnostics", "counters and gauges", |kit, dice| kit.check_diagnostics(role, dice));
        self.check(role, "again", "the same calls again, to the same instance: the same answers", |kit, dice| {
            let config = Config::default();
            let given = given(role, &few(), 64, Nulls::Some, &config, dice);
            let mut opened = kit.open(role, &json(&config), &given).map_err(|error| (error.to_string(), None))?;
            for _ in 0..3 {
                let found = opened.call(&given).map_err(|error| (error.what(), None))?;
                compare(&answers(role, &config, &given), &found).map_err(|difference| (difference, None))?;
            }
            Ok(())
        });
    }

    /// Runs cases, each with every view.
    fn run(&self, role: Role, dice: &mut Dice, cases: Vec<Case>) -> Found {
        for case in cases {
            let mut made = given(role, &case.schema, case.n_rows, case.nulls, &case.config, dice);
            made.first_row = case.first_row;
            let mut all = vec![made];
            if role == Role::Grouper {
                all.push(with_second(all[0].clone(), case.nulls, dice));
            }
            for (given, view) in all.iter().flat_map(|given| VIEWS.map(|view| (given, view))) {
                let config = Config { by: Some(view), ..case.config.clone() };
                self.run_one(role, &config, given).map_err(|what| (what, None))?;
            }
        }
        Ok(())
    }

    fn run_one(&self, role: Role, config: &Config, given: &Given) -> Result<(), String> {
        let config_json = json(config);
        let place = || {
            let columns: Vec<_> = given
                .rows
                .schema()
                .fields()
                .iter()
                .map(|field| {
                    format!(
                        "{}: {}{}",
                        field.name(),
                        describe_type(field.data_type()),
                        if field.is_nullable() { "" } else { " not null" }
                    )
                })
                .collect();
            let columns = crate::error::shortened(&columns.join(", "), 160);
            format!("{} rows of ({columns}), config {config_json}, seed {}", given.rows.num_rows(), self.request.seed)
        };
        let mut opened = self.open(role, &config_json, given).map_err(|error| format!("{error}\n{}", place()))?;
        let found = opened.call(given).map_err(|error| {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}{hint}\n{}", error.what(), place())
        })?;
        compare(&answers(role, config, given), &found).map_err(|difference| format!("{difference}\n{}", place()))
    }

    fn check_plan(&self, role: Role, schema: &SchemaRef, config: &Config, dice: &mut Dice) -> Found {
        let given = given(role, schema, 1, Nulls::No, config, dice);
        let opened = self.open(role, &json(config), &given).map_err(|error| (error.to_string(), None))?;
        let (expected, found) = (plan(role, schema, config), opened.plan());
        if expected != found {
            let short = |text: &str| crate::error::shortened(text, 2000);
            return Err((format!("{}\nis expected, and this came:\n{}", short(&expected), short(&found)), None));
        }
        Ok(())
    }

    fn check_refusals(&self, role: Role, dice: &mut Dice) -> Found {
        let refuse = |config: serde_json::Value, schema: &SchemaRef, kind: &str, word: &str, dice: &mut Dice| {
            let given = given(role, schema, 1, Nulls::No, &Config::default(), dice);
            let found = match self.open(role, &config, &given) {
                Ok(_) => "it opened".to_owned(),
                Err(OpenError::Config { reason, .. }) if kind == "config" && reason.contains(word) => return Ok(()),
                Err(OpenError::Schema { reason, .. }) if kind == "schema" && reason.contains(word) => return Ok(()),
                Err(OpenError::Refused { reason, .. }) if kind == "other" && reason.contains(word) => return Ok(()),
                Err(error) => error.to_string(),
            };
            let expected =
                format!("a refusal as `{kind}` with `{word}` in its text is expected for the config {config}");
            Err((format!("{expected}: {found}"), None))
        };
        for kind in ["config", "schema", "other"] {
            refuse(serde_json::json!({ "refuse": kind }), &few(), kind, REFUSED, dice)?;
        }
        refuse(serde_json::json!({ "surprise": 1 }), &few(), "config", "surprise", dice)?;
        if matches!(role, Role::Reducer | Role::Aggregator) {
            refuse(serde_json::json!({ "reject-every": 2 }), &few(), "config", "reject-every", dice)?;
        }
        let taken = match role {
            Role::Aggregator => &["rows"][..],
            Role::Updater => &["rows", "timed_out"],
            _ => &[],
        };
        for name in taken {
            let schema = Arc::new(Schema::new(vec![Field::new(*name, DataType::Utf8, true)]));
            refuse(serde_json::json!({}), &schema, "schema", name, dice)?;
        }
        Ok(())
    }

    fn check_failures(&self, role: Role, dice: &mut Dice) -> Found {
        for (kind, may_pass) in [("retry", true), ("fatal", false)] {
            let config = serde_json::json!({ "fail": kind });
            let given = given(role, &few(), 5, Nulls::Some, &Config::default(), dice);
            let mut opened = self.open(role, &config, &given).map_err(|error| (error.to_string(), None))?;
            let found = match opened.call(&given) {
                Err(CallError::Failed { reason, retry, .. })
                    if reason.contains(FAILED) && (retry != Retry::Never) == may_pass =>
                {
                    continue;
                }
                Err(error) => error.what(),
                Ok(_) => "it ended well".into(),
            };
            return Err((format!("a failure as `{kind}` with `{FAILED}` is expected: {found}"), None));
        }
        Ok(())
    }

    fn check_diagnostics(&self, role: Role, dice: &mut Dice) -> Found {
        let given = given(role, &few(), 23, Nulls::Some, &Config::default(), dice);
        // A step of its own, so that nothing has counted before.
        let mut step = self.step(serde_json::json!({ "diagnostics": true }));
        step.step = format!("diagnostics of the {role}");
        let opened = super::call::open(&*self.plugin, role, &step, &given);
        let mut opened = opened.map_err(|error| (error.to_string(), None))?;
        opened.call(&given).map_err(|error| (error.what(), None))?;
        let n_groups = given.ends.len() as u64;
        let (sum, last) = match role {
            // Three calls: of rows, of accumulators, and of those that were merged in twos.
            Role::Aggregator => (23 + n_groups + n_groups.div_ceil(2), n_groups.div_ceil(2)),
            _ => (23, 23),
        };
        let kept = self.plugin.metrics(&step.job, &step.step).map(|metrics| metrics.snapshot()).unwrap_or_default();
        let expected = vec![
            ("conform_last".to_owned(), MetricValue::Gauge(last as f64)),
            ("conform_rows".to_owned(), MetricValue::Counter(sum)),
        ];
        if kept != expected {
            return Err((format!("{} is expected, and {} was kept", text(expected), text(kept)), None));
        }
        Ok(())
    }
}

fn json(config: &Config) -> serde_json::Value {
    serde_json::to_value(config).unwrap_or_default()
}

/// Each type by itself, and all together.
fn by_types(types: &[DataType]) -> Vec<Case> {
    let mut cases = Vec::new();
    for data_type in types {
        for (nullable, nulls) in [(false, Nulls::No), (true, Nulls::No), (true, Nulls::Some), (true, Nulls::All)] {
            cases.push(Case::new(schema_of(std::slice::from_ref(data_type), nullable), 17, nulls));
        }
    }
    cases.extend(SIZES.map(|n_rows| Case::new(schema_of(types, true), n_rows, Nulls::Some)));
    cases
}

/// The configurations of a role that change what comes out.
fn options(role: Role) -> Vec<Config> {
    let of = Config::default;
    match role {
        Role::Transform => vec![
            Config { repeat: Some(0), ..of() },
            Config { repeat: Some(3), ..of() },
            Config { reject_every: Some(1), ..of() },
            Config { reject_every: Some(4), ..of() },
            Config { reject_every: Some(3), repeat: Some(2), ..of() },
            Config { carry: Some(true), ..of() },
            Config { carry: Some(true), reject_every: Some(3), repeat: Some(2), ..of() },
        ],
        Role::Reducer => vec![Config { invertible: Some(true), ..of() }],
        Role::Aggregator => vec![],
        Role::Grouper => vec![Config { reject_every: Some(1), ..of() }, Config { reject_every: Some(3), ..of() }],
        Role::Updater => {
            let timed = |timeouts, timeout_us| Config { timeouts: Some(timeouts), timeout_us, ..of() };
            vec![
                Config { reject_every: Some(1), ..of() },
                Config { reject_every: Some(2), ..of() },
                Config { every_key: Some(true), ..of() },
                Config { every_key: Some(true), reject_every: Some(2), ..of() },
                Config { remove_at: Some(10), ..of() },
                timed("never", Some(5)),
                timed("batch-time", None),
                timed("batch-time", Some(60_000_000)),
                timed("event-time", Some(1)),
                Config { remove_at: Some(20), every_key: Some(true), ..timed("event-time", Some(7)) },
            ]
        }
    }
}

/// The plan that the specification says.
fn plan(role: Role, schema: &SchemaRef, config: &Config) -> String {
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let with = |before: &[(&str, DataType)]| {
        let before = before.iter().map(|(name, data_type)| Arc::new(Field::new(*name, data_type.clone(), false)));
        Arc::new(Schema::new(before.chain(schema.fields().iter().cloned()).collect::<Vec<_>>()))
    };
    match role {
        Role::Transform if config.carry == Some(true) => {
            text(&TransformPlan { reads: vec![], writes: Arc::new(Schema::empty()), carries: Carried::Everything })
        }
        Role::Transform => text(&TransformPlan { reads: all, writes: schema.clone(), carries: Carried::Nothing }),
        Role::Reducer => text(ReducerPlan { invertible: config.invertible == Some(true) }),
        Role::Aggregator => {
            let accumulator = state_schema(schema);
            text(&AggregatorPlan { reads: all, result: accumulator.clone(), accumulator })
        }
        Role::Grouper => text(&GrouperPlan { reads: vec![all], writes: schema.clone() }),
        Role::Updater => text(&UpdaterPlan {
            reads: all,
            state: state_schema(schema),
            writes: with(&[("rows", DataType::Int64), ("timed_out", DataType::Boolean)]),
            calling: if config.every_key == Some(true) { Calling::EveryKey } else { Calling::KeysWithValues },
            timeouts: match config.timeouts {
                Some("batch-time") => Timeouts::BatchTime,
                Some("event-time") => Timeouts::EventTime,
                _ => Timeouts::Never,
            },
        }),
    }
}
