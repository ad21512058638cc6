//! Promise: what comes in pieces is understood, and what is no message at all is answered once.

use std::{
    fs::File,
    io::{IoSlice, Write as _},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use synflip_bed::wait::SOON;
use synflip_wire::{Client, ErrorCode, MAX_REQUEST, Reply, Request, RequestId, frame::FORMAT};

use super::{
    talk::{Replies, borrow, hello, is_closed, last_word, says, status},
    victim::Victim,
};

#[test]
fn a_frame_that_comes_byte_by_byte_is_understood() -> Result<()> {
    let victim = Victim::new()?;
    let mut stream = victim.connect()?;
    for byte in [hello()?, status()?].concat() {
        stream.write_all(&[byte])?;
    }
    let mut replies = Replies::of(&stream);
    let welcome = replies.next()?.reply;
    ensure!(matches!(welcome, Reply::Hello(_)), "{welcome:?}");
    let answer = replies.next()?;
    let is_status = matches!(answer.reply, Reply::Status(_));
    ensure!(is_status && answer.id == Some(RequestId(2)), "{answer:?}");
    drop(stream);
    victim.check_unharmed()
}

#[test]
fn what_is_no_message_is_answered_once_and_disconnected() -> Result<()> {
    let victim = Victim::new()?;
    let status = r#"{"id":1,"request":"status","service":null}"#;
    let (bad, version) = (ErrorCode::BadMessage, ErrorCode::VersionMismatch);
    let cases: [(&str, Vec<u8>, usize, ErrorCode, &str); 14] = [
        (
            "http",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            0,
            version,
            "sends frames of version",
        ),
        ("zeros", vec![0; 64], 0, version, "version 0"),
        (
            "another version",
            frame(2, FORMAT + 1, 0, "{}"),
            0,
            version,
            "sends frames of version 3, this one reads 2",
        ),
        (
            "a long one",
            frame(MAX_REQUEST + 1, FORMAT, 0, ""),
            0,
            bad,
            "over the bound of 65536",
        ),
        (
            "the longest",
            frame(u32::MAX as usize, FORMAT, 0, ""),
            0,
            bad,
            "4294967295 bytes",
        ),
        ("no JSON", of("hello", 0), 0, bad, "not understood"),
        ("no UTF-8", of("\u{0}\u{1}", 0), 0, bad, "not understood"),
        ("nothing", of("", 0), 0, bad, "not understood"),
        (
            "nameless",
            of(r#"{"request":"status"}"#, 0),
            0,
            bad,
            "missing field `id`",
        ),
        ("aimless", of(r#"{"id":1}"#, 0), 0, bad, "`request`"),
        ("a list", of("[1,2,3]", 0), 0, bad, "not understood"),
        (
            "a field",
            of(r#"{"id":1,"request":"flip","how":"now"}"#, 0),
            0,
            bad,
            "missing field `to`",
        ),
        (
            "unannounced",
            of(status, 0),
            3,
            bad,
            "3 descriptors came with a message that announced 0",
        ),
        (
            "unsent",
            of(status, 2),
            0,
            bad,
            "0 descriptors came with a message that announced 2",
        ),
    ];
    for (what, bytes, fds, code, words) in &cases {
        for begun in [false, true] {
            let stream = victim.connect()?;
            if begun {
                send(&stream, &hello()?, &[])?;
            }
            send(&stream, bytes, &null(*fds)?).with_context(|| format!("send {what}"))?;
            let refusal = last_word(&stream).with_context(|| (*what).to_owned())?;
            says(&refusal, *code, &[words]).with_context(|| (*what).to_owned())?;
            ensure!(is_closed(&stream), "{what}: still connected");
        }
    }
    // What could be said later cannot be said first.
    let stream = victim.connect()?;
    send(&stream, &of(status, 0), &[])?;
    says(&last_word(&stream)?, bad, &["begins with a hello"])?;
    ensure!(is_closed(&stream), "still connected");
    victim.check_unharmed()
}

#[test]
fn too_many_descriptors_are_closed_again() -> Result<()> {
    let victim = Victim::new()?;
    // As many as the kernel carries, in one message and in several.
    let stream = victim.connect()?;
    send(&stream, &of("{}", 253), &null(253)?)?;
    says(
        &last_word(&stream)?,
        ErrorCode::BadMessage,
        &["more descriptors came than one message may carry"],
    )?;
    let stream = victim.connect()?;
    let announced = frame(1000, FORMAT, 128, "");
    send(&stream, &announced, &null(128)?)?;
    for _ in 0..3 {
        // The agent may have had enough already.
        drop(send(&stream, b" ", &null(100)?));
    }
    says(
        &last_word(&stream)?,
        ErrorCode::BadMessage,
        &["descriptors came"],
    )?;
    // Announced in the header alone.
    let stream = victim.connect()?;
    send(&stream, &frame(10, FORMAT, 129, ""), &[])?;
    says(
        &last_word(&stream)?,
        ErrorCode::BadMessage,
        &["at most 128"],
    )?;
    // Descriptors that belong to no request that takes any.
    let mut client = Client::connect(&victim.fixture.agent.socket())?;
    let files = null(5)?;
    let id = client.send(&Request::Status { service: None }, &borrow(&files))?;
    ensure!(
        matches!(client.answer(id, SOON)?, Reply::Status(_)),
        "status takes no descriptor"
    );
    drop((client, stream));
    victim.check_unharmed()
}

/// A header and as much of the document as there is.
pub(super) fn frame(length: usize, version: u16, fds: u16, document: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(length)
        .unwrap_or(u32::MAX)
        .to_le_bytes()
        .to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(fds.to_le_bytes());
    bytes.extend(document.as_bytes());
    bytes
}

pub(super) fn of(document: &str, fds: u16) -> Vec<u8> {
    frame(document.len(), FORMAT, fds, document)
}

/// Harmless descriptors.
pub(super) fn null(count: usize) -> Result<Vec<OwnedFd>> {
    (0..count)
        .map(|_| Ok(File::open("/dev/null")?.into()))
        .collect()
}

/// Writes bytes with descriptors, more of them than the product's own `send` lets through.
pub(super) fn send(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = borrow(fds);
    ensure!(
        fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)),
        "no space"
    );
    sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
