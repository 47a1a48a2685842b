//! A plan in words, for `tidemill check`.

use std::fmt;
use std::path::PathBuf;

use arrow::datatypes::Schema;
use serde::Serialize;

use crate::job::units::format_size;
use crate::plan::{Entry, Plan, PlannedOperator};
use crate::source::dead_letter_schema;
use crate::step::dead_letters::letter_schema;
use crate::type_name::describe_type;

/// A schema in one line, as in ``{word: utf8, count: int64?}``; `?` marks what may be null.
#[must_use]
pub fn describe_schema(schema: &Schema) -> String {
    let fields = schema.fields().iter().map(|field| {
        let null = if field.is_nullable() { "?" } else { "" };
        format!("{}: {}{null}", field.name(), describe_type(field.data_type()))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// A plan as `tidemill check` shows it; `Display` is for people, `Serialize` for programs.
#[derive(Debug, Clone, Serialize)]
pub struct PlanDescription {
    /// The job's name.
    pub job: String,
    /// Where rows go that memory has no room for; nothing when they go nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spill: Option<SpillDescription>,
    /// The sources.
    pub sources: Vec<EndDescription>,
    /// The steps, in the order of the flow.
    pub steps: Vec<StepDescription>,
    /// The sinks.
    pub sinks: Vec<EndDescription>,
    /// The stages.
    pub stages: Vec<StageDescription>,
}

/// Where rows go that memory has no room for.
#[derive(Debug, Clone, Serialize)]
pub struct SpillDescription {
    /// The folder in which the job's own folder is made.
    pub folder: PathBuf,
    /// Bytes that may be there.
    pub quota_bytes: u64,
    /// Bytes of rows of a batch that stay in memory.
    pub memory_bytes: u64,
    /// Bytes of received rows that stay in memory; nothing when receivers wait instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks_memory_bytes: Option<u64>,
}

/// A source or sink.
#[derive(Debug, Clone, Serialize)]
pub struct EndDescription {
    /// Its name.
    pub name: String,
    /// Its `type`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it reads or writes.
    pub what: String,
    /// The schema of its rows.
    pub schema: String,
    /// The stream of its rejected rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterDescription>,
}

/// The stream of a source's rejected rows, or of those that a step sets aside.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetterDescription {
    /// What `from` calls it.
    pub name: String,
    /// The schema of its rows.
    pub schema: String,
}

/// A step.
#[derive(Debug, Clone, Serialize)]
pub struct StepDescription {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Where its rows come from.
    pub from: Vec<String>,
    /// The schema of what it gives.
    pub output: String,
    /// The operators it runs: one, or one for each function that it calls.
    pub operators: Vec<OperatorDescription>,
    /// The stream of the rows that it sets aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterDescription>,
}

/// The operator of a step.
#[derive(Debug, Clone, Serialize)]
pub struct OperatorDescription {
    /// The plugin's path or the operator's name.
    pub name: String,
    /// The plugin's digest.
    pub sha256: Option<String>,
    /// The roles it has.
    pub roles: Vec<&'static str>,
    /// The columns that cross the boundary.
    pub reads: Vec<String>,
    /// Bytes of memory an instance may have.
    pub memory_bytes: u64,
    /// Seconds a call may take.
    pub time_per_call_seconds: f64,
    /// Seconds of processor time that a call may use.
    pub cpu_time_per_call_seconds: f64,
    /// What it imports, a package each, with the grant that opens it.
    pub asks_for: Vec<String>,
    /// What it may reach beyond its rows.
    pub grants: Vec<String>,
}

/// A stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageDescription {
    /// Its number.
    pub stage: u32,
    /// What its rows come from.
    pub entry: String,
    /// What is done, in the order of the flow.
    pub nodes: Vec<String>,
}

impl Plan {
    /// The plan in words.
    #[must_use]
    pub fn describe(&self) -> PlanDescription {
        let sources = self.sources.iter().map(|source| EndDescription {
            name: source.name.clone(),
            type_name: source.definition.type_name().to_owned(),
            what: source.definition.describe(),
            schema: describe_schema(&source.schema),
            dead_letter: source.dead_letter.as_ref().map(|dead_letter| DeadLetterDescription {
                name: dead_letter.name.clone(),
                schema: describe_schema(&dead_letter_schema()),
            }),
        });
        let sinks = self.sinks.iter().map(|sink| EndDescription {
            name: sink.name.clone(),
            type_name: sink.definition.type_name().to_owned(),
            what: sink.definition.describe(),
            schema: describe_schema(&sink.schema),
            dead_letter: None,
        });
        let steps = self.steps.iter().map(|step| StepDescription {
            name: step.name.clone(),
            kind: step.kind,
            from: step.from.clone(),
            output: describe_schema(&step.output),
            operators: step.operators.iter().map(describe_operator).collect(),
            dead_letter: step.on_error.dead_letters().map(|letters| DeadLetterDescription {
                name: letters.name.clone(),
                schema: describe_schema(&letter_schema()),
            }),
        });
        let stages = self.stages.iter().map(|stage| StageDescription {
            stage: stage.id.0,
            entry: match &stage.entry {
                Entry::Source(source) => format!("source {}", self.sources[*source].name),
                Entry::Shuffles(shuffles) => {
                    let shuffle = &self.shuffles[shuffles[0]];
                    format!("shuffle for {}, {} partitions", shuffle.step, shuffle.n_partitions)
                }
            },
            nodes: stage.nodes.clone(),
        });
        let spill = &self.settings.spill;
        PlanDescription {
            job: self.settings.name.clone(),
            spill: (spill.quota_bytes > 0).then(|| SpillDescription {
                folder: spill.folder(),
                quota_bytes: spill.quota_bytes,
                memory_bytes: spill.memory_bytes,
                blocks_memory_bytes: spill.blocks.then_some(self.settings.memory_bytes),
            }),
            sources: sources.collect(),
            steps: steps.collect(),
            sinks: sinks.collect(),
            stages: stages.collect(),
        }
    }
}

impl fmt::Display for PlanDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "job {}", self.job)?;
        if let Some(spill) = &self.spill {
            let (quota, memory) = (format_size(spill.quota_bytes), format_size(spill.memory_bytes));
            write!(f, "  spills up to {quota} to {}: rows of a batch beyond {memory}", spill.folder.display())?;
            if let Some(bytes) = spill.blocks_memory_bytes {
                write!(f, ", received rows beyond {}", format_size(bytes))?;
            }
            writeln!(f)?;
        }
        for source in &self.sources {
            writeln!(f, "  source {}: {} {} {}", source.name, source.type_name, source.what, source.schema)?;
            if let Some(dead_letter) = &source.dead_letter {
                writeln!(f, "    rejected rows {} {}", dead_letter.name, dead_letter.schema)?;
            }
        }
        for step in &self.steps {
            writeln!(f, "  step {}: {} of {} {}", step.name, step.kind, step.from.join(", "), step.output)?;
            for operator in &step.operators {
                writeln!(f, "    runs {} ({})", operator.name, operator.roles.join(", "))?;
                if let Some(sha256) = &operator.sha256 {
                    writeln!(f, "    sha256 {sha256}")?;
                }
                writeln!(f, "    reads {}", or_none(&operator.reads))?;
                writeln!(
                    f,
                    "    limits memory {} MiB, time per call {} s, processor time per call {} s",
                    operator.memory_bytes >> 20,
                    operator.time_per_call_seconds,
                    operator.cpu_time_per_call_seconds
                )?;
                writeln!(f, "    asks for {}", or_none(&operator.asks_for))?;
                writeln!(f, "    grants {}", or_none(&operator.grants))?;
            }
            if let Some(dead_letter) = &step.dead_letter {
                writeln!(f, "    bad rows {} {}", dead_letter.name, dead_letter.schema)?;
            }
        }
        for sink in &self.sinks {
            writeln!(f, "  sink {}: {} {} {}", sink.name, sink.type_name, sink.what, sink.schema)?;
        }
        for stage in &self.stages {
            writeln!(f, "  stage {}: {} -> {}", stage.stage, stage.entry, stage.nodes.join(" -> "))?;
        }
        Ok(())
    }
}

fn describe_operator(planned: &PlannedOperator) -> OperatorDescription {
    OperatorDescription {
        name: planned.operator.name().to_owned(),
        sha256: planned.sha256.clone(),
        roles: planned.operator.roles().into_iter().map(crate::operator::Role::name).collect(),
        reads: planned.reads.clone(),
        memory_bytes: planned.limits.memory_bytes,
        time_per_call_seconds: planned.limits.time_per_call.as_secs_f64(),
        cpu_time_per_call_seconds: planned.limits.cpu_time_per_call.as_secs_f64(),
        asks_for: planned.operator.asks_for(),
        grants: planned.operator.gets(),
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
