use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use api::{
    Kind, Scope,
    events::ListEventsRequest,
    uploads::{CreateUploadRequest, PresignedRequest},
};
use bytes::Bytes;
use client::{BaseUrl, Client, Error, Lease, Probe};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use uuid::Uuid;

use super::Session;
use crate::{connection, failure::Failure, output::Output};

/// How far this clock and the server's may be apart. `Date` counts whole seconds, and answers take time.
const SKEW: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Variables that send requests another way than straight to the server.
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// How a check went.
#[derive(Debug, PartialEq, Serialize)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Failed,
    Skipped,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, detail: detail.into(), advice: None }
    }

    fn failed(name: &'static str, detail: impl Into<String>, advice: &'static str) -> Self {
        Self { name, outcome: Outcome::Failed, detail: detail.into(), advice: Some(advice) }
    }

    fn skipped(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Skipped, detail: detail.into(), advice: None }
    }

    fn line(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
        };
        let advice = self.advice.map(|advice| format!("\n{:23}{advice}", "")).unwrap_or_default();
        format!("{:<12}  {outcome:<7}  {}{advice}", self.name, self.detail)
    }
}

/// The checks so far. Each is told at once to a person, and all together to a program.
struct Report<'a> {
    output: &'a Output,
    checks: Vec<Check>,
}

impl Report<'_> {
    /// Notes a check, and says whether what builds on it makes sense.
    fn note(&mut self, check: Check) -> Result<bool, Failure> {
        self.output.line(&check.line())?;
        let sound = check.outcome != Outcome::Failed;
        self.checks.push(check);
        Ok(sound)
    }

    fn end(self) -> Result<(), Failure> {
        let failed = self.checks.iter().filter(|check| check.outcome == Outcome::Failed).count();
        self.output.value(&json!({"ok": failed == 0, "checks": self.checks}))?;
        if failed == 0 { Ok(()) } else { Err(Failure::Checks { failed }) }
    }
}

pub(crate) async fn run(session: &Session<'_>) -> Result<(), Failure> {
    let mut report = Report { output: session.output, checks: Vec::new() };
    examine(session, &mut report).await?;
    report.end()
}

/// Makes the checks, from the ground up, as far as they make sense.
async fn examine(session: &Session<'_>, report: &mut Report<'_>) -> Result<(), Failure> {
    let base = match session.global.api_url.parse::<BaseUrl>() {
        Ok(base) => base,
        Err(error) => return report.note(address_failed(&error)).map(drop),
    };
    report.note(Check::ok("address", base.as_str()))?;
    report.note(reach(&base).await)?;
    let client = match connection::client(session.global) {
        Ok(client) => client,
        Err(failure) => return report.note(Check::failed("key", failure.to_string(), KEY_ADVICE)).map(drop),
    };
    let probe = match client.probe().await {
        Ok(probe) => probe,
        Err(error) => {
            return report.note(Check::failed("health", error.to_string(), HEALTH_ADVICE)).map(drop);
        }
    };
    report.note(health(&probe))?;
    report.note(clock(&probe, SystemTime::now()))?;
    report.note(encryption(&base))?;
    if !report.note(accepted(
        client.status(&nothing()).await.map(drop),
        connection::key(session.global)?.is_some(),
    ))? {
        return Ok(());
    }
    let found = scopes(&client).await;
    report.note(scopes_check(&found))?;
    let check = if found.has(Scope::Ingest) {
        transfer(&client).await
    } else {
        Check::skipped("transfer", "it needs a key with the scope ingest")
    };
    report.note(check).map(drop)
}

fn address_failed(error: &Error) -> Check {
    Check::failed("address", error.to_string(), "Set --api-url or MORAG_API_BASE_URL.")
}

const KEY_ADVICE: &str = "Give a valid key with --api-key-file or MORAG_API_KEY; an administrator makes one with \
                          `remote-jobs keys create`.";
