//! What a request asks of the local model, checked.

use super::calls::{Calls, Style};
use super::draw::{Draw, Further};
use super::form::Form;
use super::likelihood::MAX_OTHERS;
use super::prompt::{Conversation, Turn};
use crate::chat::{Message, Part, Request, Role, Sampling, Thinking, Tool, ToolChoice};
use crate::wire::decisive_fields;
use serde_json::{Value, json};

/// More stop strings than any client has use for.
const MAX_STOPS: usize = 16;

/// A request to the local model.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) turns: Vec<Turn>,
    pub(super) sampling: Sampling,
    /// What form the answer must have.
    pub(super) form: Option<Form>,
    /// The tools that may be called, as OpenAI writes them.
    pub(super) tools: Vec<Value>,
    /// Whether one call is enough.
    pub(super) one_call: bool,
    /// Whether it may be thought about first.
    thinking: bool,
    /// Whether a text is to be gone on with, as it stands.
    goes_on: bool,
    further: Further,
}

impl Ask {
    /// What `request` asks, or what in it the local model cannot do.
    pub(super) fn new(request: &Request) -> Result<Self, String> {
        let Request { messages, sampling, .. } = request;
        if messages.is_empty() {
            return Err("`messages` is empty: there is nothing to answer".to_owned());
        }
        let goes_on = request.is_continuation();
        // That a prompt is to be taken as it stands is all that Ollama's `raw` says.
        if let Some(field) = decisive_fields(request).find(|field| !(goes_on && *field == "raw")) {
            return Err(format!("`{field}`: the answer depends on it, and the local model does not know it"));
        }
        if goes_on && messages.iter().any(|message| message.role == Role::System) {
            return Err("`system`: a prompt that is taken as it stands has no place for it".to_owned());
        }
        if let Some(n) = sampling.n.filter(|&n| n != 1) {
            return Err(format!("`n` is {n}: the local model gives one answer"));
        }
        if sampling.stop.len() > MAX_STOPS {
            return Err(format!(
                "`stop` has {} strings: at most {MAX_STOPS} are watched for",
                sampling.stop.len()
            ));
        }
        if let Some(n) = sampling.top_logprobs.filter(|&n| n > MAX_OTHERS) {
            return Err(format!("`top_logprobs` is {n}: at most {MAX_OTHERS} are told"));
        }
        messages.iter().enumerate().try_for_each(|(at, message)| text_only(at, message))?;
        let form = Form::of(request)?;
        let mut turns: Vec<Turn> = messages.iter().map(Turn::new).collect();
        if let Some(form) = &form {
            Turn::instruct(&mut turns, &form.instructions);
        }
        // An answer of a form is in that form, and is no call that need not be made.
        let tools = if form.is_none() { may_be_called(request) } else { Vec::new() };
        let one_call = request.parallel_tools == Some(false);
        // A small model thinks long and gains little, so it does where that is asked for.
        let off =
            |thinking: &Thinking| thinking.effort.as_deref() == Some("none") || thinking.budget == Some(0);
        let thinking = form.is_none() && request.thinking.as_ref().is_some_and(|thinking| !off(thinking));
        let further = further(request);
        Ok(Self { turns, sampling: sampling.clone(), form, tools, one_call, thinking, goes_on, further })
    }

    /// The conversation, with what its answer may call.
    pub(super) fn conversation(&self) -> Conversation<'_> {
        let Self { turns, tools, thinking, goes_on, .. } = self;
        Conversation { turns, tools, thinking: *thinking, goes_on: *goes_on }
    }

    /// Looks for calls in the answer, where `style` says how they are written and there are tools to be called.
    pub(super) fn calls(&self, style: Option<Style>) -> Option<Calls> {
        let name = |tool: &Value| tool["function"]["name"].as_str().map(str::to_owned);
        let names: Vec<String> = self.tools.iter().filter_map(name).collect();
        style.filter(|_| !names.is_empty()).map(|style| Calls::new(style, names))
    }

    /// How many other tokens' likelihoods are told beside each, where any are.
    pub(super) fn likelihoods(&self) -> Option<usize> {
        let Sampling { logprobs, top_logprobs, .. } = self.sampling;
        logprobs.unwrap_or(false).then(|| top_logprobs.unwrap_or(0) as usize)
    }

    /// How each next token is drawn.
    pub(super) fn draw(&self) -> Draw {
        let draw = Draw::new(&self.sampling, self.further);
        // JSON says the same again and again.
        if self.form.is_some() { draw.without_care_for_loops() } else { draw }
    }
}

