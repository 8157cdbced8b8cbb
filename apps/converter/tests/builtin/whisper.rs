//! Recorded speech by Whisper: everything but its weights, in whose place a model stands that always says the same.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use domain::ContentType;
use serde_json::{Value, json};

use crate::{Bench, encoded, python};

/// A description of the operator's own that runs a built-in script with a variable set.
fn described(folder: &Path, built_in: &Path, script: &str, variable: &str, model: &Path) -> PathBuf {
    let (variable, script) = (format!("{variable}={}", model.display()), built_in.join(script));
    let begin = ["env", &variable, "{python}", script.to_str().unwrap()];
    let check = [&begin[..], &["--check"]].concat();
    let files = ["--input", "{input}", "--output", "{output}", "--options", "{options}"];
    let command = [&begin[..], &files].concat();
    let description = json!({
        "name": "mine",
        "content_types": ["audio"],
        "requires": check,
        "command": command,
        "result": {"format": "json", "from": "file"},
    });
    let path = folder.join("mine.yaml");
    // Whatever is JSON is YAML too.
    std::fs::write(&path, description.to_string()).unwrap();
    path
}

/// A bench that recognises with a model in the format, `ct2` or `ggml`, whose path the variable has.
async fn bench(format: &str, script: &str, variable: &str) -> Bench {
    Bench::open(ContentType::Audio, |folder, built_in| {
        let model = folder.join("tiny");
        make(format, &model);
        vec![described(folder, built_in, script, variable, &model)]
    })
    .await
}

fn make(format: &str, target: &Path) {
    let maker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/builtin/tiny_whisper.py");
    let made = Command::new(python()).arg(maker).arg(format).arg(target).status().unwrap();
    assert!(made.success());
}

async fn transcript(bench: &Bench, options: Value) -> (String, serde_json::Map<String, Value>) {
    let mp3 = bench.parent.path().join("clip.mp3");
    let _ = std::fs::remove_file(&mp3);
    encoded(1, &mp3);
    let (result, seen) = bench.convert(&ContentType::Audio, &mp3, options).await;
    let converted = result.unwrap();
    assert!(seen.len() >= 3 && seen.is_sorted() && seen.last() >= Some(&90), "{seen:?}");
    // The operator's own description comes before the built-in ones.
    assert_eq!(converted.metadata["converter"], "mine");
    (converted.content, converted.metadata)
}

#[tokio::test]
async fn faster_whisper_makes_a_transcript() {
    let bench = bench("ct2", "audio_whisper.py", "MORAG_WHISPER_MODEL").await;
    let (content, metadata) = transcript(&bench, json!({})).await;
    assert_eq!(content, "# Transcript\n\n[00:00] He was\n[00:01] not ill disposed\n");
    assert_eq!(metadata["recogniser"], "faster-whisper");
    assert_eq!(metadata["language"], "en");
    assert_eq!(metadata["model"], "tiny");
    assert_eq!((&metadata["segment_count"], &metadata["word_count"]), (&json!(2), &json!(5)));
    assert!(metadata["duration_seconds"].as_f64().unwrap() > 2.5);
    assert!(metadata["device"] == "cpu" || metadata["device"] == "cuda");

    let options = json!({
        "language": "de-AT", "task": "translate", "beam_size": 1, "vad_filter": false, "model": "large-v3",
        "include_timestamps": false,
    });
    let (content, metadata) = transcript(&bench, options).await;
    assert_eq!(content, "# Transcript\n\nHe was not ill disposed\n");
    // The model that is wanted is not here, and is not fetched.
    assert_eq!((&metadata["language"], &metadata["model"]), (&json!("de"), &json!("tiny")));

    let mp3 = bench.parent.path().join("clip.mp3");
    let refusal = bench.refusal(&ContentType::Audio, &mp3, json!({"language": "xx"})).await;
    assert!(refusal.contains("does not know the language 'xx'"), "{refusal}");
}

