use std::collections::HashMap;

use api::{
    list::{JobSummary, ListRequest, ListResponse},
    rfc3339,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{ContentType, Day, Job, JobId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;
use store::{Place, Shelf};

use crate::{
    Caller, Error, Service,
    create::checked_task_id,
    status::{error_message, last_worker, percentage},
};

/// The most jobs in one answer, and how many by default.
const LARGEST_PAGE: u64 = 200;
const USUAL_PAGE: u64 = 50;
/// How many days are looked through when neither a day nor a task is asked for.
const DAYS: u64 = 90;
/// The most days and the most rows that one call looks at, so that it ends in time whatever it is asked for.
const MOST_DAYS: usize = 31;
const MOST_ROWS: usize = 500;
/// The most rows that are read at once while it is not known which of them fit.
const ROWS_AT_ONCE: usize = 100;
/// By how much another server's clock may be ahead: its jobs are listed though their day has not begun here.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// What is listed for whom, and what of it so far.
struct Listing<'a> {
    caller: &'a Caller,
    request: &'a ListRequest,
    /// The first day that is looked through, going back.
    newest: Day,
    /// The last one.
    oldest: Day,
    limit: usize,
    jobs: Vec<JobSummary>,
    rows: usize,
    days: usize,
}

/// Where a listing stands: on which day, unless it is of a task, and after which job there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    day: Option<Day>,
    after: Option<Place>,
}

/// A [`Spot`] as a caller carries it from page to page. Whose jobs it is in is not in it: that is the caller's tenant.
#[derive(Serialize, Deserialize)]
struct Cursor {
    /// What the listing is of, hashed.
    of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day: Option<Day>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<(Timestamp, JobId)>,
}

impl Service {
    /// The tenant's jobs, the newest first, page by page. A call looks at a bounded number of rows, so that a page may not
    /// be full and yet not be the last. Every job that was there at the first page is on one page, and on one only.
    ///
    /// # Errors
    /// A field that does not fit, or the store.
    pub async fn list(&self, caller: &Caller, request: &ListRequest) -> Result<ListResponse, Error> {
        let mut listing = Listing::of(caller, request, self.now())?;
        let mut spot = Some(listing.begin()?);
        while let Some(at) = spot
            && !listing.is_over()
        {
            spot = self.list_from(&mut listing, at).await?;
        }
        let cursor = spot.map(|spot| listing.cursor(spot)).transpose()?;
        Ok(ListResponse { jobs: listing.jobs, cursor })
    }

    /// Looks at the rows after a spot and says where to go on.
    async fn list_from(&self, listing: &mut Listing<'_>, spot: Spot) -> Result<Option<Spot>, Error> {
        let shelf = listing.shelf(spot);
        let most = u32::try_from(listing.rows_to_read()).unwrap_or(u32::MAX);
        let stretch = self.store.jobs.listed(&listing.caller.tenant, shelf, spot.after, most).await?;
        let mut jobs = self.jobs_at(&stretch.places).await?;
        for (seen, place) in stretch.places.iter().enumerate() {
            listing.rows += 1;
            listing.take(jobs.remove(&place.id));
            if listing.is_full() && (seen + 1 < stretch.places.len() || stretch.more) {
                return Ok(Some(Spot { after: Some(*place), ..spot }));
            }
        }
        if stretch.more {
            return Ok(Some(Spot { after: stretch.places.last().copied().or(spot.after), ..spot }));
        }
        listing.days += 1;
        Ok(listing.day_before(spot))
    }

    async fn jobs_at(&self, places: &[Place]) -> Result<HashMap<JobId, Job>, Error> {
        let mut jobs = HashMap::with_capacity(places.len());
        let ids: Vec<JobId> = places.iter().map(|place| place.id).collect();
        for read in self.store.jobs.get_many(&ids).await? {
            match read {
                Ok(job) => drop(jobs.insert(job.id, job)),
                // One that cannot be read must not keep the others from being seen.
                Err(error) => tracing::error!(cause = %error, "left out of a list"),
            }
        }
        Ok(jobs)
    }
}

