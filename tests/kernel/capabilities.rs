//! Promise: `vm-images/kernels.toml` tells the truth about this kernel.

use std::env;

use synflip_tests::{
    capability::{declared_missing, has},
    privilege::root_or_skip,
};

#[test]
fn the_kernel_has_what_it_is_not_declared_to_lack() {
    if !root_or_skip() {
        return;
    }
    for capability in ["migration", "migration_wakes", "expedited_commit", "netem"] {
        let found = has(capability).unwrap();
        assert!(found || declared_missing(capability), "this kernel lacks {capability}");
        // Only in a virtual machine is a kernel's declaration its own.
        if env::var_os("SYNFLIP_KERNEL").is_some() {
            assert!(
                !(found && declared_missing(capability)),
                "this kernel has {capability}: vm-images/kernels.toml is out of date"
            );
        }
    }
}
