//! Promise: `vm-images/kernels.toml` tells the truth about this kernel.

use std::env;

use anyhow::{Result, ensure};
use synflip_bed::capability::{declared_missing, has};

#[test]
fn the_kernel_has_what_it_is_not_declared_to_lack() -> Result<()> {
    for capability in ["migration", "migration_wakes", "expedited_commit", "netem"] {
        let (found, missing) = (has(capability)?, declared_missing(capability));
        ensure!(found || missing, "this kernel lacks {capability}");
        // Only in a virtual machine is a kernel's declaration its own.
        let own = env::var_os("SYNFLIP_KERNEL").is_some();
        ensure!(
            !(own && found && missing),
            "this kernel has {capability}: vm-images/kernels.toml is out of date"
        );
    }
    Ok(())
}
