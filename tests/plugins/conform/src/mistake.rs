//! What a test makes it do wrong: it writes another text of the same length over the one below, in the built file.

use std::hint::black_box;

use tidemill_guest::Schema;

/// Which mistake is made: `none`, `plan`, `rows`, `data`, `keep`.
const MISTAKE: &str = "conform makes this mistake: none";

/// The mistake, and what is needed to make it.
pub(crate) struct Mistake {
    kind: &'static str,
    n_calls: u32,
}

impl Mistake {
    pub(crate) fn new() -> Self {
        let text = black_box(MISTAKE);
        Self { kind: &text[text.len() - 4..], n_calls: 0 }
    }

    /// The schema that is written, of which the plan may say that nothing in it is null.
    pub(crate) fn schema(&self, schema: &Schema) -> Schema {
        let mut schema = schema.clone();
        if self.kind == "plan" {
            schema.fields.iter_mut().for_each(|field| field.nullable = false);
        }
        schema
    }

    /// The rows whose values are written, which may be others than is said.
    pub(crate) fn in_data(&self, rows: &[u32]) -> Vec<u32> {
        let mut rows = rows.to_vec();
        if self.kind == "data" {
            rows.reverse();
        }
        rows
    }

    /// The rows that are written, of which the last may be forgotten, or another with every call.
    pub(crate) fn in_rows(&mut self, rows: &mut Vec<u32>) {
        match self.kind {
            "rows" => drop(rows.pop()),
            "keep" if self.n_calls > 0 => rows.reverse(),
            _ => {}
        }
        self.n_calls += 1;
    }
}
