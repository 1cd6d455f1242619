//! Which answers are worth giving again.

use super::Config;
use crate::chat::{Block, Choice, Finish, Reply};
use serde::Serialize;
use std::io;

/// Why an answer is not remembered. The names are stable: they appear in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotKept {
    /// It says nothing.
    Empty,
    /// It ends for another reason than that it is complete.
    Unfinished,
    /// It calls tools.
    CallsTools,
    /// It is a refusal.
    Refused,
    /// It, or what it answers, is longer than is kept.
    TooLarge,
    /// Whoever asked does not want it kept.
    Declined,
    /// A rule keeps it out.
    Rule,
    /// What is asked is to be another answer each time.
    Chance,
    /// What is asked changes sooner than anything is kept.
    Volatile,
    /// It was drawn too freely.
    Temperature,
    /// Too many answers wait to be written.
    QueueFull,
}

impl NotKept {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Unfinished => "unfinished",
            Self::CallsTools => "calls_tools",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Declined => "declined",
            Self::Rule => "rule",
            Self::Chance => "chance",
            Self::Volatile => "volatile",
            Self::Temperature => "temperature",
            Self::QueueFull => "queue_full",
        }
    }
}

/// Whether an answer to `text`, of which `wanted` choices were asked for, is one to give again.
pub(in crate::cache) fn worth_keeping(
    reply: &Reply,
    wanted: u32,
    text: &str,
    config: &Config,
) -> Result<(), NotKept> {
    match reply.choices.len() {
        0 => return Err(NotKept::Empty),
        given if given != wanted as usize => return Err(NotKept::Unfinished),
        _ => {}
    }
    reply.choices.iter().try_for_each(|choice| complete(choice, config))?;
    let most = config.max_answer_bytes;
    match text.len() > most || is_longer(reply, most) {
        true => Err(NotKept::TooLarge),
        false => Ok(()),
    }
}

fn complete(choice: &Choice, config: &Config) -> Result<(), NotKept> {
    let Choice { blocks, logprobs: _, finish } = choice;
    let said = choice.said();
    let says = !said.trim().is_empty();
    let calls = blocks.iter().any(|block| matches!(block, Block::ToolCall(_)));
    let refuses = blocks.iter().any(|block| matches!(block, Block::Refusal(_))) || reads_as_refusal(&said);
    match finish {
        _ if calls && !config.store_tool_calls => Err(NotKept::CallsTools),
        _ if refuses && !config.store_refusals => Err(NotKept::Refused),
        Some(Finish::Refusal) if !config.store_refusals => Err(NotKept::Refused),
        Some(Finish::Stop | Finish::StopSequence(_) | Finish::Refusal) if says || calls || refuses => Ok(()),
        Some(Finish::ToolCalls) if calls => Ok(()),
        Some(Finish::Stop | Finish::StopSequence(_) | Finish::Refusal | Finish::ToolCalls) => {
            Err(NotKept::Empty)
        }
        _ => Err(NotKept::Unfinished),
    }
}

/// How refusals begin where the provider does not mark them as such.
const REFUSALS: [&str; 16] = [
    "i'm sorry, but i can't",
    "i'm sorry, but i cannot",
    "i'm sorry, i can't",
    "i'm sorry, i cannot",
    "i am sorry, but i can't",
    "i am sorry, but i cannot",
    "sorry, but i can't",
    "sorry, i can't",
    "i can't help with",
    "i cannot help with",
    "i can't assist with",
    "i cannot assist with",
    "i'm unable to help",
    "i'm unable to assist",
    "i won't help with",
    "as an ai language model, i can",
];

/// A longer text that begins so goes on to say something.
const LONGEST_REFUSAL: usize = 400;

/// Whether a text is a refusal in so many words. One that only quotes such words is not kept either, and asked
/// again: that costs a hit, and no more.
fn reads_as_refusal(said: &str) -> bool {
    let said = said.trim_start();
    if said.len() > LONGEST_REFUSAL {
        return false;
    }
    let said = said.to_lowercase().replace('’', "'");
    REFUSALS.iter().any(|beginning| said.starts_with(beginning))
}

