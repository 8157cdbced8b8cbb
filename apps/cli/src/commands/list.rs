use api::list::JobSummary;
use clap::Args;
use jiff::Timestamp;

use super::Session;
use crate::{age, failure::Failure, filters::Filters, table::Table};

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filters: Filters,
    /// The most jobs to show
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Show every job that fits
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

pub(crate) async fn run(session: &Session<'_>, args: &ListArgs) -> Result<(), Failure> {
    let client = session.client()?;
    let mut pages = args.filters.pages(&client);
    let mut table = table(session.output.width());
    let (mut left, mut shown) = (if args.all { u64::MAX } else { args.limit }, 0_u64);
    while left > 0
        && let Some(page) = pages.next(left).await?
    {
        for job in &page {
            session.output.value(job)?;
            row(&mut table, job, Timestamp::now());
        }
        left = left.saturating_sub(page.len() as u64);
        shown += page.len() as u64;
        // Whoever reads sees each page when it is there. The headings come with the first job.
        if !page.is_empty() {
            session.output.line(&table.take())?;
        }
    }
    if shown == 0 {
        session.output.note("No job fits.");
    } else if !pages.all_given() {
        session.output.note("There may be more; --limit shows a larger number, and --all all of them.");
    }
    Ok(())
}

fn table(width: Option<usize>) -> Table {
    const HEADINGS: [&str; 8] = ["JOB", "STATUS", "%", "TYPE", "AGE", "WORKER", "NAME", "ERROR"];
    Table::new(HEADINGS).within(width, &[5, 6, 7])
}

fn row(table: &mut Table, job: &JobSummary, now: Timestamp) {
    // How far a job was that does not run says nothing any more.
    let percentage = if job.status == "processing" { job.percentage.to_string() } else { String::new() };
    table.row([
        &job.job_id,
        &job.status,
        &percentage,
        &job.content_type,
        &age::of(&job.created_at, now),
        job.worker_id.as_deref().unwrap_or_default(),
        &job.filename,
        job.error_message.as_deref().unwrap_or_default(),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str) -> JobSummary {
        serde_json::from_value(serde_json::json!({
            "job_id": "01890a5d-ac96-774b-bcce-b302099a8057", "status": status, "content_type": "audio",
            "filename": "talk.mp3", "ingestion_task_id": "t", "created_at": "2026-06-09T10:10:00.000Z",
            "updated_at": "", "worker_id": "gpu-1", "percentage": 40, "retry_count": 0,
        }))
        .unwrap()
    }

    fn shown(width: usize) -> String {
        let mut table = table(Some(width));
        let now = "2026-06-09T10:13:20Z".parse().unwrap();
        row(&mut table, &job("processing"), now);
        let error_message = Some("no speech was found in it".to_owned());
        row(&mut table, &JobSummary { error_message, ..job("failed") }, now);
        table.render()
    }

    #[test]
    fn jobs_are_a_table() {
        assert_eq!(
            shown(120),
            "JOB                                   STATUS      %   TYPE   AGE    WORKER  NAME      ERROR\n\
             01890a5d-ac96-774b-bcce-b302099a8057  processing  40  audio  3 min  gpu-1   talk.mp3  -\n\
             01890a5d-ac96-774b-bcce-b302099a8057  failed      -   audio  3 min  gpu-1   talk.mp3  no speech was found in it"
        );
    }

    #[test]
    fn the_id_stays_whole_on_a_narrow_terminal() {
        assert_eq!(
            shown(80),
            "JOB                                   STATUS      %   TYPE   AGE    ERROR\n\
             01890a5d-ac96-774b-bcce-b302099a8057  processing  40  audio  3 min  -\n\
             01890a5d-ac96-774b-bcce-b302099a8057  failed      -   audio  3 min  no speech w…"
        );
    }
}
