use super::*;

/// The example of the specification's reference libraries: their secret, message and signature.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = r#"{"type":"remote_job.completed","timestamp":"2026-11-22T04:41:51.875Z","data":{"job_id":"j-1","status":"completed","ingestion_task_id":"task-1","content_type":"audio","created_at":"2026-11-22T04:40:07.101Z","completed_at":"2026-11-22T04:41:51.875Z","error_message":null,"attempts":1,"result_path":"/r","later":1}}"#;
const AT: u64 = 1_795_322_512;

fn secret() -> Secret {
    SECRET.parse().unwrap()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(AT)
}

struct Sent {
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Sent {
    /// As the control plane sends it.
    fn signed(body: &str, secrets: &[&Secret], at: u64) -> Self {
        let timestamp = at.to_string();
        let sign = |secret: &&Secret| secret.sign("msg-1", i64::try_from(at).unwrap(), body.as_bytes());
        let signatures: Vec<String> = secrets.iter().map(sign).collect();
        let headers =
            vec![(ID, "msg-1".to_owned()), (SIGNATURE, signatures.join(" ")), (TIMESTAMP, timestamp)];
        Self { headers, body: body.to_owned() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(there, _)| *there != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| *there == name).map(|(_, value)| value.as_str())
    }

    fn verified(&self, secrets: &[Secret]) -> Result<WebhookMessage, WebhookError> {
        verify(|name| self.header(name), self.body.as_bytes(), secrets, TOLERANCE, now())
    }
}

#[test]
fn what_the_specifications_libraries_sign_is_believed() {
    let body = br#"{"test": 2432232314}"#;
    let signature = secret().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn a_signed_message_is_read() {
    let message = Sent::signed(BODY, &[&secret()], AT).verified(&[secret()]).unwrap();
    assert_eq!((message.id.as_str(), message.timestamp), ("msg-1", now()));
    assert_eq!(
        (message.event.kind.as_str(), message.event.data.job_id.as_str()),
        ("remote_job.completed", "j-1")
    );
}

#[test]
fn any_of_the_signatures_by_any_of_the_secrets_is_enough() {
    let other: Secret = format!("whsec_{}", STANDARD.encode([7; 32])).parse().unwrap();
    let both = Sent::signed(BODY, &[&other, &secret()], AT);
    assert!(both.verified(&[secret()]).is_ok() && both.verified(std::slice::from_ref(&other)).is_ok());
    let old = Sent::signed(BODY, &[&secret()], AT);
    assert!(old.verified(&[other.clone(), secret()]).is_ok());
    assert_eq!(old.verified(&[other]).unwrap_err(), WebhookError::Forged);
    let newer = format!("v1a,AAAA v2,AAAA {}", old.header(SIGNATURE).unwrap());
    assert!(old.with(SIGNATURE, &newer).verified(&[secret()]).is_ok());
}

#[test]
fn whatever_was_changed_is_forged() {
    let sent = || Sent::signed(BODY, &[&secret()], AT);
    let signature = sent().header(SIGNATURE).unwrap().to_owned();
    let body = sent().body.replace("completed", "cancelled");
    let none: Vec<Sent> = vec![
        Sent { body, ..sent() },
        Sent { body: format!("{BODY} "), ..sent() },
        sent().with(ID, "msg-2"),
        sent().with(TIMESTAMP, &(AT + 1).to_string()),
        sent().with(SIGNATURE, &signature.replace("v1,", "v2,")),
        sent().with(SIGNATURE, signature.strip_prefix("v1,").unwrap()),
        sent().with(SIGNATURE, &signature[..signature.len() - 4]),
        sent().with(SIGNATURE, "v1,"),
        sent().with(SIGNATURE, "v1,no base64"),
        sent().with(SIGNATURE, &format!("{}{signature}", "v1,AAAA ".repeat(MOST_SIGNATURES))),
    ];
    for (number, sent) in none.iter().enumerate() {
        assert_eq!(sent.verified(&[secret()]).unwrap_err(), WebhookError::Forged, "{number}");
    }
    assert_eq!(sent().verified(&[]).unwrap_err(), WebhookError::Forged);
}

#[test]
fn old_and_early_messages_are_stale() {
    for (at, stale) in [(AT - 300, false), (AT + 300, false), (AT - 301, true), (AT + 301, true), (0, true)] {
        let verified = Sent::signed(BODY, &[&secret()], at).verified(&[secret()]);
        assert_eq!(matches!(verified, Err(WebhookError::Stale(_))), stale, "{at}: {verified:?}");
    }
    let forged = Sent::signed(BODY, &[&secret()], 0).with(ID, "other").verified(&[secret()]);
    assert_eq!(forged.unwrap_err(), WebhookError::Forged, "whoever cannot sign learns nothing of the clock");
}

#[test]
fn what_is_no_message_is_malformed() {
    let sent = || Sent::signed(BODY, &[&secret()], AT);
    let mut none = vec![Sent::signed("{}", &[&secret()], AT), Sent::signed("event", &[&secret()], AT)];
    none.extend([ID, TIMESTAMP, SIGNATURE].map(|name| sent().with(name, "")));
    none.extend(
        ["1e9", "-5", "+1795322512", "99999999999999999999999", "soon"].map(|at| sent().with(TIMESTAMP, at)),
    );
    for sent in none {
        let error = sent.verified(&[secret()]).unwrap_err();
        assert!(matches!(error, WebhookError::Malformed(_)), "{:?}: {error:?}", sent.headers);
    }
    let bare = Sent { headers: Vec::new(), body: BODY.to_owned() };
    assert_eq!(bare.verified(&[secret()]).unwrap_err(), missing(ID));
}

#[test]
fn secrets_are_read_as_they_are_given_and_never_shown() {
    let bare = SECRET.strip_prefix("whsec_").unwrap();
    for text in [SECRET.to_owned(), bare.to_owned(), format!(" {SECRET}\n")] {
        assert_eq!(text.parse::<Secret>().unwrap().0, secret().0);
    }
    for none in ["", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%"] {
        let error = none.parse::<Secret>().unwrap_err();
        assert!(!error.to_string().contains("c2hvcnQ"));
    }
    assert_eq!(format!("{:?}", secret()), "Secret(…)");
    let answer = WebhookSecretResponse {
        secret: SECRET.to_owned(),
        previous: Some(format!("whsec_{}", STANDARD.encode([7; 32]))),
        previous_until: None,
    };
    assert_eq!(secrets(&answer).unwrap().len(), 2);
    assert!(secrets(&WebhookSecretResponse { previous: Some("x".to_owned()), ..answer }).is_err());
}
