//! What the store holds, read anew at each scrape.

use crate::store::{Counters, IndexCounters};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;

/// Tells what the store holds.
pub type StoreReport = Arc<dyn Fn() -> Counters + Send + Sync>;

pub(super) struct Kept(pub(super) StoreReport);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").finish_non_exhaustive()
    }
}

impl Collector for Kept {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counters {
            entries,
            bytes,
            evicted,
            turned_away,
            damaged,
            away,
            reopened,
            files,
            compacted,
            index,
        } = (self.0)();
        let IndexCounters { scopes, bytes: index_bytes, graphs, building } = index;
        let mut count = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("store_evicted", "Answers removed to make room", evicted)?;
        count(
            "store_turned_away",
            "Answers not kept: less asked for than what would have gone",
            turned_away,
        )?;
        count("store_damaged", "Damaged answers that were found, and dropped", damaged)?;
        count("store_reopened", "How often the store was opened anew after it had failed", reopened)?;
        count("store_compacted", "How often its files were written anew to make them smaller", compacted)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge("store_available", "Whether there is a store", if away { 0.0 } else { 1.0 })?;
        gauge("store_entries", "Answers that are kept", entries as f64)?;
        gauge("store_bytes", "What they take; the files take some more", bytes as f64)?;
        gauge("store_file_bytes", "What its files took when they were last looked at", files as f64)?;
        gauge("store_index_scopes", "Scopes whose vectors are in memory", scopes as f64)?;
        gauge("store_index_bytes", "What these take", index_bytes as f64)?;
        gauge("store_index_graphs", "Of these scopes, those with a graph", graphs as f64)?;
        gauge("store_index_building", "Those for which a graph is being made", building as f64)
    }
}
