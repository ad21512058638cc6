//! Descriptors of others, which are not closed on the loop's thread.
//!
//! To close one can take as long as its owner likes: the last descriptor of a connected socket waits
//! for SO_LINGER ([`inet_release`]), each of a file for the file system of whoever has sent it
//! ([`fuse_flush`]), and that of a unix socket for all that lies unread in it
//! ([`unix_release_sock`]).
//!
//! [`inet_release`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/af_inet.c
//! [`fuse_flush`]: https://elixir.bootlin.com/linux/v6.12/source/fs/fuse/file.c
//! [`unix_release_sock`]: https://elixir.bootlin.com/linux/v6.12/source/net/unix/af_unix.c

use std::{
    ops::{Deref, DerefMut},
    os::fd::OwnedFd,
};

use synflip_relay::Line;
use tokio::{runtime::Handle, task::spawn_blocking};

/// Something that is closed where that may block, whoever drops it: on one of the runtime's blocking
/// threads, or at once on a thread that is not the runtime's (a service's own may block).
#[derive(Debug)]
pub(crate) struct Foreign<T: Close>(Option<T>);

/// What holds descriptors of others.
pub(crate) trait Close: Send + 'static {
    /// Whether there is nothing to close.
    fn is_nothing(&self) -> bool {
        false
    }
}

impl Close for OwnedFd {}

impl Close for Line {}

impl<T: Send + 'static> Close for Vec<T> {
    fn is_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Close> Foreign<T> {
    /// What is to be closed, for somebody who may block.
    pub(crate) fn into_inner(mut self) -> T {
        self.0.take().expect(TAKEN_ONCE)
    }

    /// Closes it, and returns when that is done: whoever has sent what takes long is to wait for it.
    pub(crate) async fn close(mut self) {
        if let Some(closed) = self.take() {
            // It cannot fail but for a panic, which ends the process.
            drop(spawn_blocking(move || drop(closed)).await);
        }
    }

    fn take(&mut self) -> Option<T> {
        self.0.take().filter(|closed| !closed.is_nothing())
    }
}

impl<T: Close> Drop for Foreign<T> {
    fn drop(&mut self) {
        if let Some(closed) = self.take()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn_blocking(move || drop(closed)));
        }
    }
}

impl<T: Close> From<T> for Foreign<T> {
    fn from(closed: T) -> Self {
        Self(Some(closed))
    }
}

impl<T: Close + Default> Default for Foreign<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T: Close> Deref for Foreign<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect(TAKEN_ONCE)
    }
}

impl<T: Close> DerefMut for Foreign<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect(TAKEN_ONCE)
    }
}

/// Only what consumes it takes what is in it.
const TAKEN_ONCE: &str = "it is there until this is consumed";

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc::{Sender, channel},
        thread,
        time::Duration,
    };

    use super::*;

    /// Says on which thread it is closed.
    struct Told(Sender<thread::ThreadId>);

    impl Drop for Told {
        fn drop(&mut self) {
            let told = self.0.send(thread::current().id());
            assert_eq!(told, Ok(()), "nobody wants to know");
        }
    }

    #[tokio::test]
    async fn nothing_is_closed_on_the_loop() {
        let (told, closed) = channel();
        let here = thread::current().id();
        let one = || Foreign::from(vec![Told(told.clone())]);
        let next = || closed.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(one());
        assert_ne!(next(), here);
        one().close().await;
        assert_ne!(closed.try_recv().unwrap(), here, "it is closed by now");
        // Who takes it out closes it.
        drop(one().into_inner());
        assert_eq!(closed.try_recv().unwrap(), here);
    }

    #[test]
    fn a_thread_that_may_block_closes_itself() {
        let (told, closed) = channel();
        drop(Foreign::from(vec![Told(told)]));
        assert_eq!(closed.try_recv().unwrap(), thread::current().id());
    }
}
