//! What has become of webhooks' events, read anew at each scrape.

use crate::webhook::Report;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use std::fmt;
use std::sync::Arc;

/// Tells what has become of each webhook's events.
pub type WebhookReport = Arc<dyn Fn() -> Vec<Report> + Send + Sync>;

pub(super) struct Webhook(pub(super) WebhookReport);

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Webhook").finish_non_exhaustive()
    }
}

impl Collector for Webhook {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Events for webhooks, by what became of them";
        let mut family = encoder.encode_descriptor("webhook_events", help, None, MetricType::Counter)?;
        for Report { name, sent, failed, dropped, damped } in (self.0)() {
            for (result, count) in
                [("sent", sent), ("failed", failed), ("dropped", dropped), ("damped", damped)]
            {
                let labels = [("webhook", name.as_str()), ("result", result)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
