//! One release beside another.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{reply, request, samples};
use crate::{
    Answer, Asked, DrainEnd, ErrorCode, Event, Hello, Phase, Reply, Request, RequestId, Status,
    VERSIONS, Versions, WireError,
    frame::{Frame, Frames},
};

fn taken(bytes: &[u8], mut frames: Frames) -> Frame {
    frames.push(bytes, vec![]);
    frames.take().unwrap().unwrap()
}

/// The same document with more in it, in every object.
fn later(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let more = [("later".to_owned(), json!({ "a": [1, null] }))];
            let object = object.into_iter().map(|(name, value)| (name, later(value)));
            object.chain(more).collect()
        }
        Value::Array(list) => list.into_iter().map(later).collect(),
        other => other,
    }
}

#[test]
fn what_is_said_is_heard() {
    for message in samples::requests() {
        let id = RequestId(u64::MAX);
        let bytes = Asked::encode(id, &message, 0).unwrap();
        let asked = Asked::read(&taken(&bytes, Frames::of_requests())).unwrap();
        assert_eq!((asked.id, asked.request), (id, message));
    }
    for message in samples::replies() {
        for id in [None, Some(RequestId(0)), Some(RequestId(u64::MAX))] {
            let bytes = Answer::encode(id, &message, 0).unwrap();
            let answer = Answer::read(&taken(&bytes, Frames::of_replies())).unwrap();
            assert_eq!((answer.id, &answer.reply), (id, &message));
        }
    }
}

#[test]
fn fields_of_a_later_release_are_ignored() {
    for message in samples::requests() {
        let mut document = later(serde_json::to_value(&message).unwrap());
        // Which generation a flip goes to is one word of several: it has no room for more.
        if let Request::Flip { to, .. } = &message {
            document["to"] = serde_json::to_value(to).unwrap();
        }
        document["id"] = 7.into();
        assert_eq!(request(&document.to_string()).unwrap().request, message);
    }
    for message in samples::replies() {
        let document = later(serde_json::to_value(&message).unwrap());
        assert_eq!(reply(&document.to_string()).unwrap().reply, message);
    }
}

