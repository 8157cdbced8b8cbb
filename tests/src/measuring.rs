use std::{process::Command, time::Duration};

/// What the machine is that figures are measured on: its processor and its compiler.
#[must_use]
pub fn this_machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |m| m.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rustc =
        Command::new("rustc").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    format!("{cores} cores of {model}; {}", String::from_utf8_lossy(&rustc).trim())
}

/// The `percent`-th percentile.
#[must_use]
pub fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() * percent / 100).min(samples.len() - 1)]
}
