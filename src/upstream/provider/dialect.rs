//! How each kind of provider is spoken to: the paths, the key's header, and what changes in a request.
//!
//! A request in a protocol that the provider understands goes out as it came; the model's name and the
//! question what it cost are all that may change. One that holds another provider's seals is written anew,
//! without them. Any other is translated to the provider's main protocol.

use super::{Error, Kind, Provider, ProviderKind};
use crate::chat::{Protocol, Request, matches};
use crate::secret::Secret;
use crate::wire::splice::splice;
use crate::wire::{self, Dropped, encode_request, wants_other_seals};
use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The version of Anthropic's protocol that we speak where the client names none.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Stands for every model that a table of names does not name.
const ANY_OTHER: &str = "*";

/// Of those who are compatible with OpenAI, the ones that take thoughts back. Some of the others refuse the
/// whole request for them.
const TAKE_THOUGHTS: [&str; 7] =
    ["openrouter", "deepseek", "vllm", "lmstudio", "llamacpp", "litellm", "xroute"];

/// A request as it goes out.
pub(super) struct Outgoing {
    pub(super) protocol: Protocol,
    pub(super) url: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// What it could not take along.
    pub(super) dropped: Dropped,
    /// How long its answer may be at most, where it was to be longer.
    pub(super) capped: Option<u32>,
}

impl Provider {
    /// `request` in the words of this provider.
    pub(super) fn outgoing(&self, request: &Request) -> Result<Outgoing, Error> {
        match self.cap(request) {
            Some(cap) => self.uncapped(&capped(request, cap, self.is_openai()), Some(cap)),
            None => self.uncapped(request, None),
        }
    }

    /// How long the answer may be, where `request` asks for a longer one, or for one of any length.
    fn cap(&self, request: &Request) -> Option<u32> {
        let fits = |(pattern, _): &&(String, u64)| matches(pattern, &request.model);
        let cap = self
            .max_tokens
            .iter()
            .find(fits)
            .map(|(_, tokens)| u32::try_from(*tokens).unwrap_or(u32::MAX))?;
        Some(cap).filter(|cap| request.sampling.answer_limit().is_none_or(|limit| limit > *cap))
    }