const HEALTH_ADVICE: &str =
    "See that the gateway, or the deployment, runs at this address, path prefix included.";

async fn reach(base: &BaseUrl) -> Check {
    if PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return Check::skipped(
            "connection",
            "a proxy is set in the environment, so nothing connects directly",
        );
    }
    let (host, port) = base.address();
    let addresses: Vec<_> = match timeout(CONNECT, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return name_failed(&host, &error.to_string()),
        Err(_) => return name_failed(&host, "the name service does not answer"),
    };
    let mut why = "the name has no address".to_owned();
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Check::ok("connection", format!("{host} is {address}")),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address}: no answer within {} s", CONNECT.as_secs()),
        }
    }
    Check::failed(
        "connection",
        why,
        "See that the server runs and listens there, and that no firewall is between.",
    )
}

fn name_failed(host: &str, why: &str) -> Check {
    let advice = "Check the spelling of the host, and this machine's name service.";
    Check::failed("connection", format!("{host} cannot be resolved: {why}"), advice)
}

fn health(probe: &Probe) -> Check {
    let (health, round_trip) = (&probe.health, probe.round_trip.as_millis());
    if health.status == "ok" {
        return Check::ok("health", format!("version {}, {round_trip} ms", health.version));
    }
    Check::failed("health", format!("the server says {:?}", health.status), HEALTH_ADVICE)
}

fn clock(probe: &Probe, now: SystemTime) -> Check {
    let Some(server) = probe.server_time else {
        return Check::skipped("clock", "the server does not say what time it is");
    };
    let apart = now.duration_since(server).unwrap_or_else(|error| error.duration());
    if apart <= SKEW {
        return Check::ok("clock", "this machine and the server agree");
    }
    let detail = format!("this machine and the server are {} s apart", apart.as_secs());
    Check::failed(
        "clock",
        detail,
        "Set the clocks, best by NTP: signed URLs and certificates depend on them.",
    )
}

fn encryption(base: &BaseUrl) -> Check {
    let (host, _) = base.address();
    let loopback =
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if base.is_https() {
        Check::ok("encryption", "https")
    } else if loopback {
        Check::ok("encryption", "none needed within one machine")
    } else {
        Check::skipped(
            "encryption",
            "none: key and files travel readable to everybody in between; better use https",
        )
    }
}

/// Judges the answer to a question about a job that cannot exist.
fn accepted(answer: Result<(), Error>, has_key: bool) -> Check {
    match answer {
        Err(error) if error.kind() == Some(Kind::NotFound) && has_key => Check::ok("key", "it is accepted"),
        Err(error) if error.kind() == Some(Kind::NotFound) => {
            Check::ok("key", "none is given, and none is asked for")
        }
        Err(error) => Check::failed("key", error.to_string(), KEY_ADVICE),
        Ok(()) => Check::failed("key", "the server knows a job that cannot exist", HEALTH_ADVICE),
    }
}

/// What is known of a key's scopes.
#[derive(Default)]
struct Scopes(BTreeMap<Scope, bool>);

impl Scopes {
    fn has(&self, scope: Scope) -> bool {
        self.0.get(&scope).copied().unwrap_or(false)
    }
}

/// Finds a key's scopes by calls that change nothing: about a job that cannot exist, and the list of dead events.
async fn scopes(client: &Client) -> Scopes {
    let lease = Lease { job_id: nothing(), token: nothing().into() };
    let mut found = Scopes::default();
    for (scope, answer) in [
        (Scope::Ingest, client.result(&nothing()).await.map(drop)),
        (Scope::Worker, client.download_url(&lease).await.map(drop)),
        (Scope::Admin, client.list_events(&ListEventsRequest::default()).await.map(drop)),
    ] {
        if let Some(has) = admitted(scope, &answer) {
            found.0.insert(scope, has);
        }
    }
    found
}

