//! Starts a command so that it and everything it starts is contained, limited and findable.

use std::{ffi::OsString, fmt::Write, io, process::Stdio, thread};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
    sync::oneshot,
};

use super::{Task, family::Family};

/// What a command gets of this process's environment. Everything else could be a secret.
const HANDED_ON: [&str; 9] =
    ["PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "USER"];
const HANDED_ON_PREFIXES: [&str; 4] = ["LC_", "CUDA_", "NVIDIA_", "OMP_"];
/// What `ulimit -f` counts in.
const BLOCK: u64 = 512;
/// How many seconds of CPU time a process has after it was told that its time is over.
const CPU_GRACE: u64 = 5;

/// Starts the command on a thread of its own, which the kernel takes from first what it takes from the command.
pub(super) async fn start(task: &Task) -> io::Result<(Child, Family)> {
    let (runtime, containment, folder) = (Handle::current(), task.containment.clone(), task.folder.clone());
    let mut command = command(task);
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("start".to_owned()).spawn(move || {
        let _entered = runtime.enter();
        let started = containment.apply().map_err(|error| {
            io::Error::new(error.kind(), format!("this machine cannot contain it: {error}"))
        });
        // Who does not wait any more lets go of the command, and that kills it.
        let _ = tell.send(started.and_then(|()| Family::start(&mut command, &folder)));
    })?;
    told.await.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it did not end well")))
}

/// The command, by way of a shell that sets the limits and then becomes the command: a limit set from outside would
/// come too late.
fn command(task: &Task) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args([OsString::from("-c"), limiting(task).into(), "sh".into()]);
    command.args(&task.words).current_dir(&task.folder).env_clear();
    for (name, value) in std::env::vars_os() {
        let handed_on = name.to_str().is_some_and(|name| {
            HANDED_ON.contains(&name)
                || HANDED_ON_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                || task.environment.iter().any(|wanted| wanted == name)
        });
        if handed_on {
            command.env(name, value);
        }
    }
    command
        .envs(task.way.iter().flat_map(|way| way.variables()))
        .env("TMPDIR", &task.folder)
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// The script of the shell. A limit that is lower already stays.
fn limiting(task: &Task) -> String {
    let limits = &task.limits;
    let mut script = format!("ulimit -c 0; ulimit -f {} 2>/dev/null; ", limits.disk_bytes.div_ceil(BLOCK));
    // Writing to a string does not fail.
    if let Some(seconds) = limits.cpu_seconds {
        let hard = seconds.saturating_add(CPU_GRACE);
        let _ = write!(script, "ulimit -H -t {hard} 2>/dev/null; ulimit -S -t {seconds} 2>/dev/null; ");
    }
    if let Some(bytes) = limits.address_space_bytes {
        let _ = write!(script, "ulimit -v {} || exit 126; ", bytes / 1024);
    }
    script + r#"exec "$@""#
}
