//! A face: one client protocol in front of the one path.
//!
//! Every protocol goes through the same function; what differs is in its codec.

use super::controls::{self, Controls, Rival};
use super::error::{Error, Failed};
use super::read::{self, Asker, Peer};
use super::{Server, facts, feedback, notice, replay};
use crate::chat::{Chunk, Event, Folder, Form, Protocol, Received, Request};
use crate::pipeline::{Answer, Caller};
use crate::upstream::Chunks;
use crate::upstream::provider::forwarded;
use crate::wire::{Encoder, Target, decode_request};
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Headers of a client that are nothing to a provider, whatever it speaks: they name an account that is not
/// ours, say where the client is and what it runs in, or what its own cache is to do.
const UNHEARD: [&str; 10] = [
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "forwarded",
    "via",
    "x-real-ip",
    "origin",
    "referer",
    "cache-control",
    "pragma",
];

/// Beginnings of such names; and those of headers about a body that may change on the way.
const UNHEARD_KINDS: [&str; 3] = ["x-forwarded-", "sec-", "content-"];

/// Answers one request in `protocol`. `target` is what its path says.
pub(super) async fn answer(
    server: Arc<Server>,
    protocol: Protocol,
    target: Target,
    (uri, headers, peer): (Uri, HeaderMap, Peer),
    body: Body,
) -> Response {
    let asker = Asker::new(protocol, &headers);
    let deadline = Instant::now() + server.config.request_timeout;
    let answered = match understand(&server, &asker, &target, (&uri, &headers, peer), body, deadline).await {
        Ok(asked) => give(&server, asked, &target, deadline).await,
        Err(error) => {
            // It never reaches the path, so the path cannot tell of it.
            server.metrics.reject(&asker.request_id, error.code());
            Err(error)
        }
    };
    asker.respond(answered)
}

/// Who asks, and what; and those whose words for the cache it uses.
struct Asked {
    caller: Caller,
    request: Request,
    rivals: Vec<Rival>,
}

async fn understand(
    server: &Server,
    asker: &Asker,
    target: &Target,
    (uri, headers, peer): (&Uri, &HeaderMap, Peer),
    body: Body,
    deadline: Instant,
) -> Result<Asked, Error> {
    let compat = server.config.compat_headers;
    let mut caller = read::caller(server, asker, (uri, headers, peer), deadline)?;
    feedback::hear(server, &caller.tenant, headers);
    let body = read::body(server, body).await?;
    let mut request = decode_request(asker.protocol, &body, target).map_err(Error::Wire)?;
    request.received = Received { headers: heard(headers, compat), ..request.received };
    replay::go_on_from_first(&mut request)?;
    let mut controls = Controls::of(headers, compat);
    controls.take_from(&mut request).map_err(Error::Wire)?;
    let Controls { wishes, rivals } = controls;
    caller.memory = wishes;
    Ok(Asked { caller, request, rivals })
}

/// The headers of a client that may mean something to a provider of its own protocol. Those by which other
/// gateways are told what to do are for us with `compat`.
pub(super) fn heard(headers: &HeaderMap, compat: bool) -> Vec<(String, String)> {
    let unheard = |name: &str| {
        UNHEARD.contains(&name) || UNHEARD_KINDS.iter().any(|beginning| name.starts_with(beginning))
    };
    let mut forwarded = forwarded(headers);
    controls::strip_headers(&mut forwarded, compat);
    let lines = forwarded.iter().filter(|(name, _)| !unheard(name.as_str()));
    lines.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}

async fn give(
    server: &Server,
    Asked { caller, request, rivals }: Asked,
    target: &Target,
    deadline: Instant,
) -> Result<Response, Error> {
    let stream = request.delivery.stream;
    let request_id = caller.request_id.clone();
    let told_inline = notice::may_be_told(server.config.notice, &request);
    let giving = Giving {
        protocol: request.received.protocol,
        encoder: Encoder::new(&request, target),
        deadline,
        limit: server.config.request_timeout,
        request_id,
        now: server.clock.now().as_secs(),
    };
    let answer = match timeout_at(deadline, server.pipeline.answer(caller, request)).await {
        Ok(answer) => answer.map_err(Error::Pipeline)?,
        Err(_) => return Err(Error::Deadline(server.config.request_timeout)),
    };
    let facts = facts::headers(&answer);
    let notice = facts::notice(&answer).filter(|_| told_inline);
    let Answer { source, shared, kept, chunks, .. } = answer;
    let (chunks, replayed) = match source.is_upstream() {
        true => match &notice {
            Some(notice) => (notice::told_first(notice, chunks), HeaderMap::new()),
            None => (chunks, HeaderMap::new()),
        },
        false => replay::anew(chunks, giving.protocol, stream, server).await,
    };
    let mut response = match stream {
        true => giving.stream(chunks),
        false => giving.whole(chunks).await?,
    };
    response.headers_mut().extend(facts);
    // Whether it was remembered is known where it was given whole, and not where it only begins.
    let kept = kept.get().copied();
    response.headers_mut().extend(facts::of_cache(&source, shared, kept, &rivals));
    response.headers_mut().extend(replayed);
    Ok(response)
}

