use super::*;

fn finding(name: &str, extensions: &str, outcome: Result<&str, &str>) -> Finding {
    let text = format!(
        "name: {name}\ncontent_types: [audio]\naccepts: {{extensions: [{extensions}]}}\ninstall: get it\n\
         command: [cat, '{{input}}']\nresult: {{format: markdown, from: stdout}}\n"
    );
    let description = Description::parse(&text, Path::new("/own")).unwrap();
    let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
    Finding { description, outcome, may_pass: false }
}

fn report(findings: &[Finding], configured: &[ContentType]) -> Report {
    let machine = Machine {
        python: machine::Python { program: "python3".into(), found: None, problem: Some("gone".to_owned()) },
        gpus: Vec::new(),
        temp_dir: "/tmp/x".into(),
        free_bytes: Some(3 << 30),
        kernel_lacks: Vec::new(),
    };
    Report::new(machine, configured, findings, Path::new("/built-in"))
}

#[test]
fn a_converter_gets_what_those_before_it_leave() {
    let findings = [
        finding("broken", "", Err("lacks a module")),
        finding("first", "mp3, wav", Ok("1.0")),
        finding("second", "wav, ''", Ok("")),
        finding("third", "mp3", Ok("")),
        finding("fourth", "", Ok("")),
        finding("fifth", "ogg", Ok("")),
    ];
    let report = report(&findings, &[ContentType::Audio]);
    let takes: Vec<&Takes> = report.content_types[0].converters.iter().map(|one| &one.takes).collect();
    let endings = |all: &[&str]| Takes::Extensions(all.iter().map(|&ending| ending.to_owned()).collect());
    assert_eq!(
        takes,
        [
            &Takes::Nothing,
            &endings(&["mp3", "wav"]),
            &endings(&[""]),
            &Takes::Nothing,
            &Takes::Everything,
            &Takes::Nothing
        ]
    );
    let text = show::text(&report, &["a warning".to_owned()]);
    for part in [
        "python    python3 does not run: gone.",
        "3 GiB free",
        "a warning",
        "- broken in /own  lacks a module\n      get it\n",
        "+ first in /own  usable: 1.0\n      takes mp3, wav\n",
        "takes names without extension\n",
        "takes every source that none above takes",
        "takes nothing, as those above",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    report.judge().unwrap();
}

#[test]
fn a_wanted_type_without_usable_converter_is_a_failure() {
    let findings = [finding("broken", "", Err("lacks a module"))];
    let failed = report(&findings, &[ContentType::Video, ContentType::Audio]).judge().unwrap_err();
    assert_eq!(failed.code, SETTINGS);
    assert!(failed.message.contains("video, audio"), "{}", failed.message);
    report(&findings, &[]).judge().unwrap();
}
