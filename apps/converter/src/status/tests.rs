use std::{os::unix::fs::PermissionsExt, sync::Arc};

use tokio::time::Instant;

use super::*;
use crate::{
    activity::Activities,
    folders::Folders,
    jobs::{Jobs, Phase},
};

fn standing(root: &Path) -> Standing {
    Standing {
        worker_id: "tester".parse().unwrap(),
        server: "http://localhost:8000".parse().unwrap(),
        max_jobs: 2,
        since: Instant::now(),
        jobs: Arc::new(Jobs::new(Duration::from_secs(900))),
        activities: Arc::new(Activities::default()),
        folders: Arc::new(Folders::open(root).unwrap()),
    }
}

async fn asked(root: &Path) -> io::Result<String> {
    let root = root.to_owned();
    tokio::task::spawn_blocking(move || ask(&root)).await.unwrap()
}

fn refusal(root: &Path) -> Failed {
    unanswered(root, &ask(root).unwrap_err())
}

#[tokio::test]
async fn a_running_one_answers_and_only_its_user_can_ask() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("temp");
    let standing = standing(&root);
    let (activities, spool, rejected) =
        (Arc::clone(&standing.activities), standing.folders.spool(), standing.folders.rejected());
    let _serving = Serving::start(standing).unwrap();
    let mode = root.join(SOCKET).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    activities.set_because(Activity::Paused, "its disk\x1b[2J is full");
    activities.answered(0);
    for file in ["a.json", "b.json", "b.upload"] {
        std::fs::write(spool.join(file), "{}").unwrap();
    }
    std::fs::write(rejected.join("c.json"), "{}").unwrap();
    let status = read(&asked(&root).await.unwrap()).unwrap();
    assert_eq!((status.worker_id.as_str(), status.pid), ("tester", std::process::id()));
    assert_eq!((status.activity, status.reason.as_deref()), (Activity::Paused, Some("its disk is full")));
    assert_eq!(status.last_answer.unwrap().text, "no work");
    assert_eq!((status.spooled, status.rejected, status.jobs.len()), (2, 1, 0));
    asked(&root).await.unwrap();
}

#[tokio::test]
async fn one_that_stopped_or_never_ran_is_told_from_one_that_runs() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("temp");
    assert_eq!(refusal(&root).code, NO_ANSWER);
    let serving = Serving::start(standing(&root)).unwrap();
    drop(serving);
    assert!(!root.join(SOCKET).exists());
    let refusal = refusal(&root);
    assert_eq!(refusal.code, NO_ANSWER);
    assert!(refusal.message.contains(root.to_str().unwrap()), "{}", refusal.message);
}

#[tokio::test]
async fn what_a_killed_one_left_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("temp");
    std::fs::create_dir(&root).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join(SOCKET)).unwrap());
    assert_eq!(refusal(&root).code, NO_ANSWER);
    let _serving = Serving::start(standing(&root)).unwrap();
    assert!(asked(&root).await.is_ok());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_folder_may_have_a_longer_path_than_a_socket() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("long".repeat(40));
    let _serving = Serving::start(standing(&root)).unwrap();
    assert!(asked(&root).await.is_ok());
}

#[test]
fn a_person_sees_every_job_on_a_line_without_escape_sequences() {
    let job = RunningJob {
        job_id: "3f2a9b1c-0000-4000-8000-000000000000".to_owned(),
        attempt: 2,
        content_type: "audio".to_owned(),
        source: "talk\x1b[2J.wav".to_owned(),
        bytes: 5,
        phase: Phase::Converting,
        converter: Some("faster-whisper".to_owned()),
        percentage: 40,
        message: "Transcribing\n\x07".to_owned(),
        since: "2025-06-11T11:26:50Z".to_owned(),
        seconds: 600,
        seconds_since_progress: 3,
        stalled: false,
    };
    let stalled = RunningJob { stalled: true, seconds_since_progress: 1800, ..job.clone() };
    let status = Status {
        worker_id: "tester".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 7,
        server: "http://localhost:8000".to_owned(),
        seconds: 7500,
        activity: Activity::Polling,
        reason: None,
        last_answer: Some(LastAnswer {
            ok: true,
            text: "1 job".to_owned(),
            at: "2025-06-11T11:26:50Z".to_owned(),
            seconds_ago: 9,
        }),
        max_concurrent_jobs: 2,
        jobs: vec![job, stalled],
        completed: Completed { finished: 12, failed: 1 },
        spooled: 0,
        rejected: 3,
    };
    assert_eq!(
        show::text(&status, None),
        "Worker:  tester (version 0.1.0, process 7)\n\
         Server:  http://localhost:8000\n\
         State:   polling\n\
         Answer:  good: 1 job, 9 s ago\n\
         Jobs:    2 of 2 running; 12 finished and 1 failed in 2 h 5 min\n\
         Results: 0 waiting in the spool, 3 refused\n\
         \n\
         JOB                                   TRY  TYPE   SOURCE    PHASE                        DONE  FOR     MESSAGE\n\
         3f2a9b1c-0000-4000-8000-000000000000  2    audio  talk.wav  converting (faster-whisper)  40 %  10 min  Transcribing\n\
         3f2a9b1c-0000-4000-8000-000000000000  2    audio  talk.wav  stalled                      40 %  10 min  no progress for 30 min; last: Transcribing\n"
    );
    let narrow = show::text(&status, Some(60));
    assert!(narrow.lines().skip(7).all(|line| line.chars().count() <= 60 && line.ends_with('…')), "{narrow}");
}
