//! Changes that bear meaning, each of another kind.

use super::draw::Draw;
use serde_json::{Value, json};
use weir::chat::{
    Media, MediaSource, Message, Part, Request, ResponseFormat, Role, Thinking, Tool, ToolChoice,
};

/// A change that bears meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mutation {
    Model,
    Question,
    QuestionSpace,
    QuestionCase,
    EarlierWords,
    EarlierRole,
    EarlierRemoved,
    EarlierAdded,
    EarlierSwapped,
    WordsMoved,
    Picture,
    PictureAdded,
    SecondText,
    ToolName,
    ToolDescription,
    ToolParameters,
    ToolAdded,
    ToolsSwapped,
    ToolChoice,
    CallName,
    CallArguments,
    ResultWords,
    ResultFailed,
    ResultsSwapped,
    Format,
    FormatSchema,
    Temperature,
    TopP,
    Limit,
    Seed,
    Stop,
    Thinking,
    Extra,
    ExtraAdded,
    Beta,
}

impl Mutation {
    pub(super) const ALL: [Self; 35] = [
        Self::Model,
        Self::Question,
        Self::QuestionSpace,
        Self::QuestionCase,
        Self::EarlierWords,
        Self::EarlierRole,
        Self::EarlierRemoved,
        Self::EarlierAdded,
        Self::EarlierSwapped,
        Self::WordsMoved,
        Self::Picture,
        Self::PictureAdded,
        Self::SecondText,
        Self::ToolName,
        Self::ToolDescription,
        Self::ToolParameters,
        Self::ToolAdded,
        Self::ToolsSwapped,
        Self::ToolChoice,
        Self::CallName,
        Self::CallArguments,
        Self::ResultWords,
        Self::ResultFailed,
        Self::ResultsSwapped,
        Self::Format,
        Self::FormatSchema,
        Self::Temperature,
        Self::TopP,
        Self::Limit,
        Self::Seed,
        Self::Stop,
        Self::Thinking,
        Self::Extra,
        Self::ExtraAdded,
        Self::Beta,
    ];

    /// `request`, changed so; `None` where there is nothing to change.
    pub(super) fn apply(self, request: &Request, draw: &mut Draw) -> Option<Request> {
        let mut changed = request.clone();
        let done = match self {
            Self::Question | Self::QuestionSpace | Self::QuestionCase | Self::Picture => {
                self.in_question(changed.messages.last_mut()?, draw)
            }
            Self::PictureAdded => {
                let picture = draw.picture();
                changed.messages.last_mut().map(|last| last.parts.push(picture))
            }
            Self::SecondText => {
                let words = draw.words();
                changed.messages.last_mut().map(|last| last.parts.push(Part::text(words)))
            }
            Self::EarlierWords
            | Self::EarlierRole
            | Self::EarlierRemoved
            | Self::EarlierAdded
            | Self::EarlierSwapped
            | Self::WordsMoved => self.in_turns(&mut changed.messages, draw),
            Self::ToolName | Self::ToolDescription | Self::ToolParameters => {
                let tools = changed.tools.len();
                self.in_tool(changed.tools.get_mut(draw.below(tools))?)
            }
            Self::ToolAdded => {
                changed.tools.push(draw.tool("h"));
                Some(())
            }
            Self::ToolsSwapped => (changed.tools.len() > 1).then(|| changed.tools.swap(0, 1)),
            Self::CallName
            | Self::CallArguments
            | Self::ResultWords
            | Self::ResultFailed
            | Self::ResultsSwapped => self.in_calls(&mut changed.messages),
            _ => self.in_settings(&mut changed, draw),
        };
        done.map(|()| changed)
    }

    fn in_question(self, last: &mut Message, draw: &mut Draw) -> Option<()> {
        if self == Self::Picture {
            let data = last.parts.iter_mut().find_map(|part| match part {
                Part::Image(Media { source: MediaSource::Data(data), .. }) => Some(data),
                _ => None,
            });
            data?.insert(4, 'A');
            return Some(());
        }
        let text = words_in(last)?;
        match self {
            Self::Question => text.insert_str(0, draw.name(&["not ", "3 ", "x", "-"])),
            Self::QuestionSpace => text.push(*draw.one_of(&[' ', '\n', '\u{a0}'])),
            _ => *text = text.replacen('a', "A", 1),
        }
        Some(())
    }

    fn in_turns(self, messages: &mut Vec<Message>, draw: &mut Draw) -> Option<()> {
        let earlier = messages.len() - 1;
        let plain =
            |message: &&mut Message| matches!(message.role, Role::User | Role::Assistant | Role::System);
        match self {
            Self::EarlierAdded => {
                // Two, so that the one before the question is still a model's.
                messages.insert(earlier, Message::text(Role::Assistant, draw.words()));
                messages.insert(earlier, Message::text(Role::User, draw.words()));
            }
            Self::EarlierRemoved => drop((earlier > 0).then(|| messages.remove(0))?),
            Self::EarlierSwapped => {
                let at = draw.below(earlier.checked_sub(1)?);
                let (one, other) = (&messages[at], &messages[at + 1]);
                ((one.role, &one.parts) != (other.role, &other.parts)).then(|| messages.swap(at, at + 1))?;
            }
            Self::EarlierWords => {
                words_in(messages[..earlier].iter_mut().find(plain)?)?.push('x');
            }
            Self::EarlierRole => {
                let message = messages[..earlier].iter_mut().find(|message| message.role == Role::User)?;
                message.role = Role::Assistant;
            }
            _ => {
                let moved =
                    words_in(messages[..earlier].iter_mut().rfind(|m| plain(m))?).map(std::mem::take)?;
                words_in(messages.last_mut()?)?.insert_str(0, &moved);
            }
        }
        Some(())
    }

