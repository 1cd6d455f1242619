//! [`Network`]: a BERT in one of three builds, and how a text's vector is made of what it gives.

use super::batched::Batched;
use super::folder::{Description, Pooling};
use super::fused::{Fused, Packed};
use super::kernels::Kernels;
use super::precision::{Packing, Precision};
use super::reference::Reference;
use super::weights::Weights;
use candle_core::{DType, Device, Result};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::DTYPE;
use std::path::Path;
use std::sync::Arc;

/// One network, ready to run on one thread. Clones share the weights.
#[derive(Clone)]
pub(super) enum Network {
    /// For CPUs: everything fused.
    Fused(Fused),
    /// For GPUs: whole batches of tensors.
    Batched(Batched),
    /// As candle has it.
    Reference(Reference),
}

/// The last layer's vectors of a text's pieces, one after the other.
pub(super) type Hidden = Vec<f32>;

/// What a network says about a text.
pub(super) struct Pooled {
    /// Points where the text points.
    pub(super) direction: Vec<f32>,
    /// Where its pieces point, if that was wanted.
    pub(super) pieces: Option<Hidden>,
}

/// A text for a network: its pieces, and whether their vectors are wanted too.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) ids: &'a [u32],
    pub(super) with_pieces: bool,
}

impl Network {
    /// Loads the build that `precision` asks for on `device`. Where a network does not fit the fast one, it is
    /// the reference, which always does. `samples` are pieces of some texts, to see how large numbers get.
    pub(super) fn load(
        description: &Description,
        path: &Path,
        device: &Device,
        precision: Precision,
        samples: &[&[u32]],
    ) -> Result<Self> {
        let bert = &description.bert;
        let weights = Weights::open(path)?;
        let from = || {
            // Mapping the file would be unsafe: another process could change it under us.
            let all = VarBuilder::from_buffered_safetensors(std::fs::read(path)?, DTYPE, device)?;
            Ok::<_, candle_core::Error>(match weights.prefix() {
                "" => all,
                prefix => all.pp(prefix),
            })
        };
        let packing = match precision {
            Precision::Bf16 => Some(Packing::Bf16),
            Precision::Auto | Precision::Int8 => Some(Packing::Int8),
            Precision::F32 => None,
        };
        match packing {
            Some(packing) if !device.is_cpu() => {
                let halves = if packing == Packing::Bf16 { DType::BF16 } else { DType::F16 };
                Batched::load(bert, &from()?, device, halves).map(Self::Batched)
            }
            Some(packing) if Fused::fits(bert) => {
                let kernels = Kernels::best();
                let packed = Packed::load(bert, packing, &weights, kernels, samples)?;
                Ok(Self::Fused(Fused::new(Arc::new(packed), kernels)))
            }
            _ => Reference::load(bert, from()?, device).map(Self::Reference),
        }
    }

    /// The numbers it computes with.
    pub(super) fn precision(&self) -> &'static str {
        match self {
            Self::Fused(fused) => fused.packing().name(),
            Self::Batched(batched) => batched.precision(),
            Self::Reference(_) => "f32",
        }
    }

    /// The instructions it is made of, where that is ours to choose.
    pub(super) fn instructions(&self) -> Option<&'static str> {
        match self {
            Self::Fused(fused) => Some(fused.instructions()),
            Self::Batched(_) | Self::Reference(_) => None,
        }
    }

    pub(super) fn forward(&mut self, texts: &[Input<'_>], pooling: Pooling) -> Result<Vec<Pooled>> {
        match self {
            Self::Fused(fused) => {
                let mut pooled = Vec::with_capacity(texts.len());
                let mut left = texts;
                while !left.is_empty() {
                    let (some, rest) = left.split_at(how_many(left));
                    pooled.extend(fused_together(fused, some, pooling));
                    left = rest;
                }
                Ok(pooled)
            }
            Self::Batched(batched) => batched.forward(texts, pooling),
            Self::Reference(reference) => {
                let ids: Vec<&[u32]> = texts.iter().map(|text| text.ids).collect();
                let hidden = reference.forward(&ids)?;
                let pooled = hidden.into_iter().zip(texts).map(|(rows, text)| {
                    let direction = pool(&rows, rows.len() / text.ids.len().max(1), pooling);
                    Pooled { direction, pieces: text.with_pieces.then_some(rows) }
                });
                Ok(pooled.collect())
            }
        }
    }
}

/// Pieces that go through the fused network together. All of a layer's numbers for them lie in the nearer caches;
/// with four times as many a batch takes a tenth longer.
const TOGETHER: usize = 128;

/// How many of `texts`, one at least, go together.
fn how_many(texts: &[Input<'_>]) -> usize {
    let mut pieces = 0;
    let fits = texts.iter().take_while(|text| {
        pieces += text.ids.len();
        pieces <= TOGETHER
    });
    fits.count().max(1)
}

fn fused_together(fused: &mut Fused, texts: &[Input<'_>], pooling: Pooling) -> Vec<Pooled> {
    let ids: Vec<&[u32]> = texts.iter().map(|text| text.ids).collect();
    let width = fused.width();
    let mut hidden = fused.forward(&ids);
    let pooled = texts.iter().map(|text| {
        let (rows, rest) = hidden.split_at(text.ids.len() * width);
        hidden = rest;
        Pooled { direction: pool(rows, width, pooling), pieces: text.with_pieces.then(|| rows.to_vec()) }
    });
    pooled.collect()
}

/// The direction of a text. A sum points where the mean does, and only that matters.
fn pool(rows: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::First => rows[..width].to_vec(),
        Pooling::Mean => {
            let mut sum = vec![0.0f32; width];
            for row in rows.chunks_exact(width) {
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += value;
                }
            }
            sum
        }
    }
}

/// The pieces of all texts as a rectangle, and how wide it is.
pub(super) fn padded(texts: &[&[u32]], pad: u32) -> (Vec<u32>, usize) {
    let width = texts.iter().map(|text| text.len()).max().unwrap_or_default();
    (padded_to(texts, pad, width), width)
}

/// The pieces of all texts as a rectangle of that width.
pub(super) fn padded_to(texts: &[&[u32]], pad: u32, width: usize) -> Vec<u32> {
    let mut rectangle = Vec::with_capacity(texts.len() * width);
    for text in texts {
        rectangle.extend_from_slice(text);
        rectangle.extend(std::iter::repeat_n(pad, width - text.len()));
    }
    rectangle
}
