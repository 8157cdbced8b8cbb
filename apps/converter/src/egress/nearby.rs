//! This machine's own addresses and those of its local networks. They may be globally routable and yet lead to what is
//! meant for neighbours only, such as a router's pages at the IPv6 address that it has in the LAN.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks as wide as these are no local ones but what a tunnel takes, which may be half of the internet.
const WIDE_V4: u8 = 16;
const WIDE_V6: u8 = 47;

/// Knows what is nearby from the folder where the kernel tells its routes, which is read anew each time: networks come
/// and go.
#[derive(Debug)]
pub(super) struct Nearby(pub(super) PathBuf);

impl Default for Nearby {
    fn default() -> Self {
        Self("/proc/net".into())
    }
}

impl Nearby {
    /// Whether an address is this machine's own, or one that it reaches without a router.
    pub(super) async fn has(&self, address: IpAddr) -> bool {
        let file = if address.is_ipv4() { "fib_trie" } else { "ipv6_route" };
        // What cannot be read, as outside Linux, tells of nothing nearby.
        let routes = tokio::fs::read_to_string(self.0.join(file)).await.unwrap_or_default();
        let networks = if address.is_ipv4() { networks_v4(&routes) } else { networks_v6(&routes) };
        networks.iter().any(|network| network.contains(&address))
    }
}

/// The networks of /proc/net/fib_trie: a line with an address, then one for each prefix length with what it means.
fn networks_v4(routes: &str) -> Vec<IpNet> {
    let mut address = Ipv4Addr::UNSPECIFIED;
    let mut networks = Vec::new();
    for line in routes.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("|--"), Some(word), _) => address = word.parse().unwrap_or(Ipv4Addr::UNSPECIFIED),
            (Some(length), Some(scope), Some(kind)) => {
                let length = length.strip_prefix('/').and_then(|length| length.parse().ok());
                let network = length.and_then(|length| Ipv4Net::new(address, length).ok());
                let is_near = |network: &Ipv4Net| match (scope, kind) {
                    ("host", "LOCAL") => true,
                    ("link", "UNICAST") => network.prefix_len() > WIDE_V4,
                    _ => false,
                };
                networks.extend(network.filter(is_near).map(IpNet::V4));
            }
            _ => {}
        }
    }
    networks
}

/// The networks of /proc/net/ipv6_route that are reached without a router.
fn networks_v6(routes: &str) -> Vec<IpNet> {
    let network = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, _, _, router, ..] = words[..] else { return None };
        let address = |word| u128::from_str_radix(word, 16).ok().map(Ipv6Addr::from);
        let network = Ipv6Net::new(address(destination)?, u8::from_str_radix(length, 16).ok()?).ok()?;
        let is_near = address(router)?.is_unspecified() && network.prefix_len() > WIDE_V6;
        is_near.then_some(IpNet::V6(network))
    };
    routes.lines().filter_map(network).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_in(networks: &[IpNet], addresses: &[&str]) -> Vec<bool> {
        let is_in = |address: &&str| {
            let address: IpAddr = address.parse().unwrap();
            networks.iter().any(|network| network.contains(&address))
        };
        addresses.iter().map(is_in).collect()
    }

    #[test]
    fn own_addresses_and_neighbours_are_nearby_and_what_a_router_or_tunnel_leads_to_is_not() {
        let routes = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 8.0.0.0
        /7 link UNICAST
     +-- 203.0.112.0/24 2 0 2
        |-- 203.0.112.0
           /24 link UNICAST
Local:
     |-- 198.51.99.7
        /32 host LOCAL
";
        let addresses = ["203.0.112.9", "198.51.99.7", "198.51.99.8", "8.8.8.8", "1.1.1.1"];
        assert_eq!(are_in(&networks_v4(routes), &addresses), [true, true, false, false, false]);

        let none = "00000000000000000000000000000000";
        let route = |destination: &str, length: &str, router: &str| {
            let flags = "00000100 00000001 00000000 00000001     eth0";
            format!("{destination} {length} {none} 00 {router} {flags}\n")
        };
        let router = "fe800000000000000000000000000001";
        let routes = [
            route("2a0100000000000a0000000000000000", "40", none),
            route("2a020000000000000000000000000007", "80", none),
            route("2a030000000000000000000000000000", "30", router),
            route("20000000000000000000000000000000", "03", none),
            route(none, "00", router),
        ]
        .concat();
        let addresses = ["2a01:0:0:a::1", "2a02::7", "2a02::8", "2a03::1", "2a01:0:0:b::1"];
        assert_eq!(are_in(&networks_v6(&routes), &addresses), [true, true, false, false, false]);
    }

    #[tokio::test]
    async fn this_machines_own_routes_are_read() {
        assert!(Nearby::default().has(Ipv4Addr::LOCALHOST.into()).await);
        assert!(!Nearby::default().has(Ipv4Addr::new(1, 1, 1, 1).into()).await);
    }
}
