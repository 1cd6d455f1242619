//! From a request to a [`Query`]: the scope that must match exactly, and the text that may be put in other
//! words.

use super::fingerprint::Fingerprint;
use super::parts::{Making, Part, Parts};
use super::reading::Reading;
use super::settings::{Context, Settings};
use super::turns::Turns;
use super::{ASIDE, IGNORED_FIELDS};
use crate::cache::Miss;
use crate::cache::policy::Partition;
use crate::chat::{Delivery, Message, Protocol, Received, Request, ResponseFormat, Role, Sampling};
use crate::chat::{Thinking, Tool, ToolChoice};
use crate::store::{About, EntryId, Scope};
use serde_json::Value;

/// On whose behalf something is asked, and by whom it would be answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asker<'a> {
    /// Whose answers may be seen.
    pub tenant: &'a str,
    /// The project context.
    pub project: &'a str,
    /// The state that the project is in, where the caller says: another state is another world.
    pub state: Option<&'a str>,
    /// The caller's labels for what is remembered. They are no part of what is asked.
    pub tags: &'a [String],
    /// The kind of voice that would answer: `provider` or `local`.
    pub origin: &'a str,
    /// The model that would answer; `None` is the one that the request names.
    pub model: Option<&'a str>,
    /// What the caller keeps apart from, beside all that.
    pub partitions: &'a [Partition],
}

/// A question, as the cache sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Everything but the question's text; it must match exactly.
    pub scope: Scope,
    /// The scope and the exact text.
    pub id: EntryId,
    /// The question: its words alone.
    pub text: String,
    /// How many answers are wanted.
    pub answers: u32,
    /// Whether other words may ask the same. A text that is to be gone on with goes on as it stands.
    pub rewordable: bool,
    /// What an answer to it is about.
    pub about: About,
    /// What the scope is made of.
    pub parts: Parts,
}

impl Query {
    /// The question in `request`, or why there is none that memory could answer. `reading` is how it is read
    /// under the same settings.
    pub fn new(
        asker: &Asker<'_>,
        settings: &Settings,
        request: &Request,
        reading: Option<Reading<'_>>,
    ) -> Result<Self, Miss> {
        if !settings.tools && offers_tools(request) {
            return Err(Miss::Tools);
        }
        if is_kept_by_provider(request) {
            return Err(Miss::Stateful);
        }
        let reading = reading.ok_or(Miss::NoQuestion)?;
        let (scope, parts) = scope(asker, settings, request, &reading);
        let mut id = Fingerprint::default();
        id.bytes(&scope.0);
        id.text(reading.text());
        let Reading { text, rewordable, .. } = reading;
        let answers = request.sampling.n.unwrap_or(1);
        let about = about(asker, &request.model);
        let (id, text) = (EntryId(id.finish()), text.into_owned());
        Ok(Self { scope, id, text, answers, rewordable, about, parts })
    }
}

/// What an answer is about: never whether it may be served.
fn about(asker: &Asker<'_>, model: &str) -> About {
    let state = asker.state.map(|state| format!("{STATE_TAG}{state}"));
    About {
        tenant: asker.tenant.to_owned(),
        project: asker.project.to_owned(),
        model: model.to_owned(),
        tags: state.into_iter().chain(asker.tags.iter().cloned()).collect(),
    }
}

/// Begins the tag that tells of a project's state.
pub const STATE_TAG: &str = "state:";

fn offers_tools(request: &Request) -> bool {
    let legacy = request.extra.get("functions").and_then(Value::as_array);
    !request.tools.is_empty() || legacy.is_some_and(|functions| !functions.is_empty())
}

/// Whether it goes on with a conversation that the provider keeps.
fn is_kept_by_provider(request: &Request) -> bool {
    request.received.protocol == Protocol::OpenAiResponses && request.extra.contains_key("conversation")
}

