//! Random requests, of few words, so that they look alike.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use weir::chat::{
    Media, Message, Part, Protocol, Request, ResponseFormat, Role, Sampling, Thinking, Tool, ToolCall,
    ToolChoice,
};

const WORDS: [&str; 12] =
    ["play", "track", "3", "4", "mute", "the", "not", "é", "a\"b", "line\nbreak", "🦄", "session=ab12"];

/// Draws at random, and the same from the same seed.
pub(super) struct Draw(StdRng);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end.max(1))
    }

    /// One time out of so many.
    pub(super) fn chance(&mut self, out_of: usize) -> bool {
        self.below(out_of) == 0
    }

    pub(super) fn one_of<'t, T>(&mut self, items: &'t [T]) -> &'t T {
        &items[self.below(items.len())]
    }

    /// One of these names.
    pub(super) fn name<'n>(&mut self, names: &[&'n str]) -> &'n str {
        names[self.below(names.len())]
    }

    pub(super) fn words(&mut self) -> String {
        let count = 1 + self.below(4);
        (0..count).map(|_| self.name(&WORDS)).collect::<Vec<_>>().join(" ")
    }

    /// A small JSON value.
    pub(super) fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.chance(2)),
            2 => json!(self.below(3)),
            3 => json!(self.below(5) as f64 / 2.0),
            4 => json!(self.words()),
            5 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            _ => Value::Object(self.fields(depth - 1)),
        }
    }

    pub(super) fn fields(&mut self, depth: usize) -> Map<String, Value> {
        let count = 1 + self.below(3);
        (0..count).map(|at| (["a", "b", "c"][at].to_owned(), self.value(depth))).collect()
    }

    pub(super) fn schema(&mut self) -> Value {
        let kind = *self.one_of(&["string", "number", "boolean"]);
        json!({"type": "object", "properties": {"x": {"type": kind}, "y": {"enum": ["a", "b"]}}, "required": ["x"]})
    }

    pub(super) fn tool(&mut self, name: &str) -> Tool {
        Tool::Function {
            name: name.to_owned(),
            description: self.chance(2).then(|| self.words()),
            parameters: Some(self.schema()),
            strict: None,
            extra: Map::new(),
        }
    }

    pub(super) fn call(&mut self, id: &str) -> ToolCall {
        let arguments = Value::Object(self.fields(1)).to_string();
        ToolCall { id: id.to_owned(), name: "f".to_owned(), arguments, ..ToolCall::default() }
    }

    pub(super) fn picture(&mut self) -> Part {
        let data = *self.one_of(&["iVBORw0KGgo=", "iVBORw0KGgp="]);
        Part::Image(Media::at(&format!("data:image/png;base64,{data}")))
    }

    /// Turns before the question: some words, or tools called and what they said.
    fn earlier(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for turn in 0..self.below(3) {
            messages.push(Message::text(Role::User, self.words()));
            if self.chance(2) {
                let ids = [format!("call_{turn}a"), format!("call_{turn}b")];
                let mut calling = Message::empty(Role::Assistant);
                calling.parts = ids.iter().map(|id| Part::ToolCall(self.call(id))).collect();
                messages.push(calling);
                messages.extend(ids.map(|id| Message {
                    tool_call_id: Some(id),
                    tool_name: Some("f".to_owned()),
                    ..Message::text(Role::Tool, self.words())
                }));
            }
            messages.push(Message::text(Role::Assistant, self.words()));
        }
        messages
    }

    fn sampling(&mut self) -> Sampling {
        Sampling {
            temperature: self.chance(2).then(|| self.below(5) as f64 / 4.0),
            top_p: self.chance(3).then(|| self.below(5) as f64 / 4.0),
            max_completion_tokens: self.chance(2).then(|| 1 + self.below(900) as u32),
            seed: self.chance(3).then(|| i64::from(self.below(9) as u32)),
            stop: (0..self.below(3)).map(|at| format!("stop{at}")).collect(),
            ..Sampling::default()
        }
    }

    /// A request that `protocol` has words for.
    pub(super) fn request(&mut self, protocol: Protocol) -> Request {
        let mut request = Request { model: self.name(&["m", "m2"]).to_owned(), ..Request::default() };
        request.received.protocol = protocol;
        request.sampling = self.sampling();
        if matches!(protocol, Protocol::OpenAiCompletions | Protocol::OllamaGenerate) {
            request.messages.push(Message::text(Role::User, self.words()));
            return request;
        }
        if self.chance(2) {
            request.messages.push(Message::text(Role::System, self.words()));
        }
        request.messages.extend(self.earlier());
        let mut last = Message::text(Role::User, self.words());
        if self.chance(4) {
            last.parts.push(self.picture());
        }
        request.messages.push(last);
        if self.chance(2) {
            request.tools = vec![self.tool("f"), self.tool("g")];
            request.tool_choice = self.chance(2).then_some(ToolChoice::Auto);
        }
        if self.chance(4) {
            let schema = self.schema();
            request.response_format = Some(ResponseFormat::Schema {
                name: Some("s".into()),
                description: None,
                schema,
                strict: None,
            });
        }
        if self.chance(5) {
            request.thinking = Some(Thinking { effort: Some("low".into()), ..Thinking::default() });
        }
        if self.chance(3) {
            request.extra.insert("future".to_owned(), self.value(2));
        }
        request
    }
}
