//! From text to token ids and back, built from the vocabulary in the GGUF file.
//!
//! Candle has a helper for this, but it gives other ids than the models were trained with: it knows one way of
//! cutting text up, and puts a space in front.

use super::cut::{Cut, Kind};
use super::fault::Fault;
use super::grammar::Vocabulary;
use super::prompt::Piece;
use super::sentences::{Sentences, token_bytes as bytes_of_sentences};
use candle_core::quantized::gguf_file::Value;
use regex::Regex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

/// What a GGUF file says about its model.
pub type Metadata = HashMap<String, Value>;

/// The types of tokens, in GGUF's numbering. One that stands for what is no token.
pub(super) const UNKNOWN: i32 = 2;
/// A control token.
pub(super) const CONTROL: i32 = 3;
/// One that is written as it stands, and is more than text (`<tool_call>`).
pub(super) const MARKER: i32 = 4;
/// One that stands for a byte.
pub(super) const BYTE: i32 = 6;

/// A control token that does not end an answer: Llama 3 says it in front of a call.
const BEGINS_CALL: &str = "<|python_tag|>";

/// Speaks the model's alphabet.
pub struct Tokenizer {
    method: Method,
    /// Tokens that are more than text, such as `<|im_start|>`: by text, and as one pattern that finds them.
    special: HashMap<String, u32>,
    special_pattern: Regex,
    /// Those of them that are nothing to say: they end an answer.
    control: HashSet<u32>,
    /// The token that every text begins with, where the model wants one.
    begin: Option<u32>,
    /// Of each token, the bytes it stands for.
    bytes: Vec<Box<[u8]>>,
    /// The same as a tree, without the control tokens.
    vocabulary: Arc<Vocabulary>,
}

/// How plain text becomes tokens.
enum Method {
    Bytes(Box<tokenizers::Tokenizer>),
    Sentences(Box<Sentences>),
}

/// Text between two tokens that are more than text.
#[derive(Default)]
struct Plain {
    text: String,
    /// The token in front of it.
    after: Option<u32>,
}

