//! Sources that do not fit on the disk.

use serde_json::json;

use crate::{COPY, converter::Converter, server::Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_larger_than_the_disk_fails_and_lets_others_pass() {
    let server = Server::start().await;
    let converter = Converter::start_with(&server, COPY, &["--max-jobs", "1"]);
    let large = server.offer_other(|offer| offer["download"]["size_bytes"] = json!(1_u64 << 60));
    let small = server.offer("hello");
    let failed = server.wait_for("result", &large).await.body;
    // It comes back later, when there may be another worker for it.
    assert_eq!((&failed["success"], &failed["retryable"]), (&json!(false), &json!(true)));
    let reason = failed["error_message"].as_str().unwrap();
    for part in ["temp", "bytes are free", &(1_u64 << 60).to_string()] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(server.wait_for("result", &small).await.body["content"], "hello");
    assert!(!server.has_seen("release", &large));
    converter.folder_emptied("work").await;
}
