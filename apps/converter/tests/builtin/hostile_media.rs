//! Sources that pass for recordings and are lists of what to open.

use std::{io::ErrorKind, net::TcpListener, path::PathBuf};

use domain::ContentType;
use serde_json::json;

use crate::{Bench, clip, encoded, ffmpeg, run_script};

/// Playlists and scripts that lead to the recording `secret.ts` beside them, and to a server on this machine, mostly by
/// names of recordings.
fn traps(bench: &Bench, port: u16) -> Vec<PathBuf> {
    let beside = "secret.ts".to_owned();
    let absolute = format!("file://{}", bench.parent.path().join(&beside).display());
    let elsewhere = format!("http://127.0.0.1:{port}/secret.ts");
    let mut traps = Vec::new();
    for (index, target) in [beside, absolute, elsewhere].iter().enumerate() {
        let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n");
        let concat = format!("ffconcat version 1.0\nfile '{target}'\n");
        let dash = format!(
            "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
             mediaPresentationDuration=\"PT9S\"><Period><AdaptationSet contentType=\"audio\">\
             <Representation id=\"1\" bandwidth=\"64000\"><BaseURL>{target}</BaseURL></Representation>\
             </AdaptationSet></Period></MPD>"
        );
        for (name, text) in [
            ("talk.mp3", &hls),
            ("talk.m3u8", &hls),
            ("clip.mp4", &hls),
            ("concat.mp3", &concat),
            ("concat.mp4", &concat),
            ("dash.mp4", &dash),
        ] {
            traps.push(bench.file(&format!("{index}-{name}"), text.as_bytes()));
        }
    }
    traps
}

#[tokio::test]
async fn a_playlist_that_passes_for_a_recording_opens_no_file_and_no_url() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let bench = Bench::new(ContentType::Video).await;
    encoded(1, &bench.parent.path().join("secret.ts"));
    for trap in traps(&bench, server.local_addr().unwrap().port()) {
        // Nothing but the scripts' own lists of formats and protocols is in the way here.
        let film = trap.extension().is_some_and(|extension| extension == "mp4");
        let ran = run_script(if film { "video.py" } else { "audio_pocketsphinx.py" }, &trap, &json!({}));
        assert_eq!(ran.code, Some(65), "{}: {}", trap.display(), ran.said);
        assert!(ran.said.contains("such as a playlist, which is not followed"), "{}", ran.said);
        assert!(!ran.said.contains("Traceback") && ran.result.is_none(), "{}", ran.said);
    }
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let trap = bench.parent.path().join("0-clip.mp4");
    let refusal = bench.refusal(&ContentType::Video, &trap, json!({})).await;
    assert!(refusal.contains("such as a playlist"), "{refusal}");
}

#[tokio::test]
async fn a_playlist_inside_a_container_leads_nowhere_either() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let bench = Bench::new(ContentType::Video).await;
    let lead = bench.file(
        "lead.m3u8",
        format!("#EXTM3U\n#EXTINF:9,\nhttp://{}/x.ts\n#EXT-X-ENDLIST\n", server.local_addr().unwrap()),
    );
    let container = bench.parent.path().join("talk.mkv");
    let recording = clip(1);
    ffmpeg([
        "-i".as_ref(),
        recording.as_os_str(),
        "-attach".as_ref(),
        lead.as_os_str(),
        "-metadata:s:t".as_ref(),
        "mimetype=application/vnd.apple.mpegurl".as_ref(),
        container.as_os_str(),
    ]);
    // The recording is one, and what is attached to it stays closed.
    let ran = run_script("video.py", &container, &json!({}));
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.result.unwrap()["content"].as_str().unwrap().contains("young man"));
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
