use rustix::process::{Pid, kill_process_group};

use super::*;
use crate::contain::Reach;

fn shell(folder: &Path, script: &str) -> Task {
    Task {
        words: ["sh", "-c", script].map(OsString::from).to_vec(),
        folder: folder.to_owned(),
        environment: Vec::new(),
        limits: Limits::default(),
        containment: Containment {
            reach: Reach::Nothing,
            writable: folder.to_owned(),
            readable: Vec::new(),
            closed: Vec::new(),
            cpus: None,
        },
        way: None,
        deadline: None,
        result: TaskResult::File(folder.join("output"), 1000),
    }
}

async fn lines_of(task: &Task) -> (Finished, Vec<String>) {
    let mut lines = Vec::new();
    let finished =
        run(task, &CancellationToken::new(), &mut |line| lines.push(line.to_owned())).await.unwrap();
    (finished, lines)
}

/// Whether a process that writes its id to this file runs no more.
async fn is_gone(file: &Path) -> bool {
    let id = std::fs::read_to_string(file).unwrap();
    for _ in 0..200 {
        // A killed process may stay as a zombie until its new parent has looked at it.
        let status = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        if status.is_empty() || status.contains(") Z ") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn appeared(file: &Path) {
    while !std::fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n')) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn lines_of_both_pipes_are_seen_and_the_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo out; echo err >&2; printf unfinished; exit 65";
    let (finished, mut lines) = lines_of(&shell(folder.path(), script)).await;
    lines.sort();
    assert_eq!(lines, ["err", "out", "unfinished"]);
    assert_eq!(finished.ended, Ended::Exited(65));
    assert!(finished.log_end(1000).contains("unfinished"));

    let (finished, _) = lines_of(&shell(folder.path(), "kill -9 $$")).await;
    assert_eq!(finished.ended, Ended::Signalled(9));
}

#[tokio::test]
async fn it_runs_in_its_folder_without_input_or_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = shell(folder.path(), "pwd; cat; env");
    task.environment = vec!["CARGO_PKG_NAME".to_owned()];
    let (finished, lines) = lines_of(&task).await;
    assert_eq!(finished.ended, Ended::Exited(0));
    assert_eq!(Path::new(&lines[0]), folder.path().canonicalize().unwrap());
    assert!(lines.iter().any(|line| line.starts_with("PATH=")));
    assert!(lines.contains(&"CARGO_PKG_NAME=remote-converter".to_owned()));
    assert!(!lines.iter().any(|line| line.starts_with("CARGO_MANIFEST_DIR=")
        || (line.starts_with("MORAG_") && !line.starts_with("MORAG_WORK_FOLDER="))));
}

#[tokio::test]
async fn stopping_kills_grandchildren_that_ignore_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >id; while :; do sleep 0.1; done' & wait; sleep 60";
    let task = shell(folder.path(), script);
    let stop = CancellationToken::new();
    let id = folder.path().join("id");
    let stopping = async {
        appeared(&id).await;
        stop.cancel();
    };
    let mut ignore = |_: &str| {};
    let (finished, ()) = tokio::join!(run(&task, &stop, &mut ignore), stopping);
    assert_eq!(finished.unwrap().ended, Ended::Stopped);
    assert!(is_gone(&id).await);
}

#[tokio::test]
async fn what_a_command_leaves_running_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = "sh -c 'echo $$ >id; sleep 60' & while ! [ -s id ]; do sleep 0.01; done";
    let (finished, _) = lines_of(&shell(folder.path(), script)).await;
    assert_eq!(finished.ended, Ended::Exited(0));
    assert!(is_gone(&folder.path().join("id")).await);
}

#[tokio::test]
async fn dropping_the_run_kills_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let task = shell(folder.path(), "sh -c 'echo $$ >id; sleep 60' & wait");
    let id = folder.path().join("id");
    tokio::select! {
        _ = lines_of(&task) => panic!("it ended"),
        () = appeared(&id) => {}
    }
    assert!(is_gone(&id).await);
}

#[tokio::test]
async fn a_command_outside_its_group_cannot_hold_its_end_up() {
    let folder = tempfile::tempdir().unwrap();
    let script = "setsid sh -c 'echo $$ >id; sleep 60' & while ! [ -s id ]; do sleep 0.01; done";
    let (finished, _) = lines_of(&shell(folder.path(), script)).await;
    assert_eq!(finished.ended, Ended::Exited(0));
    let id: i32 = std::fs::read_to_string(folder.path().join("id")).unwrap().trim().parse().unwrap();
    let _ = kill_process_group(Pid::from_raw(id).unwrap(), Signal::KILL);
}

#[tokio::test]
async fn a_deadline_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = shell(folder.path(), "echo begun; sleep 60");
    task.deadline = Some(Instant::now() + Duration::from_millis(200));
    let (finished, _) = lines_of(&task).await;
    assert_eq!(finished.ended, Ended::Over(Exceeded::JobTime));
}

#[tokio::test]
async fn results_that_grow_too_large_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let task = shell(folder.path(), "head -c 5000 /dev/zero >output; sleep 60");
    assert_eq!(lines_of(&task).await.0.ended, Ended::Over(Exceeded::Output(1000)));

    let mut task = shell(folder.path(), "cat /dev/zero");
    task.result = TaskResult::Stdout(5000);
    let (finished, lines) = lines_of(&task).await;
    assert_eq!(finished.ended, Ended::Over(Exceeded::Output(5000)));
    assert!(finished.stdout.len() <= 5000 && lines.is_empty());
}

#[tokio::test]
async fn standard_output_can_be_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = shell(folder.path(), "printf 'a\\nb'; echo log >&2");
    task.result = TaskResult::Stdout(3);
    let (finished, lines) = lines_of(&task).await;
    assert_eq!((finished.ended, finished.stdout.as_slice()), (Ended::Exited(0), b"a\nb".as_slice()));
    assert_eq!(lines, ["log"]);
}

#[tokio::test]
async fn memory_is_limited() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = shell(folder.path(), "ulimit -v");
    task.limits.address_space_bytes = Some(512 << 20);
    assert_eq!(lines_of(&task).await.1, [(512 << 10).to_string()]);
    task.words = ["python3", "-c", "bytearray(1 << 30)"].map(OsString::from).to_vec();
    assert_eq!(lines_of(&task).await.0.ended, Ended::Exited(1));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failure_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut task = shell(folder.path(), "");
    task.words = vec![OsString::from("no-such-program")];
    let (finished, lines) = lines_of(&task).await;
    assert_eq!(finished.ended, Ended::Exited(127));
    assert!(lines[0].contains("no-such-program"), "{lines:?}");
}

#[tokio::test]
async fn a_flood_of_output_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let task = shell(folder.path(), "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end");
    let (finished, lines) = lines_of(&task).await;
    assert_eq!(finished.ended, Ended::Exited(0));
    assert!(lines[0].len() <= progress::MOST_LINE_BYTES);
    assert!(finished.log_end(usize::MAX).len() <= 8192 && finished.log_end(10).ends_with("end"));
}
