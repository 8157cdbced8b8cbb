use std::{collections::HashMap, os::unix::fs::PermissionsExt, path::Path};

use clap::{CommandFactory, Parser};

use super::{
    names::{NAMES, Name},
    *,
};
use crate::args::Args;

fn load(file: &str, variables: &[(&str, &str)], flags: Flags) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, file).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = Environment::of(variables, &folder.path().join(".env")).unwrap();
    Settings::load(&Flags { config: Some(path), ..flags }, &environment).map_err(|error| error.to_string())
}

fn problem(file: &str, environment: &[(&str, &str)], flags: Flags) -> String {
    load(file, environment, flags).unwrap_err()
}

#[test]
fn the_defaults_are_the_originals() {
    let settings = load("", &[], Flags::default()).unwrap();
    assert_eq!(settings.worker_id.as_str(), format!("remote-worker-{}", std::process::id()));
    assert_eq!(settings.api_base_url.as_str(), "http://localhost:8000");
    assert!(settings.api_key.is_none());
    assert_eq!(settings.content_types, [ContentType::Audio, ContentType::Video]);
    assert_eq!(settings.poll_interval, Duration::from_secs(10));
    assert_eq!(settings.max_concurrent_jobs, 2);
    assert_eq!(settings.log_level, LogLevel::Info);
    assert_eq!(settings.temp_dir, Path::new("/tmp/morag_remote"));
    assert_eq!(settings.python, Path::new("python3"));
    assert_eq!((settings.lease_seconds, settings.shutdown_grace), (60, Duration::from_secs(30)));
    assert_eq!(settings.stall_after, Duration::from_secs(900));
    assert!(settings.log_file.is_none() && settings.networks.is_empty() && settings.spot_notice.is_none());
    assert_eq!(
        settings.youtube_hosts.join(" "),
        "youtube.com youtu.be youtube-nocookie.com googlevideo.com ytimg.com"
    );
}

#[test]
fn the_file_then_the_environment_then_flags() {
    let file = "worker_id: file\napi_base_url: http://file\npoll_interval: 11\nmax_concurrent_jobs: 3\n";
    let environment = [("MORAG_API_BASE_URL", "http://env"), ("MORAG_WORKER_POLL_INTERVAL", "12")];
    let args = Flags { poll_interval: Some("13".to_owned()), ..Flags::default() };
    let settings = load(file, &environment, args).unwrap();
    assert_eq!(settings.worker_id.as_str(), "file");
    assert_eq!(settings.api_base_url.as_str(), "http://env");
    assert_eq!(settings.poll_interval, Duration::from_secs(13));
    assert_eq!(settings.max_concurrent_jobs, 3);
}

#[test]
fn null_and_empty_mean_absent() {
    let file = "worker_id: ''\npython: null\npoll_interval: 5\ncontent_types: []\n";
    let settings = load(file, &[("MORAG_WORKER_POLL_INTERVAL", "")], Flags::default()).unwrap();
    assert!(settings.worker_id.as_str().starts_with("remote-worker-"));
    assert_eq!(settings.python, Path::new("python3"));
    assert_eq!(settings.poll_interval, Duration::from_secs(5));
    assert_eq!(settings.content_types.len(), 2);
}

#[test]
fn lists_are_lists_or_have_commas() {
    for file in [
        "content_types: [audio, x-mine, audio]",
        "content_types: ' audio,x-mine '",
        "content_types: 'audio,,x-mine'",
    ] {
        let settings = load(file, &[], Flags::default()).unwrap();
        let types: Vec<&str> = settings.content_types.iter().map(ContentType::as_str).collect();
        assert_eq!(types, ["audio", "x-mine"], "{file}");
    }
    let args = Flags { converters: Some("a.yaml, /b".to_owned()), ..Flags::default() };
    let settings = load("", &[], args).unwrap();
    assert!(settings.converters[0].is_absolute() && settings.converters[0].ends_with("a.yaml"));
    assert_eq!(settings.converters[1], Path::new("/b"));
}

