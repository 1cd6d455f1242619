//! The same forward pass on a card, in halves and f32: what [`super::Engine`] does, step by step.
//!
//! A step that writes one token of each of a few sequences is some two hundred small pieces of work, which take the
//! processor longer to begin than the card to do. So they are written down once for each number of sequences, and
//! begun together from then on.

use super::super::fault::Fault;
use super::super::kernels::gpu::{Attention, Card, Floats, Matrix, Page, Part, Reading, Rows, Then};
use super::pages;
use super::rotation::Rotation;
use super::shape::{Pairing, Shape};
use super::weights::{Layer, Packing, Weights};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, PinnedHostSlice};
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::Content;
use candle_core::{CpuStorage, DType, Device, Storage};
use std::collections::HashMap;
use std::io::{Read, Seek};

/// What this engine remembers of a sequence.
pub(in super::super) type Sequence = pages::Sequence<Page>;

/// Rows that there is room for at first.
const ROWS: usize = 512;
/// Of so many rows is asked at first what comes next.
const WANTED: usize = 32;

/// A model that is ready to read, on a card.
pub(in super::super) struct Engine {
    card: Card,
    shape: Shape,
    context: usize,
    weights: Weights<Card>,
    turns: Floats,
    /// For layers that attend to what is near only.
    near: Option<Floats>,
    reading: Reading,
    work: Work,
    desk: PinnedHostSlice<f32>,
    /// The steps that write one token of each of so many sequences.
    recorded: HashMap<usize, CudaGraph>,
}

/// Numbers between one layer and the next.
struct Work {
    rows: usize,
    wanted: usize,
    x: Floats,
    qkv: Floats,
    attended: Floats,
    open: Floats,
    /// Where the model normalises what it adds.
    change: Option<Floats>,
    logits: Floats,
}

/// Tokens that a sequence reads in a step.
pub(in super::super) struct Run<'a> {
    pub(in super::super) sequence: &'a mut Sequence,
    pub(in super::super) ids: &'a [u32],
    /// Whether what comes next is asked for.
    pub(in super::super) wants_next: bool,
}

impl Run<'_> {
    fn part(&self) -> Part<'_> {
        Part {
            ids: self.ids,
            begin: self.sequence.len(),
            pages: self.sequence.pages(),
            wants_next: self.wants_next,
        }
    }
}

impl Packing for Card {
    type Matrix = Matrix;
    type Vector = Floats;

    fn matrix(&self, tensors: &[QTensor]) -> Result<Matrix, Fault> {
        let (mut numbers, mut inputs, mut outputs) = (Vec::new(), 0, 0);
        for tensor in tensors {
            let (rows, width) = tensor.shape().dims2()?;
            if outputs > 0 && width != inputs {
                return Err(Fault::Metadata("width of a matrix"));
            }
            (inputs, outputs) = (width, outputs + rows);
            let halves = tensor.dequantize(&Device::Cpu)?.to_dtype(DType::F16)?.contiguous()?;
            if let Storage::Cpu(CpuStorage::F16(halves)) = &*halves.storage_and_layout().0 {
                numbers.extend(halves.iter().map(|half| half.to_bits()));
            }
        }
        Ok(Matrix { numbers: self.halves(&numbers)?, inputs, outputs })
    }

    fn vector(&self, numbers: Vec<f32>) -> Result<Floats, Fault> {
        self.floats(&numbers)
    }

    fn is(matrix: &Matrix, inputs: usize, outputs: usize) -> bool {
        (matrix.inputs, matrix.outputs) == (inputs, outputs)
    }

    fn len(vector: &Floats) -> usize {
        vector.len()
    }

    fn bytes(matrix: &Matrix) -> usize {
        matrix.numbers.num_bytes()
    }
}

