//! A GGUF file, read as if its weights had been stored in a format that multiplies fast.
//!
//! Candle has no SIMD kernel for the formats with an offset (Q4_1 is four times slower than Q8_0), so their
//! tensors are converted while they are read: one at a time, so that loading needs little more memory than
//! the model that comes out.

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result};
use std::collections::{BTreeMap, HashMap};
use std::io::{Error, Read, Seek, SeekFrom};

/// The tensors of a GGUF file, converted and laid end to end.
pub(super) struct Requantised<R> {
    file: R,
    /// How the tensors lie in `file`.
    stored: HashMap<String, TensorInfo>,
    stored_offset: u64,
    /// Where each tensor begins for the one who reads.
    starts: BTreeMap<u64, String>,
    len: u64,
    position: u64,
    /// The tensor that is being read, and where it begins.
    current: Option<(u64, Vec<u8>)>,
}

impl<R: Read + Seek> Requantised<R> {
    /// `content`, as it reads once the tensors of `file` are converted, and whom to read them from.
    pub(super) fn new(file: R, content: Content) -> (Content, Self) {
        let (mut infos, mut starts, mut len) = (HashMap::new(), BTreeMap::new(), 0);
        for (name, info) in &content.tensor_infos {
            let ggml_dtype = fast_format(info.ggml_dtype);
            infos.insert(name.clone(), TensorInfo { ggml_dtype, shape: info.shape.clone(), offset: len });
            starts.insert(len, name.clone());
            len += (info.shape.elem_count() / ggml_dtype.block_size() * ggml_dtype.type_size()) as u64;
        }
        let Content { magic, metadata, tensor_infos: stored, tensor_data_offset: stored_offset } = content;
        let reader = Self { file, stored, stored_offset, starts, len, position: 0, current: None };
        (Content { magic, metadata, tensor_infos: infos, tensor_data_offset: 0 }, reader)
    }

    /// The bytes from here to the end of the tensor that we are in.
    fn rest_of_tensor(&mut self) -> Result<&[u8]> {
        let Some((&start, name)) = self.starts.range(..=self.position).next_back() else { return Ok(&[]) };
        let bytes = match self.current.take() {
            Some((at, bytes)) if at == start => bytes,
            _ => convert(&self.stored[name].read(&mut self.file, self.stored_offset, &Device::Cpu)?)?,
        };
        let (_, bytes) = self.current.insert((start, bytes));
        Ok(bytes.get((self.position - start) as usize..).unwrap_or_default())
    }
}

impl<R: Read + Seek> Read for Requantised<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = self.rest_of_tensor().map_err(Error::other)?;
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl<R> Seek for Requantised<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn fast_format(stored: GgmlDType) -> GgmlDType {
    match stored {
        GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1 => GgmlDType::Q8_0,
        other => other,
    }
}

fn convert(stored: &QTensor) -> Result<Vec<u8>> {
    let fast = fast_format(stored.dtype());
    if fast == stored.dtype() {
        return Ok(stored.data()?.into_owned());
    }
    let converted = QTensor::quantize(&stored.dequantize(&Device::Cpu)?, fast)?;
    Ok(converted.data()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use candle_core::quantized::gguf_file;
    use std::io::Cursor;

    fn weights(format: GgmlDType) -> QTensor {
        let values: Vec<f32> = (0..=u8::MAX).map(|i| f32::from(i) / 97.0 - 1.0).collect();
        QTensor::quantize(&Tensor::from_vec(values, (4, 64), &Device::Cpu).unwrap(), format).unwrap()
    }

    fn values(tensor: &QTensor) -> Vec<f32> {
        tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn slow_formats_are_converted_and_others_left_alone() {
        let (slow, fast) = (weights(GgmlDType::Q4_1), weights(GgmlDType::F32));
        let mut file = Cursor::new(Vec::new());
        gguf_file::write(&mut file, &[], &[("slow", &slow), ("fast", &fast)]).unwrap();
        file.set_position(0);
        let content = Content::read(&mut file).unwrap();

        let (content, mut reader) = Requantised::new(file, content);
        let mut read = |name| content.tensor(&mut reader, name, &Device::Cpu).unwrap();
        for _ in 0..2 {
            let (slow_again, fast_again) = (read("slow"), read("fast"));
            assert_eq!((slow_again.dtype(), fast_again.dtype()), (GgmlDType::Q8_0, GgmlDType::F32));
            assert_eq!(values(&fast_again), values(&fast));
            // Eight bits hold what four held, to within half a step of 1/127 of the largest weight.
            let off =
                values(&slow_again).iter().zip(values(&slow)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 2.0 / 127.0 / 2.0 + 1e-3, "{off}");
        }
    }
}