    fn uncapped(&self, request: &Request, capped: Option<u32>) -> Result<Outgoing, Error> {
        let model = self.their_name(&request.model);
        let mut dropped = Dropped::new();
        let native = self.understands(request);
        let protocol = if native { request.received.protocol } else { self.protocol };
        let body = if self.takes_as_it_came(request) {
            self.as_it_came(request, model)?
        } else {
            self.translated(request, protocol, model, &mut dropped)?
        };
        let stream = request.delivery.stream;
        let url = format!("{}{}", self.base_url, path(protocol, model, stream));
        let mut headers = if native { received_headers(request) } else { HeaderMap::new() };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static(accept(protocol, stream)));
        self.add_own(&mut headers);
        Ok(Outgoing { protocol, url, headers, body, dropped, capped })
    }

    /// Whether `request` came in a protocol that this provider understands.
    pub(super) fn understands(&self, request: &Request) -> bool {
        let received = &request.received;
        !received.body.is_empty() && self.kind.speaks(self.protocol).contains(&received.protocol)
    }

    /// Whether the bytes of `request` mean something to this provider.
    pub(super) fn takes_as_it_came(&self, request: &Request) -> bool {
        self.understands(request) && !wants_other_seals(request)
    }

    fn as_it_came(&self, request: &Request, model: &str) -> Result<Bytes, Error> {
        let protocol = request.received.protocol;
        let mut changes = Vec::new();
        // Gemini has it in the path.
        if model != request.model && protocol != Protocol::Gemini {
            changes.push(("model", Some(Value::from(model))));
        }
        if self.asks_for_usage(protocol, request) && !request.delivery.include_usage() {
            changes.push(("stream_options", Some(with_usage(request.delivery.options.clone()))));
        }
        self.spliced(&request.received.body, &changes)
    }

    /// `body` with `changes`, and not another byte different.
    pub(super) fn spliced(&self, body: &Bytes, changes: &[(&str, Option<Value>)]) -> Result<Bytes, Error> {
        splice(body, changes).map_err(|error| self.error(Kind::BadRequest, error.message))
    }

    fn translated(
        &self,
        request: &Request,
        protocol: Protocol,
        model: &str,
        dropped: &mut Dropped,
    ) -> Result<Bytes, Error> {
        let mut body = self.encoded(request, protocol, model, dropped)?;
        if self.asks_for_usage(protocol, request) {
            let options = match body.remove("stream_options") {
                Some(Value::Object(options)) => options,
                _ => Map::new(),
            };
            body.insert("stream_options".to_owned(), with_usage(options));
        }
        if protocol == Protocol::OpenAiChat && request.received.protocol != Protocol::OpenAiChat {
            self.adapt_chat(request, &mut body, dropped);
        }
        Ok(Value::Object(body).to_string().into())
    }

    /// The fields of `request` in `protocol`, one that this provider understands.
    pub(super) fn encoded(
        &self,
        request: &Request,
        protocol: Protocol,
        model: &str,
        dropped: &mut Dropped,
    ) -> Result<Map<String, Value>, Error> {
        let request = match model == request.model {
            true => Cow::Borrowed(request),
            // The codec may decide by the model.
            false => Cow::Owned(Request { model: model.to_owned(), ..request.clone() }),
        };
        encode_request(protocol, &request, dropped)
            .map_err(|error| self.error(Kind::Unsupported, with_field(error)))
    }

    /// What OpenAI and its likenesses disagree on. Whoever wrote for another protocol knows nothing of it.
    fn adapt_chat(&self, request: &Request, body: &mut Map<String, Value>, dropped: &mut Dropped) {
        const NAMES: [&str; 2] = ["max_completion_tokens", "max_tokens"];
        // OpenAI's newer models refuse the older name, and many other servers do not know the newer one.
        let ours = if self.is_openai() { NAMES[0] } else { NAMES[1] };
        if let Some(limit) = request.sampling.answer_limit() {
            NAMES.iter().for_each(|name| drop(body.remove(*name)));
            body.insert(ours.to_owned(), limit.into());
        }
        if self.is_openai() && body.remove("top_k").is_some() {
            dropped.push("top_k".to_owned());
        }
        let messages = body.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten();
        messages.filter_map(Value::as_object_mut).for_each(|message| self.adapt_message(message, dropped));
    }

    fn adapt_message(&self, message: &mut Map<String, Value>, dropped: &mut Dropped) {
        // The newer word for a system message is known to few.
        if !self.is_openai() && message.get("role").is_some_and(|role| role == "developer") {
            message.insert("role".to_owned(), "system".into());
        }
        let thoughts = ["reasoning_content", "reasoning_details"];
        for field in thoughts.iter().filter(|_| !TAKE_THOUGHTS.contains(&self.preset)) {
            if message.shift_remove(*field).is_none() {
                continue;
            }
            if !dropped.iter().any(|left| left == field) {
                dropped.push((*field).to_owned());
            }
            // Without its thought it may say nothing, and must say that.
            if message["content"].is_null() && !message.contains_key("tool_calls") {
                message.insert("content".to_owned(), "".into());
            }
        }
    }

    fn is_openai(&self) -> bool {
        matches!(self.kind, ProviderKind::OpenAi | ProviderKind::Azure)
    }

    /// The others tell what a stream cost without being asked.
    fn asks_for_usage(&self, protocol: Protocol, request: &Request) -> bool {
        let must_ask = matches!(protocol, Protocol::OpenAiChat | Protocol::OpenAiCompletions);
        must_ask && request.delivery.stream && self.include_usage
    }

    /// What the provider calls the model that a client calls `model`.
    pub(super) fn their_name<'a>(&'a self, model: &'a str) -> &'a str {
        let named = |wanted: &str| self.model_names.iter().find(|(ours, _)| ours == wanted);
        named(model).or_else(|| named(ANY_OTHER)).map_or(model, |(_, theirs)| theirs)
    }

    /// What clients call the model that the provider calls `theirs`.
    pub(super) fn our_names(&self, theirs: String) -> Vec<String> {
        let named = self.model_names.iter().filter(|(ours, name)| *name == theirs && ours != ANY_OTHER);
        let ours: Vec<String> = named.map(|(ours, _)| ours.clone()).collect();
        if ours.is_empty() { vec![theirs] } else { ours }
    }

    /// Lays what is configured, the key among it, over the headers of a request.
    pub(super) fn add_own(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        if self.kind == ProviderKind::Anthropic {
            let version = HeaderValue::from_static(ANTHROPIC_VERSION);
            headers.entry("anthropic-version").or_insert(version);
        }
    }
}

