//! A transform that does what its config says, which is always something it should not: `{"do": "endless-loop"}`.
//!
//! It reads and writes `value: utf8`. Without a `do`, or with `{"do": "nothing"}`, it returns its input. With `"at": n` it
//! does it from the call whose `first-row` or batch is at least n on, and behaves until then.

#[cfg(target_family = "wasm")]
mod guest;
