//! A plain index of `hnsw_rs`, on vectors such as `weir bench store` makes: what the store would be without what it
//! puts around that crate.
//!
//! ```text
//! cargo bench --locked --bench store -- 1000 10000
//! ```

use hnsw_rs::prelude::{DistCosine, Hnsw};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::{Duration, Instant};
use weir::lab::store::{clustered, reworded};
use weir::vector::UnitVector;

/// As the crate's own examples have it, and the store's.
const LINKS: usize = 16;
const LAYERS: usize = 16;
const CONSTRUCTION_WIDTH: usize = 100;
const WIDTHS: [usize; 2] = [64, 96];
const SEARCHES: usize = 300;

fn main() {
    let sizes = std::env::args().skip(1).filter_map(|size| size.parse().ok());
    for count in sizes {
        measure(count);
    }
}

#[expect(clippy::print_stdout, reason = "what it is for")]
fn measure(count: usize) {
    let mut random = StdRng::seed_from_u64(7);
    let vectors = clustered(&mut random, count);
    let index = Hnsw::<f32, DistCosine>::new(LINKS, count, LAYERS, CONSTRUCTION_WIDTH, DistCosine {});
    let began = Instant::now();
    for (nth, vector) in vectors.iter().enumerate() {
        index.insert_slice((vector.as_slice(), nth));
    }
    let inserts = count as f64 / began.elapsed().as_secs_f64();
    let queries: Vec<UnitVector> = (0..SEARCHES)
        .map(|_| {
            let asked = random.random_range(0..vectors.len());
            reworded(&mut random, &vectors[asked])
        })
        .collect();
    for width in WIDTHS {
        let mut times: Vec<Duration> = Vec::with_capacity(SEARCHES);
        let mut right = 0;
        for query in &queries {
            let began = Instant::now();
            let found = index.search(query.as_slice(), 1, width);
            times.push(began.elapsed());
            let cosine = |nth: usize| query.cosine(&vectors[nth]);
            let nearest = (0..count).max_by(|a, b| cosine(*a).total_cmp(&cosine(*b)));
            right += usize::from(found.first().map(|found| found.d_id) == nearest);
        }
        times.sort_unstable();
        println!(
            "{count} vectors, width {width}: inserts {inserts:.0}/s, search p50 {:?}, p99 {:?}, right {:.3}",
            times[SEARCHES / 2],
            times[SEARCHES * 99 / 100],
            right as f64 / SEARCHES as f64
        );
    }
}
