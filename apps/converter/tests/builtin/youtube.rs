//! Videos by their addresses, here those of a server on this machine.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use domain::ContentType;
use serde_json::{Value, json};

use crate::{Bench, CLIPS, Ran, encoded, python, run_script, share_of_words};

const SUBTITLES: &str = "WEBVTT\n\nNOTE made by hand\n\n1\n00:00:00.500 --> 00:00:03.000 align:start\n\
    And Mr. <i>John</i> Dashwood\n\n00:03.000 --> 00:07.000\n<v Narrator>had then leisure\nto consider &amp; weigh\n\n\
    01:00:07.000 --> 01:00:09.000\nHe was not an ill disposed young man\n";

/// A server of a folder's files, which leads from `away/x` to `x` on the same machine by another name. It notes what it
/// is asked for.
struct Server {
    folder: tempfile::TempDir,
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (root, asked) = (folder.path().to_owned(), Arc::new(Mutex::new(Vec::new())));
        let notes = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away while it is answered is its own affair.
                let _ = stream.and_then(|stream| answer(stream, &root, &notes));
            }
        });
        Self { folder, address, asked }
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// A page with the recording `talk.mp4` and what else belongs to the video.
    fn page(&self, name: &str, inside: &str) {
        encoded(1, &self.folder.path().join(format!("{name}.mp4")));
        let video = format!("<video src=\"{name}.mp4\">{inside}</video>");
        self.write(
            &format!("{name}.html"),
            &format!("<html><title>A talk</title><body>{video}</body></html>"),
        );
    }

    fn run(&self, address: &str, options: &Value) -> Ran {
        run_script("youtube.py", &self.source(address), options)
    }

    fn source(&self, address: &str) -> PathBuf {
        let path = self.folder.path().join("source.txt");
        std::fs::write(&path, format!("{address}\n")).unwrap();
        path
    }
}

fn answer(mut stream: TcpStream, root: &Path, notes: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    notes.lock().unwrap().push(name.clone());
    if let Some(name) = name.strip_prefix("away/") {
        let port = stream.local_addr()?.port();
        let head = format!("HTTP/1.1 302 Found\r\nLocation: http://localhost:{port}/{name}\r\n");
        return stream.write_all(format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
    }
    let Ok(bytes) = std::fs::read(root.join(&name)) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let kind = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html",
        Some("vtt") => "text/vtt",
        _ => "video/mp4",
    };
    let length = bytes.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    if request.starts_with("HEAD") { Ok(()) } else { stream.write_all(&bytes) }
}

/// The percentages that a script said, in their order.
fn percentages(said: &str) -> Vec<u8> {
    said.lines().filter_map(progress::parse_line).map(|event| event.percentage).collect()
}

#[test]
fn subtitles_are_taken_before_sound() {
    let server = Server::start();
    server.write("talk.vtt", SUBTITLES);
    server.page("talk", "<track kind=\"subtitles\" srclang=\"en\" src=\"talk.vtt\">");
    let ran = server.run(&server.url("talk.html"), &json!({}));
    let result = ran.result.unwrap_or_else(|| panic!("{}", ran.said));
    let content = result["content"].as_str().unwrap();
    let lines = "[00:00] And Mr. John Dashwood\n[00:03] had then leisure to consider & weigh\n\
                 [01:00:07] He was not an ill disposed young man\n";
    assert!(content.starts_with("# A talk") && content.ends_with(&format!("\n\n{lines}")), "{content}");
    let metadata = &result["metadata"];
    assert_eq!((&metadata["subtitles"], &metadata["language"]), (&json!("manual"), &json!("en")));
    assert_eq!(metadata["url"], server.url("talk.html"));
    assert!(percentages(&ran.said).is_sorted());
    let asked = server.asked.lock().unwrap().clone();
    assert!(asked.contains(&"talk.vtt".to_owned()), "{asked:?}");
}

