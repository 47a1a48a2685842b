//! The conformance operator of the Rust SDK, in all roles: it does what docs/conformance.md says.

mod config;
pub mod grouped;
mod mistake;
pub mod updater;

use tidemill_guest::any::{AnyBatchBuilder, AnyColumn};
use tidemill_guest::{
    Batch, Call, Carried, Failure, Field, Output, OwnedBatch, Refusal, Rejection, Schema, Step, Transform,
    TransformPlan, operator,
};

use config::{Config, View};
use mistake::Mistake;

/// Some rows of a batch as a batch of their own.
fn take(view: View, batch: Batch<'_>, rows: &[u32]) -> OwnedBatch {
    let columns = batch.any_columns();
    let mut out = AnyBatchBuilder::new(&batch.schema().fields);
    append(view, &columns, rows, &mut out);
    out.finish()
}

/// Appends rows with the view that is asked for.
fn append(view: View, columns: &[AnyColumn<'_>], rows: &[u32], out: &mut AnyBatchBuilder) {
    match view {
        View::Columns => out.push_rows(columns, rows),
        View::Rows => rows.iter().for_each(|row| out.push_row(columns, *row as usize)),
    }
}

/// The columns of a schema behind others.
fn behind(before: &[Field], schema: &Schema) -> Result<Schema, Refusal> {
    if let Some(taken) = before.iter().find(|field| schema.find(&field.name).is_some()) {
        return Err(Refusal::Schema(format!("there is a column `{}`, which is the operator's own", taken.name)));
    }
    Ok(Schema::new(before.iter().chain(&schema.fields).cloned().collect()))
}

/// Writes what it reads.
pub struct Echo {
    config: Config,
    mistake: Mistake,
}

#[operator]
impl Transform for Echo {
    fn open(step: &Step, input: &Schema) -> Result<(TransformPlan, Self), Refusal> {
        let (config, mistake) = (Config::open(step)?, Mistake::new());
        let plan = if config.carry {
            TransformPlan { reads: Some(vec![]), writes: Schema::default(), carries: Carried::Everything }
        } else {
            TransformPlan { reads: None, writes: mistake.schema(input), carries: Carried::Nothing }
        };
        Ok((plan, Self { config, mistake }))
    }

    fn process(&mut self, call: &Call, input: Batch<'_>) -> Result<Output, Failure> {
        let config = &self.config;
        config.begin_call(input.n_rows())?;
        let (mut origin, mut rejected) = (Vec::new(), Vec::new());
        for row in 0..input.n_rows() as u32 {
            let number = call.first_row + u64::from(row);
            if config.rejects(number) {
                rejected.push(Rejection { row, reason: format!("row {number} is rejected") });
            } else {
                origin.extend(std::iter::repeat_n(row, config.repeat as usize));
            }
        }
        self.mistake.in_rows(&mut origin);
        let rows = match config.carry {
            true => OwnedBatch { rows: origin.len() as u32, ..OwnedBatch::default() },
            false => take(config.by, input, &self.mistake.in_data(&origin)),
        };
        Ok(Output { rows, origin: Some(origin), rejected })
    }
}
