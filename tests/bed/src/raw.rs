//! What if the client does not go on? A TCP client made of single segments.
//!
//! The kernel's own client completes every handshake within microseconds. This
//! one stops anywhere, because it is the wire of a TUN interface in the server's
//! namespace: each segment is written by hand, at the time the test wants.

pub mod flood;
mod segment;

use std::{
    collections::{HashMap, VecDeque},
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{Family, Netns, Tun};
pub use flood::{Flood, FloodReport};
pub use segment::Segment;
use segment::{Flags, Flow};

/// The server's address towards a raw client.
#[must_use]
pub const fn server(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 78, 0, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1)),
    }
}

/// An address for a raw client; hosts 0 and 1 are taken.
#[must_use]
pub const fn client(family: Family, host: u16, port: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 78, high, low)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, host)),
    };
    SocketAddr::new(address, port)
}

/// The far end of a wire into one namespace.
#[derive(Debug)]
pub struct RawClient {
    wire: Arc<Wire>,
}

/// What a first segment carries besides the SYN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Fast Open: a cookie, or none of it to ask for one.
    pub fast_open: Option<Vec<u8>>,
    /// Data, which only Fast Open lets the server take before the handshake.
    pub data: Vec<u8>,
}

/// What came back, or did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The second step of the handshake.
    SynAck,
    /// Bytes of the stream, in order, each once.
    Data(Vec<u8>),
    /// The end of the stream.
    Fin,
    /// A reset: the connection is gone.
    Reset,
    /// Nothing in time.
    Silence,
}

impl RawClient {
    /// Connects the wire to `netns`.
    ///
    /// # Errors
    ///
    /// As [`Tun::open`]; a namespace takes one raw client.
    pub fn new(netns: &Netns) -> Result<Self> {
        let v4 = (Ipv4Addr::new(10, 78, 0, 1), 16);
        let v6 = (Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 1), 64);
        let wire = Wire {
            tun: Tun::open(netns, v4, v6)?,
            inboxes: Mutex::default(),
        };
        Ok(Self {
            wire: Arc::new(wire),
        })
    }

    /// Sends a SYN from `src`, any address of [`client`], to `dst`.
    ///
    /// # Errors
    ///
    /// When the families differ, or a handshake from `src` to `dst` exists.
    pub fn syn(&self, src: SocketAddr, dst: SocketAddr) -> Result<HalfOpen> {
        self.syn_with(
            src,
            dst,
            &SynOptions {
                mss: Some(1460),
                ..SynOptions::default()
            },
        )
    }

    /// As [`RawClient::syn`], with options and data.
    ///
    /// # Errors
    ///
    /// As [`RawClient::syn`], and when the options do not fit.
    pub fn syn_with(
        &self,
        src: SocketAddr,
        dst: SocketAddr,
        options: &SynOptions,
    ) -> Result<HalfOpen> {
        let flow = Flow {
            client: src,
            server: dst,
        };
        let initial: u32 = rand::random();
        let options_raw = segment::syn_options(options.mss, options.fast_open.as_deref());
        let segment = Segment {
            seq: initial,
            options: options_raw,
            ..Segment::of(&options.data)
        };
        let packet = segment::build(&flow, &segment, Flags::Syn)?;
        {
            let mut inboxes = self
                .wire
                .inboxes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            ensure!(
                inboxes.insert(flow, VecDeque::new()).is_none(),
                "{src} to {dst} exists"
            );
        }
        let wire = Arc::clone(&self.wire);
        let seq = initial.wrapping_add(1);
        let half_open = HalfOpen {
            wire,
            flow,
            seq,
            ack: 0,
            syn_ack: None,
            fin: false,
        };
        half_open.wire.tun.write(&packet).context("send a SYN")?;
        Ok(half_open)
    }
}

/// One connection, as far as the test has taken it.
///
/// Dropping it sends nothing: the client has vanished.
#[derive(Debug)]
pub struct HalfOpen {
    wire: Arc<Wire>,
    flow: Flow,
    /// The next byte to send.
    seq: u32,
    /// The next byte to receive.
    ack: u32,
    syn_ack: Option<Segment>,
    /// A FIN came with data that has been returned.
    fin: bool,
}

