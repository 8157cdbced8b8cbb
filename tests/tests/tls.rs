//! The gateway over HTTPS.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::path::Path;

use gateway::TlsFiles;
use rcgen::CertifiedKey;
use reqwest::{Certificate, Method, Version};
use serde_json::json;
use system_tests::{Answer, Client, JOBS, Site};

/// A gateway that serves HTTPS by a certificate of its own, and what to trust.
async fn site(folder: &Path) -> (Site, Certificate) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    let site = Site::with(|config| config.tls = Some(files)).await;
    (site, Certificate::from_pem(cert.pem().as_bytes()).unwrap())
}

#[tokio::test]
async fn a_jobs_whole_life_works_over_https() {
    let folder = tempfile::tempdir().unwrap();
    let (site, certificate) = site(folder.path()).await;
    let base = site.gateway.public_url.clone();
    assert!(base.starts_with("https://127.0.0.1:"), "{base}");
    let client = Client::with(&base, |builder| builder.tls_certs_only([certificate])).keyed(site.admin.key());
    let response = client.request(Method::GET, "/health").send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    let source = client.upload("talk.mp3", b"sound").await;
    let job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "t"});
    client.post(JOBS, &job).await.ok();
    let poll = json!({"worker_id": "w", "content_types": ["audio"]});
    let claim = client.post(&format!("{JOBS}/poll"), &poll).await.ok();
    let download = claim["download"]["url"].as_str().unwrap();
    assert!(download.starts_with(&base), "{download}");
    assert_eq!(client.get(download).await.text(), "sound");
    let path = format!("{JOBS}/{}/result", claim["job_id"].as_str().unwrap());
    let result = json!({"success": true, "content": "# Talk"});
    client.leased(Method::PUT, &path, claim["lease_token"].as_str().unwrap(), &result).await.ok();
    let document = client.get(&client.get(&path).await.location()).await;
    assert_eq!(document.json()["content"], "# Talk");
}

#[tokio::test]
async fn who_does_not_trust_the_certificate_or_speaks_plain_http_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let (site, certificate) = site(folder.path()).await;
    let https = &site.gateway.public_url;
    let distrusting = Client::with(https, |builder| builder.tls_certs_only([]));
    assert!(distrusting.request(Method::GET, "/health").send().await.unwrap_err().is_connect());
    let plain = Client::new(&https.replace("https:", "http:"));
    plain.request(Method::GET, "/health").send().await.unwrap_err();
    let trusting = Client::with(https, |builder| builder.tls_certs_only([certificate]));
    assert_eq!(Answer::to(trusting.request(Method::GET, "/health")).await.status, 200);
}
