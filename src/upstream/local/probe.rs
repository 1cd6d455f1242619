//! The model by itself, to measure it.

use super::fault::Fault;
use super::model::{MAX_CONTEXT, Model, Run, Sequence};
use crate::device::DeviceChoice;
use std::path::Path;

/// A model and one sequence, without a queue, a template or a thread of its own.
pub struct Probe {
    model: Model,
    sequence: Sequence,
    expected: Vec<f32>,
}

impl Probe {
    /// Reads the model in `file`, to run it on `device`.
    pub fn load(file: &Path, device: DeviceChoice) -> Result<Self, Fault> {
        let model = Model::load(file, MAX_CONTEXT, device)?;
        let sequence = model.network.sequence();
        Ok(Self { model, sequence, expected: Vec::new() })
    }

    /// What its arithmetic is called.
    pub fn arithmetic(&self) -> &'static str {
        self.model.network.arithmetic()
    }

    /// Where it runs: `cpu` or `cuda:0`.
    pub fn place(&self) -> &'static str {
        self.model.network.place()
    }

    /// The memory in bytes that the weights take, and a token of a sequence; `None` where nobody tells.
    pub fn memory(&self) -> Option<(usize, usize)> {
        self.model.network.memory()
    }

    /// Forgets all that it has read.
    pub fn forget(&mut self) {
        self.sequence = self.model.network.sequence();
    }

    /// Reads `ids` in one go, and gives the likeliest token after them.
    pub fn read(&mut self, ids: &[u32]) -> Result<u32, Fault> {
        let mut runs = [Run { sequence: &mut self.sequence, ids, wants_next: true }];
        let next = self.model.network.step(&mut runs)?.next().unwrap_or_default();
        self.expected.clear();
        self.expected.extend_from_slice(next);
        Ok(likeliest(next))
    }

    /// How much each token was to be expected after what was read, as logits.
    pub fn expected(&self) -> &[f32] {
        &self.expected
    }

    /// Reads one more token in each of `count` sequences that have read the same, together.
    pub fn read_together(&mut self, id: u32, count: usize, steps: usize) -> Result<(), Fault> {
        let mut sequences = vec![self.sequence.clone(); count];
        for _ in 0..steps {
            let ids = [id];
            let run = |sequence| Run { sequence, ids: &ids, wants_next: true };
            let mut runs: Vec<Run<'_>> = sequences.iter_mut().map(run).collect();
            self.model.network.step(&mut runs)?.for_each(drop);
        }
        Ok(())
    }
}

fn likeliest(expected: &[f32]) -> u32 {
    let best = (0..).zip(expected).max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(token, _)| token)
}