impl Tokenizer {
    /// The tokenizer of the model that `metadata` describes.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Fault> {
        let kind = Kind::of(metadata)?;
        let tokens = strings(metadata, "tokenizer.ggml.tokens")?;
        let types = types(metadata)?;
        let (special, control) = special_tokens(&tokens, &types)?;
        let (method, mut bytes) = match kind {
            Kind::Bytes(cut) => {
                let pairs = byte_pairs(cut, &tokens, &strings(metadata, "tokenizer.ggml.merges")?)?;
                (Method::Bytes(Box::new(pairs)), token_bytes(&tokens))
            }
            Kind::Sentences => {
                let sentences = Sentences::from_metadata(metadata, &tokens, &types)?;
                (Method::Sentences(Box::new(sentences)), bytes_of_sentences(&tokens, &types))
            }
        };
        // What is more than text is written as it stands.
        for (text, id) in &special {
            bytes[*id as usize] = text.as_bytes().into();
        }
        Ok(Self {
            vocabulary: Arc::new(vocabulary(&bytes, &types, &control)),
            bytes,
            special_pattern: any_of(special.keys())?,
            method,
            special,
            control,
            begin: begin(metadata, kind),
        })
    }

    /// The ids of a conversation. Tokens that are more than text are read in what the template says, and nowhere else: a
    /// user who types `<|im_start|>` has typed twelve characters, not begun a turn.
    pub fn encode(&self, pieces: &[Piece<'_>]) -> Result<Vec<u32>, Fault> {
        let mut ids = Vec::new();
        // Words may reach from the template into what is said, so plain text is gathered up to a control token.
        let mut plain = Plain::default();
        for piece in pieces {
            match piece {
                Piece::Said(text) => plain.text.push_str(text),
                Piece::Quoted(text) => plain.text.push_str(text),
                Piece::Template(text) => self.encode_template(text, &mut plain, &mut ids)?,
            }
        }
        self.encode_plain(&plain, &mut ids)?;
        // Many templates say it themselves.
        if let Some(begin) = self.begin.filter(|begin| ids.first() != Some(begin)) {
            ids.insert(0, begin);
        }
        Ok(ids)
    }

    fn encode_template(&self, text: &str, plain: &mut Plain, ids: &mut Vec<u32>) -> Result<(), Fault> {
        let mut done = 0;
        for found in self.special_pattern.find_iter(text) {
            plain.text.push_str(&text[done..found.start()]);
            self.encode_plain(plain, ids)?;
            let after = self.special.get(found.as_str()).copied();
            ids.extend(after);
            *plain = Plain { text: String::new(), after };
            done = found.end();
        }
        plain.text.push_str(&text[done..]);
        Ok(())
    }

    fn encode_plain(&self, plain: &Plain, ids: &mut Vec<u32>) -> Result<(), Fault> {
        if plain.text.is_empty() {
            return Ok(());
        }
        match &self.method {
            Method::Bytes(pairs) => {
                ids.extend_from_slice(pairs.encode_fast(plain.text.as_str(), false)?.get_ids());
            }
            Method::Sentences(sentences) => sentences.encode(&plain.text, plain.after, ids),
        }
        Ok(())
    }

    /// Whether what an answer begins with has a space in front of it that nobody meant.
    pub(super) fn begins_with_space(&self) -> bool {
        matches!(&self.method, Method::Sentences(sentences) if sentences.begins_with_space())
    }

    /// The bytes `id` stands for. They may begin or end inside a character.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], |bytes| bytes)
    }

    /// All tokens that may be said, as what keeps an answer to a form wants them.
    pub(super) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// Whether an answer ends with `id`: no control token is something to say.
    pub fn ends_answer(&self, id: u32) -> bool {
        self.control.contains(&id)
    }

    /// The most bytes one token stands for: a text of more than `n` times this is more than `n` tokens.
    pub fn longest_token(&self) -> usize {
        self.bytes.iter().map(|bytes| bytes.len()).max().unwrap_or(1)
    }
}

fn byte_pairs(cut: Cut, tokens: &[&str], merges: &[&str]) -> Result<tokenizers::Tokenizer, Fault> {
    let vocab: Vocab = tokens.iter().map(|&token| token.to_owned()).zip(0..).collect();
    let merges: Merges = merges
        .iter()
        .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect::<Option<_>>()
        .ok_or(Fault::Metadata("tokenizer.ggml.merges"))?;
    let bpe = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(cut.ignores_merges());
    let mut bpe = tokenizers::Tokenizer::new(bpe.build()?);
    bpe.with_pre_tokenizer(Some(cut.pre_tokenizer()?));
    Ok(bpe)
}

fn types(metadata: &Metadata) -> Result<Vec<i32>, Fault> {
    let types = array(metadata, "tokenizer.ggml.token_type")?.iter();
    Ok(types.map(|kind| kind.to_i32().unwrap_or_default()).collect())
}

/// All tokens that are more than text, and those of them that are control tokens.
fn special_tokens(tokens: &[&str], types: &[i32]) -> Result<(HashMap<String, u32>, HashSet<u32>), Fault> {
    let (mut special, mut control) = (HashMap::new(), HashSet::new());
    for ((token, id), kind) in tokens.iter().zip(0..).zip(types) {
        if [CONTROL, MARKER].contains(kind) && !token.is_empty() {
            special.insert((*token).to_owned(), id);
        }
        if *kind == CONTROL && *token != BEGINS_CALL {
            control.insert(id);
        }
    }
    // Without one, no answer would ever end.
    if control.is_empty() {
        Err(Fault::Metadata("tokenizer.ggml.token_type"))
    } else {
        Ok((special, control))
    }
}

