//! [`Call`]: by when an answer is wanted, and on whose behalf.

use super::route::Plan;
use crate::chat::{Request, Role};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How much of a conversation's first question tells it from others.
const MAX_OPENING_BYTES: usize = 4 << 10;

/// What those who choose among upstreams go by, and the request's own text does not say. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the answer must be over. A wait that would outlast it is not begun.
    pub deadline: Instant,
    /// Whether somebody waits for the answer.
    pub priority: Priority,
    /// Whose request it is.
    pub tenant: Arc<str>,
    /// The project it is about.
    pub project: Arc<str>,
    /// Which conversation it belongs to; a caller may be kept with the one who answered it before.
    pub session: Option<Session>,
    /// What the client sent beside the body.
    pub envelope: Arc<Envelope>,
    /// Who is asked, where a route has decided that.
    pub plan: Option<Arc<Plan>>,
    /// The upstream, or its key, that is not to be asked: as if it had failed.
    pub without: Option<Arc<str>>,
}

impl Call {
    /// A call in nobody's name, for those within this process who ask by themselves.
    pub fn within(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            priority: Priority::Background,
            tenant: "".into(),
            project: "".into(),
            session: None,
            envelope: Arc::default(),
            plan: None,
            without: None,
        }
    }

    /// How much time is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Who comes first where not all can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Nobody waits for the answer.
    Background,
    /// Somebody does.
    #[default]
    User,
}

impl Priority {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Background => "background",
            Self::User => "user",
        }
    }
}

/// What a client sent beside the body. Nothing in it is a secret, and all of it is bounded by who made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Names the request to everyone who has a part in it.
    pub correlation_id: String,
    /// How the client calls its conversation.
    pub session: Option<String>,
    /// Who comes first.
    pub priority: Priority,
    /// Who sends it, by the name of the key that was shown.
    pub client: Option<String>,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The path that was asked.
    pub path: String,
    /// Its query, without a key.
    pub query: String,
    /// The headers, by names in small letters, without credentials.
    pub headers: Vec<(String, String)>,
}

/// Tells conversations apart, within one run of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session(pub u64);

impl Session {
    /// The conversation that `request` belongs to: as the client calls it, or by how it began. A conversation that
    /// is cut down or begun anew is another one.
    pub fn of(tenant: &str, project: &str, envelope: &Envelope, request: &Request) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        (tenant, project).hash(&mut hasher);
        if let Some(name) = envelope.session.as_deref().or_else(|| cache_key(request)) {
            name.hash(&mut hasher);
        } else {
            let opening = request.messages.iter().find(|message| message.role == Role::User)?;
            let text = opening.plain_text();
            text.as_bytes()[..text.len().min(MAX_OPENING_BYTES)].hash(&mut hasher);
        }
        Some(Self(hasher.finish()))
    }
}

/// By which OpenAI's clients tell which requests begin alike.
fn cache_key(request: &Request) -> Option<&str> {
    request.extra.get("prompt_cache_key")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    fn asking(texts: &[&str]) -> Request {
        let messages = texts.iter().map(|text| Message::text(Role::User, *text)).collect();
        Request { messages, ..Request::default() }
    }

    #[test]
    fn a_conversation_is_known_by_its_name_or_by_how_it_began() {
        let named = |name: &str| Envelope { session: Some(name.into()), ..Envelope::default() };
        let of = |envelope: &Envelope, texts: &[&str]| Session::of("t", "p", envelope, &asking(texts));
        let unnamed = Envelope::default();
        assert_eq!(of(&unnamed, &["a"]), of(&unnamed, &["a", "b"]), "it goes on");
        assert_ne!(of(&unnamed, &["a"]), of(&unnamed, &["b"]));
        assert_eq!(of(&named("s"), &["a"]), of(&named("s"), &["b"]));
        assert_ne!(of(&named("s"), &["a"]), of(&named("r"), &["a"]));
        assert_eq!(of(&unnamed, &[]), None);
        assert_ne!(
            Session::of("u", "p", &unnamed, &asking(&["a"])),
            of(&unnamed, &["a"]),
            "another's is another"
        );
        let mut keyed = asking(&["a"]);
        keyed.extra.insert("prompt_cache_key".into(), "s".into());
        assert_eq!(Session::of("t", "p", &unnamed, &keyed), of(&named("s"), &["b"]));
    }
}
