use std::{
    cell::RefCell,
    io,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use proptest::prelude::*;

use super::*;

/// Keeps everything, or nothing while it is broken.
#[derive(Debug, Default)]
struct Kept {
    all: Mutex<Vec<(String, DisplayedProgress)>>,
    is_broken: AtomicBool,
}

impl JobStore for Kept {
    type Error = &'static str;

    fn update(&self, job_id: &str, progress: &DisplayedProgress) -> Result<(), &'static str> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err("the store is broken");
        }
        self.all.lock().unwrap().push((job_id.to_owned(), progress.clone()));
        Ok(())
    }
}

const NOW: Timestamp = Timestamp::constant(1_750_000_000, 0);

fn handler() -> ProgressHandler<Kept> {
    // One for the whole process, before anything is logged: what threads set for themselves may be overlooked by others.
    static LOGGING: Once = Once::new();
    LOGGING.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init());
    ProgressHandler::with_clock(Kept::default(), || NOW)
}

/// The job, the percentage, the status and the summary of each update.
fn updates(handler: &ProgressHandler<Kept>) -> Vec<(String, u8, &'static str, String)> {
    let all = handler.store().all.lock().unwrap();
    all.iter()
        .map(|(job, seen)| (job.clone(), seen.percentage, seen.status.as_str(), seen.summary.clone()))
        .collect()
}

fn last(handler: &ProgressHandler<Kept>) -> DisplayedProgress {
    handler.store().all.lock().unwrap().last().unwrap().1.clone()
}

