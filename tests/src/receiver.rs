//! What receives webhooks.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A plain HTTP server on any free port, of loopback unless it says otherwise, that answers as the test says and keeps
/// what it was sent. Dropping it stops it.
pub struct Receiver {
    /// Its port.
    pub port: u16,
    connections: Arc<AtomicUsize>,
    requests: mpsc::UnboundedReceiver<Received>,
    task: JoinHandle<()>,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// The first line.
    pub line: String,
    /// The headers by their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// What the receiver answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status, and these lines of headers, without a body.
    Status(u16, String),
    /// The first text, and then the second again and again for as long as somebody listens.
    Endless(&'static str, &'static str),
    /// Nothing, while the connection stays open.
    Silence,
    /// Nothing; the connection is closed.
    HangUp,
}

impl Receiver {
    /// Starts one.
    pub async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Ipv4Addr::LOCALHOST.into(), None, answer).await
    }

    /// Starts one at another address of this machine than loopback, that answers this status every time.
    pub async fn answering_at(address: IpAddr, status: u16) -> Self {
        Self::listen(address, None, move |_| Reply::Status(status, String::new())).await
    }

    /// Starts one that answers this status every time.
    pub async fn answering(status: u16) -> Self {
        Self::start(move |_| Reply::Status(status, String::new())).await
    }

    /// Starts one that speaks TLS.
    pub async fn with_tls(
        tls: TlsAcceptor,
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Ipv4Addr::LOCALHOST.into(), Some(tls), answer).await
    }

    async fn listen(
        address: IpAddr,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::unbounded_channel();
        let (answer, connections) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (sender, answer, tls) = (sender.clone(), Arc::clone(&answer), tls.clone());
                // A caller that hangs up, or trusts no certificate, ends the connection: nothing to be done.
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &sender, &*answer).await,
                        Some(tls) => serve(tls.accept(stream).await?, &sender, &*answer).await,
                    }
                });
            }
        });
        Self { port, connections, requests, task }
    }

    /// Its URL by address, with this path and query.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The next request that comes or came.
    pub async fn next(&mut self) -> Received {
        let received = tokio::time::timeout(PATIENCE, self.requests.recv()).await;
        received.unwrap_or_else(|_| panic!("nothing was received")).unwrap()
    }

    /// What came and was not looked at.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// How many connections were made to it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Received {
    /// A header's value; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Answers one request.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    sender: &mpsc::UnboundedSender<Received>,
    answer: impl Fn(&Received) -> Reply,
) -> io::Result<()> {
    let received = read(&mut stream).await?;
    let reply = answer(&received);
    // Nobody waits for it once the test is over.
    let _ = sender.send(received);
    match reply {
        Reply::Status(status, headers) => {
            let text = format!(
                "HTTP/1.1 {status} Answer\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Reply::Endless(begin, again) => {
            stream.write_all(begin.as_bytes()).await?;
            loop {
                stream.write_all(again.as_bytes()).await?;
            }
        }
        Reply::Silence => stream.read_u8().await.map(drop),
        Reply::HangUp => Ok(()),
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Received { line, headers, body })
}
