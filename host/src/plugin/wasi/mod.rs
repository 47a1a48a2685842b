//! WASI 0.2 for a guest that reaches nothing, or only what its job grants it.
//!
//! A closed guest has no files, no network, no arguments, and time and random numbers from the batch. Nothing waits for it and
//! nothing runs on another thread: a sleep moves its clock and returns, standard input is at its end, and what is written goes
//! to the log. So it is in its own code whenever it is not done, and the epoch stops it there. A guest with grants may wait
//! in the host (`wait`), where its call's time is looked at as often.

mod cli;
pub(crate) mod clock;
mod files;
pub(crate) mod http;
mod io;
pub(crate) mod random;
mod wait;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::sync;
use wasmtime_wasi::p2::bindings::{cli as cli_bindings, clocks, filesystem, random as random_bindings, sockets};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};

use crate::plugin::guest::Guest;

/// Offers what [`crate::plugin::imports`] allows or a grant opens. Every function goes through [`Guest::asked`], which counts it.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Own = HasSelf<Guest>;
    let itself: fn(&mut Guest) -> &mut Guest = Guest::asked;

    cli_bindings::environment::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::exit::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::stdin::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::stdout::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::stderr::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::terminal_input::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::terminal_output::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::terminal_stdin::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::terminal_stdout::add_to_linker::<Guest, Own>(linker, itself)?;
    cli_bindings::terminal_stderr::add_to_linker::<Guest, Own>(linker, itself)?;

    clocks::monotonic_clock::add_to_linker::<Guest, Own>(linker, itself)?;
    clocks::wall_clock::add_to_linker::<Guest, Own>(linker, itself)?;

    random_bindings::random::add_to_linker::<Guest, Own>(linker, itself)?;
    random_bindings::insecure::add_to_linker::<Guest, Own>(linker, itself)?;
    random_bindings::insecure_seed::add_to_linker::<Guest, Own>(linker, itself)?;

    sync::io::poll::add_to_linker::<Guest, Own>(linker, itself)?;
    sync::io::streams::add_to_linker::<Guest, Own>(linker, itself)?;
    wasmtime_wasi_io::bindings::wasi::io::error::add_to_linker::<Guest, HasSelf<ResourceTable>>(linker, |guest| {
        &mut guest.asked().table
    })?;

    let files: fn(&mut Guest) -> files::Files<'_> = |guest| files::Files(guest.asked());
    sync::filesystem::types::add_to_linker::<Guest, files::HasFiles>(linker, files)?;
    filesystem::preopens::add_to_linker::<Guest, files::HasFiles>(linker, files)?;

    // The crate's own sockets, which it makes for nobody by default: no system call is reached.
    let network: fn(&mut Guest) -> WasiSocketsCtxView<'_> = |guest| {
        let guest = guest.asked();
        WasiSocketsCtxView { ctx: &mut guest.sockets, table: &mut guest.table }
    };
    sockets::network::add_to_linker::<Guest, WasiSockets>(linker, &sockets::network::LinkOptions::default(), network)?;
    sockets::instance_network::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sockets::ip_name_lookup::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sockets::tcp_create_socket::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sync::sockets::tcp::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sync::sockets::udp_create_socket::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sync::sockets::udp::add_to_linker::<Guest, WasiSockets>(linker, network)?;

    http::add_to_linker(linker)
}
