use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use service::WebhookNetworks;
use thiserror::Error;

/// Resolves names to those of their addresses that are admitted. The client connects to what this gives and asks
/// nobody else, so that what was checked is what is connected to, whatever the name resolves to a moment later.
pub(crate) struct AdmittedAddresses {
    pub(crate) networks: WebhookNetworks,
    /// Whether what is resolved is spoken to by TLS.
    pub(crate) encrypted: bool,
}

/// No address of a host is admitted. The addresses are not named: they may be of a network that is nobody's business.
#[derive(Debug, Error)]
#[error("{host} has no address that webhooks may be at: {rule}")]
pub(crate) struct NotAdmitted {
    host: String,
    rule: &'static str,
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
                let rule = if encrypted {
                    "globally routable ones, and MORAG_WEBHOOK_NETWORKS"
                } else {
                    "MORAG_WEBHOOK_NETWORKS, over http://"
                };
                return Err(NotAdmitted { host, rule }.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}
