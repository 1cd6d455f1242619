//! [`Weaver`]: has `hnsw_rs` link rows, and takes the links over.
//!
//! `hnsw_rs` stays behind this wall, with its limits: it cannot forget, inserts and searches must not meet, each
//! point takes two kilobytes beside its vector, and what it has written to disk it may fail to read. So it only
//! ever makes links, off the path, for the few thousand rows that a graph begins with, and is gone when they are made. Its points are
//! numbers of rows, so that it holds no second copy of any vector.

use super::{Graph, LINKS, NONE, UPPER_LINKS};
use crate::store::embedded::rows::Rows;
use hnsw_rs::prelude::{Distance, Hnsw};
use std::sync::Arc;

/// The most layers `hnsw_rs` knows, the lowest among them.
const LAYERS: usize = Graph::LAYERS + 1;
/// How many candidates an insertion looks at: more make a better graph, more slowly.
const CONSTRUCTION_WIDTH: usize = 100;

struct BetweenRows(Arc<Rows>);

impl Distance<u32> for BetweenRows {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        // Rounding may take it below zero, which `hnsw_rs` answers with a panic.
        (1.0 - self.0.between(a[0] as usize, b[0] as usize)).max(0.0)
    }
}

/// Links rows, some at a time.
pub(in super::super) struct Weaver {
    rows: Arc<Rows>,
    points: Hnsw<'static, u32, BetweenRows>,
    linked: u32,
}

impl Weaver {
    pub(in super::super) fn new(rows: Arc<Rows>) -> Self {
        // `keep_pruned` stays off: with it on, clusters lose the links between them, and recall at 10,000 fell
        // from 1.00 to 0.84.
        let points =
            Hnsw::new(UPPER_LINKS, rows.len(), LAYERS, CONSTRUCTION_WIDTH, BetweenRows(Arc::clone(&rows)));
        Self { rows, points, linked: 0 }
    }

    /// Links up to `most` more rows; says whether any are left.
    pub(in super::super) fn step(&mut self, most: u32) -> bool {
        let count = self.rows.len() as u32;
        let end = count.min(self.linked.saturating_add(most));
        for row in self.linked..end {
            self.points.insert_slice((&[row], row as usize));
        }
        self.linked = end;
        end < count
    }

    /// Takes the links over; `None` where there are no rows, or `hnsw_rs` has made links to none of them.
    pub(in super::super) fn finish(self) -> Option<Graph> {
        let count = self.rows.len();
        let mut links = vec![NONE; count * LINKS];
        let top = usize::from(self.points.get_max_level_observed());
        let mut upper: Vec<Vec<(u32, Vec<u32>)>> = vec![Vec::new(); top];
        let mut entry = None;
        for level in (0..=top).rev() {
            for point in self.points.get_point_indexation().get_layer_iterator(level) {
                let row = u32::try_from(point.get_origin_id()).ok()?;
                entry.get_or_insert(row);
                let layers = point.get_neighborhood_id();
                for (layer, neighbours) in layers.into_iter().enumerate().take(level + 1) {
                    let neighbours = neighbours.into_iter().map(|neighbour| neighbour.d_id as u32);
                    if layer == 0 {
                        let places = links.get_mut(row as usize * LINKS..)?;
                        places.iter_mut().take(LINKS).zip(neighbours).for_each(|(place, row)| *place = row);
                    } else {
                        upper[layer - 1].push((row, neighbours.take(UPPER_LINKS).collect()));
                    }
                }
            }
        }
        let layers = upper.into_iter().rev().map(flattened).collect();
        Graph::from_parts((entry?, links, layers), count)
    }
}

fn flattened(mut layer: Vec<(u32, Vec<u32>)>) -> (Vec<u32>, Vec<u32>) {
    layer.sort_unstable();
    let mut links = Vec::with_capacity(layer.len() * UPPER_LINKS);
    for (nth, (_, neighbours)) in layer.iter().enumerate() {
        links.extend(neighbours);
        links.resize((nth + 1) * UPPER_LINKS, NONE);
    }
    (layer.into_iter().map(|(row, _)| row).collect(), links)
}
