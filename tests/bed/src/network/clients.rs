//! Clients one by one: the kernel's own, and those that stop in the middle of a handshake.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::Network;
use crate::{
    raw::{HalfOpen, Reply},
    wait::SOON,
};

/// What clients send.
pub const REQUEST: &[u8; 8] = b"12345678";

impl Network {
    /// Connections of the kernel's clients that have sent their request and wait for the answer.
    ///
    /// # Errors
    ///
    /// When one is refused, or not made in time.
    pub fn clients(&self, count: usize) -> Result<Vec<TcpStream>> {
        self.clients_of(self.address, count)
    }

    /// The same to another address.
    ///
    /// # Errors
    ///
    /// When one is refused, or not made in time.
    pub fn clients_of(&self, address: SocketAddr, count: usize) -> Result<Vec<TcpStream>> {
        let connect = || -> Result<TcpStream> {
            let mut stream = TcpStream::connect_timeout(&address, SOON)
                .with_context(|| format!("connect to {address}"))?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(REQUEST).context("send a request")?;
            Ok(stream)
        };
        self.client.run(|| (0..count).map(|_| connect()).collect())
    }

    /// The numbers of the generations that answer `count` new connections.
    ///
    /// # Errors
    ///
    /// When one is not answered.
    pub fn answers(&self, count: usize) -> Result<Vec<u32>> {
        answers(self.clients(count)?)
    }

    /// Begins handshakes and stops before their last step.
    ///
    /// # Errors
    ///
    /// When there is no SYN-ACK, or no raw client.
    pub fn half_open(&self, count: u64) -> Result<Vec<HalfOpen>> {
        let begin = |_| {
            let mut half_open = self.raw()?.syn(self.fresh(), self.address)?;
            let reply = half_open.recv_syn_ack(SOON)?;
            ensure!(reply == Reply::SynAck, "no SYN-ACK but {reply:?}");
            Ok(half_open)
        };
        (0..count).map(begin).collect()
    }

    /// A whole connection of the raw client; returns the generation that served it.
    ///
    /// # Errors
    ///
    /// When it is not served, or there is no raw client.
    pub fn handshake(&self) -> Result<u32> {
        let mut one = self.half_open(1)?;
        complete(one.first_mut().context("a handshake")?)
    }
}

/// Waits for the answers: the numbers of the generations that gave them.
///
/// # Errors
///
/// When one does not come.
pub fn answers(clients: Vec<TcpStream>) -> Result<Vec<u32>> {
    clients.into_iter().map(answered).collect()
}

/// Waits for one answer: the number of the generation that gave it.
///
/// # Errors
///
/// When it does not come.
pub fn answered(mut client: TcpStream) -> Result<u32> {
    let mut answer = [0; 16];
    client
        .read_exact(&mut answer)
        .context("wait for an answer")?;
    generation_of(&answer)
}

/// Does the last step of a handshake, and a request; returns the generation that served it.
///
/// # Errors
///
/// When nobody does.
pub fn complete(half_open: &mut HalfOpen) -> Result<u32> {
    half_open.ack()?;
    half_open.send(REQUEST)?;
    receive(half_open)
}

/// Receives the answer and the end of the stream.
///
/// # Errors
///
/// When either does not come.
pub fn receive(half_open: &mut HalfOpen) -> Result<u32> {
    let answer = match half_open.recv_data(SOON)? {
        Reply::Data(answer) => answer,
        other => bail!("no answer but {other:?}"),
    };
    let end = half_open.recv_data(SOON)?;
    ensure!(end == Reply::Fin, "no end but {end:?}");
    half_open.rst()?;
    generation_of(&answer)
}

/// The generation's number in an answer.
///
/// # Errors
///
/// When it answers another request, or is too short.
pub fn generation_of(answer: &[u8]) -> Result<u32> {
    ensure!(
        answer.starts_with(REQUEST),
        "another request's answer: {answer:?}"
    );
    let number = answer.get(8..12).and_then(|number| number.try_into().ok());
    Ok(u32::from_le_bytes(number.context("a short answer")?))
}