impl HalfOpen {
    /// Waits for the SYN-ACK, without answering it.
    ///
    /// # Errors
    ///
    /// When the wire fails.
    pub fn recv_syn_ack(&mut self, timeout: Duration) -> Result<Reply> {
        let deadline = Instant::now() + timeout;
        while let Some(segment) = self.wire.receive(&self.flow, deadline)? {
            if segment.rst {
                return Ok(Reply::Reset);
            }
            if segment.syn {
                self.ack = segment.seq.wrapping_add(1);
                // Covers the data of a SYN if the server has taken it.
                self.seq = segment.ack;
                self.syn_ack = Some(segment);
                return Ok(Reply::SynAck);
            }
        }
        Ok(Reply::Silence)
    }

    /// The SYN-ACK that [`HalfOpen::recv_syn_ack`] has seen last.
    #[must_use]
    pub fn syn_ack(&self) -> Option<&Segment> {
        self.syn_ack.as_ref()
    }

    /// Sends the ACK that completes the handshake.
    ///
    /// # Errors
    ///
    /// When there was no SYN-ACK yet, or the wire fails.
    pub fn ack(&mut self) -> Result<()> {
        ensure!(self.syn_ack.is_some(), "nothing to acknowledge yet");
        self.write(&[], Flags::Ack)
    }

    /// Sends data; the segment completes the handshake too if nothing has yet.
    ///
    /// # Errors
    ///
    /// As [`HalfOpen::ack`].
    pub fn send(&mut self, data: &[u8]) -> Result<()> {
        ensure!(self.syn_ack.is_some(), "no handshake to send data in");
        self.write(data, Flags::Push)?;
        self.seq = self
            .seq
            .wrapping_add(u32::try_from(data.len()).context("too much data")?);
        Ok(())
    }

    /// Waits for data or the end of the stream, and acknowledges it.
    ///
    /// # Errors
    ///
    /// When the wire fails.
    pub fn recv_data(&mut self, timeout: Duration) -> Result<Reply> {
        if mem::take(&mut self.fin) {
            return Ok(Reply::Fin);
        }
        let deadline = Instant::now() + timeout;
        while let Some(segment) = self.wire.receive(&self.flow, deadline)? {
            if segment.rst {
                return Ok(Reply::Reset);
            }
            let news = !segment.payload.is_empty() || segment.fin;
            if segment.syn || segment.seq != self.ack || !news {
                continue;
            }
            let length = u32::try_from(segment.payload.len()).context("too much data")?;
            self.ack = self
                .ack
                .wrapping_add(length)
                .wrapping_add(u32::from(segment.fin));
            self.write(&[], Flags::Ack)?;
            if segment.payload.is_empty() {
                return Ok(Reply::Fin);
            }
            self.fin = segment.fin;
            return Ok(Reply::Data(segment.payload));
        }
        Ok(Reply::Silence)
    }

    /// Sends a reset.
    ///
    /// # Errors
    ///
    /// When the wire fails.
    pub fn rst(&mut self) -> Result<()> {
        self.write(&[], Flags::Reset)
    }

    fn write(&self, data: &[u8], flags: Flags) -> Result<()> {
        let segment = Segment {
            seq: self.seq,
            ack: self.ack,
            ..Segment::of(data)
        };
        let packet = segment::build(&self.flow, &segment, flags)?;
        self.wire.tun.write(&packet).context("send a segment")
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let mut inboxes = self
            .wire
            .inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        inboxes.remove(&self.flow);
    }
}

/// The interface, and what it has received for whom.
#[derive(Debug)]
struct Wire {
    tun: Tun,
    inboxes: Mutex<HashMap<Flow, VecDeque<Segment>>>,
}

impl Wire {
    fn receive(&self, flow: &Flow, deadline: Instant) -> Result<Option<Segment>> {
        let mut buffer = [0; Tun::MTU];
        loop {
            let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(length) = self.tun.read(&mut buffer).context("read the wire")? {
                if let Some((flow, segment)) = segment::parse(&buffer[..length])
                    && let Some(inbox) = inboxes.get_mut(&flow)
                {
                    inbox.push_back(segment);
                }
            }
            if let Some(segment) = inboxes.get_mut(flow).and_then(VecDeque::pop_front) {
                return Ok(Some(segment));
            }
            drop(inboxes);
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            // Another thread may fetch what is ours, so look again soon.
            self.tun
                .wait(deadline.min(now + LOOK))
                .context("wait for the wire")?;
        }
    }
}

const LOOK: Duration = Duration::from_millis(5);
