use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    sync::atomic::{AtomicUsize, Ordering},
};

use clap::Parser;
use ingestion::{FallbackReason, Figures, Reason, Source};

use super::*;
use crate::{
    args::{Cli, Command},
    output::{Output, tests::Captured},
};

fn args(line: &str) -> Cli {
    Cli::try_parse_from(format!("remote-jobs convert {line}").trim_end().split(' ')).unwrap()
}

fn of(cli: &Cli) -> &ConvertArgs {
    let Command::Convert(args) = &cli.command else { panic!("another command") };
    args
}

async fn plan(source: &Path, line: &str) -> Plan {
    let cli = args(&format!("x {line}"));
    Plan::of(source.to_str().unwrap(), of(&cli), &RemoteSettings::default()).await.unwrap()
}

#[tokio::test]
async fn one_file_converted_in_one_way_is_one_task() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.mp3");
    fs::write(&file, "sound").unwrap();
    let copy = folder.path().join("deeper/a.mp3");
    fs::create_dir(folder.path().join("deeper")).unwrap();
    fs::copy(&file, &copy).unwrap();
    let id = async |file: &Path, line: &str| plan(file, line).await.task_id(1);
    let first = id(&file, "--option a=1 --option b=2").await;
    assert!(first.len() <= 255 && first.starts_with("convert-"), "{first}");
    assert_eq!(id(&file, "--option b=2 --option a=1 --timeout 5m --jobs 7 -v --out d").await, first);
    assert_eq!(id(&copy, "--option a=1 --option b=2").await, first, "where it is makes no difference");
    for other in ["", "--option a=2 --option b=2", "--option a=1 --option b=2 --type video"] {
        assert_ne!(id(&file, other).await, first, "{other}");
    }
    let nested = ["{\"x\":1,\"y\":[{\"p\":1,\"q\":2}]}", "{\"y\":[{\"q\":2,\"p\":1}],\"x\":1}"];
    let nested = nested.map(|value| format!("--option a={value}"));
    assert_eq!(id(&file, &nested[0]).await, id(&file, &nested[1]).await);
    // The server would take a creation that differs for another request.
    assert_ne!(id(&file, "--option a=1 --option b=2 --remote").await, first);
    let forced = "--option a=1 --option b=2 --force";
    assert_ne!(id(&file, forced).await, id(&file, forced).await);
    assert_ne!(plan(&file, "").await.task_id(2), plan(&file, "").await.task_id(1));
    let name = folder.path().join("b.mp3");
    fs::rename(&file, &name).unwrap();
    assert_ne!(id(&name, "--option a=1 --option b=2").await, first);
    fs::write(&copy, "other sound").unwrap();
    assert_ne!(id(&copy, "--option a=1 --option b=2").await, first);
}

#[tokio::test]
async fn what_a_source_is_is_told_or_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.mp3");
    fs::write(&file, "sound").unwrap();
    assert_eq!(plan(&file, "").await.content_type, ContentType::Audio);
    assert_eq!(plan(&file, "--type x-mine").await.content_type.as_str(), "x-mine");
    let of_url = async |url: &str, line: &str| {
        let cli = args(&format!("{url} {line}"));
        let plan = Plan::of(url, of(&cli), &RemoteSettings::default()).await;
        plan.map(|plan| plan.content_type).map_err(|failure| failure.code())
    };
    assert_eq!(of_url("https://example.com/a.mp3", "").await, Ok(ContentType::Web));
    assert_eq!(of_url("https://youtu.be/a", "").await, Ok(ContentType::Youtube));
    assert_eq!(of_url("https://youtu.be/a", "--type web").await, Ok(ContentType::Web));
    assert_eq!(of_url("https://example.com/a.mp3", "--type audio").await, Err(2));
    let missing = Plan::of("/missing/a.mp3", of(&args("x")), &RemoteSettings::default()).await;
    assert_eq!(missing.err().unwrap().code(), 7);
}

/// A folder with results, and a file to convert.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::write(scene.file(), "sound").unwrap();
        scene
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("a.mp3")
    }

    fn result(&self) -> PathBuf {
        self.0.path().join("out/a.md")
    }

    /// Whether a run finds the result there.
    async fn has(&self) -> Result<bool, Failure> {
        let mut done = Done::open(&self.0.path().join("out")).unwrap();
        let target = done.target(self.file().to_str().unwrap());
        done.has(&target, &plan(&self.file(), "").await)
    }

    async fn save(&self, text: &str) {
        let mut done = Done::open(&self.0.path().join("out")).unwrap();
        let target = done.target(self.file().to_str().unwrap());
        assert_eq!(done.save(&target, &plan(&self.file(), "").await, text).unwrap(), self.result());
    }
}

