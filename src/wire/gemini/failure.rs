//! Errors, as Google writes them.

use crate::wire::Failure;
use serde_json::{Value, json};

/// An error as Google's SDKs understand it, in a body or in a stream.
pub fn error_body(failure: &Failure) -> Value {
    let Failure { status, kind: _, code: _, message, param: _, request_id: _, retry_after_ms } = failure;
    let mut error = json!({ "code": status, "message": message, "status": status_name(*status) });
    if let Some(wait) = retry_after_ms {
        error["details"] =
            json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": duration(*wait) }]);
    }
    json!({ "error": error })
}

/// Google's name for an HTTP status.
fn status_name(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        402 | 429 => "RESOURCE_EXHAUSTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        502 | 503 | 529 => "UNAVAILABLE",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// `7s`, or `0.250s`.
fn duration(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1_000, milliseconds % 1_000);
    if rest == 0 { format!("{seconds}s") } else { format!("{seconds}.{rest:03}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_name_and_a_wait_its_detail() {
        let names = [
            (400, "INVALID_ARGUMENT"),
            (401, "UNAUTHENTICATED"),
            (403, "PERMISSION_DENIED"),
            (404, "NOT_FOUND"),
            (413, "INVALID_ARGUMENT"),
            (429, "RESOURCE_EXHAUSTED"),
            (500, "INTERNAL"),
            (503, "UNAVAILABLE"),
            (504, "DEADLINE_EXCEEDED"),
        ];
        for (status, name) in names {
            let failure = Failure {
                status,
                kind: "k",
                code: "c".into(),
                message: "it fails".into(),
                param: None,
                request_id: "r".into(),
                retry_after_ms: None,
            };
            let wanted = json!({ "error": { "code": status, "message": "it fails", "status": name } });
            assert_eq!(error_body(&failure), wanted);
            let waits = Failure { retry_after_ms: Some(7_000), ..failure };
            assert_eq!(error_body(&waits)["error"]["details"][0]["retryDelay"], "7s");
        }
        assert_eq!(duration(250), "0.250s");
    }
}
