//! How does a test get a network nobody else is on?

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd},
    panic,
    process::{Child, Command},
    thread,
};

use anyhow::{Context as _, Result};
use rtnetlink::LinkUnspec;
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{netlink, sys};

/// A private network namespace, which goes when the last user of it goes.
///
/// Nothing but a file descriptor holds it: no name, no mount, no process, so a
/// test that dies leaves nothing behind.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes a namespace with loopback up and nearly all ports for clients.
    ///
    /// # Errors
    ///
    /// Without CAP_SYS_ADMIN, and when the kernel refuses a step.
    pub fn new() -> Result<Self> {
        raise_file_limit();
        let file = on_thread(|| {
            sys::unshare_net().context("unshare the network namespace (needs root)")?;
            netlink::talk(async |handle| {
                let up = LinkUnspec::new_with_name("lo").up().build();
                handle
                    .link()
                    .set(up)
                    .execute()
                    .await
                    .context("bring loopback up")
            })?;
            File::open("/proc/thread-self/ns/net").context("open the network namespace")
        })?;
        let netns = Self { file };
        // A client opens 20,000 connections a second from one address.
        netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
        Ok(netns)
    }

    /// The namespace that this process is in, as it is.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn current() -> Result<Self> {
        raise_file_limit();
        let file = File::open("/proc/self/ns/net").context("open the network namespace")?;
        Ok(Self { file })
    }

    /// Runs `f` on a thread of its own inside the namespace.
    ///
    /// Sockets and processes made by `f` belong to the namespace for good; the
    /// calling thread stays where it is.
    ///
    /// # Panics
    ///
    /// When `f` panics, and when the namespace cannot be entered.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_thread(|| {
            self.enter()
                .expect("enter the network namespace (needs root)");
            f()
        })
    }

    /// Starts a child process inside the namespace.
    ///
    /// The thread that starts it is gone when this returns, so the child must
    /// not ask for a signal on its parent's death (PR_SET_PDEATHSIG).
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())
    }

    /// Sets a parameter such as `net.ipv4.tcp_syncookies` in this namespace.
    ///
    /// # Errors
    ///
    /// When the kernel has no such parameter or rejects the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        // Files under /proc/sys/net mean the namespace of whoever opens them.
        self.run(|| fs::write(&path, value))
            .with_context(|| format!("set {key} to {value:?}"))
    }

    /// Moves the calling thread into the namespace, for the rest of its life.
    pub(crate) fn enter(&self) -> io::Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        scope
            .spawn(f)
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Raises this process's limit of open files, and so that of its children, as far as it may:
/// many hosts start with 1024, which is little for many clients.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Refused, only what needs very many fails, and says why.
    setrlimit(Resource::Nofile, all).unwrap_or_default();
}
