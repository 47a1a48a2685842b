//! How a running job is asked to stop: a signal, or the word `stop` on standard input.

use std::io::BufRead;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tidemill::scheduler::{Running, StopMode};

use super::output::say;

/// Listens for SIGINT and SIGTERM: the first stops gracefully, the second at once.
pub(super) fn on_signals(running: &Running, says: bool) {
    let running = running.clone();
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!(error = %error, "signals cannot be listened for: type `stop` to end the job");
            return;
        }
    };
    std::thread::spawn(move || {
        for (n_before, _) in signals.forever().enumerate() {
            if n_before == 0 {
                if says {
                    say("\nstopping: what was received is processed first; once more to stop at once\n");
                }
                running.stop(StopMode::Graceful);
            } else {
                running.stop(StopMode::AtOnce);
            }
        }
    });
}

/// Listens for the word `stop` on standard input. Its end means nothing: a job may run without one.
pub(super) fn on_word(running: &Running) {
    let running = running.clone();
    std::thread::spawn(move || {
        let mut n_before = 0;
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.trim() == "stop" {
                running.stop(if n_before == 0 { StopMode::Graceful } else { StopMode::AtOnce });
                n_before += 1;
            }
        }
    });
}
