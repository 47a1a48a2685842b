//! Operators in every language: from `tidemill new` to a job, the SDKs against the contract, and the chapters of the book.

mod javascript;
mod python;
mod scripted;
