//! The same job planned again while it runs, because the files of its plugins have changed.

use std::sync::Arc;

use super::{Plan, PlannedStep};

/// A plugin whose file has changed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ChangedPlugin {
    /// The step that runs it.
    pub step: String,
    /// The plugin, as the job names it.
    pub plugin: String,
    /// The SHA-256 of the file that ran so far, in hexadecimal.
    pub before: String,
    /// That of the file as it is now.
    pub now: String,
}

/// The plugins of a job that are other files in a new plan of it.
#[must_use]
pub fn changed_plugins(before: &Plan, now: &Plan) -> Vec<ChangedPlugin> {
    let of_step = |(before, now): (&PlannedStep, &PlannedStep)| {
        let step = now.name.clone();
        let pairs = before.operators.iter().zip(&now.operators);
        let changed = pairs.filter_map(move |(before, now)| {
            let (before, digest) = (before.sha256.clone()?, now.sha256.clone()?);
            let plugin = now.operator.name().to_owned();
            (before != digest).then(|| ChangedPlugin { step: step.clone(), plugin, before, now: digest })
        });
        changed.collect::<Vec<_>>()
    };
    before.steps.iter().zip(&now.steps).flat_map(of_step).collect()
}

/// Whether the job can go on with a new plan of it, with the sources, sinks and state that it has.
///
/// # Errors
///
/// What differs.
pub(crate) fn check_fits(before: &Plan, now: &Plan) -> Result<(), String> {
    for (before, now) in before.sources.iter().zip(&now.sources) {
        if before.schema != now.schema {
            return Err(format!("source `{}` would have another schema", now.name));
        }
    }
    for (before, now) in before.sinks.iter().zip(&now.sinks) {
        if before.schema != now.schema {
            let [before, after] = [before, now].map(|sink| super::describe_schema(&sink.schema));
            return Err(format!("sink `{}` gets {before}, and would get {after}", now.name));
        }
    }
    for before in &before.states {
        // A step that keeps the same was planned with the state that it has.
        if !now.states.iter().any(|now| Arc::ptr_eq(before, now)) {
            return Err(format!("step `{}` would keep something else", before.step()));
        }
    }
    if before.states.len() != now.states.len() {
        return Err("another step would keep something".into());
    }
    if before.event_times != now.event_times || before.clocks != now.clocks {
        return Err("its event times would be others".into());
    }
    Ok(())
}
