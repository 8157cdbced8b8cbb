//! Pages, from a server on this machine.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use domain::ContentType;
use remote_converter::convert::ConvertError;
use serde_json::{Value, json};

use crate::{
    Bench,
    document::{pdf_drawn, samples},
    python, says_text,
};

const WEB: ContentType = ContentType::Web;

const PAGE: &str = r#"<!doctype html><html lang="en"><head><title>The harbour at dawn - Example Times</title>
<meta name="author" content="Ann Onym"><meta name="description" content="How a harbour wakes.">
<meta property="og:site_name" content="Example Times">
<meta property="article:published_time" content="2024-03-05T06:00:00Z"><script>alert("a script")</script></head>
<body><header><nav><ul><li><a href="/">Home</a></li><li><a href="/sport">All of the sport</a></li></ul></nav></header>
<aside class="advertisement"><p>Buy one mattress and get another one free, today only, at the mattress shop.</p></aside>
<main><article><h1>The harbour at dawn</h1>
<p>Before the sun is up the first boats leave the harbour, and the men on the quay count them, as they have done for
sixty years and more, over a coffee in the small caf&eacute; of the pilots.</p>
<p>The <a href="../tides?day=1">tables of the tides</a> hang beside the door of the office, where the harbour master
writes down every name and every hour in a book that is bound in green.</p>
<h2>What comes back</h2><p>By noon the boats come back with mackerel and cod, and the auction begins with a bell that
was once a ship's own bell, and that was found on the beach after the great storm.</p>
<figure><img src="/img/quay.jpg" alt="The quay"></figure></article></main>
<footer><p>Copyright Example Times. All rights reserved. Imprint, cookies and privacy.</p></footer></body></html>"#;

/// Answers every path, and notes which it was asked for.
struct Site {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn start(answers: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let path = path_of(&stream);
                let answer = answers(&path);
                notes.lock().unwrap().push(path);
                // A client that goes away while it is answered is its own affair.
                let _ = (&stream).write_all(&answer);
            }
        });
        Self { address, asked }
    }

    /// A source that names a page of it.
    fn source(&self, bench: &Bench, path: &str) -> PathBuf {
        bench.file("source.txt", format!("http://{}{path}\n", self.address))
    }
}

/// Reads the head of a request.
fn path_of(stream: &TcpStream) -> String {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let path = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned));
    lines.for_each(drop);
    path.unwrap_or_default()
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn page(body: &[u8]) -> Vec<u8> {
    answer("200 OK", "Content-Type: text/html\r\n", body)
}

fn redirect(target: &str) -> Vec<u8> {
    answer("302 Found", &format!("Location: {target}\r\n"), b"")
}