/// An answer on its way to a client.
struct Giving {
    protocol: Protocol,
    encoder: Encoder,
    deadline: Instant,
    limit: Duration,
    request_id: String,
    /// When it began, in Unix seconds.
    now: u64,
}

impl Giving {
    async fn next(&self, chunks: &mut Chunks) -> Result<Option<Chunk>, Error> {
        match timeout_at(self.deadline, chunks.next()).await {
            Ok(Some(Ok(mut chunk))) => {
                self.complete(&mut chunk);
                Ok(Some(chunk))
            }
            Ok(Some(Err(error))) => Err(Error::Pipeline(error.into())),
            Ok(None) => Ok(None),
            Err(_) => Err(Error::Deadline(self.limit)),
        }
    }

    /// Not every protocol has ids and times, and clients of the others rely on them.
    fn complete(&self, chunk: &mut Chunk) {
        for event in &mut chunk.events {
            if let Event::Start { id, created, .. } = event {
                if id.is_empty() {
                    *id = replay::fresh_id(self.protocol);
                }
                if *created == 0 {
                    *created = self.now;
                }
            }
        }
    }

    /// The whole answer in one body: verbatim where a provider of the same protocol gave it whole.
    async fn whole(self, mut chunks: Chunks) -> Result<Response, Error> {
        let mut folder = Folder::default();
        let mut verbatim = None;
        while let Some(chunk) = self.next(&mut chunks).await? {
            chunk.events.iter().for_each(|event| folder.push(event));
            let raw = chunk.raw.filter(|raw| (raw.protocol, raw.form) == (self.protocol, Form::Whole));
            verbatim = verbatim.or(raw);
            if folder.ended() {
                break;
            }
        }
        let body = if let Some(raw) = verbatim {
            raw.bytes
        } else {
            let folded = folder.finish_lossy().map_err(|fault| Error::Incomplete(fault.to_string()))?;
            let (reply, lost) = folded;
            tell_lost(&self.request_id, lost.as_deref());
            self.encoder.whole(&reply).into()
        };
        Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
    }

    /// The answer as events, each as soon as it is there.
    fn stream(self, chunks: Chunks) -> Response {
        let kind = HeaderValue::from_static(self.encoder.stream_type());
        let state = Streaming { giving: self, chunks, over: false };
        let body = stream::unfold(state, async |mut state| {
            let bytes = state.next().await?;
            Some((Ok::<_, Infallible>(bytes), state))
        });
        let no_cache = HeaderValue::from_static("no-cache");
        ([(CONTENT_TYPE, kind), (CACHE_CONTROL, no_cache)], Body::from_stream(body)).into_response()
    }
}

/// What a protocol has no word for is left out of a translated answer, and told here.
fn tell_lost(request_id: &str, lost: Option<&str>) {
    if let Some(field) = lost {
        tracing::info!(request_id, field, "a part of the answer has no place in the client's protocol");
    }
}

struct Streaming {
    giving: Giving,
    chunks: Chunks,
    over: bool,
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let bytes = match self.giving.next(&mut self.chunks).await {
                Ok(Some(chunk)) => self.encode(&chunk),
                Ok(None) => return None,
                Err(error) => self.fail(&error),
            };
            if !bytes.is_empty() {
                return Some(bytes);
            }
        }
        None
    }

    fn encode(&mut self, chunk: &Chunk) -> Bytes {
        // Once the end is said, nothing else is: close promptly.
        self.over = chunk.events.contains(&Event::End);
        let bytes = self.giving.encoder.chunk(chunk);
        if self.over {
            tell_lost(&self.giving.request_id, self.giving.encoder.lost());
        }
        bytes
    }

    /// The head with its 200 is long gone: the error is told in the stream, in the way that SDKs raise.
    fn fail(&mut self, error: &Error) -> Bytes {
        self.over = true;
        let failure = Failed::from(error).failure(&self.giving.request_id);
        self.giving.encoder.failure(&failure).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    #[test]
    fn a_provider_hears_what_is_meant_for_it() {
        let names = [
            "anthropic-beta",
            "x-title",
            "http-referer",
            "user-agent",
            "authorization",
            "cookie",
            "openai-organization",
            "x-forwarded-for",
            "sec-fetch-mode",
            "content-length",
            "accept-encoding",
            "x-weir-project",
            "connection",
            "host",
            "cache-control",
            "pragma",
            "x-portkey-cache",
            "helicone-cache-seed",
            "cf-aig-cache-key",
        ];
        let headers = names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
        let heard = heard(&HeaderMap::from_iter(headers), true);
        let heard: std::collections::BTreeSet<_> = heard.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(heard, names[..4].iter().copied().collect());
    }
}
