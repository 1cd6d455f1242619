//! [`Grower`]: links rows that come behind those of a graph, in place.
//!
//! It does what `hnsw_rs` does when it inserts, on the flat arrays and with the kernels that a search uses: several
//! times as fast, and without making again what is made already. Each row looks for its nearest, links to those of
//! them that are not nearer to one another than to it, and they link back.

use super::walk::{Seen, Walk};
use super::{Graph, LINKS, Layer, NONE, UPPER_LINKS, links_of, until_none};
use crate::store::embedded::rows::{Rows, Scored};
use std::sync::Arc;

/// How many candidates an insertion looks at: more make a better graph, more slowly.
const WIDTH: usize = 64;
/// How many rows an insertion goes down with to where it begins.
const DESCENT_WIDTH: usize = 2;
/// How many links a row begins with in the lowest layer; the rest of the room is for those that link back.
const FIRST_LINKS: usize = LINKS / 2;

/// Puts rows into a graph, some at a time.
pub(in super::super) struct Grower {
    rows: Arc<Rows>,
    graph: Graph,
    linked: u32,
    seen: Seen,
}

impl Grower {
    /// Of a graph over the first of these rows.
    pub(in super::super) fn new(rows: Arc<Rows>, mut graph: Graph) -> Self {
        let linked = (graph.links.len() / LINKS) as u32;
        graph.links.resize(rows.len() * LINKS, NONE);
        let seen = Seen::of(rows.len());
        Self { rows, graph, linked, seen }
    }

    /// Links up to `most` more rows; says whether any are left.
    pub(in super::super) fn step(&mut self, most: u32) -> bool {
        let count = self.rows.len() as u32;
        let end = count.min(self.linked.saturating_add(most));
        let rows = Arc::clone(&self.rows);
        for row in self.linked..end {
            self.graph.insert(&rows, row, &mut self.seen);
        }
        self.linked = end;
        end < count
    }

    pub(in super::super) fn finish(self) -> Graph {
        self.graph
    }
}

impl Graph {
    /// Links a row that lies behind all that are linked.
    fn insert(&mut self, rows: &Rows, row: u32, seen: &mut Seen) {
        let mut walk = Walk::of(rows, rows.probe(row), std::mem::take(seen));
        let mut nearest = vec![walk.score(self.entry)];
        let height = height(row);
        let layers = self.layers.len();
        // The highest layer comes first.
        for (depth, layer) in self.layers.iter_mut().enumerate() {
            let width = if layers - depth > height { DESCENT_WIDTH } else { WIDTH };
            nearest = walk.spread(|row| layer.links_of(row), &nearest, width, |_| true);
            if layers - depth <= height {
                nearest.sort_unstable_by(|a, b| b.cmp(a));
                layer.insert(rows, row, &spread_out(rows, &nearest, UPPER_LINKS));
            }
        }
        nearest = walk.spread(|row| links_of(&self.links, row), &nearest, WIDTH, |_| true);
        *seen = walk.seen;
        nearest.sort_unstable_by(|a, b| b.cmp(a));
        let near = spread_out(rows, &nearest, FIRST_LINKS);
        write(&mut self.links[row as usize * LINKS..][..LINKS], &near);
        for neighbour in near {
            link_back(rows, &mut self.links[neighbour.row as usize * LINKS..][..LINKS], neighbour, row);
        }
        if height > layers {
            for _ in layers..height {
                self.layers.insert(0, Layer { rows: vec![row], links: vec![NONE; UPPER_LINKS] });
            }
            self.entry = row;
        }
    }
}

impl Layer {
    fn insert(&mut self, rows: &Rows, row: u32, near: &[Scored]) {
        let begin = self.links.len();
        self.rows.push(row);
        self.links.resize(begin + UPPER_LINKS, NONE);
        write(&mut self.links[begin..], near);
        for neighbour in near {
            if let Ok(at) = self.rows.binary_search(&neighbour.row) {
                link_back(rows, &mut self.links[at * UPPER_LINKS..][..UPPER_LINKS], *neighbour, row);
            }
        }
    }
}

/// Adds a link to a row's; where there is no room, those are kept that are spread out.
fn link_back(rows: &Rows, links: &mut [u32], owner: Scored, new: u32) {
    let count = until_none(links).len();
    if let Some(free) = links.get_mut(count) {
        *free = new;
        return;
    }
    let mut all = vec![Scored { row: new, score: owner.score }];
    rows.score_some(rows.probe(owner.row), links, &mut Vec::with_capacity(LINKS), |scored| all.push(scored));
    all.sort_unstable_by(|a, b| b.cmp(a));
    write(links, &spread_out(rows, &all, links.len()));
}

