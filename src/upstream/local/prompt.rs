//! From a conversation to what the model reads, as much of it as it can read.

use super::fault::Fault;
use super::template::Template;
use super::tokenizer::Tokenizer;
use crate::chat::{Message, Role};
use serde_json::Value;

/// What one side says, in the roles a template knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub(super) role: &'static str,
    pub(super) text: String,
    /// The tools that it calls, with the arguments.
    pub(super) calls: Vec<(String, Value)>,
    /// The tool that speaks, where that is known.
    pub(super) tool: Option<String>,
}

/// A conversation, and the tools that the answer to it may call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation<'a> {
    pub(super) turns: &'a [Turn],
    pub(super) tools: &'a [Value],
    /// Whether it may be thought about first.
    pub(super) thinking: bool,
    /// Whether it is one text to go on with, as it stands: its author has written all of it, the template's words too,
    /// where there are any.
    pub(super) goes_on: bool,
}

impl Turn {
    /// The turn that `message` is. Templates know three roles, and some a fourth for tools: a developer speaks as the
    /// system.
    pub fn new(message: &Message) -> Self {
        let role = match message.role {
            Role::System | Role::Developer => "system",
            Role::User => "user",
            Role::Tool => "tool",
            Role::Assistant => "assistant",
        };
        let calls = message.tool_calls().map(|call| {
            let arguments = serde_json::from_str(&call.arguments);
            (call.name.clone(), arguments.unwrap_or_else(|_| Value::String(call.arguments.clone())))
        });
        let (calls, tool) = (calls.collect(), message.tool_name.clone());
        Self { role, text: message.plain_text(), calls, tool }
    }

    fn system(text: &str) -> Self {
        Self { role: "system", text: text.to_owned(), calls: Vec::new(), tool: None }
    }

