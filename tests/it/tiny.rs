//! A language model of a few kilobytes: its words are noise, but everything around them is real.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use std::path::Path;

const WIDTH: usize = 64;
const HIDDEN: usize = 96;
const SIZE: usize = 32;
/// Two control tokens, every byte, and what the one merge makes.
const VOCABULARY: usize = 259;

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}\
                        <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Writes one of the llama family to `path`.
pub(crate) fn write(path: &Path) {
    write_family(path, "llama");
}

/// Writes one that says it is of another `family`.
pub(crate) fn write_family(path: &Path, family: &str) {
    let metadata = metadata(family);
    let tensors = tensors();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (&**key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (&**name, tensor)).collect();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    gguf_file::write(&mut std::fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

fn metadata(family: &str) -> Vec<(String, Value)> {
    let text = |text: &str| Value::String(text.to_owned());
    let number = |value: usize| Value::U32(value as u32);
    let tokens = ["<|im_start|>".to_owned(), "<|im_end|>".to_owned()].into_iter();
    let tokens = tokens.chain((0..=u8::MAX).map(|byte| printable(byte).to_string()));
    let tokens = tokens.chain(["hi".to_owned()]).map(Value::String);
    let types = (0..VOCABULARY).map(|id| Value::I32(if id < 2 { 3 } else { 1 }));
    [
        ("general.architecture", text(family)),
        ("general.name", text("Tiny")),
        ("general.license", text("apache-2.0")),
        ("llama.block_count", number(1)),
        ("llama.embedding_length", number(WIDTH)),
        ("llama.feed_forward_length", number(HIDDEN)),
        ("llama.attention.head_count", number(WIDTH / SIZE)),
        ("llama.attention.head_count_kv", number(1)),
        ("llama.context_length", number(4096)),
        ("llama.rope.dimension_count", number(SIZE)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.chat_template", text(TEMPLATE)),
        ("tokenizer.ggml.tokens", Value::Array(tokens.collect())),
        ("tokenizer.ggml.token_type", Value::Array(types.collect())),
        ("tokenizer.ggml.merges", Value::Array(vec![text("h i")])),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}

fn tensors() -> Vec<(String, QTensor)> {
    let matrix = |seed, outputs, inputs| tensor(seed, &[outputs, inputs], 0.2, 0.0, GgmlDType::Q8_0);
    let ones = |seed, len| tensor(seed, &[len], 0.1, 1.0, GgmlDType::F32);
    let names = [
        ("token_embd.weight", tensor(1, &[VOCABULARY, WIDTH], 1.0, 0.0, GgmlDType::Q8_0)),
        ("output.weight", matrix(2, VOCABULARY, WIDTH)),
        ("output_norm.weight", ones(3, WIDTH)),
        ("blk.0.attn_norm.weight", ones(4, WIDTH)),
        ("blk.0.ffn_norm.weight", ones(5, WIDTH)),
        ("blk.0.attn_q.weight", matrix(6, WIDTH, WIDTH)),
        ("blk.0.attn_k.weight", matrix(7, SIZE, WIDTH)),
        ("blk.0.attn_v.weight", matrix(8, SIZE, WIDTH)),
        ("blk.0.attn_output.weight", matrix(9, WIDTH, WIDTH)),
        ("blk.0.ffn_gate.weight", matrix(10, HIDDEN, WIDTH)),
        ("blk.0.ffn_up.weight", matrix(11, HIDDEN, WIDTH)),
        ("blk.0.ffn_down.weight", matrix(12, WIDTH, HIDDEN)),
    ];
    names.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
}

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

/// Bytes that print stand for themselves; the others are counted off from 256.
fn printable(byte: u8) -> char {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if prints(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|&other| !prints(other)).count() as u32;
    char::from_u32(256 + earlier).unwrap()
}
