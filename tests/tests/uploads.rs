//! `POST /uploads` with `/parts`, `/complete` and `/abort`, and what is uploaded.

use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{Answer, JOBS, Site, refusals, sha256_hex, snapshot};

const UPLOADS: &str = "/api/v1/remote-jobs/uploads";

fn file(filename: &str, bytes: &[u8]) -> Value {
    json!({"filename": filename, "size_bytes": bytes.len(), "sha256": sha256_hex(bytes)})
}

/// An upload of more than fits one request, whose only part here is a small last one.
struct Parted {
    site: Site,
    begun: Answer,
}

const PART: &[u8] = b"the only part";

impl Parted {
    async fn begin() -> Self {
        let site = Site::start().await;
        let large = json!({"filename": "film.mkv", "size_bytes": (64 << 20) + 1, "sha256": "ab".repeat(32)});
        let begun = site.ingest.post(UPLOADS, &large).await;
        Self { site, begun }
    }

    fn path(&self, verb: &str) -> String {
        format!("{UPLOADS}/{}/{verb}", self.begun.json()["upload_id"].as_str().unwrap_or_default())
    }

    fn body(&self, parts: &Value) -> Value {
        let begun = self.begun.json();
        json!({
            "source_file_path": begun["source_file_path"],
            "multipart_upload_id": begun["multipart"]["multipart_upload_id"],
            "parts": parts,
        })
    }

    async fn call(&self, verb: &str, parts: Value) -> Answer {
        self.site.ingest.post(&self.path(verb), &self.body(&parts)).await
    }

    fn part(number: i64) -> Value {
        json!({"part_number": number, "size_bytes": PART.len(), "sha256": sha256_hex(PART)})
    }

    /// Uploads the part and describes it for its completion.
    async fn put(&self) -> Value {
        let signed = self.call("parts", json!([Self::part(1)])).await.ok();
        let put = self.site.ingest.presigned(&signed["parts"][0], PART).await;
        assert_eq!(put.status, 200, "{}", put.text());
        json!({"part_number": 1, "etag": put.header("etag"), "sha256": sha256_hex(PART)})
    }
}

#[tokio::test]
async fn a_small_file_is_uploaded_in_one_request() {
    let site = Site::start().await;
    let mut file = file("talk.mp3", b"sound");
    file["mime_type"] = "unknown fields are ignored".into();
    let place = site.ingest.post(UPLOADS, &file).await;
    let put = site.ingest.presigned(&place.ok()["put"], "sound").await;
    snapshot!(json!({"place": place.shown(), "put": put.shown()}));
}

#[tokio::test]
async fn an_empty_file_is_uploaded_too() {
    let site = Site::start().await;
    let source = site.ingest.upload("empty.txt", b"").await;
    let job = json!({"source_file_path": source, "content_type": "document", "ingestion_task_id": "t"});
    assert_eq!(site.ingest.post(JOBS, &job).await.status, 200);
}

#[tokio::test]
async fn a_large_file_is_uploaded_in_parts() {
    let upload = Parted::begin().await;
    let signed = upload.call("parts", json!([Parted::part(1), Parted::part(2)])).await;
    let part = upload.put().await;
    let completed = upload.call("complete", json!([part])).await;
    let again = upload.call("complete", json!([part])).await;
    assert_eq!(again.ok(), completed.ok(), "a lost answer is asked for again");
    snapshot!(json!({
        "begun": upload.begun.shown(), "signed": signed.shown(), "completed": completed.shown(),
    }));
    let source = completed.ok()["source_file_path"].clone();
    let job = json!({"source_file_path": source, "content_type": "video", "ingestion_task_id": "t"});
    // The bytes are not as many as were announced, which no signature of a part can tell.
    let text = "`source_file_path` names an upload of 13 bytes that was announced as 67108865; upload it again, under another Idempotency-Key if it had one";
    assert_eq!(upload.site.ingest.post(JOBS, &job).await.problem(), (422, text.to_owned()));
}

#[tokio::test]
async fn an_upload_is_given_up() {
    let upload = Parted::begin().await;
    let part = upload.put().await;
    let aborted = upload.call("abort", Value::Null).await;
    let again = upload.call("abort", Value::Null).await;
    snapshot!(json!({
        "aborted": aborted.shown(),
        "aborted again": again.shown(),
        "completed": upload.call("complete", json!([part])).await.shown(),
    }));
}

