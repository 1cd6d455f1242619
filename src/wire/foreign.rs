//! What one protocol says and another cannot: an error that names it, or a note that it was left behind.

use super::json::is_empty;
use super::{Dropped, Error, gemini};
use crate::chat::{Part, Protocol, Request, Signature, Thinking, Tool};
use serde_json::Value;

/// The error for something that `protocol` cannot say.
pub(super) fn inexpressible(protocol: Protocol, field: impl Into<String>, what: &str) -> Error {
    let field = field.into();
    let message = format!("`{field}`: {what} cannot be said to an upstream that speaks {}", protocol.name());
    Error::at(field, message)
}

/// Whether `request` came in `protocol`, so that its opaque values and its `extra` fields are at home in it.
pub(super) fn at_home(request: &Request, protocol: Protocol) -> bool {
    request.received.protocol == protocol
}

/// Whether a provider of the request's own protocol would fail on the seals in the conversation, as another
/// provider has answered in between. Then the request cannot go out as it came: the codec puts them right.
pub fn wants_other_seals(request: &Request) -> bool {
    let home = request.received.protocol;
    if !matches!(home, Protocol::Anthropic | Protocol::Gemini | Protocol::OpenAiResponses) {
        // A chat takes everybody's, and Ollama knows none.
        return false;
    }
    if home == Protocol::Gemini && gemini::lacks_seal(request) {
        return true;
    }
    let foreign = |seal: &Option<Signature>| seal.as_ref().is_some_and(|seal| seal.by != home);
    request.messages.iter().flat_map(|message| &message.parts).any(|part| match part {
        // A thought has to be sealed there.
        Part::Reasoning { signature: None, .. } => home == Protocol::Anthropic,
        Part::Reasoning { signature, .. } => foreign(signature),
        Part::ToolCall(call) => foreign(&call.signature),
        Part::Text { extra, .. } => home == Protocol::Gemini && gemini::has_foreign_seal(extra),
        _ => false,
    })
}

/// Whether a request wants the model to think, and leaves it to the model how much.
pub(super) fn thinks_freely(thinking: &Thinking) -> bool {
    let Thinking { effort, budget, shown, extra } = thinking;
    let free = |(field, value): (&String, &Value)| match field.as_str() {
        // Anthropic's.
        "type" => value == "adaptive" || value == "enabled",
        // Gemini's.
        "thinkingBudget" => value.as_i64() == Some(-1),
        _ => false,
    };
    effort.is_none() && budget.is_none() && (*shown == Some(true) || extra.iter().any(free))
}

/// Fields that only one protocol knows and that the answer depends on: what its provider keeps or reaches, and
/// what it is to answer with. A dot leads into another field.
const DECISIVE: [(Protocol, &str); 15] = [
    (Protocol::OpenAiChat, "modalities"),
    (Protocol::OpenAiResponses, "previous_response_id"),
    (Protocol::OpenAiResponses, "conversation"),
    (Protocol::OpenAiResponses, "prompt"),
    (Protocol::OpenAiResponses, "background"),
    (Protocol::Anthropic, "mcp_servers"),
    (Protocol::Anthropic, "container"),
    (Protocol::Gemini, "cachedContent"),
    (Protocol::Gemini, "cached_content"),
    (Protocol::Gemini, "generationConfig.responseModalities"),
    (Protocol::Gemini, "generationConfig.response_modalities"),
    (Protocol::OllamaGenerate, "suffix"),
    (Protocol::OllamaGenerate, "raw"),
    (Protocol::OllamaGenerate, "template"),
    (Protocol::OllamaGenerate, "context"),
];

/// The first of [`decisive_fields`].
pub fn decisive_field(request: &Request) -> Option<&'static str> {
    decisive_fields(request).next()
}

/// The fields that the answer depends on and only providers of the request's own protocol know: nobody else can
/// answer it.
pub fn decisive_fields(request: &Request) -> impl Iterator<Item = &'static str> {
    let home = DECISIVE.iter().filter(|(protocol, _)| at_home(request, *protocol)).map(|(_, field)| *field);
    home.filter(|field| {
        let value = match field.split_once('.') {
            Some((outer, inner)) => request.extra.get(outer).and_then(|outer| outer.get(inner)),
            None => request.extra.get(*field),
        };
        value.is_some_and(|value| !is_empty(value) && !is_words_alone(value))
    })
}

/// Whether an answer is wanted in words, as it is everywhere.
fn is_words_alone(modalities: &Value) -> bool {
    let only = modalities.as_array().filter(|all| all.len() == 1).and_then(|all| all[0].as_str());
    only.is_some_and(|only| only.eq_ignore_ascii_case("text"))
}

/// Where fields that nobody knows are kept beside others that are known.
const CONTAINERS: [&str; 5] = ["generationConfig", "toolConfig", "options", "output_config", "text"];

