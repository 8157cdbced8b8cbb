//! A second machine reaches the gateway by `--public-url`.

#![allow(clippy::unwrap_used, reason = "what a helper meets unexpectedly is a failed test")]

use std::{net::IpAddr, process::Command};

use serde_json::{Value, json};
use system_tests::{GatewayProgram, JOBS, free_port, network_address, python};

/// A second machine: a network namespace with a cable to this one.
struct SecondMachine {
    name: String,
    cable: String,
    /// This machine's address at the cable.
    here: IpAddr,
}

impl SecondMachine {
    /// One, where this user may make it.
    fn make() -> Option<Self> {
        let id = std::process::id();
        // A network that is set aside for tests like this one.
        let network = format!("198.18.{}", id % 256);
        let machine = Self {
            name: format!("second-machine-{id}"),
            cable: format!("sm{id}"),
            here: format!("{network}.1").parse().unwrap(),
        };
        let Self { name, cable, here } = &machine;
        let commands = [
            format!("ip netns add {name}"),
            format!("ip link add {cable} type veth peer name far netns {name}"),
            format!("ip address add {here}/30 dev {cable}"),
            format!("ip link set {cable} up"),
            format!("ip -n {name} address add {network}.2/30 dev far"),
            format!("ip -n {name} link set far up"),
        ];
        commands.iter().all(|command| run(command)).then_some(machine)
    }
}

impl Drop for SecondMachine {
    fn drop(&mut self) {
        run(&format!("ip link delete {}", self.cable));
        run(&format!("ip netns delete {}", self.name));
    }
}

fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    output.is_ok_and(|output| output.status.success())
}

/// Runs the original's client on the second machine, or here where there is none.
fn convert(machine: Option<&SecondMachine>, url: &str, key: Option<&str>) -> Value {
    let python = python("legacy/client.py");
    let mut command = match machine {
        None => Command::new(python.get_program()),
        Some(machine) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &machine.name]).arg(python.get_program());
            command
        }
    };
    command.args(python.get_args()).arg(url);
    command.env_remove("MORAG_API_KEY").envs(key.map(|key| ("MORAG_API_KEY", key)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_worker_on_a_second_machine_needs_a_key_and_reaches_its_source() {
    let machine = SecondMachine::make();
    let address = machine.as_ref().map_or_else(network_address, |machine| machine.here);
    match &machine {
        Some(machine) => println!("the second machine is the network namespace {}", machine.name),
        None => {
            println!("no network namespace can be made here; the second machine is this one by {address}")
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let url = format!("http://{address}:{port}");
    let listen = format!("0.0.0.0:{port}");
    let arguments = ["--listen", &listen, "--public-url", &url, "--no-auth"];
    let gateway = GatewayProgram::start(folder.path(), &arguments, &[]);
    assert_eq!(gateway.url, url);
    let admin = gateway.admin(folder.path());
    let source = admin.upload("talk.mp3", b"sound").await;
    assert!(source.starts_with("sources/default/"));
    let job = json!({"source_file_path": source, "content_type": "audio", "ingestion_task_id": "t"});
    let job = admin.post(JOBS, &job).await.ok()["job_id"].clone();

    let without = convert(machine.as_ref(), &url, None);
    assert_eq!(without["poll"]["status"], 401, "{without}");

    let with = convert(machine.as_ref(), &url, Some(admin.key()));
    assert_eq!(with["poll"]["body"]["job_id"], job, "{with}");
    assert_eq!(with["download"]["content"], "sound", "{with}");
    let download = with["download"]["url"].as_str().unwrap();
    assert!(download.starts_with(&format!("{url}/remote-jobs/")), "not by the public URL: {download}");
    assert_eq!(with["result"]["body"]["status"], "completed", "{with}");
}
