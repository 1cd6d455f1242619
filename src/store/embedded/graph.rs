//! [`Graph`]: the nearest of many vectors without looking at all of them (HNSW).
//!
//! `hnsw_rs` stays behind this wall, with its limits: it cannot forget, so the caller tells the dead from the
//! living; and insertion and search must never run in parallel, which `&mut self` makes impossible here.

use crate::vector::dot;
use hnsw_rs::prelude::{Distance, Hnsw};
use std::sync::Arc;

/// The links of a point in each layer, twice as many at the bottom. More find better and cost more.
const LINKS: usize = 16;
/// The most layers `hnsw_rs` knows.
const LAYERS: usize = 16;
/// How many candidates an insertion looks at: more make a better graph, more slowly. Twice as many took twice as
/// long to build, and found no more.
const CONSTRUCTION_WIDTH: usize = 100;

/// About what a point costs beside its vector: up to 2 × [`LINKS`] links of 40 bytes, and its layers.
pub(super) const POINT_BYTES: usize = 2048;

/// A vector, shared between an index and its graph.
pub(super) type Vector = Arc<[f32]>;

/// A point is a slice of one shared vector, so that the graph holds no second copy of the numbers.
struct OneMinusDot;

impl Distance<Vector> for OneMinusDot {
    fn eval(&self, a: &[Vector], b: &[Vector]) -> f32 {
        // Rounding may take it below zero, which `hnsw_rs` answers with a panic.
        a.iter().zip(b).map(|(a, b)| 1.0 - dot(a, b)).sum::<f32>().max(0.0)
    }
}

/// Vectors of one length, linked by nearness. Each has a number, given in order.
pub(super) struct Graph {
    points: Hnsw<'static, Vector, OneMinusDot>,
    covered: usize,
}

impl Graph {
    /// An empty graph, with room for about so many.
    pub(super) fn new(expected: usize) -> Self {
        // `keep_pruned` stays off: with it on, clusters lose the links between them, and recall at 10,000 fell
        // from 1.00 to 0.84.
        let points = Hnsw::new(LINKS, expected, LAYERS, CONSTRUCTION_WIDTH, OneMinusDot);
        Self { points, covered: 0 }
    }

    /// How many numbers have been offered: all below this one are in the graph, or were dead already.
    pub(super) fn covered(&self) -> usize {
        self.covered
    }

    /// Takes in what has the next number: a vector, or nothing where it is dead already.
    pub(super) fn push(&mut self, vector: Option<&Vector>) {
        if let Some(vector) = vector {
            self.points.insert_slice((std::slice::from_ref(vector), self.covered));
        }
        self.covered += 1;
    }

    /// The numbers of about the `count` nearest, dead or alive.
    pub(super) fn search(&self, query: &Vector, count: usize) -> Vec<usize> {
        let found = self.points.search(std::slice::from_ref(query), count, count);
        found.iter().map(|neighbour| neighbour.d_id).collect()
    }
}
