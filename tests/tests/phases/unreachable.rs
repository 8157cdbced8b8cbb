//! The server cannot be reached while a job runs and ends.

use std::time::Duration;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_the_server_cannot_be_reached_is_submitted_afterwards() {
    let scene = Scene::start(1000).await;
    scene.conversions_wait();
    let job = scene.job().await;
    scene.said("waiting").await;
    scene.proxy.close();
    scene.until("a heartbeat failed", || scene.logs("the work goes on")).await;
    scene.conversions_go_on();
    scene.until("a submission failed", || scene.logs("could not be submitted yet")).await;
    assert_eq!(scene.converter.files_in("spool").len(), 1);
    // An hour passes, and nobody else takes the job.
    scene.lapse(&job).await;
    scene.proxy.open();
    scene.completed(&job, 1, 1000).await;
    assert_eq!(scene.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_off_goes_on_when_the_server_is_back() {
    let scene = Scene::start(1000).await;
    let hold = system_tests::Hold {
        method: "GET",
        target: "talk.mp3".to_owned(),
        at: system_tests::Stop::BeforeServer,
    };
    scene.proxy.hold(hold);
    let job = scene.job().await;
    scene.proxy.until_held(1).await;
    scene.proxy.close();
    scene.proxy.let_go();
    scene.until("a heartbeat failed", || scene.logs("the work goes on")).await;
    scene.proxy.open();
    scene.completed(&job, 1, 1000).await;
    assert_eq!(scene.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_given_out_again_meanwhile_ends_once() {
    let scene = Scene::start(1000).await;
    scene.conversions_wait();
    let job = scene.job().await;
    scene.said("waiting").await;
    scene.proxy.close();
    scene.conversions_go_on();
    scene.until("a submission failed", || scene.logs("could not be submitted yet")).await;
    scene.lapse(&job).await;
    scene.site.world.advance(Duration::from_secs(900));
    let claim = scene.site.claim("other").await;
    let result = serde_json::json!({"success": true, "content": "x".repeat(1000)});
    scene.site.leased(&claim, reqwest::Method::PUT, "result", &result).await.ok();
    scene.proxy.open();
    scene.until("the late result is put aside", || scene.converter.files_in("rejected").len() == 1).await;
    scene.completed(&job, 2, 1000).await;
    assert_eq!(scene.runs(), 1);
}
