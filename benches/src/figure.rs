//! Figures as `cargo xtask bench` reads them: one JSON object a line on standard output.

use serde_json::{Value, json};

/// Prints a figure that nothing is asked of.
pub fn show(name: &str, value: f64, unit: &str) {
    println!("{}", figure(name, value, unit));
}

/// Prints a figure that is to be at most `limit`.
pub fn show_at_most(name: &str, value: f64, unit: &str, limit: f64) {
    let mut figure = figure(name, value, unit);
    figure["at_most"] = json!(limit);
    println!("{figure}");
}

fn figure(name: &str, value: f64, unit: &str) -> Value {
    json!({ "name": name, "value": value, "unit": unit })
}
