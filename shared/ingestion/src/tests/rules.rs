//! Settings, and what the rules alone say.

use std::time::Duration;

use domain::ContentType;
use serde_json::json;

use crate::{FallbackReason, Method, Reason, RemoteSettings, SettingsError, Takeover, idempotency_key};

fn with(set: &[(&str, &str)]) -> Result<RemoteSettings, SettingsError> {
    RemoteSettings::from_environment(|name| {
        set.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn defaults_are_the_originals() {
    let settings = with(&[]).unwrap();
    assert_eq!(settings, RemoteSettings::default());
    assert!(!settings.enabled);
    assert_eq!(settings.content_types, [ContentType::Audio, ContentType::Video, ContentType::Youtube]);
    let seconds = ContentType::KNOWN.map(|of| settings.timeout(&of).as_secs());
    assert_eq!(seconds, [3600, 3600, 600, 300, 600, 1800]);
    assert_eq!(settings.timeout(&"x-own".parse().unwrap()).as_secs(), 1800);
    assert_eq!(settings.poll_interval, Duration::from_secs(10));
}

#[test]
fn every_variable_counts_and_an_empty_one_does_not() {
    let settings = with(&[
        ("MORAG_REMOTE_CONVERSION_ENABLED", "True"),
        ("MORAG_REMOTE_CONTENT_TYPES", " document, Audio,x-own,audio,"),
        ("MORAG_REMOTE_TIMEOUT_IMAGE", "60"),
        ("MORAG_REMOTE_TIMEOUT_AUDIO", " "),
    ])
    .unwrap();
    assert!(settings.enabled);
    let types: Vec<&str> = settings.content_types.iter().map(ContentType::as_str).collect();
    assert_eq!(types, ["document", "audio", "x-own"]);
    assert_eq!(settings.timeout(&ContentType::Image).as_secs(), 60);
    assert_eq!(settings.timeout(&ContentType::Audio).as_secs(), 3600);
    for (text, enabled) in
        [("true", true), ("1", true), ("YES", true), ("on", true), ("false", false), ("0", false)]
    {
        assert_eq!(with(&[("MORAG_REMOTE_CONVERSION_ENABLED", text)]).unwrap().enabled, enabled, "{text}");
    }
}

#[test]
fn a_wrong_value_names_its_variable() {
    for (variable, value, said) in [
        ("MORAG_REMOTE_CONVERSION_ENABLED", "maybe", "\"maybe\" is neither true nor false"),
        ("MORAG_REMOTE_CONTENT_TYPES", "audio,sound", "\"sound\" is not a content type"),
        ("MORAG_REMOTE_TIMEOUT_WEB", "0", "\"0\" is not a whole number of 1 to 86400 seconds"),
        ("MORAG_REMOTE_TIMEOUT_WEB", "86401", "\"86401\" is not a whole number"),
        ("MORAG_REMOTE_TIMEOUT_YOUTUBE", "1h", "\"1h\" is not a whole number"),
    ] {
        let error = with(&[(variable, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{variable}: {said}")), "{error}");
    }
}

#[test]
fn remote_must_be_asked_for_enabled_and_of_a_type() {
    let off = RemoteSettings::default();
    let on = RemoteSettings { enabled: true, ..off.clone() };
    let none = RemoteSettings { content_types: Vec::new(), ..on.clone() };
    for (settings, content_type, requested, reason) in [
        (&on, "audio", true, Reason::Allowed),
        (&on, "youtube", true, Reason::Allowed),
        (&on, "audio", false, Reason::NotRequested),
        (&off, "audio", false, Reason::NotRequested),
        (&off, "audio", true, Reason::NotEnabled),
        (&on, "document", true, Reason::TypeNotSupported),
        (&on, "x-own", true, Reason::TypeNotSupported),
        (&none, "audio", true, Reason::TypeNotSupported),
    ] {
        let decision = settings.should_use_remote(&content_type.parse().unwrap(), requested);
        assert_eq!((decision.reason, decision.method), (reason, reason.method()));
        assert_eq!(decision.is_remote(), reason == Reason::Allowed);
        assert_eq!(decision.figures, None);
    }
    let said = on.should_use_remote(&ContentType::Image, true).to_string();
    assert_eq!(
        said,
        "Remote conversion is not set up for image; MORAG_REMOTE_CONTENT_TYPES has audio, video, youtube."
    );
}

#[test]
fn a_decision_is_told_to_programs_and_to_people() {
    let decision = RemoteSettings::default().should_use_remote(&ContentType::Audio, true);
    assert_eq!(
        serde_json::to_value(&decision).unwrap(),
        json!({
            "processing_method": "local", "reason": "not_enabled", "explanation": decision.to_string(),
            "figures": null,
        })
    );
    assert_eq!(serde_json::to_value(Method::Remote).unwrap(), "remote");
    let why = FallbackReason::Failed("no speech in it".to_owned());
    assert_eq!(
        serde_json::to_value(&why).unwrap(),
        json!({"reason": "failed", "explanation": "The remote conversion failed: no speech in it"})
    );
    assert_eq!(serde_json::to_value(Takeover::CompletedUnusable).unwrap(), "completed_unusable");
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let words: std::collections::HashSet<&str> = Reason::ALL.into_iter().map(Reason::as_str).collect();
    assert_eq!(words.len(), Reason::ALL.len());
    assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
}

#[test]
fn a_task_has_one_key_that_can_stand_in_a_header() {
    let key = idempotency_key("tâche 1");
    assert_eq!(key, idempotency_key("tâche 1"));
    assert_ne!(key, idempotency_key("tâche 2"));
    assert!(key.len() <= 255 && key.bytes().all(|byte| byte.is_ascii_graphic()));
    // Other programs make the same one.
    assert_eq!(
        idempotency_key("task-1"),
        "ingestion-7afaa346b4bf92bf9dc21e9ae809887412a86beb766842e99df7fee6573a4781"
    );
}
