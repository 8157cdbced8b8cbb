//! Presigned URLs as a client meets them that knows nothing of AWS.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use reqwest::{Method, Response, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{BUCKET, MIB, Place, bytes, incoming, plain_http, s3_client, serve, sha256, until};

struct Network {
    place: Place,
    /// Signs for the address that the server listens on.
    s3: aws_sdk_s3::Client,
    http: reqwest::Client,
    address: std::net::SocketAddr,
}

impl Network {
    async fn new() -> Self {
        let place = Place::new().await;
        let address = serve(&place.engines).await;
        let s3 = s3_client(&place.engines, &format!("http://{address}"));
        Self { place, s3, http: plain_http(), address }
    }

    /// Signs a put as the handoff does: of so many bytes, with this SHA-256, of an object that isn't there.
    async fn presign_put(&self, key: &str, data: &[u8]) -> PresignedRequest {
        let put = self.s3.put_object().bucket(BUCKET).key(key).if_none_match("*");
        let put = put.content_length(i64::try_from(data.len()).unwrap()).checksum_sha256(sha256(data));
        put.presigned(hour()).await.unwrap()
    }

    async fn presign_get(&self, key: &str, times: PresigningConfig) -> String {
        let get = self.s3.get_object().bucket(BUCKET).key(key);
        let get = get.response_content_disposition("attachment; filename=\"a.mp3\"");
        get.presigned(times).await.unwrap().uri().to_owned()
    }

    async fn send(
        &self,
        request: &PresignedRequest,
        method: Method,
        without: &str,
        body: Vec<u8>,
    ) -> Response {
        let mut sent = self.http.request(method, request.uri());
        for (name, value) in request.headers().filter(|(name, _)| *name != without) {
            sent = sent.header(name, value);
        }
        sent.body(body).send().await.unwrap()
    }

    async fn exists(&self, key: &str) -> bool {
        self.place.s3.head_object().bucket(BUCKET).key(key).send().await.is_ok()
    }
}

fn hour() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_secs(3600)).unwrap()
}

#[tokio::test]
async fn a_presigned_put_takes_what_was_signed_once() {
    let network = Network::new().await;
    for size in [1000, 2 * MIB] {
        let (data, key) = (bytes(size, 1), format!("sources/{size}"));
        let put = network.presign_put(&key, &data).await;
        let stored = network.send(&put, Method::PUT, "", data.clone()).await;
        assert_eq!(stored.status(), StatusCode::OK);
        assert!(network.place.get(&key).await == data);
        let again = network.send(&put, Method::PUT, "", data).await;
        assert_eq!(again.status(), StatusCode::PRECONDITION_FAILED);
    }
}

#[tokio::test]
async fn a_presigned_put_refuses_what_was_not_signed() {
    let network = Network::new().await;
    for size in [1000, MIB] {
        let (data, other) = (bytes(size, 1), bytes(size, 2));
        let put = network.presign_put("k", &data).await;
        let names: Vec<_> = put.headers().map(|(name, _)| name.to_owned()).collect();
        for header in ["x-amz-checksum-sha256", "if-none-match"] {
            assert!(names.iter().any(|name| name == header), "{names:?}");
            let without = network.send(&put, Method::PUT, header, data.clone()).await;
            assert_eq!(without.status(), StatusCode::FORBIDDEN, "without {header}");
        }
        let wrong = network.send(&put, Method::PUT, "", other.clone()).await;
        assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
        let short = network.send(&put, Method::PUT, "content-length", data[1..].to_vec()).await;
        assert_eq!(short.status(), StatusCode::FORBIDDEN);
        let mut changed = network.http.put(put.uri()).body(other.clone());
        for (name, value) in put.headers() {
            let value = if name == "x-amz-checksum-sha256" { sha256(&other) } else { value.to_owned() };
            changed = changed.header(name, value);
        }
        assert_eq!(changed.send().await.unwrap().status(), StatusCode::FORBIDDEN);
        assert!(!network.exists("k").await);
        assert_eq!((network.place.blobs().len(), incoming(network.place.dir.path()).len()), (0, 0));
    }
}

