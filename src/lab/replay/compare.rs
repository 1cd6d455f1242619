//! What is decided now, beside what was decided then; and answers beside answers.

use super::again::{NOT_RECORDED, lane_then};
use super::recorded::{self, is_known};
use super::run::Replay;
use super::tally::{Change, count};
use crate::cache::bound::{Equivalence, Reading, by_cosine, compare};
use crate::chat::{Choice, Finish, Reply};
use crate::journal::Row;
use crate::pipeline::Source;

/// How much of a text is shown.
const SHOWN: usize = 160;

impl Replay<'_> {
    /// Compares with what was decided then, and where both answers are known, with what was answered.
    pub(super) async fn compare(
        &mut self,
        row: &Row,
        lane: &str,
        asked: &str,
        source: &Source,
        served: Option<Reply>,
        known: &recorded::Answer,
    ) {
        count(&mut self.report.replayed, lane);
        if let Some(cosine) = self.pipeline.nearest(&row.tenant.as_str().into(), &row.id) {
            self.report.near(cosine, lane == "semantic");
        }
        let mut said = None;
        self.project(row).requests += 1;
        if let (Source::Exact { age, .. }, Some(served), recorded::Answer::Given { reply, meant: true, .. }) =
            (source, &served, known)
            && let Some(said @ (Equivalence::Same | Equivalence::Different)) =
                self.equivalence(reply, served).await
        {
            self.report.aged(age.as_secs(), said == Equivalence::Same);
        }
        if let Source::Semantic { .. } = source {
            self.report.wrong.served += 1;
            self.project(row).semantic += 1;
            if let (Some(served), recorded::Answer::Given { reply, meant: true, .. }) = (&served, known) {
                said = self.equivalence(reply, served).await;
                let wrong = &mut self.report.wrong;
                match said {
                    Some(Equivalence::Unclear) => wrong.unclear += 1,
                    Some(said) => {
                        wrong.compared += 1;
                        wrong.different += u64::from(said == Equivalence::Different);
                        let project = self.project(row);
                        project.compared += 1;
                        project.different += u64::from(said == Equivalence::Different);
                    }
                    None => {}
                }
            }
        }
        self.decided(row, lane, asked, Some(source), (served, said));
    }

    pub(super) fn decided(
        &mut self,
        row: &Row,
        lane: &str,
        asked: &str,
        source: Option<&Source>,
        (served, said): (Option<Reply>, Option<Equivalence>),
    ) {
        let was = lane_then(row);
        // What was decided then is not known, so it is neither the same now nor another one.
        if was == NOT_RECORDED {
            return;
        }
        let rule = match source {
            Some(Source::Rule { rule }) => Some(rule),
            _ => None,
        };
        if was == lane && (rule.is_none() || rule == row.rule.as_ref()) {
            self.report.decisions.same += 1;
            return;
        }
        let why = source.and_then(Source::miss).map(|miss| format!(" ({})", miss.name()));
        let now = format!("{lane}{}", rule.map(|rule| format!(" {rule}")).or(why).unwrap_or_default());
        let similarity = match source {
            Some(Source::Semantic { similarity, .. }) => Some(*similarity),
            _ => None,
        };
        let words = |reply: &Reply| reply.choices.first().map(Choice::said).map(|said| short(&said));
        self.report.change(Change {
            id: row.id.clone(),
            project: row.project.clone(),
            asked: short(asked),
            was: row.rule.as_ref().map_or_else(|| was.to_owned(), |rule| format!("{was} {rule}")),
            now,
            similarity,
            answers: said.map(|said| {
                let said = match said {
                    Equivalence::Same => "same",
                    Equivalence::Different => "different",
                    Equivalence::Unclear => "unclear",
                };
                said.to_owned()
            }),
            then: row.reply.as_ref().and_then(words),
            instead: served.as_ref().filter(|reply| is_known(reply)).and_then(words),
        });
    }

    /// Whether two answers say the same; `None` where one of them is not known.
    async fn equivalence(&self, fresh: &Reply, served: &Reply) -> Option<Equivalence> {
        let (fresh, served) = (plain(fresh)?, plain(served).filter(|_| is_known(served))?);
        let (one, other, may_be_same) = match compare(&fresh, &served) {
            Reading::Clear(said) => return Some(said),
            Reading::Open { one, other, may_be_same } => (one, other, may_be_same),
        };
        let embedder = self.embedder.as_ref()?;
        let vectors = (embedder.embed(one).await, embedder.embed(other).await);
        match vectors {
            (Ok(one), Ok(other)) if !one.partial && !other.partial => {
                Some(by_cosine(one.vector.cosine(&other.vector), may_be_same))
            }
            _ => Some(Equivalence::Unclear),
        }
    }
}

/// What a reply says, where it is one complete answer in plain words.
fn plain(reply: &Reply) -> Option<String> {
    let [choice] = reply.choices.as_slice() else { return None };
    let complete = matches!(choice.finish, Some(Finish::Stop | Finish::StopSequence(_)));
    (complete && choice.tool_calls().next().is_none()).then(|| choice.said())
}

/// The beginning of a text, in one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
