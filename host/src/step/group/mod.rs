//! `group = { by, plugin }` and `cogroup = { by, with, plugin }`: all rows of a key at once, to an operator of role grouper.
//!
//! ```text
//!  from ── shuffle by key ──┐
//!  with ── shuffle by key ──┴──▶ groups, keys as they first appear ──▶ calls of whole groups ──▶ keys + written columns
//! ```

pub(super) mod calls;

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::job::steps::{read_inner_plugin, read_partitions};
use crate::job::table::Table;
use crate::job::{DeadLetters, OperatorStep};
use crate::operator::{Grouper, Limits};
use crate::plan::{PlannedOperator, describe_type};
use crate::shuffle::Partitioning;
use crate::step::StepFactory;
use crate::step::by_key::ByKey;
use crate::step::caller::{Callee, same_plan};
use crate::step::dead_letters::{LetterBox, letters_of};
use crate::step::definition::{Built, Gather, GatherSide, PlanContext, StepDefinition};
use crate::step::fold::{keyed_schema, value_columns};
use crate::step::keyed::{KeyColumns, SpecProblem};
use crate::step::kinds::Parsed;
use crate::step::times::{TimeColumns, TimeOrigin};
use crate::step::transform::CallBounds;

/// The step, with one input or several.
#[derive(Debug, Clone)]
pub struct Group {
    /// The key columns: the same names in every input.
    pub by: Vec<String>,
    /// The other inputs of a `cogroup`; none: it is a `group`.
    pub with: Vec<String>,
    /// The operator.
    pub operator: OperatorStep,
    /// Partitions after the shuffle; the job's when not said.
    pub partitions: Option<u32>,
}

impl Group {
    /// Reads `group`, or `cogroup`.
    pub(crate) fn parse(kind: &'static str, table: &mut Table<'_>, limits: &Limits) -> Parsed {
        let Some(mut inner) = table.table(kind) else {
            crate::job::steps::forget_plugin_keys(table);
            return Parsed::default();
        };
        if !inner.has("by") {
            inner.missing("by", Some("Name the columns that make a group, as in `by = [\"user\"]`.".into()));
        }
        let by = inner.texts("by");
        let mut with = Vec::new();
        if kind == "cogroup" {
            if !inner.has("with") {
                inner.missing("with", Some("Name the other source or step, or a list of them.".into()));
            }
            with = inner.texts("with").unwrap_or_default();
        }
        let partitions = read_partitions(&mut inner);
        let operator = read_inner_plugin(inner, table, limits, None);
        let inputs = with.iter().map(|name| (name.clone(), "cogroup.with")).collect();
        let is_right = kind == "group" || !with.is_empty();
        let definition = match (by, operator) {
            (Some(by), Some(operator)) if is_right => Some(Self { by, with, operator, partitions }),
            _ => None,
        };
        Parsed { inputs, ..Parsed::of(definition) }
    }
}

