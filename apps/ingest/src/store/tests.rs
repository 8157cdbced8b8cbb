use std::time::Duration;

use domain::ContentType;
use serde_json::Map;
use tempfile::TempDir;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct Bench {
    _dir: TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        Self { store: Store::open(&folder).unwrap(), _dir: dir }
    }

    async fn accepted(&self, document: &str, webhook: Option<&str>) -> Uuid {
        let id = Uuid::now_v7();
        let spec = Spec {
            source: Source::File { name: "talk.mp3".to_owned(), size: 5 },
            content_type: ContentType::Audio,
            document_id: document.to_owned(),
            replace_existing: false,
            webhook_url: webhook.map(|url| url.parse().unwrap()),
            metadata: Map::new(),
            options: Map::new(),
            chunk_size: None,
            chunk_overlap: None,
            chunking_strategy: None,
            remote: true,
            remote_timeout: None,
            fallback_to_local: true,
        };
        self.store.accept(id, spec, NOW).await.unwrap();
        id
    }

    async fn take(&self, id: Uuid, text: &str) -> bool {
        self.store.take(id, content(text), "remote", Left::Nothing, NOW).await.unwrap()
    }

    async fn events(&self, id: Uuid) -> Vec<String> {
        self.store.history(id).await.unwrap().into_iter().map(|entry| entry.event).collect()
    }
}

fn content(text: &str) -> Content {
    Content { text: text.to_owned(), metadata: Map::new(), processing_time: 1.5 }
}

#[tokio::test]
async fn a_task_goes_its_way_once() {
    let bench = Bench::new();
    let id = bench.accepted("d", None).await;
    assert!(!bench.take(id, "too early").await);
    assert!(bench.store.begin(id, NOW).await.unwrap());
    assert!(bench.store.begin(id, NOW.plus(Duration::from_secs(9))).await.unwrap());
    assert_eq!(bench.store.task(id).await.unwrap().unwrap().started_at, Some(NOW));
    assert!(bench.take(id, "first").await && !bench.take(id, "second").await);
    assert!(!bench.store.begin(id, NOW).await.unwrap());
    assert_eq!(bench.store.content(id).await.unwrap().unwrap().text, "first");
    assert_eq!(bench.store.cancel(id, NOW).await.unwrap(), Cancelled::TooLate(Phase::Storing));
    assert!(bench.store.succeed(id, json!({"chunks_stored": 2}), NOW).await.unwrap());
    assert!(!bench.store.succeed(id, json!({}), NOW).await.unwrap());
    assert!(!bench.store.fail(id, Phase::Storing, "late".to_owned(), Left::Nothing, NOW).await.unwrap());
    assert!(!bench.store.fail(id, Phase::Succeeded, "late".to_owned(), Left::Nothing, NOW).await.unwrap());
    assert_eq!(bench.store.content(id).await.unwrap(), None);
    assert_eq!(bench.events(id).await, ["accepted", "started", "resumed", "continued", "completed"]);
}

#[tokio::test]
async fn of_many_that_want_to_end_or_continue_a_task_one_wins() {
    for _ in 0..20 {
        let bench = Bench::new();
        let id = bench.accepted("d", None).await;
        bench.store.begin(id, NOW).await.unwrap();
        let racing = (0..12).map(|racer| {
            let store = bench.store.clone();
            tokio::spawn(async move {
                match racer % 3 {
                    0 => store.take(id, content("t"), "remote", Left::Nothing, NOW).await.unwrap(),
                    1 => store.cancel(id, NOW).await.unwrap() == Cancelled::Done,
                    _ => store.fail(id, Phase::Converting, "f".to_owned(), Left::Nothing, NOW).await.unwrap(),
                }
            })
        });
        let won = futures::future::join_all(racing).await.into_iter().filter(|won| *won.as_ref().unwrap());
        assert_eq!(won.count(), 1);
    }
}

#[tokio::test]
async fn tasks_of_one_document_are_ready_one_after_the_other() {
    let bench = Bench::new();
    let first = bench.accepted("a", None).await;
    let second = bench.accepted("a", None).await;
    let other = bench.accepted("b", None).await;
    assert_eq!(bench.store.ready(10).await.unwrap(), [first, other]);
    assert_eq!(bench.store.ready(1).await.unwrap(), [first]);
    bench.store.cancel(first, NOW).await.unwrap();
    assert_eq!(bench.store.ready(10).await.unwrap(), [second, other]);
    assert_eq!(bench.store.unended().await.unwrap(), HashSet::from([second, other]));
    let recent: Vec<Uuid> = bench.store.recent(2).await.unwrap().iter().map(|task| task.id).collect();
    assert_eq!(recent, [other, second]);
}

#[tokio::test]
async fn a_cancelled_task_leaves_its_job_to_be_cancelled_also_when_it_is_told_late() {
    let bench = Bench::new();
    let created =
        |job: &str| Note { remote_job_id: Some(job.to_owned()), ..Note::of("remote_job_created", "") };
    let (early, late) = (bench.accepted("a", None).await, bench.accepted("b", None).await);
    for id in [early, late] {
        bench.store.begin(id, NOW).await.unwrap();
    }
    bench.store.note(early, created("j1"), NOW).await.unwrap();
    assert_eq!(bench.store.awaiting("j1".to_owned()).await.unwrap(), Some(early));
    for id in [early, late] {
        bench.store.cancel(id, NOW).await.unwrap();
    }
    assert_eq!(bench.store.awaiting("j1".to_owned()).await.unwrap(), None);
    bench.store.note(late, created("j2"), NOW).await.unwrap();
    let expected = [(early, "j1".to_owned()), (late, "j2".to_owned())];
    assert_eq!(bench.store.abandoned().await.unwrap(), expected);
    bench.store.seen_to(early, "done".to_owned(), NOW).await.unwrap();
    bench.store.seen_to(early, "done".to_owned(), NOW).await.unwrap();
    assert_eq!(bench.store.abandoned().await.unwrap(), expected[1..]);
    assert_eq!(bench.events(early).await.iter().filter(|event| *event == "remote_job_cancelled").count(), 1);
}

