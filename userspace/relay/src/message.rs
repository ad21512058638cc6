//! What the agent and the process tell each other: one JSON document in each message.

use serde::{Deserialize, Serialize};
use synflip_types::Name;

/// The first thing that the process says to an agent.
///
/// Every version says it in these words, and may add to them, so that each can be told from the
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of all other messages.
    pub version: u16,
    /// The process.
    #[serde(default)]
    pub pid: u32,
    /// How many connections it carries at one time.
    #[serde(default)]
    pub places: u64,
}

/// What the agent wants of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Carry a connection of this service. Two descriptors come with it: the connection that the
    /// agent has accepted, and an unconnected socket in the same network namespace. Where to
    /// connect that to is the address which the client asked for: the connection knows it.
    Carry {
        /// Whose connection it is.
        service: Name,
    },
}

/// What the process tells the agent after its [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// What has changed since the last one.
    State {
        /// How many orders this agent may have sent in all, over this line.
        may_send: u64,
        /// The services whose counts are not what they were.
        services: Vec<(Name, Counts)>,
    },
    /// A connection has ended because of an error.
    Failed {
        /// Whose it was.
        service: Name,
        /// What happened.
        why: String,
    },
}

/// What has been carried for one service, by one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Connections that are being carried.
    pub open: u64,
    /// Connections in all, the open ones included.
    pub total: u64,
    /// Bytes read from clients.
    pub to_server: u64,
    /// Bytes read from servers.
    pub to_client: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hello_of_any_version_can_be_read() {
        let later = r#"{"version":7,"something":{"new":[]}}"#;
        let hello: Hello = serde_json::from_str(later).unwrap();
        assert_eq!((hello.version, hello.places), (7, 0));
    }

    #[test]
    fn messages_come_back_as_they_went() {
        let counts = Counts {
            open: 1,
            total: 2,
            to_server: 3,
            to_client: u64::MAX,
        };
        let name: Name = "web@v1".parse().unwrap();
        let state = Report::State {
            may_send: 5,
            services: vec![(name.clone(), counts)],
        };
        let text = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<Report>(&text).unwrap(), state);
        let order = Order::Carry { service: name };
        let text = serde_json::to_vec(&order).unwrap();
        assert_eq!(serde_json::from_slice::<Order>(&text).unwrap(), order);
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in ["", "{}", r#"{"carry":{"service":"a/b"}}"#, r#"{"kill":1}"#] {
            serde_json::from_str::<Order>(bad).unwrap_err();
        }
    }
}
