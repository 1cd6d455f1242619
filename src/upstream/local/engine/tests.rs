//! The engine, held to candle's own forward pass on tiny models of every family that it knows.

use super::super::fault::Fault;
use super::*;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use std::io::Cursor;

const VOCABULARY: usize = 48;
const WIDTH: usize = 64;
const HIDDEN: usize = 96;
const SIZE: usize = 32;
const LAYERS: usize = 2;

/// Numbers that look random, and are the same everywhere.
fn tensor(seed: usize, shape: &[usize], spread: f32, middle: f32, format: GgmlDType) -> QTensor {
    let count = shape.iter().product();
    let number = |at: usize| {
        let mixed = (at * 2_654_435_761 + seed * 40_503).wrapping_mul(2_246_822_519) >> 7 & 0xffff;
        middle + spread * (mixed as f32 / 32_768.0 - 1.0)
    };
    let values: Vec<f32> = (0..count).map(number).collect();
    QTensor::quantize(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap(), format).unwrap()
}

/// A file with a tiny model of `family`.
fn tiny(family: &str) -> Cursor<Vec<u8>> {
    let number = |value: usize| Value::U32(value as u32);
    let metadata = [
        ("general.architecture".to_owned(), Value::String(family.to_owned())),
        (format!("{family}.block_count"), number(LAYERS)),
        (format!("{family}.embedding_length"), number(WIDTH)),
        (format!("{family}.feed_forward_length"), number(HIDDEN)),
        (format!("{family}.attention.head_count"), number(WIDTH / SIZE)),
        (format!("{family}.attention.head_count_kv"), number(1)),
        (format!("{family}.attention.key_length"), number(SIZE)),
        (format!("{family}.context_length"), number(128)),
        (format!("{family}.rope.dimension_count"), number(SIZE)),
        (format!("{family}.rope.freq_base"), Value::F32(10_000.0)),
        (format!("{family}.attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
        (
            "tokenizer.ggml.tokens".to_owned(),
            Value::Array((0..VOCABULARY).map(|id| Value::String(format!("t{id}"))).collect()),
        ),
    ];
    let matrix = |seed, outputs, inputs| tensor(seed, &[outputs, inputs], 0.2, 0.0, GgmlDType::Q8_0);
    let vector = |seed, len, middle| tensor(seed, &[len], 0.1, middle, GgmlDType::F32);
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), tensor(1, &[VOCABULARY, WIDTH], 1.0, 0.0, GgmlDType::Q8_0)),
        ("output.weight".to_owned(), matrix(2, VOCABULARY, WIDTH)),
        ("output_norm.weight".to_owned(), vector(3, WIDTH, 1.0)),
    ];
    for layer in 0..LAYERS {
        let seed = 10 * (layer + 1);
        let mut add = |name: &str, tensor| tensors.push((format!("blk.{layer}.{name}"), tensor));
        add("attn_norm.weight", vector(seed, WIDTH, 1.0));
        add("ffn_norm.weight", vector(seed + 1, WIDTH, 1.0));
        for (at, (name, outputs)) in [("q", WIDTH), ("k", SIZE), ("v", SIZE)].into_iter().enumerate() {
            add(&format!("attn_{name}.weight"), matrix(seed + 2 + at, outputs, WIDTH));
            if family == "qwen2" {
                add(&format!("attn_{name}.bias"), vector(seed + 5 + at, outputs, 0.0));
            }
            if family == "qwen3" && name != "v" {
                add(&format!("attn_{name}_norm.weight"), vector(seed + 5 + at, SIZE, 1.0));
            }
        }
        add("attn_output.weight", matrix(seed + 3, WIDTH, WIDTH));
        add("ffn_gate.weight", matrix(seed + 4, HIDDEN, WIDTH));
        add("ffn_up.weight", matrix(seed + 5, HIDDEN, WIDTH));
        add("ffn_down.weight", matrix(seed + 6, WIDTH, HIDDEN));
    }
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (&**key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (&**name, tensor)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.set_position(0);
    file
}

fn engine(family: &str) -> Engine {
    let mut file = tiny(family);
    let content = Content::read(&mut file).unwrap();
    Engine::load(&content, &mut file, 128).unwrap().unwrap()
}

