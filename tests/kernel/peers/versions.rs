//! Promise: releases can be mixed: what one end does not know does not end the conversation, and
//! where there is no common version both are told so, once and in words that they understand.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use synflip_bed::{
    Fixture,
    product::{Cli, program},
    wait::SOON,
};
use synflip_wire::{Client, DrainEnd, ErrorCode, Reply, Request, Target, frame};

use super::{
    messages::{null, of, send},
    talk::{is_closed, last_word, says},
    victim::Victim,
};

/// What a helper of 0.1.0 says first, byte for byte but for the address.
#[test]
fn a_release_without_hello_gets_one_clear_refusal() -> Result<()> {
    let victim = Victim::new()?;
    let register = json!({
        "request": "register", "service": "web", "generation": "gen2",
        "listeners": [{ "address": "127.0.0.1:4000" }],
    });
    let status = json!({ "request": "status", "service": null });
    for (request, fds) in [(register, 1), (status, 0)] {
        let stream = victim.connect()?;
        let mut bytes = of(&request.to_string(), fds);
        bytes[4..6].copy_from_slice(&1_u16.to_le_bytes());
        send(&stream, &bytes, &null(fds.into())?)?;
        let mut answer = Vec::new();
        (&stream).read_to_end(&mut answer)?;
        // Read as 0.1.0 reads it: a frame of version 1, in it a refusal with these fields.
        let (header, document) = answer.split_at_checked(frame::HEADER).context("a frame")?;
        let length = u32::try_from(document.len())?.to_le_bytes();
        ensure!(header[..4] == length, "not one frame: {answer:?}");
        ensure!(header[4..] == [1, 0, 0, 0], "{header:?}");
        let refusal: Value = serde_json::from_slice(document)?;
        let keys = refusal.as_object().context("an object")?.keys();
        ensure!(keys.eq(["code", "reply", "text"]), "{refusal}");
        ensure!(refusal["reply"] == "refused", "{refusal}");
        ensure!(refusal["code"] == "version-mismatch", "{refusal}");
        let text = refusal["text"].as_str().context("a text")?;
        for words in [
            "speaks version 2",
            "version 1",
            "restart it",
            "0.2.0 or later",
        ] {
            ensure!(text.contains(words), "{words} is not in {text}");
        }
    }
    victim.check_unharmed()
}

#[test]
fn a_later_release_is_understood_as_far_as_possible() -> Result<()> {
    let victim = Victim::new()?;
    let stream = victim.connect()?;
    let welcome = answer(
        &stream,
        &json!({
            "id": 1, "request": "hello", "versions": { "min": 2, "max": 9, "best": 8 },
            "features": ["teleport", "leaving"], "program": "synflip 9.0.0", "mood": { "is": [1] },
        }),
    )?;
    ensure!(
        welcome["reply"] == "hello" && welcome["id"] == 1,
        "{welcome}"
    );
    ensure!(welcome["version"] == 2, "{welcome}");
    ensure!(welcome["features"] == json!(["leaving"]), "{welcome}");
    // With descriptors, which are closed, and a name that must not become a long answer.
    for (id, name) in [(2, "reboot".to_owned()), (3, "x".repeat(10_000))] {
        let unknown = json!({ "id": id, "request": name, "when": "now" }).to_string();
        send(&stream, &of(&unknown, 2), &null(2)?)?;
        let refused = read(&stream)?;
        ensure!(
            refused["code"] == "unknown-request" && refused["id"] == id,
            "{refused}"
        );
        let text = refused["text"].as_str().context("a text")?;
        ensure!(
            text.contains(&name[..6]) && text.contains("upgrade the agent") && text.len() < 200,
            "{text}"
        );
    }
    let again = answer(
        &stream,
        &json!({ "id": 4, "request": "hello", "versions": { "min": 2, "max": 2 } }),
    )?;
    ensure!(
        again["code"] == "bad-message" && again["id"] == 4,
        "{again}"
    );
    // The connection has lived through all of that; fields that it does not know are ignored.
    let status = json!({ "id": u64::MAX, "request": "status", "service": "web", "depth": 3 });
    let status = answer(&stream, &status)?;
    ensure!(
        status["id"] == u64::MAX && status["services"][0]["name"] == "web",
        "{status}"
    );
    drop(stream);
    victim.check_unharmed()
}

