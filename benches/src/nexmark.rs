//! What Tidemill's Nexmark is measured against: the same queries by DataFusion, at once over rows that are all in memory.

use std::sync::Arc;

use anyhow::{anyhow, ensure};
use arrow::array::RecordBatch;
use clap::Parser;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use tidemill::source::generator::{Nexmark, NexmarkEvents, NexmarkOptions};
use tidemill_bench::cpu::in_turns;
use tidemill_bench::figure::show;

// The allocator of the binary under test.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs queries of Nexmark with DataFusion on one thread; prints figures as JSON lines: the rows that the query reads, the
/// CPU time of making them, and that of the query over them.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Events of the world, of all kinds
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Fewer turns: the figures mean little
    #[arg(long)]
    quick: bool,
    /// The queries, q0 to q8 [default: all]
    #[arg(value_name = "QUERY", value_parser = QUERIES.map(|query| query.name))]
    queries: Vec<String>,
}

/// A query of Nexmark, as the tests ask their oracle.
struct Query {
    name: &'static str,
    /// The streams it reads, as its job file does.
    reads: &'static [NexmarkEvents],
    text: &'static str,
}

const BIDS: &[NexmarkEvents] = &[NexmarkEvents::Bids];
const BIDS_AND_AUCTIONS: &[NexmarkEvents] = &[NexmarkEvents::Bids, NexmarkEvents::Auctions];
const AUCTIONS_AND_PERSONS: &[NexmarkEvents] = &[NexmarkEvents::Auctions, NexmarkEvents::Persons];

const QUERIES: [Query; 9] = [
    Query { name: "q0", reads: BIDS, text: include_str!("../../tests/nexmark/q0.sql") },
    Query { name: "q1", reads: BIDS, text: include_str!("../../tests/nexmark/q1.sql") },
    Query { name: "q2", reads: BIDS, text: include_str!("../../tests/nexmark/q2.sql") },
    Query { name: "q3", reads: AUCTIONS_AND_PERSONS, text: include_str!("../../tests/nexmark/q3.sql") },
    Query { name: "q4", reads: BIDS_AND_AUCTIONS, text: include_str!("../../tests/nexmark/q4.sql") },
    Query { name: "q5", reads: BIDS, text: include_str!("../../tests/nexmark/q5.sql") },
    Query { name: "q6", reads: BIDS_AND_AUCTIONS, text: include_str!("../../tests/nexmark/q6.sql") },
    Query { name: "q7", reads: BIDS, text: include_str!("../../tests/nexmark/q7.sql") },
    Query { name: "q8", reads: AUCTIONS_AND_PERSONS, text: include_str!("../../tests/nexmark/q8.sql") },
];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let n_turns = if options.quick { 1 } else { 5 };
    let asked = |query: &&Query| options.queries.is_empty() || options.queries.iter().any(|name| name == query.name);
    for query in QUERIES.iter().filter(asked) {
        measure(query, options.events, n_turns)?;
    }
    Ok(())
}

fn measure(query: &Query, n_events: u64, n_turns: usize) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let worlds: Vec<(NexmarkEvents, Nexmark)> =
        query.reads.iter().map(|events| (*events, Nexmark::new(&NexmarkOptions::of(*events)))).collect();
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    for (events, world) in &worlds {
        let rows = world.rows(0..n_events).collect::<Result<Vec<RecordBatch>, _>>();
        let rows = rows.map_err(|error| anyhow!("{}", error.report()))?;
        context.register_table(table(*events), Arc::new(MemTable::try_new(world.schema(), vec![rows])?))?;
    }
    // Each row is thrown away once it is made, as a job does.
    let mut generate = || {
        for (_, world) in &worlds {
            for rows in world.rows(0..n_events) {
                std::hint::black_box(rows.map_err(|error| anyhow!("{}", error.report()))?);
            }
        }
        Ok(())
    };
    let mut run = || {
        let rows = runtime.block_on(async { context.sql(query.text).await?.collect().await })?;
        let n_rows: usize = std::hint::black_box(rows).iter().map(RecordBatch::num_rows).sum();
        ensure!(n_rows > 0, "{} gives no rows: are there too few events?", query.name);
        Ok(())
    };
    let turns = in_turns(n_turns, 1, &mut [&mut generate, &mut run])?;
    let n_rows: u64 = query.reads.iter().map(|events| events.rows_before(n_events)).sum();
    show(&format!("{}: rows", query.name), n_rows as f64, "rows");
    show(&format!("{}: making the rows", query.name), turns.of(0) / 1e9, "s");
    show(&format!("{}: DataFusion", query.name), turns.of(1) / 1e9, "s");
    Ok(())
}

/// What the queries call the table of a stream.
fn table(events: NexmarkEvents) -> &'static str {
    match events {
        NexmarkEvents::Persons => "persons",
        NexmarkEvents::Auctions => "auctions",
        NexmarkEvents::Bids => "bids",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_runs_over_what_it_reads() {
        for query in &QUERIES {
            measure(query, 20_000, 1).expect("it gives rows");
        }
    }
}