/// What candle expects after `ids`.
fn by_candle(family: &str, ids: &[u32]) -> Vec<f32> {
    let mut file = tiny(family);
    let content = Content::read(&mut file).unwrap();
    let input = Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let expected = match family {
        "qwen2" => quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)
            .and_then(|mut model| model.forward(&input, 0)),
        "qwen3" => quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)
            .and_then(|mut model| model.forward(&input, 0)),
        _ => quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)
            .and_then(|mut model| model.forward(&input, 0)),
    };
    expected.unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn read(engine: &mut Engine, sequence: &mut Sequence, ids: &[u32]) -> Vec<f32> {
    let (expected, _, vocabulary) = engine.step(&mut [Run { sequence, ids, wants_next: true }]);
    expected[..vocabulary].to_vec()
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|at| (at * 7 + 3) % VOCABULARY as u32).collect()
}

#[test]
fn each_family_expects_what_candle_expects() {
    for family in ["llama", "qwen2", "qwen3"] {
        let expected = by_candle(family, &ids(40));
        let spread = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
        for kernels in Kernels::usable() {
            let mut engine = engine(family).with_kernels(kernels);
            let mut sequence = engine.sequence();
            let ours = read(&mut engine, &mut sequence, &ids(40));
            for (token, (ours, theirs)) in ours.iter().zip(&expected).enumerate() {
                let off = (ours - theirs).abs() / spread;
                assert!(off < 0.03, "{family} by {}: {token} is {ours}, not {theirs}", kernels.name());
            }
        }
    }
}

#[test]
fn how_a_prompt_is_cut_up_changes_nothing() {
    let mut engine = engine("llama");
    let (mut whole, mut pieces) = (engine.sequence(), engine.sequence());
    let at_once = read(&mut engine, &mut whole, &ids(70));
    let piecewise = [1, 20, 33, 16].into_iter().fold((0, Vec::new()), |(begin, _), len| {
        (begin + len, read(&mut engine, &mut pieces, &ids(70)[begin..begin + len]))
    });
    assert_eq!(piecewise.1, at_once);
}

#[test]
fn sequences_in_one_step_do_not_see_each_other() {
    let mut engine = engine("qwen3");
    let all = ids(60);
    let (mut a, mut b) = (engine.sequence(), engine.sequence());
    let alone = [read(&mut engine, &mut a, &all[..40]), read(&mut engine, &mut b, &all[40..])].concat();
    let (mut a, mut b, mut c) = (engine.sequence(), engine.sequence(), engine.sequence());
    let mut runs = [
        Run { sequence: &mut a, ids: &all[..40], wants_next: true },
        Run { sequence: &mut c, ids: &all[7..19], wants_next: false },
        Run { sequence: &mut b, ids: &all[40..], wants_next: true },
    ];
    assert_eq!(engine.step(&mut runs).0, alone);
}

#[test]
fn a_shared_beginning_is_read_once_and_written_by_nobody_else() {
    let mut engine = engine("llama");
    let all = ids(50);
    let mut first = engine.sequence();
    let expected = read(&mut engine, &mut first, &all);
    let mut other = first.clone();
    other.truncate(37);
    let _ = read(&mut engine, &mut other, &[1, 2, 3, 4, 5]);
    let mut again = first.clone();
    again.truncate(37);
    assert_eq!(read(&mut engine, &mut again, &all[37..]), expected);
    assert_eq!(first.len(), 50);
}

#[test]
fn what_the_engine_does_not_know_is_left_to_candle() {
    let mut file = tiny("falcon");
    let content = Content::read(&mut file).unwrap();
    assert!(matches!(Engine::load(&content, &mut file, 128), Ok(None)));
}

#[test]
fn a_tensor_that_is_missing_is_an_error() {
    let mut file = tiny("llama");
    let mut content = Content::read(&mut file).unwrap();
    content.tensor_infos.remove("blk.1.ffn_up.weight");
    assert!(matches!(Engine::load(&content, &mut file, 128), Err(Fault::Weights(_))));
}
