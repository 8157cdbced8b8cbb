use api::progress::{ProgressRequest, ProgressResponse};
use domain::Progress;

use crate::{
    Caller, Error, Service,
    poll::{remaining_seconds, report_every_seconds},
};

/// The longest message and stage that are kept, in characters.
const LONGEST_MESSAGE: usize = 500;
const LONGEST_STAGE: usize = 100;

impl Service {
    /// Takes a worker's progress, which is also its heartbeat.
    ///
    /// # Errors
    /// No job, a stale lease, a field that does not fit, or the store.
    pub async fn report_progress(
        &self,
        caller: &Caller,
        job_id: &str,
        lease_token: Option<&str>,
        request: &ProgressRequest,
    ) -> Result<ProgressResponse, Error> {
        let progress = progress(request)?;
        let job = self.job(caller, job_id).await?;
        let credential = caller.credential(lease_token);
        let now = self.now();
        let changed = self
            .change(job, |job| {
                if job.was_cancelled_under(&credential) {
                    return Ok(None);
                }
                job.heartbeat(&credential, Some(progress.clone()), now).map(|renewal| Some(renewal.job))
            })
            .await?;
        if changed.was_cancelled_under(&credential) {
            return Ok(cancelled());
        }
        Ok(ProgressResponse {
            success: true,
            message: "Progress recorded".to_owned(),
            cancelled: false,
            lease_expires_in_seconds: remaining_seconds(&changed, now),
            report_every_seconds: report_every_seconds(&changed),
        })
    }
}

fn cancelled() -> ProgressResponse {
    ProgressResponse {
        success: false,
        message: "The job was cancelled; stop working on it".to_owned(),
        cancelled: true,
        lease_expires_in_seconds: 0,
        report_every_seconds: 0,
    }
}

fn progress(request: &ProgressRequest) -> Result<Progress, Error> {
    let percentage = u8::try_from(request.percentage)
        .ok()
        .filter(|percentage| *percentage <= 100)
        .ok_or_else(|| Error::field("percentage", "must be 0 to 100"))?;
    Ok(Progress {
        percentage,
        message: cut(&request.message, LONGEST_MESSAGE),
        stage: request.stage.as_deref().map(|stage| cut(stage, LONGEST_STAGE)),
    })
}

/// The text, cut to at most `most` characters, the last of which then says that it was cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
