//! Which addresses anybody may be at, so that what a stranger names cannot make this system speak to what only it can
//! reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// The blocks of <https://www.iana.org/assignments/iana-ipv4-special-registry>, also those few that it calls globally
/// reachable: nobody lives in them. And <https://www.iana.org/assignments/multicast-addresses>.
#[rustfmt::skip]
const SPECIAL_V4: [Ipv4Net; 18] = [
    v4(0, 0, 0, 0, 8),        // "This network"
    v4(10, 0, 0, 0, 8),       // Private use
    v4(100, 64, 0, 0, 10),    // Shared address space
    v4(127, 0, 0, 0, 8),      // Loopback
    v4(169, 254, 0, 0, 16),   // Link local, where clouds tell machines their credentials
    v4(172, 16, 0, 0, 12),    // Private use
    v4(192, 0, 0, 0, 24),     // Protocol assignments
    v4(192, 0, 2, 0, 24),     // Documentation
    v4(192, 31, 196, 0, 24),  // AS112
    v4(192, 52, 193, 0, 24),  // Automatic multicast tunnels
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // Private use
    v4(192, 175, 48, 0, 24),  // AS112
    v4(198, 18, 0, 0, 15),    // Benchmarks
    v4(198, 51, 100, 0, 24),  // Documentation
    v4(203, 0, 113, 0, 24),   // Documentation
    v4(224, 0, 0, 0, 4),      // Multicast
    v4(240, 0, 0, 0, 4),      // Reserved, and the limited broadcast
];

/// The one block that global unicast addresses are assigned from, by
/// <https://www.iana.org/assignments/ipv6-address-space>. Loopback, unique local, link local and multicast addresses
/// and the prefixes of NAT64 are outside.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// The blocks within it of <https://www.iana.org/assignments/iana-ipv6-special-registry>.
#[rustfmt::skip]
const SPECIAL_V6: [Ipv6Net; 5] = [
    v6(0x2001, 0, 0, 23),          // Protocol assignments, Teredo among them
    v6(0x2001, 0xdb8, 0, 32),      // Documentation
    v6(0x2002, 0, 0, 16),          // 6to4, which carries any IPv4 address
    v6(0x2620, 0x4f, 0x8000, 48),  // AS112
    v6(0x3fff, 0, 0, 20),          // Documentation
];

/// Whether everybody on the internet means the same machine by this address. An IPv4 address in IPv6's spelling
/// (`::ffff:127.0.0.1`) is judged as what it is.
#[must_use]
pub fn is_globally_routable(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|block| block.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|block| block.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_or_its_network_reaches_is_not_routable() {
        for address in
            ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "::", "fd00::1"]
        {
            assert!(!is_globally_routable(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "::ffff:1.1.1.1", "2606:4700::1111"] {
            assert!(is_globally_routable(address.parse().unwrap()), "{address}");
        }
    }
}
