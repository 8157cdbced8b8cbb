//! Moving pictures.

use std::{ffi::OsStr, path::Path};

use domain::ContentType;
use serde_json::json;

use crate::{Bench, CLIPS, clip, encoded, ffmpeg, share_of_words};

const CHAPTERS: &str = ";FFMETADATA1\ntitle=Sense and Sensibility\n\
    [CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=7000\ntitle=Leisure\n\
    [CHAPTER]\nTIMEBASE=1/1000\nSTART=7000\nEND=10000\ntitle=A young man\n";

/// Ten seconds of a test picture with both clips as its sound, and a chapter for each.
fn filmed(bench: &Bench, target: &Path) {
    let (chapters, first, second) = (bench.file("chapters.txt", CHAPTERS), clip(0), clip(1));
    let picture = "testsrc=size=320x240:rate=25:duration=10";
    let mut arguments: Vec<&OsStr> = Vec::new();
    arguments.extend(["-f", "lavfi", "-i", picture, "-i"].map(OsStr::new));
    arguments.extend([
        first.as_os_str(),
        "-i".as_ref(),
        second.as_os_str(),
        "-i".as_ref(),
        chapters.as_os_str(),
    ]);
    arguments.extend(
        ["-filter_complex", "[1:a][2:a]concat=n=2:v=0:a=1[a]", "-map", "0:v", "-map", "[a]"].map(OsStr::new),
    );
    arguments.extend(["-map_metadata", "3", "-map_chapters", "3", "-g", "50", "-b:a", "64k"].map(OsStr::new));
    arguments.push(target.as_os_str());
    ffmpeg(arguments);
}

#[tokio::test]
async fn what_is_said_in_a_video_stands_under_its_chapters() {
    let bench = Bench::new(ContentType::Video).await;
    for name in ["film.mp4", "film.mkv"] {
        let film = bench.parent.path().join(name);
        filmed(&bench, &film);
        let (result, seen) = bench.convert(&ContentType::Video, &film, json!({"max_keyframes": 3})).await;
        let converted = result.unwrap();
        let text = &converted.content;
        assert!(text.starts_with("# Sense and Sensibility\n\n## Leisure [00:00]\n\n[00:00] "), "{text}");
        let (first, second) = text.split_once("\n\n## A young man [00:07]\n\n[00:07] ").unwrap();
        assert!(share_of_words(CLIPS[0].1, first) >= 0.6, "{first}");
        assert!(share_of_words(CLIPS[1].1, second) >= 0.4, "{second}");
        assert!(seen.len() >= 3 && seen.is_sorted(), "{seen:?}");

        let metadata = converted.metadata;
        let duration = metadata["duration_seconds"].as_f64().unwrap();
        assert!((9.9..10.3).contains(&duration), "{duration}");
        assert_eq!((&metadata["width"], &metadata["height"]), (&json!(320), &json!(240)));
        assert_eq!((&metadata["resolution"], &metadata["frame_rate"]), (&json!("320x240"), &json!(25.0)));
        assert_eq!(metadata["video_codec"], "h264");
        assert!(metadata["audio_codec"].is_string());
        assert_eq!(
            (&metadata["keyframe_count"], &metadata["keyframes"]),
            (&json!(5), &json!([0.0, 4.0, 8.0]))
        );
        assert_eq!(metadata["chapters"][1]["title"], "A young man");
        assert_eq!(metadata["chapters"][1]["start_seconds"], 7.0);
        assert_eq!(metadata["has_speech"], true);
        assert_eq!(metadata["language"], "en-us");
        assert_eq!(metadata["converter"], "video-ffmpeg");
    }
}

#[tokio::test]
async fn a_video_without_pictures_becomes_a_transcript() {
    let bench = Bench::new(ContentType::Video).await;
    let video = bench.parent.path().join("clip.mp4");
    encoded(1, &video);
    let converted = bench.convert(&ContentType::Video, &video, json!({})).await.0.unwrap();
    assert!(share_of_words(CLIPS[1].1, &converted.content) >= 0.6, "{}", converted.content);
    assert!(!converted.metadata.contains_key("resolution"));
}

#[tokio::test]
async fn a_video_in_which_nobody_speaks_is_described() {
    let bench = Bench::new(ContentType::Video).await;
    let mute = bench.parent.path().join("mute.webm");
    let picture = "testsrc=size=64x48:rate=10:duration=2";
    ffmpeg(["-f", "lavfi", "-i", picture, "-metadata", "title=A test", &mute.display().to_string()]);
    let converted =
        bench.convert(&ContentType::Video, &mute, json!({"extract_keyframes": false})).await.0.unwrap();
    assert_eq!(
        converted.content,
        "# A test\n\nThis video lasts 00:02, has pictures of 64x48 pixels, and has no sound.\n"
    );
    assert_eq!(converted.metadata["has_speech"], false);
    assert!(!converted.metadata.contains_key("keyframes"));

    let silent = bench.parent.path().join("silent.mp4");
    ffmpeg([
        "-f",
        "lavfi",
        "-i",
        picture,
        "-f",
        "lavfi",
        "-i",
        "anullsrc=d=2",
        &silent.display().to_string(),
    ]);
    let converted = bench.convert(&ContentType::Video, &silent, json!({})).await.0.unwrap();
    assert!(converted.content.contains("sound in which no speech was recognised"), "{}", converted.content);
}

#[tokio::test]
async fn of_several_tracks_the_wanted_one_is_heard_and_the_next_where_nobody_speaks() {
    let bench = Bench::new(ContentType::Video).await;
    // The first says one clip, the second the other, and nobody speaks in the third.
    let (first, second) = (clip(0), clip(1));
    for (name, default, language, options, expected) in [
        ("default.mkv", "1", "ger", json!({}), 2),
        ("language.mkv", "0", "eng", json!({"language": "en"}), 2),
        ("silent.mkv", "2", "ger", json!({}), 1),
    ] {
        let film = bench.parent.path().join(name);
        let language = format!("language={language}");
        let default = format!("-disposition:a:{default}");
        let mut arguments: Vec<&OsStr> =
            vec!["-i".as_ref(), first.as_os_str(), "-i".as_ref(), second.as_os_str()];
        arguments.extend(
            ["-f", "lavfi", "-i", "anullsrc=d=3", "-map", "0", "-map", "1", "-map", "2"].map(OsStr::new),
        );
        arguments.extend(
            ["-disposition:a", "0", &default, "default", "-metadata:s:a:1", &language].map(OsStr::new),
        );
        arguments.push(film.as_os_str());
        ffmpeg(arguments);
        let converted = bench.convert(&ContentType::Video, &film, options).await.0.unwrap();
        assert_eq!(converted.metadata["audio_track"], expected, "{name}: {}", converted.content);
        let said = CLIPS[expected - 1].1;
        assert!(share_of_words(said, &converted.content) >= 0.4, "{name}: {}", converted.content);
    }
}

#[tokio::test]
async fn what_is_no_video_is_refused_with_a_reason() {
    let bench = Bench::new(ContentType::Video).await;
    let film = bench.parent.path().join("film.mp4");
    filmed(&bench, &film);
    let cut = std::fs::read(&film).unwrap();
    for (name, bytes) in
        [("cut.mp4", &cut[..cut.len() / 2]), ("text.mp4", b"just a text"), ("empty.mkv", b"")]
    {
        let refusal = bench.refusal(&ContentType::Video, &bench.file(name, bytes), json!({})).await;
        assert!(refusal.contains("no sound or video that ffmpeg can decode"), "{name}: {refusal}");
        assert!(!refusal.contains("Traceback"), "{refusal}");
    }
}