#[test]
fn without_a_common_version_both_ranges_are_named() -> Result<()> {
    let victim = Victim::new()?;
    for (versions, named) in [
        (json!({ "min": 3, "max": 5 }), "versions 3 to 5"),
        (json!({ "min": 1, "max": 1 }), "version 1"),
        // None at all.
        (json!({ "min": 3, "max": 1 }), "versions 3 to 1"),
    ] {
        let stream = victim.connect()?;
        let hello = json!({ "id": 1, "request": "hello", "versions": versions });
        send(&stream, &of(&hello.to_string(), 0), &[])?;
        let refusal = last_word(&stream)?;
        let words = ["speaks version 2", named, "upgrade the older"];
        says(&refusal, ErrorCode::VersionMismatch, &words)?;
        ensure!(is_closed(&stream), "still connected");
    }
    victim.check_unharmed()
}

#[test]
fn each_answer_names_its_request() -> Result<()> {
    let fixture = Fixture::new()?;
    let _first = fixture.first(&[])?;
    let _second = fixture.generation(2, &[])?;
    let mut client = Client::connect(&fixture.agent.socket())?;
    let flip = Request::Flip {
        service: None,
        to: Target::Generation("gen2".parse()?),
        if_epoch: None,
        drain_ms: 5000,
        keep: true,
        drop_endpoints: Vec::new(),
    };
    let retire = Request::Retire {
        service: None,
        generation: "gen7".parse()?,
        force: false,
    };
    // All at once: the answers to the first come when the others have been answered.
    let flips = client.send(&flip, &[])?;
    let refused = client.send(&retire, &[])?;
    let status = client.send(&Request::Status { service: None }, &[])?;
    let mut came = Vec::new();
    let (mut end, all) = (None, [flips, refused, status]);
    while end.is_none() || !all.iter().all(|id| came.contains(id)) {
        let message = client.receive(Some(SOON))?;
        let id = message.id.context("an answer without a question")?;
        match message.reply {
            Reply::Committed(_) | Reply::Draining(_) => ensure!(id == flips, "{id}"),
            Reply::Drained(certificate) => end = Some((id, certificate.end)),
            Reply::Refused(refusal) => {
                let code = refusal.code;
                ensure!(
                    id == refused && code == ErrorCode::NoSuchGeneration,
                    "{id}: {refusal}"
                );
            }
            Reply::Status(_) => ensure!(id == status, "{id}"),
            other => bail!("{id}: {other:?}"),
        }
        came.push(id);
    }
    ensure!(end == Some((flips, DrainEnd::Standby)), "{end:?}");
    fixture.agent.check_counters()
}

/// What an agent of 0.1.0 does with a hello, byte for byte.
#[test]
fn an_agent_without_hello_is_named_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("agent.sock");
    let listener = UnixListener::bind(&socket)?;
    let text = "the other end speaks protocol version 2, this one 1";
    let refused = json!({ "reply": "refused", "code": "version-mismatch", "text": text });
    let mut refusal = of(&refused.to_string(), 0);
    refusal[4..6].copy_from_slice(&1_u16.to_le_bytes());
    let old = thread::spawn(move || -> Result<()> {
        for _ in 0..COMMANDS.len() {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0; frame::HEADER])?;
            stream.write_all(&refusal)?;
        }
        Ok(())
    });
    for args in COMMANDS {
        let mut command = Command::new(program("synflip")?);
        command.args(args.iter()).env("SYNFLIP_SOCKET", &socket);
        let cli = Cli::of(&mut command)?;
        ensure!(cli.code == 1 && cli.stdout.is_empty(), "{cli:?}");
        ensure!(cli.stderr.lines().count() == 1, "{cli:?}");
        let cause = "the agent is of a release before 0.2.0";
        let cure = "upgrade the agent and restart it";
        let where_ = socket.display().to_string();
        for words in [cause, cure, "version 1", "version 2", &where_] {
            ensure!(cli.stderr.contains(words), "{words} is not in {cli:?}");
        }
    }
    old.join().map_err(|_panic| anyhow!("panicked"))?
}

const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["status", "--json"],
    &["flip", "--to", "gen2"],
];

fn answer(mut stream: &UnixStream, request: &Value) -> Result<Value> {
    stream.write_all(&of(&request.to_string(), 0))?;
    read(stream)
}

fn read(mut stream: &UnixStream) -> Result<Value> {
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).context("a header")?;
    let [a, b, c, d, ..] = header;
    let mut document = vec![0; usize::try_from(u32::from_le_bytes([a, b, c, d]))?];
    stream.read_exact(&mut document).context("a document")?;
    Ok(serde_json::from_slice(&document)?)
}
