//! What a journal says about the settings: which would save more, which are too bold, and how sure that is. What the
//! counters of a sidecar say without one is in [`running`](Running).

mod running;

pub use running::{Ground, Running, advise as advise_running};

use super::replay::{Aging, Interval, Lanes, Report, percent, whole};
use serde::Serialize;

/// What is known of fewer is not worth a word.
const ENOUGH: u64 = 30;
/// What saves less of all requests is not worth a word.
const WORTH_SAYING: f64 = 0.005;

/// A piece of advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What to do.
    pub what: String,
    /// What to write into the configuration, where it is a setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// Why.
    pub evidence: String,
}

/// What was replayed to find out.
pub struct Findings<'f> {
    /// As configured.
    pub now: &'f Report,
    /// Without answers in other words.
    pub exact_only: &'f Report,
    /// Under other bounds, from the strictest to the boldest.
    pub bounds: &'f [(f64, Report)],
    /// With answers that never grow old.
    pub ageless: &'f Report,
    /// Rules that were mined: how many, and which share of what reaches a model they would catch.
    pub rules: (usize, f64),
}

/// What to do, the most worth first.
pub fn advise(findings: &Findings<'_>) -> Vec<Advice> {
    let mut advice = Vec::new();
    advice.push(semantic(findings));
    advice.extend(bound(findings));
    advice.extend(projects(findings.now));
    advice.extend(age(findings.ageless));
    advice.extend(rules(findings.rules));
    advice.extend(misses(&findings.now.misses, findings.now.journal.replayed));
    advice
}

/// Whether answers in other words are worth having.
fn semantic(Findings { now, exact_only, .. }: &Findings<'_>) -> Advice {
    let gain = now.saved.share - exact_only.saved.share;
    let wrong = &now.wrong;
    let believed = format!(
        "{} more of all requests are answered than with the very same questions alone; {} of {} that can be compared \
         differ, and the bound believes {:.1} of {} to be wrong ({:.1} to {:.1})",
        percent(gain.max(0.0)),
        whole(wrong.different),
        whole(wrong.compared),
        wrong.believed.mean,
        whole(wrong.served),
        wrong.believed.least,
        wrong.believed.most,
    );
    if gain < WORTH_SAYING {
        return Advice {
            what: "Answers in other words bring next to nothing here; without them nothing can be wrong"
                .to_owned(),
            setting: Some("[cache]\nsemantic = \"off\"".to_owned()),
            evidence: believed,
        };
    }
    let bold = wrong.believed.least > wrong.max_wrong * now.journal.replayed as f64;
    Advice {
        what: if bold {
            "More is wrong than you allow: have more hits checked, or keep answers in other words in the shadow".to_owned()
        } else {
            "Answers in other words are worth having, within your bound".to_owned()
        },
        setting: bold.then(|| "[cache]\nsemantic = \"shadow\"".to_owned()),
        evidence: believed,
    }
}

/// Whether another bound would be worth it.
fn bound(Findings { now, bounds, .. }: &Findings<'_>) -> Option<Advice> {
    let all = now.journal.replayed.max(1) as f64;
    let wrong = |report: &Report| report.wrong.believed.mean / all;
    let bolder = bounds.iter().filter(|(bound, _)| *bound > now.wrong.max_wrong);
    // The first that is worth a word: each step more costs more.
    let (bound, report) = bolder
        .clone()
        .find(|(_, report)| report.saved.share - now.saved.share >= WORTH_SAYING)
        .or_else(|| bolder.clone().next_back())?;
    let gain = report.saved.share - now.saved.share;
    let evidence = format!(
        "at {} the bound believes {} of all requests to be answered wrongly, now {}",
        percent(*bound),
        percent2(wrong(report)),
        percent2(wrong(now)),
    );
    Some(if gain >= WORTH_SAYING {
        Advice {
            what: format!(
                "If you can live with {} wrong answers, {} more are answered",
                percent(*bound),
                percent(gain)
            ),
            setting: Some(format!("[cache]\nmax_wrong = {bound}")),
            evidence,
        }
    } else {
        Advice { what: "A bolder bound would bring next to nothing".to_owned(), setting: None, evidence }
    })
}

/// Where answers in other words are wrong too often.
fn projects(now: &Report) -> Vec<Advice> {
    let bad = now.by_project.iter().filter(|(_, tally)| {
        let share = Interval::share(tally.different, tally.compared);
        tally.compared >= ENOUGH && share.least > 0.1
    });
    bad.map(|(project, tally)| {
        let share = Interval::share(tally.different, tally.compared);
        Advice {
            what: format!("Project \"{project}\" should not be answered in other words"),
            setting: Some(exact_only(project)),
            evidence: format!(
                "{} of {} answers that can be compared differ ({:.1} to {:.1} %)",
                whole(tally.different),
                whole(tally.compared),
                100.0 * share.least,
                100.0 * share.most
            ),
        }
    })
    .collect()
}

/// The setting that has a project answered in its very words only.
fn exact_only(project: &str) -> String {
    let name = project.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let quoted = serde_json::Value::from(project);
    format!("[[cache_rule]]\nname = \"{name}-exact\"\nprojects = [{quoted}]\nsemantic = false")
}

