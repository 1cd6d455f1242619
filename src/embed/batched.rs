//! [`Batched`]: the network for a GPU. Whole batches of texts, in half precision, in few large steps.
//!
//! Queries, keys and values are one product; a batch holds texts of about one length, padded to one of few
//! widths, so that the card's memory pool and libraries meet the same shapes again and again. Sums that need it
//! (normalisation, soft-max, the mean of the pieces) are taken in f32 by the kernels themselves.

use super::folder::{Bert, Pooling};
use super::network::{Input, Pooled, padded_to};
use candle_core::{D, DType, Device, Module as _, Result, Tensor};
use candle_nn::{LayerNorm, Linear, VarBuilder};

/// The widths that batches are padded to; longer texts get multiples of the last.
const WIDTHS: [usize; 6] = [16, 32, 48, 64, 96, 128];

/// Added to the scores of padding: far below all others, and still a number in half precision, where the
/// product of zero and infinity would make everything NaN.
const MASKED: f32 = -1e4;

/// The network as tensors on a device. Clones share the weights.
#[derive(Clone)]
pub(super) struct Batched {
    words: Tensor,
    /// Of every place, with that of the first kind of text added.
    places: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: usize,
    pad: u32,
    device: Device,
    dtype: DType,
}

#[derive(Clone)]
struct Layer {
    /// Queries, keys and values.
    asking: Linear,
    attended: Linear,
    attended_norm: LayerNorm,
    widening: Linear,
    narrowing: Linear,
    norm: LayerNorm,
}

impl Batched {
    pub(super) fn load(bert: &Bert, from: &VarBuilder<'_>, device: &Device, dtype: DType) -> Result<Self> {
        let from = from.clone().set_dtype(dtype);
        let (hidden, wide) = (bert.hidden_size, bert.intermediate_size);
        let embeddings = from.pp("embeddings");
        let words = embeddings.get((bert.vocab_size, hidden), "word_embeddings.weight")?;
        let places = embeddings.get((bert.max_position_embeddings, hidden), "position_embeddings.weight")?;
        let kinds = embeddings.get((bert.type_vocab_size, hidden), "token_type_embeddings.weight")?;
        let places = places.broadcast_add(&kinds.get(0)?)?;
        let norm = |from: VarBuilder<'_>| candle_nn::layer_norm(hidden, bert.layer_norm_eps, from);
        let layer = |layer: usize| {
            let from = from.pp(format!("encoder.layer.{layer}"));
            let asking = ["query", "key", "value"]
                .map(|name| candle_nn::linear(hidden, hidden, from.pp("attention.self").pp(name)));
            Ok(Layer {
                asking: side_by_side(asking)?,
                attended: candle_nn::linear(hidden, hidden, from.pp("attention.output.dense"))?,
                attended_norm: norm(from.pp("attention.output.LayerNorm"))?,
                widening: candle_nn::linear(hidden, wide, from.pp("intermediate.dense"))?,
                narrowing: candle_nn::linear(wide, hidden, from.pp("output.dense"))?,
                norm: norm(from.pp("output.LayerNorm"))?,
            })
        };
        let layers = (0..bert.num_hidden_layers).map(layer).collect::<Result<Vec<_>>>()?;
        let norm = norm(embeddings.pp("LayerNorm"))?;
        let (heads, pad) = (bert.num_attention_heads, bert.pad_token_id);
        Ok(Self { words, places, norm, layers, heads, pad, device: device.clone(), dtype })
    }