/// Whether an answer shows that the key has the scope; nothing when it shows neither.
fn admitted(scope: Scope, answer: &Result<(), Error>) -> Option<bool> {
    match answer {
        Ok(()) => Some(true),
        Err(error) => match error.kind()? {
            Kind::Forbidden | Kind::Unauthorized => Some(false),
            // The list of dead events is always there.
            Kind::NotFound | Kind::StaleLease | Kind::Refused => (scope != Scope::Admin).then_some(true),
            Kind::Malformed
            | Kind::MethodNotAllowed
            | Kind::SourceExpired
            | Kind::TooLarge
            | Kind::UnsupportedMediaType
            | Kind::Invalid
            | Kind::IdempotencyMismatch
            | Kind::TooManyRequests
            | Kind::Internal
            | Kind::Unavailable => None,
        },
    }
}

fn scopes_check(found: &Scopes) -> Check {
    let held: Vec<&str> =
        Scope::ALL.into_iter().filter(|scope| found.has(*scope)).map(Scope::as_str).collect();
    let unknown: Vec<&str> =
        Scope::ALL.into_iter().filter(|scope| !found.0.contains_key(scope)).map(Scope::as_str).collect();
    let rest =
        if unknown.is_empty() { String::new() } else { format!(" (not known: {})", unknown.join(", ")) };
    if held.is_empty() {
        return Check::failed("scopes", format!("none was found{rest}"), KEY_ADVICE);
    }
    Check::ok("scopes", format!("{}{rest}", held.join(", ")))
}

const TRANSFER_ADVICE: &str = "The URLs that the server signs must lead from here to its object store: see the \
                               gateway's --public-url, or the bucket's region and policy.";
const SIGNATURE_ADVICE: &str = "Take the server off the network: its object store takes files from anybody.";

/// Uploads a tiny object by a presigned URL, and sees that a tampered one is refused.
async fn transfer(client: &Client) -> Check {
    let body = Bytes::from(format!("doctor {}\n", nothing()));
    let request = CreateUploadRequest {
        filename: "doctor.txt".to_owned(),
        size_bytes: body.len() as u64,
        sha256: Sha256::digest(&body).into(),
    };
    let upload = match client.create_upload(&request, None).await {
        Ok(upload) => upload,
        Err(error) => return Check::failed("transfer", error.to_string(), TRANSFER_ADVICE),
    };
    let Some(put) = upload.put else {
        return Check::failed("transfer", "the server gives no URL for a small file", TRANSFER_ADVICE);
    };
    match client.send_presigned(&tampered(&put), body.clone()).await {
        Err(Error::Transfer { status: Some(400..=499), .. }) => {}
        Err(error) => return Check::failed("transfer", error.to_string(), TRANSFER_ADVICE),
        Ok(()) => return Check::failed("transfer", "a tampered URL was accepted", SIGNATURE_ADVICE),
    }
    match client.send_presigned(&put, body).await {
        Ok(()) => Check::ok("transfer", "a small file was taken, and a tampered URL refused"),
        Err(error) => Check::failed("transfer", error.to_string(), TRANSFER_ADVICE),
    }
}

/// The same request for another object, which the signature does not cover.
fn tampered(put: &PresignedRequest) -> PresignedRequest {
    let url = match put.url.split_once('?') {
        Some((path, query)) => format!("{path}-tampered?{query}"),
        None => format!("{}-tampered", put.url),
    };
    PresignedRequest { url, ..put.clone() }
}