/// `request` for an answer of `cap` tokens at most: in its body too, where a provider of the same protocol gets that
/// as it came.
fn capped(request: &Request, cap: u32, openai: bool) -> Request {
    let mut capped = request.clone();
    let sampling = &mut capped.sampling;
    let older = sampling.max_tokens.is_some() || (sampling.max_completion_tokens.is_none() && !openai);
    let newer = sampling.max_completion_tokens.is_some() || !older;
    // OpenAI's newer models refuse the older name, and many other servers do not know the newer one.
    sampling.max_tokens = older.then_some(cap);
    sampling.max_completion_tokens = newer.then_some(cap);
    let chat = [older.then_some("max_tokens"), newer.then_some("max_completion_tokens")];
    let fields: Vec<&str> = match request.received.protocol {
        Protocol::OpenAiChat => chat.into_iter().flatten().collect(),
        Protocol::OpenAiCompletions | Protocol::Anthropic => vec!["max_tokens"],
        Protocol::OpenAiResponses => vec!["max_output_tokens"],
        // It is deeper there: the request is written anew.
        Protocol::Gemini | Protocol::OllamaChat | Protocol::OllamaGenerate => Vec::new(),
    };
    let changes: Vec<_> = fields.into_iter().map(|field| (field, Some(Value::from(cap)))).collect();
    let body = if changes.is_empty() { None } else { splice(&request.received.body, &changes).ok() };
    capped.received.body = body.unwrap_or_default();
    capped
}

/// The header that a key is sent in, and how.
pub(super) fn key_header(kind: ProviderKind, key: &Secret) -> (&'static str, Secret) {
    match kind {
        ProviderKind::OpenAi | ProviderKind::Generic | ProviderKind::Ollama => {
            (AUTHORIZATION.as_str(), Secret::new(format!("Bearer {}", key.expose())))
        }
        ProviderKind::Azure => ("api-key", key.clone()),
        ProviderKind::Anthropic => ("x-api-key", key.clone()),
        ProviderKind::Gemini => ("x-goog-api-key", key.clone()),
    }
}

/// Whether a header shows who someone is: a client shows it to us, and we show ours.
pub(super) fn is_credential(name: &HeaderName) -> bool {
    const CREDENTIALS: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];
    CREDENTIALS.contains(&name.as_str())
}

pub(super) fn received_headers(request: &Request) -> HeaderMap {
    let headers = request.received.headers.iter().filter_map(|(name, value)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    });
    headers.filter(|(name, _)| !is_credential(name)).collect()
}

fn path(protocol: Protocol, model: &str, stream: bool) -> String {
    match protocol {
        Protocol::OpenAiChat => "/chat/completions".to_owned(),
        Protocol::OpenAiCompletions => "/completions".to_owned(),
        Protocol::OpenAiResponses => "/responses".to_owned(),
        Protocol::Anthropic => "/messages".to_owned(),
        Protocol::Gemini => format!("/{}", gemini_path(model, stream)),
        Protocol::OllamaChat => "/api/chat".to_owned(),
        Protocol::OllamaGenerate => "/api/generate".to_owned(),
    }
}

