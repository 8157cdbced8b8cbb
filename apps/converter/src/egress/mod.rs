//! The proxy by which converters of `network: internet` reach it, and by which they reach nothing else.
//!
//! A stranger may name a URL, and a page may lead anywhere: to this machine, to the router, to where a cloud tells a
//! machine its credentials. So every request goes through this proxy, on a loopback port that only who knows a running
//! conversion's token can use. It resolves names itself and connects to the very address that it has judged, so that a
//! name cannot mean something else a moment later; and as each request is judged, so is each redirect.

mod admission;
mod metered;
mod nearby;
mod serve;

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ipnet::IpNet;
use tokio::{
    net::TcpListener,
    sync::{OnceCell, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::limits::Hosts;
use admission::Rules;

/// How many bytes a conversion may send and receive altogether, 64 GiB: more than any work folder takes by default.
const MOST_BYTES: u64 = 64 << 30;
/// How many connections a conversion may have at the same time.
const MOST_CONNECTIONS: usize = 64;
/// How many refusals of a conversion are logged and kept for its error.
const MOST_REFUSALS: usize = 10;

/// The proxy. It listens from the first conversion that needs it.
#[derive(Clone, Debug)]
pub struct Egress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Rules,
    port: OnceCell<u16>,
    /// The running conversions, by their tokens.
    conversions: Mutex<HashMap<String, Arc<Conversion>>>,
}

/// One conversion's way out, which is open as long as one of its clones lives. Its connections end with it.
#[derive(Clone, Debug)]
pub struct Way(Arc<Open>);

#[derive(Debug)]
struct Open {
    egress: Arc<Inner>,
    conversion: Arc<Conversion>,
    token: String,
    port: u16,
}

/// What is known of a running conversion.
#[derive(Debug)]
struct Conversion {
    hosts: Hosts,
    slots: Arc<Semaphore>,
    bytes: AtomicU64,
    refused: Mutex<Vec<String>>,
    ended: CancellationToken,
}

impl Default for Egress {
    /// One that admits globally routable addresses only, and no host as YouTube's.
    fn default() -> Self {
        Self::new(Vec::new(), &[])
    }
}

impl Egress {
    /// A proxy that admits globally routable addresses and those in `networks`, and for [`Hosts::Youtube`] of these
    /// only `youtube_hosts` with their subdomains.
    #[must_use]
    pub fn new(networks: Vec<IpNet>, youtube_hosts: &[String]) -> Self {
        let rules = Rules::new(networks, youtube_hosts);
        Self(Arc::new(Inner { rules, port: OnceCell::new(), conversions: Mutex::default() }))
    }

    /// Opens a way for a conversion.
    ///
    /// # Errors
    /// When no loopback port can be listened on.
    pub async fn open(&self, hosts: Hosts) -> io::Result<Way> {
        let port = *self.0.port.get_or_try_init(|| self.listen()).await?;
        let conversion = Arc::new(Conversion {
            hosts,
            slots: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            bytes: AtomicU64::new(0),
            refused: Mutex::default(),
            ended: CancellationToken::new(),
        });
        let token = format!("{:032x}", rand::random::<u128>());
        self.0.conversions().insert(token.clone(), Arc::clone(&conversion));
        Ok(Way(Arc::new(Open { egress: Arc::clone(&self.0), conversion, token, port })))
    }

    async fn listen(&self) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(serve::accept(listener, Arc::downgrade(&self.0)));
        Ok(port)
    }
}

impl Inner {
    fn conversions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Conversion>>> {
        self.conversions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    /// The port that the proxy listens on, at 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The environment variables that programs find their proxy by.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://job:{}@127.0.0.1:{}", self.0.token, self.0.port);
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
            .map(|name| (name, url.clone()))
            .to_vec()
    }

    /// What was refused so far, as sentences; the first few.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        self.0.conversion.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.egress.conversions().remove(&self.token);
        self.conversion.ended.cancel();
    }
}

impl Conversion {
    /// Counts bytes that went either way.
    fn spend(&self, bytes: usize) -> io::Result<()> {
        let before = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before <= MOST_BYTES {
            return Ok(());
        }
        let reason = format!("The conversion transferred more than the {MOST_BYTES} bytes that one may.");
        self.note(&reason);
        Err(io::Error::other(reason))
    }

    /// Keeps and logs what was refused, once each. A hostile one can make no log grow without bound.
    fn note(&self, reason: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < MOST_REFUSALS && !refused.iter().any(|known| known == reason) {
            tracing::warn!(reason, "a converter was refused something on the network");
            refused.push(reason.to_owned());
        }
    }
}