#[tokio::test]
async fn a_presigned_get_gives_the_object_and_its_name() {
    let network = Network::new().await;
    let data = bytes(2 * MIB, 1);
    let etag = network.place.put("k ü/😀", data.clone()).await;
    let url = network.presign_get("k ü/😀", hour()).await;
    let got = network.http.get(&url).send().await.unwrap();
    assert_eq!(got.status(), StatusCode::OK);
    assert_eq!(got.headers()["content-disposition"], "attachment; filename=\"a.mp3\"");
    assert_eq!(got.headers()["content-length"], data.len().to_string());
    assert_eq!(got.headers()["etag"], etag);
    assert_eq!(got.headers()["accept-ranges"], "bytes");
    assert!(got.bytes().await.unwrap() == data);

    let rest = network.http.get(&url).header("range", "bytes=2000000-").header("if-match", &etag);
    let rest = rest.send().await.unwrap();
    assert_eq!(rest.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(rest.headers()["content-range"], format!("bytes 2000000-2097151/{}", data.len()));
    assert!(rest.bytes().await.unwrap() == data[2_000_000..]);
    let beyond = network.http.get(&url).header("range", "bytes=2097152-").send().await.unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers()["content-range"], "bytes */2097152");
    let changed = network.http.get(&url).header("if-match", "\"other\"").send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::PRECONDITION_FAILED);
    let known = network.http.get(&url).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!(
        (known.status(), &known.headers()["etag"]),
        (StatusCode::NOT_MODIFIED, &etag.parse().unwrap())
    );
}

#[tokio::test]
async fn a_forged_or_expired_url_is_refused() {
    let network = Network::new().await;
    network.place.put("k", "secret").await;
    network.place.put("l", "another").await;
    let url = network.presign_get("k", hour()).await;
    let past = SystemTime::now() - Duration::from_secs(3600);
    let expired = PresigningConfig::builder().start_time(past).expires_in(Duration::from_secs(1800)).build();
    let expired = network.presign_get("k", expired.unwrap()).await;
    let other_key = url.replace("/handoff/k?", "/handoff/l?");
    let other_name = url.replace("a.mp3", "b.exe");
    let longer = url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200");
    let unsigned = url.split('?').next().unwrap().to_owned();
    for (what, forged) in [
        ("expired", expired),
        ("key", other_key),
        ("name", other_name),
        ("time", longer),
        ("no signature", unsigned),
    ] {
        assert_ne!(forged, url, "{what}");
        let got = network.http.get(forged).send().await.unwrap();
        assert_eq!(got.status(), StatusCode::FORBIDDEN, "{what}");
    }
    for method in [Method::PUT, Method::DELETE, Method::HEAD] {
        let got = network.http.request(method.clone(), &url).body("x").send().await.unwrap();
        assert_eq!(got.status(), StatusCode::FORBIDDEN, "{method}");
    }
    let elsewhere = network.http.get(&url).header("host", "example.com").send().await.unwrap();
    assert_eq!(elsewhere.status(), StatusCode::FORBIDDEN);
    assert_eq!(network.http.get(&url).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_form_is_refused_before_it_is_read() {
    let network = Network::new().await;
    let url = format!("http://{}/{BUCKET}", network.address);
    let form = network.http.post(url).header("content-type", "Multipart/Form-Data; boundary=b");
    assert_eq!(form.body("--b").send().await.unwrap().status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn a_head_has_no_body() {
    let network = Network::new().await;
    let url = format!("http://{}/{BUCKET}/k", network.address);
    let head = network.http.head(url).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::FORBIDDEN);
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_connection_drops_leaves_nothing() {
    let network = Network::new().await;
    let data = bytes(3 * MIB, 1);
    let put = network.presign_put("k", &data).await;
    let path = put.uri().split_once(&network.address.to_string()).unwrap().1;
    let mut request = format!("PUT {path} HTTP/1.1\r\nhost: {}\r\n", network.address);
    for (name, value) in put.headers() {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut socket = TcpStream::connect(network.address).await.unwrap();
    socket.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    socket.write_all(&data[..2 * MIB]).await.unwrap();
    let dir = network.place.dir.path();
    until(|| incoming(dir).len() == 1).await;
    drop(socket);
    until(|| incoming(dir).is_empty()).await;
    assert!(network.place.blobs().is_empty());
    assert!(!network.exists("k").await);
}
