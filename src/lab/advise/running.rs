//! What the counters of a running sidecar say, where there is no journal to try other settings on: less, and what it is.

use super::super::replay::{Interval, percent, whole};
use super::{Advice, ENOUGH, WORTH_SAYING, misses, rules};
use std::collections::BTreeMap;

/// A share of requests that is worth a word, where it is not known how many of them a setting would change.
const MANY: f64 = 0.05;

/// What a running sidecar tells of itself since it was started.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// Answers from memory, by the very same question.
    pub exact: u64,
    /// Answers from memory, in other words.
    pub semantic: u64,
    /// Answers by rule.
    pub rule: u64,
    /// Requests that memory had no answer for, by why.
    pub misses: BTreeMap<String, u64>,
    /// `on`, `shadow` or `off`.
    pub mode: String,
    /// The share of requests that may be answered wrongly.
    pub max_wrong: f64,
    /// How many answers in other words are wrong, by what the bound believes.
    pub wrong: Interval,
    /// How many requests that is out of.
    pub out_of: f64,
    /// Repeated answers that were held to a fresh one: those that say the same, and those that do not.
    pub repeats: (u64, u64),
    /// What is known of each project.
    pub projects: Vec<Ground>,
    /// Rules that were mined: how many, and which share of the questions that are kept they would catch.
    pub rules: (usize, f64),
}

/// What is known of a project.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// Its name.
    pub name: String,
    /// Answers that were served in other words.
    pub served: f64,
    /// How many of them are wrong.
    pub wrong: Interval,
    /// How many may be.
    pub allowed: f64,
}

impl Running {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.exact + self.semantic + self.rule + self.misses.values().sum::<u64>()
    }

    fn share(&self, some: u64) -> f64 {
        some as f64 / self.requests().max(1) as f64
    }

    fn missed(&self, why: &str) -> u64 {
        self.misses.get(why).copied().unwrap_or(0)
    }
}

/// What to do, the most worth first; `None` where too little is known to say anything.
pub fn advise(running: &Running) -> Option<Vec<Advice>> {
    if running.requests() < ENOUGH {
        return None;
    }
    let mut advice = vec![semantic(running)];
    advice.extend(bound(running));
    advice.extend(projects(running));
    advice.extend(age(running));
    advice.extend(rules(running.rules));
    advice.extend(misses(&running.misses, running.requests()));
    Some(advice)
}

/// Whether answers in other words are worth having.
fn semantic(running: &Running) -> Advice {
    let Running { semantic, wrong, out_of, max_wrong, .. } = running;
    let gain = running.share(*semantic);
    let evidence = format!(
        "{} of {} requests were answered in other words, and {} in the very same; the bound believes {:.1} to be wrong \
         ({:.1} to {:.1})",
        whole(*semantic),
        whole(running.requests()),
        whole(running.exact),
        wrong.mean,
        wrong.least,
        wrong.most,
    );
    let (what, setting) = match running.mode.as_str() {
        "on" if wrong.least > max_wrong * out_of => (
            "More is wrong than you allow: have more hits checked, or keep answers in other words in the shadow",
            Some("[cache]\nsemantic = \"shadow\""),
        ),
        "on" if gain < WORTH_SAYING => (
            "Answers in other words bring next to nothing here; without them nothing can be wrong",
            Some("[cache]\nsemantic = \"off\""),
        ),
        "on" => ("Answers in other words are worth having, within your bound", None),
        _ => (
            "Questions in other words are not answered from memory; in the shadow it is learned what that would bring",
            (running.mode == "off").then_some("[cache]\nsemantic = \"shadow\""),
        ),
    };
    Advice { what: what.to_owned(), setting: setting.map(str::to_owned), evidence }
}

/// Whether another bound may be worth it: how much it would bring, only a replay can tell.
fn bound(running: &Running) -> Option<Advice> {
    let Running { max_wrong, wrong, out_of, .. } = running;
    let unsure = running.missed("unsure");
    let spent = wrong.mean / out_of.max(1.0);
    (running.mode == "on" && running.share(unsure) >= MANY).then(|| Advice {
        what: format!(
            "{} of requests had an answer that was not sure enough; a bolder bound would give some of them, and a \
             journal would tell how many",
            percent(running.share(unsure)),
        ),
        setting: Some("[journal]\nenabled = true".to_owned()),
        evidence: format!(
            "{} requests missed as `unsure`; {} may be wrong, and {} is believed to be",
            whole(unsure),
            percent(*max_wrong),
            percent(spent)
        ),
    })
}

