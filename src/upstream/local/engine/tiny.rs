//! Tiny models of every family, the same as `benches/local/families.py` makes.

use super::super::tokenizer::Metadata;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::io::Cursor;

pub(super) const WIDTH: usize = 64;
const HIDDEN: usize = 96;
const SIZE: usize = 32;

/// All tokens, with their scores and types.
#[derive(serde::Deserialize)]
struct Vocabulary {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
}

/// What a file says of its vocabulary.
pub(in super::super) fn vocabulary() -> Metadata {
    let told = include_str!("../../../../fixtures/local/sentences.json");
    let Vocabulary { tokens, scores, types } = serde_json::from_str(told).unwrap();
    Metadata::from([
        ("tokenizer.ggml.model".to_owned(), Value::String("llama".to_owned())),
        ("tokenizer.ggml.tokens".to_owned(), Value::Array(tokens.into_iter().map(Value::String).collect())),
        ("tokenizer.ggml.scores".to_owned(), Value::Array(scores.into_iter().map(Value::F32).collect())),
        ("tokenizer.ggml.token_type".to_owned(), Value::Array(types.into_iter().map(Value::I32).collect())),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(1)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(2)),
    ])
}

/// Numbers that look random, and are the same everywhere.
fn tensor(seed: usize, shape: &[usize], spread: f32, middle: f32) -> QTensor {
    let number = |at: usize| {
        let mixed = (at * 2_654_435_761 + seed * 40_503).wrapping_mul(2_246_822_519) >> 7 & 0xffff;
        middle + spread * (mixed as f32 / 32_768.0 - 1.0)
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(number).collect();
    QTensor::quantize(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap(), GgmlDType::F32).unwrap()
}

/// A file with a tiny model of `family`, about which it says `more` as well.
pub(super) fn model_saying(family: &str, more: &[(&str, Value)]) -> Cursor<Vec<u8>> {
    let mut metadata = vocabulary();
    let tokens = metadata["tokenizer.ggml.tokens"].to_vec().unwrap().len();
    metadata.insert("general.architecture".to_owned(), Value::String(family.to_owned()));
    for (key, value) in of_family(family).into_iter().chain(more.iter().cloned()) {
        metadata.insert(format!("{family}.{key}"), value);
    }
    let tensors = tensors(family, tokens);
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (&**key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (&**name, tensor)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.set_position(0);
    file
}

/// A file with a tiny model of `family`.
pub(in super::super) fn model(family: &str) -> Cursor<Vec<u8>> {
    model_saying(family, &[])
}

fn layers(family: &str) -> usize {
    // Of Gemma's layers every sixth sees everything.
    if family == "gemma3" { 6 } else { 2 }
}

fn of_family(family: &str) -> Vec<(&'static str, Value)> {
    let number = |value: usize| Value::U32(value as u32);
    let mut metadata = vec![
        ("block_count", number(layers(family))),
        ("embedding_length", number(WIDTH)),
        ("feed_forward_length", number(HIDDEN)),
        ("attention.head_count", number(WIDTH / SIZE)),
        ("attention.head_count_kv", number(1)),
        ("attention.key_length", number(SIZE)),
        ("attention.value_length", number(SIZE)),
        ("context_length", number(4096)),
        ("rope.dimension_count", number(SIZE)),
        ("rope.freq_base", Value::F32(10_000.0)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ];
    match family {
        "gemma3" => metadata.extend([
            ("rope.freq_base", Value::F32(1e6)),
            ("rope.scaling.type", Value::String("linear".to_owned())),
            ("rope.scaling.factor", Value::F32(8.0)),
            ("attention.sliding_window", number(8)),
        ]),
        "phi3" => metadata.extend([
            ("rope.dimension_count", number(24)),
            ("rope.scaling.attn_factor", Value::F32(1.25)),
            ("rope.scaling.original_context_length", number(4096)),
            ("attention.sliding_window", number(0)),
        ]),
        _ => {}
    }
    metadata
}

fn tensors(family: &str, tokens: usize) -> Vec<(String, QTensor)> {
    let matrix = |seed, outputs, inputs| tensor(seed, &[outputs, inputs], 0.2, 0.0);
    let vector = |seed, len, middle| tensor(seed, &[len], 0.1, middle);
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), tensor(1, &[tokens, WIDTH], 1.0, 0.0)),
        ("output_norm.weight".to_owned(), vector(3, WIDTH, 1.0)),
    ];
    if family != "gemma3" {
        tensors.push(("output.weight".to_owned(), matrix(2, tokens, WIDTH)));
    }
    if family == "phi3" {
        tensors.push(("rope_factors_short.weight".to_owned(), tensor(4, &[12], 0.4, 1.5)));
        tensors.push(("rope_factors_long.weight".to_owned(), tensor(5, &[12], 0.4, 3.0)));
    }
    for layer in 0..layers(family) {
        let seed = 100 * (layer + 1);
        let mut add = |name: &str, tensor| tensors.push((format!("blk.{layer}.{name}"), tensor));
        add("attn_norm.weight", vector(seed, WIDTH, 1.0));
        add("ffn_norm.weight", vector(seed + 1, WIDTH, 1.0));
        add("attn_output.weight", matrix(seed + 2, WIDTH, WIDTH));
        add("ffn_down.weight", matrix(seed + 3, WIDTH, HIDDEN));
        if family == "phi3" {
            add("attn_qkv.weight", matrix(seed + 4, WIDTH + 2 * SIZE, WIDTH));
            add("ffn_up.weight", matrix(seed + 5, 2 * HIDDEN, WIDTH));
            continue;
        }
        for (at, (name, outputs)) in [("q", WIDTH), ("k", SIZE), ("v", SIZE)].into_iter().enumerate() {
            add(&format!("attn_{name}.weight"), matrix(seed + 6 + at, outputs, WIDTH));
            if family == "qwen2" {
                add(&format!("attn_{name}.bias"), vector(seed + 9 + at, outputs, 0.0));
            }
            if ["qwen3", "gemma3"].contains(&family) && name != "v" {
                add(&format!("attn_{name}_norm.weight"), vector(seed + 9 + at, SIZE, 1.0));
            }
        }
        add("ffn_gate.weight", matrix(seed + 12, HIDDEN, WIDTH));
        add("ffn_up.weight", matrix(seed + 13, HIDDEN, WIDTH));
        if family == "gemma3" {
            add("post_attention_norm.weight", vector(seed + 14, WIDTH, 1.0));
            add("post_ffw_norm.weight", vector(seed + 15, WIDTH, 1.0));
        }
    }
    tensors
}
