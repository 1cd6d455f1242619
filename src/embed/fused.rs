//! [`Fused`]: the network with everything in one pass over memory that is already there, on the CPU.
//!
//! What makes it fast, next to a general tensor library: weights are packed once in the order in which they are
//! read; queries, keys and values are one product; texts of any lengths lie one after the other without padding;
//! nothing is allocated on the way; and products are made of bytes, or of halves.
//!
//! **Bytes that say the same.** Each row of numbers is turned into bytes in spans, by the smallest and the largest
//! number of the span, so a few inputs that are always large would leave little for the others. Each input is
//! therefore multiplied by a factor of its own, and its weights are divided by it: the product is the same, and
//! range is moved to where there is room (SmoothQuant, arXiv 2211.10438). How large an input usually is, is
//! measured while the network is loaded: layer by layer, on a few texts, in halves.

use super::folder::Bert;
use super::kernels::{Bf16Matrix, Heads, Int8Matrix, Kernels, LANES, Norm, QuantisedRows, SPAN, TILE};
use super::precision::Packing;
use super::weights::Weights;
use candle_core::Result;
use std::sync::Arc;

/// The weights of a network, as the kernels want them.
pub(super) struct Packed {
    /// Of every word piece, as bfloat16.
    words: Vec<u16>,
    /// Of every place, with that of the first kind of text added.
    places: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    heads: Heads,
}

struct Layer {
    /// Queries, keys and values.
    asking: Matrix,
    attended: Matrix,
    attended_norm: Norm,
    widening: Matrix,
    narrowing: Matrix,
    norm: Norm,
}

enum Matrix {
    Int8(Int8Matrix),
    Bf16(Bf16Matrix),
}

/// The network with room to work in. Clones share the weights.
pub(super) struct Fused {
    weights: Arc<Packed>,
    kernels: Kernels,
    room: Room,
}

/// What a pass writes to. It grows to the longest pass and is kept.
#[derive(Default)]
struct Room {
    hidden: Vec<f32>,
    asking: Vec<f32>,
    context: Vec<f32>,
    projected: Vec<f32>,
    wide: Vec<f32>,
    attention: Vec<f32>,
    input: Input,
}

/// The left side of a product.
#[derive(Default)]
struct Input {
    quantised: QuantisedRows,
    halves: Vec<u16>,
}

impl Clone for Fused {
    fn clone(&self) -> Self {
        Self { weights: Arc::clone(&self.weights), kernels: self.kernels, room: Room::default() }
    }
}

impl Fused {
    /// Whether the kernels can do a network of this shape.
    pub(super) fn fits(bert: &Bert) -> bool {
        const { assert!(SPAN.is_multiple_of(TILE)) };
        bert.hidden_size.is_multiple_of(SPAN)
            && bert.intermediate_size.is_multiple_of(SPAN)
            && bert.head_size().is_multiple_of(LANES)
    }

    pub(super) fn new(weights: Arc<Packed>, kernels: Kernels) -> Self {
        Self { weights, kernels, room: Room::default() }
    }

    pub(super) fn width(&self) -> usize {
        self.weights.norm.scale.len()
    }

    pub(super) fn packing(&self) -> Packing {
        match self.weights.layers.first().map(|layer| &layer.asking) {
            Some(Matrix::Bf16(_)) => Packing::Bf16,
            Some(Matrix::Int8(_)) | None => Packing::Int8,
        }
    }

    pub(super) fn instructions(&self) -> &'static str {
        self.kernels.name()
    }

    /// The last layer's vectors of the pieces of all texts, one after the other.
    pub(super) fn forward(&mut self, texts: &[&[u32]]) -> &[f32] {
        let Self { weights, kernels, room } = self;
        weights.begin(*kernels, texts, room);
        for layer in &weights.layers {
            layer.attend(*kernels, weights.heads, texts, room);
            layer.think(*kernels, room);
        }
        &room.hidden
    }
}

impl Packed {
    /// Makes room for `texts`, and looks up their pieces and places.
    fn begin(&self, kernels: Kernels, texts: &[&[u32]], room: &mut Room) {
        let width = self.norm.scale.len();
        room.hidden.clear();
        room.projected.clear();
        for text in texts {
            for id in *text {
                let word = &self.words[*id as usize * width..][..width];
                room.hidden.extend(word.iter().map(|half| f32::from_bits(u32::from(*half) << 16)));
            }
            room.projected.extend_from_slice(&self.places[..text.len() * width]);
        }
        kernels.add_and_normalise(&mut room.hidden, &room.projected, &self.norm);
    }
}

