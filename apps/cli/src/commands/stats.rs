use api::statistics::{QueueView, StatisticsResponse};
use client::retrying;
use jiff::Timestamp;

use super::{Session, TRIES};
use crate::{age, failure::Failure, table::Table};

pub(crate) async fn run(session: &Session<'_>) -> Result<(), Failure> {
    let client = session.client()?;
    let statistics = retrying(&TRIES, || client.statistics()).await?;
    session.output.value(&statistics)?;
    if statistics.queues.is_empty() {
        session.output.note("No job waits or runs, none has ended lately, and no queue is paused.");
    } else {
        session.output.line(&text(&statistics, Timestamp::now()))?;
    }
    Ok(())
}

fn text(statistics: &StatisticsResponse, now: Timestamp) -> String {
    let counted = match &statistics.as_of {
        Some(moment) => format!("Queues, counted {} ago", age::of(moment, now)),
        None => "Queues, not counted yet".to_owned(),
    };
    let queues = &statistics.queues;
    format!(
        "{counted}\n{}\n\nEnded in the last 24 hours; run times of the last 14 days\n{}",
        live(queues),
        ended(queues)
    )
}

/// What waits and runs.
fn live(queues: &[QueueView]) -> String {
    let mut table = Table::new(["TYPE", "PAUSED", "WAITING", "OLDEST", "BACKING OFF", "RUNNING"]);
    for queue in queues {
        table.row([
            &queue.content_type,
            if queue.paused { "paused" } else { "" },
            &queue.waiting.to_string(),
            &queue.oldest_waiting_seconds.map(age::words).unwrap_or_default(),
            &queue.backing_off.to_string(),
            &queue.running.to_string(),
        ]);
    }
    table.render()
}

/// What has ended, and how long it took.
fn ended(queues: &[QueueView]) -> String {
    let mut table = Table::new(["TYPE", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "MEDIAN", "P90"]);
    for queue in queues {
        let took = |seconds: Option<f64>| seconds.map(run_time).unwrap_or_default();
        table.row([
            &queue.content_type,
            &queue.ended_24h.completed.to_string(),
            &queue.ended_24h.failed.to_string(),
            &queue.ended_24h.timeout.to_string(),
            &queue.ended_24h.cancelled.to_string(),
            &took(queue.run_time.map(|times| times.median_seconds)),
            &took(queue.run_time.map(|times| times.p90_seconds)),
        ]);
    }
    table.render()
}

/// A run time, to two figures where it is short.
fn run_time(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    age::words(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_two_tables_that_say_how_old_they_are() {
        let mut statistics: StatisticsResponse = serde_json::from_value(serde_json::json!({
            "as_of": "2026-06-09T10:13:00.000Z",
            "queues": [
                {
                    "content_type": "audio", "paused": true, "waiting": 12, "oldest_waiting_seconds": 200,
                    "backing_off": 1, "running": 2,
                    "ended_24h": {"completed": 100, "failed": 3, "timeout": 0, "cancelled": 1},
                    "run_time": {"conversions": 100, "median_seconds": 4.25, "p90_seconds": 95.0},
                },
                {
                    "content_type": "x-mine", "paused": false, "waiting": 0, "backing_off": 0, "running": 1,
                    "ended_24h": {"completed": 0, "failed": 0, "timeout": 0, "cancelled": 0},
                },
            ],
        }))
        .unwrap();
        let now = "2026-06-09T10:13:20Z".parse().unwrap();
        assert_eq!(
            text(&statistics, now),
            "Queues, counted 20 s ago\n\
             TYPE    PAUSED  WAITING  OLDEST  BACKING OFF  RUNNING\n\
             audio   paused  12       3 min   1            2\n\
             x-mine  -       0        -       0            1\n\
             \n\
             Ended in the last 24 hours; run times of the last 14 days\n\
             TYPE    COMPLETED  FAILED  TIMEOUT  CANCELLED  MEDIAN  P90\n\
             audio   100        3       0        1          4.2 s   1 min\n\
             x-mine  0          0       0        0          -       -"
        );
        statistics.as_of = None;
        assert!(text(&statistics, now).starts_with("Queues, not counted yet\n"));
    }
}
