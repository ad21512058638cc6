//! What spans services: names, reuseport groups, quotas.

use synflip_types::{Cookie, Endpoint, Name};

use crate::{Admission, Group, Host, HostError, Quotas};

fn group(address: &str) -> Group {
    Group {
        endpoint: Endpoint::tcp(address.parse().unwrap()),
        uid: 7,
        netns: 1,
        only_v6: false,
        device: None,
    }
}

fn host() -> Host {
    let mut host = Host::new(Quotas {
        services: 3,
        services_of_uid: 2,
    });
    let web = "web".parse().unwrap();
    host.take(&web, 7, [group("127.0.0.1:80")]);
    host
}

#[test]
fn a_group_belongs_to_one_service() {
    let (mut host, other) = (host(), "other".parse().unwrap());
    let listener = [(group("127.0.0.1:80"), Cookie(1))];
    let refused = host.admit(&other, 7, &listener).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("service web has listeners there"),
        "{refused}"
    );
    let web = "web".parse().unwrap();
    assert_eq!(host.admit(&web, 7, &listener), Ok(Admission::Known));
    host.release(&web, |_| false);
    assert_eq!(host.admit(&other, 7, &listener), Ok(Admission::New));
}

#[test]
fn another_device_is_another_group() {
    let (host, other) = (host(), "other".parse().unwrap());
    let device = Some(b"eth0".to_vec());
    let group = Group {
        device,
        ..group("127.0.0.1:80")
    };
    assert_eq!(
        host.admit(&other, 7, &[(group, Cookie(1))]),
        Ok(Admission::New)
    );
}

#[test]
fn names_are_owned_and_counted() {
    let mut host = host();
    let at = |port: u16| [(group(&format!("127.0.0.1:{port}")), Cookie(port.into()))];
    let admit =
        |host: &Host, name: &str, uid, port| host.admit(&name.parse().unwrap(), uid, &at(port));
    assert!(matches!(
        admit(&host, "web", 8, 80),
        Err(HostError::NotOwner { .. })
    ));
    assert_eq!(admit(&host, "web", 0, 80), Ok(Admission::Known));
    host.take(&"b".parse().unwrap(), 7, [group("127.0.0.1:81")]);
    assert!(matches!(
        admit(&host, "c", 7, 82),
        Err(HostError::TooManyOfUid { .. })
    ));
    host.take(&"c".parse().unwrap(), 0, [group("127.0.0.1:82")]);
    assert!(matches!(
        admit(&host, "d", 0, 83),
        Err(HostError::TooManyServices { .. })
    ));
}

#[test]
fn a_new_endpoint_takes_nothing_from_those_that_there_are() {
    let dual_stack = group("[::]:80");
    let only_v6 = Group {
        only_v6: true,
        ..dual_stack.clone()
    };
    let web: Name = "web".parse().unwrap();
    let overlaps = |had: &Group, new: &str| {
        let mut host = Host::new(Quotas {
            services: 1,
            services_of_uid: 1,
        });
        host.take(&web, 7, [had.clone()]);
        let admitted = host.admit(&web, 7, &[(group(new), Cookie(1))]);
        matches!(admitted, Err(HostError::Overlaps { .. }))
    };
    assert!(overlaps(&dual_stack, "0.0.0.0:80"));
    assert!(overlaps(&dual_stack, "127.0.0.1:80"));
    assert!(overlaps(&dual_stack, "[::1]:80"));
    assert!(overlaps(&group("0.0.0.0:80"), "127.0.0.1:80"));
    assert!(overlaps(&group("127.0.0.1:80"), "0.0.0.0:80"));
    assert!(!overlaps(&only_v6, "0.0.0.0:80"));
    assert!(!overlaps(&dual_stack, "0.0.0.0:81"));
    assert!(!overlaps(&group("127.0.0.1:80"), "127.0.0.2:80"));
    // It has it already.
    assert!(!overlaps(&dual_stack, "[::]:80"));
}

#[test]
fn endpoints_that_overlap_can_be_registered_together() {
    let mut host = host();
    let both = ["0.0.0.0:80", "127.0.0.1:80"].map(group);
    let listeners = [(both[0].clone(), Cookie(1)), (both[1].clone(), Cookie(2))];
    let other = "other".parse().unwrap();
    host.remove(&"web".parse().unwrap());
    assert_eq!(host.admit(&other, 7, &listeners), Ok(Admission::New));
    host.take(&other, 7, both);
    assert_eq!(host.admit(&other, 7, &listeners), Ok(Admission::Known));
}

#[test]
fn siblings_are_alike() {
    let (host, web) = (host(), "web".parse().unwrap());
    let differs =
        |listeners: &[(Group, Cookie)]| host.admit(&web, 7, listeners).unwrap_err().to_string();
    let like = group("127.0.0.1:81");
    let netns = Group {
        netns: 2,
        ..like.clone()
    };
    assert!(differs(&[(netns, Cookie(1))]).contains("network namespace"));
    let uid = Group {
        uid: 8,
        ..like.clone()
    };
    assert!(differs(&[(uid, Cookie(1))]).contains("uid 8"));
    let v6 = Group {
        only_v6: true,
        ..like.clone()
    };
    assert!(differs(&[(like.clone(), Cookie(1)), (v6, Cookie(2))]).contains("IPV6_V6ONLY"));
    assert!(differs(&[(like.clone(), Cookie(1)), (like, Cookie(1))]).contains("twice"));
}