    fn in_tool(self, tool: &mut Tool) -> Option<()> {
        let Tool::Function { name, description, parameters, .. } = tool else { return None };
        match self {
            Self::ToolName => name.push('x'),
            Self::ToolDescription => description.get_or_insert_default().push('x'),
            _ => parameters.as_mut()?["properties"]["z"] = json!({"type": "string"}),
        }
        Some(())
    }

    fn in_calls(self, messages: &mut [Message]) -> Option<()> {
        let results: Vec<usize> = (0..messages.len()).filter(|at| messages[*at].role == Role::Tool).collect();
        match self {
            Self::ResultWords => words_in(&mut messages[*results.first()?])?.push('x'),
            Self::ResultFailed => messages[*results.first()?].failed = true,
            Self::ResultsSwapped => {
                let (one, other) = (*results.first()?, *results.get(1)?);
                let (first, second) = (messages[one].parts.clone(), messages[other].parts.clone());
                (first != second).then_some(())?;
                (messages[one].parts, messages[other].parts) = (second, first);
            }
            _ => {
                let call =
                    messages.iter_mut().flat_map(|message| &mut message.parts).find_map(
                        |part| match part {
                            Part::ToolCall(call) => Some(call),
                            _ => None,
                        },
                    )?;
                match self {
                    Self::CallName => call.name.push('x'),
                    _ => call.arguments = call.arguments.replacen('{', "{\"new\":1,", 1),
                }
            }
        }
        Some(())
    }

    fn in_settings(self, request: &mut Request, draw: &mut Draw) -> Option<()> {
        let sampling = &mut request.sampling;
        match self {
            Self::Model => request.model.push('x'),
            Self::ToolChoice => {
                request.tool_choice = Some(match request.tool_choice {
                    Some(ToolChoice::Required) => ToolChoice::None,
                    _ => ToolChoice::Required,
                });
            }
            Self::Format => {
                request.response_format = match request.response_format {
                    None => Some(ResponseFormat::Json),
                    Some(_) => None,
                }
            }
            Self::FormatSchema => match request.response_format.as_mut()? {
                ResponseFormat::Schema { schema, .. } => {
                    schema["properties"]["z"] = json!({"type": "string"});
                }
                _ => return None,
            },
            Self::Temperature => sampling.temperature = Some(sampling.temperature.unwrap_or(0.0) + 0.125),
            Self::TopP => sampling.top_p = Some(sampling.top_p.map_or(0.5, |p| f64::midpoint(p, 0.125))),
            Self::Limit => {
                sampling.max_completion_tokens = Some(sampling.max_completion_tokens.unwrap_or(7) + 1);
            }
            Self::Seed => sampling.seed = Some(sampling.seed.unwrap_or(7) + 1),
            Self::Stop => sampling.stop.push("halt".to_owned()),
            Self::Thinking => {
                let effort = Some("high".to_owned());
                request.thinking = Some(Thinking { effort, ..Thinking::default() });
            }
            Self::Extra => {
                let value = request.extra.get_mut("future")?;
                *value = json!([value.clone()]);
            }
            Self::ExtraAdded => drop(request.extra.insert("other".to_owned(), draw.value(1))),
            _ => request.received.headers.push(("openai-beta".to_owned(), "x".to_owned())),
        }
        Some(())
    }
}

fn words_in(message: &mut Message) -> Option<&mut String> {
    message.parts.iter_mut().find_map(|part| match part {
        Part::Text { text, .. } => Some(text),
        _ => None,
    })
}

/// The same, with other ids for its tool calls.
pub(super) fn with_other_ids(request: &Request, draw: &mut Draw) -> Request {
    let mut renamed = request.clone();
    let salt = draw.below(1000);
    let other = |id: &str| format!("toolu_{salt}_{id}");
    for message in &mut renamed.messages {
        message.tool_call_id = message.tool_call_id.as_deref().map(other);
        for part in &mut message.parts {
            if let Part::ToolCall(call) = part {
                call.id = other(&call.id);
            }
        }
    }
    renamed
}

/// Changes one value somewhere in `body`; gives where.
pub(super) fn any_value(body: &mut Value, draw: &mut Draw) -> Option<String> {
    let mut paths = Vec::new();
    walk(body, String::new(), &mut paths);
    let path = draw.one_of(&paths).clone();
    let value = body.pointer_mut(&path)?;
    match value {
        Value::Null => *value = json!(1),
        Value::Bool(flag) => *flag = !*flag,
        Value::Number(number) => *value = json!(number.as_f64()? + 1.0),
        Value::String(text) => match draw.below(3) {
            0 => text.push('x'),
            1 => text.insert(0, '7'),
            _ => *text = draw.words(),
        },
        Value::Array(items) => drop((!items.is_empty()).then(|| items.remove(0))?),
        Value::Object(fields) if draw.chance(2) => drop(fields.insert("unheard_of".to_owned(), json!(1))),
        Value::Object(fields) => {
            let name = fields.keys().nth(draw.below(fields.len()))?.clone();
            fields.remove(&name);
            return Some(format!("{path}/{name}"));
        }
    }
    Some(path)
}

fn walk(value: &Value, path: String, paths: &mut Vec<String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| walk(item, format!("{path}/{at}"), paths));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| walk(field, format!("{path}/{}", escaped(name)), paths));
        }
        _ => {}
    }
    paths.push(path);
}
