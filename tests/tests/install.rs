//! The remote converter's install script and its service.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what a helper meets unexpectedly is a failed test, and what is not tested is said"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use system_tests::{binary, free_port, python};

const NAME: &str = "morag-remote-converter";

fn infra() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("infra/converter")
}

/// A folder of the few programs that the script needs: there is no systemctl.
fn programs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "basename", "bash", "cat", "chmod", "cmp", "cp", "dirname", "id", "install", "mkdir", "mktemp", "mv",
        "rm", "sed", "sh", "uname",
    ] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        std::os::unix::fs::symlink(found.unwrap_or_else(|| panic!("no {name}")), folder.path().join(name))
            .unwrap();
    }
    folder
}

/// Runs the script with nothing but these variables.
fn install(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let programs = programs();
    let mut command = Command::new(infra().join("install.sh"));
    command.args(arguments).arg("--binary").arg(binary("remote-converter"));
    command.env_clear().env("PATH", programs.path()).envs(variables.iter().copied());
    command.current_dir(programs.path()).output().unwrap()
}

fn ok(output: &Output) -> String {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    said
}

fn said(output: &Output) -> String {
    String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

/// Every file below a folder, without what leads there.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn it_installs_below_another_root_upgrades_and_goes_again_without_the_settings() {
    let root = tempfile::tempdir().unwrap();
    let variables = [("DESTDIR", root.path().to_str().unwrap())];
    ok(&install(&["--no-python"], &variables));
    let settings = root.path().join("etc/morag-remote-converter/remote_converter_config.yaml");
    assert_eq!(
        files(root.path()),
        [
            "etc/morag-remote-converter/remote_converter_config.yaml",
            "etc/systemd/system/morag-remote-converter.service",
            "usr/local/bin/remote-converter",
        ]
    );
    assert_eq!((mode(&settings), mode(settings.parent().unwrap())), (0o600, 0o750));
    let text = fs::read_to_string(&settings).unwrap();
    assert!(text.contains("\ntemp_dir: /var/lib/morag-remote-converter/work\n"), "{text}");
    assert!(text.contains("\npython: python3\n") && !text.contains("gpu-worker-01"), "{text}");
    let help =
        Command::new(root.path().join("usr/local/bin/remote-converter")).arg("--help").output().unwrap();
    assert!(help.status.success());

    fs::write(&settings, "worker_id: mine\n").unwrap();
    let said = ok(&install(&["--no-python"], &variables));
    assert!(said.contains("Keeping /etc/morag-remote-converter/remote_converter_config.yaml"), "{said}");
    assert_eq!(fs::read_to_string(&settings).unwrap(), "worker_id: mine\n");

    ok(&install(&["--uninstall"], &variables));
    assert_eq!(files(root.path()), ["etc/morag-remote-converter/remote_converter_config.yaml"]);
    ok(&install(&["--uninstall"], &variables));
}

/// A Python that notes what it is asked to do, and makes environments that do the same.
fn fake_python(folder: &Path) -> PathBuf {
    let path = folder.join("python");
    let script = "#!/bin/sh\necho \"$*\" >>\"$CALLS\"\n\
                  if [ \"$2\" = venv ]; then mkdir -p \"$3/bin\"; cp \"$0\" \"$3/bin/python\"; fi\n";
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn the_python_is_made_once_and_anew_when_its_list_changes() {
    let root = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (python, calls) = (fake_python(scratch.path()), scratch.path().join("calls"));
    let variables = [("DESTDIR", root.path().to_str().unwrap()), ("CALLS", calls.to_str().unwrap())];
    let made = || {
        ok(&install(&["--prefix", "/opt/morag", "--python", python.to_str().unwrap()], &variables));
        fs::read_to_string(&calls).unwrap().matches("-m pip install").count()
    };
    assert_eq!(made(), 1);
    assert!(fs::read_to_string(&calls).unwrap().contains("builtin/requirements.txt"));
    assert_eq!(made(), 1, "it is there already");
    fs::write(root.path().join("opt/morag/lib/morag-remote-converter/venv/installed"), "older").unwrap();
    assert_eq!(made(), 2, "an upgrade needs other packages");
    let settings = root.path().join("etc/morag-remote-converter/remote_converter_config.yaml");
    let text = fs::read_to_string(settings).unwrap();
    assert!(text.contains("\npython: /opt/morag/lib/morag-remote-converter/venv/bin/python\n"), "{text}");
    let unit =
        fs::read_to_string(root.path().join("etc/systemd/system/morag-remote-converter.service")).unwrap();
    assert!(unit.contains("\nExecStart=/opt/morag/bin/remote-converter --config /etc/"), "{unit}");
}

#[test]
fn for_one_user_it_needs_no_root_and_ends_with_the_checks() {
    let home = tempfile::tempdir().unwrap();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let variables = [("HOME", home.path().to_str().unwrap()), ("MORAG_API_BASE_URL", nobody.as_str())];
    let output = install(&["--user", "--no-python"], &variables);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("Cannot reach 127.0.0.1") && text.contains("Looking at the converters"), "{text}");
    assert!(text.contains("run install.sh again") && text.contains("systemctl --user enable"), "{text}");
    assert!(home.path().join(".local/bin/remote-converter").is_file());
    let settings = home.path().join(".config/morag-remote-converter/remote_converter_config.yaml");
    assert_eq!(mode(&settings), 0o600);
    let unit = home.path().join(".config/systemd/user/morag-remote-converter.service");
    let unit = fs::read_to_string(unit).unwrap();
    let exec = format!("ExecStart={}/.local/bin/remote-converter", home.path().display());
    assert!(unit.contains(&exec) && unit.contains("WantedBy=default.target"), "{unit}");
    ok(&install(&["--user", "--no-python", "--no-check"], &variables));
}

