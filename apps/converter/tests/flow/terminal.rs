//! What a person at a terminal sees, and what a log file gets instead.

use std::{
    fs::File,
    io::Read,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::Value;

use crate::{converter::Converter, pause, server::Server};

/// Says that it is halfway, with an escape sequence in it, and ends when it is told to.
const HALFWAY: &str = r#"printf '[40%%] Half\033[2Jway there\n'; echo 'Stage: listening (41%)'
    until [ -e "$HOME/go" ]; do sleep 0.05; done; printf '{"content":"x"}' >"$2""#;

/// A pseudo-terminal, and all that was written to it.
struct Terminal {
    path: PathBuf,
    seen: Arc<Mutex<Vec<u8>>>,
    is_gone: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: 140, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        // Reading ends when nobody holds the other side any more, so this holds it until somebody else does.
        let held = File::options().write(true).open(&path).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let is_gone = Arc::new(AtomicBool::new(false));
        let (mut master, kept, ends) = (File::from(master), Arc::clone(&seen), Arc::clone(&is_gone));
        let reader = std::thread::spawn(move || {
            let _held = held;
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = master.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                if ends.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        Self { path, seen, is_gone, reader }
    }

    /// Goes away, as when its window is closed, once more is written to it.
    fn hang_up(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    async fn shows(&self, text: &str) {
        while !self.text().contains(text) {
            pause().await;
        }
    }
}

fn has_colours(text: &str) -> bool {
    text.match_indices("\x1b[").any(|(at, _)| {
        let sequence = &text[at + 2..];
        let parameters = sequence.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        parameters.starts_with('m')
    })
}

fn variables(more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let term = [("TERM", "xterm-256color")];
    term.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_every_running_job_has_a_line_with_a_bar_below_the_log() {
    let (server, terminal) = (Server::start().await, Terminal::new());
    let mut converter = Converter::start_with_log(&terminal.path, &server, HALFWAY, &variables(&[]));
    let jobs = [server.offer("one"), server.offer("two")];
    for job in &jobs {
        terminal.shows(&format!("…{} source.txt", &job[28..])).await;
        assert_eq!(server.wait_for_progress(job, 41).await.body["message"], "listening");
    }
    terminal.shows("========>           ").await;
    terminal.shows("41 %").await;
    terminal.shows("listening").await;

    std::fs::write(converter.home().join("go"), "").unwrap();
    for job in &jobs {
        server.wait_for("result", job).await;
    }
    terminal.shows("submitted").await;
    converter.signal("TERM");
    terminal.shows("stopped").await;
    converter.wait().await;
    let text = terminal.text();
    assert!(has_colours(&text), "the log of a person is coloured");
    // Lines are cleared one by one: this is what only the job has written.
    assert!(!text.contains("\x1b[2J"), "{text:?}");
    for line in ["started", "claimed", "converting", "converted"] {
        assert!(text.contains(line), "{line}: {text:?}");
    }
    let after_the_last_bar = text.rsplit("source.txt").next().unwrap();
    assert!(after_the_last_bar.contains("\x1b[2K"), "no line is left when no job runs: {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_goes_away_stops_no_job() {
    let (server, terminal) = (Server::start().await, Terminal::new());
    let converter = Converter::start_with_log(&terminal.path, &server, HALFWAY, &variables(&[]));
    let job = server.offer("one");
    terminal.shows("41 %").await;
    terminal.hang_up();
    while !terminal.reader.is_finished() {
        pause().await;
    }
    std::fs::write(converter.home().join("go"), "").unwrap();
    assert_eq!(server.wait_for("result", &job).await.body["success"], true);
    let job = server.offer("two");
    assert_eq!(server.wait_for("result", &job).await.body["success"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_color_leaves_the_colours_out_and_the_bars_in() {
    let (server, terminal) = (Server::start().await, Terminal::new());
    let variables = variables(&[("NO_COLOR", "1")]);
    let converter = Converter::start_with_log(&terminal.path, &server, HALFWAY, &variables);
    let job = server.offer("hello");
    terminal.shows("41 %").await;
    std::fs::write(converter.home().join("go"), "").unwrap();
    server.wait_for("result", &job).await;
    terminal.shows("submitted").await;
    let text = terminal.text();
    assert!(!has_colours(&text), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_knows_no_sequences_shows_the_log_only() {
    let (server, terminal) = (Server::start().await, Terminal::new());
    let variables = [("TERM", "dumb".to_owned()), ("NO_COLOR", "1".to_owned())];
    let converter = Converter::start_with_log(&terminal.path, &server, HALFWAY, &variables);
    let job = server.offer("hello");
    server.wait_for_progress(&job, 41).await;
    std::fs::write(converter.home().join("go"), "").unwrap();
    terminal.shows("submitted").await;
    let text = terminal.text();
    assert!(!text.contains('\x1b') && !text.contains("41 %"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_every_line_is_a_json_object() {
    let server = Server::start().await;
    let mut converter = Converter::start(&server, HALFWAY);
    let job = server.offer("hello");
    server.wait_for_progress(&job, 41).await;
    std::fs::write(converter.home().join("go"), "").unwrap();
    server.wait_for("result", &job).await;
    converter.signal("TERM");
    let (code, log) = converter.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains('\x1b'), "{log:?}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}
