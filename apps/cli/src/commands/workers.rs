use api::workers::{ListWorkersRequest, ListWorkersResponse};
use clap::Args;
use client::retrying;
use domain::ContentType;
use jiff::Timestamp;

use super::{Session, TRIES};
use crate::{age, failure::Failure, filters, table::Table};

/// The columns that a narrow terminal may cut: versions, types, jobs.
const FLEXIBLE: &[usize] = &[3, 4, 5];

#[derive(Args, Debug)]
pub(crate) struct WorkersArgs {
    /// Workers that convert this type: audio, video, document, image, web, youtube, or a custom type spelled x-…
    #[arg(long = "type", value_name = "TYPE", value_parser = filters::content_type)]
    content_type: Option<ContentType>,
}

pub(crate) async fn run(session: &Session<'_>, args: &WorkersArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let request = ListWorkersRequest { content_type: args.content_type.clone() };
    let known = retrying(&TRIES, || client.list_workers(&request)).await?;
    for worker in &known.workers {
        session.output.value(worker)?;
    }
    if known.workers.is_empty() {
        session.output.note(&nobody(args.content_type.as_ref()));
    } else {
        session.output.line(&table(&known, session.output.width(), Timestamp::now()))?;
    }
    if known.more {
        session.output.note("There are more; those that were not seen for days are left out first.");
    }
    Ok(())
}

fn nobody(content_type: Option<&ContentType>) -> String {
    match content_type {
        Some(content_type) => format!("No worker that converts {content_type} has polled in the last week."),
        None => "No worker has polled in the last week.".to_owned(),
    }
}

fn table(known: &ListWorkersResponse, width: Option<usize>, now: Timestamp) -> String {
    let mut table =
        Table::new(["WORKER", "LIVE", "SEEN", "VERSION", "TYPES", "RUNS"]).within(width, FLEXIBLE);
    for worker in &known.workers {
        table.row([
            &worker.worker_id,
            if worker.live { "live" } else { "" },
            &age::of(&worker.last_seen, now),
            worker.version.as_deref().unwrap_or_default(),
            &worker.content_types.join(","),
            &worker.running_jobs.join(","),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_a_table() {
        let known: ListWorkersResponse = serde_json::from_value(serde_json::json!({
            "workers": [
                {
                    "worker_id": "gpu-1", "content_types": ["audio", "x-mine"], "version": "remote-converter/0.1.0",
                    "last_seen": "2026-06-09T10:13:00.000Z", "live": true,
                    "running_jobs": ["01890a5d-ac96-774b-bcce-b302099a8057"],
                },
                {
                    "worker_id": "old", "content_types": ["audio"], "version": null,
                    "last_seen": "2026-06-07T09:13:00.000Z", "live": false, "running_jobs": [],
                },
            ],
            "live_within_seconds": 120,
        }))
        .unwrap();
        let now = "2026-06-09T10:13:20Z".parse().unwrap();
        assert_eq!(
            table(&known, None, now),
            "WORKER  LIVE  SEEN  VERSION                 TYPES         RUNS\n\
             gpu-1   live  20 s  remote-converter/0.1.0  audio,x-mine  01890a5d-ac96-774b-bcce-b302099a8057\n\
             old     -     2 d   -                       audio         -"
        );
        let narrow = table(&known, Some(60), now);
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
    }
}
