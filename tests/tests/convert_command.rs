//! `remote-jobs convert` as a person runs it: against a real gateway and a real converter, or without them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a test meets unexpectedly is a failed test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Client, ConverterProgram, GatewayProgram, JOBS, Ran, binary, inherited_settings, processes_in,
    send_signal,
};
use tempfile::TempDir;
use tokio::process::Command;

/// How long a condition may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Says who converts, waits while it is told to, and refuses what is bad.
const SCRIPT: &str = r#"set -eu
echo '[50%] Half'
if [ -e "$HOME/wait" ]; then
    until [ -e "$HOME/go" ]; do sleep 0.02; done
fi
if grep -q bad "$1"; then echo 'This one is bad.' >&2; exit 65; fi
printf '%s: %s' "$(cat "$HOME/who")" "$(cat "$1")" >"$2"
"#;

const DESCRIPTION: &str = "name: saying\ncontent_types: [x-note]\nresult: {format: markdown, from: file}\n\
    command: [sh, '{here}/convert.sh', '{input}', '{output}']\n";

/// A gateway, a folder with files, and what converts them remotely and here.
struct Scene {
    gateway: GatewayProgram,
    converter: Option<ConverterProgram>,
    admin: Client,
    folder: TempDir,
}

impl Scene {
    async fn start() -> Self {
        tokio::task::block_in_place(|| {
            // Building them, or waiting for somebody else's build, is no part of the time that a test takes.
            for program in ["gateway", "remote-converter", "remote-jobs"] {
                assert!(binary(program).is_file());
            }
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("data");
            let gateway = GatewayProgram::start(&data, &[], &[]);
            let admin = gateway.admin(&data);
            let scene = Self { gateway, converter: None, admin, folder };
            for who in ["remote", "here"] {
                let home = scene.path(who);
                fs::create_dir_all(home.join("converters")).unwrap();
                fs::write(home.join("who"), who).unwrap();
                fs::write(home.join("converters/saying.yaml"), DESCRIPTION).unwrap();
                fs::write(home.join("converters/convert.sh"), SCRIPT).unwrap();
            }
            scene
        })
    }

    /// The same with a converter, once the gateway has seen it.
    async fn with_worker() -> Self {
        let mut scene = Self::start().await;
        let settings = format!(
            "worker_id: saying\napi_base_url: {}\ncontent_types: [x-note]\ntemp_dir: temp\npoll_interval: 1\n\
             converters: [converters]\n",
            scene.gateway.url
        );
        let variables = [("MORAG_API_KEY", scene.admin.key())];
        scene.converter = Some(ConverterProgram::start(&scene.path("remote"), &settings, &variables));
        scene.until("a live worker", async |scene| scene.has_live_worker().await).await;
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file to convert.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self).await {
            assert!(Instant::now() < until, "there is no {what}; the converter: {}", self.converter_log());
            tokio::time::sleep(LOOK).await;
        }
    }

    fn converter_log(&self) -> String {
        self.converter.as_ref().map(ConverterProgram::log).unwrap_or_default()
    }

    async fn has_live_worker(&self) -> bool {
        let workers = self.admin.get("/api/v1/remote-workers").await.ok();
        workers["workers"].as_array().unwrap().iter().any(|worker| worker["live"] == true)
    }

    /// The jobs that there are, as (id, status).
    async fn jobs(&self) -> Vec<(String, String)> {
        let listed = self.admin.get(JOBS).await.ok();
        let text = |job: &Value, field: &str| job[field].as_str().unwrap().to_owned();
        let jobs = listed["jobs"].as_array().unwrap().iter();
        jobs.map(|job| (text(job, "job_id"), text(job, "status"))).collect()
    }

    async fn statuses(&self) -> Vec<String> {
        self.jobs().await.into_iter().map(|(_, status)| status).collect()
    }

    /// `remote-jobs convert` of notes, without a terminal.
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_for("x-note", arguments)
    }

    /// The same of another type.
    fn command_for(&self, content_type: &str, arguments: &[&str]) -> Command {
        let home = self.path("here");
        // Whoever runs the tests may have closed their ears to SIGHUP, as nohup does, and the command would, too.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(binary("remote-jobs"));
        for name in inherited_settings() {
            command.env_remove(name);
        }
        command
            .args(["convert", "--type", content_type])
            .args(arguments)
            .env("HOME", &home)
            .env("MORAG_API_BASE_URL", &self.gateway.url)
            .env("MORAG_API_KEY", self.admin.key())
            .env("MORAG_CONVERTERS", home.join("converters"))
            .env("MORAG_TEMP_DIR", home.join("temp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.command(arguments)).await
    }

    /// Does the next job as a worker would that makes this of it.
    async fn complete_the_next_with(&self, content: &str) {
        self.until("job that waits", async |scene| {
            scene.statuses().await.iter().any(|status| status == "pending")
        })
        .await;
        let poll = json!({"worker_id": "by-hand", "content_types": ["x-note"]});
        let claim = self.admin.post(&format!("{JOBS}/poll"), &poll).await.ok();
        let text = |field: &str| claim[field].as_str().unwrap().to_owned();
        let (path, result) =
            (format!("{JOBS}/{}/result", text("job_id")), json!({"success": true, "content": content}));
        self.admin.leased(Method::PUT, &path, &text("lease_token"), &result).await.ok();
    }

    /// What was saved under this name.
    fn saved(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).unwrap()
    }

    fn out(&self) -> String {
        self.path("out").to_str().unwrap().to_owned()
    }

    /// Whether some file below the gateway's folder holds this text.
    fn is_with_the_gateway(&self, text: &str) -> bool {
        fn holds(path: &Path, text: &[u8]) -> bool {
            if path.is_dir() {
                return fs::read_dir(path).unwrap().any(|entry| holds(&entry.unwrap().path(), text));
            }
            fs::read(path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text))
        }
        holds(&self.path("data"), text.as_bytes())
    }

    /// From now on these conversions wait until they are let go.
    fn conversions_wait(&self, who: &str) {
        fs::write(self.path(who).join("wait"), "").unwrap();
    }

    fn conversions_go_on(&self, who: &str) {
        fs::write(self.path(who).join("go"), "").unwrap();
    }

    /// The processes of conversions on this machine.
    fn processes_here(&self) -> usize {
        processes_in(&self.path("here/temp")).len()
    }
}

