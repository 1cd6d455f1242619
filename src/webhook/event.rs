//! [`Event`]: one thing that happened, in names and numbers.

use crate::clock::Millis;
use crate::limits::What;
use crate::pipeline::{Ended, Outcome};
use crate::upstream::Kind;
use crate::upstream::chain::Change;
use crate::wire::ollama::catalog::rfc3339;
use serde_json::{Map, Value, json};

/// Clients name the models and the tenants' projects; so much of a name is enough to know it by.
const MAX_NAME_CHARS: usize = 100;

/// What an event is about. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Another one answered than who was to.
    Failover,
    /// Somebody begins to be left alone, or is well again.
    Breaker,
    /// An upstream has had too many requests, or a limit of ours was reached.
    RateLimit,
    /// A budget is spent.
    Budget,
    /// Nobody answered.
    AllFailed,
    /// Somebody tries the webhook.
    Test,
}

impl Topic {
    /// Those that can be asked for, by their names. A test goes to everyone.
    pub const ALL: [(&'static str, Self); 5] = [
        ("failover", Self::Failover),
        ("breaker", Self::Breaker),
        ("rate_limit", Self::RateLimit),
        ("budget", Self::Budget),
        ("all_failed", Self::AllFailed),
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, topic)| *topic == self).map_or("test", |(name, _)| name)
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What it is about.
    pub topic: Topic,
    /// By which the same thing again is known.
    pub(super) subject: String,
    data: Map<String, Value>,
}

impl Event {
    fn new(topic: Topic, subject: &[&str], data: Value) -> Self {
        let data = if let Value::Object(data) = data { data } else { Map::new() };
        Self { topic, subject: format!("{}\n{}", topic.name(), subject.join("\n")), data }
    }

    /// One by which a receiver can be tried.
    pub fn test(name: &str) -> Self {
        Self::new(Topic::Test, &[name], json!({ "webhook": name }))
    }

    /// What there is to tell of a request.
    pub fn of_request(outcome: &Outcome) -> Vec<Self> {
        let mut events = Vec::new();
        // A call that is shared happened once.
        if outcome.accounts {
            events.extend(failover(outcome));
            events.extend(limited_upstreams(outcome));
            events.extend(all_failed(outcome));
        }
        events.extend(refused(outcome));
        events
    }

    /// Somebody begins to be left alone, or is well again.
    pub fn of_change(change: &Change) -> Self {
        let Change { name, model, trouble } = change;
        let model = model.as_deref().map(short);
        let state = if trouble.is_some() { "open" } else { "closed" };
        let data = json!({
            "upstream": name,
            "model": model,
            "state": state,
            "reason": trouble.map(|(reason, _)| reason.name()),
            "retry_after_ms": trouble.map(|(_, wait)| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        });
        Self::new(Topic::Breaker, &[name, model.as_deref().unwrap_or_default(), state], data)
    }

    /// As it is sent; `repeated` is how often the same has happened since it was last told.
    pub(super) fn body(&self, now: Millis, repeated: u64) -> String {
        let mut data = self.data.clone();
        data.insert("repeated".to_owned(), repeated.into());
        let kind = format!("weir.{}", self.topic.name());
        json!({ "type": kind, "timestamp": rfc3339(now.as_secs()), "data": data }).to_string()
    }
}

fn failover(outcome: &Outcome) -> Option<Event> {
    let (from, kind) = outcome.switched.as_ref()?;
    let to = outcome.source.as_ref()?.upstream()?;
    let data = json!({
        "from": from,
        "to": to,
        "reason": kind.name(),
        "model": short(&outcome.model),
        "route": outcome.route,
        "tenant": outcome.tenant,
        "request_id": outcome.request_id,
    });
    Some(Event::new(Topic::Failover, &[from, to, kind.name()], data))
}

fn limited_upstreams(outcome: &Outcome) -> impl Iterator<Item = Event> {
    let limited = outcome.failed.iter().filter(|(_, kind)| *kind == Kind::RateLimit);
    limited.map(|(upstream, _)| {
        let data = json!({
            "by": "upstream",
            "upstream": upstream,
            "model": short(&outcome.model),
            "request_id": outcome.request_id,
        });
        Event::new(Topic::RateLimit, &["upstream", upstream], data)
    })
}

fn all_failed(outcome: &Outcome) -> Option<Event> {
    let Ended::Failed(kind) = outcome.ended else { return None };
    // A request that nobody could have answered says nothing of those who were asked.
    if !(kind.is_outage() || kind == Kind::Exhausted) {
        return None;
    }
    let attempts = outcome.failed.iter();
    let attempts: Vec<Value> =
        attempts.map(|(name, kind)| json!({ "upstream": name, "reason": kind.name() })).collect();
    let route = outcome.route.as_deref().unwrap_or("default");
    let data = json!({
        "route": route,
        "model": short(&outcome.model),
        "reason": kind.name(),
        "attempts": attempts,
        "tenant": outcome.tenant,
        "request_id": outcome.request_id,
    });
    Some(Event::new(Topic::AllFailed, &[route, kind.name()], data))
}

fn refused(outcome: &Outcome) -> Option<Event> {
    let Ended::Refused(what) = outcome.ended else { return None };
    let limit = outcome.limit.as_deref().unwrap_or(what);
    let data = json!({
        "by": "limit",
        "limit": limit,
        "what": what,
        "tenant": outcome.tenant,
        "project": short(&outcome.project),
        "request_id": outcome.request_id,
    });
    let topic = if what == What::Budget.name() { Topic::Budget } else { Topic::RateLimit };
    Some(Event::new(topic, &[limit, what, &outcome.tenant], data))
}

fn short(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::health::Reason;
    use std::time::Duration;

    #[test]
    fn a_change_tells_who_and_why_and_for_how_long() {
        let trouble = Some((Reason::RateLimit, Duration::from_secs(30)));
        let open = Change { name: "a".into(), model: Some("m".repeat(500).into()), trouble };
        let event = Event::of_change(&open);
        let body: Value = serde_json::from_str(&event.body(Millis(0), 3)).unwrap();
        assert_eq!((&body["type"], &body["data"]["repeated"]), (&json!("weir.breaker"), &json!(3)));
        assert_eq!(
            (&body["data"]["state"], &body["data"]["retry_after_ms"]),
            (&json!("open"), &json!(30_000))
        );
        assert_eq!(body["data"]["model"].as_str().unwrap().len(), MAX_NAME_CHARS);
        let closed = Event::of_change(&Change { trouble: None, ..open });
        assert!(closed.subject != event.subject, "that it is well again is another thing");
    }
}
