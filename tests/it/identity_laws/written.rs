//! The same request in other letters: keys in another order, other white space, numbers spelled otherwise, and
//! fields that say nothing.

use super::draw::Draw;
use serde_json::{Map, Value, json};
use weir::chat::Protocol;

/// Fields whose numbers may be spelled as floats: no codec takes them for a count.
const FREE: [&str; 12] = [
    "parameters",
    "input_schema",
    "schema",
    "responseSchema",
    "response_schema",
    "parametersJsonSchema",
    "responseJsonSchema",
    "future",
    "temperature",
    "top_p",
    "topP",
    "args",
];

/// Where tool calls carry their arguments as text.
const ARGUMENTS: &str = "arguments";

/// Fields that say nothing, wherever they are; and the ids of tool calls.
const IGNORED: [&str; 14] = [
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "cache_control",
    "stream",
    "stream_options",
    "id",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "max_tokens",
];

/// Whether a change at `path` may say nothing.
pub(super) fn is_ignored(path: &str) -> bool {
    path.split('/').any(|step| IGNORED.contains(&step))
}

/// `body` in other letters.
pub(super) fn anew(body: &Value, protocol: Protocol, draw: &mut Draw) -> String {
    let mut body = body.clone();
    let said = match protocol {
        Protocol::OpenAiChat | Protocol::OpenAiResponses => {
            vec![("user", json!("u")), ("metadata", json!({"a": "b"})), ("prompt_cache_key", json!("k"))]
        }
        Protocol::OpenAiCompletions => vec![("user", json!("u"))],
        Protocol::Anthropic => vec![("metadata", json!({"user_id": "u"}))],
        _ => Vec::new(),
    };
    if let Value::Object(fields) = &mut body {
        let said = said.into_iter().filter(|_| draw.chance(2));
        fields.extend(said.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>());
    }
    let mut text = String::new();
    write(&body, false, &mut text, draw);
    text
}

fn space(text: &mut String, draw: &mut Draw) {
    text.push_str(draw.name(&["", "", " ", "\n", "\t ", "\r\n"]));
}

fn write(value: &Value, free: bool, text: &mut String, draw: &mut Draw) {
    space(text, draw);
    match value {
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                write(item, free, text, draw);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            (1..fields.len()).rev().for_each(|at| fields.swap(at, draw.below(at + 1)));
            text.push('{');
            for (at, (name, field)) in fields.into_iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                text.push_str(&Value::from(name.as_str()).to_string());
                space(text, draw);
                text.push(':');
                write_field(name, field, free || FREE.contains(&name.as_str()), text, draw);
            }
            text.push('}');
        }
        Value::Number(number) if free && number.is_i64() => {
            let spelled = [format!("{number}"), format!("{number}.0"), format!("{number}e0")];
            text.push_str(draw.one_of(&spelled).as_str());
        }
        other => text.push_str(&other.to_string()),
    }
    space(text, draw);
}

fn write_field(name: &str, field: &Value, free: bool, text: &mut String, draw: &mut Draw) {
    let arguments = field.as_str().filter(|_| name == ARGUMENTS);
    match arguments.and_then(|arguments| serde_json::from_str::<Value>(arguments).ok()) {
        Some(arguments) => {
            let mut written = String::new();
            write(&arguments, true, &mut written, draw);
            text.push_str(&Value::from(written).to_string());
        }
        None => write(field, free || name == ARGUMENTS, text, draw),
    }
}
