//! The weights as they lie in a safetensors file, taken out one by one. candle reads the file; what it would copy
//! into tensors first is turned into numbers here at once.

use super::folder::Bert;
use super::kernels::Norm;
use candle_core::safetensors::SliceSafetensors;
use candle_core::{DType, Device, Result, bail};

/// The tensors of a file, or those below a name.
pub(super) struct Weights<'a> {
    tensors: SliceSafetensors<'a>,
    /// What all names begin with.
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    pub(super) fn new(file: &'a [u8]) -> Result<Self> {
        let tensors = SliceSafetensors::new(file)?;
        // Models that were trained with a head on top have the network below a name of its own.
        let prefix = if tensors.get("bert.embeddings.word_embeddings.weight").is_ok() { "bert." } else { "" };
        Ok(Self { tensors, prefix })
    }

    /// What all names begin with, for whoever takes tensors out in another way.
    pub(super) fn prefix(&self) -> &'static str {
        self.prefix.trim_end_matches('.')
    }

    /// The numbers of a tensor of that shape.
    pub(super) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = format!("{}{name}", self.prefix);
        let view = self.tensors.get(&name)?;
        if view.shape() != shape {
            bail!("{name} has the shape {:?} and not {shape:?}", view.shape());
        }
        if DType::try_from(view.dtype())? == DType::F32 {
            return Ok(view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
        }
        self.tensors.load(&name, &Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }

    pub(super) fn norm(&self, bert: &Bert, name: &str) -> Result<Norm> {
        // Models of the first days call them by the letters of the paper.
        let old = self.tensors.get(&format!("{}{name}.gamma", self.prefix)).is_ok();
        let names = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let [scale, shift] = names.map(|part| self.numbers(&format!("{name}.{part}"), &[bert.hidden_size]));
        Ok(Norm { scale: scale?, shift: shift?, epsilon: bert.layer_norm_eps as f32 })
    }
}
