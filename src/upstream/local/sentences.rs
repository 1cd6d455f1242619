//! How text becomes tokens with a vocabulary in the way of SentencePiece: what is around [`SentencePiece`] itself. A
//! space in front where the model wants one, tokens that are found in any text whole, and models that want no space
//! after a control token. All as llama.cpp does it.

use super::fault::Fault;
use super::sentencepiece::{SPACE, SentencePiece};
use super::tokenizer::{BYTE, CONTROL, MARKER, Metadata, UNKNOWN, any_of, array};
use regex::Regex;

/// A vocabulary in the way of SentencePiece.
pub(super) struct Sentences {
    vocabulary: SentencePiece,
    /// Whether what stands at the beginning, or after a token that is more than text, gets a space in front.
    space_first: bool,
    /// Whether space after a token that is more than text is left out.
    strips: bool,
    /// Tokens that are found whole in any text, the longest first; and a pattern that tells whether any is there.
    markers: Vec<(String, u32)>,
    any_marker: Option<Regex>,
    /// Those after which it is kept all the same.
    kept: Vec<u32>,
}

/// A part of a text.
enum Part<'a> {
    Text(&'a str),
    Marker(u32),
}

impl Sentences {
    /// The vocabulary of the model that `metadata` describes.
    pub(super) fn from_metadata(metadata: &Metadata, tokens: &[&str], types: &[i32]) -> Result<Self, Fault> {
        const SCORES: &str = "tokenizer.ggml.scores";
        let scores = array(metadata, SCORES)?.iter().map(|score| score.to_f32().ok());
        let scores: Vec<f32> = scores.collect::<Option<_>>().ok_or(Fault::Metadata(SCORES))?;
        if scores.len() != tokens.len() || types.len() != tokens.len() {
            return Err(Fault::Metadata(SCORES));
        }
        let all = || (0u32..).zip(tokens).zip(types).map(|((id, text), kind)| (id, *text, *kind));
        let mut bytes = [None; 256];
        for (id, text, _) in all().filter(|(_, _, kind)| *kind == BYTE) {
            if let Some(byte) = byte(text) {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        if bytes.contains(&None) {
            return Err(Fault::Metadata("tokenizer.ggml.tokens"));
        }
        let plain = all().zip(&scores).filter(|((_, _, kind), _)| ![UNKNOWN, CONTROL, BYTE].contains(kind));
        let plain = plain.map(|((id, text, _), score)| (text, id, *score));
        let mut markers: Vec<(String, u32)> = all()
            .filter(|(_, text, kind)| *kind == MARKER && !text.is_empty())
            .map(|(id, text, _)| (text.to_owned(), id))
            .collect();
        markers.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let any_marker =
            if markers.is_empty() { None } else { Some(any_of(markers.iter().map(|(text, _)| text))?) };
        let name = metadata.get("general.name").and_then(|name| name.to_string().ok());
        let name = name.map(|name| name.to_lowercase()).unwrap_or_default();
        let kept = ["<unk>", "<s>", "<|endoftext|>"];
        let space_first = metadata.get("tokenizer.ggml.add_space_prefix").and_then(|add| add.to_bool().ok());
        Ok(Self {
            vocabulary: SentencePiece::new(plain, &bytes.map(Option::unwrap_or_default)),
            space_first: space_first.unwrap_or(true),
            strips: ["phi-3", "phi3"].iter().any(|phi| name.contains(phi)),
            kept: all().filter(|(_, text, _)| kept.contains(text)).map(|(id, ..)| id).collect(),
            markers,
            any_marker,
        })
    }

    /// Adds the ids of `text`, which stands after the token `after` or at the beginning.
    pub(super) fn encode(&self, text: &str, after: Option<u32>, ids: &mut Vec<u32>) {
        let (mut after, mut apart) = (after, true);
        for part in self.parts(text) {
            match part {
                Part::Marker(id) => {
                    ids.push(id);
                    after = Some(id);
                }
                Part::Text(text) => {
                    let stripped = self.strips && after.is_some_and(|after| !self.kept.contains(&after));
                    let text = if stripped { text.trim_start_matches(is_space) } else { text };
                    after = None;
                    if text.is_empty() {
                        continue;
                    }
                    let mut spaced = String::with_capacity(text.len() + 3);
                    if self.space_first && apart {
                        spaced.push(SPACE);
                    }
                    spaced.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
                    self.vocabulary.encode(&spaced, ids);
                }
            }
            apart = matches!(part, Part::Marker(_));
        }
    }

    /// Whether the first word of an answer has a space in front that nobody meant.
    pub(super) fn begins_with_space(&self) -> bool {
        self.space_first
    }

    fn parts<'a>(&'a self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] };
        if !self.any_marker.as_ref().is_some_and(|any| any.is_match(text)) {
            return parts;
        }
        for (marker, id) in self.markers.iter().filter(|(marker, _)| text.contains(marker.as_str())) {
            let mut split = Vec::with_capacity(parts.len());
            for part in parts {
                let Part::Text(text) = part else {
                    split.push(part);
                    continue;
                };
                for (at, between) in text.split(marker.as_str()).enumerate() {
                    split.extend((at > 0).then_some(Part::Marker(*id)));
                    split.extend((!between.is_empty()).then_some(Part::Text(between)));
                }
            }
            parts = split;
        }
        parts
    }
}