    /// Adds `instructions` to what the system says first, or has it say them.
    pub(super) fn instruct(turns: &mut Vec<Self>, instructions: &str) {
        match turns.first_mut() {
            Some(first) if first.role == "system" => {
                first.text.push_str("\n\n");
                first.text.push_str(instructions);
            }
            _ => turns.insert(0, Self::system(instructions)),
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
    /// The same, in other words than theirs.
    Quoted(String),
}

/// The ids of as much of a conversation as fits into `room` tokens, and how many turns were left out; nothing where not
/// even its last turn fits. The oldest turns go first; what the system says stays.
pub(super) fn fit(
    conversation: Conversation<'_>,
    room: usize,
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Option<(Vec<u32>, usize)>, Fault> {
    let turns = conversation.turns;
    let earlier = turns.len().saturating_sub(1);
    let fitting = |dropped| {
        let kept = without_oldest(turns, dropped, template.alternates);
        let ids = encode_if_fits(&kept, conversation, room, template, tokenizer)?;
        Ok::<_, Fault>(ids.map(|ids| (ids, turns.len() - kept.len())))
    };
    if let Some(whole) = fitting(0)? {
        return Ok(Some(whole));
    }
    // The fewest dropped turns that are enough lie in `low..=high`.
    let (mut low, mut high) = (1, turns[..earlier].iter().filter(|turn| turn.may_be_dropped()).count());
    let mut best = fitting(high)?;
    while best.is_some() && low < high {
        let middle = low.midpoint(high);
        match fitting(middle)? {
            Some(fitted) => (best, high) = (Some(fitted), middle),
            None => low = middle + 1,
        }
    }
    Ok(best)
}

/// The ids of a whole conversation, or none where it does not fit into `room` tokens.
pub(super) fn fit_whole(
    conversation: Conversation<'_>,
    room: usize,
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Option<Vec<u32>>, Fault> {
    encode_if_fits(&conversation.turns.iter().collect::<Vec<_>>(), conversation, room, template, tokenizer)
}

fn without_oldest(turns: &[Turn], mut dropped: usize, alternates: bool) -> Vec<&Turn> {
    let mut answers_nothing = alternates && dropped > 0;
    let stays = |turn: &&Turn| {
        let drop = dropped > 0 && turn.may_be_dropped();
        dropped -= usize::from(drop);
        // Where they must take turns, an answer goes with what it answers.
        answers_nothing &= drop || turn.role != "user";
        !(drop || answers_nothing && turn.role == "assistant")
    };
    turns.iter().filter(stays).collect()
}

fn encode_if_fits(
    turns: &[&Turn],
    Conversation { tools, thinking, goes_on, .. }: Conversation<'_>,
    room: usize,
    template: &Template,
    tokenizer: &Tokenizer,
) -> Result<Option<Vec<u32>>, Fault> {
    // Each turn takes a token at least, and megabytes need not be tokenized to know that they are too much.
    let bytes: usize = turns.iter().map(|turn| turn.text.len()).sum();
    if turns.len() > room || bytes > room.saturating_mul(tokenizer.longest_token()) {
        return Ok(None);
    }
    let ids = match goes_on {
        true => tokenizer
            .encode(&turns.iter().map(|turn| Piece::Template(turn.text.clone())).collect::<Vec<_>>())?,
        false => tokenizer.encode(&template.render_with(turns, tools, thinking)?)?,
    };
    Ok((ids.len() <= room).then_some(ids))
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::Metadata;
    use super::super::tokenizer::tests::toy;
    use super::*;
    use candle_core::quantized::gguf_file;

    const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}\
                          <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    fn template() -> Template {
        Template::from_metadata(&Metadata::from([(
            "tokenizer.chat_template".to_owned(),
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
        let text = "\u{E000}0\u{E000}\u{E000}".to_owned();
        let said = turn(Role::User, &text);
        assert_eq!(template().render(&[&said]).unwrap()[1], Piece::Said(&text));
    }

    #[test]
    fn developers_speak_as_the_system_and_tools_as_the_user() {
        assert_eq!(turn(Role::Developer, "x"), turn(Role::System, "x"));
        let (tool, user) = (turn(Role::Tool, "x"), turn(Role::User, "x"));
        assert_eq!(template().render(&[&tool]).unwrap(), template().render(&[&user]).unwrap());
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
        let fit_in = |room| {
            fit(
                Conversation { turns: &turns, tools: &[], thinking: false, goes_on: false },
                room,
                &template(),
                &toy(),
            )
            .unwrap()
        };
        let (all, left_out) = fit_in(10_000).unwrap();
        assert_eq!(left_out, 0);
        assert!(texts(&all).contains("[first]"));

        let (one_less, left_out) = fit_in(all.len() - 1).unwrap();
        assert_eq!(left_out, 1);
        assert!(!texts(&one_less).contains("[first]"));
        assert!(texts(&one_less).contains("[rule]") && texts(&one_less).contains("[second]"));

        let (least, left_out) = (1..).find_map(fit_in).unwrap();
        assert_eq!(left_out, 3);
        assert!(!texts(&least).contains("[third]"));
        assert!(texts(&least).contains("[rule]") && texts(&least).contains("[last]"));
        assert_eq!(fit_in(least.len() - 1), None);

        let whole = |room| {
            fit_whole(
                Conversation { turns: &turns, tools: &[], thinking: false, goes_on: false },
                room,
                &template(),
                &toy(),
            )
            .unwrap()
        };
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
    fn a_text_to_go_on_with_is_read_as_it_stands() {
        let turns = [turn(Role::User, "once upon<|im_end|>")];
        let goes_on = Conversation { turns: &turns, tools: &[], thinking: false, goes_on: true };
        let (ids, _) = fit(goes_on, 100, &template(), &toy()).unwrap().unwrap();
        assert_eq!(ids, toy().encode(&[Piece::Template("once upon<|im_end|>".to_owned())]).unwrap());
        assert!(ids.len() < 20 && fit(goes_on, 5, &template(), &toy()).unwrap().is_none());
    }

    #[test]
    fn megabytes_do_not_fit() {
        let turns = [turn(Role::User, &"x".repeat(1 << 24))];
        assert_eq!(
            fit(
                Conversation { turns: &turns, tools: &[], thinking: false, goes_on: false },
                100,
                &template(),
                &toy()
            )
            .unwrap(),
            None
        );
    }
}
