//! How fast a sentence encoder is, alone, in batches and behind its queue, and how well it agrees with candle's
//! own network in f32.

use crate::embed::{Config, Embedder, Encoder, Error, SentenceEncoder, Text};
use crate::vector::UnitVector;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The length that everything short is measured at, in word pieces.
const SHORT: usize = 16;
/// Texts in the batch that is measured.
const BATCH: usize = 32;
/// How long each thing is done before it is measured, and how long it is measured.
const WARM: Duration = Duration::from_millis(300);
const MEASURE: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The encoder.
    pub encoder: String,
    /// By which arithmetic it works.
    pub arithmetic: String,
    /// One short text after the other, on one thread.
    pub single: Single,
    /// How many texts a batch had.
    pub batch: usize,
    /// Texts a second on one thread, in batches of short texts.
    pub batch_texts_per_second: f64,
    /// Behind the queue.
    pub queue: Option<Queue>,
    /// Next to candle's network in f32.
    pub agreement: Option<Agreement>,
}

/// One text after the other, cutting into word pieces included.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Single {
    /// Word pieces of each text.
    pub pieces: usize,
    /// How many different texts there were.
    pub texts: usize,
    /// Wall time at the median, in milliseconds.
    pub wall_p50_ms: f64,
    /// The same, all but one in a hundred.
    pub wall_p99_ms: f64,
    /// CPU time in the mean, where the system tells it.
    pub cpu_mean_ms: Option<f64>,
}

/// Many callers at once.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Queue {
    /// How many.
    pub callers: usize,
    /// Texts a second.
    pub texts_per_second: f64,
    /// The same as a share of what the threads do in batches without a queue.
    pub share_of_best: f64,
    /// The wait of a caller at the median, in milliseconds.
    pub wait_p50_ms: f64,
    /// The same, all but one in a hundred.
    pub wait_p99_ms: f64,
    /// One batch of as many texts as callers, on one thread, in milliseconds.
    pub batch_ms: f64,
}

/// The same texts, by both networks.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Agreement {
    /// How many texts.
    pub texts: usize,
    /// The least cosine between the two vectors of a text.
    pub cosine_min: f32,
    /// The mean.
    pub cosine_mean: f64,
    /// For how many texts the nearest other text is the same.
    pub same_nearest: f64,
    /// Where it is another one: by how much less near that one is at most, by the reference.
    pub nearest_off_by: f32,
}

/// Short texts among `texts`: those of just the length that is measured, or nearest to it.
pub fn short(encoder: &SentenceEncoder, texts: &[&str]) -> Result<Vec<Text>, Error> {
    let mut by_length = Vec::new();
    for text in texts {
        by_length.push((encoder.pieces_of(text)?.abs_diff(SHORT), *text));
    }
    let nearest = by_length.iter().map(|(distance, _)| *distance).min().unwrap_or_default();
    let chosen = by_length.into_iter().filter(|(distance, _)| *distance == nearest);
    Ok(chosen.map(|(_, text)| text.into()).collect())
}

/// Measures one text at a time.
pub fn single(encoder: &mut SentenceEncoder, texts: &[Text]) -> Result<Single, Error> {
    let pieces = texts.first().map_or(Ok(0), |text| encoder.pieces_of(&text.words))?;
    let mut turns = texts.iter().cycle();
    let mut walls = Vec::new();
    let mut run = |walls: &mut Vec<Duration>, time: Duration| -> Result<(), Error> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            let Some(text) = turns.next() else { return Ok(()) };
            let one = Instant::now();
            encoder.encode(std::slice::from_ref(text))?;
            walls.push(one.elapsed());
        }
        Ok(())
    };
    run(&mut Vec::new(), WARM)?;
    let cpu = cpu_time();
    run(&mut walls, MEASURE)?;
    let cpu = cpu.zip(cpu_time()).map(|(begin, end)| end.saturating_sub(begin));
    let cpu_mean_ms = cpu.map(|cpu| millis(cpu) / walls.len().max(1) as f64);
    walls.sort_unstable();
    let (wall_p50_ms, wall_p99_ms) = (quantile(&walls, 0.5), quantile(&walls, 0.99));
    Ok(Single { pieces, texts: texts.len(), wall_p50_ms, wall_p99_ms, cpu_mean_ms })
}

/// Texts a second in batches of `size`, on this thread.
pub fn batches(encoder: &mut SentenceEncoder, texts: &[Text], size: usize) -> Result<f64, Error> {
    let mut turns = texts.iter().cycle().cloned();
    let mut rate = |time: Duration| -> Result<f64, Error> {
        let (begin, mut done) = (Instant::now(), 0usize);
        while begin.elapsed() < time {
            let batch: Vec<Text> = turns.by_ref().take(size).collect();
            done += encoder.encode(&batch)?.len();
        }
        Ok(done as f64 / begin.elapsed().as_secs_f64())
    };
    rate(WARM)?;
    rate(MEASURE)
}

/// What all of `encoders` do in batches side by side: texts a second.
fn best_rate(encoders: Vec<SentenceEncoder>, texts: &[Text], size: usize) -> Result<f64, Error> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = encoders
            .into_iter()
            .map(|mut encoder| scope.spawn(move || batches(&mut encoder, texts, size)))
            .collect();
        let died = |_| Error::Model("a thread died".to_owned());
        threads.into_iter().map(|thread| thread.join().map_err(died)?).sum()
    })
}

