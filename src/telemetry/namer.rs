//! What has become of questions to the model that names intents, read anew at each scrape.

use crate::pipeline::NamerCounts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::fmt;
use std::sync::Arc;

/// Tells what has become of questions to the model that names intents.
pub type NamerReport = Arc<dyn Fn() -> NamerCounts + Send + Sync>;

pub(super) struct Namer(pub(super) NamerReport);

impl fmt::Debug for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namer").finish_non_exhaustive()
    }
}

impl Collector for Namer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let NamerCounts { named, nothing, known, waited_ms, tokens } = (self.0)();
        let help = "Requests for which a model was to name the intent, by what came of it";
        let mut family = encoder.encode_descriptor("intent_model", help, None, MetricType::Counter)?;
        for (result, count) in [("named", named)].into_iter().chain(nothing) {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        let mut count = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("intent_model_known", "Of these, those that it had been asked before", known)?;
        count("intent_model_tokens", "Tokens that it has read and written for that", tokens)?;
        let seconds = ConstCounter::new(waited_ms as f64 / 1000.0);
        let help = "Seconds that requests have waited for it";
        seconds.encode(encoder.encode_descriptor("intent_model_seconds", help, None, MetricType::Counter)?)
    }
}
