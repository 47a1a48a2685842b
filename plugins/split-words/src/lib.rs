//! Splits lines into words.