#[test]
fn sound_is_recognised_where_no_subtitles_fit() {
    let server = Server::start();
    server.write("talk.vtt", SUBTITLES);
    server.page("talk", "<track kind=\"subtitles\" srclang=\"de\" src=\"talk.vtt\">");
    server.page("plain", "");
    for (address, options) in [
        (server.url("talk.html"), json!({"language": "en"})),
        (server.url("talk.html"), json!({"use_subtitles": false})),
        (server.url("plain.html"), json!({})),
        (server.url("plain.mp4"), json!({})),
    ] {
        let ran = server.run(&address, &options);
        let result = ran.result.unwrap_or_else(|| panic!("{address}: {}", ran.said));
        let content = result["content"].as_str().unwrap();
        assert!(share_of_words(CLIPS[1].1, content) >= 0.6, "{content}");
        assert_eq!(result["metadata"]["subtitles"], "none");
        assert!(result["metadata"]["duration_seconds"].as_f64().unwrap() > 2.5);
        let seen = percentages(&ran.said);
        assert!(seen.len() >= 4 && seen.is_sorted() && seen.last() >= Some(&90), "{seen:?}");
        assert!(ran.said.contains("YouTube processing: Downloading (40%)"), "{}", ran.said);
    }
}

#[test]
fn addresses_that_lead_to_no_video_are_refused_with_a_reason() {
    let server = Server::start();
    server.write("text.html", "<html><body>just a text</body></html>");
    server.write("playlist.mp4", "#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n");
    for (address, why) in [
        (server.url("missing.mp4"), "HTTP Error 404"),
        (server.url("text.html"), "Unsupported URL"),
        ("file:///etc/hostname".to_owned(), "https://"),
        ("/etc/hostname".to_owned(), "https://"),
        ("--exec=id".to_owned(), "https://"),
        ("https://user:pass@youtube.com/watch?v=1".to_owned(), "https://"),
        (String::new(), "https://"),
    ] {
        let ran = server.run(&address, &json!({}));
        assert_eq!(ran.code, Some(65), "{address}: {}", ran.said);
        assert!(ran.said.contains(why) && !ran.said.contains("Traceback"), "{address}: {}", ran.said);
    }
    let ran = server.run(&server.url("playlist.mp4"), &json!({}));
    assert!(ran.result.is_none() && !ran.said.contains("Traceback"), "{}", ran.said);

    // A server that is not there may be there again.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = server.run(&format!("http://{closed}/talk.mp4"), &json!({}));
    assert_eq!(ran.code, Some(75), "{}", ran.said);
    assert!(
        ran.said.contains("yt-dlp cannot get the video") && !ran.said.contains("Traceback"),
        "{}",
        ran.said
    );
}

#[tokio::test]
async fn a_video_is_fetched_through_the_proxy_from_allowed_hosts_only() {
    let server = Server::start();
    server.page("talk", "");
    let bench = Bench::new(ContentType::Youtube).await;
    let source = server.source(&server.url("talk.html"));
    let (result, seen) = bench.convert(&ContentType::Youtube, &source, json!({})).await;
    let converted = result.unwrap();
    assert!(share_of_words(CLIPS[1].1, &converted.content) >= 0.6, "{}", converted.content);
    assert_eq!(converted.metadata["converter"], "youtube-yt-dlp");
    assert!(seen.is_sorted() && seen.last() >= Some(&90), "{seen:?}");

    server.asked.lock().unwrap().clear();
    let port = server.address.port();
    for address in [
        format!("http://localhost:{port}/talk.mp4"),
        format!("https://localhost:{port}/talk.mp4"),
        // The first host is allowed, and the one that it leads to is not.
        server.url("away/talk.mp4"),
    ] {
        let source = server.source(&address);
        let refusal = bench.refusal(&ContentType::Youtube, &source, json!({})).await;
        assert!(refusal.contains("localhost is not among the hosts of the setting"), "{address}: {refusal}");
        assert!(!refusal.contains("Traceback"), "{refusal}");
    }
    let asked = server.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|name| name == "away/talk.mp4"), "{asked:?}");
}

