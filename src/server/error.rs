//! The only place where an error becomes HTTP.

use super::read::Asker;
use super::{chain, embed, store};
use crate::cache::keeper::Fault;
use crate::limits::{Refusal, What};
use crate::upstream::Kind;
use crate::wire::{Failure, error_body};
use crate::{pipeline, upstream, wire};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::time::Duration;

/// What the way to an answer is called where no route has a name.
const ROUTE: &str = "chain";

/// What can go wrong with a request.
#[derive(Debug)]
pub(super) enum Error {
    /// The key is missing or unknown.
    Unauthorized,
    /// The body is longer than allowed.
    BodyTooLarge(usize),
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body broke off.
    BodyCut,
    /// A header has a value that cannot be used.
    BadHeader(&'static str),
    /// `x-weir-tags` cannot be read.
    BadTags,
    /// The body could not be understood.
    Wire(wire::Error),
    /// There is no answer.
    Pipeline(pipeline::Error),
    /// The answer broke off, or cannot be given whole.
    Incomplete(String),
    /// No answer within the time a request may take.
    Deadline(Duration),
    /// A text could not be embedded.
    Embed(pipeline::EmbedError),
    /// There is no such model.
    NoSuchModel(String),
    /// An answer that a client wants to go on from is kept by nobody.
    NoSuchResponse,
    /// Feedback about an answer that nobody remembers.
    NoSuchAnswer,
    /// Neither a request of late nor an answer that is kept.
    NothingToExplain,
    /// Feedback that cannot be understood.
    BadFeedback,
    /// A provider would show what it keeps to all tenants.
    Shared,
    /// A page of another site would look at, or change, what is kept.
    CrossSite,
    /// Where there are several tenants, nothing is imported.
    SharedImport,
    /// What is to be done with the chain cannot be done.
    Chain(chain::Fault),
    /// Where there are several tenants, the rules of all are changed in files only.
    SharedRules,
    /// Rules, or a question about them, that cannot be used.
    BadRules(String),
    /// What is asked of the cache cannot be done.
    Keeper(Fault),
    /// What is to be done with the files of the store cannot be done.
    Store(store::Fault),
    /// Not a path of ours, and of no provider.
    NoSuchPath,
    /// A path of ours, and another method.
    NoSuchMethod,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Keeper(fault)
    }
}

impl Error {
    /// The stable name that a program can act on.
    pub(super) fn code(&self) -> &'static str {
        Failed::from(self).code
    }
}

/// An error as clients see it.
pub(super) struct Failed {
    status: StatusCode,
    /// The coarse kind, from OpenAI's list; or our own, where it has none.
    kind: &'static str,
    /// The stable name that a program can act on.
    code: &'static str,
    /// What the provider calls it, in place of `code`.
    told: Option<String>,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
    /// Several upstreams were asked already: another try of the client's only adds to the storm.
    tried_enough: bool,
    /// Who was asked, where somebody was.
    summary: Option<Summary>,
}

/// How a request went from one to the next, without a word of what they said.
struct Summary {
    route: String,
    attempts: Vec<Value>,
}

impl Failed {
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            code,
            told: None,
            message: message.into(),
            param: None,
            retry_after: None,
            tried_enough: false,
            summary: None,
        }
    }

    pub(super) fn invalid(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }

    /// The same, with a time to come back.
    pub(super) fn come_back_in(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The failure that the codecs know how to tell.
    pub(super) fn failure(&self, request_id: &str) -> Failure {
        Failure {
            status: self.status.as_u16(),
            kind: self.kind,
            code: self.told.clone().map_or(Cow::Borrowed(self.code), Cow::Owned),
            message: self.message.clone(),
            param: self.param.clone(),
            request_id: request_id.to_owned(),
            retry_after_ms: self.retry_after.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
        }
    }

    /// The response that tells it to a client of `protocol`.
    pub(super) fn respond(&self, asker: &Asker) -> Response {
        let mut body = error_body(asker.protocol, &self.failure(&asker.request_id));
        if let (Some(summary), Some(body)) = (&self.summary, body.as_object_mut()) {
            body.insert("weir".to_owned(), self.summarised(summary, &asker.correlation_id));
        }
        let body = body.to_string();
        let mut response = (self.status, [(CONTENT_TYPE, "application/json")], body).into_response();
        self.advise(response.headers_mut());
        response
    }

    fn summarised(&self, Summary { route, attempts }: &Summary, correlation_id: &str) -> Value {
        // Of the last one: whoever it was, it was the last hope.
        let family = attempts.last().map(|attempt| &attempt["provider_family"]);
        json!({
            "route": route,
            "provider_family": family,
            "retry_after_ms": self.retry_after.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
            "correlation_id": correlation_id,
            "attempts": attempts,
        })
    }

    /// When to come back, and whether.
    fn advise(&self, headers: &mut HeaderMap) {
        if let Some(wait) = self.retry_after {
            // Rounded up: who comes back too early is turned away again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            if let Ok(millis) = u64::try_from(wait.as_millis()) {
                headers.insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(millis));
            }
        }
        if self.tried_enough {
            headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
        }
    }
}