#[test]
fn errors_name_the_setting_and_its_source() {
    let text = problem("poll_interval: soon", &[], Flags::default());
    assert!(
        text.starts_with("`poll_interval` in /") && text.contains("soon") && text.contains("1 to 3600"),
        "{text}"
    );
    let text = problem("", &[("MORAG_WORKER_MAX_CONCURRENT_JOBS", "0")], Flags::default());
    assert!(
        text.contains("variable `MORAG_WORKER_MAX_CONCURRENT_JOBS`") && text.contains("1 to 100"),
        "{text}"
    );
    let text = problem("", &[], Flags { api_url: Some("localhost".to_owned()), ..Flags::default() });
    assert!(text.contains("flag `--api-url`"), "{text}");
    let text = problem("", &[], Flags { content_types: Some("audio,music".to_owned()), ..Flags::default() });
    assert!(text.contains("`--content-types`") && text.contains("\"music\""), "{text}");
    let text = problem("log_level: LOUD", &[], Flags::default());
    assert!(text.contains("`log_level` in") && text.contains("WARNING"), "{text}");
    let text = problem("worker_id: \"a\\nb\"", &[], Flags::default());
    assert!(text.contains("`worker_id` in") && text.contains("control characters"), "{text}");
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    for (written, meant) in [
        ("worker_idd", Some("worker_id")),
        ("pol_interval", Some("poll_interval")),
        ("API_KEY", Some("api_key")),
        ("api_url", Some("api_base_url")),
        ("max-jobs", Some("max_concurrent_jobs")),
        ("MORAG_WORKER_CONTENT_TYPES", Some("content_types")),
        ("spot_notices", Some("spot_notice")),
        ("colour", None),
    ] {
        let text = problem(&format!("{written}: 5"), &[], Flags::default());
        assert!(
            text.contains(&format!("unknown key `{written}`")) && text.contains("settings.yaml"),
            "{text}"
        );
        match meant {
            Some(meant) => assert!(text.contains(&format!("did you mean `{meant}`?")), "{text}"),
            None => assert!(!text.contains("did you mean"), "{text}"),
        }
    }
}

#[test]
fn a_key_given_twice_is_an_error() {
    let text = problem("poll_interval: 5\npoll_interval: 6", &[], Flags::default());
    assert!(text.contains("poll_interval"), "{text}");
}

#[test]
fn a_switch_is_true_or_false() {
    assert!(load("", &[], Flags::default()).unwrap().instant_wakeup);
    assert!(!load("instant_wakeup: False", &[], Flags::default()).unwrap().instant_wakeup);
    let text = problem("", &[("MORAG_WORKER_INSTANT_WAKEUP", "no")], Flags::default());
    assert!(text.contains("`MORAG_WORKER_INSTANT_WAKEUP`") && text.contains("true or false"), "{text}");
}

#[test]
fn networks_are_addresses_or_blocks() {
    let settings = load("networks: [10.1.2.3, 'fd00::/8']", &[], Flags::default()).unwrap();
    let networks: Vec<String> = settings.networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.1.2.3/32", "fd00::/8"]);
    let text = problem("networks: intranet", &[], Flags::default());
    assert!(text.contains("`networks` in") && text.contains("10.0.0.0/8"), "{text}");
}

#[test]
fn youtube_hosts_are_host_names() {
    let flags =
        Flags { youtube_hosts: Some("Video.Example., .mirror.example".to_owned()), ..Flags::default() };
    assert_eq!(load("", &[], flags).unwrap().youtube_hosts, ["video.example", "mirror.example"]);
    for wrong in ["https://youtube.com", "youtube.com:443", "a..b", "*.youtube.com"] {
        let text = problem(&format!("youtube_hosts: ['{wrong}']"), &[], Flags::default());
        assert!(text.contains(wrong) && text.contains("host name"), "{text}");
    }
}

#[test]
fn a_spot_notice_is_aws_a_file_or_a_url() {
    let notice = |text: &str| {
        let flags = Flags { spot_notice: Some(text.to_owned()), ..Flags::default() };
        load("", &[], flags).map(|settings| settings.spot_notice)
    };
    assert_eq!(notice("none").unwrap(), None);
    assert_eq!(notice("aws").unwrap(), Some(SpotNotice::Aws));
    assert_eq!(notice("/run/going").unwrap(), Some(SpotNotice::File("/run/going".into())));
    assert!(matches!(notice("./going").unwrap(), Some(SpotNotice::File(path)) if path.is_absolute()));
    let url = "http://127.0.0.1:1/going?now=true";
    assert_eq!(notice(url).unwrap(), Some(SpotNotice::Url(url.to_owned())));
    assert!(notice("gcp").unwrap_err().contains("none, aws"));
    assert!(notice("http://").unwrap_err().contains("--spot-notice"));
}

