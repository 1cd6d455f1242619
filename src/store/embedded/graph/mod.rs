//! [`Graph`]: the nearest of many rows without looking at all of them (HNSW), as plain numbers.
//!
//! `hnsw_rs` makes the links of the first rows ([`build`]), and what comes behind them is linked here ([`grow`]). They
//! lie in flat arrays, which take a sixteenth of the memory, are searched several times as fast, and can be written
//! to a file and read back without trusting it: a graph whose links point at rows that exist is safe to search,
//! whatever it says.

pub(super) mod build;
pub(super) mod grow;
mod walk;

use super::rows::{Probe, Rows, Scored};
use walk::{Enough, Seen, Walk};

const LINKS: usize = Graph::LINKS;
const UPPER_LINKS: usize = Graph::UPPER_LINKS;
/// How many rows a search goes down with through the layers above: with one alone it is easily lost, for clusters
/// that lie apart say nothing about the way from one to another.
const DESCENT_WIDTH: usize = 8;
/// Where there are fewer links than there is room for.
const NONE: u32 = u32::MAX;

/// Links between rows that are near each other. The rows themselves lie elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Graph {
    /// Where a search begins.
    entry: u32,
    /// [`LINKS`] for each row.
    links: Vec<u32>,
    /// The sparse layers above, the highest first.
    layers: Vec<Layer>,
}

/// A layer of few rows, to come near quickly.
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    /// In order.
    rows: Vec<u32>,
    /// [`UPPER_LINKS`] for each.
    links: Vec<u32>,
}

/// How far a search goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// So many are asked for.
    pub(super) asked: usize,
    /// So many are to be found, to choose from.
    pub(super) most: usize,
    /// So many are followed at most.
    pub(super) width: usize,
}

/// A graph as plain numbers: where a search begins, the lowest layer's links, and rows and links of those above.
pub(super) type Parts = (u32, Vec<u32>, Vec<(Vec<u32>, Vec<u32>)>);

impl Graph {
    /// The links of a row in the lowest layer, where all rows are.
    pub(super) const LINKS: usize = 32;
    /// The links of a row in the layers above.
    pub(super) const UPPER_LINKS: usize = 16;
    /// The most layers above the lowest.
    pub(super) const LAYERS: usize = 15;
    /// About what a row costs, beside itself.
    pub(super) const BYTES_PER_ROW: usize = size_of::<u32>() * (LINKS + 2);

    /// A graph over so many rows; `None` where a link points at none of them, or a length does not fit.
    pub(super) fn from_parts((entry, links, layers): Parts, rows: usize) -> Option<Self> {
        let count = u32::try_from(rows).ok()?;
        let points_at_rows = |links: &[u32]| links.iter().all(|link| *link < count || *link == NONE);
        let layers: Vec<Layer> = layers.into_iter().map(|(rows, links)| Layer { rows, links }).collect();
        let is_sound = entry < count
            && Some(links.len()) == rows.checked_mul(LINKS)
            && points_at_rows(&links)
            && layers.iter().all(|layer| {
                Some(layer.links.len()) == layer.rows.len().checked_mul(UPPER_LINKS)
                    && layer.rows.is_sorted()
                    && points_at_rows(&layer.rows)
                    && points_at_rows(&layer.links)
            });
        is_sound.then_some(Self { entry, links, layers })
    }

    /// The graph as plain numbers.
    pub(super) fn parts(&self) -> (u32, &[u32], impl ExactSizeIterator<Item = (&[u32], &[u32])>) {
        (self.entry, &self.links, self.layers.iter().map(|layer| (&layer.rows[..], &layer.links[..])))
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let upper: usize = self.layers.iter().map(|layer| layer.rows.len() + layer.links.len()).sum();
        size_of::<u32>() * (self.links.len() + upper)
    }

    /// About the nearest of the rows that are `wanted`, in no order: `most`, or all where there are fewer, and up to
    /// the `width`. The more are looked for, the surer the first is right. It ends early where all that is left is
    /// much farther away than those asked for, as far as they have been found.
    pub(super) fn search(
        &self,
        rows: &Rows,
        query: Probe<'_>,
        Reach { asked, most, width }: Reach,
        wanted: impl Fn(u32) -> bool,
    ) -> Vec<Scored> {
        let mut walk = Walk::of(rows, query, Seen::of(rows.len()));
        let mut nearest = vec![walk.score(self.entry)];
        for layer in &self.layers {
            nearest = walk.spread(|row| layer.links_of(row), &nearest, DESCENT_WIDTH, |_| true);
        }
        let enough = Some(Enough::of(asked, most));
        walk.spread_until(|row| links_of(&self.links, row), &nearest, width, enough, wanted)
    }
}

impl Layer {
    fn links_of(&self, row: u32) -> &[u32] {
        let at = self.rows.binary_search(&row).ok();
        at.map_or(&[], |at| until_none(&self.links[at * UPPER_LINKS..][..UPPER_LINKS]))
    }
}

/// The links of a row in the lowest layer.
fn links_of(links: &[u32], row: u32) -> &[u32] {
    until_none(&links[row as usize * LINKS..][..LINKS])
}

fn until_none(links: &[u32]) -> &[u32] {
    let end = links.iter().position(|link| *link == NONE).unwrap_or(links.len());
    &links[..end]
}