/// For how long answers hold.
fn age(ageless: &Report) -> Option<Advice> {
    let share = |Aging { same, different, .. }: &Aging| Interval::share(*different, same + different);
    let known: Vec<&Aging> =
        ageless.aging.iter().filter(|aging| aging.same + aging.different >= ENOUGH).collect();
    let youngest = known.first()?;
    let told = |aging: &Aging| {
        format!(
            "after up to {}: {} of {} fresh answers differ from the old one",
            span(aging.up_to_seconds),
            whole(aging.different),
            whole(aging.same + aging.different)
        )
    };
    let evidence = known.iter().map(|aging| told(aging)).collect::<Vec<_>>().join("; ");
    // What differs after a moment differs by chance, and not by age.
    let chance = share(youngest).most;
    let holds = known.iter().take_while(|aging| share(aging).least <= chance).last()?;
    let ages = holds.up_to_seconds < known.last()?.up_to_seconds;
    Some(Advice {
        what: if ages {
            format!("Answers change after about {}; let them live no longer", span(holds.up_to_seconds))
        } else {
            format!("Answers are as good after {} as after a moment", span(holds.up_to_seconds))
        },
        setting: ages.then(|| format!("[cache]\nttl_seconds = {}", holds.up_to_seconds)),
        evidence,
    })
}

fn rules((count, share): (usize, f64)) -> Option<Advice> {
    (count > 0 && share >= WORTH_SAYING).then(|| Advice {
        what: format!(
            "{count} rules would answer what a model is asked now; `weir rules mine --journal` writes them"
        ),
        setting: None,
        evidence: format!("they catch {} of the questions that were held back to try them", percent(share)),
    })
}

/// What keeps requests away from memory, where a setting could change it.
fn misses(misses: &Lanes, requests: u64) -> Vec<Advice> {
    const HINTS: [(&str, &str, &str); 5] = [
        ("tools", "offer tools, and are not looked up for that", "[cache]\ntools = \"on\""),
        ("temperature", "are drawn too freely to be looked up", "[cache]\nmax_temperature = 1.0"),
        ("volatile", "ask for what changes soon", "[cache]\nvolatile_ttl_seconds = 300"),
        ("no_question", "end with something else than a question in words", "[cache]\ncontext = \"last\""),
        ("expired", "were known, and too old", "[cache]\nstale_while_revalidate_seconds = 3600"),
    ];
    let all = requests.max(1) as f64;
    let told = |(name, why, setting): &(&str, &str, &str)| {
        let share = *misses.get(*name)? as f64 / all;
        (share >= 0.05).then(|| Advice {
            what: format!("{} of requests {why}; look whether that must be (docs/cache.md)", percent(share)),
            setting: Some((*setting).to_owned()),
            evidence: format!("{} requests missed as `{name}`", whole(misses[*name])),
        })
    };
    HINTS.iter().filter_map(told).collect()
}

fn percent2(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn span(seconds: u64) -> String {
    match seconds {
        0..3_600 => format!("{} minutes", seconds / 60),
        3_600..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay::ProjectTally;
    use super::*;

    fn report(share: f64, believed: f64) -> Report {
        let mut report = Report::default();
        report.journal.replayed = 1_000;
        report.saved.share = share;
        report.wrong.max_wrong = 0.01;
        report.wrong.believed = Interval { mean: believed, least: believed / 2.0, most: believed * 2.0 };
        report
    }

    fn told(now: &Report, exact_only: &Report, bounds: &[(f64, Report)], ageless: &Report) -> Vec<Advice> {
        advise(&Findings { now, exact_only, bounds, ageless, rules: (3, 0.2) })
    }

    #[test]
    fn what_brings_nothing_is_switched_off_and_what_does_stays() {
        let (none, some) = (report(0.3, 0.0), report(0.5, 4.0));
        let advice = told(&none, &none, &[], &none);
        assert_eq!(advice[0].setting.as_deref(), Some("[cache]\nsemantic = \"off\""));
        let advice = told(&some, &none, &[(0.02, report(0.56, 9.0))], &none);
        assert_eq!(advice[0].setting, None);
        assert_eq!(advice[1].setting.as_deref(), Some("[cache]\nmax_wrong = 0.02"));
        assert!(advice.iter().any(|advice| advice.what.starts_with("3 rules")));
        let advice = told(&report(0.5, 40.0), &none, &[], &none);
        assert_eq!(advice[0].setting.as_deref(), Some("[cache]\nsemantic = \"shadow\""));
    }

    #[test]
    fn a_project_that_is_often_wrong_is_named_and_one_of_which_little_is_known_is_not() {
        let mut now = report(0.5, 1.0);
        now.by_project
            .insert("bad".into(), ProjectTally { compared: 100, different: 40, ..ProjectTally::default() });
        now.by_project
            .insert("few".into(), ProjectTally { compared: 5, different: 5, ..ProjectTally::default() });
        let advice = projects(&now);
        assert_eq!(advice.len(), 1);
        assert!(advice[0].setting.as_ref().is_some_and(|setting| setting.contains("projects = [\"bad\"]")));
    }

    #[test]
    fn answers_that_change_with_age_live_no_longer() {
        let aging = |up_to_seconds, same, different| Aging { up_to_seconds, same, different };
        let mut aged = report(0.5, 1.0);
        aged.aging = vec![aging(3_600, 99, 1), aging(86_400, 98, 2), aging(604_800, 40, 60)];
        let advice = age(&aged).unwrap();
        assert_eq!(advice.setting.as_deref(), Some("[cache]\nttl_seconds = 86400"));
        aged.aging.pop();
        assert_eq!(age(&aged).unwrap().setting, None);
        aged.aging.clear();
        assert_eq!(age(&aged), None);
    }
}
