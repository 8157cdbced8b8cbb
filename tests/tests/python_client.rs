//! The Python client: its own tests, against the gateway that was just built, and that it is of one mind with the crate
//! `ingestion`.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use domain::ContentType;
use ingestion::{
    ConversionTask, Converted, Event, Ingestion, LocalConversion, Method, Reason, RemoteSettings, Source,
    idempotency_key,
};
use serde_json::{Value, json};
use system_tests::{GatewayProgram, JOBS, binary, inherited_settings};

/// The Python of `MORAG_TEST_CLIENT_PYTHON`, else of `.tools/python-client`, with the client's sources, and with none of
/// this process's settings.
fn python() -> Command {
    let root = root();
    let interpreter = std::env::var_os("MORAG_TEST_CLIENT_PYTHON")
        .map_or_else(|| root.join(".tools/python-client/bin/python"), PathBuf::from);
    assert!(
        interpreter.is_file(),
        "there is no {}; run `make tools`, or name a Python in MORAG_TEST_CLIENT_PYTHON",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    for name in inherited_settings() {
        command.env_remove(name);
    }
    let client = root.join("clients/python");
    command.env("PYTHONPATH", client.join("src")).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(client);
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What a script prints, as JSON.
async fn script(text: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let mut command = python();
    command.arg("-c").arg(text).args(arguments).envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn its_own_tests_pass() {
    let mut command = python();
    command.args(["-m", "pytest", "--quiet", "--color=no"]).env("MORAG_TEST_GATEWAY", binary("gateway"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" passed"), "no test ran: {said}");
}

#[tokio::test]
async fn it_has_the_words_and_keys_of_the_crate() {
    let said = script(
        "import json, sys, remote_jobs as rj\n\
         words = {reason.value: rj.Decision(reason, '').method.value for reason in rj.Reason}\n\
         keys = {task: rj.idempotency_key(task) for task in sys.argv[1:]}\n\
         print(json.dumps({'words': words, 'keys': keys}))",
        &["task-1", "Aufgabe ü/1"],
        &[],
    )
    .await;
    let words: BTreeMap<_, _> =
        Reason::ALL.map(|reason| (reason.as_str(), reason.method().as_str())).into_iter().collect();
    let keys: BTreeMap<_, _> = ["task-1", "Aufgabe ü/1"].map(|task| (task, idempotency_key(task))).into();
    assert_eq!(said, json!({ "words": words, "keys": keys }));
}

#[tokio::test]
async fn it_decides_by_the_same_rules_with_the_same_sentences() {
    let variables = [
        ("MORAG_REMOTE_CONVERSION_ENABLED", "Yes"),
        ("MORAG_REMOTE_CONTENT_TYPES", "audio, X-OWN"),
        ("MORAG_REMOTE_TIMEOUT_AUDIO", "61"),
    ];
    for variables in [&variables[..], &variables[..1], &[]] {
        let said = script(
            "import json, remote_jobs as rj\n\
             client = rj.RemoteJobs()\n\
             types = ['audio', 'video', 'document', 'x-own']\n\
             decided = [client.should_use_remote(of, asked).as_dict() for of in types for asked in (True, False)]\n\
             print(json.dumps([decided, [client.settings.timeout(of) for of in types]]))",
            &[],
            variables,
        )
        .await;
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = RemoteSettings::from_environment(get).unwrap();
        let types: Vec<ContentType> =
            ["audio", "video", "document", "x-own"].iter().map(|name| name.parse().unwrap()).collect();
        let decided: Vec<_> = types
            .iter()
            .flat_map(|of| [true, false].map(|requested| settings.should_use_remote(of, requested)))
            .collect();
        let timeouts: Vec<_> = types.iter().map(|of| settings.timeout(of).as_secs()).collect();
        assert_eq!(said, json!([decided, timeouts]));
    }
}

/// A local conversion that is not meant to be made.
struct Never;

impl LocalConversion for Never {
    async fn convert(&self, _: &ConversionTask, _: &(dyn Fn(u8, &str) + Sync)) -> Result<Converted, String> {
        Err("it is not meant to be made".to_owned())
    }
}

/// One that goes on with what the other has begun finds the same upload and the same job, and so the same result.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_the_crate_began_is_the_same_job_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("talk.mp3"));
    std::fs::write(&file, "sound").unwrap();
    let gateway = GatewayProgram::start(&data, &[], &[]);
    let admin = gateway.admin(&data);
    let poll = json!({ "worker_id": "w", "content_types": ["audio"], "lease_seconds": 60 });
    admin.post(&format!("{JOBS}/poll"), &poll).await.ok();

    let base = gateway.url.parse().unwrap();
    let client = client::Client::new(base, Some(admin.key().into()), "tests/1").unwrap();
    let settings = RemoteSettings { enabled: true, ..RemoteSettings::default() };
    let source = Source::File { path: file.clone(), name: "talk.mp3".to_owned() };
    let deadline = SystemTime::now() + Duration::from_secs(600);
    let mut task = ConversionTask::new("task-1", source, ContentType::Audio, deadline);
    task.requested = true;
    task.options.insert("language".to_owned(), "de".into());
    let created = Mutex::new(String::new());
    let (told, mut hears) = tokio::sync::mpsc::channel(1);
    let events = |event: Event<'_>| {
        if let Event::Created { job_id } = event {
            job_id.clone_into(&mut created.lock().unwrap());
            let _ = told.try_send(());
        }
    };
    let ingestion = Ingestion::new(client, settings);
    // It dies as soon as the job is there.
    tokio::select! {
        outcome = ingestion.convert(&task, &Never, &events) => panic!("it ended: {outcome:?}"),
        heard = hears.recv() => assert!(heard.is_some()),
    }
    let job_id = created.lock().unwrap().clone();

    let url = [("MORAG_API_BASE_URL", &*gateway.url), ("MORAG_API_KEY", admin.key())];
    let text = "import json, sys, remote_jobs as rj\n\
                client = rj.RemoteJobs()\n\
                sent = []\n\
                uploaded = client.upload(sys.argv[1], idempotency_key=rj.idempotency_key('task-1'),\n\
                    progress=lambda done, total: sent.append(done))\n\
                job = client.create(uploaded.source_file_path, 'audio', task_id='task-1', options={'language': 'de'})\n\
                print(json.dumps([job.job_id, sent]))";
    let said = script(text, &[file.to_str().unwrap()], &url).await;
    // Nothing was sent again: the progress goes from nothing to everything.
    assert_eq!(said, json!([job_id, [0, 5]]));

    let job = admin.post(&format!("{JOBS}/poll"), &poll).await.ok();
    assert_eq!(job["job_id"], job_id);
    let result = json!({ "success": true, "content": "# Talk", "processing_time": 1.5 });
    let token = job["lease_token"].as_str().unwrap();
    admin.leased(http::Method::PUT, &format!("{JOBS}/{job_id}/result"), token, &result).await.ok();
    let outcome = ingestion.convert(&task, &Never, &()).await.unwrap();
    assert_eq!((outcome.method, outcome.converted.content.as_str()), (Method::Remote, "# Talk"));
}
