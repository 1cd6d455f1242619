//! `weir embed`

use super::{Outcome, output};
use crate::app::load_encoder;
use crate::config::Config;
use crate::embed::{Embedding, Encoder as _, Precision, Text};
use serde_json::json;
use std::io::BufRead as _;

/// The longest line that is taken from standard input.
const LONGEST_LINE: usize = 1 << 20;
/// Texts that are encoded together.
const BATCH: usize = 32;
/// The most texts that are compared with each other.
const MOST_COMPARED: usize = 10_000;

/// `weir embed …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The texts; without any, one from each line of standard input
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Print how alike the texts are, in place of their vectors: the first to each of the others
    #[arg(long, short)]
    similarity: bool,
    /// Compute with these numbers [default: embed.precision]
    #[arg(long, value_name = "auto|f32|bf16|int8")]
    precision: Option<Precision>,
}

pub(super) fn run(args: Args, mut config: Config) -> Outcome {
    let texts = if args.texts.is_empty() { lines()? } else { args.texts };
    if args.similarity && texts.len() < 2 {
        return Err(
            "it takes two texts to compare: weir embed --similarity \"turn it on\" \"turn it off\"".into()
        );
    }
    if args.similarity && texts.len() > MOST_COMPARED {
        return Err(
            format!("{} texts are too many to compare; the most are {MOST_COMPARED}", texts.len()).into()
        );
    }
    config.encoder.precision = args.precision.unwrap_or(config.encoder.precision);
    let mut encoder = load_encoder(&config.encoder, &config.models_dir)?.encoder;
    let mut first: Option<Embedding> = None;
    for batch in texts.chunks(BATCH) {
        let asked: Vec<Text> = batch.iter().map(|text| text.as_str().into()).collect();
        for (text, embedding) in batch.iter().zip(encoder.encode(&asked)?) {
            match &first {
                _ if !args.similarity => output::line(vector(text, &embedding)),
                Some(first) => output::line(similarity(first, text, &embedding)),
                None => first = Some(embedding),
            }
        }
    }
    Ok(())
}

/// A line of JSON.
fn vector(text: &str, embedding: &Embedding) -> String {
    let Embedding { vector, partial, pieces: _ } = embedding;
    json!({ "text": text, "partial": partial, "vector": vector.as_slice() }).to_string()
}

fn similarity(first: &Embedding, text: &str, other: &Embedding) -> String {
    let partial = if first.partial || other.partial { "  (not all of it could be read)" } else { "" };
    format!("{:7.4}  {text}{partial}", first.vector.cosine(&other.vector))
}

fn lines() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut texts = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line.len() > LONGEST_LINE {
            return Err(format!("line {} is longer than a text can be", texts.len() + 1).into());
        }
        texts.push(line);
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::UnitVector;

    fn embedding(values: &[f32], partial: bool) -> Embedding {
        Embedding { vector: UnitVector::new(values.to_vec()).unwrap(), partial, pieces: None }
    }

    #[test]
    fn a_vector_is_a_line_of_json_and_a_similarity_a_line_to_read() {
        let one = embedding(&[1.0, 0.0], false);
        assert_eq!(vector("a \"b\"", &one), r#"{"text":"a \"b\"","partial":false,"vector":[1.0,0.0]}"#);
        assert_eq!(similarity(&one, "c", &embedding(&[-1.0, 0.0], false)), "-1.0000  c");
        let partial = similarity(&one, "c", &embedding(&[1.0, 0.0], true));
        assert_eq!(partial, " 1.0000  c  (not all of it could be read)");
    }
}
