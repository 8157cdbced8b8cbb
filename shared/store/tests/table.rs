//! Jobs are created, read and replaced, and no write is unconditional.

use aws_sdk_dynamodb::types::{AttributeValue, TimeToLiveStatus};
use domain::{Credential, Job, JobId, LeaseTerms, Progress, Timestamp};
use store::{Creation, Replacement, Units};
use uuid::Uuid;

use crate::{
    backend::RETENTION,
    support::{Lost, Place, at, claimed, loses, native, new_job, pk, submitted, success, why},
};

#[tokio::test]
async fn a_created_job_is_read_back_as_it_was_made() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    assert_eq!(place.jobs.get(job.id).await.unwrap(), Some(job));
}

#[tokio::test]
async fn a_job_that_was_never_created_is_not_there() {
    let place = Place::new().await;
    assert_eq!(place.jobs.get(JobId(Uuid::now_v7())).await.unwrap(), None);
}

#[tokio::test]
async fn a_creation_under_an_id_that_is_taken_changes_nothing_and_gives_the_job_that_is_there() {
    let place = Place::new().await;
    let first = place.created(new_job()).await;
    let running = place.replaced(&first, claimed(&first, &native(1), at(1))).await;
    let second = Job { created_at: at(9), ..first.clone() };
    assert_eq!(place.jobs.create(&second).await.unwrap(), Creation::Exists(Box::new(running.clone())));
    assert_eq!(place.read(&first).await, running);
}

#[tokio::test]
async fn the_very_same_creation_again_is_the_creation() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    assert_eq!(place.jobs.create(&job).await.unwrap(), Creation::Created);
    assert_eq!(place.read(&job).await, job);
}

#[tokio::test]
async fn a_job_that_is_still_as_it_was_read_is_replaced() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    let running = claimed(&job, &native(1), at(1));
    assert_eq!(place.jobs.replace(&job, &running).await.unwrap(), Replacement::Written);
    assert_eq!(place.read(&job).await, running);
}

#[tokio::test]
async fn of_two_that_read_the_same_job_the_second_loses_and_gets_the_job_as_it_is_now() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    let first = place.replaced(&job, claimed(&job, &native(1), at(1))).await;
    let second = claimed(&job, &native(2), at(2));
    assert_eq!(
        place.jobs.replace(&job, &second).await.unwrap(),
        Replacement::Lost(Some(Box::new(first.clone())))
    );
    assert_eq!(place.read(&job).await, first);
}

#[tokio::test]
async fn a_job_that_is_gone_is_not_replaced() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    place.delete_row(&pk(&job)).await;
    let lost = place.jobs.replace(&job, &claimed(&job, &native(1), at(1))).await.unwrap();
    assert_eq!(lost, Replacement::Lost(None));
    assert_eq!(place.jobs.get(job.id).await.unwrap(), None);
}

#[tokio::test]
async fn progress_alone_leaves_the_revision_so_that_it_takes_no_other_write_its_turn() {
    let place = Place::new().await;
    let worker = native(1);
    let job = place.created(new_job()).await;
    let running = place.replaced(&job, claimed(&job, &worker, at(1))).await;
    let confirmed = place.replaced(&running, said(&running, &worker, 1, at(2))).await;
    let told = place.replaced(&confirmed, said(&confirmed, &worker, 2, at(3))).await;
    assert_eq!((told.revision, place.read(&job).await), (confirmed.revision, told.clone()));
    // Who read the job before the progress still writes.
    place.replaced(&confirmed, submitted(&confirmed, &worker.0, success(), at(4))).await;
}

fn said(job: &Job, (credential, _): &(Credential, LeaseTerms), percentage: u8, now: Timestamp) -> Job {
    let progress = Progress { percentage, message: "page 1".to_owned(), stage: None };
    job.heartbeat(credential, Some(progress), now).unwrap().job
}