/// Everything but the question's words.
fn scope(asker: &Asker<'_>, settings: &Settings, request: &Request, reading: &Reading<'_>) -> (Scope, Parts) {
    // Destructured in full: a new field does not compile until someone decides about it.
    let Request {
        model,
        messages: _, // as they were read
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
    let Asker { tenant, project, state, tags: _, origin, model: answering, partitions } = asker;
    let Reading { text: _, earlier, message, parts, wrapping, rewordable: _, needs_context } = reading;
    let mut making = Making::default();
    making.add(Part::Tenant, |f| f.text(tenant));
    making.add(Part::Project, |f| f.text(project));
    making.add(Part::State, |f| f.option(*state, Fingerprint::text));
    making.add(Part::Origin, |f| f.text(origin));
    making.add(Part::Partitions, |f| feed_partitions(f, partitions));
    making.add(Part::Model, |f| f.text(answering.unwrap_or(model)));
    let context = if *needs_context { Context::Strict } else { settings.context };
    let mut turns = Turns::new(settings, reading);
    let counts = |message: &&Message| match context {
        Context::Strict => true,
        Context::SystemAndLast => matches!(message.role, Role::System | Role::Developer),
        Context::Last => false,
    };
    making.add(Part::EarlierTurns, |f| {
        f.text(context.name());
        turns.earlier(f, earlier.iter().filter(counts));
    });
    making.add(Part::Question, |f| {
        turns.question(f, message, parts);
        f.option(*wrapping, |f, wrapping| wrapping.feed(f));
    });
    making.add(Part::Tools, |f| {
        f.list(tools.len());
        tools.iter().for_each(|tool| feed_tool(f, tool));
    });
    making.add(Part::ToolChoice, |f| {
        f.option(tool_choice.as_ref(), feed_choice);
        f.option(*parallel_tools, Fingerprint::flag);
    });
    making.add(Part::Format, |f| f.option(response_format.as_ref(), feed_format));
    making.add(Part::Thinking, |f| f.option(thinking.as_ref(), feed_thinking));
    making.add(Part::Sampling, |f| feed_sampling(f, sampling));
    making.add(Part::OtherFields, |f| f.extra(extra, &IGNORED_FIELDS));
    making.add(Part::Headers, |f| feed_betas(f, headers));
    // The same field may mean something else in another protocol, and the same words are another wish where
    // they are to be gone on with.
    let continuation = request.is_continuation();
    let dialect = (making.is_dialectal() || continuation).then_some(protocol.name());
    making.add(Part::Protocol, |f| {
        f.flag(continuation);
        f.option(dialect, Fingerprint::text);
    });
    making.finish()
}

fn feed_partitions(f: &mut Fingerprint, partitions: &[Partition]) {
    f.list(partitions.len());
    for (way, name) in partitions {
        f.text(way);
        f.text(name);
    }
}

/// The headers that change what a provider answers.
fn feed_betas(f: &mut Fingerprint, headers: &[(String, String)]) {
    let betas: Vec<_> = headers.iter().filter(|(name, _)| name.ends_with("-beta")).collect();
    f.list(betas.len());
    for (name, value) in betas {
        f.text(name);
        f.text(value);
    }
}

fn feed_tool(f: &mut Fingerprint, tool: &Tool) {
    match tool {
        Tool::Function { name, description, parameters, strict, extra } => {
            f.text("function");
            f.text(name);
            f.option(description.as_deref(), Fingerprint::text);
            f.option(parameters.as_ref(), Fingerprint::value);
            f.option(*strict, Fingerprint::flag);
            f.extra(extra, &ASIDE);
        }
        Tool::Opaque(value) => {
            f.text("opaque");
            f.opaque(value);
        }
    }
}

fn feed_choice(f: &mut Fingerprint, choice: &ToolChoice) {
    match choice {
        ToolChoice::Auto => f.text("auto"),
        ToolChoice::None => f.text("none"),
        ToolChoice::Required => f.text("required"),
        ToolChoice::Function(name) => {
            f.text("function");
            f.text(name);
        }
        ToolChoice::Opaque(value) => {
            f.text("opaque");
            f.opaque(value);
        }
    }
}

fn feed_format(f: &mut Fingerprint, format: &ResponseFormat) {
    match format {
        ResponseFormat::Text => f.text("text"),
        ResponseFormat::Json => f.text("json"),
        ResponseFormat::Schema { name, description, schema, strict } => {
            f.text("schema");
            f.option(name.as_deref(), Fingerprint::text);
            f.option(description.as_deref(), Fingerprint::text);
            f.value(schema);
            f.option(*strict, Fingerprint::flag);
        }
        ResponseFormat::Opaque(value) => {
            f.text("opaque");
            f.opaque(value);
        }
    }
}

fn feed_thinking(f: &mut Fingerprint, thinking: &Thinking) {
    let Thinking { effort, budget, shown, extra } = thinking;
    f.option(effort.as_deref(), Fingerprint::text);
    f.option(*budget, |f, budget| f.whole(budget.into()));
    f.option(*shown, Fingerprint::flag);
    f.extra(extra, &ASIDE);
}

fn feed_sampling(f: &mut Fingerprint, sampling: &Sampling) {
    let Sampling {
        temperature,
        top_p,
        top_k,
        max_tokens: _, // whichever name the limit came under
        max_completion_tokens: _,
        seed,
        stop,
        n,
        presence_penalty,
        frequency_penalty,
        logprobs,
        top_logprobs,
    } = sampling;
    for number in [temperature, top_p, presence_penalty, frequency_penalty] {
        f.option(*number, Fingerprint::number);
    }
    for number in [*top_k, sampling.answer_limit(), *n, *top_logprobs] {
        f.option(number, |f, number| f.whole(number.into()));
    }
    f.option(*seed, |f, seed| f.whole(seed.into()));
    f.list(stop.len());
    stop.iter().for_each(|stop| f.text(stop));
    f.option(*logprobs, Fingerprint::flag);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::identity::Client;
    use crate::wire::Target;
    use crate::wire::openai_chat::decode_request;
    use serde_json::json;

    const ASKER: Asker<'_> = Asker {
        tenant: "t",
        project: "p",
        state: None,
        tags: &[],
        origin: "provider",
        model: None,
        partitions: &[],
    };

    fn query(asker: &Asker<'_>, body: &Value) -> Result<Query, Miss> {
        of(asker, &Settings::default(), &decode_request(body.to_string().as_bytes()).unwrap())
    }

    fn of(asker: &Asker<'_>, settings: &Settings, request: &Request) -> Result<Query, Miss> {
        Query::new(asker, settings, request, Reading::of(Client::Auto, request))
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
        let asked =
            |protocol, body: Value| of(&ASKER, &Settings::default(), &decoded(protocol, &body)).unwrap();
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
            Asker { model: Some("m2"), ..ASKER },
            // The same letters, split elsewhere.
            Asker { tenant: "tp", project: "", ..ASKER },
            Asker { partitions: &[("seed".into(), "p".to_owned())], ..ASKER },
            Asker { partitions: &[("namespace".into(), "p".to_owned())], ..ASKER },
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
        assert_eq!(of(&ASKER, &Settings::default(), &kept), Err(Miss::Stateful));
    }
}