impl StepDefinition for Group {
    fn kind(&self) -> &'static str {
        if self.with.is_empty() { "group" } else { "cogroup" }
    }

    fn dead_letters(&self) -> Option<&DeadLetters> {
        self.operator.on_error.dead_letters()
    }

    fn other_inputs(&self) -> Vec<String> {
        self.with.clone()
    }

    fn times(&self, context: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        let sides: Vec<&TimeColumns> = context.sides.iter().map(|side| &side.times).collect();
        // A key is that of a row of either side. Of what a plugin writes it says nothing.
        TimeColumns::computed(&sides, output, |name| match self.by.iter().any(|key| key == name) {
            true => TimeOrigin::OneOf((0..sides.len()).map(|side| TimeOrigin::column(side, name)).collect()),
            false => TimeOrigin::Unknown,
        })
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let kind = self.kind();
        let dead_letters = letters_of(&self.operator)?;
        let mut problems = Vec::new();
        let keys = keys_of_sides(context, &self.by, &mut problems);
        if !problems.is_empty() {
            problems.iter_mut().for_each(|problem| problem.key = format!("{kind}.{}", problem.key));
            return Err(problems);
        }
        let values: Vec<(Vec<usize>, SchemaRef)> =
            context.sides.iter().zip(&keys).map(|(side, keys)| value_columns(&side.schema, keys)).collect();
        let key_schema: SchemaRef = Arc::new(Schema::new(keys[0].fields.clone()));
        let schemas: Vec<SchemaRef> = values.iter().map(|(_, schema)| schema.clone()).collect();
        let operator = context.load(&self.operator, &format!("{kind}.plugin")).map_err(|problem| vec![problem])?;
        let info = context.info(&self.operator);
        let first = operator.open_grouper(&info, &key_schema, &schemas);
        let first = first.map_err(|error| vec![context.refused(kind, error)])?;
        let plan = first.plan().clone();
        let reads = plan.reads.iter().zip(&schemas);
        let reads: Vec<String> =
            reads.flat_map(|(reads, schema)| reads.iter().map(|&index| schema.field(index).name().clone())).collect();
        let read_schemas = plan.reads.iter().zip(&schemas).map(|(reads, schema)| {
            Arc::new(Schema::new(reads.iter().map(|&index| schema.field(index).clone()).collect::<Vec<_>>()))
        });
        let read_schemas: Vec<SchemaRef> = read_schemas.collect();
        let output = keyed_schema(&keys[0], &plan.writes);
        let callee = {
            let (operator, key_schema, plan) = (operator.clone(), key_schema.clone(), plan.clone());
            Callee::new(context, first, Grouper::bytes_crossed, move || {
                let instance = operator.open_grouper(&info, &key_schema, &schemas)?;
                same_plan(*instance.plan() == plan, operator.name(), &info.step)?;
                Ok(instance)
            })
        };
        let sides = keys.iter().map(|keys| GatherSide {
            prepare: None,
            partitioning: Partitioning::Hash { columns: keys.indices.clone() },
        });
        let sides = sides.collect();
        let key_columns = keys.iter().map(|keys| keys.indices.clone()).collect();
        let n_partitions = if self.by.is_empty() { 1 } else { self.partitions.unwrap_or(context.settings.partitions) };
        let operators = vec![PlannedOperator {
            sha256: operator.sha256(),
            operator: operator.clone(),
            reads,
            limits: self.operator.limits.clone(),
            on_error: self.operator.on_error.clone(),
        }];
        let grouping = Grouping {
            operator: operator.name().to_owned(),
            letter_box: LetterBox::of_step(context, dead_letters, &operators),
            sides: values
                .into_iter()
                .zip(keys)
                .zip(&plan.reads)
                .map(|(((values, _), keys), reads)| SideColumns {
                    keys,
                    values: reads.iter().map(|&index| values[index]).collect(),
                })
                .collect(),
            key_schema,
            read_schemas,
            output: output.clone(),
            bounds: context.bounds(&self.operator),
            callee,
        };
        let factory: Arc<dyn StepFactory> = Arc::new(calls::GroupFactory(Arc::new(grouping)));
        // An operator that wants its partition in one call is not to get parts of it. And what is set aside is numbered and counted over a partition.
        let factory = match self.operator.whole_partition || dead_letters.is_some() {
            true => factory,
            false => ByKey::factory(context, factory, key_columns, (0..self.by.len()).collect(), &output),
        };
        let gather = Gather { sides, n_partitions, runs_when_empty: false, state: None, factory };
        Ok(Built { operators, ..Built::gather(output, gather) })
    }
}

/// The key columns of every side: of the same names and types.
fn keys_of_sides(context: &PlanContext<'_>, by: &[String], problems: &mut Vec<SpecProblem>) -> Vec<KeyColumns> {
    let keys: Vec<KeyColumns> =
        context.sides.iter().map(|side| KeyColumns::resolve(&side.schema, by, problems)).collect();
    if !problems.is_empty() {
        return keys;
    }
    let mut keys = keys;
    for (side, other) in context.sides.iter().zip(&keys).skip(1) {
        for (field, first) in other.fields.iter().zip(&keys[0].fields) {
            if field.data_type() != first.data_type() {
                let message = format!(
                    "the key `{}` has type {} in `{}` and {} in `{}`",
                    field.name(),
                    describe_type(first.data_type()),
                    context.sides[0].names.join(", "),
                    describe_type(field.data_type()),
                    side.names.join(", ")
                );
                let hint = format!("Give one of them a step `cast = {{ {} = \"…\" }}`.", field.name());
                problems.push(SpecProblem { key: "by".into(), message, hint: Some(hint) });
            }
        }
    }
    // A key may be null when it may be in any input.
    let nullable: Vec<bool> = (0..by.len())
        .map(|index| keys.iter().any(|keys| keys.fields.get(index).is_some_and(Field::is_nullable)))
        .collect();
    for keys in &mut keys {
        keys.fields.iter_mut().zip(&nullable).for_each(|(field, nullable)| field.set_nullable(*nullable));
    }
    keys
}

/// What the rows of a side are cut into.
struct SideColumns {
    keys: KeyColumns,
    /// The columns that the operator reads, in its order.
    values: Vec<usize>,
}

/// What all tasks of the step share.
struct Grouping {
    operator: String,
    sides: Vec<SideColumns>,
    key_schema: SchemaRef,
    /// For each side, the schema of what the operator reads of it.
    read_schemas: Vec<SchemaRef>,
    output: SchemaRef,
    bounds: CallBounds,
    callee: Arc<Callee<dyn Grouper>>,
    /// Where groups are set aside that the operator fails for; `None`: they fail the task.
    letter_box: Option<Arc<LetterBox>>,
}

#[cfg(test)]
mod tests;
