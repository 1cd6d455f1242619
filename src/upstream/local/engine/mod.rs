//! The forward pass of the llama family and its relatives, in our own arithmetic.
//!
//! ```text
//! ids ─embed─▶ x ─┬─ norm ─▶ queries, keys, values ─▶ rotate ─▶ remember ─▶ attend ─▶ + ─┬─ norm ─▶ gate ─▶ + ─▶ … ─▶ logits
//!                 └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! One step reads any number of tokens of any number of sequences: all their rows go through each matrix
//! together, so the weights are loaded once for all. Between steps nothing is allocated but a page of memory for
//! every [`PAGE`] tokens of a sequence.

#[cfg(feature = "cuda")]
pub(super) mod card;
mod pack;
mod pages;
mod rotation;
mod shape;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod tiny;
mod weights;

/// What this engine remembers of a sequence.
pub(super) type Sequence = pages::Sequence<[u16]>;

use super::fault::Fault;
use super::kernels::{Kernels, Memory, PAGE, Place, QuantisedRows};
use candle_core::quantized::gguf_file::Content;
use rotation::Rotation;
use shape::Shape;
use std::io::{Read, Seek};
use weights::{Layer, Processor, Stack, Weights};

/// A model that is ready to read.
pub(super) struct Engine {
    kernels: Kernels,
    shape: Shape,
    weights: Weights<Processor>,
    rotation: Rotation,
    /// For layers that attend to what is near only.
    near: Option<Rotation>,
    work: Work,
}

/// Tokens that a sequence reads in a step.
pub(super) struct Run<'a> {
    pub(super) sequence: &'a mut Sequence,
    pub(super) ids: &'a [u32],
    /// Whether what comes next is asked for.
    pub(super) wants_next: bool,
}

/// Numbers between one layer and the next, kept from step to step.
#[derive(Default)]
struct Work {
    x: Vec<f32>,
    normal: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gates: Vec<f32>,
    open: Vec<f32>,
    change: Vec<f32>,
    scores: Vec<f32>,
    quantised: QuantisedRows,
    logits: Vec<f32>,
}

impl Engine {
    /// The model in a GGUF file, for sequences of at most `context` tokens; `None` where it is a llama of a shape that
    /// this engine does not know.
    pub(super) fn load<R: Read + Seek>(
        content: &Content,
        file: &mut R,
        context: usize,
    ) -> Result<Option<Self>, Fault> {
        let Some(shape) = Shape::of(&content.metadata, context)? else { return Ok(None) };
        let Some(weights) = Weights::load(&Processor, content, file, &shape)? else {
            return if shape.is_known_to_candle() { Ok(None) } else { Err(Fault::Shape("size of a matrix")) };
        };
        let slower = weights.slower.as_deref();
        let rotation = Rotation::new(&shape, shape.turning, slower, context);
        let near = shape.windows.map(|windows| Rotation::new(&shape, windows.turning, slower, context));
        Ok(Some(Self { kernels: Kernels::best(), shape, weights, rotation, near, work: Work::default() }))
    }

    /// Uses other kernels, to hold them to each other.
    #[cfg(test)]
    fn with_kernels(mut self, kernels: Kernels) -> Self {
        self.kernels = kernels;
        self
    }

