//! Which hosts and addresses a conversion may reach.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use domain::is_globally_routable;
use ipnet::IpNet;

use super::nearby::Nearby;
use crate::limits::Hosts;

/// How long resolving a name may take.
const RESOLVE: Duration = Duration::from_secs(20);

/// What the operator set.
#[derive(Debug)]
pub(super) struct Rules {
    networks: Vec<IpNet>,
    youtube_hosts: Vec<String>,
    nearby: Nearby,
}

/// Why nothing was connected to. What is displayed is told to the converter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// It must not be.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be.
    #[error("{0}")]
    Unreachable(String),
}

impl Rules {
    pub(super) fn new(networks: Vec<IpNet>, youtube_hosts: &[String]) -> Self {
        let youtube_hosts = youtube_hosts.iter().map(|host| plain(host)).collect();
        Self { networks, youtube_hosts, nearby: Nearby::default() }
    }

    /// The addresses of a host that may be connected to: those, and no others that its name may mean later.
    pub(super) async fn addresses(
        &self,
        hosts: Hosts,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Refused> {
        let host = plain(host);
        self.check_host(hosts, &host)?;
        if port == 0 {
            return Err(Refused::Forbidden(format!("{host} is asked for at port 0, which is none.")));
        }
        let resolving = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host.as_str(), port)));
        let found: Vec<SocketAddr> = match resolving.await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => {
                return Err(Refused::Unreachable(format!("{host} cannot be resolved: {error}.")));
            }
            Err(_) => return Err(Refused::Unreachable(format!("{host} was not resolved in time."))),
        };
        let (mut admitted, mut refusal) = (Vec::new(), None);
        for address in found {
            match self.judge(address.ip()).await {
                Ok(()) => admitted.push(address),
                Err(why) => refusal = refusal.or(Some(refused(&host, address.ip(), why))),
            }
        }
        match (admitted.is_empty(), refusal) {
            (false, _) => Ok(admitted),
            (true, Some(refusal)) => Err(refusal),
            (true, None) => Err(Refused::Unreachable(format!("{host} has no address."))),
        }
    }

    /// Whether an address is admitted; if not, what it is.
    async fn judge(&self, address: IpAddr) -> Result<(), &'static str> {
        // ::ffff:127.0.0.1 leads to 127.0.0.1.
        let address = address.to_canonical();
        if self.networks.iter().any(|network| network.contains(&address)) {
            Ok(())
        } else if !is_globally_routable(address) {
            Err("neither globally routable nor")
        } else if self.nearby.has(address).await {
            Err("of this machine or its local network, and not")
        } else {
            Ok(())
        }
    }

    fn check_host(&self, hosts: Hosts, host: &str) -> Result<(), Refused> {
        let is_in = |allowed: &String| {
            host == allowed || host.strip_suffix(allowed.as_str()).is_some_and(|before| before.ends_with('.'))
        };
        match hosts {
            Hosts::All => Ok(()),
            // A subdomain of an address would be a name; no name ends like an address.
            Hosts::Youtube if self.youtube_hosts.iter().any(is_in) => Ok(()),
            Hosts::Youtube => Err(Refused::Forbidden(format!(
                "{host} is not among the hosts of the setting `youtube_hosts` (MORAG_WORKER_YOUTUBE_HOSTS)."
            ))),
        }
    }
}

fn refused(host: &str, address: IpAddr, why: &str) -> Refused {
    let meant = if host == address.to_string() { String::new() } else { format!(" ({address})") };
    Refused::Forbidden(format!("{host}{meant} is {why} in the setting `networks` (MORAG_WORKER_NETWORKS)."))
}

/// A host as it is compared: without the brackets of an IPv6 address, in lower case, without a dot at the end.
fn plain(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(networks: &[&str]) -> Rules {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Rules::new(networks, &["youtube.com".to_owned(), "youtu.be".to_owned()])
    }

    async fn refusal(rules: &Rules, hosts: Hosts, host: &str) -> String {
        match rules.addresses(hosts, host, 80).await {
            Err(Refused::Forbidden(text)) => text,
            other => panic!("{host}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_not_globally_routable_is_refused_however_it_is_spelled() {
        for host in [
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "10.1.2.3",
            "192.168.1.1",
            "169.254.169.254",
            "[::1]",
            "[::]",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[fe80::1]",
            "[64:ff9b::7f00:1]",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "100.64.0.1",
        ] {
            let text = refusal(&rules(&[]), Hosts::All, host).await;
            assert!(text.contains("globally routable") && text.contains("`networks`"), "{host}: {text}");
        }
        let found = rules(&[]).addresses(Hosts::All, "1.1.1.1", 443).await;
        assert_eq!(found, Ok(vec!["1.1.1.1:443".parse().unwrap()]));
    }

    #[tokio::test]
    async fn an_operators_networks_are_admitted_and_no_others() {
        let rules = rules(&["127.0.0.2/32", "10.0.0.0/8"]);
        for host in ["127.0.0.2", "[::ffff:127.0.0.2]", "10.9.8.7"] {
            assert!(rules.addresses(Hosts::All, host, 80).await.is_ok(), "{host}");
        }
        for host in ["127.0.0.1", "127.0.0.3", "192.168.1.1"] {
            refusal(&rules, Hosts::All, host).await;
        }
    }

    #[tokio::test]
    async fn a_global_address_of_the_local_network_is_refused_unless_an_operator_named_it() {
        let folder = tempfile::tempdir().unwrap();
        let routes = "|-- 9.9.9.0\n /24 link UNICAST\n|-- 8.8.8.8\n /32 host LOCAL\n";
        std::fs::write(folder.path().join("fib_trie"), routes).unwrap();
        let rules = Rules { nearby: Nearby(folder.path().to_owned()), ..rules(&["9.9.9.8/32"]) };
        for host in ["9.9.9.9", "8.8.8.8", "[::ffff:8.8.8.8]"] {
            let text = refusal(&rules, Hosts::All, host).await;
            assert!(text.contains("local network") && text.contains("`networks`"), "{host}: {text}");
        }
        for host in ["9.9.9.8", "9.9.8.9", "8.8.8.9"] {
            assert!(rules.addresses(Hosts::All, host, 80).await.is_ok(), "{host}");
        }
    }

    #[tokio::test]
    async fn only_the_named_hosts_and_their_subdomains_are_youtube() {
        let rules = rules(&["127.0.0.0/8"]);
        for host in ["youtube.com", "WWW.YouTube.com.", "a.b.youtu.be"] {
            assert_eq!(rules.check_host(Hosts::Youtube, &plain(host)), Ok(()), "{host}");
        }
        for host in [
            "youtube.com.evil.example",
            "notyoutube.com",
            "com",
            "1.1.1.1",
            "127.0.0.1",
            "[2606:4700::1]",
            "youtube.com..",
            "",
        ] {
            let text = refusal(&rules, Hosts::Youtube, host).await;
            assert!(text.contains("`youtube_hosts`"), "{host}: {text}");
        }
    }

    #[tokio::test]
    async fn port_0_is_none() {
        assert!(matches!(
            rules(&[]).addresses(Hosts::All, "1.1.1.1", 0).await,
            Err(Refused::Forbidden(text)) if text.contains("port 0")
        ));
    }
}
