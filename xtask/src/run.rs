//! `cargo xtask run`: the demonstration.

use crate::program::Program;

pub(crate) const PROGRAM: Program = Program {
    name: "synflip-run",
    deadline_s: |_, kernels| Ok(kernels.deadline_s("synflip-run")),
    // Kernels are compared, and with themselves.
    vm_defaults: &[("--baseline", "plain")],
    columns: &[
        ("flips", "/flips"),
        ("connections", "/connections/ok"),
        ("lost", "/connections/lost"),
        ("died in service", "/connections/died_in_service"),
        ("baseline lost", "/baseline/connections/lost"),
        ("commit p50 ms", "/flip_commit_ms/p50"),
        ("max", "/flip_commit_ms/max"),
        ("drain p50 ms", "/drain_ms/p50"),
        ("max", "/drain_ms/max"),
    ],
};
