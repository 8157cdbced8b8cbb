//! A clock that is hours off, for one program only.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use jiff::{SignedDuration, Timestamp};
use system_tests::ConverterProgram;

/// Compiles what is preloaded into the program. The namespaces of Linux have no clock of their own for the time of
/// day, so the calls that read it are replaced.
pub(crate) fn compile(folder: &Path) -> PathBuf {
    let library = folder.join("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/clock.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .unwrap_or_else(|error| {
            panic!("a wrong clock needs the C compiler `cc`, which cannot be run: {error}")
        });
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "`cc` cannot compile {}: {said}", source.display());
    library
}

/// Fails unless the program's log shows that it believes in a time that is about so far off.
pub(crate) fn assert_is_off(converter: &ConverterProgram, seconds: i64) {
    let log = converter.log();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let believed: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
    let off = believed.duration_since(Timestamp::now());
    let wrong = (off - SignedDuration::from_secs(seconds)).abs();
    assert!(
        wrong < SignedDuration::from_mins(10),
        "the clock is off by {off:?}; the preloaded library has no effect"
    );
}
