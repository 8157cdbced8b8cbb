//! API keys by command line against the table, as on AWS: `remote-jobs keys --table`.

#![allow(clippy::unwrap_used, reason = "what a test meets unexpectedly is a failed test")]

use std::{process::Stdio, sync::Arc, time::Duration};

use engines::Engines;
use serde_json::Value;
use service::{Keys, World};
use store::{Connection, Endpoint, Store};
use system_tests::{EngineServer, Ran, Receiver, Reply, TestWorld, binary, free_port, inherited_settings};
use tokio::process::Command;

const TABLE: &str = "jobs";

/// A table that the command reaches over the network, and a server elsewhere that checks its keys.
struct Scene {
    server: EngineServer,
    keys: Keys,
    world: Arc<TestWorld>,
}

/// The command with nothing of AWS but these variables.
fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary("remote-jobs"));
    for name in inherited_settings() {
        command.env_remove(name);
    }
    command
        .arg("keys")
        .args(arguments)
        // Neither a person's own configuration nor a machine's role is to be found.
        .envs([("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nonexistent")])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    Ran::of(&mut command(arguments, variables)).await
}

/// The variables that lead to the server at `url`.
fn leading_to(url: &str) -> [(&str, &str); 4] {
    [
        ("AWS_ENDPOINT_URL", url),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "operator"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
    ]
}

impl Scene {
    async fn new() -> Self {
        // The engines answer on this thread, which must not wait for a compiler.
        tokio::task::spawn_blocking(|| binary("remote-jobs")).await.unwrap();
        let engines = Engines::in_memory().unwrap();
        let store = Store::connect(&connection(&engines)).await;
        store.ensure().await.unwrap();
        let world = Arc::new(TestWorld::default());
        let keys = Keys::new(store.keys, Arc::clone(&world) as Arc<dyn World>);
        Self { server: EngineServer::start(engines).await, keys, world }
    }

    /// Runs `remote-jobs keys … --table` with the table's name.
    async fn run(&self, arguments: &[&str]) -> Ran {
        run(&[arguments, &["--table", TABLE]].concat(), &leading_to(&self.server.url())).await
    }

    /// Creates a key and gives its text.
    async fn created(&self, arguments: &[&str]) -> String {
        let out = self.run(&[&["create"], arguments].concat()).await.ok();
        out.strip_suffix('\n').unwrap().to_owned()
    }

    async fn works(&self, key: &str) -> bool {
        self.keys.authenticate(key).await.is_ok()
    }

    fn pass(&self, seconds: u64) {
        self.world.advance(Duration::from_secs(seconds));
    }
}

fn connection(engines: &Engines) -> Connection {
    let at = |http| Endpoint::At {
        url: "http://engines.embedded".to_owned(),
        credentials: (
            engines.s3_credentials().access_key_id().to_owned(),
            engines.s3_credentials().secret_access_key().to_owned(),
        ),
        http: Some(http),
    };
    Connection {
        table: TABLE.to_owned(),
        bucket: "handoff".to_owned(),
        shards: 1,
        retention: Duration::from_secs(24 * 3600),
        dynamodb: at(engines.dynamodb_http()),
        s3: at(engines.s3_http()),
    }
}

fn id(key: &str) -> &str {
    key.split_once('.').unwrap().0
}

#[tokio::test]
async fn a_key_is_written_alone_to_standard_output_and_works_at_once() {
    let scene = Scene::new().await;
    let ran = scene.run(&["create", "gpu box", "--scope", "worker", "--scope", "ingest"]).await;
    assert!(ran.err.contains("of tenant default may ingest, worker"), "{ran:?}");
    let key = ran.ok();
    let key = key.strip_suffix('\n').unwrap();
    assert!(!key.contains(char::is_whitespace), "{key:?}");
    let caller = scene.keys.authenticate(key).await.unwrap();
    assert_eq!((caller.tenant.as_str(), caller.scopes.len()), ("default", 2));

    let other = scene.created(&["n", "--scope", "admin", "--tenant", "acme", "--quiet"]).await;
    assert_eq!(scene.keys.authenticate(&other).await.unwrap().tenant.as_str(), "acme");
    let ran = scene.run(&["create", "n", "--scope", "worker", "--json"]).await;
    assert_eq!(ran.err, "", "{ran:?}");
    let json: Value = serde_json::from_str(&ran.ok()).unwrap();
    assert!(scene.works(json["api_key"].as_str().unwrap()).await, "{json}");
}

#[tokio::test]
async fn the_list_has_every_key_and_no_secret() {
    let scene = Scene::new().await;
    let empty = scene.run(&["list"]).await;
    assert_eq!((empty.code, empty.out.as_str(), empty.err.as_str()), (0, "", "There is no key yet.\n"));
    let key = scene.created(&["gpu box", "--scope", "worker"]).await;
    let (id, secret) = key.split_once('.').unwrap();
    for arguments in [&["list"][..], &["list", "--json"]] {
        let listed = scene.run(arguments).await.ok();
        assert!(listed.contains(id) && listed.contains("gpu box"), "{listed}");
        assert!(!listed.contains(secret), "{listed}");
    }
}