#[test]
fn the_checks_see_what_the_services_environment_file_sets() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".config/morag-remote-converter");
    fs::create_dir_all(&config).unwrap();
    let port = free_port();
    let environment =
        format!("# Read by systemd.\nMORAG_API_BASE_URL=\"http://127.0.0.1:{port}\"\nno assignment\n");
    fs::write(config.join("environment"), environment).unwrap();
    let output = install(&["--user", "--no-python"], &[("HOME", home.path().to_str().unwrap())]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains(&format!("Cannot reach 127.0.0.1:{port}")), "{text}");
}

#[test]
fn what_it_cannot_do_is_said() {
    let home = tempfile::tempdir().unwrap();
    let variables = [("HOME", home.path().to_str().unwrap())];
    for (arguments, code, why) in [
        (vec!["--colour"], 2, "--colour is no option"),
        (vec!["--user", "--prefix", "here"], 2, "must begin with a slash"),
        (vec!["--user", "--python", "/nowhere/python"], 1, "/nowhere/python is not Python 3.11"),
    ] {
        let output = install(&arguments, &variables);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
}

/// Systemd's own judge, where it is installed.
fn systemd_analyze(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(arguments).output();
    if output.is_err() {
        eprintln!("systemd-analyze is not installed: the units are not checked here");
    }
    output.ok()
}

#[test]
fn systemd_understands_the_units_and_finds_them_contained() {
    let folder = tempfile::tempdir().unwrap();
    for (unit, most) in [(NAME.to_owned(), Some("2.5")), (format!("{NAME}.user"), None)] {
        let text = fs::read_to_string(infra().join(format!("{unit}.service"))).unwrap();
        let path = folder.path().join(format!("{NAME}.service"));
        let program = binary("remote-converter");
        let text: Vec<String> = text
            .lines()
            .map(|line| match line.strip_prefix("ExecStart=") {
                // What is installed is not here.
                Some(_) => format!("ExecStart={}", program.display()),
                None => line.to_owned(),
            })
            .collect();
        fs::write(&path, text.join("\n")).unwrap();
        let path = path.to_str().unwrap();
        let Some(verified) = systemd_analyze(&["verify", "--man=no", path]) else { return };
        assert_eq!((verified.status.success(), said(&verified).as_str()), (true, ""), "{unit}");
        if let Some(most) = most {
            // In tenths.
            let most = most.replace('.', "");
            let judged =
                systemd_analyze(&["security", "--offline=true", "--threshold", &most, path]).unwrap();
            assert!(judged.status.success(), "{}", said(&judged));
        }
    }
}

#[test]
fn stopping_takes_longer_than_the_grace_period() {
    for unit in [NAME.to_owned(), format!("{NAME}.user")] {
        let text = fs::read_to_string(infra().join(format!("{unit}.service"))).unwrap();
        let limit = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
        let example = include_str!("../../apps/converter/remote_converter_config.yaml.example");
        let grace = example.lines().find_map(|line| line.strip_prefix("shutdown_grace_seconds: ")).unwrap();
        assert!(limit.parse::<u32>().unwrap() >= grace.parse::<u32>().unwrap() + 15, "{unit}");
        // Otherwise systemd would end the conversions that the grace period is for.
        assert!(text.contains("\nKillMode=mixed\n"), "{unit}");
    }
}

/// Without these no converter would run, or all of them uncontained.
#[test]
fn the_units_leave_the_means_by_which_conversions_are_contained() {
    for unit in [NAME.to_owned(), format!("{NAME}.user")] {
        let text = fs::read_to_string(infra().join(format!("{unit}.service"))).unwrap();
        let filter = text.lines().find_map(|line| line.strip_prefix("SystemCallFilter=")).unwrap();
        let admitted: Vec<&str> = filter.split(' ').collect();
        for call in ["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"] {
            assert!(admitted.contains(&call), "{unit} lacks {call}");
        }
        for hidden in ["\nPrivateDevices=", "\nDevicePolicy=", "\nProtectClock=", "\nMemoryDenyWriteExecute="]
        {
            assert!(!text.contains(hidden), "{unit} hides the GPU or stops compilers by{hidden}");
        }
    }
}

#[test]
fn the_script_passes_shellcheck() {
    let python = python("").get_program().to_owned();
    let shellcheck = Path::new(&python).parent().unwrap().join("shellcheck");
    let checked = Command::new(&shellcheck).arg(infra().join("install.sh")).output();
    let checked =
        checked.unwrap_or_else(|error| panic!("{}: {error}; run `make tools`", shellcheck.display()));
    assert!(checked.status.success(), "{}", said(&checked));
}