fn update(
    job: &str,
    percentage: u8,
    status: &'static str,
    summary: &str,
) -> (String, u8, &'static str, String) {
    (job.to_owned(), percentage, status, summary.to_owned())
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the log of the thread.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What this thread logs while this runs.
fn logged(run: impl FnOnce()) -> String {
    LOG.take();
    run();
    String::from_utf8(LOG.take()).unwrap()
}

#[test]
fn the_documents_remote_worker_is_followed() {
    let handler = handler();
    handler.register_job_mapping("remote-worker-gpu-01", "job-audio-123");
    for (percentage, message) in [
        (10, "Initializing audio processing"),
        (52, "Extracting audio metadata"),
        (75, "Transcribing audio content"),
        (100, "Audio processing completed"),
    ] {
        let handled = handler.process_remote_worker_progress("remote-worker-gpu-01", percentage, message);
        assert_eq!(handled, Handled::Updated);
    }
    assert_eq!(
        updates(&handler),
        [
            update("job-audio-123", 10, "PROCESSING", "Initializing audio processing"),
            update("job-audio-123", 52, "PROCESSING", "Extracting audio metadata"),
            update("job-audio-123", 75, "PROCESSING", "Transcribing audio content"),
            update("job-audio-123", 100, "FINISHED", "Audio processing completed"),
        ]
    );
    assert!(!last(&handler).completed, "only a completion completes a job");
    assert_eq!(last(&handler).updated_at, NOW);
}

#[test]
fn the_documents_log_lines_are_followed() {
    let handler = handler();
    for (percentage, second) in [(30, 51), (60, 52), (100, 54)] {
        let line = format!(
            r#"{{"event": "Processing progress: Video processing ({percentage}%)", "timestamp": "2025-06-11T11:26:{second}.780725Z"}}"#
        );
        assert_eq!(handler.process_log_line(&line, "job-video-456"), Handled::Updated);
        let expected: Timestamp = format!("2025-06-11T11:26:{second}.780725Z").parse().unwrap();
        assert_eq!(last(&handler).updated_at, expected);
        assert_eq!(last(&handler).stage.as_deref(), Some("Video processing"));
    }
    assert_eq!(updates(&handler)[2], update("job-video-456", 100, "FINISHED", "Video processing"));
}

#[test]
fn the_documents_mixed_sources_are_followed() {
    let handler = handler();
    handler.register_job_mapping("remote-worker-1", "a");
    handler.register_job_mapping("celery-task-1", "b");
    handler.process_remote_worker_progress("remote-worker-1", 25, "Remote processing");
    handler.process_task_progress("celery-task-1", 50, "Celery processing");
    handler.process_log_line(r#"{"event": "Processing progress: Direct processing (75%)"}"#, "direct-job-1");
    assert_eq!(
        updates(&handler),
        [
            update("a", 25, "PROCESSING", "Remote processing"),
            update("b", 50, "PROCESSING", "Celery processing"),
            update("direct-job-1", 75, "PROCESSING", "Direct processing"),
        ]
    );
}

#[test]
fn a_percentage_displays_as_a_state() {
    for (percentage, status) in [(0, "PENDING"), (1, "PROCESSING"), (99, "PROCESSING"), (100, "FINISHED")] {
        let handler = handler();
        handler.process_log_line(&format!("Processing... {percentage}%"), "job");
        assert_eq!(updates(&handler), [update("job", percentage, status, "Processing")]);
    }
}

#[test]
fn lines_without_progress_do_nothing() {
    let handler = handler();
    for line in ["", "Loading model", "about 50% of it", "Processing... 101%", r#"{"event": "[5%] x""#, "a=b"]
    {
        assert_eq!(handler.process_log_line(line, "job"), Handled::NoProgress, "{line}");
    }
    handler.register_job_mapping("worker", "job");
    assert_eq!(handler.process_remote_worker_progress("worker", 101, "x"), Handled::NoProgress);
    assert_eq!(handler.process_task_progress("worker", -1, "x"), Handled::NoProgress);
    assert_eq!(updates(&handler), []);
}

#[test]
fn a_missing_mapping_warns_and_does_nothing() {
    let handler = handler();
    let log = logged(|| {
        assert_eq!(handler.process_remote_worker_progress("worker-1", 5, "x"), Handled::Unmapped);
        assert_eq!(handler.process_task_progress("task-1", 5, "x"), Handled::Unmapped);
        handler.register_job_mapping("worker-1", "job");
        assert!(handler.remove_job_mapping("worker-1"));
        assert!(!handler.remove_job_mapping("worker-1"));
        assert_eq!(handler.process_remote_worker_progress("worker-1", 5, "x"), Handled::Unmapped);
    });
    assert_eq!(log.matches(" WARN ").count(), 3, "{log}");
    assert!(log.contains("worker-1") && log.contains("task-1"), "{log}");
    assert_eq!(updates(&handler), []);
}

#[test]
fn a_new_mapping_takes_the_place_of_the_old_one() {
    let handler = handler();
    handler.register_job_mapping("worker", "first");
    handler.register_job_mapping("worker", "second");
    handler.process_remote_worker_progress("worker", 5, "x");
    assert_eq!(updates(&handler), [update("second", 5, "PROCESSING", "x")]);
}

#[test]
fn a_store_error_is_logged_and_later_updates_go_on() {
    let handler = handler();
    handler.store().is_broken.store(true, Ordering::Relaxed);
    let log = logged(|| {
        assert_eq!(handler.process_log_line("Processing... 5%", "job"), Handled::NotStored);
        assert_eq!(handler.handle_job_completion("job", true, "done"), Handled::NotStored);
    });
    assert_eq!(log.matches("ERROR").count(), 2, "{log}");
    assert!(log.contains("the store is broken"), "{log}");
    handler.store().is_broken.store(false, Ordering::Relaxed);
    assert_eq!(handler.process_log_line("Processing... 6%", "job"), Handled::Updated);
    assert_eq!(handler.handle_job_completion("job", true, "done"), Handled::Updated);
}

#[test]
fn what_is_older_than_what_a_job_displays_is_ignored() {
    let handler = handler();
    let line = |percentage: u8, second: u8| {
        format!(r#"{{"event": "[{percentage}%] x", "timestamp": "2025-06-11T11:26:{second}Z"}}"#)
    };
    assert_eq!(handler.process_log_line(&line(60, 20), "job"), Handled::Updated);
    assert_eq!(handler.process_log_line(&line(30, 10), "job"), Handled::Older);
    assert_eq!(
        handler.process_log_line(&line(30, 10), "other"),
        Handled::Updated,
        "of another job it is not"
    );
    assert_eq!(handler.process_log_line(&line(61, 20), "job"), Handled::Updated);
    assert_eq!(handler.process_log_line("[62%] x", "job"), Handled::Updated);
    assert_eq!(handler.process_log_line(&line(30, 19), "job"), Handled::Older);
    assert_eq!(last(&handler).percentage, 62);
}

#[test]
fn what_only_tells_a_percentage_leaves_what_was_said_before() {
    let handler = handler();
    handler.process_log_line("Stage: transcription (5%)", "job");
    handler.process_log_line("[6%]", "job");
    assert_eq!(last(&handler).summary, "transcription");
    assert_eq!(last(&handler).stage.as_deref(), Some("transcription"));
}

#[test]
fn a_completion_ends_a_job_until_it_is_registered_anew() {
    let handler = handler();
    handler.register_job_mapping("worker", "job");
    handler.process_remote_worker_progress("worker", 40, "x");
    assert_eq!(handler.handle_job_completion("job", true, "Processing completed"), Handled::Updated);
    let completed = last(&handler);
    assert_eq!((completed.percentage, completed.status), (100, DisplayedStatus::Finished));
    assert!(completed.completed && completed.summary == "Processing completed");

    assert_eq!(handler.process_log_line("Processing... 50%", "job"), Handled::Ended);
    assert_eq!(handler.handle_job_completion("job", false, "again"), Handled::Ended);
    let _ = logged(|| {
        assert_eq!(handler.process_remote_worker_progress("worker", 60, "late"), Handled::Unmapped);
    });
    assert_eq!(last(&handler), completed);

    handler.register_job_mapping("worker", "job");
    assert_eq!(handler.process_remote_worker_progress("worker", 1, "anew"), Handled::Updated);
    assert_eq!((last(&handler).percentage, last(&handler).completed), (1, false));
}

#[test]
fn a_failed_job_keeps_its_percentage() {
    let handler = handler();
    handler.process_log_line("Processing... 40%", "job");
    handler.handle_job_completion("job", false, "It is no recording");
    assert_eq!(updates(&handler)[1], update("job", 40, "FAILED", "It is no recording"));
    assert!(last(&handler).completed);
}

#[test]
fn a_forgotten_job_begins_anew() {
    let handler = handler();
    handler.process_log_line(r#"{"event": "[60%] x", "timestamp": "2025-06-11T11:26:50Z"}"#, "job");
    handler.forget("job");
    let earlier = r#"{"event": "[10%]", "timestamp": "2025-06-11T11:26:40Z"}"#;
    assert_eq!(handler.process_log_line(earlier, "job"), Handled::Updated);
    assert_eq!(updates(&handler)[1], update("job", 10, "PROCESSING", ""));
}

#[test]
fn tools_count_as_long_as_the_converter_does_not_speak_and_never_to_the_end() {
    let handler = handler();
    handler.process_log_line("[download]  40.0% of 10MiB at 1MiB/s", "job");
    handler.process_log_line("[download] 100% of 10MiB in 00:10", "job");
    assert_eq!(updates(&handler)[0], update("job", 40, "PROCESSING", "Downloading 10MiB at 1MiB/s"));
    assert_eq!(updates(&handler)[1], update("job", 99, "PROCESSING", "Downloading 10MiB in 00:10"));

    handler.process_log_line("Processing progress: Audio processing: Extracting (20%)", "job");
    handler.process_log_line("  Duration: 00:01:40.00, start: 0.000000", "job");
    handler.process_log_line("size=1kB time=00:00:50.00 bitrate=1kbits/s", "job");
    assert_eq!(updates(&handler)[3], update("job", 20, "PROCESSING", "ffmpeg: 00:00:50 of 00:01:40"));
}

#[test]
fn nothing_displayed_moves_a_terminals_cursor() {
    let handler = handler();
    handler.register_job_mapping("worker", "job");
    handler.process_remote_worker_progress("worker", 5, "a\x1b[2J\x07\nb");
    handler.process_log_line(r#"{"event":"[6%] a\u001b[2J\u0007\nb"}"#, "job");
    handler.process_log_line("Stage: a\x1b[2J\x07b (7%)", "job");
    handler.handle_job_completion("job", true, "a\x1b[2J\x07\nb");
    let summaries: Vec<String> = updates(&handler).into_iter().map(|update| update.3).collect();
    assert_eq!(summaries, ["a b", "a b", "ab", "a b"]);
}

#[test]
fn threads_may_share_it() {
    let handler = handler();
    std::thread::scope(|threads| {
        for job in ["a", "b", "c", "d"] {
            threads.spawn(|| {
                for percentage in 0..=100 {
                    handler.process_log_line(&format!("Processing... {percentage}%"), job);
                }
                handler.handle_job_completion(job, true, "done");
            });
        }
    });
    for job in ["a", "b", "c", "d"] {
        let seen = updates(&handler);
        let seen: Vec<u8> = seen.iter().filter(|update| update.0 == job).map(|update| update.1).collect();
        assert_eq!(seen, (0..=100).chain([100]).collect::<Vec<u8>>());
    }
}

proptest! {
    #[test]
    fn what_is_displayed_is_the_latest(
        events in proptest::collection::vec((0u8..=100, proptest::option::of(10u8..60)), 1..30),
    ) {
        let handler = handler();
        let lines: Vec<String> = events
            .iter()
            .map(|(percentage, second)| match second {
                Some(second) => format!(
                    r#"{{"event":"[{percentage}%]","timestamp":"2025-06-11T11:26:{second}Z"}}"#
                ),
                None => format!("[{percentage}%]"),
            })
            .collect();
        for line in &lines {
            handler.process_log_line(line, "job");
        }
        let expected = crate::latest(crate::parse_stream(&lines)).unwrap();
        prop_assert_eq!(last(&handler).percentage, expected.percentage);
    }
}