#[tokio::test]
async fn a_creation_whose_answer_was_lost_is_made_once_and_known_to_be_made() {
    let place = Place::new().await;
    let job = new_job();
    let store = place.behind(|way| loses(Lost::Answer, "PutItem", way)).await;
    assert_eq!(store.jobs.create(&job).await.unwrap(), Creation::Created);
    assert_eq!(store.meter.units().lost_conditions, 1, "the write was not sent twice");
    assert_eq!(place.read(&job).await, job);
}

#[tokio::test]
async fn a_replacement_whose_answer_was_lost_is_made_once_and_known_to_be_made() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    let running = claimed(&job, &native(1), at(1));
    let store = place.behind(|way| loses(Lost::Answer, "PutItem", way)).await;
    assert_eq!(store.jobs.replace(&job, &running).await.unwrap(), Replacement::Written);
    assert_eq!(store.meter.units().lost_conditions, 1, "the write was not sent twice");
    assert_eq!(place.read(&job).await, running);
}

#[tokio::test]
async fn a_row_is_kept_for_ever_while_the_job_lives_and_for_the_retention_after_its_end() {
    let place = Place::new().await;
    let worker = native(1);
    let job = place.created(new_job()).await;
    let running = place.replaced(&job, claimed(&job, &worker, at(1))).await;
    assert_eq!(place.row_of(&job).await.get("expires_at"), None);
    place.replaced(&running, submitted(&running, &worker.0, success(), at(7))).await;
    let expires = (at(7).plus(RETENTION).0 / 1000).to_string();
    assert_eq!(place.row_of(&job).await.get("expires_at"), Some(&AttributeValue::N(expires)));
}

#[tokio::test]
async fn the_table_and_the_bucket_are_made_once_and_made_sure_of_as_often_as_wanted() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    place.ensure().await.unwrap();
    assert_eq!(place.read(&job).await, job);
    assert_eq!(ttl(&place).await, (Some("expires_at".to_owned()), true));
}

#[tokio::test]
async fn a_table_that_was_made_without_its_time_to_live_gets_it_the_next_time() {
    let place = Place::new().await;
    place.raw().delete_table().table_name(place.table()).send().await.unwrap();
    let half_way = place.behind(|way| loses(Lost::Call, "UpdateTimeToLive", way)).await;
    let (kind, _) = why(half_way.ensure().await);
    assert_eq!((kind, ttl(&place).await.1), ("unavailable", false));
    place.ensure().await.unwrap();
    assert_eq!(ttl(&place).await, (Some("expires_at".to_owned()), true));
}

async fn ttl(place: &Place) -> (Option<String>, bool) {
    let described = place.raw().describe_time_to_live().table_name(place.table()).send().await.unwrap();
    let described = described.time_to_live_description().unwrap();
    let on = matches!(
        described.time_to_live_status(),
        Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
    );
    (described.attribute_name().map(str::to_owned), on)
}

#[tokio::test]
async fn what_was_consumed_is_counted() {
    let place = Place::new().await;
    let before = place.meter.units();
    let job = place.created(new_job()).await;
    place.read(&job).await;
    place
        .jobs
        .replace(&Job { revision: 7, ..job.clone() }, &job.cancel(false, at(1)).unwrap())
        .await
        .unwrap();
    let after = place.meter.units();
    // One write for the row, and one for each of its three indexes.
    assert_eq!((before, after), (Units::default(), Units { read: 1.0, write: 4.0, lost_conditions: 1 }));
}

#[tokio::test]
async fn a_table_that_is_missing_is_refused_for_good() {
    let place = Place::new().await;
    place.raw().delete_table().table_name(place.table()).send().await.unwrap();
    for result in [
        place.jobs.get(new_job().id).await.map(|_| ()),
        place.jobs.create(&new_job()).await.map(|_| ()),
        place.jobs.live(0, 1, None).await.map(|_| ()),
    ] {
        let (kind, cause) = why(result);
        assert_eq!(kind, "rejected");
        assert!(cause.contains("ResourceNotFoundException"), "{cause}");
    }
}
