//! What a client sends beside the body, for those who choose among upstreams.

use super::read::visible;
use crate::upstream::{Envelope, Priority};
use axum::http::{HeaderMap, HeaderName, Uri};

/// By which a client names what a request belongs to, across programs.
pub(super) const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// By which clients name their conversations: ours, and what agents and gateways send; the first one counts.
const SESSIONS: [&str; 5] =
    ["x-weir-session", "x-session-id", "session-id", "session_id", "helicone-session-id"];
const PRIORITY: &str = "x-weir-priority";

/// The most headers that are looked at, and the longest. A client that sends more is not routed by them.
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 1 << 10;

/// The longest path, and the longest query.
const MAX_PATH_BYTES: usize = 1 << 10;

/// What `uri` and `headers` say.
pub(super) fn envelope(uri: &Uri, headers: &HeaderMap, correlation_id: &str) -> Envelope {
    let session = SESSIONS.iter().find_map(|name| visible(headers.get(*name)?));
    Envelope {
        correlation_id: correlation_id.to_owned(),
        session: session.map(str::to_owned),
        priority: priority(headers),
        client: None,
        address: None,
        path: bounded(uri.path()).to_owned(),
        query: query(uri),
        headers: open(headers),
    }
}

/// Whoever says nothing waits for the answer.
fn priority(headers: &HeaderMap) -> Priority {
    let said = headers.get(PRIORITY).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if said.eq_ignore_ascii_case(Priority::Background.name()) { Priority::Background } else { Priority::User }
}

/// The query without what may be a key; Gemini's clients show theirs there.
fn query(uri: &Uri) -> String {
    let pairs = bounded(uri.query().unwrap_or_default()).split('&');
    let open = pairs.filter(|pair| !is_secret(&pair.split('=').next().unwrap_or_default().to_lowercase()));
    open.collect::<Vec<_>>().join("&")
}

/// All headers but those that may show who someone is, and what is no text.
fn open(headers: &HeaderMap) -> Vec<(String, String)> {
    let told = headers.iter().filter(|(name, value)| {
        !is_secret(name.as_str()) && !value.is_sensitive() && value.len() <= MAX_HEADER_BYTES
    });
    let lines = told.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    lines.take(MAX_HEADERS).collect()
}

fn is_secret(name: &str) -> bool {
    ["authorization", "cookie", "secret", "password"].iter().any(|part| name.contains(part))
        || ["key", "token", "signature"].iter().any(|end| name.ends_with(end))
}

fn bounded(text: &str) -> &str {
    // A URI is ASCII.
    text.get(..MAX_PATH_BYTES).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, pairs: &[(&'static str, &'static str)]) -> Envelope {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        envelope(&uri.parse().unwrap(), &headers, "c")
    }

    #[test]
    fn what_routes_are_chosen_by_is_told_and_no_secret() {
        let told = of(
            "/v1/chat/completions?tier=a&key=secret&access_token=secret",
            &[
                ("authorization", "Bearer secret"),
                ("x-api-key", "secret"),
                ("x-amz-security-token", "secret"),
                ("cookie", "secret"),
                ("x-team", "search"),
                ("x-weir-session", "s"),
                ("x-session-id", "other"),
                ("x-weir-priority", "Background"),
            ],
        );
        assert!(!format!("{told:?}").contains("secret"), "{told:?}");
        assert_eq!((told.path.as_str(), told.query.as_str()), ("/v1/chat/completions", "tier=a"));
        assert_eq!((told.session.as_deref(), told.priority), (Some("s"), Priority::Background));
        assert!(told.headers.contains(&("x-team".to_owned(), "search".to_owned())));
        assert_eq!(of("/", &[]).priority, Priority::User);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let path = format!("/{}", "x".repeat(5000));
        assert_eq!(of(&path, &[]).path.len(), MAX_PATH_BYTES);
        let mut headers = HeaderMap::new();
        for nth in 0..200 {
            headers.insert(HeaderName::try_from(format!("x-{nth}")).unwrap(), "1".parse().unwrap());
        }
        assert_eq!(envelope(&Uri::from_static("/"), &headers, "c").headers.len(), MAX_HEADERS);
    }
}