/// Notes the fields that nobody but the request's own protocol knows. They are left behind: a provider of
/// another protocol would refuse them, and no codec knows what they mean. Where the answer depends on one, it
/// cannot be had from `protocol`.
pub(super) fn leave_extra(request: &Request, protocol: Protocol, dropped: &mut Dropped) -> Result<(), Error> {
    if let Some(field) = decisive_field(request) {
        return Err(inexpressible(protocol, field, "this, on which the answer depends,"));
    }
    for (field, value) in &request.extra {
        match value {
            Value::Object(inner) if CONTAINERS.contains(&field.as_str()) => {
                dropped.extend(inner.keys().map(|inner| format!("{field}.{inner}")));
            }
            _ => dropped.push(field.clone()),
        }
    }
    Ok(())
}

/// Fields of OpenAI's chat and completions that have a word of their own. One that is still among those that
/// nobody knows has a value that is not of its type.
const SAMPLING: [&str; 12] = [
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
];

/// Refuses what only the request's own protocol knows, and without which the answer would be another. What is
/// then left behind hardly matters.
pub(super) fn refuse_bearing(request: &Request, protocol: Protocol) -> Result<(), Error> {
    let fields: &[&str] = match request.received.protocol {
        from if from == protocol => return Ok(()),
        Protocol::OpenAiChat => &["web_search_options", "modalities", "logit_bias", "functions"],
        Protocol::OpenAiCompletions => &["suffix", "echo", "best_of", "logit_bias"],
        _ => return Ok(()),
    };
    let mut fields = fields.iter().chain(&SAMPLING);
    let bearing = fields.find(|field| request.extra.get(**field).is_some_and(|value| bears(field, value)));
    if let Some(field) = bearing {
        return Err(inexpressible(protocol, *field, "this value"));
    }
    for (at, message) in request.messages.iter().enumerate() {
        let opaque = message.parts.iter().any(|part| matches!(part, Part::Opaque(_)));
        if opaque && request.received.protocol == Protocol::OpenAiCompletions {
            return Err(inexpressible(protocol, "prompt", "anything but one text"));
        }
        if message.extra.get("function_call").is_some_and(|call| !is_empty(call)) {
            let field = format!("messages[{at}].function_call");
            return Err(inexpressible(protocol, field, "a call of the older form"));
        }
    }
    Ok(())
}

/// Whether such a field changes the answer.
fn bears(field: &str, value: &Value) -> bool {
    match field {
        // Without any option it asks for a search all the same.
        "web_search_options" => !value.is_null(),
        "modalities" => value.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind != "text")),
        "best_of" => !value.is_null() && *value != 1,
        // Some servers write so that there is no limit.
        "top_k" | "max_tokens" | "max_completion_tokens" if *value == -1 => false,
        _ => !is_empty(value),
    }
}

/// An opaque part, where it is at home.
pub(super) fn opaque_part(
    request: &Request,
    protocol: Protocol,
    message: usize,
    part: &Part,
) -> Result<Value, Error> {
    match part {
        Part::Opaque(value) if at_home(request, protocol) => Ok(value.clone()),
        other => {
            let what = format!("a part of type `{}`", other.kind());
            Err(inexpressible(protocol, format!("messages[{message}]"), &what))
        }
    }
}

