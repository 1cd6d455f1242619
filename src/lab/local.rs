//! How fast the local model reads and writes, on one thread or on a card.

use super::embed::cpu_time;
use crate::upstream::local::{Fault, Probe};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Tokens of the prompt that is read at once.
const PROMPT: usize = 512;
/// Tokens that are written one after the other.
const WRITTEN: usize = 128;
/// Answers that are written together, on a processor and on a card.
const TOGETHER: [usize; 2] = [8, 16];
/// What else runs on the machine only adds, so the best of several runs counts.
const RUNS: usize = 3;

/// What was measured. Tokens are by the second of CPU time, where a processor computes and the system tells it, else
/// of the clock on the wall.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub on: &'static str,
    /// What the arithmetic is called.
    pub arithmetic: &'static str,
    /// Tokens of a prompt of 512.
    pub prompt_tokens_per_second: f64,
    /// Tokens of one answer.
    pub written_tokens_per_second: f64,
    /// How many answers were written together.
    pub together: usize,
    /// Tokens of all of them.
    pub together_tokens_per_second: f64,
    /// From a prompt of 40 tokens to the first token of the answer, on the wall.
    pub first_token_of_40_ms: f64,
    /// From 8 tokens after 500 that were read before to the first token of the answer, on the wall.
    pub first_token_after_500_known_ms: f64,
    /// The memory that the weights take, where it is known.
    pub weight_bytes: Option<usize>,
    /// The memory that a token of a conversation takes.
    pub bytes_per_token: Option<usize>,
}

/// Measures `model`.
pub fn measure(model: &mut Probe) -> Result<Report, Fault> {
    let on_card = model.place() != "cpu";
    let count = TOGETHER[usize::from(on_card)];
    let timed =
        |work: &mut dyn FnMut() -> Result<(), Fault>| if on_card { on_the_wall(work) } else { timed(work) };
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|at| 504 + at % 97).collect();
    let read = best(|| {
        model.forget();
        timed(&mut || model.read(&prompt).map(drop))
    })?;
    let written = best(|| {
        model.forget();
        let mut token = model.read(&prompt[..31])?;
        timed(&mut || {
            for _ in 0..WRITTEN {
                token = model.read(&[token])?;
            }
            Ok(())
        })
    })?;
    let steps = if on_card { WRITTEN } else { WRITTEN / count };
    let together = best(|| timed(&mut || model.read_together(prompt[0], count, steps)))?;
    let first = best(|| {
        model.forget();
        on_the_wall(|| model.read(&prompt[..40]).map(drop))
    })?;
    let again = best(|| {
        model.forget();
        model.read(&prompt[..500])?;
        on_the_wall(|| model.read(&prompt[500..508]).map(drop))
    })?;
    Ok(Report {
        on: model.place(),
        arithmetic: model.arithmetic(),
        together: count,
        prompt_tokens_per_second: PROMPT as f64 / read.as_secs_f64(),
        written_tokens_per_second: WRITTEN as f64 / written.as_secs_f64(),
        together_tokens_per_second: (steps * count) as f64 / together.as_secs_f64(),
        first_token_of_40_ms: first.as_secs_f64() * 1e3,
        first_token_after_500_known_ms: again.as_secs_f64() * 1e3,
        weight_bytes: model.memory().map(|(weights, _)| weights),
        bytes_per_token: model.memory().map(|(_, token)| token),
    })
}

fn best(mut run: impl FnMut() -> Result<Duration, Fault>) -> Result<Duration, Fault> {
    let mut best = run()?;
    for _ in 1..RUNS {
        best = best.min(run()?);
    }
    Ok(best.max(Duration::from_nanos(1)))
}

fn timed(work: impl FnOnce() -> Result<(), Fault>) -> Result<Duration, Fault> {
    let (cpu, wall) = (cpu_time(), Instant::now());
    work()?;
    let cpu = cpu.zip(cpu_time()).map(|(begin, end)| end.saturating_sub(begin));
    Ok(cpu.unwrap_or_else(|| wall.elapsed()))
}

fn on_the_wall(work: impl FnOnce() -> Result<(), Fault>) -> Result<Duration, Fault> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}
