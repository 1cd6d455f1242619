//! The weights as they lie in a safetensors file, read one tensor at a time: the file as a whole is larger than
//! all that is made of it, and filling memory with it would take longer than the rest of the start.

use super::folder::Bert;
use super::kernels::{Norm, to_bf16};
use candle_core::{DType, Device, Result, Tensor, bail};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// No header of a model of this family is anywhere near so long.
const MOST_HEADER_BYTES: u64 = 16 << 20;

/// Numbers that are read together where they do not stay as they are.
const CHUNK: usize = 1 << 18;

/// The tensors of a file, or those below a name.
pub(super) struct Weights {
    file: File,
    metadata: Metadata,
    /// Where the numbers begin.
    begin: u64,
    /// Where they end.
    end: u64,
    /// What all names begin with.
    prefix: &'static str,
}

impl Weights {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MOST_HEADER_BYTES.min(end) {
            bail!("it has no header of safetensors");
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(candle_core::Error::wrap)?;
        // Models that were trained with a head on top have the network below a name of its own.
        let has_head = metadata.info("bert.embeddings.word_embeddings.weight").is_some();
        Ok(Self { file, metadata, begin: 8 + length, end, prefix: if has_head { "bert." } else { "" } })
    }

    /// What all names begin with, for whoever reads them in another way.
    pub(super) fn prefix(&self) -> &'static str {
        self.prefix.trim_end_matches('.')
    }

    /// The numbers of a tensor of that shape.
    pub(super) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let info = self.info(name, shape)?;
        let bytes = self.read(info, 0, info.data_offsets.1 - info.data_offsets.0)?;
        if info.dtype == Dtype::F32 {
            return Ok(floats(&bytes).collect());
        }
        let dtype = DType::try_from(info.dtype)?;
        Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1()
    }

    /// The same, each rounded to bfloat16.
    pub(super) fn halves(&self, name: &str, shape: &[usize]) -> Result<Vec<u16>> {
        let info = self.info(name, shape)?;
        if info.dtype != Dtype::F32 {
            return Ok(self.numbers(name, shape)?.into_iter().map(to_bf16).collect());
        }
        let bytes = info.data_offsets.1 - info.data_offsets.0;
        let mut halves = Vec::with_capacity(bytes / size_of::<f32>());
        for from in (0..bytes).step_by(CHUNK * size_of::<f32>()) {
            let chunk = self.read(info, from, (bytes - from).min(CHUNK * size_of::<f32>()))?;
            halves.extend(floats(&chunk).map(to_bf16));
        }
        Ok(halves)
    }

    pub(super) fn norm(&self, bert: &Bert, name: &str) -> Result<Norm> {
        // Models of the first days call them by the letters of the paper.
        let old = self.metadata.info(&format!("{}{name}.gamma", self.prefix)).is_some();
        let names = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let [scale, shift] = names.map(|part| self.numbers(&format!("{name}.{part}"), &[bert.hidden_size]));
        Ok(Norm { scale: scale?, shift: shift?, epsilon: bert.layer_norm_eps as f32 })
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let name = format!("{}{name}", self.prefix);
        let Some(info) = self.metadata.info(&name) else { bail!("it has no tensor `{name}`") };
        if info.shape != shape {
            bail!("`{name}` has the shape {:?} and not {shape:?}", info.shape);
        }
        let (begin, end) = info.data_offsets;
        let bytes = shape.iter().product::<usize>() * DType::try_from(info.dtype)?.size_in_bytes();
        if begin.checked_add(bytes) != Some(end) {
            bail!("`{name}` has not as many bytes as its shape tells of");
        }
        Ok(info)
    }

    /// Some bytes of a tensor.
    fn read(&self, info: &TensorInfo, from: usize, length: usize) -> Result<Vec<u8>> {
        let begin = self.begin + (info.data_offsets.0 + from) as u64;
        // Before the memory is asked for: the header may promise anything.
        if begin + length as u64 > self.end {
            bail!("it ends before its last tensor does");
        }
        let mut bytes = vec![0; length];
        (&self.file).seek(SeekFrom::Start(begin))?;
        (&self.file).read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}
