use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use remote_converter::{descriptions::Hosts, egress::Way};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A web server at this address that gives each request this answer. Its port, and how often it was asked.
async fn server(address: &str, answer: String) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            // What was only meant for the proxy must not get here.
            let leaked = head.to_ascii_lowercase().contains("proxy-");
            let answer = if leaked { "HTTP/1.1 500 leaked\r\n\r\n" } else { &answer };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, asked)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn egress(networks: &[&str], youtube_hosts: &[&str]) -> Egress {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let hosts: Vec<String> = youtube_hosts.iter().map(|host| (*host).to_owned()).collect();
    Egress::new(networks, &hosts)
}

/// What to put into a request's head.
fn authorization(way: &Way) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let url = way.variables()[0].1.clone();
    let user = url.strip_prefix("http://").unwrap().split('@').next().unwrap().to_owned();
    format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(user))
}

/// Sends a request's line and head to the proxy and reads the answer's line, or all of it when it closes.
async fn ask(port: u16, line: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream
        .write_all(format!("{line} HTTP/1.1\r\nHost: x\r\n{head}Connection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn connect(way: &Way, target: &str) -> String {
    ask(way.port(), &format!("CONNECT {target}"), &authorization(way)).await
}

#[tokio::test]
async fn what_only_this_machine_reaches_is_refused_with_a_reason() {
    let way = egress(&[], &[]).open(Hosts::All).await.unwrap();
    for host in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
    ] {
        for port in [80, 443, way.port()] {
            let answer = connect(&way, &format!("{host}:{port}")).await;
            let (line, text) = answer.split_once("\r\n").unwrap();
            assert!(line.starts_with("HTTP/1.1 403 Forbidden: "), "{host}: {line}");
            assert!(line.contains("globally routable") && text.contains("`networks`"), "{host}: {answer}");
        }
        let plain = ask(way.port(), &format!("GET http://{host}/"), &authorization(&way)).await;
        assert!(plain.starts_with("HTTP/1.1 403 "), "{host}: {plain}");
    }
    assert!(way.refused().len() >= 5);
}

#[tokio::test]
async fn targets_that_are_none_are_refused() {
    let way = egress(&["127.0.0.0/8"], &[]).open(Hosts::All).await.unwrap();
    for (line, status) in [
        ("CONNECT 127.0.0.1", 400),
        ("CONNECT 127.0.0.1:", 400),
        ("CONNECT 127.0.0.1:0", 403),
        ("CONNECT 127.0.0.1:65536", 400),
        ("CONNECT 1.1.1.1:443@127.0.0.1:80", 400),
        ("CONNECT 127.0.0.1:80:80", 400),
        ("GET http://youtube.com@127.0.0.1/", 400),
        ("GET http://127.0.0.1:99999/", 400),
        ("GET https://127.0.0.1/", 400),
        ("GET ftp://127.0.0.1/", 400),
        ("GET /", 400),
    ] {
        let answer = ask(way.port(), line, &authorization(&way)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
    }
}

#[tokio::test]
async fn only_who_knows_a_running_conversions_token_is_served() {
    let (port, asked) = server("127.0.0.1", ok("hello")).await;
    let egress = egress(&["127.0.0.0/8"], &[]);
    let (way, other) = (egress.open(Hosts::All).await.unwrap(), egress.open(Hosts::All).await.unwrap());
    let line = format!("GET http://127.0.0.1:{port}/");
    let wrong = "Proxy-Authorization: Basic am9iOndyb25n\r\n";
    for head in ["", wrong, "Proxy-Authorization: Bearer x\r\n", "Proxy-Authorization: Basic\r\n"] {
        let answer = ask(way.port(), &line, head).await;
        assert!(answer.starts_with("HTTP/1.1 407 "), "{head}: {answer}");
    }
    let head = authorization(&way);
    assert!(ask(way.port(), &line, &head).await.ends_with("hello"));
    drop(way);
    let answer = ask(other.port(), &line, &head).await;
    assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_tunnel_carries_bytes_and_ends_with_its_conversion() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // The end comes from the other side.
        stream.read(&mut bytes).await.unwrap_or(0)
    });
    let way = egress(&["127.0.0.1/32"], &[]).open(Hosts::All).await.unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", way.port())).await.unwrap();
    let head = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n{}\r\n", authorization(&way));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    stream.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
    drop(way);
    assert_eq!(stream.read(&mut bytes).await.unwrap_or(0), 0);
    assert_eq!(echo.await.unwrap(), 0);
}

#[tokio::test]
async fn for_youtube_only_its_hosts_are_admitted() {
    let (port, _) = server("127.0.0.1", ok("a video")).await;
    let way = egress(&["127.0.0.0/8"], &["localhost", "youtube.com"]).open(Hosts::Youtube).await.unwrap();
    for host in ["youtube.com.evil.example", "evil.example", "notyoutube.com", "127.0.0.1", "[::1]"] {
        let answer = connect(&way, &format!("{host}:{port}")).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("`youtube_hosts`"),
            "{host}: {answer}"
        );
    }
    let answer = ask(way.port(), &format!("GET http://LOCALHOST:{port}/"), &authorization(&way)).await;
    assert!(answer.ends_with("a video"), "{answer}");
}

#[tokio::test]
async fn a_converter_is_led_nowhere_by_a_redirect() {
    let (secret, asked) = server("127.0.0.1", ok("the secret")).await;
    let location = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{secret}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (page, _) = server("127.0.0.2", ok("a page")).await;
    let (leading, _) = server("127.0.0.2", location).await;
    let bench = Bench::with(egress(&["127.0.0.2/32"], &[]));
    let script = format!(
        r#"
import sys, urllib.error, urllib.request
said = [urllib.request.urlopen("http://127.0.0.2:{page}/x?y").read().decode()]
try:
    urllib.request.urlopen("http://127.0.0.2:{leading}/")
except urllib.error.HTTPError as error:
    said.append(f"{{error.code}} {{error.url}}")
open(sys.argv[2], "w").write(" ".join(said))
"#
    );
    let content = bench.python(&script, "network: internet").await.content();
    assert_eq!(content, format!("a page 403 http://127.0.0.1:{secret}/"));
    assert_eq!(asked.load(Ordering::Relaxed), 0);

    let failing = format!("import urllib.request; urllib.request.urlopen('http://127.0.0.2:{leading}/')");
    let message = bench.python(&failing, "network: internet").await.failure();
    assert!(
        message.contains("127.0.0.1 is neither globally routable nor in the setting `networks`"),
        "{message}"
    );
}
