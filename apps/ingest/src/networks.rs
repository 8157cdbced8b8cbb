//! Which addresses the tasks' webhooks may be at, so that a URL that somebody posts cannot make this service speak to what
//! only it can reach.
//!
//! The rule is the control plane's for its own deliveries: `https://` to globally routable addresses, and every URL to the
//! networks that the operator names. It differs in one thing: a service that only this machine can reach may tell this
//! machine, because whoever can post a URL there can speak to it anyway. So without a setting loopback is admitted as long
//! as the service listens on loopback.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use domain::{InvalidValue, WebhookUrl, is_globally_routable};
use ipnet::IpNet;
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use thiserror::Error;
use url::Host;

/// The networks whose webhooks are told besides those at globally routable addresses, also over plain `http://`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Those of this machine itself.
    #[must_use]
    pub fn loopback() -> Self {
        Self(["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok()).collect())
    }

    /// Whether a webhook at this address is told.
    #[must_use]
    pub fn admit(&self, address: IpAddr, encrypted: bool) -> bool {
        // ::ffff:127.0.0.1 leads to 127.0.0.1.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
            || (encrypted && is_globally_routable(address))
    }

    /// Reads a webhook's URL as the HTTP client reads it: `http://0x7f.1/` names 127.0.0.1. What is wrong with it is said
    /// as far as it shows without resolving a name.
    ///
    /// # Errors
    /// [`InvalidValue`] says what is wrong.
    pub fn url(&self, url: &WebhookUrl) -> Result<Url, InvalidValue> {
        let url: Url =
            url.as_str().parse().map_err(|error| InvalidValue(format!("is not a URL: {error}")))?;
        let encrypted = url.scheme() == "https";
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        match address {
            Some(address) if !self.admit(address, encrypted) => Err(InvalidValue(format!(
                "names {address}, which is not told: https:// to globally routable addresses is, and any URL to \
                 MORAG_INGEST_WEBHOOK_NETWORKS"
            ))),
            None if !encrypted && self.0.is_empty() => Err(InvalidValue(
                "must begin with https://: only MORAG_INGEST_WEBHOOK_NETWORKS are told over http://, and there are none"
                    .to_owned(),
            )),
            Some(_) | None => Ok(url),
        }
    }
}

impl FromStr for Networks {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let network =
            |text: &str| text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
        let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(network);
        networks.collect::<Result<_, _>>().map(Self).map_err(|_| {
            InvalidValue("is not a list of networks, spelled 127.0.0.0/8,192.168.1.0/24".to_owned())
        })
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// Resolves names to those of their addresses that are admitted. The client connects to what this gives and asks nobody
/// else, so that what was checked is what is connected to.
pub(crate) struct AdmittedAddresses {
    pub(crate) networks: Networks,
    /// Whether what is resolved is spoken to by TLS.
    pub(crate) encrypted: bool,
}

/// No address of a host is admitted. The addresses are not named: they may be of a network that is nobody's business.
#[derive(Debug, Error)]
#[error(
    "{host} has no address that is told: globally routable ones are over https://, and MORAG_INGEST_WEBHOOK_NETWORKS"
)]
struct NotAdmitted {
    host: String,
}

impl Resolve for AdmittedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let (networks, encrypted) = (self.networks.clone(), self.encrypted);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            // The client puts the URL's port in the place of 0.
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let admitted: Vec<SocketAddr> =
                found.filter(|address| networks.admit(address.ip(), encrypted)).collect();
            if admitted.is_empty() {
                return Err(NotAdmitted { host }.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(networks: &Networks, url: &str) -> Option<String> {
        networks.url(&url.parse().unwrap()).err().map(|error| error.0)
    }

    #[test]
    fn without_networks_only_encrypted_webhooks_at_routable_addresses_are_told() {
        let none = Networks::default();
        for url in ["https://example.com/x", "https://8.8.8.8/x", "https://localhost/x"] {
            assert_eq!(refusal(&none, url), None, "{url}");
        }
        for url in ["https://127.0.0.1/x", "https://0x7f.1/", "https://[::ffff:10.0.0.1]/", "http://8.8.8.8/"]
        {
            assert!(refusal(&none, url).is_some_and(|text| text.starts_with("names ")), "{url}");
        }
        assert!(
            refusal(&none, "http://hooks.lan/").is_some_and(|text| text.starts_with("must begin with https"))
        );
        assert!(!none.admit("169.254.169.254".parse().unwrap(), true));
    }

    #[test]
    fn loopback_is_this_machine_and_nothing_else() {
        let loopback = Networks::loopback();
        assert_eq!(loopback.to_string(), "127.0.0.0/8,::1/128");
        assert_eq!(refusal(&loopback, "http://127.0.0.1:9/x"), None);
        assert_eq!(refusal(&loopback, "http://[::1]:9/x"), None);
        assert!(refusal(&loopback, "http://192.168.1.9/x").is_some());
    }

    #[test]
    fn networks_are_read_as_they_are_spelled() {
        let lan: Networks = " 192.168.1.0/24, 10.0.0.7,".parse().unwrap();
        assert_eq!(lan.to_string(), "192.168.1.0/24,10.0.0.7/32");
        assert!(
            lan.admit("192.168.1.9".parse().unwrap(), false)
                && !lan.admit("10.0.0.8".parse().unwrap(), false)
        );
        assert!("localhost".parse::<Networks>().is_err());
    }
}
