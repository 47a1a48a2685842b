//! A transform that reaches beyond its rows as its config says, `{"do": "read"}`, once a row, with the row for its argument; what
//! came of it is the row it returns. Unlike `hostile` it imports wasi:http: without that grant it is refused.

#[cfg(target_family = "wasm")]
mod guest;
#[cfg(target_family = "wasm")]
mod http;
