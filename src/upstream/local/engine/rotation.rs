//! Positions, as angles that queries and keys are turned by.

use super::shape::{Pairing, Shape, Turning};

/// The angles of every position, as cosines and sines.
pub(super) struct Rotation {
    pairing: Pairing,
    pairs: usize,
    /// Position by position, pair by pair.
    turns: Vec<(f32, f32)>,
}

impl Rotation {
    /// The angles of `context` positions that turn in the way of `turning`; `slower` says for each pair how much slower
    /// it turns than that.
    pub(super) fn new(shape: &Shape, turning: Turning, slower: Option<&[f32]>, context: usize) -> Self {
        let pairs = shape.turned / 2;
        let speed = |pair: usize| {
            let usual = turning.base.powf(-((2 * pair) as f32) / shape.turned as f32) / turning.slower;
            usual / slower.and_then(|slower| slower.get(pair)).unwrap_or(&1.0)
        };
        let speeds: Vec<f32> = (0..pairs).map(speed).collect();
        let turn = |at: usize| speeds.iter().map(move |speed| (at as f32 * speed).sin_cos());
        let long = |(sine, cosine): (f32, f32)| (cosine * turning.swing, sine * turning.swing);
        Self { pairing: shape.pairing, pairs, turns: (0..context).flat_map(turn).map(long).collect() }
    }

    /// A cosine and a sine for each pair of each position.
    #[cfg(feature = "cuda")]
    pub(super) fn numbers(&self) -> Vec<f32> {
        self.turns.iter().flat_map(|(cosine, sine)| [*cosine, *sine]).collect()
    }

    /// Turns a head of a query or key at position `at`.
    pub(super) fn rotate(&self, head: &mut [f32], at: usize) {
        let turns = &self.turns[at * self.pairs..][..self.pairs];
        let head = &mut head[..2 * self.pairs];
        let turned =
            |(x, y): (f32, f32), (cosine, sine): (f32, f32)| (x * cosine - y * sine, x * sine + y * cosine);
        match self.pairing {
            Pairing::Neighbours => {
                for (pair, turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                    (pair[0], pair[1]) = turned((pair[0], pair[1]), *turn);
                }
            }
            Pairing::Halves => {
                let (low, high) = head.split_at_mut(self.pairs);
                for ((x, y), turn) in low.iter_mut().zip(high).zip(turns) {
                    (*x, *y) = turned((*x, *y), *turn);
                }
            }
        }
    }
}
