//! A proxy in front of a server that loses, cuts and repeats requests, as bad networks and eager proxies do.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// The largest head of a request.
const MOST_HEAD: usize = 64 << 10;
/// What is answered while the server is not there, as proxies do.
const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 38\r\n\
    Connection: close\r\n\r\n<html><title>502 Bad Gateway</title>\r\n";

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Nothing happens to it.
    Passed,
    /// The connection is closed and the server never sees it.
    RequestLost,
    /// The server answers, and the connection is closed instead.
    AnswerLost,
    /// The server answers, and the connection is closed in the middle of that.
    AnswerCut,
    /// The server gets it twice, and the first answer is given.
    TwiceAnsweredFirst,
    /// The server gets it twice, and the second answer is given.
    TwiceAnsweredSecond,
    /// It is answered, and the server gets it once more some seconds later.
    RepeatedLater,
}

impl Fate {
    /// Everything that can go wrong.
    pub const FAULTS: [Self; 6] = [
        Self::RequestLost,
        Self::AnswerLost,
        Self::AnswerCut,
        Self::TwiceAnsweredFirst,
        Self::TwiceAnsweredSecond,
        Self::RepeatedLater,
    ];
}

/// Requests that go no further, and where they stop.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Their method.
    pub method: &'static str,
    /// What their path and query contain.
    pub target: String,
    /// Where they stop.
    pub at: Stop,
}

/// Where a held request stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The server does not see it.
    BeforeServer,
    /// The server has done what it asks, and the client does not learn it.
    BeforeClient,
}

/// The proxy. Each connection carries one request, so that no client repeats one by itself. Dropping it ends it.
#[derive(Debug)]
pub struct FaultyProxy {
    /// Where it is.
    pub url: String,
    line: Arc<Line>,
    accepting: JoinHandle<()>,
}

/// What all connections share.
#[derive(Debug)]
struct Line {
    server: SocketAddr,
    /// The share of requests that something happens to, and the dice. None when it is calm.
    dice: Mutex<Option<(f64, StdRng)>>,
    tally: Mutex<BTreeMap<Fate, u64>>,
    hold: watch::Sender<Option<Hold>>,
    /// How many requests are held.
    held: watch::Sender<usize>,
    is_closed: watch::Sender<bool>,
}

impl FaultyProxy {
    /// Starts one in front of `server`, where `share` of all requests meet a fault, chosen from `seed`.
    pub async fn start(server: SocketAddr, seed: u64, share: f64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dice = Mutex::new(Some((share, StdRng::seed_from_u64(seed))));
        let line = Line {
            server,
            dice,
            tally: Mutex::default(),
            hold: watch::Sender::default(),
            held: watch::Sender::default(),
            is_closed: watch::Sender::default(),
        };
        let line = Arc::new(line);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&line)));
        Self { url, line, accepting }
    }

    /// From now on everything passes.
    pub fn calm(&self) {
        *self.line.dice.lock().unwrap() = None;
    }

    /// From now on such requests go no further.
    pub fn hold(&self, hold: Hold) {
        self.line.hold.send_replace(Some(hold));
    }

    /// Waits until so many requests are held.
    pub async fn until_held(&self, count: usize) {
        self.line.held.subscribe().wait_for(|held| *held >= count).await.unwrap();
    }

    /// What is held goes on.
    pub fn let_go(&self) {
        self.line.hold.send_replace(None);
    }

    /// From now on the server cannot be reached. Requests on their way are lost, with their answers.
    pub fn close(&self) {
        self.line.is_closed.send_replace(true);
    }

    /// The server can be reached again.
    pub fn open(&self) {
        self.line.is_closed.send_replace(false);
    }

    /// How many requests met which fate.
    #[must_use]
    pub fn tally(&self) -> BTreeMap<Fate, u64> {
        self.line.tally.lock().unwrap().clone()
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let line = Arc::clone(&line);
        tokio::spawn(async move {
            // Who hung up or spoke no HTTP gets no answer, which is all that can be done.
            let mut closing = line.is_closed.subscribe();
            tokio::select! {
                biased;
                _ = closing.wait_for(|is_closed| *is_closed) => {}
                _ = line.serve(client) => {}
            }
        });
    }
}

