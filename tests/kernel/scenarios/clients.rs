//! The kernel's own clients, and to whom they come.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result};
use synflip_bed::wait;

use crate::{
    bare::Bare,
    scene::{REQUEST, SOON, Scene, generation},
};

/// Enough for the kernel's hash, or a table, to give each of a few listeners some.
pub(crate) const ASKED: usize = 60;

/// To which listeners [`ASKED`] connections come that are made now.
pub(crate) fn came_to(scene: &Scene, servers: &[&Bare]) -> Result<Vec<usize>> {
    let clients = ask(scene, ASKED)?;
    let mut came = Vec::new();
    wait::until("all have come to somebody", SOON, || {
        let accept = |server: &&Bare| server.accept().unwrap_or_default();
        let new: Vec<usize> = servers.iter().flat_map(accept).collect();
        came.resize(new.len(), 0);
        came.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
        came.iter().sum::<usize>() >= ASKED
    })?;
    drop(clients);
    Ok(came)
}

/// Connections that have sent their request and wait for the answer.
pub(crate) fn ask(scene: &Scene, count: usize) -> Result<Vec<TcpStream>> {
    let ask = || -> Result<TcpStream> {
        let mut client = TcpStream::connect_timeout(&scene.to, SOON).context("connect")?;
        client.write_all(REQUEST).context("send a request")?;
        Ok(client)
    };
    scene.netns.run(|| (0..count).map(|_| ask()).collect())
}

/// Waits for the answer; returns the generation's number.
pub(crate) fn answered(mut client: TcpStream) -> Result<u32> {
    client.set_read_timeout(Some(SOON))?;
    let mut answer = [0; 16];
    client.read_exact(&mut answer).context("read the answer")?;
    generation(&answer)
}