#[tokio::test]
async fn what_an_earlier_run_has_made_is_found_again() {
    let scene = Scene::new();
    assert!(!scene.has().await.unwrap());
    scene.save("# One").await;
    assert!(scene.has().await.unwrap());
    assert_eq!(fs::read_to_string(scene.result()).unwrap(), "# One");
    fs::write(scene.result(), "# One, edited").unwrap();
    assert!(scene.has().await.unwrap(), "what somebody edited is left alone");
    fs::remove_file(scene.result()).unwrap();
    assert!(!scene.has().await.unwrap());
}

#[tokio::test]
async fn the_result_of_what_a_source_was_is_replaced_also_after_a_crash() {
    let scene = Scene::new();
    scene.save("# One").await;
    fs::write(scene.file(), "other sound").unwrap();
    assert!(!scene.has().await.unwrap());
    scene.save("# Two").await;
    assert!(scene.has().await.unwrap());
    // A crash after the record and before the result leaves the older result in place.
    fs::write(scene.result(), "# One").unwrap();
    assert!(!scene.has().await.unwrap());
}

#[tokio::test]
async fn what_somebody_edited_is_not_replaced_by_what_it_would_be_now() {
    let scene = Scene::new();
    scene.save("# One").await;
    fs::write(scene.result(), "# One, edited").unwrap();
    fs::write(scene.file(), "other sound").unwrap();
    let failure = scene.has().await.unwrap_err();
    assert!(failure.code() == 2 && failure.to_string().contains("--force"), "{failure}");
}

#[tokio::test]
async fn sources_of_one_name_keep_their_results_in_any_order_and_run() {
    let scene = Scene::new();
    scene.save("# One").await;
    let other = scene.0.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a.mp3"), "other sound").unwrap();
    let (file, other) = (scene.file(), other.join("a.mp3"));
    let targets = |sources: &[&Path]| {
        let mut done = Done::open(&scene.0.path().join("out")).unwrap();
        let of = |source: &&Path| done.target(source.to_str().unwrap());
        let targets: Vec<Target> = sources.iter().map(of).collect();
        (done, targets)
    };
    let (done, alone) = targets(&[&other]);
    assert!(alone[0].path.ends_with("a-2.md"), "{:?}", alone[0].path);
    done.save(&alone[0], &plan(&other, "").await, "# Other").unwrap();

    let round = other.parent().unwrap().join("../other/a.mp3");
    let (done, swapped) = targets(&[&round, &file]);
    assert_eq!([&alone[0].path, &scene.result()], [&swapped[0].path, &swapped[1].path]);
    assert!(done.has(&swapped[0], &plan(&other, "").await).unwrap());
    assert!(done.has(&swapped[1], &plan(&file, "").await).unwrap());
}

#[tokio::test]
async fn a_source_that_was_moved_is_known_by_what_it_is() {
    let scene = Scene::new();
    scene.save("# One").await;
    let moved = scene.0.path().join("moved");
    fs::create_dir(&moved).unwrap();
    let moved = moved.join("a.mp3");
    fs::rename(scene.file(), &moved).unwrap();
    let mut done = Done::open(&scene.0.path().join("out")).unwrap();
    let target = done.target(moved.to_str().unwrap());
    assert_eq!(target.path, scene.result());
    assert!(done.has(&target, &plan(&moved, "").await).unwrap());
    fs::write(&moved, "other sound").unwrap();
    let failure = done.has(&target, &plan(&moved, "").await).unwrap_err();
    assert!(failure.code() == 2 && failure.to_string().contains("made of /"), "{failure}");
}

#[tokio::test]
async fn a_file_of_somebody_else_is_not_replaced() {
    let scene = Scene::new();
    fs::create_dir(scene.0.path().join("out")).unwrap();
    fs::write(scene.result(), "notes").unwrap();
    let failure = scene.has().await.unwrap_err();
    assert!(failure.code() == 2 && failure.to_string().contains("--force"), "{failure}");
}