#[test]
fn words_of_a_later_release_are_no_errors() {
    let asked = request(r#"{"id":3,"request":"reboot","when":"now"}"#).unwrap();
    let known = (asked.id, asked.name.as_str(), asked.request);
    assert_eq!(known, (RequestId(3), "reboot", Request::Unknown));

    let heard = |document: Value| reply(&document.to_string()).unwrap().reply;
    assert_eq!(heard(json!({ "reply": "news", "of": 1 })), Reply::Unknown);
    let event = json!({ "reply": "event", "event": "frozen", "until": 3 });
    assert_eq!(heard(event), Reply::Event(Event::Unknown));
    let Reply::Refused(refusal) =
        heard(json!({ "reply": "refused", "code": "too-late", "text": "x" }))
    else {
        panic!("no refusal");
    };
    assert_eq!(refusal.code, ErrorCode::Unknown);
    assert_eq!(
        serde_json::from_value::<Phase>(json!("frozen")).unwrap(),
        Phase::Unknown
    );
    assert_eq!(
        serde_json::from_value::<DrainEnd>(json!("frozen")).unwrap(),
        DrainEnd::Unknown
    );
}

#[test]
fn a_status_without_what_was_added_is_read() {
    let mut document = serde_json::to_value(samples::status()).unwrap();
    let service = &mut document["services"][0];
    let without = |object: &mut Value, fields: &[&str]| {
        for field in fields {
            object.as_object_mut().unwrap().remove(*field).expect(field);
        }
    };
    without(service, &["relayed", "hold"]);
    without(&mut service["endpoints"][0], &["protocol"]);
    for generation in service["generations"].as_array_mut().unwrap() {
        without(generation, &["accepting", "in_service"]);
        without(
            &mut generation["listeners"][0],
            &["held_by", "custody", "protocol"],
        );
    }
    let status: Status = serde_json::from_value(document).unwrap();
    let service = &status.services[0];
    assert_eq!((service.relayed.total, service.hold), (0, None));
    assert_eq!(service.endpoints, samples::status().services[0].endpoints);
    assert_eq!(service.generations[0].accepting, None);
}

/// Scripts read these.
#[test]
fn an_address_is_still_an_address() {
    let document = serde_json::to_value(samples::status()).unwrap();
    let service = &document["services"][0];
    let listener = &service["generations"][0]["listeners"][0];
    for with_address in [&service["endpoints"][0], listener] {
        assert_eq!(with_address["address"], "[fe80::1%2]:80");
        assert_eq!(with_address["protocol"], "tcp");
    }
    assert_eq!(
        (&listener["slot"], &service["epoch"]),
        (&json!(1), &json!(2))
    );
}

#[test]
fn a_message_that_lacks_something_names_its_request() {
    let Err(WireError::Malformed { id, .. }) = request(r#"{"id":9,"request":"retire"}"#) else {
        panic!("understood");
    };
    assert_eq!(id, Some(RequestId(9)));
    for bad in [
        r#"{"id":9}"#,
        r#"{"request":"ready"}"#,
        r#"{"id":-1,"request":"ready"}"#,
        "[]",
        "1",
    ] {
        assert!(
            matches!(request(bad), Err(WireError::Malformed { .. })),
            "{bad}"
        );
    }
}

fn hello(versions: Versions, features: &[&str]) -> Hello {
    let document = json!({
        "id": 1, "request": "hello", "versions": versions, "features": features, "later": [{}],
    });
    match request(&document.to_string()).unwrap().request {
        Request::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_of_a_later_release_is_welcome() {
    let theirs = Versions { min: 2, max: 40 };
    let welcome = hello(theirs, &["teleport", "leaving", ""])
        .welcome()
        .unwrap();
    assert_eq!((welcome.version, welcome.versions), (2, VERSIONS));
    assert_eq!(welcome.features, ["leaving"]);
    // Next to nothing has to be said.
    let least = request(r#"{"id":0,"request":"hello","versions":{"min":1,"max":2}}"#).unwrap();
    let Request::Hello(least) = least.request else {
        panic!("no hello");
    };
    assert_eq!(least.welcome().unwrap().features, [""; 0]);
}

proptest! {
    #[test]
    fn the_version_is_the_newest_that_both_speak(
        (a, b) in (any::<(u16, u16)>(), any::<(u16, u16)>()),
    ) {
        let (ours, theirs) = (Versions { min: a.0, max: a.1 }, Versions { min: b.0, max: b.1 });
        let both = |version: &u16| ours.has(*version) && theirs.has(*version);
        let newest = (0..=u16::MAX).rev().find(both);
        prop_assert_eq!(ours.agree(theirs).ok(), newest);
        prop_assert_eq!(theirs.agree(ours).ok(), newest);
        if let Err(none) = ours.agree(theirs) {
            let text = none.to_string();
            for range in [ours, theirs] {
                prop_assert!(text.contains(&range.to_string()), "{}", text);
            }
        }
    }

    #[test]
    fn any_hello_is_answered(min in any::<u16>(), max in any::<u16>(), features in any::<Vec<String>>()) {
        let features: Vec<&str> = features.iter().map(String::as_str).collect();
        if let Ok(welcome) = hello(Versions { min, max }, &features).welcome() {
            prop_assert!(VERSIONS.has(welcome.version) && min <= welcome.version && welcome.version <= max);
            prop_assert!(welcome.features.iter().all(|one| features.contains(&one.as_str())));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in any::<Vec<u8>>(), format in 0_u8..4) {
        // As they are, and as the document of a frame.
        let mut frame = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
        frame.extend([format, 0, 0, 0]);
        frame.extend(&bytes);
        for bytes in [bytes, frame] {
            for mut frames in [Frames::of_requests(), Frames::of_replies()] {
                frames.push(&bytes, vec![]);
                while let Ok(Some(frame)) = frames.take() {
                    drop((Asked::read(&frame), Answer::read(&frame)));
                }
            }
        }
    }

    #[test]
    fn a_message_with_a_wrong_byte_panics_nobody(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let requests = samples::requests().into_iter();
        let requests = requests.map(|one| Asked::encode(RequestId(1), &one, 0).unwrap());
        let replies = samples::replies().into_iter();
        let replies = replies.map(|one| Answer::encode(Some(RequestId(1)), &one, 0).unwrap());
        let all: Vec<_> = requests.chain(replies).collect();
        let mut bytes = which.get(&all).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for mut frames in [Frames::of_requests(), Frames::of_replies()] {
            frames.push(&bytes, vec![]);
            while let Ok(Some(frame)) = frames.take() {
                drop((Asked::read(&frame), Answer::read(&frame)));
            }
        }
    }
}