impl From<&Error> for Failed {
    fn from(error: &Error) -> Self {
        match error {
            Error::Unauthorized => Self::new(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "invalid_api_key",
                "the API key is missing or not one of the configured clients'",
            ),
            Error::BodyTooLarge(limit) => Self::invalid(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("the request body is longer than {limit} bytes (server.max_body_mb)"),
            ),
            Error::BodyTimeout => Self::invalid(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                "the request body did not arrive in time",
            ),
            Error::BodyCut => {
                Self::invalid(StatusCode::BAD_REQUEST, "body_cut", "the request body broke off")
            }
            Error::BadHeader(name) => Self::invalid(
                StatusCode::BAD_REQUEST,
                "invalid_header",
                format!("the header {name} must be 1 to 256 visible ASCII characters"),
            ),
            Error::BadTags => Self::invalid(
                StatusCode::BAD_REQUEST,
                "invalid_header",
                "the header x-weir-tags must be at most 16 tags of at most 64 visible ASCII characters, \
                 comma-separated; those that begin with \"state:\" come from x-weir-state",
            ),
            Error::Wire(error) => Self {
                param: error.field.clone(),
                ..Self::invalid(StatusCode::BAD_REQUEST, "invalid_request", &error.message)
            },
            Error::Pipeline(error) => unanswered(error),
            Error::Incomplete(message) => {
                Self::new(StatusCode::BAD_GATEWAY, "api_error", "upstream_cut", message)
            }
            Error::Deadline(limit) => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout_error",
                "request_timeout",
                format!("no answer within {} s (server.request_timeout_seconds)", limit.as_secs()),
            ),
            Error::Embed(error) => embed::failed(error),
            Error::NoSuchModel(model) => Self::invalid(
                StatusCode::NOT_FOUND,
                "model_not_found",
                format!("there is no model \"{model}\" here; GET /v1/models lists those there are"),
            ),
            Error::NoSuchResponse => Self {
                param: Some("previous_response_id".to_owned()),
                ..Self::invalid(
                    StatusCode::NOT_FOUND,
                    "previous_response_not_found",
                    "this response was not made by a provider that keeps it; send the conversation itself",
                )
            },
            Error::NoSuchAnswer | Error::NothingToExplain | Error::BadFeedback => about_an_answer(error),
            Error::Shared | Error::CrossSite | Error::SharedImport | Error::SharedRules => forbidden(error),
            Error::BadRules(reason) => {
                Self::invalid(StatusCode::BAD_REQUEST, "invalid_rules", reason.as_str())
            }
            Error::Chain(fault) => of_chain(fault),
            Error::Keeper(fault) => keeper(fault),
            Error::Store(fault) => of_store(fault),
            Error::NoSuchPath => Self::invalid(
                StatusCode::NOT_FOUND,
                "no_such_path",
                "no such path; try POST /v1/chat/completions, GET /v1/models or GET /status",
            ),
            Error::NoSuchMethod => Self::invalid(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take that method",
            ),
        }
    }
}

