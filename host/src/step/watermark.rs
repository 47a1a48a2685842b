//! `watermark = { column, delay, idle-timeout }`: says where rows have their event time, from this step on.
//!
//! A source says so with `event-time`; this is for times that a step has made.

use arrow::datatypes::Schema;

use crate::event_time::EventTime;
use crate::job::table::Table;
use crate::step::definition::{Built, PlanContext, StepDefinition};
use crate::step::keyed::SpecProblem;
use crate::step::observe::Observe;
use crate::step::times::TimeColumns;

/// Reads the options of an event time from its table, which ends here.
pub(crate) fn read_event_time(mut table: Table<'_>) -> Option<EventTime> {
    let column = table.required_text("column");
    let delay = table.duration("delay");
    let idle_timeout = table.duration("idle-timeout");
    if idle_timeout.is_some_and(|timeout| timeout.is_zero()) {
        table.problem(
            "idle-timeout",
            "`idle-timeout` must be longer than 0",
            Some("Leave it out to wait for ever.".into()),
        );
    }
    table.finish();
    Some(EventTime { column: column?, delay: delay.unwrap_or_default(), idle_timeout })
}

/// The step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkDefinition {
    /// The event time from here on.
    pub event_time: EventTime,
}

impl WatermarkDefinition {
    pub(crate) fn parse(table: &mut Table<'_>) -> Option<Self> {
        let event_time = read_event_time(table.table("watermark")?)?;
        Some(Self { event_time })
    }
}

impl StepDefinition for WatermarkDefinition {
    fn kind(&self) -> &'static str {
        "watermark"
    }

    fn times(&self, _: &PlanContext<'_>, output: &Schema) -> TimeColumns {
        TimeColumns::of_event_time(output, &self.event_time.column)
    }

    fn plan(&self, context: &PlanContext<'_>) -> Result<Built, Vec<SpecProblem>> {
        let input = context.input().clone();
        let observe = Observe::new(&self.event_time, &input, context.new_watermark)
            .map_err(|problem| vec![SpecProblem { key: format!("watermark.{}", problem.key), ..problem }])?;
        let event_time = Some(self.event_time.clone());
        Ok(Built { event_time, ..Built::narrow(input, std::sync::Arc::new(observe)) })
    }
}
