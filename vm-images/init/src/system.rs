//! What a kernel needs before a program feels at home, and how it ends.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::sync,
    io::Errno,
    mount::{MountFlags, mount},
    net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket},
    process::{Resource, Rlimit, setrlimit},
    system::{RebootCommand, finit_module, reboot},
};

/// Type, where, options. In this order: each may be inside the one before.
const MOUNTS: [(&str, &str, &str); 8] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("tmpfs", "/tmp", "mode=1777"),
    ("tmpfs", "/run", "mode=0755"),
    ("bpf", "/sys/fs/bpf", "mode=0700"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("tmpfs", "/dev/shm", "mode=1777"),
];

/// Mounts what Linux programs expect.
pub(crate) fn mount_all() -> Result<()> {
    for (kind, at, options) in MOUNTS {
        // The kernel provides the directories under /sys itself.
        fs::create_dir_all(at).with_context(|| format!("create {at}"))?;
        let options = CString::new(options).context("mount options")?;
        match mount(kind, at, kind, MountFlags::empty(), options.as_c_str()) {
            // devtmpfs may have been mounted by the kernel.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("mount {kind} on {at}")),
        }
    }
    Ok(())
}

/// The rest of a small system: names, limits, loopback.
pub(crate) fn prepare() -> Result<()> {
    fs::create_dir_all("/etc").context("create /etc")?;
    let files = [
        (
            "/etc/passwd",
            "root:x:0:0::/tmp:\nnobody:x:65534:65534::/:\n",
        ),
        ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ];
    for (path, text) in files {
        fs::write(path, text).with_context(|| format!("write {path}"))?;
    }
    symlink("/proc/self/fd", "/dev/fd").context("link /dev/fd")?;
    // As systemd does; the kernel's own 4096 is what no service lives with.
    let files = Rlimit {
        current: Some(1024),
        maximum: Some(524_288),
    };
    setrlimit(Resource::Nofile, files).context("raise the limit of open files")?;
    loopback_up().context("bring loopback up")
}

/// Loads a module; one that is loaded is fine.
pub(crate) fn load_module(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    match finit_module(file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("load {}", path.display())),
    }
}

/// Tells the kernel's log, when there is no other way.
pub(crate) fn console(text: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // Level 3, an error: shown on the console.
        write!(log, "<3>{text}").unwrap_or_default();
    }
}

/// Ends the machine.
pub(crate) fn power_off() {
    sync();
    // If that fails PID 1 ends, and the kernel panics: that ends the machine too.
    reboot(RebootCommand::PowerOff).unwrap_or_default();
}

/// The request `ip link set lo up`. No device is made before it, so its index is 1.
fn loopback_up() -> Result<()> {
    const IFF_UP: u32 = 1;
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_ACK: u16 = 1 | 4;
    let mut message = Vec::with_capacity(32);
    // struct nlmsghdr: length, type, flags, sequence number, port.
    message.extend(32_u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family and type, index, flags, which of them to change.
    message.extend([0; 4]);
    message.extend(1_i32.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    let route = socket(AddressFamily::NETLINK, SocketType::RAW, None).context("open netlink")?;
    send(&route, &message, SendFlags::empty()).context("ask")?;
    let mut answer = [0_u8; 128];
    let (_, length) = recv(&route, answer.as_mut_slice(), RecvFlags::empty()).context("hear")?;
    // struct nlmsgerr behind the header: 0 is an acknowledgement.
    ensure!(
        length >= 20 && answer[16..20] == [0; 4],
        "the kernel refused"
    );
    Ok(())
}