impl Layer {
    /// Pieces look at each other.
    fn attend(&self, kernels: Kernels, heads: Heads, texts: &[&[u32]], room: &mut Room) {
        let Room { hidden, asking, context, projected, attention, input, .. } = room;
        let width = heads.count * heads.size;
        self.asking.multiply(kernels, hidden, input, asking);
        context.resize(hidden.len(), 0.0);
        let mut first = 0;
        for text in texts {
            let rows = first * width..(first + text.len()) * width;
            kernels.attend(&asking[3 * rows.start..3 * rows.end], heads, attention, &mut context[rows]);
            first += text.len();
        }
        self.attended.multiply(kernels, context, input, projected);
        kernels.add_and_normalise(hidden, projected, &self.attended_norm);
    }

    /// Each piece for itself.
    fn think(&self, kernels: Kernels, room: &mut Room) {
        let Room { hidden, projected, wide, input, .. } = room;
        self.widening.multiply(kernels, hidden, input, wide);
        kernels.gelu(wide);
        self.narrowing.multiply(kernels, wide, input, projected);
        kernels.add_and_normalise(hidden, projected, &self.norm);
    }
}

impl Matrix {
    /// How the left side of a product gets its form, and the product.
    fn multiply(&self, kernels: Kernels, x: &[f32], input: &mut Input, out: &mut Vec<f32>) {
        match self {
            Self::Int8(matrix) => {
                out.resize(x.len() / matrix.inputs * matrix.outputs, 0.0);
                kernels.quantise(x, &matrix.factors, &mut input.quantised);
                kernels.multiply_int8(&input.quantised, matrix, out);
            }
            Self::Bf16(matrix) => {
                out.resize(x.len() / matrix.inputs * matrix.outputs, 0.0);
                kernels.round_to_bf16(x, &mut input.halves);
                kernels.multiply_bf16(&input.halves, matrix, out);
            }
        }
    }
}

/// A product as it is in the file.
struct Dense {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Dense {
    fn read(from: &Weights, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let weights = from.numbers(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Self { weights, bias: from.numbers(&format!("{name}.bias"), &[outputs])? })
    }

    fn side_by_side(parts: [Self; 3]) -> Self {
        let weights = parts.each_ref().map(|part| part.weights.as_slice()).concat();
        Self { weights, bias: parts.map(|part| part.bias).concat() }
    }

    fn halves(&self) -> Matrix {
        Matrix::Bf16(Bf16Matrix::pack(&self.weights, self.bias.clone()))
    }

    /// `usual` says how large each input usually is.
    fn bytes(self, usual: &[f32]) -> Matrix {
        let factors = factors(&self.weights, usual);
        Matrix::Int8(Int8Matrix::pack(&self.weights, self.bias, factors))
    }
}

/// A layer as it is in the file.
struct Plain {
    asking: Dense,
    attended: Dense,
    attended_norm: Norm,
    widening: Dense,
    narrowing: Dense,
    norm: Norm,
}

/// How large the inputs of a layer's products usually are.
struct Usual {
    asking: Vec<f32>,
    attended: Vec<f32>,
    widening: Vec<f32>,
    narrowing: Vec<f32>,
}

impl Plain {
    fn read(bert: &Bert, from: &Weights, layer: usize) -> Result<Self> {
        let (hidden, wide) = (bert.hidden_size, bert.intermediate_size);
        let named = |name: &str| format!("encoder.layer.{layer}.{name}");
        let asking =
            |name: &str| Dense::read(from, &named(&format!("attention.self.{name}")), hidden, hidden);
        Ok(Self {
            asking: Dense::side_by_side([asking("query")?, asking("key")?, asking("value")?]),
            attended: Dense::read(from, &named("attention.output.dense"), hidden, hidden)?,
            attended_norm: from.norm(bert, &named("attention.output.LayerNorm"))?,
            widening: Dense::read(from, &named("intermediate.dense"), hidden, wide)?,
            narrowing: Dense::read(from, &named("output.dense"), wide, hidden)?,
            norm: from.norm(bert, &named("output.LayerNorm"))?,
        })
    }

    fn halves(&self) -> Layer {
        Layer {
            asking: self.asking.halves(),
            attended: self.attended.halves(),
            attended_norm: self.attended_norm.clone(),
            widening: self.widening.halves(),
            narrowing: self.narrowing.halves(),
            norm: self.norm.clone(),
        }
    }

