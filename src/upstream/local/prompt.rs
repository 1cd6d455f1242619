//! From a conversation to the text the model reads, by the chat template in the GGUF file.
//!
//! The template never sees what is said. It is rendered with a mark for each message, and the words are put
//! in place of the marks afterwards, so that they can be told from the template's own.

use super::fault::Fault;
use super::tokenizer::{Metadata, Tokenizer};
use crate::chat::{Message, Role};
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// Stands on both sides of a message's number in a rendered template. A private-use character: no template
/// says it.
const MARK: char = '\u{E000}';

const KEY: &str = "tokenizer.chat_template";

/// What one side says, in the roles a template knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    role: &'static str,
    text: String,
}

impl Turn {
    /// The turn that `message` is. Templates know three roles: a developer speaks as the system, and a
    /// tool's result is told by the user.
    pub fn new(message: &Message) -> Self {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        Self { role, text: message.plain_text() }
    }

    /// Adds `instructions` to what the system says first, or has it say them.
    pub(super) fn instruct(turns: &mut Vec<Self>, instructions: &str) {
        match turns.first_mut() {
            Some(first) if first.role == "system" => {
                first.text.push_str("\n\n");
                first.text.push_str(instructions);
            }
            _ => turns.insert(0, Self { role: "system", text: instructions.to_owned() }),
        }
    }

    fn may_be_dropped(&self) -> bool {
        self.role != "system"
    }
}

/// A stretch of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The template's own words, control tokens among them.
    Template(String),
    /// What somebody said. Nothing in it has a meaning to the model's runtime.
    Said(&'a str),
}

/// The chat template.
pub struct Template {
    environment: Environment<'static>,
    /// Whether it insists that the user and the assistant take turns.
    alternates: bool,
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
        environment
            .set_unknown_method_callback(|_, value, method, arguments| text_method(value, method, arguments));
        environment.add_function("raise_exception", |why: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, why))
        });
        for (name, key) in [("bos_token", "bos"), ("eos_token", "eos")] {
            environment.add_global(name, token(metadata, key).unwrap_or_default());
        }
        environment.add_template_owned(KEY, source.clone())?;
        Ok(Self { environment, alternates: source.contains("must alternate") })
    }

    /// `turns`, and the beginning of the answer to them.
    pub fn render<'a>(&self, turns: &[&'a Turn]) -> Result<Vec<Piece<'a>>, Fault> {
        let marked = |(number, turn): (usize, &&Turn)| {
            context! { role => turn.role, content => format!("{MARK}{number}{MARK}") }
        };
        let messages: Vec<_> = turns.iter().enumerate().map(marked).collect();
        let template = self.environment.get_template(KEY)?;
        let rendered = template.render(context! { messages, add_generation_prompt => true })?;
        split(&rendered, turns)
    }
}

/// The text of the token that a text begins (`bos`) or ends with (`eos`): some templates say it.
fn token(metadata: &Metadata, which: &str) -> Option<String> {
    let id = metadata.get(&format!("tokenizer.ggml.{which}_token_id"))?.to_u32().ok()?;
    let tokens = metadata.get("tokenizer.ggml.tokens")?.to_vec().ok()?;
    tokens.get(id as usize)?.to_string().ok().cloned()
}

/// What templates do to texts beyond what minijinja knows: they were written for Python.
fn text_method(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::new(ErrorKind::UnknownMethod, format!("`{method}` of this value"));
    let text = value.as_str().ok_or_else(unknown)?;
    let argument = arguments.first().and_then(Value::as_str);
    let any = |c: char| argument.map_or_else(|| c.is_whitespace(), |all| all.contains(c));
    Ok(match (method, argument) {
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

/// Between two marks stands the number of a turn; everything else is the template's.
fn split<'a>(rendered: &str, turns: &[&'a Turn]) -> Result<Vec<Piece<'a>>, Fault> {
    let piece = |(at, part): (usize, &str)| {
        if at % 2 == 0 {
            return Ok(Piece::Template(part.to_owned()));
        }
        let turn = part.parse().ok().and_then(|number: usize| turns.get(number));
        turn.map(|turn| Piece::Said(&turn.text)).ok_or(Fault::Metadata(KEY))
    };
    rendered.split(MARK).enumerate().map(piece).collect()
}

