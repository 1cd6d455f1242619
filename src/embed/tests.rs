//! All builds of the network on small models of chance, against candle's own.

use super::folder::{Bert, Description};
use super::network::{Input, Network};
use super::{Encoder as _, Precision, SentenceEncoder};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use tempfile::TempDir;

const WORDS: [&str; 12] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "turn", "the", "light", "on", "off", "##s", "please", "now"];

/// A small model: `hidden` numbers, heads of 32, two layers.
struct Small {
    hidden: usize,
    /// What the names of its tensors begin with.
    prefix: &'static str,
    /// What its normalisations call their parts.
    norm: [&'static str; 2],
}

const PLAIN: Small = Small { hidden: 128, prefix: "", norm: ["weight", "bias"] };

impl Small {
    fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let hidden = self.hidden;
        let config = format!(
            r#"{{"vocab_size": {}, "hidden_size": {hidden}, "intermediate_size": {}, "num_attention_heads": {},
                "num_hidden_layers": 2, "max_position_embeddings": 160}}"#,
            WORDS.len(),
            2 * hidden,
            hidden / 32
        );
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer()).unwrap();
        candle_core::safetensors::save(&self.tensors(), folder.path().join("model.safetensors")).unwrap();
        folder
    }

    fn tensors(&self) -> HashMap<String, Tensor> {
        let (hidden, wide) = (self.hidden, 2 * self.hidden);
        let mut tensors = HashMap::new();
        let mut add = |name: String, shape: &[usize], mean: f32, spread: f32| {
            let tensor = Tensor::randn(mean, spread, shape, &Device::Cpu).unwrap();
            tensors.insert(format!("{}{name}", self.prefix), tensor);
        };
        for (name, count) in [("word", WORDS.len()), ("position", 160), ("token_type", 2)] {
            add(format!("embeddings.{name}_embeddings.weight"), &[count, hidden], 0.0, 1.0);
        }
        let mut norms = vec!["embeddings.LayerNorm".to_owned()];
        for layer in 0..2 {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let dense = [
                ("attention.self.query", hidden, hidden),
                ("attention.self.key", hidden, hidden),
                ("attention.self.value", hidden, hidden),
                ("attention.output.dense", hidden, hidden),
                ("intermediate.dense", hidden, wide),
                ("output.dense", wide, hidden),
            ];
            for (part, inputs, outputs) in dense {
                add(
                    format!("{}.weight", name(part)),
                    &[outputs, inputs],
                    0.0,
                    (inputs as f32).sqrt().recip(),
                );
                add(format!("{}.bias", name(part)), &[outputs], 0.0, 0.1);
            }
            norms.extend([name("attention.output.LayerNorm"), name("output.LayerNorm")]);
        }
        for norm in norms {
            add(format!("{norm}.{}", self.norm[0]), &[hidden], 1.0, 0.3);
            add(format!("{norm}.{}", self.norm[1]), &[hidden], 0.0, 0.3);
        }
        tensors
    }
}

