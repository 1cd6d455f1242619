//! Our vectors against those of a plain numpy forward pass: see `fixtures/vectors/README.md`.

use candle_core::Device;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock};
use weir::embed::minilm::MiniLm;
use weir::embed::{Embedding, Encoder};
use weir::models::{Manifest, verify};
use weir::vector::UnitVector;

#[derive(serde::Deserialize)]
struct Reference {
    text: String,
    truncated: bool,
    vector: Vec<f32>,
}

fn references() -> Vec<Reference> {
    serde_json::from_str(include_str!("../../fixtures/vectors/minilm.json")).unwrap()
}

/// Loaded once for all tests.
fn encoder() -> MutexGuard<'static, MiniLm> {
    static ENCODER: OnceLock<Mutex<MiniLm>> = OnceLock::new();
    let load = || {
        let models_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let model = Manifest::builtin().get("minilm").cloned().unwrap();
        if let Err(fault) = verify(&models_dir, &model) {
            panic!("{fault}\nrun: make models");
        }
        Mutex::new(MiniLm::load(&models_dir.join("minilm"), &Device::Cpu).unwrap())
    };
    // A test that failed while it held the encoder has not harmed it.
    ENCODER.get_or_init(load).lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn encode_one(text: &str) -> Embedding {
    encoder().encode(&[text.to_owned()]).unwrap().remove(0)
}

#[test]
fn vectors_agree_with_the_reference() {
    for reference in references() {
        let ours = encode_one(&reference.text);
        let cosine = ours.vector.cosine(&UnitVector::new(reference.vector).unwrap());
        assert!(cosine > 0.9999, "{:?}: {cosine}", reference.text);
        assert!(ours.partial || !reference.truncated, "{:?}", reference.text);
        assert_eq!(ours.vector.dimensions(), 384);
    }
}

#[test]
fn a_batch_says_the_same_as_one_by_one() {
    let texts: Vec<String> = references().into_iter().map(|reference| reference.text).collect();
    let batch: Vec<Embedding> = texts.chunks(16).flat_map(|some| encoder().encode(some).unwrap()).collect();
    assert_eq!(batch.len(), texts.len());
    for (text, in_batch) in texts.iter().zip(batch) {
        let alone = encode_one(text);
        let cosine = alone.vector.cosine(&in_batch.vector);
        assert!(cosine > 0.9999, "{text:?}: {cosine}");
        assert_eq!(alone.partial, in_batch.partial, "{text:?}");
    }
    assert!(encoder().encode(&[]).unwrap().is_empty());
}

#[test]
fn what_the_model_does_not_know_is_not_read() {
    for unread in ["怎么取消订阅", "账户密码重置", "What does 🦄 mean?"] {
        assert!(encode_one(unread).partial, "{unread}");
    }
    for read in ["How do I reset my password?", "Où est la gare ?", "¿Cómo está?", "5 € + 3 $"] {
        assert!(!encode_one(read).partial, "{read}");
    }
}

#[test]
fn what_is_never_read_is_told() {
    let shown = "word ".repeat(254);
    assert!(!encode_one(&shown).partial, "254 words and the two marks just fit");
    assert!(encode_one(&format!("{shown}more")).partial);
    // Beyond the bytes that are looked at, even where nothing but blanks was cut off.
    let blanks = " ".repeat(20_000);
    assert!(encode_one(&format!("hello{blanks}world")).partial);
    assert!(!encode_one(&format!("hello{}world", &blanks[..10_000])).partial);
}

#[test]
fn a_huge_text_costs_no_more_than_a_long_one() {
    let long = encode_one(&"a river runs ".repeat(400));
    let huge = encode_one(&"a river runs ".repeat(400_000));
    assert_eq!(long, huge);
}

#[test]
fn what_means_the_same_is_near_and_what_does_not_is_not() {
    let cosine = |a: &str, b: &str| encode_one(a).vector.cosine(&encode_one(b).vector);
    assert!(cosine("How do I reset my password?", "how do i reset my password") > 0.97);
    assert!(cosine("How do I reset my password?", "What is the capital of France?") < 0.3);
}

#[test]
fn the_id_names_model_revision_and_arithmetic() {
    assert_eq!(encoder().id(), "all-MiniLM-L6-v2@c9745ed1/f32-mean");
}
