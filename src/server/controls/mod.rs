//! What a request says about the cache: `Cache-Control`, LiteLLM's field in the body, and the headers of other
//! gateways. It is told to the cache as [`Wishes`], and never sent on.

mod body;
mod directives;
mod rivals;
mod values;

pub(super) use body::strip;
pub(super) use rivals::Rival;

use crate::cache::Wishes;
use crate::chat::Request;
use crate::wire;
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, PRAGMA};

/// What a request wants of the cache, and in whose words.
#[derive(Debug, Default)]
pub(super) struct Controls {
    pub(super) wishes: Wishes,
    /// Those whose headers it used: they are answered in their own words, too.
    pub(super) rivals: Vec<Rival>,
}

impl Controls {
    /// Reads the headers; those of other gateways only with `compat`.
    pub(super) fn of(headers: &HeaderMap, compat: bool) -> Self {
        let mut controls = Self::default();
        for line in headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok()) {
            directives::read(line, &mut controls.wishes);
        }
        // What came before `Cache-Control` counts where there is none.
        if let (false, Some(line)) = (headers.contains_key(CACHE_CONTROL), headers.get(PRAGMA)) {
            directives::read(line.to_str().unwrap_or_default(), &mut controls.wishes);
        }
        for (name, value) in headers.iter().filter(|_| compat) {
            controls.obey(name.as_str(), value.as_bytes());
        }
        controls
    }

    fn obey(&mut self, name: &str, value: &[u8]) {
        // Names may be written in any letters: what is lost on the way makes two of them one, so nothing is.
        let value = match std::str::from_utf8(value) {
            Ok(value) => value.to_owned(),
            Err(_) => value.escape_ascii().to_string(),
        };
        let rival = rivals::obey(name, &value, &mut self.wishes);
        self.rivals.extend(rival.filter(|rival| !self.rivals.contains(rival)));
    }

    /// Takes what `request` itself says about the cache out of it.
    pub(super) fn take_from(&mut self, request: &mut Request) -> Result<(), wire::Error> {
        body::take(request, &mut self.wishes)
    }
}

/// Takes the headers of other gateways out of those that are sent on.
pub(super) fn strip_headers(headers: &mut HeaderMap, compat: bool) {
    if compat {
        let theirs: Vec<_> =
            headers.keys().filter(|name| rivals::is_control(name.as_str())).cloned().collect();
        theirs.iter().for_each(|name| drop(headers.remove(name)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn all_lines_count_and_the_strictest_of_them_holds() {
        let said = headers(&[
            ("cache-control", "max-age=60"),
            ("cache-control", "no-cache"),
            ("pragma", "no-store"),
            ("cf-aig-cache-ttl", "90"),
            ("x-bf-cache-ttl", "1m"),
            ("cf-aig-cache-key", "a"),
        ]);
        let Controls { wishes, rivals } = Controls::of(&said, true);
        assert_eq!((wishes.read, wishes.write), (false, true));
        assert_eq!(wishes.max_age.map(|age| age.as_secs()), Some(60));
        assert_eq!(wishes.ttl.map(|age| age.as_secs()), Some(60));
        assert_eq!(wishes.partitions.as_slice(), [("cloudflare".into(), "a".to_owned())]);
        assert_eq!(rivals.len(), 2);
        let plain = Controls::of(&said, false);
        assert_eq!(
            (plain.wishes.ttl, plain.rivals.len()),
            (None, 0),
            "the others' headers are strangers then"
        );
        assert!(!Controls::of(&headers(&[("pragma", "no-cache")]), true).wishes.read);
    }

    #[test]
    fn what_is_not_text_still_splits() {
        let of = |bytes: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("cf-aig-cache-key", HeaderValue::from_bytes(bytes).unwrap());
            Controls::of(&headers, true).wishes
        };
        assert_ne!(of(b"\xff"), of(b"\xfe"));
    }

    #[test]
    fn only_what_steers_the_cache_is_taken_out() {
        let mut sent =
            headers(&[("x-portkey-config", "{}"), ("x-portkey-trace-id", "1"), ("cf-aig-skip-cache", "1")]);
        let mut untouched = sent.clone();
        strip_headers(&mut sent, true);
        strip_headers(&mut untouched, false);
        assert_eq!((sent.len(), untouched.len()), (1, 3));
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            ".*".prop_map(Value::from),
            Just(json!([{}])),
        ]
    }

    proptest! {
        /// Whatever is said, nothing breaks, and the request loses what is meant for us and no more.
        #[test]
        fn nonsense_breaks_nothing(
            name in prop::sample::select(vec![
                "cache-control", "pragma", "x-portkey-cache", "x-portkey-config", "helicone-cache-enabled",
                "cf-aig-cache-ttl", "cf-aig-cache-key", "x-bf-cache-ttl", "x-bf-cache-threshold",
                "x-bf-cache-type", "x-vsr-cache-control",
            ]),
            bytes in prop::collection::vec(prop_oneof![Just(b'='), Just(b','), Just(b'9'), Just(b'"'), 32..=126u8, 128..=255u8], 0..40),
            key in prop::sample::select(vec!["no-cache", "no-store", "ttl", "s-maxage", "namespace", "use-cache"]),
            value in value(),
        ) {
            let mut said = HeaderMap::new();
            said.insert(name, HeaderValue::from_bytes(&bytes).unwrap());
            let mut controls = Controls::of(&said, true);
            let body = json!({ "model": "m", "cache": { key: value }, "x": 1 });
            let mut request = Request { extra: body.as_object().unwrap().clone(), ..Request::default() };
            request.received.body = body.to_string().into();
            controls.take_from(&mut request).unwrap();
            prop_assert_eq!(request.received.body, r#"{"model":"m","x":1}"#);
        }
    }
}
