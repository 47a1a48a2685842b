//! What the queries of Nexmark must give: each run once, by DataFusion, over all rows of a world at once.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemill::source::generator::{Nexmark, NexmarkEvents, NexmarkOptions};

/// The queries: names and texts.
pub(crate) const QUERIES: [(&str, &str); 9] = [
    ("q0", include_str!("../../nexmark/q0.sql")),
    ("q1", include_str!("../../nexmark/q1.sql")),
    ("q2", include_str!("../../nexmark/q2.sql")),
    ("q3", include_str!("../../nexmark/q3.sql")),
    ("q4", include_str!("../../nexmark/q4.sql")),
    ("q5", include_str!("../../nexmark/q5.sql")),
    ("q6", include_str!("../../nexmark/q6.sql")),
    ("q7", include_str!("../../nexmark/q7.sql")),
    ("q8", include_str!("../../nexmark/q8.sql")),
];

/// The tables of a world, by the names that the queries call them.
const TABLES: [(&str, NexmarkEvents); 3] =
    [("persons", NexmarkEvents::Persons), ("auctions", NexmarkEvents::Auctions), ("bids", NexmarkEvents::Bids)];

/// A world whose rows are all there, to be asked anything.
pub(crate) struct Oracle {
    context: SessionContext,
    /// DataFusion's plans are async; they run on the thread that asks.
    runtime: tokio::runtime::Runtime,
}

impl Oracle {
    /// Makes the whole world of some options; they must say where it ends.
    pub(crate) fn new(options: &NexmarkOptions) -> Self {
        let n_events = options.n_events.expect("a world that ends");
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        for (name, events) in TABLES {
            let nexmark = Nexmark::new(&NexmarkOptions { events, ..options.clone() });
            let rows: Result<Vec<RecordBatch>, _> = nexmark.rows(0..n_events).collect();
            let table =
                MemTable::try_new(nexmark.schema(), vec![rows.expect("rows can be made")]).expect("their schema");
            context.register_table(name, Arc::new(table)).expect("no table has this name");
        }
        Self { context, runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime") }
    }

    /// The rows that a query gives.
    pub(crate) fn rows(&self, query: &str) -> Vec<RecordBatch> {
        let rows = async { self.context.sql(query).await?.collect().await };
        self.runtime.block_on(rows).expect("a query that runs")
    }

    /// The rows that a query gives as lines of JSON, sorted.
    pub(crate) fn lines(&self, query: &str) -> Vec<String> {
        let mut writer = LineDelimitedWriter::new(Vec::new());
        self.rows(query).iter().for_each(|rows| writer.write(rows).expect("rows that can be written as JSON"));
        writer.finish().expect("a vector takes everything");
        let text = String::from_utf8(writer.into_inner()).expect("JSON is text");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The rows of a query of Nexmark, by its name.
    pub(crate) fn answer(&self, name: &str) -> Vec<String> {
        let (_, query) = QUERIES.iter().find(|(query, _)| *query == name).expect("q0 to q8");
        self.lines(query)
    }
}
