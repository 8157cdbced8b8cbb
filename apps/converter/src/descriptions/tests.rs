use super::*;

const WHOLE: &str = r#"
name: mine
content_types: [audio, x-mine]
accepts: {extensions: [.MP3, wav]}
requires: ["{python}", "-c", "import sys"]
install: do it
command: ["{python}", "{here}/a.py", "--in={input}", "{output}", "{options}", "{work}", "{}", "{not a place}", "{{input}}"]
result: {format: json, from: file}
limits: {timeout_seconds: 5, max_output_bytes: 100, memory_bytes: 100000000}
environment: [TOKEN]
"#;
const LEAST: &str =
    "name: n\ncontent_types: [audio]\ncommand: [cat, '{input}']\nresult: {format: markdown, from: stdout}\n";

fn problem(text: &str) -> String {
    Description::parse(text, Path::new("/here")).unwrap_err()
}

#[test]
fn a_whole_description() {
    let description = Description::parse(WHOLE, Path::new("/here")).unwrap();
    let places = Places {
        input: Path::new("/w/in.mp3"),
        output: Path::new("/w/out"),
        options: Path::new("/w/o.json"),
        work: Path::new("/w"),
        python: Path::new("/py"),
    };
    let line = description.command_line(&places);
    let expected = [
        "/py",
        "/here/a.py",
        "--in=/w/in.mp3",
        "/w/out",
        "/w/o.json",
        "/w",
        "{}",
        "{not a place}",
        "{/w/in.mp3}",
    ];
    assert_eq!(line, expected.map(OsString::from));
    let check = description.check_line(Path::new("/w"), Path::new("/py")).unwrap();
    assert_eq!(check, ["/py", "-c", "import sys"].map(OsString::from));
    assert_eq!(description.limits.max_output_bytes, 100);
    assert_eq!(description.environment, ["TOKEN"]);
}

#[test]
fn the_least_description_takes_every_extension() {
    let description = Description::parse(LEAST, Path::new("/here")).unwrap();
    assert_eq!(description.limits, Limits::default());
    assert!(description.takes(&ContentType::Audio, "noextension"));
    assert!(!description.takes(&ContentType::Video, "a.mp3"));
    assert!(description.check_line(Path::new("/w"), Path::new("/py")).is_none());
}

#[test]
fn what_nothing_is_said_of_is_closed_or_has_its_default() {
    let parse = |rest: &str| Description::parse(&format!("{LEAST}{rest}"), Path::new("/here")).unwrap();
    assert_eq!(parse("").network, Network::None);
    assert_eq!(parse("network: none").network, Network::None);
    assert_eq!(parse("network: internet").network, Network::Internet(Hosts::All));
    assert_eq!(parse("network: internet\nhosts: youtube").network, Network::Internet(Hosts::Youtube));
    let limits = parse("").limits;
    assert_eq!((limits.disk_bytes, limits.max_output_bytes), (32 << 30, 64 << 20));
    let limits = parse("limits: {cpus: 2, memory_bytes: 16777216, stalled_seconds: 9}").limits;
    assert_eq!((limits.cpus, limits.memory_bytes, limits.disk_bytes), (Some(2), Some(16 << 20), 32 << 30));
    assert_eq!(limits.stalled(), Some(std::time::Duration::from_secs(9)));
}

#[test]
fn extensions_are_compared_without_case_and_dot() {
    let description = Description::parse(WHOLE, Path::new("/here")).unwrap();
    for (name, takes) in [("a.mp3", true), ("a.b.WAV", true), ("mp3", false), ("a.ogg", false), ("", false)] {
        assert_eq!(description.takes(&ContentType::Audio, name), takes, "{name}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, why) in [
        (LEAST.replace("name: n", "name: ''"), "empty `name`"),
        (LEAST.replace("name: n", "nam: n"), "nam"),
        (LEAST.replace("[audio]", "[]"), "`content_types`"),
        (LEAST.replace("[audio]", "[music]"), "is not a content type"),
        (LEAST.replace("[cat, '{input}']", "[]"), "no program in `command`"),
        (LEAST.replace("{input}", "input"), "{input}"),
        (LEAST.replace("{input}", "{imput}"), "unknown placeholder {imput}"),
        (LEAST.replace("from: stdout", "from: file"), "{output}"),
        (LEAST.replace("markdown", "html"), "html"),
        (format!("{LEAST}requires: ['{{input}}']"), "`requires`"),
        (format!("{LEAST}limits: {{max_output_bytes: 0}}"), "`limits: max_output_bytes` of 0"),
        (format!("{LEAST}limits: {{cpus: 0}}"), "`limits: cpus` of 0"),
        (format!("{LEAST}limits: {{stalled_seconds: 0}}"), "at least 1"),
        (format!("{LEAST}limits: {{memory_bytes: 1000}}"), "`limits: memory_bytes` of 1000"),
        (format!("{LEAST}limits: {{disk_bytes: 1000}}"), "at least 1048576"),
        (format!("{LEAST}limits: {{cpu_seconds: -1}}"), "invalid u64"),
        (format!("{LEAST}limits: {{memory: 1000}}"), "memory"),
        (format!("{LEAST}network: lan"), "lan"),
        (format!("{LEAST}hosts: youtube"), "`network: internet`"),
        (format!("{LEAST}network: internet\nhosts: vimeo"), "vimeo"),
        ("[".to_owned(), "is not right"),
    ] {
        let problem = problem(&text);
        assert!(problem.contains(why), "{text}: {problem}");
    }
}

#[test]
fn folders_are_read_in_order_and_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("b.yaml", LEAST);
    write("a.yml", &LEAST.replace("name: n", "name: first"));
    write("c.txt", "not looked at");
    let all = load(&[folder.path().to_owned()]).unwrap();
    assert_eq!(all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["first", "n"]);

    write("d.yaml", LEAST);
    let text = load(&[folder.path().to_owned()]).unwrap_err().to_string();
    assert!(text.contains("d.yaml") && text.contains("same name") && text.contains("b.yaml"), "{text}");
    write("d.yaml", "name: [");
    assert!(load(&[folder.path().join("d.yaml")]).unwrap_err().to_string().contains("d.yaml"));
    assert!(load(&[folder.path().join("e.yaml")]).unwrap_err().to_string().contains("cannot be read"));
}
