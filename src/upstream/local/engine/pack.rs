//! From the formats of GGUF to those of the kernels.
//!
//! Formats of four bits with a scale and an offset for 32 numbers stay what they are (Q4_K's scales are products
//! of two, written down as one). All others become eight bits: Q8_0 exactly, the rest to the nearest.

use super::super::fault::Fault;
use super::super::kernels::{BLOCK, Format, Matrix, TILE, from_half, to_half};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, QTensor};

/// `tensors`, side by side: in one matrix where all have one format, else in one each.
pub(super) fn pack(tensors: &[QTensor]) -> Result<Vec<Matrix>, Fault> {
    let (Some(first), rest) = (tensors.first(), tensors.get(1..).unwrap_or_default()) else {
        return Ok(Vec::new());
    };
    if rest.iter().any(|tensor| format(tensor) != format(first)) {
        return tensors.iter().map(|tensor| together(std::slice::from_ref(tensor))).collect();
    }
    Ok(vec![together(tensors)?])
}

fn format(tensor: &QTensor) -> Format {
    match tensor.dtype() {
        GgmlDType::Q4_0 | GgmlDType::Q4_1 | GgmlDType::Q4K => Format::Nibbles,
        _ => Format::Bytes,
    }
}

fn together(tensors: &[QTensor]) -> Result<Matrix, Fault> {
    let sizes: Vec<(usize, usize)> =
        tensors.iter().map(|tensor| tensor.shape().dims2()).collect::<Result<_, _>>()?;
    let inputs = sizes.first().map_or(0, |(_, inputs)| *inputs);
    if sizes.iter().any(|(_, other)| *other != inputs) {
        return Err(Fault::Metadata("width of a matrix"));
    }
    let outputs: usize = sizes.iter().map(|(outputs, _)| outputs).sum();
    let mut matrix = Matrix::new(format(&tensors[0]), inputs, outputs.next_multiple_of(TILE));
    let mut first = 0;
    for (tensor, (outputs, _)) in tensors.iter().zip(&sizes) {
        fill(&mut matrix, first, tensor)?;
        first += outputs;
    }
    Ok(matrix)
}

fn fill(matrix: &mut Matrix, first: usize, tensor: &QTensor) -> Result<(), Fault> {
    let blocks = matrix.inputs / BLOCK;
    let place = |block: usize| (first + block / blocks, block % blocks);
    let data = tensor.data()?;
    match tensor.dtype() {
        GgmlDType::Q4_0 => {
            for (block, bytes) in data.as_chunks::<18>().0.iter().enumerate() {
                let scale = half(bytes, 0);
                let lowest = to_half(-8.0 * from_half(scale));
                matrix.set_nibbles(place(block), &nibbles(&bytes[2..]), scale, lowest);
            }
        }
        GgmlDType::Q4_1 => {
            for (block, bytes) in data.as_chunks::<20>().0.iter().enumerate() {
                matrix.set_nibbles(place(block), &nibbles(&bytes[4..]), half(bytes, 0), half(bytes, 2));
            }
        }
        GgmlDType::Q4K => {
            for (block, bytes) in data.as_chunks::<144>().0.iter().enumerate() {
                fill_q4k(matrix, |at| place(8 * block + at), bytes);
            }
        }
        GgmlDType::Q8_0 => {
            for (block, bytes) in data.as_chunks::<34>().0.iter().enumerate() {
                let numbers = std::array::from_fn(|at| bytes[2 + at].cast_signed());
                matrix.set_bytes(place(block), &numbers, half(bytes, 0));
            }
        }
        _ => {
            let values: Vec<f32> = tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?;
            for (block, values) in values.as_chunks::<BLOCK>().0.iter().enumerate() {
                matrix.set_rounded(place(block), values);
            }
        }
    }
    Ok(())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The lower halves of sixteen bytes, then the upper ones.
fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|at| if at < BLOCK / 2 { bytes[at] & 15 } else { bytes[at - BLOCK / 2] >> 4 })
}

/// Eight blocks, whose scales and offsets are numbers of six bits times one that they share.
fn fill_q4k(matrix: &mut Matrix, place: impl Fn(usize) -> (usize, usize), bytes: &[u8; 144]) {
    let (scale, offset) = (from_half(half(bytes, 0)), from_half(half(bytes, 2)));
    let (packed, numbers) = (&bytes[4..16], &bytes[16..]);
    for block in 0..8 {
        let (of_scale, of_offset) = if block < 4 {
            (packed[block] & 63, packed[block + 4] & 63)
        } else {
            let low = packed[block + 4];
            (low & 15 | packed[block - 4] >> 6 << 4, low >> 4 | packed[block] >> 6 << 4)
        };
        let pair = &numbers[block / 2 * BLOCK..][..BLOCK];
        let of_block = std::array::from_fn(|at| if block % 2 == 0 { pair[at] & 15 } else { pair[at] >> 4 });
        let (scale, lowest) = (scale * f32::from(of_scale), -offset * f32::from(of_offset));
        matrix.set_nibbles(place(block), &of_block, to_half(scale), to_half(lowest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    fn values(seed: usize) -> Vec<f32> {
        (0..16 * 256).map(|at| ((at * 7919 + seed * 31) % 1999) as f32 / 1000.0 - 1.0).collect()
    }

    fn tensor(format: GgmlDType, seed: usize) -> QTensor {
        let tensor = Tensor::from_vec(values(seed), (16, 256), &Device::Cpu).unwrap();
        QTensor::quantize(&tensor, format).unwrap()
    }

    #[test]
    fn every_format_keeps_its_numbers() {
        let formats = [
            (GgmlDType::Q4_0, 1e-3),
            (GgmlDType::Q4_1, 1e-3),
            (GgmlDType::Q4K, 2e-3),
            (GgmlDType::Q8_0, 1e-6),
            (GgmlDType::Q6K, 6e-3),
            (GgmlDType::Q5_0, 6e-3),
            (GgmlDType::F16, 6e-3),
            (GgmlDType::F32, 6e-3),
        ];
        for (format, tolerance) in formats {
            let tensor = tensor(format, 0);
            let expected: Vec<f32> =
                tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let packed = &pack(&[tensor]).unwrap()[0];
            let mut row = vec![0.0; 256];
            for (output, expected) in expected.chunks(256).enumerate() {
                packed.row(output, &mut row);
                for (ours, theirs) in row.iter().zip(expected) {
                    assert!((ours - theirs).abs() <= tolerance, "{format:?}: {ours} and {theirs}");
                }
            }
        }
    }

    #[test]
    fn tensors_of_one_format_become_one_matrix() {
        let same = pack(&[tensor(GgmlDType::Q4_1, 1), tensor(GgmlDType::Q4_0, 2)]).unwrap();
        assert_eq!(same.iter().map(|matrix| matrix.outputs).collect::<Vec<_>>(), [32]);
        let mixed = pack(&[tensor(GgmlDType::Q4_1, 1), tensor(GgmlDType::Q6K, 2)]).unwrap();
        assert_eq!(mixed.iter().map(|matrix| matrix.outputs).collect::<Vec<_>>(), [16, 16]);
    }
}