/// What is said of an answer, or asked about one, by its id.
fn about_an_answer(error: &Error) -> Failed {
    let (status, code, message) = match error {
        Error::BadFeedback => (
            StatusCode::BAD_REQUEST,
            "invalid_feedback",
            "feedback is {\"id\": \"the x-request-id of an answer\", \"correct\": true or false}",
        ),
        Error::NothingToExplain => (
            StatusCode::NOT_FOUND,
            "nothing_to_explain",
            "nothing of yours is known under this id; it is the x-request-id of a recent request, or the id of an answer \
             that is kept",
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "no_such_answer",
            "no answer of yours is known under this id; it is the x-request-id of a recent one",
        ),
    };
    Failed::invalid(status, code, message)
}

fn of_chain(fault: &chain::Fault) -> Failed {
    match fault {
        chain::Fault::Shared => Failed::new(
            StatusCode::FORBIDDEN,
            "permission_error",
            "shared_between_tenants",
            "who is asked is asked for all tenants, and changed by none of them",
        ),
        chain::Fault::Unreadable => Failed::invalid(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "what is meant is {\"name\": \"an upstream, or upstream:profile\"}",
        ),
        chain::Fault::Unknown(name) => Failed::invalid(
            StatusCode::NOT_FOUND,
            "no_such_upstream",
            format!("there is no upstream \"{name}\" here; GET /weir/chain lists those there are"),
        ),
    }
}

fn forbidden(error: &Error) -> Failed {
    let (code, message) = match error {
        Error::CrossSite => (
            "cross_site",
            "what is kept here is not for pages of other sites; ask at 127.0.0.1, or configure a [[client]]",
        ),
        Error::SharedImport => (
            "shared_between_tenants",
            "nothing is imported where there are several tenants; import without their [[client]]s first",
        ),
        Error::SharedRules => (
            "shared_between_tenants",
            "rules hold for all tenants; where there are several, change the rule files",
        ),
        _ => (
            "shared_between_tenants",
            "what a provider keeps is not passed through where there are several tenants",
        ),
    };
    Failed::new(StatusCode::FORBIDDEN, "permission_error", code, message)
}

fn of_store(fault: &store::Fault) -> Failed {
    match fault {
        store::Fault::Shared => Failed::new(
            StatusCode::FORBIDDEN,
            "permission_error",
            "shared_between_tenants",
            "the store holds what all tenants have asked; back it up while no sidecar runs",
        ),
        store::Fault::Unreadable => Failed::invalid(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "this takes {\"store\": the store's folder}",
        ),
        store::Fault::NoFiles => {
            Failed::invalid(StatusCode::NOT_FOUND, "no_files", "this sidecar keeps its answers in memory")
        }
        store::Fault::Another(folder) => Failed::invalid(
            StatusCode::CONFLICT,
            "another_store",
            format!("this sidecar keeps its answers in {}", folder.display()),
        ),
    }
}

fn keeper(fault: &Fault) -> Failed {
    let (status, code) = match fault {
        Fault::NoId => (StatusCode::BAD_REQUEST, "invalid_id"),
        Fault::Absent => (StatusCode::NOT_FOUND, "entry_not_found"),
        Fault::Ambiguous => (StatusCode::CONFLICT, "ambiguous_id"),
        Fault::Everything => (StatusCode::BAD_REQUEST, "no_filter"),
        Fault::NoPlace => (StatusCode::BAD_REQUEST, "invalid_request"),
        Fault::Store(error) => {
            let message = error.to_string();
            return Failed::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", "store_failed", message);
        }
    };
    Failed::invalid(status, code, fault.to_string())
}

fn unanswered(error: &pipeline::Error) -> Failed {
    match error {
        pipeline::Error::Refused(refusal) => refused(refusal),
        pipeline::Error::Upstream(error) => upstream(error),
        pipeline::Error::NotCached(_) => not_cached(error),
    }
}

/// Nothing changes by asking again at once.
fn not_cached(error: &pipeline::Error) -> Failed {
    let failed = Failed::new(StatusCode::GATEWAY_TIMEOUT, "cache_error", "only_if_cached", error.to_string());
    Failed { tried_enough: true, ..failed }
}

