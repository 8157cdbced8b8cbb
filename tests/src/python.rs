use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A command that runs a script of this package with the Python of `MORAG_TEST_PYTHON`, else of `.tools/venv`.
#[must_use]
pub fn python(script: &str) -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = std::env::var_os("MORAG_TEST_PYTHON")
        .map_or_else(|| package.parent().unwrap().join(".tools/venv/bin/python"), PathBuf::from);
    let probe = Command::new(&interpreter).args(["-c", "import requests"]).output();
    match probe {
        Ok(probe) if probe.status.success() => {}
        Ok(_) => panic!(
            "{} has no `requests`; run `make tools`, or name another Python in MORAG_TEST_PYTHON",
            interpreter.display()
        ),
        Err(error) => panic!(
            "{} cannot be run: {error}; run `make tools`, or name a Python in MORAG_TEST_PYTHON",
            interpreter.display()
        ),
    }
    let mut command = Command::new(interpreter);
    command.arg(package.join(script));
    command
}