#[tokio::test]
async fn bad_parts_are_refused_with_what_is_wrong() {
    let upload = Parted::begin().await;
    let part = upload.put().await;
    let client = &upload.site.ingest;
    let sign = |parts: Value| client.posting(&upload.path("parts"), &upload.body(&parts));
    let complete = |parts: Value| client.posting(&upload.path("complete"), &upload.body(&parts));
    let changed = |name: &str, value: Value| {
        let mut part = Parted::part(1);
        part[name] = value;
        sign(json!([part]))
    };
    let wrong = |name: &str, value: &str| {
        let mut part = part.clone();
        part[name] = value.into();
        complete(json!([part]))
    };
    let foreign = |path: &str| {
        let mut body = upload.body(&json!([Parted::part(1)]));
        body["source_file_path"] = path.into();
        client.posting(&upload.path("parts"), &body)
    };
    let elsewhere = format!("{UPLOADS}/0b8f3c5e-0000-7000-8000-000000000000/parts");
    let many: Vec<Value> = (1..=101).map(Parted::part).collect();
    snapshot!(
        refusals([
            ("sign: no parts", sign(json!([]))),
            ("sign: 101 parts", sign(many.into())),
            ("sign: part 0", changed("part_number", 0.into())),
            ("sign: part 10001", changed("part_number", 10_001.into())),
            ("sign: an empty part", changed("size_bytes", 0.into())),
            ("sign: a short hash", changed("sha256", "abcd".into())),
            ("sign: another path", foreign("sources/default/x")),
            ("sign: a result's path", foreign("results/default/x")),
            ("sign: another upload", client.posting(&elsewhere, &upload.body(&json!([Parted::part(1)])))),
            ("complete: no parts", complete(json!([]))),
            ("complete: another ETag", wrong("etag", "\"00000000000000000000000000000000\"")),
            ("complete: another hash", wrong("sha256", &"00".repeat(32))),
            ("complete: a part that was not uploaded", {
                let mut missing = part.clone();
                missing["part_number"] = 2.into();
                complete(json!([part, missing]))
            }),
            ("abort: nothing said", client.posting(&upload.path("abort"), &json!({}))),
        ])
        .await
    );
}

#[tokio::test]
async fn a_bad_upload_is_refused_with_what_is_wrong() {
    let site = Site::start().await;
    let changed = |name: &str, value: Value| {
        let mut file = file("talk.mp3", b"sound");
        file[name] = value;
        site.ingest.posting(UPLOADS, &file)
    };
    snapshot!(
        refusals([
            ("body: malformed", site.ingest.posting_text(UPLOADS, "{")),
            ("body: not JSON", site.ingest.request(Method::POST, UPLOADS).body("talk.mp3")),
            ("filename: missing", changed("filename", Value::Null)),
            ("filename: a number", changed("filename", 7.into())),
            ("size_bytes: missing", changed("size_bytes", Value::Null)),
            ("size_bytes: negative", changed("size_bytes", (-1).into())),
            ("size_bytes: more than S3 holds", changed("size_bytes", (6_u64 << 40).into())),
            ("sha256: missing", changed("sha256", "".into())),
            ("sha256: too short", changed("sha256", "abcd".into())),
            ("sha256: no digits", changed("sha256", "xy".repeat(32).into())),
        ])
        .await
    );
}

/// What becomes of names that somebody might break something with.
#[tokio::test]
async fn a_name_given_by_a_client_never_becomes_a_path_or_a_header() {
    let site = Site::start().await;
    let long = format!("{}.mp3", "n".repeat(1000));
    let names = [
        "../../etc/passwd",
        "..\\..\\boot.ini",
        "/absolute.mp3",
        "say \"hi\".mp3",
        "two\r\nlines: x.mp3",
        "smile 😀.mp3",
        "Überschrift.mp3",
        "a;filename=b.mp3",
        "%2e%2e%2fx.mp3",
        ".hidden",
        "..",
        long.as_str(),
    ];
    let mut became = serde_json::Map::new();
    for name in names {
        let source = site.ingest.upload(name, b"sound").await;
        let job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "t"});
        site.ingest.post(JOBS, &job).await.ok();
        let download = site.claim("gpu-1").await.answer.ok()["download"].clone();
        let object = site.worker.get(download["url"].as_str().unwrap()).await;
        assert_eq!(object.text(), "sound");
        became.insert(
            name.replace(&"n".repeat(1000), "(1000 times n)"),
            json!({
                "source_file_path": source,
                "filename": download["filename"],
                "content-disposition": object.header("content-disposition"),
            }),
        );
    }
    snapshot!(became);
}

#[tokio::test]
async fn a_repeated_upload_goes_to_the_same_place() {
    let site = Site::start().await;
    let begin = |bytes: &'static [u8]| {
        Answer::to(
            site.ingest.posting(UPLOADS, &file("talk.mp3", bytes)).header("Idempotency-Key", "order-1"),
        )
    };
    let first = begin(b"sound").await.ok();
    assert_eq!(begin(b"sound").await.ok()["source_file_path"], first["source_file_path"]);
    assert_eq!(site.ingest.presigned(&first["put"], "sound").await.status, 200);
    snapshot!(json!({
        "the same bytes": begin(b"sound").await.shown(),
        "other bytes": begin(b"noise").await.refusal(),
    }));
}

#[tokio::test]
async fn only_the_announced_bytes_can_be_uploaded_and_only_once() {
    let site = Site::start().await;
    let place = site.ingest.place("talk.mp3", b"sound").await;
    for other in ["noise", "sounds", "soun", ""] {
        let mut put = place["put"].clone();
        put["headers"]["content-length"] = other.len().to_string().into();
        let put = site.ingest.presigned(&put, other).await;
        assert!((400..500).contains(&put.status), "{other:?}: {} {}", put.status, put.text());
    }
    let job = json!({
        "source_file_path": place["source_file_path"], "content_type": "audio", "ingestion_task_id": "t",
    });
    assert_eq!(site.ingest.post(JOBS, &job).await.status, 422, "nothing of them was kept");
    assert_eq!(site.ingest.presigned(&place["put"], "sound").await.status, 200);
    assert_eq!(site.ingest.presigned(&place["put"], "sound").await.status, 412);
}
