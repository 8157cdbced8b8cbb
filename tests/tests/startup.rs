//! How the gateway program starts, why it does not, and how it stops.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use system_tests::{GatewayProgram, free_port, snapshot};

/// Why it does not start, with this folder's path left out.
fn refusal(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let (code, said) = GatewayProgram::refusal(&folder.join("data"), arguments, variables);
    json!({"code": code, "said": said.replace(folder.to_str().unwrap(), "[folder]")})
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    snapshot!(refusal(folder.path(), &["--listen", &address], &[]));
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named_with_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let running = GatewayProgram::start(&data, &[], &[]);
    let locked = refusal(folder.path(), &[], &[]);
    assert_eq!(running.stop().0, Some(0));
    std::fs::write(data.join("s3-credentials.json"), "{").unwrap();
    let credentials = refusal(folder.path(), &[], &[]);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::write(&data, "a file").unwrap();
    let file = refusal(folder.path(), &[], &[]);
    snapshot!(json!({
        "in use by another process": locked, "with broken credentials": credentials, "a file": file,
    }));
}

#[test]
fn an_address_that_stands_for_all_needs_a_public_url() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let listen = |address: &str| {
        let mut refused = refusal(folder.path(), &["--listen", &format!("{address}:{port}")], &[]);
        refused["said"] = refused["said"].as_str().unwrap().replace(&port, "[port]").into();
        refused
    };
    let public_url = |url| refusal(folder.path(), &["--public-url", url], &[]);
    snapshot!(json!({
        "0.0.0.0": listen("0.0.0.0"),
        "[::]": listen("[::]"),
        "a URL without a scheme": public_url("box.lan:8000"),
        "a URL with a path": public_url("http://box.lan:8000/api"),
    }));
}

#[test]
fn tls_files_that_cannot_be_used_are_named_with_why() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = write("cert.pem", &pair().cert.pem());
    let key = write("other-key.pem", &pair().signing_key.serialize_pem());
    let text = write("text.pem", "not PEM");
    let missing = folder.path().join("none.pem");
    let missing = missing.to_str().unwrap();
    let tls = |cert: &str, key: &str| refusal(folder.path(), &["--tls-cert", cert, "--tls-key", key], &[]);
    snapshot!(json!({
        "no certificate file": tls(missing, &key),
        "no key file": tls(&cert, missing),
        "a certificate file that is none": tls(&text, &key),
        "a key file that is none": tls(&cert, &text),
        "a key as the certificate": tls(&key, &key),
        "another certificate's key": tls(&cert, &key),
    }));
}

#[test]
fn a_setting_that_cannot_be_used_is_named_with_what_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let mut refusals = serde_json::Map::new();
    for (variable, value) in [
        ("MORAG_QUEUE_SHARDS", "0"),
        ("MORAG_RETENTION_DAYS", "forever"),
        ("MORAG_POLL_AGAIN_SECONDS", "-1"),
        ("MORAG_REMOTE_TIMEOUT_AUDIO", "1h"),
        ("MORAG_REMOTE_TIMEOUT_YOUTUBE", "86401"),
        ("MORAG_SOURCE_ROOTS", "recordings"),
        ("MORAG_SOURCE_ROOTS", "/does/not/exist"),
        ("MORAG_SOURCE_ROOTS", "/etc/passwd"),
        ("MORAG_TABLE", "my table"),
        ("MORAG_BUCKET", "My Bucket"),
        ("MORAG_BUCKET", "api"),
        ("MORAG_LOG_LEVEL", "LOUD"),
    ] {
        let said = refusal(folder.path(), &[], &[(variable, value)]);
        refusals.insert(format!("{variable}={value}"), said);
    }
    snapshot!(refusals);
}

#[test]
fn wrong_flags_are_told_from_a_start_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    for flags in [vec!["--tls-cert", "cert.pem"], vec!["--listen", "everywhere"], vec!["--unknown"]] {
        assert_eq!(refusal(folder.path(), &flags, &[])["code"], 2, "{flags:?}");
    }
}

#[test]
fn the_first_start_makes_an_admin_key_that_only_its_owner_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("admin-key");
    let start = || {
        let (code, said) = GatewayProgram::start(folder.path(), &[], &[]).stop();
        assert_eq!(code, Some(0));
        said
    };
    let said = start();
    assert!(said.contains(&format!("gateway: admin key in {}\n", file.display())), "{said}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read_to_string(&file).unwrap();
    assert!(!said.contains(key.trim()));
    start();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key, "a second start keeps it");
    std::fs::remove_file(&file).unwrap();
    start();
    assert_ne!(std::fs::read_to_string(&file).unwrap(), key, "whoever removed it wants a new one");
}

#[tokio::test]
async fn the_first_starts_key_works_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(GatewayProgram::start(folder.path(), &[], &[]).stop().0, Some(0));
    let gateway = GatewayProgram::start(folder.path(), &[], &[]);
    assert_eq!(gateway.admin(folder.path()).get("/api/v1/keys").await.status, 200);
}

/// A poll that is held for 20 s is let go of when the program is told to stop, and answered.
#[test]
fn a_held_poll_is_answered_when_the_program_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = GatewayProgram::start(folder.path(), &["--no-auth"], &[]);
    let mut stream = TcpStream::connect(gateway.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let body = r#"{"worker_id": "w", "content_types": ["audio"], "wait_seconds": 20}"#;
    let head = format!(
        "POST /api/v1/remote-jobs/poll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut started = [0; 25];
    stream.read_exact(&mut started).unwrap();
    // The gateway has the request in hand, and stopping must let it finish from here on.
    assert_eq!(&started, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    // Another request's round trip gives the poll time to be held, though the test holds without it as well.
    let mut other = TcpStream::connect(gateway.url.trim_start_matches("http://")).unwrap();
    other.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    other.read_to_string(&mut String::new()).unwrap();
    gateway.terminate();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(r#""job_id":null"#), "{answer}");
    assert_eq!(gateway.stop().0, Some(0));
}
