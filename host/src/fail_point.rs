//! Instants at which a process can be made to die, so that tests see what a restart makes of it.
//!
//! `TIDEMILL_DIE_AT=commit-written:3` ends the process, as a power cut would, when it passes `commit-written` for the third time.
//! Without the variable a fail point is a look at a value that never changes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that names a point, and how often it is passed before.
const VARIABLE: &str = "TIDEMILL_DIE_AT";

struct Death {
    point: String,
    passes_left: AtomicU64,
}

/// Passes a point; the process dies here if it is told to.
pub(crate) fn pass(point: &str) {
    static DEATH: OnceLock<Option<Death>> = OnceLock::new();
    let death = DEATH.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let (point, passes) = text.split_once(':').unwrap_or((&text, "1"));
        Some(Death { point: point.to_owned(), passes_left: AtomicU64::new(passes.parse().unwrap_or(1)) })
    });
    if let Some(death) = death
        && death.point == point
        && death.passes_left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // No destructor runs, nothing is flushed.
        std::process::abort();
    }
}