impl<'a> Listing<'a> {
    fn of(caller: &'a Caller, request: &'a ListRequest, now: Timestamp) -> Result<Self, Error> {
        let limit = request.limit.unwrap_or(USUAL_PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(Error::field("limit", format!("must be 1 to {LARGEST_PAGE}")));
        }
        request.ingestion_task_id.as_deref().map(checked_task_id).transpose()?;
        let first = now.minus(Duration::from_secs((DAYS - 1) * 24 * 3600)).day();
        Ok(Self {
            caller,
            request,
            newest: request.day.unwrap_or_else(|| now.plus(CLOCKS_APART).day()),
            oldest: request.day.unwrap_or(first),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            jobs: Vec::new(),
            rows: 0,
            days: 0,
        })
    }

    fn begin(&self) -> Result<Spot, Error> {
        match &self.request.cursor {
            Some(cursor) => self.spot(cursor),
            None if self.request.ingestion_task_id.is_some() => Ok(Spot { day: None, after: None }),
            None => Ok(Spot { day: Some(self.newest), after: None }),
        }
    }

    fn shelf(&self, spot: Spot) -> Shelf<'a> {
        match (&self.request.ingestion_task_id, spot.day) {
            (Some(id), _) => Shelf::Task { id, day: self.request.day },
            (None, day) => Shelf::Day(day.unwrap_or(self.newest)),
        }
    }

    fn day_before(&self, spot: Spot) -> Option<Spot> {
        let day = spot.day.filter(|day| *day > self.oldest)?.before();
        Some(Spot { day: Some(day), after: None })
    }

    fn is_full(&self) -> bool {
        self.jobs.len() >= self.limit
    }

    fn is_over(&self) -> bool {
        self.is_full() || self.rows >= MOST_ROWS || self.days >= MOST_DAYS
    }

    /// Where every row fits, no more are read than are wanted.
    fn rows_to_read(&self) -> usize {
        let all_fit = self.request.status.is_none() && self.request.content_type.is_none();
        let wanted = if all_fit { self.limit - self.jobs.len() } else { ROWS_AT_ONCE };
        wanted.min(MOST_ROWS - self.rows)
    }

    fn take(&mut self, job: Option<Job>) {
        let fits = |job: &Job| {
            self.request.status.is_none_or(|status| job.status() == status)
                && self.request.content_type.as_ref().is_none_or(|wanted| job.spec.content_type == *wanted)
        };
        self.jobs.extend(job.filter(fits).map(|job| summary(&job)));
    }

    fn cursor(&self, spot: Spot) -> Result<String, Error> {
        let after = spot.after.map(|place| (place.created_at, place.id));
        let cursor = Cursor { of: self.hash(), day: spot.day, after };
        let text = serde_json::to_vec(&cursor).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode(text))
    }

    fn spot(&self, cursor: &str) -> Result<Spot, Error> {
        let read = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let spot = read.filter(|cursor: &Cursor| cursor.of == self.hash()).map(|cursor| Spot {
            day: cursor.day,
            after: cursor.after.map(|(created_at, id)| Place { created_at, id }),
        });
        // Nobody who only carries cursors on makes one that is beside its shelf; DynamoDB would not take it.
        spot.filter(|spot| spot.day.is_none() == self.request.ingestion_task_id.is_some())
            .filter(|spot| spot.after.is_none_or(|place| self.shelf(*spot).has_room_for(&place)))
            .ok_or_else(|| {
                Error::field("cursor", "is not what a call with the same filters answered; begin without one")
            })
    }

    /// Tells listings of one thing from those of another.
    fn hash(&self) -> String {
        let ListRequest { status, content_type, day, ingestion_task_id, .. } = self.request;
        let of = (
            self.caller.tenant.as_str(),
            status.map(Status::as_str),
            content_type.as_ref().map(ContentType::as_str),
            day,
            ingestion_task_id,
        );
        URL_SAFE_NO_PAD.encode(&Sha256::digest(format!("{of:?}"))[..9])
    }
}

fn summary(job: &Job) -> JobSummary {
    JobSummary {
        job_id: job.id.to_string(),
        status: job.status().to_string(),
        content_type: job.spec.content_type.to_string(),
        filename: job.spec.source.name.to_string(),
        ingestion_task_id: job.spec.ingestion_task_id.clone(),
        created_at: rfc3339(job.created_at),
        updated_at: rfc3339(job.updated_at),
        completed_at: job.ending().map(|ending| rfc3339(ending.at)),
        worker_id: last_worker(job),
        percentage: percentage(job),
        retry_count: job.retries,
        error_message: error_message(job),
    }
}
