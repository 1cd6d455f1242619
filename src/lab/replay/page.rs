//! A replay's report, for a terminal.

use super::{Interval, Lanes, Report};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Who answers, in the order in which they are asked.
const LANES: [&str; 6] = ["rule", "exact", "semantic", "joined", "upstream", "failed"];

impl Report {
    /// The report in words. `most` changed decisions are shown.
    pub fn page(&self, most: usize) -> String {
        let mut page = String::new();
        let journal = &self.journal;
        let days = (journal.to.saturating_sub(journal.from)) as f64 / 86_400e6;
        line(
            &mut page,
            &format!(
                "{} requests in {} projects, over {}",
                whole(journal.requests),
                journal.projects.len(),
                if days >= 1.0 { format!("{days:.1} days") } else { format!("{:.1} hours", days * 24.0) }
            ),
        );
        for (why, count) in &journal.skipped {
            line(&mut page, &format!("  {} are not asked again: {why}", whole(*count)));
        }
        if journal.unreadable > 0 {
            line(&mut page, &format!("  {} lines cannot be read", whole(journal.unreadable)));
        }
        self.lanes(&mut page);
        self.results(&mut page);
        self.changed(&mut page, most);
        page
    }

    fn lanes(&self, page: &mut String) {
        let _ = write!(page, "\n{:<12}{:>12}{:>12}\n", "", "then", "now");
        let named: BTreeSet<&str> =
            self.recorded.keys().chain(self.replayed.keys()).map(String::as_str).collect();
        let others = named.iter().copied().filter(|lane| !LANES.contains(lane));
        for lane in LANES.into_iter().filter(|lane| named.contains(lane)).chain(others) {
            let count = |lanes: &Lanes| whole(lanes.get(lane).copied().unwrap_or_default());
            let _ = writeln!(page, "{lane:<12}{:>12}{:>12}", count(&self.recorded), count(&self.replayed));
        }
        page.push('\n');
    }

    fn results(&self, page: &mut String) {
        let decisions = &self.decisions;
        if decisions.same + decisions.changed > 0 {
            let told = format!("{} the same, {} others", whole(decisions.same), whole(decisions.changed));
            row(page, "decisions", &told);
        }
        let saved = &self.saved;
        let mut text = format!("{} calls upstream ({})", whole(saved.calls), percent(saved.share));
        let _ = write!(
            text,
            ", {} tokens read and {} written",
            whole(saved.input_tokens),
            whole(saved.output_tokens)
        );
        row(page, "saved", &text);
        if saved.cost_without > 0.0 {
            let unpriced = match saved.unpriced {
                0 => String::new(),
                some => format!("; of {} calls the price is not known", whole(some)),
            };
            row(page, "", &format!("${:.4} of ${:.4}{unpriced}", saved.cost, saved.cost_without));
        }
        row(page, "", &format!("{} of waiting for upstreams", time(saved.seconds)));
        let wrong = &self.wrong;
        row(
            page,
            "wrong",
            &format!(
                "of {} answers in other words {} can be compared with one of their own: {} say something else{}",
                whole(wrong.served),
                whole(wrong.compared),
                whole(wrong.different),
                if wrong.compared > 0 { format!(" ({})", range(wrong.share)) } else { String::new() }
            ),
        );
        let Interval { mean, least, most } = wrong.believed;
        row(page, "", &format!("the bound believes {mean:.1} to be wrong ({least:.1} to {most:.1})"));
        let unknown = &self.unknown;
        if unknown.answers > 0 {
            row(
                page,
                "not known",
                &format!(
                    "of {} requests that would be asked upstream the journal holds no answer; {} hits repeat one of \
                     these",
                    whole(unknown.answers),
                    whole(unknown.hits)
                ),
            );
        }
        if unknown.older > 0 {
            row(page, "", &format!("{} of them repeat what is older than the journal", whole(unknown.older)));
        }
    }

    fn changed(&self, page: &mut String, most: usize) {
        if self.changes.is_empty() || most == 0 {
            return;
        }
        page.push_str("\nwhat changes\n");
        for (kind, count) in &self.decisions.moves {
            let _ = writeln!(page, "{:>10}  {kind}", whole(*count));
        }
        for change in self.changes.iter().take(most) {
            let _ = write!(page, "\n  {} ({})\n", change.asked, change.project);
            let _ = writeln!(page, "  - {}{}", change.was, said(change.then.as_deref()));
            let similarity =
                change.similarity.map(|cosine| format!(", cosine {cosine:.3}")).unwrap_or_default();
            let answers = change.answers.as_ref().map(|answers| format!(", {answers}")).unwrap_or_default();
            let _ =
                writeln!(page, "  + {}{similarity}{answers}{}", change.now, said(change.instead.as_deref()));
        }
    }
}

fn said(text: Option<&str>) -> String {
    text.map(|text| format!(": {text}")).unwrap_or_default()
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

fn row(page: &mut String, name: &str, text: &str) {
    let _ = writeln!(page, "{name:<12}{text}");
}

/// `1234567` is `1,234,567`.
pub(in crate::lab) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(in crate::lab) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn range(interval: Interval) -> String {
    format!("{:.1} to {:.1} %", 100.0 * interval.least, 100.0 * interval.most)
}

pub(in crate::lab) fn time(seconds: f64) -> String {
    match seconds {
        _ if seconds < 90.0 => format!("{seconds:.1} seconds"),
        _ if seconds < 5_400.0 => format!("{:.1} minutes", seconds / 60.0),
        _ => format!("{:.1} hours", seconds / 3_600.0),
    }
}

/// Several settings, beside one another.
pub fn sweep(key: &str, runs: &[(String, Report)]) -> String {
    let width = runs.iter().map(|(value, _)| value.len()).chain([key.len()]).max().unwrap_or_default() + 2;
    let mut page = format!(
        "{key:<width$}{:>10}{:>10}{:>10}{:>9}{:>12}{:>26}{:>26}\n",
        "exact", "semantic", "saved", "share", "cost", "differ (95 %)", "believed wrong"
    );
    for (value, report) in runs {
        let count = |lane: &str| whole(report.replayed.get(lane).copied().unwrap_or_default());
        let wrong = &report.wrong;
        let differ = match wrong.compared {
            0 => "-".to_owned(),
            all => format!("{}/{all} ({})", wrong.different, range(wrong.share)),
        };
        let Interval { mean, least, most } = wrong.believed;
        let believed = format!("{mean:.1} ({least:.1} to {most:.1})");
        let _ = writeln!(
            page,
            "{value:<width$}{:>10}{:>10}{:>10}{:>9}{:>12}{differ:>26}{believed:>26}",
            count("exact"),
            count("semantic"),
            whole(report.saved.calls),
            percent(report.saved.share),
            format!("${:.4}", report.saved.cost),
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_can_be_read() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(whole(number), text);
        }
        assert_eq!(time(60.0), "60.0 seconds");
        assert_eq!(time(600.0), "10.0 minutes");
    }
}
