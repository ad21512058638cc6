//! The four points at which a connection can be when its listener closes, and its request moves
//! (the kernel's `migrate_reuseport` has the same four).

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use synflip_bed::{
    Fixture,
    network::{REQUEST, cookie, fast_open, receive},
    raw::{HalfOpen, Reply},
    wait::{self, SOON},
};

/// One connection at each point.
pub(crate) struct Points {
    /// Complete and queued: moves at the close (`inet_csk_listen_stop`).
    queued: HalfOpen,
    /// Half-open: moves with its last segment (`tcp_v4_rcv`, `tcp_v6_rcv`).
    acknowledged: HalfOpen,
    /// Half-open: moves when its SYN-ACK is sent again (`reqsk_timer_handler`).
    retransmitted: HalfOpen,
    /// Queued by its SYN, and its SYN-ACK not acknowledged: moves at the close.
    fast: HalfOpen,
}

impl Points {
    /// As many as there are.
    pub(crate) const COUNT: usize = 4;

    /// Has one connection at each point on a generation that has nothing else.
    pub(crate) fn reach(fixture: &Fixture, generation: &str) -> Result<Self> {
        let cookie = cookie(&fixture.net)?;
        fixture.wait_pending(generation, 0, 0)?;
        let fast = fast_open(&fixture.net, &cookie)?;
        let [mut queued, acknowledged, retransmitted] = fixture
            .net
            .half_open(3)?
            .try_into()
            .map_err(|_other| anyhow!("three"))?;
        queued.ack()?;
        queued.send(REQUEST)?;
        fixture.wait_pending(generation, 2, 2)?;
        Ok(Self {
            queued,
            acknowledged,
            retransmitted,
            fast,
        })
    }

    /// Begins the last part of each, once the listeners are closed. With a generation, waits until
    /// the one that nobody helps has moved there.
    pub(crate) fn go_on(&mut self, fixture: &Fixture, moves_to: Option<&str>) -> Result<()> {
        // What was sent again while it was still open.
        while self.retransmitted.recv_syn_ack(Duration::ZERO)? != Reply::Silence {}
        self.fast.ack()?;
        self.acknowledged.ack()?;
        self.acknowledged.send(REQUEST)?;
        let again = self.retransmitted.recv_syn_ack(SOON)?;
        ensure!(again == Reply::SynAck, "no SYN-ACK again but {again:?}");
        if let Some(generation) = moves_to {
            wait::until("it has moved", SOON, || {
                fixture
                    .pending(generation)
                    .is_ok_and(|pending| pending.1 == 1)
            })?;
        }
        self.retransmitted.ack()?;
        self.retransmitted.send(REQUEST)
    }

    /// Waits for the answers, all by the same generation.
    pub(crate) fn are_answered_by(mut self, number: u32) -> Result<()> {
        let all = [
            ("queued", &mut self.queued),
            ("acknowledged", &mut self.acknowledged),
            ("retransmitted", &mut self.retransmitted),
            ("Fast Open", &mut self.fast),
        ];
        for (what, connection) in all {
            let by = receive(connection)?;
            ensure!(by == number, "{what}: answered by generation {by}");
        }
        Ok(())
    }
}
