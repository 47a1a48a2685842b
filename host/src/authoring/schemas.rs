//! What a plugin reads, keeps and writes of rows of a schema: the plan of each role, in words.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use crate::authoring::trial::{self, Subject, TrialError};
use crate::error::Error;
use crate::operator::{Calling, Carried, OpenError, Operator, Role, Timeouts};
use crate::plugin::{LoadOptions, Runtime};
use crate::type_name::describe_type;

/// What a role answered when it was opened: names, as in `reads`, and what is said under them.
#[derive(Debug)]
pub struct RoleSchemas {
    /// The role.
    pub role: Role,
    /// The plan in lines, or why it refuses.
    pub lines: Result<Vec<(&'static str, String)>, OpenError>,
}

/// Opens a plugin in every role for rows of `input`; for a role with a key, `by` are its columns.
///
/// # Errors
///
/// When it cannot be loaded, or a column of the key is not there.
pub fn schemas(
    path: &Path,
    input: &SchemaRef,
    by: &[String],
    config: &serde_json::Value,
    runtime: &Runtime,
) -> Result<Vec<RoleSchemas>, Error> {
    let plugin = Arc::new(runtime.load(&path.display().to_string(), path, &LoadOptions::default())?);
    let mut all = Vec::new();
    for role in plugin.roles() {
        let operator = Arc::clone(&plugin) as Arc<dyn Operator>;
        let subject = Subject { operator, role, config: config.clone(), by: by.to_vec(), whole_partition: false };
        let Some((keys, values)) = trial::split(&subject, input) else {
            let message = "a column of `--by` is not among those of `--input`".into();
            return Err(TrialError { message, hint: None }.into());
        };
        all.push(RoleSchemas { role, lines: describe(&subject, input, &keys, &values) });
    }
    Ok(all)
}

type Lines = Vec<(&'static str, String)>;

fn describe(subject: &Subject, input: &SchemaRef, keys: &SchemaRef, values: &SchemaRef) -> Result<Lines, OpenError> {
    let (operator, step) = (&subject.operator, trial::step_info(subject));
    Ok(match subject.role {
        Role::Transform => {
            let opened = operator.open_transform(&step, input)?;
            let plan = opened.plan();
            let carries = match &plan.carries {
                Carried::Nothing => "nothing".into(),
                Carried::Everything => "every column".into(),
                Carried::Only(names) => names.join(", "),
            };
            vec![("reads", read(input, &plan.reads)), ("writes", columns(&plan.writes)), ("carries", carries)]
        }
        Role::Reducer => {
            let opened = operator.open_reducer(&step, values)?;
            let inverse = if opened.plan().invertible { "has one" } else { "has none" };
            vec![("reduces", columns(values)), ("inverse", inverse.into())]
        }
        Role::Aggregator => {
            let opened = operator.open_aggregator(&step, values)?;
            let plan = opened.plan();
            vec![
                ("reads", read(values, &plan.reads)),
                ("keeps", columns(&plan.accumulator)),
                ("writes", columns(&plan.result)),
            ]
        }
        Role::Grouper => {
            let opened = operator.open_grouper(&step, keys, std::slice::from_ref(values))?;
            let plan = opened.plan();
            vec![("reads", read(values, &plan.reads[0])), ("writes", columns(&plan.writes))]
        }
        Role::Updater => {
            let opened = operator.open_updater(&step, keys, values)?;
            let plan = opened.plan();
            let calling = match plan.calling {
                Calling::KeysWithValues => "keys with rows, and those that timed out",
                Calling::EveryKey => "every key that has state",
            };
            let timeouts = match plan.timeouts {
                Timeouts::Never => "never",
                Timeouts::BatchTime => "by the batch's time",
                Timeouts::EventTime => "by event time",
            };
            vec![
                ("reads", read(values, &plan.reads)),
                ("state", columns(&plan.state)),
                ("writes", columns(&plan.writes)),
                ("called", calling.into()),
                ("timeouts", timeouts.into()),
            ]
        }
    })
}

/// The columns of a schema that are read.
fn read(schema: &Schema, reads: &[usize]) -> String {
    // Checked when it was opened: every number is that of a column.
    schema.project(reads).map_or_else(|_| "?".into(), |schema| columns(&schema))
}

fn columns(schema: &Schema) -> String {
    let column = |field: &arrow::datatypes::FieldRef| {
        let nullable = if field.is_nullable() { "" } else { " not null" };
        format!("{}: {}{nullable}", field.name(), describe_type(field.data_type()))
    };
    let columns: Vec<_> = schema.fields().iter().map(column).collect();
    if columns.is_empty() { "no columns".into() } else { columns.join(", ") }
}
