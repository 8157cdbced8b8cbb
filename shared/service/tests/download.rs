//! `GET /{id}/download`: the source, for the worker that holds the lease.

use crate::support::{
    Held, Place, caller, caller_of, full_problem, not_found, problem, stale, without_token,
};

async fn download(place: &Place, held: &Held) -> Result<String, service::Error> {
    place.download(&caller(), &held.id, held.token()).await
}

#[tokio::test]
async fn the_holder_gets_a_new_url_of_the_source_as_often_as_it_asks() {
    let place = Place::new().await;
    let held = place.claimed().await;
    for _ in 0..2 {
        let url = download(&place, &held).await.unwrap();
        assert_eq!(place.fetched(&url).await, (200, "bytes".into()));
        assert!(url.contains("X-Amz-Expires=900"), "{url}");
        assert!(url.contains("report.pdf"), "{url}");
    }
}

#[tokio::test]
async fn a_client_of_the_original_gets_it_by_its_key() {
    let place = Place::new().await;
    place.created().await;
    let held = place.claim_as_original().await;
    assert!(download(&place, &held).await.is_ok());
    let other = place.download(&caller_of("t", "other"), &held.id, None).await;
    assert_eq!(full_problem(other), stale(&held.id, "processing"));
}

#[tokio::test]
async fn nobody_else_gets_it() {
    let place = Place::new().await;
    let id = place.created().await;
    let nobody = Held { id: id.clone(), token: None };
    assert_eq!(full_problem(download(&place, &nobody).await), stale(&id, "pending"));
    let held = place.claim().await;
    assert_eq!(full_problem(download(&place, &nobody).await), without_token(&id));
    let foreign = place.download(&caller_of("u", "k"), &id, held.token()).await;
    assert_eq!(problem(foreign), not_found(&id));
}

#[tokio::test]
async fn a_source_that_is_gone_is_said_to_be() {
    let place = Place::new().await;
    let held = place.claimed().await;
    place.expire_objects().await;
    let text = format!(
        "The source of job {} is not stored any more; upload it again and create a new job.",
        held.id
    );
    assert_eq!(full_problem(download(&place, &held).await), (409, "source-expired".to_owned(), text));
}