    fn bytes(self, usual: &Usual) -> Layer {
        let Self { asking, attended, attended_norm, widening, narrowing, norm } = self;
        Layer {
            asking: asking.bytes(&usual.asking),
            attended: attended.bytes(&usual.attended),
            attended_norm,
            widening: widening.bytes(&usual.widening),
            narrowing: narrowing.bytes(&usual.narrowing),
            norm,
        }
    }
}

/// The factor for each input: the larger the input usually is and the smaller its weights are, the smaller the
/// factor. Halfway between making all inputs alike and making all weights alike.
fn factors(weights: &[f32], usual: &[f32]) -> Vec<f32> {
    let mut largest = vec![f32::MIN_POSITIVE; usual.len()];
    for row in weights.chunks_exact(usual.len()) {
        for (largest, weight) in largest.iter_mut().zip(row) {
            *largest = largest.max(weight.abs());
        }
    }
    let factor = |(usual, weight): (&f32, &f32)| (weight.max(1e-5) / usual.max(1e-5)).sqrt();
    usual.iter().zip(&largest).map(factor).collect()
}

/// The root of the mean square of each column.
fn usual(rows: &[f32], width: usize) -> Vec<f32> {
    let mut squares = vec![0.0f32; width];
    for row in rows.chunks_exact(width) {
        for (square, value) in squares.iter_mut().zip(row) {
            *square += value * value;
        }
    }
    let count = (rows.len() / width).max(1) as f32;
    squares.into_iter().map(|square| (square / count).sqrt()).collect()
}

impl Packed {
    /// Reads and packs the weights of a BERT. Where they become bytes, `samples` show how large numbers get.
    pub(super) fn load(
        bert: &Bert,
        packing: Packing,
        from: &Weights,
        kernels: Kernels,
        samples: &[&[u32]],
    ) -> Result<Self> {
        let mut weights = Self::without_layers(bert, from)?;
        let mut room = Room::default();
        weights.begin(kernels, samples, &mut room);
        // Packing takes about as long as the trial run of the next layer, so both are done at once.
        std::thread::scope(|scope| {
            let mut packing_up = Vec::new();
            for layer in 0..bert.num_hidden_layers {
                let plain = Plain::read(bert, from, layer)?;
                let halves = plain.halves();
                if packing == Packing::Bf16 {
                    weights.layers.push(halves);
                    continue;
                }
                let usual = halves.try_out(kernels, weights.heads, samples, &mut room);
                packing_up.push(scope.spawn(move || plain.bytes(&usual)));
            }
            for packed in packing_up {
                let died = |_| candle_core::Error::Msg("a thread died while it packed weights".to_owned());
                weights.layers.push(packed.join().map_err(died)?);
            }
            Ok(weights)
        })
    }

    fn without_layers(bert: &Bert, from: &Weights) -> Result<Self> {
        let hidden = bert.hidden_size;
        let named =
            |name: &str, count: usize| from.numbers(&format!("embeddings.{name}.weight"), &[count, hidden]);
        let words = from.halves("embeddings.word_embeddings.weight", &[bert.vocab_size, hidden])?;
        let kind = named("token_type_embeddings", bert.type_vocab_size)?;
        let mut places = named("position_embeddings", bert.max_position_embeddings)?;
        for place in places.chunks_exact_mut(hidden) {
            for (place, kind) in place.iter_mut().zip(&kind) {
                *place += kind;
            }
        }
        let norm = from.norm(bert, "embeddings.LayerNorm")?;
        let heads = Heads { count: bert.num_attention_heads, size: bert.head_size() };
        Ok(Self { words, places, norm, layers: Vec::with_capacity(bert.num_hidden_layers), heads })
    }
}

impl Layer {
    /// Runs, and looks at what its products get to see.
    fn try_out(&self, kernels: Kernels, heads: Heads, samples: &[&[u32]], room: &mut Room) -> Usual {
        let width = heads.count * heads.size;
        let asking = usual(&room.hidden, width);
        self.attend(kernels, heads, samples, room);
        let (attended, widening) = (usual(&room.context, width), usual(&room.hidden, width));
        self.think(kernels, room);
        let rows = room.hidden.len() / width;
        Usual { asking, attended, widening, narrowing: usual(&room.wide, room.wide.len() / rows.max(1)) }
    }
}
