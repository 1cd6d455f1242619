//! A sentence model as it lies in a folder: what its small files say about it.

use super::Error;
use serde::Deserialize;
use std::path::Path;

/// How many word pieces a model of this family reads at once, where its folder does not say.
const DEFAULT_PIECES: usize = 256;

/// The shape of the network.
const SHAPE: &str = "config.json";
/// How a text's vector is made of those of its pieces, as sentence-transformers writes it.
const POOLING: &str = "1_Pooling/config.json";
/// How long a text may be, as sentence-transformers writes it.
const SENTENCE: &str = "sentence_bert_config.json";

/// The small files that are read here. Only the first is in every folder.
pub(super) const FILES: [&str; 3] = [SHAPE, POOLING, SENTENCE];

/// What is known about a model before its weights are read.
#[derive(Clone, Debug)]
pub(super) struct Description {
    pub(super) bert: Bert,
    pub(super) pooling: Pooling,
    /// How many word pieces it reads, the marks at the ends among them.
    pub(super) max_pieces: usize,
}

/// `config.json`: the shape of the network.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Bert {
    #[serde(default = "bert")]
    model_type: String,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    pub(super) vocab_size: usize,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_attention_heads: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) max_position_embeddings: usize,
    #[serde(default = "two")]
    pub(super) type_vocab_size: usize,
    #[serde(default = "tiny")]
    pub(super) layer_norm_eps: f64,
    #[serde(default)]
    pub(super) pad_token_id: u32,
}

fn bert() -> String {
    "bert".to_owned()
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

fn two() -> usize {
    2
}

fn tiny() -> f64 {
    1e-12
}

/// How a text's vector is made of those of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the mark at the beginning.
    First,
}

impl Pooling {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::First => "first",
        }
    }
}

/// `1_Pooling/config.json`, as sentence-transformers writes it.
#[derive(Deserialize)]
struct PoolingFile {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

/// `sentence_bert_config.json`, as sentence-transformers writes it.
#[derive(Deserialize)]
struct SentenceFile {
    max_seq_length: Option<usize>,
}

impl Description {
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(SHAPE);
        let bert: Bert = serde_json::from_slice(&read(&path)?).map_err(|error| unusable(&path, &error))?;
        bert.check().map_err(|reason| unusable(&path, &reason))?;
        let pooling = match optional::<PoolingFile>(&folder.join(POOLING))? {
            None | Some(PoolingFile { pooling_mode_cls_token: false, pooling_mode_mean_tokens: true }) => {
                Pooling::Mean
            }
            Some(PoolingFile { pooling_mode_cls_token: true, pooling_mode_mean_tokens: false }) => {
                Pooling::First
            }
            Some(_) => return Err(unusable(&folder.join(POOLING), &"only `mean` and `cls` are known")),
        };
        let sentence = optional::<SentenceFile>(&folder.join(SENTENCE))?;
        let max_pieces = sentence.and_then(|file| file.max_seq_length).unwrap_or(DEFAULT_PIECES);
        let max_pieces = max_pieces.clamp(2, bert.max_position_embeddings);
        Ok(Self { bert, pooling, max_pieces })
    }
}

impl Bert {
    fn check(&self) -> Result<(), String> {
        let known = [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ];
        if let Some((key, value, wanted)) = known.iter().find(|(_, value, wanted)| value != wanted) {
            return Err(format!("`{key}` is \"{value}\"; only \"{wanted}\" is known"));
        }
        let sizes = [
            self.vocab_size,
            self.hidden_size,
            self.intermediate_size,
            self.num_attention_heads,
            self.num_hidden_layers,
            self.type_vocab_size,
        ];
        let divides =
            self.num_attention_heads != 0 && self.hidden_size.is_multiple_of(self.num_attention_heads);
        if sizes.contains(&0) || self.max_position_embeddings < 2 || !divides {
            return Err("the sizes make no network".to_owned());
        }
        Ok(())
    }

    pub(super) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| unusable(path, &error))
}

/// A file that not every model has.
fn optional<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_slice(&read(path)?).map(Some).map_err(|error| unusable(path, &error))
}

pub(super) fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Load(format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"vocab_size": 9, "hidden_size": 64, "intermediate_size": 128,
        "num_attention_heads": 4, "num_hidden_layers": 1, "max_position_embeddings": 32}"#;

    fn described(files: &[(&str, &str)]) -> Result<Description, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Description::read(folder.path())
    }

    #[test]
    fn what_a_folder_does_not_say_is_what_the_family_does() {
        let plain = described(&[("config.json", CONFIG)]).unwrap();
        assert_eq!((plain.pooling, plain.max_pieces, plain.bert.head_size()), (Pooling::Mean, 32, 16));
        let told = described(&[
            ("config.json", CONFIG),
            ("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true}"#),
            ("sentence_bert_config.json", r#"{"max_seq_length": 20}"#),
        ]);
        let told = told.unwrap();
        assert_eq!((told.pooling, told.max_pieces), (Pooling::First, 20));
    }

    #[test]
    fn a_network_of_another_kind_is_refused_by_name() {
        let refused = |from: &str, to: &str| {
            described(&[("config.json", &CONFIG.replace(from, to))]).unwrap_err().to_string()
        };
        assert!(refused("{", r#"{"model_type": "roberta", "#).contains("`model_type` is \"roberta\""));
        assert!(refused("{", r#"{"hidden_act": "relu", "#).contains("`hidden_act`"));
        assert!(refused(": 4", ": 5").contains("the sizes make no network"));
        assert!(refused(": 4", ": 0").contains("the sizes make no network"));
        let max = [("config.json", CONFIG), ("1_Pooling/config.json", "{}")];
        assert!(described(&max).unwrap_err().to_string().contains("only `mean` and `cls`"));
    }
}
