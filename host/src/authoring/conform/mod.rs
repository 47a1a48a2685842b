//! The conformance kit: holds a plugin against the contract with rows that it makes up.
//!
//! Of any plugin it sees to it that nothing crashes, breaks a rule or differs from one call to the next. Of the conformance
//! operator of an SDK, which does what `docs/conformance.md` says, it knows every answer.

mod call;
mod expected;
mod generate;
mod given;
mod sdk;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use self::call::{Answer, Given, Opened, compare, open};
use self::generate::{Dice, Nulls};
use crate::authoring::report::Report;
use crate::authoring::trial::{self, Subject, TrialError};
use crate::error::Error;
use crate::operator::{CallError, OpenError, Operator, Role, StepInfo};
use crate::plugin::{LoadOptions, Plugin, Runtime};

/// How many rows batches have.
const SIZES: [usize; 5] = [1, 7, 8, 9, 64];

/// How many a long one has.
const LONG: usize = 3000;

/// What is checked.
#[derive(Debug, Clone)]
pub struct ConformRequest {
    /// The plugin's file.
    pub plugin: PathBuf,
    /// Whether it is the conformance operator of an SDK. Nothing else needs to be said then.
    pub sdk: bool,
    /// What rows are made of.
    pub seed: u64,
    /// The only role that is checked.
    pub role: Option<Role>,
    /// A schema that it accepts.
    pub input: Option<SchemaRef>,
    /// The columns of it that are the key.
    pub by: Vec<String>,
    /// The step's configuration.
    pub config: serde_json::Value,
    /// The only check that is run.
    pub only: Option<String>,
}

/// What a check found: `Err` what broke, and what that may mean.
type Found = Result<(), (String, Option<String>)>;

/// Checks a plugin.
///
/// # Errors
///
/// When it cannot be loaded, or there is nothing to check. What does not conform is in the report.
pub fn conform(request: &ConformRequest, runtime: &Runtime) -> Result<Report, Error> {
    let name = request.plugin.display().to_string();
    let plugin = Arc::new(runtime.load(&name, &request.plugin, &LoadOptions::default())?);
    let roles: Vec<Role> =
        plugin.roles().into_iter().filter(|role| request.role.is_none_or(|only| only == *role)).collect();
    if roles.is_empty() {
        let message = match request.role {
            Some(role) => format!("`{name}` is no {role}"),
            None => format!("`{name}` has no role"),
        };
        return Err(TrialError { message, hint: None }.into());
    }
    let mut kit = Kit { plugin, request, report: Report::default() };
    if request.sdk {
        roles.into_iter().for_each(|role| kit.check_sdk(role));
    } else {
        let Some(input) = &request.input else {
            let message = "it is not said which columns the plugin accepts".into();
            let hint = "Name them with `--input`, as in `--input \"value: utf8\"`; of an SDK's conformance operator say `--sdk`.";
            return Err(TrialError { message, hint: Some(hint.into()) }.into());
        };
        for role in roles {
            kit.check_any(role, input)?;
        }
    }
    if let Some(only) = &request.only
        && kit.report.checks.is_empty()
    {
        return Err(TrialError { message: format!("there is no check `{only}`"), hint: None }.into());
    }
    Ok(kit.report)
}

/// A check under way.
struct Kit<'a> {
    plugin: Arc<Plugin>,
    request: &'a ConformRequest,
    report: Report,
}

