//! What a provider says when it refuses: its status and body, to a [`Kind`] and a message without secrets.

use super::super::Names;
use super::date;
use super::{Error, Kind, wait};
use crate::clock::{Clock as _, SystemClock};
use crate::secret::Secret;
use crate::secret::redact;
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::{DATE, HeaderMap};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The longest error body we read.
pub(super) const MAX_REPORT_BYTES: usize = 64 << 10;

/// The longest message we pass on.
const MAX_MESSAGE_CHARS: usize = 500;

/// The status of a reply that is none, where it does not say another one.
const ALL_IS_WELL: u16 = 200;

/// A refusal, taken apart.
#[derive(Debug, Default)]
pub(super) struct Report {
    status: u16,
    message: String,
    /// Every name it gives to what is wrong, in small letters: code, type, status, reason.
    names: Vec<String>,
    own: Names,
    /// The error itself, for what it says about a time to come back.
    error: Value,
}

impl Report {
    /// Understands the shapes in use: OpenAI's `{"error": {"message", "type", "code"}}`, Anthropic's and
    /// Gemini's likenesses of it (the latter also in a list), Ollama's `{"error": "…"}`, FastAPI's
    /// `{"detail": …}`, and a bare `{"message"}`.
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self::of(status, body.as_array().and_then(|items| items.first()).unwrap_or(&body))
    }

    fn of(status: u16, body: &Value) -> Self {
        let error = if body["error"].is_object() { &body["error"] } else { body };
        let details: &[Value] = error["details"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = ["code", "type", "status"].iter().map(|field| &error[field]);
        let reasons = details.iter().map(|detail| &detail["reason"]);
        Self {
            status,
            message: message_of(body, error),
            names: named.chain(reasons).filter_map(Value::as_str).map(str::to_lowercase).collect(),
            own: Names { code: plain_name(&error["code"]), param: plain_name(&error["param"]) },
            error: error.clone(),
        }
    }

    /// The error in a reply that says that all is well, if there is one: beside the answer, in the response that
    /// an event of OpenAI's tells of, or that event itself.
    pub(super) fn in_reply(body: &[u8]) -> Option<Self> {
        let read: Value = serde_json::from_slice(body).ok()?;
        let read = if let Value::Array(items) = &read { items.first()? } else { &read };
        let is_error = |value: &Value| value.is_object() || value.is_string();
        let holder = [read, &read["response"]].into_iter().find(|holder| is_error(&holder["error"]));
        let holder = holder.or_else(|| Some(read).filter(|event| event["type"] == "error"))?;
        // Some put the status that they would have answered with into the error.
        let status = holder["error"]["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        Some(Self::of(status.filter(|code| (400..600).contains(code)).unwrap_or(ALL_IS_WELL), holder))
    }

    /// The failure that it tells of.
    pub(super) fn error(&self, upstream: &Arc<str>, headers: &HeaderMap, secrets: &[Secret]) -> Error {
        Error {
            status: Some(self.status).filter(|status| *status != ALL_IS_WELL),
            names: Box::new(self.names(secrets)),
            retry_after: self.retry_after(headers),
            ..Error::new(self.kind(), upstream, self.message(secrets))
        }
    }

    pub(super) fn kind(&self) -> Kind {
        let by_name = self.names.iter().find_map(|name| kind_by_name(name));
        by_name.or_else(|| self.kind_by_words()).unwrap_or_else(|| self.kind_by_status())
    }

    /// Where neither status nor names tell one fault of a request from another.
    fn kind_by_words(&self) -> Option<Kind> {
        const TOO_LONG: [&str; 6] = [
            "prompt is too long",
            "context length",
            "context window",
            "maximum context",
            "exceeds the maximum number of tokens",
            "exceed context limit",
        ];
        const UNPAID: [&str; 5] =
            ["credit balance", "insufficient credit", "billing", "insufficient funds", "payment required"];
        let words = self.message.to_lowercase();
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
        match self.status {
            // A plan's hours are used up, and come back by themselves.
            402 if says(&["usage window", "usage limit", "rate limit"]) => Some(Kind::RateLimit),
            401 | 403 if says(&UNPAID) => Some(Kind::Billing),
            200 | 400 | 413 | 422 if says(&TOO_LONG) => Some(Kind::ContextOverflow),
            200 | 400 | 403 if says(&["credit balance is too low"]) => Some(Kind::Billing),
            200 | 400 if says(&["model"]) && says(&["not found", "does not exist"]) => {
                Some(Kind::ModelNotFound)
            }
            _ => None,
        }
    }

    fn kind_by_status(&self) -> Kind {
        match self.status {
            402 => Kind::Billing,
            // A 404 for a wrong base URL looks the same; either way another upstream may know the model.
            404 => Kind::ModelNotFound,
            401 | 403 => Kind::Auth,
            408 | 499 | 504 | 522 | 524 => Kind::Timeout,
            429 => Kind::RateLimit,
            503 | 529 => Kind::Overloaded,
            500.. => Kind::Server,
            400..=499 => Kind::BadRequest,
            // We follow no redirects: the key would travel along. And an error in a reply that says that all
            // is well, and gives it no name that we know, may be anything.
            _ => Kind::BadResponse,
        }
    }

    /// In words: the provider's own, but for keys and accounts, of which it may tell more than a client
    /// should know.
    pub(super) fn message(&self, secrets: &[Secret]) -> String {
        let kind = self.kind();
        if matches!(kind, Kind::Auth | Kind::Billing) || self.message.trim().is_empty() {
            return format!("answered with status {} ({})", self.status, kind.name());
        }
        // First of all, since a key may be hidden behind them.
        let plain = self.message.replace(['\n', '\r', '\t'], " ");
        let plain: String = plain.chars().filter(|c| !c.is_control()).collect();
        // Before it is cut: half a key is told too much as well.
        redact(&plain, secrets).chars().take(MAX_MESSAGE_CHARS).collect()
    }

    /// What the provider calls the failure, and the field that it finds at fault.
    pub(super) fn names(&self, secrets: &[Secret]) -> Names {
        let open = |name: &Option<String>| name.clone().filter(|name| redact(name, secrets) == *name);
        Names { code: open(&self.own.code), param: open(&self.own.param) }
    }

    /// How long the provider asks us to wait, in headers or in the body. What its words and its limits say counts
    /// where it is about them.
    pub(super) fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let now = hour(headers);
        let kind = self.kind();
        let limited = kind == Kind::RateLimit;
        let said = wait::in_headers(&text, now).or_else(|| wait::in_fields(&self.error, now));
        let words = || Some(&self.message).filter(|_| limited || kind == Kind::Overloaded);
        let limits = || limited.then(|| wait::of_limits(&text, now)).flatten();
        said.or_else(|| wait::in_words(words()?)).or_else(limits)
    }
}