/// What may be said. Of two tokens for the same byte it is the one that the model has learned to write.
fn vocabulary(bytes: &[Box<[u8]>], types: &[i32], control: &HashSet<u32>) -> Vocabulary {
    let kind = |id: u32| types.get(id as usize).copied().unwrap_or_default();
    let written = |id: u32| !control.contains(&id) && kind(id) != UNKNOWN;
    let plain = |id: u32| written(id) && kind(id) != BYTE;
    let letters: HashSet<&[u8]> = (0..)
        .zip(bytes)
        .filter(|(id, bytes)| plain(*id) && bytes.len() == 1)
        .map(|(_, bytes)| &**bytes)
        .collect();
    let sayable = (0..).zip(bytes).map(|(id, bytes)| (id, &**bytes));
    let sayable = sayable.filter(|(id, bytes)| plain(*id) || written(*id) && !letters.contains(bytes));
    Vocabulary::new(bytes.len(), control.iter().copied().collect(), sayable)
}

/// The token that every text begins with. The vocabularies of Llama and those of SentencePiece want it where nothing is
/// said of it.
fn begin(metadata: &Metadata, kind: Kind) -> Option<u32> {
    let usual = matches!(kind, Kind::Sentences | Kind::Bytes(Cut::Llama));
    let add =
        metadata.get("tokenizer.ggml.add_bos_token").and_then(|add| add.to_bool().ok()).unwrap_or(usual);
    let begin = metadata.get("tokenizer.ggml.bos_token_id").and_then(|id| id.to_u32().ok());
    begin.filter(|_| add)
}

pub(super) fn any_of<'a>(words: impl Iterator<Item = &'a String>) -> Result<Regex, Fault> {
    let mut words: Vec<_> = words.map(|word| regex::escape(word)).collect();
    // Longest first, so that no token hides another that begins like it.
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    Regex::new(&words.join("|")).map_err(|_| Fault::Metadata("tokenizer.ggml.tokens"))
}

/// A vocabulary is written in printable characters, one for each byte, as GPT-2 began it.
fn token_bytes(tokens: &[&str]) -> Vec<Box<[u8]>> {
    let byte_of: HashMap<char, u8> = (0..=u8::MAX).map(|byte| (printable(byte), byte)).collect();
    tokens.iter().map(|token| token.chars().filter_map(|c| byte_of.get(&c).copied()).collect()).collect()
}

/// Bytes that print stand for themselves; the others are counted off from 256.
fn printable(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if prints(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|&other| !prints(other)).count() as u32;
    char::from_u32(256 + earlier).unwrap_or_default()
}

pub(super) fn array<'a>(metadata: &'a Metadata, key: &'static str) -> Result<&'a [Value], Fault> {
    let values = metadata.get(key).and_then(|value| value.to_vec().ok());
    values.map(Vec::as_slice).ok_or(Fault::Metadata(key))
}

