//! What people say around what they want: "hey, could you … for me, thanks".

use super::heard::{Ease, Heard};
use super::said;
use super::words::{WordId, Words};
use std::collections::HashMap;

const BEFORE: &str = "hey|hi|hello|hiya|yo|ok|okay|ok so|okay so|so|well|right|alright|all right|hmm|um|uh|oh|ah|and|then|also|now|\
    quick one|quick question|one more thing|one thing|another thing|next|first|listen|look|say|sorry|excuse me|\
    can you|can you help|could you help|can you help me|could you help me|help me|could you|would you|will you|can we|could we|can i|could i|may i|\
    can you help me to|would you mind|do you mind|i want to|i want you to|i would like to|i would like you to|i need to|i need you to|i wish to|\
    we need to|we should|you should|you need to|you can|i am going to|let us|let me|i want|i need|i would like|go ahead and|try to|be so kind and|be a dear and|\
    do me a favor and|do me a favour and|for me|hey there|hi there|good morning|dear|assistant|computer|weir|quickly|real quick|\
    maybe|perhaps|actually|basically|if you can|if you could|if possible|when you can|when you get a chance|whenever you can|asap|\
    it would be great if you could|i was wondering if you could|is it possible to|would it be possible to|any chance you could|mind if you|guys|team|please";
const BEHIND: &str = "thanks|thx|thank you|ty|tysm|thank you very much|thanks a lot|thanks so much|many thanks|cheers|please|now|right now|ok|okay|\
    for me|for us|asap|as soon as possible|if you can|if you could|if possible|when you can|when you get a chance|whenever you can|\
    will you|would you|could you|can you|quickly|real quick|immediately|at once|right away|straight away|mate|man|dude|buddy|will ya|then|\
    for a moment|for a sec|for a second|for a bit|for now|in advance|a bit|would be great|would be nice|that would be great|right|huh|yeah|instead|too|as well";

/// The most fillers in a row.
const MOST: usize = 6;

/// The fillers that are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Fillers {
    /// By their first word.
    before: HashMap<WordId, Vec<Vec<WordId>>>,
    /// By their last word.
    behind: HashMap<WordId, Vec<Vec<WordId>>>,
}

impl Fillers {
    pub(super) fn new(words: &mut Words, more: &[String]) -> Self {
        let mut learn = |phrases: &str| -> Vec<Vec<WordId>> {
            let phrases = phrases.split('|').chain(more.iter().map(String::as_str));
            phrases.map(|phrase| said::words(phrase).iter().map(|word| words.learn(word)).collect()).collect()
        };
        let (mut before, mut behind): (HashMap<_, Vec<_>>, HashMap<_, Vec<_>>) =
            (HashMap::new(), HashMap::new());
        for phrase in learn(BEFORE) {
            // Words that are no part of any text ("please") are fillers that nobody sees.
            if let Some(first) = phrase.first() {
                before.entry(*first).or_default().push(phrase);
            }
        }
        for phrase in learn(BEHIND) {
            if let Some(last) = phrase.last() {
                behind.entry(*last).or_default().push(phrase);
            }
        }
        for noise in ["please", "kindly", "thanks", "the"] {
            words.learn(noise);
        }
        Self { before, behind }
    }

    /// Where what is wanted may begin, the earliest first.
    pub(super) fn starts(&self, heard: &Heard<'_>) -> Vec<usize> {
        let mut starts = vec![0];
        let mut next = 0;
        while next < starts.len() && starts.len() <= MOST * 4 {
            let at = starts[next];
            next += 1;
            for phrase in of(&self.before, heard, at) {
                let end = at + phrase.len();
                if end < heard.len() && !starts.contains(&end) && is_at(heard, at, phrase) {
                    starts.push(end);
                }
            }
            if is_noise(heard, at) && at + 1 < heard.len() && !starts.contains(&(at + 1)) {
                starts.push(at + 1);
            }
        }
        starts.sort_unstable();
        starts
    }

    /// Where what is wanted may end, the latest first.
    pub(super) fn ends(&self, heard: &Heard<'_>) -> Vec<usize> {
        let mut ends = vec![heard.len()];
        let mut next = 0;
        while next < ends.len() && ends.len() <= MOST * 4 {
            let end = ends[next];
            next += 1;
            for phrase in of(&self.behind, heard, end - 1) {
                let fits = end.checked_sub(phrase.len()).filter(|at| *at > 0 && is_at(heard, *at, phrase));
                if let Some(at) = fits
                    && !ends.contains(&at)
                {
                    ends.push(at);
                }
            }
            if end > 1 && is_noise(heard, end - 1) && !ends.contains(&(end - 1)) {
                ends.push(end - 1);
            }
        }
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends
    }
}

/// The phrases that hang on the word at this place.
fn of<'f>(
    phrases: &'f HashMap<WordId, Vec<Vec<WordId>>>,
    heard: &'f Heard<'_>,
    at: usize,
) -> impl Iterator<Item = &'f Vec<WordId>> {
    let words = heard.ids.get(at).copied().flatten().into_iter().chain(heard.near(at).iter().copied());
    words.filter_map(|word| phrases.get(&word)).flatten()
}

fn is_at(heard: &Heard<'_>, at: usize, phrase: &[WordId]) -> bool {
    let ease = Ease { misspelt: true, open: false };
    let mut words = phrase.iter().enumerate();
    words.all(|(offset, word)| {
        !heard.tokens[at + offset].quoted && heard.is(at + offset, *word, ease).is_some()
    })
}

/// A word that would have been left out, had it been spelt right.
fn is_noise(heard: &Heard<'_>, at: usize) -> bool {
    let ease = Ease { misspelt: true, open: false };
    !heard.tokens[at].quoted
        && heard.ids[at].is_none()
        && heard.is_one_of(at, ease, &["please", "kindly", "thanks"])
}