/// The documents of one event.
fn events<'a>(documents: &'a [Value], event: &str) -> Vec<&'a Value> {
    documents.iter().filter(|document| document["event"] == event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_converted_by_a_worker_that_is_there() {
    let scene = Scene::with_worker().await;
    let file = scene.file("a.note", "words");
    let ran = scene.run(&[&file, "--explain"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "remote: words\n"), "{ran:?}");
    assert!(ran.err.contains("remotely: 1 live worker takes x-note."), "{ran:?}");
    assert!(ran.err.contains("live workers 1, waiting 0"), "{ran:?}");

    let file = scene.file("b.note", "more words");
    let ran = scene.run(&[&file, "--remote", "--json", "--option", "a=1"]).await;
    let documents = ran.documents();
    assert_eq!(events(&documents, "decided")[0]["decision"]["processing_method"], "remote");
    let converted = events(&documents, "converted")[0];
    assert_eq!(converted["content"], "remote: more words");
    assert_eq!(converted["processing_method"], "remote");
    assert_eq!(converted["remote_job_id"], events(&documents, "created")[0]["job_id"]);
    assert_eq!(events(&documents, "summary")[0]["remote"], 1);
    assert_eq!(scene.statuses().await, ["completed", "completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_a_file_is_converted_here_at_once_and_nothing_leaves_the_machine() {
    let scene = Scene::start().await;
    let file = scene.file("a.note", "words that stay here");
    let ran = scene.run(&[&file, "--json"]).await;
    let documents = ran.documents();
    let decision = &events(&documents, "decided")[0]["decision"];
    assert_eq!(
        (&decision["processing_method"], &decision["reason"]),
        (&"local".into(), &"no_live_worker".into())
    );
    assert_eq!(events(&documents, "converted")[0]["content"], "here: words that stay here");
    assert_eq!(scene.statuses().await, [""; 0]);
    assert!(!scene.is_with_the_gateway("words that stay here"));
    assert!(!scene.path("here/temp/local").read_dir().unwrap().any(|_| true), "a work folder is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_not_asked_when_files_are_to_be_converted_here_and_not_waited_for_when_it_is_away() {
    let scene = Scene::start().await;
    let file = scene.file("a.note", "words");
    let nowhere = format!("http://127.0.0.1:{}", system_tests::free_port());
    for arguments in [&[&*file, "--local", "--api-key-file", "/missing"][..], &[&*file]] {
        let mut command = scene.command(arguments);
        let ran = Ran::of(command.env("MORAG_API_BASE_URL", &nowhere)).await;
        assert_eq!((ran.code, ran.out.as_str()), (0, "here: words\n"), "{ran:?}");
    }
    let mut command = scene.command(&[&file, "--remote"]);
    let ran = Ran::of(command.env("MORAG_API_KEY", "wrong.key")).await;
    ran.refused(4, &["does not take the API key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_killed_goes_on_when_it_is_run_again() {
    let scene = Scene::with_worker().await;
    scene.conversions_wait("remote");
    let files = ["a", "b"].map(|name| scene.file(&format!("{name}.note"), name));
    let out = scene.out();
    let arguments = [&*files[0], &*files[1], "--out", &out];
    let mut killed = scene.command(&arguments).spawn().unwrap();
    scene.until("jobs that run", async |scene| scene.statuses().await == ["processing", "processing"]).await;
    killed.kill().await.unwrap();
    let jobs = scene.jobs().await;

    scene.conversions_go_on("remote");
    let ran = scene.run(&arguments).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    assert_eq!([scene.saved("a.md"), scene.saved("b.md")], ["remote: a", "remote: b"]);
    let ids = |jobs: Vec<(String, String)>| jobs.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(scene.jobs().await), ids(jobs), "there is another job");

    fs::write(scene.path("out/a.md"), "edited").unwrap();
    let third = scene.file("c.note", "c");
    let ran = scene.run(&[&arguments[..], &[&third, "--json"]].concat()).await;
    let summary = events(&ran.documents(), "summary")[0].clone();
    assert_eq!((&summary["skipped"], &summary["remote"]), (&2.into(), &1.into()), "{ran:?}");
    assert_eq!([scene.saved("a.md"), scene.saved("c.md")], ["edited", "remote: c"]);
    assert_eq!(scene.jobs().await.len(), 3);

    let ran = scene.run(&[&files[0], "--out", &out, "--force"]).await;
    assert_eq!((ran.code, scene.saved("a.md").as_str()), (0, "remote: a"), "{ran:?}");
    assert_eq!(scene.jobs().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_file_of_many_does_not_stop_the_others_and_is_tried_again() {
    let scene = Scene::with_worker().await;
    let mut files: Vec<String> =
        (0..20).map(|n| scene.file(&format!("{n}.note"), &format!("words {n}"))).collect();
    let bad = scene.file("bad.note", "bad");
    files.insert(3, bad.clone());
    let out = scene.out();
    let mut arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    arguments.extend(["--out", &out, "--remote"]);
    let ran = scene.run(&arguments).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains(&format!("error: {bad}: Job ")) && ran.err.contains("This one is bad."),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("20 converted remotely, 0 on this machine, 0 converted before, 1 failed."),
        "{ran:?}"
    );
    assert!((0..20).all(|n| scene.saved(&format!("{n}.md")) == format!("remote: words {n}")));
    assert!(!scene.path("out/bad.md").exists());

    let ran = scene.run(&arguments).await;
    assert!(
        ran.err.contains("0 converted remotely, 0 on this machine, 20 converted before, 1 failed."),
        "{ran:?}"
    );
    assert_eq!(scene.statuses().await.iter().filter(|status| *status == "failed").count(), 2);

    // Here, of two, on standard output in the files' order.
    let ran = scene.run(&[&bad, &files[0], &files[1], "--local"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, "here: words 0\nhere: words 1\n"), "{ran:?}");
    assert!(ran.err.contains("This one is bad."), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_worker_is_killed_is_converted_here_when_its_time_is_over() {
    let mut scene = Scene::with_worker().await;
    scene.conversions_wait("remote");
    let file = scene.file("a.note", "words");
    let running = scene.command(&[&file, "--timeout", "5s", "--json"]).spawn().unwrap();
    scene.until("job that runs", async |scene| scene.statuses().await == ["processing"]).await;
    scene.converter.as_mut().unwrap().kill();
    let output = running.wait_with_output().await.unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(output.status.code(), Some(0), "{out}");
    assert_eq!(events(&documents, "falling_back")[0]["fallback"]["reason"], "deadline");
    let converted = events(&documents, "converted")[0];
    assert_eq!((&converted["content"], &converted["takeover"]), (&"here: words".into(), &"confirmed".into()));
    assert_eq!(scene.statuses().await, ["cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_remotely_is_not_converted_here_when_that_is_not_wanted() {
    let scene = Scene::with_worker().await;
    let bad = scene.file("bad.note", "bad");
    let ran = scene.run(&[&bad, "--no-fallback"]).await;
    ran.refused(1, &["This one is bad."]);
    let ran = scene.run(&[&bad]).await;
    ran.refused(1, &["cannot be converted on this machine", "The remote conversion failed"]);
    assert_eq!(scene.statuses().await, ["failed"; 2]);
    let ran = scene.run(&[&bad]).await;
    ran.refused(1, &["cannot be converted on this machine", "The remote conversion failed"]);
    assert_eq!(scene.statuses().await, ["failed"; 3], "it is not tried anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_remotely_is_waited_for_also_when_it_would_be_begun_here_now() {
    let scene = Scene::with_worker().await;
    scene.conversions_wait("remote");
    let (file, other) = (scene.file("a.note", "words"), scene.file("b.note", "other words"));
    let mut killed = scene.command(&[&file, "--no-fallback"]).spawn().unwrap();
    scene.until("job that runs", async |scene| scene.statuses().await == ["processing"]).await;
    killed.kill().await.unwrap();
    scene.admin.post("/api/v1/queues/x-note/pause", &json!({})).await.ok();

    let ran = scene.run(&[&other, "--no-fallback"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "here: other words\n"), "{ran:?}");
    scene.conversions_go_on("remote");
    let ran = scene.run(&[&file, "--no-fallback"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "remote: words\n"), "{ran:?}");
    assert_eq!(scene.statuses().await, ["completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_job_without_a_document_does_not_stand_in_the_way_of_another_try() {
    let scene = Scene::start().await;
    let file = scene.file("a.note", "words");
    let first = scene.command(&[&file, "--remote"]).spawn().unwrap();
    scene.complete_the_next_with("").await;
    let first = first.wait_with_output().await.unwrap();
    assert_eq!(first.status.code(), Some(1), "{first:?}");

    let second = scene.command(&[&file, "--remote"]).spawn().unwrap();
    scene.complete_the_next_with("# Words").await;
    let second = second.wait_with_output().await.unwrap();
    assert_eq!((second.status.code(), &*second.stdout), (Some(0), &b"# Words\n"[..]), "{second:?}");
    assert_eq!(scene.statuses().await, ["completed"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_command_says_how_to_go_on_and_leaves_nothing_running_here() {
    let scene = Scene::with_worker().await;
    scene.conversions_wait("remote");
    let file = scene.file("a.note", "words");
    let running = scene.command(&[&file]).spawn().unwrap();
    scene.until("job that runs", async |scene| scene.statuses().await == ["processing"]).await;
    send_signal("INT", i64::from(running.id().unwrap()));
    let output = running.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    let job = scene.jobs().await.remove(0);
    assert!(
        said.contains(&format!("remote-jobs cancel {}", job.0)) && said.contains("same command"),
        "{said}"
    );
    assert_eq!(job.1, "processing", "the job goes on");

    scene.conversions_wait("here");
    let checked = DESCRIPTION.replace("saying", "checked").replace("x-note", "x-checked");
    let checked = format!("{checked}requires: [sleep, '600']\n");
    fs::write(scene.path("here/converters/checked.yaml"), checked).unwrap();
    // While it is converted, and while it is found out what could convert it.
    let types = ["x-note", "x-checked"];
    for (signal, of_type) in
        ["INT", "TERM", "HUP"].into_iter().flat_map(|signal| types.map(|name| (signal, name)))
    {
        let running = scene.command_for(of_type, &[&file, "--local"]).spawn().unwrap();
        scene.until("conversion here", async |scene| scene.processes_here() > 0).await;
        send_signal(signal, i64::from(running.id().unwrap()));
        let output = running.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal}: {output:?}");
        assert_eq!(scene.processes_here(), 0, "{signal}");
    }
    // What is killed cannot clean up: the next run does.
    let mut running = scene.command(&[&file, "--local"]).spawn().unwrap();
    scene.until("conversion here", async |scene| scene.processes_here() > 0).await;
    running.kill().await.unwrap();
    assert!(scene.processes_here() > 0);
    let other = scene.file("b.note", "bad");
    scene.conversions_go_on("here");
    assert_eq!(scene.run(&[&other, "--local"]).await.code, 1);
    assert_eq!(scene.processes_here(), 0);
    assert!(!scene.path("here/temp/local").read_dir().unwrap().any(|_| true), "a work folder is left");
}
