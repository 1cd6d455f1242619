//! What is asked: the scope that must match exactly, and the text that may be put in other words.

use super::Miss;
use crate::chat::{Delivery, Message, Part, Protocol, Received, Request, Sampling};
use crate::store::{About, EntryId, Scope};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Fields that change nothing about the answer, so two requests that differ in them are the same question.
/// They name the end user, label the request, or steer the provider's own prompt cache.
const IGNORED_FIELDS: [&str; 6] =
    ["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];

/// On whose behalf something is asked, and by whom it would be answered.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Whose answers may be seen.
    pub tenant: &'a str,
    /// The project context.
    pub project: &'a str,
    /// The kind of voice that would answer: `provider` or `local`.
    pub origin: &'a str,
}

/// A question, as the cache sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Everything but the question's text; it must match exactly.
    pub scope: Scope,
    /// The scope and the exact text.
    pub id: EntryId,
    /// The question: the words of the last user message.
    pub text: String,
    /// How many answers are wanted.
    pub answers: u32,
    /// Whether other words may ask the same. A text that is to be gone on with goes on as it stands.
    pub rewordable: bool,
    /// What an answer to it is about.
    pub about: About,
}

impl Query {
    /// The question in `request`, or why there is none that memory could answer.
    pub fn new(asker: &Asker<'_>, request: &Request) -> Result<Self, Miss> {
        // Destructured in full: a new field does not compile until someone decides about it.
        let Request {
            model,
            messages,
            tools,
            tool_choice,
            parallel_tools,
            response_format,
            thinking,
            sampling,
            delivery: Delivery { stream: _, options: _ },
            extra,
            received: Received { protocol, body: _, headers },
        } = request;
        if !tools.is_empty() || has_legacy_functions(extra) {
            return Err(Miss::Tools);
        }
        if *protocol == Protocol::OpenAiResponses && extra.contains_key("conversation") {
            return Err(Miss::Stateful);
        }
        let question = request.question().ok_or(Miss::NoQuestion)?;
        let text = question.plain_text();
        if text.trim().is_empty() {
            return Err(Miss::NoQuestion);
        }
        let Asker { tenant, project, origin } = asker;
        let extra = without_ignored(extra);
        // The same field may mean something else in another protocol, and the same words are another wish
        // where they are to be gone on with.
        let rewordable = !request.is_continuation();
        let dialect = (!extra.is_empty() || !rewordable).then_some(protocol);
        let limit =
            Sampling { max_tokens: sampling.answer_limit(), max_completion_tokens: None, ..sampling.clone() };
        let mut everything_else = json!({
            "tenant": tenant, "project": project, "origin": origin, "model": model,
            "earlier": messages[..messages.len() - 1], "question": without_words(question),
            "tool_choice": tool_choice, "parallel_tools": parallel_tools, "response_format": response_format,
            "thinking": thinking, "sampling": limit, "extra": extra, "dialect": dialect,
            "headers": betas(headers),
        });
        canonicalise(&mut everything_else);
        let scope = Scope(digest(&[everything_else.to_string().as_bytes()]));
        let id = EntryId(digest(&[&scope.0, text.as_bytes()]));
        let about = About {
            tenant: (*tenant).to_owned(),
            project: (*project).to_owned(),
            model: model.clone(),
            tags: Vec::new(),
        };
        Ok(Self { scope, id, text, answers: sampling.n.unwrap_or(1), rewordable, about })
    }
}

/// The headers that change what a provider answers.
fn betas(headers: &[(String, String)]) -> Vec<&(String, String)> {
    headers.iter().filter(|(name, _)| name.ends_with("-beta")).collect()
}

fn has_legacy_functions(extra: &Map<String, Value>) -> bool {
    extra.get("functions").and_then(Value::as_array).is_some_and(|functions| !functions.is_empty())
}