/// Where answers in other words are wrong too often.
fn projects(running: &Running) -> Vec<Advice> {
    let bad = running.projects.iter().filter(|ground| {
        let Ground { served, wrong, allowed, .. } = ground;
        *served >= ENOUGH as f64 && wrong.least > *allowed
    });
    bad.map(|Ground { name, served, wrong, allowed }| Advice {
        what: format!("Project \"{name}\" should not be answered in other words"),
        setting: Some(super::exact_only(name)),
        evidence: format!(
            "of {served:.0} answers {:.1} are believed to be wrong ({:.1} to {:.1}), where {allowed:.1} may be",
            wrong.mean, wrong.least, wrong.most
        ),
    })
    .collect()
}

/// Whether answers hold for as long as they are kept.
fn age(running: &Running) -> Option<Advice> {
    let (same, different) = running.repeats;
    let share = Interval::share(different, same + different);
    (same + different >= ENOUGH).then(|| Advice {
        what: if share.least > 0.1 {
            "Fresh answers often differ from those that are kept: let them live shorter, and look at what is asked \
             (a journal tells from which age on)"
                .to_owned()
        } else {
            "Answers hold for as long as they are kept".to_owned()
        },
        setting: None,
        evidence: format!(
            "{} of {} repeated answers differ from a fresh one ({:.1} to {:.1} %)",
            whole(different),
            whole(same + different),
            100.0 * share.least,
            100.0 * share.most
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Running {
        Running {
            exact: 300,
            semantic: 100,
            misses: [("absent".to_owned(), 500), ("unsure".to_owned(), 100)].into(),
            mode: "on".to_owned(),
            max_wrong: 0.01,
            wrong: Interval { mean: 1.0, least: 0.1, most: 3.0 },
            out_of: 700.0,
            ..Running::default()
        }
    }

    fn told(running: &Running) -> Vec<String> {
        advise(running).unwrap().into_iter().map(|advice| advice.what).collect()
    }

    #[test]
    fn of_too_little_nothing_is_said() {
        let running = Running { exact: 29, ..Running::default() };
        assert_eq!((running.requests(), advise(&running)), (29, None));
    }

    #[test]
    fn it_says_what_the_counters_speak_for() {
        let told_of = |running: &Running| advise(running).unwrap();
        let advice = told_of(&running());
        assert!(advice[0].what.starts_with("Answers in other words are worth having"), "{advice:?}");
        assert!(advice[1].what.starts_with("10.0 % of requests had an answer"), "{advice:?}");
        assert_eq!(advice.len(), 2, "{advice:?}");
        let wrong = Interval { mean: 60.0, least: 40.0, most: 90.0 };
        let advice = told_of(&Running { wrong, ..running() });
        assert_eq!(advice[0].setting.as_deref(), Some("[cache]\nsemantic = \"shadow\""));
        let advice = told_of(&Running { semantic: 0, ..running() });
        assert_eq!(advice[0].setting.as_deref(), Some("[cache]\nsemantic = \"off\""));
        let off = Running { mode: "off".to_owned(), ..running() };
        assert_eq!(told_of(&off)[0].setting.as_deref(), Some("[cache]\nsemantic = \"shadow\""));
    }

    #[test]
    fn a_project_answers_repeats_rules_and_misses_are_spoken_of() {
        let ground = |name: &str, served, least| Ground {
            name: name.to_owned(),
            served,
            wrong: Interval { mean: least * 2.0, least, most: least * 3.0 },
            allowed: 5.0,
        };
        let running = Running {
            projects: vec![ground("bad", 100.0, 20.0), ground("few", 10.0, 8.0), ground("good", 500.0, 1.0)],
            repeats: (50, 50),
            rules: (3, 0.2),
            misses: [("tools".to_owned(), 600)].into(),
            ..running()
        };
        let told = told(&running);
        assert_eq!(told.iter().filter(|what| what.starts_with("Project")).count(), 1, "{told:?}");
        for beginning in
            ["Project \"bad\"", "Fresh answers often differ", "3 rules", "60.0 % of requests offer tools"]
        {
            assert!(told.iter().any(|what| what.starts_with(beginning)), "{beginning}: {told:?}");
        }
    }
}
