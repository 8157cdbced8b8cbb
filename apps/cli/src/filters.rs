//! Which jobs: the filters that `list` and the commands for many jobs share, and the pages that they select.

use api::list::{JobSummary, ListRequest};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use client::{Client, retrying};
use domain::{ContentType, Day, Status, Timestamp};

use crate::{commands::TRIES, failure::Failure};

/// The most jobs that the server puts into one page.
const MOST_IN_A_PAGE: u64 = 200;

/// Where help lists them.
const HEADING: &str = "Filters";

#[derive(Args, Clone, Debug, Default)]
#[group(id = "filters", multiple = true)]
pub(crate) struct Filters {
    /// Jobs with this status; several, with commas between them, mean any of them
    #[arg(long, help_heading = HEADING, value_name = "STATUS", value_delimiter = ',', value_parser = status_parser())]
    pub(crate) status: Vec<Status>,
    /// Jobs of this type: audio, video, document, image, web, youtube, or a custom type spelled x-…
    #[arg(long = "type", help_heading = HEADING, value_name = "TYPE", value_parser = content_type)]
    pub(crate) content_type: Option<ContentType>,
    /// Jobs created on this day in UTC: YYYY-MM-DD, today or yesterday; without it, and without --task, the last 90 days
    #[arg(long, help_heading = HEADING, value_name = "DAY", value_parser = day)]
    pub(crate) day: Option<Day>,
    /// Jobs of this piece of work, by your own id for it
    #[arg(long, help_heading = HEADING, value_name = "ID", value_parser = task)]
    pub(crate) task: Option<String>,
}

impl Filters {
    /// The pages of jobs that fit.
    pub(crate) fn pages<'a>(&self, client: &'a Client) -> Pages<'a> {
        let (status, wanted) = match self.status.as_slice() {
            [status] => (Some(*status), Vec::new()),
            // The server takes one status, so that of several is looked for here.
            several => (None, several.to_vec()),
        };
        let request = ListRequest {
            status,
            content_type: self.content_type.clone(),
            day: self.day,
            ingestion_task_id: self.task.clone(),
            limit: None,
            cursor: None,
        };
        Pages { client, request, wanted, ended: false, cut: false }
    }
}

/// The pages of a list of jobs, the newest first, each fetched when it is asked for.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    request: ListRequest,
    wanted: Vec<Status>,
    ended: bool,
    /// Whether jobs of a page were left out, because no more were asked for.
    cut: bool,
}

impl Pages<'_> {
    /// The next page, of at most `most` jobs, which may be empty; `None` after the last.
    pub(crate) async fn next(&mut self, most: u64) -> Result<Option<Vec<JobSummary>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        // Most of a page may not be wanted, so a whole one is looked at.
        let limit = if self.wanted.is_empty() { most.min(MOST_IN_A_PAGE) } else { MOST_IN_A_PAGE };
        self.request.limit = Some(limit);
        let page = retrying(&TRIES, || self.client.list_jobs(&self.request)).await?;
        self.ended = page.cursor.is_none();
        self.request.cursor = page.cursor;
        let fits = |job: &JobSummary| {
            self.wanted.is_empty() || self.wanted.iter().any(|status| status.as_str() == job.status)
        };
        let mut jobs: Vec<JobSummary> = page.jobs.into_iter().filter(fits).collect();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.cut |= jobs.len() > most;
        jobs.truncate(most);
        Ok(Some(jobs))
    }

    /// Whether every job that fits was given.
    pub(crate) fn all_given(&self) -> bool {
        self.ended && !self.cut
    }
}

/// Reads a content type.
pub(crate) fn content_type(text: &str) -> Result<ContentType, String> {
    text.parse().map_err(|error: domain::InvalidValue| error.to_string())
}

fn status_parser() -> impl TypedValueParser<Value = Status> {
    PossibleValuesParser::new(Status::ALL.map(Status::as_str))
        .try_map(|name| Status::ALL.into_iter().find(|status| status.as_str() == name).ok_or("is no status"))
}

fn day(text: &str) -> Result<Day, String> {
    let today = Timestamp(jiff::Timestamp::now().as_millisecond()).day();
    match text {
        "today" => Ok(today),
        "yesterday" => Ok(today.before()),
        text => text.parse().map_err(|_| "use YYYY-MM-DD, today or yesterday".to_owned()),
    }
}

/// An empty id would select every job, because on the wire it means that there is none.
fn task(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("give the id of the work".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_names() {
        let today = day("today").unwrap();
        assert_eq!(day("yesterday").unwrap(), today.before());
        assert_eq!(day(&today.to_string()).unwrap(), today);
        assert!(day("monday").unwrap_err().contains("yesterday"));
    }

    #[test]
    fn an_empty_id_is_no_filter() {
        assert!(task("").is_err());
        assert_eq!(task("t").unwrap(), "t");
    }

    #[test]
    fn one_status_is_the_servers_and_several_are_looked_for_here() {
        let client = Client::new("http://localhost:1".parse().unwrap(), None, "t/0").unwrap();
        let filters = |status: &[Status]| Filters { status: status.to_vec(), ..Filters::default() };
        let pages = filters(&[Status::Failed]).pages(&client);
        assert_eq!((pages.request.status, pages.wanted.len()), (Some(Status::Failed), 0));
        let pages = filters(&[Status::Failed, Status::Timeout]).pages(&client);
        assert_eq!((pages.request.status, pages.wanted.len()), (None, 2));
        assert!(!pages.all_given());
    }
}
