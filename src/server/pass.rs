//! Paths that we do not know go to a provider untouched: audio, images, files, batches.

use super::controls;
use super::error::Error;
use super::read::{self, Asker};
use super::{Client, Server, auth, replay};
use crate::chat::Protocol;
use crate::upstream::Upstream as _;
use crate::upstream::provider::{Passage, Passed, Provider};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::io;
use std::sync::Arc;

/// The prefixes of paths that belong to an API, and whose API it is. Anything else (a browser asking for an
/// icon, a scanner) goes nowhere.
const APIS: [(&str, Option<Protocol>); 5] = [
    ("/v1/", None),
    ("/v1beta/", Some(Protocol::Gemini)),
    ("/v1alpha/", Some(Protocol::Gemini)),
    ("/upload/v1beta/", Some(Protocol::Gemini)),
    ("/api/", Some(Protocol::OllamaChat)),
];

/// The protocol of whoever asks on this path. Anthropic's paths look like OpenAI's, and so do those that the
/// newest clients of Google ask; but the former name a version, and the latter themselves or their key.
pub(super) fn spoken(path: &str, headers: &HeaderMap) -> Protocol {
    let api = APIS.iter().find(|(prefix, _)| path.starts_with(prefix)).and_then(|(_, protocol)| *protocol);
    let anthropic = path.starts_with("/v1/messages") || headers.contains_key("anthropic-version");
    let google = [read::GOOGLE_KEY, "x-goog-api-client"].iter().any(|name| headers.contains_key(*name));
    match api {
        Some(protocol) => protocol,
        None if anthropic => Protocol::Anthropic,
        None if google => Protocol::Gemini,
        None => Protocol::OpenAiChat,
    }
}

/// A path of ours, and another method.
pub(super) async fn no_such_method(uri: Uri, headers: HeaderMap) -> Response {
    Asker::new(spoken(uri.path(), &headers), &headers).respond(Err(Error::NoSuchMethod))
}

/// Whatever has no route of its own.
pub(super) async fn unknown(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Body,
) -> Response {
    // By the headers alone: others may have a `key` in their query as well.
    let spoken = spoken(uri.path(), &headers);
    read::take_key(&uri, &mut headers);
    to_api_of(server, spoken, method, uri, headers, body).await
}

/// Sends a request of the API that `protocol` belongs to on to a provider of it.
pub(super) async fn to_api_of(
    server: Arc<Server>,
    protocol: Protocol,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let asker = Asker::new(protocol, &headers);
    let passed = async {
        // Nobody learns what is here without a key.
        let known = APIS.iter().any(|(prefix, _)| uri.path().starts_with(prefix));
        known.then_some(()).ok_or(Error::NoSuchPath)?;
        auth::tenant(&server.config.clients, &headers).ok_or(Error::Unauthorized)?;
        if has_tenants(&server.config.clients) && !keeps_nothing(uri.path()) {
            return Err(Error::Shared);
        }
        let provider = match asker.protocol {
            Protocol::OpenAiChat => server.providers.passthrough(),
            protocol => server.providers.of_protocol(protocol),
        };
        let provider = provider.filter(|_| server.config.passthrough).ok_or(Error::NoSuchPath)?;
        let mut headers = headers;
        controls::strip_headers(&mut headers, server.config.compat_headers);
        through(provider, method, &uri, &headers, body).await
    };
    let passed = passed.await;
    if let Err(error) = &passed {
        server.metrics.reject(&asker.request_id, error.code());
    }
    asker.respond(passed)
}

/// Whether there are several tenants, who must not see what is another's.
pub(super) fn has_tenants(clients: &[Client]) -> bool {
    clients.iter().any(|client| client.tenant != clients[0].tenant)
}

/// Whether a provider forgets what it is asked at this path. With its one key, all tenants share what it keeps:
/// files, batches, responses, assistants.
fn keeps_nothing(path: &str) -> bool {
    const PATHS: [&str; 10] = [
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/moderations",
        "/v1/rerank",
        "/v1/fim/completions",
        "/api/embeddings",
    ];
    const OF_GEMINI: [&str; 4] = [":countTokens", ":embedContent", ":batchEmbedContents", ":predict"];
    let gemini = path.starts_with("/v1beta/models/") || path.starts_with("/v1/models/");
    PATHS.contains(&path) || (gemini && OF_GEMINI.iter().any(|method| path.ends_with(method)))
}

/// Sends a request to `provider` as it is, and gives back what it says.
pub(super) async fn through(
    provider: &Arc<Provider>,
    method: Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    // It is never here as a whole, so it may be as long as the provider takes it.
    let body = body.into_data_stream().map_err(io::Error::other).boxed();
    let path_and_query = replay::path_of_first(path_below_version(uri).ok_or(Error::NoSuchPath)?)?;
    let passage = Passage { method, path_and_query, headers: headers.clone(), body };
    tracing::debug!(upstream = provider.name(), "passed through");
    let passed = provider.pass(passage).await.map_err(|error| Error::Pipeline(error.into()))?;
    Ok(response(passed))
}

/// A provider's answer, as it came.
pub(super) fn response(passed: Passed) -> Response {
    let Passed { status, headers, body } = passed;
    let mut response = Response::new(Body::from_stream(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What follows the version in the path, with the query but without a key in it. A path that climbs out of its
/// API is none.
fn path_below_version(uri: &Uri) -> Option<String> {
    let path = uri.path();
    let climbs = path.split('/').any(|step| {
        let step = step.to_ascii_lowercase().replace("%2e", ".");
        step == ".." || step == "." || step.contains("%2f") || step.contains("%5c") || step.contains('\\')
    });
    if climbs {
        return None;
    }
    let below = match APIS.iter().find(|(prefix, _)| path.starts_with(prefix))? {
        // Ollama's address has no version in it, and Google's other ones are beside it.
        ("/api/" | "/v1alpha/" | "/upload/v1beta/", _) => path,
        (prefix, _) => &path[prefix.len() - 1..],
    };
    let query = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query: Vec<&str> = query.filter(|pair| !pair.starts_with("key=")).collect();
    match query.is_empty() {
        true => Some(below.to_owned()),
        false => Some(format!("{below}?{}", query.join("&"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_version_and_their_key_and_never_climb() {
        let cases = [
            ("/v1/audio/speech", Some("/audio/speech")),
            ("/v1/files?limit=2&key=secret", Some("/files?limit=2")),
            ("/v1beta/models/x:countTokens?key=secret", Some("/models/x:countTokens")),
            ("/api/pull", Some("/api/pull")),
            ("/upload/v1beta/files", Some("/upload/v1beta/files")),
            ("/v1alpha/auth_tokens", Some("/v1alpha/auth_tokens")),
            ("/v1/../admin", None),
            ("/v1/%2E%2e/admin", None),
            ("/v1/a%2f..%2fb", None),
            ("/favicon.ico", None),
        ];
        for (uri, below) in cases {
            assert_eq!(path_below_version(&uri.parse().unwrap()).as_deref(), below, "{uri}");
        }
    }
}