fn gemini_path(model: &str, stream: bool) -> String {
    let model = model.strip_prefix("models/").unwrap_or(model);
    let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
    format!("models/{}:{method}", escaped(model))
}

/// `text` as one segment of a path, whatever a client has put into it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn accept(protocol: Protocol, stream: bool) -> &'static str {
    match protocol {
        _ if !stream => "application/json",
        Protocol::OllamaChat | Protocol::OllamaGenerate => "application/x-ndjson",
        _ => "text/event-stream",
    }
}

fn with_usage(mut options: Map<String, Value>) -> Value {
    options.insert("include_usage".to_owned(), true.into());
    Value::Object(options)
}

fn with_field(error: wire::Error) -> String {
    match error.field {
        Some(field) if !error.message.contains(&field) => format!("`{field}`: {}", error.message),
        _ => error.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Part, Role};

    fn provider(kind: ProviderKind, preset: &'static str) -> Provider {
        let wait = std::time::Duration::from_secs(1);
        Provider::new(super::super::Config {
            name: "p".into(),
            kind,
            preset,
            protocol: kind.protocol(),
            base_url: "http://127.0.0.1:1/v1".into(),
            api_key: None,
            models: Vec::new(),
            model_names: Vec::new(),
            include_usage: true,
            context_windows: Vec::new(),
            max_tokens: Vec::new(),
            rotation: crate::upstream::chain::Rotation::default(),
            profiles: Vec::new(),
            needs_key: false,
            headers: Vec::new(),
            connect_timeout: wait,
            first_token_timeout: wait,
            idle_timeout: wait,
            reply_timeout: wait,
            limits: crate::upstream::queue::Limits::default(),
            price: None,
            listed: None,
        })
        .unwrap()
    }

    #[test]
    fn each_of_openai_s_likenesses_is_told_what_it_understands() {
        let thought = Part::Reasoning { text: "hm".into(), signature: None, redacted: false };
        let mut request = Request {
            messages: vec![
                Message::text(Role::Developer, "be brief"),
                Message { parts: vec![thought], ..Message::empty(Role::Assistant) },
            ],
            ..Request::default()
        };
        request.received.protocol = Protocol::Anthropic;
        for (kind, preset, role, keeps) in [
            (ProviderKind::OpenAi, "openai", "developer", false),
            (ProviderKind::Azure, "azure", "developer", false),
            (ProviderKind::Generic, "mistral", "system", false),
            (ProviderKind::Generic, "deepseek", "system", true),
        ] {
            let outgoing = provider(kind, preset).outgoing(&request).unwrap();
            let body: Value = serde_json::from_slice(&outgoing.body).unwrap();
            assert_eq!(body["messages"][0]["role"], role, "{preset}");
            let said = &body["messages"][1];
            assert_eq!(said["reasoning_content"].is_string(), keeps, "{preset}");
            assert_eq!(said["content"].is_null(), keeps, "{preset}");
            assert_eq!(outgoing.dropped.is_empty(), keeps, "{preset}");
        }
    }

    #[test]
    fn what_a_provider_keeps_is_asked_of_nobody_else() {
        let body = r#"{"model":"m","input":"q","prompt":{"id":"p"}}"#;
        let target = wire::Target::default();
        let request = wire::decode_request(Protocol::OpenAiResponses, &body.into(), &target).unwrap();
        let error = provider(ProviderKind::Generic, "vllm").outgoing(&request).err().unwrap();
        assert_eq!((error.kind, error.message.contains("`prompt`")), (Kind::Unsupported, true));
    }

    #[test]
    fn a_model_s_name_cannot_lead_elsewhere() {
        assert_eq!(gemini_path("gemini-2.5-pro", false), "models/gemini-2.5-pro:generateContent");
        assert_eq!(gemini_path("models/x", true), "models/x:streamGenerateContent?alt=sse");
        assert_eq!(gemini_path("../a?b#c%", false), "models/..%2Fa%3Fb%23c%25:generateContent");
    }
}