impl Engine {
    /// The model in a GGUF file, for sequences of at most `context` tokens, on the first card there is; `None` where it
    /// is of a shape that the steps do not know.
    pub(in super::super) fn load<R: Read + Seek>(
        content: &Content,
        file: &mut R,
        context: usize,
    ) -> Result<Option<Self>, Fault> {
        let Some(shape) = Shape::of(&content.metadata, context)? else { return Ok(None) };
        if !attention(&shape, 0).fit(context) {
            return Ok(None);
        }
        let card = Card::open()?;
        let Some(weights) = Weights::load(&card, content, file, &shape)? else { return Ok(None) };
        let slower = weights.slower.as_deref();
        let turns = |turning| card.floats(&Rotation::new(&shape, turning, slower, context).numbers());
        let (turns, near) =
            (turns(shape.turning)?, shape.windows.map(|windows| turns(windows.turning)).transpose()?);
        Ok(Some(Self {
            reading: Reading::new(&card, shape.vocabulary, shape.page())?,
            work: Work::new(&card, &shape, ROWS, WANTED)?,
            desk: card.desk(WANTED * shape.vocabulary)?,
            recorded: HashMap::new(),
            card,
            shape,
            context,
            weights,
            turns,
            near,
        }))
    }

    /// A sequence of no tokens.
    pub(in super::super) fn sequence(&self) -> Sequence {
        Sequence::new(self.shape.page())
    }

    /// The memory of the card that a token of a sequence takes.
    pub(in super::super) fn bytes_per_token(&self) -> usize {
        self.shape.page() * size_of::<u16>() / super::PAGE
    }