/// The shape of the question: its images, and where words stood among them. Where words stand in several
/// places, which of them stand where is part of the shape too, and nothing may be put in other words.
fn without_words(question: &Message) -> Message {
    let mut shape = question.clone();
    if shape.parts.iter().filter(|part| part.as_text().is_some()).count() > 1 {
        return shape;
    }
    for part in &mut shape.parts {
        if let Part::Text { text, .. } = part {
            text.clear();
        }
    }
    shape
}

fn without_ignored(extra: &Map<String, Value>) -> Map<String, Value> {
    let kept = extra.iter().filter(|(field, _)| !IGNORED_FIELDS.contains(&field.as_str()));
    kept.map(|(field, value)| (field.clone(), value.clone())).collect()
}

/// Makes a value be written in one way: keys in order, and a number as it counts (0.0 is 0).
fn canonicalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.sort_keys();
            fields.values_mut().for_each(canonicalise);
        }
        Value::Array(items) => items.iter_mut().for_each(canonicalise),
        Value::Number(number) => match number.as_f64() {
            // Beyond 2^53 not every integer is a float, and the cast would lie.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                *value = json!(float as i64);
            }
            _ => {}
        },
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// SHA-256 over the parts, each with its length before it, so that no two lists of parts run together.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Target;
    use crate::wire::openai_chat::decode_request;

    const ASKER: Asker<'_> = Asker { tenant: "t", project: "p", origin: "provider" };

    fn query(asker: &Asker<'_>, body: &Value) -> Result<Query, Miss> {
        Query::new(asker, &decode_request(body.to_string().as_bytes()).unwrap())
    }

    fn decoded(protocol: Protocol, body: &Value) -> Request {
        let body = bytes::Bytes::from(body.to_string());
        crate::wire::decode_request(protocol, &body, &Target::default()).unwrap()
    }

    fn base() -> Value {
        json!({
            "model": "m", "temperature": 0, "seed": 1, "max_tokens": 9, "future": {"a": 1, "b": 2},
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": "u"}}]}
            ]
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut body = base();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(items) => items[field.parse::<usize>().unwrap()] = value,
            other => other[field] = value,
        }
        body
    }

    #[test]
    fn whatever_bears_meaning_is_part_of_the_scope() {
        let scope = query(&ASKER, &base()).unwrap().scope;
        let changes = [
            ("/model", json!("m2")),
            ("/temperature", json!(0.1)),
            ("/seed", json!(2)),
            ("/max_tokens", json!(10)),
            ("/max_completion_tokens", json!(8)),
            ("/top_p", json!(0.5)),
            ("/stop", json!("x")),
            ("/n", json!(2)),
            ("/response_format", json!({"type": "json_object"})),
            ("/tool_choice", json!("none")),
            ("/future", json!({"a": 1, "b": 3})),
            ("/messages/0/content", json!("s2")),
            ("/messages/0/role", json!("developer")),
            ("/messages/0/name", json!("boss")),
            ("/messages/1/content/1/image_url/url", json!("u2")),
            ("/messages/1/name", json!("anna")),
        ];
        for (pointer, value) in changes {
            let changed = query(&ASKER, &with(pointer, value)).unwrap().scope;
            assert_ne!(changed, scope, "{pointer}");
        }
    }

    #[test]
    fn every_form_of_the_answer_is_a_scope_of_its_own() {
        let schema = json!({"type": "object"});
        let formats = [
            json!({"type": "json_object"}),
            json!({"type": "json_object", "schema": schema}),
            json!({"type": "json_object", "schema": {"type": "array"}}),
            json!({"type": "json_object", "future": 1}),
            json!({"type": "text", "future": 1}),
            json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}),
            json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "future": 1}}),
            json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}, "future": 1}),
            json!({"type": "json_schema", "json_schema": {"name": 5, "schema": schema}}),
            json!({"type": "grammar", "grammar": "g"}),
        ];
        let scopes: std::collections::BTreeSet<_> = formats
            .iter()
            .map(|format| query(&ASKER, &with("/response_format", format.clone())).unwrap().scope)
            .collect();
        assert_eq!(scopes.len(), formats.len());
    }

    #[test]
    fn a_text_to_go_on_with_is_no_question() {
        let asked = |protocol, body: Value| Query::new(&ASKER, &decoded(protocol, &body)).unwrap();
        let generate =
            |raw: bool| asked(Protocol::OllamaGenerate, json!({"model": "m", "prompt": "q", "raw": raw}));
        let chat = asked(
            Protocol::OpenAiChat,
            json!({"model": "m", "messages": [{"role": "user", "content": "q"}]}),
        );
        let prompt = asked(Protocol::OpenAiCompletions, json!({"model": "m", "prompt": "q"}));
        assert_ne!(chat.scope, prompt.scope);
        let rewordable = [&chat, &prompt, &generate(true), &generate(false)].map(|query| query.rewordable);
        assert_eq!(rewordable, [true, false, false, true]);
    }

    #[test]
    fn whatever_bears_none_is_not() {
        let same = query(&ASKER, &base()).unwrap();
        let changes = [
            ("/temperature", json!(0.0)),
            ("/stream", json!(true)),
            ("/stream_options", json!({"include_usage": true})),
            ("/user", json!("anna")),
            ("/metadata", json!({"trace": "1"})),
            ("/future", json!({"b": 2.0, "a": 1})),
        ];
        for (pointer, value) in changes {
            assert_eq!(query(&ASKER, &with(pointer, value)), Ok(same.clone()), "{pointer}");
        }
    }

    #[test]
    fn words_on_either_side_of_an_image_are_not_mixed_up() {
        let image = json!({"type": "image_url", "image_url": {"url": "u"}});
        let split = |before: &str, after: &str| {
            let text = |text: &str| json!({"type": "text", "text": text});
            query(&ASKER, &with("/messages/1/content", json!([text(before), image, text(after)]))).unwrap()
        };
        let (one, other) = (split("a", "b\nc"), split("a\nb", "c"));
        assert_eq!(one.text, other.text);
        assert_ne!((one.scope, one.id), (other.scope, other.id));
    }

    #[test]
    fn tenants_projects_and_origins_never_meet() {
        let askers = [
            ASKER,
            Asker { tenant: "t2", ..ASKER },
            Asker { project: "p2", ..ASKER },
            Asker { origin: "local", ..ASKER },
            // The same letters, split elsewhere.
            Asker { tenant: "tp", project: "", ..ASKER },
        ];
        let scopes: std::collections::BTreeSet<_> =
            askers.iter().map(|asker| query(asker, &base()).unwrap().scope).collect();
        assert_eq!(scopes.len(), askers.len());
    }

    #[test]
    fn the_words_change_the_id_and_not_the_scope() {
        let (one, other) = (
            query(&ASKER, &base()).unwrap(),
            query(&ASKER, &with("/messages/1/content/0/text", json!("other"))).unwrap(),
        );
        assert_eq!((one.scope, one.id == other.id), (other.scope, false));
    }

    #[test]
    fn what_memory_must_not_answer_says_why() {
        let tool = json!([{"type": "function", "function": {"name": "f"}}]);
        let cases = [
            (with("/tools", tool.clone()), Miss::Tools),
            (with("/functions", tool), Miss::Tools),
            (with("/messages/1", json!({"role": "assistant", "content": "q"})), Miss::NoQuestion),
            (with("/messages/1/content", json!("  \n")), Miss::NoQuestion),
            (with("/messages/1/content", json!([{"type": "image_url"}])), Miss::NoQuestion),
        ];
        for (body, miss) in cases {
            assert_eq!(query(&ASKER, &body), Err(miss), "{body}");
        }
        let kept = decoded(
            Protocol::OpenAiResponses,
            &json!({"model": "m", "input": "q", "conversation": "conv_1"}),
        );
        assert_eq!(Query::new(&ASKER, &kept), Err(Miss::Stateful));
    }
}
