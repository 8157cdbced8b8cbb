//! Wires the function to the Lambda runtime.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    runtime::run(runtime::run_http(manage_job::handle)).await
}