#[test]
fn a_file_that_is_no_yaml_or_not_there_is_named() {
    assert!(problem("a: [", &[], Flags::default()).contains("settings.yaml"));
    let args = Flags { config: Some("/nowhere/x.yaml".into()), ..Flags::default() };
    let text = Settings::load(&args, &Environment::default()).unwrap_err().to_string();
    assert!(text.contains("/nowhere/x.yaml") && text.contains("cannot be read"), "{text}");
}

#[test]
fn the_key_is_never_shown() {
    let settings = load("api_key: id.hunter2", &[], Flags::default()).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    for file in [
        "api_key: hunter2\nfoo: 1",
        "api_key: [hunter2]",
        "api_key: {hunter2: 1}",
        "api_key: hunter2\n  x: [",
    ] {
        let text = problem(file, &[], Flags::default());
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_example_is_a_settings_file() {
    let settings = load(EXAMPLE, &[], Flags::default()).unwrap();
    assert_eq!(settings.worker_id.as_str(), "gpu-worker-01");
    assert!(settings.api_key.is_none());
    for name in &NAMES {
        assert!(EXAMPLE.contains(&format!("\n{}:", name.key)), "{} is missing", name.key);
        assert!(EXAMPLE.contains(&format!("[{}]", name.variable)), "{} is missing", name.variable);
    }
}

#[test]
fn every_setting_has_its_flag() {
    let command = Args::command();
    let flags: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long())
        .map(|long| format!("--{long}"))
        .collect();
    for Name { key, flag, .. } in &NAMES {
        assert!(flags.iter().any(|known| known == flag), "{key} has no {flag}");
        let args = Args::parse_from(["remote-converter", flag, "nonsense\n", "doctor"]);
        let after = Args::parse_from(["remote-converter", "doctor", flag, "nonsense\n"]);
        assert_eq!(format!("{:?}", args.flags), format!("{:?}", after.flags), "{flag} after the subcommand");
        assert!(format!("{:?}", args.flags).contains("nonsense"), "{flag}");
    }
}

/// A `.env` file's variables, read beside these of the process.
fn dotenv(text: &str, process: &[(&str, &str)]) -> (tempfile::TempDir, Environment) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let process = process.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = Environment::of(process, &path).unwrap();
    (folder, environment)
}

fn parsed(text: &str) -> (Vec<(String, String)>, Vec<usize>) {
    let process = HashMap::from([("HOME".to_owned(), "/home/me".to_owned())]);
    let (variables, faults) = super::dotenv::parse(text, &process);
    (variables.into_iter().collect(), faults)
}

#[test]
fn dotenv_files_are_read_as_python_dotenv_reads_them() {
    for (text, value) in [
        ("A=b", "b"),
        ("  export A = b c  # comment", "b c"),
        ("A=b#c", "b#c"),
        ("A=#c", ""),
        ("A=", ""),
        ("A=\nB", ""),
        ("A='b # $x \\' c\\n'", "b # $x ' c\\n"),
        ("A=\"b\\t\\\"c\\\"\" # d", "b\t\"c\""),
        ("A='two\nlines'", "two\nlines"),
        ("A=b\r\n", "b"),
        ("\u{feff}A=b", "b"),
        ("A=x\nA=b", "b"),
        ("'A'=b", "b"),
        ("A=b\\c$HOME", "b\\c$HOME"),
        ("A=${HOME}/x", "/home/me/x"),
        ("HOME=/no\nA=${HOME}", "/home/me"),
        ("B=1\nA=${B}${C:-2}${D}.", "12."),
        ("A=${B", "${B"),
    ] {
        let (variables, faults) = parsed(text);
        let found = variables.iter().find(|(name, _)| name == "A").map(|(_, value)| value.as_str());
        assert_eq!((found, faults.as_slice()), (Some(value), [].as_slice()), "{text:?}");
    }
    assert_eq!(parsed("A"), (vec![], vec![]), "a name alone sets nothing");
    assert_eq!(parsed("# c\n\n  \n"), (vec![], vec![]));
}