/// The tools that the answer to `request` may call.
fn may_be_called(request: &Request) -> Vec<Value> {
    if !matches!(request.tool_choice, None | Some(ToolChoice::Auto)) {
        return Vec::new();
    }
    let told = |tool: &Tool| match tool {
        Tool::Function { name, description, parameters, .. } => {
            let mut function = json!({ "name": name });
            for (key, value) in
                [("description", description.clone().map(Value::from)), ("parameters", parameters.clone())]
            {
                if let Some(value) = value {
                    function[key] = value;
                }
            }
            Some(json!({ "type": "function", "function": function }))
        }
        Tool::Opaque(_) => None,
    };
    request.tools.iter().filter_map(told).collect()
}

/// What llama.cpp, vLLM and others let a request say beyond its protocol.
fn further(request: &Request) -> Further {
    let number = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| request.extra.get(*name));
        let inner = names.iter().find_map(|name| request.extra.get("options")?.get(*name));
        found.or(inner).and_then(Value::as_f64).filter(|number| *number > 0.0 && number.is_finite())
    };
    Further {
        min_p: number(["min_p", "minP"]),
        repetition_penalty: number(["repetition_penalty", "repeat_penalty"]),
    }
}

fn text_only(at: usize, message: &Message) -> Result<(), String> {
    // What an assistant thought or called is left out; what a user shows is not.
    let silent = |part: &&Part| {
        !matches!(part, Part::Text { .. } | Part::Reasoning { .. } | Part::Refusal(_) | Part::ToolCall(_))
    };
    let unreadable = message.parts.iter().find(silent);
    unreadable.map_or(Ok(()), |part| {
        let kind = part.kind();
        Err(format!("`messages[{at}]` holds a part of type `{kind}`: the local model reads text only"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Protocol;

    fn asking(sampling: Sampling) -> Request {
        Request { messages: vec![Message::text(Role::User, "hi")], sampling, ..Request::default() }
    }

    fn refusal(request: &Request) -> String {
        Ask::new(request).unwrap_err()
    }

    #[test]
    fn what_the_model_cannot_do_is_named() {
        let nothing = Request::default();
        assert_eq!(refusal(&nothing), "`messages` is empty: there is nothing to answer");

        let two = asking(Sampling { n: Some(2), ..Sampling::default() });
        assert_eq!(refusal(&two), "`n` is 2: the local model gives one answer");

        let mut kept = asking(Sampling::default());
        kept.received.protocol = Protocol::OpenAiResponses;
        kept.extra.insert("previous_response_id".to_owned(), json!("resp_1"));
        assert!(refusal(&kept).starts_with("`previous_response_id`"));

        let stops = asking(Sampling { stop: vec!["x".to_owned(); 17], ..Sampling::default() });
        assert_eq!(refusal(&stops), "`stop` has 17 strings: at most 16 are watched for");

        let mut image = asking(Sampling::default());
        image.messages[0].parts.push(Part::Opaque(json!({"type": "image_url"})));
        assert_eq!(
            refusal(&image),
            "`messages[0]` holds a part of type `image_url`: the local model reads text only"
        );
    }

    #[test]
    fn a_raw_prompt_is_taken_as_it_stands_and_stands_alone() {
        let asked = |fields: Value| {
            let mut body = json!({ "model": "m", "prompt": "Once upon" });
            body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let body = bytes::Bytes::from(body.to_string());
            let target = crate::wire::Target::default();
            crate::wire::decode_request(Protocol::OllamaGenerate, &body, &target).unwrap()
        };
        assert!(Ask::new(&asked(json!({ "raw": true }))).unwrap().conversation().goes_on);
        assert!(!Ask::new(&asked(json!({ "raw": false }))).unwrap().conversation().goes_on);
        assert!(refusal(&asked(json!({ "raw": true, "system": "be brief" }))).starts_with("`system`"));
        assert!(refusal(&asked(json!({ "raw": true, "suffix": "." }))).starts_with("`suffix`"));
        assert!(
            refusal(&asked(json!({ "raw": true, "template": "{{ .Prompt }}" }))).starts_with("`template`")
        );
    }

    #[test]
    fn wishes_beyond_the_protocol_are_read_wherever_they_stand() {
        let mut request = asking(Sampling::default());
        assert_eq!(further(&request), Further::default());
        request.extra.insert("min_p".to_owned(), json!(0.1));
        request.extra.insert("options".to_owned(), json!({"repeat_penalty": 1.1}));
        let expected = Further { min_p: Some(0.1), repetition_penalty: Some(1.1) };
        assert_eq!(further(&request), expected);
        request.extra.insert("min_p".to_owned(), json!(-1));
        assert_eq!(further(&request).min_p, None);
    }
}
