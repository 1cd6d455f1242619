//! What the pipeline tells of a request, as a line of the journal.

use crate::cache::bound::{About, Equivalence, Trial};
use crate::cache::{NotKept, Wishes};
use crate::clock::Clock;
use crate::journal::row::{Said, Verdict, Voice, Why};
use crate::journal::{Counts, Fresh, Journal, Learned, Row, Wanted, Word};
use crate::pipeline::{self, Caller, Checked, Note, Outcome, Record, Scribe, Source};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The time of day of moments that were measured otherwise: to the microsecond, and never backwards.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    moment: Instant,
    at: u64,
}

impl Anchor {
    /// This moment.
    pub fn now(clock: &dyn Clock) -> Self {
        Self { moment: Instant::now(), at: clock.now().0.saturating_mul(1000) }
    }

    /// In microseconds since the Unix epoch.
    pub fn micros(self, moment: Instant) -> u64 {
        self.at.saturating_add(micros(moment.saturating_duration_since(self.moment)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tells what became of the lines of the journal.
pub type JournalReport = Arc<dyn Fn() -> Counts + Send + Sync>;

pub(super) struct Lines(pub(super) JournalReport);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lines").finish_non_exhaustive()
    }
}

impl Collector for Lines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Counts { written, dropped, failed, removed, bytes } = (self.0)();
        let mut count = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("journal_written", "Lines written into the journal", written)?;
        count("journal_dropped", "Lines that were not written: too many waited", dropped)?;
        count("journal_failed", "Lines that were not written: the disk failed", failed)?;
        count("journal_removed", "Files of the journal that went to make room", removed)?;
        let (name, help) = ("journal_bytes", "Bytes of all files of the journal");
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

/// Has `journal` write down what the pipeline tells.
pub fn scribe(journal: &Journal, anchor: Anchor) -> Scribe {
    let (wanting, writing) = (journal.clone(), journal.clone());
    Scribe {
        wants: Arc::new(move |project| wanting.wants(project)),
        write: Arc::new(move |note| write(&writing, anchor, note)),
    }
}

fn write(journal: &Journal, anchor: Anchor, note: Note) {
    match note {
        Note::Asked(record) if record.outcome.refresh => {
            if let Some(fresh) = refreshed(*record, anchor) {
                journal.fresh(fresh);
            }
        }
        Note::Asked(record) => journal.request(row(*record, anchor)),
        Note::Checked(checked) if journal.wants(&checked.project) => {
            journal.fresh(fresh(*checked, anchor.micros(Instant::now())));
        }
        Note::Checked(_) => {}
        Note::Learned(learned) => {
            let verdict = Some(verdict(&learned));
            let (id, tenant) = (learned.request_id, learned.tenant.to_string());
            journal.learned(Learned { at: anchor.micros(Instant::now()), id, tenant, verdict });
        }
        Note::Said { tenant, request_id, correct } => {
            let at = anchor.micros(Instant::now());
            journal.feedback(Word { at, id: request_id, tenant: tenant.to_string(), correct });
        }
    }
}

/// What came of a comparison, as a line of the journal tells it.
pub fn verdict(learned: &pipeline::Learned) -> Verdict {
    let Trial { ground: _, asked, known, about } = &learned.trial;
    let (bin, served) = match about {
        About::Noise => (None, false),
        About::Nominee { bin, served } => (Some(*bin), *served),
    };
    let said = match learned.said {
        Equivalence::Same => Said::Same,
        Equivalence::Different => Said::Different,
        Equivalence::Unclear => Said::Unclear,
    };
    Verdict { said, asked: asked.to_string(), known: known.to_string(), bin, served }
}

fn row(record: Record, anchor: Anchor) -> Row {
    let Record { arrived, caller, protocol, body, headers, voice, outcome, reply } = record;
    let Caller { request_id, tenant, project, state, tags, memory, deadline: _, envelope: _ } = caller;
    let Outcome { model, stream, answered_as, source, miss, shared, failed, kept, ended, timings, .. } =
        outcome;
    let (rule, similarity) = match &source {
        Some(Source::Rule { rule }) => (Some(rule.clone()), None),
        Some(Source::Semantic { similarity, .. }) => (None, Some(*similarity)),
        _ => (None, None),
    };
    Row {
        at: anchor.micros(arrived),
        id: request_id,
        tenant: tenant.to_string(),
        project,
        state,
        tags,
        wanted: wanted(&memory),
        protocol,
        model,
        stream,
        headers,
        body: raw(&body),
        digest: None,
        source: source.as_ref().map(|source| source.name().to_owned()),
        rule,
        entry: source.as_ref().and_then(Source::entry).map(str::to_owned),
        similarity,
        miss: miss.map(|miss| miss.name().to_owned()),
        shared,
        upstream: source.as_ref().and_then(Source::upstream).map(str::to_owned),
        voice: voice.map(|pipeline::Wanted { origin, model, arm }| Voice {
            origin: origin.name().to_owned(),
            model: model.to_string(),
            arm: arm.map(|arm| arm.to_string()),
        }),
        answered_as: answered_as.map(|model| model.to_string()),
        failed: failed.iter().map(|(who, kind)| (who.to_string(), kind.name().to_owned())).collect(),
        kept: kept.map(|kept| kept.map_or_else(NotKept::name, |()| "kept").to_owned()),
        ended: ended.name().to_owned(),
        usage: reply.as_ref().and_then(|reply| reply.usage),
        recall_us: micros(timings.recall),
        upstream_us: timings.upstream.map(micros),
        total_us: micros(timings.total),
        reply,
    }
}

/// A body that is no JSON has not come so far.
fn raw(body: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(body).ok()
}

/// What was wanted of the cache.
pub fn wanted(wishes: &Wishes) -> Wanted {
    let Wishes {
        read,
        write,
        semantic,
        only_if_cached,
        max_age,
        min_fresh,
        max_stale,
        stale_if_error,
        ttl,
        min_similarity,
        partitions,
    } = wishes;
    let partitions = partitions.as_slice().iter().map(|(way, name)| (way.to_string(), name.clone()));
    Wanted {
        no_read: !read,
        no_write: !write,
        no_semantic: !semantic,
        only_if_cached: *only_if_cached,
        max_age: max_age.map(millis),
        min_fresh: min_fresh.map(millis),
        max_stale: max_stale.map(millis),
        stale_if_error: stale_if_error.map(millis),
        ttl: ttl.map(millis),
        min_similarity: *min_similarity,
        partitions: partitions.collect(),
    }
}

/// What was wanted of the cache, once it has been read back.
pub fn wishes(wanted: &Wanted) -> Wishes {
    let Wanted {
        no_read,
        no_write,
        no_semantic,
        only_if_cached,
        max_age,
        min_fresh,
        max_stale,
        stale_if_error,
        ttl,
        min_similarity,
        partitions,
    } = wanted;
    let time = |millis: &Option<u64>| millis.map(Duration::from_millis);
    let mut wishes = Wishes {
        read: !no_read,
        write: !no_write,
        semantic: !no_semantic,
        only_if_cached: *only_if_cached,
        max_age: time(max_age),
        min_fresh: time(min_fresh),
        max_stale: time(max_stale),
        stale_if_error: time(stale_if_error),
        ttl: time(ttl),
        min_similarity: *min_similarity,
        ..Wishes::default()
    };
    for (way, name) in partitions {
        wishes.within(way.clone(), name.clone());
    }
    wishes
}

fn refreshed(record: Record, anchor: Anchor) -> Option<Fresh> {
    let Record { caller, outcome, reply, .. } = record;
    Some(Fresh {
        at: anchor.micros(Instant::now()),
        id: caller.request_id,
        tenant: caller.tenant.to_string(),
        why: Why::Refresh,
        upstream: outcome.source.as_ref()?.upstream()?.to_owned(),
        model: outcome.answered_as.map_or(outcome.model, |model| model.to_string()),
        usage: reply.as_ref().and_then(|reply| reply.usage),
        reply: Some(reply?),
    })
}

fn fresh(checked: Checked, at: u64) -> Fresh {
    let Checked { request_id, tenant, project: _, upstream, model, usage, reply, said: _ } = checked;
    Fresh {
        at,
        id: request_id,
        tenant: tenant.to_string(),
        why: Why::Check,
        upstream: upstream.to_string(),
        model: model.to_string(),
        usage,
        reply: Some(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wanted_is_wanted_again() {
        let mut all =
            Wishes { read: false, write: false, semantic: false, only_if_cached: true, ..Wishes::default() };
        all.no_older_than(Duration::from_secs(1));
        all.fresh_for(Duration::from_secs(2));
        all.late_by(Duration::from_secs(3));
        all.late_by_on_error(Duration::from_secs(4));
        all.keep_for(Duration::from_secs(5));
        all.as_similar_as(0.5);
        all.within("namespace", "a");
        for known in [Wishes::default(), all] {
            let text = serde_json::to_string(&wanted(&known)).unwrap();
            assert_eq!(wishes(&serde_json::from_str(&text).unwrap()), known, "{text}");
        }
    }
}
