use std::{fs, process::Command as Program};

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A folder with descriptions, and one for work beside it.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scene.path("converters")).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Describes a converter of `x-mine` sources that is this shell script.
    fn describe(&self, name: &str, script: &str, rest: &str) {
        let text = format!(
            "name: {name}\ncontent_types: [x-mine]\nresult: {{format: json, from: file}}\n\
             command: [sh, '{{here}}/{name}.sh', '{{input}}', '{{output}}', '{{options}}']\n{rest}"
        );
        fs::write(self.path("converters").join(format!("{name}.yaml")), text).unwrap();
        fs::write(self.path("converters").join(format!("{name}.sh")), script).unwrap();
    }

    fn settings(&self) -> LocalSettings {
        let (converters, temp_dir) = (self.path("converters"), self.path("temp"));
        let text = |path: &Path| Some(path.to_str().unwrap().to_owned());
        LocalSettings::from_environment(|name| match name {
            "MORAG_CONVERTERS" => text(&converters),
            "MORAG_TEMP_DIR" => text(&temp_dir),
            _ => None,
        })
        .unwrap()
    }

    async fn open(&self) -> LocalConverter {
        LocalConverter::open(self.settings()).await.unwrap()
    }

    /// The folders of those that are open.
    fn folders(&self) -> Vec<PathBuf> {
        fs::read_dir(self.path("temp/local")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// What is left of conversions: work folders, and processes that name one.
    fn left(&self) -> Vec<String> {
        let works = self.folders().into_iter().map(|folder| folder.join("work")).filter(|work| work.exists());
        let files = works.flat_map(|work| fs::read_dir(work).unwrap());
        let files = files.map(|entry| entry.unwrap().path().display().to_string());
        let mark = format!("MORAG_WORK_FOLDER={}", self.path("temp").display());
        let processes = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&mark)
        });
        files.chain(processes.map(|entry| entry.path().display().to_string())).collect()
    }

    /// Converts a file of this name with the options `{"a": 1}`.
    async fn convert(&self, name: &str) -> (Result<Converted, ConvertError>, Vec<(u8, String)>) {
        let local = self.open().await;
        let file = self.path(name);
        fs::write(&file, "input").unwrap();
        let mut seen = Vec::new();
        let mut progress = |percentage: u8, message: &str| seen.push((percentage, message.to_owned()));
        let (content_type, options) = (mine(), options());
        let source = source(Input::File(&file), name, &content_type, &options);
        let converted = local.convert(source, &CancellationToken::new(), &mut progress).await;
        assert_eq!(self.left(), Vec::<String>::new());
        (converted, seen)
    }
}

fn mine() -> ContentType {
    "x-mine".parse().unwrap()
}

fn options() -> Map<String, Value> {
    json!({"a": 1}).as_object().unwrap().clone()
}

fn source<'a>(
    input: Input<'a>,
    name: &'a str,
    content_type: &'a ContentType,
    options: &'a Map<String, Value>,
) -> LocalSource<'a> {
    LocalSource { input, name, content_type, options, time_limit: Duration::from_secs(60) }
}

const WELL: &str = r#"printf '{"content":"%s","metadata":{"options":%s,"named":"%s"}}' "$(cat "$1")" "$(cat "$3")" "$(basename "$1")" >"$2""#;

#[tokio::test]
async fn a_file_is_converted_where_it_is_with_progress() {
    let scene = Scene::new();
    scene.describe("mine", &format!("echo '[10%] a'; echo '[40%] b'; {WELL}"), "");
    let (converted, seen) = scene.convert("My talk.MP3").await;
    let converted = converted.unwrap();
    assert_eq!(converted.content, "input");
    assert_eq!(
        Value::Object(converted.metadata),
        json!({"converter": "mine", "options": {"a": 1}, "named": "My_talk.MP3"})
    );
    let seen: Vec<(u8, &str)> = seen.iter().map(|(percentage, text)| (*percentage, text.as_str())).collect();
    assert_eq!(seen, [(0, "Converting"), (10, "a"), (40, "b")]);
    assert_eq!(scene.folders(), Vec::<PathBuf>::new(), "it was dropped");
}