/// What Python prints that has the script `audio_whisper` as a module and the tiny model, and in `argv` a recording.
fn printed(device: &str, code: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    make("ct2", &folder.path().join("tiny"));
    encoded(0, &folder.path().join("clip.mp3"));
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let script = format!("import sys; sys.path.insert(0, sys.argv[1]); import audio_whisper, speech\n{code}");
    let mut command = Command::new(python());
    command.args(["-c", &script]).arg(built_in).current_dir(folder.path());
    command.env("MORAG_WHISPER_MODEL", "tiny").env("MORAG_WHISPER_DEVICE", device);
    let ran = command.output().unwrap();
    (ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
}

#[test]
fn a_gpu_without_the_library_that_it_needs_is_not_used_and_is_said_to_be_of_no_use() {
    let code = "import ctranslate2; ctranslate2.get_cuda_device_count = lambda: 1\n\
                audio_whisper.CUBLAS = 'libof-no-machine.so'; print(audio_whisper.check())";
    let (fine, said) = printed("auto", code);
    assert!(fine && said.contains("model tiny on cpu (the GPU needs libof-no-machine.so"), "{said}");
    let (fine, said) = printed("cuda", code);
    assert!(!fine && said.contains("MORAG_WHISPER_DEVICE is cuda, and the GPU needs libof-no"), "{said}");
}

#[test]
fn a_long_recording_is_recognised_in_stretches_whose_times_go_on() {
    // The clip lasts seven seconds, and the model says the same of each stretch.
    let code = "audio_whisper.STRETCH_SECONDS = 4; audio_whisper.CUT_SECONDS = 2\n\
                from converting import Steps\n\
                segments, known = audio_whisper.recognise('clip.mp3', speech.Wanted.of({'vad_filter': False}), Steps().part)\n\
                assert [one.text for one in segments] == ['He was', 'not ill disposed'] * 2, segments\n\
                assert 3 < segments[2].start < 7 and segments[1].end < segments[2].start, segments\n\
                assert 6.5 < known['duration_seconds'] < 7.5, known";
    let (fine, said) = printed("cpu", code);
    assert!(fine, "{said}");
}

#[tokio::test]
async fn a_model_in_the_hugging_face_cache_is_found() {
    let bench = Bench::open(ContentType::Audio, |folder, built_in| {
        let cache = folder.join("cache");
        let model = cache.join("models--Systran--faster-whisper-base");
        std::fs::create_dir_all(model.join("snapshots")).unwrap();
        std::fs::create_dir_all(model.join("refs")).unwrap();
        std::fs::write(model.join("refs/main"), "1").unwrap();
        make("ct2", &model.join("snapshots/1"));
        vec![described(folder, built_in, "audio_whisper.py", "HF_HUB_CACHE", &cache)]
    })
    .await;
    let (content, metadata) = transcript(&bench, json!({"model_size": "base"})).await;
    assert!(content.contains("He was"), "{content}");
    assert_eq!(metadata["model"], "base");
}

#[tokio::test]
async fn whisper_cpp_makes_a_transcript() {
    let bench = bench("ggml", "audio_whisper_cpp.py", "MORAG_WHISPER_CPP_MODEL").await;
    let (content, metadata) = transcript(&bench, json!({})).await;
    assert_eq!(content, "# Transcript\n\n[00:00] He was\n[00:01] not ill disposed\n");
    assert_eq!(metadata["recogniser"], "whisper.cpp");
    assert_eq!(metadata["language"], "en");
    assert_eq!(metadata["model"], "tiny");
    assert_eq!((&metadata["segment_count"], &metadata["word_count"]), (&json!(2), &json!(5)));

    let options = json!({"language": "de", "task": "translate", "beam_size": 1, "include_timestamps": false});
    let (content, metadata) = transcript(&bench, options).await;
    assert_eq!(content, "# Transcript\n\nHe was not ill disposed\n");
    assert_eq!(metadata["language"], "de");

    let mp3 = bench.parent.path().join("clip.mp3");
    let refusal = bench.refusal(&ContentType::Audio, &mp3, json!({"language": "xx"})).await;
    assert!(refusal.contains("does not know the language"), "{refusal}");
}
