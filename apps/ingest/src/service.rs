//! Puts the service together.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use client::Client;
use ingestion::Ingestion;
use remote_converter::local::{LocalConverter, LocalError};
use retrieval::Library;
use thiserror::Error;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SystemClock,
    converting::{Converting, Here},
    courier::HttpCourier,
    folder::{Folder, FolderError},
    http::{Guard, Hooks, Site, router},
    pipeline::{self, Limits, Parts, Pipeline, Workers},
    secret::SigningSecret,
    settings::Settings,
    store::{Store, StoreError},
};

/// How long requests in hand may take once the service stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a remote conversion may take of a task that does not say, as in the original.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(1800);
/// The file of the data folder with what the service's own webhooks are signed with.
const SECRET_FILE: &str = "webhook-secret";

/// Why the service does not start. Each text says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen, for example --listen 127.0.0.1:8081"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The tasks.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secret in the data folder is none.
    #[error("{0} in the data folder holds no secret; restore it, or remove it to have a new one made")]
    Secret(&'static str),
    /// The library of chunks.
    #[error("the library of chunks cannot be opened: {0}")]
    Library(#[from] retrieval::Error),
    /// Conversion on this machine.
    #[error("conversion on this machine is not possible: {0}")]
    Local(#[from] LocalError),
    /// The client of the control plane.
    #[error("MORAG_API_KEY: {0}")]
    Client(#[from] client::Error),
    /// TLS.
    #[error("HTTP cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
}

impl From<pipeline::StartError> for StartError {
    fn from(error: pipeline::StartError) -> Self {
        match error {
            pipeline::StartError::Folder(error) => Self::Folder(error),
            pipeline::StartError::Store(error) => Self::Store(error),
        }
    }
}

/// A service that answers requests and works at its tasks.
pub struct Ingest {
    /// Where it listens.
    pub address: SocketAddr,
    /// The tasks, for tests that look behind the listener.
    pub pipeline: Pipeline,
    workers: Workers,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Ingest {
    /// Opens the data, goes on with the tasks of the last run, and answers requests until [`Ingest::stop`]. Nothing is
    /// asked of the control plane before a task wants it.
    ///
    /// # Errors
    /// [`StartError`] says what is in the way and what to do.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let listener = TcpListener::bind(settings.listen)
            .await
            .map_err(|source| StartError::Listen { address: settings.listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: settings.listen, source })?;
        let folder = Arc::new(Folder::open(&settings.data_dir)?);
        let store = Store::open(&folder)?;
        let secret = match settings.signing_secret.clone() {
            Some(secret) => secret,
            None => kept_secret(&folder)?,
        };
        let library = Library::open(&settings.retrieval, &settings.data_dir).await?;
        let client = Client::new(
            settings.api_base_url.clone(),
            settings.api_key.clone(),
            concat!("morag-ingest/", env!("CARGO_PKG_VERSION")),
        )?;
        let parts = Parts {
            folder,
            store,
            conversion: Arc::new(converting(&settings, client.clone()).await?),
            shelf: Arc::new(library),
            courier: Arc::new(HttpCourier::new(settings.webhook_networks.clone())?),
            secret,
            clock: Arc::new(SystemClock),
            limits: Limits {
                concurrent_tasks: settings.max_concurrent_tasks,
                retention: settings.retention,
                remote_timeout: REMOTE_TIMEOUT,
            },
        };
        Self::serve(listener, address, parts, client, settings).await
    }

    async fn serve(
        listener: TcpListener,
        address: SocketAddr,
        parts: Parts,
        client: Client,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let (pipeline, workers) = Pipeline::start(parts).await?;
        let site = Site {
            pipeline: pipeline.clone(),
            guard: settings.own_key.map_or(Guard::Loopback, Guard::Key),
            hooks: match (settings.hook_secrets, settings.hook_url) {
                (known, _) if !known.is_empty() => Hooks::Known(known),
                (_, Some(_)) => Hooks::of(client),
                (_, None) => Hooks::Off,
            },
            networks: settings.webhook_networks,
            max_upload_bytes: settings.max_upload_bytes,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = axum::serve(listener, router(Arc::new(site))).with_graceful_shutdown(stopped);
        let serving = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the service does not answer any more");
            }
        });
        Ok(Self { address, pipeline, workers, stop, serving })
    }

    /// Takes no new connection, lets requests in hand finish for some seconds, and leaves the tasks for the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        let mut serving = self.serving;
        let (_, drained) = tokio::join!(self.workers.stop(), tokio::time::timeout(DRAIN, &mut serving));
        if drained.is_err() {
            tracing::warn!("requests that took longer than {} s were cut off", DRAIN.as_secs());
            serving.abort();
        }
    }
}

fn kept_secret(folder: &Folder) -> Result<SigningSecret, StartError> {
    let text = folder.secret(SECRET_FILE, SigningSecret::random)?;
    text.parse().map_err(|_| StartError::Secret(SECRET_FILE))
}

async fn converting(settings: &Settings, client: Client) -> Result<Converting, StartError> {
    let here = Here {
        converter: LocalConverter::open(settings.local.clone()).await?,
        permits: Semaphore::new(settings.max_local_conversions),
        time_limit: settings.local_timeout,
    };
    Ok(Converting {
        ingestion: Ingestion::new(client, settings.remote.clone()),
        here,
        hook_url: settings.hook_url.clone(),
        remote_timeout: REMOTE_TIMEOUT,
    })
}
