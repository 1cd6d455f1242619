//! Who calls: a key to a tenant.

use super::Client;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use std::sync::Arc;

/// The tenant of everyone, where no clients are configured.
const EVERYONE: &str = "default";

/// The tenant of the key that the request shows. Where no clients are configured, any key or none will do:
/// many SDKs insist on sending one, and the address is a loopback one.
pub(super) fn tenant(clients: &[Client], headers: &HeaderMap) -> Option<Arc<str>> {
    if clients.is_empty() {
        return Some(EVERYONE.into());
    }
    client(clients, headers).map(|client| client.tenant.as_str().into())
}

/// The client of the key that the request shows.
pub(super) fn client<'c>(clients: &'c [Client], headers: &HeaderMap) -> Option<&'c Client> {
    let shown = shown_key(headers)?;
    // Every key is compared, so that the time taken does not tell which one came close.
    clients.iter().fold(None, |found, client| {
        let matches = client.key.matches(shown);
        found.or(matches.then_some(client))
    })
}

/// The headers in which a key may come, beside a bearer token: Anthropic's, Gemini's, Azure's.
const KEY_HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// A bearer token as OpenAI's SDKs send it, or a header as the others do.
fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| KEY_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn client(key: &str, tenant: &str) -> Client {
        Client { name: tenant.into(), key: Secret::new(key), tenant: tenant.into() }
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn without_clients_any_key_or_none_will_do() {
        assert_eq!(tenant(&[], &HeaderMap::new()).as_deref(), Some("default"));
        assert_eq!(tenant(&[], &headers("authorization", "Bearer whatever")).as_deref(), Some("default"));
    }

    #[test]
    fn with_clients_the_key_decides() {
        let clients = [client("key-a", "a"), client("key-b", "b")];
        let cases = [
            (headers("authorization", "Bearer key-a"), Some("a")),
            (headers("authorization", "bearer key-b"), Some("b")),
            (headers("x-api-key", "key-b"), Some("b")),
            (headers("x-goog-api-key", "key-a"), Some("a")),
            (headers("api-key", "key-a"), Some("a")),
            (headers("authorization", "Bearer key-c"), None),
            (headers("authorization", "Bearer key-"), None),
            (headers("authorization", "Basic key-a"), None),
            (HeaderMap::new(), None),
        ];
        for (headers, expected) in cases {
            assert_eq!(tenant(&clients, &headers).as_deref(), expected, "{headers:?}");
        }
    }
}
