//! What does an interface do with packets before it sends them? `tc qdisc replace … root`.

use std::pin::pin;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use rtnetlink::{
    Handle,
    packet_core::{
        DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcMessage},
    },
};

/// Replaces the queueing discipline at the root of an interface.
///
/// `options` is the payload of TCA_OPTIONS, which each kind defines for itself.
pub(crate) async fn replace(
    mut handle: Handle,
    index: u32,
    kind: &str,
    options: Option<Vec<u8>>,
) -> Result<()> {
    let mut qdisc = TcMessage::with_index(i32::try_from(index).context("index")?);
    qdisc.header.parent = TcHandle::ROOT;
    qdisc.attributes.push(TcAttribute::Kind(kind.into()));
    let options = options.map(|options| TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options)));
    qdisc.attributes.extend(options);
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(qdisc));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut answers = pin!(handle.request(request).context("ask for a queue")?);
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(refused) = answer.payload {
            return Err(refused.to_io()).with_context(|| format!("make it a {kind}"));
        }
    }
    Ok(())
}

/// Of `linux/rtnetlink.h`.
const TCA_OPTIONS: u16 = 2;
