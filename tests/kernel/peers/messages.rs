//! What is no message at all, or not one that this agent understands.

use std::{
    fs::File,
    io::{IoSlice, Write as _},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use synflip_wire::{Client, ErrorCode, MAX_REQUEST, Reply, Request, VERSION, frame};

use super::{Victim, borrow, is_closed, last_word, refusal, register, says};
use crate::bed::SOON;

/// A header and as much of the document as there is.
fn frame(length: usize, version: u16, fds: u16, document: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(length)
        .unwrap_or(u32::MAX)
        .to_le_bytes()
        .to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(fds.to_le_bytes());
    bytes.extend(document.as_bytes());
    bytes
}

fn of(document: &str, fds: u16) -> Vec<u8> {
    frame(document.len(), VERSION, fds, document)
}

#[test]
fn what_is_no_message_is_answered_once_and_disconnected() -> Result<()> {
    let victim = Victim::new()?;
    let status = r#"{"request":"status","service":null}"#;
    let (bad, version) = (ErrorCode::BadMessage, ErrorCode::VersionMismatch);
    let cases: [(&str, Vec<u8>, usize, ErrorCode, &str); 13] = [
        (
            "http",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            0,
            version,
            "speaks protocol version",
        ),
        ("zeros", vec![0; 64], 0, version, "version 0"),
        (
            "another version",
            frame(2, VERSION + 1, 0, "{}"),
            0,
            version,
            "speaks protocol version 2",
        ),
        (
            "a long one",
            frame(MAX_REQUEST + 1, VERSION, 0, ""),
            0,
            bad,
            "over the bound of 65536",
        ),
        (
            "the longest",
            frame(u32::MAX as usize, VERSION, 0, ""),
            0,
            bad,
            "4294967295 bytes",
        ),
        ("no JSON", of("hello", 0), 0, bad, "not understood"),
        ("no UTF-8", of("\u{0}\u{1}", 0), 0, bad, "not understood"),
        ("nothing", of("", 0), 0, bad, "not understood"),
        (
            "unknown",
            of(r#"{"request":"reboot"}"#, 0),
            0,
            bad,
            "unknown variant `reboot`",
        ),
        ("a list", of("[1,2,3]", 0), 0, bad, "not understood"),
        (
            "a field",
            of(r#"{"request":"flip","how":"now"}"#, 0),
            0,
            bad,
            "unknown field `how`",
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
        let stream = victim.connect()?;
        send(&stream, bytes, &null(*fds)?).with_context(|| format!("send {what}"))?;
        let refusal = last_word(&stream).with_context(|| (*what).to_owned())?;
        says(&refusal, *code, &[words]).with_context(|| (*what).to_owned())?;
        ensure!(is_closed(&stream), "{what}: still connected");
    }
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
    let announced = frame(1000, VERSION, 128, "");
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
    send(&stream, &frame(10, VERSION, 129, ""), &[])?;
    says(
        &last_word(&stream)?,
        ErrorCode::BadMessage,
        &["at most 128"],
    )?;
    // Descriptors that belong to no request that takes any.
    let mut client = Client::connect(&victim.bed.agent.socket())?;
    let files = null(5)?;
    client.send(&Request::Status { service: None }, &borrow(&files))?;
    ensure!(
        matches!(client.receive(Some(SOON))?, Reply::Status(_)),
        "status takes no descriptor"
    );
    drop((client, stream));
    victim.check_unharmed()
}

#[test]
fn who_says_nothing_or_half_of_it_is_disconnected() -> Result<()> {
    let victim = Victim::new()?;
    let silent = victim.connect()?;
    let status = frame::encode(&Request::Status { service: None }, 0, MAX_REQUEST)?;
    let halves = [
        &status[..1],
        &status[..7],
        &status[..8],
        &status[..status.len() - 1],
    ];
    let mut waiting = vec![silent];
    for half in halves {
        let mut stream = victim.connect()?;
        stream.write_all(half)?;
        waiting.push(stream);
    }
    // Half of a second message, after a whole first one.
    let mut stream = victim.connect()?;
    stream.write_all(&status)?;
    stream.write_all(&status[..20])?;
    waiting.push(stream);
    // Whoever has said something whole may be silent for as long as he likes.
    let mut patient = Client::connect(&victim.bed.agent.socket())?;
    patient.ask(&Request::Status { service: None }, SOON)?;

    thread::scope(|scope| {
        let threads: Vec<_> = waiting
            .iter()
            .map(|peer| scope.spawn(|| last_word(peer)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let refusal = thread.join().map_err(|_panic| anyhow!("panicked"))??;
            says(
                &refusal,
                ErrorCode::BadMessage,
                &["nothing complete was said for 10 s"],
            )
        })
    })?;
    ensure!(waiting.iter().all(is_closed), "still connected");
    patient.ask(&Request::Status { service: None }, SOON)?;
    drop(patient);
    victim.check_unharmed()
}

#[test]
fn what_does_not_fit_is_refused_and_the_connection_goes_on() -> Result<()> {
    let victim = Victim::new()?;
    let mut client = Client::connect(&victim.bed.agent.socket())?;
    let bad = ErrorCode::BadMessage;
    let unregistered = "has not registered any listener";
    says(
        &refusal(&mut client, &Request::Ready, &[])?,
        bad,
        &[unregistered],
    )?;
    says(
        &refusal(&mut client, &Request::Closed, &[])?,
        bad,
        &[unregistered],
    )?;
    let nothing = register("web", None, &[])?;
    says(
        &refusal(&mut client, &nothing, &[])?,
        bad,
        &["at least one listener"],
    )?;
    let named = register("web", None, &[crate::bed::ADDRESS])?;
    says(
        &refusal(&mut client, &named, &[])?,
        bad,
        &["1 listeners were named, 0 descriptors"],
    )?;
    let files = null(2)?;
    let two = refusal(&mut client, &named, &borrow(&files))?;
    says(&two, bad, &["1 listeners were named, 2 descriptors"])?;
    let other = Request::Status {
        service: Some("mail".parse()?),
    };
    let nowhere = refusal(&mut client, &other, &[])?;
    says(&nowhere, ErrorCode::NoSuchService, &["\"mail\"", "web"])?;
    for name in ["", "a/b", "..", "-x", &"x".repeat(33)] {
        let stream = victim.connect()?;
        let document = serde_json::json!({
            "request": "register", "service": name, "generation": null, "listeners": [],
        });
        send(&stream, &of(&document.to_string(), 0), &[])?;
        let refusal = last_word(&stream)?;
        says(&refusal, bad, &["is not a name", "1 to 32 letters, digits"])?;
    }
    drop(client);
    victim.check_unharmed()
}

/// Harmless descriptors.
fn null(count: usize) -> Result<Vec<OwnedFd>> {
    (0..count)
        .map(|_| Ok(File::open("/dev/null")?.into()))
        .collect()
}

/// Writes bytes with descriptors, more of them than the product's own `send` lets through.
fn send(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> Result<()> {
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