#[tokio::test]
async fn a_record_that_a_crash_cut_off_costs_one_conversion() {
    let scene = Scene::new();
    scene.save("# One").await;
    let records = scene.0.path().join("out/.remote-jobs-convert.jsonl");
    let text = fs::read_to_string(&records).unwrap();
    fs::write(&records, &text[..text.len() - 9]).unwrap();
    fs::remove_file(scene.result()).unwrap();
    assert!(!scene.has().await.unwrap());
    scene.save("# One").await;
    assert!(scene.has().await.unwrap());
}

#[tokio::test]
async fn what_has_failed_here_is_not_tried_for_every_job_that_has() {
    struct Failing(AtomicUsize);

    impl LocalConversion for Failing {
        async fn convert(
            &self,
            _: &ConversionTask,
            _: &(dyn Fn(u8, &str) + Sync),
        ) -> Result<Converted, String> {
            Err(format!("failure {}", self.0.fetch_add(1, Ordering::Relaxed)))
        }
    }

    let failing = Failing(AtomicUsize::new(1));
    let once = Once::of(&failing);
    let source = Source::File { path: "a".into(), name: "a".to_owned() };
    let task = ConversionTask::new("t", source, ContentType::Audio, SystemTime::now());
    for _ in 0..2 {
        assert_eq!(once.convert(&task, &|_, _| {}).await.unwrap_err(), "failure 1");
    }
}

/// Everything that is told of one file.
fn told(json: bool, explain: bool, events: &[Event<'_>]) -> (String, String, Option<String>, bool) {
    let (out, err) = (Captured::default(), Captured::default());
    let output = Output::captured(json, false, out.clone(), err.clone());
    let cli = args("a.mp3");
    let session = Session::new(&output, &cli.global);
    let (bars, going) = (Bars::new(&output), Going::of(&session));
    let teller = Teller::new(&session, &bars, &going, "a.mp3", explain);
    events.iter().for_each(|event| teller.tell(*event));
    let had_ended = teller.had_ended_before();
    let hint = session.hint();
    teller.end().unwrap();
    (out.text(), err.text(), hint, had_ended)
}

fn decision() -> Decision {
    let figures =
        Figures { live_workers: Some(2), queue_depth: Some(1), deadline_seconds: 1800, ..Figures::default() };
    let explanation = "2 live workers take audio.".to_owned();
    let (method, reason) = (Method::Remote, Reason::WorkerAvailable);
    Decision { method, reason, explanation, figures: Some(figures) }
}

fn remote(status: &str) -> Event<'_> {
    Event::Remote { status, percentage: 10, message: Some("half") }
}

#[test]
fn a_person_hears_what_happens_and_how_to_go_on() {
    let decision = decision();
    let events = [
        Event::Decided(&decision),
        Event::Created { job_id: "j-1" },
        remote("pending"),
        remote("processing"),
        remote("processing"),
    ];
    let (out, err, hint, _) = told(false, true, &events);
    assert_eq!(out, "");
    assert_eq!(
        err,
        "a.mp3: remotely: 2 live workers take audio. (live workers 2, waiting 1, time 1800 s)\n\
         a.mp3: job j-1\na.mp3: pending\na.mp3: processing\n"
    );
    let hint = hint.unwrap();
    assert!(
        hint.contains("goes on") && hint.contains("same command") && hint.contains("cancel j-1"),
        "{hint}"
    );
    let (_, err, hint, _) = told(false, false, &[Event::Decided(&decision)]);
    assert_eq!(err, "");
    assert!(hint.unwrap().starts_with("Interrupted. Run the same command again"));
}

#[test]
fn a_job_that_was_given_up_is_not_said_to_go_on() {
    let reason = FallbackReason::Deadline;
    let local = Event::Local { percentage: 0, message: "Converting" };
    let events = [Event::Created { job_id: "j-1" }, Event::FallingBack { reason: &reason }, local, local];
    let (_, err, hint, _) = told(false, false, &events);
    assert_eq!(
        err,
        "a.mp3: job j-1\na.mp3: The remote job was not over in time.\na.mp3: converting on this machine\n"
    );
    assert!(hint.unwrap().starts_with("Interrupted."));
}

