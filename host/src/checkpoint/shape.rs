//! What of a job its checkpoint depends on, and what a changed job file may change.
//!
//! | what is changed | with the same checkpoint |
//! | --- | --- |
//! | sinks, limits, intervals, memory, steps without state, a plugin's file | goes on |
//! | partitions, of the job or of a step | goes on; what the step kept is dealt out anew |
//! | a step with state, or a source, is new | goes on; it begins empty |
//! | a step with state, or a source, is gone or has another name | refused: what it kept would be lost |
//! | a step with state keeps something else | refused |
//! | the event times that clocks follow | refused |

use serde::{Deserialize, Serialize};

/// What of a job its checkpoint depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobShape {
    pub(crate) job: String,
    pub(crate) steps: Vec<StepShape>,
    /// The names of the sources.
    pub(crate) sources: Vec<String>,
    /// The columns of event times, each with its place in the job.
    pub(crate) event_times: Vec<String>,
    /// What tells the write-ahead log of this checkpoint from others; made when the checkpoint is.
    #[serde(default)]
    pub(crate) log: String,
    /// Where that is, when it is not in the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_directory: Option<String>,
}

/// A step that keeps something from batch to batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepShape {
    pub(crate) step: String,
    /// What it keeps, in words: when that changes, what is kept cannot be read.
    pub(crate) keeps: String,
    pub(crate) partitions: u32,
}

/// What differs, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) what: String,
    pub(crate) hint: String,
}

impl JobShape {
    /// Whether a job of this shape can go on from the checkpoint of another.
    pub(crate) fn check_against(&self, before: &Self) -> Result<(), Mismatch> {
        let anew = "or start anew with another `checkpoint`";
        for step in &before.steps {
            let name = &step.step;
            let Some(now) = self.steps.iter().find(|now| now.step == *name) else {
                return Err(Mismatch {
                    what: format!("step `{name}` has state in it, and the job has no such step with state"),
                    hint: format!("Give the step its name back, {anew}."),
                });
            };
            if now.keeps != step.keeps {
                return Err(Mismatch {
                    what: format!("step `{name}` kept {}, and keeps {} now", step.keeps, now.keeps),
                    hint: format!("Undo the change, {anew}."),
                });
            }
        }
        if let Some(gone) = before.sources.iter().find(|source| !self.sources.contains(source)) {
            return Err(Mismatch {
                what: format!("source `{gone}` has been read, and the job has no such source"),
                hint: format!("Give the source its name back, {anew}."),
            });
        }
        if self.event_times != before.event_times {
            let list = |times: &[String]| if times.is_empty() { "none".to_owned() } else { times.join(", ") };
            return Err(Mismatch {
                what: format!(
                    "its event times were {}, and are {} now",
                    list(&before.event_times),
                    list(&self.event_times)
                ),
                hint: format!("Undo the change, {anew}."),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> JobShape {
        let step = |step: &str, keeps: &str| StepShape { step: step.into(), keeps: keeps.into(), partitions: 4 };
        JobShape {
            job: "j".into(),
            steps: vec![step("counts", "count(*) by word"), step("seen", "keys of word")],
            sources: vec!["lines".into()],
            event_times: vec!["lines: at".into()],
            ..JobShape::default()
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut JobShape), expected: Option<&str>) {
        let mut changed = shape();
        change(&mut changed);
        let found = changed.check_against(&shape()).err().map(|mismatch| mismatch.what);
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn what_would_be_lost_or_misread_is_refused() {
        check(|_| {}, None);
        check(|job| job.job = "other".into(), None);
        check(|job| job.sources.push("more".into()), None);
        check(|job| job.steps.insert(0, StepShape { step: "new".into(), keeps: "x".into(), partitions: 1 }), None);
        check(
            |job| job.steps[0].step = "count".into(),
            Some("step `counts` has state in it, and the job has no such step with state"),
        );
        check(
            |job| job.steps[0].keeps = "sum(n) by word".into(),
            Some("step `counts` kept count(*) by word, and keeps sum(n) by word now"),
        );
        check(|job| job.steps[1].partitions = 5, None);
        check(|job| job.sources.clear(), Some("source `lines` has been read, and the job has no such source"));
        check(|job| job.event_times.clear(), Some("its event times were lines: at, and are none now"));
    }
}
