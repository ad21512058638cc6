//! PROTOCOL.md says all that there is, and nothing else.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::{fields, framed, reply, request, samples};
use crate::{Event, Reply, Request};

const DOCUMENT: &str = include_str!("../../../../PROTOCOL.md");

/// What is between backquotes, word by word.
fn named() -> BTreeSet<&'static str> {
    let spans = DOCUMENT.split('`').skip(1).step_by(2);
    spans
        .flat_map(|span| span.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))))
        .collect()
}

fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value).unwrap() {
        Value::String(word) => word,
        other => panic!("{other} is no word"),
    }
}

#[test]
fn every_message_and_word_is_named() {
    let mut words = BTreeSet::new();
    words.extend(samples::phases().into_iter().map(word));
    words.extend(samples::ends().into_iter().map(word));
    words.extend(samples::codes().into_iter().map(word));
    for message in samples::requests().iter().map(serde_json::to_value) {
        let message = message.unwrap();
        words.insert(word(&message["request"]));
        fields(&message, &mut words);
    }
    for message in samples::replies().iter().map(serde_json::to_value) {
        let message = message.unwrap();
        words.insert(word(&message["reply"]));
        if message["reply"] == "event" {
            words.insert(word(&message["event"]));
        }
        fields(&message, &mut words);
    }
    words.extend(crate::FEATURES.iter().map(ToString::to_string));
    words.insert(crate::SOCKET_ENV.to_owned());
    // What no release sends.
    words.remove("unknown");
    let named = named();
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !named.contains(word.as_str()))
        .collect();
    assert!(missing.is_empty(), "PROTOCOL.md does not name {missing:?}");
    for number in ["65,536", "4,194,304", "at most 128", crate::DEFAULT_SOCKET] {
        assert!(DOCUMENT.contains(number), "{number} is not in PROTOCOL.md");
    }
    assert_eq!(
        (crate::MAX_REQUEST, crate::MAX_REPLY, crate::MAX_FDS),
        (65_536, 4_194_304, 128)
    );
}

#[test]
fn its_examples_are_understood() {
    let mut said = 0;
    for line in DOCUMENT.lines() {
        if let Some(document) = line.strip_prefix("> {") {
            let asked = request(&format!("{{{document}")).expect(line);
            assert_ne!(asked.request, Request::Unknown, "{line}");
            said += 1;
        } else if let Some(document) = line.strip_prefix("< {") {
            let answer = reply(&format!("{{{document}")).expect(line);
            let unknown = [Reply::Unknown, Reply::Event(Event::Unknown)];
            assert!(!unknown.contains(&answer.reply), "{line}");
            said += 1;
        }
    }
    assert!(said > 15, "{said} lines of conversation");
}

#[test]
fn the_header_of_its_example_is_that_of_the_document() {
    let mut lines = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with("> ") || line.contains('{'));
    let header = lines.next().unwrap().trim_start_matches("> ");
    let header: Vec<u8> = header
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let document = lines.next().unwrap().trim_start_matches("> ");
    assert_eq!(header, framed(document)[..crate::frame::HEADER]);
}