    pub(super) fn precision(&self) -> &'static str {
        self.dtype.as_str()
    }

    /// Every width once, so that no request is the first to meet one.
    pub(super) fn warm_up(&self, most_pieces: usize) -> Result<()> {
        for width in WIDTHS.into_iter().filter(|width| *width <= most_pieces) {
            let ids = vec![self.pad; width];
            self.run(&[&ids], width)?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        }
        Ok(())
    }

    pub(super) fn forward(&self, texts: &[Input<'_>], pooling: Pooling) -> Result<Vec<Pooled>> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|at| texts[*at].ids.len());
        let mut pooled: Vec<Option<Pooled>> = texts.iter().map(|_| None).collect();
        for batch in order.chunk_by(|a, b| width_for(texts[*a].ids.len()) == width_for(texts[*b].ids.len())) {
            let inputs: Vec<Input<'_>> = batch.iter().map(|at| texts[*at]).collect();
            for (at, text) in batch.iter().zip(self.forward_alike(&inputs, pooling)?) {
                pooled[*at] = Some(text);
            }
        }
        Ok(pooled.into_iter().flatten().collect())
    }

    /// Texts that are padded to the same width.
    fn forward_alike(&self, texts: &[Input<'_>], pooling: Pooling) -> Result<Vec<Pooled>> {
        let ids: Vec<&[u32]> = texts.iter().map(|text| text.ids).collect();
        let width = width_for(ids.iter().map(|ids| ids.len()).max().unwrap_or_default());
        let width = width.min(self.places.dim(0)?);
        let hidden = self.run(&ids, width)?.to_dtype(DType::F32)?;
        let directions = match pooling {
            Pooling::First => hidden.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => {
                hidden.broadcast_mul(&self.mask(&ids, width, 1.0, 0.0)?.unsqueeze(2)?)?.sum(1)?
            }
        };
        let pooled = directions.to_vec2()?.into_iter().zip(texts).enumerate();
        let pooled = pooled.map(|(at, (direction, text))| {
            let rows = || hidden.get(at)?.narrow(0, 0, text.ids.len())?.flatten_all()?.to_vec1();
            let pieces = if text.with_pieces { Some(rows()?) } else { None };
            Ok(Pooled { direction, pieces })
        });
        pooled.collect()
    }

    /// The last layer: texts × places × numbers.
    fn run(&self, texts: &[&[u32]], width: usize) -> Result<Tensor> {
        let ids = Tensor::from_vec(padded_to(texts, self.pad, width), texts.len() * width, &self.device)?;
        let mask = self.mask(texts, width, 0.0, MASKED)?.to_dtype(self.dtype)?;
        let mask = mask.reshape((texts.len(), 1, 1, width))?;
        let shape = (texts.len(), width, self.places.dim(1)?);
        let words = self.words.index_select(&ids, 0)?.reshape(shape)?;
        let mut hidden = self.norm.forward(&words.broadcast_add(&self.places.narrow(0, 0, width)?)?)?;
        for layer in &self.layers {
            let attended = layer.attended.forward(&self.attend(layer, &hidden, &mask)?)?;
            hidden = layer.attended_norm.forward(&(hidden + attended)?)?;
            let wide = layer.widening.forward(&hidden)?.gelu_erf()?;
            hidden = layer.norm.forward(&(&hidden + layer.narrowing.forward(&wide)?)?)?;
        }
        Ok(hidden)
    }

    fn attend(&self, layer: &Layer, hidden: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (texts, width, numbers) = hidden.dims3()?;
        let size = numbers / self.heads;
        let asking = layer.asking.forward(hidden)?.reshape((texts, width, 3, self.heads, size))?;
        let part = |part: usize| asking.narrow(2, part, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        // Scaled before the product, so that nothing outgrows half precision.
        let queries = (queries * (1.0 / (size as f64).sqrt()))?;
        let scores = queries.matmul(&keys.transpose(D::Minus2, D::Minus1)?)?.broadcast_add(mask)?;
        let shares = candle_nn::ops::softmax_last_dim(&scores)?;
        shares.matmul(&values)?.transpose(1, 2)?.reshape((texts, width, numbers))
    }

    /// One number for each place that a text has, and another for those it has not.
    fn mask(&self, texts: &[&[u32]], width: usize, there: f32, missing: f32) -> Result<Tensor> {
        let row = |text: &&[u32]| {
            let len = text.len();
            (0..width).map(move |place| if place < len { there } else { missing })
        };
        Tensor::from_vec(texts.iter().flat_map(row).collect(), (texts.len(), width), &self.device)
    }
}

/// Three layers as one.
fn side_by_side(parts: [Result<Linear>; 3]) -> Result<Linear> {
    let [a, b, c] = parts;
    let parts = [a?, b?, c?];
    let weights = Tensor::cat(&parts.each_ref().map(Linear::weight), 0)?;
    let biases: Vec<&Tensor> = parts.iter().filter_map(Linear::bias).collect();
    Ok(Linear::new(weights, Some(Tensor::cat(&biases, 0)?)))
}

fn width_for(pieces: usize) -> usize {
    const LAST: usize = WIDTHS[WIDTHS.len() - 1];
    WIDTHS.into_iter().find(|width| pieces <= *width).unwrap_or_else(|| pieces.next_multiple_of(LAST))
}