/// The names that say more than the status does.
fn kind_by_name(name: &str) -> Option<Kind> {
    Some(match name {
        "insufficient_quota"
        | "insufficient_balance"
        | "insufficient_credits"
        | "payment_required"
        | "billing_error"
        | "billing_not_active" => Kind::Billing,
        "context_length_exceeded" | "model_context_window_exceeded" => Kind::ContextOverflow,
        "model_not_found" | "not_found_error" => Kind::ModelNotFound,
        "authentication_error"
        | "permission_error"
        | "invalid_api_key"
        | "api_key_invalid"
        | "unauthenticated"
        | "permission_denied" => Kind::Auth,
        "rate_limit_error"
        | "rate_limit_exceeded"
        | "resource_exhausted"
        | "usage_limit_reached"
        | "throttlingexception" => Kind::RateLimit,
        "overloaded_error" | "unavailable" | "engine_overloaded" | "server_overloaded" | "slow_down" => {
            Kind::Overloaded
        }
        "timeout_error" | "deadline_exceeded" => Kind::Timeout,
        _ => return None,
    })
}

fn message_of(body: &Value, error: &Value) -> String {
    // A list of what is wrong with each field, as FastAPI gives it.
    let list = || {
        let items = body["detail"].as_array()?;
        Some(items.iter().filter_map(|item| item["msg"].as_str()).collect::<Vec<_>>().join("; "))
    };
    let text = [&error["message"], &body["error"], &body["detail"], &body["detail"]["message"]];
    text.into_iter().find_map(Value::as_str).map(str::to_owned).or_else(list).unwrap_or_default()
}

/// The longest name that is no sentence: `messages[12].content[3].image_url.url`
const MAX_NAME: usize = 64;

fn plain_name(value: &Value) -> Option<String> {
    let name = value.as_str().filter(|name| (1..=MAX_NAME).contains(&name.len()))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte);
    name.bytes().all(plain).then(|| name.to_owned())
}

/// The time by the provider's own clock where it tells it: ours may be wrong.
pub(super) fn hour(headers: &HeaderMap) -> u64 {
    let theirs = headers.get(DATE).and_then(|value| value.to_str().ok()).and_then(date::parse);
    theirs.unwrap_or_else(|| SystemClock.now().as_secs())
}

