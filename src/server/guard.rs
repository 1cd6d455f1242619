//! Who may look at and change what is kept here: no page of another site, and each tenant its own.
//!
//! A browser on the same machine reaches a loopback address, and a page that it shows may send requests there: with an
//! `Origin` of its own, or, after its name has been made to point here, with that name as the `Host`.

use super::error::Error;
use super::{Client, auth};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use std::net::IpAddr;
use std::sync::Arc;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whose entries the caller sees: those of its tenant, or all (`None`) where no clients are configured.
pub(super) fn admit(clients: &[Client], headers: &HeaderMap) -> Result<Option<Arc<str>>, Error> {
    if is_of_another_site(headers) || (clients.is_empty() && !is_asked_by_address(headers)) {
        return Err(Error::CrossSite);
    }
    let tenant = auth::tenant(clients, headers).ok_or(Error::Unauthorized)?;
    Ok((!clients.is_empty()).then_some(tenant))
}

/// What a browser says about the page that sends a request. Nothing else says anything.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = text(&SEC_FETCH_SITE).is_some_and(|site| !matches!(site, "same-origin" | "none"));
    let host = text(&HOST).unwrap_or_default();
    let origin = text(&ORIGIN).is_some_and(|origin| {
        let shown = origin.split_once("://").map(|(_, host)| host);
        host.is_empty() || shown.is_none_or(|shown| !shown.eq_ignore_ascii_case(host))
    });
    site || origin
}

/// A name could be anyone's that has been made to point here; an address is nobody's but ours.
fn is_asked_by_address(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_page_of_another_site_is_kept_out() {
        let cases = [
            (&[("host", "127.0.0.1:4100")][..], true),
            (&[("host", "[::1]:4100")], true),
            (&[("host", "localhost:4100")], true),
            (&[], true),
            (&[("host", "127.0.0.1:4100"), ("origin", "http://127.0.0.1:4100")], true),
            (&[("host", "127.0.0.1:4100"), ("sec-fetch-site", "same-origin")], true),
            (&[("host", "127.0.0.1:4100"), ("sec-fetch-site", "none")], true),
            (&[("host", "127.0.0.1:4100"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "127.0.0.1:4100"), ("sec-fetch-site", "same-site")], false),
            (&[("host", "127.0.0.1:4100"), ("origin", "http://evil.example")], false),
            (&[("host", "127.0.0.1:4100"), ("origin", "http://127.0.0.1:3000")], false),
            (&[("host", "127.0.0.1:4100"), ("origin", "null")], false),
            // A name that has been made to point here.
            (&[("host", "evil.example:4100"), ("origin", "http://evil.example:4100")], false),
            (&[("host", "evil.example:4100")], false),
        ];
        for (pairs, is_in) in cases {
            assert_eq!(admit(&[], &headers(pairs)).is_ok(), is_in, "{pairs:?}");
        }
    }

    #[test]
    fn with_clients_the_key_tells_whose_entries_are_seen() {
        let client = Client { name: "a".into(), key: Secret::new("key-a"), tenant: "a".into() };
        let named = headers(&[("host", "weir.example"), ("x-api-key", "key-a")]);
        assert_eq!(admit(std::slice::from_ref(&client), &named).unwrap().as_deref(), Some("a"));
        assert!(matches!(admit(&[client], &headers(&[])), Err(Error::Unauthorized)));
        assert_eq!(admit(&[], &headers(&[])).unwrap(), None);
    }
}
