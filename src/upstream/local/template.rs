//! The chat template in the GGUF file.
//!
//! It never sees what is said. It is rendered with a mark for each message, and the words are put in place of the marks
//! afterwards, so that they can be told from the template's own. What is said of tools and of their calls it does see,
//! since it may write it in its own way; but of that, each text that could be taken for a control token is a mark too.

use super::calls::Style;
use super::fault::Fault;
use super::prompt::{Piece, Turn};
use super::thoughts::Thoughts;
use super::tokenizer::{CONTROL, MARKER, Metadata, any_of};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use regex::Regex;
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Value as Json, json};
use std::borrow::Cow;
use std::io::{self, Write};

/// Stands on both sides of a message's number in a rendered template. A private-use character: no template
/// says it.
const MARK: char = '\u{E000}';

/// Stands behind the number of what a template wants without the space around it.
const TRIMMED: char = '!';

const KEY: &str = "tokenizer.chat_template";

/// The chat template.
pub struct Template {
    environment: Environment<'static>,
    /// Whether it insists that the user and the assistant take turns.
    pub(super) alternates: bool,
    /// How it teaches the model to call tools, where it does.
    pub(super) calls: Option<Style>,
    /// Whether the model may think before it answers.
    pub(super) thinks: bool,
    /// Finds what is more than text.
    special: Option<Regex>,
}

impl Template {
    /// The template of the model that `metadata` describes.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Fault> {
        let source = metadata.get(KEY).and_then(|value| value.to_string().ok());
        let source = source.ok_or(Fault::Metadata(KEY))?;
        let mut environment = Environment::new();
        // As the library that the templates are written for sets them.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(|_, value, method, arguments| {
            python_method(value, method, arguments)
        });
        environment.add_filter("tojson", |value: &Value, options: Kwargs| python_json(value, &options));
        environment.add_filter("trim", |text: String, ends: Option<String>| {
            let any = |c: char| ends.as_deref().map_or_else(|| c.is_whitespace(), |all| all.contains(c));
            trimmed(&text).unwrap_or_else(|| text.trim_matches(any).to_owned())
        });
        environment.add_function("raise_exception", |why: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, why))
        });
        for (name, key) in [("bos_token", "bos"), ("eos_token", "eos")] {
            environment.add_global(name, token(metadata, key).unwrap_or_default());
        }
        environment.add_template_owned(KEY, source.clone())?;
        let (alternates, thinks) = (source.contains("must alternate"), Thoughts::are_known_to(source));
        Ok(Self { environment, alternates, calls: Style::of(source), thinks, special: special(metadata)? })
    }

    /// `turns`, and the beginning of the answer to them.
    pub fn render<'a>(&self, turns: &[&'a Turn]) -> Result<Vec<Piece<'a>>, Fault> {
        self.render_with(turns, &[], false)
    }

    /// `turns`, and the beginning of the answer to them by someone who may call `tools`, and think before.
    pub(super) fn render_with<'a>(
        &self,
        turns: &[&'a Turn],
        tools: &[Json],
        enable_thinking: bool,
    ) -> Result<Vec<Piece<'a>>, Fault> {
        let mut marks = Marks { words: Vec::new(), special: self.special.as_ref() };
        let messages: Vec<Json> = turns.iter().map(|turn| self.message(turn, &mut marks)).collect();
        let told: Vec<Json> = tools.iter().map(|tool| marks.within(tool)).collect();
        let messages = Value::from_serialize(messages);
        let context = if told.is_empty() || self.calls.is_none() {
            context! { messages, enable_thinking, add_generation_prompt => true }
        } else {
            context! { messages, tools => Value::from_serialize(told), enable_thinking, add_generation_prompt => true }
        };
        split(&self.environment.get_template(KEY)?.render(context)?, &marks.words)
    }

    fn message<'a>(&self, turn: &'a Turn, marks: &mut Marks<'a, '_>) -> Json {
        // Who knows nothing of tools is told by the user what they say.
        let role = if turn.role == "tool" && self.calls.is_none() { "user" } else { turn.role };
        let mut message = json!({ "role": role, "content": marks.of(Cow::Borrowed(turn.text.as_str())) });
        if self.calls.is_some() && !turn.calls.is_empty() {
            let call = |(name, arguments): &(String, Json)| {
                let name = marks.within(&json!(name));
                json!({ "type": "function", "function": { "name": name, "arguments": marks.within(arguments) } })
            };
            message["tool_calls"] = turn.calls.iter().map(call).collect();
        }
        if let Some(name) = &turn.tool {
            message["name"] = marks.within(&json!(name));
        }
        message
    }
}

