//! A row of the journal, as the request that it was.

use crate::chat::Request;
use crate::journal::Row;
use crate::pipeline::Caller;
use crate::telemetry::wishes;
use crate::upstream::{Envelope, Kind};
use crate::wire::{Target, decode_request};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_hours(1);

/// The lane of a request of which nobody has written down who answered it.
pub(super) const NOT_RECORDED: &str = "not recorded";

/// What a row asks; `None` where its words were not written down, or nobody understands them.
pub fn request(row: &Row) -> Option<Request> {
    decoded(row, row.body.as_deref()?)
}

pub(super) fn decoded(row: &Row, body: &RawValue) -> Option<Request> {
    let target = Target { model: Some(row.model.clone()), stream: Some(row.stream), sse: row.stream };
    let body = Bytes::copy_from_slice(body.get().as_bytes());
    let mut request = decode_request(row.protocol, &body, &target).ok()?;
    request.received.headers.clone_from(&row.headers);
    Some(request)
}

/// Who answered then.
pub(super) fn lane_then(row: &Row) -> &str {
    match row.source.as_deref() {
        Some("upstream" | "local") if row.shared => "joined",
        Some("upstream" | "local") => "upstream",
        Some(source) => source,
        // The client left, or it took too long, while somebody was asked.
        None if row.miss.is_some() && Kind::named(&row.ended).is_none() => "upstream",
        // Another program's record does not say.
        None if row.ended == "complete" => NOT_RECORDED,
        None => "failed",
    }
}

pub(super) fn is_refusal(ended: &str) -> bool {
    Kind::named(ended).is_none() && !matches!(ended, "complete" | "cut" | "client_gone" | "deadline")
}

/// How long an upstream was waited for.
pub(super) fn waited(row: &Row) -> Option<u64> {
    let asked = matches!(row.source.as_deref(), Some("upstream" | "local"));
    asked.then(|| row.total_us.saturating_sub(row.recall_us))
}

pub(super) fn caller(row: &Row, name: &str) -> Caller {
    let mut memory = wishes(&row.wanted);
    if let Some(voice) = &row.voice {
        // Whose answer was wanted keeps answers apart here as it did then.
        if voice.arm.is_some() || voice.model != row.model || voice.origin != "provider" {
            let arm = voice.arm.as_deref().unwrap_or_default();
            memory.within("voice", format!("{}/{}/{arm}", voice.origin, voice.model));
        }
    }
    Caller {
        request_id: row.id.clone(),
        tenant: row.tenant.as_str().into(),
        project: row.project.clone(),
        state: row.state.clone(),
        tags: row.tags.clone(),
        memory,
        deadline: tokio::time::Instant::now() + PATIENCE,
        envelope: Arc::new(Envelope { correlation_id: name.to_owned(), ..Envelope::default() }),
    }
}
