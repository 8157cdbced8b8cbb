//! The converter and the command line as they are. Only their base URL and their keys are this stack's.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use system_tests::{Client, ConverterProgram, binary};
use tempfile::TempDir;

use crate::{PATIENCE, tenant::Tenant, until};

/// Above the 64 MiB up to which a file or a result travels in one request.
const LARGE: usize = 66 << 20;

const DESCRIPTION: &str = "name: own\ncontent_types: [x-own]\ncommand: [sh, '{here}/convert.sh', '{input}']\n\
    result: {format: markdown, from: stdout}\nlimits: {max_output_bytes: 200000000}\n";

/// A tenant, a converter that works for it, and the command line with a key for everything.
pub(crate) struct Scene {
    pub(crate) tenant: Tenant,
    admin: Client,
    pub(crate) converter: ConverterProgram,
    folder: TempDir,
}

impl Scene {
    /// Starts the converter for these types, of which `x-own` is converted by this shell script.
    pub(crate) async fn start(content_types: &str, script: &str) -> Self {
        // Building them, or waiting for somebody else's build, is no part of the time that a test takes.
        tokio::task::block_in_place(|| (binary("remote-converter"), binary("remote-jobs")));
        let tenant = Tenant::new().await;
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("converters")).unwrap();
        fs::write(home.join("converters/own.yaml"), DESCRIPTION).unwrap();
        fs::write(home.join("converters/convert.sh"), script).unwrap();
        let settings = format!(
            "worker_id: gpu-box\napi_base_url: {}\ncontent_types: [{content_types}]\ntemp_dir: temp\n\
             poll_interval: 1\nconverters: [converters]\nlog_level: DEBUG\n",
            tenant.deployment.base
        );
        let python = std::env::var("MORAG_CONVERTER_PYTHON").unwrap_or_else(|_| {
            let prepared =
                Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".tools/venv/bin/python");
            assert!(prepared.exists(), "{} is missing; run `make tools`", prepared.display());
            prepared.to_str().unwrap().to_owned()
        });
        let variables = [("MORAG_API_KEY", tenant.worker.key()), ("MORAG_CONVERTER_PYTHON", &python)];
        let converter = ConverterProgram::start(&home, &settings, &variables);
        let admin = tenant.client(&["admin"]).await;
        Self { tenant, admin, converter, folder }
    }

    /// Runs the command line to its end, which must be a success.
    fn remote_jobs(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("remote-jobs"));
        command.args(arguments).env("MORAG_API_KEY", self.admin.key());
        command.env("MORAG_API_BASE_URL", &self.tenant.deployment.base);
        let output = tokio::task::block_in_place(|| command.output()).unwrap();
        assert!(
            output.status.success(),
            "remote-jobs {arguments:?}: {}{}\nthe converter's log: {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.converter.log(),
        );
        output
    }

    /// The documents that it wrote, one a line.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.remote_jobs(&[&["--json"], arguments].concat());
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Submits a source of the type `x-own` and gives the job's id.
    fn submitted(&self, arguments: &[&str]) -> String {
        let submitted = self.json(&[&["submit", "--type", "x-own"], arguments].concat());
        submitted[0]["job_id"].as_str().unwrap().to_owned()
    }

    /// Writes a source and gives its path.
    fn source(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Submits sources of a type, waits for their ends, and gives the folder of their texts.
    fn converted(&self, content_type: &str, sources: &[&str]) -> std::path::PathBuf {
        let out = self.folder.path().join("texts");
        fs::create_dir_all(&out).unwrap();
        let options = ["submit", "--type", content_type, "--wait", "--out", out.to_str().unwrap()];
        self.remote_jobs(&[&options, sources].concat());
        out
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_go_in_by_the_command_line_and_their_texts_come_out_of_the_converter() {
    let scene = Scene::start("document", "").await;
    let page =
        "<html><body><h1>Grüße</h1><table><tr><th>a</th></tr><tr><td>1</td></tr></table></body></html>";
    let page = scene.source("Seite 1.html", page);
    let minutes = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/documents/minutes.md");
    let texts = scene.converted("document", &[&page, minutes.to_str().unwrap()]);
    let text = |name: &str| fs::read_to_string(texts.join(name)).unwrap();
    assert_eq!(text("minutes.md").trim(), fs::read_to_string(&minutes).unwrap().trim());
    assert!(
        text("Seite 1.md").contains("# Grüße") && text("Seite 1.md").contains("| a |"),
        "{}",
        text("Seite 1.md")
    );
    // What the two said to each other on the way.
    let listed = scene.json(&["list", "--status", "completed"]);
    assert_eq!(listed.len(), 2, "{listed:?}");
    let status = &scene.json(&["status", listed[0]["job_id"].as_str().unwrap()])[0];
    assert_eq!((&status["worker_id"], &status["percentage"]), (&"gpu-box".into(), &100.into()), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_source_and_a_large_result_travel_in_parts() {
    let scene = Scene::start("x-own", "cat \"$1\"").await;
    let line = "Zeile mit Umlauten: äöü, und noch etwas mehr, damit es nicht so viele werden.\n";
    let text = line.repeat(LARGE / line.len() + 1);
    let source = scene.source("large.txt", &text);
    let texts = scene.converted("x-own", &[&source]);
    assert!(
        fs::read_to_string(texts.join("large.md")).unwrap().trim_end() == text.trim_end(),
        "another text"
    );
    let deployment = &scene.tenant.deployment;
    for key in deployment.objects_of(&scene.tenant.name).await {
        let head = deployment.s3().head_object().bucket(&deployment.bucket).key(&key).send().await.unwrap();
        let parts =
            head.e_tag().unwrap().trim_matches('"').rsplit_once('-').map(|(_, parts)| parts.to_owned());
        assert_eq!(parts.as_deref(), Some("2"), "{key} of {:?} bytes", head.content_length());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_ends_the_conversion_on_the_other_machine() {
    let scene = Scene::start("x-own", "echo 'it runs' >&2; exec sleep 3600").await;
    let source = scene.source("endless.txt", "x");
    let job = scene.submitted(&[&source]);
    let conversions = async |count| {
        until(&format!("{count} conversions run; {}", scene.converter.log()), PATIENCE, async || {
            (scene.converter.conversions() == count).then_some(())
        })
        .await;
    };
    conversions(1).await;
    scene.remote_jobs(&["cancel", &job]);
    conversions(0).await;
    assert_eq!(scene.tenant.status(&job).await["status"], "cancelled");
    // It goes on working for others.
    fs::write(scene.converter.home().join("converters/convert.sh"), "cat \"$1\"").unwrap();
    let source = scene.source("next.txt", "the next one");
    let texts = scene.converted("x-own", &[&source]);
    assert_eq!(fs::read_to_string(texts.join("next.md")).unwrap().trim(), "the next one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_converter_says_why_and_a_retry_by_the_command_line_succeeds() {
    let scene = Scene::start("x-own", "echo 'kein Ton in der Datei' >&2; exit 3").await;
    let source = scene.source("broken.txt", "x");
    let job = scene.submitted(&["--max-retries", "0", &source]);
    let job = job.as_str();
    let failed = scene.tenant.has_status(job, "failed").await;
    assert!(failed["error_message"].as_str().unwrap().contains("kein Ton"), "{failed}");
    fs::write(scene.converter.home().join("converters/convert.sh"), "cat \"$1\"").unwrap();
    scene.remote_jobs(&["retry", job]);
    scene.tenant.has_status(job, "completed").await;
    assert_eq!(scene.tenant.result(job).await["content"], json!("x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_selftest_find_the_stack_healthy() {
    let scene = Scene::start("x-own", "cat \"$1\"").await;
    scene.remote_jobs(&["doctor"]);
    scene.remote_jobs(&["selftest"]);
    scene.remote_jobs(&["stats"]);
}
