//! The demonstration: `cargo xtask run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    synflip_lab::demo::main()
}
