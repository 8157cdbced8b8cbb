use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use remote_converter::convert::ConvertError;

use super::*;

/// How many bytes of memory this process may have more than at the test's begin.
const MOST_GROWTH: u64 = 128 << 20;

/// This process's resident memory.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Runs a script and returns by how much this process grew meanwhile at most.
async fn growth(bench: &Bench, script: &str) -> (Outcome, u64) {
    let (before, most, ended) = (resident(), std::sync::atomic::AtomicU64::new(0), AtomicBool::new(false));
    let looking = async {
        while !ended.load(Ordering::Relaxed) {
            most.fetch_max(resident(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let running = async {
        let outcome = bench.shell(script, "").await;
        ended.store(true, Ordering::Relaxed);
        outcome
    };
    let (outcome, ()) = tokio::join!(running, looking);
    (outcome, most.into_inner().saturating_sub(before))
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_when_its_time_is_over() {
    let bench = Bench::new();
    let script = "trap '' TERM; echo I stay; sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & while :; do sleep 0.1; done";
    let began = Instant::now();
    let message = bench.shell(script, "limits: {timeout_seconds: 1}").await.failure();
    assert!(
        message.contains("time limit of 1 s (`timeout_seconds`)") && message.ends_with("I stay"),
        "{message}"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn the_jobs_own_time_ends_it_too() {
    let mut bench = Bench::new();
    bench.time = Duration::from_millis(500);
    let message = bench.shell("echo begun; sleep 100", "limits: {timeout_seconds: 100}").await.failure();
    assert!(message.contains("the job's time limit") && message.ends_with("begun"), "{message}");
}

#[tokio::test]
async fn one_that_says_nothing_for_too_long_is_ended_and_one_that_speaks_is_not() {
    let bench = Bench::new();
    let stalled = "limits: {stalled_seconds: 1}";
    let message = bench.shell("echo first; sleep 100", stalled).await.failure();
    assert!(message.contains("made no progress for 1 s") && message.ends_with("first"), "{message}");
    let speaking = "for i in 1 2 3 4 5 6 7; do sleep 0.3; echo $i; done; echo done >\"$2\"";
    assert_eq!(bench.shell(speaking, stalled).await.content(), "done\n");
}

/// A daemon that has left its parent, session and group, and says in a file who it is.
const DAEMON: &str = r#"
import os, sys, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            BEFORE
            os.execve(sys.executable, [sys.executable, "-c", SLEEPER, "id"], ENVIRONMENT)
        os._exit(0)
SLEEPER = '''
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("id.new", "w").write(str(os.getpid()))
os.rename("id.new", "id")
os.chdir("/")
os.close(1); os.close(2)
time.sleep(300)
'''
daemon()
while not os.path.exists("id"): time.sleep(0.01)
open(sys.argv[2], "w").write(open("id").read())
"#;

#[tokio::test]
async fn daemons_go_whatever_they_do_to_hide() {
    let hide = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)";
    for (before, environment) in [("pass", "os.environ"), ("pass", "{}"), (hide, "os.environ"), (hide, "{}")]
    {
        let bench = Bench::new();
        let script = DAEMON.replace("BEFORE", before).replace("ENVIRONMENT", environment);
        let id = bench.python(&script, "").await.content();
        assert!(is_gone(&id), "{before} {environment}: {id} runs");
    }
}

#[tokio::test]
async fn a_conversion_keeps_its_hands_off_the_daemons_of_another() {
    let (first, second) = (Bench::new(), Bench::new());
    let work = first.folders.work("job-1").unwrap();
    let script = DAEMON.replace("BEFORE", "pass").replace("ENVIRONMENT", "os.environ")
        + "\nopen('started', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.01)\nos.kill(int(open('id').read()), 0)";
    let scratch = work.path().join("scratch");
    let meanwhile = async {
        while !scratch.join("started").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        second.shell("echo x >\"$2\"", "").await.content();
        fs::write(scratch.join("go"), "").unwrap();
    };
    let python = python();
    let (outcome, ()) = tokio::join!(first.convert(&work, &python, &script, ""), meanwhile);
    let id = outcome.content();
    assert!(is_gone(&id));
}

#[tokio::test]
async fn a_gigabyte_of_log_takes_no_memory_and_its_end_is_told() {
    let bench = Bench::new();
    let script =
        "yes \"$(head -c 8000 /dev/zero | tr '\\0' x)\" | head -c 1073741824; echo; echo the end; exit 3";
    let (outcome, growth) = growth(&bench, script).await;
    assert!(outcome.lines > 100_000, "{}", outcome.lines);
    let message = outcome.failure();
    assert!(
        message.contains("exit code 3") && message.ends_with("the end") && message.len() < 2200,
        "{message}"
    );
    assert!(growth < MOST_GROWTH, "{growth}");
}

#[tokio::test]
async fn a_gigabyte_without_a_line_break_takes_no_memory() {
    let bench = Bench::new();
    let (outcome, growth) = growth(&bench, "head -c 1073741824 /dev/zero | tr '\\0' x; exit 3").await;
    assert_eq!(outcome.lines, 1);
    let message = outcome.failure();
    assert!(message.contains("exit code 3") && message.ends_with("xxx") && message.len() < 2200, "{message}");
    assert!(growth < MOST_GROWTH, "{growth}");
}

#[tokio::test]
async fn a_log_that_is_not_utf_8_is_told_all_the_same() {
    let message = Bench::new().shell("printf 'caf\\351 \\377\\376 closed\\n'; exit 1", "").await.failure();
    assert!(
        message.contains("exit code 1") && message.contains("caf") && message.ends_with("closed"),
        "{message}"
    );
}

#[tokio::test]
async fn one_that_ends_well_without_a_result_failed() {
    let message = Bench::new().shell("echo all fine", "").await.failure();
    assert!(message.contains("ended well but its result cannot be read"), "{message}");
    assert!(message.ends_with("all fine"), "{message}");
}

#[tokio::test]
async fn one_that_a_signal_ends_failed() {
    let message = Bench::new().shell("echo about to crash; kill -SEGV $$", "").await.failure();
    assert!(message.contains("ended by signal 11") && message.ends_with("about to crash"), "{message}");
}

#[tokio::test]
async fn one_that_fills_the_disk_is_ended() {
    let bench = Bench::new();
    let limits = "limits: {disk_bytes: 20971520}";
    let many = "echo writing; mkdir -p a/b; i=0; while :; do head -c 4000000 /dev/zero >a/b/$i; i=$((i+1)); [ $i -lt 50 ] || sleep 60; done";
    let message = bench.shell(many, limits).await.failure();
    assert!(message.contains("20971520 bytes (`disk_bytes`)") && message.ends_with("writing"), "{message}");

    let hidden = "import os, time\nfiles = []\nfor i in range(10):\n  f = open(f'{i}', 'wb'); f.write(bytes(4000000)); f.flush(); os.unlink(f'{i}'); files.append(f)\nprint('hidden', flush=True)\ntime.sleep(60)";
    let message = bench.python(hidden, limits).await.failure();
    assert!(message.contains("`disk_bytes`") && message.ends_with("hidden"), "{message}");

    let closed = "import os, time\nos.mkdir('a'); open('a/x', 'wb').write(bytes(19000000)); open('y', 'wb').write(bytes(4000000)); os.chmod('a', 0); time.sleep(60)";
    let message = bench.python(closed, limits).await.failure();
    assert!(message.contains("`disk_bytes`"), "{message}");

    let message = bench.shell("head -c 30000000 /dev/zero >one || exit 7", limits).await.failure();
    assert!(message.contains("exit code 7") && message.contains("File size limit exceeded"), "{message}");
}

#[tokio::test]
async fn one_that_eats_memory_is_ended_also_when_its_children_do() {
    let bench = Bench::new();
    let script = "import os, time\nfor _ in range(3):\n  if os.fork() == 0:\n    x = os.urandom(80000000); time.sleep(60)\nprint('eating', flush=True)\ntime.sleep(60)";
    let message = bench.python(script, "limits: {memory_bytes: 167772160}").await.failure();
    assert!(message.contains("167772160 bytes (`memory_bytes`)") && message.ends_with("eating"), "{message}");
    let script = "x = bytearray(1 << 30)";
    let message = bench.python(script, "limits: {address_space_bytes: 536870912}").await.failure();
    assert!(message.contains("exit code 1") && message.contains("MemoryError"), "{message}");
}

#[tokio::test]
async fn memory_that_processes_share_counts_once() {
    let script = "import os, sys, time\nx = os.urandom(60000000)\nfor _ in range(4):\n  if os.fork() == 0:\n    time.sleep(2); os._exit(0)\ntime.sleep(2)\nopen(sys.argv[2], 'w').write('shared')";
    let outcome = Bench::new().python(script, "limits: {memory_bytes: 167772160}").await;
    assert_eq!(outcome.content(), "shared");
}

#[tokio::test]
async fn cpu_time_and_cpus_are_limited() {
    let bench = Bench::new();
    let message =
        bench.shell("echo turning; while :; do :; done", "limits: {cpu_seconds: 1}").await.failure();
    assert!(message.contains("1 s of CPU time (`cpu_seconds`)") && message.ends_with("turning"), "{message}");
    let script = "import os, sys; open(sys.argv[2], 'w').write(str(len(os.sched_getaffinity(0))))";
    assert_eq!(bench.python(script, "limits: {cpus: 1}").await.content(), "1");
}

#[tokio::test]
async fn a_flood_of_processes_is_ended() {
    let script = "echo flooding\nfor i in 1 2 3; do setsid sh -c 'while :; do sleep 100 & done' & done; wait";
    let message = Bench::new().shell(script, "").await.failure();
    assert!(message.contains("had more than 1000 processes") && message.ends_with("flooding"), "{message}");
}

#[tokio::test]
async fn a_link_is_no_result() {
    let bench = Bench::new();
    let secret = bench.path("settings.yaml");
    let script = format!("ln -s {} \"$2\"", secret.display());
    let message = bench.shell(&script, "").await.failure();
    assert!(message.contains("its result cannot be read") && !message.contains("secret"), "{message}");
}

#[tokio::test]
async fn a_result_that_is_too_large_is_no_passing_failure() {
    let script = "head -c 3000 /dev/zero >\"$2\"; sleep 100";
    let outcome = Bench::new().shell(script, "limits: {max_output_bytes: 2000}").await;
    match outcome.result {
        Err(ConvertError::Failed { message, retryable: false }) => {
            assert!(message.contains("more than the 2000 bytes"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn folders_without_permissions_go_too() {
    let script = "mkdir -p a/b; echo x >a/b/c; chmod 0 a/b a; echo x >\"$2\"";
    assert_eq!(Bench::new().shell(script, "").await.content(), "x\n");
}
