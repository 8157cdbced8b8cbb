//! Every function behind one HTTP listener: the whole control plane in one process, over embedded engines or over a table
//! and a bucket that it may share with others.

mod dispatch;
mod first_key;
mod keys;
mod listen;
mod timers;
mod tls;

pub use dispatch::answer;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use deliver_events::HttpCourier;
use engines::{Engines, OpenError};
use runtime::{App, Auth, EnvVar, JobSettings, SEEN_EVERY_ON_AWS, SettingError, StoreSettings};
use service::{Service, SystemWorld, World};
use store::{Endpoint, Environment, EnvironmentError, Store, StoreError};
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long a poll may be held open.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// How to start a gateway.
pub struct Config {
    /// Where to listen. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// What keeps jobs and files.
    pub keeps: Keeps,
    /// What presigned URLs begin with, `http://host:port`. By default where the gateway listens. On AWS they begin with the
    /// bucket's own URL.
    pub public_url: Option<String>,
    /// Whether programs on this machine need no key.
    pub no_auth: bool,
    /// The PEM files of a certificate chain and its key, to serve HTTPS.
    pub tls: Option<TlsFiles>,
    /// The names of the table and the bucket, and how long jobs stay.
    pub store: StoreSettings,
    /// What an operator decides about jobs.
    pub jobs: JobSettings,
    /// How often jobs are swept.
    pub sweep_every: Duration,
    /// How often the clock is looked at for a jump: more often than a held poll looks for lapsed leases, every 2 seconds.
    pub watch_clock_every: Duration,
    /// The clock and random numbers.
    pub world: Arc<dyn World>,
}

/// What keeps jobs and files.
#[derive(Clone, Debug)]
pub enum Keeps {
    /// Engines in this process, in memory, for tests.
    Memory,
    /// Engines in this process, in this folder, which no other process may have open.
    Folder(PathBuf),
    /// The DynamoDB table and the S3 bucket of AWS's environment. Other gateways, and the functions on AWS, may use them at
    /// the same time.
    Aws {
        /// Whether they are made if they are not there.
        create: bool,
    },
}

/// The PEM files of a certificate chain and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the server's certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A gateway that answers requests.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its URL. What presigned URLs begin with, unless files are kept on AWS.
    pub public_url: String,
    /// Where the admin key is, when the gateway keeps its data in a folder.
    pub admin_key_file: Option<PathBuf>,
    /// The admin key, when the gateway keeps its data in memory.
    pub admin_key: Option<String>,
    /// The use cases, for tests that look behind the listener.
    pub service: Service,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a gateway does not start. Each text says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen, for example --listen 127.0.0.1:8001"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No URL follows from an address that stands for all of them.
    #[error(
        "{0} is every address of this machine, so say what its URLs are to begin with: --public-url http://<name or address>:<port>"
    )]
    NeedsPublicUrl(SocketAddr),
    /// The public URL is not one.
    #[error("--public-url {0:?} is not of the form http://host:port or https://host:port, without a path")]
    PublicUrl(String),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Engines(#[from] OpenError),
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The certificate or its key cannot be used.
    #[error("{path}: {reason}; --tls-cert takes a PEM certificate chain, --tls-key its PEM private key")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// AWS's environment, or what it leads to.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The table or the bucket cannot be made.
    #[error("the data folder cannot be prepared: {0}")]
    Store(#[from] StoreError),
    /// The admin key cannot be made or written.
    #[error("the admin key cannot be written to {path}: {reason}")]
    AdminKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl Config {
    /// A gateway in memory on any free port of loopback, for tests.
    ///
    /// # Errors
    /// [`StartError::Setting`] when the environment has a setting that cannot be used.
    pub fn in_memory() -> Result<Self, StartError> {
        Ok(Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            keeps: Keeps::Memory,
            public_url: None,
            no_auth: false,
            tls: None,
            store: StoreSettings::from_env()?,
            jobs: JobSettings::from_env()?,
            sweep_every: Duration::from_secs(10),
            watch_clock_every: Duration::from_secs(1),
            world: Arc::new(SystemWorld),
        })
    }
}

impl Gateway {
    /// Opens the data, binds the address and answers requests until [`Gateway::stop`].
    ///
    /// # Errors
    /// [`StartError`] says what is in the way and what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let address =
            listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
        let public_url = match config.keeps {
            Keeps::Aws { .. } => url_of(address, tls.is_some()),
            Keeps::Memory | Keeps::Folder(_) => {
                public_url(config.public_url.as_deref(), address, tls.is_some())?
            }
        };
        let (store, engines) = open(&config.keeps, &config.store, &public_url).await?;
        let mut rules = config.jobs.rules(LONGEST_WAIT)?;
        if let Keeps::Aws { .. } = config.keeps {
            rules.seen_every = SEEN_EVERY_ON_AWS;
        }
        let service = Service::new(store, rules, config.world);
        // While the gateway was down, nobody could renew a lease.
        service.spare_leases();
        let (admin_key_file, admin_key) = first_key::ensure(&service, &config.keeps).await?;
        let auth = if config.no_auth { waived()? } else { Auth::Keys };
        let app = App { service: service.clone(), auth };
        let courier = HttpCourier::new(config.jobs.webhook_networks);
        let stop = CancellationToken::new();
        let objects =
            engines.clone().map(|engines| dispatch::Objects { engines, bucket: config.store.bucket });
        let site = Arc::new(dispatch::Site { app: app.clone(), objects });
        let mut tasks = vec![
            tokio::spawn(listen::serve(listener, tls, site, stop.clone())),
            tokio::spawn(timers::deliver_events(app.clone(), courier, stop.clone())),
            tokio::spawn(timers::sweep_jobs(app, config.sweep_every, stop.clone())),
            tokio::spawn(timers::watch_clock(service.clone(), config.watch_clock_every, stop.clone())),
        ];
        // AWS removes what has expired by itself.
        if let Some(engines) = engines {
            tasks.push(tokio::spawn(timers::sweep_engines(engines, service.clone(), stop.clone())));
        }
        Ok(Self { address, public_url, admin_key_file, admin_key, service, stop, tasks })
    }

    /// Takes no new connection, lets requests in hand finish for up to 30 seconds, and closes the data.
    pub async fn stop(self) {
        self.service.drain();
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the gateway ended badly");
            }
        }
    }
}