impl Kit<'_> {
    /// Adds a check, if it is wanted.
    fn check(&mut self, role: Role, name: &str, about: &str, find: impl FnOnce(&Self, &mut Dice) -> Found) {
        let name = format!("{role}/{name}");
        if self.request.only.as_ref().is_none_or(|only| *only == name) {
            // Every check has rows of its own, whichever are run.
            let number = name.bytes().fold(self.request.seed, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
            let found = find(self, &mut Dice::of(number));
            self.report.add(name, about, found);
        }
    }

    fn step(&self, config: serde_json::Value) -> StepInfo {
        let operator = Arc::clone(&self.plugin) as Arc<dyn Operator>;
        let subject = Subject { operator, role: Role::Transform, config, by: vec![], whole_partition: false };
        trial::step_info(&subject)
    }

    fn open(&self, role: Role, config: &serde_json::Value, given: &Given) -> Result<Opened, OpenError> {
        open(&*self.plugin, role, &self.step(config.clone()), given)
    }

    /// Checks any plugin in a role.
    fn check_any(&mut self, role: Role, input: &SchemaRef) -> Result<(), Error> {
        let operator = Arc::clone(&self.plugin) as Arc<dyn Operator>;
        let (config, by) = (self.request.config.clone(), self.request.by.clone());
        let subject = Subject { operator, role, config: config.clone(), by, whole_partition: false };
        let is_transform = role == Role::Transform;
        if !is_transform && self.request.by.is_empty() {
            let message = format!("a {role} needs a key");
            return Err(TrialError { message, hint: Some("Name its columns with `--by`.".into()) }.into());
        }
        let Some((keys, values)) = trial::split(&subject, input) else {
            let message = "a column of `--by` is not among those of `--input`".into();
            return Err(TrialError { message, hint: None }.into());
        };
        let values = if is_transform { Arc::clone(input) } else { values };
        let given = |n_rows, nulls, dice: &mut Dice| given::given_keys(role, &keys, &values, n_rows, nulls, dice);

        self.check(role, "open", "it opens, and answers the same a second time", |kit, dice| {
            let given = given(1, Nulls::No, dice);
            let refused = |error: OpenError| {
                let hint = "Name columns that it accepts with `--input`, and its configuration with `--config`.";
                (error.to_string(), Some(hint.to_owned()))
            };
            let first = kit.open(role, &config, &given).map_err(refused)?;
            let second = kit.open(role, &config, &given).map_err(refused)?;
            same_plan(&first, &second)
        });
        if self.report.checks.last().is_some_and(|check| !check.passed()) {
            // Nothing can be said of what does not open.
            return Ok(());
        }
        let config = &config;
        let families: [(&str, &str, &[usize], &[Nulls]); 4] = [
            ("rows", "batches of some rows", &SIZES, &[Nulls::No]),
            ("nulls", "columns with nulls, and of nulls alone", &SIZES, &[Nulls::Some, Nulls::All]),
            ("empties", "no rows", &[0], &[Nulls::No]),
            ("long", "some thousand rows, within the limits of a step", &[LONG], &[Nulls::Some]),
        ];
        for (name, about, sizes, nulls) in families {
            self.check(role, name, about, |kit, dice| {
                for (&n_rows, &nulls) in sizes.iter().flat_map(|n_rows| nulls.iter().map(move |nulls| (n_rows, nulls)))
                {
                    let given = given(n_rows, nulls, dice);
                    let mut opened = kit.open(role, config, &given).map_err(|error| (error.to_string(), None))?;
                    match opened.call(&given) {
                        // A plugin may say that it cannot do something with what was made up.
                        Ok(_) | Err(CallError::Failed { .. }) => {}
                        Err(error) => return Err((format!("{n_rows} rows: {}", error.what()), None)),
                    }
                }
                Ok(())
            });
        }
        if role == Role::Updater {
            self.check(role, "state", "the state that a batch left, in the next ones", |kit, dice| {
                for n_rows in SIZES {
                    let mut given = given(n_rows, Nulls::Some, dice);
                    let mut opened = kit.open(role, config, &given).map_err(|error| (error.to_string(), None))?;
                    for batch in 0..3 {
                        match opened.next_batch(&given) {
                            Ok(Some(next)) => given = next,
                            Ok(None) | Err(CallError::Failed { .. }) => break,
                            Err(error) => {
                                return Err((format!("{n_rows} rows, batch {batch}: {}", error.what()), None));
                            }
                        }
                    }
                }
                Ok(())
            });
        }
        self.check(role, "again", "the same call again, and to a new instance: the same answer", |kit, dice| {
            for n_rows in SIZES {
                let given = given(n_rows, Nulls::Some, dice);
                let open = || kit.open(role, config, &given).map_err(|error| (error.to_string(), None));
                let (mut kept, mut fresh) = (open()?, open()?);
                let first = said(kept.call(&given));
                if first.is_err() {
                    // The instance is gone.
                    kept = open()?;
                }
                let hint = "A batch may be run again, by the same instance or another: what an instance keeps between calls, the \
                            order of a hash table and the like must not show.";
                for (which, again) in [("the same instance", said(kept.call(&given))), ("a new instance", said(fresh.call(&given)))] {
                    same_answer(&first, &again).map_err(|difference| {
                        (format!("{n_rows} rows, {which}: {difference}"), Some(hint.to_owned()))
                    })?;
                }
            }
            Ok(())
        });
        Ok(())
    }
}

fn same_plan(first: &Opened, second: &Opened) -> Found {
    if first.plan() == second.plan() {
        return Ok(());
    }
    let hint = "The same step and input always get the same answer of `open`.";
    Err((format!("{} at first, and then {}", first.plan(), second.plan()), Some(hint.into())))
}

/// What a call gave, failures as their words.
fn said(answers: Result<Vec<Answer>, CallError>) -> Result<Vec<Answer>, String> {
    answers.map_err(|error| error.what())
}

fn same_answer(first: &Result<Vec<Answer>, String>, again: &Result<Vec<Answer>, String>) -> Result<(), String> {
    match (first, again) {
        (Ok(first), Ok(again)) => compare(first, again),
        (Err(first), Err(again)) if first == again => Ok(()),
        (Err(first), Err(again)) => Err(format!("{again}, and at first {first}")),
        (Ok(_), Err(again)) => Err(format!("{again}, and at first it did not")),
        (Err(first), Ok(_)) => Err(format!("it ended well, and at first {first}")),
    }
}