    /// The memory of the card that the weights take.
    pub(in super::super) fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// As [`super::Engine::step`].
    pub(in super::super) fn step(&mut self, runs: &mut [Run<'_>]) -> Result<(&[f32], usize, usize), Fault> {
        for run in &mut *runs {
            run.sequence.make_room_of_its_own(run.ids.len(), |size, other| self.card.page(size, other))?;
        }
        let parts: Vec<Part<'_>> = runs.iter().map(Run::part).collect();
        let stays = self.reading.set(&self.card, &parts)?;
        // What was recorded asks no more.
        assert!(self.reading.end() <= self.context, "no more tokens than there are turns for");
        let writes = parts.iter().all(|part| part.ids.len() == 1 && part.wants_next);
        if !self.make_room()? || !stays {
            self.recorded.clear();
        }
        match self.reading.rows() {
            0 => (),
            rows @ ..=WANTED if writes => self.play(rows)?,
            _ => self.pass()?,
        }
        let count = self.reading.wanted() * self.shape.vocabulary;
        let expected = self.card.fetch(&self.work.logits, count, &mut self.desk)?;
        for run in &mut *runs {
            run.sequence.have_read(run.ids.len());
        }
        Ok((expected, self.shape.vocabulary, self.shape.vocabulary))
    }

    /// Room for all rows of what is read. Says whether there was enough.
    fn make_room(&mut self) -> Result<bool, Fault> {
        let (rows, wanted) = (self.reading.rows(), self.reading.wanted());
        if rows <= self.work.rows && wanted <= self.work.wanted {
            return Ok(true);
        }
        let (rows, wanted) = (rows.max(self.work.rows), wanted.max(self.work.wanted));
        self.work = Work::new(&self.card, &self.shape, rows, wanted)?;
        self.desk = self.card.desk(wanted * self.shape.vocabulary)?;
        Ok(false)
    }

    /// A pass over one token of each of `rows` sequences. The first time its steps are begun one by one, and written
    /// down after that.
    fn play(&mut self, rows: usize) -> Result<(), Fault> {
        if let Some(recorded) = self.recorded.get(&rows) {
            return Card::play(recorded);
        }
        self.pass()?;
        self.card.begin_recording()?;
        let begun = self.pass();
        let recorded = self.card.end_recording();
        begun?;
        self.recorded.extend(recorded?.map(|recorded| (rows, recorded)));
        Ok(())
    }

    /// Begins a pass over all that is read.
    fn pass(&mut self) -> Result<(), Fault> {
        let Self { card, shape, weights, reading, work, .. } = self;
        card.embed(reading, weights.embedding(), shape.embedded, &mut work.x)?;
        for layer in 0..shape.layers {
            self.attend(layer)?;
            self.feed_forward(layer)?;
        }
        let Self { card, shape, weights, reading, work, .. } = self;
        let norm = Some((&weights.norm, shape.epsilon));
        card.product(Then::Store, (&work.x, Rows::Wanted(reading)), norm, &weights.output, &mut work.logits)
    }

    fn attend(&mut self, layer: usize) -> Result<(), Fault> {
        let Self { card, shape, context, weights, turns, near, reading, work, .. } = self;
        let (heads, weights) = (attention(shape, layer), &weights.layers[layer]);
        let rows = Rows::All(reading.rows());
        let norm = Some((&weights.attention_norm, shape.epsilon));
        card.product(Then::Store, (&work.x, rows), norm, &weights.qkv, &mut work.qkv)?;
        let Layer { bias, query_norm, key_norm, .. } = weights;
        let turns = near.as_ref().filter(|_| heads.window > 0).unwrap_or(turns);
        let more = [bias, query_norm, key_norm].map(Option::as_ref);
        card.remember(reading, &mut work.qkv, heads, more, turns)?;
        card.attend(reading, &work.qkv, heads, *context, &mut work.attended)?;
        let Work { x, attended, change, .. } = work;
        let w = (&weights.out, weights.after_attention.as_ref());
        add(card, shape, (attended, reading.rows()), w, x, change.as_mut())
    }

    fn feed_forward(&mut self, layer: usize) -> Result<(), Fault> {
        let Self { card, shape, weights, reading, work, .. } = self;
        let weights = &weights.layers[layer];
        let norm = Some((&weights.feed_norm, shape.epsilon));
        let (rows, then) = (Rows::All(reading.rows()), Then::Gate(shape.curve));
        card.product(then, (&work.x, rows), norm, &weights.gate_up, &mut work.open)?;
        let Work { x, open, change, .. } = work;
        let w = (&weights.down, weights.after_feed.as_ref());
        add(card, shape, (open, reading.rows()), w, x, change.as_mut())
    }
}

/// Adds what `w` makes of `rows` to `x`, normalised where the model has it so.
fn add(
    card: &Card,
    shape: &Shape,
    rows: (&Floats, usize),
    (w, norm): (&Matrix, Option<&Floats>),
    x: &mut Floats,
    change: Option<&mut Floats>,
) -> Result<(), Fault> {
    let (found, rows) = rows;
    let Some((norm, change)) = norm.zip(change) else {
        return card.product(Then::Add, (found, Rows::All(rows)), None, w, x);
    };
    card.product(Then::Store, (found, Rows::All(rows)), None, w, change)?;
    card.add_normalised(x, change, norm, shape.epsilon, rows)
}

impl Work {
    fn new(card: &Card, shape: &Shape, rows: usize, wanted: usize) -> Result<Self, Fault> {
        let qkv = shape.queries() + 2 * shape.kv_heads * shape.size;
        Ok(Self {
            rows,
            wanted,
            x: card.zeros(rows * shape.width)?,
            qkv: card.zeros(rows * qkv)?,
            attended: card.zeros(rows * shape.queries())?,
            open: card.zeros(rows * shape.hidden)?,
            change: shape.norms_after.then(|| card.zeros(rows * shape.width)).transpose()?,
            logits: card.zeros(wanted * shape.vocabulary)?,
        })
    }
}

/// How the heads of a layer lie and turn.
fn attention(shape: &Shape, layer: usize) -> Attention {
    Attention {
        heads: shape.heads as u32,
        kv_heads: shape.kv_heads as u32,
        size: shape.size as u32,
        pairs: (shape.turned / 2) as u32,
        neighbours: u32::from(shape.pairing == Pairing::Neighbours),
        start: shape.place(layer, 0) as u32,
        window: shape.window(layer).unwrap_or(0) as u32,
        epsilon: shape.epsilon,
    }
}

#[cfg(test)]
mod tests {
    //! Held to llama.cpp on tiny models of each family, as the other engine. Where there is no card nothing is tested.

    use super::super::tests::{families, off_by};
    use super::super::tiny;
    use super::*;
    use crate::device::{self, DeviceChoice};

    const FAMILIES: [&str; 5] = ["gemma3", "llama", "phi3", "qwen2", "qwen3"];

