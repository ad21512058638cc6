//! Measurements: `cargo xtask bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    synflip_lab::bench::main()
}
