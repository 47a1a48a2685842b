//! WASI 0.2 for a closed guest: no files, no network, no arguments, time and random numbers from the batch.
//!
//! Nothing here waits and nothing here runs on another thread: a sleep moves the guest's clock and returns, standard
//! input is at its end, and what is written goes to the log. So a guest is in its own code whenever it is not done, and
//! the epoch stops it there.

mod cli;
pub(crate) mod clock;
mod io;
pub(crate) mod random;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::sync;
use wasmtime_wasi::p2::bindings::{cli as cli_bindings, clocks, filesystem, random as random_bindings, sockets};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};

use crate::plugin::guest::Guest;

/// Offers the closed interfaces of [`crate::plugin::imports`].
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Own = HasSelf<Guest>;
    let itself: fn(&mut Guest) -> &mut Guest = |guest| guest;

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
        &mut guest.table
    })?;

    // The crate's own file system, with no directory in it: there is nothing to call its functions on.
    let files: fn(&mut Guest) -> WasiFilesystemCtxView<'_> =
        |guest| WasiFilesystemCtxView { ctx: &mut guest.filesystem, table: &mut guest.table };
    sync::filesystem::types::add_to_linker::<Guest, WasiFilesystem>(linker, files)?;
    filesystem::preopens::add_to_linker::<Guest, WasiFilesystem>(linker, files)?;

    // The crate's own sockets, which it makes for nobody by default: no system call is reached.
    let network: fn(&mut Guest) -> WasiSocketsCtxView<'_> =
        |guest| WasiSocketsCtxView { ctx: &mut guest.sockets, table: &mut guest.table };
    sockets::network::add_to_linker::<Guest, WasiSockets>(linker, &sockets::network::LinkOptions::default(), network)?;
    sockets::instance_network::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sockets::ip_name_lookup::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sockets::tcp_create_socket::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sync::sockets::tcp::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sync::sockets::udp_create_socket::add_to_linker::<Guest, WasiSockets>(linker, network)?;
    sync::sockets::udp::add_to_linker::<Guest, WasiSockets>(linker, network)
}
