//! Recorded speech, by the recogniser that every installation has.

use domain::ContentType;
use serde_json::json;

use crate::{Bench, CLIPS, clip, encoded, ffmpeg, share_of_words};

/// A bench with that recogniser alone, whatever models are on this machine.
async fn bench() -> Bench {
    Bench::open(ContentType::Audio, |_, built_in| {
        for other in ["audio-1-faster-whisper.yaml", "audio-2-whisper-cpp.yaml"] {
            std::fs::remove_file(built_in.join(other)).unwrap();
        }
        Vec::new()
    })
    .await
}

#[tokio::test]
async fn speech_becomes_a_transcript() {
    let bench = bench().await;
    for (index, (name, said)) in CLIPS.into_iter().enumerate() {
        let mp3 = bench.parent.path().join(format!("{index}.mp3"));
        encoded(index, &mp3);
        let (result, seen) = bench.convert(&ContentType::Audio, &mp3, json!({"language": "en"})).await;
        let converted = result.unwrap();
        let share = share_of_words(said, &converted.content);
        println!("{name}: {:.0} % of the words", share * 100.0);
        assert!(share >= 0.6, "{share}: {}", converted.content);
        assert!(converted.content.starts_with("# Transcript\n\n[00:00] "), "{}", converted.content);
        assert!(seen.len() >= 2 && seen.is_sorted() && seen.last() >= Some(&90), "{seen:?}");

        let metadata = converted.metadata;
        let duration = metadata["duration_seconds"].as_f64().unwrap();
        assert!(duration > 2.5 && duration < 7.5);
        assert_eq!(metadata["language"], "en-us");
        assert_eq!(metadata["recogniser"], "pocketsphinx");
        assert!(metadata["recogniser_version"].is_string());
        assert_eq!(metadata["audio_codec"], "mp3");
        let words = metadata["word_count"].as_u64().unwrap();
        assert!(words >= 5 && metadata["segment_count"].as_u64() < Some(words), "{metadata:?}");
        assert_eq!(metadata["converter"], "audio-pocketsphinx");
    }
}

#[tokio::test]
async fn lines_begin_where_speech_does_and_times_can_be_left_out() {
    let bench = bench().await;
    let talk = bench.parent.path().join("talk.ogg");
    let (first, second) = (clip(0), clip(1));
    ffmpeg([
        "-i".as_ref(),
        first.as_os_str(),
        "-i".as_ref(),
        second.as_os_str(),
        "-filter_complex".as_ref(),
        "[0:a]apad=pad_dur=53[a];[a][1:a]concat=n=2:v=0:a=1".as_ref(),
        "-metadata".as_ref(),
        "title=A  talk".as_ref(),
        "-metadata".as_ref(),
        "artist=Jane Austen".as_ref(),
        talk.as_os_str(),
    ]);
    let converted = bench.convert(&ContentType::Audio, &talk, json!({})).await.0.unwrap();
    let lines: Vec<&str> = converted.content.lines().collect();
    assert_eq!(lines[..2], ["# A talk", ""], "{lines:?}");
    assert!(lines[2].starts_with("[00:00] "), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("[01:00] he "), "{lines:?}");
    assert_eq!(converted.metadata["title"], "A talk");
    assert_eq!(converted.metadata["artist"], "Jane Austen");

    let options = json!({"include_timestamps": false});
    let converted = bench.convert(&ContentType::Audio, &talk, options).await.0.unwrap();
    assert!(!converted.content.contains('['), "{}", converted.content);
}

#[tokio::test]
async fn what_is_no_speech_is_refused_with_a_reason() {
    let bench = bench().await;
    for (name, bytes) in [("text.mp3", b"just a text".as_slice()), ("empty.mp3", b"".as_slice())] {
        let refusal = bench.refusal(&ContentType::Audio, &bench.file(name, bytes), json!({})).await;
        assert!(refusal.contains("no sound or video that ffmpeg can decode"), "{name}: {refusal}");
    }
    let speech = bench.parent.path().join("speech.mp3");
    encoded(1, &speech);
    let silence = bench.parent.path().join("silence.wav");
    ffmpeg(["-f".as_ref(), "lavfi".as_ref(), "-i".as_ref(), "anullsrc=d=1".as_ref(), silence.as_os_str()]);
    let nothing = bench.parent.path().join("nothing.wav");
    ffmpeg(["-f".as_ref(), "lavfi".as_ref(), "-i".as_ref(), "anullsrc=d=0".as_ref(), nothing.as_os_str()]);
    let refusal = bench.refusal(&ContentType::Audio, &nothing, json!({})).await;
    assert!(refusal.ends_with("The source holds no sound: its audio stream is empty."), "{refusal}");
    for (path, options, why) in [
        (&silence, json!({}), "No speech"),
        (&speech, json!({"language": "de"}), "English only"),
        (&speech, json!({"beam_size": "five"}), "`beam_size` must be a whole number"),
        (&speech, json!({"task": "summarise"}), "`task` must be"),
    ] {
        let refusal = bench.refusal(&ContentType::Audio, path, options).await;
        assert!(refusal.contains(why), "{refusal}");
        assert!(!refusal.contains("Traceback"), "{refusal}");
    }
}
