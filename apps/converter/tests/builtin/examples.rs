//! The examples of converters of one's own, as `docs/CONVERTERS.md` shows them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use domain::ContentType;
use remote_converter::{convert::ConvertError, descriptions};
use serde_json::{Value, json};

use crate::{Bench, document::pdf_drawn, python};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("examples/converters")
}

#[tokio::test]
async fn the_example_for_tables_takes_pdf_files_and_leaves_the_rest_to_the_built_in_one() {
    let bench = Bench::open(ContentType::Document, |_, _| vec![examples().join("pdf-tables")]).await;
    let lines = "72 640 200 60 re S 72 670 m 272 670 l S 172 640 m 172 700 l S";
    let cells: String = [("Fish", 80, 680), ("Price", 180, 680), ("Cod", 80, 650), ("7", 180, 650)]
        .map(|(text, x, y)| format!(" BT /F1 12 Tf {x} {y} Td ({text}) Tj ET"))
        .concat();
    let file = bench.file("prices.pdf", pdf_drawn(&[format!("{lines}{cells}")]));
    let converted = bench.document(&file).await;
    assert_eq!(converted.content, "## Table 1, page 1\n\n| Fish | Price |\n| --- | --- |\n| Cod | 7 |\n");
    assert_eq!(converted.metadata["tables"], 1);
    assert_eq!(converted.metadata["converter"], "pdf-tables");
    for (name, bytes, why) in [
        ("none.pdf", pdf_drawn(&["BT /F1 12 Tf 72 700 Td (No table) Tj ET".to_owned()]), "no tables"),
        ("torn.pdf", b"%PDF-1.4 torn".to_vec(), "cannot be read"),
    ] {
        let refusal = bench.refusal(&ContentType::Document, &bench.file(name, bytes), json!({})).await;
        assert!(refusal.contains(why), "{name}: {refusal}");
    }
    assert_eq!(
        bench.document(&bench.file("a.txt", "text")).await.metadata["converter"],
        "document-markitdown"
    );
}

/// The packages' names and signatures, as their own remote converter uses them.
const PROCESSORS: [(ContentType, &str, &str, &str); 6] = [
    (ContentType::Audio, "morag_audio", "AudioProcessor", "process_audio"),
    (ContentType::Video, "morag_video", "VideoProcessor", "process_video"),
    (ContentType::Document, "morag_document", "DocumentProcessor", "process_document"),
    (ContentType::Image, "morag_image", "ImageProcessor", "process_image"),
    (ContentType::Web, "morag_web", "WebProcessor", "process_url"),
    (ContentType::Youtube, "morag_youtube", "YouTubeProcessor", "process_youtube_video"),
];

const STAND_IN: &str = r#"
import datetime


class ProcessingResult:
    def __init__(self, success, text_content, metadata, processing_time, error_message):
        self.success, self.text_content, self.metadata = success, text_content, metadata
        self.processing_time, self.error_message = processing_time, error_message


class CLASS:
    async def METHOD(self, source, options):
        print('{"event": "Stage: transcription (67%)", "level": "info"}', flush=True)
        if options.get("fail"):
            return ProcessingResult(False, "", {}, 0.1, "the model does not fit")
        if not source.startswith("http"):
            with open(source) as file:
                source = file.read()
        metadata = {"options": options, "day": datetime.date(2024, 5, 6), "share": [float("nan")]}
        return ProcessingResult(True, f"CLASS read {source}", metadata, 0.1, None)
"#;

#[tokio::test]
async fn the_processors_of_the_original_are_converters_of_all_six_types() {
    for (content_type, package, class, method) in PROCESSORS {
        let bench = Bench::open(content_type.clone(), |folder, _| {
            let own = folder.join("morag");
            fs::create_dir(&own).unwrap();
            for entry in fs::read_dir(examples().join("morag")).unwrap().map(Result::unwrap) {
                if entry.path().is_file() {
                    fs::copy(entry.path(), own.join(entry.file_name())).unwrap();
                }
            }
            let text = STAND_IN.replace("CLASS", class).replace("METHOD", method);
            fs::write(own.join(format!("{package}.py")), text).unwrap();
            vec![own]
        })
        .await;
        let is_url = matches!(content_type, ContentType::Web | ContentType::Youtube);
        let source = if is_url { "http://127.0.0.1/a" } else { "the source" };
        let file = bench.file("source", format!("{source}\n"));
        let (converted, seen) = bench.convert(&content_type, &file, json!({"a": 1})).await;
        let converted = converted.unwrap();
        assert_eq!(converted.content.trim_end(), format!("{class} read {source}"));
        assert_eq!(converted.metadata["options"], json!({"a": 1}));
        assert_eq!(converted.metadata["day"], "2024-05-06");
        assert_eq!(converted.metadata["share"], json!([null]));
        assert_eq!(converted.metadata["converter"], format!("morag-{}", content_type.as_str()));
        assert_eq!(seen, [67]);
        match bench.convert(&content_type, &file, json!({"fail": true})).await.0 {
            Err(ConvertError::Failed { message, retryable: true }) => {
                assert!(message.contains("the model does not fit"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn numbers_that_json_does_not_know_are_left_out_of_a_result() {
    let folder = tempfile::tempdir().unwrap();
    let script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from converting import run\n\
                  known = {'a': float('nan'), 'b': [1.5, float('inf')]}\n\
                  run(lambda path, options: ('text', known), None)";
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let mut command = Command::new(python());
    command.args(["-c", script]).arg(built_in).args(["--input", "none", "--output", "output"]);
    assert!(command.current_dir(folder.path()).status().unwrap().success());
    let result: Value = serde_json::from_slice(&fs::read(folder.path().join("output")).unwrap()).unwrap();
    assert_eq!(result, json!({"content": "text", "metadata": {"a": null, "b": [1.5, null]}}));
}

#[test]
fn every_description_in_the_documentation_is_right() {
    let text = fs::read_to_string(examples().join("../../docs/CONVERTERS.md")).unwrap();
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    let folder = tempfile::tempdir().unwrap();
    for (number, block) in blocks.into_iter().enumerate() {
        fs::write(folder.path().join(format!("{number}.yaml")), block).unwrap();
    }
    let all = descriptions::load(&[folder.path().to_owned()]).unwrap();
    assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["my-converter", "pandoc"]);
}
