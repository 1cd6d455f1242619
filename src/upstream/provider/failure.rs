//! What a provider says when it refuses: its status and body, to a [`Kind`] and a message without secrets.

use super::Kind;
use crate::secret::Secret;
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;
use std::time::Duration;

/// The longest error body we read.
pub(super) const MAX_REPORT_BYTES: usize = 64 << 10;

/// Anything shorter is no secret, and replacing it would only garble the message.
const SHORTEST_SECRET: usize = 4;

/// The longest message we pass on.
const MAX_MESSAGE_CHARS: usize = 500;

/// A refusal, taken apart.
pub(super) struct Report {
    status: u16,
    message: String,
    code: String,
}

impl Report {
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = if body["error"].is_object() { &body["error"] } else { &body };
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        let code = if error["code"].is_string() { text("code") } else { text("type") };
        Self { status, message: text("message"), code }
    }

    pub(super) fn kind(&self) -> Kind {
        match (self.status, self.code.as_str()) {
            (_, "insufficient_quota" | "billing_error" | "billing_not_active") | (402, _) => Kind::Billing,
            (_, "context_length_exceeded") => Kind::ContextOverflow,
            // A 404 for a wrong base URL looks the same; either way another upstream may know the model.
            (_, "model_not_found") | (404, _) => Kind::ModelNotFound,
            (401 | 403, _) => Kind::Auth,
            (408 | 499 | 504 | 522 | 524, _) => Kind::Timeout,
            (429, _) => Kind::RateLimit,
            (503 | 529, _) => Kind::Overloaded,
            (500.., _) => Kind::Server,
            // We follow no redirects: the key would travel along.
            (300..=399, _) => Kind::BadResponse,
            _ => Kind::BadRequest,
        }
    }

    /// In words. Only a fault of the request itself is told in the provider's own: those of other kinds
    /// may speak of keys and accounts.
    pub(super) fn message(&self, secrets: &[Secret]) -> String {
        let kind = self.kind();
        let told = matches!(kind, Kind::BadRequest | Kind::ContextOverflow | Kind::ModelNotFound);
        if !told || self.message.is_empty() {
            return format!("answered with status {} ({})", self.status, kind.name());
        }
        // Before it is cut: half a key is told too much as well.
        let known = secrets.iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST_SECRET);
        let message = known.fold(self.message.clone(), |message, secret| message.replace(secret, "***"));
        message.chars().take(MAX_MESSAGE_CHARS).collect()
    }
}

/// How long the provider asks us to wait.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(RETRY_AFTER.as_str()))?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The body, unless it breaks off or is longer than `limit`.
pub(super) async fn read_bounded(mut response: Response, limit: usize) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.ok()? {
        if body.len() + piece.len() > limit {
            return None;
        }
        body.extend_from_slice(&piece);
    }
    Some(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_codes_tell_the_kind() {
        let code = |code: &str| format!(r#"{{"error":{{"message":"m","type":"t","code":"{code}"}}}}"#);
        let cases = [
            (400, String::new(), Kind::BadRequest),
            (400, code("context_length_exceeded"), Kind::ContextOverflow),
            (401, String::new(), Kind::Auth),
            (402, String::new(), Kind::Billing),
            (404, code("model_not_found"), Kind::ModelNotFound),
            (422, String::new(), Kind::BadRequest),
            (429, code("rate_limit_exceeded"), Kind::RateLimit),
            (429, code("insufficient_quota"), Kind::Billing),
            (500, "<html>".to_owned(), Kind::Server),
            (503, String::new(), Kind::Overloaded),
            (504, String::new(), Kind::Timeout),
            (529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#.to_owned(), Kind::Overloaded),
            (302, String::new(), Kind::BadResponse),
        ];
        for (status, body, kind) in cases {
            assert_eq!(Report::read(status, body.as_bytes()).kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn messages_never_hold_a_key() {
        let body = br#"{"error":{"message":"the key sk-live-1234 is wrong"}}"#;
        let secrets = [Secret::new("x"), Secret::new("sk-live-1234")];
        assert_eq!(Report::read(401, body).message(&secrets), "answered with status 401 (auth)");
        assert_eq!(Report::read(400, body).message(&secrets), "the key *** is wrong");
        let late =
            format!(r#"{{"error":{{"message":"{}sk-live-1234"}}}}"#, "-".repeat(MAX_MESSAGE_CHARS - 4));
        assert!(
            !Report::read(400, late.as_bytes()).message(&secrets).contains("sk"),
            "not even a piece of it"
        );
    }

    #[test]
    fn the_wait_is_read_in_either_unit() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        assert_eq!(retry_after(&headers("retry-after", "2")), Some(Duration::from_secs(2)));
        assert_eq!(retry_after(&headers("retry-after-ms", "250")), Some(Duration::from_millis(250)));
        assert_eq!(retry_after(&headers("retry-after", "-1")), None);
        assert_eq!(retry_after(&headers("x", "1")), None);
    }
}
