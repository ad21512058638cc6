//! Injects faults of every kind into a service under load: see [`synflip_lab::soak`].

use std::process::ExitCode;

fn main() -> ExitCode {
    synflip_lab::soak::main()
}