/// Measures `callers` who each ask again as soon as they have an answer, behind a queue with `threads` threads.
pub fn queue(
    encoder: &SentenceEncoder,
    texts: &[Text],
    callers: usize,
    threads: usize,
) -> Result<Queue, Error> {
    let forks = || (0..threads).map(|_| encoder.fork()).collect::<Vec<_>>();
    let best = best_rate(forks(), texts, BATCH)?;
    let batch_ms = 1e3 * callers as f64 / batches(&mut encoder.fork(), texts, callers)?;
    let failed = |error: std::io::Error| Error::Load(error.to_string());
    let embedder = Embedder::spawn_all(forks(), Config::default()).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let (mut waits, took) = runtime.block_on(ask_all(&embedder, texts, callers))?;
    waits.sort_unstable();
    let texts_per_second = waits.len() as f64 / took.as_secs_f64();
    Ok(Queue {
        callers,
        texts_per_second,
        share_of_best: texts_per_second / best,
        wait_p50_ms: quantile(&waits, 0.5),
        wait_p99_ms: quantile(&waits, 0.99),
        batch_ms,
    })
}

/// The waits of all callers, and how long it took in all.
async fn ask_all(
    embedder: &Embedder,
    texts: &[Text],
    callers: usize,
) -> Result<(Vec<Duration>, Duration), Error> {
    let begin = Instant::now();
    let asking = (0..callers).map(|caller| async move {
        let mut waits = Vec::new();
        for text in texts.iter().cycle().skip(caller) {
            let one = Instant::now();
            embedder.embed(text.clone()).await?;
            if begin.elapsed() > WARM + MEASURE {
                break;
            }
            if begin.elapsed() > WARM {
                waits.push(one.elapsed());
            }
        }
        Ok::<_, Error>(waits)
    });
    let waits = futures_util::future::try_join_all(asking).await?.concat();
    Ok((waits, MEASURE))
}

/// How near the vectors of `encoder` are to those of `reference`.
pub fn agreement(
    encoder: &mut SentenceEncoder,
    reference: &mut SentenceEncoder,
    texts: &[&str],
) -> Result<Agreement, Error> {
    let ours = vectors(encoder, texts)?;
    let theirs = vectors(reference, texts)?;
    let cosines: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a.cosine(b)).collect();
    let (mut same, mut nearest_off_by) = (0usize, 0.0f32);
    for at in 0..texts.len() {
        let (Some(by_ours), Some(by_theirs)) = (nearest(&ours, at), nearest(&theirs, at)) else { continue };
        same += usize::from(by_ours == by_theirs);
        let near = |other: usize| theirs[at].cosine(&theirs[other]);
        nearest_off_by = nearest_off_by.max(near(by_theirs) - near(by_ours));
    }
    let count = texts.len().max(1) as f64;
    Ok(Agreement {
        texts: texts.len(),
        cosine_min: cosines.iter().copied().fold(1.0, f32::min),
        cosine_mean: cosines.iter().map(|cosine| f64::from(*cosine)).sum::<f64>() / count,
        same_nearest: same as f64 / count,
        nearest_off_by,
    })
}

/// The size of the batch that [`Report::batch_texts_per_second`] is about.
pub const BATCH_SIZE: usize = BATCH;

fn vectors(encoder: &mut SentenceEncoder, texts: &[&str]) -> Result<Vec<UnitVector>, Error> {
    let mut vectors = Vec::with_capacity(texts.len());
    // Alike in length, so that a network that pads has little to pad.
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| texts[*at].len());
    for some in order.chunks(16) {
        let batch: Vec<Text> = some.iter().map(|at| texts[*at].into()).collect();
        vectors.extend(some.iter().copied().zip(encoder.encode(&batch)?));
    }
    vectors.sort_by_key(|(at, _)| *at);
    Ok(vectors.into_iter().map(|(_, embedding)| embedding.vector).collect())
}

fn nearest(vectors: &[UnitVector], to: usize) -> Option<usize> {
    let others = vectors.iter().enumerate().filter(|(at, _)| *at != to);
    let scored = others.map(|(at, vector)| (at, vectors[to].cosine(vector)));
    scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().map_or(0.0, millis)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The CPU time of this thread up to now, where Linux tells it.
pub(super) fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_there_is() {
        let ten: Vec<Duration> = (1..=10).map(Duration::from_millis).collect();
        assert!((quantile(&ten, 0.5) - 6.0).abs() < 1e-9);
        assert!((quantile(&ten, 0.99) - 10.0).abs() < 1e-9);
        assert!(quantile(&[], 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_nearest_is_never_oneself() {
        let vectors: Vec<UnitVector> = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
            .into_iter()
            .map(|values| UnitVector::new(values.to_vec()).unwrap())
            .collect();
        assert_eq!(nearest(&vectors, 0), Some(1));
        assert_eq!(nearest(&vectors, 2), Some(1));
        assert_eq!(nearest(&vectors[..1], 0), None);
    }
}
