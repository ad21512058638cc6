//! What is pending on a listener: its line in `/proc/net/tcp{,6}` of its own network namespace.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::fd::BorrowedFd,
};

use synflip_plan::Pending;

use crate::{buckets::Buckets, netns};

/// A listening socket's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The socket's inode, as `fstat` of its descriptor shows it.
    pub(crate) inode: u64,
    /// What is pending on it.
    pub(crate) pending: Pending,
}

/// The listener tables of a network namespace, open for as long as they are needed.
#[derive(Debug)]
pub(crate) struct ListenTables {
    tcp: File,
    tcp6: File,
    /// The order in which its listeners are found.
    pub(crate) buckets: Buckets,
}

impl ListenTables {
    /// Opens the tables of a network namespace; needs CAP_SYS_ADMIN if it is not this one.
    pub(crate) fn open(netns: BorrowedFd<'_>) -> io::Result<Self> {
        netns::within(netns, Self::open_here)
    }

    fn open_here() -> io::Result<Self> {
        let tcp = File::open("/proc/thread-self/net/tcp")?;
        // Without IPv6 in the kernel there is no tcp6, and nobody will ask for its lines.
        let tcp6 = File::open("/proc/thread-self/net/tcp6").or_else(|_| tcp.try_clone())?;
        let buckets = Buckets::open()?;
        Ok(Self { tcp, tcp6, buckets })
    }

    /// The lines of the wanted listeners, in the order of their hash buckets.
    ///
    /// A listener without a line is unknown, not empty: it may have been shut down, or the walk
    /// may have missed it while its bucket changed.
    pub(crate) fn read(&mut self, ipv6: bool, wanted: &[u64]) -> io::Result<Vec<Line>> {
        let file = if ipv6 { &mut self.tcp6 } else { &mut self.tcp };
        file.rewind()?;
        let mut missing: HashSet<u64> = wanted.iter().copied().collect();
        let mut lines = Vec::with_capacity(wanted.len());
        let (mut text, mut chunk, mut heading) = (Vec::new(), [0; 4096], true);
        // Listeners come first (`tcp_seq_next`, 5.10 to 7.3:
        // https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_ipv4.c). The
        // connections behind them, of which there may be a million, are not read, not even if a
        // listener has no line; but a read goes on until its page is full, so the kernel may walk
        // over all of them that are of the other IP version or of other network namespaces.
        'table: while !missing.is_empty() {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            text.extend_from_slice(&chunk[..read]);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line = parse(&String::from_utf8_lossy(&text[..end]));
                text.drain(..=end);
                match line {
                    Some(line) if missing.remove(&line.inode) => lines.push(line),
                    Some(_) => {}
                    None if heading => heading = false,
                    None => break 'table,
                }
            }
        }
        Ok(lines)
    }
}

/// Reads a line of `/proc/net/tcp{,6}` if it is a listener's ([`get_tcp4_sock`], 5.10 to 7.3).
///
/// [`get_tcp4_sock`]: https://elixir.bootlin.com/linux/v6.12/source/net/ipv4/tcp_ipv4.c
fn parse(line: &str) -> Option<Line> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(3);
    if fields.next()? != LISTEN {
        return None;
    }
    let (_tx, rx) = fields.next()?.split_once(':')?;
    let queued = u32::from_str_radix(rx, 16).ok()?;
    // tr:tm->when, retrnsmt, uid, timeout
    let inode = fields.nth(4)?.parse().ok()?;
    let refcnt = fields.next()?.parse().ok()?;
    Some(Line {
        inode,
        pending: Pending { refcnt, queued },
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use rustix::fs::fstat;

    use super::*;

    #[test]
    fn a_line_is_read_as_the_kernel_writes_it() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     \
                    0        0 12345 6 00000000aabbccdd 100 0 0 10 0";
        let pending = Pending {
            refcnt: 6,
            queued: 3,
        };
        assert_eq!(
            parse(line),
            Some(Line {
                inode: 12345,
                pending
            })
        );
        assert_eq!(
            parse("  sl  local_address rem_address   st tx_queue rx_queue"),
            None
        );
        assert_eq!(parse(&line.replace(" 0A ", " 01 ")), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_count_follows_a_real_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = fstat(&listener).unwrap().st_ino;
        let netns = File::open("/proc/self/ns/net").unwrap();
        let mut tables = ListenTables::open(netns.as_fd()).unwrap();
        let mut pending = || tables.read(false, &[inode]).unwrap()[0].pending;
        assert!(pending().is_empty());
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(
            pending(),
            Pending {
                refcnt: 2,
                queued: 1
            }
        );
        let _served = listener.accept().unwrap();
        assert!(pending().is_empty());
    }
}
