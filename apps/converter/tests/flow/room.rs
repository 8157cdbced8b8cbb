//! Sources that do not fit on the disk.

use serde_json::json;

use crate::{COPY, converter::Converter, server::Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_fit_on_the_disk_is_given_back() {
    let server = Server::start().await;
    let converter = Converter::start(&server, COPY);
    let job = server.offer_other(|offer| offer["download"]["size_bytes"] = json!(1_u64 << 60));
    let released = server.wait_for("release", &job).await;
    let reason = released.body["reason"].as_str().unwrap().to_owned();
    for part in ["temp", "bytes are free", &(1_u64 << 60).to_string()] {
        assert!(reason.contains(part), "{reason}");
    }
    // No retry is spent, and nothing was fetched for it.
    assert!(!server.has_seen("result", &job));
    converter.folder_emptied("work").await;
}