#[test]
fn faults_of_a_dotenv_file_are_told_by_line_and_without_the_value() {
    let text = "A=1\n\n=hunter2\nMORAG_API_KEY=\"hunter2\nB='x' hunter2\nMORAG_WORKER_ID=me\n";
    assert_eq!(parsed(text).1, [3, 4, 5]);
    let (_folder, environment) = dotenv(text, &[]);
    let settings = Settings::load(&Flags::default(), &environment).unwrap();
    assert_eq!(settings.worker_id.as_str(), "me");
    let warnings = settings.warnings.join("\n");
    assert!(warnings.contains("Line 4 of /") && warnings.contains("/.env is not like"), "{warnings}");
    assert!(!warnings.contains("hunter2"), "{warnings}");
}

#[test]
fn the_environment_counts_before_the_dotenv_file() {
    let text = "MORAG_WORKER_ID=file\nMORAG_WORKER_POLL_INTERVAL=7\nMORAG_LOG_LEVEL=LOUD\n";
    let process =
        [("MORAG_WORKER_ID", "process"), ("MORAG_WORKER_POLL_INTERVAL", ""), ("MORAG_LOG_LEVEL", "INFO")];
    let (_folder, environment) = dotenv(text, &process);
    let settings = Settings::load(&Flags::default(), &environment).unwrap();
    assert_eq!(settings.worker_id.as_str(), "process");
    assert_eq!(settings.poll_interval, Duration::from_secs(7));
    let (_folder, environment) = dotenv("MORAG_LOG_LEVEL=LOUD", &[]);
    let text = Settings::load(&Flags::default(), &environment).unwrap_err().to_string();
    assert!(text.starts_with("`MORAG_LOG_LEVEL` in /") && text.contains(".env"), "{text}");
}

#[test]
fn unknown_variables_of_workers_are_warned_of() {
    let process = [("MORAG_WORKER_MAX_JOBS", "3"), ("MORAG_TABLE", "x"), ("MORAG_WORKER_ID", "a")];
    let (_folder, environment) = dotenv("MORAG_WORKER_COLOUR=red\n", &process);
    let warnings = Settings::load(&Flags::default(), &environment).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("`MORAG_WORKER_COLOUR`") && !warnings[0].contains("red"), "{warnings:?}");
    assert!(warnings[1].contains("`MORAG_WORKER_MAX_JOBS`"), "{warnings:?}");
    assert!(warnings[1].contains("mean `MORAG_WORKER_MAX_CONCURRENT_JOBS`?"), "{warnings:?}");
}

#[test]
fn a_key_in_a_file_that_others_can_read_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let (file, env) = (folder.path().join("settings.yaml"), folder.path().join(".env"));
    std::fs::write(&file, "api_key: hunter2").unwrap();
    std::fs::write(&env, "MORAG_API_KEY=hunter2").unwrap();
    let warnings = |mode: u32| {
        for path in [&file, &env] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let environment = Environment::of([], &env).unwrap();
        let flags = Flags { config: Some(file.clone()), ..Flags::default() };
        Settings::load(&flags, &environment).unwrap().warnings
    };
    assert_eq!(warnings(0o600), Vec::<String>::new());
    let found = warnings(0o640);
    assert!(found[0].contains("settings.yaml") && found[1].contains(".env"), "{found:?}");
    assert!(found.iter().all(|text| text.contains("chmod 600") && !text.contains("hunter2")), "{found:?}");
    std::fs::write(&file, "api_key: null").unwrap();
    std::fs::write(&env, "").unwrap();
    assert_eq!(warnings(0o644), Vec::<String>::new());
}

#[test]
fn the_documentation_has_every_setting_under_its_names() {
    let text = include_str!("../../../../docs/CONVERTER.md");
    for Name { key, variable, flag, .. } in &NAMES {
        let row = format!("| `{key}` | `{variable}` | `{flag}` | ");
        assert!(text.contains(&row), "docs/CONVERTER.md has no row {row}");
    }
    assert_eq!(text.matches("` | `MORAG_").count(), NAMES.len());
}
