//! Which addresses webhooks may be at, so that a URL that somebody names cannot make this system speak to what only
//! it can reach.

use std::{fmt, net::IpAddr, str::FromStr};

use domain::{InvalidValue, WebhookUrl, is_globally_routable};
use ipnet::IpNet;
use url::{Host, Url};

/// The networks whose webhooks are told besides those at globally routable addresses, also over plain `http://`.
/// Spelled with commas between them, `127.0.0.0/8,192.168.1.0/24`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookNetworks(Vec<IpNet>);

impl FromStr for WebhookNetworks {
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

impl fmt::Display for WebhookNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl WebhookNetworks {
    /// Whether a webhook at this address is told. Plain text goes to these networks only; what is encrypted also to
    /// every globally routable address.
    #[must_use]
    pub fn admit(&self, address: IpAddr, encrypted: bool) -> bool {
        // ::ffff:127.0.0.1 leads to 127.0.0.1.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
            || (encrypted && is_globally_routable(address))
    }

    /// Reads a webhook's URL, as the HTTP client reads it: `http://0x7f.1/` names 127.0.0.1. What is wrong with it is
    /// said as far as it shows without resolving a name.
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
        let wrong = match address {
            Some(address) if encrypted && !self.admit(address, encrypted) => format!(
                "names {address}, which is neither globally routable nor in one of MORAG_WEBHOOK_NETWORKS"
            ),
            Some(address) if !self.admit(address, encrypted) => {
                format!("names {address}, which is in none of MORAG_WEBHOOK_NETWORKS: only those are told over http://")
            }
            None if !encrypted && self.0.is_empty() => {
                "must begin with https://: only MORAG_WEBHOOK_NETWORKS are told over http://, and there are none"
                    .to_owned()
            }
            Some(_) | None => return Ok(url),
        };
        Err(InvalidValue(wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> WebhookNetworks {
        text.parse().unwrap()
    }

    #[test]
    fn only_globally_routable_addresses_are_admitted_by_themselves() {
        let routable = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700:4700::1111",
            "2a00:1450:4001::200e",
            "3ffe:ffff::1",
        ];
        let special = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.9",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2620:4f:8000::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for (addresses, admitted) in [(&routable[..], true), (&special[..], false)] {
            for address in addresses {
                let parsed: IpAddr = address.parse().unwrap();
                assert_eq!(WebhookNetworks::default().admit(parsed, true), admitted, "{address}");
                assert!(!WebhookNetworks::default().admit(parsed, false), "{address} in plain text");
            }
        }
    }

    #[test]
    fn an_operators_networks_are_admitted_besides_and_in_plain_text() {
        let networks = networks(" 127.0.0.0/8, 192.168.1.0/24 ,fd00::/8,10.0.0.7,");
        assert_eq!(networks.to_string(), "127.0.0.0/8,192.168.1.0/24,fd00::/8,10.0.0.7/32");
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "192.168.1.255", "fd00::1", "10.0.0.7"] {
            for encrypted in [true, false] {
                assert!(networks.admit(address.parse().unwrap(), encrypted), "{address}");
            }
        }
        for address in ["192.168.2.1", "10.0.0.8", "::1", "8.8.8.8"] {
            assert!(!networks.admit(address.parse().unwrap(), false), "{address}");
        }
        assert!(networks.admit("8.8.8.8".parse().unwrap(), true));
        for wrong in ["localhost", "127.0.0.0/33", "127.0.0.0/8 10.0.0.0/8", "127/8"] {
            assert!(wrong.parse::<WebhookNetworks>().is_err(), "{wrong}");
        }
        assert_eq!("".parse(), Ok(WebhookNetworks::default()));
    }

    #[test]
    fn an_address_is_recognised_however_it_is_spelled() {
        for spelling in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "127.0.0.%31",
            "%31%32%37.0.0.1",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:127.0.0.1]",
            "[::1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "0",
            "169.254.43518",
        ] {
            let url: WebhookUrl = format!("https://{spelling}:8443/hook?a=b").parse().unwrap();
            let InvalidValue(refused) = WebhookNetworks::default().url(&url).unwrap_err();
            assert!(refused.starts_with("names ") && !refused.contains("a=b"), "{spelling}: {refused}");
        }
        for spelling in ["example.com", "localhost", "localhost.", "8.8.8.8", "134744072", "[2606:4700::1]"] {
            let url: WebhookUrl = format!("https://{spelling}/hook").parse().unwrap();
            assert!(WebhookNetworks::default().url(&url).is_ok(), "{spelling}");
        }
    }

    #[test]
    fn what_no_client_could_open_is_no_url() {
        for wrong in [
            "https://[fe80::1%25eth0]/",
            "https://256.0.0.1/",
            "https://1.2.3.4.5/",
            "https://a:99999/",
            "https://a b/",
            "https://[::1/",
            "https://exa<mple/",
        ] {
            let Ok(url) = wrong.parse::<WebhookUrl>() else { continue };
            let InvalidValue(refused) = WebhookNetworks::default().url(&url).unwrap_err();
            assert!(refused.starts_with("is not a URL: "), "{wrong}: {refused}");
        }
    }

    #[test]
    fn plain_text_needs_a_network() {
        let refusal = |networks: &WebhookNetworks, url: &str| {
            networks.url(&url.parse().unwrap()).map(|url| url.to_string()).map_err(|error| error.0)
        };
        let none = WebhookNetworks::default();
        let begins_with =
            |result: Result<String, String>| result.unwrap_err().chars().take(24).collect::<String>();
        assert_eq!(begins_with(refusal(&none, "http://hooks.lan/x")), "must begin with https://");
        assert_eq!(begins_with(refusal(&none, "http://8.8.8.8/x")), "names 8.8.8.8, which is ");
        let lan = networks("192.168.1.0/24");
        assert_eq!(refusal(&lan, "http://hooks.lan/x").unwrap(), "http://hooks.lan/x");
        assert_eq!(refusal(&lan, "http://192.168.1.9/x").unwrap(), "http://192.168.1.9/x");
        assert_eq!(begins_with(refusal(&lan, "http://8.8.8.8/x")), "names 8.8.8.8, which is ");
    }
}
