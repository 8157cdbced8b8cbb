//! The remote converter.

use std::process::ExitCode;

fn main() -> ExitCode {
    remote_converter::main()
}