/// Whether it takes more than `most` bytes to write a reply down. No more are written than are counted.
fn is_longer(reply: &Reply, most: usize) -> bool {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Count(most), reply).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ToolCall;

    fn reply(change: impl FnOnce(&mut Choice)) -> Reply {
        let mut reply = Reply::text("m", "fine");
        change(&mut reply.choices[0]);
        reply
    }

    fn verdict(reply: &Reply, wanted: u32, config: &Config) -> Result<(), NotKept> {
        worth_keeping(reply, wanted, "q", config)
    }

    fn calling(finish: Finish) -> Reply {
        reply(|choice| {
            choice.blocks = vec![Block::ToolCall(ToolCall::default())];
            choice.finish = Some(finish);
        })
    }

    fn refusing(finish: Finish) -> Reply {
        reply(|choice| {
            choice.blocks = vec![Block::Refusal("no".into())];
            choice.finish = Some(finish);
        })
    }

    #[test]
    fn only_complete_plain_answers_are_worth_keeping() {
        let config = Config::default();
        let finished = |finish| reply(|choice| choice.finish = Some(finish));
        let cases = [
            (reply(|_| {}), Ok(())),
            (finished(Finish::StopSequence("x".into())), Ok(())),
            (Reply::default(), Err(NotKept::Empty)),
            (reply(|choice| choice.blocks = vec![Block::text(" \n")]), Err(NotKept::Empty)),
            (reply(|choice| choice.finish = None), Err(NotKept::Unfinished)),
            (finished(Finish::Length), Err(NotKept::Unfinished)),
            (finished(Finish::ContentFilter), Err(NotKept::Unfinished)),
            (reply(|choice| choice.blocks.push(Block::Refusal("no".into()))), Err(NotKept::Refused)),
            (finished(Finish::Refusal), Err(NotKept::Refused)),
            (refusing(Finish::Stop), Err(NotKept::Refused)),
            (Reply::text("m", "I’m sorry, but I can’t assist with that."), Err(NotKept::Refused)),
            (Reply::text("m", "Sorry, I can't do that."), Err(NotKept::Refused)),
            (Reply::text("m", "\"Sorry, I can't\" is what it says."), Ok(())),
            (Reply::text("m", format!("I can't help with all, but {}", "this works. ".repeat(50))), Ok(())),
            (calling(Finish::ToolCalls), Err(NotKept::CallsTools)),
            (calling(Finish::Stop), Err(NotKept::CallsTools)),
        ];
        for (reply, expected) in cases {
            assert_eq!(verdict(&reply, 1, &config), expected, "{reply:?}");
        }
        assert_eq!(verdict(&reply(|_| {}), 2, &config), Err(NotKept::Unfinished), "one of two");
    }

    #[test]
    fn refusals_and_calls_are_kept_where_that_is_switched_on() {
        let config = Config { store_refusals: true, store_tool_calls: true, ..Config::default() };
        for kept in [
            refusing(Finish::Stop),
            refusing(Finish::Refusal),
            Reply::text("m", "I can't help with that."),
            calling(Finish::ToolCalls),
            calling(Finish::Stop),
            reply(|choice| choice.blocks.push(Block::ToolCall(ToolCall::default()))),
        ] {
            assert_eq!(verdict(&kept, 1, &config), Ok(()), "{kept:?}");
        }
        let nothing = |finish| reply(|choice| (choice.blocks, choice.finish) = (Vec::new(), Some(finish)));
        assert_eq!(verdict(&nothing(Finish::ToolCalls), 1, &config), Err(NotKept::Empty));
        assert_eq!(verdict(&nothing(Finish::Refusal), 1, &config), Err(NotKept::Empty));
        assert_eq!(verdict(&calling(Finish::Length), 1, &config), Err(NotKept::Unfinished));
    }

    #[test]
    fn neither_a_long_answer_nor_one_to_a_long_question_is_kept() {
        let config = Config { max_answer_bytes: 1000, ..Config::default() };
        let long = Reply::text("m", "x".repeat(1001));
        assert_eq!(verdict(&long, 1, &config), Err(NotKept::TooLarge));
        assert_eq!(worth_keeping(&reply(|_| {}), 1, &"q".repeat(1001), &config), Err(NotKept::TooLarge));
        assert_eq!(worth_keeping(&Reply::text("m", "x".repeat(800)), 1, &"q".repeat(1000), &config), Ok(()));
    }
}
