//! What peers hear, whatever has become of the service that they have registered for.

use synflip_bpf::Object;
use synflip_types::RequestId;
use synflip_wire::ErrorCode;

use super::*;
use crate::effects::{Executor, Worker};

/// A registry that nobody has asked anything yet.
pub(crate) fn registry() -> (Registry, mpsc::Receiver<Message>) {
    let config = Config {
        socket: "/nowhere/socket".into(),
        bpffs: "/nowhere".into(),
        metrics: None,
        hold: Duration::ZERO,
        object: Object::default(),
        tombstones: true,
        migration: true,
        die_at: None,
    };
    let (messages, inbox) = mpsc::channel(limits::OUTBOX);
    let (relay, _keeping) = Relay::new(&config.socket);
    let registry = Registry::new(config, Variant::Select, true, messages, relay, None);
    (registry, inbox)
}

/// The same with a peer that has registered for a service.
fn registry_with_member() -> (Registry, mpsc::Receiver<Message>, mpsc::Receiver<Outgoing>) {
    let (mut registry, inbox) = registry();
    let (outbox, said) = mpsc::channel(limits::OUTBOX);
    let peer = Peer {
        uid: 0,
        pid: 1,
        outbox: Some(Outbox {
            peer: MEMBER,
            messages: outbox,
        }),
        member_of: Some((web(), None)),
    };
    registry.peers.0.insert(MEMBER, peer);
    (registry, inbox, said)
}

/// Adds a service of which nothing is left but its thread.
fn add_service_that_is_over(registry: &mut Registry) {
    let executor = Executor::new(web(), 0, registry.setting.clone());
    let worker = Worker::start(executor).unwrap();
    let machine = synflip_plan::Service::new(registry.rules);
    let mut service = Service::new(web(), machine, worker, registry.started);
    assert!(service.on(Input::Time, &registry.peers));
    assert!(service.machine.is_over());
    registry.services.insert(web(), service);
}

/// Asks, and returns all that is answered.
fn ask(
    registry: &mut Registry,
    said: &mut mpsc::Receiver<Outgoing>,
    request: Request,
) -> Vec<Reply> {
    let by = Asker {
        process: MEMBER,
        request: RequestId(7),
    };
    let (turn, _handled) = oneshot::channel();
    let message = Message::Request {
        by,
        request,
        fds: Foreign::default(),
        turn,
    };
    registry.handle(message).unwrap();
    // What its thread still has to say it has said when it has ended.
    if let Some(service) = registry.services.remove(&web()) {
        service.worker.finish();
    }
    std::iter::from_fn(|| said.try_recv().ok())
        .map(|outgoing| {
            assert_eq!(outgoing.id, Some(by.request));
            outgoing.reply
        })
        .collect()
}

#[test]
fn each_request_of_a_member_has_one_answer_also_when_its_service_is_over() {
    for is_gone in [false, true] {
        let answers = |request| {
            let (mut registry, _inbox, mut said) = registry_with_member();
            if !is_gone {
                add_service_that_is_over(&mut registry);
            }
            ask(&mut registry, &mut said, request)
        };
        let ready = answers(Request::Ready);
        let [Reply::Refused(refusal)] = ready.as_slice() else {
            panic!("gone: {is_gone}, {ready:?}");
        };
        assert_eq!(refusal.code, ErrorCode::NoSuchService);
        assert_eq!(answers(Request::Closed), [Reply::Done], "gone: {is_gone}");
        // It has none.
        let emptied = Request::Emptied {
            cookies: Vec::new(),
        };
        assert_eq!(answers(emptied), [], "gone: {is_gone}");
    }
}

const MEMBER: ProcessId = ProcessId(1);

fn web() -> Name {
    "web".parse().unwrap()
}
