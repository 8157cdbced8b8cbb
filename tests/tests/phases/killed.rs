//! `kill -9`, in one phase after the other.

use system_tests::{Hold, Stop};

use crate::scene::Scene;

/// Fits into one request.
const SMALL: usize = 1000;
/// Has to be uploaded, in one piece.
const LARGE: usize = 3 << 20;
/// Has to be uploaded in parts.
const VERY_LARGE: usize = 70 << 20;

/// Requests that put something there, before the server sees them.
fn put(target: &str) -> Hold {
    Hold { method: "PUT", target: target.to_owned(), at: Stop::BeforeServer }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_download_the_job_is_done_after_the_restart() {
    let mut scene = Scene::start(SMALL).await;
    scene.proxy.hold(Hold { method: "GET", target: "talk.mp3".to_owned(), at: Stop::BeforeClient });
    let job = scene.job().await;
    scene.proxy.until_held(1).await;
    assert_eq!(scene.runs(), 0);
    scene.kill_and_restart_after_the_lease(&job).await;
    scene.proxy.let_go();
    scene.completed(&job, 2, SMALL).await;
    assert_eq!(scene.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_conversion_the_job_is_done_after_the_restart() {
    let mut scene = Scene::start(SMALL).await;
    scene.conversions_wait();
    let job = scene.job().await;
    scene.said("waiting").await;
    scene.kill_and_restart_after_the_lease(&job).await;
    scene.conversions_go_on();
    scene.completed(&job, 2, SMALL).await;
    assert_eq!(scene.runs(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_spool_has_it_the_result_is_computed_again() {
    let mut scene = Scene::start(SMALL).await;
    scene.conversions_wait();
    let job = scene.job().await;
    scene.said("waiting").await;
    // A stopped converter does not see that its command has finished.
    scene.converter.signal("STOP");
    scene.conversions_go_on();
    scene.said("finished").await;
    scene.kill_and_restart_after_the_lease(&job).await;
    scene.completed(&job, 2, SMALL).await;
    assert_eq!(scene.runs(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_submission_the_spooled_result_is_submitted() {
    let mut scene = Scene::start(SMALL).await;
    scene.proxy.hold(put("/result"));
    let job = scene.job().await;
    scene.proxy.until_held(1).await;
    scene.kill_and_restart();
    scene.proxy.let_go();
    scene.completed(&job, 1, SMALL).await;
    assert_eq!(scene.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_upload_of_a_large_result_it_is_uploaded_after_the_restart() {
    let mut scene = Scene::start(LARGE).await;
    scene.proxy.hold(put("/results/"));
    let job = scene.job().await;
    scene.proxy.until_held(1).await;
    scene.kill_and_restart();
    scene.proxy.let_go();
    scene.completed(&job, 1, LARGE).await;
    assert_eq!(scene.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_an_upload_in_parts_the_result_is_uploaded_after_the_restart() {
    let mut scene = Scene::start(VERY_LARGE).await;
    scene.proxy.hold(put("partNumber=2"));
    let job = scene.job().await;
    scene.proxy.until_held(1).await;
    scene.kill_and_restart();
    scene.proxy.let_go();
    scene.completed(&job, 1, VERY_LARGE).await;
    assert_eq!(scene.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_answer_to_the_submission_the_job_ends_once() {
    for size in [SMALL, LARGE] {
        let mut scene = Scene::start(size).await;
        scene.proxy.hold(Hold { method: "PUT", target: "/result".to_owned(), at: Stop::BeforeClient });
        let job = scene.job().await;
        scene.until("the result is spooled", || !scene.converter.files_in("spool").is_empty()).await;
        // The upload's answer is held, and then that of the submission.
        if size == LARGE {
            scene.proxy.until_held(1).await;
            scene.proxy.hold(Hold { method: "PUT", target: "/api/v1/".to_owned(), at: Stop::BeforeClient });
        }
        while scene.site.status(&job).await["status"] != "completed" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(!scene.converter.files_in("spool").is_empty(), "the converter knows nothing of it");
        scene.kill_and_restart();
        scene.proxy.let_go();
        scene.completed(&job, 1, size).await;
        assert_eq!(scene.runs(), 1);
        assert!(scene.converter.files_in("rejected").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_comes_back_to_who_has_finished_it_is_not_computed_again() {
    for size in [SMALL, LARGE] {
        let mut scene = Scene::start(size).await;
        scene.proxy.hold(put("/result"));
        let job = scene.job().await;
        scene.proxy.until_held(1).await;
        // It is given out again before the spooled result gets through.
        scene.kill_and_restart_after_the_lease(&job).await;
        scene.until("the job came back", || scene.logs("an earlier attempt has finished")).await;
        scene.proxy.let_go();
        scene.completed(&job, 2, size).await;
        assert_eq!(scene.runs(), 1);
    }
}
