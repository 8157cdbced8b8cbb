//! Why the remote converter does not start, and what its test of the connection says: one sentence and an exit code.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gateway::TlsFiles;
use rcgen::CertifiedKey;
use system_tests::{Client, Site, binary, free_port, python};

/// How long a start that fails may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it in `home` to its end. Its exit code, and what it said, which is one line when something is wrong.
fn run(home: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(binary("remote-converter"));
    command.args(arguments).current_dir(home).env_clear().envs(variables.iter().copied());
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    // It says less than a pipe takes.
    while child.try_wait().unwrap().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    // One that ended by itself is not there to be killed.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// As [`run`], for what must fail by this code and say all of these, in one line and without a secret.
fn refused(code: i32, run: (Option<i32>, String), says: &[&str]) {
    let (ended, said) = run;
    assert_eq!(ended, Some(code), "{said}");
    assert!(said.starts_with("remote-converter: ") && said.ends_with('\n'), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    for text in says {
        assert!(said.contains(text), "not {text:?}: {said}");
    }
}

/// Answers every request with this, until the test ends. Its URL.
fn server(status: &'static str, media_type: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

/// A server of another version.
fn other_server() -> String {
    server("200 OK", "application/json", r#"{"status": "ok", "version": "77.0.0"}"#)
}

#[test]
fn settings_that_are_wrong_are_named_with_where_they_are() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("remote_converter_config.yaml");
    for (settings, says) in [
        ("api_key: hunter2\nworker_id: [", vec!["remote_converter_config.yaml", "line "]),
        (
            "worker_idd: gpu",
            vec!["remote_converter_config.yaml", "`worker_idd`", "did you mean `worker_id`?"],
        ),
        ("poll_interval: soon", vec!["`poll_interval` in remote_converter_config.yaml", "1 to 3600"]),
        ("content_types: [x-mine]\ntemp_dir: temp\nlog_level: ERROR", vec!["`x-mine`"]),
        ("converters: [/nowhere.yaml]\ntemp_dir: temp\nlog_level: ERROR", vec!["/nowhere.yaml"]),
        ("api_base_url: localhost:8000", vec!["`api_base_url`", "http://"]),
        ("api_key: \"hunter2\\n\"\nlog_level: LOUD", vec!["`log_level`", "WARNING"]),
    ] {
        std::fs::write(&file, settings).unwrap();
        refused(2, run(home.path(), &[], &[]), &says);
    }
    std::fs::write(&file, "").unwrap();
    let variable = [("MORAG_WORKER_POLL_INTERVAL", "0")];
    refused(2, run(home.path(), &[], &variable), &["`MORAG_WORKER_POLL_INTERVAL`", "1 to 3600"]);
    std::fs::write(home.path().join(".env"), "MORAG_WORKER_LEASE_SECONDS=5 # too short\n").unwrap();
    refused(2, run(home.path(), &[], &[]), &["`MORAG_WORKER_LEASE_SECONDS` in /", ".env", "20 to 3600"]);
}

/// A service that ends by 1 is started again.
#[test]
fn what_may_pass_has_a_code_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let passing = |flags: &[&str], says| refused(1, run(home.path(), flags, &[]), says);
    passing(&["--temp-dir", "/proc/nowhere"], &["`temp_dir`", "/proc/nowhere"]);
    passing(&["--log-file", "/proc/nowhere/log"], &["/proc/nowhere/log"]);
    let description = "name: a\ncontent_types: [x-a]\ncommand: [cat, '{input}']\n\
                       result: {format: markdown, from: stdout}\nrequires: [sleep, '60']\n\
                       limits: {timeout_seconds: 1}\n";
    std::fs::write(home.path().join("a.yaml"), description).unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let flags =
        ["--temp-dir", "temp", "--content-types", "x-a", "--converters", "a.yaml", "--api-url", &nobody];
    let flags = [&flags[..], &["--log-level", "ERROR"]].concat();
    passing(&flags, &["`x-a`", "its time limit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_accepted_or_refused_by_its_own_code() {
    let site = Site::with(|_| {}).await;
    let good = site.client("default", &["worker"]).await;
    let ingesting = site.client("default", &["ingest"]).await;
    let home = tempfile::tempdir().unwrap();
    let url = site.gateway.public_url.clone();
    let test = |key: &str| {
        let variables = [("MORAG_API_BASE_URL", url.as_str()), ("MORAG_API_KEY", key)];
        tokio::task::block_in_place(|| run(home.path(), &["--test-connection"], &variables))
    };
    let (code, said) = test(good.key());
    assert_eq!((code, said.contains("accepts the key for polling")), (Some(0), true), "{said}");
    for wrong in ["", "abc.hunter2", ingesting.key()] {
        refused(4, test(wrong), &["refuses the API key", "MORAG_API_KEY", "scope worker"]);
    }
    let variables = [("MORAG_API_BASE_URL", url.as_str()), ("MORAG_API_KEY", "abc.hunter2")];
    let flags =
        ["--temp-dir", "temp", "--content-types", "x-a", "--converters", "a.yaml", "--log-level", "ERROR"];
    let description = "name: a\ncontent_types: [x-a]\ncommand: [cat, '{input}']\n\
                       result: {format: markdown, from: stdout}\n";
    std::fs::write(home.path().join("a.yaml"), description).unwrap();
    let ran = tokio::task::block_in_place(|| run(home.path(), &flags, &variables));
    refused(4, ran, &["refuses"]);
}

#[test]
fn what_is_no_server_of_this_version_is_told_from_one_that_does_not_answer() {
    let home = tempfile::tempdir().unwrap();
    let test = |url: &str| run(home.path(), &["--test-connection", "--api-url", url], &[]);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    refused(3, test(&nobody), &["Cannot reach 127.0.0.1:"]);
    refused(3, test("http://nowhere.invalid"), &["Cannot reach nowhere.invalid"]);
    refused(5, test(&other_server()), &["runs version 77.0.0", env!("CARGO_PKG_VERSION")]);
    let original = server("404 Not Found", "application/json", r#"{"detail": "Not Found"}"#);
    refused(5, test(&original), &["has no /health", "api_base_url"]);
    let page = server("200 OK", "text/html", "<h1>Welcome</h1>");
    refused(5, test(&page), &["200", "remote-jobs server"]);
    let busy = server("502 Bad Gateway", "text/html", "");
    refused(3, test(&busy), &["502"]);
}

#[test]
fn what_is_no_server_of_this_version_is_not_worked_for() {
    let home = tempfile::tempdir().unwrap();
    let description = "name: a\ncontent_types: [x-a]\ncommand: [cat, '{input}']\n\
                       result: {format: markdown, from: stdout}\n";
    std::fs::write(home.path().join("a.yaml"), description).unwrap();
    let page = server("200 OK", "text/html", "<h1>Welcome</h1>");
    for (url, says) in [(other_server(), "runs version 77.0.0"), (page, "remote-jobs server")] {
        let flags =
            ["--api-url", &url, "--temp-dir", "temp", "--content-types", "x-a", "--converters", "a.yaml"];
        let quietly = [&flags[..], &["--log-level", "ERROR"]].concat();
        refused(5, run(home.path(), &quietly, &[]), &[says]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_is_named_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let files = TlsFiles { certificate: home.path().join("cert.pem"), key: home.path().join("key.pem") };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    let trusted = files.certificate.to_str().unwrap().to_owned();
    let site = Site::with(|config| config.tls = Some(files)).await;
    let https = site.gateway.public_url.clone();
    let http = Client::with(&https, |builder| {
        builder.tls_certs_only([reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap()])
    });
    let key = http.keyed(site.admin.key());
    let start = |flags: &[&str], variables: &[(&str, &str)]| {
        let variables =
            [&[("MORAG_API_BASE_URL", https.as_str()), ("MORAG_API_KEY", key.key())], variables].concat();
        tokio::task::block_in_place(|| run(home.path(), flags, &variables))
    };
    refused(3, start(&["--test-connection"], &[]), &["certificate", "SSL_CERT_FILE"]);
    let quiet = ["--temp-dir", "temp", "--log-level", "ERROR"];
    refused(3, start(&quiet, &[]), &["certificate", "SSL_CERT_FILE"]);
    let (code, said) = start(&["--test-connection"], &[("SSL_CERT_FILE", &trusted)]);
    assert!(code == Some(0) || code == Some(4), "the certificate is trusted now: {said}");
}

#[test]
fn every_exit_code_is_in_the_help() {
    let home = tempfile::tempdir().unwrap();
    let (code, said) = run(home.path(), &["--help"], &[]);
    assert_eq!(code, Some(0));
    let codes = said.split_once("Exit codes: ").unwrap().1;
    for code in 0..=5 {
        assert!(codes.contains(&format!("{code} ")), "{code}: {said}");
    }
    assert_eq!(run(home.path(), &["--unknown"], &[]).0, Some(2));
}

/// What python-dotenv makes of a file, the original converter got.
#[test]
fn a_dotenv_file_means_what_it_means_to_the_original() {
    let home = tempfile::tempdir().unwrap();
    let values = [
        ("gpu", "gpu"),
        ("with spaces # and a comment", "with spaces"),
        ("'single # quoted'", "single # quoted"),
        ("\"double \\\"quoted\\\"\" # comment", "double \"quoted\""),
        ("${HOME_OF_NOBODY:-nobody}", "nobody"),
        ("a#b$c\\d", "a#b$c\\d"),
    ];
    for (written, meant) in values {
        let text = format!("# A comment\nexport MORAG_WORKER_ID = {written}\r\n");
        std::fs::write(home.path().join(".env"), text).unwrap();
        let mut original = python("legacy/dotenv_value.py");
        let output = original.arg(home.path().join(".env")).arg("MORAG_WORKER_ID").output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), meant, "{written}");
        // A worker's name reaches the server, but a level that is none is shown as it was read.
        let text = std::fs::read_to_string(home.path().join(".env")).unwrap();
        std::fs::write(home.path().join(".env"), text.replace("WORKER_ID", "LOG_LEVEL")).unwrap();
        refused(2, run(home.path(), &[], &[]), &[&format!("is {meant:?}, which must be DEBUG")]);
    }
}