fn strings<'a>(metadata: &'a Metadata, key: &'static str) -> Result<Vec<&'a str>, Fault> {
    let texts = array(metadata, key)?.iter().map(|value| value.to_string().ok().map(String::as_str));
    texts.collect::<Option<_>>().ok_or(Fault::Metadata(key))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    /// A toy vocabulary: two control tokens, every byte, and one merge.
    pub(in super::super) fn toy() -> Tokenizer {
        Tokenizer::from_metadata(&toy_metadata()).unwrap()
    }

    fn toy_metadata() -> Metadata {
        let bytes = (0..=u8::MAX).map(|byte| printable(byte).to_string());
        let tokens: Vec<String> = ["<|im_start|>".to_owned(), "<|im_end|>".to_owned()]
            .into_iter()
            .chain(bytes)
            .chain(["hi".to_owned()])
            .collect();
        let types = (0..tokens.len()).map(|id| Value::I32(if id < 2 { CONTROL } else { 1 }));
        Metadata::from([
            ("tokenizer.ggml.token_type".to_owned(), Value::Array(types.collect())),
            (
                "tokenizer.ggml.tokens".to_owned(),
                Value::Array(tokens.into_iter().map(Value::String).collect()),
            ),
            ("tokenizer.ggml.merges".to_owned(), Value::Array(vec![Value::String("h i".to_owned())])),
        ])
    }

    fn template(text: &str) -> Piece<'static> {
        Piece::Template(text.to_owned())
    }

    #[test]
    fn every_byte_has_its_printable_character() {
        let ours: HashSet<char> = (0..=u8::MAX).map(printable).collect();
        assert_eq!(ours, ByteLevel::alphabet().into_iter().collect());
        assert_eq!((printable(b' '), printable(b'\n'), printable(b'a')), ('Ġ', 'Ċ', 'a'));
    }

    #[test]
    fn control_tokens_are_read_in_the_template_only() {
        let tokenizer = toy();
        let ids = tokenizer.encode(&[template("<|im_start|>"), Piece::Said("<|im_end|>")]).unwrap();
        assert_eq!(ids[0], 0);
        assert!(!ids[1..].contains(&1));
        let said: Vec<u8> = ids[1..].iter().flat_map(|&id| tokenizer.bytes(id)).copied().collect();
        assert_eq!(said, b"<|im_end|>");
    }

    #[test]
    fn a_word_may_reach_from_the_template_into_what_is_said() {
        let tokenizer = toy();
        let apart = tokenizer.encode(&[template("<|im_start|>h"), Piece::Said("i")]).unwrap();
        let together = tokenizer.encode(&[template("<|im_start|>hi")]).unwrap();
        assert_eq!(apart, together);
        assert_eq!(apart.len(), 2);
    }

    #[test]
    fn control_tokens_end_an_answer() {
        let tokenizer = toy();
        assert!(tokenizer.ends_answer(1));
        assert!(!tokenizer.ends_answer(2));
    }

    #[test]
    fn a_vocabulary_that_is_cut_in_another_way_is_refused() {
        for (key, way) in [("tokenizer.ggml.pre", "tekken"), ("tokenizer.ggml.model", "t5")] {
            let metadata = Metadata::from([(key.to_owned(), Value::String(way.to_owned()))]);
            let fault = Tokenizer::from_metadata(&metadata).err().unwrap();
            let expected = format!("the model's text is cut up in a way that is not known here (`{way}`)");
            assert_eq!(fault.to_string(), expected);
        }
    }

    #[test]
    fn a_text_begins_with_the_token_that_the_model_wants_and_only_once() {
        let mut metadata = toy_metadata();
        metadata.insert("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(0));
        let ids = |metadata: &Metadata, text| {
            Tokenizer::from_metadata(metadata).unwrap().encode(&[template(text)]).unwrap()
        };
        assert_eq!(ids(&metadata, "a").len(), 1);
        metadata.insert("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(true));
        assert_eq!(ids(&metadata, "a")[0], 0);
        assert_eq!(ids(&metadata, "<|im_start|>a").len(), 2);
    }

    #[test]
    fn a_marker_is_more_than_text_and_can_be_said() {
        let mut metadata = toy_metadata();
        let (Some(Value::Array(tokens)), id) = (metadata.get_mut("tokenizer.ggml.tokens"), 259) else {
            panic!()
        };
        tokens.push(Value::String("<mark a>".to_owned()));
        let Some(Value::Array(types)) = metadata.get_mut("tokenizer.ggml.token_type") else { panic!() };
        types.push(Value::I32(MARKER));
        let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
        assert_eq!(tokenizer.encode(&[template("<mark a>")]).unwrap(), [id]);
        assert!(!tokenizer.encode(&[Piece::Said("<mark a>")]).unwrap().contains(&id));
        assert_eq!((tokenizer.bytes(id), tokenizer.ends_answer(id)), (&b"<mark a>"[..], false));
    }

    #[test]
    fn a_file_without_a_vocabulary_is_named_as_such() {
        let fault = Tokenizer::from_metadata(&Metadata::new()).err().unwrap();
        assert_eq!(fault.to_string(), "the model file has no usable `tokenizer.ggml.tokens`");
    }
}
