use jiff::Timestamp;
use serde_json::Value;

use crate::{ProgressEvent, formats, printable, timestamp};

/// The progress that a JSON log line tells in its `event`, or none. `timestamp` says when; `logger`, `level` and
/// whatever else there is do not matter.
#[must_use]
pub fn parse_json_line(line: &str) -> Option<ProgressEvent> {
    let (text, timestamp) = event(line)?;
    Some(ProgressEvent { timestamp, ..formats::parse_plain_line(&text)? })
}

/// The text of a JSON log line, and when it was written.
pub(crate) fn event(line: &str) -> Option<(String, Option<Timestamp>)> {
    let Value::Object(fields) = serde_json::from_str(line).ok()? else { return None };
    let text = printable(fields.get("event")?.as_str()?).trim().to_owned();
    let timestamp = fields.get("timestamp").and_then(Value::as_str).and_then(timestamp::parse);
    Some((text, timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_line_is_read() {
        let line = r#"{"event": "Processing progress: Audio processing (75%)", "timestamp": "2025-06-11T11:26:50.780725Z"}"#;
        let event = parse_json_line(line).unwrap();
        assert_eq!((event.percentage, event.message.as_str()), (75, "Audio processing"));
        assert_eq!(event.timestamp.unwrap().as_microsecond(), 1_749_641_210_780_725);
        let without =
            parse_json_line(r#"{"event": "Processing progress: Direct processing (75%)"}"#).unwrap();
        assert_eq!((without.percentage, without.timestamp), (75, None));
    }

    #[test]
    fn json_lines_carry_every_format_in_their_event() {
        for plain in [
            "Processing progress: Audio processing: Initializing (52%)",
            "Processing... 75%",
            "Progress: 45% - Converting video",
            "Stage: transcription (67%)",
            "Audio processing: 80% complete",
            "[75%] Processing audio content",
        ] {
            let line = serde_json::json!({
                "event": plain, "timestamp": "2025-06-11T11:26:50.780725Z", "logger": "morag", "level": "info",
            });
            let event = parse_json_line(&line.to_string()).unwrap();
            assert_eq!(event.timestamp.unwrap().as_microsecond(), 1_749_641_210_780_725);
            assert_eq!(Some(ProgressEvent { timestamp: None, ..event }), formats::parse_plain_line(plain));
        }
    }

    #[test]
    fn a_bad_timestamp_is_left_out() {
        for timestamp in [r#""yesterday""#, "12", "null", "{}", r#""""#] {
            let event = parse_json_line(&format!(r#"{{"event":"[5%] x","timestamp":{timestamp}}}"#)).unwrap();
            assert_eq!(event.timestamp, None);
        }
    }

    #[test]
    fn broken_json_is_passed_over() {
        let deep = format!("{}{}", "{\"event\":".repeat(10_000), "[5%] x");
        for line in [
            "",
            r#"{"event":"[5%] x""#,
            r#"{"event":5,"x":"[5%]"}"#,
            r#"{"message":"[5%] x"}"#,
            r#"{"event":{"event":"[5%] x"}}"#,
            r#"["[5%] x"]"#,
            "{ Progress: 5% }",
            "Progress: 5%",
            deep.as_str(),
        ] {
            assert_eq!(parse_json_line(line), None);
        }
    }

    #[test]
    fn escapes_in_an_event_do_not_reach_its_message() {
        let event = parse_json_line(r#"{"event":"[5%] a\u001b[2Jb\u0007\nc"}"#).unwrap();
        assert_eq!(event.message, "ab c");
    }
}
