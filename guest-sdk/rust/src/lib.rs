//! Write Tidemill operators in Rust.