/// The body, unless it breaks off, is longer than `limit`, or pauses for longer than `pause` once it has begun.
pub(super) async fn read_bounded(mut response: Response, limit: usize, pause: Duration) -> Option<Bytes> {
    let mut body = BytesMut::new();
    let mut next = response.chunk().await.ok()?;
    while let Some(piece) = next {
        if body.len() + piece.len() > limit {
            return None;
        }
        body.extend_from_slice(&piece);
        next = timeout(pause, response.chunk()).await.ok()?.ok()?;
    }
    Some(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn anthropic(kind: &str, message: &str) -> String {
        json!({ "type": "error", "error": { "type": kind, "message": message } }).to_string()
    }

    fn gemini(status: &str, details: &Value) -> String {
        json!({ "error": { "code": 400, "message": "m", "status": status, "details": details } }).to_string()
    }

    #[test]
    fn statuses_and_codes_tell_the_kind() {
        let code = |code: &str| format!(r#"{{"error":{{"message":"m","type":"t","code":"{code}"}}}}"#);
        let invalid = |message: &str| anthropic("invalid_request_error", message);
        let reason = json!([{ "@type": "x/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID" }]);
        let cases = [
            (400, String::new(), Kind::BadRequest),
            (400, code("context_length_exceeded"), Kind::ContextOverflow),
            (401, String::new(), Kind::Auth),
            (402, String::new(), Kind::Billing),
            (404, code("model_not_found"), Kind::ModelNotFound),
            (413, String::new(), Kind::BadRequest),
            (413, code("rate_limit_exceeded"), Kind::RateLimit),
            (422, r#"{"detail":"no"}"#.to_owned(), Kind::BadRequest),
            (429, code("rate_limit_exceeded"), Kind::RateLimit),
            (429, code("insufficient_quota"), Kind::Billing),
            (500, "<html>".to_owned(), Kind::Server),
            (503, String::new(), Kind::Overloaded),
            (504, String::new(), Kind::Timeout),
            (302, String::new(), Kind::BadResponse),
            (529, anthropic("overloaded_error", "m"), Kind::Overloaded),
            (400, invalid("prompt is too long: 200001 tokens > 200000 maximum"), Kind::ContextOverflow),
            (400, invalid("Your credit balance is too low to access the API"), Kind::Billing),
            (402, r#"{"error":{"message":"Your usage window has ended, try again in 3 hours"}}"#.to_owned(), Kind::RateLimit),
            (401, r#"{"error":{"message":"Your billing details need attention"}}"#.to_owned(), Kind::Billing),
            (429, code("usage_limit_reached"), Kind::RateLimit),
            (400, invalid("messages: at least one message is required"), Kind::BadRequest),
            (403, anthropic("permission_error", "m"), Kind::Auth),
            (429, anthropic("rate_limit_error", "m"), Kind::RateLimit),
            (429, gemini("RESOURCE_EXHAUSTED", &json!([])), Kind::RateLimit),
            (400, gemini("INVALID_ARGUMENT", &reason), Kind::Auth),
            (400, format!("[{}]", gemini("INVALID_ARGUMENT", &reason)), Kind::Auth),
            (400, gemini("INVALID_ARGUMENT", &json!([])), Kind::BadRequest),
            (503, gemini("UNAVAILABLE", &json!([])), Kind::Overloaded),
            (404, r#"{"error":"model \"x\" not found, try pulling it first"}"#.to_owned(), Kind::ModelNotFound),
            (
                400,
                json!({ "object": "error", "message": "This model's maximum context length is 8192 tokens." })
                    .to_string(),
                Kind::ContextOverflow,
            ),
        ];
        for (status, body, kind) in cases {
            assert_eq!(Report::read(status, body.as_bytes()).kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn an_error_in_a_reply_that_says_all_is_well_is_found() {
        let kind = |body: &str| Report::in_reply(body.as_bytes()).map(|report| report.kind());
        assert_eq!(kind(r#"{"choices":[]}"#), None);
        assert_eq!(kind(r#"{"choices":[],"error":null}"#), None);
        assert_eq!(kind("not json"), None);
        assert_eq!(kind(r#"{"error":{"code":429,"message":"m"}}"#), Some(Kind::RateLimit));
        assert_eq!(kind(r#"{"error":{"code":7,"message":"m"}}"#), Some(Kind::BadResponse));
        assert_eq!(kind(&anthropic("overloaded_error", "m")), Some(Kind::Overloaded));
        assert_eq!(kind(r#"{"error":"model 'x' not found"}"#), Some(Kind::ModelNotFound));
        assert_eq!(kind(r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#), Some(Kind::Overloaded));
    }

    #[test]
    fn every_shape_of_an_error_has_its_words() {
        for (body, words) in [
            (r#"{"error":{"message":"m","type":"t","code":null}}"#, "m"),
            (r#"{"type":"error","error":{"type":"t","message":"m"}}"#, "m"),
            (r#"[{"error":{"code":400,"message":"m","status":"S"}}]"#, "m"),
            (r#"{"error":"m"}"#, "m"),
            (r#"{"detail":"m"}"#, "m"),
            (r#"{"detail":[{"loc":["body","x"],"msg":"m"},{"msg":"n"}]}"#, "m; n"),
            (r#"{"detail":{"message":"m"}}"#, "m"),
            (r#"{"object":"error","message":"m"}"#, "m"),
            (r#"{"error":{"message":"a\u0007b\nc"}}"#, "ab c"),
            ("", "answered with status 400 (bad_request)"),
            ("[]", "answered with status 400 (bad_request)"),
            ("7", "answered with status 400 (bad_request)"),
            (r#"{"error":{"message":" "}}"#, "answered with status 400 (bad_request)"),
        ] {
            assert_eq!(Report::read(400, body.as_bytes()).message(&[]), words, "{body}");
        }
    }

    #[test]
    fn messages_never_hold_a_key() {
        let body = br#"{"error":{"message":"the key pass-1234 is wrong, or sk-other"}}"#;
        let secrets = [Secret::new("x"), Secret::new("pass-1234")];
        assert_eq!(Report::read(401, body).message(&secrets), "answered with status 401 (auth)");
        for status in [400, 429, 500] {
            assert_eq!(Report::read(status, body).message(&secrets), "the key *** is wrong, or ***");
        }
        let late =
            format!(r#"{{"error":{{"message":"{}sk-live-1234"}}}}"#, ".".repeat(MAX_MESSAGE_CHARS - 4));
        let message = Report::read(400, late.as_bytes()).message(&secrets);
        assert!(!message.contains("sk"), "not even a piece of it");
        let hidden = br#"{"error":{"message":"s\u0000k-live\u0007-1234"}}"#;
        assert_eq!(Report::read(400, hidden).message(&secrets), "***");
    }

    #[test]
    fn plain_names_are_told_and_nothing_else() {
        let told = |code: &str, param: &str| {
            let body = json!({ "error": { "message": "m", "code": code, "param": param } }).to_string();
            let Names { code, param } = Report::read(400, body.as_bytes()).names(&[Secret::new("pass-1234")]);
            (code, param)
        };
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            told("insufficient_quota", "messages[2].content"),
            (name("insufficient_quota"), name("messages[2].content"))
        );
        assert_eq!(told("pass-1234", "the key is wrong"), (None, None));
        assert_eq!(told("sk-live-1234", ""), (None, None));
        assert_eq!(Report::read(400, br#"{"error":{"code":400}}"#).names(&[]), Names::default());
    }

    #[test]
    fn the_wait_is_read_in_every_form() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        let wait = |pairs: &[(&'static str, &'static str)]| Report::default().retry_after(&headers(pairs));
        assert_eq!(wait(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(
            wait(&[("retry-after-ms", "250"), ("retry-after", "9")]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(wait(&[("retry-after", "-1")]), None);
        assert_eq!(wait(&[("x", "1")]), None);
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), date]),
            Some(Duration::from_secs(30))
        );
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT")]), Some(Duration::ZERO));
        let info = json!([{ "@type": "x" }, { "@type": "x/google.rpc.RetryInfo", "retryDelay": "7.5s" }]);
        let report = Report::read(429, gemini("RESOURCE_EXHAUSTED", &info).as_bytes());
        assert_eq!(report.retry_after(&HeaderMap::new()), Some(Duration::from_millis(7500)));
        assert_eq!(report.retry_after(&headers(&[("retry-after", "1")])), Some(Duration::from_secs(1)));
        // What is always told about limits says nothing where they are not the trouble.
        let limits = headers(&[("x-ratelimit-reset-requests", "6m0s")]);
        let words = json!({ "error": { "message": "Please try again in 20s." } }).to_string();
        for (status, body, seconds) in [
            (429, "", Some(360)),
            (500, "", None),
            (429, &*words, Some(20)),
            (503, &*words, Some(20)),
            (500, &*words, None),
        ] {
            let wait = Report::read(status, body.as_bytes()).retry_after(&limits);
            assert_eq!(wait, seconds.map(Duration::from_secs), "{status} {body}");
        }
    }
}