#[tokio::test]
async fn a_file_in_a_closed_folder_can_be_converted_and_its_neighbours_cannot_be_read() {
    let scene = Scene::new();
    scene.describe(
        "mine",
        &format!("if cat '{}'; then exit 1; fi; {WELL}", scene.path("data/key").display()),
        "",
    );
    fs::create_dir(scene.path("data")).unwrap();
    fs::write(scene.path("data/key"), "secret").unwrap();
    fs::write(scene.path("data/upload"), "input").unwrap();
    let settings = LocalSettings { closed: vec![scene.path("data")], ..scene.settings() };
    let local = LocalConverter::open(settings).await.unwrap();
    let (file, content_type, options) = (scene.path("data/upload"), mine(), options());
    let source = source(Input::File(&file), "a.txt", &content_type, &options);
    let converted = local.convert(source, &CancellationToken::new(), &mut |_, _| {}).await;
    // Without Landlock nothing is closed, and the script says so by failing.
    assert_eq!(converted.is_ok(), contain::Kernel::tried().landlock > 0, "{converted:?}");
}

#[tokio::test]
async fn a_url_is_handed_over_as_a_server_does() {
    let scene = Scene::new();
    scene.describe("mine", WELL, "");
    let local = scene.open().await;
    let convert = async |url: &str, content_type: ContentType| {
        let options = options();
        let source = source(Input::Url(url), "", &content_type, &options);
        local.convert(source, &CancellationToken::new(), &mut |_, _| {}).await
    };
    let converted = convert("https://example.com/a?b=c", mine()).await.unwrap();
    assert_eq!(converted.content, "https://example.com/a?b=c");
    assert_eq!(converted.metadata["named"], "url.txt");
    assert!(convert("HTTPS://Example.com/", mine()).await.is_ok(), "the scheme is the same in capitals");
    for url in [
        "ftp://example.com",
        "https://",
        "https:example.com",
        "https://example.com/a b",
        "https://example.com/\n",
        "/etc/passwd",
    ] {
        let refused = convert(url, mine()).await.unwrap_err();
        assert!(matches!(&refused, ConvertError::Failed { retryable: false, .. }), "{url}: {refused:?}");
    }
}

#[test]
fn a_url_is_no_source_of_types_that_are_files() {
    for content_type in [ContentType::Audio, ContentType::Video, ContentType::Document, ContentType::Image] {
        let text = check_url(&content_type, "https://example.com/a.mp3").unwrap_err();
        assert!(text.contains(content_type.as_str()), "{text}");
    }
    assert_eq!(check_url(&ContentType::Web, "https://example.com"), Ok(()));
    let longest = format!("https://example.com/{}", "a".repeat(LONGEST_URL - 20));
    assert_eq!(check_url(&ContentType::Youtube, &longest), Ok(()));
    assert!(check_url(&ContentType::Youtube, &format!("{longest}a")).is_err());
}

#[tokio::test]
async fn failures_say_why() {
    let scene = Scene::new();
    scene.describe("mine", "echo it is a scan >&2; exit 65", "");
    let (failed, _) = scene.convert("a.txt").await;
    let Err(ConvertError::Failed { message, retryable: false }) = failed else { panic!("{failed:?}") };
    assert!(message.contains("it is a scan"), "{message}");

    scene.describe("mine", "sleep 300", "limits: {timeout_seconds: 1}");
    let (failed, _) = scene.convert("a.txt").await;
    assert!(failed.unwrap_err().to_string().contains("time limit of 1 s"));
}

