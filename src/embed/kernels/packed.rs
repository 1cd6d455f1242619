//! Matrices in the order in which the kernels read them, and the rows they are multiplied with.

use super::TILE;

/// How many inputs lie side by side for each output in an [`Int8Matrix`].
pub(super) const INT8_GROUP: usize = 4;
/// How many inputs lie side by side for each output in a [`Bf16Matrix`].
pub(super) const BF16_GROUP: usize = 2;
/// Inputs that share a scale. Fewer would be more exact and slower: with 128 the cosine to f32 is 0.9981 at least
/// for texts of every kind, with 64 it is 0.9988 at a quarter more time.
pub(in crate::embed) const SPAN: usize = 128;

/// A matrix of whole numbers from -127 to 127. Each span of inputs has a scale of its own for each output.
///
/// In tiles of [`TILE`] outputs; in a tile the inputs in groups of [`INT8_GROUP`]; in a group output by output.
#[derive(Debug)]
pub(in crate::embed) struct Int8Matrix {
    pub(in crate::embed) inputs: usize,
    pub(in crate::embed) outputs: usize,
    pub(super) weights: Vec<Line>,
    /// In tiles; in a tile span by span; in a span output by output.
    pub(super) scales: Vec<f32>,
    /// The sum of a span's weights, in the same order: what a row's lowest number is multiplied with.
    pub(super) sums: Vec<f32>,
    pub(super) bias: Vec<f32>,
    /// What each input is multiplied by before it is quantised; its weights were divided by it. It moves range
    /// from inputs that vary much to weights that vary little.
    pub(in crate::embed) factors: Vec<f32>,
}

/// A matrix of bfloat16. In tiles of [`TILE`] outputs; in a tile the inputs in groups of [`BF16_GROUP`]; in a
/// group output by output.
#[derive(Debug)]
pub(in crate::embed) struct Bf16Matrix {
    pub(in crate::embed) inputs: usize,
    pub(in crate::embed) outputs: usize,
    pub(super) weights: Vec<Line>,
    pub(super) bias: Vec<f32>,
}

/// A cache line: what is kept in lines can be read in whole registers without crossing one.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

/// Rows of whole numbers from 0 to 255. Each span of a row has a scale of its own, and a lowest number that is
/// added: so a span that is never negative wastes nothing on signs.
#[derive(Debug, Default)]
pub(in crate::embed) struct QuantisedRows {
    pub(super) width: usize,
    pub(super) numbers: Vec<u8>,
    /// Row by row, span by span.
    pub(super) scales: Vec<f32>,
    pub(super) lowest: Vec<f32>,
}

impl QuantisedRows {
    pub(super) fn resize(&mut self, rows: usize, width: usize) {
        self.width = width;
        self.numbers.resize(rows * width, 0);
        self.scales.resize(rows * width / SPAN, 0.0);
        self.lowest.resize(rows * width / SPAN, 0.0);
    }

    pub(super) fn rows(&self) -> usize {
        self.numbers.len() / self.width.max(1)
    }
}

impl Int8Matrix {
    /// Packs `weights` (output by output), after dividing those of each input by its factor.
    pub(in crate::embed) fn pack(weights: &[f32], bias: Vec<f32>, factors: Vec<f32>) -> Self {
        // A group of all outputs in a tile fills this many lines.
        const LINES: usize = TILE * INT8_GROUP / size_of::<Line>();
        const IN_LINE: usize = size_of::<Line>() / INT8_GROUP;
        let (inputs, outputs) = (factors.len(), bias.len());
        assert!(inputs.is_multiple_of(SPAN) && outputs.is_multiple_of(TILE), "{outputs} × {inputs}");
        assert_eq!(weights.len(), inputs * outputs, "a weight for each input of each output");
        let spans = inputs / SPAN;
        let inverse: Vec<f32> = factors.iter().map(|factor| factor.recip()).collect();
        let mut packed = vec![Line([0; 64]); inputs * outputs / size_of::<Line>()];
        let mut scales = vec![0.0; spans * outputs];
        let mut sums = vec![0.0; spans * outputs];
        let mut smoothed = [0.0f32; SPAN];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (tile, column) = (output / TILE, output % TILE);
            let place = column % IN_LINE * INT8_GROUP;
            for (span, (row, inverse)) in row.chunks_exact(SPAN).zip(inverse.chunks_exact(SPAN)).enumerate() {
                for ((smoothed, weight), inverse) in smoothed.iter_mut().zip(row).zip(inverse) {
                    *smoothed = weight * inverse;
                }
                let largest =
                    smoothed.iter().fold(f32::MIN_POSITIVE, |largest, weight| largest.max(weight.abs()));
                let per_unit = 127.0 / largest;
                let first = (tile * inputs + span * SPAN) / INT8_GROUP * LINES + column / IN_LINE;
                let mut sum = 0i32;
                for (group, weights) in smoothed.as_chunks::<INT8_GROUP>().0.iter().enumerate() {
                    let bytes = weights.map(|weight| rounded(weight * per_unit) as i8);
                    sum += bytes.iter().map(|byte| i32::from(*byte)).sum::<i32>();
                    packed[first + group * LINES].0[place..place + INT8_GROUP]
                        .copy_from_slice(&bytes.map(i8::cast_unsigned));
                }
                let at = (tile * spans + span) * TILE + column;
                scales[at] = largest / 127.0;
                sums[at] = sum as f32 * scales[at];
            }
        }
        Self { inputs, outputs, weights: packed, scales, sums, bias, factors }
    }
}

/// The nearest whole number, of those that are not large.
#[inline]
fn rounded(value: f32) -> i32 {
    (value + ROUNDING).to_bits().wrapping_sub(ROUNDING.to_bits()).cast_signed()
}

/// Adding and subtracting it rounds to a whole number, which then stands in the lowest bits.
pub(super) const ROUNDING: f32 = 12_582_912.0;

impl Bf16Matrix {
    /// Packs `weights` (output by output).
    pub(in crate::embed) fn pack(weights: &[f32], bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let inputs = weights.len() / outputs.max(1);
        assert!(inputs.is_multiple_of(TILE) && outputs.is_multiple_of(TILE), "{outputs} × {inputs}");
        assert_eq!(weights.len(), inputs * outputs, "a weight for each input of each output");
        let mut packed = vec![Line([0; 64]); inputs * outputs * 2 / size_of::<Line>()];
        let lines = TILE * BF16_GROUP * 2 / size_of::<Line>();
        let in_line = size_of::<Line>() / (BF16_GROUP * 2);
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (tile, column) = (output / TILE, output % TILE);
            let first = tile * inputs / BF16_GROUP * lines + column / in_line;
            let place = column % in_line * BF16_GROUP * 2;
            for (group, weights) in row.chunks_exact(BF16_GROUP).enumerate() {
                let line = &mut packed[first + group * lines].0[place..place + BF16_GROUP * 2];
                for (bytes, weight) in line.chunks_exact_mut(2).zip(weights) {
                    bytes.copy_from_slice(&to_bf16(*weight).to_ne_bytes());
                }
            }
        }
        Self { inputs, outputs, weights: packed, bias }
    }
}

/// The nearest bfloat16: the upper half of an `f32`. Ties go to even.
#[inline]
pub(in crate::embed) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// What [`to_bf16`] has left of a number.
#[inline]
pub(in crate::embed) fn from_bf16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}
