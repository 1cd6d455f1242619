//! How those who are asked are, read anew at each scrape.

use crate::upstream::chain::WardReport;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;

/// Tells how everyone is who may be asked.
pub type ChainReport = Arc<dyn Fn() -> Vec<WardReport> + Send + Sync>;

pub(super) struct Chain(pub(super) ChainReport);

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chain").finish_non_exhaustive()
    }
}

impl Collector for Chain {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reports = (self.0)();
        let mut gauge = |name: &str, help: &str, value: &dyn Fn(&WardReport) -> f64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for report in &reports {
                // The models are named by clients, so they are no labels: `/status` tells of each.
                let labels = [("upstream_name", &*report.health.name)];
                ConstGauge::new(value(report)).encode(family.encode_family(&labels)?)?;
            }
            fmt::Result::Ok(())
        };
        gauge("upstream_in_flight", "Calls that an upstream has in work", &|report| report.in_flight as f64)?;
        gauge("upstream_disabled", "1 where somebody has switched it off", &|report| {
            f64::from(u8::from(report.health.state == "disabled"))
        })?;
        gauge("upstream_cooling", "Models of it that are left alone, or 1 if all of it is", &|report| {
            let whole = u8::from(report.health.state == "cooling");
            let models = report.health.models.iter().filter(|model| model.state == "cooling").count();
            f64::from(whole).max(models as f64)
        })?;
        gauge("upstream_slow", "Models of it that are slower than usual by far", &|report| {
            report.health.models.iter().filter(|model| model.state == "slow").count() as f64
        })
    }
}