#[tokio::test]
async fn a_run_after_a_restart_keeps_the_stage_and_the_first_decision() {
    let bench = Bench::new();
    let id = bench.accepted("d", None).await;
    bench.store.begin(id, NOW).await.unwrap();
    let decided = |reason: &str, stage| {
        let decision = Some(json!({"reason": reason}));
        bench.store.note(id, Note { decision, ..Note::of("decided", "").at(stage) }, NOW)
    };
    decided("workers_idle", Stage::CreatingRemoteJob).await.unwrap();
    let waiting = Note::of("remote_job_created", "").at(Stage::WaitingForRemoteCompletion);
    bench.store.note(id, waiting, NOW).await.unwrap();
    decided("resumed", Stage::CreatingRemoteJob).await.unwrap();
    let task = bench.store.task(id).await.unwrap().unwrap();
    assert_eq!(task.stage, Stage::WaitingForRemoteCompletion);
    assert_eq!(task.decision, Some(json!({"reason": "workers_idle"})));
    decided("unreachable", Stage::LocalProcessing).await.unwrap();
    let task = bench.store.task(id).await.unwrap().unwrap();
    assert_eq!(task.stage, Stage::LocalProcessing);
    assert_eq!(task.decision, Some(json!({"reason": "unreachable"})));
}

#[tokio::test]
async fn an_end_is_owed_once_and_told_or_given_up() {
    let bench = Bench::new();
    let id = bench.accepted("d", Some("https://hooks.example/x")).await;
    bench.store.cancel(id, NOW).await.unwrap();
    let (due, next) = bench.store.due(NOW, 10).await.unwrap();
    assert_eq!((due.len(), next), (1, None));
    let body: Value = serde_json::from_slice(&due[0].body).unwrap();
    assert_eq!((&body["type"], &body["data"]["status"]), (&json!("ingestion.failed"), &json!("FAILURE")));
    let later = Told::Later("no answer".to_owned(), Duration::from_secs(5));
    bench.store.tried(id, later, NOW).await.unwrap();
    let (due_again, next) = bench.store.due(NOW, 10).await.unwrap();
    assert_eq!((due_again.len(), next), (0, Some(NOW.plus(Duration::from_secs(5)))));
    assert_eq!(bench.store.forget(NOW.plus(Duration::from_secs(1))).await.unwrap(), 0);
    let (again, _) = bench.store.due(NOW.plus(Duration::from_secs(5)), 10).await.unwrap();
    assert_eq!((again[0].tries, &again[0].body), (1, &due[0].body));
    bench.store.tried(id, Told::Taken, NOW).await.unwrap();
    assert_eq!(bench.store.due(NOW.plus(Duration::from_secs(99)), 10).await.unwrap(), (Vec::new(), None));
    assert_eq!(bench.events(id).await, ["accepted", "cancelled", "webhook_failed", "webhook_told"]);
    assert_eq!(bench.store.forget(NOW).await.unwrap(), 0);
    assert_eq!(bench.store.forget(NOW.plus(Duration::from_secs(1))).await.unwrap(), 1);
    assert_eq!(bench.store.task(id).await.unwrap(), None);
    assert_eq!(bench.store.history(id).await.unwrap(), []);
}

#[tokio::test]
async fn a_webhook_that_was_not_signed_after_the_one_before_it_is_replayed() {
    let bench = Bench::new();
    let seen = |signed| bench.store.hook("m1".to_owned(), signed, NOW);
    assert_eq!(seen(100).await.unwrap(), Seen::First);
    assert_eq!(seen(100).await.unwrap(), Seen::Replayed);
    assert_eq!(seen(99).await.unwrap(), Seen::Replayed);
    assert_eq!(seen(105).await.unwrap(), Seen::Again);
    assert_eq!(seen(105).await.unwrap(), Seen::Replayed);
    assert_eq!(bench.store.forget_hooks(NOW).await.unwrap(), 0);
    assert_eq!(bench.store.forget_hooks(NOW.plus(Duration::from_secs(1))).await.unwrap(), 1);
}

#[tokio::test]
async fn tasks_survive_and_a_newer_format_is_refused() {
    let bench = Bench::new();
    let id = bench.accepted("d", None).await;
    let Bench { _dir: dir, store } = bench;
    let task = store.task(id).await.unwrap();
    drop(store);
    let folder = Arc::new(Folder::open(dir.path()).unwrap());
    let again = Store::open(&folder).unwrap();
    assert_eq!(again.task(id).await.unwrap(), task);
    again.transact(|sql| Ok(sql.pragma_update(None, "user_version", 99)?)).await.unwrap();
    drop(again);
    let refused = Store::open(&folder).err().unwrap().to_string();
    assert!(refused.ends_with("has format 99, and this version knows formats up to 1; use a newer version"));
}