impl Line {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(request) = read_request(&mut client).await? else { return Ok(()) };
        let fate = self.fate();
        let answering = self.answer(fate, &request);
        let answer = tokio::select! {
            answer = answering => answer,
            // Who has hung up must not seem to wait still: the server would give it work.
            () = hung_up(&mut client) => return Ok(()),
        };
        client.write_all(&answer).await?;
        client.shutdown().await?;
        if fate == Fate::RepeatedLater {
            let pause = Duration::from_millis(rand::rng().random_range(200..5000));
            tokio::time::sleep(pause).await;
            let _ = self.ask(&request).await;
        }
        Ok(())
    }

    fn fate(&self) -> Fate {
        let fate = self.dice.lock().unwrap().as_mut().map_or(Fate::Passed, |(share, dice)| {
            let any = Fate::FAULTS[dice.random_range(0..Fate::FAULTS.len())];
            if dice.random_bool(*share) { any } else { Fate::Passed }
        });
        *self.tally.lock().unwrap().entry(fate).or_default() += 1;
        fate
    }

    /// What the client gets to read; nothing when it finds the connection closed.
    async fn answer(&self, fate: Fate, request: &[u8]) -> Vec<u8> {
        match fate {
            Fate::Passed | Fate::RepeatedLater => self.ask(request).await,
            Fate::RequestLost => Vec::new(),
            Fate::AnswerLost => {
                self.ask(request).await;
                Vec::new()
            }
            Fate::AnswerCut => {
                let mut answer = self.ask(request).await;
                answer.truncate(answer.len() / 2);
                answer
            }
            Fate::TwiceAnsweredFirst => {
                let first = self.ask(request).await;
                self.ask(request).await;
                first
            }
            Fate::TwiceAnsweredSecond => {
                self.ask(request).await;
                self.ask(request).await
            }
        }
    }

    /// The server's whole answer, or what there is of it when the server dies meanwhile.
    async fn ask(&self, request: &[u8]) -> Vec<u8> {
        self.pass_hold(Stop::BeforeServer, request).await;
        let answer = self.exchange(request).await;
        self.pass_hold(Stop::BeforeClient, request).await;
        answer
    }

    async fn exchange(&self, request: &[u8]) -> Vec<u8> {
        let Ok(mut server) = TcpStream::connect(self.server).await else { return BAD_GATEWAY.to_vec() };
        let mut answer = Vec::new();
        if server.write_all(request).await.is_ok() {
            let _ = server.read_to_end(&mut answer).await;
        }
        answer
    }
}

impl Line {
    /// Waits as long as such a request is held here.
    async fn pass_hold(&self, stop: Stop, request: &[u8]) {
        let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let (method, target) = line.split_once(' ').unwrap_or_default();
        let is_free = |hold: &Option<Hold>| {
            !hold
                .as_ref()
                .is_some_and(|hold| hold.at == stop && hold.method == method && target.contains(&hold.target))
        };
        let mut hold = self.hold.subscribe();
        if is_free(&hold.borrow_and_update()) {
            return;
        }
        self.held.send_modify(|held| *held += 1);
        let _counted = Counted(&self.held);
        let _ = hold.wait_for(is_free).await;
    }
}

/// A request that is held, which may be dropped.
struct Counted<'a>(&'a watch::Sender<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

/// A whole request, which asks the server to close the connection behind its answer. None when there is none.
async fn read_request(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut read = Vec::new();
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if read.len() > MOST_HEAD || client.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
    };
    let (head, body_length) = closing_head(&read[..head_end])?;
    let mut body = read.split_off(head_end + 4);
    while body.len() < body_length {
        if client.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some([head, body].concat()))
}

/// The head that is sent on, and the length of the body behind it.
fn closing_head(head: &[u8]) -> io::Result<(Vec<u8>, usize)> {
    let head = std::str::from_utf8(head).map_err(io::Error::other)?;
    let mut length = 0;
    let mut kept = String::new();
    for line in head.split("\r\n") {
        match line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim())) {
            Some((name, _)) if name == "connection" => continue,
            Some((name, _)) if name == "transfer-encoding" => {
                return Err(io::Error::other("this proxy takes no body without a length"));
            }
            Some((name, value)) if name == "content-length" => {
                length = value.parse().map_err(io::Error::other)?;
            }
            Some(_) | None => {}
        }
        kept.push_str(line);
        kept.push_str("\r\n");
    }
    kept.push_str("Connection: close\r\n\r\n");
    Ok((kept.into_bytes(), length))
}

/// Waits until the client closes its side. Nothing else comes from it before it has its answer.
async fn hung_up(client: &mut TcpStream) {
    let _ = client.read(&mut [0]).await;
}
