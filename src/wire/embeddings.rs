//! OpenAI's embeddings: texts to vectors.

use super::Error;
use super::json::{Fields, kind_of};
use serde_json::{Value, json};

/// The most texts in one request, as OpenAI has it.
const MAX_INPUTS: usize = 2048;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The model.
    pub model: String,
    /// The texts.
    pub input: Vec<String>,
    /// Whether the vectors are wanted as base64, not as lists of numbers.
    pub base64: bool,
    /// How long the vectors are to be.
    pub dimensions: Option<u32>,
}

/// Understands a request's body.
pub fn decode(body: &[u8]) -> Result<Asked, Error> {
    let mut fields = Fields::parse(body)?;
    let model = fields.model()?;
    let input = decode_input(fields.required("input")?)?;
    let format: Option<String> = fields.take("encoding_format")?;
    let base64 = match format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(Error::at("encoding_format", "`encoding_format` must be one of float, base64"));
        }
    };
    Ok(Asked { model, input, base64, dimensions: fields.take("dimensions")? })
}

fn decode_input(input: Value) -> Result<Vec<String>, Error> {
    let texts = match input {
        Value::String(text) => vec![Value::String(text)],
        Value::Array(texts) => texts,
        other => {
            let message = format!("`input` must be a text or a list of texts, not {}", kind_of(&other));
            return Err(Error::at("input", message));
        }
    };
    match texts.len() {
        0 => return Err(Error::at("input", "`input` must not be empty")),
        1..=MAX_INPUTS => {}
        _ => return Err(Error::at("input", format!("`input` holds more than {MAX_INPUTS} texts"))),
    }
    let text = |(at, text): (usize, Value)| match text {
        Value::String(text) if text.is_empty() => {
            Err(Error::at("input", format!("`input[{at}]` must not be empty")))
        }
        Value::String(text) => Ok(text),
        other => {
            let message = format!("`input[{at}]` must be a text, not {}", kind_of(&other));
            Err(Error::at("input", message))
        }
    };
    texts.into_iter().enumerate().map(text).collect()
}

/// Writes the answer.
pub fn encode(asked: &Asked, vectors: &[Vec<f32>], tokens: u64) -> Vec<u8> {
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = if asked.base64 { json!(base64_of(vector)) } else { json!(vector) };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    json!({ "object": "list", "data": data, "model": asked.model, "usage": usage }).to_string().into_bytes()
}

/// The numbers as little-endian bytes in base64, as OpenAI's SDKs ask for them.
fn base64_of(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    base64(&bytes)
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > group.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, encoded) in cases {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn one_text_and_several_are_understood() {
        let one = decode(br#"{"model":"m","input":"a","encoding_format":"base64","dimensions":4}"#).unwrap();
        assert_eq!(
            (one.input.as_slice(), one.base64, one.dimensions),
            (&["a".to_owned()][..], true, Some(4))
        );
        assert_eq!(decode(br#"{"model":"m","input":["a","b"]}"#).unwrap().input, ["a", "b"]);
        let bad = [
            r#"{"model":"m"}"#,
            r#"{"model":"m","input":[]}"#,
            r#"{"model":"m","input":[[1,2]]}"#,
            r#"{"model":"m","input":""}"#,
            r#"{"model":"m","input":"a","encoding_format":"hex"}"#,
        ];
        for body in bad {
            assert!(decode(body.as_bytes()).unwrap_err().field.is_some(), "{body}");
        }
    }

    #[test]
    fn numbers_come_back_in_either_form() {
        let asked = Asked { model: "m".into(), input: vec!["a".into()], base64: true, dimensions: None };
        let body: Value = serde_json::from_slice(&encode(&asked, &[vec![1.0, -0.5]], 3)).unwrap();
        assert_eq!(body["data"][0]["embedding"], "AACAPwAAAL8=");
        let asked = Asked { base64: false, ..asked };
        let body: Value = serde_json::from_slice(&encode(&asked, &[vec![1.0, -0.5]], 3)).unwrap();
        assert_eq!(body["data"][0]["embedding"], json!([1.0, -0.5]));
    }
}
