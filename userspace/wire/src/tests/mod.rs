//! What one end says is what the other one hears, whatever release it is of.

mod document;
mod mixed;
mod samples;

use std::collections::BTreeSet;

use crate::{Answer, Asked, WireError, frame::Frames};

/// Reads a document as the agent does.
fn request(document: &str) -> Result<Asked, WireError> {
    let mut frames = Frames::of_requests();
    frames.push(&framed(document), vec![]);
    Asked::read(&frames.take()?.expect("a frame"))
}

/// Reads a document as clients do.
fn reply(document: &str) -> Result<Answer, WireError> {
    let mut frames = Frames::of_replies();
    frames.push(&framed(document), vec![]);
    Answer::read(&frames.take()?.expect("a frame"))
}

fn framed(document: &str) -> Vec<u8> {
    let mut frame = u32::try_from(document.len())
        .unwrap()
        .to_le_bytes()
        .to_vec();
    frame.extend([2, 0, 0, 0]);
    frame.extend(document.as_bytes());
    frame
}

/// The names of all fields of a document, however deep.
fn fields(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                into.insert(name.clone());
                fields(value, into);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| fields(value, into)),
        _ => {}
    }
}
