//! Tidemill's command line.
fn main() {}