fn refused(refusal: &Refusal) -> Failed {
    let (kind, code) = match refusal.what {
        What::Concurrency => ("rate_limit_error", "too_many_requests"),
        What::Requests => ("rate_limit_error", "rate_limit_requests"),
        What::Tokens => ("rate_limit_error", "rate_limit_tokens"),
        What::Budget => ("rate_limit_error", "budget_spent"),
    };
    let failed = Failed::new(StatusCode::TOO_MANY_REQUESTS, kind, code, refusal.to_string());
    failed.come_back_in(refusal.retry_after)
}

/// The status is the provider's own where it has one that fits, so that SDKs raise what they would without us.
fn upstream(error: &upstream::Error) -> Failed {
    let failed = if let Some(cause) = common_cause(error) {
        Failed { message: error.to_string(), ..upstream(&cause) }
    } else {
        let upstream::Names { code, param } = error.names.as_ref().clone();
        Failed { told: code, param, ..single(error) }
    };
    Failed {
        retry_after: error.retry_after.or(failed.retry_after),
        tried_enough: !error.attempts.is_empty(),
        summary: Some(summary(error)),
        ..failed
    }
}

/// Everyone who was asked or passed over; where there was one only, that one.
fn summary(error: &upstream::Error) -> Summary {
    let route = match error.kind {
        Kind::Exhausted => error.upstream.to_string(),
        _ => ROUTE.to_owned(),
    };
    let own = (error.kind != Kind::Exhausted).then_some(error);
    let attempts = error.attempts.iter().chain(own);
    Summary { route, attempts: attempts.map(chain::attempt).collect() }
}

/// Where everyone failed for the same reason, that is the reason.
fn common_cause(error: &upstream::Error) -> Option<upstream::Error> {
    let first = error.attempts.first().filter(|_| error.kind == Kind::Exhausted)?;
    error.attempts.iter().all(|attempt| attempt.kind == first.kind).then(|| first.clone())
}

fn single(error: &upstream::Error) -> Failed {
    let told = error.status.and_then(|status| StatusCode::from_u16(status).ok());
    let client = |default| told.filter(StatusCode::is_client_error).unwrap_or(default);
    let server = |default| told.filter(StatusCode::is_server_error).unwrap_or(default);
    let invalid = |status, code| Failed::invalid(status, code, error.to_string());
    let shape = |status, kind, code| Failed::new(status, kind, code, error.to_string());
    match error.kind {
        Kind::BadRequest => invalid(client(StatusCode::BAD_REQUEST), "upstream_bad_request"),
        Kind::Unsupported => invalid(StatusCode::BAD_REQUEST, "unsupported"),
        Kind::ContextOverflow => invalid(StatusCode::BAD_REQUEST, "context_length_exceeded"),
        Kind::ModelNotFound => invalid(StatusCode::NOT_FOUND, "model_not_found"),
        Kind::NoRoute => invalid(StatusCode::NOT_FOUND, "no_route"),
        Kind::RateLimit => shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "upstream_rate_limit"),
        Kind::Busy => shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "upstream_busy"),
        Kind::Billing => {
            shape(client(StatusCode::PAYMENT_REQUIRED), "insufficient_quota", "upstream_billing")
        }
        Kind::Auth => shape(client(StatusCode::UNAUTHORIZED), "authentication_error", "upstream_auth"),
        Kind::Overloaded => {
            shape(server(StatusCode::SERVICE_UNAVAILABLE), "overloaded_error", "upstream_overloaded")
        }
        Kind::Overtaken | Kind::Timeout => {
            shape(StatusCode::GATEWAY_TIMEOUT, "timeout_error", "upstream_timeout")
        }
        Kind::Server => shape(server(StatusCode::BAD_GATEWAY), "api_error", "upstream_error"),
        Kind::Connection => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_unreachable"),
        Kind::BadResponse => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_bad_response"),
        Kind::Cut => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_cut"),
        Kind::Exhausted => shape(StatusCode::SERVICE_UNAVAILABLE, "api_error", "all_upstreams_failed"),
    }
}

/// Where no client's protocol is known, the one that most clients speak.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Failed::from(&self).respond(&Asker::nobody())
    }
}