/// What stands for what.
struct Marks<'a, 's> {
    words: Vec<Cow<'a, str>>,
    special: Option<&'s Regex>,
}

impl<'a> Marks<'a, '_> {
    /// What stands for `words`. Nothing is said by nothing.
    fn of(&mut self, words: Cow<'a, str>) -> String {
        if words.is_empty() {
            return String::new();
        }
        self.words.push(words);
        format!("{MARK}{}{MARK}", self.words.len() - 1)
    }

    /// `value`, with a mark in place of each text that could be taken for more than text.
    fn within(&mut self, value: &Json) -> Json {
        match value {
            Json::String(text) => Json::String(self.text(text)),
            Json::Array(values) => values.iter().map(|value| self.within(value)).collect(),
            Json::Object(fields) => {
                fields.iter().map(|(key, value)| (self.text(key), self.within(value))).collect()
            }
            other => other.clone(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        if !text.contains(MARK) && !self.special.is_some_and(|special| special.is_match(text)) {
            return text.to_owned();
        }
        // It stands between the quotes of JSON.
        let quoted = json!(text).to_string();
        self.of(Cow::Owned(quoted[1..quoted.len() - 1].to_owned()))
    }
}

/// Between two marks stands the number of what was said; everything else is the template's.
fn split<'a>(rendered: &str, words: &[Cow<'a, str>]) -> Result<Vec<Piece<'a>>, Fault> {
    let piece = |(at, part): (usize, &str)| {
        if at % 2 == 0 {
            return Ok(Piece::Template(part.to_owned()));
        }
        let (number, is_trimmed) = part.strip_suffix(TRIMMED).map_or((part, false), |number| (number, true));
        match number.parse().ok().and_then(|number: usize| words.get(number)) {
            Some(Cow::Borrowed(words)) => Ok(Piece::Said(if is_trimmed { words.trim() } else { words })),
            Some(Cow::Owned(words)) => Ok(Piece::Quoted(words.clone())),
            None => Err(Fault::Metadata(KEY)),
        }
    };
    rendered.split(MARK).enumerate().map(piece).collect()
}

/// What stands for the same words without the space around them, where `text` is a mark.
fn trimmed(text: &str) -> Option<String> {
    let number = text.strip_prefix(MARK)?.strip_suffix(MARK)?;
    let number = number.strip_suffix(TRIMMED).unwrap_or(number);
    number.bytes().all(|digit| digit.is_ascii_digit()).then(|| format!("{MARK}{number}{TRIMMED}{MARK}"))
}

/// The text of the token that a text begins (`bos`) or ends with (`eos`): some templates say it.
fn token(metadata: &Metadata, which: &str) -> Option<String> {
    let id = metadata.get(&format!("tokenizer.ggml.{which}_token_id"))?.to_u32().ok()?;
    let tokens = metadata.get("tokenizer.ggml.tokens")?.to_vec().ok()?;
    tokens.get(id as usize)?.to_string().ok().cloned()
}

/// Finds all tokens that are more than text, where there are any.
fn special(metadata: &Metadata) -> Result<Option<Regex>, Fault> {
    let all = |key: &str| metadata.get(key).and_then(|values| values.to_vec().ok());
    let (Some(tokens), Some(types)) = (all("tokenizer.ggml.tokens"), all("tokenizer.ggml.token_type")) else {
        return Ok(None);
    };
    let special = tokens.iter().zip(types).filter_map(|(token, kind)| {
        let kind = kind.to_i32().unwrap_or_default();
        token.to_string().ok().filter(|token| [CONTROL, MARKER].contains(&kind) && !token.is_empty())
    });
    let special: Vec<&String> = special.collect();
    if special.is_empty() { Ok(None) } else { any_of(special.into_iter()).map(Some) }
}

/// What templates do to texts and tables beyond what minijinja knows: they were written for Python.
fn python_method(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::new(ErrorKind::UnknownMethod, format!("`{method}` of this value"));
    if value.kind() == ValueKind::Map {
        return table_method(value, method, arguments).ok_or_else(unknown);
    }
    let text = value.as_str().ok_or_else(unknown)?;
    let argument = arguments.first().and_then(Value::as_str);
    let any = |c: char| argument.map_or_else(|| c.is_whitespace(), |all| all.contains(c));
    Ok(match (method, argument) {
        ("strip", None) if trimmed(text).is_some() => Value::from(trimmed(text)),
        ("strip", _) => Value::from(text.trim_matches(any)),
        ("lstrip", _) => Value::from(text.trim_start_matches(any)),
        ("rstrip", _) => Value::from(text.trim_end_matches(any)),
        ("upper", None) => Value::from(text.to_uppercase()),
        ("lower", None) => Value::from(text.to_lowercase()),
        ("startswith", Some(begin)) => Value::from(text.starts_with(begin)),
        ("endswith", Some(end)) => Value::from(text.ends_with(end)),
        ("split", Some(at)) if !at.is_empty() => text.split(at).map(Value::from).collect(),
        _ => return Err(unknown()),
    })
}

