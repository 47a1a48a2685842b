//! The macros of `tidemill-guest`: rows from structs, operators from functions. Their guide is that crate's.

mod function;
mod implementation;
mod options;
mod row;

use proc_macro::TokenStream;
use syn::{DeriveInput, Item, parse_macro_input};

/// Makes a struct a row: its fields are columns.
///
/// A field is any type that is a `Value`: numbers, text, bytes, `Option`, `Vec`, dates, decimals, other rows. Text and
/// bytes may be borrowed, with the struct's one lifetime. `#[row(rename = "...")]` gives a field's column another name.
#[proc_macro_derive(Row, attributes(row))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    row::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a function, or an implementation of a role, an operator: the plugin's export when built for WebAssembly, and
/// `NAME::operator()` for programs that it is compiled into.
///
/// | on | meaning |
/// | --- | --- |
/// | `fn(Row) -> Row` | map |
/// | `fn(Row) -> bool` | filter |
/// | `fn(Row) -> Option<Row>`, `Vec<Row>`, `impl Iterator<Item = Row>` | flat-map |
/// | `fn(Row) -> Result<any of these, E>` | the same; rows with an error are rejected |
/// | `fn(Row, out: &mut Emitter<Row>)` | flat-map that emits |
/// | `fn(Rows<Row>, out: &mut Emitter<Row>)` | whole batches |
/// | `fn(Row, Row) -> Row` with `reducer` | reducer |
/// | `impl Aggregate for T` | aggregator of typed rows |
/// | `impl Group for T`, `impl CoGroup for T` | grouper of typed rows, of one input or of two |
/// | `impl Update for T` | updater of typed rows |
/// | `impl Transform`, `Reducer`, `Aggregator`, `Grouper`, `Updater for T` | the role as it is |
///
/// The first parameters may be references. After them may stand a configuration, `&C` with a `C` that serde
/// deserialises, and `&Call`, in any order.
///
/// Options: `carry = "all"`, `carry = "none"` or `carry = ["column", …]`; `check = path` to a function
/// `fn(&C) -> Result<(), impl Display>` that checks the configuration; `reducer`; `invert = path` to a function like the
/// reducer's that takes the second row out of the first.
#[proc_macro_attribute]
pub fn operator(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as options::Options);
    let expanded = match parse_macro_input!(item as Item) {
        Item::Fn(function) => function::expand(&options, function),
        Item::Impl(implementation) => implementation::expand(&options, &implementation),
        other => Err(syn::Error::new_spanned(other, "`#[operator]` stands on a function or on the `impl` of a role")),
    };
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}
