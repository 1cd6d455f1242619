//! The engine, held to candle and to llama.cpp on tiny models of each family that it knows.

use super::super::fault::Fault;
use super::super::kernels::Curve;
use super::tiny::{model as tiny, model_saying};
use super::*;
use candle_core::quantized::gguf_file::Value;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};

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
    (0..count).map(|at| (at * 7 + 3) % 48).collect()
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

#[derive(serde::Deserialize)]
pub(super) struct Families {
    pub(super) ids: Vec<u32>,
    /// Of each family, the logarithm of how likely each token is after the ids.
    pub(super) expected: std::collections::BTreeMap<String, Vec<f32>>,
}

fn logarithms(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
    logits.iter().map(|logit| logit - most - sum.ln()).collect()
}

pub(super) fn families() -> Families {
    let told: Families =
        serde_json::from_str(include_str!("../../../../fixtures/local/families.json")).unwrap();
    assert_eq!(told.expected.keys().collect::<Vec<_>>(), ["gemma3", "llama", "phi3", "qwen2", "qwen3"]);
    told
}

/// How far `engine` is off after `ids`.
fn off(engine: &mut Engine, ids: &[u32], pieces: &[usize], expected: &[f32]) -> f32 {
    let (mut sequence, mut begin, mut ours) = (engine.sequence(), 0, Vec::new());
    for len in pieces {
        ours = read(engine, &mut sequence, &ids[begin..begin + len]);
        begin += len;
    }
    off_by(&ours, expected)
}

/// How far `ours` is off, in shares of how far the expected differ among each other.
pub(super) fn off_by(ours: &[f32], expected: &[f32]) -> f32 {
    let ours = logarithms(ours);
    let mean = expected.iter().sum::<f32>() / expected.len() as f32;
    let spread: f32 = expected.iter().map(|x| (x - mean).powi(2)).sum();
    let off: f32 = ours.iter().zip(expected).map(|(ours, theirs)| (ours - theirs).powi(2)).sum();
    (off / spread).sqrt()
}

/// A little more than rounding to eight bits costs (with these weights five to seven in a hundred, for any engine that
/// rounds), and less than anything that is not done as it should be.
fn tolerance(family: &str) -> f32 {
    match family {
        "gemma3" => 0.005,
        "phi3" | "qwen3" => 0.03,
        _ => 0.1,
    }
}

#[test]
fn each_family_expects_what_llama_cpp_expects() {
    let Families { ids, expected } = families();
    for (family, expected) in expected {
        for kernels in Kernels::usable() {
            let mut engine = engine(&family).with_kernels(kernels);
            // However it is read, so that windows begin in the middle of pages and of steps.
            for pieces in [&[40][..], &[1, 20, 19], &[33, 1, 1, 1, 1, 1, 1, 1]] {
                let off = off(&mut engine, &ids, pieces, &expected);
                assert!(off < tolerance(&family), "{family} by {}: off by {off}", kernels.name());
            }
        }
    }
}

#[test]
fn what_is_particular_to_a_family_would_be_missed() {
    let Families { ids, expected } = families();
    let otherwise = [
        ("gemma3", "attention.sliding_window", Value::U32(9)),
        ("gemma3", "attention.sliding_window_pattern", Value::U32(3)),
        ("gemma3", "rope.freq_base_swa", Value::F32(1e6)),
        ("gemma3", "rope.scaling.factor", Value::F32(1.0)),
        ("gemma3", "rope.freq_base", Value::F32(1e4)),
        ("phi3", "rope.scaling.attn_factor", Value::F32(1.0)),
        ("phi3", "rope.scaling.original_context_length", Value::U32(64)),
        ("phi3", "rope.dimension_count", Value::U32(22)),
        ("phi3", "attention.sliding_window", Value::U32(38)),
    ];
    for (family, key, value) in otherwise {
        let mut engine = load(family, &[(key, value)]).unwrap().unwrap();
        let off = off(&mut engine, &ids, &[40], &expected[family]);
        assert!(off > tolerance(family), "{family} without {key}: off by {off} only");
    }
    let mut otherwise = [(); 3].map(|()| engine("gemma3"));
    otherwise[0].shape.curve = Curve::Silu;
    otherwise[1].shape.embedded = 1.0;
    otherwise[2].weights.layers.iter_mut().for_each(|layer| layer.after_feed = None);
    for (engine, what) in otherwise.iter_mut().zip(["curve", "embedding", "norms"]) {
        let off = off(engine, &ids, &[40], &expected["gemma3"]);
        assert!(off > tolerance("gemma3"), "gemma3 without its {what}: off by {off} only");
    }
}

fn load(family: &str, more: &[(&str, Value)]) -> Result<Option<Engine>, Fault> {
    let mut file = model_saying(family, more);
    let content = Content::read(&mut file).unwrap();
    Engine::load(&content, &mut file, 128)
}

#[test]
fn what_the_engine_does_not_know_is_left_to_candle_or_refused() {
    // Of a llama the weights are not those that it says, and another engine may know why.
    assert!(matches!(load("llama", &[("feed_forward_length", Value::U32(100))]), Ok(None)));
    assert!(matches!(load("llama", &[("expert_count", Value::U32(4))]), Ok(None)));
    let refused = [
        ("falcon", "block_count", Value::U32(2)),
        ("llama", "rope.scaling.type", Value::String("yarn".to_owned())),
        ("llama", "attention.sliding_window", Value::U32(16)),
        ("llama", "attention.value_length", Value::U32(16)),
        ("qwen2", "feed_forward_length", Value::U32(100)),
        ("gemma3", "attention.sliding_window", Value::U32(0)),
        ("gemma3", "attention.sliding_window_pattern", Value::U32(0)),
        ("phi3", "rope.dimension_count", Value::U32(33)),
    ];
    for (family, key, value) in refused {
        let fault = load(family, &[(key, value)]).err().map(|fault| fault.to_string()).unwrap_or_default();
        assert!(
            fault.contains("cannot be run here") || fault.contains("not known here"),
            "{family} {key}: {fault}"
        );
    }
    // A window that is wider than any conversation changes nothing.
    assert!(matches!(load("llama", &[("attention.sliding_window", Value::U32(4096))]), Ok(Some(_))));
}

#[test]
fn a_window_forgets_what_is_further_away() {
    let narrow = [("attention.sliding_window", Value::U32(8))];
    let after = |begin: u32| {
        let mut engine = load("phi3", &narrow).unwrap().unwrap();
        let mut sequence = engine.sequence();
        let ids: Vec<u32> = [vec![begin; 40], ids(20)].concat();
        read(&mut engine, &mut sequence, &ids)
    };
    // Two layers see twice as far.
    assert_eq!(after(7), after(9));
}

#[test]
fn a_tensor_that_is_missing_is_an_error() {
    let mut file = tiny("llama");
    let mut content = Content::read(&mut file).unwrap();
    content.tensor_infos.remove("blk.1.ffn_up.weight");
    assert!(matches!(Engine::load(&content, &mut file, 128), Err(Fault::Weights(_))));
}
