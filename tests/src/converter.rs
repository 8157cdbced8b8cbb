use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::{binary, kill_processes_in, processes_in, send_signal};

/// How long it may take to stop, with the jobs that it runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the program deaf to the signal that a file grew too large, so that writing fails as on a full disk.
const DEAF: &str = r#"trap "" XFSZ; exec "$0""#;

/// The remote converter as a program of its own, in a folder that outlasts it. Dropping it kills it and everything
/// that it started.
#[derive(Debug)]
pub struct ConverterProgram {
    home: PathBuf,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

impl ConverterProgram {
    /// Starts it in `home`, which it gets to itself, with a settings file of this text and these variables and no
    /// others. Its `temp_dir` must be `temp`.
    #[must_use]
    pub fn start(home: &Path, settings: &str, variables: &[(&str, &str)]) -> Self {
        fs::create_dir_all(home).unwrap();
        fs::write(home.join("remote_converter_config.yaml"), settings).unwrap();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut program = Self { home: home.canonicalize().unwrap(), variables, child: None };
        program.start_again();
        program
    }

    /// Starts it once more over what the last one left.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", DEAF])
            .arg(binary("remote-converter"))
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &self.home)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends it a signal by its name, and nothing that it started.
    pub fn signal(&self, name: &str) {
        send_signal(name, i64::from(self.id()));
    }

    /// Kills it with SIGKILL, as the kernel or a power cut would. What it started runs on.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// How it ended by itself, if it did. It has not when it was killed.
    pub fn ended_by_itself(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().unwrap())
    }

    /// Waits for its end, after it was asked to stop.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > until {
                let _ = child.kill();
                panic!("a converter did not stop by itself; its log: {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The folder that it was started in.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The names in a folder of its `temp_dir`.
    #[must_use]
    pub fn files_in(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.home.join("temp").join(folder)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// How many conversions run.
    #[must_use]
    pub fn conversions(&self) -> usize {
        let mut folders: Vec<PathBuf> =
            processes_in(&self.home.join("temp/work")).into_iter().map(|process| process.folder).collect();
        folders.sort();
        folders.dedup();
        folders.len()
    }

    /// All that it has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Where it logs to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.home.join("log")
    }
}

impl Drop for ConverterProgram {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            send_signal("KILL", -i64::from(child.id()));
            let _ = child.wait();
        }
        kill_processes_in(&self.home);
    }
}