fn tokenizer() -> String {
    let vocabulary = WORDS.iter().enumerate().fold(String::new(), |mut list, (at, word)| {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(list, r#"{comma}"{word}": {at}"#);
        list
    });
    format!(
        r###"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true}},
        "pre_tokenizer": {{"type": "BertPreTokenizer"}},
        "post_processor": {{"type": "TemplateProcessing",
            "single": [{{"SpecialToken": {{"id": "[CLS]", "type_id": 0}}}}, {{"Sequence": {{"id": "A", "type_id": 0}}}},
                {{"SpecialToken": {{"id": "[SEP]", "type_id": 0}}}}],
            "pair": [{{"Sequence": {{"id": "A", "type_id": 0}}}}, {{"Sequence": {{"id": "B", "type_id": 1}}}}],
            "special_tokens": {{"[CLS]": {{"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
                "[SEP]": {{"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}}}}},
        "decoder": null,
        "model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {{{vocabulary}}}}}}}"###
    )
}

fn load(folder: &Path, precision: Precision) -> SentenceEncoder {
    SentenceEncoder::load(folder, "small", &Device::Cpu, precision).unwrap()
}

/// Texts of many lengths, the longest of them cut off.
fn texts() -> Vec<String> {
    (0..40)
        .map(|n| {
            ["turn", "the", "lights", "on", "off", "please", "now"]
                .into_iter()
                .cycle()
                .skip(n % 7)
                .take(1 + n * 7)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

/// The least cosine between what two encoders say about [`texts`], asked together.
fn least_cosine(a: &mut SentenceEncoder, b: &mut SentenceEncoder) -> f32 {
    let asked: Vec<_> = texts().into_iter().map(Into::into).collect();
    let (a, b) = (a.encode(&asked).unwrap(), b.encode(&asked).unwrap());
    a.iter().zip(&b).map(|(a, b)| a.vector.cosine(&b.vector)).fold(1.0, f32::min)
}

#[test]
fn every_build_says_what_candle_says() {
    let small = PLAIN.write();
    let mut reference = load(small.path(), Precision::F32);
    assert_eq!(reference.arithmetic(), "f32");
    for (precision, least) in [(Precision::Bf16, 0.999), (Precision::Int8, 0.995)] {
        let mut fused = load(small.path(), precision);
        assert!(fused.arithmetic().starts_with(precision.name()), "{}", fused.arithmetic());
        let cosine = least_cosine(&mut fused, &mut reference);
        assert!(cosine > least, "{precision}: {cosine}");
    }
}

#[test]
fn a_network_that_fits_no_kernel_is_left_to_candle() {
    let odd = Small { hidden: 96, ..PLAIN }.write();
    assert_eq!(load(odd.path(), Precision::Auto).arithmetic(), "f32");
}

#[test]
fn names_of_other_days_and_heads_are_understood() {
    for small in [Small { prefix: "bert.", ..PLAIN }, Small { norm: ["gamma", "beta"], ..PLAIN }] {
        let folder = small.write();
        let cosine =
            least_cosine(&mut load(folder.path(), Precision::Int8), &mut load(folder.path(), Precision::F32));
        assert!(cosine > 0.995, "{:?}: {cosine}", small.prefix);
    }
}

#[test]
fn pooling_is_what_the_folder_says() {
    let small = PLAIN.write();
    std::fs::create_dir(small.path().join("1_Pooling")).unwrap();
    let mut mean = load(small.path(), Precision::Int8);
    let pooling = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    std::fs::write(small.path().join("1_Pooling/config.json"), pooling).unwrap();
    let mut first = load(small.path(), Precision::Int8);
    assert_eq!(first.id(), "small/int8-first");
    assert!(least_cosine(&mut first, &mut load(small.path(), Precision::F32)) > 0.99);
    assert!(least_cosine(&mut first, &mut mean) < 0.99);
}

#[test]
fn a_file_that_does_not_fit_its_description_is_refused_by_name() {
    let small = PLAIN.write();
    let config = std::fs::read_to_string(small.path().join("config.json")).unwrap();
    std::fs::write(
        small.path().join("config.json"),
        config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"),
    )
    .unwrap();
    let refused = |folder: &Path| {
        let loaded = SentenceEncoder::load(folder, "small", &Device::Cpu, Precision::Auto);
        loaded.err().unwrap().to_string()
    };
    assert!(refused(small.path()).contains("model.safetensors"), "{}", refused(small.path()));
    std::fs::write(small.path().join("model.safetensors"), b"no tensors").unwrap();
    assert!(refused(small.path()).contains("model.safetensors"));
    std::fs::write(small.path().join("tokenizer.json"), b"{}").unwrap();
    assert!(refused(small.path()).contains("tokenizer.json"));
}

/// The build for GPUs, as it computes on a CPU.
mod batched {
    use super::*;
    use crate::embed::batched::Batched;
    use crate::embed::folder::Pooling;
    use candle_core::DType;
    use candle_nn::VarBuilder;

    fn networks(dtype: DType) -> (Network, Network, Bert) {
        let small = PLAIN.write();
        let description = Description::read(small.path()).unwrap();
        let path = small.path().join("model.safetensors");
        let file = std::fs::read(&path).unwrap();
        let from = VarBuilder::from_buffered_safetensors(file, DType::F32, &Device::Cpu).unwrap();
        let batched = Batched::load(&description.bert, &from, &Device::Cpu, dtype).unwrap();
        batched.warm_up(128).unwrap();
        let reference = Network::load(&description, &path, &Device::Cpu, Precision::F32, &[]).unwrap();
        (Network::Batched(batched), reference, description.bert)
    }

    #[test]
    fn whole_batches_of_any_lengths_say_what_candle_says() {
        for (dtype, most) in [(DType::F32, 1e-4), (DType::F16, 2e-2)] {
            let (mut batched, mut reference, bert) = networks(dtype);
            let texts: Vec<Vec<u32>> = [3, 160, 17, 1, 129, 16, 64, 2]
                .into_iter()
                .map(|length| (0..length).map(|at| (at * 5 % bert.vocab_size) as u32).collect())
                .collect();
            let inputs: Vec<Input<'_>> =
                texts.iter().enumerate().map(|(at, ids)| Input { ids, with_pieces: at % 2 == 0 }).collect();
            for pooling in [Pooling::Mean, Pooling::First] {
                let ours = batched.forward(&inputs, pooling).unwrap();
                let theirs = reference.forward(&inputs, pooling).unwrap();
                for ((ours, theirs), text) in ours.iter().zip(&theirs).zip(&texts) {
                    let length = text.len();
                    close(&ours.direction, &theirs.direction, most * length as f32, length);
                    assert_eq!(ours.pieces.is_some(), theirs.pieces.is_some());
                    if let (Some(ours), Some(theirs)) = (&ours.pieces, &theirs.pieces) {
                        close(ours, theirs, most, length);
                    }
                }
            }
        }
    }

    fn close(a: &[f32], b: &[f32], most: f32, length: usize) {
        assert_eq!(a.len(), b.len(), "a text of {length}");
        let difference = a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(difference < most, "a text of {length}: {difference}");
    }
}