    /// What its arithmetic is called.
    pub(super) fn arithmetic(&self) -> &'static str {
        self.kernels.name()
    }

    /// A sequence of no tokens.
    pub(super) fn sequence(&self) -> Sequence {
        Sequence::new(self.shape.page())
    }

    /// The memory that a token of a sequence takes.
    pub(super) fn bytes_per_token(&self) -> usize {
        self.shape.page() * size_of::<u16>() / PAGE
    }

    /// The memory that the weights take.
    pub(super) fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Reads the tokens of all `runs`. For each that wants it, in order, a row that says how much each token of
    /// the vocabulary is to be expected next; with it how long a row is, and how much of it is vocabulary.
    pub(super) fn step(&mut self, runs: &mut [Run<'_>]) -> (&[f32], usize, usize) {
        for run in &mut *runs {
            run.sequence.make_room(run.ids.len(), |numbers| std::iter::repeat_n(0, numbers).collect());
        }
        self.embed(runs);
        for layer in 0..self.weights.layers.len() {
            self.attend(layer, runs);
            self.feed_forward(layer);
        }
        self.expect_next(runs);
        for run in &mut *runs {
            run.sequence.have_read(run.ids.len());
        }
        (&self.work.logits, self.weights.output.outputs(), self.shape.vocabulary)
    }

    fn embed(&mut self, runs: &[Run<'_>]) {
        let width = self.shape.width;
        let rows: usize = runs.iter().map(|run| run.ids.len()).sum();
        self.work.x.resize(rows * width, 0.0);
        let ids = runs.iter().flat_map(|run| run.ids);
        for (x, id) in self.work.x.chunks_exact_mut(width).zip(ids) {
            self.weights.embed((*id as usize).min(self.shape.vocabulary - 1), x);
        }
        self.work.x.iter_mut().for_each(|x| *x *= self.shape.embedded);
    }

    fn attend(&mut self, layer: usize, runs: &mut [Run<'_>]) {
        let Self { kernels, shape, weights, rotation, near, work } = self;
        let weights = &weights.layers[layer];
        let window = shape.window(layer);
        let rotation = near.as_ref().filter(|_| window.is_some()).unwrap_or(rotation);
        kernels.norm(work, &weights.attention_norm, shape);
        let stride = weights.qkv.outputs();
        multiply(*kernels, &work.quantised, &weights.qkv, &mut work.qkv);
        work.attended.resize(work.x.len() / shape.width * shape.queries(), 0.0);
        let mut rows = work.qkv.chunks_exact_mut(stride);
        for run in &mut *runs {
            for (at, row) in (run.sequence.len()..).zip(rows.by_ref().take(run.ids.len())) {
                prepare(*kernels, row, weights, shape, rotation, at);
                run.sequence.remember(layer, at, &row[shape.queries()..], shape);
            }
        }
        let mut rows = work.qkv.chunks_exact(stride).zip(work.attended.chunks_exact_mut(shape.queries()));
        for run in &*runs {
            for (at, (row, out)) in (run.sequence.len()..).zip(rows.by_ref().take(run.ids.len())) {
                let group = shape.heads / shape.kv_heads * shape.size;
                let first = window.map_or(0, |window| (at + 1).saturating_sub(window));
                let pages = &run.sequence.pages()[first / PAGE..];
                let heads = row[..shape.queries()].chunks_exact(group).zip(out.chunks_exact_mut(group));
                for (head, (queries, out)) in heads.enumerate() {
                    let memory = Memory {
                        pages,
                        start: shape.place(layer, head),
                        skip: first % PAGE,
                        len: at + 1 - first / PAGE * PAGE,
                        size: shape.size,
                    };
                    kernels.attend(queries, memory, &mut work.scores, out);
                }
            }
        }
        kernels.quantise(&work.attended, shape.queries(), &mut work.quantised);
        multiply(*kernels, &work.quantised, &weights.out, &mut work.change);
        kernels.change(work, weights.after_attention.as_deref(), shape);
    }

    fn feed_forward(&mut self, layer: usize) {
        let Self { kernels, shape, weights, work, .. } = self;
        let weights = &weights.layers[layer];
        kernels.norm(work, &weights.feed_norm, shape);
        multiply(*kernels, &work.quantised, &weights.gate_up, &mut work.gates);
        work.open.resize(work.gates.len() / 2, 0.0);
        kernels.gate(&work.gates, shape.hidden, shape.curve, &mut work.open);
        kernels.quantise(&work.open, shape.hidden, &mut work.quantised);
        multiply(*kernels, &work.quantised, &weights.down, &mut work.change);
        kernels.change(work, weights.after_feed.as_deref(), shape);
    }

    /// Only the last row of a run says what comes after it.
    fn expect_next(&mut self, runs: &[Run<'_>]) {
        let Self { kernels, shape, weights, work, .. } = self;
        let (mut end, mut kept) = (0, 0);
        for run in runs {
            end += run.ids.len();
            if run.wants_next && !run.ids.is_empty() {
                work.x.copy_within((end - 1) * shape.width..end * shape.width, kept * shape.width);
                kept += 1;
            }
        }
        work.x.truncate(kept * shape.width);
        kernels.norm(work, &weights.norm, shape);
        multiply(*kernels, &work.quantised, &weights.output, &mut work.logits);
    }
}

impl Kernels {
    /// The rows of `x`, normalised and quantised.
    fn norm(self, work: &mut Work, scale: &[f32], shape: &Shape) {
        work.normal.resize(work.x.len(), 0.0);
        self.normalise(&work.x, scale, shape.epsilon, &mut work.normal);
        self.quantise(&work.normal, shape.width, &mut work.quantised);
    }

    /// Adds what was found out to `x`, normalised where the model has it so.
    fn change(self, work: &mut Work, scale: Option<&[f32]>, shape: &Shape) {
        if let Some(scale) = scale {
            work.normal.resize(work.change.len(), 0.0);
            self.normalise(&work.change, scale, shape.epsilon, &mut work.normal);
            self.add(&mut work.x, &work.normal);
        } else {
            self.add(&mut work.x, &work.change);
        }
    }
}

fn multiply(kernels: Kernels, x: &QuantisedRows, stack: &Stack, out: &mut Vec<f32>) {
    let stride = stack.outputs();
    out.resize(x.rows() * stride, 0.0);
    let mut column = 0;
    for matrix in &stack.0 {
        kernels.multiply(x, matrix, out, Place { stride, column });
        column += matrix.outputs;
    }
}

/// A row of queries, keys and values, as attention wants them.
fn prepare(
    kernels: Kernels,
    row: &mut [f32],
    weights: &Layer<Processor>,
    shape: &Shape,
    rotation: &Rotation,
    at: usize,
) {
    if let Some(bias) = &weights.bias {
        kernels.add(row, bias);
    }
    let (queries, rest) = row.split_at_mut(shape.queries());
    let (keys, _) = rest.split_at_mut(shape.kv_heads * shape.size);
    for (heads, norm) in [(queries, &weights.query_norm), (keys, &weights.key_norm)] {
        for head in heads.chunks_exact_mut(shape.size) {
            if let Some(scale) = norm {
                normalise_in_place(head, scale, shape.epsilon);
            }
            rotation.rotate(head, at);
        }
    }
}

fn normalise_in_place(x: &mut [f32], scale: &[f32], epsilon: f32) {
    let square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let factor = 1.0 / (square + epsilon).sqrt();
    x.iter_mut().zip(scale).for_each(|(x, scale)| *x *= factor * scale);
}
