//! Requests to rtnetlink in the calling thread's namespace.

use anyhow::{Context as _, Result};
use rtnetlink::Handle;
use tokio::runtime::Builder;

/// Runs `requests` to their end on a runtime of their own.
///
/// The socket belongs to the namespace the calling thread is in, so this must
/// be called on a thread which has entered the right one.
pub(crate) fn talk<T>(requests: impl AsyncFnOnce(Handle) -> Result<T>) -> Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .build()
        .context("make a runtime")?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("open rtnetlink")?;
        let connection = tokio::spawn(connection);
        let answer = requests(handle).await;
        connection.abort();
        answer
    })
}
