//! The calls, as clients see them.

use std::time::Duration;

use ingest::{
    EnvVar, Settings,
    http::{Guard, Hooks},
    store::Note,
    task::{Phase, Stage},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{
    bench::{World, made},
    site::{MOST, Site, form, snapshot},
};

#[tokio::test]
async fn a_file_becomes_searchable() {
    let site = Site::start(World::new()).await;
    let metadata = r#"{"author": "me"}"#;
    let fields =
        [("document_id", "minutes"), ("metadata", metadata), ("remote", "False"), ("chunk_size", "")];
    let accepted = site.file("minutes.md", b"They spoke of lighthouses.", &fields).await;
    let id = accepted.ok()["task_id"].as_str().unwrap().to_owned();
    let ended = site.ended(&id).await;
    let found = site.get("/api/v1/search?q=lighthouses&limit=3&document_id=minutes").await;
    let listed = site.get("/api/v1/tasks").await;
    snapshot!(json!({
        "accepted": accepted.shown(), "ended": ended, "found": found.shown(), "listed": listed.shown(),
    }));
    assert_eq!(site.bench.files(), 0);
}

#[tokio::test]
async fn a_url_is_taken_from_a_form_and_from_json() {
    let world =
        World::new().converting(|work| async move { Ok(made(work.task.spec.source.name(), "local")) });
    let site = Site::start(world).await;
    let json =
        json!({"url": "https://example.com/page", "remote": true, "metadata": {"a": 1}, "chunk_size": 500});
    let by_json = site.send(site.request("POST", "/api/v1/ingest/url").json(&json)).await;
    let body = "url=https%3A%2F%2Fwww.youtube.com%2Fwatch%3Fv%3D1&remote=True";
    let request = site.request("POST", "/api/v1/ingest/url");
    let by_form =
        site.send(request.header("content-type", "application/x-www-form-urlencoded").body(body)).await;
    let kind = "multipart/form-data; boundary=a-boundary-that-is-nowhere-else";
    let body = form(None, &[("url", "http://example.com/"), ("source_type", "web")]);
    let request = site.request("POST", "/api/v1/ingest/url");
    let by_parts = site.send(request.header("content-type", kind).body(body)).await;
    let mut types = Vec::new();
    for answer in [&by_json, &by_form, &by_parts] {
        types.push(site.ended(answer.ok()["task_id"].as_str().unwrap()).await["source_type"].clone());
    }
    assert_eq!(types, ["web", "youtube", "web"]);
    snapshot!(json!({"json": by_json.shown(), "form": by_form.shown(), "parts": by_parts.shown()}));
}

#[tokio::test]
async fn what_a_url_cannot_be_is_refused() {
    let site = Site::start(World::new()).await;
    let post = async |json: Value| site.send(site.request("POST", "/api/v1/ingest/url").json(&json)).await;
    let mut refused = Vec::new();
    for body in [
        json!({}),
        json!({"url": "ftp://example.com/"}),
        json!({"url": "file:///etc/passwd"}),
        json!({"url": 5}),
        json!({"url": format!("https://example.com/{}", "x".repeat(2000))}),
        json!({"url": "https://example.com/", "source_type": "audio"}),
        json!([]),
    ] {
        refused.push(post(body).await.shown());
    }
    snapshot!(refused);
    assert_eq!(site.get("/api/v1/tasks").await.ok()["tasks"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_ingested_is_refused_and_leaves_nothing() {
    let site = Site::start(World::new()).await;
    let large = vec![b'x'; usize::try_from(MOST).unwrap() + 1];
    let whole = form(Some(("a.md", b"text")), &[]);
    let answers = [
        ("no file", site.form(&form(None, &[("remote", "true")])).await),
        ("no name", site.file("", b"text", &[]).await),
        ("no form", site.send(site.request("POST", "/api/v1/ingest/file").json(&json!({}))).await),
        ("empty", site.file("a.md", b"", &[]).await),
        ("too large", site.file("a.md", &large, &[]).await),
        ("unknown", site.file("setup.exe", b"MZ\x90\x00", &[]).await),
        ("no such type", site.file("a.md", b"text", &[("source_type", "painting")]).await),
        ("type of a URL", site.file("a.md", b"text", &[("content_type", "youtube")]).await),
        ("broken metadata", site.file("a.md", b"text", &[("metadata", "{'a': 1}")]).await),
        ("impossible size", site.file("a.md", b"text", &[("chunk_size", "0")]).await),
        (
            "impossible overlap",
            site.file("a.md", b"text", &[("chunk_size", "100"), ("chunk_overlap", "100")]).await,
        ),
        ("no number", site.file("a.md", b"text", &[("chunk_size", "many")]).await),
        ("no boolean", site.file("a.md", b"text", &[("remote", "perhaps")]).await),
        ("no strategy", site.file("a.md", b"text", &[("chunking_strategy", "tarot")]).await),
        ("no timeout", site.file("a.md", b"text", &[("remote_timeout", "0")]).await),
        ("long id", site.file("a.md", b"text", &[("document_id", &"x".repeat(256))]).await),
        ("hidden webhook", site.file("a.md", b"text", &[("webhook_url", "http://169.254.169.254/")]).await),
        ("cut off", site.form(&whole[..whole.len() - 10]).await),
        ("two files", site.form(&[&whole[..whole.len() - 37], whole.as_slice()].concat()).await),
    ];
    let shown: serde_json::Map<_, _> =
        answers.iter().map(|(what, answer)| ((*what).to_owned(), answer.shown())).collect();
    snapshot!(shown);
    assert_eq!(site.bench.files(), 0);
    assert_eq!(site.get("/api/v1/tasks").await.ok()["tasks"], json!([]));
}

#[tokio::test]
async fn a_form_that_hides_its_beginning_or_a_fields_head_is_not_kept_in_memory() {
    let site = Site::start(World::new()).await;
    let longest = (1 << 20) + (512 << 10);
    let head = "--a-boundary-that-is-nowhere-else\r\nx: ";
    for begin in ["", head] {
        let body = [begin.as_bytes(), &vec![b'x'; longest + 1 - begin.len()]].concat();
        let answer = site.form(&body).await;
        assert_eq!(answer.status, 413, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_file_of_the_largest_size_is_taken() {
    let site = Site::start(World::new()).await;
    let id = site.accepted("a.md", &vec![b'x'; usize::try_from(MOST).unwrap()], &[]).await;
    assert_eq!(site.ended(&id).await["size_bytes"], MOST);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let site = Site::start(World::new()).await;
    let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
    let head = "POST /api/v1/ingest/file HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90000\r\n\
                content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\ncontent-disposition: form-data; \
                name=\"file\"; filename=\"a.md\"\r\n\r\nbegins";
    stream.write_all(head.as_bytes()).await.unwrap();
    while site.bench.files() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    while site.bench.files() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(site.get("/api/v1/tasks").await.ok()["tasks"], json!([]));
}

#[tokio::test]
async fn types_are_told_by_name_and_then_by_bytes() {
    let site = Site::start(World::new()).await;
    for (name, bytes, fields, expected) in [
        ("talk.MP3", b"anything".as_slice(), [].as_slice(), "audio"),
        ("../../etc/passwd", b"%PDF-1.7", &[], "document"),
        ("film", b"\x1A\x45\xDF\xA3", &[], "video"),
        ("a.b/c.md\\d.png", b"anything", &[], "image"),
        ("a.md", b"anything", &[("source_type", "x-mine")], "x-mine"),
        ("a.md", b"anything", &[("content_type", "audio")], "audio"),
    ] {
        let id = site.accepted(name, bytes, fields).await;
        assert_eq!(site.ended(&id).await["source_type"], expected, "{name}");
    }
}

#[tokio::test]
async fn a_replaced_document_is_replaced() {
    let site = Site::start(World::new()).await;
    for (text, replace) in [("first", "false"), ("second", "False"), ("third", "True")] {
        let id = site
            .accepted("a.md", text.as_bytes(), &[("document_id", "d"), ("replace_existing", replace)])
            .await;
        site.ended(&id).await;
        if text == "second" {
            assert_eq!(site.bench.world.texts("d"), ["first", "second"]);
        }
    }
    assert_eq!(site.bench.world.texts("d"), ["third"]);
}

#[tokio::test]
async fn a_failed_task_shows_where_and_why() {
    let world = World::new().converting(|work| async move {
        let created = Note::of("remote_job_created", "The remote job j is waited for.");
        let created = created.at(Stage::WaitingForRemoteCompletion);
        work.notes.note(Note { remote_job_id: Some("j".to_owned()), ..created });
        Err("The remote conversion failed: the sound is broken".to_owned())
    });
    let site = Site::start(world).await;
    let id = site.accepted("talk.mp3", b"sound", &[("remote", "true"), ("fallback_to_local", "no")]).await;
    snapshot!(site.ended(&id).await);
}

#[tokio::test]
async fn a_waiting_task_is_cancelled_and_an_ended_one_is_not() {
    let site = Site::start(World::new().converting(|_| std::future::pending())).await;
    let id = site.accepted("a.md", b"text", &[]).await;
    let parsed = id.parse().unwrap();
    site.bench.until(parsed, |task| task.phase == Phase::Converting).await;
    let path = format!("/api/v1/tasks/{id}");
    let cancelled = site.delete(&path).await;
    let again = site.delete(&path).await;
    snapshot!(json!({"cancelled": cancelled.shown(), "again": again.shown()}));
    assert_eq!(site.delete("/api/v1/tasks/none").await.refused(), (404, "Task none not found"));
}

#[tokio::test]
async fn what_is_not_there_is_told_as_the_original_tells_it() {
    let site = Site::start(World::new()).await;
    let id = "01a20393-3de3-779c-970d-3078c1cf5dee";
    assert_eq!(site.get("/api/v1/tasks/x").await.refused(), (404, "Task x not found"));
    let unknown = site.get(&format!("/api/v1/tasks/{id}")).await;
    assert_eq!(unknown.refused(), (404, format!("Task {id} not found").as_str()));
    assert_eq!(site.get("/api/v1/none").await.refused(), (404, "Not Found"));
    assert_eq!(site.get("/api/v1/ingest/file").await.refused(), (405, "Method Not Allowed"));
    for wrong in
        ["/api/v1/search", "/api/v1/search?q=%20", "/api/v1/search?q=a&limit=0", "/api/v1/tasks?limit=x"]
    {
        assert_eq!(site.get(wrong).await.status, 422, "{wrong}");
    }
    assert_eq!(site.get("/health").await.ok()["status"], "healthy");
}

#[tokio::test]
async fn web_pages_may_not_call_a_service_without_a_key() {
    let site = Site::start(World::new()).await;
    for (name, value) in
        [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example:8080")]
    {
        let answer = site.send(site.request("GET", "/api/v1/tasks").header(name, value)).await;
        assert_eq!(
            answer.refused(),
            (403, "Without MORAG_INGEST_API_KEY web pages may not call this service")
        );
    }
}

#[tokio::test]
async fn a_service_with_a_key_demands_it() {
    let key = "0123456789abcdef";
    let settings = Settings::from(|name| (name == EnvVar::OwnKey.name()).then(|| key.to_owned())).unwrap();
    let site = Site::with(World::new(), Guard::Key(settings.own_key.unwrap()), Hooks::Off).await;
    for given in
        [None, Some("Bearer wrong-wrong-wrong"), Some("Basic 0123456789abcdef"), Some("0123456789abcdef")]
    {
        let request = site.request("GET", "/api/v1/tasks");
        let request = given.iter().fold(request, |request, given| request.header("authorization", *given));
        assert_eq!(site.send(request).await.status, 401, "{given:?}");
    }
    let request = site.request("GET", "/api/v1/tasks").header("authorization", format!("Bearer {key}"));
    assert_eq!(site.send(request).await.status, 200);
    assert_eq!(site.get("/health").await.status, 200);
}
