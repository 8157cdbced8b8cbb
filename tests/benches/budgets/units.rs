//! Write and read units of a job's life, of a heartbeat, of an idle poll.

use api::{progress::ProgressRequest, result::ResultRequest};
use domain::ContentType;
use service::{Caller, Service};
use store::Units;

use crate::{
    report::Report,
    scene::{pending, poll_request, service_in_memory},
};

pub(crate) async fn measure(report: &mut Report) {
    let (service, caller) = service_in_memory().await;
    let idle = counted(&service, async {
        let request = poll_request("w", ContentType::Audio);
        service.poll(&caller, &request, true).await.unwrap();
    })
    .await;
    report.budget(
        "idle poll, read units per content type",
        format!("{}", idle.read),
        "<= 1",
        idle.read <= 1.0 && idle.write == 0.0,
    );

    let mut life = 0.0;
    let created = counted(&service, async {
        service.store().jobs.create(&pending(service.now(), 1)).await.unwrap();
    })
    .await;
    life += created.write;
    let mut grant = None;
    let claimed = counted(&service, async {
        grant = Some(service.poll(&caller, &poll_request("w", ContentType::Audio), true).await.unwrap());
    })
    .await;
    life += claimed.write;
    let grant = grant.unwrap();
    let (job_id, token) = (grant.job_id.unwrap(), grant.lease.unwrap().lease_token);
    let renewing = heartbeat(&service, &caller, &job_id, &token).await;
    let plain = heartbeat(&service, &caller, &job_id, &token).await;
    let finished = counted(&service, async {
        let request =
            ResultRequest { success: true, content: Some("text".to_owned()), ..ResultRequest::default() };
        service.submit_result(&caller, &job_id, Some(&token), &request).await.unwrap();
    })
    .await;
    life += finished.write;
    report.budget(
        "write units of a job's life without heartbeats",
        format!("{life} (create {}, claim {}, finish {})", created.write, claimed.write, finished.write),
        "<= 10",
        life <= 10.0,
    );
    report.figure(
        "read units of the same",
        format!("{} (claim {}, finish {})", claimed.read + finished.read, claimed.read, finished.read),
    );
    report.budget("heartbeat, write units", format!("{}", plain.write), "1", plain.write == 1.0);
    report.budget(
        "heartbeat that renews the lease, write units",
        format!("{}", renewing.write),
        "3",
        renewing.write == 3.0,
    );
}

async fn heartbeat(service: &Service, caller: &Caller, job_id: &str, token: &str) -> Units {
    let request = ProgressRequest {
        percentage: 50,
        message: "Transcribing audio content".to_owned(),
        timestamp: None,
        stage: Some("transcription".to_owned()),
    };
    counted(service, async {
        service.report_progress(caller, job_id, Some(token), &request).await.unwrap();
    })
    .await
}

async fn counted(service: &Service, work: impl Future<Output = ()>) -> Units {
    let before = service.store().meter.units();
    work.await;
    let after = service.store().meter.units();
    Units {
        read: after.read - before.read,
        write: after.write - before.write,
        lost_conditions: after.lost_conditions - before.lost_conditions,
    }
}
