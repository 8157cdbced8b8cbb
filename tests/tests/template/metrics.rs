//! The metrics of the template against the log lines that they are made of.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use runtime::LogFormat;
use serde_json::Value;

use crate::{
    roles::{ends, jobs},
    scene::Scene,
    yaml::{of_type, properties},
};

/// The names of a pattern's or a value's fields: what follows each `$.`.
fn fields(text: &str) -> Vec<String> {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    text.split("$.").skip(1).map(|rest| rest.chars().take_while(is_name).collect()).collect()
}

/// What a pattern compares a field with.
fn literal<'a>(pattern: &'a str, field: &str) -> Option<&'a str> {
    pattern.split(&format!("$.{field} = \"")).nth(1)?.split('"').next()
}

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of a few lives, by their messages.
async fn logged() -> BTreeMap<String, Vec<Value>> {
    let lines = Lines::default();
    let writer = lines.clone();
    // An operator who wants no lines but warnings still wants metrics.
    let subscriber = runtime::log_lines(LogFormat::Json, Some("WARNING"), move || writer.clone()).unwrap();
    // For all threads: what another test logs is welcome, and a subscriber of one thread only may miss lines whose
    // place in the code another thread came to first.
    tracing::dispatcher::set_global_default(subscriber).unwrap();
    let mut scene = Scene::new().await;
    jobs(&mut scene).await;
    ends(&mut scene).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let mut by_message: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        by_message.entry(line["message"].as_str().unwrap().to_owned()).or_default().push(line);
    }
    by_message
}

#[tokio::test]
async fn every_metric_is_made_of_lines_that_are_logged() {
    let logged = logged().await;
    for (name, filter) in of_type("AWS::Logs::MetricFilter") {
        let pattern = filter["FilterPattern"].as_str().unwrap();
        let value = filter["MetricTransformations"][0]["MetricValue"].as_str().unwrap();
        let lines: Vec<&Value> = match literal(pattern, "message") {
            Some(message) => logged.get(message).into_iter().flatten().collect(),
            None => logged
                .values()
                .flatten()
                .filter(|line| line["level"] == literal(pattern, "level").unwrap())
                .collect(),
        };
        assert!(!lines.is_empty(), "{name}: nothing is logged that fits {pattern}");
        for field in fields(pattern).into_iter().chain(fields(value)) {
            assert!(
                lines.iter().all(|line| line.get(&field).is_some()),
                "{name}: no {field} in {}",
                lines[0]
            );
        }
        for field in fields(value) {
            assert!(lines.iter().all(|line| line[&field].is_number()), "{name}: {field}");
        }
    }
}

#[test]
fn every_alarm_of_the_stacks_own_metrics_has_a_metric() {
    let made: Vec<&Value> =
        of_type("AWS::Logs::MetricFilter").map(|(_, filter)| &filter["MetricTransformations"][0]).collect();
    let own: Vec<_> = of_type("AWS::CloudWatch::Alarm")
        .filter(|(_, alarm)| alarm["Namespace"].as_str().unwrap().starts_with("remote-jobs/"))
        .collect();
    assert!(own.len() >= 5);
    for (name, alarm) in own {
        assert!(
            made.iter().any(|metric| {
                metric["MetricName"] == alarm["MetricName"] && metric["MetricNamespace"] == alarm["Namespace"]
            }),
            "{name}"
        );
    }
}

#[test]
fn the_dashboard_is_json() {
    let body = properties("Dashboard")["DashboardBody"][0].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(body).unwrap();
    assert!(dashboard["widgets"].as_array().unwrap().len() >= 6);
}