/// Of candidates, the nearest first, up to `most` that are nearer to the row than to any one taken before: so links
/// lead in all directions, and out of clusters.
fn spread_out(rows: &Rows, candidates: &[Scored], most: usize) -> Vec<Scored> {
    let mut taken: Vec<Scored> = Vec::with_capacity(most);
    for candidate in candidates {
        if taken.len() == most {
            break;
        }
        let is_nearer =
            |other: &Scored| rows.between(candidate.row as usize, other.row as usize) < candidate.score;
        if taken.iter().all(is_nearer) {
            taken.push(*candidate);
        }
    }
    taken
}

fn write(links: &mut [u32], near: &[Scored]) {
    links.fill(NONE);
    links.iter_mut().zip(near).for_each(|(link, near)| *link = near.row);
}

/// In how many layers above the lowest a row is: one in sixteen in the first, and so on. By its number, so that the
/// same rows always make the same graph.
fn height(row: u32) -> usize {
    // The finaliser of SplitMix64.
    let mut bits = u64::from(row).wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    (bits.trailing_zeros() as usize / UPPER_LINKS.ilog2() as usize).min(Graph::LAYERS)
}

#[cfg(test)]
mod tests {
    use super::super::Reach;
    use super::super::build::Weaver;
    use super::*;
    use crate::store::embedded::rows::Quantised;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    const DIMENSIONS: usize = 64;

    fn any(random: &mut StdRng) -> Vec<f32> {
        unit((0..DIMENSIONS).map(|_| random.random::<f32>() - 0.5).collect())
    }

    fn near(random: &mut StdRng, middle: &[f32]) -> Vec<f32> {
        unit(middle.iter().zip(any(random)).map(|(a, b)| a + 0.6 * b).collect())
    }

    fn unit(vector: Vec<f32>) -> Vec<f32> {
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        vector.into_iter().map(|number| number / length).collect()
    }

    /// In clusters of fifty.
    fn clustered(count: usize) -> Arc<Rows> {
        let mut random = StdRng::seed_from_u64(5);
        let middles: Vec<Vec<f32>> = (0..count / 50).map(|_| any(&mut random)).collect();
        let mut rows = Rows::new(DIMENSIONS);
        for nth in 0..count {
            rows.push(&Quantised::of(&near(&mut random, &middles[nth % middles.len()])));
        }
        Arc::new(rows)
    }

    fn first(rows: &Rows, count: usize) -> Arc<Rows> {
        let mut first = Rows::new(rows.dimensions());
        (0..count).for_each(|row| first.push_row(rows, row));
        Arc::new(first)
    }

    fn woven(rows: Arc<Rows>) -> Graph {
        let mut weaver = Weaver::new(rows);
        while weaver.step(1000) {}
        weaver.finish().expect("there are rows")
    }

    fn grown(rows: &Arc<Rows>, begun: usize) -> Graph {
        let mut grower = Grower::new(Arc::clone(rows), woven(first(rows, begun)));
        while grower.step(100) {}
        grower.finish()
    }

    /// How many of some searches name the very nearest.
    fn right(graph: &Graph, rows: &Rows) -> usize {
        let mut random = StdRng::seed_from_u64(6);
        (0..100)
            .filter(|_| {
                let query = Quantised::of(&any(&mut random));
                let mut all = Vec::new();
                rows.score_all(query.probe(), |scored| all.push(scored));
                // As wide as the store searches.
                let reach = Reach { asked: 1, most: 1, width: 96 };
                let found = graph.search(rows, query.probe(), reach, |_| true);
                found.iter().max() == all.iter().max()
            })
            .count()
    }

    #[test]
    fn a_graph_that_grows_finds_as_much_as_one_that_hnsw_rs_makes_of_all() {
        let rows = clustered(3000);
        let reference = right(&woven(Arc::clone(&rows)), &rows);
        let grown = right(&grown(&rows, 300), &rows);
        assert!(grown + 1 >= reference && grown >= 97, "{grown} of 100, hnsw_rs {reference}");
    }

    #[test]
    fn it_is_sound_and_the_same_every_time_but_for_where_it_began() {
        let rows = clustered(600);
        let begun = woven(first(&rows, 100));
        let grow = |step| {
            let mut grower = Grower::new(Arc::clone(&rows), begun.clone());
            while grower.step(step) {}
            grower.finish()
        };
        let graph = grow(7);
        assert_eq!(graph, grow(1000));
        let (entry, links, layers) = graph.parts();
        let layers = layers.map(|(rows, links)| (rows.to_vec(), links.to_vec())).collect();
        assert!(Graph::from_parts((entry, links.to_vec(), layers), rows.len()).is_some());
    }

    #[test]
    fn it_can_begin_with_one_row_and_with_all_alike() {
        let mut rows = Rows::new(2);
        (0..200).for_each(|_| rows.push(&Quantised::of(&[1.0, 0.0])));
        let rows = Arc::new(rows);
        let graph = grown(&rows, 1);
        let reach = Reach { asked: 10, most: 10, width: 10 };
        let found = graph.search(&rows, rows.probe(150), reach, |_| true);
        assert_eq!(found.len(), 10);
    }
}
