//! From text to token ids and back, built from the tokens and merges in the GGUF file.
//!
//! Candle has a helper for this, but it gives other ids than the model was trained with: this vocabulary
//! wants digits split one by one and no space put in front.

use super::fault::Fault;
use super::grammar::Vocabulary;
use super::prompt::Piece;
use candle_core::quantized::gguf_file::Value;
use regex::Regex;
use std::collections::HashMap;
use std::sync::Arc;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

/// What a GGUF file says about its model.
pub type Metadata = HashMap<String, Value>;

/// The token type that marks a control token, in GGUF's numbering.
const CONTROL: i32 = 3;

/// Speaks the model's alphabet.
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    /// Control tokens, such as `<|im_start|>`: by text, and as one pattern that finds them.
    control: HashMap<String, u32>,
    control_pattern: Regex,
    /// Of each token, the bytes it stands for.
    bytes: Vec<Box<[u8]>>,
    /// The same as a tree, without the control tokens.
    vocabulary: Arc<Vocabulary>,
}

impl Tokenizer {
    /// The tokenizer of the model that `metadata` describes.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Fault> {
        knows_how_to_cut(metadata)?;
        let tokens = strings(metadata, "tokenizer.ggml.tokens")?;
        let control = control_tokens(metadata, &tokens)?;
        let bytes = token_bytes(&tokens);
        let says = |id: &u32| !control.values().any(|control| control == id);
        let sayable = (0..).zip(&bytes).filter(|(id, _)| says(id)).map(|(id, bytes)| (id, &**bytes));
        let vocabulary = Vocabulary::new(bytes.len(), control.values().copied().collect(), sayable);
        Ok(Self {
            bytes,
            vocabulary: Arc::new(vocabulary),
            control_pattern: any_of(control.keys())?,
            bpe: byte_pairs(&tokens, &strings(metadata, "tokenizer.ggml.merges")?)?,
            control,
        })
    }

    /// The ids of a conversation. Control tokens are read in what the template says, and nowhere else: a
    /// user who types `<|im_start|>` has typed twelve characters, not begun a turn.
    pub fn encode(&self, pieces: &[Piece<'_>]) -> Result<Vec<u32>, Fault> {
        let mut ids = Vec::new();
        // Words may reach from the template into what is said, so plain text is gathered up to a control token.
        let mut plain = String::new();
        for piece in pieces {
            match piece {
                Piece::Said(text) => plain.push_str(text),
                Piece::Template(text) => self.encode_template(text, &mut plain, &mut ids)?,
            }
        }
        self.encode_plain(&plain, &mut ids)?;
        Ok(ids)
    }

    fn encode_template(&self, text: &str, plain: &mut String, ids: &mut Vec<u32>) -> Result<(), Fault> {
        let mut done = 0;
        for found in self.control_pattern.find_iter(text) {
            plain.push_str(&text[done..found.start()]);
            self.encode_plain(plain, ids)?;
            plain.clear();
            ids.extend(self.control.get(found.as_str()));
            done = found.end();
        }
        plain.push_str(&text[done..]);
        Ok(())
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Fault> {
        if !text.is_empty() {
            ids.extend_from_slice(self.bpe.encode_fast(text, false)?.get_ids());
        }
        Ok(())
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
        self.control.values().any(|&control| control == id)
    }

    /// The most bytes one token stands for: a text of more than `n` times this is more than `n` tokens.
    pub fn longest_token(&self) -> usize {
        self.bytes.iter().map(|bytes| bytes.len()).max().unwrap_or(1)
    }
}

/// Text that is cut up in another way than the model was trained with makes other ids, and the answers become
/// worse without a word.
fn knows_how_to_cut(metadata: &Metadata) -> Result<(), Fault> {
    const KEY: &str = "tokenizer.ggml.pre";
    let way = metadata.get(KEY).and_then(|value| value.to_string().ok());
    match way {
        Some(way) if way != "smollm" => Err(Fault::Cut(way.clone())),
        _ => Ok(()),
    }
}

fn byte_pairs(tokens: &[&str], merges: &[&str]) -> Result<tokenizers::Tokenizer, Fault> {
    let vocab: Vocab = tokens.iter().map(|&token| token.to_owned()).zip(0..).collect();
    let merges: Merges = merges
        .iter()
        .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
        .collect::<Option<_>>()
        .ok_or(Fault::Metadata("tokenizer.ggml.merges"))?;
    let mut bpe = tokenizers::Tokenizer::new(BPE::builder().vocab_and_merges(vocab, merges).build()?);
    let digits = Digits::new(true);
    let bytes = ByteLevel::new(false, true, true);
    bpe.with_pre_tokenizer(Some(Sequence::new(vec![digits.into(), bytes.into()])));
    Ok(bpe)
}

fn control_tokens(metadata: &Metadata, tokens: &[&str]) -> Result<HashMap<String, u32>, Fault> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let types = array(metadata, KEY)?;
    let is_control = |kind: &Value| kind.to_i32().is_ok_and(|kind| kind == CONTROL);
    let control = tokens.iter().zip(0..).zip(types).filter(|(_, kind)| is_control(kind));
    let control: HashMap<String, u32> = control.map(|((token, id), _)| ((*token).to_owned(), id)).collect();
    // Without one, no answer would ever end.
    if control.is_empty() { Err(Fault::Metadata(KEY)) } else { Ok(control) }
}

fn any_of<'a>(words: impl Iterator<Item = &'a String>) -> Result<Regex, Fault> {
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

fn array<'a>(metadata: &'a Metadata, key: &'static str) -> Result<&'a [Value], Fault> {
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

    /// A toy vocabulary: two control tokens, every byte, and one merge.
    pub(in super::super) fn toy() -> Tokenizer {
        let bytes = (0..=u8::MAX).map(|byte| printable(byte).to_string());
        let tokens: Vec<String> = ["<|im_start|>".to_owned(), "<|im_end|>".to_owned()]
            .into_iter()
            .chain(bytes)
            .chain(["hi".to_owned()])
            .collect();
        let types = (0..tokens.len()).map(|id| Value::I32(if id < 2 { CONTROL } else { 1 }));
        let metadata = Metadata::from([
            ("tokenizer.ggml.token_type".to_owned(), Value::Array(types.collect())),
            (
                "tokenizer.ggml.tokens".to_owned(),
                Value::Array(tokens.into_iter().map(Value::String).collect()),
            ),
            ("tokenizer.ggml.merges".to_owned(), Value::Array(vec![Value::String("h i".to_owned())])),
        ]);
        Tokenizer::from_metadata(&metadata).unwrap()
    }

    fn template(text: &str) -> Piece<'static> {
        Piece::Template(text.to_owned())
    }

    #[test]
    fn every_byte_has_its_printable_character() {
        let ours: std::collections::HashSet<char> = (0..=u8::MAX).map(printable).collect();
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
        let metadata = Metadata::from([("tokenizer.ggml.pre".to_owned(), Value::String("qwen2".to_owned()))]);
        let fault = Tokenizer::from_metadata(&metadata).err().unwrap();
        assert_eq!(fault.to_string(), "the model's text is cut up in a way that is not known here (`qwen2`)");
    }

    #[test]
    fn a_file_without_a_vocabulary_is_named_as_such() {
        let fault = Tokenizer::from_metadata(&Metadata::new()).err().unwrap();
        assert_eq!(fault.to_string(), "the model file has no usable `tokenizer.ggml.tokens`");
    }
}
