//! The whole service in this process: real converters, the embedded library, and a control plane that must not be asked.

use std::{
    collections::HashMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ingest::{Ingest, Settings};
use serde_json::Value;

use crate::site::form;

/// The interpreter that has what the built-in converters need.
fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let named = std::env::var_os("MORAG_CONVERTER_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| root.join(".tools/venv/bin/python"));
    assert!(
        python.exists() || python.components().count() == 1,
        "{} is not there: run `make tools`, or name a Python that has builtin/requirements.txt in MORAG_CONVERTER_PYTHON",
        python.display()
    );
    python
}

struct Whole {
    ingest: Ingest,
    dir: tempfile::TempDir,
    /// Where the control plane would be.
    control_plane: TcpListener,
}

impl Whole {
    async fn start() -> Self {
        let control_plane = TcpListener::bind("127.0.0.1:0").unwrap();
        control_plane.set_nonblocking(true).unwrap();
        Self::of(tempfile::tempdir().unwrap(), control_plane).await
    }

    async fn of(dir: tempfile::TempDir, control_plane: TcpListener) -> Self {
        let variables: HashMap<&str, String> = HashMap::from([
            ("MORAG_INGEST_LISTEN", "127.0.0.1:0".to_owned()),
            ("MORAG_INGEST_DATA_DIR", dir.path().display().to_string()),
            ("MORAG_API_BASE_URL", format!("http://{}", control_plane.local_addr().unwrap())),
            ("MORAG_INGEST_WEBHOOK_URL", "http://127.0.0.1:9".to_owned()),
            ("MORAG_REMOTE_CONVERSION_ENABLED", "true".to_owned()),
            ("MORAG_REMOTE_CONTENT_TYPES", "document".to_owned()),
            ("MORAG_CONVERTER_PYTHON", python().display().to_string()),
        ]);
        let settings = Settings::from(|name| variables.get(name).cloned()).unwrap();
        Self { ingest: Ingest::start(settings).await.unwrap(), dir, control_plane }
    }

    async fn restart(self) -> Self {
        self.ingest.stop().await;
        Self::of(self.dir, self.control_plane).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ingest.address)
    }

    async fn get(&self, path: &str) -> Value {
        reqwest::get(self.url(path)).await.unwrap().json().await.unwrap()
    }

    /// Posts a file, and gives its task once that has ended.
    async fn ingested(&self, name: &str, bytes: &[u8], fields: &[(&str, &str)]) -> Value {
        let request = reqwest::Client::new().post(self.url("/api/v1/ingest/file"));
        let request =
            request.header("content-type", "multipart/form-data; boundary=a-boundary-that-is-nowhere-else");
        let accepted: Value =
            request.body(form(Some((name, bytes)), fields)).send().await.unwrap().json().await.unwrap();
        let path = format!("/api/v1/tasks/{}", accepted["task_id"].as_str().unwrap());
        loop {
            let task = self.get(&path).await;
            if task["status"] == "SUCCESS" || task["status"] == "FAILURE" {
                return task;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The files that are left of a conversion.
    async fn left(&self) -> Vec<PathBuf> {
        let path = self.dir.path();
        let mut left = Vec::new();
        for folder in [path.join("incoming"), path.join("sources")] {
            left.extend(std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        }
        for folder in std::fs::read_dir(path.join("work/local")).unwrap() {
            let entries = std::fs::read_dir(folder.unwrap().path()).into_iter().flatten();
            let paths = entries.map(|entry| entry.unwrap().path());
            left.extend(paths.filter(|path| path.to_string_lossy().contains("conversion-")));
        }
        left
    }

    /// Whatever a task left goes with its end, which the answer to a call may be a moment ahead of.
    async fn nothing_is_left(&self) {
        for _ in 0..100 {
            if self.left().await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("left: {:?}", self.left().await);
    }
}

#[tokio::test]
async fn a_file_is_found_also_after_a_restart_and_the_control_plane_never_asked() {
    let whole = Whole::start().await;
    let text = b"# Minutes\n\nThe committee spoke of the lighthouse.\n";
    let task = whole.ingested("minutes.md", text, &[("remote", "false"), ("document_id", "minutes")]).await;
    assert_eq!(
        (task["status"].as_str(), task["processing_method"].as_str()),
        (Some("SUCCESS"), Some("local")),
        "{task}"
    );
    assert_eq!(task["decision"]["reason"], "not_requested");
    whole.nothing_is_left().await;
    let whole = whole.restart().await;
    let found = whole.get("/api/v1/search?q=lighthouse").await;
    assert_eq!(found["results"][0]["document_id"], "minutes", "{found}");
    assert_eq!(found["results"][0]["metadata"]["processing_method"], "local");
    assert!(whole.control_plane.accept().is_err(), "somebody asked the control plane");
    whole.ingest.stop().await;
}

#[tokio::test]
async fn an_archive_bomb_fails_with_a_sentence_and_leaves_nothing() {
    let whole = Whole::start().await;
    let bomb = whole.dir.path().join("bomb.docx");
    let script = "import sys, zipfile\n\
        with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as archive:\n\
        \x20   archive.writestr('[Content_Types].xml', '<Types/>')\n\
        \x20   archive.writestr('word/document.xml', b'0' * (100 << 20))\n";
    let status = Command::new(python()).args(["-c", script]).arg(&bomb).status().unwrap();
    assert!(status.success());
    let bytes = std::fs::read(&bomb).unwrap();
    let task = whole.ingested("bomb.docx", &bytes, &[("document_id", "bomb")]).await;
    assert_eq!(task["status"], "FAILURE", "{task}");
    assert!(task["error"].as_str().unwrap().contains("decompression bomb"), "{task}");
    assert_eq!(task["stage"], "local_processing");
    whole.nothing_is_left().await;
    let found = whole.get("/api/v1/search?q=bomb&document_id=bomb").await;
    assert_eq!(found["results"], serde_json::json!([]));
    whole.ingest.stop().await;
}

#[tokio::test]
async fn a_type_that_nothing_here_converts_fails_with_a_sentence() {
    let whole = Whole::start().await;
    let task = whole.ingested("a.bin", b"bytes", &[("source_type", "x-mine")]).await;
    assert_eq!(task["status"], "FAILURE", "{task}");
    assert!(task["error"].as_str().unwrap().contains("x-mine"), "{task}");
    whole.nothing_is_left().await;
    whole.ingest.stop().await;
}