/// An opaque tool, where it is at home.
pub(super) fn opaque_tool(request: &Request, protocol: Protocol, at: usize) -> Result<Value, Error> {
    match &request.tools[at] {
        Tool::Opaque(value) if at_home(request, protocol) => Ok(value.clone()),
        Tool::Opaque(value) => {
            let kind = value.get("type").and_then(Value::as_str).unwrap_or("unknown");
            let what = format!("a tool of type `{kind}`");
            Err(inexpressible(protocol, format!("tools[{at}]"), &what))
        }
        Tool::Function { name, .. } => {
            let what = format!("the function `{name}`");
            Err(inexpressible(protocol, format!("tools[{at}]"), &what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Target, decode_request, encode_request};
    use serde_json::json;

    /// What comes of a request at a provider of another protocol: the field that is refused, or those left.
    fn abroad(from: Protocol, more: &Value, to: Protocol) -> Result<Dropped, Option<String>> {
        let target = Target { model: Some("m".into()), ..Target::default() };
        let mut body = match from {
            Protocol::Gemini => json!({ "contents": [{ "parts": [{ "text": "q" }] }] }),
            Protocol::OpenAiResponses => json!({ "model": "m", "input": "q" }),
            Protocol::OllamaGenerate => json!({ "model": "m", "prompt": "q" }),
            _ => json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "q" }] }),
        };
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = decode_request(from, &body.to_string().into(), &target).unwrap();
        let mut dropped = Dropped::new();
        match encode_request(to, &request, &mut dropped) {
            Ok(_) => Ok(dropped),
            Err(error) => Err(error.field),
        }
    }

    #[test]
    fn what_an_answer_depends_on_is_never_left_behind() {
        let cases = [
            (Protocol::Gemini, json!({ "cachedContent": "c/1" }), "cachedContent"),
            (
                Protocol::Gemini,
                json!({ "generationConfig": { "responseModalities": ["TEXT", "IMAGE"] } }),
                "generationConfig.responseModalities",
            ),
            (Protocol::Anthropic, json!({ "mcp_servers": [{ "name": "s" }] }), "mcp_servers"),
            (Protocol::Anthropic, json!({ "container": "c" }), "container"),
            (Protocol::OllamaGenerate, json!({ "suffix": "}" }), "suffix"),
            (Protocol::OllamaGenerate, json!({ "raw": true }), "raw"),
            (Protocol::OllamaGenerate, json!({ "context": [1] }), "context"),
            (Protocol::OpenAiResponses, json!({ "prompt": { "id": "p" } }), "prompt"),
            (Protocol::OpenAiChat, json!({ "modalities": ["text", "audio"] }), "modalities"),
        ];
        for (from, more, field) in cases {
            for to in Protocol::ALL.into_iter().filter(|to| *to != from) {
                assert_eq!(abroad(from, &more, to), Err(Some(field.to_owned())), "{more} to {}", to.name());
            }
            assert_eq!(abroad(from, &more, from), Ok(vec![]), "{more}");
        }
    }

    #[test]
    fn what_hardly_matters_is_left_by_its_full_name() {
        let left = |from, more| abroad(from, &more, Protocol::OpenAiChat);
        let config =
            json!({ "generationConfig": { "responseModalities": ["TEXT"], "mediaResolution": "LOW" } });
        let named = ["generationConfig.responseModalities", "generationConfig.mediaResolution"];
        assert_eq!(left(Protocol::Gemini, config), Ok(named.map(str::to_owned).to_vec()));
        let options = json!({ "options": { "mirostat": 1 }, "raw": false });
        let named = ["raw", "options.mirostat"];
        assert_eq!(left(Protocol::OllamaGenerate, options), Ok(named.map(str::to_owned).to_vec()));
        let user = json!({ "metadata": { "user_id": "u" }, "container": null });
        let named = ["metadata", "container"];
        assert_eq!(left(Protocol::Anthropic, user), Ok(named.map(str::to_owned).to_vec()));
    }
    #[test]
    fn what_bears_on_an_answer_is_refused_and_the_rest_is_left() {
        let chat = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}]});
        let completion = json!({"model": "m", "max_tokens": 9, "prompt": "q"});
        let cases = [
            (Protocol::OpenAiChat, "web_search_options", json!({}), false),
            (Protocol::OpenAiChat, "modalities", json!(["text", "audio"]), false),
            (Protocol::OpenAiChat, "modalities", json!(["text"]), true),
            (Protocol::OpenAiChat, "logit_bias", json!({"5": -100}), false),
            (Protocol::OpenAiChat, "logit_bias", json!({}), true),
            (Protocol::OpenAiChat, "functions", json!([{"name": "f"}]), false),
            (Protocol::OpenAiChat, "top_k", json!(-1), true),
            (Protocol::OpenAiChat, "top_k", json!(-2), false),
            (Protocol::OpenAiChat, "temperature", json!("s3cret"), false),
            (Protocol::OpenAiChat, "user", json!("u"), true),
            (Protocol::OpenAiCompletions, "suffix", json!("the end"), false),
            (Protocol::OpenAiCompletions, "echo", json!(true), false),
            (Protocol::OpenAiCompletions, "echo", json!(false), true),
            (Protocol::OpenAiCompletions, "best_of", json!(2), false),
            (Protocol::OpenAiCompletions, "best_of", json!(1), true),
            (Protocol::OpenAiCompletions, "prompt", json!(["a", "b"]), false),
            (Protocol::OpenAiCompletions, "prompt", json!([[1, 2]]), false),
        ];
        for (from, field, value, left) in cases {
            let mut body = if from == Protocol::OpenAiChat { chat.clone() } else { completion.clone() };
            body[field] = value;
            let request = decode_request(from, &body.to_string().into(), &Target::default()).unwrap();
            assert!(encode_request(from, &request, &mut Dropped::new()).is_ok(), "{body}");
            let mut dropped = Dropped::new();
            match encode_request(Protocol::Anthropic, &request, &mut dropped) {
                Ok(_) => assert!(left && dropped == [field], "{body} {dropped:?}"),
                Err(error) => {
                    assert!(!left && error.field.as_deref() == Some(field), "{body} {error}");
                    assert!(!error.message.contains("s3cret"), "{error}");
                }
            }
        }
    }
}
