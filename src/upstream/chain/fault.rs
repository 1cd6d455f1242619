//! What a failure means for the chain: whom it says something about, whether somebody else may do better, and what
//! the client is told when nobody did.

use super::super::health::{Outcome, Reason, Refused};
use super::super::{Error, Kind};
use std::sync::Arc;
use std::time::Duration;

/// The codes by which providers say that a key will never be taken again.
const GONE_FOR_GOOD: [&str; 6] = [
    "invalid_api_key",
    "api_key_invalid",
    "incorrect_api_key",
    "account_deactivated",
    "key_revoked",
    "api_key_expired",
];

/// Why `error` speaks against the one who was asked; `None` where it does not.
pub(super) fn reason(error: &Error) -> Option<Reason> {
    Some(match error.kind {
        Kind::RateLimit => Reason::RateLimit,
        Kind::Overloaded => Reason::Overloaded,
        Kind::Billing => Reason::Billing,
        Kind::Auth => {
            let code = error.names.code.as_deref();
            let for_good = code.is_some_and(|code| GONE_FOR_GOOD.contains(&code));
            if for_good { Reason::AuthPermanent } else { Reason::Auth }
        }
        Kind::Timeout => Reason::Timeout,
        Kind::Server => Reason::ServerError,
        Kind::Connection => Reason::Connection,
        Kind::BadResponse | Kind::Cut => Reason::BadResponse,
        Kind::ContextOverflow => Reason::ContextOverflow,
        Kind::ModelNotFound => Reason::ModelNotFound,
        Kind::BadRequest
        | Kind::Unsupported
        | Kind::Overtaken
        | Kind::Busy
        | Kind::NoRoute
        | Kind::Exhausted => return None,
    })
}

/// What the one who was asked is to be remembered by.
pub(super) fn outcome(error: &Error) -> Outcome {
    match (reason(error), error.kind) {
        (Some(reason), _) => Outcome::Failed(reason, error.retry_after),
        // It has read the request, and says what is wrong with it.
        (None, Kind::BadRequest) => Outcome::Alive,
        // It was not asked at all, or is a chain.
        (None, _) => Outcome::Unknown,
    }
}

/// The kind of failure that `reason` was.
fn kind(reason: Reason) -> Kind {
    match reason {
        Reason::RateLimit => Kind::RateLimit,
        Reason::Overloaded => Kind::Overloaded,
        Reason::Billing => Kind::Billing,
        Reason::Auth | Reason::AuthPermanent => Kind::Auth,
        Reason::Timeout => Kind::Timeout,
        Reason::ServerError => Kind::Server,
        Reason::Connection => Kind::Connection,
        Reason::BadResponse => Kind::BadResponse,
        Reason::ContextOverflow => Kind::ContextOverflow,
        Reason::ModelNotFound => Kind::ModelNotFound,
    }
}

/// `name` was not asked; `wait` is from now until it may be.
pub(super) fn passed_over(name: &Arc<str>, refused: Refused, wait: impl Fn(Refused) -> Duration) -> Error {
    match refused {
        Refused::Disabled => Error {
            asked: false,
            ..Error::new(Kind::Connection, name, "it is switched off (weir chain enable)")
        },
        Refused::Cooling { reason, .. } => {
            let left = wait(refused);
            let message = format!("left alone for {} s more ({})", left.as_secs_f64().ceil(), reason.name());
            Error { asked: false, retry_after: Some(left), ..Error::new(kind(reason), name, message) }
        }
    }
}

/// Whether waiting changes anything: what nobody can say, pay or find stays so.
pub(super) fn passes_by_itself(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RateLimit
            | Reason::Overloaded
            | Reason::Timeout
            | Reason::ServerError
            | Reason::Connection
            | Reason::BadResponse
    )
}

/// What to say when everyone failed. One failure speaks for itself.
pub(super) fn exhausted(chain: &Arc<str>, mut attempts: Vec<Error>, model: &str) -> Error {
    match attempts.len() {
        0 => {
            let message = format!("no upstream is configured for the model \"{}\"", shortened(model));
            Error::new(Kind::NoRoute, chain, message)
        }
        1 => attempts.remove(0),
        // Nobody can say what is asked: the client had better ask otherwise.
        _ if attempts.iter().all(|failed| failed.kind == Kind::Unsupported) => {
            let first = attempts.remove(0);
            Error { attempts, ..first }
        }
        // One that was asked several times has said last what there is to say.
        _ if is_one(&attempts) => match attempts.pop() {
            Some(last) => Error { attempts, ..last },
            None => Error::new(Kind::NoRoute, chain, "nobody was asked"),
        },
        count => {
            let causes: Vec<String> = attempts
                .iter()
                .map(|failed| format!("{}: {}", failed.upstream, failed.kind.name()))
                .collect();
            let message = format!("all {count} upstreams failed ({})", causes.join("; "));
            Error { retry_after: soonest(&attempts), attempts, ..Error::new(Kind::Exhausted, chain, message) }
        }
    }
}

fn is_one(attempts: &[Error]) -> bool {
    attempts.windows(2).all(|pair| pair[0].upstream == pair[1].upstream)
}

/// When the first of them can be asked again, where any of them said so.
fn soonest(attempts: &[Error]) -> Option<Duration> {
    attempts.iter().filter_map(|failed| failed.retry_after).min()
}

/// Enough of a model's name to recognise it in an error.
fn shortened(model: &str) -> String {
    model.chars().take(100).collect()
}
