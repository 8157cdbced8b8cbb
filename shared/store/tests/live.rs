//! The scan of all live jobs: what the sweeper sees.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use domain::{ContentType, JobId, Priority};
use store::LiveHint;
use uuid::Uuid;

use crate::support::{Place, at, claimed, failure, job_with, native, new_job, of_tenant, submitted, success};

/// Every hint of one segment, and over how many pages they came.
async fn segment(place: &Place, segment: u32, segments: u32) -> (Vec<LiveHint>, usize) {
    let mut hints = Vec::new();
    let mut from = None;
    for pages in 1.. {
        let page = place.jobs.live(segment, segments, from).await.unwrap();
        hints.extend(page.hints);
        from = page.next;
        if from.is_none() {
            return (hints, pages);
        }
    }
    unreachable!("the pages never end")
}

async fn live(place: &Place) -> BTreeSet<JobId> {
    segment(place, 0, 1).await.0.into_iter().map(|hint| hint.id).collect()
}

#[tokio::test]
async fn every_live_job_is_seen_with_its_queue_and_its_times() {
    let place = Place::new().await;
    let worker = native(1);
    let waiting = place.created(job_with(|spec| spec.priority = Priority::Low)).await;
    let video = of_tenant("u", job_with(|spec| spec.content_type = ContentType::Video));
    let video = place.created(video).await;
    let running = place.replaced(&video, claimed(&video, &worker, at(5))).await;
    let failed = place.created(new_job()).await;
    let failing = place.replaced(&failed, claimed(&failed, &worker, at(5))).await;
    let failed = place.replaced(&failing, submitted(&failing, &worker.0, failure(true), at(6))).await;

    let mut expected = [
        (&waiting, "queue#t#document#0", true, false),
        (&running, "return#u#video#0", false, true),
        (&failed, "return#t#document#0", false, false),
    ]
    .map(|(job, queue, waiting, running)| LiveHint {
        id: job.id,
        queue: queue.to_owned(),
        stray: false,
        waiting,
        running,
        due_at: job.due_at().unwrap(),
        deadline: job.deadline().unwrap(),
        created_at: job.created_at,
    });
    let (mut seen, _) = segment(&place, 0, 1).await;
    expected.sort_by_key(|hint| hint.id);
    seen.sort_by_key(|hint| hint.id);
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn an_ended_job_is_not_seen() {
    let place = Place::new().await;
    let worker = native(1);
    let (kept, ended) = (place.created(new_job()).await, place.created(new_job()).await);
    let running = place.replaced(&ended, claimed(&ended, &worker, at(1))).await;
    assert_eq!(live(&place).await, BTreeSet::from([kept.id, ended.id]));
    place.replaced(&running, submitted(&running, &worker.0, success(), at(2))).await;
    assert_eq!(live(&place).await, BTreeSet::from([kept.id]));
}

#[tokio::test]
async fn segments_are_disjoint_and_together_all() {
    let place = Place::with(|connection| connection.shards = 4).await;
    let mut created = BTreeSet::new();
    for at in 0..40 {
        let job = of_tenant(&format!("t{}", at % 8), new_job());
        created.insert(place.created(job).await.id);
    }
    let mut seen = Vec::new();
    for at in 0..3 {
        seen.extend(segment(&place, at, 3).await.0.into_iter().map(|hint| hint.id));
    }
    assert_eq!((seen.len(), BTreeSet::from_iter(seen)), (40, created));
}

#[tokio::test]
async fn what_does_not_fit_into_one_page_is_on_the_next() {
    let place = Place::new().await;
    let row = place.row_of(&place.created(new_job()).await).await;
    // A page ends at 1 MB of index: 700 rows under a name of 1900 bytes are more.
    let queue = format!("queue#{}", "q".repeat(1900));
    let mut created = live(&place).await;
    for _ in 0..28 {
        let mut writes = Vec::new();
        for _ in 0..25 {
            let id = JobId(Uuid::now_v7());
            created.insert(id);
            let mut row = row.clone();
            row.insert("pk".to_owned(), AttributeValue::S(format!("job#{id}")));
            row.insert("due_key".to_owned(), AttributeValue::S(queue.clone()));
            let put = PutRequest::builder().set_item(Some(row)).build().unwrap();
            writes.push(WriteRequest::builder().put_request(put).build());
        }
        place.raw().batch_write_item().request_items(place.table(), writes).send().await.unwrap();
    }
    let (hints, pages) = segment(&place, 0, 1).await;
    assert_eq!((hints.len(), hints.into_iter().map(|hint| hint.id).collect()), (701, created));
    assert!(pages > 1);
}

#[tokio::test]
async fn a_row_of_the_index_that_is_no_jobs_is_passed_over() {
    let place = Place::new().await;
    let job = place.created(new_job()).await;
    let mut row = place.row_of(&job).await;
    row.insert("pk".to_owned(), AttributeValue::S("event#1".to_owned()));
    place.put_row(row.clone()).await;
    row.insert("pk".to_owned(), AttributeValue::S(format!("job#{}", Uuid::now_v7())));
    row.remove("deadline");
    place.put_row(row).await;
    assert_eq!(live(&place).await, BTreeSet::from([job.id]));
}