#[tokio::test]
async fn the_callers_time_limit_holds_besides() {
    let scene = Scene::new();
    scene.describe("mine", "sleep 300", "");
    let local = scene.open().await;
    let (content_type, options) = (mine(), options());
    let url = source(Input::Url("https://example.com"), "", &content_type, &options);
    let source = LocalSource { time_limit: Duration::from_secs(1), ..url };
    let failed = local.convert(source, &CancellationToken::new(), &mut |_, _| {}).await;
    assert!(failed.unwrap_err().to_string().contains("time limit"));
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_no_readable_file_is_no_source() {
    let scene = Scene::new();
    scene.describe("mine", WELL, "");
    let local = scene.open().await;
    let (content_type, options) = (mine(), options());
    Program::new("mkfifo").arg(scene.path("pipe")).status().unwrap();
    for name in ["missing", "pipe", "converters"] {
        let path = scene.path(name);
        let source = source(Input::File(&path), name, &content_type, &options);
        let failed = local.convert(source, &CancellationToken::new(), &mut |_, _| {}).await;
        let Err(ConvertError::Failed { message, retryable: false }) = failed else { panic!("{failed:?}") };
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
}

#[tokio::test]
async fn a_stopped_conversion_leaves_nothing() {
    let scene = Scene::new();
    scene.describe("mine", "setsid sleep 300 & echo '[10%] a'; sleep 300", "");
    let local = scene.open().await;
    let (content_type, options, stop) = (mine(), options(), CancellationToken::new());
    let source = source(Input::Url("https://example.com"), "", &content_type, &options);
    let mut progress = |percentage: u8, _: &str| {
        if percentage == 10 {
            stop.cancel();
        }
    };
    let stopped = local.convert(source, &stop, &mut progress).await;
    assert_eq!(stopped, Err(ConvertError::Stopped));
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_conversion_leaves_nothing() {
    let scene = Scene::new();
    scene.describe("mine", "setsid sleep 300 & echo '[10%] a'; sleep 300", "");
    let local = scene.open().await;
    let (content_type, options, begun) = (mine(), options(), CancellationToken::new());
    let source = source(Input::Url("https://example.com"), "", &content_type, &options);
    let mut progress = |percentage: u8, _: &str| {
        if percentage == 10 {
            begun.cancel();
        }
    };
    let stop = CancellationToken::new();
    tokio::select! {
        ended = local.convert(source, &stop, &mut progress) => panic!("{ended:?}"),
        () = begun.cancelled() => {}
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[tokio::test]
async fn several_work_in_one_folder_beside_a_remote_converter() {
    let scene = Scene::new();
    scene.describe("mine", WELL, "");
    let _remote = Folders::open(&scene.path("temp")).unwrap();
    let (first, second) = (scene.open().await, scene.open().await);
    let folders = scene.folders();
    assert_eq!(folders.len(), 2);
    let (content_type, options) = (mine(), options());
    for local in [&first, &second] {
        let source = source(Input::Url("https://example.com"), "", &content_type, &options);
        local.convert(source, &CancellationToken::new(), &mut |_, _| {}).await.unwrap();
    }
    drop(first);
    assert_eq!(scene.folders().len(), 1);
    drop(second);
    assert_eq!(scene.folders(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn what_a_killed_program_left_goes_at_the_next_start() {
    let scene = Scene::new();
    let _in_use = scene.open().await;
    let work = scene.path("temp/local/0123/work/conversion-0/scratch");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("output"), "half").unwrap();
    let mut left = Program::new("sleep").arg("300").current_dir(&work).spawn().unwrap();
    let _next = scene.open().await;
    assert!(!left.wait().unwrap().success());
    assert!(!scene.path("temp/local/0123").exists());
    assert_eq!(scene.folders().len(), 2, "the one in use stays");
}

#[tokio::test]
async fn a_type_without_usable_converter_says_what_to_do() {
    let scene = Scene::new();
    scene.describe(
        "broken",
        "",
        "requires: [sh, -c, 'echo lacks a module; exit 1']\ninstall: pip install it.",
    );
    let local = scene.open().await;
    let text = local.check(&mine()).await.unwrap_err().to_string();
    for part in ["`x-mine`", "`broken` is not usable", "lacks a module", "pip install it.", "doctor"] {
        assert!(text.contains(part), "{text}");
    }
    let text = local.check(&"x-other".parse().unwrap()).await.unwrap_err().to_string();
    assert!(text.contains("`x-other`") && text.contains("MORAG_CONVERTERS"), "{text}");
    let (failed, _) = scene.convert("a.txt").await;
    assert!(matches!(failed, Err(ConvertError::Unable(_))), "{failed:?}");

    let settings = LocalSettings { content_types: vec![ContentType::Audio], ..scene.settings() };
    let local = LocalConverter::open(settings).await.unwrap();
    let text = local.check(&mine()).await.unwrap_err().to_string();
    assert!(text.contains("MORAG_LOCAL_CONTENT_TYPES"), "{text}");
}

#[tokio::test]
async fn types_are_looked_into_at_the_same_time_and_found_usable() {
    let scene = Scene::new();
    scene.describe("mine", WELL, "requires: ['true']");
    let local = scene.open().await;
    let (content_type, other) = (mine(), "x-other".parse().unwrap());
    let (first, second, third) =
        tokio::join!(local.check(&content_type), local.check(&content_type), local.check(&other));
    assert!(first.is_ok() && second.is_ok() && third.is_err());
}

#[tokio::test]
async fn a_name_that_no_converter_takes_is_said() {
    let scene = Scene::new();
    scene.describe("mine", WELL, "accepts: {extensions: [txt]}");
    assert!(scene.convert("a.TXT").await.0.is_ok());
    let (failed, _) = scene.convert("a.bin").await;
    let Err(ConvertError::Failed { message, retryable: false }) = failed else { panic!("{failed:?}") };
    assert!(message.contains("x-mine sources named like a.bin"), "{message}");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let scene = Scene::new();
    let error = async || LocalConverter::open(scene.settings()).await.unwrap_err().to_string();
    fs::write(scene.path("converters/bad.yaml"), "name: bad").unwrap();
    assert!(error().await.contains("bad.yaml"));
    fs::set_permissions(scene.path("temp"), fs::Permissions::from_mode(0o777)).unwrap();
    let text = error().await;
    assert!(text.contains("others may write") && text.contains("MORAG_TEMP_DIR"), "{text}");
}

#[test]
fn settings_are_read_from_the_remote_converters_variables() {
    let variables = HashMap::from([
        ("MORAG_LOCAL_CONTENT_TYPES", "audio, x-mine,audio"),
        ("MORAG_CONVERTERS", "/a, /b/c.yaml"),
        ("MORAG_CONVERTER_PYTHON", "/opt/python"),
        ("MORAG_TEMP_DIR", "/var/tmp/mine"),
        ("MORAG_WORKER_NETWORKS", "10.0.0.1,192.168.0.0/16"),
        ("MORAG_WORKER_YOUTUBE_HOSTS", "Example.com"),
    ]);
    let read = |variables: &HashMap<&str, &str>| {
        LocalSettings::from_environment(|name| variables.get(name).map(|text| (*text).to_owned()))
    };
    let settings = read(&variables).unwrap();
    assert_eq!(settings.content_types, [ContentType::Audio, mine()]);
    assert_eq!(settings.converters, [Path::new("/a"), Path::new("/b/c.yaml")]);
    assert_eq!(
        (settings.python.to_str(), settings.temp_dir.to_str()),
        (Some("/opt/python"), Some("/var/tmp/mine"))
    );
    assert_eq!(settings.networks.len(), 2);
    assert_eq!(settings.youtube_hosts, ["example.com"]);

    let settings = read(&HashMap::from([("MORAG_CONVERTERS", " ")])).unwrap();
    assert!(
        settings.content_types.is_empty() && settings.converters.is_empty() && settings.networks.is_empty()
    );
    assert_eq!(settings.python, Path::new("python3"));
    assert!(
        settings.temp_dir.is_absolute() && settings.youtube_hosts.iter().any(|host| host == "youtube.com")
    );

    for (name, value) in [
        ("MORAG_LOCAL_CONTENT_TYPES", "music"),
        ("MORAG_WORKER_NETWORKS", "everywhere"),
        ("MORAG_WORKER_YOUTUBE_HOSTS", "https://youtube.com"),
    ] {
        let text = read(&HashMap::from([(name, value)])).unwrap_err().to_string();
        assert!(text.contains(name) && text.contains(value), "{text}");
    }
}