/// An id that nothing has.
fn nothing() -> String {
    Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Captured;

    fn refused(kind: Kind) -> Error {
        Error::Refused {
            status: kind.status(),
            problem: Box::new(api::Problem::new(kind, "d")),
            retry_after: None,
        }
    }

    fn probe(server_time: Option<SystemTime>) -> Probe {
        let health = serde_json::from_value(json!({"status": "ok", "version": "1.2.3"})).unwrap();
        Probe { health, server_time, round_trip: Duration::from_millis(7) }
    }

    #[test]
    fn a_check_is_a_line_with_advice_below() {
        assert_eq!(health(&probe(None)).line(), "health        ok       version 1.2.3, 7 ms");
        let line = Check::failed("clock", "wrong", "Set it.").line();
        assert_eq!(line, format!("clock         failed   wrong\n{}Set it.", " ".repeat(23)));
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let now = SystemTime::now();
        for (server, outcome) in [
            (Some(now), Outcome::Ok),
            (Some(now + Duration::from_secs(29)), Outcome::Ok),
            (Some(now - Duration::from_secs(31)), Outcome::Failed),
            (Some(now + Duration::from_secs(31)), Outcome::Failed),
            (None, Outcome::Skipped),
        ] {
            assert_eq!(clock(&probe(server), now).outcome, outcome);
        }
    }

    #[test]
    fn a_job_that_cannot_exist_tells_about_the_key() {
        assert_eq!(accepted(Err(refused(Kind::NotFound)), true).detail, "it is accepted");
        assert_eq!(accepted(Err(refused(Kind::NotFound)), false).outcome, Outcome::Ok);
        assert_eq!(accepted(Err(refused(Kind::Unauthorized)), true).outcome, Outcome::Failed);
        assert_eq!(accepted(Ok(()), true).outcome, Outcome::Failed);
    }

    #[test]
    fn scopes_are_told_from_refusals() {
        for (scope, answer, has) in [
            (Scope::Ingest, Err(refused(Kind::NotFound)), Some(true)),
            (Scope::Ingest, Err(refused(Kind::Forbidden)), Some(false)),
            (Scope::Worker, Err(refused(Kind::StaleLease)), Some(true)),
            (Scope::Admin, Ok(()), Some(true)),
            (Scope::Admin, Err(refused(Kind::NotFound)), None),
            (Scope::Ingest, Err(refused(Kind::Unavailable)), None),
        ] {
            assert_eq!(admitted(scope, &answer), has, "{scope:?} {answer:?}");
        }
        let found = Scopes([(Scope::Ingest, true), (Scope::Worker, false)].into());
        assert_eq!(scopes_check(&found).detail, "ingest (not known: admin)");
        assert_eq!(scopes_check(&Scopes::default()).outcome, Outcome::Failed);
    }

    #[test]
    fn plain_http_is_pointed_out_beyond_this_machine() {
        let of = |url: &str| encryption(&url.parse().unwrap()).outcome;
        assert_eq!(of("http://localhost:8000"), Outcome::Ok);
        assert_eq!(of("http://[::1]:8000"), Outcome::Ok);
        assert_eq!(of("http://192.168.1.5:8000"), Outcome::Skipped);
        assert_eq!(of("https://h"), Outcome::Ok);
    }

    #[test]
    fn a_tampered_url_leads_to_another_object() {
        let put = |url: &str| PresignedRequest {
            method: "PUT".into(),
            url: url.into(),
            headers: BTreeMap::new(),
            expires_in_seconds: 1,
        };
        assert_eq!(tampered(&put("http://h/b/k?sig=a?b")).url, "http://h/b/k-tampered?sig=a?b");
        assert_eq!(tampered(&put("http://h/b/k")).url, "http://h/b/k-tampered");
    }

    #[test]
    fn failed_checks_decide_the_exit_code() {
        let out = Captured::default();
        let output = Output::captured(true, false, out.clone(), Captured::default());
        let mut report = Report { output: &output, checks: Vec::new() };
        assert!(report.note(Check::skipped("a", "b")).unwrap());
        assert!(!report.note(Check::failed("c", "d", "e")).unwrap());
        assert_eq!(report.end().unwrap_err().code(), 8);
        let json: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!((&json["ok"], &json["checks"][1]["outcome"]), (&json!(false), &json!("failed")));
    }
}
