//! The alarms of the template against the guide that says what to do at each.

use std::{collections::BTreeSet, path::Path};

use crate::yaml::of_type;

fn guide() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
    std::fs::read_to_string(path).unwrap()
}

/// The part of the guide under this heading of the second level.
fn section<'a>(guide: &'a str, heading: &str) -> &'a str {
    let begin = guide.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &guide[begin + 1..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

#[test]
fn every_alarm_has_its_heading_in_the_operations_guide_and_every_heading_its_alarm() {
    let alarms: BTreeSet<&str> = of_type("AWS::CloudWatch::Alarm")
        .map(|(_, alarm)| alarm["AlarmName"].as_str().unwrap().strip_prefix("${AWS::StackName}-").unwrap())
        .collect();
    let guide = guide();
    let told: Vec<(&str, &str)> = section(&guide, "Alarms")
        .split("\n### ")
        .skip(1)
        .map(|part| part.split_once('\n').unwrap())
        .collect();
    let headings: BTreeSet<&str> = told.iter().map(|(heading, _)| heading.trim_matches('`')).collect();
    assert_eq!(headings, alarms);
    assert_eq!(told.len(), alarms.len(), "an alarm has two headings");
    for (heading, text) in told {
        assert!(text.contains("**Do:**"), "{heading}: the guide does not say what to do");
    }
}
