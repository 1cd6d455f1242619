//! One answer, token by token.

use super::ask::Ask;
use super::fault::Fault;
use super::model::{Model, Sequence};
use super::stop::{Characters, Scanned, StopScanner};
use super::voice::Voice;
use crate::chat::{Finish, Usage};

/// How many tokens of a prompt are read at once: enough to be quick, few enough that attention needs little
/// memory and that a cancelled request is noticed soon.
const PROMPT_STEP: usize = 128;

/// Answers `prompt` in at most `limit` tokens. Ends without a word once nobody listens.
pub(super) fn generate(
    model: &Model,
    prompt: &[u32],
    limit: usize,
    ask: &Ask,
    voice: &mut Voice,
) -> Result<(), Fault> {
    if let Some((finish, written)) = write(model, prompt, limit, ask, voice)? {
        let (input, output) = (prompt.len() as u64, written as u64);
        voice.finish(finish, Usage { input, output, ..Usage::default() });
    }
    Ok(())
}

/// Writes the answer. Gives why it ends and how many tokens it has; nothing where nobody listened to the end.
fn write(
    model: &Model,
    prompt: &[u32],
    limit: usize,
    ask: &Ask,
    voice: &mut Voice,
) -> Result<Option<(Finish, usize)>, Fault> {
    let mut sequence = model.sequence();
    let Some(mut last) = read_all_but_last(&mut sequence, prompt, voice)? else { return Ok(None) };
    let mut draw = ask.draw();
    let mut text = Text::new(ask.sampling.stop.clone());
    for written in 0..limit {
        if !voice.is_heard() {
            return Ok(None);
        }
        last = draw.sample(&sequence.read(&[last])?)?;
        if model.tokenizer.ends_answer(last) {
            voice.say(text.rest());
            return Ok(Some((Finish::Stop, written)));
        }
        let Scanned { text: sayable, stopped } = text.add(model.tokenizer.bytes(last));
        voice.say(sayable);
        if stopped {
            return Ok(Some((Finish::Stop, written + 1)));
        }
    }
    voice.say(text.rest());
    Ok(Some((Finish::Length, limit)))
}

/// Reads `prompt` up to its last token, which is left for the first step of the answer; nothing where nobody
/// listens any more.
fn read_all_but_last(sequence: &mut Sequence, prompt: &[u32], voice: &Voice) -> Result<Option<u32>, Fault> {
    let Some((&last, rest)) = prompt.split_last() else { return Ok(None) };
    for step in rest.chunks(PROMPT_STEP) {
        if !voice.is_heard() {
            return Ok(None);
        }
        sequence.read(step)?;
    }
    Ok(Some(last))
}

/// The answer's text on its way from tokens to the listener.
struct Text {
    characters: Characters,
    stops: StopScanner,
}

impl Text {
    fn new(stops: Vec<String>) -> Self {
        Self { characters: Characters::default(), stops: StopScanner::new(stops) }
    }

    fn add(&mut self, bytes: &[u8]) -> Scanned {
        self.stops.push(&self.characters.push(bytes))
    }

    /// What was held back, when no more comes.
    fn rest(self) -> String {
        self.stops.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut text = Text::new(vec!["END".to_owned()]);
        assert_eq!(text.add(b"the EN").text, "the ");
        assert_eq!(text.add("é".as_bytes().get(..1).unwrap()).text, "");
        assert_eq!(text.rest(), "EN");
    }
}
