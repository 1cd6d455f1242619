//! The only place where an error becomes HTTP.

use crate::limits::Refusal;
use crate::upstream::Kind;
use crate::wire::openai_chat::error_body;
use crate::{pipeline, upstream, wire};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

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
    /// The body could not be understood.
    Wire(wire::Error),
    /// There is no answer.
    Pipeline(pipeline::Error),
    /// The answer broke off, or cannot be given whole.
    Incomplete(String),
    /// No answer within the time a request may take.
    Deadline(Duration),
    /// Not a path of ours.
    NoSuchPath,
    /// A path of ours, and another method.
    NoSuchMethod,
}

/// An error as clients see it.
pub(super) struct Shape {
    status: StatusCode,
    /// The coarse kind, from OpenAI's list.
    kind: &'static str,
    /// The stable name that a program can act on.
    code: &'static str,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
}

impl Shape {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code, message: message.into(), param: None, retry_after: None }
    }

    fn invalid(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }

    /// The stable name that a program can act on.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// The JSON that carries it, in a body or in a stream.
    pub(super) fn body(&self) -> Vec<u8> {
        error_body(&self.message, self.kind, self.code, self.param.as_deref()).to_string().into_bytes()
    }
}

impl From<&Error> for Shape {
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
            Error::Wire(error) => Self {
                param: error.field.clone(),
                ..Self::invalid(StatusCode::BAD_REQUEST, "invalid_request", &error.message)
            },
            Error::Pipeline(pipeline::Error::Refused(refusal)) => refused(*refusal),
            Error::Pipeline(pipeline::Error::Upstream(error)) => upstream(error),
            Error::Incomplete(message) => {
                Self::new(StatusCode::BAD_GATEWAY, "api_error", "upstream_cut", message)
            }
            Error::Deadline(limit) => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout_error",
                "request_timeout",
                format!("no answer within {} s (server.request_timeout_seconds)", limit.as_secs()),
            ),
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

fn refused(refusal: Refusal) -> Shape {
    match refusal {
        Refusal::Concurrency => Shape {
            retry_after: Some(Duration::from_secs(1)),
            ..Shape::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_error",
                "too_many_requests",
                refusal.to_string(),
            )
        },
    }
}

fn upstream(error: &upstream::Error) -> Shape {
    let bad_request = |code| Shape::invalid(StatusCode::BAD_REQUEST, code, error.to_string());
    let shape = |status, kind, code| Shape::new(status, kind, code, error.to_string());
    let shape = match error.kind {
        Kind::BadRequest => bad_request("upstream_bad_request"),
        Kind::ContextOverflow => bad_request("context_length_exceeded"),
        Kind::ModelNotFound => Shape::invalid(StatusCode::NOT_FOUND, "model_not_found", error.to_string()),
        Kind::NoRoute => Shape::invalid(StatusCode::NOT_FOUND, "no_route", error.to_string()),
        Kind::RateLimit => shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "upstream_rate_limit"),
        Kind::Busy => shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "local_model_busy"),
        Kind::Billing => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_billing"),
        // Not a 401: the client's own key is right, ours is not.
        Kind::Auth => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_auth"),
        Kind::Overloaded => shape(StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", "upstream_overloaded"),
        Kind::Timeout => shape(StatusCode::GATEWAY_TIMEOUT, "timeout_error", "upstream_timeout"),
        Kind::Server => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_error"),
        Kind::Connection => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_unreachable"),
        Kind::BadResponse => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_bad_response"),
        Kind::Cut => shape(StatusCode::BAD_GATEWAY, "api_error", "upstream_cut"),
        Kind::Exhausted => shape(StatusCode::SERVICE_UNAVAILABLE, "api_error", "all_upstreams_failed"),
    };
    Shape { retry_after: error.retry_after, ..shape }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let shape = Shape::from(&self);
        let mut response = (shape.status, [(CONTENT_TYPE, "application/json")], shape.body()).into_response();
        if let Some(wait) = shape.retry_after {
            // Rounded up: who comes back too early is turned away again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

pub(super) async fn no_such_path(_: Method, _: Uri) -> Error {
    Error::NoSuchPath
}

pub(super) async fn no_such_method() -> Error {
    Error::NoSuchMethod
}