    fn engine(family: &str) -> Option<Engine> {
        // What goes wrong on a card that works is no reason to test nothing.
        let (device, why) = device::pick(DeviceChoice::Cuda);
        if device.is_cpu() {
            println!("there is no card to test: {why}");
            return None;
        }
        let mut file = tiny::model(family);
        let content = Content::read(&mut file).unwrap();
        Some(Engine::load(&content, &mut file, 128).unwrap().unwrap())
    }

    fn read(engine: &mut Engine, sequence: &mut Sequence, ids: &[u32]) -> Vec<f32> {
        engine.step(&mut [Run { sequence, ids, wants_next: true }]).unwrap().0.to_vec()
    }

    fn ids(count: u32) -> Vec<u32> {
        (0..count).map(|at| (at * 7 + 3) % 48).collect()
    }

    #[test]
    fn each_family_expects_what_llama_cpp_expects() {
        let told = families();
        for (family, expected) in told.expected {
            let Some(mut engine) = engine(&family) else { return };
            for pieces in [&[40][..], &[1, 20, 19], &[33, 1, 1, 1, 1, 1, 1, 1]] {
                let (mut sequence, mut begin, mut ours) = (engine.sequence(), 0, Vec::new());
                for len in pieces {
                    ours = read(&mut engine, &mut sequence, &told.ids[begin..begin + len]);
                    begin += len;
                }
                let off = off_by(&ours, &expected);
                assert!(off < 0.005, "{family} in {pieces:?}: off by {off}");
            }
        }
    }

    #[test]
    fn what_is_read_beside_it_changes_nothing() {
        for family in FAMILIES {
            let Some(mut engine) = engine(family) else { return };
            let all = ids(60);
            let (mut a, mut b) = (engine.sequence(), engine.sequence());
            let alone =
                [read(&mut engine, &mut a, &all[..40]), read(&mut engine, &mut b, &all[40..])].concat();
            let (mut a, mut b, mut c) = (engine.sequence(), engine.sequence(), engine.sequence());
            let mut runs = [
                Run { sequence: &mut a, ids: &all[..40], wants_next: true },
                Run { sequence: &mut c, ids: &all[7..19], wants_next: false },
                Run { sequence: &mut b, ids: &all[40..], wants_next: true },
            ];
            assert_eq!(engine.step(&mut runs).unwrap().0, alone, "{family}");
            // And from there on token by token, with steps that are played again and again.
            let mut apart = Vec::new();
            for token in 0..5 {
                apart.push(
                    [read(&mut engine, &mut a, &[token]), read(&mut engine, &mut b, &[token])].concat(),
                );
            }
            a.truncate(40);
            b.truncate(20);
            for (token, apart) in (0..).zip(&apart) {
                let ids = [token];
                let mut runs = [&mut a, &mut b].map(|sequence| Run { sequence, ids: &ids, wants_next: true });
                assert_eq!(engine.step(&mut runs).unwrap().0, apart, "{family}");
            }
        }
    }

    #[test]
    fn a_shared_beginning_is_written_by_nobody_else() {
        let Some(mut engine) = engine("llama") else { return };
        let all = ids(50);
        let mut first = engine.sequence();
        let expected = read(&mut engine, &mut first, &all);
        let mut other = first.clone();
        other.truncate(37);
        let _ = read(&mut engine, &mut other, &[1, 2, 3, 4, 5]);
        let mut again = first.clone();
        again.truncate(37);
        assert_eq!(read(&mut engine, &mut again, &all[37..]), expected);
    }

    #[test]
    fn a_step_may_be_larger_than_any_before() {
        let Some(mut engine) = engine("qwen3") else { return };
        let mut sequences: Vec<Sequence> = (0..WANTED + 3).map(|_| engine.sequence()).collect();
        let ids = ids(20);
        let run = |sequence| Run { sequence, ids: &ids, wants_next: true };
        let mut runs: Vec<Run<'_>> = sequences.iter_mut().map(run).collect();
        let (expected, width, _) = engine.step(&mut runs).unwrap();
        let (first, others) = expected.split_at(width);
        assert!(others.chunks(width).all(|other| other == first) && others.len() == width * (WANTED + 2));
    }
}
