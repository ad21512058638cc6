//! The programs that steer new connections to the working generation, and the one that shows what
//! is pending on listeners ([`look`]).
//!
//! One program that steers is loaded per endpoint and attached to its reuseport group. Both variants run the
//! same selection; [`select_or_migrate`] exists because only its section makes the kernel call it
//! again for the requests of a listener that closes (Linux 5.14 and later).
#![no_std]
#![no_main]

mod asked;
mod count;
mod look;
mod maps;
mod select;

use aya_ebpf::{macros::sk_reuseport, programs::SkReuseportContext};

/// `SK_PASS`: the selected listener, or the kernel's own choice if none was selected.
///
/// `SK_DROP` is never returned: TCP answers it with a RST.
const SK_PASS: u32 = 1;

/// For kernels without request migration.
#[sk_reuseport]
fn select(ctx: SkReuseportContext) -> u32 {
    select::steer(&ctx, false);
    SK_PASS
}

/// For kernels with request migration (`reuseport_migrate_sock`, 5.14).
#[sk_reuseport(migrate)]
fn select_or_migrate(ctx: SkReuseportContext) -> u32 {
    select::steer(&ctx, ctx.migrating_sk().is_some());
    SK_PASS
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