/// The bucket answers under its name at the root, before any call is looked for.
fn hides_no_call(bucket: &str) -> Result<(), SettingError> {
    if api::ROUTES.iter().any(|route| route.path.split('/').nth(1) == Some(bucket)) {
        return Err(SettingError::Value {
            variable: EnvVar::Bucket,
            value: bucket.to_owned(),
            expected: "is where calls of the gateway are; choose another name".to_owned(),
        });
    }
    Ok(())
}

/// The store, and the engines that it is over, where they are of this process.
async fn open(
    keeps: &Keeps,
    settings: &StoreSettings,
    public_url: &str,
) -> Result<(Store, Option<Engines>), StartError> {
    let folder = match keeps {
        Keeps::Aws { create } => return Ok((on_aws(settings, *create).await?, None)),
        Keeps::Memory => None,
        Keeps::Folder(folder) => Some(folder.clone()),
    };
    hides_no_call(&settings.bucket)?;
    let opened = tokio::task::spawn_blocking(move || match folder {
        Some(dir) => Engines::open(&dir),
        None => Engines::in_memory(),
    });
    let engines = match opened.await {
        Ok(engines) => engines?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let store = connect(&engines, settings, public_url).await;
    store.ensure().await?;
    Ok((store, Some(engines)))
}

/// The table and the bucket of the environment, which are looked at before anybody can rely on them.
async fn on_aws(settings: &StoreSettings, create: bool) -> Result<Store, EnvironmentError> {
    let environment = Environment::load().await?;
    let store = Store::connect(&settings.connection(Endpoint::Environment, Endpoint::Environment)).await;
    if create {
        environment.ensure(&store).await?;
    }
    environment.check(&store).await?;
    Ok(store)
}

async fn connect(engines: &Engines, settings: &StoreSettings, public_url: &str) -> Store {
    let credentials = engines.s3_credentials();
    let credentials = (credentials.access_key_id().to_owned(), credentials.secret_access_key().to_owned());
    let at = |http| Endpoint::At {
        url: public_url.to_owned(),
        credentials: credentials.clone(),
        http: Some(http),
    };
    Store::connect(&settings.connection(at(engines.dynamodb_http()), at(engines.s3_http()))).await
}

fn url_of(address: SocketAddr, https: bool) -> String {
    format!("{}://{address}", if https { "https" } else { "http" })
}

fn public_url(given: Option<&str>, address: SocketAddr, https: bool) -> Result<String, StartError> {
    let Some(given) = given else {
        if address.ip().is_unspecified() {
            return Err(StartError::NeedsPublicUrl(address));
        }
        return Ok(url_of(address, https));
    };
    let refused = || StartError::PublicUrl(given.to_owned());
    let uri: http::Uri = given.parse().map_err(|_| refused())?;
    let plain =
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.path() == "/" && uri.query().is_none();
    match uri.authority() {
        Some(authority) if plain && !authority.as_str().contains('@') => {
            Ok(format!("{}://{authority}", uri.scheme_str().unwrap_or("http")))
        }
        Some(_) | None => Err(refused()),
    }
}

fn waived() -> Result<Auth, StartError> {
    Auth::waived_on_loopback().map_err(|error| StartError::AdminKey { path: PathBuf::new(), reason: error.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_url_is_where_the_gateway_listens_unless_said() {
        let loopback: SocketAddr = "127.0.0.1:8000".parse().unwrap();
        let everywhere: SocketAddr = "0.0.0.0:8000".parse().unwrap();
        assert_eq!(public_url(None, loopback, false).unwrap(), "http://127.0.0.1:8000");
        assert_eq!(public_url(None, loopback, true).unwrap(), "https://127.0.0.1:8000");
        assert_eq!(
            public_url(Some("http://box.lan:8000/"), everywhere, false).unwrap(),
            "http://box.lan:8000"
        );
        assert!(matches!(public_url(None, everywhere, false), Err(StartError::NeedsPublicUrl(_))));
        for wrong in ["box:8000", "ftp://box", "http://box/path", "http://u@box", "http://", ""] {
            assert!(
                matches!(public_url(Some(wrong), loopback, false), Err(StartError::PublicUrl(_))),
                "{wrong}"
            );
        }
    }
}
