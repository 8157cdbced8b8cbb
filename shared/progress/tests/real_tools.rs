//! What the tools themselves write is understood.
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes helpers of tests for code")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use progress::{Origin, ProgressEvent, ProgressStream};

/// The Python of `MORAG_TEST_PYTHON`, else of `.tools/venv`.
fn python() -> Command {
    let interpreter = std::env::var_os("MORAG_TEST_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/venv/bin/python"),
        PathBuf::from,
    );
    let probe = Command::new(&interpreter).args(["-c", "import imageio_ffmpeg, tqdm, yt_dlp"]).output();
    assert!(
        probe.is_ok_and(|probe| probe.status.success()),
        "{} lacks a tool; run `make tools`, or name another Python in MORAG_TEST_PYTHON",
        interpreter.display()
    );
    Command::new(interpreter)
}

fn ffmpeg() -> Command {
    let found =
        python().args(["-c", "import imageio_ffmpeg as i; print(i.get_ffmpeg_exe())"]).output().unwrap();
    let mut command = Command::new(String::from_utf8(found.stdout).unwrap().trim());
    command.args(["-hide_banner", "-nostdin", "-y"]);
    command
}

/// The progress in all that a command writes to its two outputs, first the one, then the other.
fn progress_of(command: &mut Command) -> Vec<ProgressEvent> {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let mut stream = ProgressStream::default();
    let mut events = stream.push(&output.stderr);
    events.extend(stream.finish());
    events.extend(stream.push(&output.stdout));
    events.extend(stream.finish());
    assert!(!events.is_empty(), "{text}");
    events
}

/// That the percentages rise and that there are some on the way.
fn rises(events: &[ProgressEvent]) {
    let percentages: Vec<u8> = events.iter().map(|event| event.percentage).collect();
    assert!(percentages.is_sorted(), "{percentages:?}");
    assert!(percentages.iter().any(|percentage| (1..=99).contains(percentage)), "{percentages:?}");
    assert!(events.iter().all(|event| event.origin == Origin::Tool));
}

fn recording(folder: &Path) -> PathBuf {
    let path = folder.join("in.wav");
    let made = ffmpeg().args(["-f", "lavfi", "-i", "sine=duration=20"]).arg(&path).output().unwrap();
    assert!(made.status.success());
    path
}

#[test]
fn the_status_lines_of_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    let input = recording(folder.path());
    let events = progress_of(
        ffmpeg()
            .args(["-stats_period", "0.1", "-readrate", "20", "-i"])
            .arg(&input)
            .arg(folder.path().join("out.wav")),
    );
    rises(&events);
    assert_eq!(events.last().unwrap().message, "ffmpeg: 00:00:20 of 00:00:20");
}

#[test]
fn the_progress_blocks_of_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    let input = recording(folder.path());
    let events = progress_of(
        ffmpeg()
            .args(["-nostats", "-progress", "pipe:1", "-stats_period", "0.1", "-readrate", "20", "-i"])
            .arg(&input)
            .arg(folder.path().join("out.wav")),
    );
    // The last status line is on standard error, which is read first here.
    let (status, blocks) = events.split_at(1);
    assert_eq!(status[0].percentage, 100);
    rises(blocks);
    assert_eq!(blocks.last().unwrap().percentage, 100);
}

#[test]
fn the_bars_of_tqdm() {
    let script = "import time, tqdm\nfor i in tqdm.tqdm(range(20), desc='Reading pages'): time.sleep(0.02)";
    let events = progress_of(python().args(["-c", script]));
    rises(&events);
    let last = events.last().unwrap();
    assert_eq!((last.percentage, last.message.as_str()), (100, "Reading pages"));
}

#[test]
fn the_downloads_of_yt_dlp() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/talk.mp4", listener.local_addr().unwrap());
    std::thread::spawn(move || serve(&listener));
    let events = progress_of(
        python()
            .args(["-m", "yt_dlp", "--no-config", "--no-cache-dir", "--proxy", "", &url, "-o"])
            .arg(folder.path().join("out.mp4")),
    );
    rises(&events);
    let last = events.last().unwrap();
    assert_eq!((last.percentage, last.stage.as_deref()), (100, Some("Downloading")));
    assert!(last.message.starts_with("Downloading 2.86MiB in "), "{}", last.message);
}

/// Answers every request with three million bytes that call themselves a video.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let request = BufReader::new(stream.try_clone().unwrap());
        let _ = request.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).count();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\ncontent-length: 3000000\r\nconnection: close\r\n\r\n";
        // Who only wants to know what it is hangs up.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![0; 3_000_000]));
    }
}
