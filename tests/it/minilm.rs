//! Our vectors against those of a plain numpy forward pass: see `fixtures/vectors/README.md`.

use candle_core::Device;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock};
use weir::embed::{Embedding, Encoder, Precision, SentenceEncoder, Text};
use weir::lab::embed::agreement;
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

fn folder() -> PathBuf {
    let models_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let model = Manifest::builtin().get("minilm").cloned().unwrap();
    if let Err(fault) = verify(&models_dir, &model) {
        panic!("{fault}\nrun: make models");
    }
    models_dir.join("minilm")
}

fn load(precision: Precision) -> SentenceEncoder {
    SentenceEncoder::load(&folder(), "minilm@test", &Device::Cpu, precision).unwrap()
}

/// The fastest on this machine, which is what people get. Loaded once for all tests.
fn encoder() -> MutexGuard<'static, SentenceEncoder> {
    static ENCODER: OnceLock<Mutex<SentenceEncoder>> = OnceLock::new();
    let encoder = ENCODER.get_or_init(|| Mutex::new(load(Precision::Auto)));
    // A test that failed while it held the encoder has not harmed it.
    encoder.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn encode_one(text: &str) -> Embedding {
    encoder().encode(&[text.into()]).unwrap().remove(0)
}

/// Some of the texts of every kind, about evenly.
fn varied(every: usize) -> Vec<&'static str> {
    include_str!("../../fixtures/sentences/varied.txt").lines().step_by(every).collect()
}

#[test]
fn every_precision_agrees_with_the_reference() {
    // The least cosine that each may have to plain double precision.
    for (precision, least) in [(Precision::F32, 0.99999), (Precision::Bf16, 0.9998), (Precision::Int8, 0.997)]
    {
        let mut encoder = load(precision);
        for reference in references() {
            let ours = encoder.encode(&[reference.text.as_str().into()]).unwrap().remove(0);
            let cosine = ours.vector.cosine(&UnitVector::new(reference.vector).unwrap());
            assert!(cosine > least, "{precision}: {:?}: {cosine}", reference.text);
            assert!(ours.partial || !reference.truncated, "{:?}", reference.text);
            assert_eq!(ours.vector.dimensions(), 384);
        }
    }
}

#[test]
fn bytes_say_what_candle_says_about_texts_of_every_kind() {
    let found = agreement(&mut load(Precision::Int8), &mut load(Precision::F32), &varied(10)).unwrap();
    assert!(
        found.cosine_min > 0.997 && found.cosine_mean > 0.9995 && found.nearest_off_by < 0.01,
        "{found:?}"
    );
}

#[test]
fn a_batch_says_the_same_as_one_by_one() {
    let texts: Vec<String> = references().into_iter().map(|reference| reference.text).collect();
    let asked: Vec<Text> = texts.iter().map(|text| text.as_str().into()).collect();
    let batch: Vec<Embedding> = asked.chunks(16).flat_map(|some| encoder().encode(some).unwrap()).collect();
    assert_eq!(batch.len(), texts.len());
    for (text, in_batch) in texts.iter().zip(batch) {
        let alone = encode_one(text);
        let cosine = alone.vector.cosine(&in_batch.vector);
        assert!(cosine > 0.99999, "{text:?}: {cosine}");
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
fn the_id_names_model_revision_arithmetic_and_pooling() {
    assert_eq!(load(Precision::F32).id(), "minilm@test/f32-mean");
    assert_eq!(load(Precision::Bf16).id(), "minilm@test/bf16-mean");
    assert_eq!(encoder().id(), "minilm@test/int8-mean");
}

#[test]
fn the_pieces_come_with_the_text_and_their_mean_is_where_it_points() {
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let mut encoder = load(precision);
        let asked = ["turn it on", "turn all of the lights off, please"]
            .map(|words| Text { words: words.to_owned(), with_pieces: true });
        let plain = asked.clone().map(|text| Text { with_pieces: false, ..text });
        let with = encoder.encode(&asked).unwrap();
        for (with, without) in with.iter().zip(encoder.encode(&plain).unwrap()) {
            assert_eq!(without.pieces, None);
            let pieces = with.pieces.as_ref().unwrap();
            assert_eq!(pieces.iter().count(), pieces.ids.len());
            let mut mean = vec![0.0; 384];
            for (_, vector) in pieces.iter() {
                mean.iter_mut().zip(vector).for_each(|(mean, value)| *mean += value);
            }
            let cosine = UnitVector::new(mean).unwrap().cosine(&without.vector);
            assert!(cosine > 0.9999, "{precision}: {cosine}");
        }
    }
}

#[test]
fn forks_on_other_threads_say_the_same() {
    let original = load(Precision::Auto);
    let texts: Vec<Text> = varied(50).into_iter().map(Text::from).collect();
    let said = |mut encoder: SentenceEncoder| encoder.encode(&texts).unwrap();
    let (a, b) = (original.fork(), original.fork());
    let (a, b) = std::thread::scope(|scope| {
        let (a, b) = (scope.spawn(|| said(a)), scope.spawn(|| said(b)));
        (a.join().unwrap(), b.join().unwrap())
    });
    assert_eq!(a, b);
    assert_eq!(a, said(original));
}
