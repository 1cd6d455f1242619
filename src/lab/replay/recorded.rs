//! [`Recorded`]: the upstream of a replay. It says what was said then, and invents nothing.

use crate::chat::{Event, Reply, Request, unfold};
use crate::journal::{Fresh, Row};
use crate::upstream::{Call, Chunks, Error, Kind, Load, Opened, Origin, Priority, Upstream};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What stands for an answer that nobody has written down: it takes its place in memory, so that the same question
/// again is a hit, and nothing is learned from it.
const UNKNOWN: &str = "weir-unknown";

/// Whether an answer is one that was given.
pub(super) fn is_known(reply: &Reply) -> bool {
    reply.id != UNKNOWN
}

/// What was answered to a request then.
pub(super) enum Answer {
    /// Somebody was asked, and said this: who, as which model, and whether it was the one that was meant.
    Given { by: String, meant: bool, reply: Reply },
    /// Somebody was asked, and failed.
    Failed(Kind),
    /// Nobody was asked.
    Unknown(Reply),
}

/// What was answered to a request, as far as it was written down.
pub(super) fn answer(row: &Row, fresh: &[Arc<Fresh>]) -> Answer {
    let asked = matches!(row.source.as_deref(), Some("upstream" | "local"));
    if let (true, Some(reply)) = (asked, &row.reply) {
        let by = row.upstream.clone().unwrap_or_default();
        return Answer::Given { by, meant: is_meant(row), reply: reply.clone() };
    }
    if let Some(fresh) = fresh.iter().find(|fresh| fresh.reply.is_some()) {
        let reply = fresh.reply.clone().unwrap_or_default();
        return Answer::Given { by: fresh.upstream.clone(), meant: true, reply };
    }
    match Kind::named(&row.ended) {
        Some(kind) if row.source.is_none() => Answer::Failed(kind),
        _ => {
            let known = row.reply.clone().unwrap_or_else(|| Reply::text(&row.model, "not known"));
            Answer::Unknown(Reply { id: UNKNOWN.to_owned(), ..known })
        }
    }
}

/// Whether whoever answered was the one whose answer was wanted.
fn is_meant(row: &Row) -> bool {
    let Some(voice) = &row.voice else { return true };
    let local = row.source.as_deref() == Some("local");
    let same_kind = (voice.origin == Origin::Local.name()) == local;
    let same_model = row.answered_as.as_ref().is_none_or(|model| *model == voice.model);
    same_kind && same_model && voice.arm.as_ref().is_none_or(|arm| row.upstream.as_ref() == Some(arm))
}

/// Says what was said then. Which request it is asked for stands in the call's correlation id.
#[derive(Default)]
pub(super) struct Recorded {
    known: Mutex<HashMap<String, Arc<Answer>>>,
}

impl Recorded {
    /// What is to be said to `request`, until it is forgotten.
    pub(super) fn know(&self, request: &str, answer: Arc<Answer>) {
        self.lock().insert(request.to_owned(), answer);
    }

    pub(super) fn forget(&self, request: &str) {
        self.lock().remove(request);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Answer>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Upstream for Recorded {
    fn name(&self) -> &'static str {
        "recorded"
    }

    fn origin(&self, _: &Request) -> Origin {
        Origin::Provider
    }

    async fn open(&self, request: &Request, call: &Call) -> Result<Opened, Error> {
        let known = self.lock().get(&call.envelope.correlation_id).cloned();
        let failed = |kind: Kind| Error::new(kind, &"recorded".into(), "it was so");
        let (by, meant, reply) = match known.as_deref() {
            Some(Answer::Given { by, meant, reply }) => (by.as_str(), *meant, reply),
            Some(Answer::Failed(kind)) => return Err(failed(*kind)),
            // Whoever asks in the background wants to learn something.
            Some(Answer::Unknown(reply)) if call.priority == Priority::User => (UNKNOWN, true, reply),
            Some(Answer::Unknown(_)) | None => return Err(failed(Kind::Unsupported)),
        };
        Ok(Opened {
            by: by.into(),
            model: request.model.as_str().into(),
            // A stand-in's answer is given, and forgotten.
            origin: if meant { Origin::Provider } else { Origin::Local },
            failed: Vec::new(),
            dropped: Vec::new(),
            headers: Vec::new(),
            load: Load::default(),
            chunks: said(reply),
        })
    }
}

/// It begins when it is asked for, and ends when it is read to its end.
fn said(reply: &Reply) -> Chunks {
    let mut events: Vec<Event> = unfold(reply);
    let rest = events.split_off(1.min(events.len()));
    stream::iter([Ok(events.into()), Ok(rest.into())]).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::row::{Voice, Why};

    fn row(source: Option<&str>, reply: Option<&str>) -> Row {
        Row {
            source: source.map(str::to_owned),
            upstream: Some("u".into()),
            answered_as: Some("m".into()),
            voice: Some(Voice { origin: "provider".into(), model: "m".into(), arm: None }),
            reply: reply.map(|text| Reply::text("m", text)),
            ended: "complete".into(),
            ..Row::default()
        }
    }

    #[test]
    fn what_was_not_said_is_not_known() {
        assert!(matches!(answer(&row(Some("upstream"), Some("a")), &[]), Answer::Given { meant: true, .. }));
        assert!(matches!(answer(&row(Some("local"), Some("a")), &[]), Answer::Given { meant: false, .. }));
        assert!(matches!(answer(&row(Some("exact"), Some("a")), &[]), Answer::Unknown(_)));
        assert!(matches!(answer(&row(Some("upstream"), None), &[]), Answer::Unknown(_)));
        let failed = Row { ended: "rate_limit".into(), ..row(None, None) };
        assert!(matches!(answer(&failed, &[]), Answer::Failed(Kind::RateLimit)));
        let fresh = Fresh {
            at: 1,
            id: String::new(),
            tenant: String::new(),
            why: Why::Check,
            upstream: "u".into(),
            model: "m".into(),
            usage: None,
            reply: Some(Reply::text("m", "b")),
        };
        assert!(matches!(
            answer(&row(Some("exact"), Some("a")), &[Arc::new(fresh)]),
            Answer::Given { reply, .. } if reply.choices[0].said() == "b"
        ));
    }
}