/// What C calls a space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{B}' | '\u{C}' | '\r')
}

/// Of each token, the bytes it stands for.
pub(super) fn token_bytes(tokens: &[&str], types: &[i32]) -> Vec<Box<[u8]>> {
    let kinds = types.iter().copied().chain(std::iter::repeat(1));
    let bytes = |(token, kind): (&&str, i32)| match kind {
        UNKNOWN => Box::from([]),
        BYTE => byte(token).into_iter().collect(),
        _ => token.replace(SPACE, " ").into_bytes().into(),
    };
    tokens.iter().zip(kinds).map(bytes).collect()
}

/// `<0x41>` is A.
fn byte(token: &str) -> Option<u8> {
    u8::from_str_radix(token.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::super::engine::tiny::vocabulary;
    use super::super::prompt::Piece;
    use super::super::tokenizer::Tokenizer;
    use super::*;
    use candle_core::quantized::gguf_file::Value;
    use std::collections::BTreeMap;

    #[derive(serde::Deserialize)]
    struct Told {
        texts: Vec<String>,
        ways: BTreeMap<String, BTreeMap<String, Vec<Vec<u32>>>>,
    }

    fn tokenizer(way: &str) -> Tokenizer {
        let mut metadata = vocabulary();
        if way == "gemma" {
            metadata.insert("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(false));
        }
        if way == "phi" {
            metadata.insert("general.name".to_owned(), Value::String("Phi-3 tiny".to_owned()));
        }
        Tokenizer::from_metadata(&metadata).unwrap()
    }

    #[test]
    fn text_becomes_the_tokens_that_llama_cpp_makes_of_it() {
        let Told { texts, ways } =
            serde_json::from_str(include_str!("../../../fixtures/local/sentences.json")).unwrap();
        assert_eq!(ways.keys().collect::<Vec<_>>(), ["gemma", "llama", "phi"]);
        for (way, kinds) in ways {
            let tokenizer = tokenizer(&way);
            for (kind, expected) in kinds {
                for (text, expected) in texts.iter().zip(expected) {
                    let piece =
                        if kind == "said" { Piece::Said(text) } else { Piece::Template(text.clone()) };
                    assert_eq!(tokenizer.encode(&[piece]).unwrap(), expected, "{way}, {kind}: {text:?}");
                }
            }
        }
    }

    #[test]
    fn tokens_become_the_text_that_they_were() {
        let gemma = tokenizer("gemma");
        for text in ["a\n\n  b", "naïve 👨‍👩‍👧  x", "<table>"] {
            let ids = gemma.encode(&[Piece::Said(text)]).unwrap();
            let bytes: Vec<u8> = ids[1..].iter().flat_map(|id| gemma.bytes(*id)).copied().collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text);
        }
        assert!(gemma.ends_answer(2) && !gemma.ends_answer(0));
        assert!(tokenizer("llama").begins_with_space() && !gemma.begins_with_space());
    }

    #[test]
    fn a_vocabulary_that_lacks_a_byte_or_a_score_is_refused() {
        let fault = |metadata: &Metadata| Tokenizer::from_metadata(metadata).err().unwrap().to_string();
        let mut metadata = vocabulary();
        let Some(Value::Array(tokens)) = metadata.get_mut("tokenizer.ggml.tokens") else { panic!() };
        tokens[5] = Value::String("<0xZZ>".to_owned());
        assert_eq!(fault(&metadata), "the model file has no usable `tokenizer.ggml.tokens`");
        let mut metadata = vocabulary();
        metadata.insert("tokenizer.ggml.scores".to_owned(), Value::Array(vec![Value::F32(0.0)]));
        assert_eq!(fault(&metadata), "the model file has no usable `tokenizer.ggml.scores`");
    }
}
