//! Counts words from a TCP server, as `examples/word-count.toml` does, from a program of one's own.
//!
//! ```sh
//! nc -lk 9999                                                    # in another terminal
//! cargo run --release -p tidemill --example word_count -- 127.0.0.1:9999 target/plugins/split_words.wasm
//! ```

use std::sync::Arc;
use std::time::Duration;

use tidemill::context::{Context, Plugin};
use tidemill::error::Error;
use tidemill::job::Settings;
use tidemill::scheduler::{BatchCompleted, Listener, StopMode};

/// Tells how long each batch took.
struct Delays;

impl Listener for Delays {
    fn on_batch_completed(&self, event: &BatchCompleted) {
        eprintln!("batch {}: {} rows in {:?}", event.batch_id, event.rows_in, event.processing_time);
    }
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9999".into());
    let plugin = arguments.next().unwrap_or_else(|| "target/plugins/split_words.wasm".into());

    let settings =
        Settings { name: "word-count".into(), batch_interval: Duration::from_secs(1), ..Settings::default() };
    let mut context = Context::new(settings)?;
    context.add_listener(Arc::new(Delays));
    let lines = context.socket_text_stream("lines", &address);
    let words = lines.transform("words", Plugin::at(plugin).config(serde_json::json!({ "lowercase": true })));
    let counts = words.aggregate("counts", ["word"], [("count", "count(*)")]);
    counts.print();

    let running = context.start()?;
    // Runs until Enter is pressed, then processes what was received and ends.
    let stopping = running.clone();
    std::thread::spawn(move || {
        // Any answer stops it, the end of standard input and an error included.
        let _ = std::io::stdin().read_line(&mut String::new());
        stopping.stop(StopMode::Graceful);
    });
    let summary = running.await_termination()?;
    eprintln!("{} rows in {} batches", summary.rows_in, summary.batches);
    Ok(())
}