#[tokio::test]
async fn a_rotated_key_works_until_the_overlap_is_over() {
    let scene = Scene::new().await;
    let old = scene.created(&["laptop", "--scope", "ingest", "--tenant", "acme"]).await;
    assert!(scene.works(&old).await);
    let ran = scene.run(&["rotate", id(&old), "--overlap", "1h"]).await;
    assert!(ran.err.contains("works for 1 h more"), "{ran:?}");
    let out = ran.ok();
    let new = out.trim_end();
    let (before, after) =
        (scene.keys.authenticate(&old).await.unwrap(), scene.keys.authenticate(new).await.unwrap());
    assert_eq!((before.tenant, before.scopes), (after.tenant, after.scopes));
    assert_ne!(before.key, after.key);
    scene.pass(3500);
    assert!(scene.works(&old).await);
    scene.pass(101);
    assert!(!scene.works(&old).await);
    assert!(scene.works(new).await);

    let again = scene.run(&["rotate", id(&old)]).await;
    again.refused(5, &["was rotated before", "rotate the one that took its place"]);
}

#[tokio::test]
async fn a_rotation_without_overlap_and_a_revocation_count_within_a_minute() {
    let scene = Scene::new().await;
    let first = scene.created(&["n", "--scope", "worker"]).await;
    assert!(scene.works(&first).await, "and is remembered for a minute");
    let second = scene.run(&["rotate", id(&first), "--overlap", "0"]).await.ok();
    let second = second.trim_end();
    assert!(scene.works(second).await);
    let revoked = scene.run(&["revoke", id(second)]).await.ok();
    assert!(revoked.ends_with("revoked\n"), "{revoked}");
    scene.pass(60);
    assert!(!scene.works(&first).await);
    assert!(!scene.works(second).await);
    assert_eq!(scene.run(&["revoke", id(second)]).await.code, 0, "revoking again changes nothing");
    scene.run(&["rotate", id(second)]).await.refused(5, &["was revoked", "create a new one"]);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_what_to_do() {
    let scene = Scene::new().await;
    let key = scene.created(&["n", "--scope", "worker"]).await;
    scene.run(&["revoke", "0123456789abcdef"]).await.refused(5, &["no key with this id"]);
    scene.run(&["rotate", "0123456789abcdef"]).await.refused(5, &["no key with this id"]);
    let whole = scene.run(&["revoke", &key]).await;
    whole.refused(2, &["the part before the dot"]);
    assert!(!whole.err.contains(key.split_once('.').unwrap().1), "{whole:?}");
    let tenant = scene.run(&["create", "n", "--scope", "worker", "--tenant", "A B"]).await;
    tenant.refused(5, &["`tenant`"]);
    scene.run(&["rotate", id(&key), "--overlap", "91d"]).await.refused(2, &["--overlap may be at most 90d"]);
    scene.run(&["create", "", "--scope", "worker"]).await.refused(2, &["<NAME>"]);
}

#[tokio::test]
async fn what_is_set_for_a_gateway_sends_no_keys_to_aws() {
    let scene = Scene::new().await;
    let url = scene.server.url();
    let closed = format!("127.0.0.1:{}", free_port());
    let base_url = format!("http://{closed}");
    let server = [("MORAG_TABLE", TABLE), ("MORAG_API_BASE_URL", base_url.as_str())];
    let variables = [&leading_to(&url)[..], &server].concat();
    // Without the flag it is the server's keys.
    run(&["list"], &variables).await.refused(3, &["Cannot reach", &closed]);
}

#[tokio::test]
async fn an_environment_that_leads_nowhere_is_told_with_what_to_set() {
    let scene = Scene::new().await;
    let url = scene.server.url();
    let all = leading_to(&url);
    let without = |names: &[&str]| -> Vec<(&str, &str)> {
        all.iter().copied().filter(|(name, _)| !names.contains(name)).collect()
    };
    let list = ["list", "--table", TABLE];
    run(&list, &without(&["AWS_REGION"])).await.refused(2, &["AWS_REGION"]);
    let keyless = without(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
    run(&list, &keyless).await.refused(4, &["No AWS credentials", "AWS_PROFILE", "export-credentials"]);
    let other = run(&["list", "--table", "elsewhere"], &all).await;
    other.refused(5, &["There is no table elsewhere", &url, "eu-central-1", "AWS_REGION"]);
    let closed = format!("http://127.0.0.1:{}", free_port());
    run(&list, &leading_to(&closed)).await.refused(3, &["Table jobs at", &closed, "AWS_ENDPOINT_URL"]);
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_from_rights_that_are_missing() {
    for (said, code, reason) in [
        ("AccessDeniedException", 4, "may not use table jobs"),
        ("UnrecognizedClientException", 4, "hese AWS credentials are refused at"),
        ("ExpiredTokenException", 4, "hese AWS credentials are refused at"),
        ("ResourceNotFoundException", 5, "There is no table jobs"),
        ("ValidationException", 5, "Table jobs at"),
    ] {
        let answer = format!("x-amzn-errortype: {said}\r\n");
        let aws = Receiver::start(move |_| Reply::Status(400, answer.clone())).await;
        let url = aws.url("");
        let variables = leading_to(&url);
        let ran = run(&["create", "n", "--scope", "worker", "--table", TABLE], &variables).await;
        ran.refused(code, &[reason]);
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    }
}