#[tokio::test]
async fn the_main_content_of_a_page_becomes_markdown() {
    let site = Site::start(|path| match path {
        "/start" => redirect("/news/page.html"),
        _ => page(PAGE.as_bytes()),
    });
    let bench = Bench::new(WEB).await;
    let (converted, seen) = bench.convert(&WEB, &site.source(&bench, "/start"), json!({})).await;
    let converted = converted.unwrap();
    let text = &converted.content;
    let (quay, tides) =
        (format!("http://{}/img/quay.jpg", site.address), format!("http://{}/tides?day=1", site.address));
    for part in [
        "# The harbour at dawn\n",
        "in the small caf\u{e9} of the pilots",
        &format!("[tables of the tides]({tides})"),
        "## What comes back",
        &format!("![The quay]({quay})"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for other in ["mattress", "All of the sport", "Copyright", "a script"] {
        assert!(!text.contains(other), "{other}: {text}");
    }
    let metadata = Value::Object(converted.metadata);
    assert_eq!(metadata["title"], "The harbour at dawn");
    assert_eq!(metadata["author"], "Ann Onym");
    assert_eq!(metadata["date"], "2024-03-05");
    assert_eq!(metadata["description"], "How a harbour wakes.");
    assert_eq!(metadata["sitename"], "Example Times");
    assert_eq!(metadata["url"], format!("http://{}/news/page.html", site.address));
    assert_eq!(metadata["requested_url"], format!("http://{}/start", site.address));
    assert!(metadata["tool"].as_str().unwrap().starts_with("trafilatura "));
    assert!(seen.is_sorted(), "{seen:?}");
    // What a page names is not fetched.
    assert_eq!(*site.asked.lock().unwrap(), ["/start", "/news/page.html"]);
}

#[tokio::test]
async fn a_page_without_main_content_is_taken_whole_and_in_its_own_encoding() {
    let site = Site::start(|_| {
        let body = b"<html><body><p>caf\xe9</p><ul><li><a href='one'>One</a></li></ul></body></html>";
        answer("200 OK", "Content-Type: text/html; charset=iso-8859-1\r\n", body)
    });
    let bench = Bench::new(WEB).await;
    let converted = bench.convert(&WEB, &site.source(&bench, "/list/"), json!({})).await.0.unwrap();
    let link = format!("[One](http://{}/list/one)", site.address);
    assert!(
        converted.content.contains("caf\u{e9}") && converted.content.contains(&link),
        "{}",
        converted.content
    );
    assert!(converted.metadata["tool"].as_str().unwrap().starts_with("markitdown "));
}

#[tokio::test]
async fn documents_and_images_behind_a_url_are_converted_as_such() {
    let bench = Bench::new(WEB).await;
    let made = samples(&bench, &["documents"]);
    samples(&bench, &["images"]);
    let word = std::fs::read(made.join("minutes.docx")).unwrap();
    let image = std::fs::read(made.join("text.png")).unwrap();
    let site = Site::start(move |path| match path {
        "/word" => {
            let kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
            answer("200 OK", &format!("Content-Type: {kind}\r\n"), &word)
        }
        _ => answer("200 OK", "Content-Type: image/png\r\n", &image),
    });
    let word = bench.convert(&WEB, &site.source(&bench, "/word"), json!({})).await.0.unwrap();
    assert!(word.content.contains("# The meeting") && word.metadata["format"] == "docx", "{}", word.content);
    assert_eq!(word.metadata["url"], format!("http://{}/word", site.address));
    let image = bench.convert(&WEB, &site.source(&bench, "/image"), json!({})).await.0.unwrap();
    says_text(&image.content, &["Invoice number 20417"]);
    assert_eq!(image.metadata["format"], "PNG");
}

#[tokio::test]
async fn a_redirect_to_an_address_that_is_not_admitted_is_refused() {
    let inner = Site::start(|_| page(b"<p>the inner secret</p>"));
    // The same machine by another name of its network, of which the tests admit 127.0.0.0/8 only.
    let target = format!("http://[::1]:{}/", inner.address.port());
    let site = Site::start(move |path| match path {
        "/metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "/file" => redirect("file:///etc/passwd"),
        "/around" => redirect("/around"),
        _ => redirect(&target),
    });
    let bench = Bench::new(WEB).await;
    for (path, why) in [
        ("/inner", "::1"),
        ("/metadata", "169.254.169.254"),
        ("/file", "file:///etc/passwd"),
        ("/around", "more than 10 times"),
    ] {
        let refusal = bench.refusal(&WEB, &site.source(&bench, path), json!({})).await;
        assert!(refusal.contains(why), "{path}: {refusal}");
    }
    assert!(inner.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_page_is_refused_and_what_may_become_one_is_tried_again() {
    let site = Site::start(|path| match path {
        "/gone" => answer("410 Gone", "", b""),
        "/thing" => answer("200 OK", "Content-Type: application/x-thing\r\n", b"\0"),
        "/scripts" => page(b"<html><body><script>draw()</script></body></html>"),
        _ => answer("503 Service Unavailable", "", b""),
    });
    let bench = Bench::new(WEB).await;
    for (path, why) in [("/gone", "410"), ("/thing", "application/x-thing"), ("/scripts", "no text")] {
        let refusal = bench.refusal(&WEB, &site.source(&bench, path), json!({})).await;
        assert!(refusal.contains(why), "{path}: {refusal}");
    }
    for text in ["file:///etc/passwd", "ftp://example.com/", "example.com", "", "http://"] {
        let refusal = bench.refusal(&WEB, &bench.file("source.txt", text), json!({})).await;
        assert!(refusal.contains("not the URL of a page"), "{text}: {refusal}");
    }
    match bench.convert(&WEB, &site.source(&bench, "/busy"), json!({})).await.0 {
        Err(ConvertError::Elsewhere(message)) => assert!(message.contains("503"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn text_is_read_in_the_encoding_that_its_sender_names() {
    let site = Site::start(|path| match path {
        "/latin" => answer("200 OK", "Content-Type: text/plain; charset=iso-8859-1\r\n", b"Gr\xf6\xdfe"),
        "/koi8" => answer("200 OK", "Content-Type: text/plain; charset=KOI8-R\r\n", b"\xcd\xcf\xd2\xc5"),
        _ => answer("200 OK", "Content-Type: text/plain; charset=no-such\r\n", "Gr\u{f6}\u{df}e".as_bytes()),
    });
    let bench = Bench::new(WEB).await;
    for (path, text, encoding) in [
        ("/latin", "Gr\u{f6}\u{df}e", "cp1252"),
        ("/koi8", "\u{43c}\u{43e}\u{440}\u{435}", "koi8-r"),
        ("/unknown", "Gr\u{f6}\u{df}e", "utf-8"),
    ] {
        let converted = bench.convert(&WEB, &site.source(&bench, path), json!({})).await.0.unwrap();
        assert_eq!((converted.content.trim_end(), &converted.metadata["encoding"]), (text, &json!(encoding)));
    }
}

#[tokio::test]
async fn the_first_bytes_say_what_an_answer_is_before_its_header_does() {
    let bench = Bench::new(WEB).await;
    let made = samples(&bench, &["documents"]);
    let word = fs::read(made.join("minutes.docx")).unwrap();
    let pdf = pdf_drawn(&["BT /F1 12 Tf 72 700 Td (The price of cod) Tj ET".to_owned()]);
    let site = Site::start(move |path| match path {
        "/pdf" => page(&pdf),
        _ => answer("200 OK", "Content-Type: application/octet-stream\r\n", &word),
    });
    let converted = bench.convert(&WEB, &site.source(&bench, "/pdf"), json!({})).await.0.unwrap();
    assert!(converted.content.contains("The price of cod"), "{}", converted.content);
    assert_eq!(converted.metadata["format"], "pdf");
    let converted = bench.convert(&WEB, &site.source(&bench, "/word"), json!({})).await.0.unwrap();
    assert!(converted.content.contains("# The meeting"), "{}", converted.content);
}

#[tokio::test]
async fn a_body_that_is_broken_off_is_tried_again_and_one_that_cannot_be_unpacked_is_refused() {
    let site = Site::start(|path| match path {
        "/cut" => b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 99999\r\n\r\n<p>".to_vec(),
        "/gzip" => answer("200 OK", "Content-Type: text/html\r\nContent-Encoding: gzip\r\n", b"no gzip"),
        _ => answer("200 OK", "Content-Type: text/html\r\nContent-Encoding: br\r\n", b"\x0b\x02\x80<p>\x03"),
    });
    let bench = Bench::new(WEB).await;
    match bench.convert(&WEB, &site.source(&bench, "/cut"), json!({})).await.0 {
        Err(ConvertError::Elsewhere(message)) => {
            assert!(message.contains("127.0.0.1 broke off while it sent the page: "), "{message}");
            assert!(!message.contains(" 99996."), "{message}");
        }
        other => panic!("{other:?}"),
    }
    for (path, why) in [("/gzip", "127.0.0.1 sent cannot be unpacked"), ("/brotli", "packed as br")] {
        let refusal = bench.refusal(&WEB, &site.source(&bench, path), json!({})).await;
        assert!(refusal.contains(why), "{path}: {refusal}");
    }
}

#[tokio::test]
async fn a_page_of_links_keeps_them() {
    let site = Site::start(|_| {
        let shops =
            (1..=20).map(|n| format!("<li><a href='/shop/{n}'>Fish shop number {n} of the harbour</a></li>"));
        page(
            format!("<html><body><h1>Shops</h1><ul>{}</ul></body></html>", shops.collect::<String>())
                .as_bytes(),
        )
    });
    let bench = Bench::new(WEB).await;
    let converted = bench.convert(&WEB, &site.source(&bench, "/"), json!({})).await.0.unwrap();
    for n in [1, 20] {
        let link = format!("[Fish shop number {n} of the harbour](http://{}/shop/{n})", site.address);
        assert!(converted.content.contains(&link), "{link}: {}", converted.content);
    }
}

/// Sends `begin` and then a letter at a time for as long as it is read.
fn dripping(begin: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        path_of(&stream);
        let mut sent = stream.write_all(begin.as_bytes());
        while sent.is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(50));
            sent = stream.write_all(b"a");
        }
    });
    address
}

#[test]
fn a_page_or_a_head_that_drips_is_given_up_after_the_time_that_a_page_may_take() {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    // The same script with less patience, and no proxy before it.
    let script =
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import web; web.MOST_SECONDS = 1; web.main()";
    for begin in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 99999\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 99999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Letters: ",
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("source"), format!("http://{}/", dripping(begin))).unwrap();
        let mut command = Command::new(python());
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.args(["-c", script]).arg(&built_in).args(["--input", "source", "--output", "output"]);
        let ran = command.current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(75), "{said}");
        assert_eq!(said.trim_end(), "The page was not there within 1 s.");
    }
}

/// A server that goes with the value.
struct Tls(Child);

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn https_goes_through_the_proxy_and_certificates_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/builtin/tls_server.py");
    let server =
        Command::new(python()).arg(script).arg(folder.path()).stdout(Stdio::piped()).spawn().map(Tls);
    let mut server = server.unwrap();
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let url = format!("https://127.0.0.1:{}/", port.trim());

    let bench = Bench::new(WEB).await;
    match bench.convert(&WEB, &bench.file("source.txt", &url), json!({})).await.0 {
        Err(ConvertError::Elsewhere(message)) => {
            assert!(
                message.contains("127.0.0.1 cannot be reached") && message.contains("certificate"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    let refusal = bench.refusal(&WEB, &bench.file("source.txt", "https://192.168.0.1/"), json!({})).await;
    assert!(refusal.contains("192.168.0.1"), "{refusal}");

    let bench = Bench::open(WEB, |own, built_in| {
        let trusted =
            format!("command: [env, \"SSL_CERT_FILE={}/certificate.pem\", ", folder.path().display());
        let text = fs::read_to_string(built_in.join("web.yaml")).unwrap();
        let text = text.replace("command: [", &trusted).replace("web-trafilatura", "trusting");
        let description = own.join("trusting.yaml");
        fs::write(&description, text.replace("{here}", &built_in.display().to_string())).unwrap();
        vec![description]
    })
    .await;
    let page = bench.convert(&WEB, &bench.file("source.txt", &url), json!({})).await.0.unwrap();
    assert_eq!(page.metadata["converter"], "trusting");
    assert_eq!(page.content, "Through the tunnel\n");
}
