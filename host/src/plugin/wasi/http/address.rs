//! Which addresses a name may stand for: those of the public network alone, unless a grant says otherwise.
//!
//! Whoever owns a name can let it stand for any address, that of this machine or of a server behind its firewall among them, and
//! for another one a second later. So names are looked up here, and what is connected to is what was looked at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name stands for private addresses alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name stands for private addresses, and its grant is for public ones")]
pub(super) struct PrivateAddress;

/// A name stands for nothing.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be looked up")]
pub(super) struct UnknownName(#[source] io::Error);

/// Looks names up as the system does.
pub(super) struct Names {
    /// Whether private addresses are left out.
    pub(super) public_only: bool,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let public_only = self.public_only;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(UnknownName)?;
            let may_be_used = |address: &SocketAddr| !public_only || is_public(address.ip());
            let found: Vec<SocketAddr> = found.filter(may_be_used).collect();
            if found.is_empty() {
                return Err(PrivateAddress.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public network.
///
/// # Source
///
/// The registries of special-purpose addresses of RFC 6890, as IANA keeps them.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        // This network, which is this machine.
        || a == 0
        // Between a provider and its customers.
        || (a == 100 && (64..128).contains(&b))
        // Of protocols.
        || (a == 192 && b == 0 && c == 0)
        // Of benchmarks.
        || (a == 198 && (b == 18 || b == 19))
        // Reserved, and the broadcast.
        || a >= 240;
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // An address of the old kind within one of the new.
    let within = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            within(high, low)
        }
        // Those that are given out, without those of documents and of protocols.
        [0x2001, second, ..] => second != 0xdb8 && second >= 0x200,
        [first, ..] => (first & 0xe000) == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: bool) {
        assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn addresses_of_this_machine_and_of_closed_networks_are_private() {
        for address in [
            "127.0.0.1",
            "127.255.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
        ] {
            check(address, false);
        }
    }

    #[test]
    fn addresses_of_the_public_network_are_not() {
        for address in [
            "1.1.1.1",
            "172.32.0.1",
            "192.0.1.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            check(address, true);
        }
    }
}