fn table_method(table: &Value, method: &str, arguments: &[Value]) -> Option<Value> {
    let key = arguments.first();
    let of = |key: &Value| table.get_item(key).ok().filter(|value| !value.is_undefined());
    match method {
        "get" => Some(of(key?).or_else(|| arguments.get(1).cloned()).unwrap_or(Value::from(()))),
        "keys" => Some(table.try_iter().ok()?.collect()),
        "values" => Some(table.try_iter().ok()?.filter_map(|key| of(&key)).collect()),
        "items" => {
            let item = |key: Value| of(&key).map(|value| Value::from(vec![key, value]));
            Some(table.try_iter().ok()?.filter_map(item).collect())
        }
        _ => None,
    }
}

/// JSON as Python writes it, which is what the models were trained with.
fn python_json(value: &Value, options: &Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut text = Vec::new();
    if let Some(indent) = indent {
        let indent = " ".repeat(indent.min(16));
        let mut serializer =
            Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent.as_bytes()));
        value.serialize(&mut serializer).map_err(failed)?;
    } else {
        value.serialize(&mut Serializer::with_formatter(&mut text, Spaced)).map_err(failed)?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A space after each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Part, Role, ToolCall};
    use candle_core::quantized::gguf_file;

    fn of_source(source: &str) -> Template {
        let text = |text: &str| gguf_file::Value::String(text.to_owned());
        let tokens = ["<a>", "<s>", "<|im_end|>"];
        let metadata = Metadata::from([
            (KEY.to_owned(), text(source)),
            ("tokenizer.ggml.bos_token_id".to_owned(), gguf_file::Value::U32(1)),
            ("tokenizer.ggml.tokens".to_owned(), gguf_file::Value::Array(tokens.map(text).to_vec())),
            (
                "tokenizer.ggml.token_type".to_owned(),
                gguf_file::Value::Array([1, 3, 3].map(gguf_file::Value::I32).to_vec()),
            ),
        ]);
        Template::from_metadata(&metadata).unwrap()
    }

    /// In the way of Hermes.
    const HERMES: &str = "{%- if tools %}[{% for tool in tools %}{{ tool | tojson }}{% endfor %}]{% endif -%}
        {% for message in messages %}<s>{{ message.role }}:{{ message.content }}
        {%- for call in message.tool_calls %}<tool_call>{{ call.function.name }} {{ call.function.arguments | tojson }}{% endfor %}
        {%- endfor %}";

    fn written(template: &Template, turns: &[&Turn], tools: &[Json]) -> String {
        let pieces = template.render_with(turns, tools, false).unwrap();
        let text = |piece: &Piece<'_>| match piece {
            Piece::Template(text) | Piece::Quoted(text) => text.clone(),
            Piece::Said(text) => (*text).to_owned(),
        };
        pieces.iter().map(text).collect()
    }

    fn calling(arguments: &str) -> Turn {
        let call = ToolCall {
            id: "1".to_owned(),
            name: "sky".to_owned(),
            arguments: arguments.to_owned(),
            signature: None,
            extra: serde_json::Map::new(),
        };
        let mut message = Message::text(Role::Assistant, "");
        message.parts = vec![Part::ToolCall(call)];
        Turn::new(&message)
    }

    #[test]
    fn a_template_that_knows_tools_is_told_of_them_their_calls_and_what_they_say() {
        let asks = Turn::new(&Message::text(Role::User, "how is it?"));
        let calls = calling(r#"{"where":"here","at":[1,2]}"#);
        let says = Turn::new(&Message::text(Role::Tool, "blue"));
        let tools =
            [json!({"type": "function", "function": {"name": "sky", "parameters": {"type": "object"}}})];
        let all = [&asks, &calls, &says];
        let tool = r#"{"type": "function", "function": {"name": "sky", "parameters": {"type": "object"}}}"#;
        let told =
            r#"<s>user:how is it?<s>assistant:<tool_call>sky {"where": "here", "at": [1, 2]}<s>tool:blue"#;
        assert_eq!(written(&of_source(HERMES), &all, &tools), format!("[{tool}]{told}"));
        assert_eq!(written(&of_source(HERMES), &all, &[]), told);
        // One that does not know them hears of the results from the user.
        let simple =
            of_source("{% for message in messages %}<s>{{ message.role }}:{{ message.content }}{% endfor %}");
        assert_eq!(written(&simple, &all, &tools), "<s>user:how is it?<s>assistant:<s>user:blue");
        // What is no JSON is told as it is.
        assert!(written(&of_source(HERMES), &[&calling("not JSON")], &[]).contains(r#"sky "not JSON""#));
    }

    #[test]
    fn a_control_token_in_a_call_or_a_tool_is_text() {
        let calls = calling(r#"{"where":"a \"<|im_end|>\""}"#);
        let tools = [json!({"<s>": "\u{E000}0\u{E000}"})];
        let pieces = of_source(HERMES).render_with(&[&calls], &tools, false).unwrap();
        let quoted: Vec<&Piece<'_>> =
            pieces.iter().filter(|piece| !matches!(piece, Piece::Template(_))).collect();
        let expected =
            ["<s>", "\u{E000}0\u{E000}", r#"a \"<|im_end|>\""#].map(|text| Piece::Quoted(text.to_owned()));
        // The template says of tools before it says of calls, which were marked first.
        assert_eq!(quoted.len(), 3);
        assert!(expected.iter().all(|piece| quoted.contains(&piece)), "{quoted:?}");
        assert!(
            pieces.iter().all(|piece| !matches!(piece, Piece::Template(text) if text.contains("<|im_end|>")))
        );
    }

    #[test]
    fn what_is_said_loses_the_space_around_it_where_the_template_wants_that() {
        let said = Turn::new(&Message::text(Role::User, " \n how is it? "));
        for (source, expected) in [
            ("{{ messages[0].content | trim }}", "how is it?"),
            ("{{ (messages[0].content | trim).strip() }}", "how is it?"),
            ("{{ messages[0].content.strip() }}", "how is it?"),
            ("{{ messages[0].content }}", " \n how is it? "),
        ] {
            let pieces = of_source(source).render(&[&said]).unwrap();
            assert!(pieces.contains(&Piece::Said(expected)), "{source}: {pieces:?}");
        }
        assert_eq!(written(&of_source("{{ ' a ' | trim }}{{ '-b-' | trim('-') }}"), &[], &[]), "ab");
    }

    #[test]
    fn templates_may_do_what_python_does() {
        let source =
            "{{ bos_token }}{{ ' a '.strip() }}{{ 'x-y'.split('-')[-1] }}{{ 'y' if 'ab'.startswith('a') }}";
        let pieces = of_source(source).render(&[]).unwrap();
        assert_eq!(pieces, [Piece::Template("<s>ayy".to_owned())]);
        let source = "{% set t = {'b': 1, 'a': [2]} %}{{ t.get('b') }}{{ t.get('c', 3) }}{{ t.get('c') }}\
                      {% for k, v in t.items() %}{{ k }}={{ v }};{% endfor %}{{ t.keys() | list | length }}\
                      {{ t | tojson }}{{ t | tojson(indent=1) }}{{ '<é>' | tojson }}";
        let pieces = of_source(source).render(&[]).unwrap();
        let expected = "13Noneb=1;a=[2];2{\"b\": 1, \"a\": [2]}{\n \"b\": 1,\n \"a\": [\n  2\n ]\n}\"<é>\"";
        assert_eq!(pieces, [Piece::Template(expected.to_owned())]);
        let refusal = of_source("{{ raise_exception('no system') }}").render(&[]).unwrap_err();
        assert!(refusal.to_string().contains("no system"));
    }

    #[test]
    fn who_need_not_think_is_told_so() {
        let template = of_source("{% if enable_thinking is false %}<think></think>{% endif %}");
        assert!(template.thinks);
        let rendered = |think| template.render_with(&[], &[], think).unwrap();
        assert_eq!(rendered(false), [Piece::Template("<think></think>".to_owned())]);
        assert_eq!(rendered(true), [Piece::Template(String::new())]);
    }

    #[test]
    fn a_wrong_template_is_an_error() {
        let metadata = Metadata::from([(KEY.to_owned(), gguf_file::Value::String("{% for %}".to_owned()))]);
        assert!(matches!(Template::from_metadata(&metadata), Err(Fault::Template(_))));
    }
}
