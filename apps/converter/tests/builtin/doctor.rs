//! `remote-converter doctor`, with the built-in converters and their tools.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::python;

/// Runs it in a folder of its own, with these flags and no settings from elsewhere.
fn doctor(folder: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remote-converter"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MORAG_")) {
        command.env_remove(name);
    }
    let temp_dir = folder.join("temp");
    command.current_dir(folder).arg("doctor").args(flags).arg("--temp-dir").arg(temp_dir).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn doctor_says_what_runs_here_and_what_gets_which_source() {
    let folder = tempfile::tempdir().unwrap();
    let python = python().display().to_string();
    let flags = ["--python", &python, "--content-types", "document,image,web"];
    let output = doctor(folder.path(), &flags);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "+ document-markitdown  usable: markitdown ",
        "takes pdf, docx,",
        "+ image-ocr  usable: pillow ",
        "+ web-trafilatura  usable: trafilatura ",
        "youtube  (not in `content_types`)",
        " GiB free",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A converter that runs with the same settings is not disturbed.
    assert!(!folder.path().join("temp").exists());

    let report: Value =
        serde_json::from_slice(&doctor(folder.path(), &[&flags[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!(report["content_types"][0]["content_type"], "document");
    assert_eq!(report["content_types"][0]["converters"][0]["name"], "document-markitdown");
    assert!(report["machine"]["python"]["found"].as_str().unwrap().starts_with("3."), "{report}");
}

#[test]
fn doctor_fails_when_a_wanted_type_has_no_converter_and_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = doctor(folder.path(), &["--python", "/nowhere/python3", "--content-types", "document"]);
    assert_eq!(output.status.code(), Some(2));
    let (text, error) = (said(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    for part in ["python    /nowhere/python3 does not run", "- document-markitdown", "doctor --requirements"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(error.contains("document") && error.contains("--content-types"), "{error}");

    let packages = said(&doctor(folder.path(), &["--requirements"]));
    assert!(
        packages.contains("\nmarkitdown[")
            && packages.lines().all(|line| line.is_empty() || line.starts_with('#') || line.contains("==")),
        "{packages}"
    );
}
