//! The command `remote-jobs`.

fn main() -> std::process::ExitCode {
    remote_jobs::main()
}