#[test]
fn a_program_gets_a_document_for_each_event() {
    let (decision, reason) = (decision(), FallbackReason::Deadline);
    let local = Event::Local { percentage: 50, message: "half" };
    let created = Event::Created { job_id: "j-1" };
    let (out, err, ..) = told(
        true,
        true,
        &[
            Event::Decided(&decision),
            created,
            remote("pending"),
            Event::FallingBack { reason: &reason },
            local,
        ],
    );
    assert_eq!(err, "");
    let documents: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = documents.iter().map(|document| document["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["decided", "created", "status", "falling_back", "local"]);
    assert!(documents.iter().all(|document| document["file"] == "a.mp3"));
    assert_eq!(documents[0]["decision"]["figures"]["live_workers"], 2);
    assert_eq!(documents[2]["status"], "pending");
    assert_eq!(documents[3]["fallback"]["reason"], "deadline");
}

#[test]
fn only_a_job_that_had_ended_at_the_first_look_is_tried_anew() {
    let had_ended = |events: &[Event<'_>]| told(false, false, events).3;
    assert!(had_ended(&[remote("failed")]));
    assert!(had_ended(&[remote("cancelled")]));
    assert!(!had_ended(&[remote("processing"), remote("failed")]));
    // It is not asked whether a job had ended that has left a usable result.
    assert!(had_ended(&[remote("completed")]));
    assert!(!had_ended(&[]));
}

/// A client of a server that fails in this way, whatever is asked.
fn failing(kind: api::Kind) -> client::Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (status, problem) = (kind.status(), json!(api::Problem::new(kind, "No.")).to_string());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]).unwrap();
            let head = format!(
                "HTTP/1.1 {status} No\r\nContent-Type: application/problem+json\r\nConnection: close"
            );
            write!(connection, "{head}\r\nContent-Length: {}\r\n\r\n{problem}", problem.len()).unwrap();
        }
    });
    client::Client::new(url.parse().unwrap(), None, "test/1").unwrap()
}

#[tokio::test]
async fn a_job_is_given_up_when_nothing_will_come_of_it_and_not_when_it_is_out_of_reach() {
    let remote = |reason| ConversionError::Remote {
        decision: Box::new(decision()),
        reason,
        job_id: Some("j-1".to_owned()),
        takeover: None,
    };
    let (gone, internal) = (failing(api::Kind::NotFound), failing(api::Kind::Internal));
    let unavailable = remote(FallbackReason::ResultUnavailable("why".to_owned()));
    assert!(is_of_an_end(&unavailable, &gone).await);
    assert!(!is_of_an_end(&unavailable, &internal).await);
    assert!(is_of_an_end(&remote(FallbackReason::UnusableResult("why".to_owned())), &internal).await);
    assert!(!is_of_an_end(&remote(FallbackReason::Deadline), &gone).await);
    let local = |fallback| ConversionError::Local {
        message: "No converter.".to_owned(),
        decision: Box::new(decision()),
        fallback,
        job_id: None,
        takeover: None,
    };
    assert!(is_of_an_end(&local(Some(FallbackReason::Failed("why".to_owned()))), &gone).await);
    assert!(!is_of_an_end(&local(None), &gone).await);
}

#[test]
fn failures_have_the_codes_of_their_causes() {
    let remote = |reason| {
        not_converted(ConversionError::Remote {
            decision: Box::new(decision()),
            reason,
            job_id: Some("j-1".to_owned()),
            takeover: None,
        })
    };
    for (reason, code) in [
        (FallbackReason::Failed("no speech".to_owned()), 1),
        (FallbackReason::Deadline, 1),
        (FallbackReason::Unreachable("away".to_owned()), 3),
        (FallbackReason::Unauthorized("no".to_owned()), 4),
        (FallbackReason::Refused("no".to_owned()), 5),
        (FallbackReason::UploadFailed("no".to_owned()), 6),
    ] {
        let failure = remote(reason.clone());
        assert_eq!(failure.code(), code, "{reason}");
        assert!(failure.to_string().starts_with(&format!("Job j-1: {reason}")), "{failure}");
    }
    let local = |fallback| {
        not_converted(ConversionError::Local {
            message: "No converter.".to_owned(),
            decision: Box::new(decision()),
            fallback,
            job_id: None,
            takeover: None,
        })
    };
    assert_eq!(
        local(None).to_string(),
        "It cannot be converted on this machine: No converter. (2 live workers take audio.)"
    );
    assert!(local(Some(FallbackReason::Cancelled)).to_string().contains("was cancelled"));
    assert_eq!(not_converted(ConversionError::Empty { path: "a".into() }).code(), 7);
    assert_eq!(not_converted(ConversionError::Cancelled { job_id: None, takeover: None }).code(), 130);
}
