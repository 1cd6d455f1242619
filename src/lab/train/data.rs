//! The labelled questions: read, embedded, and made into pairs.

use crate::cache::judge::Question;
use crate::embed::{Encoder, Text};
use crate::vector::UnitVector;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;

/// Why the questions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Read(String, std::io::Error),
    /// A line is not what it should be.
    #[error("{file}, line {line}: {error}")]
    Line {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// Why.
        error: serde_json::Error,
    },
    /// A text could not be embedded.
    #[error("a text could not be embedded: {0}")]
    Embed(#[from] crate::embed::Error),
}

/// A question of a stream.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Asked {
    /// Its project.
    pub(super) context: String,
    /// What it says.
    pub(super) text: String,
    /// Which answer is right.
    pub(super) answer_class: String,
    /// What it was made from, where it was made.
    #[serde(default)]
    pub(super) family: Option<String>,
}

#[derive(Deserialize)]
struct LabelledPair {
    id: String,
    a: String,
    b: String,
    same_answer: bool,
    diff: String,
    #[serde(default)]
    family: Option<String>,
    #[serde(default)]
    ambiguous: Option<String>,
}

#[derive(Deserialize)]
struct Group {
    id: String,
    same: Vec<String>,
    other: Vec<Other>,
}

#[derive(Deserialize)]
struct Other {
    text: String,
    diff: String,
}

/// Two texts, by their places, and whether they have one answer.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// What is asked.
    pub(super) asked: usize,
    /// What is known.
    pub(super) known: usize,
    /// Whether the answer is right.
    pub(super) right: bool,
    /// What must not be learned from and tested on at once.
    pub(super) group: String,
    /// In what they differ.
    pub(super) diff: String,
}

/// A stream, as places of texts.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Its name.
    pub(super) name: String,
    /// Its lines.
    pub(super) lines: Vec<Asked>,
    /// The place of each line's text.
    pub(super) texts: Vec<usize>,
    /// What each line must not be learned from and tested on at once.
    pub(super) groups: Vec<String>,
}

/// All texts, taken apart and embedded, and what is known of them.
#[derive(Default)]
pub(super) struct Data {
    /// The questions.
    pub(super) questions: Vec<Question>,
    /// Where each points.
    pub(super) vectors: Vec<UnitVector>,
    /// The streams.
    pub(super) streams: Vec<Stream>,
    /// Pairs to learn from, by their source.
    pub(super) pairs: Vec<(String, Vec<Pair>)>,
    /// Pairs that are never learned from.
    pub(super) unseen: Vec<Pair>,
    places: HashMap<String, usize>,
}

impl Data {
    /// Reads the files of `folder` and embeds what they say.
    pub(super) fn read(folder: &Path, encoder: &mut dyn Encoder) -> Result<Self, Error> {
        let mut data = Self::default();
        for name in ["cache_param", "cache_t2s", "cache_faq_banking77"] {
            let lines: Vec<Asked> = lines(&folder.join(format!("{name}.jsonl")))?;
            let texts = lines.iter().map(|line| data.place(&line.text)).collect();
            let groups = lines.iter().map(group_of).collect();
            data.streams.push(Stream { name: name.to_owned(), lines, texts, groups });
        }
        let made: Vec<LabelledPair> = lines(&folder.join("pairs_param.jsonl"))?;
        let made = made.into_iter().map(|pair| data.pair(pair)).collect();
        data.pairs.push(("pairs_param".to_owned(), made));
        let groups: Vec<Group> = lines(&folder.join("groups_own.jsonl"))?;
        let own = groups.iter().flat_map(|group| data.pairs_of(group)).collect();
        data.pairs.push(("groups_own".to_owned(), own));
        let unseen: Vec<LabelledPair> = lines(&folder.join("pairs_fow.jsonl"))?;
        data.unseen =
            unseen.into_iter().filter(|pair| pair.ambiguous.is_none()).map(|pair| data.pair(pair)).collect();
        data.embed(encoder)?;
        Ok(data)
    }

    fn place(&mut self, text: &str) -> usize {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.questions.len();
        self.questions.push(Question::new(text));
        self.places.insert(text.to_owned(), place);
        place
    }

    fn pair(&mut self, pair: LabelledPair) -> Pair {
        let LabelledPair { id, a, b, same_answer, diff, family, ambiguous: _ } = pair;
        let (asked, known) = (self.place(&b), self.place(&a));
        Pair { asked, known, right: same_answer, group: family.unwrap_or(id), diff }
    }

    fn pairs_of(&mut self, group: &Group) -> Vec<Pair> {
        let same: Vec<usize> = group.same.iter().map(|text| self.place(text)).collect();
        let pair = |asked, known, right, diff: &str| Pair {
            asked,
            known,
            right,
            group: group.id.clone(),
            diff: diff.to_owned(),
        };
        let mut pairs = Vec::new();
        for (at, known) in same.iter().enumerate() {
            pairs.extend(same[at + 1..].iter().map(|asked| pair(*asked, *known, true, "paraphrase")));
        }
        for other in &group.other {
            let asked = self.place(&other.text);
            pairs.extend(same.iter().map(|known| pair(asked, *known, false, &other.diff)));
        }
        pairs
    }

    fn embed(&mut self, encoder: &mut dyn Encoder) -> Result<(), Error> {
        const BATCH: usize = 64;
        // Texts of like length together: none is padded much.
        let mut order: Vec<usize> = (0..self.questions.len()).collect();
        order.sort_by_key(|at| self.questions[*at].canonical().len());
        let mut vectors: Vec<Option<UnitVector>> = vec![None; order.len()];
        for batch in order.chunks(BATCH) {
            let texts: Vec<Text> =
                batch.iter().map(|at| Text::from(self.questions[*at].canonical())).collect();
            for (at, embedding) in batch.iter().zip(encoder.encode(&texts)?) {
                vectors[*at] = Some(embedding.vector);
            }
        }
        self.vectors = vectors.into_iter().flatten().collect();
        Ok(())
    }

    /// The cosine of two texts.
    pub(super) fn cosine(&self, one: usize, other: usize) -> f32 {
        self.vectors[one].cosine(&self.vectors[other])
    }
}

/// What a line was made from: lines of one group are much alike, whatever their labels.
fn group_of(line: &Asked) -> String {
    if let Some(family) = &line.family {
        return family.clone();
    }
    // "advising/12/{...}" is template 12; "bank/age_limit" is a subject.
    line.answer_class.split('/').nth(1).unwrap_or_default().to_owned()
}

fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>, Error> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Error::Read(file.clone(), error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| Error::Line {
                file: file.clone(),
                line: at + 1,
                error,
            })
        })
        .collect()
}