/// The ids of as much of a conversation as fits into `room` tokens, or none where not even its last turn
/// does. The oldest turns go first; what the system says stays.
pub(super) fn fit(
    turns: &[Turn],
    room: usize,
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Option<Vec<u32>>, Fault> {
    let earlier = turns.len().saturating_sub(1);
    let fitting = |dropped| {
        let kept = without_oldest(turns, dropped, template.alternates);
        encode_if_fits(&kept, room, template, tokenizer)
    };
    if let Some(ids) = fitting(0)? {
        return Ok(Some(ids));
    }
    // The fewest dropped turns that are enough lie in `low..=high`.
    let (mut low, mut high) = (1, turns[..earlier].iter().filter(|turn| turn.may_be_dropped()).count());
    let mut best = fitting(high)?;
    while best.is_some() && low < high {
        let middle = low.midpoint(high);
        match fitting(middle)? {
            Some(ids) => (best, high) = (Some(ids), middle),
            None => low = middle + 1,
        }
    }
    Ok(best)
}

/// The ids of a whole conversation, or none where it does not fit into `room` tokens.
pub(super) fn fit_whole(
    turns: &[Turn],
    room: usize,
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Option<Vec<u32>>, Fault> {
    encode_if_fits(&turns.iter().collect::<Vec<_>>(), room, template, tokenizer)
}

fn without_oldest(turns: &[Turn], mut dropped: usize, alternates: bool) -> Vec<&Turn> {
    let mut answers_nothing = alternates && dropped > 0;
    let stays = |turn: &&Turn| {
        let drop = dropped > 0 && turn.may_be_dropped();
        dropped -= usize::from(drop);
        // Where they must take turns, an answer goes with what it answers.
        answers_nothing &= drop || turn.role != "user";
        !drop && !(answers_nothing && turn.role == "assistant")
    };
    turns.iter().filter(stays).collect()
}

fn encode_if_fits(
    turns: &[&Turn],
    room: usize,
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Option<Vec<u32>>, Fault> {
    // Each turn takes a token at least, and megabytes need not be tokenized to know that they are too much.
    let bytes: usize = turns.iter().map(|turn| turn.text.len()).sum();
    if turns.len() > room || bytes > room.saturating_mul(tokenizer.longest_token()) {
        return Ok(None);
    }
    let ids = tokenizer.encode(&template.render(turns)?)?;
    Ok((ids.len() <= room).then_some(ids))
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::toy;
    use super::*;
    use candle_core::quantized::gguf_file;

    const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}\
                          <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    fn template() -> Template {
        Template::from_metadata(&Metadata::from([(
            KEY.to_owned(),
            gguf_file::Value::String(CHATML.to_owned()),
        )]))
        .unwrap()
    }

    fn turn(role: Role, text: &str) -> Turn {
        Turn::new(&Message::text(role, text))
    }

    fn texts(ids: &[u32]) -> String {
        let tokenizer = toy();
        String::from_utf8(ids.iter().flat_map(|&id| tokenizer.bytes(id)).copied().collect()).unwrap()
    }

    #[test]
    fn what_is_said_is_told_from_the_template() {
        let hello = turn(Role::User, "<|im_end|>");
        let pieces = template().render(&[&hello]).unwrap();
        assert_eq!(
            pieces,
            [
                Piece::Template("<|im_start|>user\n".to_owned()),
                Piece::Said("<|im_end|>"),
                Piece::Template("<|im_end|>\n<|im_start|>assistant\n".to_owned()),
            ]
        );
    }

    #[test]
    fn a_mark_that_is_said_changes_nothing() {
        let text = format!("{MARK}0{MARK}{MARK}");
        let said = turn(Role::User, &text);
        assert_eq!(template().render(&[&said]).unwrap()[1], Piece::Said(&text));
    }

    #[test]
    fn developers_speak_as_the_system_and_tools_as_the_user() {
        assert_eq!(turn(Role::Developer, "x"), turn(Role::System, "x"));
        assert_eq!(turn(Role::Tool, "x"), turn(Role::User, "x"));
    }

    #[test]
    fn the_oldest_turns_make_room_and_the_system_stays() {
        let turns = [
            turn(Role::System, "[rule]"),
            turn(Role::User, "[first]"),
            turn(Role::Assistant, "[second]"),
            turn(Role::User, "[third]"),
            turn(Role::User, "[last]"),
        ];
        let fit_in = |room| fit(&turns, room, &template(), &toy()).unwrap();
        let all = fit_in(10_000).unwrap();
        assert!(texts(&all).contains("[first]"));

        let one_less = fit_in(all.len() - 1).unwrap();
        assert!(!texts(&one_less).contains("[first]"));
        assert!(texts(&one_less).contains("[rule]") && texts(&one_less).contains("[second]"));

        let least = (1..).find_map(fit_in).unwrap();
        assert!(!texts(&least).contains("[third]"));
        assert!(texts(&least).contains("[rule]") && texts(&least).contains("[last]"));
        assert_eq!(fit_in(least.len() - 1), None);

        let whole = |room| fit_whole(&turns, room, &template(), &toy()).unwrap();
        assert_eq!(whole(all.len()), Some(all.clone()));
        assert_eq!(whole(all.len() - 1), None);
    }

    #[test]
    fn where_they_must_take_turns_an_answer_goes_with_what_it_answers() {
        let turns = [
            turn(Role::System, "rule"),
            turn(Role::User, "first"),
            turn(Role::Assistant, "second"),
            turn(Role::User, "third"),
        ];
        let kept = |alternates| -> Vec<&str> {
            without_oldest(&turns, 1, alternates).iter().map(|turn| turn.text.as_str()).collect()
        };
        assert_eq!(kept(false), ["rule", "second", "third"]);
        assert_eq!(kept(true), ["rule", "third"]);
        assert_eq!(without_oldest(&turns[2..], 0, true).len(), 2);
    }

    #[test]
    fn megabytes_do_not_fit() {
        let turns = [turn(Role::User, &"x".repeat(1 << 24))];
        assert_eq!(fit(&turns, 100, &template(), &toy()).unwrap(), None);
    }

    #[test]
    fn templates_may_do_to_texts_what_python_does() {
        let source =
            "{{ bos_token }}{{ ' a '.strip() }}{{ 'x-y'.split('-')[-1] }}{{ 'y' if 'ab'.startswith('a') }}";
        let metadata = Metadata::from([
            (KEY.to_owned(), gguf_file::Value::String(source.to_owned())),
            ("tokenizer.ggml.bos_token_id".to_owned(), gguf_file::Value::U32(1)),
            (
                "tokenizer.ggml.tokens".to_owned(),
                gguf_file::Value::Array(
                    ["<a>", "<s>"].map(|text| gguf_file::Value::String(text.to_owned())).to_vec(),
                ),
            ),
        ]);
        let pieces = Template::from_metadata(&metadata).unwrap().render(&[]).unwrap();
        assert_eq!(pieces, [Piece::Template("<s>ayy".to_owned())]);
        let refuses = gguf_file::Value::String("{{ raise_exception('no system') }}".to_owned());
        let refuses = Template::from_metadata(&Metadata::from([(KEY.to_owned(), refuses)])).unwrap();
        assert!(refuses.render(&[]).unwrap_err().to_string().contains("no system"));
    }

    #[test]
    fn a_wrong_template_is_an_error() {
        let metadata = Metadata::from([(KEY.to_owned(), gguf_file::Value::String("{% for %}".to_owned()))]);
        assert!(matches!(Template::from_metadata(&metadata), Err(Fault::Template(_))));
    }
}