/// What a function of youtube.py or subtitles.py returns for arguments in JSON.
fn called(function: &str, arguments: &Value) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let script = format!(
        "import json, subtitles, sys, youtube; \
         print(json.dumps({function}(*json.loads(sys.argv[1])), default=vars))"
    );
    let ran = Command::new(python())
        .args(["-c", &script, &arguments.to_string()])
        .env("PYTHONPATH", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn captions_that_roll_are_not_said_twice() {
    let rolling = "WEBVTT\nKind: captions\nLanguage: en\n\n\
        00:00:00.400 --> 00:00:02.000 align:start position:0%\n \n\
        he<00:00:00.800><c> was</c><00:00:01.200><c> not</c>\n\n\
        00:00:02.000 --> 00:00:02.010 align:start position:0%\nhe was not\n \n\n\
        00:00:02.010 --> 00:00:04.000 align:start position:0%\nhe was not\nan<00:00:02.500><c> ill</c>\n\n\
        00:00:04.000 --> 00:00:06.000\nan ill\ndisposed man\n";
    let heard = called("subtitles.parse", &json!([rolling, true]));
    let said: Vec<&str> = heard.as_array().unwrap().iter().map(|one| one["text"].as_str().unwrap()).collect();
    assert_eq!(said, ["he was not", "an ill", "disposed man"]);
}

#[test]
fn subrip_is_read_too() {
    let text = "\u{feff}1\r\n00:00:01,000 --> 00:00:02,500\r\n{\\an8}<b>No.</b>\r\n\r\n\
        2\r\n00:00:02,500 --> 00:00:03,000\r\nNo.\r\n\r\n3\r\n00:59:59,999 --> 01:00:01,000\r\n\r\n";
    let heard = called("subtitles.parse", &json!([text]));
    assert_eq!(
        heard,
        json!([{"start": 1.0, "end": 2.5, "text": "No."}, {"start": 2.5, "end": 3.0, "text": "No."}])
    );
}

#[test]
fn the_subtitles_of_the_wanted_or_else_the_spoken_language_are_chosen() {
    for (languages, wanted, spoken, automatic, chosen) in [
        (json!(["de", "en-GB", "en"]), json!("en"), json!(null), false, json!("en")),
        (json!(["de", "en-GB"]), json!("en"), json!("de"), false, json!("en-GB")),
        (json!(["de", "fr"]), json!("en"), json!("de"), false, json!(null)),
        (json!(["fr", "de"]), json!(null), json!("de-AT"), false, json!("de")),
        (json!(["fr", "de"]), json!(null), json!(null), false, json!("fr")),
        (json!(["aa", "en", "en-orig", "fr"]), json!(null), json!(null), true, json!("en-orig")),
        (json!(["aa", "en", "en-orig"]), json!(null), json!("en"), true, json!("en-orig")),
        (json!(["aa", "en", "fr"]), json!(null), json!(null), true, json!(null)),
    ] {
        let arguments = json!([languages, wanted, spoken, automatic]);
        assert_eq!(called("youtube.choose", &arguments), chosen, "{arguments}");
    }
}

#[test]
fn what_is_known_of_a_video_becomes_metadata() {
    let info = json!({
        "id": "x", "title": "A  talk", "channel": "Jane", "upload_date": "20240131", "duration": 12.5,
        "webpage_url": "https://www.youtube.com/watch?v=x", "description": "About it", "formats": [],
        "chapters": [{"start_time": 0.0, "end_time": 5.0, "title": "One"}, {"start_time": 5.0, "end_time": 12.5}],
    });
    assert_eq!(
        called("youtube.facts", &json!([info])),
        json!({
            "video_id": "x", "title": "A talk", "channel": "Jane", "upload_date": "2024-01-31",
            "duration_seconds": 12.5, "url": "https://www.youtube.com/watch?v=x", "description": "About it",
            "chapters": [
                {"start_seconds": 0.0, "end_seconds": 5.0, "title": "One"},
                {"start_seconds": 5.0, "end_seconds": 12.5, "title": "Chapter 2"},
            ],
        })
    );
}
