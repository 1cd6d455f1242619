//! What a model thinks before it answers, told from the answer: `<think>…</think>` in front of it.

use super::calls::Heard;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Looks for a thought at the beginning of a text that comes in pieces.
pub(super) struct Thoughts {
    state: State,
    held: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It may begin with a thought.
    Before,
    Inside,
    /// Between the thought and the first word.
    Between,
    After,
}

impl Thoughts {
    /// Whether a model with this chat template may think.
    pub(super) fn are_known_to(template: &str) -> bool {
        template.contains(OPEN)
    }

    /// What such a model writes after `prompt`: some have begun to think at its end.
    pub(super) fn after(prompt: &[u8]) -> Self {
        let state =
            if prompt.trim_ascii_end().ends_with(OPEN.as_bytes()) { State::Inside } else { State::Before };
        Self { state, held: String::new() }
    }

    /// Adds `text`.
    pub(super) fn push(&mut self, text: &str) -> Vec<Heard> {
        self.held.push_str(text);
        let mut heard = Vec::new();
        if self.state == State::Before {
            let begun = self.held.trim_start();
            if OPEN.starts_with(begun) && begun != OPEN {
                return heard;
            }
            match begun.strip_prefix(OPEN) {
                Some(rest) => (self.held, self.state) = (rest.to_owned(), State::Inside),
                None => self.state = State::After,
            }
        }
        if self.state == State::Inside {
            if let Some(end) = self.held.find(CLOSE) {
                let rest = self.held.split_off(end + CLOSE.len());
                self.held.truncate(end);
                heard.push(Heard::Thought(std::mem::replace(&mut self.held, rest)));
                self.state = State::Between;
            } else {
                let begins = |at: &usize| CLOSE.starts_with(&self.held[*at..]);
                let end = self.held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.held.len());
                let rest = self.held.split_off(end);
                heard.push(Heard::Thought(std::mem::replace(&mut self.held, rest)));
                return heard;
            }
        }
        if self.state == State::Between {
            self.held = self.held.trim_start().to_owned();
            if !self.held.is_empty() {
                self.state = State::After;
            }
        }
        heard.push(Heard::Text(std::mem::take(&mut self.held)));
        heard
    }

    /// What was held back, when no more comes.
    pub(super) fn finish(&mut self) -> Heard {
        let held = std::mem::take(&mut self.held);
        if self.state == State::Inside { Heard::Thought(held) } else { Heard::Text(held) }
    }

    /// Whether it is thinking.
    pub(super) fn is_inside(&self) -> bool {
        self.state == State::Inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(prompt: &str, text: &str) -> (String, String) {
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let mut told = Vec::new();
        for pieces in [&[text.to_owned()][..], &letters] {
            let mut thoughts = Thoughts::after(prompt.as_bytes());
            let mut heard: Vec<Heard> = pieces.iter().flat_map(|piece| thoughts.push(piece)).collect();
            heard.push(thoughts.finish());
            let (mut thought, mut said) = (String::new(), String::new());
            for one in heard {
                match one {
                    Heard::Thought(text) => thought += &text,
                    Heard::Text(text) => said += &text,
                    Heard::Call(_) => panic!("nothing is called"),
                }
            }
            told.push((thought, said));
        }
        assert_eq!(told[0], told[1], "however it is cut up");
        told.remove(0)
    }

    #[test]
    fn a_thought_is_told_from_the_answer() {
        let expected = |thought: &str, said: &str| (thought.to_owned(), said.to_owned());
        assert_eq!(
            hear("assistant\n", "<think>\nwell </thin\n</think>\n\nYes. "),
            expected("\nwell </thin\n", "Yes. ")
        );
        assert_eq!(hear("assistant\n", "\n<think></think>a <think>"), expected("", "a <think>"));
        assert_eq!(hear("assistant\n<think>\n", "well</think>Yes"), expected("well", "Yes"));
        assert_eq!(hear("assistant\n", "<think>well</th"), expected("well</th", ""));
        for plain in ["Yes", "  <thin", "<b>", "", " "] {
            assert_eq!(hear("assistant\n", plain), expected("", plain));
        }
        assert!(!Thoughts::are_known_to("{{ messages }}"));
    }
}
