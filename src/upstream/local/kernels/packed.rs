//! Matrices in the order in which the kernels read them, and the rows they are multiplied with.

use super::half::{from_half, to_half};

/// Inputs that share a scale: GGUF's simple formats have the same.
pub(in super::super) const BLOCK: usize = 32;
/// Outputs that are computed together, one in each lane.
pub(in super::super) const TILE: usize = 16;
/// Inputs that lie side by side for each output.
pub(super) const GROUP: usize = 4;
/// Groups in a block.
pub(super) const GROUPS: usize = BLOCK / GROUP;

/// How a weight is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Format {
    /// Four bits, `scale · number + lowest`.
    Nibbles,
    /// Eight bits, `scale · (number - 128)`.
    Bytes,
}

impl Format {
    /// Lines that hold a block of a tile.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Nibbles => GROUPS / 2,
            Self::Bytes => GROUPS,
        }
    }

    /// Facts of a block of a tile: a scale for each output, and a lowest number where there is one.
    pub(super) const fn facts(self) -> usize {
        match self {
            Self::Nibbles => 2 * TILE,
            Self::Bytes => TILE,
        }
    }
}

/// A matrix. In tiles of [`TILE`] outputs; in a tile block by block; in a block the inputs in groups of
/// [`GROUP`]; in a group output by output. Of nibbles, a line's lower halves are one group and its upper halves
/// the one four groups later.
#[derive(Debug)]
pub(in super::super) struct Matrix {
    pub(in super::super) inputs: usize,
    pub(in super::super) outputs: usize,
    pub(in super::super) format: Format,
    pub(super) weights: Vec<Line>,
    /// In the same order, as halves: scales, then lowest numbers.
    pub(super) facts: Vec<u16>,
}

/// A cache line: what is kept in lines can be read in whole registers without crossing one.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

impl Matrix {
    /// One of zeros.
    pub(in super::super) fn new(format: Format, inputs: usize, outputs: usize) -> Self {
        assert!(inputs.is_multiple_of(BLOCK) && outputs.is_multiple_of(TILE), "{outputs} × {inputs}");
        let blocks = inputs / BLOCK * (outputs / TILE);
        let weights = vec![Line([0; 64]); blocks * format.lines()];
        Self { inputs, outputs, format, weights, facts: vec![0; blocks * format.facts()] }
    }

    pub(super) fn check(&self) {
        let blocks = self.inputs / BLOCK * (self.outputs / TILE);
        assert_eq!(self.weights.len(), blocks * self.format.lines(), "all the weights");
        assert_eq!(self.facts.len(), blocks * self.format.facts(), "all the scales");
    }

    /// How much memory it takes.
    pub(in super::super) fn bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(&*self.facts)
    }

    /// Which block of a tile it is, and which output of the tile.
    fn locate(&self, output: usize, block: usize) -> (usize, usize) {
        (output / TILE * (self.inputs / BLOCK) + block, output % TILE)
    }

    /// Sets a block of numbers from 0 to 15, halves of `scale` and `lowest` as the file has them.
    pub(in super::super) fn set_nibbles(
        &mut self,
        (output, block): (usize, usize),
        numbers: &[u8; BLOCK],
        scale: u16,
        lowest: u16,
    ) {
        let (at, lane) = self.locate(output, block);
        let lines = self.format.lines();
        for group in 0..lines {
            let line = &mut self.weights[at * lines + group].0[lane * GROUP..][..GROUP];
            for (place, byte) in line.iter_mut().enumerate() {
                *byte = numbers[group * GROUP + place] | numbers[(group + lines) * GROUP + place] << 4;
            }
        }
        let facts = &mut self.facts[at * 2 * TILE..][..2 * TILE];
        (facts[lane], facts[TILE + lane]) = (scale, lowest);
    }

    /// Sets a block of numbers from -128 to 127, of half-precision `scale`.
    pub(in super::super) fn set_bytes(
        &mut self,
        (output, block): (usize, usize),
        numbers: &[i8; BLOCK],
        scale: u16,
    ) {
        let (at, lane) = self.locate(output, block);
        for (group, numbers) in numbers.as_chunks::<GROUP>().0.iter().enumerate() {
            let line = &mut self.weights[at * GROUPS + group].0[lane * GROUP..][..GROUP];
            line.copy_from_slice(&numbers.map(|number| number.cast_unsigned() ^ 0x80));
        }
        self.facts[at * TILE + lane] = scale;
    }

    /// Sets a block to what is nearest to `values` in eight bits.
    pub(in super::super) fn set_rounded(&mut self, at: (usize, usize), values: &[f32; BLOCK]) {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = to_half(largest / 127.0);
        let step = from_half(scale);
        let per_unit = if step > 0.0 { step.recip() } else { 0.0 };
        self.set_bytes(at, &values.map(|value| (value * per_unit).round().clamp(-127.0, 127.0) as i8), scale);
    }

    /// The weights of one output.
    pub(in super::super) fn row(&self, output: usize, out: &mut [f32]) {
        for (block, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let (at, lane) = self.locate(output, block);
            let facts = &self.facts[at * self.format.facts()..][..self.format.facts()];
            let scale = from_half(facts[lane]);
            for (input, out) in out.iter_mut().enumerate() {
                let number = self.number(at, lane, input);
                *out = match self.format {
                    Format::Nibbles => scale * f32::from(number) + from_half(facts[TILE + lane]),
                    Format::Bytes => scale * (f32::from(number) - 128.0),
                };
            }
        }
    }

    /// The number of input `input` of a tile's block.
    pub(super) fn number(&self, at: usize, lane: usize, input: usize) -> u8 {
        let (group, place) = (input / GROUP, lane * GROUP + input % GROUP);
        match self.format {
            Format::Bytes => self.weights[at * GROUPS + group].0[place],
            Format::Nibbles => {
                let byte = self.weights[at * GROUPS / 2 + group % (GROUPS / 2)].0[place];
                if group < GROUPS / 2 { byte & 15 } else { byte >> 4 }
            }
        }
    }
}

/// Rows of whole numbers from -127 to 127, a scale for each block.
#[derive(Debug, Default)]
pub(in super::super) struct QuantisedRows {
    pub(super) width: usize,
    pub(super) numbers: Vec<i8>,
    /// Row by row, block by block.
    pub(super) facts: Vec<BlockFacts>,
}

/// What is known of a block of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockFacts {
    pub(super) scale: f32,
    /// The sum of its numbers, scaled: what lowest numbers are multiplied with.
    pub(super) sum: f32,
    /// -128 times the sum of its numbers: where a product with weights from 0 to 255 begins, so that it ends as
    /// if they were from -128 to 127.
    pub(super) begin: i32,
}

impl QuantisedRows {
    pub(super) fn resize(&mut self, rows: usize, width: usize) {
        self.width = width;
        self.numbers.resize(rows * width, 0);
        self.facts.resize(rows * width / BLOCK, BlockFacts::default());
    }

    pub(in super::super) fn rows(&self) -> usize {
        self.numbers.len() / self.width.max(1)
    }
}
